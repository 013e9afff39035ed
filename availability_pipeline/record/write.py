"""List the archive and write the difference: every write of rows, and what refuses one.

A wrong clock would date facts wrongly for ever, and call absent what is only pending. An empty or
truncated mirror would turn 740,000 files into absences, and each symbol into an ended one. Both are
refused before anything is written.
"""

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from availability_pipeline import PROGRAM
from availability_pipeline.archive.datasets import (
    UM_KLINES_1M,
    Dataset,
    configured,
    unsettled,
)
from availability_pipeline.archive.listing import (
    ETAG_SQL,
    NOTHING_RECORDED,
    Archive,
    Folders,
    Listing,
    NotInArchiveError,
    Progress,
    Recorded,
)
from availability_pipeline.dates import aware
from availability_pipeline.errors import (
    ClockSkewError,
    ClockWentBackError,
    MissingDatabaseError,
    RefusedProbeError,
    ShrunkenArchiveError,
)
from availability_pipeline.record import derived
from availability_pipeline.record.connection import migrate, reader, writer
from availability_pipeline.record.schema import (
    FIRST_DATASET,
    SETTLE_DAYS,
    get_meta,
    set_meta,
    transaction,
    where,
)
from availability_pipeline.record.status import Scope, parts, scope
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
    dataset: Dataset = UM_KLINES_1M,
    folders: Folders | None = None,
    ended_too: bool = True,
) -> Update:
    """Bring the periods from `start` to `end` up to date: list the archive, then write at once.

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
        dataset: which.
        folders: its symbols, where they have been listed already.
        ended_too: list the symbols that ended long ago, too (`derived.ended`). A probe that does
            not says nothing of them: it costs a request less for each.

    Raises:
        ArchiveError: the archive could not be listed wholly.
        StoreError: as one of its subclasses; see `errors`.
    """
    known, empty = NOTHING_RECORDED, True
    leave_out: frozenset[str] = frozenset()
    with suppress(MissingDatabaseError):
        migrate(path, settings.db_wait_seconds)
        with reader(path, settings.db_wait_seconds) as con:
            leave_out = frozenset() if ended_too else derived.ended(con, dataset)
            known = recorded(con, dataset, leave_out)
            empty = not con.execute("FROM probes LIMIT 1").fetchall()
    if empty:
        if_nothing_recorded()
    listing = archive.list_range(
        start, end, progress, known, dataset=dataset, folders=folders, leave_out=leave_out
    )
    if not listing.in_archive:
        raise NotInArchiveError(f"{listing.dataset} is not in the archive; nothing was written")
    with writer(path, settings.db_wait_seconds) as con:
        before = scope(con, listing.dataset)
        con.execute(f"CREATE TEMP TABLE summary_before AS FROM {before.summary}")
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
        _make_default(con, configured(settings)[0])
        t = scope(con, listing.dataset)
        found = con.execute(
            f"""WITH revised AS (
                SELECT date, count(*) FILTER (change = 'appeared') AS appeared,
                    count(*) FILTER (change = 'replaced') AS replaced,
                    count(*) FILTER (change = 'touched') AS touched,
                    count(*) FILTER (change = 'vanished') AS vanished
                FROM {t.revisions} WHERE run_id = $1 AND observed_at = $4 GROUP BY date),
            -- A newly known symbol is absent on all dates: no news of any of them.
            differs AS (SELECT * EXCLUDE (symbols_probed, absent) FROM {t.summary}
                EXCEPT SELECT * EXCLUDE (symbols_probed, absent) FROM summary_before)
            SELECT s.*, coalesce(appeared, 0) AS appeared, coalesce(replaced, 0) AS replaced,
                coalesce(touched, 0) AS touched, coalesce(vanished, 0) AS vanished,
                r.date IS NOT NULL OR s.date IN (SELECT date FROM differs) AS changed
            FROM {t.summary} s LEFT JOIN revised r USING (date)
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


CHANGES = ("appeared", "replaced", "touched", "vanished")
"""What can have happened to a file since it was probed before."""


def summed(
    con: duckdb.DuckDBPyConnection,
    datasets: Sequence[Dataset],
    start: dt.date,
    end: dt.date,
    also: Collection[dt.date] = (),
) -> list[dict[str, Any]]:
    """The numbers of `daily_summary` of several datasets, added up, one dict a period.

    A publication lag is of one dataset, so it is None.

    Args:
        con: an open record.
        datasets: of the same frequency.
        start: first period.
        end: last period.
        also: further periods.
    """
    rows = con.execute(
        """SELECT period AS date, sum(symbols_probed)::BIGINT AS symbols_probed,
            sum(expected)::BIGINT AS expected, sum(available)::BIGINT AS available,
            sum(pending)::BIGINT AS pending, sum(absent)::BIGINT AS absent,
            CASE WHEN bool_and(new_listings IS NOT NULL) THEN sum(new_listings)::BIGINT END
                AS new_listings,
            CASE WHEN bool_and(ended IS NOT NULL) THEN sum(ended)::BIGINT END AS ended,
            sum(bytes)::BIGINT AS bytes, NULL AS lag_p50_hours, NULL AS lag_p95_hours
        FROM daily_summary
        WHERE list_contains($datasets, dataset)
            AND (period BETWEEN $start AND $end OR list_contains($also, period))
        GROUP BY period ORDER BY period""",
        {
            "datasets": [scope(con, dataset).id for dataset in datasets],
            "start": start,
            "end": end,
            "also": sorted(also),
        },
    )
    names = [column[0] for column in rows.description or ()]
    return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def _make_default(con: duckdb.DuckDBPyConnection, dataset: Dataset) -> None:
    """Have questions, and the view of version 1, be about a dataset, once it is recorded."""
    number = scope(con, dataset).id
    if number >= 0 and get_meta(con, FIRST_DATASET) != str(number):
        set_meta(con, FIRST_DATASET, str(number))


@dataclass(frozen=True)
class WriteResult:
    """What one probe found: dates times symbols of its range by status, and revisions by change.

    `widened` counts the symbols that were probed on all recorded dates.
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


def recorded(
    con: duckdb.DuckDBPyConnection,
    dataset: Dataset = UM_KLINES_1M,
    leave_out: Collection[str] = (),
) -> Recorded:
    """What an archive needs to know of the record before it lists.

    A symbol that was left out needs all dates when it is listed again; those of `leave_out` are
    not to be listed this time either.
    """
    t = scope(con, dataset)
    [(first, last)] = con.execute(f"SELECT min(date), max(date) FROM {t.probes}").fetchall()
    rows = con.execute(
        f"SELECT symbol, left_out_at IS NULL FROM {t.symbols} WHERE whole_at IS NOT NULL"
    ).fetchall()
    known = frozenset(name for name, listed in rows if listed or name in leave_out)
    return Recorded(known, first, last)


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
    """Write how a whole listing differs from the record, in one transaction.

    From then on every known symbol was probed on each date of the listing, and a widened one on
    each date that was ever probed; of one that was left out nothing is said. What differs from an
    earlier probe becomes a revision too; a first probe of a date has none. Dates that were never
    probed stay unknown, also where a widened listing saw a file. What is derived follows in the
    same transaction.

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
        RefusedProbeError: a symbol was left out that has not ended.
        ClockWentBackError: some of these dates were probed later than `probed_at`, or any while
            symbols are left out for the first time.
        ClockSkewError: `probed_at` is far from the archive's clock.
        ShrunkenArchiveError: far less is listed than is recorded.
    """
    probed_at, dataset = aware(probed_at), listing.dataset
    span = [listing.start, listing.end]
    _bound_memory(con, len(listing.files))
    refuse_skew(con, listing, probed_at, max_clock_skew_minutes)
    wide = _widened(con, scope(con, dataset), listing)
    unlisted = _unlisted(con, scope(con, dataset), listing, wide, probed_at)
    with (
        _registered(con, "listed", listing.files),
        _registered(con, "seen", _classified(listing)),
        _registered(con, "wide", _frame(wide)),
        _registered(con, "unlisted", _frame(unlisted)),
        transaction(con),
    ):
        t = _opened(con, dataset, settle_days)
        refuse_past(con, t, listing, probed_at)
        if listing.left_out:
            refuse_live(con, t, listing)
        if not accept_shrunken:
            refuse_shrunken(con, t, listing, min_listed_share)
        _look(con, t, listing)
        changes = _write_files(con, t, span, probed_at, run_id)
        widened = _write_probes(con, t, span, probed_at, run_id)
        derived.refresh(con, dataset)
        [(rows, available, pending, absent, symbols)] = con.execute(
            f"""SELECT sum(symbols_probed)::BIGINT, sum(available)::BIGINT, sum(pending)::BIGINT,
                sum(absent)::BIGINT, (SELECT count(*) FROM {t.symbols})
            FROM {t.summary} WHERE date BETWEEN ? AND ?""",
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
        widened=widened,
    )


WRITE_MEMORY_MB = 500
"""What DuckDB may take of a write's memory, and 20 bytes a file; more is put on the disk."""

WRITE_THREADS = 4
"""More want more memory than that, for little: a reconcile of 750,000 files takes half a second."""


def _bound_memory(con: duckdb.DuckDBPyConnection, listed: int) -> None:
    """Have DuckDB use the disk for what a large dataset takes to compare and sort.

    Without it ten million files took 3.4 GB beside their listing, and with it 0.8 GB and 25 to 41 %
    more CPU. The bytes a file are for the summary's quantiles, which alone must be in memory.
    """
    con.execute(f"SET memory_limit = '{WRITE_MEMORY_MB + listed * 20 // 1_000_000}MB'")
    [(threads,)] = con.execute("SELECT current_setting('threads')").fetchall()
    con.execute(f"SET threads = {min(threads, WRITE_THREADS)}")


def _opened(con: duckdb.DuckDBPyConnection, dataset: Dataset, settle_days: int | None) -> Scope:
    """The dataset's tables; it gets its row on its first probe, and the settling time of this one.

    The first dataset of a record is its default, until another one is configured as the first.
    """
    number = scope(con, dataset).id
    if number < 0:
        [(number,)] = con.execute("SELECT coalesce(max(id), 0) + 1 FROM datasets").fetchall()
        con.execute(
            """INSERT INTO datasets BY NAME SELECT $id AS id, $market AS market,
                $frequency AS frequency, $data_type AS data_type, $interval AS interval,
                $settle AS settle_days""",
            {"id": number, "settle": dataset.settle_days(SETTLE_DAYS)} | parts(dataset),
        )
        if get_meta(con, FIRST_DATASET) is None:
            set_meta(con, FIRST_DATASET, str(number))
    if settle_days is not None:
        con.execute(
            "UPDATE datasets SET settle_days = $1 WHERE id = $2 AND settle_days <> $1",
            [dataset.settle_days(settle_days), number],
        )
    return scope(con, dataset)


def _widened(con: duckdb.DuckDBPyConnection, t: Scope, listing: Listing) -> list[str]:
    """The symbols that were probed on all recorded dates, not only on those of the range.

    None where the range is all of them. Else those that the archive widened, unless another writer
    has added dates since that it was not told of: the next probe lists them again. And of the known
    symbols that have no folder any more, and so no file on any date, those that share their name
    with a widened one, or that were not probed on all dates yet, or left out since.
    """
    [(first, last)] = con.execute(f"SELECT min(date), max(date) FROM {t.probes}").fetchall()
    names: list[str] = []
    if first is None or (listing.start <= first and listing.end >= last):
        return names
    if listing.widened and listing.widened_start and listing.widened_end:
        low = min(listing.widened_start, listing.start)
        high = max(listing.widened_end, listing.end)
        if low <= first and high >= last:
            names = sorted(listing.widened)
    stems = {unsettled(name) for name in names}
    known = con.execute(
        f"""SELECT symbol, whole_at IS NOT NULL AND left_out_at IS NULL
        FROM {t.symbols} ORDER BY symbol"""
    ).fetchall()
    here = frozenset(listing.symbols)
    names += [
        name
        for name, whole in known
        if name not in here and (not whole or unsettled(name) in stems)
    ]
    return names


def _unlisted(
    con: duckdb.DuckDBPyConnection, t: Scope, listing: Listing, wide: list[str], at: dt.datetime
) -> list[str]:
    """The symbols with a folder of which this probe says nothing.

    Those that were left out, and those that were left out before and are listed on a part of the
    dates only, because another writer added dates or left them out meanwhile: the next probe lists
    them over all.
    """
    names = set(listing.left_out)
    if (
        not names.issubset(listing.symbols)
        or not names.isdisjoint(listing.widened)
        or (names and listing.files["symbol"].isin(names).any())
    ):
        raise ValueError("the listing names symbols that it left out; nothing was written")
    rows = con.execute(
        f"""SELECT symbol FROM {t.symbols} WHERE left_out_at <= $at
        AND EXISTS (FROM {t.probes} WHERE date NOT BETWEEN $start AND $end)""",
        {"at": at, "start": listing.start, "end": listing.end},
    ).fetchall()
    names |= {name for (name,) in rows}.intersection(listing.symbols).difference(wide)
    return sorted(names)


def _frame(symbols: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"symbol": pd.Series(symbols, dtype="str")})


def _listed_only(con: duckdb.DuckDBPyConnection, column: str = "symbol") -> str:
    """SQL that restricts `column` to symbols of which the probe says something, after a condition.

    Empty where it says something of all: then nothing is paid for it.
    """
    [(some,)] = con.execute("SELECT count(*) FROM unlisted").fetchall()
    return f" AND {column} NOT IN (SELECT symbol FROM unlisted)" if some else ""


def _look(con: duckdb.DuckDBPyConnection, t: Scope, listing: Listing) -> None:
    """Make `looked`: the files that count, of the range and, of widened symbols, of probed dates.

    On dates that were never probed a file alone would say nothing of the other symbols.
    """
    span = {"start": listing.start, "end": listing.end}
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE looked AS
        SELECT date::DATE AS date, symbol::VARCHAR AS symbol, file_size_bytes, last_modified,
            {ETAG_SQL} AS etag
        FROM listed
        WHERE (date::DATE BETWEEN $start AND $end OR symbol::VARCHAR IN (SELECT symbol FROM wide)
            AND date::DATE IN (SELECT date FROM {t.probes}))
            {_listed_only(con, "symbol::VARCHAR")}""",
        span,
    )
    [(strange,)] = con.execute(
        """SELECT (SELECT count(*) FROM listed
                WHERE symbol::VARCHAR NOT IN (SELECT symbol FROM seen)
                    OR date::DATE NOT BETWEEN $start AND $end
                        AND (NOT list_contains($widened, symbol::VARCHAR)
                            OR date::DATE NOT BETWEEN $first AND $last))
            + (SELECT count(*) FROM looked)
            - (SELECT count(*) FROM (SELECT DISTINCT date, symbol FROM looked))""",
        span
        | {
            "widened": sorted(listing.widened),
            "first": listing.widened_start or listing.start,
            "last": listing.widened_end or listing.end,
        },
    ).fetchall()
    if strange:
        raise ValueError(
            f"the listing of {listing.start} to {listing.end} names a file twice, or one outside "
            f"its own dates and symbols ({len(listing.files)} files); nothing was written"
        )


def _write_files(
    con: duckdb.DuckDBPyConnection,
    t: Scope,
    span: list[dt.date],
    probed_at: dt.datetime,
    run_id: str,
) -> dict[str, int]:
    """Write what differs from the files of before, and each difference as a revision.

    A revision needs an earlier probe of its date: a first probe has none. A symbol that was not
    known on such a date had no folder then, which is an absence too: its file appeared (files move
    to a new `...SETTLED` folder so). Where either side has no ETag, as all of an earlier version,
    another time is taken for another content.
    """
    range_before = "date BETWEEN ? AND ?"
    [(wide,)] = con.execute("SELECT count(*) FROM wide").fetchall()
    if wide:  # otherwise DuckDB need not read any other date: half of a day's write
        range_before += " OR symbol IN (SELECT symbol FROM wide)"
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE changed AS
        SELECT coalesce(n.date, o.date) AS date, coalesce(n.symbol, o.symbol) AS symbol,
            CASE WHEN n.symbol IS NULL THEN 'vanished'
                WHEN o.symbol IS NULL THEN 'appeared'
                WHEN o.file_size_bytes = n.file_size_bytes AND o.etag = n.etag
                    AND o.last_modified <> n.last_modified THEN 'touched'
                WHEN o.file_size_bytes <> n.file_size_bytes OR o.etag <> n.etag
                    OR o.last_modified <> n.last_modified THEN 'replaced'
            END AS change,
            o.file_size_bytes AS old_size, n.file_size_bytes AS new_size,
            o.last_modified AS old_time, n.last_modified AS new_time,
            o.etag AS old_etag, coalesce(n.etag, CASE WHEN o.file_size_bytes = n.file_size_bytes
                AND o.last_modified = n.last_modified THEN o.etag END) AS new_etag,
            o.recorded_at
        FROM (FROM {t.files} WHERE ({range_before}){_listed_only(con)}) o
        FULL JOIN looked n ON n.date = o.date AND n.symbol = o.symbol
        WHERE change IS NOT NULL OR o.etag IS NULL AND n.etag IS NOT NULL""",
        span,
    )
    con.execute("DROP TABLE looked")
    con.execute(
        f"""INSERT INTO revisions SELECT {t.id}, date, symbol, $at, change, old_size, new_size,
            old_time, new_time, old_etag, new_etag, $run
        FROM changed WHERE change IS NOT NULL AND date IN (SELECT date FROM {t.probes})
        ORDER BY date, symbol""",
        {"at": probed_at, "run": run_id},
    )
    rows = con.execute(
        f"""SELECT change, count(*) FROM changed
        WHERE change IS NOT NULL AND date IN (SELECT date FROM {t.probes}) GROUP BY change"""
    ).fetchall()
    con.execute(
        f"""DELETE FROM files f USING changed c
        WHERE f.dataset = {t.id} AND f.period = c.date AND f.symbol = c.symbol
            AND c.old_size IS NOT NULL"""
    )
    # Months of symbols: one symbol's files stand in runs of thirty, so a timeline unpacks two
    # vectors a month instead of fifteen, and a date still lies within one or two row groups.
    con.execute(
        f"""INSERT INTO files SELECT {t.id}, date, symbol, new_size, new_time, new_etag,
            CASE WHEN change IS NULL THEN recorded_at ELSE $at END
        FROM changed WHERE new_size IS NOT NULL
        ORDER BY date_trunc('month', date), symbol, date""",
        {"at": probed_at},
    )
    con.execute("DROP TABLE changed")
    return dict(rows)


def _write_probes(
    con: duckdb.DuckDBPyConnection,
    t: Scope,
    span: list[dt.date],
    probed_at: dt.datetime,
    run_id: str,
) -> int:
    """Write which dates and symbols were probed; how many symbols were on other dates too."""
    at = {"at": probed_at, "id": t.id}
    con.execute(
        "UPDATE symbols SET last_seen = $at, first_seen = least(first_seen, $at) "
        "WHERE dataset = $id AND symbol IN (SELECT symbol FROM seen)",
        at,
    )
    con.execute(
        """INSERT INTO symbols SELECT $id, *, $at, $at, NULL, NULL, NULL FROM seen
        WHERE symbol NOT IN (SELECT symbol FROM symbols WHERE dataset = $id) ORDER BY symbol""",
        at,
    )
    ranged = at | {"start": span[0], "end": span[1]}
    _write_left_out(con, t, span, probed_at)
    # Of a date's earlier probes those stay that are the last one of a symbol left out since.
    con.execute(
        f"""DELETE FROM probes WHERE dataset = $id
            AND (period BETWEEN $start AND $end OR replaced_at IS NOT NULL)
            AND NOT EXISTS (FROM {t.symbols} s WHERE s.left_out_at > probes.probed_at
                AND s.left_out_at <= coalesce(probes.replaced_at, $at))""",
        ranged,
    )
    con.execute(
        """UPDATE probes SET replaced_at = $at
        WHERE dataset = $id AND period BETWEEN $start AND $end AND replaced_at IS NULL""",
        ranged,
    )
    con.execute(
        f"""INSERT INTO probes
        SELECT $id, date, $at, (SELECT count(*) FROM {t.symbols}), count(f.symbol), $run, NULL
        FROM (SELECT unnest($periods)::DATE AS date) d
            LEFT JOIN (FROM {t.files} WHERE date BETWEEN $start AND $end{_listed_only(con)}) f
                USING (date)
        GROUP BY date ORDER BY date""",
        ranged | {"run": run_id, "periods": t.dataset.periods(*span)},
    )
    con.execute(
        """INSERT INTO probe_ranges
        VALUES ($id, NULL, $start, $end, $at, EXISTS (FROM unlisted))""",
        ranged,
    )
    con.execute(
        "UPDATE symbols SET whole_at = coalesce(whole_at, $at), listed_at = $at "
        "WHERE dataset = $id AND symbol IN (SELECT symbol FROM wide)",
        at,
    )
    # A range that is all there is by now was enough for everybody in it.
    con.execute(
        f"""UPDATE symbols SET whole_at = $at
        WHERE dataset = $id AND whole_at IS NULL{_listed_only(con)}
            AND NOT EXISTS (FROM {t.probes} WHERE date NOT BETWEEN $start AND $end)""",
        ranged,
    )
    con.execute(
        f"""INSERT INTO probe_ranges
        SELECT $id, symbol, first, last, $at, false FROM wide,
            (SELECT min(date) AS first, max(date) AS last FROM {t.probes}) ORDER BY symbol""",
        at,
    )
    [(widened,)] = con.execute("SELECT count(*) FROM wide").fetchall()
    con.execute("UPDATE datasets SET last_probe = $at WHERE id = $id", at)
    return int(widened)


def _write_left_out(
    con: duckdb.DuckDBPyConnection, t: Scope, span: list[dt.date], probed_at: dt.datetime
) -> None:
    """Write who was left out by this probe, and who was listed again, over all dates.

    The same symbols are left out of every probe but those of all, so `left_out` has one row for
    each, not one for each probe: with the probes that left symbols out (`probe_ranges`) it tells
    who was left out at any moment.
    """
    con.execute(
        f"""UPDATE symbols SET left_out_at = NULL
        WHERE dataset = $id AND left_out_at IS NOT NULL AND (symbol IN (SELECT symbol FROM wide)
            OR NOT EXISTS (FROM {t.probes} WHERE date NOT BETWEEN $start AND $end)
                AND symbol NOT IN (SELECT symbol FROM unlisted))""",
        {"id": t.id, "start": span[0], "end": span[1]},
    )
    if not _listed_only(con):
        return
    at = {"at": probed_at, "id": t.id}
    con.execute(
        """UPDATE symbols SET left_out_at = $at
        WHERE dataset = $id AND left_out_at IS NULL AND symbol IN (SELECT symbol FROM unlisted)""",
        at,
    )
    con.execute(
        """UPDATE left_out SET until = $at
        WHERE dataset = $id AND until IS NULL AND symbol NOT IN (SELECT symbol FROM unlisted)""",
        at,
    )
    con.execute(
        """INSERT INTO left_out SELECT $id, symbol, $at, NULL FROM unlisted WHERE symbol NOT IN (
            SELECT symbol FROM left_out WHERE dataset = $id AND until IS NULL) ORDER BY symbol""",
        at,
    )


def _classified(listing: Listing) -> pd.DataFrame:
    contracts = [listing.dataset.classify(symbol) for symbol in listing.symbols]
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
    con: duckdb.DuckDBPyConnection, t: Scope, listing: Listing, now: dt.datetime
) -> None:
    """Refuse a probe older than what it would replace.

    Or older than the probe of a date outside its range on which it would add a newly seen symbol:
    that one would be pending where the date's others are confirmed. Those symbols are in the frame
    registered as `wide`. Or than any probe, where it is the first that leaves a symbol out
    (`unlisted`): what listed it since would count for nothing.
    """
    [(last, newest, first)] = con.execute(
        f"""SELECT greatest(
            (SELECT max(probed_at) FROM {t.probes}
             WHERE date BETWEEN $start AND $end OR EXISTS (FROM wide)),
            (SELECT max(listed_at) FROM {t.symbols})),
            (SELECT max(probed_at) FROM {t.probes}),
            EXISTS (FROM {t.symbols} WHERE symbol IN (SELECT symbol FROM unlisted)
                AND coalesce(left_out_at > $now, true))""",
        {"start": listing.start, "end": listing.end, "now": now},
    ).fetchall()
    first = first and newest is not None and newest >= now
    if first or (last is not None and last > now):
        last = newest if first else last
        raise ClockWentBackError(
            f"the clock says {now:%Y-%m-%d %H:%M:%S} UTC, but {where(con)} has a probe of these "
            f"dates of {last:%Y-%m-%d %H:%M:%S} UTC; set the clock right, or run it again if "
            "another run wrote meanwhile; nothing was written"
        )


def refuse_live(con: duckdb.DuckDBPyConnection, t: Scope, listing: Listing) -> None:
    """Refuse a listing without a symbol that publishes: its files would be missed unseen.

    Another run found a file of it since this one asked who has ended.
    """
    names = con.execute(
        f"""SELECT symbol FROM (SELECT unnest($left_out) AS symbol)
        WHERE symbol NOT IN (SELECT symbol FROM {t.listings} WHERE {derived.delisted(t)})
        ORDER BY symbol LIMIT 3""",
        {"left_out": sorted(listing.left_out)},
    ).fetchall()
    if names:
        raise RefusedProbeError(
            f"{', '.join(name for (name,) in names)} did not end, by {where(con)}, but "
            f"{'was' if len(names) == 1 else 'were'} not listed; another run wrote meanwhile, "
            "run it again; nothing was written"
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


def refuse_shrunken(
    con: duckdb.DuckDBPyConnection, t: Scope, listing: Listing, share: float
) -> None:
    """Refuse a listing with less than `share` of the recorded symbols or files.

    The symbols are those that the last written probe listed, not all that were ever known: once
    a smaller archive was accepted, it is what later probes are compared with.

    Reads the frames registered as `listed` and `seen`.
    """
    [(known, seen)] = con.execute(
        f"""SELECT count(*), count(*) FILTER (symbol IN (SELECT symbol FROM seen))
        FROM {t.symbols} WHERE last_seen = (SELECT last_probe FROM datasets WHERE id = {t.id})"""
    ).fetchall()
    [(stored, still)] = con.execute(
        f"""SELECT count(*), count(f.symbol) FROM {t.files} d
        LEFT JOIN (SELECT date::DATE AS date, symbol::VARCHAR AS symbol FROM listed) f
          ON f.date = d.date AND f.symbol = d.symbol
        WHERE d.date BETWEEN ? AND ?{_listed_only(con, "d.symbol")}""",
        [listing.start, listing.end],
    ).fetchall()
    for what, recorded, listed, least in (
        ("symbols of the last probe", known, seen, MIN_SYMBOLS),
        (f"files of {listing.start} to {listing.end}", stored, still, MIN_FILES),
    ):
        if recorded >= least and listed < share * recorded:
            [(first, last)] = con.execute(f"SELECT min(date), max(date) FROM {t.probes}").fetchall()
            # All dates: accepted for some, the next look-back over others would be refused again.
            raise ShrunkenArchiveError(
                f"the archive lists {listed} of the {recorded} {what} recorded in {where(con)}; "
                "nothing was written. Check AVAILABILITY_S3_ENDPOINT and AVAILABILITY_S3_BUCKET; "
                "if the archive is right, accept it for all dates: "
                f"`{PROGRAM} backfill --start {min(first, listing.start)} "
                f"--end {max(last, listing.end)} --accept-shrunken`"
            )
