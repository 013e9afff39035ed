"""The checks of the mirror that AVAILABILITY_MIRROR_URL names: is it complete, is it verified."""

import datetime as dt
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from availability_pipeline.mirror import manifest, verify
from availability_pipeline.mirror.selection import mirrored
from availability_pipeline.mirror.store import BucketStore, FolderStore, place, scratch
from availability_pipeline.quality import rules
from availability_pipeline.quality.rules import Verdict
from availability_pipeline.queries.plan import planned
from availability_pipeline.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def complete(con: "DuckDBPyConnection", limits: Settings, *, busy: bool) -> Verdict:
    """Whether the mirror has what is selected, by its manifest.

    Args:
        con: an open record.
        limits: the settings, in which AVAILABILITY_MIRROR_URL is set.
        busy: a mirror run is under way.

    Raises:
        StoreError: the mirror cannot be read.
    """
    with scratch() as folder:
        store = _planned_for(con, limits, folder / "plan.parquet")
        found = verify.lacking(folder / "plan.parquet", store)
    return rules.mirror_complete(found.missing, found.stale, found.files, under_way=busy)


def verified(
    record: Callable[[], AbstractContextManager["DuckDBPyConnection"]],
    limits: Settings,
    now: dt.datetime,
) -> Verdict:
    """Whether a sample of the mirror's files is what was verified: they are read.

    Args:
        record: opens the record for reading; it is closed again before files are read.
        limits: as in `complete`.
        now: aware; other files each week.

    Raises:
        StoreError: the mirror cannot be read.
    """
    with scratch() as folder:
        plan, some = folder / "plan.parquet", folder / "some.parquet"
        with record() as con:
            store = _planned_for(con, limits, plan)
        year, week, _ = now.isocalendar()
        verify.sample(plan, store, f"{year}-{week}", some)
        found = verify.verify(some, store)
    wrong = [*found.damaged, *found.stale]
    return rules.mirror_verified(found.missing, sorted(wrong), found.verified, str(store))


def _planned_for(
    con: "DuckDBPyConnection", limits: Settings, path: Path
) -> BucketStore | FolderStore:
    store = place(str(limits.mirror_url))
    with manifest.opened(store) as held:
        months = held.months()
    with planned(con, mirrored(limits), held=months, base_url=limits.download_base) as found:
        found.write(path)
    return store
