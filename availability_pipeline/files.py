"""How files of state are opened and made: private, and never through a link.

A lock file or a temporary file has a name that others can know before. Where they may write into
the folder, a link of that name would have us empty, or write over, the file it points to.

What this program keeps (the record, backups, Dagster's history, logs) is readable by its user only,
unless AVAILABILITY_UMASK says otherwise; what it publishes (reports, exports) is readable by all,
and what a command writes to a path that it is given has the modes of the user's own umask.
"""

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from availability_pipeline import settings

_users_umask: int | None = None


def keep_private() -> None:
    """Have this process and its children make private files; for the start of our programs."""
    global _users_umask
    before = os.umask(settings.umask())
    _users_umask = before if _users_umask is None else _users_umask


def as_the_user_wants(path: Path) -> None:
    """Give a file that the user asked for by its path the mode of the user's own umask."""
    if _users_umask is not None:
        path.chmod(0o666 & ~_users_umask)


def private(path: Path) -> None:
    """Let only the user read a file that we made, or as AVAILABILITY_UMASK says."""
    path.chmod(0o666 & ~settings.umask())


def private_folder(path: Path) -> None:
    """Make a folder of state where it is missing; one that is there keeps its mode.

    Raises:
        OSError: it cannot be made.
    """
    if not path.is_dir():
        path.mkdir(mode=0o777 & ~settings.umask(), parents=True, exist_ok=True)


def public_folder(path: Path) -> None:
    """Make a folder that all may read, and its parents, where they are missing.

    Raises:
        OSError: it cannot be made.
    """
    if not path.is_dir():
        public_folder(path.parent)
        path.mkdir(exist_ok=True)
        path.chmod(0o755)


def opened(path: Path, flags: int) -> BinaryIO:
    """An ordinary file under this very name, made private where it is missing and may be made.

    Args:
        path: its last part is not followed if it is a link.
        flags: `os.O_...`; truncated, if they say so, is only what is such a file.

    Raises:
        OSError: it cannot be opened, or is not an ordinary file.
    """
    # NONBLOCK: a pipe of that name would wait for its other end.
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        number = os.open(path, flags & ~os.O_TRUNC, 0o666 & ~settings.umask())
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refused(path, "is a symbolic link") from None
        raise
    status = os.fstat(number)
    # A second name does not harm a lock; what is written to would change under both.
    written = flags & (os.O_TRUNC | os.O_APPEND)
    if not stat.S_ISREG(status.st_mode) or (written and status.st_nlink > 1):
        os.close(number)
        raise _refused(path, "is not an ordinary file with one name")
    if flags & os.O_TRUNC:
        os.ftruncate(number, 0)
    access = {os.O_RDONLY: "rb", os.O_WRONLY: "wb"}.get(flags & os.O_ACCMODE, "r+b")
    return os.fdopen(number, access)  # type: ignore[return-value]  # all three are binary


def lock_file(path: Path) -> BinaryIO:
    """A file to take a lock on, made where it is missing, its content left alone.

    Raises:
        OSError: as `opened` does.
    """
    return opened(path, os.O_RDWR | os.O_CREAT)


def try_lock(lock: IO[Any], *, shared: bool = False) -> bool:
    """Take a lock on an open file, without waiting; it ends when the file, or its process, does.

    Not for DuckDB's files: their locks are of another kind, and any `close` drops those
    (`record.apart`).
    """
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """The only process in this block on that folder; waits for another one.

    The folder itself is locked, so no file is left behind.

    Raises:
        OSError: it cannot be opened.
    """
    number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def sync(path: Path) -> None:
    """Flush a file, or a folder's names, to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def temporary_folder(beside: Path, prefix: str) -> Iterator[Path]:
    """A folder in `beside` that no other user can write to, gone afterwards.

    What a killed process left under that prefix is removed first: hold a lock.

    Raises:
        OSError: it cannot be made.
    """
    remove_left(beside, prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=beside) as folder:
        yield Path(folder)


def remove_left(folder: Path, prefix: str) -> None:
    """Remove files and folders in `folder` whose name begins so; a link's target is left alone."""
    for left in [path for path in folder.iterdir() if path.name.startswith(prefix)]:
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            with suppress(FileNotFoundError):
                left.unlink()


def refuse_links(root: Path, name: str) -> None:
    """See that no part of `name` below `root` is a link out of it.

    Raises:
        OSError: one is.
    """
    path = root
    for part in Path(name).parts:
        path /= part
        if path.is_symlink():
            raise _refused(path, "is a symbolic link")


def _refused(path: Path, reason: str) -> OSError:
    return OSError(errno.ELOOP, f"{reason}, which nothing is written through", str(path))
