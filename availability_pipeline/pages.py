"""One page of an S3 listing: bytes in, a checked `Page` out.

Belongs here: reading ListBucketResult XML fast and distrustfully. Does not belong here: asking
for pages (`listing`). The bytes come from the network and are treated as hostile.

Why not botocore's own parser: for the full history (737,000 files in 2,021 pages, one core) it
needs 337 s, most of it for turning every LastModified into a datetime through dateutil. Reading
the page here, in a `before-parse` hook, needs under 1 s and keeps boto3's client, endpoint, retry
and error handling.

Two readers, one meaning: entries in S3's own spelling are cut out by a pattern that must cover
them to the last byte, and only what is left goes through the XML parser; any other spelling goes
through it whole, which is several times slower.
"""

import itertools
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET  # documents with a DTD are refused before parsing

MAX_PAGE_BYTES = 8 * 2**20
"""A full page of 1,000 entries is about 400 kB; more than 8 MiB is no listing."""

_MARK = "EntriesWereHere"
_NS = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_LAST_MODIFIED = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z"
)
# S3's own spelling of entries. What the names and times hold is looked at afterwards, all at once,
# and nothing is matched twice (`++`): 0.15 ms a page of 370 entries against 0.24 with the times'
# own pattern in it. Any other spelling (a time of another length) is the parser's.
_CONTENTS = re.compile(
    "<Contents><Key>([^<]++)</Key><LastModified>(.{24})</LastModified>"
    "(?:<ETag>[^<]*+</ETag>)?+(?:<ChecksumAlgorithm>[^<]*+</ChecksumAlgorithm>)?+"
    "(?:<ChecksumType>[^<]*+</ChecksumType>)?+"
    "<Size>([0-9]{1,15}+)</Size>(?:<StorageClass>[^<]*+</StorageClass>)?+</Contents>"
)
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_NOT_PLAIN = bytes(range(32)) + b"\x7f<>&"
_SIBLING = ".CHECKSUM"
_FOLDER_START, _FOLDER_END = "<CommonPrefixes><Prefix>", "</Prefix></CommonPrefixes>"


class MalformedPageError(ValueError):
    """An answer is no complete, consistent S3 listing page; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: parallel lists of keys, sizes (bytes) and ISO-8601 UTC times, and what follows."""

    keys: list[str]
    sizes: list[int]
    last_modified: list[str]
    folders: Sequence[str]
    next_token: str | None


class _Siblings(Sequence[str]):
    """Names with one more ending, each made when it is asked for.

    A page of 500 files has 500 folded siblings, of which only the first and the last are looked
    at: making them all took a fifth of the page's time.
    """

    def __init__(self, names: list[str], ending: str) -> None:
        self._names, self._ending = names, ending

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [name + self._ending for name in self._names[index]]
        return self._names[index] + self._ending

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


def parse_page(body: bytes) -> Page:
    """Read one ListObjectsV2 answer.

    Raises:
        MalformedPageError: for anything but a complete page whose counts and order agree.
    """
    if len(body) > MAX_PAGE_BYTES:
        raise MalformedPageError(f"the answer has {len(body):,} bytes, more than any listing page")
    folders: Sequence[str]
    quick = _cut_out(body)
    rest, entries, folders, coded = quick or (body, [], [], True)
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
            entries.extend(_text(c, ns, tag) or "" for tag in ("Key", "LastModified", "Size"))
        folders = [_text(p, ns, "Prefix") or "" for p in root.findall(f"{ns}CommonPrefixes")]
    keys, times, sizes = entries[0::3], entries[1::3], entries[2::3]
    if not (quick and _are_usual(times)):
        _check_texts(times, sizes)
    if coded and _text(root, ns, "EncodingType") == "url":
        # Hardly any symbol needs it, and unquoting 1,000 names takes 1 ms.
        keys, folders = list(map(unquote_plus, keys)), list(map(unquote_plus, folders))
    _check_order(keys)
    if not isinstance(folders, _Siblings):  # those are in the order of the keys
        _check_order(folders)
    count = _text(root, ns, "KeyCount")
    if count is not None and count.strip() != str(len(keys) + len(folders)):
        raise MalformedPageError(
            f"KeyCount is {count[:20]} but {len(keys) + len(folders)} entries are there"
        )
    return Page(keys, list(map(int, sizes)), times, folders, _next_token(root, ns))


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


def _cut_out(body: bytes) -> tuple[bytes, list[str], Sequence[str], bool] | None:
    """Page without its entries, (key, time, size) in turns, folders, whether a name may be coded.

    None when the page is spelt otherwise.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    start, end = text.find("<Contents>"), text.rfind("</Contents>") + len("</Contents>")
    if start < 0 or end < start:
        return None
    # Splitting gives what is between the matches too, and there must be nothing.
    entries = _CONTENTS.split(text[start:end])
    if any(entries[::4]):
        return None
    del entries[::4]
    keys = entries[0::3]
    names = "".join(keys)
    folders: Sequence[str] = []
    last = end
    if text.startswith(_FOLDER_START, end):
        last = text.rfind(_FOLDER_END) + len(_FOLDER_END)
        inner = text[end + len(_FOLDER_START) : last - len(_FOLDER_END)]
        between = _FOLDER_END + _FOLDER_START
        # Names of one length keep their order with the ending.
        siblings = f"{(_SIBLING + between).join(keys)}{_SIBLING}"
        if inner == siblings and len(set(map(len, keys))) == 1:
            folders = _Siblings(keys, _SIBLING)
        else:
            folders = inner.split(between)
            names += "".join(folders)
    rest = f"{text[:start]}<{_MARK}/>{text[last:]}"
    # No entry may be left over, and no name may need the parser.
    if last < end or "<Co" in rest.replace("<ContinuationToken", ""):
        return None
    if not _is_plain(names):
        return None
    return rest.encode(), entries, folders, "%" in names or "+" in names


def _is_plain(names: str) -> bool:
    """Whether no name needs the XML parser: printable ASCII without markup or references."""
    # isprintable() looks every character up, which showed in a profile.
    return names.isascii() and len(names.encode().translate(None, _NOT_PLAIN)) == len(names)


def _are_usual(times: list[str]) -> bool:
    """Whether all are written as S3 does, looked at all at once; each has 24 characters."""
    shape = "".join(times).encode().translate(_DIGITS)
    return shape == b"0000-00-00T00:00:00.000Z" * len(times)


def _check_texts(times: list[str], sizes: list[str]) -> None:
    for time in times:
        if not _LAST_MODIFIED.fullmatch(time):
            raise MalformedPageError(f"LastModified {time[:40]!r} is no UTC time")
    for size in sizes:
        if not size.isascii() or not size.isdigit() or len(size) > 15:
            raise MalformedPageError(f"Size {size[:40]!r} is no number of bytes")


def _check_order(names: Sequence[str]) -> None:
    # S3 orders by UTF-8 bytes, which is the order of code points, which is Python's for str.
    if not all(map(operator.lt, names, itertools.islice(names, 1, None))):
        before, after = next(p for p in itertools.pairwise(names) if p[0] >= p[1])
        raise MalformedPageError(f"{after[:120]!r} comes after {before[:120]!r}")
    if names and not names[0]:
        raise MalformedPageError("an entry has no name")
