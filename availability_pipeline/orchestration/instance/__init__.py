"""What `dagster.yaml` names, and other code that stands on private parts of Dagster.

Each module says which parts, and has a test that fails where they are gone.
"""

__all__ = ["event_log", "launcher", "retention", "run_log", "webserver"]
