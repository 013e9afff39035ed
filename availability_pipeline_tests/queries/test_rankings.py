"""The ranks of a date are those of an independent count, for each quote asset and contract.

If this fails, a backtest trades a universe that nobody could have known.
"""

import datetime as dt
from collections import defaultdict
from fractions import Fraction

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from availability_pipeline.queries import rankings, write_rankings
from availability_pipeline.queries.answers import NotProbedError, QueryError
from availability_pipeline.record import volumes
from availability_pipeline_tests.support.helpers import D

FIRST = D(2024, 1, 1)
NOW = dt.datetime(2024, 7, 1, 5, 30, tzinfo=dt.UTC)
QUOTES = {"AUSDT": "USDT", "BUSDT": "USDT", "CUSDC": "USDC", "DUSDC": "USDC"}
SYMBOLS = [name + settled for name in QUOTES for settled in ("", "SETTLED", "SETTLEDSETTLED")]


def quote_of(symbol):
    return QUOTES[symbol.replace("SETTLED", "")]


def write(path, values, lacking=()):
    """Volumes of these (symbol, date) -> quote volume, and dates with files that are not read."""
    with volumes.writer(path) as con:
        con.executemany(
            "INSERT INTO symbols VALUES ('um', ?, ?)", [[s, quote_of(s)] for s in SYMBOLS]
        )
        symbols, dates, traded = zip(*((*cell, x) for cell, x in values.items()), strict=True)
        con.execute(
            """INSERT INTO klines SELECT 'um', false, unnest($symbols), unnest($dates), 1, 1, 1, 1,
                1, unnest($traded), 7, 1, 1, NULL""",
            {"symbols": list(symbols), "dates": list(dates), "traded": list(traded)},
        )
        for date, quote in lacking:
            con.execute("INSERT INTO lacking VALUES ('um', ?, ?, 1)", [date, quote])


def contracts(values):
    """(symbol, date) -> the contract whose history it goes on: the plain name where it is free."""
    by_pair = defaultdict(list)
    for symbol, date in values:
        by_pair[symbol.replace("SETTLED", ""), date].append(symbol)
    return {
        (symbol, date): pair if symbol == min(there, key=len) else symbol
        for (pair, date), there in by_pair.items()
        for symbol in there
    }


def model(values, lacking):
    """Every rank, by counting: no windows, no joins."""
    contract = contracts(values)
    ranks = {}
    for symbol, date in values:
        others = [
            values[name, day]
            for name, day in values
            if day == date and quote_of(name) == quote_of(symbol)
        ]
        ranks[symbol, date] = 1 + len({x for x in others if x > values[symbol, date]}), others
    series = {(contract[cell], cell[1]): ranks[cell][0] for cell in values}
    rows = {}
    for (symbol, date), traded in values.items():
        rank, others = ranks[symbol, date]
        whose = contract[symbol, date]
        then = {n: series.get((whose, date - dt.timedelta(n))) for n in (1, 7, 14, 30)}
        total = sum(map(Fraction, others))
        rows[symbol, date] = (
            rank,
            float(Fraction(traded) / total)
            if total and (date, quote_of(symbol)) not in lacking
            else None,
            100 * sum(x > traded for x in others) / (len(others) - 1) if len(others) > 1 else 0.0,
            *(None if was is None else rank - was for was in then.values()),
            sum((whose, date - dt.timedelta(n)) in series for n in range(30)),
        )
    return rows


dates = st.integers(0, 45).map(lambda n: FIRST + dt.timedelta(n))
cells = st.tuples(st.sampled_from(SYMBOLS), dates)
amounts = st.sampled_from([0.0, 1.0, 2.0, 5.0, 1e12])


@settings(max_examples=30)
@given(
    values=st.dictionaries(cells, amounts, min_size=1, max_size=60),
    lacking=st.sets(st.tuples(dates, st.sampled_from(["USDT", "USDC"]))),
)
def test_ranks_are_those_of_a_count_by_hand(tmp_path_factory, values, lacking):
    path = tmp_path_factory.mktemp("ranks") / "volume.duckdb"
    write(path, values, lacking)
    expected = model(values, lacking)
    with volumes.reader(path) as con:
        found = {}
        for date in {date for _, date in values}:
            for row in rankings(con, date).dicts():
                assert row["quote_asset"] == quote_of(row["symbol"])
                assert row["quote_volume"] == values[row["symbol"], date]
                found[row["symbol"], date] = (
                    row["rank"], row["share"], row["percentile"],
                    *(row[f"rank_change_{n}d"] for n in (1, 7, 14, 30)), row["days_available"],
                )  # fmt: skip
        written = write_rankings(con, path.parent / "out", NOW)
    assert set(found) == set(expected)
    for cell, row in expected.items():
        near = tuple(x if x is None else pytest.approx(x, rel=1e-12) for x in row)
        assert found[cell] == near, cell
    assert written["volume-rankings.parquet"] == len(values)
    of_all = duckdb.read_parquet(str(path.parent / "out" / "volume-rankings.parquet")).fetchall()
    assert {(row[2], row[1]): row[4] for row in of_all} == {c: r[0] for c, r in expected.items()}


PREDECESSOR = {
    "date": "DATE", "symbol": "VARCHAR", "rank": "SMALLINT", "quote_volume_usdt": "DOUBLE",
    "trade_count": "BIGINT", "rank_change_1d": "SMALLINT", "rank_change_7d": "SMALLINT",
    "rank_change_14d": "SMALLINT", "rank_change_30d": "SMALLINT", "percentile": "FLOAT",
    "market_share_pct": "FLOAT", "days_available": "TINYINT", "generation_timestamp": "TIMESTAMP",
}  # fmt: skip
"""Its `RANKINGS_SCHEMA` (version 1.5): Parquet's int16, double, float and timestamp[us]."""


def test_the_predecessors_readers_find_their_file_and_only_what_is_in_usdt(tmp_path):
    """Its file summed USDC and BTC as if they were USDT."""
    write(
        tmp_path / "v.duckdb", {("AUSDT", FIRST): 3.0, ("BUSDT", FIRST): 1.0, ("CUSDC", FIRST): 9e9}
    )
    with volumes.reader(tmp_path / "v.duckdb") as con:
        written = write_rankings(con, tmp_path, NOW)
    assert written == {"volume-rankings.parquet": 3, "volume-rankings-timeseries.parquet": 2}
    table = duckdb.read_parquet(str(tmp_path / "volume-rankings-timeseries.parquet"))
    assert dict(zip(table.columns, map(str, table.types), strict=True)) == PREDECESSOR
    rows = table.project("market_share_pct, generation_timestamp").fetchall()
    assert rows == [(75.0, NOW.replace(tzinfo=None)), (25.0, NOW.replace(tzinfo=None))]


def test_changes_are_over_calendar_days_not_over_rows(tmp_path):
    """The predecessor's LAG counted rows: over a hole of a week it compared other days."""
    values = {("BUSDT", FIRST + dt.timedelta(n)): 5.0 for n in range(15)}
    values |= {("AUSDT", FIRST + dt.timedelta(n)): 9.0 if n == 14 else 1.0 for n in (0, 1, 13, 14)}
    write(tmp_path / "v.duckdb", values)
    with volumes.reader(tmp_path / "v.duckdb") as con:
        [row] = [
            r for r in rankings(con, FIRST + dt.timedelta(14)).dicts() if r["symbol"] == "AUSDT"
        ]
    assert (row["rank_change_1d"], row["rank_change_7d"], row["rank_change_14d"]) == (-1, None, -1)
    assert row["days_available"] == 4


def test_a_contracts_history_goes_on_under_its_settled_name(tmp_path):
    """The predecessor began a new one, so a settled contract had no change and 1 day of 30."""
    values = {("BUSDT", FIRST + dt.timedelta(n)): 5.0 for n in range(10)}
    values |= {("AUSDT", FIRST + dt.timedelta(n)): 1.0 for n in range(9)}
    values["AUSDTSETTLED", FIRST + dt.timedelta(9)] = 9.0
    write(tmp_path / "v.duckdb", values)
    with volumes.reader(tmp_path / "v.duckdb") as con:
        [row] = rankings(con, FIRST + dt.timedelta(9), top=1).dicts()
    assert (row["symbol"], row["rank_change_1d"], row["rank_change_7d"]) == ("AUSDTSETTLED", -1, -1)
    assert row["days_available"] == 10


def test_a_file_that_is_late_leaves_the_shares_open_and_says_so(tmp_path):
    """The predecessor's share was of what happened to be there."""
    write(tmp_path / "v.duckdb", {("AUSDT", FIRST): 3.0, ("CUSDC", FIRST): 1.0}, {(FIRST, "USDT")})
    with volumes.reader(tmp_path / "v.duckdb") as con:
        found = rankings(con, FIRST)
    assert found.column("share") == [1.0, None]
    assert found.notes == (
        "of 2024-01-01 files are pending or were not read (1 in USDT): shares are not known yet, "
        "and ranks may change",
    )


def test_of_a_date_that_was_not_read_nothing_is_said(tmp_path):
    write(tmp_path / "v.duckdb", {("AUSDT", FIRST): 3.0})
    with volumes.reader(tmp_path / "v.duckdb") as con:
        with pytest.raises(
            NotProbedError, match="no volume of um was read for 2024-01-02; read are"
        ):
            rankings(con, "2024-01-02")
        with pytest.raises(QueryError, match="no symbol of um has quote asset 'EUR'; there are"):
            rankings(con, FIRST, quote_asset="EUR")
        with pytest.raises(ValueError, match="market must be one of um, cm, spot, not 'option'"):
            rankings(con, FIRST, market="option")
        assert rankings(con, FIRST, quote_asset="usdt", top=1).column("symbol") == ["AUSDT"]


def test_a_rank_is_dense(tmp_path):
    values = {("AUSDT", FIRST): 2.0, ("BUSDT", FIRST): 2.0, ("AUSDTSETTLED", FIRST): 1.0}
    write(tmp_path / "v.duckdb", values)
    with volumes.reader(tmp_path / "v.duckdb") as con:
        assert rankings(con, FIRST).column("rank") == [1, 1, 2]
