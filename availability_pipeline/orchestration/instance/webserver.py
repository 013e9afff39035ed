"""The Dagster UI behind a guard: `dagster-webserver` with the same options, refusing foreign pages.

Dagster's own webserver executes GraphQL mutations on GET, on POST with any content type, and under
any Host and Origin. So any web page that is open in a browser on this machine can launch runs: an
`<img>`, a form, a websocket, or a page whose host name was rebound to 127.0.0.1. The guard admits

- a Host that is a loopback name or that AVAILABILITY_UI_HOSTS names (DNS rebinding);
- an Origin that is the Host itself or that AVAILABILITY_UI_HOSTS names;
- of what a browser says a foreign site asks for, page loads only (following a link to the UI);
- GraphQL by POST only, and bodies in JSON only (`<img>` and forms can send neither).

A program without a browser sends no Origin and no Sec-Fetch-Site, so scripts and health checks work
as before. There is no log-in: whoever can connect can do everything, see docs/security.md.

Stands on:
    dagster._core.workspace.context.IWorkspaceProcessContext
    dagster_webserver.cli.cli
    dagster_webserver.cli.create_app_from_workspace_process_context
    dagster_webserver.webserver.DagsterWebserver.build_middleware
    dagster_webserver.webserver.DagsterWebserver.create_asgi_app
"""

import ipaddress
import re
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from dagster_webserver import cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from availability_pipeline import files, settings

if TYPE_CHECKING:
    from dagster._core.workspace.context import IWorkspaceProcessContext
    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REMEDY = "open the UI under a loopback name, or name this host in AVAILABILITY_UI_HOSTS"

_LOCATION = re.compile(
    r"-[wfm].*|--(workspace|python-file|module-name|package-name|autoload-defs-module-name|"
    r"grpc-port|grpc-socket|grpc-host|empty-workspace)(=.*)?"
)


class Guard:
    """ASGI middleware that lets through what the UI itself and programs ask for.

    Args:
        app: what it stands before.
        hosts: names besides the loopback ones, as AVAILABILITY_UI_HOSTS has them.
    """

    def __init__(self, app: "ASGIApp", hosts: Collection[str] = ()) -> None:
        self._app, self._hosts = app, frozenset(hosts)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Refuse a request, or hand it to the app."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif refused := refusal(scope, self._hosts):
            if scope["type"] == "websocket":
                await receive()  # the connect message; closing then answers 403
                await send({"type": "websocket.close", "code": 1008})
            else:
                status, reason = refused
                await PlainTextResponse(f"{reason}\n", status)(scope, receive, send)
        else:
            await self._app(scope, receive, _unframed(send))


def refusal(scope: "Scope", hosts: Collection[str]) -> tuple[int, str] | None:
    """Why a request is refused, as HTTP status and one line; None when it is not."""
    headers = Headers(scope=scope)
    host = _only(headers, "host")
    if host is None or not _host_allowed(host, hosts):
        return 421, f"this Host is not allowed; {REMEDY}"
    origins = headers.getlist("origin")
    if not all(_origin_allowed(origin, host, hosts) for origin in origins):
        return 403, f"requests from another origin are not allowed; {REMEDY}"
    if scope["type"] == "websocket":
        return None if _from_here(headers, origins) else (403, "another site asks for this")
    method, graphql = scope["method"], scope["path"].rstrip("/").endswith("/graphql")
    if method in ("GET", "HEAD"):
        # Dagster answers this with the GraphiQL page and executes nothing.
        if graphql and "text/html" not in headers.get("accept", ""):
            return 405, "GraphQL is answered to POST only"
        if not (_from_here(headers, origins) or _is_page_load(headers)):
            return 403, "another site asks for this; open the UI itself"
        return None
    if method != "POST":
        return 405, "only GET, HEAD and POST are answered"
    if not _from_here(headers, origins):
        return 403, "another site asks for this; open the UI itself"
    # Browsers send JSON to another site only after asking it, and it never says yes. The whole
    # type counts: `text/plain; application/json` goes out unasked, and Dagster takes it for JSON.
    content_type = _only(headers, "content-type") or ""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        return 415, "send JSON, with Content-Type: application/json"
    return None


def _only(headers: Headers, name: str) -> str | None:
    """The header's value, if it is there once: of two, the app might read the other."""
    values = headers.getlist(name)
    return values[0] if len(values) == 1 else None


def _host_allowed(host: str, hosts: Collection[str]) -> bool:
    url = _parsed(f"//{host}")
    # Nothing but a name and a port may be in it.
    if url is None or not url.hostname or url.netloc != host or "@" in host:
        return False
    return _is_loopback(url.hostname) or _named(url, hosts)


def _origin_allowed(origin: str, host: str, hosts: Collection[str]) -> bool:
    url = _parsed(origin)
    if url is None or url.scheme not in ("http", "https") or not url.hostname:
        return False  # "null" too: a sandboxed frame, a file
    # The port counts: what another user of this machine serves is another origin. The scheme does
    # not: a proxy in front may speak TLS.
    if _same_place(origin.partition("://")[2], host, url.scheme):
        return True
    # Proxies may send their own name for the Host; this one the user has named.
    return not _is_loopback(url.hostname) and _named(url, hosts)


def _same_place(place: str, host: str, scheme: str) -> bool:
    default = {"http": ":80", "https": ":443"}[scheme]
    return place.lower().removesuffix(default) == host.lower().removesuffix(default)


def _named(url: SplitResult, hosts: Collection[str]) -> bool:
    return bool({url.hostname, url.netloc.lower()}.intersection(hosts))


def _from_here(headers: Headers, origins: Sequence[str]) -> bool:
    """Whether the browser says that the UI's own page asks, or no page at all.

    Behind a proxy that sends another Host, a named origin has been admitted already.
    """
    sites = headers.getlist("sec-fetch-site")
    return all(site in ("same-origin", "none") for site in sites) and len(origins) <= 1


def _is_page_load(headers: Headers) -> bool:
    """A link to the UI that is followed: a whole page, not a frame, an image or a script."""
    return (
        _only(headers, "sec-fetch-mode") == "navigate"
        and _only(headers, "sec-fetch-dest") == "document"
    )


def _parsed(url: str) -> SplitResult | None:
    try:
        parsed = urlsplit(url)
        _ = parsed.port  # raises on what is not a port
    except ValueError:
        return None
    return parsed


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _unframed(send: "Send") -> "Send":
    """No page may show the UI in a frame of its own and have it clicked on."""

    async def sending(message: "Message") -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Frame-Options"] = "DENY"
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
        await send(message)

    return sending


class GuardedWebserver(DagsterWebserver[Any, Any]):
    """Dagster's webserver with the guard before everything it serves."""

    def build_middleware(self) -> list[Middleware]:
        """The guard, then Dagster's own."""
        hosts = settings.load().ui_hosts
        return [Middleware(Guard, hosts=hosts), *super().build_middleware()]


def _app(
    context: "IWorkspaceProcessContext[Any]",
    path_prefix: str = "",
    live_data_poll_rate: int | None = None,
    **more: Any,
) -> "Starlette":
    return GuardedWebserver(context, path_prefix, live_data_poll_rate).create_asgi_app(**more)


def main(arguments: Sequence[str] | None = None) -> None:
    """Take dagster-webserver's options.

    Serves our definitions where no option names others.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not any(_LOCATION.fullmatch(word) for word in words):
        words += ["-m", settings.DEFINITIONS, "-d", str(settings.CHECKOUT)]
    settings.never_import_from_current_directory()
    files.keep_private()
    try:
        settings.load()
    except settings.SettingsError as error:
        sys.exit(f"Error: {error}")
    # Its command has no option for the app; without this name the guard would stand nowhere.
    if not hasattr(cli, "create_app_from_workspace_process_context"):
        sys.exit("Error: this dagster-webserver cannot be guarded; see constraints.txt")
    cli.create_app_from_workspace_process_context = _app
    cli.cli(
        words, prog_name="python -m availability_pipeline.orchestration.instance.webserver",
        auto_envvar_prefix="DAGSTER_WEBSERVER",
    )  # fmt: skip


if __name__ == "__main__":
    main()
