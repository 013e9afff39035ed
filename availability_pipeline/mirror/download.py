"""Fetch a plan's files into a mirror, verified, each once.

A file is fetched into `.manifest/parts`, compared with the record (size; MD5, where the ETag is
one) and with its CHECKSUM (SHA-256), and only then gets its name. What does not match is kept in
`.manifest/damaged` and tried once more. What the manifest calls whole is not fetched again unless
the record has another version; what is there without a row (another tool's, or of a download that
was killed) is read instead of fetched.
"""

import datetime as dt
import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import duckdb

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.errors import MirrorError
from availability_pipeline.mirror import manifest, running
from availability_pipeline.mirror.fetch import (
    Fetcher,
    FetchError,
    MismatchError,
    MissingError,
)
from availability_pipeline.mirror.manifest import DAMAGED, REPLACED, Entry, Manifest
from availability_pipeline.mirror.store import FolderStore, Found, Store, disk_error
from availability_pipeline.mirror.sums import MD5, Sums
from availability_pipeline.settings import Settings

FLUSH_FILES = 10_000
FLUSH_SECONDS = 60
"""After so many files or seconds what was verified is written down: all that a kill can cost is
reading them once more."""

HOPELESS = 50
"""So many failures in a row, none of them a file that is missing, and nothing more is asked."""

INTERRUPTED_SECONDS = 2
"""An interrupted download waits so long for the files that it is at."""

_END = object()

KEPT_PART = 2**20
"""A beginning of at least this size is kept for the next try."""


@dataclass(frozen=True, slots=True)
class Job:
    """A file that may have to be fetched.

    Attributes:
        key, dataset, symbol, period: which.
        size, etag, last_modified: of the version that the record has; its MD5 is the ETag, None
            where S3 has none.
        held: the manifest has a row of it.
        held_etag: of the version that the mirror has; None where that had none.
    """

    key: str
    dataset: str
    symbol: str
    period: dt.date
    size: int
    etag: str | None
    last_modified: dt.datetime | None
    held: bool = False
    held_etag: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that the mirror does not have as the record does, and why."""

    key: str
    reason: str


@dataclass
class Report:
    """What a download did.

    Attributes:
        fetched: files that were fetched and verified.
        fetched_bytes: their size.
        already: files that were whole.
        adopted: files that were there without a row, and are what the record says.
        replaced: of those fetched, files of which there was another version.
        vanished: files that the archive has no more; they stay.
        without_checksum: fetched without a CHECKSUM in the archive, verified by their ETag.
        damaged: what was kept apart, as names in the mirror.
        failed: what is not there.
        interrupted: it was stopped before its end.
    """

    fetched: int = 0
    fetched_bytes: int = 0
    already: int = 0
    adopted: int = 0
    replaced: int = 0
    vanished: int = 0
    without_checksum: int = 0
    damaged: set[str] = field(default_factory=set)
    failed: list[Failure] = field(default_factory=list)
    interrupted: bool = False

    def add(self, other: "Report") -> None:
        """Count another one's in."""
        for name in ("fetched", "fetched_bytes", "already", "adopted", "replaced", "vanished",
                     "without_checksum"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.damaged |= other.damaged
        self.failed += other.failed


Progress = Callable[[int, int], None]
"""Called with files and bytes that are done, now and then."""


@dataclass(frozen=True)
class Options:
    """How to fetch.

    Attributes:
        base_url: the download host's.
        in_flight: files at a time.
        timeout_seconds: to wait for a connection or for more of an answer.
        checksums: also compare with the CHECKSUM; without, the ETag alone must be an MD5.
        keep_replaced: keep the old version of a replaced file.
        pause_seconds: between the first try and the second.
    """

    base_url: str
    in_flight: int = 32
    timeout_seconds: float = 30
    checksums: bool = True
    keep_replaced: bool = False
    pause_seconds: float = 1

    @classmethod
    def from_settings(cls, limits: Settings, **others: bool) -> "Options":
        """Those of the settings; `checksums` and `keep_replaced` may be given."""
        return cls(limits.download_base, limits.downloads, limits.s3_timeout_seconds, **others)


def new_run_id(now: dt.datetime) -> str:
    """A name for a download: it sorts by time."""
    return f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


def download(
    plan: Path,
    store: Store,
    options: Options,
    *,
    now: Callable[[], dt.datetime],
    progress: Progress | None = None,
    force: Collection[str] = (),
    selection: dict[str, Any] | None = None,
) -> Report:
    """Have a plan's files in the mirror.

    Args:
        plan: Parquet as `queries.plan.Planned.write` writes it.
        store: the mirror.
        options: how.
        now: the clock, aware UTC.
        progress: told of files and bytes done.
        force: keys to fetch whatever the manifest says of them.
        selection: what the plan is of, remembered for `verify`.

    Raises:
        MirrorError: the place refuses, another download is at work there, the plan is none, or
            the archive answers nothing at all; what was verified until then is there.
    """
    run_id = new_run_id(now())
    with store.locked(options.base_url) as parts:
        running.refuse_other(store, run_id, now())
        if selection:
            manifest.remember(store, selection, parts)
        with manifest.opened(store) as held:
            jobs = jobs_of(plan, held, store, run_id, now, set(force))
            report = fetch_all(jobs, store, parts, options, run_id, now, progress)
        manifest.merge(store, run_id, parts)
        if not report.failed and not report.interrupted:
            for part in parts.glob("*.part"):  # beginnings of versions that are no more
                part.unlink(missing_ok=True)
    return report


@dataclass(frozen=True, slots=True)
class Settled:
    """A job that needs no fetching: its entry, if it has a new one."""

    entry: Entry | None
    job: Job | None = None


def jobs_of(
    plan: Path,
    held: Manifest,
    store: Store,
    run_id: str,
    now: Callable[[], dt.datetime],
    force: Collection[str] = (),
) -> Iterator[Job | Settled]:
    """A plan's files that are not whole yet, and of the others that they are.

    Raises:
        MirrorError: the file is not a plan, or names a key that is not of the archive.
    """
    try:
        cursor = held.con.cursor().execute(
            f"""SELECT p.key, p.dataset, p.symbol, p.period, p.file_size_bytes, p.etag,
                p.last_modified, h.state IS NOT DISTINCT FROM 'whole', h.etag,
                p.gone, {manifest.CURRENT}, h.file_size_bytes, h.last_modified, h.etag, h.md5,
                h.sha256, h.verified
            FROM read_parquet($plan) p LEFT JOIN held h USING (key)""",
            {"plan": str(plan)},
        )
    except duckdb.Error as error:
        reason = str(error).splitlines()[0][:200]
        raise MirrorError(f"{plan} is not a plan ({reason}); `files plan` writes one") from None
    # What is in the mirror by its own word: in a bucket a question for each would be a request.
    trusted = not isinstance(store, FolderStore)
    for row in _rows(cursor):
        job, (gone, current, *as_held) = checked(Job(*row[:9])), row[9:]
        if gone:
            left = (*row[:4], "vanished", *as_held, now(), run_id)
            yield Settled(Entry(*left) if job.held else None)
            continue
        if current and job.key not in force:
            found = None if trusted else store.find(job.key)
            if trusted or (found is not None and found.bytes == job.size):
                yield Settled(None, job)
                continue
        yield job


def _rows(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(5_000):
        yield from rows


def checked(job: Job) -> Job:
    """See that a plan, which may come from anywhere, names nothing but files of the archive."""
    with suppress(ValueError):
        dataset = Dataset.parse(job.dataset)
        found = dataset.parse_key(job.key)
        of = found and (found.symbol, found.period) == (job.symbol, job.period)
        if of and (job.etag is None or MD5.fullmatch(job.etag)):
            return job
    raise MirrorError(
        f"the plan names {job.key[:120]!r}, which is not a file of {job.dataset[:60]}"
    )


def fetch_all(
    jobs: Iterable[Job | Settled],
    store: Store,
    parts: Path,
    options: Options,
    run_id: str,
    now: Callable[[], dt.datetime],
    progress: Progress | None = None,
    renew: Callable[[], None] | None = None,
) -> Report:
    """Fetch jobs, write down what was verified, try once more what failed.

    `renew` is called each minute, to say that this is still at work; the store's when left out.

    Raises:
        MirrorError: as `download`.
    """
    run = _Run(store, parts, options, run_id, now, progress, renew or store.renew)
    try:
        run.go(jobs)
        again = run.again
        if again and not run.report.interrupted:
            run.again = []
            time.sleep(options.pause_seconds)
            run.go([job for job, _ in again], last=True)
    finally:
        run.close()
    return run.report


class _Run:
    """Threads that fetch, and one that counts and writes down: the caller's."""

    def __init__(
        self,
        store: Store,
        parts: Path,
        options: Options,
        run_id: str,
        now: Callable[[], dt.datetime],
        progress: Progress | None,
        renew: Callable[[], None],
    ) -> None:
        self.store, self.parts, self.options, self.run_id = store, parts, options, run_id
        self.now, self._progress, self._renew = now, progress, renew
        self.report = Report()
        self.again: list[tuple[Job, FetchError]] = []
        self._fetcher = Fetcher(options.base_url, options.timeout_seconds)
        self._stop = threading.Event()
        self._entries: list[Entry] = []
        self._written = 0
        self._flushed = time.monotonic()
        self._done = (0, 0)

    def close(self) -> None:
        """End all threads, write down what is verified."""
        self._stop.set()
        try:
            self._flush()
        finally:
            self._fetcher.close()

    def go(self, jobs: Iterable[Job | Settled], *, last: bool = False) -> None:
        """Work on jobs until there are none."""
        given, lock = iter(jobs), threading.Lock()
        results: SimpleQueue[Any] = SimpleQueue()

        def work() -> None:
            try:
                while not self._stop.is_set():
                    with lock:
                        job = next(given, None)
                    if job is None:
                        break
                    results.put(job if isinstance(job, Settled) else (job, self._one(job)))
            except BaseException as error:  # noqa: BLE001 - it is the caller's, in the other thread
                results.put(error)
            results.put(None)

        # Daemons: an interrupted download does not wait for answers.
        threads = [
            threading.Thread(target=work, daemon=True, name=f"fetch-{n}")
            for n in range(self.options.in_flight)
        ]
        # Ctrl-C strikes in the main thread, between any two steps: counted there, a file that got
        # its name could be lost to the manifest.
        failures: list[BaseException] = []
        count = threading.Thread(
            target=self._collect, args=(results, len(threads), failures), kwargs={"last": last},
            daemon=True, name="count",
        )  # fmt: skip
        for thread in (*threads, count):
            thread.start()
        try:
            count.join()
        except KeyboardInterrupt:
            self.report.interrupted = True
        finally:
            interrupted = self.report.interrupted
            self._stop.set()
            until = time.monotonic() + INTERRUPTED_SECONDS
            for thread in threads:
                thread.join(max(0, until - time.monotonic()) if interrupted else None)
            results.put(_END)
            count.join()
            if not interrupted:
                self._stop.clear()
        if failures:
            raise failures[0]

    def _collect(
        self,
        results: "SimpleQueue[Any]",
        working: int,
        failures: list[BaseException],
        *,
        last: bool,
    ) -> None:
        """Count what the threads have done, until they are at their end.

        After the first failure the others end what they are at, and that is counted, too.
        """
        in_a_row = 0
        while working:
            try:
                try:
                    result = results.get(timeout=1)
                except Empty:
                    self._keep_up()
                    continue
                if result is _END:
                    break
                if result is None:
                    working -= 1
                    continue
                if isinstance(result, OSError):
                    raise disk_error(self.store, result)
                if isinstance(result, BaseException):
                    raise result
                error = self._count(result, last=last or self._stop.is_set())
                hopeless = isinstance(error, FetchError) and not isinstance(error, MissingError)
                in_a_row = in_a_row + 1 if hopeless else 0
                if in_a_row == HOPELESS:
                    raise MirrorError(
                        f"{HOPELESS} files in a row could not be fetched ({error}); what was "
                        "verified stays, go on later"
                    )
                self._keep_up()
            except BaseException as error:  # noqa: BLE001 - raised by `go`
                failures.append(error)
                self._stop.set()

    def _count(self, result: Any, *, last: bool) -> FetchError | None:
        if isinstance(result, Settled):
            if result.entry is not None:
                self._entries.append(result.entry)
                self.report.vanished += 1
            elif result.job is not None:
                self.report.already += 1
                self._advance(result.job.size)
            return None
        job, found = result
        if isinstance(found, FetchError):
            if found.kept:
                self.report.damaged.add(found.kept)
            if found.again and not last:
                self.again.append((job, found))
            else:
                self.report.failed.append(Failure(job.key, str(found)))
            return found
        entry, how = found
        self._entries.append(entry)
        if how == "adopted":
            self.report.adopted += 1
        else:
            self.report.fetched += 1
            self.report.fetched_bytes += entry.file_size_bytes
            self.report.replaced += how == "replaced"
            if self.options.checksums and "sha256" not in entry.verified:
                self.report.without_checksum += 1
        self._advance(entry.file_size_bytes)
        return None

    def _advance(self, size: int) -> None:
        self._done = self._done[0] + 1, self._done[1] + size
        if self._progress:
            self._progress(*self._done)

    def _keep_up(self) -> None:
        late = time.monotonic() - self._flushed > FLUSH_SECONDS
        if late or len(self._entries) >= FLUSH_FILES:
            self._flush()
            self._renew()

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        if self._entries:
            entries, self._entries = self._entries, []
            manifest.add(self.store, entries, f"{self.run_id}-{self._written:05}", self.parts)
            self._written += 1

    def _one(self, job: Job) -> tuple[Entry, str] | FetchError:
        try:
            found = self.store.find(job.key)
            # Of a file with a row, too: a run that was killed may have replaced it already.
            if found is not None and (entry := self._adopted(job, found)):
                return entry, "adopted"
            return self._fetched(job, found)
        except FetchError as error:
            return error

    def _adopted(self, job: Job, found: Found) -> Entry | None:
        """A file that is there already, if it is what the record says."""
        if found.bytes != job.size or job.etag is None:
            return None
        if found.md5 is not None and MD5.fullmatch(found.md5):
            return self._entry(job, found.md5, None, "size,md5") if found.md5 == job.etag else None
        sums = Sums()
        for chunk in self.store.chunks(job.key):
            sums.add(chunk)
        if sums.md5.hexdigest() != job.etag:
            return None
        return self._entry(job, job.etag, sums.sha256.hexdigest(), "size,md5")

    def _fetched(self, job: Job, found: Found | None) -> tuple[Entry, str]:
        name = hashlib.sha256(f"{job.key} {job.etag} {job.size}".encode()).hexdigest()[:32]
        part = self.parts / f"{name}.part"
        try:
            sums, expected = self._fetcher.fetch(
                job.key, part, job.size, job.etag, checksum=self.options.checksums
            )
            verified = self._verified(job, sums, expected)
        except FetchError as error:
            self._drop(job, part, error)
            raise
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        how = "fetched"
        if found is not None:
            how = "replaced"
            if self.options.keep_replaced or not job.held:
                # Without a row of the manifest it is not ours to throw away.
                old = job.held_etag or f"{found.bytes}-bytes"
                self.store.move(job.key, f"{REPLACED}/{job.key}.{old}")
        self.store.put(job.key, part)
        sha256 = sums.sha256.hexdigest()
        return self._entry(job, sums.md5.hexdigest(), sha256, verified), how

    def _verified(self, job: Job, sums: Sums, expected: str | None) -> str:
        """By what it is verified.

        Raises:
            FetchError: it is not.
        """
        if sums.size != job.size:
            raise MismatchError(f"it has {sums.size:,} of the {job.size:,} bytes that it should")
        by = ["size"]
        if job.etag is not None:
            if sums.md5.hexdigest() != job.etag:
                raise MismatchError("its content is not what the archive's ETag says (MD5)")
            by.append("md5")
        if expected is not None:
            if sums.sha256.hexdigest() != expected:
                raise MismatchError("its content is not what its CHECKSUM says (SHA-256)")
            by.append("sha256")
        if len(by) == 1:
            raise FetchError("nothing verifies it: no MD5 as ETag, and no CHECKSUM", again=False)
        return ",".join(by)

    def _drop(self, job: Job, part: Path, error: FetchError) -> None:
        """What is left of a try: a beginning to go on with, or evidence for a person."""
        if not part.exists():
            return
        size = part.stat().st_size
        if isinstance(error, MismatchError):
            if size:
                error.kept = f"{DAMAGED}/{job.key}"
                self.store.put(error.kept, part)
            part.unlink(missing_ok=True)
        elif size < KEPT_PART or size >= job.size:
            part.unlink(missing_ok=True)

    def _entry(self, job: Job, md5: str | None, sha256: str | None, by: str) -> Entry:
        return Entry(
            job.key, job.dataset, job.symbol, job.period, "whole", job.size, job.last_modified,
            job.etag, md5, sha256, by, self.now(), self.run_id,
        )  # fmt: skip
