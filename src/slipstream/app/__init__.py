"""Command line and recipes. Imported by nobody else, and imports nothing heavy until a command runs."""
