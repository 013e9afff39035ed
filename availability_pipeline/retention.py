"""Which backups to keep: the last of each day, week and month, as restic does it.

Belongs here: the rule, a function from times to times. Does not belong here: files (`backup`).
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

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
    for count, bucket in ((keep.daily, _day), (keep.weekly, _week), (keep.monthly, _month)):
        left, last = count, None
        for time in newest_first:
            if left <= 0:
                break
            current = bucket(time.astimezone(dt.UTC))
            if current != last or time == newest_first[-1]:
                chosen.add(time)
                left, last = left - 1, current
    return chosen


def _day(time: dt.datetime) -> tuple[int, int]:
    return (time.year, time.timetuple().tm_yday)


def _week(time: dt.datetime) -> tuple[int, int]:
    year, week, _ = time.isocalendar()
    return (year, week)


def _month(time: dt.datetime) -> tuple[int, int]:
    return (time.year, time.month)
