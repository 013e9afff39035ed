"""The mutation test stays one: what it changes is still there, and it says what noticed it."""

import subprocess
import sys

import pytest

from availability_pipeline_tests.support.helpers import PATIENCE
from benchmarks import mutants


@pytest.mark.parametrize("rule", mutants.RULES, ids=lambda rule: rule.name)
def test_each_rule_still_stands_where_it_is_changed(rule):
    """Otherwise the list rots: a change that changes nothing is never noticed."""
    path = mutants.ROOT / mutants.PACKAGE / rule.file
    text = path.read_text(encoding="utf-8")
    for old, new in rule.changes.items():
        compile(mutants.broken(text, old, new), str(path), "exec")
    for test in rule.tests:
        assert (mutants.ROOT / mutants.TESTS / test).is_file()


@pytest.mark.parametrize("text", ["a < c", "a < b, a < b"])
def test_what_does_not_stand_there_once_is_not_changed(text):
    with pytest.raises(ValueError, match="correct RULES"):
        mutants.broken(text, "a < b", "a <= b")


def test_the_command_says_which_test_noticed_each_change():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.mutants", "retention of backups"],
        cwd=mutants.ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SURVIVED" not in done.stdout
    [rule] = [rule for rule in mutants.RULES if rule.name == "retention of backups"]
    assert done.stdout.count(": copies/test_retention.py::test_") == len(rule.changes)
