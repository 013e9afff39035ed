"""The tables and the views: their DDL and proof.

The columns of the tables that are assets have descriptions, from which the DDL and what Dagster's
catalogue shows are both made.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from availability_pipeline import PROGRAM
from availability_pipeline.archive.datasets import url_sql
from availability_pipeline.errors import (
    ForeignDatabaseError,
    NewerSchemaError,
)
from availability_pipeline.masking import printable
from availability_pipeline.record import _migrations
from availability_pipeline.record.status import PROBED, PROBED_AT, settled_at, status_sql


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


_DATASET = Column("dataset", "SMALLINT", "Which dataset: its `id` in `datasets`.", required=True)
_PERIOD = Column("period", "DATE", "UTC date, or the first day of a month.", required=True)
_SYMBOL = Column("symbol", "VARCHAR", "Symbol, as its folder is named.", required=True)
_ASSETS = (
    Column("base_asset", "VARCHAR", "BTC of BTCUSDT; NULL where the name does not say it."),
    Column("quote_asset", "VARCHAR", "USDT of BTCUSDT; NULL where the name does not say it."),
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "datasets": (
        Column("id", "SMALLINT", "Number of the dataset in all other tables.", required=True),
        Column("market", "VARCHAR", "spot, um, cm or option.", required=True),
        Column("frequency", "VARCHAR", "daily or monthly.", required=True),
        Column("data_type", "VARCHAR", "klines, trades and so on.", required=True),
        Column("interval", "VARCHAR", "1m of klines; NULL where the type has none."),
        Column("settle_days", "INTEGER", "Days until a period settles.", required=True),
        Column("last_probe", "TIMESTAMPTZ", "Start of the probe that was written last."),
        Column("ended_before", "DATE", "A symbol whose last file is before this has ended."),
    ),
    "symbols": (
        _DATASET,
        _SYMBOL,
        Column("contract_type", "VARCHAR", "perpetual, delivery or settled.", required=True),
        *_ASSETS,
        Column("first_seen", "TIMESTAMPTZ", "First probe that listed its folder.", required=True),
        Column("last_seen", "TIMESTAMPTZ", "Last probe that listed its folder.", required=True),
        Column("whole_at", "TIMESTAMPTZ", "Probed on every probed period since; NULL: not yet."),
        Column("listed_at", "TIMESTAMPTZ", "Last probe of all of them at once; NULL without one."),
        Column("left_out_at", "TIMESTAMPTZ", "No probe since lists it; NULL: none leaves it out."),
    ),
    "files": (
        _DATASET,
        _PERIOD,
        _SYMBOL,
        Column("file_size_bytes", "BIGINT", "Size of the file.", required=True),
        Column("last_modified", "TIMESTAMPTZ", "Published, or last replaced, at.", required=True),
        Column("etag", "UUID", "MD5 of the content as S3 says it; NULL where it says none."),
        Column("recorded_at", "TIMESTAMPTZ", "First probe that saw this version.", required=True),
    ),
    "probes": (
        _DATASET,
        _PERIOD,
        Column("probed_at", "TIMESTAMPTZ", "Start of the probe.", required=True),
        Column("symbols", "BIGINT", "Symbols known to that probe.", required=True),
        Column("files", "BIGINT", "Files it saw.", required=True),
        Column("run_id", "VARCHAR", "Run that probed.", required=True),
        Column(
            "replaced_at",
            "TIMESTAMPTZ",
            "Next probe of the period, without symbols for which "
            "this one stays the last; NULL: it is the last for all others.",
        ),
    ),
    "probe_ranges": (
        _DATASET,
        Column("symbol", "VARCHAR", "NULL where all symbols were probed."),
        Column("first_period", "DATE", "First period that was probed.", required=True),
        Column("last_period", "DATE", "Last one, included.", required=True),
        Column("probed_at", "TIMESTAMPTZ", "Start of the probe.", required=True),
        Column("left_out", "BOOLEAN", "The symbols of `left_out` were not listed.", required=True),
    ),
    "left_out": (
        _DATASET,
        _SYMBOL,
        Column("since", "TIMESTAMPTZ", "First probe that left it out.", required=True),
        Column("until", "TIMESTAMPTZ", "The one that left out others, but not it; NULL: none yet."),
    ),
    "revisions": (
        _DATASET,
        _PERIOD,
        _SYMBOL,
        Column("observed_at", "TIMESTAMPTZ", "Start of the probe that saw it.", required=True),
        Column("change", "VARCHAR", "appeared, replaced, touched or vanished.", required=True),
        Column("old_size", "BIGINT", "Size before; NULL without a file."),
        Column("new_size", "BIGINT", "Size after; NULL without a file."),
        Column("old_last_modified", "TIMESTAMPTZ", "Time before; NULL without a file."),
        Column("new_last_modified", "TIMESTAMPTZ", "Time after; NULL without a file."),
        Column("old_etag", "UUID", "MD5 before; NULL where it is not known."),
        Column("new_etag", "UUID", "MD5 after; NULL where it is not known."),
        Column("run_id", "VARCHAR", "Run that saw it.", required=True),
    ),
    "symbol_spans": (
        _DATASET,
        _SYMBOL,
        Column("contract_type", "VARCHAR", "perpetual, delivery or settled."),
        *_ASSETS,
        Column("first_available", "DATE", "Date of the first file; NULL without any."),
        Column("last_available", "DATE", "Date of the last file; NULL without any."),
        Column("days_available", "BIGINT", "Dates with a file."),
        Column("hole_days", "BIGINT", "Confirmed absences between first and last file."),
        Column("state", "VARCHAR", "live, ended or settled."),
    ),
    "daily_summary": (
        _DATASET,
        _PERIOD,
        Column("symbols_probed", "BIGINT", "Symbols that were probed on this date."),
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
    "acknowledgements": (
        _DATASET,
        _PERIOD,
        Column("symbol", "VARCHAR", "NULL where all of the date is meant."),
        Column("reason", "VARCHAR", "Why nothing can be done.", required=True),
        Column("acknowledged_at", "TIMESTAMPTZ", "When that was said.", required=True),
    ),
}
"""Table -> its columns, in their order."""

VIEW = "daily_availability"
"""The view of version 1's columns."""

CELLS = "availability"
"""The view of all datasets."""

CELLS_COLUMNS = (
    Column("dataset", "VARCHAR", "Name of the dataset, as um/daily/klines/1m.", required=True),
    _PERIOD,
    _SYMBOL,
    Column("status", "VARCHAR", "available, pending or absent.", required=True),
    Column("file_size_bytes", "BIGINT", "Size of the file; NULL without one."),
    Column("last_modified", "TIMESTAMPTZ", "Published at, or last replaced; NULL without one."),
    Column("etag", "VARCHAR", "MD5 of the content in hex; NULL where it is not known."),
    Column("contract_type", "VARCHAR", "perpetual, delivery, settled, spot, index or option."),
    *_ASSETS,
    Column("url", "VARCHAR", "Download address.", required=True),
)
"""Its columns."""


def create_table(table: str) -> str:
    """The DDL of one of these tables."""
    columns = (f"{c.name} {c.type}{' NOT NULL' if c.required else ''}" for c in COLUMNS[table])
    definitions = ", ".join(columns)
    return f"CREATE TABLE {table} ({definitions})"


SCHEMA_VERSION = 4

SPARSE = 4
"""The first version in which only files have rows."""

SETTLE_DAYS = 3
"""Days until a date settles, until the first probe writes its own setting."""

FIRST_DATASET = "first_dataset"
"""Key of `meta`: the dataset that the view of version 1 shows."""

REMEDY_FOREIGN = "choose another file with AVAILABILITY_DB"
REMEDY_MISSING = f"run `{PROGRAM} backfill` or `{PROGRAM} update manual` first"

_NAME = "concat_ws('/', t.market, t.frequency, t.data_type, t.interval)"
_URL = url_sql(
    *("t.market", "t.frequency", "t.data_type", "t.interval"), symbol="s.symbol", period="p.period"
)
_STATUS = status_sql("f.symbol IS NOT NULL", settled_at("p.period", "t.settle_days", "t.frequency"))
_CELLS = f"""FROM probes p JOIN datasets t ON t.id = p.dataset
    JOIN symbols s ON s.dataset = p.dataset AND {PROBED}
    LEFT JOIN files f
      ON f.dataset = p.dataset AND f.period = p.period AND f.symbol = s.symbol"""


def version_1_sql(number_sql: str) -> str:
    """SELECT of the columns of `VIEW`; `number_sql` is SQL of a dataset's number."""
    return f"""SELECT p.period AS date, s.symbol, f.symbol IS NOT NULL AS available,
            f.file_size_bytes, f.last_modified, {PROBED_AT} AS probe_timestamp, {_STATUS} AS status,
            s.contract_type, s.base_asset, s.quote_asset, {_URL} AS url,
            CASE WHEN f.symbol IS NOT NULL THEN 200 ELSE 404 END AS status_code
        {_CELLS}
        WHERE p.dataset = {number_sql}"""


DDL = (
    "CREATE TABLE meta (key VARCHAR NOT NULL, value VARCHAR NOT NULL)",
    *(create_table(table) for table in COLUMNS),
    # What is interpolated are our own words.
    f"""CREATE VIEW {CELLS} AS
        SELECT {_NAME} AS dataset, p.period, s.symbol, {_STATUS} AS status, f.file_size_bytes,
            f.last_modified, replace(f.etag::VARCHAR, '-', '') AS etag,
            s.contract_type, s.base_asset, s.quote_asset, {_URL} AS url
        {_CELLS}""",
    f"""CREATE VIEW {VIEW} AS
        {version_1_sql(f"(SELECT value::SMALLINT FROM meta WHERE key = '{FIRST_DATASET}')")}""",
)


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
        for statement in DDL if fresh else _migrations.steps(version, DDL):
            con.execute(statement)
        set_meta(con, "schema_version", str(SCHEMA_VERSION))
        if not fresh:
            derive(con)


def is_current(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether an open database of ours is of this version."""
    return _version(con) == SCHEMA_VERSION


def is_unwritten(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether nothing but our empty tables is in the database, or nothing at all."""
    names = _names(con)
    return not names or ("probes" in names and not con.execute("FROM probes LIMIT 1").fetchall())


def require_ours(con: duckdb.DuckDBPyConnection) -> int:
    """See that nothing in an open database makes our questions do more than read its rows.

    Whoever hands a database on decides what is in its catalog: a view `availability` can read any
    file or URL, and a macro `url_encode` replaces DuckDB's own function in every question. So the
    text of our tables and view is compared with ours, and there may be no macro, no trigger and no
    generated column at all. Other tables and views may be there; they are not evaluated.

    Returns:
        Its schema version; 0 of an empty database.

    Raises:
        ForeignDatabaseError: something is not ours, or not as we made it, or nothing is.
        NewerSchemaError: it is of a later version, whose text is not known.
    """
    found = objects(con)
    if not found:
        return 0
    strange = evaluated(con, found)
    version = SCHEMA_VERSION
    if not strange and found.get("meta", ("table",))[0] == "table":
        version = _version(con)  # only now may `meta` be read; of a later version it says so
    refuse_strange(con, [*strange, *unlike(found, _expected(version))])
    return version


Objects = dict[str, tuple[str, str]]
"""Name -> (table or view, its text)."""


def evaluated(con: duckdb.DuckDBPyConnection, found: Objects) -> list[str]:
    """What of an open database would be evaluated whatever is asked: macros and their like."""
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
    return strange


def unlike(found: Objects, expected: Mapping[str, str]) -> list[str]:
    """Tables and views whose text is not the expected one of that name."""
    return [
        f"the {kind} {name}, which is not as this package makes it"
        for name, (kind, sql) in found.items()
        if name in expected and _normal(sql) != expected[name]
    ]


def views_of_others(con: duckdb.DuckDBPyConnection) -> list[str]:
    """The views of an open database that are none of ours."""
    return [
        f"the view {name}, which is not this package's"
        for name, (kind, _) in objects(con).items()
        if kind == "view" and name not in (CELLS, VIEW)
    ]


def refuse_strange(con: duckdb.DuckDBPyConnection, strange: Sequence[str]) -> None:
    """Raise for the first of them, if there is one.

    Raises:
        ForeignDatabaseError: there is.
    """
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise ForeignDatabaseError(
            f"{where(con)} holds {printable(strange[0])[:200]}{more}; nothing of it was evaluated. "
            "If you made it, drop it there; otherwise do not use this file"
        )


@functools.cache
def _expected(version: int) -> dict[str, str]:
    """The text of a version's tables and views. Takes 15 ms."""
    return made_by(DDL if version == SCHEMA_VERSION else _migrations.DDL[version])


def made_by(ddl: Sequence[str]) -> dict[str, str]:
    """The text of the tables and views that statements make, as this DuckDB writes it."""
    with duckdb.connect() as con:
        for statement in ddl:
            con.execute(statement)
        return {name: _normal(sql) for name, (_, sql) in objects(con).items()}


def objects(con: duckdb.DuckDBPyConnection) -> Objects:
    """The tables and views of an open database."""
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
    if not {"meta", VIEW, "probes"} <= _names(con):
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
