"""The demo as a user starts it: its own process, in a folder of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass
class DemoWithUi:
    """A demo whose UI stands at `address`; `lines` are what it has printed so far."""

    folder: Path
    address: str
    process: subprocess.Popen[str]
    lines: list[str]

    def ctrl_c(self) -> int:
        """The exit code after it."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)


@contextmanager
def demo_with_ui(folder: Path) -> Iterator[DemoWithUi]:
    """Run the demo until its UI stands; ends it with Ctrl-C, unless that has happened."""
    port = free_port()
    errors = folder / "stderr.txt"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [*COMMAND, "--port", str(port)],
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
        demo = DemoWithUi(folder, f"http://127.0.0.1:{port}", process, lines)
        yield demo
        if process.poll() is None:
            demo.ctrl_c()
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def run_demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The demo to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def run_as_printed(folder: Path, printed: Iterable[str]) -> dict[str, str]:
    """Paste what stands below "Ask it" into a shell that knows nothing of us."""
    lines = [line.strip() for line in printed]
    first = next(n for n, line in enumerate(lines) if line.startswith("Ask it")) + 1
    commands = []
    for line in lines[first:]:
        if not line or line.startswith("Ctrl-C"):
            break
        commands.append(line)
    source, *asks = commands
    assert source == ". demo-home/env"
    answers = {}
    for ask in asks:
        done = subprocess.run(
            ["sh", "-c", f"{source}\n{ask}"],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "AVAILABILITY_SETTLE_DAYS": "9"},
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (ask, done.stderr)
        answers[ask.removeprefix("binance-availability ")] = done.stdout
    return answers


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
