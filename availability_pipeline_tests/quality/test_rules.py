"""The rules, numbers in and verdict out. A wrong one cries wolf, or sleeps through a breach."""

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from availability_pipeline.archive.datasets import KNOWN, Dataset
from availability_pipeline.dates import span_text, spans
from availability_pipeline.quality import rules
from availability_pipeline.quality.rules import DateCount, UpdateRun
from availability_pipeline_tests.support.helpers import D, days

NOW = dt.datetime(2024, 5, 1, 9, 30, tzinfo=dt.UTC)
dates = st.dates(D(2019, 9, 25), D(2030, 1, 1))


def utc(*when):
    return dt.datetime(*when, tzinfo=dt.UTC)


# completeness


def test_a_date_that_came_late_for_all_symbols_is_a_breach_until_it_is_repaired():
    late = rules.completeness([DateCount(D(2024, 4, 18), 340, 0, 340)], 0.95)
    assert (late.breached, late.observed) == (True, 0.0)
    assert late.sample == ("2024-04-18: 0 of 340",)
    assert "backfill --start 2024-04-18 --end 2024-04-18" in late.recovery
    assert rules.completeness([DateCount(D(2024, 4, 18), 340, 340, 0)], 0.95).passed


def test_an_archive_that_stops_is_a_breach_although_nothing_came_after():
    assert rules.completeness([DateCount(D(2024, 4, 18), 340, 3, 0)], 0.95).breached


@pytest.mark.parametrize(("available", "breached"), [(169, True), (170, False)])
def test_a_date_without_most_of_its_files_was_not_published(available, breached):
    got = rules.completeness([DateCount(D(2024, 4, 18), 340, available, 0)], 0.95)
    assert (got.passed, got.breached) == (False, breached)


def test_many_contracts_that_end_on_one_day_are_a_warning_and_no_breach():
    """41 BUSD contracts did, and for three days nobody can know that they will not come."""
    got = rules.completeness([DateCount(D(2023, 12, 12), 300, 259, 0)], 0.95)
    assert (got.passed, got.breached) == (False, False)
    assert "late or delisted" in got.note


def test_a_sure_breach_is_not_hidden_by_an_unsure_one():
    counts = [DateCount(D(2023, 12, 12), 300, 259, 0), DateCount(D(2023, 12, 1), 300, 200, 100)]
    got = rules.completeness(counts, 0.95)
    assert (got.breached, got.count) == (True, 1)
    assert got.sample == ("2023-12-01: 200 of 300",)


def test_one_missing_file_among_few_symbols_is_a_warning_and_two_are_a_breach():
    """A hole, which `symbol_holes` names: a red mark for ever is one people learn to ignore."""
    got = rules.completeness([DateCount(D(2024, 1, 5), 13, 12, 1)], 0.95)
    assert (got.passed, got.breached, got.count) == (False, False, 1)
    assert "`symbol_holes` names it" in got.note
    assert "backfill" not in got.recovery
    for missing in (DateCount(D(2024, 1, 5), 13, 11, 2), DateCount(D(2024, 1, 5), 2, 0, 0)):
        assert rules.completeness([missing], 0.95).breached
    assert not rules.completeness([DateCount(D(2024, 1, 5), 1, 0, 1)], 0.95).breached
    assert rules.completeness([DateCount(D(2024, 1, 5), 13, 11, 2)], 0.8).passed


def test_a_hole_and_a_file_that_may_be_late_are_not_two_missing_files():
    got = rules.completeness([DateCount(D(2024, 1, 5), 13, 11, 1)], 0.95)
    assert (got.passed, got.breached) == (False, False)
    assert "late or delisted" in got.note


def test_symbols_of_an_outage_are_surely_missing():
    counts = [DateCount(D(2024, 1, 5), 100, 70, 0, outage=30)]
    got = rules.completeness(counts, 0.95)
    assert got.breached
    assert "30 symbols stopped together" in got.note
    assert not rules.completeness([DateCount(D(2024, 1, 5), 100, 70, 0)], 0.95).breached


def test_acknowledged_files_are_not_missed_and_are_counted():
    date = D(2024, 4, 18)
    whole = rules.completeness(
        [DateCount(date, 340, 0, 340, acknowledged=340, accepted=True)], 0.95
    )
    assert (whole.passed, whole.acknowledged, whole.observed) == (True, 1, 1.0)
    assert whole.text == "1 acknowledged"
    few = DateCount(date, 340, 100, 240, acknowledged=40, accepted=True)
    some = rules.completeness([few], 0.95)
    assert (some.breached, some.sample, some.acknowledged) == (True, (f"{date}: 100 of 300",), 1)
    assert "1 acknowledged" in some.text


def test_a_backfill_is_recommended_only_where_it_may_find_more():
    old = DateCount(D(2024, 4, 18), 340, 0, 340)
    lately = DateCount(D(2024, 4, 20), 340, 0, 340, probed_lately=True)
    got = rules.completeness([lately], 0.95).recovery
    assert "backfill" not in got
    assert "slo acknowledge --date 2024-04-20 --reason TEXT" in got
    got = rules.completeness([lately, old], 0.95).recovery
    assert "backfill --start 2024-04-18 --end 2024-04-18" in got


def test_dates_before_the_first_file_expect_nothing_and_are_complete():
    assert rules.completeness([DateCount(D(2019, 9, 25), 0, 0, 0)], 0.95).passed
    assert rules.completeness([], 0.95).passed


@given(
    st.lists(
        st.tuples(dates, st.integers(0, 500), st.integers(0, 500), st.integers(0, 500)), max_size=40
    ),
    st.floats(0, 1),
)
def test_completeness_is_breached_only_below_its_threshold_and_names_at_most_ten(rows, threshold):
    counts = [DateCount(d, a + h + t, a, h) for d, a, h, t in rows]
    got = rules.completeness(counts, threshold)
    worst = min((c.available / c.expected for c in counts if c.expected), default=1.0)
    assert got.observed == pytest.approx(worst)
    assert got.passed == (worst >= threshold)
    assert len(got.sample) == min(got.count, rules.SAMPLE)
    assert got.sample_truncated == (got.count > rules.SAMPLE)
    if all(c.available + c.holes == c.expected for c in counts):
        short = [c for c in counts if c.expected and c.available / c.expected < threshold]
        assert got.breached == any(c.holes > 1 for c in short), "nothing is unsure here"


# several datasets in one verdict


def of(name):
    return rules.Subject(Dataset.parse(name), named=True)


A, B, C = "um/daily/klines/1m", "spot/daily/aggTrades", "um/monthly/fundingRate"


def short(*missing):
    return rules.completeness([DateCount(D(2024, 4, n), 100, 100 - n, n) for n in missing], 0.95)


def test_the_worst_outcome_decides_and_only_its_datasets_are_counted_and_named():
    got = rules.combined({A: short(2), B: short(10, 20), C: short(9)}, low_is_bad=True)
    assert (got.breached, got.count, got.observed) == (True, 3, 0.8)
    assert got.datasets == {A: "ok", B: "breach", C: "breach"}
    assert got.sample == (
        f"{B} 2024-04-10: 90 of 100", f"{B} 2024-04-20: 80 of 100", f"{C} 2024-04-09: 91 of 100",
    )  # fmt: skip
    assert [one["dataset"] for one in got.offenders] == [B, B, C]
    assert got.text.startswith(f"2 of 3 datasets: {B} 2024-04-10")


def test_of_those_that_pass_the_number_nearest_to_the_threshold_is_shown():
    got = rules.combined({A: short(1), B: short(4), C: short(2)}, low_is_bad=True)
    assert (got.passed, got.observed, got.text) == (True, 0.96, "3 datasets: OK.")
    holes = [rules.symbol_holes(n, 1000, 0.005) for n in (1, 3, 2)]
    assert rules.combined(dict(zip((A, B, C), holes, strict=True))).observed == 0.003


def test_what_cannot_be_judged_hides_no_other_and_is_said():
    unknown = replace(short(), observed=None, note="nothing is recorded")
    got = rules.combined({A: unknown, B: short(1)})
    assert (got.outcome, got.text) == ("ok", f"2 datasets: {A}: nothing is recorded")
    assert rules.combined({A: unknown}).text == f"{A}: nothing is recorded"
    assert rules.combined({A: unknown, B: unknown}).outcome == "unknown"
    assert rules.combined({A: unknown, B: short(9)}).breached


def test_a_verdict_on_one_dataset_is_the_same_with_its_name():
    alone = short(9)
    got = rules.combined({A: alone})
    assert got.text == f"{A}: {alone.text}"
    assert (got.sample, got.recovery, got.count) == (alone.sample, alone.recovery, alone.count)
    assert got.offenders == ({"dataset": A, **alone.offenders[0]},)


@given(
    st.dictionaries(
        st.sampled_from([str(d) for d in KNOWN[:30]]),
        st.tuples(st.sampled_from(["ok", "warn", "error", "unknown"]), st.integers(1, 25)),
        min_size=1,
    )
)
def test_no_dataset_at_fault_is_hidden_by_another_while_there_is_room(outcomes):
    found = {
        name: rules.verdict_on(
            [f"{name[0]}{n}" for n in range(count)] if kind in ("warn", "error") else [],
            offenders=[{"n": n} for n in range(count)],
            observed=None if kind == "unknown" else count,
            threshold=0, recovery="", severity="warn" if kind == "warn" else "error",
        )
        for name, (kind, count) in outcomes.items()
    }  # fmt: skip
    got = rules.combined(found)
    ranks = ["unknown", "ok", "warn", "breach"]
    assert got.outcome == max((v.outcome for v in found.values()), key=ranks.index)
    bad = {n: v for n, v in found.items() if v.outcome == got.outcome and not v.passed}
    assert got.count == sum(v.count for v in bad.values())
    assert len(got.sample) == len(got.offenders) == min(rules.SAMPLE, got.count)
    assert got.sample_truncated == (got.count > rules.SAMPLE)
    named = {one["dataset"] for one in got.offenders}
    assert named <= set(bad)
    assert len(named) == min(len(bad), rules.SAMPLE)


def test_commands_name_the_dataset_where_it_is_not_the_only_one():
    date = D(2024, 4, 18)
    got = rules.completeness([DateCount(date, 340, 0, 340)], 0.95, of(B)).recovery
    assert f"backfill --dataset {B} --start 2024-04-18 --end 2024-04-18" in got
    assert f"slo acknowledge --dataset {B} --date 2024-04-18" in got
    assert f"backfill --dataset {B} --start" in rules.continuity([date], of(B)).recovery
    got = rules.symbol_holes(3, 999, 0.5, of(B), recent=[(date, "AUSDT")]).recovery
    assert f"query holes --dataset {B}`" in got
    assert f"slo acknowledge --dataset {B} --date 2024-04-18 --symbol AUSDT" in got


def test_months_are_said_as_months_and_probed_from_their_first_to_their_last_date():
    got = rules.continuity([D(2023, 12, 1), D(2024, 1, 1), D(2024, 4, 1)], of(C))
    assert (got.count, got.sample) == (3, ("2023-12 to 2024-01", "2024-04"))
    assert f"backfill --dataset {C} --start 2023-12-01 --end 2024-04-30" in got.recovery
    got = rules.completeness([DateCount(D(2024, 4, 1), 340, 0, 340)], 0.95, of(C))
    assert got.sample == ("2024-04: 0 of 340",)


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (utc(2024, 3, 1, 23, 59), D(2024, 1, 1)),
        (utc(2024, 3, 2, 2, 29), D(2024, 1, 1)),
        (utc(2024, 3, 2, 2, 30), D(2024, 2, 1)),
        (utc(2024, 3, 31, 12), D(2024, 2, 1)),
        (utc(2025, 1, 2, 2, 30), D(2024, 12, 1)),
    ],
)
def test_a_month_is_due_a_day_after_its_first_update(now, due):
    """Which is at 10:00 on the 1st, after the checks of that day."""
    assert rules.due_period(Dataset.parse(C), now, 150) == due


# continuity, and when a date is due


def test_missing_dates_are_named_as_spans_with_one_run_that_mends_them():
    got = rules.continuity([D(2024, 1, 5), *days(D(2024, 2, 27), D(2024, 3, 2))])
    assert (got.breached, got.count, got.observed) == (True, 6, 6)
    assert got.sample == ("2024-01-05", "2024-02-27 to 2024-03-02")
    assert not got.sample_truncated
    assert "backfill --start 2024-01-05 --end 2024-03-02" in got.recovery
    assert rules.continuity([]).passed


@given(st.lists(dates, max_size=60))
def test_spans_say_exactly_the_dates_they_were_made_of(some):
    back = []
    for span in spans(some):
        first, _, last = span_text(*span).partition(" to ")
        back += days(dt.date.fromisoformat(first), dt.date.fromisoformat(last or first))
    assert back == sorted(set(some))


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (utc(2024, 3, 1, 2, 30), D(2024, 2, 29)),
        (utc(2024, 3, 1, 2, 29, 59), D(2024, 2, 28)),
        (utc(2025, 1, 1, 0, 0), D(2024, 12, 30)),
        (utc(2025, 1, 1, 23, 59), D(2024, 12, 31)),
        # 2025-01-01 05:00 in Tokyo is 20:00 UTC of the year before.
        (dt.datetime(2025, 1, 1, 5, tzinfo=dt.timezone(dt.timedelta(hours=9))), D(2024, 12, 30)),
    ],
)
def test_yesterday_is_due_once_the_update_had_its_time(now, due):
    assert rules.due_date(now, 150) == due


# symbol_holes


def test_old_holes_that_nobody_will_fill_are_no_fault():
    """NMRUSDT 2023-11-09 is still missing: a mark for ever is one people learn to ignore."""
    assert rules.symbol_holes(1, 700_000, 0.005).passed


def test_a_new_hole_warns_by_name_and_too_many_are_a_breach():
    new = rules.symbol_holes(3, 700_000, 0.005, recent=[(D(2024, 4, 20), "AUSDT")])
    assert (new.passed, new.severity, new.count) == (False, "warn", 1)
    assert new.sample == ("2024-04-20 AUSDT",)
    many = rules.symbol_holes(
        9000,
        700_000,
        0.005,
        worst=[("BUSDT", 8000), ("AUSDT", 1000)],
        recent=[(D(2024, 4, 20), "AUSDT")],
    )
    assert many.breached
    assert (many.count, many.sample[0]) == (9000, "BUSDT: 8000 days")


def test_an_empty_record_has_no_holes():
    assert rules.symbol_holes(0, 0, 0).passed


# publication_lag


def usual(until, count=60, hours=8.0):
    return [(until - dt.timedelta(count - 1 - n), hours) for n in range(count)]


def test_a_date_that_came_days_late_warns_and_is_forgotten_after_thirty_days():
    lags = usual(D(2024, 4, 27))
    lags[50] = (lags[50][0], 13 * 24.0)
    date = lags[50][0]
    got = rules.publication_lag(lags, NOW.date(), 6)
    assert (got.passed, got.severity, got.count) == (False, "warn", 1)
    assert got.sample == (f"{date}: 312.0 h, usually 8.0 h",)
    assert (got.observed, got.threshold) == (304, 6)
    assert rules.publication_lag(lags, date + dt.timedelta(31), 6).passed


def test_lags_that_always_spread_widely_are_usual():
    lags = [(date, 8 + 10 * (n % 3)) for n, (date, _) in enumerate(usual(D(2024, 4, 27)))]
    assert rules.publication_lag(lags, NOW.date(), 6).passed


def test_a_new_usual_hour_stops_warning_by_itself():
    lags = [*usual(D(2024, 3, 31), 40), *usual(D(2024, 4, 30), 30, 20.0)]
    assert rules.publication_lag(lags, D(2024, 4, 10), 6).count > 0
    later = [*lags, *usual(D(2024, 5, 30), 30, 20.0)]
    assert rules.publication_lag(later, D(2024, 5, 31), 6).passed


def test_a_record_too_young_to_know_what_is_usual_is_not_judged():
    lags = [*usual(D(2024, 4, 26), 6), (D(2024, 4, 27), 300.0)]
    assert rules.publication_lag(lags, NOW.date(), 6).passed


@given(st.lists(st.floats(-100, 10_000), max_size=90), st.floats(0.1, 100))
def test_lag_never_breaches_and_names_what_it_counts(hours, floor):
    lags = [(date, h) for (date, _), h in zip(usual(NOW.date(), 90), hours, strict=False)]
    got = rules.publication_lag(lags, NOW.date(), floor)
    assert not got.breached
    assert got.passed == (got.count == 0)
    assert got.count <= rules.LAG_DATES + 1
    if not got.passed:
        assert got.observed >= got.threshold >= round(floor, 2)


# update_success_rate


def runs(*outcomes, every=dt.timedelta(hours=12), until=NOW):
    return [
        UpdateRun(f"{n:08x}-run", "daily_update", until - every * n, ok)
        for n, ok in enumerate(outcomes)
    ]


def test_the_success_rate_counts_ended_runs_of_the_last_thirty_days():
    kept = rules.update_success_rate(runs(*[True] * 57, False, False, False), NOW, 0.95)
    assert (kept.passed, kept.observed, kept.count) == (True, 0.95, 3)
    broken = rules.update_success_rate(runs(None, *[True] * 30, False, False), NOW, 0.95)
    assert (broken.breached, broken.count) == (True, 2)
    assert broken.note == "30 of 32 scheduled updates succeeded in 30 days"
    # the latest failure first
    assert broken.sample[0] == "2024-04-15 21:30 daily_update 0000001f"


def test_runs_older_than_the_window_do_not_count():
    old = runs(*[False] * 40, until=NOW - dt.timedelta(31))
    assert rules.update_success_rate([*runs(*[True] * 20), *old], NOW, 0.95).observed == 1


def test_too_few_runs_pass_and_say_so():
    got = rules.update_success_rate(runs(False, True), NOW, 0.95)
    assert got.passed
    assert "too few to judge" in got.note


def test_a_success_rate_of_no_runs_is_not_known_and_not_whole():
    got = rules.update_success_rate(runs(None), NOW, 0.95)
    assert (got.passed, got.observed, got.outcome) == (True, None, "unknown")
    assert got.text == "not known yet (no scheduled runs in 30 days)"


@given(st.lists(st.sampled_from([True, False, None]), max_size=80), st.integers(1, 30))
def test_the_rate_is_that_of_the_ended_runs_in_the_window(outcomes, window):
    some = runs(*outcomes)
    got = rules.update_success_rate(some, NOW, 0.95, window)
    ended = [
        r.succeeded
        for r in some
        if r.succeeded is not None and (NOW - r.launched_at) <= dt.timedelta(window)
    ]
    rate = sum(ended) / len(ended) if ended else None
    assert got.observed == (pytest.approx(rate) if ended else None)
    assert got.breached == (len(ended) >= rules.MIN_RUNS and rate < 0.95)


# freshness


def test_yesterday_missing_after_its_deadline_is_a_breach():
    got = rules.freshness(None, utc(2024, 5, 1, 2, 30), 150)
    assert (got.breached, got.sample, got.observed) == (True, ("2024-04-30",), 150)
    assert "update manual --date 2024-04-30" in got.recovery


def test_before_the_deadline_the_day_before_is_judged():
    at = utc(2024, 4, 30, 2, 1)
    got = rules.freshness(at, utc(2024, 5, 1, 2, 10), 150)
    assert (got.passed, got.observed) == (True, 121)
    assert got.note == "first probed at 2024-04-30 02:01 UTC"


def test_an_update_that_came_late_is_a_warning_since_nothing_is_missing():
    got = rules.freshness(utc(2024, 5, 1, 3, 4), NOW, 150)
    assert (got.passed, got.severity, got.observed) == (False, "warn", 184)
    assert got.text.startswith(
        "2024-04-30 (first probed at 2024-05-01 03:04 UTC, due by 02:30). Nothing now"
    )


def test_a_month_is_fresh_until_a_day_after_its_first_update():
    month = of(C)
    got = rules.freshness(None, utc(2024, 5, 2, 2, 30), 150, month)
    assert (got.breached, got.sample, got.observed) == (True, ("2024-04",), 24 * 60 + 150)
    assert f"backfill --dataset {C} --start 2024-04-01 --end 2024-04-30" in got.recovery
    assert rules.freshness(utc(2024, 5, 1, 10, 1), utc(2024, 5, 9), 150, month).passed
    late = rules.freshness(utc(2024, 5, 2, 2, 31), utc(2024, 5, 9), 150, month)
    assert (late.severity, late.threshold) == ("warn", 24 * 60 + 150)
    before = rules.freshness(utc(2024, 4, 1, 10, 1), utc(2024, 5, 1, 9, 30), 150, month)
    assert (before.passed, before.note) == (True, "first probed at 2024-04-01 10:01 UTC")


def test_a_dataset_that_stopped_is_no_longer_due():
    got = rules.freshness(None, NOW, 150, of("um/daily/bookTicker"))
    assert (got.outcome, got.note) == ("unknown", "it stopped with 2024-03-30")
    assert rules.freshness(None, utc(2024, 3, 31, 2, 30), 150, of("um/daily/bookTicker")).breached
    both = rules.combined({A: rules.freshness(NOW, NOW, 9999), "x": got})
    assert both.text.endswith("; x: it stopped with 2024-03-30")


def test_a_command_about_all_intervals_of_a_type_has_their_pattern_in_quotes():
    klines = replace(of(A), pattern="um/daily/klines/*")
    got = rules.freshness(None, NOW, 150, klines).recovery
    assert "update manual --dataset 'um/daily/klines/*' --date 2024-04-30" in got


# store_matches_dagster


def test_drift_is_found_both_ways_with_the_run_that_mends_it():
    got = rules.store_matches_dagster(
        days(D(2024, 1, 1), D(2024, 1, 9)), days(D(2024, 1, 4), D(2024, 1, 11))
    )
    assert (got.breached, got.count) == (True, 5)
    assert got.sample == (
        "2024-01-01 to 2024-01-03: materialised, but no rows",
        "2024-01-10 to 2024-01-11: rows, but not materialised",
    )
    assert "backfill --start 2024-01-01 --end 2024-01-11" in got.recovery


def test_drift_of_months_is_said_in_months():
    got = rules.store_matches_dagster([D(2023, 12, 1), D(2024, 1, 1)], [], of(C))
    assert got.sample == ("2023-12 to 2024-01: materialised, but no rows",)
    assert f"backfill --dataset {C} --start 2023-12-01 --end 2024-01-31" in got.recovery


def test_drift_while_a_run_writes_is_only_a_warning():
    got = rules.store_matches_dagster([], [D(2024, 1, 1)], writing=True)
    assert (got.passed, got.breached) == (False, False)


@given(st.sets(dates, max_size=60), st.sets(dates, max_size=60))
def test_no_difference_is_overlooked(known, stored):
    got = rules.store_matches_dagster(known, stored)
    assert got.count == len(known ^ stored)
    assert got.passed == (known == stored)
    assert len(got.sample) <= rules.SAMPLE


# the checks of each partition


def test_pending_files_make_a_partition_a_warning_and_missing_ones_an_error():
    young = DateCount(D(2024, 1, 1), 100, 5, holes=0, pending=95)
    pending = rules.completeness([young], 0.95)
    assert (pending.passed, pending.breached, pending.count) == (False, False, 1)
    assert pending.note == "not due yet"
    assert "backfill" not in pending.recovery
    absent = rules.completeness([young, DateCount(D(2024, 1, 2), 100, 5, holes=95)], 0.95)
    assert (absent.breached, absent.sample, absent.count) == (True, ("2024-01-02: 5 of 100",), 1)


def test_holes_of_a_date_that_has_not_settled_are_pending_like_the_rest():
    """Friday's file may be there before Thursday's."""
    got = rules.completeness([DateCount(D(2024, 1, 2), 100, 5, holes=95, pending=95)], 0.95)
    assert not got.breached


def test_a_verdict_says_in_words_what_was_found_and_what_to_do():
    assert rules.continuity([]).text == "OK."
    got = rules.continuity([D(2024, 1, n) for n in range(1, 31, 2)]).text
    assert got.startswith("2024-01-01; 2024-01-03; ")
    assert "2024-01-19; and more. Probe them in one run: " in got


def test_what_a_verdict_names_is_there_as_fields_too():
    def same(verdict):
        assert len(verdict.offenders) == len(verdict.sample) > 0
        return verdict.offenders[0]

    day, gone = D(2024, 1, 5), DateCount(D(2024, 1, 5), 9, 4, 5)
    assert same(rules.continuity([day, *days(D(2024, 2, 1), D(2024, 3, 1))]))["start"] == day
    fields = same(rules.completeness([gone] * 20, 0.95))
    assert (fields["date"], fields["expected"], fields["available"]) == (day, 9, 4)
    holes = rules.symbol_holes(3, 9, 0.5, recent=[(day, "AUSDT")] * 20)
    assert same(holes) == {"date": day, "symbol": "AUSDT"}
    assert same(rules.symbol_holes(9, 9, 0.5, worst=[("AUSDT", 9)]))["hole_days"] == 9
    late = rules.freshness(None, utc(2024, 5, 1, 2, 30), 150)
    assert same(late) == {"date": D(2024, 4, 30), "problem": "missing"}
    drift = rules.store_matches_dagster([day], [D(2024, 1, 9)])
    assert same(drift) == {"start": day, "end": day, "problem": "no_rows"}
    failed = rules.update_success_rate(runs(*[False] * 20), NOW, 0.95)
    assert same(failed)["launched_at"] == NOW


def test_a_duplicate_row_is_a_breach():
    assert rules.uniqueness(0).passed
    assert rules.uniqueness(3).count == 3
    assert rules.uniqueness(3).breached
