"""What a service manager starts: a process that ends when it is of no use any more."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from availability_pipeline.orchestration import services
from availability_pipeline_tests.support.helpers import PATIENCE, wait_for

ROOT = Path(__file__).parents[2]

# Two processes: the second one's arguments are those of Dagster's code server.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "api", "grpc"])
print(child.pid, flush=True)
time.sleep(600)
"""


def watched(tmp_path):
    command = services.python(
        "availability_pipeline.orchestration.services", "--", sys.executable, "-c", PARENT
    )
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    [child] = wait_for(lambda: (tmp_path / "out").read_text().split())
    return process, int(child)


def test_it_ends_with_an_error_when_its_code_server_was_killed(tmp_path):
    process, child = watched(tmp_path)
    parent = psutil.Process(process.pid).children()[0]
    time.sleep(2 * services.EVERY)  # one that was never seen is waited for for 180 s
    psutil.Process(child).kill()
    assert process.wait(PATIENCE) == 1
    assert "has no code server any more" in (tmp_path / "out").read_text()
    assert not parent.is_running()


def test_it_ends_with_an_error_when_the_process_itself_was_killed(tmp_path):
    process, child = watched(tmp_path)
    left = psutil.Process(child)
    psutil.Process(process.pid).children()[0].kill()
    assert process.wait(PATIENCE) == 1
    assert "ended with exit code -9" in (tmp_path / "out").read_text()
    left.kill()


def test_a_signal_ends_all_of_it_and_is_no_error(tmp_path):
    process, child = watched(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert not psutil.pid_exists(child)


def test_a_code_server_that_is_replaced_is_not_a_death(tmp_path):
    """A reload in the UI starts the new one before it ends the old one."""
    clock = [0.0]
    one = services.Watched("x", [sys.executable, "-c", PARENT], lambda: clock[0])
    try:
        server = wait_for(lambda: psutil.Process(one._process.pid).children())[0]
        wait_for(lambda: "grpc" in server.cmdline())
        assert one.ended() is None
        server.kill()
        wait_for(lambda: server.status() == psutil.STATUS_ZOMBIE)
        assert one.ended() is None
        clock[0] += services.CODE_SERVER_GONE / 2
        assert one.ended() is None
        clock[0] += services.CODE_SERVER_GONE
        assert one.ended() == "the x has no code server any more"
    finally:
        one.end()


# Both have imported all they need before either of them looks whether the home is a new one.
OPENED = """
import pathlib, sys, time
import dagster
from availability_pipeline.orchestration.instance import launcher
home = pathlib.Path(sys.argv[2])
dagster.DagsterInstance.from_config(str(home / sys.argv[1]))
(home / sys.argv[1] / "ready").touch()
while not (home / "go").exists(): pass
{instance}.get_runs(limit=1)
(home / sys.argv[1] / "fine").touch()
time.sleep(600)
"""
BY_SERVICES, BY_COMMANDS = "dagster.DagsterInstance.get()", "launcher.opened(home)"


@pytest.mark.parametrize("instance", [BY_SERVICES, BY_COMMANDS])
def test_two_that_open_a_new_home_at_once_both_can(tmp_path, instance):
    """One ended, "table runs already exists", or the home had two heads and was of no use."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    names = [tmp_path / name for name in ("one", "two")]
    first = services.python(services.__name__, "--") if instance == BY_SERVICES else []
    script = OPENED.format(instance=instance)
    processes = []
    for name in names:
        name.mkdir()
        command = [*first, sys.executable, "-c", script, name.name, str(tmp_path)]
        env = os.environ | {"DAGSTER_HOME": str(tmp_path)}
        processes.append(subprocess.Popen(command, env=env))

    def both(what):
        assert [process.poll() for process in processes] == [None, None]
        return all((name / what).exists() for name in names)

    try:
        wait_for(lambda: both("ready"))
        (tmp_path / "go").touch()
        wait_for(lambda: both("fine"))
    finally:
        for process in processes:
            process.terminate()
            process.wait()
