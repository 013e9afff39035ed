"""`report`: the pictures and the page, without Dagster."""

import datetime as dt
import webbrowser
from pathlib import Path

import click

from availability_pipeline import extras, settings
from availability_pipeline.cli._options import LocalPath
from availability_pipeline.cli._output import one_line_errors
from availability_pipeline.record import connection


@click.command("report")
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--out",
    type=LocalPath(file_okay=False, path_type=Path),
    help="Folder to write to; AVAILABILITY_REPORT_DIR when left out.",
)
def report(show: bool, out: Path | None) -> None:
    """Draw the record as an HTML page and PNG pictures.

    One page that opens offline, and four pictures.

    Example: binance-availability report --open
    """
    extras.require("report")
    # Here, not above: they bring numpy and pandas, which no question needs.
    from availability_pipeline.report import data as recorded
    from availability_pipeline.report import draw as drawing

    with one_line_errors():
        s = settings.load()
        with connection.reader(s.db, s.db_wait_seconds) as con:
            data = recorded.load(
                con, threshold=s.slo_completeness, drawn_at=dt.datetime.now(dt.UTC)
            )
        try:
            written = drawing.write(data, out or s.report_path, record=s.db_path)
        except drawing.ReportError as error:
            raise click.ClickException(str(error)) from None
    for path in (written.page, *written.pictures.values()):
        click.echo(path.resolve())
    # A machine without a browser has the path above.
    if show and not webbrowser.open(written.page.resolve().as_uri()):
        click.echo("no browser was found here; open the page above in one", err=True)
