"""Which files exist in Binance's public archive, kept by a Dagster pipeline.

Nothing is imported here, so that `import availability_pipeline.queries` costs no Dagster.
"""

PROGRAM = "binance-availability"
"""The program, and the distribution that brings it, as every message calls them."""

__version__ = "0.2.0"
