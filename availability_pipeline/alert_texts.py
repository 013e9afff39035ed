"""The words of an alert: what failed, on which dates, what to do, and that it is over.

Belongs here: messages from problems. Does not belong here: whether there is anything to say
(`alert_rules`), what a message is (`alert_events`).
"""

from collections.abc import Iterable, Sequence

from availability_pipeline import PROGRAM
from availability_pipeline.alert_events import (
    ALWAYS,
    CheckPassed,
    Message,
    Problem,
    RunFailed,
    RunSucceeded,
    Span,
    merge_spans,
)
from availability_pipeline.masking import mask

MAX_LINE = 500
"""Characters of an error in a message."""


def dates_text(spans: Iterable[Span], limit: int = 5) -> str:
    """Spans as text: merged, and no more than `limit` of them."""
    merged = merge_spans(spans)
    more = f" and {len(merged) - limit} more" if len(merged) > limit else ""
    return ", ".join(str(span) for span in merged[:limit]) + more


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
                do=_remedy(last.name, problem.held_dates),
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


def _remedy(name: str, spans: Sequence[Span]) -> str:
    if ALWAYS in spans:
        return f"The next run of {name} tries again; the run's log is in the Dagster UI."
    start, end = spans[0].start, spans[-1].end
    command = (
        f"update manual --date {start}" if start == end else f"backfill --start {start} --end {end}"
    )
    return (
        "Nothing: the next scheduled run repairs it. By hand: "
        f"{PROGRAM} {command}"
    )


def recovery_message(problem: Problem, event: RunSucceeded | CheckPassed) -> Message:
    """That all of its failures are over, `event` being the last."""
    name = problem.last.name
    failures = f"{problem.failures} failure{'s' if problem.failures > 1 else ''}"
    if isinstance(event, CheckPassed):
        title, what = f"check {name} recovered", f"it passes again, after {failures}"
    else:
        title = f"{name} recovered"
        what = f"{event.name} succeeded, after {failures}"
    dates = "" if event.span == ALWAYS else str(event.span)
    return Message(
        title=title, body=_lines(what=what, dates=dates, do="Nothing.", run=event.run_id),
        failure=False,
    )  # fmt: skip


def _lines(**parts: str) -> str:
    return "\n".join(f"{name.capitalize()}: {text}" for name, text in parts.items() if text)
