"""The record for a notebook: every question a method that answers with a pandas frame.

Belongs here: opening, and turning answers into frames. Does not belong here: SQL (`queries`).
"""

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from availability_pipeline import queries, settings
from availability_pipeline.dates import DateLike
from availability_pipeline.queries.answers import Connection, Texts
from availability_pipeline.queries.arguments import checked
from availability_pipeline.record import connection as connections

if TYPE_CHECKING:
    import pandas as pd

    from availability_pipeline.queries.universe import Unknown


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
    `QueryError` as the function of `queries` of the same name does. `frame.attrs["notes"]` holds
    an answer's notes.
    """

    @checked()
    def __init__(self, db: str | Path | None = None, wait_seconds: float | None = None) -> None:
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._blocks = max(0, self._blocks - 1)
            if not self._blocks:
                self._held = None
                self._stack.__exit__(kind, error, trace)

    def close(self) -> None:
        """Let go of the file; the next question opens it again."""
        with self._lock:
            self._blocks, self._held = 0, None
            self._stack.close()

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

    def snapshot(
        self,
        date: DateLike,
        *,
        status: queries.Status = "available",
        quote_asset: Texts = None,
        contract_type: Texts = None,
    ) -> "pd.DataFrame":
        """The files of one date: symbol, file_size_bytes (bytes), last_modified (UTC)."""
        with self.connection() as con:
            return queries.snapshot(
                con, date, status=status, quote_asset=quote_asset, contract_type=contract_type
            ).frame()

    def timeline(
        self,
        symbol: str,
        start: DateLike | None = None,
        end: DateLike | None = None,
        *,
        status: str | None = None,
    ) -> "pd.DataFrame":
        """One symbol's dates: date, available, status, file_size_bytes, status_code."""
        with self.connection() as con:
            return queries.timeline(con, symbol, start, end, status=status).frame()

    def universe(
        self,
        start: DateLike,
        end: DateLike,
        *,
        quote_asset: Texts = None,
        contract_type: Texts = None,
        unknown: "Unknown" = "refuse",
    ) -> "pd.DataFrame":
        """Date x symbol: True (file), False (confirmed absence), <NA> (pending, unknown)."""
        with self.connection() as con:
            return queries.universe(
                con, start, end,
                quote_asset=quote_asset, contract_type=contract_type, unknown=unknown,
            ).frame()  # fmt: skip

    def symbols_in_range(
        self,
        start: DateLike,
        end: DateLike,
        *,
        quote_asset: Texts = None,
        contract_type: Texts = None,
    ) -> list[str]:
        """Symbols with at least one file in the range, sorted."""
        with self.connection() as con:
            return queries.symbols_in_range(
                con, start, end, quote_asset=quote_asset, contract_type=contract_type
            )

    def listings(
        self,
        symbol: str | None = None,
        *,
        quote_asset: Texts = None,
        contract_type: Texts = None,
    ) -> "pd.DataFrame":
        """One row a symbol: first_available, last_available, days, holes, state."""
        with self.connection() as con:
            return queries.listings(
                con, symbol, quote_asset=quote_asset, contract_type=contract_type
            ).frame()

    def new_listings(
        self, date: DateLike, *, quote_asset: Texts = None, contract_type: Texts = None
    ) -> list[str]:
        """Symbols whose first file is that date's, sorted."""
        with self.connection() as con:
            return queries.new_listings(
                con, date, quote_asset=quote_asset, contract_type=contract_type
            )

    def delistings(
        self, date: DateLike, *, quote_asset: Texts = None, contract_type: Texts = None
    ) -> list[str]:
        """Symbols whose last file is that of the day before, sorted."""
        with self.connection() as con:
            return queries.delistings(
                con, date, quote_asset=quote_asset, contract_type=contract_type
            )

    def holes(
        self,
        symbol: str | None = None,
        *,
        quote_asset: Texts = None,
        contract_type: Texts = None,
    ) -> "pd.DataFrame":
        """Confirmed absences between first and last file: symbol, date, url."""
        with self.connection() as con:
            return queries.holes(
                con, symbol, quote_asset=quote_asset, contract_type=contract_type
            ).frame()

    def changes(
        self,
        since: DateLike | None = None,
        *,
        symbol: str | None = None,
        quote_asset: Texts = None,
        contract_type: Texts = None,
    ) -> "pd.DataFrame":
        """What appeared late, was replaced, vanished or was renamed, as it was observed."""
        with self.connection() as con:
            return queries.changes(
                con, since,
                symbol=symbol, quote_asset=quote_asset, contract_type=contract_type,
            ).frame()  # fmt: skip

    def revisions(
        self,
        since: DateLike | None = None,
        *,
        symbol: str | None = None,
        quote_asset: Texts = None,
        contract_type: Texts = None,
    ) -> "pd.DataFrame":
        """Every revision of every file, those that came in the usual time too."""
        with self.connection() as con:
            return queries.revisions(
                con, since,
                symbol=symbol, quote_asset=quote_asset, contract_type=contract_type,
            ).frame()  # fmt: skip

    def summary(
        self,
        days: int | None = None,
        *,
        start: DateLike | None = None,
        end: DateLike | None = None,
        quote_asset: Texts = None,
        contract_type: Texts = None,
        today: dt.date | None = None,
    ) -> "pd.DataFrame":
        """Counts of each date: date, available_count, pending_count."""
        with self.connection() as con:
            return queries.summary(
                con, days, start=start, end=end,
                quote_asset=quote_asset, contract_type=contract_type, today=today,
            ).frame()  # fmt: skip

    def missing_dates(self, start: DateLike, end: DateLike) -> list[dt.date]:
        """Dates of the range that were never probed."""
        with self.connection() as con:
            return queries.missing_dates(con, start, end)
