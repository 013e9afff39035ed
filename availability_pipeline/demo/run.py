"""The demo: from nothing to the Dagster UI on a sample archive.

Everything it makes is in `demo-home` below the working directory: database, run history, a copy
of `dagster.yaml`, and `env`, which points a shell at all of these. The folder is made again by each
demo and stays until the next one. Nothing keeps running afterwards.

By default the sample's dates end with yesterday, so that UI, schedules and `status` find a record
that is up to date. With a date of its own (`--date`, without the UI) the record is the same on any
day: the documentation's answers are those of `--date 2026-11-24`.
"""

import datetime as dt
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from availability_pipeline import PROGRAM, extras, files, settings, tables
from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.dates import span_text
from availability_pipeline.demo.archive import (
    BUCKET,
    SampleArchive,
    SampleArchiveError,
    sample_files,
)
from availability_pipeline.errors import StoreError
from availability_pipeline.orchestration import processes
from availability_pipeline.orchestration.beta import without_beta_warnings
from availability_pipeline.record.connection import reader
from availability_pipeline.report import draw

HOME = "demo-home"
DATABASE = "availability.duckdb"
LOCK = ".demo-lock"
ENVIRONMENT = "env"

NOON = dt.time(12)
"""When a demo of a past date runs: its files of the day before are out, but those that are late."""

STEP = dt.timedelta(minutes=10)
"""From one run of such a demo to the next."""


class DemoError(RuntimeError):
    """The demo cannot go on; the text is one line with the remedy."""


def run(ui: bool = True, port: int = 3000, date: dt.date | None = None) -> int:
    """Run the demo; returns the exit code.

    Args:
        ui: open the Dagster UI at the end and wait for Ctrl-C.
        port: loopback port of the UI.
        date: run as if it were this UTC date; by the clock when left out.
    """
    extras.require("report")
    clock = Clock(dt.datetime.combine(date, NOON, dt.UTC) if date else None)
    # A pipe has no width.
    width = None if Console().is_terminal else 100
    console = Console(width=width, highlight=False, markup=False, soft_wrap=True)
    try:
        with processes.sigterm_as_ctrl_c():
            if ui:
                processes.require_free(port)
            with (
                _home(Path.cwd() / HOME) as home,
                SampleArchive() as archive,
                _environment(home, archive.endpoint, past=date is not None) as variables,
            ):
                _write_environment(home / ENVIRONMENT, variables)
                last = _show(console, archive, home / DATABASE, clock)
                if ui:
                    with processes.serving(home / "ui.log", port) as address:
                        console.print(f"Dagster UI: {address}/asset-groups\n")
                        _invite(console, "Ask it, in another terminal:", last)
                        console.print("\nCtrl-C ends everything.")
                        with suppress(KeyboardInterrupt):  # SIGTERM is one too
                            threading.Event().wait()
                        console.print("\nEnding the UI and the sample archive.")
                else:
                    _invite(console, "Ask it:", last)
    except (
        DemoError,
        SampleArchiveError,
        processes.UIError,
        StoreError,
        settings.SettingsError,
    ) as error:
        Console(stderr=True).print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; nothing keeps running.")
        return 130
    return 0


class Clock:
    """The demo's time: that of the machine, or one of the past that goes on by `STEP` a run."""

    def __init__(self, start: dt.datetime | None) -> None:
        self._past = start

    def now(self) -> dt.datetime:
        """Now, aware."""
        return self._past or dt.datetime.now(dt.UTC)

    def of_next_run(self) -> dt.datetime | None:
        """What the next run is to take for now; None where the machine's clock says so."""
        if self._past:
            self._past += STEP
        return self._past


def _invite(console: Console, how: str, last: dt.date) -> None:
    """Commands that work as they stand, in this folder and with this demo's dates."""
    commands = (f". {HOME}/{ENVIRONMENT}", f"{PROGRAM} query holes",
                f"{PROGRAM} query snapshot {last}", f"{PROGRAM} status")  # fmt: skip
    console.print("\n  ".join([how, *commands]))


def _write_environment(path: Path, variables: Mapping[str, str]) -> None:
    """A file for `.` in a shell: our program first on the PATH, and this demo's settings.

    The archive's address is among them: an update after the demo has ended finds no archive,
    where the real one's files would else be mixed with the sample's. The user's own settings are
    unset, so that the demo's problems do not reach their alerts.
    """
    programs = shlex.quote(str(Path(sys.executable).parent))
    others = {f"AVAILABILITY_{name.upper()}" for name in settings.Settings.model_fields}
    lines = [f"unset {' '.join(sorted(others - set(variables)))}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f'export PATH={programs}:"$PATH"')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _show(console: Console, archive: SampleArchive, db: Path, clock: Clock) -> dt.date:
    """Probe, let late files arrive, probe again, print what was found; returns the last date."""
    sample = sample_files(clock.now())
    archive.publish(sample.files)
    archive.publish_junk(sample.first + dt.timedelta(40))
    symbols = len({f.symbol for f in sample.files})
    console.print(
        f"A sample archive with {symbols} symbols and {len(sample.files):,} files stands at "
        f"{archive.endpoint}\n"
    )
    before = sample.last - dt.timedelta(1)
    _probe(console, "backfill", FIRST_DATE, before, clock)
    _probe(console, "daily update", sample.last, sample.last, clock)
    archive.publish(sample.later)
    console.print(f"({len(sample.later)} files arrive late, or again)")
    lookback = settings.load().lookback_days
    first = sample.last - dt.timedelta(lookback - 1)
    _probe(console, "late arrivals", first, sample.last, clock)
    _draw(console, clock)
    _report(console, db, sample.last)
    return sample.last


def _probe(console: Console, what: str, start: dt.date, end: dt.date, clock: Clock) -> None:
    without_beta_warnings()
    from availability_pipeline.orchestration import launch

    span = span_text(start, end)
    began = time.monotonic()
    with console.status(f"{what}: {span}"):
        outcome = launch.run_range(start, end, now=clock.of_next_run())
    if not outcome.success:
        raise DemoError(f"the {what} failed: {outcome.error_line}")
    with reader(settings.load().db_path) as con:
        found = con.execute(
            "SELECT status, count(*) FROM daily_availability WHERE date = ? GROUP BY 1 ORDER BY 1",
            [end],
        ).fetchall()
    counts = ", ".join(f"{n} {status}" for status, n in found)
    console.print(f"{what:<13} {span:<24} {time.monotonic() - began:5.1f} s   last date: {counts}")


def _draw(console: Console, clock: Clock) -> None:
    from availability_pipeline.orchestration import launch

    began = time.monotonic()
    with console.status("report"):
        outcome = launch.draw_report(now=clock.of_next_run())
    if not outcome.success:
        raise DemoError(f"the report failed: {outcome.error_line}")
    page = (settings.load().report_path / draw.PAGE).relative_to(Path.cwd())
    console.print(f"{'report':<13} {page}  {time.monotonic() - began:.1f} s")


def _report(console: Console, db: Path, yesterday: dt.date) -> None:
    with reader(db) as con:
        listings = con.execute(
            """SELECT symbol, contract_type, first_available, last_available, days_available,
                hole_days, state
            FROM symbol_spans ORDER BY first_available, symbol"""
        ).fetchall()
        revisions = con.execute(
            """SELECT period, symbol, change, old_size, new_size FROM revisions
            ORDER BY period, symbol"""
        ).fetchall()
        [(dates, rows)] = con.execute(
            "SELECT count(DISTINCT date), count(*) FROM daily_availability"
        ).fetchall()
        counts = con.execute(
            "SELECT status, count(*) FROM availability GROUP BY 1 ORDER BY 2 DESC"
        ).fetchall()
    console.print()
    columns = ("symbol", "kind", "first", "last", "days", "holes", "state")
    _table(console, "Symbols", columns, listings)
    _table(console, "Revisions", ("date", "symbol", "change", "was_bytes", "bytes"), revisions)
    statuses = ", ".join(f"{n:,} {status}" for status, n in counts)
    console.print(f"{rows:,} rows on {dates:,} dates up to {yesterday}: {statuses}.\n")


def _table(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> None:
    texts = [
        ["" if v is None else f"{v:,}" if isinstance(v, int) else str(v) for v in row]
        for row in rows
    ]
    numbers = tables.numeric(columns, rows)
    laid = tables.lay_out(columns, texts, numbers=numbers, width=console.width)
    console.print("\n".join([title, "", *laid.head, *laid.body, ""]))


@contextmanager
def _home(folder: Path) -> Iterator[Path]:
    """A fresh home, ours alone while the demo runs; never empties a folder we did not make."""
    if folder.is_symlink() or (folder.exists() and not (folder / LOCK).exists()):
        raise DemoError(f"{folder} was not made by a demo; move it away or start elsewhere")
    try:
        files.private_folder(folder)
        lock = files.lock_file(folder / LOCK)
    except OSError as error:
        raise DemoError(f"cannot write {folder} ({error.strerror}); start elsewhere") from None
    with lock:
        if not files.try_lock(lock):
            raise DemoError(f"another demo is running in {folder}; end it first")
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
def _environment(home: Path, endpoint: str, *, past: bool) -> Iterator[dict[str, str]]:
    """Point this process and its children at the sample, and at nothing of the user's."""
    before = dict(os.environ)
    for name in [n for n in os.environ if n.startswith("AVAILABILITY_")]:
        del os.environ[name]
    variables = {
        "AVAILABILITY_DB": str(home / DATABASE),
        "AVAILABILITY_S3_ENDPOINT": endpoint,
        "AVAILABILITY_S3_BUCKET": BUCKET,
        # moto answers one request at a time.
        "AVAILABILITY_S3_CONCURRENCY": "4",
        "DAGSTER_HOME": str(home),
        # A proxy would be asked for the loopback address, and refuse.
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    if past:
        # The local S3 server's clock is today's.
        variables["AVAILABILITY_MAX_CLOCK_SKEW_MINUTES"] = "0"
    os.environ.update(variables)
    try:
        yield variables
    finally:
        os.environ.clear()
        os.environ.update(before)
