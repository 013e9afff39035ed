"""A probe from the command line, as `update`, `backfill` and `restore --repair` run it.

Progress is shown on the terminal, the run is in Dagster's history.
"""

import datetime as dt
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from availability_pipeline import queries, settings
from availability_pipeline.alerts import delivery
from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.cli._output import one_line_errors, same_record
from availability_pipeline.dates import span_text
from availability_pipeline.errors import MissingDatabaseError
from availability_pipeline.masking import printable
from availability_pipeline.orchestration.beta import without_beta_warnings
from availability_pipeline.record import connection
from availability_pipeline.record.status import scope

INTERRUPTED = 130
"""The exit code of a command that was ended by Ctrl-C or SIGTERM."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the program with one line and exit 130, whatever it is doing.

    Nothing is half written: each write is one transaction.
    """
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup, or a shell's `&`, wants it
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        end_at_once()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def require_launch() -> None:
    """See that a run can be launched: Dagster is installed, and its history can be opened."""
    with one_line_errors():
        delivery.addresses(settings.load())  # the definitions need them
    without_beta_warnings()
    from availability_pipeline.orchestration import launch

    try:
        launch.require_history()
    except (settings.SettingsError, launch.HistoryError) as error:
        raise click.ClickException(str(error)) from None


def first_date() -> dt.date:
    """The first date of the record; the archive's first where nothing is recorded yet."""
    with one_line_errors():
        s = settings.load()
        try:
            connection.migrate(s.db, s.db_wait_seconds)
            with connection.reader(s.db, s.db_wait_seconds) as con:
                [(first,)] = con.execute(f"SELECT min(date) FROM {scope(con).probes}").fetchall()
        except MissingDatabaseError:
            return FIRST_DATE
    return first or FIRST_DATE


def end_at_once() -> NoReturn:
    """End with 130 and wait for no thread: those of a run may wait for the archive for long."""
    sys.stdout.flush()
    os._exit(INTERRUPTED)


@interruptible()
def run_probe(
    start: dt.date, end: dt.date, *, accept_shrunken: bool = False, new_record: bool = False
) -> None:
    """Probe all dates from `start` to `end` through Dagster, and say what was found."""
    require_launch()
    from availability_pipeline.orchestration import launch

    with one_line_errors():
        s = settings.load()
        # A database that cannot be written is found before 1,000 requests, not after; and is not
        # made before there is something to write.
        connection.require_writable(s.db, s.db_wait_seconds)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    what = span_text(start, end)
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
                start,
                end,
                accept_shrunken=accept_shrunken,
                new_record=new_record,
                progress=progress,
            )
        except launch.HistoryError as error:  # it was there at the start
            raise click.ClickException(str(error)) from None
    if not outcome.success:
        line = f"{same_record(outcome.error_line or '')} (run {outcome.run_id})"
        raise click.ClickException(printable(line))
    with one_line_errors(), connection.reader(s.db, s.db_wait_seconds) as con:
        last = queries.counts(con, end)
    click.echo(
        f"{what} written by run {outcome.run_id[:8]}; on {end}: {last['available']} available, "
        f"{last['pending']} pending, {last['absent']} absent"
    )
