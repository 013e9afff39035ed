"""The data assets: from the archive to the record and what follows from it.

An asset fetches through resources, calls the domain, and gives the UI its numbers; SQL, rules and
formats are of the packages below.
"""

import base64
import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from availability_pipeline import PROGRAM
from availability_pipeline.archive.datasets import FIRST_DATE, UM_KLINES_1M
from availability_pipeline.archive.listing import Archive
from availability_pipeline.copies import backup, destinations, export
from availability_pipeline.orchestration.outcomes import one_line_failures
from availability_pipeline.orchestration.partitions import DAILY_AVAILABILITY, ONE_RUN, daily
from availability_pipeline.orchestration.probes import (
    DATABASE,
    DERIVED,
    PROBES,
    ProbeConfig,
    numbers,
    probe,
)
from availability_pipeline.orchestration.resources import AvailabilityDuckDB, Clock, Reporter
from availability_pipeline.record.schema import COLUMNS, VIEW, VIEW_COLUMNS
from availability_pipeline.report import data as recorded
from availability_pipeline.report import draw
from availability_pipeline.report.style import TITLES
from availability_pipeline.settings import Settings

UPDATE = {"availability/part": "update"}
"""Tag of what an update materialises; the update jobs select by it."""


def _table(name: str) -> dict[str, Any]:
    """What the catalogue shows of a table, from the columns that its DDL is made of."""
    columns = [
        dg.TableColumn(
            column.name,
            column.type,
            column.description,
            constraints=dg.TableColumnConstraints(nullable=not column.required),
        )
        for column in (VIEW_COLUMNS if name == VIEW else COLUMNS[name])
    ]
    return {
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "dagster/table_name": f"main.{name}",
    }


OWNERS = ["team:availability"]

ABOUT = {
    "market": UM_KLINES_1M.market.rpartition("/")[2],
    "frequency": UM_KLINES_1M.frequency,
    "data_type": UM_KLINES_1M.data_type,
}
"""Tags to search by in the catalogue."""


vision_archive = dg.AssetSpec(
    "vision_archive",
    description=f"The public archive, s3://data.binance.vision/{UM_KLINES_1M.prefix}",
    kinds={"s3"},
    group_name="archive",
    tags=ABOUT,
    metadata={"prefix": UM_KLINES_1M.prefix, "docs": dg.MetadataValue.url(
        "https://github.com/binance/binance-public-data")},
)  # fmt: skip


@dg.asset(
    key=DAILY_AVAILABILITY,
    deps=[vision_archive],
    partitions_def=daily,
    backfill_policy=ONE_RUN,
    group_name="record",
    kinds={"duckdb", "s3"},
    pool=PROBES,
    tags={**UPDATE, **ABOUT},
    owners=OWNERS,
    metadata=_table(VIEW),
    description=f"""Which files the archive holds, for each probed date and known symbol.

**Nothing here yet?** Fill the past once, about 2,000 LIST requests in one run: *Materialize…*, all
partitions; or `{PROGRAM} backfill --start {FIRST_DATE} --end YESTERDAY`. The schedules then keep it
up to date.

Example: the files of a date, with their status.

```sql
SELECT symbol, status, file_size_bytes FROM daily_availability WHERE date = '2024-01-15'
```
""",
)
def daily_availability(
    context: dg.AssetExecutionContext,
    config: ProbeConfig,
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    archive: dg.ResourceParam[Archive],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
    reporter: dg.ResourceParam[Reporter],
) -> dg.MaterializeResult[None]:
    """One call into the record, then what the UI shows of it."""
    if not (context.has_partition_key or context.has_partition_key_range):
        raise dg.Failure(
            description="this run has no dates: choose partitions when you materialise, test the "
            "schedule in the UI and launch what it asks for (full_reconcile_schedule: all dates), "
            f"or run `{PROGRAM} backfill`",
            allow_retries=False,
        )
    span = context.partition_key_range
    start, end = dt.date.fromisoformat(span.start), dt.date.fromisoformat(span.end)
    done = probe(context, config, start, end, duckdb, archive, clock, limits, reporter)
    for row in done.dates:
        context.add_asset_metadata(numbers(row), partition_key=str(row["date"]))
    return dg.MaterializeResult(metadata={DATABASE: dg.MetadataValue.path(duckdb.path())})


@dg.asset(
    deps=[daily_availability],
    backfill_policy=ONE_RUN,
    group_name="record",
    kinds={"duckdb"},
    tags={**UPDATE, **ABOUT},
    owners=OWNERS,
    metadata=_table("symbol_spans"),
    description="""First and last file, days, holes and state of each symbol.

Each update writes it together with the rows; materialised by itself, it is reported again.

Example: symbols that ended, the latest first.

```sql
SELECT symbol, last_available FROM symbol_spans WHERE state = 'ended' ORDER BY 2 DESC
```
""",
)
def symbol_spans(duckdb: dg.ResourceParam[AvailabilityDuckDB]) -> dg.MaterializeResult[None]:
    """Report the table, which the update has written together with the rows."""
    return _report("symbol_spans", duckdb)


@dg.asset(
    deps=[daily_availability, symbol_spans],
    backfill_policy=ONE_RUN,
    group_name="record",
    kinds={"duckdb"},
    tags={**UPDATE, **ABOUT},
    owners=OWNERS,
    metadata=_table("daily_summary"),
    description="""What each date holds: counts by status, new and ended listings, bytes, lag.

Each update writes it together with the rows; materialised by itself, it is reported again.

Example: growth by month.

```sql
SELECT date_trunc('month', period) AS month, max(available) FROM daily_summary GROUP BY 1 ORDER BY 1
```
""",
)
def daily_summary(duckdb: dg.ResourceParam[AvailabilityDuckDB]) -> dg.MaterializeResult[None]:
    """Report the table, which the update has written together with the rows."""
    return _report("daily_summary", duckdb)


def _report(table: str, duckdb: AvailabilityDuckDB) -> dg.MaterializeResult[None]:
    with one_line_failures(), duckdb.get_reader() as con:
        found = DERIVED[table](con)
    return dg.MaterializeResult(metadata={**found, DATABASE: dg.MetadataValue.path(duckdb.path())})


record = dg.AssetSpec(
    "record",
    group_name="record",
    kinds={"duckdb"},
    owners=OWNERS,
    tags=ABOUT,
    description="The record as a whole: what the standing checks judge, at 09:30 UTC each day and "
    "whenever they are executed here. Nothing materialises it.",
)
"""Checks of the whole record are on an asset of its own, and no check is on a partitioned asset.

Dagster runs an asset's checks with every materialisation of it from the UI, and where a run covers
many partitions it plans each check once a partition: 18,326 rows for all history that nothing ever
evaluates, shown as "Skipped". A verdict for each partition would need an event each, which cannot
be batched: 500 partitions took 42 s instead of 3 and 7.1 MB instead of 3.8. So a partition carries
its numbers as metadata (`completeness` among them), and what is judged is the whole record.

It has no dependencies: `daily_availability*` would select it, and Dagster refuses a range for a
selection with an asset that nothing materialises.
"""


PUBLISHED = export.Form(
    format="parquet", by_month=True, everything=True, versioned=True, datasets="all"
)


@dg.asset(
    deps=[daily_availability, symbol_spans, daily_summary],
    backfill_policy=ONE_RUN,
    group_name="published",
    kinds={"parquet"},
    owners=OWNERS,
    pool="publish",  # two at once would remove each other's new files
    description="The record as Parquet files with a manifest, where AVAILABILITY_PUBLISH_URL says.",
)
def published_availability(
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """Write the files whose rows have changed, then the manifest."""
    if limits.publish_url is None:
        raise _no_longer_set("AVAILABILITY_PUBLISH_URL")
    with one_line_failures():
        to = destinations.destination(limits.publish_url)
        done = export.export(
            duckdb.path(), to, PUBLISHED, now=clock.now(), wait_seconds=limits.db_wait_seconds
        )
    return dg.MaterializeResult(
        metadata={
            "published": str(to),
            "dagster/row_count": done.manifest.rows["availability"],
            "last_date": str(done.manifest.last_date),
            "files": len(done.manifest.files),
            "files_written": len(done.written),
            "files_removed": len(done.removed),
            "bytes": sum(file.bytes for file in done.manifest.files),
        }
    )


@dg.asset(
    deps=[daily_availability, symbol_spans, daily_summary],
    backfill_policy=ONE_RUN,
    group_name="published",
    kinds={"duckdb"},
    owners=OWNERS,
    pool="backup",
    description="A verified copy of the record in AVAILABILITY_BACKUP_DIR; old ones go.",
)
def record_backup(
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """Copy, verify, keep the last of each day, week and month."""
    if limits.backup_dir is None:
        raise _no_longer_set("AVAILABILITY_BACKUP_DIR")
    with one_line_failures():
        made = backup.make(
            duckdb.path(),
            Path(limits.backup_dir).expanduser(),
            now=clock.now(),
            keep=backup.Keep(
                limits.backup_keep_daily, limits.backup_keep_weekly, limits.backup_keep_monthly
            ),
            wait_seconds=limits.db_wait_seconds,
        )
    return dg.MaterializeResult(
        metadata={
            "backup": dg.MetadataValue.path(str(made.path)),
            "dagster/row_count": made.manifest.rows,
            "last_date": str(made.manifest.last_date),
            "bytes": made.manifest.bytes,
            "sha256": made.manifest.sha256,
            "removed": [path.name for path in made.removed],
        }
    )


def _no_longer_set(name: str) -> dg.Failure:
    # Both assets are defined only where their setting is set: it is gone since the code was loaded.
    return dg.Failure(
        description=f"{name} is no longer set: set it again, or reload the code location in the "
        "UI under Deployment, which then has this asset no more",
        allow_retries=False,
    )


@dg.asset(
    deps=[symbol_spans, daily_summary],
    backfill_policy=ONE_RUN,
    group_name="answers",
    kinds={"plotly", "matplotlib"},
    owners=OWNERS,
    # The first late-arrivals run after the files appear is at 09:00 UTC; should it fail, the next
    # one that writes the tables sets this off.
    automation_condition=dg.AutomationCondition.on_cron("0 9 * * *", "UTC"),
    description="The record in pictures: growth, completeness, every symbol, publication lag. "
    "One HTML page that opens offline, and PNG files.",
)
def availability_report(
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """Read each dataset, let go of the record, draw."""
    with one_line_failures(recorded.EmptyRecordError, draw.ReportError):
        drawn = draw.write_all(
            duckdb.get_reader,
            limits.report_path,
            threshold=limits.slo_completeness,
            drawn_at=clock.now(),
            small=True,
            record=limits.db_path,
        )
    return dg.MaterializeResult(
        metadata={
            "page": dg.MetadataValue.path(str(drawn.page.resolve())),
            "page_bytes": drawn.page.stat().st_size,
            "pictures": _pictures(drawn.small),
        }
    )


def _pictures(small: Mapping[str, bytes]) -> dg.MarkdownMetadataValue:
    """All pictures inside one text, which the UI shows at one click without asking for a file."""
    return dg.MetadataValue.md(
        "\n\n".join(
            f"![{TITLES[name]}](data:image/png;base64,{base64.b64encode(png).decode()})"
            for name, png in small.items()
        )
    )
