"""Discovery: the archive's datasets against the catalogue, by listing folders only."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from availability_pipeline.archive.datasets import CATALOGUE, KNOWN, Dataset
from availability_pipeline.archive.discovery import Discovery, discover
from availability_pipeline.archive.listing import DiscoveryError
from availability_pipeline_tests.support.bucket import KeyBucket

SYMBOL = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP", "option": "BTCUSDT"}
REMOVED = Dataset.parse("um/daily/liquidationSnapshot")


def key(dataset: Dataset, symbol: str = "") -> str:
    return dataset.key(symbol or SYMBOL[dataset.market], dt.date(2024, 1, 1))


WHOLE = [key(dataset) for dataset in KNOWN if dataset != REMOVED]
"""An archive that is what the catalogue says."""


def found(keys: list[str]) -> Discovery:
    return discover(KeyBucket(keys).archive())


def differences(keys: list[str]) -> dict[str, str]:
    return {one.dataset: one.finding for one in found(keys).findings}


def test_an_archive_that_is_as_known_differs_in_nothing_and_is_asked_for_folders_only():
    bucket = KeyBucket(WHOLE)
    answer = discover(bucket.archive())
    assert answer.findings == ()
    assert set(answer.found) == {str(dataset) for dataset in KNOWN if dataset != REMOVED}
    assert {query.get("delimiter") for query in bucket.asked} == {"/"}
    assert len(bucket.asked) < 100


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ("data/futures/um/daily/klines/BTCUSDT/10s/BTCUSDT-10s-2024-01-01.zip",
         "um/daily/klines/10s"),
        ("data/futures/um/daily/klines/BTCUSDT/1M/BTCUSDT-1M-2024-01-01.zip", "um/daily/klines/1M"),
        ("data/futures/um/daily/openInterest/BTCUSDT/BTCUSDT-openInterest-2024-01-01.zip",
         "um/daily/openInterest"),
        ("data/spot/daily/basisKlines/BTCUSDT/1m/BTCUSDT-1m-2024-01-01.zip",
         "spot/daily/basisKlines/1m"),
        ("data/spot/weekly/klines/BTCUSDT/1m/x.zip", "spot/weekly"),
        ("data/margin/daily/klines/BTCUSDT/1m/x.zip", "margin"),
        ("data/futures/xm/daily/klines/BTCUSDT/1m/x.zip", "futures/xm"),
    ],
)  # fmt: skip
def test_what_the_archive_has_and_the_catalogue_has_not_is_unknown(extra, name):
    assert differences([*WHOLE, extra]) == {name: "unknown"}


def test_what_is_gone_is_missing_by_interval_or_as_a_whole():
    minutes = Dataset("um", "daily", "klines", "1m")
    hours = [d for d in KNOWN if d.kind == ("cm", "monthly", "klines")]
    gone = {key(dataset) for dataset in (minutes, *hours)}
    assert differences([name for name in WHOLE if name not in gone]) == {
        "um/daily/klines/1m": "missing", "cm/monthly/klines/*": "missing",
    }  # fmt: skip


def test_what_was_removed_and_is_there_again_is_returned():
    assert differences([*WHOLE, key(REMOVED)]) == {str(REMOVED): "returned"}


def test_what_is_configured_and_not_there_is_missing_though_it_is_not_in_the_catalogue():
    odd, new = Dataset.parse("um/daily/klines/7m"), Dataset.parse("um/daily/klines/10s")
    configured = [Dataset(), odd, new, REMOVED, odd]
    answer = discover(KeyBucket([*WHOLE, key(new)]).archive(), configured)
    assert {(one.dataset, one.finding) for one in answer.findings} == {
        (str(odd), "missing"), (str(new), "unknown"), (str(REMOVED), "missing"),
    }  # fmt: skip
    gone = [name for name in WHOLE if "/um/daily/klines/" not in name]
    [finding] = discover(KeyBucket(gone).archive(), configured[:2]).findings
    assert (finding.dataset, finding.finding) == ("um/daily/klines/*", "missing")


def test_an_empty_prefix_and_junk_are_not_datasets():
    junk = [
        "data/futures/um/daily/fundingRate/", "data/README.txt", "data/spot/daily/index.html",
        "data/spot/daily/depth/btcusdt/x.zip", "data/spot/daily/x y/BTCUSDT/z.zip",
        "data/futures/um/monthly/aggTrades/BTCUSDT/part-00000-1d0f-c000.zip",
    ]  # fmt: skip
    assert differences([*WHOLE, *junk]) == {}


def test_an_interval_of_the_oldest_contract_is_found_among_thousands_of_symbols():
    days = Dataset("um", "daily", "klines", "1d")
    many = [key(days, f"A{n:04}USDT") for n in range(1500)]
    rare = "data/futures/um/daily/klines/BTCUSDT/3d/BTCUSDT-3d-2024-01-01.zip"
    assert differences([*WHOLE, *many, rare]) == {"um/daily/klines/3d": "unknown"}


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(KNOWN), min_size=1))
def test_any_part_of_the_archive_is_found_and_the_rest_is_missing(there):
    answer = found([key(dataset) for dataset in there])
    assert set(answer.found) == {str(dataset) for dataset in there}
    expected = {str(REMOVED): "returned"} if REMOVED in there else {}
    for entry in CATALOGUE.values():
        absent = [d for d in entry.datasets if d not in there]
        if entry.lifecycle == "removed":
            continue
        if len(absent) == len(entry.datasets):
            expected[str(entry)] = "missing"
        else:
            expected |= {str(dataset): "missing" for dataset in absent}
    assert {one.dataset: one.finding for one in answer.findings} == expected


def test_a_bucket_that_is_not_the_archive_is_refused():
    with pytest.raises(DiscoveryError, match="it is not the archive"):
        found(["data/photos/x.zip", "x"])


@pytest.mark.parametrize(
    "prefix",
    ["data/", "data/futures/", "data/spot/", "data/spot/daily/", "data/spot/daily/klines/",
     "data/spot/daily/klines/BTCUSDT/"],
)  # fmt: skip
def test_a_failed_request_refuses_all_of_it(prefix):
    bucket = KeyBucket(WHOLE)
    bucket.fails = {prefix}
    with pytest.raises(DiscoveryError, match="HTTP 503 SlowDown"):
        discover(bucket.archive())
