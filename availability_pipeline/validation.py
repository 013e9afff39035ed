"""Validate the record: dates without rows, and dates that are short of files.

from availability_pipeline.validation import CompletenessValidator, ContinuityValidator

with ContinuityValidator() as validator:
    missing = validator.check_continuity()
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from availability_pipeline import queries, settings
from availability_pipeline.archive.datasets import CATALOGUE, FIRST_DATE, UM_KLINES_1M, Dataset
from availability_pipeline.dates import DateLike, as_date, as_range
from availability_pipeline.quality import rules
from availability_pipeline.queries.answers import DatasetLike, ask, checked, require_any, tables
from availability_pipeline.queries.notebook import Record


@checked()
def default_range(
    start: DateLike | None = None,
    end: DateLike | None = None,
    now: dt.datetime | None = None,
    *,
    dataset: DatasetLike = UM_KLINES_1M,
) -> tuple[dt.date, dt.date]:
    """What is validated by default: from 2019-09-25 to the newest date that is due.

    Yesterday is due `AVAILABILITY_SLO_FRESHNESS_MINUTES` after its end; `now` (aware) replaces
    the clock. Of another `dataset` it is from the first period that can have a file to the last
    that is due; both are months, by their first day, of monthly files.

    Raises:
        ValueError: a date is not a date, `end` precedes `start`, or `dataset` is not one.
    """
    of = Dataset.parse(dataset) if isinstance(dataset, str) else dataset
    minutes = settings.load().slo_freshness_minutes
    due = rules.due_period(of, now or dt.datetime.now(dt.UTC), minutes)
    due = min(due, of.last or due)
    entry = CATALOGUE.get(of.kind)
    opened = of.period_of(entry.first) if entry else FIRST_DATE
    return as_range(opened if start is None else start, due if end is None else end)


@dataclass(frozen=True)
class ShortDate:
    """A date with fewer files than expected; `pending` are not there yet, which is not wrong."""

    date: dt.date
    expected: int
    available: int
    pending: int

    @property
    def share(self) -> float:
        """Available of expected, 0 to 1."""
        return self.available / self.expected


class _Validator:
    """Opens the file for each question only, so that it never keeps an update from writing."""

    def __init__(self, db: str | Path | None = None, *, dataset: DatasetLike | None = None) -> None:
        """Open nothing yet.

        Args:
            db: the DuckDB file; `AVAILABILITY_DB` when left out.
            dataset: its name; the default one when left out. Of monthly files every
                date below is a month, by its first day.

        Raises:
            ValueError: the dataset is not one.
        """
        self._record: Record | None = Record(db)
        self._dataset = Dataset.parse(dataset) if isinstance(dataset, str) else dataset

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go; a closed validator answers no more."""
        self._record = None

    def _open(self) -> Record:
        if self._record is None:
            raise ValueError(f"this {type(self).__name__} is closed; make another")
        return self._record


class ContinuityValidator(_Validator):
    """Dates that were never probed."""

    @checked()
    def check_continuity(
        self, start_date: DateLike | None = None, end_date: DateLike | None = None
    ) -> list[dt.date]:
        """Dates without rows from `start_date` to `end_date` (both included), in order.

        Args:
            start_date: default 2019-09-25, the first date of the record; of another dataset the
                first that can have a file.
            end_date: default the newest date that is due (yesterday, from 02:30 UTC on).

        Raises:
            StoreError: the database cannot be read.
            QueryError: the dataset is not recorded.
            ValueError: a date is not a date, or `end` precedes `start`.
        """
        with self._open().connection() as con:
            t = tables(con, self._dataset)
            span = default_range(start_date, end_date, dataset=t.dataset)
            return queries.missing_dates(con, *span, dataset=self._dataset)


class CompletenessValidator(_Validator):
    """Counts of files by date, and dates that are short of them."""

    @checked()
    def get_symbol_counts_summary(
        self, days: int = 30, *, today: dt.date | None = None
    ) -> list[dict[str, Any]]:
        """Symbols with a file on each of the last `days` dates up to yesterday (UTC).

        Returns:
            `[{"date": datetime.date, "symbol_count": int}]` by date. A date that was never probed
            has no entry (`check_continuity` names it); 0 is a probed date without a file.

        Raises:
            NotProbedError: none of these dates was ever probed.
            StoreError: the database cannot be read.
        """
        with self._open().connection() as con:
            rows = queries.summary(con, days, today=today, dataset=self._dataset).rows
        return [{"date": date, "symbol_count": available} for date, available, _ in rows]

    @checked()
    def get_short_dates(
        self,
        start_date: DateLike | None = None,
        end_date: DateLike | None = None,
        *,
        threshold: float | None = None,
    ) -> list[ShortDate]:
        """Dates with less than `threshold` of the symbols that were listed then, in order.

        Args:
            start_date: default the first date of the record.
            end_date: default the last.
            threshold: share; `AVAILABILITY_SLO_COMPLETENESS` when left out.

        Raises:
            NotProbedError: no date at all was probed.
            QueryError: the dataset is not recorded.
            StoreError: the database cannot be read.
            ValueError: a date is not one, or `end_date` precedes `start_date`.
        """
        if start_date is not None and end_date is not None:
            as_range(start_date, end_date)
        share = settings.load().slo_completeness if threshold is None else threshold
        with self._open().connection() as con:
            t = tables(con, self._dataset)
            found = ask(
                con,
                # What has settled can be pending for symbols that ended and were left out since.
                f"""SELECT s.date, expected, s.available, CASE WHEN settled THEN 0 ELSE pending END
                FROM {t.summary} s JOIN {t.probes} USING (date)
                WHERE date >= $first AND date <= $last AND s.available < $share * expected
                ORDER BY date""",
                {
                    "first": as_date(start_date) if start_date is not None else dt.date.min,
                    "last": as_date(end_date) if end_date is not None else dt.date.max,
                    "share": share,
                },
            )
            if not found.rows:
                require_any(con, t)
        return [ShortDate(*row) for row in found.rows]
