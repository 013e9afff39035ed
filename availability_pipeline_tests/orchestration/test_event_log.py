"""Dagster's history as our `dagster.yaml` keeps it: what the UI's Partitions tab is made of."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

from availability_pipeline.orchestration import launch
from availability_pipeline.orchestration.instance.event_log import BatchingSqliteEventLogStorage
from availability_pipeline_tests.support.gate import PATIENT, gate
from availability_pipeline_tests.support.helpers import PATIENCE, D, days
from availability_pipeline_tests.support.s3 import local_archive
from availability_pipeline_tests.support.shell import Shell
from availability_pipeline_tests.support.world import END, KLINES, START, World

ROOT = Path(__file__).parents[2]
KEY = KLINES.key
KEYS = [d.isoformat() for d in days(START, END)]

# What the Partitions tab of an asset asks for.
STATS = """{ assetNodeOrError(assetKey: {path: ["um", "klines", "daily_availability"]}) {
  ... on AssetNode {
    partitionStats { numMaterialized numFailed numMaterializing }
    assetPartitionStatuses { __typename ... on TimePartitionStatuses {
        ranges { status startKey endKey } } } } } }"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("AVAILABILITY_DB", str(tmp_path / "record.duckdb"))
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
    return tmp_path


def statuses(instance, keys=KEYS):
    return {
        status.value if status else None
        for status in instance.get_status_by_partition(KEY, keys, KLINES.partitions).values()
    }


def partition_stats(home):
    """The answer that the webserver gives to the tab."""
    program = Path(sys.executable).with_name("dagster-graphql")
    done = subprocess.run(
        [program, "-m", "availability_pipeline.definitions", "-t", STATS],
        env=os.environ | {"DAGSTER_HOME": str(home)}, capture_output=True, text=True, check=False,
        timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [answer] = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(answer)["data"]["assetNodeOrError"]


def test_the_partitions_of_a_failed_run_are_shown_as_failed(home, monkeypatch):
    """After a failed backfill the tab said "Failed (0), Materialized (2618)"."""
    monkeypatch.setenv("AVAILABILITY_S3_ENDPOINT", "http://127.0.0.1:9")
    assert not launch.run_range(START, END).success
    with dg.DagsterInstance.get() as instance:
        assert statuses(instance) == {"FAILED"}
    assert partition_stats(home) == {
        "partitionStats": {"numMaterialized": 0, "numFailed": 10, "numMaterializing": 0},
        "assetPartitionStatuses": {
            "__typename": "TimePartitionStatuses",
            "ranges": [{"status": "FAILED", "startKey": KEYS[0], "endKey": KEYS[-1]}],
        },
    }


def test_the_partitions_of_a_run_are_shown_as_in_progress_until_it_ends(home):
    with local_archive() as archive, gate(archive.endpoint) as door:
        archive.put("AUSDT", days(START, END))
        shell = Shell(home, door.endpoint)
        shell.env |= PATIENT
        command = [*(sys.executable, "-W", "ignore", "-m", "availability_pipeline.cli"),
                   *("backfill", "--start", str(START), "--end", str(END))]  # fmt: skip
        running = subprocess.Popen(command, env=shell.env, stdout=subprocess.DEVNULL)
        try:
            assert door.waiting.wait(PATIENCE)
            with dg.DagsterInstance.get() as instance:
                assert statuses(instance) == {"IN_PROGRESS"}
                door.open.set()
                assert running.wait(PATIENCE) == 0
                assert statuses(instance) == {"MATERIALIZED"}
        finally:
            running.kill()
            running.wait()


def stored(instance, run_id):
    """Every event of a run in its order, but for its time."""
    events = [entry.dagster_event for entry in instance.all_logs(run_id) if entry.dagster_event]
    return [
        (event.event_type, event.step_key, str(event.asset_key), event.partition)
        for event in events
        if not event.is_engine_event
    ]


def test_batches_keep_what_the_stock_storage_keeps_in_its_order(tmp_path, monkeypatch):
    """One planned event of a check made the whole batch fall back to one at a time."""
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
    runs, together = [], []
    stock = BatchingSqliteEventLogStorage._store_asset_events

    def counted(self, run_id, events):
        together.append(len(events))
        stock(self, run_id, events)

    monkeypatch.setattr(BatchingSqliteEventLogStorage, "_store_asset_events", counted)
    for name in ("batches", "stock"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "batches":
            shutil.copy(ROOT / "dagster.yaml", folder)
        monkeypatch.setenv("DAGSTER_HOME", str(folder))
        with dg.DagsterInstance.get() as instance:
            result = World(folder, instance).run()
            assert result.success
            rows = instance.get_asset_records([KEY])[0].asset_entry
            latest = rows.last_materialization.asset_materialization.partition
            assert rows.last_run_id == result.run_id
            checks = instance.event_log_storage.get_asset_check_execution_history(
                dg.AssetCheckKey(KEY, "completeness"), limit=100
            )
            runs.append((stored(instance, result.run_id), latest, len(checks)))
        monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
    assert len([n for n in together if n >= 10]) == 2, "planned and materialised"
    assert runs[0] == runs[1]


def test_events_are_kept_where_the_runs_are(tmp_path, monkeypatch):
    """An older `dagster.yaml` names the home; ours leaves it to Dagster."""
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "dagster.yaml", tmp_path / "one")
    text = (ROOT / "dagster.yaml").read_text()
    line = "  class: BatchingSqliteEventLogStorage\n"
    older = text.replace(line, line + "  config:\n    home: {env: DAGSTER_HOME}\n")
    assert older != text
    (tmp_path / "other" / "dagster.yaml").write_text(older)
    for folder in ("one", "other"):
        home = tmp_path / folder
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        with dg.DagsterInstance.get() as instance:
            assert World(home, instance).run(D(2024, 1, 5), D(2024, 1, 5)).success
        assert sorted(f.suffix for f in (home / "history" / "runs").glob("*.db")) == [".db"] * 2


def test_the_file_of_a_run_is_small_and_can_be_read_by_the_stock_storage(home):
    """Of 0.14 MB a run 0.1 were tables without a row, 300 MB in a year of the default schedules."""
    with dg.DagsterInstance.get() as instance:
        run = World(home, instance).run(START, START)
        events = len(instance.all_logs(run.run_id))
        path = Path(instance.event_log_storage.path_for_shard(run.run_id))
    with closing(sqlite3.connect(path)) as con:
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert con.execute("PRAGMA page_size").fetchall() == [(512,)]
        assert con.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
        tables = con.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        assert sorted(tables) == [("alembic_version",), ("asset_event_tags",), ("event_logs",)]
    assert path.stat().st_size < 65_000
    stock = SqliteEventLogStorage(str(path.parent))
    found = stock.get_logs_for_run(run.run_id)
    assert len(found) == events > 10
    stock.store_event(found[-1])
    assert len(stock.get_logs_for_run(run.run_id)) == events + 1
    stock.delete_events(run.run_id)
    assert stock.get_logs_for_run(run.run_id) == []
