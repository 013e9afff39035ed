"""What the assets depend on at run time: archive, database, clock, settings, progress.

Belongs here: Dagster resources that hand out plain domain objects, so that a test puts an
ordinary class in their place. Does not belong here: asset logic. The environment is read when a
run begins, not at import, and a run's configuration sets nothing of them.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import duckdb

from availability_pipeline import settings, store
from availability_pipeline.archive import Progress
from availability_pipeline.listing import S3Archive


class AvailabilityDuckDB:
    """Connections to the record.

    Not dagster-duckdb's resource: its `database` can be set in a run's configuration, where
    `{env: AVAILABILITY_ALERT_URLS}` would put a secret into event log, run history and API, and a
    path would make a database anywhere. It also leaves the connection open when its body raises,
    and the process then keeps the file locked against all others. Ours waits for other processes,
    makes the schema, and closes in any case.

    Args:
        database: the file; AVAILABILITY_DB says where it is when left out.
    """

    def __init__(self, database: str = "") -> None:
        self._database = database

    def path(self) -> Path:
        """Where the file is."""
        return Path(self._database or settings.load().db).expanduser()

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-write connection to the record."""
        s = settings.load()
        with store.writer(self.path(), s.db_wait_seconds) as con:
            yield con

    @contextmanager
    def get_reader(self, *, older_too: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection to the record; waits for a writer, makes no file.

        `older_too`: also to one that the next writer migrates.
        """
        s = settings.load()
        path = self._database or s.db
        with store.reader(path, s.db_wait_seconds, older_too=older_too) as con:
            yield con


class Clock:
    """The time, as an argument."""

    def now(self) -> dt.datetime:
        """Now, aware, UTC."""
        return dt.datetime.now(dt.UTC)


class Reporter:
    """Where a listing's progress goes besides the run's log; the CLI brings its own."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress

    def report(self, done: int, total: int) -> None:
        """Symbols listed so far, of how many."""
        if self._progress:
            self._progress(done, total)


def _fixed(what: str, make: Callable[[], object]) -> dg.ResourceDefinition:
    """A resource without configuration: what a run is given there would be stored and shown."""
    return dg.ResourceDefinition(lambda _: make(), config_schema={}, description=what)


def resources() -> dict[str, dg.ResourceDefinition]:
    """The real ones, by key."""
    return {
        "archive": _fixed(
            "The archive behind an S3 client that never signs (AVAILABILITY_S3_...).",
            lambda: S3Archive.from_settings(settings.load()),
        ),
        "duckdb": _fixed("The record, one DuckDB file (AVAILABILITY_DB).", AvailabilityDuckDB),
        "clock": _fixed("The time, UTC.", Clock),
        "limits": _fixed("The settings (AVAILABILITY_...).", settings.load),
        "reporter": _fixed("Where a command shows a listing's progress.", Reporter),
        # Assets hand no values to each other. Dagster's default one writes below `base_dir`, which
        # a run's configuration could set.
        "io_manager": dg.IOManagerDefinition(
            lambda _: dg.InMemoryIOManager(),  # type: ignore[no-untyped-call]
            config_schema={},
            description="Not used: assets pass no values on.",
        ),
    }
