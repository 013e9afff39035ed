"""The pages of a published record as they are built: shells, and the schemas of their documents."""

import functools
import hashlib
import html
import json
import os
import posixpath
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from availability_pipeline.copies import pages
from availability_pipeline.quality.days import DayState
from availability_pipeline.report import style
from availability_pipeline_tests.support import register
from availability_pipeline_tests.support.helpers import PATIENCE
from availability_pipeline_tests.support.httpfs import python_with_httpfs
from availability_pipeline_tests.support.servers import Server

DATASETS = ("um/daily/klines/1m", "um/monthly/fundingRate", "spot/daily/trades")
SHELLS = ("index.html", "symbol.html", "about.html", *(f"{name}/index.html" for name in DATASETS))
HOSTILE_TITLE = """</title><script>alert('1')</script> "quoted" & {{root}}"""
by_page = pytest.mark.parametrize("name", SHELLS)


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for found, attributes in self.found if found == tag]

    def meta(self, key: str, value: str) -> str:
        [content] = [one["content"] for one in self.all("meta") if one.get(key) == value]
        return content

    def links(self) -> list[str]:
        keys = ("href", "src")
        return [one[key] for _, one in self.found for key in keys if key in one]


@pytest.fixture(scope="module")
def built() -> dict[str, bytes]:
    return pages.build(DATASETS, title="Files", address=None)


def test_the_pages_are_those_of_the_datasets_and_nothing_else(built: dict[str, bytes]) -> None:
    assert {name for name in built if name.endswith(".html")} == set(SHELLS)
    others = {name.partition("/")[0] for name in built if not name.endswith(".html")}
    assert others == {"assets", "schemas"}


@by_page
def test_a_page_says_which_program_made_it(built: dict[str, bytes], name: str) -> None:
    assert Tags(built[name]).meta("name", "generator") == "binance-availability"


@by_page
def test_a_page_runs_nothing_but_the_site_s_own_script(built: dict[str, bytes], name: str) -> None:
    tags = Tags(built[name])
    rules = dict(
        rule.strip().partition(" ")[::2]
        for rule in tags.meta("http-equiv", "Content-Security-Policy").split(";")
    )
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert not tags.all("style")
    assert [one.keys() for one in tags.all("script")] == [{"src", "defer"}]
    for tag, attributes in tags.found:
        assert not [key for key in attributes if key.startswith("on") or key == "style"], tag


@by_page
def test_every_link_of_a_page_leads_to_a_file_of_the_site(
    built: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    """From whatever depth, below whatever prefix."""
    site = {*built, *published()}
    for link in Tags(built[name]).links():
        path = link.partition("#")[0]
        assert ":" not in link
        assert not link.startswith("/")
        if path:
            assert posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) in site, link


def published() -> set[str]:
    """The plain names that a publication has besides the pages."""
    names = {"datasets.json", "symbols.json", "news.json", "feed.atom", "latest.json"}
    kinds = ("symbols.json", "holes.json", "revisions.json", "days.json", "news.json",
             "files.json", "feed.atom")  # fmt: skip
    return names | {f"{dataset}/{kind}" for dataset in DATASETS for kind in kinds}


@by_page
def test_the_assets_are_named_by_their_content(built: dict[str, bytes], name: str) -> None:
    tags, above = Tags(built[name]), "../" * name.count("/")
    [script] = [one["src"] for one in tags.all("script")]
    [sheet] = [one["href"] for one in tags.all("link") if one["rel"] == "stylesheet"]
    for link, ending in ((script, "js"), (sheet, "css")):
        content = built[link.removeprefix(above)]
        digest = hashlib.sha256(content).hexdigest()[:16]
        assert link == f"{above}assets/register-{digest}.{ending}"
    assert f'data-root="{above}"'.encode() in built[name]


def test_a_title_with_markup_stays_text() -> None:
    found = pages.build(DATASETS, title=HOSTILE_TITLE, address=None)
    for name in SHELLS:
        tags = Tags(found[name])
        assert len(tags.all("script")) == 1
        assert HOSTILE_TITLE in tags.text
        assert html.escape(HOSTILE_TITLE).encode() in found[name]


def test_pages_are_the_same_until_their_arguments_differ() -> None:
    first = pages.build(DATASETS, title="Files", address=None)
    assert first == pages.build(DATASETS, title="Files", address=None)
    more = pages.build([*DATASETS, "cm/daily/trades"], title="Files", address=None)
    assert {name for name in more if more[name] != first.get(name)} == {
        "index.html", "cm/daily/trades/index.html",
    }  # fmt: skip


def test_an_address_is_said_and_every_link_stays_relative() -> None:
    found = pages.build(DATASETS, title="Files", address='https://example.org/a"b/')
    for name, path in (("index.html", ""), (f"{DATASETS[0]}/index.html", f"{DATASETS[0]}/")):
        links = Tags(found[name]).all("link")
        [canonical] = [one["href"] for one in links if one["rel"] == "canonical"]
        assert canonical == f'https://example.org/a"b/{path}'
        [sheet] = [one["href"] for one in links if one["rel"] == "stylesheet"]
        assert ":" not in sheet
    assert (
        b'register=<span class="address">https://example.org/a&quot;b</span>'
        in (found["about.html"])
    )


def test_without_a_script_the_first_page_leads_to_each_dataset(built: dict[str, bytes]) -> None:
    index = built["index.html"].decode()
    [without] = re.findall("<noscript>.*?</noscript>", index, flags=re.S)
    for name in DATASETS:
        assert f'href="{name}/index.html"' in without


def test_colours_are_those_of_the_report(built: dict[str, bytes]) -> None:
    [sheet] = [built[name].decode() for name in built if name.endswith(".css")]
    names = {"unknown": DayState.UNKNOWN, "idle": DayState.IDLE, "pending": DayState.PENDING,
             "complete": DayState.COMPLETE, "met": DayState.MET, "short": DayState.SHORT,
             "poor": DayState.POOR}  # fmt: skip
    for name, state in names.items():
        assert f"--{name}: {style.DAY_COLOURS[state]};" in sheet
    assert f"--idle: {style.IDLE_DARK};" in sheet


def test_the_script_never_makes_markup_of_a_text(built: dict[str, bytes]) -> None:
    [script] = [built[name].decode() for name in built if name.endswith(".js")]
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                 "new Function", "setAttribute(\"on", "srcdoc", "http://", "https://"):  # fmt: skip
        allowed = sink == "http://" and script.count(sink) == script.count("http://www.w3.org/")
        assert sink not in script or allowed, sink


# Schemas.


def schemas(built: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        Path(name).stem: json.loads(content)
        for name, content in built.items()
        if name.startswith("schemas/")
    }


def test_about_links_to_each_schema(built: dict[str, bytes]) -> None:
    links = {link for link in Tags(built["about.html"]).links() if link.startswith("schemas/")}
    assert links == {name for name in built if name.startswith("schemas/")}


def objects(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [found for part in schema for found in objects(part)]
    if not isinstance(schema, dict):
        return []
    found = [schema] if "type" in schema and schema["type"] == "object" else []
    return found + [one for part in schema.values() for one in objects(part)]


def test_schemas_are_strict(built: dict[str, bytes]) -> None:
    for schema in schemas(built).values():
        Draft202012Validator.check_schema(schema)
        assert schema["properties"]["format"] == {"const": 1}
        for one in objects(schema):
            named = "properties" in one
            assert (
                one["additionalProperties"] is False
                if named
                else (one["additionalProperties"]["type"] == "object")
            )


DOCUMENTS = {
    "latest": "latest.json", "manifest": "manifests/*.json", "datasets": "datasets.json",
    "symbols": "symbols.json", "shard": "symbols/*.json", "news": "news.json",
    "dataset-symbols": "*/*/**/symbols.json", "holes": "*/*/**/holes.json",
    "revisions": "*/*/**/revisions.json", "days": "*/*/**/days.json",
    "files": "*/*/**/files.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    register.write_site(folder, symbols=60, datasets=2)
    return folder


def test_every_schema_has_a_document(built: dict[str, bytes]) -> None:
    assert DOCUMENTS.keys() == schemas(built).keys()


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_documents_are_valid_and_not_with_a_key_more_or_less(
    built: dict[str, bytes], site: Path, kind: str
) -> None:
    validator = Draft202012Validator(schemas(built)[kind])
    found = sorted(site.glob(DOCUMENTS[kind]))
    assert found
    for path in found:
        document = json.loads(path.read_bytes())
        validator.validate(document)
        for key in document:
            assert not validator.is_valid(
                {name: document[name] for name in document if name != key}
            )
        assert not validator.is_valid(document | {"more": 1})
        assert not validator.is_valid(document | {"format": 2})


# The examples of about.html.


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(Handler, directory=str(site))
    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def examples(kind: str, address: str) -> list[str]:
    about = pages.build(DATASETS, title="Files", address=address)["about.html"].decode()
    found = re.findall(f'<pre data-example="{kind}">(.*?)</pre>', about, flags=re.S)
    assert found
    return [html.unescape(re.sub("<[^>]*>", "", one)) for one in found]


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False,
        env=os.environ | {"HOME": str(cwd)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.requires("jq")
def test_the_shell_examples_give_what_they_say(address: str, site: Path, tmp_path: Path) -> None:
    dates, holes, verified = (
        run("bash", "-euo", "pipefail", "-c", example, cwd=tmp_path)
        for example in examples("bash", address)
    )
    symbols = json.loads((site / DATASETS[0] / "symbols.json").read_bytes())["symbols"]
    assert dates == f"{symbols['BTCUSDT']['first']} {symbols['BTCUSDT']['last']}\n"
    runs = json.loads((site / DATASETS[0] / "holes.json").read_bytes())["holes"]
    sol = [f"{run['first']} to {run['last']}" for run in runs if run["symbol"] == "SOLUSDT"]
    assert holes.splitlines() == sol + sorted({run["symbol"] for run in runs})
    assert verified == "holes.json: OK\n"


def test_the_python_examples_give_what_they_say(address: str, site: Path, tmp_path: Path) -> None:
    wanted, frame = (
        run(sys.executable, "-c", example, cwd=tmp_path) for example in examples("python", address)
    )
    btc = json.loads((site / DATASETS[0] / "symbols.json").read_bytes())["symbols"]["BTCUSDT"]
    assert wanted == f"{btc['files']} files, the first of {btc['first']}\n"
    assert "contract_type" in frame


def test_the_duckdb_example_reads_the_parquet_files(site: Path, tmp_path: Path) -> None:
    """From files: our DuckDB would have to fetch its extension for HTTP first."""
    [example] = examples("duckdb", site.as_uri())
    assert "│ BTCUSDT" in run(sys.executable, "-c", example, cwd=tmp_path)


def test_the_duckdb_example_reads_the_parquet_files_over_http(address: str, tmp_path: Path) -> None:
    python = python_with_httpfs(tmp_path)
    [example] = examples("duckdb", address)
    assert "│ BTCUSDT" in run(python, "-c", example, cwd=tmp_path)
