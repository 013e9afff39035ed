"""The questions people ask, each a function from a connection to rows or a frame.

Belongs here: SELECTs over the record. Does not belong here: writing, printing, Dagster. Source of
all facts: the listings recorded by `store`; a date without rows was never looked at, and asking
for it raises instead of answering with nothing.
"""

import datetime as dt
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from availability_pipeline import derived
from availability_pipeline.keys import FIRST_DATE

if TYPE_CHECKING:
    import pandas as pd


class QueryError(LookupError):
    """The record cannot answer; the text says why, in one line."""


class NotProbedError(QueryError):
    """The date was never looked at: unknown, which is not the same as absent."""


class UnknownSymbolError(QueryError):
    """No such symbol is recorded; the text names the nearest."""


@dataclass(frozen=True)
class Rows:
    """An answer: column names and tuples; `frame()` and `dicts()` are the same otherwise."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]

    def dicts(self) -> list[dict[str, Any]]:
        """One dict a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def frame(self) -> "pd.DataFrame":
        """A pandas frame, one row an entry."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(self.columns))


Connection = duckdb.DuckDBPyConnection


def _ask(con: Connection, sql: str, args: Sequence[object] = ()) -> Rows:
    cursor = con.execute(sql, list(args))
    names = tuple(column[0] for column in cursor.description or ())
    return Rows(names, cursor.fetchall())


def snapshot(con: Connection, date: dt.date) -> Rows:
    """The files of one date, by symbol: symbol, file_size_bytes, last_modified (aware UTC).

    Raises:
        NotProbedError: the date was never looked at.
    """
    _require_probed(con, date)
    return _ask(
        con,
        "SELECT symbol, file_size_bytes, last_modified FROM daily_availability "
        "WHERE date = ? AND available ORDER BY symbol",
        [date],
    )


def counts(con: Connection, date: dt.date) -> dict[str, int]:
    """Symbols of one date by status: available, pending, absent.

    Raises:
        NotProbedError: the date was never looked at.
    """
    _require_probed(con, date)
    found = _ask(con, "SELECT status, count(*) FROM availability WHERE date = ? GROUP BY 1", [date])
    return {"available": 0, "pending": 0, "absent": 0} | dict(found.rows)


def timeline(
    con: Connection, symbol: str, start: dt.date | None = None, end: dt.date | None = None
) -> Rows:
    """One symbol's dates: date, available, status, file_size_bytes, status_code.

    From `start` (default: its first row) to `end` (default: its last). Dates in between that were
    never looked at have status `unknown`, and None in the other columns.

    Raises:
        UnknownSymbolError: no such symbol is recorded.
    """
    _require_symbol(con, symbol)
    return _ask(
        con,
        """WITH mine AS (SELECT date, available, status, file_size_bytes, status_code
            FROM availability WHERE symbol = $1),
        span AS (SELECT unnest(generate_series(
            coalesce($2::DATE, (SELECT min(date) FROM mine)),
            coalesce($3::DATE, (SELECT max(date) FROM mine)), INTERVAL 1 DAY))::DATE AS date)
        SELECT date, available, coalesce(status, 'unknown') AS status, file_size_bytes,
            status_code
        FROM span LEFT JOIN mine USING (date) ORDER BY date""",
        [symbol, start, end],
    )


def listings(con: Connection, symbol: str | None = None) -> Rows:
    """First and last file, days, holes and state of each symbol, or of one.

    Raises:
        UnknownSymbolError: `symbol` is not recorded.
    """
    if symbol is not None:
        _require_symbol(con, symbol)
    relation = derived.listings_relation(con)
    return _ask(
        con,
        f"SELECT * FROM {relation} WHERE symbol = $1 OR $1 IS NULL ORDER BY symbol",  # noqa: S608
        [symbol],
    )


def holes(con: Connection, symbol: str | None = None) -> Rows:
    """Confirmed absences strictly between a symbol's first and last file: symbol, date, url.

    Raises:
        UnknownSymbolError: `symbol` is not recorded.
    """
    if symbol is not None:
        _require_symbol(con, symbol)
    relation = derived.listings_relation(con)
    return _ask(
        con,
        f"""SELECT a.symbol, a.date, a.url FROM availability a
        JOIN (SELECT * FROM {relation} WHERE hole_days > 0) l USING (symbol)
        WHERE a.status = 'absent' AND a.date > l.first_available AND a.date < l.last_available
            AND (a.symbol = $1 OR $1 IS NULL)
        ORDER BY a.symbol, a.date""",  # noqa: S608
        [symbol],
    )


def revisions(con: Connection, since: dt.date | None = None) -> Rows:
    """What changed after a first look, oldest first; all columns of the `revisions` table."""
    return _ask(
        con,
        "SELECT * FROM revisions WHERE observed_at >= coalesce($1::DATE, DATE '1970-01-01') "
        "ORDER BY observed_at, symbol, date",
        [since],
    )


def missing_dates(con: Connection, start: dt.date, end: dt.date) -> list[dt.date]:
    """Dates from `start` to `end` without rows: unknown."""
    found = _ask(
        con,
        """SELECT d FROM (SELECT unnest(generate_series(?::DATE, ?::DATE, INTERVAL 1 DAY))::DATE
        AS d) WHERE d NOT IN (SELECT date FROM probes) ORDER BY d""",
        [start, end],
    )
    return [row[0] for row in found.rows]


def coverage(con: Connection, today: dt.date) -> dict[str, Any]:
    """What is covered, for `status`: dates, counts, unknown dates up to yesterday.

    Keys: first_date, last_date, settled_to, dates, unknown_dates, symbols, available, pending,
    holes, last_probe (aware UTC). All None or 0 for an empty record.
    """
    [(first, last, dates, probed)] = _ask(
        con, "SELECT min(date), max(date), count(*), max(probed_at) FROM probes"
    ).rows
    [(symbols,)] = _ask(con, "SELECT count(*) FROM symbols").rows
    by_status = dict(_ask(con, "SELECT status, count(*) FROM availability GROUP BY 1").rows)
    [(settled,)] = _ask(
        con,
        "SELECT max(date) FROM probes WHERE date < coalesce("
        "(SELECT min(date) FROM availability WHERE status = 'pending'), DATE '9999-01-01')",
    ).rows
    relation = derived.listings_relation(con)
    [(hole_days,)] = _ask(
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
        "available": by_status.get("available", 0),
        "pending": by_status.get("pending", 0),
        "holes": hole_days,
        "last_probe": probed,
    }


def _require_probed(con: Connection, date: dt.date) -> None:
    if not _ask(con, "SELECT 1 FROM probes WHERE date = ?", [date]).rows:
        raise NotProbedError(
            f"{date} was not probed: whether files exist is unknown; "
            f"run `binance-futures-availability update manual --date {date}`"
        )


def _require_symbol(con: Connection, symbol: str) -> None:
    names = [row[0] for row in _ask(con, "SELECT symbol FROM symbols").rows]
    if symbol not in names:
        near = difflib.get_close_matches(symbol.upper(), names, n=3, cutoff=0.5)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UnknownSymbolError(f"no symbol {symbol} is recorded{hint}")
