"""Downloading verified files: beside aria2c, a loop of requests, and other HTTP clients.

    python -m benchmarks.mirror            # everything but --clients
    python -m benchmarks.mirror --clients  # the clients that were to choose from

A server of our own makes up a body for every key (`benchmarks.body_server`). Ours compares each
file with size, MD5 and the SHA-256 of its CHECKSUM, which is a second request; aria2c reads our
plan's own input file and compares the MD5. Both have the same number of files in flight.
"""

import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from availability_pipeline.archive.datasets import UM_KLINES_1M
from availability_pipeline.archive.listing import Listing
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import writer
from benchmarks import archive_server, body_server, common
from benchmarks.common import Row

FIRST = dt.date(2022, 1, 1)
SIZE = 20_000


def record(path: Path, files: int, symbols: int = 1000, size: int = SIZE) -> None:
    """A record of so many files, each with the size and MD5 that the server's has."""
    days = -(-files // symbols)
    names = [f"S{n:04}USDT" for n in range(symbols)]
    dates = [FIRST + dt.timedelta(n) for n in range(days)]
    made = body_server.bodies(size)
    variants = np.fromiter(
        (body_server.variant(UM_KLINES_1M.key(name, day)) for name in names for day in dates),
        "int16", count=symbols * days,
    )  # fmt: skip
    sums = [bytes.fromhex(body.md5) for body in made]
    high = np.array([int.from_bytes(one[:8]) for one in sums], "uint64")
    low = np.array([int.from_bytes(one[8:]) for one in sums], "uint64")
    stamps = pd.to_datetime(pd.Series(dates)).to_numpy().astype("datetime64[us]")
    frame = pd.DataFrame(
        {
            "symbol": pd.Categorical.from_codes(
                np.repeat(np.arange(symbols, dtype="int16"), days),
                categories=pd.Index(names, dtype="str"),
            ),
            "date": np.tile(stamps, symbols),
            "file_size_bytes": np.array([len(b.content) for b in made], "int64")[variants],
            "last_modified": pd.DatetimeIndex(
                np.tile(stamps + np.timedelta64(32, "h"), symbols), tz="UTC"
            ),
            "etag_high": high[variants],
            "etag_low": low[variants],
        }
    )
    listing = Listing(dates[0], dates[-1], tuple(names), frame, requests=symbols)
    at = dt.datetime.combine(dates[-1] + dt.timedelta(10), dt.time(), dt.UTC)
    with writer(path) as con:
        store.write_probe(con, listing, probed_at=at, run_id="run", accept_shrunken=True)


def recorded(path: Path, files: int, symbols: int = 1000, size: int = SIZE) -> None:
    """`record` in a process of its own: a child's peak memory begins with its parent's."""
    call = (
        "import sys; from pathlib import Path; from benchmarks.mirror import record; "
        "record(Path(sys.argv[1]), *map(int, sys.argv[2:]))"
    )
    command = [sys.executable, "-c", call, str(path), *map(str, (files, symbols, size))]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[1])


@contextmanager
def served(latency_ms: float, size: int = SIZE) -> Iterator[str]:
    """The server, in a process of its own."""
    command = ["benchmarks.body_server", "--bytes", str(size)]
    with archive_server.started(command, latency_ms=latency_ms, cpu=None) as (url, _):
        yield url


def ours(words: list[str], db: Path, url: str, files: int) -> tuple[float, float, float]:
    """Run the program: seconds, CPU seconds, peak MB."""
    env = {
        **os.environ, "AVAILABILITY_DB": str(db), "AVAILABILITY_DOWNLOAD_URL": url,
        "AVAILABILITY_DOWNLOADS": str(files),
    }  # fmt: skip
    return run([sys.executable, "-m", "availability_pipeline.cli", "files", *words], env)


def run(command: list[str], env: dict[str, str] | None = None) -> tuple[float, float, float]:
    """Run a program: seconds, CPU seconds, peak MB."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[:5]} ended with {process.returncode}")
    seconds = time.perf_counter() - begin
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


_LOOP = """
import hashlib, json, os, sys, requests
session, folder = requests.Session(), sys.argv[2]
for one in json.load(open(sys.argv[1])):
    body = session.get(one["url"]).content
    assert hashlib.md5(body).hexdigest() == one["etag"]
    path = os.path.join(folder, one["key"])
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "wb").write(body)
"""


def rates(folder: Path, latency: float, files: int, at_once: int, repeats: int) -> list[Row]:
    """Files a second: ours, aria2c's, a loop's."""
    db = folder / f"r{latency:g}.duckdb"
    recorded(db, files, 100)
    with served(latency) as url:
        env = {**os.environ, "AVAILABILITY_DB": str(db), "AVAILABILITY_DOWNLOAD_URL": url}
        for form in ("aria2", "json"):
            command = [sys.executable, "-m", "availability_pipeline.cli", "files", "plan",
                       "--format", form, "--out", str(folder / f"plan.{form}")]  # fmt: skip
            subprocess.run(command, env=env, check=True, capture_output=True)
        few = json.loads((folder / "plan.json").read_text())[: max(20, files // 50)]
        (folder / "few.json").write_text(json.dumps(few))
        runs: dict[str, Callable[[Path], tuple[float, float, float]]] = {
            "ours": lambda dest: ours(["download", str(dest)], db, url, at_once),
            "without CHECKSUMs": lambda dest: ours(
                ["download", str(dest), "--no-checksums"], db, url, at_once
            ),
        }
        if shutil.which("aria2c"):
            runs["aria2c"] = lambda dest: run(
                ["aria2c", "-q", "-i", str(folder / "plan.aria2"), "-d", str(dest),
                 f"-j{at_once}", "-x1", "--file-allocation=none", "--check-integrity=true",
                 "--summary-interval=0"]
            )  # fmt: skip
        best: dict[str, tuple[float, float, float]] = {}
        for _ in range(repeats):
            for name, fetch in runs.items():  # in turns: other work then meets all of them
                dest = folder / "dest"
                found = fetch(dest)
                got = sum(1 for path in (dest / "data").rglob("*.zip"))
                if got != files:
                    raise RuntimeError(f"{name} has {got} of {files} files")
                shutil.rmtree(dest)
                best[name] = min(best.get(name, found), found)
        loop = run([sys.executable, "-c", _LOOP, str(folder / "few.json"), str(folder / "loop")])
    mine, cpu, peak = best["ours"]
    where = f"{latency:g} ms, {files:,} files of {SIZE / 1000:g} kB, {at_once} at a time"
    said = []
    passed = None
    if "aria2c" in best:
        ratio = best["aria2c"][0] / mine
        passed = ratio >= 0.9
        said.append(f"aria2c {files / best['aria2c'][0]:,.0f}/s: {ratio:.2f} times")
    said.append(f"a loop of requests {len(few) / loop[0]:,.0f}/s")
    rows = [Row(
        where, f"{files / mine:,.0f} files/s, {cpu / files * 1000:.2f} ms CPU each, {peak:.0f} MB",
        ", ".join(said), "at least 0.9 times aria2c", passed,
    )]  # fmt: skip
    other = best["without CHECKSUMs"][0]
    rows.append(Row("the same without CHECKSUMs", f"{files / other:,.0f} files/s"))
    return rows


def large_plan(folder: Path, files: int, seconds: float) -> list[Row]:
    """Planning many files, and the memory of a download of them that is stopped after a while."""
    db = folder / "large.duckdb"
    recorded(db, files)
    out = folder / "large.parquet"
    took, _, peak = ours(
        ["plan", "--format", "parquet", "--out", str(out)], db, "http://x.invalid", 32
    )
    rows = [Row(f"planning {files:,} files, as Parquet", f"{took:.1f} s ({peak:.0f} MB)", "",
                "at most 5 s", took <= 5)]  # fmt: skip
    took, _, peak = ours(
        ["plan", "--format", "aria2", "--out", os.devnull], db, "http://x.invalid", 32
    )
    rows.append(Row("the same as aria2 input", f"{took:.1f} s ({peak:.0f} MB)"))
    with served(0) as url:
        env = {**os.environ, "AVAILABILITY_DB": str(db), "AVAILABILITY_DOWNLOAD_URL": url}
        process = subprocess.Popen(
            [sys.executable, "-m", "availability_pipeline.cli", "files", "download",
             str(folder / "large"), "--no-checksums"],
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    got = sum(1 for _ in (folder / "large/data").rglob("*.zip"))
    peak = used.ru_maxrss / 1024
    rows.append(Row(f"downloading {files:,} files, stopped after {seconds:g} s",
                    f"peak {peak:.0f} MB, {got:,} files there", "", "at most 300 MB",
                    peak <= 300))  # fmt: skip
    shutil.rmtree(folder / "large")
    return rows


def verifying(folder: Path, files: int, size: int) -> list[Row]:
    """Reading a mirror again, all of the program, beside sha256sum on as many cores."""
    db, dest = folder / f"verify{size}.duckdb", folder / "verified"
    recorded(db, files, 100, size)
    with served(0, size) as url:
        ours(["download", str(dest)], db, url, 32)
        took = min(ours(["verify", str(dest)], db, url, 32)[0] for _ in range(3))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    command = f"find {dest}/data -name '*.zip' -print0 | xargs -0 -n 200 -P {cores} sha256sum"
    beside = min(run(["bash", "-c", command])[0] for _ in range(3))
    shutil.rmtree(dest)
    total = files * size / 1e6
    return [Row(
        f"verifying {files:,} files of {size / 1000:g} kB, {total:,.0f} MB",
        f"{took:.2f} s, {total / took:,.0f} MB/s",
        f"sha256sum on {cores} cores {beside:.2f} s: {beside / took:.2f} times its speed",
        "at least 0.7 times", beside / took >= 0.7,
    )]  # fmt: skip


_CLIENTS = """
import asyncio, hashlib, sys, time
from concurrent.futures import ThreadPoolExecutor
url, at_once, which = sys.argv[1], int(sys.argv[2]), sys.argv[3]
keys = [line.strip() for line in sys.stdin]
host = url.removeprefix("http://")
def checked(body):
    hashlib.md5(body).hexdigest(), hashlib.sha256(body).hexdigest()
def threads(get):
    with ThreadPoolExecutor(at_once) as pool:
        for body in pool.map(get, keys): pass
def use_urllib3():
    import urllib3
    pool = urllib3.HTTPConnectionPool(host, maxsize=at_once)
    threads(lambda key: checked(pool.urlopen("GET", "/" + key, retries=False, redirect=False).data))
def use_boto3():
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=Config(
        signature_version=UNSIGNED, max_pool_connections=at_once, s3={"addressing_style": "path"}))
    def get(key):
        answer = client.get_object(Bucket="data", Key=key.removeprefix("data/"))
        checked(answer["Body"].read())
    threads(get)
async def workers(get):
    left = iter(keys)
    async def work():
        for key in left: checked(await get(key))
    await asyncio.gather(*(work() for _ in range(at_once)))
def use_aiohttp():
    import aiohttp
    async def main():
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session:
            async def get(key):
                async with session.get(f"{url}/{key}", allow_redirects=False) as answer:
                    return await answer.read()
            await workers(get)
    asyncio.run(main())
def use_obstore():
    import obstore
    from obstore.store import HTTPStore
    place = HTTPStore(url, client_options={"allow_http": True})
    async def get(key):
        return bytes(await (await obstore.get_async(place, key)).bytes_async())
    asyncio.run(workers(get))
begin, cpu = time.perf_counter(), time.process_time()
globals()["use_" + which]()
print(time.perf_counter() - begin, time.process_time() - cpu)
"""


def clients(latency: float, files: int, at_once: int, repeats: int) -> list[Row]:
    """Fetching and hashing bodies, nothing else."""
    keys = "\n".join(UM_KLINES_1M.key(f"S{n % 100}USDT", FIRST + dt.timedelta(n // 100))
                     for n in range(files))  # fmt: skip
    rows, best = [], {}
    names = ("urllib3", "aiohttp", "obstore", "boto3")
    with served(latency) as url:
        for _ in range(repeats):
            for name in names:
                done = subprocess.run(
                    [sys.executable, "-c", _CLIENTS, url, str(at_once), name], input=keys,
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
                if done.returncode:
                    best[name] = None
                    continue
                found = tuple(map(float, done.stdout.split()))
                best[name] = min(best.get(name) or found, found)
    for name in names:
        found: Any = best[name]
        rows.append(Row(
            f"{name}, {latency:g} ms, {at_once} in flight",
            "not installed" if found is None else
            f"{files / found[0]:,.0f} files/s, {found[1] / files * 1000:.2f} ms CPU a file",
        ))  # fmt: skip
    return rows


def main() -> None:
    """Measure and print."""
    parser = common.parser(__doc__)
    parser.add_argument("--clients", action="store_true", help="compare HTTP clients instead")
    parser.add_argument("--only", default="rates,plan,verify", help="of rates, plan, verify")
    arguments = parser.parse_args()
    quick, repeats = arguments.quick, arguments.repeat or (1 if arguments.quick else 3)
    files = 300 if quick else 5000
    latencies = (20,) if quick else (20, 60)
    sizes = ((SIZE, 4e8),) if quick else ((SIZE, 4e8), (200_000, 2e9))
    rows: list[Row] = []
    if arguments.clients:
        for latency in latencies:
            rows += clients(latency, files, 32, repeats)
    else:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
            folder, only = Path(name), arguments.only.split(",")
            if "rates" in only:
                for latency in latencies:
                    rows += rates(folder, latency, files, 32, repeats)
            if "plan" in only:
                rows += large_plan(folder, 20_000 if quick else 1_000_000, 5 if quick else 30)
            if "verify" in only:
                for size, total in sizes:
                    rows += verifying(folder, 200 if quick else int(total / size), size)
    common.show("Downloading verified files", rows, quick=quick)


if __name__ == "__main__":
    main()
