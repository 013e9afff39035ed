"""Assembly: the definitions of what is configured.

What a setting or an extra switches on is defined only where that is set or installed: a default
installation has no asset that can only fail and no sensor that ticks for nothing. So the settings
are read when the definitions are built; after a change, restart, or reload the code location in
the UI.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from availability_pipeline import extras, settings
from availability_pipeline.alerts import delivery
from availability_pipeline.archive import datasets
from availability_pipeline.mirror.selection import mirrored as mirrored_selection
from availability_pipeline.orchestration import assets, checks, mirrored, schedules, volumes
from availability_pipeline.orchestration import sensors as alerts
from availability_pipeline.orchestration.partitions import kinds
from availability_pipeline.orchestration.resources import resources as real

Asset = dg.AssetsDefinition | dg.AssetSpec


def build_defs(*, resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """The definitions of what is configured in the environment.

    Args:
        resources: replaces some of the real ones, by key.

    Raises:
        SettingsError: a setting is bad, or its extra is not installed; one line.
    """
    configured = settings.load()
    sensors = schedules.sensors(configured)
    if delivery.addresses(configured):
        sensors.append(alerts.alert_sensor)
    every = {**real(configured), **(resources or {})}
    if configured.mirror_url:
        every[mirrored.NAMES] = mirrored.names()
    return dg.Definitions(
        assets=_shown(_assets(configured), configured),
        asset_checks=checks.standing_checks(configured),
        jobs=schedules.jobs(configured),
        schedules=schedules.schedules(configured),
        sensors=sensors,
        resources=every,
        # One step at a time is all there is to run: a process for each costs 2.8 s more a run.
        executor=dg.in_process_executor,
    )


def _assets(configured: settings.Settings) -> list[Asset]:
    found: list[Asset] = [
        assets.vision_archive,
        *assets.of_the_record(kinds(configured)),
        assets.record,
        *volumes.of_volume(configured),
    ]
    if not extras.missing("report"):
        found.append(assets.availability_report)
    if configured.publish_url:
        found.append(assets.published_availability)
    if configured.site_url:
        found.append(assets.published_record)
    if configured.backup_dir:
        found.append(assets.record_backup)
    if configured.mirror_url:
        mirrored_selection(configured)  # a bad one is the code location's error, not a run's
        found.append(mirrored.mirrored_files)
    return found


def _shown(found: Sequence[Asset], configured: settings.Settings) -> Sequence[Any]:
    """The assets with what the catalogue shows of them: where they are, and their code."""
    file = configured.db_path.absolute().as_uri()
    where = {
        **dict.fromkeys(datasets.MARKETS, file),
        "record": file,
        "archive": f"s3://{configured.s3_bucket}/data/",
    }

    def placed(spec: dg.AssetSpec) -> dg.AssetSpec:
        uri = spec.metadata.get("dagster/uri") or where.get(spec.group_name or "")
        return spec.merge_attributes(metadata={"dagster/uri": uri}) if uri else spec

    with warnings.catch_warnings():
        # Dagster calls references to the code beta; without them the catalogue leads nowhere.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.with_source_code_references(dg.map_asset_specs(placed, found))
