"""The questions people ask, each a function from a connection to rows or a frame.

Belongs here: SELECTs over the record. Does not belong here: writing, printing, Dagster, what an
answer is (`answers`). Source of all facts: the listings recorded by `store`; a date without rows
was never looked at, and asking for it raises instead of answering with nothing.

In a notebook, `open` is all it takes; it gives pandas frames:

    from availability_pipeline import queries
    record = queries.open()
    record.snapshot("2024-01-15")

With a connection (`store.reader`) the functions give `Rows`; `.frame()` makes the frame. Dates are
UTC dates (`datetime.date`), sizes bytes, instants aware UTC. `quote_asset` ("USDT") and
`contract_type` ("perpetual", "delivery", "settled", or several) restrict the symbols.
"""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from availability_pipeline import derived
from availability_pipeline.answers import (
    Connection,
    DateLike,
    NotProbedError,
    QueryError,
    Rows,
    UnknownSymbolError,
    as_date,
    as_range,
    ask,
    chosen,
    find_symbol,
    instant,
    only,
    remedy,
    require_any,
    require_probed,
    require_range_probed,
    say_unknown,
    settled_probes,
    unknown_dates,
)
from availability_pipeline.changes import changes, renames
from availability_pipeline.keys import FIRST_DATE, UM_KLINES_1M
from availability_pipeline.query_listings import (
    delistings,
    delistings_confirmed,
    listings,
    new_listings,
    summary,
)
from availability_pipeline.schema import settled_at
from availability_pipeline.universe import Universe, Unknown, universe, write_universe

if TYPE_CHECKING:
    from pathlib import Path

    from availability_pipeline.record import Record

__all__ = [
    "Connection",
    "DateLike",
    "NotProbedError",
    "QueryError",
    "Rows",
    "Universe",
    "Unknown",
    "UnknownSymbolError",
    "changes",
    "counts",
    "coverage",
    "delistings",
    "delistings_confirmed",
    "holes",
    "listings",
    "missing_dates",
    "new_listings",
    "open",
    "renames",
    "revisions",
    "snapshot",
    "summary",
    "symbols_in_range",
    "timeline",
    "universe",
    "write_universe",
]

Status = Literal["available", "pending", "absent"]


def open(db: "str | Path | None" = None) -> "Record":  # noqa: A001 - as in `zipfile.open`, `gzip.open`
    """The record for a notebook: its methods answer with pandas frames.

    Args:
        db: the DuckDB file; `AVAILABILITY_DB` when left out.

    Raises:
        SettingsError: an environment variable has a bad value.
    """
    from availability_pipeline.record import Record

    return Record(db)


def snapshot(
    con: Connection,
    date: DateLike,
    *,
    status: Status = "available",
    quote_asset: str | None = None,
    contract_type: str | Sequence[str] | None = None,
) -> Rows:
    """The files of one date, by symbol: symbol, file_size_bytes, last_modified (aware UTC).

    With `status` "pending" or "absent" the symbols without a file, the other columns None.

    Raises:
        NotProbedError: the date was never looked at.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    date = as_date(date)
    condition, args = only(con, quote_asset, contract_type)
    found = ask(
        con,
        f"""SELECT symbol, file_size_bytes, epoch_us(last_modified) AS last_modified
        FROM daily_availability WHERE date = $date AND available = $available{condition}
        ORDER BY symbol""",  # noqa: S608 - the condition has our own words only
        {"date": date, "available": status == "available"} | args,
    )
    if status != "available" and found.rows and status != _without_file(con, date):
        found = Rows(found.columns, [])
    if not found.rows:
        require_probed(con, date)
    return Rows(found.columns, [(*row[:2], instant(row[2])) for row in found.rows])


def counts(con: Connection, date: DateLike) -> dict[str, int]:
    """Symbols of one date by status: available, pending, absent.

    Raises:
        NotProbedError: the date was never looked at.
    """
    date = as_date(date)
    [(available, others)] = ask(
        con,
        """SELECT count(*) FILTER (available), count(*) FILTER (NOT available)
        FROM daily_availability WHERE date = ?""",
        [date],
    ).rows
    status = _without_file(con, date)  # raises for a date that was never looked at
    return {"available": available, "pending": 0, "absent": 0, status: others}


def timeline(
    con: Connection,
    symbol: str,
    start: DateLike | None = None,
    end: DateLike | None = None,
    *,
    status: str | None = None,
) -> Rows:
    """One symbol's dates: date, available, status, file_size_bytes, status_code.

    From `start` (default: its first row) to `end` (default: its last). Dates in between that were
    never looked at have status `unknown`, and None in the other columns. A symbol whose folder did
    not exist yet when a date was looked at was absent (or pending) then. `status` keeps only the
    dates with that one.

    Raises:
        UnknownSymbolError: no such symbol is recorded.
        ValueError: `end` is before `start`.
    """
    first = as_date(start) if start is not None else None
    last = as_date(end) if end is not None else None
    if first and last:
        as_range(first, last)
    found = _timeline(con, symbol, first, last)
    notes: tuple[str, ...] = ()
    if not found.rows:
        symbol, notes = find_symbol(con, symbol)
        found = _timeline(con, symbol, first, last)
    rows = _with_gaps(con, sorted(found.rows), first, last)
    if status is not None:
        rows = [row for row in rows if row[2] == status]
    return Rows(found.columns, rows, notes)


def _timeline(con: Connection, symbol: str, first: dt.date | None, last: dt.date | None) -> Rows:
    # Straight from the table and from the filtered rows on: the view's joins and addresses would
    # be made for every symbol (17 ms against 11).
    return ask(
        con,
        f"""SELECT d.date, available, CASE WHEN available THEN 'available'
            WHEN probe_timestamp < {settled_at("d.date")} THEN 'pending'
            ELSE 'absent' END AS status, file_size_bytes,
            CASE WHEN available THEN 200 ELSE 404 END AS status_code
        FROM daily_availability d WHERE symbol = $symbol
            AND d.date >= $first AND d.date <= $last""",  # noqa: S608
        {"symbol": symbol, "first": first or FIRST_DATE, "last": last or dt.date.max},
    )


def _with_gaps(
    con: Connection,
    rows: list[tuple[Any, ...]],
    first: dt.date | None,
    last: dt.date | None,
) -> list[tuple[Any, ...]]:
    """The rows (by date) with those dates put in that have none."""
    if not rows and (first is None or last is None):
        # None of its rows is in the range: the record's own ends are all there is.
        [(low, high)] = ask(con, "SELECT min(date), max(date) FROM probes").rows
        first, last = first or low, last or high
    first, last = first or rows[0][0], last or rows[-1][0]
    length = (last - first).days + 1
    if len(rows) == length:  # each date has one row at most
        return rows
    looked = ask(
        con,
        f"SELECT p.date, {settled_probes()} AS settled FROM probes p "  # noqa: S608
        "WHERE p.date BETWEEN ? AND ?",
        [first, last],
    )
    status = {True: "absent", False: "pending"}
    found = {day: (day, False, status[settled], None, 404) for day, settled in looked.rows}
    found |= {row[0]: row for row in rows}
    unknown = (None, "unknown", None, None)
    days = (first + dt.timedelta(n) for n in range(length))
    return [found.get(day) or (day, *unknown) for day in days]


def symbols_in_range(
    con: Connection,
    start: DateLike,
    end: DateLike,
    *,
    quote_asset: str | None = None,
    contract_type: str | Sequence[str] | None = None,
) -> list[str]:
    """Symbols with at least one file from `start` to `end` (both included), sorted.

    Raises:
        NotProbedError: a date of the range was never looked at: the list might be short.
        QueryError: no recorded symbol has that quote asset or contract type.
        ValueError: `end` is before `start`.
    """
    first, last = as_range(start, end)
    require_range_probed(con, first, last)
    condition, args = only(con, quote_asset, contract_type)
    found = ask(
        con,
        f"""SELECT DISTINCT symbol FROM daily_availability
        WHERE date BETWEEN $first AND $last AND available{condition} ORDER BY symbol""",  # noqa: S608
        {"first": first, "last": last} | args,
    )
    return found.column("symbol")


def holes(
    con: Connection,
    symbol: str | None = None,
    *,
    quote_asset: str | None = None,
    contract_type: str | Sequence[str] | None = None,
) -> Rows:
    """Confirmed absences strictly between a symbol's first and last file: symbol, date, url.

    Dates that are pending or were never looked at are no holes; a note counts the latter.

    Raises:
        UnknownSymbolError: `symbol` is not recorded.
        NotProbedError: no date at all was looked at.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    condition, args, notes = chosen(con, symbol, quote_asset, contract_type)
    relation = derived.listings_relation(con)
    # All that is needed of 1.9 million absences are those inside a window that has some, so the
    # windows are joined to the bare table: 17 ms against 300 through the view.
    windows = f"""SELECT symbol, first_available, last_available, hole_days FROM {relation}
        WHERE hole_days > 0{condition}"""  # noqa: S608
    found = ask(
        con,
        f"""SELECT d.symbol, d.date FROM daily_availability d JOIN ({windows}) w USING (symbol)
        WHERE NOT d.available AND d.date > w.first_available AND d.date < w.last_available
            AND d.date IN (SELECT p.date FROM probes p WHERE {settled_probes()})
        ORDER BY d.symbol, d.date""",  # noqa: S608
        args,
    ).rows
    expected = ask(con, f"SELECT sum(hole_days)::BIGINT FROM ({windows})", args).rows[0][0] or 0  # noqa: S608
    if expected != len(found):
        # Some date was looked at before the symbol had a folder, and later ones before that.
        found = ask(
            con,
            f"""SELECT w.symbol, p.date FROM ({windows}) w JOIN probes p
                ON p.date > w.first_available AND p.date < w.last_available
            ANTI JOIN (SELECT symbol, date FROM daily_availability WHERE available) a
                ON a.symbol = w.symbol AND a.date = p.date
            WHERE {settled_probes()} ORDER BY w.symbol, p.date""",  # noqa: S608
            args,
        ).rows
    if not found:
        require_any(con)
    rows = [(name, day, UM_KLINES_1M.url(name, day)) for name, day in found]
    return Rows(("symbol", "date", "url"), rows, (*notes, *_gaps_note(con)))


def _gaps_note(con: Connection) -> tuple[str, ...]:
    [(first, last, n)] = ask(con, "SELECT min(date), max(date), count(*) FROM probes").rows
    if first is None or (last - first).days + 1 == n:
        return ()
    gaps = unknown_dates(con, first, last)
    return (f"{say_unknown(gaps, first, last)}, so they may hold more holes; {remedy(gaps)}",)


def revisions(
    con: Connection,
    since: DateLike | None = None,
    *,
    symbol: str | None = None,
    quote_asset: str | None = None,
    contract_type: str | Sequence[str] | None = None,
) -> Rows:
    """Every revision of every file, oldest first; all columns of the `revisions` table.

    With those that came on the morning after, as nearly all do; `changes` has what is news.

    Raises:
        UnknownSymbolError: `symbol` is not recorded.
        NotProbedError: no date at all was looked at.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    condition, args, notes = chosen(con, symbol, quote_asset, contract_type)
    found = ask(
        con,
        f"""SELECT * FROM revisions
        WHERE observed_at >= $since{condition} ORDER BY observed_at, symbol, date""",  # noqa: S608
        {"since": as_date(since) if since is not None else dt.date(1970, 1, 1)} | args,
    )
    if not found.rows:
        require_any(con)
    return Rows(found.columns, found.rows, notes)


def missing_dates(con: Connection, start: DateLike, end: DateLike) -> list[dt.date]:
    """Dates from `start` to `end` (both included) without rows: unknown."""
    return unknown_dates(con, *as_range(start, end))


def coverage(con: Connection, today: dt.date) -> dict[str, Any]:
    """What is covered, for `status`: dates, counts, unknown dates up to yesterday.

    Keys: first_date, last_date, settled_to, dates, unknown_dates, symbols, available, pending,
    holes, last_probe (aware UTC). All None or 0 for an empty record.
    """
    [(first, last, dates, probed)] = ask(
        con, "SELECT min(date), max(date), count(*), max(probed_at) FROM probes"
    ).rows
    [(symbols,)] = ask(con, "SELECT count(*) FROM symbols").rows
    relation = derived.summary_relation(con)
    [(available, pending, first_pending)] = ask(
        con,
        f"""SELECT coalesce(sum(available), 0)::BIGINT, coalesce(sum(pending), 0)::BIGINT,
            min(date) FILTER (pending > 0) FROM {relation}""",  # noqa: S608
    ).rows
    [(settled,)] = ask(
        con,
        "SELECT max(date) FROM probes WHERE date < ?",
        [first_pending or dt.date.max],
    ).rows
    relation = derived.listings_relation(con)
    [(hole_days,)] = ask(
        con,
        f"SELECT coalesce(sum(hole_days), 0)::BIGINT FROM {relation}",  # noqa: S608
    ).rows
    return {
        "first_date": first,
        "last_date": last,
        "settled_to": settled,
        "dates": dates,
        "unknown_dates": len(missing_dates(con, FIRST_DATE, today - dt.timedelta(1))),
        "symbols": symbols,
        "available": available,
        "pending": pending,
        "holes": hole_days,
        "last_probe": probed,
    }


def _without_file(con: Connection, date: dt.date) -> Literal["absent", "pending"]:
    """What the symbols without a file are on a date that was looked at."""
    rows = ask(
        con,
        f"SELECT {settled_probes()} AS settled FROM probes p WHERE p.date = ?",  # noqa: S608
        [date],
    ).rows
    if not rows:
        require_probed(con, date)
    return "absent" if rows[0][0] else "pending"
