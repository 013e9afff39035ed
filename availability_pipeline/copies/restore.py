"""Putting a backup back in the record's place, and which dates are to be probed again."""

import datetime as dt
import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import duckdb

from availability_pipeline import files
from availability_pipeline.archive.datasets import CATALOGUE, UM_KLINES_1M, Dataset
from availability_pipeline.copies import _snapshot
from availability_pipeline.copies.backup import REMEDY, Manifest
from availability_pipeline.errors import BackupError, ProtectedFileError
from availability_pipeline.record import apart, connection, followed
from availability_pipeline.record.status import Scope, recorded_datasets, scope


@dataclass(frozen=True)
class Outstanding:
    """Periods of a dataset to probe again: never probed, or not settled when probed last.

    Attributes:
        dataset: which.
        start: the first of them; None when there are none.
        end: the last period that is over and can have a file.
        unknown, unsettled: how many there are of either kind, up to `end`.
    """

    dataset: Dataset
    start: dt.date | None
    end: dt.date
    unknown: int
    unsettled: int


@dataclass(frozen=True)
class Lacking:
    """What a restored database lacks.

    Attributes:
        outstanding: of each dataset that it holds and that is configured.
        unheld: configured datasets that it does not hold.
        unconfigured: datasets that it holds and that are not configured: not probed again.
    """

    outstanding: tuple[Outstanding, ...]
    unheld: tuple[Dataset, ...] = ()
    unconfigured: tuple[Dataset, ...] = ()


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
        ProtectedFileError: the backup is the database itself, or that is a followed copy.
        BackupError: a disk refuses, or the backup changed since it was verified.
        StoreBusyError: another process kept the database open for longer than the wait.
    """
    target = database.expanduser().resolve()
    if target.exists() and target.samefile(backup):
        raise ProtectedFileError(
            f"{backup} is the record itself; set AVAILABILITY_DB to where it is to be restored"
        )
    followed.refuse_writing(target)
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
                    files.sync(part)
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


def lacking(
    database: Path,
    today: dt.date,
    wait_seconds: float = 60,
    configured: Sequence[Dataset] | None = None,
) -> Lacking:
    """What a restored database lacks up to yesterday, or up to the last month that is over.

    Periods before the first one of a dataset are not counted: it never meant to hold them. One
    that holds no dataset at all lacks those that are configured from their first period on.

    Args:
        database: the record's file, migrated where it is of an earlier version.
        today: the UTC date.
        wait_seconds: how long to wait for readers and writers.
        configured: the datasets that are probed; those that it holds when left out.
    """
    connection.migrate(database, wait_seconds)
    with connection.reader(database, wait_seconds) as con:
        held = recorded_datasets(con)
        wanted = configured or held or [UM_KLINES_1M]
        probed = [one for one in wanted if one in held or not held]
        return Lacking(
            tuple(_outstanding(con, scope(con, one), today) for one in probed),
            tuple(one for one in wanted if one not in probed),
            tuple(one for one in held if one not in wanted),
        )


def _outstanding(con: duckdb.DuckDBPyConnection, t: Scope, today: dt.date) -> Outstanding:
    entry = CATALOGUE.get(t.dataset.kind)
    end = t.dataset.shift(t.dataset.period_of(today), -1)
    if entry and entry.last:
        end = min(end, entry.last)
    known = {date for (date,) in con.execute(f"SELECT date FROM {t.probes}").fetchall()}
    unknown = [date for date in t.dataset.periods(min(known, default=t.first_period), end)
               if date not in known]  # fmt: skip
    unsettled = con.execute(
        f"SELECT date FROM {t.summary} WHERE pending > 0 AND date <= $1", [end]
    ).fetchall()
    dates = [*unknown, *(date for (date,) in unsettled)]
    return Outstanding(t.dataset, min(dates, default=None), end, len(unknown), len(unsettled))


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
                files.sync(kept)
        # A log of the old database must never be applied to the restored one.
        for suffix in connection.LOG_SUFFIXES:
            log = connection.with_suffix(target, suffix)
            if log.exists():
                log.rename(connection.with_suffix(kept, suffix))
        part.replace(target)
        files.sync(target.parent)
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
