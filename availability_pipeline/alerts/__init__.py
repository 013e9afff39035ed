"""Messages about what failed and what is well again: when, what, to whom.

`rules` decides and words them, `outbox` keeps what is not delivered yet, `journal` what is being
sent, `delivery` is the only module that knows Apprise. Dagster's sensor is in `orchestration`.
"""

__all__ = ["delivery", "journal", "outbox", "rules"]
