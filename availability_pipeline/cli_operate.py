"""Looking after it: whether it runs, what it covers, what to do next.

Belongs here: arguments, and how an answer is laid out. Does not belong here: SQL (`queries`).
"""

import datetime as dt
from typing import Any

import click

from availability_pipeline import connections, queries, settings
from availability_pipeline.cli_output import one_line_errors, print_json, table, today_utc
from availability_pipeline.keys import FIRST_DATE


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON, UTF-8.")
def status(as_json: bool) -> None:
    """What the record covers, and what to do next.

    Example: binance-futures-availability status
    """
    with one_line_errors():
        s = settings.load()
        with connections.reader(s.db, s.db_wait_seconds) as con:
            found = queries.coverage(con, today_utc())
    answer: dict[str, Any] = {"database": str(s.db_path), **found, "next": _next_step(found)}
    if as_json:
        print_json(answer)
    else:
        table(queries.Rows(("what", "is"), [(k, str(v)) for k, v in answer.items()]), "Status")


def _next_step(found: dict[str, Any]) -> str:
    yesterday = today_utc() - dt.timedelta(1)
    if found["unknown_dates"]:
        return (
            f"{found['unknown_dates']} dates were never looked at: binance-futures-availability "
            f"backfill --start {FIRST_DATE} --end {yesterday}"
        )
    return "nothing: every date up to yesterday was looked at"
