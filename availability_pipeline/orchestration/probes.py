"""Probing from Dagster: one call into the record for each dataset, and what is reported to Dagster.

`probe` is shared by the assets, which updates and backfills materialise, and by `probe_again`, the
op of the jobs that probe periods which are recorded already. Those report only the partitions whose
numbers changed, as materialisations in the asset's history: a weekly reconcile that finds nothing
stores 20 events instead of 8,000.
"""

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from pydantic import Field

from availability_pipeline.archive.datasets import Dataset, UnknownDatasetError, select
from availability_pipeline.archive.listing import Archive, ArchiveError, NotInArchiveError
from availability_pipeline.errors import LostRecordError, StoreError
from availability_pipeline.orchestration.instance import materialisations, pools, run_log
from availability_pipeline.orchestration.outcomes import one_line_failures
from availability_pipeline.orchestration.partitions import (
    KINDS_TAG,
    Kind,
    grouped,
    kinds,
    range_tags,
    span_of,
    yesterday,
)
from availability_pipeline.orchestration.resources import AvailabilityDuckDB, Clock, Reporter
from availability_pipeline.quality.rules import share
from availability_pipeline.record import write
from availability_pipeline.settings import Settings

Context = dg.AssetExecutionContext | dg.OpExecutionContext

DATABASE = "database"
"""Metadata: the file that was written."""


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
    ended_too: bool = Field(
        default=True,
        description="List the symbols that ended long ago, too, as the weekly reconcile does; "
        "scheduled updates leave them out.",
    )
    # The names are keys: a text that is a value could be `{env: ...}`, and be shown.
    datasets: dict[str, bool] = Field(
        default_factory=dict,
        description="Of the configured datasets only those that are true here, by names or "
        "patterns; none: all.",
    )

    def chosen(self, of: Sequence[Dataset]) -> tuple[Dataset, ...]:
        """Of some datasets those that the run is about.

        Raises:
            dagster.Failure: a name is not a dataset, or none of them is among these.
        """
        names = [name for name, chosen in self.datasets.items() if chosen]
        if not names:
            return tuple(of)
        try:
            wanted = select(",".join(names))
        except UnknownDatasetError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from None
        found = tuple(dataset for dataset in of if dataset in wanted)
        if not found:
            raise dg.Failure(
                description=f"{', '.join(names)}: none of {', '.join(map(str, of))}; "
                "AVAILABILITY_DATASETS says which datasets are recorded",
                allow_retries=False,
            )
        return found


@dataclass(frozen=True)
class Probed:
    """What a probe of some datasets found, of all of them together.

    Attributes:
        dates: each period of the range that was recorded: its numbers, see `numbers`.
        changed: of each period of which a file or a number changed.
    """

    dates: tuple[dict[str, Any], ...]
    changed: tuple[dict[str, Any], ...]


def probe(
    context: Context,
    config: ProbeConfig,
    kind: Kind,
    start: dt.date,
    end: dt.date,
    database: AvailabilityDuckDB,
    archive: Archive,
    clock: Clock,
    limits: Settings,
    reporter: Reporter,
) -> Probed:
    """Bring these periods of a kind's datasets up to date, and log what was found.

    Each dataset is written by itself: one that fails keeps no other from being written.

    Raises:
        dagster.Failure: of at least one dataset nothing was written; the description is one line.
    """

    def refuse_lost() -> None:
        if not config.new_record:
            _refuse_lost(context.instance, kind, database.path())

    def waiting() -> None:
        context.log.info(f"another run probes {kind}; waiting for it")

    pools.apply_limit(context.instance, limits.archive_runs)
    chosen = config.chosen(kind.datasets)
    done: list[write.Update] = []
    failures: list[Exception] = []
    missing: list[NotInArchiveError] = []
    with pools.alone(context.instance, str(kind), waiting):
        try:
            folders = archive.folders(chosen[0]) if len(chosen) > 1 else None
        except ArchiveError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        for dataset in chosen:
            try:
                done.append(
                    write.update(
                        database.path(),
                        archive,
                        start,
                        end,
                        now=clock.now(),
                        run_id=context.run.run_id,
                        settings=limits,
                        accept_shrunken=config.accept_shrunken,
                        ended_too=config.ended_too,
                        progress=_log_progress(context, reporter, dataset),
                        if_nothing_recorded=refuse_lost,
                        dataset=dataset,
                        folders=folders,
                    )
                )
                _log(context, done[-1])
            except NotInArchiveError as error:
                context.log.warning(str(error))
                missing.append(error)
            except (ArchiveError, StoreError) as error:
                failures.append(error)
    if not done:
        failures += missing
    if failures:
        others = f" ({len(done)} other datasets of {kind} were written)" if done else ""
        raise dg.Failure(
            description="; ".join(dict.fromkeys(map(str, failures))) + others, allow_retries=False
        ) from failures[0]
    if len(done) == 1:
        return Probed(done[0].dates, done[0].changed)
    with one_line_failures(), database.get_reader() as con:
        return _together(con, done, start, end)


def _log(context: Context, done: write.Update) -> None:
    listing, result = done.listing, done.result
    context.log.info(
        f"{listing.dataset.frequency.capitalize()} update completed: {result.symbols} symbols "
        f"probed, {result.available} available, {result.pending} pending, {result.absent} absent "
        f"on {len(done.dates)} dates; {result.appeared} appeared, {result.replaced} replaced, "
        f"{result.vanished} vanished ({listing.dataset})"
    )
    context.log.info(
        f"{listing.requests} LIST requests; {result.widened} symbols probed on all recorded dates; "
        f"passed over: {dict(listing.passed_over) or 'nothing'}"
    )


def _together(
    con: duckdb.DuckDBPyConnection, done: Sequence[write.Update], start: dt.date, end: dt.date
) -> Probed:
    """The numbers of several datasets as one row a period."""
    changed = {row["date"] for update in done for row in update.changed}
    rows = write.summed(con, [update.listing.dataset for update in done], start, end, changed)
    for name in write.CHANGES:
        for row in rows:
            row[name] = 0
        counted = {row["date"]: row for row in rows}
        for update in done:
            seen = {row["date"]: row for row in (*update.dates, *update.changed)}
            for date, row in seen.items():
                counted[date][name] += row[name]
    return Probed(
        tuple(row for row in rows if start <= row["date"] <= end),
        tuple(row for row in rows if row["date"] in changed),
    )


def _refuse_lost(instance: dg.DagsterInstance, kind: Kind, path: Path) -> None:
    """A moved file or a mistyped AVAILABILITY_DB must not become a second record, unnoticed."""
    last = instance.get_latest_materialization_event(kind.key)
    if last is None or last.asset_materialization is None:
        return
    written = last.asset_materialization.metadata.get(DATABASE)
    where = f", written to {written.value}" if written else ""
    raise LostRecordError(
        f"nothing is recorded in {path}, but Dagster has materialised partitions of "
        f"{kind.key.to_user_string()} (the last: "
        f"{last.asset_materialization.partition}{where}); nothing was written. Correct "
        "AVAILABILITY_DB, move the file back, or `restore` a backup. "
        "To begin a new record: `backfill --new-record`, or new_record: true in the run's config"
    )


LOG_SECONDS = 10
"""How often a listing's progress is logged: each line is kept in Dagster's history, at 1 kB."""


def _log_progress(
    context: Context, reporter: Reporter, dataset: Dataset
) -> Callable[[int, int], None]:
    logged = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal logged
        if time.monotonic() - logged >= LOG_SECONDS:
            logged = time.monotonic()
            context.log.info(f"listed {done} of {total} symbols of {dataset}")
        reporter.report(done, total)

    return report


def numbers(row: Mapping[str, Any]) -> dict[str, int | float]:
    """Numbers of one partition, which the UI plots; those that are unknown are left out."""
    wanted = [
        *("symbols_probed", "expected", "available", "pending", "absent", "new_listings"),
        *write.CHANGES,
    ]
    found: dict[str, int | float] = {name: row[name] for name in wanted if row[name] is not None}
    found["dagster/partition_row_count"] = row["available"]  # files, which have the rows
    if row["expected"] is not None:
        found["completeness"] = round(share(row["available"], row["expected"]), 4)
    for lag in ("lag_p50_hours", "lag_p95_hours"):
        if row[lag] is not None:
            found[lag] = round(row[lag], 2)
    return found


def _of_spans(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    by_state = dict(
        con.execute("SELECT state, count(*) FROM symbol_spans GROUP BY state").fetchall()
    )
    [(holes,)] = con.execute(
        "SELECT coalesce(sum(hole_days), 0)::BIGINT FROM symbol_spans"
    ).fetchall()
    states = {s: by_state.get(s, 0) for s in ("live", "ended", "settled")}
    return {"dagster/row_count": sum(by_state.values()), "hole_days": holes, **states}


def _of_summary(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    [(rows,)] = con.execute("SELECT count(*) FROM daily_summary").fetchall()
    return {"dagster/row_count": rows}


DERIVED: Mapping[str, Callable[[duckdb.DuckDBPyConnection], dict[str, Any]]] = {
    "symbol_spans": _of_spans,
    "daily_summary": _of_summary,
}
"""The derived tables that are assets, and the numbers that the UI plots of each."""


def dates_by_default(
    job: str, kind: Kind, end: dt.date, limits: Settings
) -> tuple[dt.date, dt.date] | None:
    """The periods that a job probes again when it is launched without dates, up to `end`.

    None where the kind has none of them: its archive stopped before, or has not begun.
    """
    if job == full_reconcile.name:
        return kind.within(kind.entry.first, end)
    return kind.within(end - dt.timedelta(limits.lookback_days - 1), end)


@dg.op(pool=pools.ARCHIVE, out=dg.Out(dg.Nothing))
def probe_again(
    context: dg.OpExecutionContext,
    config: ProbeConfig,
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    archive: dg.ResourceParam[Archive],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
    reporter: dg.ResourceParam[Reporter],
) -> None:
    """Probe periods again; report the partitions that changed or that Dagster does not know."""
    chosen = grouped(
        config.chosen(
            [dataset for kind in kinds(limits) if again(context.job_name, kind)
             for dataset in kind.datasets]
        )
    )  # fmt: skip
    given = span_of(context.run.tags)
    spans = {}
    for kind in chosen:
        if given:
            spans[kind] = kind.within(*given)
        else:
            spans[kind] = dates_by_default(context.job_name, kind, yesterday(clock.now()), limits)
    wanted = {kind: span for kind, span in spans.items() if span}
    if wanted and not given:
        # The list of runs and the alerts read them there.
        first = min(start for start, _ in wanted.values())
        last = max(kind.one.last_day(end) for kind, (_, end) in wanted.items())
        run_log.tag(context.instance, context.run_id, range_tags(first, last, wanted))
    failed: list[dg.Failure] = []
    for kind, (start, end) in wanted.items():
        try:
            done = probe(
                context, config, kind, start, end, duckdb, archive, clock, limits, reporter
            )
        except dg.Failure as failure:  # the other kinds are no less due
            failed.append(failure)
        else:
            _report_changed(context, kind, done, duckdb)
    if failed:
        raise dg.Failure(
            description="; ".join(str(failure.description) for failure in failed),
            allow_retries=False,
        )


def _report_changed(
    context: dg.OpExecutionContext, kind: Kind, done: Probed, duckdb: AvailabilityDuckDB
) -> None:
    where = {DATABASE: dg.MetadataValue.path(duckdb.path())}
    # Not only what this write changed: a run may have ended between its write and its reports, an
    # update changes dates that are not its own, and Dagster's history may have been lost.
    shown = _shown(context.instance, kind, {str(row["date"]) for row in done.dates})
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
                kind.key, partition=str(row["date"]), metadata={**numbers(row), **where}
            )
        )
    context.log.info(f"{len(done.changed)} partitions changed, {len(to_report)} reported ({kind})")


_LASTING = frozenset(
    {"expected", "available", "pending", "new_listings", "lag_p50_hours", "lag_p95_hours"}
)
"""The numbers that say something of a date. The others are of one probe, follow from these, or grow
on all dates with each newly known symbol, which is absent there."""


def _lasting(metadata: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in metadata.items() if name in _LASTING}


def _shown(
    instance: dg.DagsterInstance, kind: Kind, partitions: set[str]
) -> dict[str, dict[str, object]]:
    """The lasting numbers that Dagster shows of each of these partitions that it knows."""
    found = {}
    for record in materialisations.latest(instance, kind.key, partitions):
        event = record.asset_materialization
        if event and event.partition:
            found[event.partition] = _lasting({k: v.value for k, v in event.metadata.items()})
    return found


def work_of(step_key: str, tags: Mapping[str, str]) -> set[str]:
    """What a step that ended well has done, as steps: `probe_again` does all that updates' do.

    Args:
        step_key: of the step.
        tags: of its run.
    """
    if step_key != probe_again.name:
        return {step_key}
    named = (text.split("/") for text in tags.get(KINDS_TAG, "").split(", "))
    probed = {
        f"{market}__{data_type}__{frequency}_availability"
        for market, frequency, data_type in (parts for parts in named if len(parts) == 3)
    }
    return {*probed, *DERIVED}


def again(job: str, kind: Kind) -> bool:
    """Whether a job probes a kind again: late arrivals are of daily files.

    Of a month the schedule of its own probes for 15 days.
    """
    return job == full_reconcile.name or not kind.one.monthly


@dg.job
def late_arrivals() -> None:
    """Probe the last AVAILABILITY_LOOKBACK_DAYS dates again; by hand: as of yesterday."""
    probe_again()


@dg.job
def full_reconcile() -> None:
    """Probe all periods again, in one run; by hand: from the archive's first to the last one."""
    probe_again()
