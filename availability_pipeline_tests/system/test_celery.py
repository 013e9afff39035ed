"""A mirror run on Celery workers: real redis, PostgreSQL, an object store, and a worker's death.

If this fails, a machine that goes down leaves a mirror run waiting for ever, or files that no
manifest knows.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import dagster as dg
import duckdb
import pytest
import yaml

from availability_pipeline.mirror import chunks, manifest
from availability_pipeline.mirror.store import place
from availability_pipeline.mirror.verify import verify
from availability_pipeline.orchestration import executors
from availability_pipeline.orchestration.runs import last_runs
from availability_pipeline.orchestration.services import make_history
from availability_pipeline.queries.plan import Selection, planned
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.celery import (
    Worker,
    free_port,
    redis_server,
    with_visibility,
)
from availability_pipeline_tests.support.download_host import download_host
from availability_pipeline_tests.support.helpers import PATIENCE, D, wait_for
from availability_pipeline_tests.support.mirrored import START, publish, record
from availability_pipeline_tests.support.postgresql import postgres
from availability_pipeline_tests.support.s3 import local_archive, own_bucket

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "deploy" / "celery" / "worker.yaml"
LAST = D(2024, 1, 20)
SYMBOLS = tuple(f"{letter}USDT" for letter in "ABCDEF")


def test_the_workers_have_the_configuration_of_the_executor():
    assert yaml.safe_load(WORKER.read_text(encoding="utf-8")) == {
        "execution": {"config": executors.CELERY}
    }


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """All but the workers, in the environment; yields it with the host and the mirror."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(ROOT / "deploy" / "postgres" / "dagster.yaml", home)
    with (
        postgres() as url,
        redis_server(tmp_path) as port,
        local_archive() as objects,
        download_host() as host,
    ):
        mirror = f"s3://{own_bucket(monkeypatch, objects.endpoint)}/here"
        for variable, value in {
            "DAGSTER_HOME": str(home),
            "DAGSTER_POSTGRES_URL": url,
            "AVAILABILITY_EXECUTOR": "celery",
            "AVAILABILITY_CELERY_BROKER": f"redis://127.0.0.1:{port}/0",
            "AVAILABILITY_CELERY_BACKEND": f"redis://127.0.0.1:{port}/1",
            "AVAILABILITY_MIRROR_URL": mirror,
            "AVAILABILITY_DOWNLOAD_URL": host.url,
            "AVAILABILITY_DOWNLOADS": "2",
        }.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.delenv("AVAILABILITY_LOG_FILE", raising=False)
        yield host, mirror


# The workers and the run are processes of their own, in which nothing can be patched from here.
SMALL_CHUNKS = """
from availability_pipeline.mirror import chunks
chunks.CHUNK_FILES = 10
"""

WITHOUT_WORD = 90
"""Seconds until the chunk of a killed worker is given to the other one; a step takes 20 on a busy
machine, most of it to import."""


def execute(tmp_path, **env):
    """A run, in a process of its own as the daemon starts one; its exit code and last words."""
    command = [Path(sys.executable).with_name("dagster"), "job", "execute", "-j", "mirror"]
    with (tmp_path / "run.log").open("wb") as log:
        return subprocess.Popen(
            [*command, "-m", "availability_pipeline.definitions"],
            env=os.environ | env, stdout=log, stderr=log,
        )  # fmt: skip


def test_a_worker_that_is_killed_costs_no_file_and_no_row_twice(cluster, tmp_path, monkeypatch):
    host, bucket = cluster
    keys = [key for symbol in SYMBOLS for key in publish(host, symbol, START, LAST)]
    db = tmp_path / "r.duckdb"
    record(db, host, end=LAST)
    (tmp_path / "sitecustomize.py").write_text(SMALL_CHUNKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # Only the record's machine has the record; the other worker has no such file.
    here = os.environ | {"AVAILABILITY_DB": str(db)}
    there = os.environ | {"AVAILABILITY_DB": str(tmp_path / "no-such.duckdb")}
    file = with_visibility(WORKER, tmp_path / "worker.yaml", WITHOUT_WORD)
    # Some files of each worker's first chunk, and then the archive waits.
    go_on = threading.Event()

    def answer_some(key):
        if sum(host.asked[one] for one in keys) > 12:
            go_on.wait(PATIENCE)

    host.before = answer_some
    # As docs/scale.md says: in an empty database two that make Dagster's tables at once fail.
    make_history(Path(os.environ["DAGSTER_HOME"]))
    one = Worker("one", file, tmp_path, here, "dagster", executors.RECORD)
    two = Worker("two", file, tmp_path, there, "dagster")
    run = None
    try:
        one.wait_until_ready()
        two.wait_until_ready()
        store = place(bucket)
        run = execute(tmp_path, AVAILABILITY_DB=str(db))
        wait_for(lambda: one.busy() and two.busy() and sum(host.asked[key] for key in keys) > 12)
        wait_for(lambda: len(list(store.names("data/"))) >= 8)
        two.kill()
        whole = {name for name, _ in store.names("data/")}
        asked = Counter({key: host.asked[key] for key in keys})
        go_on.set()
        assert run.wait(PATIENCE) == 0, (tmp_path / "run.log").read_text()[-5000:]
    finally:
        go_on.set()
        for process in (one, two):
            process.kill()
        if run:
            run.kill()
            run.wait()
    with manifest.opened(store) as held:
        found = held.con.execute("SELECT key FROM held ORDER BY key").fetchall()
        assert [key for (key,) in found] == sorted(keys)
        # One row each in the file that the run left, not only of each key the latest.
        assert len(held.runs) == 1
        part = tmp_path / "manifest.parquet"
        part.write_bytes(store.read(held.runs[0]))
        [counts] = duckdb.sql(f"SELECT count(*), count(DISTINCT key) FROM '{part}'").fetchall()
        assert counts == (len(keys), len(keys))
    plan = tmp_path / "plan.parquet"
    with reader(db) as con, planned(con, Selection()) as found:
        found.write(plan)
    checked = verify(plan, store)
    assert (checked.verified, checked.whole, checked.foreign) == (len(keys), True, [])
    assert all(store.read(key) == host.files[key] for key in keys)
    assert 8 <= len(whole) < len(keys)
    assert {key for key in whole if host.asked[key] > asked[key]} == set()
    assert not list(store.names(chunks.CHUNKS))
    with dg.DagsterInstance.get() as instance:
        [ran] = instance.get_runs()
        assert ran.is_success
        [event] = instance.fetch_materializations(dg.AssetKey("mirrored_files"), limit=5).records
        numbers = event.asset_materialization.metadata
        assert numbers["files"].value == len(keys)
        assert numbers["adopted"].value + numbers["fetched"].value == len(keys)


def test_a_run_without_its_broker_fails_and_the_next_one_goes_on(cluster, tmp_path, monkeypatch):
    host, _ = cluster
    publish(host, "AUSDT", START, LAST)
    record(tmp_path / "r.duckdb", host, end=LAST)
    monkeypatch.setenv("AVAILABILITY_CELERY_BROKER", f"redis://127.0.0.1:{free_port()}/0")
    run = execute(tmp_path, AVAILABILITY_DB=str(tmp_path / "r.duckdb"))
    assert run.wait(PATIENCE) != 0
    with dg.DagsterInstance.get() as instance:
        [ran] = instance.get_runs()
        assert ran.status == dg.DagsterRunStatus.FAILURE
        [reason] = [run.error for run in last_runs(instance)]
    assert "Connection refused" in reason
    assert not host.asked
