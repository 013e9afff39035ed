"""How much a dataset grew each month, of one publication: polars.

python polars_files.py https://example.org/register um/daily/klines/1m
"""

import io
import json
import sys
from urllib.request import urlopen

import polars as pl

site, dataset = sys.argv[1:]


def read(path):
    with urlopen(f"{site}/{path}", timeout=30) as answer:
        return answer.read()


documents = json.loads(read("latest.json"))["documents"]
[one] = [d for d in json.loads(read(documents["datasets"]))["datasets"] if d["dataset"] == dataset]
parts = json.loads(read(one["documents"]["files"]))["files"]
files = pl.concat(pl.read_parquet(io.BytesIO(read(part["path"]))) for part in parts)

print(
    files.group_by(pl.col("period").dt.truncate("1mo").alias("month"))
    .agg(pl.len().alias("files"), pl.col("file_size_bytes").sum().alias("bytes"))
    .sort("month")
    .tail(3)
)
