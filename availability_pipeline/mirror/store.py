"""Where a mirror is: a folder, or a prefix of a bucket. Files by the archive's own keys.

Beside them is `.manifest/`, which is ours: what was verified, what is being fetched (`parts`), what
did not match (`damaged`) and what was replaced (`replaced`), the last two by key. A folder is
locked with `flock`, a bucket with an object, as an export's destination is.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from availability_pipeline import PROGRAM, files
from availability_pipeline.copies.destinations import Bucket as _Bucket
from availability_pipeline.copies.destinations import Folder as _Folder
from availability_pipeline.copies.destinations import destination
from availability_pipeline.errors import MirrorError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MANIFEST = ".manifest"
_MARK = f"{MANIFEST}/mirror.json"
_FORMAT = 1
_WORKER = "worker-"


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the mirror as its place says it.

    Attributes:
        bytes: its size.
        md5: of its content, where the place knows it without reading: an object store's ETag.
    """

    bytes: int
    md5: str | None = None


class Store(Protocol):
    """A mirror's place. Names are keys, as `data/spot/daily/...zip`, or begin with `.manifest/`."""

    @contextmanager
    def locked(self, source: str) -> Iterator[Path]:
        """Keep other downloads out; yields a folder for files that are being made.

        Args:
            source: the download host; a mirror of another one is refused.

        Raises:
            MirrorError: another download is at work, or it is another's mirror, or no place.
        """

    @contextmanager
    def working(self, name: str) -> Iterator[Path]:
        """A folder for one worker's files that are being made, beside other workers of a run.

        Args:
            name: of the run.
        """

    def sweep(self) -> None:
        """Remove what workers that were killed left in such folders; hold the lock."""

    def find(self, name: str) -> Found | None:
        """A file, if it is there."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """Its content.

        Raises:
            FileNotFoundError: it is not there.
        """

    def read(self, name: str) -> bytes | None:
        """All of a small one, or None."""

    def names(self, prefix: str) -> Iterator[tuple[str, Found]]:
        """All files whose name begins so, in no order."""

    def put(self, name: str, part: Path) -> None:
        """Give a file its place and name, atomically; `part` is gone afterwards."""

    def move(self, name: str, to: str) -> None:
        """Give a file another name."""

    def remove(self, name: str) -> None:
        """Remove a file; one already gone is not an error."""

    def renew(self) -> None:
        """Say that this download is still at work."""


def place(text: str) -> "FolderStore | BucketStore":
    """The mirror that a path, a `file://` or an `s3://bucket/prefix` address names.

    Raises:
        ExportError: it names none.
    """
    found = destination(text)
    if isinstance(found, _Folder):
        return FolderStore(found.path)
    return BucketStore(found)


def _check_mark(content: bytes | None, source: str, where: object) -> bytes | None:
    """The mark to write, None where it is there; refuses what is not ours to write to."""
    if content is None:
        mark = {"format": _FORMAT, "source": source, "made_by": PROGRAM}
        return json.dumps(mark).encode()
    try:
        mark = json.loads(content)
        form, of = int(mark["format"]), str(mark["source"])
    except (ValueError, KeyError, TypeError):
        raise MirrorError(f"{where}/{_MARK} is not a mirror's mark; choose another place") from None
    if form > _FORMAT:
        raise MirrorError(
            f"{where} is a mirror of a later version; use that or choose another place"
        )
    if of != source:
        raise MirrorError(
            f"{where} is a mirror of {of}, not of {source}; choose another place, or set "
            "AVAILABILITY_DOWNLOAD_URL"
        )
    return None


class FolderStore:
    """A local folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = os.fspath(path)
        self._made: set[Path] = set()

    def __str__(self) -> str:
        return str(self.path)

    @contextmanager
    def locked(self, source: str) -> Iterator[Path]:
        """As `Store`."""
        with self._refusals():
            files.refuse_links(self.path, f"{MANIFEST}/parts")
            files.public_folder(self.path / MANIFEST)
            lock = files.lock_file(self.path / MANIFEST / "lock")
        with lock:
            if not files.try_lock(lock):
                raise MirrorError(
                    f"another download to {self} is running; try again when it is done"
                )
            with self._refusals():
                if mark := _check_mark(self.read(_MARK), source, self):
                    parts = self.path / MANIFEST / "parts"
                    files.public_folder(parts)
                    (parts / "mark").write_bytes(mark)
                    self.put(_MARK, parts / "mark")
                files.public_folder(self.path / MANIFEST / "parts")
            yield self.path / MANIFEST / "parts"

    @contextmanager
    def working(self, name: str) -> Iterator[Path]:
        """As `Store`."""
        parts = self.path / MANIFEST / "parts"
        with self._refusals():
            files.refuse_links(self.path, f"{MANIFEST}/parts")
            files.public_folder(parts)
            folder = tempfile.mkdtemp(prefix=f"{_WORKER}{name}-", dir=parts)
        try:
            yield Path(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> None:
        """As `Store`."""
        with self._refusals():
            files.remove_left(self.path / MANIFEST / "parts", _WORKER)

    def find(self, name: str) -> Found | None:
        """As `Store`."""
        try:
            status = os.lstat(self.path / name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Found(status.st_size)

    def chunks(self, name: str) -> Iterator[bytes]:
        """As `Store`."""
        # Unbuffered, and by text: a `Path` and a buffer take as long as hashing a small file.
        with open(f"{self._root}/{name}", "rb", buffering=0) as file:  # noqa: PTH123
            while chunk := file.read(2**20):
                yield chunk

    def read(self, name: str) -> bytes | None:
        """As `Store`."""
        try:
            return b"".join(self.chunks(name))
        except FileNotFoundError:
            return None

    def names(self, prefix: str) -> Iterator[tuple[str, Found]]:
        """As `Store`."""
        root = os.fspath(self.path)
        for folder, _, inside in os.walk(self.path / prefix):
            below = os.path.relpath(folder, root)
            for name in inside:
                with suppress(FileNotFoundError):
                    yield f"{below}/{name}", Found(os.lstat(f"{folder}/{name}").st_size)

    def put(self, name: str, part: Path) -> None:
        """As `Store`. Not flushed to the disk: what a power cut takes, the next run sees."""
        target = self.path / name
        with self._refusals():
            self._folder(target.parent, name)
            part.chmod(0o644)
            part.replace(target)

    def move(self, name: str, to: str) -> None:
        """As `Store`."""
        target = self.path / to
        with self._refusals():
            self._folder(target.parent, to)
            files.refuse_links(self.path, name)
            (self.path / name).replace(target)

    def remove(self, name: str) -> None:
        """As `Store`."""
        with self._refusals():
            (self.path / name).unlink(missing_ok=True)

    def renew(self) -> None:
        """As `Store`: the lock on the open file ends with the process."""

    def _folder(self, folder: Path, name: str) -> None:
        if folder not in self._made:
            files.refuse_links(self.path, name)
            files.public_folder(folder)
            self._made.add(folder)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # `strerror` of our own refusals is a whole sentence already.
            raise disk_error(self, error) from None


def disk_error(where: object, error: OSError) -> MirrorError:
    """What a disk refuses, as one line."""
    if error.errno == errno.ENOSPC:
        return MirrorError(
            f"the disk of {where} is full; what is whole stays, go on when there is room"
        )
    name = error.filename or where
    return MirrorError(f"{name}: {error.strerror or error}; choose another place or mend it")


class BucketStore:
    """A prefix of a bucket; an object appears whole or not at all."""

    def __init__(self, place: _Bucket) -> None:
        self._place = place
        place.work = "download"

    def __str__(self) -> str:
        return str(self._place).rstrip("/")

    @property
    def _client(self) -> "S3Client":
        return self._place.client

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._place.bucket, "Key": self._place.prefix + name}

    @contextmanager
    def locked(self, source: str) -> Iterator[Path]:
        """As `Store`."""
        with self._place.staging() as parts:
            if mark := _check_mark(self.read(_MARK), source, self):
                (parts / "mark").write_bytes(mark)
                self.put(_MARK, parts / "mark")
            yield parts

    @contextmanager
    def working(self, name: str) -> Iterator[Path]:  # noqa: ARG002
        """As `Store`: on this machine, where temporary files go (TMPDIR)."""
        with scratch() as folder:
            yield folder

    def sweep(self) -> None:
        """As `Store`: nothing of them is in the bucket."""

    def find(self, name: str) -> Found | None:
        """As `Store`."""
        from botocore.exceptions import ClientError

        with self._place.refusals():
            try:
                head = self._client.head_object(**self._at(name))  # type: ignore[arg-type]
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise
        return Found(head["ContentLength"], head["ETag"].strip('"'))

    def chunks(self, name: str) -> Iterator[bytes]:
        """As `Store`."""
        from botocore.exceptions import ClientError

        with self._place.refusals():
            try:
                body = self._client.get_object(**self._at(name))["Body"]  # type: ignore[arg-type]
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    raise FileNotFoundError(name) from None
                raise
            yield from body.iter_chunks(2**20)

    def read(self, name: str) -> bytes | None:
        """As `Store`."""
        found = self._place.read(name)
        return found[0] if found else None

    def names(self, prefix: str) -> Iterator[tuple[str, Found]]:
        """As `Store`."""
        with self._place.refusals():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._place.bucket, Prefix=self._place.prefix + prefix
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    name = item["Key"].removeprefix(self._place.prefix)
                    yield name, Found(item["Size"], item["ETag"].strip('"'))

    def put(self, name: str, part: Path) -> None:
        """As `Store`."""
        with self._place.refusals():
            # In parts of 64 MB where it is large; the object is there when all are.
            bucket, key = self._at(name).values()
            self._client.upload_file(os.fspath(part), bucket, key, Config=_transfer())
        part.unlink()

    def move(self, name: str, to: str) -> None:
        """As `Store`."""
        with self._place.refusals():
            # In parts where it is large: one request copies 5 GB at most.
            self._client.copy(self._at(name), *self._at(to).values())  # type: ignore[arg-type]
            self._client.delete_object(**self._at(name))  # type: ignore[arg-type]

    def remove(self, name: str) -> None:
        """As `Store`."""
        self._place.remove([name])

    def renew(self) -> None:
        """As `Store`."""
        self._place.renew()


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    # In this thread: the downloads are many already. Up to 64 MB in one request, whose ETag is the
    # MD5 that `verify` compares.
    return TransferConfig(multipart_threshold=2**26, multipart_chunksize=2**26, use_threads=False)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this machine, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="availability-mirror-") as folder:
        yield Path(folder)
