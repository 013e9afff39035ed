"""What follows from the rows: when each symbol was listed, and what each date held.

Belongs here: the SQL of `symbol_listings` and `daily_summary`, and keeping their tables as new as
the rows. Does not belong here: writing rows (`store`) or answering people (`queries`).

Both tables are a convenience: `listings_relation` and `summary_relation` fall back on computing
them from the rows when a write came after them, so an answer is never stale.
"""

import duckdb

from availability_pipeline.schema import get_meta, set_meta, transaction

ENDED_AFTER_DATES = 3
"""Published dates on which a symbol must be absent after its last file to count as ended."""

# A date on which hardly anything was published (2024-04-18 came 13 days late for all symbols)
# says nothing about a single symbol, so it ends none.
LISTINGS_SQL = f"""
WITH daily AS (
    SELECT date, count(*) FILTER (available) AS n FROM daily_availability GROUP BY date),
published AS (
    SELECT date FROM (
        SELECT date, n, median(n) OVER (
            ORDER BY date ROWS BETWEEN 14 PRECEDING AND 1 PRECEDING) AS usual
        FROM daily WHERE n > 0)
    WHERE n >= 0.5 * coalesce(usual, n)),
files AS (
    SELECT symbol, min(date) FILTER (available) AS first_available,
        max(date) FILTER (available) AS last_available,
        count(*) FILTER (available) AS days_available
    FROM daily_availability GROUP BY symbol),
absences AS (
    SELECT a.symbol,
        count(*) FILTER (a.date > f.first_available AND a.date < f.last_available) AS holes,
        count(p.date) FILTER (f.last_available IS NULL OR a.date > f.last_available) AS after
    FROM availability a JOIN files f USING (symbol) LEFT JOIN published p ON p.date = a.date
    WHERE a.status = 'absent' GROUP BY a.symbol)
SELECT f.symbol, s.contract_type, s.base_asset, s.quote_asset, f.first_available,
    f.last_available, f.days_available, coalesce(x.holes, 0) AS hole_days,
    CASE WHEN s.contract_type = 'settled' THEN 'settled'
         WHEN coalesce(x.after, 0) >= {ENDED_AFTER_DATES} THEN 'ended'
         ELSE 'live' END AS state
FROM files f LEFT JOIN symbols s USING (symbol) LEFT JOIN absences x USING (symbol)
ORDER BY f.symbol"""  # noqa: S608 - the one value put in is a constant of ours

_SUMMARY_SQL = """
WITH counted AS (
    SELECT date, count(*) AS symbols_probed, count(*) FILTER (status = 'available') AS available,
        count(*) FILTER (status = 'pending') AS pending,
        count(*) FILTER (status = 'absent') AS absent,
        coalesce(sum(file_size_bytes), 0)::BIGINT AS bytes,
        quantile_cont(epoch(last_modified - timezone('UTC', date::TIMESTAMP + to_days(1))) / 3600,
            [0.5, 0.95]) AS lag
    FROM availability GROUP BY date),
listings AS ({listings}),
expected AS (
    SELECT c.date, count(*) AS n FROM counted c JOIN listings l
      ON l.first_available <= c.date AND (c.date <= l.last_available OR l.state = 'live')
    GROUP BY c.date),
begun AS (SELECT first_available AS date, count(*) AS n FROM listings GROUP BY 1),
gone AS (
    SELECT last_available + 1 AS date, count(*) AS n FROM listings WHERE state <> 'live'
    GROUP BY 1)
SELECT c.date, c.symbols_probed, coalesce(e.n, 0) AS expected, c.available, c.pending, c.absent,
    coalesce(b.n, 0) AS new_listings, coalesce(g.n, 0) AS ended, c.bytes,
    c.lag[1] AS lag_p50_hours, c.lag[2] AS lag_p95_hours
FROM counted c LEFT JOIN expected e USING (date) LEFT JOIN begun b USING (date)
LEFT JOIN gone g USING (date) ORDER BY c.date"""

SUMMARY_SQL = _SUMMARY_SQL.format(listings=LISTINGS_SQL)


def refresh_listings(con: duckdb.DuckDBPyConnection) -> int:
    """Replace `symbol_listings` by what the rows say now; the number of symbols."""
    return _refresh(con, "symbol_listings", LISTINGS_SQL)


def refresh_summary(con: duckdb.DuckDBPyConnection) -> int:
    """Replace `daily_summary` by what the rows say now; the number of dates."""
    return _refresh(con, "daily_summary", _summary_sql(con))


def listings_relation(con: duckdb.DuckDBPyConnection) -> str:
    """What to put after FROM for current symbol listings."""
    return "symbol_listings" if _current(con, "symbol_listings") else f"({LISTINGS_SQL})"


def summary_relation(con: duckdb.DuckDBPyConnection) -> str:
    """What to put after FROM for a current daily summary."""
    return "daily_summary" if _current(con, "daily_summary") else f"({_summary_sql(con)})"


def _summary_sql(con: duckdb.DuckDBPyConnection) -> str:
    return _SUMMARY_SQL.format(listings=f"FROM {listings_relation(con)}")


def _mark(con: duckdb.DuckDBPyConnection) -> str:
    # The settling time changes statuses without a write.
    return f"{get_meta(con, 'writes') or 0}/{get_meta(con, 'settle_days')}"


def _current(con: duckdb.DuckDBPyConnection, table: str) -> bool:
    return get_meta(con, f"derived.{table}") == _mark(con)


def _refresh(con: duckdb.DuckDBPyConnection, table: str, sql: str) -> int:
    with transaction(con):
        con.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
        [(rows,)] = con.execute(f"INSERT INTO {table} {sql}").fetchall()
        set_meta(con, f"derived.{table}", _mark(con))
    return int(rows)
