"""What Dagster launches after an outage: the loop of its own daemon, with a fixed clock."""

import collections
import datetime as dt
import logging
import shutil
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.controller import create_daemon_grpc_server_registry
from dagster._scheduler.scheduler import launch_scheduled_runs

from availability_pipeline_tests.support.helpers import D, days

ROOT = Path(__file__).parents[2]
DOWN = dt.datetime(2024, 3, 6, 8, 30, 30, tzinfo=dt.UTC)  # a Wednesday
SCHEDULE, DATES = "dagster/schedule_name", "dates"


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """What the scheduler daemon has at hand, on our `dagster.yaml`, with the default schedules."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(ROOT / "dagster.yaml", home)
    name = "availability_pipeline.definitions"
    target = ModuleTarget(name, None, str(ROOT), name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        patch.setenv("AVAILABILITY_DB", str(home / "record.duckdb"))
        for setting in ("BACKUP_DIR", "PUBLISH_URL", "ALERT_URLS", "LOOKBACK_DAYS"):
            patch.delenv(f"AVAILABILITY_{setting}", raising=False)
        with dg.DagsterInstance.get() as instance:
            with (
                create_daemon_grpc_server_registry(instance) as servers,
                WorkspaceProcessContext(instance, target, grpc_server_registry=servers) as found,
            ):
                yield found
            servers.wait_for_processes()


@pytest.fixture
def daemon(context):
    """The same without a past."""
    context.instance.schedule_storage.wipe()
    context.instance.run_storage.wipe()
    return context


def iterate(daemon, now):
    """One turn of the scheduler's loop in a daemon that has just been started; its new runs."""
    before = {run.run_id for run in daemon.instance.get_runs()}
    with freeze_time(now):
        errors = [
            error
            for error in launch_scheduled_runs(
                daemon, logging.getLogger("scheduler"), now, iteration_times={}
            )
            if error is not None
        ]
    assert not errors
    return [run for run in daemon.instance.get_runs() if run.run_id not in before]


@pytest.mark.parametrize(
    ("outage", "dates"),
    [
        # Late arrivals of 09:00; the standing checks of 09:30 look at the whole record.
        (dt.timedelta(hours=1), {"late_arrivals_schedule": "2024-02-15 to 2024-03-05"}),
        # The late arrivals of 09:00, 15:00 and 21:00 are one run, that of 03:00.
        (
            dt.timedelta(days=1),
            {
                "daily_update_schedule": "2024-03-06",
                "late_arrivals_schedule": "2024-02-16 to 2024-03-06",
            },
        ),
        (
            dt.timedelta(weeks=1),
            {
                "daily_update_schedule": "2024-03-12",
                "late_arrivals_schedule": "2024-02-22 to 2024-03-12",
                "full_reconcile_schedule": "2019-09-25 to 2024-03-09",
            },
        ),
        # Longer than the late arrivals look back: all the more Sunday's run is needed.
        (
            dt.timedelta(weeks=6),
            {
                "daily_update_schedule": "2024-04-16",
                "late_arrivals_schedule": "2024-03-28 to 2024-04-16",
                "full_reconcile_schedule": "2019-09-25 to 2024-04-13",
            },
        ),
    ],
    ids=["an hour", "a day", "a week", "six weeks"],
)
def test_after_an_outage_each_schedule_launches_its_latest_missed_tick_and_no_date_is_left_out(
    daemon, outage, dates
):
    """All 28 ticks of a week would be 27 runs too many; none would leave it to the night."""
    assert iterate(daemon, DOWN) == [], "all are on, and none is due"
    again = DOWN + outage
    runs = iterate(daemon, again)
    launched = collections.Counter(run.tags[SCHEDULE] for run in runs)
    assert set(launched.values()) == {1}
    probes = {run.tags[SCHEDULE]: run.tags[DATES] for run in runs if DATES in run.tags}
    assert probes == dates
    weekly = {"history_retention_schedule", "catalogue_schedule"} if outage.days >= 7 else set()
    assert launched.keys() - dates.keys() == {"slo_schedule"} | weekly

    # Each date that ended meanwhile is probed by one of them.
    missed = set(days(DOWN.date(), again.date() - dt.timedelta(1)))
    probed = set()
    for text in probes.values():
        start, _, end = text.partition(" to ")
        probed |= set(days(D.fromisoformat(start), D.fromisoformat(end or start)))
    assert missed <= probed

    # And it goes on as usual: the tick that was made up is not made up again.
    assert iterate(daemon, again + dt.timedelta(minutes=1)) == []
