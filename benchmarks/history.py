"""What Dagster remembers: bytes a run, bytes a year, and what `history_retention` leaves.

    python -m benchmarks.history

Real runs of all default schedules on an instance on disk with our dagster.yaml, at the hours of the
schedules; the archive has few symbols, since Dagster sees partitions, not rows. First a backfill of
all history, then weeks, the runs older than a week deleted at the end of each but the first.
"""

import datetime as dt
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import dagster as dg

from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.orchestration.beta import without_beta_warnings
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.instance.retention import prune
from availability_pipeline.orchestration.partitions import range_tags
from availability_pipeline.orchestration.resources import AvailabilityDuckDB
from availability_pipeline_tests.support.world import KLINES, updated
from benchmarks import synthetic
from benchmarks.common import Row, parser, show
from benchmarks.endurance import LOOKBACK, SimulatedArchive

ROOT = Path(__file__).parents[1]
# The hours (UTC) of a day's runs: schedules.py.
DAY = (
    (2, 0, "daily_update"), (3, 0, "late_arrivals"), (5, 0, "full_reconcile"),
    (9, 0, "late_arrivals"), (9, 30, "slo_checks"), (15, 0, "late_arrivals"),
    (21, 0, "late_arrivals"),
)  # fmt: skip
SUNDAY = 6


class FakeClock:
    """A minute later at each look."""

    def __init__(self, now: dt.datetime) -> None:
        self.time = now

    def now(self) -> dt.datetime:
        """The time."""
        self.time += dt.timedelta(minutes=1)
        return self.time


def size(folder: Path) -> int:
    """Bytes of Dagster's files; a WAL is counted as what it will be when it is merged: nothing."""
    for path in folder.rglob("*.db"):
        with closing(sqlite3.connect(path)) as con:
            con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(
        path.stat().st_size
        for name in ("history", "storage", "schedules")
        for path in (folder / name).rglob("*")
        if path.is_file()
    )


def main() -> None:
    """Run, weigh, prune."""
    without_beta_warnings()
    options = parser(__doc__)
    options.add_argument("--weeks", type=int, help="weeks lived (4; quick: 2)")
    arguments = options.parse_args()
    quick = arguments.quick
    until = dt.date(2026, 11, 22)
    first = until - dt.timedelta(30) if quick else FIRST_DATE
    weeks = arguments.weeks or (2 if quick else 4)
    begin = until - dt.timedelta(7 * weeks - 1)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        shutil.copy(ROOT / "dagster.yaml", home)
        os.environ |= {"DAGSTER_HOME": name, "AVAILABILITY_LOG_FILE": str(home / "a.log")}
        clock = FakeClock(dt.datetime.combine(begin, dt.time(1), dt.UTC))
        archive = SimulatedArchive(
            synthetic.build(arguments.symbols or 12, until), lambda: clock.time
        )
        resources = {
            "archive": archive, "clock": clock,
            "duckdb": AvailabilityDuckDB(database=str(home / "record.duckdb")),
        }  # fmt: skip
        built = build_defs(resources=resources)
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        with dg.DagsterInstance.get() as instance:

            def run(job: str, start: dt.date, end: dt.date) -> int:
                """One run; the bytes that it added."""
                before = size(home)
                tags = {} if job == "slo_checks" else range_tags(start, end)
                update = job == KLINES.work
                of_all = built.resolve_implicit_global_asset_job_def
                done = (of_all() if update else built.resolve_job_def(job)).execute_in_process(
                    instance=instance, tags=tags, run_config=quiet, raise_on_error=False,
                    asset_selection=updated() if update else None,
                )  # fmt: skip
                assert done.success or job == "slo_checks"
                return size(home) - before

            run("daily_update", begin, begin)  # makes the files
            backfill = run("daily_update", first, begin - dt.timedelta(1))
            spent: dict[str, list[int]] = {}
            sizes = []
            for week in range(weeks):
                cut = dt.datetime.now(dt.UTC)
                for day in range(7):
                    today = begin + dt.timedelta(7 * week + day)
                    yesterday = today - dt.timedelta(1)
                    for hour, minute, job in DAY:
                        if job == "full_reconcile" and today.weekday() != SUNDAY:
                            continue
                        clock.time = dt.datetime.combine(today, dt.time(hour, minute), dt.UTC)
                        start = {
                            "daily_update": yesterday, "full_reconcile": first
                        }.get(job, max(first, yesterday - LOOKBACK))  # fmt: skip
                        spent.setdefault(job, []).append(run(job, start, yesterday))
                if week:
                    prune(instance, cut)
                sizes.append(size(home))
            materialised = len(instance.get_materialized_partitions(KLINES.key))
            kept = len(instance.get_runs())
    dates = (until - first).days
    rows = [Row("the backfill of all history", f"{backfill / 1e6:.2f} MB", f"{dates:,} partitions")]
    rows += [
        Row(
            f"a run of {job}", f"{sum(found) / len(found) / 1e6:.3f} MB",
            f"{len(found) / weeks:.0f} a week, at most {max(found) / 1e6:.2f} MB",
        )
        for job, found in spent.items()
    ]  # fmt: skip
    year = 52 * sum(sum(found) for found in spent.values()) / weeks
    rows += [
        Row(
            "a year of all default runs, nothing deleted", f"{year / 1e6:,.0f} MB", "",
            "150 MB", year < 150e6,
        ),
        Row(
            f"after each of {weeks} weeks, older runs deleted",
            ", ".join(f"{one / 1e6:.1f}" for one in sizes) + " MB", f"{kept} runs left",
            "two weeks' runs", kept <= 2 * sum(map(len, spent.values())) / weeks,
        ),
        Row(
            "partitions still known as materialised", f"{materialised:,}", f"of {dates:,}",
            "all", materialised == dates,
        ),
    ]  # fmt: skip
    show("Dagster's history", rows, quick=quick)


if __name__ == "__main__":
    main()
