"""The record for a notebook: the questions of `queries` as methods that answer with frames."""

import datetime as dt
import inspect
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, cast

from availability_pipeline import extras, settings
from availability_pipeline.errors import StoreError
from availability_pipeline.queries.answers import Connection, Rows, checked
from availability_pipeline.queries.files import (
    holes,
    missing_dates,
    snapshot,
    symbols_in_range,
    timeline,
)
from availability_pipeline.queries.own import sql
from availability_pipeline.queries.plan import plan
from availability_pipeline.queries.revisions import (
    changes,
    original_symbol,
    renames,
    revisions,
)
from availability_pipeline.queries.symbols import (
    delistings,
    listings,
    new_listings,
    summary,
    symbol_coverage,
)
from availability_pipeline.queries.universe import universe
from availability_pipeline.queries.volume import rankings, volume
from availability_pipeline.record import connection as connections
from availability_pipeline.record import followed, volumes

if TYPE_CHECKING:
    import pandas as pd

P = ParamSpec("P")
R = TypeVar("R")
Frames = Literal["pandas", "arrow", "polars"]
M = TypeVar("M", bound=Callable[..., Any])


def _asked(
    function: Callable[Concatenate[Connection, P], R],
) -> Callable[Concatenate["Record", P], R]:
    """A function of `queries` as a method: the same arguments and text, but for the connection."""

    @wraps(function)
    def method(self: "Record", /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.connection() as con:
            return function(con, *args, **kwargs)

    return _signed(method, function)


def _framed(
    function: Callable[Concatenate[Connection, P], Rows],
) -> Callable[Concatenate["Record", P], "pd.DataFrame"]:
    """The same, with its rows as a frame."""

    @wraps(function)
    def method(self: "Record", /, *args: P.args, **kwargs: P.kwargs) -> "pd.DataFrame":
        with self.connection() as con:
            return self._shown(function(con, *args, **kwargs))

    return _signed(method, function, "pd.DataFrame")


def _of_volume(
    function: Callable[Concatenate[Connection, P], Rows],
) -> Callable[Concatenate["Record", P], "pd.DataFrame"]:
    """The same of a question about volume."""

    @wraps(function)
    def method(self: "Record", /, *args: P.args, **kwargs: P.kwargs) -> "pd.DataFrame":
        with self.volume_connection() as con:
            return self._shown(function(con, *args, **kwargs))

    return _signed(method, function, "pd.DataFrame")


def _signed(method: M, function: Callable[..., Any], returns: str | None = None) -> M:
    """Show the method's own name and signature to `help` and completion."""
    method.__module__, method.__qualname__ = __name__, f"Record.{function.__name__}"
    shown = inspect.signature(function)
    first, *others = shown.parameters.values()
    shown = shown.replace(parameters=[first.replace(name="self", annotation=first.empty), *others])
    method.__signature__ = shown.replace(return_annotation=returns) if returns else shown  # type: ignore[attr-defined]
    return method


class Record:
    """Made by `queries.open()`.

        record = queries.open()
        record.snapshot("2024-01-15")

    Each call opens the file, asks and closes it again (about 20 ms), so a notebook left open
    never keeps the updater out. Inside `with record:` the file stays open: faster, and every
    answer from the same state, but no update is written meanwhile. Threads may share a record,
    inside the block too; the file is closed at the end of the last block and the last question.

    Dates are given as `datetime.date`, `"YYYY-MM-DD"` or a timestamp with its time zone. Every
    method raises `StoreError` when the file cannot be read, `ValueError` or `TypeError` for an
    argument that cannot be meant, and `NotProbedError`, `UnknownSymbolError` or another
    `QueryError` as the function of `queries` of the same name does.

    With `frames="arrow"` or `"polars"` the answers are Arrow tables or polars frames. An answer's
    notes are in `frame.attrs["notes"]`, in an Arrow table's schema as JSON, and warnings with
    polars, whose frames have no place for them.
    """

    @checked()
    def __init__(
        self,
        db: str | Path | None = None,
        wait_seconds: float | None = None,
        *,
        frames: Frames = "pandas",
    ) -> None:
        if frames != "pandas":
            extras.require_library({"arrow": "pyarrow"}.get(frames, frames))
        self._frames = frames
        s = settings.load()
        self.path = Path(db if db is not None else s.db).expanduser()
        self._wait = s.db_wait_seconds if wait_seconds is None else wait_seconds
        self._held: Connection | None = None
        self._stack = ExitStack()
        self._blocks = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Record({str(self.path)!r})"

    def __enter__(self) -> "Record":
        with self._lock:
            if self._held is None:
                self._held = self._stack.enter_context(connections.reader(self.path, self._wait))
            self._blocks += 1
        return self

    def __exit__(self, *raised: Any) -> None:
        with self._lock:
            self._blocks = max(0, self._blocks - 1)
            if not self._blocks:
                self._held = None
                self._stack.__exit__(*raised)

    def close(self) -> None:
        """Let go of the file; the next question opens it again."""
        with self._lock:
            self._blocks, self._held = 0, None
            self._stack.close()

    def _shown(self, rows: Rows) -> "pd.DataFrame":
        """An answer in the form that was chosen; for the type checker, in the default one."""
        if self._frames == "pandas":
            return rows.frame()
        if self._frames == "arrow":
            return cast("pd.DataFrame", rows.arrow())
        for note in rows.notes:
            warnings.warn(note, stacklevel=3)
        return cast("pd.DataFrame", rows.polars())

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A read-only connection, for SQL of your own and the functions of `queries`.

        It is for one thread, like every connection of DuckDB: let each thread take its own.
        """
        with self._lock:
            # A connection has one result at a time: two threads that ask through the same one read
            # each other's rows. A cursor is a connection of its own to the open file, in 0.1 ms.
            cursor = self._held.cursor() if self._held is not None else None
        if cursor is None:
            with connections.reader(self.path, self._wait) as con:
                yield con
            return
        with connections.closing(cursor):
            cursor.execute("SET TimeZone = 'UTC'")  # a cursor does not inherit it
            yield cursor

    @contextmanager
    def volume_connection(self) -> Iterator[Connection]:
        """A read-only connection to the file of daily volumes, for SQL of your own.

        It is `volume.duckdb` beside the record, or AVAILABILITY_VOLUME_DB. Its view `daily_volume`
        has a row for each market, symbol and date. It is opened for each question, within
        `with record:` too.
        """
        with volumes.reader(volumes.beside(self.path), self._wait) as con:
            yield con

    snapshot = _framed(snapshot)
    timeline = _framed(timeline)
    universe = _framed(universe)
    listings = _framed(listings)
    symbol_coverage = _framed(symbol_coverage)
    holes = _framed(holes)
    changes = _framed(changes)
    renames = _framed(renames)
    original_symbol = _framed(original_symbol)
    sql = _framed(sql)  # type: ignore[arg-type] # none of its own names is `con`
    revisions = _framed(revisions)
    summary = _framed(summary)
    plan = _framed(plan)
    volume = _of_volume(volume)
    rankings = _of_volume(rankings)
    symbols_in_range = _asked(symbols_in_range)
    new_listings = _asked(new_listings)
    delistings = _asked(delistings)
    missing_dates = _asked(missing_dates)


@checked()
def open(  # noqa: A001 - as in `zipfile.open`, `gzip.open`
    db: str | Path | None = None, *, frames: Frames = "pandas"
) -> Record:
    """The record for a notebook: its methods answer with frames.

    Examples:
        >>> record.snapshot("2026-10-23", quote_asset="USDC")["symbol"].tolist()
        ['BTCUSDC']

    Args:
        db: the DuckDB file; `AVAILABILITY_DB` when left out. Or the address of a published record
            (`https://…`, `file:///folder`): it is followed into `AVAILABILITY_CACHE_DIR` first.
            Where that cannot be done and a copy is there, a warning says so and the copy answers.
        frames: of which kind: "pandas", "arrow" or "polars".

    Raises:
        MissingExtraError: pyarrow or polars is not installed.
        SettingsError: an environment variable has a bad value.
        FollowError: a published record cannot be copied, and no copy of it is there.
    """
    if isinstance(db, str) and ADDRESS.match(db):
        db = _followed(db)
    return Record(db, frames=frames)


ADDRESS = re.compile("(https?|file)://", re.IGNORECASE)
"""What a published record's address begins with."""


def _followed(url: str) -> Path:
    from availability_pipeline.copies import follow  # the only import upwards; see pyproject.toml

    s, now = settings.load(), dt.datetime.now(dt.UTC)
    path = follow.cached(url, s.cache_path)
    try:
        return follow.follow(url, path, now=now, timeout_seconds=s.s3_timeout_seconds).path
    except StoreError as error:
        marker = followed.read(path) if path.exists() else None
        if marker is None:
            raise
        probed = f"{marker.last_probe:%Y-%m-%d %H:%M} UTC" if marker.last_probe else "never"
        text = (
            f"{error}; the copy of {marker.followed_at:%Y-%m-%d %H:%M} UTC answers, last probe "
            f"{probed}"
        )
    warnings.warn(text, stacklevel=4)  # where `open` was called, through `checked`
    return path
