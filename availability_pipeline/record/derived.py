"""Compute what follows from the rows: when each symbol was listed, and what each date held.

`symbol_listings` and `daily_summary` are computed again in every transaction that changes what they
follow from (`write`, `acknowledgements`, a migration), so they are never older than the rows.
"""

import datetime as dt

import duckdb

from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.record.schema import PROBES, get_meta, holes_sql, set_meta, status_sql

ENDED_AFTER_DATES = 3
"""Published dates on which a symbol must be absent after its last file to count as ended."""

PUBLISHED_SHARE = 0.5
"""Share of the expected symbols without which a date was not published: it shows nothing about
any one symbol (2024-04-18 came 13 days late for all symbols)."""

OUTAGE_SHARE = 0.25
"""Symbols that stop together are an outage from this share of those that published on. Above what
real delistings can be: all 41 BUSD contracts that ever were, ended at once when 300 symbols
published, would be 14 %."""

OUTAGE_SYMBOLS = 3
"""And from this number on: in a record of a few symbols, two may well be delisted together. More
than half of the symbols are an outage whatever their number."""

OUTAGE_DATES = 5
"""Probed dates within which symbols stop together: the last files of an archive that stopped are
of slightly different dates."""

OUTAGE_SHARE_PER_GAP_DATE = 0.001
"""What an unprobed date among them adds to `OUTAGE_SHARE`: all that ended in a gap seem to stop
on the date before it. An estimate, not measured: were 300 contracts of 300 delisted in six years,
it would be 0.05 % a date; this is twice that."""

_PUBLISHING_DATES = 14
"""The most files of so many probed dates are the symbols that published: a single date may be
short."""

# In order:
# - stops: symbols without a file on any settled date after their last one, unless their end is
#   known: from the name (delivery, settled), or because somebody acknowledged it.
# - outage_dates: dates in whose neighbourhood more symbols stopped than are ever delisted.
# - dates: what a date shows. The expected symbols include those of an outage, so a long outage
#   does not become the usual state, as it did when dates were compared with those before them.
_DATES = f"""
looked AS MATERIALIZED (SELECT date, available AS n, settled FROM {PROBES}),
files AS MATERIALIZED (
    SELECT symbol, min(date) AS first_row, min(date) FILTER (available) AS first_available,
        max(date) FILTER (available) AS last_available,
        count(*) FILTER (available) AS days_available
    FROM daily_availability GROUP BY symbol),
holes AS (SELECT symbol, count(*) AS n FROM ({holes_sql("files")}) GROUP BY symbol),
newest AS (SELECT max(date) AS date FROM looked WHERE settled),
stops AS (
    SELECT f.symbol, f.last_available AS date
    FROM files f LEFT JOIN symbols s USING (symbol), newest
    WHERE f.last_available < newest.date AND s.contract_type IS DISTINCT FROM 'settled'
        AND (s.contract_type IS DISTINCT FROM 'delivery' OR coalesce(try_strptime(
            regexp_extract(f.symbol, '_([0-9]{{6}})$', 1), '%y%m%d')::DATE > newest.date, true))
        AND NOT EXISTS (FROM acknowledgements a WHERE a.date > f.last_available
            AND (a.symbol IS NULL OR a.symbol = f.symbol))),
near AS (
    SELECT date, sum(coalesce(s.stopped, 0)) OVER (
            ORDER BY date ROWS BETWEEN CURRENT ROW AND ({OUTAGE_DATES} - 1) FOLLOWING) AS stopped,
        max(n) OVER (
            ORDER BY date ROWS BETWEEN ({_PUBLISHING_DATES} - 1) PRECEDING AND CURRENT ROW) AS n,
        coalesce(lead(date, {OUTAGE_DATES}) OVER (ORDER BY date) - date - {OUTAGE_DATES},
            max(date) OVER () - date + 1 - count(*) OVER (
                ORDER BY date ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)) AS unprobed
    FROM looked LEFT JOIN (SELECT date, count(*) AS stopped FROM stops GROUP BY date) s
        USING (date)),
outage_dates AS (
    SELECT date, bool_or(
            stopped >= {OUTAGE_SYMBOLS}
                AND stopped >= n * ({OUTAGE_SHARE} + {OUTAGE_SHARE_PER_GAP_DATE} * unprobed)
            OR stopped > n * (0.5 + {OUTAGE_SHARE_PER_GAP_DATE} * unprobed))
        OVER (ORDER BY date ROWS BETWEEN ({OUTAGE_DATES} - 1) PRECEDING AND CURRENT ROW) AS outage
    FROM near),
outages AS MATERIALIZED (
    SELECT symbol FROM stops JOIN outage_dates USING (date) WHERE outage),
listed AS (
    SELECT date, sum(sum(change)) OVER (ORDER BY date) AS n FROM (
        SELECT date, 0 AS change FROM looked
        UNION ALL SELECT first_available, 1 FROM files WHERE first_available IS NOT NULL
        UNION ALL SELECT last_available + 1, -1 FROM files ANTI JOIN outages USING (symbol)
            WHERE last_available IS NOT NULL)
    GROUP BY date),
dates AS (
    SELECT date, settled, settled AND l.n > 0 AND l.n >= {PUBLISHED_SHARE} * e.n AS telling
    FROM looked l JOIN listed e USING (date)),
-- A symbol has ended if its last file is before this date: null while there are too few dates.
ended AS MATERIALIZED (
    SELECT CASE WHEN count(*) = {ENDED_AFTER_DATES} THEN min(date) END AS before FROM (
        SELECT date FROM dates WHERE telling ORDER BY date DESC LIMIT {ENDED_AFTER_DATES}))"""  # noqa: S608

# With the date that the states depend on, so that the rows are not scanned again for it.
LISTINGS_SQL = f"""
WITH {_DATES}
SELECT f.symbol, s.contract_type, s.base_asset, s.quote_asset, f.first_available,
    f.last_available, f.days_available, coalesce(h.n, 0)::BIGINT AS hole_days,
    CASE WHEN s.contract_type = 'settled' THEN 'settled'
         WHEN o.symbol IS NOT NULL THEN 'live'
         WHEN f.last_available < e.before
            OR f.last_available IS NULL AND f.first_row <= e.before THEN 'ended'
         ELSE 'live' END AS state, e.before AS ended_before
FROM files f CROSS JOIN ended e LEFT JOIN symbols s USING (symbol)
LEFT JOIN outages o USING (symbol)
LEFT JOIN holes h USING (symbol)
ORDER BY f.symbol"""  # noqa: S608 - what is put in is our own

ENDED_BEFORE = "derived.ended_before"

DELISTED = f"""(state = 'ended' OR state = 'settled' AND last_available <
    (SELECT nullif(value, '')::DATE FROM meta WHERE key = '{ENDED_BEFORE}'))"""  # noqa: S608
"""SQL condition on a row of the listings: the symbol publishes no more.

A settled contract is settled by its name; it was delisted only once published dates without it are
confirmed, as with every other symbol.
"""

# A count is unknown, not zero, where the date before was never probed: what is seen first may
# have been there for long, and what ended in between ended on no date that is recorded.
SUMMARY_SQL = f"""
WITH counted AS (
    SELECT date, count(*) AS symbols_probed, count(*) FILTER (d.available) AS available,
        count(*) FILTER ({status_sql("d", "p.settled_at")} = 'pending') AS pending,
        coalesce(sum(file_size_bytes), 0)::BIGINT AS bytes,
        -- Microseconds are exact in a DOUBLE; a time zone a row would cost 0.3 s.
        quantile_cont(epoch_us(last_modified), [0.5, 0.95]) AS lag
    FROM daily_availability d JOIN {PROBES} p USING (date) GROUP BY date),
begun AS (SELECT first_available AS date, count(*) AS n FROM symbol_listings GROUP BY 1),
gone AS (
    SELECT last_available + 1 AS date, count(*) AS n FROM symbol_listings
    WHERE {DELISTED} GROUP BY 1),
-- Expected: those that began by a date and are live, or not past their last file.
expected AS (
    SELECT date, sum(sum(change)) OVER (ORDER BY date) AS n FROM (
        SELECT date, 0 AS change FROM counted
        UNION ALL SELECT first_available, 1 FROM symbol_listings WHERE first_available IS NOT NULL
        UNION ALL SELECT last_available + 1, -1 FROM symbol_listings
            WHERE last_available IS NOT NULL AND state <> 'live')
    GROUP BY date)
SELECT c.date, c.symbols_probed, e.n::BIGINT AS expected, c.available,
    c.pending, c.symbols_probed - c.available - c.pending AS absent,
    CASE WHEN k.known THEN coalesce(b.n, 0) END AS new_listings,
    CASE WHEN k.known THEN coalesce(g.n, 0) END AS ended, c.bytes,
    (c.lag[1] - epoch_us((c.date + 1)::TIMESTAMP)) / 3.6e9 AS lag_p50_hours,
    (c.lag[2] - epoch_us((c.date + 1)::TIMESTAMP)) / 3.6e9 AS lag_p95_hours
FROM counted c JOIN expected e USING (date)
JOIN (SELECT date, date <= DATE '{FIRST_DATE}'
        OR coalesce(lag(date) OVER (ORDER BY date) = date - 1, false) AS known FROM probes) k
    USING (date)
LEFT JOIN begun b USING (date) LEFT JOIN gone g USING (date) ORDER BY c.date"""  # noqa: S608


def refresh(con: duckdb.DuckDBPyConnection) -> None:
    """Compute both tables again from the rows, within the transaction of what changed them."""
    con.execute(f"CREATE OR REPLACE TEMP TABLE fresh AS {LISTINGS_SQL}")
    [(before,)] = con.execute("SELECT any_value(ended_before) FROM fresh").fetchall()
    set_meta(con, ENDED_BEFORE, str(before or ""))
    con.execute("DELETE FROM symbol_listings")
    con.execute("INSERT INTO symbol_listings SELECT * EXCLUDE (ended_before) FROM fresh")
    con.execute("DROP TABLE fresh")
    con.execute("DELETE FROM daily_summary")
    con.execute(f"INSERT INTO daily_summary {SUMMARY_SQL}")


def ended_before(con: duckdb.DuckDBPyConnection) -> dt.date | None:
    """A symbol whose last file is before this date publishes no more, unless it is an outage.

    It is the first of the last `ENDED_AFTER_DATES` settled dates that were published; None while
    there are fewer.
    """
    noted = get_meta(con, ENDED_BEFORE)
    return dt.date.fromisoformat(noted) if noted else None
