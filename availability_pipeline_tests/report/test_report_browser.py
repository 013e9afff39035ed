"""The report's pages as a person opens them: local files, in a browser without any network."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

from availability_pipeline.record import write
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.report import data as report_load
from availability_pipeline.report import draw, html
from availability_pipeline_tests.support.browser import browser, patient
from availability_pipeline_tests.support.helpers import D, flat, make_listing
from availability_pipeline_tests.support.several import SHARED, write_three

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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as made:
        yield made


@contextmanager
def opened(
    chromium: Browser, address: str, colours: Literal["light", "dark"] = "light"
) -> Iterator[Page]:
    """A page; whatever it complains of or asks the network for fails the test."""
    complaints: list[str] = []
    context = chromium.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme=colours, offline=True
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
    yield page
    context.close()
    assert complaints == []


@pytest.fixture(scope="module", params=["light", "dark"])
def page(request: pytest.FixtureRequest, chromium: Browser, address: str) -> Iterator[Page]:
    with opened(chromium, address, request.param) as page:
        for name in NAMES:
            page.locator(f"#{name} .main-svg").first.wait_for()
        yield page


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


def test_the_overview_leads_to_each_dataset_s_page_and_back(
    chromium: Browser, tmp_path: Path
) -> None:
    """The pages share one script beside them, which a page of a file may load."""
    write_three(tmp_path / "record.duckdb")
    drawn = draw.write_all(
        lambda: reader(tmp_path / "record.duckdb"), tmp_path / "a report", threshold=0.95,
        drawn_at=dt.datetime(2024, 3, 1, tzinfo=dt.UTC),
    )  # fmt: skip
    with opened(chromium, drawn.page.as_uri()) as page:
        assert page.locator("tbody tr:has(td)").count() == 3
        strip = page.locator("tr", has_text="um/monthly/fundingRate").locator("rect")
        fills = strip.evaluate_all("squares => squares.map(s => getComputedStyle(s).fill)")
        assert len(fills) == 12
        assert len(set(fills)) == 2, "complete, and the month with a hole"
        for name, period in (("um/monthly/fundingRate", "2023-06"),
                             ("spot/daily/trades", "2024-01-07")):  # fmt: skip
            page.get_by_role("link", name=name).click()
            for figure in NAMES:
                page.locator(f"#{figure} .main-svg").first.wait_for()
            assert name in page.title()
            assert page.locator("#matrix .ytick text").first.text_content() in (SHARED, "CUSDT")
            texts = page.evaluate(
                "document.getElementById('completeness').data[0].text.flat().filter(t => t)"
            )
            [short] = [text for text in texts if f"<b>{period}</b>" in text]
            assert "missing" in short
            page.get_by_role("link", name="All datasets").click()
            page.locator("tbody tr:has(td)").first.wait_for()
