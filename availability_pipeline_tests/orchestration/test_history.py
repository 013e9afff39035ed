"""Old runs go, what is known of partitions stays. Forgetting a partition would re-run years."""

import datetime as dt
import shutil
from pathlib import Path

import dagster as dg
import pytest

from availability_pipeline.definitions import defs
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.instance.retention import prune
from availability_pipeline_tests.support.helpers import D
from availability_pipeline_tests.support.world import END, KLINES, START, FakeClock, World

ROOT = Path(__file__).parents[2]
KEY = KLINES.key
MIDDLE = D(2024, 1, 6)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """On disk with our dagster.yaml: files are what grows."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.get() as instance:
        yield World(tmp_path, instance)


def now():
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)


def files_of(folder, run_id):
    return [path for path in folder.rglob("*") if run_id in str(path)]


def test_a_run_goes_with_all_its_files_once_its_partitions_were_materialised_again(world, tmp_path):
    first = world.run()
    world.archive.fails = True
    failed = world.run()
    world.archive.fails = False
    second = world.run()
    assert not failed.success
    assert files_of(tmp_path, first.run_id)
    before = world.instance.get_materialized_partitions(KEY)
    assert prune(world.instance, now()) == (2, 1)
    assert [run.run_id for run in world.instance.get_runs()] == [second.run_id]
    for gone in (first, failed):
        assert files_of(tmp_path, gone.run_id) == []
    assert world.instance.get_materialized_partitions(KEY) == before
    assert len(before) == 10
    assert prune(world.instance, now()) == (0, 1)


def test_a_run_with_one_partition_nobody_materialised_again_stays(world):
    """Otherwise that partition would be called missing, though its rows are there."""
    everything = world.run()
    world.run(START, MIDDLE)
    assert prune(world.instance, now()) == (0, 2)
    latest = world.run(MIDDLE + dt.timedelta(1), END)
    assert prune(world.instance, now()) == (1, 2)
    assert everything.run_id not in {run.run_id for run in world.instance.get_runs()}
    assert len(world.instance.get_materialized_partitions(KEY)) == 10
    for name in ("symbol_spans", "daily_summary"):
        event = world.instance.get_latest_materialization_event(dg.AssetKey(name))
        assert event.run_id == latest.run_id


def test_young_and_running_runs_stay(world):
    world.run()
    second = world.run()
    running = world.instance.create_run_for_job(
        defs.resolve_job_def("history_retention"), status=dg.DagsterRunStatus.STARTED
    )
    assert prune(world.instance, now() - dt.timedelta(days=31)) == (0, 0)
    assert prune(world.instance, now()) == (1, 2)
    left = {run.run_id for run in world.instance.get_runs()}
    assert left == {second.run_id, running.run_id}


def test_the_job_keeps_what_is_younger_than_the_setting(world, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_HISTORY_DAYS", "31")
    old, latest = world.run(), world.run()

    def forget_seen_from(days):
        clock = FakeClock(now() + dt.timedelta(days=days))
        job = build_defs(resources={"clock": clock}).resolve_job_def("history_retention")
        assert job.execute_in_process(instance=world.instance).success
        return {run.run_id for run in world.instance.get_runs()}

    assert old.run_id in forget_seen_from(days=30)
    left = forget_seen_from(days=32)
    assert old.run_id not in left
    assert latest.run_id in left
