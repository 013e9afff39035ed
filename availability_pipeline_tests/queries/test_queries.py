"""The questions. A wrong answer here is a wrong backtest somewhere else."""

import datetime as dt
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from availability_pipeline import queries
from availability_pipeline.archive.datasets import UM_KLINES_1M
from availability_pipeline.archive.listing import NOTHING_RECORDED
from availability_pipeline.errors import StoreBusyError
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline_tests.support.helpers import D, days, flat, make_listing, published

START, END = D(2024, 1, 1), D(2024, 1, 20)
NOW = dt.datetime(2024, 3, 1, 2, tzinfo=dt.UTC)


def write(path, files, *, at=NOW, start=START, end=END, run="run", told=False):
    """A probe; `told` is an archive that is told what is recorded, as a run's is."""
    with writer(path) as con:
        known = store.recorded(con) if told else NOTHING_RECORDED
        listing = make_listing(start, end, files, recorded=known)
        store.write_probe(con, listing, probed_at=at, run_id=run, accept_shrunken=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Twenty settled dates, one pending; a hole, a delisting, a relisting, a symbol not ASCII."""
    path = tmp_path_factory.mktemp("record") / "record.duckdb"
    usual = {f"{name}USDT": flat(START, D(2024, 1, 21)) for name in ("A", "B", "C")}
    hole = {d: f for d, f in flat(START, D(2024, 1, 21)).items() if d != D(2024, 1, 9)}
    files = {
        **usual,
        "HOLEUSDT": hole,
        "ENDUSDC": flat(START, D(2024, 1, 10)),
        "NEW币USDT": flat(D(2024, 1, 12), D(2024, 1, 20)),
        "OLDUSDTSETTLED": flat(START, D(2024, 1, 5)),
        "OLDUSDT": flat(D(2024, 1, 8), D(2024, 1, 21)),
        "BTCUSDT_240112": flat(START, D(2024, 1, 12)),
    }
    write(path, files)
    write(path, files, start=D(2024, 1, 21), end=D(2024, 1, 21), at=published(D(2024, 1, 21)))
    return path


@pytest.fixture
def con(path):
    with reader(path) as con:
        yield con


def test_a_snapshot_has_the_files_of_one_date_by_symbol(con):
    found = queries.snapshot(con, D(2024, 1, 9))
    assert found.columns == ("symbol", "file_size_bytes", "last_modified")
    assert found.column("symbol") == [
        "AUSDT", "BTCUSDT_240112", "BUSDT", "CUSDT", "ENDUSDC", "OLDUSDT"
    ]  # fmt: skip
    assert found.rows[0] == ("AUSDT", 100, dt.datetime(2024, 1, 10, 8, tzinfo=dt.UTC))
    assert queries.snapshot(con, "2024-01-09") == found


def test_a_snapshot_keeps_pending_and_absent_apart(con):
    absent = queries.snapshot(con, D(2024, 1, 9), status="absent")
    assert absent.column("symbol") == ["HOLEUSDT", "NEW币USDT", "OLDUSDTSETTLED"]
    assert absent.rows[0] == ("HOLEUSDT", None, None)
    assert queries.snapshot(con, D(2024, 1, 9), status="pending").rows == []
    pending = queries.snapshot(con, D(2024, 1, 21), status="pending")
    assert "NEW币USDT" in pending.column("symbol")
    assert queries.snapshot(con, D(2024, 1, 21), status="absent").rows == []
    assert queries.counts(con, "2024-01-21") == {"available": 5, "pending": 4, "absent": 0}


def test_filters_keep_quote_assets_and_contract_types(con):
    def symbols(**only):
        return queries.snapshot(con, START, **only).column("symbol")

    assert symbols(quote_asset="USDC") == symbols(quote_asset="usdc") == ["ENDUSDC"]
    assert symbols(contract_type="delivery") == ["BTCUSDT_240112"]
    assert symbols(contract_type=["settled", "delivery"], quote_asset="USDT") == [
        "BTCUSDT_240112", "OLDUSDTSETTLED"
    ]  # fmt: skip
    with pytest.raises(queries.QueryError, match="quote_asset 'EUR'; there are USDC, USDT"):
        symbols(quote_asset="EUR")


@pytest.mark.parametrize(
    "ask",
    [
        lambda con, day: queries.snapshot(con, day),
        lambda con, day: queries.snapshot(con, day, status="absent"),
        lambda con, day: queries.counts(con, day),
        lambda con, day: queries.new_listings(con, day),
        lambda con, day: queries.delistings(con, day),
        lambda con, day: queries.symbols_in_range(con, START, day),
        lambda con, day: queries.universe(con, START, day),
        lambda con, day: queries.summary(con, start=day),
    ],
)
def test_a_date_never_looked_at_is_refused_and_never_an_empty_answer(con, ask):
    with pytest.raises(queries.NotProbedError, match=r"not probed|was probed"):
        ask(con, D(2024, 1, 22))


def test_a_record_without_any_date_says_so_instead_of_answering_with_nothing(tmp_path):
    with writer(tmp_path / "r.duckdb") as con:
        for ask in (
            queries.holes, queries.listings, queries.revisions, queries.summary,
            lambda con: queries.timeline(con, "BTCUSDT"),
            lambda con: queries.snapshot(con, START, quote_asset="USDT"),
        ):  # fmt: skip
            with pytest.raises(queries.NotProbedError, match="no date was probed yet"):
                ask(con)


def test_a_symbol_without_any_row_in_a_record_without_dates_is_not_a_traceback(tmp_path):
    """After a first run that failed half-way a symbol may be known, and nothing of its dates."""
    with writer(tmp_path / "r.duckdb") as con:
        con.execute(
            "INSERT INTO datasets BY NAME SELECT 1 AS id, 'um' AS market, 'daily' AS frequency, "
            "'klines' AS data_type, '1m' AS interval, 3 AS settle_days"
        )
        con.execute(
            "INSERT INTO symbols BY NAME SELECT 1 AS dataset, 'BTCUSDT' AS symbol, 'perpetual' AS "
            "contract_type, 'USDT' AS quote_asset, now() AS first_seen, now() AS last_seen"
        )
        for status in (None, "available", "unknown"):
            with pytest.raises(queries.NotProbedError, match=r"no date was probed yet.*backfill"):
                queries.timeline(con, "BTCUSDT", status=status)


def test_no_remedy_is_a_command_that_would_be_refused(con):
    today = dt.datetime.now(dt.UTC).date()
    for ask in (
        lambda day: queries.snapshot(con, day),
        lambda day: queries.counts(con, day),
        lambda day: queries.new_listings(con, day),
        lambda day: queries.symbols_in_range(con, day, day),
        lambda day: queries.universe(con, day, day),
        lambda day: queries.summary(con, start=day, end=day),
        lambda day: queries.timeline(con, "AUSDT", start=day),
        lambda day: queries.timeline(con, "AUSDT", day, day, status="absent"),
    ):
        for day in (today, today + dt.timedelta(9)):
            with pytest.raises(queries.NotProbedError, match="once it is over") as caught:
                ask(day)
            assert "--date" not in str(caught.value)
            assert "--end" not in str(caught.value)
    for ask in (
        lambda: queries.snapshot(con, "2019-01-01"),
        lambda: queries.summary(con, end="2019-01-01"),
        lambda: queries.timeline(con, "AUSDT", end="2019-01-01"),
    ):
        with pytest.raises(queries.NotProbedError, match="the record begins with 2019-09-25"):
            ask()
    # A range that is partly over has a command for that part.
    with pytest.raises(queries.NotProbedError) as caught:
        queries.symbols_in_range(con, today - dt.timedelta(3), today + dt.timedelta(3))
    ends = f"--start {today - dt.timedelta(3)} --end {today - dt.timedelta(1)}`"
    assert str(caught.value).endswith(ends)


def test_a_timeline_after_the_last_probed_date_is_an_error_with_the_remedy(con):
    yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(1)
    with pytest.raises(queries.NotProbedError, match="the record ends with 2024-01-21") as caught:
        queries.timeline(con, "AUSDT", start="2024-02-01")
    assert f"backfill --start 2024-02-01 --end {yesterday}" in str(caught.value)


def test_a_timeline_tells_available_absent_pending_and_unknown_apart(con):
    found = queries.timeline(con, "NEW币USDT", "2024-01-11", "2024-01-22")
    assert found.columns == ("date", "available", "status", "file_size_bytes", "status_code")
    assert found.rows[0] == (D(2024, 1, 11), False, "absent", None, 404)
    assert found.rows[1] == (D(2024, 1, 12), True, "available", 100, 200)
    assert found.rows[-2] == (D(2024, 1, 21), False, "pending", None, 404)
    assert found.rows[-1] == (D(2024, 1, 22), None, "unknown", None, None)
    absent = queries.timeline(con, "HOLEUSDT", status="absent")
    assert absent.column("date") == [D(2024, 1, 9)]


def test_a_symbol_without_a_row_on_a_probed_date_is_unknown_on_it(tmp_path):
    """In records of 0.1, whose probes before a symbol was first seen cannot speak of it."""
    path = tmp_path / "r.duckdb"
    write(path, {"AUSDT": flat(START, END)}, end=D(2024, 1, 5))
    both = {"AUSDT": flat(START, END), "LATEUSDT": flat(START, END)}
    write(path, both, start=D(2024, 1, 8), at=NOW + dt.timedelta(hours=1))
    with reader(path) as con:
        found = queries.timeline(con, "LATEUSDT", START, END)
        wide = queries.universe(con, START, END, unknown="mark")
        assert queries.holes(con, "LATEUSDT").rows == []
    statuses = dict(zip(found.column("date"), found.column("status"), strict=True))
    assert [statuses[day] for day in (START, D(2024, 1, 6), END)] == [
        "unknown", "unknown", "available"
    ]  # fmt: skip
    late = dict(zip(wide.column("date"), wide.column("LATEUSDT"), strict=True))
    assert [late[day] for day in (START, D(2024, 1, 6), END)] == [None, None, True]
    assert "2 of 20 dates from 2024-01-01 to 2024-01-20 were not probed" in wide.notes[0]


def test_a_lower_case_symbol_is_forgiven_and_an_unknown_one_names_the_nearest(con):
    found = queries.timeline(con, "ausdt")
    assert found.notes == ("ausdt was read as AUSDT: symbols are written in upper case",)
    assert found.rows == queries.timeline(con, "AUSDT").rows
    for ask in (queries.timeline, queries.holes, queries.listings):
        with pytest.raises(queries.UnknownSymbolError, match="did you mean HOLEUSDT"):
            ask(con, "HOLUSDT")


def test_holes_are_confirmed_absences_between_files_with_their_address(con):
    hole = ("HOLEUSDT", D(2024, 1, 9), UM_KLINES_1M.url("HOLEUSDT", D(2024, 1, 9)))
    assert queries.holes(con).rows == queries.holes(con, "HOLEUSDT").rows == [hole]
    assert queries.holes(con, "AUSDT").rows == []
    assert queries.holes(con, quote_asset="USDC").rows == []
    [(in_view,)] = con.execute("SELECT url FROM daily_availability WHERE (symbol, date) = "
                               "('HOLEUSDT', DATE '2024-01-09')").fetchall()  # fmt: skip
    assert in_view == hole[2]


def test_a_date_probed_before_a_symbol_was_first_seen_is_no_hole_until_probed_for_it(tmp_path):
    path = tmp_path / "r.duckdb"
    write(path, {"AUSDT": flat(START, END)}, start=D(2024, 1, 5), end=D(2024, 1, 6))
    late = {D(2024, 1, 4): (1, NOW), D(2024, 1, 7): (1, NOW)}
    both = {"AUSDT": flat(START, END), "LATEUSDT": late}
    later = NOW + dt.timedelta(hours=1)
    write(path, both, start=D(2024, 1, 4), end=D(2024, 1, 4), at=later)
    write(path, both, start=D(2024, 1, 7), end=D(2024, 1, 7), at=later)
    with reader(path) as con:
        assert queries.holes(con).rows == []
    with writer(path) as con:
        day = D(2024, 1, 7)
        listing = make_listing(day, day, both, recorded=store.recorded(con))
        result = store.write_probe(con, listing, probed_at=later, run_id="heals")
    assert result.widened == 1
    with reader(path) as con:
        assert [row[:2] for row in queries.holes(con).rows] == [
            ("LATEUSDT", D(2024, 1, 5)), ("LATEUSDT", D(2024, 1, 6))
        ]  # fmt: skip


def test_holes_say_which_dates_were_never_looked_at(tmp_path):
    path = tmp_path / "r.duckdb"
    write(path, {"AUSDT": flat(START, END)}, end=D(2024, 1, 5))
    write(path, {"AUSDT": flat(START, END)}, start=D(2024, 1, 7))
    with reader(path) as con:
        found = queries.holes(con)
    assert found.rows == []
    assert found.notes[0].startswith("1 of 20 dates from 2024-01-01 to 2024-01-20 was not probed")


def test_new_listings_and_delistings_are_those_of_the_listings(con):
    assert queries.new_listings(con, "2024-01-12") == ["NEW币USDT"]
    assert queries.new_listings(con, "2024-01-08") == ["OLDUSDT"]
    assert queries.new_listings(con, "2024-01-13") == []
    assert queries.delistings(con, "2024-01-11") == ["ENDUSDC"]
    assert queries.delistings(con, "2024-01-13") == ["BTCUSDT_240112"]
    assert queries.delistings(con, "2024-01-06") == ["OLDUSDTSETTLED"]
    assert queries.delistings(con, "2024-01-13", contract_type="perpetual") == []
    assert queries.delistings_confirmed(con, "2024-01-11")
    assert not queries.delistings_confirmed(con, "2024-01-19")


def test_a_hole_or_a_date_not_published_yet_is_no_delisting(con):
    assert queries.delistings(con, "2024-01-09") == []
    assert queries.delistings(con, "2024-01-21") == []


def test_a_settled_contract_is_delisted_once_its_absence_is_confirmed(tmp_path):
    path = tmp_path / "r.duckdb"
    files = {"AUSDT": flat(START, END), "OLDUSDTSETTLED": flat(START, D(2024, 1, 18))}
    write(path, files)
    with reader(path) as con:
        assert queries.delistings(con, "2024-01-19") == []  # two absences
    write(path, {**files, "AUSDT": flat(START, D(2024, 1, 21))}, end=D(2024, 1, 21))
    with reader(path) as con:
        assert queries.delistings(con, "2024-01-19") == ["OLDUSDTSETTLED"]
        [(ended,)] = con.execute(
            "SELECT ended FROM daily_summary WHERE period = '2024-01-19'"
        ).fetchall()
        assert ended == 1


def test_what_is_new_on_the_first_date_looked_at_is_unknown(con):
    """All 750 symbols would be new on the first date of a short record."""
    with pytest.raises(queries.NotProbedError, match="2023-12-31 was not probed"):
        queries.new_listings(con, START)


def test_symbols_in_a_range_have_at_least_one_file(con):
    assert queries.symbols_in_range(con, "2024-01-13", "2024-01-20", contract_type="perpetual") == [
        "AUSDT", "BUSDT", "CUSDT", "HOLEUSDT", "NEW币USDT", "OLDUSDT"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="swap them"):
        queries.symbols_in_range(con, END, START)


def test_a_summary_counts_available_and_pending_of_each_date(con):
    found = queries.summary(con)
    assert found.columns == ("date", "available_count", "pending_count")
    assert found.column("date") == days(START, D(2024, 1, 21))
    assert found.rows[-1] == (D(2024, 1, 21), 5, 4)
    assert queries.summary(con, 3, today=D(2024, 1, 22)).rows == found.rows[-3:]
    assert queries.summary(con, start=D(2024, 1, 20)).rows == found.rows[-2:]
    assert queries.summary(con, quote_asset="USDC").rows[-1] == (D(2024, 1, 21), 0, 1)
    assert queries.summary(con, quote_asset="USDC").rows[0] == (START, 1, 0)
    late = queries.summary(con, 3, today=D(2024, 1, 23))
    assert late.column("date") == days(D(2024, 1, 20), D(2024, 1, 21))
    assert "2024-01-22" in late.notes[0]
    with pytest.raises(ValueError, match="not both"):
        queries.summary(con, 3, start=START)


def test_a_universe_has_every_symbol_that_had_a_file_delisted_or_not(con):
    frame = queries.universe(con, "2024-01-09", "2024-01-21").frame()
    assert frame.index.equals(
        pd.date_range("2024-01-09", "2024-01-21", name="date", unit="us", freq=None)
    )
    assert set(frame.dtypes) == {pd.BooleanDtype()}
    assert list(frame.columns) == sorted(frame.columns)
    assert {"ENDUSDC", "BTCUSDT_240112", "NEW币USDT"} <= set(frame.columns)
    assert "OLDUSDTSETTLED" not in frame.columns  # its files ended before
    assert not frame.loc["2024-01-09", "HOLEUSDT"]
    assert frame.loc["2024-01-12", "NEW币USDT"]
    assert frame.loc["2024-01-21", "NEW币USDT"] is pd.NA  # pending is not false
    assert frame.loc["2024-01-20", "ENDUSDC"] is not pd.NA
    only = queries.universe(con, START, END, quote_asset="USDC").frame()
    assert list(only.columns) == ["ENDUSDC"]
    assert only["ENDUSDC"].sum() == 10


def test_a_universe_is_written_as_parquet_and_csv(con, tmp_path):
    for name in ("u.parquet", "u's.csv"):
        target = tmp_path / name
        queries.write_universe(con, target, START, D(2024, 1, 21))
        got = duckdb.connect().execute("SELECT * FROM read_" + (
            "parquet(?)" if name.endswith("parquet") else "csv(?)"), [str(target)])  # fmt: skip
        want = queries.universe(con, START, D(2024, 1, 21))
        assert tuple(c[0] for c in got.description) == want.columns
        assert got.fetchall() == want.rows
    with pytest.raises(queries.QueryError, match="cannot write"):
        queries.write_universe(con, tmp_path / "no" / "u.parquet", START, END)
    assert con.execute("SELECT * FROM duckdb_tables() WHERE temporary").fetchall() == []


def test_a_universe_without_files_has_dates_and_no_symbols(tmp_path):
    write(tmp_path / "r.duckdb", {"AUSDT": {}})
    with reader(tmp_path / "r.duckdb") as con:
        assert queries.universe(con, START, END).frame().shape == (20, 0)


def test_frames_have_types_that_notebooks_can_use(con):
    snapshot = queries.snapshot(con, START).frame()
    assert dict(snapshot.dtypes.astype(str)) == {
        "symbol": "str", "file_size_bytes": "Int64", "last_modified": "datetime64[us, UTC]"
    }  # fmt: skip
    assert queries.snapshot(con, START, status="absent").frame()["file_size_bytes"].isna().all()
    timeline = queries.timeline(con, "AUSDT", START, D(2024, 1, 25)).frame()
    assert str(timeline["date"].dtype) == "datetime64[us]"
    assert timeline["available"].tolist()[-1] is pd.NA
    assert timeline.set_index("date").loc["2024-01-09", "file_size_bytes"] == 100
    assert queries.holes(con, "AUSDT").frame().empty
    assert queries.timeline(con, "ausdt").frame().attrs["notes"]


def test_one_import_is_enough_in_a_notebook(path, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DB", str(path))
    record = queries.open()
    assert len(record.snapshot("2024-01-09")) == 6
    assert record.timeline("HOLEUSDT", status="absent")["date"].tolist() == [
        pd.Timestamp("2024-01-09")
    ]
    assert record.universe(START, END).shape == (20, 9)
    assert record.symbols_in_range(START, START, quote_asset="USDC") == ["ENDUSDC"]
    assert len(record.listings()) == 9
    assert record.new_listings(pd.Timestamp("2024-01-12")) == ["NEW币USDT"]
    assert record.delistings("2024-01-11") == ["ENDUSDC"]
    assert record.holes()["symbol"].tolist() == ["HOLEUSDT"]
    assert record.revisions().empty
    assert len(record.summary()) == 21
    assert record.missing_dates("2024-01-20", "2024-01-22") == [D(2024, 1, 22)]


def test_an_open_notebook_does_not_keep_an_update_from_writing(tmp_path):
    path = tmp_path / "r.duckdb"
    write(path, {"AUSDT": flat(START, END)})
    record = queries.open(path)
    assert len(record.holes()) == 0
    write(path, {"AUSDT": flat(START, D(2024, 1, 19))}, at=NOW + dt.timedelta(1))
    with record as held:
        assert len(held.revisions()) == 1
        # One process cannot open it twice in different ways; another one is kept out as well.
        with (
            pytest.raises(StoreBusyError, match=r"by this process itself.*`with record:`"),
            writer(path, wait_seconds=0),
        ):
            pass
    with writer(path, wait_seconds=0):
        pass


SYMBOLS = ("AUSDT", "AUSDTSETTLED", "BUSDT", "OLDUSDTSETTLED")
SPAN = days(START, D(2024, 1, 12))
looks = st.lists(
    st.tuples(
        st.integers(0, len(SPAN) - 1),  # first date of a look
        st.integers(1, len(SPAN)),  # how many
        st.booleans(),  # looked at once they have settled, or at once
        st.sets(st.sampled_from(SYMBOLS), min_size=1),  # folders there are
        st.sets(st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(SPAN)), max_size=40),
    ),
    min_size=1,
    max_size=5,
)


class Model:
    """What the record should say, kept naively: a dict of probes and a set of files."""

    def __init__(self):
        self.settled = {}
        self.files = {}
        self.known = set()
        self.confirmed = {}

    def look(self, span, at, files, folders):
        """All known symbols on the dates, and the new ones and their settlings on all dates."""
        new = {symbol.removesuffix("SETTLED") for symbol in folders - self.known}
        self.known |= folders
        for day in {*span, *self.settled}:
            due = dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(days=4)
            probed = {s for s in self.known if day in span or s.removesuffix("SETTLED") in new}
            kept = self.files.get(day, set()) - probed
            self.files[day] = kept | {s for s, date in files if date == day and s in probed}
            self.confirmed |= {(symbol, day): at >= due for symbol in probed}
            if day in span:
                self.settled[day] = at >= due

    def cell(self, symbol, day):
        if day not in self.settled:
            return None
        if symbol in self.files[day]:
            return True
        return False if self.confirmed[symbol, day] else None

    def dates_of(self, symbol):
        return sorted(day for day, files in self.files.items() if symbol in files)

    def holes(self):
        return [
            (symbol, day)
            for symbol in sorted(SYMBOLS)
            if (own := self.dates_of(symbol))
            for day in SPAN
            if own[0] < day < own[-1] and self.cell(symbol, day) is False
        ]

    def stopped(self):
        """Symbols without a file on the settled dates after their last one: symbol -> that one."""
        newest = max((d for d, settled in self.settled.items() if settled), default=dt.date.min)
        return {
            s: self.dates_of(s)[-1]
            for s in SYMBOLS
            if not s.endswith("SETTLED") and self.dates_of(s) and self.dates_of(s)[-1] < newest
        }

    def outage(self):
        """Symbols that stopped within five probed dates, in such numbers that it is an outage."""
        probed, found = sorted(self.settled), set()
        for n in range(len(probed)):
            near = probed[n : n + 5]
            following = [*probed[n + 5 : n + 6], probed[-1] + dt.timedelta(1)][0]
            gap = (following - near[0]).days - len(near)
            publishing = max(len(self.files[d]) for d in probed[max(0, n - 13) : n + 1])
            here = {s for s, last in self.stopped().items() if last in near}
            if (len(here) >= 3 and len(here) >= publishing * (0.25 + 0.001 * gap)) or (
                len(here) > publishing * (0.5 + 0.001 * gap)
            ):
                found |= here
        return found

    def telling(self, date, outage):
        """A settled date with at least half of the files that were expected on it."""
        if not self.settled[date] or not self.files[date]:
            return False
        own = {s: self.dates_of(s) for s in SYMBOLS if self.dates_of(s)}
        expected = [s for s, d in own.items() if d[0] <= date and (date <= d[-1] or s in outage)]
        return len(self.files[date]) >= 0.5 * len(expected)

    def delisted(self, symbol, day):
        own, outage = self.dates_of(symbol), self.outage()
        if not own or own[-1] + dt.timedelta(1) != day or symbol in outage:
            return False
        return sum(self.telling(d, outage) for d in self.settled if d > own[-1]) >= 3


@settings(max_examples=10)
@given(looks=looks)
def test_answers_are_those_of_a_naive_model_whatever_the_history(looks):
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.duckdb"
        for n, (first, length, late, folders, files) in enumerate(looks):
            span = SPAN[first : first + length]
            at = (NOW if late or n else published(span[-1], hour=2)) + dt.timedelta(hours=n)
            there = {(s, d) for s, d in files if s in folders}
            model.look(span, at, there, folders)
            listing = {
                symbol: {d: (1, published(d)) for s, d in there if s == symbol}
                for symbol in folders
            }
            write(path, listing, at=at, start=span[0], end=span[-1], told=True)
        with reader(path) as con:
            found = [row[:2] for row in queries.holes(con).rows]
            assert found == model.holes()
            assert [
                (symbol, day) for symbol, day in found
            ] == [
                (row["symbol"], day)
                for row in queries.listings(con).dicts() if row["hole_days"]
                for s, day in found if s == row["symbol"]
            ]  # fmt: skip
            wide = queries.universe(con, SPAN[0], SPAN[-1], unknown="mark")
            assert list(wide.columns[1:]) == [s for s in sorted(SYMBOLS) if model.dates_of(s)]
            for row in wide.rows:
                assert row[1:] == tuple(model.cell(s, row[0]) for s in wide.columns[1:])
            for day in SPAN:
                if day not in model.settled or day - dt.timedelta(1) not in model.settled:
                    with pytest.raises(queries.NotProbedError):
                        queries.new_listings(con, day)
                    continue
                assert queries.new_listings(con, day) == [
                    s for s in sorted(SYMBOLS) if model.dates_of(s)[:1] == [day]
                ]
                assert queries.delistings(con, day) == [
                    s for s in sorted(SYMBOLS) if model.delisted(s, day)
                ]
            for date, available, pending in queries.summary(con).rows:
                assert available == len(model.files[date])
                assert pending == sum(
                    symbol not in model.files[date] and not model.confirmed[symbol, date]
                    for symbol in model.known
                )


def test_asking_imports_no_pandas_until_a_frame_is_made(path):
    code = (
        "import sys\n"
        "from availability_pipeline import queries\n"
        "from availability_pipeline.record import connection\n"
        f"with connection.reader({str(path)!r}) as con:\n"
        "    queries.universe(con, '2024-01-01', '2024-01-05')\n"
        "print({'dagster', 'boto3', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
