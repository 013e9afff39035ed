"""What the record knew at some moment: the answers of then, whatever was probed since.

`record/test_model.py` compares all answers at random; these are the cases by name.
"""

import datetime as dt
from dataclasses import replace

import pytest

from availability_pipeline import queries
from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline_tests.support.helpers import D, flat, make_listing

START, END = D(2024, 1, 1), D(2024, 1, 10)
FIRST = dt.datetime(2024, 1, 11, 2, tzinfo=dt.UTC)
SECOND = dt.datetime(2024, 1, 20, 9, tzinfo=dt.UTC)
BETWEEN = dt.datetime(2024, 1, 15, tzinfo=dt.UTC)


def write(path, files, *, at, start=START, end=END):
    with writer(path) as con:
        listing = make_listing(start, end, files, recorded=store.recorded(con))
        store.write_probe(con, listing, probed_at=at, run_id=str(at), accept_shrunken=True)


@pytest.fixture
def path(tmp_path):
    """Then one file is late, one is replaced, one vanishes, and a symbol is listed."""
    path = tmp_path / "record.duckdb"
    files = {"AUSDT": flat(START, END), "BUSDT": flat(START, D(2024, 1, 9))}
    write(path, files, at=FIRST)
    later = {
        "AUSDT": flat(START, END) | {D(2024, 1, 5): (777, SECOND)},
        "BUSDT": flat(D(2024, 1, 2), END),
        "NEWUSDT": flat(D(2024, 1, 8), D(2024, 1, 19)),
    }
    write(path, later, at=SECOND, end=D(2024, 1, 19))
    return path


def statuses(path, symbol, as_of):
    with reader(path) as con:
        found = queries.timeline(con, symbol, START, END, as_of=as_of)
    return dict(zip(found.column("date"), found.column("status"), strict=True))


def test_what_was_pending_then_is_pending_although_the_file_came_since(path):
    assert statuses(path, "BUSDT", None)[END] == "available"
    assert statuses(path, "BUSDT", BETWEEN)[END] == "pending"
    assert statuses(path, "BUSDT", FIRST)[END] == "pending", "the moment itself is included"


def test_what_vanished_since_is_there_and_what_was_replaced_is_what_it_was(path):
    assert statuses(path, "BUSDT", None)[START] == "absent"
    assert statuses(path, "BUSDT", BETWEEN)[START] == "available"
    with reader(path) as con:
        then = queries.snapshot(con, D(2024, 1, 5), as_of=BETWEEN).rows
        now = queries.snapshot(con, D(2024, 1, 5)).rows
    assert [(row[0], row[1]) for row in then] == [("AUSDT", 100), ("BUSDT", 100)]
    assert [(row[0], row[1]) for row in now] == [("AUSDT", 777), ("BUSDT", 100)]


def test_a_symbol_and_dates_that_were_not_known_then_are_unknown(path):
    with reader(path) as con:
        assert queries.listings(con, as_of=BETWEEN).column("symbol") == ["AUSDT", "BUSDT"]
        with pytest.raises(queries.UnknownSymbolError):
            queries.timeline(con, "NEWUSDT", as_of=BETWEEN)
        with pytest.raises(queries.NotProbedError) as refused:
            queries.snapshot(con, D(2024, 1, 12), as_of=BETWEEN)
        assert "run `" not in str(refused.value), "no command changes the past"
        assert queries.missing_dates(con, END, D(2024, 1, 12), as_of=BETWEEN) == [
            D(2024, 1, 11), D(2024, 1, 12)
        ]  # fmt: skip


def test_before_the_first_probe_nothing_is_known_and_it_says_so(path):
    before = FIRST - dt.timedelta(seconds=1)
    with (
        reader(path) as con,
        pytest.raises(queries.NotProbedError, match=r"no date of um/daily/klines/1m had been"),
    ):
        queries.listings(con, as_of=before)


def test_what_follows_from_the_files_is_that_of_then(path):
    with reader(path) as con:
        then = {row["symbol"]: row for row in queries.listings(con, as_of=BETWEEN).dicts()}
        summary = queries.summary(con, as_of=BETWEEN).rows
        revisions = queries.revisions(con, as_of=BETWEEN).rows
        assert revisions == [] != queries.revisions(con).rows
    assert (then["BUSDT"]["first_available"], then["BUSDT"]["last_available"]) == (
        START, D(2024, 1, 9)
    )  # fmt: skip
    assert [row for row in summary if row[2]] == [(END, 1, 1)]


def test_a_moment_is_a_datetime_with_its_zone_text_or_a_date(path):
    with reader(path) as con:
        wanted = queries.listings(con, as_of=BETWEEN).rows
        for same in (
            "2024-01-15", D(2024, 1, 15), "2024-01-15T00:00Z", "2024-01-15T09:00+09:00",
            dt.datetime(2024, 1, 15, 9, tzinfo=dt.timezone(dt.timedelta(hours=9))),
        ):  # fmt: skip
            assert queries.listings(con, as_of=same).rows == wanted
        for bad in ("2024-01-15T00:00", "yesterday morning", dt.datetime(2024, 1, 15)):  # noqa: DTZ001
            with pytest.raises(ValueError, match="as_of"):
                queries.listings(con, as_of=bad)
        with pytest.raises(TypeError, match="as_of"):
            queries.listings(con, as_of=7)


def test_a_question_asks_one_recorded_dataset_and_names_those_there_are(path):
    with reader(path) as con:
        same = queries.listings(con, dataset="um/daily/klines/1m").rows
        assert (
            same == queries.listings(con, dataset=UM_KLINES_1M).rows == queries.listings(con).rows
        )
        with pytest.raises(queries.QueryError, match="recorded are um/daily/klines/1m"):
            queries.listings(con, dataset="spot/daily/klines/1d")
        with pytest.raises(ValueError, match="nearest are um/daily/klines/1m"):
            queries.listings(con, dataset="um/daily/kline/1m")


def test_a_notebook_asks_as_of_a_moment_too(path):
    with queries.open(path) as record:
        assert record.snapshot("2024-01-05", as_of=BETWEEN)["file_size_bytes"].tolist() == [
            100,
            100,
        ]
        assert record.universe(START, END, as_of=BETWEEN).columns.tolist() == ["AUSDT", "BUSDT"]


def test_one_symbol_is_found_in_every_dataset_that_has_it(path):
    """Monthly files are of months, and another market's symbol of the same name is another one."""
    months = Dataset("um", "monthly", "fundingRate", None)
    spot = Dataset("spot", "daily", "klines", "1d")
    with writer(path) as con:
        for dataset, periods in (
            (months, months.periods(D(2023, 11, 1), D(2023, 12, 1))), (spot, [START]),
        ):  # fmt: skip
            files = {"AUSDT": dict.fromkeys(periods, (7, SECOND))}
            listing = make_listing(periods[0], periods[-1], files)
            listing = replace(listing, dataset=dataset)
            store.write_probe(con, listing, probed_at=SECOND, run_id="r")
    with reader(path) as con:
        found = queries.symbol_coverage(con, "ausdt")
        assert found.columns == ("dataset", "first", "last", "files", "holes", "state")
        assert found.rows == [
            ("um/daily/klines/1m", START, END, 10, 0, "live"),
            ("um/monthly/fundingRate", D(2023, 11, 1), D(2023, 12, 1), 2, 0, "live"),
            ("spot/daily/klines/1d", START, START, 1, 0, "live"),
        ]
        assert queries.symbol_coverage(con, "AUSDT", as_of=BETWEEN).rows == found.rows[:1]
        assert queries.symbol_coverage(con, "NEWUSDT").column("dataset") == ["um/daily/klines/1m"]
        with pytest.raises(queries.UnknownSymbolError):
            queries.symbol_coverage(con, "NOSUCHUSDT")
        monthly = queries.timeline(con, "AUSDT", dataset=str(months))
        assert monthly.column("date") == [D(2023, 11, 1), D(2023, 12, 1)]
        addresses = con.execute(
            "SELECT url FROM availability WHERE dataset = 'um/monthly/fundingRate' ORDER BY url"
        ).fetchall()
        assert [row[0] for row in addresses] == [months.url("AUSDT", p) for p in (
            D(2023, 11, 1), D(2023, 12, 1))]  # fmt: skip
        assert queries.snapshot(con, START, dataset="spot/daily/klines/1d").rows[0][:2] == (
            "AUSDT", 7
        )  # fmt: skip
        assert len(queries.snapshot(con, START).rows) == 1, "of the first dataset, as before"
