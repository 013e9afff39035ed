"""Exactly what is defined, as the workspace loads it, with and without each setting."""

import datetime as dt
import os
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import ResourceSnap

from availability_pipeline.archive.datasets import CATALOGUE
from availability_pipeline.orchestration import schedules as automation
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.resources import AvailabilityDuckDB
from availability_pipeline.orchestration.volumes import RANKINGS
from availability_pipeline.record import schema, volumes
from availability_pipeline.record.connection import writer
from availability_pipeline.settings import SettingsError
from availability_pipeline_tests.support.helpers import PATIENCE
from availability_pipeline_tests.support.world import KLINES, updated

ASSETS = {
    "vision_archive", "um/klines/daily_availability", "symbol_spans", "daily_summary",
    "availability_report", "record",
}  # fmt: skip
JOBS = {
    "late_arrivals", "full_reconcile", "slo_checks", "history_retention", "draw_report",
    "catalogue_check",
}  # fmt: skip
SCHEDULES = {
    "daily_update_schedule": "0 2 * * *",
    "late_arrivals_schedule": "0 3,9,15,21 * * *",
    "full_reconcile_schedule": "0 5 * * 0",
    "slo_schedule": "30 9 * * *",
    "catalogue_schedule": "30 10 * * 1",
    "history_retention_schedule": "30 7 * * 0",
}
SENSORS = {"report_sensor"}

BACKUP = "AVAILABILITY_BACKUP_DIR", "/var/backups/availability"
PUBLISH = "AVAILABILITY_PUBLISH_URL", "s3://my-bucket/availability"
SITE = "AVAILABILITY_SITE_URL", "s3://my-bucket/site"
ALERTS = "AVAILABILITY_ALERT_URLS", "json://127.0.0.1:9"
MIRROR = "AVAILABILITY_MIRROR_URL", "s3://my-bucket/mirror"
OPTIONAL = {"AVAILABILITY_EXCHANGE_INFO_URL", BACKUP[0], PUBLISH[0], ALERTS[0], MIRROR[0]}


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch):
    for name in OPTIONAL:
        monkeypatch.delenv(name, raising=False)


def defined(found: dg.Definitions) -> tuple[set[str], set[str], dict[str, str], set[str]]:
    """Assets, jobs, schedules and sensors."""
    assets = found.resolve_asset_graph().get_all_asset_keys()
    jobs = {job.name for job in found.resolve_all_job_defs() if not job.name.startswith("__")}
    schedules = {one.name: str(one.cron_schedule) for one in found.schedules or ()}
    sensors = {one.name for one in found.sensors or ()}
    return {key.to_user_string() for key in assets}, jobs, schedules, sensors


def test_a_default_installation_defines_exactly_what_can_run():
    """An asset that can only fail made 30 good partitions a failed backfill."""
    found = build_defs()
    assert defined(found) == (ASSETS, JOBS, SCHEDULES, SENSORS)
    assert {one.execution_timezone for one in found.schedules or ()} == {"UTC"}
    assert all(one.default_status.value == "RUNNING" for one in (*found.schedules, *found.sensors))
    daily = found.resolve_asset_graph().get(KLINES.key)
    assert daily.partitions_def.get_first_partition_key() == "2019-09-25"
    assert daily.backfill_policy == dg.BackfillPolicy.single_run()


@pytest.mark.parametrize(
    ("setting", "tables", "jobs", "schedules", "sensors"),
    [
        (BACKUP, {"record_backup"}, {"backup"}, {"backup_schedule": "45 4 * * *"}, set()),
        (PUBLISH, {"published_availability"}, {"publish"}, {}, {"publish_sensor"}),
        (SITE, {"published_record"}, {"publish"}, {}, {"publish_sensor"}),
        (
            MIRROR,
            {"mirrored_files"},
            {"mirror", "mirror_check"},
            {"mirror_check_schedule": "30 8 * * 0"},
            {"mirror_sensor"},
        ),
        (ALERTS, set(), set(), {}, {"alert_sensor"}),
    ],
    ids=["backup", "publish", "site", "mirror", "alerts"],
)
def test_a_setting_adds_exactly_its_own(monkeypatch, setting, tables, jobs, schedules, sensors):
    monkeypatch.setenv(*setting)
    found = build_defs()
    assert defined(found) == (
        ASSETS | tables, JOBS | jobs, SCHEDULES | schedules, SENSORS | sensors
    )  # fmt: skip
    assert all(one.default_status.value == "RUNNING" for one in (*found.schedules, *found.sensors))


@pytest.mark.parametrize("module", ["plotly", "matplotlib"])
def test_without_the_extra_nothing_is_defined_that_could_not_draw(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    found = build_defs()
    assert defined(found) == (
        ASSETS - {"availability_report"}, JOBS - {"draw_report"}, SCHEDULES, set()
    )  # fmt: skip


def test_alerts_that_nobody_could_send_are_an_error_of_the_code_location(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    build_defs()
    monkeypatch.setenv(*ALERTS)
    with pytest.raises(SettingsError, match=r"pip install 'binance-availability\[alerts\]'"):
        build_defs()


SEVERAL = "um/daily/klines/1m, um/daily/klines/1d, spot/daily/aggTrades, um/monthly/fundingRate"


def test_each_market_frequency_and_type_has_an_asset_with_its_own_partitions(monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DATASETS", f"{SEVERAL}, um/daily/bookTicker")
    found = build_defs()
    made, jobs, schedules, _ = defined(found)
    assert made == ASSETS | {
        "spot/aggTrades/daily_availability", "um/fundingRate/monthly_availability",
        "um/bookTicker/daily_availability", "um/daily_volume", "volume_rankings",
    }  # fmt: skip
    assert jobs == JOBS | {"volume"}
    assert schedules == SCHEDULES | {"monthly_update_schedule": "0 10 1-16 * *"}
    graph = found.resolve_asset_graph()

    def ends(key):
        node = graph.get(dg.AssetKey(key.split("/")))
        partitions = node.partitions_def
        assert partitions.timezone == "UTC"
        return (
            node.group_name, partitions.get_first_partition_key(),
            partitions.get_partition_keys(dt.datetime(2024, 5, 20, tzinfo=dt.UTC))[-1],
        )  # fmt: skip

    assert ends("um/klines/daily_availability") == ("um", "2019-09-25", "2024-05-19")
    assert ends("spot/aggTrades/daily_availability") == ("spot", "2017-07-14", "2024-05-19")
    assert ends("um/fundingRate/monthly_availability") == ("um", "2019-09-01", "2024-04-01")
    assert ends("um/bookTicker/daily_availability") == ("um", "2023-05-16", "2024-03-30")
    parents = graph.get(dg.AssetKey("symbol_spans")).parent_keys
    assert parents == {key for key in graph.get_all_asset_keys() if len(key.path) == 3}


def test_daily_volume_is_defined_where_the_market_s_daily_1d_klines_are(monkeypatch):
    """Without them it could only fail."""
    monkeypatch.setenv("AVAILABILITY_DATASETS", "*/daily/klines/1d, um/monthly/klines/1d")
    found = build_defs()
    made, jobs, _, sensors = defined(found)
    volumes = {f"{market}/daily_volume" for market in ("um", "cm", "spot")}
    assert {key for key in made if "volume" in key} == {*volumes, "volume_rankings"}
    assert jobs == JOBS | {"volume"}
    assert sensors == SENSORS | {"volume_sensor"}
    assert all(one.default_status.value == "RUNNING" for one in found.sensors)
    graph = found.resolve_asset_graph()
    for market in ("um", "cm", "spot"):
        node = graph.get(dg.AssetKey([market, "daily_volume"]))
        recorded = graph.get(dg.AssetKey([market, "klines", "daily_availability"]))
        assert node.parent_keys == {recorded.key}
        assert node.partitions_def == recorded.partitions_def
        assert (node.group_name, node.backfill_policy) == (market, dg.BackfillPolicy.single_run())
    assert {key.to_user_string() for key in graph.get(RANKINGS).parent_keys} == volumes
    monkeypatch.setenv("AVAILABILITY_DATASETS", "um/monthly/klines/1d")
    assert not any("volume" in name for names in defined(build_defs()) for name in names)


def test_the_catalogue_says_of_daily_volume_where_it_is_and_its_columns(monkeypatch, tmp_path):
    monkeypatch.setenv("AVAILABILITY_DATASETS", "um/daily/klines/1d")
    monkeypatch.setenv("AVAILABILITY_VOLUME_DB", str(tmp_path / "v.duckdb"))
    monkeypatch.setenv("AVAILABILITY_RANKINGS_DIR", str(tmp_path / "ranks"))
    graph = build_defs().resolve_asset_graph()
    node = graph.get(dg.AssetKey(["um", "daily_volume"]))
    assert graph.get(RANKINGS).metadata["dagster/uri"] == f"file://{tmp_path}/ranks"
    assert node.metadata["dagster/uri"] == f"file://{tmp_path}/v.duckdb"
    [example] = re.findall(r"```sql\n(.+?)```", node.description, flags=re.DOTALL)
    with volumes.writer(tmp_path / "v.duckdb") as con:
        real = con.execute("DESCRIBE daily_volume").fetchall()
        assert con.execute(example).fetchall() == []
    shown = node.metadata["dagster/column_schema"].columns
    assert [(c.name, c.type) for c in shown] == [(name, kind) for name, kind, *_ in real]
    assert node.metadata["dagster/table_name"] == "main.daily_volume"
    for one in (node, graph.get(RANKINGS)):
        assert one.owners
        assert one.description
        [reference] = one.metadata["dagster/code_references"].code_references
        assert Path(reference.file_path).name == "volumes.py"


def test_all_datasets_of_the_archive_can_be_configured_at_once(monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DATASETS", "all")
    found = build_defs()
    live = [entry for entry in CATALOGUE.values() if entry.lifecycle != "removed"]
    assert len([a for a in defined(found)[0] if a.count("/") == 2]) == len(live)


def test_a_bad_name_among_the_datasets_is_one_line_with_the_nearest(monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DATASETS", "um/daily/klines/1m,um/daily/kline/1d")
    with pytest.raises(SettingsError, match=r"AVAILABILITY_DATASETS=.*nearest are um/daily/klines"):
        build_defs()


def test_the_job_of_all_assets_is_called_as_dagster_calls_it():
    assert build_defs().resolve_implicit_global_asset_job_def().name == automation.ASSET_JOB


def test_a_bad_setting_is_one_line_where_the_definitions_are_loaded(tmp_path):
    """The UI shows it as the error of the code location; `validate` prints it."""
    done = subprocess.run(
        [Path(sys.executable).with_name("dagster"), "definitions", "validate",
         "-m", "availability_pipeline.definitions"],
        env=os.environ | {"DAGSTER_HOME": str(tmp_path), "AVAILABILITY_LOOKBACK_DAYS": "0"},
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode != 0
    line = (
        "AVAILABILITY_LOOKBACK_DAYS='0': Input should be greater than or equal to 1; correct or "
        "unset it"
    )
    assert any(one.endswith(line) for one in (done.stdout + done.stderr).splitlines())


TABLES = {
    "um/klines/daily_availability": "availability",
    "symbol_spans": "symbol_spans",
    "daily_summary": "daily_summary",
}
"""Each asset with its table or view."""


def asset(graph, name):
    return graph.get(dg.AssetKey(name.split("/")))


def test_the_catalogue_shows_the_columns_that_the_tables_have(tmp_path):
    graph = build_defs().resolve_asset_graph()
    with writer(tmp_path / "record.duckdb") as con:
        for name, table in TABLES.items():
            real = con.execute(f"DESCRIBE {table}").fetchall()
            shown = asset(graph, name).metadata["dagster/column_schema"].columns
            columns = [(column, TYPES.get(kind, kind)) for column, kind, *_ in real]
            if table != schema.CELLS:  # of a view DuckDB does not know it
                required = [column for column, _, null, *_ in real if null == "NO"]
                assert [c.name for c in shown if not c.constraints.nullable] == required
            assert [(c.name, c.type) for c in shown] == columns
            assert all(column.description for column in shown)


TYPES = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}


def test_the_catalogue_says_where_what_whose_and_how(monkeypatch, tmp_path):
    monkeypatch.setenv("AVAILABILITY_DB", str(tmp_path / "a b.duckdb"))
    graph = build_defs().resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert node.owners
        [reference] = node.metadata["dagster/code_references"].code_references
        assert Path(reference.file_path).exists()
    for name, table in TABLES.items():
        node = asset(graph, name)
        assert node.metadata["dagster/table_name"] == f"main.{table}"
        assert node.metadata["dagster/uri"] == f"file://{tmp_path}/a%20b.duckdb"
    tags = graph.get(KLINES.key).tags
    assert (tags["market"], tags["frequency"], tags["lifecycle"]) == ("um", "daily", "live")
    archive = graph.get(dg.AssetKey("vision_archive"))
    assert archive.metadata["dagster/uri"] == "s3://data.binance.vision/data/"
    assert graph.get(dg.AssetKey("record")).metadata["dagster/uri"].endswith("a%20b.duckdb")


def test_each_example_in_a_description_can_be_run(tmp_path):
    graph = build_defs().resolve_asset_graph()
    with writer(tmp_path / "record.duckdb") as con:
        for name in TABLES:
            [example] = re.findall(
                r"```sql\n(.+?)```", asset(graph, name).description, flags=re.DOTALL
            )
            assert con.execute(example).fetchall() == []
    assert "**Nothing here yet?**" in graph.get(KLINES.key).description


def test_everything_that_starts_something_says_what_it_does(monkeypatch):
    for setting in (BACKUP, PUBLISH, MIRROR, ALERTS, ("AVAILABILITY_DATASETS", "all")):
        monkeypatch.setenv(*setting)
    found = build_defs()
    running = [*found.schedules, *found.sensors]
    assert [one.name for one in running if not one.description] == []
    jobs = [job for job in found.resolve_all_job_defs() if not job.name.startswith("__")]
    assert [job.name for job in jobs if not job.description] == []


def test_the_ui_names_the_resources_and_shows_the_file_of_the_record(monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DB", "/data/record.duckdb")
    shown = {
        key: ResourceSnap.from_def(one, key, {}, {}, {}, {}, {}, {})
        for key, one in build_defs().get_repository_def().get_top_level_resources().items()
    }
    names = {key: one.resource_type.rpartition(".")[2] for key, one in shown.items()}
    assert names["duckdb"] == "AvailabilityDuckDB"
    assert "<lambda>" not in set(names.values()) - {names["io_manager"]}
    assert shown["duckdb"].configured_values == {"database": '"/data/record.duckdb"'}


def test_an_update_that_was_launched_without_dates_says_how_to_give_them(tmp_path):
    resources = {"duckdb": AvailabilityDuckDB(database=str(tmp_path / "record.duckdb"))}
    with dg.DagsterInstance.ephemeral() as instance:
        done = (
            build_defs(resources=resources)
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(instance=instance, raise_on_error=False, asset_selection=updated())
        )
    assert not done.success
    [failed] = [e for e in done.all_events if e.is_step_failure and "daily" in e.step_key]
    text = failed.step_failure_data.user_failure_data.description
    assert text.startswith("this run has no dates: choose partitions")
    assert not list(tmp_path.glob("*.duckdb"))


def test_the_mirrors_executor_is_the_one_of_the_setting(monkeypatch):
    monkeypatch.setenv(*MIRROR)
    monkeypatch.setenv("AVAILABILITY_CELERY_BROKER", "redis://:secret@127.0.0.1:1/0")
    monkeypatch.setenv("AVAILABILITY_CELERY_BACKEND", "redis://127.0.0.1:1/1")
    for name in ("in_process", "multiprocess", "celery", "k8s"):
        monkeypatch.setenv("AVAILABILITY_EXECUTOR", name)
        found = build_defs()
        assert found.resolve_job_def("mirror").executor_def.name == name
        assert found.resolve_job_def("slo_checks").executor_def.name == "in_process"


@pytest.mark.parametrize("name", ["CELERY_BROKER", "CELERY_BACKEND"])
def test_celery_without_a_broker_or_backend_is_an_error_of_the_code_location(monkeypatch, name):
    monkeypatch.setenv(*MIRROR)
    monkeypatch.setenv("AVAILABILITY_EXECUTOR", "celery")
    for one in ("CELERY_BROKER", "CELERY_BACKEND"):
        monkeypatch.setenv(f"AVAILABILITY_{one}", "redis://127.0.0.1:1/0")
    monkeypatch.delenv(f"AVAILABILITY_{name}")
    with pytest.raises(SettingsError, match=f"'celery': needs AVAILABILITY_{name}, as redis://"):
        build_defs()


@pytest.mark.parametrize(
    ("name", "module"), [("celery", "dagster_celery"), ("celery", "redis"), ("k8s", "dagster_k8s")]
)
def test_an_executor_without_its_extra_is_one_line(monkeypatch, name, module):
    monkeypatch.setenv(*MIRROR)
    monkeypatch.setenv("AVAILABILITY_EXECUTOR", name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=rf"pip install 'binance-availability\[{name}\]'"):
        build_defs()
