"""From the pages of a listing to its rows: keys to dates, pages to one table.

Belongs here: what is done with each of 740,000 names, as arrays, for strings kept to the end cost
time and memory. Does not belong here: asking (`listing`), reading XML (`pages`), names (`keys`).
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from availability_pipeline.pages import Names


class Window:
    """The dates of a listing, and where in them a key is.

    Args:
        start, end: first and last date.
        origin: the date that offsets count from; `start` by default.
    """

    def __init__(self, start: dt.date, end: dt.date, origin: dt.date | None = None) -> None:
        self._shift = (start - (origin or start)).days
        self.days = [start + dt.timedelta(n) for n in range((end - start).days + 1)]
        self._endings = [f"{day.isoformat()}.zip".encode() for day in self.days]
        self._places = {ending.decode(): n for n, ending in enumerate(self._endings)}

    def offsets(self, keys: Names, prefix: str) -> npt.NDArray[np.int64]:
        """Of each key its offset into the dates, -1 for one that is not among them."""
        if keys and (first := self._places.get(keys[0][len(prefix) :])) is not None:
            # Hardly any page has a hole, and to compare all at once costs 7 us for 500 names
            # where looking each up costs 50.
            expected = prefix.encode().join([b"", *self._endings[first : first + len(keys)]])
            if keys.joined() == expected:
                return np.arange(first, first + len(keys)) + self._shift
        at = len(prefix)
        found = np.array([self._places.get(key[at:], -1) for key in keys], "int64")
        return np.where(found < 0, -1, found + self._shift)


@dataclass(frozen=True, slots=True)
class Rows:
    """One page's files, as arrays: a million strings kept to the end cost time and memory.

    Attributes:
        days: offsets into the window's dates.
        sizes: bytes.
        times: datetime64[us], UTC.
    """

    days: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    times: npt.NDArray[np.datetime64]


def frame_of(
    symbols: tuple[str, ...], found: Mapping[str, list[Rows]], days: list[dt.date]
) -> pd.DataFrame:
    """The rows of all symbols as `Listing.files` has them."""
    pages = [(code, page) for code, symbol in enumerate(symbols) for page in found[symbol]]
    codes = np.repeat([code for code, _ in pages], [page.days.size for _, page in pages])
    offsets = np.concatenate([page.days for _, page in pages])
    times = np.concatenate([page.times for _, page in pages])
    return pd.DataFrame(
        {
            "symbol": pd.Categorical.from_codes(codes, categories=pd.Index(symbols)),
            "date": pd.to_datetime(pd.Series(days)).to_numpy()[offsets],
            "file_size_bytes": np.concatenate([page.sizes for _, page in pages]),
            "last_modified": pd.DatetimeIndex(times, tz="UTC"),
        }
    )
