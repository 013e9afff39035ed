"""The Dagster UI as a process group that is certain to end.

Belongs here: starting `services`, waiting until it answers, ending all it started. Does not
belong here: what it shows (`definitions`), what is said about it (`demo`).

It is five processes or more, and started in the background they ignore SIGINT. So: a free port
first, a session of its own, and an end for the whole group.
"""

import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

from availability_pipeline import files, services

STARTS_WITHIN = 180
"""Seconds; it takes 10 on two cores."""

ENDS_WITHIN = 6
"""Seconds from SIGTERM to SIGKILL."""


class UIError(RuntimeError):
    """The UI cannot be shown; the text is one line with the remedy."""


def require_free(port: int, remedy: str = "choose another with --port") -> None:
    """See that the loopback port can be used.

    Args:
        port: loopback port.
        remedy: what the error says to do, in the words of whoever was called.

    Raises:
        UIError: it cannot.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UIError(
                f"port {port} cannot be used ({error.strerror}); {remedy}"
            ) from None


@contextmanager
def serving(log: Path, port: int) -> Iterator[str]:
    """The Dagster UI on the environment's DAGSTER_HOME; yields its address once it answers.

    Raises:
        UIError: it did not start.
    """
    anew = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with files.opened(log, anew) as out, running(port, out) as process:
        _await(f"http://127.0.0.1:{port}/server_info", process, log)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running(
    port: int,
    out: IO[bytes] | None,
    pass_fds: Sequence[int] = (),
    module: str = services.DEFINITIONS,
) -> "Iterator[subprocess.Popen[bytes]]":
    """UI and daemon in a process group of their own, ended with all they started.

    Args:
        port: loopback port of the UI.
        out: where it writes; our own output when None.
        pass_fds: open files it keeps.
        module: the definitions.
    """
    command = services.python(
        "availability_pipeline.services", "--port", str(port), "--module", module
    )
    # Ctrl-C reaches us alone, and we end the whole group.
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
        command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
        pass_fds=pass_fds,
    )  # fmt: skip
    try:
        yield process
    finally:
        _end_group(process)


def answers(url: str) -> bool:
    """Whether a server answers there."""
    with suppress(OSError), urllib.request.urlopen(url, timeout=2):  # noqa: S310 - loopback
        return True
    return False


def wait_for_ctrl_c() -> None:
    """Return when Ctrl-C (or SIGTERM, see `sigterm_as_ctrl_c`) comes."""
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, so that every `finally` runs.

    SIGINT too: a shell without job control starts background commands with it ignored. And SIGHUP,
    which comes when the terminal is closed, unless `nohup` has it ignored.
    """
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {n: signal.signal(n, _interrupt) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _await(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        if answers(url):
            return
        time.sleep(0.3)
    raise UIError(f"the Dagster UI did not start; its log is {log}")


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all it started: politely, then at once."""
    # A second Ctrl-C must not leave half of it running.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + ENDS_WITHIN
        while time.monotonic() < deadline and _group_lives(process):
            time.sleep(0.1)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def _group_lives(process: "subprocess.Popen[bytes]") -> bool:
    process.poll()  # takes the ended leader off the process table
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
