"""Listings made by hand, for tests that need no archive."""

import datetime as dt
from collections.abc import Mapping

import pandas as pd

from availability_pipeline.listing import Listing

D = dt.date


def published(date: dt.date, hour: int = 8) -> dt.datetime:
    """When the archive usually publishes a date: the next day at about 8:00 UTC."""
    return dt.datetime.combine(date + dt.timedelta(1), dt.time(hour), dt.UTC)


def days(start: dt.date, end: dt.date) -> list[dt.date]:
    return [start + dt.timedelta(n) for n in range((end - start).days + 1)]


def make_listing(
    start: dt.date,
    end: dt.date,
    files: Mapping[str, Mapping[dt.date, tuple[int, dt.datetime]]],
    server_time: dt.datetime | None = None,
) -> Listing:
    """A whole listing: symbol -> date -> (size in bytes, last modified)."""
    symbols = tuple(sorted(files))
    rows = [
        (s, d, size, time)
        for s in symbols
        for d, (size, time) in sorted(files[s].items())
        if start <= d <= end
    ]
    frame = pd.DataFrame(
        {
            "symbol": pd.Categorical([r[0] for r in rows], categories=list(symbols)),
            "date": pd.to_datetime(pd.Series([r[1] for r in rows], dtype="object")),
            "file_size_bytes": pd.array([r[2] for r in rows], dtype="int64"),
            "last_modified": pd.to_datetime(
                pd.Series([r[3].isoformat() for r in rows], dtype="str"), utc=True
            ),
        }
    )
    return Listing(start, end, symbols, frame, requests=1, server_time=server_time)


def flat(start: dt.date, end: dt.date, size: int = 100) -> dict[dt.date, tuple[int, dt.datetime]]:
    """A file for each date, published as usual."""
    return {d: (size, published(d)) for d in days(start, end)}
