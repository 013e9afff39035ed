"""Backups: verified copies of the record in one folder, and which of them are kept.

Kept is the last one of each day, week and month, as restic does it: `kept` is a function from times
to times.
"""

import datetime as dt
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from availability_pipeline import PROGRAM, __version__, files
from availability_pipeline.copies import _snapshot
from availability_pipeline.errors import BackupError, ProtectedFileError, StoreError
from availability_pipeline.record import apart
from availability_pipeline.record.outputs import BACKUP_NAME
from availability_pipeline.record.schema import SCHEMA_VERSION

MAX_KEPT = 10_000
"""Largest number of days, weeks or months that can be asked for."""


@dataclass(frozen=True)
class Keep:
    """For how many days, weeks and months that have a backup the last one is kept.

    Days without a backup do not count, so a machine that was off for a month loses nothing. Weeks
    are those of ISO 8601. Everything is UTC.
    """

    daily: int = 7
    weekly: int = 4
    monthly: int = 12


def kept(times: Iterable[dt.datetime], keep: Keep) -> set[dt.datetime]:
    """The times (aware) whose backups stay; the newest always does.

    As in restic's `forget`, the oldest backup stays as long as one of the counts is not used up:
    otherwise a young collection could never grow old.
    """
    newest_first = sorted(set(times), reverse=True)
    chosen = set(newest_first[:1])
    for count, period in ((keep.daily, "%Y-%j"), (keep.weekly, "%G-%V"), (keep.monthly, "%Y-%m")):
        left, last = count, None
        for time in newest_first:
            if left <= 0:
                break
            current = f"{time.astimezone(dt.UTC):{period}}"
            if current != last or time == newest_first[-1]:
                chosen.add(time)
                left, last = left - 1, current
    return chosen


_STAMP = "%Y%m%dT%H%M%SZ"
_LOCK = ".availability-backup.lock"
_PART = ".availability-backup.part"
_AHEAD = dt.timedelta(hours=1)
"""How far ahead of now a backup's time may be; two machines' clocks differ by less."""

REMEDY = "choose an earlier backup, or make a new one"


class Manifest(BaseModel):
    """What is written beside a backup, as JSON."""

    model_config = ConfigDict(frozen=True)

    file: str
    created_at: AwareDatetime
    sha256: str
    bytes: int
    schema_version: int
    package_version: str
    first_date: dt.date | None
    last_date: dt.date | None
    last_probe: AwareDatetime | None
    tables: dict[str, int]
    # Of each dataset; none in backups of before version 4 of the tables.
    datasets: tuple[_snapshot.Held, ...] = ()
    # Counts the backups of a folder; 0 in those of version 0.1. Which one is the newest must not
    # depend on a clock: one that was ahead for an hour would make its backup the newest for years.
    number: int = 0

    @property
    def counted(self) -> str:
        """What `rows` counts: files, or rows of a version of the tables that had absent ones."""
        return "files" if "files" in self.tables else "rows"

    @property
    def rows(self) -> int:
        """Files that are recorded; before version 4 of the tables, rows of `daily_availability`."""
        return self.tables.get("files", self.tables.get("daily_availability", 0))

    @property
    def span(self) -> str:
        """Its first and last date, or month where it holds months only, in words."""
        if self.first_date is None or self.last_date is None:
            return "no date"
        frequencies = {held.dataset.split("/")[1:2] == ["monthly"] for held in self.datasets}
        texts = [f"{date}"[: 7 if frequencies == {True} else 10]
                 for date in (self.first_date, self.last_date)]  # fmt: skip
        return " to ".join(texts)


@dataclass(frozen=True)
class Made:
    """A new backup, the old ones that made room for it, and those dated in the future."""

    path: Path
    manifest: Manifest
    removed: tuple[Path, ...]
    future: tuple[Path, ...] = ()


def make(
    source: Path,
    folder: Path,
    *,
    now: dt.datetime,
    keep: Keep,
    wait_seconds: float = 60,
) -> Made:
    """Copy the record into `folder`, verify the copy, then remove old backups.

    Nothing is removed that is not named like ours, nor the newest, nor anything before the new
    one is whole and flushed to the disk.

    Args:
        source: the database; it may be in use.
        folder: made where it is missing.
        now: aware; the backup is named after it.
        keep: which older backups stay.
        wait_seconds: how long to wait for a writer.

    Raises:
        StoreError: the record cannot be read, or the folder not be written.
        ProtectedFileError: the record itself is in the folder and named like a backup.
    """
    with _refused_by(folder), _alone_in(folder):
        _refuse_record(source, folder)
        when = now.astimezone(dt.UTC).replace(microsecond=0)
        while (path := folder / f"availability-{when:{_STAMP}}.duckdb").exists():
            when += dt.timedelta(seconds=1)  # a second one in the same second
        with files.temporary_folder(folder, _PART) as work:
            part = work / "part"
            _snapshot.take(source, part, wait_seconds)
            manifest = _described(source, part, path.name, when, _next_number(folder))
            beside = work / "manifest"
            beside.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
            files.sync(beside)
            for made in (part, beside):
                files.private(made)
            beside.replace(_manifest_path(path))
            part.replace(path)
            files.sync(folder)
        removed, future = _forget(folder, path, keep, when)
        return Made(path, manifest, removed, future)


def _refuse_record(source: Path, folder: Path) -> None:
    """One day it would count as an old backup, and be removed."""
    for path in folder.iterdir():
        if _time(path) and source.exists() and path.samefile(source):
            raise ProtectedFileError(
                f"the record {source} is {path} itself, which is named like a backup; choose "
                "another folder, or give the record another name"
            )


def verify(path: Path) -> Manifest:
    """Verify a backup: checksum, schema, row counts, uniqueness, and that its view answers.

    Raises:
        BackupError: it is damaged, cut short, foreign, or newer than this package.
    """
    with _refused_by(path):
        manifest = _read_manifest(path)
        size = path.stat().st_size
        if size != manifest.bytes:
            raise BackupError(
                f"{path} is cut short or not the file of its manifest: {size:,} bytes, not "
                f"{manifest.bytes:,}; {REMEDY}"
            )
        if apart.sha256(path) != manifest.sha256:
            raise BackupError(f"{path} is damaged: its SHA-256 is not its manifest's; {REMEDY}")
        try:
            found = _snapshot.examine(path)
        except StoreError as error:
            raise BackupError(f"{path} does not verify: {error}") from None
        said = (manifest.tables, manifest.schema_version, manifest.datasets or found.datasets)
        if (found.tables, found.schema_version, found.datasets) != said:
            raise BackupError(f"{path} holds other rows than its manifest says; {REMEDY}")
    return manifest


def backups(folder: Path) -> list[Path]:
    """The folder's backups, the last one made first, not verified.

    In the order in which they were made, as their manifests count them, and not by the times in
    their names: a clock may have been ahead or behind.

    Raises:
        BackupError: the folder cannot be read, or has none.
    """
    with _refused_by(folder):
        found = sorted(
            (p for p in folder.iterdir() if _time(p)),
            key=lambda path: (_number(path), path.name),
            reverse=True,
        )
    if not found:
        raise BackupError(f"{folder} has no backup; make one with `{PROGRAM} backup`")
    return found


def newest_good(source: Path) -> tuple[Path, Manifest, list[str]]:
    """`source` itself, or the newest good backup of that folder; verified.

    Returns:
        Path and manifest, and for each newer one that was passed over one line that says why.

    Raises:
        BackupError: `source` is not a good backup, or the folder has none.
    """
    if not source.is_dir():
        return source, verify(source), []
    passed_over: list[str] = []
    for path in backups(source):
        try:
            return path, verify(path), passed_over
        except BackupError as error:
            passed_over.append(str(error))
    raise BackupError(
        f"none of the {len(passed_over)} backups in {source} is good; the newest: {passed_over[0]}"
    )


def dated_in_the_future(paths: Iterable[Path], now: dt.datetime) -> tuple[Path, ...]:
    """Those of these backups whose names are later than `now` (aware): a clock was wrong."""
    return tuple(p for p in paths if (time := _time(p)) and time > now + _AHEAD)


def _next_number(folder: Path) -> int:
    return 1 + max((_number(path) for path in folder.iterdir() if _time(path)), default=0)


def _number(path: Path) -> int:
    """How many backups were made before in its folder; 0 where its manifest does not say."""
    try:
        return Manifest.model_validate_json(_manifest_path(path).read_bytes()).number
    except (OSError, ValidationError):
        return 0


def _described(source: Path, part: Path, name: str, when: dt.datetime, number: int) -> Manifest:
    try:
        found = _snapshot.examine(part)
    except StoreError as error:
        reason = str(error).replace(str(part), "its copy")
        raise BackupError(f"cannot back up {source}: {reason}; no backup was removed") from None
    return Manifest(
        file=name,
        created_at=when,
        sha256=_snapshot.sha256(part),
        bytes=part.stat().st_size,
        package_version=__version__,
        number=number,
        **asdict(found),
    )


def _read_manifest(path: Path) -> Manifest:
    if not os.access(path, os.R_OK):  # the first thing to say; opening it: see `apart`
        code = errno.EACCES if path.exists() else errno.ENOENT
        raise OSError(code, os.strerror(code), str(path))
    beside = _manifest_path(path)
    try:
        text = beside.read_bytes()
    except FileNotFoundError:
        raise BackupError(
            f"{path} is not a backup of ours: it has no manifest {beside.name} beside it"
        ) from None
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BackupError(f"{beside} is damaged ({error.errors()[0]['msg']}); {REMEDY}") from None
    if manifest.schema_version > SCHEMA_VERSION:
        raise BackupError(
            f"{path} has schema version {manifest.schema_version}, this package knows up to "
            f"{SCHEMA_VERSION}; upgrade {PROGRAM}"
        )
    return manifest


def _forget(
    folder: Path, new: Path, keep: Keep, now: dt.datetime
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    times = {path: time for path in folder.iterdir() if (time := _time(path))}
    # Backups dated in the future say nothing about days that are over, so they take no place of
    # one that does; and they stay, because it may be today's clock that is wrong.
    future = set(dated_in_the_future(times, now))
    stay = kept((time for p, time in times.items() if p not in future), keep)
    # The new one also where the clock went back and an old one bears a later name.
    gone = sorted(p for p, t in times.items() if t not in stay and p != new and p not in future)
    for path in gone:
        path.unlink()
        _manifest_path(path).unlink(missing_ok=True)
    return tuple(gone), tuple(sorted(future))


def _time(path: Path) -> dt.datetime | None:
    named = BACKUP_NAME.fullmatch(path.name)
    if not named:
        return None
    try:
        return dt.datetime.strptime(named[1], _STAMP).replace(tzinfo=dt.UTC)
    except ValueError:
        return None


def _manifest_path(path: Path) -> Path:
    return path.with_suffix(".json")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    files.private_folder(folder)
    with files.lock_file(folder / _LOCK) as lock:
        if not files.try_lock(lock):
            raise BackupError(
                f"another backup is being written to {folder}; try again when it is done"
            )
        yield


@contextmanager
def _refused_by(place: Path) -> Iterator[None]:
    """What the file system refuses, as one line."""
    try:
        yield
    except OSError as error:
        raise BackupError(
            f"{error.filename or place}: {error.strerror}; choose another place, or make room and "
            "give permission there"
        ) from None
    except duckdb.Error as error:
        raise BackupError(f"{place}: {str(error).splitlines()[0][:300]}") from None
