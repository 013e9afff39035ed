"""How many runs list the archive at the same time, and never two the same datasets.

A pool of Dagster's bounds the first, and its limit is a setting; `dagster.yaml` cannot read one
that may be unset. Each probe and each command applies it; until one has, a pool has the default
limit of `dagster.yaml`, which is 1.

Of two probes of the same dates the later one must be written last, or it would be refused. A step
has one pool only, so the second is a lock on a file of Dagster's home: it ends with its process.

Stands on:
    dagster._core.instance.instance.DagsterInstance.event_log_storage
    dagster._core.storage.event_log.base.EventLogStorage.get_concurrency_info
    dagster._core.storage.event_log.base.EventLogStorage.set_concurrency_slots
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from availability_pipeline import files

ARCHIVE = "archive"
"""The pool of all that list the archive."""

_POLL_SECONDS = 0.5


def apply_limit(instance: dg.DagsterInstance, runs: int) -> None:
    """Let so many steps of the pool run at the same time."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    if storage.get_concurrency_info(ARCHIVE).slot_count != runs:
        storage.set_concurrency_slots(ARCHIVE, runs)


@contextmanager
def alone(instance: dg.DagsterInstance, name: str, waiting: Callable[[], None]) -> Iterator[None]:
    """The only one of this home that probes these datasets; waits for another one.

    Args:
        instance: whose home.
        name: of the datasets, as `um/daily/klines`.
        waiting: called once if there is another one.
    """
    path = Path(instance.root_directory) / f"probing-{name.replace('/', '-')}.lock"
    with files.lock_file(path) as lock:
        if not files.try_lock(lock):
            waiting()
            while not files.try_lock(lock):
                time.sleep(_POLL_SECONDS)
        yield
