"""Publishing and backups as assets: their runs, and that the record never hangs on them."""

import datetime as dt
import json

import dagster as dg
import pytest

from availability_pipeline.archive.datasets import UM_KLINES_1M
from availability_pipeline.copies import backup, export
from availability_pipeline.copies.destinations import destination
from availability_pipeline.definitions import defs
from availability_pipeline.orchestration import schedules
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.partitions import Kind, range_tags
from availability_pipeline.orchestration.resources import AvailabilityDuckDB, Clock
from availability_pipeline.orchestration.schedules import publish_sensor
from availability_pipeline_tests.support.helpers import D, flat
from availability_pipeline_tests.support.several import FUNDING, TRADES, by_month, write_dataset
from availability_pipeline_tests.support.world import END, KLINES, START, World, updated


@pytest.fixture
def world(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(tmp_path, instance)
        assert world.run().success
        yield world


def metadata(done):
    [event] = done.get_asset_materialization_events()
    return {k: v.value for k, v in event.materialization.metadata.items()}


def why(done):
    [event] = [e for e in done.all_events if e.is_step_failure]
    return event.step_failure_data.user_failure_data.description


def test_the_record_is_published_with_a_manifest_and_numbers_for_the_ui(
    world, tmp_path, monkeypatch
):
    monkeypatch.setenv("AVAILABILITY_PUBLISH_URL", (tmp_path / "out").as_uri())
    done = world.execute("publish")
    assert done.success
    found = metadata(done)
    assert (found["dagster/row_count"], found["last_date"]) == (20, str(END))
    manifest, _ = export.read_manifest(destination(str(tmp_path / "out")))
    assert found["files"] == found["files_written"] == len(manifest.files) == 7
    assert all("-" in f.path.rpartition("/")[2] for f in manifest.files), "no file ever changes"
    assert metadata(world.execute("publish"))["files_written"] == 0


def test_all_recorded_datasets_are_published_and_drawn(world, tmp_path, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_PUBLISH_URL", str(tmp_path / "out"))
    monkeypatch.setenv("AVAILABILITY_REPORT_DIR", str(tmp_path / "report"))
    first, last = D(2023, 11, 1), D(2023, 12, 1)
    write_dataset(world.path, FUNDING, {"AUSDT": by_month(first, last)}, first, last)
    found = metadata(world.execute("publish"))
    assert found["dagster/row_count"] == 22
    manifest, _ = export.read_manifest(destination(str(tmp_path / "out")))
    assert [(one.dataset, one.rows["availability"]) for one in manifest.datasets] == [
        ("um/daily/klines/1m", 20), (str(FUNDING), 2)
    ]  # fmt: skip
    done = world.execute("draw_report")
    assert done.success
    assert metadata(done)["pictures"].count("data:image/png") == 4
    page = (tmp_path / "report" / "availability.html").read_text("utf-8")
    assert 'href="um-monthly-fundingRate.html"' in page
    assert "live, no longer configured" in page
    months = (tmp_path / "report" / "um-monthly-fundingRate.html").read_text("utf-8")
    assert "<dd>2023-11 to 2023-12</dd>" in months


def checked(world):
    """What the checks of the site say: passed, and the note and sample."""
    done = world.execute("slo_checks")
    return {
        found.check_name: (found.passed, found.description)
        for found in done.get_asset_check_evaluations()
        if found.check_name.startswith("publication_is")
    }


def test_the_site_is_published_and_judged(world, tmp_path, monkeypatch):
    site = tmp_path / "site"
    monkeypatch.setenv("AVAILABILITY_SITE_URL", site.as_uri())
    monkeypatch.setenv("AVAILABILITY_SITE_ADDRESS", "https://example.org/a")
    before = checked(world)
    # The update has just been: two hours later this is a breach (copies/test_standing.py).
    assert before["publication_is_current"] == (True, "never published")
    done = world.execute("publish")
    assert done.success
    found = metadata(done)
    assert found["publication"] == json.loads((site / "latest.json").read_bytes())["publication"]
    assert (found["datasets"], found["address"]) == (1, "https://example.org/a")
    assert found["files_uploaded"] > 10
    assert found["bytes_uploaded"] > found["record_bytes"]
    assert {name: passed for name, (passed, _) in checked(world).items()} == {
        "publication_is_current": True, "publication_is_whole": True,
    }  # fmt: skip
    assert metadata(world.execute("publish"))["files_uploaded"] == 0
    next((site / "record").rglob("*.piece")).unlink()
    passed, text = checked(world)["publication_is_whole"]
    assert not passed
    assert ".piece" in text
    assert "publish" in text


def test_both_places_are_published_to_in_one_run_and_one_that_refuses_keeps_no_other(
    world, tmp_path, monkeypatch
):
    monkeypatch.setenv("AVAILABILITY_PUBLISH_URL", str(world.path / "below"))
    monkeypatch.setenv("AVAILABILITY_SITE_URL", str(tmp_path / "site"))
    done = world.execute("publish")
    assert not done.success
    assert (tmp_path / "site" / "latest.json").exists()
    monkeypatch.setenv("AVAILABILITY_PUBLISH_URL", str(tmp_path / "out"))
    assert world.execute("publish").success


def test_a_destination_that_refuses_fails_its_own_run_and_no_update(world, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_PUBLISH_URL", str(world.path / "below"))
    assert world.run().success, "the update is done whatever becomes of the files"
    done = world.execute("publish")
    assert not done.success
    assert "choose another destination" in why(done)
    assert "\n" not in why(done)
    assert world.rows("SELECT count(*) FROM daily_availability") == [(20,)]


def sensor_tick(world, cursor=None, later=dt.timedelta(0)):
    with dg.build_sensor_context(
        instance=world.instance, cursor=cursor, repository_def=defs.get_repository_def(),
        resources={"clock": Clock(stopped_at=dt.datetime.now(dt.UTC) + later)},
    ) as context:  # fmt: skip
        return publish_sensor.evaluate_tick(context)


def test_each_update_is_published_once_and_a_failed_one_is_not(world, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_PUBLISH_URL", "s3://somewhere")
    first = sensor_tick(world)
    assert len(first.run_requests) == 1
    again = sensor_tick(world, first.cursor)
    assert again.run_requests == []
    world.archive.fails = True
    assert not world.run().success
    assert sensor_tick(world, first.cursor).run_requests == []
    world.archive.fails = False
    assert world.run(START, START, job="late_arrivals").success
    assert sensor_tick(world, first.cursor).run_requests == []  # nothing has changed
    size, time = world.archive.files["AUSDT"][START]
    world.archive.files["AUSDT"][START] = (size + 1, time)
    assert world.run(START, START, job="late_arrivals").success
    second = sensor_tick(world, first.cursor)
    assert len(second.run_requests) == 1
    keys = {first.run_requests[0].run_key, second.run_requests[0].run_key}
    assert len(keys) == 2


def test_updates_of_several_datasets_that_end_together_are_published_once(world, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_PUBLISH_URL", "s3://somewhere")
    monkeypatch.setenv("AVAILABILITY_DATASETS", f"{UM_KLINES_1M},{FUNDING},{TRADES}")
    before = sensor_tick(world).cursor
    months, trades = by_month(D(2023, 11, 1), D(2023, 12, 1)), flat(START, END)
    world.archive.others = {str(FUNDING): {"AUSDT": months}, str(TRADES): {"AUSDT": trades}}
    started = dg.DagsterRunStatus.STARTED
    one, two = (
        world.instance.add_run(
            dg.DagsterRun(
                schedules.ASSET_JOB, status=started, asset_selection=frozenset(updated(kind))
            )
        )
        for kind in (Kind((FUNDING,)), Kind((TRADES,)))
    )
    assert world.run().success
    for ended, kind, dates in (
        (one, Kind((FUNDING,)), (D(2023, 11, 1), D(2023, 12, 1))),
        (two, Kind((TRADES,)), (START, END)),
    ):
        tick = sensor_tick(world, before)
        assert (tick.run_requests, tick.cursor) == ([], before)
        assert "under way or queued" in tick.skip_message
        assert world.run(*dates, kind=kind, job=kind.work).success
        world.instance.report_run_canceled(ended)  # that one stood for this one
    once = sensor_tick(world, before)
    assert [request.run_key for request in once.run_requests] == [before]
    assert sensor_tick(world, once.cursor).run_requests == []


@pytest.mark.parametrize(
    ("job", "waits"),
    [("late_arrivals", True), ("full_reconcile", True), ("publish", True), ("slo_checks", False)],
)
def test_a_publication_waits_for_what_writes_and_for_another_one_at_most_an_hour(
    world, monkeypatch, job, waits
):
    monkeypatch.setenv("AVAILABILITY_PUBLISH_URL", "s3://somewhere")
    world.instance.add_run(dg.DagsterRun(job, status=dg.DagsterRunStatus.STARTED))
    assert bool(sensor_tick(world).run_requests) is not waits
    assert len(sensor_tick(world, later=dt.timedelta(minutes=61)).run_requests) == 1


def test_the_backup_asset_makes_a_proved_backup_and_lets_old_ones_go(world, tmp_path, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_BACKUP_DIR", str(tmp_path / "backups"))
    for name in ("DAILY", "WEEKLY", "MONTHLY"):
        monkeypatch.setenv(f"AVAILABILITY_BACKUP_KEEP_{name}", "0")
    first, second = metadata(world.execute("backup")), metadata(world.execute("backup"))
    assert first["dagster/row_count"] == 20
    [path] = backup.backups(tmp_path / "backups")
    assert str(path) == second["backup"]
    assert backup.verify(path).sha256 == second["sha256"]
    assert second["removed"] == [first["backup"].rpartition("/")[2]]


def test_a_backup_without_a_place_fails_in_one_line(world, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_BACKUP_DIR", str(world.path / "below"))
    done = world.execute("backup")
    assert not done.success
    assert "another place" in why(done)
    assert "\n" not in why(done)


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("AVAILABILITY_BACKUP_DIR", "backup"),
        ("AVAILABILITY_PUBLISH_URL", "publish"),
        ("AVAILABILITY_SITE_URL", "publish"),
        ("AVAILABILITY_MIRROR_URL", "mirror"),
    ],
)
def test_a_setting_that_is_gone_since_the_code_was_loaded_fails_in_one_line(
    world, tmp_path, monkeypatch, name, job
):
    """A run that says it did what it did not is worse than one that fails."""
    monkeypatch.setenv(name, str(tmp_path / "somewhere"))
    found = build_defs(resources={"duckdb": AvailabilityDuckDB(database=str(world.path))})
    monkeypatch.delenv(name)
    done = found.resolve_job_def(job).execute_in_process(
        instance=world.instance, raise_on_error=False
    )
    assert not done.success
    assert f"{name} is no longer set: set it again, or reload" in why(done)
    assert "\n" not in why(done)


def test_with_downstream_and_materialize_all_succeed_on_a_default_installation(world, monkeypatch):
    """`record_backup` without a place once made 30 good partitions a failed backfill."""
    for name in ("AVAILABILITY_BACKUP_DIR", "AVAILABILITY_PUBLISH_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AVAILABILITY_REPORT_DIR", str(world.path.parent / "report"))
    found = build_defs(
        resources={
            "archive": world.archive,
            "clock": world.clock,
            "duckdb": AvailabilityDuckDB(database=str(world.path)),
        }
    )
    everything = found.resolve_implicit_global_asset_job_def()
    done = everything.execute_in_process(
        instance=world.instance, tags=range_tags(START, END), raise_on_error=False
    )
    assert done.success
    made = {e.asset_key.to_user_string() for e in done.get_asset_materialization_events()}
    assert "published_availability" not in made
    assert made >= {KLINES.key.to_user_string(), "daily_summary", "availability_report"}
