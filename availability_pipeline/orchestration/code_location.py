"""Assembly, and nothing else: the definitions of what is configured.

What a setting or an extra switches on is defined only where that is set or installed: a default
installation has no asset that can only fail and no sensor that ticks for nothing. So the settings
are read when the definitions are built; after a change, restart, or reload the code location in
the UI.
"""

import warnings
from collections.abc import Mapping

import dagster as dg

from availability_pipeline import extras, settings
from availability_pipeline.alerts import delivery
from availability_pipeline.archive import datasets
from availability_pipeline.orchestration import assets, checks, schedules
from availability_pipeline.orchestration import sensors as alerts
from availability_pipeline.orchestration.resources import resources as real


def build_defs(*, resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """The definitions of what is configured in the environment.

    Args:
        resources: replaces some of the real ones, by key.

    Raises:
        SettingsError: a setting is bad, or its extra is not installed; one line.
    """
    configured = settings.load()
    defined: list[dg.AssetsDefinition | dg.AssetSpec] = [
        assets.vision_archive,
        assets.daily_availability,
        assets.symbol_listings,
        assets.daily_summary,
        assets.record,
    ]
    if not extras.missing("report"):
        defined.append(assets.availability_report)
    if configured.publish_url:
        defined.append(assets.published_availability)
    if configured.backup_dir:
        defined.append(assets.record_backup)
    where = {
        "record": configured.db_path.absolute().as_uri(),
        "archive": f"s3://{configured.s3_bucket}/{datasets.UM_KLINES_1M.prefix}",
    }
    with warnings.catch_warnings():
        # Dagster calls references to the code beta; without them the catalogue leads nowhere.
        warnings.simplefilter("ignore", dg.BetaWarning)
        shown = dg.with_source_code_references(
            dg.map_asset_specs(
                lambda spec: (
                    spec.merge_attributes(metadata={"dagster/uri": where[spec.group_name]})
                    if spec.group_name in where
                    else spec
                ),
                defined,
            )
        )
    sensors = schedules.sensors(configured)
    if delivery.addresses(configured):
        sensors.append(alerts.alert_sensor)
    return dg.Definitions(
        assets=shown,
        asset_checks=checks.standing_checks(configured),
        jobs=schedules.jobs(configured),
        schedules=schedules.schedules(configured),
        sensors=sensors,
        resources={**real(configured), **(resources or {})},
        # One step at a time is all there is to run: a process for each costs 2.8 s more a run.
        executor=dg.in_process_executor,
    )
