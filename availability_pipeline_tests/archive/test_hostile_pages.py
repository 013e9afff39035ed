"""An archive that means harm gets exact rows or one clear error out of us, and little memory."""

import datetime as dt
import functools
import gzip
import itertools
import re
import threading
import tracemalloc
from collections.abc import Iterator
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from availability_pipeline import settings
from availability_pipeline.archive import listing
from availability_pipeline.archive._client import MAX_ERROR_BYTES
from availability_pipeline.archive._pages import MAX_PAGE_BYTES, MalformedPageError, parse_page
from availability_pipeline.archive.datasets import UM_KLINES_1M as DS
from availability_pipeline.archive.listing import (
    MOST_FOLDER_PAGES,
    ArchiveError,
    Listing,
    ListingError,
    S3Archive,
)
from availability_pipeline_tests.support.hostile import (
    Answer,
    FakeArchive,
    entry,
    folder,
    hostile_archive,
    page,
)

D = dt.date
START, END = D(2024, 1, 1), D(2024, 1, 8)
PREFIX = DS.file_prefix("BTCUSDT")


@pytest.fixture(scope="module")
def hostile() -> Iterator[FakeArchive]:
    with hostile_archive() as fake:
        yield fake
    archive.cache_clear()


def ask(fake: FakeArchive, end: D = END, **overrides: object) -> Listing:
    return archive(fake.url, **overrides).list_range(START, end)


@functools.cache  # making a client takes longer than any of these listings
def archive(url: str, **overrides: object) -> S3Archive:
    return S3Archive.from_settings(settings.load(s3_endpoint=url, **overrides))


def refused(fake: FakeArchive, why: str = "failed for|cannot list", **overrides: object) -> str:
    """The one line of a refusal: short, printable, naming how many and which symbol."""
    with pytest.raises(ArchiveError, match=why) as caught:
        ask(fake, **overrides)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 900
    return text


def day(n: int) -> str:
    return f"{PREFIX}2024-01-{n:02}.zip"


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>'

# Each turns a good page of a few days into a bad one.
FATAL = {
    "doctype": lambda good: LAUGHS.encode() + good,
    "laughs": lambda good: good.replace(b'?>', b"?>" + LAUGHS.encode()).replace(b"-1m-", b"&c;", 1),
    "external entity": lambda good: good.replace(
        b"?>", b'?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    ).replace(b"<Size>5", b"<Size>&e;", 1),
    "unknown entity": lambda good: good.replace(b"<Size>5", b"<Size>&evil;5", 1),
    "negative size": lambda good: good.replace(b"<Size>5", b"<Size>-5", 1),
    "huge size": lambda good: good.replace(b"<Size>5", b"<Size>" + b"9" * 5000, 1),
    "signed size": lambda good: good.replace(b"<Size>5", b"<Size>+5", 1),
    "size with underscore": lambda good: good.replace(b"<Size>5", b"<Size>1_0", 1),
    "size is a word": lambda good: good.replace(b"<Size>5", b"<Size>NaN", 1),
    "no size": lambda good: good.replace(b"<Size>5</Size>", b"", 1),
    "two keys": lambda good: good.replace(b"<LastM", b"<Key>x</Key><LastM", 1),
    "an element in a key": lambda good: good.replace(b".zip</K", b"<b/>.zip</K", 1),
    # Of its own folder: in this one it is passed over, and as the last of a page it ends a listing.
    "another symbol's key": lambda good: good.replace(b"BTCUSDT/1m/BTC", b"ETHUSDT/1m/ETH", 1),
    "a path": lambda good: good.replace(b"BTCUSDT/1m", b"BTCUSDT/../1m", 1),
    "absolute path": lambda good: good.replace(b"<Key>data", b"<Key>/etc", 1),
    "control character": lambda good: good.replace(b"<Key>data", b"<Key>\x1bdata", 1),
    "zero byte": lambda good: good.replace(b"<Key>data", b"<Key>\x00data", 1),
    "no utf-8": lambda good: good.replace(b"<Key>data", b"<Key>\xffdata", 1),
    # latin-1: another fault may have made it no UTF-8 before.
    "utf-16": lambda good: good.decode("latin-1").replace("UTF-8", "UTF-16").encode("utf-16"),
    "year 0": lambda good: good.replace(b"2024-01-16T", b"0000-01-16T", 1),
    "year 9999": lambda good: good.replace(b"2024-01-16T", b"9999-12-31T", 1),
    "month 13": lambda good: good.replace(b"2024-01-16T", b"2024-13-16T", 1),
    "30 February": lambda good: good.replace(b"2024-01-16T", b"2024-02-30T", 1),
    "24:61": lambda good: good.replace(b"T07:10:11", b"T24:61:11", 1),
    "local time": lambda good: good.replace(b":11.000Z", b":11+09:00", 1),
    "two times in one": lambda good: good.replace(b".000Z<", b".000Z2<", 1).replace(
        b">2024-01-16T", b">024-01-16T", 2).replace(b">024", b">2024", 1),
    # Whatever dates the page has: another name for one of them could be a good page.
    "duplicate": lambda good: re.sub(
        rb"(<Contents>.*?</Contents>)(.*)(</ListB)", rb"\1\2\1\3", good, count=1, flags=re.DOTALL),
    "unsorted": lambda good: good.replace(
        b"</ListB", entry(f"{PREFIX}2023-12-31.zip").encode() + b"</ListB", 1),
    "count": lambda good: good.replace(b"<IsT", b"<KeyCount>99</KeyCount><IsT", 1),
    "count is no number": lambda good: good.replace(b"<IsT", b"<KeyCount>x</KeyCount><IsT", 1),
    "no end": lambda good: good.replace(b"false", b"", 1),
    "two ends": lambda good: good.replace(b"<IsT", b"<IsTruncated>false</IsTruncated><IsT", 1),
    "truncated": lambda good: good.replace(b"false", b"true", 1),
    "cut off": lambda good: good[:-9],
    "twice": lambda good: good + good,
    "gzip": gzip.compress,
    "html": lambda good: b"<html><body>Welcome to Hotel WiFi</body></html>",
    "nothing": lambda good: b"",
    "too deep": lambda good: b"<ListBucketResult>" + b"<a>" * 100_000,
}  # fmt: skip

# Each leaves the rows as they were.
HARMLESS = {
    "no change": lambda good: good,
    "huge etag": lambda good: good.replace(b"&quot;0f", b"&quot;" + b"f" * 100_000, 1),
    "unknown elements": lambda good: good.replace(b"<IsT", b"<Evil><Key>x</Key></Evil><IsT", 1),
    "comment": lambda good: good.replace(b"<Contents>", b"<!-- x --><Contents>", 1),
    "sql": lambda good: good.replace(
        b"</ListB", entry(f"{day(9)}'; DROP TABLE daily_availability; --").encode() + b"</ListB"),
    "terminal codes": lambda good: good.replace(
        b"</ListB", entry(f"{day(9)}&#155;31m&#10;&#13;x").encode() + b"</ListB"),
    "dots": lambda good: good.replace(
        b"</ListB", entry(f"{PREFIX}2024-02-01.zip/../../../etc/passwd").encode() + b"</ListB"),
    "impossible date": lambda good: good.replace(
        b"</ListB", entry(f"{PREFIX}2024-02-31.zip").encode() + b"</ListB"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FATAL)
def test_one_fault_in_a_page_refuses_the_listing(hostile, fault):
    good = page("".join(entry(day(n)) for n in range(1, 5)))
    bad = FATAL[fault](good)
    assert bad != good
    hostile.listings(bad)
    assert "failed for 1 of 1 symbols (BTCUSDT: " in refused(hostile)
    assert len(hostile.asked) == 2


@pytest.mark.parametrize("extra", HARMLESS)
def test_what_harms_no_row_changes_none(hostile, extra):
    hostile.listings(HARMLESS[extra](page("".join(entry(day(n)) for n in range(1, 5)))))
    got = ask(hostile)
    assert [d.day for d in got.files.date] == [1, 2, 3, 4]
    assert set(got.files.file_size_bytes) == {5}
    assert all(name.isprintable() and len(name) <= 200 for name in got.passed_over)


@hypothesis_settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    days=st.lists(st.integers(1, 20), min_size=2, unique=True).map(sorted),
    cuts=st.integers(1, 4),
    faults=st.lists(
        st.tuples(st.sampled_from([*FATAL, *HARMLESS, *HARMLESS, *HARMLESS]), st.integers(0, 3)),
        max_size=3,
    ),
    sizes=st.lists(st.integers(0, 10**15 - 1), min_size=20, max_size=20),
)
def test_any_mixture_gives_the_exact_rows_or_one_clear_error(hostile, days, cuts, faults, sizes):
    """Rows that were never listed, or listed rows that went missing, would become facts."""
    size = -(-len(days) // cuts)
    parts = [days[at : at + size] for at in range(0, len(days), size)]
    pages = [
        page("".join(entry(day(d), str(sizes[d - 1])) for d in part),
             str(n) if n < len(parts) else "")
        for n, part in enumerate(parts, 1)
    ]  # fmt: skip
    for name, at in faults:
        # Some harmless ones add a key beyond the window, where a listing may rightly stop.
        at = at % len(pages) if name in FATAL else -1
        pages[at] = {**FATAL, **HARMLESS}[name](pages[at])
    hostile.listings(*pages)
    try:
        got = ask(hostile)
    except ListingError:
        assert faults, "a page without any fault was refused"
        return
    in_window = [d for d in days if d <= END.day]
    assert [d.day for d in got.files.date] == in_window
    assert list(got.files.file_size_bytes) == [sizes[d - 1] for d in in_window]
    assert len(hostile.asked) <= 1 + len(pages)


@given(st.binary(max_size=200), st.sampled_from([*FATAL.values()]), st.data())
def test_no_bytes_get_another_error_than_ours(noise, fault, data):
    bad = fault(page("".join(entry(day(n)) for n in range(1, 5))))
    at = data.draw(st.integers(0, len(bad)))
    try:
        got = parse_page(bad[:at] + noise + bad[at:])
    except MalformedPageError:
        return
    assert len(got.keys) == len(got.sizes) == len(got.last_modified)


def test_a_token_that_repeats_for_ever_costs_two_pages(hostile):
    names = map(day, itertools.count(1))
    discovery = Answer(page(folder(f"{DS.prefix}BTCUSDT/")))
    hostile.listings()
    hostile.respond = lambda query: (
        discovery if query["delimiter"] == "/" else Answer(page(entry(next(names)), "same"))
    )
    refused(hostile, "token repeats")
    assert len(hostile.asked) == 3


def test_ever_new_pages_end_when_there_are_more_than_the_dates_allow(hostile):
    """Keys in order, all before the window's end, each token new: nothing else would stop it."""
    count = itertools.count()
    discovery = Answer(page(folder(f"{DS.prefix}BTCUSDT/")))
    hostile.listings()

    def respond(query):
        n = next(count)
        key = f"{day(1)}{n:09}"
        return discovery if query["delimiter"] == "/" else Answer(page(entry(key), f"t{n}"))

    hostile.respond = respond
    refused(hostile, "after 10 pages there is still no end")
    assert len(hostile.asked) == 11


def test_millions_of_symbol_folders_end_as_an_error(hostile, monkeypatch):
    assert MOST_FOLDER_PAGES <= 100
    monkeypatch.setattr(listing, "MOST_FOLDER_PAGES", 12)
    count = itertools.count()
    hostile.listings()

    def respond(query):
        n = next(count)
        names = (f"{DS.prefix}{n:07}{i:03}USDT/" for i in range(1000))
        return Answer(page("".join(map(folder, names)), f"t{n}"))

    hostile.respond = respond
    refused(hostile, "after 12 pages there is still no end")
    assert len(hostile.asked) == 12


def test_symbols_with_hostile_names_are_never_asked_for(hostile):
    names = ["..", ".", "../../etc", "A'; DROP TABLE x; --", "btcusdt", "A\u202eUSDT", "A B",
             "\x9b", "A" * 65, "%00", "A\nB", "*", "$(reboot)"]  # fmt: skip
    good = page(entry(day(1)))
    body = "".join(map(folder, sorted(f"{DS.prefix}{n}/" for n in [*names, "BTCUSDT"])))
    hostile.listings()
    hostile.respond = lambda query: Answer(page(body) if query["delimiter"] == "/" else good)
    got = ask(hostile)
    assert got.symbols == ("BTCUSDT",)
    assert len(hostile.asked) == 2
    assert sum(got.passed_over.values()) == len(names)
    assert all(name.isprintable() for name in got.passed_over)


def endless(first: bytes, part: bytes) -> Iterator[bytes]:
    yield first
    yield from itertools.repeat(part)


@pytest.mark.parametrize("first", [b"<ListBucketResult>", b"<Error>", b" "])
@pytest.mark.parametrize("status", [200, 403, 503])
def test_a_body_without_end_is_left_after_the_largest_page(hostile, first, status):
    hostile.listings()
    hostile.respond = lambda query: Answer(endless(first, b" " * 2**20), status)
    tracemalloc.start()
    try:
        refused(hostile, "more than 8,388,608 bytes")
        # The parts, and a look at them: never a multiple of what the server would send.
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_PAGE_BYTES
    finally:
        tracemalloc.stop()
    # What the system's buffers hold was sent, too.
    assert hostile.sent < MAX_PAGE_BYTES + 32 * 2**20


def test_a_body_that_drips_is_left_after_some_timeouts(hostile):
    """Each byte comes well within the read timeout, so that alone would wait for years."""
    ended = itertools.chain([b"<ListBucketResult>"], itertools.repeat(b" "))
    pause = threading.Event()

    def drip():
        for part in ended:
            pause.wait(0.02)
            yield part

    hostile.listings()
    hostile.respond = lambda query: Answer(drip())
    refused(hostile, "ReadTimeout", s3_timeout_seconds=0.5)
    assert hostile.sent < 1000


@pytest.mark.parametrize(("off", "why", "seconds"), [(-9, "cut off", 60), (+9, "ReadTimeout", 0.5)])
def test_a_wrong_length_is_an_error(hostile, off, why, seconds):
    body = page(entry(day(1)))
    hostile.listings()
    hostile.respond = lambda query: Answer(body, headers={"Content-Length": str(len(body) + off)})
    refused(hostile, why, s3_timeout_seconds=seconds)


def test_a_compressed_answer_is_not_unpacked(hostile):
    """A hundred MB of spaces are 100 kB on the wire."""
    bomb = gzip.compress(page(" " * 10**8))
    hostile.listings()
    hostile.respond = lambda query: Answer(bomb, headers={"Content-Encoding": "gzip"})
    tracemalloc.start()
    try:
        refused(hostile, "cannot list")
        assert tracemalloc.get_traced_memory()[1] < 2 * MAX_PAGE_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_nobody_else_is_asked(hostile, status):
    with hostile_archive() as elsewhere:
        headers = {"Location": f"{elsewhere.url}/x", "x-amz-bucket-region": "eu-west-1"}
        hostile.listings()
        hostile.respond = lambda query: Answer(b"<Error/>", status, headers)
        assert elsewhere.url in refused(hostile, "wants us elsewhere")
        assert elsewhere.asked == []
    assert len(hostile.asked) == 1


@pytest.mark.parametrize(
    "code",
    ["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"],
)
def test_an_error_that_names_another_region_is_not_followed(hostile, code):
    """botocore would ask again there, and send a HEAD first: three requests where one is told."""
    body = f"<Error><Code>{code}</Code><Region>eu-west-1</Region></Error>".encode()
    hostile.listings()
    hostile.respond = lambda query: Answer(body, 400)
    refused(hostile, f"HTTP 400 {code}")
    assert len(hostile.asked) == 1


@pytest.mark.parametrize("status", [200, 400, 403, 500])
def test_entities_in_an_error_are_not_expanded(hostile, status):
    hostile.listings()
    body = f"{LAUGHS}<Error><Code>&c;</Code></Error>".encode()
    hostile.respond = lambda query: Answer(body, status)
    assert "haha" not in refused(hostile, "declares a document type")


N = 4 * 2**20
BOMBS = {
    "elements": "<a/>" * (N // 4),
    "nested elements": "<a>" * (N // 7) + "</a>" * (N // 7),
    "attributes": "<a " + " ".join(f'a{n}=""' for n in range(N // 11)) + "/>",
    "a long namespace": f'<b xmlns="{"u" * 2**20}">{"".join(f"<a{n}/>" for n in range(100))}</b>',
    "a long namespace of a prefix": f"<p:b\nxmlns:p = '{'u' * 2**20}'>"
    f"{''.join(f'<p:a{n}/>' for n in range(100))}</p:b>",
    "entries": "".join(entry(f"{PREFIX}{n:09d}") for n in range(20_000)),
    "entries spelt otherwise": "".join(entry(f"{PREFIX}{n:09d}", time="2024-01-16T07:10:11Z")
                                       for n in range(20_000)),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_page_that_would_become_far_more_in_memory_is_refused(bomb):
    """4 MiB of it became up to 300 MB, and 1 MiB with a long namespace 600."""
    body = page(BOMBS[bomb])
    tracemalloc.start()
    try:
        with pytest.raises(MalformedPageError, match=r"more elements|namespace longer"):
            parse_page(body)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("size", [MAX_PAGE_BYTES, MAX_ERROR_BYTES])
def test_nor_does_an_error_become_far_more_which_botocore_would_read(hostile, bomb, size):
    body = f"<Error><Code>X</Code>{BOMBS[bomb]}</Error>".encode()[:size]
    hostile.respond = lambda query: Answer(body, 503)
    tracemalloc.start()
    try:
        refused(hostile, "HTTP 503 with" if len(body) > MAX_ERROR_BYTES else "HTTP|Parser|names")
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


def test_a_full_page_with_all_that_s3_knows_is_read():
    """1,000 entries, the half of them folded, in the slower reader, with a namespace in each."""
    known = (
        '<Owner xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">'
        f"<ID>{'0' * 64}</ID><DisplayName>n</DisplayName></Owner><RestoreStatus>"
        "<IsRestoreInProgress>false</IsRestoreInProgress><RestoreExpiryDate>2024-01-16T07:10:11Z"
        "</RestoreExpiryDate></RestoreStatus><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"
        "<ChecksumAlgorithm>SHA256</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
    )
    keys = [f"{PREFIX}{n:0900d}" for n in range(500)]
    body = page("".join(entry(key).replace("<Size>", f"{known}<Size>") for key in keys)
                + "".join(folder(f"{key}.CHECKSUM") for key in keys))  # fmt: skip
    assert list(parse_page(body).keys) == keys


@pytest.mark.parametrize(("attempts", "requests"), [(1, 1), (2, 2)])
def test_an_error_with_status_200_is_an_error(hostile, attempts, requests):
    hostile.listings()
    hostile.respond = lambda query: Answer(
        b'<?xml version="1.0"?>\n<Error><Code>SlowDown</Code>'
        b"<Message>&#155;Slow&#10;</Message></Error>"
    )
    refused(hostile, r"HTTP 500 SlowDown: \\x9bSlow", s3_attempts=attempts)
    assert len(hostile.asked) == requests


@st.composite
def spelt_otherwise(draw):
    """A page in S3's own spelling, and the same in another that XML allows."""
    names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)
    keys = sorted(draw(st.sets(names, max_size=6)))
    folders = sorted(draw(st.sets(names, max_size=3)))
    size = st.integers(0, 10**15 - 1).map(str)
    time = st.sampled_from(["2024-01-16T07:10:11.000Z", "2024-01-16T07:10:11Z"])
    rows = [(key, draw(size), draw(time)) for key in keys]
    token = draw(st.sampled_from(["", "t0k+/="]))
    count = f"<KeyCount>{len(keys) + len(folders)}</KeyCount>"
    s3 = page(
        "".join(entry(escape(k), s, t) for k, s, t in rows) + "".join(map(folder, folders)),
        token, count,
    )  # fmt: skip

    def spell(text):
        way = draw(st.sampled_from(["plain", "decimal", "hex", "cdata"]))
        if way == "cdata":
            return f"<![CDATA[{text.replace(']]>', ']]]]><![CDATA[>')}]]>"
        forms = {"plain": escape, "decimal": lambda c: f"&#{ord(c)};"}
        return "".join(map(forms.get(way, lambda c: f"&#x{ord(c):x};"), text))

    gap = draw(st.sampled_from(["", "\n  ", "<!-- a comment -->", "<Owner><ID>x</ID></Owner>"]))
    parts = [
        f"<Contents>{gap}<Size>{spell(s)}</Size>{gap}<Key>{spell(k)}</Key >"
        f"<LastModified>{spell(t)}</LastModified></Contents>"
        for k, s, t in rows
    ] + [f"<CommonPrefixes>{gap}<Prefix>{spell(f)}</Prefix></CommonPrefixes>" for f in folders]
    return s3, page(gap.join(parts), token, count + gap)


@given(spelt_otherwise())
def test_a_page_means_the_same_however_it_is_spelt(both):
    """Two readers: the quick one for S3's spelling must never see another page than the parser."""
    first, second = map(parse_page, both)
    assert (first.keys, first.folders) == (second.keys, second.folders)
    assert first.sizes.tolist() == second.sizes.tolist()
    assert first.last_modified.tolist() == second.last_modified.tolist()
    assert first.next_token == second.next_token
