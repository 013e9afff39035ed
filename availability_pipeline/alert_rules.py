"""What is worth an alert: pure decisions on what runs and checks did.

Belongs here: events and remembered state in, messages and new state out. Does not belong here:
reading Dagster's history (`alerts`), the values (`alert_events`), the words (`alert_texts`),
sending (`alert_targets`), how messages that could not be sent are kept (`alert_outbox`).

The rules. A failed run, and a check that failed as an ERROR, is announced once. A check that goes
on failing for the same dates is not news; for other dates it is. A failure is over when a later
run succeeds at the same step for all its dates (for a check: when it passes for them); once all
failures of one job or check are over, that is said once. All else is silence. Failures of one job
that follow each other within the hour are announced together, so that a backfill with 300 failed
runs is two or three messages.
"""

import datetime as dt
from collections.abc import Iterable, Sequence

from availability_pipeline.alert_events import (
    ALWAYS,
    MAX_SPANS,
    CheckFailed,
    CheckPassed,
    Event,
    Message,
    Problem,
    Problems,
    RunFailed,
    RunSucceeded,
    Span,
    Trouble,
    merge_spans,
)
from availability_pipeline.alert_texts import failure_message, recovery_message

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
                trouble = Trouble(span=event.span, step=event.step, moving=event.moving)
                _fail(state, f"job {event.name}", event, [trouble])
            case CheckFailed():
                key = f"check {event.name}"
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
    failed, good = trouble.span, event.span
    if isinstance(event, CheckPassed):
        return good.covers(failed)
    same_job = key == f"job {event.name}"
    if trouble.step is None:
        # It never began. A run without dates says nothing about another job.
        return good.covers(failed) and (same_job or good != ALWAYS)
    if trouble.step not in event.steps:
        return False
    # The next look of a window that moves on will do, if it begins where the failed one had not
    # yet ended: its first date is never probed again before Sunday.
    next_look = trouble.moving and same_job and good.start <= failed.end <= good.end
    return next_look or good.covers(failed)


def _bounded(troubles: Sequence[Trouble]) -> tuple[Trouble, ...]:
    unique = tuple(dict.fromkeys(troubles))
    if len(unique) <= MAX_SPANS:
        return unique
    hull = Span(start=min(t.span.start for t in unique), end=max(t.span.end for t in unique))
    return tuple({t.step: t.model_copy(update={"span": hull}) for t in unique}.values())
