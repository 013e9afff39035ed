"""A copy of a published record: the same bytes, only what is new fetched, and never half of it."""

import base64
import datetime as dt
import hashlib
import ipaddress
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import duckdb
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from availability_pipeline import queries
from availability_pipeline.cli.main import cli
from availability_pipeline.copies import _site, backup, destinations, restore
from availability_pipeline.copies import follow as following
from availability_pipeline.copies import publish as publishing
from availability_pipeline.copies.follow import Followed, cached, follow
from availability_pipeline.copies.publication import LATEST, piece_path
from availability_pipeline.errors import FollowError, ProtectedFileError
from availability_pipeline.record import connection, followed, outputs
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline_tests.support import published
from availability_pipeline_tests.support.download_host import Fault, Host, download_host
from availability_pipeline_tests.support.helpers import (
    PATIENCE,
    D,
    flat,
    make_listing,
    wait_for,
)
from availability_pipeline_tests.support.published import NOON
from availability_pipeline_tests.support.requirements import skip
from availability_pipeline_tests.support.servers import Server
from benchmarks import faults

ROOT = Path(__file__).parents[2]
HOUR = dt.timedelta(hours=1)
START, END = D(2024, 1, 1), D(2024, 1, 20)
SMALL = {"header_bytes": 4096, "piece_bytes": 4096}


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    """Nothing of this machine's user, and no waiting between tries."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(following, "PAUSE_SECONDS", 0)


def probe(path: Path, size: int = 100, at: dt.datetime = NOON, symbols: int = 3) -> None:
    files = {f"S{n}USDT": flat(START, END, size + n) for n in range(symbols)}
    listing = make_listing(START, END, files)
    with writer(path) as con:
        store.write_probe(con, listing, probed_at=at, run_id="run", accept_shrunken=True)


@dataclass
class Site:
    """A record, the folder it is published to, and a server of that."""

    record: Path
    root: Path
    host: Host
    hour: int = 0
    target: Path = field(default=Path())

    def publish(self, **how):
        self.hour += 1
        made = published.publish(self.record, self.root, NOON + self.hour * HOUR, **how)
        self.serve()
        return made

    def serve(self):
        self.host.files = {f"register/{n}": c for n, c in published.content(self.root).items()}

    @property
    def url(self):
        return f"{self.host.url}/register"

    def follow(self, **more) -> Followed:
        more = {"now": NOON, "timeout_seconds": 20} | more
        return follow(more.pop("url", self.url), more.pop("to", self.target), **more)

    def asked(self):
        """What was asked for since the last time, pieces by their hash."""
        found = sorted(key.removeprefix("register/") for key in self.host.asked.elements())
        self.host.asked.clear()
        return found


@pytest.fixture
def site(tmp_path):
    record = tmp_path / "publisher" / "record.duckdb"
    probe(record)
    with download_host() as host:
        made = Site(record, tmp_path / "site", host, target=tmp_path / "me" / "record.duckdb")
        made.publish()
        yield made


def refused(site, error=FollowError, **more):
    """The one line of a follow that must not succeed; the copy is as it was."""
    before = site.target.read_bytes() if site.target.exists() else None
    with pytest.raises(error) as raised:
        site.follow(**more)
    assert (site.target.read_bytes() if site.target.exists() else None) == before
    if before is not None:
        assert symbols(site.target) == 3
    text = str(raised.value)
    assert "\n" not in text
    return text


def symbols(path):
    with reader(path) as con:
        return con.execute("SELECT count(*) FROM symbols").fetchone()[0]


def left(site):
    """What lies beside the copy and is not its marker or lock."""
    known = {site.target.name, f"{site.target.name}.followed", f".{site.target.name}.following"}
    return sorted(path.name for path in site.target.parent.iterdir() if path.name not in known)


# What is fetched


def test_the_copy_is_the_published_file_and_answers(site):
    found = site.follow()
    assert site.target.read_bytes() == site.record.read_bytes()
    assert symbols(site.target) == 3
    assert (found.changed, found.reused_bytes) == (True, 0)
    assert found.fetched_bytes == sum(site.host.served.values())
    assert (found.path, found.url) == (site.target, site.url)
    assert found.last_probe == NOON + HOUR
    assert left(site) == []
    assert site.target.stat().st_mode & 0o777 == 0o600


def test_what_did_not_change_costs_one_file(site):
    site.follow()
    site.asked()
    found = site.follow(now=NOON + HOUR)
    assert site.asked() == [LATEST]
    assert (found.changed, found.fetched_pieces) == (False, 0)
    assert found.fetched_bytes == len(site.host.files[f"register/{LATEST}"])
    assert found.reused_bytes == site.target.stat().st_size
    assert followed.read(site.target).followed_at == NOON + HOUR


def test_a_publication_of_the_same_record_costs_its_manifest_too(site):
    site.follow()
    site.asked()
    before = site.target.stat().st_ino
    site.publish()
    found = site.follow()
    assert [name.partition("/")[0] for name in site.asked()] == [LATEST, "manifests"]
    assert not found.changed
    assert site.target.stat().st_ino == before
    site.follow()
    assert site.asked() == [LATEST]


def test_a_day_later_only_the_new_pieces_are_fetched(site):
    probe(site.record, symbols=300)
    first = site.publish()
    site.follow()
    site.asked()
    probe(site.record, 200, NOON + 24 * HOUR, symbols=300)
    second = site.publish()
    found = site.follow()
    new = set(second.pieces) - set(first.pieces)
    assert 0 < len(new) < len(second.pieces)
    assert {name for name in site.asked() if name.startswith("record/")} == set(
        map(piece_path, new)
    )
    assert site.target.read_bytes() == site.record.read_bytes()
    assert found.fetched_pieces == len(new)
    sizes = {sha256: size for sha256, _, size in second.spans()}
    assert found.reused_bytes == second.bytes - sum(sizes[piece] for piece in new)


def test_what_publish_writes_is_followed(site, tmp_path):
    to = destinations.destination(str(tmp_path / "published"))
    target, form = tmp_path / "me" / "whole.duckdb", publishing.Form()
    publishing.publish(site.record, to, form, now=NOON)
    first = follow(tmp_path / "published", target, now=NOON)
    probe(site.record, 200, NOON + 24 * HOUR)
    done = publishing.publish(site.record, to, form, now=NOON + 24 * HOUR)
    second = follow(tmp_path / "published", target, now=NOON)
    assert (first.changed, second.changed) == (True, True)
    assert second.publication == done.latest.publication
    assert second.reused_bytes > 0
    assert hashlib.sha256(target.read_bytes()).hexdigest() == done.manifest.database.sha256
    question = "FROM files ORDER BY ALL"
    with reader(target) as copy, reader(site.record) as original:
        assert copy.execute(question).fetchall() == original.execute(question).fetchall()
    assert not follow(tmp_path / "published", target, now=NOON).changed


actions = st.lists(
    st.one_of(
        st.tuples(st.just("probe"), st.integers(100, 103), st.integers(1, 40)),
        st.tuples(st.just("again"), st.just(0), st.just(0)),
        st.tuples(st.just("written anew"), st.just(0), st.just(0)),
        st.tuples(st.just("grain"), st.sampled_from([4096, 8192, 65536]), st.just(0)),
    ),
    min_size=1,
    max_size=5,
)


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(actions=actions)
def test_whatever_changes_the_copy_is_the_file_and_nothing_is_fetched_twice(
    tmp_path_factory, actions
):
    """From one publication to the next, also where pieces move or are cut otherwise."""
    folder = tmp_path_factory.mktemp("random")
    record, root, target = folder / "record.duckdb", folder / "site", folder / "me" / "copy.duckdb"
    grain, before = SMALL, set()
    probe(record)
    for n, (action, a, b) in enumerate([("again", 0, 0), *actions]):
        known = True
        if action == "probe":
            probe(record, a, NOON + n * HOUR, b)
        elif action == "written anew":
            with duckdb.connect(str(record), read_only=True) as con:
                connection.write_anew(con, folder / "anew")
            (folder / "anew").replace(record)
        elif action == "grain":
            known = grain["piece_bytes"] == a
            grain = {"header_bytes": 4096, "piece_bytes": a}
        made = published.publish(record, root, NOON + n * HOUR, **grain)
        found = follow(root, target, now=NOON)
        assert target.read_bytes() == record.read_bytes()
        if known:  # else what is the same is in pieces of other sizes
            sizes = {sha256: size for sha256, _, size in made.spans()}
            new = sum(size for sha256, size in sizes.items() if sha256 not in before)
            latest = root / LATEST
            manifest = json.loads(latest.read_bytes())["manifest"]["bytes"]
            assert found.fetched_bytes == latest.stat().st_size + manifest + new
            assert found.reused_bytes == made.bytes - new
        elif action == "grain":
            assert found.fetched_pieces == 0
        before = set(made.pieces)
        beside = {path.name for path in target.parent.iterdir()}
        assert beside == {"copy.duckdb", "copy.duckdb.followed", ".copy.duckdb.following"}


def test_a_folder_is_followed_like_an_address(site):
    found = site.follow(url=site.root)
    assert (found.url, found.changed) == (str(site.root), True)
    assert not site.follow(url=f"file://{site.root}").changed
    assert site.target.read_bytes() == site.record.read_bytes()


@pytest.mark.parametrize("tail", ["/", f"/{LATEST}", "/index.html"])
def test_the_address_of_the_roots_own_files_is_that_of_the_root(site, tail):
    assert site.follow(url=site.url + tail).url == site.url
    assert not site.follow().changed


def test_a_redirect_to_http_is_followed_and_then_not_asked_for_again(site):
    site.host.faults[f"old/{LATEST}"] = Fault("move", where=f"{site.url}/{LATEST}")
    assert site.follow(url=f"{site.host.url}/old").changed
    asked = site.asked()
    assert asked.count(f"old/{LATEST}") == 1
    assert [name for name in asked if name.startswith("old/")] == [f"old/{LATEST}"]


def test_connections_are_kept_open(site, monkeypatch):
    made = []
    connect = _site._Line.connect
    monkeypatch.setattr(_site._Line, "connect", lambda line: (made.append(1), connect(line)))
    site.publish(**SMALL)
    found = site.follow(in_flight=4)
    assert found.fetched_pieces > 15
    assert len(made) <= 5  # the caller's, and one of each thread


def test_a_connection_that_the_server_let_go_of_is_made_again(site):
    site.publish(**SMALL)
    site.host.faults["*"] = Fault("hang up", 3)
    assert site.follow(in_flight=2).changed


# What goes wrong: one line, and the copy as it was


@pytest.fixture
def behind(site):
    """The site is a publication ahead of the copy."""
    site.follow()
    probe(site.record, 200, NOON + 24 * HOUR)
    site.publish()
    return site


FAULTS = {
    "cut": "cut an answer off",
    "reset": "cannot reach",
    "stall": "is too slow: no whole answer in time",
    "drip": "is too slow: no whole answer in time",
    "status": "answers HTTP 503",
    "gzip": "as gzip, which was not asked for",
}


@pytest.mark.parametrize("what", ["latest", "manifest", "pieces"])
@pytest.mark.parametrize(("kind", "line"), FAULTS.items(), ids=FAULTS)
def test_a_fetch_that_fails_leaves_the_copy(behind, what, kind, line, monkeypatch):
    monkeypatch.setattr(_site, "TIMEOUTS", 2)
    names = {
        "latest": f"register/{LATEST}",
        "manifest": "register/manifests/",
        "pieces": "/record/",
    }
    for key in behind.host.files:
        if names[what] in key:
            behind.host.faults[key] = Fault(kind)
    text = refused(behind, timeout_seconds=0.5)
    assert line in text
    behind.host.faults.clear()
    assert behind.follow().changed
    assert behind.target.read_bytes() == behind.record.read_bytes()
    assert left(behind) == []


@pytest.mark.parametrize("kind", ["cut", "reset", "status", "flip"])
def test_a_piece_that_fails_once_is_asked_for_again(behind, kind):
    for key in behind.host.files:
        if "/record/" in key:
            behind.host.faults[key] = Fault(kind, 1)
    assert behind.follow().changed
    assert behind.target.read_bytes() == behind.record.read_bytes()


@pytest.mark.parametrize("what", ["manifests", "record"])
@pytest.mark.parametrize("kind", ["flip", "longer"])
def test_what_is_not_what_was_named_is_not_used(behind, what, kind):
    for key in behind.host.files:
        if f"/{what}/" in key:
            behind.host.faults[key] = Fault(kind)
    text = refused(behind)
    assert ("(SHA-256)" if kind == "flip" else "sends more for") in text


def test_a_server_that_is_not_there(behind):
    with download_host() as gone:
        url = f"{gone.url}/register"
    assert "cannot reach" in refused(behind, to=behind.target.with_name("other"), url=url)


def test_another_site_is_not_a_published_record(site):
    site.host.files = {f"register/{LATEST}": b"<html>"}
    assert "is not of a published record" in refused(site)
    site.host.files = {}
    assert "give the address of a published record's root" in refused(site)
    assert not site.target.exists()


@pytest.mark.parametrize(
    "where",
    ["ftp://example.org/x", "file:///etc/passwd", "http://u:p@example.org/", "http://["],
)
def test_a_redirect_elsewhere_is_not_followed(behind, where):
    behind.host.faults[f"register/{LATEST}"] = Fault("move", where=where)
    text = refused(behind)
    assert "which is not followed" in text
    assert "u:p@" not in text


def test_a_redirect_without_end_ends(behind):
    behind.host.faults["*"] = Fault("move", where=f"{behind.url}/{LATEST}")
    assert f"redirects more than {_site.REDIRECTS} times" in refused(behind)


def test_from_https_nothing_is_redirected_to_http():
    with pytest.raises(FollowError, match="redirects from https to http:"):
        _site.Web("https://example.org", 1)._redirected(
            "https://example.org/a", "http://example.org/x"
        )


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("https://user:secret@example.org/r", "nothing is asked with credentials"),
        ("https://example.org/r?token=secret", "nothing is asked with credentials"),
        ("ftp://example.org/secret@x", "is not a published record's address"),
        ("https:///r", "has no host"),
        ("https://exa mple.org/", "is not an address"),
        ("https://[::1/", "is not a published record's address"),
        ("https://example.org:0/", "is not a published record's address"),
        (f"http://{'a' * 70}.example/", "cannot reach"),
    ],
)
def test_an_address_that_cannot_be_meant(site, url, line):
    text = refused(site, url=url)
    assert line in text
    assert "secret" not in text


def database(site, **changes):
    said = json.loads((site.root / LATEST).read_bytes())["manifest"]["path"]
    return json.loads((site.root / said).read_bytes())["database"] | changes


ABSURD = {
    "more bytes than pieces": {"bytes": 10**9},
    "more than a disk": {"bytes": 10**30},
    "a huge piece": {"piece_bytes": 2**40},
    "a tiny piece": {"piece_bytes": 1},
    "a header beyond the file": {"header_bytes": 2**20},
}


@pytest.mark.parametrize("changes", ABSURD.values(), ids=ABSURD)
def test_sizes_that_cannot_be_are_refused_before_anything_is_fetched(behind, changes):
    published.name(behind.root, NOON + 9 * HOUR, database(behind, **changes))
    behind.serve()
    behind.asked()
    assert "which cannot be; nothing was fetched" in refused(behind)
    assert not [name for name in behind.asked() if name.startswith("record/")]


def test_a_manifest_of_absurd_size_is_not_fetched(behind):
    link = json.loads((behind.root / LATEST).read_bytes())["manifest"]
    published.latest(behind.root, NOON + 9 * HOUR, manifest=link | {"bytes": 2**40})
    behind.serve()
    behind.asked()
    assert "more than any can have" in refused(behind)
    assert behind.asked() == [LATEST]


def test_a_latest_of_absurd_size_is_not_read_on(behind):
    behind.host.files[f"register/{LATEST}"] = b" " * (following.MAX_LATEST_BYTES + 1)
    assert f"sends more for {LATEST}" in refused(behind)


HOSTILE = {
    "a piece that leads out": {"pieces": ["../../../../etc/passwd"]},
    "a piece in upper case": {"pieces": ["A" * 64]},
    "a piece with a line more": {"pieces": ["a" * 64 + "\n"]},
    "markup": {"sha256": "<script>"},
}


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE)
def test_names_that_are_not_hashes_are_refused(behind, changes):
    published.name(behind.root, NOON + 9 * HOUR, database(behind) | {"sha256": "0" * 64} | changes)
    behind.serve()
    assert "that is not as format 1 has it" in refused(behind)


@pytest.mark.parametrize(
    "path", ["../latest.json", "/etc/passwd", "a/../../x", "http://x/y", "a b"]
)
def test_a_manifest_outside_of_the_root_is_refused(behind, path):
    link = json.loads((behind.root / LATEST).read_bytes())["manifest"]
    published.latest(behind.root, NOON + 9 * HOUR, manifest=link | {"path": path})
    behind.serve()
    behind.asked()
    assert "(manifest.path" in refused(behind)
    assert behind.asked() == [LATEST]


@pytest.mark.parametrize("which", ["latest", "manifest"])
@pytest.mark.parametrize("version", [2, 0])
def test_another_format_is_not_guessed_at(behind, which, version):
    if which == "latest":
        published.latest(behind.root, NOON + 9 * HOUR, format=version, new="field")
    else:
        published.name(behind.root, NOON + 9 * HOUR, database(behind), format=version, new="field")
    behind.serve()
    assert f"has format {version} of a published record, this package reads 1" in refused(behind)


@pytest.mark.parametrize(("version", "what"), [(99, "upgrade binance"), (3, "ask who runs it")])
def test_a_record_of_another_schema_is_not_fetched(behind, version, what):
    said = database(behind, schema_version=version, sha256="0" * 64)
    published.name(behind.root, NOON + 9 * HOUR, said)
    behind.serve()
    behind.asked()
    assert what in refused(behind)
    assert len(behind.asked()) == 2


def test_a_manifest_of_another_publication_is_refused(behind):
    published.latest(behind.root, NOON + 9 * HOUR, publication="another")
    behind.serve()
    assert "has a manifest of another publication" in refused(behind)


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-12:00"])
def test_a_time_that_cannot_be_is_refused(behind, when):
    published.latest(behind.root, NOON, published_at=when)
    behind.serve()
    assert "of the year" in refused(behind)


def test_a_publication_earlier_than_the_copy_is_an_old_answer(behind):
    old = dict(behind.host.files)
    probe(behind.record, 300, NOON + 48 * HOUR)
    behind.publish()
    behind.follow()
    behind.host.files = old
    assert "an old answer was kept on the way" in refused(behind)


def test_pieces_that_are_not_the_file_of_the_manifest_are_refused(behind):
    said = database(behind, sha256="0" * 64)
    published.name(behind.root, NOON + 9 * HOUR, said)
    behind.serve()
    assert "not the record that its manifest names (SHA-256)" in refused(behind)
    assert left(behind) == []


# What the record itself holds


def doctored(site, sql):
    with closing(duckdb.connect(str(site.record))) as con:
        con.execute(sql)
    site.publish()


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("CREATE VIEW mine AS SELECT * FROM read_text('/etc/passwd')", "the view mine"),
        ("CREATE SCHEMA s; CREATE VIEW s.availability AS SELECT 1", "the view s.availability"),
        ("CREATE MACRO url_encode(x) AS 1", "the macro url_encode"),
        ("CREATE OR REPLACE VIEW availability AS SELECT 1 AS one", "the view availability"),
        ("UPDATE meta SET value = '99' WHERE key = 'schema_version'", "schema version 99"),
        ("DROP VIEW availability; DROP VIEW daily_availability; DROP TABLE files", "its record"),
    ],
)
def test_a_record_that_is_not_ours_alone_is_refused(behind, sql, what):
    doctored(behind, sql)
    text = refused(behind)
    assert what in text
    assert ".part" not in text
    assert left(behind) == []


@pytest.mark.parametrize("content", [b"SQLite format 3\0" * 4096, b"", b"\0" * 20_000])
def test_a_file_that_is_not_a_record_is_refused(site, tmp_path, content):
    other = tmp_path / "other"
    other.write_bytes(content or b"x")
    published.publish(other, site.root, NOON + 9 * HOUR)
    site.serve()
    assert "is refused: its record is not a DuckDB database" in refused(site)


def test_an_empty_database_is_refused(site, tmp_path):
    duckdb.connect(str(tmp_path / "empty")).close()
    published.publish(tmp_path / "empty", site.root, NOON + 9 * HOUR)
    site.serve()
    assert "has a record that is empty" in refused(site)
    assert not site.target.exists()


# Killed, at the same time, on a full disk

FOLLOW = """
import datetime as dt, sys
from pathlib import Path
from availability_pipeline.copies import follow
follow.PAUSE_SECONDS = 0
now = dt.datetime(2024, 3, 2, tzinfo=dt.UTC)
print(follow.follow(sys.argv[1], Path(sys.argv[2]), now=now, in_flight=1).fetched_pieces)
"""


def process(*args, code=FOLLOW, **more):
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, **more)


@pytest.mark.parametrize("first", [True, False])
def test_a_follow_that_is_killed_leaves_what_the_next_one_uses(site, first):
    if not first:
        site.follow()
    probe(site.record, 200, NOON + 24 * HOUR, symbols=200)
    site.publish()
    before = site.target.read_bytes() if not first else None
    # Of the pieces in their order the fifth never ends.
    with process(site.url, site.target) as killed:
        site.asked()
        asked = []

        def stuck(key):
            if "/record/" in key:
                asked.append(key)
                if len(asked) == 5:
                    site.host.closing.wait(PATIENCE)

        site.host.before = stuck
        wait_for(lambda: len(asked) == 5)
        assert (site.target.read_bytes() if not first else None) == before
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    assert left(site) == [".record.duckdb.part"]
    site.host.before = lambda _: None
    site.asked()
    assert site.follow().changed
    again = {name for name in site.asked() if name.startswith("record/")}
    assert not again & {name.removeprefix("register/") for name in asked[:4]}
    assert site.target.read_bytes() == site.record.read_bytes()
    assert left(site) == []


def test_what_a_killed_follow_left_is_removed_where_it_is_of_no_use(site):
    site.follow()
    (site.target.parent / ".record.duckdb.part").write_bytes(b"half")
    assert not site.follow().changed
    assert left(site) == []


KILLED_IN_PLACE = """
import os, signal, sys
from availability_pipeline.copies import follow
which = sys.argv[3]
def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)
write = follow._Run._write_marker
def written(run, marker):
    write(run, marker)
    killed()
if which == "before the rename":
    follow._Run._write_marker = written
elif which == "before the marker":
    follow._Run._write_marker = killed
else:
    sync, seen = follow.files.sync, []
    def synced(path):
        seen.append(path)
        sync(path) if len(seen) < 2 else killed()
    follow.files.sync = synced
"""


@pytest.mark.parametrize("when", ["before the marker", "before the rename", "after the rename"])
@pytest.mark.parametrize("first", [True, False])
def test_a_kill_while_the_copy_is_put_in_place_leaves_the_old_one_or_the_new(site, when, first):
    if not first:
        site.follow()
        probe(site.record, 200, NOON + 24 * HOUR)
        site.publish()
    before = site.target.read_bytes() if not first else None
    with process(site.url, site.target, when, code=KILLED_IN_PLACE + FOLLOW) as killed:
        pass
    assert killed.returncode == -signal.SIGKILL
    now = site.target.read_bytes() if site.target.exists() else None
    assert now == (site.record.read_bytes() if when == "after the rename" else before)
    if now is not None:
        assert symbols(site.target) == 3
    site.asked()
    site.follow()
    assert not [name for name in site.asked() if name.startswith("record/")]
    assert site.target.read_bytes() == site.record.read_bytes()
    assert left(site) == []


def test_the_second_of_two_follows_is_refused(site):
    waiting, go_on = threading.Event(), threading.Event()

    def wait(key):
        if key.endswith(LATEST) and not waiting.is_set():
            waiting.set()
            go_on.wait(PATIENCE)

    site.host.before = wait
    with process(site.url, site.target) as other:
        assert waiting.wait(PATIENCE)
        assert "another follow to" in refused(site)
        go_on.set()
        other.stdout.read()
    assert other.returncode == 0
    assert not site.follow().changed


LIMITED = """
import resource, signal, sys
sys.dont_write_bytecode = True  # it would be cut off, too
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from availability_pipeline.cli.main import main
sys.argv = ["binance-availability", "follow", sys.argv[1], "--to", sys.argv[2]]
main()
"""


def test_a_limit_on_the_files_size_is_one_line(behind):
    before = behind.target.read_bytes()
    with process(behind.url, behind.target, code=LIMITED, stderr=subprocess.PIPE) as full:
        said = full.stderr.read()
    assert (full.returncode, said.count("\n")) == (2, 1)
    assert "File too large; make room" in said
    assert behind.target.read_bytes() == before
    assert left(behind) == []


def test_a_disk_that_is_too_small_is_found_before_anything_is_fetched(site, tmp_path):
    with faults.small_disk(tmp_path) as disk:
        if disk is None:
            skip("small-disk")
        taken = disk / "taken"
        taken.write_bytes(b"x" * (shutil.disk_usage(disk).free - 100_000))
        site.asked()
        with pytest.raises(FollowError, match=r"has no room for the record: [0-9,]+ bytes"):
            site.follow(to=disk / "record.duckdb")
        assert not [name for name in site.asked() if name.startswith("record/")]
        taken.unlink()
        assert site.follow(to=disk / "record.duckdb").changed


def test_a_folder_that_may_not_be_made(site):
    site.target.parent.mkdir()
    site.target.with_name("file").touch()
    assert "make room or give permission" in refused(
        site, to=site.target.parent / "file" / "record.duckdb"
    )


def test_ctrl_c_ends_at_once_and_keeps_what_came(site):
    site.publish(**SMALL)
    asked = []

    def stuck(key):
        if "/record/" in key:
            asked.append(key)
            if len(asked) > 5:
                site.host.closing.wait(PATIENCE)

    site.host.before = stuck
    with process(site.url, site.target, stderr=subprocess.DEVNULL) as stopped:
        wait_for(lambda: len(asked) > 5)
        stopped.send_signal(signal.SIGINT)
        stopped.wait(PATIENCE)
    assert stopped.returncode == -signal.SIGINT
    assert left(site) == [".record.duckdb.part"]


# Where the copy lies, and that nothing else writes into it


def test_a_file_that_follow_did_not_make_is_never_replaced(site):
    site.target.parent.mkdir()
    probe(site.target)
    text = refused(site, ProtectedFileError)
    assert "is there, and not a copy" in text
    shutil.copy(site.record, site.target.with_name("other"))
    site.follow(to=site.target.with_name("copy"))
    site.target.unlink()
    (site.target.parent / "record.duckdb.turn").unlink()
    site.target.symlink_to(site.target.with_name("other"))
    assert "is there, and not a copy" in refused(site, ProtectedFileError)


def test_a_copy_of_another_record_is_not_replaced(behind):
    assert f"is a copy of {behind.url}" in refused(behind, ProtectedFileError, url=behind.root)


def test_a_copy_that_was_tampered_with_is_mended(behind):
    behind.follow()
    whole = behind.target.read_bytes()
    os.truncate(behind.target, 5000)
    assert behind.follow().changed
    assert behind.target.read_bytes() == whole
    with behind.target.open("r+b") as file:
        file.seek(20_000)
        file.write(b"x" * 100)
    assert behind.follow().changed
    assert behind.target.read_bytes() == whole
    behind.target.unlink()
    assert behind.follow().changed
    followed.beside(behind.target).write_bytes(b"{}")
    assert behind.follow().changed
    assert behind.target.read_bytes() == whole


def test_a_marker_of_nonsense_takes_nothing_but_time(behind):
    path = followed.beside(behind.target)
    said = json.loads(path.read_bytes())
    path.write_text(json.dumps(said | {"pieces": said["pieces"][::-1] * 3, "piece_bytes": 7}))
    assert behind.follow().changed
    assert behind.target.read_bytes() == behind.record.read_bytes()


@pytest.mark.parametrize("suffix", connection.LOG_SUFFIXES)
def test_the_log_of_another_writer_never_reaches_the_new_copy(behind, suffix):
    log = connection.with_suffix(behind.target, suffix)
    log.write_bytes(b"log")
    before = behind.target.read_bytes()
    with pytest.raises(FollowError, match="is of a program that wrote into the copy"):
        behind.follow()
    assert behind.target.read_bytes() == before


def test_who_has_the_old_copy_open_reads_on(behind):
    with reader(behind.target) as con:
        question = "SELECT DISTINCT file_size_bytes FROM files ORDER BY 1"
        before = con.execute(question).fetchall()
        assert behind.follow().changed
        assert con.execute(question).fetchall() == before
    with reader(behind.target) as con:
        assert con.execute(question).fetchall() != before


def test_following_takes_no_lock_away_from_a_reader_of_the_same_process(behind):
    """The copy is read by another process: closing its descriptor here would drop DuckDB's lock."""
    trial = "import duckdb, sys; duckdb.connect(sys.argv[1]).close()"
    with reader(behind.target):
        os.link(behind.target, behind.target.with_name("same"))
        behind.follow()
        held = behind.target.with_name("same")
        with process(held, code=trial, stderr=subprocess.PIPE) as other:
            assert "Could not set lock" in other.stderr.read()


def test_no_writer_of_ours_opens_a_copy(behind, tmp_path):
    line = f"is a copy of {behind.url}, which `binance-availability follow` replaces"
    before = behind.target.read_bytes(), followed.beside(behind.target).read_bytes()
    made = backup.make(behind.record, tmp_path / "b", now=NOON, keep=backup.Keep(), wait_seconds=9)
    link = behind.target.with_name("link")
    link.symlink_to(behind.target)
    for act in (
        lambda: probe(behind.target),
        lambda: probe(link),
        lambda: connection.require_writable(behind.target),
        lambda: restore.put_back(made.path, made.manifest, behind.target, now=NOON),
    ):
        with pytest.raises(ProtectedFileError, match=line):
            act()
    with pytest.raises(ProtectedFileError, match="is a database"):
        outputs.refuse_protected([behind.target])
    with pytest.raises(ProtectedFileError, match="belongs to the database"):
        outputs.refuse_protected([followed.beside(behind.target)])
    assert (behind.target.read_bytes(), followed.beside(behind.target).read_bytes()) == before


@pytest.mark.parametrize(
    "call",
    [
        "update manual --date 2024-01-15",
        "backfill --start 2024-01-01 --end 2024-01-15",
        "slo acknowledge --date 2024-01-05 --reason never",
    ],
)
def test_no_command_writes_into_a_copy(behind, call, monkeypatch, tmp_path):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    before = behind.target.read_bytes()
    done = CliRunner().invoke(cli, [*call.split(), "--db", str(behind.target)])
    assert done.exit_code == 2
    assert f"is a copy of {behind.url}" in done.output
    assert behind.target.read_bytes() == before


def test_two_addresses_never_share_a_copy(tmp_path):
    urls = ["http://a.org/x", "https://a.org/x", "https://a.org/x/y", "https://a.org/x_y",
            "https://a.org:8443/x", "https://a.org", "https://b.org/" + "x" * 200,
            "https://b.org/" + "x" * 201, "/x", "https://a.org/..%2f..%2fetc"]  # fmt: skip
    paths = [cached(url, tmp_path) for url in urls]
    assert len({*paths}) == len(urls)
    for path in paths:
        assert path.parent.parent == tmp_path
        assert len(path.parent.name) < 100
    assert cached("https://A.org/x/", tmp_path) == cached("https://a.org/x/index.html", tmp_path)
    assert paths[1].parent.name.startswith("a.org_x-")


# The command and the notebook


def call(*args):
    return CliRunner().invoke(cli, ["follow", *map(str, args)])


def test_the_command_says_where_the_copy_is_and_how_to_ask_it(site):
    done = call(site.url)
    assert done.exit_code == 0, done.output
    path = cached(site.url, Path(os.environ["XDG_CACHE_HOME"]) / "binance-availability")
    said = f"{path}: brought up to date, a copy of {site.url}, published 2024-03-01"
    assert done.output.startswith(said)
    assert f"AVAILABILITY_DB={path} binance-availability status" in done.output
    assert path.read_bytes() == site.record.read_bytes()
    said = json.loads(call(site.url, "--json").output)
    assert (said["path"], said["changed"], said["fetched_pieces"]) == (str(path), False, 0)


def test_the_command_says_in_one_line_what_went_wrong(behind):
    before = behind.target.read_bytes()
    behind.host.faults["*"] = Fault("status", status=500)
    for args in ([behind.url, "--to", behind.target], ["nowhere"], ["ftp://example.org"],
                 [behind.url, "--to", behind.record]):  # fmt: skip
        done = call(*args)
        assert done.exit_code == 2, args
        assert re.fullmatch("Error: [^\n]+\n", done.output), args
    assert behind.target.read_bytes() == before


def test_status_says_what_it_is_a_copy_of_and_of_when(behind, monkeypatch, tmp_path):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    done = CliRunner().invoke(cli, ["status", "--db", str(behind.target)])
    assert done.exit_code == 0, done.output
    assert f"Copy of   {behind.url}, published 2024-03-01 13:00 UTC, last probe" in done.output
    assert f"`binance-availability follow {behind.url} --to {behind.target}` brings" in done.output
    said = CliRunner().invoke(cli, ["status", "--db", str(behind.target), "--json"])
    answer = json.loads(said.stdout)
    assert answer["copy_of"]["url"] == behind.url
    assert answer["next_step"]["kind"] == "follow"


def test_what_a_copy_does_not_hold_is_to_be_followed_and_not_probed(behind):
    command = f"`binance-availability follow {behind.url} --to {behind.target}` brings"
    with pytest.raises(queries.NotProbedError, match="this is a copy: ") as raised:
        queries.open(behind.target).snapshot(END + 24 * HOUR)
    assert command in str(raised.value)
    asked = ["query", "snapshot", "2024-01-21", "--db", str(behind.target)]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 1
    assert command in done.output
    with pytest.raises(queries.NotProbedError, match="`binance-availability update manual"):
        queries.open(behind.record).snapshot(END + 24 * HOUR)


def test_a_notebook_opens_an_address(site):
    record = queries.open(site.url)
    assert record.listings()["symbol"].tolist() == ["S0USDT", "S1USDT", "S2USDT"]
    site.asked()
    assert queries.open(site.url).path == record.path
    assert site.asked() == [LATEST]
    assert len(queries.open(f"file://{site.root}").listings()) == 3


@pytest.mark.parametrize("kind", ["reset", "status", "flip"])
def test_a_notebook_answers_from_the_copy_where_the_site_does_not(site, kind):
    path = queries.open(site.url).path
    site.host.faults["*"] = Fault(kind)
    with pytest.warns(UserWarning, match="; the copy of") as raised:
        record = queries.open(site.url)
    assert (record.path, len(record.listings())) == (path, 3)
    [warning] = raised
    assert warning.filename == __file__
    assert re.search(r"; the copy of \d{4}-\d\d-\d\d \d\d:\d\d UTC answers, last probe 2024-03-01 "
                     "13:00 UTC", str(warning.message))  # fmt: skip
    assert "\n" not in str(warning.message)


def test_a_notebook_without_a_copy_says_what_went_wrong(site):
    site.host.faults["*"] = Fault("status")
    with pytest.raises(FollowError, match="answers HTTP 503"):
        queries.open(site.url)


def test_another_user_follows_and_asks_without_dagster(site, tmp_path):
    """Another home, nothing of ours in the environment, and no pipeline to import."""
    home = tmp_path / "home of another"
    home.mkdir()
    ours = ("AVAILABILITY_", "DAGSTER_", "XDG_", "PYTHON")
    env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    env |= {"HOME": str(home), "PYTHONPATH": str(tmp_path / "without")}
    for module in ("dagster", "boto3", "botocore", "urllib3"):
        path = tmp_path / "without" / f"{module}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise ImportError('not here')\n")
    program = Path(sys.executable).with_name("binance-availability")

    def run(*args, **more):
        return subprocess.run([program, *args], env=env | more, cwd=home, capture_output=True,
                              text=True, check=False, timeout=PATIENCE)  # fmt: skip

    done = run("follow", site.url)
    assert (done.returncode, done.stderr) == (0, "")
    [path] = (home / ".cache").rglob("record.duckdb")
    assert str(path) in done.stdout
    asked = run("query", "listings", "--csv", AVAILABILITY_DB=str(path))
    assert (asked.returncode, asked.stderr) == (0, "")
    assert [line.split(",")[0] for line in asked.stdout.splitlines()] == [
        "symbol", "S0USDT", "S1USDT", "S2USDT",
    ]  # fmt: skip
    assert not (home / ".dagster").exists()


# TLS and proxies


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Of 127.0.0.1, signed by itself: its file, and its key's."""
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - HOUR)
        .not_valid_after(now + 24 * HOUR)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "certificate").write_bytes(made.public_bytes(pem))
    (folder / "key").write_bytes(key.private_bytes(pem, form, none))
    return folder / "certificate", folder / "key"


@pytest.fixture
def secure(site, certificate):
    """The same site behind TLS: what is asked there is handed on to the host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with relay(site.host, context) as address:
        yield f"https://{address}/register"


class Relay(BaseHTTPRequestHandler):
    """A server before the host: with TLS, or as a proxy."""

    protocol_version = "HTTP/1.1"
    host: Host
    seen: ClassVar[list[tuple[str, str, str | None]]]

    def do_GET(self):
        self.seen.append(("GET", self.path, self.headers.get("Proxy-Authorization")))
        path = re.sub("^http://[^/]+", "", self.path)
        content = self.host.files.get(path.lstrip("/"))
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def do_CONNECT(self):
        self.seen.append(("CONNECT", self.path, self.headers.get("Proxy-Authorization")))
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            pairs = {self.connection: there, there: self.connection}
            while ready := select.select(list(pairs), [], [], PATIENCE)[0]:
                for one in ready:
                    if not (data := one.recv(65536)):
                        self.close_connection = True
                        return
                    pairs[one].sendall(data)

    def log_message(self, *args):
        pass


@contextmanager
def relay(host, context=None):
    handler = type("Handler", (Relay,), {"host": host, "seen": []})
    server = Server(("127.0.0.1", 0), handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # a client that does not trust it
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        address = Address(f"127.0.0.1:{server.server_port}")
        address.seen = handler.seen
        yield address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Address(str):
    seen: list


def test_a_certificate_that_is_trusted_is_needed_for_https(site, secure, certificate, monkeypatch):
    line = "has a certificate that is not good: self-signed certificate"
    assert line in refused(site, url=secure)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    found = site.follow(url=secure)
    assert (found.changed, found.url) == (True, secure)
    assert site.target.read_bytes() == site.record.read_bytes()
    other = {"url": secure.replace("127.0.0.1", "localhost"), "to": site.target.with_name("other")}
    assert "Hostname mismatch" in refused(site, **other)


@pytest.fixture
def proxied(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("login", ["", "me:s%40cret@"])
def test_a_proxy_is_asked_for_the_whole_address(site, proxied, login):
    with relay(site.host) as proxy:
        proxied.setenv("http_proxy", f"http://{login}{proxy}")
        assert site.follow(url="http://register.example/register").changed
        seen = list(proxy.seen)
    assert seen[0][:2] == ("GET", f"http://register.example/register/{LATEST}")
    expected = f"Basic {base64.b64encode(b'me:s@cret').decode()}" if login else None
    assert {one[2] for one in seen} == {expected}


def test_a_proxy_only_passes_tls_on(site, secure, certificate, proxied):
    proxied.setenv("SSL_CERT_FILE", str(certificate[0]))
    with relay(site.host) as proxy:
        proxied.setenv("https_proxy", f"http://me:secret@{proxy}")
        assert site.follow(url=secure, in_flight=2).changed
        seen = list(proxy.seen)
    assert {one[0] for one in seen} == {"CONNECT"}
    assert len(seen) <= 3
    assert f"https://{seen[0][1]}/register" == secure
    proxied.setenv("no_proxy", "127.0.0.1")
    assert not site.follow(url=secure).changed
    with relay(site.host) as gone:
        pass
    proxied.setenv("https_proxy", f"http://me:secret@{gone}")
    proxied.delenv("no_proxy")
    text = refused(site, url=secure)
    assert "cannot reach" in text
    assert "secret" not in text
