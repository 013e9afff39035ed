"""`start`, `running`, `stop` and `up`, as the operations guide's readers have them."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from availability_pipeline.orchestration import processes
from availability_pipeline_tests.support.demo_process import free_port, left_of_home
from availability_pipeline_tests.support.helpers import PATIENCE, wait_for

ROOT = Path(__file__).parents[2]


class Act:
    """The four commands on one home, each a process of its own."""

    def __init__(self, home):
        self.home, self.port = home, free_port()
        self.env = os.environ | {
            "DAGSTER_HOME": str(home),
            "AVAILABILITY_DB": str(home / "record.duckdb"),
            # Were a schedule to tick meanwhile, it would reach nobody.
            "AVAILABILITY_S3_ENDPOINT": "http://127.0.0.1:9",
        }

    def command(self, act):
        return [
            *(sys.executable, "-W", "ignore", "-m", "availability_pipeline.cli"),
            *((act, "--port", str(self.port)) if act in ("up", "start") else (act,)),
        ]

    def __call__(self, act):
        return subprocess.run(
            self.command(act),
            env=self.env, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip


def ticks(home):
    """How many times the daemon has evaluated a sensor."""
    database = home / "schedules" / "schedules.db"
    if not database.exists():
        return 0
    with closing(sqlite3.connect(database, timeout=30)) as con:
        [(tables,)] = con.execute("SELECT count(*) FROM sqlite_master WHERE name = 'job_ticks'")
        return con.execute("SELECT count(*) FROM job_ticks").fetchall()[0][0] if tables else 0


@pytest.fixture
def act(tmp_path):
    act = Act(tmp_path)
    try:
        yield act
    finally:
        found = processes.find(tmp_path)
        if found:
            os.killpg(found.group, signal.SIGKILL)


def test_it_is_started_once_seen_and_ended_whole(act):
    assert act("running").returncode == 1
    done = act("start")
    assert done.returncode == 0, (done.stderr, (act.home / "background.log").read_text()[-3000:])
    address = f"http://127.0.0.1:{act.port}"
    assert done.stdout.startswith(f"started: {address}")
    # Without it Dagster would take its defaults, with which two runs write at once.
    assert (act.home / "dagster.yaml").read_text() == (ROOT / "dagster.yaml").read_text()
    # Of each look of a sensor that found nothing to do the daemon wrote seven lines, 2.8 MB a day.
    wait_for(lambda: ticks(act.home))
    written = (act.home / "background.log").read_text()
    assert "INFO" not in written
    assert "SupersessionWarning" not in written
    assert act("running").stdout == f"running: {address}\n"
    again = act("start")
    assert (again.returncode, again.stdout) == (0, f"already running: {address}\n")
    up = act("up")
    assert up.returncode == 1
    assert "already run on" in up.stderr
    assert "`stop` them first" in up.stderr
    assert act("stop").stdout == "stopped\n"
    assert left_of_home(act.home) == []
    assert (act("stop").stdout, act("running").stdout) == ("not running\n", "not running\n")


def test_after_a_kill_of_the_keeper_the_rest_is_seen_and_ended(act):
    """The daemon would go on launching runs, and a new start would add a second one."""
    with (act.home / "out").open("w") as out:
        keeper = subprocess.Popen(act.command("up"), env=act.env, stdout=out, stderr=out)

    def kept():
        assert keeper.poll() is None
        return (found := processes.find(act.home)) and found.pid and found

    found = wait_for(kept)
    keeper.kill()
    keeper.wait()
    assert processes.find(act.home) == found
    assert act("start").stdout.startswith("already running")
    assert act("stop").stdout == "stopped\n"
    assert left_of_home(act.home) == []


def heartbeats(home):
    with closing(sqlite3.connect(home / "history" / "runs.db", timeout=30)) as con:
        return con.execute("SELECT count(*) FROM daemon_heartbeats").fetchall()[0][0]


def test_after_a_kill_of_keeper_and_services_the_rest_is_seen_called_unwatched_and_ended(act):
    """The daemon went on, `running` took it for a service, and `start` added a second daemon."""
    assert act("start").returncode == 0
    before = wait_for(lambda: whole(act))
    wait_for(lambda: heartbeats(act.home))
    found = processes.find(act.home)
    os.kill(found.pid, signal.SIGKILL)
    before["services"].kill()
    wait_for(lambda: processes.unwatched(found))
    assert processes.find(act.home) == found
    done = act("running")
    assert (done.returncode, processes.UNWATCHED in done.stdout) == (1, True), done
    [runs] = [line for line in act("status").stdout.splitlines() if line.startswith("Runs ")]
    assert runs.startswith("Runs      no: ")
    assert processes.UNWATCHED in runs
    assert act("start").stdout.startswith("already running")
    assert act("stop").stdout == "stopped\n"
    assert left_of_home(act.home) == []


def test_what_was_killed_whole_does_not_run(act):
    """As by the kernel or a container's end: its last sign of life was taken for a service's."""
    assert act("start").returncode == 0
    wait_for(lambda: heartbeats(act.home))
    assert act("running").returncode == 0
    found = processes.find(act.home)
    os.kill(found.pid, signal.SIGKILL)
    os.killpg(found.group, signal.SIGKILL)
    wait_for(lambda: processes.find(act.home) is None)
    done = act("running")
    assert (done.returncode, done.stdout) == (1, "not running\n")


def tree(act):
    """What runs below the keeper, by what it is."""
    found = processes.find(act.home)
    if not found or not found.pid:
        return {}
    names = {
        "availability_pipeline.orchestration.services": "services",
        "availability_pipeline.orchestration.instance.webserver": "webserver",
        "dagster._daemon": "daemon",
    }
    there = {}
    for process in [psutil.Process(found.group), *psutil.Process(found.group).children(True)]:
        words = process.cmdline()
        for module, name in names.items():
            if module in words[:6]:
                there[name] = process
        if "grpc" in words[:8]:
            owner = there.get("webserver")
            of_ui = owner and process.pid in {p.pid for p in owner.children(recursive=True)}
            there["code server of the " + ("webserver" if of_ui else "daemon")] = process
    return there


ALL = {
    *("services", "webserver", "daemon"),
    *("code server of the webserver", "code server of the daemon"),
}


def whole(act):
    try:
        there = tree(act)
    except psutil.NoSuchProcess:
        return None
    return there if set(there) == ALL else None


def test_whatever_dies_is_started_again(act):
    """The daemon went on to give signs of life, and evaluated no schedule, for days."""
    assert act("start").returncode == 0
    # Each costs a start of all of it; the others end `services` as a code server does.
    for name in ("code server of the daemon", "services"):
        victim = wait_for(lambda: whole(act))[name]
        victim.kill()
        wait_for(lambda killed=victim: (there := whole(act)) and killed not in there.values())
    wait_for(lambda: act("running").returncode == 0)
    assert act("stop").stdout == "stopped\n"
    assert left_of_home(act.home) == []


def test_what_ends_again_and_again_is_given_up_in_one_line(tmp_path, monkeypatch):
    """A loop of starts would take the machine's time for ever."""
    assert processes.RESTARTS == 5
    monkeypatch.setattr(processes, "RESTARTS", 1)  # a start costs 6 s of CPU
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: 7\n")
    said = "UI and daemon ended 2 times within 10 minutes; the output above says why"
    with pytest.raises(processes.BackgroundError, match=said):
        processes.up(tmp_path, free_port())
    assert processes.find(tmp_path) is None


@pytest.mark.parametrize("name", ["start", "up"])
def test_a_taken_port_starts_nothing_and_the_remedy_is_one_that_make_takes(act, name):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", act.port))
        taken.listen()
        done = act(name)
    assert done.returncode == 1
    assert f"port {act.port} cannot be used" in done.stderr
    assert done.stderr.endswith("as `--port 3001` (with make: `PORT=3001 make start`)\n")
    assert processes.find(act.home) is None


def test_a_home_that_is_none_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "availability_pipeline.cli", "start"],
        env=os.environ | {"DAGSTER_HOME": str(tmp_path / "none")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    none = tmp_path / "none"
    assert done.stderr == f"Error: DAGSTER_HOME={none} is not a folder; make it or correct it\n"


def test_a_log_that_grows_is_emptied_into_one_older_file_and_goes_on(tmp_path, monkeypatch):
    """It grew by 2.8 MB a day for ever. The processes that write to it keep it open."""
    monkeypatch.setattr(processes, "LOG_BYTES", 1000)
    log = tmp_path / "background.log"
    processes.keep_bounded(log)
    with log.open("ab", buffering=0) as out:
        for n in range(60):
            out.write(b"%03d %s\n" % (n, b"x" * 95))
            processes.keep_bounded(log)
    older = (tmp_path / "background.log.1").read_bytes().splitlines()
    lines = older + log.read_bytes().splitlines()
    assert [int(line[:3]) for line in lines] == list(range(60 - len(lines), 60))
    assert len(lines) > 10
    assert sorted(f.name for f in tmp_path.iterdir()) == ["background.log", "background.log.1"]


def test_closing_the_terminal_ends_all_of_it(act):
    """A daemon that goes on unseen would launch runs; the terminal sends SIGHUP."""
    with (act.home / "out").open("w") as out:
        keeper = subprocess.Popen(act.command("up"), env=act.env, stdout=out, stderr=out)
    wait_for(lambda: (found := processes.find(act.home)) and found.pid)
    keeper.send_signal(signal.SIGHUP)
    assert keeper.wait(PATIENCE) == 0
    assert left_of_home(act.home) == []


def test_make_running_fails_as_its_help_says_when_nothing_runs(tmp_path):
    """make's own exit code for a command that failed is 2, whatever the command's was."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    stamp = tmp_path / ".venv" / ".installed"
    stamp.parent.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (stamp.parent / name).symlink_to(Path(sys.prefix) / name)
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    stamp.touch()
    done = subprocess.run(
        ["make", "-s", "running"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("not running\n", 2), done.stderr
    assert (
        "running: $(STAMP)  ## say whether it runs, and where; fails (exit 2) if not"
        in (ROOT / "Makefile").read_text()
    )


def test_make_has_the_acts():
    makefile = (ROOT / "Makefile").read_text()
    for name in ("up", "start", "stop", "running"):
        assert f"availability_pipeline.cli {name}" in makefile
