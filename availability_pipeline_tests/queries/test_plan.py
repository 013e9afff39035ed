"""A plan fetches each date once: from the month where that is out and whole, else by itself.

If this fails, somebody has a month twice, or a hole where the archive has none.
"""

import datetime as dt
import json

import duckdb
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from availability_pipeline import queries
from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.queries.plan import Selection, planned
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.download_host import Host
from availability_pipeline_tests.support.helpers import D
from availability_pipeline_tests.support.mirrored import (
    END,
    MONTHS,
    SETTLED,
    START,
    publish,
    record,
)

SPOT = Dataset.parse("spot/daily/trades")
FEBRUARY = D(2024, 2, 1)
BASE = "https://files.example"


@pytest.fixture
def db(tmp_path):
    return tmp_path / "r.duckdb"


def keys(db, *args, **kwargs):
    return list(queries.open(db).plan(*args, **kwargs)["key"])


def of_months(found):
    return [key for key in found if "/monthly/" in key]


def both(host, symbol, start=START, end=END, months_until=FEBRUARY, day=5000, month=150_000):
    publish(host, symbol, start, end, size=day)
    publish(host, symbol, start, months_until, MONTHS, size=month)


class TestWhichFiles:
    def test_months_that_are_out_and_whole_stand_for_their_days(self, db):
        host = Host()
        both(host, "AUSDT")
        record(db, host)
        found = keys(db)
        assert of_months(found) == [MONTHS.key("AUSDT", D(2024, m, 1)) for m in (1, 2)]
        days = [key for key in found if "/daily/" in key]
        assert days == [UM_KLINES_1M.key("AUSDT", D(2024, 3, d)) for d in range(1, 11)]

    def test_a_month_of_which_a_part_is_asked_is_days(self, db):
        host = Host()
        both(host, "AUSDT")
        record(db, host)
        found = keys(db, "2024-01-02", "2024-02-29")
        assert of_months(found) == [MONTHS.key("AUSDT", D(2024, 2, 1))]
        assert len(found) == 31

    def test_a_month_is_covered_by_all_its_symbol_has(self, db):
        host = Host()
        both(host, "NEWUSDT", start=D(2024, 1, 20), month=100_000)
        record(db, host)
        found = keys(db, "2024-01-20", "2024-01-31")
        assert found == [MONTHS.key("NEWUSDT", D(2024, 1, 1))]

    def test_a_month_of_seven_days_is_not_whole(self, db):
        host = Host()
        both(host, "AUSDT")
        publish(host, "AUSDT", D(2024, 1, 1), D(2024, 1, 1), MONTHS, size=7 * 5000)
        record(db, host)
        found = keys(db, end="2024-01-31")
        assert len(found) == 31
        assert not of_months(found)

    def test_sizes_of_tiny_files_say_nothing(self, db):
        host = Host()
        both(host, "AUSDT", day=300, month=1900)
        record(db, host)
        assert len(of_months(keys(db))) == 2

    def test_a_day_that_was_replaced_after_its_month_came_is_fetched_itself(self, db):
        host = Host()
        both(host, "AUSDT")
        record(db, host)
        key = UM_KLINES_1M.key("AUSDT", D(2024, 1, 15))
        host.files[key] += b"more"
        later = SETTLED + dt.timedelta(1)
        record(db, host, at=later, modified={key: SETTLED})
        found = keys(db)
        assert of_months(found) == [MONTHS.key("AUSDT", D(2024, 2, 1))]
        assert key in found
        # And as of the day before, the month was whole.
        assert len(of_months(keys(db, as_of=SETTLED))) == 2

    def test_without_monthly_files_there_are_days_and_a_note(self, db):
        host = Host()
        both(host, "AUSDT")
        record(db, host, datasets=(UM_KLINES_1M,))
        frame = queries.open(db).plan()
        assert len(frame) == 70
        assert "um/monthly/klines/1m is not recorded" in frame.attrs["notes"][0]
        record(db, host, datasets=(MONTHS,))
        frame = queries.open(db).plan(monthly=False)
        assert len(frame) == 70
        assert frame.attrs["notes"] == []

    def test_a_monthly_dataset_alone_is_months(self, db):
        host = Host()
        both(host, "AUSDT")
        record(db, host)
        assert len(keys(db, datasets="um/monthly/klines/1m")) == 2
        # With its days it is the same as the days, which stand for both.
        assert keys(db, datasets=["um/*"]) == keys(db)

    def test_an_address_and_an_etag_are_those_of_the_archive(self, db, monkeypatch):
        host = Host()
        publish(host, "币安人生USDT", START, START)
        record(db, host)
        monkeypatch.setenv("AVAILABILITY_DOWNLOAD_URL", BASE)
        (row,) = queries.open(db).plan().to_dict("records")
        name = "%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT"
        folder = "data/futures/um/daily/klines"
        assert row["url"] == f"{BASE}/{folder}/{name}/1m/{name}-1m-2024-01-01.zip"
        assert row["key"] == UM_KLINES_1M.key("币安人生USDT", START)
        with duckdb.connect() as con:
            expected = con.execute("SELECT md5(?)", [host.files[row["key"]]]).fetchone()[0]
        assert row["etag"] == expected


class TestWhichSymbols:
    @pytest.fixture
    def mixed(self, db):
        host = Host()
        for symbol in ("AUSDT", "BUSDC"):
            both(host, symbol)
        publish(host, "OLDUSDT", START, D(2024, 1, 9))
        publish(host, "CBTC", START, END, SPOT)
        record(db, host, datasets=(UM_KLINES_1M, MONTHS, SPOT))
        return db

    def test_filters_choose_in_both_frequencies(self, mixed):
        assert {k.split("/")[5] for k in keys(mixed, quote_asset="USDC")} == {"BUSDC"}
        assert {k.split("/")[5] for k in keys(mixed, symbols=["ausdt"])} == {"AUSDT"}
        found = keys(mixed, live_on="2024-02-01")
        assert {k.split("/")[5] for k in found} == {"AUSDT", "BUSDC"}
        assert of_months(found)

    def test_a_filter_may_fit_one_dataset_only(self, mixed):
        found = keys(mixed, datasets=["um/daily/klines/1m", "spot/daily/trades"], quote_asset="BTC")
        assert len(found) == 70
        assert all("/spot/" in key for key in found)

    def test_what_is_not_recorded_is_said(self, mixed):
        with pytest.raises(queries.UnknownSymbolError, match="no symbol NONE is recorded"):
            keys(mixed, symbols=["NONE"])
        with pytest.raises(queries.QueryError, match=r"is not recorded; .*recorded are um/daily"):
            keys(mixed, datasets="cm/daily/trades")
        with pytest.raises(queries.QueryError, match="matches no dataset"):
            keys(mixed, datasets="option/*")
        with pytest.raises(queries.QueryError, match="no recorded symbol has quote_asset 'X'"):
            keys(mixed, quote_asset="X")
        with pytest.raises(queries.NotProbedError, match="2024-05-01 was not probed"):
            keys(mixed, live_on="2024-05-01")
        with pytest.raises(ValueError, match="swap them"):
            keys(mixed, "2024-02-01", "2024-01-01")

    def test_three_answers_are_counted_apart(self, db):
        host = Host()
        publish(host, "AUSDT", D(2024, 1, 3), D(2024, 1, 8))
        record(db, host, end=D(2024, 1, 10), at=dt.datetime(2024, 1, 12, tzinfo=dt.UTC))
        frame = queries.open(db).plan("2023-12-30", "2024-01-10")
        assert [tuple(gap.values())[2:] for gap in frame.attrs["gaps"]] == [
            ("absent", 2, D(2024, 1, 1), D(2024, 1, 2)),
            ("pending", 2, D(2024, 1, 9), D(2024, 1, 10)),
            ("unknown", 2, D(2023, 12, 30), D(2023, 12, 31)),
        ]
        assert "2 of 12 dates" in frame.attrs["notes"][-1]


class TestWhatAMirrorHolds:
    def asked(self, db, held):
        with reader(db) as con, planned(con, Selection(), held=held) as found:
            return [row[3] for batch in found.batches() for row in batch]

    def test_days_that_were_begun_stay_days(self, db):
        host = Host()
        both(host, "AUSDT")
        record(db, host)
        found = self.asked(db, [(str(UM_KLINES_1M), "AUSDT", D(2024, 1, 1))])
        assert of_months(found) == [MONTHS.key("AUSDT", D(2024, 2, 1))]
        found = self.asked(db, [(str(UM_KLINES_1M), "BUSDT", D(2024, 1, 1))])
        assert len(of_months(found)) == 2

    def test_a_month_that_is_held_stands_for_a_part_of_it(self, db):
        host = Host()
        both(host, "AUSDT")
        record(db, host)
        with reader(db) as con:
            held = [(str(MONTHS), "AUSDT", D(2024, 1, 1))]
            of = Selection(start=D(2024, 1, 10), end=D(2024, 1, 20))
            with planned(con, of, held=held) as found:
                rows = [row[3] for batch in found.batches() for row in batch]
        assert rows == [MONTHS.key("AUSDT", D(2024, 1, 1))]


def test_vanished_files_are_in_the_plan_of_a_mirror_only(db, tmp_path):
    host = Host()
    (gone, *_) = publish(host, "AUSDT", START, END)
    record(db, host)
    del host.files[gone]
    record(db, host, at=SETTLED + dt.timedelta(1))
    assert gone not in keys(db)
    with reader(db) as con, planned(con, Selection()) as found:
        found.write(tmp_path / "p.parquet")
    with duckdb.connect() as con:
        rows = con.execute("SELECT key FROM 'p.parquet' WHERE gone".replace(
            "p.parquet", str(tmp_path / "p.parquet"))).fetchall()  # fmt: skip
    assert rows == [(gone,)]


def test_nothing_probed_is_said(db):
    host = Host()
    publish(host, "AUSDT", START, START)
    record(db, host)
    with pytest.raises(queries.NotProbedError, match="had been probed by"):
        keys(db, as_of="2024-01-01")


def test_the_frame_is_what_json_writes(db):
    host = Host()
    publish(host, "AUSDT", START, START)
    record(db, host)
    with queries.open(db).connection() as con:
        found = queries.plan(con)
    assert list(found.dicts()[0]) == [
        "dataset", "symbol", "period", "key", "url", "file_size_bytes", "etag",
    ]  # fmt: skip
    assert json.dumps(found.dicts(), default=str)


# An independent model: what a person would say with the lists of days and months before them.

SIZES = st.sampled_from([100, 5000, 6000])


@st.composite
def archives(draw):
    """Days and months of two symbols over two months, and the dates that are asked for."""
    found = {}
    for symbol in ("AUSDT", "BUSDT"):
        days = draw(st.sets(st.integers(0, 59), max_size=60))
        size = draw(SIZES)
        months = draw(st.dictionaries(st.sampled_from([1, 2]), SIZES, max_size=2))
        found[symbol] = (
            {START + dt.timedelta(n): size for n in days},
            {D(2024, m, 1): n * draw(st.sampled_from([7, 24, 31])) for m, n in months.items()},
        )
    first = draw(st.integers(0, 59))
    last = draw(st.integers(first, 59))
    return found, START + dt.timedelta(first), START + dt.timedelta(last)


def expected(found, start, end):
    keys = set()
    for symbol, (days, months) in found.items():
        taken = set()
        for month, size in months.items():
            last = MONTHS.last_day(month)
            own = {day: n for day, n in days.items() if month <= day <= last}
            inside = {day for day in own if start <= day <= end}
            covered = (start <= month and last <= end) or (own and inside == set(own))
            total = sum(own.values())
            small = own and total / len(own) >= 4096 and size < 0.8 * total
            if covered and not small:
                keys.add(MONTHS.key(symbol, month))
                taken.add(month)
        keys |= {
            UM_KLINES_1M.key(symbol, day)
            for day in days
            if start <= day <= end and day.replace(day=1) not in taken
        }
    return keys


@given(archives())
@hypothesis(max_examples=6, deadline=None)
def test_a_plan_is_what_the_model_says(tmp_path_factory, drawn):
    found, start, end = drawn
    host = Host()
    for symbol, (days, months) in found.items():
        for day, size in days.items():
            publish(host, symbol, day, day, size=size)
        for month, size in months.items():
            publish(host, symbol, month, month, MONTHS, size=size)
    publish(host, "ZUSDT", START, START)
    publish(host, "ZUSDT", START, START, MONTHS, size=200)
    db = tmp_path_factory.mktemp("plan") / "r.duckdb"
    record(db, host, end=START + dt.timedelta(59))
    got = [key for key in keys(db, start, end) if "/ZUSDT/" not in key]
    assert len(got) == len(set(got))
    assert set(got) == expected(found, start, end)
