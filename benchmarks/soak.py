"""An hour of deaths and faults on short days: does the record end up right, all of it told once?

    python -m benchmarks.soak --minutes 60 --seed 1

UI and daemon run as `start` runs them, with the default schedules on a day of four minutes. Every
few seconds something drawn from the seed happens: a process of the tree is killed, or all at once;
a run is canceled or executed again; a command is killed or interrupted; the clock or the archive's
clock steps; the archive fails, drags or changes; a target of alerts refuses, hangs or is slow. Two
threads ask `running` and `status` all the while and compare with the processes there are. Then all
is well again, and the record is compared with the archive, each target's messages with Dagster's
history. What happens when depends on the machine too; what is drawn does not.
"""

import argparse
import datetime as dt
import json
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorType

from availability_pipeline import settings
from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.orchestration.beta import without_beta_warnings
from availability_pipeline.orchestration.instance.run_log import job_label
from availability_pipeline.record import connection
from availability_pipeline_tests.support.receiver import Receiver, receiving
from benchmarks import soak_archive
from benchmarks.common import Row, show
from benchmarks.soak_tree import BROKEN, CLOCK, DAY, LASTING, SHORT, WHOLE, Judge, Tree

DAYS, LOOK_BACK = 45, 20
SETTLE_DAYS = 3
CALM = 900
"""Seconds that the end may take: the longest pause between two tries of a target that failed."""

TARGET_MODES = ("refuse", "hang", "slow", "drip")
STEPS = (-40 * 86400, -86400, -7200, -45, 45, 7200, 86400, 20 * 86400)
"""Seconds; those of less than an hour are accepted, and refused once the clock is right again."""

RUNS = """{ runsOrError(limit: 30) { ... on Runs { results { runId status jobName } } } }"""
CANCEL = """mutation($id: String!) { terminateRun(runId: $id) {
  __typename ... on TerminateRunFailure { message } ... on PythonError { message } } }"""
RETRY = """mutation($id: String!) { launchRunReexecution(
  reexecutionParams: {parentRunId: $id, strategy: ALL_STEPS}) {
  __typename ... on PythonError { message } } }"""


@dataclass
class Outcome:
    """What became of it.

    Attributes:
        done: action -> how often.
        verdicts: what should hold -> what is wrong with it; nothing, if it holds.
        notes: numbers for the table.
    """

    done: Counter[str] = field(default_factory=Counter)
    verdicts: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


class Soak:
    """One soak in a folder.

    Args:
        folder: gets home, record and backups.
        seed: of what happens.
        minutes: for how long things happen.
        grace: seconds in which it must be alive again, or say no.
        short: all that lasts is shorter, and nothing happens to dates before the look-back.
    """

    def __init__(
        self, folder: Path, seed: int, minutes: float, *, grace: float = 60.0, short: bool = False
    ) -> None:
        self._folder, self._minutes, self._short = folder, minutes, short
        self._rng, self._grace = random.Random(seed), grace
        self._pause, self._day, self._scale = (3.0, 2, 0.3) if short else (8.0, 4, 1.0)
        self._began = time.monotonic()
        self._later: list[tuple[float, str, Callable[[], None]]] = []
        self._commands: list[subprocess.Popen[str]] = []
        self._sender_killed: list[float] = []
        self._clock = folder / "clock"
        self._home = folder / "home"
        self._home.mkdir(parents=True)
        if short:
            self._monitor_sooner()
        self.outcome = Outcome()

    def _monitor_sooner(self) -> None:
        """Let a killed run be noticed at once, and one that never began after 90 s."""
        text = settings.shipped_config().read_text()
        for name, was, becomes in (
            ("poll_interval_seconds", 15, 3),
            ("free_slots_after_run_end_seconds", 15, 3),
            ("start_timeout_seconds", 180, 90),
        ):
            assert f"{name}: {was}" in text
            text = text.replace(f"{name}: {was}", f"{name}: {becomes}")
        (self._home / "dagster.yaml").write_text(text)

    def say(self, text: str) -> None:
        """A line with its time."""
        at = time.monotonic() - self._began
        print(f"{int(at // 60):3}:{at % 60:04.1f}  {text}", flush=True)

    def run(self) -> Outcome:
        """All of it."""
        with ExitStack() as stack:
            self.archive = stack.enter_context(
                soak_archive.serving(LOOK_BACK if self._short else DAYS)
            )
            self.targets = [stack.enter_context(receiving()) for _ in range(2)]
            self.tree = Tree(self._home, self._environment(), _free_port())
            patience = 60 * self._scale
            self.judge = Judge(self.tree, self.say, self._grace, patience)
            stack.callback(self.tree.end)
            stack.callback(self.judge.stop)
            self.tree.start()
            self.judge.start()
            self._begin()
            self._live()
            self._calm()
            self._close()
        return self.outcome

    def _environment(self) -> dict[str, str]:
        foreign = ("AVAILABILITY_", "DAGSTER_", "SOAK_")
        more = {
            "AVAILABILITY_BACKUP_DIR": str(self._folder / "backups"),
            "AVAILABILITY_PUBLISH_URL": str(self._folder / "published"),
        }
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(foreign)},
            "AVAILABILITY_DB": str(self._folder / "record.duckdb"),
            "AVAILABILITY_S3_ENDPOINT": self.archive.endpoint,
            "AVAILABILITY_S3_TIMEOUT_SECONDS": "5",
            **({} if self._short else more),
            "AVAILABILITY_REPORT_DIR": str(self._folder / "report"),
            "AVAILABILITY_ALERT_URLS": " ".join(target.url for target in self.targets),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            DAY: str(self._day),
            CLOCK: str(self._clock),
        }

    def _begin(self) -> None:
        """Wait until it runs and the alerts are being watched: the rest is about what follows."""
        self._wait("it never ran", lambda: self.judge.whole)
        self._wait("no tick of the alerts", lambda: _cursor(self._home) is not None)
        self.say("it runs")

    def _live(self) -> None:
        kinds, weights = zip(*ACTIONS.items(), strict=True)
        end = time.monotonic() + 60 * self._minutes
        while time.monotonic() < end:
            self._due()
            self._as_user()
            kind = self._rng.choices(kinds, weights)[0]
            getattr(self, f"_{kind}")()
            until = time.monotonic() + self._rng.expovariate(1 / self._pause)
            while time.monotonic() < min(until, end):
                self._due()
                self._as_user()
                time.sleep(0.2)

    # What happens.

    def _do(self, kind: str, text: str = "") -> None:
        self.outcome.done[kind] += 1
        self.say(f"{kind}{': ' if text else ''}{text}")

    def _lasts(self, least: float, most: float) -> float:
        return self._scale * self._rng.uniform(least, most)

    def _in(self, seconds: float, what: str, then: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, what, then))

    def _due(self) -> None:
        now = time.monotonic()
        for entry in [one for one in self._later if one[0] <= now]:
            self._later.remove(entry)
            entry[2]()
            self.say(f"  {entry[1]}")

    def _kill(self) -> None:
        kind = self._rng.choice((*LASTING, *SHORT, *SHORT, "keeper and services", "all at once"))
        patience, delay = (0.0, 0.0)
        if kind in SHORT:
            patience, delay = 30 * self._scale, self._rng.uniform(0, 3)
        if kind not in SHORT and self._rng.random() < 0.8:
            # A death while it is starting is another one's business most of the time.
            self._until(90, lambda: self.judge.whole)
        until = time.monotonic() + patience
        while not (found := self._victims(kind)) and time.monotonic() < until:
            self._due()
            time.sleep(0.1)
        time.sleep(delay)
        if kind in ("sender of alerts", "all at once"):
            self._sender_killed.append(time.monotonic())
        killed = self.tree.kill(*(self._victims(kind) if delay else found))
        self._do(f"kill {kind}" if killed else f"kill {kind}, which is not there")

    def _victims(self, kind: str) -> list[Any]:
        if kind == "all at once":
            return _all(self.tree)
        there = self.tree.processes()
        return [process for one in kind.split(" and ") for process in there.get(one, ())]

    def _cancel(self) -> None:
        self._on_a_run("cancel a run", CANCEL, ("STARTED", "QUEUED"), 30 * self._scale)

    def _retry(self) -> None:
        self._on_a_run("retry a failed run", RETRY, ("FAILURE",), 0)

    def _on_a_run(self, kind: str, query: str, states: tuple[str, ...], patience: float) -> None:
        until = time.monotonic() + patience
        while True:
            try:
                runs = self._ask(RUNS)["runsOrError"]["results"]
                if found := [run for run in runs if run["status"] in states]:
                    run = found[0]
                    answer = next(iter(self._ask(query, id=run["runId"]).values()))
                    done = answer["__typename"].endswith("Success")
                    text = f"{run['jobName']} {run['runId'][:8]}"
                    return self._do(kind if done else f"{kind}, refused", text)
            except (OSError, KeyError, ValueError, TypeError):
                return self._do(f"{kind}, but the UI does not answer")
            if time.monotonic() >= until:
                return self._do(f"{kind}, but there is none")
            time.sleep(0.5)

    def _ask(self, query: str, **variables: str) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.tree.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer)["data"])

    def _update(self) -> None:
        process = self.tree.popen("update", "manual")
        self._commands.append(process)
        fate = self._rng.choice(("left alone", "killed", "interrupted"))
        self._do(f"`update manual`, {fate}")
        if fate != "left alone":
            number = signal.SIGKILL if fate == "killed" else signal.SIGINT
            delay = self._rng.uniform(1, 8)
            self._in(delay, f"`update manual` is {fate}", lambda: process.send_signal(number))

    def _clock_step(self) -> None:
        step, seconds = self._rng.choice(STEPS), self._lasts(20, 90)
        self._do("step of the clock", f"by {step} s for {seconds:.0f} s")
        # Two clocks that are wrong alike would be believed: nobody could tell.
        self._set_archive_clock()
        self._set_clock(step)
        self._in(seconds, "the clock is right", lambda: self._set_clock(0))

    def _set_clock(self, seconds: int) -> None:
        new = self._clock.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._clock)

    def _archive_clock_step(self) -> None:
        step, seconds = self._rng.choice(STEPS), self._lasts(20, 90)
        self._do("step of the archive's clock", f"by {step} s for {seconds:.0f} s")
        self._set_clock(0)
        self.archive.seconds_ahead = step
        self._in(seconds, "the archive's clock is right", lambda: self._set_archive_clock())

    def _set_archive_clock(self) -> None:
        self.archive.seconds_ahead = 0.0

    def _archive_fault(self) -> None:
        fault, seconds = self._rng.choice(soak_archive.FAULTS), self._lasts(10, 75)
        self._do(f"archive: {fault}", f"for {seconds:.0f} s")
        self.archive.fault = fault
        self._in(seconds, "the archive is well", lambda: self._set_fault())

    def _set_fault(self) -> None:
        self.archive.fault = None

    def _archive_change(self) -> None:
        before = 0.0 if self._short else 0.2
        self._do("change in the archive", self.archive.change(self._rng, LOOK_BACK, before))

    def _target(self) -> None:
        number, mode = self._rng.randrange(len(self.targets)), self._rng.choice(TARGET_MODES)
        seconds = self._lasts(20, 75)
        target = self.targets[number]
        target.seconds = self._rng.uniform(1, 8)
        target.mode = mode
        self._do(f"target: {mode}", f"number {number + 1} for {seconds:.0f} s")
        self._in(seconds, f"target {number + 1} takes", lambda: _take(target))

    # What people do.

    def _as_user(self) -> None:
        """Start it again where it says that it does not run, or at last where it should say so."""
        state, since = self.judge.steady()
        if self.judge.clear_no.is_set():
            self.judge.clear_no.clear()
            said = "said no"
        elif state == BROKEN and time.monotonic() - since > 4 * self._grace:
            said = "never said no"
        else:
            return
        if state != WHOLE:
            self._do(f"it {said}, and was started again")
            self.tree.command("stop")
            if said == "never said no":  # and so `stop` has not found it
                self.tree.kill(*_all(self.tree))
            self.tree.start()
            self.judge.clear_no.clear()  # said of what was there before

    def _until(self, seconds: float, what: Callable[[], bool]) -> bool:
        until = time.monotonic() + seconds
        while not what() and time.monotonic() < until:
            self._due()
            self._as_user()
            time.sleep(0.5)
        return what()

    def _wait(self, otherwise: str, what: Callable[[], Any], patience: float = CALM) -> None:
        if not self._until(patience, lambda: bool(what())):
            self.say(f"never: {otherwise}")
            self.outcome.verdicts.setdefault("it came to rest", []).append(otherwise)

    # The end.

    def _calm(self) -> None:
        """All is well again; wait until everything that was to be done is done."""
        self.outcome.verdicts["it came to rest"] = []
        for _, what, then in self._later:
            if "update manual" not in what:
                then()
        self._later.clear()
        self.archive.fault, self.archive.seconds_ahead = None, 0.0
        self._set_clock(0)
        for target in self.targets:
            _take(target)
        self.say("all is well from here on")
        quiet = time.time()
        for process in self._commands:
            process.communicate(timeout=CALM)
        self._wait("it does not run", lambda: self.judge.whole)
        yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(1)
        first = FIRST_DATE
        if self._short:
            first = yesterday - dt.timedelta(LOOK_BACK - 1)
        else:
            self._wait("no scheduled update succeeded", lambda: self._updated(quiet))
        code, _, errors = self.tree.command(
            "backfill", "--start", str(first), "--end", str(yesterday)
        )
        if code:
            self.outcome.verdicts["it came to rest"].append(f"backfill: {errors[-300:]}")
        self._wait("`running` never said yes", lambda: self.judge.ask("running"))
        self._stop_schedules()
        self._wait("runs have not ended", lambda: not _unfinished(_records(self._home)))
        self._wait("alerts are still waiting", lambda: self._told_all())

    def _updated(self, since: float) -> bool:
        runs = [r.dagster_run for r in _records(self._home)
                if r.create_timestamp.timestamp() > since]  # fmt: skip
        return any(run.job_name == "late_arrivals" and run.is_success for run in runs)

    def _stop_schedules(self) -> None:
        """As in the UI under Automation: the last run is to end before all of it is stopped."""
        with _history(self._home) as instance:
            for state in instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE):
                instance.update_instigator_state(state.with_status(InstigatorStatus.STOPPED))

    def _told_all(self) -> bool:
        cursor = _cursor(self._home)
        if cursor is None or cursor["queue"]:
            return False
        if _unfinished(_records(self._home)):
            return False
        with _history(self._home) as instance:
            return all(after <= cursor["after"] for after in _last_events(instance))

    def _close(self) -> None:
        self.judge.ask("running")
        self.judge.stop()
        code, out, errors = self.tree.command("stop")
        self.say(f"stop: {out.strip()} {errors.strip()}")
        verdicts = self.outcome.verdicts
        verdicts["`stop` ended all of it"] = [] if code == 0 else [errors]
        left = {k: len(v) for k, v in self.tree.processes().items() if k in NEEDED_TO_END}
        verdicts["`stop` ended all of it"] += [f"left: {left}"] if left else []
        verdicts["running and status were never wrong"] = self.judge.wrong
        for words in (("running",), ("status", "--json")):
            code, out, errors = self.tree.command(*words)
            if (words[0] == "running" and code != 1) or (
                words[0] == "status" and json.loads(out)["daemon"]["running"]
            ):
                self.judge.wrong.append(f"{words[0]} said yes after `stop`: {out[:300]}")
        verdicts["one daemon at a time"] = ["two daemons"] * self.judge.doubled
        with _history(self._home) as instance:
            records = instance.get_run_records()
            self._close_runs(records)
            verdicts["each alert came once, in order"] = alerts_wrong(
                instance, self.targets, self._sender_killed
            )
        verdicts["the record is the archive"] = record_wrong(
            self._folder / "record.duckdb", self.archive
        )
        asked = ", ".join(f"{k} {n}" for k, n in sorted(self.judge.answers.items()))
        self.outcome.notes |= {
            "the record is the archive": f"{len(self.archive.files())} files, "
            f"{self.archive.requests} requests",
            "each alert came once, in order": " and ".join(
                f"{len(target.log)} of {target.asked} tries" for target in self.targets
            ),
            "running and status were never wrong": asked,
            "it came to rest": f"alive again by itself after {self.judge.longest:.0f} s at most",
        }

    def _close_runs(self, records: list[Any]) -> None:
        statuses = Counter(record.dagster_run.status.value for record in records)
        left = _unfinished(records)
        self.outcome.verdicts["no run is left unfinished"] = [f"{left}"] if left else []
        self.outcome.notes["no run is left unfinished"] = ", ".join(
            f"{n} {status}" for status, n in statuses.most_common()
        )


ACTIONS = {
    "kill": 6, "cancel": 2, "retry": 1, "update": 2, "clock_step": 2, "archive_clock_step": 1,
    "archive_fault": 4, "archive_change": 4, "target": 4,
}  # fmt: skip
"""What happens, with its weight."""

NEEDED_TO_END = (*LASTING, *SHORT, "orphaned code server")


def _take(target: Receiver) -> None:
    target.mode = "take"


def _all(tree: Tree) -> list[Any]:
    return [p for kind, found in tree.processes().items() if kind != "command" for p in found]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def _history(home: Path) -> Iterator[dg.DagsterInstance]:
    without_beta_warnings()
    os.environ["DAGSTER_HOME"] = str(home)
    with dg.DagsterInstance.get() as instance:
        yield instance


def _cursor(home: Path) -> dict[str, Any] | None:
    """What the alerts remember."""
    if not (home / "schedules" / "schedules.db").exists():
        return None
    with _history(home) as instance:
        for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
            cursor = getattr(state.instigator_data, "cursor", None)
            if state.name == "alert_sensor" and cursor:
                return dict(json.loads(cursor))
    return None


def _records(home: Path) -> list[Any]:
    with _history(home) as instance:
        return list(instance.get_run_records(limit=50))


def _unfinished(records: list[Any]) -> list[str]:
    runs = [record.dagster_run for record in records]
    return [f"{r.job_name} {r.run_id[:8]} {r.status.value}" for r in runs if not r.is_finished]


ENDS = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS)


def _last_events(instance: dg.DagsterInstance) -> list[int]:
    return [
        record.storage_id
        for kind in ENDS
        for record in instance.fetch_run_status_changes(kind, limit=1).records
    ]


def record_wrong(path: Path, archive: soak_archive.Archive) -> list[str]:
    """Where the record differs from the archive: files, statuses, dates that are torn."""
    wrong = []
    with connection.reader(path, 60) as con:
        rows = con.execute(
            "SELECT date, symbol, status, file_size_bytes, last_modified FROM daily_availability"
        ).fetchall()
        probed = dict(con.execute("SELECT period, probed_at FROM probes").fetchall())
    files = archive.files()
    symbols = {symbol for _, symbol, *_ in rows}
    wrong += [f"{s} is not recorded" for s in sorted({s for _, s in files} - symbols)]
    if len(rows) != len(probed) * len(symbols):
        wrong.append(f"{len(rows)} rows for {len(probed)} dates of {len(symbols)} symbols")
    wrong += [f"{key} is not recorded" for key in files if key[0] not in probed]
    for date, symbol, status, size, modified in rows:
        file = files.get((date, symbol))
        settled = dt.datetime.combine(date, dt.time(), dt.UTC) + dt.timedelta(SETTLE_DAYS + 1)
        expected = "available" if file else "absent" if probed[date] >= settled else "pending"
        same = file is None or (file.size, file.modified) == (size, modified)
        if status != expected or not same:
            wrong.append(f"{date} {symbol}: {status} {size} {modified}, truly {expected} {file}")
    return wrong


Told = tuple[str, str, str, int]
"""Name, failed or recovered, run id, number of failures."""


ON_ITS_WAY = 12.0
"""Seconds from a message's coming to its note in the journal, at most: the target is slow."""


def alerts_wrong(
    instance: dg.DagsterInstance, targets: list[Receiver], sender_killed: list[float]
) -> list[str]:
    """What is wrong with what the targets were told, beside Dagster's own history.

    A message may come again if the process that sends was killed before it could note the answer.
    """
    wrong: list[str] = []
    for number, target in enumerate(targets, 1):
        first_at: dict[tuple[str, str], float] = {}
        for one, at in zip(target.log, target.at, strict=True):
            text = one["title"], one["message"]
            first = first_at.setdefault(text, at)
            if at > first and not any(0 <= k - first < ON_ITS_WAY for k in sender_killed):
                wrong.append(f"target {number} was told twice: {text[0]}")
            first_at[text] = at
    first, *others = ([(m["title"], m["message"]) for m in t.log] for t in targets)
    wrong += [
        f"target {n} was told something else, or in another order, than target 1"
        for n, other in enumerate(others, 2)
        if list(dict.fromkeys(other)) != list(dict.fromkeys(first))
    ]
    told = [_told(*message) for message in dict.fromkeys(first)]
    statuses = {
        run.run_id: (job_label(run.job_name, tags=run.tags), run.status.value)
        for run in instance.get_runs()
    }
    ends = {
        record.event_log_entry.run_id: record.storage_id
        for kind in ENDS
        for record in instance.fetch_run_status_changes(
            dg.RunStatusChangeRecordsFilter(event_type=kind), limit=10_000
        ).records
    }
    for name in sorted({name for name, *_ in told}):
        ours = [one for one in told if one[0] == name]
        before = "recovered"
        for _, what, run, _ in ours:
            if what == before == "recovered":
                wrong.append(f"{name} recovered before it failed")
            good = "SUCCESS" if what == "recovered" or name.startswith("check ") else "FAILURE"
            if statuses.get(run, ("", ""))[1] != good and not name.startswith("check "):
                wrong.append(f"{name} {what} names run {run[:8]}, which is {statuses.get(run)}")
            before = what
    for job in sorted({job for job, _ in statuses.values()}):
        failed = sorted(
            ends[run] for run, (of, status) in statuses.items()
            if of == job and status == "FAILURE"
        )  # fmt: skip
        ours = [one for one in told if one[0] == job]
        closed = [one for one in ours if one[1] == "recovered"]
        until = ends.get(closed[-1][2], 0) if closed else 0
        counted, true = sum(n for *_, n in closed), sum(end < until for end in failed)
        if counted != true:
            wrong.append(f"{job} failed {true} times until it recovered, told were {counted}")
        if failed and failed[-1] > until and (not ours or ours[-1][1] != "failed"):
            wrong.append(f"{job} failed after its recovery, and nothing was told")
    return wrong


def _told(title: str, body: str) -> Told:
    lines = dict(line.split(": ", 1) for line in body.splitlines() if ": " in line)
    run = lines.get("Run", "")
    if found := re.fullmatch(r"(.+) recovered", title):
        return found[1], "recovered", run, int(re.search(r"after (\d+) fail", body)[1])  # type: ignore[index]
    if found := re.match(r"(.+?) failed(?: (\d+) times)?(?::|$)", title):
        return found[1], "failed", run, int(found[2] or 1)
    return title, "unknown", run, 0


def table(outcome: Outcome) -> list[Row]:
    """The closing table."""
    kinds: Counter[str] = Counter()
    for what, n in outcome.done.items():
        kinds[_kind(what)] += n
    rows = [
        Row(what, f"{n}", ", ".join(
            f"{k.removeprefix(what).strip(':, ') or 'done'} {m}"
            for k, m in sorted(outcome.done.items()) if _kind(k) == what
        ))
        for what, n in sorted(kinds.items())
    ]  # fmt: skip
    rows += [
        Row(what, f"{len(wrong)} wrong", outcome.notes.get(what, ""), "0 wrong", not wrong)
        for what, wrong in outcome.verdicts.items()
    ]
    return rows


def _kind(text: str) -> str:
    return text.partition(":")[0].partition(",")[0]


def main() -> None:
    """Soak and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--minutes", type=float, help="for how long things happen (60)")
    options.add_argument("--seed", type=int, default=1, help="of what happens")
    options.add_argument("--quick", action="store_true", help="a minute, and a short day")
    options.add_argument("--symbols", type=int, help=argparse.SUPPRESS)  # it has its own
    options.add_argument("--keep", type=Path, help="keep home and record in this new folder")
    arguments = options.parse_args()
    minutes = arguments.minutes or (0.75 if arguments.quick else 60)
    with _folder(arguments.keep) as folder:
        outcome = Soak(folder, arguments.seed, minutes, short=arguments.quick).run()
    title = f"Soak: {minutes:g} minutes, seed {arguments.seed}"
    show(title, table(outcome), quick=arguments.quick)
    for what, wrong in outcome.verdicts.items():
        for one in wrong[:20]:
            print(f"{what}: {one}")
    if any(outcome.verdicts.values()):
        raise SystemExit(1)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep:
        keep.mkdir(parents=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        yield Path(name).resolve()


if __name__ == "__main__":
    main()
