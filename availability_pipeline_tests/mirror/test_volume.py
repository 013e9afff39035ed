"""Daily volume is what the files say, each value, and nothing that they do not say.

If this fails, somebody ranks symbols by numbers of another day, another asset or a broken file.
"""

import contextlib
import datetime as dt
import functools
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from availability_pipeline.errors import MissingDatabaseError
from availability_pipeline.mirror import sources, volume
from availability_pipeline.mirror.download import Options
from availability_pipeline.queries import rankings
from availability_pipeline.queries.answers import NotProbedError, UnknownSymbolError
from availability_pipeline.queries.volume import volume as volume_of
from availability_pipeline.record import volumes
from availability_pipeline.record.connection import reader
from availability_pipeline_tests.support import klines, mirrored
from availability_pipeline_tests.support.download_host import Fault, download_host
from availability_pipeline_tests.support.helpers import D, days
from availability_pipeline_tests.support.klines import DAILY, MONTHLY, kline

START, END = D(2024, 1, 1), D(2024, 3, 10)
NOW = dt.datetime(2024, 7, 1, tzinfo=dt.UTC)
JANUARY, FEBRUARY = D(2024, 1, 1), D(2024, 2, 1)


class World:
    """An archive of 1d klines, its record, and the volumes read of it."""

    def __init__(self, host, folder):
        self.host, self.db, self.path = host, folder / "r.duckdb", folder / "volume.duckdb"
        self.values = {}

    def trade(self, symbol, start=START, end=END):
        self.values |= {(symbol, date): kline(symbol, date) for date in days(start, end)}

    def publish(self, *months):
        klines.publish(self.host, self.values, months)

    def probe(self, end=END, at=mirrored.SETTLED):
        mirrored.record(self.db, self.host, start=START, end=end, at=at, datasets=(DAILY, MONTHLY))

    def update(self, market="um", **more):
        return volume.update(
            functools.partial(reader, self.db), self.path, market,
            Options(self.host.url, in_flight=8, timeout_seconds=20, pause_seconds=0),
            now=lambda: NOW, **more,
        )  # fmt: skip

    def rows(self):
        with volumes.reader(self.path) as con:
            names = ", ".join(volumes.NUMBERS)
            found = con.execute(f"SELECT symbol, date, {names} FROM daily_volume").fetchall()
        assert len({row[:2] for row in found}) == len(found)
        return {(symbol, date): klines.Kline(date, *others) for symbol, date, *others in found}

    def sources(self):
        with volumes.reader(self.path) as con:
            found = con.execute("SELECT symbol, date, source, etag FROM daily_volume").fetchall()
        return {(symbol, date): (source, etag) for symbol, date, source, etag in found}

    def asked(self):
        """Files that were fetched since the last time, without CHECKSUMs."""
        asked = [key for key in self.host.asked if not key.endswith(".CHECKSUM")]
        self.host.asked.clear()
        return sorted(asked)


@pytest.fixture
def world(tmp_path):
    with download_host() as host:
        yield World(host, tmp_path)


def test_the_past_comes_from_months_and_the_rest_from_days(world):
    for symbol in ("BTCUSDT", "ETHUSDT"):
        world.trade(symbol)
    world.trade("NEWUSDT", D(2024, 2, 20))
    world.publish(JANUARY, FEBRUARY)
    world.probe()
    done = world.update()
    assert world.rows() == world.values
    assert (done.failed, done.refused, done.rows) == ([], [], len(world.values))
    asked = world.asked()
    months = [key for key in asked if "/monthly/" in key]
    assert len(months) == 5, "of two symbols two, of the new one its first"
    assert len(asked) == 5 + 3 * 10
    assert all(
        source == str(MONTHLY if date < D(2024, 3, 1) else DAILY)
        for (_, date), (source, _) in world.sources().items()
    )


def test_what_was_read_is_not_fetched_again_and_a_new_day_is_one_file(world):
    world.trade("BTCUSDT")
    world.publish(JANUARY, FEBRUARY)
    world.probe()
    world.update()
    world.asked()
    assert world.update().files == 0
    assert world.asked() == []
    world.trade("BTCUSDT", END + dt.timedelta(1), END + dt.timedelta(1))
    world.publish(JANUARY, FEBRUARY)
    world.probe(end=END + dt.timedelta(1))
    assert world.update().dates == {END + dt.timedelta(1)}
    assert world.asked() == [DAILY.key("BTCUSDT", END + dt.timedelta(1))]
    assert world.rows() == world.values


def test_a_replaced_file_is_read_again_whatever_dates_are_asked_for(world):
    """The predecessor fetched missing rows only."""
    world.trade("BTCUSDT")
    world.publish(JANUARY)
    world.probe()
    world.update()
    for date in (D(2024, 2, 3), D(2024, 1, 5)):
        world.values["BTCUSDT", date] = kline("BTCUSDT", date, version=2)
    world.publish(JANUARY)
    world.probe(at=mirrored.SETTLED + dt.timedelta(1))
    world.asked()
    done = world.update(start=END, end=END)
    assert world.rows() == world.values
    assert world.asked() == [
        DAILY.key("BTCUSDT", D(2024, 2, 3)),
        MONTHLY.key("BTCUSDT", JANUARY),
    ]
    assert done.dates == {D(2024, 2, 3), *days(JANUARY, D(2024, 1, 31))}


def broken(what):
    day = kline("BTCUSDT", D(2024, 3, 3))
    row = klines.row(day)
    fields = row.split(",")

    def but(n, value):
        return klines.zipped(",".join([*fields[:n], value, *fields[n + 1 :]]))

    return {
        "not a zip": b"PK\x03\x04 something",
        "cut zip": klines.zipped(row)[:-30],
        "two CSVs": klines.zipped(row, row),
        "no CSV": klines.zipped(),
        "no row": klines.zipped(klines.HEADER),
        "two rows": klines.zipped(row + "\n" + row),
        "header in the middle": klines.zipped(f"{row}\n{klines.HEADER}\n{row}"),
        "another date": klines.file([kline("BTCUSDT", D(2024, 3, 4))]),
        "not midnight": but(0, str(int(fields[0]) + 1)),
        "NaN": but(7, "NaN"),
        "infinite": but(7, "1e999"),
        "negative": but(5, "-1"),
        "underscores": but(5, "1_0"),
        "no number": but(5, ""),
        "high below low": but(2, "0.00000001"),
        "half a trade": but(8, "1.5"),
        "a column too few": klines.zipped(row.rpartition(",")[0]),
        "a large CSV": klines.zipped(row + "\n" * 2**21),
        "trades beyond 64 bits": but(8, "9" * 30),
        "another compression": klines.zipped(row, method=zipfile.ZIP_LZMA),
        "a text file": klines.zipped(row, name="X.txt"),
    }[what]


BROKEN = [
    "not a zip", "cut zip", "two CSVs", "no CSV", "no row", "two rows", "header in the middle",
    "another date", "not midnight", "NaN", "infinite", "negative", "underscores", "no number",
    "high below low", "half a trade", "a column too few", "a large CSV", "a text file",
    "trades beyond 64 bits", "another compression",
]  # fmt: skip


WHOLE = klines.file([kline("BTCUSDT", D(2024, 3, 3))])


@given(
    at=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, len(WHOLE)),
)
def test_whatever_bytes_a_file_has_it_is_read_or_refused(at, cut):
    """An error of another kind would end the update, and the other files would not be read."""
    content = bytearray(WHOLE[:cut] if cut % 3 == 0 else WHOLE)
    for place, byte in at:
        content[place % max(1, len(content)) : place + 1] = bytes([byte])
    with contextlib.suppress(volume.klines.KlineError):
        found = volume.klines.read(bytes(content), DAILY, D(2024, 3, 3))
        assert found == [kline("BTCUSDT", D(2024, 3, 3))]


@pytest.mark.parametrize("what", BROKEN)
def test_a_bad_file_is_named_and_not_taken_and_nothing_earlier_is_lost(world, what):
    world.trade("BTCUSDT", D(2024, 3, 1))
    world.trade("ETHUSDT", D(2024, 3, 1))
    world.publish()
    world.probe()
    world.update()
    key = DAILY.key("BTCUSDT", D(2024, 3, 3))
    world.host.files[key] = broken(what)
    world.trade("ETHUSDT", END + dt.timedelta(1), END + dt.timedelta(1))
    klines.publish(
        world.host, {k: v for k, v in world.values.items() if k != ("BTCUSDT", D(2024, 3, 3))}
    )
    world.probe(end=END + dt.timedelta(1), at=mirrored.SETTLED + dt.timedelta(1))
    done = world.update()
    assert [one.key for one in done.refused] == [key]
    assert world.rows() == world.values, "the day before is there, the rest goes on"
    world.asked()
    assert world.update().refused == [], "until it changes it is not fetched again"
    assert world.asked() == []
    klines.publish(world.host, world.values)
    world.probe(end=END + dt.timedelta(1), at=mirrored.SETTLED + dt.timedelta(2))
    assert world.update().files == 1


def test_a_month_of_seven_days_is_named_and_its_days_are_read(world):
    """binance-public-data#403 and #359."""
    world.trade("BTCUSDT")
    world.publish(JANUARY, FEBRUARY)
    key = MONTHLY.key("BTCUSDT", JANUARY)
    world.host.files[key] = klines.file(
        [kline("BTCUSDT", date) for date in days(JANUARY, D(2024, 1, 7))]
    )
    world.probe()
    done = world.update()
    [refused] = done.refused
    assert refused.key == key
    assert refused.reason == "it lacks 24 of 31 dates that have a daily file (2024-01-08)"
    assert world.rows() == world.values
    assert sum("/daily/" in key for key in world.asked()) == 31 + 10
    assert world.update().files == 0


def test_a_month_with_a_day_that_has_no_daily_file_has_it_all_the_same(world):
    world.trade("BTCUSDT")
    world.publish(JANUARY, FEBRUARY)
    del world.host.files[DAILY.key("BTCUSDT", D(2024, 1, 9))]
    world.probe()
    world.update()
    assert world.rows() == world.values


def test_what_cannot_be_had_is_named_and_tried_again(world):
    world.trade("BTCUSDT", D(2024, 3, 1))
    world.publish()
    world.probe()
    key = DAILY.key("BTCUSDT", D(2024, 3, 3))
    world.host.faults[key] = Fault("status", times=4)
    done = world.update()
    assert [one.key for one in done.failed] == [key]
    assert set(world.rows()) == set(world.values) - {("BTCUSDT", D(2024, 3, 3))}
    world.host.faults.clear()
    assert world.update().files == 1
    assert world.rows() == world.values


def test_a_file_that_is_not_its_checksum_is_not_read(world):
    world.trade("BTCUSDT", D(2024, 3, 1))
    world.publish()
    world.probe()
    key = DAILY.key("BTCUSDT", D(2024, 3, 3))
    world.host.checksums[key] = f"{'0' * 64}  {key.rpartition('/')[2]}\n"
    done = world.update()
    assert [one.key for one in done.failed] == [key]
    assert ("BTCUSDT", D(2024, 3, 3)) not in world.rows()


def test_both_sources_of_a_day_are_kept_and_the_daily_one_is_shown(world):
    world.trade("BTCUSDT", D(2024, 2, 1))
    world.publish()
    world.probe()
    world.update()
    assert {source for source, _ in world.sources().values()} == {str(DAILY)}
    world.publish(FEBRUARY)
    world.probe(at=mirrored.SETTLED + dt.timedelta(1))
    assert world.update().files == 1
    with volumes.reader(world.path) as con:
        [(rows, of_months)] = con.execute(
            "SELECT count(*), count(*) FILTER (monthly) FROM klines"
        ).fetchall()
    assert (rows, of_months) == (29 + 10 + 29, 29)
    assert {source for source, _ in world.sources().values()} == {str(DAILY)}
    assert world.rows() == world.values


def test_a_contract_that_was_settled_is_not_counted_twice(world):
    """The predecessor kept the days under both names."""
    world.trade("XUSDT", D(2024, 2, 1))
    world.publish()
    world.probe()
    world.update()
    moved = {("XUSDTSETTLED", date): day for (_, date), day in world.values.items()}
    world.host.files.clear()
    world.values = moved
    world.trade("XUSDT", END + dt.timedelta(1), END + dt.timedelta(3))
    world.publish(FEBRUARY)
    world.probe(end=END + dt.timedelta(3), at=mirrored.SETTLED + dt.timedelta(1))
    world.update()
    assert world.rows() == world.values


def test_a_file_that_only_vanished_leaves_what_it_said(world):
    world.trade("BTCUSDT", D(2024, 3, 1))
    world.publish()
    world.probe()
    world.update()
    del world.host.files[DAILY.key("BTCUSDT", D(2024, 3, 3))]
    world.probe(at=mirrored.SETTLED + dt.timedelta(1))
    world.update()
    assert world.rows() == world.values


@pytest.mark.parametrize(
    ("market", "symbol", "asset"),
    [("cm", "BTCUSD_PERP", "BTC"), ("spot", "BTCUSDT", "USDT"), ("um", "ETHBTC", "BTC")],
)
def test_the_asset_is_the_one_that_the_column_is_in(world, market, symbol, asset):
    """In cm the seventh column is the base asset's; of spot the times are microseconds by now."""
    daily = sources.daily_of(market)
    first, last = D(2024, 12, 30), D(2025, 1, 3)
    world.trade(symbol, first, last)
    klines.publish(world.host, world.values, daily=daily)
    at = dt.datetime(2025, 6, 1, tzinfo=dt.UTC)
    mirrored.record(world.db, world.host, start=first, end=last, at=at, datasets=(daily,))
    world.update(market=market)
    assert world.rows() == world.values
    with volumes.reader(world.path) as con:
        [row] = rankings(con, last, market=market).dicts()
    assert (row["symbol"], row["quote_asset"], row["share"]) == (symbol, asset, 1.0)


@pytest.mark.parametrize("micro", [False, True])
def test_times_in_milliseconds_and_in_microseconds_are_the_same_day(micro):
    day = kline("BTCUSDT", D(2025, 1, 1))
    assert volume.klines.read(klines.file([day], micro=micro), DAILY, day.date) == [day]


def test_without_volumes_the_answer_says_what_to_do(world, tmp_path):
    with (
        pytest.raises(MissingDatabaseError, match=r"no volumes at .*volume update"),
        volumes.reader(tmp_path / "none.duckdb"),
    ):
        pass
    with volumes.writer(world.path):
        pass
    with (
        volumes.reader(world.path) as con,
        pytest.raises(NotProbedError, match="no volume of um was read yet"),
    ):
        volume_of(con, "BTCUSDT")


def test_a_symbols_days_are_in_order_and_a_wrong_name_has_the_nearest(world):
    world.trade("BTCUSDT", D(2024, 3, 1))
    world.publish()
    world.probe()
    world.update()
    with volumes.reader(world.path) as con:
        found = volume_of(con, "btcusdt", "2024-03-02", "2024-03-04")
        assert [dict(row)["date"] for row in found.dicts()] == days(D(2024, 3, 2), D(2024, 3, 4))
        assert found.rows[0][1:] == world.values["BTCUSDT", D(2024, 3, 2)][1:]
        assert found.notes == ("btcusdt was read as BTCUSDT: symbols are written in upper case",)
        with pytest.raises(UnknownSymbolError, match="did you mean BTCUSDT"):
            volume_of(con, "BTCUSDC")


def test_of_a_symbol_that_has_ended_no_file_is_waited_for(world):
    """Else the newest dates, on which it is pending, would never have shares."""
    world.trade("BTCUSDT")
    world.trade("OLDUSDT", end=D(2024, 2, 10))
    world.trade("LATEUSDT", end=END - dt.timedelta(1))
    world.publish()
    world.probe(at=dt.datetime.combine(END + dt.timedelta(1), dt.time(12), dt.UTC))
    world.update()
    with volumes.reader(world.path) as con:
        lacking = con.execute("SELECT date, quote_asset, files FROM lacking").fetchall()
    assert lacking == [(END, "USDT", 1)], "of LATEUSDT, which may still come"
