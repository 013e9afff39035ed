"""What Dagster's own records say: which runs succeeded, which partitions it has, is the daemon up.

It reads a `DagsterInstance`, whatever its storage, and writes nothing; `quality.rules` judges the
numbers. Schedules and their ticks are read by `instance.ticks`.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import dagster as dg

from availability_pipeline.archive.datasets import Dataset, configured
from availability_pipeline.orchestration import mirrored, volumes
from availability_pipeline.orchestration.instance.run_log import FAILURES, first_failure, job_label
from availability_pipeline.orchestration.partitions import Kind, grouped
from availability_pipeline.quality import rules
from availability_pipeline.quality.rules import Subject, UpdateRun, Verdict
from availability_pipeline.settings import Settings

UPDATE_SCHEDULES = (
    "daily_update_schedule",
    "monthly_update_schedule",
    "late_arrivals_schedule",
    "full_reconcile_schedule",
)
"""The schedules whose runs probe the archive; their success is what the SLO is about."""

HEARTBEAT_MINUTES = 3
"""A daemon says every 30 s that it lives; after so long without a word it is taken for dead."""

_READERS = {mirrored.JOB, volumes.JOB}

_UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def scheduled_updates(instance: dg.DagsterInstance, since: dt.datetime) -> list[UpdateRun]:
    """What the update schedules launched since then (aware), the latest first: one for each tick.

    A run that is executed again, by hand or as a retry, has the tags of its schedule. It is not
    another update: its success is that of the tick that launched the first one.
    """
    records = instance.get_run_records(
        dg.RunsFilter(
            tags={"dagster/schedule_name": list(UPDATE_SCHEDULES)},
            created_after=since.astimezone(dt.UTC),
        )
    )
    attempts: dict[str, list[dg.DagsterRun]] = {}
    for record in records:
        run = record.dagster_run
        attempts.setdefault(run.root_run_id or run.run_id, []).append(run)
    return [
        UpdateRun(
            run_id=record.dagster_run.run_id,
            job=job_label(record.dagster_run.job_name, tags=record.dagster_run.tags),
            launched_at=record.create_timestamp,
            succeeded=_any_succeeded(attempts[record.dagster_run.run_id]),
        )
        for record in records
        if record.dagster_run.root_run_id is None
    ]


def _any_succeeded(runs: Iterable[dg.DagsterRun]) -> bool | None:
    """None while that is not known."""
    if any(run.is_success for run in runs):
        return True
    return False if all(run.is_finished for run in runs) else None


def materialised_dates(instance: dg.DagsterInstance, kind: Kind) -> set[dt.date]:
    """The partitions of a kind's asset that were materialised at some time."""
    return {dt.date.fromisoformat(k) for k in instance.get_materialized_partitions(kind.key)}


def first_materialised(
    instance: dg.DagsterInstance, kind: Kind, date: dt.date
) -> dt.datetime | None:
    """When that partition of a kind's asset was materialised for the first time."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=kind.key, asset_partitions=[date.isoformat()]),
        limit=1,
        ascending=True,
    ).records
    return dt.datetime.fromtimestamp(records[0].timestamp, dt.UTC) if records else None


def others_running(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Some other run has begun and not ended: the record may be changing.

    Runs that fetch files only read it, and may take days.
    """
    records = instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED), limit=5)
    runs = (record.dagster_run for record in records)
    return any(run.run_id != run_id and run.job_name not in _READERS for run in runs)


def update_success_rate(
    instance: dg.DagsterInstance,
    now: dt.datetime,
    settings: Settings,
    days: int = rules.SUCCESS_DAYS,
) -> Verdict:
    """The scheduled updates of the last `days` days."""
    runs = scheduled_updates(instance, now - dt.timedelta(days))
    return rules.update_success_rate(runs, now, settings.slo_success_rate, days)


def freshness(
    instance: dg.DagsterInstance,
    now: dt.datetime,
    settings: Settings,
    chosen: Sequence[Dataset] | None = None,
) -> Verdict:
    """The partition of each asset that is due: yesterday's, or the last month's."""
    found = {}
    for kind, of in _subjects(settings, chosen):
        date = rules.due_period(kind.one, now, settings.slo_freshness_minutes)
        at = first_materialised(instance, kind, date)
        verdict = rules.freshness(at, now, settings.slo_freshness_minutes, of)
        if verdict.breached and _may_not_be_there(instance, kind):
            verdict = replace(verdict, severity="warn")
        found[str(of)] = verdict
    return rules.combined(found)


def _may_not_be_there(instance: dg.DagsterInstance, kind: Kind) -> bool:
    """No interval of it is known, and none of it was ever seen: the archive may not have it."""
    known = any(dataset in kind.entry.datasets for dataset in kind.datasets)
    return not known and not instance.get_materialized_partitions(kind.key)


def store_matches_dagster(
    instance: dg.DagsterInstance,
    stored: Mapping[Dataset, Collection[dt.date]],
    settings: Settings,
    chosen: Sequence[Dataset] | None = None,
    *,
    writing: bool,
) -> Verdict:
    """The partitions of each asset that were materialised beside the periods with rows.

    Rows of any of its intervals will do: those of one that are missing `continuity` names.
    """
    found = {}
    for kind, of in _subjects(settings, chosen):
        rows = {date for dataset in kind.datasets for date in stored.get(dataset, ())}
        shown = materialised_dates(instance, kind)
        verdict = rules.store_matches_dagster(shown, rows, of, writing=writing)
        if not rows and not shown:
            verdict = replace(verdict, observed=None, note="nothing is recorded")
        found[str(of)] = verdict
    return rules.combined(found)


def _subjects(
    settings: Settings, chosen: Sequence[Dataset] | None
) -> Iterator[tuple[Kind, Subject]]:
    """Each asset of the configured datasets, or of some of them, and what the rules call it."""
    every = configured(settings)
    for kind in grouped(every if chosen is None else chosen):
        pattern = f"{kind}/*" if len(kind.datasets) > 1 else ""
        yield kind, Subject(kind.one, named=len(every) > 1, pattern=pattern)


def judge(
    instance: dg.DagsterInstance,
    stored: Mapping[Dataset, Collection[dt.date]],
    now: dt.datetime,
    settings: Settings,
    days: int = rules.SUCCESS_DAYS,
    chosen: Sequence[Dataset] | None = None,
) -> dict[str, Verdict]:
    """The verdicts of all checks that need the run history, by name.

    Args:
        instance: Dagster's records.
        stored: the recorded periods of each dataset, as `checks.stored_dates` has them.
        now: aware.
        settings: what is configured, and the thresholds.
        days: over which the success rate is taken.
        chosen: of the configured datasets those that are judged; all by default.
    """
    writing = others_running(instance, "")
    return {
        "update_success_rate": update_success_rate(instance, now, settings, days),
        "freshness": freshness(instance, now, settings, chosen),
        "store_matches_dagster": store_matches_dagster(
            instance, stored, settings, chosen, writing=writing
        ),
    }


@dataclass(frozen=True, slots=True)
class Daemon:
    """Whether the daemon lives: its last sign, and what its parts complain of."""

    running: bool
    last_heartbeat: dt.datetime | None
    errors: tuple[str, ...]


def daemon(instance: dg.DagsterInstance, now: dt.datetime) -> Daemon:
    """The part that launches scheduled runs decides; errors are those of any part."""
    beats = instance.get_daemon_heartbeats()
    required = set(instance.get_required_daemon_types())
    beat = beats.get("SCHEDULER")
    last = dt.datetime.fromtimestamp(beat.timestamp, dt.UTC) if beat else None
    errors = [
        f"{kind.lower()}: {error.message.strip().splitlines()[-1]}"
        for kind, one in sorted(beats.items())
        if kind in required
        for error in (one.errors or ())[:1]
    ]
    running = last is not None and now - last < dt.timedelta(minutes=HEARTBEAT_MINUTES)
    return Daemon(running, last, tuple(errors))


@dataclass(frozen=True, slots=True)
class PastRun:
    """One run; times in UTC, `seconds` None while it runs, `error` None unless it failed."""

    run_id: str
    job: str
    launched_by: str
    launched_at: dt.datetime
    status: str
    seconds: float | None
    error: str | None


def last_runs(instance: dg.DagsterInstance, limit: int = 5) -> list[PastRun]:
    """The last runs of any kind, the latest first."""
    return [_past(instance, record) for record in instance.get_run_records(limit=limit)]


def _past(instance: dg.DagsterInstance, record: dg.RunRecord) -> PastRun:
    run = record.dagster_run
    whole = record.start_time is not None and record.end_time is not None
    return PastRun(
        run_id=run.run_id,
        job=job_label(run.job_name, tags=run.tags),
        launched_by=_launched_by(run.tags),
        launched_at=record.create_timestamp,
        status=run.status.value.lower(),
        seconds=round((record.end_time or 0) - (record.start_time or 0), 1) if whole else None,
        error=_reason(instance, run.run_id) if run.status == dg.DagsterRunStatus.FAILURE else None,
    )


def _launched_by(tags: Mapping[str, str]) -> str:
    # One that is executed again has the tags of the first; Dagster's own retries have a number.
    if "dagster/parent_run_id" in tags and "dagster/retry_number" not in tags:
        return "hand"
    if "dagster/schedule_name" in tags:
        return "schedule"
    return "backfill" if "dagster/backfill" in tags else "hand"


def _reason(instance: dg.DagsterInstance, run_id: str) -> str:
    entries = instance.all_logs(run_id, of_type=FAILURES)
    return first_failure(entry.dagster_event for entry in entries)
