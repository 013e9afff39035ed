"""What Dagster remembers: bytes a run, bytes a year, and what `history_retention` leaves.

    python -m benchmarks.history

Real runs on an instance on disk with our dagster.yaml; the archive has few symbols, since Dagster
sees partitions, not rows. `before`: a week's runs, each kind weighed by what it added. `after`: the
same weeks lived again and again, the runs of all but the last week deleted each time, as the
retention does with those older than its days.
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
from availability_pipeline.orchestration.partitions import DAILY_AVAILABILITY, range_tags
from availability_pipeline.orchestration.resources import AvailabilityDuckDB
from benchmarks import synthetic
from benchmarks.common import Row, parser, show
from benchmarks.endurance import LOOKBACK, SimulatedArchive

ROOT = Path(__file__).parents[1]
A_WEEK = {"daily": 7, "late": 28, "reconcile": 1}


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
    options.add_argument("--weeks", type=int, help="weeks lived with retention (6; quick: 2)")
    arguments = options.parse_args()
    quick = arguments.quick
    until = dt.date(2026, 11, 22)
    first = until - dt.timedelta(30) if quick else FIRST_DATE
    spans = {"daily": until, "late": until - LOOKBACK, "reconcile": first}
    weeks = arguments.weeks or (2 if quick else 6)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        shutil.copy(ROOT / "dagster.yaml", home)
        os.environ |= {"DAGSTER_HOME": name, "AVAILABILITY_LOG_FILE": str(home / "a.log")}
        clock = FakeClock(dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC))
        archive = SimulatedArchive(
            synthetic.build(arguments.symbols or 12, until), lambda: clock.time
        )
        resources = {
            "archive": archive, "clock": clock,
            "duckdb": AvailabilityDuckDB(database=str(home / "record.duckdb")),
        }  # fmt: skip
        job = build_defs(resources=resources).resolve_job_def("daily_update")
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        with dg.DagsterInstance.get() as instance:

            def run(kind: str) -> None:
                tags = range_tags(spans[kind], until)
                job.execute_in_process(instance=instance, tags=tags, run_config=quiet)

            run("daily")  # makes the files
            each, rows = {}, []
            for kind in A_WEEK:
                before = size(home)
                for _ in range(3):
                    run(kind)
                each[kind] = (size(home) - before) / 3
                dates = (until - spans[kind]).days + 1
                rows.append(
                    Row(f"a {kind} run", f"{each[kind] / 1e6:.2f} MB", f"{dates} partitions")
                )
            year = 52 * sum(count * each[kind] for kind, count in A_WEEK.items())
            rows.append(Row("a year of all runs, nothing deleted", f"{year / 1e6:,.0f} MB"))
            sizes = []
            for _ in range(weeks):
                cut = dt.datetime.now(dt.UTC)
                run("late")
                run("reconcile")
                run("daily")
                run("late")
                prune(instance, cut)
                sizes.append(size(home))
            materialised = len(instance.get_materialized_partitions(DAILY_AVAILABILITY))
            kept = len(instance.get_runs())
    dates = (until - first).days + 1
    rows += [
        Row(
            f"{weeks} times four runs, the earlier ones deleted each time",
            ", ".join(f"{one / 1e6:.1f}" for one in sizes) + " MB",
            f"{kept} runs left", "the last at most 1.15 times the second",
            sizes[-1] <= 1.15 * sizes[min(1, len(sizes) - 1)],
        ),
        Row(
            "partitions still known as materialised", f"{materialised:,}", f"of {dates:,}",
            "all", materialised == dates,
        ),
    ]  # fmt: skip
    show("Dagster's history", rows, quick=quick)


if __name__ == "__main__":
    main()
