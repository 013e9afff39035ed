"""Dagster's own commands, as somebody types them in a fresh checkout, without DAGSTER_HOME."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import dagster as dg
import pytest

from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.demo_process import free_port
from availability_pipeline_tests.support.helpers import PATIENCE, D, days
from availability_pipeline_tests.support.s3 import local_archive

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
MODULE = "availability_pipeline.definitions"


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("pyproject.toml", "dagster.yaml", "workspace.yaml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(
        ROOT / "availability_pipeline", folder / "availability_pipeline", ignore=ignored
    )
    return folder


def environment(checkout, **more):
    """As in a new shell: Dagster finds its instance by the working directory alone."""
    kept = {
        name: value for name, value in os.environ.items()
        if not name.startswith(("AVAILABILITY_", "DAGSTER_"))
    }  # fmt: skip
    database = str(checkout / "record.duckdb")
    return kept | {"AVAILABILITY_DB": database, "PYTHONWARNINGS": "ignore"} | more


def dagster(checkout, *arguments, **more):
    # -m: the copy's package, and not the one this environment has installed.
    done = subprocess.run(
        [sys.executable, "-m", "dagster", *arguments],
        cwd=checkout, env=environment(checkout, **more), capture_output=True, text=True,
        check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def test_definitions_validate(checkout):
    assert "All code locations passed validation" in dagster(checkout, "definitions", "validate")


def test_asset_materialize_writes_the_record_and_leaves_no_history_in_the_checkout(checkout):
    """Its runs are temporary; events of runs that nobody knows would be orphans in a later UI."""
    with local_archive() as archive:
        archive.put("BTCUSDT", days(D(2024, 1, 1), D(2024, 1, 3)))
        dagster(
            checkout, "asset", "materialize", "-m", MODULE,
            "--select", "um/klines/daily_availability", "--partition", "2024-01-02",
            AVAILABILITY_S3_ENDPOINT=archive.endpoint,
        )  # fmt: skip
    with reader(checkout / "record.duckdb") as con:
        rows = con.execute("SELECT date, symbol FROM daily_availability WHERE available").fetchall()
    assert rows == [(D(2024, 1, 2), "BTCUSDT")]
    assert not (checkout / "history").exists()
    assert not list(checkout.glob(".tmp_dagster_home_*"))


def test_a_range_of_an_asset_and_all_after_it_is_one_run(checkout):
    """Assets without partitions refused it: "must have a single-run backfill policy"."""
    home = checkout.parent / "home"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    start, end = D(2024, 1, 1), D(2024, 1, 5)
    with local_archive() as archive:
        archive.put("BTCUSDT", days(start, end))
        dagster(
            checkout, "asset", "materialize", "-m", MODULE,
            "--select", 'key:"um/klines/daily_availability"+',
            "--partition-range", f"{start}...{end}",
            DAGSTER_HOME=str(home), AVAILABILITY_S3_ENDPOINT=archive.endpoint,
        )  # fmt: skip
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert [run.status.value for run in instance.get_runs()] == ["SUCCESS"]
    with reader(checkout / "record.duckdb") as con:
        rows = con.execute("SELECT count(*), count(DISTINCT period) FROM daily_summary").fetchall()
    assert rows == [(5, 5)]
    assert (checkout / "report" / "availability.html").exists(), "what is after it, too"


def answer(port, query):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query}).encode(), {"Content-Type": "application/json"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as found:
            return json.load(found)["data"]
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def test_dev_starts_and_shows_the_assets(checkout):
    port = free_port()
    log = checkout.parent / "dev.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port)],
            # Were a schedule to tick meanwhile, it would reach nobody.
            cwd=checkout, env=environment(checkout, AVAILABILITY_S3_ENDPOINT="http://127.0.0.1:9"),
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE
        while (found := answer(port, "{ assetNodes { id } }")) is None:
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.5)
        assert len(found["assetNodes"]) > 4
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (checkout / "history").exists()


def test_dg_knows_the_project_by_the_name_that_the_workspace_gives_it():
    """With another name Dagster would take each schedule for a new one, switched on or off anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    assert project["code_location_target_module"] == project["code_location_name"] == MODULE
    assert MODULE in (ROOT / "workspace.yaml").read_text()


def test_dg_checks_the_definitions(checkout):
    done = subprocess.run(
        [BIN / "dg", "check", "defs"], cwd=checkout, env=environment(checkout, PWD=str(checkout)),
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All definitions loaded successfully" in done.stdout
