"""The record of `demo --no-ui --date 2026-11-24` without Dagster and S3, for the documents' tests.

The same sample, probes and times, written in two seconds; `test_demo` compares its tables with
those that the demo itself has made.
"""

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

from availability_pipeline import settings
from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.demo import run
from availability_pipeline.demo.archive import SampleFile, sample_files
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support.helpers import Files, make_listing

DATE = dt.date(2026, 11, 24)
"""The day on which the documents' demo runs."""


def write(path: Path, date: dt.date = DATE) -> None:
    """Make the record."""
    noon = dt.datetime.combine(date, run.NOON, dt.UTC)
    sample = sample_files(noon)
    before = sample.last - dt.timedelta(1)
    lookback = sample.last - dt.timedelta(settings.Settings().lookback_days - 1)
    first, later = by_symbol(sample.files), by_symbol((*sample.files, *sample.later))
    with writer(path) as con:
        for n, (start, end, files) in enumerate(
            [(FIRST_DATE, before, first), (sample.last, sample.last, first),
             (lookback, sample.last, later)], 1,
        ):  # fmt: skip
            store.write_probe(
                con, make_listing(start, end, files), probed_at=noon + n * run.STEP, run_id="demo"
            )


def by_symbol(files: Iterable[SampleFile]) -> dict[str, Files]:
    """What a listing finds: a later file of the same name replaces the one before."""
    found: dict[str, dict[dt.date, tuple[int, dt.datetime]]] = {}
    for file in files:
        found.setdefault(file.symbol, {})[file.date] = (file.size, file.last_modified)
    return dict(found)
