#!/bin/sh
# The files themselves, each verified by its MD5: a copy of the record, and aria2.
#   sh aria2.sh https://example.org/register um/daily/klines/1m SOLUSDT 2024-01-01 2024-03-31
set -eu
site=$1 dataset=$2 symbol=$3 start=$4 end=$5
binance-availability follow "$site" --to record.duckdb
binance-availability files plan --db record.duckdb --dataset "$dataset" --symbols "$symbol" \
  --start "$start" --end "$end" --format aria2 > files.txt
aria2c --quiet --input-file=files.txt --max-concurrent-downloads=16 --auto-file-renaming=false
