"""A real browser for tests, wherever this machine has one."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

from availability_pipeline_tests.support.helpers import PATIENCE
from availability_pipeline_tests.support.requirements import need

ARGUMENTS = [
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]


@contextmanager
def browser() -> Iterator[Browser]:
    """Skips the test where there is none."""
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=need("browser"), args=ARGUMENTS, timeout=PATIENCE * 1000
        )
        yield made
        made.close()


def patient(page: Page) -> Page:
    """The same page, which waits as long as a busy machine takes."""
    page.set_default_timeout(PATIENCE * 1000)
    return page
