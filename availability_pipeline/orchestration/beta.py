"""Dagster's beta features that we use; imported before Dagster itself."""

import warnings


def without_beta_warnings() -> None:
    """Say nothing about what Dagster calls beta: it is ours to know, not the user's.

    Call it before the first import of Dagster. Our one-run ranges are
    `BackfillPolicy.single_run()`, and the log is `python_logs` in dagster.yaml.
    """
    for message in ("Parameter `backfill_policy` of", ".*Handling yaml-defined logging"):
        warnings.filterwarnings("ignore", message=message)
