"""The client never signs, tells nobody a secret, and still fits the botocore underneath."""

import inspect

import pytest
from botocore.httpsession import URLLib3Session

from availability_pipeline import settings
from availability_pipeline.archive._client import make_client
from availability_pipeline.archive._pages import Page
from availability_pipeline.archive.datasets import UM_KLINES_1M as DS
from availability_pipeline.archive.listing import DiscoveryError, S3Archive
from availability_pipeline_tests.support.hostile import FakeArchive, folder, hostile_archive, page

SECRET = "s3cr3t"
HARMLESS_HEADERS = {"host", "accept-encoding", "user-agent", "amz-sdk-request",
                    "amz-sdk-invocation-id"}  # fmt: skip

ENVIRONMENTS = {
    "keys": {"AWS_ACCESS_KEY_ID": "AKIA" + SECRET, "AWS_SECRET_ACCESS_KEY": SECRET,
             "AWS_SESSION_TOKEN": SECRET},
    "a profile that is not there": {"AWS_PROFILE": "nobody", "AWS_DEFAULT_PROFILE": "nobody"},
    "a bearer token": {"AWS_BEARER_TOKEN_S3": SECRET, "AWS_AUTH_SCHEME_PREFERENCE": "sigv4,bearer"},
    "a trace": {"AWS_LAMBDA_FUNCTION_NAME": "f", "_X_AMZN_TRACE_ID": SECRET,
                "AWS_EXECUTION_ENV": SECRET, "AWS_SDK_UA_APP_ID": SECRET},
    "another endpoint": {"AWS_ENDPOINT_URL": "http://127.0.0.1:9",
                         "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"},
    "another way to the endpoint": {"AWS_USE_FIPS_ENDPOINT": "true",
                                    "AWS_USE_DUALSTACK_ENDPOINT": "true",
                                    "AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-west-1"},
    "retries": {"AWS_MAX_ATTEMPTS": "9", "AWS_RETRY_MODE": "adaptive",
                "AWS_DEFAULTS_MODE": "auto"},
    "container credentials": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/",
                              "AWS_CONTAINER_AUTHORIZATION_TOKEN": SECRET,
                              "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere", "AWS_ROLE_ARN": SECRET},
}  # fmt: skip


@pytest.fixture(scope="module")
def fake():
    with hostile_archive() as made:
        yield made


def discover(fake: FakeArchive) -> tuple[str, ...]:
    client = make_client(settings.load(s3_endpoint=fake.url))
    try:
        return S3Archive(client, "data.binance.vision").folders().symbols
    finally:
        client.close()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_nothing_of_the_environment_is_sent(fake, monkeypatch, tmp_path, name):
    config = tmp_path / "config"
    config.write_text(f"[default]\naws_access_key_id = {SECRET}\naws_secret_access_key = {SECRET}\n"
                      "endpoint_url = http://127.0.0.1:9\n")  # fmt: skip
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(config))
    for variable, value in ENVIRONMENTS[name].items():
        monkeypatch.setenv(variable, value)
    fake.listings(page(folder(f"{DS.prefix}BTCUSDT/")))
    assert discover(fake) == ("BTCUSDT",)
    [(method, path, headers)] = fake.asked
    assert method == "GET"
    assert {h.lower() for h in headers} <= HARMLESS_HEADERS
    assert SECRET not in f"{path} {headers}"
    assert "X-Amz" not in path


def test_a_proxys_password_is_not_in_the_error(fake, monkeypatch):
    for variable in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(variable, f"http://user:{SECRET}@127.0.0.1:9")
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(DiscoveryError, match="roxy") as caught:
        discover(fake)
    assert SECRET not in str(caught.value)


def test_the_parts_of_botocore_that_we_reach_into_are_what_they_were():
    """`make_client` uses three private attributes; a botocore without them must be noticed here."""
    client = make_client(settings.load())
    assert isinstance(client._endpoint.http_session, URLLib3Session)
    manager = client._endpoint.http_session._manager
    first, second = (manager.connection_from_url(f"https://a.example/{n}") for n in "ab")
    assert first is second
    assert first is not manager.connection_from_url("https://b.example/a")
    assert (first.host, first.scheme) == ("a.example", "https")
    resolver = client._ruleset_resolver
    original = type(resolver).construct_endpoint
    assert [*inspect.signature(original).parameters][1:] == [
        "operation_model", "call_args", "request_context"
    ]  # fmt: skip
    assert resolver.construct_endpoint.__module__ == "availability_pipeline.archive._client"
    client.close()


def test_a_bucket_of_another_name_gets_an_address_of_its_own(fake):
    """The endpoint is worked out once for each bucket, never once for all."""
    client = make_client(settings.load(s3_endpoint=fake.url))
    fake.listings(page(""))
    for bucket in ("one", "two", "one"):
        answer = client.list_objects_v2(Bucket=bucket, Prefix="x")
        assert isinstance(answer["Page"], Page), "botocore's own parser read it, without our checks"
    client.close()
    assert [path.partition("?")[0] for _, path, _ in fake.asked] == ["/one", "/two", "/one"]
