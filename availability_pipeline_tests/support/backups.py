"""A record with backups, and writers that are killed."""

import datetime as dt
import json
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from availability_pipeline.copies import _snapshot, backup
from availability_pipeline.copies.backup import Keep
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support.helpers import D, flat, make_listing

START, END = D(2024, 1, 1), D(2024, 1, 10)


NOW = dt.datetime(2024, 3, 1, 2, tzinfo=dt.UTC)


HOUR = dt.timedelta(hours=1)


ALL = Keep(100, 100, 100)


ROOT = Path(__file__).parents[2]


def write(path, size=100, at=NOW):
    files = {"AUSDT": flat(START, END, size), "龙虾USDT": flat(START, END, size), "EMPTY": {}}
    with writer(path) as con:
        store.write_probe(con, make_listing(START, END, files), probed_at=at, run_id="run")


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "record.duckdb"
    write(path)
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "deep" / "backups"


def make(record, folder, at=NOW, keep=ALL, wait=30):
    return backup.make(record, folder, now=at, keep=keep, wait_seconds=wait)


def sizes(path):
    with duckdb.connect(str(path), read_only=True) as con:
        return con.execute(
            "SELECT DISTINCT file_size_bytes FROM daily_availability WHERE available"
        ).fetchall()


KILLED_WRITER = """
import os, signal, sys
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support.backups import *
from availability_pipeline.record import write
files = {"AUSDT": flat(START, END, 777)}
with writer(sys.argv[1]) as con:
    write.write_probe(con, make_listing(START, END, files), probed_at=NOW + HOUR, run_id="r",
                      accept_shrunken=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_writer(path):
    """Leaves a committed transaction that is only in the write-ahead log."""
    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.with_name(f"{path.name}.wal").stat().st_size > 0


def rewrite(path, **changes):
    """A manifest that says something else, with the right checksum."""
    beside = path.with_suffix(".json")
    said = json.loads(beside.read_text())
    said |= {"sha256": _snapshot.sha256(path), "bytes": path.stat().st_size} | changes
    beside.write_text(json.dumps(said))
