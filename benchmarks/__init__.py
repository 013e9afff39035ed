"""Measurements against a full-size local archive; see README.md for commands and numbers."""
