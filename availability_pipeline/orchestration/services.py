"""The UI and the daemon on one home, for as long as both are of use.

The process group that `processes` starts, or one process of a service manager. Not `dagster dev`:
it starts Dagster's own webserver, which any web page can use (see `instance.webserver`), and
imports from the current directory. The processes below do neither.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from availability_pipeline import files, settings

# From warnings on. What runs did is in log/availability.log and in the UI; at Dagster's default,
# INFO, sensors that find nothing to do write 2.8 MB a day.
QUIET_WEBSERVER = ("--dagster-log-level", "warning", "--code-server-log-level", "warning")
QUIET_DAEMON = ("--log-level", "warning", "--code-server-log-level", "warning")

EVERY = 0.5
"""Seconds between two checks that the processes live."""

CODE_SERVER_GONE = 10
"""Seconds without a code server after which a process is of no use.

Webserver and daemon each have the definitions in a child of theirs, which the kernel may kill when
memory is short. Tried with Dagster 1.13: the daemon starts another one within a minute (23 s), the
webserver none in 150 s. (Under `dagster dev`, which 0.1 used, the daemon evaluated nothing any
more, while its heartbeat went on.) A reload starts the new one before it ends the old one.
"""

CODE_SERVER_STARTS = 180
"""Seconds in which the first one must be there; it takes 5 on two idle cores."""

HISTORY_MADE = Path("history", "runs", "index.db")
"""The last of the databases that are made for a new home; kept elsewhere (PostgreSQL), each start
looks, which takes 2 s."""

ENDS_WITHIN = 6
"""Seconds from SIGTERM to SIGKILL."""


class Watched:
    """A process of Dagster's that is of use only as long as its code server lives.

    Args:
        name: for the message.
        command: what to run.
        now: a monotonic clock, in seconds.
        keep: open files that it keeps.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        now: Callable[[], float] = time.monotonic,
        keep: Sequence[int] = (),
    ) -> None:
        self._name, self._now = name, now
        self._process = psutil.Popen(command, pass_fds=keep)
        self._needed_by = now() + CODE_SERVER_STARTS

    def ended(self) -> str | None:
        """Why it is of no use any more, or None."""
        if (code := self._process.poll()) is not None:
            return f"the {self._name} ended with exit code {code}"
        if any(map(_is_code_server, self._below())):
            self._needed_by = self._now() + CODE_SERVER_GONE
        elif self._now() > self._needed_by:
            return f"the {self._name} has no code server any more"
        return None

    def end(self) -> int:
        """End it and all below it; its exit code."""
        there = [*self._below(), self._process]
        for process in there:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(there, timeout=ENDS_WITHIN)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=ENDS_WITHIN)
        return int(self._process.wait() or 0)

    def _below(self) -> list[psutil.Process]:
        try:
            return list(self._process.children(recursive=True))
        except psutil.NoSuchProcess:
            return []


def _is_code_server(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
        return "grpc" in words[:8] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def python(module: str, *words: str) -> list[str]:
    """The command that runs a module without the current directory among its imports."""
    return [sys.executable, "-P", "-m", module, *words]


def commands(port: int, module: str = settings.DEFINITIONS) -> dict[str, list[str]]:
    """The command of each process, by its name."""
    where = ["-m", module, "-d", str(settings.CHECKOUT)]
    web = python(
        "availability_pipeline.orchestration.instance.webserver", "-h", "127.0.0.1", "-p", str(port)
    )
    # The module of the program `dagster-daemon`, which need not lie beside our interpreter.
    daemon = python("dagster._daemon", "run")
    return {
        "webserver": [*web, *QUIET_WEBSERVER, *where],
        "daemon": [*daemon, *QUIET_DAEMON, *where],
    }


def make_history(home: Path) -> None:
    """Have the databases of the run history made by one process, before two open them.

    Dagster makes them where they are missing, each process by itself. Tried with 1.13, two that
    open a new home at once: in 21 of 30 one of them ends ("table runs already exists"), and in the
    other 9 the home is of no use from then on ("more than one head present").
    """
    with files.one_at_a_time(home):
        if not (home / HISTORY_MADE).exists():
            make = "import dagster; dagster.DagsterInstance.get().dispose()"
            # What is wrong, the processes that follow say better; they are started again.
            command = [sys.executable, "-P", "-c", make]
            subprocess.run(command, stderr=subprocess.DEVNULL, check=False)  # noqa: S603 - ours


def watch(processes: Sequence[Watched]) -> int:
    """Wait until one of them has ended or is of no use, or a signal comes; end all of them.

    Returns:
        1, or 0 after SIGTERM and SIGINT.
    """
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    try:
        while not asked:
            for process in processes:
                if why := process.ended():
                    sys.stderr.write(f"{why}\n")
                    return 1
            time.sleep(EVERY)
        return 0
    finally:
        for process in processes:
            process.end()


def main(argv: Sequence[str] | None = None) -> int:
    """`python -P -m availability_pipeline.orchestration.services --port N`, or `... -- COMMAND`.

    Without a command: webserver and daemon, for `processes` and the demo. With one: that command
    alone, for a service manager, which starts it again after exit code 1.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    settings.never_import_from_current_directory()
    files.keep_private()
    if (home := settings.dagster_home()) and home.is_dir():
        make_history(home)
    if given[:1] == ["--"]:
        return watch([Watched(Path(given[1]).name, given[1:])])
    parser = argparse.ArgumentParser(
        prog="python -P -m availability_pipeline.orchestration.services"
    )
    parser.add_argument("--port", type=int, required=True, help="loopback port of the UI")
    parser.add_argument("--module", default=settings.DEFINITIONS, help="the definitions")
    parser.add_argument("--keep", type=int, nargs="*", default=[], help="open files of all of it")
    said = parser.parse_args(given)
    found = commands(said.port, said.module)
    return watch([Watched(name, command, keep=said.keep) for name, command in found.items()])


if __name__ == "__main__":
    sys.exit(main())
