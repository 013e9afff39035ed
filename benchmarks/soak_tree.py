"""The soak's processes: what `start` starts, seen from outside, and what `running` says of them.

`Tree` starts, finds and kills. `Judge` compares in a thread of its own what `running` and `status`
say with which processes there are. It knows nothing of heartbeats and ticks: alive is a webserver
that answers and a daemon, each with a code server.
"""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from availability_pipeline.orchestration import processes, services

ROOT = Path(__file__).parent.parent
MODULE = "benchmarks.soak_definitions"
DAY, CLOCK = "SOAK_DAY_MINUTES", "SOAK_CLOCK"
"""Environment: minutes in a day, and the file with the clock's error in seconds."""

EVERY = 2.0
"""Seconds between two looks at the processes."""

MODULES = {
    "availability_pipeline.orchestration.processes": "keeper",
    "availability_pipeline.orchestration.services": "services",
    "availability_pipeline.orchestration.instance.webserver": "webserver",
    "dagster._daemon": "daemon",
    "availability_pipeline.alerts.delivery": "sender of alerts",
    "availability_pipeline.cli": "command",
}
NEEDED = (
    "webserver", "daemon", "code server of the webserver", "code server of the daemon",
)  # fmt: skip
"""What must live so that it does its work."""

WHOLE, BROKEN, UNWATCHED = "whole", "not whole", "unwatched"
"""Unwatched: it works, and nothing starts again what dies; both answers are right then."""

LASTING = ("keeper", "services", *NEEDED)
SHORT = ("run", "sender of alerts")
"""Kinds that are there for seconds only."""


class Tree:
    """UI and daemon on one home, as `start` starts them, with the soak's definitions.

    Args:
        home: DAGSTER_HOME.
        env: of all its processes.
        port: loopback port of the UI.
    """

    def __init__(self, home: Path, env: dict[str, str], port: int) -> None:
        self.home, self.port = home, port
        self.env = env | {"DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT)}
        self.killed = False
        """Whether that was a kill."""
        self._keepers: list[subprocess.Popen[bytes]] = []
        self.touched = time.monotonic()
        """When something was last killed or started."""

    def start(self) -> None:
        """What `start` runs, with another module."""
        self.touched, self.killed = time.monotonic(), False
        log = self.home / "background.log"
        with log.open("ab") as out:
            keeper = subprocess.Popen(
                services.python(processes.__name__, "--port", str(self.port),
                                "--log", str(log), "--module", MODULE),
                env=self.env, cwd=self.home, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        self._keepers.append(keeper)

    def end(self) -> None:
        """Kill all that is left."""
        self.kill(*(p for found in self.processes().values() for p in found))
        for keeper in self._keepers:
            keeper.wait()

    def popen(self, *words: str) -> "subprocess.Popen[str]":
        """One of the program's commands, in a shell beside it."""
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "availability_pipeline.cli", *words],
            env=self.env, cwd=self.home, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def command(self, *words: str) -> tuple[int, str, str]:
        """The same, waited for: exit code, output, errors."""
        process = self.popen(*words)
        out, errors = process.communicate(timeout=900)
        return process.returncode, out, errors

    def processes(self) -> dict[str, list[psutil.Process]]:
        """What lives, by kind."""
        found: dict[str, list[psutil.Process]] = {}
        ours: dict[int, tuple[psutil.Process, list[str], int]] = {}
        for process in psutil.process_iter():
            try:
                if process.environ().get("DAGSTER_HOME") != str(self.home):
                    continue
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                ours[process.pid] = process, process.cmdline(), process.ppid()
            except (psutil.Error, OSError):
                continue
        for process, words, parent in ours.values():
            kind = next((MODULES[word] for word in words[:7] if word in MODULES), None)
            if kind == "services" and "--port" not in words:
                kind = None
            if kind is None and "grpc" in words[:8]:
                owner, seen = parent, set()
                while owner in ours and owner not in seen:
                    seen.add(owner)
                    above = next((MODULES[w] for w in ours[owner][1][:7] if w in MODULES), None)
                    if above in ("webserver", "daemon"):
                        kind = f"code server of the {above}"
                        break
                    owner = ours[owner][2]
                else:
                    kind = "orphaned code server"
            if kind is None:
                kind = "run" if any("spawn_main" in word for word in words) else "other"
            found.setdefault(kind, []).append(process)
        return found

    def state(self) -> str:
        """Whether it does its work, as far as one sees from outside."""
        there = self.processes()
        if not all(kind in there for kind in NEEDED):
            return BROKEN
        if not processes.answers(f"http://127.0.0.1:{self.port}/server_info"):
            return BROKEN
        return WHOLE if "services" in there else UNWATCHED

    def kill(self, *victims: psutil.Process) -> int:
        """SIGKILL; how many of them were there."""
        self.touched, self.killed = time.monotonic(), True
        killed = 0
        for victim in victims:
            try:
                victim.kill()
                killed += 1
            except psutil.Error:
                pass
        return killed


@dataclass
class Judge:
    """Asks `running` and `status` again and again, and compares.

    Attributes:
        grace: seconds that it may take to be alive again, or to say that it is not.
        patience: seconds after which people heed a no, and start it again.
        wrong: what was said, and what was true.
        answers: how often each answer was given.
        longest: seconds until it was whole again by itself, at most.
        doubled: how often there were two daemons.
        clear_no: it is not whole, for longer than the patience, and `running` says so.
    """

    tree: Tree
    say: Callable[[str], None]
    grace: float = 60.0
    patience: float = 60.0
    pause: float = 10.0
    wrong: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    doubled: int = 0
    clear_no: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._state, self._changed = BROKEN, time.monotonic()
        self._threads = [threading.Thread(target=self._look), threading.Thread(target=self._ask)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def whole(self) -> bool:
        return self._state == WHOLE

    def steady(self) -> tuple[str, float]:
        """The state, and since when (monotonic) nothing has changed and nothing was killed."""
        with self._lock:
            return self._state, max(self._changed, self.tree.touched)

    def _look(self) -> None:
        twice = 0
        while not self._ended.wait(EVERY):
            touched, state = self.tree.touched, self.tree.state()
            twice = twice + 1 if len(self.tree.processes().get("daemon", ())) > 1 else 0
            if twice == 3:  # not one that is ending
                self.doubled += 1
                self.say("WRONG: two daemons on one home")
            with self._lock:
                if state != self._state:
                    self._state, self._changed = state, time.monotonic()
                    if state == WHOLE and self.tree.killed:
                        self.longest = max(self.longest, self._changed - touched)

    def _ask(self) -> None:
        turn = 0
        while not self._ended.wait(self.pause):
            turn += 1
            self.ask("status" if turn % 4 == 0 else "running")

    def ask(self, what: str) -> bool:
        """Ask once, and judge the answer."""
        state, since = self.steady()
        lasted = time.monotonic() - since
        if what == "status":
            code, out, errors = self.tree.command("status", "--json")
            answer = json.loads(out) if out.startswith("{") else {}
            daemon = answer.get("daemon") or {}
            yes = bool(daemon.get("running")) and not answer.get("overdue")
            said = f"{answer.get('daemon')} {answer.get('overdue')} {errors[-300:]}"
        else:
            code, out, errors = self.tree.command("running")
            yes, said = code == 0, f"{out.strip()} {errors.strip()[-300:]}"
        if code not in (0, 1) or "Traceback" in errors:
            self._note(f"{what} ended with {code}: {said}")
        # The same before and after, and all the while.
        steady = self.steady() == (state, since)
        certain = steady and lasted > self.grace
        if certain and state != UNWATCHED and yes != (state == WHOLE):
            there = self.tree.processes().items()
            self._note(
                f"{what} said {'yes' if yes else 'no'} ({said}) while it had been {state} for "
                f"{time.monotonic() - since:.0f} s: "
                + ", ".join(f"{kind} {len(found)}" for kind, found in sorted(there))
            )
        # What is only just starting is let start, on a busy machine too.
        patience = self.patience if self.tree.killed else processes.STARTS_WITHIN
        if steady and lasted > patience and state != WHOLE and not yes:
            self.clear_no.set()
        self.answers[f"{what}: {'yes' if yes else 'no'}{'' if certain else ', meanwhile'}"] += 1
        return yes

    def _note(self, text: str) -> None:
        self.wrong.append(text)
        self.say(f"WRONG: {text}")
