"""A selection as text, for AVAILABILITY_MIRROR, and as JSON, as a mirror remembers it."""

import datetime as dt
import difflib
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, get_args

from availability_pipeline import settings
from availability_pipeline.archive.datasets import ContractType, select
from availability_pipeline.dates import as_date
from availability_pipeline.queries.plan import Selection


def mirrored(configured: settings.Settings) -> Selection:
    """What AVAILABILITY_MIRROR selects: without it the first configured dataset, all of it.

    Raises:
        SettingsError: it is not a selection; one line.
    """
    text = configured.mirror or ""
    try:
        return parsed(text)
    except ValueError as error:
        raise settings.bad("AVAILABILITY_MIRROR", text, str(error)) from None


def parsed(text: str) -> Selection:
    """A selection from words like `datasets=um/daily/klines/1m symbols=BTCUSDT,ETHUSDT`.

    Raises:
        ValueError: one of them is not a word of a selection; the text says how to write it.
    """
    found: dict[str, Any] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if name not in _WORDS:
            near = difflib.get_close_matches(name, _WORDS, n=1, cutoff=0.6)
            nearest = f", the nearest is {near[0]}" if near else ""
            raise ValueError(
                f"{name[:40]!r} is not a word of a selection{nearest}; there are "
                f"{', '.join(_WORDS)}, each followed by = and its value, with spaces between them"
            )
        field, read = _WORDS[name]
        if not equals or not value.strip(","):
            raise ValueError(f"{name} has no value; write {name}=... or leave it out")
        if field in found:
            raise ValueError(f"{name} is given twice; write its values once, with commas")
        found[field] = read(value, name)
    return Selection(**found)


def _several(value: str, name: str) -> tuple[str, ...]:  # noqa: ARG001 - all are called alike
    return tuple(dict.fromkeys(part for part in value.split(",") if part))


def _datasets(value: str, name: str) -> tuple[str, ...]:
    found = _several(value, name)
    for pattern in found:
        select(pattern)  # names the nearest of one that is none
    return found


def _contracts(value: str, name: str) -> tuple[str, ...]:
    found = tuple(one.lower() for one in _several(value, name))
    for one in found:
        if one not in (known := get_args(ContractType)):
            raise ValueError(f"{name}={one[:40]} is not a contract type: {', '.join(known)}")
    return found


def _date(value: str, name: str) -> dt.date:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        raise ValueError(f"{name}={value[:40]} is not a date; write it as YYYY-MM-DD")
    return as_date(value, name)


def _monthly(value: str, name: str) -> bool:
    if value not in ("yes", "no"):
        raise ValueError(f"{name}={value[:40]} is neither yes nor no")
    return value == "no"


_WORDS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "datasets": ("datasets", _datasets),
    "symbols": ("symbols", _several),
    "quote": ("quote_asset", _several),
    "contract_type": ("contract_type", _contracts),
    "live_on": ("live_on", _date),
    "start": ("start", _date),
    "end": ("end", _date),
    "daily_only": ("monthly", _monthly),
}
"""The words, called as the options of `files plan`; each with its field and what reads it."""


def as_dict(of: Selection) -> dict[str, Any]:
    """A selection as JSON keeps it; dates that were left out stay so: they move on."""
    return json.loads(json.dumps(asdict(of), default=str))  # type: ignore[no-any-return]


def from_dict(found: dict[str, Any]) -> Selection:
    """The same back."""
    from pydantic import TypeAdapter

    return TypeAdapter(Selection).validate_python(found)
