"""Files of state: private, never opened through a link, never emptied or removed by mistake."""

import datetime as dt
import os
import stat
import subprocess
import sys

import pytest

from availability_pipeline import files
from availability_pipeline.copies import backup, restore
from availability_pipeline.copies.backup import Keep
from availability_pipeline.copies.destinations import Folder
from availability_pipeline.copies.export import Form, export
from availability_pipeline.demo import run as demo
from availability_pipeline.errors import StoreError
from availability_pipeline.orchestration import processes
from availability_pipeline.record import connection
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support.helpers import D, days, flat, make_listing
from availability_pipeline_tests.support.s3 import local_archive

NOW = dt.datetime(2024, 2, 1, tzinfo=dt.UTC)
KEEP = Keep(7, 4, 12)
PRECIOUS = "somebody else's, and precious"


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "state" / "record.duckdb"
    with writer(path) as con:
        files_ = {"AUSDT": flat(D(2024, 1, 1), D(2024, 1, 9))}
        listing = make_listing(D(2024, 1, 1), D(2024, 1, 9), files_)
        store.write_probe(con, listing, probed_at=NOW, run_id="r")
    path.with_name("record.duckdb.turn").unlink()
    return path


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "precious"
    path.write_text(PRECIOUS)
    return path


def plant(name, victim, kind):
    name.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        name.symlink_to(victim)
    elif kind == "second name":
        os.link(victim, name)
    else:
        os.mkfifo(name)


def write(record, tmp_path):
    with connection.writer(record):
        pass


def back_up(record, tmp_path):
    backup.make(record, tmp_path / "backups", now=NOW, keep=KEEP)


def put_back(record, tmp_path):
    made = backup.make(record, tmp_path / "elsewhere", now=NOW, keep=KEEP)
    restore.put_back(made.path, made.manifest, record, now=NOW)


def send_out(record, tmp_path):
    export(record, Folder(tmp_path / "out"), Form("csv"), now=NOW)


def run_background(record, tmp_path):
    processes.up(tmp_path / "home", 1)


def run_demo(record, tmp_path):
    with demo._home(tmp_path / "demo-home"):
        pass


LOCKS = {
    "the writers' turn": ("state/record.duckdb.turn", write, StoreError),
    "a backup's lock": ("backups/.availability-backup.lock", back_up, StoreError),
    "a restore's lock": ("state/record.duckdb.restoring", put_back, StoreError),
    "an export's lock": ("out/.availability-export.lock", send_out, StoreError),
    "the background's lock": ("home/background.lock", run_background, processes.BackgroundError),
    "the demo's lock": (f"demo-home/{demo.LOCK}", run_demo, demo.DemoError),
}


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_not_taken_through_a_link_and_empties_nothing(
    record, tmp_path, victim, lock, kind
):
    """Who may write into the folder could have any file of ours emptied or written over."""
    name, act, error = LOCKS[lock]
    plant(tmp_path / name, victim, kind)
    before = record.read_bytes()
    with pytest.raises(error, match=r"is a symbolic link|is not an ordinary file") as caught:
        act(record, tmp_path)
    assert "\n" not in str(caught.value)
    assert victim.read_text() == PRECIOUS
    assert record.read_bytes() == before


@pytest.mark.parametrize("lock", [lock for lock in LOCKS if lock != "the background's lock"])
def test_a_lock_that_is_a_second_name_of_a_file_leaves_it_alone(record, tmp_path, victim, lock):
    name, act, _ = LOCKS[lock]
    plant(tmp_path / name, victim, "second name")
    act(record, tmp_path)
    assert victim.read_text() == PRECIOUS


@pytest.mark.parametrize("kind", ["link", "second name", "pipe"])
@pytest.mark.parametrize("flags", [os.O_APPEND, os.O_TRUNC])
def test_a_log_is_not_written_through_a_link(tmp_path, victim, kind, flags):
    plant(tmp_path / "log", victim, kind)
    with pytest.raises(OSError, match=r"is a symbolic link|is not an ordinary file|No such device"):
        files.opened(tmp_path / "log", os.O_WRONLY | os.O_CREAT | flags)
    assert victim.read_text() == PRECIOUS


def test_a_file_in_the_place_of_the_backgrounds_lock_is_not_emptied(record, tmp_path):
    lock = tmp_path / "home" / "background.lock"
    lock.parent.mkdir()
    lock.write_text(PRECIOUS)
    with pytest.raises(processes.BackgroundError, match="is not this program's file"):
        processes.up(lock.parent, 1)
    assert lock.read_text() == PRECIOUS


def test_a_demo_home_that_is_a_link_is_not_emptied(tmp_path, victim):
    real = tmp_path / "photos"
    real.mkdir()
    (real / demo.LOCK).touch()
    (real / "one").write_text(PRECIOUS)
    (tmp_path / "demo-home").symlink_to(real)
    with pytest.raises(demo.DemoError), demo._home(tmp_path / "demo-home"):
        pass
    assert (real / "one").read_text() == PRECIOUS


@pytest.mark.parametrize("act", [back_up, send_out, put_back])
def test_what_a_killed_one_left_is_removed_but_not_what_a_link_there_points_to(
    record, tmp_path, act
):
    place, name = {
        back_up: ("backups", ".availability-backup.part"),
        send_out: ("out", ".availability-export-x"),
        put_back: ("state", ".record.duckdb.restoring-x"),
    }[act]
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "one").write_text(PRECIOUS)
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / name).symlink_to(precious)
    left = tmp_path / place / f"{name}2"
    left.mkdir()
    (left / "part").write_text("half")
    act(record, tmp_path)
    assert (precious / "one").read_text() == PRECIOUS
    assert not [p for p in (tmp_path / place).iterdir() if p.name.startswith(name)]


def test_an_export_writes_and_removes_nothing_behind_a_link(record, tmp_path):
    out, precious = tmp_path / "out", tmp_path / "photos"
    export(record, Folder(out), Form("csv", by_month=True), now=NOW)
    (out / "availability").rename(precious)
    (out / "availability").symlink_to(precious)
    [month] = precious.iterdir()
    before = {p.name: p.read_bytes() for p in month.iterdir()}
    with writer(record) as con:
        con.execute("UPDATE files SET file_size_bytes = 7")
        con.execute("UPDATE datasets SET last_probe = last_probe + INTERVAL 1 HOUR")
    with pytest.raises(StoreError, match="symbolic link"):
        export(record, Folder(out), Form("csv", by_month=True), now=NOW)
    export(record, Folder(out), Form("csv"), now=NOW)  # which supersedes those files
    assert {p.name: p.read_bytes() for p in month.iterdir()} == before


def test_a_file_that_is_only_named_like_a_version_of_ours_is_kept(record, tmp_path):
    out = tmp_path / "out"
    export(record, Folder(out), Form("csv", versioned=True), now=NOW)
    foreign = out / "symbols-0123456789abcdef.csv"
    foreign.write_text(PRECIOUS)
    [ours] = out.glob("symbol_spans-*.csv")
    left = out / "probes-0000000000000000.csv"  # of an export that was killed: by its content
    left.write_bytes(ours.read_bytes())
    left = left.rename(out / f"probes-{ours.stem.rpartition('-')[2]}.csv")
    export(record, Folder(out), Form("csv", versioned=True), now=NOW)
    assert foreign.read_text() == PRECIOUS
    assert not left.exists()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("said", "file", "folder"), [(None, 0o600, 0o700), ("027", 0o640, 0o750)])
def test_what_is_kept_is_private_and_what_is_published_is_readable(tmp_path, said, file, folder):
    """With the usual umask of 022, under which everything was readable by everybody."""
    home, out = tmp_path / "home", tmp_path / "published"
    home.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith("AVAILABILITY_")}
    env |= {
        "DAGSTER_HOME": str(home), "AVAILABILITY_DB": str(tmp_path / "state" / "record.duckdb"),
        "NO_PROXY": "127.0.0.1", **({"AVAILABILITY_UMASK": said} if said else {}),
    }  # fmt: skip

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "availability_pipeline.cli", *words],
            env=env, cwd=tmp_path, capture_output=True, text=True, check=False, umask=0o022,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    with local_archive() as archive:
        env["AVAILABILITY_S3_ENDPOINT"] = archive.endpoint
        archive.put("BTCUSDT", days(D(2024, 1, 1), D(2024, 1, 3)))
        run("update", "manual", "--date", "2024-01-02")
    run("backup", str(tmp_path / "backups"))
    run("export", str(out / "files"), "--format", "csv", "--partition-by", "month")
    run("query", "universe", "2024-01-02", "2024-01-02", "--out", str(tmp_path / "asked.csv"))
    kept = [p for place in (home, tmp_path / "state", tmp_path / "backups")
            for p in (place, *place.rglob("*")) if p != home]  # fmt: skip
    assert len(kept) > 10
    assert {str(p): oct(mode(p)) for p in kept if mode(p) != (folder if p.is_dir() else file)} == {}
    published = [out, *(p for p in out.rglob("*") if not p.name.startswith("."))]
    assert len(published) > 4
    assert {mode(p) for p in published if p.is_dir()} == {0o755}
    assert {mode(p) for p in published if p.is_file()} == {0o644}
    assert mode(tmp_path / "asked.csv") == 0o644, "what the user asked for, by the user's umask"


def test_a_restore_keeps_the_modes_of_the_record(record, tmp_path):
    record.chmod(0o640)
    put_back(record, tmp_path)
    assert mode(record) == 0o640


def test_a_folder_that_is_there_keeps_its_modes(tmp_path):
    tmp_path.chmod(0o755)
    files.private_folder(tmp_path)
    files.public_folder(tmp_path)
    assert mode(tmp_path) == 0o755


def test_what_a_service_starts_keeps_its_files_private_and_imports_from_nowhere_else(tmp_path):
    """Containers have no umask of their own."""
    code = "import sys; open('made', 'w').write(str(sys.flags.safe_path))"
    subprocess.run(
        [sys.executable, "-P", "-m", "availability_pipeline.orchestration.services", "--",
         sys.executable, "-c", code],
        cwd=tmp_path, check=False, capture_output=True, umask=0o022,
    )  # fmt: skip
    assert (tmp_path / "made").read_text() == "True"
    assert mode(tmp_path / "made") == 0o600
