"""The lives of three of the archive's datasets, written down before they happen.

`script(seed, dataset, plan)` makes the events of `living_archive` from what the real archive is
known to do: files of a date come the next morning between 06:57 and 08:40 UTC, those of a month on
the first Monday after it; some come late, and of two dates or a month those of everybody; files are
replaced, by another content or the same; some are taken away, and two of these return; a USD-M
symbol is relisted and its history moves to a `SETTLED` name, a spot symbol returns under its own;
symbols are listed and end; one hole is filled long after and one never; a good part of the symbols
stops together, and its files come weeks later. It also says which symbols really were listed in a
period, which is what the record's checks are compared with.

A plan says on which days: `LONG` is 400 of them, `SHORT` has all of it in 40.
"""

import datetime as dt
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from benchmarks.living_archive import Event, Fault

START = dt.date(2024, 1, 1)
"""First day lived; 2024 has a 29th of February, and the 400 days cross the year's end."""

DAY = dt.timedelta(1)

TRADES = Dataset.parse("spot/daily/aggTrades")
FUNDING = Dataset.parse("um/monthly/fundingRate")
DATASETS = (UM_KLINES_1M, TRADES, FUNDING)
"""Daily files with intervals, daily ones of another market without, monthly ones."""

RELISTED, RENAMED = "AERGOUSDT", "AERGOUSDTSETTLED"
RETURNING, FILLED, HOLED, TAKEN_AWAY = "GALAUSDT", "SOLUSDT", "NMRUSDT", "LINKUSDT"
BACK = ("1000PEPEUSDT", "BTCUSDC")
OLD = ("BTCUSDT", "ETHUSDT")
OTHERS = (
    *(FILLED, HOLED, TAKEN_AWAY, *BACK, "币安人生USDT", "ETHBTC", "4USDT"),
    *("XRPUSDT", "ADAUSDT", "DOGEUSDT", "TRXUSDT", "AVAXUSDT", "DOTUSDT", "LTCUSDT", "BCHUSDT"),
    *("UNIUSDT", "ATOMUSDT", "ETCUSDT", "XLMUSDT", "FILUSDT", "APTUSDT"),
)
ENDED_FIRST, ENDED_SECOND = "MATICUSDT", "FTMUSDT"
LONG_ENDED, LONG_ENDED_ON = "SRMUSDT", -130


@dataclass(frozen=True, kw_only=True)
class Plan:
    """On which days of a life what happens, counted from `START`; before it they are negative.

    Attributes:
        days: how long it is.
        months: the plan of monthly datasets; None: the same.
        late: day -> days after which its files came, for all symbols at once.
        renamed_on: the day on which files move to a `SETTLED` name.
        returning: last day of a symbol, and days until it is listed again.
        filled: a day whose file comes after so many days more.
        hole: one whose file never comes.
        taken: one whose file is taken away, and when.
        back: when two files are taken away, and after how many days they are put back.
        outage: first day of an outage, how many, and after how many days its files come.
        new: symbol -> first day.
        ended: symbol -> last day.
        delivery: when a delivery contract is listed, and the last day of another one.
        replaced: the days between which files are replaced, and how many days after they came.
        down: first day on which the daemon is down, and how many.
        strikes: day and hour of a tick -> what happens to all of its runs.
        clock_back: day and hour of a tick at which the clock is a day behind.
        trouble: first day on which more runs fail, and how many.
        late_arrivals: hours of that schedule at which the daemon runs.
    """

    days: int
    months: "Plan | None" = None
    late: Mapping[int, int]
    renamed_on: int
    returning: tuple[int, int]
    filled: tuple[int, int]
    hole: int
    taken: tuple[int, int]
    back: tuple[int, int]
    outage: tuple[int, int, int]
    new: Mapping[str, int]
    ended: Mapping[str, int]
    delivery: tuple[int, int]
    replaced: tuple[int, int, tuple[int, ...]]
    down: tuple[int, int]
    strikes: Mapping[tuple[int, int], Fault]
    clock_back: tuple[int, int]
    trouble: tuple[int, int]
    late_arrivals: tuple[int, ...] = (3, 9, 15, 21)


LONG = Plan(
    days=400,
    late={110: 13, 250: 6},
    renamed_on=150,
    returning=(200, 40),
    filled=(90, 60),
    hole=75,
    taken=(262, 300),
    back=(130, 9),
    outage=(220, 9, 20),
    new={"TSLAUSDT": 33, "XAUUSDT": 97, "BTCU": 171, "龙虾USDT": 240},
    ended={ENDED_FIRST: 61, ENDED_SECOND: 188, "EOSUSDT": 345},
    delivery=(90, 270),
    replaced=(20, 390, (2, 3, 5, 8, 12, 18, 25, 40, 90, 200)),
    down=(200, 4),
    # The second two are of monthly files.
    strikes={
        (280, 9): "nothing",
        (281, 15): "a tenth",
        (282, 10): "a tenth",
        (213, 10): "connection lost",
    },
    clock_back=(320, 15),
    trouble=(300, 7),
)
LONG = replace(LONG, months=replace(LONG, late={110: 20}))

SHORT = Plan(
    days=40,
    late={5: 13, 24: 4},
    renamed_on=22,
    returning=(-28, 48),
    # Beyond the look-back of 20 dates, as what is taken away: a reconcile finds it.
    filled=(8, 22),
    hole=7,
    taken=(2, 25),
    back=(12, 9),
    outage=(10, 9, 18),
    new={"TSLAUSDT": 3, "XAUUSDT": 9, "BTCU": 17, "龙虾USDT": 24},
    ended={ENDED_FIRST: -25, ENDED_SECOND: -38, "EOSUSDT": 21},
    delivery=(9, -20),
    replaced=(20, 30, (2, 3, 5, 8, 12, 18, 25, 40)),
    down=(29, 4),
    strikes={
        (18, 9): "nothing",
        (19, 9): "a tenth",
        (8, 10): "a tenth",
        (33, 10): "connection lost",
    },
    clock_back=(26, 9),
    trouble=(14, 4),
    late_arrivals=(9,),
)
# The last month before and the first after are the only ones that come within 40 days.
SHORT = replace(
    SHORT,
    months=replace(
        SHORT, late={-5: 7}, filled=(-100, 110), hole=-45, taken=(-20, 25), outage=(-40, 0, 45)
    ),
)


@dataclass
class Life:
    """What happens to one dataset, and what is true of it.

    Attributes:
        dataset: which.
        plan: on which days.
        events: everything that happens to files.
        listed: symbol -> spans of (first, last) dates on which it was listed; last is None while
            it lives.
        ended: the symbols that ended at some time, also if they came back.
        replaced: (symbol, period) of files that came a second time, with what a listing shows:
            `replaced` or `touched`.
        late: periods that came late for everybody.
        hole, filled: (symbol, period) of a file that never came, and of one that came late.
        taken: of those that were taken away for good.
        back: of those that were taken away and put back.
        outage: of those that were missing while many symbols stopped.
        moved: periods of the files that moved to another name.
    """

    dataset: Dataset
    plan: Plan
    events: list[Event] = field(default_factory=list)
    listed: dict[str, list[tuple[dt.date, dt.date | None]]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    replaced: dict[tuple[str, dt.date], str] = field(default_factory=dict)
    late: set[dt.date] = field(default_factory=set)
    hole: tuple[str, dt.date] = ("", START)
    filled: tuple[str, dt.date] = ("", START)
    taken: list[tuple[str, dt.date]] = field(default_factory=list)
    back: list[tuple[str, dt.date]] = field(default_factory=list)
    outage: set[tuple[str, dt.date]] = field(default_factory=set)
    moved: set[dt.date] = field(default_factory=set)
    _memory: dict[dt.date, frozenset[str]] = field(default_factory=dict)

    def period(self, day: int) -> dt.date:
        """The period that a day is in."""
        return self.dataset.period_of(START + day * DAY)

    def listed_on(self, period: dt.date) -> frozenset[str]:
        """Symbols that were really listed in a period, whatever became of their files."""
        if period not in self._memory:
            end = self.dataset.last_day(period)
            self._memory[period] = frozenset(
                symbol
                for symbol, spans in self.listed.items()
                if any(a <= end and (b is None or period <= b) for a, b in spans)
            )
        return self._memory[period]


def at(day: int, hour: int = 0, minute: int = 0) -> dt.datetime:
    """An instant of the life, days counted from its start."""
    return dt.datetime.combine(START + day * DAY, dt.time(hour, minute), dt.UTC)


Published = dict[tuple[str, dt.date], tuple[dt.datetime, int]]
"""(symbol, period) -> when its file came first, and its size."""


def script(seed: int, dataset: Dataset = UM_KLINES_1M, plan: Plan = LONG) -> Life:
    """The whole life of a dataset, the same for the same seed."""
    plan = plan.months if dataset.monthly and plan.months else plan
    rng = random.Random(f"{seed} {dataset}")
    life, published = Life(dataset, plan), Published()
    spans = _spans(life)
    late = {life.period(day): after for day, after in plan.late.items()}
    life.late = set(late)
    filled, filled_after = plan.filled
    life.hole, life.filled = (HOLED, life.period(plan.hole)), (FILLED, life.period(filled))
    silent = _outage(life, rng)
    usual = {*OTHERS, *plan.new} - {FILLED, HOLED, TAKEN_AWAY, *BACK}
    for symbol, first, last in spans:
        began, ended = START + first * DAY, None if last is None else START + last * DAY
        life.listed.setdefault(symbol, []).append((began, ended))
        if ended:
            life.ended.add(symbol)
        for period in dataset.periods(began, ended or START + (plan.days - 1) * DAY):
            if (symbol, period) == life.hole:
                continue
            come = _published(dataset, period, rng)
            size = rng.randint(20_000, 70_000)
            if period in silent and symbol in silent[period]:
                come = silent[period][symbol]
                life.outage.add((symbol, period))
            elif (symbol, period) == life.filled:
                come += filled_after * DAY
            elif period in late:
                come += late[period] * DAY
            elif symbol in usual and period >= START and rng.random() < 0.006:
                come += rng.randint(1, 12) * DAY
            # The first contract's files came under the plain name, before they moved.
            moves = symbol == RENAMED and come < at(plan.renamed_on, 11)
            published[RELISTED if moves else symbol, period] = come, size
    for (symbol, period), (come, size) in published.items():
        life.events.append(Event(come, symbol, period, size))
    if RENAMED in life.listed:
        _move(life, published)
    _take(life, published)
    _replace(life, published, rng)
    return life


def _spans(life: Life) -> Iterator[tuple[str, int, int | None]]:
    """Symbol, first and last day; of months all began earlier, so that there are enough of them."""
    plan, of_um = life.plan, life.dataset.market == "um"
    ago = 420 if life.dataset.monthly else 60
    for symbol in OLD:
        yield symbol, -1462, None
    for symbol in OTHERS:
        yield symbol, -ago, None
    for symbol, first in plan.new.items():
        yield symbol, first, None
    for symbol, last in plan.ended.items():
        yield symbol, -2 * ago, last
    yield LONG_ENDED, LONG_ENDED_ON - ago, LONG_ENDED_ON
    if of_um:
        listed, delivered = plan.delivery
        yield "ETHUSDT_250328", listed, None
        yield f"BTCUSDT_{START + delivered * DAY:%y%m%d}", -ago, delivered
        yield RENAMED, -ago - 30, plan.renamed_on - 3
        yield RELISTED, plan.renamed_on + 10, None
    else:
        last, after = plan.returning
        yield RETURNING, -ago, last
        yield RETURNING, last + after, None


def _published(dataset: Dataset, period: dt.date, rng: random.Random) -> dt.datetime:
    after = dataset.shift(period, 1)
    if dataset.monthly:
        after += (7 - after.weekday()) % 7 * DAY  # the first Monday
    morning = dt.datetime.combine(after, dt.time(6, 57), dt.UTC)
    return morning + dt.timedelta(seconds=rng.randint(0, 103 * 60))


def _outage(life: Life, rng: random.Random) -> dict[dt.date, dict[str, dt.datetime]]:
    """Period -> symbol -> when its file came at last.

    In spot a third of the symbols stops, in the others more than half.
    """
    (on, dates, comes), dataset = life.plan.outage, life.dataset
    candidates = sorted({*OLD, *OTHERS} - {FILLED, HOLED, TAKEN_AWAY})
    stopped = sorted(rng.sample(candidates, 9 if dataset.market == "spot" else 19))
    if dataset.monthly:
        last = life.period(on)
        periods = [dataset.shift(last, -1), last]
        come = _published(dataset, last, rng) + comes * DAY
    else:
        periods = [START + (on + n) * DAY for n in range(dates)]
        come = at(on + comes, 10)
    return {period: dict.fromkeys(stopped, come) for period in periods}


def _move(life: Life, published: Published) -> None:
    when = at(life.plan.renamed_on, 11)
    for (symbol, period), (come, size) in published.items():
        if symbol == RELISTED and come < when:
            life.moved.add(period)
            life.events.append(Event(when, symbol, period, None))
            life.events.append(Event(when + dt.timedelta(minutes=1), RENAMED, period, size))


def _take(life: Life, published: Published) -> None:
    """Some files go for good, one of them of a symbol that ended; two of them come back."""
    dataset, (day, taken_on), (back_on, back_after) = life.dataset, life.plan.taken, life.plan.back
    file = life.period(day)
    life.taken = [
        (TAKEN_AWAY, dataset.shift(file, -1) if dataset.monthly else file),
        (ENDED_FIRST, max(_periods(published, ENDED_FIRST))),
    ]
    for n, (symbol, period) in enumerate(life.taken):
        when = max(at(taken_on + n, 4), published[symbol, period][0] + DAY)
        life.events.append(Event(when, symbol, period, None))
    for symbol, before in zip(BACK, (5, 35), strict=True):
        period = _came_by(published, symbol, at(back_on - before))
        life.back.append((symbol, period))
        _, size = published[symbol, period]
        life.events.append(Event(at(back_on, 4), symbol, period, None))
        life.events.append(Event(at(back_on + back_after, 13), symbol, period, size))


def _replace(life: Life, published: Published, rng: random.Random) -> None:
    """Files come again: some within the look-back, some long after, one of a symbol that ended.

    Of another size, of another content, or the same: then only the time tells.
    """
    of = [symbol for symbol in OTHERS if symbol not in BACK][3:]
    first, last, ages = life.plan.replaced
    times = [
        (n, rng.choice(of), rng.randint(min(max(first, age), last), last), age)
        for n, age in enumerate(ages)
    ]
    times.append((0, ENDED_SECOND, life.plan.taken[1], 1))
    for n, symbol, day, age in times:
        period = _came_by(published, symbol, at(day - age))
        if (symbol, period) in life.replaced:
            continue
        _, size = published[symbol, period]
        more = rng.randint(1, 900) if n % 3 == 0 else 0
        content = n if n % 3 == 1 else 0
        life.replaced[symbol, period] = "touched" if n % 3 == 2 else "replaced"
        life.events.append(Event(at(day, 13), symbol, period, size + more, content))


def _periods(published: Published, symbol: str) -> Iterable[dt.date]:
    return (period for name, period in published if name == symbol)


def _came_by(published: Published, symbol: str, when: dt.datetime) -> dt.date:
    """The last period whose file was there by then."""
    return max(p for p in _periods(published, symbol) if published[symbol, p][0] <= when)
