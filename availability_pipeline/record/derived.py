"""Compute what follows from the files: when each symbol was listed, and what each date held.

`symbol_spans` and `daily_summary` of a dataset are computed again in every transaction that
changes what they follow from (`write`, `acknowledgements`, a migration), so they are never older
than the files. Only rows that differ are written.
"""

import datetime as dt
from dataclasses import replace

import duckdb

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.record.status import (
    PROBED,
    PROBED_AT,
    Scope,
    recorded_datasets,
    scope,
)

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
def _dates_sql(t: Scope) -> str:
    return f"""
probed AS MATERIALIZED (
    SELECT p.date, coalesce(f.n, 0) AS n, p.settled, p.probed_at
    FROM {t.probes} p LEFT JOIN (SELECT date, count(*) AS n FROM {t.files} GROUP BY date) f
        USING (date)),
lives AS MATERIALIZED (
    SELECT s.symbol, CASE WHEN s.whole_at IS NOT NULL THEN (SELECT min(date) FROM probed)
            ELSE (SELECT min(date) FROM probed p WHERE p.probed_at >= s.first_seen)
        END AS first_row, first_available, last_available,
        coalesce(days_available, 0) AS days_available
    FROM {t.symbols} s LEFT JOIN (
        SELECT symbol, min(date) AS first_available, max(date) AS last_available,
            count(*) AS days_available
        FROM {t.files} GROUP BY symbol) USING (symbol)),
holes AS (SELECT symbol, count(*) AS n FROM {t.holes("lives")} GROUP BY symbol),
newest AS (SELECT max(date) AS date FROM probed WHERE settled),
stops AS (
    SELECT f.symbol, f.last_available AS date
    FROM lives f LEFT JOIN {t.symbols} s USING (symbol), newest
    WHERE f.last_available < newest.date AND s.contract_type IS DISTINCT FROM 'settled'
        AND (s.contract_type IS DISTINCT FROM 'delivery' OR coalesce(try_strptime(
            regexp_extract(f.symbol, '_([0-9]{{6}})$', 1), '%y%m%d')::DATE > newest.date, true))
        AND NOT EXISTS (FROM {t.acknowledgements} a WHERE a.date > f.last_available
            AND (a.symbol IS NULL OR a.symbol = f.symbol))),
near AS (
    SELECT date, sum(coalesce(s.stopped, 0)) OVER (
            ORDER BY date ROWS BETWEEN CURRENT ROW AND ({OUTAGE_DATES} - 1) FOLLOWING) AS stopped,
        max(n) OVER (
            ORDER BY date ROWS BETWEEN ({_PUBLISHING_DATES} - 1) PRECEDING AND CURRENT ROW) AS n,
        coalesce({t.distance("date", f"lead(date, {OUTAGE_DATES}) OVER (ORDER BY date)")}
                - {OUTAGE_DATES},
            {t.distance("date", "max(date) OVER ()")} + 1 - count(*) OVER (
                ORDER BY date ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)) AS unprobed
    FROM probed LEFT JOIN (SELECT date, count(*) AS stopped FROM stops GROUP BY date) s
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
        SELECT date, 0 AS change FROM probed
        UNION ALL SELECT first_available, 1 FROM lives WHERE first_available IS NOT NULL
        UNION ALL SELECT {t.after("last_available")}, -1 FROM lives ANTI JOIN outages USING (symbol)
            WHERE last_available IS NOT NULL)
    GROUP BY date),
dates AS (
    SELECT date, settled, settled AND l.n > 0 AND l.n >= {PUBLISHED_SHARE} * e.n AS telling
    FROM probed l JOIN listed e USING (date)),
-- A symbol has ended if its last file is before this date: null while there are too few dates.
ended AS MATERIALIZED (
    SELECT CASE WHEN count(*) = {ENDED_AFTER_DATES} THEN min(date) END AS before FROM (
        SELECT date FROM dates WHERE telling ORDER BY date DESC LIMIT {ENDED_AFTER_DATES}))"""


def listings_sql(t: Scope) -> str:
    """SQL of `symbol_spans`, and `ended_before`, on which the states depend."""
    return f"""
WITH {_dates_sql(t)}
SELECT f.symbol, s.contract_type, s.base_asset, s.quote_asset, f.first_available,
    f.last_available, f.days_available, coalesce(h.n, 0)::BIGINT AS hole_days,
    CASE WHEN s.contract_type = 'settled' THEN 'settled'
         WHEN o.symbol IS NOT NULL THEN 'live'
         WHEN f.last_available < e.before
            OR f.last_available IS NULL AND f.first_row <= e.before THEN 'ended'
         ELSE 'live' END AS state, e.before AS ended_before
FROM lives f CROSS JOIN ended e LEFT JOIN {t.symbols} s USING (symbol)
LEFT JOIN outages o USING (symbol)
LEFT JOIN holes h USING (symbol)
WHERE f.first_row IS NOT NULL
ORDER BY f.symbol"""


def delisted(t: Scope) -> str:
    """SQL condition on a row of the listings: the symbol publishes no more.

    A settled contract is settled by its name; it was delisted only once published dates without it
    are confirmed, as with every other symbol.
    """
    before = f"DATE '{t.ended_before}'" if t.ended_before else "NULL"
    return f"(state = 'ended' OR state = 'settled' AND last_available < {before})"


def summary_sql(t: Scope) -> str:
    """SQL of `daily_summary`.

    A count is unknown, not zero, where the date before was never probed: what is seen first may
    have been there for long, and what ended in between ended on no date that is recorded.
    """
    return f"""
WITH filed AS (
    SELECT date, count(*) AS available, sum(file_size_bytes)::BIGINT AS bytes,
        -- Microseconds are exact in a DOUBLE; a time zone a row would cost 0.3 s.
        quantile_cont(epoch_us(last_modified), [0.5, 0.95]) AS lag
    FROM {t.files} GROUP BY date),
-- Only the last dates have not settled. Nearly all symbols are whole; those that are left out were
-- so first by one of a few probes, and all those of one probe have the same dates.
whole AS MATERIALIZED (
    SELECT count(*) AS n FROM {t.symbols} WHERE whole_at IS NOT NULL AND left_out_at IS NULL),
others AS MATERIALIZED (
    SELECT min(whole_at) AS whole_at, since AS first_seen, left_out_at, count(*) AS n
    FROM (SELECT whole_at, left_out_at, CASE WHEN whole_at IS NULL THEN first_seen END AS since
        FROM {t.symbols} WHERE whole_at IS NULL OR left_out_at IS NOT NULL)
    GROUP BY since, left_out_at),
partly AS (
    SELECT p.date, sum(s.n)::BIGINT AS n FROM {t.all_probes} p JOIN others s ON {PROBED}
    GROUP BY p.date),
waiting AS (
    SELECT p.date, count(*) AS n FROM {t.all_probes} p JOIN {t.symbols} s ON {PROBED}
    ANTI JOIN {t.files} f ON f.date = p.date AND f.symbol = s.symbol
    WHERE NOT p.settled AND {PROBED_AT} < p.settled_at GROUP BY p.date),
counted AS (
    SELECT p.date, w.n + coalesce(l.n, 0) AS symbols_probed, coalesce(f.available, 0) AS available,
        coalesce(o.n, 0) AS pending, coalesce(f.bytes, 0) AS bytes, f.lag,
        p.date <= DATE '{t.first_period}' OR coalesce(
            lag(p.date) OVER (ORDER BY p.date) = {t.after("p.date", -1)}, false) AS known
    FROM {t.probes} p CROSS JOIN whole w LEFT JOIN filed f USING (date)
    LEFT JOIN partly l USING (date) LEFT JOIN waiting o USING (date)),
begun AS (SELECT first_available AS date, count(*) AS n FROM {t.listings} GROUP BY 1),
gone AS (
    SELECT {t.after("last_available")} AS date, count(*) AS n FROM {t.listings}
    WHERE {delisted(t)} GROUP BY 1),
-- Expected: those that began by a date and are live, or not past their last file.
expected AS (
    SELECT date, sum(sum(change)) OVER (ORDER BY date) AS n FROM (
        SELECT date, 0 AS change FROM counted
        UNION ALL SELECT first_available, 1 FROM {t.listings} WHERE first_available IS NOT NULL
        UNION ALL SELECT {t.after("last_available")}, -1 FROM {t.listings}
            WHERE last_available IS NOT NULL AND state <> 'live')
    GROUP BY date)
SELECT c.date, c.symbols_probed, e.n::BIGINT AS expected, c.available,
    c.pending, c.symbols_probed - c.available - c.pending AS absent,
    CASE WHEN c.known THEN coalesce(b.n, 0) END AS new_listings,
    CASE WHEN c.known THEN coalesce(g.n, 0) END AS ended, c.bytes,
    (c.lag[1] - epoch_us({t.after("c.date")}::TIMESTAMP)) / 3.6e9 AS lag_p50_hours,
    (c.lag[2] - epoch_us({t.after("c.date")}::TIMESTAMP)) / 3.6e9 AS lag_p95_hours
FROM counted c JOIN expected e USING (date)
LEFT JOIN begun b USING (date) LEFT JOIN gone g USING (date) ORDER BY c.date"""


LEFT_OUT_AFTER_DAYS = 30
"""So long before the newest settled date the last file of a symbol lies that is left out of most
probes. Longer than the archive's longest delay yet (13 days, of 2024-04-18) and than the look-back
(20 dates): whatever comes late for an ended symbol is still seen by a probe of the next hours."""


def ended(con: duckdb.DuckDBPyConnection, dataset: Dataset) -> frozenset[str]:
    """The symbols that need not be listed by each probe: the archive has no more of them.

    Those whose end is confirmed (so none of an outage), long ago, and that were probed on all dates
    at some time. One without any file may get its first at any time.
    """
    t = scope(con, dataset)
    rows = con.execute(
        f"""SELECT symbol FROM {t.listings} JOIN {t.symbols} USING (symbol)
        WHERE {delisted(t)} AND whole_at IS NOT NULL AND last_available
            < (SELECT max(date) FROM {t.probes} WHERE settled) - {LEFT_OUT_AFTER_DAYS}"""
    ).fetchall()
    return frozenset(symbol for (symbol,) in rows)


def refresh(con: duckdb.DuckDBPyConnection, dataset: Dataset) -> None:
    """Compute both tables of a dataset again, within the transaction of what changed them."""
    before = scope(con, dataset)
    con.execute(f"CREATE OR REPLACE TEMP TABLE fresh AS {listings_sql(before)}")
    con.execute(
        "UPDATE datasets SET ended_before = (SELECT any_value(ended_before) FROM fresh) "
        "WHERE id = ?",
        [before.id],
    )
    con.execute("ALTER TABLE fresh DROP ended_before")
    _write(con, "symbol_spans", before.id)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE fresh AS "
        f"SELECT * RENAME (date AS period) FROM ({summary_sql(scope(con, dataset))})"
    )
    _write(con, "daily_summary", before.id)
    con.execute("DROP TABLE fresh")


def refresh_all(con: duckdb.DuckDBPyConnection) -> None:
    """The same for each recorded dataset, after a migration."""
    for dataset in recorded_datasets(con):
        refresh(con, dataset)


def _write(con: duckdb.DuckDBPyConnection, table: str, number: int) -> None:
    """Make a table's rows of a dataset those of `fresh`, which has them without the dataset."""
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE stale AS
        (SELECT * EXCLUDE (dataset) FROM {table} WHERE dataset = $1) EXCEPT ALL (FROM fresh)""",
        [number],
    )
    key = "symbol" if table == "symbol_spans" else "period"
    con.execute(
        f"DELETE FROM {table} WHERE dataset = $1 AND {key} IN (SELECT {key} FROM stale)",
        [number],
    )
    con.execute(
        f"""INSERT INTO {table} SELECT $1, * FROM fresh
        WHERE {key} NOT IN (SELECT {key} FROM {table} WHERE dataset = $1) ORDER BY {key}""",
        [number],
    )
    con.execute("DROP TABLE stale")


def scope_at(con: duckdb.DuckDBPyConnection, dataset: Dataset | None, at: dt.datetime) -> Scope:
    """The tables of a dataset as they were: what the record knew at that moment.

    Files as they were then, for each keeps when its version was first recorded, and its revisions
    what it was before; each date's last probe until then, and so what was pending; what follows
    from these. The settling time is today's. Before a record's migration from version 3 only its
    revisions are known, not when a file or a date was first recorded.

    They are temporary tables, which live in memory, also on a read-only connection, until the
    connection asks so again or is closed.

    Args:
        con: an open record.
        dataset: which; the default one when left out.
        at: aware.
    """
    t = scope(con, dataset)

    def kept(table: str, sql: str) -> str:
        con.execute(f"CREATE OR REPLACE TEMP TABLE as_of_{table} AS {sql}", {"at": at})
        return f"temp.as_of_{table}"

    step = "INTERVAL 1 MONTH" if t.dataset.monthly else "INTERVAL 1 DAY"
    ranges = f"main.probe_ranges WHERE dataset = {t.id} AND probed_at <= $at"
    # Each symbol was last listed over all dates by a probe that left out none, or where `left_out`
    # has an end; it is left out since the first probe after that that left symbols out.
    symbols = kept(
        "symbols",
        f"""WITH own AS (
            SELECT symbol, max(probed_at) AS listed_at FROM {ranges} AND symbol IS NOT NULL
            GROUP BY symbol),
        light AS (
            SELECT DISTINCT probed_at FROM {ranges} AND symbol IS NULL AND left_out
                AND probed_at > coalesce((SELECT max(probed_at) FROM {ranges}
                    AND symbol IS NULL AND NOT left_out), '-infinity'::TIMESTAMPTZ)),
        missed AS (
            SELECT o.symbol, min(l.probed_at) AS left_out_at
            FROM main.left_out o JOIN light l ON l.probed_at >= o.since
            WHERE o.dataset = {t.id} AND (o.until IS NULL OR o.until > $at)
            GROUP BY o.symbol)
        SELECT s.* EXCLUDE (whole_at, listed_at, left_out_at),
            CASE WHEN whole_at <= $at THEN whole_at END AS whole_at, own.listed_at,
            missed.left_out_at
        FROM {t.symbols} s LEFT JOIN own USING (symbol) LEFT JOIN missed USING (symbol)
        WHERE first_seen <= $at""",
    )
    # Beside the last probe of a date the last one before each moment since which any is left out.
    all_probes = kept(
        "probes",
        f"""WITH probed AS MATERIALIZED (
            SELECT probed_at, unnest(generate_series(first_period::TIMESTAMP,
                last_period::TIMESTAMP, {step}))::DATE AS date
            FROM {ranges} AND symbol IS NULL),
        last AS (SELECT date, max(probed_at) AS probed_at FROM probed GROUP BY date),
        earlier AS (
            SELECT date, left_out_at, max(probed_at) AS probed_at
            FROM probed JOIN (SELECT DISTINCT left_out_at FROM {symbols}) ON probed_at < left_out_at
            GROUP BY date, left_out_at),
        kept AS (
            SELECT date, probed_at, NULL::TIMESTAMPTZ AS replaced_at FROM last
            UNION ALL
            SELECT date, probed_at, max(left_out_at) FROM earlier ANTI JOIN last
                USING (date, probed_at)
            GROUP BY date, probed_at)
        SELECT date, probed_at, NULL::BIGINT AS symbols, NULL::BIGINT AS available,
            NULL::VARCHAR AS run_id, {t.settled_at("date")} AS settled_at,
            probed_at >= settled_at AS settled, replaced_at
        FROM kept""",
    )
    probes = f"(SELECT * EXCLUDE (replaced_at) FROM {all_probes} WHERE replaced_at IS NULL)"
    files = kept(
        "files",
        f"""WITH later AS (
            SELECT * FROM main.revisions WHERE dataset = {t.id} AND observed_at > $at
            QUALIFY row_number() OVER (PARTITION BY period, symbol ORDER BY observed_at) = 1)
        SELECT * FROM {t.files} f ANTI JOIN later l ON l.period = f.date AND l.symbol = f.symbol
        WHERE f.recorded_at <= $at
        UNION ALL
        SELECT period, symbol, old_size, old_last_modified, old_etag, NULL FROM later
        WHERE old_size IS NOT NULL AND period IN (SELECT date FROM {probes})""",
    )
    then = replace(
        t,
        files=files,
        probes=probes,
        all_probes=all_probes,
        symbols=symbols,
        revisions=kept("revisions", f"FROM {t.revisions} WHERE observed_at <= $at"),
        acknowledgements=kept(
            "acknowledgements", f"FROM {t.acknowledgements} WHERE acknowledged_at <= $at"
        ),
        as_of=at,
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE as_of_listings AS {listings_sql(then)}")
    [(before,)] = con.execute("SELECT any_value(ended_before) FROM temp.as_of_listings").fetchall()
    then = replace(
        then,
        listings="(SELECT * EXCLUDE (ended_before) FROM temp.as_of_listings)",
        ended_before=before,
    )
    return replace(then, summary=f"({summary_sql(then)})")
