"""The one partitions definition everybody imports, and the dates it leads to."""

import datetime as dt
from collections.abc import Mapping

import dagster as dg

from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.dates import span_text
from availability_pipeline.record.schema import VIEW

DAILY_AVAILABILITY = dg.AssetKey(VIEW)
"""The asset of the record. Named after its view; spelt nowhere else outside of SQL."""

daily = dg.DailyPartitionsDefinition(start_date=FIRST_DATE.isoformat(), timezone="UTC")

ONE_RUN = dg.BackfillPolicy.single_run()
"""A range of partitions is one run. On assets without partitions, too: otherwise Dagster refuses
`dagster asset materialize --partition-range` for a selection that has one of them."""


# Dagster's own tags, as they stand in every run history; a test compares them with Dagster's names.
PARTITION_NAME_TAG = "dagster/partition"
ASSET_PARTITION_RANGE_START_TAG = "dagster/asset_partition_range_start"
ASSET_PARTITION_RANGE_END_TAG = "dagster/asset_partition_range_end"

DATES_TAG = "dates"
"""The run tag that says in the UI's list of runs which dates a run is about."""


def yesterday(now: dt.datetime) -> dt.date:
    """The last UTC date that is over at `now` (aware)."""
    return now.astimezone(dt.UTC).date() - dt.timedelta(1)


def range_tags(start: dt.date, end: dt.date) -> dict[str, str]:
    """Run tags that make one run cover all partitions from `start` to `end`, both included."""
    tags = {
        ASSET_PARTITION_RANGE_START_TAG: start.isoformat(),
        ASSET_PARTITION_RANGE_END_TAG: end.isoformat(),
    }
    return {**tags, DATES_TAG: dates_of(tags)}


def span_of(tags: Mapping[str, str]) -> tuple[dt.date, dt.date] | None:
    """The first and the last date that a run is about, from its tags; None where there are none."""
    one = tags.get(PARTITION_NAME_TAG, "")
    try:
        start = dt.date.fromisoformat(tags.get(ASSET_PARTITION_RANGE_START_TAG, one))
        return start, dt.date.fromisoformat(tags.get(ASSET_PARTITION_RANGE_END_TAG, one))
    except ValueError:
        return None


def dates_of(tags: Mapping[str, str]) -> str:
    """The same as text: `2024-01-15`, `2024-01-15 to 2024-01-20` or ``."""
    span = span_of(tags)
    return span_text(*span) if span else ""
