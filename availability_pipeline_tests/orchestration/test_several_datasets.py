"""Runs of several configured datasets: kinds, intervals, months, and one that fails."""

import datetime as dt
import threading

import dagster as dg
import pytest

from availability_pipeline import queries, settings
from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.orchestration.instance import pools
from availability_pipeline.orchestration.partitions import (
    KINDS_TAG,
    Kind,
    dates_of,
    kinds,
    range_tags,
    span_of,
)
from availability_pipeline.orchestration.schedules import (
    daily_update_schedule,
    full_reconcile_schedule,
    late_arrivals_schedule,
    monthly_update_schedule,
)
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.helpers import PATIENCE, D, flat
from availability_pipeline_tests.support.world import END, KLINES, START, FakeArchive, World, ticks

DAY = dt.timedelta(1)
KLINES_1D = Dataset(interval="1d")
BOTH = Kind((UM_KLINES_1M, KLINES_1D))
TRADES = Kind((Dataset.parse("spot/daily/aggTrades"),))
FUNDING = Kind((Dataset.parse("um/monthly/fundingRate"),))
STOPPED = Kind((Dataset.parse("um/daily/bookTicker"),))
SEVERAL = ",".join(str(d) for kind in (BOTH, TRADES, FUNDING, STOPPED) for d in kind.datasets)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Four kinds, one of them of two intervals, one monthly, one that stopped."""
    monkeypatch.setenv("AVAILABILITY_DATASETS", SEVERAL)
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(tmp_path, instance)
        months = dict.fromkeys([D(2023, n, 1) for n in (10, 11, 12)], flat(START, START)[START])
        world.archive = FakeArchive(
            {"AUSDT": flat(START, END), "BUSDT": flat(START, END)},
            **{
                "um/daily/klines/1d": {"AUSDT": flat(START, END)},
                "spot/daily/aggTrades": {"AUSDT": flat(START, END), "BTCUSDT": flat(START, END)},
                "um/monthly/fundingRate": {"AUSDT": months},
                "um/daily/bookTicker": {"AUSDT": flat(START, END)},
            },
        )
        yield world


def shown(world, kind):
    """What Dagster shows of each partition, by its key: the latest first."""
    found = {}
    for record in world.instance.fetch_materializations(kind.key, limit=99).records:
        found.setdefault(record.partition_key, record.asset_materialization.metadata)
    return found


def available(world, dataset):
    with reader(world.path) as con:
        return sorted(
            queries.snapshot(con, END, status="available", dataset=dataset).column("symbol")
        )


def test_the_intervals_of_a_type_are_one_asset_and_each_is_recorded(world):
    assert world.run(kind=BOTH).success
    assert available(world, "um/daily/klines/1m") == ["AUSDT", "BUSDT"]
    assert available(world, "um/daily/klines/1d") == ["AUSDT"]
    found = shown(world, BOTH)
    assert sorted(found) == [(START + n * DAY).isoformat() for n in range(10)]
    one = {name: value.value for name, value in found[str(END)].items()}
    assert (one["available"], one["expected"], one["completeness"]) == (3, 3, 1.0)
    assert "lag_p50_hours" not in one, "a lag is of one dataset"


def test_symbols_of_the_same_name_in_two_markets_are_two(world):
    assert world.run(kind=KLINES).success
    assert world.run(kind=TRADES).success
    assert available(world, "spot/daily/aggTrades") == ["AUSDT", "BTCUSDT"]
    with reader(world.path) as con:
        found = queries.symbol_coverage(con, "BTCUSDT").dicts()
        assert [row["dataset"] for row in found] == ["spot/daily/aggTrades"]
        found = queries.symbol_coverage(con, "AUSDT").dicts()
    assert {row["dataset"]: row["files"] for row in found} == {
        "um/daily/klines/1m": 10, "um/daily/klines/1d": 10, "spot/daily/aggTrades": 10,
    }  # fmt: skip


def test_the_first_configured_dataset_is_the_default_of_questions(world, monkeypatch):
    def symbols():
        with reader(world.path) as con:
            return queries.snapshot(con, END, status="available").column("symbol")

    assert world.run(kind=TRADES).success
    assert symbols() == ["AUSDT", "BTCUSDT"], "the only one"
    assert world.run(kind=BOTH).success
    assert symbols() == ["AUSDT", "BUSDT"]
    monkeypatch.setenv("AVAILABILITY_DATASETS", "spot/daily/aggTrades,um/daily/klines/1m")
    assert symbols() == ["AUSDT", "BUSDT"], "until the record is written again"
    assert world.run(job="late_arrivals").success
    assert symbols() == ["AUSDT", "BTCUSDT"]
    assert world.rows("SELECT DISTINCT url FROM daily_availability WHERE symbol = 'BTCUSDT'")[0][
        0
    ].startswith("https://data.binance.vision/data/spot/daily/aggTrades/")


def test_months_are_partitions(world):
    world.clock.time = dt.datetime(2024, 1, 20, tzinfo=dt.UTC)
    assert world.run(D(2023, 10, 1), D(2023, 12, 1), job="monthly_update", kind=FUNDING).success
    assert {key: m["available"].value for key, m in shown(world, FUNDING).items()} == {
        "2023-10-01": 1, "2023-11-01": 1, "2023-12-01": 1,
    }  # fmt: skip
    sql = "SELECT period FROM availability WHERE dataset LIKE '%fundingRate' ORDER BY 1"
    assert world.rows(sql) == [
        (D(2023, n, 1),) for n in (10, 11, 12)
    ]  # fmt: skip


def test_one_dataset_that_fails_keeps_no_other_from_being_written(world):
    world.archive.fails = "um/daily/klines/1m"
    done = world.run(kind=BOTH)
    assert not done.success
    [failed] = [e for e in done.all_events if e.is_step_failure]
    said = failed.step_failure_data.user_failure_data.description
    assert said.startswith("listing um/daily/klines/1m of 2024-01-01 to 2024-01-10 failed for 1 of")
    assert said.endswith("(1 other datasets of um/daily/klines were written)")
    assert available(world, "um/daily/klines/1d") == ["AUSDT"]
    world.archive.fails = False
    assert world.run(job="late_arrivals").success
    assert available(world, "um/daily/klines/1m") == ["AUSDT", "BUSDT"]
    assert len(shown(world, BOTH)) == 10, "what Dagster did not know is reported"


def test_a_dataset_that_the_archive_does_not_have_is_a_line_and_the_others_go_on(world, capfd):
    del world.archive.others["um/daily/klines/1d"]
    assert world.run(kind=BOTH).success
    with reader(world.path) as con:
        assert con.execute("SELECT interval FROM datasets").fetchall() == [("1m",)]
    said = capfd.readouterr().err
    assert said.count("um/daily/klines/1d is not in the archive; nothing was written") == 1
    del world.archive.others["spot/daily/aggTrades"]
    done = world.run(kind=TRADES)
    [failed] = [e for e in done.all_events if e.is_step_failure]
    assert "is not in the archive" in failed.step_failure_data.user_failure_data.description


def test_a_run_can_be_about_some_of_the_datasets(world):
    config = {"ops": {BOTH.step: {"config": {"datasets": {"um/daily/klines/1d": True}}}}}
    assert world.execute("daily_update", range_tags(START, END), config, BOTH).success
    with reader(world.path) as con:
        assert con.execute("SELECT interval FROM datasets").fetchall() == [("1d",)]
    for wrong, why in (("spot/daily/aggTrades", "none of um/daily/klines/1m"), ("x", "not a data")):
        config = {"ops": {BOTH.step: {"config": {"datasets": {wrong: True}}}}}
        done = world.execute("daily_update", range_tags(START, END), config, BOTH)
        [failed] = [e for e in done.all_events if e.is_step_failure]
        assert why in failed.step_failure_data.user_failure_data.description


def test_the_reconcile_reports_what_changed_in_any_interval(world):
    assert world.run(kind=BOTH).success
    before = len(world.instance.fetch_materializations(BOTH.key, limit=99).records)
    assert world.run(job="full_reconcile").success
    assert len(world.instance.fetch_materializations(BOTH.key, limit=99).records) == before
    world.archive.others["um/daily/klines/1d"]["AUSDT"].pop(D(2024, 1, 5))
    assert world.run(job="full_reconcile").success
    [new] = world.instance.fetch_materializations(BOTH.key, limit=99).records[:-before]
    metadata = {name: value.value for name, value in new.asset_materialization.metadata.items()}
    assert new.partition_key == "2024-01-05"
    assert (metadata["vanished"], metadata["available"], metadata["expected"]) == (1, 2, 3)


def test_launched_by_hand_a_job_probes_every_kind_and_says_so(world):
    world.clock.time = dt.datetime(2024, 1, 20, tzinfo=dt.UTC)
    done = world.instance.get_run_by_id(world.execute("full_reconcile").run_id)
    assert done.is_success
    assert {kind for kind in (BOTH, TRADES, FUNDING, STOPPED) if shown(world, kind)} == {
        BOTH, TRADES, FUNDING, STOPPED,
    }  # fmt: skip
    assert done.tags[KINDS_TAG] == ", ".join(map(str, (BOTH, TRADES, FUNDING, STOPPED)))


def test_the_schedules_ask_for_a_run_of_each_kind_that_publishes():
    configured = kinds(settings.load(datasets=SEVERAL))
    assert configured == (BOTH, TRADES, FUNDING, STOPPED)


def asked(schedule, *when):
    """Of each run that a tick asks for: its kind, and its partition or dates."""
    return {r.tags[KINDS_TAG]: r.partition_key or r.tags["dates"] for r in ticks(schedule, *when)}


def test_each_tick_covers_the_kinds_that_are_due(monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DATASETS", SEVERAL)
    assert asked(daily_update_schedule, 2024, 3, 1, 2) == {
        "um/daily/klines": "2024-02-29", "spot/daily/aggTrades": "2024-02-29",
        "um/daily/bookTicker": "2024-02-29",
    }  # fmt: skip
    assert set(asked(daily_update_schedule, 2024, 5, 1, 2)) == {
        "um/daily/klines", "spot/daily/aggTrades",
    }, "um/daily/bookTicker stopped on 2024-03-30"  # fmt: skip
    assert asked(monthly_update_schedule, 2024, 3, 1, 10) == {
        "um/monthly/fundingRate": "2024-02-01"
    }
    assert asked(monthly_update_schedule, 2024, 1, 15, 10) == {
        "um/monthly/fundingRate": "2023-12-01"
    }
    assert asked(late_arrivals_schedule, 2024, 5, 1, 9) == {
        "um/daily/klines": "2024-04-11 to 2024-04-30",
        "spot/daily/aggTrades": "2024-04-11 to 2024-04-30",
    }  # fmt: skip
    assert asked(full_reconcile_schedule, 2024, 5, 5, 5) == {
        "um/daily/klines": "2019-09-25 to 2024-05-04",
        "spot/daily/aggTrades": "2017-07-14 to 2024-05-04",
        "um/monthly/fundingRate": "2019-09 to 2024-04",
        "um/daily/bookTicker": "2023-05-16 to 2024-03-30",
    }  # fmt: skip


def test_the_runs_of_a_tick_are_those_that_dagster_can_launch(world):
    """Of each kind with its own partitions definition, through the job of all assets."""
    [request] = [
        r for r in ticks(daily_update_schedule, 2024, 1, 11, 2) if r.tags[KINDS_TAG] == str(TRADES)
    ]
    assert request.asset_selection[0] == TRADES.key
    assert world.execute("daily_update", request.tags, None, TRADES).success
    assert set(shown(world, TRADES)) == {"2024-01-10"}


def test_scheduled_updates_leave_out_what_ended_long_ago_and_the_reconcile_does_not(
    world, monkeypatch
):
    monkeypatch.setenv("AVAILABILITY_DATASETS", str(KLINES.one))
    first, last = D(2023, 10, 1), D(2024, 1, 31)
    world.archive.files = {
        "OLDUSDT": flat(first, D(2023, 11, 20)), "NEWUSDT": flat(D(2023, 12, 29), last),
        **{f"CROWD{n}USDT": flat(first, last) for n in range(8)},
    }  # fmt: skip
    assert world.run(first, D(2024, 1, 20)).success
    world.clock.time = dt.datetime(2024, 2, 1, 3, tzinfo=dt.UTC)
    for schedule, job, ended in (
        (daily_update_schedule, "daily_update", {"OLDUSDT"}),
        (late_arrivals_schedule, "late_arrivals", {"OLDUSDT"}),
        (full_reconcile_schedule, "full_reconcile", set()),
    ):
        [request] = ticks(schedule, 2024, 2, 1, 2)
        assert world.execute(job, request.tags, request.run_config).success
        assert world.archive.left_out == ended, job
        of_old = "symbol = 'OLDUSDT'"
        assert world.rows(f"SELECT state FROM symbol_spans WHERE {of_old}") == [("ended",)]
        sql = f"SELECT count(*) FROM daily_availability WHERE {of_old} AND date = '2024-01-31'"
        [(absent,)] = world.rows(sql)
        assert absent == (not ended), "unknown until it is listed"


def test_two_runs_of_a_kind_never_list_at_the_same_time_and_those_of_two_kinds_do(tmp_path):
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        inside, go_on, entered = threading.Event(), threading.Event(), []

        def enter(name, waited):
            with pools.alone(instance, name, lambda: waited.append(name)):
                entered.append(name)
                inside.set()
                assert go_on.wait(PATIENCE)

        waited: list[str] = []
        first = threading.Thread(target=enter, args=("um/daily/klines", waited))
        first.start()
        assert inside.wait(PATIENCE)
        inside.clear()
        other = threading.Thread(target=enter, args=("spot/daily/klines", waited))
        other.start()
        assert inside.wait(PATIENCE), "another kind need not wait"
        same = threading.Thread(target=enter, args=("um/daily/klines", waited))
        same.start()
        while not waited:
            same.join(0.01)
        assert entered == ["um/daily/klines", "spot/daily/klines"]
        go_on.set()
        for thread in (first, other, same):
            thread.join(PATIENCE)
        assert entered[2:] == waited == ["um/daily/klines"]


@pytest.mark.parametrize("runs", [1, 3])
def test_how_many_runs_list_at_once_is_a_setting(tmp_path, monkeypatch, runs):
    monkeypatch.setenv("AVAILABILITY_ARCHIVE_RUNS", str(runs))
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        assert World(tmp_path, instance).run().success
        info = instance.event_log_storage.get_concurrency_info(pools.ARCHIVE)
        assert info.slot_count == runs


@pytest.mark.parametrize(
    ("kind", "start", "end", "within"),
    [
        (KLINES, D(2018, 1, 1), D(2019, 9, 26), (D(2019, 9, 25), D(2019, 9, 26))),
        (KLINES, D(2018, 1, 1), D(2019, 9, 24), None),
        (FUNDING, D(2024, 1, 31), D(2024, 2, 29), (D(2024, 1, 1), D(2024, 2, 1))),
        (FUNDING, D(2024, 2, 1), D(2024, 2, 28), None),
        (STOPPED, D(2024, 3, 29), D(2024, 5, 1), (D(2024, 3, 29), D(2024, 3, 30))),
        (STOPPED, D(2024, 3, 31), D(2024, 5, 1), None),
    ],
)
def test_a_kind_has_the_periods_that_can_have_files_and_are_over(kind, start, end, within):
    assert kind.within(start, end) == within


def test_the_tags_of_a_monthly_run_say_its_months():
    tags = range_tags(D(2024, 1, 1), D(2024, 3, 1), [FUNDING])
    assert tags["dates"] == dates_of(tags) == "2024-01 to 2024-03"
    assert span_of(tags) == (D(2024, 1, 1), D(2024, 3, 1))
