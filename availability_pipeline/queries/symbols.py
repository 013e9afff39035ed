"""Questions about symbols' whole lives and dates' counts, answered from the derived tables."""

import datetime as dt
from typing import Any

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.dates import AsOf, DateLike, as_date, as_range, today_utc
from availability_pipeline.queries.answers import (
    Connection,
    DatasetLike,
    Filter,
    NotProbedError,
    QueryError,
    Rows,
    Texts,
    UnknownSymbolError,
    ask,
    checked,
    find_symbol,
    remedy,
    require_any,
    require_probed,
    say_unknown,
    tables,
    unknown_dates,
    with_remedy,
)
from availability_pipeline.record import derived
from availability_pipeline.record.status import Scope, recorded_datasets

_DAY = dt.timedelta(1)


@checked()
def listings(
    con: Connection,
    symbol: str | None = None,
    *,
    quote_asset: Texts = None,
    contract_type: Texts = None,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> Rows:
    """First and last file, days with a file, holes and state of each symbol, or of one.

    Columns: symbol, contract_type, base_asset, quote_asset, first_available, last_available,
    days_available, hole_days, state (`live`, `ended`, `settled`).

    Examples:
        >>> record.listings(symbol="MATICUSDT")[["symbol", "last_available", "state"]]
              symbol last_available  state
        0  MATICUSDT     2026-10-26  ended

    Raises:
        UnknownSymbolError: `symbol` is not recorded.
        NotProbedError: no date at all was probed.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    t = tables(con, dataset, as_of)
    chosen = Filter(quote_asset, contract_type, symbol).chosen(con, t)
    found = ask(
        con,
        f"SELECT * FROM {t.listings} WHERE true{chosen.where()} ORDER BY symbol",
        chosen.args,
    )
    if not found.rows:
        require_any(con, t)
    return Rows(found.columns, found.rows, chosen.notes)


@checked()
def symbol_coverage(con: Connection, symbol: str, *, as_of: AsOf | None = None) -> Rows:
    """One symbol in every recorded dataset that has it, in the order of their first recording.

    Columns: dataset, first and last (of its files; a month is its first day), files, holes (how
    many of each), state (`live`, `ended`, `settled`).

    Examples:
        >>> record.symbol_coverage("NMRUSDT")[["dataset", "first", "files", "holes"]]
                          dataset      first  files  holes
        0      um/daily/klines/1m 2026-07-27    119      1
        1      um/daily/klines/1d 2026-07-27    120      0
        2  um/monthly/fundingRate 2026-01-01     10      0

    Raises:
        UnknownSymbolError: no recorded dataset has it.
        NotProbedError: no date at all was probed.
    """
    found: list[tuple[Any, ...]] = []
    notes: tuple[str, ...] = ()
    errors: list[QueryError] = []
    datasets: list[Dataset | None] = [*recorded_datasets(con)]
    for dataset in datasets or [None]:
        t = tables(con, dataset, as_of)
        try:
            name, notes = find_symbol(con, t, symbol)
        except (UnknownSymbolError, NotProbedError) as error:
            errors.append(error)
            continue
        found += ask(
            con,
            f"""SELECT $dataset, first_available, last_available, days_available, hole_days, state
            FROM {t.listings} WHERE symbol = $symbol""",
            {"dataset": str(t.dataset), "symbol": name},
        ).rows
    if not found:
        raise errors[0]
    return Rows(("dataset", "first", "last", "files", "holes", "state"), found, notes)


@checked()
def new_listings(
    con: Connection,
    date: DateLike,
    *,
    quote_asset: Texts = None,
    contract_type: Texts = None,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> list[str]:
    """Symbols whose first file is that date's, sorted.

    While the date is pending for others, the list may grow.

    Examples:
        >>> record.new_listings("2026-10-13")
        ['币安人生USDT']

    Raises:
        NotProbedError: the date, or the one before, was never probed: then a file on it does
            not show that the symbol is new.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    t = tables(con, dataset, as_of)
    day = t.dataset.period_of(as_date(date))
    of = Filter(quote_asset, contract_type)
    found = _born_or_gone(con, t, "first_available = $date", day, of)
    _require_with_day_before(con, t, day)
    return found


@checked()
def delistings(
    con: Connection,
    date: DateLike,
    *,
    quote_asset: Texts = None,
    contract_type: Texts = None,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> list[str]:
    """Symbols whose last file is that of the day before, sorted.

    Only those that are confirmed absent on three published dates afterwards: a date that is not
    published yet, or a hole, is not a delisting. So the newest dates have none yet.

    Examples:
        >>> record.delistings("2026-10-27")
        ['MATICUSDT']

    Raises:
        NotProbedError: the date, or the one before, was never probed.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    t = tables(con, dataset, as_of)
    day = t.dataset.period_of(as_date(date))
    gone = f"last_available = {t.after('$date', -1)} AND {derived.delisted(t)}"
    found = _born_or_gone(con, t, gone, day, Filter(quote_asset, contract_type))
    _require_with_day_before(con, t, day)
    return found


@checked()
def delistings_confirmed(
    con: Connection,
    date: DateLike,
    *,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> bool:
    """Whether enough dates from `date` on were published to tell its delistings from a late file.

    Settled but unpublished dates do not count, as in `delistings` itself.
    """
    before = tables(con, dataset, as_of).ended_before
    return before is not None and as_date(date) <= before


@checked()
def summary(
    con: Connection,
    days: int | None = None,
    *,
    start: DateLike | None = None,
    end: DateLike | None = None,
    quote_asset: Texts = None,
    contract_type: Texts = None,
    today: dt.date | None = None,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> Rows:
    """Counts of each date that was probed: date, available_count, pending_count.

    All dates, the last `days` up to yesterday (UTC), or those from `start` to `end`. A date that
    was never probed has no row; a note names it. `today` replaces the clock.

    Examples:
        >>> record.summary(start="2026-11-22", end="2026-11-23")
                date  available_count  pending_count
        0 2026-11-22               14              3
        1 2026-11-23               14              3

    Raises:
        NotProbedError: none of these dates was ever probed.
        QueryError: no recorded symbol has that quote asset or contract type.
        ValueError: `days` is not 1 to 10,000 or comes with a range, or `end` is before `start`.
    """
    t = tables(con, dataset, as_of)
    first = as_date(start) if start is not None else None
    last = as_date(end) if end is not None else None
    if days is not None:
        if first or last:
            raise ValueError("give days or a range, not both")
        last = (today or today_utc()) - _DAY
        first = max(t.first_period, last - (days - 1) * _DAY)
    if first and last:
        as_range(first, last)
    chosen = Filter(quote_asset, contract_type).chosen(con, t)
    found = ask(
        con,
        _counts_by_symbol(t, where) if (where := chosen.where()) else _counts(t),
        {"first": first or dt.date.min, "last": last or dt.date.max} | chosen.args,
    )
    if not found.rows:
        require_any(con, t)
        gaps = [first or min(t.first_period, last or t.first_period)]
        gaps.append(last or max(gaps[0], (today or today_utc()) - _DAY))
        raise NotProbedError(
            f"no date {_said_range(first, last)} was probed: what they hold is unknown"
            f"{'' if t.as_of else f'; {remedy(con, t, gaps, today)}'}"
        )
    first, last = first or found.rows[0][0], last or found.rows[-1][0]
    if len(t.dataset.periods(first, last)) == len(found.rows):
        return found
    gaps = unknown_dates(con, t, first, last)
    notes = (with_remedy(con, t, say_unknown(t, gaps, first, last), gaps),) if gaps else ()
    return Rows(found.columns, found.rows, notes)


def _said_range(first: dt.date | None, last: dt.date | None) -> str:
    if first and last:
        return f"from {first} to {last}"
    return f"from {first} on" if first else f"up to {last}"


def _counts(t: Scope) -> str:
    return f"""SELECT date, available AS available_count, pending AS pending_count
        FROM {t.summary} WHERE date >= $first AND date <= $last ORDER BY date"""


def _counts_by_symbol(t: Scope, where: str) -> str:
    # Only dates that have not settled can have a pending cell.
    return f"""SELECT p.date, coalesce(f.n, 0) AS available_count,
            coalesce(w.n, 0) AS pending_count
        FROM {t.probes} p
        LEFT JOIN (SELECT date, count(*) AS n FROM {t.files} WHERE true{where} GROUP BY date) f
            USING (date)
        LEFT JOIN (SELECT date, count(*) AS n FROM {t.cells}
            WHERE date IN (SELECT date FROM {t.probes} WHERE NOT settled)
                AND status = 'pending'{where} GROUP BY date) w
            USING (date)
        WHERE p.date >= $first AND p.date <= $last ORDER BY p.date"""


def _born_or_gone(con: Connection, t: Scope, what: str, day: dt.date, of: Filter) -> list[str]:
    chosen = of.chosen(con, t)
    sql = f"SELECT symbol FROM {t.listings} WHERE {what}{chosen.where()} ORDER BY symbol"
    return ask(con, sql, {"date": day} | chosen.args).column("symbol")


def _require_with_day_before(con: Connection, t: Scope, day: dt.date) -> None:
    require_probed(con, t, day)
    before = t.dataset.shift(day, -1)
    if before >= t.first_period and unknown_dates(con, t, before, before):
        said = t.dataset.text
        text = f"{said(before)} was not probed, so what changed on {said(day)} is unknown"
        raise NotProbedError(with_remedy(con, t, text, [before]))
