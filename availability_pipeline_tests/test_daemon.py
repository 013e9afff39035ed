"""The webserver and the daemon as `make up` starts them. An earlier tool's could never start."""

import datetime as dt
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from availability_pipeline import store
from availability_pipeline_tests.helpers import days
from availability_pipeline_tests.s3 import local_archive

ROOT = Path(__file__).parent.parent
END = dt.datetime.now(dt.UTC).date() - dt.timedelta(1)
MIDDLE, START = END - dt.timedelta(20), END - dt.timedelta(40)

BACKFILL = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATE = """{ partitionBackfillsOrError { ... on PartitionBackfills { results { id status } } }
  runsOrError { ... on Runs { results { runId status stepStats { stepKey startTime endTime } } } }
  instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } } }"""
ASSETS = ["daily_availability", "symbol_listings", "daily_summary"]


class Ui:
    """`dagster dev` on a home of its own, in its own process group."""

    def __init__(self, home, endpoint):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = (home / "dev.log").open("w+")
        env = os.environ | {
            "DAGSTER_HOME": str(home),
            "AVAILABILITY_DB": str(home / "record.duckdb"),
            "AVAILABILITY_S3_ENDPOINT": endpoint,
            "DAGSTER_EVENT_BATCH_SIZE": "500",
            "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "true",
        }
        self.process = subprocess.Popen(
            [Path(sys.executable).with_name("dagster"), "dev", "-w", ROOT / "workspace.yaml",
             "-h", "127.0.0.1", "-p", str(self.port)],
            env=env, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True, cwd=home,
        )  # fmt: skip

    def ask(self, query, **variables):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]

    def wait(self, seconds, what):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if found := what(self.ask(STATE)):
                    return found
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert self.process.poll() is None
            time.sleep(1)
        self.log.seek(0)
        pytest.fail(f"not within {seconds} s; the end of the log:\n{self.log.read()[-4000:]}")

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
    """Otherwise one of them meets a locked database in the night and fails."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with local_archive() as archive:
        archive.put("BTCUSDT", days(START, END))
        ui = Ui(tmp_path, archive.endpoint)
        try:
            ui.wait(90, lambda state: state)
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

            state = ui.wait(240, done)
            daemons = state["instance"]["daemonHealth"]["allDaemonStatuses"]
            assert all(d["healthy"] for d in daemons if d["required"])
        finally:
            ui.stop()
    ran = steps(state)
    probes = [s for s in ran if s[2] == "daily_availability"]
    assert len({s[3] for s in probes}) == 2
    for before, after in itertools.pairwise(ran):
        assert before[1] <= after[0] + 0.5, (before, after)  # stats are rounded
    with store.reader(tmp_path / "record.duckdb") as con:
        rows = con.execute("SELECT count(*) FILTER (available), count(*) FROM availability")
        assert rows.fetchall() == [(41, 41)]
