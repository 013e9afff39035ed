"""What is worth a message, and its words: events of runs and checks, what is in trouble, messages.

Pure: `decide` takes what is in trouble and what happened, and returns what is in trouble now and
what is to be said. All of its values live in a sensor's cursor as JSON.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from availability_pipeline import PROGRAM
from availability_pipeline.dates import joined, span_text
from availability_pipeline.masking import mask

MAX_SPANS = 100
"""Dates in trouble are remembered one by one up to here, then as one range from first to last."""


class Model(BaseModel):
    """Values of this module; they live in a sensor's cursor as JSON."""

    model_config = ConfigDict(frozen=True)


class Span(Model):
    """Dates from `start` to `end`, both included; of one `dataset`, or of all."""

    start: dt.date
    end: dt.date
    dataset: str = ""

    def __str__(self) -> str:
        """As people write it."""
        return " ".join(part for part in (self.dataset, self.dates) if part) or "all dates"

    @property
    def dates(self) -> str:
        """The dates alone; empty for all."""
        whole = self.start == ALWAYS.start and self.end == ALWAYS.end
        return "" if whole else span_text(self.start, self.end)

    @property
    def days(self) -> int:
        """How many."""
        return (self.end - self.start).days + 1

    def covers(self, other: "Span") -> bool:
        """Whether all dates of `other` are in it."""
        of_it = self.dataset in ("", other.dataset)
        return of_it and self.start <= other.start and other.end <= self.end


ALWAYS = Span(start=dt.date.min, end=dt.date.max)
"""The span of what is not about certain dates."""


def merge_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same dates in as few spans as possible, at most MAX_SPANS, or one a dataset."""
    of: dict[str, list[tuple[dt.date, dt.date]]] = {}
    for span in spans:
        of.setdefault(span.dataset, []).append((span.start, span.end))
    found = {dataset: joined(some) for dataset, some in of.items()}
    if sum(map(len, found.values())) > MAX_SPANS:
        found = {dataset: [(some[0][0], some[-1][1])] for dataset, some in found.items()}
    return tuple(
        Span(start=start, end=end, dataset=dataset)
        for dataset, some in found.items()
        for start, end in some
    )


class _Run(Model):
    """A run that ended: its dates, and what it is about, as `um/daily/klines`; all without any."""

    run_id: str
    name: str
    span: Span
    datasets: tuple[str, ...] = ()

    @property
    def spans(self) -> tuple[Span, ...]:
        """Its dates, of each of these."""
        return tuple(self.span.model_copy(update={"dataset": d}) for d in self.datasets or ("",))


class RunFailed(_Run):
    """A run ended as failed; `step` is None where none had begun.

    `moving` says that the job probes a window which moves on by a day each day; `option` is what a
    command takes to be about the same datasets.
    """

    step: str | None
    error: str
    moving: bool = False
    option: str = ""


class RunSucceeded(_Run):
    """A run ended well; `steps` are those it ran."""

    steps: frozenset[str]


class CheckFailed(Model):
    """A check failed as an ERROR, on these dates (or on ALWAYS).

    `datasets` are all that it found at fault; none where it is not about datasets.
    """

    run_id: str
    name: str
    spans: tuple[Span, ...]
    datasets: tuple[str, ...] = ()
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


HOLD = dt.timedelta(hours=1)
"""After a message on a failure, the same job's or check's next failures wait this long."""

MAX_PROBLEMS = 50
"""Jobs and checks in trouble that are remembered; the oldest are forgotten first."""


def decide(
    problems: Problems, events: Iterable[Event], now: dt.datetime
) -> tuple[dict[str, Problem], list[Message]]:
    """Take in what happened, oldest first; say what is to be announced.

    Args:
        problems: what the last call returned.
        events: each once.
        now: aware.
    """
    state = dict(problems)
    messages: list[Message] = []
    for event in events:
        match event:
            case RunFailed():
                troubles = [
                    Trouble(span=span, step=event.step, moving=event.moving) for span in event.spans
                ]
                _fail(state, f"job {event.name}", event, troubles)
            case CheckFailed():
                key = f"check {event.name}"
                _forget_others(state, key, event.datasets)
                known = [t.span for t in state[key].troubles] if key in state else []
                new = [s for s in event.spans if not any(k.covers(s) for k in known)]
                if new:
                    _fail(state, key, event, [Trouble(span=span) for span in new])
            case RunSucceeded():
                for key in [k for k in state if k.startswith("job ")]:
                    _recover(state, key, event, messages)
            case CheckPassed():
                if f"check {event.name}" in state:
                    _recover(state, f"check {event.name}", event, messages)
    for key, problem in state.items():
        at = problem.announced_at
        # A clock that went backwards must not hold anything for years.
        if problem.held and (at is None or not dt.timedelta(0) <= now - at < HOLD):
            messages.append(failure_message(problem))
            state[key] = problem.model_copy(
                update={"held": 0, "held_dates": (), "announced_at": now}
            )
    return dict(list(state.items())[-MAX_PROBLEMS:]), messages


def _forget_others(state: dict[str, Problem], key: str, datasets: Sequence[str]) -> None:
    """Drop what a check found of other datasets: they are well, though it has not passed yet."""
    if datasets and key in state:
        left = [t for t in state[key].troubles if t.span.dataset in ("", *datasets)]
        state[key] = state[key].model_copy(update={"troubles": tuple(left)})


def _fail(
    state: dict[str, Problem],
    key: str,
    event: RunFailed | CheckFailed,
    troubles: Sequence[Trouble],
) -> None:
    before = state.pop(key, None) or Problem(troubles=(), last=event)
    state[key] = before.model_copy(
        update={
            "troubles": _bounded([*before.troubles, *troubles]),
            "failures": before.failures + 1,
            "held": before.held + 1,
            "held_dates": merge_spans([*before.held_dates, *(t.span for t in troubles)]),
            "last": event,
        }
    )


def _recover(
    state: dict[str, Problem],
    key: str,
    event: RunSucceeded | CheckPassed,
    messages: list[Message],
) -> None:
    problem = state[key]
    left = tuple(t for t in problem.troubles if not _is_over(t, key, event))
    if left:
        state[key] = problem.model_copy(update={"troubles": left})
        return
    del state[key]
    if problem.announced_at is None:  # it failed and recovered between two looks
        messages.append(failure_message(problem))
    messages.append(recovery_message(problem, event))


def _is_over(trouble: Trouble, key: str, event: RunSucceeded | CheckPassed) -> bool:
    failed = trouble.span
    if isinstance(event, CheckPassed):
        return event.span.covers(failed)
    same_job = key == f"job {event.name}"
    # Of a failed run that does not say what it was about, its step does.
    good = next(
        (one for one in event.spans if one.dataset in ("", failed.dataset) or not failed.dataset),
        None,
    )
    if good is None:
        return False
    covers = good.start <= failed.start and failed.end <= good.end
    if trouble.step is None:
        # It never began. A run without dates says nothing about another job.
        return covers and (same_job or bool(good.dates))
    if trouble.step not in event.steps:
        return False
    # The next look of a window that moves on will do, if it begins where the failed one had not
    # yet ended: its first date is never probed again before Sunday.
    next_look = trouble.moving and same_job and good.start <= failed.end <= good.end
    return next_look or covers


def _bounded(troubles: Sequence[Trouble]) -> tuple[Trouble, ...]:
    unique = tuple(dict.fromkeys(troubles))
    if len(unique) <= MAX_SPANS:
        return unique
    of: dict[str, list[Span]] = {}
    for span in (t.span for t in unique):
        of.setdefault(span.dataset, []).append(span)
    hulls = {
        dataset: Span(
            start=min(s.start for s in some), end=max(s.end for s in some), dataset=dataset
        )
        for dataset, some in of.items()
    }
    bounded = (t.model_copy(update={"span": hulls[t.span.dataset]}) for t in unique)
    return tuple({(t.step, t.span.dataset): t for t in bounded}.values())


MAX_LINE = 500
"""Characters of an error in a message."""


def dates_text(spans: Iterable[Span], limit: int = 5) -> str:
    """Spans as text: merged, and no more than `limit` of them."""
    merged = merge_spans(spans)
    more = f" and {len(merged) - limit} more" if len(merged) > limit else ""
    before = ["", *(span.dataset for span in merged)]
    said = [
        span.dates if span.dataset and span.dataset == last else str(span)
        for span, last in zip(merged[:limit], before, strict=False)
    ]
    return ", ".join(said) + more


def one_line(text: str) -> str:
    """The first line of an error, bounded, with the secrets in its addresses hidden."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = mask(line)
    return line if len(line) <= MAX_LINE else line[: MAX_LINE - 1] + "…"


def failure_message(problem: Problem) -> Message:
    """That a job or check fails, with what was held back since the last message on it."""
    last, dates = problem.last, dates_text(problem.held_dates)
    about = "" if problem.held_dates == (ALWAYS,) else f": {dates_text(problem.held_dates, 2)}"
    if isinstance(last, RunFailed):
        times = "" if problem.held == 1 else f" {problem.held} times"
        return Message(
            title=f"{last.name} failed{times}{about}",
            body=_lines(
                what=f"{problem.held} failed runs" if times else "a run failed",
                dates=dates,
                error=one_line(last.error),
                do=_remedy(last, problem.held_dates),
                run=last.run_id,
            ),
            failure=True,
        )
    return Message(
        title=f"check {last.name} failed{about}",
        body=_lines(
            what=f"the check found {last.observed}",
            dates=dates,
            do=one_line(last.recovery) or "See the check in the Dagster UI.",
            run=last.run_id,
        ),
        failure=True,
    )


def _remedy(last: RunFailed, spans: Sequence[Span]) -> str:
    if not all(span.dates for span in spans):
        return f"The next run of {last.name} tries again; the run's log is in the Dagster UI."
    start, end = min(span.start for span in spans), max(span.end for span in spans)
    alike = {span.dataset for span in spans} == {span.dataset for span in last.spans}
    option = last.option if alike else ""
    command = (
        f"update manual{option} --date {start}"
        if start == end
        else f"backfill{option} --start {start} --end {end}"
    )
    return f"Nothing: the next scheduled run repairs it. By hand: {PROGRAM} {command}"


def recovery_message(problem: Problem, event: RunSucceeded | CheckPassed) -> Message:
    """That all of its failures are over, `event` being the last."""
    name = problem.last.name
    failures = f"{problem.failures} failure{'s' if problem.failures > 1 else ''}"
    if isinstance(event, CheckPassed):
        title, what = f"check {name} recovered", f"it passes again, after {failures}"
    else:
        title = f"{name} recovered"
        what = f"{event.name} succeeded, after {failures}"
    spans = (event.span,) if isinstance(event, CheckPassed) else event.spans
    dates = "" if spans == (ALWAYS,) else dates_text(spans)
    return Message(
        title=title, body=_lines(what=what, dates=dates, do="Nothing.", run=event.run_id),
        failure=False,
    )  # fmt: skip


def _lines(**parts: str) -> str:
    return "\n".join(f"{name.capitalize()}: {text}" for name, text in parts.items() if text)
