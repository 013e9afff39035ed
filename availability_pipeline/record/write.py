"""List the archive and write the difference: every write of rows, and what refuses one.

A wrong clock would date facts wrongly for ever, and call absent what is only pending. An empty or
truncated mirror would turn 740,000 files into absences, and each symbol into an ended one. Both are
refused before anything is written.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from availability_pipeline import PROGRAM
from availability_pipeline.archive.datasets import classify, unsettled
from availability_pipeline.archive.listing import (
    NOTHING_RECORDED,
    Archive,
    DiscoveryError,
    Listing,
    Progress,
    Recorded,
)
from availability_pipeline.dates import aware
from availability_pipeline.errors import (
    ClockSkewError,
    ClockWentBackError,
    MissingDatabaseError,
    ShrunkenArchiveError,
)
from availability_pipeline.record import derived
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.record.schema import get_meta, set_meta, transaction, where
from availability_pipeline.settings import Settings


@dataclass(frozen=True)
class Update:
    """What `update` did.

    Attributes:
        listing: what the archive has.
        result: what was written of it.
        dates: each date of the range, by date: its row of `daily_summary`, and how many files
            `appeared`, were `replaced` or `vanished`.
        changed: the same of each date, of the range or not, of which a file or that row changed;
            a newly known symbol without a file there does not count.
    """

    listing: Listing
    result: "WriteResult"
    dates: tuple[dict[str, Any], ...]
    changed: tuple[dict[str, Any], ...]


def update(
    path: Path,
    archive: Archive,
    start: dt.date,
    end: dt.date,
    *,
    now: dt.datetime,
    run_id: str,
    settings: Settings,
    accept_shrunken: bool = False,
    progress: Progress | None = None,
    if_nothing_recorded: Callable[[], None] = lambda: None,
) -> Update:
    """Bring the dates from `start` to `end` up to date: list the archive, then write at once.

    No process waits while the archive is listed; what is refused or fails writes nothing at all.

    Args:
        path: the DuckDB file; it is made where there is none.
        archive: what to list.
        start: first date.
        end: last date, included.
        now: when it begins, aware.
        run_id: of the run that probes.
        settings: what is refused, how long a date may be pending, how long to wait for others.
        accept_shrunken: write even if far less is listed than is recorded.
        progress: called while the archive is listed.
        if_nothing_recorded: called before that where the record is empty; raises to refuse.

    Raises:
        ArchiveError: the archive could not be listed wholly.
        StoreError: as one of its subclasses; see `errors`.
    """
    known = NOTHING_RECORDED
    with (
        suppress(MissingDatabaseError),
        reader(path, settings.db_wait_seconds, older_too=True) as con,
    ):
        known = recorded(con)
    if known.last is None:
        if_nothing_recorded()
    listing = archive.list_range(start, end, progress, known)
    if not listing.in_archive:
        raise DiscoveryError(f"{listing.dataset} is not in the archive; nothing was written")
    with writer(path, settings.db_wait_seconds) as con:
        con.execute("CREATE TEMP TABLE summary_before AS FROM daily_summary")
        result = write_probe(
            con,
            listing,
            probed_at=now,
            run_id=run_id,
            accept_shrunken=accept_shrunken,
            min_listed_share=settings.min_listed_share,
            max_clock_skew_minutes=settings.max_clock_skew_minutes,
            settle_days=settings.settle_days,
        )
        found = con.execute(
            """WITH revised AS (
                SELECT date, count(*) FILTER (change = 'appeared') AS appeared,
                    count(*) FILTER (change = 'replaced') AS replaced,
                    count(*) FILTER (change = 'vanished') AS vanished
                FROM revisions WHERE run_id = $1 AND observed_at = $4 GROUP BY date),
            -- A newly known symbol is absent on all dates: no news of any of them.
            differs AS (SELECT * EXCLUDE (symbols_probed, absent) FROM daily_summary
                EXCEPT SELECT * EXCLUDE (symbols_probed, absent) FROM summary_before)
            SELECT s.*, coalesce(appeared, 0) AS appeared, coalesce(replaced, 0) AS replaced,
                coalesce(vanished, 0) AS vanished,
                r.date IS NOT NULL OR s.date IN (SELECT date FROM differs) AS changed
            FROM daily_summary s LEFT JOIN revised r USING (date)
            WHERE s.date BETWEEN $2 AND $3 OR changed ORDER BY s.date""",
            [run_id, start, end, aware(now)],
        )
        names = [column[0] for column in found.description or ()][:-1]
        rows = [(dict(zip(names, row[:-1], strict=True)), row[-1]) for row in found.fetchall()]
    return Update(
        listing,
        result,
        dates=tuple(row for row, _ in rows if start <= row["date"] <= end),
        changed=tuple(row for row, changed in rows if changed),
    )


@dataclass(frozen=True)
class WriteResult:
    """What one probe wrote: rows of its range by status, and revisions by change.

    `widened` counts the symbols of which rows outside the range were written too.
    """

    rows: int
    available: int
    pending: int
    absent: int
    appeared: int
    replaced: int
    vanished: int
    symbols: int
    widened: int


def recorded(con: duckdb.DuckDBPyConnection) -> Recorded:
    """What an archive needs to know of the record before it lists; 20 ms for 2.6 million rows."""
    [(first, last)] = con.execute("SELECT min(date), max(date) FROM probes").fetchall()
    rows = con.execute(
        """SELECT symbol FROM daily_availability GROUP BY symbol
        HAVING count(*) = (SELECT count(*) FROM probes)"""
    ).fetchall()
    return Recorded(frozenset(row[0] for row in rows), first, last)


def write_probe(
    con: duckdb.DuckDBPyConnection,
    listing: Listing,
    *,
    probed_at: dt.datetime,
    run_id: str,
    accept_shrunken: bool = False,
    min_listed_share: float = 0.5,
    max_clock_skew_minutes: int = 0,
    settle_days: int | None = None,
) -> WriteResult:
    """Write one whole listing in one transaction: symbols, rows, probes, revisions, derived tables.

    Every known symbol gets one row for each date of the listing, and a widened one for each date
    that was ever probed; earlier rows of these are replaced. What differs from the earlier probe
    becomes a revision; a first probe has none. Dates that were never probed stay unknown, also
    where a widened listing saw a file.

    Args:
        con: from `writer`.
        listing: whole, as an `Archive` returns it.
        probed_at: when the listing began, aware.
        run_id: of the run that probed.
        accept_shrunken: write even if far less is listed than is recorded.
        min_listed_share: the share below which a listing is refused as shrunken.
        max_clock_skew_minutes: largest difference to the archive's clock; 0 does not check.
        settle_days: days after its end from which an absence on a date counts as confirmed, for
            the whole record, until the next probe that says it; None leaves it as it is.

    Raises:
        ValueError: `probed_at` is naive, or the listing contradicts itself.
        ClockWentBackError: some of these rows were probed later than `probed_at`.
        ClockSkewError: `probed_at` is far from the archive's clock.
        ShrunkenArchiveError: far less is listed than is recorded.
    """
    probed_at = aware(probed_at)
    span = [listing.start, listing.end]
    seen = _classified(listing.symbols)
    wide, never_written = _widened(con, listing)
    refuse_skew(con, listing, probed_at, max_clock_skew_minutes)
    with (
        _registered(con, "listed", listing.files),
        _registered(con, "seen", seen),
        _registered(con, "wide", wide),
        transaction(con),
    ):
        rows_before = "date BETWEEN ? AND ?"
        if len(wide):  # otherwise DuckDB need not read any other date: half of a day's write
            rows_before += " OR symbol IN (SELECT symbol FROM wide)"
        refuse_past(con, listing, probed_at, rows_before)
        if not accept_shrunken:
            refuse_shrunken(con, listing, min_listed_share)
        if settle_days is not None:
            set_meta(con, "settle_days", str(settle_days))
        _upsert_symbols(con, probed_at, never_written)
        symbols = _look(con, listing)
        changes = _write_revisions(con, span, rows_before, probed_at, run_id)
        _replace_rows(con, span, probed_at, outside=len(wide) > 0)
        _write_probes(con, span, probed_at, run_id)
        con.execute("DROP TABLE looked")
        set_meta(con, "last_probe", probed_at.isoformat())
        derived.refresh(con)
        [(rows, available, pending, absent)] = con.execute(
            """SELECT sum(symbols_probed)::BIGINT, sum(available)::BIGINT, sum(pending)::BIGINT,
                sum(absent)::BIGINT FROM daily_summary WHERE date BETWEEN ? AND ?""",
            span,
        ).fetchall()
    return WriteResult(
        rows=rows,
        available=available,
        pending=pending,
        absent=absent,
        appeared=changes.get("appeared", 0),
        replaced=changes.get("replaced", 0),
        vanished=changes.get("vanished", 0),
        symbols=symbols,
        widened=len(wide),
    )


def _widened(con: duckdb.DuckDBPyConnection, listing: Listing) -> tuple[pd.DataFrame, list[str]]:
    """The symbols that get rows outside the range too, each with the dates known of it.

    Those that the archive widened. And of the known symbols that have no folder any more, and so
    no file on any date, those that share their name with a widened one, or that lack rows. The
    second part of the answer are symbols without any row: earlier versions noted what a refused
    or failed run had seen.
    """
    dates = dict.fromkeys(sorted(listing.widened), (listing.widened_start, listing.widened_end))
    known = {row[0] for row in con.execute("SELECT symbol FROM symbols").fetchall()}
    never_written = []
    if gone := sorted(known.difference(listing.symbols)):
        stems = {unsettled(name) for name in dates}
        counted = con.execute(
            """SELECT s.symbol, count(d.date), (SELECT count(*) FROM probes)
            FROM symbols s LEFT JOIN daily_availability d USING (symbol)
            WHERE list_contains(?, s.symbol) GROUP BY s.symbol ORDER BY s.symbol""",
            [gone],
        ).fetchall()
        for name, rows, probes in counted:
            if not rows:
                never_written.append(name)
            elif rows < probes or unsettled(name) in stems:
                dates[name] = (dt.date.min, dt.date.max)
    frame = pd.DataFrame(
        [(name, str(first), str(last)) for name, (first, last) in dates.items()],
        columns=["symbol", "first", "last"],
        dtype="str",
    )
    return frame, never_written


def _look(con: duckdb.DuckDBPyConnection, listing: Listing) -> int:
    """Make `looked`: what was seen, one row for each cell to write. Counts the known symbols."""
    # Outside the range only dates that were probed: a file alone says nothing of other symbols.
    con.execute(
        """CREATE TEMP TABLE looked AS
        SELECT c.date, c.symbol, f.symbol IS NOT NULL AS available,
            f.file_size_bytes, f.last_modified
        FROM (
            SELECT d.date, s.symbol
            FROM (SELECT unnest(generate_series($start::DATE, $end::DATE, INTERVAL 1 DAY))::DATE
                AS date) d
            CROSS JOIN (SELECT symbol FROM symbols) s
            UNION ALL
            SELECT p.date, w.symbol FROM wide w JOIN probes p
                ON p.date BETWEEN w.first::DATE AND w.last::DATE
            WHERE p.date NOT BETWEEN $start AND $end) c
        LEFT JOIN (SELECT date::DATE AS date, symbol::VARCHAR AS symbol,
                          file_size_bytes, last_modified FROM listed) f
          ON f.date = c.date AND f.symbol = c.symbol""",
        {"start": listing.start, "end": listing.end},
    )
    [(known, outside, files)] = con.execute(
        """SELECT (SELECT count(*) FROM symbols),
            (SELECT count(*) FROM wide w JOIN probes p
                ON p.date BETWEEN w.first::DATE AND w.last::DATE
             WHERE p.date NOT BETWEEN $start AND $end),
            (SELECT count(*) FROM listed WHERE date BETWEEN $start AND $end
                OR date::DATE IN (SELECT date FROM probes)
                OR (date NOT BETWEEN $first AND $last)
                OR symbol::VARCHAR NOT IN (SELECT symbol FROM wide))""",
        {
            "start": listing.start,
            "end": listing.end,
            "first": listing.widened_start or listing.start,
            "last": listing.widened_end or listing.end,
        },
    ).fetchall()
    [(rows, available)] = con.execute(
        "SELECT count(*), count(*) FILTER (available) FROM looked"
    ).fetchall()
    dates = (listing.end - listing.start).days + 1
    if rows != known * dates + outside or available != files:
        raise ValueError(
            f"the listing of {listing.start} to {listing.end} names a file twice, or one outside "
            f"its own dates and symbols ({len(listing.files)} files); nothing was written"
        )
    return int(known)


def _write_revisions(
    con: duckdb.DuckDBPyConnection,
    span: list[dt.date],
    rows_before: str,
    probed_at: dt.datetime,
    run_id: str,
) -> dict[str, int]:
    # Only dates with an earlier probe. A symbol without a row on such a date had no folder then,
    # which is an absence too: its file appeared (files move to a new `...SETTLED` folder so).
    con.execute(
        f"""CREATE TEMP TABLE changed AS
        SELECT n.date, n.symbol, CASE
                WHEN o.available AND NOT n.available THEN 'vanished'
                WHEN o.available THEN 'replaced' ELSE 'appeared' END AS change,
            o.file_size_bytes AS old_size, n.file_size_bytes AS new_size,
            o.last_modified AS old_time, n.last_modified AS new_time
        FROM looked n
        JOIN probes p ON p.date = n.date
        LEFT JOIN (FROM daily_availability WHERE {rows_before}) o
          ON o.date = n.date AND o.symbol = n.symbol
        WHERE coalesce(o.available, false) <> n.available
           OR o.available AND (o.file_size_bytes IS DISTINCT FROM n.file_size_bytes
                               OR o.last_modified IS DISTINCT FROM n.last_modified)""",  # noqa: S608
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


def _replace_rows(
    con: duckdb.DuckDBPyConnection, span: list[dt.date], probed_at: dt.datetime, *, outside: bool
) -> None:
    con.execute("DELETE FROM daily_availability WHERE date BETWEEN ? AND ?", span)
    if outside:
        con.execute(
            """DELETE FROM daily_availability d USING looked l
            WHERE l.date NOT BETWEEN ? AND ? AND d.date = l.date AND d.symbol = l.symbol""",
            span,
        )
    # Months of symbols: one symbol's rows stand in runs of thirty, so a timeline unpacks two
    # vectors a month instead of fifteen (10 ms instead of 20), and a date still lies within
    # one or two row groups. 0.8 MB more than by date alone.
    con.execute(
        """INSERT INTO daily_availability
        SELECT date, symbol, available, file_size_bytes, last_modified, ?
        FROM looked ORDER BY date_trunc('month', date), symbol, date""",
        [probed_at],
    )


def _write_probes(
    con: duckdb.DuckDBPyConnection, span: list[dt.date], probed_at: dt.datetime, run_id: str
) -> None:
    con.execute("DELETE FROM probes WHERE date BETWEEN ? AND ?", span)
    con.execute(
        """INSERT INTO probes SELECT date, $at, count(*), count(*) FILTER (available), $run
        FROM looked WHERE date BETWEEN $start AND $end GROUP BY date ORDER BY date""",
        {"at": probed_at, "run": run_id, "start": span[0], "end": span[1]},
    )
    # Where only some symbols were probed again, the date's probe stays what it was; its counts
    # follow the rows.
    [(outside,)] = con.execute(
        "SELECT count(*) FROM looked WHERE date NOT BETWEEN ? AND ?", span
    ).fetchall()
    if outside:
        con.execute(
            """UPDATE probes p SET symbols = c.symbols, available = c.available
            FROM (SELECT date, count(*) AS symbols, count(*) FILTER (available) AS available
                FROM daily_availability GROUP BY date) c
            WHERE c.date = p.date AND p.date NOT BETWEEN ? AND ?""",
            span,
        )


def _upsert_symbols(
    con: duckdb.DuckDBPyConnection, seen_at: dt.datetime, never_written: list[str]
) -> None:
    con.execute("DELETE FROM symbols WHERE list_contains(?, symbol)", [never_written])
    # A time later than every written probe was noted by one that failed, maybe by a wrong clock.
    con.execute(
        """UPDATE symbols SET first_seen = least(first_seen, newest),
            last_seen = least(last_seen, newest)
        FROM (SELECT max(probed_at) AS newest FROM probes)
        WHERE last_seen > newest OR first_seen > newest"""
    )
    con.execute(
        """UPDATE symbols SET last_seen = $at, first_seen = least(first_seen, $at)
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


MIN_FILES = 20
"""Fewer recorded files than this say nothing about an archive that shrank."""

MIN_SYMBOLS = 2
"""The same of symbols: a folder stays when its contract ends, so already two are telling."""


def refuse_past(
    con: duckdb.DuckDBPyConnection, listing: Listing, now: dt.datetime, rows: str
) -> None:
    """Refuse a probe older than what it would replace; `rows` is the SQL condition of that.

    Or older than the probe of a date outside its range to which it would add a newly seen symbol:
    that row would be pending where the date's others are confirmed. Those symbols are in the frame
    registered as `wide`.
    """
    [(last,)] = con.execute(
        f"""SELECT greatest(
            (SELECT max(probe_timestamp) FROM daily_availability WHERE {rows}),
            (SELECT max(p.probed_at) FROM probes p
                JOIN wide w ON p.date BETWEEN w.first::DATE AND w.last::DATE))""",  # noqa: S608
        [listing.start, listing.end],
    ).fetchall()
    if last is not None and last > now:
        raise ClockWentBackError(
            f"the clock says {now:%Y-%m-%d %H:%M:%S} UTC, but {where(con)} has a probe of these "
            f"dates of {last:%Y-%m-%d %H:%M:%S} UTC; set the clock right, or run it again if "
            "another run wrote meanwhile; nothing was written"
        )


def refuse_skew(
    con: duckdb.DuckDBPyConnection, listing: Listing, now: dt.datetime, allowed_minutes: int
) -> None:
    """Refuse a clock that is far from the archive's; 0 minutes switches this off."""
    if not allowed_minutes or listing.server_time is None:
        return
    off = (now - listing.server_time).total_seconds() / 60
    if abs(off) > allowed_minutes:
        raise ClockSkewError(
            f"the clock is {abs(off):.0f} minutes {'ahead of' if off > 0 else 'behind'} the "
            f"archive's (at most {allowed_minutes}); set it right or change "
            f"AVAILABILITY_MAX_CLOCK_SKEW_MINUTES, nothing was written to {where(con)}"
        )


def refuse_shrunken(con: duckdb.DuckDBPyConnection, listing: Listing, share: float) -> None:
    """Refuse a listing with less than `share` of the recorded symbols or files.

    The symbols are those that the last written probe listed, not all that were ever known: once
    a smaller archive was accepted, it is what later probes are compared with.

    Reads the frames registered as `listed` and `seen`.
    """
    [(known, seen)] = con.execute(
        """SELECT count(*), count(*) FILTER (symbol IN (SELECT symbol FROM seen)) FROM symbols
        WHERE last_seen = ?""",
        [last_probe(con)],
    ).fetchall()
    [(stored, still)] = con.execute(
        """SELECT count(*), count(f.symbol) FROM daily_availability d
        LEFT JOIN (SELECT date::DATE AS date, symbol::VARCHAR AS symbol FROM listed) f
          ON f.date = d.date AND f.symbol = d.symbol
        WHERE d.available AND d.date BETWEEN ? AND ?""",
        [listing.start, listing.end],
    ).fetchall()
    for what, recorded, listed, least in (
        ("symbols of the last probe", known, seen, MIN_SYMBOLS),
        (f"files of {listing.start} to {listing.end}", stored, still, MIN_FILES),
    ):
        if recorded >= least and listed < share * recorded:
            [(first, last)] = con.execute("SELECT min(date), max(date) FROM probes").fetchall()
            # All dates: accepted for some, the next look-back over others would be refused again.
            raise ShrunkenArchiveError(
                f"the archive lists {listed} of the {recorded} {what} recorded in {where(con)}; "
                "nothing was written. Check AVAILABILITY_S3_ENDPOINT and AVAILABILITY_S3_BUCKET; "
                "if the archive is right, accept it for all dates: "
                f"`{PROGRAM} backfill --start {min(first, listing.start)} "
                f"--end {max(last, listing.end)} --accept-shrunken`"
            )


def last_probe(con: duckdb.DuckDBPyConnection) -> dt.datetime | None:
    """When the probe that was written last began: the `last_seen` of the symbols it listed."""
    noted = get_meta(con, "last_probe")
    if noted is not None:
        return dt.datetime.fromisoformat(noted)
    # A record from before it was noted: probes were hardly ever written in another order.
    [(newest,)] = con.execute("SELECT max(probed_at) FROM probes").fetchall()
    return newest  # type: ignore[no-any-return]
