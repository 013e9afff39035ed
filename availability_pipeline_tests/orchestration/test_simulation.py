"""400 days of the archive's life: the record ends up right and no check cried wolf.

If this fails, the record would have been wrong, or silent about it, in front of users.
"""

import datetime as dt
from collections import Counter

import pytest

from availability_pipeline.archive.datasets import FIRST_DATE
from benchmarks import life, simulation
from benchmarks.life import DAY, START

# One life, about two minutes of CPU, for all of these.


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    folder = tmp_path_factory.mktemp("life")
    return simulation.Simulation(folder, seed=7, days=life.DAYS, through_dagster=97).live()


def of(lived, change, symbol, date):
    return [r for r in lived.revisions if r[:3] == (date, symbol, change)]


def test_the_record_equals_the_archive_file_by_file(lived):
    assert len(lived.record) > 15_000
    assert lived.record == lived.archive


def test_every_change_is_a_revision_exactly_once(lived):
    assert Counter(lived.revisions) == Counter(lived.expected)
    assert max(Counter((*r[:3], r[4]) for r in lived.revisions).values()) == 1


def test_each_replaced_file_was_seen_once_also_long_after_the_look_back(lived):
    assert len(lived.life.replaced) == 10
    seen = {"replaced": 0, "touched": 0}
    for symbol, date in lived.life.replaced:
        [kind] = [kind for kind in seen for _ in of(lived, kind, symbol, date)]
        seen[kind] += 1
    assert seen == {"replaced": 3, "touched": 7}, "those of another content, and of the same"


def test_a_day_that_came_late_for_everybody_appeared_once_for_each(lived):
    for day in life.LATE_DAYS:
        date = START + day * DAY
        for symbol in lived.life.listed_on(date):
            assert len(of(lived, "appeared", symbol, date)) == 1, (symbol, date)


def test_a_hole_filled_after_sixty_days_appeared_and_the_other_stays(lived):
    filled = START + life.FILLED_HOLE * DAY
    assert len(of(lived, "appeared", life.FILLED, filled)) == 1
    assert (START + life.HOLE * DAY, life.HOLED) not in lived.record


def test_a_file_taken_away_vanished_and_is_not_forgotten(lived):
    taken = of(lived, "vanished", life.TAKEN_AWAY, START + life.TAKEN_FILE * DAY)
    assert len(taken) == 1
    assert taken[0][3] > 0


def test_a_relisting_is_one_event_and_leaves_no_single_revisions(lived):
    [rename] = lived.renames
    assert (rename["symbol"], rename["renamed_to"]) == (life.RELISTED, life.RENAMED)
    moved = {date for date, symbol in lived.archive if symbol == life.RENAMED}
    assert rename["files"] == len(moved) > 200
    assert not [r for r in lived.news if r["symbol"] == life.RENAMED]
    assert [r["change"] for r in lived.news].count("renamed") == 1


def test_no_check_breached_for_a_reason_that_was_not_real_and_every_real_breach_was_caught(lived):
    assert lived.wrong() == []
    breached = Counter(j.check for j in lived.judgements if j.said)
    # Each of these really happened in this life, so that silence would show.
    for check in ("continuity", "completeness_slo", "freshness", "update_success_rate"):
        assert breached[check] > 0, check
    asked = Counter(j.check for j in lived.judgements)
    assert min(asked.values()) > 350, asked


def test_an_outage_of_four_days_is_seen_at_once_and_repaired_by_the_next_look_back(lived):
    back = START + (simulation.DOWN.stop) * DAY
    torn = [j for j in lived.judgements if j.check == "continuity" and j.at.date() == back]
    assert [(j.at.hour, j.said) for j in torn] == [(0, True), (2, True), (9, False)]
    assert torn[0].sample == (f"{back - 5 * DAY} to {back - 2 * DAY}",)


def test_a_failed_or_refused_run_leaves_every_row_alone(lived):
    assert lived.failed > 50
    assert lived.left_alone == lived.failed
    kinds = {kind.partition(":")[2].strip() for kind in lived.runs}
    assert {"Listing", "Discovery", "ShrunkenArchive", "ClockSkew"} <= kinds


def test_every_date_was_looked_at_with_a_twentieth_of_the_requests(lived):
    looked = {date for date, _ in lived.record}
    assert min(looked) >= FIRST_DATE
    assert max(looked) == START + (life.DAYS - 1) * DAY
    assert lived.requests < lived.heads / 20


def test_a_model_look_sees_what_changed_and_nothing_twice():
    """The model is the judge of all the rest; it gets a case worked out by hand."""
    now = dt.datetime(2024, 1, 5, tzinfo=dt.UTC)
    file, other = simulation.File(1, now), simulation.File(2, now)
    model = simulation.Model()
    model.look(START, START + DAY, {"A": {START: file}}, now)
    assert model.revisions == []
    model.look(START, START + DAY, {"A": {START: other, START + DAY: file}}, now)
    model.look(START, START + DAY, {"A": {START: other, START + DAY: file}}, now)
    model.look(START, START, {}, now)
    assert model.revisions == [
        (START, "A", "replaced", 1, 2),
        (START + DAY, "A", "appeared", None, 1),
        (START, "A", "vanished", 2, None),
    ]
    model.look(START, START, {"A": {}, "ASETTLED": {START + DAY: file}}, now)
    assert model.revisions[3:] == [
        (START + DAY, "A", "vanished", 1, None),
        (START + DAY, "ASETTLED", "appeared", None, 1),
    ]
