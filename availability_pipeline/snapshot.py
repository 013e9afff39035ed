"""A copy of the record at one moment, taken while the pipeline runs.

Belongs here: copying the file so that the copy is whole, and what is asked of a copy before it is
trusted. Does not belong here: where copies are kept (`backup`) or what is made of them (`export`).

The file is copied as it is, with its write-ahead log, under the read lock, and the log is folded
into the copy afterwards. On 2.6 million rows that holds a writer up for 0.05 s; DuckDB's own
`COPY FROM DATABASE` makes a file 3 % smaller and holds it up for 0.6 s.
"""

import datetime as dt
import hashlib
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import duckdb

from availability_pipeline import connections
from availability_pipeline.schema import get_meta
from availability_pipeline.store_errors import DamagedDatabaseError

LOG_SUFFIXES = (".wal", ".wal.checkpoint", ".wal.recovery")
"""Files DuckDB 2 may leave beside a database whose writer was killed; they belong to it."""


@dataclass(frozen=True)
class Contents:
    """What a database of ours holds: rows of each table, first and last date, last look."""

    schema_version: int
    tables: dict[str, int]
    first_date: dt.date | None
    last_date: dt.date | None
    last_probe: dt.datetime | None


def with_suffix(path: Path, suffix: str) -> Path:
    """The path with something put after its whole name."""
    return path.with_name(path.name + suffix)


def take(source: Path, target: Path, wait_seconds: float) -> None:
    """Copy the record to `target` as one file, flushed to the disk.

    Not while another thread of this process has the record open: its lock would go with ours.

    Raises:
        StoreError: `source` cannot be read; see `store_errors`.
        OSError: `target` cannot be written.
        duckdb.Error: the log cannot be folded into the copy, for want of room perhaps.
    """
    # All files are opened before one is closed: closing a file drops every lock this process has
    # on it, DuckDB's own too, and a writer could come in between.
    with connections.reader(source, wait_seconds, older_too=True), ExitStack() as opened:
        found = [
            (with_suffix(source, suffix).open("rb"), with_suffix(target, suffix))
            for suffix in ("", *LOG_SUFFIXES)
            if with_suffix(source, suffix).exists()
        ]
        for file, _ in found:
            opened.enter_context(file)
        for file, copy in found:
            with copy.open("wb") as out:
                shutil.copyfileobj(file, out, 1 << 20)
    with duckdb.connect(str(target)) as con:
        con.execute("CHECKPOINT")
    sync(target)


def examine(path: Path) -> Contents:
    """Read a database whole, so that a damaged block is met, and prove its rows unique.

    Raises:
        StoreError: it is damaged, foreign, newer than this package, or has a row twice.
    """
    with connections.reader(path, 0, older_too=True) as con:
        try:
            return _contents(con, path)
        except duckdb.CatalogException as error:
            reason = str(error).splitlines()[0]
            raise DamagedDatabaseError(f"{path} is not whole ({reason})") from None


def _contents(con: duckdb.DuckDBPyConnection, path: Path) -> Contents:
    names = con.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() "
        "AND NOT temporary ORDER BY table_name"
    ).fetchall()
    tables: dict[str, int] = {}
    for (name,) in names:
        quoted = '"' + name.replace('"', '""') + '"'
        # The hash of whole rows reads each column; a count alone would read none of them.
        [(rows, _)] = con.execute(
            f"SELECT count(*), bit_xor(hash(t)) FROM {quoted} t"  # noqa: S608 - from the catalog
        ).fetchall()
        tables[name] = rows
    [(pairs, view)] = con.execute(
        """SELECT (SELECT count(DISTINCT (date, symbol)) FROM daily_availability),
            (SELECT count(status) FROM availability)"""
    ).fetchall()
    if not tables["daily_availability"] == pairs == view:
        raise DamagedDatabaseError(
            f"{path} has {tables['daily_availability']} rows for {pairs} pairs of date and symbol; "
            "restore an earlier backup, or backfill into a new file"
        )
    [(first, last, probe)] = con.execute(
        "SELECT min(date), max(date), max(probed_at) FROM probes"
    ).fetchall()
    version = int(get_meta(con, "schema_version") or 0)
    return Contents(version, tables, first, last, probe and probe.astimezone(dt.UTC))


def sha256(path: Path) -> str:
    """Of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file, or a folder's names, to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
