"""The whole pipeline on a sample archive served from this machine.

What belongs here: the sample and the order of events; what is shown, the pipeline makes.
"""

__all__ = ["archive", "run"]
