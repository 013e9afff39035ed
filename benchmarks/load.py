"""Twenty updates and backfills launched at once, and readers that ask all the while.

    python -m benchmarks.load                 # 20 launched: 10 commands, 10 through UI and daemon
    python -m benchmarks.load --launch 4

The webserver and the daemon run as `make up` starts them. Half are CLI processes, half are
launched through the UI's GraphQL and taken from the queue by the daemon, as a schedule's ticks
are; every fifth covers the whole range, the others one date each. Four reader processes ask
without a pause what a snapshot holds and whether any date is torn. A run's wait is the time from
its start to its first step's, which it spends without the one writer's place.
"""

import argparse
import datetime as dt
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from availability_pipeline.errors import StoreError
from availability_pipeline.record.connection import reader
from benchmarks import archive_server, synthetic
from benchmarks.common import TORN, Row, parser, show

ROOT = Path(__file__).parents[1]
DAYS = 40

LAUNCH = """mutation($tags: [ExecutionTag!]) { launchRun(executionParams: {
    selector: {repositoryLocationName: "availability_pipeline.definitions",
      repositoryName: "__repository__", jobName: "__ASSET_JOB",
      assetSelection: [{path: ["um", "klines", "daily_availability"]}, {path: ["symbol_spans"]},
        {path: ["daily_summary"]}]},
    runConfigData: {}, executionMetadata: {tags: $tags}})
  { __typename ... on PythonError { message } } }"""


def _reader(path: Path, day: dt.date) -> None:
    """Ask until told to stop; prints latencies, errors and torn dates as JSON."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    print("ready", flush=True)
    latencies, errors, torn = [], [], 0
    while not stop:
        before = time.perf_counter()
        try:
            with reader(path, 60) as con:
                con.execute("SELECT * FROM daily_availability WHERE date = ?", [day]).fetchall()
                torn += len(con.execute(TORN).fetchall())
        except StoreError as error:
            errors.append(str(error))
        latencies.append(time.perf_counter() - before)
        time.sleep(0.05)  # a person or a dashboard, not a loop that never lets go
    print(json.dumps({"latencies": latencies, "errors": errors, "torn": torn}))


def _waits(home: Path) -> list[float]:
    """Seconds each run waited before its first step."""
    import dagster as dg

    os.environ["DAGSTER_HOME"] = str(home)
    with dg.DagsterInstance.get() as instance:
        found = []
        for record in instance.get_run_records():
            steps = instance.get_run_step_stats(record.dagster_run.run_id)
            begun = [step.start_time for step in steps if step.start_time]
            if begun and record.start_time:
                found.append(min(begun) - record.start_time)
    return found


def _statuses(home: Path) -> dict[str, str]:
    path = home / "history" / "runs.db"
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path, timeout=60)) as con:
        return dict(con.execute("SELECT run_id, status FROM runs").fetchall())


def measure(launch: int, symbols: int, readers: int) -> dict[str, Any]:
    """Launch, wait for all, count."""
    from availability_pipeline_tests.support.ui import Ui

    until = synthetic.yesterday()
    begin = until - dt.timedelta(DAYS)
    with tempfile.TemporaryDirectory() as name, archive_server.running(symbols, until=until) as url:
        home = Path(name)
        path = home / "record.duckdb"
        shutil.copy(ROOT / "dagster.yaml", home)
        environment = os.environ | {
            "DAGSTER_HOME": name, "AVAILABILITY_DB": str(path), "AVAILABILITY_S3_ENDPOINT": url,
        }  # fmt: skip

        def command(*words: object) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "availability_pipeline.cli",
                 *map(str, words)],
                cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True,
            )  # fmt: skip

        whole = ("backfill", "--start", begin, "--end", until)
        first = command(*whole)
        errors = first.communicate()[1]
        if first.returncode:
            raise SystemExit(errors)
        ui = Ui(home, url)
        asking: list[subprocess.Popen[str]] = []
        try:
            ui.wait(300, lambda state: state)
            asking += [
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.load", "--reader", str(path)],
                    cwd=ROOT, stdout=subprocess.PIPE, text=True,
                )
                for _ in range(readers)
            ]  # fmt: skip
            for one in asking:
                assert one.stdout
                one.stdout.readline()
            begun = time.monotonic()
            commands = []
            for n in range(launch):
                day = until - dt.timedelta(n)
                if n % 2 == 0:
                    words = whole if n % 5 == 4 else ("update", "manual", "--date", day)
                    commands.append(command(*words))
                else:
                    span = (begin, until) if n % 5 == 4 else (day, day)
                    ends = ("start", "end")
                    tags = [
                        {"key": f"dagster/asset_partition_range_{end}", "value": str(value)}
                        for end, value in zip(ends, span, strict=True)
                    ]
                    answer = ui.ask(LAUNCH, tags=tags)["launchRun"]
                    assert answer["__typename"] == "LaunchRunSuccess", answer
            failed = []
            for one in commands:
                text = one.communicate()[1]
                if one.returncode:
                    failed.append(text[-300:])
            ended = {"SUCCESS", "FAILURE", "CANCELED"}
            deadline = time.monotonic() + 3600
            while time.monotonic() < deadline:
                statuses = _statuses(home)
                if len(statuses) == launch + 1 and set(statuses.values()) <= ended:
                    break
                time.sleep(1)
            seconds = time.monotonic() - begun
            answers = []
            for one in asking:
                one.send_signal(signal.SIGTERM)
                answers.append(json.loads(one.communicate()[0].splitlines()[-1]))
        finally:
            for one in asking:
                one.kill()
            ui.stop()
        return {
            "seconds": seconds, "failed": failed, "waits": _waits(home),
            "succeeded": list(_statuses(home).values()).count("SUCCESS") - 1,
            "answers": answers,
        }  # fmt: skip


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--launch", type=int, help="how many at once (20; quick: 3)")
    options.add_argument("--reader", type=Path, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.reader:
        _reader(arguments.reader, synthetic.yesterday())
        return
    quick = arguments.quick
    launch = arguments.launch or (3 if quick else 20)
    readers = 2 if quick else 4
    found = measure(launch, arguments.symbols or (10 if quick else 200), readers)
    latencies = sorted(one for answer in found["answers"] for one in answer["latencies"])
    errors = [one for answer in found["answers"] for one in answer["errors"]]
    torn = sum(answer["torn"] for answer in found["answers"])
    waits = sorted(found["waits"])
    rows = [
        Row(
            "launched at once, succeeded", f"{launch}, {found['succeeded']}",
            f"all done after {found['seconds']:.0f} s", "all", found["succeeded"] == launch,
        ),
        Row(
            "a started run waited for its turn",
            f"p50 {statistics.median(waits):.1f} s, at most {waits[-1]:.1f} s",
        ),
        Row(
            f"questions of {readers} readers meanwhile", f"{len(latencies):,}",
            f"{len(errors)} errors, {torn} torn dates", "no error, none torn",
            not errors and not torn,
        ),
        Row(
            "a question took", f"p50 {statistics.median(latencies) * 1000:.0f} ms",
            f"p99 {latencies[int(len(latencies) * 0.99)] * 1000:.0f} ms, at most "
            f"{latencies[-1]:.1f} s",
            "p99 at most 5 s", latencies[int(len(latencies) * 0.99)] <= 5,
        ),
    ]  # fmt: skip
    show("Load: writers launched at once, readers all the while", rows, quick=quick)
    for text in [*found["failed"], *errors[:3]]:
        print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
