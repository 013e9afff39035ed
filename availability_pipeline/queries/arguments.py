"""Check the arguments of the Python interface: one table, an entry for each name.

Every public function of `queries` and `validation` is decorated with `checked`, which looks each
argument up by its name. A wrong type is a `TypeError`, a wrong value a `ValueError`; both are one
line that names the argument, what it was, and what it may be. Nothing is converted here.
"""

import datetime as dt
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import wraps
from typing import ParamSpec, TypeVar, get_args

import duckdb

from availability_pipeline.archive.datasets import FIRST_DATE, ContractType, Dataset
from availability_pipeline.dates import as_date, as_moment, as_range, said

P = ParamSpec("P")
R = TypeVar("R")
Check = Callable[[str, object], None]

CONTRACT_TYPES: tuple[str, ...] = get_args(ContractType)
SNAPSHOT_STATUSES = ("available", "pending", "absent")
STATUSES = (*SNAPSHOT_STATUSES, "unknown")
MOST_DAYS = 10_000


def as_probed_range(
    start: object, end: object, today: dt.date, opened: dt.date = FIRST_DATE
) -> tuple[dt.date, dt.date]:
    """Two dates in order that can be probed: from the market's first to the day before `today`.

    Raises:
        ValueError: as `as_range`; or a date is not of the record, or not over.
        TypeError: as `as_range`.
    """
    first, last = as_range(start, end)
    if first < opened:
        raise ValueError(f"{first} is before {opened}, the first date of the record")
    if last >= today:
        raise ValueError(
            f"{last} is not over; the last whole UTC date is {today - dt.timedelta(1)}"
        )
    return first, last


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
    "as_of": _as_of,
    "threshold": _number(0, 1),
    **dict.fromkeys(("path", "db"), _path),
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
