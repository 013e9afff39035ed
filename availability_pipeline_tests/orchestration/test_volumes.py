"""Daily volume in Dagster: what a run reads, what it reports, and when it is launched.

If this fails, the UI shows dates as read that were not, or the rankings are of the week before.
"""

import datetime as dt
import json
import subprocess
import sys

import dagster as dg
import duckdb
import pytest
from click.testing import CliRunner

from availability_pipeline import settings
from availability_pipeline.cli.main import cli
from availability_pipeline.mirror import volume_checks
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.resources import Clock
from availability_pipeline.orchestration.schedules import volume_sensor
from availability_pipeline.orchestration.volumes import RANKINGS, key_of, recent
from availability_pipeline.quality import acknowledgements
from availability_pipeline.queries.volume import ALL_NAME, PREDECESSOR_NAME
from availability_pipeline.record import connection, volumes
from availability_pipeline_tests.support import klines, mirrored
from availability_pipeline_tests.support.download_host import Fault, download_host
from availability_pipeline_tests.support.helpers import PATIENCE, D, days
from availability_pipeline_tests.support.klines import DAILY, MONTHLY, kline

START, LAST = D(2024, 2, 1), D(2024, 3, 10)
FEBRUARY = D(2024, 2, 1)
PROBED, AGAIN, NOW = (dt.datetime(2024, 3, 11, hour, tzinfo=dt.UTC) for hour in (9, 10, 12))
KEY = key_of("um")


class World:
    """An archive of 1d klines, its record, and Dagster."""

    def __init__(self, host, folder, instance):
        self.host, self.folder, self.instance = host, folder, instance
        self.values, self.now = {}, NOW

    def trade(self, *symbols, start=START, end=LAST):
        self.values |= {(s, date): kline(s, date) for s in symbols for date in days(start, end)}

    def probe(self, *months, end=LAST, at=PROBED):
        klines.publish(self.host, self.values, months)
        self.record(end, at)

    def record(self, end=LAST, at=PROBED):
        mirrored.record(
            self.folder / "r.duckdb", self.host, start=START, end=end, at=at,
            datasets=(DAILY, MONTHLY),
        )  # fmt: skip

    def defs(self):
        return build_defs(resources={"clock": Clock(stopped_at=self.now)})

    def materialise(self, start, end, *keys):
        job = self.defs().resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance, asset_selection=list(keys) or [KEY], raise_on_error=False,
            tags={
                "dagster/asset_partition_range_start": str(start),
                "dagster/asset_partition_range_end": str(end),
            },
        )  # fmt: skip

    def job(self, **tags):
        return (
            self.defs()
            .resolve_job_def("volume")
            .execute_in_process(instance=self.instance, raise_on_error=False, tags=tags)
        )

    def rows(self):
        with volumes.reader(self.folder / "volume.duckdb") as con:
            names = ", ".join(volumes.NUMBERS)
            found = con.execute(f"SELECT symbol, date, {names} FROM daily_volume").fetchall()
        return {(symbol, date): klines.Kline(date, *others) for symbol, date, *others in found}

    def shown(self, key=KEY):
        """The partitions that Dagster has, with the rows that it shows of each."""
        events = self.instance.fetch_materializations(key, limit=1000).records
        return {
            one.asset_materialization.partition: one.asset_materialization.metadata[
                "dagster/partition_row_count"
            ].value
            for one in reversed(events)
        }

    def asked(self):
        asked = [key for key in self.host.asked if not key.endswith(".CHECKSUM")]
        self.host.asked.clear()
        return sorted(asked)


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DATASETS", f"{DAILY},{MONTHLY}")
    monkeypatch.setenv("AVAILABILITY_DB", str(tmp_path / "r.duckdb"))
    with download_host() as host, dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setenv("AVAILABILITY_DOWNLOAD_URL", host.url)
        monkeypatch.setenv("AVAILABILITY_DOWNLOADS", "8")
        yield World(host, tmp_path, instance)


def why(done):
    [failed] = [e for e in done.all_events if e.is_step_failure]
    data = failed.step_failure_data
    return data.user_failure_data.description


def of(done, key=KEY):
    return [e.materialization for e in done.get_asset_materialization_events()
            if e.asset_key == key]  # fmt: skip


def as_text(dates):
    return [str(date) for date in dates]


class TestAssets:
    def test_the_past_is_read_in_one_run_and_each_partition_has_its_rows(self, world):
        world.trade("BTCUSDT", "ETHUSDT")
        world.trade("NEWUSDT", start=D(2024, 3, 9))
        world.probe(FEBRUARY)
        done = world.materialise(START, LAST, KEY, RANKINGS)
        assert done.success
        assert world.rows() == world.values
        assert world.shown() == dict.fromkeys(as_text(days(START, D(2024, 3, 8))), 2) | {
            "2024-03-09": 3, "2024-03-10": 3,
        }  # fmt: skip
        numbers = {name: one.value for name, one in of(done)[0].metadata.items()}
        assert numbers["files"] == 2 + 2 * 10 + 2
        assert numbers["rows"] == len(world.values)
        assert (numbers["refused"], numbers["failed"]) == (0, 0)
        assert numbers["volumes"] == str(world.folder / "volume.duckdb")
        [ranked] = of(done, RANKINGS)
        found = {name: one.value for name, one in ranked.metadata.items()}
        for name in (ALL_NAME, PREDECESSOR_NAME):
            path = world.folder / "rankings" / name
            assert duckdb.read_parquet(str(path)).shape[0] == len(world.values)
            assert found[f"rows of {name}"] == len(world.values)

    def test_a_replaced_file_of_another_date_is_reported_as_that_date_s(self, world):
        world.trade("BTCUSDT")
        world.probe()
        world.materialise(START, LAST)
        old = D(2024, 2, 3)
        world.values["BTCUSDT", old] = kline("BTCUSDT", old, version=2)
        world.probe(at=AGAIN)
        done = world.materialise(LAST, LAST)
        assert done.success
        assert world.rows() == world.values
        assert sorted(one.partition for one in of(done)) == as_text([old, LAST])

    def test_what_cannot_be_had_fails_the_run_after_the_rest_was_written(self, world):
        world.trade("BTCUSDT")
        world.probe()
        key = DAILY.key("BTCUSDT", D(2024, 3, 3))
        world.host.faults[key] = Fault("status", times=9)
        done = world.materialise(D(2024, 3, 1), LAST)
        assert not done.success
        assert why(done).startswith(f"1 files could not be had ({key}: ")
        assert why(done).endswith("the others were read, and the next run tries these again")
        read = [date for date in days(D(2024, 3, 1), LAST) if date != D(2024, 3, 3)]
        assert sorted(date for _, date in world.rows()) == read
        assert sorted(world.shown()) == as_text(read)

    def test_what_is_not_taken_is_named_and_fails_nothing(self, world):
        world.trade("BTCUSDT")
        world.probe()
        key = DAILY.key("BTCUSDT", LAST)
        world.host.files[key] = b"not a zip"
        world.values.pop(("BTCUSDT", LAST))
        world.probe()
        done = world.materialise(START, LAST)
        assert done.success
        shown = of(done)[0].metadata
        assert shown["refused"].value == 1
        assert shown["not_taken"].value.startswith(f"{key}: its zip is broken")
        assert world.rows() == world.values
        assert world.shown()[str(LAST)] == 0

    def test_a_run_without_dates_says_what_to_do(self, world):
        world.trade("BTCUSDT")
        world.probe()
        job = world.defs().resolve_implicit_global_asset_job_def()
        done = job.execute_in_process(
            instance=world.instance, asset_selection=[KEY], raise_on_error=False
        )
        assert "this run has no dates: choose partitions" in why(done)

    def test_without_the_archive_nothing_is_written_and_the_run_fails_with_a_line(
        self, world, monkeypatch
    ):
        world.trade("BTCUSDT", "ETHUSDT")
        world.probe()
        monkeypatch.setenv("AVAILABILITY_DOWNLOAD_URL", "http://127.0.0.1:9")
        done = world.materialise(START, LAST)
        assert not done.success
        assert "127.0.0.1" in why(done)
        assert "\n" not in why(done)
        assert not (world.folder / "volume.duckdb").exists()


class TestJob:
    def test_it_reads_this_month_and_the_last_and_reports_what_changed(self, world):
        world.trade("BTCUSDT")
        world.probe(FEBRUARY)
        done = world.job()
        assert done.success
        assert world.rows() == world.values
        assert sorted(world.shown()) == as_text(days(START, LAST))
        assert len(of(done, RANKINGS)) == 1
        run = world.instance.get_run_by_id(done.run_id)
        assert run.tags["dates"] == "2024-02-01 to 2024-03-10"
        world.asked()
        again = world.job()
        assert (of(again), world.asked()) == ([], [])

    def test_dates_that_were_written_and_not_reported_are_reported_by_the_next_run(self, world):
        world.trade("BTCUSDT")
        world.probe()
        world.job()
        with dg.DagsterInstance.ephemeral() as world.instance:
            done = world.job()
            assert [one.partition for one in of(done)] == as_text(days(START, LAST))

    def test_what_the_command_read_of_the_past_is_reported_too(self, world):
        """`volume update` writes all of it beside Dagster."""
        world.trade("BTCUSDT", start=START - dt.timedelta(40))
        klines.publish(world.host, world.values)
        mirrored.record(world.folder / "r.duckdb", world.host, start=START - dt.timedelta(40),
                        end=LAST, at=PROBED, datasets=(DAILY, MONTHLY))  # fmt: skip
        done = CliRunner().invoke(cli, ["volume", "update"])
        assert done.exit_code == 0, done.output
        assert world.shown() == {}
        assert world.job().success
        assert sorted(world.shown()) == as_text(days(START - dt.timedelta(40), LAST))

    def test_a_market_that_was_not_recorded_yet_is_passed_over(self, world, monkeypatch):
        monkeypatch.setenv("AVAILABILITY_DATASETS", f"{DAILY},spot/daily/klines/1d")
        world.trade("BTCUSDT")
        world.probe()
        done = world.job()
        assert done.success
        assert len(of(done)) == len(days(START, LAST))
        assert of(done, key_of("spot")) == []

    def test_it_ranks_what_there_is_and_then_fails_with_what_is_not(self, world):
        world.trade("BTCUSDT", "ETHUSDT")
        world.probe()
        key = DAILY.key("BTCUSDT", LAST)
        world.host.faults[key] = Fault("status", times=9)
        done = world.job()
        assert not done.success
        assert why(done).startswith(f"1 files could not be had ({key}: ")
        [event] = world.instance.fetch_materializations(RANKINGS, limit=9).records
        assert (
            event.asset_materialization.metadata[f"rows of {ALL_NAME}"].value
            == len(world.values) - 1
        )
        assert str(LAST) in world.shown()
        world.host.faults.clear()
        assert world.job().success
        assert world.rows() == world.values

    def test_of_the_days_it_covers_the_last_month_is_one(self):
        assert recent(D(2024, 3, 10)) == (D(2024, 2, 1), D(2024, 3, 10))
        assert recent(D(2024, 1, 31)) == (D(2023, 12, 1), D(2024, 1, 31))

    def test_without_1d_klines_it_says_that_the_definitions_are_to_be_loaded_again(
        self, world, monkeypatch
    ):
        job = world.defs().resolve_job_def("volume")
        monkeypatch.delenv("AVAILABILITY_DATASETS")
        done = job.execute_in_process(instance=world.instance, raise_on_error=False)
        assert "has no daily 1d klines" in why(done)


class TestAfterAnUpdate:
    def tick(self, world, cursor=None):
        with dg.build_sensor_context(
            instance=world.instance, cursor=cursor,
            repository_def=world.defs().get_repository_def(),
            resources={"clock": Clock(stopped_at=NOW)},
        ) as context:  # fmt: skip
            return volume_sensor.evaluate_tick(context)

    def updated(self, world):
        world.instance.report_runless_asset_event(dg.AssetMaterialization("daily_summary"))

    def test_a_run_of_the_last_two_months_is_launched_once(self, world):
        assert "nothing was updated since the last reading" in self.tick(world).skip_message
        self.updated(world)
        self.updated(world)
        first = self.tick(world)
        [request] = first.run_requests
        assert request.tags["dates"] == "2024-02-01 to 2024-03-10"
        assert self.tick(world, first.cursor).run_requests == []
        self.updated(world)
        [second] = self.tick(world, first.cursor).run_requests
        assert second.run_key != request.run_key

    @pytest.mark.parametrize(
        ("job", "waits"), [("volume", True), ("late_arrivals", True), ("mirror", False)]
    )
    def test_it_waits_for_updates_and_for_the_run_before_it(self, world, job, waits, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr("time.time", lambda: NOW.timestamp())
            self.updated(world)
        world.instance.add_run(dg.DagsterRun(job, status=dg.DagsterRunStatus.STARTED))
        assert bool(self.tick(world).run_requests) is not waits


class TestChecks:
    def verdict(self, world, name):
        job = world.defs().resolve_job_def("slo_checks")
        done = job.execute_in_process(
            instance=world.instance, op_selection=[f"record_{name}"], raise_on_error=False
        )
        [found] = done.get_asset_check_evaluations()
        return found

    def complete(self, world):
        return self.verdict(world, "volume_is_complete")

    def test_a_recorded_file_without_a_row_is_named_and_a_run_takes_it(self, world):
        world.trade("BTCUSDT")
        world.probe()
        none = self.complete(world)
        assert (none.passed, none.metadata["count"].value) == (False, len(world.values))
        assert world.job().success
        good = self.complete(world)
        assert (good.passed, good.description) == (True, f"{DAILY}: 39 of 39 files")
        world.trade("NEWUSDT", start=LAST)
        world.values["BTCUSDT", LAST] = kline("BTCUSDT", LAST, version=2)
        world.probe(at=AGAIN)
        found = self.complete(world)
        assert found.metadata["sample"].value == [
            f"{LAST} NEWUSDT was not read", f"{LAST} BTCUSDT was replaced since it was read",
        ]  # fmt: skip
        assert found.severity == dg.AssetCheckSeverity.ERROR
        assert "Launch the job volume" in found.metadata["recovery"].value
        # Nobody has to do anything while a run is at work.
        run = dg.DagsterRun("volume", status=dg.DagsterRunStatus.STARTED)
        world.instance.add_run(run)
        assert self.complete(world).severity == dg.AssetCheckSeverity.WARN
        world.instance.report_run_canceled(run)
        assert world.job().success
        assert self.complete(world).passed

    def test_what_was_recorded_just_now_and_what_is_pending_are_not_missed(self, world):
        world.trade("BTCUSDT", end=D(2024, 3, 8))
        world.probe(end=D(2024, 3, 8))
        assert world.job().success
        world.trade("BTCUSDT", start=D(2024, 3, 9), end=D(2024, 3, 9))
        # Of the last day no file is there yet.
        world.probe(at=NOW - dt.timedelta(minutes=5))
        found = self.complete(world)
        assert (found.passed, found.description) == (True, f"{DAILY}: 37 of 38 files")

    def test_a_file_that_is_not_taken_is_a_warning_with_the_reason(self, world):
        world.trade("BTCUSDT")
        world.probe(FEBRUARY)
        world.host.files[MONTHLY.key("BTCUSDT", FEBRUARY)] = b"not a zip"
        world.host.files[DAILY.key("BTCUSDT", LAST)] = klines.zipped("x")
        world.record(at=AGAIN)
        assert world.job().success
        found = self.complete(world)
        assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
        [named] = found.metadata["sample"].value
        assert named.startswith(f"{LAST} BTCUSDT was not taken, row 1 has 'x'")
        assert "1 months that were not taken are there as days" in found.description

    def test_a_month_that_says_something_else_than_its_days_is_a_breach(self, world):
        world.trade("BTCUSDT", "ETHUSDT")
        world.probe()
        name = "volume_matches_monthly"
        nothing = self.verdict(world, name)
        assert (nothing.passed, nothing.metadata["observed"].value) == (True, None)
        assert world.job().success
        daily = dict(world.values)
        wrong = D(2024, 2, 5)
        day = daily["ETHUSDT", wrong]
        world.values["ETHUSDT", wrong] = day._replace(close=day.low, trades=day.trades + 1)
        klines.publish(world.host, world.values, [FEBRUARY])
        world.values = daily
        klines.publish(world.host, world.values)
        world.probe(at=AGAIN)
        assert world.job().success
        assert world.rows() == daily
        found = self.verdict(world, name)
        assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
        assert found.metadata["sample"].value == [
            f"{wrong} ETHUSDT close: {day.close:.17g} in the daily file, {day.low:.17g} in the "
            "monthly one",
            f"{wrong} ETHUSDT trades: {day.trades} in the daily file, {day.trades + 1} in the "
            "monthly one",
        ]
        assert found.metadata["count"].value == 2
        assert "58 days were compared" in found.description

        # Neither file may ever be replaced: then the check would be red for good.
        def acknowledge(*arguments):
            command = ["slo", "acknowledge", "--reason", "the month is wrong", *arguments]
            return CliRunner().invoke(cli, [*command, "--dataset", str(DAILY)])

        of_that_day = ["--date", str(wrong), "--symbol", "ETHUSDT"]
        said = " ".join(["slo acknowledge --dataset", str(DAILY), *of_that_day, "--reason TEXT`"])
        assert said in found.metadata["recovery"].value
        for other in (
            ["--date", str(wrong), "--symbol", "BTCUSDT"],
            ["--date", str(wrong + dt.timedelta(1)), "--symbol", "ETHUSDT"],
            ["--date", str(wrong)],
        ):
            refused = acknowledge(*other)
            assert refused.exit_code == 1
            assert "there is nothing to acknowledge" in refused.stderr
        with connection.writer(settings.load().db) as con:
            acknowledgements.acknowledge(
                con,
                [wrong],
                reason="the month is wrong",
                at=NOW + dt.timedelta(minutes=1),
                symbols=["ETHUSDT"],
                dataset=DAILY,
                differing=volume_checks.differing(settings.load(), DAILY, [wrong]),
            )
        found = self.verdict(world, name)
        assert found.passed
        assert found.metadata["acknowledged"].value == 1
        assert "1 acknowledged" in found.description
        # It was of these two files.
        world.values["ETHUSDT", wrong] = day._replace(trades=day.trades + 2)
        klines.publish(world.host, world.values)
        world.now = NOW + dt.timedelta(hours=1)
        world.probe(at=world.now)
        assert world.job().success
        found = self.verdict(world, name)
        assert (found.passed, found.metadata["count"].value) == (False, 2)
        assert acknowledge(*of_that_day).output == "1 acknowledgement written\n"
        assert self.verdict(world, name).passed
        taken_back = ["slo", "forget", "--dataset", str(DAILY), *of_that_day]
        assert CliRunner().invoke(cli, taken_back).exit_code == 0
        assert not self.verdict(world, name).passed

    @pytest.mark.parametrize(
        ("times", "jumps"), [(1001.0, True), (0.0009, True), (900.0, False), (0.0, False)]
    )
    def test_a_volume_far_from_the_usual_is_a_warning_with_its_file(self, world, times, jumps):
        world.trade("BTCUSDT", "ETHUSDT")
        for (symbol, date), day in world.values.items():
            world.values[symbol, date] = day._replace(quote_volume=1e7)
        odd = LAST - dt.timedelta(2)
        day = world.values["ETHUSDT", odd]
        world.values["ETHUSDT", odd] = day._replace(quote_volume=times * 1e7)
        world.probe()
        assert world.job().success
        found = self.verdict(world, "volume_is_plausible")
        assert found.passed is not jumps
        if jumps:
            assert found.severity == dg.AssetCheckSeverity.WARN
            [named] = found.metadata["sample"].value
            assert named.startswith(f"{odd} ETHUSDT: {times * 1e7:.6g}, where 1e+07 is usual")
            assert named.endswith(f"({DAILY.key('ETHUSDT', odd)})")

    def test_a_new_symbol_and_one_that_trades_no_more_do_not_jump(self, world):
        world.trade("BTCUSDT", "GONEUSDT")
        world.trade("NEWUSDT", start=LAST - dt.timedelta(4))
        for n, (symbol, date) in enumerate(sorted(world.values)):
            volume = 1e7
            if symbol == "GONEUSDT" and date > D(2024, 2, 20):
                volume = 0
            if symbol == "NEWUSDT":
                volume = 10.0 ** (n % 9)
            day = world.values[symbol, date]
            world.values[symbol, date] = day._replace(quote_volume=volume)
        world.probe()
        assert world.job().success
        assert self.verdict(world, "volume_is_plausible").passed

    def test_a_reader_judges_without_what_fetches(self):
        """`slo` of a reader ended with "No module named 'urllib3'"."""
        code = (
            "import sys; sys.modules |= dict.fromkeys(('urllib3', 'botocore', 'dagster'))\n"
            "import availability_pipeline.mirror.volume_checks"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)

    def test_slo_says_them_and_what_cannot_be_read_is_not_judged(
        self, world, monkeypatch, tmp_path
    ):
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))

        def said():
            done = CliRunner().invoke(cli, ["slo", "--json"])
            return {e["name"]: (e["outcome"], e["count"]) for e in json.loads(done.stdout)["slo"]
                    if e["name"].startswith("volume")}  # fmt: skip

        world.trade("BTCUSDT")
        world.probe()
        assert said() == {
            "volume_is_complete": ("breach", 39),
            "volume_matches_monthly": ("unknown", 0),
            "volume_is_plausible": ("unknown", 0),
        }
        assert world.job().success
        assert said()["volume_is_complete"] == ("ok", 0)
        (tmp_path / "volume.duckdb").write_bytes(b"something else")
        assert set(said().values()) == {("warn", 0)}
        for name in said():
            found = self.verdict(world, name)
            assert found.description.startswith("Not judged: ")
            assert found.severity == dg.AssetCheckSeverity.WARN
