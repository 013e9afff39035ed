"""UTC dates: read from what people give, checked, joined to spans and put into words."""

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    import numpy as np

Span = tuple[dt.date, dt.date]
"""First and last date, both included."""

# A union with a name in quotes: `|` would need numpy when this is imported.
DateLike = Union[dt.date, str, "np.datetime64"]
"""A UTC date: a date, text `YYYY-MM-DD`, or a timestamp (`datetime`, pandas', NumPy's).

A timestamp with a time zone counts by its UTC date. One without is taken at midnight only: the
date of any other moment depends on the time zone it was meant in.
"""


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
    raise TypeError(f"{name} must be a date, 'YYYY-MM-DD' or a timestamp, not {said(value)}")


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


AsOf = dt.datetime | dt.date | str
"""A moment: an aware `datetime`, ISO text with its time zone, or a date: its 00:00 UTC."""


def as_moment(value: object, name: str = "as_of") -> dt.datetime:
    """A moment from what people have at hand; see `AsOf`.

    Raises:
        ValueError: the text is neither a date nor a time with its zone, or a `datetime` is naive.
        TypeError: it is none of these.
    """
    if isinstance(value, str) and len(value) > len("YYYY-MM-DD"):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(
                f"{name} {value!r} is not a moment; write it as 2024-03-01T12:00Z, or as a date"
            ) from None
    if isinstance(value, dt.datetime):
        if value != value or not value.tzinfo:
            raise ValueError(f"{name} {value} has no time zone; add Z for UTC, or give a date")
        return value.astimezone(dt.UTC)
    return dt.datetime.combine(as_date(value, name), dt.time(), dt.UTC)


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


def aware(time: dt.datetime) -> dt.datetime:
    """The same instant in UTC.

    Raises:
        ValueError: it has no time zone.
    """
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone; give an aware datetime in UTC")
    return time.astimezone(dt.UTC)


def today_utc() -> dt.date:
    """Today's UTC date."""
    return dt.datetime.now(dt.UTC).date()


def joined(found: Iterable[Span]) -> list[Span]:
    """The same dates in as few spans as possible, in order."""
    merged: list[Span] = []
    for start, end in sorted(found):
        # Ordinals: date.max has no day after it.
        if merged and start.toordinal() <= merged[-1][1].toordinal() + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def spans(dates: Iterable[dt.date]) -> list[Span]:
    """Dates as spans, in order."""
    return joined((date, date) for date in dates)


def span_text(start: dt.date, end: dt.date) -> str:
    """`2024-01-02`, or `2024-01-02 to 2024-01-05`."""
    return f"{start}" if start == end else f"{start} to {end}"


def said(value: object) -> str:
    """A value in an error: short, on one line, with its type."""
    shown = " ".join(repr(value).split())
    if len(shown) > 60:
        shown = f"{shown[:57]}..."
    return shown if value is None else f"{shown} ({type(value).__name__})"
