"""What several tests need: listings made by hand, a clock's instants, a filled database."""

import datetime as dt
from collections.abc import Iterable, Mapping

import pandas as pd

from availability_pipeline.listing import Listing

Files = Mapping[str, Mapping[dt.date, tuple[int, dt.datetime]]]


def make_listing(
    start: dt.date,
    end: dt.date,
    files: Files,
    *,
    server_time: dt.datetime | None = None,
) -> Listing:
    """A listing as `S3Archive.list_range` returns it, from {symbol: {date: (size, time)}}.

    Every key is a symbol with a folder, also one without any file.
    """
    symbols = tuple(sorted(files))
    found = [
        (symbols.index(symbol), date, size, time)
        for symbol in symbols
        for date, (size, time) in sorted(files[symbol].items())
    ]
    codes, dates, sizes, times = ([row[n] for row in found] for n in range(4))
    return Listing(
        start=start,
        end=end,
        symbols=symbols,
        files=pd.DataFrame(
            {
                "symbol": pd.Categorical.from_codes(codes, categories=pd.Index(symbols)),
                "date": pd.to_datetime(pd.Series(dates, dtype="datetime64[us]")),
                "file_size_bytes": pd.array(sizes, dtype="int64"),
                "last_modified": pd.to_datetime(
                    pd.Series([t.isoformat() for t in times], dtype="str"),
                    format="ISO8601",
                    utc=True,
                ),
            }
        ),
        requests=len(symbols) + 1,
        server_time=server_time,
    )


def published(date: dt.date, size: int = 1000, hours: float = 8) -> tuple[int, dt.datetime]:
    """(size, last_modified) of a file that came `hours` after its date ended."""
    midnight = dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC)
    return size, midnight + dt.timedelta(days=1, hours=hours)


def days(start: dt.date, end: dt.date) -> list[dt.date]:
    """All dates from `start` to `end`, both included."""
    return [start + dt.timedelta(n) for n in range((end - start).days + 1)]


def steady(dates: Iterable[dt.date], size: int = 1000) -> dict[dt.date, tuple[int, dt.datetime]]:
    """Files of a symbol that published on each of `dates`."""
    return {date: published(date, size) for date in dates}
