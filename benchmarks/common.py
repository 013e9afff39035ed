"""What every benchmark here shares: the table, the clock, the cores.

A benchmark prints one table with target and PASS or MISS a row, and exits 0 unless it breaks: a
miss is a finding, not a failure. With --quick (a small archive) the numbers say nothing about the
targets, and the last column says so.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

# A started program has its modules compiled, as an installation has. Where this is set, each start
# compiles them anew: 0.69 s instead of 0.38 for a question.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `passed` is None for a line without a target."""

    what: str
    measured: str
    compared: str = ""
    target: str = ""
    passed: bool | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall and CPU seconds of this process, the best of the repeats by wall time."""

    wall: float
    cpu: float
    repeats: int = 1

    def __str__(self) -> str:
        best = f", best of {self.repeats}" if self.repeats > 1 else ""
        return f"{self.wall:.2f} s ({self.cpu:.2f} s CPU{best})"


def timed(work: Callable[[], object], repeats: int = 1) -> Timing:
    """Run `work` so often and keep the fastest: other work on the machine only ever adds."""
    found = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return Timing(*min(found), repeats)


def parser(doc: str, *, full: str | None = None) -> argparse.ArgumentParser:
    """The options every benchmark has; `full` describes --full where there is one."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--quick", action="store_true", help="a small archive, done in seconds")
    made.add_argument("--symbols", type=int, help="symbols in the archive (1000; quick: 30)")
    made.add_argument("--repeat", type=int, help="repeats, the best counts (3; quick: 1)")
    if full:
        made.add_argument("--full", action="store_true", help=full)
    return made


def cores() -> tuple[int | None, int | None]:
    """A core for the server and one for the client, or None where that cannot be arranged."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    free = sorted(os.sched_getaffinity(0))
    return (free[0], free[-1]) if len(free) > 1 else (None, None)


def pin(core: int | None) -> None:
    """Keep this process, and the threads it starts from here on, to one core."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def show(title: str, rows: list[Row], *, quick: bool, notes: list[str] | None = None) -> None:
    """Print the table."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("what", overflow="fold")
    table.add_column("measured", justify="right", overflow="fold")
    table.add_column("beside it", overflow="fold")
    table.add_column("target", overflow="fold")
    table.add_column("")
    for row in rows:
        verdict = "" if row.passed is None else "[green]PASS" if row.passed else "[red]MISS"
        if quick and row.passed is not None:
            verdict = "[dim]quick"
        table.add_row(row.what, row.measured, row.compared, row.target, verdict)
    console = Console(width=None if Console().is_terminal else 132)
    console.print(table)
    for note in notes or []:
        console.print(note, style="dim", highlight=False)
    if quick:
        console.print("--quick: a small archive; the targets are for the full one", style="dim")


TORN = """SELECT period FROM (FROM probes FULL JOIN daily_summary USING (dataset, period)) p
    FULL JOIN (SELECT dataset, period, count(*) AS n, count(DISTINCT symbol) AS symbols,
        max(recorded_at) AS recorded_at FROM files GROUP BY ALL) f USING (dataset, period)
    WHERE p.probed_at IS NULL OR p.available IS DISTINCT FROM coalesce(f.n, 0)
        OR f.symbols <> f.n"""
"""SQL of the periods whose files, probe and counts are not those of whole probes: must be none."""
