"""What runs say, in one rotating file that people follow with `tail` and search with `grep`.

`RunLogHandler` is named in `dagster.yaml` under `python_logs`. Dagster hands it every record of a
run, in the process that runs it: what an asset logs with `context.log`, and Dagster's own events.
Kept are the former from INFO on, and of the latter failures only. How a run is called and why it
failed is said here for the log, `status`, the commands and the alerts alike.

Several processes write at once (runs of the daemon and of the CLI), so the file is locked around
each line and each rotation, by `concurrent-log-handler`; the standard library's handler would lose
lines to a file that another process has just renamed.

Stands on:
    dagster._core.execution
    dagster._core.instance.instance.DagsterInstance.get_yaml_python_handlers
    dagster._core.log_manager.DagsterLogRecordMetadata
"""

import datetime as dt
import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import dagster as dg
from concurrent_log_handler import ConcurrentRotatingFileHandler

from availability_pipeline import files, logs, settings
from availability_pipeline.masking import mask
from availability_pipeline.orchestration.partitions import WORK_TAG, dates_of
from availability_pipeline.quality.rules import few

NO_REASON = "the run failed; its log is in the Dagster UI"

DAGSTERS_OWN = str(Path(dg.__file__).parent / "_core" / "execution")
"""Where Dagster says, as an error, that it leaves out each step after one that failed."""


class RunLogHandler(ConcurrentRotatingFileHandler):
    """Appends to `settings.log_path()`; a file that cannot be written fails no run.

    Args:
        max_bytes: size at which the file is renamed.
        backups: older files kept.
        lowest: level from which on `context.log` is kept. It is not the handler's own `level`:
            Dagster logs a check that failed as DEBUG, and that has to come through.
    """

    def __init__(
        self, max_bytes: int = logs.MAX_BYTES, backups: int = logs.BACKUPS, lowest: str = "INFO"
    ) -> None:
        path = settings.log_path(settings.load())
        # A path that cannot be one reaches `emit`, which says so.
        super().__init__(
            str(path), maxBytes=max_bytes, backupCount=backups, encoding="utf-8",
            unicode_error_policy="replace",
            # Dagster makes a handler for each run and closes none: keep no file open between lines.
            keep_file_open=False,
            umask=settings.umask(),
        )  # fmt: skip
        self._lowest = logging.getLevelNamesMapping()[lowest]
        self._complained = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line, if it has one."""
        if self.line(record) is None:
            return
        try:
            files.private_folder(Path(self.baseFilename).parent)
        except OSError:
            self.handleError(record)
            return
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """The line of `logs.line`."""
        return self.line(record) or ""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's name
        """Log once why the log file cannot be written; the record matters more than its log."""
        if not self._complained and sys.stderr:
            self._complained = True
            reason = sys.exc_info()[1]
            sys.stderr.write(
                f"cannot write the log {self.baseFilename}: {reason}; mend it or set "
                "AVAILABILITY_LOG_FILE\n"
            )

    def line(self, record: logging.LogRecord) -> str | None:
        """The record's line, or None if it is not for the log."""
        meta = getattr(record, "dagster_meta", None)
        if meta is None:
            return None
        event: dg.DagsterEvent | None = meta["dagster_event"]
        message, level = meta["orig_message"], record.levelname
        if event is not None:
            canceled = event.event_type == dg.DagsterEventType.RUN_CANCELED
            said = "canceled" if canceled else _failure(event)
            if said is None:
                return None
            run_id = meta["run_id"] or ""
            message = _about({**meta["job_tags"], **_given_later.get(run_id, {})}, run_id, said)
            level = "INFO" if canceled else "ERROR"
        elif record.levelno < self._lowest or record.pathname.startswith(DAGSTERS_OWN):
            return None
        at = dt.datetime.fromtimestamp(record.created, dt.UTC)
        return logs.line(
            at, level, job_label(meta["job_name"], tags=meta["job_tags"]), mask(message)
        )


_given_later: dict[str, Mapping[str, str]] = {}
"""Run of this process -> the tags that `tag` gave it."""


def tag(instance: dg.DagsterInstance, run_id: str, tags: Mapping[str, str]) -> None:
    """Give a run of this process tags while it runs, of which the log knows too.

    Dagster hands a handler the tags that the run began with.
    """
    instance.add_run_tags(run_id, tags)
    _given_later[run_id] = tags


def say_failed(instance: dg.DagsterInstance, run: dg.DagsterRun, why: str) -> None:
    """Write the line of a run that cannot write it itself, because its process is gone."""
    try:
        handlers = instance.get_yaml_python_handlers()
    except ValueError as error:  # it must not keep the run's place from others
        sys.stderr.write(f"cannot write the log: {error.__cause__ or error}\n")
        return
    for handler in handlers:
        if isinstance(handler, RunLogHandler):
            record = logging.makeLogRecord({"levelno": logging.ERROR, "levelname": "ERROR"})
            record.dagster_meta = {
                "dagster_event": None,
                "orig_message": _about(run.tags, run.run_id, f"the run failed: {why}"),
                "job_name": run.job_name,
                "job_tags": run.tags,
            }
            handler.handle(record)


def job_label(
    job: str | None, assets: Iterable[dg.AssetKey] = (), tags: Mapping[str, str] | None = None
) -> str:
    """The job's name; of the nameless one of all assets what it was launched for, if that is said.

    Otherwise it was launched with the UI's button: `materialize`, and which assets.

    Args:
        job: as Dagster calls it.
        assets: the run's selection, where it is wanted.
        tags: of the run.
    """
    if job is not None and not job.startswith("__"):
        return job
    if work := (tags or {}).get(WORK_TAG):
        return work
    keys = sorted(key.to_user_string() for key in assets)
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"materialize {', '.join(keys[:3])}{more}".rstrip()


FAILURES = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}


def first_failure(events: Iterable[dg.DagsterEvent | None]) -> str:
    """Why a run failed, from its events in their order: what its first failed step says."""
    failures = (event for event in events if event and event.event_type in FAILURES)
    event = next(failures, None)
    return failure_reason(event) if event else NO_REASON


def failure_reason(event: dg.DagsterEvent) -> str:
    """Why a step or run failed, in one line: our own words, or the last cause's."""
    data = event.event_specific_data
    ours = getattr(data, "user_failure_data", None)
    if ours and ours.description:
        return str(ours.description)
    error = getattr(data, "error", None)
    if error:
        # Dagster wraps what a step raised in an error of its own.
        return " ".join(str((error.cause or error).message).split())[:1000]
    return event.message or NO_REASON


def _failure(event: dg.DagsterEvent) -> str | None:
    if event.is_step_failure:
        # Somebody canceled the run, which is said once, by its own event.
        if _is_interrupt(event):
            return None
        return f"{event.step_key} failed: {failure_reason(event)}"
    # A run that failed in a step has said why; this is one that failed around its steps.
    if event.is_job_failure and event.job_failure_data.first_step_failure_event is None:
        return f"the run failed: {failure_reason(event)}"
    if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        check = event.asset_check_evaluation_data
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            seen = {name: value.value for name, value in check.metadata.items()}
            remedy = f"; {seen['recovery']}" if seen.get("recovery") else ""
            datasets = dict(seen.get("datasets") or {})  # type: ignore[arg-type]
            breached = [name for name, outcome in datasets.items() if outcome == "breach"]
            about = f" for {few(breached)}" if breached else ""
            return (
                f"check {check.check_name} of {check.asset_key.to_user_string()} does not hold"
                f"{about}: {seen.get('observed')}, should be {seen.get('threshold')}{remedy}"
            )
    return None


def _is_interrupt(event: dg.DagsterEvent) -> bool:
    error = event.step_failure_data.error
    names = {one.cls_name for one in (error, error and error.cause) if one}
    return dg.DagsterExecutionInterruptedError.__name__ in names


def _about(tags: Mapping[str, str], run_id: str, failure: str) -> str:
    dates = dates_of(tags)
    return f"{dates + ': ' if dates else ''}{failure} (run {run_id[:8]})"
