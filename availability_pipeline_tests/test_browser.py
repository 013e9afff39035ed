"""What a person sees: the Dagster UI on the demo's data, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from availability_pipeline_tests.browser import browser, patient
from availability_pipeline_tests.demo_process import demo_with_ui

GROUPS = "%2C".join(
    f"global%40global%3A{name}" for name in ("archive", "record", "answers", "published")
)

pytestmark = pytest.mark.requires("browser")


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with demo_with_ui(tmp_path_factory.mktemp("browser")) as (address, _lines):
        yield address


@pytest.fixture
def page(ui: str) -> Iterator[Page]:
    with browser() as chromium:
        yield patient(chromium.new_page(viewport={"width": 1640, "height": 900}))


def test_the_asset_graph_shows_every_asset(ui: str, page: Page) -> None:
    page.goto(f"{ui}/asset-groups?expanded={GROUPS}")
    for name in (
        "vision_archive",
        "daily_availability",
        "symbol_listings",
        "daily_summary",
    ):
        page.get_by_text(name, exact=True).first.wait_for()
    assert not page.get_by_text("Join the Dagster community").is_visible()


def test_no_partition_is_missing(ui: str, page: Page) -> None:
    page.goto(f"{ui}/assets/daily_availability?view=partitions")
    page.get_by_text("Missing (0)").wait_for()
    page.get_by_text("Failed (0)").wait_for()


def test_the_numbers_of_each_partition_are_plotted(ui: str, page: Page) -> None:
    page.goto(f"{ui}/assets/daily_availability?view=overview")
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


def test_the_schedules_run_by_default(ui: str, page: Page) -> None:
    page.goto(f"{ui}/automation")
    page.get_by_text("daily_update_schedule").first.wait_for()
