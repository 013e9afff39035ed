"""Every answer after hundreds of random steps, compared with a model that knows no SQL.

What nobody thought of is in here: a relisting in the middle of an outage, an old date probed
again years later, a probe that is refused between two that are not. `pytest --walks 50
availability_pipeline_tests/record/test_model.py` takes thousands of them.
"""

import copy
import datetime as dt
import random
from pathlib import Path

import dagster as dg
import pytest

from availability_pipeline import queries
from availability_pipeline.archive.datasets import UM_KLINES_1M
from availability_pipeline.errors import ClockSkewError, ClockWentBackError, ShrunkenArchiveError
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.validation import CompletenessValidator, ContinuityValidator
from availability_pipeline_tests.support.helpers import make_listing
from availability_pipeline_tests.support.model import (
    DAY,
    FIRST_DATE,
    Archive,
    Model,
    UnknownError,
    days,
)
from availability_pipeline_tests.support.world import World

NAMES = (
    "AUSDT", "BUSDT", "CUSDT", "DUSDC", "EUSDT", "FUSDT", "GUSDT", "HBUSD",
    "龙虾USDT", "BTCUSDT_240119", "ETHUSDT_240329", "BTCU",
)  # fmt: skip


def etag(file):
    """In these tests a size has one content (`make_listing`)."""
    return f"{file[0]:032x}" if file else None


REFUSED = {
    ClockWentBackError: "past",
    ClockSkewError: "skew",
    ShrunkenArchiveError: "shrunken",
}


class Walk:
    """An archive that changes at random, a clock, a record, and the model of the record."""

    settle_choices = (1, 2, 3, 5)
    light_share = 0.6
    """Of the probes so many leave out symbols that ended."""

    def __init__(self, con, seed: int, first: dt.date) -> None:
        self.con, self.random, self.first = con, random.Random(seed), first
        self.now = dt.datetime.combine(first + 10 * DAY, dt.time(2), dt.UTC)
        self.model = Model()
        self.archive: dict[str, dict[dt.date, tuple[int, dt.datetime]]] = {}
        self.publishing: set[str] = set()
        self.silent, self.settle_days = False, 3
        self.taken: list[tuple[str, dt.date, tuple[int, dt.datetime]]] = []
        self.refused = self.written = self.compared = 0
        self.said: list[str] = []
        self.past: dict[dt.datetime, dict[str, object]] = {}
        self.asked_of_past, self.choice = 0, random.Random(seed)
        self.light, self.leaving = 0, random.Random(seed)
        for name in NAMES[:6]:
            self.list(name, first + self.random.randrange(4) * DAY)

    @property
    def yesterday(self) -> dt.date:
        return self.now.date() - DAY

    # What happens in the archive

    def list(self, name: str, start: dt.date) -> None:
        self.publishing.add(name)
        folder = self.archive.setdefault(name, {})
        for date in days(start, self.yesterday - DAY) if start < self.yesterday else ():
            folder[date] = self.file(date)

    def file(self, date: dt.date) -> tuple[int, dt.datetime]:
        hours = self.random.choice((7, 7.5, 8, 30, 100))
        time = dt.datetime.combine(date + DAY, dt.time(), dt.UTC) + dt.timedelta(hours=hours)
        return self.random.randrange(1, 10_000), time

    def pass_time(self) -> None:
        before = self.yesterday
        self.now += dt.timedelta(hours=self.random.choice((1, 5, 13, 24, 24, 24, 60)))
        for date in days(before, self.yesterday) if not self.silent else ():
            for name in sorted(self.publishing):
                if self.random.random() < 0.9:
                    self.archive.setdefault(name, {}).setdefault(date, self.file(date))

    def change(self) -> None:
        act = self.random.choice((
            self.new_symbol, self.end_some, self.relist, self.replace, self.take_away,
            self.give_back, self.late_file, self.outage, self.all_silent,
        ))  # fmt: skip
        self.said.append(act.__name__)
        act()

    def new_symbol(self) -> None:
        free = [name for name in NAMES if name not in self.archive]
        if free:
            self.list(self.random.choice(free), self.some_date())

    def some_date(self) -> dt.date:
        return self.first + self.random.randrange((self.yesterday - self.first).days + 1) * DAY

    def some_file(self) -> tuple[str, dt.date] | None:
        files = sorted((s, d) for s, folder in self.archive.items() for d in folder)
        return self.random.choice(files) if files else None

    def end_some(self) -> None:
        if self.publishing:
            self.publishing.discard(self.random.choice(sorted(self.publishing)))

    def outage(self) -> None:
        """Many stop at once; the next time they come back."""
        stopped = {s for s in self.archive if "SETTLED" not in s} - self.publishing
        if len(stopped) > 3 and self.random.random() < 0.6:
            self.publishing |= stopped
        else:
            many = self.random.randrange(1, 6)
            gone = self.random.sample(sorted(self.publishing), min(many, len(self.publishing)))
            self.publishing -= set(gone)

    def all_silent(self) -> None:
        self.silent = not self.silent

    def relist(self) -> None:
        """The archive moves the files to `<SYMBOL>SETTLED`; what lies there moves on."""
        names = [s for s in self.archive if "SETTLED" not in s and self.archive[s]]
        if not names:
            return
        name = self.random.choice(sorted(names))
        settled = f"{name}{self.random.choice(('SETTLED', 'SETTLED', '_SETTLED'))}"
        if self.archive.get(settled):
            self.archive.setdefault(f"{settled}SETTLED", {}).update(self.archive.pop(settled))
        moved, kept = self.archive.pop(name), {}
        if self.random.random() < 0.2:  # part of them stays for a while
            kept = {d: f for d, f in moved.items() if self.random.random() < 0.3}
        self.archive[settled] = {d: f for d, f in moved.items() if d not in kept}
        if kept or self.random.random() < 0.5:
            self.archive[name] = kept
        if self.random.random() < 0.5:
            self.publishing.discard(name)

    def replace(self) -> None:
        if found := self.some_file():
            self.archive[found[0]][found[1]] = self.file(found[1])

    def take_away(self) -> None:
        if found := self.some_file():
            name, date = found
            self.taken.append((name, date, self.archive[name].pop(date)))
            if not self.archive[name] and self.random.random() < 0.5:
                del self.archive[name]

    def give_back(self) -> None:
        if self.taken:
            name, date, file = self.taken.pop(self.random.randrange(len(self.taken)))
            self.archive.setdefault(name, {})[date] = file

    def late_file(self) -> None:
        if self.archive:
            name, date = self.random.choice(sorted(self.archive)), self.some_date()
            self.archive[name].setdefault(date, self.file(date))

    # Probes

    def span(self) -> tuple[dt.date, dt.date]:
        last = self.yesterday
        kind = self.random.choice(("yesterday", "yesterday", "back", "back", "all", "old", "some"))
        if kind == "yesterday":
            return last, last
        if kind == "back":
            return max(self.first, last - self.random.randrange(1, 20) * DAY), last
        if kind == "all":
            return self.first, last
        start = self.some_date()
        end = start if kind == "old" else start + self.random.randrange(8) * DAY
        return start, min(end, last)

    def probe(self) -> None:
        start, end = self.span()
        archive: Archive = copy.deepcopy(self.archive)
        now, server_time, accept = self.now, None, False
        if self.random.random() < 0.12:
            archive = {s: f for s, f in archive.items() if self.random.random() < 0.4}
        if self.random.random() < 0.1:
            now -= dt.timedelta(hours=self.random.choice((1, 30, 400)))
        if self.random.random() < 0.2:
            server_time = now + dt.timedelta(minutes=self.random.choice((-3000, -59, 0, 59, 3000)))
        if self.random.random() < 0.1:
            accept = True
        if self.random.random() < 0.05:
            self.settle_days = self.random.choice(self.settle_choices)
        leave_out = self.leave_out()
        wanted = self.model.refusals(start, end, archive, now, server_time, leave_out)
        wanted -= {"shrunken"} if accept else set()
        left = self.model.left_out(archive, leave_out)
        self.said.append(f"probe {start} {end} at {now} {wanted or ''} without {left or 'none'}")
        why, run_id = self.write(start, end, archive, now, server_time, leave_out, accept=accept)
        if wanted:
            assert why in wanted
            self.refused += 1
        else:
            assert not why
            if self.settle_days != self.model.settle_days:
                self.past.clear()  # of the past, too, today's settling time is the measure
            self.past = {at: answers for at, answers in self.past.items() if at < now}
            self.model.settle_days = self.settle_days
            self.model.probe(start, end, archive, now, run_id, leave_out)
            self.written += 1
            self.light += bool(left)

    def leave_out(self) -> set[str]:
        """Some of the symbols that ended, or all, or none."""
        if not self.model.probes or self.leaving.random() > self.light_share:
            return set()
        ended = self.model.delisted()
        every = self.leaving.random() < 0.6
        return {s for s in ended if every or self.leaving.random() < 0.6}

    def write(self, start, end, archive, now, server_time, leave_out, *, accept):
        """Probe: why it was refused, if it was, and the id of the run."""
        run_id = f"run {self.written + self.refused}"
        listing = make_listing(
            start, end, archive, server_time, store.recorded(self.con, leave_out=leave_out),
            leave_out=leave_out,
        )  # fmt: skip
        assert listing.left_out == self.model.left_out(archive, leave_out)
        try:
            store.write_probe(
                self.con, listing, probed_at=now, run_id=run_id, accept_shrunken=accept,
                max_clock_skew_minutes=60, settle_days=self.settle_days,
            )  # fmt: skip
        except tuple(REFUSED) as error:
            return REFUSED[type(error)], run_id
        return "", run_id

    # Every answer

    def compare(self) -> None:
        if not self.model.probes:
            return
        self.compared += 1
        con, model = self.con, self.model
        assert con.execute(
            """SELECT date, symbol, available, file_size_bytes, last_modified, probe_timestamp,
                status FROM daily_availability ORDER BY date, symbol"""
        ).fetchall() == list(model.rows())
        assert con.execute(
            "SELECT symbol, first_seen, last_seen FROM symbols ORDER BY symbol"
        ).fetchall() == [(s, model.first_seen[s], model.last_seen[s]) for s in model.symbols]
        assert con.execute(
            "SELECT * EXCLUDE (dataset, replaced_at) FROM probes WHERE replaced_at IS NULL "
            "ORDER BY period"
        ).fetchall() == [(d, *probe) for d, probe in sorted(model.looked.items())]
        left_out = con.execute(
            "SELECT symbol, left_out_at FROM symbols WHERE left_out_at IS NOT NULL"
        ).fetchall()
        assert dict(left_out) == model.left_at
        # The tables at each step. All answers take more than twice as long as the step itself, and
        # what is wrong in them seldom rights itself with the next one.
        if self.compared % 3 == 0:
            self.compare_answers()

    def compare_answers(self) -> None:
        con, model, rnd = self.con, self.model, self.random
        self.compare_revisions()
        self.compare_symbols()
        assert [
            (*row[:9], *(None if lag is None else round(lag, 6) for lag in row[9:]))
            for row in con.execute(
                "SELECT * EXCLUDE (dataset) FROM daily_summary ORDER BY period"
            ).fetchall()
        ] == model.daily()
        low, high = self.first, self.yesterday + DAY
        assert queries.missing_dates(con, low, high) == model.missing_dates(low, high)
        today = self.now.date()
        assert queries.coverage(con, today) == model.coverage(today)
        for date in rnd.sample(days(low, high), 3):
            self.compare_date(date)
        start = rnd.choice(days(low, high))
        self.compare_range(start, rnd.choice(days(start, high)))
        self.compare_past()

    def compare_past(self) -> None:
        """What was answered at some moment is what the record answers now as of that moment."""
        # Each question makes the tables of its moment, which takes most of the time here.
        if self.past and self.choice.random() < 0.75:
            at = self.choice.choice(sorted(self.past))
            self.asked_of_past += 1
            for question, answer in self.answers(at).items():
                assert answer == self.past[at][question], f"{question} as of {at}"
        last = self.model.last_probe
        if last and last == max(at for at, _ in self.model.probes.values()):
            self.past[last] = self.answers(None)

    def answers(self, at: dt.datetime | None) -> dict[str, object]:
        con, low, high = self.con, self.first, self.first + 20 * DAY
        listings = queries.listings(con, as_of=at)
        dates = queries.summary(con, as_of=at).column("date")
        # What is left out has ended, so these are asked of.
        ended = [row[0] for row in listings.rows if row[-1] != "live"] or [listings.rows[0][0]]
        return {
            "listings": listings.rows,
            "holes": queries.holes(con, as_of=at).rows,
            "summary": queries.summary(con, as_of=at).rows,
            "revisions": queries.revisions(con, as_of=at).rows,
            "changes": sorted(queries.changes(con, as_of=at).rows, key=str),
            "missing": queries.missing_dates(con, low, high, as_of=at),
            "timeline": queries.timeline(con, ended[0], as_of=at).rows,
            "another": queries.timeline(con, ended[-1], as_of=at).rows,
            "counts": [queries.counts(con, date, as_of=at) for date in (dates[0], dates[-1])],
            "universe": queries.universe(con, low, high, unknown="mark", as_of=at).rows,
        }

    def compare_revisions(self) -> None:
        con, model = self.con, self.model
        since = self.random.choice((None, self.some_date()))
        got = queries.revisions(con, since).rows
        assert got == [
            (r.date, r.symbol, r.observed_at, r.change, *(r.old or (None, None))[:1],
             *(r.new or (None, None))[:1], (r.old or (None, None))[1], (r.new or (None, None))[1],
             etag(r.old), etag(r.new), r.run_id)
            for r in model.all_revisions(since)
        ]  # fmt: skip

        renames = queries.renames(con).rows
        assert sorted(row[:6] for row in renames) == sorted(row[:6] for row in model.renames())
        symbol = self.random.choice((None, *model.symbols))
        changes = queries.changes(con, since, symbol=symbol)
        places = [
            changes.columns.index(name)
            for name in (
                "observed_at",
                "change",
                "symbol",
                "date",
                "last_date",
                "files",
                "renamed_to",
            )
        ]
        rows = [tuple(row[n] for n in places) for row in changes.rows]
        assert len(set(rows)) == len(rows)
        assert set(rows) == model.changes(since, symbol)

    def compare_symbols(self) -> None:
        con, model = self.con, self.model
        got = queries.listings(con)
        wanted = ("symbol", "contract_type", "quote_asset", "first_available", "last_available",
                  "days_available", "hole_days", "state")  # fmt: skip
        places = [got.columns.index(name) for name in wanted]
        assert [tuple(row[n] for n in places) for row in got.rows] == model.listings()
        assert queries.holes(con).rows == [(s, d, UM_KLINES_1M.url(s, d)) for s, d in model.holes()]
        symbol = self.random.choice(model.symbols)
        low, high = self.first, self.yesterday
        assert queries.timeline(con, symbol, low, high).rows == model.timeline(symbol, low, high)
        whole = model.timeline(symbol, min(model.probes), max(model.probes))
        assert queries.timeline(con, symbol).rows == whole

    def compare_date(self, date: dt.date) -> None:
        con, model = self.con, self.model
        for status in ("available", "pending", "absent"):
            same(lambda s=status: queries.snapshot(con, date, status=s).rows,
                 lambda s=status: model.snapshot(date, s))  # fmt: skip
        same(lambda: queries.counts(con, date), lambda: model.counts(date))
        same(lambda: queries.new_listings(con, date), lambda: model.new_listings(date))
        same(lambda: queries.delistings(con, date), lambda: model.delistings(date))
        assert queries.delistings_confirmed(con, date) == model.delistings_confirmed(date)

    def compare_range(self, start: dt.date, end: dt.date) -> None:
        con, model = self.con, self.model
        same(lambda: queries.symbols_in_range(con, start, end),
             lambda: model.symbols_in_range(start, end))  # fmt: skip
        same(lambda: queries.summary(con, start=start, end=end).rows,
             lambda: model.summary(start, end))  # fmt: skip
        for mark, word in ((False, "refuse"), (True, "mark")):

            def got(word=word):
                found = queries.universe(con, start, end, unknown=word)
                return list(found.columns[1:]), found.rows

            same(got, lambda mark=mark: model.universe(start, end, mark=mark))


def same(got, wanted) -> None:
    """The same answer, or both say that it is unknown."""
    try:
        answer = wanted()
    except UnknownError:
        with pytest.raises(queries.NotProbedError):
            got()
    else:
        assert got() == answer


class DagsterWalk(Walk):
    """The same through the assets, on a real instance; a listing may fail, too."""

    settle_choices = (3,)
    light_share = 0.0  # in so few days nobody ended long ago

    def __init__(self, world: World, seed: int, first: dt.date) -> None:
        super().__init__(None, seed, first)
        self.world, self.failed = world, 0

    def write(self, start, end, archive, now, server_time, leave_out, *, accept):
        assert not leave_out
        world = self.world
        world.archive.files, world.archive.server_time = archive, server_time
        world.clock = StoppedClock(now)
        if self.random.random() < 0.3:
            world.archive.fails = True
            failed = world.run(start, end, accept_shrunken=accept)
            assert "HTTP 503" in reason(failed)
            world.archive.fails = False
            self.failed += 1
            self.compare()
        done = world.run(start, end, accept_shrunken=accept)
        words = {"set the clock right": "past", "the archive's (": "skew", "lists": "shrunken"}
        text = "" if done.success else reason(done)
        return next((why for said, why in words.items() if said in text), text), done.run_id

    def compare(self) -> None:
        if self.model.probes:
            with reader(self.world.path) as self.con:
                super().compare()


class StoppedClock:
    def __init__(self, time: dt.datetime) -> None:
        self.time = time

    def now(self) -> dt.datetime:
        return self.time


def reason(result) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    return event.step_failure_data.user_failure_data.description


def live(walked: Walk, steps: int) -> None:
    for _ in range(steps):
        walked.pass_time()
        for _ in range(walked.random.randrange(3)):
            walked.change()
        walked.probe()
        try:
            walked.compare()
        except BaseException as error:
            error.add_note("\n".join(walked.said[-40:]))
            raise


def walk(path: Path, seed: int, steps: int, first: dt.date) -> Walk:
    with writer(path) as con:
        walked = Walk(con, seed, first)
        live(walked, steps)
    compare_closed(path, walked)
    return walked


def compare_closed(path: Path, walked: Walk) -> None:
    """What opens the file by itself: the validators and a notebook's record."""
    model, low, high = walked.model, walked.first, walked.yesterday
    with ContinuityValidator(path) as validator:
        assert validator.check_continuity(low, high) == model.missing_dates(low, high)
    with CompletenessValidator(path) as validator:
        for share in (0.5, 0.95, 1.0):
            short = validator.get_short_dates(threshold=share)
            found = [(one.date, one.expected, one.available, one.pending) for one in short]
            assert found == model.short_dates(share)
        today = walked.now.date()

        def week():
            counts = model.summary(today - 7 * DAY, today - DAY)
            return [{"date": date, "symbol_count": available} for date, available, _ in counts]

        same(lambda: validator.get_symbol_counts_summary(7, today=today), week)
    record = queries.open(path)
    frame = record.holes()
    assert list(zip(frame["symbol"], frame["date"].dt.date, strict=True)) == model.holes()
    for kind in ("perpetual", "settled"):
        wanted = [row[0] for row in model.listings() if row[1] == kind]
        if wanted:
            assert record.listings(contract_type=kind)["symbol"].tolist() == wanted


def test_some_random_steps_lead_to_the_answers_of_the_model(tmp_path):
    walked = walk(tmp_path / "record.duckdb", 0, 30, dt.date(2024, 1, 1))
    assert walked.written > 15
    assert walked.light > 3


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(1, 1 + metafunc.config.getoption("walks")))


def test_many_random_steps_lead_to_the_answers_of_the_model(tmp_path, seed):
    first = FIRST_DATE if seed % 4 == 0 else dt.date(2024, 1, 1)
    walked = walk(tmp_path / "record.duckdb", seed, 60, first)
    assert walked.written > 30
    assert walked.light > 0
    assert walked.refused > 0
    assert walked.asked_of_past > 3


def test_random_runs_through_dagster_lead_to_the_answers_of_the_model(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        walked = DagsterWalk(World(tmp_path, instance), 0, dt.date(2024, 1, 1))
        live(walked, 20)
    assert walked.written > 10
    assert walked.refused > 0
    assert walked.failed > 0
    compare_closed(walked.world.path, walked)
