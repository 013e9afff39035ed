"""A sample archive on a local S3 server, with the real one's features, for the demo and tests.

`sample_files` says which files there are; `SampleArchive` serves them with moto's S3 server in a
thread of this process. Names and times are like the real ones, the files are not: an object has the
size it reports and no content. None of this is market data.
"""

import datetime as dt
import random
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from availability_pipeline import extras
from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset

BUCKET = "data.binance.vision"

DAYS = 120
"""Dates the sample holds, the last one yesterday; as many as the UI's plots show."""

RELISTED = "AERGOUSDT"
HOLED = "NMRUSDT"
LATE = "LINKUSDT"
REPLACED = "SOLUSDT"

# symbol -> (first day, last day) as offsets from the sample's first date; None: it goes on.
_LIVES: dict[str, tuple[int, int | None]] = {
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

# Not there at the first probe, and there at the second.
_YESTERDAY_LATER = ("TSLAUSDT", "BTCU", HOLED, "币安人生USDT")
_LATE_DAYS_AGO = 6
_REPLACED_DAYS_AGO = 2


class SampleArchiveError(RuntimeError):
    """The sample archive cannot be served; the text is one line with the remedy."""


@dataclass(frozen=True, slots=True)
class SampleFile:
    """One data file: what a listing says of it."""

    symbol: str
    date: dt.date
    size: int
    last_modified: dt.datetime


@dataclass(frozen=True, slots=True)
class Sample:
    """The files at the first probe, and those that come (or come again) before the second."""

    first: dt.date
    last: dt.date
    files: tuple[SampleFile, ...]
    later: tuple[SampleFile, ...]


def sample_files(now: dt.datetime) -> Sample:
    """The sample as of `now` (aware): the same clock gives the same files.

    Files of a date were published the next day between 06:57 and 08:40 UTC, as in the archive;
    where that is not over yet, shortly before `now`.
    """
    now = now.astimezone(dt.UTC).replace(microsecond=0)
    last = now.date() - dt.timedelta(1)
    first = last - dt.timedelta(DAYS - 1)
    files: list[SampleFile] = []
    later: list[SampleFile] = []
    for symbol, (start, end) in _lives(first).items():
        # Not `hash`, which differs from process to process.
        rng = random.Random(symbol)  # noqa: S311 - sizes, not secrets
        usual = rng.randint(30_000, 62_000)
        for day in range(start, DAYS if end is None else end + 1):
            date = first + dt.timedelta(day)
            size = int(usual * rng.uniform(0.85, 1.15))
            minute = dt.timedelta(hours=6, minutes=57, seconds=rng.randint(0, 103 * 60))
            ago = (last - date).days
            if symbol == HOLED and ago == 31:
                continue  # a hole: never published
            if symbol == LATE and ago == 40:
                minute += dt.timedelta(days=9)  # came nine days late
            published = dt.datetime.combine(date + dt.timedelta(1), dt.time(), dt.UTC) + minute
            file = SampleFile(symbol, date, size, min(published, now - dt.timedelta(minutes=5)))
            arrives_later = SampleFile(symbol, date, size, now)
            if (ago == 0 and symbol in _YESTERDAY_LATER) or (
                symbol == LATE and ago == _LATE_DAYS_AGO
            ):
                later.append(arrives_later)
            else:
                files.append(file)
            if symbol == REPLACED and ago == _REPLACED_DAYS_AGO:
                later.append(SampleFile(symbol, date, size + 1_234, now))
    return Sample(first, last, tuple(files), tuple(later))


def _lives(first: dt.date) -> dict[str, tuple[int, int | None]]:
    """Each symbol's days, with two delivery contracts: one delivered, one trading."""
    # Contracts are delivered on Fridays.
    delivered = 60 + (4 - (first + dt.timedelta(60)).weekday()) % 7
    trading = DAYS + 30 + (4 - (first + dt.timedelta(DAYS + 30)).weekday()) % 7
    return {
        **_LIVES,
        f"BTCUSDT_{first + dt.timedelta(delivered):%y%m%d}": (0, delivered),
        f"ETHUSDT_{first + dt.timedelta(trading):%y%m%d}": (30, None),
    }


class SampleArchive:
    """moto's S3 server on a free loopback port, a context manager.

    Args:
        dataset: branch the files are put under.
    """

    def __init__(self, dataset: Dataset = UM_KLINES_1M) -> None:
        self._dataset = dataset
        self._server: Any = None
        self._backend: Any = None

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
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server and forget the files."""
        self._server.stop()
        self._backend.reset()

    @property
    def endpoint(self) -> str:
        """Address for `AVAILABILITY_S3_ENDPOINT`."""
        host, port = self._server.get_host_and_port()
        return f"http://{host}:{port}"

    def publish(self, files: Iterable[SampleFile]) -> None:
        """Put files and their CHECKSUM siblings, over what is there."""
        for file in files:
            key = self._dataset.key(file.symbol, file.date)
            self._put(key, file.size, file.last_modified)
            name_bytes = len(key.rpartition("/")[2].encode())
            self._put(
                self._dataset.checksum_key(file.symbol, file.date),
                64 + 2 + name_bytes + 1,  # SHA-256 in hex, two blanks, the name, a newline
                file.last_modified,
            )

    def publish_junk(self, date: dt.date) -> None:
        """Put names as strange as some of the archive's: they must be passed over."""
        odd_day = f"{date:%Y-%m}-{date.day % 9 + 1}"  # an unpadded date
        self._put(f"{self._dataset.file_prefix('BTCUSDT')}{odd_day}.zip", 4_711, None)
        self._put(f"{self._dataset.prefix}part-00000-sample/part-00000.zip", 42, None)

    def remove(self, symbol: str, date: dt.date) -> None:
        """Take a file and its sibling away."""
        for key in (self._dataset.key(symbol, date), self._dataset.checksum_key(symbol, date)):
            self._backend.delete_object(BUCKET, key)

    def _put(self, key: str, size: int, last_modified: dt.datetime | None) -> None:
        stored = self._backend.put_object(BUCKET, key, b"")
        stored.contentsize = size
        if last_modified is not None:
            # moto keeps naive UTC times.
            stored.last_modified = last_modified.astimezone(dt.UTC).replace(tzinfo=None)


def _quieten() -> None:
    """Keep the server's line per request out of the terminal."""
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
