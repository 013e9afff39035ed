"""What `dagster.yaml` names, and other code that stands on private parts of Dagster.

Each module lists under *Stands on* what it imports, extends or replaces of them;
`system/test_house.py` fails where one is gone, or is not listed, or is imported elsewhere.
"""

__all__ = [
    "event_log",
    "launcher",
    "materialisations",
    "pools",
    "retention",
    "run_log",
    "ticks",
    "webserver",
]
