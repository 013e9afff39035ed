"""Faults lose nothing. `python -m benchmarks.faults` tries them more often, and prints a table."""

import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.gate import gate
from availability_pipeline_tests.support.requirements import skip
from availability_pipeline_tests.support.s3 import local_archive
from availability_pipeline_tests.support.shell import YESTERDAY, Shell
from benchmarks import faults

ROOT = Path(__file__).parents[2]


def test_kills_anywhere_in_the_writes_leave_whole_looks_and_the_next_run_works(tmp_path):
    found = faults.kill_in_the_store(tmp_path, kills=5, seed=3)
    assert (found.tried, found.lost) == (5, [])


def test_a_limit_on_the_files_size_is_named_in_one_line_and_loses_nothing(tmp_path):
    found = faults.fill_disk(None, tmp_path, [0, 100])
    assert (found.tried, found.lost) == (4, [])
    assert found.how["refused in one line"] >= 3


def test_a_full_disk_is_named_in_one_line_and_loses_nothing(tmp_path):
    with faults.small_disk(tmp_path) as disk:
        if disk is None:
            skip("small-disk")
        found = faults.fill_disk(disk, tmp_path, [0, 64])
    assert (found.tried, found.lost) == (4, [])
    assert found.how["refused in one line"] >= 3


def test_a_file_or_a_folder_that_may_only_be_read_is_read_and_never_written(tmp_path):
    found = faults.read_only(tmp_path)
    assert (found.tried, found.lost, found.how["refused in one line"]) == (2, [], 2)


def test_what_the_inspection_calls_whole_it_finds_torn_after_any_change(tmp_path):
    """An inspection that passes everything would make the fault table worthless."""
    path = tmp_path / "record.duckdb"
    for look in range(3):
        faults.write(path, look)
    assert faults.inspect(path) == 2
    whole = path.read_bytes()
    for change in (
        "DELETE FROM files WHERE symbol = 'AAXUSDT' AND period = '2025-03-01'",
        "INSERT INTO files FROM files LIMIT 1",
        "UPDATE files SET file_size_bytes = 7 WHERE period = '2025-03-01'",
        "UPDATE files SET recorded_at = '2036-01-01' WHERE period = '2025-03-01'",
        "UPDATE probes SET run_id = '1' WHERE period = '2025-03-01'",
        "DELETE FROM probes WHERE period = '2025-03-01'",
        "DELETE FROM revisions WHERE run_id = '2' AND symbol = 'AAXUSDT'",
        "UPDATE revisions SET run_id = '3' WHERE run_id = '2'",
        "UPDATE symbol_spans SET days_available = 0",
        "DELETE FROM daily_summary WHERE period = '2025-03-01'",
    ):
        path.write_bytes(whole)
        with duckdb.connect(str(path)) as con:
            con.execute(change)
        assert not passes(path), f"not noticed: {change}"


def passes(path):
    try:
        faults.inspect(path)
    except AssertionError:
        return False
    return True


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with one update in it; yields its shell and the gate before its archive."""
    home = tmp_path_factory.mktemp("faults")
    shutil.copy(ROOT / "dagster.yaml", home)
    with local_archive() as archive, gate(archive.endpoint) as door:
        archive.put("BTCUSDT", [YESTERDAY])
        door.open.set()
        shell = Shell(home, door.endpoint)
        shell.ok("update", "manual")
        yield shell, door


def refused(shell, *args, **env):
    """The one line a command fails with; the database file must stay as it was."""
    path = shell.home / "record.duckdb"
    before = path.read_bytes()
    done = shell(*args, **env)
    assert done.returncode == 1, done
    [line] = done.stderr.strip().splitlines()[-1:]
    assert line.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == before
    return line


@pytest.mark.parametrize(("days", "side"), [(1, "behind"), (-1, "ahead of")])
def test_a_clock_one_day_off_the_archives_is_refused_by_the_command(home, days, side):
    shell, door = home
    door.seconds_ahead = days * 86400
    try:
        before = shell.ok("query", "snapshot", YESTERDAY, "--json")
        done = shell("update", "manual")
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert f"minutes {side} the archive's" in done.stderr
        assert shell.ok("query", "snapshot", YESTERDAY, "--json") == before
        with reader(shell.home / "record.duckdb") as con:
            assert con.execute("SELECT count(DISTINCT run_id) FROM probes").fetchall() == [(1,)]
    finally:
        door.seconds_ahead = 0


def test_a_database_locked_by_a_stranger_for_longer_than_the_wait_is_one_line(home):
    shell, _ = home
    path = shell.home / "record.duckdb"
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as stranger:  # fmt: skip
        assert stranger.stdout.readline() == "1\n"
        for args in (("status",), ("update", "manual")):
            line = refused(shell, *args, AVAILABILITY_DB_WAIT_SECONDS="0.3")
            assert "AVAILABILITY_DB_WAIT_SECONDS" in line
        stranger.communicate("\n")
    shell.ok("update", "manual")


def test_a_database_of_a_newer_package_is_refused_with_the_remedy(home):
    shell, _ = home
    path = shell.home / "record.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE kept AS FROM meta")
        con.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    try:
        for args in (("status",), ("query", "holes"), ("update", "manual")):
            assert "upgrade binance-availability" in refused(shell, *args)
    finally:
        with duckdb.connect(str(path)) as con:
            con.execute("DELETE FROM meta")
            con.execute("INSERT INTO meta FROM kept")
            con.execute("DROP TABLE kept")
    shell.ok("status")
