"""The commands as a user runs them: in a shell, against a local archive, through Dagster."""

import ast
import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from email.utils import format_datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from availability_pipeline.archive.datasets import FIRST_DATE, UM_KLINES_1M, Dataset
from availability_pipeline.cli.main import cli
from availability_pipeline_tests.support.helpers import days
from availability_pipeline_tests.support.hostile import Answer, entry, folder, hostile_archive, page
from availability_pipeline_tests.support.s3 import local_archive
from availability_pipeline_tests.support.shell import YESTERDAY, Shell

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "availability_pipeline"
NAMES = "binance-(futures-)?availability"
FIRST = YESTERDAY - dt.timedelta(11)
HOLE = YESTERDAY - dt.timedelta(8)
FUNDING = Dataset.parse("um/monthly/fundingRate")
MONTHS = [FUNDING.shift(FUNDING.period_of(YESTERDAY + dt.timedelta(1)), -n) for n in (3, 2, 1)]


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    shutil.copy(ROOT / "dagster.yaml", home)
    with local_archive() as archive:
        archive.put("BTCUSDT", days(FIRST, YESTERDAY))
        archive.put("龙虾USDT", [d for d in days(FIRST, YESTERDAY) if d != HOLE])
        archive.put("BTCUSDT", MONTHS, dataset=FUNDING)
        shell = Shell(home, archive.endpoint)
        done = shell("backfill", "--start", FIRST, "--end", YESTERDAY)
        assert done.returncode == 0, done.stderr
        assert "written by run" in done.stdout
        yield shell


def inside(shell, *args, **env):
    """A command in this process: its second start costs what the first one took to import."""
    unset = {name: None for name in os.environ if name.startswith("AVAILABILITY")}
    return CliRunner().invoke(cli, [*map(str, args)], env=unset | shell.env | env)


def test_a_snapshot_has_the_shape_of_the_contract(shell):
    got = json.loads(shell.ok("query", "snapshot", YESTERDAY, "--json"))
    assert [set(row) for row in got] == [{"symbol", "file_size_bytes", "last_modified"}] * 2
    assert [row["symbol"] for row in got] == ["BTCUSDT", "龙虾USDT"]


def test_a_timeline_takes_a_name_that_is_not_ascii_also_with_lang_c(shell):
    got = json.loads(shell.ok("query", "timeline", "龙虾USDT", "--json"))
    assert len(got) == 12
    assert set(got[0]) == {"date", "available", "status", "file_size_bytes", "status_code"}
    missing = [row for row in got if not row["available"]]
    assert [(r["date"], r["status"], r["status_code"]) for r in missing] == [
        (HOLE.isoformat(), "absent", 404)
    ]


def test_holes_and_revisions_print_as_table_json_and_csv(shell):
    assert "龙虾USDT" in shell.ok("query", "holes")
    assert json.loads(shell.ok("query", "holes", "BTCUSDT", "--json")) == []
    lines = shell.ok("query", "holes", "--csv").splitlines()
    assert lines[0] == "symbol,date,url"
    assert lines[1].startswith(f"龙虾USDT,{HOLE},https://")
    assert json.loads(shell.ok("query", "revisions", "--json")) == []


def test_status_says_what_is_unknown_and_what_to_do(shell):
    got = json.loads(shell.ok("status", "--json"))
    assert (got["dates"], got["symbols"], got["holes"]) == (12, 2, 1)
    assert got["unknown_dates"] > 2000
    assert "the daemon is down" in got["next"]
    assert [run["status"] for run in got["runs"]][-1:] == ["success"]
    assert "backfill --start 2019-09-25" in shell("slo").stdout


def test_update_without_a_date_probes_yesterday_and_is_in_the_history(shell):
    assert f"{YESTERDAY} written by run" in shell.ok("update", "manual")
    assert (shell.home / "history" / "runs" / "index.db").exists()


def test_a_backfill_without_dates_is_from_the_record_s_first_to_yesterday(shell):
    assert f"{FIRST} to {YESTERDAY} written by run" in shell.ok("backfill")
    done = shell("backfill", "--end", FIRST - dt.timedelta(1))
    assert done.returncode == 2
    assert f"the record begins with {FIRST}" in done.stderr


def test_a_new_record_named_by_an_option_begins_with_the_archive_s_first_date(shell, tmp_path):
    """`--db` is what is written, in Dagster's run too, and not AVAILABILITY_DB."""
    other = tmp_path / "other.duckdb"
    before = shell.ok("query", "listings", "--json")
    done = shell("backfill", "--new-record", "--db", other)
    assert done.returncode == 0, done.stderr
    assert f"{FIRST_DATE} to {YESTERDAY} written by run" in done.stdout
    assert shell.ok("query", "listings", "--json") == before
    [first, *_] = json.loads(shell.ok("query", "analytics", "summary", "--json", "--db", other))
    assert first["date"] == str(FIRST_DATE)


def test_commands_launched_at_once_wait_their_turn_and_readers_never_fail(shell):
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(shell, "update", "manual", "--date", d) for d in (FIRST, HOLE, HOLE)]
        while not all(w.done() for w in writers):
            shell.ok("query", "snapshot", YESTERDAY)
    assert [w.result().returncode for w in writers] == [0, 0, 0], [w.result() for w in writers]


def test_a_bad_listing_is_one_line_with_exit_1_and_changes_nothing(shell):
    before = shell.ok("query", "snapshot", YESTERDAY, "--json")
    for env, words in (
        ({"AVAILABILITY_S3_BUCKET": "nowhere"}, "HTTP 404 NoSuchBucket"),
        ({"AVAILABILITY_S3_ENDPOINT": "http://127.0.0.1:9"}, "cannot list"),
    ):
        done = shell("update", "manual", **env)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert shell.ok("query", "snapshot", YESTERDAY, "--json") == before


def test_a_backup_is_made_proved_and_restored_with_the_days_since_repaired(shell, tmp_path):
    folder, other = tmp_path / "backups", {"AVAILABILITY_DB": str(tmp_path / "other.duckdb")}
    past = ("--start", FIRST, "--end", YESTERDAY - dt.timedelta(2))
    done = shell("backfill", "--new-record", *past, **other)
    assert done.returncode == 0, done.stderr
    assert "19 files" in shell("backup", folder, **other).stdout
    assert ": good, 19 files" in shell.ok("backup", "--verify", folder)
    done = shell("restore", folder, **other)
    assert done.returncode == 0, done.stderr
    assert f"backfill --start {YESTERDAY - dt.timedelta(1)} --end {YESTERDAY}" in done.stdout
    done = shell("restore", folder, "--repair", **other)
    assert done.returncode == 0, done.stderr
    assert "the replaced database is kept as" in done.stdout
    assert f"to {YESTERDAY} written by run" in done.stdout
    assert len(json.loads(shell("query", "snapshot", YESTERDAY, "--json", **other).stdout)) == 2


def test_a_repair_probes_each_configured_dataset_from_what_it_lacks_on(shell, tmp_path):
    folder = tmp_path / "backups"
    other = {
        "AVAILABILITY_DB": str(tmp_path / "other.duckdb"),
        "AVAILABILITY_DATASETS": f"um/daily/klines/1m,{FUNDING}",
    }

    def ok(*args):
        done = shell(*args, **other)
        assert done.returncode == 0, done.stderr
        return done.stdout

    start, before = YESTERDAY - dt.timedelta(3), YESTERDAY - dt.timedelta(2)
    ok("backfill", "--new-record", "--start", start, "--end", before,
       "--dataset", "um/daily/klines/1m")  # fmt: skip
    ok("backfill", "--start", MONTHS[0], "--end", FUNDING.last_day(MONTHS[1]),
       "--dataset", FUNDING)  # fmt: skip
    assert ": 6 files of 2 datasets, " in ok("backup", folder)
    said = ok("restore", folder, "--repair")
    names = [FUNDING.text(month) for month in MONTHS]
    assert f"of um/daily/klines/1m: {YESTERDAY - dt.timedelta(1)} to {YESTERDAY} (2 dates" in said
    assert f"of {FUNDING}: {names[2]} to {names[2]} (1 month never probed, 0 not settled" in said
    found = {
        row["dataset"]: row for row in json.loads(ok("query", "coverage", "BTCUSDT", "--json"))
    }
    assert found["um/daily/klines/1m"]["last"] == str(YESTERDAY)
    assert (found[str(FUNDING)]["last"], found[str(FUNDING)]["files"]) == (str(MONTHS[2]), 3)
    # Of two that fail both are named, and what could be probed was.
    ok("restore", folder)
    done = shell("restore", folder, "--repair", **other, AVAILABILITY_S3_BUCKET="nowhere")
    assert done.returncode == 1
    assert done.stderr.count("HTTP 404 NoSuchBucket") == 2


def test_a_bad_backup_is_one_line_with_exit_1_and_the_record_stays(shell, tmp_path):
    shell.ok("backup", tmp_path)
    [path] = tmp_path.glob("*.duckdb")
    os.truncate(path, 5_000)
    before = shell.ok("query", "snapshot", YESTERDAY, "--json")
    for args in (
        ("backup", "--verify", path), ("backup", "--verify", tmp_path), ("restore", path),
        ("restore", tmp_path), ("restore", tmp_path / "none"), ("backup", path),
        ("backup", "--verify", shell.home),
    ):  # fmt: skip
        done = inside(shell, *args)
        assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1), (args, done.stderr)
        assert done.stderr.startswith("Error: ")
    assert shell.ok("query", "snapshot", YESTERDAY, "--json") == before
    second = shell.ok("backup", tmp_path, "--keep-daily", "9").split(": ")[0]
    done = shell("backup", "--verify", tmp_path)
    assert done.returncode == 1
    assert f"{second}: good" in done.stdout
    assert "1 of 2 backups in" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("backup",), "AVAILABILITY_BACKUP_DIR"),
        (("backup", "x", "--keep-daily", "-1"), "0<=x<=10000"),
        (("backup", "x", "--keep-monthly", "10001"), "0<=x<=10000"),
        (("backup", "x", "--verify", "--keep-weekly", "1"), "--verify removes nothing"),
        (("restore",), "SRC"),
        (("query", "snapshot", "2024-13-01"), "YYYY-MM-DD"),
        (("query", "snapshot", "2999-01-01"), "is not over"),
        (("query", "snapshot", "2017-06-30"), "before 2017-07-01"),
        (("backfill", "--start", "2024-01-02", "--end", "2024-01-01"), "swap them"),
        (("update", "manual", "--date", "tomorrow"), "YYYY-MM-DD, yesterday or today-7"),
        (("update", "manual", "--date", "today"), "is not over"),
        (("query", "holes", "--db", "s3://key:secret@bucket/x"), "is an address"),
        (("query", "holes", "--db", "/"), "is a directory"),
        (("query", "timeline"), "SYMBOL"),
    ],
)
def test_wrong_usage_is_one_clear_line_with_exit_2(shell, args, words):
    done = inside(shell, *args)
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [("AVAILABILITY_SETTLE_DAYS", "0"), ("AVAILABILITY_S3_ENDPOINT", "localhost"),
     ("AVAILABILITY_PUBLISH_URL", "ftp://host/folder")],
)  # fmt: skip
def test_a_bad_setting_is_wrong_usage(shell, name, value):
    done = shell("status", **{name: value})
    assert done.returncode == 2
    # The last line, too: DuckDB once added forty about leaks.
    assert f"{name}='{value}'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("args", [("status",), ("query", "holes"), ("update", "manual")])
def test_a_misspelt_variable_is_wrong_usage(shell, args):
    done = shell(*args, AVAILABILITY_ALERT_URL="json://token-of-mine@example.com")
    assert done.returncode == 2
    says = "AVAILABILITY_ALERT_URL is not a setting, the nearest is AVAILABILITY_ALERT_URLS"
    assert says in done.stderr.splitlines()[-1]
    assert "token-of-mine" not in done.stderr


def test_an_unknown_symbol_names_the_nearest(shell):
    done = shell("query", "timeline", "BTCUSD")
    assert done.returncode == 1
    assert "did you mean BTCUSDT" in done.stderr


def test_a_date_never_looked_at_is_not_an_empty_list(shell):
    done = shell("query", "snapshot", "2024-01-01", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "was not probed" in done.stderr


def test_a_database_that_cannot_be_used_is_one_line_with_the_remedy(shell, tmp_path):
    foreign = tmp_path / "foreign.duckdb"
    foreign.write_text("x" * 5000)
    for path in (tmp_path / "none.duckdb", foreign, foreign / "below.duckdb"):
        for args in (("status",), ("update", "manual")):
            if args == ("update", "manual") and path.name == "none.duckdb":
                continue
            done = inside(shell, *args, AVAILABILITY_DB=str(path))
            assert done.exit_code == 1, (args, path)
            assert done.stderr.startswith("Error: ")
            assert "Traceback" not in done.stderr
    assert foreign.read_text() == "x" * 5000


UPDATE = ("update", "manual")
BACKFILL = ("backfill", "--start", str(FIRST), "--end", str(YESTERDAY))


@pytest.mark.parametrize(
    ("args", "environment", "code", "says"),
    [
        (UPDATE, {"DAGSTER_HOME": "/nowhere/at/all"}, 1, "DAGSTER_HOME=/nowhere/at/all"),
        (BACKFILL, {"AVAILABILITY_S3_ENDPOINT": "http://127.0.0.1:9"}, 1, "cannot list"),
        (UPDATE, {"AVAILABILITY_S3_BUCKET": "nowhere"}, 1, "NoSuchBucket"),
        (BACKFILL, {"AVAILABILITY_S3_CONCURRENCY": "0"}, 2, "AVAILABILITY_S3_CONCURRENCY"),
    ],
    ids=["no home", "no network", "no bucket", "bad setting"],
)
def test_a_command_that_fails_makes_no_database(shell, tmp_path, args, environment, code, says):
    """An empty one would turn "no database" into "no date was probed"."""
    home = tmp_path / "home"  # a new one: where a run has written before, another record is refused
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    new = {"AVAILABILITY_DB": str(tmp_path / "new" / "record.duckdb"), "DAGSTER_HOME": str(home)}
    done = shell(*args, **(new | environment))
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [home]
    assert "no database" in shell("query", "holes", **new).stderr


def test_a_refused_probe_makes_no_database(shell, tmp_path):
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    new = {"AVAILABILITY_DB": str(tmp_path / "record.duckdb"), "DAGSTER_HOME": str(tmp_path)}
    ahead = {"Date": format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(2), usegmt=True)}

    def respond(query):
        if query.get("delimiter") == "/":
            return Answer(page(folder(f"{UM_KLINES_1M.prefix}BTCUSDT/")), headers=ahead)
        return Answer(page(entry(UM_KLINES_1M.key("BTCUSDT", YESTERDAY))), headers=ahead)

    with hostile_archive() as archive:
        archive.respond = respond
        done = shell("update", "manual", **new, AVAILABILITY_S3_ENDPOINT=archive.url)
    assert done.returncode == 1
    assert "the clock is" in done.stderr
    assert not (tmp_path / "record.duckdb").exists()


def test_an_update_that_fails_leaves_the_record_as_it_was_byte_for_byte(shell, tmp_path):
    copy = tmp_path / "record.duckdb"
    shutil.copy(shell.env["AVAILABILITY_DB"], copy)
    before = copy.read_bytes()
    done = shell(
        "update", "manual", AVAILABILITY_DB=str(copy), AVAILABILITY_SETTLE_DAYS="9",
        AVAILABILITY_S3_ENDPOINT="http://127.0.0.1:9",
    )  # fmt: skip
    assert done.returncode == 1
    assert copy.read_bytes() == before


def test_a_closed_pipe_ends_quietly(shell):
    command = f"{sys.executable} -m availability_pipeline.cli query timeline BTCUSDT | head -1"
    done = subprocess.run(
        command, shell=True, env=shell.env, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_read_commands_import_neither_dagster_nor_pandas(shell):
    code = (
        "import sys; from availability_pipeline.cli.main import cli\n"
        "cli(['query', 'timeline', 'BTCUSDT', '--json'], standalone_mode=False)\n"
        "print({'dagster', 'pandas', 'boto3'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=shell.env, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "set()"


def commands(group, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(commands(cli)), ids=lambda v: str(v))
def test_every_command_has_help_with_an_example(path, command):
    assert "Example: binance-availability " + path[0] in command.help


GROUPS = [
    ((), cli),
    *((path, command) for path, command in commands(cli) if hasattr(command, "commands")),
]


@pytest.mark.parametrize(("path", "group"), GROUPS, ids=lambda v: str(v))
def test_the_list_of_commands_is_not_cut_at_80_columns(path, group, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = CliRunner().invoke(cli, [*path, "--help"]).stdout
    listed = text.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == sorted(group.commands), "one line each"
    assert [line for line in listed if "..." in line or len(line) > 80] == []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_messages_take_the_programs_name_from_one_place(path):
    """Docstrings, from which `--help` has its examples, are literal; nothing else is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    docs = {ast.get_docstring(n, clean=False) for n in ast.walk(tree) if isinstance(n, documented)}
    texts = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    wrong = [t.lineno for t in texts if re.search(NAMES, t.value) and t.value not in docs]
    assert len(wrong) == (path == PACKAGE / "__init__.py"), f"lines {wrong}: use PROGRAM"
