"""Each snippet of docs/snippets works as it stands, against a real publication over HTTP."""

import datetime as dt
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from availability_pipeline.copies import destinations, publish
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support import mirrored, published
from availability_pipeline_tests.support.download_host import download_host
from availability_pipeline_tests.support.helpers import PATIENCE, D
from availability_pipeline_tests.support.httpfs import python_with_httpfs
from availability_pipeline_tests.support.requirements import need

ROOT = Path(__file__).parents[2]
SNIPPETS = ROOT / "docs" / "snippets"
DATASET = "um/daily/klines/1m"
NOW = dt.datetime(2024, 6, 2, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A host with files of two symbols, and a publication of the record of them."""
    folder = tmp_path_factory.mktemp("site")
    with download_host() as host:
        mirrored.publish(host, "AUSDT", D(2024, 1, 1), D(2024, 3, 10))
        keys = mirrored.publish(host, "BUSDT", D(2024, 1, 5), D(2024, 3, 10), size=5000)
        for key in keys[9:12]:
            del host.files[key]
        mirrored.record(folder / "record.duckdb", host)
        to = destinations.destination(str(folder / "register"))
        publish.publish(folder / "record.duckdb", to, publish.Form(), now=NOW)
        register = published.content(folder / "register")
        host.files |= {f"register/{name}": content for name, content in register.items()}
        yield host


def run(*command, cwd, **more):
    ours = ("AVAILABILITY_", "DAGSTER_", "XDG_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    env |= {"HOME": str(cwd), "PATH": f"{Path(sys.executable).parent}:{env['PATH']}", **more}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False,
        timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.requires("jq")
def test_the_pieces_are_joined_by_hand_as_the_document_says(site, tmp_path):
    need("curl")
    page = (ROOT / "docs" / "register.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```sh\n(base=.*?)```", page, re.DOTALL)
    script = block.replace("https://register.example.org", f"{site.url}/register")
    assert script != block
    said = run("bash", "-euo", "pipefail", "-c", script, cwd=tmp_path)
    assert said == "record.duckdb: OK\n"
    with reader(tmp_path / "record.duckdb") as con:
        assert con.execute("SELECT count(*) FROM files").fetchall() == [(133,)]


@pytest.mark.requires("jq")
def test_curl_and_jq(site, tmp_path):
    need("curl")
    url = f"{site.url}/register"
    said = run("sh", SNIPPETS / "symbol.sh", url, DATASET, "BUSDT", cwd=tmp_path)
    assert said == (
        '{"first":"2024-01-05","last":"2024-03-10","files":63,"holes":3,"state":"live"}\n'
        "2024-01-14 2024-01-16\n"
    )


def test_first_and_last_date_with_python_alone(site, tmp_path):
    call = (sys.executable, "-I", SNIPPETS / "first_last.py", f"{site.url}/register")
    assert run(*call, DATASET, "BUSDT", cwd=tmp_path) == "2024-01-05 2024-03-10\n"
    for dataset, symbol, why in (
        ("um/daily/trades", "BUSDT", f"um/daily/trades is not recorded there; {DATASET}"),
        (DATASET, "CUSDT", f"CUSDT is not recorded in {DATASET}"),
    ):
        done = subprocess.run([*call, dataset, symbol], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(why)


@pytest.mark.requires("frames")
def test_pandas(site, tmp_path):
    said = run(need("frames"), SNIPPETS / "pandas_files.py", f"{site.url}/register", DATASET,
               cwd=tmp_path)  # fmt: skip
    assert [line.split() for line in said.splitlines()[2:]] == [
        ["AUSDT", "2024-01-01", "2024-03-10", "70"],
        ["BUSDT", "2024-01-05", "2024-03-10", "63"],
    ]


@pytest.mark.requires("frames")
def test_polars(site, tmp_path):
    said = run(need("frames"), SNIPPETS / "polars_files.py", f"{site.url}/register", DATASET,
               cwd=tmp_path, POLARS_FMT_TABLE_FORMATTING="NOTHING")  # fmt: skip
    assert "shape: (3, 3)" in said
    assert "2024-01-01  55     213000" in said


DUCKDB = """
import pathlib, sys, duckdb
con = duckdb.connect()
con.execute("SET VARIABLE site = '" + sys.argv[2] + "'")
con.execute("SET VARIABLE dataset = '" + sys.argv[3] + "'")
for statement in con.extract_statements(pathlib.Path(sys.argv[1]).read_text()):
    con.execute(statement)
print(con.fetchall())
"""


def test_duckdb_over_http(site, tmp_path):
    said = run(python_with_httpfs(tmp_path), "-c", DUCKDB, SNIPPETS / "duckdb_http.sql",
               f"{site.url}/register", DATASET, cwd=tmp_path)  # fmt: skip
    assert said == "[('BUSDT', 63, 315000), ('AUSDT', 70, 210000)]\n"


def test_aria2_fetches_what_the_copy_plans(site, tmp_path):
    need("aria2")
    said = run("sh", SNIPPETS / "aria2.sh", f"{site.url}/register", DATASET, "BUSDT", "2024-01-10",
               "2024-01-20", cwd=tmp_path, AVAILABILITY_DOWNLOAD_URL=site.url)  # fmt: skip
    assert "a copy of" in said
    got = published.content(tmp_path / "data")
    assert len(got) == 8
    assert {f"data/{name}": content for name, content in got.items()}.items() <= site.files.items()


def test_r(site, tmp_path):
    said = run(need("r"), SNIPPETS / "holes.R", f"{site.url}/register", DATASET, cwd=tmp_path)
    assert "BUSDT 2024-01-14 2024-01-16" in " ".join(said.split())
    assert "[1] 133" in said


def test_every_snippet_is_run_and_stands_in_the_docs():
    tests = Path(__file__).read_text(encoding="utf-8")
    page = (ROOT / "docs" / "register.md").read_text(encoding="utf-8")
    for path in SNIPPETS.iterdir():
        assert f'"{path.name}"' in tests, path.name
        assert f"snippets/{path.name}" in page, path.name
