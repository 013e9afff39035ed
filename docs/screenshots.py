"""Make the README's pictures again: run the demo, open its UI in chromium, keep what it shows.

    .venv/bin/python docs/screenshots.py

Needs Debian's chromium (apt-get install chromium). Look at the pictures before committing them.
"""

import io
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
PORT = 3210
ADDRESS = f"http://127.0.0.1:{PORT}"
CHROMIUM = "/usr/bin/chromium"
# Root has no sandbox; the others keep chromium from asking the network for itself.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking"]  # fmt: skip


def asset_graph(page: Page) -> None:
    """All assets, with their groups open."""
    page.set_viewport_size({"width": 1640, "height": 460})
    groups = "%2C".join(f"global%40global%3A{name}" for name in ("archive", "record"))
    page.goto(f"{ADDRESS}/asset-groups?expanded={groups}")
    page.get_by_text("Hide navigation").click()
    page.reload()  # fits the graph to the room
    page.get_by_text("daily_summary").first.wait_for()
    page.wait_for_timeout(4000)


def partition_plot(page: Page) -> None:
    """The numbers of daily_availability, a point a partition."""
    page.set_viewport_size({"width": 1360, "height": 1000})
    page.goto(f"{ADDRESS}/assets/daily_availability?view=overview")
    page.get_by_text("Plots", exact=True).click()
    page.locator("canvas").nth(3).wait_for()
    page.mouse.move(5, 5)
    page.wait_for_timeout(4000)


def partitions(page: Page) -> None:
    """The partitions, none missing."""
    page.set_viewport_size({"width": 1360, "height": 620})
    page.goto(f"{ADDRESS}/assets/daily_availability?view=partitions")
    page.get_by_text("Partitions Selected").wait_for()
    page.wait_for_timeout(4000)


def save(page: Page, name: str) -> None:
    """Without alpha and packed hard: about half the bytes of chromium's own PNG."""
    path = IMAGES / f"{name}.png"
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(path, optimize=True)
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
                for shot in (asset_graph, partition_plot, partitions):
                    shot(page)
                    save(page, shot.__name__.replace("_", "-"))
                browser.close()
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(60)


if __name__ == "__main__":
    main()
