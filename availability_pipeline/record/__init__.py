"""The record: one DuckDB file, its tables, who may open it when, and every write to it.

Each write is one transaction in `write`, with what is derived from the files (`derived`) in it.
What a status and a hole are, and the tables of one dataset, is in `status`; questions are asked in
`queries`. `volumes` is a second file of the same kind, of what is traded.
"""

__all__ = [
    "apart",
    "connection",
    "derived",
    "followed",
    "outputs",
    "schema",
    "status",
    "volumes",
    "write",
]
