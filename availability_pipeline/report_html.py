"""The report as one HTML page with tooltips, which opens offline.

Belongs here: the page around the figures, its texts, style and script. Does not belong here: the
figures (`report_figures`), files (`report`).

plotly.js (4.8 MB) is in the page, and a Content-Security-Policy forbids it to load anything else.
The figures are data in the page; its own script draws them in the colours the reader's system asks
for and again when that changes.
"""

import html
from typing import TYPE_CHECKING

from availability_pipeline.report_data import DayState, ReportData
from availability_pipeline.report_figures import MOST_SEGMENTS, figures
from availability_pipeline.report_style import DAY_COLOURS, IDLE_DARK, NO_FILE, TITLES, day_names

if TYPE_CHECKING:
    import plotly.graph_objects as go

NOTES = {
    "growth": "How many symbols have a file for each date. Gaps are dates nobody looked at.",
    "completeness": "A square a date, Mondays on top: which share of the files expected on it is "
    "there. <b>Pending</b>: probed too early to say. <b>Unknown</b>: never probed. Before "
    "2019-12-31 the archive holds no file, and none is expected.",
    "matrix": "A row a symbol, by first file. Drag to zoom in, double-click to zoom out; a line "
    "leads from a settled contract to its relisting.",
    "lag": "How long after the end of a date (UTC) its files came, on a logarithmic scale. A file "
    "that was replaced counts from its last upload.",
}


def page(data: ReportData) -> str:
    """The whole page, about 5.5 MB for 1,000 symbols and seven years."""
    from plotly.offline import get_plotlyjs

    sections = "\n".join(_section(data, name, figure) for name, figure in figures(data).items())
    numbers = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in data.headline().items()
    )
    return (
        _PAGE.replace("{{drawn}}", f"{data.drawn_at:%Y-%m-%d %H:%M} UTC")
        .replace("{{numbers}}", numbers)
        .replace("{{sections}}", sections)
        .replace("{{idle}}", DAY_COLOURS[DayState.IDLE])
        .replace("{{idle_dark}}", IDLE_DARK)
        .replace("{{plotly}}", get_plotlyjs())
    )


def _section(data: ReportData, name: str, figure: "go.Figure") -> str:
    note = NOTES[name]
    if not len(data.symbols) and name != "completeness":
        note += f" <b>Nothing to draw: {NO_FILE}.</b>"
    if name == "matrix" and len(data.segments()) > MOST_SEGMENTS:
        note += f" Only the {MOST_SEGMENTS:,} longest stretches are drawn."
    key = "".join(
        f"<span><i {mark}></i>{html.escape(text)}</span>" for mark, text in _key(data, name)
    )
    # "</" would end the script element.
    spec = figure.to_json().replace("</", "<\\/")
    return f"""<section>
<h2>{TITLES[name]}</h2>
<p>{note}</p>
<div class="key">{key}</div>
<div class="plot" id="{name}" style="height:{figure.layout.height}px"></div>
<script type="application/json" data-for="{name}">{spec}</script>
</section>"""


def _key(data: ReportData, name: str) -> list[tuple[str, str]]:
    """Swatches above the figures whose own legend would not say it."""
    if name != "completeness":
        return []
    present = {DayState(state) for state in data.days["state"].unique()}
    marks = {state: f'style="background:{colour}"' for state, colour in DAY_COLOURS.items()}
    marks[DayState.IDLE] = 'class="idle"'
    names = day_names(data.threshold)
    return [(marks[state], names[state]) for state in names if state in present]


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline';
 style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'">
<title>Availability of Binance USD-M futures files</title>
<style>
:root { --paper: #fbfbf9; --ink: #23292f; --soft: #5a646e; --line: #d9dde1; --idle: {{idle}}; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181d; --ink: #e4e8ec; --soft: #9aa4ae; --line: #333b44;
          --idle: {{idle_dark}}; }
}
body { margin: 0 auto; max-width: 1500px; padding: 20px 24px 40px; background: var(--paper);
       color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 4px; }
h2 { font-size: 1.15rem; margin: 36px 0 2px; }
p { margin: 2px 0 8px; color: var(--soft); max-width: 90ch; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 10px 20px;
     margin: 16px 0 0; }
dt { color: var(--soft); font-size: 13px; }
dd { margin: 0; font-size: 14px; font-weight: 600; white-space: nowrap; }
.key { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; }
.key i { display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 2px;
         vertical-align: -1px; }
.key i.idle { background: var(--idle); }
@media (max-width: 600px) { body { padding: 14px 10px 30px; } }
</style>
</head>
<body>
<h1>Availability of Binance USD-M futures files</h1>
<p>1-minute klines, daily files. Drawn {{drawn}}.</p>
<dl>{{numbers}}</dl>
<noscript><p>The figures need JavaScript; the PNG files beside this page do not.</p></noscript>
{{sections}}
<script>{{plotly}}</script>
<script>
"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function themed(figure) {
  const ink = colour("--ink"), line = colour("--line"), paper = colour("--paper");
  const layout = figure.layout;
  layout.font.color = ink;
  layout.hoverlabel = {bgcolor: paper, bordercolor: line, font: {color: ink}, align: "left"};
  for (const axis of [layout.xaxis, layout.yaxis]) {
    axis.gridcolor = line; axis.linecolor = line; axis.tickcolor = line;
  }
  for (const trace of figure.data) {
    if (trace.meta === "ink") { trace.line.color = ink; trace.marker.color = ink; }
    if (trace.type === "heatmap") {
      trace.colorscale[2][1] = trace.colorscale[3][1] = colour("--idle");
    }
  }
  return figure;
}
function narrowed(figure) {
  // Long names would leave a phone no room for the rows.
  const narrow = innerWidth < 600;
  figure.layout.font.size = narrow ? 10 : 12;
  return figure;
}
function nameRows(plot) {
  const names = plot.layout.meta, [low, high] = plot.layout.yaxis.range;
  const step = Math.max(1, Math.ceil(Math.abs(low - high) / 42));
  if (plot.step === step) return;
  plot.step = step;
  const rows = names.map((_, row) => row).filter(row => row % step === 0);
  Plotly.relayout(plot, {"yaxis.tickvals": rows, "yaxis.ticktext": rows.map(row => names[row])});
}
const config = {responsive: true, displaylogo: false, displayModeBar: false};
function drawAll() {
  for (const source of document.querySelectorAll("script[data-for]")) {
    const figure = narrowed(themed(JSON.parse(source.textContent)));
    Plotly.react(source.dataset.for, figure.data, figure.layout, config);
  }
  const matrix = document.getElementById("matrix");
  matrix.step = 0;
  nameRows(matrix);
}
drawAll();
const matrix = document.getElementById("matrix");
matrix.on("plotly_relayout", () => nameRows(matrix));
dark.addEventListener("change", drawAll);
</script>
</body>
</html>
"""
