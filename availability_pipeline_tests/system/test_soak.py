"""A minute of deaths and faults: the record ends up right, and what happened was told once.

If this fails, an installation that is left alone would be wrong, silent or noisy after a bad day.
`python -m benchmarks.soak` is the same for an hour.
"""

import datetime as dt

import dagster as dg
import pytest

from availability_pipeline.orchestration.schedules import schedules
from availability_pipeline.settings import Settings
from availability_pipeline_tests.support.helpers import PATIENCE
from availability_pipeline_tests.support.receiver import Receiver
from benchmarks import soak, soak_archive
from benchmarks.soak_tree import CLOCK, DAY


def test_after_deaths_faults_and_steps_of_the_clock_everything_is_as_it_should_be(tmp_path, capfd):
    # The grace is for an idle machine; here only what stays wrong counts.
    outcome = soak.Soak(tmp_path, seed=3, minutes=0.75, grace=PATIENCE, short=True).run()
    assert sum(outcome.done.values()) > 3
    wrong = {what: found for what, found in outcome.verdicts.items() if found}
    assert not wrong, capfd.readouterr().out[-5000:]
    assert len(outcome.verdicts) == 7


@pytest.fixture
def definitions(tmp_path, monkeypatch):
    monkeypatch.setenv(DAY, "4")
    monkeypatch.setenv(CLOCK, str(tmp_path / "clock"))
    from benchmarks import soak_definitions

    return soak_definitions


def test_the_soak_s_schedules_are_the_default_ones_at_other_times(definitions):
    defs = definitions._build()
    sped_up = {one.name: one for one in defs.schedules}
    real = {one.name: one for one in schedules(Settings())}
    del real["catalogue_schedule"]  # the soak's archive has no other folders
    assert sped_up.keys() == real.keys()
    at = dt.datetime(2024, 3, 5, 12, tzinfo=dt.UTC)
    for name, one in sped_up.items():
        asked = [
            schedule.evaluate_tick(
                dg.build_schedule_context(
                    scheduled_execution_time=at, repository_def=defs.get_repository_def()
                )
            ).run_requests
            for schedule in (one, real[name])
        ]
        assert [r.tags for r in asked[0]] == [r.tags for r in asked[1]], name
        assert one.job_name == real[name].job_name
        assert one.cron_schedule != real[name].cron_schedule
        assert one.default_status == real[name].default_status


def test_the_soak_s_clock_errs_as_its_file_says(tmp_path, definitions):
    clock = definitions.ErringClock(tmp_path / "clock")
    assert abs(clock.now() - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=30)
    (tmp_path / "clock").write_text("-86400")
    off = clock.now() - dt.datetime.now(dt.UTC)
    assert dt.timedelta(hours=-25) < off < dt.timedelta(hours=-23)


def told(*messages):
    receiver = Receiver(1)
    receiver.log = [{"title": title, "message": body} for title, body in messages]
    receiver.at = [100.0 * n for n in range(len(messages))]
    return receiver


def failed_run(instance, job="publish"):
    @dg.op
    def fails():
        raise ValueError

    graph = dg.GraphDefinition(name=job, node_defs=[fails])
    return graph.to_job().execute_in_process(instance=instance, raise_on_error=False).run_id


def good_run(instance, job="publish"):
    @dg.op
    def works():
        pass

    graph = dg.GraphDefinition(name=job, node_defs=[works])
    return graph.to_job().execute_in_process(instance=instance).run_id


def test_the_judge_of_alerts_sees_what_came_twice_late_or_never():
    """It is the judge of all the rest; it gets cases worked out by hand."""
    with dg.DagsterInstance.ephemeral() as instance:
        first, second = failed_run(instance), failed_run(instance)
        good = good_run(instance)
        failed = ("publish failed", f"What: a run failed\nRun: {first}")
        recovered = ("publish recovered", f"What: it succeeded, after 2 failures\nRun: {good}")
        assert soak.alerts_wrong(instance, [told(failed, recovered)] * 2, []) == []
        [twice] = soak.alerts_wrong(instance, [told(failed, failed, recovered)], [])
        assert twice == "target 1 was told twice: publish failed"
        # The process that sends was killed two seconds after the first one came.
        assert soak.alerts_wrong(instance, [told(failed, failed, recovered)], [2.0]) == []
        assert "recovered before it failed" in str(
            soak.alerts_wrong(instance, [told(recovered, failed)], [])
        )
        fewer = (recovered[0], recovered[1].replace("2 failures", "1 failure"))
        [wrong] = soak.alerts_wrong(instance, [told(failed, fewer)], [])
        assert wrong == "publish failed 2 times until it recovered, told were 1"
        assert "or in another order" in str(
            soak.alerts_wrong(instance, [told(failed, recovered), told(failed)], [])
        )
        named = (failed[0], failed[1].replace(first, good))
        assert "which is ('publish', 'SUCCESS')" in str(
            soak.alerts_wrong(instance, [told(named, recovered)], [])
        )
        third = failed_run(instance)
        [missing] = soak.alerts_wrong(instance, [told(failed, recovered)], [])
        assert missing == "publish failed after its recovery, and nothing was told"
        again = ("publish failed", f"What: a run failed\nRun: {third}")
        assert soak.alerts_wrong(instance, [told(failed, recovered, again)], []) == []
        assert second != third


def test_the_soak_s_archive_is_listed_as_it_is_and_fails_as_it_is_told():
    from availability_pipeline.archive.listing import ArchiveError, S3Archive
    from availability_pipeline.settings import load

    with soak_archive.serving(10) as archive:
        listed = S3Archive.from_settings(load(s3_endpoint=archive.endpoint, s3_timeout_seconds=1))
        got = listed.list_range(archive.first, archive.last)
        assert len(got.files) == len(archive.files()) == 10 * len(soak_archive.SYMBOLS)
        for fault in soak_archive.FAULTS:
            archive.fault = fault
            failed = 0
            for _ in range(20):
                try:
                    again = listed.list_range(archive.first, archive.last)
                except ArchiveError:
                    failed += 1
                    break
                if fault == "a tenth":
                    failed += len(again.symbols) == 1
            assert bool(failed) == (fault != "slow"), fault
