"""The record: everything that changes rows, and the door to the rest of the store.

Belongs here: the one transaction that writes a whole listing. Does not belong here: opening the
file (`connections`), the tables (`schema`), what is refused (`refusals`), what follows from the
rows (`derived`), questions (`queries`). The errors are drawn as a tree in `store_errors`.

The truth rules: a listing is written whole or not at all; an earlier fact is never lost, it
becomes a revision; what contradicts the record beyond belief is refused with nothing written.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pandas as pd

from availability_pipeline.archive import Listing
from availability_pipeline.connections import reader, writer
from availability_pipeline.keys import classify
from availability_pipeline.refusals import refuse_past, refuse_shrunken, refuse_skew
from availability_pipeline.schema import get_meta, set_meta, transaction
from availability_pipeline.store_errors import (
    BackupError,
    ClockSkewError,
    ClockWentBackError,
    DamagedDatabaseError,
    ExportError,
    ForeignDatabaseError,
    FullDiskError,
    MissingDatabaseError,
    NewerSchemaError,
    RefusedProbeError,
    ShrunkenArchiveError,
    StoreBusyError,
    StoreError,
    UnwritableDatabaseError,
)

__all__ = [
    "BackupError",
    "ClockSkewError",
    "ClockWentBackError",
    "DamagedDatabaseError",
    "ExportError",
    "ForeignDatabaseError",
    "FullDiskError",
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
    "writer",
]


@dataclass(frozen=True)
class WriteResult:
    """What one probe wrote: rows by status, and revisions by change."""

    rows: int
    available: int
    pending: int
    absent: int
    appeared: int
    replaced: int
    vanished: int
    symbols: int


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
        ValueError: `probed_at` is naive, or the listing contradicts itself.
        ClockWentBackError: these dates were looked at later than `probed_at`.
        ClockSkewError: `probed_at` is far from the archive's clock.
        ShrunkenArchiveError: far less is listed than is recorded.
    """
    probed_at = _aware(probed_at)
    span = [listing.start, listing.end]
    seen = _classified(listing.symbols)
    refuse_skew(con, listing, probed_at, max_clock_skew_minutes)
    with (
        _registered(con, "listed", listing.files),
        _registered(con, "seen", seen),
        transaction(con),
    ):
        refuse_past(con, listing, probed_at)
        if not accept_shrunken:
            refuse_shrunken(con, listing, min_listed_share)
        _upsert_symbols(con, probed_at)
        symbols = _look(con, listing)
        changes = _write_revisions(con, span, probed_at, run_id)
        con.execute("DELETE FROM daily_availability WHERE date BETWEEN ? AND ?", span)
        # Months of symbols: one symbol's rows stand in runs of thirty, so a timeline unpacks two
        # vectors a month instead of fifteen (10 ms instead of 20), and a date still lies within
        # one or two row groups. 0.8 MB more than by date alone.
        con.execute(
            """INSERT INTO daily_availability
            SELECT date, symbol, available, file_size_bytes, last_modified, ?
            FROM looked ORDER BY date_trunc('month', date), symbol, date""",
            [probed_at],
        )
        con.execute("DELETE FROM probes WHERE date BETWEEN ? AND ?", span)
        con.execute(
            """INSERT INTO probes SELECT date, ?, count(*), count(*) FILTER (available), ?
            FROM looked GROUP BY date ORDER BY date""",
            [probed_at, run_id],
        )
        con.execute("DROP TABLE looked")
        [(rows, available, pending, absent)] = con.execute(
            """SELECT count(*), count(*) FILTER (status = 'available'),
                count(*) FILTER (status = 'pending'), count(*) FILTER (status = 'absent')
            FROM availability WHERE date BETWEEN ? AND ?""",
            span,
        ).fetchall()
        # `derived` compares this with what its tables were made from.
        set_meta(con, "writes", str(int(get_meta(con, "writes") or 0) + 1))
    return WriteResult(
        rows=rows,
        available=available,
        pending=pending,
        absent=absent,
        appeared=changes.get("appeared", 0),
        replaced=changes.get("replaced", 0),
        vanished=changes.get("vanished", 0),
        symbols=symbols,
    )


def _look(con: duckdb.DuckDBPyConnection, listing: Listing) -> int:
    """Make `looked`: what was seen, one row for each date and known symbol. Counts the symbols."""
    con.execute(
        """CREATE TEMP TABLE looked AS
        SELECT d.date, s.symbol, f.symbol IS NOT NULL AS available,
            f.file_size_bytes, f.last_modified
        FROM (SELECT unnest(generate_series(?::DATE, ?::DATE, INTERVAL 1 DAY))::DATE AS date) d
        CROSS JOIN (SELECT symbol FROM symbols) s
        LEFT JOIN (SELECT date::DATE AS date, symbol::VARCHAR AS symbol,
                          file_size_bytes, last_modified FROM listed) f
          ON f.date = d.date AND f.symbol = s.symbol""",
        [listing.start, listing.end],
    )
    [(rows, known, available)] = con.execute(
        "SELECT count(*), count(DISTINCT symbol), count(*) FILTER (available) FROM looked"
    ).fetchall()
    dates = (listing.end - listing.start).days + 1
    if rows != known * dates or available != len(listing.files):
        raise ValueError(
            f"the listing of {listing.start} to {listing.end} names a file twice, or one outside "
            f"its own dates and symbols ({len(listing.files)} files); nothing was written"
        )
    return int(known)


def _write_revisions(
    con: duckdb.DuckDBPyConnection, span: list[dt.date], probed_at: dt.datetime, run_id: str
) -> dict[str, int]:
    # Only dates with an earlier look. A symbol without a row on such a date had no folder then,
    # which is an absence too: its file appeared (files move to a new `...SETTLED` folder so).
    con.execute(
        """CREATE TEMP TABLE changed AS
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
           OR o.available AND (o.file_size_bytes IS DISTINCT FROM n.file_size_bytes
                               OR o.last_modified IS DISTINCT FROM n.last_modified)""",
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


def _upsert_symbols(con: duckdb.DuckDBPyConnection, seen_at: dt.datetime) -> None:
    con.execute(
        """UPDATE symbols SET last_seen = greatest(last_seen, $at)
        WHERE symbol IN (SELECT symbol FROM seen)""",
        {"at": seen_at},
    )
    con.execute(
        """INSERT INTO symbols SELECT *, $at, $at FROM seen
        WHERE symbol NOT IN (SELECT symbol FROM symbols) ORDER BY symbol""",
        {"at": seen_at},
    )


def _classified(symbols: Sequence[str]) -> pd.DataFrame:
    contracts = [classify(symbol) for symbol in symbols]
    return pd.DataFrame(
        [(c.symbol, c.contract_type, c.base_asset, c.quote_asset) for c in contracts],
        columns=["symbol", "contract_type", "base_asset", "quote_asset"],
        dtype="str",
    )


@contextmanager
def _registered(con: duckdb.DuckDBPyConnection, name: str, frame: pd.DataFrame) -> Iterator[None]:
    con.register(name, frame)
    try:
        yield
    finally:
        con.unregister(name)


def _aware(time: dt.datetime) -> dt.datetime:
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone; give an aware datetime in UTC")
    return time.astimezone(dt.UTC)
