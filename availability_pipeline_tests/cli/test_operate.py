"""`status` and `slo`: someone asks whether it runs, and gets the truth and one thing to do."""

import datetime as dt
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    TickData,
    TickStatus,
)
from dagster._daemon.types import DaemonHeartbeat
from dagster._utils.error import SerializableErrorInfo

from availability_pipeline import logs, settings
from availability_pipeline.archive.datasets import CATALOGUE, FIRST_DATE, UM_KLINES_1M, Dataset
from availability_pipeline.cli.main import cli
from availability_pipeline.cli.operate import next_step
from availability_pipeline.errors import StoreBusyError
from availability_pipeline.orchestration import launch, processes, runs, schedules
from availability_pipeline.orchestration.instance import ticks
from availability_pipeline.quality import rules
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.record.status import scope
from availability_pipeline_tests.support.helpers import PATIENCE, days, flat, make_listing
from availability_pipeline_tests.support.world import KLINES

ROOT = Path(__file__).parents[2]
NOW = dt.datetime.now(dt.UTC)
YESTERDAY = NOW.date() - dt.timedelta(1)
START = YESTERDAY - dt.timedelta(30)
SYMBOLS = [f"S{n:02}USDT" for n in range(25)]
HOLE = YESTERDAY - dt.timedelta(20)


class Home:
    """A DAGSTER_HOME and a database, and the commands on them."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.db = folder / "home", folder / "record.duckdb"
        self.folder.mkdir()
        for name in list(os.environ):
            if name.startswith("AVAILABILITY_"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("AVAILABILITY_DB", str(self.db))
        monkeypatch.setenv("DAGSTER_HOME", str(self.folder))

    def write(self, start=FIRST_DATE, without=(), gone=None):
        files = {
            s: {
                d: f
                for d, f in flat(START, YESTERDAY).items()
                if d not in without and d not in (gone or {}).get(s, ())
            }
            for s in SYMBOLS
        }
        with writer(self.db) as con:
            store.write_probe(
                con, make_listing(start, YESTERDAY, files), probed_at=NOW, run_id="x",
                accept_shrunken=True,
            )  # fmt: skip

    def instance(self):
        (self.folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        return dg.DagsterInstance.get()

    def ran(self, dates=(YESTERDAY,), *, heartbeat=True):
        with self.instance() as instance:
            for date in dates:
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(KLINES.key, partition=date.isoformat())
                )
            if heartbeat:
                instance.add_daemon_heartbeat(
                    DaemonHeartbeat(dt.datetime.now(dt.UTC).timestamp(), "SCHEDULER", "x")
                )

    def __call__(self, *args):
        return CliRunner().invoke(cli, args, prog_name="binance-availability")

    def json(self, *args, code=0):
        done = self(*args, "--json")
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)


@pytest.fixture
def home(tmp_path, monkeypatch):
    return Home(tmp_path, monkeypatch)


def outcomes(answer):
    return {row["name"]: row["outcome"] for row in answer["slo"]}


@pytest.mark.parametrize("gone", [True, False])
def test_where_nothing_ever_ran_it_says_so_and_makes_nothing(tmp_path, gone):
    folder = tmp_path / "home"
    if not gone:
        folder.mkdir()
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "availability_pipeline.cli", "status"],
        env={**os.environ, "DAGSTER_HOME": str(folder), "HOME": str(tmp_path),
             "AVAILABILITY_DB": str(tmp_path / "x" / "record.duckdb")},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "ever ran here" in done.stdout
    assert "make up" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_a_record_without_a_run_history_is_still_described(home):
    home.write()
    answer = home.json("status")
    assert (answer["history"], answer["symbols"]) == (False, 25)
    assert outcomes(answer)["continuity"] == "ok"
    assert "Never ran here" in answer["next"]


@pytest.mark.parametrize("begun", [True, False])
def test_status_says_in_words_what_is_not_known_yet(home, begun):
    """After the first update nothing has settled, and in a new record nothing is covered."""
    if begun:
        home.write(start=YESTERDAY, without=(YESTERDAY,))
    else:
        with writer(home.db):
            pass
    home.ran()
    shown = home("status").stdout
    assert "None" not in shown
    covers = f"{YESTERDAY} to {YESTERDAY}, none of them settled yet" if begun else "nothing yet"
    assert f"Covers    {covers}" in shown


def test_a_daemon_whose_last_sign_is_from_before_the_end_of_what_was_started_does_not_run(home):
    """For three minutes after `stop`, `status` said that it runs."""
    home.write()
    home.ran()
    lock = home.folder / "background.lock"
    lock.touch()
    assert "Runs      no: the daemon's last sign of life was" in home("status").stdout
    assert home.json("status")["daemon"]["running"] is False
    ended = dt.datetime.now(dt.UTC).timestamp() - 60
    os.utime(lock, (ended, ended))  # something else, a service, has given signs since
    assert home.json("status")["daemon"]["running"] is True


def test_after_a_kill_of_what_was_started_only_a_daemon_that_lives_counts(home):
    """It could not say when it ended, and its last sign of life was taken for a service's."""
    home.write()
    home.ran()
    lock = home.folder / "background.lock"
    lock.write_text('{"pid": 1, "group": 1, "address": "http://127.0.0.1:1"}')
    assert home.json("status")["daemon"]["running"] is False
    with subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)", "dagster-daemon"],
        env=os.environ | {"DAGSTER_HOME": str(home.folder)},
        stdout=subprocess.PIPE,
    ) as service:
        assert service.stdout.readline()
        assert home.json("status")["daemon"]["running"] is True
        service.kill()
    assert home.json("status")["daemon"]["running"] is False


def test_status_tells_a_running_daemon_from_one_that_stopped(home):
    home.write()
    home.ran(heartbeat=False)
    done = home("status")
    assert "no: the daemon has never been started" in done.output
    assert "Next      Nothing runs by itself: the daemon is down" in done.output
    home.ran()
    done = home("status")
    assert "Runs      yes: the daemon's last sign of life was" in done.output
    with home.instance() as instance:
        old = (NOW - dt.timedelta(hours=2)).timestamp()
        error = SerializableErrorInfo("Traceback\nOSError: disk full\n", [], "OSError")
        instance.add_daemon_heartbeat(DaemonHeartbeat(old, "SCHEDULER", "x", [error]))
    answer = home.json("status")
    assert answer["daemon"]["running"] is False
    assert answer["daemon"]["errors"] == ["scheduler: OSError: disk full"]
    assert "Start it" in answer["next"]


def test_status_shows_each_schedule_with_its_last_and_next_tick(home):
    home.write()
    home.ran()
    with home.instance() as instance:
        stopped, failed = "late_arrivals_schedule", "daily_update_schedule"
        tick(instance, stopped, InstigatorStatus.STOPPED)
        tick(instance, failed, InstigatorStatus.DECLARED_IN_CODE, TickStatus.FAILURE)
        # the same schedule, once loaded from another place, and stopped there long ago
        tick(instance, failed, InstigatorStatus.STOPPED, TickStatus.SUCCESS, where="old", ago=900)
    answer = home.json("status")
    rows = {row["name"]: row for row in answer["schedules"]}
    assert list(rows) == [one.name for one in schedules.schedules(settings.load())]
    assert (rows[stopped]["on"], rows[stopped]["next_tick"]) == (False, None)
    assert (rows[failed]["on"], rows[failed]["last_outcome"]) == (True, "failure")
    assert rows[failed]["error"] == "OSError: no space"
    following = dt.datetime.fromisoformat(rows["slo_schedule"]["next_tick"])
    assert (following.hour, following.minute) == (9, 30)
    assert NOW < following <= NOW + dt.timedelta(1, 60)
    assert answer["next"].startswith(f"Switched off: {stopped}.")
    shown = home("status").output
    assert "failure" in shown
    assert "OSError: no space" in shown


def tick(instance, name, status, outcome=None, where="here", ago=5, since=None):
    place = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(where), "__repository__")
    origin = place.get_instigator_origin(name)
    state = instance.add_instigator_state(
        InstigatorState(
            origin, InstigatorType.SCHEDULE, status, ScheduleInstigatorData("0 2 * * *", since)
        )
    )
    if outcome:
        error = SerializableErrorInfo("OSError: no space\n", [], "OSError")
        instance.create_tick(
            TickData(
                instigator_origin_id=origin.get_id(), instigator_name=name,
                instigator_type=InstigatorType.SCHEDULE, status=outcome,
                timestamp=(NOW - dt.timedelta(minutes=ago)).timestamp(),
                selector_id=state.selector_id, run_ids=[],
                error=error if outcome == TickStatus.FAILURE else None,
            )
        )  # fmt: skip


def test_a_daemon_that_lives_and_evaluates_nothing_is_not_said_to_run(home):
    """Its code server was killed: it said "Runs yes" and "next 15:00" for days."""
    home.write()
    home.ran()
    with dg.DagsterInstance.get() as instance:
        tick(
            instance, "late_arrivals_schedule", InstigatorStatus.DECLARED_IN_CODE,
            TickStatus.SUCCESS, ago=60 * 24 * 2,
        )  # fmt: skip
    text = home("status").stdout
    assert re.search(r"^Runs +no: .* but late_arrivals_schedule was not evaluated at", text)
    assert "Next      It does not run as it should: late_arrivals_schedule was not eval" in text
    assert home.json("status")["next_step"]["kind"] == "overdue"
    done = home("running")
    assert (done.exit_code, done.stdout) == (1, "not running\n")
    with dg.DagsterInstance.get() as instance:
        tick(
            instance, "late_arrivals_schedule", InstigatorStatus.DECLARED_IN_CODE,
            TickStatus.SUCCESS, where="reloaded", ago=0,
        )  # fmt: skip
    assert home.json("status")["overdue"] == []
    done = home("running")
    assert (done.exit_code, done.stdout) == (0, "running: as a service\n")
    # The daemon's sign of life is older than the end of what was started by hand, or newer.
    for minutes, said in ((5, "not running\n"), (-5, "running: as a service\n")):
        (home.folder / processes.LOCK).touch()
        when = (dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)).timestamp()
        os.utime(home.folder / processes.LOCK, (when, when))
        assert home("running").stdout == said


def test_a_schedule_that_was_switched_off_or_on_a_minute_ago_is_not_overdue(home):
    minute_ago = (NOW - dt.timedelta(minutes=1)).timestamp()
    home.ran()
    with dg.DagsterInstance.get() as instance:
        off = InstigatorStatus.STOPPED
        tick(instance, "late_arrivals_schedule", off, TickStatus.SUCCESS, ago=9999)
        tick(instance, "slo_schedule", InstigatorStatus.RUNNING, since=minute_ago)
        defined = schedules.schedules(settings.load())
        assert ticks.overdue(instance, defined, [], NOW) == []
        later = NOW + dt.timedelta(days=2)
        [line] = ticks.overdue(instance, defined, [], later)
    due = later.replace(hour=9, minute=30, second=0, microsecond=0)
    due -= dt.timedelta(days=later - dt.timedelta(minutes=10) < due)
    assert line == f"slo_schedule was not evaluated at {due:%Y-%m-%d %H:%M} UTC"


def test_status_shows_why_the_last_run_failed(home):
    @dg.op
    def act():
        raise dg.Failure("listing failed for 1 of 9 symbols", allow_retries=False)

    @dg.job(name="late_arrivals")
    def job():
        act()

    home.write()
    home.ran()
    with home.instance() as instance:
        tags = {"dagster/schedule_name": "late_arrivals_schedule"}
        job.execute_in_process(instance=instance, raise_on_error=False, tags=tags)
    [run] = home.json("status")["runs"]
    assert (run["job"], run["launched_by"], run["status"]) == (
        "late_arrivals", "schedule", "failure",
    )  # fmt: skip
    assert run["error"] == "listing failed for 1 of 9 symbols"
    assert "listing failed for 1 of 9 symbols" in home("status").output


def test_status_shows_the_last_errors_of_the_log_and_no_old_ones(home):
    home.write()
    home.ran()
    path = Path(home.json("status")["log"])
    path.parent.mkdir(parents=True, exist_ok=True)
    old = logs.line(NOW - dt.timedelta(8), "ERROR", "daily_update", "an old one")
    new = [logs.line(NOW, "ERROR", "daily_update", f"listing failed ({n})") for n in range(4)]
    fine = logs.line(NOW, "INFO", "daily_update", "Daily update completed")
    path.write_text("\n".join([old, *new, fine]) + "\n", encoding="utf-8")
    assert home.json("status")["errors"] == new[1:]
    assert new[3] in home("status").output
    path.write_text(f"{old}\n{fine}\n", encoding="utf-8")
    assert home.json("status")["errors"] == []
    assert "errors in the log" not in home("status").output


def test_status_keeps_to_one_screen(home):
    home.write(without=[HOLE])
    home.ran()
    assert len(home("status").output.splitlines()) <= 40


def test_status_waits_for_a_writer_and_changes_nothing(home):
    home.write()
    home.ran()
    before = home.db.read_bytes()
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with writer(home.db):
            entered.set()
            leave.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(PATIENCE)
    threading.Timer(0.5, leave.set).start()
    assert home("status").exit_code == 0
    thread.join()
    assert home.db.read_bytes() == before


def test_a_missing_database_with_a_history_is_an_error_beside_what_is_known(home):
    home.ran()
    done = home("status")
    assert done.exit_code == 1
    assert "Error: no database at" in done.stderr
    assert "daily_update_schedule" in done.stdout
    done = home("slo")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Error: no database at" in done.stderr


def test_a_history_that_cannot_be_read_is_one_line(home):
    home.ran()
    (home.folder / "dagster.yaml").write_text("no_such_thing: 1\n")
    for command in ("status", "slo"):
        done = home(command)
        assert done.exit_code == 1
        assert "cannot be read" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def postgresql_is_down(home, monkeypatch):
    shutil.copy(ROOT / "deploy" / "postgres" / "dagster.yaml", home.folder)
    url = f"postgresql+psycopg2://ada:s3cret@127.0.0.1:{closed_port()}/history"
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)


def says_that_it_is_down(home, stderr):
    [line] = stderr.splitlines()
    assert line.startswith(f"Error: the run history of {home.folder} cannot be read (connection")
    assert line.endswith("; start PostgreSQL, or correct DAGSTER_POSTGRES_URL")
    assert "s3cret" not in line
    assert not home.db.exists()


def test_a_postgresql_that_is_down_is_one_line(home, monkeypatch):
    """It was 200 lines of traceback, and `start` waited for three minutes."""
    postgresql_is_down(home, monkeypatch)
    done = subprocess.run(
        [sys.executable, "-m", "availability_pipeline.cli", "start", "--port", str(closed_port())],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    says_that_it_is_down(home, done.stderr)


@pytest.mark.parametrize(
    "command",
    ["status", "slo", "running", "up", "update manual",
     "backfill --start 2024-01-01 --end 2024-01-02"],
)  # fmt: skip
def test_a_postgresql_that_is_down_is_one_line_for_every_command(home, monkeypatch, command):
    # The attempts, without the 10 s of pauses between them.
    monkeypatch.setattr("dagster_postgres.utils.calculate_delay", lambda *_, **__: 0)
    postgresql_is_down(home, monkeypatch)
    done = home(*command.split())
    assert (done.exit_code, done.stdout) == (1, "")
    says_that_it_is_down(home, done.stderr)


def test_a_postgresql_without_an_address_or_driver_is_one_line(home, monkeypatch):
    shutil.copy(ROOT / "deploy" / "postgres" / "dagster.yaml", home.folder)
    monkeypatch.delenv("DAGSTER_POSTGRES_URL", raising=False)
    [line] = home("status").stderr.splitlines()
    assert "DAGSTER_POSTGRES_URL" in line, line
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://ada@127.0.0.1:9/history")
    [line] = home("status").stderr.splitlines()
    assert "cannot be read (No module named 'psycopg')" in line, line


def test_a_history_that_breaks_while_it_is_read_is_one_line(home):
    with home.instance() as instance:
        instance.get_runs()

    def ask():
        with launch.history(home.folder) as instance:
            (home.folder / "history" / "runs.db").write_bytes(b"not a database" * 1000)
            instance.get_runs()

    with pytest.raises(launch.HistoryError, match=r"cannot be read \(file is not a database\)"):
        ask()


def test_slo_ends_with_0_when_all_is_kept_and_with_1_on_a_breach(home):
    home.write()
    home.ran(days(FIRST_DATE, FIRST_DATE + dt.timedelta(2)))
    answer = home.json("slo", code=1)
    assert set(outcomes(answer)) == {
        "update_success_rate", "freshness", "store_matches_dagster", "continuity",
        "completeness_slo", "symbol_holes", "publication_lag", "rows_are_unique",
    }  # fmt: skip
    assert "store_matches_dagster" in answer["breached"]
    assert (answer["success_rate"], answer["days"]) == (None, 30)
    rows = {row["name"]: row for row in answer["slo"]}
    assert (rows["update_success_rate"]["outcome"], rows["continuity"]["passed"]) == (
        "unknown", True,
    )  # fmt: skip
    assert (
        f"Judged was {home.db}: if the record is another"
        in rows["store_matches_dagster"]["recovery"]
    )
    done = home("slo", "--days", "7")
    assert done.exit_code == 1
    assert "Success rate: not known yet (no scheduled runs in 7 days)" in done.output
    assert "BREACH" in done.output
    assert "backfill --start" in done.output


def test_slo_without_a_run_history_judges_the_record_all_the_same(home):
    """It ended with 0 and "Never ran here", so that cron stayed green for ever."""
    home.write(without=[HOLE])
    answer = home.json("slo", code=1)
    assert (answer["history"], answer["breached"]) == (False, ["completeness_slo", "symbol_holes"])
    assert answer["success_rate"] is None
    done = home("slo")
    assert done.exit_code == 1
    assert "Success rate: not known yet (no scheduled runs in 30 days)" in done.output
    assert "Never ran here" in done.output
    assert "Breached: completeness_slo, symbol_holes" in done.output
    home.write()
    assert home.json("slo")["breached"] == []


def test_slo_fails_where_nothing_can_be_measured(home):
    done = home("slo")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Error: no database at" in done.stderr
    assert not home.db.parent.joinpath("record.duckdb").exists()
    with writer(home.db):
        pass
    done = home("slo", "--json")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Error: no date was probed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# several datasets

GAP = dt.date(2024, 3, 1)
SPOT, MONTHS = Dataset.parse("spot/daily/klines/1m"), Dataset.parse("um/monthly/klines/1m")


@pytest.fixture
def several(home, monkeypatch):
    """Three configured datasets, one of them never recorded, and one that is no longer."""
    monkeypatch.setenv("AVAILABILITY_DATASETS", f"{UM_KLINES_1M},{SPOT},{MONTHS}")
    home.write()
    month = MONTHS.shift(MONTHS.period_of(YESTERDAY + dt.timedelta(1)), -1)
    for dataset, first, last in (
        (MONTHS, FIRST_DATE.replace(day=1), month), (Dataset(interval="1d"), START, START),
    ):  # fmt: skip
        with writer(home.db) as con:
            files = {
                symbol: {
                    period: (100, NOW)
                    for period in dataset.periods(first, last)
                    if (symbol, period) != ("S00USDT", GAP)
                }
                for symbol in SYMBOLS
            }
            store.write_probe(
                con, make_listing(first, last, files, dataset=dataset), probed_at=NOW, run_id="x",
                accept_shrunken=True,
            )  # fmt: skip
    return home


def test_status_shows_each_dataset_and_what_is_no_longer_configured(several):
    several.ran()
    answer = several.json("status")
    rows = {row["dataset"]: row for row in answer["datasets"]}
    assert list(rows) == [str(UM_KLINES_1M), str(SPOT), str(MONTHS), "um/daily/klines/1d"]
    assert [row["configured"] for row in rows.values()] == [True, True, True, False]
    assert answer["dates"] == rows[str(UM_KLINES_1M)]["dates"], "the first one, as ever"
    assert (rows[str(SPOT)]["dates"], rows[str(MONTHS)]["unknown_dates"]) == (0, 0)
    assert answer["next_step"]["kind"] == "unknown_dates"
    assert answer["next_step"]["command"].startswith(
        "binance-availability backfill --dataset spot/daily/klines/1m --start 2017-07-14"
    )
    [continuity] = [row for row in answer["slo"] if row["name"] == "continuity"]
    assert continuity["datasets"] == {
        str(UM_KLINES_1M): "ok", str(SPOT): "breach", str(MONTHS): "ok",
    }  # fmt: skip
    assert "not judged, for no longer configured: um/daily/klines/1d" in continuity["note"]
    shown = several("status").stdout
    assert "Covers    4 datasets" in shown
    assert "um/monthly/klines/1m       2019-09 to 20" in shown
    assert "spot/daily/klines/1m       nothing yet: no date was probed" in shown
    assert "no longer configured: kept, not judged" in shown
    breach = "BREACH   continuity             1 of 3 datasets: spot/daily/klines/1m 2017-07-14 to"
    assert breach in shown


def test_slo_and_status_judge_some_of_the_datasets(several):
    answer = several.json("slo", code=1)
    assert answer["breached"] == ["continuity"]
    answer = several.json("slo", "--dataset", "um/*")
    for row in answer["slo"]:
        if row["name"] != "update_success_rate":
            assert list(row["datasets"]) == [str(UM_KLINES_1M), str(MONTHS)], row["name"]
    answer = several.json("status", "--dataset", str(MONTHS), "--dataset", str(UM_KLINES_1M))
    assert [row["dataset"] for row in answer["datasets"]] == [str(MONTHS), str(UM_KLINES_1M)]
    assert list(answer["slo"][0]["datasets"]) == [str(MONTHS), str(UM_KLINES_1M)]
    shown = several("slo", "--dataset", str(MONTHS)).stdout
    assert "ok       continuity             um/monthly/klines/1m\n" in shown


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("um/daily/klines/1d", "is not configured; AVAILABILITY_DATASETS has um/daily/klines/1m, "),
        ("cm/*", "is not configured"),
        ("um/dayly/klines/1m", "the nearest are um/daily/klines/1m"),
    ],
)
@pytest.mark.parametrize("command", ["slo", "status"])
def test_a_dataset_that_is_not_configured_is_refused_in_one_line(several, command, name, words):
    done = several(command, "--dataset", name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr


def test_slo_fails_where_nothing_of_the_chosen_datasets_can_be_measured(several):
    done = several("slo", "--dataset", str(SPOT))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no date was probed yet" in done.stderr


def test_what_is_missing_of_another_dataset_is_acknowledged_and_listed(several):
    done = several("slo", "acknowledge", "--dataset", str(MONTHS), "--date", "2024-03-20",
                   "--symbol", "S00USDT", "--reason", "ended")  # fmt: skip
    assert done.exit_code == 0, done.output
    [known] = several.json("slo", "acknowledged")
    assert (known["dataset"], known["date"]) == (str(MONTHS), str(GAP))
    assert several.json("slo", "acknowledged", "--dataset", str(UM_KLINES_1M)) == []
    assert several("slo", "forget", "--date", "2024-03-20", "--symbol", "S00USDT").exit_code == 1
    done = several("slo", "forget", "--dataset", str(MONTHS), "--date", "2024-03-20",
                   "--symbol", "S00USDT")  # fmt: skip
    assert done.exit_code == 0, done.output


# acknowledgements


def test_status_recommends_no_backfill_that_cannot_help_and_an_acknowledgement_ends_it(home):
    """The date was probed after it had settled; the files are not there, and never will be."""
    home.write(without=[HOLE])
    home.ran()
    answer = home.json("status")
    assert outcomes(answer)["completeness_slo"] == "breach"
    assert answer["next_step"] == {"kind": "breach", "check": "completeness_slo", "command": None}
    assert "backfill" not in answer["next"]
    assert f"slo acknowledge --date {HOLE}" in answer["next"]
    [row] = [row for row in answer["slo"] if row["name"] == "completeness_slo"]
    assert [(one["date"], one["available"], one["expected"]) for one in row["offenders"]] == [
        (str(HOLE), 0, 25)
    ]
    done = home("slo", "acknowledge", "--date", str(HOLE), "--reason", "never\npublished")
    assert (done.exit_code, done.output) == (0, "1 acknowledgement written\n")
    answer = home.json("status")
    [row] = [row for row in answer["slo"] if row["name"] == "completeness_slo"]
    assert (row["outcome"], row["acknowledged"]) == ("ok", 1)
    assert outcomes(answer)["symbol_holes"] == "ok"
    assert "1 acknowledged" in home("status").output
    [known] = home.json("slo", "acknowledged")
    assert (known["date"], known["symbol"], known["reason"]) == (
        str(HOLE), None, "never published",
    )  # fmt: skip
    assert dt.datetime.fromisoformat(known["acknowledged_at"]) >= NOW
    assert home("slo", "forget", "--date", str(HOLE)).exit_code == 0
    assert home.json("slo", "acknowledged") == []
    assert outcomes(home.json("status"))["completeness_slo"] == "breach"


def test_the_holes_of_a_symbol_can_be_acknowledged_one_by_one(home, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_SLO_HOLE_SHARE", "0.001")
    gone = {"S03USDT": days(HOLE, HOLE + dt.timedelta(2))}
    home.write(gone=gone)
    assert outcomes(home.json("slo", code=1))["symbol_holes"] == "breach"
    dates = [part for date in gone["S03USDT"] for part in ("--date", str(date))]
    done = home("slo", "acknowledge", *dates, "--symbol", "s03usdt", "--reason", "halted")
    assert done.output == "3 acknowledgements written\n"
    [row] = [row for row in home.json("slo")["slo"] if row["name"] == "symbol_holes"]
    assert (row["outcome"], row["acknowledged"], row["observed"]) == ("ok", 3, 0)
    assert len(home.json("query", "holes")) == 3, "an acknowledged hole is still a hole"
    assert home("slo", "forget", *dates[:2], "--symbol", "S03USDT").exit_code == 0
    [row] = [row for row in home.json("slo", code=1)["slo"] if row["name"] == "symbol_holes"]
    assert row["acknowledged"] == 2


def test_a_mass_delisting_is_acknowledged_once_and_then_the_symbols_have_ended(home):
    last = YESTERDAY - dt.timedelta(15)
    gone = {s: days(last + dt.timedelta(1), YESTERDAY) for s in SYMBOLS[:10]}
    home.write(gone=gone)
    answer = home.json("slo", code=1)
    [row] = [row for row in answer["slo"] if row["name"] == "completeness_slo"]
    assert "10 symbols stopped together" in row["note"]
    command = row["recovery"].split("slo acknowledge --date ")[1][:10]
    done = home("slo", "acknowledge", "--date", command, "--reason", "BUSD was discontinued")
    assert done.exit_code == 0, done.output
    answer = home.json("slo")
    [row] = [row for row in answer["slo"] if row["name"] == "completeness_slo"]
    assert (row["outcome"], row["acknowledged"]) == ("ok", 1)
    states = {row["symbol"]: row["state"] for row in home.json("query", "listings")}
    assert [s for s in SYMBOLS if states[s] == "ended"] == SYMBOLS[:10]
    home.write()  # they come back: nothing was forgotten, and nothing is hidden
    assert {row["state"] for row in home.json("query", "listings")} == {"live"}
    assert home("slo", "acknowledge", "--date", command, "--reason", "x").exit_code == 0
    home("slo", "forget", "--date", command)
    refused = home("slo", "acknowledge", "--date", command, "--reason", "x")
    assert (refused.exit_code, "there is nothing to acknowledge" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--date", str(HOLE), "--reason", " "], 2, "give a reason of 1 to 500 characters"),
        (["--date", str(HOLE), "--reason", "x" * 501], 2, "give a reason of 1 to 500"),
        (["--date", str(HOLE)], 2, "--reason"),
        (["--date", str(HOLE), "--reason", "x", "--symbol", "NOUSDT"], 1, "no symbol NOUSDT"),
        (["--date", str(HOLE), "--reason", "x"], 1, "no expected file"),
        (["--date", str(HOLE), "--reason", "x", "--symbol", "S00USDT"], 1, "has a file of"),
        (["--date", str(YESTERDAY), "--reason", "x"], 1, "has not settled"),
        (["--date", str(FIRST_DATE), "--reason", "x"], 1, "was not probed"),
        (["--date", str(START), "--reason", "x", "--symbol", "S01USDT"], 1, "had no file before"),
    ],
)
def test_what_is_not_missing_cannot_be_acknowledged_and_nothing_is_written(
    home, arguments, code, words
):
    home.write(start=START, gone={"S00USDT": [YESTERDAY], "S01USDT": [START]})
    before = home.db.read_bytes()
    done = home("slo", "acknowledge", *arguments)
    assert (done.exit_code, words in done.stderr) == (code, True), done.output
    assert home.db.read_bytes() == before or home.json("slo", "acknowledged") == []
    assert home.json("slo", "acknowledged") == []


def test_several_acknowledgements_are_written_together_or_not_at_all(home):
    home.write(without=[HOLE])
    dates = ["--date", str(HOLE), "--date", str(HOLE + dt.timedelta(1))]
    assert home("slo", "acknowledge", *dates, "--reason", "x").exit_code == 1
    assert home.json("slo", "acknowledged") == []
    assert home("slo", "acknowledge", *dates[:2], "--reason", "x").exit_code == 0
    assert home("slo", "forget", *dates).exit_code == 1
    assert len(home.json("slo", "acknowledged")) == 1


@pytest.mark.parametrize("command", ["acknowledge", "forget"])
def test_an_acknowledgement_makes_no_record(home, command):
    reason = ["--reason", "x"] if command == "acknowledge" else []
    done = home("slo", command, "--date", str(HOLE), *reason)
    assert done.exit_code == 1
    assert "Error: no database at" in done.stderr
    assert not home.db.exists()


def test_an_acknowledgement_leaves_the_settling_time_alone(home, monkeypatch):
    home.write(without=[HOLE])
    monkeypatch.setenv("AVAILABILITY_SETTLE_DAYS", "9")
    assert home("slo", "acknowledge", "--date", str(HOLE), "--reason", "x").exit_code == 0
    with reader(home.db) as con:
        assert scope(con).settle_days == 3


def test_a_warning_is_no_breach(home, monkeypatch):
    home.write(start=START)
    home.ran(days(START, YESTERDAY))
    kind = UM_KLINES_1M.kind
    monkeypatch.setitem(CATALOGUE, kind, replace(CATALOGUE[kind], first=START))
    monkeypatch.setenv("AVAILABILITY_SLO_FRESHNESS_MINUTES", "1")  # it came later than that
    answer = home.json("slo")
    assert outcomes(answer)["freshness"] == "warn"
    assert answer["breached"] == []
    assert "No service level is breached" in home("slo").output


@pytest.mark.parametrize("days_", ["0", "367", "x"])
def test_a_number_of_days_out_of_range_is_wrong_usage(home, days_):
    assert home("slo", "--days", days_).exit_code == 2


# what comes next


ALL_WELL = {
    "history": True,
    "daemon": {"running": True},
    "schedules": [{"name": "backup_schedule", "on": False, "optional": True}],
    "datasets": [],
    "runs": [{"status": "success"}],
}


def unknown(*names, configured=True, dates=9):
    return {
        "datasets": [
            {"dataset": name, "configured": configured, "unknown_dates": n, "dates": dates}
            for n, name in enumerate(names)
        ]
    }


@pytest.mark.parametrize(
    ("change", "verdicts", "words"),
    [
        ({}, {}, "Nothing: it runs"),
        ({"history": False}, {}, "Never ran here"),
        ({"daemon": {"running": False}, **unknown("x", "y")}, {}, "the daemon is down"),
        ({"schedules": [{"name": "x", "on": False, "optional": False}]}, {}, "Switched off: x"),
        (
            unknown("um/daily/klines/1d", "um/daily/klines/1m"),
            {},
            f"1 date of um/daily/klines/1m was never probed: `binance-availability backfill "
            f"--dataset um/daily/klines/1m --start {FIRST_DATE} --end {YESTERDAY}`",
        ),
        (
            unknown("um/daily/klines/1m", "spot/daily/trades", "um/daily/bookTicker"),
            {},
            "backfill --dataset spot/daily/trades --start 2017-07-14",
        ),
        (
            unknown("um/daily/klines/1m", "um/daily/bookTicker"),
            {},
            "backfill --dataset um/daily/bookTicker --start 2023-05-16 --end 2024-03-30",
        ),
        (unknown("x", "um/daily/trades", configured=False), {}, "Nothing: it runs"),
        # The archive may not have it: a warning of `continuity`, and no task.
        (unknown("um/daily/klines/1m", "um/daily/klines/7m", dates=0), {}, "Nothing: it runs"),
        ({}, {"continuity": rules.continuity([YESTERDAY])}, f"backfill --start {YESTERDAY}"),
        (
            {},
            {"symbol_holes": rules.symbol_holes(1, 9, 1, recent=[(HOLE, "x")])},
            "Nothing: it runs",
        ),
        ({"runs": [{"status": "failure"}]}, {}, "update manual"),
    ],
)
def test_there_is_always_exactly_one_next_step(change, verdicts, words):
    step = next_step(ALL_WELL | change, verdicts)
    assert words in step.text
    assert "\n" not in step.text
    assert step.command is None or f"`{step.command}`" in step.text
    assert (step.kind == "breach") == (step.check is not None)


def test_a_broken_database_comes_before_everything():
    error = StoreBusyError("the file is busy; try again")
    step = next_step(ALL_WELL | {"history": False}, {}, error)
    assert (step.kind, step.text) == ("record_error", "the file is busy; try again")


def test_a_daemon_counts_as_running_for_three_minutes_after_its_last_word():
    def at(minutes):
        stamp = (NOW - dt.timedelta(minutes=minutes)).timestamp()
        return SimpleNamespace(
            get_daemon_heartbeats=lambda: {"SCHEDULER": DaemonHeartbeat(stamp, "SCHEDULER", "x")},
            get_required_daemon_types=lambda: ["SCHEDULER"],
        )

    assert runs.daemon(at(2.9), NOW).running
    assert not runs.daemon(at(3.1), NOW).running
