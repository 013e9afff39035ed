"""A server that keeps a connection alive without ever answering: each request ends all the same."""

import itertools
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import pytest

from availability_pipeline import settings
from availability_pipeline.archive import deadlines
from availability_pipeline.archive._client import make_client
from availability_pipeline.archive.listing import DiscoveryError, S3Archive
from availability_pipeline.quality import exchange
from availability_pipeline_tests.support.helpers import PATIENCE

HEAD = b"HTTP/1.1 200 OK\r\n"
SECONDS = 90
"""For so long the server drips: far beyond any deadline here, and yet no test hangs for ever."""

DRIPS: dict[str, tuple[str, bytes, bytes]] = {
    "a status line": ("http", b"HTTP/1.1 200 ", b"O"),
    "headers": ("http", HEAD, b"X-A: b\r\n"),
    "one header": ("http", HEAD + b"X-A: ", b"b"),
    "100 Continue": ("http", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body with a length": ("http", HEAD + b"Content-Length: 99999\r\n\r\n", b" "),
    "a body without a length": ("http", HEAD + b"\r\n", b" "),
    "the size of a chunk": ("http", HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers": ("http", HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\n", b"A: b\r\n"),
    "an error's body": ("http", b"HTTP/1.1 503 X\r\nContent-Length: 99999\r\n\r\n", b" "),
    # A handshake record of 16 kB that never becomes whole.
    "a TLS handshake": ("https", b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\x00"),
}
by_drip = pytest.mark.parametrize("drip", DRIPS)


@contextmanager
def dripping(first: bytes, rest: bytes) -> Iterator[tuple[int, list[float]]]:
    """A server on loopback; yields its port, and how long each client stayed."""
    ended, stayed = threading.Event(), []

    def drip(connection: socket.socket) -> None:
        begun = time.monotonic()
        with connection, suppress(OSError):
            connection.recv(65536)
            parts: Iterable[bytes] = itertools.chain([first], itertools.repeat(rest))
            for part in parts:
                connection.sendall(part)
                if ended.wait(0.02) or time.monotonic() > begun + SECONDS:
                    break
        stayed.append(time.monotonic() - begun)

    def serve() -> None:
        with suppress(OSError):
            while True:
                thread = threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True)
                thread.start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        yield listener.getsockname()[1], stayed
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        server.join()


@by_drip
def test_a_listing_ends_though_the_server_drips(drip: str) -> None:
    scheme, first, rest = DRIPS[drip]
    with dripping(first, rest) as (port, stayed):
        client = make_client(
            settings.load(s3_endpoint=f"{scheme}://127.0.0.1:{port}", s3_timeout_seconds=0.2)
        )
        with pytest.raises(DiscoveryError, match="ReadTimeout"):
            S3Archive(client, "data.binance.vision").folders()
        client.close()
    assert len(stayed) <= 1, "no second attempt"


@by_drip
def test_the_cross_check_ends_though_the_exchange_drips(drip: str) -> None:
    scheme, first, rest = DRIPS[drip]
    said = "no answer within 1 s|answered HTTP 503"
    with dripping(first, rest) as (port, _), pytest.raises(exchange.ExchangeError, match=said):
        exchange.trading_perpetuals(f"{scheme}://127.0.0.1:{port}/", 1)


def test_a_request_that_ends_in_time_leaves_nothing_behind() -> None:
    before = len(deadlines._requests)
    left, right = socket.socketpair()
    with left, right:
        with deadlines.within(60) as request:
            request.watch(left)
            assert len(deadlines._requests) == before + 1
        assert len(deadlines._requests) == before
        assert request.sockets[0].fileno() == -1
        right.sendall(b"x")
        assert left.recv(1) == b"x", "the connection itself stays open, for the next request"


def test_a_shorter_deadline_is_kept_beside_a_longer_one() -> None:
    """The thread that watches may be asleep until the longer one."""
    left, right = socket.socketpair()
    with left, right, deadlines.within(3600):
        left.settimeout(PATIENCE)
        with deadlines.within(0.1) as request:
            request.watch(left)
            assert left.recv(1) == b"", "it was shut"
            assert request.late


def test_a_connection_made_after_the_deadline_is_shut_at_once() -> None:
    """As of a second address, after the first one took all the time."""
    left, right = socket.socketpair()
    with left, right, deadlines.within(0) as request:
        left.settimeout(PATIENCE)
        while not request.late:
            time.sleep(0.01)
        request.watch(left)
        assert left.recv(1) == b""
