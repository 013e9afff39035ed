"""Listings made by hand, for tests that need no archive."""

import datetime as dt
import time
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import pandas as pd

from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.archive.listing import NOTHING_RECORDED, Listing, Recorded

D = dt.date

PATIENCE = 400
"""Seconds that a test waits for another process or thread: only what hangs takes them. Nothing
else bounds how long one takes; the machine may be doing other things."""

T = TypeVar("T")


def wait_for(what: Callable[[], T], every: float = 0.05) -> T:
    """The first true answer of `what`, asked again and again."""
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline, "never came true"
        time.sleep(every)
    return found


Files = Mapping[dt.date, tuple[int, dt.datetime]]
"""One symbol's files: date -> (size in bytes, last modified)."""


def make_listing(
    start: dt.date,
    end: dt.date,
    files: Mapping[str, Files],
    server_time: dt.datetime | None = None,
    recorded: Recorded = NOTHING_RECORDED,
    dataset: Dataset = UM_KLINES_1M,
    leave_out: Collection[str] = (),
) -> Listing:
    """A whole listing as `S3Archive.list_range` returns it; files out of its range are left out.

    Every key of `files` is a symbol with a folder, also one without any file.
    """
    symbols = tuple(sorted(files))
    behind = recorded.behind(symbols, start, end)
    first, last = recorded.span(start, end) if behind else (start, end)
    ended = frozenset(leave_out) - (recorded.news(symbols) if recorded.last else frozenset())
    rows = [
        (code, date, size, time)
        for code, symbol in enumerate(symbols)
        for date, (size, time) in sorted(files[symbol].items())
        if symbol not in ended
        and (first <= date <= last if symbol in behind else start <= date <= end)
    ]
    codes, dates, sizes, times = ([row[n] for row in rows] for n in range(4))
    frame = pd.DataFrame(
        {
            "symbol": pd.Categorical.from_codes(codes, categories=pd.Index(symbols)),
            "date": pd.Series(dates, dtype="datetime64[us]"),
            "file_size_bytes": pd.array(sizes, dtype="int64"),
            "last_modified": pd.to_datetime(
                pd.Series([time.isoformat() for time in times], dtype="str"),
                format="ISO8601",
                utc=True,
            ),
            # The content is its size, as in the benchmarks' living archive.
            "etag_high": pd.array([0] * len(sizes), dtype="uint64"),
            "etag_low": pd.array(sizes, dtype="uint64"),
        }
    )
    return Listing(
        start, end, symbols, frame, requests=1, server_time=server_time,
        widened=behind, widened_start=first, widened_end=last, dataset=dataset,
        left_out=ended.intersection(symbols),
    )  # fmt: skip


def published(date: dt.date, hour: int = 8) -> dt.datetime:
    """When the archive usually publishes a date: the next day at about 8:00 UTC."""
    return dt.datetime.combine(date + dt.timedelta(1), dt.time(hour), dt.UTC)


def days(start: dt.date, end: dt.date) -> list[dt.date]:
    """All dates from `start` to `end`, both included."""
    return [start + dt.timedelta(n) for n in range((end - start).days + 1)]


def flat(start: dt.date, end: dt.date, size: int = 100) -> dict[dt.date, tuple[int, dt.datetime]]:
    """A file for each date, published as usual."""
    return {date: (size, published(date)) for date in days(start, end)}
