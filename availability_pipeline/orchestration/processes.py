"""UI and daemon as one process group: once for each home, and certain to end with all it started.

It is five processes or more, and started in the background they ignore SIGINT. So: a lock on the
home, a free port first, a session of its own, and an end for the whole group. What the group runs
is in `services`.
"""

import argparse
import datetime as dt
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import IO, BinaryIO, TextIO

import psutil

from availability_pipeline import files, settings
from availability_pipeline.orchestration import services

STARTS_WITHIN = 180
"""Seconds; it takes 10 on two cores."""

GROUP_ENDS_WITHIN = services.ENDS_WITHIN + 2
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
            raise UIError(f"port {port} cannot be used ({error.strerror}); {remedy}") from None


@contextmanager
def serving(log: Path, port: int) -> Iterator[str]:
    """The Dagster UI on the environment's DAGSTER_HOME; yields its address once it answers.

    Raises:
        UIError: it did not start.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with files.opened(log, flags) as out, running(port, out) as process:
        address = f"http://127.0.0.1:{port}"
        if not _answered(f"{address}/server_info", process):
            raise UIError(f"the Dagster UI did not start; its log is {log}")
        yield address


@contextmanager
def running(
    port: int,
    out: IO[bytes] | None,
    pass_fds: Sequence[int] = (),
    module: str = settings.DEFINITIONS,
) -> "Iterator[subprocess.Popen[bytes]]":
    """UI and daemon in a process group of their own, ended with all they started.

    Args:
        port: loopback port of the UI.
        out: where it writes; our own output when None.
        pass_fds: open files that all of it keeps.
        module: the definitions.
    """
    command = services.python(
        "availability_pipeline.orchestration.services",
        *("--port", str(port), "--module", module, "--keep", *map(str, pass_fds)),
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


def _answered(url: str, process: "subprocess.Popen[bytes]") -> bool:
    """Wait until the server that a process starts answers; whether it does."""
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        if answers(url):
            return True
        time.sleep(0.3)
    return False


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all it started: politely, then at once."""
    # A second Ctrl-C must not leave half of it running.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + GROUP_ENDS_WITHIN
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


LOCK, LOG = "background.lock", "background.log"

PORT_REMEDY = "choose another, as `--port 3001` (with make: `PORT=3001 make start`)"

ENDS_WITHIN = 20
"""Seconds that `stop` waits; the group is given `GROUP_ENDS_WITHIN` of them."""

RESTARTS, RESTART_SECONDS = 5, 600
"""They are started again so often within so many seconds, as by the systemd units."""

UNWATCHED = "what dies is not started again: what watches it was killed"
"""Why it does not run as it should, though all that works is there."""

LOG_BYTES = 1_000_000
"""Size at which `background.log` becomes `background.log.1`, which replaces the one before."""


class BackgroundError(RuntimeError):
    """It cannot be started or ended; the text is one line with the remedy."""


@dataclass(frozen=True)
class Running:
    """What holds the home: the keeper's process id, the group of `services`, the address."""

    pid: int
    group: int
    address: str


def find(home: Path) -> Running | None:
    """What runs on this home, or None."""
    with _noted(home) as lock:
        if lock is None or files.try_lock(lock):
            return None
        text = lock.read()
    # Empty while it starts.
    return Running(**json.loads(text)) if text else Running(0, 0, "an address not known yet")


@contextmanager
def _noted(home: Path) -> Iterator[TextIO | None]:
    """The lock's file, for reading what is noted in it; None where nothing was ever started."""
    try:
        file = files.opened(home / LOCK, os.O_RDWR)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise BackgroundError(f"{error.filename} {error.strerror}; remove it") from None
    with _text(file) as lock:
        yield lock


def unwatched(found: Running) -> bool:
    """Whether `services` is gone and not what it had started: what dies now stays dead."""
    if not found.group:
        return False
    try:
        # While one of its group lives, no other process has the number.
        return psutil.Process(found.group).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def outlived(home: Path, sign: dt.datetime | None) -> bool:
    """Whether the daemon that gave this last sign of life (aware) is what was started here, ended.

    A sign of life is counted for three minutes, and so outlives the daemon. What ends by itself
    leaves its lock empty, with the time; after a kill a daemon of this home is looked for.
    """
    if sign is None:
        return False
    with _noted(home) as lock:
        if lock is None or not files.try_lock(lock):
            return False
        killed, ended = lock.read(), os.fstat(lock.fileno()).st_mtime
    return not _daemon_lives(home) if killed else sign.timestamp() <= ended


def _daemon_lives(home: Path) -> bool:
    """Whether a service, then, runs the daemon on this home."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if not {"dagster._daemon", "dagster-daemon"}.intersection(
                Path(word).name for word in process.cmdline()[:6]
            ):
                continue
            try:
                theirs = process.environ().get("DAGSTER_HOME", "")
            except psutil.AccessDenied:  # another user's, who may well have our home
                return True
            if Path(theirs).expanduser() == home:
                return True
    return False


def up(
    home: Path,
    port: int,
    log: Path | None = None,
    say: Callable[[str], None] | None = None,
    module: str = settings.DEFINITIONS,
) -> None:
    """Run UI and daemon until SIGINT or SIGTERM comes; start them again when they end.

    They end when one of their processes does, as when the kernel kills one for its memory.

    Args:
        home: the folder of `dagster.yaml` and the run history; gets ours if it has none.
        port: loopback port of the UI.
        log: the file that our output goes to, which is kept at a bounded size.
        say: called with one line once the UI answers.
        module: the definitions.

    Raises:
        BackgroundError: something runs on this home already, or they ended again and again.
        UIError: the port is taken.
    """
    with sigterm_as_ctrl_c(), _locked(home) as lock:
        require_free(port, PORT_REMEDY)
        if not (home / "dagster.yaml").exists():
            # Without it Dagster would take its defaults, with which two runs write at once.
            shutil.copy(settings.shipped_config(), home / "dagster.yaml")
        settings.use_home(home)
        ends: list[float] = []
        with suppress(KeyboardInterrupt):
            while True:
                _run_once(lock, port, log, say, module)
                say = None
                ends = [end for end in ends if time.monotonic() - end < RESTART_SECONDS]
                if len(ends) >= RESTARTS:
                    raise BackgroundError(
                        f"UI and daemon ended {RESTARTS + 1} times within "
                        f"{RESTART_SECONDS // 60} minutes; the output above says why"
                    )
                ends.append(time.monotonic())
                print("UI and daemon ended; they are started again", file=sys.stderr)  # noqa: T201


def _run_once(
    lock: TextIO, port: int, log: Path | None, say: Callable[[str], None] | None, module: str
) -> None:
    """Run them until they end by themselves."""
    address = f"http://127.0.0.1:{port}"
    # The others keep the lock too: if this process and even `services` are killed, `stop` finds
    # webserver and daemon, and `start` adds no second daemon.
    with running(port, None, (lock.fileno(),), module) as process:
        _empty(lock)
        lock.write(json.dumps(asdict(Running(os.getpid(), process.pid, address))))
        lock.flush()
        while process.poll() is None:
            if say and answers(f"{address}/server_info"):
                say(f"UI and daemon run: {address} (Ctrl-C ends both)")
                say = None
            if log:
                keep_bounded(log)
            time.sleep(services.EVERY)


def start(home: Path, port: int) -> str:
    """Start it in the background, once; returns what is to be said.

    Raises:
        BackgroundError: it did not start.
        UIError: the port is taken.
    """
    if found := find(home):
        return f"already running: {found.address}"
    require_free(port, PORT_REMEDY)
    log = home / LOG
    command = services.python(
        "availability_pipeline.orchestration.processes", "--port", str(port), "--log", str(log)
    )
    settings.use_home(home)
    # Appended to, so that why the one before ended is still there.
    with files.opened(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as out:
        keeper = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    if _answered(f"{address}/server_info", keeper):
        return f"started: {address}, output in {log}"
    keeper.terminate()
    keeper.wait()
    raise BackgroundError(f"it did not start; its output is in {log}")


def stop(home: Path) -> str:
    """End it and all it started; returns what is to be said.

    Raises:
        BackgroundError: it does not end.
    """
    found = find(home)
    if found is None:
        return "not running"
    with suppress(ProcessLookupError):
        os.kill(found.pid, signal.SIGTERM) if found.pid else None
    for patience, number in ((ENDS_WITHIN, signal.SIGTERM), (ENDS_WITHIN / 2, signal.SIGKILL)):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if find(home) is None:
                return _stopped(home)
            if found.pid and not psutil.pid_exists(found.pid):
                break  # the keeper was killed, and what it kept was not
            time.sleep(0.1)
        # The lock is held by one of the group, so the group is still ours.
        with suppress(ProcessLookupError):
            os.killpg(found.group, number) if found.group else None
        time.sleep(1)
    if find(home) is None:
        return _stopped(home)
    raise BackgroundError(f"{found} has not ended; end it by hand")


def _stopped(home: Path) -> str:
    with _noted(home) as lock:
        if lock and files.try_lock(lock):  # a keeper that was killed could not
            _ended(lock)
    return "stopped"


def _ended(lock: TextIO) -> None:
    """Note that it has ended, and when."""
    _empty(lock)
    os.utime(lock.fileno())


def _empty(lock: TextIO) -> None:
    lock.seek(0)
    lock.truncate()


def keep_bounded(log: Path) -> None:
    """Copy the log to `….1` and empty it once it is large.

    Not renamed: the processes that write to it, at its end, would go on in the renamed file.
    """
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES:
            with files.temporary_folder(log.parent, f".{log.name}.") as folder:
                shutil.copyfile(log, folder / "copy")
                files.private(folder / "copy")
                (folder / "copy").replace(log.with_name(f"{log.name}.1"))
            files.opened(log, os.O_WRONLY | os.O_TRUNC).close()


@contextmanager
def _locked(home: Path) -> Iterator[TextIO]:
    try:
        file = files.lock_file(home / LOCK)
    except OSError as error:
        raise BackgroundError(f"{error.filename} {error.strerror}; remove it") from None
    with _text(file) as lock:
        if not files.try_lock(lock):
            found = find(home)
            where = f" at {found.address}" if found else ""
            raise BackgroundError(f"UI and daemon already run on {home}{where}; `stop` them first")
        if (text := lock.read()) and not text.startswith('{"pid": '):
            raise BackgroundError(f"{home / LOCK} is not this program's file; move it away")
        _empty(lock)
        try:
            yield lock
        finally:
            _ended(lock)


def _text(file: BinaryIO) -> TextIO:
    return io.TextIOWrapper(file, encoding="utf-8", errors="replace")


def main() -> int:
    """The keeper that `start` starts; people have the program's commands."""
    parser = argparse.ArgumentParser(
        prog="python -P -m availability_pipeline.orchestration.processes"
    )
    parser.add_argument("--port", type=int, required=True, help="loopback port of the UI")
    parser.add_argument("--log", type=Path, required=True, help="where our output goes")
    parser.add_argument("--module", default=settings.DEFINITIONS, help="the definitions")
    given = parser.parse_args()
    files.keep_private()
    try:
        up(settings.require_home(), given.port, given.log, module=given.module)
    except (BackgroundError, UIError, settings.SettingsError) as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
