"""`make start`, `running`, `stop` and `up`, as the operations guide's readers have them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from availability_pipeline import background
from availability_pipeline_tests.demo_process import free_port, left_of_home
from availability_pipeline_tests.helpers import PATIENCE, wait_for

ROOT = Path(__file__).parents[1]


class Act:
    """The four acts on one home, each a process as make starts it."""

    def __init__(self, home):
        shutil.copy(ROOT / "dagster.yaml", home)
        self.home, self.port = home, free_port()
        self.env = os.environ | {
            "DAGSTER_HOME": str(home),
            "AVAILABILITY_DB": str(home / "record.duckdb"),
            # Were a schedule to tick meanwhile, it would reach nobody.
            "AVAILABILITY_S3_ENDPOINT": "http://127.0.0.1:9",
        }

    def command(self, act):
        return [
            *(sys.executable, "-W", "ignore", "-m", "availability_pipeline.background"),
            *(act, "--port", str(self.port)),
        ]

    def __call__(self, act):
        return subprocess.run(
            self.command(act),
            env=self.env, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip


@pytest.fixture
def act(tmp_path):
    act = Act(tmp_path)
    try:
        yield act
    finally:
        found = background.find(tmp_path)
        if found:
            os.killpg(found.group, signal.SIGKILL)


def test_it_is_started_once_seen_and_ended_whole(act):
    assert act("running").returncode == 1
    done = act("start")
    assert done.returncode == 0, (done.stderr, (act.home / "background.log").read_text()[-3000:])
    address = f"http://127.0.0.1:{act.port}"
    assert done.stdout.startswith(f"started: {address}")
    assert act("running").stdout == f"running: {address}\n"
    again = act("start")
    assert (again.returncode, again.stdout) == (0, f"already running: {address}\n")
    up = act("up")
    assert up.returncode == 1
    assert "already run on" in up.stderr
    assert "`make stop` first" in up.stderr
    assert act("stop").stdout == "stopped\n"
    assert left_of_home(act.home) == []
    assert (act("stop").stdout, act("running").stdout) == ("not running\n", "not running\n")


def test_after_a_kill_of_the_keeper_the_rest_is_seen_and_ended(act):
    """The daemon would go on launching runs, and a new start would add a second one."""
    with (act.home / "out").open("w") as out:
        keeper = subprocess.Popen(act.command("up"), env=act.env, stdout=out, stderr=out)

    def kept():
        assert keeper.poll() is None
        return (found := background.find(act.home)) and found.pid and found

    found = wait_for(kept)
    keeper.kill()
    keeper.wait()
    assert background.find(act.home) == found
    assert act("start").stdout.startswith("already running")
    assert act("stop").stdout == "stopped\n"
    assert left_of_home(act.home) == []


@pytest.mark.parametrize("name", ["start", "up"])
def test_a_taken_port_starts_nothing_and_the_remedy_is_one_that_make_takes(act, name):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", act.port))
        taken.listen()
        done = act(name)
    assert done.returncode == 1
    assert f"port {act.port} cannot be used" in done.stderr
    assert done.stderr.endswith("choose another, as `PORT=3001 make start`\n")
    assert background.find(act.home) is None


def test_a_home_that_is_none_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "availability_pipeline.background", "start"],
        env=os.environ | {"DAGSTER_HOME": str(tmp_path / "none")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "Error: set DAGSTER_HOME to the folder of dagster.yaml\n"


def test_make_running_fails_as_its_help_says_when_nothing_runs(tmp_path):
    """make's own exit code for a command that failed is 2, whatever the command's was."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    stamp = tmp_path / ".venv" / ".installed"
    stamp.parent.mkdir()
    (stamp.parent / "bin").symlink_to(Path(sys.executable).parent)
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    stamp.touch()
    done = subprocess.run(
        ["make", "-s", "running"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("not running\n", 2)
    assert "running: $(STAMP)  ## say whether it runs, and where; fails (exit 2) if not" in (
        ROOT / "Makefile"
    ).read_text()


def test_make_has_the_acts():
    makefile = (ROOT / "Makefile").read_text()
    for name in ("up", "start", "stop", "running"):
        assert f"availability_pipeline.background {name}" in makefile
