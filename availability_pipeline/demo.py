"""The demo: the whole pipeline on a sample archive, from nothing to the Dagster UI.

Belongs here: the order of events, what is said on the way, and that nothing keeps running
afterwards. Does not belong here: the sample itself (`sample_archive`), running Dagster (`launch`).

Everything it makes is in `demo-home` below the working directory: database, run history, a copy
of `dagster.yaml`. The folder is made anew by each demo and stays until the next one.
"""

import datetime as dt
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from availability_pipeline import demo_ui, derived, report, settings, store
from availability_pipeline.cli_output import without_beta_warnings
from availability_pipeline.keys import FIRST_DATE
from availability_pipeline.sample_archive import (
    BUCKET,
    SampleArchive,
    SampleArchiveError,
    sample_files,
)

HOME = "demo-home"
DATABASE = "availability.duckdb"
LOCK = ".demo-lock"


class DemoError(RuntimeError):
    """The demo cannot go on; the text is one line with the remedy."""


def run(ui: bool = True, port: int = 3000) -> int:
    """Run the demo; returns the exit code.

    Args:
        ui: open the Dagster UI at the end and wait for Ctrl-C.
        port: loopback port of the UI.
    """
    # A pipe has no width; the tables need 74 columns.
    console = Console(width=None if Console().is_terminal else 100)
    try:
        with demo_ui.sigterm_as_ctrl_c():
            if ui:
                demo_ui.require_free(port)
            with (
                _home(Path.cwd() / HOME) as home,
                SampleArchive() as archive,
                _environment(home, archive.endpoint),
            ):
                _show(console, archive, home / DATABASE)
                if ui:
                    with demo_ui.serving(home / "ui.log", port) as address:
                        _invite(console, address, home / DATABASE)
                        demo_ui.wait_for_ctrl_c()
                        console.print("\nEnding the UI and the sample archive.")
    except (
        DemoError,
        SampleArchiveError,
        demo_ui.UIError,
        store.StoreError,
        settings.SettingsError,
    ) as error:
        Console(stderr=True).print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; nothing keeps running.")
        return 130
    return 0


def _invite(console: Console, address: str, db: Path) -> None:
    console.print(f"Dagster UI: {address}/asset-groups\n", highlight=False, soft_wrap=True)
    console.print("Ask it, in another terminal:", highlight=False)
    ask = f"AVAILABILITY_DB={db.relative_to(Path.cwd())} binance-futures-availability query holes"
    console.print(f"  {ask}\n\nCtrl-C ends everything.", highlight=False, soft_wrap=True)


def _show(console: Console, archive: SampleArchive, db: Path) -> None:
    """Probe, let late files arrive, probe again, and print what was found."""
    sample = sample_files(dt.datetime.now(dt.UTC))
    archive.publish(sample.files)
    archive.publish_junk(sample.first + dt.timedelta(40))
    symbols = len({f.symbol for f in sample.files})
    console.print(
        f"A sample archive with {symbols} symbols and {len(sample.files):,} files stands at "
        f"{archive.endpoint}\n",
        highlight=False,
        soft_wrap=True,
    )
    before = sample.last - dt.timedelta(1)
    _probe(console, "backfill", FIRST_DATE, before)
    _probe(console, "daily update", sample.last, sample.last)
    archive.publish(sample.later)
    console.print(f"({len(sample.later)} files arrive late, or again)", highlight=False)
    lookback = settings.load().lookback_days
    _probe(console, "late arrivals", sample.last - dt.timedelta(lookback - 1), sample.last)
    _draw(console)
    _report(console, db, sample.last)


def _probe(console: Console, what: str, start: dt.date, end: dt.date) -> None:
    without_beta_warnings()
    from availability_pipeline import launch

    span = f"{start}" if start == end else f"{start} to {end}"
    began = time.monotonic()
    with console.status(f"{what}: {span}"):
        outcome = launch.run_range(start, end)
    if not outcome.success:
        raise DemoError(f"the {what} failed: {outcome.error_line}")
    with store.reader(settings.load().db_path) as con:
        found = con.execute(
            "SELECT status, count(*) FROM availability WHERE date = ? GROUP BY 1 ORDER BY 1", [end]
        ).fetchall()
    counts = ", ".join(f"{n} {status}" for status, n in found)
    console.print(
        f"{what:<13} {span:<24} {time.monotonic() - began:5.1f} s   last date: {counts}",
        highlight=False,
        soft_wrap=True,
    )


def _draw(console: Console) -> None:
    from availability_pipeline import launch

    began = time.monotonic()
    with console.status("report"):
        outcome = launch.draw_report()
    if not outcome.success:
        raise DemoError(f"the report failed: {outcome.error_line}")
    page = (settings.load().report_path / report.PAGE).relative_to(Path.cwd())
    console.print(
        f"{'report':<13} {page}  {time.monotonic() - began:.1f} s",
        highlight=False,
        soft_wrap=True,
    )


def _report(console: Console, db: Path, yesterday: dt.date) -> None:
    with store.reader(db) as con:
        listings = con.execute(
            f"""SELECT symbol, contract_type, first_available, last_available, days_available,
                hole_days, state
            FROM {derived.listings_relation(con)} ORDER BY first_available, symbol"""  # noqa: S608
        ).fetchall()
        revisions = con.execute(
            """SELECT date, symbol, change, old_size, new_size FROM revisions
            ORDER BY date, symbol"""
        ).fetchall()
        [(dates, rows)] = con.execute(
            "SELECT count(DISTINCT date), count(*) FROM daily_availability"
        ).fetchall()
        counts = con.execute(
            "SELECT status, count(*) FROM availability GROUP BY 1 ORDER BY 2 DESC"
        ).fetchall()
    console.print()
    console.print(_table("Symbols", ("symbol", "kind", "first", "last"), listings, "days holes"))
    console.print(_table("Revisions", ("date", "symbol", "change"), revisions, "was_bytes bytes"))
    statuses = ", ".join(f"{n:,} {status}" for status, n in counts)
    console.print(
        f"{rows:,} rows on {dates:,} dates up to {yesterday}: {statuses}.\n",
        highlight=False,
        soft_wrap=True,
    )


def _table(
    title: str, texts: tuple[str, ...], rows: Sequence[tuple[object, ...]], numbers: str
) -> Table:
    """A table whose first columns are texts, then numbers, then whatever is left: the state."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers.split():
        table.add_column(name.replace("_", " "), justify="right")
    if rows and len(rows[0]) > len(table.columns):
        table.add_column("state", no_wrap=True)
    for row in rows:
        table.add_row(
            *("" if v is None else f"{v:,}" if isinstance(v, int) else str(v) for v in row)
        )
    return table


@contextmanager
def _home(folder: Path) -> Iterator[Path]:
    """A fresh home, ours alone while the demo runs; never empties a folder we did not make."""
    if folder.exists() and not (folder / LOCK).exists():
        raise DemoError(f"{folder} is no demo's folder; move it away or start elsewhere")
    try:
        folder.mkdir(exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise DemoError(f"cannot write {folder} ({error.strerror}); start elsewhere") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"another demo is running in {folder}; end it first") from None
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()
        config = settings.shipped_config()
        if config.exists():
            shutil.copy(config, folder)
        yield folder


@contextmanager
def _environment(home: Path, endpoint: str) -> Iterator[None]:
    """Point this process and its children at the sample, and at nothing of the user's."""
    before = dict(os.environ)
    for name in [n for n in os.environ if n.startswith("AVAILABILITY_")]:
        del os.environ[name]
    os.environ.update(
        AVAILABILITY_DB=str(home / DATABASE),
        AVAILABILITY_S3_ENDPOINT=endpoint,
        AVAILABILITY_S3_BUCKET=BUCKET,
        # moto answers one request at a time.
        AVAILABILITY_S3_CONCURRENCY="4",
        DAGSTER_HOME=str(home),
        # A proxy would be asked for the loopback address, and refuse.
        NO_PROXY="127.0.0.1",
        no_proxy="127.0.0.1",
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
