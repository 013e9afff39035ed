"""The cross-check with the exchange, against a local server: whatever it answers, no fact is made.

The answers have the shape recorded from `GET /fapi/v1/exchangeInfo`.
"""

import contextlib
import datetime as dt
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from availability_pipeline.orchestration.code_location import build_defs
from availability_pipeline.orchestration.resources import AvailabilityDuckDB
from availability_pipeline.quality import exchange, rules
from availability_pipeline.record import write
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support.helpers import D, flat, make_listing
from availability_pipeline_tests.support.servers import Server

DATE = D(2024, 1, 10)
ONBOARDED = 1_569_398_400_000  # 2019-09-25T08:00:00Z


def contract(symbol, kind="PERPETUAL", status="TRADING", onboarded=ONBOARDED):
    return {
        "symbol": symbol, "pair": symbol.partition("_")[0], "contractType": kind,
        "deliveryDate": 4133404800000, "onboardDate": onboarded, "status": status,
        "maintMarginPercent": "2.5000", "baseAsset": "BTC", "quoteAsset": "USDT",
        "underlyingType": "COIN", "filters": [{"filterType": "PRICE_FILTER"}],
    }  # fmt: skip


def info(*symbols):
    return {"timezone": "UTC", "serverTime": 1_704_931_200_000, "futuresType": "U_MARGINED",
            "rateLimits": [], "exchangeFilters": [], "assets": [],
            "symbols": list(symbols)}  # fmt: skip


class Exchange(Server):
    """Answers every request with what the test put in `answer`: (status, body or chunks)."""

    answer = (200, b"")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/fapi/v1/exchangeInfo"

    def says(self, value, status=200):
        self.answer = (status, json.dumps(value).encode())


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = self.server.answer
        chunks = [body] if isinstance(body, bytes) else body
        self.send_response(status)
        if isinstance(body, bytes):
            self.send_header("Content-Length", str(len(body)))
        if 300 <= status < 400:
            self.send_header("Location", "https://example.invalid/")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for chunk in chunks:
                self.wfile.write(chunk)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Exchange(("127.0.0.1", 0), Handler) as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.01,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def test_only_trading_perpetuals_are_taken_with_the_date_they_began(server):
    server.says(
        info(
            contract("BTCUSDT"),
            contract("TSLAUSDT", "TRADIFI_PERPETUAL", onboarded=1_704_931_200_000),
            contract("币安人生USDT"),
            contract("BTCUSDT_240329", "CURRENT_QUARTER"),
            contract("MATICUSDT", status="SETTLING"),
            contract("NEWUSDT", "PERPETUAL", "PENDING_TRADING"),
            contract("ODD", ""),
        )
    )
    assert exchange.trading_perpetuals(server.url) == [
        exchange.ExchangeContract("BTCUSDT", D(2019, 9, 25)),
        exchange.ExchangeContract("TSLAUSDT", D(2024, 1, 11)),
        exchange.ExchangeContract("币安人生USDT", D(2019, 9, 25)),
    ]


@pytest.mark.parametrize(
    ("status", "words"),
    [(451, "does not serve this country"), (403, "firewall"), (418, "banned"),
     (429, "too often"), (500, "HTTP 500"), (503, "HTTP 503"), (302, "HTTP 302")],
)  # fmt: skip
def test_a_refusal_says_what_the_exchange_answered(server, status, words):
    server.answer = (status, b'{"code": 0, "msg": "Service unavailable from a restricted place"}')
    with pytest.raises(exchange.ExchangeError, match=words) as caught:
        exchange.trading_perpetuals(server.url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"null", b'"x"', b"{}", b'{"symbols": 1}', b'{"symbols": [1]}',
     b'{"symbols": [{}]}', b'{"symbols": []}', b"\xff\xfe", b"[" * 100_000,
     json.dumps(info({**contract("A"), "onboardDate": "x"})).encode(),
     json.dumps(info({**contract("A"), "onboardDate": 10**30})).encode(),
     json.dumps(info({**contract("A"), "symbol": None})).encode()],
    ids=lambda body: body[:24].decode("ascii", "replace"),
)  # fmt: skip
def test_an_answer_of_another_shape_is_an_error_and_never_half_believed(server, body):
    server.answer = (200, body)
    with pytest.raises(exchange.ExchangeError):
        exchange.trading_perpetuals(server.url)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["symbols", "symbol", "status", "contractType", "onboardDate"]), inner),
    max_leaves=9,
))  # fmt: skip
def test_no_json_whatsoever_escapes_as_another_error(value):
    body = json.dumps(value).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "_fetch", lambda *args: body)
        with contextlib.suppress(exchange.ExchangeError):
            exchange.trading_perpetuals("http://127.0.0.1/")


def test_a_huge_answer_is_given_up(server):
    server.answer = (200, (b" " * 65_536 for _ in range(1000)))
    with pytest.raises(exchange.ExchangeError, match="more than 1,000,000 bytes"):
        exchange.trading_perpetuals(server.url, max_bytes=1_000_000)


def test_an_exchange_that_does_not_answer_or_drips_is_given_up(server):
    ended = threading.Event()

    def drip(every):
        while not ended.wait(every):
            yield b" "

    try:
        for every in (0.1, 60):
            server.answer = (200, drip(every))
            with pytest.raises(exchange.ExchangeError, match=r"no answer within|took too long"):
                exchange.trading_perpetuals(server.url, timeout_seconds=0.5)
    finally:
        ended.set()


def test_a_refused_connection_is_an_error_of_one_line():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(exchange.ExchangeError, match=r"127\.0\.0\.1 cannot be reached"):
        exchange.trading_perpetuals(f"http://127.0.0.1:{port}/")


# the rule


def test_what_was_onboarded_after_the_date_does_not_count():
    trading = [("AUSDT", D(2020, 1, 1)), ("BUSDT", DATE), ("NEWUSDT", DATE + dt.timedelta(1))]
    got = rules.exchange_coverage(trading, {"AUSDT"}, DATE, 0.95)
    assert (got.breached, got.observed, got.sample) == (True, 0.5, ("BUSDT",))
    assert rules.exchange_coverage(trading, {"AUSDT", "BUSDT"}, DATE, 0.95).passed


@given(st.dictionaries(st.text(max_size=4), st.dates(), max_size=30), st.sets(st.text(max_size=4)))
def test_the_share_is_between_none_and_all(trading, recorded):
    got = rules.exchange_coverage(trading.items(), recorded, DATE, 0.95)
    assert 0 <= got.observed <= 1
    assert got.count == len({s for s, since in trading.items() if since <= DATE} - recorded)


# the check


@pytest.fixture
def judge(tmp_path, monkeypatch):
    path = tmp_path / "record.duckdb"
    files = {"AUSDT": flat(D(2024, 1, 1), DATE), "BUSDT": flat(D(2024, 1, 1), DATE)}
    with writer(path) as con:
        at = dt.datetime(2024, 1, 14, tzinfo=dt.UTC)
        listing = make_listing(D(2024, 1, 1), DATE, files)
        write.write_probe(con, listing, probed_at=at, run_id="x")

    def act(url):
        monkeypatch.setenv("AVAILABILITY_EXCHANGE_INFO_URL", url)
        job = build_defs(
            resources={"duckdb": AvailabilityDuckDB(database=str(path))}
        ).resolve_job_def("slo_checks")
        before = path.read_bytes()
        with dg.DagsterInstance.ephemeral() as instance:
            result = job.execute_in_process(
                instance=instance, op_selection=["record_exchange_coverage"]
            )
        assert path.read_bytes() == before
        [found] = result.get_asset_check_evaluations()
        return found

    return act


def test_the_check_compares_the_last_settled_date(judge, server):
    server.says(info(contract("AUSDT"), contract("BUSDT")))
    assert judge(server.url).passed
    server.says(info(contract("AUSDT"), contract("BUSDT"), contract("CUSDT")))
    found = judge(server.url)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert found.metadata["sample"].value == ["CUSDT"]
    assert "2 of 3 trading perpetual contracts have a file of 2024-01-10" in found.description


def test_a_refusal_is_a_warning_and_never_a_failure_of_the_run(judge, server):
    server.answer = (451, b"")
    found = judge(server.url)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "HTTP 451" in found.description
