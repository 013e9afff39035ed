"""The report's pictures as PNG, with matplotlib.

Belongs here: the four figures and how they become bytes. Does not belong here: numbers
(`report_data`), colours and names (`report_style`), files (`report`).

Only matplotlib's object-oriented interface, no pyplot: nothing global is left behind, no display
is asked for. matplotlib is imported inside the functions: at import it makes a folder for its font
cache. The background is a light card of its own, so a picture is right on light and dark pages.
"""

import datetime as dt
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from availability_pipeline import masking
from availability_pipeline.report_axes import (
    CARD,
    FAINT,
    INK,
    bands,
    day_number,
    day_numbers,
    figure_of,
    font_families,
    legend,
    marks,
    printable,
    swatch,
    time_axis,
)
from availability_pipeline.report_data import (
    Cell,
    DayState,
    ReportData,
    Segment,
    calendar,
    calendar_place,
    lag_range,
    percent,
    year_share,
)
from availability_pipeline.report_style import (
    CELL_COLOURS,
    CELL_NAMES,
    DAY_COLOURS,
    LAG_TICKS,
    NAMED_ROWS,
    USUAL_LAG,
    day_names,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FILE_DPI, SMALL_DPI = 160, 88
"""Of the files (1,600 pixels wide) and of the copies for the Dagster UI (880)."""


def draw(data: ReportData, dpis: Sequence[int] = (FILE_DPI,)) -> dict[str, tuple[bytes, ...]]:
    """The pictures by name (`growth`, `completeness`, `matrix`, `lag`), a PNG for each of `dpis`.

    Each has a palette of less than 100 colours, which makes it three times smaller.
    """
    import matplotlib as mpl

    pictures: dict[str, Callable[[ReportData], Figure]] = {
        "growth": _growth,
        "completeness": _completeness,
        "matrix": _matrix,
        "lag": _lag,
    }
    families = font_families(data.symbols["symbol"])
    with mpl.rc_context({"font.family": families, "font.size": 9}):
        return {
            name: tuple(_png(figure, dpi) for dpi in dpis)
            for name, figure in ((name, make(data)) for name, make in pictures.items())
        }


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
    state = days["state"]
    incomplete = (state == DayState.SHORT) | (state == DayState.POOR)
    handles = [
        line,
        expected,
        *marks(axes, data, (state == DayState.PENDING).to_numpy(), available, marker="D",
                color=DAY_COLOURS[DayState.PENDING], edgecolors=INK, linewidths=0.4,
                label="dates pending"),
        *marks(axes, data, incomplete.to_numpy(), available, marker="v",
                color=DAY_COLOURS[DayState.SHORT], label=f"dates below {data.threshold:.0%}"),
        *marks(axes, data, days["late"].to_numpy(), available, marker="^",
                color=CELL_COLOURS[Cell.SETTLED], label="dates published late"),
    ]  # fmt: skip
    if data.bands():
        bands(axes, data)
        handles.append(swatch(DAY_COLOURS[DayState.UNKNOWN], "never probed", alpha=0.55))
    time_axis(axes, data)
    axes.set_ylim(0, max(1.0, float(days["expected"].max()) * 1.08))
    legend(axes, handles)
    return figure


def _completeness(data: ReportData) -> "Figure":
    from matplotlib.colors import BoundaryNorm, ListedColormap

    years, grid = calendar(data)
    figure, axes = figure_of(data, "completeness", 1.2 + 0.92 * len(years),
                           "a square a date, Mondays on top")  # fmt: skip
    colours = ListedColormap([DAY_COLOURS[state] for state in DayState])
    axes.pcolormesh(
        np.arange(55), np.arange(grid.shape[0] + 1), np.ma.masked_less(grid, 0),
        cmap=colours, norm=BoundaryNorm(np.arange(len(DayState) + 1) - 0.5, len(DayState)),
        edgecolors=CARD, linewidth=0.7,
    )  # fmt: skip
    axes.invert_yaxis()
    axes.spines["bottom"].set_visible(False)
    # Months begin in the same column of every year, give or take one.
    months = [calendar_place(dt.date(years[-1], month, 15))[1] for month in range(1, 13)]
    axes.set_xticks([m + 0.5 for m in months], list("JFMAMJJASOND"))
    axes.xaxis.tick_top()
    axes.set_yticks([8 * n + 3.5 for n in range(len(years))],
                    [_year_label(data, year) for year in years])  # fmt: skip
    present = {DayState(state) for state in np.unique(grid[grid >= 0])}
    names = day_names(data.threshold)
    legend(axes, [swatch(DAY_COLOURS[s], names[s]) for s in names if s in present], -0.01)
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
        swatch(CELL_COLOURS[c], CELL_NAMES[c]) for c in CELL_NAMES if c in present
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

    figure, axes = figure_of(data, "lag", 3.7, "hours from the end of a date to its files")
    days, x = data.days, day_numbers(data)
    # A file cannot come before its date is over; a clock may say so, and a log axis takes no zero.
    p50, p95 = (days[name].clip(lower=0.5).to_numpy() for name in ("lag_p50", "lag_p95"))
    usual = axes.axhspan(*USUAL_LAG, color=DAY_COLOURS[DayState.MET], alpha=0.35, linewidth=0,
                         label="usual: 06:57 to 08:40 UTC")  # fmt: skip
    [upper] = axes.plot(x, p95, color=CELL_COLOURS[Cell.ENDED], linewidth=1, label="95% are there")
    [middle] = axes.plot(x, p50, color=DAY_COLOURS[DayState.COMPLETE], linewidth=1.3,
                         label="half are there")  # fmt: skip
    handles = [usual, middle, upper]
    handles += marks(axes, data, days["late"].to_numpy(), p50, marker="^",
                      color=CELL_COLOURS[Cell.SETTLED], label="dates published late")  # fmt: skip
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
