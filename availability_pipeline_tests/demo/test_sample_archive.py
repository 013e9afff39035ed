"""The sample archive has the real one's features, and our own listing reads it."""

import datetime as dt
from collections import Counter

import pytest

from availability_pipeline.archive.datasets import classify
from availability_pipeline.archive.listing import S3Archive
from availability_pipeline.demo import archive as sample_archive
from availability_pipeline.demo.archive import BUCKET, SampleArchive, sample_files
from availability_pipeline.settings import Settings

NOW = dt.datetime(2026, 11, 24, 10, 30, tzinfo=dt.UTC)
SAMPLE = sample_files(NOW)


def dates_of(symbol: str) -> list[dt.date]:
    return sorted(f.date for f in SAMPLE.files if f.symbol == symbol)


def test_the_sample_ends_yesterday_and_is_the_same_for_the_same_clock() -> None:
    assert SAMPLE.last == dt.date(2026, 11, 23)
    assert max(f.date for f in SAMPLE.files) == SAMPLE.last
    assert sample_files(NOW) == SAMPLE


def test_every_kind_of_contract_is_in_it() -> None:
    kinds = Counter(classify(s).contract_type for s in {f.symbol for f in SAMPLE.files})
    assert kinds == {"perpetual": 14, "delivery": 2, "settled": 1}


def test_there_is_a_hole_an_ended_symbol_a_rename_and_a_name_that_is_not_ascii() -> None:
    holed = dates_of("NMRUSDT")
    assert (holed[-1] - holed[0]).days + 1 - len(holed) == 1
    assert dates_of("MATICUSDT")[-1] < SAMPLE.last - dt.timedelta(10)
    assert dates_of("AERGOUSDTSETTLED")[-1] < dates_of("AERGOUSDT")[0]
    assert dates_of("币安人生USDT")


def test_yesterday_is_not_all_there_until_the_later_files_come() -> None:
    yesterday = {f.symbol for f in SAMPLE.files if f.date == SAMPLE.last}
    missing = {f.symbol for f in SAMPLE.later if f.date == SAMPLE.last}
    assert len(yesterday) > len(missing) > 0
    assert not yesterday & missing


@pytest.mark.parametrize("hour", [0, 7, 23])
def test_no_file_is_from_the_future(hour: int) -> None:
    """A LastModified after the probe would make publication lags nonsense."""
    now = NOW.replace(hour=hour, minute=1)
    sample = sample_files(now)
    assert all(f.last_modified <= now for f in (*sample.files, *sample.later))


def test_our_listing_reads_every_file_and_passes_over_the_junk() -> None:
    with SampleArchive() as archive:
        archive.publish(SAMPLE.files)
        archive.publish_junk(SAMPLE.first + dt.timedelta(40))
        ours = S3Archive.from_settings(
            Settings(s3_endpoint=archive.endpoint, s3_bucket=BUCKET, s3_concurrency=4)
        )
        listing = ours.list_range(SAMPLE.first - dt.timedelta(30), SAMPLE.last)
        day = ours.list_range(SAMPLE.last, SAMPLE.last)
    files = listing.files.sort_values(["symbol", "date"])
    seen = {
        (row.symbol, row.date.date(), row.file_size_bytes, row.last_modified.to_pydatetime())
        for row in files.itertuples()
    }
    assert seen == {(f.symbol, f.date, f.size, f.last_modified) for f in SAMPLE.files}
    assert sorted(listing.passed_over.values()) == [1, 1]
    assert set(day.files["symbol"]) == {f.symbol for f in SAMPLE.files if f.date == SAMPLE.last}


def test_later_files_replace_and_removed_ones_vanish() -> None:
    gone = SAMPLE.files[0]
    with SampleArchive() as archive:
        archive.publish(SAMPLE.files)
        archive.publish(SAMPLE.later)
        archive.remove(gone.symbol, gone.date)
        ours = S3Archive.from_settings(Settings(s3_endpoint=archive.endpoint))
        listing = ours.list_range(SAMPLE.first, SAMPLE.last)
    keys = {(f.symbol, f.date) for f in (*SAMPLE.files, *SAMPLE.later)}
    assert len(listing.files) == len(keys) - 1


def test_a_missing_moto_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "moto.server", None)
    with pytest.raises(sample_archive.SampleArchiveError, match="pip install") as caught:
        SampleArchive().__enter__()
    assert "\n" not in str(caught.value)
