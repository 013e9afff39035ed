"""The report of several datasets. A month that is called a date, or a file of another market's
symbol of the same name, would be believed."""

import datetime as dt
import json
import re

import numpy as np
import pytest

from availability_pipeline.archive.datasets import Dataset
from availability_pipeline.record.connection import reader
from availability_pipeline.report import data as recorded
from availability_pipeline.report import html, png
from availability_pipeline.report.data import Cell, DayState
from availability_pipeline_tests.support.helpers import D, flat
from availability_pipeline_tests.support.several import (
    FUNDING,
    SETTLED,
    SHARED,
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
