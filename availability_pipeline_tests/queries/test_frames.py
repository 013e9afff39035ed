"""Answers as pandas, Arrow and polars say the same; and SQL of one's own reads the record alone."""

import datetime as dt
import json
import os
import subprocess
from pathlib import Path

import duckdb
import pytest

from availability_pipeline import queries
from availability_pipeline.extras import MissingExtraError
from availability_pipeline.queries import QueryError, Rows
from availability_pipeline.queries.universe import Universe
from availability_pipeline.record import write
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support.helpers import PATIENCE, D, flat, make_listing
from availability_pipeline_tests.support.requirements import need

ROOT = Path(__file__).parents[2]
FIRST, LAST = D(2024, 1, 1), D(2024, 1, 20)
NOW = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)


def probe(path, files, day=0):
    with writer(path) as con:
        write.write_probe(
            con, make_listing(FIRST, LAST, files), run_id="r", accept_shrunken=True,
            probed_at=NOW + dt.timedelta(day),
        )  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """AUSDT has two runs of holes; BUSDT was settled, and listed again."""
    path = tmp_path_factory.mktemp("record") / "record.duckdb"
    some = flat(FIRST, LAST)
    for day in (5, 6, 7, 12):
        del some[D(2024, 1, day)]
    old, new = flat(FIRST, D(2024, 1, 9), 50), flat(D(2024, 1, 15), LAST, 60)
    steady = {f"S{n}USDT": flat(FIRST, LAST) for n in range(5)}
    probe(path, steady | {"AUSDT": some, "BUSDT": old})
    probe(path, steady | {"AUSDT": some, "BUSDT": new, "BUSDTSETTLED": old}, 1)
    return path


@pytest.fixture
def record(path):
    return queries.open(path)


def test_consecutive_holes_are_one_row(record):
    assert record.holes(symbol="AUSDT")["date"].dt.day.tolist() == [5, 6, 7, 12]
    runs = record.holes(symbol="AUSDT", runs=True)
    assert runs.columns.tolist() == ["symbol", "first", "last", "periods"]
    assert runs["first"].dt.day.tolist() == [5, 12]
    assert runs["last"].dt.day.tolist() == [7, 12]
    assert runs["periods"].tolist() == [3, 1]
    with record.connection() as con:
        single, joined = queries.holes(con), queries.holes(con, runs=True)
    assert sum(joined.column("periods")) == len(single.rows)
    assert single.notes == joined.notes


def test_months_that_follow_each_other_are_one_run(tmp_path):
    from availability_pipeline.archive.datasets import Dataset

    funding = Dataset.parse("um/monthly/fundingRate")
    months = {D(2023, n, 1): (100, NOW) for n in (1, 2, 6, 8, 9)}
    listing = make_listing(D(2023, 1, 1), D(2023, 9, 1), {"AUSDT": months}, dataset=funding)
    with writer(tmp_path / "r.duckdb") as con:
        write.write_probe(con, listing, probed_at=NOW, run_id="r")
    runs = queries.open(tmp_path / "r.duckdb").holes(runs=True, dataset=str(funding))
    assert runs["first"].dt.month.tolist() == [3, 7]
    assert runs["periods"].tolist() == [3, 1]


def test_a_settled_contract_has_the_name_under_which_it_traded(record):
    [renamed] = record.renames().to_dict("records")
    assert (renamed["symbol"], renamed["renamed_to"], renamed["files"]) == (
        "BUSDT", "BUSDTSETTLED", 9,
    )  # fmt: skip
    found = record.original_symbol()
    assert found[["symbol", "original_symbol"]].to_numpy().tolist() == [["BUSDTSETTLED", "BUSDT"]]
    assert found["last"].dt.day.tolist() == [9]
    assert found["observed_at"].tolist() == [renamed["observed_at"]]
    both = record.original_symbol("BUSDTSETTLED")
    assert both["symbol"].tolist() == ["BUSDTSETTLED", "BUSDT"]
    assert both.equals(record.original_symbol("busdt"))
    with pytest.raises(queries.UnknownSymbolError):
        record.original_symbol("NOPE")
    assert record.renames(as_of=NOW + dt.timedelta(hours=1)).empty
    assert record.original_symbol(as_of=NOW + dt.timedelta(hours=1)).empty


# SQL of one's own


def test_sql_answers_with_the_types_of_its_columns(record):
    found = record.sql(
        "SELECT period AS day, count(*) AS n, min(last_modified) AS at, avg(file_size_bytes) AS a, "
        "bool_and(status = 'available') AS whole, NULL AS none, 9::UTINYINT AS small, "
        "170141183460469231731687303715884105727 AS huge "
        "FROM availability WHERE symbol = $symbol AND period <= $last GROUP BY ALL ORDER BY ALL",
        symbol="AUSDT",
        last=D(2024, 1, 5),
    )
    kinds = {name: str(kind) for name, kind in found.dtypes.items()}
    assert kinds["day"] == "datetime64[us]"
    assert kinds["at"] == "datetime64[us, UTC]"
    assert (kinds["n"], kinds["small"], kinds["a"], kinds["whole"]) == (
        "Int64", "Int64", "Float64", "boolean",
    )  # fmt: skip
    assert found["whole"].tolist() == [True, True, True, True, False]
    assert found["huge"].tolist() == [2**127 - 1] * 5
    assert found["a"].isna().tolist() == [False] * 4 + [True]


@pytest.mark.parametrize(
    "text",
    [
        "WITH a AS (SELECT 1 AS one) SELECT * FROM a",
        "FROM range(3)",
        "FROM main.files",
        "FROM Files f JOIN symbols USING (dataset, symbol)",
        "DESCRIBE availability",
        "SUMMARIZE files",
        "SHOW TABLES",
        "FROM information_schema.tables",
        "VALUES (1)",
        "SELECT (SELECT max(period) FROM probes) AS last",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) FROM r",
    ],
)
def test_sql_reads_all_of_the_record(record, text):
    assert len(record.sql(text))


@pytest.mark.parametrize(
    "text",
    [
        "FROM '{secret}'",
        "FROM read_csv('{secret}')",
        "SELECT (SELECT content FROM read_text('{secret}'))",
        "FROM read_blob('{secret}')",
        "FROM glob('/*')",
        "FROM files, LATERAL (FROM '{secret}')",
        'WITH "{secret}" AS (SELECT 1) SELECT * FROM (FROM "{secret}")',
        'WITH a AS (FROM "{secret}"), "{secret}" AS (SELECT 1) FROM a',
        "DESCRIBE FROM '{secret}'",
        "SHOW '{secret}'",
        "SUMMARIZE '{secret}'",
        "FROM query('FROM read_text(''{secret}'')')",
        "FROM query_table('{secret}')",
        "FROM 'https://127.0.0.1:9/x.parquet'",
        "SELECT * FROM files WHERE symbol IN (SELECT content FROM read_text('{secret}'))",
        "SELECT 1 UNION ALL SELECT count(*) FROM read_text('{secret}')",
        "SELECT [x.content FOR x IN (SELECT list(t) FROM read_text('{secret}') t)]",
        "COPY files TO '{secret}'",
        "ATTACH '{secret}' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 1",
        "PRAGMA version",
        "DROP TABLE files",
        "CREATE TEMP TABLE t AS SELECT 1",
        "EXPLAIN ANALYZE FROM files",
        "EXPORT DATABASE '{secret}'",
        "FROM secret",  # a variable of Python
        "FROM pandas_scan(1, 2, 3)",
        "SELECT 1; DROP TABLE files",
        "SELECT 1; SELECT 2",
        "SELEC",
        "SELECT nothing FROM files",
        "SELECT $symbol",
        "SELECT 1 AS a, 2 AS a",
    ],
)
def test_sql_reads_nothing_else_and_changes_nothing(path, record, tmp_path, text):
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,s3cret\n")
    before = path.read_bytes()
    with pytest.raises(QueryError) as raised:
        record.sql(text.replace("{secret}", str(secret)))
    said = str(raised.value)
    assert "\n" not in said
    assert "s3cret" not in said
    assert path.read_bytes() == before
    assert secret.read_text() == "a,b\n1,s3cret\n"
    with record, pytest.raises(QueryError):
        record.sql(text.replace("{secret}", str(secret)))


def test_sql_that_is_not_text_says_so(record):
    with pytest.raises(TypeError, match="text must be SQL as text, not 5"):
        record.sql(5)
    with pytest.raises(ValueError, match="text is empty; give SQL"):
        record.sql(" ")
    with pytest.raises((QueryError, TypeError)):
        record.sql("SELECT $it", it=object())


def test_sql_leaves_other_connections_of_the_process_as_they_are(path, record, tmp_path):
    with duckdb.connect(str(path), read_only=True) as other:
        record.sql("FROM files")
        other.execute(f"COPY (FROM probes) TO '{tmp_path / 'out.csv'}'")
    assert (tmp_path / "out.csv").exists()


# Other kinds of frames


@pytest.mark.parametrize(("frames", "module"), [("arrow", "pyarrow"), ("polars", "polars")])
def test_without_the_library_one_line_says_what_to_install(path, frames, module):
    """The environment of the tests has neither: with pyarrow, pandas would keep texts otherwise."""
    line = f"this needs {module}, which is not installed; pip install {module}"
    with pytest.raises(MissingExtraError, match=line):
        queries.open(path, frames=frames)
    with pytest.raises(MissingExtraError, match=line):
        getattr(Rows(("a",), [(1,)]), frames)()


def test_a_kind_of_frames_that_is_not_known(path):
    with pytest.raises(ValueError, match="frames must be one of pandas, arrow, polars, not 'R'"):
        queries.open(path, frames="R")


SAME = """
import datetime as dt, json, sys, warnings
import pyarrow as pa, polars as pl
from availability_pipeline import queries
warnings.simplefilter("ignore")
path = sys.argv[1]
record, arrow, polars = (queries.open(path, frames=f) for f in ("pandas", "arrow", "polars"))
calls = {
    "snapshot": ("2024-01-05",), "timeline": ("AUSDT",), "universe": ("2024-01-01", "2024-01-20"),
    "listings": (), "symbol_coverage": ("AUSDT",), "holes": (), "changes": (), "revisions": (),
    "renames": (), "original_symbol": (), "summary": (),
    "sql": ("SELECT *, 1.5 AS x, NULL AS none FROM availability WHERE symbol = 'AUSDT'",),
}
found = {}
for name, args in calls.items():
    with record.connection() as con:
        rows = getattr(queries, name)(con, *args)
    table, frame = getattr(arrow, name)(*args), getattr(polars, name)(*args)
    assert isinstance(table, pa.Table) and isinstance(frame, pl.DataFrame)
    assert table.column_names == frame.columns == list(rows.columns), name
    assert table.to_pylist() == frame.to_dicts() == rows.dicts(), name
    assert len(getattr(record, name)(*args)) == len(rows.rows)
    assert json.loads(table.schema.metadata[b"notes"]) == list(rows.notes)
    found[name] = {n: [str(table.schema.field(n).type), str(frame.schema[n])] for n in rows.columns}
empty = queries.Rows(("date", "symbol", "available"), [])
assert (empty.arrow().num_rows, empty.polars().height) == (0, 0)
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as said:
    polars.snapshot("2024-01-05", quote_asset="USDT"), polars.holes("ausdt")
found["said"] = [str(one.message) for one in said]
print(json.dumps(found))
"""


@pytest.mark.requires("frames")
def test_arrow_and_polars_say_what_the_rows_say(path):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [need("frames"), "-W", "error", "-c", SAME, str(path)],
        env=env, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["snapshot"] == {
        "symbol": ["string", "String"],
        "file_size_bytes": ["int64", "Int64"],
        "last_modified": [
            "timestamp[us, tz=UTC]",
            "Datetime(time_unit='us', time_zone='UTC')",
        ],
    }
    assert found["universe"]["date"] == ["date32[day]", "Date"]
    assert found["universe"]["AUSDT"] == ["bool", "Boolean"]
    assert found["holes"]["date"] == ["date32[day]", "Date"]
    assert found["sql"]["none"] == ["string", "String"]
    assert any("ausdt was read as AUSDT" in line for line in found["said"])


def test_a_universe_has_truths_whatever_its_symbols_are_called():
    """A symbol may be called like a column of another question."""
    assert Universe(("date", "open", "rank"), []).kind("rank") == "truth"
