"""Daily volume from 1d klines: which files to read, fetched and verified, and what they say.

The past comes from monthly files, where they are out and whole, the last weeks from daily ones
(`queries.plan`). A file is read again once the record has another version of it. What is not taken,
broken or contradicting itself, is named with its version, and not fetched again until it changes; a
month that is not taken is read from its days. So a run needs no memory of the ones before it.
"""

import datetime as dt
from array import array
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from availability_pipeline.archive.datasets import Dataset, key_sql
from availability_pipeline.errors import MissingDatabaseError
from availability_pipeline.mirror import klines
from availability_pipeline.mirror.download import Failure, Options, Progress, download, new_run_id
from availability_pipeline.mirror.sources import SAME_VERSION, daily_of, every_file
from availability_pipeline.mirror.store import FolderStore, scratch
from availability_pipeline.queries.plan import Selection, planned
from availability_pipeline.queries.volume import pair
from availability_pipeline.record import volumes
from availability_pipeline.record.status import hexed, scope

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from duckdb import DuckDBPyConnection

MOST_ROUNDS = 2
"""The second one reads the days of months that were not taken in the first."""


@dataclass
class Done:
    """What an update did.

    Attributes:
        files: files that were read and taken.
        dates: dates of which rows were written.
        rows: how many.
        refused: files that were not taken, and why.
        failed: files that could not be had; the next update tries again.
    """

    files: int = 0
    dates: set[dt.date] = field(default_factory=set)
    rows: int = 0
    refused: list[Failure] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)


def update(
    record: Callable[[], AbstractContextManager["DuckDBPyConnection"]],
    path: Path,
    market: str,
    options: Options,
    *,
    now: Callable[[], dt.datetime],
    start: dt.date | None = None,
    end: dt.date | None = None,
    wait_seconds: float = 60,
    expect: Progress | None = None,
    progress: Progress | None = None,
) -> Done:
    """Read what is new or was replaced, and write it in one transaction a round.

    Args:
        record: opens the record for reading; it is closed again before files are fetched.
        path: the file of volumes.
        market: `um`, `cm` or `spot`.
        options: how to fetch.
        now: the clock, aware UTC.
        start: first date of which files are wanted; None for the first probed. Files that were
            replaced since they were read are read again whatever their date.
        end: last one; None for the last probed.
        wait_seconds: how long to wait for others to let go of a file.
        expect: told how many files and bytes a round fetches, before it does.
        progress: told of files and bytes done.

    Raises:
        MirrorError: the archive answers nothing at all.
        QueryError: daily 1d klines of the market are not recorded.
        StoreError: a file cannot be opened or written.
    """
    done = Done()
    run_id = new_run_id(now())
    for _ in range(MOST_ROUNDS):
        with scratch() as folder:
            work = _Work(folder, path, market, wait_seconds)
            with record() as con:
                work.look(con, Selection((str(daily_of(market)),), start, end))
            wanted, size = work.choose()
            store = FolderStore(folder / "files")
            failed: list[Failure] = []
            if wanted:
                if expect:
                    expect(wanted, size)
                report = download(work.jobs, store, options, now=now, progress=progress)
                if report.interrupted:
                    raise KeyboardInterrupt
                failed = report.failed
            taken, refused = _read(work.named(), store, {one.key for one in failed})
            work.write(taken, refused, now(), run_id)
        done.files += len(taken.sources)
        done.rows += sum(taken.rows)
        done.dates |= taken.dates
        done.refused += [Failure(one.key, why) for one, why in refused]
        done.failed = failed
        if not any(one.dataset.monthly for one, _ in refused):
            break
    return done


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is read.

    Attributes:
        key, dataset, symbol, period, size, etag, last_modified: of the version in the record.
    """

    key: str
    dataset: Dataset
    symbol: str
    period: dt.date
    size: int
    etag: str | None
    last_modified: dt.datetime


@dataclass
class Taken:
    """What files say, by column: 730,000 days as objects took 1.1 GB, so they take 0.1.

    Attributes:
        sources: the files.
        rows: how many days each has.
        columns: `date`, as an ordinal, and the numbers, in order of the files and their days.
    """

    sources: list[Source] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    columns: dict[str, "array[Any]"] = field(
        default_factory=lambda: {
            "date": array("l"),
            **{name: array("q" if name == "trades" else "d") for name in volumes.NUMBERS},
        }
    )

    def add(self, source: Source, days: list[klines.Kline]) -> None:
        """Take a file's days."""
        self.sources.append(source)
        self.rows.append(len(days))
        self.columns["date"].extend(day.date.toordinal() for day in days)
        for n, name in enumerate(volumes.NUMBERS, 1):
            self.columns[name].extend(day[n] for day in days)

    @property
    def dates(self) -> set[dt.date]:
        """Each date there is a row of."""
        return set(map(dt.date.fromordinal, set(self.columns["date"])))


Refused = list[tuple[Source, str]]


def _read(
    sources: Iterator[tuple[Source, list[dt.date]]], store: FolderStore, failed: Collection[str]
) -> tuple[Taken, Refused]:
    """What verified files say, or why they are not taken."""
    taken = Taken()
    refused: Refused = []
    for one, expected in sources:
        if one.key in failed:
            continue
        try:
            content = b"".join(store.chunks(one.key))
            days = klines.read(content, one.dataset, one.period)
            if lost := set(expected).difference(day.date for day in days):
                raise klines.KlineError(
                    f"it lacks {len(lost)} of {len(expected)} dates that have a daily file "
                    f"({min(lost)})"
                )
            taken.add(one, days)
        except klines.KlineError as error:
            refused.append((one, str(error)))
    return taken, refused


_KEY = key_sql(
    "$market", "CASE WHEN monthly THEN 'monthly' ELSE 'daily' END", "'klines'", "'1d'", "symbol",
    "period",
)  # fmt: skip


_NUMBERS = ", ".join(volumes.NUMBERS)


class _Work:
    """One round: what the record says, in files of its own, so that it need not stay open."""

    def __init__(self, folder: Path, path: Path, market: str, wait_seconds: float) -> None:
        self._folder, self._path, self._market, self._wait = folder, path, market, wait_seconds
        self.jobs = folder / "jobs.parquet"

    def look(self, con: "DuckDBPyConnection", of: Selection) -> None:
        """Write down what the record has: all files, those planned, symbols, what is pending."""
        t = scope(con, daily_of(self._market))
        # What `quote_volume` is in; of cm it is the base asset.
        asset = "base_asset" if self._market == "cm" else "quote_asset"
        for name, sql in {
            "every": every_file(con, self._market),
            "symbols": f"SELECT symbol, {asset} AS quote_asset FROM {t.symbols}",
            # Of those that ended nothing is expected: they would be pending on each new date.
            "pending": f"""SELECT date, symbol FROM {t.cells} JOIN {t.listings} USING (symbol)
                WHERE status = 'pending' AND date >= first_available
                    AND (state = 'live' OR date <= last_available)""",
        }.items():
            con.execute(
                f"COPY ({sql}) TO $path (format parquet)", {"path": str(self._folder / name)}
            )
        with planned(con, of, held=self._not_taken(), base_url="") as plan:
            plan.write(self._folder / "plan")

    def _not_taken(self) -> list[tuple[str, str, dt.date]]:
        """Months that were read and not taken: their days are wanted."""
        try:
            with volumes.reader(self._path, self._wait) as con:
                found = con.execute(
                    """SELECT symbol, period FROM files
                    WHERE market = $1 AND monthly AND problem IS NOT NULL""",
                    [self._market],
                ).fetchall()
        except MissingDatabaseError:
            return []
        return [(str(daily_of(self._market)), *row) for row in found]

    def choose(self) -> tuple[int, int]:
        """Write down what is to be fetched, as a plan; how many files and bytes."""
        try:
            with volumes.reader(self._path, self._wait) as con:
                return self._choose(con)
        except MissingDatabaseError:
            with duckdb.connect() as con:
                for statement in volumes.DDL:
                    con.execute(statement)
                return self._choose(con)

    def _choose(self, con: "DuckDBPyConnection") -> tuple[int, int]:
        names = {"market": self._market, "path": str(self.jobs)} | self._paths("every", "plan")
        con.execute(
            f"""COPY (
            WITH seen AS (SELECT * FROM files WHERE market = $market),
            every AS (SELECT * FROM read_parquet($every)),
            wanted AS (
                SELECT a.* FROM every a JOIN read_parquet($plan) p
                  ON p.symbol = a.symbol AND p.period = a.period AND NOT p.gone
                    AND a.monthly = (p.dataset LIKE '%/monthly/%')
                UNION
                SELECT a.* FROM every a SEMI JOIN seen f
                  ON f.monthly = a.monthly AND f.symbol = a.symbol AND f.period = a.period)
            SELECT $market || CASE WHEN monthly THEN '/monthly' ELSE '/daily' END || '/klines/1d'
                AS dataset, symbol, period, {_KEY} AS key, file_size_bytes,
                {hexed("etag")} AS etag, last_modified, false AS gone
            FROM wanted a ANTI JOIN seen f
              ON f.monthly = a.monthly AND f.symbol = a.symbol AND f.period = a.period
                AND {SAME_VERSION}
            ORDER BY ALL) TO $path (format parquet)""",
            names,
        )
        [(wanted, size)] = con.execute(
            "SELECT count(*), coalesce(sum(file_size_bytes), 0)::BIGINT FROM read_parquet($path)",
            {"path": str(self.jobs)},
        ).fetchall()
        return wanted, size

    def named(self) -> Iterator[tuple[Source, list[dt.date]]]:
        """The files that are to be read, in order; of a month its dates with a daily file, too."""
        with duckdb.connect() as con:
            con.execute("SET TimeZone = 'UTC'")
            con.execute(
                """SELECT j.key, j.dataset, j.symbol, j.period, j.file_size_bytes, j.etag,
                    j.last_modified, d.dates
                FROM read_parquet($jobs) j LEFT JOIN (
                    SELECT symbol, date_trunc('month', period)::DATE AS month, list(period) AS dates
                    FROM read_parquet($every) WHERE NOT monthly GROUP BY ALL) d
                  ON d.symbol = j.symbol AND d.month = j.period AND j.dataset LIKE '%/monthly/%'
                ORDER BY j.dataset, j.symbol, j.period""",
                {"jobs": str(self.jobs)} | self._paths("every"),
            )
            while rows := con.fetchmany(2_000):
                for key, dataset, symbol, period, size, etag, modified, dates in rows:
                    of = Dataset.parse(dataset)
                    yield Source(key, of, symbol, period, size, etag, modified), dates or []

    def write(self, taken: Taken, refused: Refused, now: dt.datetime, run_id: str) -> None:
        """Write a round's rows, and what follows from the record, in one transaction."""
        with volumes.writer(self._path, self._wait) as con:
            self._replace(con, taken, refused, now, run_id)
            paths = {"market": self._market}
            con.execute("DELETE FROM symbols WHERE market = $market", paths)
            con.execute(
                """INSERT INTO symbols
                SELECT $market, symbol, quote_asset FROM read_parquet($symbols)""",
                paths | self._paths("symbols"),
            )
            self._forget_moved(con)
            con.execute("DELETE FROM lacking WHERE market = $market", paths)
            con.execute(
                """INSERT INTO lacking
                SELECT $market, l.date, s.quote_asset, count(*) FROM (
                    SELECT date, symbol FROM read_parquet($pending)
                    UNION ALL
                    SELECT period, symbol FROM read_parquet($every) e
                    WHERE NOT monthly AND NOT EXISTS (SELECT 1 FROM klines k
                        WHERE k.market = $market AND k.symbol = e.symbol AND k.date = e.period)) l
                LEFT JOIN (SELECT * FROM symbols WHERE market = $market) s USING (symbol)
                GROUP BY ALL ORDER BY ALL""",
                paths | self._paths("every", "pending"),
            )

    def _replace(
        self, con: "DuckDBPyConnection", taken: Taken, refused: Refused, now: dt.datetime, run: str
    ) -> None:
        import pandas as pd

        looked = [(one, None) for one in taken.sources] + refused
        if not looked:
            return
        files = pd.DataFrame(
            [
                (self._market, one.dataset.monthly, one.symbol, one.period, one.size, one.etag,
                 one.last_modified, why, now, run)
                for one, why in looked
            ],
            columns=["market", "monthly", "symbol", "period", "size", "etag", "last_modified",
                     "problem", "read_at", "run_id"],
        )  # fmt: skip
        con.register("looked", files)
        con.execute(
            """DELETE FROM files f USING looked l WHERE f.market = l.market
              AND f.monthly = l.monthly AND f.symbol = l.symbol AND f.period = l.period::DATE"""
        )
        con.execute(
            """INSERT INTO files SELECT market, monthly, symbol, period, size, etag, last_modified,
                problem, read_at, run_id FROM looked"""
        )
        con.execute(
            """DELETE FROM klines k USING looked l WHERE l.problem IS NULL
              AND k.market = l.market AND k.monthly = l.monthly AND k.symbol = l.symbol
              AND CASE WHEN l.monthly THEN date_trunc('month', k.date)::DATE
                ELSE k.date END = l.period::DATE"""
        )
        con.unregister("looked")
        con.register("taken", _frame(taken))
        con.execute(
            f"""INSERT INTO klines SELECT $market, monthly, symbol,
                DATE '0001-01-01' + (date - 1)::INTEGER, {_NUMBERS}, etag
            FROM taken ORDER BY symbol, date, monthly""",
            {"market": self._market},
        )
        con.unregister("taken")

    def _forget_moved(self, con: "DuckDBPyConnection") -> None:
        """Drop what was read of files that moved to a settled name, once that has the same days.

        Both would be counted. A file that only vanished leaves what it said.
        """
        con.execute(
            """CREATE OR REPLACE TEMP TABLE vanished AS
            SELECT monthly, symbol, period FROM files f WHERE market = $market AND NOT EXISTS (
                SELECT 1 FROM read_parquet($every) e WHERE e.monthly = f.monthly
                    AND e.symbol = f.symbol AND e.period = f.period)""",
            {"market": self._market} | self._paths("every"),
        )
        if con.execute("FROM vanished LIMIT 1").fetchall():
            con.execute(
                f"""DELETE FROM klines USING vanished v
                WHERE klines.market = $market AND klines.monthly = v.monthly
                  AND klines.symbol = v.symbol
                  AND CASE WHEN v.monthly THEN date_trunc('month', klines.date)::DATE
                    ELSE klines.date END = v.period
                  AND EXISTS (SELECT 1 FROM klines o WHERE o.market = $market
                    AND o.date = klines.date AND o.symbol <> klines.symbol
                    AND {pair("o.symbol")} = {pair("klines.symbol")}
                    AND NOT EXISTS (FROM vanished w
                        WHERE w.monthly = o.monthly AND w.symbol = o.symbol))""",
                {"market": self._market},
            )
        con.execute("DROP TABLE vanished")

    def _paths(self, *names: str) -> dict[str, str]:
        return {name: str(self._folder / name) for name in names}


def _frame(taken: Taken) -> "pd.DataFrame":
    import numpy as np
    import pandas as pd

    def repeated(values: list[Any]) -> "np.ndarray[Any, Any]":
        return np.repeat(np.array(values, dtype=object), taken.rows)

    of = taken.sources
    return pd.DataFrame(
        {
            "monthly": repeated([one.dataset.monthly for one in of]).astype(bool),
            "symbol": pd.Categorical(repeated([one.symbol for one in of])),
            "etag": repeated([one.etag for one in of]),
            **{name: np.array(values) for name, values in taken.columns.items()},
        }
    )
