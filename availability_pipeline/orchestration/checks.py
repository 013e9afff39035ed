"""The standing checks as Dagster's: fetched through resources, judged by `quality`, translated.

`quality.checks` says which there are and asks the record, `runs` asks Dagster, `discovery` the
archive; here they become checks. All but the mirror's weekly one are on the asset `record`
(`assets` says why). They block nothing and take no place in a pool: they read, and wait for a
writer. A check that cannot judge says why in its own history, as a warning that starts with "Not
judged", and fails its run, which is alerted once. A query that fails for another reason only
raises; neither is a verdict on the data.
"""

from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from availability_pipeline.archive import datasets
from availability_pipeline.archive.discovery import discover
from availability_pipeline.archive.listing import ArchiveError, S3Archive
from availability_pipeline.copies import standing as published
from availability_pipeline.errors import StoreError
from availability_pipeline.mirror import standing, volume_checks
from availability_pipeline.mirror.sources import configured_markets
from availability_pipeline.orchestration import mirrored, runs, volumes
from availability_pipeline.orchestration.outcomes import check_result
from availability_pipeline.orchestration.probes import DATABASE
from availability_pipeline.orchestration.resources import AvailabilityDuckDB, Clock
from availability_pipeline.quality import checks, rules
from availability_pipeline.quality.rules import Verdict
from availability_pipeline.queries.answers import QueryError
from availability_pipeline.settings import Settings

Result = Iterator[dg.AssetCheckResult]


def _standing(
    name: str,
) -> Callable[[Callable[..., Result | dg.AssetCheckResult]], dg.AssetChecksDefinition]:
    check = checks.TABLE[name]
    # A check may be a generator, as `_judged` has to be; the decorator's annotation lacks it.
    return dg.asset_check(  # type: ignore[return-value]
        asset=dg.AssetKey(check.asset), name=name, description=check.description
    )


def _judged(name: str, duckdb: AvailabilityDuckDB | None, judge: Callable[[], Verdict]) -> Result:
    """The result of a check, of a record or not."""
    path = duckdb.path() if duckdb else None
    where = {DATABASE: dg.MetadataValue.path(path)} if path else {}
    try:
        verdict = judge()
    except (ArchiveError, StoreError, QueryError) as error:
        yield dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"Not judged: {error}",
            metadata=where,
        )
        raise dg.Failure(description=str(error), allow_retries=False) from error
    result = check_result(checks.naming_the_file(name, verdict, path) if path else verdict)
    yield result.with_metadata({**result.metadata, **where})


def _of_the_record(name: str) -> dg.AssetChecksDefinition:
    @_standing(name)
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


@_standing("update_success_rate")
def update_success_rate(
    context: dg.AssetCheckExecutionContext,
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> dg.AssetCheckResult:
    """The share of scheduled runs that succeeded."""
    return check_result(runs.update_success_rate(context.instance, clock.now(), limits))


@_standing("freshness")
def freshness(
    context: dg.AssetCheckExecutionContext,
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> dg.AssetCheckResult:
    """Dagster's FreshnessPolicy is blind to partitions: an old one made today looks fresh."""
    return check_result(runs.freshness(context.instance, clock.now(), limits))


@_standing("store_matches_dagster")
def store_matches_dagster(
    context: dg.AssetCheckExecutionContext,
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    limits: dg.ResourceParam[Settings],
) -> Result:
    """Drift comes from a restored backup, a wiped run history, or rows deleted by hand."""

    def judge() -> Verdict:
        # Before the rows are read: a run that ends in between has stored both.
        writing = runs.others_running(context.instance, context.run.run_id)
        with duckdb.get_reader() as con:
            stored = checks.stored_dates(con)
        return runs.store_matches_dagster(context.instance, stored, limits, writing=writing)

    yield from _judged("store_matches_dagster", duckdb, judge)


@_standing("exchange_coverage")
def exchange_coverage(
    duckdb: dg.ResourceParam[AvailabilityDuckDB], limits: dg.ResourceParam[Settings]
) -> Result:
    """A cross-check from outside; whatever the exchange answers, nothing is written."""

    def judge() -> Verdict:
        with duckdb.get_reader() as con:
            date, recorded = checks.last_settled(con, limits)
        return checks.exchange_coverage(date, recorded, limits)

    yield from _judged("exchange_coverage", duckdb, judge)


@_standing(checks.CATALOGUE_CHECK)
def catalogue_matches_archive(
    archive: dg.ResourceParam[S3Archive], limits: dg.ResourceParam[Settings]
) -> Result:
    """What `datasets discover` prints."""

    def judge() -> Verdict:
        found = discover(archive, datasets.configured(limits))
        findings = [(one.dataset, one.finding) for one in found.findings]
        return rules.catalogue(findings, len(found.found))

    yield from _judged(checks.CATALOGUE_CHECK, None, judge)


@_standing(checks.COMPLETE_CHECK)
def mirror_is_complete(
    context: dg.AssetCheckExecutionContext,
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    limits: dg.ResourceParam[Settings],
) -> Result:
    """The plan beside the manifest; no file is read."""

    def judge() -> Verdict:
        busy = mirrored.under_way(context.instance)
        with duckdb.get_reader() as con:
            return standing.complete(con, limits, busy=busy)

    yield from _judged(checks.COMPLETE_CHECK, duckdb, judge)


@_standing(checks.VERIFIED_CHECK)
def mirror_is_verified(
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> Result:
    """Files are read: the record is closed before."""

    def judge() -> Verdict:
        return standing.verified(duckdb.get_reader, limits, clock.now())

    yield from _judged(checks.VERIFIED_CHECK, duckdb, judge)


@_standing(checks.VOLUME_COMPLETE_CHECK)
def volume_is_complete(
    context: dg.AssetCheckExecutionContext,
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> Result:
    """The recorded files beside those that were read."""

    def judge() -> Verdict:
        busy = volumes.under_way(context.instance)
        with duckdb.get_reader() as con:
            return volume_checks.complete(con, limits, clock.now(), busy=busy)

    yield from _judged(checks.VOLUME_COMPLETE_CHECK, duckdb, judge)


@_standing(checks.VOLUME_MATCHES_CHECK)
def volume_matches_monthly(
    duckdb: dg.ResourceParam[AvailabilityDuckDB], limits: dg.ResourceParam[Settings]
) -> Result:
    """What the daily and the monthly files say, of the days of which both were read."""

    def judge() -> Verdict:
        with duckdb.get_reader() as con:
            return volume_checks.matches_monthly(con, limits)

    yield from _judged(checks.VOLUME_MATCHES_CHECK, duckdb, judge)


@_standing(checks.VOLUME_PLAUSIBLE_CHECK)
def volume_is_plausible(
    clock: dg.ResourceParam[Clock], limits: dg.ResourceParam[Settings]
) -> Result:
    """Each of the last days beside those before it."""
    yield from _judged(
        checks.VOLUME_PLAUSIBLE_CHECK, None, lambda: volume_checks.plausible(limits, clock.now())
    )


@_standing(checks.PUBLICATION_CURRENT_CHECK)
def publication_is_current(
    duckdb: dg.ResourceParam[AvailabilityDuckDB],
    clock: dg.ResourceParam[Clock],
    limits: dg.ResourceParam[Settings],
) -> Result:
    """The record beside what is published."""

    def judge() -> Verdict:
        with duckdb.get_reader() as con:
            return published.current(con, limits, clock.now())

    yield from _judged(checks.PUBLICATION_CURRENT_CHECK, duckdb, judge)


@_standing(checks.PUBLICATION_WHOLE_CHECK)
def publication_is_whole(
    clock: dg.ResourceParam[Clock], limits: dg.ResourceParam[Settings]
) -> Result:
    """The site alone; some of its files are read."""
    yield from _judged(
        checks.PUBLICATION_WHOLE_CHECK, None, lambda: published.whole(limits, clock.now())
    )


_ALWAYS = (
    *(_of_the_record(name) for name in checks.ALL),
    update_success_rate,
    freshness,
    store_matches_dagster,
    catalogue_matches_archive,
)

_OF_MIRROR = (mirror_is_complete, mirror_is_verified)

_OF_VOLUME = (volume_is_complete, volume_matches_monthly, volume_is_plausible)

_OF_SITE = (publication_is_current, publication_is_whole)

STANDING = (*_ALWAYS, exchange_coverage, *_OF_MIRROR, *_OF_VOLUME, *_OF_SITE)
"""All there are."""


def standing_checks(configured: Settings) -> Sequence[dg.AssetChecksDefinition]:
    """Those of what is configured: the exchange, mirror, volume and the site may not be."""
    found = list(_ALWAYS)
    if configured.exchange_info_url:
        found.append(exchange_coverage)
    if configured.mirror_url:
        found += _OF_MIRROR
    if configured_markets(configured):
        found += _OF_VOLUME
    if configured.site_url:
        found += _OF_SITE
    return found
