"""400 days with a changing archive: does the record end up right, and did it ever cry wolf?

    python -m benchmarks.simulation

Three datasets of different kinds live in it: daily files of an interval, daily ones of another
market, monthly ones. Every tick of every schedule is evaluated at its own time, and what it asks
for is listed through the real client, written by the real store into a real file, and judged by the
real checks. Beside it runs a model: a plain dictionary of what was last seen, with the same probes.
Failures are real too: a page answers 503, is cut off, the connection breaks, the archive lists
nothing or a tenth, the clock goes back, the daemon is down for four days. Each day's answers are
kept and asked again at the end, as of the moment when they were given. The test of the same name
asserts what this command prints of a life of 40 days (`--short`).
"""

import argparse
import contextlib
import datetime as dt
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import duckdb

from availability_pipeline import queries, settings
from availability_pipeline.archive.datasets import CATALOGUE, Dataset
from availability_pipeline.archive.listing import (
    ArchiveError,
    Listing,
    NotInArchiveError,
    S3Archive,
)
from availability_pipeline.errors import RefusedProbeError
from availability_pipeline.orchestration import schedules
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.partitions import (
    KINDS_TAG,
    PARTITION_NAME_TAG,
    Kind,
    span_of,
)
from availability_pipeline.orchestration.resources import AvailabilityDuckDB
from availability_pipeline.orchestration.runs import UPDATE_SCHEDULES
from availability_pipeline.quality import checks, rules
from availability_pipeline.quality.rules import Subject
from availability_pipeline.record import derived, write
from availability_pipeline.record.connection import writer
from availability_pipeline.record.status import scope
from benchmarks import life as script
from benchmarks.common import Row, show
from benchmarks.life import DATASETS, DAY, LONG, SHORT, START, Life, Plan, at
from benchmarks.living_archive import LivingArchive, listed
from benchmarks.living_model import Cell, Model, Revision

FAILING, FAILING_IN_TROUBLE = 0.04, 0.4
"""Share of the runs in which one answer fails."""

ALL = "all datasets"
"""What `update_success_rate` is about."""


@dataclass(frozen=True)
class Judgement:
    """What a check said of a dataset at a time (breached or not), beside what was true then."""

    check: str
    dataset: str
    at: dt.datetime
    said: bool
    true: bool
    sample: tuple[str, ...]


@dataclass(frozen=True)
class Kept:
    """What was answered of a dataset at a moment."""

    dataset: Dataset
    at: dt.datetime
    answers: Mapping[str, Any]


Listed = dict[Cell, tuple[int, dt.datetime, str]]
"""(period, symbol) -> size, time and ETag."""


@dataclass
class Found:
    """What became of one dataset.

    Attributes:
        record, archive: the files as recorded and as they really are, at the end.
        revisions, expected: what the record remembers to have changed, and what the model does.
        holes, true_holes: as recorded, and the model's.
        renames, news: rows of `queries.renames` and `queries.changes`.
        cells, wrong_cells: cells whose status was compared with the model's, and those that differ.
        asked, wrong: answers asked for again as of their moment, and those that differ.
        left_out: the symbols that were left out by some run, and the number of those runs.
        too_early: those that had not ended when they were left out.
    """

    life: Life
    record: Listed = field(default_factory=dict)
    archive: Listed = field(default_factory=dict)
    revisions: list[Revision] = field(default_factory=list)
    expected: list[Revision] = field(default_factory=list)
    holes: set[Cell] = field(default_factory=set)
    true_holes: set[Cell] = field(default_factory=set)
    renames: list[dict[str, Any]] = field(default_factory=list)
    news: list[dict[str, Any]] = field(default_factory=list)
    cells: int = 0
    wrong_cells: list[tuple[dt.datetime, Cell, str | None, str | None]] = field(
        default_factory=list
    )
    asked: int = 0
    wrong: list[str] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)
    light: int = 0
    too_early: set[str] = field(default_factory=set)


@dataclass
class Outcome:
    """What became of the life.

    Attributes:
        found: dataset -> what became of it.
        down: days on which the daemon was down.
        runs: what happened -> how often.
        judgements: every check of each dataset, each time it was asked.
        warned: (check, dataset) -> times it warned.
        requests, heads: LIST requests made, and HEADs that the same probes would have cost.
        failed, left_alone: runs that failed, and those of them after which every row was as before.
    """

    found: dict[str, Found] = field(default_factory=dict)
    down: range = range(0)
    runs: Counter[str] = field(default_factory=Counter)
    judgements: list[Judgement] = field(default_factory=list)
    warned: Counter[tuple[str, str]] = field(default_factory=Counter)
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


class Witness:
    """The archive; remembers who was left out of the last listing."""

    def __init__(self, archive: S3Archive) -> None:
        self._archive, self.left_out = archive, frozenset[str]()
        self.folders = archive.folders

    def list_range(self, *args: Any, **options: Any) -> Listing:
        """As `S3Archive.list_range`."""
        found = self._archive.list_range(*args, **options)
        self.left_out = found.left_out
        return found


@dataclass
class Part:
    """One dataset: what happens to it, its archive, its model, what became of it."""

    life: Life
    world: LivingArchive
    model: Model
    found: Found

    @property
    def dataset(self) -> Dataset:
        """Which."""
        return self.life.dataset

    @property
    def first_period(self) -> dt.date:
        """The first that can have a file."""
        return self.dataset.period_of(CATALOGUE[self.dataset.kind].first)


@dataclass(frozen=True, slots=True)
class Asked:
    """A probe that is due: of which dataset, which periods, with or without those that ended.

    `request` is what the schedule's tick asks Dagster for; None of one made by hand.
    """

    part: Part
    start: dt.date
    end: dt.date
    ended_too: bool = True
    request: dg.RunRequest | None = None
    job: str = ""


def ticks(day: int, configured: settings.Settings, plan: Plan) -> Iterator[tuple[dt.datetime, Any]]:
    """The day's ticks of the probes and the checks, in order, read off their cron lines."""
    found = []
    for schedule in schedules.schedules(configured):
        if schedule.name not in (*UPDATE_SCHEDULES, "slo_schedule"):
            continue
        minute, hours, dates, _, weekdays = str(schedule.cron_schedule).split()
        first, _, last = dates.partition("-")
        for hour in hours.split(","):
            time = at(day, int(hour), int(minute))
            if schedule.name == "late_arrivals_schedule" and time.hour not in plan.late_arrivals:
                continue
            on_date = dates == "*" or int(first) <= time.day <= int(last or first)
            if on_date and weekdays in ("*", str(time.isoweekday() % 7)):
                found.append((time, schedule))
    return iter(sorted(found, key=lambda tick: tick[0]))


class Simulation:
    """One life, one record, a model of each dataset.

    Args:
        folder: where the record's file is made.
        seed: of the life and of everything that goes wrong.
        plan: of the life.
        through_dagster: each so many-th run goes through Dagster's own job; 0: none.
        keep_every: each so many-th day the answers about a dataset are kept.
        turns: so many of these days go by until all questions were asked.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        plan: Plan = LONG,
        through_dagster: int = 97,
        keep_every: int = 1,
        turns: int = 1,
    ) -> None:
        self.path = folder / "record.duckdb"
        names = ",".join(map(str, DATASETS))
        self.settings = settings.Settings(db=str(self.path), datasets=names)
        self.parts: dict[str, Part] = {}
        self.outcome = Outcome()
        for dataset in DATASETS:
            life = script.script(seed, dataset, plan)
            found = self.outcome.found[str(dataset)] = Found(life)
            world = LivingArchive(life.events, dataset=dataset)
            model = Model(dataset, self.settings.settle_days)
            self.parts[str(Kind((dataset,)))] = Part(life, world, model, found)
        self.archive = Witness(listed([part.world for part in self.parts.values()]))
        self.clock = Clock()
        self.rng = random.Random(seed + 1)
        self.plan, self.every = plan, through_dagster
        self.keep_every, self.turns = keep_every, turns
        self.scheduled: list[rules.UpdateRun] = []
        down, days = plan.down
        self.outcome.down = range(down, down + days)
        self.kept: list[Kept] = []
        # Opening and closing the file is a third of the time of so small a write.
        self._open = contextlib.ExitStack()
        self._con: duckdb.DuckDBPyConnection | None = None

    def live(self) -> Outcome:
        """Every day, then one last probe of everything."""
        environment = {"AVAILABILITY_DATASETS": self.settings.datasets}
        with (
            mock.patch.dict(os.environ, environment),
            dg.DagsterInstance.ephemeral() as self._instance,
            self._open,
        ):
            self._repository = build_defs().get_repository_def()
            self.at(at(0, 1))
            self.probe_everything(START - DAY)
            for day in range(self.plan.days):
                if day in self.outcome.down:
                    missed = [
                        s
                        for _, s in ticks(day, self.settings, self.plan)
                        if s.name in UPDATE_SCHEDULES
                    ]
                    self.outcome.runs["missed while the daemon was down"] += len(missed)
                    continue
                if day - 1 in self.outcome.down:
                    self.at(at(day, 0, 30))
                    self.judge()
                today = [*ticks(day, self.settings, self.plan)]
                noon = sum(time.hour < 12 for time, _ in today)
                for tick in today[:noon]:
                    self.tick(day, *tick)
                self.at(at(day, 12))
                self.keep(day)
                for tick in today[noon:]:
                    self.tick(day, *tick)
            self.at(at(self.plan.days, 12))
            self.compare_statuses()
            self.probe_everything(START + (self.plan.days - 1) * DAY)
            self.compare_statuses()
            self._read_the_end()
            self._ask_again()
        return self.outcome

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        """The record, open for writing."""
        if self._con is None:
            self._con = self._open.enter_context(writer(self.path))
            # So small a record has no work for two, and waiting for each other took half the time.
            self._con.execute("SET threads = 1")
        return self._con

    def at(self, time: dt.datetime) -> None:
        """Let time pass."""
        self.clock.time = time
        for part in self.parts.values():
            part.world.advance(time)

    def probe_everything(self, until: dt.date) -> None:
        """All periods of every dataset that are over by a date."""
        for part in self.parts.values():
            span = Kind((part.dataset,)).within(part.first_period, until)
            assert span
            self.run(Asked(part, *span))

    # What the schedules do

    def tick(self, day: int, time: dt.datetime, schedule: dg.ScheduleDefinition) -> None:
        """What one tick of a schedule asks for, with whatever goes wrong just then."""
        self.at(time)
        if schedule.name == "slo_schedule":
            self.judge()
            return
        context = dg.build_schedule_context(
            scheduled_execution_time=time, repository_def=self._repository
        )
        for request in schedule.evaluate_tick(context).run_requests or ():
            asked = self.asked(request, schedule.job_name)
            world = asked.part.world
            fault = self.plan.strikes.get((day, time.hour))
            after, chance = 0, self.rng.random()
            trouble = 0 <= day - self.plan.trouble[0] < self.plan.trouble[1]
            if fault is None and chance < (FAILING_IN_TROUBLE if trouble else FAILING):
                fault = self.rng.choice(("503 on a page", "connection lost", "page cut off"))
                after = self.rng.randrange(len(world.files))
            world.strike(fault, after)
            if (day, time.hour) == self.plan.clock_back:
                self.clock.time -= DAY
            done = self.run(asked)
            run_id = str(len(self.scheduled))
            self.scheduled.append(rules.UpdateRun(run_id, schedule.name, time, done))
            self.clock.time = time
            world.strike(None)
        if schedule.name == "daily_update_schedule":
            self.at(time + dt.timedelta(minutes=35))
            self.judge(standing=("continuity",))

    def asked(self, request: dg.RunRequest, job: str) -> Asked:
        """What the request of a tick means."""
        part, span = self.parts[request.tags[KINDS_TAG]], span_of(request.tags)
        if request.partition_key:
            span = span_of({PARTITION_NAME_TAG: request.partition_key})
        assert span
        [op] = request.run_config["ops"].values()
        return Asked(part, *span, op["config"]["ended_too"], request, job)

    def run(self, asked: Asked) -> bool:
        """One probe; whether it succeeded. A failed one must leave every stored row alone."""
        part, outcome = asked.part, self.outcome
        world = part.world
        before = self._fingerprint() if world.fault or self.clock.time < world.now else ()
        outcome.requests -= world.requests
        number = outcome.runs["succeeded"] + outcome.failed
        span = part.dataset.periods(asked.start, asked.end)
        self.archive.left_out = frozenset()
        # A first reconcile would report thousands of periods that Dagster does not know here.
        in_turn = self.every and number % self.every == 1 and asked.job != "full_reconcile"
        if in_turn and asked.request:
            done = self._through_dagster(asked.request, asked.job)
        else:
            done = self._directly(asked)
        outcome.requests += world.requests
        if done:
            outcome.runs["succeeded"] += 1
            outcome.heads += len(world.files) * len(span)
            self._leave_out(part)
            part.model.look(
                asked.start, asked.end, world.files, self.clock.time, self.archive.left_out
            )
        else:
            outcome.failed += 1
            outcome.left_alone += before == self._fingerprint()
        return done

    def _leave_out(self, part: Part) -> None:
        """Those that were left out had published nothing for a month, and really had ended."""
        found, out = part.found, self.archive.left_out
        newest = max((p for p in part.model.probed if part.model.settled(p)), default=dt.date.min)
        found.left_out |= out
        found.light += bool(out)
        found.too_early |= {
            symbol
            for symbol in out
            if symbol not in part.life.ended
            or max(part.model.files[symbol]) >= newest - derived.LEFT_OUT_AFTER_DAYS * DAY
        }

    def _directly(self, asked: Asked) -> bool:
        """As `write.update` does, but that the file stays open."""
        con, dataset = self.con, asked.part.dataset
        without = frozenset() if asked.ended_too else derived.ended(con, dataset)
        try:
            listing = self.archive.list_range(
                asked.start, asked.end, recorded=write.recorded(con, dataset, without),
                dataset=dataset, leave_out=without,
            )  # fmt: skip
            if not listing.in_archive:
                raise NotInArchiveError(str(dataset))
            write.write_probe(
                con, listing, probed_at=self.clock.time, run_id=str(self.clock.time),
                max_clock_skew_minutes=60, settle_days=self.settings.settle_days,
            )  # fmt: skip
        except ArchiveError as error:
            self.outcome.runs[f"failed: {type(error).__name__.removesuffix('Error')}"] += 1
            return False
        except RefusedProbeError as error:
            self.outcome.runs[f"refused: {type(error).__name__.removesuffix('Error')}"] += 1
            return False
        return True

    def _through_dagster(self, request: dg.RunRequest, job: str) -> bool:
        self._open.close()  # the run opens the file itself
        self._con = None
        defs = build_defs(
            resources={
                "archive": self.archive,
                "clock": self.clock,
                "duckdb": AvailabilityDuckDB(database=str(self.path)),
            }
        )
        found = (
            defs.resolve_implicit_global_asset_job_def()
            if job == schedules.ASSET_JOB
            else defs.resolve_job_def(job)
        )
        result = found.execute_in_process(
            instance=self._instance,
            tags=dict(request.tags),
            run_config={
                **request.run_config,
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            asset_selection=request.asset_selection,
            raise_on_error=False,
        )
        self.outcome.runs["through Dagster's own jobs"] += 1
        return result.success

    # What the checks say

    def judge(self, standing: Sequence[str] = tuple(checks.ALL)) -> None:
        """What each check says now of each dataset, beside what is true now."""
        now, minutes = self.clock.time, self.settings.slo_freshness_minutes
        for name in standing:
            verdict = checks.ALL[name](self.con, now, self.settings)
            for part in self.parts.values():
                dataset = str(part.dataset)
                sample = tuple(
                    text.removeprefix(f"{dataset} ")
                    for text in verdict.sample
                    if text.startswith(dataset)
                )
                true = TRUE[name](self, part, now) if name in TRUE else False
                self._note(name, dataset, verdict.datasets[dataset], true=true, sample=sample)
        for part in self.parts.values():
            due = rules.due_period(part.dataset, now, minutes)
            fresh = rules.freshness(
                part.model.first.get(due), now, minutes, Subject(part.dataset, named=True)
            )
            missing = due not in part.model.probed
            self._note("freshness", str(part.dataset), fresh.outcome, true=missing)
        rate = rules.update_success_rate(self.scheduled, now, self.settings.slo_success_rate)
        self._note("update_success_rate", ALL, rate.outcome, true=self._fails_often(now))

    def _note(
        self, check: str, dataset: str, outcome: rules.Outcome, *, true: bool,
        sample: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.outcome.warned[check, dataset] += outcome == "warn"
        self.outcome.judgements.append(
            Judgement(check, dataset, self.clock.time, outcome == "breach", true, sample)
        )

    def is_torn(self, part: Part, now: dt.datetime) -> bool:
        """Whether a period that was due was never probed."""
        due = rules.due_period(part.dataset, now, self.settings.slo_freshness_minutes)
        return not part.model.probed.keys() >= set(part.dataset.periods(part.first_period, due))

    def is_short(self, part: Part, _now: dt.datetime) -> bool:
        """Whether a settled period surely lacks more than 5 % of what was listed in it.

        Surely: half of it is missing, or two files are of symbols with a later file, or with none
        in three published periods since.
        """
        model, life, needed = part.model, part.life, self.settings.slo_completeness

        def due(period: dt.date) -> set[str]:
            """Those listed then, as far as the record can know of it.

            Of a symbol that is left out nobody knows that it returned until it is listed again;
            then its absence is a hole. One whose last file was taken away ended before that.
            """
            found = set(life.listed_on(period))
            for symbol in life.ended:
                seen = model.files.get(symbol) or [dt.date.max]
                taken = (symbol, period) in life.taken and period not in seen
                if period > max(seen) and (taken or symbol in model.left):
                    found.discard(symbol)
                if symbol == script.RETURNING and min(seen) < period < max(seen):
                    found.add(symbol)
            return found

        short, published = [], []
        for period in sorted(model.probed, reverse=True):
            if model.settled(period) and (listed := len(life.listed_on(period))):
                if model.there[period] >= listed / 2 and len(published) < 3:
                    published.append(period)
                if model.there[period] < needed * (listed + 1):
                    short.append(period)
        before = published[-1] if len(published) == 3 else dt.date.min
        for period in short:
            expected, there = due(period), model.there[period]
            gone = [s for s in expected if period not in model.files.get(s, ())]
            last = [max(files) for s in gone if (files := model.files.get(s))]
            sure = sum(date > period or date < before for date in last)
            if len(gone) >= 2 and there < len(expected) / 2:
                return True
            if sure >= 2 and there < needed * len(expected) and there < needed * (there + sure):
                return True
        return False

    def has_many_holes(self, part: Part, _now: dt.datetime) -> bool:
        """Whether more of the periods between first and last files are holes than may be."""
        holes = len(part.model.holes())
        files = sum(map(len, part.model.files.values()))
        return holes > self.settings.slo_hole_share * (files + holes)

    def _fails_often(self, now: dt.datetime) -> bool:
        recent = [bool(r.succeeded) for r in self.scheduled if r.launched_at >= now - 30 * DAY]
        enough = len(recent) >= rules.MIN_RUNS
        return enough and sum(recent) < self.settings.slo_success_rate * len(recent)

    def _fingerprint(self) -> tuple[Any, ...]:
        """All rows, probes and revisions in a few numbers."""
        [found] = self.con.execute(
            """SELECT (SELECT (count(*), bit_xor(hash(f))) FROM files f),
                (SELECT (count(*), bit_xor(hash(p))) FROM probes p),
                (SELECT (count(*), bit_xor(hash(s))) FROM symbols s),
                (SELECT (count(*), bit_xor(hash(r))) FROM revisions r)"""
        ).fetchall()
        return found

    # What was answered

    def keep(self, day: int) -> None:
        """Keep what is answered about each dataset, or about those whose turn it is."""
        if day % 50 == 25:
            self.compare_statuses()
        for turn, part in enumerate(self.parts.values()):
            # So that the days of one are not always the same weekdays.
            if (day + turn * self.keep_every // len(self.parts)) % self.keep_every == 0:
                now = self.clock.time
                self.kept.append(Kept(part.dataset, now, self.answers(part, now, None)))

    def answers(self, part: Part, then: dt.datetime, as_of: dt.datetime | None) -> dict[str, Any]:
        """The answers to a day's questions on a dataset, asked on that day or about it."""
        questions = [*self.questions(part, then, as_of).items()]
        chosen = questions[then.toordinal() % self.turns :: self.turns]
        return {question: _answer(ask) for question, ask in chosen}

    def questions(
        self, part: Part, then: dt.datetime, as_of: dt.datetime | None
    ) -> dict[str, Callable[[], Any]]:
        """Some questions on a dataset."""
        con, dataset, of = self.con, part.dataset, {"dataset": part.dataset, "as_of": as_of}
        last = dataset.shift(dataset.period_of(then.date()), -1)
        since = dataset.period_of(then.date() - 40 * DAY)
        symbols = sorted(name for name, seen in part.model.known.items() if seen <= then)
        one = symbols[then.toordinal() % len(symbols)]

        def summary() -> Any:
            rows = queries.summary(con, **of).rows
            return rows[-40:], hash(tuple(rows))

        asked: dict[str, Callable[[], Any]] = {
            "listings": lambda: queries.listings(con, **of).rows,
            "summary": summary,
            "holes": lambda: queries.holes(con, **of).rows,
            "revisions": lambda: queries.revisions(con, since, **of).rows,
            "changes": lambda: sorted(queries.changes(con, since, **of).rows, key=str),
            f"timeline of {one}": lambda: hash(tuple(queries.timeline(con, one, **of).rows)),
            f"timeline of {one} since {since}": lambda: (
                queries.timeline(con, one, since, **of).rows
            ),
        }
        for period in (last, dataset.shift(last, -3)):
            for status in ("available", "pending"):
                asked[f"{status} on {period}"] = partial(
                    lambda period, status: queries.snapshot(con, period, status=status, **of).rows,
                    period,
                    status,
                )
        return asked

    def compare_statuses(self) -> None:
        """Compare the status of every cell of every dataset with the model's."""
        for part in self.parts.values():
            rows = self.con.execute(
                "SELECT period, symbol, status FROM availability WHERE dataset = ?",
                [str(part.dataset)],
            ).fetchall()
            said, true = {(p, s): status for p, s, status in rows}, part.model.statuses()
            part.found.cells += len(true)
            assert len(said) == len(rows), "a cell is there twice"
            part.found.wrong_cells += [
                (self.clock.time, cell, said.get(cell), true.get(cell))
                for cell in sorted(said.keys() | true.keys())
                if said.get(cell) != true.get(cell)
            ]

    def _ask_again(self) -> None:
        """Ask about each moment that was kept."""
        for kept in self.kept:
            [part] = [p for p in self.parts.values() if p.dataset == kept.dataset]
            found = part.found
            for question, now in self.answers(part, kept.at, kept.at).items():
                found.asked += 1
                if now != (then := kept.answers.get(question)):
                    found.wrong.append(f"{question} as of {kept.at}: {_difference(then, now)}")

    def _read_the_end(self) -> None:
        for part in self.parts.values():
            done, of = part.found, {"dataset": part.dataset}
            t = scope(self.con, part.dataset)
            done.record = {
                (date, symbol): (size, time, etag)
                for date, symbol, size, time, etag in self.con.execute(
                    "SELECT period, symbol, file_size_bytes, last_modified, etag FROM availability "
                    "WHERE dataset = ? AND status = 'available'",
                    [str(part.dataset)],
                ).fetchall()
            }
            done.archive = {
                (date, symbol): (file.size, file.modified, file.etag)
                for symbol, files in part.world.files.items()
                for date, file in files.items()
            }
            done.revisions = self.con.execute(
                f"SELECT date, symbol, change, old_size, new_size, observed_at FROM {t.revisions}"
            ).fetchall()
            done.expected = part.model.revisions
            done.holes = {(date, name) for name, date, _ in queries.holes(self.con, **of).rows}
            done.true_holes = part.model.holes()
            done.renames = queries.renames(self.con, **of).dicts()
            done.news = queries.changes(self.con, **of).dicts()


TRUE = {
    "continuity": Simulation.is_torn,
    "completeness_slo": Simulation.is_short,
    "symbol_holes": Simulation.has_many_holes,
}
"""What is true of a dataset where a check may breach; of the others nothing ever is."""


def _answer(ask: Callable[[], Any]) -> Any:
    """What is answered, or that it is unknown."""
    try:
        return ask()
    except queries.NotProbedError:
        return "not probed"


def _difference(then: object, now: object) -> str:
    if not isinstance(then, list) or not isinstance(now, list):
        return f"{then} is {now}"
    gone = [row for row in then if row not in now]
    come = [row for row in now if row not in then]
    return f"then {gone[:3]}, now {come[:3]}"


def table(outcome: Outcome) -> list[Row]:
    """The closing table."""
    rows = [
        Row("runs", f"{outcome.runs['succeeded']:,} succeeded, {outcome.failed} failed or refused",
            ", ".join(f"{n} {what}" for what, n in sorted(outcome.runs.items())
                      if what != "succeeded")),
        Row("failed runs that left every row alone", f"{outcome.left_alone}", "failed runs",
            f"{outcome.failed}", outcome.left_alone == outcome.failed),
    ]  # fmt: skip
    for name, found in outcome.found.items():
        changes = Counter(change for _, _, change, *_ in found.revisions)
        same = Counter(found.revisions) == Counter(found.expected)
        plan = found.life.plan
        renamed = bool(found.life.moved) and plan.renamed_on < plan.days
        rows += [
            Row(f"{name}: the record at the end", f"{len(found.record):,} files",
                "file by file with size, time and ETag",
                f"the archive's {len(found.archive):,}", found.record == found.archive),
            Row("statuses of all cells, each 50 days", f"{found.cells:,}",
                f"differ: {len(found.wrong_cells)}", "none", not found.wrong_cells),
            Row("holes", f"{len(found.holes):,}", "", f"the model's {len(found.true_holes):,}",
                found.holes == found.true_holes),
            Row("revisions", f"{len(found.revisions):,}",
                ", ".join(f"{n:,} {what}" for what, n in sorted(changes.items())),
                f"the model's {len(found.expected):,}, each once", same),
            Row("renames as one event", f"{len(found.renames)}",
                ", ".join(f"{r['files']} files {r['symbol']} to {r['renamed_to']}"
                          for r in found.renames),
                f"{renamed:d}", len(found.renames) == renamed),
            Row("answers asked again as of their day", f"{found.asked:,}",
                f"differ: {len(found.wrong)}", "none", not found.wrong),
            Row("symbols that ended left out", f"by {found.light:,} runs",
                ", ".join(sorted(found.left_out)), "none that publishes", not found.too_early),
        ]  # fmt: skip
    for check, dataset in dict.fromkeys((j.check, j.dataset) for j in outcome.judgements):
        asked = [j for j in outcome.judgements if (j.check, j.dataset) == (check, dataset)]
        said, true = sum(j.said for j in asked), sum(j.true for j in asked)
        wrong = sum(j.said != j.true for j in asked)
        rows.append(
            Row(f"check {check}, {dataset}", f"breached {said} of {len(asked)} times",
                f"truly {true}; warned {outcome.warned[check, dataset]}", "0 wrong", wrong == 0)
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
    options.add_argument("--short", action="store_true", help="the same in 40 days")
    options.add_argument("--quick", action="store_true", help="the first 4 of these")
    options.add_argument("--symbols", type=int, help=argparse.SUPPRESS)  # the life has its own
    options.add_argument("--seed", type=int, default=7)
    arguments = options.parse_args()
    plan = SHORT if arguments.short or arguments.quick else LONG
    if arguments.quick:
        plan = replace(plan, days=4)
    with tempfile.TemporaryDirectory() as folder:
        kept = {"keep_every": 4, "turns": 3} if arguments.quick else {}
        outcome = Simulation(Path(folder), arguments.seed, plan, **kept).live()
    show(f"{plan.days} days from {START}", table(outcome), quick=arguments.quick)
    for judgement in outcome.wrong()[:20]:
        print(judgement)
    for name, found in outcome.found.items():
        for line in (*found.wrong[:10], *found.wrong_cells[:10]):
            print(name, line)


if __name__ == "__main__":
    main()
