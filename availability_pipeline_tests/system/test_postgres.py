"""Dagster's history in a real PostgreSQL, with the dagster.yaml of deploy/postgres."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster_postgres import PostgresEventLogStorage

from availability_pipeline_tests.support.helpers import PATIENCE, D, days
from availability_pipeline_tests.support.postgresql import postgres
from availability_pipeline_tests.support.s3 import local_archive
from availability_pipeline_tests.support.world import KLINES, World

ROOT = Path(__file__).parents[2]
START, END = D(2024, 1, 1), D(2024, 1, 10)
KEY = KLINES.key


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pg")
    shutil.copy(ROOT / "deploy" / "postgres" / "dagster.yaml", folder)
    with pytest.MonkeyPatch.context() as patch, postgres() as url:
        patch.setenv("DAGSTER_POSTGRES_URL", url)
        patch.setenv("DAGSTER_HOME", str(folder))
        patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
        patch.delenv("AVAILABILITY_LOG_FILE", raising=False)
        yield folder


@pytest.fixture
def batches(monkeypatch):
    """How many events came in one INSERT."""
    sizes = []
    stock = PostgresEventLogStorage.store_event_batch

    def counted(self, events):
        sizes.append(len(events))
        return stock(self, events)

    monkeypatch.setattr(PostgresEventLogStorage, "store_event_batch", counted)
    return sizes


def test_a_range_run_is_kept_in_postgres_in_batches_and_is_there_after_reopening(home, batches):
    with dg.DagsterInstance.get() as instance:
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
        result = World(home, instance).run()
        assert result.success
    assert max(batches) >= 10  # ten partitions, one INSERT
    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(result.run_id)
        assert run.status == dg.DagsterRunStatus.SUCCESS
        found = instance.get_materialized_partitions(KEY)
        assert found == {d.isoformat() for d in days(START, END)}
        one = instance.fetch_materializations(KEY, limit=10).records[0]
        assert one.asset_materialization.metadata["available"].value == 2
    assert not (home / "history").exists(), "nothing is kept in SQLite"
    assert "Daily update completed: 2 symbols" in (home / "log/availability.log").read_text()


def test_commands_launched_at_once_probe_one_after_the_other(home):
    """The pool is kept in PostgreSQL; nothing else makes two processes wait for each other."""
    with local_archive() as archive:
        archive.put("BTCUSDT", days(START, END))
        env = os.environ | {
            "AVAILABILITY_ARCHIVE_RUNS": "1",
            "AVAILABILITY_DB": str(home / "cli.duckdb"),
            "AVAILABILITY_S3_ENDPOINT": archive.endpoint,
        }
        program = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "availability_pipeline.cli",
            "backfill",
        ]
        running = [
            subprocess.Popen(
                [*program, "--new-record", "--start", str(date), "--end", str(date)], env=env,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for date in (START, END)
        ]  # fmt: skip
        said = [process.communicate(timeout=PATIENCE) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    with dg.DagsterInstance.get() as instance:
        wanted = {str(START), str(END)}
        runs = [
            run
            for run in instance.get_runs(limit=2)
            if run.tags["dagster/asset_partition_range_start"] in wanted
        ]
        steps = sorted(
            (s.start_time, s.end_time, s.step_key)
            for run in runs
            for s in instance.get_run_step_stats(run.run_id)
            if s.step_key == KLINES.step
        )
    assert len(steps) == 2
    for before, after in itertools.pairwise(steps):
        assert before[1] <= after[0], (before, after)


def test_a_failed_run_is_in_the_history_with_its_reason(home):
    with dg.DagsterInstance.get() as instance:
        world = World(home, instance)
        world.archive.fails = True
        run_id = world.run().run_id
    with dg.DagsterInstance.get() as instance:
        assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.FAILURE
        records = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        [event] = [r.get_dagster_event() for r in records]
        text = event.step_failure_data.user_failure_data.description
        assert "AUSDT: HTTP 503 SlowDown" in text


def test_the_url_names_the_driver():
    """Plain postgresql:// asks for psycopg 3, which is not installed."""
    text = (ROOT / "deploy" / "postgres" / "dagster.yaml").read_text()
    assert "postgresql+psycopg2://" in text
    assert yaml.safe_load(text)["storage"]["postgres"]
