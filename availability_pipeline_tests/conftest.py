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

SLOW = (
    # They start the daemon, the UI, a browser, a server or many commands.
    "test_cli.py",
    "test_demo.py",
    "test_browser.py",
    "test_daemon.py",
    "test_vanished.py",
    "test_interrupts.py",
    "test_background.py",
    "test_dagster_commands.py",
    "test_dagster_storage.py",
    "test_webserver.py",
    "test_hostile_folder.py",
    "test_postgres.py",
    "test_report_browser.py",
    "test_deploy.py::test_what_is_built_is_what_a_package_index_takes",
    "test_deploy.py::test_an_installation_brings_what_a_home_needs",
    "test_deploy.py::test_the_former_name_starts_the_same_program",
    "test_deploy.py::test_a_reader_has_no_pipeline",
    "test_deploy.py::test_a_reader_asks_exports_and_backs_up",
    "test_deploy.py::test_every_other_command_says_in_one_line_what_a_reader_lacks",
    "test_deploy.py::test_alerts_that_a_reader_cannot_send_are_refused_in_one_line",
    "test_deploy.py::test_a_readers_python_has_the_same_answers_with_an_earlier_pandas",
    "test_deploy.py::test_an_installation_updates_without_a_checkout",
    "test_deploy.py::test_an_installation_runs_ui_and_daemon_without_a_checkout_and_without_make",
    "test_commands.py",
    "test_definitions.py::test_a_bad_setting_is_one_line_where_the_definitions_are_loaded",
    "test_layers.py::test_importing_touches_neither_network_nor_disk",
    "test_alert_targets.py::"
    "test_a_hanging_target_and_an_endless_answer_keep_nothing_from_the_others",
    "test_alert_targets.py::test_a_target_that_takes_five_seconds_gets_the_message_once",
    # They live for months, or try again and again.
    "test_simulation.py",
    "test_soak.py",
    "test_faults.py",
    "test_benchmarks.py::test_a_benchmark_runs_and_prints_its_table",
    "test_model.py::test_thousands_of_random_steps_lead_to_the_answers_of_the_model",
    "test_model.py::test_random_runs_through_dagster_lead_to_the_answers_of_the_model",
    "test_store.py::test_a_writer_gets_its_turn_among_readers_that_never_pause",
    # Dozens of Dagster runs, or of processes.
    "test_alerts.py",
    "test_publish.py",
    "test_history.py",
    "test_logs.py",
    "test_export.py",
    "test_backup.py",
    "test_restore.py",
)
"""What `make test-quick` leaves out: files, or tests of them. `pytest --durations=40` says which
are worth it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and begin with it: a worker takes a file after another."""
    files = {name.partition("::")[0] for name in SLOW}
    for item in items:
        name = f"{Path(item.path).name}::{getattr(item, 'originalname', item.name)}"
        if name in SLOW or Path(item.path).name in SLOW:
            item.add_marker("slow")
    items.sort(key=lambda item: Path(item.path).name not in files)
