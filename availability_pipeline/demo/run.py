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
from dataclasses import dataclass
from pathlib import Path

import duckdb
from rich.console import Console

from availability_pipeline import PROGRAM, extras, files, settings, tables
from availability_pipeline.archive.datasets import CATALOGUE, UM_KLINES_1M, Dataset, by_kind
from availability_pipeline.dates import span_text
from availability_pipeline.demo.archive import (
    BUCKET,
    DATASETS,
    Sample,
    SampleArchive,
    SampleArchiveError,
    last_month,
    sample_files,
)
from availability_pipeline.errors import StoreError
from availability_pipeline.orchestration import processes
from availability_pipeline.orchestration.beta import without_beta_warnings
from availability_pipeline.record import volumes
from availability_pipeline.record.connection import reader
from availability_pipeline.record.status import recorded_datasets, scope
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
                _environment(home, archive, past=date is not None) as variables,
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
                f"{PROGRAM} query snapshot {last}", f"{PROGRAM} query coverage BTCUSDT",
                f"{PROGRAM} query rankings {last} --quote USDT",
                f"{PROGRAM} status")  # fmt: skip
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


@dataclass(frozen=True, slots=True)
class Probe:
    """One run of the demo.

    Attributes:
        what: what it is called.
        datasets: those of one market, frequency and type.
        start, end: the first and the last period.
        later: the later files have come before it.
    """

    what: str
    datasets: tuple[Dataset, ...]
    start: dt.date
    end: dt.date
    later: bool = False

    def __str__(self) -> str:
        return "/".join(self.datasets[0].kind)

    @property
    def span(self) -> str:
        """The periods as text."""
        ends = (self.datasets[0].text(self.start), self.datasets[0].text(self.end))
        return " to ".join(dict.fromkeys(ends))


def probes(sample: Sample, lookback_days: int) -> tuple[Probe, ...]:
    """The runs of the demo, in their order.

    Each dataset is filled from the archive's first period on, as `backfill` does it.
    """
    klines, *others = by_kind(DATASETS)
    first = CATALOGUE[klines[0].kind].first
    before = sample.last - dt.timedelta(1)
    lookback = sample.last - dt.timedelta(lookback_days - 1)
    return (
        Probe("backfill", klines, first, before),
        *(
            Probe(
                "backfill",
                datasets,
                CATALOGUE[datasets[0].kind].first,
                last_month(sample.last) if datasets[0].monthly else sample.last,
            )
            for datasets in others
        ),
        Probe("daily update", klines, sample.last, sample.last),
        Probe("late arrivals", klines, lookback, sample.last, later=True),
    )


def _show(console: Console, archive: SampleArchive, db: Path, clock: Clock) -> dt.date:
    """Probe, let late files arrive, probe again, print what was found; returns the last date."""
    sample = sample_files(clock.now())
    archive.publish(sample.files)
    archive.publish_junk(sample.first + dt.timedelta(40))
    console.print(
        f"A sample archive with {len(DATASETS)} datasets and {len(sample.files):,} files stands at "
        f"{archive.endpoint}\n"
    )
    todo = probes(sample, settings.load().lookback_days)
    arrived = False
    for probe in todo:
        if probe.later and not arrived:
            archive.publish(sample.later)
            console.print(f"({len(sample.later)} files arrive late, or again)")
            arrived = True
        _run(console, probe, clock)
    _read_volume(console, sample, clock)
    _draw(console, clock)
    _report(console, db)
    return sample.last


def _run(console: Console, probe: Probe, clock: Clock) -> None:
    without_beta_warnings()
    from availability_pipeline.orchestration import launch, partitions

    [kind] = [k for k in partitions.kinds(settings.load()) if k.datasets == probe.datasets]
    began = time.monotonic()
    with console.status(f"{probe.what} of {probe}: {probe.span}"):
        end = probe.datasets[0].last_day(probe.end)
        outcome = launch.run_range(probe.start, end, kind=kind, now=clock.of_next_run())
    if not outcome.success:
        raise DemoError(f"the {probe.what} of {probe} failed: {outcome.error_line}")
    with reader(settings.load().db_path) as con:
        found = con.execute(
            """SELECT status, count(*) FROM availability
            WHERE list_contains($1, dataset) AND period = $2 GROUP BY 1 ORDER BY 2 DESC, 1""",
            [[str(dataset) for dataset in probe.datasets], probe.end],
        ).fetchall()
    counts = ", ".join(f"{n} {status}" for status, n in found)
    console.print(
        f"{probe.what:<13} {probe!s:<22} {probe.span:<24} {time.monotonic() - began:5.1f} s   "
        f"last: {counts}"
    )


def _read_volume(console: Console, sample: Sample, clock: Clock) -> None:
    from availability_pipeline.orchestration import launch

    began = time.monotonic()
    span = span_text(sample.first, sample.last)
    with console.status(f"volume: {span}"):
        outcome = launch.read_volume(sample.first, sample.last, now=clock.of_next_run())
    if not outcome.success:
        raise DemoError(f"reading the volume failed: {outcome.error_line}")
    limits = settings.load()
    with volumes.reader(limits.volume_path) as con:
        [(rows, markets)] = con.execute(
            "SELECT count(*), string_agg(DISTINCT market, ', ' ORDER BY market DESC) FROM klines"
        ).fetchall()
    console.print(
        f"{'volume':<13} {markets:<22} {span:<24} {time.monotonic() - began:5.1f} s   "
        f"{rows:,} rows, ranked"
    )


def _draw(console: Console, clock: Clock) -> None:
    from availability_pipeline.orchestration import launch

    began = time.monotonic()
    with console.status("report"):
        outcome = launch.draw_report(now=clock.of_next_run())
    if not outcome.success:
        raise DemoError(f"the report failed: {outcome.error_line}")
    page = (settings.load().report_path / draw.PAGE).relative_to(Path.cwd())
    console.print(f"{'report':<13} {page}  {time.monotonic() - began:.1f} s")


def _report(console: Console, db: Path) -> None:
    """What is recorded of all datasets, then the symbols and revisions of the first."""
    with reader(db) as con:
        datasets = [_recorded(con, dataset) for dataset in recorded_datasets(con)]
        t = scope(con, UM_KLINES_1M)
        listings = con.execute(
            f"""SELECT symbol, contract_type, first_available, last_available, days_available,
                hole_days, state
            FROM {t.listings} ORDER BY first_available, symbol"""
        ).fetchall()
        revisions = con.execute(
            f"""SELECT date, symbol, change, old_size, new_size FROM {t.revisions}
            ORDER BY date, symbol"""
        ).fetchall()
        [(dates, first, last)] = con.execute(
            f"SELECT count(*), min(date), max(date) FROM {t.probes}"
        ).fetchall()
        counts = con.execute(
            f"SELECT status, count(*) FROM {t.cells} GROUP BY 1 ORDER BY 2 DESC"
        ).fetchall()
    console.print()
    columns: tuple[str, ...] = ("dataset", "symbols", "files", "first", "last", "holes")
    _table(console, "Datasets", columns, datasets)
    columns = ("symbol", "kind", "first", "last", "days", "holes", "state")
    _table(console, f"Symbols of {UM_KLINES_1M}", columns, listings)
    columns = ("date", "symbol", "change", "was_bytes", "bytes")
    _table(console, f"Revisions of {UM_KLINES_1M}", columns, revisions)
    statuses = ", ".join(f"{n:,} {status}" for status, n in counts)
    symbols = len(listings)
    console.print(
        f"{UM_KLINES_1M}: {symbols} symbols on {dates:,} dates, {span_text(first, last)}: "
        f"{statuses}.\n"
    )


def _recorded(con: duckdb.DuckDBPyConnection, dataset: Dataset) -> tuple[object, ...]:
    """A line of the table of datasets."""
    t = scope(con, dataset)
    [(symbols, files, first, last, holes)] = con.execute(
        f"""SELECT count(*), sum(days_available)::BIGINT, min(first_available),
            max(last_available), sum(hole_days)::BIGINT
        FROM {t.listings}"""
    ).fetchall()
    return (str(dataset), symbols, files, dataset.text(first), dataset.text(last), holes)


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
def _environment(home: Path, archive: SampleArchive, *, past: bool) -> Iterator[dict[str, str]]:
    """Point this process and its children at the sample, and at nothing of the user's."""
    before = dict(os.environ)
    for name in [n for n in os.environ if n.startswith("AVAILABILITY_")]:
        del os.environ[name]
    variables = {
        "AVAILABILITY_DB": str(home / DATABASE),
        "AVAILABILITY_S3_ENDPOINT": archive.endpoint,
        "AVAILABILITY_DOWNLOAD_URL": archive.download_url,
        "AVAILABILITY_S3_BUCKET": BUCKET,
        "AVAILABILITY_DATASETS": ",".join(map(str, DATASETS)),
        # moto answers one request at a time.
        "AVAILABILITY_S3_CONCURRENCY": "4",
        # The download host is a thread of this process.
        "AVAILABILITY_DOWNLOADS": "4",
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
