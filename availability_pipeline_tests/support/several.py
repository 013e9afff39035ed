"""A record of several datasets: daily and monthly ones, of two markets that share a symbol."""

import atexit
import datetime as dt
import shutil
import tempfile
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support.helpers import D, Files, flat, make_listing

START, END = D(2024, 1, 1), D(2024, 1, 20)
SETTLED = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)

FUNDING = Dataset.parse("um/monthly/fundingRate")
TRADES = Dataset.parse("spot/daily/trades")
STOPPED = Dataset.parse("um/daily/bookTicker")

SHARED = "BTCUSDT"
"""A symbol of all of them, with other files in each."""


def write_dataset(
    path: Path,
    dataset: Dataset,
    files: Mapping[str, Files],
    start: dt.date = START,
    end: dt.date = END,
    at: dt.datetime = SETTLED,
) -> None:
    """One probe of a dataset."""
    listing = make_listing(start, end, files, dataset=dataset)
    with writer(path) as con:
        store.write_probe(con, listing, probed_at=at, run_id="run", accept_shrunken=True)


def by_month(
    first: dt.date, last: dt.date, size: int = 100
) -> dict[dt.date, tuple[int, dt.datetime]]:
    """A file for each month, published on the morning after."""
    return {
        month: (size, dt.datetime.combine(FUNDING.shift(month, 1), dt.time(8), dt.UTC))
        for month in FUNDING.periods(first, last)
    }


def write_three(path: Path, only: Collection[Dataset] = ()) -> None:
    """Daily klines and monthly funding rates of USD-M futures, and spot's trades; or some of them.

    Each has a hole of its own, and the sizes are 100, 300 and 500.
    """
    # Written once a process, for 140 tests: it takes half a second.
    shutil.copy(_three(frozenset(only)), path)


@cache
def _three(only: frozenset[Dataset]) -> Path:
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "record.duckdb"
    klines = {SHARED: flat(START, END), "AUSDT": flat(START, END), "BUSDT": flat(START, END)}
    del klines[SHARED][D(2024, 1, 5)]
    months = {SHARED: by_month(D(2022, 11, 1), D(2024, 1, 1), 300),
              "AUSDT": by_month(D(2023, 1, 1), D(2024, 1, 1), 300)}  # fmt: skip
    del months[SHARED][D(2023, 6, 1)]
    trades = {SHARED: flat(D(2024, 1, 3), END, 500), "CUSDT": flat(START, END, 500)}
    del trades[SHARED][D(2024, 1, 7)], trades[SHARED][D(2024, 1, 8)]
    for dataset, files, start, end in (
        (UM_KLINES_1M, klines, START, END),
        (FUNDING, months, D(2022, 11, 1), D(2024, 1, 1)),
        (TRADES, trades, START, END),
    ):
        if not only or dataset in only:
            write_dataset(path, dataset, files, start, end)
    return path
