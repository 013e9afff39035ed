"""Opening the DuckDB file: one writer or many readers, each waiting its turn.

Belongs here: connecting, waiting, and the sentence for every way in which that fails. Does not
belong here: the tables (`schema`) and what is written (`store`, which hands `reader` and `writer`
on: import them from there).

While one process has the file open for writing, no other can open it, not even to read; inside
one process the two kinds of connection cannot coexist either. So a writer holds the file for one
short transaction, and everybody else waits, bounded.
"""

import fcntl
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from availability_pipeline.schema import (
    REMEDY_FOREIGN,
    REMEDY_MISSING,
    check_schema,
    ensure_schema,
)
from availability_pipeline.store_errors import (
    DamagedDatabaseError,
    ForeignDatabaseError,
    FullDiskError,
    MissingDatabaseError,
    StoreBusyError,
    StoreError,
    UnwritableDatabaseError,
)

_MAGIC = b"DUCK"  # at byte 8 of every DuckDB file


@contextmanager
def writer(
    path: str | Path, wait_seconds: float = 60, settle_days: int = 3
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-write connection; makes folder, file and tables where they are missing.

    Args:
        path: the DuckDB file.
        wait_seconds: how long to wait for others to let go of it.
        settle_days: days after which an absence counts as confirmed; kept in the file.

    Raises:
        StoreError: as one of its subclasses; see `store_errors`.
    """
    path = Path(path).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableDatabaseError(
            f"cannot make the folder of {path}: {error.strerror}; {REMEDY_FOREIGN}"
        ) from None
    with _connected(path, read_only=False, wait_seconds=wait_seconds) as con:
        ensure_schema(con, settle_days)
        yield con


@contextmanager
def reader(
    path: str | Path, wait_seconds: float = 60, *, older_too: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection; never creates a file.

    Args:
        path: the DuckDB file.
        wait_seconds: how long to wait for a writer to finish.
        older_too: also open a database that a writer would migrate first; for backups.

    Raises:
        StoreError: as one of its subclasses; see `store_errors`.
    """
    path = Path(path).expanduser()
    if not _exists(path):
        raise MissingDatabaseError(f"there is no database at {path}; {REMEDY_MISSING}")
    with _connected(path, read_only=True, wait_seconds=wait_seconds) as con:
        check_schema(con, older_too=older_too)
        yield con


def require_writable(path: str | Path, wait_seconds: float = 60) -> None:
    """Raise as `writer` would, without making or changing anything.

    Raises:
        StoreError: as one of its subclasses; see `store_errors`.
    """
    path = Path(path).expanduser()
    if _exists(path) and path.stat().st_size:
        # An empty database is one that a writer may fill.
        with (
            _connected(path, read_only=False, wait_seconds=wait_seconds) as con,
            suppress(MissingDatabaseError),
        ):
            check_schema(con, older_too=True)
        return
    folder = next(parent for parent in path.parents if _exists(parent))
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UnwritableDatabaseError(
            f"cannot make {path}: {folder} is not a folder that may be written; {REMEDY_FOREIGN}"
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder we may not look into: let the connection say so
        return True


@contextmanager
def _connected(
    path: Path, *, read_only: bool, wait_seconds: float
) -> Iterator[duckdb.DuckDBPyConnection]:
    con = _connect(path, read_only=read_only, wait_seconds=wait_seconds)
    try:
        con.execute("SET TimeZone = 'UTC'")
        yield con
    except duckdb.Error as error:
        # DuckDB proves a block's checksum when it first reads it, maybe in the middle of a query.
        if _is_damaged(error) or _is_full(path, error):
            raise _explained(path, error) from None
        raise
    finally:
        con.close()


def _connect(path: Path, *, read_only: bool, wait_seconds: float) -> duckdb.DuckDBPyConnection:
    patience = Patience(path, wait_seconds)
    with turn(path, patience, writing=not read_only):
        while True:
            try:
                with _knowing:
                    _refuse_foreign(path)
                    con = duckdb.connect(str(path), read_only=read_only)
                    _known_files.add(_identity(path))
                    return con
            except duckdb.Error as error:
                if not _is_busy(error):
                    raise _explained(path, error) from None
                own = _OWN in str(error)
            patience.wait(own=own)


class Patience:
    """How long one opening waits for others, in all.

    Args:
        path: the database.
        seconds: the wait, over all its pauses.
        ending: what else the error says when it is over.
    """

    def __init__(self, path: Path, seconds: float, ending: str = "") -> None:
        self._path, self._seconds, self._ending = path, seconds, ending
        self._deadline, self._pause = time.monotonic() + seconds, 0.01

    def wait(self, *, own: bool = False) -> None:
        """A pause, longer each time.

        Args:
            own: it is this very process that keeps the file open, not another one.

        Raises:
            StoreBusyError: the time is up.
        """
        left = self._deadline - time.monotonic()
        if left <= 0 and own:
            raise StoreBusyError(
                f"{self._path} was kept open by this process itself for more than "
                f"{self._seconds:g} s; leave its `with record:` block, or close its connection, "
                f"first{self._ending}"
            )
        if left <= 0:
            raise StoreBusyError(
                f"{self._path} was kept open by another process for more than {self._seconds:g} s; "
                f"try again later, or raise AVAILABILITY_DB_WAIT_SECONDS{self._ending}"
            )
        # A write takes 0.1 s for a day and some seconds for all history; the jitter keeps twenty
        # waiting processes from knocking at the same moment.
        time.sleep(min(left, self._pause * random.uniform(0.5, 1.5)))  # noqa: S311 - not cryptography
        self._pause = min(self._pause * 1.5, 0.5)


@contextmanager
def turn(path: Path, patience: Patience, *, writing: bool) -> Iterator[None]:
    """Let a writer that waits go before the readers that come after it.

    A writer gets in only while nobody reads: four processes that asked without a pause kept
    twenty updates out for more than 60 s each. So a writer holds the lock file until it has the
    database, and a reader first waits until no writer holds it. The lock ends with its process.
    """
    try:
        lock = path.with_name(f"{path.name}.turn").open("ab" if writing else "rb")
    except OSError:  # nobody has written here yet, or the folder may not be written
        yield
        return
    with lock:
        while True:
            try:
                fcntl.flock(lock, (fcntl.LOCK_EX if writing else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                patience.wait()
        if not writing:
            fcntl.flock(lock, fcntl.LOCK_UN)
        yield


# Closing a file drops every lock that this process has on it, also the one DuckDB took for another
# connection: a second process could then write beside it. So each file is looked into only once,
# before this process ever has it open.
_known_files: set[tuple[int, int]] = set()
_knowing = threading.Lock()


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _refuse_foreign(path: Path) -> None:
    # Asked to open a SQLite file, DuckDB would go and download an extension for it.
    try:
        if _identity(path) in _known_files:
            return
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return  # missing, a folder, not ours to read: connecting says which
    if len(head) == 12 and head[8:] != _MAGIC:
        raise ForeignDatabaseError(f"{path} is no DuckDB database; {REMEDY_FOREIGN}")


_OWN = "with a different configuration"


def _is_busy(error: duckdb.Error) -> bool:
    # Whole phrases: the message quotes the path, and a path may well contain the word "lock".
    text = str(error)
    return "Could not set lock on file" in text or _OWN in text


def _is_damaged(error: duckdb.Error) -> bool:
    text = str(error)
    return "Corrupt database file" in text or "Could not read enough bytes" in text


def _is_full(path: Path, error: duckdb.Error) -> bool:
    # The path, because a body may write elsewhere too (an export), where that is another's error.
    text = str(error)
    full = ("No space left on device", "Disk quota exceeded", "File too large")
    return str(path) in text and any(words in text for words in full)


def _explained(path: Path, error: duckdb.Error) -> StoreError:
    reason = str(error).splitlines()[0].removeprefix("IO Error: ")[:300]
    if _is_damaged(error):
        return DamagedDatabaseError(
            f"{path} is damaged ({reason}); `binance-futures-availability restore` a backup, or "
            "move the file away and backfill"
        )
    if _is_full(path, error):
        return FullDiskError(
            f"the disk of {path} is full: this write was undone, what was recorded before stays; "
            "make room, the next run repairs it"
        )
    if "not a valid DuckDB" in reason:
        return ForeignDatabaseError(f"{path} is no DuckDB database; {REMEDY_FOREIGN}")
    return UnwritableDatabaseError(f"cannot open {path}: {reason}; {REMEDY_FOREIGN}")
