"""What alerts are about: events of runs and checks, what is in trouble, messages.

Belongs here: the values, which live in a sensor's cursor as JSON. Does not belong here: what is
worth an alert (`alert_rules`), the words (`alert_texts`).
"""

import datetime as dt
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

MAX_SPANS = 100
"""Dates in trouble are remembered one by one up to here, then as one range from first to last."""


class Model(BaseModel):
    """Values of this module; they live in a sensor's cursor as JSON."""

    model_config = ConfigDict(frozen=True)


class Span(Model):
    """Dates from `start` to `end`, both included."""

    start: dt.date
    end: dt.date

    def __str__(self) -> str:
        """As people write it."""
        if self == ALWAYS:
            return "all dates"
        return str(self.start) if self.start == self.end else f"{self.start} to {self.end}"

    @property
    def days(self) -> int:
        """How many."""
        return (self.end - self.start).days + 1

    def covers(self, other: "Span") -> bool:
        """Whether all dates of `other` are in it."""
        return self.start <= other.start and other.end <= self.end


ALWAYS = Span(start=dt.date.min, end=dt.date.max)
"""The span of what is not about certain dates."""


def merge_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same dates in as few spans as possible, at most MAX_SPANS."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, s.end)):
        last = merged[-1] if merged else None
        # ordinals: date.max has no day after it
        if last and span.start.toordinal() <= last.end.toordinal() + 1:
            merged[-1] = Span(start=last.start, end=max(last.end, span.end))
        else:
            merged.append(span)
    if len(merged) > MAX_SPANS:
        return (Span(start=merged[0].start, end=merged[-1].end),)
    return tuple(merged)


class RunFailed(Model):
    """A run ended as failed; `step` is None where none had begun.

    `moving` says that the job looks at a window which moves on by a day each day.
    """

    run_id: str
    name: str
    span: Span
    step: str | None
    error: str
    moving: bool = False


class RunSucceeded(Model):
    """A run ended well; `steps` are those it ran."""

    run_id: str
    name: str
    span: Span
    steps: frozenset[str]


class CheckFailed(Model):
    """A check failed as an ERROR, on these dates (or on ALWAYS)."""

    run_id: str
    name: str
    spans: tuple[Span, ...]
    observed: str
    recovery: str


class CheckPassed(Model):
    """A check passed for a span."""

    run_id: str
    name: str
    span: Span


Event = RunFailed | RunSucceeded | CheckFailed | CheckPassed


class Trouble(Model):
    """A span that failed, and at which step of the run; `moving` as in RunFailed."""

    span: Span
    step: str | None = None
    moving: bool = False


class Problem(Model):
    """A job or check that is not well: what failed, and what of it was announced."""

    troubles: tuple[Trouble, ...]
    failures: int = 0
    held: int = 0
    held_dates: tuple[Span, ...] = ()
    last: RunFailed | CheckFailed
    announced_at: dt.datetime | None = None


class Message(Model):
    """What is sent; `failure` or `success` decides its colour where a service has one."""

    title: str
    body: str
    failure: bool


Problems = Mapping[str, Problem]
"""By "job NAME" or "check NAME"."""
