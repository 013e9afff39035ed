"""Schedules and sensors as the daemon knows them: on or off, last tick, next one, overdue.

Stands on:
    dagster._core.scheduler.instigation.InstigatorState
    dagster._core.scheduler.instigation.InstigatorStatus
    dagster._core.scheduler.instigation.InstigatorType
    dagster._utils.schedules.schedule_execution_time_iterator
"""

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorType
from dagster._utils.schedules import schedule_execution_time_iterator


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """One schedule; `last_outcome` is success, failure, skipped or started, or None.

    `optional` ones are off until somebody switches them on.
    """

    name: str
    cron: str
    on: bool
    optional: bool
    last_tick: dt.datetime | None
    last_outcome: str | None
    error: str | None
    next_tick: dt.datetime | None


def schedules(
    instance: dg.DagsterInstance, defined: Iterable[dg.ScheduleDefinition], now: dt.datetime
) -> list[ScheduleState]:
    """Each schedule's state, with its last tick and, if it is on, the next."""
    states: dict[str, list[InstigatorState]] = {}
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE):
        states.setdefault(state.name, []).append(state)
    return [_schedule(instance, one, states.get(one.name, []), now) for one in defined]


def _schedule(
    instance: dg.DagsterInstance,
    defined: dg.ScheduleDefinition,
    states: list[InstigatorState],
    now: dt.datetime,
) -> ScheduleState:
    # One state for each code location it was loaded from; the one that ticked last is in use.
    ticked = []
    for state in states:
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        ticked.append((ticks[0].timestamp if ticks else 0.0, state, ticks[0] if ticks else None))
    by_default = defined.default_status == dg.DefaultScheduleStatus.RUNNING
    on, tick = by_default, None
    if ticked:
        _, state, tick = max(ticked, key=lambda t: t[0])
        on = state.status != InstigatorStatus.STOPPED
    cron = str(defined.cron_schedule)
    coming = schedule_execution_time_iterator(now.timestamp(), cron, "UTC")
    return ScheduleState(
        name=defined.name,
        cron=cron,
        on=on,
        optional=not by_default,
        last_tick=dt.datetime.fromtimestamp(tick.timestamp, dt.UTC) if tick else None,
        last_outcome=tick.status.value.lower() if tick else None,
        error=tick.error.message.strip().splitlines()[-1] if tick and tick.error else None,
        next_tick=next(coming).astimezone(dt.UTC) if on else None,
    )


LATE_TICK = dt.timedelta(minutes=10)
"""A schedule is evaluated within a minute of its time; so long after it, it is overdue."""


def overdue(
    instance: dg.DagsterInstance,
    schedules_defined: Iterable[dg.ScheduleDefinition],
    sensors_defined: Iterable[dg.SensorDefinition],
    now: dt.datetime,
) -> list[str]:
    """Schedules and sensors that are on and were not evaluated when they were due, a line each.

    The heartbeat alone does not tell: it goes on in a daemon that cannot reach its code server.
    """
    lines = []
    for one, tick, since in _evaluations(instance, schedules_defined, InstigatorType.SCHEDULE):
        times = schedule_execution_time_iterator(
            (now - LATE_TICK).timestamp(), str(one.cron_schedule), "UTC", ascending=False
        )
        due = next(times).astimezone(dt.UTC)
        if since < due and (tick is None or tick < due):
            lines.append(f"{one.name} was not evaluated at {due:%Y-%m-%d %H:%M} UTC")
    for sensor, tick, since in _evaluations(instance, sensors_defined, InstigatorType.SENSOR):
        interval = dt.timedelta(seconds=sensor.minimum_interval_seconds or 30)
        last = max(tick or since, since)
        if now - last > LATE_TICK + interval:
            lines.append(f"{sensor.name} was not evaluated since {last:%Y-%m-%d %H:%M} UTC")
    return lines


def _evaluations(
    instance: dg.DagsterInstance, defined: Iterable[Any], kind: InstigatorType
) -> Iterator[tuple[Any, dt.datetime | None, dt.datetime]]:
    """Of each that is on: its last tick, and since when the daemon has known it to be on."""
    states: dict[str, list[InstigatorState]] = {}
    for state in instance.all_instigator_state(instigator_type=kind):
        states.setdefault(state.name, []).append(state)
    for one in defined:
        found = []
        for state in states.get(one.name, []):
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            since = getattr(state.instigator_data, "start_timestamp", None)
            if since is None:
                since = getattr(state.instigator_data, "last_sensor_start_timestamp", None)
            at = ticks[0].timestamp if ticks else None
            found.append((at or since or 0.0, state, at, since))
        if not found:
            continue  # the daemon has not seen it yet
        _, state, at, since = max(found, key=lambda entry: entry[0])
        if state.status == InstigatorStatus.STOPPED or (at is None and since is None):
            continue
        tick = dt.datetime.fromtimestamp(at, dt.UTC) if at else None
        yield one, tick, dt.datetime.fromtimestamp(since or at or 0.0, dt.UTC)
