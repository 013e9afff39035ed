"""A missing program skips what needs it, says so, and fails where nothing may be missing."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from availability_pipeline_tests import conftest
from availability_pipeline_tests.support.requirements import OPTIONAL, REQUIREMENTS, TRIED

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).parents[1]

SAMPLE = """
import pytest
from availability_pipeline_tests.support.requirements import need, skip

@pytest.mark.requires("compose")
def test_marked():
    raise AssertionError("run without what it needs")

def test_asking():
    need("compose")

def test_without_a_mount():
    skip("small-disk")

@pytest.mark.xfail(strict=True)
def test_expected_to_fail():
    raise AssertionError

def test_fine():
    pass
"""


def run(folder: Path, *arguments: str, sample: str = SAMPLE) -> tuple[int, str]:
    """Tests on a machine with nothing on the PATH: pytest's exit code and what it printed."""
    (folder / "test_sample.py").write_text(sample)
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", folder]
    command += ["-p", "availability_pipeline_tests.support.requirements", "-rs", folder, *arguments]
    environment = os.environ | {"PATH": str(folder), "HOME": str(folder), "COLUMNS": "250"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def test_what_needs_something_missing_is_skipped_with_the_command_that_adds_it(
    tmp_path: Path,
) -> None:
    code, said = run(tmp_path)
    assert code == 0
    assert "1 passed, 3 skipped, 1 xfailed" in said
    assert f"needs Docker Compose 2, which is missing here ({REQUIREMENTS['compose'].install})" in (
        said
    )


def test_where_nothing_may_be_missing_a_skip_is_a_failure(tmp_path: Path) -> None:
    code, said = run(tmp_path, "--no-skips")
    assert code == 1
    # What fails before the test itself, pytest calls an error.
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error" in said
    assert "skipped, and --no-skips allows none: " in said


@pytest.mark.parametrize(
    "sample",
    [
        "import pytest\npytest.skip('for some reason', allow_module_level=True)",
        "import pytest\n@pytest.mark.skip(reason='for some reason')\ndef test_it(): pass",
        "import pytest\npytest.importorskip('nowhere')",
    ],
)
def test_no_skip_of_another_kind_passes_either(tmp_path: Path, sample: str) -> None:
    assert run(tmp_path, "--no-skips", sample=sample)[0] in {1, 2}


def test_a_marker_that_names_nothing_known_is_an_error(tmp_path: Path) -> None:
    sample = "import pytest\n@pytest.mark.requires('nothing')\ndef test_it(): pass"
    code, said = run(tmp_path, sample=sample)
    assert code == 1
    assert "KeyError: 'nothing'" in said


def test_what_may_be_missing_in_ci_is_named_once() -> None:
    assert set(REQUIREMENTS) >= TRIED >= OPTIONAL
    ci = (ROOT / ".ci" / "run").read_text()
    [made] = [line.split()[2:] for line in ci.splitlines() if line.startswith("make -j")]
    for name in set(REQUIREMENTS) - TRIED - {"proc", "dev-full"}:
        by_make = REQUIREMENTS[name].install.removeprefix("make ") in made
        assert by_make or f"    {name}) " in ci, "what CI can look for it must be able to add"


def test_each_test_that_is_called_slow_is_there() -> None:
    """Otherwise a renamed one would be in the inner loop again, without a word."""
    for name in conftest.SLOW:
        file, _, test = name.partition("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        if test:
            assert test in {
                node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
            }
