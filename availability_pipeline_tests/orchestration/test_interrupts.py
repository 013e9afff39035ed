"""Ctrl-C and SIGTERM on a probe: canceled in the history, one line, exit 130, and no alarm.

A run that is called failed for it sends an alert about nothing, and one that stays STARTED keeps
every other update waiting.
"""

import datetime as dt
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import dagster as dg
import psutil
import pytest

from availability_pipeline import settings
from availability_pipeline.definitions import defs
from availability_pipeline.orchestration import sensors
from availability_pipeline.orchestration.resources import Clock
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.gate import PATIENT, gate
from availability_pipeline_tests.support.helpers import PATIENCE, wait_for
from availability_pipeline_tests.support.receiver import receiving
from availability_pipeline_tests.support.s3 import local_archive
from availability_pipeline_tests.support.shell import YESTERDAY, Shell

ROOT = Path(__file__).parents[2]
START = YESTERDAY - dt.timedelta(3)
BACKFILL = ("backfill", "--start", START, "--end", YESTERDAY)
UPDATE = ("update", "manual", "--date", YESTERDAY)


class Home:
    """A home with one update in it, before an archive that may be kept waiting."""

    def __init__(self, folder, door):
        shutil.copy(ROOT / "dagster.yaml", folder)
        self.folder, self.door, self.shell = folder, door, Shell(folder, door.endpoint)
        self.shell.env |= PATIENT | {"PYTHONFAULTHANDLER": "1"}
        self.update()
        self.before = self.rows()

    def update(self):
        self.door.open.set()
        self.shell.ok(*UPDATE)
        self.door.close()

    def start(self, *arguments):
        command = [sys.executable, "-W", "ignore", "-m", "availability_pipeline.cli"]
        return subprocess.Popen(
            [*command, *map(str, arguments)],
            env=self.shell.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def runs(self):
        with closing(sqlite3.connect(self.folder / "history" / "runs.db", timeout=60)) as con:
            return dict(con.execute("SELECT run_id, status FROM runs ORDER BY id").fetchall())

    def rows(self):
        with reader(self.folder / "record.duckdb", PATIENCE) as con:
            columns = "date, symbol, status, file_size_bytes"
            return con.execute(f"SELECT {columns} FROM daily_availability ORDER BY ALL").fetchall()

    def instance(self):
        return dg.DagsterInstance.from_config(str(self.folder))

    def logged(self):
        return (self.folder / "log" / "availability.log").read_text()


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with (
        pytest.MonkeyPatch.context() as patch,
        local_archive() as archive,
        gate(archive.endpoint) as door,
    ):
        patch.setenv("DAGSTER_HOME", str(folder))
        patch.setenv("NO_PROXY", "127.0.0.1")
        archive.put("BTCUSDT", [YESTERDAY])
        yield Home(folder, door)


@pytest.fixture
def home(lived):
    """The home and, after the test, that it harmed nothing: see the module's docstring."""
    known = lived.runs()
    lived.door.close()
    with receiving() as receiver, lived.instance() as instance:

        def tick(cursor):
            context = dg.build_sensor_context(
                instance=instance,
                cursor=cursor,
                repository_def=defs.get_repository_def(),
                resources={"limits": settings.load(alert_urls=receiver.url), "clock": Clock()},
            )
            return sensors.alert_sensor.evaluate_tick(context)

        begun = tick(None)
        yield lived
        tick(begun.cursor)
        assert receiver.log == []
        for run_id in lived.runs().keys() - known.keys():
            wanted = dg.DagsterEventType.RUN_CANCELED
            ends = [r.message for r in instance.all_logs(run_id, of_type=wanted)]
            assert lived.runs()[run_id] == ("CANCELED" if ends else "SUCCESS")
            assert ends in ([], ["interrupted"])
    assert "ERROR" not in lived.logged()
    assert lived.rows() == lived.before


def end(process, number):
    process.send_signal(number)
    try:
        out, errors = process.communicate(timeout=PATIENCE / 4)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler prints where each thread is
        pytest.fail(f"not heeded:\n{process.communicate()[1]}")
    assert out == ""
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert "Error" not in errors


@pytest.mark.parametrize(
    ("number", "arguments"),
    [(signal.SIGINT, UPDATE), (signal.SIGTERM, BACKFILL)],
    ids=["ctrl-c, update", "sigterm, backfill"],
)
def test_while_it_lists_the_run_is_canceled(home, number, arguments):
    process = home.start(*arguments)
    assert home.door.waiting.wait(PATIENCE)
    end(process, number)
    assert list(home.runs().values())[-1] == "CANCELED"


def test_while_it_waits_for_its_turn_the_run_is_canceled_at_once(home):
    before = list(home.runs().values())
    first = home.start(*BACKFILL)
    assert home.door.waiting.wait(PATIENCE)
    second = home.start(*UPDATE)
    wait_for(lambda: list(home.runs().values()) == [*before, "STARTED", "STARTED"])
    end(second, signal.SIGINT)
    assert list(home.runs().values()) == [*before, "STARTED", "CANCELED"]
    end(first, signal.SIGTERM)
    assert list(home.runs().values()) == [*before, "CANCELED", "CANCELED"]
    home.update()  # neither keeps a place in the pool


def test_while_the_run_begins_it_is_canceled(home):
    before = len(home.runs())
    process = home.start(*BACKFILL)
    wait_for(lambda: len(home.runs()) > before, every=0.001)
    end(process, signal.SIGINT)
    assert list(home.runs().values())[-1] == "CANCELED"


@pytest.mark.requires("proc")
def test_while_it_imports_nothing_was_begun(home):
    before = home.runs()
    process = home.start(*UPDATE)
    wait_for(lambda: catches_sigterm(process.pid), every=0.001)
    end(process, signal.SIGTERM)
    assert home.runs() == before


def catches_sigterm(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    [mask] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return int(mask, 16) >> (signal.SIGTERM - 1) & 1


def test_a_signal_that_is_to_be_ignored_is_ignored(home):
    """`nohup`, and a script's `&`: the command is to go on when the terminal closes."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = home.start(*UPDATE)
    finally:
        signal.signal(signal.SIGINT, before)
    assert home.door.waiting.wait(PATIENCE)
    process.send_signal(signal.SIGINT)
    home.door.open.set()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors


def test_an_update_that_ignores_sigterm_leaves_no_process_behind(tmp_path):
    """Two `tail` of Dagster's stayed for ever, after a minute, and held the output open.

    So a pipe (`update manual | tee log`) under `trap '' TERM` never ended.
    """

    def ignore():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with local_archive() as archive:
        archive.put("BTCUSDT", [YESTERDAY])
        shell = Shell(tmp_path, archive.endpoint)
        # Its end is that of the pipe: it comes when the last process that holds it has gone.
        done = subprocess.run(
            [sys.executable, "-m", "availability_pipeline.cli", *map(str, UPDATE)],
            env=shell.env, capture_output=True, text=True, check=False, timeout=PATIENCE,
            preexec_fn=ignore, start_new_session=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in words(p)]
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        [run] = instance.get_runs()
    assert run.is_success


def words(process):
    return " ".join(process.info["cmdline"] or ())
