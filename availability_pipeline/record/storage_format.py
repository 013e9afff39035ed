"""Make files in the format of DuckDB 1.2, so that DuckDB 1.2 and later open them.

It is another number than the schema version. DuckDB 2.0 writes a format of its own unless told
otherwise, and no 1.x opens that. A file keeps its version whoever writes to it later, so it is
decided when the file is made. It is not given to `duckdb.connect` for the record itself: DuckDB
refuses two connections of one process to a file with different settings, and other code's plain
`duckdb.connect` is to work beside ours.
"""

import os
from contextlib import suppress
from pathlib import Path

import duckdb

from availability_pipeline import files

STORAGE_VERSION = "v1.2.0"

_NEWEST = (1, 2)


def create(path: Path) -> None:
    """An empty database, unless something has that name by now; it appears whole.

    Raises:
        OSError, duckdb.Error: it cannot be written.
    """
    part = path.with_name(f".{path.name}.new-{os.getpid()}")
    with suppress(FileNotFoundError):
        part.unlink()  # of an earlier process with our number
    try:
        duckdb.connect(str(part), config={"storage_compatibility_version": STORAGE_VERSION}).close()
        files.private(part)
        try:
            os.link(part, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            if not path.exists():
                part.rename(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def is_newer(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the open database has a format that DuckDB 1.2 may not open."""
    [(tags,)] = con.execute(
        "SELECT tags FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchall()
    named = str(tags.get("storage_version", "")).removeprefix("v").rstrip("+").split(".")
    return len(named) >= 2 and tuple(int(part) for part in named[:2]) > _NEWEST


def write_anew(con: duckdb.DuckDBPyConnection, target: Path) -> None:
    """Copy the open database to a new file of our version, compared and flushed to the disk.

    Args:
        con: no one writes through it or beside it meanwhile.
        target: replaced where it is there.

    Raises:
        OSError, duckdb.Error: it cannot be written, or did not become the same.
    """
    with suppress(FileNotFoundError):
        target.unlink()
    [(source,)] = con.execute("SELECT current_database()").fetchall()
    con.execute(
        f"ATTACH {_text(target)} AS written_anew (READ_WRITE, STORAGE_VERSION '{STORAGE_VERSION}')"
    )
    try:
        con.execute(f"COPY FROM DATABASE {_name(source)} TO written_anew")
        con.execute("CHECKPOINT written_anew")
        if _contents(con, source) != _contents(con, "written_anew"):
            raise duckdb.IOException(f"{target} did not become what {source} is")
    finally:
        con.execute("DETACH written_anew")
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _contents(con: duckdb.DuckDBPyConnection, database: str) -> list[tuple[object, ...]]:
    """Views, and for each table its columns, rows and a hash over them."""
    tables = con.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY ALL",
        [database],
    ).fetchall()
    found: list[tuple[object, ...]] = con.execute(
        """SELECT schema_name, view_name FROM duckdb_views()
        WHERE database_name = ? AND NOT internal ORDER BY ALL""",
        [database],
    ).fetchall()
    for schema, table in tables:
        columns = con.execute(
            """SELECT column_name, data_type, is_nullable FROM duckdb_columns()
            WHERE database_name = ? AND schema_name = ? AND table_name = ? ORDER BY column_index""",
            [database, schema, table],
        ).fetchall()
        relation = ".".join(map(_name, (database, schema, table)))
        rows = con.execute(
            f"SELECT count(*), bit_xor(hash(t)), sum(hash(t)) FROM {relation} t"
        ).fetchall()
        found.append((schema, table, *columns, *rows))
    return found


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
