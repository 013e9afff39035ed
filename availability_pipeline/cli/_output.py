"""What all commands share in printing: tables, JSON, CSV, notes, one-line errors."""

import csv
import datetime as dt
import errno
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from availability_pipeline import settings
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
    except ProtectedFileError as error:
        raise click.UsageError(printable(str(error))) from None
    except (StoreError, QueryError) as error:
        raise click.ClickException(printable(str(error))) from None
    except SettingsError as error:
        raise click.UsageError(printable(str(error))) from None


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
    """Standard output whose failures are told from those of all other files."""

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


def print_rows(rows: Rows, form: str, title: str) -> None:
    """Print an answer as `json`, `csv` or a `table` with all its rows; its notes on stderr."""
    print_notes(rows.notes)
    if form == "json":
        print_json(rows.dicts())
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(rows.columns)
        writer.writerows([[plain(v) for v in row] for row in rows.rows])
    else:
        table(rows, title)


def print_symbols(symbols: list[str], form: str, title: str) -> None:
    """Print symbols: JSON is `["SYM", ...]`, everything else one a line."""
    if form == "json":
        print_json(symbols)
    else:
        print_rows(Rows(("symbol",), [(symbol,) for symbol in symbols]), form, title)


def count(n: int, what: str) -> str:
    """A number with its noun: 1 hole, 2 holes."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def print_notes(notes: Iterable[str]) -> None:
    """An answer's small print, on stderr: stdout is the answer alone."""
    for note in notes:
        click.echo(f"Note: {printable(note)}", err=True)


RICH_ROWS = 300
"""Longer tables are laid out without rich, which takes 0.4 ms a row: 1 s for a timeline."""


def table(rows: Rows, title: str) -> None:
    """A table with every row, aligned, no line wrapped by us and none cut off.

    On a terminal with colour and lines; into a pipe, and when long, plain text for `less`.
    """
    title = printable(title)
    texts = [["" if v is None else printable(str(plain(v))) for v in row] for row in rows.rows]
    right = [
        any(isinstance(row[n], (int, float)) and not isinstance(row[n], bool) for row in rows.rows)
        for n in range(len(rows.columns))
    ]
    if sys.stdout.isatty() and len(texts) <= RICH_ROWS:
        _rich_table(rows.columns, texts, right, title)
    else:
        click.echo("\n".join(_plain_lines(rows.columns, texts, right, title)))


def _rich_table(
    columns: Sequence[str], texts: list[list[str]], right: list[bool], title: str
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for column, numbers in zip(columns, right, strict=True):
        drawn.add_column(column, justify="right" if numbers else "left", no_wrap=True)
    for row in texts:
        drawn.add_row(*row)
    console = Console(markup=False, emoji=False)
    # Wider than the terminal: its lines go on, rather than to lose the end of an address.
    unbounded = console.options.update(max_width=10_000)
    console.width = max(console.width, console.measure(drawn, options=unbounded).maximum)
    console.print(drawn, soft_wrap=True)


def _plain_lines(
    columns: Sequence[str], texts: list[list[str]], right: list[bool], title: str
) -> Iterator[str]:
    from rich.cells import cell_len  # some symbols' letters are two columns wide

    widths = [max(map(cell_len, column)) for column in zip(columns, *texts, strict=True)]

    def line(cells: Sequence[str]) -> str:
        parts = []
        for cell, width, numbers in zip(cells, widths, right, strict=True):
            space = " " * (width - cell_len(cell))
            parts.append(space + cell if numbers else cell + space)
        return "  ".join(parts).rstrip()

    yield title
    yield line(columns)
    yield "  ".join("-" * width for width in widths)
    yield from map(line, texts)


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


@contextmanager
def record() -> Iterator[Connection]:
    """A read-only connection to the record; what goes wrong inside becomes one line."""
    with one_line_errors():
        s = settings.load()
        with connection.reader(s.db, s.db_wait_seconds) as con:
            yield con
