"""The mirror as an asset: a run in chunks fetches what the record has, each file once.

If this fails, an update of one file fetches a terabyte, or a killed run leaves a mirror that no
later run completes.
"""

import datetime as dt
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from click.testing import CliRunner

from availability_pipeline.archive.datasets import UM_KLINES_1M
from availability_pipeline.cli.main import cli
from availability_pipeline.errors import MirrorError
from availability_pipeline.mirror import chunks, running, verify
from availability_pipeline.mirror.download import Options, download
from availability_pipeline.mirror.store import place
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.resources import Clock
from availability_pipeline.orchestration.runs import others_running
from availability_pipeline.orchestration.schedules import mirror_sensor
from availability_pipeline.queries.plan import Selection, planned
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.download_host import Fault, download_host
from availability_pipeline_tests.support.helpers import PATIENCE, D, wait_for
from availability_pipeline_tests.support.mirrored import (
    SETTLED,
    START,
    content,
    entries,
    publish,
    record,
)

LAST = D(2024, 1, 10)
SYMBOLS = ("AUSDT", "BUSDT", "CUSDT")


@pytest.fixture
def host():
    with download_host() as found:
        yield found


@pytest.fixture
def keys(host):
    return [key for symbol in SYMBOLS for key in publish(host, symbol, START, LAST)]


@pytest.fixture
def db(tmp_path, host, keys):
    path = tmp_path / "r.duckdb"
    record(path, host, end=LAST)
    return path


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "mirror"


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture(autouse=True)
def _configured(monkeypatch, tmp_path, host):
    monkeypatch.setenv("AVAILABILITY_MIRROR_URL", (tmp_path / "mirror").as_uri())
    monkeypatch.setenv("AVAILABILITY_DOWNLOAD_URL", host.url)
    monkeypatch.setenv("AVAILABILITY_DOWNLOADS", "4")
    monkeypatch.setenv("AVAILABILITY_DB", str(tmp_path / "r.duckdb"))
    monkeypatch.setattr(chunks, "CHUNK_FILES", 7)


def mirror(instance, **options):
    job = build_defs().resolve_job_def("mirror")
    return job.execute_in_process(instance=instance, raise_on_error=False, **options)


def numbers(done):
    [event] = done.get_asset_materialization_events()
    assert event.asset_key == dg.AssetKey("mirrored_files")
    return {name: value.value for name, value in event.materialization.metadata.items()}


def why(done):
    [event] = [e for e in done.all_events if e.is_step_failure]
    return event.step_failure_data.user_failure_data.description


def steps(done):
    return Counter(e.step_key.partition("[")[0] for e in done.all_events if e.is_step_success)


def under_names(dest):
    return {
        path.relative_to(dest).as_posix(): path.read_bytes()
        for path in (dest / "data").rglob("*")
        if path.is_file()
    }


def rows(dest):
    """Each row of the manifest, as all its files have them."""
    with duckdb.connect() as con:
        return con.execute(
            "SELECT key, state FROM read_parquet($files)",
            {"files": [str(path) for path in (dest / ".manifest/runs").iterdir()]},
        ).fetchall()


def bodies(host):
    """How often each file was asked for, CHECKSUMs left out."""
    return {key: n for key, n in host.asked.items() if not key.endswith(".CHECKSUM")}


def left(dest):
    """What a run leaves of its own."""
    inside = dest / ".manifest"
    return [
        path.relative_to(inside).as_posix()
        for path in inside.rglob("*")
        if path.is_file() and path.parent.name not in ("runs", "selections")
    ]


class TestARun:
    def test_has_all_files_in_chunks_each_once(self, instance, db, host, dest, keys):
        done = mirror(instance)
        assert done.success
        assert under_names(dest) == host.files
        assert steps(done)["mirrored_files.fetch_chunk"] == 5
        found = numbers(done)
        assert (found["files"], found["fetched"], found["failed"]) == (30, 30, 0)
        assert found["bytes_fetched"] == 30 * 3000
        assert sorted(key for key, _ in rows(dest)) == sorted(keys)
        assert set(bodies(host).values()) == {1}
        assert sorted(left(dest)) == ["lock", "mirror.json"]

    def test_after_an_update_fetches_only_what_changed(self, instance, db, host, dest, keys):
        assert mirror(instance).success
        host.files[keys[3]] = content(keys[3], 4000, 2)
        gone = host.files.pop(keys[5])
        record(db, host, end=LAST, at=SETTLED + dt.timedelta(1), modified={keys[3]: SETTLED})
        host.asked.clear()
        done = mirror(instance)
        assert bodies(host) == {keys[3]: 1}
        found = numbers(done)
        assert (found["fetched"], found["replaced"], found["vanished"]) == (1, 1, 1)
        assert found["already"] == 28
        assert under_names(dest) == host.files | {keys[5]: gone}
        host.asked.clear()
        done = mirror(instance)
        assert steps(done)["mirrored_files.fetch_chunk"] == 0
        assert (numbers(done)["files"], dict(host.asked)) == (29, {})

    def test_takes_what_is_selected(self, instance, db, host, dest, monkeypatch):
        monkeypatch.setenv("AVAILABILITY_MIRROR", "symbols=BUSDT start=2024-01-08")
        assert mirror(instance).success
        assert {key.split("/")[-1] for key in under_names(dest)} == {
            f"BUSDT-1m-2024-01-{day}.zip" for day in ("08", "09", "10")
        }

    def test_says_in_one_line_which_files_could_not_be_had_and_the_next_one_has_them(
        self, instance, db, host, dest, keys
    ):
        host.faults[keys[0]] = Fault("flip")
        done = mirror(instance)
        assert not done.success
        assert why(done).startswith(f"1 files could not be had ({keys[0]}: its content is not")
        assert "\n" not in why(done)
        assert under_names(dest) == {key: host.files[key] for key in keys[1:]}
        assert not done.get_asset_materialization_events()
        host.faults.clear()
        host.asked.clear()
        done = mirror(instance)
        assert bodies(host) == {keys[0]: 1}
        assert under_names(dest) == host.files

    def test_whose_record_fits_nothing_fails_in_one_line(self, instance, db, host, monkeypatch):
        monkeypatch.setenv("AVAILABILITY_MIRROR", "symbols=NOSUCH")
        done = mirror(instance)
        assert "NOSUCH" in why(done)
        assert "\n" not in why(done)
        # What it had taken is given back at once: the run is over.
        monkeypatch.setenv("AVAILABILITY_MIRROR", "")
        assert mirror(instance).success


def test_a_mirror_run_that_takes_days_is_no_writer_of_the_record(instance):
    run = instance.add_run(dg.DagsterRun("mirror", status=dg.DagsterRunStatus.STARTED))
    assert not others_running(instance, "")
    instance.add_run(dg.DagsterRun("late_arrivals", status=dg.DagsterRunStatus.STARTED))
    assert others_running(instance, "")
    assert others_running(instance, run.run_id)


class TestTwoAtOnce:
    def mark(self, dest, run, minutes):
        path = dest / running.RUNNING
        path.parent.mkdir(parents=True, exist_ok=True)
        until = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
        path.write_text(json.dumps({"run": run, "until": until.isoformat()}))

    @pytest.mark.parametrize(
        ("status", "refused"),
        [(dg.DagsterRunStatus.STARTED, True), (dg.DagsterRunStatus.FAILURE, False)],
    )
    def test_the_second_is_refused_while_dagster_says_that_the_first_runs(
        self, instance, db, dest, status, refused
    ):
        run = instance.add_run(dg.DagsterRun("mirror", status=status))
        self.mark(dest, run.run_id, -5)
        done = mirror(instance)
        assert done.success is not refused
        if refused:
            assert f"run {run.run_id[:8]} is mirroring into {dest}" in why(done)

    @pytest.mark.parametrize(("minutes", "refused"), [(5, True), (-5, False)])
    def test_one_of_another_dagster_is_known_by_the_time_of_its_mark(
        self, instance, db, dest, minutes, refused
    ):
        self.mark(dest, "elsewhere", minutes)
        done = mirror(instance)
        assert done.success is not refused
        if refused:
            assert f"or remove {dest}/.manifest/running.json" in why(done)

    def test_a_download_is_refused_as_well(self, db, host, dest, tmp_path):
        self.mark(dest, "elsewhere", 5)
        plan = tmp_path / "plan.parquet"
        with reader(db) as con, planned(con, Selection()) as found:
            found.write(plan)
        with pytest.raises(MirrorError, match="run elsewher is mirroring into"):
            download(plan, place(str(dest)), Options(host.url), now=lambda: dt.datetime.now(dt.UTC))

    def test_a_chunk_of_a_run_that_was_taken_over_stops(self, db, host, dest):
        store = place(str(dest))
        self.begin(store, "one", db, host)
        self.begin(store, "two", db, host)
        with pytest.raises(MirrorError, match=r"run two has taken .* over since run one"):
            chunks.fetch(store, "one/0001", Options(host.url), now=now)
        assert not host.asked

    def begin(self, store, run, db, host):
        return chunks.begin(
            store, Selection(), run, source=host.url, record=lambda: reader(db), now=now,
            ended=lambda _: True,
        )  # fmt: skip


def now():
    return dt.datetime.now(dt.UTC)


class TestAgain:
    def test_a_chunk_that_is_started_again_fetches_nothing_that_is_whole(
        self, db, host, dest, keys, monkeypatch
    ):
        store = place(str(dest))
        begun = TestTwoAtOnce().begin(store, "one", db, host)
        assert len(begun.chunks) == 5
        options = Options(host.url, 1, 5, pause_seconds=0)
        # The third file of the chunk ends it, as a destination does that refuses.
        put, done = type(store).put, []

        def refusing(self, name, part):
            if name.startswith("data/"):
                done.append(name)
                if len(done) == 3:
                    raise MirrorError("the disk is full")
            put(self, name, part)

        with monkeypatch.context() as patch:
            patch.setattr(type(store), "put", refusing)
            with pytest.raises(MirrorError, match="the disk is full"):
                chunks.fetch(store, begun.chunks[0], options, now=now)
        host.asked.clear()
        report = chunks.fetch(store, begun.chunks[0], options, now=now)
        assert (report.fetched, report.already) == (5, 2)
        assert not any(host.asked[key] for key in done[:2])
        # Delivered once more after its end, it asks for nothing at all.
        host.asked.clear()
        assert chunks.fetch(store, begun.chunks[0], options, now=now) == report
        assert not host.asked
        for name in begun.chunks[1:]:
            chunks.fetch(store, name, options, now=now)
        total = chunks.collect(store, frozenset({"one"}), now)
        assert (total.fetched, total.already) == (28, 2)
        assert sorted(key for key, _ in rows(dest)) == sorted(keys)

    def test_from_failure_goes_on_where_the_run_failed(self, instance, db, host, dest, monkeypatch):
        """The chunks' names come from the run that planned, not from the one that goes on."""
        monkeypatch.setattr(
            "availability_pipeline.orchestration.mirrored.place", refusing_place := Refusing()
        )
        monkeypatch.setattr("availability_pipeline.orchestration.mirrored.TRIES_MORE", 0)
        refusing_place.chunks = {"0003"}
        done = mirror(instance)
        assert not done.success
        assert "chunk 0003 refused" in why(done)
        refusing_place.chunks = set()
        host.asked.clear()
        options = dg.ReexecutionOptions.from_failure(done.run_id, instance)
        with dg.execute_job(
            dg.reconstructable(mirror_job), instance, reexecution_options=options
        ) as again:
            assert again.success
        assert len(bodies(host)) == 7
        assert under_names(dest) == host.files
        assert sorted(left(dest)) == ["lock", "mirror.json"]


def mirror_job():
    return build_defs().resolve_job_def("mirror")


class Refusing:
    """Places that refuse the plans of some chunks."""

    def __init__(self):
        self.chunks = set()

    def __call__(self, text):
        store, chunks = place(text), self.chunks
        real = store.chunks

        def refusing(name):
            if name.rpartition("/")[2].removesuffix(".parquet") in chunks:
                raise MirrorError(f"chunk {min(chunks)} refused")
            return real(name)

        store.chunks = refusing
        return store


class TestAfterAnUpdate:
    def tick(self, instance, cursor=None):
        found = build_defs()
        with dg.build_sensor_context(
            instance=instance, cursor=cursor, repository_def=found.get_repository_def(),
            resources={"clock": Clock(stopped_at=dt.datetime.now(dt.UTC))},
        ) as context:  # fmt: skip
            return mirror_sensor.evaluate_tick(context)

    def updated(self, instance):
        instance.report_runless_asset_event(dg.AssetMaterialization("daily_summary"))

    def test_a_run_is_launched_once(self, instance):
        assert "nothing was updated" in self.tick(instance).skip_message
        self.updated(instance)
        self.updated(instance)
        first = self.tick(instance)
        assert len(first.run_requests) == 1
        assert self.tick(instance, first.cursor).run_requests == []
        self.updated(instance)
        [second] = self.tick(instance, first.cursor).run_requests
        assert second.run_key != first.run_requests[0].run_key

    @pytest.mark.parametrize(
        ("job", "waits"),
        [("mirror", True), ("late_arrivals", True), ("full_reconcile", True), ("publish", False)],
    )
    def test_it_waits_for_updates_and_for_the_mirror_run_before_it(self, instance, job, waits):
        self.updated(instance)
        instance.add_run(dg.DagsterRun(job, status=dg.DagsterRunStatus.STARTED))
        assert bool(self.tick(instance).run_requests) is not waits


class TestChecks:
    def verdict(self, instance, job, name):
        done = (
            build_defs()
            .resolve_job_def(job)
            .execute_in_process(instance=instance, raise_on_error=False)
        )
        [found] = [e for e in done.get_asset_check_evaluations() if e.check_name == name]
        return found

    def complete(self, instance):
        return self.verdict(instance, "slo_checks", "mirror_is_complete")

    def verified(self, instance):
        return self.verdict(instance, "mirror_check", "mirror_is_verified")

    def test_what_the_record_has_and_the_manifest_has_not_is_named(
        self, instance, db, host, dest, keys
    ):
        found = self.complete(instance)
        assert (found.passed, found.metadata["count"].value) == (False, 30)
        assert found.severity == dg.AssetCheckSeverity.ERROR
        assert "Launch the job mirror" in found.metadata["recovery"].value
        assert mirror(instance).success
        assert self.complete(instance).passed
        host.files[keys[3]] = content(keys[3], 4000, 2)
        publish(host, "DUSDT", LAST, LAST)
        record(db, host, end=LAST, at=SETTLED + dt.timedelta(1), modified={keys[3]: SETTLED})
        new = UM_KLINES_1M.key("DUSDT", LAST)
        found = self.complete(instance)
        assert found.metadata["sample"].value == [f"{new}: missing", f"{keys[3]}: stale"]
        # Nobody has to do anything while a run is at work.
        instance.add_run(dg.DagsterRun("mirror", status=dg.DagsterRunStatus.STARTED))
        assert self.complete(instance).severity == dg.AssetCheckSeverity.WARN

    def test_what_is_not_as_it_was_verified_is_named(self, instance, db, host, dest, keys):
        nothing = self.verified(instance)
        assert (nothing.passed, nothing.description) == (True, "nothing is mirrored yet")
        assert mirror(instance).success
        good = self.verified(instance)
        assert (good.passed, good.description) == (True, "30 files were read")
        (dest / keys[4]).write_bytes(b"x" * 3000)
        (dest / keys[6]).unlink()
        found = self.verified(instance)
        assert found.metadata["sample"].value == [f"{keys[4]}: damaged", f"{keys[6]}: missing"]
        assert f"files verify {dest} --repair" in found.metadata["recovery"].value

    def test_a_week_reads_others_than_the_last_one(self, instance, db, dest, keys, monkeypatch):
        monkeypatch.setattr(verify, "SAMPLE_FILES", 5)
        assert mirror(instance).success
        plan, some = dest.with_suffix(".plan"), dest.with_suffix(".some")
        with reader(db) as con, planned(con, Selection()) as found:
            found.write(plan)
        chosen = set()
        for week in range(4):
            verify.sample(plan, place(str(dest)), f"2024-{week}", some)
            with duckdb.connect() as con:
                rows = con.execute("SELECT key FROM read_parquet($p)", {"p": str(some)}).fetchall()
            assert len(rows) == 5
            chosen |= set(rows)
        assert len(chosen) > 10

    def test_a_mirror_that_cannot_be_read_is_not_judged(self, instance, db, dest):
        (dest / ".manifest/runs").mkdir(parents=True)
        (dest / ".manifest/runs/x.parquet").write_bytes(b"PAR1")
        for found in (self.complete(instance), self.verified(instance)):
            assert found.description.startswith("Not judged: the manifest of")
            assert found.severity == dg.AssetCheckSeverity.WARN

    def test_slo_says_it_and_status_waits_for_no_mirror(
        self, instance, db, dest, keys, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))

        def said(command):
            done = CliRunner().invoke(cli, [command, "--json"])
            found = json.loads(done.stdout)["slo"]
            return [(e["outcome"], e["count"]) for e in found if e["name"] == "mirror_is_complete"]

        assert said("slo") == [("breach", 30)]
        assert mirror(instance).success
        assert said("slo") == [("ok", 0)]
        (dest / ".manifest/runs/x.parquet").write_bytes(b"PAR1")
        assert said("slo") == [("warn", 0)]
        assert said("status") == []


def test_the_chunks_may_be_processes(tmp_path, db, host, dest, keys, monkeypatch):
    """All that passes between them is a name, which each process knows by itself."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "sitecustomize.py").write_text(SMALL_CHUNKS)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    command = [Path(sys.executable).with_name("dagster"), "job", "execute", "-j", "mirror"]
    done = subprocess.run(
        [*command, "-m", "availability_pipeline.definitions"],
        env=os.environ | {"PYTHONPATH": str(tmp_path), "AVAILABILITY_EXECUTOR": "multiprocess"},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert under_names(dest) == host.files
    assert sorted(key for key, _ in rows(dest)) == sorted(keys)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        [run] = instance.get_runs()
        steps = instance.get_run_step_stats(run.run_id)
        assert len([one for one in steps if "fetch_chunk" in one.step_key]) == 3


SMALL_CHUNKS = """
from availability_pipeline.mirror import chunks
chunks.CHUNK_FILES = 12
"""

KILLED = """
import dagster as dg
from availability_pipeline.mirror import chunks
from availability_pipeline.orchestration.code_location import build_defs
chunks.CHUNK_FILES = 7
with dg.DagsterInstance.get() as instance:
    build_defs().resolve_job_def("mirror").execute_in_process(instance=instance)
"""


def test_a_run_that_is_killed_is_completed_by_the_next_one_and_nothing_is_fetched_twice(
    tmp_path, db, host, dest, keys
):
    home = tmp_path / "home"
    home.mkdir()
    fetched = Counter()

    def stall(key):
        if key in host.files and sum(bodies(host).values()) > 17:
            host.closing.wait(PATIENCE)

    host.before = stall
    env = os.environ | {"DAGSTER_HOME": str(home)}
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", KILLED], env=env)
    try:
        wait_for(lambda: len(list((dest / "data").rglob("*.zip"))) >= 17)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    host.before = lambda _: None
    whole = set(under_names(dest))
    assert 14 <= len(whole) < 30
    fetched.update(bodies(host))
    host.asked.clear()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        [run] = instance.get_runs()
        refused = mirror(instance)
        assert "is mirroring into" in why(refused)
        instance.report_run_failed(run)  # as the daemon does within a minute
        done = mirror(instance)
        assert done.success
    assert not any(host.asked[key] for key in whole)
    assert under_names(dest) == host.files
    assert sorted(key for key, _ in rows(dest)) == sorted(keys)
    assert len(entries(dest)) == 30
    assert sorted(left(dest)) == ["lock", "mirror.json"]
