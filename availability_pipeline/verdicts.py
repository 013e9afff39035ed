"""The outcome of a service level's rule, and the words that all of them share.

Belongs here: `Verdict` and how offenders, dates and remedies are said. Does not belong here: any
rule (`slo`, `slo_runs`).
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

SAMPLE = 10
"""Offenders a verdict names; `count` always has the whole number."""

PROGRAM = "binance-futures-availability"
REPAIRED_BY_SCHEDULE = (
    "Files that come late are found by the late-arrivals and reconcile schedules."
)


@dataclass(frozen=True)
class Verdict:
    """The outcome of one rule.

    Attributes:
        passed: the rule is kept.
        observed: the number that was judged, in the unit of `threshold`.
        threshold: what it was compared with.
        sample: the first `SAMPLE` offenders; each begins with its date or symbol.
        recovery: what to do if it did not pass.
        severity: what a verdict that did not pass means: `error` is a breach, `warn` is something
            not known yet, or known and not to be mended.
        count: all offenders.
        sample_truncated: `sample` does not name all of them.
        note: what a reader must know beside the numbers; empty when there is nothing.
    """

    passed: bool
    observed: float
    threshold: float
    sample: tuple[str, ...]
    recovery: str
    severity: Literal["error", "warn"] = "error"
    count: int = 0
    sample_truncated: bool = False
    note: str = ""

    @property
    def breached(self) -> bool:
        """It did not pass, and that is a fact and not only a warning."""
        return not self.passed and self.severity == "error"

    @property
    def text(self) -> str:
        """What was found and what to do, in a sentence or two."""
        if self.passed:
            return self.note or "As it should be."
        named = "; ".join(self.sample) + ("; and more" if self.sample_truncated else "")
        found = f"{named} ({self.note})" if named and self.note else named or self.note
        return ". ".join(part for part in (found, self.recovery) if part)


def date_spans(dates: Iterable[dt.date]) -> list[str]:
    """Dates as spans: `2024-01-02` or `2024-01-02 to 2024-01-05`, in order."""
    spans: list[list[dt.date]] = []
    for date in sorted(set(dates)):
        if spans and date - spans[-1][1] == dt.timedelta(1):
            spans[-1][1] = date
        else:
            spans.append([date, date])
    return [f"{a}" if a == b else f"{a} to {b}" for a, b in spans]


def backfill(dates: Sequence[dt.date]) -> str:
    """The command that looks at these dates again, in one run."""
    start, end = (min(dates), max(dates)) if dates else ("FIRST", "LAST")
    return f"`{PROGRAM} backfill --start {start} --end {end}`"


def share(part: int, whole: int) -> float:
    """`part` of `whole`, at most 1; all of nothing is 1."""
    return min(1.0, part / whole) if whole else 1.0


def verdict_on(
    offenders: Sequence[str],
    *,
    observed: float,
    threshold: float,
    recovery: str,
    severity: Literal["error", "warn"] = "error",
    note: str = "",
) -> Verdict:
    """A verdict that passes when there are no offenders."""
    return Verdict(
        passed=not offenders,
        observed=observed,
        threshold=threshold,
        sample=tuple(offenders[:SAMPLE]),
        recovery=recovery,
        severity=severity,
        count=len(offenders),
        sample_truncated=len(offenders) > SAMPLE,
        note=note,
    )
