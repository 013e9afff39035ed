"""The columns of the tables that are assets: their DDL and what the catalogue shows of them.

One source for both, so that neither can say what the other does not do. The other tables are
described by their DDL alone (`schema`).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: of the column.
        type: DuckDB's.
        description: what a value means, and what NULL does.
        required: it is never NULL.
    """

    name: str
    type: str
    description: str
    required: bool = False


TABLE = "daily_availability"
"""The table of the rows, and the asset that writes it."""

COLUMNS: dict[str, tuple[Column, ...]] = {
    TABLE: (
        Column("date", "DATE", "UTC date that was probed.", required=True),
        Column("symbol", "VARCHAR", "Symbol, as its folder is named.", required=True),
        Column("available", "BOOLEAN", "The file was listed.", required=True),
        Column("file_size_bytes", "BIGINT", "Size of the file; NULL without one."),
        Column("last_modified", "TIMESTAMPTZ", "Published at, or last replaced; NULL without one."),
        Column("probe_timestamp", "TIMESTAMPTZ", "When the date was probed last.", required=True),
    ),
    "symbol_listings": (
        Column("symbol", "VARCHAR", "Symbol, as its folder is named.", required=True),
        Column("contract_type", "VARCHAR", "perpetual, delivery or settled."),
        Column("base_asset", "VARCHAR", "BTC of BTCUSDT; NULL where the name does not say it."),
        Column("quote_asset", "VARCHAR", "USDT of BTCUSDT; NULL where the name does not say it."),
        Column("first_available", "DATE", "Date of the first file; NULL without any."),
        Column("last_available", "DATE", "Date of the last file; NULL without any."),
        Column("days_available", "BIGINT", "Dates with a file."),
        Column("hole_days", "BIGINT", "Confirmed absences between first and last file."),
        Column("state", "VARCHAR", "live, ended or settled."),
    ),
    "daily_summary": (
        Column("date", "DATE", "UTC date that was probed.", required=True),
        Column("symbols_probed", "BIGINT", "Symbols with a row on this date."),
        Column("expected", "BIGINT", "Symbols between their first and last file, or live."),
        Column("available", "BIGINT", "Symbols with a file."),
        Column("pending", "BIGINT", "Symbols without one, probed too early to say."),
        Column("absent", "BIGINT", "Symbols without one, confirmed."),
        Column("new_listings", "BIGINT", "First files; NULL after a date that was not probed."),
        Column("ended", "BIGINT", "Symbols whose last file is of the date before; NULL likewise."),
        Column("bytes", "BIGINT", "Size of all files."),
        Column("lag_p50_hours", "DOUBLE", "Median time from the end of the date to its files."),
        Column("lag_p95_hours", "DOUBLE", "95th percentile of the same."),
    ),
}
"""Table -> its columns, in their order."""


def create_table(table: str) -> str:
    """The DDL of one of these tables."""
    columns = (f"{c.name} {c.type}{' NOT NULL' if c.required else ''}" for c in COLUMNS[table])
    definitions = ", ".join(columns)
    return f"CREATE TABLE {table} ({definitions})"
