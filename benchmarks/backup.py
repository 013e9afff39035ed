"""Keeping and handing on: what backups, restores and exports cost, and how long a writer waits.

    python -m benchmarks.backup

The record is made up (`synthetic`) and has all history of 1,000 symbols. The wait is that of a
second process that opens the database for writing over and over: its longest pause while nothing
else happens is printed beside it.
"""

import argparse
import datetime as dt
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from availability_pipeline.copies import backup, destinations, export, restore
from availability_pipeline.orchestration.assets import PUBLISHED
from availability_pipeline.record import write
from availability_pipeline.record.connection import writer
from benchmarks import synthetic
from benchmarks.common import Row, parser, show, timed
from benchmarks.store import fill, probed_at

_KNOCK = """
import select, sys, time, duckdb
longest, last = 0.0, time.perf_counter()
print("knocking", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        duckdb.connect(sys.argv[1]).close()
    except duckdb.IOException:
        time.sleep(0.002)
        continue
    now = time.perf_counter()
    longest, last = max(longest, now - last), now
print(longest)
"""


def longest_wait(database: Path, work: Callable[[], object]) -> float:
    """The longest time for which a writer in another process did not get the database."""
    with subprocess.Popen(
        [sys.executable, "-c", _KNOCK, str(database)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.2)
        work()
        time.sleep(0.2)
        process.stdin.close()
        return float(process.stdout.read())


def main() -> None:
    """Measure and print."""
    options: argparse.Namespace = parser(__doc__ or "").parse_args()
    symbols = options.symbols or (30 if options.quick else 1000)
    repeats = options.repeat or (1 if options.quick else 3)
    archive = synthetic.build(symbols)
    now = probed_at(archive.until)
    keep = backup.Keep()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        record, backups = folder / "record.duckdb", folder / "backups"
        rows = fill(record, archive)
        size = record.stat().st_size
        result = [Row("the record", f"{rows:,} rows, {size / 1e6:.1f} MB")]

        def make() -> backup.Made:
            return backup.make(record, backups, now=now, keep=keep)

        made = timed(make, repeats)
        result.append(Row("backup, verified and flushed", str(made), "", "< 5 s", made.wall < 5))
        [path] = backup.backups(backups)[:1]
        verified = timed(lambda: backup.verify(path), repeats)
        result.append(Row("backup --verify", str(verified), "", "< 5 s", verified.wall < 5))

        def put_back() -> None:
            restore.put_back(path, backup.verify(path), record, now=now)

        restored = timed(put_back, repeats)
        result.append(
            Row("restore, including verification", str(restored), "", "< 5 s", restored.wall < 5)
        )

        one = destinations.Folder(folder / "one")
        whole = timed(lambda: export.export(record, one, export.Form(), now=now))
        bytes_ = sum(f.bytes for f in _manifest(one).files)
        result.append(Row("export, one file", f"{whole}, {bytes_ / 1e6:.1f} MB"))
        csv = destinations.Folder(folder / "csv")
        text = timed(lambda: export.export(record, csv, export.Form("csv"), now=now))
        bytes_ = sum(f.bytes for f in _manifest(csv).files)
        result.append(Row("export, CSV", f"{text}, {bytes_ / 1e6:.0f} MB"))

        months = destinations.Folder(folder / "months")

        def publish() -> export.Exported:
            return export.export(record, months, PUBLISHED, now=now)

        first = timed(publish)
        files = _manifest(months).files
        result.append(
            Row("publish, the first time", f"{first}", f"{len(files)} files, all tables by month")
        )
        start = archive.until - dt.timedelta(19)
        with writer(record) as con:
            late = archive.listing(start, archive.until)
            write.write_probe(con, late, probed_at=now + dt.timedelta(hours=6), run_id="late")
        done: list[export.Exported] = []
        update = timed(lambda: done.append(publish()))
        result.append(
            Row(
                "publish, after a probe of 20 days",
                str(update),
                f"{len(done[0].written)} of {len(files)} files written",
                "< 5 s",
                update.wall < 5,
            )
        )
        idle = longest_wait(record, lambda: time.sleep(0.5))
        for what, work in (("backup", make), ("publish", publish)):
            wait = longest_wait(record, work)
            result.append(
                Row(
                    f"longest wait of a writer, {what}",
                    f"{wait:.2f} s",
                    f"{idle:.2f} s with nothing else",
                    "< 0.5 s",
                    wait < 0.5,
                )
            )
    show("Backups and exports", result, quick=options.quick)


def _manifest(to: destinations.Destination) -> export.Manifest:
    found, _ = export.read_manifest(to)
    assert found
    return found


if __name__ == "__main__":
    main()
