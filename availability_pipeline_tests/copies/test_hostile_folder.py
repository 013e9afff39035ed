"""Started in a folder whose files are named like modules: none of them is executed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from availability_pipeline import settings
from availability_pipeline.alerts import delivery
from availability_pipeline.orchestration import processes
from availability_pipeline_tests.support.demo_process import free_port
from availability_pipeline_tests.support.helpers import PATIENCE, wait_for
from availability_pipeline_tests.support.receiver import receiving

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "availability_pipeline"
NAMES = ("apprise", "dagster", "duckdb", "requests", "grpc", "click", "yaml", "dagster_webserver")


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """The current folder, as a download or an unpacked archive can have left it."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'executed')!r}, 'a').write('{name}\\n')\nraise SystemExit(3)\n"
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def executed(folder):
    return (folder / "executed").read_text() if (folder / "executed").exists() else ""


def test_an_alert_is_sent_without_executing_what_lies_in_the_folder(hostile):
    with receiving() as receiver:
        assert delivery.deliver([receiver.url], [("t", "b", "info", [0])]) == [{0}]
    assert executed(hostile) == ""


def test_ui_daemon_code_servers_and_runs_execute_nothing_that_lies_in_the_folder(hostile):
    home = hostile / "home"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    port = free_port()
    env = os.environ | {
        "DAGSTER_HOME": str(home),
        "AVAILABILITY_DB": str(home / "record.duckdb"),
        "AVAILABILITY_S3_ENDPOINT": "http://127.0.0.1:9",
    }

    def act(name):
        # As make does; with `-P`, because that is make's own process.
        done = subprocess.run(
            [sys.executable, "-P", "-m", "availability_pipeline.cli", name,
             *(["--port", str(port)] if name == "start" else [])],
            env=env, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        log = home / "background.log"
        assert done.returncode == 0, (done.stderr, log.read_text() if log.exists() else "")

    def ask(query):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/graphql", json.dumps({"query": query}).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["data"]

    try:
        act("start")
        launched = ask(
            """mutation { launchRun(executionParams: {mode: "default", runConfigData: {}, selector:
            {repositoryLocationName: "availability_pipeline.definitions",
            repositoryName: "__repository__", pipelineName: "history_retention"}})
            { __typename ... on LaunchRunSuccess { run { runId } } } }"""
        )["launchRun"]
        run = launched["run"]["runId"]

        def ended():
            status = ask(f'{{ runOrError(runId: "{run}") {{ ... on Run {{ status }} }} }}')
            return (found := status["runOrError"]["status"]) in ("SUCCESS", "FAILURE") and found

        assert wait_for(ended) == "SUCCESS"
        act("stop")
    finally:
        if found := processes.find(home):
            os.killpg(found.group, signal.SIGKILL)
    assert executed(hostile) == ""


def test_make_starts_python_without_the_folder_among_its_imports():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    started = re.findall(r"\$\(PY\) (.*-m availability_pipeline\S*)", makefile)
    assert len(started) >= 5
    assert all(words.startswith("-P -m ") for words in started)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_our_own_interpreter_is_started_with_the_safe_path(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.search(r"\[sys\.executable, ", line):
            # `-I`, isolated, has what `-P` does in it.
            assert re.search(r'\[sys\.executable, "-(P|I)", ', line), line


def test_children_inherit_it(monkeypatch):
    monkeypatch.setenv("PYTHONSAFEPATH", "")  # and it is put back
    settings.never_import_from_current_directory()
    code = "import sys; print(sys.flags.safe_path)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
