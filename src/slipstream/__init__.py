"""slipstream: a physical problem becomes a small, fast, verified neural solver."""

__version__ = "0.1.0"
