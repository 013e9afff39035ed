"""The standing checks on a real record: what breaches, what only warns, and when it stops."""

import datetime as dt

import pytest

from availability_pipeline import queries, settings
from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.quality import checks
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline_tests.support.helpers import D, days, flat, make_listing, published

START, END = D(2024, 1, 1), D(2024, 3, 31)
NOW = dt.datetime(2024, 4, 10, 9, 30, tzinfo=dt.UTC)
LIMITS = settings.Settings()
LATE = D(2024, 3, 10)
SYMBOLS = [f"S{n:02}USDT" for n in range(25)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "record.duckdb"


def archive(without=()):
    """25 symbols with a file on every date; `without` names (symbol or None for all, date)."""
    gone = set(without)
    return {
        symbol: {
            date: file
            for date, file in flat(START, END).items()
            if (symbol, date) not in gone and (None, date) not in gone
        }
        for symbol in SYMBOLS
    }


def write(path, files, *, at=NOW, start=START, end=END):
    with writer(path) as con:
        store.write_probe(
            con, make_listing(start, end, files), probed_at=at, run_id="run", accept_shrunken=True
        )


def verdict(path, name, now=NOW, limits=LIMITS):
    with reader(path) as con:
        return checks.ALL[name](con, now, limits)


def test_the_checks_are_named_as_they_are_shown():
    assert list(checks.ALL) == [
        "rows_are_unique", "continuity", "completeness_slo", "symbol_holes", "publication_lag",
    ]  # fmt: skip


@pytest.mark.parametrize("name", checks.ALL)
def test_a_healthy_record_passes_and_a_naive_time_is_refused(path, name):
    now = published(END)
    write(path, archive(), start=FIRST_DATE, at=now)
    got = verdict(path, name, now)
    assert got.passed, got
    with pytest.raises(ValueError, match="no time zone"):
        verdict(path, name, now.replace(tzinfo=None))


def test_continuity_names_dates_without_rows_and_waits_for_the_update(path):
    write(path, archive(), start=FIRST_DATE, end=D(2024, 3, 30))
    ended = dt.datetime(2024, 4, 1, tzinfo=dt.UTC)
    assert verdict(path, "continuity", ended + dt.timedelta(hours=2)).passed
    got = verdict(path, "continuity", ended + dt.timedelta(hours=2, minutes=30))
    assert (got.breached, got.sample) == (True, ("2024-03-31",))


def test_a_record_that_begins_late_is_not_continuous(path):
    write(path, archive())
    got = verdict(path, "continuity", published(END))
    assert got.sample == ("2019-09-25 to 2023-12-31",)


def test_a_probe_that_was_deleted_by_hand_is_missed(path):
    write(path, archive(), start=FIRST_DATE)
    with writer(path) as con:
        con.execute("DELETE FROM probes WHERE period = ?", [LATE])
    assert verdict(path, "continuity", published(END)).sample == ("2024-03-10",)


def test_an_all_symbol_late_day_breaches_while_it_is_missing_and_not_after(path):
    write(path, archive([(None, LATE)]))
    got = verdict(path, "completeness_slo")
    assert (got.breached, got.sample) == (True, ("2024-03-10: 0 of 25",))
    write(path, archive(), at=NOW + dt.timedelta(1))
    assert verdict(path, "completeness_slo").passed


def test_what_was_looked_at_too_early_is_pending_and_breaches_nothing(path):
    before = END - dt.timedelta(1)
    files = archive([(None, END), *((symbol, before) for symbol in SYMBOLS[:9])])
    write(path, files, at=published(END, 2))
    for name in ("completeness_slo", "symbol_holes", "publication_lag"):
        assert verdict(path, name, published(END)).passed, name


def test_settled_means_what_the_view_means_by_it(path):
    write(path, archive(), end=LATE - dt.timedelta(1))
    settles = dt.datetime.combine(LATE + dt.timedelta(4), dt.time(), dt.UTC)
    files = archive([(None, LATE)])
    write(path, files, start=LATE, end=LATE, at=settles - dt.timedelta(seconds=1))
    assert verdict(path, "completeness_slo").passed
    write(path, files, start=LATE, end=LATE, at=settles)
    assert verdict(path, "completeness_slo").breached


def test_symbols_that_end_together_warn_for_three_dates_and_then_it_is_known(path):
    last = D(2024, 3, 20)
    files = archive([(s, d) for s in SYMBOLS[:5] for d in days(last + dt.timedelta(1), END)])
    write(path, files, end=last + dt.timedelta(2))
    got = verdict(path, "completeness_slo")
    assert (got.passed, got.severity) == (False, "warn")
    write(path, files, start=last, end=last + dt.timedelta(3), at=NOW + dt.timedelta(1))
    assert verdict(path, "completeness_slo").passed


@pytest.mark.parametrize("stopped", [7, 10, 24])
def test_an_outage_of_part_of_the_archive_stays_a_breach_however_long(path, stopped):
    """After 11 dates the symbols counted as delisted, and the check was green."""
    since = D(2024, 1, 20)
    files = archive([(s, d) for s in SYMBOLS[:stopped] for d in days(since, END)])
    write(path, files)
    got = verdict(path, "completeness_slo")
    assert (got.breached, got.count) == (True, len(days(since, END)))
    assert got.offenders[-1]["available"] == 25 - stopped
    assert got.offenders[-1]["expected"] == 25
    write(path, archive([(s, d) for s in SYMBOLS[:stopped] for d in days(since, LATE)]),
          at=NOW + dt.timedelta(1))  # fmt: skip
    got = verdict(path, "completeness_slo")
    assert (got.breached, got.count) == (True, len(days(since, LATE)))


def test_one_missing_file_among_few_symbols_warns_and_the_hole_is_named(path):
    files = {s: f for s, f in archive([("S03USDT", LATE)]).items() if s < "S08USDT"}
    write(path, files)
    got = verdict(path, "completeness_slo")
    assert (got.passed, got.severity, got.sample) == (False, "warn", ("2024-03-10: 7 of 8",))
    with reader(path) as con:
        assert queries.holes(con).column("symbol") == ["S03USDT"]


def test_a_backfill_is_named_only_where_no_schedule_probed_the_date_again(path):
    write(path, archive([(None, LATE)]))
    assert "backfill" not in verdict(path, "completeness_slo").recovery
    late = verdict(path, "completeness_slo", NOW + dt.timedelta(8))
    assert "backfill --start 2024-03-10 --end 2024-03-10" in late.recovery


def test_a_new_hole_warns_for_a_week_and_an_old_one_no_more(path):
    hole = D(2024, 3, 28)
    write(path, archive([("S03USDT", hole)]))
    settles = dt.datetime.combine(hole + dt.timedelta(4), dt.time(), dt.UTC)
    got = verdict(path, "symbol_holes", settles + dt.timedelta(6))
    assert (got.passed, got.severity, got.sample) == (False, "warn", ("2024-03-28 S03USDT",))
    assert verdict(path, "symbol_holes", settles + dt.timedelta(7)).passed


def test_a_file_that_vanished_from_an_old_date_is_a_new_hole(path):
    write(path, archive())
    write(path, archive([("S03USDT", D(2024, 1, 15))]), at=NOW + dt.timedelta(1))
    assert verdict(path, "symbol_holes", NOW + dt.timedelta(2)).sample == ("2024-01-15 S03USDT",)
    assert verdict(path, "symbol_holes", NOW + dt.timedelta(9)).passed


def test_too_many_holes_are_a_breach_that_names_the_worst(path):
    gone = days(D(2024, 1, 10), D(2024, 1, 20))
    write(path, archive([("S03USDT", d) for d in gone] + [("S04USDT", LATE)]))
    got = verdict(path, "symbol_holes", NOW)
    assert got.breached
    assert got.sample == ("S03USDT: 11 days", "S04USDT: 1 days")
    assert got.observed == pytest.approx(12 / (25 * 91))
    assert verdict(path, "symbol_holes", NOW, settings.Settings(slo_hole_share=0.1)).passed


def test_a_date_published_days_late_warns(path):
    files = archive()
    for symbol in SYMBOLS:
        files[symbol][LATE] = (100, published(LATE) + dt.timedelta(9))
    write(path, files)
    got = verdict(path, "publication_lag", published(END))
    assert (got.severity, got.sample) == ("warn", ("2024-03-10: 224.0 h, usually 8.0 h",))
    assert verdict(path, "publication_lag", published(LATE + dt.timedelta(31))).passed


def test_an_empty_record_breaches_nothing_but_continuity(path):
    with writer(path):
        pass
    failing = [name for name in checks.ALL if not verdict(path, name).passed]
    assert failing == ["continuity"]
