"""The universe of the largest by volume: point in time, and nothing that is not known is guessed.

If this fails, a backtest trades what it could not have known, or leaves out what it could have.
"""

import datetime as dt
import json
import re
import tempfile
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from availability_pipeline import queries
from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.cli.main import cli
from availability_pipeline.errors import MissingDatabaseError
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline_tests.support import volumes
from availability_pipeline_tests.support.helpers import D, days, flat, make_listing, published

START, END = D(2024, 1, 2), D(2024, 1, 8)
DAY = dt.timedelta(1)
NOW = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
QUOTES = {
    "AUSDT": "USDT", "AUSDTSETTLED": "USDT", "BUSDT": "USDT", "CUSDT": "USDT", "DUSDC": "USDC",
}  # fmt: skip


def record(path, files, *, at=NOW, dataset=UM_KLINES_1M, start=START, end=END):
    with writer(path) as con:
        listing = make_listing(start, end, files, dataset=dataset)
        store.write_probe(con, listing, probed_at=at, run_id="run")


def traded(**values):
    """Quote volumes by symbol, of all dates and the day before them."""
    return {
        (symbol, date): float(value)
        for symbol, value in values.items()
        for date in days(START - DAY, END)
    }


@pytest.fixture
def path(tmp_path):
    """Four symbols with files on all dates, and no volumes yet."""
    path = tmp_path / "r.duckdb"
    record(path, {s: flat(START, END) for s in ("AUSDT", "BUSDT", "CUSDT", "DUSDC")})
    return path


def ask(path, top=1, **more):
    with reader(path) as con:
        return queries.universe(con, START, END, top=top, **more)


def cells(found, symbol):
    return dict(zip(found.column("date"), found.column(symbol), strict=True))


def test_each_quote_asset_has_its_own_top_and_others_no_column(path):
    volumes.write(path.with_name("volume.duckdb"), traded(AUSDT=5, BUSDT=9, CUSDT=1, DUSDC=2),
                  QUOTES)  # fmt: skip
    assert ask(path).columns == ("date", "BUSDT", "DUSDC")
    assert ask(path, quote_asset="USDT").columns == ("date", "BUSDT")
    assert ask(path, top=2).columns == ("date", "AUSDT", "BUSDT", "DUSDC")
    found = ask(path, top=2)
    assert all(row[1:] == (True, True, True) for row in found.rows)
    assert found.notes == ()


def test_a_date_is_judged_by_the_day_before_and_never_by_itself(path):
    values = traded(AUSDT=5, BUSDT=1, CUSDT=1, DUSDC=1)
    values["BUSDT", D(2024, 1, 4)] = 100.0
    volumes.write(path.with_name("volume.duckdb"), values, QUOTES)
    found = ask(path, quote_asset="USDT")
    assert [date for date, top in cells(found, "BUSDT").items() if top] == [D(2024, 1, 5)]
    assert cells(found, "AUSDT") == {date: date != D(2024, 1, 5) for date in days(START, END)}


def test_a_symbol_without_a_file_on_the_date_is_not_in_it_however_large(tmp_path):
    path = tmp_path / "r.duckdb"
    gone = flat(START, D(2024, 1, 4))
    record(path, {"AUSDT": gone, "BUSDT": flat(START, END)})
    volumes.write(tmp_path / "volume.duckdb", traded(AUSDT=5, BUSDT=1), QUOTES)
    assert cells(ask(path), "AUSDT") == {d: d <= D(2024, 1, 4) for d in days(START, END)}


def test_a_date_of_whose_day_before_nothing_was_read_is_refused_or_null(path):
    values = {key: v for key, v in traded(AUSDT=5, BUSDT=1).items()
              if key[1] not in (START - DAY, D(2024, 1, 4))}  # fmt: skip
    volumes.write(path.with_name("volume.duckdb"), values, QUOTES)
    said = (
        "of 2 of 7 dates no volume of the day before was read (2024-01-02, 2024-01-05); read are "
        "2024-01-02 to 2024-01-08; run `"
    )
    with pytest.raises(queries.NotProbedError, match=re.escape(said)):
        ask(path)
    found = ask(path, unknown="mark")
    unread = {START, D(2024, 1, 5)}
    assert cells(found, "AUSDT") == {d: None if d in unread else True for d in days(START, END)}
    assert cells(found, "BUSDT") == {d: None if d in unread else False for d in days(START, END)}
    [note] = found.notes
    assert note.startswith(said)
    assert note.endswith("; they are null")


def test_no_volumes_at_all_are_an_error_with_the_command_also_where_unknown_is_null(path):
    for unknown in ("refuse", "mark"):
        with pytest.raises(MissingDatabaseError, match=r"volume\.duckdb; run `.* volume update`"):
            ask(path, unknown=unknown)


def test_a_rank_is_sure_only_with_room_for_the_files_that_may_still_come(path):
    date = D(2024, 1, 4)
    values = traded(AUSDT=5, BUSDT=3, DUSDC=1)
    volumes.write(path.with_name("volume.duckdb"), values, QUOTES, lacking=[(date, "USDT", 1)])
    found = ask(path, top=2)
    open_one = date + DAY
    assert cells(found, "AUSDT")[open_one] is True, "the second place is enough for the other"
    assert cells(found, "BUSDT")[open_one] is None
    assert cells(found, "CUSDT") == {d: None if d == open_one else False for d in days(START, END)}
    assert cells(found, "DUSDC")[open_one] is True
    assert found.notes == (
        "before 1 date files are pending or were not read: what depends on them is null",
    )


def test_a_contract_is_found_by_its_name_before_it_was_settled(tmp_path):
    """The record has the files where they moved to, the volumes are of before."""
    path = tmp_path / "r.duckdb"
    settled = flat(START, D(2024, 1, 4))
    record(path, {"AUSDTSETTLED": settled, "AUSDT": flat(D(2024, 1, 6), END),
                  "BUSDT": flat(START, END)})  # fmt: skip
    values = traded(AUSDT=5, BUSDT=1)
    volumes.write(tmp_path / "volume.duckdb", values, QUOTES)
    found = ask(path)
    assert [d for d, top in cells(found, "AUSDTSETTLED").items() if top] == sorted(settled)
    assert [d for d, top in cells(found, "AUSDT").items() if top] == days(D(2024, 1, 6), END)


def test_the_first_day_of_a_relisted_contract_goes_on_from_the_settled_one(tmp_path):
    path = tmp_path / "r.duckdb"
    record(path, {"AUSDTSETTLED": flat(START, D(2024, 1, 4)),
                  "AUSDT": flat(D(2024, 1, 5), END), "BUSDT": flat(START, END)})  # fmt: skip
    values = {
        ("AUSDTSETTLED" if s == "AUSDT" and d < D(2024, 1, 5) else s, d): v
        for (s, d), v in traded(AUSDT=5, BUSDT=1).items()
    }
    volumes.write(tmp_path / "volume.duckdb", values, QUOTES)
    found = ask(path)
    assert [d for d, top in cells(found, "AUSDT").items() if top] == days(D(2024, 1, 5), END)
    assert not any(cells(found, "AUSDTSETTLED")[d] for d in days(D(2024, 1, 5), END))


def test_a_rank_goes_on_to_one_symbol_only(tmp_path):
    """Where both names have a file, the day before counts for the one that it was read of."""
    path = tmp_path / "r.duckdb"
    record(path, {s: flat(START, END) for s in ("AUSDT", "AUSDTSETTLED", "BUSDT")})
    volumes.write(tmp_path / "volume.duckdb", traded(AUSDT=5, BUSDT=1), QUOTES)
    assert ask(path).columns == ("date", "AUSDT")


def test_coin_margined_ranks_are_of_each_base_asset(tmp_path):
    path, dataset = tmp_path / "r.duckdb", Dataset.parse("cm/daily/klines/1d")
    names = ("BTCUSD_PERP", "BTCUSD_240628", "ETHUSD_PERP")
    record(path, {name: flat(START, END) for name in names}, dataset=dataset)
    volumes.write(
        tmp_path / "volume.duckdb",
        traded(BTCUSD_PERP=5, BTCUSD_240628=3, ETHUSD_PERP=1),
        {name: name[:3] for name in names},
        market="cm",
        lacking=[(D(2024, 1, 4), "BTC", 1)],
    )
    found = ask(path, quote_asset="USD", dataset="cm/daily/klines/1d")
    assert found.columns == ("date", "BTCUSD_PERP", "ETHUSD_PERP")
    assert set(cells(found, "ETHUSD_PERP").values()) == {True}
    assert [d for d, top in cells(found, "BTCUSD_PERP").items() if top is None] == [D(2024, 1, 5)]


def test_what_has_no_daily_volume_is_refused(path, tmp_path):
    volumes.write(path.with_name("volume.duckdb"), traded(AUSDT=5), QUOTES)
    with pytest.raises(queries.QueryError, match="leave out as_of, or top"):
        ask(path, as_of=NOW + DAY)
    months = tmp_path / "months.duckdb"
    dataset = Dataset.parse("um/monthly/klines/1m")
    month = {D(2024, 1, 1): (1, NOW - DAY)}
    record(months, {"AUSDT": month}, dataset=dataset, start=D(2024, 1, 1), end=D(2024, 1, 1))
    with reader(months) as con, pytest.raises(queries.QueryError, match="top is for daily files"):
        queries.universe(con, "2024-01-01", "2024-01-31", top=1, dataset=str(dataset))
    with pytest.raises(ValueError, match="by must be one of volume, not 'trades'"):
        ask(path, by="trades")
    with pytest.raises(ValueError, match="top must be 1 to"):
        ask(path, top=0)


def test_the_matrix_is_written_the_same_and_the_record_s_connection_is_left_as_it_was(
    path, tmp_path, monkeypatch
):
    elsewhere = tmp_path / "other" / "v.duckdb"
    volumes.write(elsewhere, traded(AUSDT=5, BUSDT=9, DUSDC=1), QUOTES)
    monkeypatch.setenv("AVAILABILITY_VOLUME_DB", str(elsewhere))
    with reader(path) as con:
        of = "SELECT database_name, path FROM duckdb_databases() ORDER BY ALL"
        before = con.execute(of).fetchall()
        queries.write_universe(con, tmp_path / "u.parquet", START, END, top=1)
        want = queries.universe(con, START, END, top=1)
        assert con.execute("SELECT * FROM duckdb_tables() WHERE temporary").fetchall() == []
        assert con.execute(of).fetchall() == before
    got = duckdb.read_parquet(str(tmp_path / "u.parquet"))
    assert tuple(got.columns) == want.columns == ("date", "BUSDT", "DUSDC")
    assert got.fetchall() == want.rows


def test_a_notebook_has_frames_of_volumes_and_of_the_top(path):
    volumes.write(path.with_name("volume.duckdb"), traded(AUSDT=5, BUSDT=9, DUSDC=1), QUOTES,
                  lacking=[(END, "USDC", 1)])  # fmt: skip
    record = queries.open(path)
    with record:
        frame = record.universe(START, END, top=1, quote_asset="USDT")
        assert set(frame.dtypes) == {pd.BooleanDtype()}
        assert frame["BUSDT"].all()
        one = record.volume("AUSDT", START)
    assert dict(one.dtypes.astype(str)) == {
        "date": "datetime64[us]", "trades": "Int64",
        **dict.fromkeys(("open", "high", "low", "close", "volume", "quote_volume",
                         "taker_buy_volume", "taker_buy_quote_volume"), "float64"),
    }  # fmt: skip
    assert one["quote_volume"].tolist() == [5.0] * 7
    assert record.volume("AUSDT", "2023-01-01", "2023-01-02").dtypes.equals(one.dtypes)
    ranked = record.rankings(END)
    assert dict(ranked.dtypes.astype(str)) == {
        "symbol": "str", "quote_asset": "str", "quote_volume": "float64", "share": "Float64",
        "percentile": "float64",
        **dict.fromkeys(("rank", "rank_change_1d", "rank_change_7d", "rank_change_14d",
                         "rank_change_30d", "days_available", "trades"), "Int64"),
    }  # fmt: skip
    by_symbol = ranked.set_index("symbol")
    assert by_symbol["rank"].to_dict() == {"DUSDC": 1, "BUSDT": 1, "AUSDT": 2}
    assert by_symbol.loc["DUSDC", "share"] is pd.NA
    assert by_symbol.loc["AUSDT", "rank_change_30d"] is pd.NA
    assert ranked.attrs["notes"][0].startswith(f"of {END} files are pending")


def test_the_command_takes_the_top_of_each_quote_asset(path, tmp_path, monkeypatch):
    volumes.write(path.with_name("volume.duckdb"), traded(AUSDT=5, BUSDT=9, DUSDC=1), QUOTES)
    monkeypatch.setenv("AVAILABILITY_DB", str(path))

    def run(*more):
        done = CliRunner().invoke(
            cli, ["query", "universe", "2024-01-02", "2024-01-03", "--top", "1", *more]
        )
        assert done.exit_code == 0, done.output
        return done.stdout

    assert run("--by", "volume", "--csv") == (
        "date,BUSDT,DUSDC\n2024-01-02,true,true\n2024-01-03,true,true\n"
    )
    assert json.loads(run("--quote", "USDC", "--json")) == [
        {"date": "2024-01-02", "DUSDC": True}, {"date": "2024-01-03", "DUSDC": True},
    ]  # fmt: skip
    target = tmp_path / "u.csv"
    run("--out", str(target))
    assert target.read_text() == run("--csv")
    assert "2 symbols" in run()


SPAN = days(D(2024, 1, 1), D(2024, 1, 6))
SYMBOLS = sorted(QUOTES)
PLACES = st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(SPAN))


def base(symbol):
    return symbol.removesuffix("SETTLED")


def top_cell(symbol, date, values, files, lacking, top):
    """Whether the symbol was in the top of the day before, by counting all that could still be."""
    before = date - DAY
    there = {s: v for (s, d), v in values.items() if d == before}
    if not there:
        return None
    open_files = lacking.get((before, QUOTES[symbol]), 0)
    name = symbol if symbol in there else None
    if name is None:
        family = sorted((s for s in there if base(s) == base(symbol)), key=len)
        name = next((s for s in family[:1] if (s, date) not in files), None)
    if name is None:
        return None if open_files else False
    others = {v for s, v in there.items() if QUOTES[s] == QUOTES[symbol]}
    best = sorted(others, reverse=True).index(there[name])
    worst = sorted([*others, *(1e9 + n for n in range(open_files))], reverse=True)
    in_best, in_worst = best < top, worst.index(there[name]) < top
    return in_best if in_best == in_worst else None


def both(one, other):
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


@settings(max_examples=40)
@given(
    files=st.sets(PLACES, max_size=30),
    values=st.dictionaries(PLACES, st.integers(1, 4), max_size=30),
    lacking=st.dictionaries(
        st.tuples(st.sampled_from(SPAN), st.sampled_from(["USDT", "USDC"])), st.integers(1, 3),
        max_size=4,
    ),
    top=st.integers(1, 3),
    early=st.booleans(),
)  # fmt: skip
def test_the_top_is_that_of_a_count_by_hand(files, values, lacking, top, early):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.duckdb"
        at = published(SPAN[-1], hour=2) if early else NOW
        listing = {s: {d: (1, published(d)) for n, d in files if n == s} for s in SYMBOLS}
        record(path, listing, at=at, start=SPAN[0], end=SPAN[-1])
        volumes.write(
            path.with_name("volume.duckdb"), {k: float(v) for k, v in values.items()}, QUOTES,
            lacking=[(d, q, n) for (d, q), n in lacking.items()],
        )  # fmt: skip
        with reader(path) as con:
            without = queries.universe(con, SPAN[0], SPAN[-1])
            found = queries.universe(con, SPAN[0], SPAN[-1], top=top, unknown="mark")
            with pytest.raises(queries.NotProbedError):  # of the last of 2023 nothing was read
                queries.universe(con, SPAN[0], SPAN[-1], top=top)
    want = {
        symbol: [
            both(cell, top_cell(symbol, date, values, files, lacking, top))
            for date, cell in cells(without, symbol).items()
        ]
        for symbol in without.columns[1:]
    }
    want = {symbol: column for symbol, column in want.items() if set(column) != {False}}
    assert found.columns == ("date", *want)
    assert found.column("date") == SPAN
    assert {symbol: found.column(symbol) for symbol in want} == want
