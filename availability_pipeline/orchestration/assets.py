"""The data assets: from the archive to the record and what follows from it.

An asset fetches through resources, calls the domain, and gives the UI its numbers; SQL, rules and
formats are of the packages below.
"""

import base64
import datetime as dt
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from availability_pipeline import PROGRAM
from availability_pipeline.archive.datasets import configured
from availability_pipeline.archive.listing import Archive
from availability_pipeline.copies import backup, destinations, export, publish
from availability_pipeline.orchestration.instance import pools
from availability_pipeline.orchestration.outcomes import no_longer_set, one_line_failures
from availability_pipeline.orchestration.partitions import ONE_RUN, Kind
from availability_pipeline.orchestration.probes import (
    DATABASE,
    DERIVED,
    ProbeConfig,
    numbers,
    probe,
)
from availability_pipeline.orchestration.resources import AvailabilityDuckDB, Clock, Reporter
from availability_pipeline.record.schema import CELLS, CELLS_COLUMNS, COLUMNS, Column
from availability_pipeline.report import data as recorded
from availability_pipeline.report import draw
from availability_pipeline.report.style import TITLES
from availability_pipeline.settings import Settings

UPDATE = {"availability/part": "update"}
"""Tag of what an update materialises; the update jobs select by it."""


def column_schema(columns: Iterable[Column]) -> dg.TableSchema:
    """The columns that a table's DDL is made of, as the catalogue shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.type,
                column.description,
                constraints=dg.TableColumnConstraints(nullable=not column.required),
            )
            for column in columns
        ]
    )


def _table(name: str) -> dict[str, Any]:
    """What the catalogue shows of a table of the record."""
    return {
        "dagster/column_schema": column_schema(CELLS_COLUMNS if name == CELLS else COLUMNS[name]),
        "dagster/table_name": f"main.{name}",
    }


OWNERS = ["team:availability"]

_SOURCE = "https://github.com/binance/binance-public-data"

vision_archive = dg.AssetSpec(
    "vision_archive",
    description="The public archive, s3://data.binance.vision/data/",
    kinds={"s3"},
    group_name="archive",
    metadata={"docs": dg.MetadataValue.url(_SOURCE)},
)


def availability(kind: Kind) -> dg.AssetsDefinition:
    """The asset of a market, frequency and type: which files the archive holds."""

    @dg.asset(
        key=kind.key,
        deps=[vision_archive],
        partitions_def=kind.partitions,
        backfill_policy=ONE_RUN,
        group_name=kind.one.market,
        # The type is among them because the graph shows of a key its last part only.
        kinds={"duckdb", "s3", kind.one.data_type},
        pool=pools.ARCHIVE,
        tags={
            **UPDATE,
            # To search by in the catalogue.
            "market": kind.one.market,
            "frequency": kind.one.frequency,
            "data_type": kind.one.data_type,
            "lifecycle": kind.entry.lifecycle,
        },
        owners=OWNERS,
        metadata={
            **_table(CELLS),
            "prefix": kind.one.prefix,
            "docs": dg.MetadataValue.url(_SOURCE),
        },
        description=_about(kind),
    )
    def files_by_period(
        context: dg.AssetExecutionContext,
        config: ProbeConfig,
        duckdb: dg.ResourceParam[AvailabilityDuckDB],
        archive: dg.ResourceParam[Archive],
        clock: dg.ResourceParam[Clock],
        limits: dg.ResourceParam[Settings],
        reporter: dg.ResourceParam[Reporter],
    ) -> dg.MaterializeResult[None]:
        """One call into the record for each dataset, then what the UI shows of it."""
        if not (context.has_partition_key or context.has_partition_key_range):
            raise dg.Failure(
                description="this run has no dates: choose partitions when you materialise, test "
                "the schedule in the UI and launch what it asks for (full_reconcile_schedule: all "
                f"dates), or run `{PROGRAM} backfill`",
                allow_retries=False,
            )
        span = context.partition_key_range
        start, end = dt.date.fromisoformat(span.start), dt.date.fromisoformat(span.end)
        done = probe(context, config, kind, start, end, duckdb, archive, clock, limits, reporter)
        for row in done.dates:
            context.add_asset_metadata(numbers(row), partition_key=str(row["date"]))
        return dg.MaterializeResult(metadata={DATABASE: dg.MetadataValue.path(duckdb.path())})

    return files_by_period


def _about(kind: Kind) -> str:
    """The description of a kind's asset."""
    entry, one = kind.entry, kind.one
    first = one.text(one.period_of(entry.first))
    until = f", until {one.text(entry.last)}" if entry.last else ""
    note = f"; {entry.note}" if entry.note else ""
    intervals = [dataset.interval for dataset in kind.datasets if dataset.interval]
    inside = f" Intervals: {', '.join(intervals)}." if intervals else ""
    period = one.period_of(entry.last or EXAMPLE_DATE)
    example = _EXAMPLE.substitute(dataset=one, period=period)
    each = "month" if one.monthly else "date"
    return f"""{kind}: which files the archive holds, for each probed {each} and known symbol.

Files from {first} on{until}: {entry.lifecycle}{note}.{inside}

**Nothing here yet?** Fill the past once, in one run: *Materialize…*, all partitions; or
`{PROGRAM} backfill --dataset {entry}`. The schedules then keep it up to date.

Example: the files of a {each}, with their status.

```sql
{example}
```
"""


_EXAMPLE = string.Template(
    "SELECT symbol, status, file_size_bytes FROM availability\n"
    "WHERE dataset = '$dataset' AND period = '$period'"
)

EXAMPLE_DATE = dt.date(2024, 1, 15)


def derived(name: str, deps: Sequence[dg.AssetKey], description: str) -> dg.AssetsDefinition:
    """The asset of a table that each update writes together with the files."""

    @dg.asset(
        name=name,
        deps=deps,
        backfill_policy=ONE_RUN,
        group_name="record",
        kinds={"duckdb"},
        tags=UPDATE,
        owners=OWNERS,
        metadata=_table(name),
        description=description,
    )
    def table(duckdb: dg.ResourceParam[AvailabilityDuckDB]) -> dg.MaterializeResult[None]:
        """Report it."""
        return _report(name, duckdb)

    return table


SPANS = """First and last file, days, holes and state of each symbol of each dataset.

Each update writes it together with the files; materialised by itself, it is reported again.

Example: symbols that ended, the latest first.

```sql
SELECT symbol, last_available FROM symbol_spans WHERE state = 'ended' ORDER BY 2 DESC
```
"""

SUMMARY = """What each date or month of a dataset holds: counts by status, new and ended listings, \
bytes, lag.

Each update writes it together with the files; materialised by itself, it is reported again.

Example: growth by month.

```sql
SELECT dataset, date_trunc('month', period) AS month, max(available) FROM daily_summary
GROUP BY ALL ORDER BY ALL
```
"""


def of_the_record(several: Sequence[Kind]) -> list[dg.AssetsDefinition]:
    """The assets of what is recorded: one for each kind, and the two tables that follow."""
    keys = [kind.key for kind in several]
    return [
        *(availability(kind) for kind in several),
        derived("symbol_spans", keys, SPANS),
        derived("daily_summary", [*keys, dg.AssetKey("symbol_spans")], SUMMARY),
    ]


def _report(table: str, duckdb: AvailabilityDuckDB) -> dg.MaterializeResult[None]:
    with one_line_failures(), duckdb.get_reader() as con:
        found = DERIVED[table](con)
    return dg.MaterializeResult(metadata={**found, DATABASE: dg.MetadataValue.path(duckdb.path())})


record = dg.AssetSpec(
    "record",
    group_name="record",
    kinds={"duckdb"},
    owners=OWNERS,
    description="The record as a whole: what the standing checks judge, at 09:30 UTC each day and "
    "whenever they are executed here. Nothing materialises it.",
)
"""Checks of the whole record are on an asset of its own, and no check is on a partitioned asset.

Dagster runs an asset's checks with every materialisation of it from the UI, and where a run covers
many partitions it plans each check once a partition: 18,326 rows for all history that nothing ever
evaluates, shown as "Skipped". A verdict for each partition would need an event each, which cannot
be batched: 500 partitions took 42 s instead of 3 and 7.1 MB instead of 3.8. So a partition carries
its numbers as metadata (`completeness` among them), and what is judged is the whole record.

It has no dependencies: `um/klines/daily_availability*` would select it, and Dagster refuses a range
for a selection with an asset that nothing materialises.
"""


PUBLISHED = export.Form(
    format="parquet", by_month=True, everything=True, versioned=True, datasets="all"
)


@dg.asset(
    deps=[*DERIVED],
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
        raise no_longer_set("AVAILABILITY_PUBLISH_URL")
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
    deps=[*DERIVED],
    backfill_policy=ONE_RUN,
    group_name="published",
    kinds={"html", "json", "duckdb"},
    owners=OWNERS,
    pool="site",  # of two at once the second would be refused
    description="The record as a static site, where AVAILABILITY_SITE_URL says: pages, JSON, "
    "Parquet, news, and the record itself for `follow`.",
)
def published_record(
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """Upload what has changed, then latest.json, which switches to it."""
    if limits.site_url is None:
        raise no_longer_set("AVAILABILITY_SITE_URL")
    with one_line_failures():
        to = destinations.destination(limits.site_url)
        form = publish.Form(address=limits.site_address, threshold=limits.slo_completeness)
        done = publish.publish(
            duckdb.path(), to, form, now=clock.now(), wait_seconds=limits.db_wait_seconds
        )
    found: dict[str, Any] = {
        "published": str(to),
        "publication": done.latest.publication,
        "datasets": len({file.dataset for file in done.manifest.files if file.dataset}),
        "files": done.files,
        "bytes": done.bytes,
        "files_uploaded": done.uploaded,
        "bytes_uploaded": done.uploaded_bytes,
        "files_removed": done.removed,
        "record_bytes": done.manifest.database.bytes,
    }
    if done.latest.last_probe:
        found["last_probe"] = dg.MetadataValue.timestamp(done.latest.last_probe)
    if limits.site_address:
        found["address"] = dg.MetadataValue.url(limits.site_address)
    return dg.MaterializeResult(metadata=found)


@dg.asset(
    deps=[*DERIVED],
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
        raise no_longer_set("AVAILABILITY_BACKUP_DIR")
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


@dg.asset(
    deps=[*DERIVED],
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
    with one_line_failures(recorded.EmptyRecordError):
        drawn = draw.write_all(
            duckdb.get_reader,
            limits.report_path,
            threshold=limits.slo_completeness,
            drawn_at=clock.now(),
            configured=configured(limits),
            small=True,
            record=limits.db_path,
            volumes=limits.volume_path,
            wait_seconds=limits.db_wait_seconds,
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
