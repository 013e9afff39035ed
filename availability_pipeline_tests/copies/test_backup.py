"""Backups. Breaking one is found out on the day it is needed."""

import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys

import duckdb
import pytest

from availability_pipeline.copies import _snapshot, backup
from availability_pipeline.copies.backup import Keep
from availability_pipeline.errors import MissingDatabaseError, StoreError
from availability_pipeline.record import schema
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.backups import (
    ALL,
    HOUR,
    NOW,
    ROOT,
    folder,
    killed_writer,
    make,
    record,
    rewrite,
    sizes,
    write,
)

__all__ = ["folder", "record"]  # fixtures


def test_a_backup_is_one_file_with_a_manifest_that_says_what_is_in_it(record, folder):
    made = make(record, folder)
    assert made.path.name == "availability-20240301T020000Z.duckdb"
    assert made.removed == ()
    assert {p.name for p in folder.iterdir() if not p.name.startswith(".")} == {
        made.path.name, "availability-20240301T020000Z.json",
    }  # fmt: skip
    said = json.loads(made.path.with_suffix(".json").read_text())
    assert said["sha256"] == _snapshot.sha256(made.path)
    assert said["bytes"] == made.path.stat().st_size
    assert said["tables"]["files"] == 20
    assert (said["first_date"], said["last_date"]) == ("2024-01-01", "2024-01-10")
    assert said["schema_version"] == schema.SCHEMA_VERSION
    assert said["created_at"] == said["last_probe"] == "2024-03-01T02:00:00Z"
    assert backup.verify(made.path) == made.manifest
    with reader(made.path) as copy, reader(record) as original:
        question = "SELECT * FROM daily_availability ORDER BY ALL"
        assert copy.execute(question).fetchall() == original.execute(question).fetchall()


def test_two_backups_in_one_second_are_two(record, folder):
    first, second = make(record, folder), make(record, folder)
    assert first.path != second.path
    assert backup.backups(folder) == [second.path, first.path]


WRITER = """
import sys, time, datetime as dt
from availability_pipeline_tests.support.backups import HOUR, NOW, write
size = 100
while True:
    size += 1
    write(sys.argv[1], size, NOW + size * HOUR)
    print(size, flush=True)
    time.sleep(0.1)
"""
"""It pauses: else it would have the record again before the backup, which waits, asks for it."""


def test_a_backup_taken_while_another_process_writes_is_one_moment(record, folder):
    """Each write gives all files another size: a torn copy would hold two."""
    command = [sys.executable, "-c", WRITER, str(record)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            seen = []
            while len(seen) < 4 or len(set(seen)) < 2:
                process.stdout.readline()
                made = make(record, folder, NOW + len(seen) * HOUR, wait=60)
                assert backup.verify(made.path)
                seen += sizes(made.path)
            assert process.poll() is None
        finally:
            process.kill()
    assert seen == sorted(seen)


def test_what_a_killed_writer_had_committed_is_in_the_backup(record, folder):
    killed_writer(record)
    log = record.with_name(f"{record.name}.wal").read_bytes()
    made = make(record, folder)
    assert made.manifest.last_probe == NOW + HOUR
    assert (777,) in sizes(made.path)
    assert [p for p in folder.iterdir() if "wal" in p.name] == []
    assert record.with_name(f"{record.name}.wal").read_bytes() == log


LIGHT = """
import datetime as dt, os, signal, sys
from pathlib import Path
from availability_pipeline.record import apart
from availability_pipeline.copies import backup
from availability_pipeline.copies import backup
from availability_pipeline.copies import _snapshot
from availability_pipeline import files
def make():
    now = dt.datetime(2024, 3, 1, 3, tzinfo=dt.UTC)
    keep = backup.Keep(100, 100, 100)
    backup.make(Path(sys.argv[1]), Path(sys.argv[2]), now=now, keep=keep)
"""

KILLED = (
    LIGHT
    + """
owner, name, calls = sys.argv[3], sys.argv[4], int(sys.argv[5])
owner = {"_snapshot": _snapshot, "files": files, "apart": apart, "Path": Path}[owner]
real = getattr(owner, name)
def dies(*args):
    global calls
    calls -= 1
    if not calls:
        if name == "copy":
            [(source, target)] = args[0]
            target.write_bytes(source.read_bytes()[:50_000])
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
setattr(owner, name, dies)
make()
"""
)

MOMENTS = [
    ("apart", "copy", 1), ("_snapshot", "examine", 1), ("Path", "replace", 1),
    ("Path", "replace", 2), ("files", "sync", 3),
]  # fmt: skip


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda m: f"{m[1]}-{m[2]}")
def test_a_killed_backup_leaves_the_old_ones_and_nothing_that_passes_for_new(
    record, folder, moment
):
    old = make(record, folder)
    command = [sys.executable, "-c", KILLED, str(record), str(folder), *map(str, moment)]
    done = subprocess.run(command, cwd=ROOT, check=False, stderr=subprocess.PIPE)
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole = moment == ("files", "sync", 3)  # after the last rename it is a backup
    assert len(backup.backups(folder)) == 1 + whole
    for path in backup.backups(folder):
        backup.verify(path)
    left = [p for p in folder.iterdir() if p.suffix != ".json" and p.name != old.path.name]
    for path in left:
        if not whole or path.name.startswith("."):
            with pytest.raises(backup.BackupError):
                backup.verify(path)
    after = make(record, folder, NOW + 2 * HOUR)
    assert not [p for p in folder.iterdir() if ".part" in p.name]
    assert backup.newest_good(folder)[0] == after.path


def test_only_what_is_named_like_a_backup_is_ever_removed(record, folder):
    folder.mkdir(parents=True)
    strange = (
        "availability.duckdb", "availability-20240301.duckdb", "notes.txt",
        "availability-20249999T000000Z.duckdb", "my-availability-20200101T000000Z.duckdb",
        "availability-20200101T000000Z.duckdb.gz",
    )  # fmt: skip
    for name in strange:
        (folder / name).write_text("mine")
    made = [make(record, folder, NOW + n * 24 * HOUR, Keep(2, 0, 0)) for n in range(4)]
    assert [len(m.removed) for m in made] == [0, 0, 1, 1]
    assert backup.backups(folder) == [made[3].path, made[2].path]
    assert {p.name for p in folder.glob("*.json")} == {
        m.path.with_suffix(".json").name for m in made[2:]
    }
    assert all((folder / name).read_text() == "mine" for name in strange)


def test_the_new_backup_stays_also_when_the_clock_went_back(record, folder):
    ahead = make(record, folder, NOW + 1000 * HOUR)
    new = make(record, folder, NOW, Keep(1, 0, 0))
    assert set(backup.backups(folder)) == {ahead.path, new.path}


def test_a_flipped_byte_anywhere_is_noticed(record, folder):
    path = make(record, folder).path
    good = path.read_bytes()
    for place in random.Random(1).sample(range(len(good)), 20):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(backup.BackupError, match="SHA-256 is not its manifest's"):
            backup.verify(path)


@pytest.mark.parametrize("cut_at", [0, 11, 5_000, -1])
def test_a_backup_cut_short_is_noticed(record, folder, cut_at):
    path = make(record, folder).path
    os.truncate(path, cut_at % path.stat().st_size)
    with pytest.raises(backup.BackupError, match="cut short"):
        backup.verify(path)


def test_a_database_changed_together_with_its_checksum_is_noticed_too(record, folder):
    path = make(record, folder).path
    with duckdb.connect(str(path)) as con:
        con.execute("INSERT INTO files FROM files LIMIT 1")
    rewrite(path)
    with pytest.raises(backup.BackupError, match="21 rows for 20 pairs of date and symbol"):
        backup.verify(path)
    with duckdb.connect(str(path)) as con:
        con.execute("DELETE FROM files WHERE symbol = 'AUSDT'")
    rewrite(path)
    with pytest.raises(backup.BackupError, match="holds other rows than its manifest"):
        backup.verify(path)
    with duckdb.connect(str(path)) as con:
        con.execute("DROP VIEW availability")
    rewrite(path)
    with pytest.raises(backup.BackupError, match="does not verify"):
        backup.verify(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "no manifest"), ("", "damaged"), ("{}", "damaged"), ("[1]", "damaged"),
     ("\xff\x00", "damaged")],
)  # fmt: skip
def test_a_manifest_that_is_missing_or_no_manifest_is_one_line(record, folder, text, words):
    path = make(record, folder).path
    beside = path.with_suffix(".json")
    beside.unlink() if text is None else beside.write_bytes(text.encode("latin-1"))
    with pytest.raises(backup.BackupError, match=words) as caught:
        backup.verify(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_record_is_not_backed_up_and_the_old_backups_stay(record, folder):
    old = make(record, folder)
    content = record.read_bytes()
    for block in range(12_288, len(content), 262_144):
        content = content[: block + 50] + b"\xff" * 64 + content[block + 114 :]
    record.write_bytes(content)
    with pytest.raises(StoreError, match="damaged") as caught:
        make(record, folder, NOW + 1000 * HOUR, Keep(1, 0, 0))
    assert "\n" not in str(caught.value)
    assert backup.backups(folder) == [old.path]
    assert not [p for p in folder.iterdir() if ".part" in p.name]


def test_the_newest_good_backup_of_a_folder_is_found_and_the_bad_ones_are_named(record, folder):
    made = [make(record, folder, NOW + 24 * n * HOUR) for n in range(3)]
    os.truncate(made[2].path, 5_000)
    path, _, passed_over = backup.newest_good(folder)
    assert path == made[1].path
    assert len(passed_over) == 1
    assert "cut short" in passed_over[0]
    for one in made[:2]:
        one.path.with_suffix(".json").unlink()
    with pytest.raises(backup.BackupError, match="none of the 3 backups"):
        backup.newest_good(folder)


def test_a_record_of_an_earlier_version_is_backed_up_as_it_is(record, folder, monkeypatch):
    """The moment before an upgrade is the one at which a backup is wanted most."""
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
    made = make(record, folder)
    assert made.manifest.schema_version == schema.SCHEMA_VERSION - 1
    assert backup.verify(made.path) == made.manifest


def test_a_place_that_refuses_is_one_line_and_leaves_nothing(record, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    for place in (file, file / "below"):
        with pytest.raises(backup.BackupError, match="choose another place") as caught:
            make(record, place)
        assert "\n" not in str(caught.value)
    with pytest.raises(MissingDatabaseError):
        make(tmp_path / "none.duckdb", tmp_path / "empty")
    assert [p.name for p in (tmp_path / "empty").iterdir()] == [".availability-backup.lock"]


FULL = (
    LIGHT
    + """
import resource
# The kernel refuses to let any file grow beyond this, as a full disk does.
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    make()
except backup.BackupError as error:
    print(error)
"""
)


@pytest.mark.parametrize("room", [0, 100, 100_000])
def test_a_disk_that_is_full_is_one_line_and_the_old_backups_stay(record, folder, room):
    old = make(record, folder)
    command = [sys.executable, "-c", FULL, str(record), str(folder), str(room)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "File too large; choose another place, or make room" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert backup.backups(folder) == [old.path]
    backup.verify(old.path)
    assert not [p for p in folder.iterdir() if ".part" in p.name]


def test_two_backups_at_once_into_one_folder_do_not_disturb_each_other(record, folder):
    with backup._alone_in(folder), pytest.raises(backup.BackupError, match="another backup"):
        make(record, folder)
    make(record, folder)


def test_the_last_one_made_is_the_newest_whatever_a_clock_that_jumped_wrote_on_others(
    record, folder
):
    """A backup made by a clock two years ahead was restored for two years."""
    ahead = make(record, folder, at=NOW + dt.timedelta(days=700))
    write(record, size=200, at=NOW + HOUR)
    later = make(record, folder, at=NOW + 2 * HOUR)
    assert backup.backups(folder) == [later.path, ahead.path]
    assert later.future == (ahead.path,)
    assert backup.newest_good(folder)[0] == later.path
    assert sizes(later.path) == [(200,)]


def test_backups_dated_in_the_future_stay_and_take_the_place_of_no_other(record, folder):
    keep = Keep(2, 0, 0)
    ahead = [make(record, folder, at=NOW + dt.timedelta(days=700 + n), keep=ALL) for n in range(3)]
    made = [make(record, folder, at=NOW + dt.timedelta(days=n), keep=keep) for n in range(3)]
    left = {one.path for one in (*ahead, *made[1:])}
    assert set(backup.backups(folder)) == left
    assert made[-1].removed == (made[0].path,)


def test_backups_of_version_0_1_which_are_not_counted_come_before_those_that_are(record, folder):
    old, new = make(record, folder), make(record, folder, at=NOW - HOUR)
    beside = old.path.with_suffix(".json")
    manifest = json.loads(beside.read_text())
    del manifest["number"]
    beside.write_text(json.dumps(manifest))
    assert backup.backups(folder) == [new.path, old.path]
    assert backup.verify(old.path).number == 0
