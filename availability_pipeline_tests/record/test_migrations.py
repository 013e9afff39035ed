"""A database of any earlier version is taken over as it is. Years of looks cannot be had again."""

import datetime as dt
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from availability_pipeline import queries
from availability_pipeline.errors import StoreError
from availability_pipeline.record import _migrations, schema, write
from availability_pipeline.record.connection import STORAGE_VERSION, reader, writer
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
                (
                    "daily_availability",
                    "date, symbol, available, file_size_bytes, last_modified, probe_timestamp",
                ),
                ("probes", "period, probed_at, symbols, files, run_id"),
                ("revisions", "period, symbol, observed_at, change, old_size, new_size, run_id"),
                ("symbols", "symbol, contract_type, base_asset, quote_asset, first_seen"),
            )
        ]


def test_every_version_so_far_is_kept_for_these_tests():
    """Who makes version N adds its migration to schema.py, and version N to old_schemas.py."""
    versions = list(range(1, schema.SCHEMA_VERSION + 1))
    assert sorted(old_schemas.VERSIONS) == versions
    assert sorted(_migrations.DDL) == versions[:-1]


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
            "SELECT symbol, days_available, state FROM symbol_spans ORDER BY symbol"
        ).fetchall() == [("AUSDT", 10, "live"), ("龙虾USDT", 9, "live")]
        counts = con.execute(
            "SELECT expected, available, absent FROM daily_summary ORDER BY period"
        )
        assert counts.fetchall() == [(2, 2, 0)] * 9 + [(2, 1, 1)]
        keys = con.execute("SELECT key FROM meta ORDER BY key").fetchall()
        assert keys == [("first_dataset",), ("schema_version",)]
        assert con.execute("SELECT ended_before FROM datasets").fetchall() == [(D(2024, 1, 8),)]


KILLED_AFTER = """
import os, signal, sys
from availability_pipeline.record import _migrations, schema
from availability_pipeline.record.connection import writer
real, last = _migrations.steps, int(sys.argv[2])
class Counted(list):
    def __iter__(self):
        for n, statement in enumerate(super().__iter__()):
            if n == last:
                os.kill(os.getpid(), signal.SIGKILL)
            yield statement
        if last < 0:  # all statements done, nothing committed
            os.kill(os.getpid(), signal.SIGKILL)
_migrations.steps = lambda *args: Counted(real(*args))
with writer(sys.argv[1]):
    pass
"""


@pytest.mark.parametrize("version", _migrations.DDL)
def test_a_kill_at_any_point_of_a_migration_leaves_the_earlier_version(path, version):
    old_schemas.build(str(path), version, STORAGE_VERSION)
    before = path.read_bytes()
    for point in (*range(0, len(_migrations.steps(version, schema.DDL)), 4), -1):
        done = subprocess.run(
            [sys.executable, "-c", KILLED_AFTER, str(path), str(point)], cwd=ROOT, check=False
        )
        assert done.returncode == -9
        with duckdb.connect(str(path), read_only=True) as con:
            assert schema.get_meta(con, "schema_version") == str(version)
            assert con.execute("SELECT count(*) FROM daily_availability").fetchall() == [(20,)]
    assert path.read_bytes() == before
    with writer(path) as con:
        assert schema.get_meta(con, "schema_version") == str(schema.SCHEMA_VERSION)
    assert [len(table) for table in facts(path)] == [20, 10, 1, 2]


def test_what_a_failed_run_or_a_wrong_clock_left_in_an_early_version_is_mended(path):
    """Version 0.1 noted symbols that a refused run had seen, and times of a clock that was ahead.

    And its probes before a symbol was first seen cannot speak of it.
    """
    old_schemas.build(str(path), 2)
    with duckdb.connect(str(path)) as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(
            "INSERT INTO symbols SELECT 'EVILUSDT', * EXCLUDE (symbol) FROM symbols LIMIT 1"
        )
        con.execute("UPDATE symbols SET last_seen = '2026-03-01 03:00:00+00'")
        con.execute(
            "DELETE FROM daily_availability WHERE symbol = '龙虾USDT' AND date < '2024-01-05'"
        )
        con.execute("UPDATE probes SET probed_at = '2024-02-01' WHERE date < '2024-01-05'")
        con.execute("UPDATE daily_availability SET probe_timestamp = '2024-02-01' "
                    "WHERE date < '2024-01-05'")  # fmt: skip
    with writer(path):
        pass
    seen = dt.datetime(2024, 3, 1, 3, tzinfo=dt.UTC)
    with reader(path) as con:
        found = con.execute(
            "SELECT symbol, last_seen, whole_at IS NOT NULL FROM symbols ORDER BY symbol"
        )
        assert found.fetchall() == [("AUSDT", seen, True), ("龙虾USDT", seen, False)]
        assert queries.timeline(con, "龙虾USDT", D(2024, 1, 4), D(2024, 1, 5)).column("status") == [
            "unknown", "available"
        ]  # fmt: skip
        assert con.execute("SELECT date, count(*) FROM daily_availability GROUP BY date "
                           "ORDER BY date").fetchall()[3:5] == [
            (D(2024, 1, 4), 1), (D(2024, 1, 5), 2)
        ]  # fmt: skip
        assert write.recorded(con).symbols == {"AUSDT"}


def test_what_was_probed_when_survives_a_migration(path):
    """A symbol that was listed over all dates when it was first seen has rows younger than them."""
    old_schemas.build(str(path), 3)
    later = dt.datetime(2024, 3, 2, tzinfo=dt.UTC)
    with duckdb.connect(str(path)) as con:
        con.execute("UPDATE daily_availability SET probe_timestamp = ? WHERE symbol = '龙虾USDT' "
                    "AND date < '2024-01-10'", [later])  # fmt: skip
    with writer(path):
        pass
    with reader(path) as con:
        found = con.execute("SELECT symbol, max(probe_timestamp), min(probe_timestamp) "
                            "FROM daily_availability WHERE date < '2024-01-10' "
                            "GROUP BY symbol ORDER BY symbol").fetchall()  # fmt: skip
    first = dt.datetime(2024, 3, 1, 3, tzinfo=dt.UTC)
    assert found == [("AUSDT", first, first), ("龙虾USDT", later, later)]
