"""Run a probe through Dagster from this process, so that it is in the run history; and read that.

For the commands and the demo. Imported only inside those that need it: `import dagster` takes
1.5 s.
"""

import datetime as dt
import logging
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from availability_pipeline import settings
from availability_pipeline.archive.listing import Progress
from availability_pipeline.dates import DateLike, as_range, span_text
from availability_pipeline.masking import mask
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.instance import pools
from availability_pipeline.orchestration.instance.launcher import opened, own_tags, watching
from availability_pipeline.orchestration.instance.run_log import first_failure
from availability_pipeline.orchestration.partitions import (
    WORK_TAG,
    Kind,
    kinds,
    range_tags,
)
from availability_pipeline.orchestration.probes import DERIVED
from availability_pipeline.orchestration.resources import Clock, Reporter
from availability_pipeline.orchestration.volumes import JOB

History = dg.DagsterInstance
"""What `history` opens, by the name under which `cli`, which imports no Dagster, has its type."""

INTERRUPTED = "interrupted"
"""Why a run was canceled: Ctrl-C was pressed, or SIGTERM sent."""

CANCEL_WITHIN = 10
"""Seconds to wait for a run that is just beginning, before it can be canceled."""


_HEED_SECONDS = 0.5
"""How long a Ctrl-C may go unnoticed."""


class HistoryError(Exception):
    """Dagster's run history cannot be read; the text is one line."""


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended; `error_line` is None when it succeeded."""

    run_id: str
    success: bool
    error_line: str | None


def require_history() -> None:
    """See that a run can be stored, before anything is done for it.

    Raises:
        SettingsError: it has no place.
        HistoryError: see `history`.
    """
    with history(settings.require_home()):
        pass


@contextmanager
def history(folder: Path) -> Iterator[History]:
    """Dagster's records in this home, for reading.

    Opening makes what is missing: see first that something ever ran there.

    Raises:
        HistoryError: they cannot be read.
    """
    instance = _open(folder)
    with _one_line(folder), instance:
        yield instance


def _open(folder: Path) -> dg.DagsterInstance:
    # dagster-postgres logs each of its six attempts, four lines each, before it gives up.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with _one_line(folder, dg.DagsterError, OSError, ImportError):
            return opened(folder)
    finally:
        logging.disable(before)


@contextmanager
def _one_line(folder: Path, *also: type[Exception]) -> Iterator[None]:
    """Say of a storage that cannot be reached why and what to do; of the errors `also`, too."""
    try:
        yield
    except Exception as error:
        fault = _storage_fault(error) or (error if isinstance(error, also) else None)
        if fault is None:
            raise
        cause, remedy = getattr(fault, "orig", None) or fault, "see its dagster.yaml"
        if isinstance(fault, dg.DagsterInvalidConfigError) and fault.errors:
            cause = fault.errors[0].message  # its own text begins with the whole schema
        if type(cause).__module__.startswith("psycopg"):
            remedy = "start PostgreSQL, or correct DAGSTER_POSTGRES_URL"
        reason = mask((str(cause).strip() or type(cause).__name__).splitlines()[0][:300])
        raise HistoryError(
            f"the run history of {folder} cannot be read ({reason}); {remedy}"
        ) from None


def _storage_fault(error: BaseException) -> SQLAlchemyError | None:
    """SQLAlchemy's error in an error or its causes: dagster-postgres raises one of its own from it.

    That package need not be installed, so its class cannot be named.
    """
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, SQLAlchemyError):
        seen = seen.__cause__
    return seen


def run_range(
    start: DateLike,
    end: DateLike,
    *,
    kind: Kind | None = None,
    accept_shrunken: bool = False,
    new_record: bool = False,
    progress: Progress | None = None,
    tags: Mapping[str, str] | None = None,
    now: dt.datetime | None = None,
) -> RunOutcome:
    """Probe all periods from `start` to `end` in one run; waits for other writers first.

    Args:
        start: first date; of monthly files a date of the first month.
        end: last date; of monthly files the last date of the last month, or one after it.
        kind: of which datasets; the first configured one by default.
        accept_shrunken: write even if far less is listed than is recorded.
        new_record: begin a new record where Dagster knows of another one.
        progress: called while the archive is listed.
        tags: further tags of the run.
        now: replaces the clock (aware).

    Raises:
        SettingsError: the run history has no place.
        HistoryError: see `history`.
        KeyboardInterrupt: the run is canceled. A thread of it may still be there, so end the
            process with `os._exit`.
        ValueError: a date is not one, not over, or the archive has nothing of these dates.
    """
    kind = kind or kinds(settings.load())[0]
    first, last = as_range(start, end)
    if first < kind.entry.first:
        raise ValueError(f"{first} is before {kind.entry.first}, the first date of the record")
    today = (now or dt.datetime.now(dt.UTC)).date()
    if last >= today:
        raise ValueError(
            f"{last} is not over; the last whole UTC date is {today - dt.timedelta(1)}"
        )
    span = kind.within(first, last)
    if span is None:
        raise ValueError(f"{kind} has no files of {span_text(first, last)}")
    return _run(
        None,
        selection=[kind.key, *map(dg.AssetKey, DERIVED)],
        reporter=Reporter(progress),
        ops={
            kind.step: {
                "config": {
                    "accept_shrunken": accept_shrunken,
                    "new_record": new_record,
                    "datasets": {str(dataset): True for dataset in kind.datasets},
                }
            }
        },
        tags={
            **range_tags(*span, [kind]),
            WORK_TAG: kind.work,
            **(tags or {}),
        },
        now=now,
    )


def read_volume(start: dt.date, end: dt.date, now: dt.datetime | None = None) -> RunOutcome:
    """Read the volume of these dates, and rank, in a run; `now` (aware) replaces the clock.

    Raises:
        SettingsError: the run history has no place, or no daily 1d klines are configured.
        HistoryError: see `history`.
    """
    return _run(JOB, tags=range_tags(start, end), now=now)


def draw_report(now: dt.datetime | None = None) -> RunOutcome:
    """Draw the report in a run, so that the UI shows it; `now` (aware) replaces the clock.

    Raises:
        SettingsError: the run history has no place.
        HistoryError: see `history`.
    """
    return _run("draw_report", now=now)


def _run(
    name: str | None,
    *,
    selection: Sequence[dg.AssetKey] | None = None,
    reporter: Reporter | None = None,
    ops: Mapping[str, object] | None = None,
    tags: Mapping[str, str] | None = None,
    now: dt.datetime | None = None,
) -> RunOutcome:
    folder = settings.require_home()
    resources = {"reporter": reporter or Reporter(), "clock": Clock(now)}
    defs = build_defs(resources=resources)
    # None: a selection of assets.
    job = defs.resolve_job_def(name) if name else defs.resolve_implicit_global_asset_job_def()
    config = {
        "ops": dict(ops or {}),
        # The run's log is in its history; the terminal gets the progress and one line.
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }
    run_id = str(uuid.uuid4())
    future: Future[dg.ExecuteInProcessResult] = Future()

    def execute(instance: dg.DagsterInstance) -> None:
        try:
            future.set_result(
                job.execute_in_process(
                    instance=instance,
                    run_id=run_id,
                    run_config=config,
                    asset_selection=selection,
                    tags={**own_tags(), **(tags or {})},
                    raise_on_error=False,
                )
            )
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            future.set_exception(error)

    instance = _open(folder)
    with _one_line(folder), watching(instance):
        pools.apply_limit(instance, settings.load().archive_runs)
        # Beside the main thread, where Python raises KeyboardInterrupt: Dagster, executing in the
        # main thread, would heed it only within a step (not while one waits for its turn in the
        # pool) and call the run failed.
        threading.Thread(target=execute, args=[instance], name="run", daemon=True).start()
        try:
            # In slices: the kernel may hand a signal to any thread, and Python runs its handler
            # only when the main thread next wakes. One wait without an end missed a Ctrl-C once.
            while not wait([future], timeout=_HEED_SECONDS).done:
                pass
            result = future.result()
        except KeyboardInterrupt:
            _cancel(instance, run_id, future)
            raise  # `instance` stays open for the thread, which ends with the process
    instance.dispose()
    reason = None if result.success else first_failure(result.all_events)
    return RunOutcome(result.run_id, result.success, reason)


def _cancel(instance: dg.DagsterInstance, run_id: str, ended: "Future[Any]") -> None:
    """Otherwise the history would show it as running for ever, and then as failed."""
    deadline = time.monotonic() + CANCEL_WITHIN
    beginning = {None, dg.DagsterRunStatus.NOT_STARTED}
    # A run that is only now being stored would be there without its end.
    while (run := instance.get_run_by_id(run_id)) is None or run.status in beginning:
        if ended.done() or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    if run and not run.is_finished:
        instance.report_run_canceled(run, message=INTERRUPTED)
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
