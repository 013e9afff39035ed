"""Daily volume: read it from 1d klines, and rank it. `query` has the questions about it."""

import datetime as dt
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

import click

from availability_pipeline import PROGRAM, queries, settings
from availability_pipeline.archive.datasets import configured
from availability_pipeline.cli._options import DATE, in_order
from availability_pipeline.cli._output import (
    count,
    file_bar,
    one_line_errors,
    print_notes,
    record,
    say,
    volumes,
)
from availability_pipeline.cli.probe import interruptible
from availability_pipeline.masking import printable
from availability_pipeline.queries import Market
from availability_pipeline.record import connection
from availability_pipeline.record.status import recorded_datasets

if TYPE_CHECKING:
    from availability_pipeline.mirror.download import Failure
    from availability_pipeline.mirror.volume import Done

SHOWN = 20
"""Files that are named; the file of volumes has all, with what is wrong."""


@click.group()
def volume() -> None:
    """Daily volume and rankings, from 1d klines.

    Example: binance-availability volume update
    """


@volume.command("update")
@click.option(
    "--market",
    "markets",
    type=click.Choice(get_args(Market)),
    multiple=True,
    help="Only this market; may be given more than once. All that are configured by default.",
)
@click.option("--start", type=DATE, help="First UTC date; the first probed by default.")
@click.option("--end", type=DATE, help="Last UTC date; the last probed by default.")
def update(markets: tuple[Market, ...], start: dt.date | None, end: dt.date | None) -> None:
    """Fetch 1d klines that are new or were replaced, and rank by them.

    Monthly files for the past, daily ones for the rest, each verified. A file that is broken is
    named and not taken. Exit 1 if one could not be had; the next update tries it again.

    Example: binance-availability volume update --market um --start 2024-01-01
    """
    in_order(start, end, "--start --end")
    failed = 0
    with one_line_errors(), interruptible():
        from availability_pipeline.mirror.download import Options
        from availability_pipeline.mirror.volume import update as read

        s = settings.load()
        for market in _markets(markets, s):
            with file_bar(f"{market}: fetching") as bar:
                done = read(
                    functools.partial(connection.reader, s.db, s.db_wait_seconds),
                    s.volume_path,
                    market,
                    Options.from_settings(s),
                    now=lambda: dt.datetime.now(dt.UTC),
                    start=start,
                    end=end,
                    wait_seconds=s.db_wait_seconds,
                    expect=bar.expect,
                    progress=bar.move,
                )
            _print(market, done)
            failed += len(done.failed)
        with volumes() as con:
            written = queries.write_rankings(con, s.rankings_path, dt.datetime.now(dt.UTC))
        for name, rows in written.items():
            say(f"{s.rankings_path / name}: {count(rows, 'rank')}")
    if failed:
        raise click.ClickException(
            f"{count(failed, 'file')} could not be had; the same command tries again"
        )


def _markets(given: tuple[str, ...], s: settings.Settings) -> list[str]:
    """The markets to read: all that are configured, or recorded, have daily 1d klines.

    Raises:
        ClickException: there is none, or none was probed; says what to set and to run.
    """
    from availability_pipeline.mirror import sources

    with record() as con:
        recorded = recorded_datasets(con)
    probed = sources.markets_of(recorded)
    wanted = list(dict.fromkeys(given)) or sources.configured_markets(s) or probed
    lacking = [market for market in wanted if market not in probed]
    if wanted and not lacking:
        return wanted
    first = (lacking or ["um"])[0]
    daily, monthly = sources.daily_of(first), sources.monthly_of(first)
    of = configured(s)
    both = [one for one in (daily, monthly) if one in of or daily not in of]
    probe = f"`{PROGRAM} backfill {' '.join(f'--dataset {one}' for one in both)}`"
    if daily in of:
        text = f"{daily} was not probed yet; run {probe} first"
    else:
        text = (
            f"volume is read from {daily}, which is not recorded; add {daily},{monthly} to "
            f"AVAILABILITY_DATASETS and run {probe} first"
        )
    if given or len(lacking) == len(wanted):
        raise click.ClickException(text)
    print_notes([text])
    return [market for market in wanted if market in probed]


def _print(market: str, done: "Done") -> None:
    span = ""
    if done.dates:
        span = f", {min(done.dates)} to {max(done.dates)}"
    say(f"{market}: {count(done.files, 'file')} read, {count(done.rows, 'row')}{span}")
    for line in [*_named("not taken", done.refused), *_named("not there", done.failed)]:
        click.echo(line, err=True)


def _named(how: str, files: "list[Failure]") -> Iterator[str]:
    files = sorted(files, key=lambda one: one.key)
    for one in files[:SHOWN]:
        yield f"{how}: {printable(one.key)}: {printable(one.reason)}"
    if len(files) > SHOWN:
        yield f"... and {len(files) - SHOWN:,} more {how}"
