"""The standing checks over the full history, as `slo_schedule` runs them.

    python -m benchmarks.checks

First each check of the record alone, on a warm connection, then the whole run through Dagster on
SQLite, in a process of its own home: 2,617 partitions materialised, the database 1,000 symbols.
Wall seconds; CPU beside them, which other work on the machine does not change.
"""

import datetime as dt
import os
import tempfile
from pathlib import Path

import dagster as dg

from availability_pipeline import settings
from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.resources import AvailabilityDuckDB
from availability_pipeline.quality import checks as standing
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.world import KLINES
from benchmarks import synthetic
from benchmarks.common import Row, parser, show, timed
from benchmarks.store import fill, probed_at


class FixedClock:
    """The morning after the archive's newest files."""

    def __init__(self, until: dt.date) -> None:
        self._now = probed_at(until)

    def now(self) -> dt.datetime:
        return self._now


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__ or "").parse_args()
    quick = arguments.quick
    archive = synthetic.build(arguments.symbols or (30 if quick else 1000))
    repeats = arguments.repeat or (1 if quick else 3)
    clock = FixedClock(archive.until)
    limits = settings.Settings()
    table: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.duckdb"
        rows = fill(path, archive)
        with reader(path) as con:
            for name, check in standing.ALL.items():
                time = timed(lambda check=check: check(con, clock.now(), limits), repeats)
                table.append(Row(f"{name}, its numbers and rule", str(time)))

        os.environ["DAGSTER_HOME"] = folder
        defs = build_defs(
            resources={"clock": clock, "duckdb": AvailabilityDuckDB(database=str(path))}
        )
        job = defs.resolve_job_def("slo_checks")
        with dg.DagsterInstance.local_temp(
            folder, overrides={"telemetry": {"enabled": False}}
        ) as instance:
            dates = (archive.until - FIRST_DATE).days + 1
            for n in range(dates if not quick else 30):
                day = FIRST_DATE + dt.timedelta(n)
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(KLINES.key, partition=day.isoformat())
                )
            quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
            time = timed(
                lambda: job.execute_in_process(instance=instance, run_config=quiet), repeats
            )
        table.append(
            Row("a whole run of slo_checks, in process", str(time), target="at most 10 s",
                passed=time.wall <= 10)
        )  # fmt: skip
    show(f"The standing checks on {rows:,} rows", table, quick=quick)


if __name__ == "__main__":
    main()
