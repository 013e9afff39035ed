"""The package keeps its shape: who imports whom, who reads the environment, what an import does.

Breaking one of these costs little at first and everything later: a domain module that imports
Dagster makes every `query` 1.5 s slower, and one that reads the environment at import cannot be
tested with other settings.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from availability_pipeline_tests.helpers import PATIENCE

PACKAGE = Path(__file__).parents[1] / "availability_pipeline"

# A module imports only from its own layer and those before it.
LAYERS = (
    {"__init__", "extras"},
    {
        *("keys", "pages", "rows", "verdicts", "slo", "slo_runs", "retention", "masking"),
        *("columns",),
        *("alert_events", "alert_rules", "alert_texts", "alert_outbox"),
    },
    {
        *("settings", "client", "archive", "listing", "deadlines", "files"),
        *("schema", "store", "derived", "queries", "validation"),
        *("connections", "store_errors", "refusals", "standing", "exchange"),
        *("apart", "storage_format", "outputs"),
        *("logs",),
        *("snapshot", "backup", "restore", "export", "destinations"),
        *("answers", "arguments", "query_dates", "query_listings", "query_record"),
        *("universe", "record", "changes", "acknowledgements"),
        *("alert_targets",),
        *("report", "report_load", "report_data", "report_style"),
        *("report_png", "report_axes", "report_figures", "report_traces", "report_html"),
    },
    {
        *("resources", "partitions", "assets", "checks", "automation", "alerts"),
        *("dagster_storage", "vanished", "history", "assets_publish", "assets_report"),
        *("dagster_logs", "outcomes", "health"),
    },
    {"definitions", "launch", "webserver"},
    {"sample_archive", "demo", "demo_ui", "cli", "background", "services"},  # and every cli_*
)
DAGSTER_LAYERS = LAYERS[3] | LAYERS[4]

MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))
by_module = pytest.mark.parametrize("module", MODULES)


def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def layer(module: str) -> int:
    name = "cli" if module.startswith("cli_") else module
    return next((n for n, names in enumerate(LAYERS) if name in names), 2)


def test_every_module_stands_in_a_layer() -> None:
    placed = set().union(*LAYERS) | {m for m in MODULES if m.startswith("cli_")}
    unplaced = sorted(set(MODULES) - placed)
    assert not unplaced, "say in LAYERS of this test where these belong"


def imports(module: str, *, at_import_only: bool = False) -> set[str]:
    """Dotted names a module imports, those for type checkers left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        if at_import_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}.py line {node.lineno}: write imports in full"
            found.add(str(node.module))
            if node.module == PACKAGE.name:
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree(module))
    return found


def ours(names: set[str]) -> set[str]:
    return {n.split(".")[1] for n in names if n.startswith(f"{PACKAGE.name}.")} & set(MODULES)


@by_module
def test_a_module_imports_only_from_its_own_layer_and_those_before(module: str) -> None:
    wrong = {other for other in ours(imports(module)) if layer(other) > layer(module)}
    assert not wrong, f"{module} imports {sorted(wrong)}, which stand(s) in a later layer"


@pytest.mark.parametrize("module", [m for m in MODULES if m not in DAGSTER_LAYERS])
def test_the_domain_never_imports_dagster(module: str) -> None:
    names = {name.split(".")[0] for name in imports(module, at_import_only=layer(module) == 5)}
    assert not {n for n in names if n.startswith("dagster")}


@pytest.mark.parametrize("module", [m for m in MODULES if layer(m) == 5])
def test_commands_import_dagster_only_when_they_run_it(module: str) -> None:
    """`--help`, `query` and shell completion must answer without the 1.5 s of `import dagster`."""
    at_import = ours(imports(module, at_import_only=True))
    assert not at_import & DAGSTER_LAYERS
    if module.startswith("cli"):
        assert "demo" not in at_import


@pytest.mark.parametrize(
    "module", sorted(set(MODULES) - {"settings", "demo", "launch", "dagster_storage"})
)
def test_only_settings_reads_the_environment(module: str) -> None:
    """`demo` and `launch` may set it for their children, and Dagster's own variables there.

    So may `dagster_storage`, for Dagster's batch size: the variable is its only switch.
    """
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("os."):
            assert node.attr not in {"environ", "environb", "getenv", "getenvb", "putenv"}, (
                f"{module}.py line {node.lineno}: read it in settings.py"
            )
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            assert not {a.name for a in node.names} & {"environ", "getenv"}


@by_module
def test_a_module_has_a_contract(module: str) -> None:
    assert ast.get_docstring(tree(module)), f"{module}.py needs a docstring: what belongs in it"


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
    names = [f"{PACKAGE.name}.{m}" for m in MODULES if not m.startswith("__")]
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
