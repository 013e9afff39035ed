"""The record of `demo --no-ui --date 2026-11-24` without Dagster and S3, for the documents' tests.

The same sample, probes and times, written in a few seconds; `test_demo` compares its tables with
those that the demo itself has made.
"""

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

from availability_pipeline import settings
from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.demo import run
from availability_pipeline.demo.archive import DATASETS, SampleFile, sample_files
from availability_pipeline.mirror import klines
from availability_pipeline.record import volumes
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.record.status import scope
from availability_pipeline_tests.support.helpers import Files, make_listing

DATE = dt.date(2026, 11, 24)
"""The day on which the documents' demo runs."""

CONFIGURED = ",".join(map(str, DATASETS))
"""AVAILABILITY_DATASETS of the demo."""


def write(path: Path, date: dt.date = DATE) -> None:
    """Make the record."""
    noon = dt.datetime.combine(date, run.NOON, dt.UTC)
    sample = sample_files(noon)
    limits = settings.Settings()
    with writer(path) as con:
        for n, probe in enumerate(run.probes(sample, limits.lookback_days), 1):
            there = (*sample.files, *sample.later) if probe.later else sample.files
            for dataset in probe.datasets:
                files = by_symbol(there, dataset)
                listing = make_listing(probe.start, probe.end, files, dataset=dataset)
                store.write_probe(
                    con,
                    listing,
                    probed_at=noon + n * run.STEP,
                    run_id="demo",
                    settle_days=limits.settle_days,
                )


def write_volume(path: Path, date: dt.date = DATE) -> None:
    """Make the file of volumes that the demo leaves beside the record, which is there."""
    sample = sample_files(dt.datetime.combine(date, run.NOON, dt.UTC))
    files = [file for file in (*sample.files, *sample.later) if file.content is not None]
    rows = [
        (file.dataset.market, False, file.symbol, *day, None)
        for file in files
        for day in klines.read(file.content or b"", file.dataset, file.period)
    ]
    symbols = []
    with reader(path) as con:
        for dataset in {file.dataset for file in files}:
            found = con.execute(f"SELECT symbol, quote_asset FROM {scope(con, dataset).symbols}")
            symbols += [(dataset.market, *row) for row in found.fetchall()]
    with volumes.writer(path.with_name("volume.duckdb")) as con:
        values = ", ".join("?" * len(rows[0]))
        con.executemany(f"INSERT INTO klines VALUES ({values})", rows)
        con.executemany("INSERT INTO symbols VALUES (?, ?, ?)", symbols)


def by_symbol(files: Iterable[SampleFile], dataset: Dataset = UM_KLINES_1M) -> dict[str, Files]:
    """What a listing finds: a later file of the same name replaces the one before."""
    found: dict[str, dict[dt.date, tuple[int, dt.datetime]]] = {}
    for file in files:
        if file.dataset == dataset:
            found.setdefault(file.symbol, {})[file.period] = (file.size, file.last_modified)
    return dict(found)
