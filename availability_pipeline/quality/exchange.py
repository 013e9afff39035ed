"""What the exchange says it trades: its `exchangeInfo`, asked once and never recorded.

Switched off unless AVAILABILITY_EXCHANGE_INFO_URL is set: the API answers 451 from some countries.
"""

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import urllib3

from availability_pipeline.archive import deadlines

MAX_BYTES = 32 * 1024 * 1024
"""The real answer has about 1 MB."""

_REFUSALS = {
    403: "the request was refused by its firewall",
    418: "this address is banned for asking too often",
    429: "it was asked too often",
    451: "it does not serve this country",
}

PERPETUALS = frozenset({"PERPETUAL", "TRADIFI_PERPETUAL"})
"""Contract types without a delivery date: coins, and stocks and metals (TSLAUSDT, XAUUSDT)."""


class ExchangeError(Exception):
    """The exchange gave no usable answer; the text says what happened, in one line."""


@dataclass(frozen=True, slots=True)
class ExchangeContract:
    """A perpetual contract that the exchange says is trading, and since which UTC date."""

    symbol: str
    onboarded: dt.date


def trading_perpetuals(
    url: str, timeout_seconds: float = 10, max_bytes: int = MAX_BYTES
) -> list[ExchangeContract]:
    """The perpetual contracts in state TRADING, by symbol.

    Args:
        url: of `exchangeInfo`.
        timeout_seconds: for the whole answer.
        max_bytes: a longer answer is refused before it is read.

    Raises:
        ExchangeError: refused, unreachable, too slow, too long, or not what is documented.
    """
    host = urlsplit(url).hostname or "the exchange"
    body = _fetch(url, host, timeout_seconds, max_bytes)
    try:
        symbols = json.loads(body)["symbols"]
        found = [_contract(s) for s in symbols if _trades(s)]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ExchangeError(
            f"{host} answered with something else than exchangeInfo ({type(error).__name__})"
        ) from None
    if not found:
        raise ExchangeError(f"{host} lists no trading perpetual contract")
    return sorted(found, key=lambda c: c.symbol)


def _trades(symbol: dict[str, Any]) -> bool:
    return symbol["contractType"] in PERPETUALS and symbol["status"] == "TRADING"


def _contract(symbol: dict[str, Any]) -> ExchangeContract:
    name, milliseconds = symbol["symbol"], symbol["onboardDate"]
    if not isinstance(name, str) or not isinstance(milliseconds, int):
        raise TypeError("symbol is a text and onboardDate a number of milliseconds")
    since = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=milliseconds)
    return ExchangeContract(name, since.date())


def _fetch(url: str, host: str, timeout_seconds: float, max_bytes: int) -> bytes:
    timeout = urllib3.Timeout(total=timeout_seconds)
    late = ExchangeError(f"{host} gave no answer within {timeout_seconds:g} s")
    with deadlines.within(timeout_seconds) as deadline, urllib3.PoolManager() as pool:
        pool.pool_classes_by_scheme = {
            "http": deadlines.watched(urllib3.HTTPConnectionPool),
            "https": deadlines.watched(urllib3.HTTPSConnectionPool),
        }
        try:
            answer = pool.request(
                "GET", url, timeout=timeout, retries=False, redirect=False, preload_content=False
            )
            try:
                if answer.status != 200:
                    why = _REFUSALS.get(answer.status, "no answer to go by")
                    raise ExchangeError(f"{host} answered HTTP {answer.status}: {why}")
                body = _read(answer, host, max_bytes)
            finally:
                answer.close()
        except urllib3.exceptions.HTTPError as error:
            # A refused connection is a TimeoutError to urllib3, and takes none.
            slow = isinstance(error, urllib3.exceptions.TimeoutError)
            if deadline.late or (
                slow and not isinstance(error, urllib3.exceptions.NewConnectionError)
            ):
                raise late from None
            raise ExchangeError(f"{host} cannot be reached ({type(error).__name__})") from None
    if deadline.late:  # what is there may be cut off
        raise late
    return body


def _read(answer: urllib3.BaseHTTPResponse, host: str, max_bytes: int) -> bytes:
    """The body, not unpacked: no compression was asked for."""
    body = bytearray()
    while chunk := answer.read1(64 * 1024, decode_content=False):
        body += chunk
        if len(body) > max_bytes:
            raise ExchangeError(f"{host} answered with more than {max_bytes:,} bytes")
    return bytes(body)
