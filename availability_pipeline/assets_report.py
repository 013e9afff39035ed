"""The asset that draws: `availability_report`.

Belongs here: fetching through resources, one call of `report`, the pictures as metadata. Does not
belong here: drawing (`report`), when it runs beyond its own condition (`automation`).

It is no part of the update jobs: a run of its own, once a day, so a picture that cannot be drawn
fails nothing but itself and an update is not longer for it (3 to 4 s of CPU on 2.6 million rows).
Once a day, because the pictures stay in the event log: about 60 kB each time, 20 MB a year.
"""

import base64
from collections.abc import Mapping

import dagster as dg

from availability_pipeline import report, report_load
from availability_pipeline.assets import OWNERS, daily_summary, symbol_listings
from availability_pipeline.partitions import ONE_RUN
from availability_pipeline.report_style import TITLES
from availability_pipeline.resources import AvailabilityDuckDB, Clock
from availability_pipeline.settings import Settings
from availability_pipeline.store import StoreError


@dg.asset(
    deps=[symbol_listings, daily_summary],
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
    """Read the record, let go of it, draw."""
    try:
        with duckdb.get_reader() as con:
            data = report_load.load(con, threshold=limits.slo_completeness, drawn_at=clock.now())
        drawn = report.write(data, limits.report_path, small=True, record=limits.db_path)
    except (StoreError, report_load.EmptyRecordError, report.ReportError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
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
