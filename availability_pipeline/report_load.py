"""Read the record for the report, once: two reads, and nothing is held when drawing begins.

Belongs here: SELECTs and what a date or a cell is called. Does not belong here: what the arrays
mean (`report_data`), drawing (`report_png`, `report_html`).
"""

import datetime as dt
import re
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import numpy.typing as npt

from availability_pipeline import derived
from availability_pipeline.keys import FIRST_DATE
from availability_pipeline.queries import QueryError
from availability_pipeline.report_data import (
    LATE_HOURS,
    POOR_SHARE,
    Cell,
    DayState,
    Rename,
    ReportData,
)
from availability_pipeline.schema import REMEDY_MISSING

if TYPE_CHECKING:
    import pandas as pd


class EmptyRecordError(QueryError):
    """Nothing was probed yet, so there is nothing to draw."""


_AVAILABLE = {"live": Cell.LIVE, "ended": Cell.ENDED, "settled": Cell.SETTLED}


def load(con: duckdb.DuckDBPyConnection, *, threshold: float, drawn_at: dt.datetime) -> ReportData:
    """Read the record, from 2019-09-25 to yesterday or the last date looked at.

    Args:
        con: from `store.reader`.
        threshold: share of the expected files each settled date needs, 0 to 1.
        drawn_at: now, aware.

    Raises:
        EmptyRecordError: no date was probed yet.
        ValueError: `drawn_at` is naive.
    """
    if drawn_at.tzinfo is None:
        raise ValueError(f"{drawn_at} has no time zone; give an aware datetime in UTC")
    drawn_at = drawn_at.astimezone(dt.UTC)
    [(first, last)] = con.execute("SELECT min(date), max(date) FROM probes").fetchall()
    if first is None:
        raise EmptyRecordError(f"no date was probed yet; {REMEDY_MISSING}")
    start = min(first, FIRST_DATE)
    end = max(last, drawn_at.date() - dt.timedelta(1))
    symbols = _symbols(con)
    days = _days(con, start, end, threshold)
    cells = _cells(con, symbols, days, start)
    return ReportData(start, days, symbols, cells, _renames(symbols, start), threshold, drawn_at)


def relisted_name(symbol: str) -> str | None:
    """The name a settled contract had before, which the relisted one has now; None for others."""
    name = re.sub(r"_?SETTLED$", "", symbol)
    return name if name != symbol else None


def _symbols(con: duckdb.DuckDBPyConnection) -> "pd.DataFrame":
    frame = con.execute(
        f"""SELECT symbol, contract_type, state, first_available, last_available,
            days_available::BIGINT AS days_available, hole_days::BIGINT AS hole_days
        FROM {derived.listings_relation(con)} WHERE first_available IS NOT NULL
        ORDER BY first_available, symbol"""  # noqa: S608 - our own relation
    ).df()
    for name in ("first_available", "last_available"):
        frame[name] = [time.date() for time in frame[name]]
    return frame


def _days(
    con: duckdb.DuckDBPyConnection, start: dt.date, end: dt.date, threshold: float
) -> "pd.DataFrame":
    frame = con.execute(
        f"""SELECT d.date, p.date IS NOT NULL AS known, s.available::DOUBLE AS available,
            s.expected::DOUBLE AS expected, coalesce(s.pending, 0)::BIGINT AS pending,
            s.lag_p50_hours::DOUBLE AS lag_p50, s.lag_p95_hours::DOUBLE AS lag_p95
        FROM (SELECT unnest(generate_series($1::DATE, $2::DATE, INTERVAL 1 DAY))::DATE AS date) d
        LEFT JOIN probes p USING (date) LEFT JOIN {derived.summary_relation(con)} s USING (date)
        ORDER BY d.date""",  # noqa: S608 - our own relation
        [start, end],
    ).df()
    known = frame.pop("known").to_numpy(bool)
    frame["date"] = [time.date() for time in frame["date"]]
    # A date's rows are of one look, so its missing files are all pending or all confirmed.
    missing = (frame["expected"] - frame["available"]).clip(lower=0)
    share = (frame["available"] / frame["expected"].where(frame["expected"] > 0)).clip(upper=1)
    frame["missing"] = missing
    # In a record that knows no file yet nothing is expected, but a young date is still open.
    pending = (frame["pending"] > 0) & ((missing > 0) | (frame["expected"] == 0))
    frame["state"] = np.select(
        [~known, pending, frame["expected"] == 0, missing == 0,
         share >= threshold, share >= POOR_SHARE],
        [DayState.UNKNOWN, DayState.PENDING, DayState.IDLE, DayState.COMPLETE, DayState.MET,
         DayState.SHORT],
        DayState.POOR,
    )  # fmt: skip
    frame["late"] = frame["lag_p50"] > LATE_HOURS
    return frame


def _cells(
    con: duckdb.DuckDBPyConnection, symbols: "pd.DataFrame", days: "pd.DataFrame", start: dt.date
) -> npt.NDArray[np.uint8]:
    cells = np.full((len(symbols), len(days)), Cell.UNKNOWN, np.uint8)
    if not len(symbols):
        return cells
    order = symbols[["symbol"]].assign(row=np.arange(len(symbols), dtype=np.int32))
    con.register("report_rows", order)
    try:
        # The file's own state (live, ended, settled) is put in below: one value here is enough.
        read = con.execute(
            """SELECT r.row, date_diff('day', $1::DATE, a.date)::INTEGER AS day,
                CASE a.status WHEN 'available' THEN $2 WHEN 'pending' THEN $3 ELSE $4 END::UTINYINT
                    AS cell
            FROM availability a JOIN report_rows r USING (symbol)""",
            [start, int(Cell.LIVE), int(Cell.PENDING), int(Cell.ABSENT)],
        ).fetchnumpy()
    finally:
        con.unregister("report_rows")
    cells[read["row"], read["day"]] = read["cell"]
    for row, (state, first, last) in enumerate(
        zip(symbols["state"], symbols["first_available"], symbols["last_available"], strict=True)
    ):
        line = cells[row]
        line[line == Cell.LIVE] = _AVAILABLE[state]
        line[: (first - start).days] = Cell.OUTSIDE
        if state != "live":
            line[(last - start).days + 1 :] = Cell.OUTSIDE
    return cells


def _renames(symbols: "pd.DataFrame", start: dt.date) -> tuple[Rename, ...]:
    row_of = {symbol: row for row, symbol in enumerate(symbols["symbol"])}
    firsts, lasts = list(symbols["first_available"]), list(symbols["last_available"])
    found = []
    for symbol, row in row_of.items():
        new = row_of.get(relisted_name(symbol) or "")
        # Only a name that begins again after the settled contract's last file is its relisting.
        if new is not None and firsts[new] > lasts[row]:
            found.append(Rename(row, (lasts[row] - start).days, new, (firsts[new] - start).days))
    return tuple(found)
