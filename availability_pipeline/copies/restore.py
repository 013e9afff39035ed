"""Putting a backup back in the record's place, and which dates are to be probed again."""

import datetime as dt
import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from availability_pipeline import files
from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.copies import _snapshot
from availability_pipeline.copies.backup import REMEDY, Manifest
from availability_pipeline.errors import BackupError, ProtectedFileError
from availability_pipeline.record import apart, connection
from availability_pipeline.record.status import scope


@dataclass(frozen=True)
class Outstanding:
    """Dates to probe again: never probed, or not settled when probed last.

    `start` is the first of them, and None when there are none.
    """

    start: dt.date | None
    unknown: int
    unsettled: int


def put_back(
    backup: Path, manifest: Manifest, database: Path, *, now: dt.datetime, wait_seconds: float = 60
) -> Path | None:
    """Replace the database by a verified backup atomically; the replaced one is kept beside it.

    Waits until no process has the database open; a later one opens the restored file.

    Args:
        backup: from `backup.newest_good`, with its manifest.
        manifest: what the copy is compared with.
        database: the record's file; made where it is missing.
        now: aware; the replaced database is named after it.
        wait_seconds: how long to wait for readers and writers.

    Returns:
        Where the replaced database is, or None if there was none.

    Raises:
        ProtectedFileError: the backup is the database itself.
        BackupError: a disk refuses, or the backup changed since it was verified.
        StoreBusyError: another process kept the database open for longer than the wait.
    """
    target = database.expanduser().resolve()
    if target.exists() and target.samefile(backup):
        raise ProtectedFileError(
            f"{backup} is the record itself; set AVAILABILITY_DB to where it is to be restored"
        )
    name = connection.with_suffix(target, ".restoring")
    try:
        files.private_folder(target.parent)
        with files.lock_file(name) as lock:
            _lock_alone(lock, name, target)
            try:
                with files.temporary_folder(target.parent, f".{target.name}.restoring-") as folder:
                    part = folder / "part"
                    apart.copy([(backup, part)])
                    if target.exists():
                        part.chmod(stat.S_IMODE(target.stat().st_mode))
                    else:
                        files.private(part)
                    _snapshot.sync(part)
                    if _snapshot.sha256(part) != manifest.sha256:
                        raise BackupError(f"{backup} changed while it was copied; {REMEDY}")
                    return _replace(part, target, now, wait_seconds)
            finally:
                name.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror
        if error.errno == errno.ELOOP:
            reason = f"{error.filename} {reason}"
        raise BackupError(
            f"cannot restore to {target}: {reason}; the record is as it was"
        ) from None


def outstanding(database: Path, today: dt.date, wait_seconds: float = 60) -> Outstanding:
    """What a restored database lacks up to yesterday.

    Dates before its first one are not counted: it never meant to hold them.
    """
    yesterday = today - dt.timedelta(1)
    connection.migrate(database, wait_seconds)
    with connection.reader(database, wait_seconds) as con:
        t = scope(con)
        [(first,)] = con.execute(f"SELECT min(date) FROM {t.probes}").fetchall()
        unknown = con.execute(
            f"""SELECT count(*), min(d) FROM (
                SELECT unnest(generate_series($1::DATE, $2::DATE, INTERVAL 1 DAY))::DATE AS d)
            WHERE d NOT IN (SELECT date FROM {t.probes})""",
            [first or FIRST_DATE, yesterday],
        ).fetchall()
        unsettled = con.execute(
            f"SELECT count(*), min(date) FROM {t.summary} WHERE pending > 0 AND date <= $1",
            [yesterday],
        ).fetchall()
    starts = [day for _, day in (*unknown, *unsettled) if day is not None]
    return Outstanding(min(starts, default=None), unknown[0][0], unsettled[0][0])


def _replace(part: Path, target: Path, now: dt.datetime, wait_seconds: float) -> Path | None:
    stamp = f".replaced-{now.astimezone(dt.UTC):%Y%m%dT%H%M%SZ}"
    kept = connection.with_suffix(target, stamp)
    while kept.exists():
        kept = connection.with_suffix(kept, "-2")
    with _alone(target, wait_seconds) as was_there:
        if was_there:
            try:
                os.link(target, kept)  # no moment without a database at its place
            except OSError:  # a file system without hard links
                apart.copy([(target, kept)])
                _snapshot.sync(kept)
        # A log of the old database must never be applied to the restored one.
        for suffix in connection.LOG_SUFFIXES:
            log = connection.with_suffix(target, suffix)
            if log.exists():
                log.rename(connection.with_suffix(kept, suffix))
        part.replace(target)
        _snapshot.sync(target.parent)
        if was_there:
            # Whatever opened the old file just before may still ask for its lock: let that fail.
            time.sleep(0.1)
    return kept if was_there else None


def _lock_alone(lock: BinaryIO, name: Path, target: Path) -> None:
    try:
        # Another restore removes its file at its end: the name may be a third one's by now.
        alone = files.try_lock(lock) and os.path.samestat(os.fstat(lock.fileno()), name.stat())
    except FileNotFoundError:
        alone = False
    if not alone:
        raise BackupError(f"another restore to {target} is running; try again when it is done")


@contextmanager
def _alone(target: Path, wait_seconds: float) -> Iterator[bool]:
    """Hold DuckDB's own lock on a database, also on one that DuckDB cannot open any more."""
    if not target.exists():
        yield False
        return
    patience = connection.Patience(target, wait_seconds, "; the record is as it was")
    # In the writers' turn: readers without a pause would keep it out until its wait is over.
    with connection.turn(target, patience, writing=True), apart.locked(target, patience.wait):
        yield True
