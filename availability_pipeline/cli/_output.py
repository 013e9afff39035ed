"""What all commands share in printing: tables, JSON, CSV, notes, one-line errors."""

import codecs
import csv
import datetime as dt
import errno
import io
import json
import locale
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import click

from availability_pipeline import PROGRAM, settings, tables
from availability_pipeline.archive.datasets import UnknownDatasetError
from availability_pipeline.errors import ProtectedFileError, StoreError
from availability_pipeline.masking import printable
from availability_pipeline.queries import Connection, QueryError, Rows
from availability_pipeline.record import connection
from availability_pipeline.settings import SettingsError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what the user can mend into one line on stderr: exit 1, or 2 for wrong usage."""
    try:
        yield
    except (ProtectedFileError, SettingsError, UnknownDatasetError) as error:
        raise click.UsageError(printable(str(error))) from None
    except (StoreError, QueryError) as error:
        raise click.ClickException(printable(same_record(str(error)))) from None


GIVEN_DB = f"{__name__}.given_db"
"""Where in click's `meta` the path is kept that the option `--db` was given."""


def same_record(text: str) -> str:
    """The text, its commands in backticks completed by the `--db` that this command was given.

    Without it they would do what they are to mend to another record.
    """
    context = click.get_current_context(silent=True)
    path = context.meta.get(GIVEN_DB) if context else None
    if not path:
        return text
    more = f" --db {shlex.quote(path)}"
    # `follow` is about no record but the one that it names.
    return re.sub(
        f"`{PROGRAM} (?!follow )[^`]*", lambda found: found[0].removesuffix(more) + more, text
    )


def utf8_streams() -> None:
    """Symbols are not all ASCII: print them whatever LANG says."""
    if sys.stdout is None:  # closed by the caller (`>&-`): who does that wants no output
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


class OutputError(OSError):
    """What was printed cannot be written: the disk is full, or the reader went away."""


class _Output(io.FileIO):
    """Standard output whose failures can be distinguished from those of all other files."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from None


@contextmanager
def checked_output() -> Iterator[None]:
    """See that what was printed is out before the program ends: else exit 1.

    Small answers stay in the buffer until then, and Python's own last flush ends with a traceback
    and exit code 120. A reader that went away (`| head`) wanted no more: nothing is said.
    """
    before = sys.stdout
    if isinstance(before, io.TextIOWrapper):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(before.fileno(), "w", closefd=False)),
            encoding=before.encoding,
            errors=before.errors,
            line_buffering=before.line_buffering,
            write_through=before.write_through,
        )
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OutputError as error:
        # Python flushes what is left once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), before.fileno())
        if error.errno != errno.EPIPE:
            click.echo(f"Error: cannot write the output: {error.strerror}", err=True)
        sys.exit(1)


def print_rows(rows: Rows, form: str | None, title: str) -> None:
    """Print an answer as `json`, `csv` or a table with all its rows; its notes on stderr."""
    print_notes(rows.notes)
    if form == "json":
        print_json(rows.dicts())
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(rows.columns)
        writer.writerows([[plain(v) for v in row] for row in rows.rows])
    else:
        table(rows, title)


def print_symbols(symbols: list[str], form: str | None, title: str) -> None:
    """Print symbols: JSON is `["SYM", ...]`, everything else one a line."""
    if form == "json":
        print_json(symbols)
    else:
        print_rows(Rows(("symbol",), [(symbol,) for symbol in symbols]), form, title)


def count(n: int, what: str) -> str:
    """A number with its noun: 1 hole, 2 holes."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def print_notes(notes: Iterable[str]) -> None:
    """An answer's notes, on stderr: stdout is the answer alone."""
    for note in notes:
        click.echo(f"Note: {printable(same_record(note))}", err=True)


SPARE = (
    "url", "run_id", "old_etag", "new_etag", "taker_buy_quote_volume", "taker_buy_volume",
    "percentile", "rank_change_14d", "rank_change_30d", "base_asset", "quote_asset",
    "old_last_modified", "new_last_modified", "last_date", "observed_at", "note",
    "rank_change_7d", "open", "high", "low",
)  # fmt: skip
"""The columns that a terminal which is too narrow does without, in this order."""


def table(rows: Rows, title: str) -> None:
    """A table with every row: as wide as it takes in a pipe, within its width on a terminal.

    There it goes through a pager where it is higher than the screen. Of fractions it has six
    digits.
    """
    texts = [["" if v is None else _cell(v) for v in row] for row in rows.rows]
    numbers = tables.numeric(rows.columns, rows.rows)
    terminal = sys.stdout.isatty()
    width, height = shutil.get_terminal_size()
    laid = tables.lay_out(
        rows.columns, texts, numbers=numbers, width=width if terminal else None, spare=SPARE
    )
    if laid.left_out:
        names = ", ".join(laid.left_out)
        print_notes([f"too wide for this terminal: {names}; --csv and --json have all columns"])
    head = [*(tables.fold(printable(title), width) if terminal else [printable(title)]), *laid.head]
    if terminal and not settings.plain_terminal():
        head = [click.style(line, bold=True) for line in head]
    text = "\n".join([*head, *laid.body])
    if terminal and len(head) + len(laid.body) >= height and _may_page():
        click.echo_via_pager(text)
    else:
        click.echo(text)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return printable(str(plain(value)))
    # Six digits, and never an exponent; what is before the point is whole.
    return f"{value:.0f}" if abs(value) >= 100_000 else f"{Decimal(f'{value:.6g}'):f}"


NO_PAGER = f"{__name__}.no_pager"
"""Where in click's `meta` the option `--no-pager` is kept."""


def _may_page() -> bool:
    context = click.get_current_context(silent=True)
    return (
        sys.stdin is not None
        and sys.stdin.isatty()
        and not (context and context.meta.get(NO_PAGER))
        and not settings.no_pager()
        # It is written to in the locale's encoding.
        and codecs.lookup(locale.getpreferredencoding(False)).name == "utf-8"
    )


def say(text: str, indent: int = 0) -> None:
    """Print a sentence; on a terminal in lines of whole words, all but the first indented."""
    text = printable(same_record(text))
    if sys.stdout.isatty():
        text = "\n".join(tables.fold(text, shutil.get_terminal_size().columns, indent))
    click.echo(text)


def print_json(value: object) -> None:
    """Print JSON in UTF-8, dates as ISO 8601; a list one entry a line."""
    if isinstance(value, list):
        entries = [json.dumps(entry, ensure_ascii=False, default=plain) for entry in value]
        click.echo("[\n  " + ",\n  ".join(entries) + "\n]" if entries else "[]")
    else:
        click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=plain))


def plain(value: Any) -> Any:
    """Dates, times and truths as JSON and DuckDB's CSV write them; times in UTC with a Z."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return value.isoformat() if isinstance(value, dt.date) else value


class FileBar(NamedTuple):
    """A bar on stderr of files and bytes that are fetched or read, where that is a terminal.

    Attributes:
        expect: takes how many files and bytes there are.
        move: takes how many are done.
    """

    expect: Callable[[int, int], None]
    move: Callable[[int, int], None]


@contextmanager
def file_bar(what: str) -> Iterator[FileBar]:
    """Show one inside the block; `what` stands before it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        "{task.description}", BarColumn(), "{task.fields[files]}", DownloadColumn(),
        TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )  # fmt: skip
    of = 0

    def expect(files: int, size: int) -> None:
        nonlocal of
        of = files
        bar.reset(task, total=size, files=f"0/{files}")

    def move(done: int, read: int) -> None:
        bar.update(task, completed=read, files=f"{done}/{of}")

    with bar:
        task = bar.add_task(what, total=None, files="")
        yield FileBar(expect, move)


@contextmanager
def record() -> Iterator[Connection]:
    """A read-only connection to the record; what goes wrong inside becomes one line."""
    with one_line_errors():
        s = settings.load()
        with connection.reader(s.db, s.db_wait_seconds) as con:
            yield con


@contextmanager
def volumes() -> Iterator[Connection]:
    """A read-only connection to the file of daily volumes, likewise."""
    from availability_pipeline.record.volumes import reader

    with one_line_errors():
        s = settings.load()
        with reader(s.volume_path, s.db_wait_seconds) as con:
            yield con
