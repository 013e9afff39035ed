"""The sample archive has the real one's features, and our own listing reads it."""

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Iterable
from urllib.parse import quote

import pytest
import urllib3

from availability_pipeline.archive.datasets import CATALOGUE, UM_KLINES_1M, Dataset
from availability_pipeline.archive.listing import S3Archive
from availability_pipeline.demo import archive as sample_archive
from availability_pipeline.demo.archive import (
    BUCKET,
    DATASETS,
    SPOT_KLINES_1D,
    SPOT_TRADES,
    UM_FUNDING,
    UM_KLINES_1D,
    SampleArchive,
    SampleFile,
    sample_files,
)
from availability_pipeline.mirror import klines
from availability_pipeline.settings import Settings

NOW = dt.datetime(2026, 11, 24, 10, 30, tzinfo=dt.UTC)
SAMPLE = sample_files(NOW)


def of(
    dataset: Dataset, files: Iterable[SampleFile] = SAMPLE.files, symbol: str | None = None
) -> list[SampleFile]:
    return [f for f in files if f.dataset == dataset and symbol in {None, f.symbol}]


def dates_of(symbol: str, dataset: Dataset = UM_KLINES_1M) -> list[dt.date]:
    return sorted(f.period for f in of(dataset, symbol=symbol))


def test_the_sample_ends_yesterday_and_is_the_same_for_the_same_clock() -> None:
    assert SAMPLE.last == dt.date(2026, 11, 23)
    assert max(f.period for f in SAMPLE.files) == SAMPLE.last
    assert sample_files(NOW) == SAMPLE


def test_every_kind_of_contract_is_in_it() -> None:
    for dataset in (UM_KLINES_1M, UM_KLINES_1D):
        symbols = {f.symbol for f in of(dataset)}
        kinds = Counter(dataset.classify(symbol).contract_type for symbol in symbols)
        assert kinds == {"perpetual": 14, "delivery": 2, "settled": 1}


def test_the_datasets_differ_as_they_do_in_the_archive() -> None:
    """One symbol in two markets, a hole in one dataset only, months that begin before the dates."""
    assert {f.dataset for f in SAMPLE.files} == set(DATASETS)
    assert all(dates_of("BTCUSDT", dataset) for dataset in DATASETS)
    assert len(dates_of("NMRUSDT", UM_KLINES_1D)) == len(dates_of("NMRUSDT")) + 1
    trades = dates_of("SOLUSDT", SPOT_TRADES)
    assert (trades[-1] - trades[0]).days + 1 - len(trades) == 1
    assert dates_of("MATICUSDT", SPOT_TRADES)[-1] < SAMPLE.last - dt.timedelta(10)
    months = dates_of("BTCUSDT", UM_FUNDING)
    assert months == UM_FUNDING.periods(dt.date(2026, 1, 1), dt.date(2026, 10, 1))
    assert min(f.size for f in of(SPOT_TRADES)) > 100 * max(f.size for f in of(UM_KLINES_1D))


@pytest.mark.parametrize(
    ("now", "last"),
    [
        (dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC), "2026-09"),  # a Sunday: October is over
        (dt.datetime(2026, 11, 2, 12, tzinfo=dt.UTC), "2026-10"),
        (dt.datetime(2020, 1, 23, 12, tzinfo=dt.UTC), "2019-12"),
    ],
)
def test_the_last_month_comes_on_the_first_monday_after_it(now: dt.datetime, last: str) -> None:
    months = [f.period for f in of(UM_FUNDING, sample_files(now).files)]
    assert UM_FUNDING.text(max(months)) == last
    assert min(months) >= CATALOGUE[UM_FUNDING.kind].first


def test_there_is_a_hole_an_ended_symbol_a_rename_and_a_name_that_is_not_ascii() -> None:
    holed = dates_of("NMRUSDT")
    assert (holed[-1] - holed[0]).days + 1 - len(holed) == 1
    assert dates_of("MATICUSDT")[-1] < SAMPLE.last - dt.timedelta(10)
    assert dates_of("AERGOUSDTSETTLED")[-1] < dates_of("AERGOUSDT")[0]
    assert dates_of("币安人生USDT")


def test_yesterday_is_not_all_there_until_the_later_files_come() -> None:
    for dataset in (UM_KLINES_1M, UM_KLINES_1D):
        yesterday = {f.symbol for f in of(dataset) if f.period == SAMPLE.last}
        missing = {f.symbol for f in of(dataset, SAMPLE.later) if f.period == SAMPLE.last}
        assert len(yesterday) > len(missing) > 0
        assert not yesterday & missing


@pytest.mark.parametrize("hour", [0, 7, 23])
def test_no_file_is_from_the_future(hour: int) -> None:
    """A LastModified after the probe would make publication lags nonsense."""
    now = NOW.replace(hour=hour, minute=1)
    sample = sample_files(now)
    assert all(f.last_modified <= now for f in (*sample.files, *sample.later))


@pytest.mark.parametrize(
    ("dataset", "junk"), [*zip(DATASETS, [2, 1, 0, 1, 1], strict=True)], ids=map(str, DATASETS)
)
def test_our_listing_reads_every_file_and_passes_over_the_junk(dataset: Dataset, junk: int) -> None:
    with SampleArchive() as archive:
        archive.publish(SAMPLE.files)
        archive.publish_junk(SAMPLE.first + dt.timedelta(40))
        ours = S3Archive.from_settings(
            Settings(s3_endpoint=archive.endpoint, s3_bucket=BUCKET, s3_concurrency=4)
        )
        first, last = dataset.period_of(dt.date(2026, 1, 1)), dataset.period_of(SAMPLE.last)
        listing = ours.list_range(first, last, dataset=dataset)
        day = ours.list_range(last, last, dataset=dataset)
    files = listing.files.sort_values(["symbol", "date"])
    seen = {
        (row.symbol, row.date.date(), row.file_size_bytes, row.last_modified.to_pydatetime())
        for row in files.itertuples()
    }
    expected = of(dataset)
    assert seen == {(f.symbol, f.period, f.size, f.last_modified) for f in expected}
    assert list(listing.passed_over.values()) == [1] * junk
    assert set(day.files["symbol"]) == {f.symbol for f in expected if f.period == last}


def test_the_files_of_1d_klines_can_be_read() -> None:
    """Strictly, as the archive's: header or none, milliseconds or microseconds, one day each."""
    found: dict[tuple[str, str], list[float]] = {}
    for file in (*SAMPLE.files, *SAMPLE.later):
        if file.dataset not in (UM_KLINES_1D, SPOT_KLINES_1D):
            assert file.content is None
            continue
        assert file.content is not None
        assert len(file.content) == file.size
        [day] = klines.read(file.content, file.dataset, file.period)
        assert day.low <= min(day.open, day.close) <= max(day.open, day.close) <= day.high
        assert day.trades > 0
        assert day.quote_volume == pytest.approx(day.volume * (day.high + day.low) / 2, rel=1e-3)
        assert 0.3 < day.taker_buy_volume / day.volume < 0.7
        found.setdefault((file.dataset.market, file.symbol), []).append(day.close)
    assert len(found) == 17 + 10
    for market, symbol in found:
        assert len(set(found[market, symbol])) == len(found[market, symbol]), symbol
    assert found["um", "BTCUSDT"] == found["spot", "BTCUSDT"]


def test_the_download_host_has_them_with_their_checksums_and_nothing_else() -> None:
    with SampleArchive() as archive, urllib3.PoolManager() as http:
        archive.publish(SAMPLE.files)

        def get(key: str) -> urllib3.BaseHTTPResponse:
            return http.request("GET", f"{archive.download_url}/{quote(key)}")

        for file in (of(UM_KLINES_1D, symbol="币安人生USDT")[-1], of(SPOT_KLINES_1D)[0]):
            key = file.dataset.key(file.symbol, file.period)
            body, checksum = get(key), get(f"{key}.CHECKSUM")
            assert body.data == file.content
            assert body.headers["ETag"] == f'"{hashlib.md5(body.data).hexdigest()}"'
            said = f"{hashlib.sha256(body.data).hexdigest()}  {key.rpartition('/')[2]}\n"
            assert checksum.data.decode() == said
        other = of(UM_KLINES_1M)[0]
        assert get(other.dataset.key(other.symbol, other.period)).status == 404
        archive.remove(file)
        assert get(key).status == get(f"{key}.CHECKSUM").status == 404


def test_later_files_replace_and_removed_ones_vanish() -> None:
    gone = SAMPLE.files[0]
    with SampleArchive() as archive:
        archive.publish(SAMPLE.files)
        archive.publish(SAMPLE.later)
        archive.remove(gone)
        ours = S3Archive.from_settings(Settings(s3_endpoint=archive.endpoint))
        listing = ours.list_range(SAMPLE.first, SAMPLE.last)
    keys = {(f.symbol, f.period) for f in of(UM_KLINES_1M, (*SAMPLE.files, *SAMPLE.later))}
    assert len(listing.files) == len(keys) - 1


def test_a_missing_moto_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "moto.server", None)
    with pytest.raises(sample_archive.SampleArchiveError, match="pip install") as caught:
        SampleArchive().__enter__()
    assert "\n" not in str(caught.value)
