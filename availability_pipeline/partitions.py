"""The one partitions definition everybody imports, and the dates it leads to."""

import datetime as dt

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)

from availability_pipeline.columns import TABLE
from availability_pipeline.keys import FIRST_DATE

DAILY_AVAILABILITY = dg.AssetKey(TABLE)
"""The asset of the rows. Named after their table; spelt nowhere else outside of SQL."""

daily = dg.DailyPartitionsDefinition(start_date=FIRST_DATE.isoformat(), timezone="UTC")

ONE_RUN = dg.BackfillPolicy.single_run()
"""A range of partitions is one run. On assets without partitions, too: otherwise Dagster refuses
`dagster asset materialize --partition-range` for a selection that has one of them."""


def yesterday(now: dt.datetime) -> dt.date:
    """The last UTC date that is over at `now` (aware)."""
    return now.astimezone(dt.UTC).date() - dt.timedelta(1)


def range_tags(start: dt.date, end: dt.date) -> dict[str, str]:
    """Run tags that make one run cover all partitions from `start` to `end`, both included."""
    return {
        ASSET_PARTITION_RANGE_START_TAG: start.isoformat(),
        ASSET_PARTITION_RANGE_END_TAG: end.isoformat(),
    }
