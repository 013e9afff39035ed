"""The log file: what a line looks like, and how to read the last ones.

`orchestration.instance.run_log` writes it, which Dagster loads in each process that runs something.

    2024-01-16T02:00:41Z | INFO | scheduler.daily_update | Daily update completed: 708 symbols …
"""

import datetime as dt
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from availability_pipeline.masking import printable

MAX_BYTES = 2_000_000
"""Size at which the file is renamed to `….1`. A day writes about 15 kB, so this is months."""

BACKUPS = 5
"""Older files kept, `….1` the newest."""

_LEVELS = {"ERROR", "CRITICAL"}
_WHITE = re.compile(r"\s+")


def line(time: dt.datetime, level: str, job: str, message: str) -> str:
    """One line of the log, whatever is in the message (`masking.printable`).

    Args:
        time: aware.
        level: INFO, WARNING, ERROR or CRITICAL.
        job: what ran, such as `daily_update`.
        message: its line breaks become spaces, so that `grep` shows all of it.
    """
    at = time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = printable(_WHITE.sub(" ", message).strip())
    return f"{at} | {level} | scheduler.{printable(job)} | {said}"


def tail_errors(path: Path, count: int) -> list[str]:
    """The last `count` lines of level ERROR or CRITICAL, oldest first."""
    return list(deque((text for text in _lines(path) if _is_error(text)), maxlen=max(count, 0)))


def _is_error(text: str) -> bool:
    parts = text.split(" | ", 2)
    return len(parts) == 3 and parts[1] in _LEVELS


def _lines(path: Path) -> Iterator[str]:
    """All lines of the newest two files: just after a rotation the new one is nearly empty."""
    for file in (path.with_name(f"{path.name}.1"), path):
        try:
            # At most 4 MB in all. A line cut off by a full disk is not a reason to fail.
            text = file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue
        yield from text.splitlines()
