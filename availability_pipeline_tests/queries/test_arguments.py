"""Wrong arguments from Python are one line that names what may be given, never a silent answer."""

import datetime as dt
import inspect

import numpy as np
import pandas as pd
import pytest

from availability_pipeline import queries, validation
from availability_pipeline.dates import as_date
from availability_pipeline.orchestration import launch
from availability_pipeline.queries.answers import CHECKS
from availability_pipeline.queries.notebook import Record
from availability_pipeline.record import write
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support.helpers import D, flat, make_listing

DAY = D(2024, 1, 15)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("record") / "record.duckdb"
    files = {"BTCUSDT": flat(DAY, DAY), "ETHUSDC": flat(DAY, DAY), "ETHBTC": flat(DAY, DAY)}
    with writer(path) as con:
        write.write_probe(
            con, make_listing(DAY, DAY, files), run_id="r",
            probed_at=dt.datetime(2024, 3, 1, tzinfo=dt.UTC),
        )  # fmt: skip
    return path


@pytest.fixture
def record(path):
    return queries.open(path)


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 250
    return text


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda r: r.snapshot(DAY, status="avail"), "available, pending, absent, not 'avail'"),
        (lambda r: r.snapshot(DAY, status="unknown"), "available, pending, absent, not 'unknown'"),
        (lambda r: r.snapshot(DAY, status=None), "status must be one of available"),
        (lambda r: r.timeline("BTCUSDT", status="gone"), "absent, unknown, not 'gone'"),
        (lambda r: r.universe(DAY, DAY, unknown="refused"), "refuse, mark, not 'refused'"),
        (lambda r: r.universe(DAY, DAY, unknown=True), r"refuse, mark, not True \(bool\)"),
        (lambda r: r.timeline(["BTCUSDT"]), r"symbol must be text, as 'BTCUSDT'.*\(list\)"),
        (lambda r: r.holes(["BTCUSDT"]), "symbol must be text"),
        (lambda r: r.timeline(""), "symbol is empty"),
        (lambda r: r.listings(quote_asset=5), r"'USDT' or \['USDT', 'USDC'\], not 5 \(int\)"),
        (lambda r: r.listings(quote_asset=["USDT", None]), "quote_asset must be text or a list"),
        (lambda r: r.listings(quote_asset=[]), "quote_asset is empty"),
        (lambda r: r.holes(contract_type="swap"), "perpetual, delivery, settled, .*, not 'swap'"),
        (lambda r: r.holes(contract_type=["perpetual", "x"]), "perpetual, delivery, settled"),
        (lambda r: r.holes(contract_type={"a": 1}), r"contract_type must be text.*\(dict\)"),
        (lambda r: r.summary(10_000_000), "days must be 1 to 10,000, not 10000000"),
        (lambda r: r.summary(0), "days must be 1 to 10,000, not 0"),
        (lambda r: r.summary(2.5), r"days must be a whole number, not 2.5 \(float\)"),
        (lambda r: r.summary(True), "days must be a whole number"),
        (lambda r: r.snapshot(20240115), r"date must be a date, 'YYYY-MM-DD'.*\(int\)"),
        (lambda r: r.snapshot(None), "date must be a date.*not None"),
        (lambda r: r.snapshot("15.01.2024"), "'15.01.2024' is not a date; write it as YYYY-MM-DD"),
        (lambda r: r.revisions(since="yesterday"), "since 'yesterday' is not a date"),
        (lambda r: r.changes("2024-13-01"), "since '2024-13-01' is not a date"),
        (lambda r: r.missing_dates(DAY, "2024-01-01"), "swap them"),
        (lambda _: queries.open(5), r"db must be a path, not 5 \(int\)"),
        (lambda _: queries.open(""), "db is empty"),
        (lambda _: queries.snapshot("2024-01-15", DAY), "con must be a DuckDB connection.*open"),
        (lambda _: Record(wait_seconds=-1), "wait_seconds must be 0 to"),
        (
            lambda r: validation.CompletenessValidator(r.path).get_short_dates(threshold=95),
            "threshold must be 0 to 1, not 95",
        ),
        (
            lambda r: validation.CompletenessValidator(r.path).get_symbol_counts_summary(-1),
            "days must be 1 to",
        ),
        (
            lambda r: validation.CompletenessValidator(r.path).get_short_dates(DAY, "2024-01-01"),
            "swap them",
        ),
        (
            lambda r: validation.ContinuityValidator(r.path).check_continuity("today"),
            "start_date 'today' is not a date",
        ),
        (lambda _: validation.default_range(now=D(2024, 1, 1)), "with a time zone"),
    ],
)
def test_a_wrong_argument_is_one_line_with_the_choices(record, ask, says):
    with pytest.raises((ValueError, TypeError), match=says) as error:
        ask(record)
    one_line(error)


def public_functions():
    for name in queries.__all__:
        if inspect.isfunction(found := getattr(queries, name)):
            yield name, found
    for cls in (Record, validation.ContinuityValidator, validation.CompletenessValidator):
        for name, found in inspect.getmembers(cls, inspect.isfunction):
            if name == "__init__" or not name.startswith("_"):
                yield f"{cls.__name__}.{name}", found
    yield "default_range", validation.default_range


PUBLIC = dict(public_functions())


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_argument_is_checked(name, record):
    """A new parameter is either in the table or fails here: none can be forgotten."""
    parameters = [p for p in inspect.signature(PUBLIC[name]).parameters if p != "self"]
    assert set(parameters) <= set(CHECKS), "say in `arguments.CHECKS` what it may be"
    cls, _, method = name.rpartition(".")
    # A method that asks the function of the same name leaves the check to it.
    function = PUBLIC.get(method, PUBLIC[name]) if cls == "Record" else PUBLIC[name]
    if parameters and not (cls.endswith("Validator") and method == "__init__"):
        assert hasattr(function, "__wrapped__"), "decorate it with `checked`"


WRONG = object()


@pytest.mark.parametrize("name", [n for n in PUBLIC if "." not in n and n != "open"])
def test_no_public_function_lets_a_wrong_type_through(name, record):
    function = PUBLIC[name]
    good = {
        "date": DAY, "start": DAY, "end": DAY, "symbol": "BTCUSDT", "today": DAY,
        "text": "SELECT 1 AS one",
        "path": record.path.with_suffix(".csv"), "folder": record.path.parent / "rankings",
        "now": dt.datetime(2024, 3, 1, tzinfo=dt.UTC),
    }  # fmt: skip
    with record.connection() as con:
        parameters = inspect.signature(function).parameters
        for wrong in (p.name for p in parameters.values() if p.kind is not p.VAR_KEYWORD):
            required = {
                p.name: con if p.name == "con" else good[p.name]
                for p in inspect.signature(function).parameters.values()
                if p.default is p.empty and p.kind is not p.VAR_KEYWORD
            }
            with pytest.raises(TypeError, match=f"^{wrong} must be") as error:
                function(**{**required, wrong: WRONG})
            one_line(error)


@pytest.mark.parametrize(
    "value",
    [
        DAY,
        "2024-01-15",
        dt.datetime.fromisoformat("2024-01-15"),
        dt.datetime(2024, 1, 15, 23, 59, tzinfo=dt.UTC),
        dt.datetime(2024, 1, 16, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        pd.Timestamp("2024-01-15"),
        pd.Timestamp("2024-01-15 23:30", tz="UTC"),
        pd.Timestamp("2024-01-16 08:00", tz="Asia/Tokyo"),
        np.datetime64("2024-01-15"),
        np.datetime64("2024-01-15T00:00:00"),
        np.datetime64("2024-01-15", "ns"),
        pd.Series(pd.to_datetime(["2024-01-15"])).to_numpy()[0],
    ],
    ids=repr,
)
def test_what_people_have_at_hand_is_taken_as_a_utc_date(record, value):
    assert as_date(value) == DAY
    assert type(as_date(value)) is dt.date
    assert record.snapshot(value)["symbol"].tolist() == ["BTCUSDT", "ETHBTC", "ETHUSDC"]
    assert record.timeline("BTCUSDT", value, value)["status"].tolist() == ["available"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (dt.datetime.fromisoformat("2024-01-15 23:30"), "has a time but no time zone"),
        (pd.Timestamp("2024-01-15 00:00:01"), "has a time but no time zone"),
        (np.datetime64("2024-01-15T12:00"), "has a time but no time zone"),
        (pd.NaT, "NaT"),
        (np.datetime64("NaT"), "NaT"),
        (np.datetime64("2024-01"), "is not one day"),
        (np.datetime64("99999-01-01"), "is not a date"),
        (np.int64(5), "must be a date"),
    ],
    ids=repr,
)
def test_what_does_not_tell_its_utc_date_is_refused(record, value, says):
    with pytest.raises((ValueError, TypeError), match=says) as error:
        record.snapshot(value)
    one_line(error)


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (DAY, D(2024, 1, 14), "swap them"),
        ("2019-09-24", DAY, "before 2019-09-25, the first date of the record"),
        (DAY, "2999-01-01", "is not over; the last whole UTC date is"),
        (20240115, DAY, "start must be a date"),
        ("2024-01-15", "now", "end 'now' is not a date"),
    ],
)
def test_a_run_of_dates_that_cannot_be_probed_is_refused_before_it_begins(
    tmp_path, monkeypatch, start, end, says
):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with pytest.raises((ValueError, TypeError), match=says) as error:
        launch.run_range(start, end)
    one_line(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("several", [list, tuple, set, frozenset])
def test_several_quote_assets_and_contract_types_may_be_given(record, several):
    assert record.symbols_in_range(DAY, DAY, quote_asset=several(["usdt", "BTC"])) == [
        "BTCUSDT", "ETHBTC"
    ]  # fmt: skip
    assert len(record.listings(contract_type=several(["Perpetual"]))) == 3
    with pytest.raises(queries.QueryError, match="quote_asset 'EUR'; there are BTC, USDC, USDT"):
        record.universe(DAY, DAY, quote_asset=several(["EUR"]))
    with pytest.raises(queries.QueryError, match="contract_type 'delivery'; there are perpetual"):
        record.universe(DAY, DAY, contract_type=several(["delivery"]))
