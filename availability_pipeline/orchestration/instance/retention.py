"""How long Dagster's run history is kept: Dagster itself never deletes a run.

There are 2,240 runs a year. But to Dagster a partition is materialised because some run's event
says so: with the last such run its partition would be called missing. So a run goes only when it is
old, ended, and each of its partitions was materialised again later, as by the late-arrivals
run that found its files. The record forgets nothing.

Stands on:
    dagster._core.instance.instance.DagsterInstance.compute_log_manager
"""

import datetime as dt

import dagster as dg

from availability_pipeline import settings
from availability_pipeline.orchestration.instance import materialisations
from availability_pipeline.orchestration.resources import Clock


def runs_to_keep(instance: dg.DagsterInstance) -> set[str]:
    """Ids of the runs that hold the latest materialisation of an asset or of a partition."""
    keep = set()
    for key in instance.get_asset_keys():
        latest = instance.get_latest_materialization_event(key)
        if latest is not None:
            keep.add(latest.run_id)
        keep.update(record.run_id for record in materialisations.latest(instance, key))
    return keep


def prune(instance: dg.DagsterInstance, before: dt.datetime) -> tuple[int, int]:
    """Delete the runs created before a time (aware) that nothing depends on; deleted and kept."""
    old = instance.get_run_records(dg.RunsFilter(created_before=before))
    if not old:
        return 0, 0
    keep = runs_to_keep(instance)
    runs = [record.dagster_run for record in old]
    gone = [run.run_id for run in runs if run.is_finished and run.run_id not in keep]
    for run_id in gone:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    return len(gone), len(runs) - len(gone)


@dg.op(description="Delete runs older than AVAILABILITY_HISTORY_DAYS that nothing depends on.")
def forget_old_runs(context: dg.OpExecutionContext, clock: dg.ResourceParam[Clock]) -> None:
    """See `prune`."""
    days = settings.load().history_days
    gone, kept = prune(context.instance, clock.now() - dt.timedelta(days))
    context.log.info(
        f"{gone} runs older than {days} days deleted; {kept} kept, as they hold the latest "
        "materialisation of a partition"
    )


@dg.job(description="Keep the run history bounded.")
def history_retention() -> None:
    """One op, no asset: it says nothing about data."""
    forget_old_runs()
