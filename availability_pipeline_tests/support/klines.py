"""1d kline files as the archive has them, and what they say."""

import datetime as dt
import hashlib
import io
import random
import zipfile
from collections.abc import Iterable, Mapping

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.mirror.klines import Kline
from availability_pipeline_tests.support.download_host import Host

DAILY = Dataset.parse("um/daily/klines/1d")
MONTHLY = Dataset.parse("um/monthly/klines/1d")

HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)


def kline(symbol: str, date: dt.date, version: int = 1) -> Kline:
    """A symbol's day, the same every time."""
    seed = hashlib.sha256(f"{symbol} {date} {version}".encode()).digest()
    rng = random.Random(int.from_bytes(seed[:8]))
    low = round(rng.uniform(0.1, 5), 5)
    high = round(low * rng.uniform(1, 2), 5)
    opening, close = (round(rng.uniform(low, high), 5) for _ in range(2))
    volume = round(rng.uniform(1, 1e9), 3)
    quote = round(volume * (low + high) / 2, 4)
    return Kline(
        date, opening, high, low, close, volume, quote, rng.randrange(10**6),
        round(volume / 3, 3), round(quote / 3, 4),
    )  # fmt: skip


def row(day: Kline, *, micro: bool = False) -> str:
    """A line of a CSV."""
    opened = int(dt.datetime.combine(day.date, dt.time(), dt.UTC).timestamp() * 1000)
    closed = opened + 86_400_000 - 1
    if micro:
        opened, closed = opened * 1000, closed * 1000 + 999
    numbers = [f"{x:.8f}".rstrip("0") for x in day[1:7]]
    return ",".join(
        [str(opened), *numbers[:5], str(closed), numbers[5], str(day.trades),
         f"{day.taker_buy_volume:.3f}", f"{day.taker_buy_quote_volume:.4f}", "0"]
    )  # fmt: skip


def zipped(*texts: str, name: str = "X-1d.csv", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with one CSV a text."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for n, text in enumerate(texts):
            info = zipfile.ZipInfo(f"{n or ''}{name}", (2024, 1, 1, 0, 0, 0))
            archive.writestr(info, text, method)
    return made.getvalue()


def file(days: Iterable[Kline], *, header: bool = True, micro: bool = False) -> bytes:
    """A whole file."""
    rows = [row(day, micro=micro) for day in days]
    return zipped("\n".join([HEADER, *rows] if header else rows) + "\n")


def publish(
    host: Host,
    values: Mapping[tuple[str, dt.date], Kline],
    months: Iterable[dt.date] = (),
    daily: Dataset = DAILY,
) -> None:
    """Put daily files on the host, and monthly ones of these months."""
    for (symbol, date), day in values.items():
        micro = daily.market == "spot" and date >= dt.date(2025, 1, 1)
        host.files[daily.key(symbol, date)] = file([day], header=date.day % 2 == 0, micro=micro)
    for month in months:
        for symbol in {symbol for symbol, _ in values}:
            days = [day for (name, date), day in values.items()
                    if name == symbol and MONTHLY.period_of(date) == month]  # fmt: skip
            if days:
                host.files[MONTHLY.key(symbol, month)] = file(days, header=len(symbol) % 2 == 0)
