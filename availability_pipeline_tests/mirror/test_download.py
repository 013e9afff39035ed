"""What a mirror has is verified, each file once, whatever the archive or the machine does.

If this fails, a researcher computes on a file that is damaged, or fetches a terabyte twice.
"""

import datetime as dt
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue

import duckdb
import pytest

from availability_pipeline.archive.datasets import UM_KLINES_1M
from availability_pipeline.errors import ExportError, MirrorError
from availability_pipeline.mirror import download as downloads
from availability_pipeline.mirror import manifest
from availability_pipeline.mirror.download import Options, download
from availability_pipeline.mirror.store import FolderStore, place
from availability_pipeline.queries.plan import Selection, planned
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.download_host import Fault, download_host
from availability_pipeline_tests.support.helpers import D, wait_for
from availability_pipeline_tests.support.mirrored import (
    SETTLED,
    START,
    content,
    entries,
    publish,
    record,
)
from availability_pipeline_tests.support.s3 import local_archive, own_bucket

LAST = D(2024, 1, 6)
NOW = dt.datetime(2024, 7, 1, tzinfo=dt.UTC)


@pytest.fixture
def host():
    with download_host() as found:
        yield found


@pytest.fixture
def db(tmp_path):
    return tmp_path / "r.duckdb"


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "mirror"


ALL = Selection()


def plan_of(db, dest, of=ALL):
    path = db.with_suffix(".parquet")
    with manifest.opened(place(str(dest))) as held:
        months = held.months()
    with reader(db) as con, planned(con, of, held=months) as found:
        found.write(path)
    return path


def fetch(db, host, dest, *, of=ALL, now=NOW, force=(), **options):
    path = plan_of(db, dest, of)
    chosen = Options(host.url, 4, 20, pause_seconds=0, **options)
    return download(path, place(str(dest)), chosen, now=lambda: now, force=force)


def under_names(dest):
    """Every file that has its final name, with its content."""
    root = Path(dest)
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in (root / "data").rglob("*")
        if path.is_file()
    }


@pytest.fixture
def keys(db, host):
    found = publish(host, "AUSDT", START, LAST)
    record(db, host, end=LAST)
    return found


class TestEachFileOnce:
    def test_everything_is_there_and_says_by_what_it_was_verified(self, db, host, dest, keys):
        report = fetch(db, host, dest)
        assert (report.fetched, report.failed) == (6, [])
        assert under_names(dest) == host.files
        for key, entry in entries(dest).items():
            assert entry.verified == "size,md5,sha256"
            assert entry.sha256 == hashlib.sha256(host.files[key]).hexdigest()
            assert entry.verified_at == NOW

    def test_what_is_whole_is_not_asked_for_again(self, db, host, dest, keys):
        fetch(db, host, dest)
        host.asked.clear()
        report = fetch(db, host, dest)
        assert (report.already, report.fetched) == (6, 0)
        assert not host.asked

    def test_what_was_replaced_is_fetched_and_the_old_version_kept_if_wished(
        self, db, host, dest, keys
    ):
        fetch(db, host, dest)
        old = host.files[keys[0]]
        host.files[keys[0]] = content(keys[0], 4000, 2)
        record(db, host, end=LAST, at=SETTLED + dt.timedelta(1), modified={keys[0]: SETTLED})
        host.asked.clear()
        report = fetch(db, host, dest, keep_replaced=True, now=NOW + dt.timedelta(1))
        assert (report.fetched, report.replaced, report.already) == (1, 1, 5)
        assert under_names(dest) == host.files
        (kept,) = (Path(dest) / ".manifest/replaced").rglob("*.zip.*")
        assert kept.read_bytes() == old
        assert kept.name.endswith(hashlib.md5(old).hexdigest())

    def test_what_vanished_stays_and_is_marked(self, db, host, dest, keys):
        fetch(db, host, dest)
        gone = host.files.pop(keys[2])
        record(db, host, end=LAST, at=SETTLED + dt.timedelta(1))
        report = fetch(db, host, dest, now=NOW + dt.timedelta(1))
        assert report.vanished == 1
        assert under_names(dest)[keys[2]] == gone
        assert entries(dest)[keys[2]].state == "vanished"
        # Once is enough, and it may come back: without a request, for it is there.
        assert fetch(db, host, dest, now=NOW + dt.timedelta(2)).vanished == 0
        host.files[keys[2]] = gone
        record(db, host, end=LAST, at=SETTLED + dt.timedelta(2))
        host.asked.clear()
        assert fetch(db, host, dest, now=NOW + dt.timedelta(3)).adopted == 1
        assert not host.asked
        assert entries(dest)[keys[2]].state == "whole"

    def test_files_of_another_tool_are_read_instead_of_fetched(self, db, host, dest, keys):
        for key in keys[:3]:
            path = dest / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(host.files[key])
        (dest / keys[3]).write_bytes(b"an older version, by chance not as long")
        report = fetch(db, host, dest)
        assert (report.adopted, report.fetched, report.replaced) == (3, 3, 1)
        assert not any(host.asked[key] for key in keys[:3])
        # It was not ours: it is not thrown away.
        (kept,) = (dest / ".manifest/replaced").rglob("*.zip.*")
        assert kept.read_bytes().startswith(b"an older version")

    def test_a_file_that_somebody_removed_comes_again(self, db, host, dest, keys):
        fetch(db, host, dest)
        (dest / keys[1]).unlink()
        (dest / keys[2]).write_bytes(b"short")
        assert fetch(db, host, dest).fetched == 2
        assert under_names(dest) == host.files

    def test_runs_are_merged_and_say_the_same(self, db, host, dest, keys, monkeypatch):
        monkeypatch.setattr(manifest, "MOST_RUNS", 3)
        monkeypatch.setattr(downloads, "FLUSH_FILES", 2)
        fetch(db, host, dest)
        for n in range(6):
            (dest / keys[n]).unlink()
            fetch(db, host, dest, now=NOW + dt.timedelta(n + 1))
            runs = list((dest / ".manifest/runs").iterdir())
            assert len(runs) <= 4
            assert set(entries(dest)) == set(keys)
        assert entries(dest)[keys[5]].verified_at == NOW + dt.timedelta(6)


FAULTS = {
    "flipped byte": (Fault("flip"), "MD5"),
    "cut body": (Fault("cut"), "no whole answer"),
    "403": (Fault("status", status=403), "HTTP 403"),
    "404 between plan and fetch": (Fault("status", status=404), "not there"),
    "503": (Fault("status", status=503), "HTTP 503"),
    "reset": (Fault("reset"), "no whole answer"),
    "moved elsewhere": (Fault("move"), "elsewhere.example"),
    "longer than promised": (Fault("longer"), "more than the 3,000 bytes"),
}


class TestFaults:
    @pytest.mark.parametrize("name", FAULTS)
    def test_nothing_unverified_gets_its_name(self, db, host, dest, keys, name):
        fault, reason = FAULTS[name]
        host.faults[keys[0]] = fault
        report = fetch(db, host, dest)
        assert [one.key for one in report.failed] == [keys[0]]
        assert reason in report.failed[0].reason
        assert under_names(dest) == {key: host.files[key] for key in keys[1:]}
        assert keys[0] not in entries(dest)
        # Well again, the same command goes on.
        host.faults.clear()
        assert fetch(db, host, dest).fetched == 1
        assert under_names(dest) == host.files

    @pytest.mark.parametrize("name", ["flipped byte", "cut body", "503", "reset"])
    def test_what_may_pass_is_tried_once_more(self, db, host, dest, keys, name):
        host.faults[keys[0]] = Fault(FAULTS[name][0].kind, times=1)
        report = fetch(db, host, dest)
        assert (report.fetched, report.failed) == (6, [])
        assert host.asked[keys[0]] == 2

    def test_what_does_not_match_is_kept_apart(self, db, host, dest, keys):
        host.faults[keys[0]] = Fault("flip")
        report = fetch(db, host, dest)
        assert report.damaged == {f".manifest/damaged/{keys[0]}"}
        assert (dest / ".manifest/damaged" / keys[0]).stat().st_size == 3000

    def test_a_stalled_body_is_given_up(self, db, host, dest, keys):
        host.faults[keys[0]] = Fault("stall")
        path = plan_of(db, dest)
        options = Options(host.url, 4, 0.5, pause_seconds=0)
        report = download(path, place(str(dest)), options, now=lambda: NOW)
        assert [one.key for one in report.failed] == [keys[0]]
        assert set(under_names(dest)) == set(keys[1:])

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("0" * 64 + "  {name}\n", "SHA-256"),
            ("{sum}  OTHER-1m-2024-01-01.zip\n", "CHECKSUM is of OTHER"),
            ("nonsense", "not a SHA-256 and a name"),
            ("{sum}  {name}\n" + "x" * 2000, "not a SHA-256 and a name"),
        ],
    )
    def test_a_wrong_checksum_is_refused(self, db, host, dest, keys, text, reason):
        name = keys[0].rpartition("/")[2]
        right = hashlib.sha256(host.files[keys[0]]).hexdigest()
        host.checksums[keys[0]] = text.format(name=name, sum=right)
        report = fetch(db, host, dest)
        assert reason in report.failed[0].reason
        assert keys[0] not in under_names(dest)

    def test_a_missing_checksum_leaves_the_etag_to_prove_it(self, db, host, dest, keys):
        host.checksums[keys[0]] = None
        report = fetch(db, host, dest)
        assert (report.fetched, report.without_checksum, report.failed) == (6, 1, [])
        assert entries(dest)[keys[0]].verified == "size,md5"

    def test_without_either_nothing_proves_it(self, db, host, dest, keys):
        with duckdb.connect(str(db)) as con:
            con.execute("UPDATE files SET etag = NULL WHERE period = ?", [START])
        host.checksums[keys[0]] = None
        report = fetch(db, host, dest)
        assert "nothing verifies it" in report.failed[0].reason
        del host.checksums[keys[0]]
        fetch(db, host, dest)
        assert entries(dest)[keys[0]].verified == "size,sha256"
        # And is whole the next time, by size and time.
        host.asked.clear()
        assert fetch(db, host, dest).already == 6

    def test_a_newer_version_than_the_record_is_not_taken(self, db, host, dest, keys):
        host.files[keys[0]] = content(keys[0], 3000, 2)
        report = fetch(db, host, dest)
        assert "another version than the record" in report.failed[0].reason
        assert keys[0] not in under_names(dest)

    def test_no_checksums_asks_for_none(self, db, host, dest, keys):
        report = fetch(db, host, dest, checksums=False)
        assert (report.fetched, report.without_checksum) == (6, 0)
        assert not [key for key in host.asked if key.endswith(".CHECKSUM")]

    def test_an_archive_that_answers_nothing_is_not_asked_for_all(self, db, host, dest):
        publish(host, "AUSDT", START, START + dt.timedelta(200))
        record(db, host, end=START + dt.timedelta(200))
        host.faults["*"] = Fault("status", status=503)
        with pytest.raises(MirrorError, match="50 files in a row could not be fetched"):
            fetch(db, host, dest)
        assert sum(host.asked.values()) < 150

    def test_a_large_file_goes_on_where_it_was_cut_off(self, db, host, dest):
        (key,) = publish(host, "AUSDT", START, START, size=3 * 2**20)
        record(db, host, end=START)
        host.faults[key] = Fault("cut", times=1)
        report = fetch(db, host, dest)
        assert (report.fetched, report.failed) == (1, [])
        (asked,) = host.ranges
        assert int(asked.removeprefix("bytes=").rstrip("-")) >= 2**20
        assert under_names(dest) == host.files
        assert not list((dest / ".manifest/parts").iterdir())


class TestPlaces:
    def test_a_destination_in_a_file_is_refused(self, db, host, tmp_path, keys):
        (tmp_path / "file").write_text("x")
        with pytest.raises(MirrorError, match="choose another place"):
            fetch(db, host, tmp_path / "file" / "mirror")

    def test_another_archives_mirror_is_refused(self, db, host, dest, keys):
        fetch(db, host, dest)
        with download_host() as other, pytest.raises(MirrorError, match="is a mirror of http"):
            fetch(db, other, dest)

    @pytest.mark.parametrize("mark", [b"{}", b"no json", b'{"format": 99, "source": "x"}'])
    def test_a_strange_mark_is_refused(self, db, host, dest, keys, mark):
        (dest / ".manifest").mkdir(parents=True)
        (dest / ".manifest/mirror.json").write_bytes(mark)
        with pytest.raises(MirrorError, match="choose another place"):
            fetch(db, host, dest)
        assert not host.asked

    def test_a_folder_that_may_not_be_written_is_one_line(self, db, host, keys):
        with pytest.raises(MirrorError, match="/proc/mirror"):
            fetch(db, host, Path("/proc/mirror"))

    def test_a_full_disk_is_one_line_and_keeps_what_is_whole(
        self, db, host, dest, keys, monkeypatch
    ):
        put, n = FolderStore.put, iter(range(100))

        def full(self, name, part):
            if name.startswith("data/") and next(n) == 3:
                raise OSError(28, "No space left on device", str(part))
            put(self, name, part)

        monkeypatch.setattr(FolderStore, "put", full)
        with pytest.raises(MirrorError, match="is full; what is whole stays"):
            fetch(db, host, dest)
        monkeypatch.undo()
        there = under_names(dest)
        assert there
        assert all(host.files[key] == body for key, body in there.items())
        assert set(entries(dest)) == set(there)
        assert fetch(db, host, dest).already == len(there)

    def test_a_link_out_of_the_mirror_is_not_followed(self, db, host, dest, keys, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (dest / "data/futures").mkdir(parents=True)
        (dest / "data/futures/um").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(MirrorError, match="symbolic link"):
            fetch(db, host, dest)
        assert not list((tmp_path / "elsewhere").iterdir())

    def test_two_at_once_are_refused(self, db, host, dest, keys):
        with (
            place(str(dest)).locked(host.url),
            pytest.raises(MirrorError, match="another download"),
        ):
            fetch(db, host, dest)
        assert not host.asked

    def test_a_plan_that_names_other_files_is_refused(self, db, host, dest, keys, tmp_path):
        plan = plan_of(db, dest)
        evil = tmp_path / "evil.parquet"
        for change in (
            "'../../etc/passwd' AS key",
            "'data/futures/um/daily/klines/../../x.zip' AS key",
            "'BUSDT' AS symbol",
            "'um/daily/nothing' AS dataset",
        ):
            with duckdb.connect() as con:
                con.execute(
                    f"COPY (SELECT * REPLACE ({change}) FROM read_parquet(?)) TO '{evil}'",
                    [str(plan)],
                )
            options = Options(host.url, 4, 20)
            with pytest.raises(MirrorError, match="which is not a file of"):
                download(evil, place(str(dest)), options, now=lambda: NOW)
        evil.write_bytes(b"no parquet")
        with pytest.raises(MirrorError, match="is not a plan"):
            download(evil, place(str(dest)), Options(host.url), now=lambda: NOW)
        assert not host.asked

    def test_a_damaged_manifest_is_one_line(self, db, host, dest, keys):
        fetch(db, host, dest)
        (run,) = (dest / ".manifest/runs").iterdir()
        run.write_bytes(b"x" * 100)
        with pytest.raises(MirrorError, match=r"manifest of .* cannot be read"):
            fetch(db, host, dest)
        run.unlink()
        assert fetch(db, host, dest).adopted == 6


PROGRAM = """
import datetime as dt, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored
from pathlib import Path
from availability_pipeline.mirror.download import Options, download
from availability_pipeline.mirror.store import place
plan, dest, url = sys.argv[1:]
report = download(Path(plan), place(dest), Options(url, 2, 30), now=lambda: dt.datetime.now(dt.UTC))
print("interrupted" if report.interrupted else report.fetched)
"""


class TestDeaths:
    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
    def test_only_whole_files_are_left(self, db, host, dest, how):
        publish(host, "AUSDT", START, START + dt.timedelta(40))
        record(db, host, end=START + dt.timedelta(40))
        reached = []

        def hold(key):
            reached.append(key)
            if len(reached) > 30:
                host.closing.wait()

        host.before = hold
        plan = plan_of(db, dest)
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(plan), str(dest), host.url],
            stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            wait_for(lambda: len(reached) > 31)
            process.send_signal(how)
            said = process.communicate()[0]
        there = under_names(dest)
        assert there
        assert all(host.files[key] == body for key, body in there.items())
        if how == signal.SIGINT:
            assert said.strip() == "interrupted"
            assert set(entries(dest)) == set(there)
        host.before = lambda _: None
        host.asked.clear()
        report = fetch(db, host, dest)
        assert under_names(dest) == host.files
        assert report.failed == []
        # Nothing that was whole was fetched again.
        assert report.already + report.adopted == len(there)
        assert not any(host.asked[key] for key in there)

    def test_an_interrupt_between_any_two_steps_loses_no_file(self, db, host, dest, monkeypatch):
        """Ctrl-C as a result is handed over: the file has its name, and is in no list yet."""
        publish(host, "AUSDT", START, START + dt.timedelta(40))
        record(db, host, end=START + dt.timedelta(40))

        class Interrupting(SimpleQueue):
            given = 0

            def get(self, *words, **named):
                found = super().get(*words, **named)
                self.given += 1
                if self.given == 12:
                    signal.raise_signal(signal.SIGINT)
                return found

        monkeypatch.setattr("availability_pipeline.mirror.download.SimpleQueue", Interrupting)
        report = fetch(db, host, dest)
        assert report.interrupted
        assert set(entries(dest)) == set(under_names(dest))
        assert report.fetched == len(under_names(dest))


@pytest.fixture(scope="module")
def endpoint():
    with local_archive() as archive:
        yield archive.endpoint


class TestBuckets:
    @pytest.fixture
    def bucket(self, endpoint, monkeypatch):
        return f"s3://{own_bucket(monkeypatch, endpoint)}/here"

    def test_a_bucket_holds_the_same(self, db, host, bucket, keys):
        host.faults[keys[5]] = Fault("flip", times=1)
        report = fetch(db, host, bucket)
        assert (report.fetched, report.failed) == (6, [])
        store = place(bucket)
        for key in keys:
            assert store.read(key) == host.files[key]
        host.asked.clear()
        assert fetch(db, host, bucket).already == 6
        assert not host.asked
        # Without its manifest, the object store's own MD5 is enough.
        for name, _ in list(store.names(manifest.RUNS)):
            store.remove(name)
        assert fetch(db, host, bucket).adopted == 6
        assert not host.asked

    def test_a_replaced_file_is_kept(self, db, host, bucket, keys):
        fetch(db, host, bucket)
        old = host.files[keys[0]]
        host.files[keys[0]] = content(keys[0], 4000, 2)
        record(db, host, end=LAST, at=SETTLED + dt.timedelta(1), modified={keys[0]: SETTLED})
        fetch(db, host, bucket, keep_replaced=True, now=NOW + dt.timedelta(1))
        store = place(bucket)
        assert store.read(keys[0]) == host.files[keys[0]]
        ((name, _),) = store.names(manifest.REPLACED)
        assert store.read(name) == old

    def test_two_at_once_are_refused_and_a_lock_is_renewed(self, db, host, bucket, keys):
        with place(bucket).locked(host.url), pytest.raises(ExportError, match="another download"):
            fetch(db, host, bucket)
        first = place(bucket)
        with first.locked(host.url):
            first.renew()
            first.renew()
        fetch(db, host, bucket)

    def test_a_bucket_that_is_not_there_is_one_line(self, db, host, bucket, keys):
        with pytest.raises(ExportError, match="refuses"):
            fetch(db, host, "s3://no-such-bucket-here")


def test_a_fetched_file_may_be_read_by_all(db, host, dest, keys):
    before = os.umask(0o077)
    try:
        fetch(db, host, dest)
    finally:
        os.umask(before)
    for path in (dest / keys[0], *(dest / keys[0]).parents):
        if path.is_relative_to(dest):
            assert path.stat().st_mode & 0o044 == 0o044


def test_the_key_of_a_job_is_of_its_dataset():
    key = UM_KLINES_1M.key("AUSDT", START)
    job = downloads.Job(key, str(UM_KLINES_1M), "AUSDT", START, 1, None, None)
    assert downloads.checked(job) is job
