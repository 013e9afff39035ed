"""Other code's connections beside ours. A lock that is lost lets a second process destroy the file.

DuckDB's lock is POSIX's, which a process loses on a file when it closes any descriptor of it.
"""

import datetime as dt
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from availability_pipeline import queries, settings
from availability_pipeline.cli.main import cli
from availability_pipeline.copies import backup, export, restore
from availability_pipeline.copies.backup import Keep
from availability_pipeline.copies.destinations import Folder
from availability_pipeline.errors import ForeignDatabaseError, LostRecordError, StoreBusyError
from availability_pipeline.record import connection, write
from availability_pipeline.record.connection import reader, writer
from availability_pipeline_tests.support.helpers import D, flat, make_listing

START, END = D(2024, 1, 1), D(2024, 1, 10)
NOW = dt.datetime(2024, 3, 1, 2, tzinfo=dt.UTC)

WRITE = """
import duckdb, sys
try:
    con = duckdb.connect(sys.argv[1])
    con.execute("CREATE TABLE theirs AS SELECT range AS x FROM range(100000)")
    con.close()
except duckdb.IOException as error:
    assert "Could not set lock" in str(error), error
    print("kept out")
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "record.duckdb"
    with writer(path) as con:
        write.write_probe(
            con,
            make_listing(START, END, {"AUSDT": flat(START, END), "BUSDT": flat(START, END)}),
            probed_at=NOW,
            run_id="run",
        )
    return path


@pytest.fixture
def fresh(monkeypatch):
    """As in a process that has not opened any record yet."""
    monkeypatch.setattr("availability_pipeline.record.connection._known_files", set())


def another_process_is_kept_out(path: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(path)], capture_output=True, text=True, check=True
    )
    return done.stdout == "kept out\n"


def asks(path, folder):
    queries.open(path).snapshot("2024-01-05")


def asks_in_a_block(path, folder):
    with queries.open(path) as record:
        record.timeline("AUSDT")


def reads(path, folder):
    with reader(path) as con:
        con.execute("SELECT count(*) FROM daily_availability").fetchall()


def backs_up(path, folder):
    made = backup.make(path, folder / "backups", now=NOW, keep=Keep(1, 1, 1))
    backup.verify(made.path)


def verifies_it_as_a_backup(path, folder):
    """The record's own file with a manifest beside it: it need not be in the folder of backups."""
    made = backup.make(path, folder / "backups", now=NOW, keep=Keep(1, 1, 1))
    beside = path.with_suffix(".json")
    beside.write_bytes(made.path.with_suffix(".json").read_bytes())
    backup.verify(path)


def exports(path, folder):
    export.export(path, Folder(folder / "out"), export.Form(), now=NOW)


def restores(path, folder):
    """It is refused, for somebody has the record open: this very process."""
    made = backup.make(path, folder / "backups", now=NOW, keep=Keep(1, 1, 1))
    with pytest.raises(StoreBusyError):
        restore.put_back(made.path, made.manifest, path, now=NOW, wait_seconds=0)


READERS = [
    asks, asks_in_a_block, reads, backs_up, verifies_it_as_a_backup, exports, restores,
]  # fmt: skip


@pytest.mark.parametrize("act", READERS, ids=lambda act: act.__name__)
def test_nothing_we_read_lets_another_process_write_under_an_open_connection(
    path, tmp_path, fresh, act
):
    theirs = duckdb.connect(str(path), read_only=True)
    try:
        act(path, tmp_path)
        assert another_process_is_kept_out(path)
        assert theirs.execute("SELECT count(*) FROM daily_availability").fetchall() == [(20,)]
    finally:
        theirs.close()
    with reader(path) as con:
        assert con.execute("SELECT count(*) FROM daily_availability").fetchall() == [(20,)]


def test_a_read_write_connection_elsewhere_keeps_its_lock_too(path, fresh):
    """The record was destroyed so: two processes wrote one file."""
    theirs = duckdb.connect(str(path))
    theirs.execute("CREATE TABLE more AS SELECT 1 AS x")
    with pytest.raises(StoreBusyError), reader(path, 0):
        pass
    with writer(path, 0) as con:  # of the same kind as theirs
        con.execute("SELECT 1").fetchall()
    assert another_process_is_kept_out(path)
    theirs.close()
    with reader(path) as con:
        assert con.execute("SELECT x FROM more").fetchall() == [(1,)]


@pytest.mark.requires("proc")
def test_threads_that_open_and_close_the_record_never_hold_it_without_a_lock(path):
    """DuckDB alone loses it in five of six openings: closing the last connection, it closes the
    file after another thread has opened it."""
    locks = Path("/proc/locks")
    file = f":{path.stat().st_ino} "
    without: list[str] = []

    def work() -> None:
        for _ in range(100):
            with reader(path) as con:
                con.execute("SELECT 1").fetchall()
                held = [line for line in locks.read_text().splitlines() if file in line]
                if not any(f" {os.getpid()} " in line for line in held):
                    without.append(str(held))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert without == []


def test_a_plain_connection_works_beside_ours_as_the_docs_say(path):
    with queries.open(path) as record:
        ours = record.snapshot("2024-01-05")
        with duckdb.connect(str(path), read_only=True) as con:
            theirs = con.execute(
                "SELECT symbol FROM daily_availability WHERE date = '2024-01-05' ORDER BY symbol"
            ).fetchall()
        assert [s for (s,) in theirs] == ours["symbol"].tolist()
        assert another_process_is_kept_out(path)


@pytest.mark.parametrize("kind", ["parquet", "fifo", "short"])
def test_what_duckdb_would_open_as_something_else_is_refused(tmp_path, kind):
    """DuckDB opens a Parquet file as a database in memory: a probe written there would be lost."""
    path = tmp_path / "record.duckdb"
    if kind == "parquet":
        duckdb.sql("SELECT 1 AS x").write_parquet(str(path))
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(b"DUCK")
    for opened in (reader, writer):
        with pytest.raises(ForeignDatabaseError, match="AVAILABILITY_DB"), opened(path, 0):
            pass


@pytest.fixture
def home(path, tmp_path, monkeypatch):
    """A home with a record at the former default path, closed, and none at today's."""
    monkeypatch.setenv("HOME", str(tmp_path / "it's home"))
    former = Path(settings.FORMER_DB).expanduser()
    former.parent.mkdir(parents=True)
    shutil.copy(path, former)
    return former


def open_to_write(path):
    with writer(path):
        pass


def open_to_read(path):
    with reader(path):
        pass


@pytest.mark.parametrize(
    "opened", [open_to_read, open_to_write, connection.require_writable], ids=lambda f: f.__name__
)
def test_a_record_at_the_former_default_path_is_carried_over_and_not_begun_anew(home, opened):
    """Else an upgrade would begin a second record, and its reader would find no history."""
    default = Path(settings.DEFAULT_DB).expanduser()
    with pytest.raises(LostRecordError) as caught:
        opened(settings.DEFAULT_DB)
    text = str(caught.value)
    assert "\n" not in text
    assert not default.parent.exists()
    with reader(home) as con:  # AVAILABILITY_DB may go on naming it
        before = queries.counts(con, END)

    [command] = re.findall("`(.+)`", text)
    subprocess.run(command, shell=True, check=True)
    opened(settings.DEFAULT_DB)
    with reader(default) as con:
        assert queries.counts(con, END) == before
    assert not home.exists()


@pytest.mark.parametrize("call", ["start", "up", "query holes", "backup b"])
def test_a_record_at_the_former_default_path_is_named_in_one_line(
    home, tmp_path, call, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where the refused backup has made its folder
    env = {"AVAILABILITY_DB": None, "DAGSTER_HOME": str(tmp_path)}
    done = CliRunner().invoke(cli, call.split(), env=env)
    assert done.exit_code == 1
    [line] = done.stderr.splitlines()
    assert str(home) in line


@pytest.mark.parametrize("path_of", ["another", "theirs", "both"])
def test_only_a_record_of_ours_that_is_nowhere_else_keeps_the_default_path_free(
    home, tmp_path, path_of
):
    path = Path(settings.DEFAULT_DB).expanduser()
    if path_of == "another":
        path = tmp_path / "another.duckdb"
    elif path_of == "theirs":  # another program has the same default
        home.unlink()
        duckdb.connect(str(home)).execute("CREATE TABLE theirs (x INTEGER)").close()
    else:
        path.parent.mkdir()
        shutil.copy(home, path)
    open_to_write(path)
    open_to_read(path)
    assert home.exists()
