"""How the report looks, the same in PNG and HTML: colours, names, titles, what datasets are called.

Blue is complete, amber not known yet, vermilion missing, brown never probed. The scale runs from
blue to red over lightness too, so that it can be read with any kind of colour vision and in print.
All stand out on white and on near-black; only the idle ones follow the background.
"""

import re
from collections.abc import Mapping

from availability_pipeline.archive.datasets import CATALOGUE, Dataset
from availability_pipeline.quality.days import DayState
from availability_pipeline.report.data import Cell, ReportData, percent
from availability_pipeline.report.volumes import Volume

DAY_COLOURS = {
    DayState.UNKNOWN: "#85735c",
    DayState.IDLE: "#dfe3e8",
    DayState.PENDING: "#f4b400",
    DayState.COMPLETE: "#1f6fb2",
    DayState.MET: "#7fb9e6",
    DayState.SHORT: "#ee6c2f",
    DayState.POOR: "#a3200d",
}
IDLE_DARK = "#2c333b"

CELL_COLOURS = {
    Cell.LIVE: "#3b86c6",
    Cell.ENDED: "#9fb0bf",
    Cell.SETTLED: "#7d3fa6",
    Cell.UNKNOWN: DAY_COLOURS[DayState.UNKNOWN],
    Cell.PENDING: DAY_COLOURS[DayState.PENDING],
    Cell.ABSENT: DAY_COLOURS[DayState.SHORT],
}

CELL_NAMES = {
    Cell.LIVE: "live",
    Cell.ENDED: "ended",
    Cell.SETTLED: "settled",
    Cell.UNKNOWN: "unknown: never probed",
    Cell.PENDING: "pending",
    Cell.ABSENT: "absent: a hole, or the last days",
}

MARKS = (
    ("diamond", "D", DAY_COLOURS[DayState.PENDING]),
    ("triangle-down", "v", DAY_COLOURS[DayState.SHORT]),
    ("triangle-up", "^", CELL_COLOURS[Cell.SETTLED]),
)
"""For each of `ReportData.marks`: its shape to plotly and to matplotlib, its colour."""

TITLES = {
    "growth": "Symbols with a file, by date",
    "completeness": "Completeness of each date",
    "matrix": "Every symbol, every date",
    "lag": "Publication lag",
    "volume": "Volume by quote asset",
    "top": "Largest by volume",
}
"""The last two only of a dataset that says what was traded."""

NO_FILE = "no file has been seen yet"

NAMED_ROWS = 42
"""Up to so many rows of the matrix each have their symbol's name."""

USUAL_LAG = (6.95, 8.67)
"""Hours after the end of a date: 06:57 to 08:40 UTC, when daily klines of USD-M futures appear."""

USUAL_LAG_NAME = "usual: 06:57 to 08:40 UTC"

LAG_TICKS = {
    1: "1 h",
    3: "3 h",
    6: "6 h",
    12: "12 h",
    24: "1 day",
    72: "3 days",
    168: "1 week",
    720: "1 month",
    2_160: "3 months",
    8_760: "1 year",
    26_280: "3 years",
}


def day_names(threshold: float) -> dict[DayState, str]:
    """What each state of a date is called."""
    share = f"{threshold:.0%}"
    return {
        DayState.COMPLETE: "complete",
        DayState.MET: f"at least {share}",
        DayState.SHORT: f"below {share}",
        DayState.POOR: "below 50%",
        DayState.PENDING: "pending",
        DayState.UNKNOWN: "unknown: never probed",
        DayState.IDLE: "no file expected",
    }


def title(name: str, data: ReportData) -> str:
    """Above a picture."""
    if name == "top" and data.volume:
        return f"{TITLES[name]} on {data.volume.last}, in {data.volume.asset}"
    if name == "volume" and data.dataset.market == "cm":
        return "Volume by base asset"
    return TITLES[name].replace("date", data.unit)


def cell_name(cell: Cell, data: ReportData) -> str:
    """What a cell is called: in `CELL_NAMES`, of days or months."""
    return CELL_NAMES[cell].replace("days", "months") if data.dataset.monthly else CELL_NAMES[cell]


def has_usual_lag(dataset: Dataset) -> bool:
    """Whether `USUAL_LAG` is of its files; of others no usual time is known."""
    return dataset.kind == ("um", "daily", "klines")


_MARKETS: Mapping[str, str] = {
    "spot": "Binance spot",
    "um": "Binance USD-M futures",
    "cm": "Binance COIN-M futures",
    "option": "Binance option",
}

_INTERVALS: Mapping[str, str] = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
}


def heading(dataset: Dataset) -> str:
    """Whose files they are."""
    return _MARKETS[dataset.market]


def about(dataset: Dataset) -> str:
    """What a dataset is, and whether anything still comes, in a sentence or two."""
    kind = dataset.data_type
    if match := re.fullmatch("([0-9]+)([a-z]+)", dataset.interval or ""):
        number, unit = match.groups()
        kind = f"{number}-{_INTERVALS.get(unit, unit)} {kind}"
    found, _, last = lifecycle(dataset).partition(" ")
    more = {
        "live": "",
        "stopped": f" Stopped: nothing comes after {last}.",
        "removed": f" Removed: there until {last}, then taken away.",
    }
    return f"{kind}, {dataset.frequency} files.{more.get(found, ' Not in the catalogue.')}"


def lifecycle(dataset: Dataset) -> str:
    """`live`, or since when it is not, as the catalogue says: `stopped 2024-03-30`."""
    entry = CATALOGUE.get(dataset.kind)
    if entry is None:
        return "not in the catalogue"
    if entry.last is None:
        return entry.lifecycle
    return f"{entry.lifecycle} {dataset.text(entry.last)}"


def top_labels(volume: Volume) -> list[str]:
    """Beside each bar of the largest: its share, and how its rank moved in seven days."""
    labels = []
    for _, _, _, share, change in volume.top:
        text = "" if share is None else percent(share)
        if change is None:
            text += "  new"
        elif change:
            text += f"  {'▼' if change > 0 else '▲'}{abs(change)}"
        labels.append(text.strip())
    return labels


def said_volume(volume: float) -> str:
    """A volume with three digits, in thousands, millions (M) or billions (B).

    >>> said_volume(17_234_567_890.5)
    '17.2B'
    """
    units = ["", "K", "M", "B", "T", "Q"]
    while abs(volume) >= 999.5 and len(units) > 1:
        volume, units = volume / 1000, units[1:]
    return f"{volume:.3g}{units[0]}"


def said_bytes(size: int) -> str:
    """A size with its unit, in steps of 1,000.

    >>> said_bytes(1_234_567)
    '1.2 MB'
    """
    number, units = float(size), ["B", "kB", "MB", "GB", "TB", "PB"]
    while number >= 999.5 and len(units) > 1:
        number, units = number / 1000, units[1:]
    digits = 0 if units[0] == "B" or number >= 99.95 else 1
    return f"{number:,.{digits}f} {units[0]}"
