"""The checks of daily volume: is it complete, do its sources agree, is it plausible."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.mirror.sources import (
    SAME_VERSION,
    configured_markets,
    daily_of,
    every_file,
)
from availability_pipeline.mirror.store import scratch
from availability_pipeline.quality import rules
from availability_pipeline.quality.rules import Verdict
from availability_pipeline.record import volumes
from availability_pipeline.record.status import scope
from availability_pipeline.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

GRACE = dt.timedelta(hours=1)
"""What was recorded so lately is not missed yet: `volume_sensor` launches a run within this."""


def complete(
    con: "DuckDBPyConnection",
    limits: Settings,
    now: dt.datetime,
    *,
    busy: bool,
    chosen: Sequence[Dataset] | None = None,
) -> Verdict:
    """Whether each recorded daily file of 1d klines has its row, in the record's version.

    Args:
        con: an open record.
        limits: the settings, by which volume is read of at least one market.
        now: aware.
        busy: a run of `volume` is under way.
        chosen: only of these datasets' markets.

    Raises:
        StoreError: the volumes cannot be read.
    """
    found: dict[str, Verdict] = {}
    with scratch() as folder, _opened(limits) as read:
        for market in markets(limits, chosen):
            path = str(folder / market)
            con.execute(
                f"COPY ({every_file(con, market)}) TO $path (format parquet)", {"path": path}
            )
            found[str(daily_of(market))] = _complete(read, market, path, now - GRACE, busy)
    return rules.combined(found)


def matches_monthly(
    con: "DuckDBPyConnection", limits: Settings, chosen: Sequence[Dataset] | None = None
) -> Verdict:
    """Whether a day's daily and monthly file say the same, or it is acknowledged; as `complete`."""
    found: dict[str, Verdict] = {}
    with _opened(limits) as read:
        for market in markets(limits, chosen):
            daily = daily_of(market)
            t = scope(con, daily)
            args = {"market": market}
            [(compared,)] = read.execute(f"SELECT count(*) FROM ({_BOTH})", args).fetchall()
            # As lists, for the two files are not open in one connection.
            said = con.execute(
                f"""SELECT coalesce(list(date), []), coalesce(list(symbol), []),
                    coalesce(list(acknowledged_at), [])
                FROM {t.acknowledgements} WHERE symbol IS NOT NULL"""
            ).fetchall()[0]
            args |= dict(zip(("dates", "symbols", "instants"), said, strict=True))
            [(accepted,)] = read.execute(
                f"SELECT count(*) FROM ({_DIFFERENT}) WHERE accepted", args
            ).fetchall()
            rows = read.execute(_DIFFER, args | {"named": rules.SAMPLE + 1}).fetchall()
            found[str(daily)] = rules.volume_matches_monthly(
                [rules.Difference(*row[:-1]) for row in rows],
                rows[0][-1] if rows else 0,
                compared,
                accepted,
                rules.Subject(daily, named=True),
            )
    return rules.combined(found)


def differing(
    limits: Settings, dataset: Dataset, dates: Sequence[dt.date]
) -> set[tuple[dt.date, str]]:
    """The symbols, on these dates, of which a daily and a monthly file were read that differ.

    Nothing of a dataset that is not the daily 1d klines of a configured market.

    Raises:
        StoreError: the volumes cannot be read.
    """
    if dataset not in map(daily_of, markets(limits)):
        return set()
    with _opened(limits) as con:
        return set(
            con.execute(
                f"""SELECT date, symbol FROM ({_BOTH})
                WHERE ({_ANY}) AND list_contains($dates, date)""",
                {"market": dataset.market, "dates": list(dates)},
            ).fetchall()
        )


def plausible(
    limits: Settings, now: dt.datetime, chosen: Sequence[Dataset] | None = None
) -> Verdict:
    """Whether no volume of the last days jumps beyond what is usual; as `complete`."""
    found: dict[str, Verdict] = {}
    since = now.astimezone(dt.UTC).date() - dt.timedelta(rules.VOLUME_DAYS)
    with _opened(limits) as con:
        for market in markets(limits, chosen):
            args = {"market": market, "since": since}
            [(judged,)] = con.execute(f"SELECT count(*) FROM ({_JUDGED})", args).fetchall()
            rows = con.execute(
                f"""SELECT date, symbol, quote_volume, usual, source FROM ({_JUDGED})
                WHERE quote_volume > $jump * usual OR quote_volume * $jump < usual
                ORDER BY date, symbol""",
                args | {"jump": rules.VOLUME_JUMP},
            ).fetchall()
            jumps = [
                rules.Jump(date, symbol, volume, usual, _key(source, symbol, date))
                for date, symbol, volume, usual, source in rows
            ]
            found[str(daily_of(market))] = rules.volume_plausible(jumps, judged)
    return rules.combined(found)


def markets(limits: Settings, chosen: Sequence[Dataset] | None = None) -> list[str]:
    """The markets that are judged."""
    return [
        market
        for market in configured_markets(limits)
        if chosen is None or daily_of(market) in chosen
    ]


@contextmanager
def _opened(limits: Settings) -> Iterator["DuckDBPyConnection"]:
    """The file of volumes; an empty one where nothing was read yet."""
    if limits.volume_path.exists():
        with volumes.reader(limits.volume_path, limits.db_wait_seconds) as con:
            yield con
        return
    with duckdb.connect() as con:
        for statement in volumes.DDL:
            con.execute(statement)
        yield con


# A version that was refused leaves what an earlier one said: so the version decides, not the row.
_FILES = f"""SELECT a.period, a.symbol, a.monthly, f.problem,
    CASE WHEN f.symbol IS NOT NULL AND NOT {SAME_VERSION} THEN 'replaced'
        WHEN f.problem IS NOT NULL THEN 'refused'
        WHEN k.symbol IS NULL AND NOT a.monthly THEN 'missing' ELSE 'read' END AS state,
    state IN ('missing', 'replaced') AND a.recorded_at > $lately AS not_yet
FROM read_parquet($every) a
LEFT JOIN (SELECT * FROM files WHERE market = $market) f
  ON f.monthly = a.monthly AND f.symbol = a.symbol AND f.period = a.period
LEFT JOIN (SELECT DISTINCT symbol, date FROM klines WHERE market = $market) k
  ON k.symbol = a.symbol AND k.date = a.period AND NOT a.monthly"""

# Of what differs, the first few, and how many there are.
_NUMBERS = ", ".join(
    f"{{'name': '{name}', 'daily': d_{name}::DOUBLE, 'monthly': m_{name}::DOUBLE}}"
    for name in volumes.NUMBERS
)
_EACH = ", ".join(f"d.{name} AS d_{name}, m.{name} AS m_{name}" for name in volumes.NUMBERS)
_BOTH = f"""SELECT d.date, d.symbol, {_EACH}
FROM klines d JOIN klines m ON m.market = d.market AND m.symbol = d.symbol AND m.date = d.date
WHERE d.market = $market AND NOT d.monthly AND m.monthly"""
_ANY = " OR ".join(f"d_{name} <> m_{name}" for name in volumes.NUMBERS)
# An acknowledgement is of the two files that were read by then, and of no later versions.
_DIFFERENT = f"""SELECT b.*, EXISTS (
        FROM (SELECT unnest($dates) AS date, unnest($symbols) AS symbol, unnest($instants) AS at) k
        WHERE k.date = b.date AND k.symbol = b.symbol AND k.at >= (
            SELECT max(read_at) FROM files f WHERE f.market = $market AND f.symbol = b.symbol
                AND f.period = CASE WHEN f.monthly THEN date_trunc('month', b.date) ELSE b.date END
        )) AS accepted
    FROM ({_BOTH}) b WHERE {_ANY}"""
_DIFFER = f"""SELECT date, symbol, n.name, n.daily, n.monthly, count(*) OVER ()
FROM (SELECT date, symbol, unnest([{_NUMBERS}]) AS n FROM ({_DIFFERENT}) WHERE NOT accepted)
WHERE n.daily <> n.monthly ORDER BY date, symbol, n.name LIMIT $named"""

# A day without any volume is a state and not a jump, of contracts that were delisted on each day;
# and it says nothing of what is usual.
_JUDGED = f"""SELECT * FROM (
    SELECT date, symbol, quote_volume, source, median(quote_volume) OVER before AS usual,
        count(*) OVER before AS days
    FROM daily_volume WHERE market = $market AND quote_volume > 0
        AND date >= $since - {rules.VOLUME_DAYS}
    WINDOW before AS (PARTITION BY symbol ORDER BY date
        RANGE BETWEEN INTERVAL {rules.VOLUME_DAYS} DAYS PRECEDING AND INTERVAL 1 DAY PRECEDING))
WHERE date >= $since AND days >= {rules.VOLUME_MIN_DAYS}"""


def _complete(
    con: "DuckDBPyConnection",
    market: str,
    every: str,
    lately: dt.datetime,
    busy: bool,
) -> Verdict:
    args = {"market": market, "every": every, "lately": lately}
    counted = con.execute(
        f"SELECT state, monthly, not_yet, count(*) FROM ({_FILES}) GROUP BY ALL", args
    ).fetchall()
    rows = con.execute(
        f"""SELECT period, symbol, state, coalesce(problem, '') FROM ({_FILES})
        WHERE state <> 'read' AND NOT not_yet AND NOT (monthly AND state = 'refused')
        QUALIFY row_number() OVER (PARTITION BY state ORDER BY period, symbol) <= $named""",
        args | {"named": rules.SAMPLE + 1},
    ).fetchall()
    counts: Counter[str] = Counter()
    months = files = whole = 0
    for state, monthly, not_yet, count in counted:
        if monthly and state == "refused":
            months += count  # its days are wanted as daily files, and missing where they are not
        elif state != "read" and not not_yet:
            counts[state] += count
        if not monthly:
            files += count
            whole += count if state == "read" else 0
    return rules.volume_complete(
        [rules.UnreadFile(*row) for row in rows],
        counts,
        files,
        whole=whole,
        asset=f"{market}/daily_volume",
        other_months=months,
        under_way=busy,
    )


def _key(source: str, symbol: str, date: dt.date) -> str:
    dataset = Dataset.parse(source)
    return dataset.key(symbol, dataset.period_of(date))
