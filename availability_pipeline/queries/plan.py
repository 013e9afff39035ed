"""Which files to fetch for symbols and dates: monthly ones where they do, daily ones for the rest.

A monthly file stands for its days where it is *out*, *covered* and *whole*, as far as the record
can tell without opening it:

- out: the record has it;
- covered: all of the month is asked for, or all of its days that have a daily file;
- whole: no daily file of the month came or was replaced after it, and it is not much smaller than
  they are together. Monthly files with 7 of 31 days are in the archive (binance-public-data#403,
  #359).

Never both: neither a month and its days, nor, where a mirror holds some of either already, the
other ones.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from availability_pipeline import settings
from availability_pipeline.archive.datasets import (
    CATALOGUE,
    Dataset,
    UnknownDatasetError,
    key_sql,
    select,
)
from availability_pipeline.dates import AsOf, DateLike, Span, as_date, as_range, today_utc
from availability_pipeline.queries.answers import (
    Connection,
    Filter,
    QueryError,
    Rows,
    Texts,
    ask,
    checked,
    find_symbol,
    require_any,
    require_probed,
    say_unknown,
    tables,
    texts,
    unknown_dates,
    with_remedy,
)
from availability_pipeline.record.status import Scope, hexed, recorded_datasets

if TYPE_CHECKING:
    import pandas as pd

WHOLE_SHARE = 0.8
"""A monthly file with less than this share of its daily files' bytes is not whole.

Of one month the same rows compress alike: a month of 1m klines differs from its days by about 1 %,
and the 7 of 31 days that were seen are 23 %."""

TELLING_BYTES = 4096
"""Only daily files of at least this size, on average, tell that.

A 1d kline's daily file is a header, one row and 160 bytes of zip; of 31 of them the month needs a
fifth."""

COLUMNS = ("dataset", "symbol", "period", "key", "url", "file_size_bytes", "etag")


@dataclass(frozen=True)
class Plan(Rows):
    """The files, one row each: dataset, symbol, period, key, url, file_size_bytes, etag.

    Attributes:
        gaps: what of the asked periods has no file, counted: dataset, symbol, status (`pending`,
            `absent` or `unknown`), periods, first, last.
        totals: a row for each dataset: dataset, files, bytes, pending, absent, unknown.
    """

    gaps: Rows = field(default_factory=lambda: Rows((), ()))
    totals: Rows = field(default_factory=lambda: Rows((), ()))

    def frame(self) -> "pd.DataFrame":
        """A frame of the files; `attrs` has `notes`, and `gaps` as a list of dicts."""
        found = super().frame()
        found.attrs["gaps"] = self.gaps.dicts()
        return found


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files: of which datasets, symbols and dates.

    Attributes:
        datasets: names or patterns of recorded datasets; None for the first configured. A daily one
            stands for its monthly files, too.
        start, end: first and last UTC date; None for the first and last that were probed.
        symbols: only these.
        quote_asset, contract_type: only symbols of these.
        live_on: only symbols that have a file of this date.
        monthly: whether monthly files may stand for daily ones.
    """

    datasets: tuple[str, ...] | None = None
    start: dt.date | None = None
    end: dt.date | None = None
    symbols: tuple[str, ...] | None = None
    quote_asset: tuple[str, ...] | None = None
    contract_type: tuple[str, ...] | None = None
    live_on: dt.date | None = None
    monthly: bool = True

    def __post_init__(self) -> None:
        """Refuse a range of which nothing could be."""
        if self.start and self.end:
            as_range(self.start, self.end)


@checked()
def plan(
    con: Connection,
    start: DateLike | None = None,
    end: DateLike | None = None,
    *,
    datasets: Texts = None,
    symbols: Texts = None,
    quote_asset: Texts = None,
    contract_type: Texts = None,
    live_on: DateLike | None = None,
    monthly: bool = True,
    as_of: AsOf | None = None,
) -> Plan:
    """Which files to fetch for symbols and dates; see the module.

    Args:
        con: an open record.
        start: first UTC date; the first probed one when left out.
        end: last UTC date; the last probed one when left out.
        datasets: names or patterns of recorded datasets, as `um/daily/klines/1m`; the first
            configured when left out. A daily one stands for its monthly files, too.
        symbols: one or several; all when left out.
        quote_asset: only symbols quoted in these.
        contract_type: only contracts of these types.
        live_on: only symbols with a file of this UTC date.
        monthly: whether monthly files may stand for daily ones.
        as_of: what the record knew at that moment; see `AsOf`.

    Examples:
        >>> record.plan(symbols=["BTCUSDT"], start="2026-11-22", end="2026-11-23")["key"][0]
        'data/futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2026-11-22.zip'

    Raises:
        NotProbedError: nothing was probed, or `live_on` was not.
        UnknownSymbolError: a symbol is not recorded in any of the datasets.
        QueryError: a dataset is not recorded, or no symbol has that quote asset or contract type.
        ValueError: `end` is before `start`.
    """

    def several(value: Texts) -> tuple[str, ...] | None:
        return None if value is None else tuple(texts(value))

    of = Selection(
        several(datasets),
        None if start is None else as_date(start),
        None if end is None else as_date(end),
        several(symbols),
        several(quote_asset),
        several(contract_type),
        None if live_on is None else as_date(live_on),
        monthly,
    )
    with planned(con, of, as_of=as_of) as found:
        return found.plan()


Held = tuple[str, str, dt.date]
"""Of what a mirror has files: a dataset's name, a symbol, a month's first day."""


class Planned:
    """A plan in the connection's own memory: of 1 M files 60 MB, where Python takes 700.

    Attributes:
        totals: as in `Plan`.
        gaps: likewise.
        notes: likewise.
        files: how many.
        bytes: all together.
        base_url: what a key is put after to make its address.
    """

    def __init__(
        self, con: Connection, datasets: Sequence[Dataset], notes: Sequence[str], base_url: str
    ) -> None:
        self._con, self.base_url = con, base_url
        self._names = {
            "names": [str(one) for one in datasets],
            "markets": [one.market for one in datasets],
            "frequencies": [one.frequency for one in datasets],
            "types": [one.data_type for one in datasets],
            "intervals": [one.interval for one in datasets],
        }
        self.gaps = ask(
            con,
            """SELECT d.name AS dataset, symbol, status, periods, first, last
            FROM plan_gaps g JOIN plan_datasets d USING (n) ORDER BY n, symbol, status""",
        )
        self.totals = ask(
            con,
            """SELECT d.name AS dataset, coalesce(f.files, 0) AS files,
                coalesce(f.bytes, 0)::BIGINT AS bytes, coalesce(g.pending, 0)::BIGINT AS pending,
                coalesce(g.absent, 0)::BIGINT AS absent, coalesce(g.unknown, 0)::BIGINT AS unknown
            FROM plan_datasets d
            LEFT JOIN (SELECT n, count(*) AS files, sum(file_size_bytes) AS bytes
                FROM plan_files WHERE NOT gone GROUP BY n) f USING (n)
            LEFT JOIN (SELECT n, sum(periods) FILTER (status = 'pending') AS pending,
                sum(periods) FILTER (status = 'absent') AS absent,
                sum(periods) FILTER (status = 'unknown') AS unknown
                FROM plan_gaps GROUP BY n) g USING (n)
            ORDER BY n""",
        )
        self.notes = tuple(notes)
        self.files = sum(self.totals.column("files"))
        self.bytes = sum(self.totals.column("bytes"))

    def batches(self, size: int = 10_000) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of `COLUMNS`, about so many at a time, by dataset, symbol and period."""
        # DuckDB makes the whole of an answer before its first row; a range of rows is an answer.
        [(last,)] = self._con.execute("SELECT max(rowid) FROM plan_files").fetchall()
        for first in range(0, (last or 0) + 1, size):
            yield self._con.execute(
                f"""SELECT {_DATASET} AS dataset, symbol, period, {_KEY} AS key,
                    $base || {_ENCODED} AS url, file_size_bytes, {_ETAG} AS etag
                FROM plan_files WHERE NOT gone AND rowid BETWEEN $first AND $last""",
                {"base": self.base_url, "first": first, "last": first + size - 1, **self._names},
            ).fetchall()

    def plan(self) -> Plan:
        """All of it as rows."""
        rows = [row for batch in self.batches() for row in batch]
        return Plan(COLUMNS, rows, self.notes, self.gaps, self.totals)

    def write(self, path: Path) -> None:
        """Write the plan as Parquet: `COLUMNS` without `url`, last_modified, and `gone`.

        `gone` is true of files that vanished from the archive: a mirror keeps and marks them.
        """
        self._con.execute(
            f"""COPY (SELECT {_DATASET} AS dataset, symbol, period, {_KEY} AS key, file_size_bytes,
                    {_ETAG} AS etag, last_modified, gone FROM plan_files)
            TO $path (format parquet, compression zstd)""",
            {"path": str(path), **self._names},
        )


# The rows keep their order and need no memory for a join: a dataset's parts come from lists.
_DATASET = "$names[n + 1]"
_OF = ("$markets[n + 1]", "$frequencies[n + 1]", "$types[n + 1]", "$intervals[n + 1]")
_KEY = key_sql(*_OF, symbol="symbol", period="period")
_ENCODED = key_sql(*_OF, symbol="url_encode(symbol)", period="period")
_ETAG = hexed("etag")


@contextmanager
def planned(
    con: Connection,
    of: Selection,
    *,
    held: Sequence[Held] = (),
    as_of: AsOf | None = None,
    base_url: str | None = None,
) -> Iterator[Planned]:
    """A plan, good inside the block.

    Args:
        con: an open record.
        of: which files.
        held: what a mirror has. A month stays daily or monthly as it was begun.
        as_of: what the record knew at that moment.
        base_url: of the files; AVAILABILITY_DOWNLOAD_URL when left out.

    Raises:
        QueryError: see `plan`.
    """
    base = (settings.load().download_base if base_url is None else base_url).rstrip("/") + "/"
    chosen, notes = _pairs(con, of)
    pairs = [
        _Pair(tables(con, main, as_of), tables(con, months, as_of) if months else None)
        for main, months in chosen
    ]
    scopes = [scope for pair in pairs for scope in pair.scopes]
    if scopes:
        require_any(con, scopes[0])
    symbols, read_as = _symbols(con, scopes, of.symbols)
    notes += read_as
    try:
        _make_tables(con, scopes, held)
        refused: list[QueryError] = []
        for pair in pairs:
            try:
                notes += _fill(con, pair, of, symbols, scopes)
            except QueryError as error:
                # A quote asset that no symbol of one dataset has, one of another may have.
                refused.append(error)
        if len(refused) == len(pairs):
            raise refused[0] if refused else QueryError("no dataset is recorded")
        yield Planned(con, [one.dataset for one in scopes], notes, base)
    finally:
        for table in ("files", "gaps", "datasets", "held", "days", "months"):
            con.execute(f"DROP TABLE IF EXISTS temp.plan_{table}")


@dataclass(frozen=True, slots=True)
class _Pair:
    """A dataset, and the one whose monthly files may stand for its daily ones."""

    main: Scope
    months: Scope | None

    @property
    def scopes(self) -> list[Scope]:
        return [self.main, self.months] if self.months else [self.main]


def _pairs(
    con: Connection, of: Selection
) -> tuple[list[tuple[Dataset, Dataset | None]], list[str]]:
    """The chosen datasets, daily ones with that of their monthly files, and notes."""
    recorded = recorded_datasets(con)
    try:
        chosen = recorded[:1] if of.datasets is None else [
            *select(",".join(of.datasets), among=recorded)
        ]  # fmt: skip
    except UnknownDatasetError as error:
        names = ", ".join(map(str, recorded)) or "none"
        raise QueryError(f"{error}; recorded are {names}") from None
    pairs: list[tuple[Dataset, Dataset | None]] = []
    notes: list[str] = []
    siblings = set()
    for dataset in chosen:
        if not dataset.monthly:
            sibling = Dataset(dataset.market, "monthly", dataset.data_type, dataset.interval)
            pairs.append((dataset, sibling if of.monthly and sibling in recorded else None))
            siblings.add(sibling)
            known = CATALOGUE.get(sibling.kind)
            if of.monthly and sibling not in recorded and known and known.lifecycle == "live":
                notes.append(
                    f"{sibling} is not recorded, so each date is a file of its own; record it, too "
                    "(AVAILABILITY_DATASETS), and a month is one"
                )
    pairs += [(d, None) for d in chosen if d.monthly and (d not in siblings or not of.monthly)]
    return pairs, notes


def _symbols(
    con: Connection, scopes: Sequence[Scope], wanted: Sequence[str] | None
) -> tuple[list[str] | None, list[str]]:
    """The recorded symbols meant, and notes on how they were read."""
    if wanted is None:
        return None, []
    found: list[str] = []
    notes: list[str] = []
    names = {
        name
        for s in scopes
        for name in ask(con, f"SELECT symbol FROM {s.symbols}").column("symbol")
    }
    for symbol in wanted:
        if symbol in names:
            found.append(symbol)
            continue
        known = next((s for s in scopes if _has(con, s, symbol.strip().upper())), scopes[0])
        name, read_as = find_symbol(con, known, symbol)
        found.append(name)
        notes += read_as
    return found, notes


def _has(con: Connection, t: Scope, symbol: str) -> bool:
    return bool(ask(con, f"SELECT 1 FROM {t.symbols} WHERE symbol = ?", [symbol]).rows)


def _make_tables(con: Connection, scopes: Sequence[Scope], held: Sequence[Held]) -> None:
    # Temporary tables live in memory, also on a read-only connection.
    con.execute(
        """CREATE OR REPLACE TEMP TABLE plan_files (n SMALLINT, symbol VARCHAR, period DATE,
        file_size_bytes BIGINT, etag UUID, last_modified TIMESTAMPTZ, gone BOOLEAN)"""
    )
    con.execute(
        """CREATE OR REPLACE TEMP TABLE plan_gaps (n SMALLINT, symbol VARCHAR, status VARCHAR,
        periods BIGINT, first DATE, last DATE)"""
    )
    con.execute("CREATE OR REPLACE TEMP TABLE plan_datasets (n SMALLINT, name VARCHAR)")
    con.executemany(
        "INSERT INTO plan_datasets VALUES (?, ?)",
        [[n, str(s.dataset)] for n, s in enumerate(scopes)],
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE plan_held (dataset VARCHAR, symbol VARCHAR, month DATE)"
    )
    if held:
        # As three lists: a statement a row takes 0.1 ms each, and pandas half a second to import.
        names, symbols, months = map(list, zip(*held, strict=True))
        con.execute(
            "INSERT INTO plan_held SELECT unnest($names), unnest($symbols), unnest($months)",
            {"names": names, "symbols": symbols, "months": months},
        )


def _fill(
    con: Connection,
    pair: _Pair,
    of: Selection,
    symbols: list[str] | None,
    scopes: Sequence[Scope],
) -> list[str]:
    """Put a dataset's files and gaps, and its months', into the tables; returns notes.

    Raises:
        QueryError: a filter fits no symbol of it.
    """
    main, number = pair.main, scopes.index(pair.main)
    start, end = _dates(con, main, of)
    first, last = main.dataset.period_of(start), main.dataset.period_of(end)
    condition, given = _where(con, main, main, of, symbols)
    con.execute("CREATE OR REPLACE TEMP TABLE plan_months (symbol VARCHAR, month DATE)")
    if pair.months:
        of_months = _where(con, pair.months, main, of, symbols)
        _choose_months(con, pair, (condition, given), of_months, (start, end))
    con.execute(
        f"""INSERT INTO plan_files
        SELECT {number}, symbol, date, file_size_bytes, etag, last_modified, false
        FROM {main.files} f WHERE date BETWEEN $first AND $last{condition} AND {_OPEN}
        ORDER BY symbol, date""",
        {"first": first, "last": last} | given,
    )
    if pair.months:
        n = number + 1
        con.execute(
            f"""INSERT INTO plan_files SELECT {n}, symbol, month, file_size_bytes, etag,
                last_modified, false FROM plan_months ORDER BY symbol, month"""
        )
    for n, scope in enumerate(pair.scopes, number):
        where, bound = _where(con, scope, main, of, symbols)
        con.execute(
            f"""INSERT INTO plan_files
            SELECT DISTINCT {n}, symbol, date, NULL::BIGINT, NULL::UUID, NULL::TIMESTAMPTZ, true
            FROM {scope.revisions} r
            WHERE change = 'vanished' AND date BETWEEN $first AND $last{where}
                AND NOT EXISTS (FROM {scope.files} f WHERE f.symbol = r.symbol AND f.date = r.date)
            ORDER BY symbol, date""",
            {"first": scope.dataset.period_of(start), "last": last} | bound,
        )
    con.execute(
        f"""INSERT INTO plan_gaps
        SELECT {number}, symbol, coalesce(c.status, 'unknown') AS status, count(*), min(f.date),
            max(f.date)
        FROM (SELECT symbol, date
            FROM (SELECT symbol FROM {main.symbols} WHERE true{condition})
            CROSS JOIN (SELECT unnest($periods::DATE[]) AS date)) f
        LEFT JOIN {main.cells} c USING (symbol, date)
        WHERE coalesce(c.status, 'unknown') <> 'available' AND {_OPEN} GROUP BY ALL""",
        {"periods": main.dataset.periods(start, end)} | given,
    )
    gaps = unknown_dates(con, main, first, last)
    return [with_remedy(con, main, say_unknown(main, gaps, first, last), gaps)] if gaps else []


# What no chosen month stands for.
_OPEN = """NOT EXISTS (FROM plan_months m
    WHERE m.symbol = f.symbol AND m.month = date_trunc('month', f.date)::DATE)"""


def _dates(con: Connection, t: Scope, of: Selection) -> tuple[dt.date, dt.date]:
    ((first, last),) = ask(con, f"SELECT min(date), max(date) FROM {t.probes}").rows
    if last is not None and t.dataset.monthly:
        last = t.dataset.last_day(last)
    yesterday = today_utc() - dt.timedelta(1)
    start = of.start or first or t.first_period
    end = of.end or last or yesterday
    return start, max(start, end)


def _where(
    con: Connection, t: Scope, main: Scope, of: Selection, symbols: list[str] | None
) -> tuple[str, dict[str, object]]:
    """SQL that restricts `symbol`, to put after a condition, and what it binds."""
    chosen = Filter(of.quote_asset, of.contract_type).chosen(con, t)
    where, args = chosen.where(), dict(chosen.args)
    if symbols is not None:
        where += " AND list_contains($chosen, symbol)"
        args["chosen"] = symbols
    if of.live_on is not None:
        date = main.dataset.period_of(of.live_on)
        require_probed(con, main, date)
        where += f" AND symbol IN (SELECT symbol FROM {main.files} WHERE date = $live_on)"
        args["live_on"] = date
    return where, args


def _choose_months(
    con: Connection,
    pair: _Pair,
    of_days: tuple[str, dict[str, object]],
    of_months: tuple[str, dict[str, object]],
    asked: Span,
) -> None:
    """Table `plan_months`: the monthly files that stand for their days.

    Args:
        con: an open record.
        pair: whose.
        of_days: which symbols, as `_where` says it for daily files.
        of_months: likewise for monthly ones.
        asked: first and last date.
    """
    days, months = pair.main, pair.months
    if months is None:
        return
    start, end = asked
    dates = {
        "start": start, "end": end, "first": months.dataset.period_of(start),
        "last": months.dataset.last_day(months.dataset.period_of(end)),
    }  # fmt: skip
    condition, given = of_days
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE plan_days AS
        SELECT symbol, date_trunc('month', date)::DATE AS month, count(*) AS files,
            count(*) FILTER (date BETWEEN $start AND $end) AS asked, sum(file_size_bytes) AS bytes
        FROM {days.files} WHERE date BETWEEN $first AND $last{condition} GROUP BY ALL""",
        dates | given,
    )
    condition, given = of_months
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE plan_months AS
        SELECT m.symbol, m.date AS month, m.file_size_bytes, m.etag, m.last_modified
        FROM (SELECT * FROM {months.files} WHERE date BETWEEN $first AND $last{condition}) m
        LEFT JOIN plan_days d ON d.symbol = m.symbol AND d.month = m.date
        LEFT JOIN (SELECT symbol, date_trunc('month', date)::DATE AS month,
                max(new_last_modified) AS changed FROM {days.revisions}
            WHERE change IN ('appeared', 'replaced') GROUP BY ALL) r
          ON r.symbol = m.symbol AND r.month = m.date
        LEFT JOIN (SELECT DISTINCT symbol, month FROM plan_held WHERE dataset = $months) hm
          ON hm.symbol = m.symbol AND hm.month = m.date
        LEFT JOIN (SELECT DISTINCT symbol, month FROM plan_held WHERE dataset = $days) hd
          ON hd.symbol = m.symbol AND hd.month = m.date
        WHERE (hm.symbol IS NOT NULL OR (hd.symbol IS NULL AND (
                (m.date >= $start AND last_day(m.date) <= $end)
                OR (d.files IS NOT NULL AND d.files = d.asked))))
            AND (r.changed IS NULL OR r.changed <= m.last_modified)
            AND (d.files IS NULL OR d.bytes < d.files * $telling
                OR m.file_size_bytes >= $share * d.bytes)""",
        dates
        | given
        | {
            "days": str(days.dataset),
            "months": str(months.dataset),
            "telling": TELLING_BYTES,
            "share": WHOLE_SHARE,
        },
    )
