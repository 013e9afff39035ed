"""An archive that changes as time goes by, behind the real client: files come, move and go.

What happened in it is a list of events, each with its instant; `advance` lets time pass. Each
`LivingArchive` is one dataset; `listed` makes the archive of several. They answer ListObjectsV2 in
S3's own spelling where the client would send the request (botocore's `before-call`), so that
client, paging, parsing and errors are the real ones and only HTTP is left out. Nothing here knows
what the record makes of it: the simulation compares the two.
"""

import datetime as dt
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Any, Literal
from urllib.parse import quote, unquote

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError

from availability_pipeline import settings
from availability_pipeline.archive._client import make_client
from availability_pipeline.archive._pages import parse_page
from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.archive.listing import S3Archive

Fault = Literal["503 on a page", "connection lost", "page cut off", "nothing", "a tenth"]


@dataclass(frozen=True, slots=True)
class Event:
    """At `at`, a file was put (`size` is its bytes) or taken away (`size` is None)."""

    at: dt.datetime
    symbol: str
    date: dt.date
    size: int | None
    content: int = 0
    """Files of the same size and content have the same ETag."""


@dataclass(frozen=True, slots=True)
class File:
    """What a listing says of a file."""

    size: int
    modified: dt.datetime
    content: int = 0

    @property
    def etag(self) -> str:
        """The MD5 that a listing has."""
        return f"{self.content:016x}{self.size:016x}"


class LivingArchive:
    """The files of a dataset at a moment, and the answers to those who list them.

    Args:
        events: all that ever happens, in any order.
        page: most entries a page, below S3's 1,000 so that more listings have several pages.
        dataset: which.
    """

    def __init__(
        self, events: Sequence[Event], page: int = 400, dataset: Dataset = UM_KLINES_1M
    ) -> None:
        self.dataset = dataset
        self._events, self._next, self._page = sorted(events, key=lambda event: event.at), 0, page
        self.files: dict[str, dict[dt.date, File]] = {}
        self.now = self._events[0].at
        self.fault: Fault | None = None
        self.requests = 0
        self._strikes_in = 0
        self._keys: dict[str, list[str]] = {}

    def advance(self, now: dt.datetime) -> list[Event]:
        """Let time pass until `now`; what happened meanwhile."""
        first = self._next
        while self._next < len(self._events) and self._events[self._next].at <= now:
            self.happen(self._events[self._next])
            self._next += 1
        self.now = now
        return self._events[first : self._next]

    def happen(self, event: Event) -> None:
        """Let it happen now, whatever its time is."""
        folder = self.files.setdefault(event.symbol, {})
        if event.size is None:
            del folder[event.date]
            if not folder:  # S3 has no empty folders
                del self.files[event.symbol]
        else:
            folder[event.date] = File(event.size, event.at, event.content)
        self._keys.pop(event.symbol, None)

    def strike(self, fault: Fault | None, after: int = 0) -> None:
        """Let one of the next answers fail, after so many good ones; None: all is well again.

        "nothing" and "a tenth" hold for every listing of the folders until then.
        """
        self.fault, self._strikes_in = fault, after

    def respond(self, params: dict[str, Any]) -> tuple[AWSResponse, dict[str, Any]]:
        """The answer to a request, as botocore's endpoint would hand it to the client."""
        self.requests += 1
        status, error, body = 200, {}, self.page(params["query_string"])
        self._strikes_in -= 1
        if self._strikes_in == -1:
            if self.fault == "503 on a page":
                status, error = 503, {"Code": "SlowDown", "Message": "Reduce your rate"}
            elif self.fault == "page cut off":
                body = body[: len(body) * 2 // 3]
            elif self.fault == "connection lost":
                raise ConnectionClosedError(endpoint_url=params["url"])
        headers = {"date": format_datetime(self.now, usegmt=True)}
        answer: dict[str, Any] = {
            "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}
        }
        answer |= {"Error": error} if error else {"Page": parse_page(body)}
        return AWSResponse(params["url"], status, headers, None), answer

    def page(self, query: dict[str, str]) -> bytes:
        """The XML of a ListObjectsV2 answer."""
        prefix = query["prefix"]
        token = unquote(query.get("continuation-token", "")).removeprefix("after ")
        most = min(int(query.get("max-keys", "1000")), self._page)
        names = self._folders() if prefix == self.dataset.prefix else self._names(prefix)
        first = bisect_right(names, max(query.get("start-after", ""), token))
        chosen = names[first : first + most]
        more = len(names) > first + most
        # Contents come before the common prefixes.
        keys = "".join(self._contents(name) for name in chosen if name.endswith(".zip"))
        folded = "".join(
            f"<CommonPrefixes><Prefix>{quote(name)}</Prefix></CommonPrefixes>"
            for name in chosen
            if not name.endswith(".zip")
        )
        follows = quote(f"after {chosen[-1]}") if more else ""
        following = f"<NextContinuationToken>{follows}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>data.binance.vision</Name><Prefix>{quote(prefix)}</Prefix>{following}"
            f"<KeyCount>{len(chosen)}</KeyCount><MaxKeys>{most}</MaxKeys>"
            "<EncodingType>url</EncodingType>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{keys}{folded}</ListBucketResult>"
        ).encode()

    def _folders(self) -> list[str]:
        names = sorted(f"{self.dataset.prefix}{symbol}/" for symbol in self.files)
        if self.fault == "nothing":
            return []
        return names[::10] if self.fault == "a tenth" else names

    def _names(self, prefix: str) -> list[str]:
        """A symbol's keys in order, each followed by its CHECKSUM, folded."""
        symbol = prefix.removeprefix(self.dataset.prefix).partition("/")[0]
        if symbol not in self._keys:
            keys = (self.dataset.key(symbol, date) for date in sorted(self.files.get(symbol, ())))
            self._keys[symbol] = [name for key in keys for name in (key, f"{key}.CHECKSUM")]
        return self._keys[symbol]

    def _contents(self, key: str) -> str:
        named = self.dataset.parse_key(key)
        assert named is not None
        file = self.files[named.symbol][named.period]
        return (
            f"<Contents><Key>{quote(key)}</Key>"
            f"<LastModified>{file.modified.isoformat()[:19]}.000Z</LastModified>"
            f"<ETag>&quot;{file.etag}&quot;</ETag><Size>{file.size}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )


def listed(living: Sequence[LivingArchive]) -> S3Archive:
    """The real listing on these datasets, the network left out."""

    def respond(params: dict[str, Any], **_: object) -> tuple[AWSResponse, dict[str, Any]]:
        prefix = params["query_string"]["prefix"]
        asked = (one for one in living if prefix.startswith(one.dataset.prefix))
        return next(asked, living[0]).respond(params)

    client = make_client(settings.Settings(s3_endpoint="http://archive.invalid"))
    client.meta.events.register("before-call.s3.ListObjectsV2", respond)
    # One at a time: the same faults hit the same pages in each run.
    return S3Archive(client, "data.binance.vision", concurrency=1)
