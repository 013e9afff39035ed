"""Draw the house again: the rooms, the imports between them and the walks of one date.

    make graph              writes them into docs/architecture.md
    docs/graph.py --check   fails where the page differs from the package

A number on an arrow counts the imports from the modules of one room to those of another, without
those for the type checker alone. A walk is measured: the files of the package in which a function
was called, until the run, or the answer, was complete.
"""

import argparse
import collections
import datetime as dt
import difflib
import logging
import os
import re
import sys
import tempfile
import threading
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import grimp

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = "availability_pipeline"

Arrows = collections.Counter[tuple[str, str]]


def layers() -> list[list[str]]:
    """The import contract's layers, the highest first; what stands in one line shares a level."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [one for one in project["tool"]["importlinter"]["contracts"] if "layers" in one]
    return [re.split(r"\s*\|\s*", layer) for layer in contract["layers"]]


def arrows() -> Arrows:
    """Pairs of modules, by importing and imported room."""
    sys.path.insert(0, str(ROOT))
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    found: Arrows = collections.Counter()
    for module in sorted(graph.modules - {PACKAGE}):
        for imported in graph.find_modules_directly_imported_by(module) - {PACKAGE}:
            pair = module.split(".")[1], imported.split(".")[1]
            if pair[0] != pair[1]:
                found[pair] += 1
    return found


def is_package(room: str) -> bool:
    """And not a single module beside the packages."""
    return (ROOT / PACKAGE / room).is_dir()


def drawing(found: Arrows) -> list[str]:
    """The packages and their arrows; with the single modules it would be unreadable."""
    lines = ["```mermaid", "flowchart TB"]
    for (source, target), number in sorted(found.items()):
        if is_package(source) and is_package(target):
            lines.append(f"    {source} -->|{number}| {target}")
    return [*lines, "```"]


def matrix(found: Arrows) -> list[str]:
    """All rooms, the highest first: so what is allowed is right of the diagonal."""
    names = [room for layer in layers() for room in layer]
    targets = [name for name in names if any(target == name for _, target in found)]
    sources = [name for name in names if any(source == name for source, _ in found)]
    lines = ["| imports | " + " | ".join(targets) + " |", "|---|" + "---|" * len(targets)]
    for source in sources:
        cells = [str(found.get((source, target), "")) for target in targets]
        lines.append(f"| **{source}** | " + " | ".join(cells) + " |")
    return lines


def rooms_and_imports() -> list[str]:
    """What the page says between the marks of `rooms`."""
    found = arrows()
    names = [room for layer in layers() for room in layer]
    packages = sum(map(is_package, names))
    modules = len(list((ROOT / PACKAGE).rglob("*.py")))
    return [
        f"{len(names)} rooms ({packages} packages and {len(names) - packages} single modules), "
        f"{len(found)} arrows between them, {found.total()} imports from room to room, "
        f"{modules} files.",
        "",
        *drawing(found),
        "",
        "The same with the single modules. A row imports from its columns:",
        "",
        *matrix(found),
    ]


class Walk:
    """The package's files in which a function was called."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self._lock = threading.Lock()
        self._prefix = str(ROOT / PACKAGE) + os.sep

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Called by the interpreter at each call and return."""
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(self._prefix):
            name = code.co_filename.removeprefix(self._prefix)
            with self._lock:
                if name not in self.files:
                    self.files.append(name)

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Record what is called inside."""
        threading.setprofile(self)  # listings run in threads of their own
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]


def walks() -> tuple[list[str], list[str], list[str]]:
    """From the tick to the row, to a snapshot in Python, to a snapshot on the command line.

    Each is walked twice and followed the second time, when nothing is imported any more.
    """
    import dagster as dg
    from click.testing import CliRunner

    logging.disable()
    warnings.simplefilter("ignore", dg.BetaWarning)

    from availability_pipeline import queries
    from availability_pipeline.cli.main import cli
    from availability_pipeline.orchestration.code_location import build_defs
    from availability_pipeline.orchestration.schedules import daily_update_schedule
    from availability_pipeline_tests.support.s3 import local_archive

    first = dt.date(2024, 1, 15)
    to_row, to_answer, to_line = Walk(), Walk(), Walk()
    with (
        tempfile.TemporaryDirectory() as folder,
        local_archive() as archive,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        os.environ["AVAILABILITY_DB"] = str(Path(folder) / "record.duckdb")
        os.environ["AVAILABILITY_S3_ENDPOINT"] = archive.endpoint
        os.environ["AVAILABILITY_MAX_CLOCK_SKEW_MINUTES"] = "0"
        archive.put("BTCUSDT", [first, first + dt.timedelta(1)])
        defs = build_defs()
        job = defs.resolve_implicit_global_asset_job_def()

        def update(day: dt.date) -> None:
            at = dt.datetime.combine(day + dt.timedelta(1), dt.time(2), dt.UTC)
            context = dg.build_schedule_context(
                scheduled_execution_time=at, repository_def=defs.get_repository_def()
            )
            [request] = daily_update_schedule.evaluate_tick(context).run_requests or ()
            job.execute_in_process(
                instance=instance,
                partition_key=request.partition_key,
                tags=dict(request.tags),
                run_config=request.run_config,
                asset_selection=list(request.asset_selection or ())[:1],
            )

        def ask() -> None:
            if len(queries.open().snapshot(first)) != 1:
                sys.exit("the walk to the row wrote none")

        def command() -> None:
            done = CliRunner().invoke(cli, ["query", "snapshot", str(first), "--csv"])
            if "BTCUSDT" not in done.output:
                sys.exit(f"the walk to the command's answer failed: {done.output}")

        update(first)
        with to_row.followed():
            update(first + dt.timedelta(1))
        for walk, act in ((to_answer, ask), (to_line, command)):
            act()
            with walk.followed():
                act()
    return to_row.files, to_answer.files, to_line.files


def by_room(files: list[str]) -> str:
    """Rooms in the order in which they are entered; threads make that of their files vary."""
    inside: dict[str, list[str]] = {}
    for name in files:
        room, slash, module = name.partition("/")
        inside.setdefault(room.removesuffix(".py"), []).append(module if slash else "")
    return " → ".join(
        f"`{room}`" + (f" ({', '.join(sorted(modules))})" if any(modules) else "")
        for room, modules in inside.items()
    ).replace(".py", "")


def measured_walks() -> list[str]:
    """What the page says between the marks of `walks`."""
    names = ("from the tick to the row", "to a snapshot, in Python", "to a snapshot, as a command")
    lines = ["| walk | files | rooms, as they are entered |", "|---|---|---|"]
    for name, files in zip(names, walks(), strict=True):
        lines.append(f"| {name} | {len(files)} | {by_room(files)} |")
    return lines


def drawn(page: str) -> str:
    """The page, with what is between its marks made again."""
    for name, lines in (("rooms", rooms_and_imports()), ("walks", measured_walks())):
        begin, end = f"<!-- {name}: made by `make graph` -->\n", f"<!-- end of {name} -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            sys.exit(f"{PAGE.name} lacks {begin.strip()} ... {end}")
        page = before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after
    return page


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if it differs")
    arguments = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    current = drawn(page)
    if arguments.check and page != current:
        lines = difflib.unified_diff(page.splitlines(), current.splitlines(), "page", "code", n=0)
        sys.exit("\n".join(["docs/architecture.md differs from the package: `make graph`", *lines]))
    if not arguments.check:
        PAGE.write_text(current, encoding="utf-8")


if __name__ == "__main__":
    main()
