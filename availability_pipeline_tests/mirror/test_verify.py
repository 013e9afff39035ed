"""A mirror is compared with the record file by file: whole, missing, stale, damaged, foreign.

If this fails, damage on a disk stays unseen, or whole files are fetched for nothing.
"""

import contextlib
import datetime as dt
import json
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from availability_pipeline.archive.datasets import UM_KLINES_1M
from availability_pipeline.cli.main import cli
from availability_pipeline.mirror import manifest
from availability_pipeline.mirror.store import place
from availability_pipeline_tests.support.download_host import Fault, download_host
from availability_pipeline_tests.support.helpers import D
from availability_pipeline_tests.support.mirrored import (
    END,
    MONTHS,
    SETTLED,
    START,
    content,
    publish,
    record,
)
from availability_pipeline_tests.support.s3 import local_archive

LAST = D(2024, 1, 6)


@pytest.fixture
def host():
    with download_host() as found:
        yield found


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "mirror"


@pytest.fixture
def db(tmp_path, monkeypatch, host):
    path = tmp_path / "r.duckdb"
    monkeypatch.setenv("AVAILABILITY_DB", str(path))
    monkeypatch.setenv("AVAILABILITY_DOWNLOAD_URL", host.url)
    monkeypatch.setenv("AVAILABILITY_DOWNLOADS", "4")
    return path


@pytest.fixture
def keys(db, host):
    found = publish(host, "AUSDT", START, LAST)
    record(db, host, end=LAST)
    return found


def run(*words, code=0):
    result = CliRunner().invoke(cli, ["files", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def verified(dest, *more, code=1):
    found = json.loads(run("verify", dest, "--json", *more, code=code).stdout)
    count = found.pop("verified")
    return count, {name: keys for name, keys in found.items() if keys}


def test_a_whole_mirror_is_verified_without_a_request(dest, host, keys):
    run("download", dest)
    host.asked.clear()
    assert verified(dest, code=0) == (6, {})
    assert not host.asked


def test_each_kind_of_wrong_file_is_told_apart(dest, db, host, keys):
    run("download", dest)
    host.files[keys[0]] = content(keys[0], 4000, 2)
    vanished = host.files.pop(keys[5])
    record(db, host, end=LAST, at=SETTLED + dt.timedelta(1), modified={keys[0]: SETTLED})
    (dest / keys[1]).unlink()
    (dest / keys[2]).write_bytes(b"x" * 3000)
    (dest / keys[3]).write_bytes(b"short")
    (dest / "data/readme.txt").write_text("mine")
    assert verified(dest) == (1, {
        "missing": [keys[1]], "stale": [keys[0]], "damaged": keys[2:4],
        "foreign": ["data/readme.txt"], "vanished": [keys[5]],
    })  # fmt: skip
    result = run("verify", dest, "--repair")
    assert "repaired: 4 files fetched" in result.stderr
    assert verified(dest, code=0) == (5, {"foreign": ["data/readme.txt"], "vanished": [keys[5]]})
    assert (dest / keys[5]).read_bytes() == vanished
    assert (dest / ".manifest/damaged" / keys[2]).read_bytes() == b"x" * 3000


def test_a_file_that_cannot_be_repaired_stays_named(dest, host, keys):
    run("download", dest)
    (dest / keys[1]).write_bytes(b"y" * 3000)
    host.faults[keys[1]] = Fault("status", status=404)
    result = run("verify", dest, "--repair", code=1)
    assert f"missing: {keys[1]}" in result.stdout
    assert "1 could not be had" in result.stderr


def test_checksums_are_asked_for_when_wished(dest, host, keys):
    run("download", dest)
    host.asked.clear()
    assert verified(dest, "--checksums", code=0) == (6, {})
    assert set(host.asked) == {f"{key}.CHECKSUM" for key in keys}
    host.checksums[keys[0]] = f"{'0' * 64}  {keys[0].rpartition('/')[2]}\n"
    host.faults[f"{keys[1]}.CHECKSUM"] = Fault("status", status=503)
    assert verified(dest, "--checksums") == (4, {"damaged": [keys[0]], "unproven": [keys[1]]})


def test_an_earlier_version_of_the_same_size_is_stale_by_its_checksum_too(dest, db, host, keys):
    run("download", dest)
    host.files[keys[0]] = content(keys[0], 3000, 2)
    record(db, host, end=LAST, at=SETTLED + dt.timedelta(1), modified={keys[0]: SETTLED})
    assert verified(dest) == (5, {"stale": [keys[0]]})
    assert verified(dest, "--checksums") == (5, {"stale": [keys[0]]})


def test_a_checksum_that_fits_is_not_enough_where_the_record_says_otherwise(dest, host, keys):
    """The archive has replaced the file since the last probe, and another tool fetched it."""
    run("download", dest)
    host.files[keys[0]] = content(keys[0], 3000, 2)
    (dest / keys[0]).write_bytes(host.files[keys[0]])
    assert verified(dest, "--checksums") == (5, {"damaged": [keys[0]]})


@pytest.mark.parametrize("bucket", [False, True])
def test_a_file_without_an_md5_as_etag_is_verified_by_its_row(
    dest, db, host, keys, bucket, monkeypatch
):
    with duckdb.connect(str(db)) as con:
        con.execute("UPDATE files SET etag = NULL WHERE period = ?", [START])
    with contextlib.ExitStack() as stack:
        if bucket:
            server = stack.enter_context(local_archive())
            dest = "s3://mirror/here"
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                monkeypatch.setenv(name, "x")
            monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
            server.client.create_bucket(Bucket="mirror")
        run("download", dest)
        assert verified(dest, code=0) == (6, {})
        # Without its row nothing says what it should be.
        store = place(str(dest))
        for name, _ in list(store.names(manifest.RUNS)):
            store.remove(name)
        assert verified(dest) == (5, {"unproven": [keys[0]]})
        assert verified(dest, "--checksums", code=0) == (6, {})


def test_without_a_selection_all_that_was_downloaded_is_compared(dest, db, host):
    for symbol in ("AUSDT", "BUSDT", "CUSDT"):
        publish(host, symbol, START, LAST)
    record(db, host, end=LAST)
    run("download", dest, "--symbols", "AUSDT")
    run("download", dest, "--symbols", "BUSDT", "--start", "2024-01-05")
    assert verified(dest, code=0) == (8, {})
    count, found = verified(dest, "--symbols", "CUSDT")
    assert (count, len(found["missing"])) == (0, 6)
    # A date that came since belongs to what was asked for.
    publish(host, "AUSDT", D(2024, 1, 7), D(2024, 1, 7))
    record(db, host, end=D(2024, 1, 7), at=SETTLED + dt.timedelta(1))
    _, found = verified(dest)
    assert found == {"missing": [UM_KLINES_1M.key("AUSDT", D(2024, 1, 7))]}


def test_days_that_were_fetched_do_not_become_a_month(dest, db, host):
    publish(host, "AUSDT", START, D(2024, 1, 31))
    record(db, host, end=D(2024, 1, 31))
    run("download", dest)
    publish(host, "AUSDT", START, START, MONTHS, size=93_000)
    publish(host, "AUSDT", D(2024, 2, 1), END)
    publish(host, "AUSDT", D(2024, 2, 1), D(2024, 2, 1), MONTHS, size=87_000)
    record(db, host, at=SETTLED + dt.timedelta(1))
    host.asked.clear()
    run("download", dest)
    fetched = [key for key in host.asked if key.endswith(".zip")]
    assert MONTHS.key("AUSDT", D(2024, 2, 1)) in fetched
    assert MONTHS.key("AUSDT", START) not in fetched
    assert len(fetched) == 11
    assert verified(dest, code=0) == (42, {})


class TestTheCommands:
    def test_download_says_what_it_did(self, dest, host, keys):
        host.faults[keys[0]] = Fault("flip")
        result = run("download", dest, code=1)
        assert "6 files, 18.0 kB" in result.stdout
        assert "5 files fetched and verified (15.0 kB)" in result.stdout
        assert f"kept apart: {dest}/.manifest/damaged/{keys[0]}" in result.stderr
        assert f"not there: {keys[0]}: its content is not what" in result.stderr
        assert "1 file could not be had" in result.stderr
        host.faults.clear()
        found = json.loads(run("download", dest, "--json").stdout)
        assert found["fetched"] == 1
        assert found["already"] == 5
        assert found["failed"] == []

    def test_a_plan_is_printed_in_each_form(self, dest, host, keys, tmp_path):
        result = run("plan")
        assert "6 files, 18.0 kB" in result.stdout
        result = run("plan", "--format", "urls")
        assert result.stdout.split() == [f"{host.url}/{key}" for key in keys]
        assert "6 files" in result.stderr
        lines = run("plan", "--format", "aria2").stdout.splitlines()
        assert lines[1] == f"  out={keys[0]}"
        assert lines[2].startswith("  checksum=md5=")
        rows = json.loads(run("plan", "--format", "json").stdout)
        assert [row["key"] for row in rows] == keys
        assert json.loads(run("plan", "--format", "json", "--symbols", "AUSDT", "--start",
                              "2024-01-07", code=0).stdout) == []  # fmt: skip
        table = run("plan", "--format", "csv").stdout.splitlines()
        assert table[0] == "dataset,symbol,period,key,url,file_size_bytes,etag"
        assert len(table) == 7
        out = tmp_path / "plan.parquet"
        run("plan", "--format", "parquet", "--out", out)
        assert "6 files, 18.0 kB" in run("download", dest, "--plan", out).stdout
        assert verified(dest, "--plan", out, code=0) == (6, {})

    def test_symbols_come_from_a_file_or_the_standard_input(self, db, host, tmp_path):
        for symbol in ("AUSDT", "BUSDT", "CUSDT"):
            publish(host, symbol, START, START)
        record(db, host, end=START)
        (tmp_path / "s.txt").write_text("AUSDT\n\nBUSDT\n")
        result = run("plan", "--symbols-file", tmp_path / "s.txt", "--format", "urls")
        assert len(result.stdout.split()) == 2
        result = CliRunner().invoke(
            cli, ["files", "plan", "--symbols-file", "-", "--format", "urls"], input="CUSDT\n"
        )
        assert result.stdout.count("CUSDT-1m") == 1

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (["plan", "--format", "parquet"], "needs --out"),
            (["plan", "--out", "x"], "say which --format"),
            (["plan", "--symbols", ","], "names none"),
            (["plan", "--start", "2024-01-05", "--end", "2024-01-01"], "swap them"),
            (["plan", "--symbols-file", "/nonexistent"], "does not exist"),
            (["verify", "here", "--csv"], "no CSV"),
            (["download", "ftp://x/y"], "is not a destination"),
            (["download", "s3://key:secret@bucket/x"], "leave credentials out"),
            (["plan", "--dataset", "nothing"], "is not recorded"),
        ],
    )
    def test_bad_input_is_one_line(self, keys, words, reason):
        result = CliRunner().invoke(cli, ["files", *words])
        assert result.exit_code in (1, 2)
        assert reason in result.stderr
        assert "secret" not in result.stderr

    def test_no_file_of_the_record_is_written_over(self, db, keys):
        result = run("plan", "--format", "csv", "--out", db, code=2)
        assert "is the record" in result.stderr

    def test_what_is_no_plan_is_said(self, dest, keys, tmp_path):
        (tmp_path / "no.parquet").write_text("x")
        result = run("download", dest, "--plan", tmp_path / "no.parquet", code=1)
        assert "is not a plan" in result.stderr
        assert not Path(dest).exists()
