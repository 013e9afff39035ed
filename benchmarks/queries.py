"""Questions to the record at full size, beside the same ones on an indexed table row by row.

    python -m benchmarks.queries

Medians on a warm connection. Beside them: one table with a primary key and indexes on symbol,
on date and on availability, the answer's rows fetched one at a time; holes and listings are
found by reading every row, as the predecessor did. Then a cold start of the command line.
"""

import datetime as dt
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from availability_pipeline import queries
from availability_pipeline.record.connection import reader
from benchmarks import synthetic
from benchmarks.common import Row, parser, show
from benchmarks.store import fill

_INDEXED = """
CREATE TABLE rows (date DATE, symbol VARCHAR, available BOOLEAN, file_size_bytes BIGINT,
    last_modified TIMESTAMPTZ, probed TIMESTAMPTZ, PRIMARY KEY (date, symbol));
INSERT INTO rows SELECT date, symbol, available, file_size_bytes, last_modified, probe_timestamp
    FROM ours.daily_availability;
CREATE INDEX by_symbol ON rows (symbol);
CREATE INDEX by_date ON rows (date);
CREATE INDEX by_available ON rows (available, date);
CHECKPOINT;
"""


def median(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median wall seconds and median CPU seconds of this process, after one unmeasured round.

    The CPU seconds are those of both threads, and say more than the others on a busy machine.
    """
    work()
    wall, cpu = [], []
    for _ in range(repeats):
        begun, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - used)
    return statistics.median(wall), statistics.median(cpu)


def one_by_one(con: duckdb.DuckDBPyConnection, sql: str, *args: object) -> list[tuple]:  # type: ignore[type-arg]
    """The answer, a row at a time."""
    cursor = con.execute(sql, list(args))
    found = []
    while (row := cursor.fetchone()) is not None:
        found.append(row)
    return found


def scan_holes(con: duckdb.DuckDBPyConnection) -> list[tuple[str, dt.date]]:
    """Absences between a symbol's files, by reading every row in order."""
    holes: list[tuple[str, dt.date]] = []
    symbol, seen, gap = None, False, []
    cursor = con.execute("SELECT symbol, date, available FROM rows ORDER BY symbol, date")
    while (row := cursor.fetchone()) is not None:
        if row[0] != symbol:
            symbol, seen, gap = row[0], False, []
        if row[2]:
            holes += [(row[0], day) for day in gap]
            seen, gap = True, []
        elif seen:
            gap.append(row[1])
    return holes


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__).parse_args()
    quick = arguments.quick
    archive = synthetic.build(arguments.symbols or (30 if quick else 1000))
    repeats = arguments.repeat or (3 if quick else 15)
    until = archive.until
    middle = until - dt.timedelta(200)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.duckdb", Path(folder) / "rows.duckdb"
        rows = fill(ours, archive)
        with duckdb.connect(str(theirs)) as con:
            con.execute(f"ATTACH '{ours}' AS ours (READ_ONLY)")
            con.execute(_INDEXED)
        sizes = [path.stat().st_size / 1e6 for path in (ours, theirs)]
        slow = duckdb.connect(str(theirs), read_only=True)

        def beside(sql: str, *args: object) -> Callable[[], object]:
            return lambda: one_by_one(slow, sql, *args)

        first = "SELECT symbol FROM rows WHERE available GROUP BY symbol HAVING {} ORDER BY symbol"
        table: list[Row] = []
        with reader(ours) as con:
            questions: list[tuple[str, str, tuple[object, ...], float, Callable[[], object]]] = [
                ("snapshot", "snapshot", (until,), 5, beside(
                    "SELECT symbol, file_size_bytes, last_modified FROM rows "
                    "WHERE date = ? AND available ORDER BY symbol", until)),
                ("timeline of BTCUSDT", "timeline", ("BTCUSDT",), 15, beside(
                    "SELECT * FROM rows WHERE symbol = ? ORDER BY date", "BTCUSDT")),
                ("new listings of a date", "new_listings", (middle,), 20, beside(
                    first.format("min(date) = ?"), middle)),
                ("delistings of a date", "delistings", (middle,), 20, beside(
                    first.format("max(date) + 1 = ?"), middle)),
                ("summary of every date", "summary", (), 25, beside(
                    "SELECT date, count(*) FILTER (available) FROM rows GROUP BY date "
                    "ORDER BY date")),
                ("holes over everything", "holes", (), 100, lambda: scan_holes(slow)),
            ]  # fmt: skip
            for what, name, args, limit, other in questions:
                ask = getattr(queries, name)
                mine, cpu = median(lambda ask=ask, args=args: ask(con, *args), repeats)
                others, _ = median(other, 1 if name == "holes" else min(3, repeats))
                table.append(
                    Row(what, f"{mine * 1000:.1f} ms ({cpu * 1000:.1f} CPU)",
                        f"{others * 1000:,.1f} ms, {others / mine:,.0f} times",
                        f"at most {limit:g} ms", mine * 1000 <= limit)
                )  # fmt: skip
        slow.close()

        def command() -> None:
            subprocess.run(
                [sys.executable, "-m", "availability_pipeline.cli", "query", "snapshot",
                 until.isoformat(), "--json"],
                check=True, stdout=subprocess.DEVNULL,
                env={**os.environ, "AVAILABILITY_DB": str(ours)},
            )  # fmt: skip

        cold, _ = median(command, 1 if quick else 7)
        table.append(
            Row("command line, query snapshot --json", f"{cold:.2f} s", "a new process",
                "at most 0.6 s", cold <= 0.6)
        )  # fmt: skip
    show(
        f"Questions to {rows:,} rows ({sizes[0]:.1f} MB; indexed: {sizes[1]:.0f} MB), medians",
        table,
        quick=quick,
    )


if __name__ == "__main__":
    main()
