"""A database of any earlier version is taken over as it is. Years of looks cannot be had again."""

import datetime as dt
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from availability_pipeline.errors import StoreError
from availability_pipeline.record import schema, write
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.record.storage_format import STORAGE_VERSION
from availability_pipeline_tests.support import old_schemas
from availability_pipeline_tests.support.helpers import D, flat, make_listing

ROOT = Path(__file__).parents[2]
LATER = dt.datetime(2024, 4, 1, tzinfo=dt.UTC)
every_version = pytest.mark.parametrize("version", range(1, schema.SCHEMA_VERSION + 1))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "record.duckdb"


def shape(path):
    """Columns of all tables, and the views' definitions."""
    with reader(path) as con:
        columns = con.execute(
            "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() "
            "WHERE NOT internal ORDER BY ALL"
        ).fetchall()
        views = con.execute("SELECT view_name, sql FROM duckdb_views() WHERE NOT internal")
        return columns, views.fetchall()


def facts(path):
    with reader(path) as con:
        return [
            con.execute(f"SELECT {columns} FROM {table} ORDER BY ALL").fetchall()
            for table, columns in (
                ("daily_availability", "date, symbol, available, file_size_bytes, last_modified"),
                ("probes", "date, probed_at, symbols, available, run_id"),
                ("revisions", "date, symbol, observed_at, change, old_size, new_size, run_id"),
                ("symbols", "symbol, contract_type, base_asset, quote_asset, first_seen"),
            )
        ]


def test_every_version_so_far_is_kept_for_these_tests():
    """Who makes version N adds its migration to schema.py, and version N to old_schemas.py."""
    versions = list(range(1, schema.SCHEMA_VERSION + 1))
    assert sorted(old_schemas.VERSIONS) == versions
    assert sorted(schema.MIGRATIONS) == versions[1:]


@every_version
def test_a_database_of_each_version_becomes_one_as_if_new_and_keeps_every_fact(
    path, tmp_path, version
):
    old_schemas.build(str(path), version)
    with writer(path):
        pass
    kept = facts(path)
    assert [len(table) for table in kept] == [20, 10, 1, 2]
    assert kept[0][0][:4] == (D(2024, 1, 1), "AUSDT", True, 100)
    new = tmp_path / "new.duckdb"
    with writer(new):
        pass
    assert shape(path) == shape(new)
    files = {"AUSDT": flat(D(2024, 1, 1), D(2024, 1, 10)), "龙虾USDT": {}}
    with writer(path) as con:
        listing = make_listing(D(2024, 1, 1), D(2024, 1, 10), files)
        result = write.write_probe(con, listing, probed_at=LATER, run_id="next")
    assert (result.rows, result.available, result.vanished) == (20, 10, 9)


def test_what_follows_from_the_rows_is_made_anew_by_a_migration_and_not_read_before(path):
    """Earlier versions wrote it apart from the rows: it may be older than they are."""
    old_schemas.build(str(path), 2)
    with duckdb.connect(str(path)) as con:
        con.execute("INSERT INTO meta VALUES ('derived.symbol_listings', '1/3')")
        con.execute(
            "INSERT INTO daily_summary "
            "SELECT date, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0 FROM probes LIMIT 1"
        )
    with pytest.raises(StoreError, match="migrates it"), reader(path):
        pass
    with writer(path):
        pass
    with reader(path) as con:
        assert con.execute(
            "SELECT symbol, days_available, state FROM symbol_listings ORDER BY symbol"
        ).fetchall() == [("AUSDT", 10, "live"), ("龙虾USDT", 9, "live")]
        counts = con.execute("SELECT expected, available, absent FROM daily_summary ORDER BY date")
        assert counts.fetchall() == [(2, 2, 0)] * 9 + [(2, 1, 1)]
        kept = con.execute("SELECT key FROM meta WHERE key = 'writes' OR key LIKE 'derived.%'")
        assert kept.fetchall() == [("derived.ended_before",)]


MIGRATE = """
import sys, time
from availability_pipeline.record import schema
from availability_pipeline.record.connection import writer
schema.SCHEMA_VERSION += 1
schema.MIGRATIONS[schema.SCHEMA_VERSION] = (
    "ALTER TABLE probes ADD COLUMN note VARCHAR", "DELETE FROM revisions",
    "CREATE TABLE much AS SELECT range AS x FROM range(1000000)")
def stop(*_):
    print("all statements done, nothing committed", flush=True)
    time.sleep(3600)
schema.set_meta = stop
with writer(sys.argv[1]):
    pass
"""


def test_a_kill_in_the_middle_of_a_migration_leaves_the_earlier_version(path):
    old_schemas.build(str(path), schema.SCHEMA_VERSION, STORAGE_VERSION)
    before, columns = facts(path), shape(path)
    with subprocess.Popen(
        [sys.executable, "-c", MIGRATE, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout.readline().startswith("all statements done")
        process.kill()
    assert facts(path) == before
    assert shape(path) == columns
    with writer(path) as con:
        assert schema.get_meta(con, "schema_version") == str(schema.SCHEMA_VERSION)
