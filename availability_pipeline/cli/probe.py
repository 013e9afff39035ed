"""A probe from the command line, as `update`, `backfill` and `restore --repair` run it.

Progress is shown on the terminal, the run is in Dagster's history.
"""

import datetime as dt
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from availability_pipeline import queries, settings
from availability_pipeline.alerts import delivery
from availability_pipeline.archive.datasets import Dataset, chosen
from availability_pipeline.cli._output import one_line_errors, same_record
from availability_pipeline.dates import span_text
from availability_pipeline.errors import MissingDatabaseError
from availability_pipeline.masking import printable
from availability_pipeline.orchestration.beta import without_beta_warnings
from availability_pipeline.record import connection
from availability_pipeline.record.status import recorded_datasets, scope

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


def first_periods(datasets: Sequence[Dataset]) -> dict[Dataset, dt.date]:
    """The first recorded period of each of these datasets that has any."""
    found: dict[Dataset, dt.date] = {}
    with one_line_errors():
        s = settings.load()
        try:
            connection.migrate(s.db, s.db_wait_seconds)
            with connection.reader(s.db, s.db_wait_seconds) as con:
                for dataset in datasets:
                    t = scope(con, dataset)
                    [(first,)] = con.execute(f"SELECT min(date) FROM {t.probes}").fetchall()
                    if first:
                        found[dataset] = first
        except MissingDatabaseError:
            pass
    return found


def end_at_once() -> NoReturn:
    """End with 130 and wait for no thread: those of a run may wait for the archive for long."""
    sys.stdout.flush()
    os._exit(INTERRUPTED)


@interruptible()
def run_probe(
    start: dt.date | None,
    end: dt.date,
    *,
    patterns: Sequence[str] = (),
    accept_shrunken: bool = False,
    new_record: bool = False,
) -> None:
    """Probe dates of the configured datasets through Dagster, and say what was found.

    A run for each market, frequency and type, one after the other; one that fails keeps no other
    from being run.

    Args:
        start: first date; the first recorded period of each, or the market's first, by default.
        end: last date, included. A month that is not over by then is left out.
        patterns: names or patterns of the datasets; all by default.
        accept_shrunken: write even if far less is listed than is recorded.
        new_record: begin a new record where Dagster knows of another one.
    """
    require_launch()
    from availability_pipeline.orchestration import launch
    from availability_pipeline.orchestration.partitions import grouped

    with one_line_errors():
        s = settings.load()
        kinds = grouped(chosen(s, patterns))
        # A database that cannot be written is found before 1,000 requests, not after; and is not
        # made before there is something to write.
        connection.require_writable(s.db, s.db_wait_seconds)
    recorded = first_periods([d for kind in kinds for d in kind.datasets]) if not start else {}
    due, firsts = [], []
    for kind in kinds:
        known = [recorded[dataset] for dataset in kind.datasets if dataset in recorded]
        first = start or (min(known) if len(known) == len(kind.datasets) else kind.entry.first)
        firsts.append(first)
        if kind.within(first, end):
            due.append((kind, max(first, kind.entry.first)))
    if not due and start is None:
        raise click.UsageError(f"the record begins with {min(firsts)}, after {end}; give --start")
    if not due:
        raise click.UsageError(
            f"there is nothing to probe of {', '.join(map(str, kinds))} from {start} to {end}"
        )
    failures = []
    for kind, first in due:
        failures += _run(launch, kind, first, end, accept_shrunken, new_record, len(kinds) > 1)
    if failures:
        raise click.ClickException(printable("\n".join(failures)))


def _run(
    launch: Any,  # a module that imports Dagster
    kind: Any,  # and a class of it
    start: dt.date,
    end: dt.date,
    accept_shrunken: bool,
    new_record: bool,
    named: bool,
) -> list[str]:
    """One kind's run; the line of its failure, if it failed."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    first, last = kind.within(start, end)
    what = span_text(first, last) if not kind.one.monthly else " to ".join(
        dict.fromkeys(map(kind.one.text, (first, last)))
    )  # fmt: skip
    named = named or len(kind.datasets) > 1
    bar = Progress(
        "{task.description}", BarColumn(), MofNCompleteColumn(), "symbols", TimeElapsedColumn(),
        console=Console(stderr=True),
    )  # fmt: skip
    with bar:
        task = bar.add_task(f"listing {f'{kind} of ' if named else ''}{what}", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        try:
            outcome = launch.run_range(
                start,
                end,
                kind=kind,
                accept_shrunken=accept_shrunken,
                new_record=new_record,
                progress=progress,
            )
        except launch.HistoryError as error:  # it was there at the start
            raise click.ClickException(str(error)) from None
    if not outcome.success:
        return [f"{same_record(outcome.error_line or '')} (run {outcome.run_id})"]
    s = settings.load()
    with one_line_errors(), connection.reader(s.db, s.db_wait_seconds) as con:
        written = [dataset for dataset in kind.datasets if dataset in recorded_datasets(con)]
        for dataset in written:
            found = queries.counts(con, last, dataset=dataset)
            click.echo(
                f"{f'{dataset}: ' if named else ''}{what} written by run {outcome.run_id[:8]}; on "
                f"{dataset.text(last)}: {found['available']} available, {found['pending']} "
                f"pending, {found['absent']} absent"
            )
    return []
