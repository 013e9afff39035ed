"""A local S3 server of a full-size synthetic archive: ListObjectsV2 and HEAD, nothing else.

    python -m benchmarks.archive_server --port 0 --symbols 1000     # prints its URL

It answers in about 0.2 ms a page (each symbol's XML is made once, a page is a slice of it), so
that what is measured is the client. What S3 documents for ListObjectsV2 holds: Prefix, Delimiter
of any length, StartAfter, MaxKeys, ContinuationToken, encoding-type=url, KeyCount, entries in the
order of UTF-8 bytes, contents before common prefixes. HTTP/1.1 with keep-alive and pipelining.
Not here: signatures, versions, objects' bodies, ListObjects V1.
"""

import argparse
import asyncio
import base64
import contextlib
import datetime as dt
import os
import subprocess
import sys
import threading
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

from availability_pipeline.archive.datasets import UM_KLINES_1M
from benchmarks.synthetic import SymbolFiles, Synthetic, build

BUCKET = "data.binance.vision"
_LAST = "\U0010ffff"
_ISO = {n: dt.date.fromordinal(n).isoformat() for n in range(737_000, 745_000)}


class _Blob:
    """Rendered XML fragments end to end, sliced by fragment number."""

    __slots__ = ("data", "offsets")

    def __init__(self, fragments: list[bytes]) -> None:
        self.data = b"".join(fragments)
        self.offsets = array("Q", [0])
        at = 0
        for one in fragments:
            at += len(one)
            self.offsets.append(at)

    def cut(self, low: int, high: int) -> bytes:
        return self.data[self.offsets[low] : self.offsets[high]]


class Folder(Protocol):
    """One symbol's keys, in order: entry 2n is file n, entry 2n + 1 its CHECKSUM sibling.

    Attributes:
        base: what all of its keys begin with.
        entries: their numbers.
    """

    base: str
    entries: range

    def name(self, entry: int) -> str:
        """Key of an entry."""

    def seek(self, key: str) -> int:
        """First entry whose key is at or after `key`."""

    def stat(self, key: str) -> tuple[int, int, str] | None:
        """Bytes, LastModified and ETag of a key, None when it is not there."""

    def contents(self, encoded: bool, low: int, high: int) -> bytes:
        """All entries from `low` to before `high` as <Contents>."""

    def folded(self, encoded: bool, low: int, high: int) -> bytes:
        """The same with each CHECKSUM folded into a common prefix."""


class _Folder:
    """A folder of a `Synthetic`, whose XML is made once and kept."""

    def __init__(self, files: SymbolFiles) -> None:
        self.path = UM_KLINES_1M.folder(files.symbol)
        self.base = UM_KLINES_1M.file_prefix(files.symbol)
        self._files = files
        self.days = files.days.tolist()
        self.entries = range(2 * len(self.days))
        self._etags = files.etags.tolist()
        self._blobs: dict[tuple[str, bool], _Blob] = {}
        self._place: dict[str, int] | None = None

    def name(self, entry: int) -> str:
        tail = ".zip.CHECKSUM" if entry & 1 else ".zip"
        return f"{self.base}{_ISO[self.days[entry >> 1]]}{tail}"

    def seek(self, key: str) -> int:
        return bisect_left(self.entries, key, key=self.name)

    def stat(self, key: str) -> tuple[int, int, str] | None:
        if self._place is None:
            self._place = {self.name(e): e for e in self.entries}
        entry = self._place.get(key)
        if entry is None:
            return None
        n = entry >> 1
        size = len(self.base) + 8 if entry & 1 else int(self._files.sizes[n])
        return size, int(self._files.modified[n]), self._etag(entry)

    def contents(self, encoded: bool, low: int, high: int) -> bytes:
        return self._blob("all", encoded).cut(low, high)

    def folded(self, encoded: bool, low: int, high: int) -> bytes:
        files = self._blob("files", encoded).cut((low + 1) >> 1, (high + 1) >> 1)
        return files + self._blob("prefixes", encoded).cut(low >> 1, high >> 1)

    def _etag(self, entry: int) -> str:
        high, low = self._etags[entry >> 1]
        return f"{high:016x}{low ^ (entry & 1):016x}"

    def _blob(self, kind: str, encoded: bool) -> _Blob:
        blob = self._blobs.get((kind, encoded))
        if blob is None:
            blob = self._blobs[kind, encoded] = _Blob(self._render(kind, encoded))
        return blob

    def _render(self, kind: str, encoded: bool) -> list[bytes]:
        base = quote(self.base, safe="/") if encoded else self.base
        isos = [_ISO[n] for n in self.days]
        if kind == "prefixes":
            head, tail = (
                f"<CommonPrefixes><Prefix>{base}",
                ".zip.CHECKSUM</Prefix></CommonPrefixes>",
            )
            return [f"{head}{iso}{tail}".encode() for iso in isos]
        stamps = [f"{t}.000Z" for t in self._files.modified.astype("datetime64[s]").astype(str)]
        sizes = self._files.sizes.tolist()
        small = len(self.base) + 8
        end = "</Size><StorageClass>STANDARD</StorageClass></Contents>"
        fragments = []
        for n, (iso, stamp, size) in enumerate(zip(isos, stamps, sizes, strict=True)):
            fragments.append(
                f"<Contents><Key>{base}{iso}.zip</Key><LastModified>{stamp}</LastModified>"
                f"<ETag>&quot;{self._etag(2 * n)}&quot;</ETag><Size>{size}{end}".encode()
            )
            if kind == "all":
                fragments.append(
                    f"<Contents><Key>{base}{iso}.zip.CHECKSUM</Key>"
                    f"<LastModified>{stamp}</LastModified>"
                    f"<ETag>&quot;{self._etag(2 * n + 1)}&quot;</ETag><Size>{small}{end}".encode()
                )
        return fragments


class Bucket:
    """The listing itself: queries in, XML out. No sockets.

    Args:
        paths: of every folder, sorted.
        folder: the one of a number.
    """

    def __init__(self, paths: Sequence[str], folder: Callable[[int], Folder]) -> None:
        self._paths, self._folder = paths, folder
        self._numbers = {path: n for n, path in enumerate(paths)}
        self._walked: dict[tuple[str, ...], bytes] = {}

    @classmethod
    def of(cls, archive: Synthetic) -> "Bucket":
        """That of one dataset."""
        folders = sorted((_Folder(one) for one in archive.symbols), key=lambda f: f.path)
        return cls([f.path for f in folders], folders.__getitem__)

    def list_objects(self, query: dict[str, str]) -> bytes:
        """The body of a ListObjectsV2 answer.

        Raises:
            ValueError: for an argument S3 refuses.
        """
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        encoded = query.get("encoding-type") == "url"
        most = min(1000, int(query.get("max-keys") or 1000))
        if most < 0:
            raise ValueError("max-keys")
        start = query["start-after"] + "\0" if "start-after" in query else ""
        token = query.get("continuation-token")
        if token is not None:
            start = base64.urlsafe_b64decode(token[1:].encode()).decode()
        start = max(prefix, start)
        number = self._numbers.get(prefix[: prefix.rfind("/") + 1])
        if number is not None and (not delimiter or delimiter in ("/", ".CHECKSUM")):
            folder = self._folder(number)
            low, stop = folder.seek(start), folder.seek(prefix + _LAST)
            high = min(low + most, stop)
            # A prefix that reaches into ".CHECKSUM" leaves nothing to fold.
            fold = delimiter == ".CHECKSUM" and len(prefix) <= len(folder.base) + 14
            body = (folder.folded if fold else folder.contents)(encoded, low, high)
            following = folder.name(high) if high < stop else ""
            return self._answer(query, encoded, most, high - low, body, following)
        key = (prefix, delimiter, start, str(most), str(encoded), query.get("start-after", ""),
               token or "")  # fmt: skip
        if key not in self._walked:
            if len(self._walked) > 16:
                self._walked.clear()
            count, body, following = self._walk(prefix, delimiter, start, most, encoded)
            self._walked[key] = self._answer(query, encoded, most, count, body, following)
        return self._walked[key]

    def stat(self, key: str) -> tuple[int, int, str] | None:
        """Bytes, LastModified and ETag of a key, None when it is not there."""
        number = self._numbers.get(key[: key.rfind("/") + 1])
        return None if number is None else self._folder(number).stat(key)

    def _walk(
        self, prefix: str, delimiter: str, start: str, most: int, encoded: bool
    ) -> tuple[int, bytes, str]:
        """Any listing, key by key: entries, XML, and the key that follows."""
        keys: list[bytes] = []
        folded: list[bytes] = []
        at = self._seek(start)
        while at is not None:
            folder, entry = self._folder(at[0]), at[1]
            key = folder.name(entry)
            if not key.startswith(prefix):
                break
            if len(keys) + len(folded) == most:
                return most, b"".join(keys + folded), key
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                keys.append(folder.contents(encoded, entry, entry + 1))
                at = self._settle(at[0], entry + 1)
            else:
                common = key[: cut + len(delimiter)]
                text = quote(common, safe="/") if encoded else common
                folded.append(f"<CommonPrefixes><Prefix>{text}</Prefix></CommonPrefixes>".encode())
                at = self._seek(common + _LAST)
        return len(keys) + len(folded), b"".join(keys + folded), ""

    def _seek(self, key: str) -> tuple[int, int] | None:
        if not self._paths:
            return None
        n = bisect_right(self._paths, key) - 1
        if n < 0:
            return self._settle(0, 0)
        if not key.startswith(self._paths[n]):  # then it comes after all that is in there
            return self._settle(n + 1, 0)
        return self._settle(n, self._folder(n).seek(key))

    def _settle(self, n: int, entry: int) -> tuple[int, int] | None:
        while n < len(self._paths):
            if entry < len(self._folder(n).entries):
                return n, entry
            n, entry = n + 1, 0
        return None

    @staticmethod
    def _answer(
        query: dict[str, str], encoded: bool, most: int, count: int, body: bytes, following: str
    ) -> bytes:
        def text(tag: str, value: str) -> str:
            return f"<{tag}>{quote(value, safe='/') if encoded else escape(value)}</{tag}>"

        head = [
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name>",
            text("Prefix", query.get("prefix", "")),
        ]
        if "start-after" in query:
            head.append(text("StartAfter", query["start-after"]))
        if "continuation-token" in query:
            token = escape(query["continuation-token"])
            head.append(f"<ContinuationToken>{token}</ContinuationToken>")
        if following and count:
            token = "1" + base64.urlsafe_b64encode(following.encode()).decode()
            head.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
        head.append(f"<KeyCount>{count}</KeyCount><MaxKeys>{most}</MaxKeys>")
        if query.get("delimiter"):
            head.append(text("Delimiter", query["delimiter"]))
        if encoded:
            head.append("<EncodingType>url</EncodingType>")
        truncated = "true" if following and count else "false"
        head.append(f"<IsTruncated>{truncated}</IsTruncated>")
        return b"".join(("".join(head).encode(), body, b"</ListBucketResult>"))


class Connection(asyncio.Protocol):
    """One client: requests without bodies, answered in order."""

    def __init__(self, latency: float) -> None:
        self._latency, self._buffer = latency, b""

    def respond(self, head: bytes) -> bytes:
        """The answer to a request, of which `head` is all."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            answer = self.respond(head)
            last = b"\r\nconnection: close" in head.lower()
            if self._latency:
                loop = asyncio.get_running_loop()
                loop.call_later(self._latency, self._send, answer, last)
            else:
                self._send(answer, last)

    def _send(self, answer: bytes, last: bool) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)
            if last:
                self._transport.close()


class _Listing(Connection):
    def __init__(self, bucket: Bucket, latency: float) -> None:
        super().__init__(latency)
        self._bucket = bucket

    def respond(self, head: bytes) -> bytes:
        try:
            method, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
        except ValueError:
            return error(400, "BadRequest", "no HTTP request")
        path, _, query = target.partition("?")
        bucket, _, key = unquote(path.lstrip("/")).partition("/")
        if bucket != BUCKET:
            # The download host's form, https://data.binance.vision/<key>.
            bucket, key = (BUCKET, f"{bucket}/{key}") if bucket == "data" else (bucket, key)
        if bucket != BUCKET:
            return error(404, "NoSuchBucket", "The specified bucket does not exist")
        if method == "HEAD" and key:
            found = self._bucket.stat(key)
            if found is None:
                return answer(404, 0, "application/xml")
            size, modified, etag = found
            return answer(
                200,
                size,
                "application/zip",
                f'Last-Modified: {formatdate(modified, usegmt=True)}\r\nETag: "{etag}"\r\n',
            )
        arguments = dict(parse_qsl(query, keep_blank_values=True))
        if method != "GET" or key or arguments.get("list-type") != "2":
            return error(501, "NotImplemented", "only HEAD of a key and ListObjectsV2 are here")
        try:
            body = self._bucket.list_objects(arguments)
        except (ValueError, UnicodeError):
            return error(400, "InvalidArgument", "an argument is not valid")
        return answer(200, len(body), "application/xml") + body


_date = (0, "")


def answer(status: int, length: int, kind: str, more: str = "") -> bytes:
    """Status line and headers, as S3 has them; the body follows."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True))
    return (
        f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\n"
        "x-amz-id-2: c2tpbiBkZWVwIGJ1dCBzdGlsbCBhcyBsb25nIGFzIHRoZSByZWFsIG9uZSBpcw==\r\n"
        f"x-amz-request-id: 7B4A0FABBEXAMPLE\r\nDate: {_date[1]}\r\n"
        f"x-amz-bucket-region: ap-northeast-1\r\n{more}Content-Type: {kind}\r\n"
        f"Content-Length: {length}\r\nServer: AmazonS3\r\n\r\n"
    ).encode()


def error(status: int, code: str, message: str) -> bytes:
    """An answer that refuses, as S3 does."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
        f"<Message>{message}</Message><RequestId>7B4A0FABBEXAMPLE</RequestId></Error>"
    ).encode()
    return answer(status, len(body), "application/xml") + body


async def _serve(made: Callable[[], Connection], port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(made, "127.0.0.1", port, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running(
    symbols: int = 1000,
    *,
    until: dt.date | None = None,
    latency_ms: float = 0,
    cpu: int | None = None,
) -> Iterator[str]:
    """The server in a process of its own, which ends with this one; yields its URL."""
    command = ["benchmarks.archive_server", "--symbols", str(symbols)]
    if until:
        command += ["--until", until.isoformat()]
    with started(command, latency_ms=latency_ms, cpu=cpu) as (url, _):
        yield url


@contextlib.contextmanager
def started(command: list[str], *, latency_ms: float, cpu: int | None) -> Iterator[tuple[str, int]]:
    """A server's module with its own options, as `running` says; yields its URL and process."""
    command = [sys.executable, "-m", *command, "--latency-ms", str(latency_ms), "--with-parent"]
    if cpu is not None:
        command += ["--cpu", str(cpu)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[1],
    ) as process:  # fmt: skip
        try:
            url = process.stdout.readline().strip()  # type: ignore[union-attr]
            if not url:
                raise RuntimeError("the archive server did not start; its error is above")
            yield url, process.pid
        finally:
            process.terminate()


def options(doc: str) -> argparse.ArgumentParser:
    """What every server takes."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--port", type=int, default=0, help="0 takes a free one")
    made.add_argument("--until", type=dt.date.fromisoformat, help="newest date (yesterday)")
    made.add_argument("--latency-ms", type=float, default=0, help="wait before each answer")
    made.add_argument("--cpu", type=int, help="run on this core only")
    made.add_argument("--with-parent", action="store_true", help="end when stdin closes")
    return made


def serve(make: Callable[[], Bucket], arguments: argparse.Namespace) -> None:
    """Serve a bucket's listings until terminated, as `options` say."""
    bucket = make()
    serve_with(lambda: _Listing(bucket, arguments.latency_ms / 1000), arguments)


def serve_with(made: Callable[[], Connection], arguments: argparse.Namespace) -> None:
    """Serve until terminated, each client with a connection of its own."""
    if arguments.cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {arguments.cpu})
    if arguments.with_parent:

        def follow() -> None:
            sys.stdin.read()
            os._exit(0)

        threading.Thread(target=follow, daemon=True).start()
    try:
        import uvloop as loops
    except ImportError:
        loops = asyncio  # type: ignore[assignment]
    with contextlib.suppress(KeyboardInterrupt):
        loops.run(_serve(made, arguments.port))


def main() -> None:
    """Serve until terminated."""
    parser = options(__doc__)
    parser.add_argument("--symbols", type=int, default=1000)
    arguments = parser.parse_args()
    serve(lambda: Bucket.of(build(arguments.symbols, arguments.until)), arguments)


if __name__ == "__main__":
    main()
