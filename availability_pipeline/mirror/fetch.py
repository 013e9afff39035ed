"""Fetch files and their CHECKSUMs from the archive's download host: unsigned, bounded, from there.

urllib3, which botocore stands on, in threads. Measured against boto3's `get_object`, obstore and
aiohttp with `python -m benchmarks.mirror --clients`; docs/mirror.md has the numbers.
"""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import urllib3
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
    """

    def __init__(self, reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again


class MissingError(FetchError):
    """The archive has no such file (any more)."""


class MismatchError(FetchError):
    """What came is not what the record or its CHECKSUM says."""


class Fetcher:
    """The download host.

    Args:
        base_url: what a key is put after, without a slash at its end.
        in_flight: how many connections are kept.
        timeout_seconds: to wait for a connection or for more of an answer.
    """

    def __init__(self, base_url: str, in_flight: int, timeout_seconds: float) -> None:
        url = urlsplit(base_url)
        self._host = url.hostname or base_url
        self._path = url.path.rstrip("/")
        self._patience = TIMEOUTS * timeout_seconds
        proxy = settings.proxy_for(base_url)
        options: dict[str, Any] = {
            "maxsize": 2 * in_flight,
            "timeout": urllib3.Timeout(connect=timeout_seconds, read=timeout_seconds),
            "retries": False,
        }
        manager = (
            urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        )
        manager.pool_classes_by_scheme = {
            scheme: deadlines.watched(pool)
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }
        self._manager = manager
        # One host is all there is: finding its pool anew for each of two requests a file took 0.1
        # of 1.2 ms. Through a proxy a request names the whole address.
        self._pool = manager.connection_from_url(base_url)
        self._prefix = base_url.rstrip("/") if proxy and url.scheme == "http" else self._path
        self._headers = {"User-Agent": PROGRAM, "Accept-Encoding": "identity"}

    def close(self) -> None:
        """Let go of the connections."""
        self._manager.clear()

    def body(self, key: str, part: Path, size: int, etag: str | None) -> Sums:
        """Write a file's body to `part`, from where an earlier try left off.

        Args:
            key: which.
            part: where to; what is there is the beginning of the same version.
            size: bytes that the record says; a longer body is cut off there.
            etag: of the version that the record says; None where it is not known.

        Raises:
            MissingError: there is none.
            MismatchError: it is another version, or longer.
            FetchError: refused, unreachable, cut off or too slow.
            OSError: `part` cannot be written.
        """
        sums = Sums()
        with part.open("a+b") as file:
            file.seek(0)
            while chunk := file.read(2**20):
                sums.add(chunk)
            if sums.size >= size:  # whole or of another version
                if sums.size == size and MD5.fullmatch(etag or "") and sums.md5.hexdigest() == etag:
                    return sums
                file.truncate(0)
                sums = Sums()
            headers = dict(self._headers)
            if sums.size and etag:
                headers |= {"Range": f"bytes={sums.size}-", "If-Range": f'"{etag}"'}
            elif sums.size:
                file.truncate(0)
                sums = Sums()
            with deadlines.within(self._patience + size / SLOWEST) as deadline:
                try:
                    answer = self._ask(key, headers)
                    try:
                        sums = self._read(answer, file, sums, size, etag)
                    finally:
                        # What was not read to its end must not be given to another request.
                        answer.close() if sums.size != size else answer.release_conn()
                except (HTTPError, OSError) as error:
                    if isinstance(error, OSError) and error.errno and not _of_network(error):
                        raise
                    raise self._failed(error, late=deadline.late) from None
        return sums

    def checksum(self, key: str) -> str | None:
        """The SHA-256 that the file's CHECKSUM says, in hex; None where it has none.

        Raises:
            MismatchError: it is not `<64 hex>  <name>`, or of another name.
            FetchError: refused, unreachable, cut off or too slow.
        """
        with deadlines.within(self._patience) as deadline:
            try:
                answer = self._ask(f"{key}.CHECKSUM", self._headers)
                try:
                    text = answer.read(MAX_CHECKSUM_BYTES + 1)
                    whole = not answer.read(1)
                finally:
                    answer.close() if answer.length_remaining else answer.release_conn()
            except MissingError:
                return None
            except (HTTPError, OSError) as error:
                raise self._failed(error, late=deadline.late) from None
        found = _CHECKSUM.fullmatch(text.decode("utf-8", "replace"))
        if not whole or found is None:
            raise MismatchError("its CHECKSUM is not a SHA-256 and a name")
        if found[2] != key.rpartition("/")[2]:
            raise MismatchError(f"its CHECKSUM is of {printable(found[2])[:80]}")
        return found[1].lower()

    def _ask(self, key: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        answer = self._pool.urlopen(
            "GET", f"{self._prefix}/{quote(key, safe='/')}", headers=headers, redirect=False,
            retries=False, preload_content=False, decode_content=False, assert_same_host=False,
        )  # fmt: skip
        if answer.status in (200, 206):
            return answer
        answer.close()
        if answer.status in (404, 410):
            raise MissingError(f"HTTP {answer.status}: it is not there (any more)", again=False)
        if 300 <= answer.status < 400:
            where = printable(str(answer.headers.get("Location")))[:120]
            raise FetchError(
                f"HTTP {answer.status}: {self._host} wants us elsewhere ({where}); if that is "
                "right, set AVAILABILITY_DOWNLOAD_URL to it",
                again=False,
            )
        raise FetchError(f"HTTP {answer.status}", again=answer.status not in (401, 403))

    def _read(
        self, answer: urllib3.BaseHTTPResponse, file: Any, sums: Sums, size: int, etag: str | None
    ) -> Sums:
        if answer.status == 206:
            expected = f"bytes {sums.size}-{size - 1}/{size}"
            if answer.headers.get("Content-Range") != expected:
                raise MismatchError("it has another size than the record says")
        elif sums.size:
            file.truncate(0)
            sums = Sums()
        given = (answer.headers.get("ETag") or "").strip('"')
        if etag and MD5.fullmatch(etag) and MD5.fullmatch(given) and given != etag:
            raise MismatchError(
                "the archive has another version than the record; update the record"
            )
        while chunk := answer.read(CHUNK_BYTES):
            sums.add(chunk)
            if sums.size > size:
                raise MismatchError(f"it has more than the {size:,} bytes that the record says")
            file.write(chunk)
        return sums

    def _failed(self, error: Exception, *, late: bool) -> FetchError:
        if late:
            return FetchError("too slow: its time was up")
        # urllib3's texts name pools and objects; the class says enough.
        what = type(error).__name__.removesuffix("Error") or "failed"
        return FetchError(f"no whole answer from {self._host} ({what})")


def _of_network(error: OSError) -> bool:
    return isinstance(error, ConnectionError | TimeoutError)
