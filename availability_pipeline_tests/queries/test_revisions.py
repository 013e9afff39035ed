"""What is news among the revisions, on a real database."""

import datetime as dt
import random

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from availability_pipeline import queries
from availability_pipeline.record import derived, schema, write
from availability_pipeline.record.connection import reader, writer
from availability_pipeline_tests.support.helpers import D, days, flat, make_listing, published

START, END = D(2024, 1, 1), D(2024, 1, 20)
NOW = dt.datetime(2024, 2, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "record.duckdb"


def look(path, files, at, start=START, end=END):
    with writer(path) as con:
        write.write_probe(con, make_listing(start, end, files), probed_at=at, run_id="r",
                          accept_shrunken=True)  # fmt: skip


def sized(start, end, later=False):
    """A file a day, each of its own size; moved files are newer."""
    return {
        d: (100 + n, published(d) + (30 * dt.timedelta(1) if later else 0 * HOUR))
        for n, d in enumerate(days(start, end))
    }


def asked(path):
    with reader(path) as con:
        return queries.renames(con).dicts(), queries.changes(con).dicts()


def test_files_that_move_to_a_settled_name_are_one_event_also_over_several_looks(path):
    look(path, {"AUSDT": sized(START, END), "BUSDT": flat(START, END)}, NOW)
    moved = {"AUSDTSETTLED": sized(START, END, later=True), "BUSDT": flat(START, END)}
    look(path, moved, NOW + HOUR, start=D(2024, 1, 11))
    look(path, moved, NOW + 2 * HOUR)
    found, folded = asked(path)
    assert found == [
        {
            "symbol": "AUSDT",
            "renamed_to": "AUSDTSETTLED",
            "first_date": START,
            "last_date": END,
            "files": 20,
            "observed_at": NOW + HOUR,
        }
    ]
    assert [(r["change"], r["symbol"], r["renamed_to"], r["date"], r["files"]) for r in folded] == [
        ("renamed", "AUSDT", "AUSDTSETTLED", START, 20)
    ]


def test_a_file_of_another_size_did_not_move(path):
    look(path, {"AUSDT": sized(START, END)}, NOW)
    moved = sized(START, END, later=True)
    moved[D(2024, 1, 5)] = (9_999, NOW)
    look(path, {"AUSDTSETTLED": moved}, NOW + HOUR)
    found, folded = asked(path)
    assert found[0]["files"] == 19
    rest = {(r["change"], r["symbol"], r["date"]) for r in folded if r["change"] != "renamed"}
    day = D(2024, 1, 5)
    assert rest == {("vanished", "AUSDT", day), ("appeared", "AUSDTSETTLED", day)}


@pytest.mark.parametrize("name", ["AUSDT_SETTLED", "AUSDTSETTLEDSETTLED"])
def test_every_spelling_of_settled_is_followed(path, name):
    before = "AUSDTSETTLED" if name.endswith("SETTLEDSETTLED") else "AUSDT"
    look(path, {before: sized(START, END)}, NOW)
    look(path, {name: sized(START, END)}, NOW + HOUR)
    assert [(r["symbol"], r["renamed_to"]) for r in asked(path)[0]] == [(before, name)]


def test_another_symbols_late_file_of_the_same_size_is_no_rename(path):
    look(path, {"AUSDT": flat(START, END), "BUSDT": flat(START, D(2024, 1, 19))}, NOW)
    late = flat(START, D(2024, 1, 19)) | {END: (100, NOW)}
    look(path, {"AUSDT": flat(START, D(2024, 1, 19)), "BUSDT": late}, NOW + HOUR)
    found, folded = asked(path)
    assert found == []
    assert {(r["change"], r["symbol"]) for r in folded} == {
        ("vanished", "AUSDT"),
        ("appeared", "BUSDT"),
    }


def test_changes_can_be_asked_from_a_date_on(path):
    look(path, {"AUSDT": sized(START, END)}, NOW)
    look(path, {"AUSDTSETTLED": sized(START, END)}, NOW + HOUR)
    with reader(path) as con:
        assert len(queries.changes(con, since=D(2024, 2, 1)).rows) == 1
        assert queries.changes(con, since=D(2024, 2, 2)).rows == []


def test_files_of_the_morning_after_are_no_news_and_are_counted(path):
    day, at_two = END, dt.datetime(2024, 1, 21, 2, tzinfo=dt.UTC)
    look(path, {"AUSDT": {}, "BUSDT": {}, "CUSDT": {}}, at_two, start=day)
    late = {day: (7, published(day) + dt.timedelta(9))}
    files = {"AUSDT": flat(day, day), "BUSDT": flat(day, day), "CUSDT": late}
    look(path, files, at_two + 10 * dt.timedelta(1), start=day)
    with reader(path) as con:
        found = queries.changes(con)
        assert [(r["change"], r["symbol"]) for r in found.dicts()] == [("appeared", "CUSDT")]
        assert found.notes == ("2 files that came in the usual time are left out",)
        assert len(queries.revisions(con).rows) == 3


def test_only_the_symbols_asked_for_are_answered_and_counted(path):
    at_two = dt.datetime(2024, 1, 21, 2, tzinfo=dt.UTC)
    look(path, {"AUSDT": {}, "BUSDC": {}}, at_two, start=END)
    look(path, {"AUSDT": flat(END, END), "BUSDC": flat(END, END)}, at_two + HOUR, start=END)
    with reader(path) as con:
        found = queries.changes(con, quote_asset="USDC")
        assert (found.rows, found.notes[0][:7]) == ([], "1 files")
        with pytest.raises(queries.UnknownSymbolError, match="did you mean"):
            queries.changes(con, symbol="BUSD")


def test_an_empty_record_says_so(path):
    with writer(path):
        pass
    with reader(path) as con, pytest.raises(queries.NotProbedError):
        queries.changes(con)


DAY = dt.timedelta(1)


def settled_twice(path):
    """X becomes XSETTLED in March; in June that moves on, and the second X takes its name."""
    first, second = sized(START, END), sized(D(2024, 1, 21), D(2024, 2, 10))
    whole = {"start": START, "end": D(2024, 2, 10)}
    march, june = NOW + 30 * DAY, NOW + 120 * DAY
    look(path, {"XUSDT": first}, NOW, **whole)
    look(path, {"XUSDTSETTLED": first, "XUSDT": {}}, march, **whole)
    look(path, {"XUSDTSETTLED": first, "XUSDT": second}, march + 30 * DAY, **whole)
    names = {"XUSDTSETTLEDSETTLED": first, "XUSDTSETTLED": second, "XUSDT": {}}
    look(path, names, june, **whole)
    return march, june


def test_each_settling_of_a_name_is_an_event_with_its_own_time(path):
    march, june = settled_twice(path)
    found, _ = asked(path)
    assert [
        (r["symbol"], r["renamed_to"], r["files"], r["first_date"], r["observed_at"]) for r in found
    ] == [
        ("XUSDT", "XUSDTSETTLED", 20, START, march),
        ("XUSDT", "XUSDTSETTLED", 21, D(2024, 1, 21), june),
        ("XUSDTSETTLED", "XUSDTSETTLEDSETTLED", 20, START, june),
    ]
    with reader(path) as con:
        since_may = queries.changes(con, since=D(2024, 5, 1)).dicts()
    assert [(r["symbol"], r["renamed_to"]) for r in since_may if r["change"] == "renamed"] == [
        ("XUSDT", "XUSDTSETTLED"), ("XUSDTSETTLED", "XUSDTSETTLEDSETTLED"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "events"),
    [
        ({"symbol": "XUSDTSETTLEDSETTLED"}, 1),
        ({"symbol": "XUSDTSETTLED"}, 3),
        ({"symbol": "XUSDT"}, 2),
        ({"contract_type": "settled"}, 3),
        ({"contract_type": "perpetual"}, 2),
    ],
)
def test_a_rename_is_found_by_either_name(path, chosen, events):
    settled_twice(path)
    with reader(path) as con:
        found = queries.changes(con, **chosen).dicts()
    assert sum(r["change"] == "renamed" for r in found) == events


def test_what_the_sunday_run_adds_to_a_rename_is_news_since_then(path):
    """Who asks from between the two runs on must learn of the files that moved after."""
    look(path, {"AUSDT": sized(START, END)}, NOW)
    moved = {"AUSDTSETTLED": sized(START, END, later=True), "AUSDT": {}}
    look(path, moved, NOW + HOUR, start=D(2024, 1, 11))
    look(path, moved, NOW + 6 * DAY)
    with reader(path) as con:
        [row] = queries.changes(con, since=D(2024, 2, 3)).dicts()
    assert (row["files"], row["observed_at"]) == (20, NOW + HOUR)


@pytest.mark.parametrize("first", ["XUSDT", "XUSDTSETTLED"])
def test_a_rename_that_two_neighbouring_probes_saw_half_is_one(path, first):
    """The archive copies, then deletes; a probe in between sees the file twice, or not at all."""
    files = sized(START, END)
    look(path, {"XUSDT": files}, NOW)
    half = {"XUSDT": files, "XUSDTSETTLED": files} if first == "XUSDT" else {"XUSDT": {}}
    look(path, half, NOW + 7 * DAY)
    look(path, {"XUSDT": {}, "XUSDTSETTLED": files}, NOW + 14 * DAY)
    found, folded = asked(path)
    assert [(r["symbol"], r["renamed_to"], r["files"], r["observed_at"]) for r in found] == [
        ("XUSDT", "XUSDTSETTLED", 20, NOW + 14 * DAY)
    ]
    assert [r["change"] for r in folded] == ["renamed"]


def test_a_file_that_vanished_and_came_back_is_told_as_back(path):
    """With the time it had before: the archive restored it, and that is news."""
    files = flat(START, END)
    without = {d: f for d, f in files.items() if d != END}
    look(path, {"AUSDT": files}, NOW)
    look(path, {"AUSDT": without}, NOW + HOUR)
    look(path, {"AUSDT": files}, NOW + 40 * DAY)
    with reader(path) as con:
        found = queries.changes(con)
        since = queries.changes(con, since=D(2024, 3, 1))
    assert [(r["change"], r["symbol"], r["date"]) for r in found.dicts()] == [
        ("vanished", "AUSDT", END), ("appeared", "AUSDT", END),
    ]  # fmt: skip
    assert found.notes == ()
    assert [(r["change"], r["observed_at"]) for r in since.dicts()] == [
        ("appeared", NOW + 40 * DAY)
    ]


class Model:
    """The archive and what probes saw of it, in plain Python; each file has a number for life."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.dates = days(START, D(2024, 1, 12))
        self.now = NOW
        self.names = ["XUSDT"]
        self.place = {}  # file -> symbol, or None while it is deleted
        self.date = {}  # file -> its date
        self.late = {}  # file -> published after its date had settled
        self.seen = {}  # date -> {symbol: file} at the last probe
        self.gone = {}  # file -> (symbol, when it was seen to be gone from there)
        self.lost = {}  # (symbol, date) -> has ever been seen to vanish there
        self.pairs = []
        self.news = []
        for date in self.dates[:6]:
            self.publish(date)

    def publish(self, date):
        number = len(self.place)
        self.place[number], self.date[number] = "XUSDT", date
        self.late[number] = self.random.random() < 0.3

    def free(self, symbol, date):
        return not any(p == symbol and self.date[n] == date for n, p in self.place.items())

    def settle(self):
        """Every name moves one suffix on, the longest first."""
        for name in sorted(self.names, key=len, reverse=True):
            for number, symbol in self.place.items():
                if symbol == name:
                    self.place[number] = f"{name}SETTLED"
        self.names.append("XUSDT" + "SETTLED" * len(self.names))

    def step(self):
        kind = self.random.choice(["publish", "publish", "delete", "restore", "settle", "wait"])
        if kind == "publish":
            date = self.random.choice(self.dates)
            if self.free("XUSDT", date) and date in self.seen:
                self.publish(date)
        elif kind == "delete":
            there = [n for n, p in self.place.items() if p]
            if there:
                self.place[self.random.choice(there)] = None
        elif kind == "restore":
            back = [
                n for n, (s, _) in self.gone.items()
                if self.place[n] is None and self.free(s, self.date[n])
            ]  # fmt: skip
            if back:
                number = self.random.choice(back)
                self.place[number] = self.gone[number][0]
        elif kind == "settle" and len(self.names) < 4:
            self.settle()
        else:
            self.now += self.random.choice([DAY, 5 * DAY, 20 * DAY])

    def files(self):
        """What a listing has: each file by its size, which is its own for life."""
        found = {name: {} for name in self.names}
        for number, symbol in self.place.items():
            if symbol:
                date = self.date[number]
                time = published(date) + (10 * DAY if self.late[number] else 0 * DAY)
                found[symbol][date] = (100 + number, time)
        return found

    def probe(self):
        self.now += self.random.choice([HOUR, DAY, 4 * DAY])
        start = self.random.choice(self.dates)
        for date in self.dates[self.dates.index(start) :]:
            now = {p: n for n, p in self.place.items() if p and self.date[n] == date}
            before = self.seen.get(date)
            self.seen[date] = now
            if before is not None:
                self.compare(date, before, now)
        return start

    def compare(self, date, before, now):
        was = {n: s for s, n in before.items()}
        is_at = {n: s for s, n in now.items()}
        # A name whose file is another one has been replaced; nothing vanished or appeared there.
        same = {s for s in before if s in now and before[s] != now[s]}
        self.news += [(self.now, "replaced", s, date) for s in same]
        for number, symbol in was.items():
            if is_at.get(number) != symbol and symbol not in same:
                self.gone[number] = (symbol, self.now)
        for number, symbol in is_at.items():
            if was.get(number) == symbol or symbol in same:
                continue
            left, when = self.gone.get(number, (None, None))
            moved = left not in (None, symbol) and self.now - when <= dt.timedelta(8)
            if moved and len(symbol) > len(left):
                self.pairs.append((left, symbol, date, self.now))
                self.news = [n for n in self.news if n != (when, "vanished", left, date)]
                self.gone.pop(number)
                self.lost[left, date] = True
            elif self.late[number] or (symbol, date) in self.lost:
                self.news.append((self.now, "appeared", symbol, date))
        for number, (symbol, when) in self.gone.items():
            if when == self.now and self.date[number] == date:
                self.news.append((self.now, "vanished", symbol, date))
                self.lost[symbol, date] = True

    def events(self):
        found = []
        for left, came, date, when in sorted(self.pairs, key=lambda p: (p[0], p[1], p[3])):
            last = found[-1] if found else None
            if last and last[:2] == [left, came] and when - last[4] <= dt.timedelta(8):
                last[3].append(date)
                last[4] = when
            else:
                found.append([left, came, when, [date], when])
        return sorted(
            (left, came, min(dates), max(dates), len(dates), first)
            for left, came, first, dates, _ in found
        )


@settings(max_examples=8)
@given(st.integers(0, 2**32))
def test_renames_and_news_are_those_of_an_independent_model(seed):
    model = Model(seed)
    with duckdb.connect(":memory:", config={"threads": 1}) as con:
        con.execute("SET TimeZone = 'UTC'")
        schema.ensure_schema(con, derived.refresh_all)
        for _ in range(12):
            for _ in range(model.random.randrange(4)):
                model.step()
            start = model.probe()
            listing = make_listing(start, model.dates[-1], model.files())
            write.write_probe(con, listing, probed_at=model.now, run_id="r", accept_shrunken=True)
        renamed = queries.renames(con).dicts()
        told = queries.changes(con).dicts()
    columns = ("symbol", "renamed_to", "first_date", "last_date", "files", "observed_at")
    assert sorted(tuple(r[c] for c in columns) for r in renamed) == model.events()
    assert sorted(
        (r["observed_at"], r["change"], r["symbol"], r["date"])
        for r in told
        if r["change"] != "renamed"
    ) == sorted(model.news)
