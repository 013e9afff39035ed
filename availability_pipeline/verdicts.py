"""The outcome of a service level's rule, and the words that all of them share.

Belongs here: `Verdict` and how offenders, dates and remedies are said. Does not belong here: any
rule (`slo`, `slo_runs`).
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from availability_pipeline import PROGRAM

SAMPLE = 10
"""Offenders a verdict names; `count` always has the whole number."""

Fields = Mapping[str, str | int | float | dt.date | dt.datetime]
"""One offender as fields, for programs: numbers, dates, and names from a fixed set."""

_ABOUT_THE_FILE = frozenset({"continuity", "store_matches_dagster"})
REPAIRED_BY_SCHEDULE = (
    "Files that come late are found by the late-arrivals and reconcile schedules."
)


@dataclass(frozen=True)
class Verdict:
    """The outcome of one rule.

    Attributes:
        passed: the rule is kept.
        observed: the number that was judged, in the unit of `threshold`; None where there was
            nothing to judge: it passes, and its outcome is `unknown`.
        threshold: what it was compared with.
        sample: the first `SAMPLE` offenders; each begins with its date or symbol.
        recovery: what to do if it did not pass.
        severity: what a verdict that did not pass means: `error` is a breach, `warn` is something
            not known yet, or known and not to be mended.
        count: all offenders.
        sample_truncated: `sample` does not name all of them.
        note: what a reader must know beside the numbers; empty when there is nothing.
        offenders: the same as `sample`, in its order, as fields.
        acknowledged: what would be an offender, had it not been acknowledged.
    """

    passed: bool
    observed: float | None
    threshold: float
    sample: tuple[str, ...]
    recovery: str
    severity: Literal["error", "warn"] = "error"
    count: int = 0
    sample_truncated: bool = False
    note: str = ""
    offenders: tuple[Fields, ...] = ()
    acknowledged: int = 0

    @property
    def outcome(self) -> Literal["ok", "warn", "breach", "unknown"]:
        """The verdict in one word."""
        if self.passed:
            return "unknown" if self.observed is None else "ok"
        return "breach" if self.severity == "error" else "warn"

    @property
    def remarks(self) -> str:
        """The note, and how many offenders were acknowledged."""
        accepted = f"{self.acknowledged} acknowledged" if self.acknowledged else ""
        return ", ".join(part for part in (self.note, accepted) if part)

    @property
    def breached(self) -> bool:
        """It did not pass, and that is a fact and not only a warning."""
        return not self.passed and self.severity == "error"

    @property
    def text(self) -> str:
        """What was found and what to do, in a sentence or two."""
        if self.passed:
            return self.remarks or "As it should be."
        named = "; ".join(self.sample) + ("; and more" if self.sample_truncated else "")
        said = self.remarks
        found = f"{named} ({said})" if named and said else named or said
        return ". ".join(part for part in (found, self.recovery) if part)


def naming_the_file(name: str, verdict: Verdict, database: Path) -> Verdict:
    """The verdict of the check `name`, with the file in the remedy where it may be a wrong one.

    A missing date and a partition without rows are both what a moved file or a mistyped
    AVAILABILITY_DB looks like: then a backfill would only fill the wrong file.
    """
    if verdict.passed or name not in _ABOUT_THE_FILE:
        return verdict
    recovery = (
        f"Judged was {database}: if the record is another file, correct AVAILABILITY_DB first. "
        f"{verdict.recovery}"
    )
    return replace(verdict, recovery=recovery)


def spans(dates: Iterable[dt.date]) -> list[tuple[dt.date, dt.date]]:
    """Dates as spans: first and last of each, in order."""
    found: list[tuple[dt.date, dt.date]] = []
    for date in sorted(set(dates)):
        if found and date - found[-1][1] == dt.timedelta(1):
            found[-1] = (found[-1][0], date)
        else:
            found.append((date, date))
    return found


def date_spans(dates: Iterable[dt.date]) -> list[str]:
    """Dates as spans: `2024-01-02` or `2024-01-02 to 2024-01-05`, in order."""
    return [f"{a}" if a == b else f"{a} to {b}" for a, b in spans(dates)]


def backfill(dates: Sequence[dt.date]) -> str:
    """The command that looks at these dates again, in one run."""
    start, end = (min(dates), max(dates)) if dates else ("FIRST", "LAST")
    return f"`{PROGRAM} backfill --start {start} --end {end}`"


def acknowledge(date: dt.date, symbol: str | None = None) -> str:
    """The command that acknowledges what is missing on a date."""
    of = f" --symbol {symbol}" if symbol else ""
    return f"`{PROGRAM} slo acknowledge --date {date}{of} --reason TEXT`"


def share(part: int, whole: int) -> float:
    """`part` of `whole`, at most 1; all of nothing is 1."""
    return min(1.0, part / whole) if whole else 1.0


def verdict_on(
    sample: Sequence[str],
    *,
    offenders: Sequence[Fields],
    observed: float | None,
    threshold: float,
    recovery: str,
    severity: Literal["error", "warn"] = "error",
    note: str = "",
    acknowledged: int = 0,
) -> Verdict:
    """A verdict that passes when there are no offenders."""
    return Verdict(
        passed=not sample,
        observed=observed,
        threshold=threshold,
        sample=tuple(sample[:SAMPLE]),
        recovery=recovery,
        severity=severity,
        count=len(sample),
        sample_truncated=len(sample) > SAMPLE,
        note=note,
        offenders=tuple(offenders[:SAMPLE]),
        acknowledged=acknowledged,
    )
