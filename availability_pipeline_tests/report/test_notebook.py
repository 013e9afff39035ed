"""A picture in a notebook's cell is the report's, of one dataset."""

import datetime as dt
import doctest
import inspect
import io

import pytest
from PIL import Image

from availability_pipeline import queries, report
from availability_pipeline.report import data, png
from availability_pipeline_tests.support import demo_record

NOW = dt.datetime.combine(demo_record.DATE, dt.time(13), dt.UTC)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    path = tmp_path_factory.mktemp("record") / "availability.duckdb"
    demo_record.write(path)
    demo_record.write_volume(path)
    return queries.open(path)


def test_it_is_the_picture_of_the_report(record):
    shown = report.show(record, "growth", now=NOW)
    with record.connection() as con:
        read = data.load(con, threshold=0.95, drawn_at=NOW)
    assert shown.png == png.draw(read)["growth"][0]
    assert shown._repr_png_() == shown.png
    with Image.open(io.BytesIO(shown.png)) as image:
        assert (image.format, image.width > 500) == ("PNG", True)


@pytest.mark.parametrize("picture", ["volume", "top"])
def test_volume_is_shown_of_the_klines_that_have_it(record, picture):
    shown = report.show(record, picture, dataset="um/daily/klines/1d", now=NOW)
    assert repr(shown) == f"Picture('{picture} of um/daily/klines/1d')"
    with pytest.raises(queries.QueryError, match="no volume was read of it"):
        report.show(record, picture, now=NOW)


def test_a_picture_is_saved(record, tmp_path):
    shown = report.show(record, dataset="um/monthly/fundingRate", now=NOW)
    shown.save(tmp_path / "it.png")
    assert (tmp_path / "it.png").read_bytes() == shown.png


def test_a_picture_that_is_not_known(record):
    with pytest.raises(ValueError, match="picture must be one of completeness, matrix, growth"):
        report.show(record, "pie")


def test_the_example_is_what_it_says(record):
    names = {"record": record, "show": report.show}
    [example] = doctest.DocTestFinder().find(inspect.unwrap(report.show), "show", globs=names)
    assert example.examples
    assert not doctest.DocTestRunner().run(example).failed
