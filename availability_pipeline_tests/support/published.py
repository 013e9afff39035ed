"""A published record in a folder: what `follow` reads of it, cut from a file as the format says."""

import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any

from availability_pipeline.copies.publication import (
    HEADER_BYTES,
    LATEST,
    PIECE_BYTES,
    Database,
    piece_path,
)
from availability_pipeline.record.schema import SCHEMA_VERSION

NOON = dt.datetime(2024, 3, 1, 12, tzinfo=dt.UTC)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def publish(
    record: Path,
    root: Path,
    at: dt.datetime = NOON,
    *,
    header_bytes: int = HEADER_BYTES,
    piece_bytes: int = PIECE_BYTES,
) -> Database:
    """Publish a closed record; the pieces of earlier publications stay."""
    content = record.read_bytes()
    starts = [0, *range(header_bytes, len(content), piece_bytes)]
    ends = [*starts[1:], len(content)]
    pieces = [content[start:end] for start, end in zip(starts, ends, strict=True)]
    for piece in pieces:
        put(root / piece_path(sha256(piece)), piece)
    database = Database(
        bytes=len(content),
        sha256=sha256(content),
        schema_version=SCHEMA_VERSION,
        last_probe=at,
        header_bytes=header_bytes,
        piece_bytes=piece_bytes,
        pieces=[sha256(piece) for piece in pieces],
    )
    name(root, at, json.loads(database.model_dump_json()))
    return database


def name(root: Path, at: dt.datetime, database: dict[str, Any], **more: Any) -> None:
    """Write a manifest and `latest.json` with these fields of the database; `more` are others."""
    publication = f"{at:%Y%m%dT%H%M%SZ}-{database['sha256'][:8]}"
    said = {
        "format": 1, "publication": publication, "published_at": at.isoformat(),
        "package_version": "0.3.0", "schema_version": SCHEMA_VERSION, "files": [],
        "database": database, "snapshot": None, "superseded": [],
    } | more  # fmt: skip
    manifest = json.dumps(said).encode()
    path = f"manifests/{publication}.json"
    put(root / path, manifest)
    latest(root, at, publication=publication,
           manifest={"path": path, "bytes": len(manifest), "sha256": sha256(manifest)})  # fmt: skip


def latest(root: Path, at: dt.datetime, **more: Any) -> None:
    """Write `latest.json`, with these fields in place of those that are there."""
    path = root / LATEST
    before = json.loads(path.read_bytes()) if path.exists() else {}
    documents = {n: f"{n}-0123456789abcdef.json" for n in ("datasets", "symbols", "news")}
    said = {"format": 1, "published_at": at.isoformat(), "last_probe": at.isoformat(),
            "documents": documents}  # fmt: skip
    put(path, json.dumps(before | said | more).encode())


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def content(root: Path) -> dict[str, bytes]:
    """Every file of a site, by its path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
