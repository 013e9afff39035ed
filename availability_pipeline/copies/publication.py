"""The format of a published record, version 1: `latest.json`, the manifest, names of files.

docs/register.md describes it for people who fetch. Every file of a publication but the plain copies
has its content's hash in its name and never changes; `latest.json`, which is replaced last, names
the manifest, and that everything else. So who starts there has one publication, whole.
"""

import datetime as dt
import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

FORMAT = 1
"""Of everything that is published; another number is one that this package does not read."""

LATEST = "latest.json"
RECORD = "record.duckdb"

HEADER_BYTES, PIECE_BYTES = 12_288, 262_144
"""A DuckDB file is three headers of 4,096 bytes and blocks of 262,144, written to new places: a day
in each of 100 datasets makes 1 % of the pieces new (`python -m benchmarks.register`)."""

_HASHED = re.compile(r"-[0-9a-f]{16}(?=\.[a-z]+\Z)")

# In pydantic's regular expressions `$` is the end, and not before a newline too.
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_PART = "[A-Za-z0-9][A-Za-z0-9=_.-]*"
Path = Annotated[str, StringConstraints(pattern=rf"^{_PART}(/{_PART})*$", max_length=500)]
"""Relative to the root of the site; it cannot lead out of it."""


class _Model(BaseModel):
    # A later version may add fields to format 1; what is not known is passed over.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Link(_Model):
    """A file that is named by another one."""

    path: Path
    bytes: int = Field(ge=0)
    sha256: Sha256


class Documents(_Model):
    """The paths at which a reader of all datasets begins."""

    datasets: Path
    symbols: Path
    news: Path


class Latest(_Model):
    """`latest.json`: which publication is the newest."""

    format: Literal[1]
    publication: str
    published_at: AwareDatetime
    last_probe: AwareDatetime | None
    manifest: Link
    documents: Documents


class File(Link):
    """One file of a publication.

    Attributes:
        name: without the hash; under it lies a copy of most documents.
        dataset: whose; None where it is of all.
        content: the same for the same rows; of use to the publisher only.
    """

    name: Path
    dataset: str | None = None
    content: str | None = None


class Database(_Model):
    """The record, a DuckDB file, in pieces; joined in their order they are the file.

    The first has `header_bytes`, all others `piece_bytes`, but for the last, which may be shorter.
    """

    bytes: int = Field(ge=1)
    sha256: Sha256
    schema_version: int
    last_probe: AwareDatetime | None
    header_bytes: int = Field(ge=1)
    piece_bytes: int = Field(ge=1)
    pieces: list[Sha256]

    def spans(self) -> Iterator[tuple[str, int, int]]:
        """Each piece with where it begins and its bytes."""
        start = 0
        for number, sha256 in enumerate(self.pieces):
            size = self.piece_bytes if number else self.header_bytes
            size = min(size, self.bytes - start)
            yield sha256, start, size
            start += size


class Snapshot(Link):
    """The whole record as one file, which is replaced more seldom than the pieces."""

    last_probe: AwareDatetime | None
    published_at: AwareDatetime


class Superseded(_Model):
    """A file that no publication needs since then; it stays for a while."""

    path: Path
    since: AwareDatetime


class Manifest(_Model):
    """All files of a publication."""

    format: Literal[1]
    publication: str
    published_at: AwareDatetime
    package_version: str
    schema_version: int
    files: list[File]
    database: Database
    snapshot: Snapshot | None
    superseded: list[Superseded]

    def paths(self) -> set[str]:
        """Every path that this publication needs, but `latest.json`, its own and plain copies."""
        return {file.path for file in self.files} | {piece_path(p) for p in self.database.pieces}


def piece_path(sha256: str) -> str:
    """Where a piece of the record lies."""
    return f"record/{sha256[:2]}/{sha256}.piece"


def hashed(name: str, sha256: str) -> str:
    """A name with its content's hash, before the ending."""
    stem, dot, ending = name.rpartition(".")
    return f"{stem}-{sha256[:16]}{dot}{ending}"


def is_hashed(path: str) -> bool:
    """Whether a path is of a file that never changes."""
    return bool(_HASHED.search(path)) or path.endswith(".piece") or path.startswith("manifests/")


def instant(time: dt.datetime | None) -> str | None:
    """`2026-11-25T02:00:05Z`."""
    return f"{time.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}" if time else None
