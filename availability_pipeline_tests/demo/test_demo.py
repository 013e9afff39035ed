"""The demo runs from nothing to its table, says only what is so, and leaves nothing running."""

import datetime as dt
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from availability_pipeline.archive.datasets import CATALOGUE
from availability_pipeline.demo import run
from availability_pipeline.demo.archive import DATASETS, last_month
from availability_pipeline.queries.volume import ALL_NAME, PREDECESSOR_NAME
from availability_pipeline.record import volumes
from availability_pipeline.record.connection import reader
from availability_pipeline.record.status import scope
from availability_pipeline_tests.support import demo_record
from availability_pipeline_tests.support.demo_process import (
    COMMAND,
    environment,
    free_port,
    left_of,
    run_as_printed,
    run_demo,
)
from availability_pipeline_tests.support.helpers import PATIENCE, wait_for

COMMAND_OF_UPDATE = "binance-availability update manual"
LAST = demo_record.DATE - dt.timedelta(1)
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
needs_proc = pytest.mark.requires("proc")


def normal(line: str) -> str:
    """A line without what differs from run to run: how long it took, and the port."""
    line = re.sub(r"\d+\.\d s\b", "N s", re.sub(r"127\.0\.0\.1:\d+", "HOST", line))
    return re.sub(r"\s+", " ", line).strip()


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo of the documents' day: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    done = run_demo(folder, "--no-ui", "--date", str(demo_record.DATE))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    return folder, done.stdout


def test_the_demo_shows_the_whole_record_and_leaves_nothing(past: tuple[Path, str]) -> None:
    folder, printed = past
    row = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.split()}
    assert row["BTCUSDT"][-3:] == ["120", "0", "live"]
    assert row["NMRUSDT"][-3:] == ["119", "1", "live"]
    assert row["MATICUSDT"][-1] == "ended"
    assert row["AERGOUSDTSETTLED"][0] == "settled"
    assert row["币安人生USDT"][-1] == "live"
    assert row["um/daily/klines/1d"] == ["17", "1,437", "2026-07-27", "2026-11-23", "0"]
    assert row["spot/daily/aggTrades"][-1] == "1"
    assert row["um/monthly/fundingRate"][2:] == ["2026-01", "2026-10", "0"]
    assert "daily update" in printed
    assert printed.count("appeared") == 5
    assert printed.count("replaced") == 1
    assert (folder / "demo-home" / "availability.duckdb").exists()
    assert not (folder / "the-users-own.duckdb").exists()
    assert left_of(folder) == []


def test_the_readme_shows_what_the_demo_prints(past: tuple[Path, str]) -> None:
    """To the number, but for seconds and port: on the day of the documents it is the same."""
    printed = {normal(line) for line in past[1].splitlines()}
    block = README.partition("```console\n$ make demo\n")[2].partition("```")[0]
    shown = [line for line in map(normal, block.splitlines()) if line]
    with_ui = ("…", "Dagster UI:", "Ask it, in another", "Ctrl-C ends")
    stale = [s for s in shown if s not in printed and not s.startswith(with_ui)]
    assert len(shown) > 20
    assert not stale


def test_the_record_of_the_documents_is_the_demo_s(past: tuple[Path, str], tmp_path: Path) -> None:
    """`demo_record` writes in a few seconds what the demo writes through Dagster and S3."""
    demo_record.write(tmp_path / "fast.duckdb")

    def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
        with reader(path) as con:
            names = "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal"
            columns: dict[str, list[str]] = {}
            for table, column in con.execute(names).fetchall():
                if column != "run_id" and not column.endswith("etag"):  # the files have contents
                    columns.setdefault(table, []).append(column)
            return {
                table: con.execute(
                    f"SELECT {', '.join(sorted(chosen))} FROM {table} ORDER BY ALL"
                ).fetchall()
                for table, chosen in columns.items()
            }

    fast, through_dagster = (
        content(tmp_path / "fast.duckdb"),
        content(past[0] / "demo-home" / "availability.duckdb"),
    )
    assert len(fast["revisions"]) == 10
    assert len(fast["datasets"]) == 5
    assert set(fast) == set(through_dagster)
    assert [table for table in fast if fast[table] != through_dagster[table]] == []


def test_the_volumes_of_the_documents_are_the_demo_s(
    past: tuple[Path, str], tmp_path: Path
) -> None:
    demo_record.write(tmp_path / "fast.duckdb")
    demo_record.write_volume(tmp_path / "fast.duckdb")

    def content(path: Path) -> list[list[tuple[object, ...]]]:
        with volumes.reader(path) as con:
            asked = ("SELECT * EXCLUDE (etag) FROM daily_volume", "FROM symbols", "FROM lacking")
            return [con.execute(f"{sql} ORDER BY ALL").fetchall() for sql in asked]

    fast = content(tmp_path / "volume.duckdb")
    assert fast == content(past[0] / "demo-home" / "volume.duckdb")
    assert [len(rows) for rows in fast][1:] == [27, 0]


def test_what_it_tells_to_ask_works_as_it_stands(past: tuple[Path, str]) -> None:
    answers = run_as_printed(past[0], past[1].splitlines())
    assert set(answers) == {
        *("query holes", "query snapshot 2026-11-23", "query coverage BTCUSDT", "status"),
        "query rankings 2026-11-23 --quote USDT",
    }
    assert "NMRUSDT" in answers["query holes"]
    assert "14 available, 3 pending" in answers["query snapshot 2026-11-23"]
    assert answers["query coverage BTCUSDT"].startswith("5 datasets\n")
    assert "ETHUSDT" in answers["query rankings 2026-11-23 --quote USDT"]
    assert "never ran here" not in answers["status"]
    assert "runs were started by hand" in answers["status"]
    assert str(past[0] / "demo-home" / "availability.duckdb") in answers["status"]


def test_each_1d_file_of_the_demo_is_read_and_ranked(past: tuple[Path, str]) -> None:
    home = past[0] / "demo-home"
    with reader(home / "availability.duckdb") as con:
        recorded = con.execute(
            """SELECT split_part(dataset, '/', 1), period, symbol FROM availability
            WHERE dataset LIKE '%/daily/klines/1d' AND status = 'available' ORDER BY ALL"""
        ).fetchall()
    with volumes.reader(home / "volume.duckdb") as con:
        read = con.execute("SELECT market, date, symbol FROM klines ORDER BY ALL").fetchall()
        assert con.execute("SELECT count(*) FROM files WHERE problem IS NOT NULL").fetchall() == [
            (0,)
        ]
    assert read == recorded
    assert len(read) == 1437 + 1079
    for name, rows in ((ALL_NAME, len(read)), (PREDECESSOR_NAME, None)):
        ranked = duckdb.read_parquet(str(home / "rankings" / name)).shape[0]
        assert ranked == rows if rows else ranked > 1000


def test_nothing_is_unknown_of_any_dataset_up_to_the_demo_s_day(past: tuple[Path, str]) -> None:
    """Each is filled from the archive's first period on; what comes after the day is another's."""
    with reader(past[0] / "demo-home" / "availability.duckdb") as con:
        for dataset in DATASETS:
            last = last_month(LAST) if dataset.monthly else LAST
            possible = dataset.periods(CATALOGUE[dataset.kind].first, last)
            t = scope(con, dataset)
            probed = con.execute(f"SELECT date FROM {t.probes} ORDER BY date").fetchall()
            assert [date for (date,) in probed] == possible, dataset


def test_an_update_after_the_demo_does_not_mix_the_real_archive_in(past: tuple[Path, str]) -> None:
    shell = f". demo-home/env; {COMMAND_OF_UPDATE}"
    done = subprocess.run(
        ["sh", "-c", shell], cwd=past[0], env={"PATH": "/usr/bin:/bin", "HOME": str(past[0])},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot list s3://data.binance.vision" in done.stderr
    assert "http://127.0.0.1:" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--date", "2026-11-24"), "give --no-ui with it"),
        (("--date", "2020-01-22", "--no-ui"), "the first with a sample is 2020-01-23"),
        (("--date", "2999-01-01", "--no-ui"), "is not over"),
    ],
)
def test_a_date_that_makes_no_sense_is_wrong_usage(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = run_demo(tmp_path, *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (tmp_path / "demo-home").exists()


@needs_proc
def test_ctrl_c_in_the_middle_of_a_run_ends_it(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--no-ui"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for((tmp_path / "demo-home" / "availability.duckdb").exists)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) in {1, 130}
    finally:
        process.kill()
        process.wait()
    assert left_of(tmp_path) == []


def test_a_taken_port_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run_demo(tmp_path, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "choose another with --port" in done.stderr
    assert not (tmp_path / "demo-home").exists()


def test_a_folder_the_demo_did_not_make_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "demo-home" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("42")
    monkeypatch.chdir(tmp_path)
    assert run.run(ui=False) == 1
    assert "was not made by a demo" in capsys.readouterr().err
    assert precious.read_text() == "42"


def test_without_moto_the_demo_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "moto.server", None)
    assert run.run(ui=True, port=free_port()) == 1
    assert "binance-availability[demo]" in capsys.readouterr().err
