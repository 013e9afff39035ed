"""The program `binance-futures-availability`, and the commands that run something.

Belongs here: `update`, `backfill`, `demo`. Does not belong here: questions (`cli_query`), looking
after it (`cli_operate`), printing (`cli_output`). Dagster is imported only inside the commands
that run it: 1.5 s that no question should cost.
"""

import datetime as dt
import sys

import click

from availability_pipeline import __version__, connections, queries, settings
from availability_pipeline.cli_operate import status
from availability_pipeline.cli_output import (
    Date,
    one_line_errors,
    today_utc,
    utf8_streams,
)
from availability_pipeline.cli_query import query

DATE = Date()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="binance-futures-availability")
def cli() -> None:
    """Which Binance USD-M futures files exist in the public archive, for each UTC date.

    Example: binance-futures-availability query snapshot 2024-01-15
    """


@cli.group()
def update() -> None:
    """Look at the archive for a date.

    Example: binance-futures-availability update manual --date 2024-01-15
    """


@update.command("manual")
@click.option("--date", type=DATE, help="UTC date; yesterday when left out.")
def update_manual(date: dt.date | None) -> None:
    """Probe one date through Dagster and write it.

    Example: binance-futures-availability update manual --date 2024-01-15
    """
    day = date or today_utc() - dt.timedelta(1)
    _run(day, day, accept_shrunken=False)


@cli.command()
@click.option("--start", type=DATE, required=True, help="First UTC date.")
@click.option("--end", type=DATE, required=True, help="Last UTC date, included.")
@click.option(
    "--accept-shrunken",
    is_flag=True,
    help="Write even if the archive lists far less than is recorded.",
)
def backfill(start: dt.date, end: dt.date, accept_shrunken: bool) -> None:
    """Probe a range of dates through Dagster, in one run and one transaction.

    Example: binance-futures-availability backfill --start 2019-09-25 --end 2024-01-15
    """
    if end < start:
        raise click.UsageError(f"--end {end} is before --start {start}; swap them")
    _run(start, end, accept_shrunken=accept_shrunken)


def _run(start: dt.date, end: dt.date, *, accept_shrunken: bool) -> None:
    with one_line_errors():
        s = settings.load()
        # A database that cannot be written is found before 1,000 requests, not after.
        with connections.writer(s.db, s.db_wait_seconds, s.settle_days):
            pass
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    from availability_pipeline import launch

    what = f"{start}" if start == end else f"{start} to {end}"
    bar = Progress(
        "{task.description}", BarColumn(), MofNCompleteColumn(), "symbols", TimeElapsedColumn(),
        console=Console(stderr=True),
    )  # fmt: skip
    with bar:
        task = bar.add_task(f"listing {what}", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        try:
            outcome = launch.run_range(
                start, end, accept_shrunken=accept_shrunken, progress=progress
            )
        except launch.HomeError as error:
            raise click.ClickException(str(error)) from None
    if not outcome.success:
        raise click.ClickException(f"{outcome.error_line} (run {outcome.run_id})")
    with one_line_errors(), connections.reader(s.db, s.db_wait_seconds) as con:
        last = queries.counts(con, end)
    click.echo(
        f"{what} written by run {outcome.run_id[:8]}; on {end}: {last['available']} available, "
        f"{last['pending']} pending, {last['absent']} absent"
    )


@cli.command()
@click.option("--ui/--no-ui", default=True, help="Open the Dagster UI afterwards, or end.")
@click.option(
    "--port",
    default=3000,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Loopback port of the UI.",
)
def demo(ui: bool, port: int) -> None:
    """Run everything on a sample archive: no network, nothing kept.

    Example: binance-futures-availability demo --no-ui
    """
    from availability_pipeline import demo as sample

    sys.exit(sample.run(ui=ui, port=port))


for _command in (query, status):
    cli.add_command(_command)


def main() -> None:
    """Entry point: UTF-8 output, and a closed pipe ends quietly (click sees to that)."""
    utf8_streams()
    cli(prog_name="binance-futures-availability")


if __name__ == "__main__":
    main()
