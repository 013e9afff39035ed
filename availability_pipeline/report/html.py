"""The report's pages: plotly figures in `page.html`, all datasets in `overview.html`.

They open offline. plotly is imported inside the functions.
"""

import datetime as dt
import html
import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.masking import printable
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
from availability_pipeline.report.overview import RECENT_DATES, RECENT_MONTHS, Line
from availability_pipeline.report.style import (
    CELL_COLOURS,
    CELL_NAMES,
    DAY_COLOURS,
    IDLE_DARK,
    LAG_TICKS,
    MARKS,
    NAMED_ROWS,
    NO_FILE,
    USUAL_LAG,
    USUAL_LAG_NAME,
    about,
    cell_name,
    day_names,
    has_usual_lag,
    heading,
    lifecycle,
    said_bytes,
    said_volume,
    title,
    top_labels,
)
from availability_pipeline.report.volumes import Volume

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
    """Dates from the first file on along the bottom, or months."""
    first, end = data.first_file, len(data.days)
    room = max(0.5, 0.004 * (end - first))
    span = [iso_minute(data, first - 0.5 - room), iso_minute(data, end - 0.5 + room)]
    figure.update_xaxes(type="date", range=span, hoverformat=_format(data))
    if data.dataset.monthly and end - first <= 12:
        figure.update_xaxes(dtick="M1")  # plotly would name weeks


def _format(data: ReportData) -> str:
    return "%Y-%m" if data.dataset.monthly else "%Y-%m-%d"


def iso_minute(data: ReportData, offset: float) -> str:
    """The time at an offset, as plotly reads it."""
    return str(data.minute(offset))


def milliseconds(data: ReportData, first: int, last: int) -> int:
    """How long a stretch of periods is."""
    length = data.minute(last + 0.5) - data.minute(first - 0.5)
    return 60_000 * int(length.astype(int))


def line(data: ReportData, values: Any, **options: Any) -> dict[str, Any]:
    """A line over all dates from the first file: their distance is stored, not each date."""
    first = data.first_file
    shown = np.asarray(values, float)[first:].round(2)
    where: dict[str, Any] = {"x0": iso_minute(data, first), "dx": DAY_MS}
    if data.dataset.monthly:  # months have no one length
        where = {"x": [str(data.date(n)) for n in range(first, len(data.days))]}
    return {"type": "scatter", "mode": "lines", **where, "y": shown, **options}


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
    """Stretches that were never probed, behind the lines."""
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


MOST_SEGMENTS = 20_000
"""Bars the matrix has at most, about 2 MB; the shortest are left out, and the page says so."""

MATRIX_HEIGHT = 900
"""At most; less for few symbols."""


def figures(data: ReportData) -> "dict[str, go.Figure]":
    """All by name: growth, completeness, matrix, lag; volume and top where it was read."""
    found = {
        "growth": _growth(data),
        "completeness": _completeness(data),
        "matrix": _matrix(data),
        "lag": _lag(data),
    }
    if data.volume:
        found |= {"volume": _volume(data, data.volume), "top": _top(data.volume)}
    return found


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
        hovertemplate=f"<b>%{{x|{_format(data)}}}</b>"
        "<br>%{y:,} of %{customdata[0]:,} expected"
        "<br>%{customdata[1]}<extra></extra>",
    ))  # fmt: skip
    figure.add_trace(line(data, days["expected"], name="expected", hoverinfo="skip",
                           line={"color": "#8a949e", "width": 1, "dash": "dot"}))  # fmt: skip
    for (name, chosen), (symbol, _, colour) in zip(data.marks().items(), MARKS, strict=True):
        if chosen.any():
            figure.add_trace(points(data, chosen, available, name, symbol=symbol, color=colour))
    bands(figure, data)
    time_axis(figure, data)
    figure.update_layout(hovermode="x")
    figure.update_yaxes(rangemode="tozero")
    return figure


def _completeness(data: ReportData) -> "go.Figure":
    found = calendar(data)
    texts = np.full(found.states.shape, "", object)
    names = day_names(data.threshold)
    for day in data.days.to_dict("records"):
        date: dt.date = day["date"]
        if date.year not in found.years:
            continue
        text = f"<b>{data.dataset.text(date)}</b><br>{names[DayState(day['state'])]}"
        if day["state"] not in (DayState.UNKNOWN, DayState.IDLE):
            text += f"<br>{day['available']:,.0f} of {day['expected']:,.0f} files"
            text += f"<br>{day['missing']:,.0f} missing" if day["missing"] else ""
        texts[found.place(date)] = text
    # Two lines of a label need 30 pixels, and are left out where they have fewer.
    below = 14 if found.monthly else 4
    figure = figure_of(26 + below + (40 if found.monthly else 120) * len(found.years))
    stops = [[(n + end) / len(DayState), DAY_COLOURS[s]] for n, s in enumerate(DayState)
             for end in (0, 1)]  # fmt: skip
    figure.add_trace({
        "type": "heatmap", "z": [[None if v < 0 else int(v) for v in row] for row in found.states],
        "text": texts.tolist(), "hovertemplate": "%{text}<extra></extra>", "hoverongaps": False,
        "colorscale": stops, "zmin": -0.5, "zmax": len(DayState) - 0.5, "showscale": False,
        "xgap": 1.5, "ygap": 1.5,
    })  # fmt: skip
    figure.update_xaxes(tickvals=found.months, ticktext=list("JFMAMJJASOND"), side="top",
                        showgrid=False, showline=False, fixedrange=True)  # fmt: skip
    labels = []
    for year in found.years:
        share = year_share(data, year)
        labels.append(f"<b>{year}</b>" + (f"<br>{percent(share)}" if share is not None else ""))
    figure.update_yaxes(tickvals=found.middles, ticktext=labels,
                        autorange="reversed", showgrid=False, showline=False,
                        fixedrange=True)  # fmt: skip
    figure.update_layout(margin={"l": 64, "r": 12, "t": 26, "b": below})
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
            "x": [milliseconds(data, first, last) for first, last in bands],
            "marker": {"color": DAY_COLOURS[DayState.UNKNOWN], "line": {"width": 0}},
            "name": cell_name(Cell.UNKNOWN, data), "legendgroup": "unknown",
            "showlegend": not any(s.cell == Cell.UNKNOWN for s in segments),
            "text": [data.span(first, last) for first, last in bands], "textposition": "none",
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
        "x": [milliseconds(data, s.first, s.last) for s in mine],
        "width": 1 if len(names) > NAMED_ROWS else 0.88,
        "marker": {"color": CELL_COLOURS[cell], "line": {"width": 0}},
        "name": cell_name(cell, data),
        "text": [f"<b>{names[s.row]}</b>, {contract[s.row]}<br>{data.span(s.first, s.last)}"
                 for s in mine],
        "textposition": "none",
        "hovertemplate": f"%{{text}}<br>{cell_name(cell, data)}<extra></extra>",
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
        "text": [f"<b>{names[s.row]}</b><br>{data.span(s.first, s.last)}" for s in mine],
        "hovertemplate": f"%{{text}}<br>{cell_name(cell, data)}<extra></extra>",
    }  # fmt: skip


def _relistings(data: ReportData, names: Sequence[str]) -> dict[str, Any]:
    x: list[str | None] = []
    y: list[int | None] = []
    said: list[str | None] = []
    for one in data.renames:
        x += [iso_minute(data, one.old_last), iso_minute(data, one.new_first), None]
        y += [one.old_row, one.new_row, None]
        text = f"{names[one.new_row]} relisted on {data.text(one.new_first)};<br>"
        text += f"its files up to {data.text(one.old_last)} are now {names[one.old_row]}"
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
        name = f"{data.unit}s published late"
        figure.add_trace(points(data, late, p50, name, symbol="triangle-up",
                                color=CELL_COLOURS[Cell.SETTLED]))  # fmt: skip
    if has_usual_lag(data.dataset):
        figure.add_shape(type="rect", xref="paper", x0=0, x1=1, y0=USUAL_LAG[0], y1=USUAL_LAG[1],
                         fillcolor=DAY_COLOURS[DayState.MET], opacity=0.35, line_width=0,
                         layer="below", name=USUAL_LAG_NAME, showlegend=True)  # fmt: skip
    bands(figure, data)
    time_axis(figure, data)
    figure.update_layout(hovermode="x unified")
    ticks = [hours for hours in LAG_TICKS if low < hours < high]
    figure.update_yaxes(type="log", range=[float(np.log10(low)), float(np.log10(high))],
                        tickvals=ticks, ticktext=[LAG_TICKS[h] for h in ticks])  # fmt: skip
    return figure


PANEL = 130
"""Pixels of a quote asset's line."""


def _volume(data: ReportData, volume: Volume) -> "go.Figure":
    """A panel a quote asset, one below the other over the same dates."""
    count = len(volume.traded)
    figure = figure_of(60 + PANEL * count)
    for n, (asset, values) in enumerate(volume.traded.items()):
        top = 1 - n / count
        axis = "" if n == 0 else str(n + 1)
        figure.add_trace(line(
            data, values, name=printable(asset), yaxis=f"y{axis}",
            line={"color": "#3b86c6", "width": 1.5},
            hovertemplate=f"%{{x|%Y-%m-%d}}: %{{y:,.4s}} {html.escape(printable(asset))}"
            "<extra></extra>",
        ))  # fmt: skip
        figure.update_layout({f"yaxis{axis}": {
            "domain": [top - 1 / count + 0.28 / count, top - 0.06 / count], "rangemode": "tozero",
            "zeroline": False, "automargin": True, "exponentformat": "B", "nticks": 4,
            "fixedrange": True,
        }})  # fmt: skip
        figure.add_annotation(
            text=f"<b>{html.escape(printable(asset))}</b>", x=0, xref="paper", xanchor="left",
            y=top, yref="paper", yanchor="middle", showarrow=False,
        )  # fmt: skip
    time_axis(figure, data)
    figure.update_layout(showlegend=False, hovermode="x")
    # The dates are below the last panel.
    figure.update_xaxes(anchor=f"y{count}" if count > 1 else "y")
    return figure


def _top(volume: Volume) -> "go.Figure":
    figure = figure_of(40 + 22 * len(volume.top))
    names = [printable(symbol) for _, symbol, *_ in volume.top]
    values = [row[2] for row in volume.top]
    labels = top_labels(volume)
    figure.add_trace({
        "type": "bar", "orientation": "h", "y": list(range(len(names))), "x": values,
        "marker": {"color": CELL_COLOURS[Cell.LIVE]}, "width": 0.8,
        "text": [f"{said_volume(v)}   {label}" for v, label in zip(values, labels, strict=True)],
        "textposition": "outside", "cliponaxis": False,
        "customdata": names,
        "hovertemplate": "<b>%{customdata}</b><br>%{x:,.0f}<extra></extra>",
    })  # fmt: skip
    figure.update_xaxes(showgrid=False, showticklabels=False, showline=False, ticks="",
                        fixedrange=True, range=[0, max([*values, 1.0]) * 1.22])  # fmt: skip
    figure.update_yaxes(range=[len(names) - 0.5, -0.5], tickvals=list(range(len(names))),
                        ticktext=names, showgrid=False, fixedrange=True)  # fmt: skip
    figure.update_layout(margin={"l": 64, "r": 12, "t": 4, "b": 8}, bargap=0.2)
    return figure


def notes(data: ReportData) -> dict[str, str]:
    """What each figure shows, as HTML."""
    unit = data.unit
    place = "A square a month" if data.dataset.monthly else "A square a date, Mondays on top"
    return {
        "growth": f"How many symbols have a file for each {unit}. Gaps are {unit}s that were never "
        "probed.",
        "completeness": f"{place}: which share of the files expected on it is there. "
        "<b>Pending</b>: probed too early to say. <b>Unknown</b>: never probed. Before the first "
        "file none is expected.",
        "matrix": "A row a symbol, by first file. Drag to zoom in, double-click to zoom out; a "
        "line leads from a settled contract to its relisting.",
        "lag": f"How long after the end of a {unit} (UTC) its files came, on a logarithmic scale. "
        "A file that was replaced counts from its last upload.",
        **(_volume_notes(data.dataset, data.volume) if data.volume else {}),
    }


def _volume_notes(dataset: Dataset, volume: Volume) -> dict[str, str]:
    kind = "base" if dataset.market == "cm" else "quote"
    more = f" {volume.others:,} more are not drawn." if volume.others else ""
    shown = f"The first {len(volume.top)} of {volume.symbols:,} symbols"
    if len(volume.top) == volume.symbols:
        shown = f"{volume.symbols:,} symbols" if volume.symbols != 1 else "One symbol"
    pending = ""
    if volume.top[0][3] is None:
        pending = " Files of the date are pending or were not read: shares are not known yet."
    return {
        "volume": f"What was traded on each date, in the {kind} asset, each with a scale of its "
        f"own. Gaps are dates that were not read, or lack a file.{more}",
        "top": f"{shown}, with volume, share, and how many ranks it rose (▲) or fell (▼) in seven "
        f"days.{pending}",
    }


PLOTLY = "plotly.min.js"
"""The file of plotly.js where several pages share it: 4.8 MB that one page alone has inside."""


def plotly() -> str:
    """The script's text."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def page(data: ReportData, *, overview: str | None = None, pictures: bool = True) -> str:
    """A dataset's page: alone about 5.5 MB for 1,000 symbols and seven years, else 0.7 MB.

    Args:
        data: from `data.load`.
        overview: name of the page that leads here, which has `PLOTLY` beside it; None where this
            page is all there is: then the script is inside.
        pictures: whether there are PNG files, too.
    """
    sections = "\n".join(_section(data, name, figure) for name, figure in figures(data).items())
    home, said = "", about(data.dataset)
    name = f"Availability of {heading(data.dataset)} files"
    if overview:
        home = f'<p><a href="{overview}">All datasets</a></p>\n'
        name, said = f"Availability of {data.dataset}", f"{heading(data.dataset)}, {said}"
    # `'self'` is not a file to every browser.
    return _filled(
        "page.html",
        scripts="'unsafe-inline' 'self' file:" if overview else "'unsafe-inline'",
        title=html.escape(name),
        home=home,
        about=html.escape(said),
        drawn=f"{data.drawn_at:%Y-%m-%d %H:%M} UTC",
        numbers=_numbers(data.headline()),
        pictures="; the PNG files beside this page do not" if pictures else "",
        sections=sections,
        plotly=f'<script src="{PLOTLY}"></script>' if overview else f"<script>{plotly()}</script>",
    )


def _filled(name: str, **texts: str) -> str:
    """A page of ours with its texts, which are HTML."""
    folder = Path(__file__).parent
    style = (folder / "page.css").read_text(encoding="utf-8")
    style = style.replace("{{idle}}", DAY_COLOURS[DayState.IDLE])
    texts["style"] = style.replace("{{idle_dark}}", IDLE_DARK)
    # A text may hold anything: each place is filled once.
    parts = re.split(r"\{\{([a-z]+)\}\}", (folder / name).read_text(encoding="utf-8"))
    return "".join(texts[part] if n % 2 else part for n, part in enumerate(parts))


def _numbers(numbers: Mapping[str, str]) -> str:
    return "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in numbers.items()
    )


def _section(data: ReportData, name: str, figure: "go.Figure") -> str:
    note = notes(data)[name]
    if not len(data.symbols) and name != "completeness":
        note += f" <b>Nothing to draw: {NO_FILE}.</b>"
    if name == "matrix" and len(data.segments()) > MOST_SEGMENTS:
        note += f" Only the {MOST_SEGMENTS:,} longest stretches are drawn."
    key = _swatches(_key(data, name))
    # "</" would end the script element.
    spec = figure.to_json().replace("</", "<\\/")
    return f"""<section>
<h2>{title(name, data)}</h2>
<p>{note}</p>
<div class="key">{key}</div>
<div class="plot" id="{name}" style="height:{figure.layout.height}px"></div>
<script type="application/json" data-for="{name}">{spec}</script>
</section>"""


def _key(data: ReportData, name: str) -> list[tuple[str, str]]:
    """Swatches above the figures whose own legend would not say it."""
    if name != "completeness":
        return []
    return _day_key({DayState(state) for state in data.days["state"].unique()}, data.threshold)


def _day_key(present: Collection[DayState], threshold: float) -> list[tuple[str, str]]:
    marks = {state: f'style="background:{colour}"' for state, colour in DAY_COLOURS.items()}
    marks[DayState.IDLE] = 'class="idle"'
    names = day_names(threshold)
    return [(marks[state], names[state]) for state in names if state in present]


def _swatches(key: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<span><i {mark}></i>{html.escape(text)}</span>" for mark, text in key)


def overview_page(
    lines: Sequence[Line],
    pages: Mapping[Dataset, str],
    *,
    threshold: float,
    drawn_at: dt.datetime,
    unrecorded: Sequence[Dataset] = (),
    traded: Sequence[Dataset] = (),
) -> str:
    """The page of all datasets: a row each, and totals.

    Args:
        lines: from `overview.load`, in their order.
        pages: the datasets that have a page, with its name.
        threshold: share of the expected files each settled date needs.
        drawn_at: now, in UTC.
        unrecorded: datasets that are configured and not recorded yet.
        traded: the datasets whose pages show what was traded.
    """
    rows: list[str] = []
    for market, group in itertools.groupby(lines, lambda line: line.dataset.market):
        rows.append(f'<tr><th colspan="10">{html.escape(heading(Dataset(market)))}</th></tr>')
        rows += [_row(line, pages.get(line.dataset), threshold) for line in group]
    present = {state for line in lines for _, state in line.recent}
    later = ""
    if unrecorded:
        names = ", ".join(map(str, unrecorded))
        later = f"<p>Configured and not recorded yet: {html.escape(names)}.</p>"
    if traded:
        links = ", ".join(
            f'<a href="{html.escape(pages[one])}#volume">{html.escape(heading(one))}</a>'
            for one in traded
        )
        later += f"<p>Daily volume, and the largest symbols: {links}.</p>"
    return _filled(
        "overview.html",
        title="Availability of Binance files",
        drawn=f"{drawn_at:%Y-%m-%d %H:%M} UTC",
        dates=str(RECENT_DATES),
        months=str(RECENT_MONTHS),
        numbers=_numbers(
            {
                "Datasets": f"{len(lines):,}",
                "Files": f"{sum(line.files for line in lines):,}",
                "Size": said_bytes(sum(line.bytes for line in lines)),
                "Holes": f"{sum(line.holes for line in lines):,}",
            }
        ),
        colours="".join(
            f".s{int(state)} {{ fill: {colour}; }}\n"
            for state, colour in DAY_COLOURS.items()
            if state != DayState.IDLE
        )
        + f".s{int(DayState.IDLE)} {{ fill: var(--idle); }}\n",
        rows="\n".join(rows),
        key=_swatches(_day_key(present, threshold)),
        notes=later,
    )


def _row(line: Line, page: str | None, threshold: float) -> str:
    dataset = line.dataset
    name = html.escape(str(dataset))
    if page:
        name = f'<a href="{html.escape(page)}">{name}</a>'
    state = lifecycle(dataset)
    if not line.configured:
        state += ", no longer configured"
    unit = "month" if dataset.monthly else "date"
    complete = "-"
    if line.share is not None:
        count = f"{len(line.recent)} {unit}{'' if len(line.recent) == 1 else 's'}"
        complete = f"{_strip(line, threshold)}{percent(line.share)} of {count}"
    # What is not probed or published any more is shown and not judged.
    judged = line.configured and state == "live"
    off = "" if judged else ' class="off"'
    bad = ' class="bad"' if judged and line.share is not None and line.share < threshold else ""

    def text(period: dt.date | None) -> str:
        return dataset.text(period) if period else "-"

    return (
        f"<tr{off}><td>{name}</td><td>{html.escape(state)}</td>"
        f'<td class="n">{line.symbols:,}</td><td class="n">{line.files:,}</td>'
        f'<td class="n">{said_bytes(line.bytes)}</td><td>{text(line.first)}</td>'
        f"<td>{text(line.last)}</td><td>{text(line.probed)}</td>"
        f'<td class="n">{line.holes:,}</td><td{bad}>{complete}</td></tr>'
    )


def _strip(line: Line, threshold: float) -> str:
    """A square for each of the last settled dates, the newest at the right."""
    names = day_names(threshold)
    first = RECENT_DATES - len(line.recent)
    squares = "".join(
        f'<rect class="s{int(state)}" x="{5 * (first + n)}" width="4" height="14">'
        f"<title>{line.dataset.text(date)}: {html.escape(names[state])}</title></rect>"
        for n, (date, state) in enumerate(line.recent)
    )
    return f'<svg width="{5 * RECENT_DATES}" height="14">{squares}</svg>'
