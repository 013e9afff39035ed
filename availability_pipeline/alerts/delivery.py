"""Alert targets: whether Apprise knows them, and sending messages to them.

Messages are sent by a child process (this module run as a program) that is killed when its time
is up: a target that hangs, or drips one byte a second for ever, would otherwise keep a thread of
the code server, and in the end all of them. Apprise's own timeout leaves such threads behind.
Addresses reach the child through a pipe, never as arguments, and its stderr is discarded, because
libraries write addresses there.
"""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Literal, TypedDict

from availability_pipeline import extras
from availability_pipeline.masking import mask_target
from availability_pipeline.settings import Settings, SettingsError

TARGET_SECONDS = 10.0
"""How long one target may take for one message; mail servers greet slowly."""

BUDGET_SECONDS = 30.0
"""How long one delivery may take in all; Dagster ends a sensor's evaluation after 60 s."""

Kind = Literal["failure", "success", "info"]

Sending = tuple[str, str, Kind, Sequence[int]]
"""Title, body, kind, and positions among the addresses to send it to."""


def addresses(configured: Settings) -> list[str]:
    """The targets of AVAILABILITY_ALERT_URLS, each one that Apprise can use.

    The first call loads all of Apprise's services, 0.4 s: ask where alerts are sent or defined.

    Raises:
        SettingsError: an address is not one that Apprise knows, or Apprise is not installed; one
            line without the address.
    """
    urls = [url.get_secret_value() for url in configured.alert_urls]
    if urls and (lack := extras.missing("alerts")):
        raise SettingsError(f"AVAILABILITY_ALERT_URLS: {lack}")
    for number, url in enumerate(urls, 1):
        if not _known(url):
            raise SettingsError(
                f"AVAILABILITY_ALERT_URLS: entry {number} of {len(urls)} ({mask_target(url)}) is "
                "not an address that Apprise can use; correct it, see docs/alerts.md for examples"
            )
    return urls


def _known(url: str) -> bool:
    import apprise

    with _silenced():
        return apprise.Apprise.instantiate(url) is not None


@contextmanager
def _silenced() -> Iterator[None]:
    """Apprise logs what it cannot read, and masks only some of it."""
    logger = logging.getLogger("apprise")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class _Order(TypedDict):
    """What the child reads from its stdin."""

    urls: list[str]
    messages: list[tuple[str, str, Kind, list[int]]]
    seconds: float
    budget: float
    journal: int | None


def deliver(
    urls: Sequence[str],
    messages: Sequence[Sending],
    *,
    budget_seconds: float = BUDGET_SECONDS,
    target_seconds: float = TARGET_SECONDS,
    journal: int | None = None,
) -> list[frozenset[int]]:
    """Send messages; never raises for a target's sake and never takes longer than the budget.

    Args:
        urls: Apprise addresses.
        messages: what to send, and to which positions in `urls`.
        budget_seconds: after this all that was not delivered counts as failed.
        target_seconds: the same for one message to one target.
        journal: an open file in which each delivery is noted (see `journal`).

    Returns:
        For each message the positions in `urls` that took it. A target that failed one message
        is not tried again in this call, so that messages keep their order.
    """
    taken: list[frozenset[int]] = [frozenset() for _ in messages]
    order = _Order(
        urls=list(urls),
        messages=[(title, body, kind, list(to)) for title, body, kind, to in messages],
        seconds=target_seconds,
        budget=budget_seconds,
        journal=journal,
    )
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "availability_pipeline.alerts.delivery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=() if journal is None else (journal,),
        )
    except OSError:  # no memory or process left: nothing was delivered
        return taken
    with process:
        try:
            # What it printed before it was killed was delivered.
            out, _ = process.communicate(json.dumps(order).encode(), timeout=budget_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # some services start programs of their own
            out, _ = process.communicate()
    for line in out.decode("utf-8", "replace").splitlines():
        if found := re.fullmatch(r"taken (\d+) (\d+)", line):
            number, position = map(int, found.groups())
            taken[number] |= {position}
    return taken


def _send_all(order: _Order) -> Iterator[tuple[int, int]]:
    """In the child: (number of the message, position of the target) of each that was taken."""
    import apprise

    logging.getLogger("apprise").disabled = True
    targets = [apprise.Apprise(url) for url in order["urls"]]
    for service in (service for target in targets for service in target):
        # Apprise gives up after 4 s and calls it a failure, while the target may well have taken
        # the message: sent again, it would arrive twice.
        for limit in ("socket_connect_timeout", "socket_read_timeout"):
            if (getattr(service, limit, None) or 0) < order["seconds"]:
                setattr(service, limit, order["seconds"])
    usable = set(range(len(targets)))
    pool = ThreadPoolExecutor(max_workers=max(1, len(targets)))
    # The parent kills us at the end of its budget; begin nothing that it would cut off.
    deadline = time.monotonic() + order["budget"] - order["seconds"] - 4
    for number, (title, body, kind, positions) in enumerate(order["messages"]):
        if number and time.monotonic() > deadline:
            return
        calls = {
            pool.submit(
                targets[position].notify,
                body=body,
                title=title,
                notify_type=apprise.NotifyType(kind),
                body_format=apprise.NotifyFormat.TEXT,
            ): position
            for position in usable.intersection(positions)
        }
        # A second more than the target has, so that one that used all of it is not sent it again.
        done = wait(calls, timeout=order["seconds"] + 1).done
        took = {calls[c] for c in done if c.exception() is None and c.result()}
        usable -= set(calls.values()) - took
        yield from ((number, position) for position in sorted(took))


def _main() -> None:
    order: _Order = json.load(sys.stdin)
    for number, position in _send_all(order):
        line = f"taken {number} {position}\n"
        if order["journal"] is not None:
            # A full disk must not keep the other messages from their targets.
            with suppress(OSError):
                os.write(order["journal"], line.encode())
                os.fsync(order["journal"])
        # Whoever started this may have been killed: the rest is sent, and noted, all the same.
        with suppress(BrokenPipeError):
            sys.stdout.write(line)
            sys.stdout.flush()
    # Not sys.exit: it would wait for the threads of hanging targets.
    os._exit(0)


if __name__ == "__main__":
    _main()
