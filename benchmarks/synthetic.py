"""A made-up archive of the real one's size and shape: which files there are, nothing else.

`build(symbols, until)` is deterministic: the same arguments give the same files, byte sizes and
times on every machine. About 1,000 symbols up to yesterday hold about 740 thousand files: one
symbol on 2019-12-31, about 90 a year later, about 750 today; names are perpetual, delivery and
settled contracts, some not ASCII; a few files are missing (holes), a few came weeks late.
"""

import datetime as dt
import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from availability_pipeline.archive.listing import Listing

_EPOCH = dt.date(1970, 1, 1).toordinal()
_FIRST = dt.date(2019, 12, 31).toordinal()  # the archive's oldest 1m klines file

_MAJORS = [
    "BTC",
    "ETH",
    "BCH",
    "XRP",
    "EOS",
    "LTC",
    "TRX",
    "ETC",
    "LINK",
    "XLM",
    "ADA",
    "XMR",
    "DASH",
    "ZEC",
    "XTZ",
    "BNB",
    "ATOM",
    "ONT",
    "IOTA",
    "BAT",
    "VET",
    "NEO",
    "QTUM",
    "IOST",
    "THETA",
    "ALGO",
    "ZIL",
    "KNC",
    "ZRX",
    "COMP",
    "OMG",
    "DOGE",
    "SXP",
    "KAVA",
    "BAND",
    "RLC",
    "WAVES",
    "MKR",
    "SNX",
    "DOT",
    "DEFI",
    "YFI",
    "BAL",
    "CRV",
    "TRB",
    "RUNE",
    "SUSHI",
    "SRM",
    "EGLD",
    "SOL",
    "ICX",
    "STORJ",
    "BLZ",
    "UNI",
    "AVAX",
    "FTM",
    "HNT",
    "ENJ",
    "FLM",
    "TOMO",
    "REN",
    "KSM",
    "NEAR",
    "AAVE",
    "FIL",
    "RSR",
    "LRC",
    "MATIC",
    "OCEAN",
    "CVC",
    "BEL",
    "CTK",
    "AXS",
    "ALPHA",
    "ZEN",
    "SKL",
    "GRT",
    "1INCH",
    "CHZ",
    "SAND",
    "ANKR",
    "BTS",
    "LIT",
    "UNFI",
    "REEF",
    "RVN",
    "SFP",
    "XEM",
    "COTI",
    "CHR",
    "MANA",
    "ALICE",
    "HBAR",
    "ONE",
    "LINA",
    "STMX",
    "DENT",
    "CELR",
    "HOT",
    "MTL",
    "OGN",
    "NKN",
    "SC",
]
_CHINESE = ("币安人生", "我踏马来了", "龙虾", "哈基米", "牛来")
_ODD = ("4", "1000000MOG", "1000SHIB", "TSLA", "XAU", "0G")
_ESSENTIAL = (
    "BTCUSDT",
    "ETHUSDT",
    "币安人生USDT",
    "BTCUSDT_210326",
    "AERGOUSDTSETTLED",
    "ICPUSDT_SETTLED",
    "4USDT",
    "BTCUSDC",
    "ADABUSD",
    "BTCU",
)

# Share of the perpetuals listed by the start of each year; the rest came until now.
_GROWTH = (
    (dt.date(2019, 12, 31), 0.0),
    (dt.date(2020, 3, 1), 0.02),
    (dt.date(2021, 1, 1), 0.10),
    (dt.date(2022, 1, 1), 0.17),
    (dt.date(2023, 1, 1), 0.205),
    (dt.date(2024, 1, 1), 0.32),
    (dt.date(2025, 1, 1), 0.49),
    (dt.date(2026, 1, 1), 0.79),
)


@dataclass(frozen=True, slots=True)
class SymbolFiles:
    """One symbol's files by date, ascending: date ordinals, bytes, LastModified (epoch seconds)."""

    symbol: str
    days: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    modified: npt.NDArray[np.int64]

    @property
    def etags(self) -> npt.NDArray[np.uint64]:
        """The two halves of each file's ETag, shape (n, 2): of name, date and size."""
        name = int.from_bytes(self.symbol.encode()[-8:].rjust(8, b"\x5a"))
        mixed = (self.days << 20 | self.sizes).astype("uint64")
        halves = (mixed + np.uint64(name)) * np.uint64(0x9E3779B97F4A7C15), mixed
        return np.stack([halves[0], halves[1] * np.uint64(0xF39CC0605CEDC835)], axis=1)


@dataclass(frozen=True, slots=True)
class Synthetic:
    """The whole archive: every symbol with its files, sorted by symbol."""

    symbols: tuple[SymbolFiles, ...]
    until: dt.date

    @property
    def files(self) -> int:
        """Data files, without their CHECKSUM siblings."""
        return sum(len(one.days) for one in self.symbols)

    def listing(self, start: dt.date, end: dt.date) -> Listing:
        """What a perfect `S3Archive.list_range` would return, without any network."""
        low, high = start.toordinal(), end.toordinal()
        cuts = [np.searchsorted(one.days, (low, high + 1)) for one in self.symbols]
        names = tuple(one.symbol for one in self.symbols)
        parts = [(one, slice(a, b)) for one, (a, b) in zip(self.symbols, cuts, strict=True)]
        codes = np.repeat(np.arange(len(names)), [cut.stop - cut.start for _, cut in parts])
        days = np.concatenate([one.days[cut] for one, cut in parts])
        modified = np.concatenate([one.modified[cut] for one, cut in parts])
        etags = np.concatenate([one.etags[cut] for one, cut in parts])
        files = pd.DataFrame(
            {
                "symbol": pd.Categorical.from_codes(codes, categories=pd.Index(names)),
                "date": (days - _EPOCH).astype("datetime64[D]").astype("datetime64[us]"),
                "file_size_bytes": np.concatenate([one.sizes[cut] for one, cut in parts]),
                "last_modified": pd.to_datetime(
                    modified.astype("datetime64[s]").astype("datetime64[us]"), utc=True
                ),
                "etag_high": etags[:, 0],
                "etag_low": etags[:, 1],
            }
        )
        server_time = dt.datetime.combine(
            self.until + dt.timedelta(1), dt.time(12, 0), tzinfo=dt.UTC
        )
        return Listing(start, end, names, files, 2 * len(names), {}, server_time)


def yesterday() -> dt.date:
    """The UTC date before today's."""
    return dt.datetime.now(dt.UTC).date() - dt.timedelta(1)


def build(symbols: int = 1000, until: dt.date | None = None) -> Synthetic:
    """An archive of so many symbols, its newest files those of `until` (default: yesterday)."""
    last = until or yesterday()
    rng = np.random.default_rng(20191231)
    spans = lives(max(symbols, 1000), last.toordinal())
    chosen = dict(spans)
    if symbols < len(spans):
        # Not the first ones, which are the oldest: a small archive keeps the mix of the full one.
        rest = [name for name in chosen if name not in _ESSENTIAL]
        picked = random.Random(symbols).sample(rest, max(0, symbols - len(_ESSENTIAL)))
        keep = {*_ESSENTIAL[:symbols], *picked}
        chosen = {name: span for name, span in chosen.items() if name in keep}
    return Synthetic(
        tuple(_files(name, *chosen[name], rng) for name in sorted(chosen)),
        last,
    )


def lives(count: int, last: int) -> list[tuple[str, tuple[int, int]]]:
    """Symbols with the ordinals of their first and last file."""
    rnd = random.Random(1)
    spans: dict[str, tuple[int, int]] = {}

    def day(year: int, month: int, date: int) -> int:
        return min(max(dt.date(year, month, date).toordinal(), _FIRST), last)

    for pair in ("BTCUSDT", "ETHUSDT"):
        for friday in last_fridays(last + 120)[:25]:
            delivery = f"{pair}_{friday:%y%m%d}"
            first = min(max(_FIRST, friday.toordinal() - rnd.randint(91, 185)), last)
            spans[delivery] = (first, min(friday.toordinal(), last))
    for base in _MAJORS[:40]:
        first = day(2021, 6, 1) + rnd.randint(0, 500)
        spans[f"{base}BUSD"] = (min(first, last), max(min(first, last), day(2023, 12, 11)))
        spans[f"{base}USDC"] = (min(day(2024, 1, 4) + rnd.randint(0, 600), last), last)
    for name in ("BTCU", "ETHU", "BTCUSD1", "ETHUSD1", "SOLUSD1"):
        spans[name] = (day(2025, 9, 1) + rnd.randint(0, 60), last)
    spans["ETHBTC"] = (day(2024, 2, 1), last)
    settled = ["AERGOUSDTSETTLED", "AERGOUSDTSETTLEDSETTLED", "ICPUSDT_SETTLED"]
    settled += [f"{base}USDTSETTLED" for base in _MAJORS[60:75]]
    for name in settled:
        first = day(2020, 9, 1) + rnd.randint(0, 1200)
        spans[name] = (min(first, last), min(first + rnd.randint(60, 700), last))
    for base in _CHINESE:
        spans[f"{base}USDT"] = (day(2025, 10, 9) + rnd.randint(0, 30), last)
    for base in _ODD:
        spans[f"{base}USDT"] = (day(2024, 6, 1) + rnd.randint(0, 300), last)

    bases = list(dict.fromkeys(_MAJORS))
    known = set(bases) | set(_ODD)
    while len(bases) < count - len(spans):
        letters = "".join(rnd.choice("BCDFGKLMNPRSTVXZ") + rnd.choice("AEIOUY") for _ in "123")
        base = rnd.choice(("", "", "", "", "", "1000")) + letters[: rnd.randint(3, 6)]
        if base not in known:
            known.add(base)
            bases.append(base)
    bases = bases[: max(0, count - len(spans))]
    dates = [max(_FIRST, min(when.toordinal(), last)) for when, _ in _GROWTH] + [last]
    shares = [share for _, share in _GROWTH] + [1.0]
    for n, base in enumerate(bases):
        first = int(np.interp(n / max(1, len(bases)), shares, dates))
        end = last
        if n > 20 and rnd.random() < 0.30:
            end = min(last, first + rnd.randint(120, 1300))
        spans[f"{base}USDT"] = (first, end)
    # Python's clamp for archives that end early: no symbol starts after the last date.
    return [(name, (min(a, last), min(b, last))) for name, (a, b) in spans.items()]


def last_fridays(until: int) -> list[dt.date]:
    """Quarterly delivery dates, from March 2021."""
    found = []
    for year in range(2021, dt.date.fromordinal(until).year + 1):
        for month in (3, 6, 9, 12):
            end = dt.date(year, month, 31 if month in (3, 12) else 30)
            friday = end - dt.timedelta((end.weekday() - 4) % 7)
            if friday.toordinal() <= until:
                found.append(friday)
    return found


def _files(symbol: str, first: int, last: int, rng: np.random.Generator) -> SymbolFiles:
    days = np.arange(first, last + 1)
    holes = rng.random(len(days)) < 0.0004
    holes[[0, -1]] = False
    days = days[~holes]
    published = (days + 1 - _EPOCH) * 86400 + rng.integers(6 * 3600 + 3420, 8 * 3600 + 2400)
    late = (rng.random(len(days)) < 0.001) & (days < last - 20)
    published = published + rng.integers(0, 1800, len(days)) + late * rng.integers(5, 15) * 86400
    sizes = rng.normal(62_000, 6_000, len(days)).clip(9_000, 110_000).astype(np.int64)
    return SymbolFiles(symbol, days, sizes, published)
