"""What the soak's webserver and daemon load: our definitions on short days and a clock that errs.

Schedules keep their order and their proportions (late arrivals four times a day, the reconcile once
a week), only a day takes minutes. What a schedule asks for is what the real one asks for. The clock
is the resource that runs and sensors have; the soak writes how far it is off into a file.
"""

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from availability_pipeline import settings
from availability_pipeline.orchestration import schedules
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.resources import Clock
from benchmarks.soak_tree import CLOCK, DAY


class ErringClock(Clock):
    """A clock that is off by what the file says."""

    def __init__(self, error: Path) -> None:
        super().__init__()
        self._error = error

    def now(self) -> dt.datetime:
        try:
            return super().now() + dt.timedelta(seconds=float(self._error.read_text()))
        except FileNotFoundError:
            return super().now()


def crons(day: int) -> dict[str, str]:
    """Each schedule's times where a day has so many minutes, beginning at the full hour."""

    def every(minutes: int, at: int) -> str:
        return f"{at % minutes}-59/{minutes} * * * *"

    week = min(7 * day, 30)
    return {
        "daily_update_schedule": every(day, 0),
        "late_arrivals_schedule": every(max(1, day // 4), 0),
        "backup_schedule": every(day, day // 4),
        "slo_schedule": every(day, day // 2),
        "full_reconcile_schedule": every(week, week // 2),
        "history_retention_schedule": every(week, week // 2 + 2),
    }


def _asking(real: Any) -> Any:
    def ask(context: dg.ScheduleEvaluationContext) -> Iterator[Any]:
        yield from real(context)

    return ask


def sped_up(real: dg.ScheduleDefinition, cron: str) -> dg.ScheduleDefinition:
    """The same schedule at other times."""
    asks = {}
    if real.name in (one.name for one in _DECORATED):
        asks["execution_fn"] = _asking(real)
    return dg.ScheduleDefinition(
        name=real.name,
        job_name=real.job_name,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=real.default_status,
        **asks,
    )


_DECORATED = (
    schedules.daily_update_schedule,
    schedules.late_arrivals_schedule,
    schedules.full_reconcile_schedule,
)


def _build() -> dg.Definitions:
    ours = build_defs(resources={"clock": ErringClock(Path(os.environ[CLOCK]))})
    times = crons(int(os.environ[DAY]))
    return dg.Definitions(
        assets=ours.assets,
        asset_checks=ours.asset_checks,
        jobs=ours.jobs,
        # Not the catalogue's: it asks for all datasets of the archive, and this one has one.
        schedules=[
            sped_up(one, times[one.name])
            for one in schedules.schedules(settings.load())
            if one.name in times
        ],
        sensors=ours.sensors,
        resources=ours.resources,
        executor=ours.executor,
    )


defs = _build()
