"""The record as Parquet or CSV files with a manifest, for programs that do not speak DuckDB.

One dataset is exported as files at the top of the destination, several as a folder for each, as
`um/daily/klines/1m/`, with the same files in it.

The files are made from a copy of the record (`_snapshot`), so a writer waits for 0.05 s and not for
the export. A dataset that was not written to since is not read, and a file whose rows are unchanged
is left alone: of the months of a daily update one or two are written again. `manifest.json` is
replaced last. With `versioned` names no file is ever changed, and the files of the manifest before
stay until the next export: who follows the manifest sees the old set or the new one, on S3 too.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from availability_pipeline import __version__
from availability_pipeline.archive.datasets import MARKETS, select
from availability_pipeline.copies import _snapshot
from availability_pipeline.copies.destinations import Destination, Stored
from availability_pipeline.errors import ExportError
from availability_pipeline.record import connection
from availability_pipeline.record.schema import SCHEMA_VERSION, version_1_sql
from availability_pipeline.record.status import Scope, recorded_datasets, scope

MANIFEST = "manifest.json"

_CLAIM = ".availability-export.claim"
"""Names that an export is about to use for the first time: after a kill, the next one knows that
these files are ours although no manifest names them."""

ORDER = {
    "availability": "date, symbol",
    "symbol_spans": "symbol",
    "daily_summary": "date",
    "revisions": "observed_at, date, symbol",
    "symbols": "symbol",
    "probes": "date",
    "acknowledgements": "date, symbol NULLS FIRST",
}
"""Table -> how its rows are sorted; the first three are always exported."""

_OURS = re.compile(
    rf"(?:(?:{'|'.join(MARKETS)})/(?:daily|monthly)/[A-Za-z0-9]+/(?:[0-9a-z]+/)?)?"
    rf"(?:(?:{'|'.join(ORDER)})/(?:month=\d{{4}}-\d{{2}}|year=\d{{4}})/)?(?:{'|'.join(ORDER)})"
    r"(-[0-9a-f]{16})?\.(?:parquet|csv)"
)


@dataclass(frozen=True)
class Form:
    """What the files are like.

    Args:
        format: Parquet with zstd, or CSV in UTF-8 with times in ISO 8601, UTC.
        by_month: `availability` as one file a month, or a year of monthly files, in Hive's layout;
            or as one file.
        everything: all tables, or availability, symbol listings and daily summary only.
        versioned: names that carry their content's hash, so that no file ever changes.
        datasets: names and patterns of the recorded datasets, `all` for all of them; the first
            recorded one when left out. Where they choose several each has a folder.
    """

    format: Literal["parquet", "csv"] = "parquet"
    by_month: bool = False
    everything: bool = False
    versioned: bool = False
    datasets: str | None = None


class File(BaseModel):
    """One file of the manifest.

    `content` shows whether its rows have changed since, `etag` what S3 answered to its upload.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    table: str
    # None in manifests of version 0.1.
    dataset: str | None = None
    rows: int
    first_date: dt.date | None
    last_date: dt.date | None
    bytes: int
    sha256: str
    content: str
    etag: str | None = None


class Contained(BaseModel):
    """A dataset of the manifest; its dates are months, by their first day, of monthly files.

    `state` shows whether anything of it was written since.
    """

    model_config = ConfigDict(frozen=True)

    dataset: str
    folder: str
    state: str
    rows: dict[str, int]
    first_date: dt.date | None
    last_date: dt.date | None
    last_probe: AwareDatetime | None


class Manifest(BaseModel):
    """`manifest.json`: the set of files, and what they were made from.

    `rows` and the dates are those of all `datasets` together.
    """

    model_config = ConfigDict(frozen=True)

    created_at: AwareDatetime
    package_version: str
    schema_version: int
    format: str
    rows: dict[str, int]
    first_date: dt.date | None
    last_date: dt.date | None
    last_probe: AwareDatetime | None
    datasets: list[Contained] = []
    files: list[File]
    superseded: list[str]


@dataclass(frozen=True)
class Exported:
    """What an export did: names of the files written, left alone and removed."""

    manifest: Manifest
    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    """The rows of one file to be, and what shows that they have changed."""

    scope: Scope
    folder: str
    table: str
    part: str
    rows: int
    first_date: dt.date | None
    last_date: dt.date | None
    content: str

    def name(self, form: Form, sha256: str) -> str:
        part = f"{self.table}/{self.part}/" if self.part else ""
        version = f"-{sha256[:16]}" if form.versioned else ""
        return f"{self.folder}{part}{self.table}{version}.{form.format}"

    @property
    def key(self) -> tuple[str, str, str]:
        """The same for the same rows: files are known by it."""
        return str(self.scope.dataset), self.table, self.content


def export(
    source: Path, to: Destination, form: Form, *, now: dt.datetime, wait_seconds: float = 60
) -> Exported:
    """Write the record's files to a destination, the manifest last.

    Args:
        source: the database; it may be in use.
        to: from `destinations.destination`.
        form: what the files are like.
        now: aware; noted in the manifest.
        wait_seconds: how long to wait for a writer.

    Raises:
        StoreError: the record cannot be read.
        ExportError: the destination refuses, or holds a manifest that is not ours.
        UnknownDatasetError: a name or pattern is of no recorded dataset.
    """
    try:
        with to.staging() as staging:
            return _export(source, to, form, staging, now=now, wait_seconds=wait_seconds)
    except OSError as error:
        raise ExportError(
            f"{to}: {error.strerror}; choose another destination, or make room and give "
            "permission there"
        ) from None
    except duckdb.Error as error:
        raise ExportError(f"cannot export to {to}: {str(error).splitlines()[0][:300]}") from None


def read_manifest(to: Destination) -> tuple[Manifest | None, Stored | None]:
    """The destination's manifest and where it is; None where there is none yet.

    Raises:
        ExportError: the destination refuses, or its manifest is not ours.
    """
    found = to.read(MANIFEST)
    if found is None:
        return None, None
    try:
        return Manifest.model_validate_json(found[0]), found[1]
    except ValidationError:
        raise ExportError(
            f"{to} holds a {MANIFEST} that is not ours; choose another destination"
        ) from None


def _export(
    source: Path, to: Destination, form: Form, staging: Path, *, now: dt.datetime,
    wait_seconds: float,
) -> Exported:  # fmt: skip
    old, manifest_there = read_manifest(to)
    there = to.stored()
    before = {(f.dataset, f.table, f.content): f for f in old.files} if old else {}
    files: list[File] = []
    written: list[str] = []
    copy = staging / "record.duckdb"
    _snapshot.take(source, copy, wait_seconds)
    with connection.reader(copy, 0, only_in=[staging]) as con:
        chosen = _chosen(con, form)
        states = {folder: _state(con, t, folder, form) for folder, t in chosen.items()}
        pieces: list[_Piece] = []
        for folder, t in chosen.items():
            if same := _unchanged(old, to, t, states[folder]):
                files += same
            else:
                pieces += _pieces(con, t, folder, form)
        claimed = _claim(to, files, pieces, form, old, there, source, staging)
        for piece in pieces:
            known = before.get(piece.key)
            if (
                known
                and known.path == piece.name(form, known.sha256)
                and to.holds(known.path, Stored(known.bytes, known.etag), known.sha256)
            ):
                files.append(known)
                continue
            staged = staging / f"file.{form.format}"
            _write(con, piece, form, staged)
            sha256 = _snapshot.sha256(staged)
            name = piece.name(form, sha256)
            put = to.put(name, staged, there.get(name))
            file = File(
                path=name,
                table=piece.table,
                dataset=str(piece.scope.dataset),
                rows=piece.rows,
                first_date=piece.first_date,
                last_date=piece.last_date,
                bytes=put.bytes,
                sha256=sha256,
                content=piece.content,
                etag=put.version,
            )
            files.append(file)
            written.append(file.path)
        contained = [
            _contained(con, t, folder, states[folder], files, form) for folder, t in chosen.items()
        ]
        order = {each.dataset: n for n, each in enumerate(contained)}
        files.sort(key=lambda file: order[file.dataset or ""])  # a stable sort
    now_there = {f.path for f in files}
    replaced = {f.path for f in old.files} - now_there if old else set()
    manifest = Manifest(
        created_at=now.astimezone(dt.UTC).replace(microsecond=0),
        package_version=__version__,
        schema_version=SCHEMA_VERSION,
        format=form.format,
        rows={t: sum(each.rows[t] for each in contained) for t in _tables(form)},
        first_date=min((c.first_date for c in contained if c.first_date), default=None),
        last_date=max((c.last_date for c in contained if c.last_date), default=None),
        last_probe=max((c.last_probe for c in contained if c.last_probe), default=None),
        datasets=contained,
        files=files,
        superseded=sorted(replaced) if form.versioned else [],
    )
    staged = staging / "manifest"
    staged.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    to.put(MANIFEST, staged, manifest_there)
    if claimed:
        to.remove([_CLAIM])
    # Only what is named like ours: what a manifest named, and versions no manifest names any more.
    named = replaced | set(old.superseded if old else ())
    needed = now_there | set(manifest.superseded)
    gone = sorted(
        name
        for name in there
        if name not in needed
        and (match := _OURS.fullmatch(name))
        and (name in named or (form.versioned and match[1] and _has_hash(to, name, match[1])))
    )
    to.remove(gone)
    unchanged = tuple(f.path for f in files if f.path not in written)
    return Exported(manifest, tuple(written), unchanged, tuple(gone))


def _claim(
    to: Destination, same: list[File], pieces: list[_Piece], form: Form, old: Manifest | None,
    there: Mapping[str, Stored], source: Path, staging: Path,
) -> bool:  # fmt: skip
    """Refuse names that are taken by other files; claim those that no manifest of ours names yet.

    The files in `same` stay, those of `pieces` may be written. Versioned names carry the hash of
    the content: who has them has our files.

    Raises:
        ExportError: a file of that name is there, and neither a manifest nor a claim has it.
        ProtectedFileError: it is the record, a backup or Dagster's.
    """
    names = [] if form.versioned else [piece.name(form, "") for piece in pieces]
    to.refuse_protected([*(file.path for file in same), *names, MANIFEST], source)
    named = {f.path for f in old.files} | set(old.superseded) if old else set()
    new = [name for name in names if name not in named]
    if not new:
        return False
    found = to.read(_CLAIM)
    claimed = set(found[0].decode("utf-8", "replace").splitlines()) if found else set()
    if foreign := sorted(name for name in new if name in there and name not in claimed):
        raise ExportError(
            f"{to} holds {', '.join(foreign[:3])}, which no manifest of ours names; choose "
            "another destination, or move it away"
        )
    if not claimed.issuperset(new):
        staged = staging / "claim"
        staged.write_text("\n".join([*new, ""]), encoding="utf-8")
        to.put(_CLAIM, staged, found[1] if found else None)
    return True


def _has_hash(to: Destination, name: str, named: str) -> bool:
    """Whether a file that no manifest names is one of ours, left by an export that was killed."""
    found = to.read(name)
    return found is not None and hashlib.sha256(found[0]).hexdigest()[:16] == named[1:]


def _tables(form: Form) -> list[str]:
    return list(ORDER) if form.everything else list(ORDER)[:3]


def _chosen(con: duckdb.DuckDBPyConnection, form: Form) -> dict[str, Scope]:
    """The datasets to export, each with its folder: the destination itself for a single one."""
    if form.datasets is None:
        return {"": scope(con)}
    there = recorded_datasets(con)
    # An empty record has no dataset: it is exported as empty files.
    found = select(form.datasets, there) if there else (None,)
    if len(found) == 1:
        return {"": scope(con, found[0])}
    return {f"{dataset}/": scope(con, dataset) for dataset in found}


def _state(con: duckdb.DuckDBPyConnection, t: Scope, folder: str, form: Form) -> str:
    """The same as long as the dataset's files would be the same."""
    wanted = f"{form.by_month:d}{form.everything:d}{form.versioned:d}"
    return f"{_versions(form)}-{folder}-{wanted}-{_snapshot.state(con, t)}"


def _versions(form: Form) -> str:
    """Rows that hash alike under one version of DuckDB and of this package make the same file."""
    return f"{form.format}-{__version__}-{SCHEMA_VERSION}-{duckdb.__version__}"


def _unchanged(old: Manifest | None, to: Destination, t: Scope, state: str) -> list[File]:
    """The files of a dataset if all are there and nothing was written to it since; else none."""
    name = str(t.dataset)
    if old is None or state not in {one.state for one in old.datasets if one.dataset == name}:
        return []
    files = [file for file in old.files if file.dataset == name]
    held = (to.holds(f.path, Stored(f.bytes, f.etag), f.sha256) for f in files)
    return files if all(held) else []


def _contained(
    con: duckdb.DuckDBPyConnection, t: Scope, folder: str, state: str, files: list[File], form: Form
) -> Contained:
    [(first, last, probe)] = con.execute(
        f"SELECT min(date), max(date), max(probed_at) FROM {t.probes}"
    ).fetchall()
    mine = [file for file in files if file.dataset == str(t.dataset)]
    return Contained(
        dataset=str(t.dataset),
        folder=folder,
        state=state,
        rows={table: sum(f.rows for f in mine if f.table == table) for table in _tables(form)},
        first_date=first,
        last_date=last,
        last_probe=probe and probe.astimezone(dt.UTC),
    )


def _pieces(con: duckdb.DuckDBPyConnection, t: Scope, folder: str, form: Form) -> Iterator[_Piece]:
    versions = _versions(form)
    unit = "year=%Y" if t.dataset.monthly else "month=%Y-%m"
    for table in _tables(form):
        dated = table in ("availability", "daily_summary", "revisions", "probes")
        in_parts = form.by_month and table == "availability"
        part = f"strftime(date, '{unit}')" if in_parts else "''"
        dates = "min(date), max(date)" if dated else "NULL, NULL"
        found = con.execute(
            f"""SELECT {part} AS part, count(*), {dates}, bit_xor(hash(t)), sum(hash(t))
            FROM (FROM {_source(t, table)}) t GROUP BY 1 ORDER BY 1"""
        ).fetchall()
        for name, rows, first, last, mixed, total in found or [("", 0, *[None] * 4)]:
            if in_parts and not name:
                continue  # no rows at all: no month either
            content = f"{versions}-{name}-{rows}-{mixed or 0:x}-{int(total or 0):x}"
            yield _Piece(t, folder, table, name, rows, first, last, content)


def _source(t: Scope, table: str) -> str:
    """What to put after FROM for a table of the export."""
    return {
        "availability": f"({version_1_sql(str(t.id))})",
        "symbol_spans": t.listings,
        "daily_summary": t.summary,
        "revisions": t.revisions,
        "symbols": t.symbols,
        "probes": f"(SELECT * EXCLUDE (settled_at, settled) FROM {t.probes})",
        "acknowledgements": t.acknowledgements,
    }[table]


def _write(con: duckdb.DuckDBPyConnection, piece: _Piece, form: Form, path: Path) -> None:
    where, args, order = "", {}, ORDER[piece.table]
    if piece.part:
        where = "WHERE date BETWEEN $first AND $last"
        args = {"first": piece.first_date, "last": piece.last_date}
    rows: Any = con.sql(
        f"FROM {_source(piece.scope, piece.table)} {where} ORDER BY {order}",
        params=args,
    )
    if form.format == "parquet":
        rows.write_parquet(str(path), compression="zstd")
    else:
        rows.write_csv(str(path), header=True, timestamp_format="%Y-%m-%dT%H:%M:%S.%fZ")
