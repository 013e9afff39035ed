"""The record: connections that wait their turn, and the one transaction that writes a probe.

Belongs here: opening the DuckDB file for reading or writing, and everything that changes rows.
Does not belong here: the tables themselves (`schema`), what follows from the rows (`derived`),
questions (`queries`).

    StoreError
    ├── MissingDatabaseError      nothing has been recorded yet
    ├── ForeignDatabaseError      not a DuckDB file, or not ours
    ├── NewerSchemaError          written by a newer version
    ├── UnwritableDatabaseError   the path cannot be opened or created
    ├── StoreBusyError            another process kept it open for longer than the wait
    └── RefusedProbeError         the listing contradicts the record or the clock
        ├── ClockError            the clock went back, or differs from the archive's
        └── ShrunkenArchiveError  far less is listed than is recorded

While one process has the file open for writing, no other can open it, not even to read. So
writers hold it for one short transaction, and everybody else waits, bounded.
"""

import datetime as dt
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd

from availability_pipeline.keys import classify
from availability_pipeline.listing import Listing
from availability_pipeline.schema import (
    ForeignDatabaseError,
    NewerSchemaError,
    StoreError,
    check_schema,
    ensure_schema,
    get_meta,
    set_meta,
)

__all__ = [
    "ClockError",
    "ForeignDatabaseError",
    "MissingDatabaseError",
    "NewerSchemaError",
    "RefusedProbeError",
    "ShrunkenArchiveError",
    "StoreBusyError",
    "StoreError",
    "UnwritableDatabaseError",
    "WriteResult",
    "reader",
    "write_probe",
    "write_symbols",
    "writer",
]

MIN_TO_COMPARE = 20
"""Fewer recorded files or symbols than this say nothing about an archive that shrank."""


class MissingDatabaseError(StoreError):
    """There is no database yet."""


class UnwritableDatabaseError(StoreError):
    """The path cannot be opened or created."""


class StoreBusyError(StoreError):
    """Another process kept the database for longer than the wait."""


class RefusedProbeError(StoreError):
    """A listing that must not become a fact; nothing was written."""


class ClockError(RefusedProbeError):
    """The clock went back behind the record, or differs from the archive's."""


class ShrunkenArchiveError(RefusedProbeError):
    """The archive lists far less than is recorded."""


@dataclass(frozen=True)
class WriteResult:
    """What one probe wrote: rows by status, and revisions by change."""

    rows: int
    symbols: int
    available: int
    pending: int
    absent: int
    appeared: int
    replaced: int
    vanished: int


@contextmanager
def writer(
    path: str | Path, wait_seconds: float = 60, settle_days: int = 3
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-write connection; makes folder, file and schema where they are missing.

    Raises:
        StoreError: one of the subclasses above.
    """
    path = Path(path).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableDatabaseError(
            f"cannot make the folder of {path}: {error.strerror}; set AVAILABILITY_DB"
        ) from None
    con = _connect(path, read_only=False, wait_seconds=wait_seconds)
    try:
        ensure_schema(con, settle_days)
        yield con
    finally:
        con.close()


@contextmanager
def reader(path: str | Path, wait_seconds: float = 60) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection; never creates a file.

    Raises:
        StoreError: one of the subclasses above.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise MissingDatabaseError(
            f"there is no database at {path}; run `binance-futures-availability backfill` first"
        )
    con = _connect(path, read_only=True, wait_seconds=wait_seconds)
    try:
        check_schema(con)
        yield con
    finally:
        con.close()


def _connect(path: Path, *, read_only: bool, wait_seconds: float) -> duckdb.DuckDBPyConnection:
    deadline = time.monotonic() + wait_seconds
    pause = 0.01
    while True:
        try:
            con = duckdb.connect(str(path), read_only=read_only)
            con.execute("SET TimeZone = 'UTC'")
        except (duckdb.IOException, duckdb.ConnectionException) as error:
            text = str(error)
            if "lock" not in text and "different configuration" not in text:
                if "not a valid DuckDB" in text:
                    raise ForeignDatabaseError(
                        f"{path} is no DuckDB database; choose another file with AVAILABILITY_DB"
                    ) from None
                raise UnwritableDatabaseError(
                    f"cannot open {path}: {text.splitlines()[0][:200]}; set AVAILABILITY_DB"
                ) from None
        else:
            return con
        if time.monotonic() >= deadline:
            raise StoreBusyError(
                f"another process kept {path} open for more than {wait_seconds:g} s; "
                "try again, or raise AVAILABILITY_DB_WAIT_SECONDS"
            )
        # A write takes 0.1 s for a day and 5 s for all history; the jitter keeps twenty
        # waiting processes from knocking at the same moment.
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - not cryptography
        pause = min(pause * 1.5, 0.5)


@contextmanager
def _transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    con.execute("BEGIN")
    try:
        yield
    except BaseException:
        con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")


def write_symbols(
    con: duckdb.DuckDBPyConnection, symbols: Sequence[str], seen_at: dt.datetime
) -> None:
    """Remember that these symbols have a folder, in one transaction."""
    with _transaction(con):
        _upsert_symbols(con, symbols, _aware(seen_at))


def write_probe(
    con: duckdb.DuckDBPyConnection,
    listing: Listing,
    *,
    probed_at: dt.datetime,
    run_id: str,
    accept_shrunken: bool = False,
    min_listed_share: float = 0.5,
    max_clock_skew_minutes: int = 0,
) -> WriteResult:
    """Write one whole listing in one transaction: symbols, rows, probes and revisions.

    Every known symbol gets one row for each date of the listing; the rows of that range are
    replaced. What differs from the earlier look becomes a revision; a first look has none.

    Args:
        con: from `writer`.
        listing: whole, as `listing` returns it.
        probed_at: when the listing began, aware.
        run_id: of the run that looked.
        accept_shrunken: write even if far less is listed than is recorded.
        min_listed_share: the share below which a listing is refused as shrunken.
        max_clock_skew_minutes: largest difference to the archive's clock; 0 is no check.

    Raises:
        ValueError: `probed_at` is naive.
        ClockError: the clock is behind the record or far from the archive's.
        ShrunkenArchiveError: far less is listed than is recorded.
    """
    probed_at = _aware(probed_at)
    _check_clock(con, listing, probed_at, max_clock_skew_minutes)
    con.register("listed", listing.files)
    span = [listing.start, listing.end]
    try:
        with _transaction(con):
            if not accept_shrunken:
                _refuse_shrunken(con, listing, min_listed_share)
            _upsert_symbols(con, listing.symbols, probed_at)
            con.execute(
                """CREATE OR REPLACE TEMP TABLE looked AS
                SELECT d.date, s.symbol, f.symbol IS NOT NULL AS available,
                    f.file_size_bytes, f.last_modified
                FROM (SELECT unnest(generate_series(?::DATE, ?::DATE, INTERVAL 1 DAY))::DATE
                      AS date) d
                CROSS JOIN (SELECT symbol FROM symbols) s
                LEFT JOIN (SELECT date::DATE AS date, symbol::VARCHAR AS symbol,
                                  file_size_bytes, last_modified FROM listed) f
                  ON f.date = d.date AND f.symbol = s.symbol""",
                span,
            )
            changes = _write_revisions(con, span, probed_at, run_id)
            con.execute("DELETE FROM daily_availability WHERE date BETWEEN ? AND ?", span)
            con.execute(
                """INSERT INTO daily_availability
                SELECT date, symbol, available, file_size_bytes, last_modified, ?
                FROM looked ORDER BY date, symbol""",
                [probed_at],
            )
            con.execute("DELETE FROM probes WHERE date BETWEEN ? AND ?", span)
            con.execute(
                """INSERT INTO probes
                SELECT date, ?, count(*), count(*) FILTER (available), ?
                FROM looked GROUP BY date ORDER BY date""",
                [probed_at, run_id],
            )
            counts = con.execute(
                """SELECT count(*), count(DISTINCT symbol),
                    count(*) FILTER (status = 'available'), count(*) FILTER (status = 'pending'),
                    count(*) FILTER (status = 'absent')
                FROM availability WHERE date BETWEEN ? AND ?""",
                span,
            ).fetchall()[0]
            con.execute("DROP TABLE looked")
            set_meta(con, "writes", str(int(get_meta(con, "writes") or 0) + 1))
    finally:
        con.unregister("listed")
    return WriteResult(*counts, *(changes.get(c, 0) for c in ("appeared", "replaced", "vanished")))


def _write_revisions(
    con: duckdb.DuckDBPyConnection, span: list[dt.date], probed_at: dt.datetime, run_id: str
) -> dict[str, int]:
    # A symbol without a row on a date that was looked at had no folder then: its file appeared.
    con.execute(
        """CREATE OR REPLACE TEMP TABLE changed AS
        SELECT n.date, n.symbol, CASE
                WHEN o.available AND NOT n.available THEN 'vanished'
                WHEN o.available THEN 'replaced' ELSE 'appeared' END AS change,
            o.file_size_bytes AS old_size, n.file_size_bytes AS new_size,
            o.last_modified AS old_time, n.last_modified AS new_time
        FROM looked n
        JOIN probes p ON p.date = n.date
        LEFT JOIN (FROM daily_availability WHERE date BETWEEN ? AND ?) o
          ON o.date = n.date AND o.symbol = n.symbol
        WHERE coalesce(o.available, false) <> n.available
           OR (n.available AND (o.file_size_bytes <> n.file_size_bytes
                                OR o.last_modified <> n.last_modified))""",
        span,
    )
    con.execute(
        """INSERT INTO revisions SELECT date, symbol, ?, change, old_size, new_size, old_time,
            new_time, ? FROM changed ORDER BY date, symbol""",
        [probed_at, run_id],
    )
    rows = con.execute("SELECT change, count(*) FROM changed GROUP BY change").fetchall()
    con.execute("DROP TABLE changed")
    return dict(rows)


def _upsert_symbols(
    con: duckdb.DuckDBPyConnection, symbols: Sequence[str], seen_at: dt.datetime
) -> None:
    frame = pd.DataFrame(
        [(c.symbol, c.contract_type, c.base_asset, c.quote_asset) for c in map(classify, symbols)],
        columns=["symbol", "contract_type", "base_asset", "quote_asset"],
        dtype="str",
    )
    con.register("seen", frame)
    try:
        con.execute(
            "UPDATE symbols SET last_seen = greatest(last_seen, ?) "
            "WHERE symbol IN (SELECT symbol FROM seen)",
            [seen_at],
        )
        con.execute(
            "INSERT INTO symbols SELECT *, ?, ? FROM seen "
            "WHERE symbol NOT IN (SELECT symbol FROM symbols) ORDER BY symbol",
            [seen_at, seen_at],
        )
    finally:
        con.unregister("seen")


def _check_clock(
    con: duckdb.DuckDBPyConnection, listing: Listing, now: dt.datetime, skew_minutes: int
) -> None:
    [(latest,)] = con.execute(
        "SELECT epoch(max(probed_at)) FROM probes WHERE date BETWEEN ? AND ?",
        [listing.start, listing.end],
    ).fetchall()
    if latest is not None and latest > now.timestamp():
        last = dt.datetime.fromtimestamp(latest, dt.UTC)
        raise ClockError(
            f"the clock says {now:%Y-%m-%d %H:%M:%S} UTC but these dates were looked at on "
            f"{last:%Y-%m-%d %H:%M:%S}; set the clock right, nothing was written"
        )
    if skew_minutes and listing.server_time:
        off = abs((now - listing.server_time).total_seconds()) / 60
        if off > skew_minutes:
            raise ClockError(
                f"the clock differs from the archive's by {off:.0f} minutes (at most "
                f"{skew_minutes}); set the clock right, nothing was written"
            )


def _refuse_shrunken(con: duckdb.DuckDBPyConnection, listing: Listing, share: float) -> None:
    [(known,)] = con.execute("SELECT count(*) FROM symbols").fetchall()
    if known >= MIN_TO_COMPARE and len(listing.symbols) < share * known:
        raise ShrunkenArchiveError(
            f"the archive lists {len(listing.symbols)} symbols where {known} are recorded; nothing "
            "was written. If that is right: backfill with --accept-shrunken"
        )
    [(stored, still)] = con.execute(
        """SELECT count(*), count(f.symbol) FROM daily_availability d
        LEFT JOIN listed f ON f.date::DATE = d.date AND f.symbol::VARCHAR = d.symbol
        WHERE d.available AND d.date BETWEEN ? AND ?""",
        [listing.start, listing.end],
    ).fetchall()
    if stored >= MIN_TO_COMPARE and still < share * stored:
        raise ShrunkenArchiveError(
            f"the archive lists {still} of the {stored} files recorded for these dates; nothing "
            "was written. If that is right: backfill with --accept-shrunken"
        )


def _aware(time: dt.datetime) -> dt.datetime:
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone; give an aware datetime in UTC")
    return time.astimezone(dt.UTC)
