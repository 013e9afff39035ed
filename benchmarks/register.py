"""Publish the record of many datasets, first and after a day in all of them; follow it.

    python -m benchmarks.register            # 100 datasets of 1,000 symbols: 75 million files
    python -m benchmarks.register --quick    # 3 datasets of 30

Each dataset has files of its own (another seed), so that no two share a block. What is published
goes to a folder: what is measured is the work and the bytes, and no line. After a day each dataset
has a new date, its late files of the days before, and some files that were uploaded again.

The least that a publication can upload is what differs: a new date's rows, and the documents that
name the last date of each symbol that is live.
"""

import dataclasses
import datetime as dt
import gzip
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from availability_pipeline.archive.datasets import FIRST_DATE, Dataset, select
from availability_pipeline.archive.listing import Listing
from availability_pipeline.copies import destinations, follow, publish
from availability_pipeline.record import write
from availability_pipeline.record.connection import reader, writer
from benchmarks import synthetic
from benchmarks.common import Row, Timing, parser, show, timed

SHARE = 0.03
"""What an update may upload, and a follower fetch, of all that is published."""

LOOKBACK = dt.timedelta(19)
DAY = dt.timedelta(1)


def datasets(count: int) -> list[Dataset]:
    """So many daily ones, the default one first."""
    first = Dataset.parse("um/daily/klines/1m")
    others = (d for d in select("um/daily/*,spot/daily/*,cm/daily/*") if d != first)
    return [first, *others][:count]


def of(listing: Listing, dataset: Dataset, at: dt.datetime) -> Listing:
    """What a dataset of its own would have at that time: other contents, so other ETags."""
    names = {name: _named(name, dataset.market) for name in listing.symbols}
    files = listing.files
    files = files[files["last_modified"] <= pd.Timestamp(at)]
    if dataset.market != "um":
        files = files[files["symbol"].map(names).notna()]
        kept = files["symbol"].cat.remove_unused_categories()
        files = files.assign(symbol=kept.cat.rename_categories(names))
    own = np.random.default_rng([ord(c) for c in str(dataset)]).integers(2**63, size=2)
    files = files.assign(
        etag_high=files["etag_high"] ^ np.uint64(own[0]),
        etag_low=files["etag_low"] ^ np.uint64(own[1]),
        file_size_bytes=files["file_size_bytes"] + own[0] % 1000,
    )
    symbols = tuple(sorted(name for name in names.values() if name))
    return dataclasses.replace(
        listing, dataset=dataset, symbols=symbols, files=files, server_time=at
    )


def _named(symbol: str, market: str) -> str | None:
    """How a perpetual contract would be named in another market; None of what it has not."""
    if market == "um":
        return symbol
    if "_" in symbol or symbol.endswith("SETTLED") or not symbol.endswith("USDT"):
        return None
    return symbol if market == "spot" else f"{symbol.removesuffix('USDT')}USD_PERP"


def probe(path: Path, chosen: list[Dataset], listing: Listing, at: dt.datetime) -> None:
    """Write the same dates of each dataset."""
    for dataset in chosen:
        with writer(path) as con:
            write.write_probe(con, of(listing, dataset, at), probed_at=at, run_id=f"{at:%F}")


@dataclasses.dataclass(frozen=True)
class Served:
    """A folder behind a web server of another process."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def served(folder: Path, port: int = 0) -> Iterator[Served]:
    """Python's own server, which is slow enough to be anybody's."""
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    command += ["--protocol", "HTTP/1.1"]  # connections are kept
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout
            found = re.search(r"port (\d+)", process.stdout.readline())
            assert found
            yield Served(int(found[1]))
        finally:
            process.terminate()


def written(site: Path, before: dict[str, int]) -> tuple[str, dict[str, int]]:
    """The bytes of each kind of file that is new there or was replaced, and when each was."""
    there = {p.relative_to(site).as_posix(): p.stat() for p in site.rglob("*") if p.is_file()}
    kinds: dict[str, int] = {}
    for path, status in there.items():
        if before.get(path) != status.st_mtime_ns:
            ending = path.rpartition(".")[2]
            kind = {"piece": "pieces", "parquet": "Parquet", "duckdb": "record.duckdb"}.get(
                ending, "documents and pages"
            )
            kinds[kind] = kinds.get(kind, 0) + status.st_size
    said = ", ".join(f"{kind} {size / 1e6:,.1f}" for kind, size in sorted(kinds.items()))
    return f"{said} MB", {path: status.st_mtime_ns for path, status in there.items()}


def main() -> None:
    """Measure and print."""
    made = parser(__doc__ or "")
    made.add_argument("--datasets", type=int, help="datasets (100; quick: 3)")
    options = made.parse_args()
    symbols = options.symbols or (30 if options.quick else 1000)
    chosen = datasets(options.datasets or (3 if options.quick else 100))
    until = synthetic.yesterday()
    archive = synthetic.build(symbols, until)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        record, site = folder / "record.duckdb", folder / "site"
        at = dt.datetime.combine(until, dt.time(2, 0, 5), tzinfo=dt.UTC)
        probe(record, chosen, archive.listing(FIRST_DATE, until - DAY), at)
        with reader(record) as con:
            [(files,)] = con.execute("SELECT count(*) FROM files").fetchall()
        to = destinations.Folder(site)
        done: list[publish.Published] = []

        def run(when: dt.datetime) -> Timing:
            return timed(lambda: done.append(publish.publish(record, to, publish.Form(), now=when)))

        first = run(at)
        first_written, before = written(site, {})
        again = run(at)
        followed: list[follow.Followed] = []
        copy = folder / "copy" / "record.duckdb"

        def run_follow() -> Timing:
            return timed(
                lambda: followed.append(follow.follow(server.url, copy, now=at, in_flight=32))
            )

        with served(site) as server:
            follow_first, follow_again = run_follow(), run_follow()
        at += DAY
        probe(record, chosen, archive.listing(until - LOOKBACK, until), at)
        daily = run(at)
        daily_written, _ = written(site, before)
        with served(site, server.port) as server:
            follow_daily = run_follow()
        start, _, update = done
        whole = start.uploaded_bytes  # all of the site, record.duckdb and plain copies too
        share = update.uploaded_bytes / whole
        beside = update.uploaded_bytes / (whole - start.manifest.database.bytes)
        fetched = followed[2].fetched_bytes / followed[0].fetched_bytes
        text = (site / "um/daily/klines/1m/symbols.json").read_bytes()
        packed = len(gzip.compress(text))
        rows = [
            Row("record", f"{start.manifest.database.bytes / 1e6:,.0f} MB",
                f"{len(chosen)} datasets, {files:,} files"),
            Row("published, the first time", str(first),
                f"{start.uploaded:,} files, {whole / 1e6:,.0f} MB: {first_written}"),
            Row("nothing changed", str(again), f"{done[1].uploaded} files written"),
            Row("after a day in all of them", str(daily),
                f"{update.uploaded:,} files, {update.uploaded_bytes / 1e6:,.1f} MB: "
                f"{daily_written}"),
            Row("what an update uploads", f"{share:.1%}",
                f"of all that is published; {beside:.1%} of it without record.duckdb",
                f"at most {SHARE:.0%}", share <= SHARE),
            Row("followed, the first time", str(follow_first),
                f"{followed[0].fetched_bytes / 1e6:,.0f} MB over loopback, 32 in flight"),
            Row("followed again, nothing new", str(follow_again),
                f"{followed[1].fetched_bytes:,} bytes"),
            Row("followed after a day", str(follow_daily),
                f"{followed[2].fetched_bytes / 1e6:,.1f} MB, {followed[2].fetched_pieces} of "
                f"{followed[2].pieces:,} pieces"),
            Row("what a follower fetches", f"{fetched:.1%}", "of the record",
                f"at most {SHARE:.0%}", fetched <= SHARE),
            Row("symbols.json of the default dataset", f"{len(text):,} bytes",
                f"{packed:,} with gzip", "150 kB, 30 kB",
                len(text) <= 150_000 and packed <= 30_000),
        ]  # fmt: skip
    show("The published record", rows, quick=options.quick)


if __name__ == "__main__":
    main()
