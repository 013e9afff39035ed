"""What is announced and what is not, without Dagster and without a network."""

import datetime as dt
import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from availability_pipeline.alerts import outbox
from availability_pipeline.alerts.outbox import Lost, State, due, enqueue, settle
from availability_pipeline.alerts.rules import (
    ALWAYS,
    HOLD,
    MAX_PROBLEMS,
    CheckFailed,
    CheckPassed,
    Message,
    RunFailed,
    RunSucceeded,
    Span,
    decide,
    one_line,
)
from availability_pipeline_tests.support.helpers import D

NOW = dt.datetime(2024, 2, 1, 2, tzinfo=dt.UTC)
STEP = "daily_availability"


def span(first, last=None):
    return Span(start=D(2024, 1, first), end=D(2024, 1, last or first))


def failed(name="daily_update", dates=ALWAYS, step=STEP, moving=False):
    return RunFailed(run_id="r", name=name, span=dates, step=step, error="broken", moving=moving)


def succeeded(name="daily_update", dates=ALWAYS, steps=(STEP,)):
    return RunSucceeded(run_id="r", name=name, span=dates, steps=frozenset(steps))


def check(*spans):
    return CheckFailed(run_id="r", name="c of a", spans=spans, observed="0.5", recovery="mend")


def passed(dates=ALWAYS):
    return CheckPassed(run_id="r", name="c of a", span=dates)


def titles(*looks):
    """Titles announced when each look brings these events, two hours apart."""
    problems, said = {}, []
    for n, events in enumerate(looks):
        problems, messages = decide(problems, events, NOW + n * dt.timedelta(hours=2))
        said += [m.title for m in messages]
    return said


A, B = "um/daily/klines/1m", "spot/daily/aggTrades"


def of(dataset, first=None, last=None):
    dates = span(first, last) if first else ALWAYS
    return dates.model_copy(update={"dataset": dataset})


def check_of(*spans):
    names = tuple(dict.fromkeys(one.dataset for one in spans))
    return check(*spans).model_copy(update={"datasets": names})


def test_a_check_names_the_datasets_and_their_dates():
    assert titles([check_of(of(A, 6))], [check_of(of(B))]) == [
        f"check c of a failed: {A} 2024-01-06",
        f"check c of a failed: {B}",
    ]
    _, [message] = decide({}, [check_of(of(A, 6), of(B, 1), of(A, 8, 9), of(A, 7))], NOW)
    assert f"Dates: {A} 2024-01-06 to 2024-01-09, {B} 2024-01-01" in message.body
    _, [message] = decide({}, [check_of(of(A, 6), of(A, 8), of(B))], NOW)
    assert f"Dates: {A} 2024-01-06, 2024-01-08, {B}" in message.body


def test_another_dataset_with_the_same_dates_is_news_and_the_same_one_is_not():
    again = [check_of(of(A, 6))]
    assert titles(again, again, [check_of(of(A, 6), of(B, 6))], again) == [
        f"check c of a failed: {A} 2024-01-06",
        f"check c of a failed: {B} 2024-01-06",
    ]
    assert titles([check_of(of(A))], again) == [f"check c of a failed: {A}"]


def test_a_dataset_that_was_well_meanwhile_is_news_again():
    first, both = [check_of(of(A, 6))], [check_of(of(A, 6), of(B, 6))]
    assert titles(first, [check_of(of(B, 6))], both)[2:] == [f"check c of a failed: {A} 2024-01-06"]


def test_a_check_of_datasets_recovers_once_all_of_them_are_well():
    assert titles([check_of(of(A, 6), of(B))], [passed()], [passed()])[1:] == [
        "check c of a recovered"
    ]


def test_what_was_known_before_datasets_had_names_is_no_news():
    before = check(span(6)).model_dump_json(exclude={"datasets"})
    old = CheckFailed.model_validate_json(before.replace(', "dataset": ""', ""))
    assert titles([old], [check_of(of(A, 6))], [passed()]) == [
        "check c of a failed: 2024-01-06", "check c of a recovered",
    ]  # fmt: skip


KLINES, RATES = "um/daily/klines", "um/monthly/fundingRate"


def run_of(event, *datasets, option=""):
    more = {"option": option} if isinstance(event, RunFailed) else {}
    return event.model_copy(update={"datasets": datasets, **more})


def test_failed_runs_of_several_datasets_are_one_message_that_names_them():
    """Of an archive that is down at 02:00, 44 messages would be 43 too many."""
    many = [run_of(failed(dates=span(6)), f"um/daily/t{n}") for n in range(44)]
    problems, [message] = decide({}, many, NOW)
    assert message.title == (
        "daily_update failed 44 times: um/daily/t0 2024-01-06, um/daily/t1 2024-01-06 and 42 more"
    )
    assert list(problems) == ["job daily_update"]
    assert (
        message.body.split("Do: ")[1]
        .split("\n")[0]
        .endswith("binance-availability update manual --date 2024-01-06")
    )


def test_the_remedy_is_about_the_dataset_where_it_is_one():
    month = Span(start=D(2024, 1, 1), end=D(2024, 1, 31))
    rates = run_of(failed(dates=month), RATES, option=f" --dataset {RATES}")
    _, [message] = decide({}, [rates], NOW)
    assert f"backfill --dataset {RATES} --start 2024-01-01 --end 2024-01-31" in message.body
    klines = run_of(failed(dates=span(6)), KLINES, option=f" --dataset '{KLINES}/*'")
    _, [message] = decide({}, [rates, klines], NOW)
    assert "backfill --start 2024-01-01 --end 2024-01-31" in message.body


@pytest.mark.parametrize(
    ("failure", "success", "over"),
    [
        ([KLINES], [KLINES], True),
        ([KLINES], [KLINES, RATES], True),
        ([KLINES], [RATES], False),
        ([KLINES, RATES], [KLINES], False),
        # Launched in a way that does not say what it is about: its step does.
        ([KLINES], [], True),
        ([], [KLINES], True),
    ],
)
@pytest.mark.parametrize("step", [STEP, None])
def test_a_failure_is_over_when_its_own_datasets_were_done(failure, success, over, step):
    looks = (
        [run_of(failed(dates=span(6), step=step), *failure)],
        [run_of(succeeded("late_arrivals", span(1, 9)), *success)],
    )
    assert len(titles(*looks)) == (2 if over else 1)


def test_hundreds_of_datasets_at_fault_are_one_message_and_a_bounded_memory():
    many = [of(f"um/daily/klines/{n}m", day) for n in range(1, 201) for day in (1, 3)]
    problems, [message] = decide({}, [check_of(*many)], NOW)
    assert len(message.title) + len(message.body) < 1000
    assert "and 198 more" in message.title
    assert len(problems["check c of a"].troubles) == 200
    assert decide(problems, [check_of(*many)], NOW + HOLD) == (problems, [])


def test_each_failed_run_is_announced_with_its_date():
    assert titles([failed(dates=span(1))], [], [failed(dates=span(2))]) == [
        "daily_update failed: 2024-01-01",
        "daily_update failed: 2024-01-02",
    ]


def test_success_without_a_failure_before_it_is_silence():
    assert titles([succeeded()], [passed()]) == []


@pytest.mark.parametrize(
    ("failure", "success"),
    [
        (failed(dates=span(6)), succeeded(dates=span(6))),
        (failed(dates=span(6)), succeeded("late_arrivals", span(1, 9))),
        (failed(dates=span(6), step=None), succeeded("late_arrivals", span(1, 9))),
        (failed("late_arrivals", span(1, 9), moving=True), succeeded("late_arrivals", span(2, 10))),
        (failed("slo_checks", step="freshness"), succeeded("slo_checks", steps=["freshness"])),
        (failed("slo_checks", step=None), succeeded("slo_checks", steps=["freshness"])),
    ],
)
def test_a_failure_is_over_when_its_dates_and_its_step_were_done(failure, success):
    assert titles([failure], [success], [success])[1:] == [f"{failure.name} recovered"]


@pytest.mark.parametrize(
    ("failure", "success"),
    [
        # The next day's update says nothing of the day that is missing.
        (failed(dates=span(6)), succeeded(dates=span(7))),
        (failed(dates=span(1, 9)), succeeded(dates=span(9))),
        (failed(dates=span(1, 9)), succeeded(dates=span(2, 10))),
        (failed("late_arrivals", span(1, 9), moving=True), succeeded("daily_update", span(9))),
        # Another step of the same dates: the files were listed, but not published.
        (failed(dates=span(6), step="published"), succeeded(dates=span(6))),
        (failed("backup", step="backup"), succeeded("slo_checks", steps=["freshness"])),
        (failed("backup", step=None), succeeded("slo_checks", steps=["freshness"])),
        (failed(dates=span(6), step=None), succeeded("slo_checks", steps=["freshness"])),
    ],
)
def test_a_failure_is_not_over_because_something_else_went_well(failure, success):
    assert len(titles([failure], [success], [success])) == 1


def test_what_failed_and_recovered_between_two_looks_is_told_too():
    assert titles([failed(dates=span(6)), succeeded(dates=span(6))]) == [
        "daily_update failed: 2024-01-06",
        "daily_update recovered",
    ]


def test_failures_within_the_hour_are_announced_together():
    problems, first = decide({}, [failed(dates=span(1))], NOW)
    said = []
    for minute in range(1, 31):
        at = NOW + dt.timedelta(minutes=minute)
        problems, messages = decide(problems, [failed(dates=span(minute))], at)
        said += messages
    assert said == []
    problems, [late] = decide(problems, [], NOW + HOLD)
    assert first[0].title == "daily_update failed: 2024-01-01"
    assert late.title == "daily_update failed 30 times: 2024-01-01 to 2024-01-30"
    assert "backfill --start 2024-01-01 --end 2024-01-30" in late.body


def test_a_check_that_goes_on_failing_is_news_only_for_other_dates():
    assert titles([check(span(6))], [check(span(6))], [check(span(6), span(8))], [passed()]) == [
        "check c of a failed: 2024-01-06",
        "check c of a failed: 2024-01-08",
        "check c of a recovered",
    ]


def test_a_check_recovers_only_when_it_passed_for_the_dates_that_failed():
    assert titles([check(span(6))], [passed(span(7))], [passed(span(1, 9))]) == [
        "check c of a failed: 2024-01-06",
        "check c of a recovered",
    ]


def test_a_check_without_dates_is_announced_once_and_recovers():
    assert titles([check(ALWAYS)], [check(ALWAYS)], [passed()]) == [
        "check c of a failed",
        "check c of a recovered",
    ]


def test_a_clock_that_went_backwards_holds_nothing_back_for_long():
    problems, _ = decide({}, [failed(dates=span(1))], NOW)
    earlier = NOW - dt.timedelta(days=400)
    _, messages = decide(problems, [failed(dates=span(2))], earlier)
    assert len(messages) == 1
    state, _ = enqueue(State(after=0), messages, ["a"], NOW)
    state, _ = settle(state, due(state, NOW), [frozenset()], NOW)
    assert due(state, earlier) == [(0, ("a",))]


def test_an_error_is_one_bounded_line_without_what_gives_access():
    line = one_line("\n  cannot open s3://key:sec/ret@bucket/x?token=abc \nTraceback\n")
    assert line == "cannot open s3://****@bucket/x?****"
    assert len(one_line("x" * 10_000)) == 500


RUNS = st.builds(
    lambda first, days, good, name: (
        succeeded(name, span(first, min(31, first + days)))
        if good
        else failed(name, span(first, min(31, first + days)))
    ),
    st.integers(1, 31),
    st.integers(0, 30),
    st.booleans(),
    st.sampled_from(["daily_update", "full_reconcile"]),
)


@given(st.lists(st.lists(RUNS, max_size=4), max_size=12))
def test_every_failure_is_told_and_every_job_that_is_well_again_is_said_to_be(looks):
    """Whatever the order, a look at everything leaves no problem open, and says so once each."""
    said = titles(*looks, [], [succeeded("x", span(1, 31))], [])
    broken = {e.name for look in looks for e in look if isinstance(e, RunFailed)}
    for name in ("daily_update", "full_reconcile"):
        mine = [title for title in said if title.startswith(name)]
        assert bool(mine) == (name in broken)
        if mine:
            assert mine[0].startswith(f"{name} failed")
            assert mine[-1] == f"{name} recovered"
        for before, after in itertools.pairwise(mine):
            assert "recovered" not in before or "failed" in after


@given(st.lists(RUNS, max_size=300))
def test_what_is_remembered_is_bounded_and_survives_json(events):
    problems, messages = decide({}, events, NOW)
    state, _ = enqueue(State(after=7, problems=problems), messages, ["a", "b", "c"], NOW)
    text = state.model_dump_json()
    assert outbox.load(text) == state
    assert len(text) < 100_000


def test_no_more_problems_are_remembered_than_the_limit():
    problems, messages = decide({}, [failed(f"job{n}") for n in range(300)], NOW)
    assert len(problems) == MAX_PROBLEMS
    queue = enqueue(State(after=0), messages, ["a"], NOW)[0].queue
    assert len(queue) == outbox.MAX_NEW + 1
    assert queue[-1].message.title == f"and {300 - outbox.MAX_NEW} more messages"


def message(title="t"):
    return Message(title=title, body="b", failure=True)


def test_a_message_is_tried_ever_more_rarely_and_given_up_after_a_day():
    state, now, tries, notes = enqueue(State(after=0), [message()], ["a", "b"], NOW)[0], NOW, [], []
    while state.queue:
        if tried := due(state, now):
            tries.append(now)
            state, lost = settle(state, tried, [frozenset({"a"})], now)
            notes += lost
        now += dt.timedelta(seconds=30)
    pauses = [b - a for a, b in itertools.pairwise(tries)]
    assert pauses[:3] == [dt.timedelta(seconds=s) for s in (30, 60, 120)]
    assert max(pauses) == dt.timedelta(hours=1)
    assert 24 <= len(tries) <= 35
    assert tries[-1] - NOW >= dt.timedelta(hours=24)
    assert notes == [Lost("b", ("t",), "failed"), Lost("b", ("t",), "given_up")]


def test_a_later_message_waits_behind_one_that_a_target_has_not_taken():
    """Each message had its own pause once, and "recovered" arrived before "failed"."""
    state, _ = enqueue(State(after=0), [message("failed")], ["a", "b"], NOW)
    state, _ = settle(state, due(state, NOW), [frozenset({"b"})], NOW)
    soon = NOW + dt.timedelta(seconds=5)
    state, _ = enqueue(state, [message("recovered")], ["a", "b"], soon)
    assert due(state, soon) == [(1, ("b",))]
    state, _ = settle(state, due(state, soon), [frozenset({"b"})], soon)
    later = NOW + dt.timedelta(seconds=30)
    assert due(state, later) == [(0, ("a",)), (1, ("a",))]


def test_a_target_is_known_by_its_address_and_not_by_its_place():
    state, _ = enqueue(State(after=0), [message()], ["a", "b"], NOW)
    state, _ = settle(state, due(state, NOW), [frozenset({"b"})], NOW)
    again, dropped = enqueue(state, [], ["new", "b", "a"], NOW)
    assert (again.queue, dropped) == (state.queue, [])
    gone, dropped = enqueue(state, [], ["b"], NOW)
    assert (gone.queue, gone.backoffs) == ((), {})
    assert dropped == [Lost("a", ("t",), "removed")]


def test_positions_kept_by_version_0_1_become_the_addresses_they_meant():
    state, _ = enqueue(State(after=7), [message()], ["a", "b"], NOW)
    old = state.model_dump(mode="json")
    old["queue"][0] |= {"to": [1], "tries": 3, "next_try": NOW.isoformat()}
    loaded = outbox.load(json.dumps(old), ["a", "b"])
    assert [q.to for q in loaded.queue] == [("b",)]


def test_the_key_of_an_address_does_not_hold_it():
    key = outbox.target_key("json://user:password@example.org")
    assert re.fullmatch("[0-9a-f]{16}", key)
    assert key != outbox.target_key("json://user:passwort@example.org")


def test_the_queue_is_bounded_keeps_the_newest_and_names_what_it_drops():
    state, dropped = State(after=0), []
    for n in range(200):
        state, lost = enqueue(state, [message(f"{n}")], ["a"], NOW)
        dropped += [title for one in lost for title in one.titles]
    assert [q.message.title for q in state.queue] == [f"{n}" for n in range(150, 200)]
    assert dropped == [f"{n}" for n in range(150)]


SENT = st.lists(
    st.tuples(
        st.integers(0, 2), st.lists(st.sampled_from("abc"), max_size=3), st.integers(0, 4000)
    ),
    max_size=40,
)


@given(SENT)
def test_each_target_gets_its_messages_in_order_and_once_whatever_fails(steps):
    state, now, sent, lost = State(after=0), NOW, 0, []
    got = {key: [] for key in "abc"}
    for new, failing, seconds in [*steps, (0, [], 9999)]:
        now += dt.timedelta(seconds=seconds)
        messages = [message(f"{sent + n:04}") for n in range(new)]
        sent += new
        state, dropped = enqueue(state, messages, list("abc"), now)
        tried, taken = due(state, now), []
        for n, keys in tried:
            took = frozenset(keys).difference(failing)
            taken.append(took)
            for key in took:
                got[key].append(state.queue[n].message.title)
        state, notes = settle(state, tried, taken, now)
        lost += [one for one in [*dropped, *notes] if one.why != "failed"]
    for titles in got.values():
        assert titles == sorted(set(titles))
    if not lost:
        assert all(len(titles) == sent for titles in got.values())
