"""One page of an S3 listing: bytes in, a checked `Page` out.

The bytes come from the network and are treated as hostile.

Why not botocore's own parser: for the full history (737,000 files in 2,021 pages, one core) it
needs 337 s, most of it for turning every LastModified into a datetime through dateutil. Reading
the page here, in that parser's place, needs under 1 s and keeps boto3's client, endpoint, retry and
error handling.

Two readers, one meaning: entries in S3's own spelling are cut out by a pattern that must cover
them to the last byte, and only what is left goes through the XML parser; any other spelling goes
through it whole, which is several times slower.
"""

import itertools
import operator
import re
import threading
from binascii import unhexlify
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET  # documents with a DTD are refused before parsing

import numpy as np
import numpy.typing as npt

MAX_PAGE_BYTES = 8 * 2**20
"""A full page of 1,000 entries is about 400 kB; more than 8 MiB is not a listing."""

MAX_MARKUP = 60_000
"""Tags, and attributes, of a page: one of 1,000 entries with all that S3 knows of each has 32,000.

Without a bound 8 MiB of `<a>` became 313 MB of elements.
"""

_USUAL_BYTES = 2**20
"""Counting the tags of a page costs 0.06 ms; up to this size S3's own spelling needs no count."""

EARLIEST, LATEST = np.datetime64("2006-01-01"), np.datetime64("2100-01-01")
"""A LastModified before S3 existed or a lifetime ahead cannot be true, though it may be a date."""

_MARK = "EntriesWereHere"
_NS = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_LAST_MODIFIED = re.compile(
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z"
)
# S3's own spelling of entries. What the names and times hold is checked afterwards, all at once,
# and nothing is matched twice (`++`): 0.15 ms a page of 370 entries against 0.24 with the times'
# own pattern in it. Any other spelling (a time of another length) is the parser's.
_CONTENTS = re.compile(
    b"<Contents><Key>([^<]++)</Key><LastModified>(.{24})</LastModified>"
    b"(?:<ETag>([^<]*+)</ETag>)?+(?:<ChecksumAlgorithm>[^<]*+</ChecksumAlgorithm>)?+"
    b"(?:<ChecksumType>[^<]*+</ChecksumType>)?+"
    b"<Size>([0-9]{1,15}+)</Size>(?:<StorageClass>[^<]*+</StorageClass>)?+</Contents>"
)
# An ETag is the MD5 of the content where the file was uploaded in one part; else it has a `-`.
_QUOTED_MD5 = re.compile(rb'(?:&quot;|&#34;|")?([0-9A-Fa-f]{32})(?:&quot;|&#34;|")?')
_NO_MD5 = b"&quot;00000000000000000000000000000000&quot;"
_HEX = bytes.maketrans(b"123456789abcdefABCDEF", b"0" * 21)
_OF_ETAGS = b'0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-&#;"'
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_NOT_PLAIN = bytes(range(32)) + b"\x7f<>&"
# Each name in a document carries its namespace: 1 MB of namespace and 300 elements took 600 MB.
_NAMESPACE_AT = re.compile(rb"\sxmlns[\s:=]")
_NAMESPACE = re.compile(
    rb"\sxmlns(?::[A-Za-z]{1,20})?\s*=\s*(?:\"[^\"<>]{0,100}\"|'[^'<>]{0,100}')"
)
_SLOWLY = threading.Lock()
_SIBLING = b".CHECKSUM"
_FOLDER_START, _FOLDER_END = b"<CommonPrefixes><Prefix>", b"</Prefix></CommonPrefixes>"


class MalformedPageError(ValueError):
    """An answer is not a complete, consistent S3 listing page; the text says what is wrong."""


class Names(Sequence[str]):
    """Names in the order of the page, each made a text when it is asked for.

    A page of 500 files has 500 folded siblings; of all these names a listing reads four, and
    making the siblings alone took a fifth of the page's time.
    """

    def __init__(self, raw: Sequence[bytes], ending: bytes = b"") -> None:
        self._raw, self.ending = raw, ending

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Names":
        """The same from texts."""
        return cls([text.encode() for text in texts])

    def encoded(self) -> Sequence[bytes]:
        """All of them in UTF-8."""
        return [name + self.ending for name in self._raw] if self.ending else self._raw

    def joined(self) -> bytes:
        """All of them, one after another with nothing between, in UTF-8."""
        return self.ending.join([*self._raw, b""])

    def is_sorted(self) -> bool:
        """Whether each comes after the one before, by UTF-8 bytes as S3 orders."""
        return all(map(operator.lt, self._raw, itertools.islice(self._raw, 1, None)))

    def __len__(self) -> int:
        return len(self._raw)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [(name + self.ending).decode() for name in self._raw[index]]
        return (self._raw[index] + self.ending).decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One page.

    Attributes:
        keys: names of its n files, sorted by UTF-8 bytes.
        sizes: their bytes, shape (n,).
        last_modified: datetime64[us], UTC, shape (n,).
        etags: each file's MD5 as two halves, the higher first, shape (n, 2); both are 0 where the
            ETag is missing or not an MD5, as of an upload in several parts.
        folders: what was folded (common prefixes), sorted.
        next_token: where the listing goes on, None at its end.
    """

    keys: Names
    sizes: npt.NDArray[np.int64]
    last_modified: npt.NDArray[np.datetime64]
    etags: npt.NDArray[np.uint64]
    folders: Names
    next_token: str | None


def parse_page(body: bytes) -> Page:
    """Read one ListObjectsV2 answer.

    Raises:
        MalformedPageError: for anything but a complete page whose counts and order agree.
    """
    if len(body) > MAX_PAGE_BYTES:
        raise MalformedPageError(f"the answer has {len(body):,} bytes, more than any listing page")
    if len(body) > _USUAL_BYTES:
        check_markup(body)
    quick = _cut_out(body)
    if not quick:
        check_markup(body)
        # One at a time, however many are being listed: for its memory, and no slower, since parsing
        # holds the interpreter's lock anyway.
        with _SLOWLY:
            return _read(body, None)
    return _read(body, quick)


_Parts = tuple[bytes, list[bytes], Names, bool, npt.NDArray[np.uint64] | None]


def _read(body: bytes, quick: _Parts | None) -> Page:
    rest, entries, folders, coded, etags = quick or (body, [], Names([]), True, None)
    if b"<!DOCTYPE" in rest or b"<!ENTITY" in rest or b"\x00" in rest:
        raise MalformedPageError("the answer declares a document type, which S3 never does")
    try:
        root = ET.fromstring(rest)  # noqa: S314 - no DTD can be in it, see above
    except (ET.ParseError, ValueError, LookupError) as error:
        raise MalformedPageError(f"the answer is cut off or no XML ({error})") from None
    ns = _NS if root.tag.startswith("{") else ""
    if root.tag != f"{ns}ListBucketResult":
        raise MalformedPageError(
            f"the answer is a <{root.tag.rpartition('}')[2][:40]}>, no listing"
        )
    if quick and len(root.findall(f"{ns}{_MARK}")) != 1:
        # The entries stood in a comment or an inner element.
        raise MalformedPageError("the entries are not directly in the listing")
    if not quick:
        for c in root.findall(f"{ns}Contents"):
            fields = (_text(c, ns, tag) or "" for tag in ("Key", "LastModified", "ETag", "Size"))
            entries.extend(field.encode() for field in fields)
        found = root.findall(f"{ns}CommonPrefixes")
        folders = Names.of([_text(p, ns, "Prefix") or "" for p in found])
    keys, times, sizes = Names(entries[0::4]), entries[1::4], entries[3::4]
    if etags is None:
        etags = md5s(entries[2::4])
    if not (quick and _are_usual(times)):
        _check_texts(times, sizes)
    if coded and _text(root, ns, "EncodingType") == "url":
        # Hardly any symbol needs it, and unquoting 1,000 names takes 1 ms.
        keys, folders = (Names.of(list(map(unquote_plus, names))) for names in (keys, folders))
    _check_order(keys)
    if not folders.ending:  # siblings are in the order of their files
        _check_order(folders)
    count = _text(root, ns, "KeyCount")
    if count is not None and count.strip() != str(len(keys) + len(folders)):
        raise MalformedPageError(
            f"KeyCount is {count[:20]} but {len(keys) + len(folders)} entries are there"
        )
    return Page(keys, _numbers(sizes), instants(times), etags, folders, _next_token(root, ns))


def check_markup(body: bytes) -> None:
    """See that parsing it costs a small multiple of its size.

    Raises:
        MalformedPageError: it would not.
    """
    if body.count(b"<") > MAX_MARKUP or body.count(b"=") > MAX_MARKUP:
        raise MalformedPageError("the answer has more elements or attributes than a listing page")
    if len(_NAMESPACE_AT.findall(body)) != len(_NAMESPACE.findall(body)):
        raise MalformedPageError("the answer has a namespace longer than 100 characters")


def _text(parent: ET.Element, ns: str, tag: str) -> str | None:
    """Text of the one child of that name; of two, either could be meant, so neither is taken."""
    children = parent.findall(f"{ns}{tag}")
    if len(children) > 1 or any(len(child) for child in children):
        raise MalformedPageError(f"<{tag}> stands there twice or has elements in it")
    return children[0].text or "" if children else None


def _next_token(root: ET.Element, ns: str) -> str | None:
    truncated = _text(root, ns, "IsTruncated")
    token = _text(root, ns, "NextContinuationToken")
    if truncated == "false":
        return None
    if truncated != "true":
        # Taking a page without IsTruncated for the last one is how earlier tools lost files.
        raise MalformedPageError(f"IsTruncated is {str(truncated)[:20]!r}, neither true nor false")
    if not token:
        raise MalformedPageError("the answer is truncated but names no continuation token")
    return token


def _cut_out(body: bytes) -> _Parts | None:
    """Page without its entries, (key, time, ETag, size) in turns, folders, coded names?, MD5s.

    None when the page is spelt otherwise.
    """
    start, end = body.find(b"<Contents>"), body.rfind(b"</Contents>") + len(b"</Contents>")
    if start < 0 or end < start or not body.isascii():
        return None
    # Splitting gives what is between the matches too, and there must be nothing.
    entries = _CONTENTS.split(body[start:end])
    if any(entries[::5]):
        return None
    del entries[::5]
    keys = entries[0::4]
    names, folders, last = b"".join(keys), Names([]), end
    if body.startswith(_FOLDER_START, end):
        between = _FOLDER_END + _FOLDER_START
        siblings = _FOLDER_START + (_SIBLING + between).join(keys) + _SIBLING + _FOLDER_END
        last = end + len(siblings)
        if (
            len(set(map(len, keys))) == 1
            and body.startswith(siblings, end)
            and not body.startswith(_FOLDER_START, last)
        ):
            folders = Names(keys, _SIBLING)
        else:
            last = body.rfind(_FOLDER_END) + len(_FOLDER_END)
            folders = Names(body[end + len(_FOLDER_START) : last - len(_FOLDER_END)].split(between))
            names += folders.joined()
    rest = b"%b<%b/>%b" % (body[:start], _MARK.encode(), body[last:])
    # No entry may be left over, and no name may need the parser.
    if last < end or b"<Co" in rest.replace(b"<ContinuationToken", b""):
        return None
    if len(names.translate(None, _NOT_PLAIN)) != len(names):
        return None
    etags = md5s(entries[2::4])
    if not (etags[:, 0] | etags[:, 1]).all():
        # What is not an MD5 must not be one once the parser has read its entities.
        odd = b"".join(tag or b"" for tag in entries[2::4])
        if odd.translate(None, _OF_ETAGS) or odd.count(b"&") != sum(
            map(odd.count, (b"&quot;", b"&#34;"))
        ):
            return None
    return rest, entries, folders, b"%" in names or b"+" in names, etags


def _are_usual(times: list[bytes]) -> bool:
    """Whether all are written as S3 does, compared all at once; each has 24 characters."""
    return b"".join(times).translate(_DIGITS) == b"0000-00-00T00:00:00.000Z" * len(times)


def md5s(tags: Sequence[bytes | None]) -> npt.NDArray[np.uint64]:
    """ETags, in quotes or not, as `Page.etags`; None is one that is missing."""
    usual = [tag if tag and len(tag) == len(_NO_MD5) else _usual(tag) for tag in tags]
    text = b"".join(usual)
    # Compared all at once; what has this length and yet is not an MD5 is read one by one.
    if text.translate(_HEX) != _NO_MD5 * len(usual):
        text = b"".join(map(_usual, tags))
    digits = np.frombuffer(text, "uint8").reshape(-1, len(_NO_MD5))[:, 6:-6].tobytes()
    return np.frombuffer(unhexlify(digits), ">u8").astype("uint64").reshape(-1, 2)


def _usual(tag: bytes | None) -> bytes:
    """An ETag as S3 writes an MD5; zeros for what is not one."""
    md5 = _QUOTED_MD5.fullmatch(tag or b"")
    return b"&quot;%b&quot;" % md5[1] if md5 else _NO_MD5


def _check_texts(times: list[bytes], sizes: list[bytes]) -> None:
    for time in times:
        if not _LAST_MODIFIED.fullmatch(time):
            raise MalformedPageError(f"LastModified {_shown(time)} is not a UTC time")
    for size in sizes:
        if not size.isdigit() or len(size) > 15:
            raise MalformedPageError(f"Size {_shown(size)} is not a number of bytes")


def _shown(raw: bytes) -> str:
    return repr(raw[:40].decode(errors="replace"))


def _numbers(texts: list[bytes]) -> npt.NDArray[np.int64]:
    """Digits, 15 at most, to numbers: a quarter of the time of int() one by one."""
    if not texts:
        return np.empty(0, "int64")
    return np.fromstring(b" ".join(texts).decode(), dtype="int64", sep=" ")


def instants(times: list[bytes]) -> npt.NDArray[np.datetime64]:
    """ISO times in UTC that end with Z to datetime64[us].

    Raises:
        MalformedPageError: for what is not a date (month 13) or cannot be one (the year 0).
    """
    if not times:
        return np.empty(0, "datetime64[us]")
    try:
        if set(map(len, times)) == {24}:  # S3's own; a third of the time of reading them as str
            texts = np.frombuffer(b"".join(times), "S24").astype("S23")  # without the Z
            found = texts.astype("datetime64[ms]").astype("datetime64[us]")
        else:
            found = np.array([time[:-1].decode() for time in times], dtype="datetime64[us]")
    except ValueError as error:
        raise MalformedPageError(f"an impossible LastModified: {error}") from None
    odd = np.flatnonzero((found < EARLIEST) | (found >= LATEST))
    if odd.size:
        raise MalformedPageError(f"an impossible LastModified: {times[odd[0]].decode()}")
    return found


def _check_order(names: Names) -> None:
    if not names.is_sorted():
        before, after = next(p for p in itertools.pairwise(names) if p[0] >= p[1])
        raise MalformedPageError(f"{after[:120]!r} comes after {before[:120]!r}")
    if names and not names[0]:
        raise MalformedPageError("an entry has no name")
