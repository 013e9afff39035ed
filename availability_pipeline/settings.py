"""Settings: the only reader of the environment.

Every setting with its default, its limits and the line that a bad value gets. Reading them touches
neither network nor disk and loads no service: whether an alert address is one that Apprise knows is
for `alerts.delivery` to judge.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from availability_pipeline import PROGRAM
from availability_pipeline.masking import mask, mask_target

# Path style: the bucket's name has dots, so `https://data.binance.vision.s3...` fails TLS.
REAL_ENDPOINT = "https://s3.ap-northeast-1.amazonaws.com"

DEFAULT_DB = f"~/.cache/{PROGRAM}/availability.duckdb"

FORMER_DB = "~/.cache/binance-futures/availability.duckdb"
"""The default of 0.1.0, and of another program."""

BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
"""What S3 takes, or took when the bucket was made."""

# A name or an IPv4 address or an IPv6 one in brackets, perhaps with a port; no pattern, no scheme.
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")

DEFINITIONS = "availability_pipeline.definitions"
"""The module that Dagster loads, and the name that it knows the code location by."""

CHECKOUT = Path(__file__).resolve().parent.parent


class SettingsError(ValueError):
    """A setting is out of its range; the text names variable, value and remedy in one line."""


class Settings(BaseSettings):
    """All settings, from `AVAILABILITY_*` variables; each is optional.

    Read with `load()`, which turns a bad value into one `SettingsError`.
    """

    model_config = SettingsConfigDict(
        env_prefix="AVAILABILITY_", frozen=True, extra="forbid", env_ignore_empty=True,
        hide_input_in_errors=True, use_attribute_docstrings=True,
    )  # fmt: skip

    db: str = DEFAULT_DB
    """The DuckDB file of the record."""
    datasets: str = "um/daily/klines/1m"
    """Datasets to record: names or patterns with commas between them."""
    s3_endpoint: str = REAL_ENDPOINT
    """S3 endpoint to list, path style; another for tests and mirrors."""
    s3_bucket: str = "data.binance.vision"
    """Bucket to list."""
    s3_concurrency: int = Field(default=32, ge=1, le=256)
    """Listings in flight."""
    archive_runs: int = Field(default=2, ge=1, le=32)
    """Runs that list the archive at the same time, each another dataset's."""
    s3_attempts: int = Field(default=1, ge=1, le=10)
    """HTTP attempts per request; 1 is the strict policy: no automatic retry."""
    s3_timeout_seconds: float = Field(default=30, gt=0, le=600)
    """Seconds to wait for a connection or an answer."""
    download_url: str | None = None
    """Where files are fetched from; the bucket at another S3_ENDPOINT, else the archive's host."""
    downloads: int = Field(default=32, ge=1, le=256)
    """Files in flight, each with its CHECKSUM beside it."""
    settle_days: int = Field(default=3, ge=1, le=60)
    """An absence is confirmed once probed this many days after its date ended."""
    lookback_days: int = Field(default=20, ge=1, le=366)
    """Window of the late-arrivals schedule, in days."""
    history_days: int = Field(default=180, ge=31, le=3660)
    """Runs older than this are deleted once nothing depends on them."""
    db_wait_seconds: float = Field(default=60, ge=0, le=3600)
    """How long a reader or writer waits for another process's write."""
    min_listed_share: float = Field(default=0.5, ge=0, le=1)
    """A listing that finds less than this share of what is recorded is refused."""
    max_clock_skew_minutes: int = Field(default=60, ge=0, le=1440)
    """Refuse to write when clock and archive differ by more; 0 switches it off."""
    slo_completeness: float = Field(default=0.95, ge=0, le=1)
    """Share of expected symbols each settled date needs."""
    slo_hole_share: float = Field(default=0.005, ge=0, le=1)
    """Share of symbol-days that may be holes."""
    slo_new_hole_days: int = Field(default=7, ge=1, le=366)
    """A hole warns for this many days once confirmed."""
    slo_lag_hours: float = Field(default=6, gt=0, le=8760)
    """Hours by which a date's publication lag may always differ from the usual."""
    slo_success_rate: float = Field(default=0.95, ge=0, le=1)
    """Share of the last 30 days' scheduled updates that must succeed."""
    slo_freshness_minutes: int = Field(default=150, ge=1, le=1439)
    """Minutes after midnight UTC by which yesterday must have been probed."""
    slo_exchange_coverage: float = Field(default=0.95, ge=0, le=1)
    """Share of the exchange's trading perpetuals the last settled date needs."""
    exchange_info_url: str | None = None
    """The exchange's exchangeInfo to compare with; none switches that off."""

    log_file: str | None = None
    """Log of what runs did; `log/availability.log` in DAGSTER_HOME when unset."""
    cache_dir: str | None = None
    """Folder of copies of published records; one of ours in XDG_CACHE_HOME, else in ~/.cache."""
    backup_dir: str | None = None
    """Folder of backups, for `backup` and the schedule."""
    backup_keep_daily: int = Field(default=7, ge=0, le=10_000)
    """Days of which the last backup is kept."""
    backup_keep_weekly: int = Field(default=4, ge=0, le=10_000)
    """Weeks of which the last backup is kept."""
    backup_keep_monthly: int = Field(default=12, ge=0, le=10_000)
    """Months of which the last backup is kept."""

    # NoDecode: the text is not JSON. Secret, because most addresses hold a token or password.
    alert_urls: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Apprise addresses that failures are sent to; see docs/alerts.md."""

    publish_url: str | None = None
    """Folder, file:// or s3:// URL that each update is published to, as Parquet."""
    site_url: str | None = None
    """Folder, file:// or s3:// URL that each update is published to, as a web site."""
    site_address: str | None = None
    """Public http(s) address of that site, for the links of its feeds."""
    mirror_url: str | None = None
    """Folder, file:// or s3:// URL that the files themselves are mirrored to after each update."""
    mirror: str | None = None
    """Which files: words like `symbols=A,B start=2024-01-01`; else all of the first dataset."""
    executor: Literal["in_process", "multiprocess", "celery", "k8s"] = "in_process"
    """Where the parts of a mirror run are executed; see docs/scale.md."""
    celery_broker: SecretStr | None = None
    """Of AVAILABILITY_EXECUTOR=celery: the broker, as redis://host:6379/0."""
    celery_backend: SecretStr | None = None
    """Of AVAILABILITY_EXECUTOR=celery: where workers leave results, as redis://host:6379/1."""
    volume_db: str | None = None
    """File of daily volumes; `volume.duckdb` beside the database when left out."""
    rankings_dir: str | None = None
    """Folder of the rankings' Parquet files; `rankings` beside the database when left out."""
    report_dir: str | None = None
    """Folder of the report; `report` beside the database when left out."""

    umask: str = Field(default="077", pattern="^0?[0-7]{3}$")
    """What others may not do with the files that are kept, as umask(1) has it."""

    # NoDecode: names with commas between them, not JSON.
    ui_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Host names besides the loopback ones under which the web UI may be opened."""

    @field_validator("ui_hosts", mode="before")
    @classmethod
    def _ui_hosts_are_names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = tuple(name.lower() for name in re.split(r"[\s,]+", value) if name)
        for name in names:
            if not _HOST.fullmatch(name):
                raise ValueError(
                    "give host names with commas between them, like ui.example.org or "
                    "ui.example.org:8443"
                )
        return names

    @field_validator(
        "db", "log_file", "cache_dir", "backup_dir", "report_dir", "volume_db", "rankings_dir"
    )
    @classmethod
    def _path_is_one(cls, value: str | None) -> str | None:
        if value and is_address(value):
            raise ValueError("give a path, not an address")
        return value

    @field_validator("s3_bucket")
    @classmethod
    def _bucket_is_one(cls, value: str) -> str:
        if not BUCKET_NAME.fullmatch(value):
            raise ValueError("give the name of a bucket: letters, digits, dots and hyphens")
        return value

    @field_validator("publish_url", "site_url", "mirror_url")
    @classmethod
    def _destination_is_known(cls, value: str | None) -> str | None:
        if value and "://" in value and not value.startswith(("s3://", "file://")):
            raise ValueError("give a folder, file:///folder or s3://bucket/prefix")
        # A secret key may hold a slash, so that `@` stands behind what looks like the bucket.
        if value and re.match(r"s3://[^/]*[:@]", value):
            raise ValueError("leave credentials out of the address; boto3 finds them (AWS_PROFILE)")
        return value

    @field_validator("s3_endpoint", "exchange_info_url", "download_url", "site_address")
    @classmethod
    def _address_is_http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("give an address that starts with http:// or https://")
        try:
            host = urlsplit(value).hostname
        except ValueError:
            host = None
        if not host:
            raise ValueError("give an address with a host, like https://example.com")
        if re.search(r"[@?#]", value):
            raise ValueError(
                "nothing is asked with credentials; give an address without user, password "
                "and query"
            )
        return value.rstrip("/")

    @field_validator("alert_urls", mode="before")
    @classmethod
    def _alert_urls_are_addresses(cls, value: object) -> object:
        return _addresses(value) if isinstance(value, str) else value

    @property
    def db_path(self) -> Path:
        """The database file, `~` expanded."""
        return Path(self.db).expanduser()

    @property
    def cache_path(self) -> Path:
        """The folder of copies of published records, `~` expanded."""
        if self.cache_dir:
            return Path(self.cache_dir).expanduser()
        given = os.environ.get("XDG_CACHE_HOME", "")
        # A relative one counts as not set, says the specification.
        folder = given if given.startswith("/") else "~/.cache"
        return Path(folder).expanduser() / PROGRAM

    @property
    def download_base(self) -> str:
        """What a file's key is put after, with a slash between them, to make its address."""
        if self.download_url:
            return self.download_url
        if self.s3_endpoint == REAL_ENDPOINT:
            return f"https://{self.s3_bucket}"
        return f"{self.s3_endpoint}/{self.s3_bucket}"

    @property
    def volume_path(self) -> Path:
        """The file of daily volumes, `~` expanded."""
        if self.volume_db:
            return Path(self.volume_db).expanduser()
        return self.db_path.parent / "volume.duckdb"

    @property
    def rankings_path(self) -> Path:
        """The folder of the rankings, `~` expanded."""
        if self.rankings_dir:
            return Path(self.rankings_dir).expanduser()
        return self.db_path.parent / "rankings"

    @property
    def report_path(self) -> Path:
        """The folder of the report, `~` expanded."""
        if self.report_dir:
            return Path(self.report_dir).expanduser()
        return self.db_path.parent / "report"


def is_address(text: str) -> bool:
    """Whether a path is an address: it would become a folder with the password in its name."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) is not None


# A comma inside an address (`?to=a,b`) stays there, as in Apprise's own detection.
_BETWEEN_ADDRESSES = re.compile(r"[\s,;]+(?=[a-z0-9]+://)", re.IGNORECASE)


def _addresses(text: str) -> tuple[str, ...]:
    """Addresses with white space, commas or semicolons between them, each with its scheme."""
    found = _BETWEEN_ADDRESSES.split(text.strip(" ,;\t\r\n"))
    found = [address.rstrip(" ,;\t\r\n") for address in found if address]
    if found and not re.match("[a-z0-9]+://", found[0], re.IGNORECASE):
        raise ValueError(
            f"entry 1 of {len(found)} ({mask_target(found[0])}) has no scheme://; give addresses "
            "only, see docs/alerts.md for examples"
        )
    return tuple(found)


def bad(name: str, value: str, reason: str) -> SettingsError:
    """The error of a bad value: variable, value and remedy in one line."""
    return SettingsError(f"{name}={mask(repr(value))}: {reason}; correct or unset it")


def load(**overrides: object) -> Settings:
    """Settings from the environment.

    Raises:
        SettingsError: one line for the first bad value, with variable, value and remedy; or for a
            variable that is not a setting.
    """
    if line := _misspelt(os.environ):
        raise SettingsError(line)
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "AVAILABILITY_" + str(first["loc"][0]).upper() if first["loc"] else "settings"
        reason = first["msg"].removeprefix("Value error, ")
        # Of an alert target no part may be shown; the reason says which entry it is.
        shown = "" if name == "AVAILABILITY_ALERT_URLS" else f"={mask(repr(first['input']))}"
        line = f"{name}{shown}: {reason}; correct or unset it"
    # Outside the handler: as our error's context, pydantic's would keep frames alive where no
    # garbage collector looks, and DuckDB would print forty lines about leaks at exit.
    raise SettingsError(line)


# What Kubernetes sets in each pod for a service called `availability` or `availability-…`.
_OF_KUBERNETES = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)$")


def _misspelt(environment: Iterable[str]) -> str:
    """A sentence on the first variable with our prefix that is not a setting; empty for none.

    Its default would hold in silence: a record in another place, alerts that are never sent. The
    value is not shown, for it may be meant for AVAILABILITY_ALERT_URLS.
    """
    known = [f"AVAILABILITY_{name.upper()}" for name in Settings.model_fields]
    for name in sorted(environment):
        upper = name.upper()
        ours = upper.startswith("AVAILABILITY_") and not _OF_KUBERNETES.search(upper)
        if ours and upper not in known:
            import difflib

            near = difflib.get_close_matches(upper, known, n=1, cutoff=0.7)
            nearest = f", the nearest is {near[0]}" if near else ""
            return f"{name} is not a setting{nearest}; correct or unset it"
    return ""


def dagster_home() -> Path | None:
    """The folder of `dagster.yaml`: DAGSTER_HOME, else the checkout, else None."""
    if given := os.environ.get("DAGSTER_HOME"):
        return Path(given).expanduser().resolve()
    return CHECKOUT if (CHECKOUT / "dagster.yaml").exists() else None


def require_home() -> Path:
    """The same, where there is one.

    Raises:
        SettingsError: DAGSTER_HOME is not set and this is not a checkout, or it is not a folder.
    """
    folder = dagster_home()
    if folder is None:
        raise SettingsError(
            "DAGSTER_HOME is not set; make a folder for the run history, copy "
            f"{shipped_config()} into it and set DAGSTER_HOME to it"
        )
    if not folder.is_dir():
        raise SettingsError(f"DAGSTER_HOME={folder} is not a folder; make it or correct it")
    return folder


def plain_terminal() -> bool:
    """Whether the terminal is to get text without styles: NO_COLOR, or TERM says it has none."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM", "") in ("", "dumb", "unknown")


def no_pager() -> bool:
    """Whether PAGER is set to nothing, which switches it off, as git has it."""
    return os.environ.get("PAGER") == ""


def proxy_for(url: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for an address, as botocore does."""
    from urllib.request import getproxies, proxy_bypass  # 20 ms that questions do not need

    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


def umask() -> int:
    """AVAILABILITY_UMASK as a number; asked before the settings are, which refuse a bad one."""
    given = os.environ.get("AVAILABILITY_UMASK", "")
    return int(given, 8) if re.fullmatch("0?[0-7]{3}", given) else 0o077


def never_import_from_current_directory() -> None:
    """For this process's children and theirs: a file `apprise.py` there must not be executed.

    Dagster starts code servers and runs with `python -m`, which puts that directory first.
    """
    os.environ["PYTHONSAFEPATH"] = "1"


@contextmanager
def database(path: Path) -> Iterator[None]:
    """Within the block this process and its children work on this record.

    AVAILABILITY_DB is as before afterwards.
    """
    before = os.environ.get("AVAILABILITY_DB")
    # Never empty, which would be the default, and the same for a child in another folder.
    os.environ["AVAILABILITY_DB"] = str(path.expanduser().absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ["AVAILABILITY_DB"]
        else:
            os.environ["AVAILABILITY_DB"] = before


def use_home(home: Path) -> None:
    """Have Dagster in this process and its children work on this DAGSTER_HOME."""
    os.environ["DAGSTER_HOME"] = str(home)


def shipped_config() -> Path:
    """Our `dagster.yaml`: the checkout's, or the one an installation put into its prefix."""
    ours = CHECKOUT / "dagster.yaml"
    share = Path(sys.prefix) / "share" / PROGRAM / "dagster.yaml"
    return ours if ours.exists() else share


def log_path(settings: Settings) -> Path:
    """Where runs log to: AVAILABILITY_LOG_FILE, else `log/availability.log` in Dagster's home."""
    if settings.log_file:
        return Path(settings.log_file).expanduser().absolute()
    # Not `logs`: Dagster's telemetry moves whatever is in that folder to its queue and uploads it.
    return (dagster_home() or Path.cwd()) / "log" / "availability.log"
