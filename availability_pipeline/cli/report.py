"""`report`: the pictures and the pages, without Dagster."""

import datetime as dt
import webbrowser
from pathlib import Path

import click

from availability_pipeline import extras, settings
from availability_pipeline.archive.datasets import configured
from availability_pipeline.cli._options import LocalPath, patterns_option
from availability_pipeline.cli._output import one_line_errors
from availability_pipeline.record import connection


@click.command("report")
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--out",
    type=LocalPath(file_okay=False, path_type=Path),
    help="Folder to write to; AVAILABILITY_REPORT_DIR when left out.",
)
@patterns_option(
    "PATTERN",
    "Draw only these recorded datasets, as um/daily/klines/*; may be given more than once.",
)
def report(show: bool, out: Path | None, patterns: tuple[str, ...]) -> None:
    """Draw the record as HTML pages and PNG pictures.

    One page that opens offline, and four pictures. Of several recorded datasets a page each, and
    an overview that leads to them; the pictures are of the default dataset, or of each --dataset.
    Daily 1d klines have volume and the largest symbols, too, once `volume update` has read them.

    Example: binance-availability report --open
    """
    extras.require("report")
    # Here, not above: they bring numpy and pandas, which no question needs.
    from availability_pipeline.report import draw as drawing

    with one_line_errors():
        s = settings.load()
        written = drawing.write_all(
            lambda: connection.reader(s.db, s.db_wait_seconds),
            out or s.report_path,
            threshold=s.slo_completeness,
            drawn_at=dt.datetime.now(dt.UTC),
            configured=configured(s),
            patterns=",".join(patterns),
            record=s.db_path,
            volumes=s.volume_path,
            wait_seconds=s.db_wait_seconds,
        )
    for path in (written.page, *written.more, *written.pictures.values()):
        click.echo(path.resolve())
    # A machine without a browser has the path above.
    if show and not webbrowser.open(written.page.resolve().as_uri()):
        click.echo("no browser was found here; open the page above in one", err=True)
