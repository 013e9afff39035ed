"""What came, what went, and the counts of each date: `query analytics`, and `validate`.

Belongs here: arguments, and which function answers. Does not belong here: SQL (`queries`,
`validation`), printing (`cli_output`), Dagster.
"""

import datetime as dt
import sys
from collections.abc import Sequence

import click

from availability_pipeline import PROGRAM, queries, validation
from availability_pipeline.cli_output import (
    Date,
    count,
    filter_options,
    form_options,
    in_order,
    one_line_errors,
    print_json,
    print_notes,
    print_rows,
    print_symbols,
    record,
    table,
)

DATE = Date()
Types = Sequence[str] | None


@click.group()
def analytics() -> None:
    """New listings, delistings, and the counts of each date.

    Example: binance-availability query analytics summary --days 7
    """


@analytics.command("new-listings")
@click.argument("date", type=DATE)
@filter_options
@form_options
def new_listings(
    date: dt.date, quote_asset: Types, contract_type: Types, form: str | None
) -> None:
    """Symbols whose first file is that date's.

    Example: binance-availability query analytics new-listings 2024-01-15 --json
    """
    with record() as con:
        found = queries.new_listings(
            con, date, quote_asset=quote_asset, contract_type=contract_type
        )
        pending = queries.counts(con, date)["pending"]
    if pending:
        print_notes([f"{date} is pending for {pending} symbols: the list may still grow"])
    print_symbols(found, form or "table", f"{date}: {count(len(found), 'new listing')}")


@analytics.command()
@click.argument("date", type=DATE)
@filter_options
@form_options
def delistings(
    date: dt.date, quote_asset: Types, contract_type: Types, form: str | None
) -> None:
    """Symbols whose last file is that of the day before.

    A date not published yet, or a hole, is no delisting: it takes three confirmed absences, so
    the newest dates have none.

    Example: binance-availability query analytics delistings 2024-01-15 --json
    """
    with record() as con:
        found = queries.delistings(con, date, quote_asset=quote_asset, contract_type=contract_type)
        confirmed = queries.delistings_confirmed(con, date)
    if not confirmed:
        print_notes([f"{date} has too few confirmed dates after it: the list may still grow"])
    print_symbols(found, form or "table", f"{date}: {count(len(found), 'delisting')}")


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
    quote_asset: Types,
    contract_type: Types,
    form: str | None,
) -> None:
    """How many symbols each date has, and how many are pending.

    Example: binance-availability query analytics summary --days 7 --json
    """
    if days and (start or end):
        raise click.UsageError("give --days or a range, not both")
    in_order(start, end, "--start --end")
    with record() as con:
        found = queries.summary(
            con, days, start=start, end=end, quote_asset=quote_asset, contract_type=contract_type
        )
    print_rows(found, form or "table", count(len(found.rows), "date"))


@click.command()
@click.option("--start", type=DATE, help="First UTC date; 2019-09-25 when left out.")
@click.option("--end", type=DATE, help="Last UTC date; the newest that is due when left out.")
@click.option("--json", "as_json", is_flag=True, help="JSON, UTF-8.")
def validate(start: dt.date | None, end: dt.date | None, as_json: bool) -> None:
    """Dates never probed, and dates short of files; exit 1 if there are any.

    Short is a date with fewer of its expected symbols than AVAILABILITY_SLO_COMPLETENESS. What is
    only pending is shown, but is not wrong.

    Example: binance-availability validate --start 2024-01-01 --end 2024-01-31
    """
    in_order(start, end, "--start --end")
    with one_line_errors():
        first, last = validation.default_range(start, end)
        with validation.ContinuityValidator() as continuity:
            missing = continuity.check_continuity(first, last)
        with validation.CompletenessValidator() as completeness:
            short = completeness.get_short_dates(first, last)
    wrong = [one for one in short if not one.pending]
    pending = len(short) - len(wrong)
    passed = not missing and not wrong
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
            rows = [(a, b, (b - a).days + 1) for a, b in validation.runs(missing)]
            table(queries.Rows(("from", "to", "dates"), rows), "Dates never probed")
        if short:
            cells = [(o.date, o.expected, o.available, o.pending, f"{o.share:.1%}") for o in short]
            columns = ("date", "expected", "available", "pending", "share")
            table(queries.Rows(columns, cells), "Dates short of files")
        verdict = "whole" if passed else "NOT whole"
        click.echo(
            f"{first} to {last} is {verdict}: {count(len(missing), 'date')} never probed, "
            f"{len(wrong)} short of files, {pending} pending"
        )
        if missing:
            click.echo(
                f"To look at them: {PROGRAM} backfill "
                f"--start {missing[0]} --end {missing[-1]}"
            )
    if not passed:
        sys.exit(1)
