"""The recipes of CONTRIBUTING.md, carried out in a copy of the repository as they are written."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from availability_pipeline_tests.support import demo_record
from availability_pipeline_tests.support.helpers import PATIENCE

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = re.compile(
    r"^(?P<where>In a new file, |At the end of |In )`(?P<file>[^`]+)`"
    r"(?:, (?P<how>after|before|instead of) the line `(?P<line>[^`]+)`)?:\n\n"
    r"```\w+\n(?P<text>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)
BLOCK = re.compile(r"^```\w.*?^```$", flags=re.MULTILINE | re.DOTALL)


class House:
    """A copy of the repository that a recipe is carried out in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        nothing = shutil.ignore_patterns("__pycache__")
        for name in ("availability_pipeline", "availability_pipeline_tests", "docs"):
            shutil.copytree(ROOT / name, folder / name, ignore=nothing)
        for path in (*ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / "Makefile"):
            shutil.copy(path, folder)

    def follow(self, recipe: str) -> int:
        """Do each step; how many there were."""
        _, found, rest = TEXT.partition(f"\n### {recipe}\n")
        assert found, f"there is no recipe {recipe!r}"
        blank = BLOCK.sub(lambda block: " " * len(block[0]), rest)  # a block may have headings
        heading = re.search(r"^##", blank, flags=re.MULTILINE)
        text = rest[: heading.start()] if heading else rest
        steps = list(STEP.finditer(text))
        assert len(steps) == len(re.findall(r"^```\w", text, flags=re.MULTILINE)), (
            "not all are read"
        )
        for step in steps:
            self._do(**step.groupdict())
        return len(steps)

    def _do(self, where: str, file: str, how: str | None, line: str | None, text: str) -> None:
        path = self.folder / file
        if where == "In a new file, ":
            assert not path.exists()
            path.write_text(text, encoding="utf-8")
            return
        before = path.read_text(encoding="utf-8")
        if line is None:
            path.write_text(before + text, encoding="utf-8")
            return
        assert before.count(f"\n{line}\n") == 1, f"{file} has no line {line!r}"
        new = {"after": f"{line}\n{text}", "before": f"{text}{line}\n", "instead of": text}[
            how or ""
        ]
        path.write_text(before.replace(f"\n{line}\n", f"\n{new}", 1), encoding="utf-8")

    def run(self, *command: str | Path, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), **environment},
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def is_sound(self) -> None:
        """What the hooks of git mend, and then what `make lint` says."""
        tools = Path(sys.executable).parent
        for command in (
            [tools / "ruff", "check", "--fix", "--select", "I,RUF022", "."],
            [tools / "ruff", "format", "--quiet", "."],
            [tools / "ruff", "check", "."],
            [tools / "lint-imports", "--no-logo", "--no-cache"],
        ):
            done = subprocess.run(
                command, cwd=self.folder, env={**os.environ, "PYTHONPATH": str(self.folder)},
                capture_output=True, text=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr

    def passes(self, *tests: str) -> None:
        self.run("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *tests)


@pytest.fixture
def house(tmp_path: Path) -> House:
    folder = tmp_path / "house"
    folder.mkdir()
    return House(folder)


def test_a_question_is_added_as_the_recipe_says(house: House, tmp_path: Path) -> None:
    assert house.follow("Add a question") == 6
    house.is_sound()
    house.passes(
        "availability_pipeline_tests/queries/test_largest.py",
        "availability_pipeline_tests/docs/test_docs.py"
        "::test_every_command_has_help_and_stands_in_the_docs[query largest]",
    )
    demo_record.write(tmp_path / "record.duckdb")
    answer = house.run(
        "-m", "availability_pipeline.cli",
        *("query", "largest", "2026-11-22", "--csv"),
        AVAILABILITY_DB=str(tmp_path / "record.duckdb"),
    )  # fmt: skip
    header, *rows = answer.splitlines()
    assert (header, len(rows)) == ("symbol,file_size_bytes", 10)


def test_a_check_is_added_as_the_recipe_says(house: House, tmp_path: Path) -> None:
    assert house.follow("Add a check") == 4
    house.is_sound()
    house.passes("availability_pipeline_tests/quality/test_file_sizes.py")
    demo_record.write(tmp_path / "record.duckdb")
    judged = house.run("-c", JUDGE, str(tmp_path / "record.duckdb"))
    assert "file_sizes True" in judged.splitlines()


JUDGE = """
import datetime as dt, sys
from availability_pipeline_tests.support.world import World
import dagster as dg
from pathlib import Path
with dg.DagsterInstance.ephemeral() as instance:
    world = World(Path(sys.argv[1]).parent, instance)
    for name, verdict in world.judge().items():
        print(name, verdict.passed)
"""


def test_another_dataset_is_recorded_as_the_recipe_says(house: House, tmp_path: Path) -> None:
    assert house.follow("Record another dataset") == 1
    house.is_sound()
    found = house.run("-c", RECORD_IT, str(tmp_path / "record.duckdb"))
    path = "data/futures/um/daily/openInterest/BTCUSDT/BTCUSDT-openInterest-2024-01-15.zip"
    assert found.splitlines()[-1] == f"BTCUSDT https://data.binance.vision/{path}"


RECORD_IT = """
import datetime as dt, os, sys
import dagster as dg
from pathlib import Path
from availability_pipeline_tests.support.s3 import local_archive
day, name = dt.date(2024, 1, 15), "um/daily/openInterest"
with local_archive() as archive, dg.DagsterInstance.ephemeral() as instance:
    os.environ["AVAILABILITY_DATASETS"] = name
    os.environ["AVAILABILITY_DB"] = sys.argv[1]
    os.environ["AVAILABILITY_S3_ENDPOINT"] = archive.endpoint
    os.environ["AVAILABILITY_MAX_CLOCK_SKEW_MINUTES"] = "0"
    from availability_pipeline.archive.datasets import Dataset
    from availability_pipeline.definitions import defs
    from availability_pipeline.record.connection import reader
    archive.put("BTCUSDT", [day], dataset=Dataset.parse(name))
    job = defs.resolve_implicit_global_asset_job_def()
    key = dg.AssetKey(["um", "openInterest", "daily_availability"])
    assert job.execute_in_process(
        instance=instance, partition_key=str(day), asset_selection=[key]
    ).success
    with reader(Path(sys.argv[1])) as con:
        print(*con.execute("SELECT symbol, url FROM daily_availability WHERE available").fetchone())
"""


def commands_of_make_lint() -> list[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)
    assert recipe
    return [line.strip() for line in recipe.group(1).splitlines()]


def test_git_runs_the_linters_that_make_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    [repo] = config["repos"]
    assert repo["repo"] == "local", "the tools of .venv, in the versions of constraints.txt"
    hooks = [hook["entry"].split()[:2] for hook in repo["hooks"]]
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}
    linters = [command.split()[:2] for command in commands_of_make_lint()]
    assert hooks == linters


def test_hosted_ci_runs_what_ci_runs_with_the_oldest_python() -> None:
    path = ROOT / ".github" / "workflows" / "ci.yml"
    [job] = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert job["container"].startswith(f"python:{project['requires-python'].removeprefix('>=')}-")


FORMS = sorted(
    set(
        (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"),
    )
    - {ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"}
)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_for_issues_asks_for_something(path: Path) -> None:
    """GitHub shows no form at all where one of these is missing."""
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in asked}) == len(asked)
    assert all(field["attributes"]["label"] for field in asked)
    assert any(field.get("validations", {}).get("required") for field in asked)
    for name in re.findall(r"\b(?:docs/)?[\w-]+\.md\b", path.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name
