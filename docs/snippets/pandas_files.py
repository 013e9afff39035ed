"""All files of a dataset as a pandas frame, of one publication: pandas with pyarrow.

python pandas_files.py https://example.org/register um/daily/klines/1m
"""

import json
import sys
from urllib.request import urlopen

import pandas as pd

site, dataset = sys.argv[1:]


def read(path):
    with urlopen(f"{site}/{path}", timeout=30) as answer:
        return json.load(answer)


documents = read("latest.json")["documents"]
[one] = [d for d in read(documents["datasets"])["datasets"] if d["dataset"] == dataset]
parts = read(one["documents"]["files"])["files"]
files = pd.concat(pd.read_parquet(f"{site}/{part['path']}") for part in parts)

print(files.groupby("symbol")["period"].agg(["min", "max", "count"]).head(3))
