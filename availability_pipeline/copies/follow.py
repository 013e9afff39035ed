"""A local, read-only copy of a published record, which each `follow` brings up to date.

Only the pieces that the copy lacks are fetched; all are verified, joined in a file beside it, and
that file is verified whole, and seen to be a record, before it takes the copy's name. What goes
wrong leaves the copy as it was. What was fetched by a run that was cut off is used by the next one.
"""

import datetime as dt
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

import duckdb
from pydantic import BaseModel, ValidationError

from availability_pipeline import PROGRAM, files
from availability_pipeline.copies import _snapshot
from availability_pipeline.copies._site import (
    Folder,
    UnreachableError,
    Web,
    is_site,
    site,
)
from availability_pipeline.copies.publication import (
    FORMAT,
    LATEST,
    Database,
    Latest,
    Manifest,
    piece_path,
)
from availability_pipeline.errors import (
    FollowError,
    MissingDatabaseError,
    ProtectedFileError,
    StoreError,
)
from availability_pipeline.masking import mask, printable
from availability_pipeline.record import apart, connection, followed
from availability_pipeline.record.followed import Marker
from availability_pipeline.record.schema import (
    SCHEMA_VERSION,
    get_meta,
    refuse_strange,
    views_of_others,
)

__all__ = ["Followed", "Progress", "cached", "follow", "is_site"]

IN_FLIGHT = 8
"""Pieces asked for at the same time."""

ATTEMPTS = 3
"""Tries of a piece that is cut off, refused for the moment, or not what its name says."""

PAUSE_SECONDS = 0.3
"""Before the second try, twice as long before the third."""

MAX_LATEST_BYTES = 2**16
MAX_MANIFEST_BYTES = 2**28
MAX_BYTES = 2**40
MAX_PIECE_BYTES = 2**26
MIN_PIECE_BYTES = 2**12

Progress = Callable[[int, int, int, int], None]
"""Takes how many pieces are fetched, of how many, and how many bytes, of how many."""

Site = Web | Folder

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Followed:
    """A copy that is up to date.

    Attributes:
        path: the copy.
        url: what it is a copy of.
        publication, published_at, last_probe: as that says.
        fetched_bytes: of all that was fetched.
        reused_bytes: of the copy, what was there before.
        pieces: how many the copy has.
        fetched_pieces: how many of them were fetched, each content once.
        changed: whether the copy was made, or replaced.
    """

    path: Path
    url: str
    publication: str
    published_at: dt.datetime
    last_probe: dt.datetime | None
    fetched_bytes: int
    reused_bytes: int
    pieces: int
    fetched_pieces: int
    changed: bool


def follow(
    url: str | Path,
    to: Path,
    *,
    now: dt.datetime,
    timeout_seconds: float = 30,
    in_flight: int = IN_FLIGHT,
    progress: Progress | None = None,
) -> Followed:
    """Make, or bring up to date, the copy `to` of the record that is published at `url`.

    Args:
        url: the root of the published record: an http or https address, or a local folder.
        to: the copy; a marker with what it is of stands beside it.
        now: aware; kept in the marker.
        timeout_seconds: to wait for a connection, or for more of an answer.
        in_flight: pieces asked for at the same time.
        progress: called as pieces come.

    Raises:
        FollowError: unreachable, damaged, not a published record, of another format, or the copy
            cannot be written; the copy is as it was.
        ProtectedFileError: `to` is there and not such a copy, or one of another record.
    """
    place = site(url, timeout_seconds)
    target = Path(to).expanduser().resolve()
    with _refused_by(target):
        files.private_folder(target.parent)
        with files.lock_file(target.with_name(f".{target.name}.following")) as lock:
            if not files.try_lock(lock):
                raise FollowError(
                    f"another follow to {target} is running; try again when it is done"
                )
            try:
                return _Run(place, target, now, in_flight, progress).run()
            finally:
                place.close()


def cached(url: str | Path, cache: Path) -> Path:
    """Where the copy of a published record is kept when no other place is given."""
    address = site(url, 1).address
    parts = urlsplit(address)
    said = f"{parts.netloc}{parts.path}" if parts.netloc else address
    safe = re.sub("[^A-Za-z0-9.-]+", "_", said).strip("._-")[:80]
    # Two addresses may look the same by then.
    return cache / f"{safe}-{hashlib.sha256(address.encode()).hexdigest()[:8]}" / "record.duckdb"


class _Run:
    """One follow, under its lock."""

    def __init__(
        self,
        place: Site,
        target: Path,
        now: dt.datetime,
        in_flight: int,
        progress: Progress | None,
    ) -> None:
        self.place, self.target, self.now = place, target, now
        self.in_flight, self.progress = in_flight, progress or (lambda *_: None)
        self.name = printable(mask(place.address))
        self.part = target.with_name(f".{target.name}.part")
        self.marker = followed.read(target) if target.exists() else None
        self.fetched = 0

    def run(self) -> Followed:
        self._refuse_others()
        latest = self._latest()
        if self.marker and latest.publication == self.marker.publication and self._intact():
            return self._kept(self.marker, latest)
        manifest = self._manifest(latest)
        database = manifest.database
        if self.marker and database.sha256 == self.marker.sha256 and self._intact():
            return self._kept(self.marker, latest, database)
        return self._replaced(latest, database)

    def _refuse_others(self) -> None:
        """See that the target is a copy of this record, or nothing yet."""
        if self.target.exists() and not followed.is_copy(self.target):
            raise ProtectedFileError(
                f"{self.target} is there, and not a copy that `{PROGRAM} follow` made; nothing was "
                "written: choose another file with --to"
            )
        if self.marker and self.marker.url != self.place.address:
            raise ProtectedFileError(
                f"{self.target} is a copy of {printable(mask(self.marker.url))}; choose another "
                "file with --to, or remove it first"
            )
        for suffix in connection.LOG_SUFFIXES:
            # DuckDB would write its content into the new copy.
            if (log := connection.with_suffix(self.target, suffix)).exists():
                raise FollowError(
                    f"{log} is of a program that wrote into the copy; end that program and move "
                    "the file away, then follow again"
                )

    def _intact(self) -> bool:
        """Whether the copy is the file that was put there."""
        try:
            status = self.target.stat()
        except OSError:
            return False
        made = self.marker and (self.marker.bytes, self.marker.mtime_ns)
        return (status.st_size, status.st_mtime_ns) == made

    def _latest(self) -> Latest:
        content = self.place.read(LATEST, MAX_LATEST_BYTES)
        self.fetched += len(content)
        latest = self._parsed(Latest, content, LATEST)
        for said in filter(None, (latest.published_at, latest.last_probe)):
            if not 2000 < said.year < 9000:  # in UTC it may be out of what Python can hold
                raise FollowError(
                    f"{self.name} has a {LATEST} of the year {said.year}; tell who runs it"
                )
        if self.marker and latest.published_at < self.marker.published_at:
            raise FollowError(
                f"{self.name} has the publication of {_minute(latest.published_at)}, and the copy "
                f"is of {_minute(self.marker.published_at)}: an old answer was kept on the way, or "
                f"a clock was wrong; try again later, or remove {self.target} to begin again"
            )
        return latest

    def _manifest(self, latest: Latest) -> Manifest:
        link = latest.manifest
        if not 0 < link.bytes <= MAX_MANIFEST_BYTES:
            raise FollowError(
                f"{self.name} has a manifest of {link.bytes:,} bytes, more than any can have; "
                "nothing was fetched"
            )
        content = self.place.read(link.path, link.bytes)
        self.fetched += len(content)
        if (len(content), hashlib.sha256(content).hexdigest()) != (link.bytes, link.sha256):
            raise UnreachableError(
                f"{self.name} sends a manifest that is not the one its {LATEST} names (SHA-256); "
                "try again later"
            )
        manifest = self._parsed(Manifest, content, "manifest")
        if manifest.publication != latest.publication:
            raise FollowError(
                f"{self.name} has a manifest of another publication; tell who runs it"
            )
        self._refuse_absurd(manifest.database)
        return manifest

    def _parsed(self, model: type[Model], content: bytes, name: str) -> Model:
        try:
            known = _Format.model_validate_json(content).format
        except ValidationError:
            raise FollowError(
                f"{self.name} has a {name} that is not of a published record; give the address of "
                "its root"
            ) from None
        if known != FORMAT:
            raise FollowError(
                f"{self.name} has format {known} of a published record, this package reads "
                f"{FORMAT}; upgrade {PROGRAM}, or the one that publishes"
            )
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = printable(".".join(map(str, first["loc"])))[:100]
            raise FollowError(
                f"{self.name} has a {name} that is not as format {FORMAT} has it ({where}: "
                f"{printable(first['msg'])[:100]}); tell who runs it"
            ) from None

    def _refuse_absurd(self, database: Database) -> None:
        sizes = [size for _, _, size in database.spans()]
        usual = range(MIN_PIECE_BYTES, MAX_PIECE_BYTES + 1)
        good = database.bytes <= MAX_BYTES and sum(sizes) == database.bytes and min(sizes) > 0
        if not good or database.piece_bytes not in usual or database.header_bytes not in usual:
            raise FollowError(
                f"{self.name} names {len(sizes):,} pieces of {database.piece_bytes:,} bytes for a "
                f"record of {database.bytes:,}, which cannot be; nothing was fetched: tell who "
                "runs it"
            )
        if database.schema_version > SCHEMA_VERSION:
            raise FollowError(
                f"{self.name} has a record of schema version {database.schema_version}, this "
                f"package knows up to {SCHEMA_VERSION}; upgrade {PROGRAM}"
            )
        if database.schema_version < SCHEMA_VERSION:
            raise FollowError(
                f"{self.name} has a record of schema version {database.schema_version}, this "
                f"package reads {SCHEMA_VERSION}; ask who runs it to upgrade"
            )

    def _replaced(self, latest: Latest, database: Database) -> Followed:
        """Join the new copy and put it in place; where only fetching fails, what came is kept."""
        try:
            with files.opened(self.part, os.O_RDWR | os.O_CREAT) as part:
                before = self.fetched
                wanted = self._room(part, database)
                self._fetch(part, wanted)
                os.fsync(part.fileno())
                if _snapshot.sha256(self.part) != database.sha256:
                    raise FollowError(
                        f"{self.name} has pieces that are not the record that its manifest names "
                        "(SHA-256); tell who runs it"
                    )
            self._examine()
            self._put_in_place(latest, database)
        except (OSError, StoreError, duckdb.Error) as error:
            if not isinstance(error, UnreachableError):
                with suppress(OSError):
                    self.part.unlink()
            raise
        fetched = self.fetched - before
        return self._followed(
            latest, reused=database.bytes - fetched, pieces=len(database.pieces),
            fetched_pieces=len(wanted), changed=True,
        )  # fmt: skip

    def _room(self, part: BinaryIO, database: Database) -> dict[str, list[tuple[int, int]]]:
        """Give the part its size and all that is here already; where which other pieces go."""
        left = os.fstat(part.fileno()).st_size
        part.truncate(database.bytes)
        needs = database.bytes - os.fstat(part.fileno()).st_blocks * 512
        free = shutil.disk_usage(self.target.parent).free
        if needs > free:
            raise FollowError(
                f"{self.target.parent} has no room for the record: {needs:,} bytes are needed, "
                f"{free:,} are free; make room, or choose another file with --to"
            )
        places: dict[str, list[tuple[int, int]]] = {}
        for sha256, start, size in database.spans():
            places.setdefault(sha256, []).append((start, size))
        if left:  # of a run that was cut off
            places = self._missing(part, places)
        if self.marker and self.target.exists():
            cut = (self.marker.header_bytes, self.marker.piece_bytes)
            # Cut otherwise, no piece is known by its hash, but most are where they were.
            same = cut == (database.header_bytes, database.piece_bytes)
            old = {sha256: (start, size) for sha256, start, size in _spans(self.marker)}
            ranges = sorted(
                (old[sha256][0] if same else start, size, start)
                for sha256, all_of_them in places.items()
                for start, size in all_of_them
                if not same or old.get(sha256, (0, 0))[1] == size
            )
            # Through a process of its own: this one may have the copy open.
            apart.copy_ranges(self.target, self.part, _joined(ranges))
            places = self._missing(part, places)
        return places

    def _missing(
        self, part: BinaryIO, places: dict[str, list[tuple[int, int]]]
    ) -> dict[str, list[tuple[int, int]]]:
        """The places whose content is not there; what is there in another place is copied."""
        missing = {}
        for sha256, all_of_them in places.items():
            bad, content = [], b""
            for start, size in all_of_them:
                found = os.pread(part.fileno(), size, start)
                if hashlib.sha256(found).hexdigest() == sha256:
                    content = found
                else:
                    bad.append((start, size))
            if bad and content:
                for start, _ in bad:
                    _write(part, content, start)
            elif bad:
                missing[sha256] = bad
        return missing

    def _fetch(self, part: BinaryIO, wanted: dict[str, list[tuple[int, int]]]) -> None:
        of_bytes, done, done_bytes = sum(all_of[0][1] for all_of in wanted.values()), 0, 0
        self.progress(0, len(wanted), 0, of_bytes)
        if not wanted:
            return

        def one(sha256: str, all_of_them: list[tuple[int, int]]) -> int:
            content = self._piece(sha256, all_of_them[0][1])
            for start, _ in all_of_them:
                _write(part, content, start)
            return len(content)

        with ThreadPoolExecutor(min(self.in_flight, len(wanted)), "follow") as pool:
            try:
                futures = [pool.submit(one, *item) for item in wanted.items()]
                for future in as_completed(futures):
                    done, done_bytes = done + 1, done_bytes + future.result()
                    self.progress(done, len(wanted), done_bytes, of_bytes)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.place.stop()
                raise
        self.fetched += done_bytes

    def _piece(self, sha256: str, size: int) -> bytes:
        attempt = 1
        while True:
            try:
                content = self.place.read(piece_path(sha256), size)
                if hashlib.sha256(content).hexdigest() == sha256 and len(content) == size:
                    return content
                raise UnreachableError(
                    f"{self.name} sends a piece that is not what its name says (SHA-256); nothing "
                    "of it was used: try again later, or tell who runs it",
                    again=True,
                )
            except UnreachableError as error:
                if not error.again or attempt == ATTEMPTS:
                    raise
            time.sleep(PAUSE_SECONDS * attempt)
            attempt += 1

    def _examine(self) -> None:
        """See that it is a record of ours, and nothing in it is of others.

        Its hash is the manifest's: reading each row again would show nothing else.
        """
        try:
            with connection.reader(self.part, 0, older_too=True, only_in=()) as con:
                refuse_strange(con, views_of_others(con))
                version = int(get_meta(con, "schema_version") or 0)
        except MissingDatabaseError:
            raise FollowError(f"{self.name} has a record that is empty; tell who runs it") from None
        except StoreError as error:
            reason = str(error).replace(str(self.part), "its record")
            raise FollowError(f"{self.name} is refused: {reason}") from None
        if version != SCHEMA_VERSION:
            raise FollowError(
                f"{self.name} has a record of another schema version than its manifest says; tell "
                "who runs it"
            )

    def _put_in_place(self, latest: Latest, database: Database) -> None:
        if self.target.exists():
            self.part.chmod(stat.S_IMODE(self.target.stat().st_mode))
        else:
            files.private(self.part)
        # The marker first: a copy without one would be somebody's record. Killed before the
        # rename, it is of a file of another time, and so not believed.
        self._write_marker(
            Marker(
                url=self.place.address,
                publication=latest.publication,
                published_at=latest.published_at,
                last_probe=latest.last_probe,
                followed_at=self.now,
                bytes=database.bytes,
                sha256=database.sha256,
                mtime_ns=self.part.stat().st_mtime_ns,
                header_bytes=database.header_bytes,
                piece_bytes=database.piece_bytes,
                pieces=tuple(database.pieces),
            )
        )
        self.part.replace(self.target)
        files.sync(self.target.parent)

    def _kept(self, marker: Marker, latest: Latest, database: Database | None = None) -> Followed:
        """The copy is what is published; the marker says of when, and how it is cut now."""
        self.part.unlink(missing_ok=True)
        update = latest.model_dump(include={"publication", "published_at", "last_probe"})
        if database:
            update |= database.model_dump(include={"header_bytes", "piece_bytes"})
            update["pieces"] = tuple(database.pieces)
        marker = marker.model_copy(update=update | {"followed_at": self.now})
        self._write_marker(marker)
        return self._followed(
            latest, reused=marker.bytes, pieces=len(marker.pieces), fetched_pieces=0, changed=False
        )

    def _write_marker(self, marker: Marker) -> None:
        path = followed.beside(self.target)
        new = path.with_name(f".{path.name}.new")
        with files.opened(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
            file.write(marker.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        files.sync(path.parent)

    def _followed(
        self, latest: Latest, *, reused: int, pieces: int, fetched_pieces: int, changed: bool
    ) -> Followed:
        return Followed(
            path=self.target,
            url=self.place.address,
            publication=latest.publication,
            published_at=latest.published_at,
            last_probe=latest.last_probe,
            fetched_bytes=self.fetched,
            reused_bytes=reused,
            pieces=pieces,
            fetched_pieces=fetched_pieces,
            changed=changed,
        )


class _Format(BaseModel):
    format: int


def _spans(marker: Marker) -> Iterator[tuple[str, int, int]]:
    return Database.model_construct(
        bytes=marker.bytes,
        sha256=marker.sha256,
        schema_version=SCHEMA_VERSION,
        last_probe=marker.last_probe,
        header_bytes=marker.header_bytes,
        piece_bytes=marker.piece_bytes,
        pieces=list(marker.pieces),
    ).spans()


def _joined(ranges: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Neighbours as one; sorted by where they begin."""
    joined: list[tuple[int, int, int]] = []
    for start, size, to in ranges:
        if joined:
            before, length, place = joined[-1]
            if (before + length, place + length) == (start, to):
                joined[-1] = (before, length + size, place)
                continue
        joined.append((start, size, to))
    return joined


def _write(part: BinaryIO, content: bytes, start: int) -> None:
    while content:
        written = os.pwrite(part.fileno(), content, start)
        content, start = content[written:], start + written


def _minute(time: dt.datetime) -> str:
    return f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


@contextmanager
def _refused_by(target: Path) -> Iterator[None]:
    """What the disk refuses, as one line."""
    try:
        yield
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else target
        raise FollowError(
            f"cannot write {where}: {error.strerror}; make room or give permission there, or "
            "choose another file with --to"
        ) from None
    except duckdb.Error as error:
        raise FollowError(f"{target}: {str(error).splitlines()[0][:300]}") from None
