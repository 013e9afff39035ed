"""Dagster: the only package that imports it.

Assets, checks, schedules and sensors hand over to the other packages; `code_location` assembles
them. `mirrored` is the mirror's graph and `executors` where it runs, `volumes` reads daily volume
and ranks, `launch` runs a probe from this process, `processes` keeps UI and daemon running. What
needs Dagster's private parts is in `instance`.
"""

__all__ = [
    "assets",
    "beta",
    "checks",
    "code_location",
    "executors",
    "instance",
    "launch",
    "mirrored",
    "outcomes",
    "partitions",
    "probes",
    "processes",
    "resources",
    "runs",
    "schedules",
    "sensors",
    "services",
    "volumes",
]
