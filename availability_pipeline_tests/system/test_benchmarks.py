"""The benchmarks run and print their tables (quick, not timed); their server lists as S3 does."""

import datetime as dt
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from availability_pipeline import settings
from availability_pipeline.archive.datasets import FIRST_DATE, UM_KLINES_1M, is_symbol
from availability_pipeline.archive.listing import S3Archive
from availability_pipeline_tests.support.helpers import PATIENCE
from benchmarks import archive_server, synthetic

ROOT = Path(__file__).parents[2]
UNTIL = dt.date(2026, 11, 22)
BUCKET = archive_server.BUCKET


@pytest.mark.parametrize(
    "name",
    [
        "listing",
        "listing --parts",
        "store",
        "pipeline",
        "queries",
        "checks",
        "backup",
        "simulation",
        "report",
        "endurance",
    ],
)
def test_a_benchmark_runs_and_prints_its_table(name):
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("AVAILABILITY_", "DAG"))
    }
    done = subprocess.run(
        [sys.executable, "-m", *f"benchmarks.{name}".split(), "--quick", "--symbols", "12"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "target" in done.stdout
    assert "quick" in done.stdout


@pytest.fixture(scope="module")
def archive():
    return synthetic.build(20, UNTIL)


@pytest.fixture(scope="module")
def url():
    with archive_server.running(20, until=UNTIL) as address:
        yield address


@pytest.fixture(scope="module")
def client(url):
    made = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", config=Config(signature_version=UNSIGNED)
    )
    yield made
    made.close()


def every_key(archive):
    for one in archive.symbols:
        for day in one.days.tolist():
            key = UM_KLINES_1M.key(one.symbol, dt.date.fromordinal(day))
            yield from (key, f"{key}.CHECKSUM")


def listed(client, **request):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, **request)
    keys, folders = [], []
    for page in pages:
        assert page["KeyCount"] == len(page.get("Contents", [])) + len(
            page.get("CommonPrefixes", [])
        )
        keys += [item["Key"] for item in page.get("Contents", ())]
        folders += [item["Prefix"] for item in page.get("CommonPrefixes", ())]
    return keys, folders


def test_the_full_archive_has_the_real_ones_size():
    full = synthetic.build(1000, UNTIL)
    assert len(full.symbols) == 1000
    assert 700_000 < full.files < 780_000
    assert all(is_symbol(one.symbol) for one in full.symbols)


@pytest.mark.parametrize(
    "request_",
    [
        {"Prefix": UM_KLINES_1M.folder("BTCUSDT")},
        {"Prefix": UM_KLINES_1M.file_prefix("币安人生USDT"), "Delimiter": ".CHECKSUM"},
        {"Prefix": UM_KLINES_1M.prefix, "Delimiter": "/"},
        {"Prefix": "", "Delimiter": "/"},
        {"Prefix": UM_KLINES_1M.folder("BTCUSDT") + "BTCUSDT-1m-2024-0", "MaxKeys": 7},
        {"Prefix": UM_KLINES_1M.prefix + "BTC", "Delimiter": "-1m-2024", "MaxKeys": 300},
        {"Prefix": UM_KLINES_1M.key("BTCUSDT", UNTIL) + ".CHECK", "Delimiter": ".CHECKSUM"},
        {"Prefix": "nowhere/"},
    ],
    ids=lambda r: " ".join(f"{k}={v}" for k, v in r.items()).encode("ascii", "replace").decode(),
)
def test_a_listing_is_what_s3_documents(client, archive, request_):
    keys, folders = [], []
    prefix, delimiter = request_["Prefix"], request_.get("Delimiter")
    for key in sorted(every_key(archive)):
        if key.startswith(prefix):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                keys.append(key)
            elif key[: cut + len(delimiter)] not in folders[-1:]:
                folders.append(key[: cut + len(delimiter)])
    assert listed(client, **request_) == (keys, folders)


def test_a_window_starts_after_a_key_and_ends(client):
    start = UM_KLINES_1M.checksum_key("BTCUSDT", dt.date(2026, 11, 19))
    keys, _ = listed(client, Prefix=UM_KLINES_1M.folder("BTCUSDT"), StartAfter=start)
    days = (dt.date(2026, 11, day) for day in (20, 21, 22))
    assert keys == [
        f("BTCUSDT", day) for day in days for f in (UM_KLINES_1M.key, UM_KLINES_1M.checksum_key)
    ]


def test_our_listing_of_it_is_the_archive(url, archive):
    got = S3Archive.from_settings(settings.load(s3_endpoint=url)).list_range(FIRST_DATE, UNTIL)
    want = archive.listing(FIRST_DATE, UNTIL)
    assert got.symbols == want.symbols
    assert got.files.astype({"symbol": "str"}).equals(
        want.files.astype({"symbol": "str"}).astype(got.files.dtypes.drop("symbol"))
    )


def test_head_answers_for_files_and_for_gaps(url, client):
    head = client.head_object(Bucket=BUCKET, Key=UM_KLINES_1M.key("BTCUSDT", UNTIL))
    assert head["ContentLength"] > 1000
    gap = f"{url}/{BUCKET}/{UM_KLINES_1M.key('BTCUSDT', dt.date(2019, 10, 1))}"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(urllib.request.Request(gap, method="HEAD"))
