"""What some tests need beyond Python: found wherever it is, else the test is skipped.

A test names it with `@pytest.mark.requires("browser")`, a fixture asks `need("browser")` and gets
the path. Whatever is missing, the reason of the skip says what and how to install it. `make test`
passes without any of these; `.ci/run` installs them and gives `--no-skips`, with which each skip
is a failure, but for those of OPTIONAL. What is missing on this machine:

    .venv/bin/python -m availability_pipeline_tests.support.requirements
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
DUCKDB15 = ROOT / ".venv-duckdb15" / "bin" / "python"
FRAMES = ROOT / ".venv-frames" / "bin" / "python"
READER = ROOT / ".venv-reader" / "bin" / "python"


@dataclass(frozen=True)
class Requirement:
    """One thing that a machine may lack.

    Args:
        what: its name in the reason of a skip.
        install: the command or step that adds it.
        find: its path, or None; left out for what only trying tells, see `skip`.
    """

    what: str
    install: str
    find: Callable[[], str | None] = lambda: None


def _works(path: str, *arguments: str) -> bool:
    """Whether the program starts: Ubuntu's chromium-browser may only say that snap has it."""
    try:
        done = subprocess.run([path, *arguments], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    found = [path for path in map(shutil.which, names) if path]
    found += [
        f"/Applications/{name}.app/Contents/MacOS/{name}" for name in ("Google Chrome", "Chromium")
    ]
    for path in found:
        if Path(path).exists() and _works(path, "--version"):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:  # what `playwright install chromium` has downloaded
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def _postgresql() -> str | None:
    """The folder of initdb and pg_ctl, which Debian and Homebrew keep off the PATH."""
    folders = [Path(path) for path in os.environ.get("PATH", "").split(os.pathsep) if path]
    for pattern in (
        "usr/local/bin",
        "usr/lib/postgresql/*/bin",
        "usr/pgsql-*/bin",
        "opt/homebrew/opt/postgresql@*/bin",
        "usr/local/opt/postgresql@*/bin",
        "Applications/Postgres.app/Contents/Versions/latest/bin",
    ):
        folders += sorted(Path("/").glob(pattern), reverse=True)
    for folder in folders:
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "pg_ctl", "postgres")):
            return str(folder)
    return None


def _compose() -> str | None:
    """The command, as `docker compose` or `docker-compose`; version 1 does not know our file."""
    docker, alone = shutil.which("docker"), shutil.which("docker-compose")
    if docker and _works(docker, "compose", "version"):
        return f"{docker} compose"
    if alone:
        done = subprocess.run(
            [alone, "version", "--short"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0 and done.stdout.strip().lstrip("v").split(".")[0] not in ("", "1"):
            return alone
    return None


def _r() -> str | None:
    path = shutil.which("Rscript")
    return path if path and _works(path, "-e", "library(jsonlite); library(arrow)") else None


def _file(path: str | Path) -> Callable[[], str | None]:
    return lambda: str(path) if Path(path).exists() else None


REQUIREMENTS = {
    "browser": Requirement(
        "chromium or Chrome",
        "Debian: apt-get install chromium; elsewhere: .venv/bin/playwright install chromium",
        _browser,
    ),
    "postgresql": Requirement(
        "PostgreSQL's server programs",
        "Debian: apt-get install postgresql; macOS: brew install postgresql@17",
        _postgresql,
    ),
    "redis": Requirement(
        "redis-server",
        "Debian: apt-get install redis-server; macOS: brew install redis",
        lambda: shutil.which("redis-server"),
    ),
    "systemd": Requirement(
        "systemd-analyze",
        "Debian: apt-get install systemd",
        lambda: shutil.which("systemd-analyze"),
    ),
    "compose": Requirement(
        "Docker Compose 2",
        "Debian 13: apt-get install docker-compose; elsewhere: Docker's plugin docker-compose",
        _compose,
    ),
    "jq": Requirement(
        "jq",
        "Debian: apt-get install jq; macOS: brew install jq",
        lambda: shutil.which("jq"),
    ),
    "duckdb15": Requirement(
        "DuckDB 1.5 in an environment of its own",
        "make duckdb15",
        lambda: str(DUCKDB15) if _works(str(DUCKDB15), "-c", "import duckdb") else None,
    ),
    "duckdb15-httpfs": Requirement(
        "DuckDB 1.5 with its extension httpfs",
        "make duckdb15",
        lambda: (
            str(DUCKDB15) if _works(str(DUCKDB15), "-c", "import duckdb_extension_httpfs") else None
        ),
    ),
    "curl": Requirement(
        "curl",
        "Debian: apt-get install curl",
        lambda: shutil.which("curl"),
    ),
    "aria2": Requirement(
        "aria2c",
        "Debian: apt-get install aria2; macOS: brew install aria2",
        lambda: shutil.which("aria2c"),
    ),
    "r": Requirement(
        "R with the packages jsonlite and arrow",
        'install R, then: Rscript -e \'install.packages(c("jsonlite", "arrow"))\'',
        _r,
    ),
    "reader": Requirement(
        "an environment that only reads the record",
        "make reader",
        lambda: str(READER) if _works(str(READER), "-c", "import duckdb, pandas, rich") else None,
    ),
    "frames": Requirement(
        "a reader's environment with polars and pyarrow",
        "make frames",
        lambda: str(FRAMES) if _works(str(FRAMES), "-c", "import polars, pyarrow") else None,
    ),
    "proc": Requirement("/proc", "Linux only", _file("/proc/self/environ")),
    "dev-full": Requirement("/dev/full", "Linux only", _file("/dev/full")),
    "index": Requirement(
        "a package index for pip, to build the package",
        "see to it that `pip download setuptools` works",
    ),
    "small-disk": Requirement(
        "a small file system, to fill it",
        "Linux only, as root with the right to mount",
    ),
}

# Known only from trying: a fixture tries and says `skip`.
TRIED = {"index", "small-disk", "r"}

# A container may not mount, not even as root; R and its packages take an hour to build.
OPTIONAL = {"small-disk", "r"}

_found = cache(lambda name: REQUIREMENTS[name].find())


def need(name: str) -> str:
    """Where it is; skips the test when it is missing."""
    return _found(name) or skip(name)


def skip(name: str) -> NoReturn:
    """Skip the test that has found it missing."""
    pytest.skip(_reason(name))


def _reason(name: str) -> str:
    requirement = REQUIREMENTS[name]
    return f"needs {requirement.what}, which is missing here ({requirement.install})"


# Hooks, for conftest.py


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="a skipped test is a failure: here, all that tests need is installed",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "requires(name): needs what requirements.py calls so; skipped without"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("requires"):
        for name in marker.args:
            need(name)


def _skip_is_failure(report: pytest.TestReport | pytest.CollectReport) -> None:
    # An expected failure is "skipped", too, and is none of ours.
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(_reason(name) in reason for name in OPTIONAL):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped, and --no-skips allows none: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if item.config.getoption("--no-skips"):
        _skip_is_failure(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    if collector.config.getoption("--no-skips"):
        _skip_is_failure(report)
    return report


if __name__ == "__main__":
    for _name, _requirement in REQUIREMENTS.items():
        if _name not in TRIED and not _requirement.find():
            sys.stdout.write(f"{_name}\t{_requirement.what}\t{_requirement.install}\n")
