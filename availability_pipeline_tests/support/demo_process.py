"""The demo as a user starts it: its own process, in a folder of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from availability_pipeline_tests.support.helpers import PATIENCE

COMMAND = [sys.executable, "-m", "availability_pipeline.cli", "demo"]


def environment(folder: Path) -> dict[str, str]:
    """The user's environment, with settings that must not reach the demo."""
    return {
        **os.environ,
        "HOME": str(folder),
        "COLUMNS": "100",
        "PYTHONUNBUFFERED": "1",
        "AVAILABILITY_DB": str(folder / "the-users-own.duckdb"),
        "AVAILABILITY_S3_ENDPOINT": "http://192.0.2.1",
        "DAGSTER_HOME": str(folder / "the-users-own-home"),
    }


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def demo_with_ui(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Run the demo until its UI stands; yields its address and the lines printed so far.

    Ends it with Ctrl-C and checks the exit code and that nothing is left.
    """
    port = free_port()
    command = [*COMMAND, "--port", str(port)]
    errors = folder / "stderr.txt"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        lines: list[str] = []
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if "Ctrl-C ends everything" in line:
                break
        else:
            raise AssertionError(f"no UI: {errors.read_text()[-2000:]}")
        yield f"http://127.0.0.1:{port}", lines
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert left_of(folder) == []
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def left_of(folder: Path, patience: float = PATIENCE) -> list[str]:
    """Command lines of the processes that have the demo's folder in their environment."""
    return left_of_home(folder / "demo-home", patience)


def left_of_home(home: Path, patience: float = PATIENCE) -> list[str]:
    """Command lines of the processes that have this DAGSTER_HOME."""
    deadline = time.monotonic() + patience
    while (found := _processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _processes_of(home: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else
        if f"DAGSTER_HOME={home}\0".encode() in environ and command:
            found.append(command.replace(b"\0", b" ").decode())
    return found
