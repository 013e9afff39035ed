"""The file of daily volumes: beside the record, and for a reason not in it.

What is in it can be read from the archive again at any time: so it need not be in each backup, nor
with those who follow the record, and reading 26,000 files keeps no probe from being written. A file
of ours like the record's: one process writes or many read, each in its turn.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from availability_pipeline import PROGRAM, files, settings
from availability_pipeline.errors import (
    ForeignDatabaseError,
    MissingDatabaseError,
    NewerSchemaError,
    UnwritableDatabaseError,
)
from availability_pipeline.record import connection, schema
from availability_pipeline.record.schema import Column, get_meta, set_meta
from availability_pipeline.record.status import hexed

VERSION = 1

REMEDY = "choose another file with AVAILABILITY_VOLUME_DB"
REMEDY_MISSING = f"run `{PROGRAM} volume update` first"

_NUMBERS = (
    Column("open", "DOUBLE", "First price, in the quote asset.", required=True),
    Column("high", "DOUBLE", "Highest price.", required=True),
    Column("low", "DOUBLE", "Lowest price.", required=True),
    Column("close", "DOUBLE", "Last price.", required=True),
    Column("volume", "DOUBLE", "Traded, in the base asset; in cm contracts.", required=True),
    Column("quote_volume", "DOUBLE", "Traded, in the quote asset; in cm the base.", required=True),
    Column("trades", "BIGINT", "How many.", required=True),
    Column("taker_buy_volume", "DOUBLE", "Of `volume`, what takers bought.", required=True),
    Column("taker_buy_quote_volume", "DOUBLE", "Likewise of `quote_volume`.", required=True),
)

NUMBERS = tuple(column.name for column in _NUMBERS)
"""What a file says of a day."""

COLUMNS = (
    Column("market", "VARCHAR", "um, cm or spot.", required=True),
    Column("date", "DATE", "UTC date.", required=True),
    Column("symbol", "VARCHAR", "Symbol, as its folder is named.", required=True),
    Column("quote_asset", "VARCHAR", "What `quote_volume` is in; NULL where no name says it."),
    *_NUMBERS,
    Column("etag", "VARCHAR", "MD5 of the file it was read from; NULL where S3 says none."),
    Column("source", "VARCHAR", "Dataset of that file, as um/monthly/klines/1d.", required=True),
)
"""Columns of the view `daily_volume`."""

_DDL_NUMBERS = ", ".join(f"{c.name} {c.type} NOT NULL" for c in _NUMBERS)
_OF_K = ", ".join(f"k.{name}" for name in NUMBERS)
_FILE = "market VARCHAR NOT NULL, monthly BOOLEAN NOT NULL, symbol VARCHAR NOT NULL"

DDL = (
    "CREATE TABLE meta (key VARCHAR NOT NULL, value VARCHAR NOT NULL)",
    # The version of each file that was read last; with a problem, none of it was taken, and
    # what an earlier version said of its days stays.
    f"""CREATE TABLE files ({_FILE}, period DATE NOT NULL, file_size_bytes BIGINT NOT NULL,
        etag UUID, last_modified TIMESTAMPTZ NOT NULL, problem VARCHAR,
        read_at TIMESTAMPTZ NOT NULL, run_id VARCHAR NOT NULL)""",
    # Of a day, what its daily file says and what its monthly one does.
    f"""CREATE TABLE klines ({_FILE}, date DATE NOT NULL,
        {_DDL_NUMBERS}, etag UUID)""",
    """CREATE TABLE symbols (market VARCHAR NOT NULL, symbol VARCHAR NOT NULL,
        quote_asset VARCHAR)""",
    # Dates of which something is not known yet: files that are pending or were not read.
    """CREATE TABLE lacking (market VARCHAR NOT NULL, date DATE NOT NULL, quote_asset VARCHAR,
        files BIGINT NOT NULL)""",
    f"""CREATE VIEW daily_volume AS
        SELECT k.market, k.date, k.symbol, s.quote_asset,
            {_OF_K}, {hexed("k.etag")} AS etag,
            k.market || CASE WHEN k.monthly THEN '/monthly' ELSE '/daily' END || '/klines/1d'
                AS source
        FROM klines k LEFT JOIN symbols s ON s.market = k.market AND s.symbol = k.symbol
        WHERE NOT (k.monthly AND EXISTS (SELECT 1 FROM klines d WHERE NOT d.monthly
            AND d.market = k.market AND d.symbol = k.symbol AND d.date = k.date))""",
)


def beside(record: Path) -> Path:
    """The file of volumes that belongs to a record, unless AVAILABILITY_VOLUME_DB names one."""
    limits = settings.load()
    return limits.volume_path if limits.volume_db else record.parent / "volume.duckdb"


@contextmanager
def writer(path: Path, wait_seconds: float = 60) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-write connection in a transaction: all of the block is written, or nothing.

    Args:
        path: the file; made with its folder where it is missing.
        wait_seconds: how long to wait for others to let go of it.

    Raises:
        StoreError: as one of its subclasses; see `errors`.
    """
    try:
        files.private_folder(path.parent)
    except OSError as error:
        raise UnwritableDatabaseError(
            f"cannot make the folder of {path}: {error.strerror}; {REMEDY}"
        ) from None
    con = connection.connect(path, read_only=False, wait_seconds=wait_seconds)
    with connection.closing(con):
        con.execute("SET TimeZone = 'UTC'")
        found = _require_ours(con)
        with schema.transaction(con):
            if not found:
                for statement in DDL:
                    con.execute(statement)
                set_meta(con, "volume_version", str(VERSION))
            yield con


@contextmanager
def reader(path: Path, wait_seconds: float = 60) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection; never makes a file.

    Raises:
        MissingDatabaseError: there is none.
        StoreError: as another of its subclasses; see `errors`.
    """
    if not path.exists():
        raise MissingDatabaseError(f"no volumes at {path}; {REMEDY_MISSING}")
    con = connection.connect(path, read_only=True, wait_seconds=wait_seconds)
    with connection.closing(con):
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET autoinstall_known_extensions = false")
        if not _require_ours(con):
            raise MissingDatabaseError(f"{path} is empty; {REMEDY_MISSING}")
        yield con


@functools.cache
def _expected() -> dict[str, str]:
    return schema.made_by(DDL)


def _require_ours(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether an open database has our tables; False of an empty one.

    Raises:
        ForeignDatabaseError: it has others, or what would be evaluated when it is asked.
        NewerSchemaError: it is of a later version.
    """
    found = schema.objects(con)
    if not found:
        return False
    schema.refuse_strange(con, schema.evaluated(con, found))
    if not {"meta", "klines", "lacking"} <= set(found):
        raise ForeignDatabaseError(f"{schema.where(con)} holds no volumes; {REMEDY}")
    schema.refuse_strange(con, schema.unlike({"meta": found["meta"]}, _expected()))
    if (version := get_meta(con, "volume_version")) != str(VERSION):
        raise NewerSchemaError(
            f"{schema.where(con)} has version {version} of volumes, this package knows {VERSION}; "
            f"upgrade {PROGRAM}"
        )
    schema.refuse_strange(con, schema.unlike(found, _expected()))
    return True
