"""The documents as a site: built strictly, with the interface that programs may import."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from availability_pipeline import queries
from availability_pipeline_tests.support.helpers import PATIENCE

ROOT = Path(__file__).parents[2]


def build(folder: Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=cwd, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_document_is_a_page_of_the_site(site: Path) -> None:
    documents = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    documents -= {Path("package.md")}  # what a package index shows
    for document in documents:
        assert (site / document.with_suffix("") / "index.html").exists(), document
    assert "Which files exist" in (site / "index.html").read_text(encoding="utf-8")
    for page in ("contributing", "changelog", "policy", "conduct"):
        assert (site / page / "index.html").exists()


def test_the_site_shows_what_programs_may_import(site: Path) -> None:
    page = (site / "api" / "index.html").read_text(encoding="utf-8")
    shown = {name.rpartition(".")[2] for name in re.findall(r'<h3 id="([\w.]+)"', page)}
    named = {name for name in queries.__all__ if inspect.isroutine(getattr(queries, name))}
    assert named <= shown
    assert {"Record", "ContinuityValidator", "CompletenessValidator"} <= shown
    assert "The files of one date, by symbol" in page


def test_no_link_of_the_site_leads_out_of_it(site: Path) -> None:
    """In the repository they lead to its files, which the site does not have."""
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # its links begin at the site's root
            continue
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r'(?:href|src)="(?![a-z]+:)([^"#?]+)', text):
            assert (page.parent / unquote(target)).exists(), f"{page.relative_to(site)}: {target}"


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    for path in (ROOT / "availability_pipeline", ROOT / "mkdocs.yml", *ROOT.glob("[A-Z]*.md")):
        if path.name != "README.md":
            (tmp_path / path.name).symlink_to(path)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(f"{readme}\n[x](docs/query.md#nowhere)\n", encoding="utf-8")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    done = build(tmp_path / "site", tmp_path)
    assert done.returncode != 0
    assert "#nowhere" in done.stderr
