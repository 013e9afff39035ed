"""What the report's PNG pictures share: card, title, time axis, legend, marks, the font's limits.

Belongs here: how any picture looks. Does not belong here: the pictures and their bytes
(`report_png`), colours and names of what they show (`report_style`).
"""

import datetime as dt
import functools
import re
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from availability_pipeline.report_data import DayState, ReportData
from availability_pipeline.report_style import DAY_COLOURS, NO_FILE, TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CARD, INK, FAINT = "#fbfbf9", "#23292f", "#d5d9dd"
WIDTH = 10.0  # inches


BASE_FONT = "DejaVu Sans"
"""Comes with matplotlib, so that a picture is the same everywhere. It has no Chinese."""

# Parts of the file names of fonts that have Chinese, those that look best beside DejaVu Sans first.
_CHINESE = (
    *("notosanscjk", "sourcehansans", "notosanssc", "pingfang", "hiragino", "microhei", "zenhei"),
    *("stheiti", "msyh", "simhei", "droidsansfallback", "arialuni", "cjk", "uming", "ukai"),
    *("songti", "simsun", "unifont"),
)


def font_families(symbols: Iterable[str]) -> list[str]:
    """The fonts to draw these names with: `BASE_FONT`, and one that has what it lacks, if any.

    matplotlib takes each letter from the first of them that has it.
    """
    wanted = frozenset(ord(char) for symbol in symbols for char in symbol)
    missing = frozenset(code for code in wanted if code not in _glyphs(BASE_FONT))
    found = _font_with(missing) if missing else None
    return [BASE_FONT, found] if found else [BASE_FONT]


@functools.cache
def _font_with(codes: frozenset[int]) -> str | None:
    """The family of the installed font that has most of these letters, None if none has any."""
    from matplotlib.font_manager import findSystemFonts, fontManager, get_font

    def rank(file: str) -> tuple[int, bool, str]:
        name = Path(file).name.lower()
        place = next((n for n, part in enumerate(_CHINESE) if part in name), len(_CHINESE))
        return place, "bold" in name or "italic" in name, name

    # Also those that matplotlib does not know: it keeps a list from when it was first imported.
    files = {entry.fname for entry in fontManager.ttflist} | set(findSystemFonts())
    # These have every letter there is, as a box or as nothing; matplotlib brings one itself.
    files = {f for f in files if not re.search("lastresort|adobeblank", Path(f).name.lower())}
    best, best_file = 0, None
    for file in sorted(files, key=rank):
        try:
            charmap = get_font(file).get_charmap()
        except (OSError, RuntimeError):  # a bitmap or colour font that it cannot read
            continue
        has = sum(code in charmap for code in codes)
        if has > best:
            best, best_file = has, file
        if best == len(codes):
            break
    if best_file is None:
        return None
    family = get_font(best_file).family_name
    if all(entry.name != family for entry in fontManager.ttflist):
        fontManager.addfont(best_file)
    return family


def printable(symbol: str, families: Sequence[str] = (BASE_FONT,)) -> str:
    """The symbol with code points for letters that none of the fonts has.

    >>> printable("龙虾USDT")
    '‹9F99 867E›USDT'
    """
    parts: list[str] = []
    missing: list[str] = []
    for char in symbol:
        if any(ord(char) in _glyphs(family) for family in families):
            if missing:
                parts.append(f"‹{' '.join(missing)}›")
                missing = []
            parts.append(char)
        else:
            missing.append(f"{ord(char):04X}")
    return "".join(parts) + (f"‹{' '.join(missing)}›" if missing else "")


@functools.cache
def _glyphs(family: str) -> Container[int]:
    from matplotlib.font_manager import findfont, get_font

    return get_font(findfont(family)).get_charmap()


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
