"""Copies of the record elsewhere: backups, exports, the published site, and their destinations."""

__all__ = [
    "backup",
    "destinations",
    "documents",
    "export",
    "pages",
    "publication",
    "publish",
    "restore",
    "standing",
]
