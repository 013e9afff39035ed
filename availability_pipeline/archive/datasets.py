"""The archive's naming grammar, both ways: dataset, symbol, date <-> key, prefix, URL.

Everything that follows from a name alone: building it, parsing it, what kind of contract a symbol
is. Pure functions, no clock, no network.

The grammar is that of https://github.com/binance/binance-public-data, checked against the 1,007
symbol folders listed on 2026-08-22. It is strict: what does not match is `None`, never a guess.
"""

import datetime as dt
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

ContractType = Literal["perpetual", "delivery", "settled"]

FIRST_DATE = dt.date(2019, 9, 25)
"""Start of the record: the day USD-M futures opened."""

FIRST_FILE_DATE = dt.date(2019, 12, 31)
"""Date of the archive's oldest 1m klines file; the 97 dates before it hold no file at all."""

DOWNLOAD_HOST = "https://data.binance.vision/"

# Longest first: BTCUSDT ends in a "T" long before anything is tried against "U" (BTCU, ETHU).
QUOTE_ASSETS = ("USDT", "BUSD", "USDC", "USD1", "BTC", "U")

_SETTLED = "_?SETTLED"
_DELIVERY = re.compile(r"_(\d{6})$")


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
    date: dt.date


@dataclass(frozen=True, slots=True)
class Dataset:
    """One branch of the archive. The default is what this project records: UM 1m daily klines.

    Attributes:
        market: `spot`, `futures/um`, `futures/cm` or `option`.
        frequency: `daily` or `monthly`.
        data_type: `klines`, `trades`, `aggTrades`, `metrics` and so on.
        interval: the kline interval, or None for data types that have none.
    """

    market: str = "futures/um"
    frequency: str = "daily"
    data_type: str = "klines"
    interval: str | None = "1m"

    def __post_init__(self) -> None:
        """Refuse parts that could not stand in a key."""
        for name in ("market", "frequency", "data_type", "interval"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"[A-Za-z0-9]+(/[A-Za-z0-9]+)*", value):
                raise ValueError(f"{name} {value!r} is not part of an archive key")

    def __str__(self) -> str:
        return " ".join(
            p for p in (self.market, self.frequency, self.data_type, self.interval) if p
        )

    @property
    def prefix(self) -> str:
        """Prefix under which each symbol has a folder, with the trailing slash."""
        return f"data/{self.market}/{self.frequency}/{self.data_type}/"

    def folder(self, symbol: str) -> str:
        """Folder of one symbol's files, with the trailing slash."""
        inner = f"{self.interval}/" if self.interval else ""
        return f"{self.prefix}{symbol}/{inner}"

    def file_prefix(self, symbol: str) -> str:
        """What all of one symbol's keys begin with; the date and `.zip` follow."""
        return f"{self.folder(symbol)}{symbol}-{self.interval or self.data_type}-"

    def key(self, symbol: str, date: dt.date) -> str:
        """Key of the data file of one symbol and UTC date."""
        return f"{self.file_prefix(symbol)}{date.isoformat()}.zip"

    def checksum_key(self, symbol: str, date: dt.date) -> str:
        """Key of the `.CHECKSUM` sibling."""
        return f"{self.key(symbol, date)}.CHECKSUM"

    def url(self, symbol: str, date: dt.date) -> str:
        """Download address, percent-encoded (several symbols are not ASCII)."""
        return DOWNLOAD_HOST + quote(self.key(symbol, date), safe="/")

    def url_sql(self, symbol: str, date: str) -> str:
        """The download address as SQL, of two columns."""
        interval = f"/{self.interval}/" if self.interval else "/"
        return (
            f"'{DOWNLOAD_HOST}{self.prefix}' || url_encode({symbol}) || '{interval}' || "
            f"url_encode({symbol}) || '-{self.interval or self.data_type}-' || {date} || '.zip'"
        )

    def parse_key(self, key: str) -> ArchiveFile | None:
        """Take a data file's key apart; None for anything else, CHECKSUM siblings included."""
        if not key.startswith(self.prefix):
            return None
        symbol = key[len(self.prefix) :].partition("/")[0]
        if not is_symbol(symbol):
            return None
        stem = self.file_prefix(symbol)
        if not key.startswith(stem):
            return None
        date = _parse_date(key[len(stem) :].removesuffix(".zip"))
        if date is None or self.key(symbol, date) != key:
            return None
        return ArchiveFile(symbol, date)

    def parse_folder(self, prefix: str) -> str | None:
        """Symbol of a folder `{self.prefix}{SYMBOL}/`; None for anything else."""
        if not prefix.startswith(self.prefix) or not prefix.endswith("/"):
            return None
        symbol = prefix[len(self.prefix) : -1]
        return symbol if is_symbol(symbol) else None


UM_KLINES_1M = Dataset()
"""USD-M futures, daily files of 1-minute klines."""


def is_symbol(name: str) -> bool:
    """Whether `name` can be a symbol: letters of any script without case or upper case, digits.

    Then optionally one `_YYMMDD` delivery date or `SETTLED` suffixes. A tighter pattern
    (`[A-Z0-9]{2,20}`) rejected 59 of the 1,007 real ones.
    """
    stem = unsettled(name)
    delivery = _DELIVERY.search(stem)
    if delivery:
        stem = stem[: delivery.start()]
        if _parse_yymmdd(delivery.group(1)) is None:
            return False
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


def classify(symbol: str) -> Contract:
    """Contract type, base and quote asset from the name alone.

    Raises:
        ValueError: when `symbol` is not a symbol (see `is_symbol`).
    """
    if not is_symbol(symbol):
        raise ValueError(f"{symbol!r} is not a symbol of the archive")
    stem = unsettled(symbol)
    settled = stem != symbol
    pair = _DELIVERY.sub("", stem)
    contract_type: ContractType = "perpetual"
    if settled:
        contract_type = "settled"
    elif pair != stem:
        contract_type = "delivery"
    for quote_asset in QUOTE_ASSETS:
        if pair.endswith(quote_asset) and len(pair) > len(quote_asset):
            return Contract(symbol, contract_type, pair.removesuffix(quote_asset), quote_asset)
    return Contract(symbol, contract_type, None, None)


def delivery_date(symbol: str) -> dt.date | None:
    """Delivery date in a delivery contract's name (`BTCUSDT_210326`), else None."""
    match = _DELIVERY.search(unsettled(symbol))
    return _parse_yymmdd(match.group(1)) if match else None


def _parse_date(text: str) -> dt.date | None:
    # date.fromisoformat also takes 20240115 and 2024-W03-1, which are not names of the archive.
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return None


def _parse_yymmdd(text: str) -> dt.date | None:
    return _parse_date(f"20{text[:2]}-{text[2:4]}-{text[4:]}") if text.isascii() else None
