"""The examples in the docstrings are what a notebook prints, of the demo's record."""

import doctest
import inspect

import pandas as pd
import pytest

from availability_pipeline import queries
from availability_pipeline.queries.notebook import Record
from availability_pipeline_tests.support import demo_record

METHODS = {
    name: method
    for name, method in inspect.getmembers(Record, inspect.isfunction)
    if not name.startswith("_") and name not in ("close", "connection", "volume_connection")
}
EXAMPLES = {**METHODS, "open": queries.open}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("record") / "availability.duckdb"
    demo_record.write(path)
    demo_record.write_volume(path)
    return path


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_method_has_an_example_that_prints_what_it_says(path, name):
    record = queries.open(path)
    [example] = doctest.DocTestFinder(recurse=False).find(
        inspect.unwrap(EXAMPLES[name]), name, globs={"record": record, "queries": queries}
    )
    assert example.examples, "write one"
    said: list[str] = []
    with pd.option_context("display.width", 100):
        failed = doctest.DocTestRunner().run(example, out=said.append).failed
    assert not failed, "".join(said)
