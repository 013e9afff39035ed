"""Where the parts of a mirror run are executed: AVAILABILITY_EXECUTOR.

Only those of `mirrored_files`: all other work is on the one file of the record, and a process for
each of its steps costs 2.8 s more a run. On Celery a step that needs the record has the queue
RECORD, which only workers on the record's machine listen to.

What a worker that is killed had begun must be given to another one. Celery's default says that a
task is done when it is begun, and the run would wait for it for ever: so it is said when it ends
(`task_acks_late`), and after VISIBLE_SECONDS without that redis gives it to the next worker.
"""

from typing import Any

import dagster as dg

from availability_pipeline import extras, settings

RECORD = "availability-record"
"""The Celery queue of the steps that read the record."""

ON_RECORD = {"dagster-celery/queue": RECORD}
"""The tag of such a step."""

VISIBLE_SECONDS = 3600
"""A chunk takes a minute or, where files are large, some; twice at once would fetch it twice."""

CELERY: dict[str, Any] = {
    # Read where the run and the workers begin, so that no configuration holds a password.
    "broker": {"env": "AVAILABILITY_CELERY_BROKER"},
    "backend": {"env": "AVAILABILITY_CELERY_BACKEND"},
    "config_source": {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "broker_transport_options": {"visibility_timeout": VISIBLE_SECONDS},
    },
}
"""The configuration of Dagster's Celery executor; deploy/celery/worker.yaml has the same."""

_WITHOUT_RECORD = {
    "container_config": {"volume_mounts": []},
    "pod_spec_config": {"volumes": []},
    "merge_behavior": "SHALLOW",
}

K8S: dict[str, Any] = {
    # Image, environment and volumes of a step's pod are those of its run's pod, but for the volume
    # of the record, which may be on one node only.
    "per_step_k8s_config": {"fetch_chunk": _WITHOUT_RECORD, "collect_chunks": _WITHOUT_RECORD},
    # All 500 pods at once otherwise.
    "max_concurrent": 10,
}
"""The configuration of Dagster's Kubernetes executor; deploy/k8s/values.yaml has the rest."""


def of_mirror(configured: settings.Settings) -> dg.ExecutorDefinition:
    """The executor of the mirror's job.

    Raises:
        SettingsError: its extra is not installed, or a setting is missing; one line.
    """
    name = configured.executor
    if name == "in_process":
        return dg.in_process_executor
    if name == "multiprocess":
        return dg.multiprocess_executor
    if line := extras.missing(name):
        raise settings.bad("AVAILABILITY_EXECUTOR", name, line)
    if name == "k8s":
        from dagster_k8s import k8s_job_executor

        return k8s_job_executor.configured(K8S, name="k8s")
    for missing in ("celery_broker", "celery_backend"):
        if getattr(configured, missing) is None:
            raise settings.bad(
                "AVAILABILITY_EXECUTOR",
                name,
                f"needs AVAILABILITY_{missing.upper()}, as redis://host:6379/0",
            )
    from dagster_celery import celery_executor

    return celery_executor.configured(CELERY, name="celery")
