"""Texts that others choose (tags, symbols, names of buckets, paths): shown as what they are."""

import datetime as dt
import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from availability_pipeline import logs, settings
from availability_pipeline.archive.datasets import is_symbol
from availability_pipeline.cli.main import cli
from availability_pipeline.cli.operate import print_status
from availability_pipeline.copies.destinations import destination
from availability_pipeline.errors import ExportError
from availability_pipeline.masking import printable
from availability_pipeline.orchestration.instance import launcher
from availability_pipeline.record import write
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.report import data as report_load
from availability_pipeline.report import html
from availability_pipeline_tests.support.helpers import D, flat, make_listing
from availability_pipeline_tests.support.receiver import SECRET

ROOT = Path(__file__).parents[2]
NOW = dt.datetime(2024, 2, 1, tzinfo=dt.UTC)
TITLE, CLEAR = "\x1b]0;pwned\x07", "\x1b[2J"  # sets a terminal's title; clears its screen
FILLER, HEBREW, BRAILLE = "A\u3164USDT", "אבUSDT", "A\u2800USDT"

SHOWN = [
    ("BTCUSDT", "BTCUSDT"),
    ("币安人生USDT", "币安人生USDT"),
    (FILLER, r"A\u3164USDT"),
    (HEBREW, r"\u05d0\u05d1USDT"),
    ("\u0627USDT", r"\u0627USDT"),  # Arabic
    (BRAILLE, r"A\u2800USDT"),
    ("A\u0301USDT", r"A\u0301USDT"),  # a mark on the letter before
    ("\u202eTDSU", r"\u202eTDSU"),
    ("A\U000e0041", r"A\U000e0041"),  # a tag, invisible
    (f"{TITLE}{CLEAR}", r"\x1b]0;pwned\x07\x1b[2J"),
    ("\x9b2J", r"\x9b2J"),
    ("one\ntwo\tthree", "one two three"),
]


@pytest.mark.parametrize(("text", "shown"), SHOWN)
def test_a_text_is_shown_as_what_it_is(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_whatever_it_is_it_is_one_line_and_moves_no_cursor(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    if text.isascii() and text.isprintable():
        assert shown == text


def test_the_log_has_no_control_codes() -> None:
    """Who follows it with `tail` has a terminal that would obey them."""
    line = logs.line(NOW, "ERROR", f"job{CLEAR}", f"{TITLE} partition {HEBREW}\nmore")
    assert line.isprintable()
    assert line.endswith(r"\x1b]0;pwned\x07 partition \u05d0\u05d1USDT more")


def test_a_run_s_tags_reach_the_log_without_control_codes() -> None:
    from availability_pipeline.orchestration.instance.run_log import _about

    tags = {"dagster/partition": f"2024-01-01{TITLE}"}
    assert "\x1b" not in logs.line(NOW, "ERROR", "job", _about(tags, "run", "failed"))


@pytest.mark.parametrize("pid", ["abc", "-1", "0", "1e9", "9" * 400, " 1", "１２", TITLE])
@pytest.mark.parametrize("names", [launcher.OLDER.keys(), launcher.OLDER.values()])
def test_a_process_id_that_is_not_one_crashes_nothing(pid: str, names) -> None:
    """Anybody may put tags on runs; `update` and the daemon look at those of all that run."""
    host_tag, pid_tag = names

    @dg.job
    def idle(): ...

    with dg.DagsterInstance.ephemeral() as instance:
        tags = {host_tag: platform.node(), pid_tag: pid}
        run = instance.create_run_for_job(idle, status=dg.DagsterRunStatus.STARTED, tags=tags)
        assert launcher.fail_vanished(instance) == []
        with launcher.watching(instance):
            pass
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED


# --- symbols -----------------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A record with symbols that the grammar admits and no eye can tell from others."""
    path = tmp_path / "record.duckdb"
    symbols = ["AUSDT", FILLER, HEBREW]
    assert all(map(is_symbol, symbols))
    found = {symbol: flat(D(2024, 1, 1), D(2024, 1, 9)) for symbol in symbols}
    with writer(path) as con:
        listing = make_listing(D(2024, 1, 1), D(2024, 1, 9), found)
        write.write_probe(con, listing, probed_at=NOW, run_id="r")
    monkeypatch.setenv("AVAILABILITY_DB", str(path))
    return path


def test_a_table_shows_such_symbols_escaped_and_data_has_them_as_they_are(record) -> None:
    def say(*words: str) -> str:
        done = CliRunner().invoke(cli, ["query", "snapshot", "2024-01-05", *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    table = say()
    assert r"A\u3164USDT" in table
    assert r"\u05d0\u05d1USDT" in table
    assert FILLER not in table
    assert HEBREW not in table
    assert [row["symbol"] for row in json.loads(say("--json"))] == sorted(["AUSDT", FILLER, HEBREW])
    assert f"{HEBREW}," in say("--csv")


def test_an_error_shows_them_escaped(record) -> None:
    done = CliRunner().invoke(cli, ["query", "timeline", f"B\u3164USDT{TITLE}"])
    assert done.exit_code == 1
    assert done.stderr.strip().isprintable()
    assert r"B\u3164USDT" in done.stderr


def test_the_report_shows_them_escaped(record) -> None:
    with reader(record) as con:
        data = report_load.load(con, threshold=0.95, drawn_at=NOW)
    page = html.page(data)
    assert json.dumps(printable(FILLER))[1:-1] in page
    assert FILLER not in page
    assert HEBREW not in page


def test_status_obeys_no_codes_in_the_reasons_of_runs(capsys) -> None:
    run = {
        "launched_at": NOW, "job": f"j{CLEAR}", "launched_by": "hand", "status": "failure",
        "seconds": 1.0, "error": f"why {TITLE}",
    }  # fmt: skip
    answer = {
        "history": True, "daemon": {"last_heartbeat": None, "running": False, "errors": []},
        "database": f"/db{CLEAR}", "log": "/log", "schedules": [], "runs": [run],
        "errors": [f"line {TITLE}"], "slo": [], "next": f"do {CLEAR}",
    }  # fmt: skip
    print_status(answer, {}, NOW)
    said = capsys.readouterr().out
    assert "why" in said
    assert all(line.isprintable() for line in said.splitlines())


# --- settings and arguments --------------------------------------------------------------------

ADDRESS = f"scheme://user:{SECRET}@host/path"


@pytest.mark.parametrize("name", ["DB", "LOG_FILE", "BACKUP_DIR", "REPORT_DIR"])
@pytest.mark.parametrize("value", [ADDRESS, ADDRESS.replace("//", "/")])
def test_a_path_that_is_an_address_is_refused_and_its_password_not_printed(
    monkeypatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"AVAILABILITY_{name}", value)
    with pytest.raises(settings.SettingsError, match="give a path, not an address") as caught:
        settings.load()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ["backup", ADDRESS], ["restore", ADDRESS], ["report", "--out", ADDRESS],
        ["export", ADDRESS], ["export", ADDRESS.replace("//", "/")],
        ["query", "universe", "2024-01-01", "2024-01-02", "--out", ADDRESS],
    ],
    ids=lambda words: " ".join(words[:2]),
)  # fmt: skip
def test_so_is_an_argument_and_no_folder_is_made(record, tmp_path, monkeypatch, words) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(cli, words)
    assert done.exit_code in (1, 2)
    assert SECRET not in done.output
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("bucket", [TITLE, "a b", "a/b", "", "a", "x" * 300, "b\u202e"])
def test_a_bucket_has_a_bucket_s_name(monkeypatch, bucket: str) -> None:
    with pytest.raises(ExportError) as caught:
        destination(f"s3://{bucket}")
    if bucket and "/" not in bucket and "\x1b" not in bucket:
        monkeypatch.setenv("AVAILABILITY_S3_BUCKET", bucket)
        with pytest.raises(settings.SettingsError, match="name of a bucket"):
            settings.load()
    assert caught.value


def test_a_bucket_s_name_of_control_codes_reaches_no_terminal() -> None:
    env = {**os.environ, "AVAILABILITY_S3_BUCKET": f"b{TITLE}"}
    for words in (["status"], ["export", f"s3://b{TITLE}/x"]):
        done = subprocess.run(
            [sys.executable, "-m", "availability_pipeline.cli", *words],
            env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode
        assert "\x1b" not in done.stdout + done.stderr
        assert "\x07" not in done.stdout + done.stderr


# --- what is installed -------------------------------------------------------------------------


def needed(*asked: Requirement) -> set[str]:
    """All distributions that are needed here for these."""
    found, todo = set(), [(one.name, frozenset(one.extras)) for one in asked]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in found:
            continue
        found.add((name, extras))
        try:
            requires = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:  # of an extra that is not installed here
            continue
        for text in requires:
            one = Requirement(text)
            if one.marker is None or any(
                one.marker.evaluate({"extra": extra}) for extra in extras or {""}
            ):
                todo.append((one.name, frozenset(one.extras)))
    return {re.sub(r"[-_.]+", "-", name).lower() for name, _ in found}


def test_every_distribution_that_is_installed_with_us_is_pinned() -> None:
    """One that is not pinned comes in whatever version is the newest on that day."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    asked = [Requirement(text) for some in [project["dependencies"], *extras] for text in some]
    names = needed(*[one for one in asked if one.name != project["name"]])
    assert {"dagster-postgres", "psycopg2-binary", "fsspec", "duckdb"} <= names
    assert sorted(names - pinned) == []
