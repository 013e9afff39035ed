"""The package keeps its shape: the import contract, who reads the environment, what an import does.

Breaking one of these costs little at first and everything later: a domain module that imports
Dagster makes every `query` 1.5 s slower, and one that reads the environment at import cannot be
tested with other settings.
"""

import ast
import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from availability_pipeline_tests.support.helpers import PATIENCE

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "availability_pipeline"


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}
by_module = pytest.mark.parametrize("module", MODULES)
ROOMS = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def contracts(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(cwd)},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


def test_rooms_use_only_those_below_them() -> None:
    done = contracts()
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("record/schema.py", "from availability_pipeline.queries import files"),
        ("quality/rules.py", "import dagster"),
        ("copies/backup.py", "from availability_pipeline.report import draw"),
        ("cli/query.py", "import dagster"),
        ("extras.py", "import dagster"),
        ("logs.py", "from availability_pipeline import tables"),
    ],
)
def test_the_contract_is_broken_by(module: str, line: str, tmp_path: Path) -> None:
    """So that it cannot pass for want of being looked at."""
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / PACKAGE.name / module
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    done = contracts(cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout


@pytest.mark.parametrize("module", [m for m in MODULES if m.split(".")[1:2] in (["cli"], ["demo"])])
def test_commands_and_demo_name_no_dagster_in_their_types_either(module: str) -> None:
    """The contract does not see imports below `TYPE_CHECKING`."""
    imported = {
        a.name for n in ast.walk(tree(module)) if isinstance(n, ast.Import) for a in n.names
    }
    imported |= {n.module or "" for n in ast.walk(tree(module)) if isinstance(n, ast.ImportFrom)}
    assert not {name for name in imported if name.partition(".")[0].startswith("dagster")}


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.name)
def test_a_door_names_what_is_public(room: Path) -> None:
    module = importlib.import_module(dotted(room / "__init__.py"))
    for name in module.__all__:
        assert not name.startswith("_")
        assert hasattr(module, name) or (room / f"{name}.py").exists() or (room / name).is_dir()
    # What the door itself imports is public by its names.
    door = ast.walk(tree(dotted(room / "__init__.py")))
    imports = [node for node in door if isinstance(node, ast.ImportFrom)]
    behind = {(n.module or "").rpartition(".")[2] for n in imports}
    public = {path.stem for path in room.glob("[a-z]*.py")} - behind
    assert public <= set(module.__all__)


@by_module
def test_what_is_private_to_a_room_is_imported_there_only(module: str) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name):
            assert node.level == 0, f"{module} line {node.lineno}: write imports in full"
            for alias in node.names:
                *room, last = f"{node.module}.{alias.name}".split(".")[1:3]
                private = last.startswith("_") and not last.startswith("__")
                assert not private or module.split(".")[1:2] == room, (
                    f"{module} line {node.lineno}: {last} belongs to {room}"
                )


def imported(module: str) -> list[str]:
    """Each name that a module imports, in full."""
    found = []
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def private(name: str) -> bool:
    """Whether a name belongs to another distribution that does not document it."""
    first, *rest = name.split(".")
    if first == "botocore":  # what boto3's documentation names of it
        return rest[0] not in ("config", "exceptions")
    ours = first in (PACKAGE.name, "__future__")
    return not ours and any(part.startswith("_") for part in (first, *rest))


ALLOWED = {"dagster": "availability_pipeline.orchestration.instance.",
           "botocore": "availability_pipeline.archive._client"}  # fmt: skip
"""Where the private parts of a distribution may be imported."""


@by_module
def test_private_parts_of_others_are_imported_in_one_room(module: str) -> None:
    for name in filter(private, imported(module)):
        room = ALLOWED.get(name.partition(".")[0], "nowhere")
        assert module.startswith(room), f"{module} imports {name}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dagster._core.events.ASSET_EVENTS", True),
        ("dagster.AssetKey", False),
        ("botocore.session", True),
        ("botocore.exceptions.ClientError", False),
        ("apprise.utils._x", True),
        ("availability_pipeline.archive._client.make_client", False),
    ],
)
def test_what_is_private_is_known_by_its_name(name: str, expected: bool) -> None:
    assert private(name) is expected


INSTANCE = [module for module in MODULES if module.startswith(ALLOWED["dagster"])]


@pytest.mark.parametrize("module", INSTANCE)
def test_what_a_module_stands_on_is_there_and_is_all_that_it_imports(module: str) -> None:
    """An upgrade of Dagster fails here by name, before it fails where a run is stored."""
    docstring = ast.get_docstring(tree(module)) or ""
    listed = re.findall(
        r"^    (dagster[\w.]+)$", docstring.partition("Stands on:")[2], re.MULTILINE
    )
    assert listed
    for name in listed:
        pkgutil.resolve_name(name)
    theirs = filter(private, imported(module))
    assert [name for name in theirs if not any(one.startswith(name) for one in listed)] == []


def test_dagster_s_tags_are_spelt_as_dagster_spells_them() -> None:
    from dagster._core.storage import tags

    from availability_pipeline.orchestration import partitions
    from availability_pipeline.orchestration.instance import launcher

    for name in ("PARTITION_NAME_TAG", "ASSET_PARTITION_RANGE_START_TAG",
                 "ASSET_PARTITION_RANGE_END_TAG"):  # fmt: skip
        assert getattr(partitions, name) == getattr(tags, name)
    assert launcher.HOST_TAG.startswith(tags.HIDDEN_TAG_PREFIX)
    assert launcher.PID_TAG.startswith(tags.HIDDEN_TAG_PREFIX)


def test_reading_needs_neither_dagster_nor_pandas_nor_boto3() -> None:
    """`--help`, `query` and shell completion must answer without the 1.5 s of `import dagster`."""
    heavy = ("dagster", "numpy", "pandas", "boto3", "matplotlib", "plotly", "apprise")
    code = (
        "import sys; import availability_pipeline.cli.main, availability_pipeline.queries;"
        f"sys.exit(' '.join(m for m in {heavy} if m in sys.modules) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


SETS_THE_ENVIRONMENT = {
    "availability_pipeline.settings",
    # For their children, and Dagster's own variables.
    "availability_pipeline.demo.run",
    # For Dagster's batch size: the variable is its only switch.
    "availability_pipeline.orchestration.instance.event_log",
}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - SETS_THE_ENVIRONMENT))
def test_only_settings_reads_the_environment(module: str) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("os."):
            assert node.attr not in {"environ", "environb", "getenv", "getenvb", "putenv"}, (
                f"{module} line {node.lineno}: read it in settings.py"
            )
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            assert not {a.name for a in node.names} & {"environ", "getenv"}


@by_module
def test_a_module_has_a_contract(module: str) -> None:
    assert ast.get_docstring(tree(module)), f"{module} needs a docstring: what belongs in it"


IMPORT_ALL = """
import importlib, os, sys, tempfile
def watch(event, args):
    # urllib3 binds ::1 to learn whether there is IPv6; that reaches nothing.
    own = event == "socket.bind" and args[1][:2] == ("::1", 0)
    network = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"}
    if event in network and not own:
        raise SystemExit(f"{module} reaches for the network at import: {event} {args[1:]}")
    # A dependency asks `file` about the interpreter (platform.architecture).
    spawns = event in {"subprocess.Popen", "os.posix_spawn"} and args[0] != "file"
    if spawns or event in {"os.mkdir", "os.rename", "os.remove"}:
        raise SystemExit(f"{module} acts at import: {event} {args[:2]}")
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
        if args[0] != os.devnull:
            raise SystemExit(f"{module} opens {args[0]} for writing at import")
module = sys.argv[1]
tempfile.gettempdir()  # a dependency asks for it at import, and the first answer tries the folder
sys.addaudithook(watch)
for module in sys.argv[1:]:
    importlib.import_module(module)
"""


def test_importing_touches_neither_network_nor_disk(tmp_path: Path) -> None:
    """The code server imports everything at each start, also where nothing can be reached."""
    names = [m for m in MODULES if not m.endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
