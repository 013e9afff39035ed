"""The record. Breaking it costs the truth: a lost row or revision is never found again."""

import datetime as dt
import os
import subprocess
import sys
import threading
import time

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from availability_pipeline import derived, store
from availability_pipeline_tests.helpers import D, days, flat, make_listing, published

START, END = D(2024, 1, 1), D(2024, 1, 10)
NOW = dt.datetime(2024, 3, 1, 2, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "record.duckdb"


def write(path, files, *, at=NOW, start=START, end=END, **options):
    with store.writer(path) as con:
        return store.write_probe(
            con, make_listing(start, end, files), probed_at=at, run_id="run", **options
        )


def rows(path, sql):
    with store.reader(path) as con:
        return con.execute(sql).fetchall()


def test_each_probed_date_has_one_row_for_each_known_symbol(path):
    result = write(path, {"AUSDT": flat(START, END), "BUSDT": flat(START, D(2024, 1, 4))})
    assert (result.rows, result.available, result.absent, result.pending) == (20, 14, 6, 0)
    assert rows(path, "SELECT count(*), count(DISTINCT (date, symbol)) FROM availability") == [
        (20, 20)
    ]


def test_absent_pending_and_available_are_three_answers(path):
    two = dt.datetime(2024, 1, 11, 2, tzinfo=dt.UTC)
    write(path, {"AUSDT": flat(START, D(2024, 1, 6))}, at=two)
    got = dict(rows(path, "SELECT date, status FROM availability"))
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
    assert rows(path, "SELECT date, change, old_size, new_size FROM revisions ORDER BY date") == [
        (D(2024, 1, 1), "vanished", 100, None),
        (D(2024, 1, 3), "replaced", 100, 777),
        (D(2024, 1, 4), "appeared", None, 100),
    ]


def test_a_folder_that_vanished_keeps_its_rows_and_one_that_came_late_is_an_appearance(path):
    write(path, {"XUSDT": flat(START, END)})
    write(path, {"XUSDTSETTLED": flat(START, END)}, at=NOW + HOUR)
    got = rows(path, "SELECT symbol, change, count(*) FROM revisions GROUP BY ALL ORDER BY ALL")
    assert got == [("XUSDT", "vanished", 10), ("XUSDTSETTLED", "appeared", 10)]


def test_a_fault_in_the_middle_of_a_write_leaves_the_rows_as_they_were(path):
    write(path, {"AUSDT": flat(START, END)})
    before = rows(path, "FROM daily_availability ORDER BY ALL")
    with store.writer(path) as con:
        con.execute("DROP TABLE probes")  # the write meets it after the rows are replaced
        con.execute("CREATE TABLE probes (date DATE, probed_at TIMESTAMPTZ)")
        with pytest.raises(duckdb.Error):
            store.write_probe(
                con, make_listing(START, END, {"AUSDT": {}}), probed_at=NOW + HOUR, run_id="r"
            )
    assert rows(path, "FROM daily_availability ORDER BY ALL") == before


def test_a_clock_that_went_back_is_refused(path):
    write(path, {"AUSDT": flat(START, END)})
    with pytest.raises(store.ClockError, match="set the clock right"):
        write(path, {"AUSDT": {}}, at=NOW - HOUR)
    assert rows(path, "SELECT count(*) FROM availability WHERE available") == [(10,)]


def test_a_clock_far_from_the_archives_is_refused(path):
    listing = make_listing(START, END, {"AUSDT": {}}, server_time=NOW - dt.timedelta(days=1))
    with store.writer(path) as con, pytest.raises(store.ClockError, match="1440 minutes"):
        store.write_probe(con, listing, probed_at=NOW, run_id="r", max_clock_skew_minutes=60)


def test_a_naive_time_is_refused(path):
    with pytest.raises(ValueError, match="no time zone"):
        write(path, {"AUSDT": {}}, at=NOW.replace(tzinfo=None))


def test_an_archive_that_shrank_is_refused_unless_told_otherwise(path):
    many = {f"A{n}USDT": flat(START, END) for n in range(30)}
    write(path, many)
    few = {s: {} for s in many}
    with pytest.raises(store.ShrunkenArchiveError, match="0 of the 300 files"):
        write(path, few, at=NOW + HOUR)
    with pytest.raises(store.ShrunkenArchiveError, match="1 symbols where 30"):
        write(path, {"A1USDT": {}}, at=NOW + HOUR)
    assert write(path, few, at=NOW + HOUR, accept_shrunken=True).vanished == 300


HOLD = """
import sys, time
from availability_pipeline import store
with store.writer(sys.argv[1]) as con:
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
    with hold(path, 1) as process, store.reader(path, wait_seconds=30) as con:
        assert con.execute("SELECT count(*) FROM availability").fetchall() == [(10,)]
        assert process.wait() == 0


def test_the_wait_is_bounded_and_ends_in_a_clear_line(path):
    write(path, {"AUSDT": flat(START, END)})
    with hold(path, 60) as process:
        try:
            waiting = store.reader(path, wait_seconds=0.2)
            with pytest.raises(store.StoreBusyError, match="DB_WAIT_SECONDS"):
                waiting.__enter__()
        finally:
            process.kill()


def test_readers_and_writers_of_one_process_wait_for_each_other_too(path):
    write(path, {"AUSDT": flat(START, END)})
    entered = threading.Event()

    def keep() -> None:
        with store.writer(path):
            entered.set()
            time.sleep(0.3)

    thread = threading.Thread(target=keep)
    thread.start()
    entered.wait(10)
    assert rows(path, "SELECT count(*) FROM availability") == [(10,)]
    thread.join()


def test_a_reader_never_creates_a_file(path):
    with pytest.raises(store.MissingDatabaseError, match="backfill"), store.reader(path):
        pass
    assert not path.exists()


def test_a_file_that_is_no_database_is_named(path):
    path.parent.mkdir()
    path.write_text("a,b,c\n" * 1000)
    for opened in (store.reader, store.writer):
        with pytest.raises(store.ForeignDatabaseError, match="no DuckDB database"), opened(path):
            pass
    assert path.read_text().startswith("a,b,c")


def test_a_database_of_somebody_else_is_left_alone(tmp_path):
    path = tmp_path / "other.duckdb"
    duckdb.connect(str(path)).execute("CREATE TABLE meta (x INTEGER)").close()
    for opened in (store.reader, store.writer):
        with pytest.raises(store.ForeignDatabaseError, match="other tables"), opened(path):
            pass


def test_a_database_of_a_newer_version_is_refused_with_the_remedy(path):
    write(path, {"AUSDT": {}})
    with store.writer(path) as con:
        con.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    for opened in (store.reader, store.writer):
        with pytest.raises(store.NewerSchemaError, match="upgrade"), opened(path):
            pass


def test_a_path_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(store.UnwritableDatabaseError, match="AVAILABILITY_DB"),
        store.writer(tmp_path / "file" / "x.duckdb"),
    ):
        pass


def test_the_hosts_time_zone_changes_nothing(path):
    write(path, {"AUSDT": flat(START, END)})
    sql = "SELECT date::VARCHAR, epoch(last_modified), status, url FROM availability ORDER BY 1"
    code = f"import sys,duckdb;print(duckdb.connect(sys.argv[1],True).sql({sql!r}).fetchall())"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={**os.environ, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for zone in ("UTC", "Asia/Tokyo", "America/Los_Angeles")
    }
    assert len(outputs) == 1
    [(stored,)] = rows(path, "SELECT epoch(min(last_modified)) FROM availability")
    assert stored == published(START).timestamp()


def states(path):
    with store.reader(path) as con:
        sql = "SELECT symbol, state, hole_days, first_available, last_available FROM "
        found = con.execute(sql + derived.listings_relation(con)).fetchall()
    return {r[0]: r[1:] for r in found}


def test_holes_endings_and_settled_names_are_told_apart(path):
    hole = flat(START, END)
    del hole[D(2024, 1, 4)]
    write(
        path,
        {
            "HOLEUSDT": hole,
            "LIVEUSDT": flat(START, END),
            "ENDUSDT": flat(START, D(2024, 1, 7)),
            "SHORTUSDT": flat(START, D(2024, 1, 9)),
            "OLDUSDTSETTLED": flat(START, D(2024, 1, 5)),
            "NONEUSDT": {},
        },
    )
    got = states(path)
    assert got["HOLEUSDT"][:2] == ("live", 1)
    assert got["LIVEUSDT"][:2] == ("live", 0)
    assert got["ENDUSDT"] == ("ended", 0, START, D(2024, 1, 7))
    assert got["SHORTUSDT"][0] == "live"  # one missing day is never a delisting
    assert got["OLDUSDTSETTLED"][0] == "settled"
    assert got["NONEUSDT"][2:] == (None, None)


def test_dates_that_came_late_for_all_symbols_end_nobody(path):
    files = {f"A{n}USDT": flat(START, D(2024, 1, 6)) for n in range(8)}
    files["EARLYUSDT"] = flat(START, END)
    write(path, files)
    assert {s[0] for s in states(path).values()} == {"live"}


def test_yesterday_being_pending_ends_nobody_and_breaks_no_summary(path):
    at = dt.datetime(2024, 1, 11, 2, tzinfo=dt.UTC)
    write(path, {"AUSDT": flat(START, D(2024, 1, 8)), "BUSDT": flat(START, D(2024, 1, 9))}, at=at)
    assert {s[0] for s in states(path).values()} == {"live"}
    with store.writer(path) as con:
        assert derived.refresh_listings(con) == 2
        assert derived.refresh_summary(con) == 10
        last = con.execute(
            "SELECT expected, available, pending, absent FROM daily_summary ORDER BY date DESC"
        ).fetchall()[0]
    assert last == (2, 0, 2, 0)


def test_a_derived_table_is_never_stale(path):
    write(path, {"AUSDT": flat(START, END)})
    with store.writer(path) as con:
        derived.refresh_listings(con)
        derived.refresh_summary(con)
        assert derived.listings_relation(con) == "symbol_listings"
        assert derived.summary_relation(con) == "daily_summary"
    write(path, {"AUSDT": flat(D(2024, 1, 2), END)}, at=NOW + HOUR)
    assert states(path)["AUSDT"][2] == D(2024, 1, 2)


def test_publication_lag_is_hours_from_the_end_of_the_date(path):
    write(path, {"AUSDT": flat(START, END)})
    with store.reader(path) as con:
        lags = con.execute(f"SELECT lag_p50_hours FROM {derived.summary_relation(con)}").fetchall()
    assert set(lags) == {(8.0,)}


looks = st.lists(
    st.dictionaries(
        st.sampled_from(["AUSDT", "BUSDT", "龙虾USDT"]),
        st.dictionaries(
            st.sampled_from(days(START, D(2024, 1, 4))),
            st.tuples(st.integers(1, 3), st.just(published(START))),
        ),
        min_size=1,
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=25, deadline=None)
@given(looks)
def test_any_sequence_of_looks_ends_at_the_last_and_revisions_lead_there(looks):
    replay: dict[tuple[D, str], int] = {}
    with duckdb.connect(":memory:") as con:
        store.ensure_schema(con, 3)
        for n, files in enumerate(looks):
            listing = make_listing(START, D(2024, 1, 4), files)
            store.write_probe(con, listing, probed_at=NOW + n * HOUR, run_id=str(n))
            if n == 0:
                first = "SELECT date, symbol, file_size_bytes FROM availability WHERE available"
                replay = {(d, s): size for d, s, size in con.execute(first).fetchall()}
        for d, s, change, size in con.execute(
            "SELECT date, symbol, change, new_size FROM revisions ORDER BY observed_at"
        ).fetchall():
            if change == "vanished":
                del replay[d, s]
            else:
                assert ((d, s) in replay) == (change == "replaced")
                replay[d, s] = size
        truth = {(d, s): size for s, f in looks[-1].items() for d, (size, _) in f.items()}
        stored = con.execute(
            "SELECT date, symbol, file_size_bytes FROM availability WHERE available"
        ).fetchall()
    assert {(d, s): size for d, s, size in stored} == truth == replay
