"""A listing page is hostile bytes: exact rows or one clear error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from availability_pipeline.archive._pages import (
    MAX_PAGE_BYTES,
    MalformedPageError,
    Names,
    parse_page,
)

NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def entry(key, size="5", time="2024-01-16T07:10:11.000Z"):
    return (
        f"<Contents><Key>{key}</Key><LastModified>{time}</LastModified>"
        f"<Size>{size}</Size></Contents>"
    )


def page(body, truncated="false", extra=""):
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult {NS}>'
        f"<IsTruncated>{truncated}</IsTruncated>{extra}{body}</ListBucketResult>"
    ).encode()


def test_a_page_gives_its_rows_folders_and_token():
    body = entry("a") + entry("b", "7") + "<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes>"
    token = "<NextContinuationToken>t</NextContinuationToken><KeyCount>3</KeyCount>"
    got = parse_page(page(body, "true", token))
    assert (got.keys, got.folders, got.next_token) == (["a", "b"], ["c/"], "t")
    assert got.sizes.tolist() == [5, 7]
    assert got.last_modified[0] == np.datetime64("2024-01-16T07:10:11")


def test_an_url_encoded_name_is_decoded():
    got = parse_page(page(entry("%E9%BE%99+x"), extra="<EncodingType>url</EncodingType>"))
    assert got.keys == ["龙 x"]


BAD = {
    "cut off": page(entry("a"))[:-20],
    "empty": b"",
    "html": b"<html></html>",
    "an error": b"<Error><Code>SlowDown</Code></Error>",
    "entities": b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + page(entry("&a;")),
    "no end stated": page(entry("a"), "maybe"),
    "truncated without token": page(entry("a"), "true"),
    "unsorted": page(entry("b") + entry("a")),
    "duplicate": page(entry("a") + entry("a")),
    "count differs": page(entry("a"), extra="<KeyCount>2</KeyCount>"),
    "negative size": page(entry("a", "-1")),
    "huge size": page(entry("a", "9" * 40)),
    "size in other digits": page(entry("a", "５")),
    "no time": page(entry("a", time="yesterday")),
    "local time": page(entry("a", time="2024-01-16T07:10:11+09:00")),
    "no name": page(entry("")),
    "too large": b" " * (MAX_PAGE_BYTES + 1),
    "another encoding": page(entry("a")).decode().encode("utf-16"),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_a_bad_page_is_one_clear_error(body):
    with pytest.raises(MalformedPageError) as caught:
        parse_page(body)
    assert len(str(caught.value)) < 400


@given(st.binary(max_size=300))
def test_no_bytes_get_another_error_than_ours(body):
    with pytest.raises(MalformedPageError):
        parse_page(body)


@given(st.data())
def test_a_damaged_page_never_gives_rows_that_were_not_in_it(data):
    whole = page("".join(entry(f"k{n:02}") for n in range(8)))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + 1 :]
    try:
        got = parse_page(damaged)
    except MalformedPageError:
        return
    assert len(got.keys) <= 8
    assert len(got.keys) == len(got.sizes) == len(got.last_modified)


FULL = (
    "<Contents><Key>{key}</Key><LastModified>2024-01-16T07:10:11.000Z</LastModified>"
    "<ETag>{etag}</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
MD5 = "0123456789abcdef00000000000000ff"
HALVES = (0x0123456789ABCDEF, 0xFF)


def full(key, etag="&quot;0f-2&quot;"):
    return FULL.format(key=key, etag=etag)


FOLDER = "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>"


@pytest.mark.parametrize("gap", ["", "\n", "<Owner/>", "<!-- -->"])
@pytest.mark.parametrize("key", ["a", "&#97;", "%61"])
def test_both_readers_read_the_same(gap, key):
    body = gap.join([full(key, f"&quot;{MD5}&quot;"), full("b"), FOLDER.format("c"),
                     FOLDER.format("d"), ""])  # fmt: skip
    got = parse_page(page(body, extra="<KeyCount>4</KeyCount><EncodingType>url</EncodingType>"))
    assert (got.keys, got.folders) == (["a", "b"], ["c", "d"])
    assert got.sizes.tolist() == [5, 5]
    assert got.etags.tolist() == [list(HALVES), [0, 0]]


@pytest.mark.parametrize(
    ("etag", "halves"),
    [(f"&quot;{MD5}&quot;", HALVES), (f"&#34;{MD5}&#34;", HALVES), (f'"{MD5}"', HALVES),
     (MD5, HALVES), (f"&quot;{MD5.upper()}&quot;", HALVES), (f"&#x22;{MD5}&#x22;", HALVES),
     (f"&quot;{MD5}-2&quot;", (0, 0)), (f"&quot;{MD5[1:]}&quot;", (0, 0)), ("", (0, 0)),
     (f"&quot;{MD5}0&quot;", (0, 0)), (f"&quot;{MD5[1:]}g&quot;", (0, 0)),
     (f"&quot;{MD5[1:]} &quot;", (0, 0)), (f"&quot;{'f' * 32}&quot;", (2**64 - 1,) * 2)],
)  # fmt: skip
@pytest.mark.parametrize("gap", ["", "\n"])
@pytest.mark.parametrize("other", [f"&quot;{MD5}&quot;", f"&quot;{MD5}-9&quot;"])
def test_an_etag_is_an_md5_or_none(etag, halves, gap, other):
    got = parse_page(page(gap.join([full("a", etag), full("b", other), full("c", etag)])))
    expected = [0, 0] if "-" in other else list(HALVES)
    assert got.etags.tolist() == [list(halves), expected, list(halves)]
    assert got.etags.dtype == np.uint64


def test_a_missing_etag_is_none_and_one_given_twice_is_refused():
    got = parse_page(page(entry("a") + full("b", f"&quot;{MD5}&quot;")))
    assert got.etags.tolist() == [[0, 0], list(HALVES)]
    twice = full("a").replace("<Size>", f"<ETag>{MD5}</ETag><Size>")
    with pytest.raises(MalformedPageError, match="ETag"):
        parse_page(page(twice))


@given(
    st.lists(
        st.one_of(
            st.binary(min_size=16, max_size=16).map(bytes.hex),
            st.text(st.sampled_from('0aF-g" é;'), max_size=34),
        ),
        max_size=5,
    ),
    st.sampled_from(["&quot;", "&#34;", '"', ""]),
)
def test_both_readers_read_any_etag_the_same(etags, mark):
    bodies = [full(f"{n}", f"{mark}{etag}{mark}") for n, etag in enumerate(etags)]
    quick, whole = (parse_page(page(gap.join([*bodies, ""]))) for gap in ("", "\n"))
    assert quick.etags.tolist() == whole.etags.tolist()
    for etag, (high, low) in zip(etags, quick.etags.tolist(), strict=True):
        if '"' in etag:  # may stand for a mark
            continue
        hexadecimal = len(etag) == 32 and set(etag.lower()) <= set("0123456789abcdef")
        assert f"{high:016x}{low:016x}" == (etag.lower() if hexadecimal else "0" * 32)


@pytest.mark.parametrize(
    "body",
    [
        f"<!-- {full('a')} -->",
        f"<Inner>{full('a')}</Inner>",
        f"<![CDATA[{full('a')}]]>",
        full("a") + "<EntriesWereHere/>",
        full("a") + FOLDER.format("c<d/>").replace("<d/>", "<"),
    ],
)
def test_entries_that_are_not_directly_in_the_listing_are_refused(body):
    with pytest.raises(MalformedPageError):
        parse_page(page(body, extra="<KeyCount>1</KeyCount>"))


@pytest.mark.parametrize("siblings", [["a", "b"], ["a"], ["a", "b", "c"], ["Z", "a"], ["a", "a"]])
def test_folded_siblings_are_the_ones_that_are_there(siblings):
    names = [f"{name}.CHECKSUM" for name in siblings]
    body = full("a") + full("b") + "".join(map(FOLDER.format, names))
    count = f"<KeyCount>{2 + len(names)}</KeyCount>"
    if siblings == ["a", "a"]:
        with pytest.raises(MalformedPageError, match="comes after"):
            parse_page(page(body, extra=count))
    else:
        assert parse_page(page(body, extra=count)).folders == names


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1)))
def test_names_are_the_texts_they_were_made_of(texts):
    names = Names.of(texts)
    assert list(names) == texts
    assert names[: len(texts) // 2] == texts[: len(texts) // 2]
    assert names.joined().decode() == "".join(texts)
    assert names.is_sorted() == (texts == sorted(set(texts)))
    ended = Names([text.encode() for text in texts], b"!")
    assert ended == Names.of([f"{text}!" for text in texts]) == [f"{text}!" for text in texts]
    assert hash(ended) == hash(Names.of([f"{text}!" for text in texts]))


@pytest.mark.parametrize(
    "time",
    ["2024-13-01T00:00:00.000Z", "2024-02-30T00:00:00.000Z", "0000-01-01T00:00:00.000Z",
     "2005-12-31T23:59:59.999Z", "2100-01-01T00:00:00.000Z", "2024-01-16T07:10:61.000Z"],
)  # fmt: skip
def test_a_time_that_cannot_be_is_refused(time):
    with pytest.raises(MalformedPageError, match="LastModified"):
        parse_page(page(full("a").replace("2024-01-16T07:10:11.000Z", time)))


@pytest.mark.parametrize(
    "text", ["2024-01-16T07:10:11Z", "2024-01-16T07:10:11.5Z", "2024-01-16T07:10:11.123456Z"]
)
def test_a_time_of_another_length_is_read_to_the_microsecond(text):
    got = parse_page(page(entry("a") + entry("b", time=text)))
    times = ["2024-01-16T07:10:11", text[:-1]]
    assert got.last_modified.tolist() == np.array(times, "datetime64[us]").tolist()
