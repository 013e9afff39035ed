"""Messages on their way: what is still to be sent to which target, and when to try again.

The state of alerting lives in the sensor's cursor; here are its values and pure steps on it. Each
target takes its messages in their order: while one waits, those after it wait too, so that
"recovered" never arrives before "failed". A target is known by a slow hash of its address (see
`target_key`), never by its position in the setting, which changes with the setting.
"""

import datetime as dt
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field, ValidationError

from availability_pipeline.alerts.rules import Message, Model, Problem

STALE = dt.timedelta(days=7)
"""Alerts are not sent for what happened in a pause longer than this: the sensor was not defined."""

PATIENCE = dt.timedelta(hours=24)
"""A message that a target did not take for this long is given up, and logged (the sensor)."""

LEAST_TRIES = 10
"""Tries before that, which take two hours: a clock that leaps a day ahead gives nothing up."""

FIRST_PAUSE = dt.timedelta(seconds=30)
LONGEST_PAUSE = dt.timedelta(hours=1)

MAX_QUEUED = 50
"""Messages kept for targets that do not answer; a cursor is not an archive."""

MAX_NEW = 10
"""Messages of one evaluation; what is beyond becomes one message with the titles."""


class Queued(Model):
    """A message that some targets have still to take; `to` are their keys."""

    message: Message
    to: tuple[str, ...]
    since: dt.datetime


class Backoff(Model):
    """A target that did not take its first waiting message: failed tries, and the next one."""

    tries: int
    next_try: dt.datetime


class State(Model):
    """All that alerting remembers between two evaluations.

    Attributes:
        after: the last event that was taken in.
        looked_at: when the last evaluation was, by the clock.
        uptime: the same in seconds that no step of the clock changes, begun again by a reboot.
        problems: what is not well.
        queue: what is to be sent, in order.
        backoffs: of the targets that did not take something.
    """

    after: int
    looked_at: dt.datetime | None = None
    uptime: float | None = None
    problems: dict[str, Problem] = Field(default_factory=dict)
    queue: tuple[Queued, ...] = ()
    backoffs: dict[str, Backoff] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lost:
    """Messages that will not reach a target, or one that did not take a message at first.

    Attributes:
        key: the target.
        titles: of the messages.
        why: `failed` (tried again later), `given_up`, `removed` (the target left the setting) or
            `overflow` (more than MAX_QUEUED waited).
    """

    key: str
    titles: tuple[str, ...]
    why: str


@functools.lru_cache(maxsize=64)
def target_key(url: str) -> str:
    """A target's key: the same for the same address, and not a way back to it.

    Addresses hold passwords that people chose, which a fast hash would let a reader of the cursor
    guess at a billion a second; scrypt takes 0.03 s a guess.
    """
    salt = b"availability alert target"
    return hashlib.scrypt(url.encode(), salt=salt, n=2**13, r=8, p=1, dklen=8).hex()


def load(cursor: str | None, keys: Sequence[str] = ()) -> State | None:
    """The state in a cursor; None where there is none, or one that this version cannot read.

    Args:
        cursor: as Dagster kept it.
        keys: of the targets in the setting, in its order: version 0.1 kept positions in it.
    """
    try:
        stored = json.loads(cursor) if cursor else None
        if not isinstance(stored, dict):
            return None
        for entry in stored.get("queue") or ():
            entry["to"] = [
                keys[to] if isinstance(to, int) and 0 <= to < len(keys) else str(to)
                for to in entry["to"]
            ]
        return State.model_validate(stored)
    except (ValidationError, ValueError, TypeError, KeyError):
        return None


def is_stale(state: State, now: dt.datetime, uptime: float) -> bool:
    """The last evaluation is so long ago that alerts were off: what happened since is not news.

    A clock that leaps ahead, as after a boot with an empty battery, is not a pause: both of them
    must say so, unless the machine was rebooted since.
    """
    if state.looked_at is None:
        return False
    paused = now - state.looked_at
    if state.uptime is not None and uptime >= state.uptime:
        paused = min(paused, dt.timedelta(seconds=uptime - state.uptime))
    return paused > STALE


def enqueue(
    state: State, messages: Sequence[Message], keys: Sequence[str], now: dt.datetime
) -> tuple[State, list[Lost]]:
    """Put new messages behind those that wait, for all targets; bounded at both ends.

    Returns:
        The state, and what is dropped: messages of targets that left the setting, and the oldest
        beyond MAX_QUEUED.
    """
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
    here = set(keys)
    dropped: list[tuple[str, str, str]] = [
        (key, q.message.title, "removed") for q in state.queue for key in q.to if key not in here
    ]
    waiting = [
        q.model_copy(update={"to": tuple(key for key in q.to if key in here)}) for q in state.queue
    ]
    new = [Queued(message=m, to=tuple(dict.fromkeys(keys)), since=now) for m in kept]
    queue = [q for q in [*waiting, *new] if q.to]
    dropped += [(key, q.message.title, "overflow") for q in queue[:-MAX_QUEUED] for key in q.to]
    state = state.model_copy(
        update={
            "queue": tuple(queue[-MAX_QUEUED:]),
            "backoffs": {key: b for key, b in state.backoffs.items() if key in here},
        }
    )
    return state, _lost(dropped)


def due(state: State, now: dt.datetime) -> list[tuple[int, tuple[str, ...]]]:
    """What is to be sent now: positions in the queue, each with the targets to try, in order."""
    # A clock that went backwards must not postpone anything for years.
    resting = {
        key
        for key, backoff in state.backoffs.items()
        if dt.timedelta(0) < backoff.next_try - now <= LONGEST_PAUSE
    }
    found = [
        (n, tuple(key for key in q.to if key not in resting)) for n, q in enumerate(state.queue)
    ]
    return [(n, to) for n, to in found if to]


def settle(
    state: State,
    tried: Sequence[tuple[int, tuple[str, ...]]],
    taken: Sequence[frozenset[str]],
    now: dt.datetime,
) -> tuple[State, list[Lost]]:
    """Take in how a delivery went.

    Args:
        state: as it was.
        tried: from `due`.
        taken: for each of them the targets that took it.
        now: aware.

    Returns:
        The state that is left, and what is to be logged: for each target that failed for the
        first time the message it did not take, and what was given up.
    """
    took = {(n, key) for (n, _), keys in zip(tried, taken, strict=True) for key in keys}
    asked = {(n, key) for n, keys in tried for key in keys}
    backoffs = dict(state.backoffs)
    notes: list[tuple[str, str, str]] = []
    given_up: set[tuple[int, str]] = set()
    for key in dict.fromkeys(key for _, keys in tried for key in keys):
        mine = [n for n, q in enumerate(state.queue) if (n, key) in asked]
        failed = [n for n in mine if (n, key) not in took]
        if not failed:
            backoffs.pop(key, None)
            continue
        progress = len(failed) < len(mine)
        tries = 0 if progress or key not in backoffs else backoffs[key].tries
        pause = min(FIRST_PAUSE * 2 ** min(tries, 10), LONGEST_PAUSE)
        backoffs[key] = Backoff(tries=tries + 1, next_try=now + pause)
        patient = tries + 1 < LEAST_TRIES
        expired = [n for n in failed if now - state.queue[n].since >= PATIENCE and not patient]
        given_up |= {(n, key) for n in expired}
        notes += [(key, state.queue[n].message.title, "given_up") for n in expired]
        if tries == 0 and not expired:
            notes.append((key, state.queue[failed[0]].message.title, "failed"))
    done = took | given_up
    queue = [
        q.model_copy(update={"to": tuple(key for key in q.to if (n, key) not in done)})
        for n, q in enumerate(state.queue)
    ]
    waiting = {key for q in queue for key in q.to}
    left = state.model_copy(
        update={
            "queue": tuple(q for q in queue if q.to),
            "backoffs": {key: b for key, b in backoffs.items() if key in waiting},
        }
    )
    return left, _lost(notes)


def _lost(found: Sequence[tuple[str, str, str]]) -> list[Lost]:
    by_target: dict[tuple[str, str], list[str]] = {}
    for key, title, why in found:
        by_target.setdefault((key, why), []).append(title)
    return [Lost(key, tuple(titles), why) for (key, why), titles in by_target.items()]
