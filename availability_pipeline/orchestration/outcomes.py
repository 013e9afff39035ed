"""How an outcome is said in Dagster: a verdict as a check's result, a known error as one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from availability_pipeline.archive.listing import ArchiveError
from availability_pipeline.errors import StoreError
from availability_pipeline.quality.rules import Verdict


@contextmanager
def one_line_failures(*also: type[Exception]) -> Iterator[None]:
    """What is the archive's or the database's fault is shown as one line, not as a traceback.

    So are errors of the classes `also`.
    """
    known: tuple[type[Exception], ...] = (ArchiveError, StoreError, *also)
    try:
        yield
    except known as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def check_result(verdict: Verdict) -> dg.AssetCheckResult:
    """A verdict as Dagster stores and shows it."""
    warn = verdict.severity == "warn"
    metadata: dict[str, dg.MetadataValue] = {
        "observed": dg.MetadataValue.null()
        if verdict.observed is None
        else dg.MetadataValue.float(round(float(verdict.observed), 6)),
        "threshold": dg.MetadataValue.float(float(verdict.threshold)),
        "count": dg.MetadataValue.int(verdict.count),
        "sample": dg.MetadataValue.json(list(verdict.sample)),
        "sample_truncated": dg.MetadataValue.bool(verdict.sample_truncated),
        "acknowledged": dg.MetadataValue.int(verdict.acknowledged),
        "recovery": dg.MetadataValue.text("Nothing to do." if verdict.passed else verdict.recovery),
    }
    if verdict.datasets:
        metadata["datasets"] = dg.MetadataValue.json(dict(verdict.datasets))
    return dg.AssetCheckResult(
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR,
        description=verdict.text,
        metadata=metadata,
    )


def no_longer_set(name: str) -> dg.Failure:
    """The failure of an asset that is defined where a setting is, which is gone since then."""
    return dg.Failure(
        description=f"{name} is no longer set: set it again, or reload the code location in the "
        "UI under Deployment, which then has this asset no more",
        allow_retries=False,
    )
