"""The questions as a user asks them in a shell, on a record made by hand."""

import csv
import datetime as dt
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import duckdb
import pytest
from click.testing import CliRunner

from availability_pipeline.archive.datasets import UM_KLINES_1M
from availability_pipeline.cli._options import Date, read_date
from availability_pipeline.cli.main import cli
from availability_pipeline.cli.probe import first_periods
from availability_pipeline.record import write
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support import old_schemas
from availability_pipeline_tests.support.helpers import PATIENCE, flat, make_listing, published

YESTERDAY = dt.datetime.now(dt.UTC).date() - dt.timedelta(1)
START = YESTERDAY - dt.timedelta(420)
HOLE = YESTERDAY - dt.timedelta(30)
BORN = YESTERDAY - dt.timedelta(40)
GONE = YESTERDAY - dt.timedelta(20)
LONG = "1000000" + "LONGNAME" * 5 + "USDT"


def day(n):
    return YESTERDAY - dt.timedelta(n)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """420 dates, yesterday pending for one symbol; a hole, a listing, a delisting."""
    path = tmp_path_factory.mktemp("record") / "record.duckdb"
    whole = flat(START, YESTERDAY)
    files = {
        **{f"A{n:03}USDT": whole for n in range(300)},
        "龙虾USDT": {d: f for d, f in whole.items() if d != HOLE},
        "ENDUSDC": flat(START, day(21)),
        "NEWUSDT": flat(BORN, day(1)),
        LONG: whole,
    }
    with writer(path) as con:
        write.write_probe(
            con, make_listing(START, day(8), files), probed_at=published(day(1)), run_id="all"
        )
        write.write_probe(
            con, make_listing(day(7), YESTERDAY, files), probed_at=published(YESTERDAY),
            run_id="late",
        )  # fmt: skip
    return path


@pytest.fixture
def ask(path, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DB", str(path))

    def run(*args, code=0):
        done = CliRunner().invoke(cli, [str(a) for a in args])
        assert done.exit_code == code, (done.output, done.exception)
        return done

    return run


def in_a_process(path, *args, stdout=subprocess.PIPE, **environment):
    """The program as the shell runs it, where its own exit counts."""
    return subprocess.run(
        [sys.executable, "-m", "availability_pipeline.cli", *map(str, args)],
        env={**os.environ, "AVAILABILITY_DB": str(path), **environment},
        stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip


def answer(done):
    return json.loads(done.stdout)


def test_a_range_lists_symbols_as_json_csv_and_lines(ask):
    args = ("query", "range", day(40), day(35))
    got = answer(ask(*args, "--json"))
    assert len(got) == 304
    assert got == sorted(got)
    assert answer(ask(*args, "--json", "--quote", "USDC")) == ["ENDUSDC"]
    assert ask(*args, "--csv", "--quote", "USDC").stdout == "symbol\nENDUSDC\n"
    assert "304 symbols with a file" in ask(*args).stdout
    assert ask(*args).stdout.splitlines()[-1] == "龙虾USDT"


def test_new_listings_delistings_and_summary_have_the_shapes_of_the_contract(ask):
    analytics = ("query", "analytics")
    assert answer(ask(*analytics, "new-listings", BORN, "--json")) == ["NEWUSDT"]
    assert answer(ask(*analytics, "delistings", GONE, "--json")) == ["ENDUSDC"]
    assert answer(ask(*analytics, "delistings", day(19), "--json")) == []
    got = answer(ask(*analytics, "summary", "--days", "2", "--json"))
    assert got == [
        {"date": str(day(1)), "available_count": 303, "pending_count": 1},
        {"date": str(YESTERDAY), "available_count": 302, "pending_count": 2},
    ]
    assert len(answer(ask(*analytics, "summary", "--json"))) == 421
    one = ask(*analytics, "summary", "--start", HOLE, "--end", HOLE, "--quote", "USDT", "--csv")
    assert one.stdout == f"date,available_count,pending_count\n{HOLE},302,0\n"


def test_what_is_not_confirmed_yet_is_noted_on_stderr_and_stdout_is_the_answer_alone(ask):
    done = ask("query", "analytics", "delistings", YESTERDAY, "--json")
    assert answer(done) == []
    assert "the list may still grow" in done.stderr
    done = ask("query", "analytics", "new-listings", YESTERDAY, "--json")
    assert "pending for" in done.stderr
    assert ask("query", "analytics", "delistings", GONE, "--json").stderr == ""


def test_a_snapshot_by_status_keeps_its_shape(ask):
    got = answer(ask("query", "snapshot", HOLE, "--status", "absent", "--json"))
    assert got == [{"symbol": "龙虾USDT", "file_size_bytes": None, "last_modified": None}]
    title = ask("query", "snapshot", HOLE, "--contract-type", "perpetual", "--quote", "usdc")
    assert title.stdout.splitlines()[0] == (
        f"{HOLE}: 1 symbol shown; 303 available, 0 pending, 1 absent"
    )


@pytest.mark.parametrize(
    "args",
    [
        ("query", "snapshot", day(40)), ("query", "timeline", "NEWUSDT"),
        ("query", "range", day(40), day(35)), ("query", "holes"), ("query", "listings"),
        ("query", "revisions"), ("query", "universe", day(40), day(35)),
        ("query", "analytics", "new-listings", BORN), ("query", "analytics", "delistings", GONE),
        ("query", "analytics", "summary"),
    ],
    ids=lambda args: " ".join(map(str, args[:3])),
)  # fmt: skip
def test_every_question_is_asked_of_a_dataset_and_as_of_a_moment(ask, args):
    of_now = ask(*args, "--json").stdout
    assert ask(*args, "--json", "--as-of", "2100-01-01T09:00+09:00").stdout == of_now
    assert ask(*args, "--json", "--dataset", "um/daily/klines/1m").stdout == of_now
    refused = ask(*args, "--as-of", "2020-01-01", code=1).output
    assert "probed" in refused
    assert "run `" not in refused, "no command changes the past"
    assert (
        "recorded are um/daily/klines/1m"
        in ask(*args, "--dataset", "cm/daily/metrics", code=1).output
    )


def test_coverage_has_the_shape_of_the_contract(ask):
    got = answer(ask("query", "coverage", "NEWUSDT", "--json"))
    assert got == [
        {"dataset": "um/daily/klines/1m", "first": str(BORN), "last": str(day(1)), "files": 40,
         "holes": 0, "state": "live"}
    ]  # fmt: skip
    assert "no symbol NOUSDT is recorded" in ask("query", "coverage", "NOUSDT", code=1).output
    before = ask("query", "coverage", "NEWUSDT", "--as-of", "2020-01-01", code=1).output
    assert "probed by 2020-01-01" in before


def test_a_lower_case_symbol_is_forgiven_with_a_hint(ask):
    done = ask("query", "timeline", "newusdt", "--start", BORN, "--end", BORN, "--json")
    assert answer(done)[0]["status"] == "available"
    assert "newusdt was read as NEWUSDT" in done.stderr
    assert "did you mean NEWUSDT" in ask("query", "holes", "NEWUSD", code=1).stderr


def test_a_timeline_by_status(ask):
    done = ask("query", "timeline", "龙虾USDT", "--status", "absent", "--csv")
    assert done.stdout.splitlines()[1:] == [f"{HOLE},false,absent,,404"]


def test_listings_name_first_and_last_file(ask):
    [row] = answer(ask("query", "listings", "ENDUSDC", "--json"))
    assert (row["first_available"], row["last_available"]) == (str(START), str(day(21)))
    assert (row["state"], row["hole_days"]) == ("ended", 0)


def test_a_universe_prints_counts_and_writes_the_matrix(ask, tmp_path):
    args = ("query", "universe", day(31), day(29))
    lines = ask(*args).stdout.splitlines()
    assert lines[0].startswith(f"{day(31)} to {day(29)}: 304 symbols")
    assert [line.split() for line in lines[-3:]] == [
        [str(day(31)), "304"], [str(HOLE), "303"], [str(day(29)), "304"]
    ]  # fmt: skip
    got = answer(ask(*args, "--json", "--quote", "USDC"))
    assert got[0] == {"date": str(day(31)), "ENDUSDC": True}
    table = list(csv.reader(io.StringIO(ask(*args, "--csv").stdout)))
    assert len(table) == 4
    assert len(table[0]) == 305
    out = tmp_path / "universe.parquet"
    assert str(out) in ask(*args, "--out", out).stdout
    read = duckdb.connect().execute(f"SELECT \"龙虾USDT\" FROM '{out}' ORDER BY date").fetchall()
    assert read == [(True,), (False,), (True,)]
    ask(*args, "--out", out, "--json", code=2)
    assert "cannot write" in ask(*args, "--out", tmp_path / "no" / "u.parquet", code=1).stderr


def test_a_universe_with_dates_never_looked_at_is_refused_or_marked(ask):
    args = ("query", "universe", START - dt.timedelta(1), START, "--csv", "--quote", "USDC")
    assert "1 of 2 dates" in ask(*args, code=1).stderr
    done = ask(*args, "--mark-unknown")
    assert done.stdout.splitlines()[1] == f"{START - dt.timedelta(1)},"
    assert "1 of 2 dates" in done.stderr


def test_validate_says_what_is_missing_and_short_and_fails_then(ask, path):
    good = ask("validate", "--start", START, "--end", day(31))
    assert "is whole" in good.stdout
    done = ask("validate", "--start", START - dt.timedelta(3), "--end", HOLE, code=1)
    assert "NOT whole: 3 dates never probed, 0 short of files" in done.stdout
    assert f"backfill --start {START - dt.timedelta(3)}" in done.stdout
    got = answer(ask("validate", "--end", HOLE, "--json", code=1))
    assert got["passed"] is False
    assert got["missing_dates"][0] == "2019-09-25"
    assert answer(ask("validate", "--start", START, "--end", HOLE, "--json")) == {
        "start": str(START), "end": str(HOLE), "passed": True, "missing_dates": [],
        "short_dates": [],
    }  # fmt: skip


def test_validate_names_a_short_date_but_pending_is_not_wrong(tmp_path, monkeypatch):
    path = tmp_path / "r.duckdb"
    monkeypatch.setenv("AVAILABILITY_DB", str(path))
    a = {"AUSDT": flat(START, YESTERDAY), "BUSDT": flat(START, YESTERDAY)}
    with writer(path) as con:
        for first, last, files, at in (
            (START, day(1), a, published(day(1))),
            (YESTERDAY, YESTERDAY, {"AUSDT": {}, "BUSDT": {}}, published(YESTERDAY, hour=2)),
        ):
            write.write_probe(con, make_listing(first, last, files), probed_at=at, run_id="r")
    args = ["validate", "--start", str(START), "--end", str(YESTERDAY)]
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 0, done.output
    assert "is whole: 0 dates never probed, 0 short of files, 1 pending" in done.stdout
    short = {**a, "BUSDT": {d: f for d, f in a["BUSDT"].items() if d != HOLE}}
    with writer(path) as con:
        write.write_probe(
            con, make_listing(HOLE, HOLE, short), probed_at=published(YESTERDAY), run_id="r"
        )
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 1
    assert f"{HOLE}" in done.stdout
    assert "1 short of files, 1 pending" in done.stdout


def test_a_piped_table_is_plain_whole_and_not_wrapped(ask):
    out = ask("query", "snapshot", day(5)).stdout
    assert out.isascii() or "龙虾USDT" in out
    assert len(out.splitlines()) == 3 + 303
    assert all(re.fullmatch(r"[^\x1b─│┃…]*", line) for line in out.splitlines())
    assert any(line.startswith(LONG + "  ") for line in out.splitlines())
    widths = {len(line) for line in out.splitlines()[2:] if "龙" not in line}
    assert len(widths) == 1, "aligned"
    [chinese] = [line for line in out.splitlines() if "龙" in line]
    assert len(chinese) == widths.pop() - 2  # two letters that are two columns wide each


@pytest.mark.parametrize(
    "environment",
    [
        {"LANG": "C", "LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1:strict"},
        {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=lambda e: " ".join(f"{k}={v}" for k, v in e.items()),
)
def test_names_that_are_not_ascii_print_and_parse_whatever_the_locale(path, environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    for form in ("--json", "--csv", None):
        done = subprocess.run(
            [sys.executable, "-m", "availability_pipeline.cli", "query", "holes",
             "龙虾USDT".encode(), *([form] if form else [])],
            env={**clean, "AVAILABILITY_DB": str(path), **environment},
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "龙虾USDT" in done.stdout.decode("utf-8")


@pytest.mark.parametrize(
    "command",
    [
        "query timeline A000USDT",
        "query timeline A000USDT --json",
        f"query universe {START} {YESTERDAY} --csv",
        f"query universe {START} {YESTERDAY} --json",
    ],
    ids=["table", "json", "large csv", "large json"],
)
def test_a_closed_pipe_ends_quietly(path, command):
    done = subprocess.run(
        f"{sys.executable} -m availability_pipeline.cli {command} | head -c 20",
        shell=True, env={**os.environ, "AVAILABILITY_DB": str(path)}, capture_output=True,
        text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.stderr == ""
    assert len(done.stdout) == 20


def test_an_empty_database_and_a_locked_one_are_one_line(ask, tmp_path, monkeypatch):
    empty = tmp_path / "empty.duckdb"
    duckdb.connect(str(empty)).close()
    monkeypatch.setenv("AVAILABILITY_DB", str(empty))
    for args in (
        ("query", "holes"), ("query", "range", START, START), ("query", "analytics", "summary"),
        ("query", "universe", START, START), ("validate",), ("query", "listings"),
    ):  # fmt: skip
        done = ask(*args, code=1)
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
        assert "backfill" in done.stderr
    locked = tmp_path / "locked.duckdb"
    with writer(locked):
        other = in_a_process(locked, "query", "holes", AVAILABILITY_DB_WAIT_SECONDS="0.1")
    assert other.returncode == 1
    assert other.stderr.count("\n") == 1
    assert "by another process" in other.stderr
    assert "AVAILABILITY_DB_WAIT_SECONDS" in other.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("query", "range", "2024-01-02", "2024-01-01"),
        ("query", "universe", "2024-01-02", "2024-01-01"),
        ("query", "timeline", "AUSDT", "--start", "2024-01-02", "--end", "2024-01-01"),
        ("query", "analytics", "summary", "--days", "3", "--start", "2024-01-02"),
        ("query", "analytics", "summary", "--days", "0"),
        ("query", "snapshot", "2024-01-02", "--status", "unknown"),
        ("query", "snapshot", "2024-01-02", "--contract-type", "future"),
        ("query", "holes", "--as-of", "2024-01-01T12:00"),
        ("query", "holes", "--dataset", "um/daily/kline/1m"),
        ("validate", "--start", "2024-01-02", "--end", "2024-01-01"),
    ],
)
def test_wrong_usage_is_exit_2(ask, args):
    ask(*args, code=2)


BEFORE = START - dt.timedelta(5)


def test_dates_never_probed_are_unknown_rows_with_the_remedy_and_never_an_empty_list(ask):
    done = ask("query", "timeline", "ENDUSDC", "--start", BEFORE, "--end", START, "--json")
    rows = answer(done)
    assert [row["status"] for row in rows] == ["unknown"] * 5 + ["available"]
    assert f"backfill --start {BEFORE} --end {START - dt.timedelta(1)}" in done.stderr
    assert "5 of 6 dates" in done.stderr
    none = ask("query", "timeline", "ENDUSDC", "--start", BEFORE, "--end", BEFORE, "--json")
    assert [row["status"] for row in answer(none)] == ["unknown"]
    assert f"update manual --date {BEFORE}" in none.stderr


@pytest.mark.parametrize("status", ["available", "pending", "absent"])
def test_a_timeline_by_status_says_which_dates_it_cannot_tell(ask, status):
    last = START - dt.timedelta(1)
    args = ("query", "timeline", "ENDUSDC", "--status", status, "--start", BEFORE, "--end")
    done = ask(*args, last, "--json", code=1)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"backfill --start {BEFORE} --end {last}" in done.stderr
    some = ask(*args, START, "--json")
    assert len(answer(some)) == (status == "available")
    assert f"backfill --start {BEFORE} --end {last}" in some.stderr
    unknown = ask("query", "timeline", "ENDUSDC", "--status", "unknown", *args[5:], last, "--json")
    assert len(answer(unknown)) == 5


def test_a_timeline_that_ends_before_the_record_begins_is_an_error_with_the_remedy(ask):
    done = ask("query", "timeline", "ENDUSDC", "--end", BEFORE, "--json", code=1)
    assert done.stdout == ""
    assert f"the record begins with {START}" in done.stderr
    assert f"backfill --start 2019-09-25 --end {BEFORE}" in done.stderr


def test_a_summary_of_dates_never_probed_names_the_command(ask):
    args = ("query", "analytics", "summary", "--json")
    done = ask(*args, "--start", BEFORE, "--end", START - dt.timedelta(1), code=1)
    assert f"backfill --start {BEFORE} --end {START - dt.timedelta(1)}" in done.stderr
    done = ask(*args, "--end", BEFORE, code=1)
    assert f"no date up to {BEFORE} was probed" in done.stderr
    assert f"backfill --start 2019-09-25 --end {BEFORE}" in done.stderr


def test_since_is_when_it_was_seen_so_today_is_a_day(ask, path):
    today = dt.datetime.now(dt.UTC).date()
    for more in ((), ("--all",)):
        assert answer(ask("query", "revisions", "--since", today, "--json", *more)) == []
    done = ask("query", "revisions", "--since", today + dt.timedelta(1), code=2)
    assert "is in the future" in done.stderr


def leaves(group, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join((*path, name)), command


def test_every_command_that_reads_or_writes_the_record_takes_db():
    """What goes on running has the variable alone, as the commands that ask about it."""
    without = {name for name, command in leaves(cli) if all(p.name != "db" for p in command.params)}
    assert without == {"demo", "up", "start", "stop", "running", "alerts test", "datasets",
                       "datasets discover", "follow"}  # fmt: skip


def test_db_goes_before_the_variable_and_for_that_command_alone(ask, path, monkeypatch, tmp_path):
    monkeypatch.setenv("AVAILABILITY_DB", str(tmp_path / "none.duckdb"))
    ask("query", "holes", code=1)
    for args in (("query", "holes"), ("slo", "acknowledged"), ("validate", "--start", day(31))):
        assert ask(*args, "--db", path, "--json")
    assert os.environ["AVAILABILITY_DB"] == str(tmp_path / "none.duckdb")
    assert "none.duckdb" in ask("query", "holes", code=1).stderr
    monkeypatch.delenv("AVAILABILITY_DB")
    monkeypatch.chdir(path.parent)
    assert answer(ask("query", "holes", "--db", path.name, "--json"))
    assert "AVAILABILITY_DB" not in os.environ


def test_a_remedy_is_for_the_db_that_was_given(ask, path, tmp_path):
    """As it stands, it would mend another record."""
    none, spaced = tmp_path / "none.duckdb", tmp_path / "a b.duckdb"
    for wrong, named in ((none, str(none)), (spaced, f"'{spaced}'")):
        said = ask("query", "holes", "--db", wrong, code=1).stderr
        assert f"`binance-availability backfill --db {named}`" in said
        assert f"`binance-availability update manual --db {named}`" in said
    assert " --db " not in ask("validate", "--start", day(430), code=1).stdout
    said = ask("validate", "--start", day(430), "--db", path, code=1).stdout
    assert f" --end {day(421)} --db {path}`" in said
    said = ask("slo", "--db", path, "--json", code=1).stdout
    [recovery] = [one["recovery"] for one in json.loads(said)["slo"] if one["name"] == "continuity"]
    assert recovery.endswith(f" --end {day(421)} --db {path}`.")
    said = ask("slo", "--db", path, code=1).stdout
    assert f" --end {day(421)} --db {path}`." in said
    assert f"--db {path} --db" not in said


def test_an_empty_db_is_not_the_default_record(ask):
    assert "Is a directory" in ask("query", "holes", "--db", "", code=1).stderr


D = dt.date


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2024-02-28", D(2024, 2, 28)),
        ("today", D(2024, 3, 1)),
        ("today-0", D(2024, 3, 1)),
        ("yesterday", D(2024, 2, 29)),
        ("today-1", D(2024, 2, 29)),
        ("today-7", D(2024, 2, 23)),
        ("today-61", D(2023, 12, 31)),
    ],
)
def test_a_date_is_read_by_the_clock(text, date):
    today = D(2024, 3, 1)
    assert read_date(text, today) == date
    assert Date(today_too=True, clock=lambda: today).convert(text, None, None) == date
    if date < today:
        assert Date(clock=lambda: today).convert(text, None, None) == date


@pytest.mark.parametrize(
    "text", ["tomorrow", "today+1", "today-", "today-x", "today-123456", "today-٧", "", "-7"]
)
def test_what_is_not_a_date_is_refused_with_what_may_be_given(text):
    with pytest.raises(click.BadParameter, match="write it as YYYY-MM-DD, yesterday or today-7"):
        Date(clock=lambda: D(2024, 3, 1)).convert(text, None, None)


def test_a_date_that_is_not_over_by_the_clock_is_refused():
    """What was today at midnight is a date with files a moment later."""
    for text in ("today", "2024-03-01", "2024-03-02"):
        with pytest.raises(click.BadParameter, match="the last whole UTC date is 2024-02-29"):
            Date(clock=lambda: D(2024, 3, 1)).convert(text, None, None)
    assert Date(clock=lambda: D(2024, 3, 2)).convert("2024-03-01", None, None) == D(2024, 3, 1)
    with pytest.raises(click.BadParameter, match="before 2017-07-01"):
        Date(clock=lambda: D(2024, 3, 1)).convert("today-9999", None, None)


def test_every_date_on_the_command_line_may_be_relative(ask):
    """One parser, whatever the command."""
    dates = [
        (name, option)
        for name, command in leaves(cli)
        for option in command.params
        if isinstance(option.type, Date) or "date" in (option.name or "").split("_")
    ]
    assert len(dates) > 15
    assert [one for one in dates if not isinstance(one[1].type, Date)] == []
    args = ("query", "timeline", "A000USDT", "--json", "--start")
    assert ask(*args, "today-3", "--end", "yesterday").stdout == (
        ask(*args, day(2), "--end", YESTERDAY).stdout
    )
    assert answer(ask("query", "revisions", "--since", "today", "--json")) == []


def test_a_backfill_begins_with_the_record_s_first_date(path, tmp_path, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DB", str(path))
    assert first_periods([UM_KLINES_1M]) == {UM_KLINES_1M: START}
    for name in ("none", "empty"):
        monkeypatch.setenv("AVAILABILITY_DB", str(tmp_path / name))
        if name == "empty":
            with writer(tmp_path / name):
                pass
        assert first_periods([UM_KLINES_1M]) == {}
    old = tmp_path / "old.duckdb"
    old_schemas.build(str(old), 1)
    monkeypatch.setenv("AVAILABILITY_DB", str(old))
    found = first_periods([UM_KLINES_1M])
    assert found == {UM_KLINES_1M: D(2024, 1, 1)}, "a record that the backfill is to migrate"


def test_json_and_csv_at_once_are_wrong_usage(ask):
    for args in (
        ("query", "holes"), ("query", "snapshot", HOLE), ("query", "analytics", "summary"),
        ("query", "universe", HOLE, HOLE),
    ):  # fmt: skip
        for both in (("--json", "--csv"), ("--csv", "--json")):
            done = ask(*args, *both, code=2)
            assert "give --json or --csv, not both" in done.stderr
            assert done.stdout == ""
    assert answer(ask("query", "holes", "--json", "--json"))


def test_truths_are_lower_case_in_json_csv_table_and_file(ask, tmp_path):
    args = ("query", "universe", HOLE, day(29), "--quote", "USDT")
    printed = ask(*args, "--csv").stdout.splitlines()
    ask(*args, "--out", tmp_path / "u.csv")
    assert (tmp_path / "u.csv").read_text(encoding="utf-8").splitlines() == printed
    assert set(printed[1].split(",")[1:]) == {"true", "false"}
    table = ask("query", "timeline", "龙虾USDT", "--start", HOLE, "--end", HOLE).stdout
    assert table.splitlines()[-1].split() == [str(HOLE), "false", "absent", "404"]


def test_several_quote_assets_may_be_given(ask):
    args = ("query", "range", HOLE, HOLE, "--json", "--quote", "USDC")
    assert len(answer(ask(*args, "--quote", "usdt"))) == 303
    assert "no recorded symbol has quote_asset 'EUR'" in ask(*args, "--quote", "EUR", code=1).stderr


@pytest.mark.requires("dev-full")
@pytest.mark.parametrize("command", ["query holes", "query timeline A000USDT --csv", "--version"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_cannot_be_written_is_one_line_and_exit_1(path, command, unbuffered):
    with Path("/dev/full").open("w") as full:
        done = in_a_process(path, *command.split(), stdout=full, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr == "Error: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("command", ["query holes", f"query universe {START} {YESTERDAY} --csv"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_went_away_ends_it_with_1_and_without_a_word(path, command, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    done = in_a_process(path, *command.split(), stdout=writing, PYTHONUNBUFFERED=unbuffered)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def read_commands():
    for name, command in cli.commands["query"].commands.items():
        for sub, inner in getattr(command, "commands", {}).items():
            yield f"query {name} {sub}", inner
        if not hasattr(command, "commands"):
            yield f"query {name}", command
    yield "validate", cli.commands["validate"]


@pytest.mark.parametrize(("name", "command"), list(read_commands()), ids=lambda v: str(v))
def test_the_example_of_every_help_runs(ask, tmp_path, monkeypatch, name, command):
    """2024 is not in this record: the answer is that it was not probed, never wrong usage."""
    monkeypatch.chdir(tmp_path)
    [example] = re.findall(r"Example: binance-availability (.+)", command.help)
    assert example.startswith(name)
    done = CliRunner().invoke(cli, example.split())
    assert done.exit_code in {0, 1}, done.output
    if done.exit_code == 1:
        assert re.search("not probed|never probed|no symbol SOLUSDT|no volumes at", done.output)
    text = CliRunner().invoke(cli, [*name.split(), "--help"]).stdout
    assert example.split()[-1] in text
    assert "--json" in text


def test_read_commands_import_neither_dagster_nor_pandas(path):
    day = str(HOLE)
    commands = [
        ["query", "snapshot", day], ["query", "range", day, day], ["query", "holes", "--csv"],
        ["query", "revisions"], ["query", "listings"], ["query", "analytics", "summary"],
        ["query", "analytics", "delistings", day], ["query", "universe", day, day, "--json"],
        ["validate", "--start", day, "--end", day],
    ]  # fmt: skip
    code = (
        "import sys; from availability_pipeline.cli.main import cli\n"
        f"for args in {commands}: cli(args, standalone_mode=False)\n"
        "print({'dagster', 'pandas', 'boto3', 'apprise'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        # Whether Apprise knows an alert target is not asked here: that would take 0.4 s.
        env={**os.environ, "AVAILABILITY_DB": str(path), "AVAILABILITY_ALERT_URLS": "json://h"},
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.stderr.strip() == "set()"
