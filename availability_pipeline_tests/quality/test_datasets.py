"""The standing checks on a record of several datasets: daily, monthly, stopped, never recorded."""

import datetime as dt

import pytest

from availability_pipeline import settings
from availability_pipeline.archive.datasets import CATALOGUE, Dataset
from availability_pipeline.quality import acknowledgements, checks, rules
from availability_pipeline.queries import QueryError
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline_tests.support.helpers import D, make_listing

KLINES = Dataset.parse("um/daily/klines/1m")
SPOT = Dataset.parse("spot/daily/klines/1d")
MONTHS = Dataset.parse("um/monthly/klines/3d")
RATES = Dataset.parse("um/monthly/fundingRate")
TICKS = Dataset.parse("um/daily/bookTicker")
OPTIONS = Dataset.parse("option/daily/EOHSummary")
NEW = Dataset.parse("cm/daily/metrics")
ODD = Dataset.parse("um/daily/klines/7m")
GONE = Dataset.parse("um/daily/liquidationSnapshot")

NOW = dt.datetime(2024, 6, 20, 9, 30, tzinfo=dt.UTC)
YESTERDAY = D(2024, 6, 19)
SYMBOLS = [f"S{n:02}USDT" for n in range(25)]


def configured(*datasets, **limits):
    return settings.Settings(datasets=",".join(map(str, datasets)), **limits)


def utc(*when):
    return dt.datetime(*when, tzinfo=dt.UTC)


def files_of(dataset, start, end, without=(), symbols=SYMBOLS):
    """25 symbols with a file of every period; `without` names (symbol or None for all, period)."""
    return {
        symbol: {
            period: (100, utc(*dataset.shift(period, 1).timetuple()[:3], 8))
            for period in dataset.periods(start, end)
            if not {(symbol, period), (None, period)} & set(without)
        }
        for symbol in symbols
    }


class Recorded:
    def __init__(self, path):
        self.path = path
        with writer(path):
            pass

    def write(self, dataset, files, *, start=None, end=YESTERDAY, at=NOW):
        start = start or CATALOGUE[dataset.kind].first
        span = dataset.period_of(start), dataset.period_of(end)
        with writer(self.path) as con:
            store.write_probe(
                con, make_listing(*span, files, dataset=dataset), probed_at=at, run_id="run",
                accept_shrunken=True, settle_days=3,
            )  # fmt: skip

    def whole(self, dataset, end=YESTERDAY, without=(), *, until=None, **options):
        """From the first period on; files since 2024, until `until`."""
        last = dataset.shift(dataset.period_of(end + dt.timedelta(1)), -1)
        files = files_of(dataset, D(2024, 1, 1), until or last, without)
        self.write(dataset, files, end=last, **options)

    def verdict(self, name, limits, now=NOW, chosen=None):
        with reader(self.path) as con:
            return checks.ALL[name](con, now, limits, chosen)


@pytest.fixture
def record(tmp_path):
    return Recorded(tmp_path / "record.duckdb")


@pytest.mark.parametrize("name", checks.ALL)
def test_several_healthy_datasets_pass_together_each_by_name(record, name):
    several = (KLINES, SPOT, MONTHS, RATES)
    for dataset in several:
        record.whole(dataset)
    got = record.verdict(name, configured(*several))
    assert got.passed, got
    assert got.datasets == dict.fromkeys(map(str, several), "ok")
    assert got.text.startswith("4 datasets: ")


@pytest.mark.parametrize("name", checks.ALL)
def test_of_one_dataset_the_text_has_its_name_and_the_sample_has_not(record, name):
    record.whole(KLINES, without=[(None, D(2024, 3, 10))])
    got = record.verdict(name, configured(KLINES))
    assert got.text.startswith("um/daily/klines/1m: ")
    assert not any("klines" in text for text in got.sample)
    assert all(one["dataset"] == "um/daily/klines/1m" for one in got.offenders)


def test_the_worst_dataset_decides_and_is_named_with_the_command_about_it(record):
    record.whole(KLINES, without=[("S03USDT", D(2024, 6, 10)), ("S04USDT", D(2024, 6, 10))])
    record.whole(SPOT, without=[(None, D(2024, 3, 10))])
    record.whole(MONTHS)
    got = record.verdict("completeness_slo", configured(KLINES, SPOT, MONTHS))
    assert got.breached
    assert got.datasets == {str(KLINES): "breach", str(SPOT): "breach", str(MONTHS): "ok"}
    assert (got.count, got.observed, got.threshold) == (2, 0.0, 0.95)
    assert got.sample == (
        "um/daily/klines/1m 2024-06-10: 23 of 25",
        "spot/daily/klines/1d 2024-03-10: 0 of 25",
    )
    assert [(one["dataset"], one["date"]) for one in got.offenders] == [
        ("um/daily/klines/1m", D(2024, 6, 10)), ("spot/daily/klines/1d", D(2024, 3, 10)),
    ]  # fmt: skip
    assert got.text.startswith("2 of 3 datasets: um/daily/klines/1m 2024-06-10: 23 of 25; spot")
    assert "slo acknowledge --dataset spot/daily/klines/1d --date 2024-03-10" in got.recovery
    assert "`binance-availability slo --dataset NAME`" in got.recovery


def test_a_warning_of_one_dataset_is_no_part_of_the_breach_of_another(record):
    record.whole(KLINES, without=[("S03USDT", D(2024, 6, 10))])
    record.whole(
        SPOT, without=[("S03USDT", date) for date in SPOT.periods(D(2024, 2, 1), D(2024, 3, 1))]
    )
    got = record.verdict("symbol_holes", configured(KLINES, SPOT))
    assert (got.breached, got.count) == (True, 30)
    assert got.sample == ("spot/daily/klines/1d S03USDT: 30 days",)
    assert got.datasets == {str(KLINES): "warn", str(SPOT): "breach"}
    assert "1 more warn" in got.note
    assert "query holes --dataset spot/daily/klines/1d" in got.recovery


def test_a_symbol_of_the_same_name_in_two_markets_is_judged_in_each(record):
    record.whole(KLINES, without=[("S03USDT", D(2024, 6, 10))])
    record.whole(SPOT, without=[("S03USDT", D(2024, 6, 11))])
    got = record.verdict("symbol_holes", configured(KLINES, SPOT))
    assert (got.passed, got.severity) == (False, "warn")
    assert got.sample == (
        "um/daily/klines/1m 2024-06-10 S03USDT",
        "spot/daily/klines/1d 2024-06-11 S03USDT",
    )
    assert record.verdict("rows_are_unique", configured(KLINES, SPOT)).passed


def test_some_of_the_configured_can_be_chosen_and_commands_still_name_them(record):
    record.whole(KLINES)
    record.whole(SPOT, without=[(None, D(2024, 3, 10))])
    limits = configured(KLINES, SPOT)
    assert record.verdict("completeness_slo", limits, chosen=[KLINES]).passed
    got = record.verdict("completeness_slo", limits, chosen=[SPOT])
    assert got.datasets == {str(SPOT): "breach"}
    assert "slo acknowledge --dataset spot/daily/klines/1d" in got.recovery
    later = record.verdict("completeness_slo", limits, NOW + dt.timedelta(8), [SPOT])
    assert "backfill --dataset spot/daily/klines/1d --start 2024-03-10" in later.recovery


def test_duplicate_rows_are_found_in_whichever_dataset(record):
    record.whole(KLINES)
    record.whole(SPOT)
    with writer(record.path) as con:
        con.execute("INSERT INTO files FROM files WHERE dataset = 2 LIMIT 3")
    got = record.verdict("rows_are_unique", configured(KLINES, SPOT))
    assert (got.breached, got.count) == (True, 3)
    assert got.sample == ("spot/daily/klines/1d: 3 in all",)


# months


def test_months_are_counted_as_months_and_due_once_their_first_update_had_its_time(record):
    record.whole(MONTHS, D(2024, 4, 30))
    limits = configured(MONTHS)
    got = record.verdict("continuity", limits)
    assert (got.breached, got.count, got.sample) == (True, 1, ("2024-05",))
    assert "backfill --start 2024-05-01 --end 2024-05-31" in got.recovery
    assert record.verdict("continuity", limits, utc(2024, 6, 1, 9, 30)).passed, "10:00 on the 1st"
    assert record.verdict("continuity", limits, utc(2024, 6, 2, 2, 29)).passed
    assert record.verdict("continuity", limits, utc(2024, 6, 2, 2, 30)).breached


def test_missing_months_are_named_from_the_first_of_the_catalogue(record):
    record.write(MONTHS, files_of(MONTHS, D(2024, 1, 1), D(2024, 5, 1)), start=D(2024, 1, 1),
                 end=D(2024, 5, 31))  # fmt: skip
    got = record.verdict("continuity", configured(MONTHS))
    assert (got.count, got.sample) == (52, ("2019-09 to 2023-12",))
    assert got.offenders[0]["end"] == D(2023, 12, 31)


def test_a_month_is_judged_only_after_its_settling_time(record):
    files = files_of(MONTHS, D(2024, 1, 1), D(2024, 4, 1))
    record.write(MONTHS, files, end=D(2024, 5, 1), at=utc(2024, 6, 15, 23, 59))
    for name in ("completeness_slo", "symbol_holes"):
        assert record.verdict(name, configured(MONTHS)).passed, name
    record.write(MONTHS, files, end=D(2024, 5, 1), at=utc(2024, 6, 16))
    got = record.verdict("completeness_slo", configured(MONTHS))
    assert (got.breached, got.sample) == (True, ("2024-05: 0 of 25",))


def test_a_hole_of_a_month_is_said_as_a_month(record):
    record.whole(MONTHS, without=[("S03USDT", D(2024, 4, 1))])
    got = record.verdict("symbol_holes", configured(MONTHS, slo_hole_share=0.1), utc(2024, 5, 20))
    assert (got.severity, got.sample) == ("warn", ("2024-04 S03USDT",))
    got = record.verdict("symbol_holes", configured(MONTHS, slo_hole_share=0))
    assert got.sample == ("S03USDT: 1 months",)
    assert "of 125 symbol-months are holes" in got.note


def test_a_folder_that_stops_is_no_hole_of_its_dataset(record):
    """XRPUSDT of um/monthly/klines/3d stopped at 2024-01; its other intervals go on."""
    gone = [("S03USDT", month) for month in MONTHS.periods(D(2024, 2, 1), D(2024, 5, 1))]
    record.whole(MONTHS, without=gone)
    record.whole(KLINES)
    for name in checks.ALL:
        assert record.verdict(name, configured(KLINES, MONTHS)).passed, name


def test_a_month_published_weeks_late_warns(record):
    files = files_of(MONTHS, D(2022, 1, 1), D(2024, 5, 1))
    for symbol in SYMBOLS:
        files[symbol][D(2024, 4, 1)] = (100, utc(2024, 5, 14, 8))
    record.write(MONTHS, files, end=D(2024, 5, 1))
    got = record.verdict("publication_lag", configured(MONTHS))
    assert (got.severity, got.sample) == ("warn", ("2024-04: 320.0 h, usually 8.0 h",))
    record.write(MONTHS, files, end=D(2024, 6, 1), at=utc(2024, 7, 20))
    assert record.verdict("publication_lag", configured(MONTHS), utc(2024, 7, 20)).passed


# what stopped, what is not there, what is configured no longer


@pytest.mark.parametrize("probed_to", [D(2024, 3, 30), D(2024, 6, 19)])
def test_a_dataset_that_stopped_breaches_nothing_after_its_last_period(record, probed_to):
    last = CATALOGUE[TICKS.kind].last
    record.whole(TICKS, probed_to, until=last)
    for name in checks.ALL:
        assert record.verdict(name, configured(TICKS)).passed, name


def test_a_dataset_that_stopped_is_judged_until_then(record):
    last = CATALOGUE[TICKS.kind].last
    record.whole(TICKS, last - dt.timedelta(1), without=[(None, D(2024, 3, 10))])
    got = record.verdict("continuity", configured(TICKS))
    assert (got.breached, got.sample) == (True, ("2024-03-30",))
    assert record.verdict("completeness_slo", configured(TICKS)).sample == ("2024-03-10: 0 of 25",)


def test_a_dataset_that_was_never_recorded_says_how_to_fill_it_and_is_else_unknown(record):
    record.whole(KLINES)
    limits = configured(KLINES, NEW)
    got = record.verdict("continuity", limits)
    assert got.breached
    assert got.sample == ("cm/daily/metrics 2020-08-01 to 2024-06-19",)
    assert (
        "Fill it in one run: `binance-availability backfill --dataset cm/daily/metrics`" in got.text
    )
    for name in set(checks.ALL) - {"continuity"}:
        got = record.verdict(name, limits)
        assert got.passed, name
        assert got.datasets == {str(KLINES): "ok", str(NEW): "unknown"}
        assert "cm/daily/metrics: nothing is recorded" in got.text
        got = record.verdict(name, limits, chosen=[NEW])
        assert (got.outcome, got.note) == ("unknown", "nothing is recorded")


@pytest.mark.parametrize("dataset", [ODD, GONE])
def test_a_dataset_that_the_archive_may_not_have_only_warns_and_the_others_go_on(record, dataset):
    record.whole(KLINES)
    limits = configured(KLINES, dataset)
    got = record.verdict("continuity", limits)
    assert (got.passed, got.severity) == (False, "warn")
    assert "datasets discover" in got.recovery
    with writer(record.path) as con:
        con.execute("DELETE FROM probes WHERE period = '2024-03-10'")
    got = record.verdict("continuity", limits)
    assert (got.breached, got.sample) == (True, ("um/daily/klines/1m 2024-03-10",))


def test_an_interval_that_is_recorded_is_judged_though_the_catalogue_does_not_know_it(record):
    record.whole(ODD, D(2024, 6, 18))
    got = record.verdict("continuity", configured(ODD))
    assert (got.breached, got.sample) == (True, ("2024-06-19",))


def test_a_dataset_that_is_no_longer_configured_is_not_judged_and_that_is_said(record):
    record.whole(KLINES)
    record.whole(SPOT, D(2024, 3, 1), without=[(None, D(2024, 2, 10))])
    for name in checks.ALL:
        got = record.verdict(name, configured(KLINES))
        assert got.passed, name
        assert list(got.datasets) == [str(KLINES)]
    note = record.verdict("continuity", configured(KLINES)).text
    assert "not judged, for no longer configured: spot/daily/klines/1d" in note


def test_many_datasets_at_fault_are_each_named_before_any_is_named_twice(record):
    datasets = [Dataset.parse(f"spot/daily/klines/{i}") for i in ("1m", "3m", "5m", "1h", "1d")]
    for dataset in datasets:
        gone = [(None, D(2024, 2, n)) for n in range(1, 12)]
        record.whole(dataset, without=gone)
    got = record.verdict("completeness_slo", configured(*datasets))
    assert (got.count, len(got.sample), got.sample_truncated) == (55, rules.SAMPLE, True)
    assert [text.split()[0] for text in got.sample] == [str(d) for d in datasets for _ in range(2)]


# acknowledgements


def test_an_acknowledgement_is_of_one_dataset_and_of_a_month_where_its_files_are_monthly(record):
    gap = D(2024, 4, 1)
    for dataset in (KLINES, SPOT, RATES):
        record.whole(dataset, without=[(None, gap)])
    limits = configured(KLINES, SPOT, RATES)

    def accept(dataset, *dates, symbols=()):
        with writer(record.path) as con:
            return acknowledgements.acknowledge(
                con, dates, reason="never published", at=NOW, symbols=symbols, dataset=dataset
            )

    assert accept(str(SPOT), gap) == 1
    got = record.verdict("completeness_slo", limits)
    assert got.datasets == {str(KLINES): "breach", str(SPOT): "ok", str(RATES): "breach"}
    assert got.acknowledged == 1
    # Two dates of the month are the one period that is missing.
    assert accept(RATES, D(2024, 4, 10), D(2024, 4, 20)) == 1
    got = record.verdict("completeness_slo", limits)
    assert (got.datasets[str(RATES)], got.acknowledged) == ("ok", 2)
    with pytest.raises(QueryError, match="2024-05: there is nothing to acknowledge"):
        accept(RATES, D(2024, 5, 9), symbols=["S03USDT"])
    with pytest.raises(QueryError, match="cm/daily/metrics is not recorded; recorded are um/daily"):
        accept(NEW, gap)
    with reader(record.path) as con:
        assert [row[:3] for row in acknowledgements.acknowledged(con).rows] == [
            (str(SPOT), gap, None), (str(RATES), gap, None),
        ]  # fmt: skip
        assert acknowledgements.acknowledged(con, RATES).column("dataset") == [str(RATES)]
    with writer(record.path) as con:
        with pytest.raises(QueryError, match="was not acknowledged on 2024-03"):
            acknowledgements.forget(con, [D(2024, 3, 9)], dataset=RATES)
        assert acknowledgements.forget(con, [D(2024, 4, 30)], dataset=RATES) == 1
    assert record.verdict("completeness_slo", limits).datasets[str(RATES)] == "breach"


def test_holes_of_one_dataset_that_are_acknowledged_are_those_of_no_other(record):
    gap = D(2024, 6, 10)
    for dataset in (KLINES, SPOT):
        record.whole(dataset, without=[("S03USDT", gap)])
    with writer(record.path) as con:
        acknowledgements.acknowledge(
            con, [gap], reason="halted", at=NOW, symbols=["S03USDT"], dataset=KLINES
        )
    got = record.verdict("symbol_holes", configured(KLINES, SPOT))
    assert got.datasets == {str(KLINES): "ok", str(SPOT): "warn"}
    assert (got.acknowledged, got.sample) == (1, ("spot/daily/klines/1d 2024-06-10 S03USDT",))
