"""`publish` as a user runs it: what it prints, and what it refuses in one line."""

import re

import pytest
from click.testing import CliRunner

from availability_pipeline.cli.main import cli
from availability_pipeline_tests.support.several import write_three

SAID = re.compile(
    r"(?P<to>\S+): (?P<what>publication|still publication) \d{8}T\d{6}Z-[0-9a-f]{8}, last probe "
    r"2024-03-01 00:00 UTC, [\d,]+ files, [\d,]+ bytes; uploaded (?P<up>[\d,]+) files, "
    r"[\d,]+ bytes, removed 0\n"
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    write_three(tmp_path / "record.duckdb")
    monkeypatch.setenv("AVAILABILITY_DB", str(tmp_path / "record.duckdb"))
    monkeypatch.delenv("AVAILABILITY_SITE_URL", raising=False)
    return lambda *words: CliRunner().invoke(cli, ["publish", *map(str, words)])


def test_it_says_what_is_published_and_what_was_uploaded(run, tmp_path, monkeypatch):
    site = tmp_path / "site"
    first = SAID.fullmatch(run(site).output)
    assert first
    assert (first["to"], first["what"]) == (str(site), "publication")
    monkeypatch.setenv("AVAILABILITY_SITE_URL", site.as_uri())
    again = SAID.fullmatch(run().output)
    assert again
    assert (again["what"], again["up"]) == ("still publication", "0")
    anew = SAID.fullmatch(run("--snapshot").output)
    assert anew
    assert anew["what"] == "publication"


def test_what_is_damaged_is_named_and_uploaded_again(run, tmp_path):
    site = tmp_path / "site"
    run(site)
    [bad, *_] = sorted((site / "record").rglob("*.piece"))
    bad.write_bytes(b"x" * bad.stat().st_size)
    done = run(site, "--verify")
    assert done.exit_code == 0
    assert f"missing or damaged: {bad.relative_to(site)}" in done.stderr
    done = run(site, "--verify")
    assert (done.exit_code, done.stderr) == (0, "")


def test_what_is_refused_is_one_line(run, tmp_path):
    done = run()
    assert done.exit_code == 2
    assert "give DEST, or set AVAILABILITY_SITE_URL" in done.stderr
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_text("mine", encoding="utf-8")
    for words in ([other], ["ftp://example.org/"], [tmp_path / "none", "--verify"], [tmp_path]):
        done = run(*words)
        assert done.exit_code in (1, 2)
        said = done.stderr.splitlines()
        assert said[-1].startswith("Error: ")
        assert (done.stdout, sum("Error" in line for line in said)) == ("", 1)
    assert "is the record" in said[-1]
