"""Questions about the record as a whole: its holes, its revisions, what it covers.

Belongs here: SELECTs over all dates. Does not belong here: those by date (`query_dates`), windows
and counts (`query_listings`), what is news (`changes`). People import all of them from `queries`.
"""

import datetime as dt
from typing import Any

from availability_pipeline import derived
from availability_pipeline.answers import (
    Connection,
    Rows,
    Texts,
    ask,
    chosen,
    remedy,
    require_any,
    say_unknown,
    unknown_dates,
)
from availability_pipeline.arguments import checked
from availability_pipeline.keys import FIRST_DATE, UM_KLINES_1M
from availability_pipeline.query_dates import missing_dates
from availability_pipeline.schema import holes_sql


@checked()
def holes(
    con: Connection,
    symbol: str | None = None,
    *,
    quote_asset: Texts = None,
    contract_type: Texts = None,
) -> Rows:
    """Confirmed absences strictly between a symbol's first and last file: symbol, date, url.

    Dates that are pending or were never probed are no holes; a note counts the latter.

    Raises:
        UnknownSymbolError: `symbol` is not recorded.
        NotProbedError: no date at all was probed.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    condition, args, notes = chosen(con, symbol, quote_asset, contract_type)
    relation = derived.listings_relation(con)
    # All that is needed of 1.9 million absences are those inside a window that has some.
    windows = f"{relation} WHERE hole_days > 0{condition}"
    found = ask(con, f"{holes_sql(windows)} ORDER BY d.symbol, d.date", args).rows
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
