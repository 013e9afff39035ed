"""A record of what a download host has, ETags included."""

import datetime as dt
import hashlib
from pathlib import Path

import numpy as np

from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.mirror import manifest
from availability_pipeline.mirror.manifest import Entry
from availability_pipeline.mirror.store import place
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support.download_host import Host
from availability_pipeline_tests.support.helpers import D, make_listing

START, END = D(2024, 1, 1), D(2024, 3, 10)
SETTLED = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)

MONTHS = Dataset.parse("um/monthly/klines/1m")


def content(key: str, size: int = 3000, version: int = 1) -> bytes:
    """A file's content: of its own, the same every time."""
    word = hashlib.sha256(f"{key} {version}".encode()).digest()
    return (word * (size // len(word) + 1))[:size]


def publish(
    host: Host,
    symbol: str,
    start: dt.date,
    end: dt.date,
    dataset: Dataset = UM_KLINES_1M,
    size: int = 3000,
) -> list[str]:
    """Put a symbol's files on the host; returns their keys."""  # fmt: skip
    keys = [dataset.key(symbol, period) for period in dataset.periods(start, end)]
    host.files |= {key: content(key, size) for key in keys}
    return keys


def record(
    path: Path,
    host: Host,
    *,
    start: dt.date = START,
    end: dt.date = END,
    at: dt.datetime = SETTLED,
    datasets: tuple[Dataset, ...] = (UM_KLINES_1M, MONTHS),
    modified: dict[str, dt.datetime] | None = None,
) -> None:
    """Probe the host: the record has what it has now, by the sizes and MD5s."""
    for dataset in datasets:
        found: dict[str, dict[dt.date, tuple[int, dt.datetime]]] = {}
        etags: dict[tuple[str, dt.date], bytes] = {}
        for key, body in host.files.items():
            if file := dataset.parse_key(key):
                published = dt.datetime.combine(dataset.shift(file.period, 1), dt.time(8), dt.UTC)
                time = (modified or {}).get(key, published)
                found.setdefault(file.symbol, {})[file.period] = (len(body), time)
                etags[file.symbol, file.period] = hashlib.md5(body).digest()
        if not found:
            continue
        first, last = dataset.period_of(start), dataset.period_of(end)
        if dataset.monthly and dataset.last_day(last) > end:
            last = dataset.shift(last, -1)
        listing = make_listing(first, last, found, dataset=dataset)
        frame = listing.files
        sums = [
            etags[symbol, date.date()]
            for symbol, date in zip(frame["symbol"].astype(str), frame["date"], strict=True)
        ]
        for name, part in (("etag_high", slice(8)), ("etag_low", slice(8, 16))):
            frame[name] = np.array([int.from_bytes(one[part]) for one in sums], "uint64")
        with writer(path) as con:
            store.write_probe(con, listing, probed_at=at, run_id="run", accept_shrunken=True)


def entries(dest: object) -> dict[str, Entry]:
    """What a mirror's manifest says of each key."""
    with manifest.opened(place(str(dest))) as held:
        columns = ", ".join(manifest.COLUMNS)
        rows = held.con.execute(f"SELECT {columns} FROM held").fetchall()
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: Entry(*row) for row in rows}
