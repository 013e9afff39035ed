"""Which backups stay. Breaking it deletes the one somebody needs, months after nobody noticed."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from availability_pipeline.copies.backup import Keep, kept

START = dt.datetime(2026, 1, 1, 4, 45, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)

TIMES = st.sets(
    st.integers(0, 3 * 365 * 86_400).map(lambda s: START + dt.timedelta(seconds=s)),
    max_size=60,
)
COUNTS = st.integers(0, 8)
KEEPS = st.builds(Keep, COUNTS, COUNTS, COUNTS)


def test_daily_backups_of_two_years_come_down_to_the_last_of_each_day_week_and_month():
    now = set()
    for n in range(730):
        now = kept({*now, START + n * DAY}, Keep(7, 4, 12))
    dates = sorted((t.date() for t in now), reverse=True)
    assert [d.isoformat() for d in dates] == [
        # 2027-12-31 is a Friday: seven days, then the Sundays of the weeks before
        *("2027-12-31", "2027-12-30", "2027-12-29", "2027-12-28", "2027-12-27", "2027-12-26"),
        *("2027-12-25", "2027-12-19", "2027-12-12"),
        # and the last days of eleven months more
        *("2027-11-30", "2027-10-31", "2027-09-30", "2027-08-31", "2027-07-31", "2027-06-30"),
        *("2027-05-31", "2027-04-30", "2027-03-31", "2027-02-28", "2027-01-31"),
    ]


def test_the_last_of_several_on_one_day_stays_and_an_outage_costs_none():
    hours = [START + dt.timedelta(hours=h) for h in (0, 6, 12)]
    after = START + 90 * DAY
    assert kept([*hours, after], Keep(2, 0, 0)) == {hours[-1], after}


def test_a_young_collection_keeps_its_oldest_as_restic_does():
    two = [START, START + dt.timedelta(hours=1)]
    assert kept(two, Keep(0, 0, 12)) == set(two)
    assert kept(two, Keep(0, 0, 1)) == {two[1]}


@pytest.mark.parametrize("keep", [Keep(0, 0, 0), Keep(1, 0, 0), Keep(0, 0, 1)])
def test_the_newest_always_stays(keep):
    assert kept([START, START + DAY], keep) >= {START + DAY}
    assert kept([], keep) == set()


def test_days_are_those_of_utc_whatever_zone_the_times_have():
    east = dt.timezone(dt.timedelta(hours=9))
    late, early = START.replace(hour=23), START.replace(hour=23) + dt.timedelta(hours=2)
    older = START - 3 * DAY
    both = kept([older, late.astimezone(east), early.astimezone(east)], Keep(2, 0, 0))
    assert both == {late, early}


@given(TIMES, KEEPS)
def test_what_is_kept_is_some_of_what_there_is_with_the_newest_and_no_more_than_asked(times, keep):
    stay = kept(times, keep)
    assert stay <= times
    assert not times or max(times) in stay
    assert len(stay) <= max(1, keep.daily + keep.weekly + keep.monthly)


@given(TIMES, KEEPS)
def test_the_last_of_each_of_the_newest_days_weeks_and_months_stays(times, keep):
    """Said another way than the code does: by sorting the last of each bucket."""
    stay = kept(times, keep)
    for count, bucket in (
        (keep.daily, lambda t: t.date()),
        (keep.weekly, lambda t: t.isocalendar()[:2]),
        (keep.monthly, lambda t: (t.year, t.month)),
    ):
        last = {}
        for time in sorted(times):
            last[bucket(time)] = time
        assert set(sorted(last.values(), reverse=True)[:count]) <= stay


@given(TIMES, KEEPS)
def test_forgetting_twice_forgets_nothing_more_of_the_newest(times, keep):
    once = kept(times, keep)
    newest_days = sorted({t.date() for t in once}, reverse=True)[: keep.daily]
    again = kept(once, keep)
    assert {t for t in once if t.date() in newest_days} <= again | once
    assert max(times, default=None) == max(again, default=None)
