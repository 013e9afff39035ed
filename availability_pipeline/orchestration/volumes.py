"""Daily volume and rankings: the assets, and the job `volume`, which brings both up to date.

An asset reads the dates it is materialised for. The job is one op, as those that probe again are:
it reports only the dates of which something was read, and takes all markets, whose partitions
begin on different dates. What the files say, and which are read, is `mirror.volume`'s.
"""

import datetime as dt
import string
from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.mirror import volume as reading
from availability_pipeline.mirror.download import Failure, Options
from availability_pipeline.mirror.sources import configured_markets, daily_of
from availability_pipeline.orchestration.assets import OWNERS, column_schema
from availability_pipeline.orchestration.instance import run_log
from availability_pipeline.orchestration.mirrored import UNFINISHED, log_progress, named
from availability_pipeline.orchestration.outcomes import one_line_failures
from availability_pipeline.orchestration.partitions import (
    ONE_RUN,
    Kind,
    kinds,
    range_tags,
    span_of,
    yesterday,
)
from availability_pipeline.orchestration.probes import Context
from availability_pipeline.orchestration.resources import AvailabilityDuckDB, Clock
from availability_pipeline.queries.answers import QueryError
from availability_pipeline.queries.volume import write_rankings
from availability_pipeline.record import volumes
from availability_pipeline.record.status import recorded_datasets
from availability_pipeline.settings import Settings, SettingsError

RANKINGS = dg.AssetKey("volume_rankings")

JOB = "volume"

POOL = "volume"
"""Two at once would fetch the same files."""

FIRST_SECONDS = 86_400
"""All history is 26,000 files, where `dagster.yaml` ends what runs longer than an hour."""

VOLUMES = "volumes"
"""Metadata: the file that was written."""


def key_of(market: str) -> dg.AssetKey:
    """The asset of a market's daily volume."""
    return dg.AssetKey([market, "daily_volume"])


def under_way(instance: dg.DagsterInstance) -> bool:
    """Whether a run of the job is queued, or has begun and not ended."""
    return bool(instance.get_runs(dg.RunsFilter(job_name=JOB, statuses=UNFINISHED), limit=1))


def recent(last: dt.date) -> tuple[dt.date, dt.date]:
    """The dates an update reads: those of the month before and of the month of `last`.

    A month comes out up to two weeks after its end: so it is compared with its days.
    """
    month = last.replace(day=1)
    return (month - dt.timedelta(1)).replace(day=1), last


def of_volume(configured: Settings) -> list[dg.AssetsDefinition]:
    """The assets of the markets whose daily 1d klines are configured; none without."""
    markets = configured_markets(configured)
    if not markets:
        return []
    by_kind = {dataset: kind for kind in kinds(configured) for dataset in kind.datasets}
    return [
        *(_daily_volume(market, by_kind[daily_of(market)], configured) for market in markets),
        _rankings(markets, configured),
    ]


def _daily_volume(market: str, kind: Kind, configured: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        key=key_of(market),
        deps=[kind.key],
        partitions_def=kind.partitions,
        backfill_policy=ONE_RUN,
        group_name=market,
        kinds={"duckdb", "s3"},
        pool=POOL,
        tags={"market": market},
        owners=OWNERS,
        metadata={
            "dagster/column_schema": column_schema(volumes.COLUMNS),
            "dagster/table_name": "main.daily_volume",
            "dagster/uri": configured.volume_path.absolute().as_uri(),
        },
        description=_about(daily_of(market)),
    )
    def volume_by_date(
        context: dg.AssetExecutionContext,
        duckdb: dg.ResourceParam[AvailabilityDuckDB],
        clock: dg.ResourceParam[Clock],
        limits: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult[None]:
        """Read what is new of the run's dates, then what the UI shows of it."""
        if not (context.has_partition_key or context.has_partition_key_range):
            raise dg.Failure(
                description="this run has no dates: choose partitions when you materialise, or "
                f"launch the job {JOB}, which reads the last two months",
                allow_retries=False,
            )
        span = context.partition_key_range
        start, end = dt.date.fromisoformat(span.start), dt.date.fromisoformat(span.end)
        done = _read(context, market, start, end, duckdb, clock, limits)
        rows = _rows(market, limits)
        if done.failed:
            # Written all the same; the run's other dates are those it failed of.
            _report(context, market, done.dates, rows, limits)
            raise dg.Failure(
                description=_said(done.failed), metadata=_numbers(done), allow_retries=False
            )
        others = (date for date in done.dates if not start <= date <= end)
        _report(context, market, others, rows, limits)
        for date in kind.one.periods(start, end):
            context.add_asset_metadata(_of_date(rows.get(date, 0)), partition_key=str(date))
        return dg.MaterializeResult(metadata={**_numbers(done), **_where(limits)})

    return volume_by_date


def _about(dataset: Dataset) -> str:
    unit = "base" if dataset.market == "cm" else "quote"
    return f"""What was traded: prices, volume and trades of each symbol and date, from {dataset}.

Verified files only: monthly ones for the past, daily ones for the last weeks; one that was replaced
is read again. `quote_volume` is in the {unit} asset.

**Nothing here yet?** Read the past once, in one run: *Materialize…*, all partitions. The job \
`{JOB}` then keeps it up to date, after each update.

Example: the last date's symbols.

```sql
{_EXAMPLE.substitute(market=dataset.market)}
```
"""


_EXAMPLE = string.Template("""SELECT symbol, quote_asset, quote_volume, trades FROM daily_volume
WHERE market = '$market' AND date = (SELECT max(date) FROM daily_volume)
ORDER BY quote_asset, quote_volume DESC""")


def _rankings(markets: Sequence[str], configured: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        key=RANKINGS,
        deps=[key_of(market) for market in markets],
        backfill_policy=ONE_RUN,
        group_name="answers",
        kinds={"parquet"},
        pool=POOL,
        owners=OWNERS,
        metadata={"dagster/uri": configured.rankings_path.absolute().as_uri()},
        description="Each date's ranks by volume, for each quote asset, as Parquet: all of them in "
        "one file, and USDT's with the columns of the predecessor's 1.5.",
    )
    def rankings(
        clock: dg.ResourceParam[Clock], limits: dg.ResourceParam[Settings]
    ) -> dg.MaterializeResult[None]:
        """Write both files."""
        return dg.MaterializeResult(metadata=_write_rankings(clock, limits))

    return rankings


@dg.op(pool=POOL, out=dg.Out(dg.Nothing))
def read_volume(
    context: dg.OpExecutionContext,
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> None:
    """Read what is new of each market, write the rankings; report the dates that changed."""
    markets = configured_markets(limits)
    if not markets:
        raise dg.Failure(
            description="AVAILABILITY_DATASETS has no daily 1d klines: add um/daily/klines/1d, or "
            "reload the code location in the UI, which then has this job no more",
            allow_retries=False,
        )
    given = span_of(context.run.tags)
    start, end = given or recent(yesterday(clock.now()))
    if not given:
        run_log.tag(context.instance, context.run_id, range_tags(start, end))
    with one_line_failures(), duckdb.get_reader() as con:
        recorded = recorded_datasets(con)
    failed: list[str] = []
    for market in markets:
        if daily_of(market) not in recorded:
            context.log.info(f"{daily_of(market)} is not recorded yet")
            continue
        try:
            done = _read(context, market, start, end, duckdb, clock, limits)
        except dg.Failure as failure:  # the other markets are no less due
            failed.append(str(failure.description))
            continue
        rows = _rows(market, limits)
        # A run may have ended between its write and its reports; `volume update` reports nothing.
        known = context.instance.get_materialized_partitions(key_of(market))
        lost = {date for date in rows if str(date) not in known}
        _report(context, market, done.dates | lost, rows, limits)
        if done.failed:
            failed.append(_said(done.failed))
    if limits.volume_path.exists():
        context.log_event(
            dg.AssetMaterialization(RANKINGS, metadata=_write_rankings(clock, limits))
        )
    if failed:
        raise dg.Failure(description="; ".join(failed), allow_retries=False)


@dg.job(name=JOB, tags={"dagster/max_runtime": str(FIRST_SECONDS)})
def volume() -> None:
    """Read new and replaced 1d files of this month and the last, and rank; by hand: likewise."""
    read_volume()


def _read(
    context: Context,
    market: str,
    start: dt.date,
    end: dt.date,
    duckdb: AvailabilityDuckDB,
    clock: Clock,
    limits: Settings,
) -> reading.Done:
    with one_line_failures(QueryError, SettingsError):
        done = reading.update(
            duckdb.get_reader,
            limits.volume_path,
            market,
            Options.from_settings(limits),
            now=clock.now,
            start=start,
            end=end,
            wait_seconds=limits.db_wait_seconds,
            progress=log_progress(context),
        )
    context.log.info(
        f"{done.files} files of {market} were read, {done.rows} rows of {len(done.dates)} dates; "
        f"{len(done.refused)} not taken, {len(done.failed)} could not be had"
    )
    if done.refused:
        context.log.warning(f"not taken until they change: {named(done.refused)}")
    return done


def _numbers(done: reading.Done) -> dict[str, Any]:
    found: dict[str, Any] = {
        "files": done.files,
        "rows": done.rows,
        "refused": len(done.refused),
        "failed": len(done.failed),
    }
    if done.refused:
        found["not_taken"] = named(done.refused)
    return found


def _said(failed: Sequence[Failure]) -> str:
    return (
        f"{len(failed)} files could not be had ({named(failed)}); the others were read, and the "
        "next run tries these again"
    )


def _rows(market: str, limits: Settings) -> dict[dt.date, int]:
    """How many rows each date has."""
    with one_line_failures(), volumes.reader(limits.volume_path, limits.db_wait_seconds) as con:
        return dict(
            con.execute(
                "SELECT date, count(DISTINCT symbol) FROM klines WHERE market = ? GROUP BY date",
                [market],
            ).fetchall()
        )


def _of_date(rows: int) -> dict[str, int]:
    return {"dagster/partition_row_count": rows}


def _where(limits: Settings) -> dict[str, Any]:
    return {VOLUMES: dg.MetadataValue.path(limits.volume_path)}


def _report(
    context: Context,
    market: str,
    dates: Iterable[dt.date],
    rows: dict[dt.date, int],
    limits: Settings,
) -> None:
    for date in sorted(dates):
        context.log_event(
            dg.AssetMaterialization(
                key_of(market),
                partition=str(date),
                metadata={**_of_date(rows.get(date, 0)), **_where(limits)},
            )
        )


def _write_rankings(clock: Clock, limits: Settings) -> dict[str, Any]:
    with (
        one_line_failures(QueryError),
        volumes.reader(limits.volume_path, limits.db_wait_seconds) as con,
    ):
        written = write_rankings(con, limits.rankings_path, clock.now())
    return {
        **{f"rows of {name}": rows for name, rows in written.items()},
        "folder": dg.MetadataValue.path(limits.rankings_path),
    }
