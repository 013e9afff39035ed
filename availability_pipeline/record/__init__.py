"""The record: one DuckDB file, its tables, who may open it when, and every write to it.

Each write is one transaction in `write`, with what is derived from the rows (`derived`) in it.
Questions about the rows are asked in `queries`.
"""

__all__ = ["apart", "connection", "derived", "outputs", "schema", "storage_format", "write"]
