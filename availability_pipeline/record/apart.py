"""Read, copy and lock database files in a process of its own, wherever this one may have them open.

POSIX drops every lock that a process has on a file when that process closes any descriptor of it.
DuckDB keeps writers out by such a lock, so `path.open().close()` in a process with a
`duckdb.connect(path)` somewhere lets a second process write under it, and the file is destroyed.
A child's descriptors are its own: closing them drops the child's locks and no others. A file that
only this process knows (a copy under its temporary name) may be read by any `open`.

The parent runs this very file as a program, without the package and without site-packages: 15 ms.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_FAILED = 3  # the child's exit code where the operating system refused


def heads(paths: Sequence[Path], size: int) -> list[bytes | None]:
    """The first bytes of each file, None for one that cannot be read.

    Raises:
        OSError: no process can be started.
    """
    lines = _run("heads", size, *paths).splitlines()
    return [None if line == "-" else bytes.fromhex(line) for line in lines]


def sha256(path: Path) -> str:
    """Of a file's content, in hex.

    Raises:
        OSError: as for `open`.
    """
    return _run("sha256", path)


def copy(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Copy each first file to the second, content alone.

    Raises:
        OSError: a file cannot be read or written.
    """
    _run("copy", *(path for pair in pairs for path in pair))


def copy_ranges(source: Path, target: Path, ranges: Sequence[tuple[int, int, int]]) -> None:
    """Copy parts of one file to places in another, which is there.

    Args:
        source: the file to read.
        target: the one to write into.
        ranges: where a part begins, its bytes, and where it goes; of one that is longer than the
            source only its beginning is copied.

    Raises:
        OSError: a file cannot be read or written.
    """
    _run("ranges", source, target, given=json.dumps(ranges))


@contextmanager
def locked(path: Path, wait: Callable[[], object]) -> Iterator[None]:
    """Hold DuckDB's own write lock on a file, against this process as well.

    Args:
        path: the file; DuckDB need not be able to open it.
        wait: called between attempts while another process has a lock; raises to give up.

    Raises:
        OSError: the file cannot be opened for writing.
    """
    import subprocess

    with subprocess.Popen(  # noqa: S603 - our own interpreter and program
        _command("lock", path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin  # noqa: S101 - for the type checker
        assert child.stdout  # noqa: S101
        try:
            while True:
                child.stdin.write("try\n")
                child.stdin.flush()
                answer = child.stdout.readline().strip()
                if answer == "held":
                    break
                if answer != "busy":
                    _raise(answer, f"the helper process ended with code {child.wait()}")
                wait()
            yield
        finally:
            # The lock ends with the child, the child with its input; also when we are killed.
            child.kill()


def _command(verb: str, *args: object) -> list[str]:
    return [sys.executable, "-I", "-S", __file__, verb, *map(str, args)]


def _run(verb: str, *args: object, given: str = "") -> str:
    import subprocess

    done = subprocess.run(  # noqa: S603 - our own interpreter and program
        _command(verb, *args), input=given, capture_output=True, text=True, check=False
    )
    if done.returncode:
        _raise(done.stdout, done.stderr.strip() or f"it ended with code {done.returncode}")
    return done.stdout


def _raise(answer: str, otherwise: str) -> None:
    try:
        number, name = json.loads(answer)
    except ValueError:
        raise OSError(errno.ECHILD, f"a helper process failed: {otherwise}") from None
    raise OSError(number, os.strerror(number), name)


def _head(path: str, size: int) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(size).hex()
    except OSError:
        return "-"


def _lock(path: str) -> None:
    with Path(path).open("r+b") as file:
        for _ in sys.stdin:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                answer = "held"
            except (BlockingIOError, PermissionError):
                answer = "busy"
            sys.stdout.write(f"{answer}\n")
            sys.stdout.flush()


def _copy_ranges(source: str, target: str) -> None:
    with Path(source).open("rb") as old, Path(target).open("r+b") as new:
        for start, size, place in json.load(sys.stdin):
            old.seek(start)
            new.seek(place)
            left = size
            while left and (chunk := old.read(min(left, 2**20))):
                new.write(chunk)
                left -= len(chunk)


def _main(verb: str, *args: str) -> int:
    try:
        if verb == "lock":
            _lock(args[0])
        elif verb == "copy":
            for source, target in zip(args[::2], args[1::2], strict=True):
                shutil.copyfile(source, target)
        elif verb == "ranges":
            _copy_ranges(args[0], args[1])
        elif verb == "heads":
            for path in args[1:]:
                sys.stdout.write(_head(path, int(args[0])) + "\n")
        else:
            with Path(args[0]).open("rb") as file:
                sys.stdout.write(hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        json.dump((error.errno or errno.EIO, error.filename), sys.stdout)
        return _FAILED
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
