"""Volume and rankings as a user has them in a shell: filled by one command, asked by two."""

import csv
import io
import json
import signal
import subprocess
import sys

import duckdb
import pytest
from click.testing import CliRunner

from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.cli.main import cli
from availability_pipeline_tests.support import klines, mirrored, volumes
from availability_pipeline_tests.support.download_host import download_host
from availability_pipeline_tests.support.helpers import PATIENCE, D, days, wait_for
from availability_pipeline_tests.support.klines import DAILY, MONTHLY, kline

START, END = D(2024, 1, 1), D(2024, 2, 5)
JANUARY = D(2024, 1, 1)
SPOT = Dataset.parse("spot/daily/klines/1d")
CONFIGURED = f"{UM_KLINES_1M},{DAILY},{MONTHLY}"

VOLUME = [
    "date", "open", "high", "low", "close", "volume", "quote_volume", "trades",
    "taker_buy_volume", "taker_buy_quote_volume",
]  # fmt: skip
RANKING = [
    "rank", "symbol", "quote_asset", "quote_volume", "share", "percentile", "rank_change_1d",
    "rank_change_7d", "rank_change_14d", "rank_change_30d", "days_available", "trades",
]  # fmt: skip


@pytest.fixture
def host():
    with download_host() as host:
        yield host


@pytest.fixture
def home(host, tmp_path, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DB", str(tmp_path / "r.duckdb"))
    monkeypatch.setenv("AVAILABILITY_DOWNLOAD_URL", host.url)
    monkeypatch.setenv("AVAILABILITY_DATASETS", CONFIGURED)
    return tmp_path


@pytest.fixture
def values(host, home):
    """Two symbols' days, published and probed."""
    values = {
        (symbol, date): kline(symbol, date)
        for symbol in ("BTCUSDT", "ETHUSDT")
        for date in days(START, END)
    }
    klines.publish(host, values, [JANUARY])
    probe(host, home)
    return values


def probe(host, home, *others):
    mirrored.record(
        home / "r.duckdb", host, start=START, end=END, datasets=(DAILY, MONTHLY, *others)
    )


def run(*args, code=0):
    done = CliRunner().invoke(cli, [str(a) for a in args])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_one_command_fills_the_file_and_the_rankings_and_two_ask_them(values, home):
    done = run("volume", "update")
    assert done.stdout.splitlines() == [
        "um: 12 files read, 72 rows, 2024-01-01 to 2024-02-05",
        f"{home}/rankings/volume-rankings.parquet: 72 ranks",
        f"{home}/rankings/volume-rankings-timeseries.parquet: 72 ranks",
    ]
    assert done.stderr == ""
    got = json.loads(run("query", "volume", "btcusdt", "--json").stdout)
    assert [list(row) for row in got] == [VOLUME] * 36
    assert [tuple(row.values())[1:] for row in got] == [
        values["BTCUSDT", date][1:] for date in days(START, END)
    ]
    one = run("query", "volume", "BTCUSDT", "--start", END, "--end", END, "--csv").stdout
    assert next(csv.DictReader(io.StringIO(one)))["trades"] == str(values["BTCUSDT", END].trades)
    got = json.loads(run("query", "rankings", END, "--quote", "USDT", "--json").stdout)
    assert [list(row) for row in got] == [RANKING] * 2
    volumes_of = {symbol: values[symbol, END].quote_volume for symbol in ("BTCUSDT", "ETHUSDT")}
    best = sorted(volumes_of, key=volumes_of.get, reverse=True)
    assert [(row["rank"], row["symbol"]) for row in got] == [(1, best[0]), (2, best[1])]
    assert got[0]["share"] == pytest.approx(volumes_of[best[0]] / sum(volumes_of.values()))
    assert (got[0]["days_available"], got[0]["percentile"], got[1]["percentile"]) == (30, 0, 100)
    top = json.loads(run("query", "rankings", END, "--top", 1, "--json").stdout)
    assert top == got[:1]
    written = duckdb.read_parquet(str(home / "rankings" / "volume-rankings.parquet"))
    assert written.filter(f"date = DATE '{END}' AND rank = 1").select("symbol").fetchall() == [
        (best[0],)
    ]


def test_a_second_update_reads_nothing_and_says_so(values, host):
    run("volume", "update")
    host.asked.clear()
    assert run("volume", "update").stdout.startswith("um: 0 files read, 0 rows\n")
    assert not host.asked


def test_what_is_refused_is_named_with_the_reason_and_what_could_not_be_had_fails(
    values, host, home
):
    broken, missing = (DAILY.key(symbol, END) for symbol in ("BTCUSDT", "ETHUSDT"))
    host.files[broken] = klines.zipped("open,high")
    probe(host, home)
    whole = host.files.pop(missing)
    done = run("volume", "update", code=1)
    assert "um: 10 files read, 70 rows, 2024-01-01 to 2024-02-04" in done.stdout
    assert f"not taken: {broken}: row 1 has " in done.stderr
    assert f"not there: {missing}: " in done.stderr
    assert "Error: 1 file could not be had; the same command tries again" in done.stderr
    done = run("query", "volume", "BTCUSDT", "--start", END, "--csv")
    assert done.stdout.splitlines() == [",".join(VOLUME)]
    assert f"no row of {END}: its file was not taken, row 1 has" in done.stderr
    host.files[missing] = whole
    assert "um: 1 file read, 1 row, 2024-02-05 to 2024-02-05" in run("volume", "update").stdout


def test_without_daily_klines_it_says_what_to_set_and_to_probe(host, home, monkeypatch):
    names = "um/daily/klines/1d,um/monthly/klines/1d"
    backfill = "--dataset um/daily/klines/1d --dataset um/monthly/klines/1d` first"
    host.files[UM_KLINES_1M.key("BTCUSDT", START)] = b"x"
    mirrored.record(home / "r.duckdb", host, start=START, end=START, datasets=(UM_KLINES_1M,))
    monkeypatch.setenv("AVAILABILITY_DATASETS", str(UM_KLINES_1M))
    done = run("volume", "update", code=1)
    assert f"add {names} to AVAILABILITY_DATASETS and run `" in done.stderr
    assert backfill in done.stderr
    done = run("volume", "update", "--market", "spot", code=1)
    assert "add spot/daily/klines/1d,spot/monthly/klines/1d to" in done.stderr
    monkeypatch.setenv("AVAILABILITY_DATASETS", CONFIGURED)
    done = run("volume", "update", code=1)
    assert "um/daily/klines/1d was not probed yet; run `" in done.stderr
    assert backfill in done.stderr
    assert not (home / "volume.duckdb").exists()


def test_a_market_that_was_not_probed_yet_keeps_no_other_from_being_read(values, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DATASETS", f"{CONFIGURED},{SPOT}")
    done = run("volume", "update")
    assert "Note: spot/daily/klines/1d was not probed yet; run `" in done.stderr
    assert done.stdout.startswith("um: 12 files read")


def test_ctrl_c_leaves_what_is_written(values, host, home, monkeypatch):
    """Of the markets that were done before; of the one that is fetched nothing."""
    monkeypatch.setenv("AVAILABILITY_DATASETS", f"{CONFIGURED},{SPOT}")
    for date in days(START, END):
        host.files[SPOT.key("BTCUSDT", date)] = klines.file([kline("BTCUSDT", date)])
    probe(host, home, SPOT)
    reached = []

    def hold(key):
        if "/spot/" in key:
            reached.append(key)
            host.closing.wait()

    host.before = hold
    with subprocess.Popen(
        [sys.executable, "-m", "availability_pipeline.cli", "volume", "update"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for(lambda: reached)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert out == "um: 12 files read, 72 rows, 2024-01-01 to 2024-02-05\n"
    assert len(json.loads(run("query", "volume", "BTCUSDT", "--json").stdout)) == 36
    done = run("query", "volume", "BTCUSDT", "--market", "spot", code=1)
    assert "no volume of spot was read yet; run `" in done.stderr


def test_questions_before_any_update_say_which_command_fills_the_file(home):
    for ask in (("volume", "BTCUSDT"), ("rankings", END)):
        done = run("query", *ask, code=1)
        assert done.stderr == (
            f"Error: no volumes at {home}/volume.duckdb; run `binance-availability volume update` "
            "first\n"
        )
    other = home / "other" / "record.duckdb"
    done = run("query", "rankings", END, "--db", other, code=1)
    assert f"no volumes at {other.parent}/volume.duckdb; run `" in done.stderr
    assert f"volume update --db {other}`" in done.stderr


def test_a_symbol_a_date_or_an_asset_that_was_not_read_is_an_error_with_what_there_is(home):
    quotes = {"BTCUSDT": "USDT", "ETHUSDC": "USDC"}
    traded = {(symbol, date): None for symbol in quotes for date in days(START, END)}
    volumes.write(home / "volume.duckdb", traded, quotes)
    assert "did you mean BTCUSDT, ETHUSDC?" in run("query", "volume", "BTCUSD", code=1).stderr
    done = run("query", "rankings", "2024-02-06", code=1)
    assert "no volume of um was read for 2024-02-06; read are 2024-01-01 to" in done.stderr
    done = run("query", "rankings", END, "--quote", "BTC", code=1)
    assert "no symbol of um has quote asset 'BTC'; there are USDC, USDT" in done.stderr
    assert "is before --start" in run(
        "query", "volume", "BTCUSDT", "--start", END, "--end", START, code=2
    ).stderr  # fmt: skip
    both = run("query", "rankings", END, "--quote", "usdt", "--quote", "USDC", "--csv").stdout
    assert [line.split(",")[:3] for line in both.splitlines()[1:]] == [
        ["1", "ETHUSDC", "USDC"], ["1", "BTCUSDT", "USDT"],
    ]  # fmt: skip


def test_a_table_has_six_digits_and_no_exponent_and_json_all(home):
    volumes.write(
        home / "volume.duckdb",
        {("BTCUSDT", END): 12345678901.23456, ("ETHUSDT", END): 0.0000123456789},
        {"BTCUSDT": "USDT", "ETHUSDT": "USDT"},
    )
    shown = run("query", "rankings", END).stdout
    assert " 12345678901 " in shown
    assert " 0.0000123457 " in shown
    assert "e-" not in shown
    assert json.loads(run("query", "rankings", END, "--json").stdout)[0]["quote_volume"] == (
        12345678901.23456
    )
