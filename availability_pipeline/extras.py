"""What an installation may lack: an extra or, where only the record is read, the whole pipeline.

Which extra brings what, and the line that says what is missing. Imports nothing that
may be missing.
"""

from collections.abc import Mapping
from importlib.util import find_spec

from availability_pipeline import PROGRAM

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "report": ("matplotlib", "plotly"),
    "alerts": ("apprise",),
    "demo": ("moto",),
    "celery": ("dagster_celery", "redis"),
    "k8s": ("dagster_k8s",),
}
"""What each extra brings that is imported only where it is used."""


class MissingExtraError(ModuleNotFoundError):
    """An extra is not installed; the text is one line with the remedy."""


def missing(extra: str) -> str:
    """One line on what the extra lacks here, with the remedy; empty where it is installed."""
    lacking = next((name for name in EXTRAS[extra] if find_spec(name) is None), None)
    return said(lacking) if lacking else ""


def require(extra: str) -> None:
    """Find out before any work is done that would be lost.

    Raises:
        MissingExtraError: it is not installed.
    """
    if line := missing(extra):
        raise MissingExtraError(line)


def require_library(module: str) -> None:
    """See that a library is there that no extra brings: who wants its kind of answer has it.

    With pyarrow installed, pandas 3 keeps texts in another way, so it is not for everybody.

    Raises:
        MissingExtraError: it is not installed.
    """
    if find_spec(module) is None:
        raise MissingExtraError(
            f"this needs {module}, which is not installed; pip install {module}"
        )


def said(module: str) -> str:
    """One line: that this module is missing, and what installs it."""
    module = module.partition(".")[0]
    extra = next((name for name, modules in EXTRAS.items() if module in modules), None)
    if extra:
        return f"this needs {module}, which is not installed; pip install '{PROGRAM}[{extra}]'"
    return f"this needs the pipeline, of which {module} is not installed; pip install {PROGRAM}"
