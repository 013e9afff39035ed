"""What the report shows, as arrays: each date's state, each symbol's cells, segments and renames.

Belongs here: what the arrays mean, and what all pictures ask of them. Does not belong here: reading
the record (`report_load`), colours (`report_style`), drawing (`report_png`, `report_html`).
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

LATE_HOURS = 24
"""A date is late when half of its files came later than this after it ended; usual are 7 to 9."""

POOR_SHARE = 0.5
"""Below this share of the expected files a date is called nearly empty."""


class DayState(IntEnum):
    """What a date is, seen as a whole."""

    UNKNOWN = 0  # never probed
    IDLE = 1  # looked at, and no file is expected: rightly so before 2019-12-31
    PENDING = 2  # an expected file is missing, and it is too early to say
    COMPLETE = 3  # every expected file is there
    MET = 4  # some are confirmed missing, the share is met
    SHORT = 5  # below the share
    POOR = 6  # below POOR_SHARE


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
    """The record as the report needs it.

    Attributes:
        start: first date; all offsets count days from it.
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
    """

    start: dt.date
    days: "pd.DataFrame"
    symbols: "pd.DataFrame"
    cells: npt.NDArray[np.uint8]
    renames: tuple[Rename, ...]
    threshold: float
    drawn_at: dt.datetime

    @property
    def first_file(self) -> int:
        """Offset of the oldest file; 0 without any."""
        return self.offset(self.symbols["first_available"].min()) if len(self.symbols) else 0

    def offset(self, date: dt.date) -> int:
        """Days from `start`."""
        return (date - self.start).days

    def date(self, offset: int) -> dt.date:
        """The date at an offset."""
        return self.start + dt.timedelta(int(offset))

    def headline(self) -> dict[str, str]:
        """The numbers above the pictures, as texts."""
        count = self.days["state"].value_counts()
        live = int((self.symbols["state"] == "live").sum())
        holes = int(self.symbols["hole_days"].sum())
        pending = int(self.days["pending"].sum())
        looked = self.days[self.days["state"] != DayState.UNKNOWN]["date"]
        return {
            "Looked at": f"{looked.min()} to {looked.max()}",
            "Symbols": f"{len(self.symbols):,}, {live:,} of them live",
            "Files": f"{int(self.symbols['days_available'].sum()):,}",
            "Holes": f"{holes:,} symbol-day{'' if holes == 1 else 's'}",
            # A date may be complete, and pending for symbols that have ended.
            "Pending": f"{pending:,} symbol-day{'' if pending == 1 else 's'}",
            "Dates pending": f"{count.get(DayState.PENDING, 0):,} lack an expected file",
            "Dates unknown": f"{count.get(DayState.UNKNOWN, 0):,}",
        }

    def bands(self) -> list[tuple[int, int]]:
        """First and last offset of each stretch of dates never probed."""
        return list(_runs((self.days["state"] == DayState.UNKNOWN).to_numpy()))

    def segments(self) -> list[Segment]:
        """Each symbol's cells run by run, what is outside its life left out.

        Dates that nobody looked at split nothing: they are in `bands`, once for all symbols.
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


def calendar(data: ReportData) -> tuple[range, npt.NDArray[np.int8]]:
    """The years to show, and their dates' states: 8 rows a year (7 weekdays and a gap), 54 weeks.

    -1 is no date of ours. Leading years in which no file is expected are left out.
    """
    states = data.days["state"].to_numpy()
    first = data.date(int(np.argmax(states != DayState.IDLE)))
    years = range(first.year, data.date(len(states) - 1).year + 1)
    grid = np.full((8 * len(years) - 1, 54), -1, np.int8)
    for offset, state in enumerate(states):
        date = data.date(offset)
        if date.year in years:
            row, column = calendar_place(date)
            grid[8 * (date.year - years[0]) + row, column] = state
    return years, grid


def calendar_place(date: dt.date) -> tuple[int, int]:
    """Row (0 is Monday) and column (week of its year) of a date in the calendar."""
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
