"""What a fault costs: processes killed anywhere, full disks, files that may not be written.

    python -m benchmarks.faults              # 100 kills in the store, 6 through Dagster
    python -m benchmarks.faults --quick      # a few of each

A child process writes looks without end, each whole range or one date, and says before each step
what it is about to do; it is killed (SIGKILL) after a random time. Then the file is opened anew,
first for reading, and everything it holds is compared with what each look must have left: rows,
probes, revisions, derived tables. A look that the child had reported as written must be there.
The full disk is a small tmpfs where we may mount one (root), else a limit on the size of files.
"""

import datetime as dt
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd

from availability_pipeline.archive.listing import Listing
from availability_pipeline.errors import FullDiskError, StoreBusyError, StoreError
from availability_pipeline.record import derived
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.record.status import scope
from benchmarks import archive_server, synthetic
from benchmarks.common import TORN, Row, parser, show

ROOT = Path(__file__).parents[1]
START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
FIRST, LAST = dt.date(2025, 1, 1), dt.date(2026, 2, 1)
SYMBOLS = 100
NOBODY = 65534


def range_of(look: int) -> tuple[dt.date, dt.date]:
    """Whole range and last date by turns, so that both kinds of write are met."""
    return (FIRST, LAST) if look % 2 == 0 else (LAST, LAST)


@cache
def _files() -> tuple[tuple[str, ...], pd.DataFrame]:
    names = tuple(f"{chr(65 + n // 26)}{chr(65 + n % 26)}XUSDT" for n in range(SYMBOLS))
    dates = pd.date_range(FIRST, LAST, unit="us")
    frame = pd.DataFrame(
        {
            "symbol": pd.Categorical.from_codes(
                np.tile(np.arange(SYMBOLS), len(dates)), categories=pd.Index(names)
            ),
            "date": np.repeat(dates.to_numpy(), SYMBOLS),
            "file_size_bytes": np.arange(SYMBOLS * len(dates)) + 1000,
        }
    )
    frame["last_modified"] = pd.Timestamp(START - dt.timedelta(9)).as_unit("us")
    return names, frame


def listing_of(look: int) -> Listing:
    """Look number `look`: every 50th file, another set each time, has a size of that look."""
    first, last = range_of(look)
    names, frame = _files()
    frame = frame[frame.date.between(pd.Timestamp(first), pd.Timestamp(last))].copy()
    # The sizes of a look follow from its number alone, whatever was written before.
    changed = (frame.index.to_numpy() + look) % 50 == 0
    frame["file_size_bytes"] += np.where(changed, look + 1, 0)
    frame["etag_high"] = np.uint64(0)
    frame["etag_low"] = frame["file_size_bytes"].astype("uint64")
    return Listing(first, last, names, frame.reset_index(drop=True), 1)


def time_of(look: int) -> dt.datetime:
    """When it was."""
    return START + dt.timedelta(minutes=look)


def write(path: Path, look: int, say: Callable[[str], None] = lambda _: None) -> None:
    """One run's write."""
    listing = listing_of(look)
    say("open")
    with writer(path, 20) as con:
        say("write")
        store.write_probe(con, listing, probed_at=time_of(look), run_id=str(look))
        say(f"close {look}")


def _child(path: Path, look: int, pipe: Connection) -> None:
    _files()
    pipe.send("ready")
    while True:
        write(path, look, pipe.send)
        look += 1


def sizes_after(look: int) -> npt.NDArray[np.int64]:
    """Each file's size once look number `look` is written, by date and symbol."""
    index = np.arange(SYMBOLS * ((LAST - FIRST).days + 1))

    def of(n: int) -> npt.NDArray[np.int64]:
        return index + 1000 + np.where((index + n) % 50 == 0, n + 1, 0)

    sizes = of(look - look % 2)
    if look % 2:  # only the last date is of this look
        sizes[-SYMBOLS:] = of(look)[-SYMBOLS:]
    return sizes


@cache
def revisions_after(look: int) -> dict[str, int]:
    """How many revisions each look so far has made."""
    counts = {str(n): int((sizes_after(n) != sizes_after(n - 1)).sum()) for n in range(1, look + 1)}
    return {run: count for run, count in counts.items() if count}


def inspect(path: Path) -> int:
    """The last look the database holds; AssertionError when it holds anything but whole looks."""
    with reader(path, 20) as con:
        [(last,)] = con.execute("SELECT max(run_id::INTEGER) FROM probes").fetchall()
        got = con.execute(
            "SELECT file_size_bytes FROM daily_availability WHERE available ORDER BY date, symbol"
        ).fetchnumpy()["file_size_bytes"]
        assert np.array_equal(got, sizes_after(last)), "rows are not those of one look"
        torn = con.execute(
            f"""{TORN} UNION ALL SELECT p.period FROM probes p JOIN (
                SELECT period, count(*) AS n, max(recorded_at) AS recorded_at FROM files
                GROUP BY period) f USING (period)
            WHERE p.files <> f.n OR f.recorded_at > p.probed_at"""
        ).fetchall()
        assert not torn, f"torn: {torn[:3]}"
        looks = con.execute("SELECT DISTINCT period = $1, run_id FROM probes", [LAST]).fetchall()
        assert sorted(looks) == [(False, str(last - last % 2)), (True, str(last))], looks
        revisions = con.execute("SELECT run_id, count(*) FROM revisions GROUP BY 1").fetchall()
        assert dict(revisions) == revisions_after(last), f"revisions are {revisions}"
        t = scope(con)
        listings = f"SELECT * EXCLUDE (ended_before) FROM ({derived.listings_sql(t)})"
        for table, sql in ((t.listings, listings), (t.summary, derived.summary_sql(t))):
            stale = con.execute(
                f"((FROM {table}) EXCEPT ({sql})) UNION ALL (({sql}) EXCEPT (FROM {table}))"
            ).fetchall()
            assert not stale, f"{table} is not what the rows say"
    return int(last)


@dataclass
class Found:
    """One line of the fault table."""

    fault: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    how: Counter[str] = field(default_factory=Counter)
    note: str = ""


def kill_in_the_store(folder: Path, kills: int, seed: int = 1) -> Found:
    """SIGKILL at random times of endless writing."""
    found = Found("kill -9 in the store's writes")
    rnd = random.Random(seed)
    path = folder / "killed.duckdb"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    write(path, 0)
    last = 0
    for _ in range(kills):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(path, last + 1, there))
        process.start()
        there.close()
        assert here.recv() == "ready"
        time.sleep(rnd.uniform(0, 1.5))
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        said = ["nothing"]
        with suppress(EOFError):
            while True:
                said.append(here.recv())
        here.close()
        written = [int(words.split()[1]) for words in said if words.startswith("close")]
        found.tried += 1
        found.how[said[-1].split()[0]] += 1
        if found.tried % 10 == 0:
            print(f"{found.tried} kills, {found.how}", file=sys.stderr, flush=True)
        try:
            now = inspect(path)
            assert now >= max([last, *written]), "a look that was reported as written is gone"
            write(path, now + 1)  # the next run
            last = inspect(path)
            assert last == now + 1
        except (AssertionError, StoreError, duckdb.Error) as error:
            found.lost.append(f"{type(error).__name__}: {error}"[:300])
            print(found.lost[-1], file=sys.stderr, flush=True)
            path.unlink()
            write(path, 0)
            last = 0
    return found


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A tmpfs of 24 MB, or None where we may not mount one."""
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    mount = shutil.which("mount") and sys.platform == "linux" and os.geteuid() == 0
    if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill_disk(disk: Path | None, folder: Path, free_kb: list[int]) -> Found:
    """A disk that gets full during a write, its WAL, its checkpoint or the file's growth."""
    found = Found("full disk" if disk else "file size limit (no tmpfs: not root)")
    path = (disk or folder) / "full.duckdb"
    for free in free_kb:
        for look in (1, 2):  # one date, and the whole range
            for file in path.parent.glob("full*"):
                file.unlink()
            for before in range(look):
                write(path, before)
            found.tried += 1
            outcome = _write_limited(disk, path, look, free * 1024)
            found.how[outcome] += 1
            try:
                assert outcome in ("refused in one line", "written"), outcome
                now = inspect(path)
                assert now in (look - 1, look)
                write(path, now + 1)
                assert inspect(path) == now + 1
            except (AssertionError, StoreError, duckdb.Error) as error:
                found.lost.append(f"{free} kB, look {look}: {type(error).__name__}: {error}"[:300])
    return found


def _write_limited(disk: Path | None, path: Path, look: int, free: int) -> str:
    filler = path.parent / "full.filler"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if disk:
        stat = os.statvfs(disk)
        filler.write_bytes(b"\0" * max(0, stat.f_bavail * stat.f_frsize - free))
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        write(path, look)
    except FullDiskError as error:
        return "refused in one line" if "\n" not in str(error) else f"long: {error}"
    except (StoreError, duckdb.Error) as error:
        return f"{type(error).__name__}: {error}"[:200]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        filler.unlink(missing_ok=True)
    return "written"


def _without_rights(path: Path, pipe: Connection) -> None:
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    said = []
    for opened in (reader, writer):
        try:
            with opened(path, 1) as con:
                con.execute("SELECT count(*) FROM files").fetchall()
            said.append("fine")
        except StoreError as error:
            said.append(f"{type(error).__name__}: {error}")
    pipe.send(said)


def read_only(folder: Path) -> Found:
    """A file, and a folder, that may be read but not written: readers work, writers say so."""
    found = Found("read-only file, read-only folder")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    for name, modes in (("file", (0o444, 0o777)), ("folder", (0o444, 0o555))):
        place = folder / f"read-only-{name}"
        place.mkdir()
        path = place / "record.duckdb"
        write(path, 0)
        path.chmod(modes[0])
        place.chmod(modes[1])
        for parent in (folder, *folder.parents):
            if parent.owner() == folder.owner() and parent.is_relative_to(tempfile.gettempdir()):
                parent.chmod(parent.stat().st_mode | 0o055)
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_without_rights, args=(path, there))
        process.start()
        read, written = here.recv()
        process.join()
        place.chmod(0o755)
        path.chmod(0o644)
        found.tried += 1
        found.how["refused in one line"] += written.startswith("UnwritableDatabaseError")
        if read != "fine" or not written.startswith("UnwritableDatabaseError") or "\n" in written:
            found.lost.append(f"{name}: reader {read}, writer {written}")
        elif inspect(path) != 0:
            found.lost.append(f"{name}: changed")
    return found


def _hold(path: Path, pipe: Connection) -> None:
    with duckdb.connect(str(path)):
        pipe.send("held")
        time.sleep(60)


def stranger(folder: Path, times: int) -> Found:
    """A foreign process keeps the file open for longer than the wait."""
    found = Found("locked by a stranger for longer than the wait")
    path = folder / "held.duckdb"
    write(path, 0)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    for _ in range(times):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_hold, args=(path, there))
        process.start()
        here.recv()
        for opened in (reader, writer):
            found.tried += 1
            try:
                with opened(path, 0.5):
                    found.lost.append("opened a file that another process writes")
            except StoreBusyError as error:
                found.how["refused in one line"] += "\n" not in str(error)
        process.kill()
        process.join()
        if inspect(path) != 0:
            found.lost.append("changed")
    return found


def kill_through_dagster(folder: Path, kills: int, seed: int = 2) -> Found:
    """SIGKILL of the whole `backfill` command at random times; then `update manual`."""
    found = Found("kill -9 of `backfill` (Dagster run), then `update manual`")
    rnd = random.Random(seed)
    until = synthetic.yesterday()
    begin = until - dt.timedelta(60)
    path = folder / "dagster.duckdb"
    shutil.copy(ROOT / "dagster.yaml", folder)
    with archive_server.running(20, until=until) as url:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AVAIL", "DAGSTER"))},
            "DAGSTER_HOME": str(folder),
            "AVAILABILITY_DB": str(path),
            "AVAILABILITY_S3_ENDPOINT": url,
        }

        def start(*words: object) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "availability_pipeline.cli",
                 *map(str, words)],
                cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True, start_new_session=True,
            )  # fmt: skip

        def update() -> None:
            done = start("update", "manual")
            errors = done.communicate(timeout=600)[1]
            if done.returncode:
                found.lost.append(f"the next update failed: {errors[-300:]}")

        before = time.monotonic()
        update()
        usual = time.monotonic() - before
        for _ in range(kills):
            victim = start("backfill", "--start", begin, "--end", until)
            with suppress(subprocess.TimeoutExpired):
                victim.wait(rnd.uniform(0.1, 1.1) * usual)
            found.how["too late" if victim.poll() is not None else "killed"] += 1
            with suppress(ProcessLookupError):
                os.killpg(victim.pid, signal.SIGKILL)
            victim.communicate()
            found.tried += 1
            found.lost += _torn(path, begin, until)
            update()
            found.lost += _torn(path, begin, until)
    return found


def _torn(path: Path, begin: dt.date, until: dt.date) -> list[str]:
    with reader(path, 60) as con:
        torn = con.execute(TORN).fetchall()
        # A backfill is there for all its dates or for none.
        runs = con.execute(
            "SELECT count(DISTINCT run_id) FROM probes WHERE period BETWEEN ? AND ?",
            [begin, until - dt.timedelta(1)],
        ).fetchall()
    return [f"torn {torn[:2]}, {runs}"] * (bool(torn) or runs[0][0] > 1)


def main() -> None:
    """Try every fault and print the table."""
    options = parser(__doc__)
    options.add_argument("--kills", type=int, help="kills in the store (100; quick: 6)")
    options.add_argument("--runs", type=int, help="kills through Dagster (6; quick: 1)")
    arguments = options.parse_args()
    quick = arguments.quick
    kills = arguments.kills or (6 if quick else 100)
    runs = arguments.runs or (1 if quick else 6)
    sizes = [0, 200] if quick else [0, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = [kill_in_the_store(folder, kills)]
        with small_disk(folder) as disk:
            table.append(fill_disk(disk, folder, sizes))
        table.append(read_only(folder))
        table.append(stranger(folder, 1 if quick else 5))
        table.append(kill_through_dagster(folder, runs))
    rows = [
        Row(
            one.fault, f"{one.tried} tried, {len(one.lost)} lost",
            ", ".join(f"{what} {count}" for what, count in one.how.most_common()),
            "nothing lost", not one.lost,
        )
        for one in table
    ]  # fmt: skip
    notes = ["beside it, for kills: what the process was about to do when it died"]
    show("Faults: what was lost", rows, quick=quick, notes=notes)
    if any(one.lost for one in table):
        raise SystemExit("\n".join(text for one in table for text in one.lost))


if __name__ == "__main__":
    main()
