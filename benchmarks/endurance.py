"""Three simulated years of unattended operation: does anything grow, slow down, or get lost?

    python -m benchmarks.endurance                # one week of six is lived: 10 minutes of CPU
    python -m benchmarks.endurance --sample 1     # every run of three years: an hour of CPU
    python -m benchmarks.endurance --plot docs/images/endurance.png

Every scheduled run of a lived week is made: the daily update at 02:00, the late arrivals at
03:00, 09:00, 15:00 and 21:00, all history on Sundays at 05:00. Clock and archive are simulated:
files appear in it at their time, some come weeks late, some are uploaded again, new symbols are
listed (1,000 at the start, 1,200 at the end). The runs are made at the store, by one process that
opens and closes the file for each write as the assets do. `symbol_spans` and `daily_summary`
are refreshed once a day and after each reconcile, not after each run. With --sample N only one
week of N is lived; the reconcile of the next one finds what happened meanwhile. Times are CPU,
all threads.

What Dagster remembers of the runs is another benchmark: `benchmarks.history`.
"""

import datetime as dt
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from availability_pipeline import queries
from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.archive.listing import NOTHING_RECORDED, Listing, Progress, Recorded
from availability_pipeline.record import write
from availability_pipeline.record.connection import reader, writer
from benchmarks import synthetic
from benchmarks.common import TORN, Row, parser, show

LOOKBACK = dt.timedelta(19)
DAY = dt.timedelta(1)
REUPLOADED = 0.001
"""Share of the files that are uploaded again, 30 days later."""

_EPOCH = dt.date(1970, 1, 1).toordinal()


class SimulatedArchive:
    """An archive that changes with a clock; what has not been published yet is not listed."""

    def __init__(self, files: synthetic.Synthetic, now: Callable[[], dt.datetime]) -> None:
        self._now = now
        self._names = np.array([one.symbol for one in files.symbols], dtype=object)
        codes = np.repeat(np.arange(len(self._names)), [len(one.days) for one in files.symbols])
        days = np.concatenate([one.days for one in files.symbols])
        order = np.lexsort((codes, days))
        self._codes, self._days = codes[order], days[order]
        self._sizes = np.concatenate([one.sizes for one in files.symbols])[order]
        self._modified = np.concatenate([one.modified for one in files.symbols])[order]
        self._first = np.array([one.modified.min() for one in files.symbols])
        self._again = np.random.default_rng(7).random(len(order)) < REUPLOADED

    def list_range(
        self,
        start: dt.date,
        end: dt.date,
        progress: Progress | None = None,
        recorded: Recorded = NOTHING_RECORDED,
        **_: object,
    ) -> Listing:
        """What a listing would find now."""
        now = self._now()
        at = int(now.timestamp())
        known = self._first <= at
        names = tuple(self._names[known])
        behind = recorded.behind(names, start, end)
        first, last = recorded.span(start, end) if behind else (start, end)
        low, high = np.searchsorted(self._days, (first.toordinal(), last.toordinal() + 1))
        cut = np.flatnonzero(self._modified[low:high] <= at) + low
        if behind:
            inside = (self._days[cut] >= start.toordinal()) & (self._days[cut] <= end.toordinal())
            wide = np.isin(self._names, list(behind))[self._codes[cut]]
            cut = cut[inside | wide]
        later = self._modified[cut] + 30 * 86400
        again = self._again[cut] & (later <= at)
        files = pd.DataFrame(
            {
                "symbol": pd.Categorical.from_codes(
                    (np.cumsum(known) - 1)[self._codes[cut]], categories=pd.Index(names)
                ),
                "date": (self._days[cut] - _EPOCH).astype("datetime64[D]").astype("datetime64[us]"),
                "file_size_bytes": self._sizes[cut] + again,
                "last_modified": pd.to_datetime(
                    np.where(again, later, self._modified[cut])
                    .astype("datetime64[s]").astype("datetime64[us]"),
                    utc=True,
                ),
                "etag_high": np.zeros(len(cut), "uint64"),
                "etag_low": (self._sizes[cut] + again).astype("uint64"),
            }
        )  # fmt: skip
        if progress:
            progress(len(names), len(names))
        return Listing(
            start, end, names, files, 2 * len(names), {}, now,
            widened=behind, widened_start=first, widened_end=last,
        )  # fmt: skip


def ticks(
    start: dt.date, end: dt.date, sample: int
) -> Iterator[tuple[str, dt.datetime, dt.date, dt.date]]:
    """The scheduled runs of one week of `sample`: which, when, first and last date looked at."""
    for n in range((end - start).days):
        if n // 7 % sample and (end - start).days - n > 7:  # the last week is always lived
            continue
        today = start + n * DAY
        yesterday = today - DAY
        hours = {2: "daily", 3: "late", 9: "late", 15: "late", 21: "late"}
        if today.weekday() == 6:
            hours[5] = "reconcile"
        for hour, kind in sorted(hours.items()):
            first = {"daily": yesterday, "late": yesterday - LOOKBACK, "reconcile": FIRST_DATE}
            at = dt.datetime.combine(today, dt.time(hour), tzinfo=dt.UTC)
            yield kind, at, first[kind], yesterday


@dataclass
class Point:
    """What was measured over a quarter of a year."""

    day: float
    rows: int
    revisions: int
    megabytes: float
    wal_megabytes: float
    rss_megabytes: float
    milliseconds: dict[str, float] = field(default_factory=dict)


def rss() -> float:
    """Resident memory of this process, MB; peak where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [x for x in status.read_text().splitlines() if x.startswith("VmRSS")]
        return int(line.split()[1]) / 1000
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def ask(path: Path, day: dt.date) -> dict[str, float]:
    """CPU milliseconds of the questions, the best of three."""
    found: dict[str, float] = {}
    asked: dict[str, Callable[[Any], object]] = {
        "snapshot": lambda con: queries.snapshot(con, day),
        "timeline": lambda con: queries.timeline(con, "BTCUSDT"),
        "holes": lambda con: queries.holes(con),
    }
    for name, work in asked.items():
        times = []
        for _ in range(3):
            with reader(path) as con:
                before = time.process_time()
                work(con)
                times.append((time.process_time() - before) * 1000)
        found[name] = min(times)
    return found


def live(
    path: Path, symbols: int, start: dt.date, end: dt.date, every: int, sample: int = 1
) -> dict[str, Any]:
    """Make every run from `start` to `end`; a `Point` every `every` days."""
    clock = [dt.datetime.combine(start, dt.time(0), tzinfo=dt.UTC)]
    archive = SimulatedArchive(synthetic.build(symbols, end), lambda: clock[0])
    listing = archive.list_range(FIRST_DATE, start - 2 * DAY)
    with writer(path) as con:
        write.write_probe(con, listing, probed_at=clock[0], run_id="backfill")
    points: list[Point] = []
    spent: dict[str, list[float]] = {}
    runs, wal, last = 0, 0.0, start
    wal_path = path.with_name(path.name + ".wal")

    def note(day: dt.date) -> None:
        with reader(path) as con:
            [(rows, revisions)] = con.execute(
                "SELECT (SELECT count(*) FROM files), (SELECT count(*) FROM revisions)"
            ).fetchall()
        medians = {kind: statistics.median(times) for kind, times in spent.items()}
        points.append(
            Point(
                (day - start).days / 365, rows, revisions, path.stat().st_size / 1e6, wal, rss(),
                medians | ask(path, day - 2 * DAY),
            )
        )  # fmt: skip
        print(json.dumps(points[-1].__dict__), file=sys.stderr, flush=True)
        spent.clear()

    note(start)
    for kind, at, first, yesterday in ticks(start, end, sample):
        clock[0] = at
        with reader(path) as con:
            recorded = write.recorded(con)
        listing = archive.list_range(first, yesterday, recorded=recorded)
        before = time.process_time()
        with writer(path) as con:
            write.write_probe(con, listing, probed_at=at, run_id=f"{at:%Y-%m-%d %H}")
            wal = max(wal, wal_path.stat().st_size / 1e6 if wal_path.exists() else 0)
        spent.setdefault(kind, []).append((time.process_time() - before) * 1000)
        runs += 1
        if at.hour == 21 and (at.date() - last).days >= every:
            last = at.date()
            note(last)
    if last < end - DAY:
        note(end)
    return {
        "runs": runs,
        "points": points,
        "torn": torn(path),
        "fresh": fresh(path, archive, clock[0], end - 2 * DAY),
    }


def torn(path: Path) -> int:
    """Dates whose rows are not one probe of every symbol, or later ones of some: must be none."""
    with reader(path) as con:
        return len(con.execute(TORN).fetchall())


def fresh(
    path: Path, archive: SimulatedArchive, now: dt.datetime, day: dt.date
) -> dict[str, float]:
    """Size and questions of a database that was written at once with the same files."""
    other = path.with_name("fresh.duckdb")
    listing = archive.list_range(FIRST_DATE, now.date() - DAY)
    with writer(other) as con:
        write.write_probe(con, listing, probed_at=now, run_id="fresh")
    return {"megabytes": other.stat().st_size / 1e6, **ask(other, day)}


def plot(points: list[Point], target: Path) -> None:
    """The curve: size, memory, time per run and per question over the years."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    years = [point.day for point in points]
    axes[0].plot(years, [p.megabytes for p in points], marker="o", label="database, MB")
    axes[0].plot(years, [p.rss_megabytes for p in points], marker="o", label="process, MB")
    axes[0].plot(years, [p.rows / 1e5 for p in points], "--", label="rows, 100,000")
    axes[0].set_title("size")
    for kinds, axis, title in (
        (("daily", "late"), axes[1], "one write, CPU ms"),
        (("snapshot", "timeline"), axes[2], "one question, CPU ms"),
    ):
        for kind in kinds:
            found = [(p.day, p.milliseconds[kind]) for p in points if kind in p.milliseconds]
            axis.plot(*zip(*found, strict=True), marker="o", label=kind)
        axis.set_title(title)
    for axis in axes:
        axis.set_ylim(bottom=0)
        axis.set_xlabel("simulated years")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=100)
    plt.close(figure)


def main() -> None:
    """Live, print, plot."""
    options = parser(__doc__)
    options.add_argument("--years", type=float, help="simulated years (3; quick: 0.03)")
    options.add_argument("--sample", type=int, default=6, help="live one week of so many (6)")
    options.add_argument("--plot", type=Path, help="write the curve to this PNG")
    arguments = options.parse_args()
    quick = arguments.quick
    symbols = arguments.symbols or (30 if quick else 1200)
    years = arguments.years or (0.03 if quick else 3)
    start = dt.date(2026, 11, 2)  # a Monday
    end = start + dt.timedelta(round(years * 365))
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.duckdb"
        found = live(path, symbols, start, end, 14 if quick else 91, arguments.sample)
    points: list[Point] = found["points"]
    first, last, fresh_one = points[1], points[-1], found["fresh"]
    peak = max(point.megabytes for point in points)
    grown = last.rows / first.rows
    rows = [
        Row(
            "runs, and torn dates at the end", f"{found['runs']:,} runs, {found['torn']} torn",
            f"{last.rows:,} rows, {last.revisions:,} revisions", "0 torn", found["torn"] == 0,
        ),
        Row(
            "database, largest", f"{peak:.1f} MB",
            f"written at once, without revisions: {fresh_one['megabytes']:.1f} MB",
            "at most 3 times", peak <= 3 * fresh_one["megabytes"],
        ),
        Row(
            "database, first quarter to last",
            f"{first.megabytes:.1f} to {last.megabytes:.1f} MB",
            f"rows {first.rows:,} to {last.rows:,} ({grown:.2f} times)",
        ),
        Row("WAL, largest", f"{max(p.wal_megabytes for p in points):.1f} MB"),
        Row(
            "process, first quarter to last",
            f"{first.rss_megabytes:.0f} to {last.rss_megabytes:.0f} MB", "one process for all runs",
            "at most 1.5 times", last.rss_megabytes <= 1.5 * first.rss_megabytes,
        ),
    ]  # fmt: skip
    for kind in ("daily", "late", "reconcile"):
        times = [p.milliseconds[kind] for p in (first, last)]
        rows.append(
            Row(
                f"{kind}, first quarter to last", f"{times[0]:.0f} to {times[1]:.0f} ms",
                f"rows {grown:.2f} times", "at most 2 times", times[1] <= 2 * times[0],
            )
        )  # fmt: skip
    for kind in ("snapshot", "timeline", "holes"):
        now = last.milliseconds[kind]
        rows.append(
            Row(
                f"{kind}, after it all", f"{now:.1f} ms",
                f"database written at once: {fresh_one[kind]:.1f} ms", "at most 2.5 times",
                now <= 2.5 * fresh_one[kind],
            )
        )  # fmt: skip
    minutes = (time.perf_counter() - begun) / 60
    notes = [f"one week of {arguments.sample} was lived, in {minutes:.0f} minutes"]
    show(f"Endurance: {years:g} simulated years", rows, quick=quick, notes=notes)
    if arguments.plot:
        plot(points, arguments.plot)
        print(f"plotted to {arguments.plot}")


if __name__ == "__main__":
    main()
