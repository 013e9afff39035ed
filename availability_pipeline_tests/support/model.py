"""What the record must answer, in plain Python: dictionaries, and the README's definitions.

Written from the contract (README, docs/query.md, docs/architecture.md), not from the SQL, so that a
mistake in one is a difference to the other. Slow and obvious on purpose; it knows no DuckDB.
"""

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TypeVar

T = TypeVar("T")

DAY = dt.timedelta(1)
FIRST_DATE = dt.date(2019, 9, 25)
NEIGHBOURS = dt.timedelta(8)
"""What is seen of a rename within so long of each other is one event."""

File = tuple[int, dt.datetime]
"""Size in bytes, and LastModified."""

Archive = Mapping[str, Mapping[dt.date, File]]
"""What the archive lists: symbol -> date -> file; a symbol without files may have a folder."""


class UnknownError(Exception):
    """The question is about a date that was never probed."""


def stem(symbol: str) -> str:
    """The name that all settlings of a contract share."""
    return re.sub(r"(_?SETTLED)+$", "", symbol)


def contract_type(symbol: str) -> str:
    if stem(symbol) != symbol:
        return "settled"
    return "delivery" if re.search(r"_\d{6}$", symbol) else "perpetual"


def quote(symbol: str) -> str | None:
    pair = re.sub(r"_\d{6}$", "", stem(symbol))
    known = ("USDT", "BUSD", "USDC", "USD1", "BTC", "U")
    return next((q for q in known if pair.endswith(q) and pair != q), None)


def end_by_name(symbol: str) -> dt.date | None:
    """The date on which a delivery contract ends, as its name says."""
    found = re.search(r"_(\d{6})$", symbol)
    if not found:
        return None
    return dt.datetime.strptime(found.group(1), "%y%m%d").replace(tzinfo=dt.UTC).date()


def days(start: dt.date, end: dt.date) -> list[dt.date]:
    return [start + n * DAY for n in range((end - start).days + 1)]


def quantile(values: Sequence[float], share: float) -> float:
    """Linear between the two nearest, as most define it."""
    place = (len(values) - 1) * share
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def kept(method: Callable[..., T]) -> Callable[..., T]:
    """Worked out once after each probe, for it is asked for often."""

    @wraps(method)
    def wrapper(self: "Model", *args: object) -> T:
        key = (method.__name__, *args)
        if key not in self.memory:
            self.memory[key] = method(self, *args)
        return self.memory[key]  # type: ignore[return-value]

    return wrapper


@dataclass(frozen=True)
class Revision:
    date: dt.date
    symbol: str
    observed_at: dt.datetime
    change: str
    old: File | None
    new: File | None
    run_id: str


@dataclass
class Cell:
    """A symbol's file on a date, or none, as its last probe saw it."""

    file: File | None
    probed_at: dt.datetime


@dataclass
class Model:
    settle_days: int = 3
    probes: dict[dt.date, tuple[dt.datetime, str]] = field(default_factory=dict)
    looked: dict[dt.date, tuple[dt.datetime, int, int, str]] = field(default_factory=dict)
    """Of each date's last probe: when, the symbols known and the files seen then, and its run."""
    listed_at: dict[str, dt.datetime] = field(default_factory=dict)
    """When a symbol was probed on all dates at once, not only on those of a range."""
    cells: dict[tuple[dt.date, str], Cell] = field(default_factory=dict)
    first_seen: dict[str, dt.datetime] = field(default_factory=dict)
    last_seen: dict[str, dt.datetime] = field(default_factory=dict)
    revisions: list[Revision] = field(default_factory=list)
    last_probe: dt.datetime | None = None
    left_at: dict[str, dt.datetime] = field(default_factory=dict)
    """Symbols that were left out, since when; without those that were listed again."""
    memory: dict[object, object] = field(default_factory=dict)

    # A probe

    def also_listed(self, archive: Archive, leave_out: Collection[str]) -> set[str]:
        """Symbols listed over all probed dates: the newly seen, and all of the same stem.

        So are those that were left out and are listed again, or have no folder any more.
        """
        again = self.left_at.keys() - leave_out
        new = {stem(s) for s in archive if s not in self.first_seen or s in again}
        without_folder = self.left_at.keys() - archive.keys()
        return {s for s in {*archive, *self.first_seen} if stem(s) in new} | without_folder

    def left_out(self, archive: Archive, leave_out: Collection[str]) -> set[str]:
        """The symbols with a folder of which a probe says nothing."""
        return set(leave_out) & archive.keys() - self.also_listed(archive, leave_out)

    def written(
        self, start: dt.date, end: dt.date, archive: Archive, leave_out: Collection[str]
    ) -> set[tuple[dt.date, str]]:
        """The cells that a probe writes."""
        symbols, dates = {*archive, *self.first_seen}, days(start, end)
        symbols -= self.left_out(archive, leave_out)
        wide = self.also_listed(archive, leave_out)
        return {(d, s) for d in dates for s in symbols} | {
            (d, s) for d in self.probes for s in wide
        }

    def refusals(
        self,
        start: dt.date,
        end: dt.date,
        archive: Archive,
        now: dt.datetime,
        server_time: dt.datetime | None,
        leave_out: Collection[str] = (),
    ) -> set[str]:
        """Why the probe may not become a fact: `past`, `skew`, `shrunken`; any of them."""
        found = set()
        if any(at > now for at in self.listed_at.values()):
            found.add("past")
        left = self.left_out(archive, leave_out)
        for symbol in left:
            for_the_first_time = symbol not in self.left_at or self.left_at[symbol] > now
            if for_the_first_time and any(at >= now for at, _ in self.probes.values()):
                found.add("past")
        for date, symbol in self.written(start, end, archive, leave_out):
            cell, probe = self.cells.get((date, symbol)), self.probes.get(date)
            if (cell and cell.probed_at > now) or (probe and probe[0] > now):
                found.add("past")
        if server_time and abs(now - server_time) > dt.timedelta(minutes=60):
            found.add("skew")
        known = {s for s, at in self.last_seen.items() if at == self.last_probe}
        if len(known) >= 2 and len(known & set(archive)) < len(known) / 2:
            found.add("shrunken")
        stored = {
            (date, symbol) for (date, symbol), cell in self.cells.items()
            if cell.file and start <= date <= end and symbol not in left
        }  # fmt: skip
        still = [1 for d, s in stored if d in archive.get(s, {})]
        if len(stored) >= 20 and len(still) < len(stored) / 2:
            found.add("shrunken")
        return found

    def probe(
        self,
        start: dt.date,
        end: dt.date,
        archive: Archive,
        now: dt.datetime,
        run_id: str,
        leave_out: Collection[str] = (),
    ) -> None:
        left, wide = self.left_out(archive, leave_out), self.also_listed(archive, leave_out)
        for date, symbol in self.written(start, end, archive, leave_out):
            new, old = archive.get(symbol, {}).get(date), self.cells.get((date, symbol))
            was = old.file if old else None
            if date in self.probes and was != new:
                change = "appeared" if not was else "vanished" if not new else "replaced"
                if was and new and was[0] == new[0]:  # in these tests a size has one content
                    change = "touched"
                self.revisions.append(Revision(date, symbol, now, change, was, new, run_id))
            self.cells[date, symbol] = Cell(new, now)
        if self.probes.keys() <= set(days(start, end)):
            self.left_at = {s: at for s, at in self.left_at.items() if s in left}
        else:
            self.listed_at |= dict.fromkeys(wide, now)
            self.left_at = {s: at for s, at in self.left_at.items() if s not in wide}
        self.left_at = dict.fromkeys(left, now) | self.left_at
        for date in days(start, end):
            self.probes[date] = now, run_id
            seen = sum(date in files for s, files in archive.items() if s not in left)
            known = len({*archive, *self.first_seen})
            self.looked[date] = now, known, seen, run_id
        for symbol in archive:
            self.first_seen.setdefault(symbol, now)
            self.first_seen[symbol] = min(self.first_seen[symbol], now)
            self.last_seen[symbol] = now
        self.last_probe = now
        self.memory.clear()

    # What a cell and a date are

    def settled_at(self, date: dt.date) -> dt.datetime:
        """From this moment on a probe confirms an absence."""
        return dt.datetime.combine(date + (1 + self.settle_days) * DAY, dt.time(), dt.UTC)

    @kept
    def status(self, date: dt.date, symbol: str) -> str:
        cell = self.cells.get((date, symbol))
        if cell is None:
            return "unknown"
        if cell.file:
            return "available"
        return "absent" if cell.probed_at >= self.settled_at(date) else "pending"

    def require(self, *dates: dt.date) -> None:
        if any(date not in self.probes for date in dates):
            raise UnknownError(dates)

    @property
    def symbols(self) -> list[str]:
        return sorted(self.first_seen)

    @kept
    def files(self, symbol: str) -> list[dt.date]:
        return sorted(d for d in self.probes if self.status(d, symbol) == "available")

    @kept
    def published_files(self, date: dt.date) -> int:
        return sum(self.status(date, s) == "available" for s in self.symbols)

    @kept
    def settled_dates(self) -> list[dt.date]:
        return sorted(d for d, (at, _) in self.probes.items() if at >= self.settled_at(d))

    # Who publishes no more

    @kept
    def outages(self) -> set[str]:
        """Symbols that stopped together in numbers."""
        settled, dates = self.settled_dates(), sorted(self.probes)
        if not settled:
            return set()
        stops: dict[str, int] = {}
        for symbol in self.symbols:
            files = self.files(symbol)
            end = end_by_name(symbol)
            named = contract_type(symbol) == "settled" or (end and end <= settled[-1])
            if files and files[-1] < settled[-1] and not named:
                stops[symbol] = dates.index(files[-1])
        counts = [self.published_files(d) for d in dates]
        found = set()
        for n in range(len(dates)):
            together = {s for s, at in stops.items() if n <= at < n + 5}
            published = max(counts[max(0, n - 13) : n + 1])
            until = dates[min(n + 5, len(dates) - 1)]
            unprobed = len(set(days(dates[n], until)) - self.probes.keys())
            share = len(together) / published if published else float(bool(together))
            gap = 0.001 * unprobed
            if (len(together) >= 3 and share >= 0.25 + gap) or share > 0.5 + gap:
                found |= together
        return found

    @kept
    def ended_before(self) -> dt.date | None:
        """A symbol ended that has no file from this date on: three published dates."""
        outages = self.outages()
        windows = [(f[0], f[-1], s in outages) for s in self.symbols if (f := self.files(s))]
        published = []
        for date in self.settled_dates():
            expected = sum(first <= date and (out or date <= last) for first, last, out in windows)
            files = self.published_files(date)
            if expected > 0 and files >= expected / 2:
                published.append(date)
        return published[-3] if len(published) >= 3 else None

    def state(self, symbol: str, outages: set[str], before: dt.date | None) -> str:
        if contract_type(symbol) == "settled":
            return "settled"
        if symbol in outages or before is None:
            return "live"
        last = max(self.files(symbol), default=None)
        if last is None:
            return "ended" if min(self.probes) <= before else "live"
        return "ended" if last < before else "live"

    def delisted(self) -> list[str]:
        """Symbols that publish no more, as far as is confirmed."""
        before = self.ended_before()
        return [
            symbol
            for symbol, *_, last, _files, _holes, state in self.listings()
            if state == "ended" or (state == "settled" and before and last and last < before)
        ]

    # Answers

    def snapshot(self, date: dt.date, status: str) -> list[tuple[str, int | None, object]]:
        self.require(date)
        return [
            (s, *(self.cells[date, s].file or (None, None)))
            for s in self.symbols
            if self.status(date, s) == status
        ]

    def counts(self, date: dt.date) -> dict[str, int]:
        self.require(date)
        found = Counter(self.status(date, s) for s in self.symbols)
        return {status: found[status] for status in ("available", "pending", "absent")}

    def timeline(self, symbol: str, start: dt.date, end: dt.date) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        for date in days(start, end):
            status = self.status(date, symbol)
            if status == "unknown":
                rows.append((date, None, "unknown", None, None))
                continue
            file = self.cells[date, symbol].file
            rows.append((date, bool(file), status, file and file[0], 200 if file else 404))
        return rows

    def symbols_in_range(self, start: dt.date, end: dt.date) -> list[str]:
        self.require(*days(start, end))
        dates = days(start, end)
        return [s for s in self.symbols if any(self.status(d, s) == "available" for d in dates)]

    def missing_dates(self, start: dt.date, end: dt.date) -> list[dt.date]:
        return [date for date in days(start, end) if date not in self.probes]

    @kept
    def holes(self) -> list[tuple[str, dt.date]]:
        found = []
        for symbol in self.symbols:
            files = self.files(symbol)
            for date in sorted(self.probes):
                inside = files and files[0] < date < files[-1]
                if inside and self.status(date, symbol) == "absent":
                    found.append((symbol, date))
        return found

    @kept
    def listings(self) -> list[tuple[object, ...]]:
        """symbol, contract type, quote, first and last file, files, holes, state."""
        outages, before = self.outages(), self.ended_before()
        holes = Counter(symbol for symbol, _ in self.holes())
        rows = []
        for symbol in self.symbols:
            files = self.files(symbol)
            first, last = (files[0], files[-1]) if files else (None, None)
            state = self.state(symbol, outages, before)
            names = symbol, contract_type(symbol), quote(symbol)
            rows.append((*names, first, last, len(files), holes[symbol], state))
        return rows

    def new_listings(self, date: dt.date) -> list[str]:
        self.require_with_day_before(date)
        return [row[0] for row in self.listings() if row[3] == date]

    def delistings(self, date: dt.date) -> list[str]:
        self.require_with_day_before(date)
        before = self.ended_before()
        return [
            symbol
            for symbol, *_, last, _files, _holes, state in self.listings()
            if last == date - DAY
            and (state == "ended" or (state == "settled" and before and last < before))
        ]

    def require_with_day_before(self, date: dt.date) -> None:
        self.require(date)
        if date > FIRST_DATE:
            self.require(date - DAY)

    def delistings_confirmed(self, date: dt.date) -> bool:
        before = self.ended_before()
        return before is not None and date <= before

    @kept
    def daily(self) -> list[tuple[object, ...]]:
        """The table `daily_summary`; None is unknown."""
        listings, before = self.listings(), self.ended_before()
        rows = []
        for date in sorted(self.probes):
            counts = self.counts(date)
            known = date == FIRST_DATE or date - DAY in self.probes
            begun = [r for r in listings if r[3] == date]
            gone = [
                r for r in listings
                if r[4] == date - DAY
                and (r[7] == "ended" or (r[7] == "settled" and before and r[4] < before))
            ]  # fmt: skip
            expected = [
                r for r in listings if r[3] and r[3] <= date and (r[7] == "live" or date <= r[4])
            ]
            cells = [c for s in self.symbols if (c := self.cells.get((date, s)))]
            files = [cell.file for cell in cells if cell.file]
            midnight = dt.datetime.combine(date + DAY, dt.time(), dt.UTC)
            lags = sorted((time - midnight).total_seconds() / 3600 for _, time in files)
            rows.append((
                date, len(cells), len(expected), counts["available"], counts["pending"],
                counts["absent"], len(begun) if known else None, len(gone) if known else None,
                sum(size for size, _ in files),
                round(quantile(lags, 0.5), 6) if lags else None,
                round(quantile(lags, 0.95), 6) if lags else None,
            ))  # fmt: skip
        return rows

    def summary(self, start: dt.date, end: dt.date) -> list[tuple[object, ...]]:
        dates = [d for d in days(start, end) if d in self.probes]
        if not dates:
            raise UnknownError
        counts = ((date, self.counts(date)) for date in dates)
        return [(date, found["available"], found["pending"]) for date, found in counts]

    def universe(
        self, start: dt.date, end: dt.date, *, mark: bool
    ) -> tuple[list[str], list[tuple[object, ...]]]:
        """Columns and rows; a cell is True, False, or None for pending and unknown."""
        dates = days(start, end)
        if not mark:
            self.require(*dates)
        columns = [s for s in self.symbols if any(self.status(d, s) == "available" for d in dates)]
        said = {"available": True, "absent": False}
        return columns, [(d, *(said.get(self.status(d, s)) for s in columns)) for d in dates]

    def coverage(self, today: dt.date) -> dict[str, object]:
        statuses = Counter(self.status(date, symbol) for date, symbol in self.cells)
        early = {d for d, (at, _) in self.probes.items() if at < self.settled_at(d)}
        pending = sorted(d for d, s in self.cells if d in early and self.status(d, s) == "pending")
        first_pending = pending[0] if pending else dt.date.max
        return {
            "first_date": min(self.probes),
            "last_date": max(self.probes),
            "settled_to": max((d for d in self.probes if d < first_pending), default=None),
            "dates": len(self.probes),
            "unknown_dates": len(self.missing_dates(FIRST_DATE, today - DAY)),
            "symbols": len(self.symbols),
            "available": statuses["available"],
            "pending": statuses["pending"],
            "holes": len(self.holes()),
            "last_probe": max(at for at, _ in self.probes.values()),
        }

    def short_dates(self, share: float) -> list[tuple[object, ...]]:
        settled = set(self.settled_dates())
        return [
            (*row[0:1], *row[2:4], 0 if row[0] in settled else row[4])
            for row in self.daily()
            if row[3] < share * row[2]  # type: ignore[operator]
        ]

    def all_revisions(self, since: dt.date | None = None) -> list[Revision]:
        begin = dt.datetime.combine(since or dt.date(1970, 1, 1), dt.time(), dt.UTC)
        found = (r for r in self.revisions if r.observed_at >= begin)
        return sorted(found, key=lambda r: (r.observed_at, r.symbol, r.date))

    # What is news

    @kept
    def moves(self) -> list[tuple[Revision, Revision]]:
        """A file that vanished from one name and appeared under a settled one, as one move.

        The same date, size and stem, at most `NEIGHBOURS` apart. Of several the nearest in time,
        then the name that is one `SETTLED` longer; each file moves once.
        """
        gone = [r for r in self.revisions if r.change == "vanished"]
        came = [r for r in self.revisions if r.change == "appeared" and r.symbol != stem(r.symbol)]

        def fit(g: Revision, c: Revision) -> tuple[object, ...] | None:
            apart = abs(g.observed_at - c.observed_at)
            steps = c.symbol.count("SETTLED") - g.symbol.count("SETTLED")
            fits = (
                g.date == c.date and g.symbol != c.symbol and stem(g.symbol) == stem(c.symbol)
                and g.old and c.new and g.old[0] == c.new[0] and apart <= NEIGHBOURS and steps >= 0
            )  # fmt: skip
            return (apart, abs(steps - 1)) if fits else None

        found = []
        for g in gone:
            fitting = [c for c in came if fit(g, c)]
            if not fitting:
                continue
            best = min(fitting, key=lambda c: (*fit(g, c), c.observed_at, c.symbol))  # type: ignore[misc]
            rivals = [other for other in gone if fit(other, best)]
            first = min(rivals, key=lambda r: (*fit(r, best), r.observed_at, r.symbol))  # type: ignore[misc]
            if first is g:
                found.append((g, best))
        return found

    @kept
    def renames(self) -> list[tuple[object, ...]]:
        """symbol, new name, first and last date, files, first and last time it was seen."""
        by_names: dict[tuple[str, str], list[tuple[dt.datetime, dt.date]]] = {}
        for g, c in self.moves():
            seen = max(g.observed_at, c.observed_at)
            by_names.setdefault((g.symbol, c.symbol), []).append((seen, g.date))
        rows = []
        for names, moved in by_names.items():
            events: list[list[tuple[dt.datetime, dt.date]]] = []
            for seen, date in sorted(moved):
                if events and seen - events[-1][-1][0] <= NEIGHBOURS:
                    events[-1].append((seen, date))
                else:
                    events.append([(seen, date)])
            for event in events:
                dates = sorted(date for _, date in event)
                times = event[0][0], event[-1][0]
                rows.append((*names, dates[0], dates[-1], len(event), *times))
        return sorted(rows, key=lambda row: (row[5], *row[:3]))

    def is_routine(self, revision: Revision) -> bool:
        """It appeared while its date settled, as nearly all do, and had not been there before."""
        if revision.change != "appeared" or revision.new is None:
            return False
        before = [
            r for r in self.revisions
            if r.change == "vanished" and (r.symbol, r.date) == (revision.symbol, revision.date)
            and r.observed_at < revision.observed_at
        ]  # fmt: skip
        return revision.new[1] < self.settled_at(revision.date) and not before

    def changes(self, since: dt.date | None, symbol: str | None) -> set[tuple[object, ...]]:
        """observed_at, change, symbol, date, last date, files, new name."""
        begin = dt.datetime.combine(since or dt.date(1970, 1, 1), dt.time(), dt.UTC)
        moved = {id(revision) for pair in self.moves() for revision in pair}
        found = {
            (r.observed_at, r.change, r.symbol, r.date, r.date, 1, None)
            for r in self.revisions
            if r.observed_at >= begin and id(r) not in moved and not self.is_routine(r)
            and symbol in (None, r.symbol)
        }  # fmt: skip
        for old, new, first, last, files, seen, last_seen in self.renames():
            if last_seen >= begin and symbol in (None, old, new):  # type: ignore[operator]
                found.add((seen, "renamed", old, first, last, files, new))
        return found

    def rows(self) -> Iterable[tuple[object, ...]]:
        """Every cell, as the view `availability` has it."""
        for (date, symbol), cell in sorted(self.cells.items()):
            file = cell.file or (None, None)
            yield date, symbol, bool(cell.file), *file, cell.probed_at, self.status(date, symbol)
