"""The JSON documents and the news of a published record; docs/register.md describes each.

Only what follows from the record is in them, no time of ours: a dataset that was not probed since
has the same documents, byte for byte. What is unknown is null, never zero.
"""

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

import duckdb

from availability_pipeline import PROGRAM, __version__
from availability_pipeline.archive.datasets import CATALOGUE, Dataset
from availability_pipeline.copies.publication import FORMAT, instant
from availability_pipeline.quality.days import DayState, day_states
from availability_pipeline.queries import changes
from availability_pipeline.queries.files import hole_runs
from availability_pipeline.record import derived
from availability_pipeline.record.status import Scope, recorded_datasets, scope

MOST_GROUPS, MOST_REVISIONS = 500, 1_000
"""Of `revisions.json`; on one day in 2024 every file of a market was replaced (BPD#412)."""

NEWS_DAYS = 60
MOST_NEWS, MOST_NAMED = 200, 50

PER_SHARD = 32
"""Symbols in a file of `symbols/`: with 100 datasets each has some 300 kB."""

COMPLETENESS_PERIODS = 30

_LETTERS = dict(zip(DayState, "uipcmse", strict=True))

Json = dict[str, Any]
"""A document, or a part of one."""


def dumps(document: Mapping[str, Any]) -> bytes:
    """A document as it is published: compact, UTF-8."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def loads(content: bytes) -> Json:
    """A document of ours again."""
    document: Json = json.loads(content)
    return document


@dataclass(frozen=True)
class Described:
    """A dataset's documents, and its entry among all datasets.

    Attributes:
        documents: `symbols`, `holes`, `revisions`, `days`, `news`; not `files`, whose paths are
            known once they are written.
        entry: of `datasets.json`, without the paths.
    """

    documents: dict[str, Json]
    entry: Json


def entry(con: duckdb.DuckDBPyConnection, t: Scope) -> Json:
    """What `datasets.json` says of a dataset, without the paths."""
    d = t.dataset
    [(first, last, settled, probed)] = con.execute(
        f"""SELECT min(date), max(date), max(date) FILTER (settled), max(probed_at)
        FROM {t.probes}"""
    ).fetchall()
    [(symbols, live, holes)] = con.execute(
        f"""SELECT count(*), count(*) FILTER (state = 'live'),
            coalesce(sum(hole_days), 0)::BIGINT FROM {t.listings}
        WHERE first_available IS NOT NULL"""
    ).fetchall()
    [(files, size, pending)] = con.execute(
        f"""SELECT coalesce(sum(available), 0)::BIGINT, coalesce(sum(bytes), 0)::BIGINT,
            coalesce(sum(pending), 0)::BIGINT FROM {t.summary}"""
    ).fetchall()
    [(share,)] = con.execute(
        f"""SELECT sum(least(available, expected)) / sum(expected) FROM (
            SELECT s.available, s.expected FROM {t.summary} s JOIN {t.probes} p USING (date)
            WHERE p.settled AND expected > 0 ORDER BY date DESC LIMIT {COMPLETENESS_PERIODS})"""
    ).fetchall()
    known = CATALOGUE.get(d.kind)
    return {
        "dataset": str(d),
        "market": d.market,
        "frequency": d.frequency,
        "data_type": d.data_type,
        "interval": d.interval,
        "lifecycle": known.lifecycle if known else "unlisted",
        "first": _text(d, first),
        "last": _text(d, last),
        "last_settled": _text(d, settled),
        "last_probe": instant(probed),
        "settle_days": t.settle_days,
        "symbols": symbols,
        "live": live,
        "files": files,
        "bytes": size,
        "holes": holes,
        "pending": pending,
        "completeness": None if share is None else _down(share),
    }


def _down(share: float) -> float:
    """With four decimals, and 1 only when nothing is missing."""
    return 1.0 if share >= 1 else min(round(share, 4), 0.9999)


def describe(con: duckdb.DuckDBPyConnection, t: Scope, threshold: float) -> Described:
    """A dataset's documents.

    Args:
        con: an open record.
        t: the dataset's tables.
        threshold: share of the expected files that a settled date needs.
    """
    about = entry(con, t)
    head = {"format": FORMAT, "dataset": str(t.dataset), "last_probe": about["last_probe"]}
    listed = _symbols(con, t)
    runs = hole_runs(con, t, f"{t.listings} WHERE hole_days > 0")
    days = _days(con, t, threshold)
    changed = changes(con, dataset=t.dataset).dicts()[::-1]
    return Described(
        {
            "symbols": head | {"last_settled": about["last_settled"], "symbols": listed},
            "holes": head
            | {
                "holes": [_run(t.dataset, *run) for run in runs],
                "acknowledged": _acknowledged(con, t),
            },
            "revisions": head | _revisions(t.dataset, changed),
            "days": head | days,
            "news": {"format": FORMAT, "news": _news(con, t, runs, days, changed)},
        },
        about,
    )


def _text(dataset: Dataset, period: dt.date | None) -> str | None:
    return dataset.text(period) if period else None


def _listing(d: Dataset, first: Any, last: Any, files: int, holes: int, state: str) -> Json:
    return {
        "first": _text(d, first),
        "last": _text(d, last),
        "files": files,
        "holes": holes,
        "state": state,
    }


def _symbols(con: duckdb.DuckDBPyConnection, t: Scope) -> Json:
    rows = con.execute(
        f"""SELECT symbol, contract_type, quote_asset, first_available, last_available,
            days_available, hole_days, state FROM {t.listings} ORDER BY symbol"""
    ).fetchall()
    return {
        symbol: {"contract_type": kind, "quote_asset": of, **_listing(t.dataset, *listing)}
        for symbol, kind, of, *listing in rows
    }


def _run(d: Dataset, symbol: str, first: dt.date, last: dt.date, periods: int) -> Json:
    return {"symbol": symbol, "first": d.text(first), "last": d.text(last), "periods": periods}


def _acknowledged(con: duckdb.DuckDBPyConnection, t: Scope) -> list[Json]:
    rows = con.execute(
        f"SELECT date, symbol, reason FROM {t.acknowledgements} ORDER BY date, symbol NULLS FIRST"
    ).fetchall()
    return [
        {"period": t.dataset.text(date), "symbol": symbol, "reason": reason}
        for date, symbol, reason in rows
    ]


def _days(con: duckdb.DuckDBPyConnection, t: Scope, threshold: float) -> Json:
    import pandas as pd

    [(first, last)] = con.execute(f"SELECT min(date), max(date) FROM {t.probes}").fetchall()
    rows = con.execute(
        f"""SELECT p.date IS NOT NULL AS known, coalesce(p.settled, false) AS settled,
            s.available, s.expected, s.pending, s.absent, s.bytes,
            round(s.lag_p50_hours, 1) AS lag_p50_hours
        FROM (SELECT unnest($1)::DATE AS date) d
        LEFT JOIN {t.probes} p USING (date) LEFT JOIN {t.summary} s USING (date)
        ORDER BY d.date""",
        [t.dataset.periods(first, last) if first else []],
    ).fetchall()
    known, settled, *columns = map(list, zip(*rows, strict=True)) if rows else [[]] * 8
    told = dict(
        zip(
            ("available", "expected", "pending", "absent", "bytes", "lag_p50_hours"),
            columns,
            strict=True,
        )
    )
    numbers = pd.DataFrame(
        {name: told[name] for name in ("available", "expected", "pending")}, dtype="float64"
    ).fillna({"pending": 0})
    states = day_states(numbers.assign(known=known, settled=settled), threshold)
    return {
        "unit": "month" if t.dataset.monthly else "day",
        "first": _text(t.dataset, first),
        "threshold": threshold,
        "states": "".join(_LETTERS[DayState(state)] for state in states),
        **told,
    }


def _revisions(d: Dataset, changed: Sequence[Mapping[str, Any]]) -> Json:
    """`changed`: newest first."""
    groups = []
    for (seen, change), found in groupby(changed, lambda row: (row["observed_at"], row["change"])):
        rows = list(found)
        groups.append(
            {
                "observed_at": instant(seen),
                "change": change,
                "files": sum(row["files"] for row in rows),
                "symbols": len({row["symbol"] for row in rows}),
                "first": d.text(min(row["date"] for row in rows)),
                "last": d.text(max(row["last_date"] for row in rows)),
            }
        )
    return {
        "groups": groups[:MOST_GROUPS],
        "revisions": [
            {
                "observed_at": instant(row["observed_at"]),
                "change": row["change"],
                "symbol": row["symbol"],
                "period": d.text(row["date"]),
                "last_period": d.text(row["last_date"]),
                "files": row["files"],
                "renamed_to": row["renamed_to"],
                "old_size": row["old_size"],
                "new_size": row["new_size"],
                "old_last_modified": instant(row["old_last_modified"]),
                "new_last_modified": instant(row["new_last_modified"]),
            }
            for row in changed[:MOST_REVISIONS]
        ],
        "left_out": max(0, len(changed) - MOST_REVISIONS),
    }


_SAID = {
    "listed": "{n} new symbol{s}: {names}",
    "ended": "{n} symbol{s} ended, the last file is of {before}: {names}",
    "hole": "{n} confirmed hole{s} on {period}: {names}",
    "outage": "most files of {period} are missing: {n} of {of} expected",
    "replaced": "{files} file{fs} replaced, of {n} symbol{s}: {names}",
    "vanished": "{files} file{fs} vanished, of {n} symbol{s}: {names}",
    "appeared": "{files} file{fs} came late, of {n} symbol{s}: {names}",
    "renamed": "{n} symbol{s} renamed: {names}",
}
_KINDS = {"appeared": "late"}


def _news(
    con: duckdb.DuckDBPyConnection, t: Scope, runs: Iterable[tuple[str, dt.date, dt.date, int]],
    days: Json, changed: Iterable[Mapping[str, Any]],
) -> list[Json]:  # fmt: skip
    """The news of a dataset's last `NEWS_DAYS`, newest first.

    What a date shows is news once it can be known: a new symbol when its first date is over, a hole
    when it has settled, an end after the published dates that confirm it.
    """
    d = t.dataset
    [(first, last)] = con.execute(f"SELECT min(date), max(date) FROM {t.probes}").fetchall()
    if last is None:
        return []
    since = last - dt.timedelta(NEWS_DAYS)
    found: list[Json] = []

    def say(kind: str, period: dt.date, at: dt.datetime, names: Sequence[str], **of: Any) -> None:
        n = of.pop("n", len(names))
        values = {
            "n": f"{n:,}", "s": "" if n == 1 else "s", "names": _named(names),
            "period": d.text(period), "before": d.text(d.shift(period, -1)), **of,
        }  # fmt: skip
        known = _KINDS.get(kind, kind)
        when = at if kind in ("replaced", "vanished", "appeared", "renamed") else None
        mark = f"{when:%Y%m%dT%H%M%SZ}" if when else d.text(period)
        found.append(
            {
                "id": f"tag:{PROGRAM},2026:{d}/{known}/{mark}",
                "at": instant(at),
                "dataset": str(d),
                "kind": known,
                "period": d.text(period),
                "symbols": sorted(names)[:MOST_NAMED],
                "count": n,
                "text": _SAID[kind].format(**values),
            }
        )

    # Of the first date that was probed it is not known what was new on it.
    for period, names in _grouped(
        con,
        f"""SELECT s.first_available, s.symbol FROM {t.listings} s JOIN {t.summary} d
        ON d.date = s.first_available WHERE d.new_listings IS NOT NULL AND d.date >= $since
            AND d.date > $first""",
        since=since, first=first,
    ):  # fmt: skip
        say("listed", period, _over(d, period), names)
    for period, names in _grouped(
        con,
        f"""SELECT {t.after("last_available")}, symbol FROM {t.listings}
        WHERE {derived.delisted(t)} AND last_available >= $since""",
        since=since,
    ):
        confirmed = d.shift(period, derived.ENDED_AFTER_DATES - 1)
        say("ended", period, _settled(t, confirmed), names)
    holes: dict[dt.date, list[str]] = defaultdict(list)
    for symbol, start, end, _ in runs:
        for period in d.periods(max(start, d.period_of(since)), end):
            holes[period].append(symbol)
    for period, names in holes.items():
        say("hole", period, _settled(t, period), names)
    begin = d.parse_period(days["first"]) or last
    for n, state in enumerate(days["states"]):
        period = d.shift(begin, n)
        if state == _LETTERS[DayState.POOR] and period >= since:
            missing = days["expected"][n] - days["available"][n]
            of = f"{days['expected'][n]:,}"
            say("outage", period, _settled(t, period), [], n=missing, of=of)
    recent = (row for row in changed if row["observed_at"].date() >= since)
    for (at, change), rows in groupby(recent, lambda row: (row["observed_at"], row["change"])):
        told = list(rows)
        files = sum(row["files"] for row in told)
        names = sorted({row["symbol"] for row in told})
        say(change, min(row["date"] for row in told), at.astimezone(dt.UTC), names,
            files=f"{files:,}", fs="" if files == 1 else "s")  # fmt: skip
    return newest(found)


def newest(news: Iterable[Json]) -> list[Json]:
    """The newest `MOST_NEWS`, newest first."""
    return sorted(news, key=lambda one: (one["at"], one["id"]), reverse=True)[:MOST_NEWS]


def _grouped(
    con: duckdb.DuckDBPyConnection, sql: str, **args: Any
) -> Iterator[tuple[dt.date, list[str]]]:
    rows = con.execute(f"SELECT * FROM ({sql}) ORDER BY ALL", args).fetchall()
    for period, found in groupby(rows, lambda row: row[0]):
        yield period, [symbol for _, symbol in found]


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10:,} more"


def _over(d: Dataset, period: dt.date) -> dt.datetime:
    return dt.datetime.combine(d.shift(period, 1), dt.time(), dt.UTC)


def _settled(t: Scope, period: dt.date) -> dt.datetime:
    return _over(t.dataset, period) + dt.timedelta(t.settle_days)


def shards(con: duckdb.DuckDBPyConnection) -> tuple[list[str], list[Json]]:
    """All symbols, sorted, and the documents of `PER_SHARD` of them each: their datasets."""
    of: dict[str, Json] = defaultdict(dict)
    for dataset in recorded_datasets(con):
        listings = scope(con, dataset).listings
        rows = con.execute(
            f"""SELECT symbol, first_available, last_available, days_available, hole_days, state
            FROM {listings}"""
        ).fetchall()
        for symbol, *listing in rows:
            of[symbol][str(dataset)] = _listing(dataset, *listing)
    names = sorted(of)
    parts = [names[n : n + PER_SHARD] for n in range(0, len(names), PER_SHARD)]
    return names, [{"format": FORMAT, "symbols": {name: of[name] for name in p}} for p in parts]


_ATOM = "http://www.w3.org/2005/Atom"


def feed(
    news: Sequence[Mapping[str, Any]], *, title: str, name: str, address: str | None, root: str
) -> bytes:
    """The news as Atom (RFC 4287).

    Args:
        news: newest first.
        title: of the feed.
        name: of its file, from the site's root.
        address: of the site's root; without it the links are relative.
        root: the way from the feed to the site's root, as `../../`.
    """
    base = f"{address.rstrip('/')}/" if address else root
    top = ET.Element("feed", {"xmlns": _ATOM})
    _element(top, "id", f"{base}{name}" if address else f"tag:{PROGRAM},2026:{name}")
    _element(top, "title", title)
    _element(top, "updated", news[0]["at"] if news else "1970-01-01T00:00:00Z")
    _element(_element(top, "author"), "name", PROGRAM)
    _element(top, "generator", PROGRAM, version=__version__)
    if address:
        _element(top, "link", rel="self", href=f"{base}{name}")
    for one in news:
        item = _element(top, "entry")
        _element(item, "id", one["id"])
        _element(item, "title", f"{one['dataset']}: {one['text']}")
        _element(item, "updated", one["at"])
        only = f"#{quote(one['symbols'][0])}" if one["count"] == 1 and one["symbols"] else ""
        _element(item, "link", href=f"{base}{one['dataset']}/index.html{only}")
        more = ", ".join(one["symbols"])
        _element(item, "content", f"{one['text']}. {more}" if more else one["text"])
    ET.indent(top, " ")
    text: bytes = ET.tostring(top, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _element(
    parent: ET.Element, tag: str, text: str | None = None, **attributes: str
) -> ET.Element:
    made = ET.SubElement(parent, tag, attributes)
    # XML 1.0 has no control characters, however they are written.
    made.text = text and "".join(
        c if c >= " " or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    return made
