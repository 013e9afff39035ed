"""What the report's PNG pictures share: card, title, time axis, legend, marks, the font's limits.

Belongs here: how any picture looks. Does not belong here: the pictures and their bytes
(`report_png`), colours and names of what they show (`report_style`).
"""

import datetime as dt
import functools
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from availability_pipeline.report_data import DayState, ReportData
from availability_pipeline.report_style import DAY_COLOURS, NO_FILE, TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CARD, INK, FAINT = "#fbfbf9", "#23292f", "#d5d9dd"
WIDTH = 10.0  # inches


def printable(symbol: str) -> str:
    """The symbol in DejaVu Sans, which has no Chinese: code points stand for what it lacks.

    >>> printable("龙虾USDT")
    '‹9F99 867E›USDT'
    """
    glyphs = _glyphs()
    parts: list[str] = []
    missing: list[str] = []
    for char in symbol:
        if ord(char) in glyphs:
            if missing:
                parts.append(f"‹{' '.join(missing)}›")
                missing = []
            parts.append(char)
        else:
            missing.append(f"{ord(char):04X}")
    return "".join(parts) + (f"‹{' '.join(missing)}›" if missing else "")


@functools.cache
def _glyphs() -> Container[int]:
    from matplotlib.font_manager import findfont, get_font

    return get_font(findfont("DejaVu Sans")).get_charmap()


def figure_of(data: ReportData, name: str, height: float, note: str = "") -> "tuple[Figure, Axes]":
    """A figure `WIDTH` wide and `height` inches high, with its title and a note at the right."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Room around everything, in inches: the UI shows the pictures on cards without any.
    room = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(WIDTH, height), layout=room)
    axes = figure.add_subplot()
    axes.set_facecolor(CARD)
    axes.set_title(TITLES[name], loc="left", fontsize=12, fontweight="bold", color=INK, pad=10)
    drawn = f"drawn {data.drawn_at:%Y-%m-%d %H:%M} UTC"
    axes.set_title(f"{note}   {drawn}" if note else drawn, loc="right", fontsize=8, color="#66707a")
    if not len(data.symbols) and name != "completeness":
        axes.text(0.5, 0.5, NO_FILE, transform=axes.transAxes, ha="center", color=INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(colors=INK, length=0)
    axes.tick_params(axis="x", pad=6)
    return figure, axes


def time_axis(axes: "Axes", data: ReportData) -> None:
    """Dates from the first file on along the bottom."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    # The newest dates are what people look for: some room to their right.
    room = 0.005 * (len(data.days) - data.first_file)
    first, after = day_number(data, data.first_file), day_number(data, len(data.days))
    axes.set_xlim(first - 0.5, after - 0.5 + room)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def day_number(data: ReportData, offset: float) -> float:
    """Days as matplotlib counts them: from 1970."""
    return float((data.start - dt.date(1970, 1, 1)).days + offset)


def day_numbers(data: ReportData, chosen: Any = slice(None)) -> Any:
    """Those of all dates, or of the chosen ones."""
    return day_number(data, 0) + np.arange(len(data.days))[chosen]


def bands(axes: "Axes", data: ReportData) -> None:
    """Grey where nobody looked."""
    for first, last in data.bands():
        axes.axvspan(day_number(data, first - 0.5), day_number(data, last + 0.5), linewidth=0,
                     color=DAY_COLOURS[DayState.UNKNOWN], alpha=0.55, zorder=1)  # fmt: skip


def legend(axes: "Axes", handles: Sequence[Any], below: float = -0.08) -> None:
    """One row below the picture, `below` in parts of its height."""
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, below), ncols=7,
                frameon=False, fontsize=8, labelcolor=INK, handlelength=1.2,
                columnspacing=1.4)  # fmt: skip


def swatch(colour: str, label: str, **options: Any) -> Any:
    """A colour for the legend."""
    from matplotlib.patches import Patch

    return Patch(facecolor=colour, label=label, **options)


def marks(axes: "Axes", data: ReportData, chosen: Any, values: Any, **options: Any) -> list[Any]:
    """Points at the chosen dates; in the legend only where there are any."""
    options = {"s": 22, "linewidths": 0, "zorder": 4, "clip_on": False, **options}
    options["label"] = f"{options['label']} ({int(chosen.sum())})"
    points = axes.scatter(day_numbers(data, chosen), values[chosen], **options)
    return [points] if chosen.any() else []
