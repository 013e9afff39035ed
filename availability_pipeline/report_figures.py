"""The report's four figures in plotly, for the HTML page.

Belongs here: what each figure shows, tooltips. Does not belong here: numbers (`report_data`), what
the figures share (`report_traces`), colours and names (`report_style`), the page and its script
(`report_html`), which gives the figures the colours of the reader's system.

The matrix is one bar a stretch of equal dates, not a point a cell: about 1,600 bars for 2.6 million
cells. plotly is imported inside the functions: 0.1 s.
"""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from availability_pipeline.masking import printable
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
from availability_pipeline.report_traces import (
    DAY_MS,
    HEIGHT,
    bands,
    figure_of,
    iso_minute,
    line,
    points,
    time_axis,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_SEGMENTS = 20_000
"""Bars the matrix has at most, about 2 MB; the shortest are left out, and the page says so."""

MATRIX_HEIGHT = 900
"""At most; less for few symbols."""


def figures(data: ReportData) -> "dict[str, go.Figure]":
    """All four by name: growth, completeness, matrix, lag."""
    return {
        "growth": _growth(data),
        "completeness": _completeness(data),
        "matrix": _matrix(data),
        "lag": _lag(data),
    }


def _growth(data: ReportData) -> "go.Figure":
    figure = figure_of(HEIGHT)
    days, names = data.days, day_names(data.threshold)
    state = days["state"].to_numpy()
    available = days["available"].to_numpy()
    said = [names[DayState(s)] for s in state[data.first_file :]]
    expected = days["expected"].fillna(0).astype(int)[data.first_file :].tolist()
    figure.add_trace(line(
        data, available, name="symbols with a file", fill="tozeroy",
        fillcolor="rgba(127,185,230,.3)", line={"color": "#3b86c6", "width": 2},
        customdata=list(zip(expected, said, strict=True)),
        hovertemplate="<b>%{x|%Y-%m-%d}</b><br>%{y:,} of %{customdata[0]:,} expected"
        "<br>%{customdata[1]}<extra></extra>",
    ))  # fmt: skip
    figure.add_trace(line(data, days["expected"], name="expected", hoverinfo="skip",
                           line={"color": "#8a949e", "width": 1, "dash": "dot"}))  # fmt: skip
    _mark_states(figure, data, available)
    bands(figure, data)
    time_axis(figure, data)
    figure.update_layout(hovermode="x")
    figure.update_yaxes(rangemode="tozero")
    return figure


def _mark_states(figure: "go.Figure", data: ReportData, values: Any) -> None:
    state = data.days["state"].to_numpy()
    short = (state == DayState.SHORT) | (state == DayState.POOR)
    marks = (
        (state == DayState.PENDING, "dates pending", "diamond", DAY_COLOURS[DayState.PENDING]),
        (short, f"dates below {data.threshold:.0%}", "triangle-down",
         DAY_COLOURS[DayState.SHORT]),
        (data.days["late"].to_numpy(), "dates published late", "triangle-up",
         CELL_COLOURS[Cell.SETTLED]),
    )  # fmt: skip
    for chosen, name, symbol, colour in marks:
        if chosen.any():
            figure.add_trace(points(data, chosen, values, name, symbol=symbol, color=colour))


def _completeness(data: ReportData) -> "go.Figure":
    years, grid = calendar(data)
    texts = np.full(grid.shape, "", object)
    names = day_names(data.threshold)
    for day in data.days.to_dict("records"):
        date: dt.date = day["date"]
        if date.year not in years:
            continue
        row, column = calendar_place(date)
        text = f"<b>{date}</b><br>{names[DayState(day['state'])]}"
        if day["state"] not in (DayState.UNKNOWN, DayState.IDLE):
            text += f"<br>{day['available']:,.0f} of {day['expected']:,.0f} files"
            text += f"<br>{day['missing']:,.0f} missing" if day["missing"] else ""
        texts[8 * (date.year - years[0]) + row, column] = text
    figure = figure_of(30 + 120 * len(years))
    stops = [[(n + end) / len(DayState), DAY_COLOURS[s]] for n, s in enumerate(DayState)
             for end in (0, 1)]  # fmt: skip
    figure.add_trace({
        "type": "heatmap", "z": [[None if v < 0 else int(v) for v in row] for row in grid],
        "text": texts.tolist(), "hovertemplate": "%{text}<extra></extra>", "hoverongaps": False,
        "colorscale": stops, "zmin": -0.5, "zmax": len(DayState) - 0.5, "showscale": False,
        "xgap": 1.5, "ygap": 1.5,
    })  # fmt: skip
    months = [calendar_place(dt.date(years[-1], month, 15))[1] for month in range(1, 13)]
    figure.update_xaxes(tickvals=months, ticktext=list("JFMAMJJASOND"), side="top", showgrid=False,
                        showline=False, fixedrange=True)  # fmt: skip
    labels = []
    for year in years:
        share = year_share(data, year)
        labels.append(f"<b>{year}</b>" + (f"<br>{percent(share)}" if share is not None else ""))
    figure.update_yaxes(tickvals=[8 * n + 3 for n in range(len(years))], ticktext=labels,
                        autorange="reversed", showgrid=False, showline=False,
                        fixedrange=True)  # fmt: skip
    figure.update_layout(margin={"l": 64, "r": 12, "t": 26, "b": 4})
    return figure


def _matrix(data: ReportData) -> "go.Figure":
    count = len(data.symbols)
    figure = figure_of(max(260, min(MATRIX_HEIGHT, 120 + 22 * count)))
    names = [printable(symbol) for symbol in data.symbols["symbol"]]
    segments = data.segments()
    if len(segments) > MOST_SEGMENTS:
        segments = sorted(segments, key=lambda s: s.first - s.last)[:MOST_SEGMENTS]
    for cell in CELL_NAMES:
        mine = [s for s in segments if s.cell == cell]
        if mine:
            figure.add_trace(_bars(data, cell, mine, names))
    bands = data.bands()
    if bands and count:
        # One bar a stretch, as high as all symbols.
        figure.add_trace({
            "type": "bar", "orientation": "h", "y": [(count - 1) / 2] * len(bands),
            "width": count, "base": [iso_minute(data, first - 0.5) for first, _ in bands],
            "x": [(last - first + 1) * DAY_MS for first, last in bands],
            "marker": {"color": DAY_COLOURS[DayState.UNKNOWN], "line": {"width": 0}},
            "name": CELL_NAMES[Cell.UNKNOWN], "legendgroup": "unknown",
            "showlegend": not any(s.cell == Cell.UNKNOWN for s in segments),
            "text": [_span(data, first, last) for first, last in bands], "textposition": "none",
            "hovertemplate": "<b>never probed</b><br>%{text}<extra></extra>",
        })  # fmt: skip
    if count > NAMED_ROWS:
        for cell in (Cell.ABSENT, Cell.PENDING):
            figure.add_trace(_dots(data, cell, segments, names))
    if data.renames:
        figure.add_trace(_relistings(data, names))
    time_axis(figure, data)
    # The page's script names as many rows as there is room for, also after zooming in.
    figure.update_layout(barmode="overlay", bargap=0, dragmode="zoom", meta=names)
    figure.update_yaxes(range=[max(count, 1) - 0.5, -0.5], showgrid=False)
    return figure


def _bars(
    data: ReportData, cell: Cell, mine: Sequence[Segment], names: Sequence[str]
) -> dict[str, Any]:
    contract = data.symbols["contract_type"].tolist()
    return {
        "type": "bar", "orientation": "h", "y": [s.row for s in mine],
        "base": [iso_minute(data, s.first - 0.5) for s in mine],
        "x": [(s.last - s.first + 1) * DAY_MS for s in mine],
        "width": 1 if len(names) > NAMED_ROWS else 0.88,
        "marker": {"color": CELL_COLOURS[cell], "line": {"width": 0}}, "name": CELL_NAMES[cell],
        "text": [f"<b>{names[s.row]}</b>, {contract[s.row]}<br>{_span(data, s.first, s.last)}"
                 for s in mine],
        "textposition": "none",
        "hovertemplate": f"%{{text}}<br>{CELL_NAMES[cell]}<extra></extra>",
    }  # fmt: skip


def _dots(
    data: ReportData, cell: Cell, segments: Sequence[Segment], names: Sequence[str]
) -> dict[str, Any]:
    """A hole of one day among 1,000 rows is less than a pixel: give each a dot."""
    mine = [s for s in segments if s.cell == cell]
    return {
        "type": "scatter", "mode": "markers", "y": [s.row for s in mine], "showlegend": False,
        "x": [iso_minute(data, (s.first + s.last) / 2) for s in mine],
        "marker": {"symbol": "square", "size": 3, "color": CELL_COLOURS[cell]},
        "text": [f"<b>{names[s.row]}</b><br>{_span(data, s.first, s.last)}" for s in mine],
        "hovertemplate": f"%{{text}}<br>{CELL_NAMES[cell]}<extra></extra>",
    }  # fmt: skip


def _span(data: ReportData, first: int, last: int) -> str:
    if first == last:
        return str(data.date(first))
    return f"{data.date(first)} to {data.date(last)} ({last - first + 1:,} days)"


def _relistings(data: ReportData, names: Sequence[str]) -> dict[str, Any]:
    x: list[str | None] = []
    y: list[int | None] = []
    said: list[str | None] = []
    for one in data.renames:
        x += [iso_minute(data, one.old_last), iso_minute(data, one.new_first), None]
        y += [one.old_row, one.new_row, None]
        text = f"{names[one.new_row]} relisted on {data.date(one.new_first)};<br>"
        text += f"its files up to {data.date(one.old_last)} are now {names[one.old_row]}"
        said += [text, text, None]
    return {"type": "scatter", "mode": "lines+markers", "x": x, "y": y, "text": said,
            "name": "relisted", "line": {"width": 1.2}, "marker": {"size": 4}, "meta": "ink",
            "hovertemplate": "%{text}<extra></extra>"}  # fmt: skip


def _lag(data: ReportData) -> "go.Figure":
    figure = figure_of(HEIGHT)
    low, high = lag_range(data)
    p50, p95 = (data.days[name].clip(lower=0.5) for name in ("lag_p50", "lag_p95"))
    figure.add_trace(line(data, p95, name="95% are there", line={"color": "#9fb0bf", "width": 1},
                           hovertemplate="95% after %{y:,.1f} h<extra></extra>"))  # fmt: skip
    figure.add_trace(line(data, p50, name="half are there", line={"color": "#3b86c6", "width": 2},
                           hovertemplate="half after %{y:,.1f} h<extra></extra>"))  # fmt: skip
    late = data.days["late"].to_numpy()
    if late.any():
        figure.add_trace(points(data, late, p50, "dates published late", symbol="triangle-up",
                                color=CELL_COLOURS[Cell.SETTLED]))  # fmt: skip
    figure.add_shape(type="rect", xref="paper", x0=0, x1=1, y0=USUAL_LAG[0], y1=USUAL_LAG[1],
                     fillcolor=DAY_COLOURS[DayState.MET], opacity=0.35, line_width=0,
                     layer="below", name="usual: 06:57 to 08:40 UTC", showlegend=True)  # fmt: skip
    bands(figure, data)
    time_axis(figure, data)
    figure.update_layout(hovermode="x unified")
    ticks = [hours for hours in LAG_TICKS if low < hours < high]
    figure.update_yaxes(type="log", range=[float(np.log10(low)), float(np.log10(high))],
                        tickvals=ticks, ticktext=[LAG_TICKS[h] for h in ticks])  # fmt: skip
    return figure
