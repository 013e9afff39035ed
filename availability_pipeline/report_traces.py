"""What the report's plotly figures share: layout, time axis, lines, points, where nobody looked.

Belongs here: how any figure of the page is made. Does not belong here: the four figures
(`report_figures`), colours and names (`report_style`). plotly is imported inside the functions.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from availability_pipeline.report_data import DayState, ReportData
from availability_pipeline.report_style import DAY_COLOURS

if TYPE_CHECKING:
    import plotly.graph_objects as go

DAY_MS = 86_400_000

HEIGHT = 380
"""Pixels; the completeness is as high as it has years."""


def figure_of(height: int) -> "go.Figure":
    """An empty figure so many pixels high, without colours of its own."""
    import plotly.graph_objects as go

    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "margin": {"l": 56, "r": 12, "t": 8, "b": 40},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "hovermode": "closest",
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "font": {"family": "system-ui, sans-serif", "size": 12},
            "xaxis": {"zeroline": False, "automargin": True},
            "yaxis": {"zeroline": False, "automargin": True},
        }
    )


def time_axis(figure: "go.Figure", data: ReportData) -> None:
    """Dates from the first file on along the bottom."""
    first, end = data.first_file, len(data.days)
    room = max(0.5, 0.004 * (end - first))
    span = [iso_minute(data, first - 0.5 - room), iso_minute(data, end - 0.5 + room)]
    figure.update_xaxes(type="date", range=span, hoverformat="%Y-%m-%d")


def iso_minute(data: ReportData, offset: float) -> str:
    """The time at an offset in days, as plotly reads it."""
    return str(np.datetime64(data.start, "m") + np.timedelta64(round(offset * 1440), "m"))


def line(data: ReportData, values: Any, **options: Any) -> dict[str, Any]:
    """A line over all dates from the first file: their distance is stored, not each date."""
    first = data.first_file
    shown = np.asarray(values, float)[first:].round(2)
    return {"type": "scatter", "mode": "lines", "x0": iso_minute(data, first), "dx": DAY_MS,
            "y": shown, **options}  # fmt: skip


def points(data: ReportData, chosen: Any, values: Any, name: str, **marker: Any) -> dict[str, Any]:
    """Points at the chosen dates, how many there are in the name."""
    where = np.flatnonzero(chosen)
    return {
        "type": "scatter", "mode": "markers", "x": [str(data.date(int(n))) for n in where],
        "y": np.asarray(values, float)[where].round(2), "name": f"{name} ({len(where)})",
        "marker": {"size": 9, "line": {"width": 1, "color": "#fff"}, **marker},
        "hoverinfo": "skip",
    }  # fmt: skip


def bands(figure: "go.Figure", data: ReportData) -> None:
    """Stretches that nobody looked at, behind the lines."""
    found = data.bands()
    for first, last in found:
        figure.add_shape(type="rect", xref="x", yref="paper", y0=0, y1=1, layer="below",
                         x0=iso_minute(data, first - 0.5), x1=iso_minute(data, last + 0.5),
                         fillcolor=DAY_COLOURS[DayState.UNKNOWN], opacity=0.5,
                         line_width=0)  # fmt: skip
    if found:
        figure.add_trace({
            "type": "scatter", "mode": "markers", "x": [None], "y": [None],
            "name": "never probed",
            "marker": {"symbol": "square", "size": 12, "color": DAY_COLOURS[DayState.UNKNOWN]},
        })  # fmt: skip
