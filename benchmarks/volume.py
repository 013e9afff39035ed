"""Daily volume of all history from monthly files, and its rankings; beside the predecessor's way.

    python -m benchmarks.volume

Both fetch from the same local server (`benchmarks.kline_server`, 20 ms). The predecessor's way is
one GET for each symbol and date, on a connection of its own, 150 threads, and a row-wise upsert
into a table with a primary key; of all history it would take long, so its rate is measured on some
files and multiplied. Ours compares each file with size, MD5 and the SHA-256 of its CHECKSUM.
"""

import csv
import datetime as dt
import io
import os
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.archive.listing import Listing
from availability_pipeline.mirror import klines
from availability_pipeline.queries import write_rankings
from availability_pipeline.record import volumes
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import writer
from benchmarks import archive_server, common
from benchmarks.common import Row
from benchmarks.kline_server import DAILY, MONTHLY, body
from benchmarks.mirror import run

FIRST = dt.date(2022, 1, 1)
LATENCY_MS = 20
THREADS = 150


def record(path: Path, symbols: int, last: dt.date) -> None:
    """A record of all files until a date, and of the monthly ones that are out."""
    names = [f"S{n:04}USDT" for n in range(symbols)]
    months_end = last.replace(day=1) - dt.timedelta(1)
    with writer(path) as con:
        for dataset, end in ((DAILY, last), (MONTHLY, MONTHLY.period_of(months_end))):
            listing = _listing(dataset, names, dataset.periods(FIRST, end))
            at = dt.datetime.combine(last + dt.timedelta(40), dt.time(), dt.UTC)
            store.write_probe(con, listing, probed_at=at, run_id="run", accept_shrunken=True)


def _listing(dataset: Dataset, names: list[str], periods: list[dt.date]) -> Listing:
    made = [body(dataset.monthly, period) for period in periods]
    sums = [bytes.fromhex(one.md5) for one in made]
    stamps = pd.to_datetime(pd.Series(periods)).to_numpy().astype("datetime64[us]")
    ends = [dataset.shift(period, 1) for period in periods]
    # After the last day's file, or the month would not be taken for whole.
    published = pd.to_datetime(pd.Series(ends)).to_numpy().astype("datetime64[us]")
    n = len(names)
    frame = pd.DataFrame(
        {
            "symbol": pd.Categorical.from_codes(
                np.repeat(np.arange(n, dtype="int16"), len(periods)),
                categories=pd.Index(names, dtype="str"),
            ),
            "date": np.tile(stamps, n),
            "file_size_bytes": np.tile([len(one.content) for one in made], n),
            "last_modified": pd.DatetimeIndex(
                np.tile(published + np.timedelta64(40 if dataset.monthly else 8, "h"), n), tz="UTC"
            ),
            "etag_high": np.tile(np.array([int.from_bytes(s[:8]) for s in sums], "uint64"), n),
            "etag_low": np.tile(np.array([int.from_bytes(s[8:]) for s in sums], "uint64"), n),
        }
    )
    return Listing(periods[0], periods[-1], tuple(names), frame, requests=n, dataset=dataset)


@contextmanager
def served() -> Iterator[str]:
    """The server, in a process of its own."""
    command = ["benchmarks.kline_server"]
    with archive_server.started(command, latency_ms=LATENCY_MS, cpu=None) as (url, _):
        yield url


def ours(folder: Path, url: str) -> tuple[float, float, float]:
    """`volume update`, all of the program: seconds, CPU seconds, peak MB."""
    env = os.environ | {
        "AVAILABILITY_DB": str(folder / "r.duckdb"), "AVAILABILITY_DOWNLOAD_URL": url,
        "AVAILABILITY_DATASETS": f"{DAILY},{MONTHLY}", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    return run([sys.executable, "-m", "availability_pipeline.cli", "volume", "update"], env)


def predecessors(folder: Path, url: str, symbols: int, dates: list[dt.date]) -> float:
    """Its way, for some files; files a second."""
    files = [(f"S{n:04}USDT", date) for n in range(symbols) for date in dates]

    def get(file: tuple[str, dt.date]) -> list[object]:
        with urllib.request.urlopen(f"{url}/{DAILY.key(*file)}", timeout=30) as answer:
            content = answer.read()
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open("X-1d.csv") as text:
            fields = list(csv.reader(io.TextIOWrapper(text)))[1]
        return [file[1], file[0], *(float(fields[n]) for n in (7, 8, 5, 9, 10, 1, 2, 3, 4))]

    con = duckdb.connect(str(folder / "predecessor.duckdb"))
    con.execute(
        f"""CREATE OR REPLACE TABLE daily (date DATE, symbol VARCHAR,
        {", ".join(f"n{n} DOUBLE" for n in range(9))}, PRIMARY KEY (date, symbol))"""
    )
    begin = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        for row in pool.map(get, files):
            con.execute(f"INSERT OR REPLACE INTO daily VALUES ({', '.join('?' * 11)})", row)
    took = time.perf_counter() - begin
    con.close()
    return len(files) / took


def parsing(quick: bool) -> list[Row]:
    """Files that are parsed in a second of one core."""
    rows = []
    for dataset in (DAILY, MONTHLY):
        content = body(dataset.monthly, FIRST).content
        times = 200 if quick else 5_000

        def work(content: bytes = content, dataset: Dataset = dataset, times: int = times) -> None:
            for _ in range(times):
                klines.read(content, dataset, FIRST)

        found = common.timed(work, 3)
        rate = times / found.cpu
        rows.append(Row(f"parsing a {dataset.frequency} file", f"{rate:,.0f} files/s a core", "",
                        "at least 2,000", rate >= 2000))  # fmt: skip
    return rows


def main() -> None:
    """Measure and print."""
    arguments = common.parser(__doc__ or "").parse_args()
    quick = arguments.quick
    symbols = arguments.symbols or (20 if quick else 1000)
    repeats = arguments.repeat or (1 if quick else 3)
    last = FIRST + dt.timedelta(80 if quick else 729)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name, served() as url:
        folder = Path(name)
        days = (last - FIRST).days + 1
        record(folder / "r.duckdb", symbols, last)
        sample = [FIRST + dt.timedelta(n) for n in range(5 if quick else 10)]
        rate = predecessors(folder, url, symbols, sample)
        theirs = symbols * days / rate
        took, cpu, peak = ours(folder, url)
        rate_after = predecessors(folder, url, symbols, sample)
        theirs = min(theirs, symbols * days / rate_after)
        path = folder / "volume.duckdb"
        with volumes.reader(path) as con:
            [(there, files)] = con.execute(
                "SELECT (SELECT count(*) FROM daily_volume), (SELECT count(*) FROM files)"
            ).fetchall()
        if there != symbols * days:
            raise RuntimeError(f"{there} of {symbols * days} rows are there")
        rows.append(Row(
            f"the history of {symbols:,} symbols, {there:,} days, from {files:,} files",
            f"{took:.1f} s ({cpu:.1f} s CPU, {peak:.0f} MB)",
            f"one GET a day, {max(rate, rate_after):,.0f}/s, would take {theirs:,.0f} s: "
            f"{theirs / took:.0f} times",
            "at least 20 times", theirs / took >= 20,
        ))  # fmt: skip
        rows.append(Row("the file of volumes", f"{path.stat().st_size / 1e6:.1f} MB"))
        record(folder / "r.duckdb", symbols, last + dt.timedelta(1))
        took, cpu, peak = ours(folder, url)
        rows.append(Row(f"the next day: {symbols:,} files", f"{took:.1f} s ({cpu:.1f} s CPU, "
                        f"{peak:.0f} MB)", "", "at most 10 s", took <= 10))  # fmt: skip
        rows += parsing(quick)
        with volumes.reader(path) as con:
            now = dt.datetime(2024, 7, 1, tzinfo=dt.UTC)
            found = common.timed(lambda: write_rankings(con, folder / "out", now), repeats)
        rows.append(Row("the rankings of all history, both files", str(found), "", "at most 5 s",
                        found.wall <= 5))  # fmt: skip
    common.show("Volume and rankings", rows, quick=quick)


if __name__ == "__main__":
    main()
