"""The files' format, which decides who can open them: nearly every DuckDB client there is is a 1.x.

Breaking it shuts out every client but our own; breaking the conversion loses the record.
"""

import datetime as dt
import json
import os
import signal
import stat
import struct
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from availability_pipeline.copies import backup, restore
from availability_pipeline.copies.backup import Keep
from availability_pipeline.errors import ForeignDatabaseError
from availability_pipeline.record import connection, derived, schema, write
from availability_pipeline.record.connection import reader, writer
from availability_pipeline_tests.support.helpers import D, flat, make_listing
from availability_pipeline_tests.support.requirements import need

START, END = D(2024, 1, 1), D(2024, 1, 10)
NOW = dt.datetime(2024, 3, 1, 2, tzinfo=dt.UTC)
ROOT = Path(__file__).parents[2]

V1_2 = 65
"""DuckDB 1.2's number of the format, in the file's header; 1.5 reads 64 to 68, 2.0 writes 999."""


def number(path: Path) -> int:
    """From the header of a file that no connection of this process has open."""
    head = path.read_bytes()[:20]
    assert head[8:12] == b"DUCK"
    return int(struct.unpack("<Q", head[12:])[0])


def probe(con, at=NOW, end=END):
    listing = make_listing(START, end, {"AUSDT": flat(START, end), "龙虾USDT": flat(END, end)})
    write.write_probe(con, listing, probed_at=at, run_id="run")


def facts(path: Path) -> list[list[tuple[object, ...]]]:
    with reader(path) as con:
        return [
            con.execute(f"FROM {table} ORDER BY ALL").fetchall()
            for table in ("availability", "symbols", "probes", "revisions", "meta")
        ]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "it's a record.duckdb"


@pytest.fixture
def newer(path):
    """A record in DuckDB 2's own format, as this package wrote it before."""
    with duckdb.connect(str(path)) as con:
        con.execute("SET TimeZone = 'UTC'")
        schema.ensure_schema(con, derived.refresh_all)
        probe(con)
        con.execute("CREATE TABLE mine AS SELECT 'kept' AS word")
        con.execute("CREATE VIEW my_view AS SELECT count(*) AS n FROM daily_availability")
    assert number(path) > V1_2
    return path


def test_the_record_and_its_backups_have_the_format_of_duckdb_1_2(path, tmp_path):
    with writer(path) as con:
        probe(con)
    assert number(path) == V1_2
    with writer(path) as con:
        probe(con, NOW + dt.timedelta(hours=1), D(2024, 1, 12))
    assert number(path) == V1_2
    made = backup.make(path, tmp_path / "backups", now=NOW, keep=Keep(1, 1, 1))
    assert number(made.path) == V1_2
    path.unlink()
    restore.put_back(made.path, made.manifest, path, now=NOW)
    assert number(path) == V1_2
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_reader_leaves_a_newer_file_and_a_backup_of_it_is_converted(newer, tmp_path):
    before, content = facts(newer), newer.read_bytes()
    made = backup.make(newer, tmp_path / "backups", now=NOW, keep=Keep(1, 1, 1))
    assert newer.read_bytes() == content
    assert number(made.path) == V1_2
    assert backup.verify(made.path).rows == 11
    assert facts(made.path) == before
    assert sorted(p.suffix for p in made.path.parent.iterdir()) == [".duckdb", ".json", ".lock"]


def test_the_next_writer_converts_a_newer_file_with_all_that_is_in_it(newer, tmp_path):
    link = tmp_path / "link.duckdb"
    link.symlink_to(newer.name)
    newer.chmod(0o640)
    before = facts(newer)
    with writer(link) as con:
        assert con.execute("SELECT word, n FROM mine, my_view").fetchall() == [("kept", 20)]
    assert number(newer) == V1_2
    assert link.is_symlink()
    assert stat.S_IMODE(newer.stat().st_mode) == 0o640
    assert facts(newer) == before
    assert [p.name for p in tmp_path.iterdir() if "converting" in p.name] == []


def test_the_log_of_a_killed_writer_is_converted_too(newer):
    code = (
        "import duckdb, os, signal, sys\n"
        "con = duckdb.connect(sys.argv[1])\n"
        "con.execute(\"INSERT INTO mine VALUES ('only in the log')\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(newer)], check=False)
    assert newer.with_name(f"{newer.name}.wal").stat().st_size > 0
    with writer(newer) as con:
        assert con.execute("SELECT count(*) FROM mine").fetchall() == [(2,)]
    assert number(newer) == V1_2


def test_somebody_elses_database_keeps_its_format(path):
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE theirs AS SELECT 1 AS x")
    before = path.read_bytes()
    with pytest.raises(ForeignDatabaseError), writer(path):
        pass
    assert path.read_bytes() == before


def test_a_newer_file_with_a_foreign_catalog_is_refused_as_it_is(newer):
    """Copying evaluates generated columns, and a macro may stand for any function in them."""
    with duckdb.connect(str(newer)) as con:
        con.execute("CREATE MACRO url_encode(x) AS 'theirs'")
    before = newer.read_bytes()
    with pytest.raises(ForeignDatabaseError, match="macro"), writer(newer):
        pass
    assert newer.read_bytes() == before


def test_an_empty_file_of_the_newer_format_becomes_ours(path):
    duckdb.connect(str(path)).close()
    assert number(path) > V1_2
    with writer(path) as con:
        probe(con)
    assert number(path) == V1_2


def test_a_file_that_cannot_be_converted_is_written_as_it_is(newer, caplog):
    """An update is worth more than a format: the next writer tries again."""
    blocked = newer.with_name(f".{newer.name}.converting")
    blocked.mkdir()
    (blocked / "in the way").touch()
    with writer(newer) as con:
        con.execute("INSERT INTO mine VALUES ('written')")
    assert "keeps the file format of DuckDB 2" in caplog.text
    assert number(newer) > V1_2
    (blocked / "in the way").unlink()
    blocked.rmdir()
    with writer(newer) as con:
        assert con.execute("SELECT count(*) FROM mine").fetchall() == [(2,)]
    assert number(newer) == V1_2


def test_nobody_can_write_while_a_file_is_converted(newer):
    """What another process commits between the copy and the renaming would be lost."""
    code = (
        "import duckdb, sys\n"
        "try:\n"
        "    duckdb.connect(sys.argv[1]).execute(\"INSERT INTO mine VALUES ('lost')\")\n"
        "except duckdb.IOException as error:\n"
        "    assert 'Could not set lock' in str(error), error\n"
        "    print('kept out')"
    )
    tried = []
    real = connection.write_anew

    def slow(con, target):
        real(con, target)
        command = [sys.executable, "-c", code, str(newer)]
        tried.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "write_anew", slow)
        with writer(newer) as con:
            assert con.execute("SELECT count(*) FROM mine").fetchall() == [(1,)]
    assert tried == ["kept out\n"]


KILLED = """
import os, signal, sys
from pathlib import Path
from availability_pipeline.record import connection
from availability_pipeline.record.connection import writer
owner = {"Path": Path, "connection": connection}[sys.argv[2]]
real, after = getattr(owner, sys.argv[3]), sys.argv[4] == "after"
def dies(*args, **options):
    if after:
        real(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, sys.argv[3], dies)
with writer(sys.argv[1]):
    pass
"""


@pytest.mark.parametrize(
    ("owner", "name", "moment"),
    [
        ("connection", "_converted", "before"),
        ("connection", "_replace", "before"),
        ("connection", "_replace", "after"),
        ("connection", "_contents", "before"),
        ("connection", "write_anew", "after"),
        ("Path", "replace", "before"),
        ("Path", "replace", "after"),
    ],
)
def test_a_conversion_killed_at_any_point_loses_nothing(newer, owner, name, moment):
    before = facts(newer)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(newer), owner, name, moment], cwd=ROOT, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert facts(newer) == before
    with writer(newer) as con:
        assert con.execute("SELECT word, n FROM mine, my_view").fetchall() == [("kept", 20)]
    assert facts(newer) == before
    assert number(newer) == V1_2
    assert [p.name for p in newer.parent.iterdir() if "converting" in p.name] == []


def test_a_first_writer_killed_at_any_point_leaves_no_file_that_is_refused(path):
    """A file is there whole or not at all: DuckDB refuses one of zero bytes for ever."""
    for name in ("_create", "is_newer"):
        for moment in ("before", "after"):
            command = [sys.executable, "-c", KILLED, str(path), "connection", name, moment]
            subprocess.run(command, cwd=ROOT, check=False)
    with writer(path) as con:
        probe(con)
    assert number(path) == V1_2


ASK = """
import duckdb, json, sys
with duckdb.connect(sys.argv[1], read_only=True) as con:
    con.execute("SET TimeZone = 'UTC'")
    found = con.execute(
        "SELECT date::VARCHAR, symbol, status, url, last_modified::VARCHAR FROM daily_availability "
        "ORDER BY ALL"
    ).fetchall()
print(json.dumps([duckdb.__version__, found]))
"""


@pytest.mark.requires("duckdb15")
def test_duckdb_1_5_opens_the_record_a_backup_and_a_converted_file(path, newer, tmp_path):
    other = tmp_path / "other.duckdb"
    with writer(other) as con:
        probe(con)
    made = backup.make(other, tmp_path / "backups", now=NOW, keep=Keep(1, 1, 1))
    with writer(newer):
        pass
    for file in (other, made.path, newer):
        asked = [
            subprocess.run(
                [python, "-c", ASK, str(file)],
                env={**os.environ, "TZ": "Asia/Tokyo"},
                stdout=subprocess.PIPE, text=True, check=True,
            ).stdout
            for python in (need("duckdb15"), sys.executable)
        ]  # fmt: skip
        (old, theirs), (new, ours) = map(json.loads, asked)
        assert old.startswith("1.5.")
        assert old != new
        assert theirs == ours
        assert len(ours) == 20
