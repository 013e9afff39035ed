"""Copies of the record elsewhere: backups, restoring them, exports, and their destinations."""

__all__ = ["backup", "destinations", "export", "pages", "publication", "restore"]
