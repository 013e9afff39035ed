"""What follows from the rows: when each symbol was listed, and what each date held.

Belongs here: the SQL of `symbol_listings` and `daily_summary`, and keeping their tables as new as
the rows. Does not belong here: writing rows (`store`) or answering people (`queries`).

Both tables are a convenience: `listings_relation` and `summary_relation` fall back on computing
them from the rows when a write came after them, so an answer is never stale.
"""

import duckdb

from availability_pipeline.schema import set_meta, settled_at, transaction

ENDED_AFTER_DATES = 3
"""Published dates on which a symbol must be absent after its last file to count as ended."""

# Statuses follow from the date alone, not from the row: a write replaces all rows of a date, so
# `probes` has the time of each. Counting settled dates instead of absent rows took the listings
# of 2.6 million rows from 350 to 50 ms of CPU, the summary from 1,090 to 115.
_LOOKED = f"""
SELECT date, available AS n, probed_at >= {settled_at("date")} AS settled FROM probes"""  # noqa: S608

# A date on which hardly anything was published (2024-04-18 came 13 days late for all symbols)
# says nothing about a single symbol, so it ends none: it is not telling.
_DATES = f"""
looked AS ({_LOOKED}),
published AS (
    SELECT date FROM (
        SELECT date, n, median(n) OVER (
            ORDER BY date ROWS BETWEEN 14 PRECEDING AND 1 PRECEDING) AS usual
        FROM looked WHERE n > 0)
    WHERE n >= 0.5 * coalesce(usual, n)),
dates AS (
    SELECT l.date, l.settled, l.settled AND p.date IS NOT NULL AS telling,
        count(*) FILTER (l.settled) OVER (ORDER BY l.date) AS settled_to,
        count(*) FILTER (l.settled AND p.date IS NOT NULL) OVER (
            ORDER BY l.date DESC) AS telling_from
    FROM looked l LEFT JOIN published p ON p.date = l.date)"""  # noqa: S608

LISTINGS_SQL = f"""
WITH {_DATES},
files AS (
    SELECT symbol, min(date) AS first_row, min(date) FILTER (available) AS first_available,
        max(date) FILTER (available) AS last_available,
        count(*) FILTER (available) AS days_available,
        count(*) FILTER (available AND settled) AS settled_days
    FROM daily_availability JOIN looked USING (date) GROUP BY symbol)
SELECT f.symbol, s.contract_type, s.base_asset, s.quote_asset, f.first_available,
    f.last_available, f.days_available,
    -- Settled dates from the first file to the last, less those with a file.
    coalesce(l.settled_to - b.settled_to + b.settled::INT - f.settled_days, 0)::BIGINT
        AS hole_days,
    CASE WHEN s.contract_type = 'settled' THEN 'settled'
         WHEN e.telling_from - (f.last_available IS NOT NULL AND e.telling)::INT
            >= {ENDED_AFTER_DATES} THEN 'ended'
         ELSE 'live' END AS state
FROM files f LEFT JOIN symbols s USING (symbol)
LEFT JOIN dates b ON b.date = f.first_available
LEFT JOIN dates l ON l.date = f.last_available
LEFT JOIN dates e ON e.date = coalesce(f.last_available, f.first_row)
ORDER BY f.symbol"""  # noqa: S608 - what is put in is our own

# A settled contract is settled by its name; it was delisted only once dates without it are
# confirmed, as with every other symbol.
DELISTED_SQL = f"""(state = 'ended' OR state = 'settled' AND (
    SELECT count(*) FROM ({_LOOKED}) WHERE n > 0 AND settled AND date > last_available)
    >= {ENDED_AFTER_DATES})"""  # noqa: S608
"""SQL condition on a row of the listings: the symbol publishes no more."""

_SUMMARY_SQL = f"""
WITH looked AS ({_LOOKED}),
counted AS (
    SELECT date, count(*) AS symbols_probed, count(*) FILTER (available) AS available,
        coalesce(sum(file_size_bytes), 0)::BIGINT AS bytes,
        -- Microseconds are exact in a DOUBLE; a time zone a row would cost 0.3 s.
        quantile_cont(epoch_us(last_modified), [0.5, 0.95]) AS lag
    FROM daily_availability GROUP BY date),
listings AS MATERIALIZED ({{listings}}),
begun AS (SELECT first_available AS date, count(*) AS n FROM listings GROUP BY 1),
gone AS (
    SELECT last_available + 1 AS date, count(*) AS n FROM listings WHERE {DELISTED_SQL}
    GROUP BY 1),
-- Expected: those that began by a date and are live, or not past their last file.
expected AS (
    SELECT date, sum(sum(change)) OVER (ORDER BY date) AS n FROM (
        SELECT date, 0 AS change FROM counted
        UNION ALL SELECT first_available, 1 FROM listings WHERE first_available IS NOT NULL
        UNION ALL SELECT last_available + 1, -1 FROM listings
            WHERE last_available IS NOT NULL AND state <> 'live')
    GROUP BY date)
SELECT c.date, c.symbols_probed, e.n::BIGINT AS expected, c.available,
    CASE WHEN d.settled THEN 0 ELSE c.symbols_probed - c.available END AS pending,
    CASE WHEN d.settled THEN c.symbols_probed - c.available ELSE 0 END AS absent,
    coalesce(b.n, 0) AS new_listings, coalesce(g.n, 0) AS ended, c.bytes,
    (c.lag[1] - epoch_us((c.date + 1)::TIMESTAMP)) / 3.6e9 AS lag_p50_hours,
    (c.lag[2] - epoch_us((c.date + 1)::TIMESTAMP)) / 3.6e9 AS lag_p95_hours
FROM counted c JOIN looked d USING (date) JOIN expected e USING (date)
LEFT JOIN begun b USING (date) LEFT JOIN gone g USING (date) ORDER BY c.date"""  # noqa: S608

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


def _mark(meta: dict[str, str]) -> str:
    # The settling time changes statuses without a write.
    return f"{meta.get('writes', 0)}/{meta.get('settle_days')}"


def _meta(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    # One statement: each costs 0.3 ms, and a question that needs 1 ms asks this first.
    return dict(con.execute("SELECT key, value FROM meta").fetchall())


def _current(con: duckdb.DuckDBPyConnection, table: str) -> bool:
    meta = _meta(con)
    return meta.get(f"derived.{table}") == _mark(meta)


def _refresh(con: duckdb.DuckDBPyConnection, table: str, sql: str) -> int:
    with transaction(con):
        con.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
        [(rows,)] = con.execute(f"INSERT INTO {table} {sql}").fetchall()
        set_meta(con, f"derived.{table}", _mark(_meta(con)))
    return int(rows)
