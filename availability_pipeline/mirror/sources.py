"""The files that daily volume is read from: which datasets, and what an open record has of them.

Apart from `volume`, which fetches them: a reader that judges needs nothing to fetch with.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from availability_pipeline.archive.datasets import Dataset, configured
from availability_pipeline.record.status import scope
from availability_pipeline.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MARKETS = ("um", "cm", "spot")


def daily_of(market: str) -> Dataset:
    """The dataset of a market's daily 1d klines."""
    return Dataset(market, "daily", "klines", "1d")


def monthly_of(market: str) -> Dataset:
    """The dataset of its monthly ones."""
    return Dataset(market, "monthly", "klines", "1d")


def markets_of(configured: Collection[Dataset]) -> list[str]:
    """The markets whose daily volume can be read: those of which daily 1d klines are recorded."""
    return [market for market in MARKETS if daily_of(market) in configured]


def configured_markets(limits: Settings) -> list[str]:
    """The markets whose volume is read, of what AVAILABILITY_DATASETS says."""
    return markets_of(configured(limits))


SAME_VERSION = """(f.etag IS NOT DISTINCT FROM a.etag AND (a.etag IS NOT NULL
    OR (f.file_size_bytes, f.last_modified) = (a.file_size_bytes, a.last_modified)))"""
"""SQL: the file that was read (f) is of the version that the record has (a)."""


def every_file(con: "DuckDBPyConnection", market: str) -> str:
    """SQL of the files that an open record has of a market's 1d klines, daily and monthly ones."""
    t, months = scope(con, daily_of(market)), scope(con, monthly_of(market))
    columns = "symbol, date AS period, file_size_bytes, etag, last_modified, recorded_at"
    return f"""SELECT false AS monthly, {columns} FROM {t.files}
        UNION ALL SELECT true, {columns} FROM {months.files}"""
