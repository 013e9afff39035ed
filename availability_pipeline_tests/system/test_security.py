"""Secrets stay secret, and what others wrote never becomes SQL or a shell's words."""

import ast
import asyncio
import os
import plistlib
import re
import shutil
import subprocess
import sys
import traceback
from dataclasses import fields
from pathlib import Path

import dagster as dg
import duckdb
import pytest
import yaml
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster_graphql.schema import create_schema
from hypothesis import given
from hypothesis import strategies as st

from availability_pipeline import queries, settings
from availability_pipeline.alerts import delivery
from availability_pipeline.copies.destinations import destination
from availability_pipeline.definitions import defs
from availability_pipeline.errors import StoreError
from availability_pipeline.masking import mask, mask_target
from availability_pipeline.orchestration import services
from availability_pipeline.record import connection
from availability_pipeline.record.status import Scope
from availability_pipeline_tests.support.disclosure import everything_in
from availability_pipeline_tests.support.helpers import PATIENCE, D, flat
from availability_pipeline_tests.support.receiver import SECRET, receiving
from availability_pipeline_tests.support.world import END, START, World

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "availability_pipeline"
HOSTILE = "'; DROP TABLE daily_availability; --"

# --- secrets ---------------------------------------------------------------------------------


ADDRESSES = [n for n in settings.Settings.model_fields if re.search("endpoint|_url$|dest", n)]
"""Settings that are addresses, those to come included: none takes credentials."""


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize("scheme", ["https", "s3"])
@pytest.mark.parametrize("secret", [SECRET, f"{SECRET}/{SECRET}"])
def test_no_setting_takes_an_address_with_credentials(monkeypatch, name, scheme, secret):
    """boto3 has places of its own for them, and an address is printed in many places."""
    variable = f"AVAILABILITY_{name.upper()}"
    monkeypatch.setenv(variable, f"{scheme}://{SECRET}:{secret}@example.org/path?x={SECRET}")
    with pytest.raises(settings.SettingsError) as caught:
        settings.load()
    assert f"{variable}='{scheme}://****@example.org/path?****" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_export_to_an_address_with_credentials_does_not_repeat_them():
    for secret in (SECRET, f"{SECRET}/{SECRET}"):
        with pytest.raises(StoreError) as caught:
            destination(f"s3://{SECRET}:{secret}@bucket/path")
        assert SECRET not in str(caught.value)


def test_no_secret_reaches_history_logs_or_output_of_a_failing_update(tmp_path):
    """What is once in a run's history is in every backup of it, and on every screen."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    said = []
    with receiving() as receiver:
        env = {k: v for k, v in os.environ.items() if not k.startswith("AVAILABILITY")} | {
            "AVAILABILITY_ALERT_URLS": f"{receiver.url} jsons://{SECRET}@127.0.0.1:9/{SECRET}",
            "AWS_ACCESS_KEY_ID": SECRET,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AVAILABILITY_DB": str(home / "record.duckdb"),
            "AVAILABILITY_S3_ENDPOINT": "http://127.0.0.1:9",
            "DAGSTER_HOME": str(home),
            "NO_PROXY": "127.0.0.1",
        }

        def run(*words, code, **more):
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "availability_pipeline.cli", *words],
                env=env | more, cwd=tmp_path, capture_output=True, check=False, timeout=PATIENCE,
            )  # fmt: skip
            said.extend([done.stdout, done.stderr])
            assert done.returncode == code, done.stderr.decode()
            return done.stderr.decode()

        assert "cannot list" in run("update", "manual", code=1)
        run("status", "--json", code=1)  # the refused update made no database
        run("query", "revisions", "--json", code=1)
        run("alerts", "test", "--json", code=1)
        with_user = {"AVAILABILITY_S3_ENDPOINT": f"https://u:{SECRET}@example.org?x={SECRET}"}
        assert "https://****@example.org?****" in run("status", code=2, **with_user)
        for unknown in (f"nosuch://{SECRET}", SECRET):
            for words in (["alerts", "test"], ["update", "manual"]):
                run(*words, code=2, AVAILABILITY_ALERT_URLS=unknown)
        assert receiver.titles == ["binance-availability: test"]
    kept = everything_in(home)
    assert b"update" in kept, "the run is in the history"
    assert b"cannot list" in kept
    assert SECRET.encode() not in kept
    assert SECRET.encode() not in b"\n".join(said)


JOBS = sorted({job.name for job in defs.resolve_all_job_defs()})
"""Dagster's own job of all assets is among them."""


def fields_of(kind, path=""):
    """Each field of a configuration, with its type's key."""
    yield path, kind.key
    for name, field in (getattr(kind, "fields", None) or {}).items():
        yield from fields_of(field.config_type, f"{path}.{name}")
    for inner in ("inner_type", "scalar_type", "non_scalar_type"):
        if found := getattr(kind, inner, None):
            yield from fields_of(found, path)


@pytest.mark.parametrize("name", JOBS)
def test_no_text_of_a_run_s_configuration_is_taken_from_the_environment(name):
    """`{env: AVAILABILITY_ALERT_URLS}` would put the secret into what the UI shows of the run."""
    schema = defs.resolve_job_def(name).run_config_schema.config_type
    found = list(fields_of(schema))
    assert found
    assert not [path for path, key in found if key in ("StringSourceType", "IntSourceType")]
    # A permissive or free part would be stored as it is, and read by who knows what.
    for resource in ("duckdb", "archive", "limits", "clock", "io_manager"):
        kinds = {path: key for path, key in found if path.startswith(f".resources.{resource}.")}
        # The UI shows the file as configuration; the only value it takes is the one it has.
        kinds.pop(".resources.duckdb.config.database", None)
        assert not [path for path in kinds if path.removesuffix(".config").count(".") > 2], kinds


@pytest.mark.parametrize("value", [{"env": "AVAILABILITY_ALERT_URLS"}, "elsewhere.duckdb"])
@pytest.mark.parametrize(("key", "field"), [("duckdb", "database"), ("io_manager", "base_dir")])
def test_a_run_cannot_say_where_the_record_is(tmp_path, monkeypatch, key, field, value):
    """Nor learn a secret: the error names it by its variable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVAILABILITY_DB", str(tmp_path / "record.duckdb"))
    monkeypatch.setenv("AVAILABILITY_ALERT_URLS", f"json://u:{SECRET}@127.0.0.1/{SECRET}")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    config = {"resources": {key: {"config": {field: value}}}}
    with (
        dg.instance_for_test(temp_dir=str(tmp_path)) as instance,
        pytest.raises(dg.DagsterInvalidConfigError) as caught,
    ):
        defs.resolve_job_def("draw_report").execute_in_process(
            run_config=config, instance=instance, raise_on_error=False
        )
    assert SECRET not in str(caught.value)
    assert SECRET.encode() not in everything_in(tmp_path)
    assert not list(tmp_path.rglob("*elsewhere*"))


def test_the_ui_shows_where_the_record_is(hostile):
    event = hostile.instance.get_latest_materialization_event(dg.AssetKey("symbol_spans"))
    shown = event.asset_materialization.metadata["database"]
    assert shown == dg.MetadataValue.path(hostile.path)


def test_settings_do_not_show_secrets_however_they_are_printed(monkeypatch):
    monkeypatch.setenv("AVAILABILITY_ALERT_URLS", f"json://{SECRET}@example.org/{SECRET}")
    s = settings.load()
    assert s.alert_urls[0].get_secret_value().startswith("json://")
    for text in (repr(s), str(s), s.model_dump_json(), str(s.model_dump()), repr(vars(s))):
        assert SECRET not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AVAILABILITY_ALERT_URLS", f"slack://{SECRET}"),
        ("AVAILABILITY_S3_ENDPOINT", f"https://user:{SECRET}@example.org"),
        ("AVAILABILITY_S3_ENDPOINT", f"https://example.org/?X-Amz-Signature={SECRET}"),
    ],
)
def test_an_error_about_a_secret_setting_does_not_carry_it(monkeypatch, name, value):
    """Not in the line, not in a traceback, not in what Dagster would store of it."""
    monkeypatch.setenv(name, value)
    with pytest.raises(settings.SettingsError) as caught:
        delivery.addresses(settings.load())
    stored = dg._utils.error.serializable_error_info_from_exc_info(caught._excinfo)
    shown = "".join(traceback.format_exception(caught.value)) + str(stored)
    assert name in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://key:sec/ret@bucket/path", "s3://****@bucket/path"),
        ("https://example.org/a?token=x#y", "https://example.org/a?****"),
        ("failed: 'https://u:p@h/x' and ftp://u@h", "failed: 'https://****@h/x' and ftp://****@h"),
        ("/no/address?at=all", "/no/address?at=all"),
        ("/cwd/s3:/key:secret@bucket", "/cwd/s3:/****@bucket"),  # as pathlib writes it
        ("https:///u:p@h", "https:///****@h"),
    ],
)
def test_an_address_is_shown_without_what_gives_access(address, shown):
    assert mask(address) == shown


@given(st.text(st.characters(exclude_characters=" \t\r\n'\"<>@?*"), min_size=1))
def test_no_user_password_or_query_survives_masking(secret):
    marked = f"\x01{secret}\x01"
    if re.search(r"\s", marked):
        return
    text = mask(f"error at s3://{marked}:{marked}@bucket/key?{marked} in a sentence")
    assert "\x01" not in text
    assert text.endswith(" in a sentence")
    assert "\x01" not in mask_target(f"slack://{marked}/x")


# --- SQL and shells --------------------------------------------------------------------------

# What may be put into SQL, and why it is never what somebody else wrote. Capitals are constants.
OWN_WORDS = {
    "settled_at": "SQL of our own; its argument is a column's name",
    "url_sql": "of datasets.Dataset: its own prefix and interval, and columns' names",
    "status_sql": "SQL of our own; its argument is an alias",
    "outages": "in checks: a SELECT of our own",
    "accepted": "in checks: a SELECT of our own",
    "vanished": "in checks: a relation of a Scope with a condition of our own",
    "windows": "a SELECT of our own",
    "CreateTable": "SQLAlchemy's, of one of Dagster's tables",
    "every_file": "in mirror.sources: a SELECT of our own",
    "where": "of answers.Chosen: our own words, values bound",
    "unsettled_sql": "SQL of our own; its argument is a column's name",
    "relation": "in connection: a table's name from the catalog, quoted",
    "column": "a column's name, given by our own callers",
    "date": "in schema.settled_at: a column's name",
    "what": "in symbols: a comparison of our own, its date bound",
    "table": "one of our own tables",
    "sql": "a SELECT of our own",
    "form": "one of two formats of ours",
    "month": "in export: one of two expressions of ours",
    "part": "in export and publish: one of two expressions of ours",
    "dates": "in export: one of two expressions of ours",
    "order": "in export: columns of our own tables",
    "place": "in documents: SQL of a Scope",
    "holes": "in documents: a relation of a Scope",
    "listings": "in documents: a relation of a Scope",
    "revisions": "in publish: a SELECT of our own",
    "rows": "in publish: a SELECT of our own",
    "first": "in publish: a date from DuckDB",
    "last": "in publish: a date from DuckDB",
    "quoted": "in _snapshot: a table's name from the catalog, quoted",
    "definitions": "in schema: the columns of our own tables",
    "named": "in status: a condition of our own, values bound",
    "_name": "in connection: a database's name from DuckDB, quoted",
    "_text": "in connection: the path of a file of our own, quoted",
    "users_select": "in own: what the caller asks, parsed and judged before it is bound",
    "chosen_ones": "in revisions: of answers.Chosen, values bound",
    "statement": "DDL of our own, or Dagster's own statement",
    "key": "in derived and _snapshot: columns of our own tables",
    "files": "in _snapshot: one of two tables of ours",
    "_source": "in export: a relation of a Scope",
    "_holes": "in checks: SQL of our own",
    "_settled": "in checks: SQL of our own",
    "of": "in files: a relation of a Scope with a condition of our own",
    "_early": "in revisions: SQL of our own",
    "_moved": "in revisions: SQL of our own",
    "_back": "in revisions: SQL of our own",
    "_changes": "in revisions: SQL of our own",
    "_dates_sql": "in derived: SQL of our own",
    "listings_sql": "in derived: SQL of our own",
    "summary_sql": "in derived: SQL of our own",
    "delisted": "in derived: a condition of our own with a DATE of DuckDB's",
    "columns": "in status: columns of our own tables",
    "number": "in status: of a SMALLINT column",
    "range_before": "in write: a condition of our own, its dates bound",
    "probes": "in derived: a temporary table of ours",
    "all_probes": "in derived: a temporary table of ours",
    "symbols": "in derived: a temporary table of ours",
    "version_1_sql": "in schema: SQL of our own",
    "number_sql": "in schema.version_1_sql: SQL of a number, of our own callers",
    "_listed_only": "in write: a condition of our own",
    "ranges": "in derived: a relation of our own, its moment bound",
    "step": "in derived: one of two intervals of ours",
    "after": "of Scope: a column of our own and a number",
    "distance": "of Scope: columns of our own",
    "n": "in plan: the place of a dataset in a list of ours",
    "hexed": "SQL of our own; its argument is a column's name",
    "condition": "of answers.Chosen, or one of our own; values bound",
    "pair": "in volume: SQL of our own; its argument is a column's name",
    "asset": "in volume: one of two columns of ours",
    "first_period": "of Scope: a date of the catalogue",
}
OF_SCOPE = {field.name for field in fields(Scope)} - {"dataset", "as_of"} | {"cells", "holes"}
"""Relations of `status.Scope`: our own words, and numbers that a SMALLINT column holds."""

KEYWORDS = re.compile(
    r"\b(SELECT|INSERT INTO|DELETE FROM|UPDATE|COPY|ATTACH|CREATE|DROP|FROM|WHERE|JOIN|ORDER BY)\b"
)


def put_into_sql(tree: ast.AST):
    """Each expression that becomes part of a text with SQL in it, or is executed as SQL."""
    for node in ast.walk(tree):
        texts: list[ast.expr] = []
        if isinstance(node, ast.JoinedStr):
            texts = [v.value if isinstance(v, ast.FormattedValue) else v for v in node.values]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
            texts = [node.left, node.right]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = [*node.args, *(k.value for k in node.keywords)]
            if node.func.attr in {"format", "format_map", "replace", "join"}:
                texts = [node.func.value, *given]
            elif node.func.attr in {"execute", "executemany", "sql", "query"} and given:
                texts = [ast.Constant("SELECT"), given[0]]
        constants = [t.value for t in texts if isinstance(t, ast.Constant)]
        if KEYWORDS.search(" ".join(c for c in constants if isinstance(c, str))):
            yield from (t for t in texts if not isinstance(t, ast.Constant | ast.JoinedStr))


def is_own(expression: ast.expr) -> bool:
    if isinstance(expression, ast.Call):
        expression = expression.func
    name = expression.attr if isinstance(expression, ast.Attribute) else ast.unparse(expression)
    if isinstance(expression, ast.Attribute) and name in OF_SCOPE:
        return ast.unparse(expression.value) in {
            "t", "self", "before", "then", "scope(con)", "main", "days", "months", "scope", "s",
        }  # fmt: skip
    return name in OWN_WORDS or re.fullmatch(r"_?[A-Z][A-Z0-9_]*", name) is not None


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_only_our_own_words_become_sql(path):
    """Values are bound. A new word of our own goes into OWN_WORDS, with the reason."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    foreign = [f"line {e.lineno}: {ast.unparse(e)}" for e in put_into_sql(tree) if not is_own(e)]
    assert not foreign, "bind it as a parameter"


@pytest.mark.parametrize(
    "code",
    [
        "con.execute(f\"SELECT * FROM t WHERE symbol = '{symbol}'\")",
        "con.execute(\"SELECT * FROM t WHERE symbol = '%s'\" % symbol)",
        'con.execute("SELECT * FROM t WHERE symbol = " + symbol)',
        "con.execute(\"SELECT * FROM t WHERE symbol = '{}'\".format(symbol))",
        "con.sql(text)",
        'query = f"DELETE FROM t WHERE symbol = {symbol}"',
    ],
)
def test_the_look_at_the_source_finds_each_way_to_build_sql(code):
    assert [e for e in put_into_sql(ast.parse(code)) if not is_own(e)]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_is_started_through_a_shell(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in {"os.system", "os.popen", "subprocess.getoutput"}
            assert "shell" not in {keyword.arg for keyword in node.keywords}, node.lineno
            if name.startswith("subprocess.") and node.args:
                assert not isinstance(node.args[0], ast.JoinedStr | ast.BinOp), node.lineno


@pytest.fixture
def hostile(tmp_path):
    """A record in a file whose name is made of quotes, spaces and SQL."""
    folder = tmp_path / 'it\'s "a" folder; $(touch pwned)'
    folder.mkdir()
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(folder, instance)
        world.path = folder / "rec'; DROP TABLE probes; --.duckdb"
        assert world.run().success
        yield world


def test_a_path_of_quotes_and_sql_is_only_a_path(hostile):
    assert hostile.path.exists()
    assert hostile.rows("SELECT count(*) FROM probes") == [(10,)]
    assert not list(Path.cwd().glob("pwned"))


def test_a_symbol_of_sql_is_only_an_unknown_symbol(hostile):
    with connection.reader(hostile.path) as con:
        for text in (HOSTILE, 'AUSDT" OR 1=1 --', "AUSDT' OR '1'='1", "%", "$1", "?", "{}"):
            for question in (queries.timeline, queries.holes):
                with pytest.raises(queries.QueryError):
                    question(con, text)
    assert hostile.rows("SELECT count(*) FROM daily_availability") == [(20,)]


def test_a_matrix_goes_to_a_path_of_quotes_and_sql(hostile):
    from availability_pipeline.queries.universe import write_universe

    target = hostile.path.with_name("out'; DROP TABLE probes; --.parquet")
    with connection.reader(hostile.path) as con:
        write_universe(con, target, START, END)
    rows = duckdb.read_parquet(str(target)).fetchall()
    assert len(rows) == 10
    assert hostile.rows("SELECT count(*) FROM probes") == [(10,)]


def test_a_folder_in_the_archive_named_like_sql_is_passed_over_or_refused(hostile):
    hostile.archive.files = {**hostile.archive.files, HOSTILE: flat(START, D(2024, 1, 2))}
    assert not hostile.run().success
    assert hostile.rows("SELECT count(*) FROM daily_availability") == [(20,)]


# --- the web UI ------------------------------------------------------------------------------


def test_the_ui_is_bound_to_loopback():
    """It has no log-in: on a public address anybody could launch runs."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    # All that make starts goes through `services`.
    assert not re.search(r"^\t.*dagster(?: dev|-webserver) ", makefile, flags=re.MULTILINE)
    documented = [
        line
        for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.match(
            r"\$ .*(?:dagster(?: dev|-webserver)|availability_pipeline[a-z.]*\.webserver) ",
            line,
        )
    ]
    assert documented
    for line in documented:
        assert re.search(r"(-h|--host) 127\.0\.0\.1\b", line), line
        assert "availability_pipeline.orchestration.instance.webserver" in line, (
            "Dagster's own has no guard"
        )
    command = services.commands(3000)["webserver"]
    assert command[command.index("-h") + 1] == "127.0.0.1"
    assert "availability_pipeline.orchestration.instance.webserver" in command


def test_the_services_bind_the_ui_to_loopback():
    unit = (ROOT / "deploy/systemd/binance-availability-webserver.service").read_text()
    [start] = re.findall(r"^ExecStart=.*$", unit, flags=re.MULTILINE)
    assert " -h 127.0.0.1 " in start
    plist = plistlib.loads((ROOT / "deploy/launchd/availability.webserver.plist").read_bytes())
    words = plist["ProgramArguments"]
    assert words[words.index("-h") + 1] == "127.0.0.1"
    # In a container 0.0.0.0 is the container; what is published is what counts.
    containers = yaml.safe_load((ROOT / "deploy/docker/compose.yaml").read_text())["services"]
    ports = [port for service in containers.values() for port in service.get("ports", ())]
    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


SENSOR = 'repositoryLocationName: "l", repositoryName: "r"'
CHANGES = {
    "launchPipelineExecution": 'executionParams: {mode: "default", runConfigData: {}, '
    f'selector: {{{SENSOR}, pipelineName: "late_arrivals"}}}}',
    "deletePipelineRun": 'runId: "x"',
    "wipeAssets": "assetPartitionRanges: []",
    "startSchedule": f'scheduleSelector: {{{SENSOR}, scheduleName: "daily_update_schedule"}}',
    "setSensorCursor": f'cursor: "", sensorSelector: {{{SENSOR}, sensorName: "alert_sensor"}}',
    "shutdownRepositoryLocation": 'repositoryLocationName: "l"',
}


def test_a_read_only_ui_refuses_every_change(tmp_path):
    """What docs/security.md says of sharing; without --read-only none of them is refused."""
    schema = create_schema()
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        for read_only in (True, False):
            with WorkspaceProcessContext(
                instance, EmptyWorkspaceTarget(), read_only=read_only
            ) as served:
                for name, arguments in CHANGES.items():
                    question = f"mutation {{ {name}({arguments}) {{ __typename }} }}"
                    context = served.create_request_context()
                    answer = asyncio.run(schema.execute_async(question, context_value=context))
                    assert not answer.errors
                    refused = answer.data[name]["__typename"] == "UnauthorizedError"
                    assert refused == read_only, name


@pytest.mark.parametrize(
    ("title", "says"),
    [
        ("Other users of the machine", "Any local user can connect to the UI's port"),
        ("Proxies and plain http", "AVAILABILITY_EXCHANGE_INFO_URL"),
        ("What is installed", "--require-hashes"),
        ("Backups", "does not show who made a backup"),
        ("Web pages and the UI", "with plain `dagster dev`"),
    ],
)
def test_the_page_on_security_says_what_is_not_promised(title, says):
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    sections = dict(text.split("\n", 1) for text in page.split("\n## ")[1:])
    assert says in sections[title]
