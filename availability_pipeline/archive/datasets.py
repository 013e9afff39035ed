"""The archive's catalogue and naming grammar, both ways: dataset, symbol, period <-> key, URL.

Everything that follows from a name alone. Pure functions, no clock, no network. What does not
match is `None`, never a guess.

A dataset is written `market/frequency/type[/interval]` with `spot`, `um`, `cm` or `option` for the
market, as `um/daily/klines/1m`. Its files are of *periods*: a UTC date, or for monthly files the
first day of the month. The grammar is that of https://github.com/binance/binance-public-data, that
of USD-M symbols checked against the 1,007 folders listed on 2026-08-22.
"""

import datetime as dt
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args
from urllib.parse import quote

from availability_pipeline.settings import Settings, SettingsError, bad

Market = Literal["spot", "um", "cm", "option"]
Frequency = Literal["daily", "monthly"]
Lifecycle = Literal["live", "stopped", "removed"]
ContractType = Literal["perpetual", "delivery", "settled", "spot", "index", "option"]

MARKETS: Mapping[str, str] = {
    "spot": "spot",
    "um": "futures/um",
    "cm": "futures/cm",
    "option": "option",
}
"""Each market with its folder below `data/`."""

FIRST_DATE = dt.date(2019, 9, 25)
"""Start of the record: the day USD-M futures opened."""

MONTHLY_SETTLE_DAYS = 15
"""Days after a month's end that its file may still come: seen from the 1st to the 13th."""

DOWNLOAD_HOST = "https://data.binance.vision/"

QUOTE_ASSETS: Mapping[str, tuple[str, ...]] = {
    "um": ("USDT", "BUSD", "USDC", "USD1", "BTC", "U"),
    "cm": ("USD",),
    "option": ("USDT",),
    "spot": (
        *("USDT", "BUSD", "USDC", "USD1", "TUSD", "FDUSD", "USDP", "USDS", "PAX", "UST", "DAI"),
        *("VAI", "EURI", "AEUR", "IDRT", "BIDR", "BKRW", "BVND", "BTC", "ETH", "BNB", "XRP"),
        *("TRX", "DOGE", "SOL", "EUR", "GBP", "AUD", "TRY", "BRL", "RUB", "UAH", "NGN", "ZAR"),
        *("PLN", "RON", "ARS", "CZK", "JPY", "MXN", "COP", "U"),
    ),
}
"""The quote assets known of each market. A name that ends in two of them is left open."""

_SETTLED = "_?SETTLED"
_DELIVERY = re.compile(r"_([0-9]{2})([0-9]{2})([0-9]{2})\Z")  # `$` also matches before a newline
_PERPETUAL = "_PERP"
_PART = re.compile("[A-Za-z][A-Za-z0-9]*")
_INTERVAL = re.compile("[1-9][0-9]{0,2}[a-z]{1,2}")


class UnknownDatasetError(ValueError):
    """A name or pattern of a dataset that the catalogue does not have; names the nearest."""

    def __init__(
        self, text: str, reason: str = "is not a dataset", names: Iterable[str] = ()
    ) -> None:
        names = [*names] or [*map(str, CATALOGUE.values()), *map(str, KNOWN)]
        near = difflib.get_close_matches(text.strip(), names, n=3, cutoff=0.6)
        nearest = f"; the nearest are {', '.join(near)}" if near else ""
        super().__init__(f"{text[:80]!r} {reason}{nearest}")


@dataclass(frozen=True, slots=True)
class Contract:
    """What a symbol's name says.

    `base_asset` and `quote_asset` are None when the name ends in no quote asset we know: the
    archive gains new ones (USD1 and U in 2025), and splitting on a guess would be wrong for ever.
    """

    symbol: str
    contract_type: ContractType
    base_asset: str | None
    quote_asset: str | None


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One data file's name taken apart."""

    symbol: str
    period: dt.date


def has_intervals(data_type: str) -> bool:
    """Whether files of this type lie in a folder for each interval: `klines`, `markPriceKlines`."""
    return data_type == "klines" or data_type.endswith("Klines")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One branch of the archive. The default is UM 1m daily klines.

    Attributes:
        market: `spot`, `um`, `cm` or `option`.
        frequency: `daily` or `monthly`.
        data_type: `klines`, `trades`, `aggTrades`, `metrics` and so on.
        interval: of the kline types, which have a folder for each; None for all others.
    """

    market: str = "um"
    frequency: str = "daily"
    data_type: str = "klines"
    interval: str | None = "1m"

    def __post_init__(self) -> None:
        """Refuse parts that could not stand in a key."""
        if self.market not in MARKETS:
            raise ValueError(f"market {self.market!r} is not one of {', '.join(MARKETS)}")
        if self.frequency not in get_args(Frequency):
            raise ValueError(f"frequency {self.frequency!r} is neither daily nor monthly")
        if not _PART.fullmatch(self.data_type):
            raise ValueError(f"data_type {self.data_type!r} is not part of an archive key")
        if (self.interval is not None) != has_intervals(self.data_type):
            has = "has no intervals" if self.interval else "needs an interval"
            raise ValueError(f"data_type {self.data_type!r} {has}")
        if self.interval is not None and not _INTERVAL.fullmatch(self.interval):
            raise ValueError(f"interval {self.interval!r} is not one like 1m, 4h or 1mo")

    @classmethod
    def parse(cls, name: str) -> "Dataset":
        """The dataset of a name, `um/daily/klines/1m`; what `str` writes.

        Market, frequency and type must be in the catalogue; an interval need not, because the
        archive may gain one.

        Raises:
            UnknownDatasetError: it is not one; names the nearest.
        """
        parts = name.split("/")
        if tuple(parts[:3]) in CATALOGUE and len(parts) in (3, 4):
            try:
                return cls(parts[0], parts[1], parts[2], "/".join(parts[3:]) or None)
            except ValueError:
                pass
        raise UnknownDatasetError(name)

    def __str__(self) -> str:
        return "/".join(
            p for p in (self.market, self.frequency, self.data_type, self.interval) if p
        )

    @property
    def kind(self) -> tuple[str, str, str]:
        """Market, frequency and type: what all intervals share, symbol folders included."""
        return self.market, self.frequency, self.data_type

    @property
    def prefix(self) -> str:
        """Prefix under which each symbol has a folder, with the trailing slash."""
        return f"data/{MARKETS[self.market]}/{self.frequency}/{self.data_type}/"

    def folder(self, symbol: str) -> str:
        """Folder of one symbol's files, with the trailing slash."""
        inner = f"{self.interval}/" if self.interval else ""
        return f"{self.prefix}{symbol}/{inner}"

    def file_prefix(self, symbol: str) -> str:
        """What all of one symbol's keys begin with; the period and `.zip` follow."""
        return f"{self.folder(symbol)}{symbol}-{self.interval or self.data_type}-"

    def key(self, symbol: str, period: dt.date) -> str:
        """Key of the data file of one symbol and period."""
        return f"{self.file_prefix(symbol)}{self.text(period)}.zip"

    def checksum_key(self, symbol: str, period: dt.date) -> str:
        """Key of the `.CHECKSUM` sibling."""
        return f"{self.key(symbol, period)}.CHECKSUM"

    def url(self, symbol: str, period: dt.date) -> str:
        """Download address, percent-encoded (several symbols are not ASCII)."""
        return DOWNLOAD_HOST + quote(self.key(symbol, period), safe="/")

    def parse_key(self, key: str) -> ArchiveFile | None:
        """Take a data file's key apart; None for anything else, CHECKSUM siblings included."""
        if not key.startswith(self.prefix):
            return None
        symbol = key[len(self.prefix) :].partition("/")[0]
        if not is_symbol(symbol, self.market):
            return None
        stem = self.file_prefix(symbol)
        if not key.startswith(stem) or not key.endswith(".zip"):
            return None
        period = self.parse_period(key[len(stem) : -len(".zip")])
        return None if period is None else ArchiveFile(symbol, period)

    def parse_folder(self, prefix: str) -> str | None:
        """Symbol of a folder `{self.prefix}{SYMBOL}/`; None for anything else."""
        if not prefix.startswith(self.prefix) or not prefix.endswith("/"):
            return None
        symbol = prefix[len(self.prefix) : -1]
        return symbol if is_symbol(symbol, self.market) else None

    def classify(self, symbol: str) -> Contract:
        """What the symbol's name says in this dataset: `classify`, and index prices are indices.

        Index prices are keyed by pair (`BTCUSDT`, `BTCUSD`) and may begin before its contract.

        Raises:
            ValueError: when `symbol` is not a symbol of the market.
        """
        found = classify(symbol, self.market)
        if self.data_type == "indexPriceKlines" and found.contract_type == "perpetual":
            return Contract(symbol, "index", found.base_asset, found.quote_asset)
        return found

    @property
    def monthly(self) -> bool:
        """Whether a period is a month."""
        return self.frequency == "monthly"

    @property
    def last(self) -> dt.date | None:
        """The last period that can have a file, of one that stopped; None of one that is live."""
        entry = CATALOGUE.get(self.kind)
        return entry.last if entry else None

    def text(self, period: dt.date) -> str:
        """A period as keys and people have it: `2024-01-15`, or `2024-01`.

        Raises:
            ValueError: a month that does not begin with its first day.
        """
        if not self.monthly:
            return period.isoformat()
        if period.day != 1:
            raise ValueError(f"{period} is not the first day of a month, as a period of {self} is")
        return period.isoformat()[:7]

    def parse_period(self, text: str) -> dt.date | None:
        """The period of such a text; None for anything else."""
        return _parse_date(f"{text}-01" if self.monthly else text)

    def period_of(self, date: dt.date) -> dt.date:
        """The period that a date is in."""
        return date.replace(day=1) if self.monthly else date

    def shift(self, period: dt.date, by: int) -> dt.date:
        """The period so many after this one; before it where `by` is negative."""
        if not self.monthly:
            return period + dt.timedelta(by)
        months = 12 * period.year + period.month - 1 + by
        return dt.date(months // 12, months % 12 + 1, 1)

    def last_day(self, period: dt.date) -> dt.date:
        """The last date that is in it."""
        return self.shift(period, 1) - dt.timedelta(1) if self.monthly else period

    def periods(self, start: dt.date, end: dt.date) -> list[dt.date]:
        """All periods from the one with `start` in it to the one with `end` in it."""
        first, last = self.period_of(start), self.period_of(end)
        if not self.monthly:
            return [first + dt.timedelta(n) for n in range((last - first).days + 1)]
        months = 12 * (last.year - first.year) + last.month - first.month
        return [self.shift(first, n) for n in range(months + 1)]

    def settle_days(self, daily: int) -> int:
        """Days after a period's end from which its absence counts as confirmed.

        Args:
            daily: that of daily files, AVAILABILITY_SETTLE_DAYS.
        """
        return MONTHLY_SETTLE_DAYS if self.monthly else daily


UM_KLINES_1M = Dataset()
"""USD-M futures, daily files of 1-minute klines."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a market, frequency and type.

    Attributes:
        market, frequency, data_type: whose.
        first: the first period that can have a file; of most the opening of the market, which is
            before the oldest file that was ever seen.
        lifecycle: `live`; `stopped`, after `last` nothing comes; `removed`, there are no keys.
        last: the last period that can have a file; None while live.
        intervals: those known, of the kline types. A hint: there may be others.
        note: what a reader must know.
    """

    market: Market
    frequency: Frequency
    data_type: str
    first: dt.date
    lifecycle: Lifecycle = "live"
    last: dt.date | None = None
    intervals: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        name = f"{self.market}/{self.frequency}/{self.data_type}"
        return f"{name}/*" if self.intervals else name

    @property
    def kind(self) -> tuple[str, str, str]:
        """Market, frequency and type."""
        return self.market, self.frequency, self.data_type

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """Its dataset, or one for each known interval."""
        return tuple(Dataset(*self.kind, interval=i) for i in self.intervals or (None,))


# Sources disagree whether daily futures files have 3d, 1w and 1mo: they are not among the known.
_UP_TO_A_DAY = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")
_UP_TO_A_MONTH = (*_UP_TO_A_DAY, "3d", "1w", "1mo")

_SPOT_OPENED = dt.date(2017, 7, 14)
"""The oldest file seen is of 2017-08-17."""

_CM_OPENED = dt.date(2020, 8, 1)
"""Files from about 2020-08-11 on were seen."""

_BVOL_OPENED = dt.date(2022, 1, 1)
"""The archive's first file is not known; the exchange's options opened in 2022."""


def _catalogue() -> Iterable[Entry]:
    opened: dict[Market, dt.date] = {"spot": _SPOT_OPENED, "um": FIRST_DATE, "cm": _CM_OPENED}
    klines = ("klines", "markPriceKlines", "indexPriceKlines", "premiumIndexKlines")
    for market, first in opened.items():
        second = ("1s",) if market == "spot" else ()
        for data_type in klines[:1] if market == "spot" else klines:
            note = "by pair, may begin before the contract" if "index" in data_type else ""
            yield Entry(market, "daily", data_type, first, note=note,
                        intervals=second + _UP_TO_A_DAY)  # fmt: skip
            yield Entry(market, "monthly", data_type, first.replace(day=1), note=note,
                        intervals=second + _UP_TO_A_MONTH)  # fmt: skip
        for data_type in ("aggTrades", "trades"):
            yield Entry(market, "daily", data_type, first)
            yield Entry(market, "monthly", data_type, first.replace(day=1))
    for market in ("um", "cm"):
        first = opened[market]
        yield Entry(market, "monthly", "fundingRate", first.replace(day=1))
        of_um = market == "um"
        yield Entry(market, "daily", "metrics", dt.date(2020, 9, 1) if of_um else first)
        yield Entry(market, "daily", "bookDepth", dt.date(2023, 1, 1))
    yield Entry("um", "daily", "bookTicker", dt.date(2023, 5, 16), "stopped", dt.date(2024, 3, 30))
    yield Entry("um", "monthly", "bookTicker", dt.date(2023, 5, 1), "stopped", dt.date(2024, 3, 1))
    yield Entry("cm", "daily", "bookTicker", _CM_OPENED, "stopped", dt.date(2024, 10, 15),
                note="last upload on 2024-10-15")  # fmt: skip
    yield Entry("cm", "monthly", "bookTicker", _CM_OPENED, "stopped", dt.date(2024, 10, 1),
                note="last upload on 2024-10-15")  # fmt: skip
    yield Entry("um", "daily", "liquidationSnapshot", FIRST_DATE, "removed", dt.date(2024, 3, 31),
                note="there until 2024-03-31, then taken away")  # fmt: skip
    yield Entry("cm", "daily", "liquidationSnapshot", dt.date(2023, 6, 25), "stopped",
                dt.date(2024, 10, 14))  # fmt: skip
    yield Entry("option", "daily", "BVOLIndex", _BVOL_OPENED,
                note="21 days missing from 2025-12-15")  # fmt: skip
    yield Entry("option", "daily", "EOHSummary", dt.date(2023, 5, 18), "stopped",
                dt.date(2023, 10, 23))  # fmt: skip


CATALOGUE: Mapping[tuple[str, str, str], Entry] = {
    entry.kind: entry
    for entry in sorted(
        _catalogue(), key=lambda e: (list(MARKETS).index(e.market), e.frequency, e.data_type)
    )
}
"""What is known of the archive, by market, frequency and type."""

ARCHIVE_BEGINS = min(entry.first for entry in CATALOGUE.values())
"""Before any file of any dataset: when the first of the markets opened."""

KNOWN: tuple[Dataset, ...] = tuple(d for entry in CATALOGUE.values() for d in entry.datasets)
"""Every dataset of the catalogue, those of known intervals."""


def select(patterns: str, among: Iterable[Dataset] | None = None) -> tuple[Dataset, ...]:
    """The datasets of comma-separated names and patterns, in this order, each once.

    In a pattern `*` stands for anything, slashes too: `um/daily/klines/*`, `*/daily/aggTrades`,
    `um/*`; `all` is all. Patterns cover known intervals and leave removed datasets out; by its
    full name any may be given.

    Args:
        patterns: names and patterns.
        among: choose among these instead, say those that are recorded; all of them count.

    Raises:
        UnknownDatasetError: one is neither, or not among these; names the nearest.
    """
    chosen: dict[Dataset, None] = {}
    choices = KNOWN if among is None else tuple(among)
    for text in (part.strip() for part in patterns.split(",")):
        if text == "all" or any(sign in text for sign in "*?["):
            found = [
                dataset
                for dataset in choices
                if (text == "all" or fnmatchcase(str(dataset), text))
                and (among is not None or CATALOGUE[dataset.kind].lifecycle != "removed")
            ]
            if not found:
                of = "the archive" if among is None else "those that are recorded"
                raise UnknownDatasetError(text, f"matches no dataset of {of}")
            chosen.update(dict.fromkeys(found))
        elif among is None:
            chosen[Dataset.parse(text)] = None
        elif found := [dataset for dataset in choices if str(dataset) == text]:
            chosen[found[0]] = None
        else:
            raise UnknownDatasetError(text, "is not recorded", map(str, choices))
    return tuple(chosen)


def by_kind(datasets: Iterable[Dataset]) -> tuple[tuple[Dataset, ...], ...]:
    """Datasets by market, frequency and type, in their order."""
    found: dict[tuple[str, str, str], list[Dataset]] = {}
    for dataset in datasets:
        found.setdefault(dataset.kind, []).append(dataset)
    return tuple(map(tuple, found.values()))


def configured(settings: Settings) -> tuple[Dataset, ...]:
    """The datasets of AVAILABILITY_DATASETS, each once; the first is the default of questions.

    Raises:
        SettingsError: one of its names or patterns is not one; names the nearest.
    """
    try:
        return select(settings.datasets)
    except UnknownDatasetError as error:
        raise bad("AVAILABILITY_DATASETS", settings.datasets, str(error)) from None


def chosen(settings: Settings, patterns: Sequence[str]) -> tuple[Dataset, ...]:
    """The configured datasets that names or patterns choose; all without any.

    Raises:
        SettingsError: as `configured`; or a pattern matches none that is configured.
        UnknownDatasetError: a pattern matches no dataset.
    """
    known = configured(settings)
    found: dict[Dataset, None] = {}
    for pattern in patterns:
        matching = [dataset for dataset in select(pattern) if dataset in known]
        if not matching:
            raise SettingsError(
                f"{pattern} is not configured; AVAILABILITY_DATASETS has "
                f"{', '.join(map(str, known))}"
            )
        found.update(dict.fromkeys(matching))
    return tuple(found) if patterns else known


def locate(key: str) -> tuple[Dataset, ArchiveFile] | None:
    """Dataset, symbol and period of any data file's key; None for anything else."""
    for market, folder in MARKETS.items():
        rest = key.removeprefix(f"data/{folder}/")
        if rest != key:
            parts = rest.split("/")
            if len(parts) != (5 if has_intervals(parts[1] if len(parts) > 1 else "") else 4):
                return None
            try:
                dataset = Dataset(market, parts[0], parts[1], "/".join(parts[3:-1]) or None)
            except ValueError:
                return None
            file = dataset.parse_key(key)
            return None if file is None else (dataset, file)
    return None


def key_sql(
    market: str, frequency: str, data_type: str, interval: str, symbol: str, period: str
) -> str:
    """A file's key as SQL; each argument is SQL itself, `interval` NULL without."""
    folders = " ".join(f"WHEN '{name}' THEN '{path}'" for name, path in MARKETS.items())
    return (
        f"'data/' || CASE {market} {folders} END || '/' || {frequency} || '/' || "
        f"{data_type} || '/' || {symbol} || coalesce('/' || {interval}, '') || '/' || "
        f"{symbol} || '-' || coalesce({interval}, {data_type}) || '-' || "
        f"left({period}::VARCHAR, CASE {frequency} WHEN 'monthly' THEN 7 ELSE 10 END) || '.zip'"
    )


def url_sql(
    market: str, frequency: str, data_type: str, interval: str, symbol: str, period: str
) -> str:
    """A file's download address as SQL; the arguments are those of `key_sql`."""
    key = key_sql(market, frequency, data_type, interval, f"url_encode({symbol})", period)
    # One literal with the key's first: records hold this text in their views, and one whose text
    # differs is refused as foreign.
    return f"'{DOWNLOAD_HOST}{key[1:]}"


def is_symbol(name: str, market: str = "um") -> bool:
    """Whether `name` can be a symbol: letters of any script without case or upper case, digits.

    Then, in futures markets, optionally one `_YYMMDD` delivery date, or in `cm` `_PERP`, and then
    `SETTLED` suffixes. A tighter pattern (`[A-Z0-9]{2,20}`) rejected 59 of the 1,007 real ones.
    """
    stem = name
    if market in ("um", "cm"):
        stem = unsettled(name)
        delivery = _DELIVERY.search(stem)
        if delivery:
            stem = stem[: delivery.start()]
            if _parse_date(f"20{'-'.join(delivery.groups())}") is None:
                return False
        elif market == "cm":
            stem = stem.removesuffix(_PERPETUAL)
    return len(stem) > 0 and len(name) <= 64 and stem.isalnum() and stem == stem.upper()


def unsettled(symbol: str) -> str:
    """The name without its `SETTLED` suffixes: what all settlings of one contract name share."""
    return re.sub(f"({_SETTLED})+$", "", symbol)


def unsettled_sql(symbol: str) -> str:
    """SQL of the same; `symbol` is a column's name."""
    return f"regexp_replace({symbol}, '({_SETTLED})+$', '')"


def relisted_name(symbol: str) -> str | None:
    """The name a settled contract had before, which the relisted one has now; None for others.

    One suffix less: when a name is listed for the third time, X moves to XSETTLED and what was
    there to XSETTLEDSETTLED.
    """
    name = re.sub(f"{_SETTLED}$", "", symbol)
    return name if name != symbol else None


def classify(symbol: str, market: str = "um") -> Contract:
    """Contract type, base and quote asset from the name alone.

    - `um`: `settled` by a suffix, `delivery` by a date, else `perpetual`.
    - `cm`: the same, but a perpetual ends in `_PERP`, and a bare pair is an `index`.
    - `spot`: `spot`.
    - `option`: `BTCBVOLUSDT` is an `index`, of the volatility of BTC; else `option`.

    An asset is None unless exactly one known quote asset ends the name: ADAEUR could be ADA in EUR
    and AD in AEUR, and both are quote assets of `spot`.

    Raises:
        ValueError: when `symbol` is not a symbol (see `is_symbol`).
    """
    if not is_symbol(symbol, market):
        raise ValueError(f"{symbol!r} is not a symbol of the archive")
    contract_type: ContractType
    pair, perpetual = symbol, market == "um"
    if market in ("um", "cm"):
        stem = unsettled(symbol)
        pair = _DELIVERY.sub("", stem)
        delivery = pair != stem
        if market == "cm" and not delivery:
            pair = stem.removesuffix(_PERPETUAL)
            perpetual = pair != stem
        if stem != symbol:
            contract_type = "settled"
        elif delivery:
            contract_type = "delivery"
        else:
            contract_type = "perpetual" if perpetual else "index"
    else:
        contract_type = "spot" if market == "spot" else "option"
    quotes = [q for q in QUOTE_ASSETS[market] if pair.endswith(q) and len(pair) > len(q)]
    base = pair.removesuffix(quotes[0]) if len(quotes) == 1 else None
    if market == "option" and base and base.endswith("BVOL") and base != "BVOL":
        contract_type, base = "index", base.removesuffix("BVOL")
    return Contract(symbol, contract_type, base, quotes[0] if base else None)


def _parse_date(text: str) -> dt.date | None:
    # date.fromisoformat also takes 20240115 and 2024-W03-1, which are not names of the archive.
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return None
