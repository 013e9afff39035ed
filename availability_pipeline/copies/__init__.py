"""Copies of the record elsewhere: backups, exports, the published site, and copies of one."""

__all__ = [
    "backup",
    "destinations",
    "documents",
    "export",
    "follow",
    "pages",
    "publication",
    "publish",
    "restore",
    "standing",
]
