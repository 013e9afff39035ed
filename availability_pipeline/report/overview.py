"""What the overview shows: each recorded dataset in a line, read with three questions each."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

import duckdb

from availability_pipeline.archive.datasets import CATALOGUE, MARKETS, Dataset
from availability_pipeline.quality.days import DayState, day_states
from availability_pipeline.record.status import Scope, recorded_datasets, scope
from availability_pipeline.report.data import last_period

RECENT_DATES, RECENT_MONTHS = 30, 12
"""Of so many settled dates, or months, the overview says how complete they are."""


@dataclass(frozen=True)
class Line:
    """A dataset of the overview.

    Attributes:
        dataset: which.
        configured: whether it is probed.
        probed: its last probed date or month; None before the first probe.
        symbols: how many have a file.
        files, bytes: how many, and their size.
        first, last: of its files; None without any.
        holes: confirmed absences between a symbol's first and last file.
        recent: the last settled dates or months with their states, by date.
        share: the share of their expected files that is there; None where none is expected.
    """

    dataset: Dataset
    configured: bool
    probed: dt.date | None
    symbols: int
    files: int
    bytes: int
    first: dt.date | None
    last: dt.date | None
    holes: int
    recent: tuple[tuple[dt.date, DayState], ...]
    share: float | None


def load(
    con: duckdb.DuckDBPyConnection,
    *,
    threshold: float,
    configured: Collection[Dataset] | None = None,
) -> tuple[Line, ...]:
    """Read the overview, in the catalogue's order.

    Args:
        con: from `connection.reader`.
        threshold: share of the expected files each settled date needs, 0 to 1.
        configured: the datasets that are probed; all when left out.
    """
    markets, kinds = list(MARKETS), list(CATALOGUE)

    def place(dataset: Dataset) -> tuple[object, ...]:
        entry = CATALOGUE.get(dataset.kind)
        known = entry.datasets if entry else ()
        return (
            markets.index(dataset.market),
            kinds.index(dataset.kind) if entry else len(kinds),
            known.index(dataset) if dataset in known else len(known),
            str(dataset),
        )

    return tuple(
        _line(con, scope(con, one), threshold, configured is None or one in configured)
        for one in sorted(recorded_datasets(con), key=place)
    )


def _line(con: duckdb.DuckDBPyConnection, t: Scope, threshold: float, configured: bool) -> Line:
    [(symbols, files, first, last, holes)] = con.execute(
        f"""SELECT count(first_available), coalesce(sum(days_available), 0)::BIGINT,
            min(first_available), max(last_available), coalesce(sum(hole_days), 0)::BIGINT
        FROM {t.listings}"""
    ).fetchall()
    [(probed, size)] = con.execute(
        f"SELECT max(date), coalesce(sum(bytes), 0)::BIGINT FROM {t.summary}"
    ).fetchall()
    # After the end of a dataset that was stopped nothing is expected.
    frame = con.execute(
        f"""SELECT date, true AS known, true AS settled, available, expected, pending
        FROM {t.summary} WHERE date IN (SELECT date FROM {t.probes} WHERE settled)
            AND date <= coalesce($1, date) ORDER BY date DESC LIMIT $2""",
        [last_period(t.dataset, last), RECENT_MONTHS if t.dataset.monthly else RECENT_DATES],
    ).df()[::-1]
    states = map(DayState, day_states(frame, threshold))
    expected = int(frame["expected"].sum())
    available = int(frame[["available", "expected"]].min(axis=1).sum())
    return Line(
        dataset=t.dataset,
        configured=configured,
        probed=probed,
        symbols=symbols,
        files=files,
        bytes=size,
        first=first,
        last=last,
        holes=holes,
        recent=tuple(zip([time.date() for time in frame["date"]], states, strict=True)),
        share=available / expected if expected else None,
    )
