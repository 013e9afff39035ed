"""The mark of a mirror run: several processes, or machines, fetch one plan into one place.

They share no lock, so the run that planned leaves `.manifest/running.json` until its end, and each
worker renews it. A run that was killed leaves the mark: who can tell that the run has ended takes
the place over at once, anybody else after HELD_MINUTES.
"""

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from availability_pipeline.errors import MirrorError
from availability_pipeline.mirror.store import MANIFEST, Store

RUNNING = f"{MANIFEST}/running.json"

HELD_MINUTES = 60
"""So long without a sign of life; each worker gives one a minute."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Whose the mirror is.

    Attributes:
        run: the run that planned.
        until: then anybody may take it over, aware UTC.
    """

    run: str
    until: dt.datetime


def read(store: Store) -> Mark | None:
    """The mark of a mirror, if there is a legible one."""
    content = store.read(RUNNING)
    if content is None:
        return None
    try:
        found = json.loads(content)
        return Mark(str(found["run"]), dt.datetime.fromisoformat(found["until"]))
    except (ValueError, KeyError, TypeError):
        return None


def write(store: Store, run: str, now: dt.datetime, parts: Path) -> None:
    """Set the mark, or renew it."""
    part = parts / "running.json"
    until = now + dt.timedelta(minutes=HELD_MINUTES)
    part.write_text(json.dumps({"run": run, "until": until.isoformat()}), encoding="utf-8")
    store.put(RUNNING, part)


def refuse_other(
    store: Store, run: str, now: dt.datetime, ended: Callable[[str], bool | None] = lambda _: None
) -> None:
    """See that no run but this one is at work in a mirror.

    Args:
        store: the mirror.
        run: this one.
        now: aware UTC.
        ended: whether a run is over; None where that is unknown, and the mark's time decides.

    Raises:
        MirrorError: another one is.
    """
    mark = read(store)
    if mark is None or mark.run == run:
        return
    over = ended(mark.run)
    if mark.until <= now if over is None else over:
        return
    until = "" if over is False else f"; if it was killed: at {mark.until:%H:%M} UTC, or remove "
    raise MirrorError(
        f"run {mark.run[:8]} is mirroring into {store}; try again when it is done"
        f"{until and until + f'{store}/{RUNNING}'}"
    )


def require(store: Store, run: str, now: dt.datetime, parts: Path) -> None:
    """See that the mirror is still this run's, and renew the mark.

    Raises:
        MirrorError: another run has taken it over.
    """
    mark = read(store)
    if mark is None or mark.run != run:
        by = f"run {mark.run[:8]} has taken {store} over" if mark else f"{store} has no run"
        raise MirrorError(f"{by} since run {run[:8]} planned it; launch a new run")
    write(store, run, now, parts)
