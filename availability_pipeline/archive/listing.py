"""Listing the archive: the protocol, its result and errors, and how S3 is asked.

    ArchiveError            anything that keeps a listing from being a fact
    ├── DiscoveryError      the symbol folders could not be listed
    │   └── NotInArchiveError   the archive does not have the dataset
    └── ListingError        some symbols could not be listed; `failures` has symbol -> reason

The truth rule: a listing is whole or it raises. Nothing partial is ever returned.
"""

import contextlib
import datetime as dt
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from botocore.exceptions import BotoCoreError, ClientError

from availability_pipeline.archive._client import ResponseParserError, make_client
from availability_pipeline.archive._pages import MalformedPageError, Names, Page
from availability_pipeline.archive.datasets import MARKETS, UM_KLINES_1M, Dataset, unsettled
from availability_pipeline.masking import printable
from availability_pipeline.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Progress = Callable[[int, int], None]


class ArchiveError(Exception):
    """The archive could not be listed; nothing was returned and nothing may be written."""


class DiscoveryError(ArchiveError):
    """The symbol folders could not be listed."""


class NotInArchiveError(DiscoveryError):
    """The archive does not have the dataset at all, or not this interval of it."""


class ListingError(ArchiveError):
    """One or more symbols could not be listed.

    Attributes:
        failures: symbol -> reason.
        total: symbols that were to be listed.
        start, end: first and last period asked for.
        dataset: what was listed.
    """

    def __init__(
        self,
        failures: Mapping[str, str],
        total: int,
        start: dt.date,
        end: dt.date,
        dataset: Dataset = UM_KLINES_1M,
    ) -> None:
        self.dataset = dataset
        self.failures, self.total, self.start, self.end = dict(failures), total, start, end
        first = "; ".join(f"{s}: {r}" for s, r in sorted(failures.items())[:3])
        more = f" and {len(failures) - 3} more" if len(failures) > 3 else ""
        dates = " to ".join(dict.fromkeys(map(dataset.text, (start, end))))
        super().__init__(
            f"listing {dataset} of {dates} failed for {len(failures)} of {total} symbols "
            f"({first}{more}); nothing was written, the next scheduled run repairs it"
        )


@dataclass(frozen=True)
class Recorded:
    """What the record holds before a listing: it decides which symbols need more than the range.

    A symbol that is listed for the first time is unknown on every date probed before. A listing
    costs the same whatever its dates, so it is listed over all of them at once; and so is every
    symbol of the same name but for its `SETTLED` suffixes, because on a relisting the files of the
    one move to the other.

    Attributes:
        symbols: those probed on each probed period, and those not to be listed now; all others
            count as new.
        first, last: first and last probed period; None while none was probed.
    """

    symbols: frozenset[str] = frozenset()
    first: dt.date | None = None
    last: dt.date | None = None

    def span(self, start: dt.date, end: dt.date) -> tuple[dt.date, dt.date]:
        """First and last period of the range and the record together."""
        return min(start, self.first or start), max(end, self.last or end)

    def behind(self, listed: Iterable[str], start: dt.date, end: dt.date) -> frozenset[str]:
        """Of the listed symbols those that a listing of `start` to `end` would not suffice for."""
        return frozenset() if self.span(start, end) == (start, end) else self.news(listed)

    def news(self, listed: Iterable[str]) -> frozenset[str]:
        """Of the listed symbols those that are new here, and those of the same name."""
        names = list(listed)
        stems = {unsettled(name) for name in names if name not in self.symbols}
        return frozenset(name for name in names if unsettled(name) in stems)


NOTHING_RECORDED = Recorded()

ETAG_SQL = "nullif(etag_high::UHUGEINT * 18446744073709551616 + etag_low, 0)::UUID"
"""A file's MD5 as 16 bytes, of the columns of `Listing.files`; NULL where S3 says none.

Two columns of numbers, because DuckDB reads them from a frame in a tenth of the time of one of
Python's bytes: 0.02 s for a million, and 16 bytes each instead of 57.
"""


@dataclass(frozen=True)
class Folders:
    """The symbol folders of a market, frequency and type: one listing for all its intervals.

    Attributes:
        kind: market, frequency and type.
        symbols: every symbol with a folder, sorted; none where the archive does not have the type.
        requests: LIST requests made.
        passed_over: as in `Listing`.
    """

    kind: tuple[str, str, str]
    symbols: tuple[str, ...]
    requests: int = 0
    passed_over: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """A whole listing of a range of periods: dates, or months by their first day.

    Attributes:
        start, end: first and last period, both included.
        symbols: every symbol with a folder, sorted.
        files: one row per file: `symbol` (category), `date` (its period, datetime64, midnight),
            `file_size_bytes` (int64), `last_modified` (datetime64, UTC), `etag_high` and
            `etag_low` (uint64): the halves of its MD5, see `ETAG_SQL`.
        requests: LIST requests made, without those of `Folders` that were given.
        passed_over: names that match no grammar -> how often; never more than 100 names.
        server_time: latest `Date` header of the answers (UTC), or None without one.
        widened: symbols that were listed over more periods than the range (see `Recorded`); of
            the others `files` has the range only.
        widened_start, widened_end: the periods of those, both included.
        dataset: what was listed.
        left_out: of `symbols` those that were not listed, as the caller wished: their absence from
            `files` says nothing.
        in_archive: False where the archive does not have the dataset at all, or not this interval
            of it: then there is neither a file nor an absence in it.
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
    dataset: Dataset = UM_KLINES_1M
    left_out: frozenset[str] = frozenset()
    in_archive: bool = True


class Archive(Protocol):
    """What the assets need of an archive; `S3Archive` is it, tests bring their own."""

    def list_range(
        self,
        start: dt.date,
        end: dt.date,
        progress: Progress | None = None,
        recorded: Recorded = NOTHING_RECORDED,
        *,
        dataset: Dataset | None = None,
        folders: Folders | None = None,
        leave_out: Collection[str] = (),
    ) -> Listing:
        """All files of the periods from `start` to `end`, both included.

        And of the symbols that are `recorded.behind` all files of all probed periods.
        """

    def folders(self, dataset: Dataset | None = None) -> Folders:
        """The symbol folders of a dataset, which all intervals of its type share."""


class Window:
    """The periods of a listing, and where in them a key is.

    Args:
        start, end: first and last period.
        origin: the period that offsets count from; `start` by default.
        dataset: whose periods.
    """

    def __init__(
        self,
        start: dt.date,
        end: dt.date,
        origin: dt.date | None = None,
        dataset: Dataset = UM_KLINES_1M,
    ) -> None:
        if dataset.period_of(start) != start or dataset.period_of(end) != end:
            raise ValueError(f"{start} to {end}: a period of {dataset} is the first day of a month")
        if start > end:
            raise ValueError(f"{start} is after {end}")
        self._shift = len(dataset.periods(origin or start, start)) - 1
        self.days = dataset.periods(start, end)
        self._endings = [f"{dataset.text(day)}.zip".encode() for day in self.days]
        self._places = {ending: n for n, ending in enumerate(self._endings)}

    def offsets(self, keys: Names, prefix: str) -> npt.NDArray[np.int64]:
        """Of each key its offset into the periods, -1 for one that is not among them."""
        stem, names, places = prefix.encode(), keys.encoded(), self._places
        at = len(stem)
        if names and (first := places.get(names[0][at:])) is not None:
            # Few pages have a hole, and to compare all at once costs 7 us for 500 names where
            # looking each up costs 50.
            expected = stem.join([b"", *self._endings[first : first + len(names)]])
            if keys.joined() == expected:
                return np.arange(first, first + len(names)) + self._shift
        # Junk can lie beside the files (`part-00000-….zip`), with a date's characters at its end.
        found = np.array(
            [places.get(name[at:], -1) if name.startswith(stem) else -1 for name in names],
            "int64",
        )
        return np.where(found < 0, -1, found + self._shift)


@dataclass(frozen=True, slots=True)
class Rows:
    """One page's files, as arrays: a million strings kept to the end cost time and memory.

    Attributes:
        days: offsets into the window's periods.
        sizes: bytes.
        times: datetime64[us], UTC.
        etags: as `Page.etags`.
    """

    days: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    times: npt.NDArray[np.datetime64]
    etags: npt.NDArray[np.uint64]

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Rows":
        """Those that are chosen."""
        return Rows(self.days[chosen], self.sizes[chosen], self.times[chosen], self.etags[chosen])


def frame_of(
    symbols: tuple[str, ...], found: dict[str, list[Rows]], days: list[dt.date]
) -> pd.DataFrame:
    """The rows of all symbols as `Listing.files` has them; empties `found`.

    The largest datasets have millions of files, so each page is let go once it is copied.
    """
    total = sum(page.days.size for pages in found.values() for page in pages)
    calendar = pd.to_datetime(pd.Series(days)).to_numpy()
    codes = np.empty(total, "int16" if len(symbols) < 2**15 else "int32")
    dates, sizes = np.empty(total, calendar.dtype), np.empty(total, "int64")
    times = np.empty(total, "datetime64[us]")
    highs, lows = np.empty(total, "uint64"), np.empty(total, "uint64")
    at = 0
    for code, name in enumerate(symbols):
        for page in found.pop(name, ()):
            to = at + page.days.size
            codes[at:to], dates[at:to] = code, calendar[page.days]
            sizes[at:to], times[at:to] = page.sizes, page.times
            highs[at:to], lows[at:to] = page.etags.T
            at = to
    return pd.DataFrame(
        {
            "symbol": pd.Categorical.from_codes(codes, categories=pd.Index(symbols, dtype="str")),
            "date": dates,
            "file_size_bytes": sizes,
            "last_modified": pd.DatetimeIndex(times, tz="UTC"),
            "etag_high": highs,
            "etag_low": lows,
        },
        copy=False,
    )


GIVE_UP_AFTER = 20
"""Failed symbols after which the rest is not asked: the run is lost and the archive in trouble."""

PAGE_SIZE = 1000

SAMPLED = 50
"""Symbols, spread over the alphabet, of which none has a folder for an interval that is not there.

Only asked when no file of any symbol was in the range, and only until one has the folder.
"""

MOST_FOLDER_PAGES = 100
"""Pages of symbol folders after which discovery gives up: 100,000 of them, with 1,057 in 2026."""

PROGRESS_SECONDS = 0.1
"""How often progress is reported: reporting shares the interpreter with the listing threads."""

# What one bad answer can raise; anything else is a bug of ours and keeps its traceback.
REQUEST_ERRORS = (ClientError, BotoCoreError, ResponseParserError, MalformedPageError)


class S3Archive:
    """The archive behind an S3 client.

    Args:
        client: from `make_client`; tests may stub it.
        bucket: bucket to list.
        dataset: branch of the archive that is listed unless another is asked for.
        concurrency: listings in flight.
    """

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        dataset: Dataset = UM_KLINES_1M,
        concurrency: int = 32,
    ) -> None:
        self._client, self._bucket = client, bucket
        self._dataset, self._concurrency = dataset, concurrency

    @classmethod
    def from_settings(cls, settings: Settings) -> "S3Archive":
        """An archive as the settings say."""
        return cls(make_client(settings), settings.s3_bucket, concurrency=settings.s3_concurrency)

    def folders(self, dataset: Dataset | None = None) -> Folders:
        """The symbol folders of a dataset, which all intervals of its type share.

        Raises:
            DiscoveryError: a page fails, or the bucket is not the archive.
        """
        call = _Call()
        dataset = dataset or self._dataset
        symbols = self._discover(call, dataset)
        return Folders(dataset.kind, symbols, call.requests, dict(call.passed_over))

    def _discover(self, call: "_Call", dataset: Dataset) -> tuple[str, ...]:
        symbols: list[str] = []
        for name in self.children(dataset.prefix, call):
            symbol = dataset.parse_folder(name)
            if symbol is None:
                call.pass_over(name)
            else:
                symbols.append(symbol)
        if not symbols:
            # Either the archive does not have this type, or it is not the archive.
            markets = {f"data/{path.partition('/')[0]}/" for path in MARKETS.values()}
            if not markets.intersection(self.children("data/", call)):
                raise self.not_the_archive(dataset.prefix)
        return tuple(sorted(symbols))

    def children(self, prefix: str, call: "_Call | None" = None) -> list[str]:
        """What is directly below a prefix: folders, with their slash, and keys.

        Raises:
            DiscoveryError: a page fails.
        """
        found: list[str] = []
        call = call or _Call()
        try:
            for page in self._pages(call, MOST_FOLDER_PAGES, Prefix=prefix, Delimiter="/"):
                found += [*page.keys, *page.folders]
        except REQUEST_ERRORS as error:
            raise DiscoveryError(
                f"cannot list s3://{self._bucket}/{prefix} at "
                f"{self._client.meta.endpoint_url}: {reason(error)}"
            ) from error
        return found

    def not_the_archive(self, prefix: str) -> DiscoveryError:
        """The error of a bucket that has nothing of the archive below a prefix."""
        return DiscoveryError(
            f"s3://{self._bucket}/{prefix} at {self._client.meta.endpoint_url} lists no symbol at "
            "all: it is not the archive; check AVAILABILITY_S3_BUCKET and AVAILABILITY_S3_ENDPOINT"
        )

    def list_range(
        self,
        start: dt.date,
        end: dt.date,
        progress: Progress | None = None,
        recorded: Recorded = NOTHING_RECORDED,
        *,
        dataset: Dataset | None = None,
        folders: Folders | None = None,
        leave_out: Collection[str] = (),
    ) -> Listing:
        """All files of the periods from `start` to `end`: one listing per symbol.

        Args:
            start: first period.
            end: last period, included.
            progress: called with (symbols done, symbols in all) from the calling thread.
            recorded: what is recorded; symbols behind it are listed over all its periods.
            dataset: which; the archive's own when left out.
            folders: its symbols, where they have been listed already, or the only ones to list.
            leave_out: symbols that are not listed, those that ended long ago; but they are where
                a new symbol shares their name.

        Raises:
            ValueError: the range, or the folders, are not of the dataset.
            DiscoveryError: the symbols could not be listed.
            ListingError: at least one symbol could not be listed wholly.
        """
        call = _Call()
        dataset = dataset or self._dataset
        if folders and folders.kind != dataset.kind:
            raise ValueError(f"folders of {'/'.join(folders.kind)} are not those of {dataset}")
        symbols = folders.symbols if folders else self._discover(call, dataset)
        behind = recorded.behind(symbols, start, end)
        first, last = recorded.span(start, end) if behind else (start, end)
        narrow, wide = Window(start, end, first, dataset), Window(first, last, None, dataset)
        # Also where the range is all dates: the files of the one move to the other.
        ended = frozenset(leave_out) - (recorded.news(symbols) if recorded.last else frozenset())
        listed = [name for name in symbols if name not in ended]
        found, failures = self._list_symbols(
            call, dataset, {name: wide if name in behind else narrow for name in listed}, progress
        )
        if failures:
            raise ListingError(failures, len(listed), start, end, dataset)
        in_archive = bool(symbols) and self._is_there(call, dataset, listed, start, end)
        return Listing(
            start=start,
            end=end,
            symbols=symbols,
            files=frame_of(symbols, found, wide.days),
            requests=call.requests,
            passed_over=dict(call.passed_over),
            server_time=call.latest_server_time(),
            widened=behind,
            widened_start=first,
            widened_end=last,
            dataset=dataset,
            left_out=frozenset(symbols).difference(listed),
            in_archive=in_archive,
        )

    def _list_symbols(
        self,
        call: "_Call",
        dataset: Dataset,
        windows: Mapping[str, Window],
        progress: Progress | None,
    ) -> tuple[dict[str, list[Rows]], dict[str, str]]:
        """Of each symbol the files in its window, or why they could not be listed."""
        found: dict[str, list[Rows]] = {}
        failures: dict[str, str] = {}
        todo: SimpleQueue[str] = SimpleQueue()
        for symbol in windows:
            todo.put(symbol)
        stop = threading.Event()

        def work() -> None:
            try:
                while not stop.is_set():
                    symbol = todo.get_nowait()
                    try:
                        found[symbol] = self._list_symbol(call, dataset, symbol, windows[symbol])
                    except REQUEST_ERRORS as error:
                        failures[symbol] = reason(error)
                        if len(failures) >= GIVE_UP_AFTER:
                            stop.set()
            except Empty:
                pass
            except BaseException:
                stop.set()
                raise

        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="listing") as pool:
            # Each worker takes one symbol after another: a future per symbol costs more than this.
            workers = [pool.submit(work) for _ in range(min(self._concurrency, len(windows)))]
            try:
                busy = True
                while busy:
                    busy = bool(wait(workers, PROGRESS_SECONDS).not_done)
                    if progress:
                        progress(len(found) + len(failures), len(windows))
            finally:
                # Ctrl-C, too: what is queued is dropped, what is in flight ends by itself.
                stop.set()
            for worker in workers:
                worker.result()  # a bug of ours keeps its traceback
        return found, failures

    def _is_there(
        self, call: "_Call", dataset: Dataset, listed: Sequence[str], start: dt.date, end: dt.date
    ) -> bool:
        """Whether the archive has the interval of the dataset; its type it has.

        No file in the range is usual: yesterday's come in the morning. So the folders are asked.
        """
        if dataset.interval is None or call.saw_file or not listed:
            return True
        for symbol in listed[:: -(-len(listed) // SAMPLED)]:
            try:
                pages = self._pages(call, 1, Prefix=dataset.folder(symbol), MaxKeys=1)
                if next(pages).keys:
                    return True
            except REQUEST_ERRORS as error:
                failures = {symbol: reason(error)}
                raise ListingError(failures, len(listed), start, end, dataset) from error
        return False

    def _list_symbol(
        self, call: "_Call", dataset: Dataset, symbol: str, window: Window
    ) -> list[Rows]:
        """Files of one symbol, page by page; stops at the first that reaches beyond the window."""
        found: list[Rows] = []
        prefix = dataset.file_prefix(symbol)
        stop = dataset.checksum_key(symbol, window.days[-1])
        # Each period is two entries: the file, and its CHECKSUM folded into a common prefix, which
        # halves the XML. One more shows that the window is over.
        size = min(PAGE_SIZE, 2 * len(window.days) + 1)
        pages = self._pages(
            call,
            # A page holds up to 1,000 entries, 500 periods; S3 may send fewer, but not for ever.
            10 + len(window.days) // 20,
            # Not the prefix of the files alone: what else lies there is counted.
            Prefix=dataset.folder(symbol),
            # The sibling of the period before sorts after its file and before our first.
            StartAfter=dataset.checksum_key(symbol, dataset.shift(window.days[0], -1)),
            Delimiter=".CHECKSUM",
            MaxKeys=size,
        )
        for page in pages:
            days = window.offsets(page.keys, prefix)
            there = days >= 0
            rows = Rows(days, page.sizes, page.last_modified, page.etags)
            if there.all():
                found.append(rows)
            else:
                found.append(rows.only(there))
                for n in np.flatnonzero(~there).tolist():
                    key = page.keys[n]
                    if dataset.parse_key(key) is None:
                        call.pass_over(key)
                    else:
                        call.saw_file = True
            if there.any():
                call.saw_file = True
            if page.keys and page.keys[-1] > stop:
                break
        return found

    def _pages(self, call: "_Call", most: int, **request: Any) -> Iterator[Page]:
        """Pages of one listing, in order, and no more than `most`.

        Raises:
            MalformedPageError: on a foreign or repeated entry, a repeated token, no progress, or
                more pages than can be.
        """
        prefix, token = request["Prefix"], None
        last = request.get("StartAfter", "")
        tokens: set[str] = set()
        for _ in range(most):
            extra: dict[str, Any] = {"ContinuationToken": token} if token else {}
            answer: Any = self._client.list_objects_v2(Bucket=self._bucket, **request, **extra)
            call.note(answer)
            page: Page = answer["Page"]
            names = [*page.keys[:1], *page.keys[-1:], *page.folders[:1], *page.folders[-1:]]
            for name in names:
                # A page is sorted (see `parse_page`), so its ends vouch for all between them.
                if not name.startswith(prefix):
                    raise MalformedPageError(f"{name[:120]!r} is not under {prefix!r}")
            if (page.keys and page.keys[0] <= last) or (names and min(names) < last):
                raise MalformedPageError(f"{min(names)[:120]!r} comes after {last[:120]!r}")
            yield page
            if page.next_token is None:
                return
            if not names:
                raise MalformedPageError("a page is empty and yet claims that more follow")
            if page.next_token in tokens:
                raise MalformedPageError("a continuation token repeats")
            tokens.add(page.next_token)
            token, last = page.next_token, max(names)
        raise MalformedPageError(f"after {most} pages there is still no end")


class _Call:
    """What one call has counted, by all of its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server_dates: set[str] = set()
        self.requests = 0
        self.passed_over: Counter[str] = Counter()
        self.saw_file = False  # of the dataset, in the range or not

    def note(self, answer: Any) -> None:
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        with self._lock:
            self.requests += 1
            # One text a second, so that few are left to parse at the end.
            self._server_dates.add(headers.get("date", ""))

    def latest_server_time(self) -> dt.datetime | None:
        times: list[dt.datetime] = []
        for date in self._server_dates:
            with contextlib.suppress(ValueError, OverflowError):
                times.append(parsedate_to_datetime(date).astimezone(dt.UTC))
        return max(times, default=None)

    def pass_over(self, name: str) -> None:
        name = printable(name)[:200]
        with self._lock:
            if len(self.passed_over) < 100 or name in self.passed_over:
                self.passed_over[name] += 1


def reason(error: Exception) -> str:
    """One line that says why a request failed, without the stack of library names."""
    if isinstance(error, ClientError):
        detail = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "?")
        text = f"HTTP {status} {detail.get('Code', '')}: {detail.get('Message', '')}".strip()
    else:
        text = f"{type(error).__name__.removesuffix('Error')}: {error}"
    return printable(text)[:300]
