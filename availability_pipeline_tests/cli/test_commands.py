"""Dagster's own commands on our definitions, as its users type them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.helpers import PATIENCE, D, days
from availability_pipeline_tests.support.s3 import local_archive

ROOT = Path(__file__).parents[2]
DAGSTER = Path(sys.executable).with_name("dagster")
START, END = D(2024, 1, 1), D(2024, 1, 5)


@pytest.fixture
def home(tmp_path):
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with local_archive() as archive:
        archive.put("BTCUSDT", days(START, END))
        yield tmp_path, archive.endpoint


def run(home, *arguments):
    folder, endpoint = home
    return subprocess.run(
        [DAGSTER, *arguments, "-m", "availability_pipeline.definitions"],
        env=os.environ
        | {
            "DAGSTER_HOME": str(folder),
            "AVAILABILITY_DB": str(folder / "record.duckdb"),
            "AVAILABILITY_S3_ENDPOINT": endpoint,
            "AVAILABILITY_MAX_CLOCK_SKEW_MINUTES": "0",
            "NO_PROXY": "127.0.0.1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def test_a_range_of_an_asset_and_all_after_it_is_one_run_of_dagsters_own_command(home):
    """Assets without partitions refused it: "must have a single-run backfill policy"."""
    done = run(
        home, "asset", "materialize", "--select", "daily_availability*",
        "--partition-range", f"{START}...{END}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "RUN_SUCCESS" in done.stderr + done.stdout
    with reader(home[0] / "record.duckdb") as con:
        rows = con.execute("SELECT count(*), count(DISTINCT date) FROM daily_summary").fetchall()
    assert rows == [(5, 5)]
    assert (home[0] / "report" / "availability.html").exists(), "what is after it, too"
