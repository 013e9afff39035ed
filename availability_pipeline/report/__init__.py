"""The record as pictures: one page for a browser, and PNG files.

`data` reads the record once; `html` and `png` draw from that and know no database.
"""

__all__ = ["data", "draw", "html", "png", "style"]
