"""Formats of other houses: one file each, read into named arrays; what these mean is settled in one place for all of them."""
