"""The record as pictures: pages for a browser, and PNG files.

What belongs here: how the record looks. `data` reads a dataset, `volumes` what was traded,
`overview` a line of each; `html` and `png` draw from that and open no database. `show` draws one
picture in a notebook's cell.
"""

from availability_pipeline.report.notebook import show

__all__ = ["data", "draw", "html", "overview", "png", "show", "style", "volumes"]
