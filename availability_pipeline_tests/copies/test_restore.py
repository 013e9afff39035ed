"""Putting a backup back. Breaking it loses the record twice: the old one and the backup."""

import datetime as dt
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from availability_pipeline import files
from availability_pipeline.archive.datasets import FIRST_DATE, Dataset
from availability_pipeline.cli.main import cli
from availability_pipeline.copies import backup, restore
from availability_pipeline.errors import StoreBusyError
from availability_pipeline.record import schema
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline_tests.support import old_schemas
from availability_pipeline_tests.support.backups import (
    END,
    HOUR,
    NOW,
    START,
    folder,
    killed_writer,
    make,
    record,
    rewrite,
    sizes,
    write,
)
from availability_pipeline_tests.support.helpers import PATIENCE, D, flat, make_listing
from availability_pipeline_tests.support.several import FUNDING

__all__ = ["folder", "record"]  # fixtures

ROOT = Path(__file__).parents[2]
LATER = NOW + 48 * HOUR


def put_back(made, record, wait=30):
    return restore.put_back(made.path, made.manifest, record, now=LATER, wait_seconds=wait)


def test_the_backup_stands_in_the_records_place_and_the_replaced_one_beside_it(record, folder):
    made = make(record, folder)
    write(record, 555, NOW + HOUR)
    replaced = put_back(made, record)
    assert replaced.name == "record.duckdb.replaced-20240303T020000Z"
    assert (sizes(record), sizes(replaced)) == ([(100,)], [(555,)])
    with reader(replaced) as con:
        assert con.execute("SELECT count(*) FROM revisions").fetchall() == [(20,)]
    write(record, 556, NOW + 2 * HOUR)  # an ordinary record again
    assert sizes(record) == [(556,)]
    again = put_back(made, record)
    assert (sizes(record), sizes(replaced), sizes(again)) == ([(100,)], [(555,)], [(556,)])
    assert sorted(p.name for p in record.parent.iterdir() if "restoring" in p.name) == []


def test_a_log_that_a_killed_writer_left_goes_with_the_replaced_database(record, folder):
    """Applied to the restored file it would bring back what the restore was to undo."""
    made = make(record, folder)
    killed_writer(record)
    replaced = put_back(made, record)
    assert not record.with_name("record.duckdb.wal").exists()
    assert sizes(record) == [(100,)]
    assert replaced.with_name(f"{replaced.name}.wal").exists()
    with reader(replaced) as con:
        found = con.execute("SELECT DISTINCT file_size_bytes FROM files")
        assert found.fetchall() == [(777,)]


def test_a_record_that_is_gone_or_cannot_be_opened_is_restored_too(record, folder):
    made = make(record, folder)
    os.truncate(record, 20_000)
    replaced = put_back(made, record)
    assert replaced.stat().st_size == 20_000
    assert sizes(record) == [(100,)]
    elsewhere = record.parent / "new" / "folder" / "record.duckdb"
    assert put_back(made, elsewhere) is None
    assert sizes(elsewhere) == [(100,)]


def test_a_link_in_the_records_place_stays_a_link(record, folder):
    made = make(record, folder)
    link = record.parent / "link.duckdb"
    link.symlink_to(record)
    write(record, 555, NOW + HOUR)
    put_back(made, link)
    assert link.is_symlink()
    assert sizes(record) == [(100,)]


def test_a_restore_that_could_not_probe_afterwards_replaces_nothing(record, folder, monkeypatch):
    make(record, folder)
    write(record, 555, NOW + HOUR)
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "none"))
    monkeypatch.setenv("AVAILABILITY_DB", str(record))
    done = CliRunner().invoke(cli, ["restore", str(folder), "--repair"])
    assert done.exit_code == 1
    assert "is not a folder; make it or correct it" in done.stderr
    assert done.stdout == ""
    assert sizes(record) == [(555,)]


HOLD = """
import sys, time, duckdb
from pathlib import Path
con = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "reader")
con.execute("SET TimeZone = 'UTC'")
print("held", flush=True)
time.sleep(float(sys.argv[3]))
print(con.execute("SELECT DISTINCT file_size_bytes FROM files").fetchall())
Path(sys.argv[1] + ".held").unlink()
con.close()
"""


def hold(record, kind, seconds):
    """Another process has the database open; until it lets go there is a file `….held`."""
    record.with_name(f"{record.name}.held").touch()
    command = [sys.executable, "-c", HOLD, str(record), kind, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_a_restore_waits_for_whoever_has_the_database_open(record, folder, kind):
    made = make(record, folder)
    write(record, 555, NOW + HOUR)
    with hold(record, kind, 1) as process:
        put_back(made, record, wait=PATIENCE)
        assert not record.with_name("record.duckdb.held").exists(), "it did not wait"
        assert process.stdout.read() == "[(555,)]\n"
    assert sizes(record) == [(100,)]


def test_the_wait_is_bounded_and_then_nothing_has_changed(record, folder):
    made = make(record, folder)
    write(record, 555, NOW + HOUR)
    with hold(record, "reader", 10 * PATIENCE) as process:
        try:
            with pytest.raises(StoreBusyError, match=r"than 0\.2 s; .* as it was"):
                put_back(made, record, wait=0.2)
        finally:
            process.kill()
    assert sizes(record) == [(555,)]
    record.with_name("record.duckdb.held").unlink()
    assert {p.name for p in record.parent.iterdir() if p.suffix != ".turn"} == {
        "record.duckdb",
        "deep",
    }


READ = """
import sys, time
from availability_pipeline.record import connection
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    with connection.reader(sys.argv[1], 30) as con:
        print(con.execute("SELECT DISTINCT file_size_bytes FROM daily_availability "
                          "WHERE available").fetchall(), flush=True)
"""


def test_readers_see_the_old_or_the_new_record_and_never_none(record, folder):
    made = make(record, folder)
    write(record, 555, NOW + HOUR)
    with subprocess.Popen(
        [sys.executable, "-c", READ, str(record), "3"], stdout=subprocess.PIPE, text=True
    ) as process:
        seen = [process.stdout.readline()]
        rest = threading.Thread(target=lambda: seen.extend(process.stdout))
        rest.start()
        for _ in range(10):
            put_back(made, record, wait=PATIENCE)
        rest.join()
        assert process.wait() == 0
    assert set(seen) <= {"[(555,)]\n", "[(100,)]\n"}


def test_readers_without_a_pause_do_not_keep_a_restore_out(record, folder):
    made = make(record, folder)
    command = [sys.executable, "-c", READ, str(record), str(10 * PATIENCE)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    try:
        for reader in readers:
            assert reader.stdout.readline() == b"[(100,)]\n"
        for _ in range(8):
            # Without the turn two of three took longer than this.
            put_back(made, record, wait=60)
        assert [reader.poll() for reader in readers] == [None] * 4, "they read all the while"
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()


def test_a_backup_that_changed_after_it_was_proved_is_not_restored(record, folder):
    made = make(record, folder)
    write(record, 555, NOW + HOUR)
    before = record.read_bytes()
    os.truncate(made.path, 20_000)
    with pytest.raises(backup.BackupError, match="changed while it was copied"):
        put_back(made, record)
    assert record.read_bytes() == before
    assert {p.name for p in record.parent.iterdir() if p.suffix != ".turn"} == {
        "record.duckdb",
        "deep",
    }


def test_a_newer_backup_is_refused_with_the_remedy(record, folder):
    made = make(record, folder)
    rewrite(made.path, schema_version=schema.SCHEMA_VERSION + 1)
    with pytest.raises(backup.BackupError, match="upgrade binance-availability"):
        backup.newest_good(made.path)
    with duckdb.connect(str(made.path)) as con:
        con.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    rewrite(made.path, schema_version=schema.SCHEMA_VERSION)  # a manifest that lies
    with pytest.raises(backup.BackupError, match="upgrade binance-availability"):
        backup.newest_good(made.path)


def test_somebody_elses_database_is_refused_whatever_its_manifest_says(record, folder):
    made = make(record, folder)
    made.path.unlink()
    duckdb.connect(str(made.path)).execute("CREATE TABLE meta (x INTEGER)").close()
    rewrite(made.path)
    with pytest.raises(backup.BackupError, match="holds other tables than ours"):
        backup.newest_good(made.path)
    made.path.write_text("x" * 5_000)
    rewrite(made.path)
    with pytest.raises(backup.BackupError, match="is not a DuckDB database"):
        backup.newest_good(made.path)


@pytest.mark.parametrize("version", [1, 3])
def test_a_backup_of_an_earlier_version_is_restored_and_migrated(tmp_path, folder, version):
    path = tmp_path / "old.duckdb"
    old_schemas.build(str(path), version)
    made = make(path, folder)
    assert (made.manifest.schema_version, made.manifest.rows) == (version, 20)
    path.unlink()
    found, manifest, _ = backup.newest_good(made.path)
    restore.put_back(found, manifest, path, now=LATER)
    [lacks] = restore.lacking(path, D(2024, 1, 13)).outstanding
    assert lacks.start == D(2024, 1, 11)
    with reader(path) as con:
        assert schema.get_meta(con, "schema_version") == str(schema.SCHEMA_VERSION)
        assert con.execute("SELECT count(*) FROM daily_availability").fetchall() == [(20,)]


def test_what_is_to_be_looked_at_again_is_what_was_unknown_or_not_settled(tmp_path):
    path = tmp_path / "record.duckdb"
    two = dt.datetime(2024, 1, 11, 2, tzinfo=dt.UTC)
    with writer(path) as con:
        store.write_probe(
            con, make_listing(START, END, {"AUSDT": flat(START, D(2024, 1, 8))}),
            probed_at=two, run_id="r",
        )  # fmt: skip
    # 9 and 10 January were pending; 11 to 13 were never probed.

    def start(today):
        [lacks] = restore.lacking(path, today).outstanding
        return lacks.start

    found = restore.lacking(path, D(2024, 1, 14))
    assert found.outstanding == (
        restore.Outstanding(Dataset(), D(2024, 1, 9), D(2024, 1, 13), unknown=3, unsettled=2),
    )
    # A clock one day behind the record: nothing is asked of a date that is not over.
    assert start(D(2024, 1, 10)) == D(2024, 1, 9)
    assert start(D(2024, 1, 9)) is None


def test_an_empty_record_lacks_everything(tmp_path):
    path = tmp_path / "record.duckdb"
    with writer(path):
        pass
    today = FIRST_DATE + dt.timedelta(3)
    [found] = restore.lacking(path, today).outstanding
    yesterday = today - dt.timedelta(1)
    assert found == restore.Outstanding(Dataset(), FIRST_DATE, yesterday, unknown=3, unsettled=0)
    both = restore.lacking(path, today, configured=[Dataset(), FUNDING])
    assert [one.start for one in both.outstanding] == [FIRST_DATE, None]
    assert both.unheld == both.unconfigured == ()


FULL = """
import json, resource, sys, datetime as dt
from pathlib import Path
from availability_pipeline.copies import backup
from availability_pipeline.copies import restore
path = Path(sys.argv[1])
manifest = backup.verify(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))  # as a full disk
try:
    restore.put_back(path, manifest, Path(sys.argv[2]), now=dt.datetime.now(dt.UTC))
except backup.BackupError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_record_as_it_was(record, folder):
    made = make(record, folder)
    before = record.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(made.path), str(record)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "File too large; the record is as it was" in done.stdout
    assert record.read_bytes() == before
    assert {p.name for p in record.parent.iterdir() if p.suffix != ".turn"} == {
        "record.duckdb",
        "deep",
    }


def test_a_place_that_refuses_is_one_line(record, folder):
    made = make(record, folder)
    for place in (record / "below.duckdb", folder):
        with pytest.raises(backup.BackupError, match="the record is as it was") as caught:
            put_back(made, place)
        assert "\n" not in str(caught.value)


def test_two_restores_at_once_do_not_mix(record, folder):
    made = make(record, folder)
    name = record.with_name("record.duckdb.restoring")
    with files.lock_file(name) as lock:
        restore._lock_alone(lock, name, record)
        with pytest.raises(backup.BackupError, match="another restore"):
            put_back(made, record)
        assert json.loads(made.path.with_suffix(".json").read_text())["tables"]
    put_back(made, record)
