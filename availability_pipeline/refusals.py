"""When a listing must not become a fact: the clock, or an archive that shrank beyond belief.

Belongs here: what is refused before a write, and why, in one line. Does not belong here: the
write (`store`). Each function returns nothing or raises a `RefusedProbeError`.

A wrong clock would date facts wrongly for ever, and call absent what is only pending. An empty or
truncated mirror would turn 740,000 files into absences, and each symbol into an ended one.
"""

import datetime as dt

import duckdb

from availability_pipeline import PROGRAM
from availability_pipeline.archive import Listing
from availability_pipeline.schema import get_meta, where
from availability_pipeline.store_errors import (
    ClockSkewError,
    ClockWentBackError,
    ShrunkenArchiveError,
)

MIN_FILES = 20
"""Fewer recorded files than this say nothing about an archive that shrank."""

MIN_SYMBOLS = 2
"""The same of symbols: a folder stays when its contract ends, so already two are telling."""


def refuse_past(
    con: duckdb.DuckDBPyConnection, listing: Listing, now: dt.datetime, rows: str
) -> None:
    """Refuse a probe older than what it would replace; `rows` is the SQL condition of that.

    Or older than the probe of a date outside its range to which it would add a newly seen symbol:
    that row would be pending where the date's others are confirmed. Those symbols are in the frame
    registered as `wide`.
    """
    [(last,)] = con.execute(
        f"""SELECT greatest(
            (SELECT max(probe_timestamp) FROM daily_availability WHERE {rows}),
            (SELECT max(p.probed_at) FROM probes p
                JOIN wide w ON p.date BETWEEN w.first::DATE AND w.last::DATE))""",  # noqa: S608
        [listing.start, listing.end],
    ).fetchall()
    if last is not None and last > now:
        raise ClockWentBackError(
            f"the clock says {now:%Y-%m-%d %H:%M:%S} UTC, but {where(con)} has a probe of these "
            f"dates of {last:%Y-%m-%d %H:%M:%S} UTC; set the clock right, or run it again if "
            "another run wrote meanwhile; nothing was written"
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

    The symbols are those that the last written probe listed, not all that were ever known: once
    a smaller archive was accepted, it is what later probes are compared with.

    Reads the frames registered as `listed` and `seen`.
    """
    [(known, seen)] = con.execute(
        """SELECT count(*), count(*) FILTER (symbol IN (SELECT symbol FROM seen)) FROM symbols
        WHERE last_seen = ?""",
        [last_probe(con)],
    ).fetchall()
    [(stored, still)] = con.execute(
        """SELECT count(*), count(f.symbol) FROM daily_availability d
        LEFT JOIN (SELECT date::DATE AS date, symbol::VARCHAR AS symbol FROM listed) f
          ON f.date = d.date AND f.symbol = d.symbol
        WHERE d.available AND d.date BETWEEN ? AND ?""",
        [listing.start, listing.end],
    ).fetchall()
    for what, recorded, listed, least in (
        ("symbols of the last probe", known, seen, MIN_SYMBOLS),
        (f"files of {listing.start} to {listing.end}", stored, still, MIN_FILES),
    ):
        if recorded >= least and listed < share * recorded:
            [(first, last)] = con.execute("SELECT min(date), max(date) FROM probes").fetchall()
            # All dates: accepted for some, the next look-back over others would be refused again.
            raise ShrunkenArchiveError(
                f"the archive lists {listed} of the {recorded} {what} recorded in {where(con)}; "
                "nothing was written. Check AVAILABILITY_S3_ENDPOINT and AVAILABILITY_S3_BUCKET; "
                "if the archive is right, accept it for all dates: "
                f"`{PROGRAM} backfill --start {min(first, listing.start)} "
                f"--end {max(last, listing.end)} --accept-shrunken`"
            )


def last_probe(con: duckdb.DuckDBPyConnection) -> dt.datetime | None:
    """When the probe that was written last began: the `last_seen` of the symbols it listed."""
    noted = get_meta(con, "last_probe")
    if noted is not None:
        return dt.datetime.fromisoformat(noted)
    # A record from before it was noted: probes were hardly ever written in another order.
    [(newest,)] = con.execute("SELECT max(probed_at) FROM probes").fetchall()
    return newest  # type: ignore[no-any-return]
