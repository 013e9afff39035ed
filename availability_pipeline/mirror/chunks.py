"""A mirror run in parts that may run on other machines: plan, fetch each chunk, collect.

What a part needs of another lies in the mirror: a chunk's plan and its report below
`.manifest/chunks/RUN/`, what it verified among the manifest's files. So a chunk needs neither the
record nor anything of the machine that planned. One that is started again, here or elsewhere, takes
what it had verified from the manifest, and what was put without a row is read instead of fetched.
"""

import datetime as dt
import json
import math
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from availability_pipeline.errors import MirrorError
from availability_pipeline.mirror import manifest, running
from availability_pipeline.mirror.download import (
    Failure,
    Job,
    Options,
    Progress,
    Report,
    Settled,
    checked,
    fetch_all,
    jobs_of,
)
from availability_pipeline.mirror.selection import as_dict
from availability_pipeline.mirror.store import MANIFEST, Store, scratch
from availability_pipeline.queries.plan import Selection, planned

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

CHUNKS = f"{MANIFEST}/chunks/"

CHUNK_FILES = 2_000
"""A chunk has at most so many files: about a minute's work for one machine."""

CHUNK_BYTES = 2**31
"""And so many bytes, unless one file has more."""

MOST_CHUNKS = 500
"""A larger plan has larger chunks: Dagster keeps a dozen events of each."""

_PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class Begun:
    """What a plan makes of a mirror.

    Attributes:
        chunks: names of the chunks, `RUN/0001`.
        files: of the plan, those in chunks and those that are whole.
        bytes: all together.
        already: files that are whole.
        vanished: files that the archive has no more; they stay.
        at: when it was planned, aware UTC.
    """

    chunks: tuple[str, ...]
    files: int
    bytes: int
    already: int
    vanished: int
    at: dt.datetime


def begin(
    store: Store,
    of: Selection,
    run: str,
    *,
    source: str,
    record: "Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]",
    now: Callable[[], dt.datetime],
    ended: Callable[[str], bool | None] = lambda _: None,
) -> Begun:
    """Take the mirror for a run, and write down what is to be fetched in chunks.

    Args:
        store: the mirror.
        of: which files.
        run: the run's id.
        source: the download host; a mirror of another one is refused.
        record: opens the record for reading; it is closed again before anything is written.
        now: the clock, aware UTC.
        ended: see `running.refuse_other`.

    Raises:
        MirrorError: another run or download is at work, or the place refuses.
        QueryError: the selection fits nothing of the record.
    """
    at = now()
    with store.locked(source) as parts:
        running.refuse_other(store, run, at, ended)
        running.write(store, run, at, parts)
        manifest.remember(store, as_dict(of), parts)
        _remove(store, "")
        store.sweep()
    with store.working(run) as parts, scratch() as folder, manifest.opened(store) as held:
        plan = folder / "plan.parquet"
        with record() as con, planned(con, of, held=held.months(), base_url=source) as found:
            found.write(plan)
            files, size = found.files, found.bytes
        names, already, gone = [], 0, []
        bounds = (
            max(CHUNK_FILES, math.ceil(files / MOST_CHUNKS)),
            max(CHUNK_BYTES, math.ceil(size / MOST_CHUNKS)),
        )
        chunk = _Chunk(store, run, parts, *bounds)
        for job in jobs_of(plan, held, store, run, now):
            if isinstance(job, Job):
                names += chunk.add(job)
            elif job.entry is not None:
                gone.append(job.entry)
            else:
                already += job.job is not None
        names += chunk.end()
        if gone:
            manifest.add(store, gone, f"{run}-plan", parts)
        begun = Begun(tuple(names), files, size, already, len(gone), at)
        _put(store, f"{CHUNKS}{run}/{_PLAN}", asdict(begun), parts)
    return begun


class _Chunk:
    """Jobs that are gathered until a chunk is full."""

    def __init__(
        self, store: Store, run: str, parts: Path, most_files: int, most_bytes: int
    ) -> None:
        self._store, self._run, self._parts = store, run, parts
        self._most_files, self._most_bytes = most_files, most_bytes
        self._jobs: list[Job] = []
        self._bytes = self._written = 0

    def add(self, job: Job) -> list[str]:
        """One more; the name of the chunk that was full without it, if one was."""
        full = len(self._jobs) == self._most_files or self._bytes + job.size > self._most_bytes
        names = self.end() if full else []
        self._jobs.append(job)
        self._bytes += job.size
        return names

    def end(self) -> list[str]:
        """Write what there is; its name."""
        if not self._jobs:
            return []
        self._written += 1
        name = f"{self._run}/{self._written:04}"
        jobs = [_values(job) for job in self._jobs]
        self._jobs, self._bytes = [], 0
        part = self._parts / "chunk.parquet"
        with duckdb.connect() as con:
            con.execute("SET TimeZone = 'UTC'")
            con.execute(f"CREATE TABLE chunk ({_DDL})")
            manifest.load(con, "chunk", jobs, self._parts)
            con.execute("COPY chunk TO $path (format parquet)", {"path": str(part)})
        self._store.put(f"{CHUNKS}{name}.parquet", part)
        return [name]


_COLUMNS = tuple(field.name for field in fields(Job))
_values = attrgetter(*_COLUMNS)
_TYPES = {
    "period": "DATE", "size": "BIGINT", "last_modified": "TIMESTAMPTZ", "held": "BOOLEAN",
}  # fmt: skip
_DDL = ", ".join(f"{name} {_TYPES.get(name, 'VARCHAR')}" for name in _COLUMNS)


def fetch(
    store: Store,
    name: str,
    options: Options,
    *,
    now: Callable[[], dt.datetime],
    progress: Progress | None = None,
) -> Report:
    """Have the files of a chunk in the mirror; a chunk that was done before is not done again.

    Args:
        store: the mirror.
        name: of the chunk.
        options: how to fetch.
        now: the clock, aware UTC.
        progress: told of files and bytes done.

    Raises:
        MirrorError: see `mirror.download.download`; or another run has taken the mirror over.
    """
    run, _, number = name.partition("/")
    with store.working(run) as parts:
        running.require(store, run, now(), parts)
        if done := _report(store, name):
            return done
        report = fetch_all(
            _jobs(store, name, parts), store, parts, options,
            # Of its own: a chunk that is started again writes beside what it wrote before.
            f"{run}-{number}-{uuid.uuid4().hex[:8]}", now, progress,
            renew=lambda: running.require(store, run, now(), parts),
        )  # fmt: skip
        if report.interrupted:
            raise MirrorError(f"chunk {number} was interrupted; what was verified stays")
        _put(store, f"{CHUNKS}{name}.json", _as_dict(report), parts)
    return report


def _jobs(store: Store, name: str, parts: Path) -> Iterator[Job | Settled]:
    """A chunk's files; those that an earlier try of it has verified are settled."""
    run, _, number = name.partition("/")
    path = parts / "jobs.parquet"
    try:
        with path.open("wb") as file:
            for piece in store.chunks(f"{CHUNKS}{name}.parquet"):
                file.write(piece)
    except FileNotFoundError:
        raise MirrorError(f"{store} has no plan of chunk {name}; launch a new run") from None
    with manifest.opened(store, of=f"{run}-{number}-") as tried:
        rows = tried.con.execute(
            """SELECT p.*, h.key IS NOT NULL
            FROM read_parquet($path) p LEFT JOIN held h ON h.key = p.key""",
            {"path": str(path)},
        ).fetchall()
    for *values, done in rows:
        job = checked(Job(*values))
        yield Settled(None, job) if done else job


def collect(store: Store, runs: "frozenset[str]", now: Callable[[], dt.datetime]) -> Report:
    """Merge what the chunks of a run verified, remove them, and give the mirror free.

    Args:
        store: the mirror.
        runs: the run's id, and those of the runs that it executes again.
        now: the clock, aware UTC.

    Raises:
        MirrorError: it is another run's meanwhile, or a chunk has not ended.
    """
    mark = running.read(store)
    run = mark.run if mark and mark.run in runs else min(runs)
    with store.working(run) as parts:
        running.require(store, run, now(), parts)
        try:
            begun = json.loads(store.read(f"{CHUNKS}{run}/{_PLAN}") or b"")
        except ValueError:
            raise MirrorError(f"{store} has no plan of run {run[:8]}; launch a new run") from None
        total = Report(already=begun["already"], vanished=begun["vanished"])
        for name in begun["chunks"]:
            report = _report(store, name)
            if report is None:
                raise MirrorError(f"chunk {name} has no report; execute the run again from failure")
            total.add(report)
        manifest.merge(store, run, parts)
    _remove(store, f"{run}/")
    store.remove(running.RUNNING)
    return total


def _remove(store: Store, below: str) -> None:
    for name, _ in list(store.names(f"{CHUNKS}{below}")):
        store.remove(name)


def _report(store: Store, name: str) -> Report | None:
    content = store.read(f"{CHUNKS}{name}.json")
    if content is None:
        return None
    found = json.loads(content)
    failed = [Failure(*one) for one in found.pop("failed")]
    return Report(**found | {"damaged": set(found["damaged"]), "failed": failed})


def _as_dict(report: Report) -> dict[str, Any]:
    return {
        **asdict(report),
        "damaged": sorted(report.damaged),
        "failed": [[one.key, one.reason] for one in report.failed],
    }


def _put(store: Store, name: str, content: dict[str, Any], parts: Path) -> None:
    part = parts / "content.json"
    part.write_text(json.dumps(content, default=str), encoding="utf-8")
    store.put(name, part)
