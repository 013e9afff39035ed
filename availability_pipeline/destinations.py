"""Where exported files go: a folder, or a bucket of S3 or of something that speaks it.

Belongs here: reading, replacing and removing files by name, each at one stroke. Does not belong
here: which files there are (`export`).

The bucket's credentials, region and endpoint are boto3's own affair (`AWS_PROFILE`,
`AWS_ENDPOINT_URL`, ...); they have nothing to do with the archive's client, which never signs.
"""

import fcntl
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from availability_pipeline import snapshot
from availability_pipeline.masking import mask
from availability_pipeline.store_errors import ExportError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_STAGING = ".availability-export-"
_LOCK = ".availability-export.lock"
_MULTIPART_BYTES = 50 << 20
"""From this size on a file goes up in parts; below, one request is faster and as whole."""


class Destination(Protocol):
    """A place of files with names like `availability/month=2024-01/availability.parquet`."""

    def staging(self) -> AbstractContextManager[Path]:
        """A folder to make files in, gone afterwards; keeps other exports out where it can."""

    def read(self, name: str) -> bytes | None:
        """A file's content, or None."""

    def sizes(self) -> dict[str, int]:
        """All files with their bytes."""

    def put(self, name: str, staged: Path) -> None:
        """Give a staged file its place and name, at one stroke."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those already gone are no error."""


def destination(text: str) -> "Destination":
    """The place that a path, a `file://` or an `s3://bucket/prefix` URL names.

    Raises:
        ExportError: it names none.
    """
    if "://" not in text:
        return Folder(Path(text).expanduser())
    url = urlsplit(text)
    # A bucket's name has no colon; where one stands a secret follows, maybe with a slash in it.
    if "@" in url.netloc or (url.scheme == "s3" and ":" in url.netloc):
        raise ExportError(
            f"{mask(text)}: leave credentials out of the address; boto3 finds them in its usual "
            "places (AWS_PROFILE, ~/.aws, the machine's role)"
        )
    if url.scheme == "file" and url.netloc in ("", "localhost") and url.path:
        return Folder(Path(unquote(url.path)))
    # Not `url.path`: a key may well contain ? and #.
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if url.scheme == "s3" and bucket:
        return Bucket(bucket, prefix)
    raise ExportError(f"{text} is no destination; give a folder, file:///folder or s3://bucket/prefix")


class Folder:
    """A local folder, made where it is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder in the destination: on the same disk, so that a rename is all it takes."""
        self._path.mkdir(parents=True, exist_ok=True)
        with (self._path / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ExportError(
                    f"another export to {self} is running; try again when it is done"
                ) from None
            for left in self._path.glob(f"{_STAGING}*"):  # of an export that was killed
                for file in left.iterdir():
                    file.unlink()
                left.rmdir()
            with tempfile.TemporaryDirectory(prefix=_STAGING, dir=self._path) as staging:
                yield Path(staging)

    def read(self, name: str) -> bytes | None:
        """A file's content, or None."""
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None

    def sizes(self) -> dict[str, int]:
        """All files with their bytes."""
        return {
            path.relative_to(self._path).as_posix(): path.stat().st_size
            for path in self._path.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }

    def put(self, name: str, staged: Path) -> None:
        """Rename a staged file into its place, flushed to the disk."""
        target = self._path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        snapshot.sync(staged)
        staged.replace(target)
        snapshot.sync(target.parent)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, and the folders they leave empty."""
        for name in names:
            path = self._path / name
            path.unlink(missing_ok=True)
            for folder in list(path.parents)[: name.count("/")]:
                with suppress(OSError):  # not empty
                    folder.rmdir()


class Bucket:
    """A prefix of an S3 bucket; each object appears whole or not at all."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._made: S3Client | None = None

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    @property
    def _client(self) -> "S3Client":
        if self._made is None:
            import boto3
            from botocore.config import Config

            config = Config(retries={"mode": "standard"}, connect_timeout=20, read_timeout=60)
            with self._refusals():
                self._made = boto3.session.Session().client("s3", config=config)
        return self._made

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder on this machine, where temporary files go (TMPDIR)."""
        with tempfile.TemporaryDirectory(prefix=_STAGING) as staging:
            yield Path(staging)

    def read(self, name: str) -> bytes | None:
        """An object's content, or None."""
        from botocore.exceptions import ClientError

        with self._refusals():
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
                return found["Body"].read()
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise

    def sizes(self) -> dict[str, int]:
        """All objects under the prefix with their bytes."""
        with self._refusals():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            return {
                item["Key"].removeprefix(self._prefix): item["Size"]
                for page in pages
                for item in page.get("Contents", ())
            }

    def put(self, name: str, staged: Path) -> None:
        """Upload a staged file."""
        import smart_open.s3

        in_parts = staged.stat().st_size > _MULTIPART_BYTES
        with (
            self._refusals(),
            staged.open("rb") as file,
            smart_open.s3.open(
                self._bucket,
                self._prefix + name,
                "wb",
                multipart_upload=in_parts,
                client=self._client,
            ) as out,
        ):
            while block := file.read(1 << 20):
                out.write(block)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects."""
        with self._refusals():
            for name in names:
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """What the store refuses, as one line."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (ClientError, BotoCoreError, ValueError) as error:
            cause: Any = error.__cause__ if isinstance(error.__cause__, ClientError) else error
            reason = " ".join(str(cause).split())
            raise ExportError(
                f"{self} refuses: {reason}; see that the bucket is there and boto3 finds "
                "credentials that may write to it"
            ) from None
