"""400 days with a changing archive: does the record end up right, and did it ever cry wolf?

    python -m benchmarks.simulation

Every tick of every schedule is evaluated at its own time, and what it asks for is listed through
the real client, written by the real store into a real file, and judged by the real checks. Beside
it runs a model: a plain dictionary of what was last seen, with the same looks. Failures are real
too: a page answers 503, is cut off, the connection breaks, the archive lists nothing or a tenth,
the clock goes back, the daemon is down for four days. The test of the same name asserts what this
command prints.
"""

import argparse
import contextlib
import datetime as dt
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from availability_pipeline import queries, settings
from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.archive.listing import ArchiveError
from availability_pipeline.errors import RefusedProbeError
from availability_pipeline.orchestration import schedules
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.partitions import range_tags
from availability_pipeline.orchestration.resources import AvailabilityDuckDB
from availability_pipeline.quality import checks, rules
from availability_pipeline.record import write
from availability_pipeline.record.connection import writer
from benchmarks import life as script
from benchmarks.common import Row, show
from benchmarks.life import DAY, Life, at
from benchmarks.living_archive import Fault, File, LivingArchive

DOWN = range(200, 204)
"""Days on which the daemon is down: no tick happens, and none is made up afterwards."""

SHRUNKEN: dict[tuple[int, int], Fault] = {(280, 9): "nothing", (281, 15): "a tenth"}
CLOCK_BACK = (320, 15)
FAILING = 0.04
"""Share of the runs in which one answer fails."""

SETTLED_AFTER = 4 * DAY  # the date itself and AVAILABILITY_SETTLE_DAYS = 3

Revision = tuple[dt.date, str, str, int | None, int | None]


def _stem(symbol: str) -> str:
    while symbol.endswith("SETTLED"):
        symbol = symbol.removesuffix("SETTLED").removesuffix("_")
    return symbol


@dataclass
class Model:
    """What a record that is right must hold, kept the simple way."""

    seen: dict[tuple[dt.date, str], File] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    probed: dict[dt.date, dt.datetime] = field(default_factory=dict)
    first: dict[dt.date, dt.datetime] = field(default_factory=dict)
    revisions: list[Revision] = field(default_factory=list)

    def look(
        self, start: dt.date, end: dt.date, files: dict[str, dict[dt.date, File]], now: dt.datetime
    ) -> None:
        """One whole probe of all dates from `start` to `end`.

        And of all dates probed so far for the symbols that are new, and their settlings.
        """
        stems = {_stem(symbol) for symbol in files if symbol not in self.known}

        def looked(date: dt.date, symbol: str) -> bool:
            return start <= date <= end or (date in self.probed and _stem(symbol) in stems)

        there = {
            (date, symbol): file
            for symbol, dates in files.items()
            for date, file in dates.items()
            if looked(date, symbol)
        }
        before = {key: file for key, file in self.seen.items() if looked(*key)}
        self.known.update(files)
        for key in sorted(there.keys() | before.keys()):
            old, new = before.get(key), there.get(key)
            if key[0] in self.probed and old != new:
                change = "appeared" if old is None else "vanished" if new is None else "replaced"
                if old and new and old.size == new.size:  # the living archive's content is its size
                    change = "touched"
                self.revisions.append((*key, change, old and old.size, new and new.size))
        self.seen = {k: f for k, f in self.seen.items() if k not in before} | there
        for n in range((end - start).days + 1):
            self.probed[start + n * DAY] = now
            self.first.setdefault(start + n * DAY, now)


@dataclass(frozen=True)
class Judgement:
    """What a check said at a time (breached or not), beside what was true then."""

    check: str
    at: dt.datetime
    said: bool
    true: bool
    sample: tuple[str, ...]


@dataclass
class Outcome:
    """What became of the life.

    Attributes:
        record, archive: (date, symbol) -> file, as recorded and as it really is, at the end.
        revisions, expected: what the record remembers to have changed, and what the model does.
        renames, news: rows of `queries.renames` and `queries.changes`.
        runs: what happened -> how often.
        judgements: every check each time it was asked.
        warned: check -> times it warned.
        requests, heads: LIST requests made, and HEADs that the same looks would have cost.
        failed, left_alone: runs that failed, and those of them after which every row was as before.
    """

    life: Life
    record: dict[tuple[dt.date, str], File] = field(default_factory=dict)
    archive: dict[tuple[dt.date, str], File] = field(default_factory=dict)
    revisions: list[Revision] = field(default_factory=list)
    expected: list[Revision] = field(default_factory=list)
    renames: list[dict[str, Any]] = field(default_factory=list)
    news: list[dict[str, Any]] = field(default_factory=list)
    runs: Counter[str] = field(default_factory=Counter)
    judgements: list[Judgement] = field(default_factory=list)
    warned: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    heads: int = 0
    failed: int = 0
    left_alone: int = 0

    def wrong(self) -> list[Judgement]:
        """Breaches that were not real, and real ones that were not caught."""
        return [j for j in self.judgements if j.said != j.true]


class Clock:
    """The life's time; what Dagster's resource of the same name is asked."""

    def __init__(self) -> None:
        self.time = at(0)

    def now(self) -> dt.datetime:
        """The time in the life."""
        return self.time


PROBING = ("daily_update_schedule", "late_arrivals_schedule", "full_reconcile_schedule")


def ticks(day: int) -> Iterator[tuple[dt.datetime, dg.ScheduleDefinition]]:
    """The day's ticks of the probes and the checks, in order, read off their cron lines."""
    found = []
    for schedule in schedules.schedules(settings.load()):
        if schedule.name not in (*PROBING, "slo_schedule"):
            continue
        minute, hours, _, _, weekdays = str(schedule.cron_schedule).split()
        for hour in hours.split(","):
            time = at(day, int(hour), int(minute))
            if weekdays in ("*", str(time.isoweekday() % 7)):
                found.append((time, schedule))
    return iter(sorted(found, key=lambda tick: tick[0]))


class Simulation:
    """One life, one record, one model.

    Args:
        folder: where the record's file is made.
        seed: of the life and of everything that goes wrong.
        days: how many to live.
        through_dagster: each so many-th run goes through Dagster's own job; 0: none.
    """

    def __init__(self, folder: Path, seed: int, days: int, through_dagster: int) -> None:
        self.life = script.script(seed, days)
        self.world = LivingArchive(self.life.events)
        self.s3 = self.world.archive()
        self.clock, self.model = Clock(), Model()
        self.path = folder / "record.duckdb"
        self.settings = settings.Settings(db=str(self.path))
        self.rng = random.Random(seed + 1)
        self.days, self.every = days, through_dagster
        self.scheduled: list[rules.UpdateRun] = []
        self.outcome = Outcome(self.life)
        # Opening and closing the file is a third of the time of so small a write.
        self._open = contextlib.ExitStack()
        self._con: duckdb.DuckDBPyConnection | None = None
        self._repository = build_defs().get_repository_def()

    def live(self) -> Outcome:
        """Every day, then one last look at everything."""
        with dg.DagsterInstance.ephemeral() as self._instance, self._open:
            self.at(at(0, 1))
            self.run("backfill", FIRST_DATE, script.START - DAY)
            for day in range(self.days):
                if day in DOWN:
                    missed = [s for _, s in ticks(day) if s.name in PROBING]
                    self.outcome.runs["missed while the daemon was down"] += len(missed)
                    continue
                if day - 1 in DOWN:
                    self.at(at(day, 0, 30))
                    self.judge()
                for time, schedule in ticks(day):
                    self.at(time)
                    self.tick(day, schedule)
            self.at(at(self.days, 12))
            self.run("reconcile", FIRST_DATE, script.START + (self.days - 1) * DAY)
            self._read_the_end()
        return self.outcome

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        """The record, open for writing."""
        if self._con is None:
            self._con = self._open.enter_context(writer(self.path))
        return self._con

    def at(self, time: dt.datetime) -> None:
        """Let time pass."""
        self.clock.time = time
        self.world.advance(time)

    def tick(self, day: int, schedule: dg.ScheduleDefinition) -> None:
        """What one tick of a schedule asks for, with whatever goes wrong just then."""
        if schedule.name == "slo_schedule":
            self.judge()
            return
        context = dg.build_schedule_context(
            scheduled_execution_time=self.clock.time, repository_def=self._repository
        )
        [request] = schedule.evaluate_tick(context).run_requests or ()
        first = request.partition_key or request.tags["dagster/asset_partition_range_start"]
        last = request.partition_key or request.tags["dagster/asset_partition_range_end"]
        time, hour = self.clock.time, self.clock.time.hour
        fault: Fault | None = SHRUNKEN.get((day, hour))
        after = 0
        if fault is None and self.rng.random() < FAILING:
            fault = self.rng.choice(("503 on a page", "connection lost", "page cut off"))
            after = self.rng.randrange(len(self.world.files))
        self.world.strike(fault, after)
        if (day, hour) == CLOCK_BACK:
            self.clock.time -= DAY
        done = self.run(schedule.name, dt.date.fromisoformat(first), dt.date.fromisoformat(last))
        run_id = str(len(self.scheduled))
        self.scheduled.append(rules.UpdateRun(run_id, schedule.name, time, done))
        self.clock.time = time
        self.world.strike(None)
        if schedule.name == "daily_update_schedule":
            self.at(time + dt.timedelta(minutes=35))
            self.judge(standing=("continuity",))

    def run(self, what: str, start: dt.date, end: dt.date) -> bool:
        """One look; whether it succeeded. A failed one must leave every stored row alone."""
        before = self._fingerprint() if self.world.fault or self.clock.time < self.world.now else ()
        self.outcome.requests -= self.world.requests
        number = sum(self.outcome.runs.values())
        if self.every and number % self.every == 1 and (end - start).days < 60:
            done = self._through_dagster(start, end)
        else:
            done = self._directly(what, start, end)
        self.outcome.requests += self.world.requests
        if done:
            self.outcome.runs["succeeded"] += 1
            self.outcome.heads += len(self.world.files) * ((end - start).days + 1)
            self.model.look(start, end, self.world.files, self.clock.time)
        else:
            self.outcome.failed += 1
            self.outcome.left_alone += before == self._fingerprint()
        return done

    def _directly(self, what: str, start: dt.date, end: dt.date) -> bool:
        try:
            listing = self.s3.list_range(start, end, recorded=write.recorded(self.con))
            write.write_probe(
                self.con, listing, probed_at=self.clock.time, run_id=what, max_clock_skew_minutes=60
            )
        except ArchiveError as error:
            self.outcome.runs[f"failed: {type(error).__name__.removesuffix('Error')}"] += 1
            return False
        except RefusedProbeError as error:
            self.outcome.runs[f"refused: {type(error).__name__.removesuffix('Error')}"] += 1
            return False
        return True

    def _through_dagster(self, start: dt.date, end: dt.date) -> bool:
        self._open.close()  # the run opens the file itself
        self._con = None
        defs = build_defs(
            resources={
                "archive": self.s3,
                "clock": self.clock,
                "duckdb": AvailabilityDuckDB(database=str(self.path)),
            }
        )
        result = defs.resolve_job_def("late_arrivals").execute_in_process(
            instance=self._instance,
            tags=range_tags(start, end),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )
        self.outcome.runs["through Dagster's own job"] += 1
        return result.success

    def judge(self, standing: Sequence[str] = tuple(checks.ALL)) -> None:
        """What each check says now, beside what is true now."""
        now = self.clock.time
        due = rules.due_date(now, self.settings.slo_freshness_minutes)
        verdicts = {name: checks.ALL[name](self.con, now, self.settings) for name in standing}
        verdicts["freshness"] = rules.freshness(
            self.model.first.get(due), now, self.settings.slo_freshness_minutes
        )
        verdicts["update_success_rate"] = rules.update_success_rate(
            self.scheduled, now, self.settings.slo_success_rate
        )
        true = {
            "continuity": self._is_torn(due),
            "completeness_slo": self._is_short(),
            "freshness": due not in self.model.probed,
            "update_success_rate": self._fails_often(now),
        }
        for name, verdict in verdicts.items():
            self.outcome.warned[name] += not verdict.passed and not verdict.breached
            self.outcome.judgements.append(
                Judgement(name, now, verdict.breached, true.get(name, False), verdict.sample)
            )

    def _is_torn(self, due: dt.date) -> bool:
        span = (due - FIRST_DATE).days + 1
        return any(FIRST_DATE + n * DAY not in self.model.probed for n in range(span))

    def _is_short(self) -> bool:
        """Whether a settled date really lacks more than 5 % of what was listed on it."""
        there = Counter(date for date, _ in self.model.seen)
        for date, looked in self.model.probed.items():
            if looked >= dt.datetime.combine(date, dt.time(), dt.UTC) + SETTLED_AFTER:
                listed = len(self.life.listed_on(date))
                if listed and there[date] < self.settings.slo_completeness * listed:
                    return True
        return False

    def _fails_often(self, now: dt.datetime) -> bool:
        recent = [bool(r.succeeded) for r in self.scheduled if r.launched_at >= now - 30 * DAY]
        enough = len(recent) >= rules.MIN_RUNS
        return enough and sum(recent) < self.settings.slo_success_rate * len(recent)

    def _fingerprint(self) -> tuple[Any, ...]:
        """All rows, looks and revisions in a few numbers."""
        [found] = self.con.execute(
            """SELECT (SELECT (count(*), bit_xor(hash(f))) FROM files f),
                (SELECT (count(*), bit_xor(hash(p))) FROM probes p),
                (SELECT (count(*), bit_xor(hash(r))) FROM revisions r)"""
        ).fetchall()
        return found

    def _read_the_end(self) -> None:
        done = self.outcome
        done.record = {
            (date, symbol): File(size, time)
            for date, symbol, size, time in self.con.execute(
                "SELECT period, symbol, file_size_bytes, last_modified FROM files"
            ).fetchall()
        }
        done.archive = {
            (date, symbol): file
            for symbol, files in self.world.files.items()
            for date, file in files.items()
        }
        done.revisions = self.con.execute(
            "SELECT period, symbol, change, old_size, new_size FROM revisions"
        ).fetchall()
        done.expected = self.model.revisions
        done.renames = queries.renames(self.con).dicts()
        done.news = queries.changes(self.con).dicts()


def table(outcome: Outcome) -> list[Row]:
    """The closing table."""
    changes = Counter(change for _, _, change, _, _ in outcome.revisions)
    same = Counter(outcome.revisions) == Counter(outcome.expected)
    rows = [
        Row("runs", f"{outcome.runs['succeeded']:,} succeeded, {outcome.failed} failed or refused",
            ", ".join(f"{n} {what}" for what, n in sorted(outcome.runs.items())
                      if what != "succeeded")),
        Row("failed runs that left every row alone", f"{outcome.left_alone}", "failed runs",
            f"{outcome.failed}", outcome.left_alone == outcome.failed),
        Row("the record at the end", f"{len(outcome.record):,} files",
            "file by file with size and time", f"the archive's {len(outcome.archive):,}",
            outcome.record == outcome.archive),
        Row("revisions", f"{len(outcome.revisions):,}",
            ", ".join(f"{n:,} {what}" for what, n in sorted(changes.items())),
            f"the model's {len(outcome.expected):,}, each once", same),
        Row("renames as one event", f"{len(outcome.renames)}",
            ", ".join(f"{r['files']} files {r['symbol']} to {r['renamed_to']}"
                      for r in outcome.renames), "1", len(outcome.renames) == 1),
    ]  # fmt: skip
    for check in sorted({j.check for j in outcome.judgements}):
        asked = [j for j in outcome.judgements if j.check == check]
        said, true = sum(j.said for j in asked), sum(j.true for j in asked)
        wrong = sum(j.said != j.true for j in asked)
        rows.append(
            Row(f"check {check}", f"breached {said} of {len(asked)} times",
                f"truly {true}; warned {outcome.warned[check]}", "0 wrong", wrong == 0)
        )  # fmt: skip
    ratio = outcome.heads / outcome.requests
    rows.append(
        Row("LIST requests", f"{outcome.requests:,}", f"HEAD requests: {outcome.heads:,}",
            "", None if ratio > 1 else False)
    )  # fmt: skip
    return rows


def main() -> None:
    """Live and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="45 days instead of 400")
    options.add_argument("--symbols", type=int, help=argparse.SUPPRESS)  # the life has its own
    options.add_argument("--seed", type=int, default=7)
    arguments = options.parse_args()
    days = 45 if arguments.quick else script.DAYS
    with tempfile.TemporaryDirectory() as folder:
        outcome = Simulation(Path(folder), arguments.seed, days, through_dagster=97).live()
    show(f"{days} days from {script.START}", table(outcome), quick=arguments.quick)
    for judgement in outcome.wrong()[:20]:
        print(judgement)


if __name__ == "__main__":
    main()
