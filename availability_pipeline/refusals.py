"""When a listing must not become a fact: the clock, or an archive that shrank beyond belief.

Belongs here: what is refused before a write, and why, in one line. Does not belong here: the
write (`store`). Each function returns nothing or raises a `RefusedProbeError`.

A wrong clock would date facts wrongly for ever, and call absent what is only pending. An empty or
truncated mirror would turn 740,000 files into absences, and each symbol into an ended one.
"""

import datetime as dt

import duckdb

from availability_pipeline.archive import Listing
from availability_pipeline.schema import where
from availability_pipeline.store_errors import (
    ClockSkewError,
    ClockWentBackError,
    ShrunkenArchiveError,
)

MIN_TO_COMPARE = 20
"""Fewer recorded files or symbols than this say nothing about an archive that shrank."""


def refuse_past(con: duckdb.DuckDBPyConnection, listing: Listing, now: dt.datetime) -> None:
    """Refuse a look that would be older than the one it replaces."""
    [(last,)] = con.execute(
        "SELECT max(probed_at) FROM probes WHERE date BETWEEN ? AND ?",
        [listing.start, listing.end],
    ).fetchall()
    if last is not None and last > now:
        raise ClockWentBackError(
            f"the clock says {now:%Y-%m-%d %H:%M:%S} UTC, but {where(con)} has a look at these "
            f"dates of {last:%Y-%m-%d %H:%M:%S} UTC; set the clock right, nothing was written"
        )


def refuse_skew(
    con: duckdb.DuckDBPyConnection, listing: Listing, now: dt.datetime, allowed_minutes: int
) -> None:
    """Refuse a clock that is far from the archive's; 0 minutes switches this off."""
    if not allowed_minutes or listing.server_time is None:
        return
    off = (now - listing.server_time).total_seconds() / 60
    if abs(off) > allowed_minutes:
        raise ClockSkewError(
            f"the clock is {abs(off):.0f} minutes {'ahead of' if off > 0 else 'behind'} the "
            f"archive's (at most {allowed_minutes}); set it right or change "
            f"AVAILABILITY_MAX_CLOCK_SKEW_MINUTES, nothing was written to {where(con)}"
        )


def refuse_shrunken(con: duckdb.DuckDBPyConnection, listing: Listing, share: float) -> None:
    """Refuse a listing with less than `share` of the recorded symbols or files.

    Reads the frame registered as `listed`.
    """
    [(known,)] = con.execute("SELECT count(*) FROM symbols").fetchall()
    [(stored, still)] = con.execute(
        """SELECT count(*), count(f.symbol) FROM daily_availability d
        LEFT JOIN (SELECT date::DATE AS date, symbol::VARCHAR AS symbol FROM listed) f
          ON f.date = d.date AND f.symbol = d.symbol
        WHERE d.available AND d.date BETWEEN ? AND ?""",
        [listing.start, listing.end],
    ).fetchall()
    for what, recorded, listed in (
        ("symbols", known, len(listing.symbols)),
        (f"files of {listing.start} to {listing.end}", stored, still),
    ):
        if recorded >= MIN_TO_COMPARE and listed < share * recorded:
            raise ShrunkenArchiveError(
                f"the archive lists {listed} of the {recorded} {what} recorded in {where(con)}; "
                "nothing was written. If that is right: backfill with --accept-shrunken"
            )
