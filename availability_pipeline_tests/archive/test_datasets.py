"""The naming grammar. Breaking it costs symbols: a tighter pattern once lost 59 of 1,007."""

import calendar
import datetime as dt
import re
import string
from typing import NamedTuple

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from availability_pipeline.archive.datasets import (
    CATALOGUE,
    FIRST_DATE,
    KNOWN,
    UM_KLINES_1M,
    ArchiveFile,
    Dataset,
    UnknownDatasetError,
    classify,
    is_symbol,
    locate,
    relisted_name,
    select,
    url_sql,
)

DAY = dt.date(2024, 1, 15)

REAL = {
    "BTCUSDT": ("perpetual", "BTC", "USDT"),
    "1000BONKUSDC": ("perpetual", "1000BONK", "USDC"),
    "4USDT": ("perpetual", "4", "USDT"),
    "BTCU": ("perpetual", "BTC", "U"),
    "ETHBTC": ("perpetual", "ETH", "BTC"),
    "TSLAUSDT": ("perpetual", "TSLA", "USDT"),
    "币安人生USDT": ("perpetual", "币安人生", "USDT"),
    "BTCUSDT_210326": ("delivery", "BTC", "USDT"),
    "BTCBUSD_210129": ("delivery", "BTC", "BUSD"),
    "AERGOUSDTSETTLED": ("settled", "AERGO", "USDT"),
    "AERGOUSDTSETTLEDSETTLED": ("settled", "AERGO", "USDT"),
    "ICPUSDT_SETTLED": ("settled", "ICP", "USDT"),
}


@pytest.mark.parametrize(("symbol", "expected"), REAL.items())
def test_a_real_symbol_is_classified_by_its_name(symbol, expected):
    contract = classify(symbol)
    assert (contract.contract_type, contract.base_asset, contract.quote_asset) == expected


def test_an_unknown_quote_asset_is_left_open_and_not_guessed():
    assert classify("BTCEUR").quote_asset is None
    assert classify("BTCEUR").base_asset is None


@pytest.mark.parametrize(
    "name",
    ["", "btcusdt", "BTC/USDT", "BTC USDT", "BTCUSDT_21032", "BTCUSDT_211332", "SETTLED",
     "BTC-USDT", "BTCUSDT_", "../x", "B" * 65, "BTCUSDT\n", "BTCUSDT_210326\n", "BTCUSD_PERP"],
)  # fmt: skip
def test_what_is_no_symbol_is_refused(name):
    assert not is_symbol(name)
    with pytest.raises(ValueError, match="not a symbol"):
        classify(name)


@pytest.mark.parametrize("symbol", REAL)
def test_a_key_leads_back_to_its_symbol_and_date(symbol):
    key = UM_KLINES_1M.key(symbol, DAY)
    assert UM_KLINES_1M.parse_key(key) == ArchiveFile(symbol, DAY)
    assert UM_KLINES_1M.parse_folder(f"{UM_KLINES_1M.prefix}{symbol}/") == symbol


def test_the_key_is_the_one_the_archive_uses():
    assert UM_KLINES_1M.key("BTCUSDT", DAY) == (
        "data/futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-15.zip"
    )


def test_the_url_of_a_name_that_is_not_ascii_is_percent_encoded():
    url = UM_KLINES_1M.url("龙虾USDT", DAY)
    assert url.isascii()
    assert url.startswith("https://data.binance.vision/data/futures/um/daily/klines/%E9%BE%99")


@pytest.mark.parametrize(
    "name",
    ["BTCUSDT-1m-2024-1-15.zip", "BTCUSDT-1m-20240115.zip", "BTCUSDT-1m-2024-02-30.zip",
     "BTCUSDT-1m-2024-01-15.zip.CHECKSUM", "part-00000-abc.zip", "ETHUSDT-1m-2024-01-15.zip",
     "BTCUSDT-5m-2024-01-15.zip", "BTCUSDT-1m-2024-01-15", "BTCUSDT-1m-２０２４-01-15.zip"],
)  # fmt: skip
def test_a_junk_key_is_not_taken_for_a_file(name):
    assert UM_KLINES_1M.parse_key(f"data/futures/um/daily/klines/BTCUSDT/1m/{name}") is None


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        (("futures/um",), "market"),
        (("um", "weekly"), "neither daily nor monthly"),
        (("um", "daily", "../trades", None), "data_type"),
        (("um", "daily", "klines", None), "needs an interval"),
        (("um", "daily", "trades", "1m"), "has no intervals"),
        (("um", "daily", "klines", "../1m"), "interval"),
        (("um", "monthly", "klines", "1M"), "interval"),
    ],
)
def test_what_could_not_stand_in_a_key_is_not_a_dataset(parts, why):
    with pytest.raises(ValueError, match=why):
        Dataset(*parts)


@pytest.mark.parametrize(
    ("symbol", "name"),
    [("AERGOUSDTSETTLEDSETTLED", "AERGOUSDTSETTLED"), ("ICPUSDT_SETTLED", "ICPUSDT"),
     ("BTCUSDT", None)],
)  # fmt: skip
def test_a_settled_name_leads_to_the_relisted_one(symbol, name):
    assert relisted_name(symbol) == name


OTHER_MARKETS = {
    ("cm", "BTCUSD_PERP"): ("perpetual", "BTC", "USD"),
    ("cm", "BTCUSD_210326"): ("delivery", "BTC", "USD"),
    ("cm", "BTCUSD"): ("index", "BTC", "USD"),
    ("cm", "LUNAUSD_PERPSETTLED"): ("settled", "LUNA", "USD"),
    ("cm", "BTCUSDT_PERP"): ("perpetual", None, None),
    ("spot", "BTCUSDT"): ("spot", "BTC", "USDT"),
    ("spot", "BTCBUSDT"): ("spot", "BTCB", "USDT"),
    ("spot", "BTCTUSD"): ("spot", "BTC", "TUSD"),
    ("spot", "币安人生USDT"): ("spot", "币安人生", "USDT"),
    ("spot", "ADAEUR"): ("spot", None, None),
    ("spot", "123456"): ("spot", None, None),
    ("option", "BTCBVOLUSDT"): ("index", "BTC", "USDT"),
    ("option", "BTCUSDT"): ("option", "BTC", "USDT"),
}


@pytest.mark.parametrize(
    ("name", "expected"), OTHER_MARKETS.items(), ids=map("/".join, OTHER_MARKETS)
)
def test_a_symbol_of_another_market_is_classified_by_its_name(name, expected):
    market, symbol = name
    contract = classify(symbol, market)
    assert (contract.contract_type, contract.base_asset, contract.quote_asset) == expected


@pytest.mark.parametrize(
    ("market", "symbol"),
    [("spot", "BTCUSDT_210326"), ("spot", "BTCUSD_PERP"), ("option", "BTCUSDT_210326"),
     ("cm", "_PERP"), ("cm", "BTCUSD_perp"), ("cm", "BTCUSD_PERP_210326")],
)  # fmt: skip
def test_the_suffixes_of_one_market_are_not_those_of_another(market, symbol):
    assert not is_symbol(symbol, market)


def test_an_index_price_is_of_a_pair_and_not_of_a_contract():
    prices = Dataset("um", "daily", "indexPriceKlines", "1m")
    assert prices.classify("BTCUSDT").contract_type == "index"
    assert UM_KLINES_1M.classify("BTCUSDT").contract_type == "perpetual"
    assert prices.classify("AUSDTSETTLED").contract_type == "settled"
    coins = Dataset("cm", "daily", "indexPriceKlines", "1m")
    assert coins.classify("BTCUSD").contract_type == "index"


# An independent model of the archive's keys: one pattern for each kind of market and folder.

SYMBOLS = {
    "spot": r"[^\W_]+",
    "um": r"[^\W_]+(?:_[0-9]{6})?(?:_?SETTLED)*",
    "cm": r"[^\W_]+(?:_[0-9]{6}|_PERP)?(?:_?SETTLED)*",
    "option": r"[^\W_]+",
}
PATHS = {"spot": "spot", "um": "futures/um", "cm": "futures/cm", "option": "option"}


class Model(NamedTuple):
    market: str
    frequency: str
    data_type: str
    interval: str | None

    def key(self, symbol, date):
        day = f"{date.year:04}-{date.month:02}"
        day += "" if self.frequency == "monthly" else f"-{date.day:02}"
        inner = f"{self.interval}/" if self.interval else ""
        name = f"{symbol}-{self.interval or self.data_type}-{day}.zip"
        return f"data/{PATHS[self.market]}/{self.frequency}/{self.data_type}/{symbol}/{inner}{name}"

    def parse(self, key):
        base = re.escape(self.key("\0", dt.date(2024, 1, 1))).replace("2024\\-01\\-01", "DAY")
        symbol = f"(?P<s>{SYMBOLS[self.market]})"
        day = "(?P<d>[0-9]{4}-[0-9]{2}" + ("" if self.frequency == "monthly" else "-[0-9]{2}") + ")"
        pattern = base.replace("2024\\-01", "DAY").replace("DAY", day)
        pattern = pattern.replace(re.escape("\0"), symbol, 1).replace(re.escape("\0"), "(?P=s)")
        found = re.fullmatch(pattern, key)
        if not found or found["s"].upper() != found["s"] or len(found["s"]) > 64:
            return None
        numbers = [int(n) for n in found["d"].split("-")]
        year, month, date = [*numbers, 1][:3]
        if not (year and 1 <= month <= 12 and 1 <= date <= calendar.monthrange(year, month)[1]):
            return None
        if given := re.search("_([0-9]{6})", found["s"]):
            try:
                dt.date(2000 + int(given[1][:2]), int(given[1][2:4]), int(given[1][4:]))
            except ValueError:
                return None
        return ArchiveFile(found["s"], dt.date(year, month, date))


def tail(market):
    endings = {"um": ["", "_240329"], "cm": ["", "_240329", "_PERP"]}
    return st.tuples(
        st.sampled_from(endings.get(market, [""])),
        st.sampled_from(["", "SETTLED", "_SETTLED"] if market in endings else [""]),
    ).map("".join)


stems = st.text(
    st.sampled_from(string.ascii_uppercase + string.digits + "龙虾币"), min_size=1, max_size=20
)
models = st.sampled_from(KNOWN).map(lambda d: Model(*d.kind, d.interval))
dates = st.dates(dt.date(2017, 1, 1), dt.date(2099, 12, 31))


@st.composite
def files(draw):
    model = draw(models)
    symbol = draw(stems) + draw(tail(model.market))
    date = draw(dates)
    return model, symbol, date.replace(day=1) if model.frequency == "monthly" else date


@given(files())
@example((Model("option", "daily", "BVOLIndex", None), "BTCBVOLUSDT", dt.date(2024, 1, 15)))
@example((Model("spot", "monthly", "klines", "1mo"), "BTCUSDT", dt.date(2024, 1, 1)))
@example((Model("cm", "daily", "indexPriceKlines", "1h"), "BTCUSD", dt.date(2024, 1, 15)))
def test_a_key_is_that_of_an_independent_model_and_leads_back(made):
    model, symbol, period = made
    dataset = Dataset(*model)
    key = dataset.key(symbol, period)
    assert key == model.key(symbol, period)
    assert dataset.parse_key(key) == model.parse(key) == ArchiveFile(symbol, period)
    assert locate(key) == (dataset, ArchiveFile(symbol, period))
    assert dataset.parse_folder(f"{dataset.prefix}{symbol}/") == symbol
    assert dataset.checksum_key(symbol, period) == f"{key}.CHECKSUM"
    assert dataset.parse_key(f"{key}.CHECKSUM") is locate(f"{key}.CHECKSUM") is None


@given(files(), st.data())
def test_a_damaged_key_is_what_an_independent_model_takes_it_for(made, data):
    model, symbol, period = made
    key = model.key(symbol, period)
    at = data.draw(st.integers(0, len(key)))
    cut = data.draw(st.integers(0, 2))
    put = data.draw(st.text(st.sampled_from("A1a0-_/.\n٣币"), max_size=2))
    damaged = key[:at] + put + key[at + cut :]
    found = Dataset(*model).parse_key(damaged)
    assert found == model.parse(damaged)
    assert found is None or locate(damaged) == (Dataset(*model), found)


@given(st.text(max_size=80), st.sampled_from([*PATHS.values(), "x"]))
def test_any_text_is_a_key_or_none_and_never_an_error(text, path):
    parsed = UM_KLINES_1M.parse_key(UM_KLINES_1M.prefix + text)
    assert parsed is None or UM_KLINES_1M.key(parsed.symbol, parsed.period).endswith(text)
    for key in (text, f"data/{path}/{text}"):
        found = locate(key)
        assert found is None or found[0].key(found[1].symbol, found[1].period) == key


@pytest.mark.parametrize(
    "key",
    [
        # Each was seen in the archive, or has been reported by those who read it.
        "data/futures/um/monthly/aggTrades/BTCUSDT/part-00000-1d0f-c000.zip",
        "data/spot/monthly/klines/ADABKRW/1d/ADABKRW-1d-2020-8.zip",
        "data/spot/monthly/klines/BTCUSDT/1M/BTCUSDT-1M-2024-01.zip",
        "data/spot/monthly/klines/BTCUSDT/1mo/BTCUSDT-1mo-2024-01-01.zip",
        "data/spot/daily/klines/BTCUSDT/1d/BTCUSDT-1d-2024-01.zip",
        "data/futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-15.zip.CHECKSUM",
        "data/futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-15.csv",
        "data/futures/um/daily/klines/BTCUSDT/BTCUSDT-klines-2024-01-15.zip",
        "data/futures/um/daily/metrics/BTCUSDT/1d/BTCUSDT-1d-2024-01-15.zip",
        "data/futures/um/daily/fundingRate/",
        "data/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-15.zip",
        "data/spot/daily/klines/BTCUSDT/1m/ETHUSDT-1m-2024-01-15.zip",
        "data/spot/daily/klines/BTCUSD_PERP/1m/BTCUSD_PERP-1m-2024-01-15.zip",
    ],
)
def test_an_oddity_of_the_archive_is_not_a_file(key):
    assert locate(key) is None
    assert [dataset for dataset in KNOWN if dataset.parse_key(key)] == []


def test_the_zero_volume_file_of_a_delisted_contract_and_a_name_in_chinese_are_files():
    key = "data/futures/um/daily/aggTrades/龙虾USDT/龙虾USDT-aggTrades-2024-01-15.zip"
    trades = Dataset("um", "daily", "aggTrades", None)
    assert locate(key) == (trades, ArchiveFile("龙虾USDT", DAY))
    assert UM_KLINES_1M.parse_key(key) is None


# Names


@pytest.mark.parametrize("dataset", KNOWN, ids=str)
def test_a_name_leads_back_to_its_dataset(dataset):
    assert Dataset.parse(str(dataset)) == dataset
    assert select(str(dataset)) == (dataset,)


def test_the_default_is_written_with_its_market_and_listed_below_futures():
    assert str(UM_KLINES_1M) == "um/daily/klines/1m"
    assert UM_KLINES_1M.prefix == "data/futures/um/daily/klines/"


def test_an_interval_that_is_not_known_yet_is_not_refused():
    assert str(Dataset.parse("um/daily/klines/10s")) == "um/daily/klines/10s"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("um/daily/kline/1m", "um/daily/klines/1m"),
        ("um/daily/aggtrades", "um/daily/aggTrades"),
        ("um/daily/klines", r"um/daily/klines/\*"),
        ("futures/um/daily/klines/1m", "um/daily/klines/1m"),
        ("fundingRate", "um/monthly/fundingRate"),
        ("um/daily/klines/1m/", "um/daily/klines/1m"),
        ("um/daily/trades/1m", "um/daily/trades"),
        ("um daily klines 1m", "um/daily/klines/1m"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line_with_the_nearest(name, nearest):
    for read in (Dataset.parse, select):
        with pytest.raises(UnknownDatasetError, match=f"nearest are.*{nearest}") as caught:
            read(name)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


@given(st.text(max_size=200))
def test_any_text_selects_datasets_or_is_refused_in_one_line(text):
    try:
        chosen = select(text)
    except UnknownDatasetError as refused:
        line = str(refused)
    else:
        line = ""
        assert chosen
    assert line.isprintable()
    assert len(line) < 500


def test_patterns_select_in_the_order_they_are_given_and_each_once():
    chosen = select(" um/daily/klines/1d ,*/daily/aggTrades, um/daily/aggTrades,um/daily/klines/1*")
    assert [str(dataset) for dataset in chosen] == [
        "um/daily/klines/1d", "spot/daily/aggTrades", "um/daily/aggTrades", "cm/daily/aggTrades",
        "um/daily/klines/1m", "um/daily/klines/15m", "um/daily/klines/1h", "um/daily/klines/12h",
    ]  # fmt: skip
    assert {dataset.market for dataset in select("um/*")} == {"um"}


def test_all_is_all_but_what_was_removed():
    removed = Dataset.parse("um/daily/liquidationSnapshot")
    assert set(KNOWN) - set(select("all")) == {removed}
    assert select("all") == select("*")
    assert removed not in select("*/liquidationSnapshot")
    assert select("um/daily/liquidationSnapshot") == (removed,)
    for pattern in ("um/daily/liquidation*", "x/*", "um/daily/klines/1m,", ""):
        with pytest.raises(UnknownDatasetError, match=r"not a dataset|matches no dataset"):
            select(pattern)


# The catalogue


def test_the_catalogue_is_that_of_the_archive_s_grammar():
    """Rows written down by hand from the table of the archive's grammar."""
    kinds = {
        "spot daily": "klines trades aggTrades",
        "spot monthly": "klines trades aggTrades",
        "um daily": "klines markPriceKlines indexPriceKlines premiumIndexKlines aggTrades trades "
        "metrics bookDepth bookTicker liquidationSnapshot",
        "um monthly": "klines markPriceKlines indexPriceKlines premiumIndexKlines aggTrades trades "
        "fundingRate bookTicker",
        "option daily": "BVOLIndex EOHSummary",
    }
    kinds |= {"cm daily": kinds["um daily"], "cm monthly": kinds["um monthly"]}
    assert set(CATALOGUE) == {
        (*place.split(), kind) for place, names in kinds.items() for kind in names.split()
    }
    ended = {str(e): str(e.last) for e in CATALOGUE.values() if e.lifecycle != "live"}
    assert ended == {
        "um/daily/bookTicker": "2024-03-30", "um/monthly/bookTicker": "2024-03-01",
        "cm/daily/bookTicker": "2024-10-15", "cm/monthly/bookTicker": "2024-10-01",
        "um/daily/liquidationSnapshot": "2024-03-31",
        "cm/daily/liquidationSnapshot": "2024-10-14", "option/daily/EOHSummary": "2023-10-23",
    }  # fmt: skip
    assert CATALOGUE[UM_KLINES_1M.kind].first == FIRST_DATE


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=str)
def test_an_entry_of_the_catalogue_is_consistent(entry):
    for dataset in entry.datasets:
        assert dataset.kind == entry.kind
        for period in {entry.first, entry.last} - {None}:
            assert dataset.parse_period(dataset.text(period)) == period
    assert (entry.last is None) == (entry.lifecycle == "live")
    assert entry.last is None or entry.first <= entry.last
    seconds = "1s" in entry.intervals
    assert seconds == (entry.market == "spot" and entry.data_type == "klines")
    assert ("1mo" in entry.intervals) == (bool(entry.intervals) and entry.frequency == "monthly")


# Periods


@given(dates, dates)
def test_the_periods_of_a_range_are_its_dates_or_its_months(one, other):
    start, end = sorted((one, min(other, one + dt.timedelta(3000))))
    every = [start + dt.timedelta(n) for n in range((end - start).days + 1)]
    months = Dataset("um", "monthly", "fundingRate", None)
    assert UM_KLINES_1M.periods(start, end) == every
    assert months.periods(start, end) == sorted({date.replace(day=1) for date in every})
    for period in months.periods(start, end):
        assert months.shift(months.shift(period, 1), -1) == period
        assert months.last_day(period) == months.shift(period, 1) - dt.timedelta(1)
        assert months.last_day(period).month == period.month


def test_a_month_begins_with_its_first_day():
    months = Dataset("um", "monthly", "fundingRate", None)
    with pytest.raises(ValueError, match="first day of a month"):
        months.key("BTCUSDT", DAY)
    assert months.period_of(DAY) == dt.date(2024, 1, 1)
    assert (months.settle_days(3), UM_KLINES_1M.settle_days(3)) == (15, 3)


def test_the_sql_of_an_address_is_the_one_that_records_hold():
    """Their view has it, and a view of another text is refused as foreign: no record would open."""
    assert url_sql("m", "f", "t", "i", "s", "p") == (
        "'https://data.binance.vision/data/' || CASE m WHEN 'spot' THEN 'spot' WHEN 'um' THEN "
        "'futures/um' WHEN 'cm' THEN 'futures/cm' WHEN 'option' THEN 'option' END || '/' || f || "
        "'/' || t || '/' || url_encode(s) || coalesce('/' || i, '') || '/' || url_encode(s) || "
        "'-' || coalesce(i, t) || '-' || "
        "left(p::VARCHAR, CASE f WHEN 'monthly' THEN 7 ELSE 10 END) || '.zip'"
    )


@hypothesis_settings(max_examples=30)
@given(files())
def test_the_address_in_sql_is_the_one_in_python(made):
    model, symbol, period = made
    dataset = Dataset(*model)
    columns = ["market", "frequency", "data_type", "interval", "symbol", "period"]
    with duckdb.connect() as con:
        [(address,)] = con.execute(
            f"SELECT {url_sql(*columns)} "
            "FROM (SELECT $1 AS market, $2 AS frequency, $3 AS data_type, $4 AS interval, "
            "$5 AS symbol, $6::DATE AS period)",
            [*model, symbol, period],
        ).fetchall()
    assert address == dataset.url(symbol, period)
