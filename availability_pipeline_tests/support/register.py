"""A published record made up by hand: every document of the format, without a record.

As large as one that covers the market for seven years, with names that would break out of a page.
"""

import datetime as dt
import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.copies import pages

LARGE, MONTHS, SPOT = "um/daily/klines/1m", "um/monthly/fundingRate", "spot/daily/trades"
TITLE = 'Files of <b>"Binance"</b> & others'
NOW = dt.datetime(2026, 11, 25, 2, 5, 12, tzinfo=dt.UTC)
PROBED = "2026-11-25T02:00:05Z"
PER_FILE = 32
SETTLE = 3
THRESHOLD = 0.96  # not the default

HOSTILE = (
    "<script>document.title='broken'</script>",
    '"><img src=x onerror="document.title=1">',
    "' onfocus='document.title=1' x='",
    "javascript:document.title='broken'",
    "//example.org/x",
    "../../../latest.json",
    "%3Cb%3E%00",
    "a&b=c#d?e",
    "__proto__",
    "constructor",
    "main",
    "\u202eTDSU",
    "龙虾USDT",
    "LONG" * 60,
)
"""Symbols that S3 would hold as folders, some of which our own grammar would refuse."""

Json = dict[str, Any]


@dataclass
class Symbol:
    """From its first to its last period, counted from the dataset's first, but for its holes."""

    first: int
    last: int
    holes: list[tuple[int, int]] = field(default_factory=list)
    state: str = "live"
    contract: str = "perpetual"
    quote: str | None = "USDT"


@dataclass
class Made:
    """A dataset: its symbols and its first and last period, those that were never probed."""

    dataset: Dataset
    start: dt.date
    end: dt.date
    symbols: dict[str, Symbol]
    unknown: tuple[tuple[int, int], ...] = ()

    @cached_property
    def periods(self) -> list[str]:
        d = self.dataset
        return [d.text(period) for period in d.periods(self.start, self.end)]


def market(count: int, periods: int, seed: int = 1, idle: int = 0) -> dict[str, Symbol]:
    """Symbols that came over the years, a quarter of which ended, one in five with holes.

    Nothing comes in the first `idle` periods.
    """
    draw = random.Random(seed)
    names = ["BTCUSDT", "ETHUSDT", "SOLUSDT", *HOSTILE]
    names += [f"{draw.choice(['', '1000'])}{word(draw)}{n}USDT" for n in range(count - len(names))]
    found = {}
    for n, name in enumerate(names):
        first = idle if n < 3 else draw.randrange(idle, periods - periods // 12)
        ended = n > 2 and draw.random() < 0.25
        last = draw.randrange(first, periods - 1) if ended else periods - 1
        holes: dict[int, int] = {}
        if last - first > 60 and (draw.random() < 0.2 or n < 3):
            for _ in range(draw.randint(1, 4)):
                begin = draw.randrange(first + 2, last - 20)
                if all(abs(begin - other) > 12 for other in holes):
                    holes[begin] = begin + draw.choice((0, 0, 1, 9))
        found[name] = Symbol(
            first, last, sorted(holes.items()), "ended" if ended else "live",
            "delivery" if n % 97 == 0 else "perpetual", "USDC" if n % 20 == 5 else "USDT",
        )  # fmt: skip
    return found


def word(draw: random.Random) -> str:
    return "".join(draw.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(draw.randint(2, 5)))


def documents(made: Made) -> tuple[dict[str, Json], Json]:
    """A dataset's documents by their names, and its entry of datasets.json."""
    name, periods = str(made.dataset), made.periods
    total, settled = len(periods), len(periods) - (1 if made.dataset.monthly else SETTLE)
    unknown = {n for first, last in made.unknown for n in range(first, last + 1)}
    expected, absent = [0] * total, [0] * total
    for symbol in made.symbols.values():
        for n in range(symbol.first, symbol.last + 1):
            expected[n] += 1
        for first, last in symbol.holes:
            for n in range(first, last + 1):
                absent[n] += 1
    pending = [3 if n >= settled else 0 for n in range(total)]
    outage = {n: expected[n] * 6 // 10 for n in (total // 2, total // 2 + 1)}
    outage[total // 3] = expected[total // 3] // 12
    for n, missing in outage.items():
        absent[n] += missing
    states, columns = "", {key: [] for key in ("available", "expected", "pending", "absent",
                                               "bytes", "lag_p50_hours")}  # fmt: skip
    for n in range(total):
        if n in unknown:
            states += "u"
            for column in columns.values():
                column.append(None)
            continue
        there = expected[n] - absent[n] - pending[n]
        share = there / expected[n] if expected[n] else 1
        states += ("i" if not expected[n] else "p" if pending[n] else "c" if share >= 1
                   else "m" if share >= THRESHOLD else "s" if share >= 0.5 else "e")  # fmt: skip
        row = (max(0, there), expected[n], pending[n], absent[n], there * 52_345,
               round(7 + n % 5 / 10, 1) if there else None)  # fmt: skip
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    head = {"format": 1, "dataset": name, "last_probe": PROBED}
    listed, runs = {}, []
    for symbol, one in sorted(made.symbols.items()):
        holes = sum(last - first + 1 for first, last in one.holes)
        listed[symbol] = {
            "contract_type": one.contract, "quote_asset": one.quote, **listing(made, one),
        }  # fmt: skip
        runs += [
            {"symbol": symbol, "first": periods[first], "last": periods[last],
             "periods": last - first + 1}
            for first, last in one.holes
        ]  # fmt: skip
        listed[symbol]["holes"] = holes
    some = sorted(made.symbols)[:: max(1, len(made.symbols) // 300)]
    revisions = [
        {"observed_at": f"2026-10-{1 + n % 28:02}T02:00:05Z",
         "change": ("appeared", "replaced", "vanished")[n % 3], "symbol": symbol,
         "period": periods[-40], "last_period": periods[-38], "files": 3, "renamed_to": None,
         "old_size": 52_345, "new_size": 52_999,
         "old_last_modified": "2026-09-01T07:00:00Z", "new_last_modified": "2026-09-30T07:00:00Z"}
        for n, symbol in enumerate(some)
    ]  # fmt: skip
    revisions.sort(key=lambda one: str(one["observed_at"]), reverse=True)
    groups = [
        {"observed_at": f"2026-10-{28 - n:02}T02:00:05Z", "change": ("replaced", "appeared")[n % 2],
         "files": 30 + n, "symbols": 10, "first": periods[-40], "last": periods[-38]}
        for n in range(20)
    ]  # fmt: skip
    told = [sorted(made.symbols)[n : n + 50] for n in range(6)]
    news = [
        {"id": f"tag:binance-availability,2026:{name}/{n}", "at": f"2026-11-{24 - n:02}T02:00:05Z",
         "dataset": name, "kind": ("listed", "hole", "replaced")[n % 3], "period": periods[-1 - n],
         "symbols": told[n], "count": 70,
         "text": f"70 new symbols: {', '.join(told[n][:10])} and 60 more"}
        for n in range(6)
    ]  # fmt: skip
    made_documents: dict[str, Json] = {
        "symbols": head | {"last_settled": periods[settled - 1], "symbols": listed},
        "holes": head
        | {
            "holes": runs,
            "acknowledged": [
                {"period": periods[total // 3], "symbol": None, "reason": "an outage <b>then</b>"},
                {"period": periods[total // 2], "symbol": HOSTILE[0], "reason": "never published"},
            ],
        },
        "revisions": head | {"groups": groups, "revisions": revisions, "left_out": 17},
        "days": head
        | {"unit": "month" if made.dataset.monthly else "day", "first": periods[0],
           "threshold": THRESHOLD, "states": states, **columns},
        "news": {"format": 1, "news": news},
    }  # fmt: skip
    recent = [n for n in range(total) if n not in unknown][-30:]
    wanted = sum(expected[n] for n in recent)
    d = made.dataset
    entry = {
        "dataset": name, "market": d.market, "frequency": d.frequency, "data_type": d.data_type,
        "interval": d.interval, "lifecycle": "live", "first": periods[0], "last": periods[-1],
        "last_settled": periods[settled - 1], "last_probe": PROBED, "settle_days": SETTLE,
        "symbols": len(made.symbols),
        "live": sum(one.state == "live" for one in made.symbols.values()),
        "files": sum(one or 0 for one in columns["available"]),
        "bytes": sum(one or 0 for one in columns["bytes"]),
        "holes": sum(run["periods"] for run in runs), "pending": sum(pending),
        "completeness": round(1 - sum(absent[n] for n in recent) / wanted, 4),
    }  # fmt: skip
    return made_documents, entry


def listing(made: Made, one: Symbol) -> Json:
    holes = sum(last - first + 1 for first, last in one.holes)
    return {
        "first": made.periods[one.first], "last": made.periods[one.last],
        "files": one.last - one.first + 1 - holes, "holes": holes, "state": one.state,
    }  # fmt: skip


@dataclass
class Site:
    """A folder with a publication, which replaces what was there as a publisher does."""

    folder: Path
    files: list[Json] = field(default_factory=list)

    def put(self, path: str, content: bytes) -> None:
        there = self.folder / path
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(content)

    def document(
        self,
        name: str,
        content: bytes | Mapping[str, Any],
        dataset: str | None,
        *,
        copied: bool = True,
    ) -> str:
        """Write a document, if `copied` under its plain name too; the one that never changes."""
        if not isinstance(content, bytes):
            text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
            content = text.encode()
        sha256 = hashlib.sha256(content).hexdigest()
        stem, _, ending = name.rpartition(".")
        path = f"{stem}-{sha256[:16]}.{ending}"
        if copied:
            self.put(name, content)
        self.put(path, content)
        self.files.append(
            {"name": name, "path": path, "bytes": len(content), "sha256": sha256,
             "dataset": dataset, "content": None}
        )  # fmt: skip
        return path


def parquet(symbols: Iterable[str], folder: Path) -> bytes:
    """A file with a row of each."""
    staged = folder / "part.parquet"
    rows = [(symbol, PERIOD, 52_345) for symbol in symbols]
    with duckdb.connect() as con:
        con.execute("CREATE TABLE t (symbol VARCHAR, period DATE, file_size_bytes BIGINT)")
        con.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        con.sql("FROM t").write_parquet(str(staged))
    content = staged.read_bytes()
    staged.unlink()
    return content


PARTS = [f"files/year={year}/files" for year in range(2019, 2026)]
PARTS += [f"files/year=2026/month={month:02}/files" for month in range(1, 12)]
"""Parquet files of a dataset: of the last year a file a month."""

ROWS, PERIOD = 9, dt.date(2024, 1, 1)
"""Of each of them: their content is the same."""


def small(name: str) -> Made:
    """One of the many datasets of the first page."""
    end = dt.date(2026, 11, 24)
    return Made(Dataset.parse(name), dt.date(2026, 9, 1), end, market(20, 85, seed=len(name)))


def intervals() -> list[str]:
    """Names of 97 datasets, so that there are 100 with the three that are large."""
    types = ("klines", "markPriceKlines", "indexPriceKlines", "premiumIndexKlines")
    kinds = [f"{market}/daily/{kind}" for market in ("um", "cm") for kind in types]
    times = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")
    names = [f"{kind}/{time}" for kind in kinds for time in times]
    return [name for name in names if name != LARGE] + ["um/daily/trades", "cm/daily/trades"]


def write_site(folder: Path, *, symbols: int = 1_000, datasets: int = 97) -> Site:
    """A whole publication: three datasets of full length and `datasets` short ones."""
    site = Site(folder)
    folder.mkdir(parents=True, exist_ok=True)
    end = dt.date(2026, 11, 24)
    large = Made(Dataset.parse(LARGE), dt.date(2019, 12, 31), end, market(symbols, 2521),
                 unknown=((400, 520), (1500, 1500)))  # fmt: skip
    months = Made(Dataset.parse(MONTHS), dt.date(2020, 1, 1), dt.date(2026, 10, 1),
                  market(300, 82), unknown=((10, 12),))  # fmt: skip
    spot = Made(Dataset.parse(SPOT), dt.date(2017, 1, 1), end, market(600, 3615, seed=2, idle=228))
    made = [large, months, spot, *map(small, intervals()[:datasets])]
    content = parquet(list(large.symbols)[:ROWS], folder)
    entries, news = [], []
    shards: dict[str, dict[str, Json]] = {}
    for one in made:
        name = str(one.dataset)
        found, entry = documents(one)
        news += found["news"]["news"]
        paths = {
            kind: site.document(f"{name}/{kind}.json", document, name)
            for kind, document in found.items()
        }
        site.document(f"{name}/feed.atom", b"<feed/>", name)
        held = []
        for part in (*PARTS, "revisions"):
            site.document(f"{name}/{part}.parquet", content, name, copied=False)
            held.append({key: site.files[-1][key] for key in ("path", "bytes", "sha256")})
            held[-1]["rows"] = ROWS
        period = one.dataset.text(PERIOD)
        files = {
            "format": 1, "dataset": name, "last_probe": PROBED,
            "files": [part | {"first": period, "last": period} for part in held[:-1]],
            "revisions": held[-1],
        }  # fmt: skip
        paths["files"] = site.document(f"{name}/files.json", files, name)
        entries.append(entry | {"documents": paths})
        for symbol, member in one.symbols.items():
            shards.setdefault(symbol, {})[name] = listing(one, member)
    entries[2]["lifecycle"] = "stopped"
    entries[3]["completeness"] = 0.8412
    entries[4]["completeness"] = entries[4]["last_settled"] = None
    names = sorted(shards)
    parts = [names[n : n + PER_FILE] for n in range(0, len(names), PER_FILE)]
    files = [
        site.document(
            f"symbols/{n}.json", {"format": 1, "symbols": {s: shards[s] for s in part}}, None
        )
        for n, part in enumerate(parts)
    ]
    roots: dict[str, Json] = {
        "datasets": {"format": 1, "datasets": entries},
        "symbols": {"format": 1, "per_file": PER_FILE, "symbols": names, "files": files},
        "news": {"format": 1, "news": sorted(news, key=lambda one: one["at"], reverse=True)[:200]},
    }
    first = {kind: site.document(f"{kind}.json", root, None) for kind, root in roots.items()}
    site.document("feed.atom", b"<feed/>", None)
    built = pages.build([str(one.dataset) for one in made], title=TITLE, address=None)
    for name, content in built.items():
        site.put(name, content)
    switch(site, first)
    return site


def switch(site: Site, first: Mapping[str, str], *, last_probe: str | None = PROBED) -> None:
    """Write the manifest and `latest.json`."""
    name, at = "20261125T020512Z-1a2b3c4d", f"{NOW:%Y-%m-%dT%H:%M:%SZ}"
    manifest = {
        "format": 1, "publication": name, "published_at": at, "package_version": "0.3.0",
        "schema_version": 4, "files": site.files,
        "database": {"bytes": 12_288, "sha256": "0" * 64, "schema_version": 4,
                     "last_probe": last_probe, "header_bytes": 12_288, "piece_bytes": 262_144,
                     "pieces": ["0" * 64]},
        "snapshot": None, "superseded": [],
    }  # fmt: skip
    content = json.dumps(manifest, separators=(",", ":")).encode()
    path = f"manifests/{name}.json"
    site.put(path, content)
    latest = {
        "format": 1, "publication": name, "published_at": at, "last_probe": last_probe,
        "manifest": {"path": path, "bytes": len(content),
                     "sha256": hashlib.sha256(content).hexdigest()},
        "documents": dict(first),
    }  # fmt: skip
    site.put("latest.json", json.dumps(latest, separators=(",", ":")).encode())
