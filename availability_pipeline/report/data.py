"""What the report shows of a dataset, read from the record as arrays: cells, segments, renames.

A period is a date, or a month of monthly files; it is called a date where it may be either.
"""

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt

from availability_pipeline.archive.datasets import (
    CATALOGUE,
    MONTHLY_SETTLE_DAYS,
    Dataset,
    relisted_name,
)
from availability_pipeline.dates import aware
from availability_pipeline.quality.days import DayState, day_states
from availability_pipeline.queries import QueryError
from availability_pipeline.record.schema import REMEDY_MISSING
from availability_pipeline.record.status import Scope, scope
from availability_pipeline.report import volumes as volumes_of
from availability_pipeline.report.volumes import Volume

if TYPE_CHECKING:
    import pandas as pd

LATE_HOURS, LATE_MONTH_HOURS = 24, 24 * MONTHLY_SETTLE_DAYS
"""A date, or a month, is late when half of its files came later than this after it ended.

Usual are 7 to 9 hours of dates, and 8 hours to 13 days of months.
"""


class Cell(IntEnum):
    """What a symbol's date is. Higher ones win where several share a pixel."""

    OUTSIDE = 0  # before its first file or after its end
    LIVE = 1
    ENDED = 2
    SETTLED = 3
    UNKNOWN = 4  # never probed
    PENDING = 5
    ABSENT = 6  # confirmed; a hole when files come after it


class Segment(NamedTuple):
    """Dates of one symbol in a row that are the same: row, first and last date as offsets."""

    row: int
    first: int
    last: int
    cell: Cell


class Rename(NamedTuple):
    """A relisting: row and last date of the settled contract, row and first date of the new."""

    old_row: int
    old_last: int
    new_row: int
    new_first: int


@dataclass(frozen=True)
class ReportData:
    """One dataset of the record as the report needs it.

    Attributes:
        dataset: which.
        start: first date; all offsets count dates, or months, from it.
        days: a row a date from `start` to the last one, without gaps: `date`, `state` (DayState),
            `late` (bool), `available`, `expected`, `missing` (expected - available; all three NaN
            where never probed), `pending` (symbols without a file while it is too early to
            say, those that have ended too), `lag_p50`, `lag_p95` (hours after the end of the date,
            NaN without files).
        symbols: a row a symbol with files, by first file: `symbol`, `contract_type`, `state`,
            `first_available`, `last_available`, `days_available`, `hole_days`.
        cells: uint8 (symbols, dates) of `Cell`.
        renames: relistings, where both names have files.
        threshold: share of the expected files each settled date needs.
        drawn_at: aware UTC.
        volume: what was traded, on the page of the 1d klines that say it, once they were read.
    """

    dataset: Dataset
    start: dt.date
    days: "pd.DataFrame"
    symbols: "pd.DataFrame"
    cells: npt.NDArray[np.uint8]
    renames: tuple[Rename, ...]
    threshold: float
    drawn_at: dt.datetime
    volume: Volume | None = None

    @property
    def first_file(self) -> int:
        """Offset of the oldest file; 0 without any."""
        return self.offset(self.symbols["first_available"].min()) if len(self.symbols) else 0

    @property
    def unit(self) -> str:
        """What a period is called: date or month."""
        return "month" if self.dataset.monthly else "date"

    def offset(self, date: dt.date) -> int:
        """Dates from `start`, or months."""
        if self.dataset.monthly:
            return 12 * (date.year - self.start.year) + date.month - self.start.month
        return (date - self.start).days

    def date(self, offset: int) -> dt.date:
        """The date at an offset, or the first day of the month."""
        return self.dataset.shift(self.start, int(offset))

    def text(self, offset: int) -> str:
        """The same as people have it: `2024-01-15`, or `2024-01`."""
        return self.dataset.text(self.date(offset))

    def minute(self, offset: float) -> np.datetime64:
        """The time at an offset, between two periods by its share of the way."""
        whole = math.floor(offset)
        first = np.datetime64(self.date(whole), "m")
        length = np.datetime64(self.date(whole + 1), "m") - first
        return first + np.timedelta64(round((offset - whole) * int(length.astype(int))), "m")

    def span(self, first: int, last: int) -> str:
        """A stretch of periods in words."""
        if first == last:
            return self.text(first)
        count = f"{last - first + 1:,} {'months' if self.dataset.monthly else 'days'}"
        return f"{self.text(first)} to {self.text(last)} ({count})"

    def headline(self) -> dict[str, str]:
        """The numbers above the pictures, as texts."""
        count = self.days["state"].value_counts()
        entry = CATALOGUE.get(self.dataset.kind)
        live = f", {int((self.symbols['state'] == 'live').sum()):,} of them live"
        holes = int(self.symbols["hole_days"].sum())
        pending = int(self.days["pending"].sum())
        looked = np.flatnonzero(self.days["state"] != DayState.UNKNOWN)
        cell = "symbol-month" if self.dataset.monthly else "symbol-day"
        periods = f"{self.unit.capitalize()}s"
        return {
            "Probed": f"{self.text(looked[0])} to {self.text(looked[-1])}",
            # All that stopped together would count as live, in an outage.
            "Symbols": f"{len(self.symbols):,}{'' if entry and entry.last else live}",
            "Files": f"{int(self.symbols['days_available'].sum()):,}",
            "Holes": f"{holes:,} {cell}{'' if holes == 1 else 's'}",
            # A date may be complete, and pending for symbols that have ended.
            "Pending": f"{pending:,} {cell}{'' if pending == 1 else 's'}",
            f"{periods} pending": f"{count.get(DayState.PENDING, 0):,} lack an expected file",
            f"{periods} unknown": f"{count.get(DayState.UNKNOWN, 0):,}",
        }

    def marks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """The dates that the growth marks: pending, below the threshold, published late."""
        state = self.days["state"]
        short = (state == DayState.SHORT) | (state == DayState.POOR)
        return {
            f"{self.unit}s pending": (state == DayState.PENDING).to_numpy(),
            f"{self.unit}s below {self.threshold:.0%}": short.to_numpy(),
            f"{self.unit}s published late": self.days["late"].to_numpy(),
        }

    def bands(self) -> list[tuple[int, int]]:
        """First and last offset of each stretch of dates never probed."""
        return list(_runs((self.days["state"] == DayState.UNKNOWN).to_numpy()))

    def segments(self) -> list[Segment]:
        """Each symbol's cells run by run, what is outside its life left out.

        Dates that were never probed split nothing: they are in `bands`, once for all symbols.
        """
        known = (self.days["state"] != DayState.UNKNOWN).to_numpy()
        # For each date the last known one up to it: what holds on both sides of a gap goes on.
        source = np.maximum.accumulate(np.where(known, np.arange(len(known)), 0))
        bridged = np.where((self.cells == Cell.UNKNOWN) & ~known, self.cells[:, source], self.cells)
        # After the last known date nothing goes on.
        bridged[:, int(np.flatnonzero(known)[-1]) + 1 :] = Cell.OUTSIDE
        found: list[Segment] = []
        for row, cells in enumerate(bridged):
            edges = np.flatnonzero(np.diff(cells)) + 1
            for a, b in zip((0, *edges), (*edges, len(cells)), strict=True):
                if cells[a] != Cell.OUTSIDE:
                    found.append(Segment(row, int(a), int(b) - 1, Cell(cells[a])))
        return found


@dataclass(frozen=True)
class Calendar:
    """The periods of some years on a grid.

    Attributes:
        years: those shown; leading ones in which no file is expected are left out.
        states: of each place the state of its date, -1 where there is none.
        rows: of a year, with the gap below it: 7 weekdays, or all months in one.
        months: the column of each month's name.
        monthly: whether a place is a month.
    """

    years: range
    states: npt.NDArray[np.int8]
    rows: int
    months: tuple[int, ...]
    monthly: bool

    @property
    def middles(self) -> list[float]:
        """The row of each year's name."""
        return [self.rows * n + (self.rows - 2) / 2 for n in range(len(self.years))]

    def place(self, date: dt.date) -> tuple[int, int]:
        """Row and column of a date of these years, or of a month."""
        row, column = (0, date.month - 1) if self.monthly else calendar_place(date)
        return self.rows * (date.year - self.years[0]) + row, column


def calendar(data: ReportData) -> Calendar:
    """The years to show, and their periods' states.

    A year is 8 rows (7 weekdays and a gap) of 54 weeks, or 2 rows (and a gap) of 12 months.
    """
    states = data.days["state"].to_numpy()
    first = data.date(int(np.argmax(states != DayState.IDLE)))
    years = range(first.year, data.date(len(states) - 1).year + 1)
    monthly = data.dataset.monthly
    rows, columns = (2, 12) if monthly else (8, 54)
    # Months begin in the same column of every year, give or take one.
    months = [calendar_place(dt.date(years[-1], month, 15))[1] for month in range(1, 13)]
    found = Calendar(
        years,
        np.full((rows * len(years) - 1, columns), -1, np.int8),
        rows,
        tuple(range(12)) if monthly else tuple(months),
        monthly,
    )
    for date, state in zip(data.days["date"], states, strict=True):
        if date.year in years:
            found.states[found.place(date)] = state
    return found


def calendar_place(date: dt.date) -> tuple[int, int]:
    """Row (0 is Monday) and column (week of its year) of a date in its year."""
    first = dt.date(date.year, 1, 1)
    return date.weekday(), ((date - first).days + first.weekday()) // 7


def year_share(data: ReportData, year: int) -> float | None:
    """Share of the year's expected files that are there; None when none is expected."""
    mine = [date.year == year for date in data.days["date"]]
    expected = float(data.days["expected"][mine].sum())
    return float(data.days["available"][mine].sum()) / expected if expected else None


def percent(share: float) -> str:
    """With two decimals, and 100 only when nothing is missing."""
    return "100%" if share >= 1 else f"{min(share, 0.9999):.2%}"


def lag_range(data: ReportData) -> tuple[float, float]:
    """What the lag's logarithmic axis shows: at least 3 hours to 3 days."""
    found = data.days[["lag_p50", "lag_p95"]].to_numpy()
    found = found[np.isfinite(found)]
    low, high = (float(found.min()), float(found.max())) if len(found) else (3.0, 72.0)
    return max(0.5, min(3.0, low / 1.3)), max(72.0, high * 1.6)


def _runs(flags: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    for first, after in zip(edges[::2], edges[1::2], strict=True):
        yield int(first), int(after) - 1


class EmptyRecordError(QueryError):
    """Nothing was probed yet, so there is nothing to draw."""


_AVAILABLE = {"live": Cell.LIVE, "ended": Cell.ENDED, "settled": Cell.SETTLED}


def load(
    con: duckdb.DuckDBPyConnection,
    *,
    threshold: float,
    drawn_at: dt.datetime,
    dataset: Dataset | None = None,
    configured: bool = True,
    volumes: Path | None = None,
    wait_seconds: float = 60,
) -> ReportData:
    """Read a dataset, from its first possible date to yesterday, or the last one that is due.

    Args:
        con: from `connection.reader`.
        threshold: share of the expected files each settled date needs, 0 to 1.
        drawn_at: now, aware.
        dataset: which; the default one when left out.
        configured: whether it is probed; if not, nothing after its last probe is missing.
        volumes: the file of daily volumes, which need not be there; None for none.
        wait_seconds: how long to wait for its writer.

    Raises:
        EmptyRecordError: no date was probed yet.
        ValueError: `drawn_at` is naive.
    """
    drawn_at = aware(drawn_at)
    t = scope(con, dataset)
    [(first, last)] = con.execute(f"SELECT min(date), max(date) FROM {t.probes}").fetchall()
    if first is None:
        raise EmptyRecordError(f"no date was probed yet; {REMEDY_MISSING}")
    start = min(first, t.first_period)
    symbols = _symbols(con, t)
    end = _end(t, last, symbols, drawn_at, configured)
    days = _days(con, t, start, max(start, end), threshold)
    data = ReportData(
        t.dataset, start, days, symbols, np.empty((0, 0), np.uint8), (), threshold, drawn_at
    )
    volume = None
    if volumes and (market := volumes_of.shown_for(t.dataset)):
        volume = volumes_of.load(volumes, market, start, len(days), wait_seconds)
    return replace(data, cells=_cells(con, t, data), renames=_renames(data), volume=volume)


def _end(
    t: Scope, last: dt.date, symbols: "pd.DataFrame", drawn_at: dt.datetime, configured: bool
) -> dt.date:
    """The last period to show, where the last one that was probed is `last`."""
    files = symbols["last_available"].tolist()
    if stopped := last_period(t.dataset, max(files, default=None)):
        return stopped
    over = t.dataset.shift(t.dataset.period_of(drawn_at.date()), -1)
    return max(last, over) if configured else last


def last_period(dataset: Dataset, last_file: dt.date | None) -> dt.date | None:
    """The last period in which a file can be missing; None while the dataset is live.

    Nothing comes after the end of one that was stopped or removed; unless something did.
    """
    entry = CATALOGUE.get(dataset.kind)
    if entry is None or entry.last is None:
        return None
    return max(entry.last, last_file or entry.last)


def _symbols(con: duckdb.DuckDBPyConnection, t: Scope) -> "pd.DataFrame":
    frame = con.execute(
        f"""SELECT symbol, contract_type, state, first_available, last_available,
            days_available::BIGINT AS days_available, hole_days::BIGINT AS hole_days
        FROM {t.listings} WHERE first_available IS NOT NULL
        ORDER BY first_available, symbol"""
    ).df()
    for name in ("first_available", "last_available"):
        frame[name] = [time.date() for time in frame[name]]
    return frame


def _days(
    con: duckdb.DuckDBPyConnection, t: Scope, start: dt.date, end: dt.date, threshold: float
) -> "pd.DataFrame":
    frame = con.execute(
        f"""SELECT d.date, p.date IS NOT NULL AS known, s.available::DOUBLE AS available,
            s.expected::DOUBLE AS expected, coalesce(s.pending, 0)::BIGINT AS pending,
            coalesce(p.settled, false) AS settled,
            s.lag_p50_hours::DOUBLE AS lag_p50, s.lag_p95_hours::DOUBLE AS lag_p95
        FROM (SELECT unnest($1)::DATE AS date) d
        LEFT JOIN {t.probes} p USING (date) LEFT JOIN {t.summary} s USING (date)
        ORDER BY d.date""",
        [t.dataset.periods(start, end)],
    ).df()
    frame["date"] = [time.date() for time in frame["date"]]
    frame["missing"] = (frame["expected"] - frame["available"]).clip(lower=0)
    frame["state"] = day_states(frame, threshold)
    del frame["known"], frame["settled"]
    frame["late"] = frame["lag_p50"] > (LATE_MONTH_HOURS if t.dataset.monthly else LATE_HOURS)
    return frame


def _cells(con: duckdb.DuckDBPyConnection, t: Scope, data: ReportData) -> npt.NDArray[np.uint8]:
    symbols = data.symbols
    cells = np.full((len(symbols), len(data.days)), Cell.UNKNOWN, np.uint8)
    if not len(symbols):
        return cells
    order = symbols[["symbol"]].assign(row=np.arange(len(symbols), dtype=np.int32))
    con.register("report_rows", order)
    try:
        # The file's own state (live, ended, settled) is put in below: one value here is enough.
        read = con.execute(
            f"""SELECT r.row, {t.distance("$1::DATE", "a.date")}::INTEGER AS day,
                CASE status
                    WHEN 'available' THEN $3 WHEN 'pending' THEN $4 ELSE $5 END::UTINYINT AS cell
            FROM {t.cells} a JOIN report_rows r USING (symbol) WHERE a.date <= $2""",
            [
                data.start, data.date(len(data.days) - 1),
                int(Cell.LIVE), int(Cell.PENDING), int(Cell.ABSENT),
            ],
        ).fetchnumpy()  # fmt: skip
    finally:
        con.unregister("report_rows")
    cells[read["row"], read["day"]] = read["cell"]
    for row, (state, first, last) in enumerate(
        zip(symbols["state"], symbols["first_available"], symbols["last_available"], strict=True)
    ):
        line = cells[row]
        line[line == Cell.LIVE] = _AVAILABLE[state]
        line[: data.offset(first)] = Cell.OUTSIDE
        if state != "live":
            line[data.offset(last) + 1 :] = Cell.OUTSIDE
    return cells


def _renames(data: ReportData) -> tuple[Rename, ...]:
    symbols = data.symbols
    row_of = {symbol: row for row, symbol in enumerate(symbols["symbol"])}
    firsts, lasts = list(symbols["first_available"]), list(symbols["last_available"])
    found = []
    for symbol, row in row_of.items():
        # In a market without contracts a name that ends so is a name like any other.
        settled = symbols["contract_type"][row] == "settled"
        new = row_of.get(relisted_name(symbol) or "") if settled else None
        # Only a name that begins again after the settled contract's last file is its relisting.
        if new is not None and firsts[new] > lasts[row]:
            found.append(Rename(row, data.offset(lasts[row]), new, data.offset(firsts[new])))
    return tuple(found)
