"""What is news among the revisions, on a real database."""

import datetime as dt

import pytest

from availability_pipeline import queries, store
from availability_pipeline_tests.helpers import D, days, flat, make_listing, published

START, END = D(2024, 1, 1), D(2024, 1, 20)
NOW = dt.datetime(2024, 2, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "record.duckdb"


def look(path, files, at, start=START, end=END):
    with store.writer(path) as con:
        store.write_probe(con, make_listing(start, end, files), probed_at=at, run_id="r",
                          accept_shrunken=True)  # fmt: skip


def sized(start, end, later=False):
    """A file a day, each of its own size; moved files are newer."""
    return {
        d: (100 + n, published(d) + (30 * dt.timedelta(1) if later else 0 * HOUR))
        for n, d in enumerate(days(start, end))
    }


def asked(path):
    with store.reader(path) as con:
        return queries.renames(con).dicts(), queries.changes(con).dicts()


def test_files_that_move_to_a_settled_name_are_one_event_also_over_several_looks(path):
    look(path, {"AUSDT": sized(START, END), "BUSDT": flat(START, END)}, NOW)
    moved = {"AUSDTSETTLED": sized(START, END, later=True), "BUSDT": flat(START, END)}
    look(path, moved, NOW + HOUR, start=D(2024, 1, 11))
    look(path, moved, NOW + 2 * HOUR)
    found, folded = asked(path)
    assert found == [
        {
            "symbol": "AUSDT",
            "renamed_to": "AUSDTSETTLED",
            "first_date": START,
            "last_date": END,
            "files": 20,
            "observed_at": NOW + HOUR,
        }
    ]
    assert [(r["change"], r["symbol"], r["renamed_to"], r["date"], r["files"]) for r in folded] == [
        ("renamed", "AUSDT", "AUSDTSETTLED", START, 20)
    ]


def test_a_file_of_another_size_did_not_move(path):
    look(path, {"AUSDT": sized(START, END)}, NOW)
    moved = sized(START, END, later=True)
    moved[D(2024, 1, 5)] = (9_999, NOW)
    look(path, {"AUSDTSETTLED": moved}, NOW + HOUR)
    found, folded = asked(path)
    assert found[0]["files"] == 19
    rest = {(r["change"], r["symbol"], r["date"]) for r in folded if r["change"] != "renamed"}
    day = D(2024, 1, 5)
    assert rest == {("vanished", "AUSDT", day), ("appeared", "AUSDTSETTLED", day)}


@pytest.mark.parametrize("name", ["AUSDT_SETTLED", "AUSDTSETTLEDSETTLED"])
def test_every_spelling_of_settled_is_followed(path, name):
    before = "AUSDTSETTLED" if name.endswith("SETTLEDSETTLED") else "AUSDT"
    look(path, {before: sized(START, END)}, NOW)
    look(path, {name: sized(START, END)}, NOW + HOUR)
    assert [(r["symbol"], r["renamed_to"]) for r in asked(path)[0]] == [(before, name)]


def test_another_symbols_late_file_of_the_same_size_is_no_rename(path):
    look(path, {"AUSDT": flat(START, END), "BUSDT": flat(START, D(2024, 1, 19))}, NOW)
    late = flat(START, D(2024, 1, 19)) | {END: (100, NOW)}
    look(path, {"AUSDT": flat(START, D(2024, 1, 19)), "BUSDT": late}, NOW + HOUR)
    found, folded = asked(path)
    assert found == []
    assert {(r["change"], r["symbol"]) for r in folded} == {
        ("vanished", "AUSDT"),
        ("appeared", "BUSDT"),
    }


def test_changes_can_be_asked_from_a_date_on(path):
    look(path, {"AUSDT": sized(START, END)}, NOW)
    look(path, {"AUSDTSETTLED": sized(START, END)}, NOW + HOUR)
    with store.reader(path) as con:
        assert len(queries.changes(con, since=D(2024, 2, 1)).rows) == 1
        assert queries.changes(con, since=D(2024, 2, 2)).rows == []


def test_files_of_the_morning_after_are_no_news_and_are_counted(path):
    day, at_two = END, dt.datetime(2024, 1, 21, 2, tzinfo=dt.UTC)
    look(path, {"AUSDT": {}, "BUSDT": {}, "CUSDT": {}}, at_two, start=day)
    late = {day: (7, published(day) + dt.timedelta(9))}
    files = {"AUSDT": flat(day, day), "BUSDT": flat(day, day), "CUSDT": late}
    look(path, files, at_two + 10 * dt.timedelta(1), start=day)
    with store.reader(path) as con:
        found = queries.changes(con)
        assert [(r["change"], r["symbol"]) for r in found.dicts()] == [("appeared", "CUSDT")]
        assert found.notes == ("2 files that came in the usual time are left out",)
        assert len(queries.revisions(con).rows) == 3


def test_only_the_symbols_asked_for_are_answered_and_counted(path):
    at_two = dt.datetime(2024, 1, 21, 2, tzinfo=dt.UTC)
    look(path, {"AUSDT": {}, "BUSDC": {}}, at_two, start=END)
    look(path, {"AUSDT": flat(END, END), "BUSDC": flat(END, END)}, at_two + HOUR, start=END)
    with store.reader(path) as con:
        found = queries.changes(con, quote_asset="USDC")
        assert (found.rows, found.notes[0][:7]) == ([], "1 files")
        with pytest.raises(queries.UnknownSymbolError, match="did you mean"):
            queries.changes(con, symbol="BUSD")


def test_an_empty_record_says_so(path):
    with store.writer(path):
        pass
    with store.reader(path) as con, pytest.raises(queries.NotProbedError):
        queries.changes(con)
