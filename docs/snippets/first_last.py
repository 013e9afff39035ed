"""When a symbol's files begin and end, so that a downloader need not guess: Python alone.

    python first_last.py https://example.org/register um/daily/klines/1m SOLUSDT

`None` is a symbol that has no file yet, as far as was probed (`last_probe`).
"""

import json
import sys
from urllib.request import urlopen

site, dataset, symbol = sys.argv[1:]


def read(path):
    with urlopen(f"{site}/{path}", timeout=30) as answer:
        return json.load(answer)


# From latest.json on, everything is of one publication.
documents = read("latest.json")["documents"]
of = {one["dataset"]: one for one in read(documents["datasets"])["datasets"]}
if dataset not in of:
    sys.exit(f"{dataset} is not recorded there; {', '.join(of)} are")
symbols = read(of[dataset]["documents"]["symbols"])["symbols"]
if symbol not in symbols:
    sys.exit(f"{symbol} is not recorded in {dataset}")
print(symbols[symbol]["first"], symbols[symbol]["last"])
