"""A local S3 server of the whole bucket, made up: every dataset of the catalogue, page by page.

    python -m benchmarks.whole_archive --scale 0.1     # a tenth of the symbols; prints its URL
    python -m benchmarks.whole_archive --totals        # what is in it, and no server

Folders and files are in the proportions that are estimated of the real bucket: at scale 1 some
300 thousand folders (symbol and interval) with 105 million files, each with its CHECKSUM sibling.
Symbols begin and end at different dates, half of them have ended, a fourth of the folders lacks a
file. Nothing is stored: a page is copied together from texts of all periods, times, sizes and
ETags that are made once, 0.1 ms for 1,000 entries. What S3 documents for ListObjectsV2 holds (see
`archive_server`), also for listings across folders.
"""

import datetime as dt
import os
import random
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import quote
from zlib import crc32

import numpy as np
import numpy.typing as npt

from availability_pipeline.archive.datasets import CATALOGUE, KNOWN, Dataset, Entry
from benchmarks import archive_server, synthetic

_Bytes = npt.NDArray[np.uint8]

_ORIGIN = dt.date(2017, 7, 1)
_SPOT_FIRST = dt.date(2017, 8, 17).toordinal()
_CM_FIRST = dt.date(2020, 8, 11).toordinal()

# Of the bases with a pair in USDT the share that has one in this asset too, and of these the share
# that has ended.
_SPOT_QUOTES = {
    "USDT": (1.0, 0.35), "BTC": (0.50, 0.70), "ETH": (0.22, 0.75), "BNB": (0.26, 0.75),
    "BUSD": (0.34, 1.0), "FDUSD": (0.22, 0.45), "USDC": (0.28, 0.15), "TRY": (0.22, 0.20),
    "EUR": (0.10, 0.30),
}  # fmt: skip
_CM_PERPETUAL = 34
_KEPT = frozenset({"BTCUSDT", "ETHUSDT", "BTCUSD_PERP", "ETHUSD_PERP", "BTCUSD", "币安人生USDT"})

_SIZES = {"1s": 6, "1m": 5, "3m": 5, "5m": 5, "trades": 7, "aggTrades": 7, "bookTicker": 8,
          "bookDepth": 6, "metrics": 5}  # fmt: skip
"""Digits of a file's size; of all others 4."""

_AT_MOST = 4096
"""Files of a folder that the pools below suffice for."""


@dataclass(frozen=True, slots=True)
class Life:
    """A symbol, with the ordinals of its first and last date."""

    symbol: str
    first: int
    last: int


@dataclass(frozen=True)
class Whole:
    """What the archive has.

    Args:
        scale: share of the symbols.
        until: newest date there ever is, which the symbols' lives depend on.
        newest: newest date that is out by now.
    """

    scale: float
    until: dt.date
    newest: dt.date

    @cached_property
    def datasets(self) -> tuple[Dataset, ...]:
        """All of the catalogue, without those that were removed."""
        return tuple(d for d in KNOWN if CATALOGUE[d.kind].lifecycle != "removed")

    @cached_property
    def _of_markets(self) -> dict[str, list[Life]]:
        last = self.until.toordinal()
        um = synthetic.lives(1250, last)
        bases = [name.removesuffix("USDT") for name, _ in um if name.endswith("USDT")]
        bases.sort(key=lambda base: base not in ("BTC", "ETH"))  # the oldest, and live
        found = {
            "spot": _spot(bases, last),
            "um": um,
            "cm": _cm(bases, last),
            "option": [(f"{base}USDT", (last - 1300, last)) for base in bases[:5]],
        }
        return {
            market: [
                Life(name, *span)
                for name, span in sorted(spans)
                if market == "option" or self._is_kept(name)
            ]
            for market, spans in found.items()
        }

    def _is_kept(self, symbol: str) -> bool:
        return symbol in _KEPT or crc32(symbol.encode()) < self.scale * 2**32

    @cached_property
    def _of_kinds(self) -> dict[tuple[str, str, str], list[Life]]:
        return {
            kind: sorted(
                _within(entry, self._of_markets[entry.market], self.newest), key=lambda x: x.symbol
            )
            for kind, entry in CATALOGUE.items()
        }

    def lives(self, dataset: Dataset) -> list[Life]:
        """Its symbols, sorted; all intervals of a type share them."""
        return self._of_kinds[dataset.kind]

    def folders(self, dataset: Dataset) -> list["WholeFolder"]:
        """The folder of each."""
        return [WholeFolder(dataset, life, self.newest) for life in self.lives(dataset)]

    def files(self, dataset: Dataset) -> int:
        """Data files, without their CHECKSUM siblings."""
        return sum(len(folder.entries) // 2 for folder in self.folders(dataset))

    def bucket(self) -> archive_server.Bucket:
        """The listing of it."""
        there = sorted(
            (dataset.folder(life.symbol), dataset, life)
            for dataset in self.datasets
            for life in self.lives(dataset)
        )
        return archive_server.Bucket(
            [path for path, _, _ in there],
            lambda n: WholeFolder(there[n][1], there[n][2], self.newest),
        )


def _within(entry: Entry, lives: list[Life], newest: dt.date) -> Iterator[Life]:
    """The symbols of a type, and the dates on which it had files of them."""
    if entry.lifecycle == "removed":
        return
    low = entry.first.toordinal()
    high = newest.toordinal()
    if entry.last:
        high = min(high, Dataset(*entry.kind, entry.datasets[0].interval)
                   .last_day(entry.last).toordinal())  # fmt: skip
    perpetual = {"fundingRate", "premiumIndexKlines"}
    for life in lives:
        name, market = life.symbol, entry.market
        if market in ("um", "cm"):
            dated = name[-6:].isdigit() and "_" in name
            if entry.data_type in perpetual and dated:
                continue
            if entry.data_type == "indexPriceKlines":  # by pair
                if dated:
                    continue
                name = name.removesuffix("_PERP")
        elif market == "option" and entry.data_type == "BVOLIndex":
            base = name.removesuffix("USDT")
            if base not in ("BTC", "ETH"):
                continue
            name = f"{base}BVOLUSDT"
        first, last = max(life.first, low), min(life.last, high)
        if first <= last:
            yield Life(name, first, last)


def _spot(bases: list[str], last: int) -> list[tuple[str, tuple[int, int]]]:
    rnd = random.Random(2)
    found = []
    for n, base in enumerate(bases):
        opened = int(_SPOT_FIRST + (last - _SPOT_FIRST) * (n / len(bases)) ** 0.9)
        for quote_asset, (share, ended) in _SPOT_QUOTES.items():
            if rnd.random() < share:
                first = min(last, opened + rnd.randint(0, 900) * (quote_asset != "USDT"))
                end = last
                if n > 5 and rnd.random() < ended:
                    end = min(last, first + rnd.randint(150, 1400))
                found.append((f"{base}{quote_asset}", (first, end)))
    return found


def _cm(bases: list[str], last: int) -> list[tuple[str, tuple[int, int]]]:
    rnd = random.Random(3)
    found = []
    for n, base in enumerate(bases[:_CM_PERPETUAL]):
        first = _CM_FIRST + 10 * n
        end = last if n < 24 else min(last, first + rnd.randint(500, 1500))
        found.append((f"{base}USD_PERP", (first, end)))
        for friday in synthetic.last_fridays(last + 120):
            end = friday.toordinal()
            begun = max(_CM_FIRST, end - (185 if n < 5 else 100))
            found.append((f"{base}USD_{friday:%y%m%d}", (begun, end)))
    return [(name, (min(a, last), min(b, last))) for name, (a, b) in found if a <= last]


def _texts(texts: list[str]) -> _Bytes:
    """Texts of one length as rows of bytes."""
    return np.frombuffer("".join(texts).encode(), np.uint8).reshape(len(texts), -1)


@dataclass(frozen=True)
class _Periods:
    """The texts of all periods of a frequency, and of the dates on which their files came."""

    texts: list[str]
    rows: _Bytes
    published: _Bytes


@cache
def _periods(monthly: bool, newest: dt.date) -> _Periods:
    like = Dataset("spot", "monthly" if monthly else "daily", "trades", None)
    there = like.periods(_ORIGIN, newest)
    texts = [like.text(period) for period in there]
    came = [
        (like.last_day(period) + dt.timedelta(4 if monthly else 1)).isoformat() for period in there
    ]
    return _Periods(texts, _texts(texts), _texts(came))


@cache
def _pools() -> tuple[_Bytes, _Bytes, dict[int, _Bytes], list[_Bytes]]:
    """Halves of ETags, sizes by their digits, and times of day by the hour."""
    rng = np.random.default_rng(16)
    many = 2**16 + _AT_MOST
    hexed = np.frombuffer(rng.bytes(16 * many).hex().encode(), np.uint8)
    sizes = {
        digits: _texts([str(n) for n in rng.integers(10 ** (digits - 1), 10**digits, many)])
        for digits in set(_SIZES.values()) | {4}
    }
    times = [
        _texts([f"{hour:02}:{s // 60:02}:{s % 60:02}" for s in rng.integers(0, 1800, 2 * _AT_MOST)])
        for hour in range(3, 19)
    ]
    return hexed[: 16 * many].reshape(-1, 16), hexed[16 * many :].reshape(-1, 16), sizes, times


class WholeFolder:
    """One symbol's keys of a dataset, made when they are asked for; see `archive_server.Folder`."""

    def __init__(self, dataset: Dataset, life: Life, newest: dt.date) -> None:
        self.dataset, self.life = dataset, life
        self.base = dataset.file_prefix(life.symbol)
        self._periods = _periods(dataset.monthly, newest)
        if dataset.monthly:
            first, last = (dt.date.fromordinal(n) for n in (life.first, life.last))
            months = 12 * _ORIGIN.year + _ORIGIN.month
            self._first = 12 * first.year + first.month - months
            # The month of the newest date is not out yet.
            out = len(self._periods.texts) - 2
            count = min(12 * last.year + last.month - months, out) - self._first + 1
        else:
            self._first = life.first - _ORIGIN.toordinal()
            count = life.last - life.first + 1
        self._seed = crc32(self.base.encode())
        # Offset from which on all files are of a period later.
        self._hole = count
        if count > 2 and self._seed % 4 == 0:
            self._hole = 1 + self._seed // 4 % (count - 2)
            count -= 1
        self.entries = range(2 * max(0, count))

    def name(self, entry: int) -> str:
        tail = ".zip.CHECKSUM" if entry & 1 else ".zip"
        n = entry >> 1
        return f"{self.base}{self._periods.texts[self._first + n + (n >= self._hole)]}{tail}"

    def seek(self, key: str) -> int:
        return bisect_left(self.entries, key, key=self.name)

    def stat(self, key: str) -> tuple[int, int, str] | None:
        entry = self.seek(key)
        if entry == len(self.entries) or self.name(entry) != key:
            return None
        found = re.search(
            b"LastModified>(.*)</L.*&quot;(.*)&quot;.*<Size>([0-9]*)",
            self.contents(False, entry, entry + 1),
        )
        modified, etag, size = (text.decode() for text in found.groups())  # type: ignore[union-attr]
        return int(size), int(dt.datetime.fromisoformat(modified).timestamp()), etag

    def contents(self, encoded: bool, low: int, high: int) -> bytes:
        file, sibling = self._entry(encoded, ".zip"), self._entry(encoded, ".zip.CHECKSUM")
        made = self._rows(file + sibling, low >> 1, (high + 1) >> 1)
        # All that was made is whole pairs, of which the ends may be too much.
        start = made.index(b"</Contents>") + len(b"</Contents>") if low & 1 and made else 0
        return made[start : made.rindex(b"<Contents>") if high & 1 and made else None]

    def folded(self, encoded: bool, low: int, high: int) -> bytes:
        files = self._rows(self._entry(encoded, ".zip"), (low + 1) >> 1, (high + 1) >> 1)
        return files + self._rows(self._prefix(encoded), low >> 1, high >> 1)

    def _entry(self, encoded: bool, tail: str) -> "_Template":
        base = quote(self.base, safe="/") if encoded else self.base
        sibling = tail != ".zip"
        return (
            f"<Contents><Key>{base}".encode(), "period", f"{tail}</Key><LastModified>".encode(),
            "date", b"T", "time", b".000Z</LastModified><ETag>&quot;",
            *(("low", "high") if sibling else ("high", "low")), b"&quot;</ETag><Size>",
            f"{len(self.base) + 8}".encode() if sibling else "size",
            b"</Size><StorageClass>STANDARD</StorageClass></Contents>",
        )  # fmt: skip

    def _prefix(self, encoded: bool) -> "_Template":
        base = quote(self.base, safe="/") if encoded else self.base
        return (f"<CommonPrefixes><Prefix>{base}".encode(), "period",
                b".zip.CHECKSUM</Prefix></CommonPrefixes>")  # fmt: skip

    def _column(self, name: str, low: int, high: int) -> _Bytes:
        """A text of each file from `low` to before `high`."""
        if name in ("period", "date"):
            rows = self._periods.rows if name == "period" else self._periods.published
            first, hole = self._first, min(max(self._hole, low), high)
            before, after = rows[first + low : first + hole], rows[first + hole + 1 :]
            return before if hole == high else np.concatenate([before, after[: high - hole]])
        highs, lows, sizes, times = _pools()
        seed = self._seed
        if name == "time":
            rows, at = times[seed >> 4 & 15], seed >> 8 & (_AT_MOST - 1)
        elif name == "size":
            dataset = self.dataset
            rows = sizes[_SIZES.get(dataset.interval or dataset.data_type, 4)]
            at = seed >> 12 & 0xFFFF
        else:
            rows, at = (highs, seed & 0xFFFF) if name == "high" else (lows, seed >> 16)
        return rows[at + low : at + high]

    def _rows(self, template: "_Template", low: int, high: int) -> bytes:
        """The template of each of these files, one after another."""
        if low >= high:
            return b""
        parts = [
            np.frombuffer(part, np.uint8)
            if isinstance(part, bytes)
            else self._column(part, low, high)
            for part in template
        ]
        made = np.empty((high - low, sum(part.shape[-1] for part in parts)), np.uint8)
        at = 0
        for part in parts:
            made[:, at : at + part.shape[-1]] = part
            at += part.shape[-1]
        return made.tobytes()


_Template = tuple[bytes | str, ...]
"""An entry's XML; a `str` stands for the column of that name."""


@dataclass(frozen=True)
class Server:
    """One that runs."""

    url: str
    pid: int

    def cpu(self) -> float:
        """CPU seconds that it took so far; 0 where the system does not say."""
        path = Path(f"/proc/{self.pid}/stat")
        if not path.exists():
            return 0
        user, system = path.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(whole: Whole, *, latency_ms: float = 0, cpu: int | None = None) -> Iterator[Server]:
    """The server in a process of its own, which ends with this one."""
    command = ["benchmarks.whole_archive", "--scale", f"{whole.scale}", "--until",
               whole.until.isoformat(), "--newest", whole.newest.isoformat()]  # fmt: skip
    with archive_server.started(command, latency_ms=latency_ms, cpu=cpu) as (url, pid):
        yield Server(url, pid)


def totals(whole: Whole) -> str:
    """Folders and files of each market, and of all."""
    counted: Counter[tuple[str, str]] = Counter()
    for dataset in whole.datasets:
        for what, number in (
            ("datasets", 1),
            ("folders", len(whole.lives(dataset))),
            ("files", whole.files(dataset)),
        ):
            counted[dataset.market, what] += number
            counted["all", what] += number
    markets = dict.fromkeys(market for market, _ in counted)
    lines = [
        f"{market}: " + ", ".join(
            f"{counted[market, what]:,} {what}" for what in ("datasets", "folders", "files"))
        for market in markets
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Serve until terminated."""
    parser = archive_server.options(__doc__)
    parser.add_argument("--scale", type=float, default=1, help="share of the symbols (1)")
    parser.add_argument("--totals", action="store_true", help="say what is in it, and end")
    parser.add_argument("--newest", type=dt.date.fromisoformat, help="newest date that is out")
    arguments = parser.parse_args()
    until = arguments.until or synthetic.yesterday()
    whole = Whole(arguments.scale, until, arguments.newest or until)
    if arguments.totals:
        print(totals(whole))
        return
    archive_server.serve(whole.bucket, arguments)


if __name__ == "__main__":
    main()
