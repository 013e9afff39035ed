"""A killed run gives its place back. Otherwise one power cut ends all updates, silently."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._utils.error import SerializableErrorInfo

from availability_pipeline import logs
from availability_pipeline.orchestration.instance.launcher import WHY, is_alive
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.gate import PATIENT, gate
from availability_pipeline_tests.support.helpers import PATIENCE, days, wait_for
from availability_pipeline_tests.support.receiver import receiving
from availability_pipeline_tests.support.s3 import local_archive
from availability_pipeline_tests.support.shell import YESTERDAY, Shell
from availability_pipeline_tests.support.ui import END, START, Ui, ticked
from availability_pipeline_tests.system.test_daemon import TICKS

ROOT = Path(__file__).parents[2]
UPDATE = ("update", "manual", "--date", YESTERDAY)

RUN = """mutation($tags: [ExecutionTag!]) { launchRun(executionParams: {
    selector: {repositoryLocationName: "availability_pipeline.definitions",
      repositoryName: "__repository__",
      jobName: "__ASSET_JOB", assetSelection: [{path: ["um", "klines", "daily_availability"]},
        {path: ["symbol_spans"]}, {path: ["daily_summary"]}]},
    runConfigData: {}, executionMetadata: {tags: $tags}})
  { __typename ... on PythonError { message } ... on RunConfigValidationInvalid { pipelineName } } }
"""


def statuses(home):
    with closing(sqlite3.connect(home / "history" / "runs.db", timeout=30)) as con:
        return dict(con.execute("SELECT run_id, status FROM runs").fetchall())


def start(shell):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "availability_pipeline.cli", *map(str, UPDATE)],
        env=shell.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_process_is_alive_while_it_runs_and_only_for_runs_that_began_after_it():
    now = time.time()
    assert is_alive(os.getpid(), now)
    assert not is_alive(os.getpid(), now - 10 * 24 * 3600)  # the id was another's then
    child = subprocess.Popen([sys.executable, "-c", ""])
    wait_for(lambda: not is_alive(child.pid, time.time() + 5))  # a zombie is dead, too
    child.wait()
    assert not is_alive(child.pid, time.time() + 5)


def logged(home):
    """Runs of which the log says that they vanished: they could not say it themselves."""
    errors = logs.tail_errors(home / "log" / "availability.log", 20)
    return {line.rpartition("(run ")[2][:8] for line in errors if "its process vanished" in line}


def test_the_command_after_a_killed_one_takes_its_place(tmp_path):
    """No daemon: nobody but the next command can notice. A waiting one notices, too."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with local_archive() as archive, gate(archive.endpoint) as door:
        archive.put("BTCUSDT", [YESTERDAY])
        shell = Shell(tmp_path, door.endpoint)
        shell.env |= PATIENT | {"AVAILABILITY_ARCHIVE_RUNS": "1"}
        first = start(shell)
        assert door.waiting.wait(PATIENCE)
        second = start(shell)  # waits for the place of the first, which is alive
        wait_for(lambda: len(statuses(tmp_path)) == 2)
        time.sleep(3)  # the second asks for the place; if it does so later, all the same is right
        first.kill()
        first.communicate()
        door.open.set()
        _, errors = second.communicate(timeout=PATIENCE)
        assert second.returncode == 0, errors
        assert sorted(statuses(tmp_path).values()) == ["FAILURE", "SUCCESS"]
        door.close()
        third = start(shell)
        assert door.waiting.wait(PATIENCE)
        third.kill()
        third.communicate()
        door.open.set()
        done = shell(*UPDATE)
        assert done.returncode == 0, done.stderr
        assert sorted(statuses(tmp_path).values()) == ["FAILURE"] * 2 + ["SUCCESS"] * 2
    killed = {run for run, status in statuses(tmp_path).items() if status == "FAILURE"}
    assert logged(tmp_path) == {run[:8] for run in killed}
    assert reasons(tmp_path) == [WHY] * 2


def reasons(home):
    """Why each failed run failed, as Dagster's UI shows it."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return [
            event.get_dagster_event().message
            for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
            for event in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        ]


def process_of(home):
    """The process id that the only run's first event has."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        [run] = instance.get_runs()
        for event in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            if found := event.get_dagster_event().engine_event_data.metadata.get("pid"):
                return int(found.value)
    raise AssertionError("no process id")


def test_a_launched_run_that_was_killed_says_so_and_by_which_signal_wherever_it_is_read(tmp_path):
    """Otherwise an update that met the kernel's memory killer fails for no known reason.

    The code server marks it within half a second, before run monitoring or a command looks.
    """
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with local_archive() as archive, gate(archive.endpoint) as door, receiving() as receiver:
        archive.put("BTCUSDT", days(START, END))
        ui = Ui(tmp_path, door.endpoint, receiver.url, **PATIENT)
        try:
            ui.wait(ticked, TICKS)
            launch(ui, END)
            ui.wait(lambda _: door.waiting.is_set())
            os.kill(process_of(tmp_path), signal.SIGKILL)
            ui.wait(lambda _: list(statuses(tmp_path).values()) == ["FAILURE"])
            ui.wait(lambda _: receiver.log)
            shell = Shell(tmp_path, door.endpoint)
            status = json.loads(shell("status", "--json").stdout)
        finally:
            ui.stop()
            door.open.set()
    why = "its process was killed by SIGKILL (9), by hand or for want of memory"
    [run] = statuses(tmp_path)
    assert reasons(tmp_path) == [why]
    [line] = logs.tail_errors(tmp_path / "log" / "availability.log", 5)
    assert line.endswith(f"materialize | {END}: the run failed: {why} (run {run[:8]})")
    assert status["runs"][0]["error"] == why
    [alert] = receiver.log
    assert f"Error: {why}" in alert["message"], alert


@pytest.mark.parametrize(
    ("said", "error", "why"),
    [
        ("Run execution process for x was terminated by signal 15 (SIGTERM). This usually", None,
         "its process was killed by SIGTERM (15)"),
        ("Run execution process for x unexpectedly exited with code 3.", None,
         "its process ended with exit code 3"),
        ("Could not load it.", "no such job\n", "Could not load it: no such job"),
        ("no such job", "no such job", "no such job"),
        ("Started process for run.", None,
         "This run has been marked as failed from outside the execution context."),
    ],
)  # fmt: skip
def test_a_run_that_is_marked_from_outside_gets_the_reason_of_the_event_before(
    tmp_path, monkeypatch, said, error, why
):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.delenv("AVAILABILITY_LOG_FILE", raising=False)
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        run = instance.create_run_for_job(a_job)
        data = error and EngineEventData.engine_error(SerializableErrorInfo(error, [], None))
        instance.report_engine_event(said, run, data or None)
        with pytest.warns(dg.BetaWarning, match="yaml-defined"):
            instance.report_run_failed(run)
    assert reasons(tmp_path) == [why]
    [line] = logs.tail_errors(tmp_path / "log" / "availability.log", 5)
    assert line.endswith(f"a_job | the run failed: {why} (run {run.run_id[:8]})")


def test_a_run_that_several_notice_at_once_is_marked_once(tmp_path, monkeypatch):
    """Code server and run monitoring did on a busy machine: two failures, two lines in the log."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.delenv("AVAILABILITY_LOG_FILE", raising=False)
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    start = threading.Barrier(4)

    def notice(_):
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            [run] = instance.get_runs()
            start.wait()
            return instance.report_run_failed(run, WHY).message

    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.create_run_for_job(a_job)
    with ThreadPoolExecutor(4) as pool, pytest.warns(dg.BetaWarning, match="yaml-defined"):
        said = list(pool.map(notice, range(4)))
    assert said == [WHY] * 4
    assert reasons(tmp_path) == [WHY]
    assert len(logs.tail_errors(tmp_path / "log" / "availability.log", 5)) == 1


@dg.job
def a_job():
    pass


def launch(ui, day):
    tags = [{"key": "dagster/partition", "value": day.isoformat()}]
    answer = ui.ask(RUN, tags=tags)["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer


def test_run_monitoring_frees_the_places_of_killed_runs_by_itself(tmp_path):
    """One run that worked and one that waited, of UI and CLI, and the daemon, all killed."""
    configuration = (ROOT / "dagster.yaml").read_text()
    for name in ("poll_interval_seconds", "free_slots_after_run_end_seconds"):
        assert f"{name}: 15" in configuration
        configuration = configuration.replace(f"{name}: 15", f"{name}: 2")
    (tmp_path / "dagster.yaml").write_text(configuration)
    with local_archive() as archive, gate(archive.endpoint) as door:
        archive.put("BTCUSDT", days(START, END))
        ui = Ui(tmp_path, door.endpoint, **PATIENT)
        try:
            ui.wait(lambda state: state)
            launch(ui, START)
            assert door.waiting.wait(PATIENCE)
            command_shell = Shell(tmp_path, door.endpoint)
            command_shell.env |= PATIENT
            command = start(command_shell)
            ui.wait(lambda _: list(statuses(tmp_path).values()) == ["STARTED"] * 2)
            killed = set(statuses(tmp_path))
            command.kill()
            command.communicate()
            ui.stop()  # kills everything: UI, daemon, code server and the run's process
            ui = Ui(tmp_path, door.endpoint, **PATIENT)
            ui.wait(lambda state: state)
            door.open.set()
            launch(ui, END)
            ui.wait(lambda _: "SUCCESS" in statuses(tmp_path).values())
        finally:
            ui.stop()
    after = statuses(tmp_path)
    assert {after.pop(run) for run in killed} == {"FAILURE"}
    assert list(after.values()) == ["SUCCESS"]
    assert logged(tmp_path) == {run[:8] for run in killed}
    assert reasons(tmp_path) == [WHY] * 2
    with reader(tmp_path / "record.duckdb") as con:
        assert con.execute("SELECT DISTINCT date FROM daily_availability").fetchall() == [(END,)]
