"""Continuity and completeness: what an operator runs by hand, and from scripts."""

import datetime as dt

import pytest
from click.testing import CliRunner

from availability_pipeline import queries
from availability_pipeline.cli.main import cli
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
from availability_pipeline_tests.support.several import write_three

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


def test_each_dataset_is_validated_by_itself_in_its_own_periods(tmp_path):
    """The same symbol in two markets, with other files."""
    path = tmp_path / "several.duckdb"
    write_three(path)
    span = (D(2024, 1, 4), D(2024, 1, 9))
    short = {}
    for dataset in (None, "spot/daily/trades"):
        assert ContinuityValidator(path, dataset=dataset).check_continuity(*span) == []
        with CompletenessValidator(path, dataset=dataset) as validator:
            short[dataset] = [one.date for one in validator.get_short_dates(*span)]
            counted = validator.get_symbol_counts_summary(30, today=D(2024, 1, 21))
            assert len(counted) == 20
    assert short == {
        None: [D(2024, 1, 5)], "spot/daily/trades": [D(2024, 1, 7), D(2024, 1, 8)]
    }  # fmt: skip
    with ContinuityValidator(path, dataset="um/monthly/fundingRate") as validator:
        missing = validator.check_continuity("2022-09-01", "2024-03-31")
    assert missing == [D(2022, 9, 1), D(2022, 10, 1), D(2024, 2, 1), D(2024, 3, 1)]
    with CompletenessValidator(path, dataset="um/monthly/fundingRate") as validator:
        assert [one.date for one in validator.get_short_dates()] == [D(2023, 6, 1)]
    with pytest.raises(queries.QueryError, match="cm/daily/metrics is not recorded"):
        ContinuityValidator(path, dataset="cm/daily/metrics").check_continuity()
    with pytest.raises(ValueError, match="is not a dataset"):
        ContinuityValidator(path, dataset="nothing")


@pytest.mark.parametrize(
    ("dataset", "span"),
    [("um/daily/klines/1m", ("2019-09-25", "2026-04-04")),
     ("spot/daily/trades", ("2017-07-14", "2026-04-04")),
     ("um/monthly/fundingRate", ("2019-09-01", "2026-03-01")),
     ("um/daily/bookTicker", ("2023-05-16", "2024-03-30"))],
)  # fmt: skip
def test_by_default_all_periods_that_can_have_a_file_are_validated(dataset, span):
    now = dt.datetime(2026, 4, 5, 12, tzinfo=dt.UTC)
    found = default_range(now=now, dataset=dataset)
    assert found == tuple(map(D.fromisoformat, span))


def test_the_command_calls_months_months_and_names_the_dataset(tmp_path, monkeypatch):
    path = tmp_path / "several.duckdb"
    write_three(path)
    monkeypatch.setenv("AVAILABILITY_DB", str(path))
    words = ["validate", "--dataset", "um/monthly/fundingRate", "--start", "2022-09-15"]
    done = CliRunner().invoke(cli, [*words, "--end", "2024-03-31"])
    assert done.exit_code == 1
    assert [line.split() for line in done.stdout.splitlines()[:5]] == [
        ["Months", "never", "probed"], ["from", "to", "months"], ["-------", "-------", "------"],
        ["2022-09", "2022-10", "2"], ["2024-02", "2024-03", "2"],
    ]  # fmt: skip
    assert "2023-06         2          1        0  50.0%" in done.stdout
    assert (
        "2022-09 to 2024-03 of um/monthly/fundingRate is NOT whole: 4 months never probed, "
        "1 short of files, 0 pending" in done.stdout
    )
    assert "--start 2022-09-01 --end 2024-03-31 --dataset um/monthly/fundingRate`" in done.stdout
