"""Questions about dates and files: what is there, pending, absent, a hole, or unknown."""

import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.dates import AsOf, DateLike, as_date, as_range, today_utc
from availability_pipeline.queries.answers import (
    SNAPSHOT_STATUSES,
    Connection,
    DatasetLike,
    Filter,
    NotProbedError,
    Rows,
    Texts,
    ask,
    checked,
    find_symbol,
    instant,
    one_of,
    require_any,
    require_probed,
    require_range_probed,
    say_unknown,
    tables,
    unknown_dates,
    with_remedy,
)
from availability_pipeline.record.status import Scope, scope

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
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> Rows:
    """The files of one date, by symbol: symbol, file_size_bytes, last_modified (aware UTC).

    With `status` "pending" or "absent" the symbols without a file, the other columns None.

    Examples:
        >>> record.snapshot("2026-10-23", quote_asset="USDC")
            symbol  file_size_bytes             last_modified
        0  BTCUSDC            63880 2026-10-24 08:12:24+00:00

    Raises:
        NotProbedError: the date was never probed.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    t = tables(con, dataset, as_of)
    date = t.dataset.period_of(as_date(date))
    chosen = Filter(quote_asset, contract_type).chosen(con, t)
    # The files stand in a table of their own, the others follow from what was probed.
    of = f"{t.files} WHERE $status = 'available'"
    if status != "available":
        of = f"{t.cells} WHERE status = $status"
    found = ask(
        con,
        f"""SELECT symbol, file_size_bytes, epoch_us(last_modified) AS last_modified
        FROM {of} AND date = $date{chosen.where()} ORDER BY symbol""",
        {"date": date, "status": status} | chosen.args,
    )
    if not found.rows:
        require_probed(con, t, date)
    return Rows(found.columns, [(*row[:2], instant(row[2])) for row in found.rows])


@checked()
def counts(
    con: Connection,
    date: DateLike,
    *,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> dict[str, int]:
    """Symbols of one date by status: available, pending, absent.

    Raises:
        NotProbedError: the date was never probed.
    """
    t = tables(con, dataset, as_of)
    date = t.dataset.period_of(as_date(date))
    found = ask(
        con,
        f"SELECT status, count(*) FROM {t.cells} WHERE date = ? GROUP BY status",
        [date],
    ).rows
    if not found:
        require_probed(con, t, date)
    return {"available": 0, "pending": 0, "absent": 0, **dict(found)}


@checked()
def timeline(
    con: Connection,
    symbol: str,
    start: DateLike | None = None,
    end: DateLike | None = None,
    *,
    status: str | None = None,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> Rows:
    """One symbol's dates: date, available, status, file_size_bytes, status_code.

    From `start` (default: the first probed date) to `end` (default: the last). Dates in between
    that were never probed, for any symbol or for this one, have status `unknown`, and None in the
    other columns; a note has the command that probes them. `status` keeps only the dates with
    that one.

    Examples:
        >>> record.timeline("NMRUSDT", "2026-10-22", "2026-10-24")[["date", "status"]]
                date     status
        0 2026-10-22  available
        1 2026-10-23     absent
        2 2026-10-24  available

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
    t = tables(con, dataset, as_of)
    found = _timeline(con, t, symbol, first, last)
    notes: tuple[str, ...] = ()
    if not found.rows:
        symbol, notes = find_symbol(con, t, symbol)
        found = _timeline(con, t, symbol, first, last)
    rows = _with_gaps(con, t, sorted(found.rows), first, last)
    if gaps := [row[0] for row in rows if row[2] == "unknown"]:
        text = with_remedy(con, t, say_unknown(t, gaps, rows[0][0], rows[-1][0]), gaps)
        if status not in {None, "unknown"} and len(gaps) == len(rows):
            raise NotProbedError(text)
        notes = (*notes, text)
    if status is not None:
        rows = [row for row in rows if row[2] == status]
    return Rows(found.columns, rows, notes)


def _timeline(
    con: Connection, t: Scope, symbol: str, first: dt.date | None, last: dt.date | None
) -> Rows:
    return ask(
        con,
        f"""SELECT date, status = 'available' AS available, status, file_size_bytes,
            CASE status WHEN 'available' THEN 200 ELSE 404 END AS status_code
        FROM {t.cells} WHERE symbol = $symbol AND date >= $first AND date <= $last""",
        {"symbol": symbol, "first": first or dt.date.min, "last": last or dt.date.max},
    )


def _with_gaps(
    con: Connection,
    t: Scope,
    rows: list[tuple[Any, ...]],
    first: dt.date | None,
    last: dt.date | None,
) -> list[tuple[Any, ...]]:
    """The rows (by date) with those dates put in that have none."""
    if first is None or last is None:
        [(low, high)] = ask(con, f"SELECT min(date), max(date) FROM {t.probes}").rows
        if low is None:
            require_any(con, t)
        if first and first > high:
            text = f"no date from {first} on was probed, the record ends with {high}"
            raise NotProbedError(with_remedy(con, t, text, [first, max(first, today_utc() - _DAY)]))
        if last and last < low:
            text = f"no date up to {last} was probed, the record begins with {low}"
            raise NotProbedError(with_remedy(con, t, text, [min(t.first_period, last), last]))
        first, last = first or low, last or high
    days = t.dataset.periods(first, last)
    if len(rows) == len(days):  # each date has one row at most
        return rows
    found = {row[0]: row for row in rows}
    unknown = (None, "unknown", None, None)
    return [found.get(day) or (day, *unknown) for day in days]


@checked()
def symbols_in_range(
    con: Connection,
    start: DateLike,
    end: DateLike,
    *,
    quote_asset: Texts = None,
    contract_type: Texts = None,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> list[str]:
    """Symbols with at least one file from `start` to `end` (both included), sorted.

    Examples:
        >>> record.symbols_in_range("2026-10-01", "2026-10-31", quote_asset="USDC")
        ['BTCUSDC']

    Raises:
        NotProbedError: a date of the range was never probed: the list might be short.
        QueryError: no recorded symbol has that quote asset or contract type.
        ValueError: `end` is before `start`.
    """
    (first, last), t = as_range(start, end), tables(con, dataset, as_of)
    require_range_probed(con, t, first, last)
    chosen = Filter(quote_asset, contract_type).chosen(con, t)
    found = ask(
        con,
        f"""SELECT DISTINCT symbol FROM {t.files}
        WHERE date BETWEEN $first AND $last{chosen.where()} ORDER BY symbol""",
        {"first": first, "last": last} | chosen.args,
    )
    return found.column("symbol")


@checked()
def missing_dates(
    con: Connection,
    start: DateLike,
    end: DateLike,
    *,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> list[dt.date]:
    """Dates from `start` to `end` (both included) without rows: unknown.

    Examples:
        >>> record.missing_dates("2026-11-20", "2026-11-24")
        [datetime.date(2026, 11, 24)]
    """
    return unknown_dates(con, tables(con, dataset, as_of), *as_range(start, end))


@checked()
def holes(
    con: Connection,
    symbol: str | None = None,
    *,
    quote_asset: Texts = None,
    contract_type: Texts = None,
    runs: bool = False,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> Rows:
    """Confirmed absences strictly between a symbol's first and last file: symbol, date, url.

    Dates that are pending or were never probed are not holes; a note counts the latter.

    With `runs`, consecutive dates (or months) of a symbol are one row: symbol, first, last,
    periods (how many). A date that is not a hole, whatever it is, ends a run.

    Examples:
        >>> record.holes()["date"].dt.strftime("%Y-%m-%d").tolist()
        ['2026-10-23']
        >>> record.holes(runs=True)
            symbol      first       last  periods
        0  NMRUSDT 2026-10-23 2026-10-23        1

    Raises:
        UnknownSymbolError: `symbol` is not recorded.
        NotProbedError: no date at all was probed.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    t = tables(con, dataset, as_of)
    chosen = Filter(quote_asset, contract_type, symbol).chosen(con, t)
    windows = f"{t.listings} WHERE hole_days > 0{chosen.where()}"
    notes = (*chosen.notes, *_gaps_note(con, t))
    found: Sequence[tuple[Any, ...]]
    if runs:
        found = hole_runs(con, t, windows, chosen.args)
    else:
        found = ask(con, f"FROM {t.holes(windows)} ORDER BY symbol, date", chosen.args).rows
    if not found:
        require_any(con, t)
    if runs:
        return Rows(("symbol", "first", "last", "periods"), found, notes)
    rows = [(name, day, t.dataset.url(name, day)) for name, day in found]
    return Rows(("symbol", "date", "url"), rows, notes)


def hole_runs(
    con: Connection, t: Scope, windows: str, args: dict[str, object] | None = None
) -> Sequence[tuple[Any, ...]]:
    """Consecutive holes of a symbol as one: symbol, first, last, how many; in that order.

    Args:
        con: an open record.
        t: the dataset.
        windows: as of `Scope.holes`, its values bound.
        args: these values.
    """
    place = t.distance("DATE '2000-01-01'", "date")
    return ask(
        con,
        f"""SELECT symbol, min(date) AS first, max(date) AS last, count(*) AS periods FROM (
            SELECT symbol, date,
                {place} - row_number() OVER (PARTITION BY symbol ORDER BY date) AS run
            FROM {t.holes(windows)})
        GROUP BY symbol, run ORDER BY symbol, first""",
        args or {},
    ).rows


def _gaps_note(con: Connection, t: Scope) -> tuple[str, ...]:
    [(first, last, n)] = ask(
        con,
        f"SELECT min(date), max(date), count(*) FROM {t.probes}",
    ).rows
    if first is None or len(t.dataset.periods(first, last)) == n:
        return ()
    gaps = unknown_dates(con, t, first, last)
    text = f"{say_unknown(t, gaps, first, last)}, so they may hold more holes"
    return (with_remedy(con, t, text, gaps),)


@checked()
def coverage(con: Connection, today: dt.date, dataset: Dataset | None = None) -> dict[str, Any]:
    """What is covered, for `status`: periods, counts, unknown periods of those that are over.

    Keys: first_date, last_date, settled_to, dates, unknown_dates, symbols, available, pending,
    holes, last_probe (aware UTC). All None or 0 for an empty record. Of monthly files, dates are
    months.
    """
    t = scope(con, dataset)
    over = t.dataset.shift(t.dataset.period_of(today), -1)
    [(first, last, dates, probed, symbols)] = ask(
        con,
        f"""SELECT min(date), max(date), count(*), max(probed_at),
            (SELECT count(*) FROM {t.symbols}) FROM {t.probes}""",
    ).rows
    [(available, pending, first_pending, hole_days)] = ask(
        con,
        f"""SELECT coalesce(sum(available), 0)::BIGINT, coalesce(sum(pending), 0)::BIGINT,
            -- What has settled can be pending for symbols that were left out since.
            min(date) FILTER (pending > 0 AND date IN (
                SELECT date FROM {t.probes} WHERE NOT settled)),
            (SELECT coalesce(sum(hole_days), 0)::BIGINT FROM {t.listings})
        FROM {t.summary}""",
    ).rows
    [(settled,)] = ask(
        con,
        f"SELECT max(date) FROM {t.probes} WHERE date < ?",
        [first_pending or dt.date.max],
    ).rows
    return {
        "first_date": first,
        "last_date": last,
        "settled_to": settled,
        "dates": dates,
        "unknown_dates": len(
            unknown_dates(con, t, t.first_period, min(over, t.dataset.last or over))
        ),
        "symbols": symbols,
        "available": available,
        "pending": pending,
        "holes": hole_days,
        "last_probe": probed,
    }
