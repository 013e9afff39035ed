"""The whole thing through Dagster: all history in one run, then one day, and where the time goes.

    python -m benchmarks.pipeline

Each run is a fresh process, as the CLI's is: it imports, opens a Dagster instance in a temporary
DAGSTER_HOME with a copy of our dagster.yaml, and calls `launch.run_range`, which ends with the
run's success. The archive is the local full-size server. "Dagster and the rest" is what is left
of the process's time: events, storage, planning, metadata for each partition.
"""

import argparse
import datetime as dt
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from availability_pipeline.archive.datasets import FIRST_DATE
from benchmarks import archive_server, synthetic
from benchmarks.common import Row, parser, show

ROOT = Path(__file__).parents[1]


def _child(start: dt.date, end: dt.date, launched: float) -> None:
    """One run, in this process; prints its parts in seconds as JSON."""
    parts = {"start": time.time() - launched}
    before = time.perf_counter()
    launch = importlib.import_module("availability_pipeline.orchestration.launch")
    write = importlib.import_module("availability_pipeline.record.write")
    listing = importlib.import_module("availability_pipeline.archive.listing")
    parts["import"] = time.perf_counter() - before

    def measured(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                parts[part] = parts.get(part, 0) + time.perf_counter() - begun

        return timed

    listing.S3Archive.list_range = measured("listing", listing.S3Archive.list_range)
    write.write_probe = measured("write", write.write_probe)
    before = time.perf_counter()
    outcome = launch.run_range(start, end)
    parts["run"] = time.perf_counter() - before
    if not outcome.success:
        raise SystemExit(f"the run failed: {outcome.error_line}")
    print(json.dumps(parts))


def run(start: dt.date, end: dt.date, environment: dict[str, str]) -> dict[str, float]:
    """One run in a fresh process: wall seconds of its parts, and `total` until its success."""
    before = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pipeline", "--child", f"{start}", f"{end}",
         "--launched", str(before)],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True,
        text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the run broke:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    parts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    # Leaving the process afterwards, about a second, is not part of it.
    parts["total"] = parts["start"] + parts["import"] + parts["run"]
    return parts


def split(parts: dict[str, float]) -> str:
    """Where the time of a run went."""
    known = {"listing": "listing", "write": "write"}
    named = [
        f"start and imports {parts['start'] + parts['import']:.1f}",
        *(f"{text} {parts.get(part, 0):.1f}" for part, text in known.items()),
    ]
    rest = parts["run"] - sum(parts.get(part, 0) for part in known)
    return ", ".join([*named, f"Dagster and the rest {rest:.1f} s"])


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument(
        "--child", nargs=2, type=dt.date.fromisoformat, metavar="DATE", help=argparse.SUPPRESS
    )
    options.add_argument("--launched", type=float, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.child:
        _child(*arguments.child, arguments.launched)
        return
    quick = arguments.quick
    symbols = arguments.symbols or (30 if quick else 1000)
    until = synthetic.yesterday()
    first = until - dt.timedelta(30) if quick else FIRST_DATE
    with (
        tempfile.TemporaryDirectory() as folder,
        archive_server.running(symbols, until=until) as url,
    ):
        shutil.copy(ROOT / "dagster.yaml", folder)
        environment = {
            "DAGSTER_HOME": folder,
            "AVAILABILITY_DB": f"{folder}/availability.duckdb",
            "AVAILABILITY_S3_ENDPOINT": url,
            "AVAILABILITY_ALERT_URLS": "",
        }
        full = run(first, until, environment)
        days = [run(until, until, environment) for _ in range(arguments.repeat or 1)]
        day = min(days, key=lambda parts: parts["total"])
    count = (until - first).days + 1
    show(
        f"Through Dagster: {symbols:,} symbols, each run from launch to its success",
        [
            Row(f"{first} to {until}, {count:,} partitions in one run", f"{full['total']:.1f} s",
                split(full), "at most 180 s", full["total"] <= 180),
            Row(f"{until} after that", f"{day['total']:.1f} s", split(day), "at most 20 s",
                day["total"] <= 20),
        ],
        quick=quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
