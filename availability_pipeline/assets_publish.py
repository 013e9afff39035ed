"""What leaves the record: the published files, and the backups.

Belongs here: fetching settings, one call into the domain, metadata for the UI. Does not belong
here: files (`export`, `backup`), when it happens (`automation`). Both only read the record, from a
copy: a writer waits for them for 0.05 s. Each has a pool of its own.
"""

from pathlib import Path

import dagster as dg

from availability_pipeline import backup, destinations, export, retention, store
from availability_pipeline.assets import (
    OWNERS,
    daily_availability,
    daily_summary,
    symbol_listings,
)
from availability_pipeline.partitions import ONE_RUN
from availability_pipeline.resources import AvailabilityDuckDB, Clock
from availability_pipeline.settings import Settings

PUBLISHED = export.Form(format="parquet", by_month=True, everything=True, versioned=True)


@dg.asset(
    deps=[daily_availability, symbol_listings, daily_summary],
    backfill_policy=ONE_RUN,
    group_name="published",
    kinds={"parquet"},
    owners=OWNERS,
    pool="publish",  # two at once would remove each other's new files
    description="The record as Parquet files with a manifest, where AVAILABILITY_PUBLISH_URL says.",
)
def published_availability(
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """Write the files whose rows have changed, then the manifest."""
    if limits.publish_url is None:
        raise _no_longer_set("AVAILABILITY_PUBLISH_URL")
    try:
        to = destinations.destination(limits.publish_url)
        done = export.export(
            duckdb.path(), to, PUBLISHED, now=clock.now(), wait_seconds=limits.db_wait_seconds
        )
    except store.StoreError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    return dg.MaterializeResult(
        metadata={
            "published": str(to),
            "dagster/row_count": done.manifest.rows["availability"],
            "last_date": str(done.manifest.last_date),
            "files": len(done.manifest.files),
            "files_written": len(done.written),
            "files_removed": len(done.removed),
            "bytes": sum(file.bytes for file in done.manifest.files),
        }
    )


@dg.asset(
    deps=[daily_availability, symbol_listings, daily_summary],
    backfill_policy=ONE_RUN,
    group_name="published",
    kinds={"duckdb"},
    owners=OWNERS,
    pool="backup",
    description="A proved copy of the record in AVAILABILITY_BACKUP_DIR; old ones go.",
)
def record_backup(
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """Copy, prove, keep the last of each day, week and month."""
    if limits.backup_dir is None:
        raise _no_longer_set("AVAILABILITY_BACKUP_DIR")
    try:
        made = backup.make(
            duckdb.path(),
            Path(limits.backup_dir).expanduser(),
            now=clock.now(),
            keep=retention.Keep(
                limits.backup_keep_daily, limits.backup_keep_weekly, limits.backup_keep_monthly
            ),
            wait_seconds=limits.db_wait_seconds,
        )
    except store.StoreError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    return dg.MaterializeResult(
        metadata={
            "backup": dg.MetadataValue.path(str(made.path)),
            "dagster/row_count": made.manifest.rows,
            "last_date": str(made.manifest.last_date),
            "bytes": made.manifest.bytes,
            "sha256": made.manifest.sha256,
            "removed": [path.name for path in made.removed],
        }
    )


def _no_longer_set(name: str) -> dg.Failure:
    # Both assets are defined only where their setting is set: it is gone since the code was loaded.
    return dg.Failure(
        description=f"{name} is no longer set: set it again, or reload the code location in the "
        "UI under Deployment, which then has this asset no more",
        allow_retries=False,
    )
