"""What should hold of the record: rules as pure functions, and the numbers they judge.

`rules` decides what counts as kept, `checks` fetches the numbers, `exchange` asks the exchange,
`days` tells what a date is as a whole.
Dagster's checks, `status` and `slo` all take their verdicts from here.
"""

__all__ = ["acknowledgements", "checks", "days", "exchange", "rules"]
