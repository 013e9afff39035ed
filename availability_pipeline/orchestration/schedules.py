"""When what runs: jobs, schedules and their sensors, and with which settings each is defined.

After an outage Dagster launches each schedule's latest missed tick and drops the earlier ones, so
repair never relies on a tick: each later run covers the dates of the earlier ones.
"""

import datetime as dt
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg

from availability_pipeline import extras, settings
from availability_pipeline.mirror.sources import configured_markets
from availability_pipeline.orchestration import assets, executors, mirrored, volumes
from availability_pipeline.orchestration.instance.retention import history_retention
from availability_pipeline.orchestration.partitions import (
    DATES_TAG,
    KINDS_TAG,
    WORK_TAG,
    Kind,
    kinds,
    range_tags,
    yesterday,
)
from availability_pipeline.orchestration.probes import (
    DERIVED,
    again,
    dates_by_default,
    full_reconcile,
    late_arrivals,
    probe_again,
)
from availability_pipeline.orchestration.resources import Clock
from availability_pipeline.quality.checks import CATALOGUE_CHECK, VERIFIED_CHECK
from availability_pipeline.settings import Settings

_ON: dict[str, Any] = {
    "execution_timezone": "UTC",
    "default_status": dg.DefaultScheduleStatus.RUNNING,
}

_AFTER_UPDATES: dict[str, Any] = {
    "default_status": dg.DefaultSensorStatus.RUNNING,
    "minimum_interval_seconds": 30,
}


def _described(make: Callable[..., Any], **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator of Dagster that takes the function's docstring as its description."""
    return lambda function: make(description=inspect.getdoc(function), **options)(function)


def _schedule(name: str, cron: str, job: Any, description: str) -> dg.ScheduleDefinition:
    """A schedule of a job that is always the same."""
    return dg.ScheduleDefinition(
        name=name, cron_schedule=cron, job=job, description=description, **_ON
    )


ASSET_JOB = "__ASSET_JOB"
"""Dagster's job of all assets, which the UI's button *Materialize* runs, too.

A job that is defined takes assets of one partitions definition only, and each kind of dataset has
its own; a test compares the name with Dagster's.
"""

OF_ARCHIVE = dg.AssetSelection.checks(dg.AssetCheckKey(assets.record.key, CATALOGUE_CHECK))
OF_MIRROR = dg.AssetSelection.checks(dg.AssetCheckKey(mirrored.KEY, VERIFIED_CHECK))
STANDING = dg.AssetSelection.checks_for_assets(assets.record.key) - OF_ARCHIVE

slo_checks = dg.define_asset_job(
    "slo_checks", STANDING, description="Judge the whole record; reads only."
)
mirror_check = dg.define_asset_job(
    "mirror_check", OF_MIRROR, description="Read a thousand files of the mirror, and verify them."
)
catalogue_check = dg.define_asset_job(
    "catalogue_check",
    OF_ARCHIVE,
    description="Compare the archive's datasets with those that are known; lists folders only.",
)

draw_report = dg.define_asset_job(
    "draw_report", dg.AssetSelection.assets("availability_report"), description="Draw the record."
)
PUBLISH = "publish"
backup = dg.define_asset_job(
    "backup",
    dg.AssetSelection.assets("record_backup"),
    description="Copy the record into AVAILABILITY_BACKUP_DIR and verify the copy.",
)


def publish(configured: Settings) -> Any:
    """The job that publishes to each place that is set."""
    chosen = []
    if configured.publish_url:
        chosen.append("published_availability")
    if configured.site_url:
        chosen.append("published_record")
    return dg.define_asset_job(
        PUBLISH,
        dg.AssetSelection.assets(*chosen),
        description="Write the record's files to AVAILABILITY_PUBLISH_URL, and the site to "
        "AVAILABILITY_SITE_URL.",
    )


MIRROR_SECONDS = 30 * 86_400
"""All of a large dataset may take days, where `dagster.yaml` ends what runs longer than an hour."""


def mirror(configured: Settings) -> Any:
    """The mirror's job, with its executor.

    Raises:
        SettingsError: see `executors.of_mirror`.
    """
    return dg.define_asset_job(
        mirrored.JOB,
        dg.AssetSelection.assets(mirrored.KEY).without_checks(),
        description="Fetch the files that AVAILABILITY_MIRROR selects and the mirror has not.",
        executor_def=executors.of_mirror(configured),
        tags={"dagster/max_runtime": str(MIRROR_SECONDS)},
    )


# A scheduled update goes before the runs that somebody launched by hand: 500 may be waiting for the
# one writer's place.
_FIRST = {"dagster/priority": "10"}


# 02:00: the date is over, and the probe makes its partition even though the files normally
# appear only at 06:57-08:40 UTC; until then they are pending.
@_described(dg.schedule, cron_schedule="0 2 * * *", job_name=ASSET_JOB, **_ON)
def daily_update_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
    """Yesterday's partition of each kind of daily files, a run each."""
    return _updates(context, monthly=False)


# A month's file is promised for the first Monday; seen were the 1st at 08:06 and, the latest, the
# 13th. From the 16th on an absence is confirmed.
@_described(dg.schedule, cron_schedule="0 10 1-16 * *", job_name=ASSET_JOB, **_ON)
def monthly_update_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
    """Last month's partition of each kind of monthly files, a run each."""
    return _updates(context, monthly=True)


def _updates(context: dg.ScheduleEvaluationContext, *, monthly: bool) -> list[dg.RunRequest]:
    """The latest partition of each kind that still publishes."""
    found = []
    for kind, day in _due(context, monthly=monthly):
        found.append(
            dg.RunRequest(
                run_key=_run_key(context, kind),
                run_config={"ops": {kind.step: {"config": {"ended_too": False}}}},
                partition_key=day.isoformat(),
                asset_selection=[kind.key, *map(dg.AssetKey, DERIVED)],
                tags={
                    **_FIRST,
                    WORK_TAG: kind.work,
                    KINDS_TAG: str(kind),
                    DATES_TAG: kind.one.text(day),
                },
            )
        )
    return found


def _run_key(context: dg.ScheduleEvaluationContext, kind: Kind) -> str:
    """Dagster wants one where a tick asks for several runs: it launches none of them twice."""
    return f"{kind} {context.scheduled_execution_time.isoformat()}"


def _due(context: dg.ScheduleEvaluationContext, *, monthly: bool) -> Iterator[tuple[Kind, dt.date]]:
    day = _yesterday(context)
    for kind in kinds(settings.load()):
        if kind.one.monthly is monthly:
            span = kind.within(kind.entry.first, day)
            latest = kind.one.period_of(day) if not monthly else kind.one.shift(
                kind.one.period_of(day + dt.timedelta(1)), -1
            )  # fmt: skip
            if span and span[1] == latest:
                yield kind, latest


def _again(context: dg.ScheduleEvaluationContext, job: dg.JobDefinition) -> list[dg.RunRequest]:
    """A run of each kind that the job probes again, of the dates it does by default."""
    configured = settings.load()
    found = []
    for kind in kinds(configured):
        span = dates_by_default(job.name, kind, _yesterday(context), configured)
        if span and again(job.name, kind):
            config = {
                "datasets": {str(dataset): True for dataset in kind.datasets},
                "ended_too": job is full_reconcile,
            }
            found.append(
                dg.RunRequest(
                    run_key=_run_key(context, kind),
                    run_config={"ops": {probe_again.name: {"config": config}}},
                    tags={**_FIRST, **range_tags(*span, [kind])},
                )
            )
    return found


# 09:00 is after the usual 06:57-08:40 UTC; 15:00 and 21:00 catch the slow days, and 03:00 repairs
# a daily update that failed an hour before.
@_described(dg.schedule, cron_schedule="0 3,9,15,21 * * *", job=late_arrivals, **_ON)
def late_arrivals_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
    """The last AVAILABILITY_LOOKBACK_DAYS dates of daily files, a run a kind; as cheap as one."""
    return _again(context, late_arrivals)


# Sunday, between the late-arrivals runs: files came up to 17 months late, and a relisting moves
# all of a symbol's history. About 2,000 requests.
@_described(dg.schedule, cron_schedule="0 5 * * 0", job=full_reconcile, **_ON)
def full_reconcile_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
    """The whole history, a run for each kind of datasets."""
    return _again(context, full_reconcile)


# After the 09:00 run of late arrivals, so that what came this morning is not called late. Daily
# and not hourly: a breach said every hour is a noise that people learn to ignore.
slo_schedule = _schedule("slo_schedule", "30 9 * * *", slo_checks, "The standing checks.")

# Weekly: the archive gains or loses a dataset once or twice a year. On a working day, for a person
# decides what to do about it, and after that day's updates and checks. A few hundred requests.
catalogue_schedule = _schedule(
    "catalogue_schedule",
    "30 10 * * 1",
    catalogue_check,
    "Whether the archive has datasets that are not known, or lacks some that are.",
)

# Sunday, when the reconcile at 05:00 and the mirror run after it have ended.
mirror_check_schedule = _schedule(
    "mirror_check_schedule",
    "30 8 * * 0",
    mirror_check,
    "A thousand files of the mirror are read and verified, others each week.",
)

# Sunday, two hours after the reconcile. Runs that hold the latest materialisation of a partition
# are kept.
history_retention_schedule = _schedule(
    "history_retention_schedule",
    "30 7 * * 0",
    history_retention,
    "Delete runs older than AVAILABILITY_HISTORY_DAYS.",
)


# Between the 03:00 run of late arrivals, which ends within minutes and repairs a failed daily
# update, and Sunday's reconcile at 05:00, which replaces most rows: before it and not after.
# Defined, and on, where AVAILABILITY_BACKUP_DIR says where to.
backup_schedule = _schedule("backup_schedule", "45 4 * * *", backup, "A backup of the record.")


SUMMARY = dg.AssetKey("daily_summary")

PUBLISH_WITHIN_SECONDS = 3600
"""So long after an update it is published, mirrored or read, whatever else is under way."""

_UNFINISHED = dg.RunsFilter(statuses=mirrored.UNFINISHED)


# A run of its own and no step of the updates: when the destination refuses, the record is written
# all the same, and an update that did its work must neither be alerted as failed nor count so in
# the success rate. `daily_summary` is the last thing an update writes, whoever started it.
#
# Not Dagster's `asset_sensor`, which asks for a run after each: the updates of forty assets at
# 02:00 would be forty publications in a row, each of the whole record.
@_described(dg.sensor, job_name=PUBLISH, **_AFTER_UPDATES)
def publish_sensor(
    context: dg.SensorEvaluationContext, clock: dg.ResourceParam[Clock]
) -> dg.RunRequest | dg.SkipReason:
    """Publish after each update, the record's files and the site; once, when several end together.

    While updates follow each other without a pause, once an hour.
    """
    return _after_updates(context, clock, PUBLISH)


@_described(dg.sensor, job_name=mirrored.JOB, **_AFTER_UPDATES)
def mirror_sensor(
    context: dg.SensorEvaluationContext, clock: dg.ResourceParam[Clock]
) -> dg.RunRequest | dg.SkipReason:
    """Mirror to AVAILABILITY_MIRROR_URL after each update; once, when several end together.

    What changed while a mirror run is under way is for the next one.
    """
    if mirrored.under_way(context.instance):
        return dg.SkipReason("a mirror run is under way or queued")
    return _after_updates(context, clock, mirrored.JOB)


@_described(dg.sensor, job_name=volumes.JOB, **_AFTER_UPDATES)
def volume_sensor(
    context: dg.SensorEvaluationContext, clock: dg.ResourceParam[Clock]
) -> dg.RunRequest | dg.SkipReason:
    """Read daily volume after each update, and rank; once, when several end together.

    Of this month and the last, so that a month that comes out is compared with its days.
    """
    tags = range_tags(*volumes.recent(yesterday(clock.now())))
    return _after_updates(context, clock, volumes.JOB, tags)


def _after_updates(
    context: dg.SensorEvaluationContext,
    clock: Clock,
    job: str,
    tags: Mapping[str, str] | None = None,
) -> dg.RunRequest | dg.SkipReason:
    after = int(context.cursor) if context.cursor else None
    events, latest = (
        context.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=SUMMARY, after_storage_id=after),
            limit=1,
            ascending=ascending,
        ).records
        for ascending in (True, False)
    )
    if not events:
        return dg.SkipReason(f"nothing was updated since the last {_CALLED[job]}")
    waits = clock.now().timestamp() - events[0].timestamp < PUBLISH_WITHIN_SECONDS
    under_way = context.instance.get_runs(_UNFINISHED)
    if waits and any(run.job_name == job or _updates_record(run) for run in under_way):
        return dg.SkipReason(f"an update or a {_CALLED[job]} is under way or queued")
    # Of the cursor of before: launched once, even if the daemon dies before the new one is stored.
    found = dg.RunRequest(run_key=context.cursor, tags=tags)
    context.update_cursor(str(latest[0].storage_id))
    return found


_CALLED = {
    PUBLISH: "publication",
    mirrored.JOB: "mirror run",
    volumes.JOB: "reading of volume",
}


def _updates_record(run: dg.DagsterRun) -> bool:
    if run.job_name == ASSET_JOB:
        return SUMMARY in (run.asset_selection or {SUMMARY})
    return run.job_name in (late_arrivals.name, full_reconcile.name)


# Launches what has an automation condition, in a run of its own: a picture that cannot be drawn
# fails no update.
report_sensor = dg.AutomationConditionSensorDefinition(
    "report_sensor",
    target=dg.AssetSelection.assets("availability_report"),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
    description="Draws the report once a day, after the first update from 09:00 UTC on.",
)


def _yesterday(context: dg.ScheduleEvaluationContext) -> dt.date:
    # The tick's own time: a tick that is evaluated late still means its own day.
    return yesterday(context.scheduled_execution_time)


def jobs(configured: Settings) -> list[Any]:
    """The jobs of what is configured."""
    # The class of most of them is private to Dagster.
    found: list[Any] = [late_arrivals, full_reconcile, slo_checks, catalogue_check]
    found.append(history_retention)
    if not extras.missing("report"):
        found.append(draw_report)
    if configured.publish_url or configured.site_url:
        found.append(publish(configured))
    if configured.backup_dir:
        found.append(backup)
    if configured.mirror_url:
        found += [mirror(configured), mirror_check]
    if configured_markets(configured):
        found.append(volumes.volume)
    return found


def schedules(configured: Settings) -> list[dg.ScheduleDefinition]:
    """The schedules of what is configured."""
    found = [daily_update_schedule, late_arrivals_schedule, full_reconcile_schedule]
    if any(kind.one.monthly for kind in kinds(configured)):
        found.append(monthly_update_schedule)
    found += [slo_schedule, catalogue_schedule, history_retention_schedule]
    if configured.backup_dir:
        found.append(backup_schedule)
    if configured.mirror_url:
        found.append(mirror_check_schedule)
    return found


def sensors(configured: Settings) -> list[dg.SensorDefinition]:
    """The sensors of what is configured, but for the alerts'."""
    publishes = configured.publish_url or configured.site_url
    found: list[dg.SensorDefinition] = [publish_sensor] if publishes else []
    if configured.mirror_url:
        found.append(mirror_sensor)
    if configured_markets(configured):
        found.append(volume_sensor)
    return found if extras.missing("report") else [*found, report_sensor]
