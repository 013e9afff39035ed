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
from availability_pipeline.archive.datasets import FIRST_DATE, UM_KLINES_1M, Dataset, is_symbol
from availability_pipeline.archive.listing import S3Archive
from availability_pipeline_tests.support.helpers import PATIENCE
from benchmarks import archive_server, synthetic, whole_archive

ROOT = Path(__file__).parents[2]
UNTIL = dt.date(2026, 11, 22)
BUCKET = archive_server.BUCKET


@pytest.mark.parametrize(
    "name",
    [
        "listing",
        "listing --parts",
        "mirror",
        "mirror --clients",
        "store",
        "pipeline",
        "queries",
        "checks",
        "backup",
        "simulation",
        "report",
        "endurance",
        "whole",
        "volume",
        pytest.param("workers", marks=pytest.mark.requires("redis", "postgresql")),
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
    yield from s3_client(url)


def s3_client(url):
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
    assert listed(client, **request_) == expected(every_key(archive), **request_)


def expected(there, Prefix, Delimiter=None, **_):  # noqa: N803 - as S3 spells them
    keys, folders = [], []
    for key in sorted(there):
        if key.startswith(Prefix):
            cut = key.find(Delimiter, len(Prefix)) if Delimiter else -1
            if cut < 0:
                keys.append(key)
            elif key[: cut + len(Delimiter)] not in folders[-1:]:
                folders.append(key[: cut + len(Delimiter)])
    return keys, folders


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


WHOLE = whole_archive.Whole(0.0005, UNTIL, UNTIL)
SPOT_DAYS = Dataset("spot", "daily", "klines", "1d")
SPOT_WEEKS = Dataset("spot", "monthly", "klines", "1w")
FUNDING = Dataset("cm", "monthly", "fundingRate", None)
SMALL = (SPOT_DAYS, SPOT_WEEKS, FUNDING, Dataset("option", "daily", "EOHSummary", None),
         Dataset("um", "daily", "bookTicker", None))  # fmt: skip


@pytest.fixture(scope="module")
def whole_url():
    with whole_archive.running(WHOLE) as server:
        yield server.url


@pytest.fixture(scope="module")
def whole_client(whole_url):
    yield from s3_client(whole_url)


def folders_of(dataset, whole=WHOLE):
    return [whole_archive.WholeFolder(dataset, life, whole.newest) for life in whole.lives(dataset)]


def keys_of(dataset):
    return [folder.name(entry) for folder in folders_of(dataset) for entry in folder.entries]


def test_the_whole_archive_has_the_size_that_is_estimated_of_the_real_one():
    full = whole_archive.Whole(1, UNTIL, UNTIL)
    assert 270_000 < sum(len(full.lives(dataset)) for dataset in full.datasets) < 330_000
    # Of each type one interval: all have the same symbols.
    kinds = {dataset.kind: dataset for dataset in full.datasets}
    files = {kind: full.files(dataset) for kind, dataset in kinds.items()}
    assert 95e6 < sum(files[dataset.kind] for dataset in full.datasets) < 116e6
    assert all(
        is_symbol(life.symbol, market) for (market, *_), dataset in kinds.items()
        for life in full.lives(dataset)
    )  # fmt: skip


@pytest.mark.parametrize("dataset", SMALL, ids=str)
def test_keys_of_the_whole_archive_are_those_of_its_datasets(dataset):
    found = [dataset.parse_key(key) for key in keys_of(dataset)[::2]]
    assert None not in found
    assert len({(file.symbol, file.period) for file in found}) == len(found)
    assert {key.removesuffix(".CHECKSUM") for key in keys_of(dataset)[1::2]} == set(
        keys_of(dataset)[::2]
    )


@pytest.mark.parametrize(
    "request_",
    [
        {"Prefix": SPOT_DAYS.folder("BTCUSDT")},
        {"Prefix": SPOT_DAYS.folder("币安人生USDT"), "Delimiter": ".CHECKSUM"},
        {"Prefix": SPOT_DAYS.file_prefix("BTCUSDT") + "2024-0", "MaxKeys": 7},
        {"Prefix": FUNDING.prefix},
        {"Prefix": "data/option/", "MaxKeys": 97},
        {"Prefix": SPOT_WEEKS.prefix + "BTCUSDT/1", "Delimiter": "/"},
    ],
    ids=lambda r: " ".join(f"{k}={v}" for k, v in r.items()).encode("ascii", "replace").decode(),
)
def test_a_listing_of_the_whole_archive_is_what_s3_documents(whole_client, request_):
    prefix = request_["Prefix"]
    there = [
        folder.name(entry)
        for dataset in WHOLE.datasets
        if dataset.prefix.startswith(prefix[: len(dataset.prefix)])
        for folder in folders_of(dataset)
        if folder.base.startswith(prefix[: len(folder.base)]) or prefix.startswith(folder.base)
        for entry in folder.entries
    ]
    assert listed(whole_client, **request_) == expected(there, **request_)
    assert any(listed(whole_client, **request_))


def test_the_folders_of_a_type_are_its_symbols(whole_client):
    keys, folders = listed(whole_client, Prefix=SPOT_DAYS.prefix, Delimiter="/", MaxKeys=3)
    assert keys == []
    assert folders == [f"{SPOT_DAYS.prefix}{life.symbol}/" for life in WHOLE.lives(SPOT_DAYS)]


@pytest.mark.parametrize("dataset", SMALL, ids=str)
def test_our_listing_of_a_dataset_of_the_whole_archive_is_what_is_there(whole_url, dataset):
    ours = S3Archive.from_settings(settings.load(s3_endpoint=whole_url))
    last = dataset.period_of(UNTIL)
    got = ours.list_range(dataset.period_of(dt.date(2017, 7, 1)), last, dataset=dataset).files
    names = [
        dataset.key(symbol, date.date())
        for symbol, date in zip(got["symbol"], got["date"], strict=True)
    ]
    assert names == keys_of(dataset)[::2]
    if dataset == SPOT_DAYS:
        etags = set(zip(got["etag_high"], got["etag_low"], strict=True))
        assert len(etags) > 0.99 * len(got)


def test_a_date_that_is_not_out_yet_is_all_that_the_whole_archive_lacks_the_day_before():
    before = whole_archive.Whole(0.0005, UNTIL, UNTIL - dt.timedelta(1))
    for dataset in SMALL:
        there = {key for folder in folders_of(dataset) for key in map(folder.name, folder.entries)}
        earlier = {
            key
            for folder in folders_of(dataset, before)
            for key in map(folder.name, folder.entries)
        }
        assert earlier <= there
        assert all(UNTIL.isoformat() in key for key in there - earlier)


def test_head_answers_for_files_of_the_whole_archive(whole_client):
    head = whole_client.head_object(Bucket=BUCKET, Key=SPOT_DAYS.key("BTCUSDT", UNTIL))
    assert head["ContentLength"] > 999
    assert head["LastModified"].date() == UNTIL + dt.timedelta(1)
    sibling = SPOT_DAYS.checksum_key("BTCUSDT", UNTIL)
    assert whole_client.head_object(Bucket=BUCKET, Key=sibling)["ContentLength"] < 200
