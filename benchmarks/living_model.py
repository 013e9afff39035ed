"""What a record of the living archive must hold, kept the simple way: dictionaries, no SQL."""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset, unsettled
from benchmarks.living_archive import File

DAY = dt.timedelta(1)

Cell = tuple[dt.date, str]
"""Period and symbol."""

Revision = tuple[dt.date, str, str, int | None, int | None, dt.datetime]
"""Period, symbol, change, size before and after, and when it was seen."""


@dataclass
class Model:
    """What a record of one dataset that is right must hold.

    Attributes:
        files: symbol -> period -> what was last seen.
        probed: each period's last probe, of some symbol.
        first: its first.
        left: the symbols that were left out since then, and not listed since.
    """

    dataset: Dataset = UM_KLINES_1M
    daily_settle_days: int = 3
    files: dict[str, dict[dt.date, File]] = field(default_factory=dict)
    known: dict[str, dt.datetime] = field(default_factory=dict)
    probed: dict[dt.date, dt.datetime] = field(default_factory=dict)
    first: dict[dt.date, dt.datetime] = field(default_factory=dict)
    left: dict[str, dt.datetime] = field(default_factory=dict)
    revisions: list[Revision] = field(default_factory=list)
    there: Counter[dt.date] = field(default_factory=Counter)
    _history: dict[dt.date, list[dt.datetime]] = field(default_factory=lambda: defaultdict(list))
    _own: dict[str, dt.datetime] = field(default_factory=dict)

    def look(
        self,
        start: dt.date,
        end: dt.date,
        files: Mapping[str, Mapping[dt.date, File]],
        now: dt.datetime,
        left_out: Collection[str] = (),
    ) -> None:
        """One whole probe of all periods from `start` to `end`, without some symbols.

        And of all periods probed so far for the symbols that are new or were left out before, and
        their settlings.
        """
        again = self.left.keys() - set(left_out)
        stems = {unsettled(symbol) for symbol in files if symbol not in self.known}
        stems |= {unsettled(symbol) for symbol in files if symbol in again}
        everybody = {*files, *self.known}
        wide = {s for s in everybody if unsettled(s) in stems} | (self.left.keys() - files.keys())
        of_range = self.dataset.periods(start, end)
        for symbol in sorted(everybody - set(left_out)):
            old, new = self.files.get(symbol, {}), files.get(symbol, {})
            looked: Collection[dt.date] = of_range
            if symbol in wide:
                looked = {*of_range, *self.probed}
            elif len(old) + len(new) < len(of_range):
                looked = [p for p in {*old, *new} if start <= p <= end]
            for period in looked:
                self._see(symbol, period, old.get(period), new.get(period), now)
        for symbol in files:
            self.known.setdefault(symbol, now)
        if self.probed.keys() <= set(of_range):
            self.left = {s: since for s, since in self.left.items() if s in left_out}
        self.left = {s: since for s, since in self.left.items() if s not in wide}
        self.left = dict.fromkeys(set(left_out), now) | self.left
        for period in of_range:
            self.probed[period] = now
            self._history[period].append(now)
            self.first.setdefault(period, now)
        self._own |= dict.fromkeys(wide, now)

    def _see(
        self, symbol: str, period: dt.date, old: File | None, new: File | None, now: dt.datetime
    ) -> None:
        if old == new:
            return
        if period in self.probed:
            change = "appeared" if old is None else "vanished" if new is None else "replaced"
            if old and new and old.etag == new.etag:
                change = "touched"
            sizes = old and old.size, new and new.size
            self.revisions.append((period, symbol, change, *sizes, now))
        self.there[period] += (new is not None) - (old is not None)
        if new is None:
            del self.files[symbol][period]
        else:
            self.files.setdefault(symbol, {})[period] = new

    def settled_at(self, period: dt.date) -> dt.datetime:
        """From this moment on a probe confirms an absence."""
        after = self.dataset.last_day(period) + DAY
        days = 15 if self.dataset.monthly else self.daily_settle_days
        return dt.datetime.combine(after, dt.time(), dt.UTC) + days * DAY

    def settled(self, period: dt.date) -> bool:
        """Whether it was probed after that."""
        return self.probed[period] >= self.settled_at(period)

    def status(self, symbol: str, period: dt.date) -> str:
        """Of a probed period."""
        if period in self.files.get(symbol, ()):
            return "available"
        looks = [self.probed[period]]
        if symbol in self.left:
            looks = [now for now in self._history[period] if now < self.left[symbol]][-1:]
        if looks and self._own.get(symbol, looks[0]) > looks[0]:
            looks = [self._own[symbol]]
        if not looks:
            return "unknown"
        return "absent" if looks[0] >= self.settled_at(period) else "pending"

    def statuses(self) -> dict[Cell, str]:
        """Of every cell that was probed."""
        found = {(p, s): self.status(s, p) for s in self.known for p in self.probed}
        return {cell: status for cell, status in found.items() if status != "unknown"}

    def holes(self) -> set[Cell]:
        """Confirmed absences between a symbol's first and last file."""
        found = set()
        for symbol, files in self.files.items():
            if not files:
                continue
            first, last = min(files), max(files)
            inside = self.dataset.periods(first, last)
            if len(inside) > len(files):
                found |= {
                    (period, symbol)
                    for period in inside
                    if period in self.probed and self.status(symbol, period) == "absent"
                }
        return found
