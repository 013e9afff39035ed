"""Runs whose process vanished: noticed, marked as failed, their place in the pool given back.

Dagster's run monitoring asks the launcher whether a started run is still alive, but its default
launcher cannot say: a run whose process was killed (power cut, out of memory, `kill -9` of a CLI
command) would stay STARTED and keep the one writer's place until `max_runtime_seconds`. The
launcher here can say. Where no daemon runs, the CLI looks for itself, see `watching`.

A process is known by host and process id, and by having started before its run did, so that an
id given to another process, or a reboot, does not bring a run back to life. A run of another
host, or one without our tag, is left alone: `max_runtime_seconds` ends it.

The code server is the parent of the runs it started, and checks every half second whether one of
them died. It alone knows the exit code, so it alone can name the signal; whoever else notices (the
code server is gone, too, or the run is a command's) knows only that the process is not there.
Whoever it is marks the run through `WatchfulInstance`, which finds the reason and writes the log.

Stands on:
    dagster._core.definitions.repository_definition.SINGLETON_REPOSITORY_NAME
    dagster._core.events.JobFailureData
    dagster._core.instance.instance.DagsterInstance.create_run_for_job
    dagster._core.instance.instance.DagsterInstance.report_run_failed
    dagster._core.instance.ref.InstanceRef.config_defaults
    dagster._core.instance.ref.InstanceRef.from_dir
    dagster._core.launcher.CheckRunHealthResult
    dagster._core.launcher.LaunchRunContext
    dagster._core.launcher.RunLauncher.check_run_worker_health
    dagster._core.launcher.RunLauncher.supports_check_run_worker_health
    dagster._core.launcher.WorkerStatus
    dagster._core.remote_origin.ManagedGrpcPythonEnvCodeLocationOrigin
    dagster._core.remote_origin.RemoteJobOrigin
    dagster._core.remote_origin.RemoteRepositoryOrigin
    dagster._core.storage.noop_compute_log_manager.NoOpComputeLogManager
    dagster._core.types.loadable_target_origin.LoadableTargetOrigin
"""

import os
import platform
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.events import JobFailureData
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from sqlalchemy.exc import SQLAlchemyError

from availability_pipeline import files, settings
from availability_pipeline.orchestration.instance.run_log import failure_reason, say_failed
from availability_pipeline.orchestration.partitions import DATES_TAG, dates_of

WHY = "its process vanished (killed, or the machine went down)"

# Dagster's prefix for what the UI does not show: they are for `vanished` alone.
HOST_TAG, PID_TAG = ".dagster/availability_host", ".dagster/availability_pid"
OLDER = {HOST_TAG: "availability/host", PID_TAG: "availability/pid"}
"""What they were called in 0.1."""

SWEEP_SECONDS = 5
"""How often a waiting CLI command looks whether the one before it is dead."""

_SLACK_SECONDS = 2  # the kernel's boot time is rounded to the second


_UNCAPTURED = {
    "compute_logs": {
        "module": NoOpComputeLogManager.__module__,
        "class": NoOpComputeLogManager.__name__,
    }
}


def opened(home: Path) -> dg.DagsterInstance:
    """The instance of a home, for a command: what its runs print stays on the command's terminal.

    Dagster copies a run's stdout and stderr for the UI, with four processes more. They inherit the
    signals that the command ignores: without SIGTERM (`trap '' TERM`) Dagster waited 60 s for two
    `tail` that never end and keep the command's output open. For what daemon and UI launch the
    copies stay: they have no terminal, and the last words of a run that crashed are of use.
    """
    with files.one_at_a_time(home):  # see `services.make_history`
        return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=_UNCAPTURED))


def own_tags() -> dict[str, str]:
    """Tags for a run that this process executes."""
    return {HOST_TAG: platform.node(), PID_TAG: str(os.getpid())}


def launch_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags for a run with these tags that daemon or UI launch: the host, and its dates.

    One that is executed again has its parent's tags. The parent's process, which a command of ours
    had noted, is not its own, and has ended.
    """
    ours = {HOST_TAG: platform.node()}
    if _tag(tags, PID_TAG):
        ours[PID_TAG] = ""
    if dates := dates_of(tags):
        ours[DATES_TAG] = dates
    return ours


def _tag(tags: Mapping[str, str], name: str) -> str | None:
    return tags[name] if name in tags else tags.get(OLDER[name])


def _is_pid(text: str) -> bool:
    return re.fullmatch("[1-9][0-9]{0,9}", text) is not None


def is_alive(pid: int, before: float) -> bool:
    """Whether the process is there and had started at `before` (seconds since 1970)."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        return process.create_time() <= before + _SLACK_SECONDS
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # another user's: `max_runtime_seconds` ends the run
        return True


def vanished(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the run's process is known to be gone; False when that is unknown."""
    record = instance.get_run_record_by_id(run_id)
    if record is None or _tag(record.dagster_run.tags, HOST_TAG) != platform.node():
        return False
    pid = _tag(record.dagster_run.tags, PID_TAG)
    if pid:
        if not _is_pid(pid):  # somebody else's tag
            return False
        return not is_alive(int(pid), record.create_timestamp.timestamp())
    # Launched by daemon or UI: the process says who it is in its first event.
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        data = entry.get_dagster_event().engine_event_data
        found = data.metadata.get("pid")
        if found is not None and _is_pid(str(found.value)):
            return not is_alive(int(str(found.value)), entry.timestamp)
    return False


def mark_vanished(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Mark a run whose process is gone as failed, unless another process just did."""
    now = instance.get_run_by_id(run.run_id)
    if now is None or now.is_finished:
        return
    instance.report_run_failed(run, WHY)
    if not isinstance(instance, WatchfulInstance):  # a `dagster.yaml` of 0.1
        say_failed(instance, run, WHY)


def fail_vanished(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs whose process is gone as failed and free their places; their ids."""
    started = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    running = instance.get_runs(dg.RunsFilter(statuses=started))
    gone = [run for run in running if vanished(instance, run.run_id)]
    for run in gone:
        mark_vanished(instance, run)
    # Also of runs that somebody else, the daemon, has marked meanwhile.
    log = instance.event_log_storage
    if log.supports_global_concurrency_limits:
        for run_id in log.get_concurrency_run_ids():
            waiting = instance.get_run_by_id(run_id)
            if waiting is None or (waiting.is_finished and vanished(instance, run_id)):
                log.free_concurrency_slots_for_run(run_id)
    return [run.run_id for run in gone]


@contextmanager
def watching(instance: dg.DagsterInstance) -> Iterator[None]:
    """Look for vanished runs at once and every `SWEEP_SECONDS`, while the body runs.

    A command that waits for its turn would otherwise wait for a dead one for ever where no
    daemon runs.
    """
    ended = threading.Event()

    def look() -> None:
        # A history that is busy for once is read again.
        with suppress(SQLAlchemyError):
            fail_vanished(instance)

    def sweep() -> None:
        while not ended.wait(SWEEP_SECONDS):
            look()

    look()
    thread = threading.Thread(target=sweep, name="vanished runs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class WatchfulRunLauncher(dg.DefaultRunLauncher):
    """Dagster's default launcher, which can also say whether a run's process is alive."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes; Dagster's default launcher cannot."""
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch as usual, and note on which host, and which dates."""
        run = context.dagster_run
        self._instance.add_run_tags(run.run_id, launch_tags(run.tags))
        super().launch_run(context)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """What run monitoring asks about each started run, the CLI's included."""
        if vanished(self._instance, run.run_id):
            # Marked here: run monitoring, which leaves alone a run whose status has just changed,
            # would make "Detected run worker status CheckRunHealthResult(…" of the reason.
            mark_vanished(self._instance, run)
            return CheckRunHealthResult(WorkerStatus.FAILED, WHY)
        return CheckRunHealthResult(WorkerStatus.RUNNING)


class WatchfulInstance(dg.DagsterInstance):
    """Dagster's instance, of which a run that was marked as failed from outside says why.

    Dagster puts the cause into an event before ("terminated by signal 9"), marks the run with
    "marked as failed from outside the execution context", and logs nothing where people read: the
    run, which would have written our log, is gone. Named in `dagster.yaml` (`instance_class`), it
    is the instance of every process: code server, daemon, webserver, commands.
    """

    @classmethod
    def config_schema(cls) -> dict[str, Any]:
        """Nothing of its own; Dagster asks."""
        return {}

    @classmethod
    def config_defaults(cls, base_dir: str) -> Mapping[str, Any]:
        """Dagster's own."""
        return InstanceRef.config_defaults(base_dir)

    def report_run_failed(
        self,
        dagster_run: dg.DagsterRun,
        message: str | None = None,
        job_failure_data: JobFailureData | None = None,
    ) -> dg.DagsterEvent:
        """Called by whoever notices that a run failed; never by the run's own steps.

        Code server, run monitoring and commands may notice it in the same moment, each in its
        process. The first one's reason stays.
        """
        with files.one_at_a_time(Path(self.root_directory)):
            if before := self._failure(dagster_run.run_id):
                return before
            why = message or _cause(self, dagster_run.run_id)
            event = super().report_run_failed(dagster_run, why, job_failure_data)
        say_failed(self, dagster_run, why or failure_reason(event))
        return event

    def _failure(self, run_id: str) -> dg.DagsterEvent | None:
        """What marked the run as failed, if it is."""
        run = self.get_run_by_id(run_id)
        if run is None or run.status != dg.DagsterRunStatus.FAILURE:
            return None
        marks = self.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        return marks[-1].get_dagster_event() if marks else None

    def create_run_for_job(
        self, job_def: dg.JobDefinition, *args: Any, **kwargs: Any
    ) -> dg.DagsterRun:
        """Called for a run of this process, as a command's; those of daemon and UI have an origin.

        Without one, the UI's *Re-execute* does not know whose job it was, and fails.
        """
        kwargs["remote_job_origin"] = kwargs.get("remote_job_origin") or _origin(job_def.name)
        return super().create_run_for_job(job_def, *args, **kwargs)


def _origin(job: str) -> RemoteJobOrigin:
    """Where daemon and UI find a job of ours: the names that `workspace.yaml` leads to."""
    name = settings.DEFINITIONS
    module = LoadableTargetOrigin(executable_path=sys.executable, module_name=name)
    location = ManagedGrpcPythonEnvCodeLocationOrigin(module, name)
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME), job)


_DIED = re.compile(r"was terminated by signal (?P<number>\d+) \((?P<name>\w+)\)")
_EXITED = re.compile(r"unexpectedly exited with code (?P<code>\d+)")


def _cause(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Why a run was marked as failed, from the event that Dagster reported just before."""
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    if not entries:
        return None
    event = entries[-1].get_dagster_event()
    said = event.message or ""
    if found := _DIED.search(said):
        why = f"its process was killed by {found['name']} ({found['number']})"
        # The kernel ends with SIGKILL what takes the memory; Dagster says so of SIGTERM.
        return f"{why}, by hand or for want of memory" if found["name"] == "SIGKILL" else why
    if found := _EXITED.search(said):
        return f"its process ended with exit code {found['code']}"
    error = event.engine_event_data.error
    if error is None:
        return None
    reason = (error.cause or error).message
    return " ".join((reason if said in reason else f"{said.rstrip('.')}: {reason}").split())[:1000]
