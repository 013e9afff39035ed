"""Listings and summaries. Breaking a rule here calls a missing file the end of a contract."""

import datetime as dt

import pytest

from availability_pipeline import derived, store
from availability_pipeline_tests.helpers import D, days, flat, make_listing, published

START, END = D(2024, 1, 1), D(2024, 1, 20)
NOW = dt.datetime(2024, 3, 1, 2, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "record.duckdb"


def write(path, files, *, at=NOW, start=START, end=END):
    with store.writer(path) as con:
        return store.write_probe(
            con, make_listing(start, end, files), probed_at=at, run_id="run", accept_shrunken=True
        )


def crowd(start=START, end=END, without=(), n=4):
    """Symbols that publish as usual: what makes a date a published one."""
    files = {d: f for d, f in flat(start, end).items() if d not in without}
    return {f"CROWD{i}USDT": files for i in range(n)}


def listings(path):
    with store.reader(path) as con:
        relation = con.sql(f"SELECT * FROM {derived.listings_relation(con)}")
        return {r[0]: dict(zip(relation.columns, r, strict=True)) for r in relation.fetchall()}


def states(path):
    return {symbol: row["state"] for symbol, row in listings(path).items()}


def summary(path):
    with store.reader(path) as con:
        relation = con.sql(f"SELECT * FROM {derived.summary_relation(con)}")
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


def test_a_date_not_yet_published_expects_all_that_live(path):
    write(path, crowd(without=[END]), at=dt.datetime(2024, 1, 21, 2, tzinfo=dt.UTC))
    got = summary(path)[END]
    assert (got["expected"], got["available"], got["pending"], got["absent"]) == (4, 0, 4, 0)
    assert (got["ended"], got["lag_p50_hours"], got["bytes"]) == (0, None, 0)


def test_an_empty_record_has_empty_tables(path):
    with store.writer(path) as con:
        assert (derived.refresh_listings(con), derived.refresh_summary(con)) == (0, 0)
    assert listings(path) == summary(path) == {}


def test_tables_are_used_until_a_write_and_an_answer_is_never_stale(path):
    write(path, {"AUSDT": flat(START, END)})
    with store.writer(path) as con:
        assert derived.listings_relation(con).startswith("(")
        assert derived.refresh_listings(con) == 1
        assert derived.refresh_summary(con) == 20
        assert derived.listings_relation(con) == "symbol_listings"
        assert derived.summary_relation(con) == "daily_summary"
        for table, sql in (
            ("symbol_listings", derived.LISTINGS_SQL),
            ("daily_summary", derived.SUMMARY_SQL),
        ):
            stored = con.execute(f"FROM {table} ORDER BY 1").fetchall()
            assert stored == con.execute(f"FROM ({sql}) ORDER BY 1").fetchall()
    write(path, {"AUSDT": flat(D(2024, 1, 2), END)}, at=NOW + HOUR)
    assert listings(path)["AUSDT"]["first_available"] == D(2024, 1, 2)
    assert summary(path)[START]["available"] == 0


def test_another_settling_time_makes_the_tables_stale(path):
    at = dt.datetime(2024, 1, 21, 2, tzinfo=dt.UTC)
    write(path, {**crowd(), "AUSDT": flat(START, D(2024, 1, 14))}, at=at)
    with store.writer(path) as con:
        derived.refresh_listings(con)
        derived.refresh_summary(con)
    assert states(path)["AUSDT"] == "ended"
    with store.writer(path, settle_days=30):
        pass
    assert states(path)["AUSDT"] == "live"
    assert summary(path)[START]["pending"] == 0
    assert summary(path)[D(2024, 1, 15)]["pending"] == 1


def test_a_refresh_that_fails_keeps_the_table_it_had(path, monkeypatch):
    write(path, {"AUSDT": flat(START, END)})
    with store.writer(path) as con:
        derived.refresh_listings(con)
        before = con.execute("FROM symbol_listings").fetchall()
        monkeypatch.setattr(derived, "set_meta", None)
        with pytest.raises(TypeError):
            derived.refresh_listings(con)
        assert con.execute("FROM symbol_listings").fetchall() == before
