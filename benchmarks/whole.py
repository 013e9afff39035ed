"""The whole archive, made up (`whole_archive`): listing rates, first fill, daily probe, questions.

    python -m benchmarks.whole                # a tenth of all symbols (--scale)
    python -m benchmarks.whole --full         # all of them: 109 million files
    python -m benchmarks.whole --only rates,latency

The server runs in a process of its own, and so does each side of a comparison; sides are timed in
turns. Memory is the process's peak (VmHWM), which is reset before each step that has its own.
`--only` takes these parts:

- rates: pages a second of several datasets at full scale beside the default one and a bare fetch;
  two datasets at a time beside one after the other.
- latency: 60 ms before each answer and 64 requests in flight, beside the bare fetch of the same
  requests and the plain boto3 paginator.
- fill: every dataset's full history into one record, a probe of yesterday, and questions.
"""

import argparse
import datetime as dt
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from availability_pipeline import queries, settings
from availability_pipeline.archive.datasets import CATALOGUE, UM_KLINES_1M, Dataset
from availability_pipeline.archive.listing import Folders, S3Archive
from availability_pipeline.record import write
from availability_pipeline.record.connection import reader
from benchmarks import synthetic, whole_archive
from benchmarks.common import Row, cores, parser, pin, show
from benchmarks.listing import fetch, paginate, recorded
from benchmarks.queries import median
from benchmarks.whole_archive import Whole

ROOT = Path(__file__).parents[1]
SPOT_1S = Dataset("spot", "daily", "klines", "1s")
SPOT_TRADES = Dataset("spot", "daily", "aggTrades", None)
OTHERS = (
    SPOT_1S,
    SPOT_TRADES,
    Dataset("um", "daily", "markPriceKlines", "5m"),
    Dataset("um", "daily", "metrics", None),
    Dataset("cm", "daily", "klines", "1h"),
    Dataset("spot", "monthly", "klines", "1d"),
    Dataset("um", "monthly", "fundingRate", None),
)
"""Besides the default one: the largest, one without intervals, and small ones of each kind."""

_STATUS = Path("/proc/self/status")


def reset_peak() -> None:
    """Begin to measure the peak anew, where Linux allows it."""
    if _STATUS.exists():
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Bytes of memory at most since then; 0 where the system does not say."""
    if not _STATUS.exists():
        return 0
    text = _STATUS.read_text()
    return int(text[text.index("VmHWM:") + 6 :].split(maxsplit=1)[0]) * 1024


def first_period(dataset: Dataset) -> dt.date:
    """Where the catalogue lets its history begin."""
    return dataset.period_of(CATALOGUE[dataset.kind].first)


def last_period(dataset: Dataset, until: dt.date) -> dt.date:
    """The newest period that can be out: of the months, the one before that of `until`."""
    newest = dataset.shift(dataset.period_of(until), -1) if dataset.monthly else until
    return min(newest, CATALOGUE[dataset.kind].last or newest)


def archive_at(url: str, in_flight: int) -> S3Archive:
    """Ours, of that server."""
    return S3Archive.from_settings(settings.Settings(s3_endpoint=url, s3_concurrency=in_flight))


# What runs in a process of its own; each takes its arguments and returns numbers.


def _ours(url: str, names: list[str], until: str, in_flight: int) -> list[dict[str, Any]]:
    """List these datasets' full histories one after another."""
    ours, found = archive_at(url, in_flight), []
    for dataset in map(Dataset.parse, names):
        reset_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        last = last_period(dataset, dt.date.fromisoformat(until))
        listing = ours.list_range(first_period(dataset), last, dataset=dataset)
        found.append(
            {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": peak(),
             "ended": time.time(), "pages": listing.requests, "files": len(listing.files)}
        )  # fmt: skip
    return found


def _bare(file: str, in_flight: int) -> dict[str, Any]:
    """Fetch these addresses; the bodies are dropped."""
    urls = Path(file).read_text().splitlines()
    wall, cpu = time.perf_counter(), time.process_time()
    statuses = fetch(urls, in_flight)
    if set(statuses) != {200}:
        raise SystemExit(f"the bare fetch was answered {statuses}")
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def _plain(url: str, symbols: list[str], in_flight: int) -> dict[str, Any]:
    """The plain paginator over some symbols of the default dataset."""
    count, work = paginate(url, symbols, in_flight)
    wall = time.perf_counter()
    work()
    return {"wall": time.perf_counter() - wall, "files": count[0]}  # type: ignore[index]


def _update(
    url: str,
    names: list[str],
    path: str,
    until: str,
    in_flight: int,
    newest: str,
    *,
    only_last: bool = False,
    default_symbols: int = 0,
    verbose: bool = False,
) -> list[dict[str, Any]]:
    """Bring each dataset up to date: all of its history, or its last period without the ended.

    The default dataset is, if a number of symbols is given, not that of the server.
    """
    end = dt.date.fromisoformat(newest)
    now = dt.datetime.combine(end + dt.timedelta(1), dt.time(12), tzinfo=dt.UTC)
    limits = settings.Settings(max_clock_skew_minutes=0)
    ours, found = archive_at(url, in_flight), []
    folders: Folders | None = None
    for dataset in map(Dataset.parse, names):
        requests = 0
        begun, used = time.perf_counter(), time.process_time()
        if folders is None or folders.kind != dataset.kind:
            folders = ours.folders(dataset)
            requests += folders.requests
        timed, given = _Timed(ours), default_symbols and dataset == UM_KLINES_1M
        if given:
            timed = _Timed(_Given(synthetic.build(default_symbols, dt.date.fromisoformat(until))))
        last = last_period(dataset, end)
        done = write.update(
            Path(path), timed, last if only_last else first_period(dataset), last,
            now=now, run_id="whole", settings=limits, dataset=dataset, folders=folders,
            ended_too=not only_last,
        )  # fmt: skip
        wall = time.perf_counter() - begun
        found.append(
            {"wall": wall, "cpu": time.process_time() - used, "listing": timed.seconds,
             "cpu_listing": timed.cpu, "peak_listing": timed.peak, "peak": peak(),
             "requests": requests + done.listing.requests, "files": len(done.listing.files),
             "bytes": Path(path).stat().st_size, "dataset": str(dataset), "given": bool(given)}
        )  # fmt: skip
        del done
        if verbose:
            print(len(found), json.dumps(found[-1]), file=sys.stderr, flush=True)
    return found


class _Timed:
    """An archive that says how long it was listed and with how much memory."""

    def __init__(self, archive: Any) -> None:
        self._archive, self.seconds, self.cpu, self.peak = archive, 0.0, 0.0, 0

    def list_range(self, *args: Any, **kwargs: Any) -> Any:
        reset_peak()
        begun, used = time.perf_counter(), time.process_time()
        listing = self._archive.list_range(*args, **kwargs)
        self.seconds, self.cpu = time.perf_counter() - begun, time.process_time() - used
        self.peak = peak()
        reset_peak()
        return listing


class _Given:
    """The archive of the other benchmarks, listed without a network."""

    def __init__(self, archive: synthetic.Synthetic) -> None:
        self._archive = archive

    def list_range(self, start: dt.date, end: dt.date, *_: Any, **__: Any) -> Any:
        return self._archive.listing(start, end)


_CHILDREN: dict[str, Callable[..., Any]] = {
    "ours": _ours, "bare": _bare, "plain": _plain, "update": _update,
}  # fmt: skip


class Child:
    """One of these functions in a process of its own, which waits for `go`."""

    def __init__(self, what: str, core: int | None = None, **arguments: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.whole", "--child",
             json.dumps({"what": what, "core": core, "arguments": arguments})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        if self._read() != "ready":
            raise SystemExit(f"{what} did not start; its error is above")

    def _read(self) -> str:
        return self._process.stdout.readline().strip()  # type: ignore[union-attr]

    def go(self) -> "Child":
        """Let it begin."""
        print("go", file=self._process.stdin, flush=True)
        return self

    def result(self) -> Any:
        """What it found."""
        line = self._read()
        if self._process.wait() or not line:
            raise SystemExit("a process of the benchmark broke; its error is above")
        return json.loads(line)


def _child(text: str) -> None:
    spec = json.loads(text)
    pin(spec["core"])
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(_CHILDREN[spec["what"]](**spec["arguments"])), flush=True)


def alone(what: str, core: int | None = None, **arguments: Any) -> Any:
    """The same, begun and waited for."""
    return Child(what, core, **arguments).go().result()


def _rate(run: dict[str, Any]) -> float:
    return float(run["pages"] / run["wall"])


def _cpu(run: dict[str, Any]) -> float:
    return float(run["cpu"] / run["pages"])


def rates(scale: float, until: dt.date, in_flight: int, repeats: int) -> list[Row]:
    """Pages a second of several datasets, one after another in one process, and memory."""
    whole = Whole(scale, until, until)
    server_core, client_core = cores()
    names = [str(dataset) for dataset in (UM_KLINES_1M, *OTHERS, UM_KLINES_1M)]
    runs: list[list[dict[str, Any]]] = []
    bare: list[dict[str, Any]] = []
    with (
        whole_archive.running(whole, cpu=server_core) as server,
        addresses(server.url, UM_KLINES_1M, until, in_flight) as (file, pages),
    ):
        for _ in range(repeats):
            runs.append(
                alone("ours", client_core, url=server.url, names=names, until=f"{until}",
                      in_flight=in_flight)
            )  # fmt: skip
            bare.append(alone("bare", client_core, file=file, in_flight=in_flight))
    best = [min(one, key=lambda run: run["wall"]) for one in zip(*runs, strict=True)]
    today = max(_rate(best[0]), _rate(best[-1]))
    cpu = min(_cpu(best[0]), _cpu(best[-1]))
    fetched = pages / min(run["wall"] for run in bare)
    rows = [
        Row(f"{UM_KLINES_1M}, full history", f"{today:,.0f} pages/s",
            f"{pages:,} pages, {best[0]['files']:,} files, {1000 * cpu:.2f} ms CPU a page; bare "
            f"urllib3 {fetched:,.0f} pages/s, {fetched / today:.1f} times"),
    ]  # fmt: skip
    for dataset, run in zip(OTHERS, best[1:-1], strict=True):
        rows.append(
            Row(f"{dataset}", f"{_rate(run):,.0f} pages/s",
                f"{_rate(run) / today:.2f} of the default's; {run['pages']:,} pages, "
                f"{run['files']:,} files, {1000 * _cpu(run):.2f} ms CPU a page, "
                f"peak {run['peak'] / 1e9:.2f} GB")
        )  # fmt: skip
    others = best[1:-1]
    total = {what: sum(run[what] for run in others) for what in ("pages", "wall", "cpu")}
    together = _rate(total)
    most = max(run["peak"] for run in best)
    return [
        *rows,
        Row("all of these, one after another", f"{together / today:.2f} of the default's rate",
            f"{together:,.0f} pages/s; by CPU seconds {cpu / _cpu(total):.2f}",
            "at least 0.8", together >= 0.8 * today),
        Row("peak memory of the largest", f"{most / 1e9:.2f} GB", "", "at most 1.5 GB",
            most <= 1.5e9),
    ]  # fmt: skip


@contextmanager
def addresses(
    url: str, dataset: Dataset, until: dt.date, in_flight: int
) -> Iterator[tuple[str, int]]:
    """A file with what a listing of the full history asks for, and how many pages that is."""
    last = last_period(dataset, until)
    asked = recorded(url, in_flight, first_period(dataset), last, dataset)
    with tempfile.NamedTemporaryFile("w", suffix=".urls") as file:
        file.write("\n".join(asked))
        file.flush()
        yield file.name, len(asked)


def two_at_a_time(scale: float, until: dt.date, in_flight: int, repeats: int) -> list[Row]:
    """Two datasets in two processes, beside one after the other; nothing is pinned."""
    singles, doubles = [], []
    with whole_archive.running(Whole(scale, until, until)) as server:

        def child(dataset: Dataset) -> Child:
            return Child("ours", url=server.url, names=[f"{dataset}"], until=f"{until}",
                         in_flight=in_flight)  # fmt: skip

        for _ in range(repeats):
            runs = [child(dataset).go().result()[0] for dataset in (SPOT_1S, SPOT_TRADES)]
            singles.append({what: sum(run[what] for run in runs) for what in ("wall", "cpu")})
            both, used = [child(SPOT_1S), child(SPOT_TRADES)], server.cpu()
            begun = time.time()
            for one in both:
                one.go()
            runs = [one.result()[0] for one in both]
            doubles.append({"wall": max(run["ended"] for run in runs) - begun,
                            "cpu": sum(run["cpu"] for run in runs),
                            "server": server.cpu() - used})  # fmt: skip
    single, double = (min(runs, key=lambda run: run["wall"]) for runs in (singles, doubles))
    gain = single["wall"] / double["wall"]
    return [
        Row("two datasets at a time, two processes", f"{gain:.2f} times one",
            f"{SPOT_1S} and {SPOT_TRADES}: {double['wall']:.1f} s ({double['cpu']:.1f} CPU, and "
            f"{double['server']:.1f} of the server on the same two cores), one after the other "
            f"{single['wall']:.1f} s ({single['cpu']:.1f} CPU)",
            "at least 1.6 times", gain >= 1.6),
    ]  # fmt: skip


def latency(
    scale: float, until: dt.date, in_flight: int, latency_ms: float, repeats: int, share: int
) -> list[Row]:
    """With a network to pretend: ours, a bare fetch of the same requests, the plain paginator."""
    whole = Whole(scale, until, until)
    server_core, client_core = cores()
    rows = []
    with whole_archive.running(whole, latency_ms=latency_ms, cpu=server_core) as server:
        url = server.url
        for dataset in (UM_KLINES_1M, SPOT_1S)[: 1 if share < 10 else 2]:
            with addresses(url, dataset, until, in_flight) as (file, pages):
                mine, bare = [], []
                for _ in range(repeats):
                    mine += alone("ours", client_core, url=url, names=[f"{dataset}"],
                                  until=f"{until}", in_flight=in_flight)  # fmt: skip
                    bare.append(alone("bare", client_core, file=file, in_flight=in_flight))
            fastest = [min(runs, key=lambda run: run["wall"]) for runs in (mine, bare)]
            ratio = fastest[0]["wall"] / fastest[1]["wall"]
            rows.append(
                Row(f"{dataset}, full history", f"{fastest[0]['wall']:.2f} s",
                    f"{pages:,} pages; bare urllib3 {fastest[1]['wall']:.2f} s: {ratio:.2f} times "
                    f"(CPU {fastest[0]['cpu']:.1f} and {fastest[1]['cpu']:.1f} s)",
                    "at most 1.25 times", ratio <= 1.25)
            )  # fmt: skip
            if dataset == UM_KLINES_1M:
                lives = whole.lives(dataset)[::share]
                plain = alone("plain", client_core, url=url, in_flight=in_flight,
                              symbols=[life.symbol for life in lives])  # fmt: skip
                seconds = plain["wall"] * mine[0]["files"] / plain["files"]
                rows.append(
                    Row(f"plain boto3 paginator, 1/{share} of the symbols scaled by files",
                        f"{seconds:,.0f} s", f"{seconds / fastest[0]['wall']:.0f} times ours")
                )  # fmt: skip
    return rows


def fill(
    scale: float,
    until: dt.date,
    in_flight: int,
    path: Path,
    *,
    default_symbols: int,
    datasets: Iterable[Dataset],
    again: bool,
    verbose: bool,
) -> list[Row]:
    """Every dataset's full history into a record, then one more date, then all of it again."""
    before = until - dt.timedelta(1)
    # The default one first: it is the one that questions are about.
    chosen = sorted(datasets, key=lambda dataset: dataset != UM_KLINES_1M)
    names = [str(dataset) for dataset in chosen]
    update: dict[str, Any] = {"path": f"{path}", "in_flight": in_flight, "until": f"{until}",
                              "default_symbols": default_symbols, "verbose": verbose}  # fmt: skip
    with whole_archive.running(Whole(scale, until, before)) as server:
        filled = alone("update", url=server.url, names=names, newest=f"{before}", **update)
    live = [d for d in chosen if not d.monthly and CATALOGUE[d.kind].lifecycle == "live"]
    with whole_archive.running(Whole(scale, until, until)) as server:
        probed = alone("update", url=server.url, names=[str(d) for d in live], newest=f"{until}",
                       only_last=True, **update)  # fmt: skip
        reconciled = again and alone(
            "update", url=server.url, names=names, newest=f"{until}", **update
        )
    files = sum(one["files"] for one in filled)
    size = filled[-1]["bytes"] / files
    most = max(max(one["peak"], one["peak_listing"]) for one in filled)
    largest = max(filled, key=lambda one: one["peak"])
    rows = [
        Row(f"first fill: {len(filled)} datasets, {files:,} files", *_times(filled, scale)),
        Row("size of the record", f"{size:.1f} bytes a file",
            f"{filled[-1]['bytes'] / 1e6:,.0f} MB", "at most 30 with ETags", size <= 30),
        Row("peak memory", f"{most / 1e9:.2f} GB",
            f"{largest['dataset']}: {largest['files']:,} files, listing "
            f"{largest['peak_listing'] / 1e9:.2f} GB, writing {largest['peak'] / 1e9:.2f} GB",
            "at most 1.5 GB", most <= 1.5e9),
        Row(f"daily probe: {len(probed)} datasets, {sum(one['files'] for one in probed):,} files",
            *_times(probed, scale)),
    ]  # fmt: skip
    if reconciled:
        grown = reconciled[-1]["bytes"] / probed[-1]["bytes"] - 1
        rows.append(
            Row("all of it again, where nothing has changed", *_times(reconciled, scale),
                f"the record grows by {grown:.1%}")
        )  # fmt: skip
    return rows


def _times(runs: list[dict[str, Any]], scale: float) -> tuple[str, str]:
    """Wall seconds of all runs; and their parts, with what the whole archive would take."""
    total = {what: sum(run[what] for run in runs)
             for what in ("wall", "listing", "cpu", "cpu_listing", "requests")}  # fmt: skip
    parts = (
        f"{total['requests']:,} requests; listing {total['listing']:.0f} s "
        f"({total['cpu_listing']:.0f} CPU), writing {total['wall'] - total['listing']:.0f} s "
        f"({total['cpu'] - total['cpu_listing']:.0f} CPU)"
    )
    if scale < 1:
        # What a dataset takes however few symbols it has does not grow with them.
        fixed = {what: sorted(run[what] for run in runs)[len(runs) // 10]
                 for what in ("wall", "cpu")}  # fmt: skip
        whole = {
            what: total[what]
            + sum(max(0, run[what] - fixed[what]) for run in runs if not run["given"])
            * (1 / scale - 1)
            for what in fixed
        }
        parts += (
            f"; of a dataset at least {fixed['wall']:.2f} s ({fixed['cpu']:.2f} CPU); the whole "
            f"archive: {whole['wall'] / 60:.0f} min ({whole['cpu'] / 60:.0f} CPU)"
        )
    return f"{total['wall']:.0f} s", parts


def questions(path: Path, until: dt.date, repeats: int) -> list[Row]:
    """The questions about the default dataset in a record of all of them."""
    rows = []
    with reader(path) as con:
        [(count,)] = con.execute("SELECT count(*) FROM datasets").fetchall()
        for what, name, given, limit in (
            ("snapshot", "snapshot", (until,), 5),
            ("timeline of BTCUSDT", "timeline", ("BTCUSDT",), 15),
            ("holes over everything", "holes", (), 100),
        ):
            ask = getattr(queries, name)
            wall, cpu = median(lambda ask=ask, given=given: ask(con, *given), repeats)
            rows.append(
                Row(f"{what}, in a record of {count} datasets", f"{wall * 1000:.1f} ms",
                    f"{cpu * 1000:.1f} ms CPU", f"at most {limit} ms", wall * 1000 <= limit)
            )  # fmt: skip

    def command() -> None:
        subprocess.run(
            [sys.executable, "-m", "availability_pipeline.cli", "query", "snapshot",
             until.isoformat(), "--json"],
            check=True, stdout=subprocess.DEVNULL,
            env={**os.environ, "AVAILABILITY_DB": str(path)},
        )  # fmt: skip

    cold, _ = median(command, max(1, repeats // 2))
    return [
        *rows,
        Row("command line, query snapshot --json", f"{cold:.2f} s", "a new process",
            "at most 0.6 s", cold <= 0.6),
    ]  # fmt: skip


PARTS = ("rates", "latency", "fill")


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, full="fill all symbols of the archive instead of a share")
    options.add_argument("--scale", type=float, help="share of the symbols that are filled (0.1)")
    options.add_argument("--only", default=",".join(PARTS), help="parts, comma-separated")
    options.add_argument("--in-flight", type=int, default=64, help="requests in flight (64)")
    options.add_argument("--latency-ms", type=float, default=60, help="network to pretend (60)")
    options.add_argument("--keep", type=Path, help="a folder to leave the record in")
    options.add_argument("--verbose", action="store_true", help="a line for each dataset")
    options.add_argument("--child", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.child:
        _child(arguments.child)
        return
    quick, until = arguments.quick, synthetic.yesterday()
    scale = 1.0 if arguments.full else arguments.scale or (0.002 if quick else 0.1)
    repeats = arguments.repeat or (1 if quick else 3)
    listed = 0.002 if quick else 1.0
    parts = arguments.only.split(",")
    in_flight = arguments.in_flight
    load = f"load {os.getloadavg()[0]:.1f}"
    if "rates" in parts:
        rows = rates(listed, until, in_flight, repeats)
        rows += two_at_a_time(listed, until, in_flight, repeats)
        show(f"Listing several datasets, {in_flight} in flight, no latency; {load}", rows,
             quick=quick)  # fmt: skip
    if "latency" in parts:
        rows = latency(listed, until, in_flight, arguments.latency_ms, repeats,
                       2 if quick else 20)  # fmt: skip
        show(f"Listing with {arguments.latency_ms:g} ms latency, {in_flight} in flight; {load}",
             rows, quick=quick)  # fmt: skip
    if "fill" in parts:
        whole = Whole(scale, until, until)
        datasets = (UM_KLINES_1M, *OTHERS[-2:]) if quick else whole.datasets
        default = 0 if scale == 1 else arguments.symbols or (30 if quick else 1000)
        with tempfile.TemporaryDirectory() as name:
            path = (arguments.keep or Path(name)) / "whole.duckdb"
            rows = fill(scale, until, in_flight, path, default_symbols=default,
                        datasets=datasets, again=not (quick or arguments.full),
                        verbose=arguments.verbose)  # fmt: skip
            rows += questions(path, until, 15 if not quick else 3)
        show(f"The whole archive, {scale:g} of its symbols; {load}", rows, quick=quick,
             notes=[whole_archive.totals(whole)])  # fmt: skip


if __name__ == "__main__":
    main()
