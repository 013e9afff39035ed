"""Settings: each has limits, and a bad value says variable, value and remedy in one line."""

import re
from pathlib import Path

import pytest

from availability_pipeline import settings

DEPLOY = Path(__file__).parents[1] / "deploy"

BAD = {
    "AVAILABILITY_S3_CONCURRENCY": ["0", "257", "many"],
    "AVAILABILITY_S3_ATTEMPTS": ["0", "11"],
    "AVAILABILITY_S3_TIMEOUT_SECONDS": ["0", "601"],
    "AVAILABILITY_SETTLE_DAYS": ["0", "61"],
    "AVAILABILITY_LOOKBACK_DAYS": ["0", "367"],
    "AVAILABILITY_DB_WAIT_SECONDS": ["-1", "3601"],
    "AVAILABILITY_MIN_LISTED_SHARE": ["-0.1", "1.1"],
    "AVAILABILITY_MAX_CLOCK_SKEW_MINUTES": ["-1", "1441"],
    "AVAILABILITY_SLO_COMPLETENESS": ["1.5"],
    "AVAILABILITY_SLO_HOLE_SHARE": ["-0.1", "1.1"],
    "AVAILABILITY_SLO_NEW_HOLE_DAYS": ["0", "367"],
    "AVAILABILITY_SLO_LAG_HOURS": ["0", "8761"],
    "AVAILABILITY_SLO_SUCCESS_RATE": ["-0.1", "95"],
    "AVAILABILITY_SLO_EXCHANGE_COVERAGE": ["-0.1", "1.1"],
    "AVAILABILITY_EXCHANGE_INFO_URL": ["fapi.binance.com", "https://", "http://[x"],
    "AVAILABILITY_SLO_FRESHNESS_MINUTES": ["0", "1440"],
    "AVAILABILITY_BACKUP_KEEP_DAILY": ["-1", "10001"],
    "AVAILABILITY_BACKUP_KEEP_WEEKLY": ["-1", "10001"],
    "AVAILABILITY_BACKUP_KEEP_MONTHLY": ["-1", "1.5"],
    "AVAILABILITY_PUBLISH_URL": ["ftp://host/folder", "https://host/"],
    "AVAILABILITY_SITE_URL": ["ftp://host/folder", "https://host/"],
    "AVAILABILITY_SITE_ADDRESS": ["register.example.org", "s3://bucket"],
    "AVAILABILITY_MIRROR_URL": ["ftp://host/folder", "https://host/"],
    "AVAILABILITY_EXECUTOR": ["threads"],
    "AVAILABILITY_S3_ENDPOINT": ["localhost:9000"],
}


def test_the_defaults_are_those_of_the_contract(monkeypatch):
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(f"AVAILABILITY_{name.upper()}", raising=False)
    s = settings.load()
    assert s.s3_bucket == "data.binance.vision"
    assert (s.s3_concurrency, s.s3_attempts) == (32, 1)
    assert (s.settle_days, s.lookback_days) == (3, 20)
    assert s.db_path.name == "availability.duckdb"
    assert "~" not in str(s.db_path)


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in BAD.items() for v in vs])
def test_a_bad_value_is_refused_in_one_line(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(settings.SettingsError) as caught:
        settings.load()
    text = str(caught.value)
    assert name in text
    assert value in text
    assert "\n" not in text


def test_an_empty_variable_is_an_unset_one(monkeypatch):
    monkeypatch.setenv("AVAILABILITY_SETTLE_DAYS", "")
    assert settings.load().settle_days == 3


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("AVAILABILITY_SETTLE_DAY", "AVAILABILITY_SETTLE_DAYS"),
        ("AVAILABILITY_DB_PATH", None),
        ("AVAILABILITY_ALERT_URL", "AVAILABILITY_ALERT_URLS"),
        ("AVAILABILITY_BACKUPDIR", "AVAILABILITY_BACKUP_DIR"),
        ("availability_s3_bukket", "AVAILABILITY_S3_BUCKET"),
        ("AVAILABILITY_QQQQQQQQ", None),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_nearest_name(monkeypatch, name, nearest):
    monkeypatch.setenv(name, "json://token-of-mine@example.com")
    with pytest.raises(settings.SettingsError) as caught:
        settings.load()
    text = str(caught.value)
    assert text.startswith(f"{name} is not a setting")
    assert nearest is None or f"the nearest is {nearest}" in text
    assert "token-of-mine" not in text
    assert "\n" not in text


def test_every_variable_of_the_deploy_files_is_a_setting():
    texts = [path.read_text(encoding="utf-8") for path in DEPLOY.rglob("*") if path.is_file()]
    named = set(re.findall(r"\bAVAILABILITY_[A-Z0-9_]*[A-Z0-9]\b", "\n".join(texts)))
    assert named
    assert named <= {f"AVAILABILITY_{name.upper()}" for name in settings.Settings.model_fields}


@pytest.mark.parametrize(
    "name",
    ["AVAILABILITY_SERVICE_HOST", "AVAILABILITY_WEBSERVER_SERVICE_PORT_HTTP", "AVAILABILITY_PORT",
     "AVAILABILITY_PORT_3000_TCP_ADDR"],
)  # fmt: skip
def test_what_kubernetes_sets_for_a_service_called_availability_is_passed_over(monkeypatch, name):
    monkeypatch.setenv(name, "10.0.0.7")
    settings.load()
