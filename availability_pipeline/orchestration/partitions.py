"""Which assets there are, one for each configured market, frequency and type; and their partitions.

The intervals of a type are inside its asset: they share the listing of the symbols, and Dagster
takes at most 100,000 partitions an asset, so that neither symbols nor intervals can be partitions.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import dagster as dg

from availability_pipeline.archive.datasets import CATALOGUE, Dataset, Entry, by_kind, configured
from availability_pipeline.dates import span_text
from availability_pipeline.settings import Settings

ONE_RUN = dg.BackfillPolicy.single_run()
"""A range of partitions is one run. On assets without partitions, too: otherwise Dagster refuses
`dagster asset materialize --partition-range` for a selection that has one of them."""


# Dagster's own tags, as they stand in every run history; a test compares them with Dagster's names.
PARTITION_NAME_TAG = "dagster/partition"
ASSET_PARTITION_RANGE_START_TAG = "dagster/asset_partition_range_start"
ASSET_PARTITION_RANGE_END_TAG = "dagster/asset_partition_range_end"

DATES_TAG = "dates"
"""The run tag that says in the UI's list of runs which dates a run is about."""

KINDS_TAG = "datasets"
"""The run tag that says which kinds of datasets it is about, as `um/daily/klines`."""

WORK_TAG = "availability/work"
"""The run tag that says what a run of Dagster's nameless job of assets does: `daily_update`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What one asset records: the configured datasets of a market, frequency and type.

    Attributes:
        datasets: one, or one for each interval.
    """

    datasets: tuple[Dataset, ...]

    def __str__(self) -> str:
        return "/".join(self.datasets[0].kind)

    @property
    def one(self) -> Dataset:
        """Any of its datasets: what is said of periods and symbols holds for all."""
        return self.datasets[0]

    @property
    def entry(self) -> Entry:
        """What the catalogue knows of it."""
        return CATALOGUE[self.one.kind]

    @property
    def key(self) -> dg.AssetKey:
        """Of its asset."""
        return dg.AssetKey(
            [self.one.market, self.one.data_type, f"{self.one.frequency}_availability"]
        )

    @property
    def step(self) -> str:
        """The step of a run that probes it."""
        return self.key.to_python_identifier()

    @property
    def work(self) -> str:
        """What its updates are called: `daily_update` or `monthly_update`."""
        return f"{self.one.frequency}_update"

    @property
    def partitions(self) -> dg.TimeWindowPartitionsDefinition:
        """From its first possible period on; to its last one where it stopped."""
        make = dg.MonthlyPartitionsDefinition if self.one.monthly else dg.DailyPartitionsDefinition
        last = self.entry.last
        after = self.one.shift(last, 1).isoformat() if last else None
        return make(start_date=self.entry.first.isoformat(), end_date=after, timezone="UTC")

    def within(self, start: dt.date, end: dt.date) -> tuple[dt.date, dt.date] | None:
        """Its first and last period of those that end by `end`; None where it has none of them.

        A month that `start` is in belongs to them, one that is not over by `end` does not.
        """
        last = self.one.period_of(end)
        if self.one.last_day(last) > end:
            last = self.one.shift(last, -1)
        first = max(self.one.period_of(start), self.entry.first)
        last = min(last, self.entry.last or last)
        return (first, last) if first <= last else None


def kinds(settings: Settings) -> tuple[Kind, ...]:
    """Those of the configured datasets, in their order.

    Raises:
        SettingsError: see `archive.datasets.configured`.
    """
    return grouped(configured(settings))


def grouped(datasets: Iterable[Dataset]) -> tuple[Kind, ...]:
    """Datasets by market, frequency and type, in their order."""
    return tuple(map(Kind, by_kind(datasets)))


def yesterday(now: dt.datetime) -> dt.date:
    """The last UTC date that is over at `now` (aware)."""
    return now.astimezone(dt.UTC).date() - dt.timedelta(1)


def range_tags(start: dt.date, end: dt.date, several: Iterable[Kind] = ()) -> dict[str, str]:
    """Run tags that make one run cover all partitions from `start` to `end`, both included.

    `several` are the kinds of datasets it is about.
    """
    tags = {
        ASSET_PARTITION_RANGE_START_TAG: start.isoformat(),
        ASSET_PARTITION_RANGE_END_TAG: end.isoformat(),
    }
    if about := ", ".join(map(str, several)):
        tags[KINDS_TAG] = about
    return {**tags, DATES_TAG: dates_of(tags)}


def span_of(tags: Mapping[str, str]) -> tuple[dt.date, dt.date] | None:
    """The first and the last date that a run is about, from its tags; None where there are none.

    A month is its first day.
    """
    one = tags.get(PARTITION_NAME_TAG, "")
    try:
        start = dt.date.fromisoformat(tags.get(ASSET_PARTITION_RANGE_START_TAG, one))
        return start, dt.date.fromisoformat(tags.get(ASSET_PARTITION_RANGE_END_TAG, one))
    except ValueError:
        return None


def dates_of(tags: Mapping[str, str]) -> str:
    """The same as text: `2024-01-15`, `2024-01-15 to 2024-01-20` or ``; of months `2024-01`."""
    span, about = span_of(tags), tags.get(KINDS_TAG, "").split(", ")
    if span and all("/monthly/" in kind for kind in about):
        return " to ".join(dict.fromkeys(date.isoformat()[:7] for date in span))
    return span_text(*span) if span else ""
