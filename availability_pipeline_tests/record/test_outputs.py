"""What a command that only reads may write. Breaking it overwrites the record, exit 0."""

import datetime as dt
import os
import shutil
import sqlite3
from contextlib import closing

import duckdb
import pytest
from click.testing import CliRunner

from availability_pipeline import queries
from availability_pipeline.cli.main import cli
from availability_pipeline.copies import backup, export, restore
from availability_pipeline.copies.backup import Keep
from availability_pipeline.copies.destinations import Folder
from availability_pipeline.errors import ProtectedFileError
from availability_pipeline.record import write
from availability_pipeline.record.connection import reader, writer
from availability_pipeline_tests.support.helpers import D, flat, make_listing

START, END = D(2024, 1, 1), D(2024, 1, 10)
NOW = dt.datetime(2024, 3, 1, 2, tzinfo=dt.UTC)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A Dagster home with the record and a backup in it, as `demo-home` has them."""
    home = tmp_path / "home"
    (home / "history" / "runs").mkdir(parents=True)
    with closing(sqlite3.connect(home / "history" / "runs.db")) as con:
        con.execute("CREATE TABLE runs (x)")
        con.commit()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (home / "background.lock").write_text("123")
    with writer(home / "record.duckdb") as con:
        listing = make_listing(START, END, {"AUSDT": flat(START, END), "BUSDT": flat(START, END)})
        write.write_probe(con, listing, probed_at=NOW, run_id="run")
    backup.make(home / "record.duckdb", home / "backups", now=NOW, keep=Keep(1, 1, 1))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("AVAILABILITY_DB", str(home / "record.duckdb"))
    return home


def files(home):
    """All files with their content, in a moment when nobody has one open."""
    return {p: p.read_bytes() for p in sorted(home.rglob("*")) if p.is_file()}


def run(*args):
    return CliRunner().invoke(cli, [str(a) for a in args])


PROTECTED = [
    "record.duckdb", "record.duckdb.wal", "record.duckdb.WAL", "record.duckdb.wal.checkpoint",
    "record.duckdb.turn", "record.duckdb.restoring",
    "backups/availability-20240301T020000Z.duckdb", "backups/availability-20240301T020000Z.json",
    "backups/availability-20240301T020000Z.duckdb.wal",
    "dagster.yaml", "background.lock", "history/runs.db", "history/runs/new.parquet",
    "storage/new.csv", "log/availability.log",
]  # fmt: skip


WAYS = [(name, how) for name in PROTECTED for how in ("named", "symlink", "from its folder")] + [
    # A second name of any other file may be replaced: the first one keeps its content.
    (name, "hard link")
    for name in ("record.duckdb", "record.duckdb.turn", "history/runs.db",
                 "backups/availability-20240301T020000Z.duckdb")
]  # fmt: skip


@pytest.mark.parametrize(("name", "how"), WAYS)
def test_a_universe_never_takes_the_place_of_a_file_of_ours_or_dagsters(
    home, tmp_path, monkeypatch, name, how
):
    target = home / name
    before = files(home)
    out = target
    if how == "symlink":
        out = tmp_path / "out.parquet"
        out.symlink_to(target)
    elif how == "hard link":
        out = tmp_path / "out.parquet"
        os.link(target, out)
    elif how == "from its folder":
        target.parent.mkdir(exist_ok=True, parents=True)
        monkeypatch.chdir(target.parent)
        out = target.name
    done = run("query", "universe", START, END, "--out", out)
    assert done.exit_code == 2, done.output
    assert "nothing was written, choose another file" in done.stderr
    assert files(home) == before
    with reader(home / "record.duckdb") as con:
        assert con.execute("SELECT count(*) FROM daily_availability").fetchall() == [(20,)]


def test_python_is_refused_too_whatever_the_settings_say(home, tmp_path, monkeypatch):
    other = tmp_path / "other.duckdb"
    shutil.copy(home / "record.duckdb", other)
    monkeypatch.delenv("AVAILABILITY_DB")
    for path in (other, home / "record.duckdb"):
        with (
            reader(other) as con,
            pytest.raises(ProtectedFileError, match=r"is the record|is a database"),
        ):
            queries.write_universe(con, path, START, END)


def test_a_universe_replaces_its_predecessor_and_takes_no_other_name_meanwhile(home):
    """DuckDB writes `x.parquet` as `tmp_x.parquet` first: that may be the record's name."""
    record = home / "tmp_u.parquet"
    (home / "record.duckdb").rename(record)
    for _ in range(2):
        done = run("query", "universe", START, END, "--out", home / "u.parquet")
        assert "no database" in done.output
        with reader(record) as con:
            queries.write_universe(con, home / "u.parquet", START, END)
        assert duckdb.sql(f"SELECT count(*) FROM '{home}/u.parquet'").fetchall() == [(10,)]
    with reader(record) as con:
        assert con.execute("SELECT count(*) FROM daily_availability").fetchall() == [(20,)]
    assert not [p for p in home.iterdir() if p.name.startswith(".u.parquet")]


def test_a_universe_goes_into_a_pipe(home, tmp_path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        done = run("query", "universe", START, START, "--out", pipe)
        assert done.exit_code == 0, done.output
        assert os.read(end, 1000).decode() == "date,AUSDT,BUSDT\n2024-01-01,true,true\n"
    finally:
        os.close(end)


def test_a_report_never_takes_the_records_place(home, tmp_path, monkeypatch):
    folder = tmp_path / "report"
    folder.mkdir()
    record = folder / "growth.png"
    (home / "record.duckdb").rename(record)
    monkeypatch.setenv("AVAILABILITY_DB", str(record))
    before = files(folder)
    done = run("report", "--out", folder)
    assert done.exit_code == 2, done.output
    assert "is the record" in done.stderr
    assert files(folder).keys() - before.keys() <= {record.with_name("growth.png.turn")}
    assert record.read_bytes() == before[record]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_export_never_overwrites_files_that_no_manifest_of_ours_names(home, tmp_path, kind):
    out = tmp_path / "out"
    out.mkdir()
    mine = out / f"symbol_spans.{kind}"
    mine.write_text("my own table")
    done = run("export", out, "--format", kind)
    assert done.exit_code == 1, done.output
    assert f"holds symbol_spans.{kind}, which no manifest of ours names" in done.stderr
    assert [p for p in out.iterdir() if not p.name.startswith(".")] == [mine]
    assert mine.read_text() == "my own table"
    mine.rename(out / "mine")
    assert run("export", out, "--format", kind).exit_code == 0
    assert run("export", out, "--format", kind).exit_code == 0
    assert not (out / ".availability-export.claim").exists()
    # Another form later: its names are new, ours of before go.
    other = "csv" if kind == "parquet" else "parquet"
    assert run("export", out, "--format", other).exit_code == 0
    assert (out / "mine").read_text() == "my own table"
    assert not list(out.glob(f"*.{kind}"))


def test_what_a_killed_first_export_left_is_ours(home, tmp_path):
    """No manifest names it yet; refusing it would need a hand for each kill."""

    class Killed(Folder):
        def put(self, name, staged, replacing):
            if name == export.MANIFEST:
                raise KeyboardInterrupt
            return super().put(name, staged, replacing)

    record, out = home / "record.duckdb", tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        export.export(record, Killed(out), export.Form(), now=NOW)
    assert (out / "availability.parquet").exists()
    assert not (out / export.MANIFEST).exists()
    done = export.export(record, Folder(out), export.Form(), now=NOW)
    assert len(done.written) == 3


@pytest.mark.parametrize("place", ["history/runs", "."])
def test_an_export_refuses_dagsters_folders_and_the_records_name(home, place, monkeypatch):
    if place == ".":
        (home / "record.duckdb").rename(home / "availability.parquet")
        monkeypatch.setenv("AVAILABILITY_DB", str(home / "availability.parquet"))
    before = files(home)
    done = run("export", home / place)
    assert done.exit_code == 2, done.output
    after = files(home)
    assert {p: after[p] for p in before} == before
    assert {p.name for p in after.keys() - before.keys()} <= {
        ".availability-export.lock", "availability.parquet.turn",
    }  # fmt: skip


def test_a_lock_that_is_a_link_to_the_record_does_not_empty_it(home, tmp_path):
    before = (home / "record.duckdb").read_bytes()
    for folder, name, command in (
        (tmp_path / "out", ".availability-export.lock", "export"),
        (tmp_path / "kept", ".availability-backup.lock", "backup"),
    ):
        folder.mkdir()
        (folder / name).symlink_to(home / "record.duckdb")
        run(command, folder)
        assert (home / "record.duckdb").read_bytes() == before


def test_retention_never_removes_the_record_that_lies_among_its_backups(home, monkeypatch):
    """Who asks a backup in its place, and then backs up: it is the oldest of the folder."""
    folder = home / "backups"
    [record] = folder.glob("*.duckdb")
    monkeypatch.setenv("AVAILABILITY_DB", str(record))
    before = files(folder)
    later = ["--keep-daily", "0", "--keep-weekly", "0", "--keep-monthly", "0"]
    done = run("backup", folder, *later)
    assert done.exit_code == 2, done.output
    assert "which is named like a backup" in done.stderr
    assert {p: c for p, c in files(folder).items() if p in before} == before


def test_a_restore_of_the_record_over_itself_is_refused(home):
    [made] = (home / "backups").glob("*.duckdb")
    manifest = backup.verify(made)
    with pytest.raises(ProtectedFileError, match="is the record itself"):
        restore.put_back(made, manifest, made, now=NOW)
    backup.verify(made)
