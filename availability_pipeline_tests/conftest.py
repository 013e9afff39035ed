"""What all tests share: what they need, which of them are slow, and no rule about time."""

from pathlib import Path

import hypothesis
import pytest

from availability_pipeline_tests.support import requirements
from availability_pipeline_tests.support.requirements import (
    pytest_configure,
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_runtest_setup,
)

__all__ = [
    "pytest_configure",
    "pytest_make_collect_report",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    requirements.pytest_addoption(parser)
    parser.addoption(
        "--walks", type=int, default=4, help="how many random walks record/test_model.py takes"
    )


# A busy machine is no fault of the code.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")

SLOW = (
    # They start the daemon, the UI, a browser, a server or many commands.
    "cli/test_cli.py",
    "cli/test_cli_query.py",
    "cli/test_terminal.py",
    "demo/test_demo.py",
    "demo/test_ui.py",
    "system/test_daemon.py",
    "system/test_celery.py",
    "orchestration/test_launcher.py",
    "orchestration/test_interrupts.py",
    "orchestration/test_processes.py",
    "system/test_dagster_commands.py",
    "orchestration/test_event_log.py",
    "orchestration/test_webserver.py",
    "orchestration/test_services.py",
    "orchestration/test_runs.py",
    "archive/test_deadlines.py::test_a_listing_ends_though_the_server_drips",
    "test_files.py::test_what_is_kept_is_private_and_what_is_published_is_readable",
    "system/test_security.py::test_no_secret_reaches_history_logs_or_output_of_a_failing_update",
    "copies/test_hostile_folder.py",
    "system/test_postgres.py",
    "system/test_mutants.py::test_the_command_says_which_test_noticed_each_change",
    "report/test_report_browser.py",
    "system/test_register_site.py",
    "system/test_deploy.py::test_what_is_built_is_what_a_package_index_takes",
    "system/test_deploy.py::test_an_installation_brings_what_a_home_needs",
    "system/test_deploy.py::test_the_former_name_starts_the_same_program",
    "system/test_deploy.py::test_a_reader_has_no_pipeline",
    "system/test_deploy.py::test_a_reader_asks_exports_and_backs_up",
    "system/test_deploy.py::test_every_other_command_says_in_one_line_what_a_reader_lacks",
    "system/test_deploy.py::test_a_readers_python_has_the_same_answers_with_an_earlier_pandas",
    "system/test_deploy.py::test_an_installation_updates_without_a_checkout",
    "system/test_deploy.py::"
    "test_an_installation_runs_ui_and_daemon_without_a_checkout_and_without_make",
    "orchestration/test_definitions.py::"
    "test_a_bad_setting_is_one_line_where_the_definitions_are_loaded",
    "system/test_house.py::test_importing_touches_neither_network_nor_disk",
    "docs/test_docs.py::test_the_architecture_page_draws_the_imports_and_walks_as_they_are",
    "docs/test_site.py",
    "docs/test_contributing.py",
    "docs/test_query_page.py",
    "alerts/test_delivery.py::"
    "test_a_hanging_target_and_an_endless_answer_keep_nothing_from_the_others",
    "alerts/test_delivery.py::test_a_target_that_takes_five_seconds_gets_the_message_once",
    "archive/test_deadlines.py::test_the_cross_check_ends_though_the_exchange_drips",
    "archive/test_hostile_pages.py::test_a_body_that_drips_is_left_after_some_timeouts",
    "alerts/test_journal.py::test_a_killed_evaluation_leaves_a_whole_account_of_what_was_taken",
    "docs/test_troubleshoot.py::test_the_words_are_those_of_the_package",
    "report/test_report.py",
    "test_predecessor.py::test_what_the_guide_said_is_done_here",
    # They live for months, or try again and again.
    "orchestration/test_outage.py",
    "queries/test_queries.py::test_answers_are_those_of_a_naive_model_whatever_the_history",
    "orchestration/test_simulation.py",
    "system/test_soak.py",
    "system/test_faults.py",
    "system/test_benchmarks.py",
    # Dozens of Dagster runs, or of processes.
    "orchestration/test_sensors.py",
    "orchestration/test_publish.py",
    "orchestration/test_history.py",
    "orchestration/test_logs.py",
    "copies/test_export.py",
    "copies/test_backup.py",
    "copies/test_restore.py",
    # Half a second a test, or five seconds a file, on an idle machine.
    "system/test_register_workflow.py",
    "record/test_foreign_catalog.py",
    "quality/test_datasets.py",
    "mirror/test_verify.py",
    "mirror/test_download.py",
    "cli/test_cli_publish.py",
    "cli/test_cli_volume.py",
    "archive/test_any_dataset.py",
    "cli/test_operate.py",
    "copies/test_follow.py",
    "copies/test_publish.py",
    "system/test_snippets.py",
    "copies/test_several.py",
    "copies/test_standing.py",
    "mirror/test_volume.py",
    "orchestration/test_mirrored.py",
    "orchestration/test_pipeline.py",
    "orchestration/test_several_datasets.py",
    "orchestration/test_volumes.py",
    "queries/test_as_of.py",
    "queries/test_examples.py",
    "queries/test_frames.py",
    "queries/test_plan.py",
    "queries/test_rankings.py",
    "queries/test_revisions.py",
    "queries/test_top.py",
    "record/test_connection.py",
    "record/test_derived.py",
    "record/test_left_out.py",
    "record/test_migrations.py",
    "record/test_model.py",
    "record/test_outputs.py",
    "record/test_record_threads.py",
    "record/test_storage_format.py",
    "record/test_write.py",
    "report/test_datasets.py",
    "report/test_notebook.py",
    "system/test_requirements.py",
    "test_validation.py",
    "orchestration/test_checks.py::test_a_check_of_the_record_passes_warns_and_fails",
    "copies/test_pages.py::test_the_duckdb_example_reads_the_parquet_files_over_http",
    "queries/test_datasets.py::test_so_is_the_report",
    "test_files.py::test_a_lock_is_not_taken_through_a_link_and_empties_nothing",
    "test_files.py::test_a_lock_that_is_a_second_name_of_a_file_leaves_it_alone",
    "archive/test_datasets.py::test_the_address_in_sql_is_the_one_in_python",
    "archive/test_discovery.py::test_any_part_of_the_archive_is_found_and_the_rest_is_missing",
    "archive/test_discovery.py::"
    "test_what_is_configured_and_not_there_is_missing_though_it_is_not_in_the_catalogue",
    "archive/test_discovery.py::test_what_the_archive_has_and_the_catalogue_has_not_is_unknown",
    "demo/test_sample_archive.py::test_later_files_replace_and_removed_ones_vanish",
    "demo/test_sample_archive.py::test_our_listing_reads_every_file_and_passes_over_the_junk",
    "demo/test_sample_archive.py::"
    "test_the_download_host_has_them_with_their_checksums_and_nothing_else",
    "queries/test_datasets.py::test_a_question_about_one_is_answered_from_it_alone",
    "report/test_volumes.py::"
    "test_of_several_datasets_the_page_of_the_source_shows_it_and_the_overview_leads_there",
    "report/test_volumes.py::test_the_page_and_the_pictures_show_both",
    "report/test_volumes.py::test_without_volumes_the_report_is_as_before",
    "system/test_deploy.py::test_a_run_history_is_not_passed_over_where_dagster_is_missing",
    "system/test_security.py::test_a_matrix_goes_to_a_path_of_quotes_and_sql",
    "test_files.py::test_an_export_writes_and_removes_nothing_behind_a_link",
    "test_files.py::"
    "test_what_a_service_starts_keeps_its_files_private_and_imports_from_nowhere_else",
    "test_tables.py::test_no_text_is_lost_and_no_line_is_too_wide_where_it_can_be_helped",
)
"""What `make test-quick` leaves out, to take less than two minutes on two cores: files, or tests of
them. `pytest --durations=40` says which are worth it. Who works on a room runs its folder, too."""


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
