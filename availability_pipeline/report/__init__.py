"""The record as pictures: one page for a browser, and PNG files.

What belongs here: how the record looks. `data` reads it once; `html` and `png` draw from that and
open no database.
"""

__all__ = ["data", "draw", "html", "png", "style"]
