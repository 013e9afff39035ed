"""A local S3 server with files in it, for tests from end to end."""

import datetime as dt
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer

from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline_tests.support.helpers import PATIENCE

BUCKET = "data.binance.vision"


class LocalArchive:
    """moto's S3 server; `put` and `remove` change what is in the archive."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1",
            aws_access_key_id="x", aws_secret_access_key="x",
        )  # fmt: skip
        self.client.create_bucket(Bucket=BUCKET)

    def put(
        self,
        symbol: str,
        dates: Iterable[dt.date],
        body: bytes = b"zip",
        dataset: Dataset = UM_KLINES_1M,
    ) -> None:
        for date in dates:
            key = dataset.key(symbol, date)
            self.client.put_object(Bucket=BUCKET, Key=key, Body=body)
            self.client.put_object(Bucket=BUCKET, Key=f"{key}.CHECKSUM", Body=b"sum")

    def remove(self, symbol: str, dates: Iterable[dt.date]) -> None:
        for date in dates:
            self.client.delete_object(Bucket=BUCKET, Key=UM_KLINES_1M.key(symbol, date))


def own_bucket(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> str:
    """A new bucket that boto3 finds with the environment alone; its name."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    bucket = f"own-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return bucket


@contextmanager
def local_archive() -> Iterator[LocalArchive]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        # moto keeps its buckets for the whole process: begin with none.
        reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset, timeout=PATIENCE).close()
        archive = LocalArchive(f"http://{host}:{port}")
        archive.client.list_buckets()
        yield archive
        archive.client.close()
    finally:
        server.stop()
