"""The questions: `query` and what is under it.

Belongs here: arguments, and which function of `queries` answers. Does not belong here: SQL,
printing (`cli_output`), counts and listings of dates (`cli_analytics`), Dagster.
"""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import click

from availability_pipeline import queries
from availability_pipeline.cli_analytics import analytics
from availability_pipeline.cli_output import (
    Date,
    LocalPath,
    count,
    filter_options,
    form_options,
    in_order,
    print_notes,
    print_rows,
    print_symbols,
    record,
    text_argument,
)

DATE = Date()
Types = Sequence[str] | None


@click.group()
def query() -> None:
    """Ask the record. These commands read only, and work while an update is writing.

    Example: binance-availability query timeline BTCUSDT --json
    """


query.add_command(analytics)


@query.command()
@click.argument("date", type=DATE)
@click.option(
    "--status",
    type=click.Choice(["available", "pending", "absent"]),
    default="available",
    show_default=True,
    help="The symbols with this status.",
)
@filter_options
@form_options
def snapshot(
    date: dt.date,
    status: queries.Status,
    quote_asset: Types,
    contract_type: Types,
    form: str | None,
) -> None:
    """The files of one UTC date, by symbol.

    Example: binance-availability query snapshot 2024-01-15 --json
    """
    with record() as con:
        found = queries.snapshot(
            con, date, status=status, quote_asset=quote_asset, contract_type=contract_type
        )
        by_status = queries.counts(con, date)
    of_all = ", ".join(f"{n} {name}" for name, n in by_status.items())
    if form and not found.rows and status == "available" and by_status["pending"]:
        print_notes([f"{date}: {of_all}; pending means probed too early to say"])
    shown = f"{count(len(found.rows), 'symbol')} shown; " if quote_asset or contract_type else ""
    print_rows(found, form or "table", f"{date}: {shown}{of_all}")


@query.command()
@click.argument("symbol")
@click.option("--start", type=DATE, help="First UTC date; the first recorded when left out.")
@click.option("--end", type=DATE, help="Last UTC date; the last recorded when left out.")
@click.option(
    "--status",
    type=click.Choice(["available", "pending", "absent", "unknown"]),
    help="Only the dates with this status.",
)
@form_options
def timeline(
    symbol: str,
    start: dt.date | None,
    end: dt.date | None,
    status: str | None,
    form: str | None,
) -> None:
    """One symbol's dates with their status; dates never probed are `unknown`.

    Example: binance-availability query timeline SOLUSDT --json
    """
    in_order(start, end, "--start --end")
    symbol = text_argument(symbol)
    with record() as con:
        found = queries.timeline(con, symbol, start, end, status=status)
    name = symbol.upper() if found.notes else symbol
    print_rows(found, form or "table", f"{name}: {count(len(found.rows), 'date')}")


@query.command("range")
@click.argument("start", type=DATE)
@click.argument("end", type=DATE)
@filter_options
@form_options
def range_(
    start: dt.date,
    end: dt.date,
    quote_asset: Types,
    contract_type: Types,
    form: str | None,
) -> None:
    """Symbols with at least one file from START to END, both included.

    Example: binance-availability query range 2024-01-01 2024-01-31 --json
    """
    in_order(start, end)
    with record() as con:
        found = queries.symbols_in_range(
            con, start, end, quote_asset=quote_asset, contract_type=contract_type
        )
    title = f"{start} to {end}: {count(len(found), 'symbol')} with a file"
    print_symbols(found, form or "table", title)


@query.command()
@click.argument("symbol", required=False)
@filter_options
@form_options
def holes(
    symbol: str | None, quote_asset: Types, contract_type: Types, form: str | None
) -> None:
    """Confirmed absences between a symbol's first and last file.

    Example: binance-availability query holes SOLUSDT
    """
    with record() as con:
        found = queries.holes(
            con,
            text_argument(symbol) if symbol else None,
            quote_asset=quote_asset,
            contract_type=contract_type,
        )
    print_rows(found, form or "table", count(len(found.rows), "hole"))


@query.command()
@click.option(
    "--since",
    type=Date(today_too=True),
    help="Only what was seen on this UTC date or later; today is one of them.",
)
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="Every file by itself, also those that came in the usual time.",
)
@filter_options
@form_options
def revisions(
    since: dt.date | None,
    every: bool,
    quote_asset: Types,
    contract_type: Types,
    form: str | None,
) -> None:
    """Files that appeared late, were replaced, vanished, or moved to a settled name.

    Example: binance-availability query revisions --since 2024-01-15
    """
    answer = queries.revisions if every else queries.changes
    with record() as con:
        found = answer(con, since, quote_asset=quote_asset, contract_type=contract_type)
    print_rows(found, form or "table", count(len(found.rows), "revision"))


@query.command()
@click.argument("symbol", required=False)
@filter_options
@form_options
def listings(
    symbol: str | None, quote_asset: Types, contract_type: Types, form: str | None
) -> None:
    """First and last file, holes and state of each symbol.

    Example: binance-availability query listings --quote USDC
    """
    with record() as con:
        found = queries.listings(
            con,
            text_argument(symbol) if symbol else None,
            quote_asset=quote_asset,
            contract_type=contract_type,
        )
    print_rows(found, form or "table", count(len(found.rows), "symbol"))


@query.command()
@click.argument("start", type=DATE)
@click.argument("end", type=DATE)
@click.option(
    "--out",
    type=LocalPath(path_type=Path, dir_okay=False),
    help="Write the matrix here: Parquet, or CSV when it ends in .csv.",
)
@click.option(
    "--mark-unknown",
    is_flag=True,
    help="Leave dates that were never probed empty instead of refusing the range.",
)
@filter_options
@form_options
def universe(
    start: dt.date,
    end: dt.date,
    out: Path | None,
    mark_unknown: bool,
    quote_asset: Types,
    contract_type: Types,
    form: str | None,
) -> None:
    """Which symbol had a file on which date: a matrix for backtests.

    Symbols delisted since are in it. A cell is true, false (confirmed absence) or empty (pending).
    Without --out, --json or --csv only each date's count is printed.

    Example: binance-availability query universe 2024-01-01 2024-01-31 --out u.parquet
    """
    in_order(start, end)
    if out and form:
        raise click.UsageError("give --out FILE, --json or --csv, not two of them")
    unknown: queries.Unknown = "mark" if mark_unknown else "refuse"
    with record() as con:
        if out:
            notes = queries.write_universe(
                con, out, start, end,
                quote_asset=quote_asset, contract_type=contract_type, unknown=unknown,
            )  # fmt: skip
            print_notes(notes)
            click.echo(f"{out}: {(end - start).days + 1} dates, {start} to {end}")
            return
        found = queries.universe(
            con, start, end,
            quote_asset=quote_asset, contract_type=contract_type, unknown=unknown,
        )  # fmt: skip
    if form:
        print_rows(found, form, "")
        return
    members = [(row[0], sum(cell is True for cell in row[1:])) for row in found.rows]
    symbols = count(len(found.columns) - 1, "symbol")
    title = f"{start} to {end}: {symbols}; --out FILE writes the matrix"
    print_rows(queries.Rows(("date", "members"), members, found.notes), "table", title)
