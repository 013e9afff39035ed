"""Probing from Dagster: one call into the record, and what is reported to Dagster.

`probe` is shared by the asset of the rows, which the daily update and backfills materialise, and by
`probe_again`, the op of the jobs that probe dates which are recorded already. Those report only the
partitions whose numbers changed, as materialisations in the asset's history: a weekly reconcile
that finds nothing stores 20 events instead of 8,000.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from pydantic import Field

from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.archive.listing import Archive
from availability_pipeline.errors import LostRecordError
from availability_pipeline.orchestration.instance import materialisations, run_log
from availability_pipeline.orchestration.outcomes import one_line_failures
from availability_pipeline.orchestration.partitions import (
    DAILY_AVAILABILITY,
    range_tags,
    span_of,
    yesterday,
)
from availability_pipeline.orchestration.resources import AvailabilityDuckDB, Clock, Reporter
from availability_pipeline.quality.rules import share
from availability_pipeline.record import write
from availability_pipeline.record.status import scope
from availability_pipeline.settings import Settings

Context = dg.AssetExecutionContext | dg.OpExecutionContext

DATABASE = "database"
"""Metadata: the file that was written."""

PROBES = "probe_um_daily_klines_1m"
"""Pool of this dataset's probes: one at a time, its limit of 1 is in dagster.yaml.

It is held while the archive is listed, because of two probes of the same dates the later one must
be written last, or it would be refused. It is not a lock on the file: a writer waits for the few
seconds in which another one writes (`record.connection`), so a further dataset is listed at the
same time.
"""


class ProbeConfig(dg.Config):
    """Run configuration of a probe."""

    accept_shrunken: bool = Field(
        default=False, description="Write even if the archive lists far less than is recorded."
    )
    new_record: bool = Field(
        default=False,
        description="Begin a new record where Dagster has materialised partitions of one that is "
        "not in the database.",
    )


def probe(
    context: Context,
    config: ProbeConfig,
    start: dt.date,
    end: dt.date,
    database: AvailabilityDuckDB,
    archive: Archive,
    clock: Clock,
    limits: Settings,
    reporter: Reporter,
) -> write.Update:
    """Bring these dates of the record up to date, and log what was found.

    Raises:
        dagster.Failure: nothing was written; the description is one line.
    """

    def refuse_lost() -> None:
        if not config.new_record:
            _refuse_lost(context.instance, database.path())

    with one_line_failures():
        done = write.update(
            database.path(),
            archive,
            start,
            end,
            now=clock.now(),
            run_id=context.run.run_id,
            settings=limits,
            accept_shrunken=config.accept_shrunken,
            progress=_log_progress(context, reporter),
            if_nothing_recorded=refuse_lost,
        )
    listing, result = done.listing, done.result
    context.log.info(
        f"Daily update completed: {result.symbols} symbols probed, {result.available} available, "
        f"{result.pending} pending, {result.absent} absent on {len(done.dates)} dates; "
        f"{result.appeared} appeared, {result.replaced} replaced, {result.vanished} vanished"
    )
    context.log.info(
        f"{listing.requests} LIST requests; {result.widened} symbols probed on all recorded dates; "
        f"passed over: {dict(listing.passed_over) or 'nothing'}"
    )
    return done


def _refuse_lost(instance: dg.DagsterInstance, path: Path) -> None:
    """A moved file or a mistyped AVAILABILITY_DB must not become a second record, unnoticed."""
    last = instance.get_latest_materialization_event(DAILY_AVAILABILITY)
    if last is None or last.asset_materialization is None:
        return
    written = last.asset_materialization.metadata.get(DATABASE)
    where = f", written to {written.value}" if written else ""
    raise LostRecordError(
        f"nothing is recorded in {path}, but Dagster has materialised partitions of "
        f"{DAILY_AVAILABILITY.to_user_string()} (the last: "
        f"{last.asset_materialization.partition}{where}); nothing was written. Correct "
        "AVAILABILITY_DB, move the file back, or `restore` a backup. "
        "To begin a new record: `backfill --new-record`, or new_record: true in the run's config"
    )


def _log_progress(context: Context, reporter: Reporter) -> Callable[[int, int], None]:
    logged = 0

    def report(done: int, total: int) -> None:
        nonlocal logged
        if done * 10 // total > logged:
            logged = done * 10 // total
            context.log.info(f"listed {done} of {total} symbols")
        reporter.report(done, total)

    return report


def numbers(row: dict[str, Any]) -> dict[str, int | float]:
    """Numbers of one partition, which the UI plots; those that are unknown are left out."""
    wanted = [
        *("symbols_probed", "expected", "available", "pending", "absent", "new_listings"),
        *("appeared", "replaced", "touched", "vanished"),
    ]
    found: dict[str, int | float] = {name: row[name] for name in wanted if row[name] is not None}
    if row["expected"] is not None:
        found["completeness"] = round(share(row["available"], row["expected"]), 4)
    for lag in ("lag_p50_hours", "lag_p95_hours"):
        if row[lag] is not None:
            found[lag] = round(row[lag], 2)
    return found


def _of_listings(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    t = scope(con)
    by_state = dict(
        con.execute(f"SELECT state, count(*) FROM {t.listings} GROUP BY state").fetchall()
    )
    [(holes,)] = con.execute(
        f"SELECT coalesce(sum(hole_days), 0)::BIGINT FROM {t.listings}"
    ).fetchall()
    states = {s: by_state.get(s, 0) for s in ("live", "ended", "settled")}
    return {"dagster/row_count": sum(by_state.values()), "hole_days": holes, **states}


def _of_summary(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    [(rows,)] = con.execute(f"SELECT count(*) FROM {scope(con).summary}").fetchall()
    return {"dagster/row_count": rows}


DERIVED: Mapping[str, Callable[[duckdb.DuckDBPyConnection], dict[str, Any]]] = {
    "symbol_spans": _of_listings,
    "daily_summary": _of_summary,
}
"""The derived tables that are assets, and the numbers that the UI plots of each."""


def dates_by_default(job: str, end: dt.date, limits: Settings) -> tuple[dt.date, dt.date]:
    """The dates that a job probes again when it is launched without dates, up to `end`."""
    if job == full_reconcile.name:
        return min(FIRST_DATE, end), end
    return max(FIRST_DATE, end - dt.timedelta(limits.lookback_days - 1)), end


@dg.op(pool=PROBES, out=dg.Out(dg.Nothing))
def probe_again(
    context: dg.OpExecutionContext,
    config: ProbeConfig,
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    archive: dg.ResourceParam[Archive],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
    reporter: dg.ResourceParam[Reporter],
) -> None:
    """Probe dates again; report the partitions that changed or that Dagster does not know."""
    dates = span_of(context.run.tags)
    if dates is None:
        dates = dates_by_default(context.job_name, yesterday(clock.now()), limits)
        # The list of runs and the alerts read them there.
        run_log.tag(context.instance, context.run_id, range_tags(*dates))
    start, end = dates
    done = probe(context, config, start, end, duckdb, archive, clock, limits, reporter)
    where = {DATABASE: dg.MetadataValue.path(duckdb.path())}
    # Not only what this write changed: a run may have ended between its write and its reports, an
    # update changes dates that are not its own, and Dagster's history may have been lost.
    shown = _shown(context.instance, {str(row["date"]) for row in done.dates})
    differ = [row for row in done.dates if shown.get(str(row["date"])) != _lasting(numbers(row))]
    to_report = {row["date"]: row for row in (*differ, *done.changed)}
    if to_report:
        # Read before anything is reported: where that fails, the next run reports all of it.
        with one_line_failures(), duckdb.get_reader() as con:
            of = {name: {**count(con), **where} for name, count in DERIVED.items()}
        for name, metadata in of.items():
            context.log_event(dg.AssetMaterialization(name, metadata=metadata))
    for row in to_report.values():
        context.log_event(
            dg.AssetMaterialization(
                DAILY_AVAILABILITY, partition=str(row["date"]), metadata={**numbers(row), **where}
            )
        )
    context.log.info(f"{len(done.changed)} partitions changed, {len(to_report)} reported")


_LASTING = frozenset(
    {"expected", "available", "pending", "new_listings", "lag_p50_hours", "lag_p95_hours"}
)
"""The numbers that say something of a date. The others are of one probe, follow from these, or grow
on all dates with each newly known symbol, which is absent there."""


def _lasting(metadata: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in metadata.items() if name in _LASTING}


def _shown(instance: dg.DagsterInstance, partitions: set[str]) -> dict[str, dict[str, object]]:
    """The lasting numbers that Dagster shows of each of these partitions that it knows."""
    found = {}
    for record in materialisations.latest(instance, DAILY_AVAILABILITY, partitions):
        event = record.asset_materialization
        if event and event.partition:
            found[event.partition] = _lasting({k: v.value for k, v in event.metadata.items()})
    return found


PROBING = DAILY_AVAILABILITY.to_python_identifier()
"""The step of an update that probes."""


def work_of(step_key: str) -> set[str]:
    """What a step that ended well has done: `probe_again` does all that an update's steps do."""
    return {PROBING, *DERIVED} if step_key == probe_again.name else {step_key}


@dg.job
def late_arrivals() -> None:
    """Probe the last AVAILABILITY_LOOKBACK_DAYS dates again; by hand: as of yesterday."""
    probe_again()


@dg.job
def full_reconcile() -> None:
    """Probe all dates again, in one run; by hand: from the archive's first date to yesterday."""
    probe_again()
