"""Dagster's webserver and daemon on a home, asked by GraphQL."""

import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress

import pytest

from availability_pipeline.orchestration import services
from availability_pipeline_tests.support.helpers import PATIENCE

END = dt.datetime.now(dt.UTC).date() - dt.timedelta(1)


MIDDLE, START = END - dt.timedelta(20), END - dt.timedelta(40)


BACKFILL = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""


STATE = """{ partitionBackfillsOrError { ... on PartitionBackfills { results { id status } } }
  runsOrError { ... on Runs { results { runId status stepStats { stepKey startTime endTime } } } }
  instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } } }"""


def ticked(state):
    """Whether the sensor of a `TICKS` query has ticked; it may not be there at once."""
    return state["sensorOrError"].get("sensorState", {}).get("ticks")


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
            services.python(services.__name__, "--port", str(self.port)),
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

    def wait(self, what, query=STATE, **variables):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if found := what(self.ask(query, **variables)):
                    return found
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if self.process.poll() is not None:
                    raise self._failed("it ended") from None
            time.sleep(1)
        raise self._failed(f"not within {PATIENCE} s")

    def _failed(self, why):
        self.log.seek(0)
        return pytest.fail.Exception(f"{why}; the end of the log:\n{self.log.read()[-4000:]}")

    def stop(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()
