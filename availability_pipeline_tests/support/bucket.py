"""A bucket that is a list of keys, behind the real client: any dataset, any junk.

It answers as S3 documents where the client would send (botocore's `before-call`), so that client,
paging, parsing and errors are the real ones and only HTTP is left out.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

from botocore.awsrequest import AWSResponse

from availability_pipeline import settings
from availability_pipeline.archive._client import make_client
from availability_pipeline.archive._pages import parse_page
from availability_pipeline.archive.listing import S3Archive

_LAST = "\U0010ffff"


def md5_of(key: str) -> str:
    return hashlib.md5(key.encode()).hexdigest()


class KeyBucket:
    """The keys, each with a CHECKSUM sibling if it is a zip; what was asked is in `asked`.

    `fails` are prefixes whose listing is refused.
    """

    def __init__(self, keys: Iterable[str], page: int = 1000) -> None:
        siblings = ((key, f"{key}.CHECKSUM") if key.endswith(".zip") else (key,) for key in keys)
        self.keys = sorted({name for names in siblings for name in names}, key=str.encode)
        self.page = page
        self.asked: list[dict[str, str]] = []
        self.fails: set[str] = set()

    def archive(self, concurrency: int = 2) -> S3Archive:
        client = make_client(settings.Settings(s3_endpoint="http://archive.invalid"))
        client.meta.events.register("before-call.s3.ListObjectsV2", self._respond)
        return S3Archive(client, "data.binance.vision", concurrency=concurrency)

    def folders_asked(self) -> list[str]:
        return [query["prefix"] for query in self.asked if query.get("delimiter") == "/"]

    def _respond(self, params: dict[str, Any], **_: object) -> tuple[AWSResponse, dict[str, Any]]:
        query = dict(params["query_string"])
        self.asked.append(query)
        status, answer = 200, {"Page": parse_page(self.answer(query))}
        if query["prefix"] in self.fails:
            status, answer = 503, {"Error": {"Code": "SlowDown", "Message": "Reduce your rate"}}
        answer["ResponseMetadata"] = {"HTTPStatusCode": status, "HTTPHeaders": {}}
        return AWSResponse(params["url"], status, {}, None), answer

    def answer(self, query: dict[str, str]) -> bytes:
        prefix, delimiter = query["prefix"], query.get("delimiter", "")
        most = min(int(query.get("max-keys", "1000")), self.page)
        after = max(
            query.get("start-after", ""),
            unquote(query.get("continuation-token", "")).removeprefix("after "),
            key=str.encode,
        )
        keys: list[str] = []
        folders: list[str] = []
        last, more = "", False
        for key in self.keys[bisect_right(self.keys, after.encode(), key=str.encode) :]:
            if not key.startswith(prefix):
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            name = key if cut < 0 else key[: cut + len(delimiter)]
            if folders[-1:] == [name] or (cut >= 0 and after.startswith(name)):
                last = name + _LAST
                continue
            if len(keys) + len(folders) == most:
                more = True
                break
            (keys if cut < 0 else folders).append(name)
            last = name if cut < 0 else name + _LAST
        token = f"<NextContinuationToken>{quote('after ' + last)}</NextContinuationToken>"
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Prefix>{quote(prefix)}</Prefix>{token if more else ''}"
            f"<KeyCount>{len(keys) + len(folders)}</KeyCount><EncodingType>url</EncodingType>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>"
            + "".join(map(self._contents, keys))
            + "".join(
                f"<CommonPrefixes><Prefix>{quote(name)}</Prefix></CommonPrefixes>"
                for name in folders
            )
            + "</ListBucketResult>"
        ).encode()

    @staticmethod
    def _contents(key: str) -> str:
        return (
            f"<Contents><Key>{quote(key)}</Key>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{md5_of(key)}&quot;</ETag><Size>{len(key)}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )
