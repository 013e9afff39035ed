"""What a listing of the archive is: the protocol, its result, its errors.

Belongs here: what assets and tests need to know of any archive. Does not belong here: how S3 is
asked (`listing`).

    ArchiveError            anything that makes a listing no fact
    ├── DiscoveryError      the symbol folders could not be listed
    └── ListingError        some symbols could not be listed; `failures` has symbol -> reason

The truth rule: a listing is whole or it raises. Nothing partial is ever returned.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pandas as pd

from availability_pipeline.keys import unsettled

Progress = Callable[[int, int], None]


class ArchiveError(Exception):
    """The archive could not be listed; nothing was returned and nothing may be written."""


class DiscoveryError(ArchiveError):
    """The symbol folders could not be listed."""


class ListingError(ArchiveError):
    """One or more symbols could not be listed.

    Attributes:
        failures: symbol -> reason.
        total: symbols that were to be listed.
        start, end: first and last date asked for.
    """

    def __init__(
        self, failures: Mapping[str, str], total: int, start: dt.date, end: dt.date
    ) -> None:
        self.failures, self.total, self.start, self.end = dict(failures), total, start, end
        first = "; ".join(f"{s}: {r}" for s, r in sorted(failures.items())[:3])
        more = f" and {len(failures) - 3} more" if len(failures) > 3 else ""
        dates = f"{start}" if start == end else f"{start} to {end}"
        super().__init__(
            f"listing {dates} failed for {len(failures)} of {total} symbols ({first}{more}); "
            "nothing was written, the next scheduled run repairs it"
        )


@dataclass(frozen=True)
class Recorded:
    """What the record holds before a listing: it decides which symbols need more than the range.

    A symbol that is listed for the first time is unknown on every date probed before. A listing
    costs the same whatever its dates, so it is listed over all of them at once; and so is every
    symbol of the same name but for its `SETTLED` suffixes, for on a relisting the files of the
    one move to the other.

    Attributes:
        symbols: symbols with a row on each probed date; all others count as new.
        first, last: first and last probed date; None while no date was probed.
    """

    symbols: frozenset[str] = frozenset()
    first: dt.date | None = None
    last: dt.date | None = None

    def span(self, start: dt.date, end: dt.date) -> tuple[dt.date, dt.date]:
        """First and last date of the range and the record together."""
        return min(start, self.first or start), max(end, self.last or end)

    def behind(self, listed: Iterable[str], start: dt.date, end: dt.date) -> frozenset[str]:
        """Of the listed symbols those that a listing of `start` to `end` would not suffice for."""
        if self.span(start, end) == (start, end):
            return frozenset()
        names = list(listed)
        stems = {unsettled(name) for name in names if name not in self.symbols}
        return frozenset(name for name in names if unsettled(name) in stems)


NOTHING_RECORDED = Recorded()


@dataclass(frozen=True)
class Listing:
    """A whole listing of a range of dates.

    Attributes:
        start, end: first and last date, both included.
        symbols: every symbol with a folder, sorted.
        files: one row per file: `symbol` (category), `date` (datetime64, midnight),
            `file_size_bytes` (int64), `last_modified` (datetime64, UTC).
        requests: LIST requests made.
        passed_over: names that match no grammar -> how often; never more than 100 names.
        server_time: latest `Date` header of the answers (UTC), or None without one.
        widened: symbols that were listed over more dates than the range (see `Recorded`); of the
            others `files` has the range only.
        widened_start, widened_end: the dates of those, both included.
    """

    start: dt.date
    end: dt.date
    symbols: tuple[str, ...]
    files: pd.DataFrame
    requests: int
    passed_over: Mapping[str, int] = field(default_factory=dict)
    server_time: dt.datetime | None = None
    widened: frozenset[str] = frozenset()
    widened_start: dt.date | None = None
    widened_end: dt.date | None = None


class Archive(Protocol):
    """What the assets need of an archive; `S3Archive` is it, tests bring their own."""

    def list_range(
        self,
        start: dt.date,
        end: dt.date,
        progress: Progress | None = None,
        recorded: Recorded = NOTHING_RECORDED,
    ) -> Listing:
        """All files of the dates from `start` to `end`, both included.

        And of the symbols that are `recorded.behind` all files of all probed dates.
        """
