"""The record. Breaking it costs the truth: a lost row or revision is never found again."""

import datetime as dt
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from availability_pipeline.archive.datasets import UM_KLINES_1M
from availability_pipeline.archive.listing import ListingError, Recorded
from availability_pipeline.errors import (
    ClockSkewError,
    ClockWentBackError,
    DamagedDatabaseError,
    ForeignDatabaseError,
    FullDiskError,
    LostRecordError,
    MissingDatabaseError,
    NewerSchemaError,
    ShrunkenArchiveError,
    StoreBusyError,
    StoreError,
    UnwritableDatabaseError,
)
from availability_pipeline.record import _migrations, connection, derived, schema
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.settings import Settings
from availability_pipeline_tests.support.helpers import (
    PATIENCE,
    D,
    days,
    flat,
    make_listing,
    published,
)

START, END = D(2024, 1, 1), D(2024, 1, 10)
NOW = dt.datetime(2024, 3, 1, 2, tzinfo=dt.UTC)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(1)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "record.duckdb"


def write(path, files, *, at=NOW, start=START, end=END, **options):
    with writer(path) as con:
        return store.write_probe(
            con, make_listing(start, end, files), probed_at=at, run_id="run", **options
        )


def rows(path, sql):
    with reader(path) as con:
        return con.execute(sql).fetchall()


class OneListing:
    """An archive; the record is read while it is listed."""

    def __init__(self, path, files, server_time=None):
        self.path, self.files, self.server_time, self.known = path, files, server_time, None

    def list_range(self, start, end, progress=None, recorded=None, **_):
        self.known = recorded
        if self.path.exists():
            with reader(self.path, wait_seconds=0):  # refused while this process has a writer
                pass
        if self.files is None:
            raise ListingError({"AUSDT": "HTTP 503"}, 1, start, end)
        return make_listing(start, end, self.files, self.server_time, recorded)


def update(path, archive, *, now=NOW, run_id="run", **others):
    return store.update(
        path, archive, START, END, now=now, run_id=run_id, settings=Settings(), **others
    )


def test_a_new_symbol_changes_only_the_dates_on_which_it_has_a_file(path):
    """Listed over all probed dates, it is absent on each; 2,600 events a new contract otherwise."""
    files = {"AUSDT": flat(START, END)}
    update(path, OneListing(path, files))
    more = files | {"NEWUSDT": flat(D(2024, 1, 9), END)}
    options = {"now": NOW + HOUR, "run_id": "second", "settings": Settings()}
    done = store.update(path, OneListing(path, more), END, END, **options)
    assert [row["date"] for row in done.changed] == [D(2024, 1, 9), END]
    assert [row["appeared"] for row in done.changed] == [1, 1]
    options["now"] += HOUR  # a step that is run again has the same run
    again = store.update(path, OneListing(path, more), END, END, **options)
    assert (again.changed, again.dates[0]["appeared"]) == ((), 0)


def test_an_update_lists_while_others_read_and_opens_the_file_to_write_once(path, monkeypatch):
    opened = []
    monkeypatch.setattr(store, "writer", lambda *args: opened.append(args) or writer(*args))
    first = OneListing(path, {"AUSDT": flat(START, END)})
    assert update(path, first).result.rows == 10
    second = OneListing(path, {"AUSDT": flat(START, END), "BUSDT": flat(START, END)})
    done = update(path, second, now=NOW + HOUR, run_id="second")
    assert (first.known.last, second.known.last) == (None, END)
    assert len(opened) == 2
    assert [(d["date"], d["expected"], d["available"], d["appeared"]) for d in done.dates] == [
        (date, 2, 2, 1) for date in days(START, END)
    ]


def test_an_update_that_fails_or_is_refused_writes_nothing(path):
    def refuse():
        raise LostRecordError("it is elsewhere")

    files = {"AUSDT": flat(START, END)}
    for archive, error, others in (
        (OneListing(path, None), ListingError, {}),
        (OneListing(path, files), LostRecordError, {"if_nothing_recorded": refuse}),
        (OneListing(path, files, NOW + dt.timedelta(1)), ClockSkewError, {}),
    ):
        with pytest.raises(error):
            update(path, archive, **others)
        assert not path.exists()
    update(path, OneListing(path, files))
    whole = path.read_bytes()
    with pytest.raises(ListingError):
        update(path, OneListing(path, None), now=NOW + HOUR)
    assert path.read_bytes() == whole


def test_each_probed_date_has_one_row_for_each_known_symbol(path):
    result = write(path, {"AUSDT": flat(START, END), "BUSDT": flat(START, D(2024, 1, 4))})
    assert (result.rows, result.available, result.absent, result.pending) == (20, 14, 6, 0)
    assert rows(
        path, "SELECT count(*), count(DISTINCT (date, symbol)) FROM daily_availability"
    ) == [(20, 20)]


def test_absent_pending_and_available_are_three_answers(path):
    two = dt.datetime(2024, 1, 11, 2, tzinfo=dt.UTC)
    write(path, {"AUSDT": flat(START, D(2024, 1, 6))}, at=two)
    got = dict(rows(path, "SELECT date, status FROM daily_availability"))
    assert got[D(2024, 1, 6)] == "available"
    assert got[D(2024, 1, 7)] == "absent"  # looked at 3 days and 2 hours after its end
    assert got[D(2024, 1, 8)] == "pending"
    assert D(2024, 1, 11) not in got


def test_a_first_look_is_no_change_and_the_same_look_again_is_none_either(path):
    files = {"AUSDT": flat(START, D(2024, 1, 5))}
    write(path, files)
    again = write(path, files, at=NOW + HOUR)
    assert (again.appeared, again.replaced, again.vanished) == (0, 0, 0)
    assert rows(path, "FROM revisions") == []


def test_what_appeared_was_replaced_or_vanished_is_kept_with_old_and_new_values(path):
    write(path, {"AUSDT": flat(START, D(2024, 1, 3))})
    later = flat(D(2024, 1, 2), D(2024, 1, 4))
    later[D(2024, 1, 3)] = (777, published(D(2024, 2, 3)))
    result = write(path, {"AUSDT": later}, at=NOW + HOUR)
    assert (result.appeared, result.replaced, result.vanished) == (1, 1, 1)
    assert rows(
        path, "SELECT period, change, old_size, new_size FROM revisions ORDER BY period"
    ) == [
        (D(2024, 1, 1), "vanished", 100, None),
        (D(2024, 1, 3), "replaced", 100, 777),
        (D(2024, 1, 4), "appeared", None, 100),
    ]


def test_a_folder_that_vanished_keeps_its_rows_and_one_that_came_late_is_an_appearance(path):
    write(path, {"XUSDT": flat(START, END)})
    write(path, {"XUSDTSETTLED": flat(START, END)}, at=NOW + HOUR)
    got = rows(path, "SELECT symbol, change, count(*) FROM revisions GROUP BY ALL ORDER BY ALL")
    assert got == [("XUSDT", "vanished", 10), ("XUSDTSETTLED", "appeared", 10)]


@pytest.mark.parametrize(
    "step",
    ["_opened", "refuse_past", "_look", "_write_files", "_write_probes"],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fault_in_the_middle_of_a_write_leaves_everything_as_it_was(
    path, monkeypatch, step, when
):
    write(path, {"AUSDT": flat(START, END)})
    before = everything(path)
    real = getattr(store, step)

    def fail(*args, **named):
        if when == "after":
            real(*args, **named)
        raise KeyboardInterrupt

    with writer(path) as con:
        listing = make_listing(START, END, {"AUSDT": {}, "NEWUSDT": {}})
        with monkeypatch.context() as patch:
            patch.setattr(store, step, fail)
            with pytest.raises(KeyboardInterrupt):
                store.write_probe(con, listing, probed_at=NOW + HOUR, run_id="r")
        assert everything_of(con) == before
        # The connection is good for the next write, too.
        assert store.write_probe(con, listing, probed_at=NOW + HOUR, run_id="r").vanished == 10


def everything(path):
    with reader(path) as con:
        return everything_of(con)


def everything_of(con):
    tables = ("daily_availability", "datasets", "symbols", "files", "probes",
              "probe_ranges", "revisions", "symbol_spans", "daily_summary", "meta")  # fmt: skip
    return {t: con.execute(f"FROM {t} ORDER BY ALL").fetchall() for t in tables}


KILLED = """
import sys, time
from availability_pipeline.record.connection import writer
from availability_pipeline.record import write
from availability_pipeline_tests.record.test_write import END, HOUR, NOW, START, make_listing
def stop(*_):
    print("now", flush=True)
    time.sleep(3600)
if sys.argv[2] == "in the middle":
    write.derived.refresh = stop
with writer(sys.argv[1]) as con:
    write.write_probe(
        con, make_listing(START, END, {"AUSDT": {}}), probed_at=NOW + HOUR, run_id="r")
    stop()
"""


@pytest.mark.parametrize(("moment", "vanished"), [("in the middle", 0), ("after the commit", 10)])
def test_a_kill_loses_no_more_than_the_transaction_it_meets(path, moment, vanished):
    write(path, {"AUSDT": flat(START, END)})
    before = everything(path)
    command = [sys.executable, "-c", KILLED, str(path), moment]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "now\n"
        process.kill()
    assert rows(path, "SELECT count(*) FROM revisions") == [(vanished,)]
    assert (everything(path) == before) == (vanished == 0)
    assert write(path, {"AUSDT": {}}, at=NOW + HOUR).vanished == 10 - vanished


def test_a_clock_that_went_back_is_refused(path):
    write(path, {"AUSDT": flat(START, END)})
    with pytest.raises(ClockWentBackError, match="2024-03-01 02:00:00 UTC; set the clock"):
        write(path, {"AUSDT": {}}, at=NOW - HOUR)
    assert rows(path, "SELECT count(*) FROM daily_availability WHERE available") == [(10,)]


def test_the_clock_of_other_dates_does_not_matter(path):
    """A range run of old dates may start before a schedule's look at yesterday and end after."""
    write(path, {"AUSDT": flat(START, END)}, start=START, end=START)
    write(path, {"AUSDT": flat(START, END)}, start=END, end=END, at=NOW - HOUR)
    assert rows(path, "SELECT count(*) FROM daily_availability WHERE available") == [(2,)]


def test_a_new_symbol_is_not_listed_over_dates_that_were_probed_later(path):
    """Its rows would be older than their dates: pending in one answer, confirmed in another."""
    earlier, other = NOW - 2 * HOUR, START + dt.timedelta(1)
    write(path, {"AUSDT": flat(START, END)}, at=earlier, start=other, end=other)
    write(path, {"AUSDT": flat(START, END)}, start=START, end=START)
    before = everything(path)
    with_new = {"AUSDT": flat(START, END), "BUSDT": flat(END, END)}
    with writer(path) as con:
        listing = make_listing(END, END, with_new, recorded=store.recorded(con))
        with pytest.raises(ClockWentBackError, match="set the clock right"):
            store.write_probe(con, listing, probed_at=NOW - HOUR, run_id="r")
    assert everything(path) == before


@pytest.mark.parametrize(("days_off", "side"), [(1, "ahead of"), (-1, "behind")])
def test_a_clock_far_from_the_archives_is_refused(path, days_off, side):
    listing = make_listing(START, END, {"AUSDT": {}}, NOW - dt.timedelta(days=days_off))
    with writer(path) as con:
        with pytest.raises(ClockSkewError, match=f"1440 minutes {side} the archive's"):
            store.write_probe(con, listing, probed_at=NOW, run_id="r", max_clock_skew_minutes=60)
        store.write_probe(con, listing, probed_at=NOW, run_id="r", max_clock_skew_minutes=0)


def test_a_naive_time_is_refused(path):
    with pytest.raises(ValueError, match="no time zone"):
        write(path, {"AUSDT": {}}, at=NOW.replace(tzinfo=None))


def test_an_archive_that_shrank_is_refused_unless_told_otherwise(path):
    many = {f"A{n}USDT": flat(START, END) for n in range(30)}
    write(path, many)
    few = {s: {} for s in many}
    with pytest.raises(ShrunkenArchiveError, match="0 of the 300 files"):
        write(path, few, at=NOW + HOUR)
    with pytest.raises(ShrunkenArchiveError, match="1 of the 30 symbols"):
        write(path, {"A1USDT": {}}, at=NOW + HOUR)
    half = {s: f if n % 2 else {} for n, (s, f) in enumerate(many.items())}
    assert write(path, half, at=NOW + HOUR).vanished == 150  # just enough to be believed
    assert write(path, few, at=NOW + HOUR, accept_shrunken=True).vanished == 150


def test_an_archive_of_two_symbols_is_protected_too(path):
    write(path, {"AUSDT": flat(START, START), "BUSDT": flat(START, START)})
    with pytest.raises(ShrunkenArchiveError, match="0 of the 2 symbols"):
        write(path, {"CUSDT": {}, "DUSDT": {}}, at=NOW + HOUR)


def probe(path, files, known, *, at, start, end=None, **options):
    """A probe whose archive was told what was `known`, as the asset does it."""
    listing = make_listing(start, end or start, files, recorded=known)
    with writer(path) as con:
        return store.write_probe(con, listing, probed_at=at, run_id="run", **options)


def recorded(path):
    with reader(path) as con:
        return store.recorded(con)


def test_what_is_recorded_are_the_symbols_with_all_rows_and_the_dates(path):
    write(path, {"AUSDT": {}, "BUSDT": {}}, end=START)
    assert recorded(path) == Recorded(frozenset({"AUSDT", "BUSDT"}), START, START)
    write(path, {"AUSDT": {}, "NEWUSDT": {}}, start=END, at=NOW + HOUR)
    assert recorded(path) == Recorded(frozenset({"AUSDT", "BUSDT"}), START, END)


def test_a_probe_that_another_overtook_is_refused_and_not_written_over_what_that_one_saw(path):
    """The slower one had not seen the new symbol's folder: it would say that its file vanished."""
    write(path, {"AUSDT": flat(START, END)})
    before = recorded(path)
    new = {"AUSDT": flat(START, END), "NEWUSDT": flat(START, END)}
    assert probe(path, new, before, at=NOW + 2 * HOUR, start=END).appeared == 10
    was = everything(path)
    with pytest.raises(ClockWentBackError, match="if another run wrote meanwhile"):
        probe(path, {"AUSDT": flat(START, END)}, before, at=NOW + HOUR, start=START)
    assert everything(path) == was


def test_dates_that_another_run_probed_meanwhile_stay_unknown_until_the_next_run(path):
    write(path, {"AUSDT": flat(START, END)}, end=D(2024, 1, 5))
    before = recorded(path)
    write(path, {"AUSDT": flat(START, END)}, start=D(2024, 1, 9), at=NOW + HOUR)
    new = {"AUSDT": flat(START, END), "NEWUSDT": flat(START, END)}
    probe(path, new, before, at=NOW + 2 * HOUR, start=D(2024, 1, 5))
    rows_of = "SELECT date FROM daily_availability WHERE symbol = 'NEWUSDT' ORDER BY date"
    assert [date for (date,) in rows(path, rows_of)] == [D(2024, 1, 5)]
    assert rows(path, "SELECT count(*) FROM files WHERE symbol = 'NEWUSDT'") == [(1,)]
    assert probe(path, new, recorded(path), at=NOW + 3 * HOUR, start=END).widened == 1
    probed = [*days(START, D(2024, 1, 5)), D(2024, 1, 9), END]
    assert [date for (date,) in rows(path, rows_of)] == probed


def test_a_symbol_without_a_folder_loses_its_files_on_all_dates_to_its_settled_name(path):
    files = flat(START, END)
    write(path, {"AUSDT": files, "BUSDT": files, "XUSDT": files, "YUSDT": files})
    moved = {"AUSDT": files, "BUSDT": files, "XUSDT_SETTLED": files}
    got = probe(path, moved, recorded(path), at=NOW + HOUR, start=END)
    assert (got.vanished, got.appeared, got.widened) == (11, 10, 2)  # YUSDT only in the range
    assert rows(path, "SELECT DISTINCT symbols, files FROM probes") == [(4, 4), (5, 3)]


def test_a_listing_that_contradicts_itself_is_refused(path):
    listing = make_listing(START, END, {"AUSDT": flat(START, END)})
    twice = replace(listing, files=pd.concat([listing.files] * 2, ignore_index=True))
    outside = replace(listing, end=D(2024, 1, 5))
    listed = replace(listing, left_out=frozenset({"AUSDT"}))
    unknown = replace(listing, left_out=frozenset({"BUSDT"}))
    with writer(path) as con:
        for wrong in (twice, outside, listed, unknown):
            with pytest.raises(ValueError, match="nothing was written"):
                store.write_probe(con, wrong, probed_at=NOW, run_id="r")
    assert rows(path, "FROM daily_availability") == []


def test_symbols_are_remembered_with_what_their_names_say(path):
    write(path, {"BTCUSDT_240329": {}, "龙虾USDT": {}, "ODD": {}, "AUSDT_SETTLED": {}})
    write(path, {"ODD": {}, "BTCU": {}}, at=NOW + HOUR, accept_shrunken=True)
    assert rows(
        path,
        "SELECT * EXCLUDE (dataset, whole_at, listed_at, left_out_at) FROM symbols ORDER BY symbol",
    ) == [
        ("AUSDT_SETTLED", "settled", "A", "USDT", NOW, NOW),
        ("BTCU", "perpetual", "BTC", "U", NOW + HOUR, NOW + HOUR),
        ("BTCUSDT_240329", "delivery", "BTC", "USDT", NOW, NOW),
        ("ODD", "perpetual", None, None, NOW, NOW + HOUR),
        ("龙虾USDT", "perpetual", "龙虾", "USDT", NOW, NOW),
    ]


def test_addresses_are_those_of_the_naming_grammar(path):
    names = ("BTCUSDT_240329", "我踏马来了USDT", "AUSDT_SETTLED", "4USDT")
    write(path, {name: flat(START, START) for name in names})
    got = rows(path, "SELECT symbol, date, url, status_code FROM daily_availability")
    assert len(got) == 40
    for symbol, date, url, code in got:
        assert url == UM_KLINES_1M.url(symbol, date)
        assert code == (200 if date == START else 404)


def test_probes_say_what_the_last_look_at_a_date_found(path):
    write(path, {"AUSDT": flat(START, D(2024, 1, 2)), "BUSDT": flat(START, START)})
    write(path, {"AUSDT": {}}, start=END, end=END, at=NOW + HOUR)
    got = rows(path, "SELECT * EXCLUDE (dataset, replaced_at) FROM probes ORDER BY period")
    assert got[:2] == [(START, NOW, 2, 2, "run"), (D(2024, 1, 2), NOW, 2, 1, "run")]
    assert got[-1] == (END, NOW + HOUR, 2, 0, "run")
    assert len(got) == 10


HOLD = """
import sys, time
from availability_pipeline.record.connection import writer
with writer(sys.argv[1]) as con:
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(path, seconds):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_reader_that_meets_a_writer_waits_for_it(path):
    write(path, {"AUSDT": flat(START, END)})
    with hold(path, 1) as process, reader(path, wait_seconds=PATIENCE) as con:
        assert con.execute("SELECT count(*) FROM daily_availability").fetchall() == [(10,)]
        assert process.wait() == 0


def test_the_wait_is_bounded_and_ends_in_a_clear_line(path):
    write(path, {"AUSDT": flat(START, END)})
    with hold(path, 10 * PATIENCE) as process:
        try:
            waiting = reader(path, wait_seconds=0.2)
            with pytest.raises(StoreBusyError, match="DB_WAIT_SECONDS"):
                waiting.__enter__()
        finally:
            process.kill()


def test_readers_and_writers_of_one_process_wait_for_each_other_too(path):
    write(path, {"AUSDT": flat(START, END)})
    entered = threading.Event()

    def keep() -> None:
        with writer(path):
            entered.set()
            time.sleep(0.3)

    thread = threading.Thread(target=keep)
    thread.start()
    entered.wait(PATIENCE)
    assert rows(path, "SELECT count(*) FROM daily_availability") == [(10,)]
    thread.join()


OTHER = """
import duckdb, sys
try:
    duckdb.connect(sys.argv[1])
except duckdb.IOException as error:
    print(str(error)[:40])
"""


@pytest.mark.parametrize("new", [True, False])
def test_a_second_look_from_the_same_process_leaves_the_writers_lock_in_place(path, new):
    """Otherwise two processes would write one file at the same time."""
    if not new:
        write(path, {"AUSDT": flat(START, END)})
    with writer(path):
        for opened in (reader(path, 0), reader(path.parent / "." / path.name, 0)):
            with pytest.raises(StoreBusyError):
                opened.__enter__()
        done = subprocess.run(
            [sys.executable, "-c", OTHER, str(path)], capture_output=True, text=True, check=True
        )
    assert "Could not set lock" in done.stdout


def test_two_readers_of_one_process_both_keep_writers_out(path):
    write(path, {"AUSDT": flat(START, END)})
    with reader(path):
        with reader(path):
            pass
        done = subprocess.run(
            [sys.executable, "-c", OTHER, str(path)], capture_output=True, text=True, check=True
        )
    assert "Could not set lock" in done.stdout


def test_a_reader_never_creates_a_file(path):
    with pytest.raises(MissingDatabaseError, match="backfill"), reader(path):
        pass
    assert not path.exists()


def test_a_database_whose_first_writer_died_counts_as_missing(path):
    path.parent.mkdir()
    duckdb.connect(str(path)).close()
    with pytest.raises(MissingDatabaseError, match="backfill"), reader(path):
        pass
    with writer(path), writer(path):
        pass
    assert rows(path, "FROM probes") == []


@pytest.mark.parametrize("text", ["", "x", "a,b,c\n" * 1000])
def test_a_file_that_is_no_database_is_named(path, text):
    path.parent.mkdir()
    path.write_text(text)
    for opened in (reader, writer):
        with pytest.raises(ForeignDatabaseError, match="not a DuckDB database"), opened(path):
            pass
    assert path.read_text() == text


@pytest.mark.parametrize("cut_at", [100, 20_000, 300_000])
def test_a_file_that_was_cut_off_is_called_damaged(path, cut_at):
    write(path, {"AUSDT": flat(START, END)})
    os.truncate(path, cut_at)
    for opened in (reader, writer):
        with pytest.raises(DamagedDatabaseError, match="restore"), opened(path):
            pass


def test_a_block_that_changed_on_the_disk_is_met_by_the_query_and_called_damaged(path):
    write(path, {"AUSDT": flat(START, END)})
    content = path.read_bytes()
    for block in range(12_288, len(content), 262_144):  # after the three headers
        path.write_bytes(content[: block + 50] + b"\xff" * 64 + content[block + 114 :])
        try:
            got = everything(path)
        except DamagedDatabaseError as error:
            assert str(path) in str(error)  # noqa: PT017 - a free block may go unread
            return
        assert got
    pytest.fail("no changed block was noticed")


def test_a_sqlite_file_is_refused_without_asking_the_network(path):
    """DuckDB would download an extension for it, and name that as the trouble."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as con:
        con.execute("CREATE TABLE t (x)")
        con.commit()
    with (
        pytest.raises(ForeignDatabaseError, match="not a DuckDB database"),
        reader(path),
    ):
        pass


def test_a_database_of_somebody_else_is_left_alone(tmp_path):
    path = tmp_path / "other.duckdb"
    duckdb.connect(str(path)).execute("CREATE TABLE meta (x INTEGER)").close()
    for opened in (reader, writer):
        with pytest.raises(ForeignDatabaseError, match="other tables"), opened(path):
            pass


def test_a_database_of_a_newer_version_is_refused_with_the_remedy(path):
    write(path, {"AUSDT": {}})
    with writer(path) as con:
        con.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    for opened in (reader, writer):
        with pytest.raises(NewerSchemaError, match="upgrade"), opened(path):
            pass


def test_a_newer_package_migrates_and_a_reader_says_that_it_must(path, monkeypatch):
    write(path, {"AUSDT": flat(START, END)})
    # A version that alters a table must also tell `schema.require_ours` the earlier text.
    steps = ["CREATE TABLE notes (note VARCHAR)", "INSERT INTO notes SELECT 'old' FROM probes"]
    now, following = schema.SCHEMA_VERSION, schema.SCHEMA_VERSION + 1
    for module in (schema, connection):
        monkeypatch.setattr(module, "SCHEMA_VERSION", following)
    monkeypatch.setattr(_migrations, "steps", lambda version, _: steps if version == now else [])
    monkeypatch.setitem(_migrations.DDL, now, schema.DDL)
    with pytest.raises(StoreError, match=rf"has schema version {now}, .* migrates it"):
        rows(path, "FROM probes")
    with writer(path):
        pass
    assert rows(path, "SELECT count(*) FROM notes WHERE note = 'old'") == [(10,)]


def test_a_migration_that_fails_changes_nothing(path, monkeypatch):
    write(path, {"AUSDT": flat(START, END)})
    before = everything(path)
    with monkeypatch.context() as patch:
        now = schema.SCHEMA_VERSION
        patch.setattr(schema, "SCHEMA_VERSION", now + 1)
        patch.setattr(_migrations, "steps", lambda *_: ["DELETE FROM probes", "no SQL"])
        patch.setitem(_migrations.DDL, now, schema.DDL)
        with pytest.raises(duckdb.ParserException), writer(path):
            pass
    assert everything(path) == before


def test_a_path_that_cannot_be_opened_is_one_clear_line(tmp_path):
    # "lock" in the name: the message quotes the path, and that must not read as a busy file.
    file = tmp_path / "Could not lock"
    file.write_text("x")
    for bad in (file / "x.duckdb", file / "y" / "x.duckdb", tmp_path):
        with (
            pytest.raises(UnwritableDatabaseError, match="AVAILABILITY_DB") as caught,
            writer(bad, wait_seconds=0),
        ):
            pass
        assert "\n" not in str(caught.value)
        assert str(bad) in str(caught.value)


def test_the_settling_time_is_kept_in_the_file(path):
    at = dt.datetime(2024, 1, 11, 2, tzinfo=dt.UTC)
    write(path, {"AUSDT": {}}, at=at)
    assert rows(path, "SELECT count(*) FROM daily_availability WHERE status = 'pending'") == [(3,)]
    write(path, {"AUSDT": {}}, at=at, settle_days=9)
    assert rows(path, "SELECT count(*) FROM daily_availability WHERE status = 'pending'") == [(9,)]
    write(path, {"AUSDT": {}}, at=at)  # says nothing of it
    assert rows(path, "SELECT count(*) FROM daily_availability WHERE status = 'pending'") == [(9,)]


def test_a_writer_that_fails_before_it_writes_leaves_no_file_where_there_was_none(path):
    with pytest.raises(ZeroDivisionError), writer(path):
        raise ZeroDivisionError
    assert not path.exists()
    write(path, {"AUSDT": flat(START, END)})
    with pytest.raises(ZeroDivisionError), writer(path):
        raise ZeroDivisionError
    assert rows(path, "SELECT count(*) FROM daily_availability") == [(10,)]


def test_a_new_file_that_somebody_else_has_open_by_then_stays(path):
    """It may be written to: taken away under its writer, what that one writes is lost."""
    opened = writer(path)
    opened.__enter__().close()  # so that another one gets in
    with hold(path, 60) as process:
        try:
            assert opened.__exit__(ValueError, ValueError("x"), None) is False
            assert path.exists()
        finally:
            process.kill()


ZONED = """
import datetime as dt, sys
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.record import write
from availability_pipeline_tests.record.test_write import END, START, flat, make_listing
at = dt.datetime(2024, 1, 11, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))
with writer(sys.argv[1]) as con:
    listing = make_listing(START, END, {"AUSDT": flat(START, START)})
    write.write_probe(con, listing, probed_at=at, run_id="r")
with reader(sys.argv[1]) as con:
    print(con.execute("SELECT epoch(max(last_modified)), epoch(max(probe_timestamp)), "
        "min(date)::VARCHAR, max(date)::VARCHAR, min(date) FILTER (status = 'pending')::VARCHAR, "
        "max(last_modified)::VARCHAR, count(*) FROM daily_availability").fetchall())
"""


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_the_hosts_time_zone_changes_nothing(path, zone):
    done = subprocess.run(
        [sys.executable, "-c", ZONED, str(path)],
        env={**os.environ, "TZ": zone},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    midnight = dt.datetime(2024, 1, 11, tzinfo=dt.UTC)  # exactly 3 days after 2024-01-07 ended
    seen = (published(START).timestamp(), midnight.timestamp())
    dates = ("2024-01-01", "2024-01-10", "2024-01-08")
    assert done.stdout.strip() == str([(*seen, *dates, "2024-01-02 08:00:00+00", 10)])


DATES = days(START, D(2024, 1, 4))
SYMBOLS = ("AUSDT", "AUSDTSETTLED", "BUSDT", "龙虾USDT")

looks = st.lists(
    st.tuples(
        st.lists(st.sampled_from(DATES), min_size=2, max_size=2).map(sorted),
        st.dictionaries(
            st.sampled_from(SYMBOLS),
            st.dictionaries(
                st.sampled_from(DATES),
                st.tuples(st.integers(1, 2), st.sampled_from([NOW, NOW - HOUR])),
            ),
            min_size=1,
        ),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=15)
@given(looks)
def test_any_probes_end_at_the_last_of_each_cell_and_revisions_lead_there(looks):
    """Cells of a symbol seen for the first time, and of its settlings, are probed on all dates."""
    truth, replay, looked, known = {}, {}, set(), set()
    with duckdb.connect(":memory:", config={"threads": 1}) as con:
        con.execute("SET TimeZone = 'UTC'")
        schema.ensure_schema(con, derived.refresh_all)
        for n, ((start, end), files) in enumerate(looks):
            listing = make_listing(start, end, files, recorded=store.recorded(con))
            store.write_probe(
                con, listing, probed_at=NOW + n * HOUR, run_id=str(n), accept_shrunken=True
            )
            new = {s.removesuffix("SETTLED") for s in files if s not in known}
            wide = {s for s in {*known, *files} if s.removesuffix("SETTLED") in new}
            cells = {(d, s) for d in days(start, end) for s in {*known, *files}}
            cells |= {(d, s) for d in looked for s in wide}
            seen = {(d, s): f for s in files for d, f in files[s].items() if (d, s) in cells}
            truth = {k: f for k, f in truth.items() if k not in cells} | seen
            # A first probe of a date is where its replay begins.
            replay.update({k: f for k, f in seen.items() if k[0] not in looked})
            looked.update(days(start, end))
            known.update(files)
            assert con.execute(
                """SELECT count(DISTINCT date), count(*) FROM daily_availability"""
            ).fetchall() == [(len(looked), len(looked) * len(known))]
            assert con.execute(
                """SELECT count(*) FROM probes p JOIN (SELECT date, count(*) AS symbols,
                    min(probe_timestamp) AS oldest FROM daily_availability GROUP BY date) d
                    ON d.date = p.period AND d.symbols >= p.symbols
                    AND d.oldest >= p.probed_at"""
            ).fetchall() == [(len(looked),)]
        for d, s, change, old, new in con.execute(
            "SELECT period, symbol, change, (old_size, old_last_modified), "
            "(new_size, new_last_modified) FROM revisions ORDER BY observed_at"
        ).fetchall():
            before = (None, None) if change == "appeared" else replay.pop((d, s))
            assert old == before
            if change == "vanished":
                assert new == (None, None)
            else:
                assert (d, s) not in replay
                replay[d, s] = new
        stored = con.execute(
            "SELECT date, symbol, file_size_bytes, last_modified FROM daily_availability "
            "WHERE available"
        ).fetchall()
    assert {(d, s): (size, time) for d, s, size, time in stored} == truth == replay


def large_listing(symbols=200, dates=2000, size=100):
    """400,000 files, and as many ETags."""
    last, n = D(2024, 1, 10), symbols * dates
    names = tuple(f"S{number:03d}USDT" for number in range(symbols))
    first = last - (dates - 1) * DAY
    calendar = pd.date_range(first, last, unit="s")
    numbers = np.arange(n, dtype="uint64")
    files = pd.DataFrame(
        {
            "symbol": pd.Categorical.from_codes(
                np.repeat(np.arange(symbols), dates), categories=pd.Index(names, dtype="str")
            ),
            "date": np.tile(calendar.to_numpy(), symbols),
            "file_size_bytes": np.full(n, size),
            "last_modified": np.tile((calendar + DAY).as_unit("us").tz_localize("UTC"), symbols),
            "etag_high": numbers * np.uint64(0x9E3779B97F4A7C15) + np.uint64(size),
            "etag_low": numbers * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(1),
        }
    )
    return replace(make_listing(first, last, {name: {} for name in names}), files=files)


def spilled(path):
    return list(path.parent.glob(f"{path.name}.tmp/*storage*"))


def test_a_write_that_needs_the_disk_for_its_memory_is_that_of_one_that_does_not(
    tmp_path, monkeypatch
):
    """Memory is bounded, whatever the dataset."""
    found, on_disk = [], []
    real = store._write_probes

    def look(*args):
        on_disk[-1] += spilled(path)
        return real(*args)

    monkeypatch.setattr(store, "_write_probes", look)
    for megabytes in (store.WRITE_MEMORY_MB, 60):
        path = tmp_path / f"{megabytes}.duckdb"
        monkeypatch.setattr(store, "WRITE_MEMORY_MB", megabytes)
        on_disk.append([])
        said = []
        for n, size in enumerate((100, 101, 101)):  # all are new, all replaced, nothing
            with writer(path) as con:
                said.append(
                    store.write_probe(
                        con, large_listing(size=size), probed_at=NOW + n * HOUR, run_id=str(n)
                    )
                )
        assert [(one.available, one.replaced) for one in said] == [
            (400_000, 0), (400_000, 400_000), (400_000, 0)
        ]  # fmt: skip
        with reader(path) as con:
            tables = ("files", "revisions", "probes", "symbols", "symbol_spans", "daily_summary")
            sums = [
                con.execute(f"SELECT count(*), bit_xor(hash(t)) FROM {t} t").fetchall()
                for t in tables
            ]
        found.append((said, sums))
        assert spilled(path) == []
    assert found[0] == found[1]
    assert not on_disk[0]
    assert on_disk[1]


def test_a_write_that_finds_no_room_on_the_disk_for_its_memory_says_so(path, monkeypatch):
    monkeypatch.setattr(store, "WRITE_MEMORY_MB", 60)
    real = store._bound_memory

    def bounded(con, listed):
        real(con, listed)
        con.execute("SET max_temp_directory_size = '1MB'")

    monkeypatch.setattr(store, "_bound_memory", bounded)
    with pytest.raises(FullDiskError, match="this write was undone"), writer(path) as con:
        store.write_probe(con, large_listing(), probed_at=NOW, run_id="r")
    assert not path.exists(), "it made the file, and nothing was written"


def test_a_writer_gets_its_turn_among_readers_that_never_pause(tmp_path):
    """Otherwise a dashboard that asks in a loop keeps every update out, and each one fails."""
    path = tmp_path / "record.duckdb"
    with writer(path):
        pass
    ask = (
        "import sys; from availability_pipeline.record.connection import reader\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    with reader(sys.argv[1], 60) as con:\n"
        "        con.execute('SELECT sum(range) FROM range(3_000_000)').fetchall()\n"
    )
    readers = [
        subprocess.Popen([sys.executable, "-c", ask, path], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    try:
        for reader in readers:
            assert reader.stdout.readline() == b"ready\n"
        for _ in range(5):
            # Without the turn each of these takes more than this.
            with writer(path, wait_seconds=60) as con:
                con.execute("SELECT 1").fetchall()
        assert [reader.poll() for reader in readers] == [None] * 4
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
            reader.stdout.close()
