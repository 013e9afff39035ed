"""What the assets depend on at run time: archive, database, clock, settings, progress.

Each resource hands out a plain domain object, so that a test puts an ordinary class in its place.
The environment is read when a run begins, not at import, and a run's configuration sets nothing.
"""

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource

from availability_pipeline import settings
from availability_pipeline.archive.listing import Progress, S3Archive
from availability_pipeline.record.connection import reader, writer


class AvailabilityDuckDB(DuckDBResource):
    """dagster-duckdb's resource on our store.

    Its own `get_connection` leaves the connection open when its body raises, and the process then
    keeps the file locked against all others. Ours waits for other processes, makes the schema, and
    closes in any case.

    Runs get it from `resources`, already made, because its `database` could otherwise be set in a
    run's configuration: `{env: AVAILABILITY_ALERT_URLS}` would put a secret into event log, run
    history and API, and a path would make a database anywhere.

    Args:
        database: the file; AVAILABILITY_DB says where it is when left out.
    """

    database: str = ""

    def path(self) -> Path:
        """Where the file is."""
        return Path(self.database or settings.load().db).expanduser()

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-write connection to the record."""
        with writer(self.path(), settings.load().db_wait_seconds) as con:
            yield con

    @contextmanager
    def get_reader(self, *, older_too: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection to the record; waits for a writer, makes no file.

        `older_too`: also to one that the next writer migrates.
        """
        wait = settings.load().db_wait_seconds
        with reader(self.path(), wait, older_too=older_too) as con:
            yield con


class Clock:
    """The time, as an argument; `stopped_at` (aware) is what it always says."""

    def __init__(self, stopped_at: dt.datetime | None = None) -> None:
        self._stopped_at = stopped_at

    def now(self) -> dt.datetime:
        """Now, aware, UTC."""
        return self._stopped_at or dt.datetime.now(dt.UTC)

    def uptime(self) -> float:
        """Seconds since the machine was started, or some such: no step of the clock changes it."""
        return time.monotonic()


class Reporter:
    """Where a listing's progress goes besides the run's log; the CLI brings its own."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress

    def report(self, done: int, total: int) -> None:
        """Symbols listed so far, of how many."""
        if self._progress:
            self._progress(done, total)


def _fixed(
    name: str, what: str, make: Callable[[], object], shown: Mapping[str, str] | None = None
) -> dg.ResourceDefinition:
    """A resource that a run's configuration sets nothing of: that would be stored and shown.

    Args:
        name: of its type in the UI.
        what: its description.
        make: the object that assets get.
        shown: values that the UI shows as its configuration. The only value that each takes is the
            one that it has, so a run cannot give another, nor `{env: ...}`.
    """

    def resource(_: dg.InitResourceContext) -> object:
        return make()

    resource.__name__ = name
    schema = {
        key: dg.Field(dg.Enum(f"{name}_{key}", [dg.EnumValue(value)]), default_value=value)
        for key, value in (shown or {}).items()
    }
    return dg.ResourceDefinition(resource, config_schema=schema, description=what)


def resources(configured: settings.Settings) -> dict[str, dg.ResourceDefinition]:
    """The real ones, by key; a run reads the settings again when it begins."""
    return {
        "archive": _fixed(
            "S3Archive",
            "The archive behind an S3 client that never signs (AVAILABILITY_S3_...).",
            lambda: S3Archive.from_settings(settings.load()),
        ),
        "duckdb": _fixed(
            "AvailabilityDuckDB",
            "The record, one DuckDB file (AVAILABILITY_DB).",
            AvailabilityDuckDB,
            {"database": str(configured.db_path)},
        ),
        "clock": _fixed("Clock", "The time, UTC.", Clock),
        "limits": _fixed("Settings", "The settings (AVAILABILITY_...).", settings.load),
        "reporter": _fixed("Reporter", "Where a command shows a listing's progress.", Reporter),
        # Assets hand no values to each other. Dagster's default one writes below `base_dir`, which
        # a run's configuration could set.
        "io_manager": dg.IOManagerDefinition(
            lambda _: dg.InMemoryIOManager(),  # type: ignore[no-untyped-call]
            config_schema={},
            description="Not used: assets pass no values on.",
        ),
    }
