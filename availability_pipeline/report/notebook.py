"""One picture of the report in a notebook's cell."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from availability_pipeline import extras, settings
from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.queries.answers import DatasetLike, QueryError
from availability_pipeline.queries.notebook import Record
from availability_pipeline.record import volumes

Name = Literal["completeness", "matrix", "growth", "lag", "volume", "top"]


@dataclass(frozen=True)
class Picture:
    """A picture that a notebook shows as it is; elsewhere `png` has it.

    Attributes:
        title: what it shows, of which dataset.
        png: the file's content.
    """

    title: str
    png: bytes

    def __repr__(self) -> str:
        return f"Picture({self.title!r})"

    def _repr_png_(self) -> bytes:
        return self.png

    def save(self, path: str | Path) -> None:
        """Write the PNG file."""
        Path(path).expanduser().write_bytes(self.png)


def show(
    record: Record,
    picture: Name = "completeness",
    *,
    dataset: DatasetLike | None = None,
    now: dt.datetime | None = None,
) -> Picture:
    """A picture of one dataset, drawn as in the report; the last line of a cell shows it.

    Args:
        record: from `queries.open`.
        picture: `completeness` (a calendar), `matrix` (symbols by date, with holes), `growth`,
            `lag` (of publication); of a market's 1d klines `volume` and `top`.
        dataset: which; the default one when left out.
        now: aware; the picture ends with the last date that is due then.

    Examples:
        >>> show(record, "matrix")
        Picture('matrix of um/daily/klines/1m')

    Raises:
        MissingExtraError: the extra `report` is not installed.
        EmptyRecordError: no date was probed yet.
        QueryError: that dataset has no such picture.
        ValueError: `picture` is not one of these names.
    """
    if picture not in get_args(Name):
        raise ValueError(f"picture must be one of {', '.join(get_args(Name))}, not {picture!r}")
    extras.require("report")
    from availability_pipeline.report import data, png

    of = Dataset.parse(dataset) if isinstance(dataset, str) else dataset
    with record.connection() as con:
        read = data.load(
            con,
            threshold=settings.load().slo_completeness,
            drawn_at=now or dt.datetime.now(dt.UTC),
            dataset=of,
            volumes=volumes.beside(record.path) if picture in ("volume", "top") else None,
        )
    drawn = png.draw(read, only=[picture])
    if picture not in drawn:
        raise QueryError(f"{read.dataset} has no picture {picture}: no volume was read of it")
    return Picture(f"{picture} of {read.dataset}", drawn[picture][0])
