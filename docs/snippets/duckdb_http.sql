-- The largest symbols of a dataset, read over HTTP: DuckDB 1.5 or later with its extension httpfs.
--   duckdb -cmd "SET VARIABLE site = 'https://example.org/register'" \
--          -cmd "SET VARIABLE dataset = 'um/daily/klines/1m'" < duckdb_http.sql
LOAD httpfs;
SET VARIABLE files = (
    SELECT list_transform(files, lambda file: getvariable('site') || '/' || file.path)
    FROM read_json(getvariable('site') || '/' || getvariable('dataset') || '/files.json'));
SELECT symbol, count(*) AS files, sum(file_size_bytes)::BIGINT AS bytes
FROM read_parquet(getvariable('files'))
GROUP BY symbol ORDER BY bytes DESC, symbol LIMIT 3;
