"""botocore's Stubber on our client, where the exact request and an answer of a few lines matter."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from botocore.stub import Stubber

from availability_pipeline.archive._pages import MalformedPageError, Names, Page, instants, md5s


@contextmanager
def stubbed(client: Any) -> Iterator[Stubber]:
    """A stubber whose answers are pages, as the client makes them of what comes over HTTP."""
    client.meta.events.register("after-call.s3.ListObjectsV2", _add_page)
    with Stubber(client) as stubber:
        yield stubber


def _add_page(parsed: dict[str, Any], **_: object) -> None:
    if "Error" in parsed:
        return
    contents = parsed.get("Contents", [])
    if "IsTruncated" not in parsed:
        raise MalformedPageError("IsTruncated is missing")
    times = [c["LastModified"].astimezone(dt.UTC) for c in contents]
    parsed["Page"] = Page(
        keys=Names.of([c["Key"] for c in contents]),
        sizes=np.array([c["Size"] for c in contents], "int64"),
        last_modified=instants([f"{time:%Y-%m-%dT%H:%M:%S.%fZ}".encode() for time in times]),
        etags=md5s([c.get("ETag", "").encode() for c in contents]),
        folders=Names.of([p["Prefix"] for p in parsed.get("CommonPrefixes", [])]),
        next_token=parsed["NextContinuationToken"] if parsed["IsTruncated"] else None,
    )
