"""The report's page as a person opens it: a local file, in a browser without any network."""

import datetime as dt
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from availability_pipeline.record import write
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.report import data as report_load
from availability_pipeline.report import html
from availability_pipeline_tests.support.browser import browser, patient
from availability_pipeline_tests.support.helpers import D, flat, make_listing

NAMES = ("growth", "completeness", "matrix", "lag")
START, END = D(2024, 1, 1), D(2024, 1, 20)

pytestmark = pytest.mark.requires("browser")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    files = {f"CROWD{n}USDT": flat(START, END) for n in range(60)}
    del files["CROWD7USDT"][D(2024, 1, 9)]
    files["龙虾USDT"] = flat(START, D(2024, 1, 11))
    files["OLDUSDTSETTLED"] = flat(START, D(2024, 1, 6))
    files["OLDUSDT"] = flat(D(2024, 1, 12), END)
    at = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
    with writer(folder / "record.duckdb") as con:
        write.write_probe(con, make_listing(START, END, files), probed_at=at, run_id="run")
    with reader(folder / "record.duckdb") as con:
        data = report_load.load(con, threshold=0.95, drawn_at=at)
    page = folder / "availability.html"
    page.write_text(html.page(data), encoding="utf-8")
    return page.as_uri()


@pytest.fixture(scope="module", params=["light", "dark"])
def page(request: pytest.FixtureRequest, address: str) -> Iterator[Page]:
    """The page, opened; whatever it complains of or asks the network for fails the tests."""
    complaints: list[str] = []
    with browser() as chromium:
        context = chromium.new_context(
            viewport={"width": 1280, "height": 900}, color_scheme=request.param, offline=True
        )
        page = patient(context.new_page())
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith(("file:", "data:")) else complaints.append(asked.url)
            ),
        )
        page.goto(address)
        for name in NAMES:
            page.locator(f"#{name} .main-svg").first.wait_for()
        yield page
    assert complaints == []


def test_the_four_figures_are_drawn_in_the_readers_colours(page: Page) -> None:
    for name in NAMES:
        assert page.locator(f"#{name} .plot-container").count() == 1
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    ink = page.locator("#growth .xtick text").first.evaluate("e => getComputedStyle(e).fill")
    red, green, blue = (int(part) for part in ink.removeprefix("rgb(").rstrip(")").split(","))
    assert (min(red, green, blue) > 200) if dark else (max(red, green, blue) < 80)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 24, 29)" if dark else "rgb(251, 251, 249)")


@pytest.mark.parametrize(
    ("name", "said"),
    [("growth", "expected"), ("completeness", "no file expected|never probed|files"),
     ("matrix", "USDT"), ("lag", "half after")],
)  # fmt: skip
def test_a_tooltip_says_what_is_under_the_mouse(page: Page, name: str, said: str) -> None:
    figure = page.locator(f"#{name}")
    figure.scroll_into_view_if_needed()
    area = page.locator(f"#{name} .nsewdrag").first.bounding_box()
    assert area
    # Not in the middle: a gap between two years or rows may be there.
    x, y = area["x"] + area["width"] * 0.3, area["y"] + area["height"] * 0.62
    page.mouse.move(x - 5, y - 5)
    page.mouse.move(x, y, steps=4)
    hover = page.locator(f"#{name} .hoverlayer .hovertext, #{name} .hoverlayer .legend").first
    hover.wait_for()
    text = hover.text_content() or ""
    assert any(part in text for part in said.split("|")), text


def test_more_rows_are_named_after_zooming_in(page: Page) -> None:
    """Of 1,000 symbols at first only one in 24 has room for its name."""
    names = page.locator("#matrix .ytick text")
    before = names.count()
    assert before <= 42
    page.evaluate("Plotly.relayout('matrix', {'yaxis.range': [10.5, -0.5]})")
    page.wait_for_function("document.querySelectorAll('#matrix .ytick text').length === 11")
    assert names.first.text_content() == "CROWD0USDT"
