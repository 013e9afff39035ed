"""What runs it for years: service units, agents, containers, an installation without a checkout."""

import datetime as dt
import importlib.util
import json
import os
import plistlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from dagster._daemon.cli import create_dagster_daemon_cli
from dagster_webserver.cli import create_dagster_webserver_cli

from availability_pipeline import __version__
from availability_pipeline.cli.main import cli
from availability_pipeline.record import write
from availability_pipeline.record.connection import writer
from availability_pipeline.settings import Settings
from availability_pipeline_tests.support import published, volumes
from availability_pipeline_tests.support.demo_process import free_port, left_of_home
from availability_pipeline_tests.support.helpers import PATIENCE, D, days, flat, make_listing
from availability_pipeline_tests.support.requirements import need, skip
from availability_pipeline_tests.support.s3 import local_archive

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PLISTS = sorted((DEPLOY / "launchd").glob("*.plist"))
COMPOSE = DEPLOY / "docker" / "compose.yaml"
READER = ROOT / "requirements" / "reader.txt"

needs_systemd = pytest.mark.requires("systemd")

PROGRAMS = {
    "binance-availability": cli,
    "dagster-daemon": create_dagster_daemon_cli(),
    # It takes the options of the one it guards.
    "availability_pipeline.orchestration.instance.webserver": create_dagster_webserver_cli(),
}


def assert_command_is_there(command):
    """The program is installed with us, and takes these arguments."""
    name, arguments = Path(command[0]).name, list(command[1:])
    assert (BIN / name).exists(), name
    if name == "python":
        # Dagster's own webserver lets pages of any site launch runs.
        safe, module, name, *arguments = arguments
        assert (safe, module) == ("-P", "-m")
        assert importlib.util.find_spec(name), name
        if name == "availability_pipeline.orchestration.services":
            assert arguments[0] == "--"
            return assert_command_is_there(arguments[1:])
    program = PROGRAMS[name]
    if hasattr(program, "commands"):
        program = program.commands[arguments.pop(0)]
    return program.make_context(name, arguments)


def known_variables(names):
    ours = {f"AVAILABILITY_{name.upper()}" for name in Settings.model_fields}
    return set(names) <= ours | {
        *("DAGSTER_HOME", "DAGSTER_POSTGRES_URL", "DAGSTER_EVENT_BATCH_SIZE", "PYTHONSAFEPATH")
    }


# systemd


@pytest.fixture
def units(tmp_path):
    """The units with this environment's programs, as `verify` looks whether they are there."""
    for unit in UNITS:
        text = unit.read_text().replace("/opt/binance-availability/bin", str(BIN))
        (tmp_path / unit.name).write_text(text)
    return [tmp_path / unit.name for unit in UNITS]


def analyze(*args):
    return subprocess.run(
        ["systemd-analyze", *map(str, args)], capture_output=True, text=True, check=False
    )


@needs_systemd
def test_systemd_finds_no_fault_in_the_units(units):
    done = analyze("verify", *units)
    ours = [text for text in done.stderr.splitlines() if "binance-availability" in text]
    assert (done.returncode, ours) == (0, [])


@needs_systemd
@pytest.mark.parametrize("n", range(2))
def test_the_units_leave_little_exposed(units, n):
    """1.3 of 10, where 0 is nothing; 2.0 leaves room for other versions of systemd."""
    done = analyze("security", "--offline=true", units[n])
    [score] = re.findall(r"Overall exposure level for .*: ([\d.]+) ", done.stdout)
    assert 0 < float(score) < 2.0


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_again_after_a_crash_but_not_for_ever(unit):
    lines = set(unit.read_text().splitlines())
    assert {
        "Restart=on-failure", "StartLimitBurst=5", "After=network-online.target postgresql.service",
        "NoNewPrivileges=true", "ProtectSystem=strict", "PrivateTmp=true", "User=availability",
        "StateDirectory=binance-availability",
    } <= lines  # fmt: skip


def test_the_units_and_agents_call_programs_that_are_there():
    texts = "\n".join(unit.read_text() for unit in UNITS)
    commands = [c.split() for c in re.findall(r"^ExecStart=(.+)$", texts, flags=re.MULTILINE)]
    commands += [plistlib.loads(p.read_bytes())["ProgramArguments"] for p in PLISTS]
    assert len(commands) == 4
    for command in {(Path(c[0]).name, *c[1:]) for c in commands}:
        assert_command_is_there(command)


def test_the_webserver_of_units_and_agents_is_on_loopback():
    for path in (*UNITS, *PLISTS):
        if "webserver" in path.name:
            text = path.read_text()
            assert "127.0.0.1" in text
            assert "0.0.0.0" not in text


def test_nothing_is_imported_from_the_folder_where_a_service_runs():
    """Dagster would put the working directory first, where state and exports lie."""
    unit = (DEPLOY / "systemd/binance-availability-daemon.service").read_text()
    assert "\nEnvironment=PYTHONSAFEPATH=1\n" in unit
    agent = plistlib.loads((DEPLOY / "launchd/availability.daemon.plist").read_bytes())
    assert agent["EnvironmentVariables"]["PYTHONSAFEPATH"] == "1"
    assert "PYTHONSAFEPATH=1" in (DEPLOY / "docker/Dockerfile").read_text()
    [start] = re.findall(r"^ExecStart=(.+)$", unit, flags=re.MULTILINE)
    contained = compose()["services"]["daemon"]["command"]
    for words in (start.split(), agent["ProgramArguments"], contained):
        assert "share" in words[words.index("-d") + 1]


def test_the_environment_file_names_only_what_there_is():
    lines = (DEPLOY / "systemd" / "availability.env").read_text().splitlines()
    names = [m.group(1) for text in lines if (m := re.match(r"#?([A-Z_]+)=", text))]
    assert known_variables(names)
    assert set(names) >= {"DAGSTER_HOME", "AVAILABILITY_DB"}
    # Everything writable is in the folder that the unit gives the user.
    folder = "/var/lib/binance-availability"
    assert f"DAGSTER_HOME={folder}" in lines
    assert f"AVAILABILITY_DB={folder}/availability.duckdb" in lines


AS_AVAILABILITY = DEPLOY / "systemd" / "as-availability"
TOKENS = ("token-of-mine", "another-token")
SECRETS = f"""\
# a comment
AVAILABILITY_ALERT_URLS=json://{TOKENS[0]}@localhost/ json://{TOKENS[1]}@localhost/
AVAILABILITY_LOOKBACK_DAYS=33
"""
# What systemd does with a transient unit, but for becoming another user: it reads the file by
# itself, one variable a line (systemd.exec(5)), and starts the program with these settings alone.
SYSTEMD_RUN = """\
#!{python}
import os, sys
split = sys.argv.index("--")
properties = dict(o.removeprefix("--property=").split("=", 1)
                  for o in sys.argv[1:split] if o.startswith("--property="))
environment = {{"PATH": "/usr/bin:/bin", "PYTHONPATH": {root!r}}}
with open(properties["EnvironmentFile"]) as file:
    for line in file:
        if line.strip() and line[0] not in "#;":
            name, _, value = line.rstrip("\\n").partition("=")
            environment[name] = value
os.chdir(properties["WorkingDirectory"])
os.execve(sys.argv[split + 1], sys.argv[split + 1:], environment)
"""


@pytest.fixture
def as_availability(tmp_path):
    """The wrapper with this machine's folders, and a `systemd-run` without a service manager."""
    home, bin_ = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    bin_.mkdir()
    (home / "availability.env").write_text(SECRETS)
    fake = bin_ / "systemd-run"
    fake.write_text(SYSTEMD_RUN.format(python=sys.executable, root=str(ROOT)))
    script = tmp_path / "as-availability"
    text = AS_AVAILABILITY.read_text()
    for ours, there in (
        ("/opt/binance-availability/bin", BIN),
        ("/var/lib/binance-availability", home),
        ("/etc/binance-availability", home),
    ):
        assert ours in text
        text = text.replace(ours, str(there))
    script.write_text(text)
    for program in (fake, script):
        program.chmod(0o755)

    def run(*args, **environment):
        return subprocess.run(
            [script, *args], capture_output=True, text=True, check=False,
            env={"PATH": f"{bin_}:/usr/bin:/bin", **environment},
        )  # fmt: skip

    return run


def test_a_command_by_hand_has_the_settings_of_the_service_and_prints_no_token(as_availability):
    show = (
        "from availability_pipeline import settings; s = settings.load(); "
        "print(len(s.alert_urls), s.lookback_days, s)"
    )
    # The caller's own settings do not reach it.
    done = as_availability("python", "-c", show, AVAILABILITY_LOOKBACK_DAYS="7")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 33 ")
    failed = as_availability("python", "-c", "raise SystemExit(3)")
    assert failed.returncode == 3
    assert as_availability().returncode == 2
    for text in (done.stdout, done.stderr, failed.stderr):
        assert not [token for token in TOKENS if token in text]


@needs_systemd
def test_systemd_run_takes_the_options_of_the_wrapper(as_availability):
    """Whether or not it finds a service manager afterwards: options are read first."""
    real = str(Path(shutil.which("systemd-run") or "").parent)
    done = as_availability("python", "--version", PATH=f"{real}:/usr/bin:/bin")
    assert not re.search("option|argument", done.stderr), done.stderr


# How a file of settings gets into a shell: its values are split, run and printed.
LEAKS = [
    r"\bxargs\b",
    r"\benv\s+\$\(",
    r"\bexport\s+\$\(",
    r"\bset\s+-a\b",
    r"\beval\b(?! \"\$\(_BINANCE_AVAILABILITY_COMPLETE=)",  # what the program itself prints
    r"(?:^|[;&|]\s*|\s)(?:\.|source)\s+\S*\.env\b",
    r"\$\((?:cat|grep|sed|awk|<)[^)]*\.env\b",
    r"\bcat\s+\S*\.env\b",
]
TEXTS = sorted(
    path
    for path in [
        ROOT / "README.md", ROOT / "Makefile", *(ROOT / "docs").rglob("*.md"), *DEPLOY.rglob("*")
    ]
    if path.is_file()
)  # fmt: skip


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_reads_a_file_of_secrets_into_a_shell(path):
    code = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        blocks = re.findall(r"```\w*\n(.*?)```", code, flags=re.DOTALL)
        code = "\n".join([*blocks, *re.findall(r"(?<!`)`([^`\n]+)`(?!`)", code)])
    found = [leak for leak in LEAKS if re.search(leak, code, flags=re.MULTILINE)]
    assert not found, "use deploy/systemd/as-availability"


def test_the_search_for_leaks_finds_them():
    for command in (
        "env $(grep -v '^#' /etc/x/availability.env | xargs) program",
        "export $(cat availability.env)",
        "set -a; . ./availability.env",
        "source /etc/x/availability.env",
        "cat /etc/x/availability.env",
    ):
        assert [leak for leak in LEAKS if re.search(leak, command)], command


# launchd


@pytest.mark.parametrize("path", PLISTS, ids=lambda path: path.stem)
def test_an_agent_is_kept_alive_and_its_plist_is_sound(path):
    plist = plistlib.loads(path.read_bytes())
    assert plist["Label"] == path.stem
    assert plist["KeepAlive"] is True
    assert plist["RunAtLoad"] is True
    assert plist["ThrottleInterval"] >= 10
    assert known_variables(plist["EnvironmentVariables"])
    assert plist["EnvironmentVariables"]["DAGSTER_HOME"] == plist["WorkingDirectory"]


# Docker: no engine here, so the files are read as one would read them


def compose():
    return yaml.safe_load(COMPOSE.read_text())


def test_compose_takes_the_file():
    command = [*need("compose").split(), "-f", COMPOSE, "config", "-q"]
    subprocess.run(command, env=os.environ | {"POSTGRES_PASSWORD": "x"}, check=True)


def test_each_container_is_watched_confined_and_started_again():
    services = compose()["services"]
    assert set(services) == {"postgres", "daemon", "webserver"}
    for service in services.values():
        assert service["healthcheck"]["test"]
        assert service["restart"] == "unless-stopped"
        assert service["security_opt"] == ["no-new-privileges:true"]
    for name in ("daemon", "webserver"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert services["webserver"]["ports"] == ["127.0.0.1:3000:3000"]


def test_what_the_containers_run_is_there():
    services = compose()["services"]
    for name in ("daemon", "webserver"):
        assert_command_is_there(services[name]["command"])
    assert_command_is_there(services["daemon"]["healthcheck"]["test"][1:])
    compile(services["webserver"]["healthcheck"]["test"][3], "healthcheck", "exec")


def test_the_paths_of_compose_and_dockerfile_exist_and_fit():
    services = compose()["services"]
    for service in (services["daemon"], services["webserver"]):
        assert (COMPOSE.parent / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).exists()
        source, target, mode = service["volumes"][1].split(":")
        assert (COMPOSE.parent / source).resolve() == DEPLOY / "postgres" / "dagster.yaml"
        assert (target, mode) == ("/var/lib/availability/dagster.yaml", "ro")
        assert known_variables(service["environment"])
        assert "${POSTGRES_PASSWORD:?" in service["environment"]["DAGSTER_POSTGRES_URL"]
    dockerfile = (DEPLOY / "docker" / "Dockerfile").read_text()
    for sources in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, flags=re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    assert re.findall(r"^USER (.+)$", dockerfile, flags=re.MULTILINE) == ["10001:10001"]
    assert "latest" not in "".join(re.findall(r"^FROM.*$", dockerfile, flags=re.MULTILINE))
    kept = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    assert kept[0] == "*"
    assert kept.index("deploy/docker/*.env") > kept.index("!deploy")


# PostgreSQL's instance is the other one with another storage


def test_both_instances_differ_in_their_storage_only():
    one = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    other = yaml.safe_load((DEPLOY / "postgres" / "dagster.yaml").read_text())
    one.pop("event_log_storage")
    assert other.pop("storage") == {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
    assert one == other


# An installation without a checkout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of sdist and wheel, the wheel built from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    # A copy: the build writes into its source.
    source = folder / "source"
    source.mkdir()
    for name in ("availability_pipeline", "deploy"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "docs").mkdir()
    (source / "requirements").mkdir()
    for name in (
        *("pyproject.toml", "README.md", "LICENSE", "dagster.yaml"),
        *("docs/operate.md", "docs/package.md", "requirements/reader.txt"),
    ):
        shutil.copy(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", folder / "dist", source],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    if "No matching distribution found for setuptools" in said:
        skip("index")
    assert done.returncode == 0, said
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The wheel as pip installs it, without its dependencies."""
    prefix = tmp_path_factory.mktemp("installed") / "prefix"
    [wheel] = built.glob("*.whl")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps",
         "--ignore-installed", "--no-warn-script-location", "--prefix", prefix, wheel],
        check=True,
    )  # fmt: skip
    return prefix


def test_what_is_built_is_what_a_package_index_takes(built):
    files = sorted(built.iterdir())
    assert [path.name for path in files] == [
        f"binance_availability-{__version__}-py3-none-any.whl",
        f"binance_availability-{__version__}.tar.gz",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 2


def test_an_index_is_shown_a_page_that_needs_nothing_beside_it():
    """A relative picture or link leads nowhere there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / project["readme"]).read_text(encoding="utf-8")
    assert [to for to in re.findall(r"\]\(([^)]+)\)", page) if "://" not in to] == []
    for extra in project["optional-dependencies"].keys() - {"dev"}:
        assert f"| `{extra}` |" in page, extra


def test_an_installation_brings_what_a_home_needs(installed):
    share = installed / "share" / "binance-availability"
    for name, source in {
        "dagster.yaml": ROOT / "dagster.yaml",
        "reader.txt": READER,
        "postgres/dagster.yaml": DEPLOY / "postgres" / "dagster.yaml",
        "celery/worker.yaml": DEPLOY / "celery" / "worker.yaml",
        "k8s/values.yaml": DEPLOY / "k8s" / "values.yaml",
        **{f"systemd/{p.name}": p for p in (DEPLOY / "systemd").iterdir()},
        **{f"launchd/{p.name}": p for p in PLISTS},
    }.items():
        assert (share / name).read_bytes() == source.read_bytes(), name


@pytest.mark.parametrize("name", ["binance-availability", "binance-futures-availability"])
def test_the_former_name_starts_the_same_program(installed, name):
    [library] = installed.glob("lib*/python*/site-packages")
    done = subprocess.run(
        [sys.executable, installed / "bin" / name, "--version"],
        env=os.environ | {"PYTHONPATH": str(library)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"binance-availability, version {__version__}\n"


def test_an_installation_runs_ui_and_daemon_without_a_checkout_and_without_make(
    installed, tmp_path
):
    [library] = installed.glob("lib*/python*/site-packages")
    shutil.copy(installed / "share" / "binance-availability" / "dagster.yaml", tmp_path)
    env = os.environ | {
        "PYTHONPATH": str(library), "DAGSTER_HOME": str(tmp_path),
        "AVAILABILITY_DB": str(tmp_path / "record.duckdb"),
        "AVAILABILITY_S3_ENDPOINT": "http://127.0.0.1:9",
    }  # fmt: skip
    port = free_port()

    def run(*args):
        done = subprocess.run(
            [sys.executable, installed / "bin" / "binance-availability", *args],
            cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    try:
        log = tmp_path / "background.log"
        started = run("start", "--port", str(port))
        assert started == (0, f"started: http://127.0.0.1:{port}, output in {log}\n", "")
        assert run("running") == (0, f"running: http://127.0.0.1:{port}\n", "")
    finally:
        stopped = run("stop")
    assert stopped == (0, "stopped\n", "")
    assert left_of_home(tmp_path) == []


def test_an_installation_updates_without_a_checkout(installed, tmp_path):
    [library] = installed.glob("lib*/python*/site-packages")
    shutil.copy(installed / "share" / "binance-availability" / "dagster.yaml", tmp_path)
    env = {k: v for k, v in os.environ.items() if not k.startswith("AVAILABILITY_")}
    env |= {
        "PYTHONPATH": str(library),
        "DAGSTER_HOME": str(tmp_path),
        "AVAILABILITY_DB": str(tmp_path / "record.duckdb"),
    }
    program = installed / "bin" / "binance-availability"

    def run(*args, **more):
        return subprocess.run(
            [sys.executable, program, *args],
            cwd=tmp_path, env=env | more, capture_output=True, text=True, check=False,
            timeout=PATIENCE,
        )  # fmt: skip

    with local_archive() as archive:
        archive.put("BTCUSDT", days(D(2024, 1, 1), D(2024, 1, 3)))
        done = run(
            "update", "manual", "--date", "2024-01-02", AVAILABILITY_S3_ENDPOINT=archive.endpoint
        )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert (tmp_path / "history" / "runs" / "index.db").exists()
    assert "Daily update completed: 1 symbols" in (tmp_path / "log/availability.log").read_text()
    got = json.loads(run("query", "snapshot", "2024-01-02", "--json").stdout)
    assert [row["symbol"] for row in got] == ["BTCUSDT"]
    del env["DAGSTER_HOME"]
    done = run("update", "manual")
    assert done.returncode == 1
    assert "DAGSTER_HOME is not set; make a folder" in done.stderr


# A reader: the package without its dependencies, and what requirements/reader.txt has.

FIRST, LAST = D(2024, 1, 1), D(2024, 1, 10)

READ = [
    "query snapshot 2024-01-05",
    "query timeline AUSDT",
    "query range 2024-01-01 2024-01-05",
    "query holes",
    "query revisions --all",
    "query listings",
    "query coverage AUSDT",
    "query universe 2024-01-02 2024-01-04",
    "query volume AUSDT",
    "query rankings 2024-01-05",
    "query analytics new-listings 2024-01-04",
    "query analytics delistings 2024-01-05",
    "query analytics summary --start 2024-01-01 --end 2024-01-05",
    "validate --start 2024-01-06 --end 2024-01-10",
    "slo acknowledge --date 2024-01-05 --symbol AUSDT --reason never",
    "slo acknowledged",
    "slo forget --date 2024-01-05 --symbol AUSDT",
    "slo",
    "status",
    "datasets --json",
    "export exported --partition-by month",
    "publish site",
    "publish site --verify",
    "backup backups",
    "backup backups --verify",
    "restore backups",
    "follow site --to followed.duckdb",
    "query listings --db followed.duckdb",
    "files plan --daily-only",
    "files verify mirror --daily-only --symbols AUSDT --start 2024-01-05 --end 2024-01-05",
]
"""Works, in this order."""

LACKING = {
    "demo --no-ui": "[demo]",
    "up": "psutil",
    "start": "psutil",
    "stop": "psutil",
    "running": "psutil",
    "update manual --date 2024-01-05": "dagster",
    "backfill --start 2024-01-01 --end 2024-01-05": "dagster",
    "restore backups --repair": "dagster",
    "report": "[report]",
    "alerts test": "[alerts]",
    "export s3://bucket/prefix": "botocore",
    "publish s3://bucket/prefix": "botocore",
    "datasets discover": "botocore",
    "files download mirror --daily-only": "urllib3",
    "volume update": "urllib3",
}
"""Says what it lacks."""


@pytest.fixture(scope="module")
def reading(installed, tmp_path_factory):
    """Runs the reader's Python beside a record of its own."""
    python, folder = need("reader"), tmp_path_factory.mktemp("reader")
    hole = flat(FIRST, LAST)
    del hole[D(2024, 1, 5)]
    with writer(folder / "record.duckdb") as con:
        for day, begin in ((1, D(2024, 1, 5)), (2, D(2024, 1, 4))):  # a file that came late
            files = {"AUSDT": hole, "龙虾USDT": flat(begin, LAST)}
            at = dt.datetime(2024, 3, day, 2, tzinfo=dt.UTC)
            write.write_probe(con, make_listing(FIRST, LAST, files), probed_at=at, run_id="run")
    traded = {("AUSDT", date): None for date in days(FIRST, LAST)}
    volumes.write(folder / "volume.duckdb", traded, {"AUSDT": "USDT"})
    published.publish(folder / "record.duckdb", folder / "site")
    [library] = installed.glob("lib*/python*/site-packages")
    ours = ("AVAILABILITY_", "DAGSTER_", "PYTHON")
    env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    env |= {
        "PYTHONPATH": str(library),
        "AVAILABILITY_DB": str(folder / "record.duckdb"),
        # A reader may share the pipeline's settings.
        "AVAILABILITY_BACKUP_DIR": str(folder / "backups"),
    }

    def run(*args, **more):
        return subprocess.run(
            [python, "-W", "error", *args],
            cwd=folder, env=env | more, capture_output=True, encoding="utf-8", check=False,
            timeout=PATIENCE,
        )  # fmt: skip

    run.program = installed / "bin" / "binance-availability"
    run.folder = folder
    return run


@pytest.mark.requires("reader")
def test_each_command_is_one_that_a_reader_has_or_is_told_the_lack_of():
    def leaves(group, path=()):
        for name, command in group.commands.items():
            yield " ".join((*path, name))
            yield from leaves(command, (*path, name)) if hasattr(command, "commands") else ()

    tried = {" ".join(call.split()[:n]) for call in (*READ, *LACKING) for n in (1, 2, 3)}
    assert set(leaves(cli)) <= tried


@pytest.mark.requires("reader")
@pytest.mark.parametrize("module", ["dagster", "boto3", "psutil", "plotly", "matplotlib"])
def test_a_reader_has_no_pipeline(reading, module):
    done = reading("-c", f"import {module}")
    assert f"No module named '{module}'" in done.stderr


@pytest.mark.requires("reader")
def test_a_reader_asks_exports_and_backs_up(reading):
    for call in READ:
        done = reading(reading.program, *call.split())
        breached = call == "slo"  # of a record that ends in 2024
        assert (done.returncode, done.stderr) == (breached, ""), (call, done.stderr)
        if call.startswith("query"):
            name = {"AVAILABILITY_DB": str(reading.folder / "record.duckdb")}
            csv = [*call.split(), "--csv"]
            theirs = reading(reading.program, *csv).stdout
            csv = [arg.replace("followed", str(reading.folder / "followed")) for arg in csv]
            assert theirs == CliRunner().invoke(cli, csv, env=name).stdout, call
            assert theirs.count("\n") > 1 or "delistings" in call, call
    for call in ("backup", "status"):
        done = reading(reading.program, call, AVAILABILITY_ALERT_URLS="json://127.0.0.1:9")
        assert (done.returncode, done.stderr) == (0, ""), call


@pytest.mark.requires("reader")
@pytest.mark.parametrize(("call", "lack"), LACKING.items(), ids=LACKING)
def test_every_other_command_says_in_one_line_what_a_reader_lacks(reading, call, lack):
    if call.startswith("restore"):
        assert reading(reading.program, "backup").returncode == 0
    replaced = set(reading.folder.glob("*.replaced-*"))
    done = reading(reading.program, *call.split(), DAGSTER_HOME=str(reading.folder))
    assert done.returncode == 1, done.stdout
    [line] = done.stderr.splitlines()
    assert re.fullmatch(r"Error: this needs .+ not installed; pip install \S+", line), line
    assert lack in line
    assert set(reading.folder.glob("*.replaced-*")) == replaced


@pytest.mark.requires("reader")
@pytest.mark.parametrize("call", ["status", "slo"])
def test_a_run_history_is_not_passed_over_where_dagster_is_missing(reading, tmp_path, call):
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "runs.db").touch()
    done = reading(reading.program, call, DAGSTER_HOME=str(tmp_path))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "dagster is not installed" in line


PYTHON = """
from availability_pipeline.quality import acknowledgements
from availability_pipeline import queries
from availability_pipeline import validation
record = queries.open()
print(record.snapshot("2024-01-05")["symbol"].tolist(), record.holes().dtypes["date"])
print(record.universe("2024-01-03", "2024-01-04").sum(axis="columns").tolist())
print(record.timeline("AUSDT")["status"].value_counts().to_dict(), len(record.revisions()))
print(record.holes()["date"].dt.strftime("%Y-%m-%d").tolist(), len(record.summary()))
print(validation.ContinuityValidator().check_continuity("2024-01-01", "2024-01-10"))
with record.connection() as con:
    print(queries.holes(con).frame()["symbol"].tolist())
"""


@pytest.mark.requires("reader")
def test_a_readers_python_has_the_same_answers_with_an_earlier_pandas(reading):
    theirs = reading("-c", PYTHON)
    assert theirs.returncode == 0, theirs.stderr
    env = os.environ | {"AVAILABILITY_DB": str(reading.folder / "record.duckdb")}
    ours = subprocess.run(
        [sys.executable, "-c", PYTHON], env=env, capture_output=True, text=True, check=True
    )
    assert theirs.stdout == ours.stdout


def test_a_readers_requirements_have_the_bounds_of_the_package():
    """But for pandas, of which a reader may have an earlier one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = {line.replace("pandas>=3.0", "pandas>=2.2") for line in project["dependencies"]}
    lines = READER.read_text(encoding="utf-8").splitlines()
    assert {line for line in lines if not line.startswith("#")} <= bounds
