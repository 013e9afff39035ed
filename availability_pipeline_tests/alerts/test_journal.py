"""What is being sent survives the death of whoever sends it."""

import datetime as dt
import multiprocessing

import pytest

from availability_pipeline.alerts import delivery, journal, outbox
from availability_pipeline.alerts.rules import Message
from availability_pipeline_tests.support.helpers import PATIENCE, wait_for
from availability_pipeline_tests.support.receiver import receiving

NOW = dt.datetime(2024, 2, 1, tzinfo=dt.UTC)
MESSAGES = [Message(title=f"number {n}", body="x", failure=True) for n in range(3)]
STATE, _ = outbox.enqueue(outbox.State(after=7), MESSAGES, ["a"], NOW)
DUE = outbox.due(STATE, NOW)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def evaluate(path, url):
    """What the sensor does, in a process of its own."""
    with journal.opened(path) as sending:
        sending.begin("stored", STATE, DUE, ["a"])
        sendings = [(m.title, m.body, "failure", [0]) for m in MESSAGES]
        delivery.deliver([url], sendings, journal=sending.number)


def test_a_killed_evaluation_leaves_a_whole_account_of_what_was_taken(tmp_path):
    path = tmp_path / journal.NAME
    with receiving() as receiver:
        receiver.mode, receiver.seconds = "slow", 1
        process = multiprocessing.get_context("spawn").Process(
            target=evaluate, args=(path, receiver.url)
        )
        process.start()
        wait_for(lambda: receiver.asked)
        process.kill()
        process.join(PATIENCE)
        with journal.opened(path) as sending:
            assert sending is None, "what it left still sends"

        def ended():
            with journal.opened(path) as sending:
                return sending and sending.unfinished("stored")

        state, taken = wait_for(ended)
        assert state == STATE
        assert taken == [(n, ("a",)) for n in range(len(taken))]
        assert receiver.titles == [f"number {n}" for n in range(len(taken))]
        assert taken


def test_a_disk_that_takes_nothing_does_not_silence_the_alerts(tmp_path):
    (tmp_path / "x").write_text("\n")
    with (tmp_path / "x").open("rb") as file:
        sending = journal.Journal(file)
        sending.begin("stored", STATE, DUE, ["a"])
        assert sending.number is None


def test_it_is_of_one_cursor_only(tmp_path):
    with journal.opened(tmp_path / "x") as sending:
        assert sending.unfinished("one") is None
        sending.begin("one", STATE, DUE, ["a"])
        assert sending.unfinished("two") is None
        assert sending.unfinished("one") == (STATE, [])
        sending.begin("two", STATE, DUE, ["a"])
        assert sending.unfinished("one") is None


def test_what_was_cut_off_does_not_count_and_what_stood_before_it_does(tmp_path):
    path = tmp_path / "x"
    with journal.opened(path) as sending:
        sending.begin("one", STATE, DUE, ["a"])
    whole = path.read_bytes() + b"taken 1 0\n"
    later = STATE.model_copy(update={"after": 8})
    path.write_bytes(whole)
    with journal.opened(path) as sending:
        sending.begin("one", later, DUE, ["a"])
        assert sending.unfinished("one") == (later, [])
    longer = path.read_bytes()
    assert longer.startswith(whole)
    for length in range(len(whole), len(longer)):
        path.write_bytes(longer[:length])
        with journal.opened(path) as sending:
            assert sending.unfinished("one") == (STATE, [(1, ("a",))])
    path.write_bytes(whole[:-1])
    with journal.opened(path) as sending:
        assert sending.unfinished("one") == (STATE, [])


def test_it_is_private_and_follows_no_link(tmp_path):
    with journal.opened(tmp_path / "x"):
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
    (tmp_path / "aim").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "aim")
    with journal.opened(tmp_path / "link") as sending:
        sending.begin("one", STATE, DUE, ["a"])
        assert sending.number is None
    assert (tmp_path / "aim").read_text() == "kept"
