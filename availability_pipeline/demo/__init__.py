"""The whole pipeline on a sample archive served from this machine."""

__all__ = ["archive", "run"]
