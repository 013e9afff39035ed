"""The questions people ask, each a function from a connection to rows.

A date without rows was never probed: asking for it raises instead of answering with nothing. In a
notebook, `open` is all it takes; its methods give pandas frames:

    from availability_pipeline import queries
    record = queries.open()
    record.snapshot("2024-01-15")

With a connection (`record.connection()`) the functions give `Rows`; `.frame()` makes the frame.
Dates are UTC dates (`datetime.date`), sizes bytes, instants aware UTC. `quote_asset` ("USDT") and
`contract_type` ("perpetual", "delivery", "settled"), one or a list of them, restrict the symbols.
An argument that cannot be meant is a `ValueError` or `TypeError` with the choices.

What is about volume (`volume`, `rankings`, `write_rankings`) takes a connection to the file of
volumes instead, as `record.volumes.reader` or `record.volume_connection()` gives it.
"""

from availability_pipeline.dates import DateLike
from availability_pipeline.queries.answers import (
    Connection,
    NotProbedError,
    QueryError,
    Rows,
    UnknownSymbolError,
)
from availability_pipeline.queries.files import (
    Status,
    counts,
    coverage,
    holes,
    missing_dates,
    snapshot,
    symbols_in_range,
    timeline,
)
from availability_pipeline.queries.notebook import open  # noqa: A004 - as in `zipfile`, `gzip`
from availability_pipeline.queries.own import sql
from availability_pipeline.queries.plan import Plan, plan
from availability_pipeline.queries.revisions import changes, original_symbol, renames, revisions
from availability_pipeline.queries.symbols import (
    delistings,
    delistings_confirmed,
    listings,
    new_listings,
    summary,
    symbol_coverage,
)
from availability_pipeline.queries.universe import By, Universe, Unknown, universe, write_universe
from availability_pipeline.queries.volume import Market, rankings, volume, write_rankings

__all__ = [
    "By",
    "Connection",
    "DateLike",
    "Market",
    "NotProbedError",
    "Plan",
    "QueryError",
    "Rows",
    "Status",
    "Universe",
    "Unknown",
    "UnknownSymbolError",
    "changes",
    "counts",
    "coverage",
    "delistings",
    "delistings_confirmed",
    "holes",
    "listings",
    "missing_dates",
    "new_listings",
    "open",
    "original_symbol",
    "plan",
    "rankings",
    "renames",
    "revisions",
    "snapshot",
    "sql",
    "summary",
    "symbol_coverage",
    "symbols_in_range",
    "timeline",
    "universe",
    "volume",
    "write_rankings",
    "write_universe",
]
