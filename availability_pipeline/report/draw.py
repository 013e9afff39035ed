"""Draws the report into a folder, whose reader never sees half a file."""

import contextlib
import datetime as dt
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from availability_pipeline import extras, files
from availability_pipeline.archive.datasets import Dataset, select
from availability_pipeline.errors import ReportError
from availability_pipeline.record import outputs
from availability_pipeline.record.status import recorded_datasets
from availability_pipeline.report import data as recorded
from availability_pipeline.report import html, overview, png
from availability_pipeline.report.data import ReportData
from availability_pipeline.report.overview import Line
from availability_pipeline.report.style import TITLES

PAGE = "availability.html"
"""The page to open: of the dataset where one is recorded, else of all of them."""

Open = Callable[[], contextlib.AbstractContextManager[duckdb.DuckDBPyConnection]]
"""Opens the record read-only."""


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        page: the HTML page to open.
        pictures: the PNG files by name: growth, completeness, matrix, lag, and volume and top
            where it was read; those that are not of the default dataset with their folder.
        small: the pictures of the default dataset in 880 pixels' width, as bytes, where they were
            asked for.
        more: the pages of the datasets that `page` leads to, where it is the overview.
    """

    page: Path
    pictures: dict[str, Path]
    small: dict[str, bytes]
    more: tuple[Path, ...] = ()


def write(
    data: ReportData, folder: Path, *, small: bool = False, record: Path | None = None
) -> Report:
    """Make `folder` where it is missing, draw one dataset, then put it there.

    Args:
        data: the dataset, from `data.load`.
        folder: where `availability.html` and the PNG files go; each replaces its predecessor
            whole.
        small: draw small pictures too.
        record: the database that was read, which is never written over.

    Raises:
        MissingExtraError: what draws is not installed.
        ProtectedFileError: a file of the report would be one of `outputs`' protected files.
        ReportError: the folder cannot be written.
    """
    extras.require("report")
    _prepare(folder, [PAGE, *_png_names("")], record)
    drawn = png.draw(data, _dpis(small))
    page = html.page(data).encode()
    _put(folder, {**{f"{name}.png": drawn[name][0] for name in drawn}, PAGE: page})
    pictures = {name: folder / f"{name}.png" for name in drawn}
    return Report(folder / PAGE, pictures, {name: p[1] for name, p in drawn.items() if small})


def write_all(
    open_record: Open,
    folder: Path,
    *,
    threshold: float,
    drawn_at: dt.datetime,
    configured: Sequence[Dataset] | None = None,
    patterns: str | None = None,
    small: bool = False,
    record: Path | None = None,
    volumes: Path | None = None,
    wait_seconds: float = 60,
) -> Report:
    """Draw the recorded datasets: one as `write` does, several with an overview of all.

    Then each has a page of its own, as `um-daily-klines-1m.html`, and `PAGE` leads to them. The
    pictures are those of the default dataset: the first configured one that is recorded.

    The record is open only while a dataset is read. What is written meanwhile may be on one page
    and not on another.

    Args:
        open_record: opens the record.
        folder: as in `write`; files of other names are left alone.
        threshold: share of the expected files each settled date needs, 0 to 1.
        drawn_at: now, aware.
        configured: the datasets that are probed; all that are recorded when left out.
        patterns: draw the pages of only those recorded datasets that these choose, and pictures
            of each, in a folder of its own unless it is the default one.
        small: draw small pictures of the default dataset too.
        record: the database that is read, which is never written over.
        volumes: the file of daily volumes, where there is one.
        wait_seconds: how long to wait for its writer.

    Raises:
        UnknownDatasetError: a name or pattern is of no recorded dataset.
        EmptyRecordError: no date was probed yet.
        And as `write`.
    """
    extras.require("report")
    with open_record() as con:
        there = recorded_datasets(con)
        lines = overview.load(con, threshold=threshold, configured=configured)
    chosen = select(patterns, there) if patterns and there else there
    default = next((one for one in configured or () if one in there), there[0] if there else None)

    def load(dataset: Dataset | None) -> ReportData:
        probed = configured is None or dataset in configured
        with open_record() as con:
            return recorded.load(
                con, threshold=threshold, drawn_at=drawn_at, dataset=dataset, configured=probed,
                volumes=volumes, wait_seconds=wait_seconds,
            )  # fmt: skip

    if len(there) <= 1:
        return write(load(default), folder, small=small, record=record)
    pictured = {one: "" if one == default else f"{_stem(one)}/" for one in chosen}
    if not patterns:
        pictured = {one: "" for one in chosen if one == default}
    pages = {one: f"{_stem(one)}.html" for one in chosen}
    names = [PAGE, html.PLOTLY, *pages.values()]
    _prepare(folder, [*names, *(n for p in pictured.values() for n in _png_names(p))], record)
    _put(folder, {html.PLOTLY: html.plotly().encode()})
    pictures: dict[str, Path] = {}
    smaller: dict[str, bytes] = {}
    traded: list[Dataset] = []
    for one, name in pages.items():
        data = load(one)
        if data.volume:
            traded.append(one)
        made: dict[str, bytes] = {}
        if one in pictured:
            for picture, sizes in png.draw(data, _dpis(small and one == default)).items():
                path = f"{pictured[one]}{picture}"
                made[f"{path}.png"], pictures[path] = sizes[0], folder / f"{path}.png"
                if len(sizes) > 1:
                    smaller[picture] = sizes[1]
        page = html.page(data, overview=PAGE, pictures=one in pictured)
        _put(folder, {**made, name: page.encode()})
    page = _overview(lines, folder, drawn_at, threshold, configured, traded)
    _put(folder, {PAGE: page.encode()})
    more = tuple(folder / name for name in pages.values())
    return Report(folder / PAGE, pictures, smaller, more)


def _overview(
    lines: Sequence[Line],
    folder: Path,
    drawn_at: dt.datetime,
    threshold: float,
    configured: Collection[Dataset] | None,
    traded: Sequence[Dataset],
) -> str:
    there = {line.dataset for line in lines}
    # Also those that were drawn before: a page says when.
    pages = {one: f"{_stem(one)}.html" for one in there}
    return html.overview_page(
        lines,
        {one: page for one, page in pages.items() if (folder / page).is_file()},
        threshold=threshold,
        drawn_at=drawn_at.astimezone(dt.UTC),
        unrecorded=[one for one in configured or () if one not in there],
        traded=traded,
    )


def _stem(dataset: Dataset) -> str:
    """What a dataset's files are called: letters, digits and hyphens, the same for ever."""
    return str(dataset).replace("/", "-")


def _png_names(folder: str) -> list[str]:
    return [f"{folder}{name}.png" for name in TITLES]


def _dpis(small: bool) -> tuple[int, ...]:
    return (png.FILE_DPI, png.SMALL_DPI) if small else (png.FILE_DPI,)


def _prepare(folder: Path, names: Sequence[str], record: Path | None) -> None:
    """Make the folder, and see that each of these files may be written."""
    with _refusing(folder):
        files.public_folder(folder)
        for name in names:
            files.refuse_links(folder, str(Path(name).parent))
    outputs.refuse_protected([folder / name for name in names], record)


@contextlib.contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReportError(
            f"cannot write the report to {folder} ({error.strerror}); choose another folder with "
            "--out or AVAILABILITY_REPORT_DIR"
        ) from None


def _put(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write each file beside its place, then let it take its name."""
    with _refusing(folder), tempfile.TemporaryDirectory(prefix=".report.", dir=folder) as staging:
        for name, content in contents.items():
            part = Path(staging) / "part"
            part.write_bytes(content)
            part.chmod(0o644)  # a web server may have to read it
            files.public_folder((folder / name).parent)
            part.replace(folder / name)
