"""The questions: `query` and what is under it, and `validate`."""

import datetime as dt
import sys
from pathlib import Path
from typing import Unpack, get_args

import click

from availability_pipeline import PROGRAM, queries, validation
from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.cli._options import (
    DATE,
    Date,
    Filters,
    LocalPath,
    Which,
    as_of_option,
    dataset_option,
    filter_options,
    form_options,
    in_order,
    market_option,
    quote_option,
    text_argument,
    which,
    which_options,
)
from availability_pipeline.cli._output import (
    count,
    one_line_errors,
    print_json,
    print_notes,
    print_rows,
    print_symbols,
    record,
    say,
    table,
    volumes,
)
from availability_pipeline.queries.answers import MOST_DAYS, tables


@click.group()
def query() -> None:
    """Ask the record. These commands read only, and work while an update is writing.

    Example: binance-availability query timeline BTCUSDT --json
    """


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
    date: dt.date, status: queries.Status, form: str | None, **filters: Unpack[Filters]
) -> None:
    """The files of one UTC date, by symbol.

    Example: binance-availability query snapshot 2024-01-15 --json
    """
    with record() as con:
        found = queries.snapshot(con, date, status=status, **filters)
        by_status = queries.counts(con, date, **which(filters))
    of_all = ", ".join(f"{n} {name}" for name, n in by_status.items())
    if form and not found.rows and status == "available" and by_status["pending"]:
        print_notes([f"{date}: {of_all}; pending means probed too early to say"])
    shown = (
        f"{count(len(found.rows), 'symbol')} shown; "
        if filters["quote_asset"] or filters["contract_type"]
        else ""
    )
    print_rows(found, form, f"{date}: {shown}{of_all}")


@query.command()
@click.argument("symbol")
@click.option("--start", type=DATE, help="First UTC date; the first recorded when left out.")
@click.option("--end", type=DATE, help="Last UTC date; the last recorded when left out.")
@click.option(
    "--status",
    type=click.Choice(["available", "pending", "absent", "unknown"]),
    help="Only the dates with this status.",
)
@which_options
@form_options
def timeline(
    symbol: str,
    start: dt.date | None,
    end: dt.date | None,
    status: str | None,
    form: str | None,
    **chosen: Unpack[Which],
) -> None:
    """One symbol's dates with their status.

    Dates never probed are `unknown`.

    Example: binance-availability query timeline SOLUSDT --json
    """
    in_order(start, end, "--start --end")
    symbol = text_argument(symbol)
    with record() as con:
        found = queries.timeline(con, symbol, start, end, status=status, **chosen)
    name = symbol.upper() if found.notes else symbol
    print_rows(found, form, f"{name}: {count(len(found.rows), 'date')}")


@query.command("range")
@click.argument("start", type=DATE)
@click.argument("end", type=DATE)
@filter_options
@form_options
def range_(start: dt.date, end: dt.date, form: str | None, **filters: Unpack[Filters]) -> None:
    """Symbols with at least one file from START to END, both included.

    Example: binance-availability query range 2024-01-01 2024-01-31 --json
    """
    in_order(start, end)
    with record() as con:
        found = queries.symbols_in_range(con, start, end, **filters)
    title = f"{start} to {end}: {count(len(found), 'symbol')} with a file"
    print_symbols(found, form, title)


@query.command()
@click.argument("symbol", required=False)
@click.option("--runs", is_flag=True, help="Consecutive dates of a symbol as one row.")
@filter_options
@form_options
def holes(symbol: str | None, runs: bool, form: str | None, **filters: Unpack[Filters]) -> None:
    """Confirmed absences between a symbol's first and last file.

    Example: binance-availability query holes SOLUSDT
    """
    with record() as con:
        found = queries.holes(con, text_argument(symbol) if symbol else None, runs=runs, **filters)
    print_rows(found, form, count(len(found.rows), "run of holes" if runs else "hole"))


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
    since: dt.date | None, every: bool, form: str | None, **filters: Unpack[Filters]
) -> None:
    """Files that came late, were replaced, vanished or were renamed.

    A rename is a move to a settled name.

    Example: binance-availability query revisions --since 2024-01-15
    """
    answer = queries.revisions if every else queries.changes
    with record() as con:
        found = answer(con, since, **filters)
    print_rows(found, form, count(len(found.rows), "revision"))


@query.command()
@click.argument("symbol", required=False)
@filter_options
@form_options
def listings(symbol: str | None, form: str | None, **filters: Unpack[Filters]) -> None:
    """First and last file, holes and state of each symbol.

    Example: binance-availability query listings --quote USDC
    """
    with record() as con:
        found = queries.listings(con, text_argument(symbol) if symbol else None, **filters)
    print_rows(found, form, count(len(found.rows), "symbol"))


@query.command()
@click.argument("symbol")
@as_of_option
@form_options
def coverage(symbol: str, form: str | None, as_of: dt.datetime | None) -> None:
    """One symbol in every recorded dataset: first, last, files, holes.

    Example: binance-availability query coverage SOLUSDT --json
    """
    with record() as con:
        found = queries.symbol_coverage(con, text_argument(symbol), as_of=as_of)
    print_rows(found, form, count(len(found.rows), "dataset"))


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
@click.option(
    "--top",
    type=click.IntRange(1, MOST_DAYS),
    metavar="N",
    help="Only the first N of each quote asset, by the ranks of the day before.",
)
@click.option(
    "--by",
    type=click.Choice(get_args(queries.By)),
    default="volume",
    show_default=True,
    help="What --top ranks by.",
)
@filter_options
@form_options
def universe(
    start: dt.date,
    end: dt.date,
    out: Path | None,
    mark_unknown: bool,
    top: int | None,
    by: queries.By,
    form: str | None,
    **filters: Unpack[Filters],
) -> None:
    """Which symbol had a file on which date, for backtests.

    Symbols delisted since are in it. A cell is true, false (confirmed absence) or empty (pending).
    Without --out, --json or --csv only each date's count is printed. With --top 50 a cell is true
    only where the contract was among the 50 with the largest volume on the day before, empty where
    that is not known; the volumes are those of `volume update`.

    Example: binance-availability query universe 2024-01-01 2024-01-31 --out u.parquet
    """
    in_order(start, end)
    if out and form:
        raise click.UsageError("give --out FILE, --json or --csv, not two of them")
    unknown: queries.Unknown = "mark" if mark_unknown else "refuse"
    with record() as con:
        if out:
            notes = queries.write_universe(
                con, out, start, end, **filters, unknown=unknown, top=top, by=by
            )
            print_notes(notes)
            click.echo(f"{out}: {(end - start).days + 1} dates, {start} to {end}")
            return
        found = queries.universe(con, start, end, **filters, unknown=unknown, top=top, by=by)
    if form:
        print_rows(found, form, "")
        return
    members = [(row[0], sum(cell is True for cell in row[1:])) for row in found.rows]
    symbols = count(len(found.columns) - 1, "symbol")
    title = f"{start} to {end}: {symbols}; --out FILE writes the matrix"
    print_rows(queries.Rows(("date", "members"), members, found.notes), None, title)


@query.command()
@click.argument("symbol")
@click.option("--start", type=DATE, help="First UTC date; the first that was read by default.")
@click.option("--end", type=DATE, help="Last UTC date; the last that was read by default.")
@market_option
@form_options
def volume(
    symbol: str,
    start: dt.date | None,
    end: dt.date | None,
    market: queries.Market,
    form: str | None,
) -> None:
    """One symbol's daily prices, volume and trades.

    From 1d klines that `volume update` has read; on a terminal with six digits.

    Example: binance-availability query volume BTCUSDT --start 2024-01-01 --json
    """
    in_order(start, end, "--start --end")
    with volumes() as con:
        found = queries.volume(con, text_argument(symbol), start, end, market=market)
    print_rows(found, form, f"{market} {symbol}: {count(len(found.rows), 'date')}")


@query.command()
@click.argument("date", type=DATE)
@quote_option
@click.option("--top", type=click.IntRange(1, MOST_DAYS), help="Only ranks up to this.")
@market_option
@form_options
def rankings(
    date: dt.date,
    quote_asset: list[str] | None,
    top: int | None,
    market: queries.Market,
    form: str | None,
) -> None:
    """The symbols of one UTC date by volume, in each quote asset.

    A rank's changes are over calendar days; below 0 is a rise. A share is empty while a file of
    its date and quote asset is pending or was not read.

    Example: binance-availability query rankings 2024-01-15 --quote USDT --top 50
    """
    with volumes() as con:
        found = queries.rankings(con, date, quote_asset=quote_asset, top=top, market=market)
    print_rows(found, form, f"{market} on {date}: {count(len(found.rows), 'symbol')}")


@click.group()
def analytics() -> None:
    """New listings, delistings, and the counts of each date.

    Example: binance-availability query analytics summary --days 7
    """


@analytics.command("new-listings")
@click.argument("date", type=DATE)
@filter_options
@form_options
def new_listings(date: dt.date, form: str | None, **filters: Unpack[Filters]) -> None:
    """Symbols whose first file is that date's.

    Example: binance-availability query analytics new-listings 2024-01-15 --json
    """
    with record() as con:
        found = queries.new_listings(con, date, **filters)
        pending = queries.counts(con, date, **which(filters))["pending"]
    if pending:
        print_notes([f"{date} is pending for {pending} symbols: the list may still grow"])
    print_symbols(found, form, f"{date}: {count(len(found), 'new listing')}")


@analytics.command()
@click.argument("date", type=DATE)
@filter_options
@form_options
def delistings(date: dt.date, form: str | None, **filters: Unpack[Filters]) -> None:
    """Symbols whose last file is that of the day before.

    A date not published yet, or a hole, is not a delisting: it takes three confirmed absences, so
    the newest dates have none.

    Example: binance-availability query analytics delistings 2024-01-15 --json
    """
    with record() as con:
        found = queries.delistings(con, date, **filters)
        confirmed = queries.delistings_confirmed(con, date, **which(filters))
    if not confirmed:
        print_notes([f"{date} has too few confirmed dates after it: the list may still grow"])
    print_symbols(found, form, f"{date}: {count(len(found), 'delisting')}")


@analytics.command()
@click.option("--days", type=click.IntRange(1, 10_000), help="The last dates up to yesterday.")
@click.option("--start", type=DATE, help="First UTC date; the first recorded when left out.")
@click.option("--end", type=DATE, help="Last UTC date; the last recorded when left out.")
@filter_options
@form_options
def summary(
    days: int | None,
    start: dt.date | None,
    end: dt.date | None,
    form: str | None,
    **filters: Unpack[Filters],
) -> None:
    """How many symbols each date has, and how many are pending.

    Example: binance-availability query analytics summary --days 7 --json
    """
    if days and (start or end):
        raise click.UsageError("give --days or a range, not both")
    in_order(start, end, "--start --end")
    with record() as con:
        found = queries.summary(con, days, start=start, end=end, **filters)
    print_rows(found, form, count(len(found.rows), "date"))


@click.command()
@click.option("--start", type=DATE, help="First UTC date; the market's first when left out.")
@click.option("--end", type=DATE, help="Last UTC date; the newest that is due when left out.")
@dataset_option()
@click.option("--json", "as_json", is_flag=True, help="JSON, UTF-8.")
def validate(
    start: dt.date | None, end: dt.date | None, dataset: str | None, as_json: bool
) -> None:
    """Dates never probed or short of files; exit 1 if there are any.

    Short is a date with fewer of its expected symbols than AVAILABILITY_SLO_COMPLETENESS. What is
    only pending is shown, but is not wrong.

    Example: binance-availability validate --start 2024-01-01 --end 2024-01-31
    """
    in_order(start, end, "--start --end")
    with record() as con:
        of = tables(con, dataset).dataset
    with one_line_errors():
        first, last = map(of.period_of, validation.default_range(start, end, dataset=of))
        with validation.ContinuityValidator(dataset=dataset) as continuity:
            missing = continuity.check_continuity(first, last)
        with validation.CompletenessValidator(dataset=dataset) as completeness:
            short = completeness.get_short_dates(first, last)
    wrong = [one for one in short if not one.pending]
    pending = len(short) - len(wrong)
    passed = not missing and not wrong
    unit = "month" if of.monthly else "date"
    if as_json:
        print_json(
            {
                "start": first, "end": last, "passed": passed, "missing_dates": missing,
                "short_dates": [
                    {"date": one.date, "expected": one.expected, "available": one.available,
                     "pending": one.pending}
                    for one in short
                ],
            }
        )  # fmt: skip
    else:
        if missing:
            rows = [(of.text(a), of.text(b), n) for a, b, n in _stretches(of, missing)]
            table(
                queries.Rows(("from", "to", f"{unit}s"), rows), f"{unit}s never probed".capitalize()
            )
        if short:
            cells = [
                (of.text(o.date), o.expected, o.available, o.pending, f"{o.share:.1%}")
                for o in short
            ]
            columns = (unit, "expected", "available", "pending", "share")
            table(queries.Rows(columns, cells), f"{unit}s short of files".capitalize())
        verdict = "whole" if passed else "NOT whole"
        say(
            f"{of.text(first)} to {of.text(last)}{f' of {of}' if dataset else ''} is {verdict}: "
            f"{count(len(missing), unit)} never probed, "
            f"{len(wrong)} short of files, {pending} pending"
        )
        if missing:
            span = f"--start {missing[0]} --end {of.last_day(missing[-1])}"
            only = f" --dataset {of}" if dataset else ""
            say(f"To probe them: `{PROGRAM} backfill {span}{only}`")
    if not passed:
        sys.exit(1)


def _stretches(of: Dataset, periods: list[dt.date]) -> list[tuple[dt.date, dt.date, int]]:
    """Ascending dates or months as stretches without a gap: first, last, how many."""
    found: list[tuple[dt.date, dt.date, int]] = []
    for period in periods:
        if found and of.shift(found[-1][1], 1) == period:
            first, _, n = found.pop()
            found.append((first, period, n + 1))
        else:
            found.append((period, period, 1))
    return found


query.add_command(analytics)
