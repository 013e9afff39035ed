"""The standing checks: what should hold of the whole record, judged once a day.

Belongs here: fetching through resources, one call into `standing` or `slo`, translation. Does not
belong here: rules (`slo`), SQL (`standing`), reading Dagster's records (`health`), the checks that
ride on each partition (`assets`).

They block nothing and take no writer's place in the pool: they read, and wait for a writer. What
goes wrong in a check itself (no database, a query that fails) raises; it is no verdict on the data.
"""

from collections.abc import Sequence

import dagster as dg

from availability_pipeline import health, standing
from availability_pipeline.outcomes import check_result, one_line_failures
from availability_pipeline.resources import AvailabilityDuckDB, Clock
from availability_pipeline.settings import Settings

# check -> the asset it is shown on, and what should hold.
_OF_THE_RECORD = {
    "continuity": (
        "daily_availability",
        "No date without rows from 2019-09-25 to yesterday. Dates before 2019-12-31 hold no files, "
        "and that is right.",
    ),
    "completeness_slo": (
        "daily_availability",
        "Every settled date has at least AVAILABILITY_SLO_COMPLETENESS of the symbols expected on "
        "it: those between their first and last file, or live. Pending dates are not judged.",
    ),
    "symbol_holes": (
        "symbol_listings",
        "Holes stay below AVAILABILITY_SLO_HOLE_SHARE of all symbol-days; a new one warns for "
        "AVAILABILITY_SLO_NEW_HOLE_DAYS days.",
    ),
    "publication_lag": (
        "daily_summary",
        "The median lag from the end of a date to its files is near that of the 30 published "
        "dates before it; judged for the last 30 days.",
    ),
}


def _of_the_record(name: str, asset: str, description: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset, name=name, description=description)
    def check(
        duckdb: dg.ResourceParam[AvailabilityDuckDB],
        clock: dg.ResourceParam[Clock],
        limits: dg.ResourceParam[Settings],
    ) -> dg.AssetCheckResult:
        with one_line_failures(), duckdb.get_reader() as con:
            return check_result(standing.ALL[name](con, clock.now(), limits))

    return check


@dg.asset_check(
    asset="daily_availability",
    description="AVAILABILITY_SLO_SUCCESS_RATE of the last 30 days' scheduled updates succeeded, "
    "by Dagster's own run records.",
)
def update_success_rate(
    context: dg.AssetCheckExecutionContext,
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> dg.AssetCheckResult:
    """The share of scheduled runs that succeeded."""
    return check_result(health.update_success_rate(context.instance, clock.now(), limits))


@dg.asset_check(
    asset="daily_availability",
    description="Yesterday's partition was materialised within AVAILABILITY_SLO_FRESHNESS_MINUTES "
    "after midnight UTC; before that time, the day before is judged.",
)
def freshness(
    context: dg.AssetCheckExecutionContext,
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> dg.AssetCheckResult:
    """Dagster's FreshnessPolicy is blind to partitions: an old one made today looks fresh."""
    return check_result(health.freshness(context.instance, clock.now(), limits))


@dg.asset_check(
    asset="daily_availability",
    description="The partitions Dagster calls materialised are the dates with rows, and the other "
    "way round.",
)
def store_matches_dagster(
    context: dg.AssetCheckExecutionContext, duckdb: dg.ResourceParam[AvailabilityDuckDB]
) -> dg.AssetCheckResult:
    """Drift comes from a restored backup, a wiped run history, or rows deleted by hand."""
    # Before the rows are read: a run that ends in between has stored both.
    writing = health.others_running(context.instance, context.run.run_id)
    with one_line_failures(), duckdb.get_reader() as con:
        stored = standing.stored_dates(con)
    return check_result(health.store_matches_dagster(context.instance, stored, writing=writing))


@dg.asset_check(
    asset="symbol_listings",
    description="The last settled date has AVAILABILITY_SLO_EXCHANGE_COVERAGE of the perpetual "
    "contracts that the exchange (AVAILABILITY_EXCHANGE_INFO_URL) says it trades; an exchange that "
    "gives no answer is a warning.",
)
def exchange_coverage(
    duckdb: dg.ResourceParam[AvailabilityDuckDB], limits: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """A cross-check from outside; whatever the exchange answers, nothing is written."""
    with one_line_failures(), duckdb.get_reader() as con:
        date, recorded = standing.last_settled(con)
    return check_result(standing.exchange_coverage(date, recorded, limits))


_ALWAYS = (
    *(_of_the_record(name, *where) for name, where in _OF_THE_RECORD.items()),
    update_success_rate,
    freshness,
    store_matches_dagster,
)

STANDING = (*_ALWAYS, exchange_coverage)
"""All there are."""


def standing_checks(configured: Settings) -> Sequence[dg.AssetChecksDefinition]:
    """Those of what is configured: without an exchange to ask there is nothing to compare with."""
    return STANDING if configured.exchange_info_url else _ALWAYS
