"""The demo runs from nothing to its table, says only what is so, and leaves nothing running."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from availability_pipeline import demo
from availability_pipeline_tests.demo_process import (
    COMMAND,
    demo_with_ui,
    environment,
    free_port,
    left_of,
)
from availability_pipeline_tests.helpers import PATIENCE, wait_for

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
needs_proc = pytest.mark.requires("proc")


def run_demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def normal(line: str) -> str:
    """A line without what differs from day to day: numbers, and the room they take."""
    return re.sub(r"\s+", " ", re.sub(r"\d[\d,.:]*", "N", line)).strip()


def test_the_demo_shows_the_whole_record_and_ends_with_zero(tmp_path: Path) -> None:
    done = run_demo(tmp_path, "--no-ui")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    row = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.split()}
    assert row["BTCUSDT"][-3:] == ["120", "0", "live"]
    assert row["NMRUSDT"][-3:] == ["119", "1", "live"]
    assert row["MATICUSDT"][-1] == "ended"
    assert row["AERGOUSDTSETTLED"][0] == "settled"
    assert row["币安人生USDT"][-1] == "live"
    assert "daily update" in done.stdout
    assert done.stdout.count("appeared") == 5
    assert done.stdout.count("replaced") == 1

    printed = {normal(line) for line in done.stdout.splitlines()}
    block = README.partition("```console\n$ make demo")[2].partition("```")[0]
    shown = [line for line in map(normal, block.splitlines()[1:]) if line]
    invitation = ("…", "Dagster UI:", "Ask it", "AVAILABILITY_DB=", "Ctrl-C ends")
    stale = [s for s in shown if s not in printed and not s.startswith(invitation)]
    assert shown
    assert not stale, "the README's output is not what the demo prints"

    assert (tmp_path / "demo-home" / "availability.duckdb").exists()
    assert not (tmp_path / "the-users-own.duckdb").exists()
    assert left_of(tmp_path) == []


@needs_proc
def test_ctrl_c_ends_the_ui_and_all_it_started(tmp_path: Path) -> None:
    with demo_with_ui(tmp_path) as (address, lines):
        with urllib.request.urlopen(f"{address}/server_info", timeout=PATIENCE) as answer:
            assert b"dagster_version" in answer.read()
        assert f"Dagster UI: {address}/asset-groups" in lines
        wait_for(lambda: len(left_of(tmp_path, patience=0)) >= 3)
        second = run_demo(tmp_path, "--no-ui")
        assert second.returncode == 1
        assert "another demo is running" in second.stderr


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
    assert demo.run(ui=False) == 1
    assert "is no demo's folder" in capsys.readouterr().err
    assert precious.read_text() == "42"


def test_without_moto_the_demo_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "moto.server", None)
    assert demo.run(ui=True, port=free_port()) == 1
    assert "binance-futures-availability[demo]" in capsys.readouterr().err
