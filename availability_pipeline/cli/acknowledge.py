"""Acknowledgements: `slo acknowledge`, `slo acknowledged` and `slo forget`."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from availability_pipeline import settings
from availability_pipeline.cli._options import DATE, form_options, text_argument
from availability_pipeline.cli._output import count, one_line_errors, print_rows, record
from availability_pipeline.quality import acknowledgements
from availability_pipeline.queries.answers import Connection
from availability_pipeline.record import connection


def _about(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what an acknowledgement is about."""
    for option in (
        click.option(
            "--symbol", "symbols", multiple=True, help="Only this symbol; may be given again."
        ),
        click.option(
            "--date", "dates", type=DATE, multiple=True, required=True,
            help="UTC date; may be given again.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command("acknowledge")
@_about
@click.option("--reason", required=True, help="Why nothing can be done, one line.")
def acknowledge(dates: Sequence[dt.date], symbols: Sequence[str], reason: str) -> None:
    """Accept what is missing on a date for good.

    Of one symbol or of all. It is shown and not hidden: verdicts count it as acknowledged. On a
    date of an outage it says that the symbols missing there have ended.

    Example: binance-availability slo acknowledge --date 2023-11-09 --symbol NMRUSDT
    --reason "never published"
    """
    now = dt.datetime.now(dt.UTC)
    names = [text_argument(symbol) for symbol in symbols]
    with _writing() as con:
        try:
            written = acknowledgements.acknowledge(
                con, dates, reason=text_argument(reason), at=now, symbols=names
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    click.echo(f"{count(written, 'acknowledgement')} written")


@click.command("acknowledged")
@form_options
def acknowledged(form: str | None) -> None:
    """What was acknowledged, when and why.

    Without a symbol it is all of the date.

    Example: binance-availability slo acknowledged --json
    """
    with record() as con:
        found = acknowledgements.acknowledged(con)
    print_rows(found, form or "table", count(len(found.rows), "acknowledgement"))


@click.command("forget")
@_about
def forget(dates: Sequence[dt.date], symbols: Sequence[str]) -> None:
    """Take an acknowledgement back.

    Example: binance-availability slo forget --date 2023-11-09 --symbol NMRUSDT
    """
    names = [text_argument(symbol) for symbol in symbols]
    with _writing() as con:
        gone = acknowledgements.forget(con, dates, symbols=names)
    click.echo(f"{count(gone, 'acknowledgement')} forgotten")


@contextmanager
def _writing() -> Iterator[Connection]:
    """A read-write connection to a record that there is: a refused command makes none."""
    with one_line_errors():
        s = settings.load()
        with connection.reader(s.db, s.db_wait_seconds):
            pass
        with connection.writer(s.db, s.db_wait_seconds) as con:
            yield con
