"""Publish the record as a static site: pages, JSON, Parquet, and the record itself in pieces.

Made from a copy of the record (`_snapshot`), so that a writer waits for 0.05 s. Files are named by
their content and uploaded once; a dataset that was not written to since is not even read.
`latest.json` is replaced last and switches (`publication`). What a publication no longer needs
stays for `KEEP_DAYS`, for those who still read it.

The record is a DuckDB file of blocks that are never changed in place, so that a day's update is a
few new pieces of it: followers have a copy of the file itself, not of some of its tables.
"""

import datetime as dt
import errno
import hashlib
import os
import time
import uuid
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from pydantic import ValidationError

from availability_pipeline import PROGRAM, __version__
from availability_pipeline.copies import _snapshot, documents, pages, publication
from availability_pipeline.copies.destinations import Destination, Folder, Stored
from availability_pipeline.copies.publication import (
    FORMAT,
    HEADER_BYTES,
    LATEST,
    PIECE_BYTES,
    RECORD,
    Database,
    Documents,
    File,
    Latest,
    Link,
    Manifest,
    Snapshot,
    Superseded,
    hashed,
    piece_path,
)
from availability_pipeline.errors import ExportError, ProtectedFileError
from availability_pipeline.record import connection
from availability_pipeline.record.schema import SCHEMA_VERSION
from availability_pipeline.record.status import Scope, hexed, recorded_datasets, scope

TITLE = "Which files Binance's public archive has"

KEEP_DAYS = 7
"""So long what a publication no longer needs stays: a follower on a slow line needs hours."""

SNAPSHOT_DAYS = 30
"""So often `record.duckdb` is replaced, the only file that would be uploaded whole each time."""

RENEW_SECONDS = 300
"""So often a bucket's lock is renewed."""

UPLOADS = 16
"""Pieces at a time: the first publication of 100 datasets has 8,800."""

_CLAIM = ".availability-site"


@dataclass(frozen=True)
class Form:
    """What the site is like.

    Args:
        title: of the pages and the feed.
        address: the site's public address, for the feeds' links; they are relative without it.
        threshold: share of the expected files that a settled date needs.
        snapshot: replace `record.duckdb` now, however old it is.
    """

    title: str = TITLE
    address: str | None = None
    threshold: float = 0.95
    snapshot: bool = False


@dataclass
class Published:
    """What a publication did.

    Attributes:
        latest: what `latest.json` says now.
        manifest: of the same.
        changed: False where everything was there: then nothing was written.
        files: how many there are, pieces included.
        bytes: their size, without the plain copies and `record.duckdb`.
        uploaded, uploaded_bytes: what was written, plain copies and manifest included.
        removed: how many old files were.
    """

    latest: Latest
    manifest: Manifest
    changed: bool = True
    files: int = 0
    bytes: int = 0
    uploaded: int = 0
    uploaded_bytes: int = 0
    removed: int = 0


def publish(
    source: Path,
    to: Destination,
    form: Form,
    *,
    now: dt.datetime,
    wait_seconds: float = 60,
    again: Collection[str] = (),
) -> Published:
    """Publish the record to a destination, `latest.json` last.

    Args:
        source: the database; it may be in use.
        to: from `destinations.destination`.
        form: what the site is like.
        now: aware.
        wait_seconds: how long to wait for a writer.
        again: paths to upload although they are there, as `damaged` finds them.

    Raises:
        StoreError: the record cannot be read.
        ExportError: the destination refuses, holds another site, or another publication to it runs.
        ProtectedFileError: a file there is the record, a backup or Dagster's.
    """
    to.work = "publication"
    try:
        with to.staging() as staging, ThreadPoolExecutor(UPLOADS) as pool:
            try:
                return _Run(source, to, form, staging, now, set(again), pool).go(wait_seconds)
            finally:
                pool.shutdown(cancel_futures=True)
    except OSError as error:
        raise _refused(to, error.strerror) from None
    except duckdb.Error as error:
        if FULL in str(error):  # in the middle of a line of JSON
            raise _refused(to, FULL) from None
        raise ExportError(f"cannot publish to {to}: {str(error).splitlines()[0][:300]}") from None


FULL = os.strerror(errno.ENOSPC)


def _refused(to: Destination, reason: str | None) -> ExportError:
    return ExportError(
        f"{to}: {reason}; nothing was switched. Choose another destination, or make room and give "
        "permission there"
    )


def read(to: Destination) -> tuple[Latest, Manifest, Stored] | None:
    """The newest publication at a destination, with how `latest.json` is stored; None without one.

    Raises:
        ExportError: the destination refuses; what is there is not ours, or of a later format.
    """
    found = to.read(LATEST)
    if found is None:
        return None
    try:
        latest = Latest.model_validate_json(found[0])
        text = to.read(latest.manifest.path)
        if text is None or hashlib.sha256(text[0]).hexdigest() != latest.manifest.sha256:
            raise ExportError(
                f"{to}{'' if str(to).endswith('/') else '/'}{latest.manifest.path} is missing or "
                f"damaged; remove {LATEST} there, and the next publication is a first one"
            )
        return latest, Manifest.model_validate_json(text[0]), found[1]
    except ValidationError:
        raise ExportError(
            f"{to} holds a {LATEST} that is not ours, or of a later version of {PROGRAM}; choose "
            "another destination"
        ) from None


@dataclass(frozen=True)
class Verified:
    """Paths that are missing or damaged, of how many files, and how many of them were read."""

    damaged: list[str]
    files: int
    read: int


def damaged(to: Destination) -> list[str]:
    """Paths of the newest publication whose files are missing or not what its manifest says.

    Raises:
        ExportError: as `read`; there is none.
    """
    return verify(to).damaged


def verify(to: Destination, *, some: int | None = None, seed: str = "") -> Verified:
    """See that each file of the newest publication is there, with the content that it should have.

    Args:
        to: where.
        some: read so many files only; of all others, see that they are there with their size.
        seed: chooses which.

    Raises:
        ExportError: as `read`; there is none.
    """
    found = read(to)
    if found is None:
        raise ExportError(f"{to} has no publication; make one with `{PROGRAM} publish`")
    _, manifest, _ = found
    expected = {file.path: (file.bytes, file.sha256) for file in manifest.files}
    expected |= {f.name: (f.bytes, f.sha256) for f in manifest.files if has_copy(f.name)}
    for sha256, _, size in manifest.database.spans():
        expected[piece_path(sha256)] = size, sha256
    if kept := manifest.snapshot:
        expected[RECORD] = kept.bytes, kept.sha256
    there = to.stored()
    bad = [path for path, (size, _) in expected.items()
           if path not in there or there[path].bytes != size]  # fmt: skip
    others = sorted(expected.keys() - bad)
    if some is not None:
        others.sort(key=lambda path: hashlib.sha256(f"{seed} {path}".encode()).digest())
        others = others[:some]

    def is_bad(path: str) -> bool:
        held = to.read(path)
        return held is None or hashlib.sha256(held[0]).hexdigest() != expected[path][1]

    with ThreadPoolExecutor(UPLOADS) as pool:
        wrong = pool.map(is_bad, others)
        bad += [path for path, one in zip(others, wrong, strict=True) if one]
    return Verified(sorted(bad), len(expected), len(others))


@dataclass
class _Run:
    """One publication on its way."""

    source: Path
    to: Destination
    form: Form
    staging: Path
    now: dt.datetime
    again: set[str]
    pool: ThreadPoolExecutor
    files: list[File] = field(default_factory=list)
    uploaded: dict[str, int] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    waiting: deque[Future[None]] = field(default_factory=deque)
    renewed: float = field(default_factory=time.monotonic)

    def go(self, wait_seconds: float) -> Published:
        self.now = self.now.astimezone(dt.UTC).replace(microsecond=0)
        found = read(self.to)
        self.old = found[1] if found else None
        self.there = self.to.stored()
        copy = self.staging / RECORD
        _snapshot.take(self.source, copy, wait_seconds)
        with connection.reader(copy, 0, only_in=[self.staging]) as con:
            names = [str(dataset) for dataset in recorded_datasets(con)]
            site = pages.build(names, title=self.form.title, address=self.form.address)
            self._claim(site)
            described = self._datasets(con)
            first = self._roots(con, described)
            [(probed,)] = con.execute("SELECT max(last_probe) FROM datasets").fetchall()
        probed = probed and probed.astimezone(dt.UTC).replace(microsecond=0)  # as in documents
        for name, content in site.items():
            self._page(name, content)
        snapshot = self._snapshot_due()
        database = self._pieces(copy, probed)
        if found and self._is_same(found[1], database) and not snapshot:
            self._plain_copies()
            return self._done(found[0], found[1], changed=bool(self.uploaded))
        kept = self.old.snapshot if self.old else None
        if snapshot:
            kept = Snapshot(
                path=RECORD, bytes=database.bytes, sha256=database.sha256, last_probe=probed,
                published_at=self.now,
            )  # fmt: skip
            self._put(RECORD, copy)
        return self._switch(found, database, kept, first)

    def _is_same(self, old: Manifest, database: Database) -> bool:
        return old.database == database and old.files == self.files

    def _claim(self, site: Mapping[str, bytes]) -> None:
        """See that we replace nothing of others', and leave a mark that the place is ours.

        The mark comes before all else, so a first publication that is cut off can go on.

        Raises:
            ExportError: a file of a name that is not hashed is there, and is not ours.
            ProtectedFileError: it is the record, a backup or Dagster's.
        """
        plain = [*site, *(f"{name}.json" for name in ("datasets", "symbols", "news")), "feed.atom"]
        self.to.refuse_protected([*plain, LATEST], self.source)
        if isinstance(self.to, Folder):
            whole = self.to.path / RECORD
            if whole.exists() and whole.samefile(self.source):
                raise ProtectedFileError(
                    f"{whole} is the record; nothing was written, choose another destination"
                )
        if self.to.read(_CLAIM) is not None:
            return
        ours = {file.name for file in self.old.files} if self.old else set()
        if self.old and self.old.snapshot:
            ours.add(RECORD)
        for name in [*plain, RECORD]:
            if name in self.there and name not in ours:
                raise ExportError(
                    f"{self.to} holds another site ({name}); choose another destination"
                )
        self._put(_CLAIM, f"{PROGRAM} publishes here\n".encode())
        self._wait()

    # What is published.

    def _datasets(self, con: duckdb.DuckDBPyConnection) -> list[documents.Json]:
        """Have each dataset's files in place; the entries of `datasets.json`."""
        before: dict[str, list[File]] = {}
        for file in self.old.files if self.old else ():
            if file.dataset:
                before.setdefault(file.dataset, []).append(file)
        entries = []
        for dataset in recorded_datasets(con):
            t = scope(con, dataset)
            state = self._state(con, t)
            mine = before.get(str(dataset), [])
            known = [file for file in mine if file.content == state]
            if known and all(self._holds(file) for file in mine):
                self.files += mine
                entry = documents.entry(con, t)
            else:
                entry, mine = self._dataset(con, t, state, {f.content: f for f in mine})
                self.files += mine
            entry["documents"] = {
                name: _path(mine, f"{dataset}/{name}.json") for name in _DOCUMENTS
            }
            entries.append(entry)
        return entries

    def _dataset(
        self,
        con: duckdb.DuckDBPyConnection,
        t: Scope,
        state: str,
        before: Mapping[str | None, File],
    ) -> tuple[documents.Json, list[File]]:
        """Write the files of a dataset that differ; its entry, and all of them."""
        name = str(t.dataset)
        made = documents.describe(con, t, self.form.threshold)
        found = []
        for kind, document in made.documents.items():
            content = documents.dumps(document)
            found.append(self._document(f"{name}/{kind}.json", content, name, state))
        feed = documents.feed(
            made.documents["news"]["news"], title=f"{self.form.title}: {name}",
            name=f"{name}/feed.atom", address=self.form.address, root="../" * (name.count("/") + 1),
        )  # fmt: skip
        found.append(self._document(f"{name}/feed.atom", feed, name, state))
        parquet: list[documents.Json] = []
        revisions: documents.Json | None = None
        for part in _parts(con, t):
            known = before.get(part.content)
            if known is None or known.name != part.name or not self._holds(known):
                staged = self._staged()
                con.sql(part.sql).write_parquet(str(staged), compression="zstd")
                sha256, size = _snapshot.sha256(staged), staged.stat().st_size
                known = File(
                    name=part.name, path=hashed(part.name, sha256), bytes=size, sha256=sha256,
                    dataset=name, content=part.content,
                )  # fmt: skip
                if not self._holds(known):
                    self._put(known.path, staged)
            found.append(known)
            told = {"path": known.path, "bytes": known.bytes, "sha256": known.sha256, **part.told}
            if part.name.endswith(_REVISIONS):
                revisions = told
            else:
                parquet.append(told)
        files = {
            "format": FORMAT, "dataset": name, "last_probe": made.entry["last_probe"],
            "files": parquet, "revisions": revisions,
        }  # fmt: skip
        found.append(self._document(f"{name}/files.json", documents.dumps(files), name, state))
        return made.entry, found

    def _roots(self, con: duckdb.DuckDBPyConnection, entries: list[documents.Json]) -> Documents:
        """The documents of all datasets."""
        names, parts = documents.shards(con)
        shards = [
            self._document(f"symbols/{n}.json", documents.dumps(part), None, None)
            for n, part in enumerate(parts)
        ]
        news: list[documents.Json] = []
        for entry in entries:
            text = self._read(entry["documents"]["news"])
            news += documents.loads(text)["news"]
        news = documents.newest(news)
        root = {
            "datasets": {"format": FORMAT, "datasets": entries},
            "symbols": {
                "format": FORMAT,
                "per_file": documents.PER_SHARD,
                "symbols": names,
                "files": [file.path for file in shards],
            },
            "news": {"format": FORMAT, "news": news},
        }
        made = {
            kind: self._document(f"{kind}.json", documents.dumps(document), None, None)
            for kind, document in root.items()
        }
        feed = documents.feed(
            news, title=self.form.title, name="feed.atom", address=self.form.address, root=""
        )
        self.files += [*shards, *made.values(), self._document("feed.atom", feed, None, None)]
        return Documents(**{kind: file.path for kind, file in made.items()})

    def _state(self, con: duckdb.DuckDBPyConnection, t: Scope) -> str:
        """The same as long as the dataset's documents would be the same."""
        mine = (__version__, FORMAT, _DOCUMENTS, duckdb.__version__, self.form.title,
                self.form.address, self.form.threshold)  # fmt: skip
        told = hashlib.sha256(repr(mine).encode()).hexdigest()[:8]
        return f"{told}-{_snapshot.state(con, t)}"

    # How it is written.

    def _holds(self, file: File) -> bool:
        there = self.there.get(file.path)
        return there is not None and there.bytes == file.bytes and file.path not in self.again

    def _read(self, path: str) -> bytes:
        if path in self.contents:
            return self.contents[path]
        found = self.to.read(path)
        if found is None:
            raise ExportError(f"{self.to} lost {path} meanwhile; publish again")
        return found[0]

    def _document(self, name: str, content: bytes, dataset: str | None, state: str | None) -> File:
        """Have a document in place under its hashed name."""
        sha256 = hashlib.sha256(content).hexdigest()
        file = File(
            name=name, path=hashed(name, sha256), bytes=len(content), sha256=sha256,
            dataset=dataset, content=state,
        )  # fmt: skip
        self.contents[file.path] = content
        if not self._holds(file):
            self._put(file.path, content)
        return file

    def _page(self, name: str, content: bytes) -> None:
        """Have what pages need in place; note a page, which is replaced with the plain copies."""
        sha256 = hashlib.sha256(content).hexdigest()
        file = File(name=name, path=name, bytes=len(content), sha256=sha256)
        self.files.append(file)
        self.contents[name] = content
        if publication.is_hashed(name) and not self._holds(file):
            self._put(name, content)

    def _put(self, path: str, given: bytes | Path) -> None:
        """Upload bytes or a file, which is then gone; some are on their way at the same time."""

        def put() -> None:
            staged = self._staged()
            if isinstance(given, bytes):
                staged.write_bytes(given)
            else:
                given.replace(staged)
            size = staged.stat().st_size
            self.there[path] = self.to.put(path, staged, self.there.get(path))
            self.uploaded[path] = size
            staged.unlink(missing_ok=True)

        self.waiting.append(self.pool.submit(put))
        while len(self.waiting) > 4 * UPLOADS:  # what waits does not fill the memory
            self.waiting.popleft().result()
        if time.monotonic() - self.renewed > RENEW_SECONDS:
            self.renewed = time.monotonic()
            self.to.renew()

    def _wait(self) -> None:
        """Until all of it is there."""
        while self.waiting:
            self.waiting.popleft().result()

    def _staged(self) -> Path:
        return self.staging / uuid.uuid4().hex

    def _pieces(self, copy: Path, probed: dt.datetime | None) -> Database:
        """Have the record's pieces in place."""
        whole, found = hashlib.sha256(), dict[str, None]()
        pieces = []
        with copy.open("rb") as file:
            size = HEADER_BYTES
            while piece := file.read(size):
                size = PIECE_BYTES
                whole.update(piece)
                sha256 = hashlib.sha256(piece).hexdigest()
                pieces.append(sha256)
                path = piece_path(sha256)
                there = self.there.get(path)
                held = there and there.bytes == len(piece) and path not in self.again
                if not held and sha256 not in found:
                    self._put(path, piece)
                found[sha256] = None
        return Database(
            bytes=copy.stat().st_size, sha256=whole.hexdigest(), schema_version=SCHEMA_VERSION,
            last_probe=probed, header_bytes=HEADER_BYTES, piece_bytes=PIECE_BYTES, pieces=pieces,
        )  # fmt: skip

    def _snapshot_due(self) -> bool:
        last = self.old.snapshot if self.old else None
        if last is None or self.form.snapshot or RECORD in self.again or RECORD not in self.there:
            return True
        return self.now - last.published_at >= dt.timedelta(SNAPSHOT_DAYS)

    # How it is switched.

    def _plain_copies(self) -> None:
        """Replace what has a plain name: copies of the documents, and the pages."""
        before = {file.name: file.sha256 for file in self.old.files} if self.old else {}
        for file in self.files:
            if not has_copy(file.name) or publication.is_hashed(file.name):
                continue
            there = self.there.get(file.name)
            same = there and there.bytes == file.bytes and before.get(file.name) == file.sha256
            if same and file.name not in self.again:
                continue
            self._put(file.name, self._read(file.path))
        self._wait()

    def _switch(
        self,
        found: tuple[Latest, Manifest, Stored] | None,
        database: Database,
        snapshot: Snapshot | None,
        first: Documents,
    ) -> Published:
        self._wait()  # all that is there is known only then
        name = f"{self.now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
        path = f"manifests/{name}.json"
        manifest = Manifest(
            format=FORMAT, publication=name, published_at=self.now, package_version=__version__,
            schema_version=SCHEMA_VERSION, files=self.files, database=database, snapshot=snapshot,
            superseded=[],
        )  # fmt: skip
        needed = manifest.paths() | {path}
        since = {one.path: one.since for one in self.old.superseded} if self.old else {}
        if found:
            since.setdefault(found[0].manifest.path, self.now)
        # Also what no manifest names: of a publication that was cut off.
        for other in self.there:
            if publication.is_hashed(other):
                since.setdefault(other, self.now)
        since = {p: s for p, s in since.items() if p not in needed and p in self.there}
        expired = {p for p, s in since.items() if self.now - s >= dt.timedelta(KEEP_DAYS)}
        manifest = manifest.model_copy(
            update={
                "superseded": [
                    Superseded(path=p, since=s)
                    for p, s in sorted(since.items())
                    if p not in expired
                ]
            }
        )
        content = manifest.model_dump_json().encode() + b"\n"
        sha256 = hashlib.sha256(content).hexdigest()
        latest = Latest(
            format=FORMAT, publication=name, published_at=self.now, last_probe=database.last_probe,
            manifest=Link(path=path, bytes=len(content), sha256=sha256), documents=first,
        )  # fmt: skip
        self._put(path, content)
        self._wait()  # everything is there before anything of a plain name is replaced
        self._plain_copies()
        staged = self._staged()
        staged.write_bytes(latest.model_dump_json().encode() + b"\n")
        # Replaced only if it is still what was read in the beginning: of two publishers, one wins.
        self.to.put(LATEST, staged, found[2] if found else None)
        gone = [p for p in self._left_over(manifest) if p in self.there]
        self.to.remove([*expired, *gone])
        return self._done(latest, manifest, removed=len(expired) + len(gone))

    def _left_over(self, manifest: Manifest) -> list[str]:
        """Plain copies of datasets that are no longer recorded."""
        names = {file.name for file in manifest.files}
        before = {file.name for file in self.old.files} if self.old else set()
        return sorted(n for n in before - names if not publication.is_hashed(n))

    def _done(
        self, latest: Latest, manifest: Manifest, *, changed: bool = True, removed: int = 0
    ) -> Published:
        pieces = dict.fromkeys(manifest.database.pieces)
        return Published(
            latest, manifest, changed, len(manifest.files) + len(pieces),
            sum(file.bytes for file in manifest.files) + manifest.database.bytes,
            len(self.uploaded), sum(self.uploaded.values()), removed,
        )  # fmt: skip


def has_copy(name: str) -> bool:
    """Whether a file is there under its plain name, too: pages, and documents for tools.

    Not Parquet, nor what only an index leads to.
    """
    return not name.endswith(".parquet") and not name.startswith("symbols/")


_DOCUMENTS = ("symbols", "holes", "revisions", "days", "news", "files")
_REVISIONS = "/revisions.parquet"


def _path(files: list[File], name: str) -> str:
    return next(file.path for file in files if file.name == name)


@dataclass(frozen=True)
class _Part:
    """Rows of one Parquet file.

    Attributes:
        name: of the file.
        sql: the rows.
        content: another one once they have changed.
        told: what `files.json` says of them.
    """

    name: str
    sql: str
    content: str
    told: documents.Json


def _parts(con: duckdb.DuckDBPyConnection, t: Scope) -> Iterator[_Part]:
    """The Parquet files of a dataset: a file a year, of the last year a file a month.

    So an update writes a month again and not a year, which is a quarter of all files.
    """
    files = (
        f"SELECT symbol, date AS period, file_size_bytes, last_modified, {hexed('etag')} AS etag, "
        f"recorded_at FROM {t.files}"
    )
    newest = f"year(date) = (SELECT max(year(date)) FROM {t.files})"
    part = "strftime(date, 'year=%Y')"
    if not t.dataset.monthly:
        part = f"CASE WHEN {newest} THEN strftime(date, 'year=%Y/month=%m') ELSE {part} END"
    yield from _hashed_parts(con, f"SELECT {part} AS part, * FROM {t.files}", t, files)
    revisions = f"SELECT * RENAME (date AS period) FROM {t.revisions}"
    [(rows, mixed)] = con.execute(
        f"SELECT count(*), bit_xor(hash(r)) FROM ({revisions}) r"
    ).fetchall()
    if rows:
        yield _Part(
            f"{t.dataset}{_REVISIONS}",
            f"{revisions} ORDER BY observed_at, symbol, period",
            f"{duckdb.__version__}-{rows}-{mixed:x}",
            {"rows": rows},
        )


def _hashed_parts(
    con: duckdb.DuckDBPyConnection, rows: str, t: Scope, files: str
) -> Iterator[_Part]:
    found = con.execute(
        f"""SELECT part, min(date), max(date), count(*), bit_xor(hash(r)), sum(hash(r))
        FROM ({rows}) r GROUP BY part ORDER BY part"""
    ).fetchall()
    for part, first, last, n, mixed, total in found:
        yield _Part(
            f"{t.dataset}/files/{part}/files.parquet",
            f"{files} WHERE date BETWEEN DATE '{first}' AND DATE '{last}' ORDER BY symbol, date",
            f"{duckdb.__version__}-{n}-{mixed:x}-{int(total):x}",
            {"first": t.dataset.text(first), "last": t.dataset.text(last), "rows": n},
        )
