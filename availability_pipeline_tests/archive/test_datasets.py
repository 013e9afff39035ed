"""The naming grammar. Breaking it costs symbols: a tighter pattern once lost 59 of 1,007."""

import datetime as dt
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from availability_pipeline.archive.datasets import (
    UM_KLINES_1M,
    ArchiveFile,
    Dataset,
    classify,
    delivery_date,
    is_symbol,
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
     "BTC-USDT", "BTCUSDT_", "../x", "B" * 65, "BTCUSDT\n"],
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


def test_another_dataset_is_another_value():
    trades = Dataset(market="spot", data_type="aggTrades", interval=None)
    key = "data/spot/daily/aggTrades/BTCUSDT/BTCUSDT-aggTrades-2024-01-15.zip"
    assert trades.key("BTCUSDT", DAY) == key
    assert trades.parse_key(key) == ArchiveFile("BTCUSDT", DAY)
    assert UM_KLINES_1M.parse_key(key) is None
    with pytest.raises(ValueError, match="interval"):
        Dataset(interval="../1m")


def test_a_delivery_contract_names_its_delivery_date():
    assert delivery_date("BTCUSDT_210326") == dt.date(2021, 3, 26)
    assert delivery_date("BTCUSDT") is None


names = st.text(
    st.sampled_from(string.ascii_uppercase + string.digits + "龙虾币"), min_size=1, max_size=20
)


@given(names, st.sampled_from(["", "SETTLED", "_SETTLED", "_240329"]), st.dates())
def test_any_symbol_and_date_survive_the_way_to_a_key_and_back(name, suffix, date):
    symbol = name + suffix
    if is_symbol(symbol):
        assert UM_KLINES_1M.parse_key(UM_KLINES_1M.key(symbol, date)) == ArchiveFile(symbol, date)


@given(st.text(max_size=80))
def test_any_text_is_a_key_or_none_and_never_an_error(text):
    parsed = UM_KLINES_1M.parse_key(UM_KLINES_1M.prefix + text)
    assert parsed is None or UM_KLINES_1M.key(parsed.symbol, parsed.date).endswith(text)
