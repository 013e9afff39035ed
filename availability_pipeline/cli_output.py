"""How the CLI says things: tables, JSON, CSV, one-line errors.

Belongs here: printing and exit codes. Does not belong here: questions (`queries`), commands
(`cli`).
"""

import csv
import datetime as dt
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from availability_pipeline.keys import FIRST_DATE
from availability_pipeline.queries import QueryError, Rows
from availability_pipeline.settings import SettingsError
from availability_pipeline.store_errors import StoreError


class Date(click.ParamType[dt.date]):
    """A UTC date YYYY-MM-DD from 2019-09-25 to yesterday; anything else is wrong usage."""

    name = "date"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.date:
        """Read it; exit 2 with the remedy when it is none."""
        if isinstance(value, dt.date):
            return value
        try:
            date = dt.datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=dt.UTC).date()
        except ValueError:
            self.fail(f"{value!r} is no date; write it as YYYY-MM-DD", param, ctx)
        if date < FIRST_DATE:
            self.fail(f"{date} is before {FIRST_DATE}, the first date of the record", param, ctx)
        today = today_utc()
        if date >= today:
            self.fail(
                f"{date} is not over; the last whole UTC date is {today - dt.timedelta(1)}",
                param,
                ctx,
            )
        return date


def today_utc() -> dt.date:
    """Today's UTC date."""
    return dt.datetime.now(dt.UTC).date()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what the user can mend into one line on stderr: exit 1, or 2 for a bad setting."""
    try:
        yield
    except (StoreError, QueryError) as error:
        raise click.ClickException(str(error)) from None
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def utf8_streams() -> None:
    """Symbols are not all ASCII: print them whatever LANG says."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def text_argument(value: str) -> str:
    """An argument's text, decoded as UTF-8 also where the locale says ASCII (LANG=C)."""
    return os.fsencode(value).decode("utf-8", "replace")


def print_rows(rows: Rows, form: str, title: str) -> None:
    """Print an answer as `json`, `csv` or a `table` with all its rows."""
    if form == "json":
        print_json(rows.dicts())
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(rows.columns)
        writer.writerows([[plain(v) for v in row] for row in rows.rows])
    else:
        table(rows, title)


def table(rows: Rows, title: str) -> None:
    """A table with every row, aligned; colour only on a terminal."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", header_style="bold")
    for n, column in enumerate(rows.columns):
        numbers = any(isinstance(row[n], (int, float)) for row in rows.rows)
        drawn.add_column(column, justify="right" if numbers else "left", no_wrap=True)
    for row in rows.rows:
        drawn.add_row(*["" if v is None else str(plain(v)) for v in row])
    console = Console()
    # A pipe has no width: whole lines, nothing cut off.
    Console(width=None if console.is_terminal else 200).print(drawn)


def print_json(value: object) -> None:
    """Print JSON in UTF-8, dates as ISO 8601."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=plain))


def plain(value: Any) -> Any:
    """Dates and times as text; times in UTC with a Z."""
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return value.isoformat() if isinstance(value, dt.date) else value


def form_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options `--json` and `--csv`."""
    command = click.option("--csv", "form", flag_value="csv", help="Comma-separated values.")(
        command
    )
    return click.option("--json", "form", flag_value="json", help="JSON, UTF-8.")(command)
