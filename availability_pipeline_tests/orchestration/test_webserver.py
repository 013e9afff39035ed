"""The guard before the Dagster UI, on real webservers: what a page of another site can do there."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from availability_pipeline import settings
from availability_pipeline.orchestration.instance.webserver import refusal
from availability_pipeline_tests.support.helpers import PATIENCE

DEFINITIONS = """
import dagster as dg

@dg.asset
def thing(): ...

defs = dg.Definitions(assets=[thing], jobs=[dg.define_asset_job("job", [thing])])
"""
LAUNCH = """mutation { launchRun(executionParams: {mode: "default", runConfigData: {},
    selector: {repositoryLocationName: "tiny.py", repositoryName: "__repository__",
    pipelineName: "job"}}) { __typename } }"""
EVIL = "http://evil.example"
NAMED = "ui.example.org"


@dataclass(frozen=True)
class UI:
    """A webserver process on loopback."""

    port: int

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
        """Status and text; `Host` as a browser sends it, unless it is given."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as con:
            con.putrequest(method, path, skip_host="Host" in named, skip_accept_encoding=True)
            for name, value in {**named, "Content-Length": str(len(body.encode()))}.items():
                con.putheader(name, value.format(port=self.port))
            con.endheaders(body.encode())
            with con.getresponse() as answer:
                return answer.status, answer.read().decode("utf-8", "replace")

    def graphql(self, query: str, **headers: str) -> dict[str, object]:
        """As the UI asks."""
        given = {"Content_Type": "application/json", **headers}
        status, text = self.ask("POST", "/graphql", json.dumps({"query": query}), **given)
        assert status == 200, text
        answer: dict[str, object] = json.loads(text)["data"]
        return answer

    def traces(self) -> int:
        """Runs launched and materialisations reported so far."""
        found = self.graphql(
            """{ runsOrError { ... on Runs { count } } assetNodes { assetMaterializations { runId }
            } }"""
        )
        runs = found["runsOrError"]["count"]  # type: ignore[index]
        return int(runs) + sum(len(n["assetMaterializations"]) for n in found["assetNodes"])  # type: ignore[attr-defined]


WEBSERVER = "availability_pipeline.orchestration.instance.webserver"


@contextmanager
def serving(folder: Path, *words: str, module: str = WEBSERVER,
            **env: str) -> Iterator[UI]:  # fmt: skip
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\n"
        "run_coordinator: {module: dagster, class: QueuedRunCoordinator}\n"  # no run starts
    )
    (folder / "tiny.py").write_text(DEFINITIONS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "log"
    command = [sys.executable, "-m", module, "-f", "tiny.py", "-p", str(port), *words]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "DAGSTER_HOME": str(home), **env},
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        ui, deadline = UI(port), time.monotonic() + PATIENCE
        while True:
            try:
                assert ui.ask("GET", "/server_info")[0] == 200
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield ui
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UI]:
    folder = tmp_path_factory.mktemp("guarded")
    with serving(folder, AVAILABILITY_UI_HOSTS=f"{NAMED}, other.example:8443") as ui:
        yield ui


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UI]:
    """Dagster's own, to see that each attack is one."""
    with serving(tmp_path_factory.mktemp("plain"), module="dagster_webserver") as ui:
        yield ui


@dataclass(frozen=True)
class Attack:
    """A request that a page on another site can have a browser send."""

    name: str
    method: str = "GET"
    path: str = f"/graphql?query={quote(LAUNCH)}"
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 403


JSON = {"Content_Type": "application/json"}
BODY = json.dumps({"query": LAUNCH})
REPORT = "/report_asset_materialization/thing"
ATTACKS = [
    Attack("an image", headers={"Accept": "image/*", "Sec_Fetch_Site": "cross-site",
           "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}, status=405),
    Attack("an image in a browser without Sec-Fetch", headers={"Accept": "image/*"}, status=405),
    Attack("a script", headers={"Accept": "*/*", "Sec_Fetch_Site": "cross-site"}, status=405),
    Attack("a form without a body", "POST", headers={"Origin": EVIL}),
    Attack("a form of another port of this machine", "POST",
           headers={"Origin": "http://127.0.0.1:8000", "Sec_Fetch_Site": "same-site"}),
    Attack("a form of plain text, in a browser without Origin", "POST",
           headers={"Content_Type": "text/plain"}, status=415),
    Attack("a form of a sandboxed frame", "POST", headers={"Origin": "null"}),
    Attack("a form with its fields", "POST", body="a=b",
           headers={"Content_Type": "application/x-www-form-urlencoded"}, status=415),
    Attack("plain text that claims to be JSON too", "POST", "/graphql", BODY,
           {"Content_Type": "text/plain; application/json"}, 415),
    Attack("GraphQL text", "POST", "/graphql", LAUNCH,
           {"Content_Type": "text/plain;application/graphql"}, 415),
    Attack("JSON from another origin", "POST", "/graphql", BODY, JSON | {"Origin": EVIL}),
    Attack("JSON from another site", "POST", "/graphql", BODY,
           JSON | {"Sec_Fetch_Site": "cross-site"}),
    Attack("a page whose name was rebound to loopback", "POST", "/graphql", BODY,
           JSON | {"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}",
                   "Sec_Fetch_Site": "same-origin"}, 421),
    Attack("a name that begins like loopback", "POST", "/graphql", BODY,
           JSON | {"Host": "127.0.0.1.evil.example"}, 421),
    Attack("a name that begins like a named one", "POST", "/graphql", BODY,
           JSON | {"Host": f"{NAMED}.evil.example"}, 421),
    Attack("a Host with a user", "POST", "/graphql", BODY,
           JSON | {"Host": "localhost@evil.example"}, 421),
    Attack("a materialisation reported by a form", "POST", REPORT, headers={"Origin": EVIL}),
    Attack("a materialisation reported, in a browser without Origin", "POST", REPORT, status=415),
    Attack("a materialisation reported by a rebound name", "POST", REPORT, "{}",
           JSON | {"Host": "evil.example"}, 421),
]  # fmt: skip
by_name = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)


@by_name
def test_no_page_of_another_site_changes_anything(guarded: UI, attack: Attack) -> None:
    before = guarded.traces()
    status, text = guarded.ask(attack.method, attack.path, attack.body, **attack.headers)
    assert (status, guarded.traces()) == (attack.status, before), text


@by_name
def test_on_plain_dagster_each_of_them_does(plain: UI, attack: Attack) -> None:
    """When one fails, Dagster has closed that door itself."""
    before = plain.traces()
    status, text = plain.ask(attack.method, attack.path, attack.body, **attack.headers)
    assert (status, plain.traces()) == (200, before + 1), text


@pytest.mark.parametrize("kind", ["check", "observation"])
def test_no_page_of_another_site_reports_checks_or_observations(guarded: UI, kind: str) -> None:
    path = f"/report_asset_{kind}/thing?check_name=x&passed=true"
    assert guarded.ask("POST", path)[0] == 415
    assert guarded.ask("POST", path, "{}", **JSON, Origin=EVIL)[0] == 403
    assert guarded.ask("POST", path, "{}", **JSON, Host="evil.example")[0] == 421
    assert guarded.ask("POST", path, "{}", **JSON)[0] not in (403, 405, 415, 421)


def open_websocket(ui: UI, **headers: str) -> str:
    """The answer to `connection_init` on a websocket, as the UI opens it."""
    origin = headers.pop("Origin", None)
    with connect(
        f"ws://127.0.0.1:{ui.port}/graphql", subprotocols=["graphql-ws"], proxy=None,
        origin=origin and origin.format(port=ui.port), additional_headers=headers,
    ) as websocket:  # fmt: skip
        websocket.send('{"type": "connection_init"}')
        return str(json.loads(websocket.recv(timeout=PATIENCE))["type"])


FOREIGN_SOCKETS = [{"Origin": EVIL}, {"Origin": "http://localhost:8000"}, {"Origin": "null"}]


@pytest.mark.parametrize("headers", FOREIGN_SOCKETS, ids=str)
def test_no_page_of_another_site_opens_a_websocket(
    guarded: UI, plain: UI, headers: dict[str, str]
) -> None:
    assert open_websocket(plain, **headers) == "connection_ack"
    with pytest.raises(InvalidStatus) as refused:
        open_websocket(guarded, **headers)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:{port}", "Sec_Fetch_Site": "same-origin"},
        {"Host": "localhost:{port}", "Origin": "http://localhost:{port}"},
        {"Host": "[::1]:{port}", "Origin": "http://[::1]:{port}"},
        {"Host": NAMED, "Origin": f"https://{NAMED}", "Sec_Fetch_Site": "same-origin"},
        {"Host": f"{NAMED}:8080", "Origin": f"http://{NAMED}:8080"},
        {"Origin": f"https://{NAMED}", "Sec_Fetch_Site": "same-origin"},  # a proxy's own Host
        {"Host": "other.example:8443", "Origin": "https://other.example:8443"},
    ],
    ids=str,
)
def test_the_ui_itself_and_programs_are_answered(guarded: UI, headers: dict[str, str]) -> None:
    assert guarded.graphql("{ version }", **headers)["version"]
    assert guarded.ask("GET", "/runs", **headers)[0] == 200
    assert guarded.ask("GET", "/server_info", **headers)[0] == 200


def test_a_host_named_with_its_port_is_not_named_with_another(guarded: UI) -> None:
    assert guarded.ask("GET", "/", Host="other.example:8444")[0] == 421


def test_the_ui_opens_its_websocket(guarded: UI) -> None:
    assert open_websocket(guarded, Origin="http://127.0.0.1:{port}") == "connection_ack"
    assert open_websocket(guarded) == "connection_ack"


def test_a_link_to_the_ui_can_be_followed_and_no_frame_shows_it(guarded: UI) -> None:
    """Alerts and chats link to runs; a frame could have its buttons clicked unseen."""
    link = {"Accept": "text/html", "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert guarded.ask("GET", "/runs", **link, Sec_Fetch_Dest="document")[0] == 200
    assert guarded.ask("GET", "/runs", **link, Sec_Fetch_Dest="iframe")[0] == 403
    with closing(http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=PATIENCE)) as con:
        con.request("GET", "/runs")
        with con.getresponse() as answer:
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert "script-src 'nonce-" in answer.headers["Content-Security-Policy"]


def test_the_playground_for_graphql_opens_and_executes_nothing(guarded: UI) -> None:
    before = guarded.traces()
    status, text = guarded.ask("GET", f"/graphql?query={quote(LAUNCH)}", Accept="text/html")
    assert (status, guarded.traces()) == (200, before)
    assert "GraphiQL" in text


def test_read_only_mode_is_kept(tmp_path: Path) -> None:
    with serving(tmp_path, "--read-only") as ui:
        answer = ui.graphql(LAUNCH)["launchRun"]
        assert answer == {"__typename": "UnauthorizedError"}
        assert ui.ask("POST", "/graphql", BODY, **JSON, Origin=EVIL)[0] == 403
        assert ui.traces() == 0


def test_a_program_launches_runs_as_before(guarded: UI) -> None:
    before = guarded.traces()
    assert guarded.graphql(LAUNCH)["launchRun"] == {"__typename": "LaunchRunSuccess"}
    assert guarded.traces() == before + 1


@pytest.mark.parametrize("value", ["*", "https://ui.example.org", "a/b", "u@h", "h:port", "-h"])
def test_a_ui_host_that_is_not_a_host_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("AVAILABILITY_UI_HOSTS", value)
    with pytest.raises(settings.SettingsError, match=r"^AVAILABILITY_UI_HOSTS=.*host names"):
        settings.load()


@pytest.mark.parametrize("scheme", ["ftp", "file", "chrome-extension"])
def test_an_origin_that_is_no_web_page_is_another_one(scheme: str) -> None:
    for host in ("127.0.0.1:3000", NAMED):
        headers = [(b"host", host.encode()), (b"origin", f"{scheme}://{host}".encode())]
        scope = {"type": "http", "method": "POST", "path": "/graphql", "headers": headers}
        refused = refusal(scope, {NAMED})
        assert refused is not None
        assert refused[0] == 403


NAMES = st.sampled_from(["127.0.0.1", "localhost", "[::1]", "evil.example", NAMED])
TEXT = st.text(st.characters(max_codepoint=0xFF), max_size=12)


@given(st.one_of(NAMES, TEXT), TEXT, st.lists(TEXT, max_size=3))
def test_whatever_is_in_the_headers_they_get_a_verdict(host: str, tail: str, origins: list[str]):
    """No exception: an error of the guard would be a page of Dagster's, or a hanging socket."""
    headers = [("host", host + tail), *(("origin", origin) for origin in origins)]
    scope = {
        "type": "http", "method": "POST", "path": "/graphql",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }  # fmt: skip
    refused = refusal(scope, {NAMED})
    assert refused is not None, "there is no content type"
    assert refused[0] in (403, 415, 421)
