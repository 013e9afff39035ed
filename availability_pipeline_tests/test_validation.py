"""Continuity and completeness: what an operator runs by hand, and from scripts."""

import datetime as dt

import pytest

from availability_pipeline import queries
from availability_pipeline.dates import spans
from availability_pipeline.errors import MissingDatabaseError
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import writer
from availability_pipeline.settings import SettingsError
from availability_pipeline.validation import (
    CompletenessValidator,
    ContinuityValidator,
    default_range,
)
from availability_pipeline_tests.support.helpers import D, days, flat, make_listing, published

START, END = D(2024, 1, 1), D(2024, 1, 20)
NOW = dt.datetime(2024, 3, 1, 2, tzinfo=dt.UTC)


def write(path, files, *, at=NOW, start=START, end=END):
    with writer(path) as con:
        store.write_probe(
            con, make_listing(start, end, files), probed_at=at, run_id="run", accept_shrunken=True
        )


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Three symbols; the 9th has one file of three, the 6th and 7th were never probed."""
    path = tmp_path / "record.duckdb"
    monkeypatch.setenv("AVAILABILITY_DB", str(path))
    short = {d: f for d, f in flat(START, END).items() if d != D(2024, 1, 9)}
    files = {"AUSDT": flat(START, END), "BUSDT": short, "CUSDT": short}
    write(path, files, end=D(2024, 1, 5))
    write(path, files, start=D(2024, 1, 8))
    return path


def test_continuity_names_the_dates_without_rows(path):
    with ContinuityValidator() as validator:
        assert validator.check_continuity(START, END) == [D(2024, 1, 6), D(2024, 1, 7)]
        assert validator.check_continuity("2024-01-08", "2024-01-20") == []
        assert len(validator.check_continuity("2023-12-30", "2024-01-02")) == 2
        with pytest.raises(ValueError, match="swap them"):
            validator.check_continuity(END, START)


def test_continuity_of_all_dates_begins_with_the_record_and_ends_with_what_is_due(path):
    missing = ContinuityValidator().check_continuity()
    assert missing[0] == D(2019, 9, 25)
    yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(1)
    assert missing[-1] in {yesterday, yesterday - dt.timedelta(1)}


@pytest.mark.parametrize(("time", "last"), [("02:29", 29), ("02:30", 30), ("23:59", 30)])
def test_yesterday_is_due_once_the_daily_update_had_its_time(time, last):
    now = dt.datetime.fromisoformat(f"2024-01-31T{time}:00+00:00")
    assert default_range(None, None, now) == (D(2019, 9, 25), D(2024, 1, last))


def test_symbol_counts_are_those_of_the_last_days(path):
    with CompletenessValidator() as validator:
        got = validator.get_symbol_counts_summary(days=3, today=D(2024, 1, 11))
        assert got == [
            {"date": D(2024, 1, 8), "symbol_count": 3},
            {"date": D(2024, 1, 9), "symbol_count": 1},
            {"date": D(2024, 1, 10), "symbol_count": 3},
        ]
        gap = validator.get_symbol_counts_summary(days=4, today=D(2024, 1, 9))
        assert [row["date"] for row in gap] == [D(2024, 1, 5), D(2024, 1, 8)]
        with pytest.raises(queries.NotProbedError, match="was probed"):
            validator.get_symbol_counts_summary(days=3, today=D(2024, 2, 20))


def test_short_dates_are_those_below_the_share(path):
    with CompletenessValidator() as validator:
        [one] = validator.get_short_dates()
        assert (one.date, one.expected, one.available, one.pending) == (D(2024, 1, 9), 3, 1, 0)
        assert one.share == pytest.approx(1 / 3)
        assert validator.get_short_dates(threshold=0.3) == []
        assert validator.get_short_dates("2024-01-10", END) == []


def test_a_date_that_is_only_pending_is_told_apart(path):
    write(path, {"AUSDT": {}, "BUSDT": {}, "CUSDT": {}}, start=D(2024, 1, 21),
          end=D(2024, 1, 21), at=published(D(2024, 1, 21), hour=2))  # fmt: skip
    found = {one.date.day: one for one in CompletenessValidator().get_short_dates()}
    assert (found[9].pending, found[21].pending, found[21].available) == (0, 3, 0)


def test_a_validator_holds_no_lock_and_answers_no_more_once_closed(path):
    validator = ContinuityValidator()
    validator.check_continuity(START, END)
    with writer(path, wait_seconds=0):
        pass
    validator.close()
    validator.close()
    with pytest.raises(ValueError, match="this ContinuityValidator is closed"):
        validator.check_continuity(START, END)


def test_the_snippets_of_the_operations_guide_run_as_they_stand(path):
    start_date, end_date = START, END
    missing = ContinuityValidator().check_continuity(start_date, end_date)
    total = (end_date - start_date).days + 1
    assert (total - len(missing)) / total == 0.9
    validator = CompletenessValidator(path)
    today = dt.datetime.now(dt.UTC).date()
    rows = validator.get_symbol_counts_summary(days=(today - START).days)
    assert [row["date"] for row in rows] == [*days(START, D(2024, 1, 5)), *days(D(2024, 1, 8), END)]


def test_a_missing_database_and_a_bad_setting_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(MissingDatabaseError, match="no database"):
        ContinuityValidator(tmp_path / "none.duckdb").check_continuity(START, END)
    monkeypatch.setenv("AVAILABILITY_SETTLE_DAYS", "0")
    with pytest.raises(SettingsError, match="AVAILABILITY_SETTLE_DAYS"):
        ContinuityValidator()


def test_dates_are_put_together_into_stretches():
    assert spans([]) == []
    assert spans([*days(START, D(2024, 1, 3)), END]) == [(START, D(2024, 1, 3)), (END, END)]
