"""Questions about daily volume: a symbol's days, a date's rankings, the top of them.

Ranks are of one quote asset: what is traded in USDT is not compared with what is in BTC (in `cm`,
where that column is in the base asset, of one base asset). Changes are over calendar days; a
contract's history goes on under its settled name. A share is of all that was traded: while a file
of the date is pending, or was not read, it is not known yet, and neither hidden nor guessed.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import duckdb

from availability_pipeline.dates import DateLike, as_date, as_range
from availability_pipeline.queries.answers import (
    Connection,
    NotProbedError,
    QueryError,
    Rows,
    Texts,
    ask,
    checked,
    symbol_among,
    texts,
)
from availability_pipeline.record import outputs
from availability_pipeline.record.volumes import NUMBERS, REMEDY_MISSING

Market = Literal["um", "cm", "spot"]

CHANGES = (1, 7, 14, 30)
"""Calendar days over which the change of a rank is said."""

DAYS = 30
"""The last so many days, of which `days_available` counts those with a row."""

ALL_NAME = "volume-rankings.parquet"
PREDECESSOR_NAME = "volume-rankings-timeseries.parquet"
"""The file's name, columns and types of the predecessor's 1.5, whose readers go on."""

_COLUMNS = ", ".join(NUMBERS)
_RANK_CHANGES = ", ".join(f"rank_change_{n}d" for n in CHANGES)


def pair(column: str) -> str:
    """SQL of what a symbol was called before it was settled; `column` is SQL."""
    return rf"regexp_replace({column}, '(_?SETTLED)+$', '')"


@checked()
def volume(
    con: Connection,
    symbol: str,
    start: DateLike | None = None,
    end: DateLike | None = None,
    *,
    market: Market = "um",
) -> Rows:
    """One symbol's days, of verified files.

    Columns: date, open, high, low, close (in the quote asset), volume (in the base asset; in `cm`
    contracts), quote_volume (in the quote asset; in `cm` in the base asset), trades,
    taker_buy_volume, taker_buy_quote_volume. A date without a row has none: no file, or one that
    was not read yet; a note names the files that were read and not taken.

    Args:
        con: an open file of volumes.
        symbol: which.
        start: first UTC date; the first there is when left out.
        end: last one, likewise.
        market: um, cm or spot.

    Examples:
        >>> record.volume("BTCUSDT", "2026-11-22", "2026-11-23")[["date", "trades"]]
                date   trades
        0 2026-11-22  2408991
        1 2026-11-23  2132555

    Raises:
        UnknownSymbolError: nothing was read of it.
        ValueError: `end` is before `start`.
    """
    first, last = _span(start, end)
    name, notes = _symbol(con, market, symbol)
    found = ask(
        con,
        f"""SELECT date, {_COLUMNS} FROM daily_volume
        WHERE market = $market AND symbol = $symbol AND date BETWEEN $first AND $last
        ORDER BY date""",
        {"market": market, "symbol": name, "first": first, "last": last},
    )
    refused = ask(
        con,
        """SELECT period, problem FROM files f
        WHERE market = $market AND symbol = $symbol AND NOT monthly AND problem IS NOT NULL
            AND period BETWEEN $first AND $last AND NOT EXISTS (SELECT 1 FROM klines k
                WHERE k.market = $market AND k.symbol = $symbol AND k.date = f.period)
        ORDER BY period""",
        {"market": market, "symbol": name, "first": first, "last": last},
    ).rows
    if refused:
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        notes += (f"no row of {refused[0][0]}{more}: its file was not taken, {refused[0][1]}",)
    return Rows(found.columns, found.rows, notes)


@checked()
def rankings(
    con: Connection,
    date: DateLike,
    *,
    quote_asset: Texts = None,
    top: int | None = None,
    market: Market = "um",
) -> Rows:
    """The ranks of one date by quote volume, for each quote asset.

    Columns: rank (dense: equal volumes have one), symbol, quote_asset, quote_volume, share (of the
    date and quote asset, 0 to 1; None while a file of them is pending or was not read), percentile
    (0 is the first, 100 the last), rank_change_1d, _7d, _14d, _30d (rank minus that of so many
    calendar days before: below 0 is a rise; None without one), days_available (of the last 30),
    trades.

    Args:
        con: an open file of volumes.
        date: UTC date.
        quote_asset: only these.
        top: only ranks up to this.
        market: um, cm or spot.

    Examples:
        >>> record.rankings("2026-11-23", quote_asset="USDT", top=3)[["rank", "symbol", "share"]]
           rank   symbol     share
        0     1  ETHUSDT  0.575762
        1     2  BTCUSDT  0.234033
        2     3  SOLUSDT  0.137819

    Raises:
        NotProbedError: no volume of that date was read.
        QueryError: no symbol has that quote asset.
    """
    day = as_date(date)
    _require_read(con, market, day)
    args: dict[str, object] = {
        "market": market, "first": day - dt.timedelta(max(CHANGES)), "last": day,
    }  # fmt: skip
    where = "date = $last"
    if quote_asset is not None:
        where += " AND list_contains($quotes, quote_asset)"
        args["quotes"] = _quotes(con, market, quote_asset)
    if top is not None:
        where += " AND rank <= $top"
        args["top"] = top
    found = ask(
        con,
        f"""SELECT rank, symbol, quote_asset, quote_volume, share, percentile, {_RANK_CHANGES},
            days_available, trades
        FROM ({RANKS}) WHERE {where} ORDER BY quote_asset, rank, symbol""",
        args,
    )
    return Rows(found.columns, found.rows, _lacking(con, market, day))


@dataclass(frozen=True, slots=True)
class Top:
    """Who was in the top of the day before, for each date of a range.

    Attributes:
        unread: the dates of whose day before no volume was read.
        lacking: how many dates there are on whose day before a file is pending or was not read.
    """

    unread: tuple[dt.date, ...]
    lacking: int


def write_top(
    con: Connection, folder: Path, market: str, start: dt.date, end: dt.date, top: int
) -> Top:
    """Write the top of the day before each date as Parquet: `ranked`, `lacking` and `read`.

    No date is judged by what was traded on it. While files of the day before are pending or were
    not read, each may still take a place: a rank is sure only with room for all of them.

    `ranked` has the date, the symbol, the contract it goes on as, and `member`: true, false, or
    NULL where that is not sure. `lacking` has the dates and quote assets that lack files, `read`
    the other dates of the range.
    """
    day = dt.timedelta(1)
    args: dict[str, object] = {"market": market, "first": start - day, "last": end - day}
    of = "FROM lacking WHERE market = $market AND date BETWEEN $first AND $last"
    for name, sql, more in (
        ("read", _READ, {}),
        ("lacking", f"SELECT date + 1 AS date, quote_asset {of}", {}),
        (
            "ranked",
            f"""WITH {_SERIES}, open AS (SELECT date, quote_asset, sum(files) AS files {of}
                GROUP BY ALL)
            SELECT r.date + 1 AS date, symbol, contract,
                CASE WHEN rank > $top THEN false WHEN rank + coalesce(files, 0) <= $top THEN true
                END AS member
            FROM ranked r LEFT JOIN open o ON o.date = r.date AND o.quote_asset = r.quote_asset""",
            {"top": top},
        ),
    ):
        con.execute(
            f"COPY ({sql}) TO $path (format parquet)", args | more | {"path": str(folder / name)}
        )
    read = set(ask(con, _READ, args).column("date"))
    [(lacking,)] = ask(con, f"SELECT count(DISTINCT date) {of}", args).rows
    dates = [start + n * day for n in range((end - start).days + 1)]
    return Top(tuple(date for date in dates if date not in read), lacking)


def unread_text(con: Connection, market: str, top: Top, dates: int) -> str:
    """A sentence on the dates of whose day before nothing was read."""
    named = ", ".join(map(str, top.unread[:3])) + (", ..." if len(top.unread) > 3 else "")
    return (
        f"of {len(top.unread)} of {dates:,} dates no volume of the day before was read ({named})"
        f"{_read_range(con, market)}"
    )


@checked()
def write_rankings(con: Connection, folder: str | Path, now: dt.datetime) -> dict[str, int]:
    """Write all history's rankings as Parquet, one file of all and one as the predecessor's.

    Args:
        con: an open file of volumes.
        folder: made where it is missing; each file is replaced once the new one is whole.
        now: aware; the predecessor's `generation_timestamp`, UTC without a zone.

    Returns:
        Rows by file name.

    Raises:
        QueryError: a file cannot be written.
    """
    folder = Path(folder).expanduser()
    every = {"first": dt.date.min, "last": dt.date.max}
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE every_rank AS {RANKS} LIMIT 0", {"market": ""} | every
    )
    written: dict[str, int] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for market in get_args(Market):
            con.execute(f"INSERT INTO every_rank {RANKS}", {"market": market} | every)
        for name, sql, given in (
            (ALL_NAME, "COPY every_rank TO $path (format parquet, compression zstd)", {}),
            (PREDECESSOR_NAME, _COPY_PREDECESSOR, {"now": now.astimezone(dt.UTC)}),
        ):
            with outputs.replacing(folder / name) as part:
                [(rows,)] = con.execute(sql, {"path": str(part)} | given).fetchall()
            written[name] = rows
    except duckdb.IOException as error:
        raise QueryError(f"cannot write to {folder}: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise QueryError(f"cannot write to {folder}: {error.strerror}") from None
    finally:
        con.execute("DROP TABLE IF EXISTS temp.every_rank")
    return written


# A contract's series goes on under its settled name. Where both names have a row of one date, the
# contract that was listed again and the old one, only the first goes on.
_SERIES = f"""traded AS (
    SELECT market, date, symbol, quote_asset, quote_volume, trades, {pair("symbol")} AS pair
    FROM daily_volume WHERE market = $market AND date BETWEEN $first AND $last
        AND quote_asset IS NOT NULL),
named AS (SELECT * EXCLUDE (pair), CASE WHEN row_number() OVER (
        PARTITION BY date, pair ORDER BY length(symbol), symbol) = 1
        THEN pair ELSE symbol END AS contract FROM traded),
ranked AS (SELECT *, dense_rank() OVER best AS rank, 100 * percent_rank() OVER best AS percentile,
        quote_volume / nullif(sum(quote_volume) OVER (PARTITION BY date, quote_asset), 0) AS share
    FROM named WINDOW best AS (PARTITION BY date, quote_asset ORDER BY quote_volume DESC))"""

_READ = """SELECT DISTINCT date + 1 AS date FROM klines
    WHERE market = $market AND date BETWEEN $first AND $last"""

_BEFORE = f"INTERVAL {DAYS - 1} DAYS"
_CHANGED = ", ".join(f"r.rank - d{n}.rank AS rank_change_{n}d" for n in CHANGES)
_THEN = " ".join(
    f"LEFT JOIN ranked d{n} ON d{n}.contract = r.contract AND d{n}.quote_asset = r.quote_asset"
    f" AND d{n}.date = r.date - {n}"
    for n in CHANGES
)
RANKS = f"""WITH {_SERIES},
counted AS (SELECT *, count(*) OVER (PARTITION BY quote_asset, contract ORDER BY date
        RANGE BETWEEN {_BEFORE} PRECEDING AND CURRENT ROW) AS days_available
    FROM ranked)
SELECT r.market, r.date, r.symbol, r.quote_asset, r.rank, r.quote_volume,
    CASE WHEN l.date IS NULL THEN r.share END AS share, r.percentile,
    {_CHANGED},
    r.days_available, r.trades
FROM counted r LEFT JOIN (SELECT DISTINCT date, quote_asset FROM lacking WHERE market = $market) l
  ON l.date = r.date AND l.quote_asset = r.quote_asset
{_THEN}
ORDER BY r.date, r.quote_asset, r.rank, r.symbol"""
"""SQL of the ranks from `$first` to `$last`; changes of the first dates need the days before."""

_SMALL_CHANGES = ", ".join(f"{c}::SMALLINT AS {c}" for c in _RANK_CHANGES.split(", "))
_COPY_PREDECESSOR = f"""COPY (SELECT date, symbol, rank::SMALLINT AS rank,
    quote_volume AS quote_volume_usdt, trades AS trade_count,
    {_SMALL_CHANGES},
    percentile::FLOAT AS percentile, (100 * share)::FLOAT AS market_share_pct,
    days_available::TINYINT AS days_available, timezone('UTC', $now) AS generation_timestamp
FROM every_rank WHERE market = 'um' AND quote_asset = 'USDT' ORDER BY date, rank, symbol)
TO $path (format parquet, compression snappy)"""


def _span(start: DateLike | None, end: DateLike | None) -> tuple[dt.date, dt.date]:
    return as_range(
        dt.date.min if start is None else as_date(start),
        dt.date.max if end is None else as_date(end),
    )


def _symbol(con: Connection, market: str, symbol: str) -> tuple[str, tuple[str, ...]]:
    names = set(
        ask(con, "SELECT DISTINCT symbol FROM klines WHERE market = ?", [market]).column("symbol")
    )
    if not names:
        raise NotProbedError(f"no volume of {market} was read yet; {REMEDY_MISSING}")
    return symbol_among(names, symbol, f"no volume of {symbol} was read")


def _require_read(con: Connection, market: str, date: dt.date) -> None:
    if ask(con, "SELECT 1 FROM klines WHERE market = ? AND date = ? LIMIT 1", [market, date]).rows:
        return
    raise NotProbedError(f"no volume of {market} was read for {date}{_read_range(con, market)}")


def _read_range(con: Connection, market: str) -> str:
    """Which dates were read, and what to do for more; follows a text on those that were not."""
    [(first, last)] = ask(
        con, "SELECT min(date), max(date) FROM klines WHERE market = ?", [market]
    ).rows
    read = f"; read are {first} to {last}" if first else ""
    return f"{read}; {REMEDY_MISSING.removesuffix(' first')}"


def _quotes(con: Connection, market: str, wanted: Texts) -> list[str]:
    known = ask(
        con,
        """SELECT DISTINCT quote_asset AS it FROM symbols
        WHERE market = ? AND quote_asset IS NOT NULL ORDER BY it""",
        [market],
    ).column("it")
    found = [one.strip().upper() for one in texts(wanted)]
    for one in found:
        if one not in known:
            raise QueryError(f"no symbol of {market} has quote asset {one!r}; there are "
                             f"{', '.join(known)}")  # fmt: skip
    return found


def _lacking(con: Connection, market: str, date: dt.date) -> tuple[str, ...]:
    found = ask(
        con,
        """SELECT coalesce(quote_asset, 'an unknown asset'), files FROM lacking
        WHERE market = ? AND date = ? ORDER BY ALL""",
        [market, date],
    ).rows
    if not found:
        return ()
    said = ", ".join(f"{files} in {quote}" for quote, files in found)
    return (
        f"of {date} files are pending or were not read ({said}): shares are not known yet, and "
        "ranks may change",
    )
