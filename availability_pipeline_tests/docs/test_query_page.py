"""The pages run as they stand: each command and snippet prints what the page says, to the byte.

All of them are about one record, that of `demo --no-ui --date 2026-11-24`, so no day makes them
stale.
"""

import datetime as dt
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from availability_pipeline.cli.main import cli
from availability_pipeline_tests.support import demo_record
from availability_pipeline_tests.support.requirements import need

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "docs/query.md", "docs/quickstart.md")
}
PAGE = PAGES["docs/query.md"]
PROGRAM = "binance-availability"
MAKE_IT = f"$ make demo ARGS='--no-ui --date {demo_record.DATE}'\n$ . demo-home/env\n"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("record") / "demo-home" / "availability.duckdb"
    path.parent.mkdir()
    demo_record.write(path)
    demo_record.write_volume(path)
    return path


@pytest.fixture
def here(path, monkeypatch):
    monkeypatch.chdir(path.parents[1])
    monkeypatch.setenv("AVAILABILITY_DB", str(path))
    monkeypatch.setenv("AVAILABILITY_DATASETS", demo_record.CONFIGURED)


def calls():
    """Each question of the pages and the output it shows below."""
    for name, text in PAGES.items():
        for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL):
            # A command may go before each question's output; those of make are not answers.
            for call, shown in re.findall(
                r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.MULTILINE
            ):
                if re.match(rf"{PROGRAM} (query|validate|datasets)\b", call):
                    label = f"{name}: {call.removeprefix(PROGRAM).strip()}"
                    yield pytest.param(call, shown, id=label)


def test_each_page_says_how_to_make_its_record():
    for name, text in PAGES.items():
        assert MAKE_IT in text, name
        question = re.search(rf"^\$ {PROGRAM} query", text, flags=re.MULTILINE)
        assert question
        assert text.index(MAKE_IT) < question.start(), name


@pytest.mark.parametrize(("call", "shown"), list(calls()))
def test_a_command_of_the_pages_answers_as_the_page_says(here, call, shown):
    if "|" in call:
        if "jq" in call:
            need("jq")
        # As a shell runs it; the installed program lies beside the interpreter.
        done = subprocess.run(
            ["sh", "-c", call], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            check=True,
        )  # fmt: skip
        assert done.stdout == shown
        return
    done = CliRunner().invoke(cli, shlex.split(call)[1:])
    assert done.output == shown
    assert done.exit_code == (1 if "Error" in shown or "NOT whole" in shown else 0)


def snippets():
    for name, text in PAGES.items():
        found = re.findall(r"```python\n(.*?)```\n(.*?)(?=\n#|```python|\Z)", text, flags=re.DOTALL)
        for n, (code, after) in enumerate(found):
            yield pytest.param(code, after, id=f"{name} {n}")


@pytest.mark.parametrize(("code", "after"), list(snippets()))
def test_a_snippet_of_the_pages_prints_what_the_page_says(here, capsys, code, after):
    shown = re.search(r"```console\n(.*?)```", after, flags=re.DOTALL)
    assert shown, "show what it prints"
    exec(code, {})
    printed = capsys.readouterr().out
    assert [line.rstrip() for line in printed.splitlines()] == shown[1].splitlines()


def test_the_pages_show_every_question():
    for name, command in cli.commands["query"].commands.items():
        for full in [f"{name} {sub}" for sub in getattr(command, "commands", {})] or [name]:
            assert f"$ {PROGRAM} query {full}" in PAGE
    assert len(list(snippets())) == 7
    assert len([p for p in calls() if "|" in p.values[0]]) == 5


def test_the_record_of_the_pages_is_of_a_day_that_is_over():
    """`demo --date` refuses a day that is not."""
    assert dt.datetime.now(dt.UTC).date() > demo_record.DATE
