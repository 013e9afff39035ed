"""A record, an archive and a Dagster instance of their own, for tests of whole runs."""

import datetime as dt

import dagster as dg

from availability_pipeline.archive.listing import NOTHING_RECORDED, ListingError
from availability_pipeline.definitions import defs
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.partitions import range_tags
from availability_pipeline.orchestration.resources import AvailabilityDuckDB
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.helpers import D, flat, make_listing

START, END = D(2024, 1, 1), D(2024, 1, 10)


class FakeArchive:
    def __init__(self, files):
        self.files, self.fails, self.server_time = files, False, None

    def list_range(self, start, end, progress=None, recorded=NOTHING_RECORDED):
        if self.fails:
            raise ListingError({"AUSDT": "HTTP 503 SlowDown"}, len(self.files), start, end)
        if progress:
            progress(len(self.files), len(self.files))
        return make_listing(start, end, self.files, self.server_time, recorded)


class FakeClock:
    """`ahead` is how far the clock is off."""

    def __init__(self, time):
        self.time, self.ahead = time, dt.timedelta(0)

    def now(self):
        self.time += dt.timedelta(minutes=1)
        return self.time + self.ahead

    def uptime(self):
        return self.time.timestamp()


class World:
    """One archive, one clock, one database and one instance."""

    def __init__(self, folder, instance):
        self.path, self.instance = folder / "record.duckdb", instance
        self.archive = FakeArchive({"AUSDT": flat(START, END), "BUSDT": flat(START, END)})
        self.clock = FakeClock(dt.datetime(2024, 2, 1, 2, tzinfo=dt.UTC))

    def run(self, start=START, end=END, job="daily_update", accept_shrunken=False):
        op = "daily_availability" if job == "daily_update" else "probe_again"
        config = {"ops": {op: {"config": {"accept_shrunken": accept_shrunken}}}}
        return self.execute(job, range_tags(start, end), config)

    def execute(self, job, tags=None, config=None):
        resources = {
            "archive": self.archive,
            "clock": self.clock,
            "duckdb": AvailabilityDuckDB(database=str(self.path)),
        }
        return (
            build_defs(resources=resources)
            .resolve_job_def(job)
            .execute_in_process(
                instance=self.instance, tags=tags, run_config=config, raise_on_error=False
            )
        )

    def materialise(self, name):
        resources = {"duckdb": AvailabilityDuckDB(database=str(self.path))}
        job = build_defs(resources=resources).resolve_implicit_global_asset_job_def()
        return job.get_subset(asset_selection={dg.AssetKey(name)}).execute_in_process(
            instance=self.instance, raise_on_error=False
        )

    def judge(self):
        """The standing checks' verdicts, by name."""
        done = self.execute("slo_checks")
        assert done.success
        return {e.check_name: e for e in done.get_asset_check_evaluations()}

    def rows(self, sql):
        with reader(self.path) as con:
            return con.execute(sql).fetchall()


def tick(schedule, *when):
    context = dg.build_schedule_context(
        scheduled_execution_time=dt.datetime(*when, tzinfo=dt.UTC),
        repository_def=defs.get_repository_def(),
    )
    [request] = schedule.evaluate_tick(context).run_requests
    return request
