"""The standing checks as Dagster runs them: real instance, real database, each outcome."""

import datetime as dt
import uuid

import dagster as dg
import duckdb
import pytest
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._utils.schedules import schedule_execution_time_iterator

from availability_pipeline import settings
from availability_pipeline.archive.datasets import CATALOGUE, FIRST_DATE, KNOWN, Dataset
from availability_pipeline.archive.listing import S3Archive
from availability_pipeline.definitions import defs
from availability_pipeline.orchestration import checks, schedules
from availability_pipeline.orchestration import runs as health
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.partitions import kinds, range_tags
from availability_pipeline.orchestration.resources import AvailabilityDuckDB
from availability_pipeline.quality import checks as standing
from availability_pipeline.quality import rules
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support.bucket import KeyBucket
from availability_pipeline_tests.support.helpers import D, days, flat, make_listing, published
from availability_pipeline_tests.support.world import KLINES, updated

NOW = dt.datetime.now(dt.UTC).replace(hour=9, minute=30)
TODAY = NOW.date()
YESTERDAY = TODAY - dt.timedelta(1)
START = TODAY - dt.timedelta(60)
SYMBOLS = [f"S{n:02}USDT" for n in range(25)]
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
METADATA = {"observed", "threshold", "count", "sample", "sample_truncated", "recovery"}


class FixedClock:
    def now(self):
        return NOW


class World:
    """A record written directly, and an instance that has seen its dates."""

    def __init__(self, folder, instance):
        self.path, self.instance = folder / "record.duckdb", instance
        self.files = {symbol: flat(START, YESTERDAY) for symbol in SYMBOLS}
        self.defs = build_defs(
            resources={"clock": FixedClock(), "duckdb": AvailabilityDuckDB(database=str(self.path))}
        )

    def write(self, start=FIRST_DATE, at=NOW):
        with writer(self.path) as con:
            store.write_probe(
                con, make_listing(start, YESTERDAY, self.files), probed_at=at, run_id="x",
                accept_shrunken=True,
            )  # fmt: skip

    def seen(self, dates, key=KLINES.key):
        for date in dates:
            self.instance.report_runless_asset_event(
                dg.AssetMaterialization(key, partition=date.isoformat())
            )

    def judge(self, *names):
        job = self.defs.resolve_job_def("slo_checks")
        ops = [f"{where}_{name}" for name, where in ASSETS.items() if name in names]
        return job.execute_in_process(
            instance=self.instance, op_selection=ops or None, raise_on_error=False
        )

    def verdict(self, name):
        result = self.judge(name)
        assert result.success, "a check that does not pass blocks nothing and fails no run"
        [found] = result.get_asset_check_evaluations()
        assert set(found.metadata) >= METADATA
        assert found.check_name == name
        return found


ASSETS = {
    key.name: key.asset_key.to_user_string() for one in checks.STANDING for key in one.check_keys
}


@pytest.fixture
def world(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(tmp_path, instance)


def outcome(found):
    return "pass" if found.passed else found.severity.value.lower()


def test_the_standing_checks_are_exactly_these_and_block_nothing():
    assert set(ASSETS) == {
        "rows_are_unique", "continuity", "completeness_slo", "symbol_holes", "publication_lag",
        "update_success_rate", "freshness", "store_matches_dagster", "exchange_coverage",
        "catalogue_matches_archive", "mirror_is_complete", "mirror_is_verified",
        "volume_is_complete", "volume_matches_monthly", "volume_is_plausible",
        "publication_is_current", "publication_is_whole",
    }  # fmt: skip
    assert {name for name in ASSETS if ASSETS[name] != "record"} == {"mirror_is_verified"}
    assert set(standing.ALL) < set(standing.TABLE) == set(ASSETS)
    specs = [spec for one in checks.STANDING for spec in one.check_specs]
    assert all(spec.description and not spec.blocking for spec in specs)
    pools = {one.node_def.pool for one in checks.STANDING}
    assert pools == {None}, "a reader that takes the writer's place holds up an update"


OF_MIRROR = {"mirror_is_complete", "mirror_is_verified"}
OF_VOLUME = {"volume_is_complete", "volume_matches_monthly", "volume_is_plausible"}
OF_SITE = {"publication_is_current", "publication_is_whole"}


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:9"])
def test_slo_checks_runs_all_but_the_weekly_one_and_no_other_job_runs_any(monkeypatch, url):
    monkeypatch.delenv("AVAILABILITY_EXCHANGE_INFO_URL", raising=False)
    monkeypatch.delenv("AVAILABILITY_MIRROR_URL", raising=False)
    if url:
        monkeypatch.setenv("AVAILABILITY_EXCHANGE_INFO_URL", url)
        monkeypatch.setenv("AVAILABILITY_MIRROR_URL", "/mirror")
        monkeypatch.setenv("AVAILABILITY_SITE_URL", "/site")
        monkeypatch.setenv("AVAILABILITY_DATASETS", "um/daily/klines/*")
    found = build_defs()
    graph = found.resolve_asset_graph()
    everything = {key.name for key in graph.asset_check_keys}
    missing = OF_MIRROR | OF_VOLUME | OF_SITE if not url else set()
    assert everything == set(ASSETS) - missing - (set() if url else {"exchange_coverage"})
    for job in schedules.jobs(settings.load()):
        if isinstance(job, UnresolvedAssetJobDefinition):
            selected = {key.name for key in job.selection.resolve_checks(graph)}
            expected = {
                "slo_checks": everything - {"catalogue_matches_archive", "mirror_is_verified"},
                "catalogue_check": {"catalogue_matches_archive"},
                "mirror_check": {"mirror_is_verified"},
            }
            assert selected == expected.get(job.name, set()), job.name


def test_a_run_over_many_partitions_plans_no_check(world):
    """Dagster plans a check of a partitioned asset once a partition and evaluates it once.

    All history from the UI left 18,326 such rows and pages of "Skipped" in each check's history.
    """
    graph = world.defs.resolve_asset_graph()
    everything = world.defs.resolve_implicit_global_asset_job_def()
    partitioned = {key for key in graph.materializable_asset_keys if graph.get(key).is_partitioned}
    run = world.instance.create_run_for_job(
        everything.get_subset(asset_selection=partitioned),
        tags=range_tags(START, YESTERDAY),
        asset_selection=frozenset(partitioned),
    )
    planned = world.instance.get_records_for_run(
        run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    ).records
    assert planned, "otherwise this would show nothing"
    history = world.instance.event_log_storage.get_asset_check_execution_history
    assert [key.name for key in graph.asset_check_keys if history(key, limit=1)] == []


# the record's own checks


def late(world):
    for symbol in SYMBOLS:
        del world.files[symbol][START + dt.timedelta(30)]


def one_hole(world, ago=6):
    del world.files["S03USDT"][TODAY - dt.timedelta(ago)]


def many_holes(world):
    for n in range(20, 40):
        del world.files["S03USDT"][START + dt.timedelta(n)]


def ended(world):
    for symbol in SYMBOLS[:5]:
        for ago in (1, 2, 3, 4, 5):  # two of them settled
            del world.files[symbol][TODAY - dt.timedelta(ago)]


def slow_date(world):
    date = START + dt.timedelta(45)
    for symbol in SYMBOLS:
        world.files[symbol][date] = (100, published(date) + dt.timedelta(5))


@pytest.mark.parametrize(
    ("name", "happens", "what"),
    [
        ("continuity", None, "pass"),
        ("completeness_slo", None, "pass"),
        ("completeness_slo", ended, "warn"),
        ("completeness_slo", late, "error"),
        ("symbol_holes", None, "pass"),
        ("symbol_holes", one_hole, "warn"),
        ("symbol_holes", many_holes, "error"),
        ("publication_lag", None, "pass"),
        ("publication_lag", slow_date, "warn"),
    ],
)
def test_a_check_of_the_record_passes_warns_and_fails(world, name, happens, what):
    if happens:
        happens(world)
    world.write()
    found = world.verdict(name)
    assert outcome(found) == what, found.description
    assert bool(found.metadata["count"].value) == (what != "pass")
    assert bool(found.metadata["sample"].value) == (what != "pass")


def test_a_date_and_symbol_with_two_rows_is_found_whoever_wrote_them(world):
    world.write(start=YESTERDAY)
    assert outcome(world.verdict("rows_are_unique")) == "pass"
    with writer(world.path) as con:
        con.execute("INSERT INTO files FROM files LIMIT 2")
    found = world.verdict("rows_are_unique")
    assert (outcome(found), found.metadata["count"].value) == ("error", 2)


def test_continuity_fails_for_a_date_without_rows(world):
    world.write(start=FIRST_DATE + dt.timedelta(1))
    found = world.verdict("continuity")
    assert outcome(found) == "error"
    assert found.metadata["sample"].value == ["2019-09-25"]
    assert "2019-09-25" in found.description


def test_remedies_that_a_wrong_file_would_need_name_the_file(world):
    """`continuity` advised a backfill into the wrong file."""
    world.write(start=YESTERDAY)
    world.seen([D(2024, 1, 1)])
    for name in ("continuity", "store_matches_dagster"):
        found = world.verdict(name)
        assert found.metadata["recovery"].value.startswith(
            f"Judged was {world.path}: if the record is another file, correct AVAILABILITY_DB first"
        )
        assert str(world.path) in found.description
    elsewhere = {"exchange_coverage", "freshness", "update_success_rate", standing.CATALOGUE_CHECK}
    for name in set(ASSETS) - elsewhere - OF_MIRROR - OF_VOLUME - OF_SITE:
        assert world.verdict(name).metadata["database"].value == str(world.path)


def test_the_thresholds_are_settings(world, monkeypatch):
    late(world)
    world.write()
    monkeypatch.setenv("AVAILABILITY_SLO_COMPLETENESS", "0")
    found = world.verdict("completeness_slo")
    assert (found.passed, found.metadata["threshold"].value) == (True, 0)


# what Dagster's own records say


def ran(world, successes, failures, schedule="daily_update_schedule"):
    @dg.op
    def act(context):
        if context.run.tags["ok"] == "no":
            raise dg.Failure("it failed", allow_retries=False)

    @dg.job(name="daily_update")
    def job():
        act()

    for n in range(successes + failures):
        tags = {"ok": "yes" if n < successes else "no"}
        if schedule:
            tags["dagster/schedule_name"] = schedule
        job.execute_in_process(instance=world.instance, tags=tags, raise_on_error=False)


@pytest.fixture
def later(monkeypatch):
    """Dagster stamps its records with the real time: the check's clock must be after it."""
    monkeypatch.setattr(FixedClock, "now", lambda self: dt.datetime.now(dt.UTC))


@pytest.mark.usefixtures("later")
def test_the_success_rate_is_that_of_scheduled_runs_alone(world):
    ran(world, 18, 1, "late_arrivals_schedule")
    found = world.verdict("update_success_rate")
    assert outcome(found) == "pass"
    assert "18 of 19 scheduled updates succeeded in 30 days: too few" in found.description
    ran(world, 0, 3, schedule=None)
    ran(world, 0, 3, "slo_schedule")
    ran(world, 1, 0)
    assert outcome(world.verdict("update_success_rate")) == "pass"
    ran(world, 0, 1)
    found = world.verdict("update_success_rate")
    assert outcome(found) == "error"
    assert (found.metadata["count"].value, len(found.metadata["sample"].value)) == (2, 2)
    assert "daily_update" in found.metadata["sample"].value[0]


@pytest.mark.usefixtures("later")
def test_a_scheduled_run_that_is_executed_again_counts_as_the_one_update_it_is(world):
    """Its tags are those of the first. Twenty re-executions of one update are not twenty."""
    ran(world, 18, 2)
    runs = world.instance.get_runs()
    failed, good = [run for run in runs if not run.is_success], runs[-1]

    def again(run, status):
        tags = {"dagster/parent_run_id": run.run_id, "dagster/root_run_id": run.run_id}
        world.instance.run_storage.add_run(
            dg.DagsterRun(
                job_name="daily_update", run_id=str(uuid.uuid4()), status=status,
                tags={**run.tags, **tags}, parent_run_id=run.run_id, root_run_id=run.run_id,
            )
        )  # fmt: skip
        return world.verdict("update_success_rate").description

    first, second = failed
    assert "18 of 19 scheduled updates" in again(first, dg.DagsterRunStatus.STARTED)
    assert "18 of 19 scheduled updates" in again(second, dg.DagsterRunStatus.FAILURE)
    assert "19 of 20 scheduled updates" in again(first, dg.DagsterRunStatus.SUCCESS)
    assert "19 of 20 scheduled updates" in again(good, dg.DagsterRunStatus.FAILURE)
    since = dt.datetime.now(dt.UTC) - dt.timedelta(1)
    assert len(health.scheduled_updates(world.instance, since)) == 20
    updates = [r for r in health.last_runs(world.instance, 99) if r.job == "daily_update"]
    by = [run.launched_by for run in updates]
    assert by == ["hand"] * 4 + ["schedule"] * 20


def test_every_schedule_that_looks_at_the_archive_counts_as_an_update(monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DATASETS", "um/daily/klines/1m,um/monthly/fundingRate")
    probing = {schedules.ASSET_JOB, "late_arrivals", "full_reconcile"}
    looking = {
        schedule.name
        for schedule in schedules.schedules(settings.load())
        if schedule.job_name in probing
    }
    assert looking == set(health.UPDATE_SCHEDULES)


def test_freshness_fails_without_yesterday_whatever_else_was_materialised_today(world):
    """Dagster's own FreshnessPolicy would call this fresh."""
    world.seen([START, YESTERDAY - dt.timedelta(1)])
    assert outcome(world.verdict("freshness")) == "error"


@pytest.mark.parametrize(("hour", "what"), [(2, "pass"), (4, "warn")])
def test_freshness_goes_by_the_first_time_a_date_was_materialised(world, monkeypatch, hour, what):
    first = dt.datetime.combine(TODAY, dt.time(hour), dt.UTC).timestamp()
    monkeypatch.setattr("time.time", lambda: first)
    world.seen([YESTERDAY])
    monkeypatch.undo()
    world.seen([YESTERDAY])  # late arrivals
    assert outcome(world.verdict("freshness")) == what


def test_store_and_dagster_agree_or_the_drift_is_named_both_ways(world):
    world.write(start=TODAY - dt.timedelta(5))
    recorded = days(TODAY - dt.timedelta(5), YESTERDAY)
    world.seen(recorded)
    assert outcome(world.verdict("store_matches_dagster")) == "pass"
    world.seen([D(2024, 1, 1)])
    with writer(world.path) as con:
        con.execute("DELETE FROM probes WHERE period = ?", [YESTERDAY])
        con.execute("INSERT INTO probes SELECT * REPLACE (DATE '2024-02-02' AS period) "
                    "FROM probes LIMIT 1")  # fmt: skip
    found = world.verdict("store_matches_dagster")
    assert outcome(found) == "error"
    assert found.metadata["sample"].value == [
        "2024-01-01: materialised, but no rows",
        f"{YESTERDAY}: materialised, but no rows",
        "2024-02-02: rows, but not materialised",
    ]
    assert f"backfill --start 2024-01-01 --end {YESTERDAY}" in found.metadata["recovery"].value


# what the archive says


def weekly(world, archive):
    resources = {"archive": archive, "duckdb": AvailabilityDuckDB(database=str(world.path))}
    job = build_defs(resources=resources).resolve_job_def("catalogue_check")
    return job.execute_in_process(instance=world.instance, raise_on_error=False)


def test_an_archive_with_other_datasets_than_are_known_is_a_warning(world):
    keys = [d.key("BTCUSDT", D(2024, 1, 1)) for d in KNOWN if str(d) != "um/daily/klines/1d"]
    new = "data/futures/um/daily/openInterest/BTCUSDT/BTCUSDT-openInterest-2024-01-01.zip"
    bucket = KeyBucket([*keys, new])
    result = weekly(world, bucket.archive())
    assert result.success
    [found] = result.get_asset_check_evaluations()
    assert outcome(found) == "warn"
    assert {"um/daily/klines/1d: missing", "um/daily/openInterest: unknown"} <= set(
        found.metadata["sample"].value
    )
    assert "datasets discover" in found.metadata["recovery"].value
    assert {query.get("delimiter") for query in bucket.asked} == {"/"}
    assert not world.path.exists(), "no record is needed"


def test_an_archive_that_is_as_known_passes(world):
    there = [d for d in KNOWN if CATALOGUE[d.kind].lifecycle != "removed"]
    names = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP", "option": "BTCUSDT"}
    bucket = KeyBucket([d.key(names[d.market], D(2024, 1, 1)) for d in there])
    [found] = weekly(world, bucket.archive()).get_asset_check_evaluations()
    assert (outcome(found), found.metadata["count"].value) == ("pass", 0), found.description
    assert found.description == f"the archive has {len(there)} datasets"


def test_an_archive_that_refuses_is_not_judged_and_fails_the_run(world):
    archive = S3Archive.from_settings(settings.Settings(s3_endpoint="http://127.0.0.1:9"))
    result = weekly(world, archive)
    assert not result.success
    key = dg.AssetCheckKey(dg.AssetKey("record"), "catalogue_matches_archive")
    [stored] = world.instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    assert stored.evaluation.description.startswith("Not judged: cannot list s3://")
    assert outcome(stored.evaluation) == "warn"


SPOT, RATES = Dataset.parse("spot/daily/klines/1d"), Dataset.parse("um/monthly/fundingRate")
HOURS, TICKS = Dataset.parse("um/daily/klines/1h"), Dataset.parse("um/daily/bookTicker")


@pytest.fixture
def many(tmp_path, monkeypatch):
    """USD-M klines of two intervals, which are one asset, spot klines, rates, what stopped."""
    names = ",".join(map(str, (Dataset(), HOURS, SPOT, RATES, TICKS)))
    monkeypatch.setenv("AVAILABILITY_DATASETS", names)
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(tmp_path, instance)
        world.kinds = {str(kind): kind.key for kind in kinds(settings.load())}
        yield world


def record_months(world, first, last):
    with writer(world.path) as con:
        files = {"BTCUSDT": dict.fromkeys(RATES.periods(first, last), (9, NOW))}
        store.write_probe(
            con, make_listing(first, last, files, dataset=RATES), probed_at=NOW, run_id="x"
        )


def test_freshness_judges_each_asset_and_names_the_one_that_is_missing(many):
    """Its file is of the last month, and due on the 2nd; what stopped is not due."""
    due = rules.due_period(RATES, NOW, 150)
    many.seen([YESTERDAY], many.kinds["um/daily/klines"])
    many.seen([due], many.kinds["um/monthly/fundingRate"])
    found = many.verdict("freshness")
    assert outcome(found) == "error"
    assert found.metadata["sample"].value == [f"spot/daily/klines/1d {YESTERDAY}"]
    outcomes = found.metadata["datasets"].value
    assert list(outcomes) == [
        "um/daily/klines/*", "spot/daily/klines/1d", "um/monthly/fundingRate", "um/daily/bookTicker"
    ]  # fmt: skip
    assert outcomes["um/daily/bookTicker"] == "unknown"
    recovery = found.metadata["recovery"].value
    assert f"update manual --dataset spot/daily/klines/1d --date {YESTERDAY}" in recovery
    many.seen([YESTERDAY], many.kinds["spot/daily/klines"])
    assert outcome(many.verdict("freshness")) != "error"


def test_an_asset_of_what_the_archive_may_not_have_only_warns(world, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DATASETS", "um/daily/klines/1m,spot/daily/klines/7m")
    world = World(world.path.parent, world.instance)
    world.seen([YESTERDAY])
    found = world.verdict("freshness")
    assert (outcome(found), found.metadata["datasets"].value["spot/daily/klines/7m"]) == (
        "warn", "warn",
    )  # fmt: skip


def test_drift_is_found_in_each_asset_in_its_own_dates_or_months(many):
    many.write(start=YESTERDAY)
    record_months(many, D(2024, 1, 1), D(2024, 3, 1))
    many.seen([YESTERDAY], many.kinds["um/daily/klines"])
    many.seen(RATES.periods(D(2024, 1, 1), D(2024, 3, 1)), many.kinds["um/monthly/fundingRate"])
    found = many.verdict("store_matches_dagster")
    assert outcome(found) == "pass", "an interval that is not recorded yet is no drift"
    assert "spot/daily/klines/1d, um/daily/bookTicker: nothing is recorded" in found.description
    many.seen([D(2024, 4, 1)], many.kinds["um/monthly/fundingRate"])
    many.seen([D(2024, 1, 5)], many.kinds["spot/daily/klines"])
    record_months(many, D(2024, 6, 1), D(2024, 6, 1))
    found = many.verdict("store_matches_dagster")
    assert outcome(found) == "error"
    assert found.metadata["sample"].value == [
        "spot/daily/klines/1d 2024-01-05: materialised, but no rows",
        "um/monthly/fundingRate 2024-04: materialised, but no rows",
        "um/monthly/fundingRate 2024-06: rows, but not materialised",
    ]
    assert found.metadata["count"].value == 3
    assert "backfill --dataset um/monthly/fundingRate --start 2024-04-01 --end 2024-06-30" in (
        found.metadata["recovery"].value
    )


# faults of a check are no verdict


def test_a_check_that_cannot_judge_says_why_in_its_own_history_and_fails_its_run(world):
    """The page of a check that only raised said "Execution failed", and nothing else."""
    result = world.judge("continuity")
    assert not result.success, "one failed run is one alert; nine failed checks would be nine"
    [failed] = [e for e in result.all_events if e.is_step_failure]
    reason = failed.step_failure_data.user_failure_data.description
    assert reason.startswith("no database at")
    key = dg.AssetCheckKey(dg.AssetKey("record"), "continuity")
    [stored] = world.instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    assert stored.evaluation.description == f"Not judged: {reason}"
    assert outcome(stored.evaluation) == "warn", "it is no verdict on the data"


def test_a_check_whose_own_query_fails_raises(world):
    world.write(start=YESTERDAY)
    with writer(world.path) as con:
        con.execute("ALTER TABLE revisions RENAME COLUMN change TO changed")
    result = world.judge("symbol_holes", "continuity")
    assert not result.success
    # one check's fault does not keep the others from judging
    judged = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
    assert set(judged) == {"continuity", "symbol_holes"}
    assert not judged["symbol_holes"]


def test_a_check_leaves_the_file_open_to_others_and_writes_nothing(world):
    world.write(start=YESTERDAY)
    before = world.path.read_bytes()
    world.judge()
    assert world.path.read_bytes() == before
    duckdb.connect(str(world.path)).close()


def test_a_materialisation_from_the_ui_runs_no_standing_check(world):
    """One 503 turned all seven red, the success rate included."""

    class FakeArchive:
        def list_range(self, start, end, progress, recorded, **_):
            return make_listing(start, end, world.files, recorded=recorded)

    found = build_defs(
        resources={
            "archive": FakeArchive(),
            "clock": FixedClock(),
            "duckdb": AvailabilityDuckDB(database=str(world.path)),
        }
    )
    result = (
        found.resolve_implicit_global_asset_job_def()
        .get_subset(asset_selection=set(updated()))
        .execute_in_process(
            instance=world.instance,
            tags=range_tags(YESTERDAY - dt.timedelta(2), YESTERDAY),
            raise_on_error=False,
        )
    )
    assert result.success
    assert result.get_asset_check_evaluations() == []


# when


@pytest.mark.parametrize(
    "when", [(2024, 2, 29, 9, 30), (2024, 3, 1, 9, 30), (2024, 12, 31, 9, 30), (2025, 1, 1, 9, 30)]
)
def test_the_slo_schedule_asks_for_one_run_without_a_partition(when):
    at = dt.datetime(*when, tzinfo=dt.UTC)
    context = dg.build_schedule_context(
        scheduled_execution_time=at, repository_def=defs.get_repository_def()
    )
    [request] = schedules.slo_schedule.evaluate_tick(context).run_requests
    assert (request.partition_key, request.asset_selection) == (None, None)
    ticks = schedule_execution_time_iterator(
        (at - dt.timedelta(1)).timestamp() + 1, schedules.slo_schedule.cron_schedule, "UTC"
    )
    assert next(ticks) == at


def test_the_settings_of_the_checks_have_the_defaults_of_the_contract():
    s = settings.Settings()
    assert (s.slo_completeness, s.slo_success_rate, s.slo_freshness_minutes) == (0.95, 0.95, 150)
