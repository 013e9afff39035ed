"""The commands of `binance-futures-availability`.

Belongs here: arguments, and which function answers. Does not belong here: SQL (`queries`),
printing (`cli_output`). Dagster is imported only inside the commands that run it: 1.5 s that no
question should cost.
"""

import datetime as dt
import sys
from typing import Any

import click

from availability_pipeline import __version__, connections, queries, settings
from availability_pipeline.cli_output import (
    Date,
    form_options,
    one_line_errors,
    print_json,
    print_rows,
    table,
    text_argument,
    today_utc,
    utf8_streams,
)
from availability_pipeline.keys import FIRST_DATE

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


@cli.group()
def query() -> None:
    """Ask the record. These commands read only, and work while an update is writing.

    Example: binance-futures-availability query timeline BTCUSDT --json
    """


@query.command()
@click.argument("date", type=DATE)
@form_options
def snapshot(date: dt.date, form: str | None) -> None:
    """The files of one UTC date, by symbol.

    Example: binance-futures-availability query snapshot 2024-01-15 --json
    """
    with one_line_errors():
        s = settings.load()
        with connections.reader(s.db, s.db_wait_seconds) as con:
            found = queries.snapshot(con, date)
            count = queries.counts(con, date)
    title = f"{date}: {count['available']} available, {count['pending']} pending, "
    print_rows(found, form or "table", title + f"{count['absent']} absent")


@query.command()
@click.argument("symbol")
@click.option("--start", type=DATE, help="First UTC date; the first recorded when left out.")
@click.option("--end", type=DATE, help="Last UTC date; the last recorded when left out.")
@form_options
def timeline(symbol: str, start: dt.date | None, end: dt.date | None, form: str | None) -> None:
    """One symbol's dates with their status; dates never looked at are `unknown`.

    Example: binance-futures-availability query timeline SOLUSDT --json
    """
    if start and end and end < start:
        raise click.UsageError(f"--end {end} is before --start {start}; swap them")
    symbol = text_argument(symbol)
    with one_line_errors():
        s = settings.load()
        with connections.reader(s.db, s.db_wait_seconds) as con:
            found = queries.timeline(con, symbol, start, end)
    print_rows(found, form or "table", symbol)


@query.command()
@click.argument("symbol", required=False)
@form_options
def holes(symbol: str | None, form: str | None) -> None:
    """Confirmed absences between a symbol's first and last file.

    Example: binance-futures-availability query holes SOLUSDT
    """
    with one_line_errors():
        s = settings.load()
        with connections.reader(s.db, s.db_wait_seconds) as con:
            found = queries.holes(con, text_argument(symbol) if symbol else None)
    print_rows(found, form or "table", f"{len(found.rows)} holes")


@query.command()
@click.option("--since", type=DATE, help="Only what was seen on this UTC date or later.")
@form_options
def revisions(since: dt.date | None, form: str | None) -> None:
    """Files that appeared late, were replaced or vanished.

    Example: binance-futures-availability query revisions --since 2024-01-15
    """
    with one_line_errors():
        s = settings.load()
        with connections.reader(s.db, s.db_wait_seconds) as con:
            found = queries.revisions(con, since)
    print_rows(found, form or "table", f"{len(found.rows)} revisions")


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="JSON, UTF-8.")
def status(as_json: bool) -> None:
    """What the record covers, and what to do next.

    Example: binance-futures-availability status
    """
    with one_line_errors():
        s = settings.load()
        with connections.reader(s.db, s.db_wait_seconds) as con:
            found = queries.coverage(con, today_utc())
    answer: dict[str, Any] = {"database": str(s.db_path), **found, "next": _next_step(found)}
    if as_json:
        print_json(answer)
    else:
        table(queries.Rows(("what", "is"), [(k, str(v)) for k, v in answer.items()]), "Status")


def _next_step(found: dict[str, Any]) -> str:
    yesterday = today_utc() - dt.timedelta(1)
    if found["unknown_dates"]:
        return (
            f"{found['unknown_dates']} dates were never looked at: binance-futures-availability "
            f"backfill --start {FIRST_DATE} --end {yesterday}"
        )
    return "nothing: every date up to yesterday was looked at"


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


def main() -> None:
    """Entry point: UTF-8 output, and a closed pipe ends quietly (click sees to that)."""
    utf8_streams()
    cli(prog_name="binance-futures-availability")


if __name__ == "__main__":
    main()
