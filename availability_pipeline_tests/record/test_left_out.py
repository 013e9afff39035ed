"""Probes that do not list the symbols that ended long ago: they say nothing of them.

`test_model.py` compares all answers at random; these are the cases by name.
"""

import datetime as dt

import pytest

from availability_pipeline import queries
from availability_pipeline.archive.datasets import UM_KLINES_1M
from availability_pipeline.archive.listing import Recorded
from availability_pipeline.errors import ClockWentBackError, RefusedProbeError
from availability_pipeline.record import derived
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.settings import Settings
from availability_pipeline.validation import CompletenessValidator
from availability_pipeline_tests.support.helpers import D, days, flat, make_listing

DAY = dt.timedelta(1)
START, LAST_FILE, SUNDAY = D(2024, 1, 1), D(2024, 1, 20), D(2024, 3, 10)
LIVE = ("AUSDT", "BUSDT", "CUSDT")


def at(date, hour=2):
    return dt.datetime.combine(date, dt.time(hour), dt.UTC)


def archive(until):
    """Three symbols that publish each date, and one that ended."""
    return {name: flat(START, until) for name in LIVE} | {"OLDUSDT": flat(START, LAST_FILE)}


def probe(path, start, end, now, *, without=(), files=None, known=None):
    files = files or archive(end)
    with writer(path) as con:
        known = known or store.recorded(con, leave_out=without)
        listing = make_listing(start, end, files, recorded=known, leave_out=without)
        return store.write_probe(con, listing, probed_at=now, run_id=str(now))


def ended(path):
    with reader(path) as con:
        return derived.ended(con, UM_KLINES_1M)


def statuses(path, symbol="OLDUSDT", start=None, end=None, **others):
    with reader(path) as con:
        found = queries.timeline(con, symbol, start, end, **others)
    return dict(zip(found.column("date"), found.column("status"), strict=True))


def rows(path, sql):
    with reader(path) as con:
        return con.execute(sql).fetchall()


@pytest.fixture
def path(tmp_path):
    """A whole probe up to a Sunday, and then one without the ended symbol of the day after."""
    path = tmp_path / "record.duckdb"
    probe(path, START, SUNDAY, at(SUNDAY + DAY))
    probe(path, SUNDAY + DAY, SUNDAY + DAY, at(SUNDAY + 2 * DAY), without={"OLDUSDT"})
    return path


def test_on_a_date_probed_without_it_a_symbol_is_unknown_and_not_counted(path):
    monday = SUNDAY + DAY
    with reader(path) as con:
        assert queries.counts(con, monday) == {"available": 3, "pending": 0, "absent": 0}
        for status in ("absent", "pending"):
            assert queries.snapshot(con, monday, status=status).rows == []
        [counted] = con.execute(
            "SELECT symbols_probed, expected, available, pending, absent FROM daily_summary "
            "WHERE period = ?", [monday],
        ).fetchall()  # fmt: skip
        assert counted == (3, 3, 3, 0, 0)
        found = queries.timeline(con, "OLDUSDT")
        assert found.rows[-1] == (monday, None, "unknown", None, None), "to the last probed date"
        assert "was not probed" in found.notes[-1]
        assert f"run `binance-availability update manual --date {monday}`" in found.notes[-1]
        universe = queries.universe(con, LAST_FILE, monday)
        assert dict(zip(universe.columns, universe.rows[-1], strict=True))["OLDUSDT"] is None
    views = rows(path, f"SELECT symbol FROM daily_availability WHERE date = '{monday}' ORDER BY 1")
    assert views == [(name,) for name in LIVE]
    assert views == rows(
        path, f"SELECT symbol FROM availability WHERE period = '{monday}' ORDER BY symbol"
    )


def test_a_later_probe_without_it_changes_no_cell_of_it(path):
    """Its absences of Sunday were pending; a week later they would have been confirmed unseen."""
    before = statuses(path, end=SUNDAY)
    assert [before[SUNDAY - n * DAY] for n in range(5)] == ["pending"] * 3 + ["absent"] * 2
    friday = SUNDAY + 5 * DAY
    probe(path, SUNDAY - 20 * DAY, friday, at(friday + DAY), without={"OLDUSDT"})
    assert statuses(path, end=SUNDAY) == before
    assert set(statuses(path, start=SUNDAY + DAY).values()) == {"unknown"}
    with reader(path) as con:
        assert queries.counts(con, SUNDAY) == {"available": 3, "pending": 1, "absent": 0}
        # What is pending for those that ended does not keep the dates from being settled.
        assert queries.coverage(con, friday + DAY)["settled_to"] == friday
    [(probed,)] = rows(
        path,
        "SELECT probe_timestamp FROM daily_availability "
        f"WHERE date = '{SUNDAY}' AND symbol = 'OLDUSDT'",
    )
    assert probed == at(SUNDAY + DAY), "not when the date was probed without it"


def test_its_files_do_not_vanish_and_none_of_its_absences_becomes_a_hole(tmp_path):
    path, hole = tmp_path / "record.duckdb", D(2024, 1, 18)
    files = archive(SUNDAY)
    del files["OLDUSDT"][hole]
    # The hole was probed once, too early to confirm it.
    probe(path, START, hole, at(hole + DAY), files=files)
    probe(path, hole + DAY, SUNDAY, at(SUNDAY + DAY), files=files)
    for n in (9, 10):
        done = probe(
            path,
            START,
            SUNDAY,
            at(SUNDAY + n * DAY),
            without={"OLDUSDT"},
            files=files | {"OLDUSDT": {}},
        )
        assert done.vanished == 0
    assert statuses(path)[hole] == "pending"
    with reader(path) as con:
        assert queries.holes(con).rows == []
        assert queries.listings(con, "OLDUSDT").rows[0][4:8] == (START, LAST_FILE, 19, 0)
    probe(path, START, SUNDAY, at(SUNDAY + 11 * DAY), files=files)
    with reader(path) as con:
        assert [row[:2] for row in queries.holes(con).rows] == [("OLDUSDT", hole)]


def test_a_reconcile_probes_all_its_dates_and_keeps_no_earlier_probe(path):
    probe(path, SUNDAY - DAY, SUNDAY + DAY, at(SUNDAY + 3 * DAY), without={"OLDUSDT"})
    assert rows(path, "SELECT count(*) FROM probes WHERE replaced_at IS NOT NULL") == [(2,)]
    end = SUNDAY + 7 * DAY
    probe(path, START, end, at(end + DAY))
    assert rows(path, "SELECT count(*) FROM probes WHERE replaced_at IS NOT NULL") == [(0,)]
    found = statuses(path)
    assert "unknown" not in found.values()
    assert found[SUNDAY] == "absent"
    assert found[end] == "pending"


def test_one_that_is_listed_again_is_so_over_all_dates(path):
    """Whoever updates one date by hand, or a symbol of the same name is listed: the archive is
    told that a symbol that was left out is behind."""
    tuesday = SUNDAY + 2 * DAY
    done = probe(path, tuesday, tuesday, at(tuesday + DAY))
    assert done.widened == 1
    assert "unknown" not in statuses(path).values()
    probe(path, tuesday + DAY, tuesday + DAY, at(tuesday + 2 * DAY), without={"OLDUSDT"})
    settled = archive(tuesday + 2 * DAY)
    settled["OLDUSDTSETTLED"] = settled.pop("OLDUSDT")
    settled["OLDUSDT"] = flat(tuesday + 2 * DAY, tuesday + 2 * DAY)
    probe(
        path, tuesday + 2 * DAY, tuesday + 2 * DAY, at(tuesday + 3 * DAY), without={"OLDUSDT"},
        files=settled,
    )  # fmt: skip
    with reader(path) as con:
        assert queries.renames(con).rows[0][:5] == (
            "OLDUSDT", "OLDUSDTSETTLED", START, LAST_FILE, 20
        )  # fmt: skip
        assert queries.listings(con, "OLDUSDT").column("state") == ["live"]


def test_a_new_file_of_an_ended_symbol_is_found_by_the_next_reconcile(path):
    back, end = SUNDAY + 3 * DAY, SUNDAY + 7 * DAY
    files = archive(end) | {"OLDUSDT": flat(START, LAST_FILE) | flat(back, end)}
    probe(path, SUNDAY, back, at(back + DAY), without={"OLDUSDT"}, files=files)
    assert statuses(path)[back] == "unknown"
    probe(path, START, end, at(end + DAY), files=files)
    assert statuses(path)[back] == "available"
    assert rows(
        path, "SELECT change, count(*) FROM revisions WHERE symbol = 'OLDUSDT' GROUP BY change"
    ) == [("appeared", 1)], "the dates after were not probed before"
    assert ended(path) == frozenset()


def test_a_symbol_whose_folder_is_gone_is_absent_on_all_dates(path):
    without = {name: files for name, files in archive(SUNDAY + 2 * DAY).items() if name in LIVE}
    probe(
        path, SUNDAY + 2 * DAY, SUNDAY + 2 * DAY, at(SUNDAY + 6 * DAY), without={"OLDUSDT"},
        files=without,
    )  # fmt: skip
    assert set(statuses(path).values()) == {"absent"}
    assert rows(path, "SELECT count(*) FROM revisions WHERE change = 'vanished'") == [(20,)]


def test_weeks_of_probes_leave_an_ended_symbol_ended_and_one_row_of_it(path):
    for week in range(3):
        sunday = SUNDAY + 7 * (week + 1) * DAY
        for date in days(sunday - 5 * DAY, sunday):
            assert ended(path) == {"OLDUSDT"}
            probe(path, date - 20 * DAY, date, at(date + DAY), without=ended(path))
        probe(path, START, sunday, at(sunday + DAY, 5))
        with reader(path) as con:
            assert queries.listings(con, "OLDUSDT").column("state") == ["ended"]
    assert rows(path, "SELECT symbol, until FROM left_out") == [("OLDUSDT", None)]


def test_as_of_any_moment_each_is_what_it_was(tmp_path):
    """One is left out first, then both, one is listed again, and so on."""
    path, files = tmp_path / "record.duckdb", archive(SUNDAY + 9 * DAY)
    files["GONEUSDT"] = flat(START, D(2024, 1, 30))
    both = {"OLDUSDT", "GONEUSDT"}
    moments = {}
    for n, without in enumerate(((), {"OLDUSDT"}, both, both, {"GONEUSDT"}, both, (), both, {})):
        date, start = SUNDAY + n * DAY, START if n == 0 else SUNDAY + (n - 3) * DAY
        probe(path, start, date, at(date + DAY), without=without, files=files)
        with reader(path) as con:
            summary = queries.summary(con).rows
        moments[at(date + DAY)] = [statuses(path, name) for name in sorted(both)], summary
    for moment, (answers, summary) in moments.items():
        assert [statuses(path, name, as_of=moment) for name in sorted(both)] == answers
        with reader(path) as con:
            assert queries.summary(con, as_of=moment).rows == summary
    unknown = [
        [sum(status == "unknown" for status in one.values()) for one in answers]
        for answers, _ in moments.values()
    ]
    assert unknown == [[0, 0], [0, 1], [1, 2], [2, 3], [3, 0], [4, 1], [0, 0], [1, 1], [0, 0]]


def test_who_is_left_out_ended_long_ago_beyond_doubt(tmp_path):
    path, end = tmp_path / "record.duckdb", D(2024, 6, 30)
    settled_to = end - 2 * DAY  # probed three days after it had ended
    long_ago = settled_to - 31 * DAY
    many = {f"L{n}USDT": flat(START, end) for n in range(12)}
    stopped = {f"STOP{n}USDT": flat(START, D(2024, 3, 1)) for n in range(6)}
    files = {
        "OLDUSDT": flat(START, long_ago),
        "MOVEDUSDTSETTLED": flat(START, long_ago - 9 * DAY),
        "LATELYUSDT": flat(START, long_ago + DAY),
        "EMPTYUSDT": {},
    }
    probe(path, START, end, at(end + 2 * DAY), files=many | stopped | files)
    with reader(path) as con:
        states = {row[0]: row[-1] for row in queries.listings(con).rows}
    assert [states[name] for name in ("OLDUSDT", "LATELYUSDT", "EMPTYUSDT")] == ["ended"] * 3
    assert {states[name] for name in stopped} == {"live"}, "an outage"
    assert ended(path) == {"OLDUSDT", "MOVEDUSDTSETTLED"}
    with writer(path) as con:
        con.execute("UPDATE symbols SET whole_at = NULL WHERE symbol = 'OLDUSDT'")
    assert ended(path) == {"MOVEDUSDTSETTLED"}


def test_a_publishing_symbol_cannot_be_left_out(path):
    was = rows(path, "FROM files ORDER BY ALL"), rows(path, "FROM probe_ranges")
    with pytest.raises(RefusedProbeError, match=r"AUSDT did not end, .* nothing was written"):
        probe(path, SUNDAY, SUNDAY, at(SUNDAY + 3 * DAY), without={"AUSDT", "OLDUSDT"})
    assert (rows(path, "FROM files ORDER BY ALL"), rows(path, "FROM probe_ranges")) == was


def test_a_probe_that_another_overtook_cannot_leave_out_what_that_one_listed(tmp_path):
    path = tmp_path / "record.duckdb"
    probe(path, START, SUNDAY, at(SUNDAY + DAY))
    probe(path, SUNDAY + DAY, SUNDAY + DAY, at(SUNDAY + 3 * DAY))
    with pytest.raises(ClockWentBackError, match="if another run wrote meanwhile"):
        probe(path, START, START, at(SUNDAY + 2 * DAY), without={"OLDUSDT"})
    probe(path, START, START, at(SUNDAY + 4 * DAY), without={"OLDUSDT"})


def test_one_that_was_left_out_while_another_listed_it_stays_so_until_the_next(tmp_path):
    """Its archive was told that the symbol needs no more than the range."""
    path = tmp_path / "record.duckdb"
    probe(path, START, SUNDAY, at(SUNDAY + DAY))
    with reader(path) as con:
        before = store.recorded(con)
    probe(path, SUNDAY + DAY, SUNDAY + DAY, at(SUNDAY + 3 * DAY), without={"OLDUSDT"})
    files = archive(SUNDAY) | {"OLDUSDT": flat(START, SUNDAY)}
    probe(path, SUNDAY, SUNDAY, at(SUNDAY + 5 * DAY), files=files, known=before)
    assert statuses(path)[SUNDAY] == "pending"
    with reader(path) as con:
        assert "OLDUSDT" not in store.recorded(con).symbols
        assert "OLDUSDT" in store.recorded(con, leave_out={"OLDUSDT"}).symbols
    probe(path, SUNDAY, SUNDAY, at(SUNDAY + 6 * DAY), files=files)
    assert statuses(path)[SUNDAY] == "available"


def test_a_listing_without_ended_symbols_has_not_shrunk(tmp_path):
    """Each file of the range is of a symbol that ended: none is listed, none is missed."""
    path = tmp_path / "record.duckdb"
    names = [f"OLD{n}USDTSETTLED" for n in range(30)]
    files = {name: flat(START + n * DAY, START + n * DAY) for n, name in enumerate(names)}
    files |= {name: flat(D(2024, 2, 1), D(2024, 6, 30)) for name in LIVE}
    probe(path, START, D(2024, 6, 30), at(D(2024, 7, 10)), files=files)
    assert ended(path) == set(names)
    done = probe(path, START, D(2024, 1, 31), at(D(2024, 7, 11)), files=files, without=names)
    assert (done.vanished, done.rows) == (0, 31 * 33)


def test_a_date_short_of_files_is_not_pending_because_ended_symbols_are(path):
    wednesday = SUNDAY + 3 * DAY
    files = archive(wednesday)
    del files["AUSDT"][SUNDAY]
    probe(path, SUNDAY, wednesday, at(wednesday + 7 * DAY), files=files, without={"OLDUSDT"})
    with CompletenessValidator(path) as validator:
        [short] = validator.get_short_dates(threshold=0.9)
    assert (short.date, short.available, short.pending) == (SUNDAY, 2, 0)


class Told:
    """An archive that keeps what it was told."""

    def __init__(self):
        self.told = None

    def list_range(self, start, end, progress=None, recorded=None, *, leave_out=(), **_):
        self.told = (recorded, frozenset(leave_out))
        return make_listing(start, end, archive(end), recorded=recorded, leave_out=leave_out)


def test_an_update_lists_the_ended_symbols_unless_it_is_told_not_to(path):
    ours, tuesday = Told(), SUNDAY + 2 * DAY
    for ended_too in (False, True):
        store.update(
            path, ours, tuesday, tuesday, now=at(tuesday + (1 + ended_too) * DAY), run_id="r",
            settings=Settings(), ended_too=ended_too,
        )  # fmt: skip
        known = frozenset(LIVE) if ended_too else frozenset({*LIVE, "OLDUSDT"})
        left = frozenset() if ended_too else frozenset({"OLDUSDT"})
        last = tuesday if ended_too else SUNDAY + DAY
        assert ours.told == (Recorded(known, START, last), left)
        assert ("unknown" in statuses(path).values()) is not ended_too
