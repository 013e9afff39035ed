"""The report of several datasets. A month that is called a date, or a file of another market's
symbol of the same name, would be believed."""

import datetime as dt
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from availability_pipeline.archive.datasets import Dataset, UnknownDatasetError
from availability_pipeline.cli.main import cli
from availability_pipeline.quality.days import DayState
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.report import data as recorded
from availability_pipeline.report import draw, html, overview, png
from availability_pipeline.report.data import Cell
from availability_pipeline_tests.support.helpers import D, flat
from availability_pipeline_tests.support.several import (
    END,
    FUNDING,
    SETTLED,
    SHARED,
    START,
    STOPPED,
    TRADES,
    by_month,
    write_dataset,
    write_three,
)

NOW = dt.datetime(2024, 3, 10, 12, tzinfo=dt.UTC)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "record.duckdb"


def loaded(path, dataset, now=NOW, **options):
    with reader(path) as con:
        return recorded.load(con, threshold=0.95, drawn_at=now, dataset=dataset, **options)


def states(data):
    return {d: DayState(s) for d, s in zip(data.days["date"], data.days["state"], strict=True)}


def spec(page, name):
    found = re.search(rf'<script type="application/json" data-for="{name}">(.*?)</script>', page)
    return json.loads(found[1])


def test_months_are_counted_as_months_from_the_first_possible_to_the_last_that_is_over(path):
    write_three(path)
    data = loaded(path, FUNDING)
    got = states(data)
    assert (min(got), max(got)) == (D(2019, 9, 1), D(2024, 2, 1))
    assert len(got) == 54
    assert got[D(2022, 10, 1)] == got[D(2024, 2, 1)] == DayState.UNKNOWN
    assert got[D(2023, 6, 1)] == DayState.SHORT  # 1 of 2
    assert got[D(2023, 7, 1)] == DayState.COMPLETE
    assert not data.days["late"].any()
    assert data.text(data.offset(D(2023, 6, 1))) == "2023-06"
    row = data.symbols["symbol"].tolist().index(SHARED)
    cells = [Cell(c) for c in data.cells[row, data.offset(D(2023, 5, 1)) :]]
    assert cells[:3] == [Cell.LIVE, Cell.ABSENT, Cell.LIVE]
    assert cells[-1] == Cell.UNKNOWN
    assert len(data.segments()) == 4, "SHARED before, in and after its hole, and AUSDT"


def test_a_file_counts_in_its_own_market_although_another_has_the_symbol(path):
    write_three(path)
    for dataset, files, holes in ((None, 59, 1), (FUNDING, 27, 1), (TRADES, 36, 2)):
        data = loaded(path, dataset)
        mine = data.symbols.set_index("symbol")
        assert int(mine["days_available"].sum()) == files
        assert int(mine.loc[SHARED, "hole_days"]) == holes
        assert (data.cells == Cell.ABSENT).sum() == holes
        assert (data.cells == Cell.LIVE).sum() == files


def test_nothing_on_a_page_of_months_is_called_a_date(path):
    write_three(path)
    data = loaded(path, FUNDING)
    page = html.page(data)
    head = re.sub(r"<script.*?</script>|<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "fundingRate, monthly files." in head
    assert "Completeness of each month" in head
    assert "symbol-month" in head
    assert not re.findall(r"\bdates?\b|\bdays?\b|2019-12-31|Mondays", head)
    texts = []
    for name in ("growth", "completeness", "matrix", "lag"):
        figure = spec(page, name)
        texts += [t.get("name") or "" for t in figure["data"]]
        texts += [t.get("hovertemplate") or "" for t in figure["data"]]
        for trace in figure["data"]:
            texts += np.ravel(trace.get("text") or []).tolist()
        if name != "completeness":
            assert figure["layout"]["xaxis"]["hoverformat"] == "%Y-%m"
    said = "\n".join(texts)
    assert not re.findall(r"\bdates? (?!pub)|\bdays?\b|%Y-%m-%d|\d{4}-\d\d-\d\d|usual", said), said
    assert "2023-06" in said
    assert "2023-07 to 2024-01 (7 months)" in said


def test_months_stand_where_they_are_on_the_axes_although_their_lengths_differ(path):
    write_three(path)
    data = loaded(path, FUNDING)
    june = data.offset(D(2023, 6, 1))
    assert str(data.minute(june)) == "2023-06-01T00:00"
    assert str(data.minute(june - 0.5)) == "2023-05-16T12:00"
    assert png.day_number(data, june) == (D(2023, 6, 1) - D(1970, 1, 1)).days
    assert png.day_numbers(data)[june] == png.day_number(data, june)
    page = html.page(data)
    growth = spec(page, "growth")["data"][0]
    assert growth["x"][:2] == ["2022-11-01", "2022-12-01"]
    [hole] = [t for t in spec(page, "matrix")["data"] if t["name"].startswith("absent")]
    assert hole["base"] == ["2023-05-16T12:00"]
    assert hole["x"] == [(15.5 + 15) * 86_400_000]


def test_the_calendar_of_months_has_each_once(path):
    write_three(path)
    found = recorded.calendar(loaded(path, FUNDING))
    assert list(found.years) == [2019, 2020, 2021, 2022, 2023, 2024]
    assert found.states.shape == (11, 12)
    assert (found.states >= 0).sum() == 54
    assert found.states[found.place(D(2023, 6, 1))] == DayState.SHORT
    assert found.middles == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("months", [1, 2, 3, 30])
def test_any_number_of_months_can_be_drawn(path, months):
    first = FUNDING.shift(D(2024, 1, 1), 1 - months)
    write_dataset(path, FUNDING, {"AUSDT": by_month(first, D(2024, 1, 1))}, first, D(2024, 1, 1))
    data = loaded(path, FUNDING)
    pictures = png.draw(data)
    assert set(pictures) == {"growth", "completeness", "matrix", "lag"}
    assert "fundingRate" in html.page(data)


def test_a_stopped_dataset_lacks_nothing_after_its_last_date(path):
    """Else it would be brown for ever, or red where somebody probed on."""
    files = {
        "AUSDT": flat(D(2024, 3, 20), D(2024, 3, 30)),
        "BUSDT": flat(D(2024, 3, 20), D(2024, 3, 30)),
    }
    write_dataset(path, STOPPED, files, D(2024, 3, 20), D(2024, 4, 20), SETTLED.replace(month=6))
    data = loaded(path, STOPPED, NOW.replace(year=2025))
    got = states(data)
    assert max(got) == D(2024, 3, 30)
    assert {s for d, s in got.items() if d >= D(2024, 3, 20)} == {DayState.COMPLETE}
    assert data.headline()["Symbols"] == "2"
    assert "Stopped: nothing comes after 2024-03-30." in html.page(data)


def test_what_comes_after_the_end_of_a_stopped_dataset_is_shown(path):
    last = D(2024, 4, 2)
    write_dataset(
        path, STOPPED, {"AUSDT": flat(D(2024, 3, 25), last)}, D(2024, 3, 25), D(2024, 4, 5)
    )
    assert max(states(loaded(path, STOPPED))) == last


def test_a_dataset_that_is_no_longer_configured_lacks_nothing_since(path):
    write_three(path)
    assert max(states(loaded(path, TRADES, configured=False))) == D(2024, 1, 20)
    assert max(states(loaded(path, TRADES))) == D(2024, 3, 9)


def test_in_spot_a_name_that_ends_in_settled_is_a_name_like_any_other(path):
    files = {
        "XSETTLED": flat(D(2024, 1, 1), D(2024, 1, 5)),
        "X": flat(D(2024, 1, 9), D(2024, 1, 20)),
    }
    write_dataset(path, TRADES, files)
    assert loaded(path, TRADES).renames == ()
    write_dataset(path, Dataset(), files)
    assert len(loaded(path, Dataset()).renames) == 1


def test_a_dataset_has_no_usual_lag_that_was_not_seen(path):
    write_three(path)
    named = [
        s.get("name") for s in spec(html.page(loaded(path, TRADES)), "lag")["layout"]["shapes"]
    ]
    assert named == [None] * len(named)
    shapes = spec(html.page(loaded(path, Dataset())), "lag")["layout"]["shapes"]
    assert "usual: 06:57 to 08:40 UTC" in [s.get("name") for s in shapes]


def test_a_month_is_late_after_15_days_and_not_after_one(path):
    files = by_month(D(2023, 1, 1), D(2023, 12, 1))
    files[D(2023, 5, 1)] = (100, dt.datetime(2023, 6, 12, tzinfo=dt.UTC))
    files[D(2023, 8, 1)] = (100, dt.datetime(2023, 9, 17, tzinfo=dt.UTC))
    write_dataset(path, FUNDING, {"AUSDT": files}, D(2023, 1, 1), D(2023, 12, 1))
    data = loaded(path, FUNDING)
    late = np.flatnonzero(data.days["late"])
    assert [data.text(n) for n in late] == ["2023-08"]


# All of them.


def drawn(path, folder, **options):
    def opened():
        return reader(path)

    options = {"threshold": 0.95, "drawn_at": NOW, **options}
    return draw.write_all(opened, folder, **options)


def names(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


PICTURES = {"growth.png", "completeness.png", "matrix.png", "lag.png"}


def test_one_dataset_is_drawn_as_one_page_with_everything_in_it(path, tmp_path):
    write_dataset(path, Dataset(), {"AUSDT": flat(START, END)})
    got = drawn(path, tmp_path / "report", small=True)
    assert names(tmp_path / "report") == {"availability.html", *PICTURES}
    assert (got.page.name, got.more, len(got.small)) == ("availability.html", (), 4)
    page = got.page.read_text("utf-8")
    assert len(page) > 4_800_000, "plotly.js is inside"
    assert "All datasets" not in page
    assert "<title>Availability of Binance USD-M futures files</title>" in page
    assert "1-minute klines, daily files. Drawn 2024-03-10 12:00 UTC." in page


def test_several_are_an_overview_that_leads_to_a_page_each_and_back(path, tmp_path):
    write_three(path)
    got = drawn(path, tmp_path / "report", small=True)
    pages = ["um-daily-klines-1m.html", "um-monthly-fundingRate.html", "spot-daily-trades.html"]
    assert [p.name for p in got.more] == pages
    assert names(tmp_path / "report") == {
        "availability.html", "plotly.min.js", *pages, *PICTURES
    }  # fmt: skip
    overview = got.page.read_text("utf-8")
    assert sorted(re.findall('<a href="([^"]*)"', overview)) == sorted(pages)
    for page in got.more:
        text = page.read_text("utf-8")
        assert re.findall('<a href="([^"]*)"', text) == ["availability.html"]
        assert re.findall('src="([^"]*)"', text) == ["plotly.min.js"]
        assert len(text) < 500_000
    assert set(got.small) == {"growth", "completeness", "matrix", "lag"}
    assert {p.name for p in got.pictures.values()} == PICTURES


def rows(page):
    """The overview's table: dataset -> its cells' texts."""
    found = {}
    for row in re.findall("<tr[^>]*>(.*?)</tr>", page, flags=re.DOTALL):
        cells = re.findall("<td[^>]*>(.*?)</td>", row, flags=re.DOTALL)
        texts = [re.sub("<svg.*?</svg>|<[^>]*>", "", cell, flags=re.DOTALL) for cell in cells]
        if texts:
            found[texts[0]] = texts[1:]
    return found


def test_the_overview_has_a_row_for_each_dataset_with_its_own_numbers(path, tmp_path):
    write_three(path)
    stopped = {"AUSDT": flat(D(2024, 3, 1), D(2024, 3, 30), 2_000_000)}
    write_dataset(path, STOPPED, stopped, D(2024, 3, 1), D(2024, 4, 20), SETTLED.replace(month=6))
    page = drawn(path, tmp_path, configured=[Dataset(), FUNDING, STOPPED]).page.read_text("utf-8")
    assert rows(page) == {
        "spot/daily/trades": [
            "live, no longer configured", "2", "36", "18.0 kB", "2024-01-01", "2024-01-20",
            "2024-01-20", "2", "94.74% of 20 dates",
        ],
        "um/daily/bookTicker": [
            "stopped 2024-03-30", "1", "30", "60.0 MB", "2024-03-01", "2024-03-30",
            "2024-04-20", "0", "100% of 30 dates",
        ],
        "um/daily/klines/1m": [
            "live", "3", "59", "5.9 kB", "2024-01-01", "2024-01-20", "2024-01-20", "1",
            "98.33% of 20 dates",
        ],
        "um/monthly/fundingRate": [
            "live", "2", "27", "8.1 kB", "2022-11", "2024-01", "2024-01", "1",
            "95.83% of 12 months",
        ],
    }  # fmt: skip
    assert list(rows(page)) == sorted(rows(page)), "as in the catalogue, whatever came first"
    assert "Binance spot" in page
    assert "<title>2023-06: below 95%</title>" in page
    numbers = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert numbers == {"Datasets": "4", "Files": "152", "Size": "60.0 MB", "Holes": "4"}


def test_only_what_is_configured_and_live_is_judged(path, tmp_path):
    """94.74% of spot's trades are there, and 95% are asked for."""
    write_three(path)
    for configured, count in (([Dataset(), TRADES], 1), ([Dataset(), FUNDING], 0)):
        page = drawn(path, tmp_path, configured=configured).page.read_text("utf-8")
        assert page.count('<td class="bad"><svg') == count


def test_settled_dates_alone_count_in_the_overview(path):
    """The pending ones of this morning are no lack of completeness."""
    write_dataset(path, TRADES, {"AUSDT": flat(START, END)}, at=SETTLED)
    late = {"AUSDT": flat(START, D(2024, 2, 27))}
    write_dataset(path, TRADES, late, D(2024, 1, 21), D(2024, 2, 28), SETTLED)
    with reader(path) as con:
        [line] = overview.load(con, threshold=0.95)
    assert (line.probed, line.recent[-1]) == (D(2024, 2, 28), (D(2024, 2, 26), DayState.COMPLETE))
    assert (len(line.recent), line.share) == (30, 1.0)


def test_what_is_configured_and_not_recorded_is_named(path, tmp_path):
    write_three(path)
    page = drawn(path, tmp_path, configured=[Dataset(), STOPPED]).page.read_text("utf-8")
    assert "Configured and not recorded yet: um/daily/bookTicker." in page


def test_the_pictures_are_those_of_the_first_configured_dataset_that_is_recorded(path, tmp_path):
    write_three(path)
    got = drawn(path, tmp_path, configured=[STOPPED, FUNDING, Dataset()])
    funding, klines = got.more[1], got.more[0]
    assert "the PNG files" in funding.read_text("utf-8")
    assert "the PNG files" not in klines.read_text("utf-8")
    with reader(path) as con:
        data = recorded.load(con, threshold=0.95, drawn_at=NOW, dataset=FUNDING)
    assert got.pictures["matrix"].read_bytes() == png.draw(data)["matrix"][0]


def test_patterns_choose_what_is_drawn_and_each_has_pictures(path, tmp_path):
    write_three(path)
    got = drawn(path, tmp_path, patterns="spot/*,um/daily/klines/1m")
    assert [p.name for p in got.more] == ["spot-daily-trades.html", "um-daily-klines-1m.html"]
    assert names(tmp_path) - {"record.duckdb", "record.duckdb.turn"} == {
        "availability.html", "plotly.min.js", "um-daily-klines-1m.html", "spot-daily-trades.html",
        *PICTURES, *{f"spot-daily-trades/{name}" for name in PICTURES},
    }  # fmt: skip
    page = got.page.read_text("utf-8")
    assert len(rows(page)) == 3, "the overview is of all"
    assert "um-monthly-fundingRate.html" not in page, "a page that was not drawn has no link"
    drawn(path, tmp_path, patterns="um/monthly/*")
    assert "um-monthly-fundingRate.html" in got.page.read_text("utf-8")
    assert "spot-daily-trades.html" in got.page.read_text("utf-8")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("cm/*", "matches no dataset of those that are recorded"),
     ("um/daily/klines/1h", "is not recorded; the nearest are um/daily/klines/1m"),
     ("../../etc", "is not recorded"), ("", None)],
)  # fmt: skip
def test_a_pattern_of_nothing_recorded_is_refused_before_anything_is_drawn(
    path, tmp_path, pattern, words
):
    write_three(path)
    if words is None:
        assert len(drawn(path, tmp_path / "r", patterns=pattern).more) == 3
        return
    with pytest.raises(UnknownDatasetError, match=re.escape(words)):
        drawn(path, tmp_path / "r", patterns=pattern)
    assert not (tmp_path / "r").exists()


class Counted:
    """A connection that counts its questions."""

    def __init__(self, con):
        self.con, self.asked = con, 0

    def execute(self, *args):
        self.asked += 1
        return self.con.execute(*args)


def test_the_overview_asks_four_questions_a_dataset(path):
    write_three(path)
    with reader(path) as con:
        counted = Counted(con)
        assert len(overview.load(counted, threshold=0.95)) == 3
    assert counted.asked == 1 + 3 * 4


MARKUP = "</script><section>{{numbers}}"


def test_hostile_names_are_escaped_and_reach_no_other_page(path, tmp_path):
    """The grammar admits letters of any script; a record from somebody else may hold anything."""
    write_three(path)
    names = ("A\u3164USDT", "אבUSDT", "龙虾USDT", "ENDUSDT")
    write_dataset(path, TRADES, {name: flat(START, END) for name in names})
    with writer(path) as con:
        for table in ("files", "symbols", "symbol_spans"):
            con.execute(f"UPDATE {table} SET symbol = $1 WHERE symbol = 'ENDUSDT'", [MARKUP])
    got = drawn(path, tmp_path)
    for page in (got.page, *got.more):
        text = page.read_text("utf-8")
        assert not [name for name in (*names[:2], MARKUP) if name in text], page.name
        for name in () if page == got.page else ("龙虾USDT", MARKUP):
            shown = name in spec(text, "matrix")["layout"]["meta"]
            assert shown == (page.name == "spot-daily-trades.html")
        assert text.count("</html>") == 1
        assert text.count("</section>") == (0 if page == got.page else 4)


def test_a_link_in_the_folder_is_not_followed_out_of_it(path, tmp_path):
    write_three(path)
    (tmp_path / "else").mkdir()
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "spot-daily-trades").symlink_to(tmp_path / "else")
    with pytest.raises(draw.ReportError, match="is a symbolic link"):
        drawn(path, tmp_path / "report", patterns="spot/*")
    assert list((tmp_path / "else").iterdir()) == []


def test_the_record_is_not_held_while_pages_are_drawn(path, tmp_path, monkeypatch):
    """A hundred datasets take minutes, and a writer waits one."""
    write_three(path)
    real, done = html.page, []

    def meanwhile(data, **options):
        write_dataset(path, TRADES, {"AUSDT": flat(START, END)}, at=SETTLED)
        done.append(data.dataset)
        return real(data, **options)

    monkeypatch.setattr(html, "page", meanwhile)
    drawn(path, tmp_path / "report")
    assert len(done) == 3


def test_the_command_draws_what_is_asked_for_and_refuses_the_rest(path, tmp_path, monkeypatch):
    write_three(path)
    monkeypatch.setenv("AVAILABILITY_DB", str(path))
    out = tmp_path / "report"

    def run(*words):
        return CliRunner().invoke(cli, ["report", "--out", str(out), *words])

    done = run("--dataset", "spot/*", "--dataset", "um/monthly/*")
    assert done.exit_code == 0, done.output
    printed = [Path(line).relative_to(out).as_posix() for line in done.stdout.splitlines()]
    assert printed[:3] == ["availability.html", "spot-daily-trades.html",
                           "um-monthly-fundingRate.html"]  # fmt: skip
    assert len(printed) == 3 + 8
    assert all((out / name).exists() for name in printed)
    refused = run("--dataset", "cm/*\x1b[2J")
    assert refused.exit_code == 2
    assert "matches no dataset" in refused.stderr
    assert "\x1b" not in refused.stderr
