"""The record: storing the full history and one day, beside a row-by-row upsert.

    python -m benchmarks.store           # the upsert on 4,000 rows, scaled
    python -m benchmarks.store --full    # the upsert on 40,000 (minutes)

The listing is made up (`synthetic`), so no network is in it. Each side runs in a process of its
own, whose peak memory is what the system says of it (the listing and the imports included). Row
by row is what the predecessor did: `INSERT ... ON CONFLICT DO UPDATE` with a primary key, through
`executemany`, in one transaction.
"""

import argparse
import datetime as dt
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import writer
from benchmarks import synthetic
from benchmarks.common import Row, parser, show, timed


def probed_at(until: dt.date) -> dt.datetime:
    """Noon of the day after the newest files."""
    return dt.datetime.combine(until + dt.timedelta(1), dt.time(12), tzinfo=dt.UTC)


def fill(path: Path, archive: synthetic.Synthetic) -> int:
    """Store all history of a synthetic archive; returns the rows."""
    listing = archive.listing(FIRST_DATE, archive.until)
    with writer(path) as con:
        result = store.write_probe(con, listing, probed_at=probed_at(archive.until), run_id="all")
    return result.rows


def _ours(symbols: int, folder: Path) -> dict[str, Any]:
    archive = synthetic.build(symbols)
    path, until = folder / "ours.duckdb", archive.until
    full, day = archive.listing(FIRST_DATE, until), archive.listing(until, until)
    found: dict[str, Any] = {}
    at = probed_at(until)

    def write_all() -> None:
        with writer(path) as con:
            found["rows"] = store.write_probe(con, full, probed_at=at, run_id="all").rows

    found["write"] = timed(write_all).wall
    found["bytes"] = path.stat().st_size

    later = iter(range(1, 100))

    bare: list[float] = []

    def write_day() -> None:
        # Opening the file and closing it, which writes a checkpoint, is part of it: each run does.
        with writer(path) as con:
            start = time.perf_counter()
            store.write_probe(
                con, day, probed_at=at + dt.timedelta(minutes=next(later)), run_id="day"
            )
            bare.append(time.perf_counter() - start)

    found["day"] = timed(write_day, 5).wall
    found["day_bare"] = min(bare)
    again = at + dt.timedelta(days=1)

    def write_again() -> None:
        with writer(path) as con:
            store.write_probe(con, full, probed_at=again, run_id="again")

    found["again"] = timed(write_again).wall
    found["bytes_again"] = path.stat().st_size
    return found


def _row_by_row(symbols: int, folder: Path, count: int) -> dict[str, Any]:
    archive = synthetic.build(symbols)
    names = [one.symbol for one in archive.symbols]
    sizes = {
        one.symbol: dict(zip(one.days.tolist(), one.sizes.tolist(), strict=True))
        for one in archive.symbols
    }
    last = archive.until.toordinal()
    span = range(last - count // len(names), last + 1)
    at = probed_at(archive.until)
    rows = [
        (dt.date.fromordinal(day), name, day in sizes[name], sizes[name].get(day), at)
        for day in span
        for name in names
    ][:count]
    path = folder / "rows.duckdb"
    con = duckdb.connect(str(path))
    con.execute(
        "CREATE TABLE daily (date DATE, symbol VARCHAR, available BOOLEAN, bytes BIGINT, "
        "probed TIMESTAMPTZ, PRIMARY KEY (date, symbol))"
    )

    def write() -> None:
        con.execute("BEGIN")
        con.executemany(
            "INSERT INTO daily VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "available = excluded.available, bytes = excluded.bytes, probed = excluded.probed",
            rows,
        )
        con.execute("COMMIT")

    seconds = timed(write).wall
    con.close()
    return {"write": seconds, "rows": len(rows)}


def _apart(side: str, *, symbols: int, count: int) -> dict[str, Any]:
    """One side in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.store", "--side", side, "--folder", folder,
             "--symbols", str(symbols), "--count", str(count)],
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, full="upsert 40,000 rows one by one instead of 4,000")
    options.add_argument("--side", choices=["ours", "rows"], help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--count", type=int, default=1, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    quick = arguments.quick
    symbols = arguments.symbols or (30 if quick else 1000)
    if arguments.side:
        work = _ours if arguments.side == "ours" else _row_by_row
        extra = () if arguments.side == "ours" else (arguments.count,)
        found = work(symbols, arguments.folder, *extra)  # type: ignore[operator]
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found["peak"] = kilobytes * (1 if sys.platform == "darwin" else 1024)
        print(json.dumps(found))
        return
    runs = [_apart("ours", symbols=symbols, count=0)
            for _ in range(arguments.repeat or (1 if quick else 2))]  # fmt: skip
    ours = min(runs, key=lambda run: run["write"])
    count = 300 if quick else 40_000 if arguments.full else 4_000
    rows = _apart("rows", symbols=symbols, count=count)
    scale = ours["rows"] / rows["rows"]
    size, slow = ours["bytes"] / 1e6, rows["write"] * scale
    show(
        f"Storing {ours['rows']:,} rows ({symbols:,} symbols)",
        [
            Row("write the full history", f"{ours['write']:.2f} s",
                f"row by row {slow:,.0f} s ({rows['rows']:,} rows, scaled): "
                f"{slow / ours['write']:,.0f} times", "at most 10 s", ours["write"] <= 10),
            Row("write it again, with an earlier look to compare", f"{ours['again']:.2f} s"),
            Row("size of the database", f"{size:.1f} MB",
                f"after writing it all again {ours['bytes_again'] / 1e6:.1f} MB",
                "at most 25 MB", size <= 25),
            Row("replace one day and what follows from it, opening and closing the file included",
                f"{ours['day'] * 1000:.0f} ms",
                f"{ours['day_bare'] * 1000:.0f} ms without opening and closing the file",
                "at most 500 ms", ours["day"] <= 0.5),
            Row("peak memory of the process", f"{ours['peak'] / 1e9:.2f} GB",
                f"row by row {rows['peak'] / 1e9:.2f} GB for {rows['rows']:,} rows",
                "at most 1.5 GB", ours["peak"] <= 1.5e9),
        ],
        quick=quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
