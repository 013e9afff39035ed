"""Listing: our reader beside a bare fetch of the same pages, the plain paginator, and HEADs.

    python -m benchmarks.listing            # the paginator on 1/10 of the symbols, HEADs on 1/5
    python -m benchmarks.listing --full     # everything in full (several minutes)
    python -m benchmarks.listing --parts    # only where our own time goes, one listing at a time

One run, one server on a core of its own, the client on another where there are two. Bare fetch:
urllib3, as many threads as we have listings in flight, the very addresses our own run asked for,
the bodies read and dropped. Plain paginator: what boto3's documentation shows, one
`list_objects_v2` paginator per symbol folder, unsigned, in as many threads, one run. HEADs: one
request per (symbol, date), 150 urllib3 threads, the predecessor's way. Times are wall seconds
without making the client; CPU seconds are those of the client's process.
"""

import datetime as dt
import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from unittest import mock

import boto3
import urllib3
from botocore import UNSIGNED
from botocore.config import Config

from availability_pipeline import settings
from availability_pipeline.archive import _client, listing
from availability_pipeline.archive._client import make_client
from availability_pipeline.archive.datasets import DOWNLOAD_HOST, FIRST_DATE, UM_KLINES_1M, Dataset
from availability_pipeline.archive.listing import S3Archive
from benchmarks import archive_server, synthetic
from benchmarks.common import Row, Timing, cores, parser, pin, show, timed

HEAD_THREADS = 150


def recorded(
    url: str, concurrency: int, start: dt.date, end: dt.date, dataset: Dataset = UM_KLINES_1M
) -> list[str]:
    """Addresses of every page our own listing asks for, in the order it asked."""
    config = settings.Settings(s3_endpoint=url, s3_concurrency=concurrency)
    client = make_client(config)
    asked: list[str] = []

    def note(request: Any, **_: object) -> None:
        asked.append(request.url)

    client.meta.events.register("before-send.s3.ListObjectsV2", note)
    ours = S3Archive(client, config.s3_bucket, dataset, concurrency)
    ours.list_range(start, end)
    client.close()
    return asked


def fetch(urls: Iterable[str], threads: int, method: str = "GET") -> dict[int, int]:
    """Ask for each address with bare urllib3; the bodies are read and dropped."""
    statuses: dict[int, int] = {}
    lock = threading.Lock()
    with (
        urllib3.PoolManager(maxsize=threads, retries=False) as http,
        ThreadPoolExecutor(threads) as pool,
    ):

        def one(url: str) -> None:
            status = http.request(method, url).status
            with lock:
                statuses[status] = statuses.get(status, 0) + 1

        list(pool.map(one, urls))
    return statuses


def paginate(url: str, symbols: list[str], threads: int) -> tuple[int, Callable[[], None]]:
    """The plain paginator over so many symbols; returns a box for the count and the work."""
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="ap-northeast-1",
        # Users leave the pool at 10; in its favour it gets one connection a thread.
        config=Config(signature_version=UNSIGNED, max_pool_connections=threads),
    )
    count = [0]

    def one(symbol: str) -> list[tuple[str, int, dt.datetime]]:
        paginator = client.get_paginator("list_objects_v2")
        return [
            (item["Key"], item["Size"], item["LastModified"])
            for page in paginator.paginate(
                Bucket=archive_server.BUCKET, Prefix=UM_KLINES_1M.folder(symbol)
            )
            for item in page.get("Contents", ())
            if item["Key"].endswith(".zip")
        ]

    def work() -> None:
        with ThreadPoolExecutor(threads) as pool:
            count[0] = sum(len(files) for files in pool.map(one, symbols))

    return count, work  # type: ignore[return-value]


def in_turns(
    one: Callable[[], object], other: Callable[[], object], repeats: int
) -> tuple[Timing, Timing]:
    """The best of each, run in turns so that other work on the machine meets both alike."""
    rounds: list[list[Timing]] = [[], []]
    for _ in range(repeats):
        for kept, work in zip(rounds, (one, other), strict=True):
            gc.collect()
            kept.append(timed(work))
    fastest = (min(kept, key=lambda t: t.wall) for kept in rounds)
    mine, theirs = (Timing(t.wall, t.cpu, repeats) for t in fastest)
    return mine, theirs


def parts(url: str, until: dt.date) -> list[Row]:
    """CPU seconds of each step of listing all history, one symbol after another."""
    spent: Counter[str] = Counter()

    def watch(patches: ExitStack, owner: Any, name: str, step: str) -> None:
        work = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            begun = time.thread_time()
            try:
                return work(*args, **kwargs)
            finally:
                spent[step] += time.thread_time() - begun

        patches.enter_context(mock.patch.object(owner, name, watched))

    ours = S3Archive.from_settings(settings.Settings(s3_endpoint=url, s3_concurrency=1))
    ours.list_range(FIRST_DATE, until)
    with ExitStack() as patches:
        watch(patches, _client._Sender, "__call__", "fetching")  # noqa: SLF001
        watch(patches, _client, "parse_page", "pages")
        watch(patches, ours._client, "list_objects_v2", "requests")  # noqa: SLF001
        watch(patches, S3Archive, "_list_symbol", "symbols")
        watch(patches, listing, "frame_of", "the frame")
        whole = timed(lambda: ours.list_range(FIRST_DATE, until)).cpu
    symbols, requests = spent.pop("symbols"), spent.pop("requests")
    spent["botocore's work for a request"] = requests - spent["fetching"] - spent["pages"]
    spent["dates, checks between pages"] = symbols - requests
    spent["the rest"] = whole - symbols - spent["the frame"]
    rows = [Row(step, f"{seconds:.2f} s CPU") for step, seconds in spent.most_common()]
    return [*rows, Row("all of it", f"{whole:.2f} s CPU")]


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, full="run paginator and HEADs on every symbol, without scaling")
    options.add_argument("--concurrency", type=int, default=32, help="listings in flight")
    options.add_argument("--latency-ms", type=float, default=0, help="network to pretend")
    options.add_argument("--parts", action="store_true", help="only where our own time goes")
    options.add_argument("--no-pin", action="store_true", help="leave the cores to the system")
    arguments = options.parse_args()
    quick, threads = arguments.quick, arguments.concurrency
    symbols = arguments.symbols or (30 if quick else 1000)
    repeats = arguments.repeat or (1 if quick else 3)
    until = synthetic.yesterday()
    archive = synthetic.build(symbols, until)
    server_core, client_core = (None, None) if arguments.no_pin else cores()

    with archive_server.running(
        symbols, until=until, latency_ms=arguments.latency_ms, cpu=server_core
    ) as url:
        pin(client_core)
        if arguments.parts:
            show("Where the time of listing goes", parts(url, until), quick=quick)
            return
        config = settings.Settings(s3_endpoint=url, s3_concurrency=threads)
        ours = S3Archive.from_settings(config)
        names = ours.folders().symbols

        # Unmeasured: finds the addresses, and has the server make every page once.
        pages = recorded(url, threads, FIRST_DATE, until)
        found = ours.list_range(FIRST_DATE, until)
        if len(found.files) != archive.files:
            raise SystemExit(f"{len(found.files):,} files listed, {archive.files:,} are there")
        listed = found.requests
        del found
        full, bare = in_turns(
            lambda: ours.list_range(FIRST_DATE, until), lambda: fetch(pages, threads), repeats
        )

        share = 1 if arguments.full else 2 if quick else 10
        some = list(names[::share])
        count, work = paginate(url, some, threads)
        plain_raw = timed(work)
        scale = archive.files / max(1, count[0])
        plain = Timing(plain_raw.wall * scale, plain_raw.cpu * scale)

        twenty = until - dt.timedelta(19)
        one_day, window = in_turns(
            lambda: ours.list_range(until, until),
            lambda: ours.list_range(twenty, until),
            2 * repeats,
        )
        requests = ours.list_range(twenty, until).requests

        head_share = 1 if arguments.full else 2 if quick else 5
        span = [twenty + dt.timedelta(n) for n in range(20)]
        heads = [
            UM_KLINES_1M.url(name, day).replace(DOWNLOAD_HOST, f"{url}/{archive_server.BUCKET}/")
            for name in names[::head_share]
            for day in span
        ]
        fetch(heads, HEAD_THREADS, "HEAD")
        head_raw = timed(lambda: fetch(heads, HEAD_THREADS, "HEAD"))
        head_scale = len(names) * 20 / len(heads)
        head = Timing(head_raw.wall * head_scale, head_raw.cpu * head_scale)

    scaled = "" if share == 1 else f", 1/{share} of the symbols scaled by files"
    head_scaled = "" if head_share == 1 else f", 1/{head_share} of the symbols scaled"
    against_bare, against_plain = full.wall / bare.wall, plain.wall / full.wall
    days = abs(window.wall / one_day.wall - 1)
    against_head = head.wall / window.wall
    rows = [
        Row("full history, ours", str(full), f"{listed:,} pages, {archive.files:,} files"),
        Row("the same pages, urllib3, unparsed", str(bare),
            f"ours takes {against_bare:.1f} times (CPU {full.cpu / bare.cpu:.1f})",
            "at most 4 times", against_bare <= 4),
        Row(f"plain boto3 paginator{scaled}", str(plain),
            f"ours is {against_plain:.1f} times faster",
            "at least 10 times", against_plain >= 10),
        Row("one day, ours", str(one_day), f"{len(names):,} symbols"),
        Row("20 days, ours", str(window),
            f"{requests:,} pages, {window.wall / one_day.wall:.2f} x one day",
            "within 30 %", days <= 0.3),
        Row(f"20 days of HEADs, {HEAD_THREADS} threads{head_scaled}", str(head),
            f"{len(names) * 20:,} requests, {against_head:.1f} times the window",
            "at least 4 times", against_head >= 4),
    ]  # fmt: skip
    where = "one core each" if client_core is not None else "not pinned"
    show(
        f"Listing {len(names):,} symbols, {arguments.concurrency} in flight, "
        f"{arguments.latency_ms:g} ms network, server and client {where}",
        rows,
        quick=quick,
    )


if __name__ == "__main__":
    main()
