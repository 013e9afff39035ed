"""400 days in the life of an archive, written down before they happen.

`script(seed)` makes the events of `living_archive` from what the real archive is known to do: files
of a date come the next morning between 06:57 and 08:40 UTC, some days late; on two days nothing
comes for anybody until much later; files are replaced, one is taken away; a symbol is relisted and
its history moves to a `SETTLED` name; symbols are listed and end; one hole is filled after 60 days
and one never. It also says which symbols really were listed on a date, which is what the record's
checks are compared with.
"""

import datetime as dt
import random
from dataclasses import dataclass, field

from benchmarks.living_archive import Event

START = dt.date(2024, 1, 1)
"""First day lived; 2024 has a 29th of February, and the 400 days cross the year's end."""

DAYS = 400
DAY = dt.timedelta(1)

LATE_DAYS = {110: 13, 250: 6}
"""Offset of a date -> days after which its files came, for all symbols at once."""

RELISTED, RENAMED = "AERGOUSDT", "AERGOUSDTSETTLED"
RENAMED_ON, LISTED_AGAIN_ON = 150, 160

FILLED, FILLED_HOLE, FILLED_AFTER = "SOLUSDT", 90, 60
HOLED, HOLE = "NMRUSDT", 75
TAKEN_AWAY, TAKEN_FILE, TAKEN_ON = "LINKUSDT", 262, 300

OLD = ("BTCUSDT", "ETHUSDT")
OTHERS = (
    *(FILLED, HOLED, TAKEN_AWAY, "币安人生USDT", "ETHBTC", "1000PEPEUSDT", "BTCUSDC", "4USDT"),
    *("XRPUSDT", "ADAUSDT", "DOGEUSDT", "TRXUSDT", "AVAXUSDT", "DOTUSDT", "LTCUSDT", "BCHUSDT"),
    *("UNIUSDT", "ATOMUSDT", "ETCUSDT", "XLMUSDT", "FILUSDT", "APTUSDT"),
)
NEW = {"TSLAUSDT": 33, "XAUUSDT": 97, "BTCU": 171, "龙虾USDT": 240, "ETHUSDT_250328": 90}
ENDED = {"MATICUSDT": 61, "FTMUSDT": 188, "BTCUSDT_240927": 270, "EOSUSDT": 345}


@dataclass(frozen=True)
class Life:
    """What happens, and what is true of it.

    Attributes:
        events: everything that happens to files.
        listed: symbol -> (first, last) dates on which it was listed; last is None while it lives.
        replaced: (symbol, date) of files that came a second time.
    """

    events: list[Event]
    listed: dict[str, tuple[dt.date, dt.date | None]] = field(default_factory=dict)
    replaced: list[tuple[str, dt.date]] = field(default_factory=list)

    def listed_on(self, date: dt.date) -> set[str]:
        """Symbols that were really listed on a date, whatever became of their files."""
        return {s for s, (a, b) in self.listed.items() if a <= date and (b is None or date <= b)}


def at(day: int, hour: int = 0, minute: int = 0) -> dt.datetime:
    """An instant of the life, days counted from its start."""
    return dt.datetime.combine(START + day * DAY, dt.time(hour, minute), dt.UTC)


def script(seed: int, days: int = DAYS) -> Life:
    """The whole life, the same for the same seed."""
    rng = random.Random(seed)
    life = Life([])
    published: dict[tuple[str, dt.date], tuple[dt.datetime, int]] = {}
    before = {**dict.fromkeys(OLD, 1462), RELISTED: 90, "MATICUSDT": 120}
    lives: dict[str, tuple[int, int | None]] = {
        **{symbol: (-before.get(symbol, 60), None) for symbol in (*OLD, *OTHERS)},
        **{symbol: (first, None) for symbol, first in NEW.items()},
        **{symbol: (-before.get(symbol, 40), last) for symbol, last in ENDED.items()},
        RENAMED: (-before[RELISTED], RENAMED_ON - 3),
        RELISTED: (LISTED_AGAIN_ON, None),
    }
    for symbol, (first, last) in lives.items():
        life.listed[symbol] = (START + first * DAY, None if last is None else START + last * DAY)
        for day in range(first, (days if last is None else last + 1)):
            if (symbol, day) == (HOLED, HOLE):
                continue
            come = at(day + 1, 6, 57) + dt.timedelta(seconds=rng.randint(0, 103 * 60))
            if day in LATE_DAYS:
                come += LATE_DAYS[day] * DAY
            elif (symbol, day) == (FILLED, FILLED_HOLE):
                come += FILLED_AFTER * DAY
            elif day >= 0 and rng.random() < 0.004:
                come += rng.randint(1, 12) * DAY
            # The first contract's files came under the plain name, before they moved.
            name = RELISTED if symbol == RENAMED else symbol
            published[name, START + day * DAY] = come, rng.randint(20_000, 70_000)
    for (symbol, date), (come, size) in published.items():
        life.events.append(Event(come, symbol, date, size))
    _move(life, published)
    _replace(life, published, rng, days)
    life.events.append(Event(at(TAKEN_ON, 4), TAKEN_AWAY, START + TAKEN_FILE * DAY, None))
    return life


def _move(life: Life, published: dict[tuple[str, dt.date], tuple[dt.datetime, int]]) -> None:
    when = at(RENAMED_ON, 11)
    for (symbol, date), (come, size) in published.items():
        if symbol == RELISTED and come < when:
            life.events.append(Event(when, symbol, date, None))
            life.events.append(Event(when + dt.timedelta(minutes=1), RENAMED, date, size))


def _replace(
    life: Life,
    published: dict[tuple[str, dt.date], tuple[dt.datetime, int]],
    rng: random.Random,
    days: int,
) -> None:
    """Files come again: some within the look-back, some long after."""
    for age in (2, 3, 5, 8, 12, 18, 25, 40, 90, 200):
        if age > days - 30:
            continue
        day = rng.randint(max(20, age), days - 10)
        symbol, date = rng.choice(OTHERS[3:]), START + (day - age) * DAY
        if (symbol, date) not in published:
            date += DAY
        come, size = published[symbol, date]
        life.replaced.append((symbol, date))
        # Some have the same content, which here is the size: only the time tells.
        again = size + (rng.randint(1, 900) if age % 2 else 0)
        life.events.append(Event(max(at(day, 13), come + DAY), symbol, date, again))
