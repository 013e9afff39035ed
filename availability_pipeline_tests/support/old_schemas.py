"""Databases of every schema version so far, from the statements that made them then.

Frozen: copied from `schema.DDL` when that version was current, never edited. A version that is
not here cannot be tested, so test_migrations.py asks for each. A file would be opaque, and would
tie the tests to one DuckDB storage version.
"""

import duckdb

V1 = """
CREATE TABLE meta (key VARCHAR NOT NULL, value VARCHAR NOT NULL);
CREATE TABLE daily_availability (
    date DATE NOT NULL, symbol VARCHAR NOT NULL, available BOOLEAN NOT NULL,
    file_size_bytes BIGINT, last_modified TIMESTAMPTZ, probe_timestamp TIMESTAMPTZ NOT NULL);
CREATE TABLE symbols (
    symbol VARCHAR NOT NULL, contract_type VARCHAR NOT NULL, base_asset VARCHAR,
    quote_asset VARCHAR, first_seen TIMESTAMPTZ NOT NULL, last_seen TIMESTAMPTZ NOT NULL);
CREATE TABLE probes (
    date DATE NOT NULL, probed_at TIMESTAMPTZ NOT NULL, symbols BIGINT NOT NULL,
    available BIGINT NOT NULL, run_id VARCHAR NOT NULL);
CREATE TABLE revisions (
    date DATE NOT NULL, symbol VARCHAR NOT NULL, observed_at TIMESTAMPTZ NOT NULL,
    change VARCHAR NOT NULL, old_size BIGINT, new_size BIGINT,
    old_last_modified TIMESTAMPTZ, new_last_modified TIMESTAMPTZ, run_id VARCHAR NOT NULL);
CREATE TABLE symbol_listings (
    symbol VARCHAR NOT NULL, contract_type VARCHAR, base_asset VARCHAR, quote_asset VARCHAR,
    first_available DATE, last_available DATE, days_available BIGINT, hole_days BIGINT,
    state VARCHAR);
CREATE TABLE daily_summary (
    date DATE NOT NULL, symbols_probed BIGINT, expected BIGINT, available BIGINT,
    pending BIGINT, absent BIGINT, new_listings BIGINT, ended BIGINT, bytes BIGINT,
    lag_p50_hours DOUBLE, lag_p95_hours DOUBLE);
CREATE VIEW availability AS
    SELECT d.date, d.symbol, d.available, d.file_size_bytes, d.last_modified,
        d.probe_timestamp,
        CASE WHEN d.available THEN 'available'
             WHEN d.probe_timestamp < timezone('UTC', d.date::TIMESTAMP + to_days(
                 1 + (SELECT value::INTEGER FROM meta WHERE key = 'settle_days'))) THEN 'pending'
             ELSE 'absent' END AS status,
        s.contract_type, s.base_asset, s.quote_asset,
        'https://data.binance.vision/data/futures/um/daily/klines/' || url_encode(d.symbol)
            || '/1m/' || url_encode(d.symbol) || '-1m-' || d.date || '.zip' AS url,
        CASE WHEN d.available THEN 200 ELSE 404 END AS status_code
    FROM daily_availability d LEFT JOIN symbols s USING (symbol);
INSERT INTO meta VALUES ('schema_version', '1'), ('settle_days', '3'), ('writes', '2');
INSERT INTO symbols VALUES
    ('AUSDT', 'perpetual', 'A', 'USDT', '2024-03-01 02:00:00+00', '2024-03-01 03:00:00+00'),
    ('龙虾USDT', 'perpetual', '龙虾', 'USDT', '2024-03-01 02:00:00+00', '2024-03-01 03:00:00+00');
INSERT INTO daily_availability
    SELECT '2024-01-01'::DATE + i::INTEGER, symbol, i < 9 OR symbol = 'AUSDT',
        CASE WHEN i < 9 OR symbol = 'AUSDT' THEN 100 + i END,
        CASE WHEN i < 9 OR symbol = 'AUSDT'
             THEN '2024-01-02 08:00:00+00'::TIMESTAMPTZ + to_days(i::INTEGER) END,
        '2024-03-01 03:00:00+00'
    FROM range(10) AS r(i) CROSS JOIN symbols ORDER BY ALL;
INSERT INTO probes SELECT date, '2024-03-01 03:00:00+00', count(*), count(*) FILTER (available), 'r'
    FROM daily_availability GROUP BY date ORDER BY date;
INSERT INTO revisions VALUES ('2024-01-03', 'AUSDT', '2024-03-01 03:00:00+00', 'replaced', 99, 102,
    '2024-01-04 07:00:00+00', '2024-01-04 08:00:00+00', 'r');
"""

V2 = """
CREATE TABLE acknowledgements (
    date DATE NOT NULL, symbol VARCHAR, reason VARCHAR NOT NULL,
    acknowledged_at TIMESTAMPTZ NOT NULL);
UPDATE meta SET value = '2' WHERE key = 'schema_version';
INSERT INTO acknowledgements VALUES
    ('2024-01-10', '龙虾USDT', 'never published', '2024-03-02 10:00:00+00');
"""

V3 = """
DELETE FROM meta WHERE key = 'writes';
UPDATE meta SET value = '3' WHERE key = 'schema_version';
INSERT INTO meta VALUES ('derived.ended_before', '2024-01-08');
INSERT INTO symbol_listings
    SELECT symbol, 'perpetual', base_asset, 'USDT', '2024-01-01',
        CASE base_asset WHEN 'A' THEN '2024-01-10' ELSE '2024-01-09' END::DATE,
        CASE base_asset WHEN 'A' THEN 10 ELSE 9 END, 0, 'live' FROM symbols;
INSERT INTO daily_summary
    SELECT date, symbols, 2, available, 0, symbols - available, NULL, NULL, 200, 8, 8 FROM probes;
"""

V4 = """
CREATE TABLE meta (
    key VARCHAR NOT NULL, value VARCHAR NOT NULL);
CREATE TABLE datasets (
    id SMALLINT NOT NULL, market VARCHAR NOT NULL, frequency VARCHAR NOT NULL,
    data_type VARCHAR NOT NULL, interval VARCHAR, settle_days INTEGER NOT NULL,
    last_probe TIMESTAMPTZ, ended_before DATE);
CREATE TABLE symbols (
    dataset SMALLINT NOT NULL, symbol VARCHAR NOT NULL, contract_type VARCHAR NOT NULL,
    base_asset VARCHAR, quote_asset VARCHAR, first_seen TIMESTAMPTZ NOT NULL,
    last_seen TIMESTAMPTZ NOT NULL, whole_at TIMESTAMPTZ, listed_at TIMESTAMPTZ,
    left_out_at TIMESTAMPTZ);
CREATE TABLE files (
    dataset SMALLINT NOT NULL, period DATE NOT NULL, symbol VARCHAR NOT NULL,
    file_size_bytes BIGINT NOT NULL, last_modified TIMESTAMPTZ NOT NULL, etag UUID,
    recorded_at TIMESTAMPTZ NOT NULL);
CREATE TABLE probes (
    dataset SMALLINT NOT NULL, period DATE NOT NULL, probed_at TIMESTAMPTZ NOT NULL,
    symbols BIGINT NOT NULL, files BIGINT NOT NULL, run_id VARCHAR NOT NULL,
    replaced_at TIMESTAMPTZ);
CREATE TABLE probe_ranges (
    dataset SMALLINT NOT NULL, symbol VARCHAR, first_period DATE NOT NULL,
    last_period DATE NOT NULL, probed_at TIMESTAMPTZ NOT NULL, left_out BOOLEAN NOT NULL);
CREATE TABLE left_out (
    dataset SMALLINT NOT NULL, symbol VARCHAR NOT NULL, since TIMESTAMPTZ NOT NULL,
    until TIMESTAMPTZ);
CREATE TABLE revisions (
    dataset SMALLINT NOT NULL, period DATE NOT NULL, symbol VARCHAR NOT NULL,
    observed_at TIMESTAMPTZ NOT NULL, change VARCHAR NOT NULL, old_size BIGINT,
    new_size BIGINT, old_last_modified TIMESTAMPTZ, new_last_modified TIMESTAMPTZ,
    old_etag UUID, new_etag UUID, run_id VARCHAR NOT NULL);
CREATE TABLE symbol_spans (
    dataset SMALLINT NOT NULL, symbol VARCHAR NOT NULL, contract_type VARCHAR,
    base_asset VARCHAR, quote_asset VARCHAR, first_available DATE, last_available DATE,
    days_available BIGINT, hole_days BIGINT, state VARCHAR);
CREATE TABLE daily_summary (
    dataset SMALLINT NOT NULL, period DATE NOT NULL, symbols_probed BIGINT, expected BIGINT,
    available BIGINT, pending BIGINT, absent BIGINT, new_listings BIGINT, ended BIGINT,
    bytes BIGINT, lag_p50_hours DOUBLE, lag_p95_hours DOUBLE);
CREATE TABLE acknowledgements (
    dataset SMALLINT NOT NULL, period DATE NOT NULL, symbol VARCHAR, reason VARCHAR NOT NULL,
    acknowledged_at TIMESTAMPTZ NOT NULL);
CREATE VIEW availability AS
        SELECT concat_ws('/', t.market, t.frequency, t.data_type, t.interval) AS dataset,
            p.period, s.symbol, CASE WHEN f.symbol IS NOT NULL THEN 'available'
        WHEN greatest(p.probed_at, s.listed_at) < timezone('UTC', CASE t.frequency WHEN
            'monthly' THEN p.period::TIMESTAMP
        + INTERVAL 1 MONTH ELSE p.period::TIMESTAMP + INTERVAL 1 DAY END +
            to_days(t.settle_days)) THEN 'pending' ELSE 'absent' END AS status,
            f.file_size_bytes,
            f.last_modified, replace(f.etag::VARCHAR, '-', '') AS etag,
            s.contract_type, s.base_asset, s.quote_asset, 'https://data.binance.vision/data/'
            || CASE t.market WHEN 'spot' THEN 'spot' WHEN 'um' THEN 'futures/um' WHEN 'cm' THEN
            'futures/cm' WHEN 'option' THEN 'option' END || '/' || t.frequency || '/' ||
            t.data_type || '/' || url_encode(s.symbol) || coalesce('/' || t.interval, '') ||
            '/' || url_encode(s.symbol) || '-' || coalesce(t.interval, t.data_type) || '-' ||
            left(p.period::VARCHAR, CASE t.frequency WHEN 'monthly' THEN 7 ELSE 10 END) ||
            '.zip' AS url
        FROM probes p JOIN datasets t ON t.id = p.dataset
    JOIN symbols s ON s.dataset = p.dataset AND ((s.whole_at IS NOT NULL OR p.probed_at >=
            s.first_seen)
    AND CASE WHEN s.left_out_at IS NULL THEN p.replaced_at IS NULL
        ELSE p.probed_at < s.left_out_at
            AND coalesce(p.replaced_at >= s.left_out_at, true) END)
    LEFT JOIN files f
      ON f.dataset = p.dataset AND f.period = p.period AND f.symbol = s.symbol;
CREATE VIEW daily_availability AS
        SELECT p.period AS date, s.symbol, f.symbol IS NOT NULL AS available, f.file_size_bytes,
            f.last_modified, greatest(p.probed_at, s.listed_at) AS probe_timestamp, CASE WHEN
            f.symbol IS NOT NULL THEN 'available'
        WHEN greatest(p.probed_at, s.listed_at) < timezone('UTC', CASE t.frequency WHEN
            'monthly' THEN p.period::TIMESTAMP
        + INTERVAL 1 MONTH ELSE p.period::TIMESTAMP + INTERVAL 1 DAY END +
            to_days(t.settle_days)) THEN 'pending' ELSE 'absent' END AS status,
            s.contract_type, s.base_asset, s.quote_asset, 'https://data.binance.vision/data/'
            || CASE t.market WHEN 'spot' THEN 'spot' WHEN 'um' THEN 'futures/um' WHEN 'cm' THEN
            'futures/cm' WHEN 'option' THEN 'option' END || '/' || t.frequency || '/' ||
            t.data_type || '/' || url_encode(s.symbol) || coalesce('/' || t.interval, '') ||
            '/' || url_encode(s.symbol) || '-' || coalesce(t.interval, t.data_type) || '-' ||
            left(p.period::VARCHAR, CASE t.frequency WHEN 'monthly' THEN 7 ELSE 10 END) ||
            '.zip' AS url,
            CASE WHEN f.symbol IS NOT NULL THEN 200 ELSE 404 END AS status_code
        FROM probes p JOIN datasets t ON t.id = p.dataset
    JOIN symbols s ON s.dataset = p.dataset AND ((s.whole_at IS NOT NULL OR p.probed_at >=
            s.first_seen)
    AND CASE WHEN s.left_out_at IS NULL THEN p.replaced_at IS NULL
        ELSE p.probed_at < s.left_out_at
            AND coalesce(p.replaced_at >= s.left_out_at, true) END)
    LEFT JOIN files f
      ON f.dataset = p.dataset AND f.period = p.period AND f.symbol = s.symbol
        WHERE p.dataset = (SELECT value::SMALLINT FROM meta WHERE key = 'first_dataset');
INSERT INTO meta VALUES ('schema_version', '4'), ('first_dataset', '1');
INSERT INTO datasets VALUES
    (1, 'um', 'daily', 'klines', '1m', 3, '2024-03-01 03:00:00+00', '2024-01-08');
INSERT INTO symbols VALUES
    (1, 'AUSDT', 'perpetual', 'A', 'USDT', '2024-03-01 02:00:00+00', '2024-03-01 03:00:00+00',
     '2024-03-01 03:00:00+00', NULL, NULL),
    (1, '龙虾USDT', 'perpetual', '龙虾', 'USDT', '2024-03-01 02:00:00+00',
     '2024-03-01 03:00:00+00', '2024-03-01 03:00:00+00', NULL, NULL);
INSERT INTO files
    SELECT 1, '2024-01-01'::DATE + i::INTEGER, symbol, 100 + i,
        '2024-01-02 08:00:00+00'::TIMESTAMPTZ + to_days(i::INTEGER), NULL, '2024-03-01 03:00:00+00'
    FROM range(10) AS r(i) CROSS JOIN symbols WHERE i < 9 OR symbol = 'AUSDT' ORDER BY ALL;
INSERT INTO probes SELECT 1, period, '2024-03-01 03:00:00+00', 2, count(*), 'r', NULL
    FROM files GROUP BY period ORDER BY period;
INSERT INTO probe_ranges VALUES (1, NULL, '2024-01-01', '2024-01-10', '2024-03-01 03:00:00+00',
    false);
INSERT INTO revisions VALUES (1, '2024-01-03', 'AUSDT', '2024-03-01 03:00:00+00', 'replaced', 99,
    102, '2024-01-04 07:00:00+00', '2024-01-04 08:00:00+00', NULL, NULL, 'r');
INSERT INTO symbol_spans
    SELECT 1, symbol, 'perpetual', base_asset, 'USDT', '2024-01-01',
        CASE base_asset WHEN 'A' THEN '2024-01-10' ELSE '2024-01-09' END::DATE,
        CASE base_asset WHEN 'A' THEN 10 ELSE 9 END, 0, 'live' FROM symbols;
INSERT INTO daily_summary
    SELECT 1, period, 2, 2, files, 0, 2 - files, NULL, NULL, 200, 8, 8 FROM probes;
INSERT INTO acknowledgements VALUES
    (1, '2024-01-10', '龙虾USDT', 'never published', '2024-03-02 10:00:00+00');
"""

VERSIONS = {1: (V1,), 2: (V1, V2), 3: (V1, V2, V3), 4: (V4,)}
"""version -> what makes a database of it, in order; each has ten dates and two symbols."""


def build(path: str, version: int, storage_version: str | None = None) -> None:
    """Make a database file of an earlier version, with rows in it.

    Its file format is DuckDB's newest, as ours was before `STORAGE_VERSION`, or the one named.
    """
    config = {"storage_compatibility_version": storage_version} if storage_version else {}
    with duckdb.connect(path, config=config) as con:
        con.execute("SET TimeZone = 'UTC'")
        for statements in VERSIONS[version]:
            con.execute(statements)
