"""Listings and summaries. Breaking a rule here calls a missing file the end of a contract."""

import datetime as dt
from dataclasses import replace

import duckdb
import pytest

from availability_pipeline import queries
from availability_pipeline.archive.datasets import FIRST_DATE, UM_KLINES_1M, Dataset
from availability_pipeline.record import derived, schema
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.record.status import scope
from availability_pipeline_tests.support.helpers import D, days, flat, make_listing, published

START, END = D(2024, 1, 1), D(2024, 1, 20)
NOW = dt.datetime(2024, 3, 1, 2, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "record.duckdb"


def write(path, files, *, at=NOW, start=START, end=END, settle_days=None):
    with writer(path) as con:
        return store.write_probe(
            con, make_listing(start, end, files), probed_at=at, run_id="run",
            accept_shrunken=True, settle_days=settle_days,
        )  # fmt: skip


def crowd(start=START, end=END, without=(), n=4):
    """Symbols that publish as usual: what makes a date a published one."""
    files = {d: f for d, f in flat(start, end).items() if d not in without}
    return {f"CROWD{i}USDT": files for i in range(n)}


def listings(path):
    with reader(path) as con:
        relation = con.sql("SELECT * EXCLUDE (dataset) FROM symbol_spans")
        return {r[0]: dict(zip(relation.columns, r, strict=True)) for r in relation.fetchall()}


def states(path):
    return {symbol: row["state"] for symbol, row in listings(path).items()}


def summary(path):
    with reader(path) as con:
        relation = con.sql("SELECT * EXCLUDE (dataset) RENAME (period AS date) FROM daily_summary")
        return {r[0]: dict(zip(relation.columns, r, strict=True)) for r in relation.fetchall()}


def test_a_listing_tells_first_and_last_file_and_the_holes_between(path):
    files = flat(D(2024, 1, 3), D(2024, 1, 15))
    del files[D(2024, 1, 5)], files[D(2024, 1, 9)]
    write(path, {**crowd(), "BTCUSDT": files})
    assert listings(path)["BTCUSDT"] == {
        "symbol": "BTCUSDT",
        "contract_type": "perpetual",
        "base_asset": "BTC",
        "quote_asset": "USDT",
        "first_available": D(2024, 1, 3),
        "last_available": D(2024, 1, 15),
        "days_available": 11,
        "hole_days": 2,
        "state": "ended",
    }


def test_a_date_never_looked_at_or_still_pending_is_no_hole(path):
    write(path, {"AUSDT": flat(START, START)}, end=START)
    at = published(END)
    files = {d: f for d, f in flat(START, END).items() if d.day not in (12, 19)}
    write(path, {"AUSDT": files}, start=D(2024, 1, 11), at=at)
    assert listings(path)["AUSDT"]["hole_days"] == 1  # the 12th; 2nd to 10th are unknown


@pytest.mark.parametrize(("absent", "state"), [(1, "live"), (2, "live"), (3, "ended")])
def test_a_symbol_has_ended_after_three_confirmed_absences(path, absent, state):
    last = END - dt.timedelta(absent)
    write(path, {**crowd(), "AUSDT": flat(START, last)})
    assert states(path)["AUSDT"] == state


def test_pending_dates_end_nobody_however_many(path):
    at = published(END)
    write(path, {**crowd(), "AUSDT": flat(START, D(2024, 1, 16))}, at=at)
    assert states(path)["AUSDT"] == "live"


def test_a_symbol_that_publishes_again_is_live_and_has_a_hole(path):
    gap = days(D(2024, 1, 5), D(2024, 1, 15))
    write(path, {**crowd(), "AUSDT": {d: f for d, f in flat(START, END).items() if d not in gap}})
    row = listings(path)["AUSDT"]
    assert (row["state"], row["hole_days"]) == ("live", 11)


def test_dates_late_for_all_symbols_end_nobody(path):
    """2024-04-18 came 13 days late for all; 2021-02-22 to 26 came 17 months late."""
    late = days(D(2024, 1, 17), END)
    files = crowd(without=late, n=8)
    files["EARLYUSDT"] = flat(START, END)
    write(path, files)
    assert set(states(path).values()) == {"live"}


def test_dates_without_any_file_end_nobody(path):
    write(path, crowd(without=days(D(2024, 1, 15), END)))
    assert set(states(path).values()) == {"live"}


def test_a_late_stretch_does_not_become_the_new_normal(path):
    """Dates without files leave the median alone: those after them are judged by those before."""
    late = days(D(2024, 1, 5), D(2024, 1, 16))
    files = crowd(without=late)
    files["AUSDT"] = flat(START, D(2024, 1, 4))
    write(path, files)
    assert states(path)["AUSDT"] == "ended"  # absent on the 17th to 20th, which are published
    assert listings(path)["CROWD0USDT"]["hole_days"] == 12


# outages


def until(last, *symbols):
    """Symbols whose last file is of that date."""
    return {symbol: flat(START, last) for symbol in symbols}


def test_seven_of_eight_symbols_that_stop_together_stay_expected_however_long(path):
    """After 11 dates the usual count had adapted: seven were delisted, and all was well."""
    end = START + dt.timedelta(60)
    stopped = [f"S{n}USDT" for n in range(7)]
    files = until(D(2024, 1, 9), *stopped) | {"ONUSDT": flat(START, end)}
    write(path, files, end=end, at=NOW + dt.timedelta(60))
    assert set(states(path).values()) == {"live"}
    got = summary(path)
    assert {row["expected"] for row in got.values()} == {8}
    assert not any(row["ended"] for row in got.values())
    back = {s: f | flat(D(2024, 2, 20), end) for s, f in files.items()}
    write(path, back, end=end, at=NOW + dt.timedelta(61))
    assert set(states(path).values()) == {"live"}
    assert {r["hole_days"] for s, r in listings(path).items() if s in stopped} == {41}


def test_a_quarter_of_the_symbols_is_an_outage_and_the_largest_delisting_is_not(path):
    gone, last = [f"B{n:02}BUSD" for n in range(41)], D(2024, 1, 9)
    write(path, {**crowd(n=259), **until(last, *gone)})
    assert {states(path)[s] for s in gone} == {"ended"}
    assert summary(path)[D(2024, 1, 10)]["ended"] == 41
    write(path, {**crowd(n=259), **until(last, *gone, *(f"C{n:02}USDT" for n in range(46)))},
          at=NOW + HOUR)  # fmt: skip
    assert states(path)["B00BUSD"] == "live"


@pytest.mark.parametrize(
    ("last_files", "state"),
    [((9, 9, 9), "live"), ((5, 7, 9), "live"), ((5, 7, 10), "ended"), ((3, 8, 13), "ended")],
)
def test_stops_of_five_dates_are_one_outage_and_those_of_weeks_are_not(path, last_files, state):
    stopped = {f"S{day}{n}USDT": D(2024, 1, day) for n, day in enumerate(last_files)}
    files = {symbol: flat(START, last) for symbol, last in stopped.items()}
    write(path, {**crowd(n=8), **files})
    assert {states(path)[symbol] for symbol in stopped} == {state}


def test_contracts_delivered_on_one_date_are_no_outage(path):
    due = [f"{base}USDT_240112" for base in ("BTC", "ETH", "XRP", "ADA")]
    cut = [f"{base}USDT_240329" for base in ("BTC", "ETH", "XRP", "ADA")]
    write(path, {**crowd(n=6), **until(D(2024, 1, 12), *due)})
    assert {states(path)[s] for s in due} == {"ended"}
    write(path, {**crowd(n=6), **until(D(2024, 1, 12), *due, *cut)}, at=NOW + HOUR)
    assert {states(path)[s] for s in due} == {"ended"}
    assert {states(path)[s] for s in cut} == {"live"}  # their names say that they go on


def test_what_ended_in_a_long_unprobed_gap_did_not_stop_together(path):
    """All of it seems to have stopped on the date before the gap."""
    end = D(2024, 12, 31)
    lived = {f"L{n}USDT": flat(START, end) for n in range(6)}
    ended = until(D(2024, 1, 20), *(f"E{n}USDT" for n in range(3)))
    write(path, lived | ended, end=D(2024, 1, 20), at=dt.datetime(2025, 2, 1, tzinfo=dt.UTC))
    later = dt.datetime(2025, 2, 2, tzinfo=dt.UTC)
    write(path, lived | ended, start=D(2024, 1, 25), end=D(2024, 2, 5), at=later)
    assert {states(path)[s] for s in ended} == {"live"}  # four dates: an outage
    write(path, lived | ended, start=D(2024, 12, 20), end=end, at=later)
    with writer(path) as con:  # as if the dates in between had never been probed
        for table in ("files", "probes"):
            con.execute(f"DELETE FROM {table} WHERE period BETWEEN '2024-01-25' AND '2024-02-05'")
        derived.refresh(con, UM_KLINES_1M)
    assert {states(path)[s] for s in ended} == {"ended"}


def test_few_symbols_that_are_delisted_together_have_ended(path):
    files = {**crowd(n=6), **until(D(2024, 1, 9), "AUSDT", "AUSDC")}
    write(path, files)
    assert (states(path)["AUSDT"], states(path)["AUSDC"]) == ("ended", "ended")


def test_a_date_of_an_outage_shows_nothing_about_the_symbols_that_publish_on(path):
    """Of three that published on, one stops: with three quarters missing that is not known."""
    end = START + dt.timedelta(60)
    stopped = until(D(2024, 1, 9), *(f"S{n}USDT" for n in range(9)))
    files = stopped | {f"ON{n}USDT": flat(START, end) for n in range(2)}
    files |= {"LASTUSDT": flat(START, D(2024, 2, 10))}
    write(path, files, end=end, at=NOW + dt.timedelta(60))
    assert states(path)["LASTUSDT"] == "live"


# unknown counts


def test_a_count_of_changes_is_unknown_after_a_date_that_was_never_probed(path):
    """Else the first recorded date has as many new listings as symbols."""
    files = {**crowd(), "ENDUSDT": flat(START, D(2024, 1, 8)), "NEWUSDT": flat(D(2024, 1, 9), END)}
    write(path, files, end=D(2024, 1, 5))
    write(path, files, start=D(2024, 1, 10))
    got = summary(path)
    changes = {date.day: (row["new_listings"], row["ended"]) for date, row in got.items()}
    assert changes[1] == changes[10] == (None, None)
    assert {value for day, value in changes.items() if day not in (1, 10)} == {(0, 0)}
    write(path, files, start=D(2024, 1, 6), at=NOW + HOUR)
    assert summary(path)[D(2024, 1, 9)]["new_listings"] == 1
    assert summary(path)[D(2024, 1, 9)]["ended"] == 1


def test_before_the_first_date_of_the_archive_there_was_nothing(path):
    end = FIRST_DATE + dt.timedelta(3)
    write(path, {"AUSDT": flat(FIRST_DATE, end)}, start=FIRST_DATE, end=end)
    assert [row["new_listings"] for row in summary(path).values()] == [1, 0, 0, 0]


# settled contracts


def test_dates_that_were_not_published_delist_nobody_settled_or_not(path):
    """Three settled dates without most of the files: unpublished, for every symbol alike."""
    late = days(D(2024, 1, 18), END)
    files = crowd(without=late, n=8) | {"EARLYUSDT": flat(START, END)}
    files |= {
        "OLDUSDTSETTLED": flat(START, D(2024, 1, 15)),
        "GONEUSDT": flat(START, D(2024, 1, 15)),
    }
    write(path, files)
    with reader(path) as con:
        assert queries.delistings(con, D(2024, 1, 16)) == []
        assert not queries.delistings_confirmed(con, D(2024, 1, 16))
    assert summary(path)[D(2024, 1, 16)]["ended"] == 0
    write(path, files | crowd(n=8), at=NOW + HOUR)
    with reader(path) as con:
        assert queries.delistings(con, D(2024, 1, 16)) == ["GONEUSDT", "OLDUSDTSETTLED"]
        assert queries.delistings_confirmed(con, D(2024, 1, 16))
        assert not queries.delistings_confirmed(con, D(2024, 1, 19))
    assert summary(path)[D(2024, 1, 16)]["ended"] == 2


def test_a_settled_contract_is_settled_whatever_its_files_say(path):
    write(path, {**crowd(), "OLDUSDTSETTLED": flat(START, END), "X_SETTLED": {}})
    got = states(path)
    assert (got["OLDUSDTSETTLED"], got["X_SETTLED"]) == ("settled", "settled")


def test_a_symbol_whose_folder_vanished_keeps_its_rows_and_ends(path):
    write(path, {**crowd(), "AUSDT": flat(START, END)}, end=D(2024, 1, 15))
    write(path, crowd(), start=D(2024, 1, 16), at=NOW + HOUR)
    row = listings(path)["AUSDT"]
    assert (row["last_available"], row["state"]) == (D(2024, 1, 15), "ended")
    assert summary(path)[D(2024, 1, 16)]["ended"] == 1


def test_a_symbol_without_any_file_has_no_first_and_last(path):
    write(path, {**crowd(), "NONEUSDT": {}})
    row = listings(path)["NONEUSDT"]
    assert row["first_available"] is None
    assert row["last_available"] is None
    assert (row["days_available"], row["hole_days"]) == (0, 0)


def test_a_summary_counts_each_date(path):
    ended = flat(START, D(2024, 1, 9))
    begun = {d: (500, published(d, hour=20)) for d in days(D(2024, 1, 10), END)}
    write(path, {**crowd(), "ENDUSDT": ended, "NEWUSDT": begun, "NONEUSDT": {}})
    got = summary(path)
    assert list(got) == days(START, END)
    assert got[D(2024, 1, 10)] == {
        "date": D(2024, 1, 10),
        "symbols_probed": 7,
        "expected": 5,
        "available": 5,
        "pending": 0,
        "absent": 2,
        "new_listings": 1,
        "ended": 1,
        "bytes": 900,
        "lag_p50_hours": 8,
        "lag_p95_hours": pytest.approx(17.6),
    }


def test_an_ended_symbol_is_expected_up_to_its_last_file_and_a_begun_one_from_its_first(path):
    ended, begun = flat(START, D(2024, 1, 9)), flat(D(2024, 1, 12), END)
    write(path, {**crowd(), "ENDUSDT": ended, "NEWUSDT": begun})
    expected = {d: row["expected"] for d, row in summary(path).items()}
    assert [expected[D(2024, 1, n)] for n in (8, 9, 10, 11, 12, 20)] == [5, 5, 4, 4, 5, 5]


def test_a_date_not_yet_published_expects_all_that_live(path):
    write(path, crowd(without=[END]), at=dt.datetime(2024, 1, 21, 2, tzinfo=dt.UTC))
    got = summary(path)[END]
    assert (got["expected"], got["available"], got["pending"], got["absent"]) == (4, 0, 4, 0)
    assert (got["ended"], got["lag_p50_hours"], got["bytes"]) == (0, None, 0)


def test_an_empty_record_has_empty_tables(path):
    with writer(path) as con, schema.transaction(con):
        derived.refresh(con, UM_KLINES_1M)
    assert listings(path) == summary(path) == {}


def test_each_write_leaves_the_tables_as_the_rows_say(path):
    write(path, {"AUSDT": flat(START, END)})
    with reader(path) as con:
        t = scope(con)
        for table, sql in (
            (t.listings, f"SELECT * EXCLUDE (ended_before) FROM ({derived.listings_sql(t)})"),
            (t.summary, derived.summary_sql(t)),
        ):
            stored = con.execute(f"FROM {table} ORDER BY 1").fetchall()
            assert stored == con.execute(f"FROM ({sql}) ORDER BY 1").fetchall() != []
    write(path, {"AUSDT": flat(D(2024, 1, 2), END)}, at=NOW + HOUR)
    assert listings(path)["AUSDT"]["first_available"] == D(2024, 1, 2)
    assert summary(path)[START]["available"] == 0


def test_another_settling_time_changes_the_tables_with_the_write_that_says_it(path):
    at = dt.datetime(2024, 1, 21, 2, tzinfo=dt.UTC)
    files = {**crowd(), "AUSDT": flat(START, D(2024, 1, 14))}
    write(path, files, at=at)
    assert states(path)["AUSDT"] == "ended"
    write(path, files, at=at, settle_days=30)
    assert states(path)["AUSDT"] == "live"
    assert summary(path)[D(2024, 1, 15)]["pending"] == 1


def test_rows_and_what_follows_from_them_are_written_together_or_not_at_all(path, monkeypatch):
    write(path, {"AUSDT": flat(START, END)})
    before = listings(path), summary(path)
    with monkeypatch.context() as patch:
        patch.setattr(derived, "summary_sql", lambda _: "no SQL")
        with pytest.raises(duckdb.CatalogException):
            write(path, {"AUSDT": flat(START, D(2024, 1, 9))}, at=NOW + HOUR)
    assert (listings(path), summary(path)) == before
    with reader(path) as con:
        assert con.execute("SELECT count(*) FROM revisions").fetchall() == [(0,)]
        assert con.execute("SELECT max(probed_at) FROM probes").fetchall() == [(NOW,)]


def test_months_are_counted_in_months_and_settle_after_fifteen_days(path):
    months = Dataset("um", "monthly", "klines", "1d")
    first, last = D(2023, 1, 1), D(2024, 1, 1)

    def files(*without, end=last):
        """Each published at noon of the first day after the month."""
        return {
            month: (100, dt.datetime.combine(months.shift(month, 1), dt.time(12), dt.UTC))
            for month in months.periods(first, end)
            if month not in without
        }

    archive = {
        **{f"L{n}USDT": files() for n in range(5)},
        "HOLEUSDT": files(D(2023, 5, 1)),
        "ENDUSDT": files(end=D(2023, 8, 1)),
        "LATEUSDT": files(last),
    }
    at = dt.datetime(2024, 2, 15, 23, tzinfo=dt.UTC)  # one hour before January settles
    listing = replace(make_listing(first, last, archive), dataset=months)
    with writer(path) as con:
        store.write_probe(con, listing, probed_at=at, run_id="r", settle_days=3)
    asked = {"dataset": "um/monthly/klines/1d"}
    with reader(path) as con:
        lives = {row["symbol"]: row for row in queries.listings(con, **asked).dicts()}
        assert queries.holes(con, **asked).rows == [
            ("HOLEUSDT", D(2023, 5, 1), months.url("HOLEUSDT", D(2023, 5, 1)))
        ]
        assert queries.delistings(con, D(2023, 9, 1), **asked) == ["ENDUSDT"]
        assert queries.counts(con, last, **asked) == {"available": 6, "pending": 2, "absent": 0}
        late = queries.timeline(con, "LATEUSDT", D(2023, 12, 1), last, **asked)
        assert late.column("status") == ["available", "pending"]
        daily = con.execute(f"FROM {scope(con, months).summary} ORDER BY date").fetchall()
        assert queries.missing_dates(con, D(2022, 11, 5), D(2024, 2, 20), **asked) == [
            D(2022, 11, 1), D(2022, 12, 1), D(2024, 2, 1)
        ]  # fmt: skip
    assert {s: row["state"] for s, row in lives.items() if row["state"] != "live"} == {
        "ENDUSDT": "ended"
    }
    assert (lives["HOLEUSDT"]["days_available"], lives["HOLEUSDT"]["hole_days"]) == (12, 1)
    assert [row[0] for row in daily] == months.periods(first, last)
    assert {row[-1] for row in daily} == {12.0}, "hours from the end of the month"
    # Known where the month before was probed.
    assert [row[6] for row in daily[:3]] == [None, 0, 0]
    assert [row[7] for row in daily if row[7]] == [1]
