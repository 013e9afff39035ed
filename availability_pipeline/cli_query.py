"""The questions: `query` and what is under it.

Belongs here: arguments, and which function of `queries` answers. Does not belong here: SQL,
printing (`cli_output`), Dagster.
"""

import datetime as dt

import click

from availability_pipeline import connections, queries, settings
from availability_pipeline.cli_output import (
    Date,
    form_options,
    one_line_errors,
    print_rows,
    text_argument,
)

DATE = Date()


@click.group()
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
