"""A published record as people read it: in a browser, from a server, below some prefix."""

import datetime as dt
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route

from availability_pipeline.archive.datasets import UM_KLINES_1M
from availability_pipeline.copies import publish
from availability_pipeline.copies.destinations import destination
from availability_pipeline.quality.acknowledgements import acknowledge
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support import register
from availability_pipeline_tests.support.browser import browser, patient
from availability_pipeline_tests.support.helpers import PATIENCE, flat, wait_for
from availability_pipeline_tests.support.register import HOSTILE, LARGE, MONTHS, NOW, SPOT
from availability_pipeline_tests.support.servers import Server
from availability_pipeline_tests.support.several import (
    END,
    SETTLED,
    SHARED,
    START,
    TRADES,
    write_dataset,
    write_three,
)

PREFIX = "/some/prefix"
WIDTHS = (360, 768, 1280)
PAGES = ("index.html", f"{LARGE}/index.html#SOLUSDT", f"{MONTHS}/index.html", "about.html",
         "symbol.html?name=BTCUSDT", f"symbol.html?name={quote(HOSTILE[-1])}",
         f"{LARGE}/index.html#{quote(HOSTILE[-1])}")  # fmt: skip

WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

pytestmark = pytest.mark.requires("browser")


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@dataclass
class Served:
    """A site at its address."""

    folder: Path
    address: str

    def document(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name).read_bytes())
        return found


@dataclass
class Visit:
    """A page, what it complained of, and how many bytes it fetched."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    fetched: dict[str, int] = field(default_factory=dict)


@contextmanager
def served(top: Path) -> Iterator[Served]:
    """The site below a prefix of a server's address."""
    with Server(("127.0.0.1", 0), partial(Handler, directory=str(top))) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        folder = top / PREFIX.removeprefix("/")
        yield Served(folder, f"http://127.0.0.1:{server.server_port}{PREFIX}/")
        server.shutdown()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    top = tmp_path_factory.mktemp("server")
    register.write_site(top / PREFIX.removeprefix("/"))
    with served(top) as found:
        yield found


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """What is published of a record: three datasets with holes, files replaced and gone."""
    top = tmp_path_factory.mktemp("published")
    record = top / "record.duckdb"
    write_three(record)
    files = {SHARED: flat(START, END), "AUSDT": flat(START, END, 101)}
    write_dataset(record, UM_KLINES_1M, files, at=SETTLED + dt.timedelta(1))
    with writer(record) as con:
        acknowledge(con, [dt.date(2024, 1, 7)], reason="<b>never</b> made", at=NOW, dataset=TRADES)
        for table in ("symbols", "files", "symbol_spans"):
            con.execute(f"UPDATE {table} SET symbol = ? WHERE symbol = 'AUSDT'", [HOSTILE[0]])
    to = destination(str(top / PREFIX.removeprefix("/")))
    publish.publish(record, to, publish.Form(), now=NOW)
    with served(top) as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as made:
        yield made


def until(page: Page, expression: str) -> None:
    """Wait for what a page says; the browser's own way of it is an eval, which our pages forbid."""
    wait_for(lambda: page.evaluate(expression))


def ready(page: Page) -> Page:
    """The page once every part of it has been filled."""
    until(
        page,
        """() => !document.querySelector("main section > div:empty, #coverage:empty")
            && !/^Loading/.test(document.getElementById("fresh")?.textContent ?? "")""",
    )
    return page


@contextmanager
def visited(
    chromium: Browser,
    site: Served,
    path: str,
    *,
    width: int = 1280,
    colours: Literal["light", "dark"] = "light",
    after: dt.timedelta = dt.timedelta(hours=3),
    change: Callable[[Page], object] = lambda page: None,
    fails: bool = False,
) -> Iterator[Visit]:
    """A page of the site; whatever it complains of, asks of others or lets run fails the test.

    Args:
        chromium: a browser.
        site: what is visited.
        path: of the page.
        width: of the window.
        colours: which the reader prefers.
        after: how long after the publication.
        change: prepares the page, as by routes.
        fails: the page is meant to complain.
    """
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=colours)
    page = patient(context.new_page())
    visit = Visit(page)
    page.clock.set_fixed_time(NOW + after)
    page.on("console", lambda message: visit.complaints.append(message.text))
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (visit.complaints.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda asked: (
            None if asked.url.startswith(site.address) else visit.complaints.append(asked.url)
        ),
    )
    page.on(
        "response",
        lambda answer: visit.fetched.update(
            {urlsplit(answer.url).path: int(answer.headers.get("content-length", "0"))}
        ),
    )
    change(page)
    page.goto(site.address + path)
    ready(page)
    yield visit
    context.close()
    assert fails or visit.complaints == []


def text(page: Page, selector: str) -> str:
    return page.locator(selector).first.inner_text()


def rows(page: Page, part: str) -> list[str]:
    """The first column of the rows that are shown."""
    found: list[str] = page.locator(f"#{part} tbody tr:not([hidden]) > th").all_inner_texts()
    return found


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_the_window(
    chromium: Browser, site: Served, path: str, colours: Literal["light", "dark"]
) -> None:
    with visited(chromium, site, path, width=WIDTHS[-1], colours=colours) as visit:
        paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 24, 29)" if colours == "dark" else "rgb(251, 251, 249)")
        for width in WIDTHS:
            visit.page.set_viewport_size({"width": width, "height": 900})
            wide = visit.page.evaluate(WIDER)
            assert wide <= 0, f"{width} px"


def test_what_a_page_fetches_is_small(chromium: Browser, site: Served) -> None:
    for path, most in (("index.html", 160_000), (f"{LARGE}/index.html", 1_500_000)):
        with visited(chromium, site, path) as visit:
            assert sum(visit.fetched.values()) < most, visit.fetched
            assert all(visit.fetched.values()), "the server says every length"


def test_what_is_published_of_a_record_is_shown(chromium: Browser, published: Served) -> None:
    datasets = published.document("datasets.json")["datasets"]
    assert len(datasets) == 3
    paths = ["index.html", f"symbol.html?name={SHARED}", "about.html"]
    for path in (*paths, *(f"{one['dataset']}/#{SHARED}" for one in datasets)):
        with visited(chromium, published, path) as visit:
            assert visit.page.locator("[role=alert], .failed").count() == 0
            assert visit.page.evaluate(WIDER) <= 0
            if "/#" in path:
                detail = visit.page.locator("tr.detail")
                detail.locator("h3").first.wait_for()
                folder = path.partition("/#")[0]
                holes = published.document(f"{folder}/holes.json")["holes"]
                for hole in [hole for hole in holes if hole["symbol"] == SHARED]:
                    assert hole["first"] in detail.inner_text()
    with visited(chromium, published, f"{LARGE}/") as visit:
        assert "replaced" in text(visit.page, "#revisions table")
        assert "vanished" in text(visit.page, "#revisions table")
        assert visit.page.locator("#news li").count() > 0


# All datasets.


def test_news_are_fetched_when_one_comes_near(chromium: Browser, site: Served) -> None:
    with visited(chromium, site, "index.html") as visit:
        assert not [path for path in visit.fetched if "news" in path]
        visit.page.get_by_role("link", name="News", exact=True).click()
        visit.page.locator("#news li").first.wait_for()
        assert visit.page.locator("#news > ul > li").count() == 20


def test_the_first_page_has_every_dataset_sorted_as_one_likes(
    chromium: Browser, site: Served
) -> None:
    listed = site.document("datasets.json")["datasets"]
    with visited(chromium, site, "index.html") as visit:
        page = visit.page
        assert rows(page, "datasets") == [one["dataset"] for one in listed]
        for _, expected in ((1, True), (2, False)):
            page.locator("#datasets thead button", has_text="Holes").click()
            order = sorted((one["holes"] for one in listed), reverse=expected)
            cells = page.locator("#datasets tbody tr > td:nth-child(10)").all_inner_texts()
            assert [int(cell.replace(",", "")) for cell in cells] == order
            head = page.locator("#datasets th", has_text="Holes")
            assert head.get_attribute("aria-sort") == ("descending" if expected else "ascending")
        # What is unknown is last, whichever way.
        for _ in range(2):
            page.locator("#datasets thead button", has_text="Completeness").click()
            assert page.locator("#datasets tbody tr > td:last-child").last.inner_text() == "–"
        page.get_by_label("Filter").fill("monthly um")
        assert rows(page, "datasets") == [MONTHS]
        page.get_by_role("link", name=MONTHS).first.click()
        page.wait_for_url(f"**/{MONTHS}/index.html")
        ready(page)
        assert text(page, "h1") == MONTHS


def test_a_dataset_below_the_threshold_stands_out(chromium: Browser, site: Served) -> None:
    with visited(chromium, site, "index.html") as visit:
        assert visit.page.locator("#datasets td.bad").all_inner_texts() == ["84.12%"]


def test_a_symbol_is_found_with_the_keyboard_alone(chromium: Browser, site: Served) -> None:
    with visited(chromium, site, "index.html") as visit:
        page = visit.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        for _ in range(5):  # four links to the page's parts
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('role')") == "combobox"
        page.keyboard.type("olusd")
        page.locator("#found li").first.wait_for()
        assert page.locator("#found li").all_inner_texts() == ["SOLUSDT"]
        page.keyboard.press("ArrowDown")
        chosen = page.evaluate("document.activeElement.getAttribute('aria-activedescendant')")
        assert page.locator(f"#{chosen}").get_attribute("aria-selected") == "true"
        page.keyboard.press("Enter")
        page.wait_for_url("**/symbol.html?name=SOLUSDT")
        ready(page)
        assert text(page, "h1") == "SOLUSDT"


@pytest.mark.parametrize(
    "path", ["index.html", f"{LARGE}/index.html", "symbol.html?name=BTCUSDT", "about.html"]
)
def test_whatever_has_the_keyboard_is_seen(chromium: Browser, site: Served, path: str) -> None:
    with visited(chromium, site, path, width=768) as visit:
        seen = set()
        for _ in range(40):
            visit.page.keyboard.press("Tab")
            if visit.page.evaluate("document.activeElement === document.body"):
                break  # after the last comes the browser itself
            outline, inside, name = visit.page.evaluate(
                """() => {
                  const here = document.activeElement, box = here.getBoundingClientRect();
                  const style = getComputedStyle(here);
                  return [style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
                    box.width > 0 && box.bottom > 0 && box.top < innerHeight,
                    `${here.tagName} ${here.textContent.slice(0, 30)}`];
                }"""
            )
            assert outline, name
            assert inside, name
            seen.add(name)
        assert len(seen) > 10, "the keyboard goes on"


@pytest.mark.parametrize(
    ("after", "said", "old"),
    [(dt.timedelta(minutes=5), "less than an hour ago", False),
     (dt.timedelta(hours=20), "20 hours ago", False),
     (dt.timedelta(days=5), "5 days ago", True)],
)  # fmt: skip
def test_the_age_of_the_data_is_said(
    chromium: Browser, site: Served, after: dt.timedelta, said: str, old: bool
) -> None:
    for path in ("index.html", f"{LARGE}/index.html", "symbol.html"):
        with visited(chromium, site, path, after=after) as visit:
            line = text(visit.page, "#fresh")
            assert "2026-11-25 02:00 UTC" in line
            assert said in line
            assert ("This is old" in line) is old


# A dataset.


def test_an_address_with_a_symbol_shows_its_holes(chromium: Browser, site: Served) -> None:
    holes = [h for h in site.document(f"{LARGE}/holes.json")["holes"] if h["symbol"] == "SOLUSDT"]
    with visited(chromium, site, f"{LARGE}/#SOLUSDT") as visit:
        detail = visit.page.locator("tr.detail")
        detail.locator("h3").first.wait_for()
        for hole in holes:
            assert hole["first"] in detail.inner_text()
        assert holes
        link = visit.page.locator("tr.chosen th a")
        link.evaluate("e => new Promise(done => requestAnimationFrame(() => done()))")
        until(visit.page, "document.activeElement.textContent === 'SOLUSDT'")
        box = link.bounding_box()
        assert box
        assert 0 < box["y"] < 900
        assert link.get_attribute("aria-expanded") == "true"
        link.click()
        assert detail.count() == 0
        assert "#" not in visit.page.url


def test_a_link_to_another_symbol_moves_there(chromium: Browser, site: Served) -> None:
    with visited(chromium, site, f"{LARGE}/index.html#BTCUSDT") as visit:
        visit.page.locator("tr.detail h3").first.wait_for()
        visit.page.get_by_label("Search").fill("zzz")
        assert rows(visit.page, "symbols") == []
        visit.page.evaluate("location.hash = 'ETHUSDT'")
        until(visit.page, "document.activeElement.textContent === 'ETHUSDT'")
        assert visit.page.locator("tr.detail").count() == 1
        visit.page.evaluate("location.hash = 'NOSUCHUSDT'")
        visit.page.get_by_text("NOSUCHUSDT is not recorded in this dataset").wait_for()
        visit.page.get_by_role("link", name="Other datasets and similar names").click()
        visit.page.wait_for_url("**/symbol.html?name=NOSUCHUSDT")
        ready(visit.page)
        assert "is not recorded" in text(visit.page, "#coverage")


def test_symbols_are_searched_and_chosen(chromium: Browser, site: Served) -> None:
    symbols = site.document(f"{LARGE}/symbols.json")["symbols"]
    with visited(chromium, site, f"{LARGE}/index.html") as visit:
        page = visit.page
        assert rows(page, "symbols") == list(symbols)
        page.get_by_label("with holes only").check()
        holed = [name for name, one in symbols.items() if one["holes"]]
        assert rows(page, "symbols") == holed
        page.get_by_label("State").select_option("ended")
        page.get_by_label("Quote asset").select_option("USDC")
        page.get_by_label("Contract type").select_option("perpetual")
        wanted = [name for name in holed if symbols[name]["state"] == "ended"
                  and symbols[name]["quote_asset"] == "USDC"
                  and symbols[name]["contract_type"] == "perpetual"]  # fmt: skip
        assert rows(page, "symbols") == wanted
        said = page.locator("#symbols p[role=status]").inner_text()
        assert said == f"{len(wanted)} of {len(symbols):,} symbols"
        page.get_by_label("Search").fill("btcusdt")
        assert rows(page, "symbols") == []


def test_a_search_in_the_browser_finds_every_hole(chromium: Browser, site: Served) -> None:
    holes = site.document(f"{LARGE}/holes.json")["holes"]
    with visited(chromium, site, f"{LARGE}/index.html") as visit:
        for hole in (holes[0], holes[len(holes) // 2], holes[-1]):
            found = visit.page.evaluate(
                """([symbol, first]) => {
                  getSelection().removeAllRanges();
                  while (window.find(first, true)) {
                    const row = getSelection().anchorNode.parentElement.closest("#holes tr");
                    if (row && row.querySelector("th").textContent === symbol) return true;
                  }
                  return false;
                }""",
                [hole["symbol"], hole["first"]],
            )
            assert found, hole
        shown = visit.page.locator("#holes .wide").first.locator("tbody tr")
        assert shown.count() == len(holes)


def test_of_very_many_holes_it_is_said_how_many_are_left_out(
    chromium: Browser, site: Served
) -> None:
    holes = site.document(f"{LARGE}/holes.json")
    holes["holes"] = (holes["holes"] * 20)[:6_234]
    body = json.dumps(holes)

    def prepare(page: Page) -> None:
        page.route("**/holes-*.json", lambda route: route.fulfill(body=body))

    with visited(chromium, site, f"{LARGE}/index.html", change=prepare) as visit:
        assert "1,234 runs are left out" in text(visit.page, "#holes")
        link = visit.page.locator("#holes").get_by_role("link", name="holes.json")
        assert visit.page.request.get(link.evaluate("e => e.href")).json()["format"] == 1
        shown = visit.page.locator("#holes .wide").first.locator("tbody tr")
        assert shown.count() == 5_000


def test_the_calendar_keeps_unknown_absent_and_pending_apart(
    chromium: Browser, site: Served
) -> None:
    days = site.document(f"{LARGE}/days.json")
    with visited(chromium, site, f"{LARGE}/index.html") as visit:
        page = visit.page
        shown = page.locator("#calendar figure rect")
        assert shown.count() == len(days["states"])
        for letter in set(days["states"]):
            assert page.locator(f"#calendar figure .s-{letter}").count() == (
                days["states"].count(letter)
            )
        fills = {
            letter: page.locator(f"#calendar figure .s-{letter}").first.evaluate(
                "e => getComputedStyle(e).fill"
            )
            for letter in sorted(set(days["states"]))
        }
        assert len(set(fills.values())) == len(fills)
        n = days["states"].index("u")
        date = str(dt.date.fromisoformat(days["first"]) + dt.timedelta(n))
        title = page.locator("#calendar .s-u title").first.evaluate("e => e.textContent")
        assert title == f"{date}: unknown: never probed"
        key = text(page, "#calendar .key")
        for words in ("unknown: never probed", "too early to say", "short: below 96%"):
            assert words in key
        year = page.locator("#calendar figure svg").last
        assert "unknown" not in (year.get_attribute("aria-label") or "")
        year.focus()
        page.keyboard.press("End")
        assert text(page, "#calendar output").startswith("2026-11-24: pending")
        page.keyboard.press("ArrowUp")
        assert text(page, "#calendar output").startswith("2026-11-23: pending")


def test_growth_says_the_numbers_and_shades_what_is_unknown(
    chromium: Browser, site: Served
) -> None:
    with visited(chromium, site, f"{LARGE}/index.html") as visit:
        page = visit.page
        assert page.locator("#growth figure .band").count() == 2
        # A line stops where nothing is known.
        path = page.locator("#growth .available").last.get_attribute("d") or ""
        assert path.count("M") == 3
        box = page.locator("#growth figure svg").bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] - 9, box["y"] + 50)
        assert text(page, "#growth output").startswith("2026-11-2")
        page.locator("#growth figure svg").focus()
        page.keyboard.press("End")
        assert text(page, "#growth output").startswith("2026-11-24: pending, 723 of 726")
        page.keyboard.press("Home")
        assert text(page, "#growth output").startswith("2019-12-31: complete, 3 of 3")


def test_what_was_before_the_first_file_takes_no_room(chromium: Browser, site: Served) -> None:
    """A first probe goes back to where the archive begins, whenever the dataset did."""
    with visited(chromium, site, f"{SPOT}/index.html") as visit:
        page = visit.page
        page.locator("#growth figure svg").focus()
        page.keyboard.press("Home")
        assert text(page, "#growth output").startswith("2017-08-17: complete, 3 of 3")
        page.keyboard.press("ArrowLeft")
        assert text(page, "#growth output").startswith("2017-08-17")
        assert "idle: probed, no file expected" in text(page, "#calendar .key")
        years = page.locator("#calendar figcaption b").all_inner_texts()
        assert years == [str(year) for year in range(2017, 2027)]


def test_a_single_year_is_as_large_as_one_of_many(chromium: Browser, site: Served) -> None:
    sizes = []
    for name in (LARGE, "um/daily/klines/3m"):
        with visited(chromium, site, f"{name}/index.html") as visit:
            box = visit.page.locator("#calendar figure").first.bounding_box()
            assert box
            sizes.append(box["width"])
    assert sizes[0] == sizes[1]


def test_monthly_files_are_shown_in_months(chromium: Browser, site: Served) -> None:
    days = site.document(f"{MONTHS}/days.json")
    with visited(chromium, site, f"{MONTHS}/index.html") as visit:
        page = visit.page
        assert page.locator("#calendar figure rect").count() == len(days["states"])
        names = page.locator("#calendar figure").first.locator("text")
        assert names.all_text_contents()[::11] == ["Jan", "Dec"]
        lefts = [
            [one.evaluate("e => e.getAttribute('x')") for one in parts.all()]
            for parts in (names, page.locator("#calendar figure").first.locator("rect"))
        ]
        assert lefts[0] == lefts[1]
        first = page.locator("#calendar title").first.evaluate("e => e.textContent")
        assert first.startswith("2020-01: ")
        assert "First month" in text(page, "#holes thead")
        assert "symbol-months" in text(page, "#numbers")


def test_late_replaced_and_acknowledged_files_are_listed(chromium: Browser, site: Served) -> None:
    with visited(chromium, site, f"{LARGE}/index.html") as visit:
        page = visit.page
        assert "an outage <b>then</b>" in text(page, "#holes")
        assert "every symbol" in text(page, "#holes")
        assert "appeared late" in text(page, "#revisions")
        page.locator("#revisions summary").click()
        page.get_by_role("region", name="Each file").wait_for()
        each = page.locator("#revisions details tbody tr")
        assert each.count() == len(site.document(f"{LARGE}/revisions.json")["revisions"])
        assert "17 older changes" in text(page, "#revisions")


def test_every_link_of_the_pages_leads_to_a_file(chromium: Browser, site: Served) -> None:
    for path in ("index.html", f"{LARGE}/index.html", f"{MONTHS}/", "symbol.html?name=SOLUSDT",
                 "about.html"):  # fmt: skip
        with visited(chromium, site, path) as visit:
            links = visit.page.eval_on_selector_all("a", "all => all.map(a => a.href)")
        assert len(links) > 5
        for link in {link.partition("#")[0].partition("?")[0] for link in links}:
            assert link.startswith(site.address), link
            there = site.folder / unquote(link.removeprefix(site.address))
            assert there.exists(), link


# A symbol.


def test_a_symbol_has_its_datasets_and_its_holes_on_demand(chromium: Browser, site: Served) -> None:
    with visited(chromium, site, "symbol.html?name=BTCUSDT") as visit:
        page = visit.page
        assert set(rows(page, "coverage")) >= {LARGE, MONTHS, SPOT}
        assert not [path for path in visit.fetched if "holes" in path]
        page.locator("summary", has_text=LARGE).click()
        page.locator("details[open] li").first.wait_for()
        holes = site.document(f"{LARGE}/holes.json")["holes"]
        mine = [hole["first"] for hole in holes if hole["symbol"] == "BTCUSDT"]
        shown = page.locator("details[open] li").all_inner_texts()
        assert [line[:10] for line in shown] == mine
        page.get_by_role("link", name=LARGE, exact=True).click()
        page.wait_for_url(f"**/{LARGE}/index.html#BTCUSDT")
        until(page, "document.activeElement.textContent === 'BTCUSDT'")


def test_a_name_that_is_not_recorded_has_the_nearest_ones(chromium: Browser, site: Served) -> None:
    with visited(chromium, site, "symbol.html?name=BTCUSDD") as visit:
        assert "BTCUSDD is not recorded" in text(visit.page, "#coverage")
        assert visit.page.locator("#coverage li").all_inner_texts()[0] == "BTCUSDT"
        visit.page.get_by_role("link", name="BTCUSDT", exact=True).click()
        visit.page.wait_for_url("**/symbol.html?name=BTCUSDT")
        ready(visit.page)
        assert text(visit.page, "h1") == "BTCUSDT"


def test_a_name_in_small_letters_is_the_same(chromium: Browser, site: Served) -> None:
    with visited(chromium, site, "symbol.html?name=solusdt") as visit:
        assert text(visit.page, "h1") == "SOLUSDT"
        assert LARGE in rows(visit.page, "coverage")


# What is hostile.


INERT = """() => [document.querySelectorAll("script").length,
    document.querySelectorAll("img, iframe, object, embed, base, form").length,
    document.querySelectorAll("main b b, main script").length,
    [...document.querySelectorAll("*")].filter(e => [...e.attributes].some(a =>
      a.name.startsWith("on") || a.name === "style")).length,
    [...document.querySelectorAll("a")].filter(a => new URL(a.href).origin !== location.origin
      ).length]"""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(chromium: Browser, site: Served, name: str) -> None:
    as_query, as_hash = quote(name, safe=""), quote(name, safe="")
    with visited(chromium, site, f"symbol.html?name={as_query}") as visit:
        page = visit.page
        assert page.locator("h1").evaluate("e => e.textContent") == name
        assert LARGE in rows(page, "coverage")
        assert page.evaluate(INERT) == [1, 0, 0, 0, 0]
        assert page.title() == f"{name} - Symbols - {register.TITLE}"
    with visited(chromium, site, f"{LARGE}/index.html#{as_hash}") as visit:
        page = visit.page
        page.locator("tr.detail h3").first.wait_for()
        assert page.locator("tr.chosen th").evaluate("e => e.textContent") == name
        assert page.evaluate(INERT) == [1, 0, 0, 0, 0]
        assert page.title() == f"{LARGE} - {register.TITLE}"
        page.locator("tr.detail a").click()
        page.wait_for_url("**/symbol.html?name=*")
        ready(page)
        assert page.locator("h1").evaluate("e => e.textContent") == name


@pytest.mark.parametrize(
    "path",
    [
        "symbol.html?name=%E0%A4%A",
        "symbol.html?name=%00%0a%0d",
        "symbol.html?name=" + "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
        "symbol.html?name=" + "A" * 5_000,
        "symbol.html?name=javascript:alert(1)&name=b#<script>alert(1)</script>",
        f"{LARGE}/index.html#%E0%A4%A",
        f"{LARGE}/index.html#<img src=x onerror=alert(1)>",
        f"{LARGE}/index.html?dataset=../../x#" + "B" * 5_000,
        "index.html?x=<script>alert(1)</script>#main",
    ],
)
def test_a_hostile_address_does_nothing(chromium: Browser, site: Served, path: str) -> None:
    with visited(chromium, site, path, width=360) as visit:
        until(visit.page, "document.querySelectorAll('tbody tr, #coverage p').length")
        assert visit.page.evaluate(INERT) == [1, 0, 0, 0, 0]
        assert visit.page.evaluate(WIDER) <= 0


def test_markup_cannot_be_made_at_all(chromium: Browser, site: Served) -> None:
    """A slip in the script would be an error and not a hole."""
    with visited(chromium, site, "index.html", fails=True) as visit:
        made = visit.page.evaluate(
            "() => { try { document.body.innerHTML = '<b>x</b>'; return 'made' }"
            " catch (error) { return error.name } }"
        )
        assert made == "TypeError"


@pytest.mark.parametrize(
    "path", ["https://example.org/x.json", "//example.org/x.json", "../../x.json", "/x.json", ""]
)
def test_a_document_leads_nowhere_else(chromium: Browser, site: Served, path: str) -> None:
    """Whoever could put a path into a document still has no request of another site made."""

    def prepare(page: Page) -> None:
        latest = site.document("latest.json")
        latest["documents"]["datasets"] = path
        page.route("**/latest.json", lambda route: route.fulfill(body=json.dumps(latest)))

    with visited(chromium, site, "index.html", change=prepare, fails=True) as visit:
        failed = text(visit.page, "#datasets .failed")
        assert "cannot be in this site" in failed or "could not be fetched" in failed
        assert not [one for one in visit.complaints if "example.org" in one.partition(" ")[0]]


# What is missing.


def aborted(route: Route) -> None:
    route.abort()


@pytest.mark.parametrize("path", ["index.html", f"{LARGE}/index.html", "symbol.html?name=X"])
def test_without_a_publication_one_line_says_what_to_do(
    chromium: Browser, site: Served, path: str
) -> None:
    for answer, said in (
        (aborted, "could not be fetched. Check the connection, then reload"),
        (lambda route: route.fulfill(status=404), "the server answered 404"),
        (lambda route: route.fulfill(body='{"format":1,'), "is not whole"),
        (lambda route: route.fulfill(body='{"format":2}'), "this page reads format 1"),
    ):

        def prepare(page: Page, answer: Any = answer) -> None:
            page.route("**/latest.json", answer)

        context = chromium.new_context()
        page = patient(context.new_page())
        prepare(page)
        page.goto(site.address + path)
        page.locator("[role=alert]").wait_for()
        assert said in text(page, "[role=alert]")
        assert page.locator("[role=alert]").count() == 1
        assert page.locator("#fresh").count() == 0
        context.close()


def test_a_part_that_fails_leaves_the_others(chromium: Browser, site: Served) -> None:
    def prepare(page: Page) -> None:
        page.route("**/holes-*.json", lambda route: route.fulfill(status=404))
        page.route("**/days-*.json", lambda route: route.fulfill(body='{"format":1}'))

    with visited(chromium, site, f"{LARGE}/index.html", change=prepare, fails=True) as visit:
        page = visit.page
        assert "reload the page" in text(page, "#holes [role=alert]")
        assert text(page, "#growth [role=alert]") == "No date is recorded yet."
        assert len(rows(page, "symbols")) == 1_000
        page.locator("#symbols tbody a").first.click()
        page.locator("tr.detail [role=alert]").wait_for()


def test_a_record_without_a_probe_says_so(chromium: Browser, site: Served) -> None:
    def prepare(page: Page) -> None:
        latest = site.document("latest.json") | {"last_probe": None}
        page.route("**/latest.json", lambda route: route.fulfill(body=json.dumps(latest)))
        page.route("**/datasets-*.json",
                   lambda route: route.fulfill(body='{"format":1,"datasets":[]}'))  # fmt: skip

    with visited(chromium, site, "index.html", change=prepare) as visit:
        assert "Nothing has been probed yet" in text(visit.page, "#fresh")


def test_without_a_script_the_data_are_linked(chromium: Browser, site: Served) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = patient(context.new_page())
    for path, link in (("index.html", LARGE), (f"{LARGE}/", "holes.json"),
                       ("symbol.html", "symbols.json")):  # fmt: skip
        page.goto(site.address + path)
        address = page.locator("noscript a", has_text=link).first
        assert address.is_visible()
        assert page.request.get(str(address.evaluate("e => e.href"))).ok
    context.close()


def test_a_page_prints_without_what_is_of_use_on_a_screen_only(
    chromium: Browser, site: Served
) -> None:
    with visited(chromium, site, f"{LARGE}/index.html") as visit:
        assert visit.page.pdf(format="A4").startswith(b"%PDF")
        visit.page.emulate_media(media="print")
        visit.page.set_viewport_size({"width": 720, "height": 900})
        assert not visit.page.locator("header").is_visible()
        assert not visit.page.locator(".controls").first.is_visible()
        assert visit.page.locator("#holes tbody tr").first.is_visible()


def test_the_example_of_following_answers_from_the_copy(
    chromium: Browser, published: Served, tmp_path: Path
) -> None:
    with visited(chromium, published, "about.html") as visit:
        example = text(visit.page, "pre[data-example=follow]")
    program = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euc", example], cwd=tmp_path, capture_output=True, text=True, check=False,
        timeout=PATIENCE, env=os.environ | {"PATH": f"{program}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in (LARGE, MONTHS, SPOT):
        assert name in done.stdout


def test_the_examples_name_the_site_they_are_read_on(chromium: Browser, site: Served) -> None:
    with visited(chromium, site, "about.html") as visit:
        first = text(visit.page, "pre")
        assert f"register={site.address.rstrip('/')}\n" in first
