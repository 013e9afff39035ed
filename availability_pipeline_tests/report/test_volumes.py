"""What was traded, in the report: each asset by itself, and no sum that is not known."""

import datetime as dt
import json
import re

import numpy as np
import pytest

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.record import write
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.report import data as recorded
from availability_pipeline.report import draw, html, png, style
from availability_pipeline_tests.support import volumes
from availability_pipeline_tests.support.helpers import D, days, flat, make_listing

START, END = D(2024, 1, 1), D(2024, 1, 20)
NOW = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
KLINES = Dataset.parse("um/daily/klines/1d")
QUOTES = {f"S{n:02}USDT": "USDT" for n in range(25)} | {"OLDBUSD": "BUSD", "XBTC": "BTC"}


@pytest.fixture
def path(tmp_path):
    """25 symbols in USDT; one in BTC; one in BUSD that ended."""
    path = tmp_path / "r.duckdb"
    files = {s: flat(START, D(2024, 1, 5) if s == "OLDBUSD" else END) for s in QUOTES}
    with writer(path) as con:
        listing = make_listing(START, END, files, dataset=KLINES)
        write.write_probe(con, listing, probed_at=NOW, run_id="run")
    return path


def trade(path, lacking=()):
    values = {
        (symbol, date): 1e9 / n
        for n, symbol in enumerate(QUOTES, 1)
        for date in days(START, D(2024, 1, 5) if symbol == "OLDBUSD" else END)
        if date != D(2024, 1, 10)
    }
    # The second was the first, seven days before.
    before = END - dt.timedelta(7)
    values["S01USDT", before] = 2e9
    volumes.write(path.with_name("volume.duckdb"), values, QUOTES, lacking=lacking)
    return values


def loaded(path, dataset=KLINES):
    with reader(path) as con:
        return recorded.load(
            con, threshold=0.95, drawn_at=NOW, dataset=dataset,
            volumes=path.with_name("volume.duckdb"),
        )  # fmt: skip


def spec(page, name):
    found = re.search(rf'<script type="application/json" data-for="{name}">(.*?)</script>', page)
    return found and json.loads(found[1])


def test_without_volumes_the_report_is_as_before(path):
    data = loaded(path)
    assert data.volume is None
    assert set(png.draw(data)) == {"growth", "completeness", "matrix", "lag"}
    assert spec(html.page(data), "volume") is None
    volumes.write(path.with_name("volume.duckdb"), {}, {})
    assert loaded(path).volume is None


def test_each_asset_has_its_own_sums_with_gaps_where_they_are_not_known(path):
    values = trade(path, lacking=[(D(2024, 1, 15), "USDT", 1)])
    data = loaded(path)
    found = data.volume
    assert list(found.traded) == ["USDT", "BTC", "BUSD"]
    for asset, sums in found.traded.items():
        for date in days(START, END):
            of = [v for (s, d), v in values.items() if d == date and QUOTES[s] == asset]
            got = sums[data.offset(date)]
            if not of or (asset, date) == ("USDT", D(2024, 1, 15)):
                assert np.isnan(got)
            else:
                assert got == pytest.approx(sum(of))
    assert np.isnan(found.traded["BUSD"][data.offset(END)])


def test_the_largest_are_those_of_the_last_date_in_an_asset_that_is_still_traded(path):
    values = trade(path)
    found = loaded(path).volume
    assert (found.last, found.asset, found.symbols, len(found.top)) == (END, "USDT", 25, 20)
    total = sum(v for (s, d), v in values.items() if d == END and QUOTES[s] == "USDT")
    assert found.top[0] == (1, "S00USDT", 1e9, pytest.approx(1e9 / total), -1)
    assert found.top[1] == (2, "S01USDT", 5e8, pytest.approx(5e8 / total), 1)
    labels = style.top_labels(found)
    assert (labels[0][-2:], labels[1][-2:], labels[2]) == (
        "▲1",
        "▼1",
        style.percent(1e9 / 3 / total),
    )


def test_shares_that_are_not_known_yet_are_left_out_and_the_page_says_why(path):
    trade(path, lacking=[(END, "USDT", 2)])
    data = loaded(path)
    assert style.top_labels(data.volume)[:3] == ["▲1", "▼1", ""]
    assert "shares are not known yet" in html.page(data)


def test_the_page_and_the_pictures_show_both(path, tmp_path):
    trade(path)
    got = draw.write_all(
        lambda: reader(path), tmp_path / "out", threshold=0.95, drawn_at=NOW, small=True,
        volumes=path.with_name("volume.duckdb"),
    )  # fmt: skip
    assert set(got.pictures) == {"growth", "completeness", "matrix", "lag", "volume", "top"}
    assert all(one.read_bytes().startswith(b"\x89PNG") for one in got.pictures.values())
    assert set(got.small) == set(got.pictures)
    page = got.page.read_text(encoding="utf-8")
    assert "<h2>Largest by volume on 2024-01-20, in USDT</h2>" in page
    assert "The first 20 of 25 symbols" in page
    lines = spec(page, "volume")["data"]
    assert [(one["name"], one["yaxis"]) for one in lines] == [
        ("USDT", "y"), ("BTC", "y2"), ("BUSD", "y3")
    ]  # fmt: skip
    bars = spec(page, "top")["data"][0]
    assert bars["customdata"][:2] == ["S00USDT", "S01USDT"]
    assert bars["text"][1].startswith("500M   ")


def test_of_several_datasets_the_page_of_the_source_shows_it_and_the_overview_leads_there(
    path, tmp_path
):
    trade(path)
    with writer(path) as con:
        write.write_probe(
            con, make_listing(START, END, {"S00USDT": flat(START, END)}), probed_at=NOW,
            run_id="run",
        )  # fmt: skip
    got = draw.write_all(
        lambda: reader(path), tmp_path / "out", threshold=0.95, drawn_at=NOW,
        configured=[Dataset(), KLINES], volumes=path.with_name("volume.duckdb"),
    )  # fmt: skip
    of = {page.name: page.read_text(encoding="utf-8") for page in got.more}
    assert {name for name, page in of.items() if spec(page, "top")} == {"um-daily-klines-1d.html"}
    assert '<a href="um-daily-klines-1d.html#volume">Binance USD-M futures</a>' in (
        got.page.read_text(encoding="utf-8")
    )
    assert 'id="volume"' in of["um-daily-klines-1d.html"]


@pytest.mark.parametrize(
    ("volume", "said"),
    [(0.0, "0"), (12.3456, "12.3"), (999.6, "1K"), (17_234_567_890.5, "17.2B"), (5e8, "500M")],
)
def test_a_volume_is_said_with_three_digits(volume, said):
    assert style.said_volume(volume) == said
