"""A record of several datasets answers about each as a record of that one alone would.

Two markets have a symbol of the same name with other files: whatever reads a table without its
dataset answers with the other's.
"""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from availability_pipeline import queries
from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.copies import export
from availability_pipeline.copies.destinations import destination
from availability_pipeline.queries import Connection
from availability_pipeline.record.connection import reader
from availability_pipeline.report import data as report_data
from availability_pipeline.report import overview
from availability_pipeline_tests.support.helpers import D, flat
from availability_pipeline_tests.support.several import (
    END,
    FUNDING,
    SETTLED,
    SHARED,
    START,
    TRADES,
    by_month,
    write_dataset,
    write_three,
)

DATASETS = (UM_KLINES_1M, FUNDING, TRADES)
LATER = SETTLED + dt.timedelta(1)
BETWEEN = SETTLED + dt.timedelta(hours=1)


def fill(path: Path, *datasets: Dataset) -> None:
    """Then one file is replaced, one vanishes, and one of another symbol appears."""
    write_three(path, datasets)
    for dataset in datasets:
        first = D(2023, 10, 1) if dataset.monthly else START
        files = by_month(first, START) if dataset.monthly else flat(first, END)
        last = max(files)
        changed = {SHARED: files | {last: (777, LATER)}, "NEWUSDT": {last: (5, LATER)}}
        del changed[SHARED][dataset.shift(first, 1)]
        write_dataset(path, dataset, changed, first, last, LATER)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[Dataset | None, Path]:
    """One of all, and one of each alone."""
    folder = tmp_path_factory.mktemp("records")
    found: dict[Dataset | None, Path] = {None: folder / "all.duckdb"}
    fill(folder / "all.duckdb", *DATASETS)
    for n, dataset in enumerate(DATASETS):
        found[dataset] = folder / f"{n}.duckdb"
        fill(folder / f"{n}.duckdb", dataset)
    return found


Question = Callable[..., Any]

SPAN = (START, D(2024, 1, 20))

QUESTIONS: dict[str, Question] = {
    "snapshot": lambda con, **of: queries.snapshot(con, START, **of),
    "absent": lambda con, **of: queries.snapshot(con, START, status="absent", **of),
    "counts": lambda con, **of: queries.counts(con, START, **of),
    "timeline": lambda con, **of: queries.timeline(con, SHARED, **of),
    "symbols_in_range": lambda con, **of: queries.symbols_in_range(con, START, START, **of),
    "missing_dates": lambda con, **of: queries.missing_dates(con, D(2023, 12, 1), END, **of),
    "holes": queries.holes,
    "listings": queries.listings,
    "new_listings": lambda con, **of: queries.new_listings(con, START, **of),
    "summary": queries.summary,
    "quoted": lambda con, **of: queries.summary(con, quote_asset="USDT", **of),
    "changes": queries.changes,
    "revisions": queries.revisions,
    "renames": queries.renames,
    "universe": lambda con, **of: queries.universe(con, START, START, **of),
}


def answer(question: Question, con: Connection, **of: Any) -> Any:
    try:
        found = question(con, **of)
    except queries.QueryError as error:
        return str(error)
    return (found.columns, list(found.rows), found.notes) if hasattr(found, "rows") else found


@pytest.mark.parametrize("as_of", [None, BETWEEN], ids=["now", "then"])
@pytest.mark.parametrize("dataset", DATASETS, ids=str)
@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_about_one_is_answered_from_it_alone(
    records: dict[Dataset | None, Path], name: str, dataset: Dataset, as_of: dt.datetime | None
) -> None:
    with reader(records[None]) as con, reader(records[dataset]) as alone:
        of = {"dataset": str(dataset), "as_of": as_of}
        got, want = answer(QUESTIONS[name], con, **of), answer(QUESTIONS[name], alone, **of)
    assert got == want
    assert not isinstance(got, str) or name in ("new_listings",), got


@pytest.mark.parametrize("dataset", DATASETS, ids=str)
def test_so_is_the_report(records: dict[Dataset | None, Path], dataset: Dataset) -> None:
    found = []
    for path in (records[None], records[dataset]):
        with reader(path) as con:
            data = report_data.load(con, threshold=0.95, drawn_at=LATER, dataset=dataset)
            lines = {line.dataset: line for line in overview.load(con, threshold=0.95)}
        found.append((data, lines[dataset]))
    (got, line), (want, alone) = found
    assert line == alone
    assert got.days.equals(want.days)
    assert got.symbols.equals(want.symbols)
    assert (got.cells == want.cells).all()
    assert (got.start, got.renames) == (want.start, want.renames)


@pytest.mark.parametrize("dataset", DATASETS, ids=str)
def test_so_is_an_export_to_the_byte(
    records: dict[Dataset | None, Path], tmp_path: Path, dataset: Dataset
) -> None:
    # Parquet has dictionaries, whose order depends on what else the record holds.
    form = export.Form("csv", by_month=True, everything=True, datasets=str(dataset))
    got, want = (
        export.export(records[key], destination(str(tmp_path / str(n))), form, now=LATER).manifest
        for n, key in enumerate((None, dataset))
    )
    assert got == want
    assert sum(got.rows.values()) > 60
    assert {f.table for f in got.files} == set(export.ORDER)


def test_a_month_that_was_not_probed_is_called_a_month(
    records: dict[Dataset | None, Path],
) -> None:
    with reader(records[None]) as con:
        [note] = queries.timeline(con, SHARED, D(2022, 9, 1), D(2023, 2, 1), dataset=FUNDING).notes
        assert note.startswith(
            "2 of 6 months from 2022-09 to 2023-02 were not probed (2022-09, 2022-10); "
        )
        with pytest.raises(
            queries.NotProbedError, match=r"^1 of 2 months from 2022-10 to 2022-11 "
        ):
            queries.universe(con, D(2022, 10, 15), D(2022, 11, 1), dataset=FUNDING)
        with pytest.raises(queries.NotProbedError, match=r"^2022-10 was not probed: "):
            queries.snapshot(con, D(2022, 10, 1), dataset=FUNDING)
        with pytest.raises(queries.NotProbedError, match=r"^2022-10 .* changed on 2022-11 is"):
            queries.new_listings(con, D(2022, 11, 1), dataset=FUNDING)


def test_any_date_of_a_month_means_the_month(records: dict[Dataset | None, Path]) -> None:
    with reader(records[None]) as con:
        for ask in (queries.snapshot, queries.counts, queries.new_listings):
            month, date = (ask(con, D(2023, 1, n), dataset=FUNDING) for n in (1, 20))
            assert month == date
        found = queries.snapshot(con, D(2023, 1, 20), dataset=FUNDING)
        assert found.column("symbol") == ["AUSDT", SHARED]
