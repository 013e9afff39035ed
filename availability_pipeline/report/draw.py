"""Draws the report into a folder, whose reader never sees half a file."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from availability_pipeline import extras, files
from availability_pipeline.record import outputs
from availability_pipeline.report import html, png
from availability_pipeline.report.data import ReportData

PAGE = "availability.html"


class ReportError(RuntimeError):
    """The report cannot be written; the text is one line with the remedy."""


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        page: the HTML page.
        pictures: the PNG files by name: growth, completeness, matrix, lag.
        small: the same pictures in 880 pixels' width, as bytes, where they were asked for.
    """

    page: Path
    pictures: dict[str, Path]
    small: dict[str, bytes]


def write(
    data: ReportData, folder: Path, *, small: bool = False, record: Path | None = None
) -> Report:
    """Make `folder` where it is missing, draw everything, then put it there.

    Args:
        data: the record, from `data.load`.
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
    with _refusing(folder):
        files.public_folder(folder)
    dpis = (png.FILE_DPI, png.SMALL_DPI)[: 2 if small else 1]
    drawn = png.draw(data, dpis)
    page = html.page(data).encode()
    pictures = {name: folder / f"{name}.png" for name in drawn}
    outputs.refuse_protected([*pictures.values(), folder / PAGE], record)
    with _refusing(folder):
        _put(folder, {**{f"{name}.png": drawn[name][0] for name in drawn}, PAGE: page})
    return Report(folder / PAGE, pictures, {name: p[1] for name, p in drawn.items() if small})


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
    with tempfile.TemporaryDirectory(prefix=".report.", dir=folder) as staging:
        for name, content in contents.items():
            part = Path(staging) / name
            part.write_bytes(content)
            part.chmod(0o644)  # a web server may have to read it
            part.replace(folder / name)
