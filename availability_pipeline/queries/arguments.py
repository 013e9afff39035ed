"""Arguments of the Python interface, checked in one place: one table, a name an entry.

Every public function of `queries`, `record` and `validation` is decorated with `checked`, which
looks each argument up by its name. A wrong type is a `TypeError`, a wrong value a `ValueError`;
both are one line that names the argument, what it was, and what it may be. Nothing is converted
here but by `as_date` and `as_range`: the functions get what the caller gave.
"""

import datetime as dt
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar, Union, get_args

import duckdb

from availability_pipeline.archive.datasets import FIRST_DATE, ContractType

if TYPE_CHECKING:
    import numpy as np

P = ParamSpec("P")
R = TypeVar("R")
Check = Callable[[str, object], None]

# A union with a name in quotes: `|` would need numpy when this is imported.
DateLike = Union[dt.date, str, "np.datetime64"]
"""A UTC date: a date, text `YYYY-MM-DD`, or a timestamp (`datetime`, pandas', NumPy's).

A timestamp with a time zone counts by its UTC date. One without is taken at midnight only: the
date of any other moment depends on the time zone it was meant in.
"""

CONTRACT_TYPES: tuple[str, ...] = get_args(ContractType)
SNAPSHOT_STATUSES = ("available", "pending", "absent")
STATUSES = (*SNAPSHOT_STATUSES, "unknown")
MOST_DAYS = 10_000


def as_date(value: object, name: str = "the date") -> dt.date:
    """A UTC date from what people have at hand; see `DateLike`.

    Args:
        value: the date.
        name: what the error calls it.

    Raises:
        ValueError: the text is not YYYY-MM-DD, or a timestamp does not tell its UTC date.
        TypeError: it is neither a date nor text.
    """
    if isinstance(value, dt.datetime):
        return _date_of(value, name)
    if isinstance(value, dt.date):
        return value
    if isinstance(value, str):
        try:
            return dt.datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=dt.UTC).date()
        except ValueError:
            raise ValueError(f"{name} {value!r} is not a date; write it as YYYY-MM-DD") from None
    # By name: numpy takes 0.1 s to import, and who has one of these has imported it.
    if type(value).__module__ == "numpy" and type(value).__name__ == "datetime64":
        return _date_of_numpy(value, name)
    raise TypeError(f"{name} must be a date, 'YYYY-MM-DD' or a timestamp, not {_said(value)}")


def _date_of(value: dt.datetime, name: str) -> dt.date:
    if value != value:
        raise ValueError(f"{name} is NaT, which is not a date")
    if value.tzinfo:
        return value.astimezone(dt.UTC).date()
    if value.time() != dt.time():
        raise ValueError(
            f"{name} {value} has a time but no time zone, so its UTC date is not known; "
            "give a date, or a timestamp with its time zone"
        )
    return value.date()


def _date_of_numpy(value: object, name: str) -> dt.date:
    import numpy as np

    unit, _ = np.datetime_data(value)  # type: ignore[arg-type]
    if unit in {"Y", "M", "W"}:
        raise ValueError(f"{name} {value} is not one day; write it as YYYY-MM-DD")
    moment = value.astype("datetime64[us]").item()  # type: ignore[attr-defined]
    if isinstance(moment, dt.datetime):
        return _date_of(moment, name)
    # None for NaT, a number beyond the year 9999.
    raise ValueError(f"{name} is {value}, which is not a date")


def as_range(start: object, end: object) -> tuple[dt.date, dt.date]:
    """Two dates in order.

    Raises:
        ValueError: one is not a date, or `end` precedes `start`.
        TypeError: one is neither a date nor text.
    """
    first, last = as_date(start, "start"), as_date(end, "end")
    if last < first:
        raise ValueError(f"the end {last} is before the start {first}; swap them")
    return first, last


def as_probed_range(start: object, end: object, today: dt.date) -> tuple[dt.date, dt.date]:
    """Two dates in order that can be probed: from the record's first one to the day before `today`.

    Raises:
        ValueError: as `as_range`; or a date is not of the record, or not over.
        TypeError: as `as_range`.
    """
    first, last = as_range(start, end)
    if first < FIRST_DATE:
        raise ValueError(f"{first} is before {FIRST_DATE}, the first date of the record")
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
            raise TypeError(f"{name} must be one of {', '.join(known)}, not {_said(value)}")
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")

    return check


def _date(name: str, value: object) -> None:
    as_date(value, name)


def _symbol(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, as 'BTCUSDT', not {_said(value)}")
    if not value.strip():
        raise ValueError(f"{name} is empty; give a symbol, as 'BTCUSDT'")


def _some(example: str) -> Check:
    def check(name: str, value: object) -> None:
        entries = list(value) if isinstance(value, list | tuple | AbstractSet) else [value]
        named = [entry for entry in entries if isinstance(entry, str)]
        if len(named) < len(entries):
            raise TypeError(
                f"{name} must be text or a list of texts, as {example}, not {_said(value)}"
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
        raise TypeError(f"{name} must be a whole number, not {_said(value)}")
    if not 1 <= value.__index__() <= MOST_DAYS:
        raise ValueError(f"{name} must be 1 to {MOST_DAYS:,}, not {value}")


def _number(low: float, high: float) -> Check:
    def check(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number, not {_said(value)}")
        if not low <= value <= high:
            raise ValueError(f"{name} must be {low:g} to {high:g}, not {value}")

    return check


def _path(name: str, value: object) -> None:
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, not {_said(value)}")
    if not os.fspath(value):
        raise ValueError(f"{name} is empty; give the path of a file")


def _moment(name: str, value: object) -> None:
    if not isinstance(value, dt.datetime) or value != value or not value.tzinfo:
        raise TypeError(f"{name} must be a datetime with a time zone, not {_said(value)}")


def _connection(name: str, value: object) -> None:
    if not isinstance(value, duckdb.DuckDBPyConnection):
        raise TypeError(
            f"{name} must be a DuckDB connection, as `store.reader` gives, not {_said(value)}; "
            "`queries.open()` answers without one"
        )


def _is_today(name: str, value: object) -> None:
    if not isinstance(value, dt.date) or isinstance(value, dt.datetime):
        raise TypeError(f"{name} must be a datetime.date, not {_said(value)}")


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


def _said(value: object) -> str:
    """A value in an error: short, on one line, with its type."""
    shown = " ".join(repr(value).split())
    if len(shown) > 60:
        shown = f"{shown[:57]}..."
    return shown if value is None else f"{shown} ({type(value).__name__})"
