"""A mirror run on one Celery worker, and on two: verified files a second, at 60 ms.

    python -m benchmarks.workers

A real redis and PostgreSQL, deploy/celery/worker.yaml, `benchmarks.body_server`, and a folder as
mirror. All on this machine: with few files in flight, so that the latency limits and not its cores.
Counted is the time from the first chunk's beginning to the last one's end; chunks have 2,000 files.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import dagster as dg

from availability_pipeline.orchestration.executors import RECORD
from availability_pipeline_tests.support.celery import Worker, redis_server
from availability_pipeline_tests.support.postgresql import postgres
from benchmarks import common
from benchmarks.common import Row
from benchmarks.mirror import recorded, served

ROOT = Path(__file__).parents[1]
IN_FLIGHT = 8

SMALL_CHUNKS = """
from availability_pipeline.mirror import chunks
chunks.CHUNK_FILES = 100
"""


def main() -> None:
    """Measure and print."""
    parser = common.parser(__doc__)
    parser.add_argument("--files", type=int, help="files in the plan (16,000; quick: 400)")
    arguments = parser.parse_args()
    files = arguments.files or (400 if arguments.quick else 16_000)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        db = folder / "r.duckdb"
        recorded(db, files, 100)
        port = stack.enter_context(redis_server(folder))
        storage = stack.enter_context(postgres())
        url = stack.enter_context(served(60))
        home = folder / "home"
        home.mkdir()
        shutil.copy(ROOT / "deploy" / "postgres" / "dagster.yaml", home)
        if arguments.quick:
            (folder / "sitecustomize.py").write_text(SMALL_CHUNKS)
        env = {
            **os.environ, "DAGSTER_HOME": str(home), "DAGSTER_POSTGRES_URL": storage,
            "AVAILABILITY_DB": str(db), "AVAILABILITY_DOWNLOAD_URL": url,
            "AVAILABILITY_DOWNLOADS": str(IN_FLIGHT), "AVAILABILITY_EXECUTOR": "celery",
            "AVAILABILITY_CELERY_BROKER": f"redis://127.0.0.1:{port}/0",
            "AVAILABILITY_CELERY_BACKEND": f"redis://127.0.0.1:{port}/1",
            "PYTHONPATH": str(folder),
        }  # fmt: skip
        one, two = (rate(folder, env, files, workers) for workers in (1, 2))
    rows = [
        Row("one worker", f"{one:,.0f} files/s"),
        Row(
            "two workers", f"{two:,.0f} files/s", f"{two / one:.2f} times one", "1.7 times",
            two / one >= 1.7,
        ),
    ]  # fmt: skip
    title = f"Celery workers, {files:,} files, 60 ms, {IN_FLIGHT} in flight each"
    common.show(title, rows, quick=arguments.quick)


def rate(folder: Path, env: dict[str, str], files: int, workers: int) -> float:
    """Files a second with so many workers."""
    mirror = folder / f"mirror-{workers}"
    env = {**env, "AVAILABILITY_MIRROR_URL": str(mirror)}
    file = ROOT / "deploy" / "celery" / "worker.yaml"
    started = [
        Worker(f"w{workers}-{n}", file, folder, env, "dagster", RECORD) for n in range(workers)
    ]
    try:
        for worker in started:
            worker.wait_until_ready()
        command = [Path(sys.executable).with_name("dagster"), "job", "execute", "-j", "mirror"]
        subprocess.run(
            [*command, "-m", "availability_pipeline.definitions"],
            env=env, check=True, capture_output=True,
        )  # fmt: skip
    finally:
        for worker in started:
            worker.kill()
    os.environ["DAGSTER_POSTGRES_URL"] = env["DAGSTER_POSTGRES_URL"]
    with dg.DagsterInstance.from_config(env["DAGSTER_HOME"]) as instance:
        [run] = instance.get_runs(limit=1)
        steps = [
            one for one in instance.get_run_step_stats(run.run_id) if "fetch_chunk" in one.step_key
        ]
    begun, ended = min(one.start_time for one in steps), max(one.end_time for one in steps)
    shutil.rmtree(mirror)
    return files / (ended - begun)


if __name__ == "__main__":
    main()
