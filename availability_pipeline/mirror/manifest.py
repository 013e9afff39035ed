"""What a mirror has: for each file what was verified of it, by what, and when.

A run writes small Parquet files into `.manifest/runs/`; of several rows of one file the latest
counts. So runs need nothing of each other, a worker on another machine can write its own, and
merging them changes no answer. A row that is not there costs a reading of the file and no more.
"""

import csv
import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import duckdb

from availability_pipeline.errors import MirrorError
from availability_pipeline.mirror.store import MANIFEST, Store, scratch

RUNS = f"{MANIFEST}/runs/"
SELECTIONS = f"{MANIFEST}/selections/"
DAMAGED = f"{MANIFEST}/damaged"
REPLACED = f"{MANIFEST}/replaced"

MOST_RUNS = 32
"""More files than this are merged into one: each costs a reader 1 ms, or in a bucket a request."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file as it was last seen.

    Attributes:
        key: the file.
        dataset, symbol, period: likewise.
        state: `whole`; `vanished`, the archive has it no more, the mirror keeps it.
        file_size_bytes: of its content.
        last_modified: when the archive published this version, aware UTC; None where unknown.
        etag: that the record had of it; None where it had none.
        md5, sha256: of its content, in hex.
        verified: by what, with commas between: `size`, `md5` (the archive's ETag), `sha256` (its
            CHECKSUM).
        verified_at: when, aware UTC.
        run_id: of the download.
    """

    key: str
    dataset: str
    symbol: str
    period: dt.date
    state: str
    file_size_bytes: int
    last_modified: dt.datetime | None
    etag: str | None
    md5: str | None
    sha256: str | None
    verified: str
    verified_at: dt.datetime
    run_id: str


COLUMNS = tuple(field.name for field in fields(Entry))
_TYPES = {
    "period": "DATE",
    "file_size_bytes": "BIGINT",
    "last_modified": "TIMESTAMPTZ",
    "verified_at": "TIMESTAMPTZ",
}
_DDL = ", ".join(f"{name} {_TYPES.get(name, 'VARCHAR')}" for name in COLUMNS)
_NAMES = ", ".join(COLUMNS)
_LATEST = f"""SELECT {_NAMES} FROM manifest_rows
    QUALIFY row_number() OVER (PARTITION BY key ORDER BY verified_at DESC, state DESC) = 1"""


CURRENT = """(h.state = 'whole' AND CASE WHEN p.etag IS NULL
    THEN (h.file_size_bytes, h.last_modified) = (p.file_size_bytes, p.last_modified)
    ELSE h.etag = p.etag END) IS TRUE"""
"""SQL: the row `h` of a manifest is of the version that the plan `p` has."""


class Manifest:
    """A mirror's manifest, read: `con` has a table `held`, one row a key.

    Attributes:
        con: DuckDB in memory, for joins with a plan.
        runs: the names of its files.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, runs: Sequence[str]) -> None:
        self.con, self.runs = con, tuple(runs)

    def months(self) -> list[tuple[str, str, dt.date]]:
        """What is held, by month: dataset, symbol, month; for `queries.plan`."""
        return self.con.execute(
            """SELECT DISTINCT dataset, symbol, date_trunc('month', period)::DATE AS month
            FROM held WHERE state = 'whole'"""
        ).fetchall()


@contextmanager
def opened(store: Store, of: str = "") -> Iterator[Manifest]:
    """The manifest of a mirror; of a new one it is empty.

    Args:
        store: the mirror.
        of: only the files whose names begin so, which are those of a run or of a part of it.

    Raises:
        MirrorError: a file of it is damaged.
    """
    with scratch() as folder, duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        # A million rows take 300 MB in memory, and are read once.
        con.execute("SET memory_limit = '128MB'")
        con.execute("SET temp_directory = $folder", {"folder": str(folder)})
        names, paths = _copied(store, folder, of)
        con.execute(f"CREATE TABLE held ({_DDL})")
        if paths:
            # A view cannot have parameters; the paths are bound by the table that is made of them.
            try:
                con.execute(
                    f"""INSERT INTO held WITH manifest_rows AS (
                        SELECT * FROM read_parquet($paths)) {_LATEST}""",
                    {"paths": [str(path) for path in paths]},
                )
            except duckdb.Error as error:
                reason = str(error).splitlines()[0][:200]
                raise MirrorError(
                    f"the manifest of {store} cannot be read ({reason}); remove that file from "
                    f"{MANIFEST}/runs, and the next download verifies what it was about"
                ) from None
        yield Manifest(con, names)


def _copied(store: Store, folder: Path, of: str) -> tuple[list[str], list[Path]]:
    """The manifest's files, here: one that was merged away in between is looked for again."""
    while True:
        names = sorted(
            name
            for name, _ in store.names(RUNS)
            if name.endswith(".parquet") and name.startswith(RUNS + of)
        )
        paths = [folder / name.rpartition("/")[2] for name in names]
        try:
            for name, path in zip(names, paths, strict=True):
                with path.open("wb") as file:
                    for chunk in store.chunks(name):
                        file.write(chunk)
        except FileNotFoundError:
            continue
        return names, paths


def add(store: Store, entries: Sequence[Entry], name: str, parts: Path) -> str:
    """Write entries as one file of the manifest.

    Args:
        store: whose.
        entries: what was verified.
        name: of the file, without its ending; of the run, and different for each call.
        parts: a folder for the file while it is made.
    """
    target = f"{RUNS}{name}.parquet"
    part = parts / f"{name}.parquet"
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"CREATE TABLE made ({_DDL})")
        load(con, "made", (_values(entry) for entry in entries), parts)
        _copy(con, "made", part)
    store.put(target, part)
    return target


# Not `astuple`, which copies each value.
_values = attrgetter(*COLUMNS)


def load(
    con: duckdb.DuckDBPyConnection, table: str, rows: Iterable[Sequence[object]], folder: Path
) -> None:
    """Put rows into a table, through a file: neither pandas is needed, nor a statement a row.

    Args:
        con: DuckDB in memory, its time zone UTC.
        table: one of ours.
        rows: texts, numbers, dates, aware times or None; no empty texts.
        folder: for the file, which is gone afterwards.
    """
    columns = [name for name, *_ in con.execute(f"DESCRIBE {table}").fetchall()]
    path = folder / f"{table}.csv"
    # A name on a disk may be no UTF-8.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    con.execute(
        f"""INSERT INTO {table} SELECT * FROM read_csv($path, auto_detect = false, header = false,
            delim = ',', quote = '"', escape = '"', nullstr = '', new_line = '\\n',
            parallel = false, columns = $columns)""",
        {"path": str(path), "columns": dict.fromkeys(columns, "VARCHAR")},
    )
    path.unlink()


def merge(store: Store, run_id: str, parts: Path) -> None:
    """Make this run's files one, or all of them once they are more than MOST_RUNS.

    The merged file is there before the others go: a reader sees each row once or twice.
    """
    with opened(store) as manifest:
        ours = [name for name in manifest.runs if name.startswith(f"{RUNS}{run_id}-")]
        every = len(manifest.runs) > MOST_RUNS
        chosen = list(manifest.runs) if every else ours
        if len(chosen) < 2:
            return
        # A part of a run has the run's id and a number.
        of = " WHERE run_id = $run OR starts_with(run_id, $run || '-')"
        condition = "" if every else of
        part = parts / "merged.parquet"
        manifest.con.execute(
            f"CREATE TABLE merged AS FROM held{condition} ORDER BY key",
            {} if every else {"run": run_id},
        )
        _copy(manifest.con, "merged", part)
        store.put(f"{RUNS}{run_id}-all.parquet", part)
        for name in chosen:
            if name != f"{RUNS}{run_id}-all.parquet":
                store.remove(name)


def _copy(con: duckdb.DuckDBPyConnection, table: str, path: Path) -> None:
    con.execute(f"COPY {table} TO $path (format parquet, compression zstd)", {"path": str(path)})


def remember(store: Store, selection: dict[str, Any], parts: Path) -> None:
    """Write down what was asked for, each once: `verify` compares the mirror with all of it."""
    text = json.dumps(selection, sort_keys=True)
    name = f"{SELECTIONS}{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if store.find(name) is None:
        part = parts / "selection"
        part.write_text(text, encoding="utf-8")
        store.put(name, part)


def selections(store: Store) -> list[dict[str, Any]]:
    """All that was asked for of a mirror.

    Raises:
        MirrorError: one of them cannot be read.
    """
    found = []
    for name, _ in sorted(store.names(SELECTIONS)):
        try:
            one = json.loads(store.read(name) or b"")
        except ValueError:
            one = None
        if not isinstance(one, dict):
            raise MirrorError(f"{store}/{name} is not a selection; remove it and download again")
        found.append(one)
    return found
