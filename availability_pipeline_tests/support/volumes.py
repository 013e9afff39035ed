"""Rows in a file of volumes, without files and hosts, for questions about them."""

import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path

from availability_pipeline.record import volumes
from availability_pipeline_tests.support.klines import kline


def write(
    path: Path,
    traded: Mapping[tuple[str, dt.date], float | None],
    quotes: Mapping[str, str | None],
    *,
    market: str = "um",
    lacking: Iterable[tuple[dt.date, str, int]] = (),
) -> None:
    """Add a market's rows.

    Args:
        path: the file; made where it is missing.
        traded: quote volume by symbol and date; None is some volume, the same every time.
        quotes: the quote asset of each symbol.
        market: `um`, `cm` or `spot`.
        lacking: dates, quote assets, and how many of their files are pending or not read.
    """
    with volumes.writer(path) as con:
        rows = []
        for (symbol, date), quote_volume in traded.items():
            day = kline(symbol, date)
            if quote_volume is not None:
                day = day._replace(quote_volume=quote_volume)
            rows.append((market, False, symbol, *day, None))
        if rows:
            values = ", ".join("?" * len(rows[0]))
            con.executemany(f"INSERT INTO klines VALUES ({values})", rows)
        if quotes:
            con.executemany(
                "INSERT INTO symbols VALUES (?, ?, ?)",
                [(market, symbol, quote) for symbol, quote in quotes.items()],
            )
        for date, quote, files in lacking:
            con.execute("INSERT INTO lacking VALUES (?, ?, ?, ?)", [market, date, quote, files])
