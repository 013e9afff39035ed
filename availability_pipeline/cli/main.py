"""The program: all commands together, with `update`, `backfill` and `demo`."""

import datetime as dt
import sys
from typing import Any

import click

from availability_pipeline import PROGRAM, __version__, extras, files
from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.cli._options import DATE, datasets_option, in_order, with_db
from availability_pipeline.cli._output import NO_PAGER, checked_output, utf8_streams
from availability_pipeline.cli.alerts import alerts
from availability_pipeline.cli.copies import backup, export, follow, publish, restore
from availability_pipeline.cli.datasets import datasets
from availability_pipeline.cli.files import files as files_group
from availability_pipeline.cli.operate import slo_command, status
from availability_pipeline.cli.probe import INTERRUPTED, end_at_once, run_probe
from availability_pipeline.cli.query import query, validate
from availability_pipeline.cli.report import report
from availability_pipeline.cli.services import COMMANDS as SERVICES
from availability_pipeline.cli.services import port_option
from availability_pipeline.cli.volume import volume


class Program(click.Group):
    """The commands, each of which needs only what it uses."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run one; where the installation lacks what it needs, say so in one line."""
        try:
            return super().invoke(ctx)
        except extras.MissingExtraError as error:
            line = str(error)
        except ModuleNotFoundError as error:
            if not error.name or error.name.startswith("availability_pipeline"):
                raise
            line = extras.said(error.name)
        raise click.ClickException(line)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM)
@click.option(
    "--no-pager",
    is_flag=True,
    expose_value=False,
    callback=lambda context, _option, given: context.meta.update({NO_PAGER: given}),
    help="Print long tables as they are; else PAGER shows them, less by default.",
)
def cli() -> None:
    """Which files exist in Binance's public archive, of each dataset, symbol and UTC date.

    A date is given as YYYY-MM-DD, yesterday or today-7, and is a UTC date.

    Example: binance-availability query snapshot 2024-01-15
    """


@cli.group()
def update() -> None:
    """Probe the archive for one date.

    Example: binance-availability update manual --date 2024-01-15
    """


@update.command("manual")
@click.option("--date", type=DATE, default="yesterday", show_default=True, help="UTC date.")
@datasets_option
def update_manual(date: dt.date, patterns: tuple[str, ...]) -> None:
    """Probe one date of all configured datasets.

    Of monthly files the month that the date is in, if it is over.

    Example: binance-availability update manual --date 2024-01-15
    """
    run_probe(date, date, patterns=patterns)


@cli.command()
@click.option(
    "--start",
    type=DATE,
    help="First UTC date; the record's first when left out, in a new one the market's.",
)
@click.option(
    "--end",
    type=DATE,
    default="yesterday",
    show_default=True,
    help="Last UTC date, included.",
)
@click.option(
    "--accept-shrunken",
    is_flag=True,
    help="Write even if the archive lists far less than is recorded.",
)
@click.option(
    "--new-record",
    is_flag=True,
    help="Begin a new record where Dagster has materialised partitions of one that is not in "
    "AVAILABILITY_DB.",
)
@datasets_option
def backfill(
    start: dt.date | None,
    end: dt.date,
    accept_shrunken: bool,
    new_record: bool,
    patterns: tuple[str, ...],
) -> None:
    """Probe a range of dates of all configured datasets.

    One run for each market, frequency and type, one transaction for each dataset.

    Example: binance-availability backfill --start 2019-09-25 --end 2024-01-15
    """
    in_order(start, end, "--start --end")
    run_probe(start, end, patterns=patterns, accept_shrunken=accept_shrunken, new_record=new_record)


@cli.command()
@click.option("--ui/--no-ui", default=True, help="Open the Dagster UI afterwards, or end.")
@port_option
@click.option(
    "--date",
    type=DATE,
    help="Run as if it were this UTC date: the same record on any day. Needs --no-ui.",
)
def demo(ui: bool, port: int, date: dt.date | None) -> None:
    """Run everything on a sample archive: no network, nothing kept.

    Example: binance-availability demo --no-ui --date 2026-11-24
    """
    if date and ui:
        # Its daemon runs by today's clock, and would find the record long out of date.
        raise click.UsageError("--date makes a record of the past; give --no-ui with it")
    extras.require("demo")
    from availability_pipeline.demo import run as sample
    from availability_pipeline.demo.archive import DAYS

    first = FIRST_DATE + dt.timedelta(DAYS)
    if date and date < first:
        raise click.UsageError(f"--date {date} is too early; the first with a sample is {first}")
    code = sample.run(ui=ui, port=port, date=date)
    if code == INTERRUPTED:
        end_at_once()
    sys.exit(code)


for _command in (
    *(
        query,
        validate,
        report,
        status,
        slo_command,
        backup,
        restore,
        export,
        publish,
        follow,
        alerts,
        datasets,
        files_group,
        volume,
    ),
    *SERVICES,
):
    cli.add_command(_command)

# What goes on running, or is about no record: for those that run, the variable says which record,
# as it does for the commands that are asked about them later.
WITHOUT_DB = frozenset({"demo", "up", "start", "stop", "running", "alerts test",
                        "datasets", "datasets discover", "follow"})  # fmt: skip
with_db(cli, WITHOUT_DB)


def main() -> None:
    """Entry point: UTF-8 output; a closed pipe ends quietly, a full disk with one line."""
    utf8_streams()
    files.keep_private()
    with checked_output():
        cli(prog_name=PROGRAM)
