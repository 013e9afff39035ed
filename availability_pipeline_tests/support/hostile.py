"""An archive that answers as it likes: a real HTTP server whose every answer a test decides."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

from availability_pipeline.archive.datasets import UM_KLINES_1M as DS
from availability_pipeline_tests.support.servers import Server

NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@dataclass
class Answer:
    """Status, headers and body; a body without Content-Length is sent in chunks."""

    body: bytes | Iterable[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FakeArchive:
    """What the server answers (`respond`, from the query), and what it was asked and sent."""

    url: str = ""
    respond: Callable[[dict[str, str]], Answer] = lambda query: Answer(b"")
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    sent: int = 0

    def listings(self, *pages: bytes, symbol: str = "BTCUSDT") -> None:
        """Answer discovery with one symbol, and its listing with `pages` one after another."""

        def respond(query: dict[str, str]) -> Answer:
            if query.get("delimiter") == "/":
                return Answer(page(folder(f"{DS.prefix}{symbol}/")))
            return Answer(pages[min(int(query.get("continuation-token", "0")), len(pages) - 1)])

        self.respond = respond
        self.asked.clear()
        self.sent = 0


def entry(key: str, size: str = "5", time: str = "2024-01-16T07:10:11.000Z") -> str:
    return (
        f"<Contents><Key>{key}</Key><LastModified>{time}</LastModified>"
        f"<ETag>&quot;0f&quot;</ETag><Size>{size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


def folder(name: str) -> str:
    return f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"


def page(body: str, token: str = "", extra: str = "") -> bytes:
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult {NS}>{more}{extra}'
        f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>{body}</ListBucketResult>"
    ).encode()


@contextmanager
def hostile_archive() -> Iterator[FakeArchive]:
    fake = FakeArchive()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Small writes would otherwise wait 40 ms for the other side's acknowledgement.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            fake.asked.append((self.command, self.path, dict(self.headers)))
            answer = fake.respond(dict(parse_qsl(urlsplit(self.path).query)))
            whole = isinstance(answer.body, bytes)
            headers = dict(answer.headers)
            if whole:
                headers.setdefault("Content-Length", str(len(answer.body)))
            else:
                headers["Transfer-Encoding"] = "chunked"
            try:
                # `send_response` puts the time of now into the headers.
                own_date = "Date" in headers
                (self.send_response_only if own_date else self.send_response)(answer.status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for part in [answer.body] if whole else answer.body:
                    self.wfile.write(part if whole else b"%x\r\n%b\r\n" % (len(part), part))
                    fake.sent += len(part)
                if not whole:
                    self.wfile.write(b"0\r\n\r\n")
            except OSError:  # the client has had enough
                self.close_connection = True

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        fake.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield fake
        finally:
            server.shutdown()
