"""Open the record's file: one writer or many readers, each waiting its turn.

While one process has the file open for writing, no other can open it, not even to read; inside
one process the two kinds of connection cannot coexist either. So a writer holds the file for one
short transaction, and everybody else waits, bounded.

This process opens the file through DuckDB and in no other way (why: `apart`), and DuckDB itself
with no settings of ours: it refuses two connections of one process to a file with different ones,
and other code's plain `duckdb.connect` is to work beside ours.
"""

import errno
import logging
import os
import random
import shlex
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from availability_pipeline import PROGRAM, files, settings
from availability_pipeline.errors import (
    DamagedDatabaseError,
    ForeignDatabaseError,
    FullDiskError,
    LostRecordError,
    MissingDatabaseError,
    StoreBusyError,
    StoreError,
    UnwritableDatabaseError,
)
from availability_pipeline.record import apart, derived, followed
from availability_pipeline.record.schema import (
    REMEDY_FOREIGN,
    REMEDY_MISSING,
    SCHEMA_VERSION,
    ensure_schema,
    is_current,
    is_unwritten,
    require_ours,
)

LOG_SUFFIXES = (".wal", ".wal.checkpoint", ".wal.recovery")
"""Files DuckDB 2 may leave beside a database whose writer was killed; they belong to it."""

STORAGE_VERSION = "v1.2.0"
"""The format of our files, so that DuckDB 1.2 and later open them; not the schema version.

DuckDB 2 writes a format of its own unless told otherwise, and no 1.x opens that. A file keeps its
version whoever writes to it later, so it is decided when the file is made.
"""

_NEWEST = (1, 2)

_MAGIC = b"DUCK"  # at byte 8 of every DuckDB file

_log = logging.getLogger(__name__)


@contextmanager
def writer(path: str | Path, wait_seconds: float = 60) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-write connection; makes folder, file and tables where they are missing.

    A file that it made is removed again when the block raises before a probe was written.

    Args:
        path: the DuckDB file.
        wait_seconds: how long to wait for others to let go of it.

    Raises:
        StoreError: as one of its subclasses; see `errors`.
    """
    path = Path(path).expanduser()
    followed.refuse_writing(path)
    refuse_left_behind(path)
    try:
        files.private_folder(path.parent)
    except OSError as error:
        raise UnwritableDatabaseError(
            f"cannot make the folder of {path}: {error.strerror}; {REMEDY_FOREIGN}"
        ) from None
    fresh = not _exists(path)
    try:
        with _connected(path, read_only=False, wait_seconds=wait_seconds) as (con, _):
            ensure_schema(con, derived.refresh_all)
            yield con
    except BaseException:
        if fresh and _exists(path):
            _remove_unwritten(path)
        raise


@contextmanager
def reader(
    path: str | Path,
    wait_seconds: float = 60,
    *,
    older_too: bool = False,
    only_in: Sequence[Path] | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection; never creates a file.

    Args:
        path: the DuckDB file.
        wait_seconds: how long to wait for a writer to finish.
        older_too: also open a database that a writer would migrate first; for backups.
        only_in: for a file that no other connection of this process has open, as a copy: the
            folders outside of which DuckDB may not touch any other file, until it is closed.

    Raises:
        MissingDatabaseError: there is none, or its first writer ended before it wrote anything.
        StoreError: as another of its subclasses, see `errors`; or it is of an earlier version,
            which only a writer may migrate.
    """
    path = Path(path).expanduser()
    refuse_left_behind(path)
    if not _exists(path):
        raise MissingDatabaseError(f"no database at {path}; {REMEDY_MISSING}")
    connected = _connected(path, read_only=True, wait_seconds=wait_seconds, only_in=only_in)
    with connected as (con, version):
        if not version:
            raise MissingDatabaseError(f"{path} is empty; {REMEDY_MISSING}")
        if version < SCHEMA_VERSION and not older_too:
            raise StoreError(
                f"{path} has schema version {version}, this package reads {SCHEMA_VERSION}; "
                "any update or backfill migrates it"
            )
        yield con


def migrate(path: str | Path, wait_seconds: float = 60) -> None:
    """Bring a database of an earlier version to today's tables; others are left alone.

    Raises:
        StoreError: as one of its subclasses; see `errors`.
    """
    with reader(path, wait_seconds, older_too=True) as con:
        current = is_current(con)
    if not current:
        with writer(path, wait_seconds):
            pass


def require_writable(path: str | Path, wait_seconds: float = 60) -> None:
    """Raise as `writer` would, without making or changing anything.

    Raises:
        StoreError: as one of its subclasses; see `errors`.
    """
    path = Path(path).expanduser()
    followed.refuse_writing(path)
    if _exists(path) and path.stat().st_size:
        with _connected(path, read_only=False, wait_seconds=wait_seconds):
            return
    refuse_left_behind(path)
    folder = next(parent for parent in path.parents if _exists(parent))
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UnwritableDatabaseError(
            f"cannot make {path}: {folder} is not a folder that may be written; {REMEDY_FOREIGN}"
        )


def refuse_left_behind(path: Path) -> None:
    """See that no record of ours stands at the former default path, and none at today's.

    A second one would be begun, unnoticed.

    Raises:
        LostRecordError: it does; the text has the command that carries it over.
    """
    former = Path(settings.FORMER_DB).expanduser()
    if path != Path(settings.DEFAULT_DB).expanduser() or _exists(path) or not _exists(former):
        return
    try:
        with reader(former, wait_seconds=0.2, older_too=True):
            pass
    except (ForeignDatabaseError, MissingDatabaseError):
        return  # another program's, which has the same default, or an empty one
    except StoreError:
        pass  # busy, damaged or newer: not to be passed over
    old, new = shlex.quote(str(former.parent)), shlex.quote(str(path.parent))
    raise LostRecordError(
        f"no database at {path}, but a record at the former default {former}; stop what "
        f"writes it and carry it over: `mkdir -p -m 700 {new} && mv {old}/{former.name}* {new}/`, "
        f"or set AVAILABILITY_DB={former}; to begin a new record, move that file away"
    )


def _remove_unwritten(path: Path) -> None:
    # Under the writers' turn, and with a read lock: another writer is either in already, and the
    # file stays, or makes a new one afterwards.
    with (
        suppress(OSError, duckdb.Error, StoreError),
        turn(path, Patience(path, 0.2), writing=True),
    ):
        con = _opened(path, Patience(path, 0.2), read_only=True)
        with closing(con):
            if is_unwritten(con):
                _known_files.discard(_identity(path))
                target = path.resolve()
                for suffix in ("", *LOG_SUFFIXES):
                    with_suffix(target, suffix).unlink(missing_ok=True)


def with_suffix(path: Path, suffix: str) -> Path:
    """The path with something put after its whole name."""
    return path.with_name(path.name + suffix)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder we may not read: let the connection say so
        return True


@contextmanager
def _connected(
    path: Path, *, read_only: bool, wait_seconds: float, only_in: Sequence[Path] | None = None
) -> Iterator[tuple[duckdb.DuckDBPyConnection, int]]:
    """A connection to a database of ours, or an empty one, and its schema version (0: empty)."""
    con = connect(path, read_only=read_only, wait_seconds=wait_seconds)
    with closing(con):
        try:
            con.execute("SET TimeZone = 'UTC'")
            con.execute("SET autoinstall_known_extensions = false")
            if only_in is not None:
                _confine(con, only_in)
            yield con, _version(con, path)
        except duckdb.Error as error:
            # DuckDB verifies a block's checksum when it first reads it, maybe within a query.
            if _is_damaged(error) or _is_full(path, error):
                raise _explained(path, error) from None
            raise


def _confine(con: duckdb.DuckDBPyConnection, folders: Sequence[Path]) -> None:
    """Keep DuckDB from all other files and from the network, for good.

    The setting counts for all connections of this process to that file.
    """
    con.execute("SET allowed_directories = $1", [[str(folder) for folder in folders]])
    con.execute("SET enable_external_access = false")
    con.execute("SET autoload_known_extensions = false")
    con.execute("SET lock_configuration = true")


_as_seen: dict[tuple[int, int], tuple[tuple[int, int], int]] = {}
"""Files that are ours -> their time and size then, and schema version: it takes 10 ms to ask."""


def _version(con: duckdb.DuckDBPyConnection, path: Path) -> int:
    try:
        status = path.stat()
        logged = with_suffix(path.resolve(), ".wal").exists()  # what is in there changes neither
    except OSError:  # renamed meanwhile, as by a restore
        return require_ours(con)
    identity, now = (status.st_dev, status.st_ino), (status.st_mtime_ns, status.st_size)
    seen = _as_seen.get(identity)
    if seen is None or seen[0] != now or logged:
        seen = _as_seen[identity] = now, require_ours(con)
    return seen[1]


def connect(path: Path, *, read_only: bool, wait_seconds: float) -> duckdb.DuckDBPyConnection:
    """Open a file of ours in its turn, made for writing where it is missing; use `closing`.

    Raises:
        StoreError: as one of its subclasses; see `errors`.
    """
    patience = Patience(path, wait_seconds)
    with turn(path, patience, writing=not read_only):
        _refuse_foreign(path)
        if read_only:
            return _opened(path, patience, read_only=True)
        if not _exists(path):
            _create(path)
        con = _opened(path, patience, read_only=False)
        if not is_newer(con):
            return con
        return _converted(path, con, patience)


# Two threads that open and close one file without this leave connections without a lock: DuckDB
# closes the last connection's file after it has opened it again for the next one. Of 169,000
# openings by four threads 139,000 had no lock (duckdb 2.0.0), with it none.
_opening = threading.Lock()


def _opened(path: Path, patience: "Patience", *, read_only: bool) -> duckdb.DuckDBPyConnection:
    while True:
        try:
            with _opening:
                return duckdb.connect(str(path), read_only=read_only)
        except duckdb.Error as error:
            if not _is_busy(error):
                raise _explained(path, error) from None
            own = _OWN in str(error)
        patience.wait(own=own)


@contextmanager
def closing(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Close a connection to the record, or a cursor of one, at the end of the block."""
    try:
        yield
    finally:
        with _opening:
            con.close()


def _create(path: Path) -> None:
    """Make an empty database of our storage version, which appears whole.

    Unless something has that name by now, or it cannot be written: connecting says which.
    """
    part = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        part.unlink(missing_ok=True)  # of an earlier process with our number
        duckdb.connect(str(part), config={"storage_compatibility_version": STORAGE_VERSION}).close()
        files.private(part)
        try:
            os.link(part, path)
        except OSError:  # it is there, or a file system has no hard links
            if not path.exists():
                part.rename(path)
        _known_files.add(_identity(path))
    except (OSError, duckdb.Error):
        return
    finally:
        with suppress(OSError):
            part.unlink()


def is_newer(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the open database has a format that DuckDB 1.2 may not open."""
    [(tags,)] = con.execute(
        "SELECT tags FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchall()
    named = str(tags.get("storage_version", "")).removeprefix("v").rstrip("+").split(".")
    return len(named) >= 2 and tuple(int(part) for part in named[:2]) > _NEWEST


def _converted(
    path: Path, con: duckdb.DuckDBPyConnection, patience: "Patience"
) -> duckdb.DuckDBPyConnection:
    """Give the record our storage version by a new file in its place; hands a new connection back.

    The new file is complete and on the disk before it takes the name, and a read lock keeps all
    writers out from the moment of copying to that of renaming: killed at any point, the name has
    the old file or the new one, both with all that was committed.
    """
    with closing(con):
        require_ours(con)
        try:
            con.execute("CHECKPOINT")
        except duckdb.Error as error:
            raise _explained(path, error) from None
    target = path.resolve()
    part = target.with_name(f".{target.name}.converting")
    try:
        # Not for long: somebody who is quicker than we are keeps the file as it is until the next
        # writer comes.
        held = _opened(path, Patience(path, 0.2), read_only=True)
        with closing(held):
            _confine(held, [target.parent])
            require_ours(held)
            # Another program may have written, and been killed, just before.
            if not any(with_suffix(target, suffix).exists() for suffix in LOG_SUFFIXES):
                _replace(held, target, part)
    except (OSError, duckdb.Error, StoreBusyError) as error:
        _log.warning(
            "%s keeps the file format of DuckDB 2, which DuckDB 1.x does not open: %s; the next "
            "update converts it",
            path,
            str(error).splitlines()[0],
        )
    return _opened(path, patience, read_only=False)


def _replace(con: duckdb.DuckDBPyConnection, target: Path, part: Path) -> None:
    before = target.stat()
    try:
        write_anew(con, part)
        part.chmod(stat.S_IMODE(before.st_mode))
        if os.geteuid() == 0:  # root, for the service's user
            os.chown(part, before.st_uid, before.st_gid)
        part.replace(target)
    finally:
        with suppress(OSError):
            part.unlink()
    files.sync(target.parent)
    # Who opened the old file just before may still ask for its lock: let that fail.
    time.sleep(0.1)


def write_anew(con: duckdb.DuckDBPyConnection, target: Path) -> None:
    """Copy the open database to a new file of our version, compared and flushed to the disk.

    Args:
        con: no one writes through it or beside it meanwhile.
        target: replaced where it is there.

    Raises:
        OSError, duckdb.Error: it cannot be written, or did not become the same.
    """
    with suppress(FileNotFoundError):
        target.unlink()
    [(source,)] = con.execute("SELECT current_database()").fetchall()
    con.execute(
        f"ATTACH {_text(target)} AS written_anew (READ_WRITE, STORAGE_VERSION '{STORAGE_VERSION}')"
    )
    try:
        con.execute(f"COPY FROM DATABASE {_name(source)} TO written_anew")
        con.execute("CHECKPOINT written_anew")
        if _contents(con, source) != _contents(con, "written_anew"):
            raise duckdb.IOException(f"{target} did not become what {source} is")
    finally:
        con.execute("DETACH written_anew")
    files.sync(target)


def _contents(con: duckdb.DuckDBPyConnection, database: str) -> list[tuple[object, ...]]:
    """Views, and for each table its columns, rows and a hash over them."""
    tables = con.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY ALL",
        [database],
    ).fetchall()
    found: list[tuple[object, ...]] = con.execute(
        """SELECT schema_name, view_name FROM duckdb_views()
        WHERE database_name = ? AND NOT internal ORDER BY ALL""",
        [database],
    ).fetchall()
    for schema, table in tables:
        columns = con.execute(
            """SELECT column_name, data_type, is_nullable FROM duckdb_columns()
            WHERE database_name = ? AND schema_name = ? AND table_name = ? ORDER BY column_index""",
            [database, schema, table],
        ).fetchall()
        relation = ".".join(map(_name, (database, schema, table)))
        rows = con.execute(
            f"SELECT count(*), bit_xor(hash(t)), sum(hash(t)) FROM {relation} t"
        ).fetchall()
        found.append((schema, table, *columns, *rows))
    return found


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


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
        # A write takes 0.3 s for a day and some seconds for all history; the jitter keeps twenty
        # waiting processes from knocking at the same moment.
        time.sleep(min(left, self._pause * random.uniform(0.5, 1.5)))  # noqa: S311 - not cryptography
        self._pause = min(self._pause * 1.5, 0.5)


@contextmanager
def turn(path: Path, patience: Patience, *, writing: bool) -> Iterator[None]:
    """Let a writer that waits go before the readers that come after it.

    A writer gets in only while no process reads: four processes that asked without a pause kept
    twenty updates out for more than 60 s each. So a writer holds the lock file until it has the
    database, and a reader first waits until no writer holds it. The lock ends with its process.
    """
    try:
        name = with_suffix(path, ".turn")
        lock = files.lock_file(name) if writing else files.opened(name, os.O_RDONLY)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnwritableDatabaseError(f"{error.filename} {error.strerror}; remove it") from None
        yield  # nothing was written here yet, or the folder may not be written
        return
    with lock:
        while not files.try_lock(lock, shared=not writing):
            patience.wait()
        if not writing:
            lock.close()
        yield


_known_files: set[tuple[int, int]] = set()
"""Files found to be DuckDB's, by device and inode: asked once a process, for it takes 15 ms."""


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _refuse_foreign(path: Path) -> None:
    # Asked to open a SQLite file, DuckDB would go and download an extension for it; asked to open
    # a Parquet file, it would open a database in memory, and what is written there is lost.
    try:
        mode, identity = path.stat().st_mode, _identity(path)
        if identity in _known_files or stat.S_ISDIR(mode):
            return
        start = apart.heads([path], 12)[0] if stat.S_ISREG(mode) else b""
    except OSError:
        return  # missing: connecting says so
    if start is None:
        return  # not ours to read: connecting says so
    if start[8:] != _MAGIC:
        raise ForeignDatabaseError(f"{path} is not a DuckDB database; {REMEDY_FOREIGN}")
    _known_files.add(identity)


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
    # What DuckDB puts beside the file for want of memory; it keeps a tenth of the disk free.
    memory = "'max_temp_directory_size'" in text
    return memory or (str(path) in text and any(words in text for words in full))


def _explained(path: Path, error: duckdb.Error) -> StoreError:
    reason = str(error).splitlines()[0].removeprefix("IO Error: ")[:300]
    if _is_damaged(error):
        return DamagedDatabaseError(
            f"{path} is damaged ({reason}); `{PROGRAM} restore` a backup, or "
            "move the file away and backfill"
        )
    if _is_full(path, error):
        return FullDiskError(
            f"the disk of {path} is full: this write was undone, what was recorded before stays; "
            "make room, the next run repairs it"
        )
    if "not a valid DuckDB" in reason:
        return ForeignDatabaseError(f"{path} is not a DuckDB database; {REMEDY_FOREIGN}")
    return UnwritableDatabaseError(f"cannot open {path}: {reason}; {REMEDY_FOREIGN}")
