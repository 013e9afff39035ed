"""The public archive: which datasets it has, how its keys are spelt, and listing them.

`datasets` is pure; `listing` asks the bucket, whole or not at all; `discovery` compares the two.
Nothing is stored here, and nothing is known of a database.
"""

__all__ = ["datasets", "deadlines", "discovery", "listing"]
