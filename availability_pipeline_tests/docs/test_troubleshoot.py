"""docs/troubleshoot.md: every error of ours is in it, in words that the package really says."""

import ast
import re
from pathlib import Path

import pytest

from availability_pipeline import errors, extras, settings
from availability_pipeline.archive import _pages, datasets, listing
from availability_pipeline.orchestration import launch, processes
from availability_pipeline.quality import acknowledgements, exchange
from availability_pipeline.queries import answers

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "availability_pipeline"
PAGE = (ROOT / "docs" / "troubleshoot.md").read_text(encoding="utf-8")
ROWS = [
    line.strip("|").split("|")[0].strip()
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| you see")
]
# Bases that are never raised themselves, or never shown to people by that name.
BASES = {"StoreError", "QueryError"}
ERRORS = {
    name
    for module in (
        acknowledgements, answers, datasets, processes, exchange, extras, launch, listing, _pages,
        settings, errors,
    )
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Exception) and name.endswith("Error")
    and value.__module__.startswith("availability_pipeline")
} - BASES  # fmt: skip


def said():
    """All texts of the package, each f-string with `…` for what is filled in."""
    texts = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append(
                    "".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_every_error_is_looked_up_by_its_words(name):
    assert f"(`{name}`)" in PAGE


@pytest.mark.parametrize("row", [r for r in ROWS if re.search(r"`.+`.*\(`\w+Error`\)", r)])
def test_the_words_are_those_of_the_package(row):
    texts = said()
    names = re.findall(r"\(`(\w+Error)`\)", row)
    assert set(names) <= ERRORS
    words = [w for w in re.findall(r"`([^`]+)`", row) if w not in names]
    assert words
    for text in words:
        parts = [part.strip() for part in text.split("…") if part.strip()]
        assert any(all(part in said_text for part in parts) for said_text in texts), text
