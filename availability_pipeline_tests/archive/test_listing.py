"""Listing: whole or an error. A 503 on the second page was once taken for the end of the list."""

import datetime as dt
import hashlib
import uuid
from collections.abc import Iterator

import duckdb
import pytest
from botocore.stub import Stubber
from hypothesis import example, given
from hypothesis import strategies as st

from availability_pipeline import settings
from availability_pipeline.archive._client import make_client
from availability_pipeline.archive._pages import Names
from availability_pipeline.archive.datasets import UM_KLINES_1M as DS
from availability_pipeline.archive.listing import (
    ETAG_SQL,
    GIVE_UP_AFTER,
    DiscoveryError,
    ListingError,
    Recorded,
    S3Archive,
    Window,
)
from availability_pipeline_tests.support.helpers import days, published
from availability_pipeline_tests.support.s3 import BUCKET, local_archive
from availability_pipeline_tests.support.stubs import stubbed

D = dt.date
T = dt.datetime(2024, 1, 16, 7, 10, tzinfo=dt.UTC)
ENDINGS = sorted(
    [f"{D(2024, 1, 28) + dt.timedelta(n)}.zip" for n in range(16)] + ["2024-02-01x.zip", "x"]
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with local_archive() as local:
        s3 = local.client
        s3.create_bucket(Bucket="empty")
        for day in range(1, 6):
            for symbol in ("BTCUSDT", "币安人生USDT"):
                local.put(symbol, [D(2024, 1, day)], b"x" * day)
        junk = DS.folder("BTCUSDT") + "BTCUSDT-1m-2024-1-3.zip"
        for key in (junk, DS.prefix + "not a symbol/1m/x.zip"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"j")
        yield local.endpoint


def archive(endpoint: str, **overrides: object) -> S3Archive:
    return S3Archive.from_settings(settings.load(s3_endpoint=endpoint, **overrides))


def test_a_window_holds_its_dates_and_no_others(endpoint):
    got = archive(endpoint).list_range(D(2024, 1, 2), D(2024, 1, 4))
    assert got.symbols == ("BTCUSDT", "币安人生USDT")
    btc = got.files[got.files.symbol == "BTCUSDT"]
    assert [d.date() for d in btc.date] == [D(2024, 1, 2), D(2024, 1, 3), D(2024, 1, 4)]
    assert list(btc.file_size_bytes) == [2, 3, 4]
    assert str(got.files.last_modified.dt.tz) == "UTC"
    assert len(got.files) == 6
    assert got.server_time is not None


def test_each_file_comes_with_the_md5_of_its_content_or_null(endpoint):
    listed = archive(endpoint).list_range(D(2024, 1, 2), D(2024, 1, 4)).files
    listed.loc[0, ["etag_high", "etag_low"]] = 0
    with duckdb.connect() as con:
        found = con.execute(f"SELECT file_size_bytes, {ETAG_SQL} FROM listed").fetchall()
    md5s = {size: uuid.UUID(hashlib.md5(b"x" * size).hexdigest()) for size in (2, 3, 4)}
    assert found == [(2, None), *((size, md5s[size]) for size in (3, 4, 2, 3, 4))]


def test_what_matches_no_grammar_is_counted_and_named(endpoint):
    got = archive(endpoint).list_range(D(2023, 12, 1), D(2024, 2, 1))
    assert len(got.files) == 10
    assert set(got.passed_over) == {DS.prefix + "not a symbol/"} | {
        k for k in got.passed_over if k.endswith("2024-1-3.zip")
    }


def test_progress_reaches_the_number_of_symbols(endpoint):
    seen = []
    archive(endpoint).list_range(D(2024, 1, 1), D(2024, 1, 1), lambda *a: seen.append(a))
    assert seen[-1] == (2, 2)


def test_a_bucket_that_is_not_there_is_one_clear_line(endpoint):
    with pytest.raises(DiscoveryError, match="HTTP 404 NoSuchBucket"):
        archive(endpoint, s3_bucket="nowhere").folders()


def test_an_archive_without_symbols_is_refused(endpoint):
    with pytest.raises(DiscoveryError, match="no symbol at all"):
        archive(endpoint, s3_bucket="empty").folders()


def test_an_endpoint_that_does_not_answer_is_one_clear_line():
    with pytest.raises(DiscoveryError, match="cannot list"):
        archive("http://127.0.0.1:9").folders()


def test_the_client_never_signs_whatever_the_environment_holds(endpoint, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "does-not-exist")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASECRET")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    client = make_client(settings.load(s3_endpoint=endpoint))
    sent = []
    client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request))
    S3Archive(client, BUCKET).folders()
    assert sent
    assert not any("Authorization" in r.headers or "AKIA" in r.url for r in sent)


def folders(*symbols: str) -> dict[str, object]:
    prefixes = [{"Prefix": f"{DS.prefix}{s}/"} for s in symbols]
    return {"IsTruncated": False, "CommonPrefixes": prefixes}


def files(*days: int, token: str | None = None) -> dict[str, object]:
    contents = [
        {"Key": DS.key("BTCUSDT", D(2024, 1, d)), "Size": d, "LastModified": T} for d in days
    ]
    more = {"NextContinuationToken": token} if token else {}
    return {"IsTruncated": token is not None, "Contents": contents, **more}


def ask(start: D, end: D, token: str | None = None) -> dict[str, object]:
    window = {
        "Bucket": BUCKET,
        "Prefix": DS.folder("BTCUSDT"),
        "StartAfter": DS.checksum_key("BTCUSDT", start - dt.timedelta(1)),
        "Delimiter": ".CHECKSUM",
        "MaxKeys": 2 * ((end - start).days + 1) + 1,
    }
    return window | ({"ContinuationToken": token} if token else {})


def test_ctrl_c_drops_what_is_queued(endpoint):
    client = make_client(settings.load(s3_endpoint=endpoint))
    asked = []
    client.meta.events.register_first(
        "before-send.s3", lambda request, **_: asked.append(request.url) or None
    )

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    many = S3Archive(client, BUCKET, concurrency=1)
    many._discover = lambda *_: tuple(f"A{n:03}USDT" for n in range(200))
    with pytest.raises(KeyboardInterrupt):
        many.list_range(D(2024, 1, 1), D(2024, 1, 1), interrupt)
    assert len(asked) < 200


def test_a_bug_of_ours_keeps_its_traceback(endpoint):
    """Only what an answer can raise is a failed symbol; the rest must not be taken for one."""
    client = make_client(settings.load(s3_endpoint=endpoint))

    def broken(**_: object) -> None:
        raise ZeroDivisionError

    client.meta.events.register("after-call.s3.ListObjectsV2", broken)
    archive = S3Archive(client, BUCKET)
    archive._discover = lambda *_: ("BTCUSDT", "ETHUSDT")
    with pytest.raises(ZeroDivisionError):
        archive.list_range(D(2024, 1, 1), D(2024, 1, 1))


def test_a_lost_run_stops_asking(endpoint):
    archive_ = archive(endpoint, s3_bucket="nowhere", s3_concurrency=2)
    archive_._discover = lambda *_: tuple(f"A{n:03}USDT" for n in range(200))
    with pytest.raises(ListingError, match="of 200 symbols") as caught:
        archive_.list_range(D(2024, 1, 1), D(2024, 1, 1))
    assert GIVE_UP_AFTER <= len(caught.value.failures) < 100


@example(ENDINGS[2:13], "data/BTCUSDT-1m-")
@given(
    st.lists(st.sampled_from(ENDINGS), unique=True).map(sorted),
    st.sampled_from(["data/BTCUSDT-1m-", ""]),
)
def test_the_place_of_a_date_is_the_same_with_and_without_holes(endings, prefix):
    window = Window(D(2024, 1, 30), D(2024, 2, 9))
    days = [day.isoformat() for day in window.days]
    expected = [days.index(e[:-4]) if e[:-4] in days and e[10:] == ".zip" else -1 for e in endings]
    assert window.offsets(Names.of([prefix + e for e in endings]), prefix).tolist() == expected


@pytest.fixture(name="stubbed")
def stubbed_archive() -> Iterator[tuple[S3Archive, Stubber]]:
    client = make_client(settings.load())
    with stubbed(client) as stubber:
        discovery = {"Bucket": BUCKET, "Prefix": DS.prefix, "Delimiter": "/"}
        stubber.add_response("list_objects_v2", folders("BTCUSDT"), discovery)
        yield S3Archive(client, BUCKET, concurrency=1), stubber
    client.close()


def test_the_last_partial_page_is_read(stubbed):
    archive, stubber = stubbed
    start, end = D(2024, 1, 1), D(2024, 1, 5)
    stubber.add_response("list_objects_v2", files(1, 2, 3, token="t"), ask(start, end))
    stubber.add_response("list_objects_v2", files(4), ask(start, end, "t"))
    got = archive.list_range(start, end)
    assert list(got.files.file_size_bytes) == [1, 2, 3, 4]
    assert got.requests == 3


def test_a_page_beyond_the_window_is_the_last_one_asked_for(stubbed):
    archive, stubber = stubbed
    start, end = D(2024, 1, 1), D(2024, 1, 2)
    stubber.add_response("list_objects_v2", files(1, 2, 3, token="t"), ask(start, end))
    assert list(archive.list_range(start, end).files.file_size_bytes) == [1, 2]


def test_a_new_symbol_and_its_settlings_are_asked_for_all_recorded_dates_and_no_other(endpoint):
    """A probe of other dates never saw its folder, so that it could not speak of the symbol."""
    client = make_client(settings.load(s3_endpoint=endpoint))
    day = D(2024, 1, 4)
    asked = {
        "AUSDT": (day, day),
        "XUSDT": (D(2024, 1, 2), D(2024, 1, 5)),
        "XUSDTSETTLED": (D(2024, 1, 2), D(2024, 1, 5)),
    }
    recorded = Recorded(frozenset({"AUSDT", "GONEUSDT", "XUSDT"}), D(2024, 1, 2), D(2024, 1, 5))
    with stubbed(client) as stubber:
        stubber.add_response("list_objects_v2", folders(*asked))
        for symbol, (first, last) in asked.items():
            dates = days(first, last) if symbol != "XUSDT" else [day]
            contents = [
                {"Key": DS.key(symbol, d), "Size": d.day, "LastModified": published(d)}
                for d in dates
            ]
            stubber.add_response(
                "list_objects_v2",
                {"IsTruncated": False, "Contents": contents},
                {
                    "Bucket": BUCKET,
                    "Prefix": DS.folder(symbol),
                    "StartAfter": DS.checksum_key(symbol, first - dt.timedelta(1)),
                    "Delimiter": ".CHECKSUM",
                    "MaxKeys": 2 * ((last - first).days + 1) + 1,
                },
            )
        got = S3Archive(client, BUCKET, concurrency=1).list_range(day, day, recorded=recorded)
        stubber.assert_no_pending_responses()
    client.close()
    assert (got.start, got.end) == (day, day)
    assert (got.widened, got.widened_start, got.widened_end) == (
        {"XUSDT", "XUSDTSETTLED"}, D(2024, 1, 2), D(2024, 1, 5),
    )  # fmt: skip
    found = [(f.symbol, f.date.date(), f.file_size_bytes) for f in got.files.itertuples()]
    assert found == [
        ("AUSDT", day, 4),
        ("XUSDT", day, 4),
        *(("XUSDTSETTLED", d, d.day) for d in days(D(2024, 1, 2), D(2024, 1, 5))),
    ]


def test_a_fault_on_the_second_page_fails_the_whole_listing(stubbed):
    archive, stubber = stubbed
    start, end = D(2024, 1, 1), D(2024, 1, 5)
    stubber.add_response("list_objects_v2", files(1, 2, token="t"), ask(start, end))
    stubber.add_client_error("list_objects_v2", "SlowDown", "Reduce your rate", 503)
    with pytest.raises(ListingError, match=r"1 of 1 symbols \(BTCUSDT: HTTP 503 SlowDown") as e:
        archive.list_range(start, end)
    assert set(e.value.failures) == {"BTCUSDT"}


@pytest.mark.parametrize(
    ("second", "why"),
    [(files(2, token="t"), "comes after"), (files(4, token="t"), "token repeats"),
     (files(token="u"), "empty"), ({"Contents": []}, "IsTruncated")],
)  # fmt: skip
def test_pages_that_go_nowhere_end_as_an_error(stubbed, second, why):
    archive, stubber = stubbed
    start, end = D(2024, 1, 1), D(2024, 1, 9)
    stubber.add_response("list_objects_v2", files(1, 2, 3, token="t"), ask(start, end))
    stubber.add_response("list_objects_v2", second, ask(start, end, "t"))
    with pytest.raises(ListingError, match=why):
        archive.list_range(start, end)
