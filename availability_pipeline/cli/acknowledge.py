"""Acknowledgements: `slo acknowledge`, `slo acknowledged` and `slo forget`."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from availability_pipeline import settings
from availability_pipeline.archive import datasets
from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.cli._options import DATE, dataset_option, form_options, text_argument
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
            help="UTC date; may be given again. Of monthly files it means its month.",
        ),
        dataset_option(
            "Whose files, as um/daily/klines/1m; the first configured dataset when left out."
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command("acknowledge")
@_about
@click.option("--reason", required=True, help="Why nothing can be done, one line.")
def acknowledge(
    dates: Sequence[dt.date], symbols: Sequence[str], dataset: str | None, reason: str
) -> None:
    """Accept what is missing on a date for good.

    Of one symbol or of all. It is shown and not hidden: verdicts count it as acknowledged. On a
    date of an outage it says that the symbols missing there have ended. With a symbol of daily 1d
    klines also that its daily and monthly file differ, until one of them is read again.

    Example: binance-availability slo acknowledge --date 2023-11-09 --symbol NMRUSDT
    --reason "never published"
    """
    now = dt.datetime.now(dt.UTC)
    names = [text_argument(symbol) for symbol in symbols]
    with one_line_errors():
        from availability_pipeline.mirror import volume_checks

        # Before the record is open for writing: the volumes may have a writer to wait for.
        s = settings.load()
        differing = volume_checks.differing(s, _meant(dataset, s), dates) if names else set()
    with _writing(dataset) as (con, of):
        try:
            written = acknowledgements.acknowledge(
                con,
                dates,
                reason=text_argument(reason),
                at=now,
                symbols=names,
                dataset=of,
                differing=differing,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    click.echo(f"{count(written, 'acknowledgement')} written")


@click.command("acknowledged")
@dataset_option("Only those of this dataset.")
@form_options
def acknowledged(dataset: str | None, form: str | None) -> None:
    """What was acknowledged, when and why.

    Without a symbol it is all of the date.

    Example: binance-availability slo acknowledged --json
    """
    with record() as con:
        found = acknowledgements.acknowledged(con, dataset)
    print_rows(found, form, count(len(found.rows), "acknowledgement"))


@click.command("forget")
@_about
def forget(dates: Sequence[dt.date], symbols: Sequence[str], dataset: str | None) -> None:
    """Take an acknowledgement back.

    Example: binance-availability slo forget --date 2023-11-09 --symbol NMRUSDT
    """
    names = [text_argument(symbol) for symbol in symbols]
    with _writing(dataset) as (con, of):
        gone = acknowledgements.forget(con, dates, symbols=names, dataset=of)
    click.echo(f"{count(gone, 'acknowledgement')} forgotten")


def _meant(dataset: str | None, s: settings.Settings) -> Dataset:
    return Dataset.parse(dataset) if dataset else datasets.configured(s)[0]


@contextmanager
def _writing(dataset: str | None) -> Iterator[tuple[Connection, Dataset]]:
    """A read-write connection to a record that there is, and the dataset that is meant.

    A refused command makes no record.
    """
    with one_line_errors():
        s = settings.load()
        of = _meant(dataset, s)
        with connection.reader(s.db, s.db_wait_seconds):
            pass
        with connection.writer(s.db, s.db_wait_seconds) as con:
            yield con, of
