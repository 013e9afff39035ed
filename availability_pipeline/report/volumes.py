"""What was traded, as the report shows it: a line a quote asset, and the largest of the last date.

Quote assets are never added up or put on one axis: each is a unit of its own.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import duckdb
import numpy as np
import numpy.typing as npt

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.errors import MissingDatabaseError
from availability_pipeline.queries.volume import Market, rankings
from availability_pipeline.record import volumes

MOST_ASSETS = 5
"""Quote assets that have a line: those in which most is traded, by symbols and dates."""

MOST_SYMBOLS = 20
"""Of the largest symbols so many are shown."""

_MARKETS: tuple[Market, ...] = get_args(Market)


@dataclass(frozen=True)
class Volume:
    """A market's daily volume.

    Attributes:
        traded: of each quote asset that is shown (in cm base asset), most symbols first, the
            volume of each date; NaN where nothing was read, or where a file is pending or was not
            read, so that the sum is not known.
        others: how many more quote assets there are.
        last: the last date that was read.
        asset: the quote asset whose largest symbols are shown.
        top: these: rank, symbol, volume, share (None while it is not known), change of the rank
            over seven days (None without one).
        symbols: how many there are of that asset on that date.
    """

    traded: Mapping[str, npt.NDArray[np.float64]]
    others: int
    last: dt.date
    asset: str
    top: tuple[tuple[int, str, float, float | None, int | None], ...]
    symbols: int


def shown_for(dataset: Dataset) -> Market | None:
    """The market whose volume a dataset's page shows: of its source, the daily 1d klines."""
    return next((m for m in _MARKETS if dataset == Dataset(m, "daily", "klines", "1d")), None)


def load(
    path: Path, market: Market, start: dt.date, days: int, wait_seconds: float
) -> Volume | None:
    """Read a market's volume; None where there is none.

    Args:
        path: the file of volumes.
        market: `um`, `cm` or `spot`.
        start: first date of the report.
        days: how many dates it has.
        wait_seconds: how long to wait for a writer.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        with volumes.reader(path, wait_seconds) as con:
            return _load(con, market, start, days)
    except MissingDatabaseError:
        return None


def _load(
    con: duckdb.DuckDBPyConnection, market: Market, start: dt.date, days: int
) -> Volume | None:
    of = "WHERE market = $1 AND quote_asset IS NOT NULL"
    counted = con.execute(
        f"""SELECT quote_asset, max(date) FROM daily_volume {of}
        GROUP BY 1 ORDER BY count(*) DESC, 1""",
        [market],
    ).fetchall()
    if not counted:
        return None
    assets = [asset for asset, _ in counted]
    traded = {asset: np.full(days, np.nan) for asset in assets[:MOST_ASSETS]}
    for asset, date, volume in con.execute(
        f"""SELECT quote_asset, date, sum(quote_volume) FROM daily_volume v {of}
            AND NOT EXISTS (SELECT 1 FROM lacking l WHERE l.market = v.market
                AND l.date = v.date AND l.quote_asset = v.quote_asset)
        GROUP BY ALL""",
        [market],
    ).fetchall():
        if asset in traded and 0 <= (n := (date - start).days) < days:
            traded[asset][n] = volume
    last = max(date for _, date in counted)
    # Of the assets that are still traded: BUSD has a long history.
    asset = next(asset for asset, date in counted if date == last)
    found = rankings(con, last, quote_asset=asset, market=market).dicts()
    keys = ("rank", "symbol", "quote_volume", "share", "rank_change_7d")
    top = tuple(tuple(row[key] for key in keys) for row in found[:MOST_SYMBOLS])
    return Volume(traded, len(assets) - len(traded), last, asset, top, len(found))
