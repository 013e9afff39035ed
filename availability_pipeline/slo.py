"""Service levels as pure rules: numbers in, `Verdict` out.

Belongs here: what counts as kept or broken, and what to do about it. Does not belong here:
fetching the numbers (`queries`, `checks`) or telling anybody (`alerts`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

SAMPLE = 10
"""Offenders a verdict names; `observed` always has the whole count."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one rule.

    `severity` says what a verdict that did not pass means: `error` is a breach, `warn` is
    something not known yet.
    """

    passed: bool
    observed: float
    threshold: float
    sample: tuple[str, ...]
    recovery: str
    severity: Literal["error", "warn"] = "error"


def uniqueness(duplicates: int) -> Verdict:
    """Each (date, symbol) has one row."""
    return Verdict(
        passed=duplicates == 0,
        observed=duplicates,
        threshold=0,
        sample=(),
        recovery="Backfill the partition: a write replaces all its rows in one transaction.",
    )


def completeness(dates: Sequence[tuple[str, int, int, int]], threshold: float) -> Verdict:
    """Share of the expected symbols that are available, over the worst date.

    Args:
        dates: (date, expected, available, pending) of each date. Dates on which nothing is
            expected (before 2019-12-31) are complete.
        threshold: share needed.

    Returns:
        A verdict whose `observed` is the lowest share. Dates that are short only because files
        are pending make it a warning: they are not late yet.
    """
    shares = {d: (min(1.0, a / e) if e else 1.0, p) for d, e, a, p in dates}
    short = sorted(d for d, (share, _) in shares.items() if share < threshold)
    confirmed = [d for d in short if shares[d][1] == 0]
    return Verdict(
        passed=not short,
        observed=min((share for share, _ in shares.values()), default=1.0),
        threshold=threshold,
        sample=tuple((confirmed or short)[:SAMPLE]),
        recovery="Files that come late are found by the late-arrivals and reconcile schedules.",
        severity="error" if confirmed else "warn",
    )
