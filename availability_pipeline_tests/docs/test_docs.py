"""The documents say what is so: every command, setting and target, and one version everywhere."""

import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from availability_pipeline import __version__
from availability_pipeline.cli.main import cli
from availability_pipeline.quality import checks
from availability_pipeline.settings import Settings
from availability_pipeline_tests.support.helpers import PATIENCE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def read(page: Path) -> str:
    """A page without the recipes, which name what they add; `test_contributing` follows them."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^## Recipes\n.*?(?=^## )", "", text, flags=re.MULTILINE | re.DOTALL)


DOCS = "\n".join(map(read, PAGES))
PROGRAM = "binance-availability"


def commands(group: click.Group = cli, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        full = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands(command, full)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield full, command


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_stands_in_the_docs(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert f"Example: {PROGRAM} {name}" in command.help
    assert f"`{PROGRAM} {name}`" in DOCS
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.opts} has no help"


@pytest.mark.parametrize("name", checks.TABLE)
def test_every_check_stands_in_the_docs(name: str) -> None:
    assert f"`{name}`" in DOCS


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_stands_in_the_readme_with_its_default(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description
    rows = [line for line in README.splitlines() if f"| `AVAILABILITY_{name.upper()}` |" in line]
    assert len(rows) == 1, "one row of the settings table each"
    default = rows[0].split("|")[2].strip().strip("`")
    assert default == ("none" if field.default in (None, ()) else str(field.default))


def test_the_docs_name_no_setting_that_does_not_exist() -> None:
    known = {f"AVAILABILITY_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bAVAILABILITY_[A-Z0-9_]*[A-Z0-9]", DOCS)) <= known


def called_in_the_docs() -> list[str]:
    """Calls of the program in consoles and code spans."""
    spans = re.findall(rf"`{PROGRAM} ([^`]+)`", DOCS)
    lines = re.findall(rf"^\$ (?:\S+/)?{PROGRAM} (.+)$", DOCS, flags=re.MULTILINE)
    return sorted({*spans, *lines})


@pytest.mark.parametrize("call", [c for c in called_in_the_docs() if "COMMAND" not in c])
def test_every_call_in_the_docs_is_one_the_program_takes(call: str) -> None:
    words = shlex.split(call.split(" | ")[0])  # what it is piped into is not ours
    name = next((" ".join(words[:n]) for n in (3, 2, 1) if " ".join(words[:n]) in COMMANDS), None)
    assert name, f"there is no command {call!r}"
    arguments = words[len(name.split()) :]
    options = {o for p in COMMANDS[name].params for o in (*p.opts, *p.secondary_opts)}
    assert {a for a in arguments if a.startswith("--")} <= options | {"--help"}
    if arguments:
        with COMMANDS[name].make_context(name, arguments):
            pass


def test_every_target_of_the_makefile_has_help_and_the_docs_name_no_other() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)
    assert phony
    targets = set(phony.group(1).split())
    assert set(re.findall(r"^([a-z0-9-]+):.*## ", makefile, flags=re.MULTILINE)) == targets
    assert set(re.findall(r"`make ([a-z][a-z0-9-]*)", DOCS)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_local_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    released = re.findall(r"^## \[(\d[^\]]*)\] - (\S+)$", CHANGELOG, flags=re.MULTILINE)
    assert project["version"] == __version__

    def numbers(version: str) -> list[int]:
        return [int(number) for number in version.split(".")]

    release, dev, _ = __version__.partition(".dev")  # of the next release, until it is made
    assert numbers(release) > numbers(released[0][0]) if dev else release == released[0][0]
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", released[0][1])
    assert "## [Unreleased]" in CHANGELOG


def test_the_pictures_are_there_and_small() -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+\.png)\)", README)
    assert len(pictures) >= 2
    for picture in pictures:
        assert 5_000 < (ROOT / picture).stat().st_size < 300_000


def test_nothing_names_a_registry_host() -> None:
    """A mirror is configured in pip and apt, not in a project's files."""
    hosts = ("files." + "pythonhosted", "pypi.org/" + "simple", "deb." + "debian.org")
    paths = [ROOT / "Makefile", ROOT / ".ci" / "run", ROOT / "pyproject.toml", ROOT / "mkdocs.yml"]
    paths += [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]
    for path in (*paths, *PAGES):
        text = path.read_text(encoding="utf-8")
        assert not [host for host in hosts if host in text], path


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_architecture_page_has_a_place_for_every_room() -> None:
    package = ROOT / "availability_pipeline"
    rooms = {path.stem for path in package.glob("[a-z]*") if path.suffix in ("", ".py")}
    table = ARCHITECTURE.partition("\n| room |")[2].partition("\n\n")[0]
    assert rooms == set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE))


def test_the_architecture_page_draws_the_imports_and_walks_as_they_are() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "graph.py", "--check"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_docs_name_no_module_that_does_not_exist() -> None:
    """Released sections of the changelog may: they say what was so."""
    unreleased = CHANGELOG.partition("## [Unreleased]")[2].partition("\n## [")[0]
    texts = [read(page) for page in PAGES if page.name != "CHANGELOG.md"]
    dotted = re.findall(
        r"\bavailability_pipeline(?:_tests)?(?:[./][a-z_0-9]+)+", "\n".join([*texts, unreleased])
    )
    for name in sorted({name.replace("/", ".").removesuffix(".py") for name in dotted}):
        assert pkgutil.resolve_name(name), name


def test_the_architecture_page_names_what_runs_and_what_is_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from availability_pipeline.orchestration.code_location import build_defs
    from availability_pipeline.record.schema import DDL

    monkeypatch.setenv("AVAILABILITY_BACKUP_DIR", "/backups")
    monkeypatch.setenv("AVAILABILITY_PUBLISH_URL", "/published")
    monkeypatch.setenv("AVAILABILITY_MIRROR_URL", "/mirror")
    monkeypatch.setenv("AVAILABILITY_ALERT_URLS", "json://127.0.0.1:9")
    defs = build_defs()
    running = [item.name for item in (*(defs.schedules or ()), *(defs.sensors or ()))]
    assets = [key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()]
    tables = re.findall(r"CREATE (?:TABLE|VIEW) (\w+)", " ".join(DDL))
    assert [name for name in (*running, *tables) if f"`{name}`" not in ARCHITECTURE] == []
    assert [name for name in assets if name not in ARCHITECTURE] == []
