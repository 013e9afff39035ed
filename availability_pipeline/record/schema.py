"""The tables and the view: their DDL, migrations and proof, and what a status and a hole are.

The columns of the tables that are assets have descriptions, from which the DDL and what Dagster's
catalogue shows are both made.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import duckdb

from availability_pipeline import PROGRAM
from availability_pipeline.archive.datasets import UM_KLINES_1M
from availability_pipeline.errors import (
    ForeignDatabaseError,
    MissingDatabaseError,
    NewerSchemaError,
    StoreError,
)
from availability_pipeline.masking import printable


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


SCHEMA_VERSION = 3

SETTLE_DAYS = "3"
"""Days until a date settles, until the first probe writes its own setting."""

REMEDY_FOREIGN = "choose another file with AVAILABILITY_DB"
REMEDY_MISSING = f"run `{PROGRAM} backfill` or `{PROGRAM} update manual` first"


def settled_at(date: str) -> str:
    """SQL: the end of a date plus the settling time, as an instant.

    `date` is the SQL of that date; the session's time zone does not matter.
    """
    return f"""timezone('UTC', {date}::TIMESTAMP + to_days(
    1 + (SELECT value::INTEGER FROM meta WHERE key = 'settle_days')))"""  # noqa: S608


_ACKNOWLEDGEMENTS = """CREATE TABLE acknowledgements (
        date DATE NOT NULL, symbol VARCHAR, reason VARCHAR NOT NULL,
        acknowledged_at TIMESTAMPTZ NOT NULL)"""


def status_sql(row: str, settled: str | None = None) -> str:
    """SQL of a row's status: `available`, `pending` or `absent`; what has no row is `unknown`.

    Args:
        row: its alias.
        settled: `settled_at` of its date, where the query has it once a date (`PROBES`) and need
            not compute it once a row: 2,600 times instead of 2.6 million.
    """
    return f"""CASE WHEN {row}.available THEN 'available'
        WHEN {row}.probe_timestamp < {settled or settled_at(f"{row}.date")} THEN 'pending'
        ELSE 'absent' END"""


PROBES = f"""(SELECT *, probed_at >= settled_at AS settled
    FROM (SELECT *, {settled_at("date")} AS settled_at FROM probes))"""  # noqa: S608 - our own words
"""What to put after FROM for the probes, each with the end of its date's settling time.

And whether it had settled when it was probed; then all rows of the date had: none is older.
"""


def holes_sql(windows: str) -> str:
    """SQL of all holes, as symbol and date: confirmed absences between first and last file.

    `windows` has `symbol`, `first_available` and `last_available`. As in `status_sql`, a row's own
    probe decides whether its absence is confirmed, and what has no row is unknown.
    """
    return f"""SELECT d.symbol, d.date FROM daily_availability d
        JOIN (SELECT symbol, first_available, last_available FROM {windows}) w USING (symbol)
        JOIN {PROBES} p USING (date)
        WHERE NOT d.available AND d.date > w.first_available AND d.date < w.last_available
            AND {status_sql("d", "p.settled_at")} = 'absent'"""  # noqa: S608 - our own words


DDL = (
    "CREATE TABLE meta (key VARCHAR NOT NULL, value VARCHAR NOT NULL)",
    create_table(TABLE),
    """CREATE TABLE symbols (
        symbol VARCHAR NOT NULL, contract_type VARCHAR NOT NULL, base_asset VARCHAR,
        quote_asset VARCHAR, first_seen TIMESTAMPTZ NOT NULL, last_seen TIMESTAMPTZ NOT NULL)""",
    """CREATE TABLE probes (
        date DATE NOT NULL, probed_at TIMESTAMPTZ NOT NULL, symbols BIGINT NOT NULL,
        available BIGINT NOT NULL, run_id VARCHAR NOT NULL)""",
    """CREATE TABLE revisions (
        date DATE NOT NULL, symbol VARCHAR NOT NULL, observed_at TIMESTAMPTZ NOT NULL,
        change VARCHAR NOT NULL, old_size BIGINT, new_size BIGINT,
        old_last_modified TIMESTAMPTZ, new_last_modified TIMESTAMPTZ, run_id VARCHAR NOT NULL)""",
    create_table("symbol_listings"),
    create_table("daily_summary"),
    _ACKNOWLEDGEMENTS,
    # What is interpolated are our own words.
    f"""CREATE VIEW availability AS
        SELECT d.date, d.symbol, d.available, d.file_size_bytes, d.last_modified,
            d.probe_timestamp,
            {status_sql("d")} AS status,
            s.contract_type, s.base_asset, s.quote_asset,
            {UM_KLINES_1M.url_sql("d.symbol", "d.date")} AS url,
            CASE WHEN d.available THEN 200 ELSE 404 END AS status_code
        FROM daily_availability d LEFT JOIN symbols s USING (symbol)""",  # noqa: S608
)

MIGRATIONS: dict[int, tuple[str, ...]] = {
    2: (_ACKNOWLEDGEMENTS, "DELETE FROM meta WHERE key LIKE 'derived.%'"),
    # The derived tables were written apart from the rows, and said which write they had seen.
    3: ("DELETE FROM meta WHERE key LIKE 'derived.%' OR key = 'writes'",),
}
"""version -> statements that lead to it from the version before; never edit one that shipped.

After them the derived tables are computed again. So far each only adds tables. One that alters a
table or the view must also tell `require_ours` the text that the version before has, or it refuses
every record of that version.
"""


@contextlib.contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All or nothing, whatever is raised inside."""
    con.execute("BEGIN")
    try:
        yield
        con.execute("COMMIT")
    except BaseException:
        # A failed COMMIT or a full disk has already ended the transaction: the first error counts.
        with contextlib.suppress(duckdb.Error):
            con.execute("ROLLBACK")
        raise


def ensure_schema(
    con: duckdb.DuckDBPyConnection, derive: Callable[[duckdb.DuckDBPyConnection], None]
) -> None:
    """Create or migrate the tables, in one transaction.

    Args:
        con: a read-write connection.
        derive: computes the derived tables again, after a migration.

    Raises:
        ForeignDatabaseError: the database has tables, but not ours.
        NewerSchemaError: it is of a later version.
    """
    fresh = not _names(con)
    version = 0 if fresh else _version(con)
    if version == SCHEMA_VERSION:
        return
    with transaction(con):
        steps = [DDL] if fresh else [MIGRATIONS[v] for v in range(version + 1, SCHEMA_VERSION + 1)]
        for statements in steps:
            for statement in statements:
                con.execute(statement)
        set_meta(con, "schema_version", str(SCHEMA_VERSION))
        if fresh:
            set_meta(con, "settle_days", SETTLE_DAYS)  # each probe sets it again
        else:
            derive(con)


def is_unwritten(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether nothing but our empty tables is in the database, or nothing at all."""
    names = _names(con)
    return not names or ("probes" in names and not con.execute("FROM probes LIMIT 1").fetchall())


def check_schema(con: duckdb.DuckDBPyConnection, *, older_too: bool = False) -> None:
    """See that an open database can be read with this version.

    `older_too` lets one of an earlier version pass: a backup takes it as it is.

    Raises:
        MissingDatabaseError: it is empty: its first writer ended before it wrote anything.
        ForeignDatabaseError: it has tables, but not ours.
        NewerSchemaError: it is of a later version.
        StoreError: it is of an earlier version, which only a writer may migrate.
    """
    if not _names(con):
        raise MissingDatabaseError(f"{where(con)} is empty; {REMEDY_MISSING}")
    version = _version(con)
    if version < SCHEMA_VERSION and not older_too:
        raise StoreError(
            f"{where(con)} has schema version {version}, this package reads {SCHEMA_VERSION}; "
            "any update or backfill migrates it"
        )


def require_ours(con: duckdb.DuckDBPyConnection) -> None:
    """See that nothing in an open database makes our questions do more than read its rows.

    Whoever hands a database on decides what is in its catalog: a view `availability` can read any
    file or URL, and a macro `url_encode` replaces DuckDB's own function in every question. So the
    text of our tables and view is compared with ours, and there may be no macro, no trigger and no
    generated column at all. Other tables and views may be there; they are not evaluated.

    Raises:
        ForeignDatabaseError: something is not ours, or not as we made it.
        NewerSchemaError: it is of a later version, whose text is not known.
    """
    found = _objects(con)
    if not found:
        return
    macros = con.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() "
        "WHERE database_name = current_database() AND NOT internal"
    ).fetchall()
    strange = [f"the macro {name}" for (name,) in macros] + [
        f"the table {name} with a generated column"
        for name, (_, sql) in found.items()
        if "GENERATED ALWAYS AS" in sql
    ]
    with contextlib.suppress(duckdb.CatalogException):  # DuckDB has triggers from 2 on
        triggers = con.execute(
            "SELECT trigger_name FROM duckdb_triggers() WHERE database_name = current_database()"
        ).fetchall()
        strange += [f"the trigger {name}" for (name,) in triggers]
    if not strange and found.get("meta", ("",))[0] == "table":
        _version(con)  # only now may `meta` be read; of a later version it says so
    expected = _expected()
    strange += [
        f"the {kind} {name}, which is not as this package makes it"
        for name, (kind, sql) in found.items()
        if name in expected and _normal(sql) != expected[name]
    ]
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise ForeignDatabaseError(
            f"{where(con)} holds {printable(strange[0])[:200]}{more}; nothing of it was evaluated. "
            "If you made it, drop it there; otherwise do not use this file"
        )


@functools.cache
def _expected() -> dict[str, str]:
    """The text of each of our tables and views, as this DuckDB writes it. Takes 15 ms."""
    with duckdb.connect() as con:
        for statement in DDL:
            con.execute(statement)
        return {name: _normal(sql) for name, (_, sql) in _objects(con).items()}


def _objects(con: duckdb.DuckDBPyConnection) -> dict[str, tuple[str, str]]:
    """Name -> (table or view, its text), of the open database."""
    rows = con.execute(
        """SELECT schema_name, table_name, 'table', sql FROM duckdb_tables()
        WHERE database_name = current_database() AND NOT temporary
        UNION ALL SELECT schema_name, view_name, 'view', sql FROM duckdb_views()
        WHERE database_name = current_database() AND NOT internal AND NOT temporary"""
    ).fetchall()
    return {
        name if schema == "main" else f"{schema}.{name}": (kind, sql or "")
        for schema, name, kind, sql in rows
    }


def _normal(sql: str) -> str:
    """The text without what differs between the versions of DuckDB that stored or wrote it.

    A view read back from a file has fewer parentheses, and TIMESTAMP_US for TIMESTAMP. Without
    parentheses the words are still the same and in the same order, so none that reads a file.
    """
    return re.sub(r'[\s()"]', "", sql).replace("TIMESTAMP_US", "TIMESTAMP")


def where(con: duckdb.DuckDBPyConnection) -> str:
    """Path of the open database, for messages."""
    [(path,)] = con.execute(
        "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchall()
    return str(path or "the database in memory")


def get_meta(con: duckdb.DuckDBPyConnection, key: str) -> str | None:
    """A value of the `meta` table."""
    # fetchall, not fetchone: DuckDB 2 refuses other work while a result is unfinished.
    rows = con.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchall()
    return str(rows[0][0]) if rows else None


def set_meta(con: duckdb.DuckDBPyConnection, key: str, value: str) -> None:
    """Set a value of the `meta` table."""
    con.execute("DELETE FROM meta WHERE key = ?", [key])
    con.execute("INSERT INTO meta VALUES (?, ?)", [key, value])


def _names(con: duckdb.DuckDBPyConnection) -> set[str]:
    rows = con.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_catalog = current_database()"
    ).fetchall()
    return {row[0] for row in rows}


def _version(con: duckdb.DuckDBPyConnection) -> int:
    if not {"meta", TABLE, "probes"} <= _names(con):
        raise ForeignDatabaseError(f"{where(con)} holds other tables than ours; {REMEDY_FOREIGN}")
    try:
        version = int(get_meta(con, "schema_version") or "")
    except (duckdb.BinderException, ValueError):  # a `meta` table without our columns
        raise ForeignDatabaseError(
            f"{where(con)} has no schema version; {REMEDY_FOREIGN}"
        ) from None
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{where(con)} has schema version {version}, this package knows up to "
            f"{SCHEMA_VERSION}; upgrade {PROGRAM}"
        )
    return version
