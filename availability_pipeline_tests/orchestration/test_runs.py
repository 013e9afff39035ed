"""Runs as the UI's list shows them: their dates, their turn, and how one that is canceled ends."""

import datetime as dt
import shutil
from pathlib import Path

import pytest
from dagster._core.storage.tags import TagType, get_tag_type

from availability_pipeline.orchestration.instance.launcher import (
    HOST_TAG,
    PID_TAG,
    launch_tags,
    own_tags,
)
from availability_pipeline.orchestration.partitions import dates_of, range_tags
from availability_pipeline.orchestration.schedules import (
    daily_update_schedule,
    full_reconcile_schedule,
    late_arrivals_schedule,
)
from availability_pipeline_tests.support.gate import PATIENT, gate
from availability_pipeline_tests.support.helpers import D, days
from availability_pipeline_tests.support.receiver import receiving
from availability_pipeline_tests.support.s3 import local_archive
from availability_pipeline_tests.support.ui import BACKFILL, END, START, Ui
from availability_pipeline_tests.support.world import tick

ROOT = Path(__file__).parents[2]
RUNS = """{ runsOrError { ... on Runs { results { runId status startTime
  tags { key value } } } } }"""
LAUNCH = """mutation($tags: [ExecutionTag!]) { launchRun(executionParams: {
    selector: {repositoryLocationName: "availability_pipeline.definitions",
      repositoryName: "__repository__", jobName: "__ASSET_JOB",
      assetSelection: [{path: ["um", "klines", "daily_availability"]}, {path: ["symbol_spans"]},
        {path: ["daily_summary"]}]},
    runConfigData: {}, executionMetadata: {tags: $tags}}) {
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TICK = """{ sensorOrError(sensorSelector: {sensorName: "alert_sensor",
  repositoryName: "__repository__", repositoryLocationName: "availability_pipeline.definitions"})
  { ... on Sensor { sensorState { ticks(limit: 1) { timestamp } } } } }"""
AGAIN = """mutation($id: String!, $strategy: ReexecutionStrategy!) {
  launchRunReexecution(reexecutionParams: {parentRunId: $id, strategy: $strategy}) {
    __typename ... on PythonError { message } } }"""
TERMINATE = """mutation($id: String!) { terminateRun(runId: $id) { __typename } }"""


def launch(ui, tags):
    tags = [{"key": key, "value": value} for key, value in tags.items()]
    # The UI answers before it has loaded the code location, and then does not know the job.
    return ui.wait(lambda answer: answer["launchRun"].get("run"), LAUNCH, tags=tags)["runId"]


def runs_of(answer):
    """Each run's id, status, start and visible tags, the oldest first."""
    return [
        (r["runId"], r["status"], r["startTime"], {t["key"]: t["value"] for t in r["tags"]})
        for r in reversed(answer["runsOrError"]["results"])
    ]


def last_tick(answer):
    return max((t["timestamp"] for t in answer["sensorOrError"]["sensorState"]["ticks"]), default=0)


def test_runs_of_every_way_say_their_dates_and_scheduled_ones_go_first(tmp_path):
    """Also: what a user cancels is neither an error in the log nor an alert."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    apart = [END - dt.timedelta(n) for n in (3, 7, 12)]
    with local_archive() as archive, gate(archive.endpoint) as door, receiving() as receiver:
        archive.put("BTCUSDT", days(START, END))
        ui = Ui(tmp_path, door.endpoint, receiver.url, AVAILABILITY_ARCHIVE_RUNS="1", **PATIENT)
        try:
            ui.wait(lambda state: state)
            first = launch(ui, range_tags(START, END) | {"dates": "written by hand"})
            ui.wait(lambda _: door.waiting.is_set())
            params = {
                "partitionNames": [d.isoformat() for d in apart], "title": "apart", "tags": [],
                "assetSelection": [{"path": ["um", "klines", "daily_availability"]}],
            }  # fmt: skip
            ui.ask(BACKFILL, params=params)
            ui.wait(lambda state: len(runs_of(state)) == 4, RUNS)
            now = dt.datetime.now(dt.UTC)
            request = tick(daily_update_schedule, now.year, now.month, now.day, 2)
            scheduled = launch(ui, request.tags)
            ui.ask(TERMINATE, id=first)
            door.open.set()
            found = runs_of(
                ui.wait(
                    lambda state: state if [r[1] for r in runs_of(state)].count("SUCCESS") == 4
                    else None,
                    RUNS,
                )
            )  # fmt: skip
            # The sensor has seen how they ended.
            ended = dt.datetime.now(dt.UTC).timestamp()
            ui.wait(lambda state: last_tick(state) > ended, TICK)
            assert ui.update() == 0
            [by_command] = [r for r in runs_of(ui.ask(RUNS)) if r not in found]
        finally:
            ui.stop()
    statuses = {run_id: status for run_id, status, _, _ in found}
    assert statuses.pop(first) == "CANCELED"
    order = [run_id for run_id, _, _, _ in sorted(found, key=lambda run: run[2])]
    assert order[:2] == [first, scheduled], "the three of the backfill were there before it"
    shown = [tags.get("dates") for _, _, _, tags in [*found, by_command]]
    assert shown[:1] == [f"{START} to {END}"]
    assert sorted(shown[1:]) == sorted(d.isoformat() for d in [*apart, END, END])
    for _, _, _, tags in [*found, by_command]:
        assert not {key for key in tags if "host" in key or "pid" in key}
    log = (tmp_path / "log" / "availability.log").read_text()
    assert "ERROR" not in log, log
    assert f"canceled (run {first[:8]})" in log
    assert receiver.log == []


@pytest.mark.parametrize(
    ("tags", "dates"),
    [
        (range_tags(D(2024, 1, 1), D(2024, 1, 31)), "2024-01-01 to 2024-01-31"),
        (range_tags(D(2024, 1, 1), D(2024, 1, 1)), "2024-01-01"),
        ({"dagster/partition": "2024-01-05"}, "2024-01-05"),
    ],
)
def test_a_run_is_launched_with_its_dates(tags, dates):
    assert launch_tags(tags)["dates"] == dates_of(tags) == dates


def test_runs_that_a_command_made_can_be_executed_again_in_the_ui(tmp_path):
    """They failed: a run of a command did not say whose job it was."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with local_archive() as archive:
        archive.put("BTCUSDT", days(START, END))
        ui = Ui(tmp_path, archive.endpoint)
        try:
            ui.wait(lambda state: state)
            assert ui.update(AVAILABILITY_S3_ENDPOINT="http://127.0.0.1:9") == 1
            assert ui.update() == 0
            failed, good = (run_id for run_id, *_ in runs_of(ui.ask(RUNS)))
            for run_id, strategy in ((failed, "FROM_FAILURE"), (good, "ALL_STEPS")):
                answer = ui.ask(AGAIN, id=run_id, strategy=strategy)["launchRunReexecution"]
                assert answer["__typename"] == "LaunchRunSuccess", answer
            found = runs_of(
                ui.wait(
                    lambda state: state if [r[1] for r in runs_of(state)].count("SUCCESS") == 3
                    else None,
                    RUNS,
                )
            )  # fmt: skip
        finally:
            ui.stop()
    assert [status for _, status, _, _ in found] == ["FAILURE", *["SUCCESS"] * 3]
    assert [tags["dates"] for _, _, _, tags in found] == [str(END)] * 4


def test_a_run_without_dates_says_none():
    assert "dates" not in launch_tags({})
    assert "dates" not in launch_tags({"dagster/partition": "a-partition-of-another-asset"})


@pytest.mark.parametrize("older", ["availability/pid", PID_TAG])
def test_a_run_executed_again_is_not_taken_for_the_process_of_its_parent(older):
    """It has its parent's tags; the command that executed that has ended."""
    tags = launch_tags({older: "123", "dagster/partition": "2024-01-05"})
    assert tags[PID_TAG] == ""


def test_what_only_we_look_for_is_hidden():
    assert {get_tag_type(name) for name in own_tags()} == {TagType.HIDDEN}
    assert get_tag_type(HOST_TAG) == TagType.HIDDEN


@pytest.mark.parametrize(
    ("schedule", "dates"),
    [
        (daily_update_schedule, "2024-03-02"),
        (late_arrivals_schedule, "2024-02-12 to 2024-03-02"),
        (full_reconcile_schedule, "2019-09-25 to 2024-03-02"),
    ],
)
def test_a_scheduled_run_says_its_dates_while_it_waits_and_goes_first(schedule, dates):
    tags = tick(schedule, 2024, 3, 3, 9).tags
    assert (tags["dates"], tags["dagster/priority"]) == (dates, "10")
