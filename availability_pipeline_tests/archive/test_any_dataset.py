"""Listing any dataset: the files of a range and no other, junk counted, what is not there said."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from availability_pipeline import settings
from availability_pipeline.archive.datasets import KNOWN, Dataset, locate
from availability_pipeline.archive.listing import (
    DiscoveryError,
    Folders,
    Listing,
    ListingError,
    Recorded,
)
from availability_pipeline.record import write
from availability_pipeline_tests.support.bucket import KeyBucket, md5_of

D = dt.date
KLINES = Dataset("spot", "daily", "klines", "1d")
FUNDING = Dataset("um", "monthly", "fundingRate", None)
TRADES = Dataset("cm", "daily", "trades", None)
SYMBOLS = {
    "spot": ["BTCUSDT", "币安人生USDT", "ETHUSDT"],
    "um": ["BTCUSDT", "BTCUSDT_210326", "AERGOUSDTSETTLED", "ETHUSDT"],
    "cm": ["BTCUSD_PERP", "BTCUSD_210326", "BTCUSD"],
    "option": ["BTCBVOLUSDT", "BTCUSDT"],
}
JUNK = [
    "data/futures/um/monthly/aggTrades/BTCUSDT/part-00000-1d0f-c000.zip",
    "data/spot/monthly/klines/BTCUSDT/1mo/BTCUSDT-1mo-2024-8.zip",
    "data/spot/daily/klines/BTCUSDT/1d/BTCUSDT-1d-2024-1-2.zip",
    "data/spot/daily/klines/BTCUSDT/1d/ETHUSDT-1d-2024-01-02.zip",
    "data/spot/daily/klines/btcusdt/1d/btcusdt-1d-2024-01-02.zip",
    "data/spot/daily/klines/index.html",
    "data/futures/cm/daily/trades/BTCUSD_PERP/BTCUSD_PERP-trades-2024-01.zip",
    "data/futures/um/daily/fundingRate/",
    "data/README.txt",
]


def rows(listing: Listing) -> list[tuple[str, D, int, str]]:
    return [
        (f.symbol, f.date.date(), f.file_size_bytes, f"{f.etag_high:016x}{f.etag_low:016x}")
        for f in listing.files.itertuples()
    ]


def expected(keys: list[str], dataset: Dataset, start: D, end: D) -> list[tuple[str, D, int, str]]:
    found = [(locate(key), key) for key in keys]
    return sorted(
        (file[1].symbol, file[1].period, len(key), md5_of(key))
        for file, key in found
        if file and file[0] == dataset and start <= file[1].period <= end
    )


@hypothesis_settings(max_examples=30)
@given(st.data())
def test_a_range_of_any_dataset_is_exactly_its_files(data):
    """Whatever else is in the bucket: other intervals, types and markets, and junk."""
    names = st.sampled_from([d for d in KNOWN if d.interval in (None, "1m", "1d", "1mo")])
    dataset = data.draw(names)
    others = data.draw(st.lists(names, max_size=3))
    keys = list(data.draw(st.sets(st.sampled_from(JUNK))))
    for one in {dataset, *others}:
        periods = one.periods(D(2023, 12, 28), D(2024, 1, 9))
        if one.monthly:
            periods = one.periods(D(2023, 8, 1), D(2024, 8, 1))
        for symbol in data.draw(st.sets(st.sampled_from(SYMBOLS[one.market]))):
            keys += [one.key(symbol, p) for p in data.draw(st.sets(st.sampled_from(periods)))]
    start, end = sorted(
        dataset.period_of(date)
        for date in data.draw(st.tuples(*[st.dates(D(2023, 12, 25), D(2024, 2, 12))] * 2))
    )
    bucket = KeyBucket([*keys, "data/spot/x"], page=data.draw(st.integers(2, 30)))
    listing = bucket.archive().list_range(start, end, dataset=dataset)
    assert sorted(rows(listing)) == expected(keys, dataset, start, end)
    assert (listing.dataset, listing.start, listing.end) == (dataset, start, end)
    folders = {file[1].symbol for key in keys if (file := locate(key)) and file[0] == dataset}
    assert folders <= set(listing.symbols)
    assert listing.in_archive or not folders
    assert all(locate(name) is None for name in listing.passed_over)


@pytest.mark.parametrize(
    ("dataset", "junk"),
    [
        (Dataset("um", "monthly", "aggTrades", None), JUNK[:1]),
        (Dataset("spot", "monthly", "klines", "1mo"), JUNK[1:2]),
        (KLINES, [JUNK[2], JUNK[3], "data/spot/daily/klines/btcusdt/", JUNK[5]]),
        (TRADES, JUNK[6:7]),
    ],
    ids=str,
)
def test_junk_is_passed_over_and_counted(dataset, junk):
    symbol = SYMBOLS[dataset.market][0]
    keys = [dataset.key(symbol, p) for p in dataset.periods(D(2023, 12, 1), D(2024, 3, 1))]
    bucket = KeyBucket([*JUNK, *keys])
    start, end = D(2023, 12, 1), D(2024, 12, 1)
    listing = bucket.archive().list_range(start, end, dataset=dataset)
    assert sorted(rows(listing)) == expected(keys, dataset, start, end)
    assert listing.passed_over == dict.fromkeys(junk, 1)


def test_a_month_under_two_spellings_is_listed_once():
    months = Dataset("spot", "monthly", "klines", "1d")
    good = months.key("ADABKRW", D(2020, 8, 1))
    odd = good.replace("2020-08", "2020-8")
    listing = (
        KeyBucket([good, odd]).archive().list_range(D(2020, 8, 1), D(2020, 9, 1), dataset=months)
    )
    assert [row[:2] for row in rows(listing)] == [("ADABKRW", D(2020, 8, 1))]
    assert listing.passed_over == {odd: 1}


def test_a_symbol_of_the_same_name_in_two_markets_is_two():
    um = Dataset("um", "daily", "klines", "1d")
    bucket = KeyBucket([KLINES.key("BTCUSDT", D(2024, 1, 1)), um.key("BTCUSDT", D(2024, 1, 2))])
    for dataset, day in ((KLINES, D(2024, 1, 1)), (um, D(2024, 1, 2))):
        listing = bucket.archive().list_range(D(2024, 1, 1), D(2024, 1, 9), dataset=dataset)
        assert [row[:2] for row in rows(listing)] == [("BTCUSDT", day)]


# What is not there


def test_a_dataset_that_the_archive_does_not_have_is_an_empty_answer():
    bucket = KeyBucket(
        [KLINES.key("BTCUSDT", D(2024, 1, 1)), "data/futures/um/monthly/fundingRate/"]
    )
    for dataset in (FUNDING, TRADES):
        listing = bucket.archive().list_range(D(2024, 1, 1), D(2024, 2, 1), dataset=dataset)
        assert not listing.in_archive
        assert (listing.symbols, len(listing.files)) == ((), 0)
        assert list(listing.files.columns) == [
            "symbol", "date", "file_size_bytes", "last_modified", "etag_high", "etag_low",
        ]  # fmt: skip


@pytest.mark.parametrize("day", [D(2024, 1, 1), D(2023, 1, 1), D(2025, 1, 1)])
def test_an_interval_that_the_archive_does_not_have_is_told_from_a_day_without_files(day):
    minutes = Dataset("spot", "daily", "klines", "1m")
    keys = [KLINES.key(f"A{n}USDT", D(2024, 1, 1)) for n in range(30)]
    bucket = KeyBucket([*keys, minutes.key("A7USDT", D(2024, 1, 2))])
    archive = bucket.archive()
    assert archive.list_range(day, day, dataset=KLINES).in_archive
    assert archive.list_range(day, day, dataset=minutes).in_archive
    hours = Dataset("spot", "daily", "klines", "1h")
    listing = archive.list_range(day, day, dataset=hours)
    assert not listing.in_archive
    assert len(listing.symbols) == 30


def test_a_day_without_files_costs_one_request_more():
    keys = [KLINES.key(f"A{n}USDT", D(2024, 1, 1)) for n in range(30)]
    listing = KeyBucket(keys).archive().list_range(D(2024, 1, 2), D(2024, 1, 2), dataset=KLINES)
    assert (listing.in_archive, listing.requests) == (True, 1 + 30 + 1)


def test_a_bucket_that_is_not_the_archive_is_a_failure_and_not_an_empty_answer():
    bucket = KeyBucket(["data/other/x", "photos/x"])
    with pytest.raises(DiscoveryError, match="it is not the archive"):
        bucket.archive().list_range(D(2024, 1, 1), D(2024, 2, 1), dataset=FUNDING)


@pytest.mark.parametrize("fails", ["data/", FUNDING.prefix, KLINES.prefix])
def test_a_failed_request_is_a_failure_and_not_an_empty_answer(fails):
    bucket = KeyBucket([KLINES.key("BTCUSDT", D(2024, 1, 1))])
    bucket.fails = {fails}
    dataset = KLINES if fails == KLINES.prefix else FUNDING
    with pytest.raises(DiscoveryError, match="HTTP 503 SlowDown"):
        bucket.archive().list_range(D(2024, 1, 1), D(2024, 2, 1), dataset=dataset)


def test_a_failed_symbol_names_the_dataset_and_its_months():
    keys = [FUNDING.key(symbol, D(2024, 1, 1)) for symbol in ("AUSDT", "BUSDT")]
    bucket = KeyBucket(keys)
    bucket.fails = {FUNDING.folder("BUSDT")}
    with pytest.raises(
        ListingError, match="listing um/monthly/fundingRate of 2024-01 to 2024-02 failed for 1 of 2"
    ) as caught:
        bucket.archive().list_range(D(2024, 1, 1), D(2024, 2, 1), dataset=FUNDING)
    assert set(caught.value.failures) == {"BUSDT"}


def test_a_failure_while_asking_for_the_interval_is_a_failure(monkeypatch):
    bucket = KeyBucket([KLINES.key("AUSDT", D(2024, 1, 1))])
    archive, answer = bucket.archive(), bucket.answer

    def fail(query):
        if str(query.get("max-keys")) == "1":
            bucket.fails = {query["prefix"]}
        return answer(query)

    monkeypatch.setattr(bucket, "answer", fail)
    with pytest.raises(ListingError, match="HTTP 503 SlowDown"):
        archive.list_range(D(2024, 1, 2), D(2024, 1, 2), dataset=KLINES)


def test_months_that_are_not_their_first_days_or_not_in_order_are_refused():
    bucket = KeyBucket([FUNDING.key("AUSDT", D(2024, 1, 1))])
    with pytest.raises(ValueError, match="first day of a month"):
        bucket.archive().list_range(D(2024, 1, 2), D(2024, 2, 1), dataset=FUNDING)
    with pytest.raises(ValueError, match="2024-02-01 is after 2024-01-01"):
        bucket.archive().list_range(D(2024, 2, 1), D(2024, 1, 1), dataset=FUNDING)


def test_an_update_of_what_the_archive_does_not_have_writes_nothing(tmp_path):
    """Else each recorded file would count as vanished."""
    bucket = KeyBucket([KLINES.key("BTCUSDT", D(2024, 1, 1))])
    path = tmp_path / "record.duckdb"
    with pytest.raises(DiscoveryError, match="um/daily/klines/1m is not in the archive"):
        write.update(
            path, bucket.archive(), D(2024, 1, 1), D(2024, 1, 1),
            now=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), run_id="r", settings=settings.Settings(),
        )  # fmt: skip
    assert not path.exists()


# Sharing and leaving out


def test_the_intervals_of_a_type_share_one_listing_of_the_symbols():
    datasets = [Dataset("spot", "daily", "klines", i) for i in ("1m", "1h", "1d")]
    keys = [d.key(s, D(2024, 1, 1)) for d in datasets for s in SYMBOLS["spot"]]
    bucket = KeyBucket([*keys, JUNK[5]])
    archive = bucket.archive()
    folders = archive.folders(datasets[0])
    assert (folders.symbols, folders.requests) == (tuple(sorted(SYMBOLS["spot"])), 1)
    assert folders.passed_over == {JUNK[5]: 1}
    for dataset in datasets:
        listing = archive.list_range(D(2024, 1, 1), D(2024, 1, 1), dataset=dataset, folders=folders)
        assert sorted(rows(listing)) == expected(keys, dataset, D(2024, 1, 1), D(2024, 1, 1))
        assert listing.requests == 3
        assert listing.passed_over == {}
    assert bucket.folders_asked() == ["data/spot/daily/klines/"]
    with pytest.raises(ValueError, match="are not those of"):
        archive.list_range(D(2024, 1, 1), D(2024, 1, 1), dataset=FUNDING, folders=folders)


def test_only_given_symbols_are_asked_for():
    keys = [KLINES.key(symbol, D(2024, 1, 1)) for symbol in SYMBOLS["spot"]]
    bucket = KeyBucket(keys)
    only = Folders(KLINES.kind, ("ETHUSDT",))
    listing = bucket.archive().list_range(
        D(2024, 1, 1), D(2024, 1, 1), dataset=KLINES, folders=only
    )
    assert [row[0] for row in rows(listing)] == ["ETHUSDT"]
    assert [query["prefix"] for query in bucket.asked] == [KLINES.folder("ETHUSDT")]


def test_an_ended_symbol_is_left_out_and_said_so():
    keys = [KLINES.key(symbol, D(2024, 1, 1)) for symbol in SYMBOLS["spot"]]
    bucket = KeyBucket(keys)
    listing = bucket.archive().list_range(
        D(2024, 1, 1), D(2024, 1, 1), dataset=KLINES, leave_out=["ETHUSDT", "GONEUSDT"]
    )
    assert {row[0] for row in rows(listing)} == {"BTCUSDT", "币安人生USDT"}
    assert listing.left_out == {"ETHUSDT"}
    assert "ETHUSDT" in listing.symbols
    assert KLINES.folder("ETHUSDT") not in [query["prefix"] for query in bucket.asked]


def test_an_ended_symbol_whose_name_is_listed_again_is_not_left_out():
    um = Dataset("um", "daily", "klines", "1d")
    keys = [um.key(s, D(2024, 1, 1)) for s in ("AUSDT", "AUSDTSETTLED", "BUSDT")]
    recorded = Recorded(frozenset({"AUSDT", "BUSDT"}), D(2024, 1, 1), D(2024, 1, 5))
    listing = (
        KeyBucket(keys)
        .archive()
        .list_range(
            D(2024, 1, 5),
            D(2024, 1, 5),
            recorded=recorded,
            dataset=um,
            leave_out={"AUSDT", "BUSDT"},
        )
    )
    assert listing.left_out == {"BUSDT"}
    assert listing.widened == {"AUSDT", "AUSDTSETTLED"}
    assert {row[0] for row in rows(listing)} == {"AUSDT", "AUSDTSETTLED"}


def test_progress_counts_the_symbols_that_are_listed():
    keys = [KLINES.key(symbol, D(2024, 1, 1)) for symbol in SYMBOLS["spot"]]
    seen = []
    KeyBucket(keys).archive().list_range(
        D(2024, 1, 1), D(2024, 1, 1), lambda *a: seen.append(a), dataset=KLINES,
        leave_out={"ETHUSDT"},
    )  # fmt: skip
    assert seen[-1] == (2, 2)
