"""`datasets`: what is known, and where the archive differs."""

import csv
import json

import pytest
from click.testing import CliRunner

from availability_pipeline.archive.datasets import CATALOGUE, KNOWN, select
from availability_pipeline.cli.main import cli
from availability_pipeline_tests.support.helpers import D
from availability_pipeline_tests.support.s3 import BUCKET, local_archive


def ask(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == code, done.output
    return done.output


def test_each_kind_of_file_is_a_row_whose_name_can_be_selected():
    rows = json.loads(ask("datasets", "--json"))
    assert len(rows) == len(CATALOGUE)
    named = [dataset for row in rows for dataset in select(row["dataset"])]
    assert sorted(map(str, named)) == sorted(map(str, KNOWN))
    [stopped] = [row for row in rows if row["dataset"] == "um/monthly/bookTicker"]
    assert stopped == {
        "dataset": "um/monthly/bookTicker", "lifecycle": "stopped", "first": "2023-05",
        "last": "2024-03", "settle_days": 15, "intervals": [], "note": None,
    }  # fmt: skip


def test_the_settling_time_of_daily_files_is_the_setting(monkeypatch):
    monkeypatch.setenv("AVAILABILITY_SETTLE_DAYS", "5")
    rows = list(csv.DictReader(ask("datasets", "--csv").splitlines()))
    days = {row["dataset"]: row["settle_days"] for row in rows}
    assert (days["um/daily/klines/*"], days["um/monthly/klines/*"]) == ("5", "15")
    assert ask("datasets").count("live") == sum(row["lifecycle"] == "live" for row in rows)


def test_discover_prints_where_the_archive_differs(monkeypatch):
    with local_archive() as archive:
        archive.put("BTCUSDT", [D(2024, 1, 1)])
        new = "data/futures/um/daily/openInterest/BTCUSDT/BTCUSDT-openInterest-2024-01-01.zip"
        archive.client.put_object(Bucket=BUCKET, Key=new, Body=b"x")
        monkeypatch.setenv("AVAILABILITY_S3_ENDPOINT", archive.endpoint)
        rows = json.loads(ask("datasets", "discover", "--json"))
        table = ask("datasets", "discover")
        text = ask("datasets", "discover", "--csv")
    findings = {row["dataset"]: row["finding"] for row in rows}
    assert findings["um/daily/openInterest"] == "unknown"
    assert findings["um/daily/klines/1d"] == findings["spot/daily/klines/*"] == "missing"
    assert "um/daily/klines/1m" not in findings
    assert table.startswith(f"The archive has 2 datasets; differences: {len(rows)}\n")
    assert text.splitlines()[0] == "dataset,finding"
    assert len(text.splitlines()) == 1 + len(rows)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_archive_that_does_not_answer_is_one_line(monkeypatch, form):
    monkeypatch.setenv("AVAILABILITY_S3_ENDPOINT", "http://127.0.0.1:9")
    said = ask("datasets", "discover", *form, code=1)
    assert said.startswith("Error: cannot list s3://data.binance.vision/data/ at")
    assert said.count("\n") == 1
