"""Schedules and sensors as the daemon knows them: on or off, last tick, next one, overdue.

Stands on:
    dagster._core.scheduler.instigation.InstigatorStatus
    dagster._core.scheduler.instigation.InstigatorTick
    dagster._core.scheduler.instigation.InstigatorType
    dagster._utils.schedules.schedule_execution_time_iterator
"""

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorTick, InstigatorType
from dagster._utils.schedules import schedule_execution_time_iterator


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """One schedule; `last_outcome` is success, failure, skipped or started, or None.

    `optional` ones are off until they are switched on.
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
    known = _known(instance, InstigatorType.SCHEDULE)
    return [_schedule(one, known.get(one.name), now) for one in defined]


def _schedule(
    defined: dg.ScheduleDefinition, known: "_Known | None", now: dt.datetime
) -> ScheduleState:
    by_default = defined.default_status == dg.DefaultScheduleStatus.RUNNING
    on = known.on if known else by_default
    tick = known.tick if known else None
    cron = str(defined.cron_schedule)
    coming = schedule_execution_time_iterator(now.timestamp(), cron, "UTC")
    return ScheduleState(
        name=defined.name,
        cron=cron,
        on=on,
        optional=not by_default,
        last_tick=_utc(tick.timestamp) if tick else None,
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
    known = _known(instance, kind)
    for one in defined:
        found = known.get(one.name)  # none: the daemon has not seen it yet
        if found and found.on and found.latest:
            tick = _utc(found.tick.timestamp) if found.tick else None
            yield one, tick, _utc(found.since or found.latest)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the daemon has stored; `since` is when it was switched on, where that is known."""

    on: bool
    tick: InstigatorTick | None
    since: float | None

    @property
    def latest(self) -> float:
        return (self.tick.timestamp if self.tick else None) or self.since or 0.0


def _known(instance: dg.DagsterInstance, kind: InstigatorType) -> dict[str, _Known]:
    """By name; of the states from several code locations the one that ticked last is in use."""
    found: dict[str, _Known] = {}
    for state in instance.all_instigator_state(instigator_type=kind):
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        since = getattr(state.instigator_data, "start_timestamp", None)
        if since is None:
            since = getattr(state.instigator_data, "last_sensor_start_timestamp", None)
        on = state.status != InstigatorStatus.STOPPED
        one = _Known(on, ticks[0] if ticks else None, since)
        if state.name not in found or one.latest > found[state.name].latest:
            found[state.name] = one
    return found


def _utc(timestamp: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(timestamp, dt.UTC)
