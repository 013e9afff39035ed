"""Service levels of the runs as pure rules: numbers in, `Verdict` out.

Belongs here: whether the updates ran, in time, and left what Dagster says they left. Does not
belong here: what the record holds (`slo`), fetching the numbers (`health`).
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from availability_pipeline import PROGRAM
from availability_pipeline.verdicts import (
    SAMPLE,
    Fields,
    Verdict,
    backfill,
    share,
    spans,
    verdict_on,
)

SUCCESS_DAYS = 30
"""Days over which `update_success_rate` looks back when not told otherwise."""

MIN_RUNS = 20
"""Scheduled runs needed to judge: among fewer, a single failure is more than 5 %."""


@dataclass(frozen=True, slots=True)
class UpdateRun:
    """A run that a schedule launched; `succeeded` is None while it has not ended.

    One that was executed again, and succeeded then, has succeeded.
    """

    run_id: str
    job: str
    launched_at: dt.datetime
    succeeded: bool | None


def update_success_rate(
    runs: Iterable[UpdateRun], now: dt.datetime, threshold: float, days: int = SUCCESS_DAYS
) -> Verdict:
    """Share of the scheduled updates of the last `days` days that succeeded.

    Runs that have not ended are left out; canceled ones did not succeed. With fewer than
    `MIN_RUNS` it passes and says so; without any, nothing is `observed`.
    """
    since = now - dt.timedelta(days)
    ended = [r for r in runs if r.succeeded is not None and since <= r.launched_at <= now]
    failed = sorted((r for r in ended if not r.succeeded), key=lambda r: r.launched_at)
    if not ended:
        return Verdict(
            passed=True,
            observed=None,
            threshold=threshold,
            sample=(),
            recovery="",
            note=f"not known yet (no scheduled runs in {days} days)",
        )
    rate = share(len(ended) - len(failed), len(ended))
    enough = len(ended) >= MIN_RUNS
    note = f"{len(ended) - len(failed)} of {len(ended)} scheduled updates succeeded in {days} days"
    return Verdict(
        passed=rate >= threshold or not enough,
        observed=rate,
        threshold=threshold,
        # The latest first: what went wrong last is what matters.
        sample=tuple(
            f"{r.launched_at:%Y-%m-%d %H:%M} {r.job} {r.run_id[:8]}" for r in failed[::-1][:SAMPLE]
        ),
        recovery="Read the failed runs' errors in the UI under Runs. Their dates are probed "
        "again by the next scheduled run.",
        count=len(failed),
        sample_truncated=len(failed) > SAMPLE,
        offenders=tuple(
            {"launched_at": r.launched_at, "job": r.job, "run_id": r.run_id}
            for r in failed[::-1][:SAMPLE]
        ),
        note=note if enough else f"{note}: too few to judge, {MIN_RUNS} are needed",
    )


def due_date(now: dt.datetime, deadline_minutes: int) -> dt.date:
    """The last date whose update must be in: yesterday, once so much of today is over."""
    now = now.astimezone(dt.UTC)
    over = now - dt.datetime.combine(now.date(), dt.time(), dt.UTC)
    return now.date() - dt.timedelta(1 if over >= dt.timedelta(minutes=deadline_minutes) else 2)


def freshness(
    materialised_at: dt.datetime | None, now: dt.datetime, deadline_minutes: int
) -> Verdict:
    """The partition of `due_date` was first materialised within so many minutes of its end.

    Args:
        materialised_at: when that partition was first materialised, or None.
        now: aware.
        deadline_minutes: after the end of the date.

    Returns:
        A breach while it is missing; a warning when it came, but late. `observed` is minutes from
        the end of the date: until it came, or until now.
    """
    date = due_date(now, deadline_minutes)
    ended = dt.datetime.combine(date + dt.timedelta(1), dt.time(), dt.UTC)
    minutes = ((materialised_at or now) - ended).total_seconds() / 60
    missing = materialised_at is None
    late = not missing and minutes > deadline_minutes
    note = "" if missing else f"first looked at {materialised_at:%Y-%m-%d %H:%M} UTC"
    if late:
        note += f", due by {ended + dt.timedelta(minutes=deadline_minutes):%H:%M}"
    return verdict_on(
        [str(date)] if missing or late else [],
        offenders=[{"date": date, "problem": "missing" if missing else "late"}],
        observed=round(minutes, 1),
        threshold=deadline_minutes,
        recovery=f"See that the daemon runs: `{PROGRAM} status`. Look at the date by hand: "
        f"`{PROGRAM} update manual --date {date}`."
        if missing
        else "Nothing now: it is there. If it happens again, see why the 02:00 run was late.",
        severity="error" if missing else "warn",
        note=note,
    )


def store_matches_dagster(
    materialised: Iterable[dt.date], stored: Iterable[dt.date], *, writing: bool = False
) -> Verdict:
    """The dates Dagster calls materialised are the dates with rows.

    Args:
        materialised: partitions of `daily_availability` in Dagster's own records.
        stored: dates with rows.
        writing: a run is in progress: a difference may be of this very moment, so it only warns.
    """
    known, rows = set(materialised), set(stored)
    no_rows, no_record = sorted(known - rows), sorted(rows - known)
    sample, fields = [], list[Fields]()
    for dates, problem, said in (
        (no_rows, "no_rows", "materialised, but no rows"),
        (no_record, "not_materialised", "rows, but not materialised"),
    ):
        for start, end in spans(dates):
            sample.append(f"{start}: {said}" if start == end else f"{start} to {end}: {said}")
            fields.append({"start": start, "end": end, "problem": problem})
    drift = [*no_rows, *no_record]
    return Verdict(
        passed=not drift,
        observed=len(drift),
        threshold=0,
        sample=tuple(sample[:SAMPLE]),
        recovery=f"Bring both together in one run: {backfill(drift)}.",
        severity="warn" if writing else "error",
        count=len(drift),
        sample_truncated=len(sample) > SAMPLE,
        offenders=tuple(fields[:SAMPLE]),
        note="a run is in progress: look again when it has ended" if writing and drift else "",
    )
