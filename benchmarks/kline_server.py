"""A local download host of 1d klines: a real file for each key, made up from its period.

    python -m benchmarks.kline_server --latency-ms 20     # prints its URL

All symbols have the same numbers, so that the files of a period are made once; `body` says
beforehand what a record must have for them.
"""

import calendar
import datetime as dt
import hashlib
import io
import zipfile
from dataclasses import dataclass
from functools import cache

from availability_pipeline.archive.datasets import Dataset
from benchmarks import archive_server

DAILY = Dataset.parse("um/daily/klines/1d")
MONTHLY = Dataset.parse("um/monthly/klines/1d")

_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore\n"
)


@dataclass(frozen=True)
class Body:
    """What the files of a period have, with its sums in hex."""

    content: bytes
    md5: str
    sha256: str


@cache
def body(monthly: bool, period: dt.date) -> Body:
    """The file of a date or a month."""
    days = calendar.monthrange(period.year, period.month)[1] if monthly else 1
    rows = "".join(_row(period + dt.timedelta(n)) for n in range(days))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("X-1d.csv", (2024, 1, 1, 0, 0, 0)), _HEADER + rows)
    content = made.getvalue()
    return Body(content, hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest())


def _row(date: dt.date) -> str:
    opened = (date - dt.date(1970, 1, 1)).days * 86_400_000
    seed = date.toordinal() * 7919 % 1000
    return (
        f"{opened},{seed + 100}.23000,{seed + 150}.1,{seed + 90}.63,{seed + 120}.7,"
        f"{298_900 + seed}.123,{opened + 86_399_999},{12_586_245 + seed}.1234,{3456 + seed},"
        f"{145_678 + seed}.123,{6_123_456 + seed}.12,0\n"
    )


class _Klines(archive_server.Connection):
    def respond(self, head: bytes) -> bytes:
        _, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
        key = target.lstrip("/")
        name = key.rpartition("/")[2].removesuffix(".CHECKSUM")
        monthly = "/monthly/" in key
        text = name.removesuffix(".zip")
        period = dt.date.fromisoformat(f"{text[-7:]}-01" if monthly else text[-10:])
        found = body(monthly, period)
        if key.endswith(".CHECKSUM"):
            content = f"{found.sha256}  {name}\n".encode()
            return archive_server.answer(200, len(content), "text/plain") + content
        more = f'ETag: "{found.md5}"\r\n'
        return (
            archive_server.answer(200, len(found.content), "application/zip", more) + found.content
        )


if __name__ == "__main__":
    given = archive_server.options(__doc__ or "").parse_args()
    archive_server.serve_with(lambda: _Klines(given.latency_ms / 1000), given)
