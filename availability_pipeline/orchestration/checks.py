"""The standing checks: what should hold of the whole record, judged once a day.

`quality.checks` has the questions to the record, `runs` those to Dagster; here they become checks.
All are on the asset `record` (`assets` says why). They block nothing and take no place in a pool:
they read, and wait for a writer. A check that cannot judge says why in its own history, as a
warning that starts with "Not judged", and fails its run, which is alerted once. A query that fails
for another reason only raises; neither is a verdict on the data.
"""

from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from availability_pipeline.errors import StoreError
from availability_pipeline.orchestration import assets, runs
from availability_pipeline.orchestration.outcomes import check_result
from availability_pipeline.orchestration.resources import AvailabilityDuckDB, Clock
from availability_pipeline.quality import checks
from availability_pipeline.quality.rules import Verdict, naming_the_file
from availability_pipeline.settings import Settings

ON = assets.record.key
"""The asset that all of them are on."""

Result = Iterator[dg.AssetCheckResult]

# check -> what should hold.
_OF_THE_RECORD = {
    "rows_are_unique": "Each date and symbol has one row.",
    "continuity": (
        "No date without rows from 2019-09-25 to yesterday. Dates before 2019-12-31 hold no files, "
        "and that is right."
    ),
    "completeness_slo": (
        "Every settled date has at least AVAILABILITY_SLO_COMPLETENESS of the symbols expected on "
        "it: those between their first and last file, or live. Pending dates are not judged."
    ),
    "symbol_holes": (
        "Holes stay below AVAILABILITY_SLO_HOLE_SHARE of all symbol-days; a new one warns for "
        "AVAILABILITY_SLO_NEW_HOLE_DAYS days."
    ),
    "publication_lag": (
        "The median lag from the end of a date to its files is near that of the 30 published "
        "dates before it; judged for the last 30 days."
    ),
}


def _on_record(
    description: str, name: str | None = None
) -> Callable[[Callable[..., Result | dg.AssetCheckResult]], dg.AssetChecksDefinition]:
    # A check may be a generator, as `_judged` has to be; the decorator's annotation lacks it.
    return dg.asset_check(asset=ON, name=name, description=description)  # type: ignore[return-value]


def _judged(name: str, duckdb: AvailabilityDuckDB, judge: Callable[[], Verdict]) -> Result:
    path = duckdb.path()
    try:
        verdict = judge()
    except StoreError as error:
        yield dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"Not judged: {error}",
            metadata={assets.DATABASE: dg.MetadataValue.path(path)},
        )
        raise dg.Failure(description=str(error), allow_retries=False) from error
    result = check_result(naming_the_file(name, verdict, path))
    yield result.with_metadata({**result.metadata, assets.DATABASE: dg.MetadataValue.path(path)})


def _of_the_record(name: str, description: str) -> dg.AssetChecksDefinition:
    @_on_record(description, name)
    def check(
        duckdb: dg.ResourceParam[AvailabilityDuckDB],
        clock: dg.ResourceParam[Clock],
        limits: dg.ResourceParam[Settings],
    ) -> Result:
        def judge() -> Verdict:
            with duckdb.get_reader() as con:
                return checks.ALL[name](con, clock.now(), limits)

        yield from _judged(name, duckdb, judge)

    return check


@_on_record(
    "AVAILABILITY_SLO_SUCCESS_RATE of the last 30 days' scheduled updates succeeded, "
    "by Dagster's own run records.",
)
def update_success_rate(
    context: dg.AssetCheckExecutionContext,
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> dg.AssetCheckResult:
    """The share of scheduled runs that succeeded."""
    return check_result(runs.update_success_rate(context.instance, clock.now(), limits))


@_on_record(
    "Yesterday's partition was materialised within AVAILABILITY_SLO_FRESHNESS_MINUTES "
    "after midnight UTC; before that time, the day before is judged.",
)
def freshness(
    context: dg.AssetCheckExecutionContext,
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> dg.AssetCheckResult:
    """Dagster's FreshnessPolicy is blind to partitions: an old one made today looks fresh."""
    return check_result(runs.freshness(context.instance, clock.now(), limits))


@_on_record(
    "The partitions Dagster calls materialised are the dates with rows, and the other way round.",
)
def store_matches_dagster(
    context: dg.AssetCheckExecutionContext, duckdb: dg.ResourceParam[AvailabilityDuckDB]
) -> Result:
    """Drift comes from a restored backup, a wiped run history, or rows deleted by hand."""

    def judge() -> Verdict:
        # Before the rows are read: a run that ends in between has stored both.
        writing = runs.others_running(context.instance, context.run.run_id)
        with duckdb.get_reader() as con:
            stored = checks.stored_dates(con)
        return runs.store_matches_dagster(context.instance, stored, writing=writing)

    yield from _judged("store_matches_dagster", duckdb, judge)


@_on_record(
    "The last settled date has AVAILABILITY_SLO_EXCHANGE_COVERAGE of the perpetual "
    "contracts that the exchange (AVAILABILITY_EXCHANGE_INFO_URL) says it trades; an exchange that "
    "gives no answer is a warning.",
)
def exchange_coverage(
    duckdb: dg.ResourceParam[AvailabilityDuckDB], limits: dg.ResourceParam[Settings]
) -> Result:
    """A cross-check from outside; whatever the exchange answers, nothing is written."""

    def judge() -> Verdict:
        with duckdb.get_reader() as con:
            date, recorded = checks.last_settled(con)
        return checks.exchange_coverage(date, recorded, limits)

    yield from _judged("exchange_coverage", duckdb, judge)


_ALWAYS = (
    *(_of_the_record(name, what) for name, what in _OF_THE_RECORD.items()),
    update_success_rate,
    freshness,
    store_matches_dagster,
)

STANDING = (*_ALWAYS, exchange_coverage)
"""All there are."""


def standing_checks(configured: Settings) -> Sequence[dg.AssetChecksDefinition]:
    """Those of what is configured: without an exchange to ask there is nothing to compare with."""
    return STANDING if configured.exchange_info_url else _ALWAYS
