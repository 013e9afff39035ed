"""AVAILABILITY_MIRROR says what is meant, or one line says why it does not."""

import pytest

from availability_pipeline import settings
from availability_pipeline.mirror.selection import as_dict, from_dict, mirrored, parsed
from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.queries.plan import Selection
from availability_pipeline_tests.support.helpers import D

ALL = (
    "datasets=um/daily/klines/1m,spot/daily/klines/* symbols=BTCUSDT,ETHUSDT quote=USDT,USDC "
    "contract_type=PERPETUAL live_on=2024-02-01 start=2024-01-01 end=2024-03-01 daily_only=yes"
)


def test_each_word_is_one_of_the_selection():
    assert parsed(ALL) == Selection(
        datasets=("um/daily/klines/1m", "spot/daily/klines/*"),
        symbols=("BTCUSDT", "ETHUSDT"),
        quote_asset=("USDT", "USDC"),
        contract_type=("perpetual",),
        live_on=D(2024, 2, 1),
        start=D(2024, 1, 1),
        end=D(2024, 3, 1),
        monthly=False,
    )


@pytest.mark.parametrize("text", ["", "  ", "daily_only=no"])
def test_nothing_selects_all_of_the_first_dataset(text):
    assert parsed(text) == Selection()


@pytest.mark.parametrize("text", ["", ALL])
def test_a_mirror_remembers_it_as_it_was(text):
    assert from_dict(as_dict(parsed(text))) == parsed(text)


BAD = {
    "BTCUSDT": "'BTCUSDT' is not a word of a selection; there are datasets, symbols",
    "symbol=BTCUSDT": "is not a word of a selection, the nearest is symbols",
    "symbols": "symbols has no value",
    "symbols=,": "symbols has no value",
    "quote=USDT quote=USDC": "quote is given twice",
    "datasets=um/daily/kline/1m": "the nearest are um/daily/klines",
    "contract_type=perp": "contract_type=perp is not a contract type: perpetual",
    "start=2024": "start=2024 is not a date; write it as YYYY-MM-DD",
    "start=2024-02-30": "2024-02-30",
    "start=2024-03-01 end=2024-01-01": "the end 2024-01-01 is before the start 2024-03-01",
    "daily_only=true": "daily_only=true is neither yes nor no",
    "symbols = BTCUSDT": "symbols has no value",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_one_is_one_line_with_the_variable_and_the_remedy(monkeypatch, text):
    monkeypatch.setenv("AVAILABILITY_MIRROR", text)
    with pytest.raises(settings.SettingsError) as caught:
        mirrored(settings.load())
    line = str(caught.value)
    assert line.startswith("AVAILABILITY_MIRROR=")
    assert BAD[text] in line
    assert line.endswith("correct or unset it")
    assert "\n" not in line
    monkeypatch.setenv("AVAILABILITY_MIRROR_URL", "/mirror")
    with pytest.raises(settings.SettingsError):
        build_defs()
