"""Fetch files and their CHECKSUMs from the archive's download host: unsigned, bounded, from there.

urllib3, which botocore stands on, in threads. Measured against boto3's `get_object`, obstore and
aiohttp with `python -m benchmarks.mirror --clients`; docs/mirror.md has the numbers.
"""

import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from availability_pipeline import PROGRAM, settings
from availability_pipeline.archive import deadlines
from availability_pipeline.masking import printable
from availability_pipeline.mirror.sums import MD5, Sums

CHUNK_BYTES = 2**18

MAX_CHECKSUM_BYTES = 1024
"""A CHECKSUM is `<64 hex>  <name>`: 64 and a name of some 40 bytes."""

TIMEOUTS = 10
"""Headers and the first MiB must be there within so many read timeouts."""

SLOWEST = 50_000
"""Bytes a second below which a larger body counts as stalled, whatever it drips."""

_CHECKSUM = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(\S.*?)\s*")


class FetchError(Exception):
    """A file was not fetched; the text says what happened, in a few words.

    Attributes:
        again: whether another try may help.
        kept: the name under which a mirror keeps what came; empty where it keeps nothing.
    """

    kept = ""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again


class MissingError(FetchError):
    """The archive lacks the file."""


class MismatchError(FetchError):
    """What came is not what the record or its CHECKSUM says."""


class Fetcher:
    """The download host.

    Args:
        base_url: what a key is put after, without a slash at its end.
        timeout_seconds: to wait for a connection or for more of an answer.
    """

    def __init__(self, base_url: str, timeout_seconds: float) -> None:
        url = urlsplit(base_url)
        self._host, self._port = url.hostname or base_url, url.port
        self._timeout, self._patience = timeout_seconds, TIMEOUTS * timeout_seconds
        self._secure = url.scheme == "https"
        proxy = settings.proxy_for(base_url)
        self._proxy = urlsplit(proxy) if proxy else None
        # Through a proxy a plain request names the whole address.
        whole = self._proxy is not None and not self._secure
        self._prefix = base_url.rstrip("/") if whole else url.path.rstrip("/")
        self._headers = {"User-Agent": PROGRAM, "Accept-Encoding": "identity"}
        self._context = ssl.create_default_context() if self._secure else None
        self._own = threading.local()
        self._lines: list[HTTPConnection] = []

    def close(self) -> None:
        """Let go of the connections."""
        for line in self._lines:
            line.close()

    def fetch(
        self, key: str, part: Path, size: int, etag: str | None, *, checksum: bool
    ) -> tuple[Sums, str | None]:
        """Write a file's body to `part`, from where an earlier try left off.

        Its CHECKSUM is asked for first, on a connection of its own, and read afterwards: one after
        the other a file takes two round trips. More threads for them would wait for the
        interpreter's lock, and cost as much time as they save.

        Args:
            key: which.
            part: where to; what is there is the beginning of the same version.
            size: bytes that the record says; a longer body is cut off there.
            etag: of the version that the record says; None where it is not known.
            checksum: whether to ask for the CHECKSUM.

        Returns:
            What was written, and the SHA-256 that the CHECKSUM says; None where there is none.

        Raises:
            MissingError: the archive lacks the file.
            MismatchError: it is another version, or longer; or the CHECKSUM is none.
            FetchError: refused, unreachable, cut off or too slow.
            OSError: `part` cannot be written.
        """
        with self._within(self._patience + size / SLOWEST):
            beside = self._send(1, f"{key}.CHECKSUM") if checksum else None
            sums = self._body(key, part, size, etag)
            return sums, self._read_checksum(beside, key) if beside else None

    def checksum(self, key: str) -> str | None:
        """The SHA-256 that the file's CHECKSUM says, in hex; None where it has none.

        Raises:
            MismatchError: it is not `<64 hex>  <name>`, or of another name.
            FetchError: refused, unreachable, cut off or too slow.
        """
        with self._within(self._patience):
            return self._read_checksum(self._send(1, f"{key}.CHECKSUM"), key)

    @contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """A deadline over all requests inside; what fails leaves no answer half read."""
        try:
            with deadlines.within(seconds) as deadline:
                try:
                    yield
                except (HTTPError, HTTPException, _Network) as error:
                    if deadline.late:
                        raise FetchError("too slow: its time was up") from None
                    cause = error.__cause__ if isinstance(error, _Network) else error
                    # urllib3's texts name pools and objects; the class says enough.
                    what = type(cause).__name__.removesuffix("Error") or "failed"
                    raise FetchError(f"no whole answer from {self._host} ({what})") from None
        except BaseException:
            for line in getattr(self._own, "lines", ()):
                line.close()
            raise

    def _line(self, n: int) -> HTTPConnection:
        """This thread's connection for bodies (0) or for CHECKSUMs (1)."""
        if not hasattr(self._own, "lines"):
            self._own.lines = [self._made(), self._made()]
            self._lines += self._own.lines
        line: HTTPConnection = self._own.lines[n]
        return line

    def _made(self) -> HTTPConnection:
        host, port = self._host, self._port
        if self._proxy:
            host, port = self._proxy.hostname or "", self._proxy.port
        kinds = HTTPSConnectionPool if self._secure else HTTPConnectionPool
        made: Any = deadlines.watched(kinds).ConnectionCls
        options: Any = {"ssl_context": self._context} if self._secure else {}
        line: HTTPConnection = made(host, port, timeout=self._timeout, **options)
        if self._proxy and self._secure:
            line.set_tunnel(self._host, self._port or 443)
        return line

    def _send(self, n: int, key: str, more: Mapping[str, str] | None = None) -> HTTPConnection:
        line = self._line(n)
        with _network():
            if line.sock is not None and not line.is_connected:  # the host let go of it
                line.close()
            line.request(
                "GET", f"{self._prefix}/{quote(key, safe='/')}",
                headers={**self._headers, **(more or {})}, preload_content=False,
                decode_content=False,
            )  # fmt: skip
        return line

    def _answer(self, line: HTTPConnection) -> urllib3.BaseHTTPResponse:
        with _network():
            answer = line.getresponse()
        if answer.status in (200, 206):
            return answer
        if answer.status in (404, 410):
            with _network():
                answer.read(2**16)
            if answer.length_remaining:
                line.close()
            raise MissingError(f"HTTP {answer.status}: it is not there (any more)", again=False)
        if 300 <= answer.status < 400:
            where = printable(str(answer.headers.get("Location")))[:120]
            raise FetchError(
                f"HTTP {answer.status}: {self._host} wants us elsewhere ({where}); if that is "
                "right, set AVAILABILITY_DOWNLOAD_URL to it",
                again=False,
            )
        raise FetchError(f"HTTP {answer.status}", again=answer.status not in (401, 403))

    def _body(self, key: str, part: Path, size: int, etag: str | None) -> Sums:
        with part.open("a+b") as file:
            sums = Sums()
            if file.tell():
                file.seek(0)
                while chunk := file.read(2**20):
                    sums.add(chunk)
                if sums.size == size and sums.md5.hexdigest() == etag:
                    return sums
            more = {}
            if 0 < sums.size < size and etag:
                more = {"Range": f"bytes={sums.size}-", "If-Range": f'"{etag}"'}
            answer = self._answer(self._send(0, key, more))
            if answer.status == 206:
                expected = f"bytes {sums.size}-{size - 1}/{size}"
                if answer.headers.get("Content-Range") != expected:
                    raise MismatchError("it has another size than the record says")
            elif sums.size:
                file.truncate(0)
                sums = Sums()
            given = (answer.headers.get("ETag") or "").strip('"')
            if etag and MD5.fullmatch(given) and given != etag:
                raise MismatchError(
                    "the archive has another version than the record; update the record"
                )
            while chunk := _read(answer, CHUNK_BYTES):
                sums.add(chunk)
                if sums.size > size:
                    raise MismatchError(f"it has more than the {size:,} bytes that the record says")
                file.write(chunk)
        return sums

    def _read_checksum(self, line: HTTPConnection, key: str) -> str | None:
        try:
            answer = self._answer(line)
        except MissingError:
            return None
        text = _read(answer, MAX_CHECKSUM_BYTES + 1)
        found = _CHECKSUM.fullmatch(text.decode("utf-8", "replace"))
        if _read(answer, 1) or found is None:
            raise MismatchError("its CHECKSUM is not a SHA-256 and a name")
        if found[2] != key.rpartition("/")[2]:
            raise MismatchError(f"its CHECKSUM is of {printable(found[2])[:80]}")
        return found[1].lower()


class _Network(Exception):  # noqa: N818 - it is never seen
    """An `OSError` of a connection, to tell it from one of the disk."""


@contextmanager
def _network() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _Network from error


def _read(answer: urllib3.BaseHTTPResponse, size: int) -> bytes:
    with _network():
        return answer.read(size)
