"""The UI and the daemon as one thing to start, see and end: `up`, `start`, `stop`, `running`.

Belongs here: one of it for each home, and a certain end. Does not belong here: services that start
with the machine (deploy/), the process group (`demo_ui`).

A keeper process holds a lock on `background.lock` in the home while `services` runs below it:
two daemons on one home would launch each schedule twice. The lock goes with the processes, so
after a power cut or a `kill -9` no stale file says "running".
"""

import argparse
import datetime as dt
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from availability_pipeline import demo_ui, files, services, settings

LOCK, LOG = "background.lock", "background.log"

PORT_REMEDY = "choose another, as `--port 3001` (with make: `PORT=3001 make start`)"

ENDS_WITHIN = 20
"""Seconds that `stop` waits; the group is given `demo_ui.ENDS_WITHIN` of them."""

RESTARTS, RESTART_SECONDS = 5, 600
"""They are started again so often within so many seconds, as by the systemd units."""

TOUCHED_EVERY = 5
"""Seconds after which the keeper touches its lock: when it was killed can be told by that."""

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
    try:
        with _text(files.opened(home / LOCK, os.O_RDWR)) as lock:
            if _take(lock):
                return None
            text = lock.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BackgroundError(f"{error.filename} {error.strerror}; remove it") from None
    # Empty while it starts.
    return Running(**json.loads(text)) if text else Running(0, 0, "an address not known yet")


def ended_at(home: Path) -> float | None:
    """When what was started here ended, to `TOUCHED_EVERY` if it was killed; None if nothing was.

    The daemon's last sign of life is counted for three minutes, and so outlives the daemon.
    """
    try:
        return (home / LOCK).stat().st_mtime
    except FileNotFoundError:
        return None


def outlived(home: Path, sign: dt.datetime | None) -> bool:
    """Whether the daemon's last sign of life (aware) is from before what was started here ended."""
    ended = ended_at(home) if find(home) is None else None
    return ended is not None and sign is not None and sign.timestamp() <= ended + TOUCHED_EVERY


def home() -> Path:
    """The folder of `dagster.yaml` and the run history.

    Raises:
        BackgroundError: DAGSTER_HOME is not set and this is not a checkout, or it is not a folder.
    """
    folder = settings.dagster_home()
    if folder is None:
        raise BackgroundError(
            "DAGSTER_HOME is not set; make a folder for the run history and set it to that"
        )
    if not folder.is_dir():
        raise BackgroundError(f"DAGSTER_HOME={folder} is not a folder; make it or correct it")
    return folder


def up(
    home: Path,
    port: int,
    log: Path | None = None,
    say: Callable[[str], None] | None = None,
    module: str = services.DEFINITIONS,
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
        demo_ui.UIError: the port is taken.
    """
    with demo_ui.sigterm_as_ctrl_c(), _locked(home) as lock:
        demo_ui.require_free(port, PORT_REMEDY)
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
    # `services` keeps the lock too: if this process is killed, `stop` still finds it.
    with demo_ui.running(port, None, (lock.fileno(),), module) as process:
        lock.seek(0)
        lock.truncate()
        lock.write(json.dumps(asdict(Running(os.getpid(), process.pid, address))))
        lock.flush()
        touched = time.monotonic()
        while process.poll() is None:
            if time.monotonic() - touched > TOUCHED_EVERY:
                os.utime(lock.fileno())
                touched = time.monotonic()
            if say and demo_ui.answers(f"{address}/server_info"):
                say(f"UI and daemon run: {address} (Ctrl-C ends both)")
                say = None
            if log:
                keep_bounded(log)
            time.sleep(services.EVERY)


def start(home: Path, port: int) -> str:
    """Start it in the background, once; returns what is to be said.

    Raises:
        BackgroundError: it did not start.
        demo_ui.UIError: the port is taken.
    """
    if found := find(home):
        return f"already running: {found.address}"
    demo_ui.require_free(port, PORT_REMEDY)
    log = home / LOG
    command = services.python(
        "availability_pipeline.background", "--port", str(port), "--log", str(log)
    )
    settings.use_home(home)
    # Appended to, so that why the one before ended is still there.
    with files.opened(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as out:
        keeper = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + demo_ui.STARTS_WITHIN
    while keeper.poll() is None and time.monotonic() < deadline:
        if demo_ui.answers(f"{address}/server_info"):
            return f"started: {address}, output in {log}"
        time.sleep(0.3)
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
            if not _lives(found.pid):
                break  # the keeper was killed, and what it kept was not
            time.sleep(0.1)
        # The lock is held by the group's leader, so the group is still ours.
        with suppress(ProcessLookupError):
            os.killpg(found.group, number) if found.group else None
        time.sleep(1)
    if find(home) is None:
        return _stopped(home)
    raise BackgroundError(f"{found} has not ended; end it by hand")


def _stopped(home: Path) -> str:
    os.utime(home / LOCK, follow_symlinks=False)  # a keeper that was killed could not
    return "stopped"


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


def _take(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def _locked(home: Path) -> Iterator[TextIO]:
    try:
        file = files.lock_file(home / LOCK)
    except OSError as error:
        raise BackgroundError(f"{error.filename} {error.strerror}; remove it") from None
    with _text(file) as lock:
        if not _take(lock):
            found = find(home)
            where = f" at {found.address}" if found else ""
            raise BackgroundError(f"UI and daemon already run on {home}{where}; `stop` them first")
        if (text := lock.read()) and not text.startswith('{"pid": '):
            raise BackgroundError(f"{home / LOCK} is not this program's file; move it away")
        lock.seek(0)
        lock.truncate()
        try:
            yield lock
        finally:
            os.utime(home / LOCK, follow_symlinks=False)


def _text(file: BinaryIO) -> TextIO:
    return io.TextIOWrapper(file, encoding="utf-8", errors="replace")


def main() -> int:
    """The keeper that `start` starts; people have the program's commands."""
    parser = argparse.ArgumentParser(prog="python -P -m availability_pipeline.background")
    parser.add_argument("--port", type=int, required=True, help="loopback port of the UI")
    parser.add_argument("--log", type=Path, required=True, help="where our output goes")
    parser.add_argument("--module", default=services.DEFINITIONS, help="the definitions")
    given = parser.parse_args()
    files.keep_private()
    try:
        up(home(), given.port, given.log, module=given.module)
    except (BackgroundError, demo_ui.UIError) as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
