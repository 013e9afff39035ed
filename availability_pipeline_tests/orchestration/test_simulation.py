"""A changing archive's life in three datasets: the record ends up right, no check cried wolf.

If this fails, the record would have been wrong, or silent about it, in front of users. The life has
40 days; `python -m benchmarks.simulation` lives one of 400.
"""

import datetime as dt
from collections import Counter

import pytest

from benchmarks import life, simulation
from benchmarks.life import DATASETS, DAY, FUNDING, SHORT, START, TRADES
from benchmarks.living_archive import File

KLINES = DATASETS[0]

# One life, about 45 s of CPU, for all of these.


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    folder = tmp_path_factory.mktemp("life")
    lived = simulation.Simulation(
        folder, seed=7, plan=SHORT, through_dagster=60, keep_every=4, turns=3
    )
    return lived.live()


@pytest.fixture(params=DATASETS, ids=str)
def found(lived, request):
    """What became of each of the datasets."""
    return lived.found[str(request.param)]


def of(found, change, symbol, period):
    return [r for r in found.revisions if r[:3] == (period, symbol, change)]


def test_the_record_equals_the_archive_file_by_file(found):
    assert len(found.record) > (500 if found.life.dataset is FUNDING else 5_000)
    assert found.record == found.archive


def test_the_status_of_every_cell_is_that_of_the_model(found):
    assert found.cells > 3_000
    assert found.wrong_cells == []


def test_the_holes_are_those_that_are_there(found):
    assert found.holes == found.true_holes
    symbol, period = found.life.hole
    assert (period, symbol) in found.holes
    symbol, period = found.life.taken[0]
    assert (period, symbol) in found.holes


def test_every_change_is_a_revision_exactly_once(found):
    assert Counter(found.revisions) == Counter(found.expected)
    assert max(Counter(found.revisions).values()) == 1


def test_each_replaced_file_was_seen_once_and_its_content_told_apart(found):
    assert set(found.life.replaced.values()) == {"replaced", "touched"}
    for (symbol, period), change in found.life.replaced.items():
        other = {"replaced": "touched", "touched": "replaced"}[change]
        assert (len(of(found, change, symbol, period)), of(found, other, symbol, period)) == (1, [])


def test_what_came_late_for_everybody_appeared_once_for_each(found):
    for period in found.life.late:
        for symbol in found.life.listed_on(period) - {symbol for symbol, _ in found.life.outage}:
            if (symbol, period) != found.life.hole:
                assert len(of(found, "appeared", symbol, period)) == 1, (symbol, period)


def test_files_of_an_outage_appeared_when_they_came_at_last(found):
    assert len(found.life.outage) > 30
    for symbol, period in found.life.outage:
        assert len(of(found, "appeared", symbol, period)) == 1, (symbol, period)


def test_a_hole_filled_long_after_appeared(found):
    assert len(of(found, "appeared", *found.life.filled)) == 1


def test_a_file_taken_away_vanished_and_one_put_back_appeared_again(found):
    for symbol, period in (*found.life.taken, *found.life.back):
        [vanished] = of(found, "vanished", symbol, period)
        assert vanished[3] > 0
        came_back = [r for r in of(found, "appeared", symbol, period) if r[5] > vanished[5]]
        assert len(came_back) == ((symbol, period) in found.life.back)


def test_a_relisting_is_one_event_and_leaves_no_single_revisions(found):
    if found.life.dataset is TRADES:
        assert found.renames == []
        return
    [rename] = found.renames
    assert (rename["symbol"], rename["renamed_to"]) == (life.RELISTED, life.RENAMED)
    assert rename["files"] == len(found.life.moved) > 10
    moved = found.life.moved
    # A file that came late under the new name, after the others had moved, is news.
    assert not [r for r in found.news if r["symbol"] == life.RENAMED and r["date"] in moved]
    assert [r["change"] for r in found.news].count("renamed") == 1


def test_symbols_that_ended_are_left_out_and_none_that_publishes(found):
    assert found.light > (5 if found.life.dataset is FUNDING else 50)
    assert found.too_early == set()
    assert life.LONG_ENDED in found.left_out
    assert len(found.left_out) > 3 or found.life.dataset is FUNDING, "of months none long enough"


def test_what_changed_of_a_symbol_that_was_left_out_was_seen_by_the_next_reconcile(lived):
    for dataset in (KLINES, TRADES):
        found = lived.found[str(dataset)]
        symbol, period = found.life.taken[1]
        assert symbol in found.left_out
        [vanished] = of(found, "vanished", symbol, period)
        assert (vanished[5].isoweekday(), vanished[5].hour) == (7, 5)
    found = lived.found[str(TRADES)]
    assert life.RETURNING in found.left_out
    back = max(first for first, _ in found.life.listed[life.RETURNING])
    seen = [r for r in found.revisions if r[1] == life.RETURNING and r[0] >= back]
    assert (seen[0][5].isoweekday(), seen[0][5].hour) == (7, 5)


def test_every_answer_as_of_a_past_day_is_the_one_of_that_day(found):
    assert found.asked > 25
    assert found.wrong == []


def test_no_check_breached_for_a_reason_that_was_not_real_and_every_real_breach_was_caught(lived):
    assert lived.wrong() == []
    breached = Counter((j.check, j.dataset) for j in lived.judgements if j.said)
    # Each of these really happened in this life, so that silence would show.
    for dataset in DATASETS:
        for check in ("completeness_slo", "freshness"):
            assert breached[check, str(dataset)] > 0, (check, dataset)
    for dataset in (KLINES, TRADES):
        for check in ("continuity", "symbol_holes"):
            assert breached[check, str(dataset)] > 0, (check, dataset)
    assert breached["update_success_rate", simulation.ALL] > 0
    asked = Counter((j.check, j.dataset) for j in lived.judgements)
    assert min(asked.values()) > SHORT.days - 10, asked


def test_four_days_without_a_daemon_are_seen_at_once_and_repaired_by_the_next_look_back(lived):
    back = START + lived.down.stop * DAY
    for dataset in (KLINES, TRADES):
        torn = [
            j for j in lived.judgements
            if (j.check, j.dataset) == ("continuity", str(dataset)) and j.at.date() == back
        ]  # fmt: skip
        assert [(j.at.hour, j.said) for j in torn] == [(0, True), (2, True), (9, False)]
        assert torn[0].sample == (f"{back - 5 * DAY} to {back - 2 * DAY}",)


def test_a_failed_or_refused_run_leaves_every_row_alone(lived):
    assert lived.failed > 15
    assert lived.left_alone == lived.failed
    kinds = {kind.partition(":")[2].strip() for kind in lived.runs}
    assert {"Listing", "Discovery", "ShrunkenArchive", "ClockSkew"} <= kinds
    assert lived.runs["through Dagster's own jobs"] > 1


def test_every_period_was_probed_with_a_twentieth_of_the_requests(lived, found):
    probed = {period for period, _ in found.record}
    last = found.life.dataset.period_of(START + (SHORT.days - 1) * DAY)
    assert max(probed) == (found.life.dataset.shift(last, -1) if last.day == 1 else last)
    assert lived.requests < lived.heads / 20


def test_a_models_probe_sees_what_changed_and_nothing_twice():
    """The model is the judge of all the rest; it gets a case worked out by hand."""
    now = dt.datetime(2024, 1, 5, tzinfo=dt.UTC)
    file, other = File(1, now), File(2, now)
    model = simulation.Model()
    model.look(START, START + DAY, {"A": {START: file}}, now)
    assert model.revisions == []
    model.look(START, START + DAY, {"A": {START: other, START + DAY: file}}, now)
    model.look(START, START + DAY, {"A": {START: other, START + DAY: file}}, now)
    model.look(START, START, {}, now)
    assert model.revisions == [
        (START, "A", "replaced", 1, 2, now),
        (START + DAY, "A", "appeared", None, 1, now),
        (START, "A", "vanished", 2, None, now),
    ]
    model.look(START, START, {"A": {}, "ASETTLED": {START + DAY: file}}, now)
    assert model.revisions[3:] == [
        (START + DAY, "A", "vanished", 1, None, now),
        (START + DAY, "ASETTLED", "appeared", None, 1, now),
    ]
    model.look(START, START + DAY, {"ASETTLED": {START + DAY: File(1, now + DAY)}}, now)
    model.look(START, START + DAY, {"ASETTLED": {START + DAY: File(1, now, content=9)}}, now)
    assert [r[2] for r in model.revisions[5:]] == ["touched", "replaced"]


def test_a_model_says_nothing_of_a_symbol_that_was_left_out():
    """Its statuses stay, new dates are unknown; once listed again it is listed over all of them."""
    first, second, third = (dt.datetime(2024, 1, n, tzinfo=dt.UTC) for n in (2, 20, 21))
    files = {"A": {START: File(1, first)}, "B": {}}
    model = simulation.Model()
    model.look(START, START, files, first)
    model.look(START, START + DAY, files, second, left_out=["B"])
    assert model.statuses() == {
        (START, "A"): "available", (START, "B"): "pending", (START + DAY, "A"): "absent",
    }  # fmt: skip
    assert model.left == {"B": second}
    files["B"][START] = File(7, second)
    model.look(START + DAY, START + DAY, files, third)
    assert model.left == {}
    assert model.statuses()[START, "B"] == "available"
    assert model.statuses()[START + DAY, "B"] == "absent"
    assert model.revisions == [(START, "B", "appeared", None, 7, third)]
