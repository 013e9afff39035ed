"""What all tests share: what they need, which of them are slow, and no rule about time."""

from pathlib import Path

import hypothesis
import pytest

from availability_pipeline_tests.support.requirements import (
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
    "cli/test_cli.py",
    "cli/test_terminal.py",
    "demo/test_demo.py",
    "system/test_browser.py",
    "system/test_daemon.py",
    "orchestration/test_launcher.py",
    "orchestration/test_interrupts.py",
    "orchestration/test_processes.py",
    "system/test_dagster_commands.py",
    "orchestration/test_event_log.py",
    "orchestration/test_webserver.py",
    "copies/test_hostile_folder.py",
    "system/test_postgres.py",
    "report/test_report_browser.py",
    "system/test_deploy.py::test_what_is_built_is_what_a_package_index_takes",
    "system/test_deploy.py::test_an_installation_brings_what_a_home_needs",
    "system/test_deploy.py::test_the_former_name_starts_the_same_program",
    "system/test_deploy.py::test_a_reader_has_no_pipeline",
    "system/test_deploy.py::test_a_reader_asks_exports_and_backs_up",
    "system/test_deploy.py::test_every_other_command_says_in_one_line_what_a_reader_lacks",
    "system/test_deploy.py::test_a_readers_python_has_the_same_answers_with_an_earlier_pandas",
    "system/test_deploy.py::test_an_installation_updates_without_a_checkout",
    "system/test_deploy.py::test_an_installation_runs_ui_and_daemon_without_a_checkout_and_without_make",
    "cli/test_commands.py",
    "orchestration/test_definitions.py::test_a_bad_setting_is_one_line_where_the_definitions_are_loaded",
    "system/test_house.py::test_importing_touches_neither_network_nor_disk",
    "docs/test_docs.py::test_the_architecture_page_draws_the_imports_and_walks_as_they_are",
    "docs/test_site.py",
    "docs/test_contributing.py",
    "alerts/test_delivery.py::"
    "test_a_hanging_target_and_an_endless_answer_keep_nothing_from_the_others",
    "alerts/test_delivery.py::test_a_target_that_takes_five_seconds_gets_the_message_once",
    # They live for months, or try again and again.
    "orchestration/test_simulation.py",
    "system/test_soak.py",
    "system/test_faults.py",
    "system/test_benchmarks.py::test_a_benchmark_runs_and_prints_its_table",
    "record/test_model.py::test_thousands_of_random_steps_lead_to_the_answers_of_the_model",
    "record/test_model.py::test_random_runs_through_dagster_lead_to_the_answers_of_the_model",
    "record/test_write.py::test_a_writer_gets_its_turn_among_readers_that_never_pause",
    # Dozens of Dagster runs, or of processes.
    "orchestration/test_sensors.py",
    "orchestration/test_publish.py",
    "orchestration/test_history.py",
    "orchestration/test_logs.py",
    "copies/test_export.py",
    "copies/test_backup.py",
    "copies/test_restore.py",
)
"""What `make test-quick` leaves out: files, or tests of them. `pytest --durations=40` says which
are worth it."""


def where(item: pytest.Item) -> str:
    return Path(item.path).relative_to(Path(__file__).parent).as_posix()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and begin with it: a worker takes a file after another."""
    files = {name.partition("::")[0] for name in SLOW}
    for item in items:
        name = f"{where(item)}::{getattr(item, 'originalname', item.name)}"
        if name in SLOW or where(item) in SLOW:
            item.add_marker("slow")
    items.sort(key=lambda item: where(item) not in files)
