"""Messages on their way: what is still to be sent to which target, and when to try again.

Belongs here: the remembered state of alerting, which lives in the sensor's cursor, and pure steps
on it. Does not belong here: what is worth a message (`alert_rules`), sending (`alert_targets`).
No address is kept, only its position in the setting.
"""

import datetime as dt
from collections.abc import Sequence

from pydantic import Field, ValidationError

from availability_pipeline.alert_events import Message, Model, Problem

PATIENCE = dt.timedelta(hours=24)
"""A message that a target did not take for this long is given up, and logged (`alerts`)."""

FIRST_PAUSE = dt.timedelta(seconds=30)
LONGEST_PAUSE = dt.timedelta(hours=1)

MAX_QUEUED = 50
"""Messages kept for a target that does not answer; a cursor is no archive."""

MAX_NEW = 10
"""Messages of one look; what is beyond becomes one message with the titles."""


class Queued(Model):
    """A message that some targets have still to take; `to` are positions in the setting."""

    message: Message
    to: tuple[int, ...]
    since: dt.datetime
    tries: int = 0
    next_try: dt.datetime


class State(Model):
    """All that alerting remembers between two looks."""

    after: int
    problems: dict[str, Problem] = Field(default_factory=dict)
    queue: tuple[Queued, ...] = ()


def load(cursor: str | None) -> State | None:
    """The state in a cursor; None where there is none, or one that this version cannot read."""
    try:
        return State.model_validate_json(cursor) if cursor else None
    except ValidationError:
        return None


def enqueue(
    queue: Sequence[Queued], messages: Sequence[Message], targets: int, now: dt.datetime
) -> tuple[Queued, ...]:
    """Put new messages behind those that wait, for all targets; bounded at both ends."""
    kept = list(messages[:MAX_NEW])
    if rest := messages[MAX_NEW:]:
        titles = "\n".join(m.title for m in rest[:MAX_QUEUED])
        kept.append(
            Message(
                title=f"and {len(rest)} more messages",
                body=titles,
                failure=any(m.failure for m in rest),
            )
        )
    to = tuple(range(targets))
    # A target that was taken off the setting is waited for no longer.
    waiting = [q.model_copy(update={"to": tuple(p for p in q.to if p < targets)}) for q in queue]
    new = [Queued(message=m, to=to, since=now, next_try=now) for m in kept]
    return tuple([q for q in [*waiting, *new] if q.to][-MAX_QUEUED:])


def due(queue: Sequence[Queued], now: dt.datetime) -> list[int]:
    """Positions in the queue of what is to be tried now."""
    # A clock that went backwards must not postpone anything for years.
    return [n for n, q in enumerate(queue) if not q.since <= now < q.next_try]


def settle(
    queue: Sequence[Queued], tried: Sequence[int], taken: Sequence[frozenset[int]], now: dt.datetime
) -> tuple[tuple[Queued, ...], list[tuple[Queued, bool]]]:
    """Take in how a delivery went.

    Args:
        queue: as it was.
        tried: positions in it that were tried.
        taken: for each of them the targets that took it.
        now: aware.

    Returns:
        The queue that is left, and what is to be logged: messages that failed for the first time
        (False) or for good (True), with `to` being the targets that did not take them.
    """
    results = dict(zip(tried, taken, strict=True))
    left: list[Queued] = []
    notes: list[tuple[Queued, bool]] = []
    for number, entry in enumerate(queue):
        if number not in results:
            left.append(entry)
            continue
        to = tuple(p for p in entry.to if p not in results[number])
        if not to:
            continue
        pause = min(FIRST_PAUSE * 2 ** min(entry.tries, 10), LONGEST_PAUSE)
        late = entry.model_copy(
            update={"to": to, "tries": entry.tries + 1, "next_try": now + pause}
        )
        given_up = now - entry.since >= PATIENCE
        if given_up or entry.tries == 0:
            notes.append((late, given_up))
        if not given_up:
            left.append(late)
    return tuple(left), notes
