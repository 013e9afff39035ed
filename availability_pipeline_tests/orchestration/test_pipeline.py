"""The assets on a real instance and a real database, the archive being an ordinary class."""

import datetime as dt
import shutil
import threading
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from dagster._core.definitions.metadata.metadata_set import TableMetadataSet

from availability_pipeline import queries, settings
from availability_pipeline.archive._client import make_client
from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.archive.datasets import UM_KLINES_1M as DS
from availability_pipeline.archive.listing import S3Archive
from availability_pipeline.orchestration import probes
from availability_pipeline.orchestration.partitions import WORK_TAG, range_tags
from availability_pipeline.orchestration.schedules import (
    daily_update_schedule,
    full_reconcile_schedule,
    late_arrivals_schedule,
)
from availability_pipeline.quality import checks
from availability_pipeline.record import derived
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.record.status import scope
from availability_pipeline.report import data
from availability_pipeline_tests.support.helpers import PATIENCE, D, flat
from availability_pipeline_tests.support.stubs import stubbed
from availability_pipeline_tests.support.world import (
    END,
    KLINES,
    START,
    FakeArchive,
    World,
    tick,
)

ROOT = Path(__file__).parents[2]

NOW = dt.datetime(2024, 2, 1, tzinfo=dt.UTC)
KEY = KLINES.key
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@pytest.fixture
def world(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(tmp_path, instance)


def test_a_range_of_partitions_is_one_run_with_metadata_for_each(world):
    assert world.run().success
    assert world.rows("SELECT count(*) FROM daily_availability WHERE available") == [(20,)]
    key = KLINES.key
    assert len(world.instance.get_materialized_partitions(key)) == 10
    events = world.instance.fetch_materializations(key, limit=20).records
    one = next(e for e in events if e.partition_key == "2024-01-05").asset_materialization.metadata
    numbers = {k: one[k].value for k in ("symbols_probed", "available", "pending", "absent")}
    assert numbers == {"symbols_probed": 2, "available": 2, "pending": 0, "absent": 0}
    assert one["lag_p50_hours"].value == 8.0
    assert TableMetadataSet.extract(one).partition_row_count == 2


def test_a_count_that_is_unknown_is_left_out_of_the_plots(world):
    """The first recorded date once had as many new listings as symbols, and so after a gap."""
    world.archive.files["NEWUSDT"] = flat(D(2024, 1, 4), END)
    assert world.run(end=D(2024, 1, 4)).success
    assert world.run(start=D(2024, 1, 7)).success
    key = KLINES.key
    found = {
        int(r.partition_key[-2:]): r.asset_materialization.metadata.get("new_listings")
        for r in world.instance.fetch_materializations(key, limit=20).records
    }
    assert [day for day, number in found.items() if number is None] == [7, 1]
    assert {day: n.value for day, n in found.items() if n} == {
        2: 0, 3: 0, 4: 1, 8: 0, 9: 0, 10: 0,
    }  # fmt: skip


def test_a_change_is_counted_on_its_own_partition_and_no_other(world):
    world.run()
    world.archive.files["AUSDT"] = flat(START, D(2024, 1, 9))
    assert world.run().success
    key = KLINES.key
    found = {
        r.partition_key: r.asset_materialization.metadata["vanished"].value
        for r in world.instance.fetch_materializations(key, limit=10).records
    }
    assert [d for d, n in found.items() if n] == ["2024-01-10"]


def test_a_failed_listing_fails_the_run_in_one_line_and_leaves_the_rows_alone(world):
    world.run()
    before = world.rows("FROM daily_availability ORDER BY ALL")
    world.archive.files = {"AUSDT": {}}
    world.archive.fails = True
    result = world.run()
    assert not result.success
    failed = [e for e in result.all_events if e.is_step_failure]
    text = failed[0].step_failure_data.user_failure_data.description
    assert "failed for 1 of 1 symbols (AUSDT: HTTP 503 SlowDown)" in text
    assert world.rows("FROM daily_availability ORDER BY ALL") == before


def test_a_fault_on_the_second_page_of_one_symbol_leaves_the_rows_alone(world):
    """A 503 there was once taken for the end of the list."""
    world.run()
    before = world.rows("FROM daily_availability ORDER BY ALL")
    client = make_client(settings.load())
    with stubbed(client) as stubber:
        page = {"IsTruncated": False, "CommonPrefixes": [{"Prefix": f"{DS.prefix}AUSDT/"}]}
        stubber.add_response("list_objects_v2", page)
        contents = [{"Key": DS.key("AUSDT", START), "Size": 7, "LastModified": NOW}]
        first = {"IsTruncated": True, "NextContinuationToken": "t", "Contents": contents}
        stubber.add_response("list_objects_v2", first)
        stubber.add_client_error("list_objects_v2", "SlowDown", "Reduce your rate", 503)
        world.archive = S3Archive(client, "data.binance.vision", concurrency=1)
        assert not world.run().success
        stubber.assert_no_pending_responses()
    assert world.rows("FROM daily_availability ORDER BY ALL") == before


TABLES = (
    "daily_availability", "symbols", "probes", "revisions", "symbol_spans", "daily_summary",
    "meta",
)  # fmt: skip


def everything(world):
    return {table: world.rows(f"FROM {table} ORDER BY ALL") for table in TABLES}


def why(result):
    [event] = [e for e in result.all_events if e.is_step_failure]
    return event.step_failure_data.user_failure_data.description


def test_a_refused_probe_of_another_archive_leaves_every_table_and_the_right_one_still_passes(
    world,
):
    """Its symbols were once recorded all the same, and every later update was refused."""
    right = {f"A{n}USDT": flat(START, END) for n in range(36)}
    world.archive.files = right
    assert world.run().success
    before = everything(world)
    world.archive.files = {f"B{n}USDT": flat(START, END) for n in range(58)}
    assert "0 of the 36 symbols" in why(world.run())
    assert everything(world) == before
    world.archive.files = right
    assert world.run(job="late_arrivals").success


def test_a_refused_clock_leaves_every_table_alone(world):
    """A symbol's `last_seen` once stayed two years ahead."""
    world.run()
    before = everything(world)
    world.archive.server_time = world.clock.time
    world.clock.time += dt.timedelta(days=700)
    assert "minutes ahead of the archive's" in why(world.run())
    assert everything(world) == before


def test_a_symbol_first_seen_by_a_failed_listing_stays_unknown(world):
    """It once was known then, and its timeline said absent of dates whose files exist."""
    world.run()
    before = everything(world)
    client = make_client(settings.load())
    with stubbed(client) as stubber:
        names = ("AUSDT", "BUSDT", "NEWUSDT")
        folders = [{"Prefix": f"{DS.prefix}{name}/"} for name in names]
        page = {"IsTruncated": False, "CommonPrefixes": folders}
        stubber.add_response("list_objects_v2", page)
        for _ in names[:2]:
            stubber.add_response("list_objects_v2", {"IsTruncated": False})
        stubber.add_client_error("list_objects_v2", "SlowDown", "Reduce your rate", 503)
        world.archive = S3Archive(client, "data.binance.vision", concurrency=1)
        assert "failed for 1 of 3 symbols (NEWUSDT: HTTP 503 SlowDown" in why(world.run())
        stubber.assert_no_pending_responses()
    assert everything(world) == before
    with reader(world.path) as con, pytest.raises(queries.UnknownSymbolError):
        queries.timeline(con, "NEWUSDT")


def test_an_accepted_archive_is_what_scheduled_runs_are_compared_with_from_then_on(world):
    """Once the flag helped for one run only: every symbol ever known was counted."""
    world.archive.files = {f"A{n}USDT": flat(START, END) for n in range(36)}
    assert world.run().success
    world.archive.files = {f"B{n}USDT": flat(START, END) for n in range(15)}
    assert "0 of the 36 symbols" in why(world.run())
    assert world.run(accept_shrunken=True).success
    assert world.run(job="full_reconcile").success
    assert world.run(D(2024, 1, 5), job="late_arrivals").success


def test_an_archive_accepted_for_some_dates_is_refused_for_others_with_the_command_for_all(world):
    files = {f"A{n}USDT": flat(START, END) for n in range(36)}
    world.archive.files = files
    assert world.run().success
    world.archive.files = {name: files[name] for name in list(files)[:10]}
    assert world.run(D(2024, 1, 9), accept_shrunken=True).success
    text = why(world.run(D(2024, 1, 5), D(2024, 1, 7), job="late_arrivals"))
    assert "30 of the 108 files of 2024-01-05 to 2024-01-07" in text
    assert "backfill --start 2024-01-01 --end 2024-01-10 --accept-shrunken" in text
    assert world.run(accept_shrunken=True).success
    assert world.run(D(2024, 1, 5), D(2024, 1, 7), job="late_arrivals").success


def reported(world, result):
    """The partitions, or else the assets, that a run reported as materialised."""
    return [
        e.partition or e.asset_key.to_user_string()
        for e in result.all_events
        if e.is_step_materialization
    ]


def test_a_probe_of_known_dates_reports_the_partitions_that_changed_and_no_others(world):
    """A reconcile of all history stored 8,000 events a week whatever it found."""
    assert world.run().success
    assert reported(world, world.run(job="full_reconcile")) == []
    files = world.archive.files["AUSDT"]
    world.archive.files = {
        **world.archive.files,
        "AUSDT": {**files, D(2024, 1, 3): (77, files[D(2024, 1, 3)][1])},
    }
    done = world.run(job="full_reconcile")
    assert reported(world, done) == ["symbol_spans", "daily_summary", "2024-01-03"]
    [*_, first] = [e for e in done.all_events if e.is_step_materialization]
    assert first.asset_key == KLINES.key
    shown = first.step_materialization_data.materialization.metadata
    assert (shown["replaced"].value, shown["available"].value) == (1, 2)
    assert reported(world, world.run(END, D(2024, 1, 12), job="late_arrivals")) == [
        "symbol_spans", "daily_summary", "2024-01-11", "2024-01-12",
    ]  # fmt: skip


def test_what_an_update_changes_outside_its_dates_is_reported_by_the_next_probe_of_them(world):
    """Nothing has changed for that one, but Dagster shows the numbers of before."""
    assert world.run().success
    world.archive.files["NEWUSDT"] = flat(D(2024, 1, 4), D(2024, 1, 4))
    assert sorted(reported(world, world.run(END, END))) == [
        "2024-01-10", "daily_summary", "symbol_spans",
    ]  # fmt: skip
    # On each date after its only file it is expected until it has ended.
    assert "2024-01-04" in reported(world, world.run(job="full_reconcile"))
    assert reported(world, world.run(job="full_reconcile")) == []


def test_a_run_that_ended_between_its_write_and_its_reports_is_made_up_for(world, monkeypatch):
    assert world.run().success
    del world.archive.files["AUSDT"][END]
    with monkeypatch.context() as patch:
        patch.setattr(probes, "numbers", lambda row: 1 / 0)
        assert not world.run(job="late_arrivals").success
    assert world.rows(f"SELECT available FROM daily_summary WHERE period = '{END}'") == [(1,)]
    assert sorted(reported(world, world.run(job="late_arrivals"))) == [
        "2024-01-10", "daily_summary", "symbol_spans",
    ]  # fmt: skip
    assert reported(world, world.run(job="late_arrivals")) == []


def test_a_date_whose_absence_settles_is_reported_once(world):
    world.archive.files = {"AUSDT": flat(START, END), "BUSDT": flat(START, D(2024, 1, 9))}
    world.clock.time = dt.datetime(2024, 1, 11, 2, tzinfo=dt.UTC)
    assert world.run().success
    world.clock.time = dt.datetime(2024, 1, 20, 2, tzinfo=dt.UTC)
    assert "2024-01-10" in reported(world, world.run(job="late_arrivals"))
    assert reported(world, world.run(job="late_arrivals")) == []


def test_partitions_that_dagster_does_not_know_are_reported_though_nothing_changed(world):
    """After its history was lost, the next reconcile makes them known again."""
    assert world.run().success
    world.instance.wipe_assets([KLINES.key])
    assert len(reported(world, world.run(job="full_reconcile"))) == 12  # and two tables
    assert reported(world, world.run(job="full_reconcile")) == []


def test_a_failed_probe_of_known_dates_reports_nothing(world):
    assert world.run().success
    world.archive.fails = True
    done = world.run(job="full_reconcile")
    assert not done.success
    assert reported(world, done) == []


@pytest.mark.parametrize(
    ("job", "start"), [("full_reconcile", FIRST_DATE), ("late_arrivals", D(2024, 1, 12))]
)
def test_launched_by_hand_a_job_takes_its_own_dates(world, job, start):
    """Dagster fixes an asset job's dates at load; the UI's Launch had to ask for them."""
    asked = []
    listed = world.archive.list_range
    world.archive.list_range = lambda first, last, *rest, **others: (
        asked.append((first, last)) or listed(max(first, START), last, *rest, **others)
    )
    run = world.instance.get_run_by_id(world.execute(job).run_id)
    assert asked == [(start, D(2024, 1, 31))]
    assert run.tags["dates"] == f"{start} to 2024-01-31"


def relist(world):
    """A year's record; XUSDT's files move to a settled name, and a look-back sees it."""
    begin, moved, again = D(2023, 2, 1), D(2024, 1, 20), D(2024, 1, 26)
    files = flat(begin, moved)
    del files[D(2023, 6, 6)]  # a hole that moves along
    crowd = {f"CROWD{n}USDT": flat(begin, D(2024, 1, 31)) for n in range(4)}
    world.archive.files = {**crowd, "XUSDT": files}
    world.clock.time = dt.datetime(2024, 1, 26, 3, tzinfo=dt.UTC)
    assert world.run(begin, D(2024, 1, 25), job="full_reconcile").success
    world.archive.files = {
        **crowd, "XUSDTSETTLED": files, "XUSDT": flat(again, D(2024, 1, 31))
    }  # fmt: skip
    world.clock.time = dt.datetime(2024, 2, 1, 9, tzinfo=dt.UTC)
    result = world.run(D(2024, 1, 12), D(2024, 1, 31), job="late_arrivals")
    assert result.success
    return files, result.run_id


def test_a_relisting_is_recorded_on_all_dates_by_the_run_that_first_sees_it(world):
    files, run_id = relist(world)
    for symbol, change in (("XUSDT", "vanished"), ("XUSDTSETTLED", "appeared")):
        found = world.rows(
            f"SELECT period FROM revisions WHERE (symbol, change, run_id) = "
            f"('{symbol}', '{change}', '{run_id}') ORDER BY period"
        )
        assert [date for (date,) in found] == list(files), symbol


def test_table_query_check_and_report_agree_on_the_holes_of_a_relisting(world):
    """A settled name once had 1,052 confirmed absences on dates probed before it was seen."""
    relist(world)
    hole = D(2023, 6, 6)
    assert world.run(D(2023, 3, 3), D(2023, 3, 3)).success  # one old date, and the holes were there
    now = world.clock.now()
    with reader(world.path) as con:
        assert [row[:2] for row in queries.holes(con).rows] == [("XUSDTSETTLED", hole)]
        table = con.execute("SELECT symbol, hole_days FROM symbol_spans WHERE hole_days > 0")
        assert table.fetchall() == [("XUSDTSETTLED", 1)]
        afresh = con.execute(f"SELECT symbol, hole_days FROM ({derived.listings_sql(scope(con))}) "
                             "WHERE hole_days > 0")  # fmt: skip
        assert afresh.fetchall() == [("XUSDTSETTLED", 1)]
        verdict = checks.symbol_holes(con, now, settings.Settings(slo_hole_share=0.0001))
        assert verdict.sample == ("XUSDTSETTLED: 1 days",)
        drawn = data.load(con, threshold=0.95, drawn_at=now)
        absent = [
            (drawn.symbols["symbol"][row], drawn.date(day))
            for row, day in zip(*(drawn.cells == data.Cell.ABSENT).nonzero(), strict=True)
        ]
        assert absent == [("XUSDTSETTLED", hole)]
        universe = queries.universe(con, hole, hole)
        assert "XUSDTSETTLED" not in universe.columns
        got = queries.universe(con, hole - dt.timedelta(1), hole).column("XUSDTSETTLED")
        assert got == [True, False]
        status = queries.timeline(con, "XUSDTSETTLED", hole, hole).column("status")
        assert status == ["absent"]


def test_a_record_that_lacks_rows_is_completed_by_the_next_run_of_any_dates(world):
    """Version 0.1 left a new symbol without rows on all dates outside the run that saw it."""
    world.run()
    with writer(world.path) as con:
        con.execute("DELETE FROM files WHERE symbol = 'BUSDT' AND period < '2024-01-08'")
        con.execute("UPDATE symbols SET whole_at = NULL, first_seen = first_seen + INTERVAL 1 HOUR "
                    "WHERE symbol = 'BUSDT'")  # fmt: skip
    with reader(world.path) as con:
        assert queries.timeline(con, "BUSDT", START, START).column("status") == ["unknown"]
    assert world.run(END, END).success
    assert world.rows("SELECT count(*), count(*) FILTER (available) FROM daily_availability") == [
        (20, 20)
    ]


def test_only_a_written_probe_changes_the_settling_time_of_the_record(world, monkeypatch):
    """A failed run once turned pending dates into absent ones, and the other way round."""
    world.run()
    before = everything(world)
    monkeypatch.setenv("AVAILABILITY_SETTLE_DAYS", "30")
    for spoil in ({"fails": True}, {"server_time": world.clock.time - dt.timedelta(9)}):
        with monkeypatch.context() as patch:
            for name, value in spoil.items():
                patch.setattr(world.archive, name, value)
            assert not world.run().success
        assert everything(world) == before
    assert world.run().success
    assert world.rows("SELECT settle_days FROM datasets") == [(30,)]
    monkeypatch.delenv("AVAILABILITY_SETTLE_DAYS")
    assert world.rows("SELECT settle_days FROM datasets") == [(30,)]


def test_a_first_probe_that_is_refused_leaves_no_database(world):
    """An empty one once turned 'no database' into 'no date was probed'."""
    world.archive.server_time = world.clock.time - dt.timedelta(9)
    assert "minutes ahead of the archive's" in why(world.run())
    assert not [path.name for path in world.path.parent.iterdir() if "turn" not in path.name]
    world.archive.server_time = None
    assert world.run().success


def test_a_failed_run_leaves_the_database_open_to_others(world):
    world.run()
    world.clock.time -= dt.timedelta(days=9)
    assert not world.run().success  # refused inside the write
    with duckdb.connect(str(world.path)) as con:
        assert con.execute("SELECT count(*) FROM revisions").fetchall() == [(0,)]


def test_each_partition_carries_its_own_completeness(world):
    """A check's result is of the last run only: four red dates were green after another run."""
    world.archive.files["BUSDT"] = flat(START, D(2024, 1, 5)) | flat(D(2024, 1, 7), END)
    assert world.run().success
    assert world.run(END, END).success
    key = KLINES.key

    def completeness(date):
        only = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[str(date)])
        [latest] = world.instance.fetch_materializations(only, limit=1).records
        return latest.asset_materialization.metadata["completeness"].value

    assert completeness(D(2024, 1, 6)) == 0.5
    assert completeness(END) == 1.0


@pytest.mark.parametrize(
    ("when", "partition"),
    [((2024, 3, 1, 2), "2024-02-29"), ((2025, 1, 1, 2), "2024-12-31"),
     ((2023, 3, 1, 2), "2023-02-28")],
)  # fmt: skip
def test_the_daily_update_asks_for_the_day_before_its_tick(when, partition):
    assert tick(daily_update_schedule, *when).partition_key == partition


def test_late_arrivals_looks_back_over_twenty_days_in_one_run():
    tags = tick(late_arrivals_schedule, 2024, 3, 1, 9).tags
    assert [tags[name] for name in RANGE] == ["2024-02-10", "2024-02-29"]
    tags = tick(late_arrivals_schedule, 2025, 1, 1, 21).tags
    assert [tags[name] for name in RANGE] == ["2024-12-12", "2024-12-31"]


def test_the_look_back_is_a_setting_and_never_reaches_before_the_record(monkeypatch):
    monkeypatch.setenv("AVAILABILITY_LOOKBACK_DAYS", "366")
    tags = tick(late_arrivals_schedule, 2019, 10, 1, 9).tags
    assert [tags[name] for name in RANGE] == ["2019-09-25", "2019-09-30"]


def test_the_full_reconcile_covers_all_history_in_one_run():
    tags = tick(full_reconcile_schedule, 2024, 3, 3, 5).tags
    assert [tags[name] for name in RANGE] == ["2019-09-25", "2024-03-02"]


def test_a_record_that_is_lost_is_refused_before_anything_is_asked_or_made(world):
    """Renamed, or AVAILABILITY_DB mistyped: the next run made a second record and succeeded."""
    assert world.run().success
    moved = world.path.rename(world.path.with_name("moved.duckdb"))
    world.archive.fails = True  # so that asking the archive would be the reason
    done = world.run(END, END)
    assert not done.success
    [failed] = [e for e in done.all_events if e.is_step_failure and e.step_key == KLINES.step]
    text = failed.step_failure_data.user_failure_data.description
    assert text.startswith(
        f"nothing is recorded in {world.path}, but Dagster has materialised partitions of "
        f"um/klines/daily_availability (the last: {END}, written to {world.path}); nothing was "
        "written."
    )
    assert "`backfill --new-record`, or new_record: true" in text
    assert not world.path.exists()
    world.archive.fails = False
    moved.rename(world.path)
    assert world.run(END, END).success


def test_an_empty_database_in_the_place_of_the_record_is_refused_too(world):
    assert world.run().success
    world.path.unlink()
    with writer(world.path):
        pass
    assert not world.run().success
    assert world.rows("SELECT count(*) FROM probes") == [(0,)]


def test_a_new_record_is_begun_on_purpose_once_and_for_good(world):
    assert world.run().success
    world.path.unlink()
    config = {"ops": {KLINES.step: {"config": {"new_record": True}}}}
    assert world.execute("daily_update", range_tags(START, START), config).success
    assert world.run().success, "the choice lasts: the record is there now"
    assert world.rows("SELECT count(DISTINCT date) FROM daily_availability") == [(10,)]


def test_wiping_the_asset_in_dagster_lets_a_new_record_begin(world):
    assert world.run().success
    world.path.unlink()
    world.instance.wipe_assets([KEY])
    assert world.run().success


def test_each_partition_says_which_file_it_was_written_to(world):
    assert world.run().success
    events = world.instance.fetch_materializations(KEY, limit=20).records
    paths = {e.asset_materialization.metadata["database"].value for e in events}
    assert (len(events), paths) == (10, {str(world.path)})


def test_what_follows_from_the_rows_does_not_wait_for_a_listing(tmp_path, monkeypatch):
    """All that writes once shared a pool, which a probe held while it asked the archive."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    listing, go_on, summarised = threading.Event(), threading.Event(), []

    class SlowArchive(FakeArchive):
        def list_range(self, *arguments, **others):
            listing.set()
            assert go_on.wait(PATIENCE)
            return super().list_range(*arguments, **others)

    with dg.DagsterInstance.get() as instance:
        world = World(tmp_path, instance)
        assert world.run().success
        world.archive = SlowArchive(world.archive.files)
        probe = threading.Thread(target=world.run)
        probe.start()
        try:
            assert listing.wait(PATIENCE)
            summary = threading.Thread(
                target=lambda: summarised.append(world.materialise("daily_summary").success)
            )
            summary.start()
            summary.join(PATIENCE / 4)
            assert summarised == [True], "while the probe waits for the archive"
        finally:
            go_on.set()
            probe.join(PATIENCE)
        latest = instance.get_runs(dg.RunsFilter(tags={WORK_TAG: "daily_update"}), limit=1)
        assert [run.status for run in latest] == [dg.DagsterRunStatus.SUCCESS]
