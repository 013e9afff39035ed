"""The program on a terminal of 80 columns and 24 lines: nothing too wide, nothing lost."""

import csv
import datetime as dt
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from availability_pipeline.cli import operate
from availability_pipeline.cli.main import cli
from availability_pipeline.orchestration import schedules
from availability_pipeline.settings import Settings
from availability_pipeline_tests.support import demo_record
from availability_pipeline_tests.support.helpers import PATIENCE

WIDTH = 80
LAST = "2026-11-23"

READING = {
    "query snapshot": f"query snapshot {LAST}",
    "query timeline": "query timeline NMRUSDT --start 2026-10-20 --end 2026-11-01",
    "query range": "query range 2026-11-01 2026-11-23",
    "query holes": "query holes",
    "query revisions": "query revisions",
    "files plan": "files plan --daily-only",
    "files verify": "files verify mirror --daily-only --symbols NMRUSDT --end 2026-10-20",
    "query listings": "query listings",
    "query coverage": "query coverage ETHUSDT_261225",
    "query universe": "query universe 2026-11-01 2026-11-23",
    "query volume": "query volume NMRUSDT --start 2026-11-01 --end 2026-11-23",
    "query rankings": f"query rankings {LAST}",
    "query analytics new-listings": "query analytics new-listings 2026-10-13",
    "query analytics delistings": "query analytics delistings 2026-10-27",
    "query analytics summary": "query analytics summary --start 2026-11-01 --end 2026-11-23",
    "validate": "validate",
    "slo": "slo",
    "slo acknowledged": "slo acknowledged",
    "status": "status",
    "datasets": "datasets",
}
"""Each command that only reads, on the record of the documents; and once more with options."""
MORE = ["query revisions --all", f"query snapshot {LAST} --status pending", "query holes NMRUSDT"]


class Shown(NamedTuple):
    stdout: str
    stderr: str

    @property
    def lines(self):
        return re.sub(r"\x1b\[[0-9;]*m", "", self.stdout).splitlines()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("record") / "availability.duckdb"
    demo_record.write(path)
    demo_record.write_volume(path)
    return path


@pytest.fixture
def terminal(path, tmp_path):
    """What a program prints on a terminal, which cannot page unless the test says so."""

    def run(command, width=WIDTH, height=24, **environment):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        unset = ("COLUMNS", "LINES", "NO_COLOR", "LESS")
        clean = {k: v for k, v in os.environ.items() if k not in unset}
        settings = {
            "AVAILABILITY_DB": str(path), "DAGSTER_HOME": str(tmp_path), "TERM": "xterm",
            "PAGER": "",
        }  # fmt: skip
        with (
            (tmp_path / "stderr").open("w+b") as errors,
            subprocess.Popen(
                [sys.executable, "-m", "availability_pipeline.cli", *command.split()],
                stdin=slave, stdout=slave, stderr=errors, env=clean | settings | environment,
            ) as process,
        ):  # fmt: skip
            os.close(slave)
            parts = []
            while True:
                try:
                    part = os.read(master, 65536)
                except OSError:  # Linux says so when the other side is closed
                    break
                if not part:
                    break
                parts.append(part)
            process.wait(timeout=PATIENCE)
            errors.seek(0)
            said = errors.read().decode()
        os.close(master)
        return Shown(b"".join(parts).decode().replace("\r\n", "\n"), said)

    return run


def leaves(group, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join((*path, name))


def test_every_command_that_reads_is_tried():
    doing = {
        "alerts test", "backfill", "backup", "datasets discover", "demo", "export", "publish",
        "report",
        "restore", "running", "slo acknowledge", "slo forget", "start", "stop", "up",
        "update manual", "files download", "volume update", "follow",
    }  # fmt: skip
    assert set(leaves(cli)) == set(READING) | doing


@pytest.mark.parametrize("command", [*READING.values(), *MORE])
def test_nothing_is_wider_than_the_terminal(terminal, command):
    """Every line fits, but for a path or a command to be copied, which must not be broken."""
    shown = terminal(command)
    assert shown.lines, shown.stderr
    wide = [line for line in shown.lines if cell_len(line) > WIDTH]
    assert [line for line in wide if len(re.sub("`[^`]*`", "x", line).split()) > 2] == []
    assert "…" not in shown.stdout


@pytest.mark.parametrize("command", [c for c in (*READING.values(), *MORE) if "query" in c])
def test_every_row_is_shown_and_every_column_or_its_name_in_a_note(
    terminal, command, path, monkeypatch
):
    monkeypatch.setenv("AVAILABILITY_DB", str(path))
    answer = CliRunner().invoke(cli, [*command.split(), "--csv"]).stdout
    header, *rows = csv.reader(io.StringIO(answer))
    shown = terminal(command)
    [rule] = [n for n, line in enumerate(shown.lines) if re.fullmatch("-+(  -+)*", line)]
    body = shown.lines[rule + 1 :]
    assert len(body) == len(rows)
    if "universe" in command:
        return  # on a terminal it is each date's count
    note = re.search("too wide for this terminal: (.*);", shown.stderr)
    left_out = note[1].split(", ") if note else []
    for row, line in zip(rows, body, strict=True):
        expected = [v for name, v in zip(header, row, strict=True) if name not in left_out and v]
        # Of a fraction six digits.
        rounded = [f"{float(v):.6g}" if re.fullmatch(r"\d+\.\d+", v) else v for v in expected]
        assert [
            f"{float(word):.6g}" if re.fullmatch(r"\d+\.\d+", v) else word
            for word, v in zip(line.split(), expected, strict=True)
        ] == rounded
    head = "".join(shown.lines[1:rule])
    for name in header:
        assert name in left_out or all(part in head for part in re.findall("[^_]+_?", name))


def test_an_address_is_left_out_first_and_shown_where_there_is_room(terminal):
    narrow, wide = terminal("query holes"), terminal("query holes", width=140)
    assert "NMRUSDT  2026-10-23" in narrow.stdout
    assert narrow.stderr == (
        "Note: too wide for this terminal: url; --csv and --json have all columns\n"
    )
    assert "NMRUSDT-1m-2026-10-23.zip" in wide.stdout
    assert wide.stderr == ""


def test_a_table_that_is_higher_than_the_screen_is_paged(terminal, tmp_path):
    paged = tmp_path / "paged"
    pager = {"PAGER": f"tee {paged}"}
    shown = terminal("query timeline BTCUSDT", **pager)
    assert len(paged.read_text(encoding="utf-8").splitlines()) == len(shown.lines) == 2620
    paged.unlink()
    for command, height in (
        ("query holes", 24),
        ("--no-pager query timeline BTCUSDT", 24),
        ("query timeline BTCUSDT --json", 24),
        ("query listings", 21),
    ):
        shown = terminal(command, height=height, **pager)
        assert shown.lines
        assert paged.exists() == (height == 21), command
    paged.unlink()
    assert terminal("query listings", height=22, **pager).lines
    assert not paged.exists()
    assert len(terminal("query timeline BTCUSDT", PAGER="").lines) == 2620


def test_a_pager_that_is_left_early_ends_it_quietly(terminal):
    shown = terminal("query timeline BTCUSDT", PAGER="head -1")
    assert shown.lines == ["BTCUSDT: 2,617 dates"]
    assert shown.stderr == ""


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}], ids=str)
def test_the_head_of_a_table_is_bold_where_the_terminal_wants_styles(terminal, environment):
    assert ("\x1b[" in terminal("query holes", **environment).stdout) == (not environment)


def test_a_schedule_and_its_ticks_are_a_line_of_a_terminal():
    tick = dt.datetime(2026, 11, 24, 2, tzinfo=dt.UTC)
    for one in schedules.schedules(Settings(backup_dir="/backups")):
        line = operate._schedule_line(
            {"name": one.name, "on": True, "last_tick": tick, "last_outcome": "skipped",
             "next_tick": tick, "error": None}
        )  # fmt: skip
        assert len(f"  {line}") <= WIDTH


def test_the_completion_of_the_documents_completes_in_bash():
    """What docs/query.md tells to put into ~/.bashrc, evaluated, and asked as bash asks."""
    page = (Path(__file__).parents[2] / "docs" / "query.md").read_text(encoding="utf-8")
    [line] = re.findall(r"^\| bash \| `(.+?)` \|", page, flags=re.MULTILINE)

    def complete(*words):
        script = f"""{line}
            complete -p binance-availability >&2
            COMP_WORDS=(binance-availability {" ".join(words)})
            COMP_CWORD={len(words)}
            _binance_availability_completion binance-availability
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", script], env={**os.environ, "PATH": programs},
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "-F _binance_availability_completion binance-availability" in done.stderr
        return done.stdout.split()

    assert complete("query", "sn") == ["snapshot"]
    assert complete("ba") == ["backfill", "backup"]
    assert "--contract-type" in complete("query", "snapshot", "--c")
    assert complete("query", "snapshot", LAST, "--status", "pe") == ["pending"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_documents_have_a_line_for(shell):
    """Neither is on every machine; the program must have a script for it."""
    page = (Path(__file__).parents[2] / "docs" / "query.md").read_text(encoding="utf-8")
    [line] = re.findall(rf"^\| {shell} \| `(.+?)` \|", page, flags=re.MULTILINE)
    variable, value = re.search(r"(_\w+)=(\w+)", line).groups()
    done = subprocess.run(
        [Path(sys.executable).with_name("binance-availability")],
        env={**os.environ, variable: value}, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "_binance_availability_completion" in done.stdout
