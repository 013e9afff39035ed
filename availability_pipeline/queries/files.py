"""Questions about dates and files: what is there, pending, absent, a hole, or unknown."""

import datetime as dt
from typing import Any, Literal

from availability_pipeline.archive.datasets import FIRST_DATE, UM_KLINES_1M
from availability_pipeline.dates import DateLike, as_date, as_range, today_utc
from availability_pipeline.queries.answers import (
    Connection,
    Filter,
    NotProbedError,
    Rows,
    Texts,
    ask,
    find_symbol,
    instant,
    remedy,
    require_any,
    require_probed,
    require_range_probed,
    say_unknown,
    unknown_dates,
)
from availability_pipeline.queries.arguments import SNAPSHOT_STATUSES, checked, one_of
from availability_pipeline.record.schema import holes_sql, status_sql

_DAY = dt.timedelta(1)

Status = Literal["available", "pending", "absent"]


@checked(status=one_of(SNAPSHOT_STATUSES))
def snapshot(
    con: Connection,
    date: DateLike,
    *,
    status: Status = "available",
    quote_asset: Texts = None,
    contract_type: Texts = None,
) -> Rows:
    """The files of one date, by symbol: symbol, file_size_bytes, last_modified (aware UTC).

    With `status` "pending" or "absent" the symbols without a file, the other columns None.

    Raises:
        NotProbedError: the date was never probed.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    date = as_date(date)
    chosen = Filter(quote_asset, contract_type).chosen(con)
    found = ask(
        con,
        f"""SELECT symbol, file_size_bytes, epoch_us(last_modified) AS last_modified
        FROM daily_availability d WHERE date = $date AND available = $available
            AND {status_sql("d")} = $status{chosen.where()}
        ORDER BY symbol""",  # noqa: S608 - our own words
        {"date": date, "available": status == "available", "status": status} | chosen.args,
    )
    if not found.rows:
        require_probed(con, date)
    return Rows(found.columns, [(*row[:2], instant(row[2])) for row in found.rows])


@checked()
def counts(con: Connection, date: DateLike) -> dict[str, int]:
    """Symbols of one date by status: available, pending, absent.

    Raises:
        NotProbedError: the date was never probed.
    """
    date = as_date(date)
    found = ask(
        con,
        f"""SELECT {status_sql("d")} AS status, count(*) FROM daily_availability d
        WHERE date = ? GROUP BY status""",  # noqa: S608
        [date],
    ).rows
    if not found:
        require_probed(con, date)
    return {"available": 0, "pending": 0, "absent": 0, **dict(found)}


@checked()
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
    never probed, for any symbol or for this one, have status `unknown`, and None in the other
    columns; a note has the command that probes them. `status` keeps only the dates with that one.

    Raises:
        UnknownSymbolError: no such symbol is recorded.
        NotProbedError: `status` is asked of dates of which none was probed, or `start` is after
            the last probed date, or `end` before the first.
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
    if gaps := [row[0] for row in rows if row[2] == "unknown"]:
        text = f"{say_unknown(gaps, rows[0][0], rows[-1][0])}; {remedy(gaps)}"
        if status not in {None, "unknown"} and len(gaps) == len(rows):
            raise NotProbedError(text)
        notes = (*notes, text)
    if status is not None:
        rows = [row for row in rows if row[2] == status]
    return Rows(found.columns, rows, notes)


def _timeline(con: Connection, symbol: str, first: dt.date | None, last: dt.date | None) -> Rows:
    # Straight from the table and from the filtered rows on: the view's joins and addresses would
    # be made for every symbol (17 ms against 11).
    return ask(
        con,
        f"""SELECT d.date, available, {status_sql("d")} AS status, file_size_bytes,
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
        if low is None:
            require_any(con)
        if first and first > high:
            text = f"no date from {first} on was probed, the record ends with {high}"
            raise NotProbedError(f"{text}; {remedy([first, max(first, today_utc() - _DAY)])}")
        if last and last < low:
            text = f"no date up to {last} was probed, the record begins with {low}"
            raise NotProbedError(f"{text}; {remedy([min(FIRST_DATE, last), last])}")
        first, last = first or low, last or high
    first, last = first or rows[0][0], last or rows[-1][0]
    length = (last - first).days + 1
    if len(rows) == length:  # each date has one row at most
        return rows
    found = {row[0]: row for row in rows}
    unknown = (None, "unknown", None, None)
    days = (first + dt.timedelta(n) for n in range(length))
    return [found.get(day) or (day, *unknown) for day in days]


@checked()
def symbols_in_range(
    con: Connection,
    start: DateLike,
    end: DateLike,
    *,
    quote_asset: Texts = None,
    contract_type: Texts = None,
) -> list[str]:
    """Symbols with at least one file from `start` to `end` (both included), sorted.

    Raises:
        NotProbedError: a date of the range was never probed: the list might be short.
        QueryError: no recorded symbol has that quote asset or contract type.
        ValueError: `end` is before `start`.
    """
    first, last = as_range(start, end)
    require_range_probed(con, first, last)
    chosen = Filter(quote_asset, contract_type).chosen(con)
    found = ask(
        con,
        f"""SELECT DISTINCT symbol FROM daily_availability
        WHERE date BETWEEN $first AND $last AND available{chosen.where()} ORDER BY symbol""",  # noqa: S608
        {"first": first, "last": last} | chosen.args,
    )
    return found.column("symbol")


@checked()
def missing_dates(con: Connection, start: DateLike, end: DateLike) -> list[dt.date]:
    """Dates from `start` to `end` (both included) without rows: unknown."""
    return unknown_dates(con, *as_range(start, end))


@checked()
def holes(
    con: Connection,
    symbol: str | None = None,
    *,
    quote_asset: Texts = None,
    contract_type: Texts = None,
) -> Rows:
    """Confirmed absences strictly between a symbol's first and last file: symbol, date, url.

    Dates that are pending or were never probed are not holes; a note counts the latter.

    Raises:
        UnknownSymbolError: `symbol` is not recorded.
        NotProbedError: no date at all was probed.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    chosen = Filter(quote_asset, contract_type, symbol).chosen(con)
    # All that is needed of 1.9 million absences are those inside a window that has some.
    windows = f"symbol_listings WHERE hole_days > 0{chosen.where()}"
    found = ask(con, f"{holes_sql(windows)} ORDER BY d.symbol, d.date", chosen.args).rows
    if not found:
        require_any(con)
    rows = [(name, day, UM_KLINES_1M.url(name, day)) for name, day in found]
    return Rows(("symbol", "date", "url"), rows, (*chosen.notes, *_gaps_note(con)))


def _gaps_note(con: Connection) -> tuple[str, ...]:
    [(first, last, n)] = ask(con, "SELECT min(date), max(date), count(*) FROM probes").rows
    if first is None or (last - first).days + 1 == n:
        return ()
    gaps = unknown_dates(con, first, last)
    return (f"{say_unknown(gaps, first, last)}, so they may hold more holes; {remedy(gaps)}",)


@checked()
def coverage(con: Connection, today: dt.date) -> dict[str, Any]:
    """What is covered, for `status`: dates, counts, unknown dates up to yesterday.

    Keys: first_date, last_date, settled_to, dates, unknown_dates, symbols, available, pending,
    holes, last_probe (aware UTC). All None or 0 for an empty record.
    """
    [(first, last, dates, probed)] = ask(
        con, "SELECT min(date), max(date), count(*), max(probed_at) FROM probes"
    ).rows
    [(symbols,)] = ask(con, "SELECT count(*) FROM symbols").rows
    [(available, pending, first_pending)] = ask(
        con,
        """SELECT coalesce(sum(available), 0)::BIGINT, coalesce(sum(pending), 0)::BIGINT,
            min(date) FILTER (pending > 0) FROM daily_summary""",
    ).rows
    [(settled,)] = ask(
        con,
        "SELECT max(date) FROM probes WHERE date < ?",
        [first_pending or dt.date.max],
    ).rows
    [(hole_days,)] = ask(
        con, "SELECT coalesce(sum(hole_days), 0)::BIGINT FROM symbol_listings"
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
