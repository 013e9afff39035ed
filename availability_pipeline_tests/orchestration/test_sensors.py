"""The alert sensor on a real instance, its messages going to a local receiver over HTTP."""

import datetime as dt
import logging
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.monitoring.run_monitoring import monitor_starting_run

from availability_pipeline import settings
from availability_pipeline.alerts import journal
from availability_pipeline.definitions import defs
from availability_pipeline.orchestration import probes, sensors
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.partitions import range_tags
from availability_pipeline_tests.support.helpers import D, flat
from availability_pipeline_tests.support.receiver import SECRET, receiving
from availability_pipeline_tests.support.world import END, START, FakeClock, World

ROOT = Path(__file__).parents[2]
DAY = D(2024, 1, 6)
FAILED = f"daily_update failed: um/daily/klines {DAY}"
RECOVERED = "daily_update recovered"


class Watch(World):
    """A world whose instance is watched by the sensor."""

    def __init__(self, folder, instance, urls):
        super().__init__(folder, instance)
        self.urls, self.cursor = urls, None
        self.time = FakeClock(dt.datetime(2024, 2, 1, 2, tzinfo=dt.UTC))
        self.said = ""

    def tick(self, minutes=0):
        self.time.time += dt.timedelta(minutes=minutes)
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=defs.get_repository_def(),
            resources={"limits": settings.load(alert_urls=" ".join(self.urls)), "clock": self.time},
        )
        result = sensors.alert_sensor.evaluate_tick(context)
        self.cursor, self.said = result.cursor, result.skip_message
        return result


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def receiver():
    with receiving() as one:
        yield one


@pytest.fixture
def watch(tmp_path, receiver):
    with dg.DagsterInstance.ephemeral() as instance:
        watch = Watch(tmp_path, instance, [receiver.url])
        watch.tick()
        yield watch


def test_nothing_is_sent_while_all_is_well(watch, receiver):
    assert watch.run().success
    watch.tick()
    watch.tick(minutes=600)
    assert receiver.asked == 0
    assert watch.said.endswith("all is well")


def test_a_failed_run_is_announced_once_with_date_error_and_what_to_do(watch, receiver):
    watch.archive.fails = True
    run = watch.run(DAY, DAY)
    watch.tick()
    watch.tick()
    watch.tick(minutes=600)
    [message] = receiver.log
    assert message["title"] == FAILED
    assert message["type"] == "failure"
    lines = dict(line.split(": ", 1) for line in message["message"].splitlines())
    assert lines["Dates"] == f"um/daily/klines {DAY}"
    assert "HTTP 503 SlowDown" in lines["Error"]
    assert lines["Do"].endswith(f"binance-availability update manual --date {DAY}")
    assert lines["Run"] == run.run_id


def test_recovery_says_so_once_when_a_later_run_covers_the_dates(watch, receiver):
    """The daily update of one date is repaired by the look-back, not by the next day's update."""
    watch.archive.fails = True
    watch.run(DAY, DAY)
    watch.tick()
    watch.archive.fails = False
    assert watch.run(D(2024, 1, 7), D(2024, 1, 7)).success
    watch.tick()
    assert len(receiver.log) == 1
    assert "not well: job daily_update" in watch.said
    assert watch.run(START, END, job="late_arrivals").success
    watch.tick()
    assert watch.run(START, END).success
    watch.tick(minutes=600)
    assert receiver.titles == [
        FAILED,
        RECOVERED,
    ]
    assert receiver.log[1]["type"] == "success"
    assert "late_arrivals succeeded, after 1 failure" in receiver.log[1]["message"]
    assert watch.said.endswith("all is well")


def of_completeness(titles):
    return [title for title in titles if "completeness" in title]


def test_a_failed_check_of_a_run_that_succeeded_is_announced_and_recovers(watch, receiver):
    """It blocks nothing, so the run is a success: a failure sensor would never see it."""
    symbols = list(watch.archive.files)  # one missing file among so few would only warn
    for symbol in symbols:
        watch.archive.files[symbol] = flat(START, D(2024, 1, 5)) | flat(D(2024, 1, 7), END)
    assert watch.run().success
    for _ in range(3):  # a check that goes on failing is not news
        watch.judge()
        watch.tick(minutes=120)
    assert of_completeness(receiver.titles) == [
        f"check completeness_slo of record failed: um/daily/klines/1m {DAY}"
    ]
    [text] = [m["message"] for m in receiver.log if "completeness_slo" in m["title"]]
    assert "observed 0, threshold 0.95, count 1, for example 2024-01-06: 0 of 2" in text
    assert "slo acknowledge --date 2024-01-06" in text
    watch.archive.files |= {symbol: flat(START, END) for symbol in symbols}
    assert watch.run().success
    for _ in range(2):
        watch.judge()
        watch.tick(minutes=120)
    assert of_completeness(receiver.titles)[1:] == ["check completeness_slo of record recovered"]


@pytest.mark.parametrize(
    ("sample", "spans"),
    [
        (["2024-01-06: 0 of 2"], ["um/daily/klines/1m 2024-01-06"]),
        (["2024-01-06 to 2024-01-08", "2024-02-01"],
         ["um/daily/klines/1m 2024-01-06 to 2024-01-08", "um/daily/klines/1m 2024-02-01"]),
        (["2024-01: 0 of 2"], ["um/daily/klines/1m 2024-01-01 to 2024-01-31"]),
        (["2023-12 to 2024-02"], ["um/daily/klines/1m 2023-12-01 to 2024-02-29"]),
        (["BUSDT: 3 days"], ["um/daily/klines/1m"]),
        (["2024-13: 0 of 2"], ["um/daily/klines/1m"]),
        ([], ["um/daily/klines/1m"]),
    ],
)  # fmt: skip
def test_what_a_check_of_one_dataset_names_is_announced_of_it(sample, spans):
    found = sensors._spans_at_fault(sample, ["um/daily/klines/1m"])
    assert [str(span) for span in found] == spans


def test_what_a_check_of_several_datasets_names_is_announced_of_each():
    sample = ["um/daily/klines/1m 2024-01-06: 0 of 2", "um/monthly/fundingRate 2024-01: 0 of 2"]
    breached = ["um/daily/klines/1m", "um/monthly/fundingRate", "spot/daily/trades"]
    assert [str(span) for span in sensors._spans_at_fault(sample, breached)] == [
        "um/daily/klines/1m 2024-01-06",
        "um/monthly/fundingRate 2024-01-01 to 2024-01-31",
        "spot/daily/trades",  # there was no room for it in the sample
    ]
    symbols = ["um/daily/klines/1m BUSDT: 3 days", "spot/daily/trades AUSDT: 2 days"]
    found = sensors._spans_at_fault(symbols, [breached[0], breached[2]])
    assert [str(span) for span in found] == ["um/daily/klines/1m", "spot/daily/trades"]
    assert sensors._spans_at_fault(["2024-01-06 02:00 daily_update 1"], []) == []


@pytest.mark.parametrize(
    ("tags", "assets", "datasets"),
    [
        ({"datasets": "um/daily/klines, um/monthly/fundingRate"}, [],
         ("um/daily/klines", "um/monthly/fundingRate")),
        # from the UI's button
        ({}, [["um", "fundingRate", "monthly_availability"], ["symbol_spans"]],
         ("um/monthly/fundingRate",)),
        ({}, [["availability_report"]], ()),
        ({}, None, ()),
    ],
)  # fmt: skip
def test_what_a_run_is_about_is_read_from_its_tags_or_its_assets(tags, assets, datasets):
    keys = None if assets is None else frozenset(map(dg.AssetKey, assets))
    run = dg.DagsterRun(job_name="x", tags=tags, asset_selection=keys)
    assert sensors._datasets_of(run) == datasets


def test_a_failed_run_of_months_is_announced_with_a_remedy_for_the_whole_month(
    watch, receiver, monkeypatch
):
    names = "um/daily/klines/1m,um/monthly/fundingRate,um/monthly/klines/1m"
    monkeypatch.setenv("AVAILABILITY_DATASETS", names)
    for about in ("um/monthly/fundingRate", "um/monthly/klines"):
        tags = {"dagster/partition": "2024-01-01", "datasets": about}
        run = create_run_for_test(watch.instance, "monthly_update", tags=tags)
        watch.instance.report_run_failed(run, "HTTP 503")
        watch.tick(minutes=61)
    assert receiver.titles == [
        f"monthly_update failed: {about} 2024-01-01 to 2024-01-31"
        for about in ("um/monthly/fundingRate", "um/monthly/klines")
    ]
    commands = [m["message"].split("By hand: ")[1].splitlines()[0] for m in receiver.log]
    assert commands == [
        f"binance-availability backfill --dataset {name} --start 2024-01-01 --end 2024-01-31"
        for name in ("um/monthly/fundingRate", "'um/monthly/klines/*'")
    ]


def test_a_warning_is_no_alert(watch, receiver):
    watch.archive.files["BUSDT"] = flat(START, D(2024, 1, 9))  # late, or delisted
    assert watch.run().success
    found = watch.judge()["completeness_slo"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    watch.tick()
    assert of_completeness(receiver.titles) == []
    assert receiver.titles, "of what was breached"


def test_a_backfill_with_many_failed_runs_is_a_few_messages(watch, receiver):
    """A hundred messages in a night are read by nobody, and block a mail account."""
    for n in range(120):
        date = START + dt.timedelta(n)
        run = create_run_for_test(
            watch.instance, "daily_update", tags={"dagster/partition": str(date)}
        )
        watch.instance.report_run_failed(run, "no such table")
        if n % 30 == 0:
            watch.tick()
    for _ in range(3):
        watch.tick(minutes=30)
    assert sum(int(t.split()[2]) if "times" in t else 1 for t in receiver.titles) == 120
    assert len(receiver.log) <= 3, receiver.titles
    assert max(len(m["message"]) + len(m["title"]) for m in receiver.log) < 1000
    assert len(watch.cursor) < 50_000


def test_a_run_that_never_started_is_announced(watch, receiver, tmp_path):
    """Its process is gone before it can say anything: run monitoring fails it."""
    overrides = {"run_monitoring": {"enabled": True, "start_timeout_seconds": 1}}
    with dg.instance_for_test(temp_dir=str(tmp_path), overrides=overrides) as instance:
        watch.instance, watch.cursor = instance, None
        watch.tick()
        run = create_run_for_test(
            instance, "late_arrivals", tags=range_tags(START, END),
            status=dg.DagsterRunStatus.NOT_STARTED,
        )  # fmt: skip
        record = instance.get_run_record_by_id(run.run_id)
        old = record._replace(create_timestamp=record.create_timestamp - dt.timedelta(minutes=9))
        monitor_starting_run(instance, old, logging.getLogger("test"))
        watch.tick()
    assert receiver.titles == [f"late_arrivals failed: {START} to {END}"]
    assert "longer than 1 seconds to start" in receiver.log[0]["message"]


def test_a_run_that_the_user_cancels_is_no_alert(watch, receiver):
    run = create_run_for_test(watch.instance, "daily_update")
    watch.instance.report_run_canceled(run)
    watch.tick()
    assert receiver.asked == 0


def test_what_was_announced_survives_a_restart(watch, receiver, tmp_path):
    """The cursor is all there is to keep, and Dagster keeps it."""
    watch.archive.fails = True
    watch.run()
    watch.tick()
    again = Watch(tmp_path, watch.instance, watch.urls)
    again.cursor, again.archive, again.clock = watch.cursor, watch.archive, watch.clock
    again.tick()
    assert len(receiver.log) == 1
    again.archive.fails = False
    assert again.run().success
    again.tick()
    assert receiver.titles[1:] == [RECOVERED]


def test_a_message_waits_for_a_target_that_is_down_and_comes_once(watch, receiver, capfd):
    receiver.mode = "refuse"
    watch.archive.fails = True
    watch.run(DAY, DAY)
    for _ in range(4):
        watch.tick(minutes=60)
    assert "1 waiting" in watch.said
    assert receiver.asked == 4
    logged = capfd.readouterr().err
    assert logged.count("alert target 1 (json://****) did not take") == 1
    receiver.mode = "take"
    for _ in range(3):
        watch.tick(minutes=60)
    assert receiver.titles == [FAILED]
    assert SECRET not in logged + watch.cursor


def test_a_target_that_stays_down_is_given_up_after_a_day_and_logged(watch, receiver, capfd):
    receiver.mode = "refuse"
    watch.archive.fails = True
    watch.run(DAY, DAY)
    watch.tick()
    for _ in range(10):  # it is tried about hourly: a clock that leaps a day gives nothing up
        watch.tick(minutes=150)
    assert "0 waiting" in watch.said
    assert "for 24 hours; given up" in capfd.readouterr().err
    watch.tick(minutes=60)
    assert receiver.asked == 11


def test_a_target_that_is_down_does_not_keep_a_message_from_the_others(watch, receiver):
    watch.urls = ["json://127.0.0.1:9", receiver.url]
    watch.archive.fails = True
    watch.run(DAY, DAY)
    for _ in range(3):
        watch.tick(minutes=60)
    assert receiver.titles == [FAILED]


def test_a_target_taken_off_the_setting_is_logged_with_what_it_will_not_get(watch, capfd):
    up, watch.urls = watch.urls, ["json://127.0.0.1:9", *watch.urls]
    watch.archive.fails = True
    watch.run(DAY, DAY)
    watch.tick()
    watch.urls = up
    watch.tick()
    assert "0 waiting" in watch.said
    logged = capfd.readouterr().err
    assert "no longer in AVAILABILITY_ALERT_URLS" in logged
    assert f"not sent to it: '{FAILED}'" in logged


def test_reordered_addresses_neither_lose_nor_repeat_a_message(watch, receiver):
    watch.urls = ["json://127.0.0.1:9", receiver.url]
    receiver.mode = "refuse"
    watch.archive.fails = True
    watch.run(DAY, DAY)
    watch.tick()
    receiver.mode = "take"
    watch.urls.reverse()
    for _ in range(3):
        watch.tick(minutes=60)
    assert receiver.titles == [FAILED]


def test_a_look_back_repairs_an_update_that_failed_after_its_write(watch, receiver, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(probes.DERIVED, "symbol_spans", lambda con: 1 / 0)
        assert not watch.run(DAY, DAY).success
    watch.tick()
    assert watch.run(START, END, job="late_arrivals").success
    watch.tick()
    assert receiver.titles == [
        FAILED,
        RECOVERED,
    ]


def test_recovery_never_overtakes_the_failure_at_a_target_that_was_down(watch, receiver):
    receiver.mode = "refuse"
    watch.archive.fails = True
    watch.run(DAY, DAY)
    for minutes in (0, 1, 2):
        watch.tick(minutes=minutes)
    receiver.mode, watch.archive.fails = "take", False
    assert watch.run(START, END, job="late_arrivals").success
    watch.tick()
    assert receiver.titles == [], "the failure waits for its next try, and recovery behind it"
    watch.tick(minutes=60)
    assert receiver.titles == [
        FAILED,
        RECOVERED,
    ]


def test_after_alerts_were_off_for_long_nothing_of_that_time_is_announced(watch, receiver):
    """The sensor is defined only with targets, and its cursor is kept: it would tell it all."""
    watch.archive.fails = True
    watch.run()
    watch.tick(minutes=8 * 24 * 60)
    assert "begins to watch" in watch.said
    watch.tick()
    assert receiver.asked == 0
    watch.run()
    watch.tick()
    assert len(receiver.log) == 1


def test_alerts_that_ran_before_and_were_off_for_long_announce_nothing_of_that_time(
    watch, receiver
):
    """Only a sensor that had been evaluated no more than once kept to it."""
    watch.run()
    watch.tick()
    watch.archive.fails = True
    watch.run()
    watch.tick(minutes=8 * 24 * 60)
    assert "begins to watch" in watch.said
    assert receiver.asked == 0


@pytest.mark.parametrize("days", [20, -400])
def test_a_clock_that_leaps_loses_no_message_that_waits(watch, receiver, days):
    """As after a boot with an empty battery: it was called a pause, or the message too old."""
    receiver.mode = "refuse"
    watch.archive.fails = True
    watch.run(DAY, DAY)
    watch.tick()
    watch.time.ahead = dt.timedelta(days)
    for _ in range(3):
        watch.tick()
        assert "begins to watch" not in watch.said
    watch.time.ahead = dt.timedelta(0)
    watch.tick()
    receiver.mode = "take"
    watch.tick(minutes=60)
    assert receiver.titles == [FAILED]


def test_an_evaluation_that_was_killed_after_sending_is_not_repeated(watch, receiver):
    """Dagster stores the cursor when it has ended; the daemon may be killed before."""
    watch.archive.fails = True
    watch.run(DAY, DAY)
    stored = watch.cursor
    watch.tick()
    assert receiver.titles == [FAILED]
    watch.cursor = stored
    watch.run(DAY, DAY)  # one more, so that the same evaluation would not be the same message
    for _ in range(3):
        watch.tick()
    assert receiver.titles == [FAILED]
    stored, watch.archive.fails = watch.cursor, False
    assert watch.run().success
    for _ in range(2):
        watch.cursor = stored
        watch.tick()
    assert receiver.titles == [
        FAILED,
        RECOVERED,
    ]
    assert "succeeded, after 2 failures" in receiver.log[1]["message"]


def test_what_the_killed_evaluation_could_not_send_is_sent(watch, receiver):
    with receiving() as other:
        other.mode = "refuse"
        watch.urls = [receiver.url, other.url]
        watch.archive.fails = True
        watch.run(DAY, DAY)
        stored = watch.cursor
        watch.tick()
        watch.cursor, other.mode = stored, "take"
        watch.tick()
        assert receiver.titles == other.titles == [FAILED]


def test_nothing_is_sent_while_what_a_killed_evaluation_left_still_sends(watch, receiver):
    watch.archive.fails = True
    watch.run(DAY, DAY)
    before = watch.cursor
    with journal.opened(Path(watch.instance.root_directory) / journal.NAME):
        watch.tick()
        assert "still sends" in watch.said
        assert (receiver.asked, watch.cursor) == (0, before)
    watch.tick()
    assert len(receiver.log) == 1


def test_a_home_that_cannot_be_written_does_not_silence_the_alerts(watch, receiver):
    path = Path(watch.instance.root_directory) / journal.NAME
    path.unlink()
    path.mkdir()
    watch.archive.fails = True
    watch.run(DAY, DAY)
    watch.tick()
    assert len(receiver.log) == 1


def test_after_a_weekend_without_a_daemon_what_failed_is_announced(watch, receiver):
    watch.archive.fails = True
    watch.run()
    watch.tick(minutes=3 * 24 * 60)
    assert len(receiver.log) == 1


def test_a_cursor_of_another_version_begins_anew(watch, receiver):
    watch.cursor = '{"record_id": 7}'
    watch.archive.fails = True
    watch.run()
    watch.tick()
    assert "begins to watch" in watch.said
    watch.run()
    watch.tick()
    assert len(receiver.log) == 1


def test_history_that_was_deleted_does_not_make_the_sensor_deaf(watch, receiver, tmp_path):
    for _ in range(3):
        watch.run()
    watch.tick()
    with dg.DagsterInstance.ephemeral() as fresh:
        watch.instance = fresh
        watch.tick()
        watch.archive.fails = True
        watch.run()
        watch.tick()
    assert len(receiver.log) == 1


def test_more_finished_runs_than_one_look_takes_are_all_seen(watch, receiver, monkeypatch):
    monkeypatch.setattr(sensors, "RUNS_AT_ONCE", 3)
    for name in "abcde":
        run = create_run_for_test(watch.instance, f"job_{name}")
        watch.instance.report_run_failed(run, "broken")
        good = create_run_for_test(watch.instance, "fine")
        watch.instance.report_dagster_event(
            dg.DagsterEvent("PIPELINE_SUCCESS", "fine"), run_id=good.run_id
        )
    for _ in range(4):
        watch.tick()
    assert receiver.titles == [f"job_{name} failed" for name in "abcde"]


def test_the_sensor_runs_by_default_and_leaves_a_bounded_trail(watch, monkeypatch):
    """A tick every 30 s is a million a year, each with the cursor in it."""
    monkeypatch.setenv("AVAILABILITY_ALERT_URLS", watch.urls[0])
    defs = build_defs()
    sensor = defs.resolve_sensor_def("alert_sensor")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert {s.name for s in defs.sensors if (s.minimum_interval_seconds or 0) < 30} == set()
    kept = yaml.safe_load((ROOT / "dagster.yaml").read_text())["retention"]["sensor"]
    assert set(kept["purge_after_days"]) == {"skipped", "failure", "success", "started"}
    assert max(kept["purge_after_days"].values()) <= 7
    watch.run()
    watch.tick()
    assert len(watch.cursor) + len(watch.said) < 200
