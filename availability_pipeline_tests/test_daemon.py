"""The webserver and the daemon as `make up` starts them. An earlier tool's could never start."""

import datetime as dt
import itertools
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from availability_pipeline import services, store
from availability_pipeline_tests.helpers import PATIENCE, days
from availability_pipeline_tests.receiver import SECRET, receiving
from availability_pipeline_tests.s3 import local_archive
from availability_pipeline_tests.test_security import everything_in

ROOT = Path(__file__).parent.parent
END = dt.datetime.now(dt.UTC).date() - dt.timedelta(1)
MIDDLE, START = END - dt.timedelta(20), END - dt.timedelta(40)

BACKFILL = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATE = """{ partitionBackfillsOrError { ... on PartitionBackfills { results { id status } } }
  runsOrError { ... on Runs { results { runId status stepStats { stepKey startTime endTime } } } }
  instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } } }"""
TICKS = """{ sensorOrError(sensorSelector: {sensorName: "alert_sensor",
  repositoryName: "__repository__", repositoryLocationName: "availability_pipeline.definitions"})
  { ... on Sensor { sensorState { ticks(limit: 1) { status } } } } }"""
ASSETS = ["daily_availability", "symbol_listings", "daily_summary"]


class Ui:
    """UI and daemon on a home of its own, in their own process group, as `up` starts them."""

    def __init__(self, home, endpoint, alert_url="", **env):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = (home / "dev.log").open("w+")
        self.env = os.environ | {
            "DAGSTER_HOME": str(home),
            "AVAILABILITY_DB": str(home / "record.duckdb"),
            "AVAILABILITY_S3_ENDPOINT": endpoint,
            "AVAILABILITY_ALERT_URLS": alert_url,
            "NO_PROXY": "127.0.0.1",
            **env,
        }
        self.process = subprocess.Popen(
            services.python("availability_pipeline.services", "--port", str(self.port)),
            env=self.env, cwd=home,
            stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def ask(self, query, **variables):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["data"]

    def update(self, **env):
        """`update manual` in a shell, beside the daemon."""
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "availability_pipeline.cli", "update", "manual"],
            env=self.env | env, capture_output=True, check=False, timeout=PATIENCE,
        ).returncode  # fmt: skip

    def wait(self, what, query=STATE):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if found := what(self.ask(query)):
                    return found
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert self.process.poll() is None
            time.sleep(1)
        self.log.seek(0)
        pytest.fail(f"not within {PATIENCE} s; the end of the log:\n{self.log.read()[-4000:]}")

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


def steps(state):
    runs = state["runsOrError"]["results"]
    return sorted(
        (s["startTime"], s["endTime"], s["stepKey"], r["runId"])
        for r in runs for s in r["stepStats"] if s["endTime"]
    )  # fmt: skip


def test_two_backfills_launched_at_once_both_finish_one_write_after_the_other(tmp_path):
    """Otherwise one of them meets a locked database in the night and fails.

    Meanwhile the daemon's sensor tells of a failed update and of its recovery, and of nothing
    else; and nothing that was written down holds the receiver's password.
    """
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with local_archive() as archive, receiving() as receiver:
        archive.put("BTCUSDT", days(START, END))
        ui = Ui(tmp_path, archive.endpoint, receiver.url)
        try:
            ui.wait(lambda state: state["sensorOrError"]["sensorState"]["ticks"], TICKS)
            assert ui.update(AVAILABILITY_S3_ENDPOINT="http://127.0.0.1:9") == 1
            for first, last in ((START, MIDDLE), (MIDDLE + dt.timedelta(1), END)):
                params = {
                    "partitionNames": [d.isoformat() for d in days(first, last)],
                    "assetSelection": [{"path": [name]} for name in ASSETS],
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
    probes = [s for s in ran if s[2] == "daily_availability"]
    assert len({s[3] for s in probes}) == 4, "two backfills, a failed and a successful update"
    assert receiver.titles == [f"daily_update failed: {END}", "daily_update recovered"]
    with closing(sqlite3.connect(tmp_path / "history" / "runs" / "index.db")) as index:
        planned = index.execute("SELECT count(*) FROM asset_check_executions").fetchall()
    assert planned == [(0,)], "a backfill from the UI plans no check, so that none is left over"
    assert SECRET.encode() not in everything_in(tmp_path)
    for before, after in itertools.pairwise(probes):
        assert before[1] <= after[0] + 0.5, (before, after)  # stats are rounded
    with store.reader(tmp_path / "record.duckdb") as con:
        rows = con.execute("SELECT count(*) FILTER (available), count(*) FROM availability")
        assert rows.fetchall() == [(41, 41)]
