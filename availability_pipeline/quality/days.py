"""What a date is, seen as a whole: the states that calendars show."""

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

POOR_SHARE = 0.5
"""Below this share of the expected files a date is called nearly empty."""


class DayState(IntEnum):
    """What a date is, seen as a whole."""

    UNKNOWN = 0  # never probed
    IDLE = 1  # probed, and no file is expected: rightly so before 2019-12-31
    PENDING = 2  # an expected file is missing, and it is too early to say
    COMPLETE = 3  # every expected file is there
    MET = 4  # some are confirmed missing, the share is met
    SHORT = 5  # below the share
    POOR = 6  # below POOR_SHARE


def day_states(frame: "pd.DataFrame", threshold: float) -> npt.NDArray[np.int_]:
    """The `DayState` of each row: `known`, `settled`, `available`, `expected` and `pending`."""
    # The expected symbols are of one probe, so their missing files are all pending or all
    # confirmed. What is pending on a settled date is of symbols that ended and were left out since.
    missing = (frame["expected"] - frame["available"]).clip(lower=0)
    share = (frame["available"] / frame["expected"].where(frame["expected"] > 0)).clip(upper=1)
    # In a record that knows no file yet nothing is expected, but a young date is still open.
    pending = ~frame["settled"].to_numpy(bool) & (frame["pending"] > 0)
    pending &= (missing > 0) | (frame["expected"] == 0)
    return np.select(
        [~frame["known"].to_numpy(bool), pending, frame["expected"] == 0, missing == 0,
         share >= threshold, share >= POOR_SHARE],
        [DayState.UNKNOWN, DayState.PENDING, DayState.IDLE, DayState.COMPLETE, DayState.MET,
         DayState.SHORT],
        DayState.POOR,
    )  # fmt: skip
