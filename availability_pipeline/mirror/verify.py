"""Compare a mirror with the record: each file's content, read and compared.

Without the network where it can be: the record has each file's MD5 as its ETag, and the manifest
the SHA-256 of what was verified under that ETag, which current processors do in half the time.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import md5, sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from availability_pipeline.mirror import manifest
from availability_pipeline.mirror.store import Store, scratch
from availability_pipeline.mirror.sums import MD5

if TYPE_CHECKING:
    import duckdb

    from availability_pipeline.mirror.download import Progress
    from availability_pipeline.mirror.fetch import Fetcher

_BATCH = 10_000

_SLICE = 16
"""So many files to a task: handing one over takes as long as hashing a small file."""


@dataclass
class Verified:
    """What a mirror has of a plan.

    Attributes:
        verified: files whose content is that of the record's version.
        missing: keys without a file.
        stale: keys with an earlier version, which was whole.
        damaged: keys with a content that is neither.
        unproven: keys of the right size without an MD5 as ETag and without a row of the manifest,
            or whose CHECKSUM could not be had.
        foreign: files below `data/` that are neither in the plan nor in the manifest.
        vanished: keys that the archive has no more.
    """

    verified: int = 0
    missing: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether all of the plan is there and verified."""
        return not (self.missing or self.stale or self.damaged or self.unproven)


def verify(
    plan: Path,
    store: Store,
    *,
    fetcher: "Fetcher | None" = None,
    progress: "Progress | None" = None,
) -> Verified:
    """Compare a mirror with a plan.

    Args:
        plan: Parquet as `queries.plan.Planned.write` writes it.
        store: the mirror.
        fetcher: asks for each CHECKSUM, too; without one only the mirror itself is asked.
        progress: told of files and bytes read.

    Raises:
        MirrorError: the mirror or its manifest cannot be read.
    """
    found = Verified()
    with manifest.opened(store) as held:
        con = held.con
        con.execute("CREATE TABLE plan AS SELECT * FROM read_parquet($plan)", {"plan": str(plan)})
        _list(con, store)
        for name, sql in _LISTS.items():
            getattr(found, name).extend(key for (key,) in con.execute(sql).fetchall())
        cursor = con.cursor().execute(
            f"""SELECT p.key, p.file_size_bytes, p.etag, d.bytes, d.md5, {manifest.CURRENT},
                h.md5, h.sha256
            FROM plan p JOIN disk d ON d.name = p.key LEFT JOIN held h ON h.key = p.key
            WHERE NOT p.gone"""
        )
        done = read = 0
        workers = (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        )
        with ThreadPoolExecutor(32 if fetcher else workers or 1, "verify") as pool:
            for rows in _batches(cursor):
                slices = [rows[n : n + _SLICE] for n in range(0, len(rows), _SLICE)]
                answers = pool.map(
                    lambda some: [_judge(store, fetcher, row) for row in some], slices
                )
                for row, verdict in zip(rows, chain.from_iterable(answers), strict=True):
                    if verdict == "verified":
                        found.verified += 1
                    else:
                        getattr(found, verdict).append(row[0])
                    done, read = done + 1, read + row[3]
                    if progress:
                        progress(done, read)
    for name in (*_LISTS, "stale", "damaged", "unproven"):
        getattr(found, name).sort()
    return found


@dataclass(frozen=True)
class Lacking:
    """What a mirror does not have of a plan, by its manifest: keys, in order.

    Attributes:
        files: of the plan.
        missing: without a row.
        stale: with a row of another version.
    """

    files: int
    missing: list[str]
    stale: list[str]


_JOINED = """FROM read_parquet($plan) p LEFT JOIN held h ON h.key = p.key AND h.state = 'whole'
    WHERE NOT p.gone"""


def lacking(plan: Path, store: Store) -> Lacking:
    """What a mirror does not have of a plan; nothing of it is read but the manifest.

    Raises:
        MirrorError: the manifest cannot be read.
    """
    with manifest.opened(store) as held:
        given = {"plan": str(plan)}
        [(files,)] = held.con.execute(f"SELECT count(*) {_JOINED}", given).fetchall()
        rows = held.con.execute(
            f"""SELECT p.key, h.key IS NULL {_JOINED}
            AND (h.key IS NULL OR NOT {manifest.CURRENT}) ORDER BY p.key""",
            given,
        ).fetchall()
    return Lacking(
        files, [key for key, gone in rows if gone], [key for key, gone in rows if not gone]
    )


SAMPLE_FILES = 1_000
SAMPLE_BYTES = 2**31


def sample(plan: Path, store: Store, seed: str, to: Path) -> None:
    """Write a plan of some files of a plan that the manifest calls whole, others for each seed.

    At most SAMPLE_FILES, and about SAMPLE_BYTES.
    """
    with manifest.opened(store) as held:
        held.con.execute(
            f"""COPY (SELECT * EXCLUDE (n, before) FROM (
                SELECT p.*, row_number() OVER w AS n,
                    sum(p.file_size_bytes) OVER w - p.file_size_bytes AS before
                {_JOINED} AND h.key IS NOT NULL AND {manifest.CURRENT}
                WINDOW w AS (ORDER BY hash(p.key || $seed), p.key))
            WHERE n <= {SAMPLE_FILES} AND before < {SAMPLE_BYTES})
            TO $to (format parquet)""",
            {"plan": str(plan), "seed": seed, "to": str(to)},
        )


_LISTS = {
    "missing": "SELECT key FROM plan p WHERE NOT gone AND key NOT IN (SELECT name FROM disk)",
    "foreign": """SELECT name FROM disk d WHERE NOT EXISTS (FROM plan p WHERE p.key = d.name)
        AND NOT EXISTS (FROM held h WHERE h.key = d.name)""",
    "vanished": """SELECT d.name FROM disk d WHERE d.name IN (SELECT key FROM plan WHERE gone)
        OR (d.name IN (SELECT key FROM held WHERE state = 'vanished')
            AND d.name NOT IN (SELECT key FROM plan))""",
}


def _list(con: "duckdb.DuckDBPyConnection", store: Store) -> None:
    """Table `disk`: what the place has below `data/`."""
    con.execute("CREATE TABLE disk (name VARCHAR, bytes BIGINT, md5 VARCHAR)")
    with scratch() as folder:
        rows = ((name, file.bytes, file.md5) for name, file in store.names("data/"))
        manifest.load(con, "disk", rows, folder)


def _batches(cursor: "duckdb.DuckDBPyConnection") -> Iterator[list[tuple[Any, ...]]]:
    while rows := cursor.fetchmany(_BATCH):
        yield rows


def _judge(store: Store, fetcher: "Fetcher | None", row: tuple[Any, ...]) -> str:
    key, size, etag, there, stored_md5, current, held_md5, held_sha256 = row
    expected = None
    if fetcher is not None:
        from availability_pipeline.mirror.fetch import FetchError, MismatchError

        try:
            expected = fetcher.checksum(key)
        except MismatchError:
            return "damaged"
        except FetchError:
            return "unproven"
    if there != size and (current or held_md5 is None):
        return "damaged"
    # An object store's own sum of it, for which nothing is read.
    md5_there = stored_md5 if MD5.fullmatch(stored_md5 or "") else None
    by_sha256 = bool(current and held_sha256 and md5_there is None)
    sums = {}
    if by_sha256 or expected:
        sums["sha256"] = sha256()
    if md5_there is None and not by_sha256:
        sums["md5"] = md5(usedforsecurity=False)
    if sums:
        for chunk in store.chunks(key):
            for one in sums.values():
                one.update(chunk)
    found = {name: one.hexdigest() for name, one in sums.items()}
    md5_there = found.get("md5", md5_there)
    right = None
    if by_sha256:
        right = found["sha256"] == held_sha256
    elif wanted := etag or (held_md5 if current else None):
        right = md5_there == wanted
    if expected and right is not False:
        right = found["sha256"] == expected
    if right and there == size:
        return "verified"
    if right is None and there == size:
        return "unproven"
    if held_md5 and not current and md5_there == held_md5:
        return "stale"
    return "damaged"
