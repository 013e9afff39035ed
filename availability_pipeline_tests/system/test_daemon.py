"""The webserver and the daemon as `make up` starts them. An earlier tool's could never start."""

import datetime as dt
import itertools
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.disclosure import everything_in
from availability_pipeline_tests.support.helpers import days
from availability_pipeline_tests.support.receiver import SECRET, receiving
from availability_pipeline_tests.support.s3 import local_archive
from availability_pipeline_tests.support.ui import BACKFILL, END, MIDDLE, START, Ui, ticked
from availability_pipeline_tests.support.world import KLINES, updated

ROOT = Path(__file__).parents[2]

TICKS = """{ sensorOrError(sensorSelector: {sensorName: "alert_sensor",
  repositoryName: "__repository__", repositoryLocationName: "availability_pipeline.definitions"})
  { ... on Sensor { sensorState { ticks(limit: 1) { status } } } } }"""
ASSETS = [key.path for key in updated()]


def steps(state):
    runs = state["runsOrError"]["results"]
    return sorted(
        (s["startTime"], s["endTime"], s["stepKey"], r["runId"])
        for r in runs for s in r["stepStats"] if s["endTime"]
    )  # fmt: skip


def test_two_backfills_launched_at_once_both_finish_one_write_after_the_other(
    tmp_path, monkeypatch
):
    """Otherwise one of them meets a locked database in the night and fails.

    Meanwhile the daemon's sensor tells of a failed update and of its recovery, and of nothing
    else; and nothing that was written down holds the receiver's password.
    """
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with local_archive() as archive, receiving() as receiver:
        archive.put("BTCUSDT", days(START, END))
        monkeypatch.setenv("AVAILABILITY_ARCHIVE_RUNS", "1")
        ui = Ui(tmp_path, archive.endpoint, receiver.url)
        try:
            ui.wait(ticked, TICKS)
            assert ui.update(AVAILABILITY_S3_ENDPOINT="http://127.0.0.1:9") == 1
            for first, last in ((START, MIDDLE), (MIDDLE + dt.timedelta(1), END)):
                params = {
                    "partitionNames": [d.isoformat() for d in days(first, last)],
                    "assetSelection": [{"path": path} for path in ASSETS],
                    "title": f"{first}",
                    "tags": [],
                }
                answer = ui.ask(BACKFILL, params=params)["launchPartitionBackfill"]
                assert answer["__typename"] == "LaunchBackfillSuccess", answer

            def done(state):
                found = state["partitionBackfillsOrError"]["results"]
                statuses = {b["status"] for b in found}
                assert not statuses & {"FAILED", "COMPLETED_FAILED", "CANCELED"}, found
                return state if len(found) == 2 and statuses == {"COMPLETED_SUCCESS"} else None

            ui.wait(lambda _: receiver.log)
            assert ui.update() == 0
            state = ui.wait(done)
            ui.wait(lambda _: len(receiver.log) > 1)
            daemons = state["instance"]["daemonHealth"]["allDaemonStatuses"]
            assert all(d["healthy"] for d in daemons if d["required"])
        finally:
            ui.stop()
    ran = steps(state)
    probes = [s for s in ran if s[2] == KLINES.step]
    assert len({s[3] for s in probes}) == 4, "two backfills, a failed and a successful update"
    assert receiver.titles == [
        f"daily_update failed: {KLINES} {END}",
        "daily_update recovered",
    ]
    with closing(sqlite3.connect(tmp_path / "history" / "runs" / "index.db")) as index:
        planned = index.execute("SELECT count(*) FROM asset_check_executions").fetchall()
    assert planned == [(0,)], "a backfill from the UI plans no check, so that none is left over"
    assert SECRET.encode() not in everything_in(tmp_path)
    for before, after in itertools.pairwise(probes):
        assert before[1] <= after[0] + 0.5, (before, after)  # stats are rounded
    with reader(tmp_path / "record.duckdb") as con:
        rows = con.execute("SELECT count(*) FILTER (available), count(*) FROM daily_availability")
        assert rows.fetchall() == [(41, 41)]
