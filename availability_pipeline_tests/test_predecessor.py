"""docs/predecessor.md, row by row: what the former guide's readers do is run, or its test named."""

import datetime as dt
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from availability_pipeline import validation
from availability_pipeline.cli.main import cli
from availability_pipeline.orchestration import launch
from availability_pipeline.record import write
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support.helpers import D, days, flat, make_listing
from availability_pipeline_tests.support.s3 import local_archive

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "availability_pipeline_tests"
PAGE = (ROOT / "docs" / "predecessor.md").read_text(encoding="utf-8")
PROGRAM = "binance-availability"
YESTERDAY = dt.datetime.now(dt.UTC).date() - dt.timedelta(1)
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| what you did")
]
RUN = [row for row in ROWS if row[2] == "run"]
NAMED = [row for row in ROWS if row[2] != "run"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A small record with two failures in its log: 2024-01-16 could not be listed at first."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(ROOT / "dagster.yaml", folder)
    with local_archive() as archive, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "DAGSTER_HOME": folder,
            "AVAILABILITY_DB": folder / "record.duckdb",
            "AVAILABILITY_S3_ENDPOINT": archive.endpoint,
        }.items():
            patch.setenv(name, str(value))
        patch.delenv("AVAILABILITY_LOG_FILE", raising=False)
        patch.chdir(folder)
        archive.put("BTCUSDT", days(D(2024, 1, 1), D(2024, 1, 25)))
        archive.put("BTCUSDT", days(YESTERDAY - dt.timedelta(7), YESTERDAY))
        for start, end in (
            (D(2024, 1, 10), D(2024, 1, 15)),
            (D(2024, 1, 17), D(2024, 1, 20)),
            (YESTERDAY - dt.timedelta(7), YESTERDAY),
        ):
            listing = make_listing(start, end, {"BTCUSDT": flat(start, end, size=3)})
            with writer(folder / "record.duckdb") as con:
                at = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)
                write.write_probe(con, listing, probed_at=at, run_id="seed")
        with pytest.MonkeyPatch.context() as broken:
            broken.setenv("AVAILABILITY_S3_BUCKET", "nowhere")
            assert not launch.run_range(D(2024, 1, 16), D(2024, 1, 16)).success
        yield folder


def spans(cell):
    return re.findall(r"`([^`]+)`", cell)


def outcome(home, text):
    """Run one code span; returns its output or its value."""
    text = text.replace("/var/backups/availability", str(home / "backups"))
    if text.startswith(f"{PROGRAM} "):
        done = CliRunner().invoke(cli, shlex.split(text)[1:], catch_exceptions=False)
        # The record of these tests has no row before 2024, and `slo` says so with 1.
        assert done.exit_code == (1 if " slo " in text else 0), done.output
        return done.output
    if text.startswith(("tail ", "grep ")):
        done = subprocess.run(
            shlex.split(text), cwd=home, capture_output=True, text=True, check=True
        )
        return done.stdout
    names = {
        "date": dt.date,
        "launch": launch,
        "CompletenessValidator": validation.CompletenessValidator,
        "ContinuityValidator": validation.ContinuityValidator,
    }
    return eval(text, names)  # a snippet of our own page


def expect(what, got):
    """What its readers look for in the answer."""
    if "errors in the log" in what:
        [line] = got.splitlines()
        assert re.search(r" \| ERROR \| scheduler\.daily_update \| 2024-01-16: .* HTTP 404", line)
    elif "follow the log" in what:
        assert " | scheduler.daily_update | " in got
    elif "symbol counts" in what:
        counted = json.loads(got)
        assert [row["date"] for row in counted] == [
            str(d) for d in days(YESTERDAY - dt.timedelta(6), YESTERDAY)
        ]
        assert {row["available_count"] for row in counted} == {1}
    elif "same from Python" in what:
        assert [set(row) for row in got] == [{"date", "symbol_count"}] * 7
    elif "from Python" in what:
        assert got.success
        assert got.error_line is None
    elif "95 % SLO" in what:
        assert got.startswith("Success rate: ")
        assert re.search(r"^Breached: .*continuity", got, flags=re.MULTILINE)
    elif "dates without rows" in what:
        assert got == []
    elif "update" in what or "retry" in what:
        assert "written by run" in got
    else:
        assert got


@pytest.mark.parametrize(("what", "here", "_"), RUN, ids=[row[0] for row in RUN])
def test_what_the_guide_said_is_done_here(home, what, here, _):
    expect(what, outcome(home, spans(here)[0]))


@pytest.mark.parametrize(("what", "here", "shown"), NAMED, ids=[row[0] for row in NAMED])
def test_the_other_rows_name_a_test_that_is_there(what, here, shown):
    file, name = spans(shown)[0].split("::")
    assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for span in spans(here):
        if span.startswith("make "):
            assert re.search(rf"^{span.split()[1]}: .*## ", makefile, flags=re.MULTILINE)


def test_the_snippets_names_are_those_of_the_page():
    [block] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names = {}
    exec(block, names)
    assert names["launch"] is launch
    assert names["ContinuityValidator"] is validation.ContinuityValidator


def test_the_table_covers_the_whole_guide():
    """What archive users did before; a row that is lost here is somebody's habit that breaks."""
    page = "\n".join(row[0] for row in ROWS)
    for words in (
        "foreground", "background", "stop it", "see that it runs", "over a restart",
        "one update at a time", "register the schedule again", "follow the log", "find errors",
        "symbol counts", "alerted", "a date by hand", "yesterday by hand", "a date from Python",
        "strict errors", "retry a failed date", "validate", "systemd", "launchd", "95 % SLO",
        "without rows", "back up", "restore",
    ):  # fmt: skip
        assert words in page
