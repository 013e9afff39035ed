"""The checks of the published site: is it current, is it whole."""

import datetime as dt
import shutil

import pytest

from availability_pipeline import settings
from availability_pipeline.archive.datasets import UM_KLINES_1M
from availability_pipeline.copies import publish, standing
from availability_pipeline.copies.destinations import destination
from availability_pipeline.errors import ExportError
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support.helpers import flat
from availability_pipeline_tests.support.several import (
    END,
    FUNDING,
    SETTLED,
    START,
    write_dataset,
    write_three,
)

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(1)


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "record.duckdb"
    write_three(path)
    return path


@pytest.fixture
def limits(tmp_path, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_SITE_URL", str(tmp_path / "site"))
    return settings.load()


def run(record, limits, at=SETTLED):
    to = destination(limits.site_url)
    return publish.publish(record, to, publish.Form(), now=at, wait_seconds=30)


def current(record, limits, now):
    with reader(record) as con:
        return standing.current(con, limits, now)


def test_what_was_never_published_is_a_breach_two_hours_after_the_probe(record, limits):
    found = current(record, limits, SETTLED + 2 * HOUR)
    assert (found.passed, found.note) == (True, "never published")
    found = current(record, limits, SETTLED + 3 * HOUR)
    assert (found.breached, found.count) == (True, 3)
    assert f"{FUNDING}: published up to nothing, recorded up to 2024-01" in found.sample
    assert standing.whole(limits, SETTLED).note == "nothing is published yet"


def test_a_date_that_is_not_published_two_hours_later_is_a_breach(record, limits):
    run(record, limits)
    assert current(record, limits, SETTLED + 9 * DAY).passed
    day = END + DAY
    files = {name: flat(START, day) for name in ("BTCUSDT", "AUSDT", "BUSDT")}
    write_dataset(record, UM_KLINES_1M, files, day, day, SETTLED + DAY)
    assert current(record, limits, SETTLED + DAY + HOUR).passed
    found = current(record, limits, SETTLED + DAY + 3 * HOUR)
    assert found.breached
    assert found.sample == (
        f"{UM_KLINES_1M}: published up to 2024-01-20, recorded up to 2024-01-21",
    )
    run(record, limits, SETTLED + DAY)
    assert current(record, limits, SETTLED + DAY + 3 * HOUR).passed


def test_a_date_that_was_probed_again_a_moment_ago_is_still_due(record, limits):
    """The look-back of 09:00 probes the last twenty dates again, and the check is at 09:30."""
    run(record, limits)
    day = END + DAY
    files = {name: flat(START, day) for name in ("BTCUSDT", "AUSDT", "BUSDT")}
    write_dataset(record, UM_KLINES_1M, files, day, day, SETTLED + DAY)
    again = SETTLED + DAY + 7 * HOUR
    write_dataset(record, UM_KLINES_1M, files, START, day, again)
    assert current(record, limits, again + HOUR / 2).breached


def test_files_are_there_and_some_are_read_others_each_day(record, limits, tmp_path, monkeypatch):
    done = run(record, limits)
    monkeypatch.setattr(standing, "FILES_A_DAY", 5)
    found = standing.whole(limits, SETTLED)
    assert found.passed
    # All but latest.json, the manifest and the mark that the place is ours.
    there = [p for p in (tmp_path / "site").rglob("*") if p.is_file() and p.name[0] != "."]
    assert found.note == f"{len(there) - 2} files, 5 of them read"
    # One byte of one file: of size and time nothing tells.
    bad = tmp_path / "site" / done.latest.documents.datasets
    content = bytearray(bad.read_bytes())
    content[9] ^= 1
    bad.write_bytes(content)
    days = [SETTLED + n * DAY for n in range(200)]
    missed = [day for day in days if standing.whole(limits, day).passed]
    assert 0 < len(missed) < len(days)
    # What is missing is found each day.
    shutil.rmtree(tmp_path / "site" / "record")
    found = standing.whole(limits, missed[0])
    assert found.breached
    assert found.count == len(set(done.manifest.database.pieces))


def test_a_site_that_cannot_be_read_is_one_line(record, limits, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "latest.json").write_text("{}", encoding="utf-8")
    for judge in (
        lambda: current(record, limits, SETTLED),
        lambda: standing.whole(limits, SETTLED),
    ):
        with pytest.raises(ExportError, match=r"latest.json that is not ours"):
            judge()
