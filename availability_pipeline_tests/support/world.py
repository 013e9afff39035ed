"""A record, an archive and a Dagster instance of their own, for tests of whole runs."""

import datetime as dt
from dataclasses import replace

import dagster as dg

from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.archive.listing import NOTHING_RECORDED, Folders, ListingError
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.partitions import (
    KINDS_TAG,
    WORK_TAG,
    Kind,
    range_tags,
)
from availability_pipeline.orchestration.resources import AvailabilityDuckDB
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.helpers import D, flat, make_listing

START, END = D(2024, 1, 1), D(2024, 1, 10)

KLINES = Kind((UM_KLINES_1M,))


def updated(kind=KLINES):
    """The assets that an update of a kind materialises."""
    return [kind.key, dg.AssetKey("symbol_spans"), dg.AssetKey("daily_summary")]


class FakeArchive:
    """`files` are those of the default dataset, `others` those of others by their names."""

    def __init__(self, files, **others):
        self.files, self.others, self.fails, self.server_time = files, others, False, None
        self.left_out = frozenset()  # by the last listing

    def folders(self, dataset=None):
        symbols = {name for files in self.of_kind(dataset) for name in files}
        return Folders(dataset.kind, tuple(sorted(symbols)))

    def children(self, prefix):
        """The folders directly below a prefix."""
        folders = {
            Dataset.parse(name).folder(symbol)
            for name, files in {str(UM_KLINES_1M): self.files, **self.others}.items()
            for symbol in files
        }
        below = {folder[len(prefix) :] for folder in folders if folder.startswith(prefix)}
        return sorted({f"{prefix}{rest.partition('/')[0]}/" for rest in below if rest})

    def of_kind(self, dataset):
        kind = "/".join(dataset.kind)
        return [self.files] * (kind == "um/daily/klines") + [
            files for name, files in self.others.items() if name.startswith(kind)
        ]

    def list_range(
        self, start, end, progress=None, recorded=NOTHING_RECORDED, *, dataset=UM_KLINES_1M,
        folders=None, leave_out=(),
    ):  # fmt: skip
        files = self.files if dataset == UM_KLINES_1M else self.others.get(str(dataset), {})
        self.left_out = frozenset(leave_out)
        if self.fails is True or self.fails == str(dataset):
            raise ListingError({"AUSDT": "HTTP 503 SlowDown"}, len(files), start, end, dataset)
        if progress:
            progress(len(files), len(files))
        listing = make_listing(start, end, files, self.server_time, recorded, dataset, leave_out)
        return replace(listing, in_archive=dataset == UM_KLINES_1M or str(dataset) in self.others)


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

    def run(self, start=START, end=END, job="daily_update", accept_shrunken=False, kind=KLINES):
        op = kind.step if job == kind.work else "probe_again"
        config = {"ops": {op: {"config": {"accept_shrunken": accept_shrunken}}}}
        return self.execute(job, range_tags(start, end), config, kind)

    def execute(self, job, tags=None, config=None, kind=KLINES):
        """A job, or an update of a kind as the schedule launches it."""
        resources = {
            "archive": self.archive,
            "clock": self.clock,
            "duckdb": AvailabilityDuckDB(database=str(self.path)),
        }
        defs, selection = build_defs(resources=resources), None
        if job == kind.work:
            found, selection = defs.resolve_implicit_global_asset_job_def(), updated(kind)
            tags = {WORK_TAG: kind.work, **(tags or {})}
        else:
            found = defs.resolve_job_def(job)
        return found.execute_in_process(
            instance=self.instance,
            tags={KINDS_TAG: str(kind), **(tags or {})},
            run_config=config,
            asset_selection=selection,
            raise_on_error=False,
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
    [request] = ticks(schedule, *when)
    return request


def ticks(schedule, *when):
    """What a schedule asks for: the requests of its tick."""
    context = dg.build_schedule_context(
        scheduled_execution_time=dt.datetime(*when, tzinfo=dt.UTC),
        repository_def=build_defs().get_repository_def(),
    )
    return schedule.evaluate_tick(context).run_requests
