"""What a service manager starts: a process that ends when it is of no use any more."""

import signal
import subprocess
import sys

import psutil

from availability_pipeline.orchestration import services
from availability_pipeline_tests.support.helpers import PATIENCE, wait_for

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
