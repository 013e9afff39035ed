"""The unsigned S3 client, with our own reader of listing pages in it.

boto3 is set up so that it never signs, never retries more often than configured, does not follow
redirects, and does not spend its time on XML; answers are bounded.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore import UNSIGNED, handlers
from botocore.awsrequest import AWSHTTPConnectionPool, AWSHTTPSConnectionPool
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    HTTPClientError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError as ResponseParserError  # for `listing`
from botocore.parsers import ResponseParserFactory
from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.exceptions import ReadTimeoutError as Urllib3ReadTimeoutError

from availability_pipeline import PROGRAM
from availability_pipeline.archive import deadlines
from availability_pipeline.archive._pages import (
    MAX_PAGE_BYTES,
    MalformedPageError,
    check_markup,
    parse_page,
)
from availability_pipeline.settings import Settings

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest, AWSResponse
    from botocore.httpsession import URLLib3Session
    from mypy_boto3_s3 import S3Client

PAGE_TIMEOUTS = 10
"""A page must be there within so many read timeouts, whatever of it drips: TLS, headers, body."""

MAX_ERROR_BYTES = 64 * 2**10
"""S3's errors have some 300 bytes, and botocore's parser makes objects of all that is in them."""

# Of botocore's 200 handlers, those that an unsigned listing in path style needs: the rest took a
# fifth of botocore's time for a request, and one of them would send an `X-Amzn-Trace-Id` from the
# environment.
_HANDLERS = (
    ("before-parameter-build.s3", handlers.validate_bucket_name),
    ("before-parameter-build.s3", handlers.remove_bucket_from_url_paths_from_model),
    ("before-parameter-build.s3.ListObjectsV2", handlers.set_list_objects_encoding_type_url),
    ("before-endpoint-resolution.s3", handlers.customize_endpoint_resolver_builtins),
    ("choose-signer.s3", handlers.set_operation_specific_signer),
)


def make_client(settings: Settings) -> "S3Client":
    """An S3 client that never signs, whatever credentials or profile the environment holds."""
    session = botocore.session.Session(
        session_vars={
            # A profile that does not exist would fail, one that does could sign or redirect.
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        },
        include_builtin_handlers=False,
    )
    config = Config(
        signature_version=UNSIGNED,
        s3={"addressing_style": "path"},
        max_pool_connections=settings.s3_concurrency,
        # A name of its own also spares botocore composing one for each request (0.4 ms of 2).
        user_agent=PROGRAM,
        # `max_attempts: 1` would mean one retry; this is the count of requests in all.
        retries={"mode": "standard", "total_max_attempts": settings.s3_attempts},
        connect_timeout=settings.s3_timeout_seconds,
        read_timeout=settings.s3_timeout_seconds,
        parameter_validation=False,  # `listing` builds them all; checking took 3 %
        # Said here so that no AWS_... variable can say otherwise.
        use_fips_endpoint=False,
        use_dualstack_endpoint=False,
        defaults_mode="legacy",  # type: ignore[arg-type]  # the stubs say bool
    )
    session.register_component("response_parser_factory", _Parsers())
    client: S3Client = boto3.session.Session(botocore_session=session).client(
        "s3", region_name="ap-northeast-1", endpoint_url=settings.s3_endpoint, config=config
    )
    events = client.meta.events
    for event, handler in _HANDLERS:
        events.register(event, handler)
    events.register_last("before-parameter-build.s3", _stay_here)
    _remember_endpoint(client)
    # botocore's own session sends, with its proxies, certificates and errors; only the reading of
    # the body is ours. It is private, so `test_client` looks that it is still there.
    session_of_http = client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001
    sender = _Sender(session_of_http, settings.s3_timeout_seconds)
    events.register("before-send.s3", sender)  # type: ignore[arg-type]  # what it returns counts
    return client


def _stay_here(context: dict[str, Any], **_: object) -> None:
    """Have botocore think that it followed a redirect already, because it follows one only."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def _remember_endpoint(client: "S3Client") -> None:
    """Resolve the endpoint once per bucket; botocore would walk its rules for each request."""
    resolver: Any = client._ruleset_resolver  # type: ignore[attr-defined]  # noqa: SLF001
    resolve, known = resolver.construct_endpoint, {}

    def construct_endpoint(operation_model: Any, call_args: Any, request_context: Any) -> Any:
        key = operation_model.name, call_args.get("Bucket")
        if key not in known:
            known[key] = resolve(operation_model, call_args, request_context)
        return known[key]

    resolver.construct_endpoint = construct_endpoint


def _remember_pool(manager: Any) -> None:
    """Find the connection pool by the address's host alone.

    urllib3 reads and encodes the whole address for it, and again to send: 0.07 ms a page.
    """
    connection_from_url, known = manager.connection_from_url, {}

    def remembered(url: str) -> Any:
        host = url[: url.find("/", len("https://"))]
        if host not in known:
            known[host] = connection_from_url(f"{host}/")
        return known[host]

    manager.connection_from_url = remembered


class _Sender:
    """Sends a request as botocore does, but reads no more of the answer than a page can have."""

    def __init__(self, session: "URLLib3Session", timeout: float) -> None:
        self._session, self._patience = session, PAGE_TIMEOUTS * timeout
        manager: Any = session._manager  # type: ignore[attr-defined]  # noqa: SLF001
        # The same dictionary serves its proxies' managers.
        manager.pool_classes_by_scheme.update(
            http=deadlines.watched(AWSHTTPConnectionPool),
            https=deadlines.watched(AWSHTTPSConnectionPool),
        )
        _remember_pool(manager)

    def __call__(self, request: "AWSPreparedRequest", **_: object) -> "AWSResponse":
        request.stream_output = True  # botocore: leave the body to the caller
        with deadlines.within(self._patience) as deadline:
            try:
                response = self._session.send(request)
                body = _body(response.raw, request)
            except BotoCoreError as error:
                if deadline.late:
                    raise ReadTimeoutError(endpoint_url=request.url) from error
                raise
        if deadline.late:  # what is there may be cut off
            raise ReadTimeoutError(endpoint_url=request.url)
        status = response.status_code
        if 300 <= status < 400:
            raise MalformedPageError(
                f"HTTP {status}: the endpoint wants us elsewhere "
                f"({str(response.headers.get('Location'))[:120]}); if that is right, set "
                "AVAILABILITY_S3_ENDPOINT to it"
            )
        if status != 200 or b"<ListBucketResult" not in body[:200]:
            # botocore reads errors, and its parser would expand entities.
            if b"<!" in body or b"\x00" in body:
                raise MalformedPageError(f"HTTP {status}, and the answer declares a document type")
            if status == 200 and b"<Error>" in body[:200]:
                response.status_code = 500  # S3 says so late; botocore may try again
            if response.status_code != 200:
                if len(body) > MAX_ERROR_BYTES:
                    raise MalformedPageError(f"HTTP {status} with {len(body):,} bytes")
                check_markup(body)
        response.raw = _Read(body)
        return response


def _body(raw: Any, request: "AWSPreparedRequest") -> bytes:
    parts, size = [], 0
    while part := _part(raw, request):
        parts.append(part)
        size += len(part)
        if size > MAX_PAGE_BYTES:
            raw.close()
            raise MalformedPageError(
                f"the answer has more than {MAX_PAGE_BYTES:,} bytes, no listing page has"
            )
    return b"".join(parts)


def _part(raw: Any, request: "AWSPreparedRequest") -> bytes:
    try:
        # What is there by now, in one look: reading in botocore's 64 kB costs 0.15 ms a page more,
        # of the 0.35 that a bare fetch takes.
        part: bytes = raw.read1(2**20)
    except Urllib3ReadTimeoutError as error:
        raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
    except ProtocolError as error:
        raise ConnectionClosedError(endpoint_url=request.url, error=error) from error
    except (HTTPError, OSError) as error:
        raise HTTPClientError(error=error) from error
    return part


class _Read:
    """A body already read, as `AWSResponse.content` takes it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> tuple[bytes]:
        return (self._body,)


class _Parsers(ResponseParserFactory):
    """Takes pages out of the hands of botocore's own, slow parser, and leaves it the rest."""

    def create_parser(self, protocol_name: str) -> Any:
        return _Parser(super().create_parser, protocol_name)


class _Parser:
    def __init__(self, make: Callable[[str], Any], protocol_name: str) -> None:
        self._make, self._protocol_name = make, protocol_name

    def parse(self, response: dict[str, Any], shape: Any) -> Any:
        name = shape.name if shape else None
        if response["status_code"] != 200 or name != "ListObjectsV2Output":
            return self._make(self._protocol_name).parse(response, shape)
        headers = {"date": response["headers"].get("date", "")}
        return {
            "Page": parse_page(response["body"]),
            "ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": headers},
        }
