"""What a person sees after `make demo`: the Dagster UI on its data, in a real browser."""

import datetime as dt
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page

from availability_pipeline_tests.support.browser import browser, patient
from availability_pipeline_tests.support.demo_process import (
    DemoWithUi,
    demo_with_ui,
    left_of,
    run_as_printed,
    run_demo,
)
from availability_pipeline_tests.support.helpers import PATIENCE, wait_for
from availability_pipeline_tests.support.servers import Server

GROUPS = "%2C".join(
    f"global%40global%3A{name}"
    for name in ("archive", "um", "spot", "record", "answers", "published")
)

needs_proc = pytest.mark.requires("proc")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoWithUi]:
    with demo_with_ui(tmp_path_factory.mktemp("demo")) as made:
        yield made


@needs_proc
def test_the_ui_stands_and_what_it_tells_to_ask_works_beside_it(demo: DemoWithUi) -> None:
    with urllib.request.urlopen(f"{demo.address}/server_info", timeout=PATIENCE) as answer:
        assert b"dagster_version" in answer.read()
    assert f"Dagster UI: {demo.address}/asset-groups" in demo.lines
    wait_for(lambda: len(left_of(demo.folder, patience=0)) >= 3)
    answers = run_as_printed(demo.folder, demo.lines)
    yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(1)
    assert f"query snapshot {yesterday}" in answers
    assert "never ran here" not in answers["status"]
    assert "ETHUSDT" in answers[f"query rankings {yesterday} --quote USDT"]


def test_a_second_demo_in_the_same_folder_is_refused(demo: DemoWithUi) -> None:
    second = run_demo(demo.folder, "--no-ui")
    assert second.returncode == 1
    assert "another demo is running" in second.stderr


@pytest.fixture
def ui(demo: DemoWithUi) -> str:
    return demo.address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    page = patient(chromium.new_page(viewport={"width": 1640, "height": 900}))
    yield page
    page.close()


def test_the_asset_graph_shows_every_asset(ui: str, page: Page) -> None:
    page.goto(f"{ui}/asset-groups?expanded={GROUPS}")
    for name in (
        "vision_archive",
        "daily_availability",
        "symbol_spans",
        "daily_summary",
    ):
        page.get_by_text(name, exact=True).first.wait_for()
    assert not page.get_by_text("Join the Dagster community").is_visible()


@pytest.mark.parametrize(
    "asset",
    [
        "um/klines/daily_availability",
        "spot/klines/daily_availability",
        "spot/aggTrades/daily_availability",
        "um/fundingRate/monthly_availability",
    ],
)
def test_no_partition_is_missing(ui: str, page: Page, asset: str) -> None:
    page.goto(f"{ui}/assets/{asset}?view=partitions")
    page.get_by_text("Missing (0)").wait_for()
    page.get_by_text("Failed (0)").wait_for()


def test_the_numbers_of_each_partition_are_plotted(ui: str, page: Page) -> None:
    # A lag is of one dataset: of several in an asset there is none.
    page.goto(f"{ui}/assets/spot/aggTrades/daily_availability?view=overview")
    page.get_by_text("Plots", exact=True).click()
    for name in ("available", "pending", "absent", "lag_p50_hours"):
        page.get_by_text(name, exact=True).first.wait_for()
    page.locator("canvas").first.wait_for()


def test_the_report_shows_its_four_pictures(ui: str, page: Page) -> None:
    page.goto(f"{ui}/assets/availability_report?view=overview")
    page.get_by_text("[Show Markdown]").click()
    pictures = page.locator("img[src^='data:image/png;base64,']")
    pictures.nth(3).wait_for()
    widths = pictures.evaluate_all("all => all.map(one => one.naturalWidth)")
    assert widths == [880] * 4


def test_the_partitions_are_drawn(ui: str, page: Page) -> None:
    page.goto(f"{ui}/assets/um/klines/daily_availability?view=partitions")
    page.get_by_text("Partitions Selected").wait_for()


def test_checks_are_executed_and_shown(ui: str, page: Page) -> None:
    """A mutation, and a run that is followed: all through the guard before the UI."""
    page.goto(f"{ui}/assets/record?view=checks&checkDetail=completeness_slo")
    page.get_by_text("Execute all").click()
    page.get_by_text("Evaluation result").wait_for(timeout=PATIENCE * 1000)


def test_the_logs_of_a_run_arrive_by_websocket(ui: str, page: Page) -> None:
    opened = []
    page.on("websocket", lambda socket: opened.append(socket))
    page.goto(f"{ui}/runs")
    page.locator("a[href^='/runs/']").first.click()
    page.get_by_text("RUN_SUCCESS").first.wait_for()
    # On a busy machine the page may open it again.
    assert {socket.url for socket in opened} == {f"{ui.replace('http', 'ws')}/graphql"}


EVIL = """
<iframe name=frame></iframe>
<form id=form method=post target=frame></form>
<form id=report method=post target=frame></form>
<script>
const [ui, query] = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const address = `${ui}/graphql?query=${encodeURIComponent(query)}`;
const said = {};
const image = new Promise(done => {
  const img = new Image();
  img.onload = () => done("loaded"); img.onerror = () => done("refused"); img.src = address;
});
const posted = fetch(address, {method: "POST", mode: "no-cors"}).then(a => a.type, () => "refused");
const json = fetch(`${ui}/graphql`, {method: "POST", body: JSON.stringify({query}),
  headers: {"Content-Type": "application/json"}}).then(() => "answered", () => "refused");
const read = fetch(`${ui}/server_info`).then(() => "read", () => "refused");
const socket = new Promise(done => {
  const ws = new WebSocket(ui.replace("http", "ws") + "/graphql", "graphql-ws");
  ws.onopen = () => done("open"); ws.onerror = () => done("refused");
});
form.action = address; form.submit();
report.action = `${ui}/report_asset_materialization/evil`; report.submit();
Promise.all([image, posted, json, read, socket]).then(all => { window.said = all; });
</script>
"""


def test_a_page_of_another_site_launches_and_reads_nothing(ui: str, page: Page) -> None:
    """In a real browser, which knows what it may send: with plain Dagster two of these launch."""

    def runs() -> object:
        answer = page.request.post(
            f"{ui}/graphql",
            data={"query": "{ runsOrError { ... on Runs { count } } assetsOrError { ... on "
                           "AssetConnection { nodes { key { path } } } } }"},
        )  # fmt: skip
        assert answer.ok
        return answer.json()["data"]

    before = runs()
    launch = (
        'mutation { launchRun(executionParams: {mode: "default", runConfigData: {}, selector: '
        '{repositoryLocationName: "availability_pipeline.definitions", '
        'repositoryName: "__repository__", pipelineName: "draw_report"}}) { __typename } }'
    )
    with page_at(EVIL) as address:
        page.goto(f"{address}#{quote(json.dumps([ui, launch]))}")
        page.wait_for_function("window.said")
        said = page.evaluate("window.said")
    # The POST without a body goes out; its answer is one that the page cannot read.
    assert said == ["refused", "opaque", "refused", "refused", "refused"]
    page.wait_for_timeout(2000)
    assert runs() == before


@contextmanager
def page_at(html: str) -> Iterator[str]:
    """A web server of another site, which serves one page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_the_schedules_run_by_default(ui: str, page: Page) -> None:
    page.goto(f"{ui}/automation")
    page.get_by_text("daily_update_schedule").first.wait_for()


@needs_proc
def test_ctrl_c_ends_the_ui_and_all_it_started(demo: DemoWithUi) -> None:
    assert demo.ctrl_c() == 0
    assert left_of(demo.folder) == []
