#!/bin/sh
# First and last file, files and holes of one symbol, and its holes: curl and jq.
#   sh symbol.sh https://example.org/register um/daily/klines/1m SOLUSDT
set -eu
site=$1 dataset=$2 symbol=$3
curl -fsS "$site/$dataset/symbols.json" |
  jq -c --arg symbol "$symbol" '.symbols[$symbol] | {first, last, files, holes, state}'
curl -fsS "$site/$dataset/holes.json" |
  jq -r --arg symbol "$symbol" '.holes[] | select(.symbol == $symbol) | "\(.first) \(.last)"'
