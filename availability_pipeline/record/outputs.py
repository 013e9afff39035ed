"""Tell which files a command that reads the record may write, and which it never may.

Protected are every DuckDB and SQLite database whatever its name (the record, backups, Dagster's
history), what stands beside a database and belongs to it (`….wal`, `….turn`, `….restoring`,
`….followed`), what is named like a backup, and the files of DAGSTER_HOME. Links of both kinds are
followed.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from availability_pipeline import files, settings
from availability_pipeline.errors import ProtectedFileError
from availability_pipeline.record import apart, followed
from availability_pipeline.record.connection import LOG_SUFFIXES, with_suffix

BACKUP_NAME = re.compile(r"availability-(\d{8}T\d{6}Z)\.duckdb")
"""How a backup is named; its manifest beside it ends in `.json`."""

_BESIDE = (*LOG_SUFFIXES, ".turn", ".restoring", followed.SUFFIX)
_DAGSTER_FOLDERS = ("history", "storage", "schedules", "log", "logs", ".telemetry", ".logs_queue")
_DAGSTER_FILES = (".yaml", ".yml", ".lock", ".log", "-lock")


def refuse_protected(paths: Iterable[Path], record: Path | None = None) -> None:
    """Raise where a file must not be written; nothing is touched.

    Args:
        paths: the files to be, whether they are there or not.
        record: the database that is read, as the caller opens it.

    Raises:
        ProtectedFileError: a path, or what it links to, is protected; names the reason.
    """
    home = settings.dagster_home()
    real = {path: path.expanduser().resolve() for path in paths}
    # What stands beside a database is named after it.
    bases = {r: r.with_name(r.name[: -len(s)]) for r in real.values() if (s := _suffix(r))}
    kinds = _databases({*real.values(), *bases.values()})
    for path, target in real.items():
        if reason := _reason(target, record, home, kinds, bases.get(target)):
            raise ProtectedFileError(f"{path} {reason}; nothing was written, choose another file")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the name `path` at the end of the block.

    What is not an ordinary file, as /dev/stdout or a pipe, is written to itself.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    target = path.resolve()
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        part = Path(folder) / f"part{target.suffix}"
        yield part
        files.as_the_user_wants(part)
        part.replace(target)


def _suffix(path: Path) -> str | None:
    name = path.name.lower()  # macOS takes either case
    return next((s for s in _BESIDE if name.endswith(s) and name != s), None)


def _reason(
    path: Path, record: Path | None, home: Path | None, kinds: dict[Path, str], base: Path | None
) -> str | None:
    if record is not None:
        for ours in (record, *(with_suffix(record, suffix) for suffix in _BESIDE)):
            if _same(path, ours):
                return "is the record" if ours == record else "belongs to the record"
    if path in kinds:
        return f"is a database ({kinds[path]})"
    if base is not None and base in kinds:
        return f"belongs to the database {base.name}"
    if path.suffix in (".duckdb", ".json") and BACKUP_NAME.fullmatch(f"{path.stem}.duckdb"):
        return "is named like a backup"
    if home is not None:
        home = home.resolve()
        if any(path.is_relative_to(home / folder) for folder in _DAGSTER_FOLDERS):
            return "is in a folder of Dagster's home"
        if path.parent == home and path.name.endswith(_DAGSTER_FILES):
            return "is a file of Dagster's home"
    return None


def _same(path: Path, other: Path) -> bool:
    """The same file, or the same name to be."""
    with suppress(OSError):
        if path.samefile(other):
            return True
    with suppress(OSError):
        return path == other.expanduser().resolve()
    return False


def _databases(paths: Iterable[Path]) -> dict[Path, str]:
    """Those of the files that are databases, with their kind."""
    files = [path for path in paths if path.is_file() and path.stat().st_size]
    if not files:
        return {}
    # Not by opening them: this process may have one open.
    heads = zip(files, apart.heads(files, 16), strict=True)
    kinds = {path: _kind(head) for path, head in heads if head is not None}
    return {path: kind for path, kind in kinds.items() if kind}


def _kind(head: bytes) -> str | None:
    if head[8:12] == b"DUCK":
        return "DuckDB"
    return "SQLite" if head == b"SQLite format 3\0" else None
