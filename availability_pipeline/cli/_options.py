"""Options and arguments that several commands take: dates, paths, filters, forms, the record."""

import contextlib
import datetime as dt
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, get_args

import click

from availability_pipeline import settings
from availability_pipeline.archive.datasets import ARCHIVE_BEGINS, ContractType, Dataset
from availability_pipeline.cli._output import GIVEN_DB
from availability_pipeline.dates import as_date, as_moment, today_utc
from availability_pipeline.masking import mask, printable
from availability_pipeline.queries import Market


def read_date(text: str, today: dt.date) -> dt.date:
    """A UTC date as people write it: YYYY-MM-DD, `today`, `yesterday` or `today-7`.

    Raises:
        ValueError: it is none of these.
    """
    if text == "yesterday":
        return today - dt.timedelta(1)
    if ago := re.fullmatch(r"today(?:-([0-9]{1,5}))?", text):
        return today - dt.timedelta(int(ago[1] or 0))
    return as_date(text)


class Date(click.ParamType[dt.date]):
    """A UTC date from the archive's first to yesterday, as `read_date` reads it; else wrong usage.

    Args:
        today_too: today is one as well: a day on which something was seen, not a date with files.
        clock: what says which date is today.
    """

    name = "date"

    def __init__(
        self, *, today_too: bool = False, clock: Callable[[], dt.date] = today_utc
    ) -> None:
        self._today_too = today_too
        self._clock = clock

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.date:
        """Read it; exit 2 with the remedy when it is none."""
        if isinstance(value, dt.date):
            return value
        today = self._clock()
        try:
            date = read_date(value, today)
        except ValueError:
            said = f"{printable(repr(value))} is not a date; write it as YYYY-MM-DD, yesterday"
            self.fail(f"{said} or today-7", param, ctx)
        if date < ARCHIVE_BEGINS:
            said = f"{date} is before {ARCHIVE_BEGINS}, when the archive begins"
            self.fail(said, param, ctx)
        if self._today_too:
            if date > today:
                self.fail(f"{date} is in the future; today is {today} (UTC)", param, ctx)
        elif date >= today:
            self.fail(
                f"{date} is not over; the last whole UTC date is {today - dt.timedelta(1)}",
                param,
                ctx,
            )
        return date


DATE = Date()


def in_order(start: dt.date | None, end: dt.date | None, names: str = "START END") -> None:
    """Refuse a range whose end precedes its start, as wrong usage."""
    if start and end and end < start:
        first, last = names.split()
        raise click.UsageError(f"{last} {end} is before {first} {start}; swap them")


class LocalPath(click.Path):
    """A path, and not an address."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the argument."""
        if settings.is_address(str(value)):
            self.fail(f"{mask(printable(str(value)))} is an address; give a path", param, ctx)
        return super().convert(value, param, ctx)


def text_argument(value: str) -> str:
    """An argument's text, decoded as UTF-8 also where the locale says ASCII (LANG=C)."""
    return os.fsencode(value).decode("utf-8", "replace")


def _use(context: click.Context, _option: click.Parameter, path: Path | None) -> None:
    if path is not None and not context.resilient_parsing:
        context.meta[GIVEN_DB] = str(path)
        context.with_resource(settings.database(path))


DB = click.Option(
    ["--db"],
    type=LocalPath(path_type=Path, dir_okay=False),
    callback=_use,
    expose_value=False,
    help="The DuckDB file of the record, in place of AVAILABILITY_DB.",
)
"""Which record, for one command and what it starts. `main` gives it to all that use one."""


def with_db(group: click.Group, without: frozenset[str], path: str = "") -> None:
    """Give all commands below the group the option `--db`, but for those named in `without`."""
    for name, command in group.commands.items():
        full = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            with_db(command, without, full)
        if full not in without and not _only_groups(command):
            command.params.append(DB)


def _only_groups(command: click.Command) -> bool:
    return isinstance(command, click.Group) and not command.invoke_without_command


def form_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options `--json` and `--csv`, as `form`; both at once are wrong usage."""
    for form, text in (("csv", "Comma-separated values."), ("json", "JSON, UTF-8.")):
        # Two flags of one name: click would let the last one win, in silence.
        command = click.option(
            f"--{form}", is_flag=True, expose_value=False, callback=_set_form, help=text
        )(command)
    return command


def _set_form(context: click.Context, option: click.Parameter, given: bool) -> None:
    other = context.params.setdefault("form", None)
    if given and other and other != option.name:
        raise click.UsageError("give --json or --csv, not both")
    if given:
        context.params["form"] = option.name


class DatasetName(click.ParamType[str]):
    """A dataset by its name, as `um/daily/klines/1m`; else wrong usage."""

    name = "dataset"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read it; exit 2 with the nearest names when it is none."""
        try:
            return str(Dataset.parse(value))
        except ValueError as error:
            self.fail(printable(str(error)), param, ctx)


def patterns_option(metavar: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Option `--dataset`, as `patterns`: which datasets, by names or patterns."""
    return click.option("--dataset", "patterns", metavar=metavar, multiple=True, help=text)


datasets_option = patterns_option(
    "NAME", "Only these configured datasets, a name or pattern; may be given more than once."
)


def dataset_option(
    text: str = "A recorded dataset, as um/daily/klines/1m; the first configured when left out.",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Option `--dataset`: one, by its name."""
    return click.option("--dataset", type=DatasetName(), metavar="NAME", help=text)


class Moment(click.ParamType[dt.datetime]):
    """A moment: a date (its 00:00 UTC), as `read_date` reads it, or a time with its zone."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.datetime:
        """Read it; exit 2 with the remedy when it is none."""
        with contextlib.suppress(ValueError):
            return as_moment(read_date(value, today_utc()))
        try:
            return as_moment(value, "the moment")
        except ValueError as error:
            self.fail(printable(str(error)), param, ctx)


class Which(TypedDict):
    """What `which_options` gives a command."""

    dataset: str | None
    as_of: dt.datetime | None


def as_of_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Option `--as-of`: the answer of a past moment."""
    return click.option(
        "--as-of",
        type=Moment(),
        metavar="MOMENT",
        help="As the record would have answered then: a date (00:00 UTC), or 2024-01-15T12:00Z.",
    )(command)


def which_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options `--dataset` and `--as-of`: which record of which dataset answers."""
    return dataset_option()(as_of_option(command))


class Filters(Which):
    """What `filter_options` gives a command."""

    quote_asset: list[str] | None
    contract_type: list[str] | None


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options `--quote` and `--contract-type`, and those of `which_options`."""
    command = which_options(command)
    command = click.option(
        "--contract-type",
        multiple=True,
        type=click.Choice(get_args(ContractType), case_sensitive=False),
        callback=lambda _context, _option, value: list(value) or None,
        help="Only these contracts; may be given more than once.",
    )(command)
    return quote_option(command)


def quote_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Option `--quote`, as `quote_asset`."""
    return click.option(
        "--quote",
        "quote_asset",
        metavar="ASSET",
        multiple=True,
        callback=lambda _context, _option, value: list(value) or None,
        help="Only symbols quoted in this asset, as USDT; may be given more than once.",
    )(command)


def market_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Option `--market`: of which volume is asked."""
    return click.option(
        "--market",
        type=click.Choice(get_args(Market)),
        default="um",
        show_default=True,
        help="USD-M futures, COIN-M futures or spot.",
    )(command)


def which(filters: Filters) -> Which:
    """Of a command's filters those that choose the record."""
    return Which(dataset=filters["dataset"], as_of=filters["as_of"])
