"""The log file: what runs write into it, from several processes, and how it is read again."""

import datetime as dt
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster_shared.telemetry import get_or_create_dir_from_dagster_home

from availability_pipeline import logs, settings
from availability_pipeline.orchestration.instance import run_log
from availability_pipeline_tests.support.helpers import PATIENCE, D, flat
from availability_pipeline_tests.support.world import END, START, World

ROOT = Path(__file__).parents[2]
LINE = re.compile(
    r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \| (INFO|WARNING|ERROR) \| scheduler\.(\w+) \| (\S.*)$"
)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A world on our own dagster.yaml: what is logged goes where the user's goes."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.delenv("AVAILABILITY_LOG_FILE", raising=False)
    with dg.DagsterInstance.get() as instance:
        yield World(tmp_path, instance)
    logging.getLogger("dagster_dummy_logger").handlers.clear()


def parsed(world, path=None):
    path = path or world.path.parent / "log" / "availability.log"
    lines = path.read_text(encoding="utf-8").splitlines()
    return [LINE.fullmatch(text).groups() for text in lines]


@pytest.mark.parametrize("job", ["daily_update", "late_arrivals", "full_reconcile"])
def test_each_job_writes_its_line_as_the_guide_shows_it(world, job):
    assert world.run(job=job).success
    found = [text for level, name, text in parsed(world) if (level, name) == ("INFO", job)]
    [done] = [text for text in found if text.startswith("Daily update completed: ")]
    assert done.startswith("Daily update completed: 2 symbols probed, 20 available")


def test_a_failure_is_one_error_line_with_dates_reason_and_run(world):
    world.archive.fails = True
    result = world.run()
    errors = [one for one in parsed(world) if one[0] == "ERROR"]
    assert len(errors) == 1, errors
    _, job, text = errors[0]
    assert job == "daily_update"
    assert text.startswith("2024-01-01 to 2024-01-10: um__klines__daily_availability failed: ")
    assert "AUSDT: HTTP 503 SlowDown" in text
    assert text.endswith(f"(run {result.run_id[:8]})")


def test_a_failed_probe_that_was_launched_without_dates_names_those_it_took(world):
    world.clock.time = dt.datetime(2024, 1, 11, 2, tzinfo=dt.UTC)
    world.archive.fails = True
    assert not world.execute("late_arrivals").success
    [(_, job, text)] = [one for one in parsed(world) if one[0] == "ERROR"]
    assert job == "late_arrivals"
    assert text.startswith("2023-12-22 to 2024-01-10: probe_again failed: ")


def test_an_error_of_ours_is_one_line_too_and_no_traceback(world):
    def broken(*_, **__):
        raise ValueError("first line\nsecond line")

    world.archive.list_range = broken
    world.run(D(2024, 1, 5), D(2024, 1, 5))
    [(_, _, text)] = [one for one in parsed(world) if one[0] == "ERROR"]
    assert text.startswith(
        "2024-01-05: um__klines__daily_availability failed: ValueError: first line second line "
    )


def test_a_check_that_does_not_hold_is_an_error_line(world):
    for symbol in ("CUSDT", "DUSDT"):  # a single missing file is a warning
        world.archive.files[symbol] = flat(START, END)
        world.archive.files[symbol].pop(D(2024, 1, 6))
    assert world.run().success
    world.judge()
    texts = [one[2] for one in parsed(world) if one[0] == "ERROR"]
    assert any("check completeness_slo of record does not hold" in text for text in texts)


def test_pending_files_are_no_error_line(world):
    """At 02:00 all files are pending: an error each night is one that nobody reads."""
    world.archive.files["BUSDT"].pop(END)
    world.clock.time = dt.datetime(2024, 1, 11, 2, tzinfo=dt.UTC)
    assert world.run().success
    assert world.rows("SELECT count(*) FROM daily_availability WHERE status = 'pending'") == [(1,)]
    assert {level for level, _, _ in parsed(world)} == {"INFO"}


def test_the_file_is_a_setting(world, tmp_path, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_LOG_FILE", str(tmp_path / "elsewhere" / "龙.log"))
    assert world.run().success
    assert parsed(world, tmp_path / "elsewhere" / "龙.log")
    assert not (tmp_path / "log" / "availability.log").exists()


def test_a_log_that_cannot_be_written_fails_no_run_and_is_said_once(world, monkeypatch, capfd):
    (world.path.parent / "file").write_text("")
    monkeypatch.setenv("AVAILABILITY_LOG_FILE", str(world.path.parent / "file" / "x.log"))
    assert world.run().success
    said = [text for text in capfd.readouterr().err.splitlines() if "cannot write the log" in text]
    assert len(said) == 1
    assert "AVAILABILITY_LOG_FILE" in said[0]


def test_lines_are_in_utc_whatever_the_hosts_zone_and_stay_one_line():
    tokyo = dt.timezone(dt.timedelta(hours=9))
    at = dt.datetime(2024, 1, 2, 8, 30, tzinfo=tokyo)
    text = logs.line(at, "INFO", "daily_update", "a\n  b\r")
    assert text == "2024-01-01T23:30:00Z | INFO | scheduler.daily_update | a b"


WRITER = """
import logging, sys
from availability_pipeline.orchestration.instance.run_log import RunLogHandler
handler = RunLogHandler(max_bytes=20_000, backups=40)
for n in range(300):
    record = logging.makeLogRecord({"levelno": 20, "levelname": "INFO"})
    record.dagster_meta = {"dagster_event": None, "job_tags": {}, "job_name": "daily_update",
        "orig_message": f"writer {sys.argv[1]} line {n} " + "x" * 100, "run_id": "r"}
    handler.handle(record)
"""


def test_processes_that_write_and_rotate_at_once_lose_no_line(tmp_path, monkeypatch):
    """The standard library's handler goes on writing into the file another has renamed."""
    monkeypatch.setenv("AVAILABILITY_LOG_FILE", str(tmp_path / "a.log"))
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(n)]) for n in range(3)]
    assert [w.wait(PATIENCE) for w in writers] == [0, 0, 0]
    files = [f for f in tmp_path.iterdir() if f.name.startswith("a.log")]
    assert len(files) > 5
    assert all(f.stat().st_size < 21_000 for f in files)
    lines = [text for f in files for text in f.read_text().splitlines()]
    assert all(LINE.fullmatch(text) for text in lines)
    said = {re.search(r"writer \d line \d+", text).group() for text in lines}
    assert len(lines) == len(said) == 900


def test_old_files_are_let_go(tmp_path, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_LOG_FILE", str(tmp_path / "a.log"))
    code = WRITER.replace("backups=40", "backups=2")
    subprocess.run([sys.executable, "-c", code, "0"], check=True)
    kept = sorted(f.name for f in tmp_path.iterdir() if not f.name.startswith("."))
    assert kept == ["a.log", "a.log.1", "a.log.2"]


def test_the_last_errors_are_found_across_a_rotation(tmp_path):
    path = tmp_path / "a.log"
    now = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    say = [
        logs.line(now, "ERROR" if n % 3 == 0 else "INFO", "daily_update", f"line {n} | ERROR |")
        for n in range(10)
    ]
    assert logs.tail_errors(path, 5) == []
    path.with_name("a.log.1").write_text("\n".join(say[:8]) + "\n")
    path.write_bytes("\n".join(say[8:]).encode() + b"\n\xff cut off")
    assert logs.tail_errors(path, 3) == [say[3], say[6], say[9]]
    assert logs.tail_errors(path, 0) == []


def test_the_default_is_in_dagsters_home(monkeypatch, tmp_path):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.delenv("AVAILABILITY_LOG_FILE", raising=False)
    assert settings.log_path(settings.load()) == tmp_path / "log" / "availability.log"


def test_the_log_is_not_where_dagsters_telemetry_takes_files_away(monkeypatch, tmp_path):
    """What stands in `logs` of the home is moved to a queue and uploaded, in hourly turns."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    taken = (
        get_or_create_dir_from_dagster_home("logs"),
        get_or_create_dir_from_dagster_home(".logs_queue"),
    )
    ours = settings.log_path(settings.load()).parent
    assert ours not in {Path(folder) for folder in taken}


def test_a_run_that_fails_around_its_steps_says_why():
    """`update manual` said only that it failed, and `status` and the log said why."""

    def refuse(_):
        raise OSError("the disk is gone")

    @dg.op(required_resource_keys={"disk"})
    def act():
        pass

    @dg.job(resource_defs={"disk": dg.ResourceDefinition(refuse)})
    def writes():
        act()

    result = writes.execute_in_process(raise_on_error=False)
    assert not result.success
    assert run_log.first_failure(result.all_events) == "OSError: the disk is gone"
    assert run_log.first_failure([]) == run_log.NO_REASON


def test_a_run_without_a_job_is_called_by_what_it_materializes():
    keys = [dg.AssetKey(name) for name in "dbac"]
    assert run_log.job_label("daily_update", keys) == "daily_update"
    assert run_log.job_label("__ASSET_JOB") == run_log.job_label(None) == "materialize"
    assert run_log.job_label("__ASSET_JOB", keys) == "materialize a, b, c and 1 more"
