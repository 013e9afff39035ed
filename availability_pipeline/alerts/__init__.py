"""Messages about what failed and what is well again: when, what, to whom.

`rules` decides and words them, `outbox` keeps what is not delivered yet, `delivery` is the only
module that knows Apprise. Dagster's sensor is in `orchestration`.
"""

__all__ = ["delivery", "outbox", "rules"]
