"""What every question shares: its arguments checked, a filter of symbols, and rows or an error.

A public function of `queries` or `validation` is decorated with `checked`, which looks each of its
arguments up in `CHECKS` by name. A wrong type is a `TypeError`, a wrong value a `ValueError`; both
are one line that names the argument, what it was, and what it may be.

LookupError
└─ QueryError              the record cannot answer; the text says why, in one line
   ├─ NotProbedError       a date was never probed: unknown, which is not absent
   └─ UnknownSymbolError   no such symbol is recorded; the text names the nearest
"""

import datetime as dt
import inspect
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, get_args

import duckdb

from availability_pipeline import PROGRAM, extras
from availability_pipeline.archive.datasets import CATALOGUE, UM_KLINES_1M, ContractType, Dataset
from availability_pipeline.dates import AsOf, as_date, as_moment, said, today_utc
from availability_pipeline.masking import printable
from availability_pipeline.record import derived, followed
from availability_pipeline.record.status import Scope, recorded_datasets, scope

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

P = ParamSpec("P")
R = TypeVar("R")
Check = Callable[[str, object], None]

Connection = duckdb.DuckDBPyConnection

Texts = str | Sequence[str] | AbstractSet[str] | None
"""A filter: one text, several, or None for all."""

DatasetLike = str | Dataset
"""A dataset or its name, as `um/daily/klines/1m`."""

CONTRACT_TYPES: tuple[str, ...] = get_args(ContractType)
SNAPSHOT_STATUSES = ("available", "pending", "absent")
FRAMES = ("pandas", "arrow", "polars")
STATUSES = (*SNAPSHOT_STATUSES, "unknown")
MOST_DAYS = 10_000

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class QueryError(LookupError):
    """The record cannot answer; the text says why, in one line."""


class NotProbedError(QueryError):
    """The date was never probed: unknown, which is not the same as absent."""


class UnknownSymbolError(QueryError):
    """No such symbol is recorded; the text names the nearest."""


@dataclass(frozen=True)
class Rows:
    """An answer: column names and tuples; `frame()`, `dicts()` and the others are the same.

    `notes` are about the answer as a whole, one sentence each: dates in its range that were never
    probed, a symbol that was read in upper case. The command line prints them on stderr.

    `kinds` says what the values of a column are where its name does not.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    notes: tuple[str, ...] = ()
    kinds: Mapping[str, "Kind | None"] = field(
        default_factory=dict, repr=False, compare=False, kw_only=True
    )

    def dicts(self) -> list[dict[str, Any]]:
        """One dict a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def column(self, name: str) -> list[Any]:
        """The values of one column."""
        n = self.columns.index(name)
        return [row[n] for row in self.rows]

    def frame(self) -> "pd.DataFrame":
        """A pandas frame, one row an entry; `frame.attrs["notes"]` has the notes.

        Dates are `datetime64[us]` (midnight, naive: UTC dates), instants `datetime64[us, UTC]`,
        counts and bytes `Int64`, truths `boolean`, shares `Float64`: these three know <NA>, which
        here means that the record does not say. Prices and volumes are `float64`.
        """
        import pandas as pd

        frame = pd.DataFrame(self.rows, columns=list(self.columns))
        for name in self.columns:
            if kind := self.kind(name):
                dtype = _DTYPES[kind]
                # From Python objects in one step: an object column of None has no other way.
                values: Any = self.column(name)
                if dtype.startswith("datetime64"):
                    values = pd.to_datetime(values, utc=dtype.endswith("UTC]"))
                frame[name] = pd.Series(values, dtype=dtype)
        frame.attrs["notes"] = list(self.notes)
        return frame

    def arrow(self) -> "pa.Table":
        """An Arrow table; its schema's metadata has the notes, as JSON, under `notes`.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        extras.require_library("pyarrow")
        import json

        import pyarrow as pa

        types = {"date": pa.date32(), "instant": pa.timestamp("us", "UTC"), "truth": pa.bool_(),
                 "count": pa.int64(), "price": pa.float64(), "share": pa.float64()}  # fmt: skip
        arrays = []
        for name in self.columns:
            values = self.column(name)
            kind = self.kind(name)
            empty = pa.string() if all(value is None for value in values) else None
            arrays.append(pa.array(values, types[kind] if kind else empty))
        notes = {"notes": json.dumps(self.notes, ensure_ascii=False)}
        return pa.table(arrays, names=list(self.columns), metadata=notes)

    def polars(self) -> "pl.DataFrame":
        """A polars frame. It has no place for the notes: see `notes`.

        Raises:
            MissingExtraError: polars is not installed.
        """
        extras.require_library("polars")
        import polars as pl

        types = {"date": pl.Date(), "instant": pl.Datetime("us", "UTC"), "truth": pl.Boolean(),
                 "count": pl.Int64(), "price": pl.Float64(), "share": pl.Float64()}  # fmt: skip
        series = []
        for name in self.columns:
            values = self.column(name)
            kind = self.kind(name)
            empty = pl.String() if all(value is None for value in values) else None
            series.append(pl.Series(name, values, dtype=types[kind] if kind else empty))
        return pl.DataFrame(series)

    def kind(self, name: str) -> "Kind | None":
        """What a column's values are; None where they need no saying, as texts."""
        return self.kinds[name] if name in self.kinds else _KINDS.get(name)


Kind = Literal["date", "instant", "count", "price", "share", "truth"]

_DTYPES: dict[Kind, str] = {
    "date": "datetime64[us]",
    "instant": "datetime64[us, UTC]",
    "count": "Int64",
    "price": "float64",
    "share": "Float64",
    "truth": "boolean",
}

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(
        ("date", "first_available", "last_available", "first", "last", "first_date", "last_date"),
        "date",
    ),
    **dict.fromkeys(
        ("last_modified", "observed_at", "old_last_modified", "new_last_modified"),
        "instant",
    ),
    **dict.fromkeys(
        ("file_size_bytes", "old_size", "new_size", "status_code", "days_available", "hole_days",
         "available_count", "pending_count", "trades", "rank", "rank_change_1d",
         "rank_change_7d", "rank_change_14d", "rank_change_30d"),
        "count",
    ),
    **dict.fromkeys(
        ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume",
         "taker_buy_quote_volume", "percentile"),
        "price",
    ),
    "share": "share",
    "available": "truth",
}  # fmt: skip


def ask(con: Connection, sql: str, args: Sequence[object] | dict[str, object] = ()) -> Rows:
    """The answer to one statement."""
    cursor = con.execute(sql, args)
    names = tuple(column[0] for column in cursor.description or ())
    return Rows(names, cursor.fetchall())


def instant(microseconds: int | None) -> dt.datetime | None:
    """An aware UTC time. DuckDB takes 2 us to hand out a TIMESTAMPTZ, and 0.1 us an integer."""
    return None if microseconds is None else _EPOCH + dt.timedelta(microseconds=microseconds)


def tables(con: Connection, dataset: DatasetLike | None = None, as_of: AsOf | None = None) -> Scope:
    """The tables that answer: of a dataset, as they are or as they were.

    Args:
        con: an open record.
        dataset: its name; the default one when left out.
        as_of: what the record knew at that moment; see `AsOf`.

    Raises:
        QueryError: the dataset is not recorded.
    """
    wanted = Dataset.parse(dataset) if isinstance(dataset, str) else dataset
    t = scope(con, wanted)
    if wanted is not None and t.id < 0:
        names = ", ".join(map(str, recorded_datasets(con))) or "none"
        raise QueryError(f"{wanted} is not recorded; recorded are {names}")
    return t if as_of is None else derived.scope_at(con, t.dataset, as_moment(as_of))


def find_symbol(con: Connection, t: Scope, symbol: str) -> tuple[str, tuple[str, ...]]:
    """The recorded symbol meant by `symbol`, and notes on how it was read.

    Raises:
        UnknownSymbolError: no such symbol is recorded.
    """
    names = set(ask(con, f"SELECT symbol FROM {t.symbols}").column("symbol"))
    if not names:
        require_any(con, t)
    return symbol_among(names, symbol, f"no symbol {symbol} is recorded")


def symbol_among(names: AbstractSet[str], symbol: str, unknown: str) -> tuple[str, tuple[str, ...]]:
    """The one of `names` meant by `symbol`, and notes on how it was read.

    Raises:
        UnknownSymbolError: none is; the text is `unknown`, with the nearest.
    """
    if symbol in names:
        return symbol, ()
    if (upper := symbol.strip().upper()) in names:
        return upper, (f"{symbol} was read as {upper}: symbols are written in upper case",)
    import difflib

    near = difflib.get_close_matches(upper, sorted(names), n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise UnknownSymbolError(f"{unknown}{hint}")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which symbols an answer is about: those of some quote assets and contract types, or one."""

    quote_asset: Texts = None
    contract_type: Texts = None
    symbol: str | None = None

    def chosen(self, con: Connection, t: Scope) -> "Chosen":
        """Look the words up in the record.

        Raises:
            UnknownSymbolError: `symbol` is not recorded.
            QueryError: no recorded symbol has that quote asset or contract type; names those
                there are.
        """
        args: dict[str, object] = {}
        conditions = []
        if self.quote_asset is not None:
            wanted = [one.strip().upper() for one in texts(self.quote_asset)]
            args["quotes"] = _recorded(con, t, "quote_asset", wanted)
            conditions.append("list_contains($quotes, quote_asset)")
        if self.contract_type is not None:
            wanted = [one.lower() for one in texts(self.contract_type)]
            args["types"] = _recorded(con, t, "contract_type", wanted)
            conditions.append("list_contains($types, contract_type)")
        notes: tuple[str, ...] = ()
        if self.symbol is not None:
            args["symbol"], notes = find_symbol(con, t, self.symbol)
            conditions.append("symbol = $symbol")
        return Chosen(t.symbols, tuple(conditions), args, notes)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A `Filter` as SQL: conditions of our own words only, what the user said bound in `args`."""

    symbols: str
    conditions: tuple[str, ...]
    args: dict[str, object]
    notes: tuple[str, ...]

    def where(self, column: str = "symbol") -> str:
        """SQL that restricts `column` to the symbols, to put after a condition; empty for all."""
        if not self.conditions:
            return ""
        where = " AND ".join(self.conditions)
        return f" AND {column} IN (SELECT symbol FROM {self.symbols} WHERE {where})"


def require_any(con: Connection, t: Scope) -> None:
    """Raise NotProbedError when no date at all was probed."""
    if ask(con, f"SELECT 1 FROM {t.probes} LIMIT 1").rows:
        return
    if t.as_of:
        raise NotProbedError(f"no date of {t.dataset} had been probed by {t.as_of:%Y-%m-%d %H:%M}")
    raise NotProbedError(
        "no date was probed yet, so nothing is known; "
        f"{remedy(con, t, [t.first_period, today_utc() - dt.timedelta(1)])} first"
    )


def require_probed(con: Connection, t: Scope, date: dt.date) -> None:
    """Raise NotProbedError when the date was never probed."""
    if not ask(con, f"SELECT 1 FROM {t.probes} WHERE date = ?", [date]).rows:
        text = f"{t.dataset.text(date)} was not probed: whether files exist is unknown"
        raise NotProbedError(with_remedy(con, t, text, [date]))


def require_range_probed(con: Connection, t: Scope, start: dt.date, end: dt.date) -> None:
    """Raise NotProbedError when a date of the range was never probed."""
    if gaps := unknown_dates(con, t, start, end):
        raise NotProbedError(with_remedy(con, t, say_unknown(t, gaps, start, end), gaps))


def unknown_dates(con: Connection, t: Scope, start: dt.date, end: dt.date) -> list[dt.date]:
    """Dates from `start` to `end` that were never probed, in order."""
    rows = ask(con, f"SELECT date FROM {t.probes} WHERE date BETWEEN ? AND ?", [start, end])
    known = set(rows.column("date"))
    return [period for period in t.dataset.periods(start, end) if period not in known]


def say_unknown(t: Scope, gaps: Sequence[dt.date], start: dt.date, end: dt.date) -> str:
    """A sentence on the dates, or months, of a range that were never probed."""
    text, periods = t.dataset.text, t.dataset.periods(start, end)
    named = ", ".join(map(text, gaps[:3])) + (", ..." if len(gaps) > 3 else "")
    dates = f"{len(periods)} {'months' if t.dataset.monthly else 'dates'}"
    dates += f" from {text(periods[0])} to {text(periods[-1])}"
    return f"{len(gaps)} of {dates} {'was' if len(gaps) == 1 else 'were'} not probed ({named})"


def with_remedy(con: Connection, t: Scope, text: str, gaps: Sequence[dt.date]) -> str:
    """A text on dates that were not probed, with what to do; about the past there is nothing."""
    return text if t.as_of else f"{text}; {remedy(con, t, gaps)}"


def remedy(con: Connection, t: Scope, gaps: Sequence[dt.date], today: dt.date | None = None) -> str:
    """What to do about ascending periods that were never probed: a command that is not refused.

    `today` replaces the clock. A period can be probed once it is over.
    """
    dataset, entry = t.dataset, CATALOGUE.get(t.dataset.kind)
    over = dataset.shift(dataset.period_of(today or today_utc()), -1)
    first, last = max(gaps[0], t.first_period), min(gaps[-1], over)
    if gaps[-1] < t.first_period:
        return f"the record begins with {dataset.text(t.first_period)}, when the market opened"
    if entry and entry.last and first > entry.last:
        return f"the archive has files of {dataset} until {dataset.text(entry.last)} only"
    [(path,)] = con.execute(
        "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchall()
    if path and (copy := followed.read(Path(path))):
        url, path = shlex.quote(printable(copy.url)), shlex.quote(path)
        return (
            f"this is a copy: `{PROGRAM} follow {url} --to {path}` brings what was published since"
        )
    if first > last:
        what = "month" if dataset.monthly else "date"
        return f"a {what} can be probed once it is over, the last one now is {dataset.text(over)}"
    # What is configured by default need not be named.
    only = "" if dataset == UM_KLINES_1M else f" --dataset {dataset}"
    if first == last and not dataset.monthly:
        return f"run `{PROGRAM} update manual --date {first}{only}`"
    return f"run `{PROGRAM} backfill --start {first} --end {dataset.last_day(last)}{only}`"


def _recorded(con: Connection, t: Scope, column: str, wanted: list[str]) -> list[str]:
    rows = ask(con, f"SELECT DISTINCT {column} AS it FROM {t.symbols} WHERE {column} IS NOT NULL")
    known = sorted(rows.column("it"))
    for value in wanted:
        if value not in known:
            require_any(con, t)
            raise QueryError(
                f"no recorded symbol has {column} {value!r}; there are {', '.join(known)}"
            )
    return wanted


def texts(value: object) -> list[str]:
    """One text, or several, as a list."""
    return [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]


def one_of(choices: Iterable[str]) -> Check:
    """A check: the text is one of `choices`."""
    known = tuple(choices)

    def check(name: str, value: object) -> None:
        if not isinstance(value, str):
            raise TypeError(f"{name} must be one of {', '.join(known)}, not {said(value)}")
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")

    return check


def _date(name: str, value: object) -> None:
    as_date(value, name)


def _symbol(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, as 'BTCUSDT', not {said(value)}")
    if not value.strip():
        raise ValueError(f"{name} is empty; give a symbol, as 'BTCUSDT'")


def _sql(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be SQL as text, not {said(value)}")
    if not value.strip():
        raise ValueError(f"{name} is empty; give SQL")


def _anything(_name: str, _value: object) -> None:
    """What the caller names himself: DuckDB judges it."""


def _some(example: str) -> Check:
    def check(name: str, value: object) -> None:
        entries = list(value) if isinstance(value, list | tuple | AbstractSet) else [value]
        named = [entry for entry in entries if isinstance(entry, str)]
        if len(named) < len(entries):
            raise TypeError(
                f"{name} must be text or a list of texts, as {example}, not {said(value)}"
            )
        if not named or not all(entry.strip() for entry in named):
            raise ValueError(f"{name} is empty; give one or more, as {example}, or leave it out")

    return check


_contract_texts = _some("'perpetual' or ['perpetual', 'settled']")


def _contract_type(name: str, value: object) -> None:
    _contract_texts(name, value)
    for entry in texts(value):
        if entry.lower() not in CONTRACT_TYPES:
            raise ValueError(f"{name} must be of {', '.join(CONTRACT_TYPES)}, not {entry!r}")


def _days(name: str, value: object) -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, not {said(value)}")
    if not 1 <= value.__index__() <= MOST_DAYS:
        raise ValueError(f"{name} must be 1 to {MOST_DAYS:,}, not {value}")


def _number(low: float, high: float) -> Check:
    def check(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number, not {said(value)}")
        if not low <= value <= high:
            raise ValueError(f"{name} must be {low:g} to {high:g}, not {value}")

    return check


def _path(name: str, value: object) -> None:
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, not {said(value)}")
    if not os.fspath(value):
        raise ValueError(f"{name} is empty; give the path of a file")


def _moment(name: str, value: object) -> None:
    if not isinstance(value, dt.datetime) or value != value or not value.tzinfo:
        raise TypeError(f"{name} must be a datetime with a time zone, not {said(value)}")


def _dataset(name: str, value: object) -> None:
    if not isinstance(value, str | Dataset):
        raise TypeError(f"{name} must be text, as 'um/daily/klines/1m', not {said(value)}")
    if isinstance(value, str):
        Dataset.parse(value)


def _truth(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {said(value)}")


def _as_of(name: str, value: object) -> None:
    as_moment(value, name)


def _connection(name: str, value: object) -> None:
    if not isinstance(value, duckdb.DuckDBPyConnection):
        raise TypeError(
            f"{name} must be a DuckDB connection, as `record.connection()` gives, not "
            f"{said(value)}; `queries.open()` answers without one"
        )


def _is_today(name: str, value: object) -> None:
    if not isinstance(value, dt.date) or isinstance(value, dt.datetime):
        raise TypeError(f"{name} must be a datetime.date, not {said(value)}")


CHECKS: Mapping[str, Check] = {
    "con": _connection,
    **dict.fromkeys(("date", "start", "end", "since", "start_date", "end_date"), _date),
    "symbol": _symbol,
    "status": one_of(STATUSES),
    "quote_asset": _some("'USDT' or ['USDT', 'USDC']"),
    "contract_type": _contract_type,
    "unknown": one_of(("refuse", "mark")),
    "days": _days,
    "today": _is_today,
    "now": _moment,
    "dataset": _dataset,
    "datasets": _some("'um/daily/klines/1m' or ['um/*', 'spot/daily/trades']"),
    "symbols": _some("'BTCUSDT' or ['BTCUSDT', 'ETHUSDT']"),
    "live_on": _date,
    **dict.fromkeys(("monthly", "runs"), _truth),
    "text": _sql,
    "params": _anything,
    "frames": one_of(FRAMES),
    "market": one_of(("um", "cm", "spot")),
    "top": _days,
    "by": one_of(("volume",)),
    "as_of": _as_of,
    "threshold": _number(0, 1),
    **dict.fromkeys(("path", "db", "folder"), _path),
    "wait_seconds": _number(0, 86_400),
}
"""What each public argument may be, by its name; None is left to parameters whose default it is."""


def checked(**others: Check) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check a public function's arguments before it runs.

    Args:
        others: checks for parameters that take other values here than `CHECKS` says.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        checks = {
            name: (others.get(name) or CHECKS[name], parameter.default)
            for name, parameter in signature.parameters.items()
            if name != "self"
        }

        @wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            for name, value in signature.bind(*args, **kwargs).arguments.items():
                if name != "self":
                    check, default = checks[name]
                    if value is not default:
                        check(name, value)
            return function(*args, **kwargs)

        return wrapper

    return decorate
