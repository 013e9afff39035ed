"""One record shared by threads. Breaking it gives wrong answers, and nothing says so."""

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pytest

from availability_pipeline import queries
from availability_pipeline.errors import StoreBusyError
from availability_pipeline.record import write
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support.helpers import D, days, make_listing, published

START, END = D(2024, 1, 1), D(2024, 1, 20)
DATES = days(START, END)
SYMBOLS = [f"S{n}USDT" for n in range(8)]
NOW = dt.datetime(2024, 3, 1, 2, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("threads") / "record.duckdb"
    # Each date and symbol has a size that nothing else has.
    files = {
        symbol: {date: (1 + 100 * n + d, published(date)) for d, date in enumerate(DATES)}
        for n, symbol in enumerate(SYMBOLS)
    }
    with writer(path) as con:
        write.write_probe(con, make_listing(START, END, files), probed_at=NOW, run_id="run")
    return path


def ask(record, n):
    date, symbol = DATES[n % len(DATES)], SYMBOLS[n % len(SYMBOLS)]
    return [
        record.snapshot(date)["file_size_bytes"].tolist(),
        record.timeline(symbol)["file_size_bytes"].tolist(),
        record.universe(START, date).shape,
        record.snapshot(date)["last_modified"].tolist(),
        record.holes().shape,
        record.symbols_in_range(START, date),
    ]


def test_threads_that_share_an_open_record_get_the_answers_of_one_thread(path):
    alone = queries.open(path)
    expected = [ask(alone, n) for n in range(20)]
    start = threading.Barrier(8)

    def work(shift):
        start.wait()
        return [(n, ask(record, n)) for n in ((shift * 5 + m) % 20 for m in range(20))]

    with queries.open(path) as record, ThreadPoolExecutor(8) as pool:
        answers = [answer for part in pool.map(work, range(8)) for answer in part]
    assert len(answers) == 160
    assert [n for n, answer in answers if answer != expected[n]] == []


def test_threads_that_open_and_leave_blocks_of_one_record_do_not_close_it_for_each_other(path):
    record = queries.open(path)
    expected = ask(record, 3)

    def work(_):
        for _ in range(10):
            with record:
                assert ask(record, 3) == expected
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    with duckdb.connect(str(path)) as con:  # nothing holds the file any more
        con.execute("SELECT 1").fetchall()


def test_an_inner_block_leaves_the_outer_one_open_and_close_ends_both(path):
    record = queries.open(path)
    with record:
        with record:
            pass
        with pytest.raises(StoreBusyError), writer(path, 0):
            pass
        record.close()
        with writer(path, 0):
            pass
        assert len(record.snapshot(START)) == 8  # opened for this question alone


def test_a_connection_in_a_block_shows_utc_whatever_the_machine_says(path, monkeypatch):
    with queries.open(path) as record, record.connection() as con:
        shown = con.execute("SELECT current_setting('TimeZone')").fetchall()
    assert shown == [("UTC",)]
