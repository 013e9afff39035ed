"""What the archive has and the catalogue does not, and the other way round.

Delimiter listings only: no file is listed, whatever the archive's size.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, get_args

from availability_pipeline.archive.datasets import (
    CATALOGUE,
    KNOWN,
    MARKETS,
    Dataset,
    Frequency,
    has_intervals,
    is_symbol,
)
from availability_pipeline.archive.listing import S3Archive

SYMBOLS_ASKED = 8
"""Symbols of a type that are asked for their intervals, spread over the alphabet."""

_AT_ONCE = 8
_NAME = re.compile("[A-Za-z0-9_-]{1,40}")

Kind = Literal["unknown", "missing", "returned"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference.

    Attributes:
        dataset: `market/frequency/type[/interval]`, or the part of it that is new.
        finding: `unknown`, the archive has it and the catalogue does not; `missing`, the catalogue
            has it, live or stopped, or it is configured, and the archive does not have it;
            `returned`, it was removed and is there again.
    """

    dataset: str
    finding: Kind


@dataclass(frozen=True, slots=True)
class Discovery:
    """What the archive has.

    Attributes:
        found: the name of each dataset that is there, sorted.
        findings: where the catalogue differs, sorted.
    """

    found: tuple[str, ...]
    findings: tuple[Finding, ...]


def discover(archive: S3Archive, configured: Collection[Dataset] = ()) -> Discovery:
    """Compare the archive with the catalogue, and with what is configured beside it.

    A type's intervals are those that some of its symbols have: an interval of a few new symbols
    alone can be overlooked. What has no symbol is not there (empty prefixes are usual).

    Raises:
        DiscoveryError: a request failed, or the bucket is not the archive.
    """
    places, unknown = _places(archive)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="discovery") as pool:
        names = pool.map(lambda place: list(_names(archive, *place)), places)
        found = {name for of_one in names for name in of_one}
    findings = [Finding(name, "unknown") for name in unknown]
    findings = sorted(
        [*findings, *compare(found, configured)], key=lambda one: (one.dataset, one.finding)
    )
    return Discovery(tuple(sorted(found)), tuple(findings))


def compare(found: Iterable[str], configured: Iterable[Dataset] = ()) -> list[Finding]:
    """The names of the datasets that are there, compared with those of the catalogue.

    A configured one need not be in it: it may be of another interval, or was removed.
    """
    there = set(found)
    unknown = there - {str(dataset) for dataset in KNOWN}
    findings = [Finding(name, "unknown") for name in unknown]
    for entry in CATALOGUE.values():
        names = {str(dataset) for dataset in entry.datasets}
        present = names & there
        if entry.lifecycle == "removed":
            findings += [Finding(name, "returned") for name in present]
        elif not present:
            findings.append(Finding(str(entry), "missing"))
        else:
            findings += [Finding(name, "missing") for name in names - present]
    missing = {one.dataset for one in findings}
    for dataset in dict.fromkeys(configured):
        if not {str(dataset), str(CATALOGUE.get(dataset.kind))} & (there | missing):
            findings.append(Finding(str(dataset), "missing"))
    return findings


def _places(archive: S3Archive) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Market, frequency and type of what is there, and the names above them that are unknown."""
    paths = {path: market for market, path in MARKETS.items()}
    above = {path.partition("/")[0] for path in paths if "/" in path}
    there = list(_folders(archive, "data/"))
    there += [f"{path}/{name}" for path in above & set(there)
              for name in _folders(archive, f"data/{path}/")]  # fmt: skip
    if not set(there) & set(paths):
        raise archive.not_the_archive("data/")
    unknown = [path for path in there if path not in paths and path not in above]
    places = []
    for path in set(there) & set(paths):
        for frequency in _folders(archive, f"data/{path}/"):
            if frequency not in get_args(Frequency):
                unknown.append(f"{paths[path]}/{frequency}")
                continue
            types = _folders(archive, f"data/{path}/{frequency}/")
            places += [(paths[path], frequency, data_type) for data_type in types]
    return places, unknown


def _names(archive: S3Archive, market: str, frequency: str, data_type: str) -> Iterator[str]:
    """The datasets that are there of one market, frequency and type."""
    prefix = f"data/{MARKETS[market]}/{frequency}/{data_type}/"
    symbols = [name for name in _folders(archive, prefix, "[^/]+") if is_symbol(name, market)]
    name = f"{market}/{frequency}/{data_type}"
    if not has_intervals(data_type):
        if symbols:
            yield name
        return
    # The oldest contract has had the time for all of them.
    first = [symbol for symbol in symbols if re.fullmatch("BTCUSDT?(_PERP)?", symbol)]
    some = dict.fromkeys([*first, *symbols[:: -(-len(symbols) // SYMBOLS_ASKED) or 1]])
    intervals = {i for symbol in some for i in _folders(archive, f"{prefix}{symbol}/")}
    yield from (f"{name}/{interval}" for interval in intervals)


def _folders(archive: S3Archive, prefix: str, name: str = _NAME.pattern) -> list[str]:
    """The names of the folders directly below a prefix; what is spelt oddly is passed over."""
    found = re.compile(f"({name})/")
    below = (found.fullmatch(child[len(prefix) :]) for child in archive.children(prefix))
    return [match[1] for match in below if match]
