"""The tables of earlier versions, and the statements that lead from them to today's.

Never edit what shipped. Versions 1 to 3 had a row for each symbol and date that was probed, of one
dataset; from 4 on only files have rows (`status`).
"""

from collections.abc import Sequence

_V1 = (
    "CREATE TABLE meta (key VARCHAR NOT NULL, value VARCHAR NOT NULL)",
    """CREATE TABLE daily_availability (
        date DATE NOT NULL, symbol VARCHAR NOT NULL, available BOOLEAN NOT NULL,
        file_size_bytes BIGINT, last_modified TIMESTAMPTZ, probe_timestamp TIMESTAMPTZ NOT NULL)""",
    """CREATE TABLE symbols (
        symbol VARCHAR NOT NULL, contract_type VARCHAR NOT NULL, base_asset VARCHAR,
        quote_asset VARCHAR, first_seen TIMESTAMPTZ NOT NULL, last_seen TIMESTAMPTZ NOT NULL)""",
    """CREATE TABLE probes (
        date DATE NOT NULL, probed_at TIMESTAMPTZ NOT NULL, symbols BIGINT NOT NULL,
        available BIGINT NOT NULL, run_id VARCHAR NOT NULL)""",
    """CREATE TABLE revisions (
        date DATE NOT NULL, symbol VARCHAR NOT NULL, observed_at TIMESTAMPTZ NOT NULL,
        change VARCHAR NOT NULL, old_size BIGINT, new_size BIGINT,
        old_last_modified TIMESTAMPTZ, new_last_modified TIMESTAMPTZ, run_id VARCHAR NOT NULL)""",
    """CREATE TABLE symbol_listings (
        symbol VARCHAR NOT NULL, contract_type VARCHAR, base_asset VARCHAR, quote_asset VARCHAR,
        first_available DATE, last_available DATE, days_available BIGINT, hole_days BIGINT,
        state VARCHAR)""",
    """CREATE TABLE daily_summary (
        date DATE NOT NULL, symbols_probed BIGINT, expected BIGINT, available BIGINT,
        pending BIGINT, absent BIGINT, new_listings BIGINT, ended BIGINT, bytes BIGINT,
        lag_p50_hours DOUBLE, lag_p95_hours DOUBLE)""",
    """CREATE VIEW availability AS
        SELECT d.date, d.symbol, d.available, d.file_size_bytes, d.last_modified,
            d.probe_timestamp,
            CASE WHEN d.available THEN 'available'
                WHEN d.probe_timestamp < timezone('UTC', d.date::TIMESTAMP + to_days(
                    1 + (SELECT value::INTEGER FROM meta WHERE key = 'settle_days')))
                THEN 'pending' ELSE 'absent' END AS status,
            s.contract_type, s.base_asset, s.quote_asset,
            'https://data.binance.vision/data/futures/um/daily/klines/' || url_encode(d.symbol)
                || '/1m/' || url_encode(d.symbol) || '-1m-' || d.date || '.zip' AS url,
            CASE WHEN d.available THEN 200 ELSE 404 END AS status_code
        FROM daily_availability d LEFT JOIN symbols s USING (symbol)""",
)

_V2 = (
    *_V1,
    """CREATE TABLE acknowledgements (
        date DATE NOT NULL, symbol VARCHAR, reason VARCHAR NOT NULL,
        acknowledged_at TIMESTAMPTZ NOT NULL)""",
)

DDL: dict[int, tuple[str, ...]] = {1: _V1, 2: _V2, 3: _V2}
"""Earlier version -> what made its tables and view."""

_TABLES = ("daily_availability", "symbols", "probes", "revisions")
_DERIVED = ("symbol_listings", "daily_summary")

_SPARSE = (
    """INSERT INTO datasets
        SELECT 1, 'um', 'daily', 'klines', '1m',
            coalesce((SELECT value::INTEGER FROM meta WHERE key = 'settle_days'), 3),
            coalesce((SELECT value::TIMESTAMPTZ FROM meta WHERE key = 'last_probe'),
                (SELECT max(probed_at) FROM old_probes)), NULL""",
    """DELETE FROM meta
        WHERE key IN ('settle_days', 'last_probe', 'writes') OR key LIKE 'derived.%'""",
    "INSERT INTO meta VALUES ('first_dataset', '1')",
    # A symbol without a row was noted by a run that was refused, or failed, and so were times
    # later than each written probe. One with a row on each probed date was listed over all of
    # them: when it became known, where those rows are later than the dates' own probes.
    """INSERT INTO symbols
        SELECT 1, s.symbol, s.contract_type, s.base_asset, s.quote_asset,
            least(s.first_seen, r.first_probe), least(s.last_seen, newest),
            CASE WHEN r.n = probes THEN coalesce(r.listed_at, r.first_probe) END,
            CASE WHEN r.n = probes THEN r.listed_at END, NULL
        FROM old_symbols s JOIN (
            SELECT symbol, count(*) AS n, min(probe_timestamp) AS first_probe,
                max(probe_timestamp) FILTER (probe_timestamp > probed_at) AS listed_at
            FROM old_daily_availability JOIN old_probes USING (date) GROUP BY symbol) r
            USING (symbol),
            (SELECT max(probed_at) AS newest, count(*) AS probes FROM old_probes)
        ORDER BY s.symbol""",
    # What a file was when it was first recorded is not known: at the latest, by its last probe.
    """INSERT INTO files
        SELECT 1, d.date, d.symbol, d.file_size_bytes, d.last_modified, NULL,
            coalesce(r.observed_at, d.probe_timestamp)
        FROM old_daily_availability d LEFT JOIN (
            SELECT date, symbol, max(observed_at) AS observed_at FROM old_revisions
            GROUP BY date, symbol) r USING (date, symbol)
        WHERE d.available ORDER BY date_trunc('month', d.date), d.symbol, d.date""",
    """INSERT INTO probes
        SELECT 1, date, probed_at, symbols, available, run_id, NULL
        FROM old_probes ORDER BY date""",
    """INSERT INTO probe_ranges
        SELECT 1, NULL, min(date), max(date), probed_at, false FROM (
            SELECT date, probed_at,
                date - (row_number() OVER (PARTITION BY probed_at ORDER BY date))::INTEGER AS part
            FROM old_probes)
        GROUP BY probed_at, part
        UNION ALL
        SELECT 1, symbol, first, last, listed_at, false
        FROM symbols, (SELECT min(date) AS first, max(date) AS last FROM old_probes)
        WHERE listed_at IS NOT NULL
        ORDER BY probed_at""",
    """INSERT INTO revisions
        SELECT 1, date, symbol, observed_at, change, old_size, new_size, old_last_modified,
            new_last_modified, NULL, NULL, run_id
        FROM old_revisions ORDER BY observed_at, date, symbol""",
)


def steps(version: int, ddl: Sequence[str]) -> list[str]:
    """The statements that turn the tables of an earlier version into today's.

    Args:
        version: of the database.
        ddl: what makes today's tables and views.
    """
    tables = (*_TABLES, "acknowledgements") if version > 1 else _TABLES
    return [
        "DROP VIEW availability",
        *(f"DROP TABLE {table}" for table in _DERIVED),
        *(f"ALTER TABLE {table} RENAME TO old_{table}" for table in tables),
        *(text for text in ddl if not text.startswith("CREATE TABLE meta ")),
        *_SPARSE,
        *(
            ["INSERT INTO acknowledgements SELECT 1, * FROM old_acknowledgements"]
            if version > 1
            else []
        ),
        *(f"DROP TABLE old_{table}" for table in tables),
    ]
