"""What Dagster's own records say: which runs succeeded, which partitions it has.

Belongs here: reading a `DagsterInstance`, whatever its storage, through its public methods. Does
not belong here: judging what was read (`slo`), or our database (`standing`).
"""

import datetime as dt

import dagster as dg

from availability_pipeline.slo import UpdateRun

UPDATE_SCHEDULES = ("daily_update_schedule", "late_arrivals_schedule", "full_reconcile_schedule")
"""The schedules whose runs look at the archive; their success is what the SLO is about."""

DAILY = dg.AssetKey("daily_availability")

_UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def scheduled_updates(instance: dg.DagsterInstance, since: dt.datetime) -> list[UpdateRun]:
    """The runs that the update schedules launched since then (aware), the latest first."""
    records = instance.get_run_records(
        dg.RunsFilter(
            tags={"dagster/schedule_name": list(UPDATE_SCHEDULES)},
            created_after=since.astimezone(dt.UTC),
        )
    )
    return [
        UpdateRun(
            run_id=record.dagster_run.run_id,
            job=record.dagster_run.job_name,
            launched_at=record.create_timestamp,
            succeeded=record.dagster_run.is_success if record.dagster_run.is_finished else None,
        )
        for record in records
    ]


def materialised_dates(instance: dg.DagsterInstance) -> set[dt.date]:
    """The partitions of `daily_availability` that were materialised at some time."""
    return {dt.date.fromisoformat(key) for key in instance.get_materialized_partitions(DAILY)}


def first_materialised(instance: dg.DagsterInstance, date: dt.date) -> dt.datetime | None:
    """When that partition of `daily_availability` was materialised for the first time."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=DAILY, asset_partitions=[date.isoformat()]),
        limit=1,
        ascending=True,
    ).records
    return dt.datetime.fromtimestamp(records[0].timestamp, dt.UTC) if records else None


def others_running(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Some other run has begun and not ended: the record may be changing."""
    records = instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED), limit=5)
    return any(record.dagster_run.run_id != run_id for record in records)
