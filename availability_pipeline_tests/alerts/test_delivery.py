"""Apprise addresses: which are taken, what reaches a target, and what a bad one cannot do."""

import json
import re
import socketserver
import sys
import threading
from email import message_from_bytes
from email.header import decode_header, make_header
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from availability_pipeline import settings
from availability_pipeline.alerts import delivery
from availability_pipeline.cli.main import cli
from availability_pipeline_tests.support.receiver import SECRET, receiving

DOC = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
ADDRESSES = re.findall(r"^\| [^|]+ \| `([a-z]+://[^`]+)` \|$", DOC, flags=re.MULTILINE)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def send(*urls, **limits):
    message = ("a title", "a body", "failure", range(len(urls)))
    return delivery.deliver(urls, [message], **limits)[0]


def addresses(monkeypatch, text):
    monkeypatch.setenv("AVAILABILITY_ALERT_URLS", text)
    return delivery.addresses(settings.load())


def test_every_address_in_the_docs_is_one_that_apprise_takes(monkeypatch):
    assert len(ADDRESSES) >= 7
    assert addresses(monkeypatch, "\n".join(ADDRESSES)) == ADDRESSES
    assert addresses(monkeypatch, "") == []


def test_addresses_stand_between_commas_or_white_space(monkeypatch):
    mail = "mailto://user:pass@example.org?to=a@example.org,b@example.org"
    text = f" json://a.example,\n{mail}  ntfy://topic ,JSON://b.example; json://c.example;"
    assert addresses(monkeypatch, text) == [
        "json://a.example", mail, "ntfy://topic", "JSON://b.example", "json://c.example"
    ]  # fmt: skip


def test_addresses_are_told_apart_as_apprise_does(monkeypatch):
    """Its own detection is in a module that it does not document; ours has to agree with it."""
    from apprise.utils.parse import parse_urls

    for text in (
        "json://a,json://b",
        "json://a?x=1,2;3 json://b",
        "json://a , ;\t json://b/c?d=e,",
    ):
        theirs = [url.rstrip(" ,;") for url in parse_urls(text)]
        assert addresses(monkeypatch, text) == theirs


def test_without_addresses_apprise_need_not_be_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)  # as if it were not installed
    assert addresses(monkeypatch, "") == []
    with pytest.raises(settings.SettingsError, match=r"pip install 'binance-availability\[alerts"):
        addresses(monkeypatch, "json://ok.example")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (SECRET, "entry 1 of 1 (****) has no scheme"),
        (f"json://ok.example nosuch://{SECRET}@x/{SECRET}", "entry 2 of 2 (nosuch://****)"),
        (f"slack://{SECRET}", "entry 1 of 1 (slack://****)"),
        (f"json://{SECRET}:{SECRET}@", "entry 1 of 1 (json://****)"),
        (f"https://example.org/{SECRET}", "entry 1 of 1 (https://****)"),
        (f"{SECRET} json://ok.example", "entry 1 of 2 (****) has no scheme"),
    ],
)
def test_a_bad_address_is_refused_in_one_line_without_its_secret(
    monkeypatch, capfd, caplog, value, words
):
    with pytest.raises(settings.SettingsError) as caught:
        addresses(monkeypatch, value)
    text = str(caught.value)
    assert text.startswith("AVAILABILITY_ALERT_URLS: ")
    assert words in text
    assert "\n" not in text
    said = "".join([text, *capfd.readouterr(), caplog.text])
    assert SECRET not in said


def test_a_message_reaches_a_webhook_with_title_body_and_kind():
    with receiving() as receiver:
        assert send(receiver.url) == {0}
    [got] = receiver.log
    assert (got["title"], got["message"], got["type"]) == ("a title", "a body", "failure")


def test_a_hanging_target_and_an_endless_answer_keep_nothing_from_the_others():
    """Apprise's own time-out leaves a thread behind for each; ours end with their process."""
    with receiving() as hangs, receiving() as drips, receiving() as good:
        hangs.mode, drips.mode = "hang", "drip"
        urls = [hangs.url, drips.url, good.url]
        messages = [(f"title {n}", "body", "failure", range(3)) for n in range(3)]
        before = threading.active_count()
        taken = delivery.deliver(urls, messages, budget_seconds=300, target_seconds=10)
        assert taken == [{2}, {2}, {2}]
        assert good.titles == ["title 0", "title 1", "title 2"]
        assert hangs.asked == 1, "not asked again in the same delivery"
        assert threading.active_count() <= before + 6, "only the servers' own threads"


def test_what_was_taken_before_the_time_was_up_counts_as_delivered():
    with receiving() as hangs, receiving() as good:
        hangs.mode = "hang"
        messages = [("one", "body", "failure", [1]), ("two", "body", "failure", [0])]
        urls = [hangs.url, good.url]
        taken = delivery.deliver(urls, messages, budget_seconds=8, target_seconds=60)
        assert taken[1] == set()
        assert good.titles in (["one"], []), "nothing twice"
        assert taken[0] == ({1} if good.titles else set())


def test_a_target_that_nobody_listens_at_and_one_that_refuses_are_failures():
    with receiving() as refuses:
        refuses.mode = "refuse"
        assert send("json://127.0.0.1:9", refuses.url) == set()
        assert refuses.asked == 1


class FakeMailServer(socketserver.StreamRequestHandler):
    """Takes one mail, as little of SMTP as that needs."""

    mails: ClassVar[list[bytes]] = []

    def handle(self):
        self.wfile.write(b"220 fake\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                mail = b""
                while (line := self.rfile.readline()) != b".\r\n":
                    mail += line
                self.mails.append(mail)
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


def test_a_mail_arrives(monkeypatch):
    FakeMailServer.mails.clear()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), FakeMailServer) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        port = server.server_address[1]
        url = f"mailto://127.0.0.1:{port}?from=us@example.org&to=you@example.org&mode=insecure"
        assert send(*addresses(monkeypatch, url)) == {0}
        server.shutdown()
    [mail] = map(message_from_bytes, FakeMailServer.mails)
    assert str(make_header(decode_header(mail["Subject"]))) == "a title"
    assert "you@example.org" in mail["To"]


def test_alerts_test_tells_which_targets_took_the_message(monkeypatch):
    with receiving() as good, receiving() as refuses:
        refuses.mode = "refuse"
        monkeypatch.setenv("AVAILABILITY_ALERT_URLS", f"{good.url}, {refuses.url}")
        done = CliRunner().invoke(cli, ["alerts", "test", "--json"])
        assert done.exit_code == 1
        assert "1 of 2 targets did not take the message" in done.stderr
        assert json.loads(done.stdout) == [
            {"number": 1, "target": "json://****", "result": "ok"},
            {"number": 2, "target": "json://****", "result": "failed"},
        ]
        monkeypatch.setenv("AVAILABILITY_ALERT_URLS", good.url)
        done = CliRunner().invoke(cli, ["alerts", "test"])
        assert done.exit_code == 0
        assert "json://****" in done.stdout
        assert SECRET not in done.output
        assert [m["type"] for m in good.log] == ["info", "info"]


def test_alerts_test_without_targets_says_what_to_set(monkeypatch):
    monkeypatch.delenv("AVAILABILITY_ALERT_URLS", raising=False)
    done = CliRunner().invoke(cli, ["alerts", "test"])
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: AVAILABILITY_ALERT_URLS is not set")


def test_a_target_that_takes_five_seconds_gets_the_message_once():
    """Apprise alone gives up after 4 s, and what it calls failed would be sent again."""
    with receiving() as receiver:
        receiver.mode, receiver.seconds = "slow", 5
        assert send(receiver.url) == {0}
        assert len(receiver.log) == 1
