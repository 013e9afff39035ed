"""Where exported files go: a folder, or a bucket of S3 or of something that speaks it.

Files are read, replaced and removed by name, each atomically. Two exports at once to one place: the
second is refused. A folder is locked with `flock`, a bucket with an object that S3 makes only where
there is none (If-None-Match). An export that was killed leaves that object: after LOCK_HOURS the
next one takes it over. Should the first one still be at work then, every write of both names the
version that it replaces (If-Match), so that the later one fails and no manifest names a file that
another export has changed or removed. That is why objects are written by `put_object`: boto3's
`upload_file` takes no condition and does not return the ETag.

The bucket's credentials, region and endpoint are boto3's own affair (`AWS_PROFILE`,
`AWS_ENDPOINT_URL`, ...); they have nothing to do with the archive's client, which never signs.
"""

import datetime as dt
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from availability_pipeline import files
from availability_pipeline.copies import _snapshot
from availability_pipeline.copies.publication import is_hashed
from availability_pipeline.errors import ExportError
from availability_pipeline.masking import mask
from availability_pipeline.record import outputs
from availability_pipeline.settings import BUCKET_NAME, is_address

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client

_STAGING = ".availability-export-"
_LOCK = ".availability-export.lock"

LOCK_HOURS = 1
"""After so long a bucket's lock counts as left by a killed export; a full one takes minutes."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file at its destination.

    Attributes:
        bytes: its size.
        version: what a conditional write compares, S3's ETag; None in a folder.
    """

    bytes: int
    version: str | None = None


def destination(text: str) -> "Folder | Bucket":
    """The place that a path, a `file://` or an `s3://bucket/prefix` URL names.

    Raises:
        ExportError: it names none.
    """
    if not is_address(text):
        return Folder(Path(text).expanduser())
    try:
        url = urlsplit(text)
    except ValueError:  # brackets that are not those of an IPv6 address
        url = urlsplit("")
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
    if url.scheme == "s3" and BUCKET_NAME.fullmatch(bucket):
        return Bucket(bucket, prefix)
    raise ExportError(
        f"{mask(text)} is not a destination; give a folder, file:///folder or s3://bucket/prefix"
    )


class Folder:
    """A local folder, made where it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.work = "export"

    def __str__(self) -> str:
        return str(self.path)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder in the destination: on the same disk, so that a rename is all it takes."""
        files.public_folder(self.path)
        with files.lock_file(self.path / _LOCK) as lock:
            if not files.try_lock(lock):
                raise ExportError(
                    f"another {self.work} to {self} is running; try again when it is done"
                )
            with files.temporary_folder(self.path, _STAGING) as staging:
                yield staging

    def renew(self) -> None:
        """The lock is held as long as the process lives."""

    def refuse_protected(self, names: Iterable[str], record: Path) -> None:
        """Raise ProtectedFileError where one of these files must not be written."""
        outputs.refuse_protected([self.path / name for name in names], record)

    def read(self, name: str) -> tuple[bytes, Stored] | None:
        """A file's content, or None."""
        try:
            content = (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        return content, Stored(len(content))

    def stored(self) -> dict[str, Stored]:
        """All files."""
        return {
            path.relative_to(self.path).as_posix(): Stored(path.stat().st_size)
            for path in self.path.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }

    def holds(self, name: str, file: Stored, sha256: str) -> bool:
        """Whether a file is there with this content; reads it: damage keeps size and time."""
        path = self.path / name
        try:
            return path.stat().st_size == file.bytes and _snapshot.sha256(path) == sha256
        except FileNotFoundError:
            return False

    def put(self, name: str, staged: Path, replacing: Stored | None) -> Stored:  # noqa: ARG002
        """Rename a staged file into its place, flushed to the disk; the lock keeps others out."""
        files.refuse_links(self.path, name)
        target = self.path / name
        files.public_folder(target.parent)
        staged.chmod(0o644)
        files.sync(staged)
        staged.replace(target)
        files.sync(target.parent)
        return Stored(target.stat().st_size)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, and the folders they leave empty."""
        for name in names:
            files.refuse_links(self.path, name)
            path = self.path / name
            path.unlink(missing_ok=True)
            for folder in list(path.parents)[: name.count("/")]:
                with suppress(OSError):  # not empty
                    folder.rmdir()


class Bucket:
    """A prefix of an S3 bucket; each object appears whole or not at all."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._made: S3Client | None = None
        self._lock = ""
        self.work = "export"
        self._listed: dict[str, Stored] = {}

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def client(self) -> "S3Client":
        """boto3's, with its own credentials."""
        if self._made is None:
            import boto3
            from botocore.config import Config

            config = Config(retries={"mode": "standard"}, connect_timeout=20, read_timeout=60)
            with self.refusals():
                self._made = boto3.session.Session().client("s3", config=config)
        return self._made

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder on this machine, where temporary files go (TMPDIR)."""
        with (
            tempfile.TemporaryDirectory(prefix=_STAGING) as staging,
            self._alone(),
        ):
            yield Path(staging)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        from botocore.exceptions import ClientError

        place: Any = {"Bucket": self.bucket, "Key": self.prefix + _LOCK}
        running = f"another {self.work} to {self} is running; try again when it is done"
        with self.refusals():
            try:
                held = self.client.head_object(**place)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                condition: Any = {"IfNoneMatch": "*"}
            else:
                # Both times are S3's own, so no clock of ours decides.
                now = parsedate_to_datetime(held["ResponseMetadata"]["HTTPHeaders"]["date"])
                until = held["LastModified"] + dt.timedelta(hours=LOCK_HOURS)
                if now < until:
                    raise ExportError(
                        f"{running}. If it was killed: at {until:%H:%M} UTC, or remove "
                        f"{place['Key']}"
                    )
                condition = {"IfMatch": held["ETag"]}
            self._take(running, **condition)
        try:
            yield
        finally:
            with self.refusals(), suppress(ClientError):
                # Only our own: after LOCK_HOURS it may be another's.
                if self.client.head_object(**place)["ETag"] == self._lock:
                    self.client.delete_object(**place)

    def renew(self) -> None:
        """Keep the place for LOCK_HOURS more.

        Raises:
            ExportError: it took longer than that, and another has taken it over.
        """
        with self.refusals():
            self._take(f"another {self.work} has taken {self} over", IfMatch=self._lock)

    def _take(self, otherwise: str, **condition: Any) -> None:
        from botocore.exceptions import ClientError

        mine = uuid.uuid4().hex.encode()
        key = self.prefix + _LOCK
        try:
            self._lock = self.client.put_object(
                Bucket=self.bucket, Key=key, Body=mine, **condition
            )["ETag"]
        except ClientError as error:
            if _lost_the_race(error):
                raise ExportError(otherwise) from None
            raise

    def refuse_protected(self, names: Iterable[str], record: Path) -> None:
        """No object is one of this machine's files."""

    def read(self, name: str) -> tuple[bytes, Stored] | None:
        """An object's content, or None."""
        from botocore.exceptions import ClientError

        with self.refusals():
            try:
                found = self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)
                content = found["Body"].read()
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise
        return content, Stored(len(content), found["ETag"])

    def stored(self) -> dict[str, Stored]:
        """All objects under the prefix."""
        with self.refusals():
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix
            )
            found = {
                name: Stored(item["Size"], item["ETag"])
                for page in pages
                for item in page.get("Contents", ())
                if (name := item["Key"].removeprefix(self.prefix)) != _LOCK
            }
        self._listed = found
        return found

    def holds(self, name: str, file: Stored, sha256: str) -> bool:  # noqa: ARG002
        """Whether an object was listed with the size and ETag that its upload was answered with.

        Manifests of version 0.1 have no ETag: then the size alone decides.
        """
        there = self._listed.get(name)
        if there is None or there.bytes != file.bytes:
            return False
        return file.version is None or there.version == file.version

    def put(self, name: str, staged: Path, replacing: Stored | None) -> Stored:
        """Upload a staged file in one request, which is whole or nothing.

        Raises:
            ExportError: what is there is not what `replacing` says: another export was faster.
        """
        from botocore.exceptions import ClientError

        condition: Any = {"IfNoneMatch": "*"}
        if replacing is not None:
            condition = {"IfMatch": replacing.version}
        with self.refusals(), staged.open("rb") as file:
            try:
                answer = self.client.put_object(
                    Bucket=self.bucket, Key=self.prefix + name, Body=file, **condition,
                    **_headers(name),
                )  # fmt: skip
            except ClientError as error:
                if _lost_the_race(error):
                    raise ExportError(
                        f"{self}{name} was changed by another {self.work} at the same time; this "
                        "one stopped without a manifest of its own. Run it again, one at a time"
                    ) from None
                raise
        return Stored(staged.stat().st_size, answer["ETag"])

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those already gone are not an error."""
        with self.refusals():
            for name in names:
                self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name)

    @contextmanager
    def refusals(self) -> Iterator[None]:
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


Destination = Folder | Bucket
"""A place of files with names like `availability/month=2024-01/availability.parquet`."""


_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".atom": "application/atom+xml; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
}


def _headers(name: str) -> Any:
    """What a bucket that is a web site says of an object: its type, and how long it may be kept."""
    kept = "public, max-age=31536000, immutable" if is_hashed(name) else "no-cache"
    return {
        "ContentType": _TYPES.get(Path(name).suffix, "application/octet-stream"),
        "CacheControl": kept,
    }


def _lost_the_race(error: "ClientError") -> bool:
    """A conditional write that failed because another program wrote or removed the object."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in (409, 412) or error.response["Error"]["Code"] == "NoSuchKey"
