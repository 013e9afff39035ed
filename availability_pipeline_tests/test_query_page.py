"""The query page and the quick start run as they stand, on a record with the demo's dates."""

import datetime as dt
import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from availability_pipeline import derived, store
from availability_pipeline.cli import cli
from availability_pipeline.keys import FIRST_DATE
from availability_pipeline_tests.helpers import D, flat, make_listing, published

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "query.md").read_text(encoding="utf-8")
QUICK = (DOCS / "quickstart.md").read_text(encoding="utf-8")
PROGRAM = "binance-futures-availability"
FIRST, LAST = D(2026, 7, 27), D(2026, 11, 23)
CONSOLES = re.findall(r"```console\n(\$ .*?)```", PAGE, flags=re.DOTALL)
QUICK_CONSOLES = re.findall(rf"```console\n(\$ {PROGRAM} query .*?)```", QUICK, flags=re.DOTALL)
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def listed(start, end):
    return flat(start, end, size=40_000)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("record") / "demo-home" / "availability.duckdb"
    whole = listed(FIRST, LAST)
    names = ("1000PEPEUSDT", "BNBUSDT", "BTCUSDT", "ETHBTC", "ETHUSDT", "LINKUSDT", "SOLUSDT")
    files = {
        **dict.fromkeys(names, whole),
        "NMRUSDT": {d: f for d, f in whole.items() if d != D(2026, 10, 23)},
        "MATICUSDT": listed(FIRST, D(2026, 10, 26)),
        "BTCUSDT_260925": listed(FIRST, D(2026, 9, 25)),
        "ETHUSDT_261225": listed(D(2026, 8, 26), LAST),
        "AERGOUSDTSETTLED": listed(D(2026, 7, 30), D(2026, 9, 6)),
        "AERGOUSDT": listed(D(2026, 10, 5), LAST),
        "BTCUSDC": listed(D(2026, 8, 31), LAST),
        "币安人生USDT": listed(D(2026, 10, 13), LAST),
        "TSLAUSDT": listed(D(2026, 10, 31), LAST),
        "BTCU": listed(D(2026, 11, 18), LAST),
    }
    late = {**files, "SOLUSDT": {**whole, D(2026, 11, 21): (7, published(D(2026, 11, 23)))}}
    with store.writer(path) as con:
        for start, seen, at in (
            (FIRST_DATE, files, published(LAST)),
            (D(2026, 11, 4), late, published(LAST) + dt.timedelta(hours=1)),
        ):
            store.write_probe(con, make_listing(start, LAST, seen), probed_at=at, run_id="demo")
        derived.refresh_listings(con)
        derived.refresh_summary(con)
    return path


@pytest.fixture
def here(path, monkeypatch):
    monkeypatch.chdir(path.parents[1])
    monkeypatch.setenv("AVAILABILITY_DB", str(path))


def calls():
    """Each command of the page and the output it shows below."""
    for block in (*CONSOLES, *QUICK_CONSOLES):
        for call, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.MULTILINE):
            if call.startswith(PROGRAM):
                yield pytest.param(call, shown, id=call.removeprefix(PROGRAM).strip())


def without_measures(text):
    """The sample's sizes and times differ from this record's."""
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z|\b\d{5}\b", "#", text).split()


@pytest.mark.parametrize(("call", "shown"), list(calls()))
def test_a_command_of_the_page_answers_as_the_page_says(here, call, shown):
    words, *piped = call.split(" | ")
    done = CliRunner().invoke(cli, shlex.split(words)[1:])
    assert done.exit_code == (1 if "Error" in shown or "NOT whole" in shown else 0), done.output
    if piped:
        assert done.stdout
    elif "--json" in words:
        answer = shown[shown.index("[") :]
        assert json.loads(done.stdout) == json.loads(answer)
    else:
        assert without_measures(done.output) == without_measures(shown)


@pytest.mark.parametrize("code", SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_of_the_page_runs(here, capsys, code):
    today = dt.datetime.now(dt.UTC).date()
    days = (today - LAST).days + 6  # the page was written on the day after its last date
    exec(code.replace("days=7", f"days={days}"), {})
    printed = capsys.readouterr().out
    assert printed
    shown = PAGE.split(code)[1].split("```console\n")[1].split("```")[0]
    if "(4, 10)" in shown and "universe.shape" in code:
        assert printed == shown


def test_the_snippet_of_the_quick_start_prints_what_it_says(here, capsys):
    [code] = re.findall(r"```python\n(.*?)```", QUICK, flags=re.DOTALL)
    exec(code, {})
    shown = QUICK.split(code)[1].split("```console\n")[1].split("```")[0]
    assert capsys.readouterr().out.split() == shown.split()
    assert len(QUICK_CONSOLES) == 4


def test_the_page_shows_every_question():
    for name, command in cli.commands["query"].commands.items():
        for full in [f"{name} {sub}" for sub in getattr(command, "commands", {})] or [name]:
            assert f"$ {PROGRAM} query {full}" in PAGE
    assert len(SNIPPETS) == 4
