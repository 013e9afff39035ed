"""What all tests share: what they need, which of them are slow, and no rule about time."""

from pathlib import Path

import hypothesis
import pytest

from availability_pipeline_tests.requirements import (
    pytest_addoption,
    pytest_configure,
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_runtest_setup,
)

__all__ = [
    "pytest_addoption",
    "pytest_configure",
    "pytest_make_collect_report",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
]

# A busy machine is no fault of the code.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")

SLOW = {}
"""What `make test-quick` leaves out: files, or tests of them. `pytest --durations=40` says which
are worth it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        file = Path(item.path).name
        name = f"{file}::{getattr(item, 'originalname', item.name)}"
        if file in SLOW or name in SLOW:
            item.add_marker("slow")
