"""The report's PNG pictures, drawn with matplotlib, which is imported inside the functions."""

import contextlib
import functools
import io
import logging
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from availability_pipeline import masking
from availability_pipeline.quality.days import DayState
from availability_pipeline.report.data import (
    Cell,
    ReportData,
    Segment,
    calendar,
    lag_range,
    percent,
    year_share,
)
from availability_pipeline.report.style import (
    CELL_COLOURS,
    CELL_NAMES,
    DAY_COLOURS,
    LAG_TICKS,
    MARKS,
    NAMED_ROWS,
    NO_FILE,
    USUAL_LAG,
    USUAL_LAG_NAME,
    cell_name,
    day_names,
    has_usual_lag,
    said_volume,
    title,
    top_labels,
)
from availability_pipeline.report.volumes import Volume

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

    with _without_words_on_weights():
        return get_font(findfont(family)).get_charmap()


def figure_of(data: ReportData, name: str, height: float, note: str = "") -> "tuple[Figure, Axes]":
    """A figure `WIDTH` wide and `height` inches high, with its title and a note at the right."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Room around everything, in inches: the UI shows the pictures on cards without any.
    room = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(WIDTH, height), layout=room)
    axes = figure.add_subplot()
    axes.set_title(title(name, data), loc="left", **_TITLE)
    drawn = f"drawn {data.drawn_at:%Y-%m-%d %H:%M} UTC"
    axes.set_title(f"{note}   {drawn}" if note else drawn, loc="right", fontsize=8, color="#66707a")
    if not len(data.symbols) and name != "completeness":
        axes.text(0.5, 0.5, NO_FILE, transform=axes.transAxes, ha="center", color=INK)
    _plain(axes)
    return figure, axes


_TITLE: Any = {"fontsize": 12, "fontweight": "bold", "color": INK, "pad": 10}


def _plain(axes: "Axes") -> None:
    axes.set_facecolor(CARD)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(colors=INK, length=0)
    axes.tick_params(axis="x", pad=6)


def time_axis(axes: "Axes", data: ReportData) -> None:
    """Dates from the first file on along the bottom, or months."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    # Three months have no days to name.
    few = data.dataset.monthly and len(data.days) - data.first_file < 4
    locator = AutoDateLocator(minticks=1 if few else 3, maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    # The newest dates are what people look for: some room to their right.
    room = 0.005 * (len(data.days) - data.first_file)
    end = len(data.days) - 0.5 + room
    axes.set_xlim(day_number(data, data.first_file - 0.5), day_number(data, end))
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def day_number(data: ReportData, offset: float) -> float:
    """Days as matplotlib counts them: from 1970."""
    return float((data.minute(offset) - np.datetime64(0, "m")) / np.timedelta64(1, "D"))


def day_numbers(data: ReportData, chosen: Any = slice(None)) -> Any:
    """Those of all dates, or of the chosen ones."""
    return data.days["date"].to_numpy("datetime64[D]").astype(float)[chosen]


def bands(axes: "Axes", data: ReportData) -> None:
    """Grey where no probe was made."""
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


FILE_DPI, SMALL_DPI = 160, 88
"""Of the files (1,600 pixels wide) and of the copies for the Dagster UI (880)."""


def draw(
    data: ReportData, dpis: Sequence[int] = (FILE_DPI,), only: Container[str] | None = None
) -> dict[str, tuple[bytes, ...]]:
    """The pictures by name (`growth`, `completeness`, `matrix`, `lag`), a PNG for each of `dpis`.

    Each has a palette of less than 100 colours, which makes it three times smaller. With `only`,
    those of these names.
    """
    import matplotlib as mpl

    pictures: dict[str, Callable[[ReportData], Figure]] = {
        "growth": _growth,
        "completeness": _completeness,
        "matrix": _matrix,
        "lag": _lag,
    }
    if data.volume:
        pictures["volume"] = functools.partial(_volume, volume=data.volume)
        pictures["top"] = functools.partial(_top, volume=data.volume)
    families = font_families(data.symbols["symbol"])
    with mpl.rc_context({"font.family": families, "font.size": 9}), _without_words_on_weights():
        return {
            name: tuple(_png(figure, dpi) for dpi in dpis)
            for name, figure in (
                (name, make(data))
                for name, make in pictures.items()
                if only is None or name in only
            )
        }


@contextlib.contextmanager
def _without_words_on_weights() -> Iterator[None]:
    """Chinese fonts have one weight, often 500: matplotlib says so for each that it lacks."""
    logger = logging.getLogger("matplotlib.font_manager")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _png(figure: "Figure", dpi: int) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    raw = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(raw, format="png", dpi=dpi, facecolor=CARD)
    # Our own palette: one made from the picture drops the colours of a few small marks.
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette())
    packed = io.BytesIO()
    with Image.open(raw) as image:
        flat = image.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
        flat.save(packed, "png", optimize=True)
    return packed.getvalue()


def _palette() -> bytes:
    """Each colour and what lies between it and the card: edges are smooth, areas translucent."""
    from matplotlib.colors import to_rgb

    card = np.array(to_rgb(CARD))
    colours = dict.fromkeys([*DAY_COLOURS.values(), *CELL_COLOURS.values()])
    shades = [(c, part) for c in colours for part in (0.2, 0.35, 0.55, 0.75, 1)]
    shades += [(INK, part) for part in np.linspace(0, 1, 16)] + [(FAINT, 1)]
    mixed = [card + part * (np.array(to_rgb(colour)) - card) for colour, part in shades]
    return bytes(np.round(np.array(mixed) * 255).astype(np.uint8).tobytes())


def _growth(data: ReportData) -> "Figure":
    figure, axes = figure_of(data, "growth", 3.7)
    # From the first file on: a line that comes from zero on the left says nothing.
    days, x = data.days, day_numbers(data)
    available, wanted = (
        np.where(np.arange(len(days)) >= data.first_file, days[name], np.nan)
        for name in ("available", "expected")
    )
    [line] = axes.plot(x, available, color=DAY_COLOURS[DayState.COMPLETE], linewidth=1.4,
                       label="symbols with a file", zorder=3)  # fmt: skip
    axes.fill_between(x, available, color=DAY_COLOURS[DayState.MET], alpha=0.35, linewidth=0)
    [expected] = axes.plot(x, wanted, color=INK, linewidth=0.8, linestyle=(0, (1, 3)),
                           label="expected", zorder=3.5)  # fmt: skip
    handles = [line, expected]
    for (name, chosen), (_, marker, colour) in zip(data.marks().items(), MARKS, strict=True):
        edge = {"edgecolors": INK, "linewidths": 0.4} if marker == "D" else {}
        handles += marks(axes, data, chosen, available, marker=marker, color=colour, label=name,
                         **edge)  # fmt: skip
    if data.bands():
        bands(axes, data)
        handles.append(swatch(DAY_COLOURS[DayState.UNKNOWN], "never probed", alpha=0.55))
    time_axis(axes, data)
    axes.set_ylim(0, max(1.0, float(days["expected"].max()) * 1.08))
    legend(axes, handles)
    return figure


def _completeness(data: ReportData) -> "Figure":
    from matplotlib.colors import BoundaryNorm, ListedColormap

    found = calendar(data)
    years, (rows, columns) = found.years, found.states.shape
    note = "a square a month" if found.monthly else "a square a date, Mondays on top"
    height = 1.2 + (0.32 if found.monthly else 0.92) * len(years)
    figure, axes = figure_of(data, "completeness", height, note)
    colours = ListedColormap([DAY_COLOURS[state] for state in DayState])
    axes.pcolormesh(
        np.arange(columns + 1), np.arange(rows + 1), np.ma.masked_less(found.states, 0),
        cmap=colours, norm=BoundaryNorm(np.arange(len(DayState) + 1) - 0.5, len(DayState)),
        edgecolors=CARD, linewidth=0.7,
    )  # fmt: skip
    axes.invert_yaxis()
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([m + 0.5 for m in found.months], list("JFMAMJJASOND"))
    axes.xaxis.tick_top()
    axes.set_yticks([middle + 0.5 for middle in found.middles],
                    [_year_label(data, year) for year in years])  # fmt: skip
    present = {DayState(state) for state in np.unique(found.states[found.states >= 0])}
    names = day_names(data.threshold)
    below = -0.05 / len(years) if found.monthly else -0.01
    legend(axes, [swatch(DAY_COLOURS[s], names[s]) for s in names if s in present], below)
    return figure


def _year_label(data: ReportData, year: int) -> str:
    share = year_share(data, year)
    return f"{year}" if share is None else f"{year}\n{percent(share)}"


def _matrix(data: ReportData) -> "Figure":
    from matplotlib import rcParams
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.lines import Line2D

    count = len(data.symbols)
    few = count <= NAMED_ROWS
    height = max(2.6, 1.3 + 0.2 * count) if few else 7.6
    figure, axes = figure_of(data, "matrix", height, "by first file, oldest on top")
    first, end = data.first_file, len(data.days)
    colours = ListedColormap([CARD, *(CELL_COLOURS[cell] for cell in CELL_NAMES)])
    norm = BoundaryNorm(np.arange(len(Cell) + 1) - 0.5, len(Cell))
    # At most about a row a pixel: the file has 1,000 of them.
    image = _shrink(data.cells[:, first:], 950, 1300)
    extent = (day_number(data, first - 0.5), day_number(data, end - 0.5), max(count, 1) - 0.5, -0.5)
    axes.imshow(image, aspect="auto", interpolation="nearest", cmap=colours, norm=norm,
                extent=extent)  # fmt: skip
    segments = data.segments()
    if few:
        axes.hlines(np.arange(count) - 0.5, *extent[:2], color=CARD, linewidth=2)
    else:
        _dots(axes, data, segments)
    for old in data.renames:
        axes.plot([day_number(data, old.old_last), day_number(data, old.new_first)],
                  [old.old_row, old.new_row], color=INK, linewidth=0.7, marker="o", markersize=2,
                  zorder=5)  # fmt: skip
    time_axis(axes, data)
    axes.grid(visible=False)
    axes.set_ylim(max(count, 1) - 0.5, -0.5)
    rows = range(count) if few else range(0, count, max(1, round(count / 20)))
    symbols = [masking.printable(data.symbols["symbol"][row]) for row in rows]
    names = [printable(symbol, rcParams["font.family"]) for symbol in symbols]
    axes.set_yticks(list(rows), names, fontsize=7)
    present = {segment.cell for segment in segments}
    if data.bands():
        present.add(Cell.UNKNOWN)
    handles: list[Any] = [
        swatch(CELL_COLOURS[c], cell_name(c, data)) for c in CELL_NAMES if c in present
    ]
    if data.renames:
        handles.append(Line2D([], [], color=INK, linewidth=0.8, marker="o", markersize=2,
                              label="relisted"))  # fmt: skip
    legend(axes, handles, -0.35 / height)
    return figure


def _dots(axes: "Axes", data: ReportData, segments: Sequence[Segment]) -> None:
    """A hole of one day among 1,000 rows is less than a pixel: give each a dot."""
    for cell in (Cell.ABSENT, Cell.PENDING):
        holes = [s for s in segments if s.cell == cell]
        middles = [day_number(data, (s.first + s.last) / 2) for s in holes]
        axes.scatter(middles, [s.row for s in holes],
                     s=3, marker="s", linewidths=0, color=CELL_COLOURS[cell], zorder=4)  # fmt: skip


def _shrink(cells: Any, rows: int, columns: int) -> Any:
    """The cells in at most so many rows and columns; the highest of those that share one wins."""
    for axis, most in ((0, rows), (1, columns)):
        size = cells.shape[axis]
        if size > most:
            edges = np.unique(np.linspace(0, size, most, endpoint=False).astype(int))
            cells = np.maximum.reduceat(cells, edges, axis=axis)
    return cells


def _lag(data: ReportData) -> "Figure":
    from matplotlib.ticker import NullLocator

    figure, axes = figure_of(data, "lag", 3.7, f"from the end of a {data.unit} to its files")
    days, x = data.days, day_numbers(data)
    # A file cannot come before its date is over; a clock may say so, and a log axis takes no zero.
    p50, p95 = (days[name].clip(lower=0.5).to_numpy() for name in ("lag_p50", "lag_p95"))
    handles: list[Any] = []
    if has_usual_lag(data.dataset):
        handles.append(axes.axhspan(*USUAL_LAG, color=DAY_COLOURS[DayState.MET], alpha=0.35,
                                    linewidth=0, label=USUAL_LAG_NAME))  # fmt: skip
    [upper] = axes.plot(x, p95, color=CELL_COLOURS[Cell.ENDED], linewidth=1, label="95% are there")
    [middle] = axes.plot(x, p50, color=DAY_COLOURS[DayState.COMPLETE], linewidth=1.3,
                         label="half are there")  # fmt: skip
    handles += [middle, upper]
    late = f"{data.unit}s published late"
    handles += marks(axes, data, days["late"].to_numpy(), p50, marker="^",
                      color=CELL_COLOURS[Cell.SETTLED], label=late)  # fmt: skip
    if data.bands():
        bands(axes, data)
        handles.append(swatch(DAY_COLOURS[DayState.UNKNOWN], "never probed", alpha=0.55))
    time_axis(axes, data)
    axes.set_yscale("log")
    low, high = lag_range(data)
    ticks = [hours for hours in LAG_TICKS if low < hours < high]
    axes.set_yticks(ticks, [LAG_TICKS[hours] for hours in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(low, high)
    legend(axes, handles)
    return figure


def _volume(data: ReportData, volume: Volume) -> "Figure":
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    traded = volume.traded
    figure, first = figure_of(data, "volume", 1 + 1.05 * len(traded), "each with its own scale")
    first.remove()
    x = day_numbers(data)
    grid = figure.subplots(len(traded), 1, sharex=True, squeeze=False)
    for n, (axes, (asset, values)) in enumerate(zip(grid[:, 0], traded.items(), strict=True)):
        _plain(axes)
        if n == 0:
            axes.set_title(first.get_title("left"), **_TITLE, loc="left")
            axes.set_title(first.get_title("right"), fontsize=8, color="#66707a", loc="right")
        axes.plot(x, values, color=DAY_COLOURS[DayState.COMPLETE], linewidth=1.1, zorder=3)
        axes.fill_between(x, values, color=DAY_COLOURS[DayState.MET], alpha=0.35, linewidth=0)
        time_axis(axes, data)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: said_volume(value)))
        axes.text(0.008, 0.9, masking.printable(asset), transform=axes.transAxes, va="top",
                  fontweight="bold", color=INK, zorder=4)  # fmt: skip
    return figure


def _top(data: ReportData, volume: Volume) -> "Figure":
    from matplotlib import rcParams

    top = volume.top
    figure, axes = figure_of(data, "top", 1 + 0.21 * len(top), "share, ranks risen in seven days")
    values = [row[2] for row in top]
    axes.barh(range(len(top)), values, height=0.78, color=CELL_COLOURS[Cell.LIVE])
    for n, (value, label) in enumerate(zip(values, top_labels(volume), strict=True)):
        axes.text(value, n, f"  {said_volume(value)}   {label}", va="center", fontsize=8, color=INK)
    names = [printable(masking.printable(row[1]), rcParams["font.family"]) for row in top]
    axes.set_yticks(range(len(top)), names, fontsize=8)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_xlim(0, max([*values, 1.0]) * 1.2)
    axes.set_ylim(len(top) - 0.5, -0.5)
    return figure
