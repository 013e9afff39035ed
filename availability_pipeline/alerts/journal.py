"""What is being sent, on disk, so that an evaluation that is killed sends nothing twice.

Dagster stores a sensor's cursor only when its evaluation has ended. So before anything is sent, the
state that the evaluation has come to is written here, with a hash of the cursor that it began with;
the sending process, which outlives the evaluation, adds a line for each message that a target took.
The next evaluation goes on from here if Dagster still has that cursor. The file is locked while
something is sent, so that two evaluations never send at the same time.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from availability_pipeline import files
from availability_pipeline.alerts.outbox import State
from availability_pipeline.alerts.rules import Model

NAME = "alerts.sending"
"""The file, in Dagster's home."""

Due = Sequence[tuple[int, tuple[str, ...]]]
"""Positions in the queue, each with the targets."""


class Journal:
    """The journal, held by this process.

    Args:
        file: opened for appending; None where it cannot be written, and then nothing is kept.
    """

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file

    @property
    def number(self) -> int | None:
        """The open file that the sending process adds its lines to."""
        return self._file.fileno() if self._file else None

    def unfinished(self, cursor: str | None) -> tuple[State, Due] | None:
        """What an evaluation that began with this cursor had come to, and what was taken since."""
        last: _Entry | None = None
        taken: list[tuple[int, int]] = []
        for line in self._lines():
            if words := re.fullmatch(r"taken (\d+) (\d+)", line):
                taken.append((int(words[1]), int(words[2])))
            elif entry := _parsed(line):
                last, taken = entry, []
        if last is None or last.cursor != _hash(cursor):
            return None
        return last.state, [(last.due[n][0], (last.keys[key],)) for n, key in taken]

    def begin(self, cursor: str | None, state: State, due: Due, keys: Sequence[str]) -> None:
        """Write what is about to be sent.

        Args:
            cursor: with which the evaluation began.
            state: what it has come to, before anything of `due` is sent.
            due: what is sent; the sending process counts from 0 in it.
            keys: the targets; the sending process counts from 0 in them.
        """
        if self._file is None:
            return
        entry = _Entry(cursor=_hash(cursor), state=state, due=tuple(due), keys=tuple(keys))
        try:
            if self.unfinished(cursor) is None:
                self._file.truncate(0)  # that one's cursor has been stored
            # The line before may have been cut off.
            os.write(self._file.fileno(), f"\n{entry.model_dump_json()}\n".encode())
            os.fsync(self._file.fileno())
        except OSError:  # as where it cannot be opened: send all the same
            self._file = None

    def _lines(self) -> list[str]:
        if self._file is None:
            return []
        self._file.seek(0)
        # What was cut off in the middle has no end.
        return self._file.read().decode("utf-8", "replace").split("\n")[:-1]


class _Entry(Model):
    cursor: str
    state: State
    due: tuple[tuple[int, tuple[str, ...]], ...]
    keys: tuple[str, ...]


@contextmanager
def opened(path: Path) -> Iterator[Journal | None]:
    """The journal; None while another evaluation, or what it left behind, still sends."""
    try:
        file = files.opened(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    except OSError:  # a disk without room or rights must not silence the alerts
        yield Journal(None)
        return
    with file:
        yield Journal(file) if files.try_lock(file) else None


def _parsed(line: str) -> _Entry | None:
    try:
        return _Entry.model_validate_json(line)
    except ValidationError:
        return None


def _hash(cursor: str | None) -> str:
    return hashlib.sha256((cursor or "").encode()).hexdigest()
