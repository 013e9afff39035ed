"""What the assets depend on at run time: archive, database, clock, settings, progress.

Belongs here: Dagster resources that hand out plain domain objects, so that a test puts an
ordinary class in their place. Does not belong here: asset logic. The environment is read when a
run begins, not at import.
"""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource

from availability_pipeline import settings, store
from availability_pipeline.archive import Progress
from availability_pipeline.listing import S3Archive


class SettingsResource(dg.ConfigurableResource[settings.Settings]):
    """The settings, read from the environment at the start of a run."""

    def create_resource(self, context: dg.InitResourceContext) -> settings.Settings:  # noqa: ARG002
        """Read them."""
        return settings.load()


class ArchiveResource(dg.ConfigurableResource[S3Archive]):
    """The archive behind an unsigned S3 client."""

    def create_resource(self, context: dg.InitResourceContext) -> S3Archive:  # noqa: ARG002
        """Make the client; asks nothing yet."""
        return S3Archive.from_settings(settings.load())


class AvailabilityDuckDB(DuckDBResource):
    """dagster-duckdb's resource on our store.

    The stock one leaves the connection open when its body raises, and the process then keeps
    the file locked against all others. Ours waits for other processes, makes the schema, and
    closes in any case. Without `database`, AVAILABILITY_DB says where the file is.
    """

    database: str = ""

    def path(self) -> Path:
        """Where the file is."""
        return Path(self.database or settings.load().db).expanduser()

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-write connection to the record."""
        s = settings.load()
        with store.writer(self.path(), s.db_wait_seconds, s.settle_days) as con:
            yield con

    @contextmanager
    def get_reader(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection to the record; waits for a writer, makes no file."""
        s = settings.load()
        with store.reader(self.database or s.db, s.db_wait_seconds) as con:
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
