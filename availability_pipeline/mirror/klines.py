"""What a 1d kline file says of its days: read strictly, or not taken.

A file is a zip with one CSV of twelve columns, with or without a header. Times are milliseconds,
of spot from 2025-01-01 on microseconds. In `cm` the volume counts contracts, and the column that
is the quote asset's elsewhere is the base asset's.

Facts: https://github.com/binance/binance-public-data (README, issues #359, #403, #469).
"""

import datetime as dt
import io
import struct
import zipfile
import zlib
from typing import NamedTuple

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.masking import printable

MOST_BYTES = 2**20
"""A CSV larger than this is not read: 31 rows are 6 kB."""

FIELDS = 12

_HEADER = b"open_time,open,high,low,close,"
_NUMERIC = b"0123456789.,-+eE\r\n"
_MOST_WIDE = 400
"""Characters of a row that are read; Binance's have 150."""

_MICROSECONDS = 10**14
"""Times from this on are microseconds: in milliseconds it is the year 5138."""

# What `zipfile` and what it stands on may raise of bytes that are not a zip.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, struct.error,
    OverflowError,
)  # fmt: skip

_MOST_TRADES = 2**63

_DAY_MS = 86_400_000
_EPOCH = dt.date(1970, 1, 1).toordinal()


class KlineError(ValueError):
    """A file is not taken; the text says what is wrong with it, in a few words."""


class Kline(NamedTuple):
    """One day.

    Attributes:
        date: UTC.
        open, high, low, close: prices in the quote asset.
        volume: in the base asset; in `cm` contracts.
        quote_volume: in the quote asset; in `cm` in the base asset.
        trades: how many.
        taker_buy_volume, taker_buy_quote_volume: of both the part that takers bought.
    """

    date: dt.date
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trades: int
    taker_buy_volume: float
    taker_buy_quote_volume: float


def read(content: bytes, dataset: Dataset, period: dt.date) -> list[Kline]:
    """The days of a file, in order.

    Args:
        content: of the zip.
        dataset: daily or monthly 1d klines.
        period: the file's date, or the first day of its month.

    Raises:
        KlineError: it is broken, or says anything that cannot be.
    """
    lines = _text(content).split(b"\n")
    if lines[0].startswith(_HEADER):
        del lines[0]
    while lines and not lines[-1].strip():
        del lines[-1]
    if not lines:
        raise KlineError("its CSV has no row")
    last = dataset.last_day(period)
    days: list[Kline] = []
    for n, line in enumerate(lines, 1):
        day = _row(line, n)
        if not period <= day.date <= last:
            raise KlineError(f"row {n} is of {day.date}")
        if days and day.date <= days[-1].date:
            raise KlineError(f"row {n} is of {day.date}, after {days[-1].date}")
        days.append(day)
    return days


def _text(content: bytes) -> bytes:
    """The one CSV of a zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            if len(members) != 1:
                raise KlineError(f"its zip has {len(members)} files instead of one CSV")
            if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise KlineError("its zip is compressed in a way of its own")
            if members[0].file_size > MOST_BYTES:
                raise KlineError(f"its CSV has {members[0].file_size:,} bytes")
            if not members[0].filename.endswith(".csv"):
                raise KlineError(f"its zip has no CSV but {printable(members[0].filename)[:80]}")
            # Not more than it says: what follows is compared with its CRC.
            return archive.read(members[0])
    except KlineError:
        raise
    except _BROKEN as error:
        raise KlineError(f"its zip is broken ({printable(str(error))[:80]})") from None


def _row(line: bytes, n: int) -> Kline:
    line = line.rstrip(b"\r")
    if len(line) > _MOST_WIDE:
        raise KlineError(f"row {n} has {len(line)} characters")
    if strange := line.translate(None, _NUMERIC):
        what = "a header" if line.startswith(_HEADER[:9]) else repr(strange[:20].decode("latin-1"))
        raise KlineError(f"row {n} has {what} where numbers should be")
    fields = line.split(b",")
    if len(fields) != FIELDS:
        raise KlineError(f"row {n} has {len(fields)} of {FIELDS} columns")
    try:
        opened, trades = int(fields[0]), int(fields[8])
        numbers = [float(fields[n]) for n in (1, 2, 3, 4, 5, 7, 9, 10)]
    except ValueError as error:
        raise KlineError(f"row {n}: {printable(str(error))[:80]}") from None
    if opened >= _MICROSECONDS:
        opened, rest = divmod(opened, 1000)
    else:
        rest = 0
    day, within = divmod(opened, _DAY_MS)
    if within or rest or not 0 < day < 100_000:
        raise KlineError(f"row {n} opens at {fields[0].decode()}; no UTC midnight")
    # Numbers like 1e999 are infinite; letters, and so nan, were refused above.
    if max(numbers) == float("inf") or min(numbers) < 0 or not 0 <= trades < _MOST_TRADES:
        raise KlineError(f"row {n} has a number that is negative or too large")
    opening, high, low, close, volume, quote_volume, taker, taker_quote = numbers
    if high < low:
        raise KlineError(f"row {n}: its high {high:g} is below its low {low:g}")
    date = dt.date.fromordinal(_EPOCH + day)
    return Kline(date, opening, high, low, close, volume, quote_volume, trades, taker, taker_quote)
