"""The report: the command on a full-size record, as a user runs it.

    python -m benchmarks.report

The record is made up (`synthetic`). Each run is a process of its own, imports included; its CPU
seconds and peak memory are what the system says of it, so other work on the machine shows only in
the wall time.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import synthetic
from benchmarks.common import Row, parser, show
from benchmarks.store import fill

COMMAND = [sys.executable, "-m", "availability_pipeline.cli", "report"]


def drawn(db: Path, folder: Path) -> tuple[float, float, int]:
    """Wall and CPU seconds of one run, and its peak memory in bytes."""
    environment = {**os.environ, "AVAILABILITY_DB": str(db)}
    start = time.perf_counter()
    process = subprocess.Popen(
        [*COMMAND, "--out", str(folder)], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the report ended with {process.returncode}")
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, peak


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__).parse_args()
    quick = arguments.quick
    symbols = arguments.symbols or (30 if quick else 1000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        db, out = folder / "record.duckdb", folder / "report"
        rows = fill(db, synthetic.build(symbols))
        runs = [drawn(db, out) for _ in range(arguments.repeat or (1 if quick else 3))]
        page = (out / "availability.html").stat().st_size
        pictures = {p.stem: p.stat().st_size for p in sorted(out.glob("*.png"))}
    wall, cpu, peak = min(runs)
    show(
        f"The report of {rows:,} rows ({symbols:,} symbols)",
        [
            Row("draw page and pictures", f"{wall:.1f} s", f"{cpu:.1f} s CPU", "at most 10 s",
                wall <= 10),
            Row("peak memory of the process", f"{peak / 1e6:,.0f} MB", "", "at most 1,000 MB",
                peak <= 1e9),
            Row("size of the page", f"{page / 1e6:.1f} MB", "4.8 MB of it plotly.js",
                "at most 8 MB", page <= 8e6),
            Row("size of the pictures", f"{sum(pictures.values()) / 1000:.0f} kB",
                ", ".join(f"{n} {size // 1000} kB" for n, size in pictures.items())),
        ],
        quick=quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
