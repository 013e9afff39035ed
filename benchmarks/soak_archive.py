"""The soak's archive: `living_archive` behind HTTP, failing, dragging, with its own clock."""

import datetime as dt
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, get_args
from urllib.parse import parse_qsl, urlsplit

from benchmarks.living_archive import Event, File, LivingArchive

HttpFault = Literal[
    "503 on a page", "connection lost", "page cut off", "a web page", "slow", "hang", "nothing",
    "a tenth",
]  # fmt: skip
FAULTS: tuple[HttpFault, ...] = get_args(HttpFault)

SOME = 0.3
"""Share of the requests that fail while pages fail."""

DAY = dt.timedelta(1)
SYMBOLS = (
    *("BTCUSDT", "ETHUSDT", "币安人生USDT", "1000PEPEUSDT", "BTCUSDC", "4USDT", "XRPUSDT"),
    *("ADAUSDT", "BTCUSDT_270326", "LINKUSDT"),
)
LATER = ("TSLAUSDT", "XAUUSDT", "龙虾USDT", "DOGEUSDT", "AVAXUSDT", "DOTUSDT")
"""Symbols that are listed during the soak."""


class Archive:
    """Files of `days` dates up to yesterday; what is in it and how it answers may change.

    Attributes:
        fault: how it answers, None: well.
        seconds_ahead: how far its clock is ahead of ours.
        requests: how many it had.
    """

    def __init__(self, days: int) -> None:
        self.endpoint = ""
        self.fault: HttpFault | None = None
        self.seconds_ahead = 0.0
        self.requests = 0
        self.lock = threading.Lock()
        today = dt.datetime.now(dt.UTC).date()
        self.last = today - DAY
        self.first = today - days * DAY
        self._living = LivingArchive(
            [
                Event(_published(self.first + n * DAY), symbol, self.first + n * DAY, 1000 + n)
                for symbol in SYMBOLS
                for n in range(days)
            ],
            page=50,
        )
        self._living.advance(dt.datetime.now(dt.UTC))
        self._unlisted = list(LATER)

    def files(self) -> dict[tuple[dt.date, str], File]:
        """What is in it."""
        with self.lock:
            return {
                (date, symbol): file
                for symbol, files in self._living.files.items()
                for date, file in files.items()
            }

    def change(self, rng: random.Random, look_back: int, before: float) -> str:
        """Let something happen to it; says what.

        Args:
            rng: says what.
            look_back: within so many dates, mostly.
            before: share of what happens to any date.
        """
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        reach = (self.last - self.first).days if rng.random() < before else look_back
        date = self.last - rng.randrange(reach) * DAY
        kind = rng.choice(("put", "put", "replace", "take away", "list"))
        if kind == "list" and self._unlisted:
            symbol = self._unlisted.pop(0)
            dates = [self.last - n * DAY for n in range(rng.randint(1, look_back))]
            self._happen(*(Event(now, symbol, one, 500) for one in dates))
            return f"{symbol} is listed with {len(dates)} files"
        symbol = rng.choice(SYMBOLS)
        with self.lock:
            there = date in self._living.files.get(symbol, ())
        if kind == "take away" and there:
            self._happen(Event(now, symbol, date, None))
            return f"{symbol} {date} is taken away"
        self._happen(Event(now, symbol, date, rng.randint(1000, 9000)))
        return f"{symbol} {date} is {'replaced' if there else 'put'}"

    def _happen(self, *events: Event) -> None:
        with self.lock:
            for event in events:
                self._living.happen(event)

    def page(self, query: dict[str, str]) -> bytes:
        """A page, as S3 writes it."""
        with self.lock:
            self._living.fault = self.fault if self.fault in ("nothing", "a tenth") else None
            return self._living.page(query)


def _published(date: dt.date) -> dt.datetime:
    return dt.datetime.combine(date + DAY, dt.time(), dt.UTC)


@contextmanager
def serving(days: int) -> Iterator[Archive]:
    """The archive at `endpoint`."""
    archive, ended = Archive(days), threading.Event()
    chance = random.Random(0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            archive.requests += 1
            fault = archive.fault
            status, body = 200, archive.page(dict(parse_qsl(urlsplit(self.path).query)))
            if fault == "slow":
                ended.wait(0.5)
            elif fault == "hang":
                while archive.fault == fault and not ended.wait(0.2):
                    pass
            elif fault and chance.random() < SOME:
                if fault == "connection lost":
                    self.close_connection = True
                    return
                if fault == "503 on a page":
                    status = 503
                    body = b"<Error><Code>SlowDown</Code><Message>Reduce it</Message></Error>"
                elif fault == "a web page":
                    body = b"<html><body>Maintenance</body></html>"
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if fault == "page cut off" and chance.random() < SOME:
                    body, self.close_connection = body[: len(body) * 2 // 3], True
                self.wfile.write(body)
            except OSError:
                self.close_connection = True  # whoever asked was killed, or gave up

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) + archive.seconds_ahead)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *args: object) -> None:
            """A client that was killed is no error of ours."""

    server = Server(("127.0.0.1", 0), Handler)
    archive.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield archive
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
