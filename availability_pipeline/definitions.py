"""Assembly, and nothing else: what `workspace.yaml` loads."""

from collections.abc import Mapping

import dagster as dg

from availability_pipeline import (
    alerts,
    assets,
    assets_publish,
    assets_report,
    automation,
    checks,
)
from availability_pipeline.resources import (
    ArchiveResource,
    AvailabilityDuckDB,
    Clock,
    Reporter,
    SettingsResource,
)


def build_defs(*, resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """All definitions; `resources` replaces some of the real ones, by key."""
    return dg.Definitions(
        assets=[
            assets.vision_archive,
            assets.daily_availability,
            assets.symbol_listings,
            assets.daily_summary,
            assets_report.availability_report,
            assets_publish.published_availability,
            assets_publish.record_backup,
        ],
        asset_checks=checks.STANDING,
        jobs=automation.JOBS,
        schedules=automation.SCHEDULES,
        sensors=[alerts.alert_sensor, *automation.SENSORS],
        resources={
            "archive": ArchiveResource(),
            "duckdb": AvailabilityDuckDB(),
            "clock": Clock(),
            "limits": SettingsResource(),
            "reporter": Reporter(),
            **(resources or {}),
        },
        # One step at a time is all there is to run: a process for each costs 2.8 s more a run.
        executor=dg.in_process_executor,
    )


defs = build_defs()
