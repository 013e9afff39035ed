"""A sample archive on local servers, with the real one's features, for the demo and tests.

`sample_files` says which files there are; `SampleArchive` lists them with moto's S3 server and
serves them with a download host, in threads of this process. Names and times are like the real
ones, and 1d klines are files that can be read; the others have the size they report and no content.
None of this is market data.
"""

import datetime as dt
import functools
import hashlib
import io
import random
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self
from urllib.parse import unquote

from availability_pipeline import extras
from availability_pipeline.archive.datasets import CATALOGUE, UM_KLINES_1M, Dataset

BUCKET = "data.binance.vision"

UM_KLINES_1D = Dataset("um", "daily", "klines", "1d")
SPOT_KLINES_1D = Dataset("spot", "daily", "klines", "1d")
SPOT_TRADES = Dataset("spot", "daily", "aggTrades", None)
UM_FUNDING = Dataset("um", "monthly", "fundingRate", None)

DATASETS = (UM_KLINES_1M, UM_KLINES_1D, SPOT_KLINES_1D, SPOT_TRADES, UM_FUNDING)
"""What the sample holds: the first is what questions are about by default."""

DAYS = 120
"""Dates the sample holds, the last one yesterday; as many as the UI's plots show."""

RELISTED = "AERGOUSDT"
HOLED = "NMRUSDT"
LATE = "LINKUSDT"
REPLACED = "SOLUSDT"

Lives = Mapping[str, tuple[int, int | None]]
"""Symbol -> (first day, last day) as offsets from the sample's first date; None: it goes on."""

_UM: Lives = {
    "BTCUSDT": (0, None),
    "ETHUSDT": (0, None),
    "BNBUSDT": (0, None),
    REPLACED: (0, None),
    LATE: (0, None),
    HOLED: (0, None),
    "ETHBTC": (0, None),
    "1000PEPEUSDT": (12, None),
    "BTCUSDC": (35, None),
    f"{RELISTED}SETTLED": (3, 41),  # the first contract's files were moved when it was relisted
    RELISTED: (70, None),
    "MATICUSDT": (0, 91),  # ended
    "币安人生USDT": (78, None),
    "TSLAUSDT": (96, None),
    "BTCU": (114, None),  # a new listing
}

_SPOT: Lives = {
    "BTCUSDT": (0, None),
    "ETHUSDT": (0, None),
    "BNBUSDT": (0, None),
    "SOLUSDT": (0, None),
    "LINKUSDT": (0, None),
    "ETHBTC": (0, None),
    "BTCTRY": (0, None),
    "PEPEUSDT": (9, None),
    "MATICUSDT": (0, 88),  # ended
    "币安人生USDT": (81, None),
}

_TRADED = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "LINKUSDT", "MATICUSDT")
"""Of these spot symbols the sample has trades."""

_READABLE = (UM_KLINES_1D, SPOT_KLINES_1D)
"""The datasets whose files have a content."""

_USUAL: Mapping[str, tuple[float, float]] = {
    "BTCUSDT": (92_000, 1.6e10),
    "ETHUSDT": (3_100, 1.3e10),
    "SOLUSDT": (140, 4e9),
    "BNBUSDT": (870, 9e8),
    "BTCUSDC": (92_000, 2.5e9),
    "ETHBTC": (0.034, 300),
    "BTCTRY": (3.9e6, 6e8),
}
"""Price and quote volume at the beginning; of the others they are random."""

_BYTES: Mapping[Dataset, tuple[int, int]] = {
    UM_KLINES_1M: (30_000, 62_000),
    # Drawn, and not used: so that times and numbers stay what they were.
    UM_KLINES_1D: (270, 310),
    SPOT_KLINES_1D: (260, 300),
    SPOT_TRADES: (900_000, 24_000_000),
    UM_FUNDING: (950, 1_250),
}
"""The usual size of a symbol's files is between these."""

# Not there at the first probe, and there at the second.
_YESTERDAY_LATER = ("TSLAUSDT", "BTCU", HOLED, "币安人生USDT")
_LATE_DAYS_AGO = 6
_REPLACED_DAYS_AGO = 2

_HOLES = {(UM_KLINES_1M, HOLED): 31, (SPOT_TRADES, "SOLUSDT"): 20}
"""Files that were never published, so many days ago."""

_MONTHS_BEFORE = 6
"""Months of monthly files before the first daily one."""


class SampleArchiveError(RuntimeError):
    """The sample archive cannot be served; the text is one line with the remedy."""


@dataclass(frozen=True, slots=True)
class SampleFile:
    """One data file: what a listing says of it."""

    symbol: str
    period: dt.date
    size: int
    last_modified: dt.datetime
    dataset: Dataset = UM_KLINES_1M
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Sample:
    """The files at the first probe, and those that come (or come again) before the second.

    Attributes:
        first, last: the dates that daily files are of.
    """

    first: dt.date
    last: dt.date
    files: tuple[SampleFile, ...]
    later: tuple[SampleFile, ...]


def sample_files(now: dt.datetime) -> Sample:
    """The sample as of `now` (aware): the same clock gives the same files.

    Files of a date were published the next day between 06:57 and 08:40 UTC, as in the archive;
    where that is not over yet, shortly before `now`. Those of a month come on the first Monday
    after it; before that the last month has none.
    """
    now = now.astimezone(dt.UTC).replace(microsecond=0)
    last = now.date() - dt.timedelta(1)
    first = last - dt.timedelta(DAYS - 1)
    um = _with_deliveries(first)
    traded = {symbol: _SPOT[symbol] for symbol in _TRADED}
    files: list[SampleFile] = []
    later: list[SampleFile] = []
    for dataset, lives in (
        (UM_KLINES_1M, um), (UM_KLINES_1D, um), (SPOT_KLINES_1D, _SPOT), (SPOT_TRADES, traded)
    ):  # fmt: skip
        for symbol, (start, end) in lives.items():
            rng, usual = _random(dataset, symbol)
            for day in range(start, DAYS if end is None else end + 1):
                date = first + dt.timedelta(day)
                size = int(usual * rng.uniform(0.85, 1.15))
                content = None
                if dataset in _READABLE:
                    content = _kline_file(dataset, symbol, date, day)
                    size = len(content)
                minute = dt.timedelta(hours=6, minutes=57, seconds=rng.randint(0, 103 * 60))
                ago = (last - date).days
                if _HOLES.get((dataset, symbol)) == ago:
                    continue
                of_minutes = dataset == UM_KLINES_1M
                if of_minutes and symbol == LATE and ago == 40:
                    minute += dt.timedelta(days=9)  # came nine days late
                published = _midnight(date + dt.timedelta(1)) + minute
                published = min(published, now - dt.timedelta(minutes=5))
                if (dataset.market == "um" and ago == 0 and symbol in _YESTERDAY_LATER) or (
                    of_minutes and symbol == LATE and ago == _LATE_DAYS_AGO
                ):
                    later.append(SampleFile(symbol, date, size, now, dataset, content))
                else:
                    files.append(SampleFile(symbol, date, size, published, dataset, content))
                if of_minutes and symbol == REPLACED and ago == _REPLACED_DAYS_AGO:
                    later.append(SampleFile(symbol, date, size + 1_234, now, dataset))
    files += _funding(first, last, now)
    return Sample(first, last, tuple(files), tuple(later))


def last_month(last: dt.date) -> dt.date:
    """The last month that is over when the date `last` is."""
    return UM_FUNDING.shift(UM_FUNDING.period_of(last + dt.timedelta(1)), -1)


def _funding(first: dt.date, last: dt.date, now: dt.datetime) -> Iterator[SampleFile]:
    """Monthly files of the perpetual contracts; of the oldest from before the daily files on."""
    month_of = UM_FUNDING.period_of
    opened = CATALOGUE[UM_FUNDING.kind].first
    oldest = max(UM_FUNDING.shift(month_of(first), -_MONTHS_BEFORE), opened)
    for symbol, (start, end) in _UM.items():
        rng, usual = _random(UM_FUNDING, symbol)
        begins = oldest if start == 0 else month_of(first + dt.timedelta(start))
        ends = last_month(last)
        if end is not None:
            ends = min(ends, month_of(first + dt.timedelta(end)))
        for month in UM_FUNDING.periods(begins, ends) if begins <= ends else ():
            size = int(usual * rng.uniform(0.97, 1.03))
            after = UM_FUNDING.shift(month, 1)
            monday = after + dt.timedelta(-after.weekday() % 7)
            minute = dt.timedelta(hours=8, minutes=6, seconds=rng.randint(0, 40 * 60))
            published = _midnight(monday) + minute
            if published < now:
                yield SampleFile(symbol, month, size, published, UM_FUNDING)


def _random(dataset: Dataset, symbol: str) -> tuple[random.Random, int]:
    """A symbol's own random numbers, and the usual size of its files."""
    # Not `hash`, which differs from process to process.
    seed = symbol if dataset == UM_KLINES_1M else f"{symbol} {dataset}"
    rng = random.Random(seed)  # noqa: S311 - sizes, not secrets
    return rng, rng.randint(*_BYTES[dataset])


_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore\n"
)


def _kline_file(dataset: Dataset, symbol: str, date: dt.date, day: int) -> bytes:
    """A symbol's day as a zip with a CSV: with a header in um; in microseconds, if spot's."""
    opening, high, low, close, volume, trades = _days(symbol)[day]
    if dataset.market == "spot":
        volume, trades = volume / 6, trades // 4
    quote, taken = volume * (high + low) / 2, 0.4 + (trades % 20) / 100
    second = 1_000_000 if dataset.market == "spot" and date.year >= 2025 else 1_000
    opened = int(_midnight(date).timestamp()) * second
    row = (
        f"{opened},{opening:.8g},{high:.8g},{low:.8g},{close:.8g},{volume:.3f},"
        f"{opened + 86_400 * second - 1},{quote:.5f},{trades},{volume * taken:.3f},"
        f"{quote * taken:.5f},0\n"
    )
    name = dataset.key(symbol, date).rpartition("/")[2].removesuffix(".zip") + ".csv"
    made = io.BytesIO()
    # Not deflated: how small that is depends on the machine's zlib, and the documents have sizes.
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        info = zipfile.ZipInfo(name, (date.year, date.month, date.day, 0, 0, 0))
        archive.writestr(info, row if dataset.market == "spot" else _HEADER + row)
    return made.getvalue()


@functools.cache
def _days(symbol: str) -> list[tuple[float, float, float, float, float, int]]:
    """Open, high, low, close, volume and trades of all of a symbol's days: a random walk."""
    rng = random.Random(f"{symbol} prices")  # noqa: S311 - numbers of a sample
    price, traded = 10 ** rng.uniform(-2, 2), 10 ** rng.uniform(6.5, 8.5)
    price, traded = _USUAL.get(symbol.partition("_")[0], (price, traded))
    if "_" in symbol:
        traded /= 100
    found = []
    for _ in range(DAYS):
        opening, price = price, price * (1 + rng.gauss(0, 0.03))
        high = max(opening, price) * (1 + abs(rng.gauss(0, 0.01)))
        low = min(opening, price) * (1 - abs(rng.gauss(0, 0.01)))
        volume = traded * rng.lognormvariate(0, 0.35) / price
        trades = int((volume * price) ** 0.65 * rng.uniform(0.8, 1.2)) + 4
        found.append((opening, high, low, price, volume, trades))
    return found


def _midnight(date: dt.date) -> dt.datetime:
    return dt.datetime.combine(date, dt.time(), dt.UTC)


def _with_deliveries(first: dt.date) -> Lives:
    """Each futures symbol's days, with two delivery contracts: one delivered, one trading."""
    # Contracts are delivered on Fridays.
    delivered = 60 + (4 - (first + dt.timedelta(60)).weekday()) % 7
    trading = DAYS + 30 + (4 - (first + dt.timedelta(DAYS + 30)).weekday()) % 7
    return {
        **_UM,
        f"BTCUSDT_{first + dt.timedelta(delivered):%y%m%d}": (0, delivered),
        f"ETHUSDT_{first + dt.timedelta(trading):%y%m%d}": (30, None),
    }


class SampleArchive:
    """moto's S3 server and a download host on free loopback ports, a context manager.

    moto answers a GET in 4 ms, one at a time; the volume of the sample is 5,000 of them.
    """

    def __init__(self) -> None:
        self._server: Any = None
        self._backend: Any = None
        self._host: ThreadingHTTPServer | None = None
        self._contents: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        """Start the server with an empty bucket.

        Raises:
            SampleArchiveError: moto is not installed.
        """
        try:
            from moto.core.models import DEFAULT_ACCOUNT_ID
            from moto.s3.models import s3_backends
            from moto.server import ThreadedMotoServer
        except ImportError as error:
            raise SampleArchiveError(extras.said(error.name or "moto")) from None
        _quieten()
        self._server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        self._server.start()
        # moto stamps objects with the current time; through its backend we set the real one's.
        self._backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self._backend.reset()
        self._backend.create_bucket(BUCKET, "ap-northeast-1")
        self._host = _host(self._contents)
        Thread(target=self._host.serve_forever, name="downloads", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the servers and forget the files."""
        if self._host:
            self._host.shutdown()
            self._host.server_close()
        self._server.stop()
        self._backend.reset()

    @property
    def endpoint(self) -> str:
        """Address for `AVAILABILITY_S3_ENDPOINT`."""
        host, port = self._server.get_host_and_port()
        return f"http://{host}:{port}"

    @property
    def download_url(self) -> str:
        """Address for `AVAILABILITY_DOWNLOAD_URL`; what has no content is not there."""
        port = self._host.server_address[1] if self._host else 0
        return f"http://127.0.0.1:{port}"

    def publish(self, files: Iterable[SampleFile]) -> None:
        """Put files and their CHECKSUM siblings, over what is there."""
        for file in files:
            key = file.dataset.key(file.symbol, file.period)
            content = file.content or b""
            self._put(key, file.size, file.last_modified, content)
            checksum = f"{hashlib.sha256(content).hexdigest()}  {key.rpartition('/')[2]}\n".encode()
            sibling = file.dataset.checksum_key(file.symbol, file.period)
            self._put(sibling, len(checksum), file.last_modified, checksum)
            if file.content is not None:
                self._contents |= {key: content, sibling: checksum}

    def publish_junk(self, date: dt.date) -> None:
        """Put names as strange as some of the archive's: they must be passed over."""
        odd_day = f"{date:%Y-%m}-{date.day % 9 + 1}"  # an unpadded date
        odd_month = f"{date:%Y}-{date.month % 9 + 1}"
        self._put(f"{UM_KLINES_1M.file_prefix('BTCUSDT')}{odd_day}.zip", 4_711, None)
        self._put(f"{UM_KLINES_1M.prefix}part-00000-sample/part-00000.zip", 42, None)
        self._put(f"{SPOT_TRADES.folder('BTCUSDT')}part-00000-sample-c000.zip", 42, None)
        self._put(f"{UM_FUNDING.file_prefix('BTCUSDT')}{odd_month}.zip", 1_111, None)

    def remove(self, file: SampleFile) -> None:
        """Take a file and its sibling away."""
        of = file.symbol, file.period
        for key in (file.dataset.key(*of), file.dataset.checksum_key(*of)):
            self._backend.delete_object(BUCKET, key)
            self._contents.pop(key, None)

    def _put(
        self, key: str, size: int, last_modified: dt.datetime | None, content: bytes = b""
    ) -> None:
        stored = self._backend.put_object(BUCKET, key, content)
        stored.contentsize = size
        if last_modified is not None:
            # moto keeps naive UTC times.
            stored.last_modified = last_modified.astimezone(dt.UTC).replace(tzinfo=None)


def _host(contents: Mapping[str, bytes]) -> ThreadingHTTPServer:
    """A download host of these files, by key; it is not serving yet."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one segment
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            content = contents.get(unquote(self.path).lstrip("/"))
            self.send_response(404 if content is None else 200)
            if content is not None:
                etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
                self.send_header("ETag", f'"{etag}"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """A line per request is nothing for the terminal."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that went away is nothing for the terminal either."""

    return Server(("127.0.0.1", 0), Handler)


def _quieten() -> None:
    """Keep the server's line per request out of the terminal."""
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
