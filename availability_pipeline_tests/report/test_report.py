"""The report. What it calls a date or a cell is what people believe: absent, pending and unknown
must stay three answers, and a picture must come out of any record, however small or odd."""

import base64
import datetime as dt
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from matplotlib import font_manager
from PIL import Image

from availability_pipeline import queries, settings
from availability_pipeline.definitions import defs
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.resources import AvailabilityDuckDB
from availability_pipeline.orchestration.schedules import daily_update_schedule, report_sensor
from availability_pipeline.quality.days import DayState
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.report import data as report_data
from availability_pipeline.report import data as report_load
from availability_pipeline.report import draw as report
from availability_pipeline.report import html
from availability_pipeline.report import png as report_axes
from availability_pipeline.report import png as report_png
from availability_pipeline.report.data import Cell, Rename
from availability_pipeline_tests.support.helpers import (
    PATIENCE,
    D,
    days,
    flat,
    make_listing,
    published,
)
from availability_pipeline_tests.support.world import KLINES

START, END = D(2024, 1, 1), D(2024, 1, 20)
NOW = dt.datetime(2024, 1, 21, 12, tzinfo=dt.UTC)
SETTLED = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "record.duckdb"


def write(path, files, *, start=START, end=END, at=SETTLED):
    with writer(path) as con:
        store.write_probe(
            con, make_listing(start, end, files), probed_at=at, run_id="run", accept_shrunken=True
        )


def loaded(path, now=NOW, threshold=0.95):
    with reader(path) as con:
        return report_load.load(con, threshold=threshold, drawn_at=now)


def crowd(start=START, end=END, n=9):
    return {f"CROWD{i}USDT": flat(start, end) for i in range(n)}


def without(files, *dates):
    return {d: f for d, f in files.items() if d not in dates}


def states(data):
    return {d: DayState(s) for d, s in zip(data.days["date"], data.days["state"], strict=True)}


def line(data, symbol):
    """One symbol's cells from START on, a letter each: `.` outside, L(ive), U(nknown) and so on."""
    row = data.symbols["symbol"].tolist().index(symbol)
    letters = {cell: cell.name[0] for cell in Cell} | {Cell.OUTSIDE: "."}
    return "".join(letters[Cell(c)] for c in data.cells[row, data.offset(START) :])


def test_unknown_pending_absent_and_nothing_expected_are_four_answers(path):
    files = crowd()
    files["AUSDT"] = without(flat(START, END), D(2024, 1, 5))
    write(path, files, end=D(2024, 1, 10))
    write(path, {s: {} for s in files}, start=D(2019, 12, 1), end=D(2019, 12, 5))
    late = {s: without(f, D(2024, 1, 19)) for s, f in files.items()}
    write(path, late, start=D(2024, 1, 19), at=dt.datetime(2024, 1, 21, 9, tzinfo=dt.UTC))
    got = states(loaded(path))
    assert got[D(2024, 1, 4)] == DayState.COMPLETE
    assert got[D(2024, 1, 5)] == DayState.SHORT  # 9 of 10, confirmed
    assert got[D(2024, 1, 11)] == DayState.UNKNOWN
    assert got[D(2024, 1, 19)] == DayState.PENDING  # 0 of 10, too early to say
    assert got[D(2024, 1, 20)] == DayState.COMPLETE
    assert got[D(2019, 12, 3)] == DayState.IDLE
    assert got[D(2019, 12, 6)] == DayState.UNKNOWN
    assert min(got) == D(2019, 9, 25)


@pytest.mark.parametrize(
    ("missing", "state"),
    [(0, DayState.COMPLETE), (1, DayState.MET), (3, DayState.SHORT), (8, DayState.SHORT),
     (11, DayState.POOR)],
)  # fmt: skip
def test_a_settled_date_is_called_after_its_share(path, missing, state):
    files = crowd(n=20)
    for n in range(missing):
        files[f"CROWD{n}USDT"] = without(files[f"CROWD{n}USDT"], D(2024, 1, 8))
    write(path, files)
    assert states(loaded(path))[D(2024, 1, 8)] == state


def test_a_settled_date_is_short_although_symbols_that_ended_are_pending_on_it(path):
    """They were left out of the probe that confirmed it."""
    files = crowd() | {"OLDUSDT": flat(START, D(2024, 1, 5))}
    write(path, files, at=NOW)
    assert states(loaded(path))[END] == DayState.COMPLETE
    files["CROWD0USDT"] = without(files["CROWD0USDT"], END)
    listing = make_listing(START, END, files, leave_out={"OLDUSDT"})
    with writer(path) as con:
        store.write_probe(con, listing, probed_at=SETTLED, run_id="run")
        assert queries.counts(con, END) == {"available": 8, "pending": 1, "absent": 1}
    assert states(loaded(path))[END] == DayState.SHORT


def test_dates_nobody_looked_at_reach_up_to_yesterday(path):
    """A pipeline that has stopped must not look as if it were up to date."""
    write(path, crowd())
    data = loaded(path, now=dt.datetime(2024, 2, 1, tzinfo=dt.UTC))
    assert data.date(len(data.days) - 1) == D(2024, 1, 31)
    assert [(data.date(a), data.date(b)) for a, b in data.bands()] == [
        (D(2019, 9, 25), D(2023, 12, 31)), (D(2024, 1, 21), D(2024, 1, 31))
    ]  # fmt: skip
    assert data.headline()["Dates unknown"] == f"{1559 + 11:,}"


def test_cells_tell_holes_ends_settled_contracts_and_what_is_outside(path):
    files = crowd()
    files["HOLEUSDT"] = without(flat(D(2024, 1, 3), END), D(2024, 1, 5), D(2024, 1, 6))
    files["ENDUSDT"] = flat(START, D(2024, 1, 9))
    files["OLDUSDTSETTLED"] = flat(D(2024, 1, 2), D(2024, 1, 6))
    files["OLDUSDT"] = flat(D(2024, 1, 12), D(2024, 1, 18))
    files["NEVERUSDT"] = {}
    write(path, files)
    data = loaded(path)
    assert line(data, "HOLEUSDT") == "..LLAALLLLLLLLLLLLLL"
    assert line(data, "ENDUSDT") == "EEEEEEEEE..........."
    assert line(data, "OLDUSDTSETTLED") == ".SSSSS.............."
    assert line(data, "OLDUSDT") == "...........LLLLLLLAA"  # two days are no end yet
    assert "NEVERUSDT" not in data.symbols["symbol"].tolist()
    assert data.symbols["first_available"].is_monotonic_increasing


def test_pending_and_unknown_cells_are_neither_holes_nor_files(path):
    write(path, crowd(), end=D(2024, 1, 10))
    files = {s: flat(START, D(2024, 1, 18)) for s in crowd()}
    write(path, files, start=D(2024, 1, 13), at=dt.datetime(2024, 1, 21, 9, tzinfo=dt.UTC))
    assert line(loaded(path), "CROWD0USDT") == "LLLLLLLLLLUULLLLLLPP"


def test_a_date_nobody_looked_at_splits_no_segment(path):
    """Else a record with a gap a week would make 300 bars a symbol, 300,000 in the page."""
    write(path, crowd(), end=D(2024, 1, 10))
    files = crowd()
    files["CROWD8USDT"] = flat(START, D(2024, 1, 10))  # ended before the gap
    write(path, files, start=D(2024, 1, 13))
    data = loaded(path, now=SETTLED)
    assert len(data.segments()) == 9
    assert data.segments()[8] == (8, data.offset(START), data.offset(D(2024, 1, 10)), Cell.ENDED)
    assert data.segments()[0] == (0, data.offset(START), data.offset(END), Cell.LIVE)
    assert (data.offset(D(2024, 1, 11)), data.offset(D(2024, 1, 12))) in data.bands()


def test_a_relisting_is_found_and_a_chain_of_them_too(path):
    files = crowd()
    files["AUSDTSETTLEDSETTLED"] = flat(START, D(2024, 1, 4))
    files["AUSDTSETTLED"] = flat(D(2024, 1, 7), D(2024, 1, 10))
    files["AUSDT"] = flat(D(2024, 1, 14), END)
    files["B_SETTLED"] = flat(START, D(2024, 1, 4))  # never listed again
    files["CUSDT_SETTLED"] = flat(START, D(2024, 1, 9))
    files["CUSDT"] = flat(D(2024, 1, 3), END)  # began before the other ended: no relisting
    write(path, files)
    data = loaded(path)
    row = {s: n for n, s in enumerate(data.symbols["symbol"])}
    day = data.offset
    assert set(data.renames) == {
        Rename(row["AUSDTSETTLEDSETTLED"], day(D(2024, 1, 4)), row["AUSDTSETTLED"],
               day(D(2024, 1, 7))),
        Rename(row["AUSDTSETTLED"], day(D(2024, 1, 10)), row["AUSDT"], day(D(2024, 1, 14))),
    }  # fmt: skip


def test_late_dates_are_marked_and_single_stragglers_are_not(path):
    files = crowd()
    for n in range(9):
        files[f"CROWD{n}USDT"][D(2024, 1, 7)] = (100, published(D(2024, 1, 20)))
    files["CROWD0USDT"][D(2024, 1, 9)] = (100, published(D(2024, 2, 20)))
    write(path, files)
    data = loaded(path)
    assert [d for d, late in zip(data.days["date"], data.days["late"], strict=True) if late] == [
        D(2024, 1, 7)
    ]


def test_the_axis_of_the_lag_shows_a_straggler_of_17_months_and_the_usual_hours(path):
    files = crowd()
    for n in range(9):
        files[f"CROWD{n}USDT"][D(2024, 1, 7)] = (100, published(D(2025, 6, 7)))
    write(path, files)
    low, high = report_data.lag_range(loaded(path))
    assert 0 < low <= 3
    assert high > 17 * 30 * 24


@pytest.mark.parametrize("year", range(2019, 2031))
def test_the_calendar_has_each_date_once_and_mondays_on_top(year):
    dates = days(D(year, 1, 1), D(year, 12, 31))
    places = [report_data.calendar_place(d) for d in dates]
    assert len(set(places)) == len(dates)
    assert {row for row, _ in places} == set(range(7))
    assert max(column for _, column in places) < 54
    assert places[0][1] == 0


def test_a_hundred_percent_is_said_only_when_nothing_is_missing():
    assert report_data.percent(1.0) == "100%"
    assert report_data.percent(0.999999) == "99.99%"
    assert report_data.percent(0.5) == "50.00%"


def test_the_highest_cell_wins_where_several_share_a_pixel():
    """A hole of one day among 2,600 must not vanish in the picture."""
    cells = np.full((2000, 3000), Cell.LIVE, np.uint8)
    cells[1234, 2345] = Cell.ABSENT
    small = report_png._shrink(cells, 900, 1300)
    assert small.shape == (900, 1300)
    assert (small == Cell.ABSENT).sum() == 1


# Drawing: any record.


def only_pending(path):
    write(path, {"AUSDT": {}, "BUSDT": {}}, start=END, at=published(END, 2))


def one_date(path):
    write(path, {"AUSDT": flat(END, END)}, start=END)


def everything(path):
    files = crowd()
    files["龙虾USDT"] = without(flat(START, END), D(2024, 1, 5))
    files["OLDUSDTSETTLED"] = flat(START, D(2024, 1, 6))
    files["OLDUSDT"] = flat(D(2024, 1, 12), END)
    files["CROWD0USDT"][D(2024, 1, 9)] = (100, published(D(2025, 6, 7)))
    write(path, files, end=D(2024, 1, 10))
    late = {s: flat(START, D(2024, 1, 18)) for s in files}
    write(path, late, start=D(2024, 1, 13), at=dt.datetime(2024, 1, 21, 9, tzinfo=dt.UTC))


def many(path):
    write(path, crowd(n=60) | {"AUSDT": without(flat(START, END), D(2024, 1, 5))})


@pytest.mark.parametrize("fill", [only_pending, one_date, everything, many])
def test_any_record_can_be_drawn(path, tmp_path, fill):
    fill(path)
    got = report.write(loaded(path), tmp_path / "deep" / "report", small=True)
    assert set(got.pictures) == {"growth", "completeness", "matrix", "lag"}
    for name, file in got.pictures.items():
        with Image.open(file) as picture:
            assert picture.format == "PNG"
            assert picture.width == 1600
            # More than a card with a title: something is drawn on it.
            assert len(picture.convert("RGB").getcolors(10_000)) > 5, name
        assert len(got.small[name]) < 150_000
    assert 4_800_000 < got.page.stat().st_size < 5_300_000
    assert [p.name for p in (tmp_path / "deep" / "report").iterdir() if p.name[0] == "."] == []


def test_an_empty_record_is_refused_in_one_line(path):
    with writer(path):
        pass
    with reader(path) as con, pytest.raises(report_load.EmptyRecordError) as caught:
        report_load.load(con, threshold=0.95, drawn_at=NOW)
    assert "\n" not in str(caught.value)


def test_the_first_look_ever_is_pending_when_it_came_too_early(path):
    """No file is known then, but that is no reason to say that none is expected."""
    only_pending(path)
    assert states(loaded(path))[END] == DayState.PENDING


def test_a_naive_clock_is_refused(path):
    one_date(path)
    with pytest.raises(ValueError, match="no time zone"):
        loaded(path, now=dt.datetime(2024, 1, 21))  # noqa: DTZ001


def test_the_drawing_keeps_the_palette_so_that_small_marks_keep_their_colour(path):
    everything(path)
    [png] = report_png.draw(loaded(path))["matrix"]
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.mode == "P"
        colours = {rgb for _, rgb in picture.convert("RGB").getcolors(10_000)}
    for cell in (Cell.LIVE, Cell.SETTLED, Cell.PENDING, Cell.ABSENT, Cell.UNKNOWN):
        want = np.array([int(report_png.CELL_COLOURS[cell][n : n + 2], 16) for n in (1, 3, 5)])
        assert min(np.abs(np.array(rgb) - want).max() for rgb in colours) <= 8, cell


@given(st.text(min_size=1, max_size=12))
@hypothesis_settings(max_examples=60)
def test_any_symbol_is_printed_with_glyphs_that_are_there(text):
    """A glyph that is missing is a warning of matplotlib's, and a box in the picture."""
    glyphs = report_axes._glyphs(report_axes.BASE_FONT)
    assert all(ord(char) in glyphs for char in report_axes.printable(text))


@pytest.fixture
def chinese_font(tmp_path, monkeypatch):
    """A font of two Chinese letters, each a full square, as a machine may have it installed."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 900), (1000, 900), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", "dragon", "shrimp"]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord("龙"): "dragon", ord("虾"): "shrimp"})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Test CJK", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900, sTypoDescender=-100, usWeightClass=500)
    builder.setupPost()
    file = tmp_path / "TestCJK-Regular.ttf"
    builder.save(file)
    # Of the machine's fonts only matplotlib's own, and this one.
    fonts = font_manager.fontManager
    own = [entry for entry in fonts.ttflist if entry.fname.startswith(mpl.get_data_path())]
    monkeypatch.setattr(fonts, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(file)])
    report_axes._font_with.cache_clear()
    yield "Test CJK"
    report_axes._font_with.cache_clear()


def test_a_chinese_name_is_drawn_where_a_font_has_it(path, chinese_font, caplog):
    """A font installed after matplotlib made its list of fonts counts, too."""
    families = report_axes.font_families(["BTCUSDT", "龙虾USDT"])
    assert families == ["DejaVu Sans", chinese_font]
    assert report_axes.printable("1000龙虾USDT", families) == "1000龙虾USDT"
    assert report_axes.printable("龙币USDT", families) == "龙‹5E01›USDT"
    assert report_axes.font_families(["BTCUSDT"]) == ["DejaVu Sans"]
    everything(path)
    report_png.draw(loaded(path))  # a missing glyph would be a warning, and that an error
    assert "findfont" not in caplog.text, "it has one weight, 500, and that is nobody's business"


def test_without_such_a_font_there_are_code_points_and_no_boxes(chinese_font, monkeypatch):
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    assert report_axes.font_families(["龙虾USDT"]) == ["DejaVu Sans"]


def test_the_page_says_how_much_is_pending_as_the_status_does(path):
    """A delisted symbol is pending on a young date, too, that has all the files expected on it."""
    files = crowd() | {"ENDUSDT": flat(START, D(2024, 1, 9))}
    write(path, files, end=D(2024, 1, 18))
    write(path, files, start=D(2024, 1, 19), at=dt.datetime(2024, 1, 21, 9, tzinfo=dt.UTC))
    numbers = loaded(path).headline()
    with reader(path) as con:
        assert queries.coverage(con, D(2024, 1, 21))["pending"] == 2
    assert numbers["Pending"] == "2 symbol-days"
    assert numbers["Dates pending"] == "0 lack an expected file"


def test_no_tooltip_doubles_its_percent_sign(path):
    everything(path)
    page = html.page(loaded(path))
    for name in ("growth", "completeness", "matrix", "lag"):
        tips = [trace.get("hovertemplate") or "" for trace in spec(page, name)["data"]]
        assert not [tip for tip in tips if "%%" in tip]
    assert any("95% after %{y" in t.get("hovertemplate", "") for t in spec(page, "lag")["data"])


def test_a_chinese_name_becomes_its_code_points_in_png_and_stays_itself_in_the_page(path):
    assert report_axes.printable("1000龙虾USDT") == "1000‹9F99 867E›USDT"
    assert report_axes.printable("BTCUSDT") == "BTCUSDT"
    everything(path)
    assert "龙虾USDT" in spec(html.page(loaded(path)), "matrix")["layout"]["meta"]


def spec(page, name):
    found = re.search(rf'<script type="application/json" data-for="{name}">(.*?)</script>', page)
    return json.loads(found[1])


def test_the_matrix_is_bars_and_not_points(path):
    many(path)
    figure = spec(html.page(loaded(path)), "matrix")
    bars = [t for t in figure["data"] if t["type"] == "bar"]
    assert sum(len(t["base"]) for t in bars if t["name"] == "live") == 62  # one is cut by its hole
    assert [t["base"] for t in bars if t["name"].startswith("absent")] == [["2024-01-04T12:00"]]


def test_a_record_in_shreds_keeps_the_page_small(path, monkeypatch):
    for module in (html, html):
        monkeypatch.setattr(module, "MOST_SEGMENTS", 30)
    many(path)
    page = html.page(loaded(path))
    assert "Only the 30 longest stretches" in page
    bars = [t for t in spec(page, "matrix")["data"] if t["type"] == "bar"]
    assert sum(len(t["text"]) for t in bars) <= 30 + len(loaded(path).bands())


def test_nothing_is_half_written_when_the_disk_is_full(path, tmp_path, monkeypatch):
    one_date(path)
    folder = tmp_path / "report"
    report.write(loaded(path), folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(report.ReportError, match=r"No space left on device\); choose another"):
        report.write(loaded(path, now=SETTLED), folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


# The command.


def run(tmp_path, *arguments, **env):
    return subprocess.run(
        [sys.executable, "-m", "availability_pipeline.cli", "report", *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C",
             "MPLCONFIGDIR": mpl.get_cachedir(),  # else each makes a list of all fonts
             "AVAILABILITY_DB": str(tmp_path / "record.duckdb"), **env},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


def test_the_command_draws_beside_the_database_and_prints_the_paths(path, tmp_path):
    everything(path)
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    names = ["availability.html", "growth.png", "completeness.png", "matrix.png", "lag.png"]
    assert done.stdout.split() == [str(tmp_path / "report" / name) for name in names]
    assert all(Path(printed).exists() for printed in done.stdout.split())


def test_the_option_says_where_before_the_setting_does(path, tmp_path):
    one_date(path)
    run(tmp_path, "--out", tmp_path / "given", AVAILABILITY_REPORT_DIR=str(tmp_path / "unused"))
    assert (tmp_path / "given" / "availability.html").exists()
    assert not (tmp_path / "unused").exists()


def test_open_opens_the_page_and_a_machine_without_a_browser_gets_the_path(path, tmp_path):
    one_date(path)
    browser = tmp_path / "browser"
    browser.write_text('#!/bin/sh\necho "$1" > "$HOME/opened"\n')
    browser.chmod(0o755)
    done = run(tmp_path, "--open", BROWSER=str(browser))
    assert done.returncode == 0
    assert (tmp_path / "opened").read_text().strip() == (
        tmp_path / "report" / "availability.html"
    ).as_uri()
    done = run(tmp_path, "--open", PATH=str(tmp_path / "nothing"))
    assert done.returncode == 0
    assert "no browser was found" in done.stderr
    assert "availability.html" in done.stdout


def test_what_cannot_be_drawn_or_written_is_one_line_with_the_remedy(path, tmp_path):
    missing = run(tmp_path)
    with writer(path):
        pass
    empty = run(tmp_path)
    one_date(path)
    (tmp_path / "file").write_text("")
    unwritable = run(tmp_path, "--out", tmp_path / "file" / "report")
    for done, remedy in ((missing, "backfill"), (empty, "backfill"), (unwritable, "--out")):
        assert done.returncode == 1
        assert done.stderr.startswith("Error: ")
        assert remedy in done.stderr
        assert done.stderr.count("\n") == 1


# The asset.


class FakeClock:
    def now(self):
        return NOW


@pytest.fixture
def draw(path, tmp_path, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_REPORT_DIR", str(tmp_path / "report"))
    resources = {"clock": FakeClock(), "duckdb": AvailabilityDuckDB(database=str(path))}
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_defs(resources=resources).resolve_job_def("draw_report")
        yield lambda: job.execute_in_process(instance=instance, raise_on_error=False)


def test_the_asset_writes_the_report_and_shows_the_pictures(path, tmp_path, draw):
    everything(path)
    result = draw()
    assert result.success
    [event] = result.get_asset_materialization_events()
    found = event.materialization.metadata
    assert found["page"].value == str(tmp_path / "report" / "availability.html")
    assert found["page_bytes"].value == Path(found["page"].value).stat().st_size
    images = re.findall(r"!\[[^]]+\]\(data:image/png;base64,([^)]+)\)", found["pictures"].value)
    assert len(images) == 4
    for image in images:
        with Image.open(io.BytesIO(base64.b64decode(image))) as picture:
            assert picture.width == 880
    # It stays in the event log for ever.
    assert len(found["pictures"].value) < 150_000


def test_a_report_that_cannot_be_drawn_fails_its_own_run_in_one_line(path, draw):
    with writer(path):
        pass
    result = draw()
    assert not result.success
    [failed] = [e for e in result.all_events if e.is_step_failure]
    assert "no date was probed yet" in failed.step_failure_data.user_failure_data.description


@pytest.mark.parametrize("job", ["late_arrivals", "full_reconcile"])
def test_no_probe_draws_so_that_no_picture_can_fail_one(job):
    layer = defs.resolve_job_def(job).asset_layer
    assert dg.AssetKey("availability_report") not in layer.selected_asset_keys


def test_no_update_draws_either():
    with dg.build_schedule_context(
        scheduled_execution_time=NOW.replace(hour=2), repository_def=defs.get_repository_def()
    ) as context:
        [asked] = daily_update_schedule.evaluate_tick(context).run_requests
    assert KLINES.key in asked.asset_selection
    assert dg.AssetKey("availability_report") not in asked.asset_selection


def test_the_report_is_drawn_once_a_day_after_both_tables_were_written():
    assert report_sensor.default_status == dg.DefaultSensorStatus.RUNNING
    drawn, now = dg.AssetKey("availability_report"), dt.datetime.now(dt.UTC)
    tick = now.replace(hour=9, minute=0, second=0, microsecond=0)
    tick -= dt.timedelta(days=int(tick > now))
    # Shortly before nine the five of them must all be before the next tick.
    minute = min(dt.timedelta(minutes=1), (tick + dt.timedelta(1) - now) / 5)
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = None

        def asked(time):
            nonlocal cursor
            result = dg.evaluate_automation_conditions(
                defs,
                instance,
                asset_selection=dg.AssetSelection.assets(drawn),
                evaluation_time=time,
                cursor=cursor,
            )
            cursor = result.cursor
            return result.get_num_requested(drawn)

        assert asked(tick - minute) == 0
        assert asked(tick) == 0  # the tables are older than the tick
        instance.report_runless_asset_event(dg.AssetMaterialization("symbol_spans"))
        assert asked(now + minute) == 0
        instance.report_runless_asset_event(dg.AssetMaterialization("daily_summary"))
        assert asked(now + 2 * minute) == 1
        assert asked(now + 3 * minute) == 0
        instance.report_runless_asset_event(dg.AssetMaterialization("daily_summary"))
        assert asked(now + 4 * minute) == 0  # the next update of the day


def test_the_report_dir_is_a_setting_beside_the_database(monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DB", "/data/record.duckdb")
    monkeypatch.delenv("AVAILABILITY_REPORT_DIR", raising=False)
    assert settings.load().report_path == Path("/data/report")
    monkeypatch.setenv("AVAILABILITY_REPORT_DIR", "~/pictures")
    assert settings.load().report_path == Path.home() / "pictures"
