"""One word for one thing, in what people read: the documents, and the texts of the package."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Not the changelog: what was released was said in the words of its time.
PAGES = [
    *(page for page in ROOT.glob("*.md") if page.name != "CHANGELOG.md"),
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "benchmarks" / "README.md",
]
MODULES = sorted((ROOT / "availability_pipeline").rglob("*.py"))

INSTEAD = {
    r"look(s|ed|ing)? (again )?at\b": "probe; see",
    r"look(s|ed|ing)? again\b": "probe again",
    r"(a|an|each|first|last|earlier|later|new|the) look\b(?!-)": "a probe",
    r"nobody\b": "no process, no other user, never",
    r"somebody\b": "another process, another user",
    # "There is no database" is English, "a hole is no delisting" is not.
    r"(?<!there )(?<!there, )is no (?!longer\b|more\b|less\b|need\b)": "is not a",
    r"(?<!there )are no (?!longer\b|more\b|less\b)": "are not",
    r"hangs? on\b": "depends on",
    r"at one stroke\b": "atomically",
    r"proved?\b": "verified",
    r"(?<!\.)anew\b": "again",  # but for the suffix of a file
    r"(is|are|was|were|be|been) told\b": "reads, gets, is reported",
    r"wrong way round\b": "`end` precedes `start`",
    r"as it should be\b": "OK",
}
"""Words that sound translated, and what to write."""

BANNED = re.compile("|".join(rf"\b(?:{word})" for word in INSTEAD), flags=re.IGNORECASE)


def found(text: str) -> list[str]:
    words = " ".join(text.split())
    return [words[max(0, hit.start() - 40) : hit.end() + 40] for hit in BANNED.finditer(words)]


def prose(page: Path) -> str:
    """A page without its code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"`[^`\n]+`", "`…`", text)


def texts(module: Path) -> str:
    """Every text of a module, docstrings too: commands and assets show theirs."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return "\n".join(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_documents_are_in_plain_words(page: Path) -> None:
    assert found(prose(page)) == []


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_package_speaks_in_plain_words(module: Path) -> None:
    assert found(texts(module)) == []


@pytest.mark.parametrize(
    "text",
    [
        "the last look at it",
        "a hole is no delisting",
        "Nobody knows",
        "the copy is\nproved",
        "made anew",
    ],
)
def test_a_banned_word_is_found(text: str) -> None:
    assert found(text)


@pytest.mark.parametrize(
    "text",
    [
        "no database at",
        "it is no longer set",
        "the look-back covers it",
        "improved, approved",
    ],
)
def test_good_english_is_not_found(text: str) -> None:
    assert found(text) == []
