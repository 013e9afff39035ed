"""Make the pictures again: run the demo, open UI and report in chromium, keep what they show.

    .venv/bin/python docs/screenshots.py

Needs Debian's chromium and a Chinese font: apt-get install chromium fonts-wqy-zenhei.
Look at the pictures before committing them.
"""

import io
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
PORT = 3210
ADDRESS = f"http://127.0.0.1:{PORT}"
CHROMIUM = "/usr/bin/chromium"
GROUPS = ("archive", "um", "spot", "record", "answers")
# Root has no sandbox; the others keep chromium from asking the network for itself.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking"]  # fmt: skip


def asset_graph(page: Page) -> None:
    """All assets, with their groups open, large enough for each to show its kinds."""
    # What does not fit is not drawn at all: with volume it is 1,750 pixels high.
    page.set_viewport_size({"width": 2000, "height": 1900})
    groups = "%2C".join(f"global%40global%3A{name}" for name in GROUPS)
    page.goto(f"{ADDRESS}/asset-groups?expanded={groups}")
    page.get_by_text("Hide navigation").click()
    page.reload()  # fits the graph to the room
    page.get_by_text("daily_summary").first.wait_for()
    page.mouse.click(340, 64)  # hides the list of groups
    page.wait_for_timeout(2000)
    # Dagster fits the graph without the groups' titles: pull it down by those.
    page.mouse.move(150, 1750)
    page.mouse.down()
    page.mouse.move(190, 1780, steps=5)
    page.mouse.up()
    page.mouse.move(5, 5)
    page.wait_for_timeout(4000)
    while page.get_by_text("Loading").count():
        page.wait_for_timeout(1000)


def partition_plot(page: Page) -> None:
    """The numbers of um/klines/daily_availability, a point a partition."""
    page.set_viewport_size({"width": 1360, "height": 1000})
    page.goto(f"{ADDRESS}/assets/um/klines/daily_availability?view=overview")
    page.get_by_text("Plots", exact=True).click()
    page.locator("canvas").nth(3).wait_for()
    page.get_by_text("Metadata", exact=True).first.evaluate("e => e.scrollIntoView()")
    page.mouse.move(5, 5)
    page.wait_for_timeout(4000)


def partitions(page: Page) -> None:
    """The partitions, none missing."""
    page.set_viewport_size({"width": 1360, "height": 620})
    page.goto(f"{ADDRESS}/assets/um/klines/daily_availability?view=partitions")
    page.get_by_text("Partitions Selected").wait_for()
    page.wait_for_timeout(4000)


def report_in_the_ui(page: Page) -> None:
    """The report's pictures, as the asset's metadata shows them."""
    page.set_viewport_size({"width": 1200, "height": 1500})
    page.goto(f"{ADDRESS}/assets/availability_report?view=overview")
    page.get_by_text("[Show Markdown]").click()
    page.locator("img[src^='data:image/png']").nth(3).wait_for()
    page.wait_for_timeout(2000)


def report(browser: Browser, address: str) -> None:
    """The report's pages, without any network."""
    page = browser.new_page(viewport={"width": 1360, "height": 2040}, offline=True)
    page.goto(address)
    dataset = page.get_by_role("link", name="um/daily/klines/1m")
    if dataset.count():  # of several datasets it is the overview
        page.set_viewport_size({"width": 1360, "height": 520})
        save(page, "report-overview")
        page.set_viewport_size({"width": 1360, "height": 2040})
        dataset.click()
    page.locator("#lag .main-svg").first.wait_for()
    page.wait_for_timeout(1500)
    save(page, "report")
    page.close()


def checks(page: Page) -> None:
    """The standing checks: most pass, three warn, and one of them says why."""
    page.set_viewport_size({"width": 1360, "height": 800})
    page.goto(f"{ADDRESS}/assets/record?view=checks&checkDetail=completeness_slo")
    page.get_by_text("Execute all").click()
    # The run takes its time to start, and freshness is among the last.
    page.get_by_text("Not Evaluated").first.wait_for()
    unsettled = ("Not Evaluated", "Running", "In Progress")
    while any(page.get_by_text(state).count() for state in unsettled):
        page.wait_for_timeout(2000)
    page.mouse.move(5, 5)
    page.wait_for_timeout(6000)


def save(page: Page, name: str) -> None:
    """With 256 colours: 40 % of the bytes of the same with 24 bits."""
    path = IMAGES / f"{name}.png"
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    sys.stdout.write(f"{path} {path.stat().st_size // 1024} kB\n")


def main() -> None:
    """Run the demo, shoot, end it."""
    IMAGES.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "availability_pipeline.cli", "demo", "--port", str(PORT)]
    with tempfile.TemporaryDirectory() as folder:
        demo = subprocess.Popen(  # noqa: S603 - our own command
            command, cwd=folder, stdout=subprocess.PIPE, text=True
        )
        try:
            if not any("Ctrl-C ends everything" in line for line in demo.stdout or ()):
                raise SystemExit("the demo did not come up")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
                page = browser.new_page()
                page.set_default_timeout(300_000)  # the machine may be busy
                shots = (asset_graph, partition_plot, partitions, report_in_the_ui, checks)
                for shot in shots:
                    shot(page)
                    save(page, shot.__name__.replace("_", "-"))
                drawn = Path(folder) / "demo-home" / "report" / "availability.html"
                report(browser, drawn.resolve().as_uri())
                browser.close()
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(60)


if __name__ == "__main__":
    main()
