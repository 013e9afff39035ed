"""The published record. Breaking it hands a wrong record, or half of one, to everybody else."""

import datetime as dt
import hashlib
import json
import os
import re
import shutil
import threading
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import boto3
import duckdb
import hypothesis
import jsonschema
import pytest
from hypothesis import strategies as st

from availability_pipeline import queries
from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.copies import destinations, publish
from availability_pipeline.copies.destinations import Folder, destination
from availability_pipeline.copies.follow import follow
from availability_pipeline.copies.publication import Latest, Manifest, is_hashed, piece_path
from availability_pipeline.copies.publish import KEEP_DAYS, Form
from availability_pipeline.errors import ExportError, ProtectedFileError
from availability_pipeline.quality.acknowledgements import acknowledge
from availability_pipeline.record.connection import reader, writer
from availability_pipeline.record.status import recorded_datasets, scope
from availability_pipeline_tests.support.helpers import D, flat
from availability_pipeline_tests.support.s3 import local_archive, own_bucket
from availability_pipeline_tests.support.several import (
    END,
    FUNDING,
    SETTLED,
    SHARED,
    START,
    TRADES,
    by_month,
    write_dataset,
    write_three,
)

NOW = dt.datetime(2024, 3, 2, 2, 3, 4, 567_891, tzinfo=dt.UTC)
DAY = dt.timedelta(1)


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "record.duckdb"
    write_three(path)
    return path


@pytest.fixture
def site(tmp_path):
    return tmp_path / "site"


def run(record, site, at=NOW, form=Form(), again=()):  # noqa: B008 - frozen
    to = site if isinstance(site, destinations.Destination) else destination(str(site))
    return publish.publish(record, to, form, now=at, wait_seconds=30, again=again)


def one_more(record, day=END + DAY, at=None, size=100):
    """Another date of the klines, on which BUSDT has no file."""
    files = {SHARED: flat(START, day, size), "AUSDT": flat(START, day, size),
             "BUSDT": flat(START, END)}  # fmt: skip
    write_dataset(record, UM_KLINES_1M, files, day, day, at or SETTLED + DAY)


def everything(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in Path(folder).rglob("*")
        if p.is_file() and not p.name.startswith(".")
    }


def whole(folder):
    """The newest publication, every file of it read and compared with its hash."""
    latest = Latest.model_validate_json((folder / "latest.json").read_bytes())
    text = (folder / latest.manifest.path).read_bytes()
    assert hashlib.sha256(text).hexdigest() == latest.manifest.sha256
    manifest = Manifest.model_validate_json(text)
    require(folder, manifest)
    return latest, manifest


def require(folder, manifest):
    """All hashed files of a publication are there, and the pieces are the file."""
    for file in manifest.files:
        if is_hashed(file.path):
            content = (folder / file.path).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)
    content = b""
    for sha256, start, size in manifest.database.spans():
        piece = (folder / piece_path(sha256)).read_bytes()
        assert (len(content), len(piece)) == (start, size)
        content += piece
    assert hashlib.sha256(content).hexdigest() == manifest.database.sha256
    assert len(content) == manifest.database.bytes
    return content


def document(folder, name):
    return json.loads((folder / name).read_bytes())


def rows(record, sql, *args):
    with reader(record) as con:
        return con.execute(sql, args).fetchall()


class TestContents:
    def test_the_pieces_are_the_record(self, record, site, tmp_path):
        run(record, site)
        _, manifest = whole(site)
        copy = tmp_path / "copy.duckdb"
        copy.write_bytes(require(site, manifest))
        sql = "SELECT * FROM availability ORDER BY ALL"
        assert rows(copy, sql) == rows(record, sql)
        assert (site / "record.duckdb").read_bytes() == copy.read_bytes()
        assert manifest.snapshot
        assert manifest.snapshot.sha256 == manifest.database.sha256

    def test_symbols_are_what_the_questions_answer(self, record, site):
        run(record, site)
        with reader(record) as con:
            for dataset in recorded_datasets(con):
                found = document(site, f"{dataset}/symbols.json")["symbols"]
                assert found == {
                    row["symbol"]: {
                        "contract_type": row["contract_type"],
                        "quote_asset": row["quote_asset"],
                        "first": dataset.text(row["first_available"]),
                        "last": dataset.text(row["last_available"]),
                        "files": row["days_available"],
                        "holes": row["hole_days"],
                        "state": row["state"],
                    }
                    for row in queries.listings(con, dataset=dataset).dicts()
                }
        assert document(site, f"{FUNDING}/symbols.json")["symbols"][SHARED]["first"] == "2022-11"

    def test_holes_are_runs_of_those_that_the_questions_answer(self, record, site):
        run(record, site)
        trades = document(site, f"{TRADES}/holes.json")["holes"]
        assert trades == [
            {"symbol": SHARED, "first": "2024-01-07", "last": "2024-01-08", "periods": 2}
        ]
        months = document(site, f"{FUNDING}/holes.json")["holes"]
        assert months == [{"symbol": SHARED, "first": "2023-06", "last": "2023-06", "periods": 1}]
        with reader(record) as con:
            for dataset in recorded_datasets(con):
                told = {
                    (run["symbol"], period)
                    for run in document(site, f"{dataset}/holes.json")["holes"]
                    for period in dataset.periods(
                        dataset.parse_period(run["first"]), dataset.parse_period(run["last"])
                    )
                }
                asked = queries.holes(con, dataset=dataset).rows
                assert told == {(symbol, date) for symbol, date, _ in asked}

    def test_unknown_pending_and_absent_are_three_things(self, record, site):
        """A date that was never probed, and one that was probed too early."""
        late = END + 3 * DAY
        files = {name: flat(START, END) for name in (SHARED, "AUSDT", "BUSDT")}
        write_dataset(record, UM_KLINES_1M, files, late, late,
                      dt.datetime(2024, 1, 24, 2, tzinfo=dt.UTC))  # fmt: skip
        run(record, site)
        days = document(site, f"{UM_KLINES_1M}/days.json")
        assert (days["first"], len(days["states"])) == ("2024-01-01", 23)
        assert days["states"][-3:] == "uup"
        assert days["available"][-3:] == [None, None, 0]
        assert days["pending"][-3:] == [None, None, 3]
        assert days["absent"][4] == 1  # the hole of January 5
        assert days["states"][4] == "s"
        assert days["states"][5] == "c"
        entry = document(site, "datasets.json")["datasets"][0]
        assert (entry["last"], entry["last_settled"], entry["pending"]) == (
            "2024-01-23", "2024-01-20", 3,
        )  # fmt: skip

    def test_days_are_what_the_summary_says(self, record, site):
        run(record, site)
        with reader(record) as con:
            for dataset in recorded_datasets(con):
                t = scope(con, dataset)
                days = document(site, f"{dataset}/days.json")
                told = con.execute(
                    "SELECT available, expected, pending, absent, bytes "
                    f"FROM {t.summary} ORDER BY date"
                ).fetchall()
                names = ("available", "expected", "pending", "absent", "bytes")
                assert told == list(zip(*(days[name] for name in names), strict=True))

    def test_states_are_those_of_the_threshold_that_is_said(self, record, site):
        run(record, site)
        days = document(site, f"{UM_KLINES_1M}/days.json")
        assert (days["threshold"], days["states"][4]) == (0.95, "s")  # 2 of 3 files
        run(record, site, form=Form(threshold=0.6))
        days = document(site, f"{UM_KLINES_1M}/days.json")
        assert (days["threshold"], days["states"][4]) == (0.6, "m")

    def test_revisions_are_those_that_changes_answers(self, record, site):
        one_more(record, size=100)
        replaced = {SHARED: flat(START, END + DAY, 777), "AUSDT": flat(START, END + DAY),
                    "BUSDT": flat(START, END)}  # fmt: skip
        write_dataset(record, UM_KLINES_1M, replaced, END, END + DAY, SETTLED + 2 * DAY)
        run(record, site)
        found = document(site, f"{UM_KLINES_1M}/revisions.json")
        names = ("change", "symbol", "period", "new_size")
        assert [tuple(one[name] for name in names) for one in found["revisions"]] == [
            ("replaced", SHARED, "2024-01-21", 777), ("replaced", SHARED, "2024-01-20", 777),
        ]  # fmt: skip
        assert found["left_out"] == 0
        [group] = found["groups"]
        assert (group["files"], group["symbols"], group["first"], group["last"]) == (
            2, 1, "2024-01-20", "2024-01-21",
        )  # fmt: skip
        # All of them, those of the usual time too, as Parquet.
        files = document(site, f"{UM_KLINES_1M}/files.json")
        path = site / files["revisions"]["path"]
        assert duckdb.sql(f"SELECT count(*) FROM '{path}'").fetchall() == [(2,)]
        assert files["revisions"]["rows"] == 2
        assert document(site, f"{TRADES}/files.json")["revisions"] is None

    def test_what_is_left_out_of_the_revisions_is_counted(self, record, site, monkeypatch):
        monkeypatch.setattr("availability_pipeline.copies.documents.MOST_REVISIONS", 3)
        files = {SHARED: flat(START, END, 7), "AUSDT": flat(START, END), "BUSDT": flat(START, END)}
        write_dataset(record, UM_KLINES_1M, files, START, END, SETTLED + DAY)
        run(record, site)
        found = document(site, f"{UM_KLINES_1M}/revisions.json")
        assert (len(found["revisions"]), found["left_out"]) == (3, 16)
        assert [(g["change"], g["files"]) for g in found["groups"]] == [("replaced", 19)]

    def test_parquet_has_each_file_once_by_year_and_month(self, record, site):
        run(record, site)
        for entry in document(site, "datasets.json")["datasets"]:
            files = document(site, f"{entry['dataset']}/files.json")["files"]
            paths = [str(site / one["path"]) for one in files]
            told = duckdb.execute(
                "SELECT symbol, period, file_size_bytes, last_modified, etag, recorded_at "
                "FROM read_parquet($1, hive_partitioning = false) ORDER BY ALL", [paths],
            ).fetchall()  # fmt: skip
            asked = rows(
                record,
                """SELECT symbol, period, file_size_bytes, last_modified,
                    replace(etag::VARCHAR, '-', ''), recorded_at FROM files
                WHERE dataset = (SELECT id FROM datasets
                    WHERE concat_ws('/', market, frequency, data_type, interval) = ?)
                ORDER BY ALL""",
                entry["dataset"],
            )
            assert told == asked
            assert len(told) == entry["files"] == sum(one["rows"] for one in files)
            periods = [one["first"] for one in files] + [files[-1]["last"]]
            assert periods == sorted(periods)
            dataset = Dataset.parse(entry["dataset"])
            assert (periods[0], periods[-1]) == (
                dataset.text(min(row[1] for row in told)),
                dataset.text(max(row[1] for row in told)),
            )  # fmt: skip
            for one, path in zip(files, paths, strict=True):
                assert duckdb.execute(
                    "SELECT min(period), max(period), count(*) "
                    "FROM read_parquet($1, hive_partitioning = false)", [path],
                ).fetchall() == [
                    (dataset.parse_period(one["first"]), dataset.parse_period(one["last"]),
                     one["rows"])
                ]  # fmt: skip
        names = {p.rpartition("/")[0] for p in everything(site) if p.endswith(".parquet")}
        assert names == {
            f"{UM_KLINES_1M}/files/year=2024/month=01", f"{TRADES}/files/year=2024/month=01",
            *(f"{FUNDING}/files/year={year}" for year in (2022, 2023, 2024)),
        }  # fmt: skip

    def test_every_dataset_of_a_symbol_is_in_its_shard(self, record, site):
        run(record, site)
        index = document(site, "symbols.json")
        assert index["symbols"] == sorted(["AUSDT", "BUSDT", SHARED, "CUSDT"])
        number = index["symbols"].index(SHARED) // index["per_file"]
        found = document(site, index["files"][number])["symbols"][SHARED]
        assert found == {
            str(dataset): {
                name: value
                for name, value in document(site, f"{dataset}/symbols.json")["symbols"][
                    SHARED
                ].items()
                if name in ("first", "last", "files", "holes", "state")
            }
            for dataset in (UM_KLINES_1M, FUNDING, TRADES)
        }

    def test_a_symbol_without_any_file_is_recorded_too(self, record, site):
        """The page of a symbol says of others that they are not recorded."""
        files = {SHARED: flat(START, END), "AUSDT": flat(START, END), "BUSDT": flat(START, END),
                 "EMPTYUSDT": {}}  # fmt: skip
        write_dataset(record, UM_KLINES_1M, files, END, END, SETTLED + DAY)
        run(record, site)
        index = document(site, "symbols.json")
        shard = index["files"][index["symbols"].index("EMPTYUSDT") // index["per_file"]]
        assert document(site, shard)["symbols"]["EMPTYUSDT"] == {
            str(UM_KLINES_1M): {
                "first": None, "last": None, "files": 0, "holes": 0, "state": "live",
            }
        }  # fmt: skip
        # Counted are those with files, as in the report: no more are live than there are.
        [entry] = [
            one
            for one in document(site, "datasets.json")["datasets"]
            if one["dataset"] == str(UM_KLINES_1M)
        ]
        assert (entry["symbols"], entry["live"]) == (3, 3)

    def test_an_acknowledged_hole_is_shown_with_its_reason(self, record, site):
        with writer(record) as con:
            acknowledge(con, [D(2024, 1, 5)], reason="<b>never came</b>", at=NOW, symbols=[SHARED])
        run(record, site)
        assert document(site, f"{UM_KLINES_1M}/holes.json")["acknowledged"] == [
            {"period": "2024-01-05", "symbol": SHARED, "reason": "<b>never came</b>"}
        ]

    def test_news_tells_what_is_new_ended_missing_and_replaced(self, record, site):
        day = END + DAY
        for n in range(5):
            files = {SHARED: flat(START, day), "AUSDT": flat(START, day), "BUSDT": flat(START, END),
                     "NEWUSDT": flat(END + 2 * DAY, day)}  # fmt: skip
            write_dataset(record, UM_KLINES_1M, files, day, day, SETTLED + n * DAY)
            day += DAY
        files[SHARED] = flat(START, day - DAY, 9)
        write_dataset(record, UM_KLINES_1M, files, END, END, SETTLED + 6 * DAY)
        run(record, site)
        news = {
            (one["kind"], one["period"]): one["symbols"]
            for one in document(site, f"{UM_KLINES_1M}/news.json")["news"]
        }
        assert news == {
            ("listed", "2024-01-22"): ["NEWUSDT"], ("ended", "2024-01-21"): ["BUSDT"],
            ("hole", "2024-01-05"): [SHARED], ("replaced", "2024-01-20"): [SHARED],
        }  # fmt: skip
        ids = [one["id"] for one in document(site, "news.json")["news"]]
        assert len(ids) == len(set(ids)) == 7  # with two holes and a new symbol of the trades
        root = ET.fromstring((site / "feed.atom").read_bytes())
        atom = "{http://www.w3.org/2005/Atom}"
        assert [e.find(f"{atom}id").text for e in root.iter(f"{atom}entry")] == ids
        text = [e.find(f"{atom}title").text for e in root.iter(f"{atom}entry")]
        assert f"{UM_KLINES_1M}: 1 new symbol: NEWUSDT" in text

    def test_links_of_the_feed_are_absolute_where_the_address_is_known(self, record, site):
        run(record, site, form=Form(address="https://example.org/a/"))
        atom = "{http://www.w3.org/2005/Atom}"
        for name in ("feed.atom", f"{TRADES}/feed.atom"):
            root = ET.fromstring((site / name).read_bytes())
            assert root.find(f"{atom}link").get("href") == f"https://example.org/a/{name}"
            links = [e.find(f"{atom}link").get("href") for e in root.iter(f"{atom}entry")]
            assert f"https://example.org/a/{TRADES}/index.html#{SHARED}" in links

    def test_names_with_markup_stay_text(self, record, site):
        hostile = 'A<script>alert("1")</script>&龙虾'
        with writer(record) as con:
            for table in ("symbols", "files", "symbol_spans"):
                con.execute(f"UPDATE {table} SET symbol = ? WHERE symbol = 'CUSDT'", [hostile])
        run(record, site)
        assert hostile in document(site, f"{TRADES}/symbols.json")["symbols"]
        assert hostile in document(site, "symbols.json")["symbols"]
        for name, content in everything(site).items():
            if name.endswith((".html", ".atom")):
                assert b"<script>alert" not in content, name
            if name.endswith(".atom"):
                ET.fromstring(content)

    def test_every_document_is_as_its_schema_says(self, record, site):
        one_more(record)
        write_dataset(record, UM_KLINES_1M, {SHARED: flat(START, END, 9)}, END, END + 9 * DAY,
                      SETTLED + 2 * DAY + dt.timedelta(microseconds=491_153))  # fmt: skip
        run(record, site)
        schemas = {p.stem: json.loads(p.read_bytes()) for p in (site / "schemas").iterdir()}
        seen = set()
        for name in everything(site):
            if not name.endswith(".json") or name.startswith("schemas/"):
                continue
            folder, _, last = name.rpartition("/")
            kind = re.sub(r"-[0-9a-f]{16}", "", last).removesuffix(".json")
            if folder == "manifests":
                kind = "manifest"
            elif folder == "symbols":
                kind = "shard"
            elif folder and kind == "symbols":
                kind = "dataset-symbols"
            seen.add(kind)
            jsonschema.Draft202012Validator(schemas[kind]).validate(document(site, name))
        assert seen == set(schemas)

    def test_an_empty_record_has_a_site_that_says_so(self, tmp_path, site):
        path = tmp_path / "empty.duckdb"
        with writer(path):
            pass
        run(path, site)
        whole(site)
        assert document(site, "datasets.json")["datasets"] == []


class TestSwitching:
    def test_nothing_is_written_where_nothing_changed(self, record, site):
        first = run(record, site)
        before = everything(site)
        again = run(record, site, NOW + DAY)
        assert (again.changed, again.uploaded, again.removed) == (False, 0, 0)
        assert again.latest == first.latest
        assert everything(site) == before

    def test_an_update_leaves_alone_what_did_not_change(self, record, site):
        first = run(record, site)
        before = everything(site)
        one_more(record)
        done = run(record, site, NOW + DAY)
        after = everything(site)
        written = {name for name in after if after[name] != before.get(name)}
        assert done.changed
        assert len(written) == done.uploaded + 1  # and latest.json
        assert not any(name.startswith((str(FUNDING), str(TRADES))) for name in written)
        assert f"{UM_KLINES_1M}/symbols.json" in written
        # Who reads the publication of before still has all of it.
        require(site, first.manifest)
        whole(site)

    def test_old_versions_go_after_a_week(self, record, site):
        first = run(record, site)
        one_more(record)
        second = run(record, site, NOW + DAY)
        old = first.manifest.paths() - second.manifest.paths()
        assert old
        assert old <= set(everything(site))
        one_more(record, END + 2 * DAY)
        run(record, site, NOW + DAY + dt.timedelta(KEEP_DAYS))
        assert not old & set(everything(site))
        assert first.latest.manifest.path not in everything(site)
        require(site, second.manifest)
        whole(site)

    def test_a_dataset_that_is_no_longer_recorded_goes(self, record, tmp_path, site):
        run(record, site)
        other = tmp_path / "other.duckdb"
        write_three(other, [UM_KLINES_1M, FUNDING])
        run(other, site, NOW + DAY)
        assert not any(
            name.startswith(f"{TRADES}/") and not is_hashed(name) for name in everything(site)
        )
        assert [e["dataset"] for e in document(site, "datasets.json")["datasets"]] == [
            str(UM_KLINES_1M), str(FUNDING),
        ]  # fmt: skip
        whole(site)

    def test_the_whole_file_is_replaced_once_a_month_or_when_asked(self, record, site):
        first = run(record, site).manifest.snapshot
        one_more(record)
        assert run(record, site, NOW + 29 * DAY).manifest.snapshot == first
        second = run(record, site, NOW + 30 * DAY)
        assert second.manifest.snapshot.sha256 == second.manifest.database.sha256 != first.sha256
        one_more(record, END + 2 * DAY)
        third = run(record, site, NOW + 31 * DAY, Form(snapshot=True))
        assert third.manifest.snapshot.sha256 == third.manifest.database.sha256

    def test_fields_that_a_later_version_added_are_passed_over(self, record, site, tmp_path):
        done = run(record, site)
        path = site / done.latest.manifest.path
        content = path.read_bytes().replace(b'{"format":1,', b'{"format":1,"later":{"a":1},', 1)
        path.write_bytes(content)
        latest = document(site, "latest.json") | {"later": [1]}
        latest["manifest"] |= {
            "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "later": None,
        }  # fmt: skip
        (site / "latest.json").write_text(json.dumps(latest), encoding="utf-8")
        assert not run(record, site).changed
        copy = tmp_path / "copy.duckdb"
        assert follow(site, copy, now=NOW).changed
        assert copy.read_bytes() == require(site, done.manifest)

    def test_another_address_makes_the_feeds_anew(self, record, site):
        run(record, site)
        assert run(record, site, form=Form(address="https://example.org/")).changed
        assert b"https://example.org/" in (site / str(FUNDING) / "feed.atom").read_bytes()


class Cut(Folder):
    """A folder that fails at a write, before or after it."""

    def __init__(self, path, at, *, after=False):
        super().__init__(path)
        self.left, self.after, self.lock = at, after, threading.Lock()

    def put(self, name, staged, replacing):
        with self.lock:
            self.left -= 1
            failed = self.left == 0
        if failed and not self.after:
            raise OSError(28, "No space left on device")
        found = super().put(name, staged, replacing)
        if failed:
            raise OSError(28, "No space left on device")
        return found


class TestCutOff:
    @pytest.mark.parametrize("after", [False, True])
    def test_readers_never_see_half_wherever_it_is_cut_off(self, record, tmp_path, after):
        start = tmp_path / "start"
        first = run(record, start)
        one_more(record)
        complete = tmp_path / "complete"
        shutil.copytree(start, complete)
        puts = run(record, complete, NOW + DAY).uploaded + 1
        assert puts > 20
        # The first and the last ones, where it switches, and every fifth between them.
        for n in sorted({1, *range(2, puts, 5), puts - 1, puts}):
            site = tmp_path / f"cut-{n}"
            shutil.copytree(start, site, copy_function=os.link)
            with pytest.raises(ExportError, match="No space left on device"):
                run(record, Cut(site, n, after=after), NOW + DAY)
            latest, _ = whole(site)
            assert (latest == first.latest) or (after and n == puts)
            require(site, first.manifest)
            done = run(record, site, NOW + 2 * DAY)
            _, manifest = whole(site)
            for file in manifest.files:
                if publish.has_copy(file.name):
                    content = (site / file.name).read_bytes()
                    assert hashlib.sha256(content).hexdigest() == file.sha256, file.name
            assert done.latest == latest or done.changed
            shutil.rmtree(site)
        # What the one that was cut off had written goes in time.
        site = tmp_path / "left"
        shutil.copytree(start, site, copy_function=os.link)
        with pytest.raises(ExportError):
            run(record, Cut(site, 5), NOW + DAY)
        one_more(record, END + 2 * DAY)
        for days in (2, 20):
            run(record, site, NOW + days * DAY)
            one_more(record, END + (1 + days) * DAY)
        _, manifest = whole(site)
        hashed = {name for name in everything(site) if is_hashed(name)}
        pages = {file.path for file in manifest.files if is_hashed(file.path)}
        pieces = {piece_path(sha256) for sha256 in manifest.database.pieces}
        old = {one.path for one in manifest.superseded}
        mine = {publish.read(Folder(site))[0].manifest.path}
        assert hashed == pages | pieces | old | mine

    def test_a_slow_upload_is_waited_for(self, record, site, monkeypatch):
        """What is there was counted while record.duckdb was still on its way."""

        class Slow(Folder):
            def put(self, name, staged, replacing):
                if name == "record.duckdb":
                    time.sleep(0.3)
                return super().put(name, staged, replacing)

        def slowly(path):
            time.sleep(0.01)
            return is_hashed(path)

        monkeypatch.setattr("availability_pipeline.copies.publication.is_hashed", slowly)
        run(record, Slow(site))
        whole(site)

    def test_a_first_publication_that_was_cut_off_goes_on(self, record, tmp_path):
        puts = run(record, tmp_path / "complete").uploaded + 1
        for n in range(1, puts + 1, 25):
            site = tmp_path / f"cut-{n}"
            with pytest.raises(ExportError):
                run(record, Cut(site, n))
            assert not (site / "latest.json").exists()
            run(record, site)
            whole(site)


class TestRefused:
    def test_another_site_is_left_alone(self, record, site):
        site.mkdir()
        (site / "index.html").write_text("<h1>My own</h1>", encoding="utf-8")
        with pytest.raises(ExportError, match=r"holds another site \(index.html\)"):
            run(record, site)
        assert everything(site) == {"index.html": b"<h1>My own</h1>"}

    @pytest.mark.parametrize("text", ['{"format":2}', "[]", "", '{"format":1,"x":1}'])
    def test_a_latest_that_is_not_ours_or_newer_is_left_alone(self, record, site, text):
        site.mkdir()
        (site / "latest.json").write_text(text, encoding="utf-8")
        with pytest.raises(ExportError, match=r"latest.json that is not ours, or of a later"):
            run(record, site)
        assert everything(site) == {"latest.json": text.encode()}

    def test_a_database_of_that_name_is_not_replaced(self, record, site):
        site.mkdir()
        other = site / "record.duckdb"
        shutil.copy(record, other)
        before = other.read_bytes()
        with pytest.raises(ExportError, match=r"holds another site \(record.duckdb\)"):
            run(record, site)
        with pytest.raises(ProtectedFileError, match="is the record"):
            run(other, site)
        (site / ".availability-site").write_text("", encoding="utf-8")
        with pytest.raises(ProtectedFileError, match="is the record"):
            run(other, site)
        assert everything(site) == {"record.duckdb": before}

    def test_files_of_others_beside_it_stay(self, record, site):
        site.mkdir()
        (site / "CNAME").write_text("example.org", encoding="utf-8")
        (site / "robots.txt").write_text("", encoding="utf-8")
        run(record, site)
        one_more(record)
        run(record, site, NOW + 20 * DAY)
        assert (site / "CNAME").read_text(encoding="utf-8") == "example.org"
        assert (site / "robots.txt").exists()

    def test_the_second_publisher_at_the_same_time_is_refused(self, record, site):
        to = Folder(site)
        with (
            to.staging(),
            pytest.raises(ExportError, match=r"another publication to .* is running"),
        ):
            run(record, site)

    def test_a_folder_that_refuses_is_one_line(self, record, tmp_path):
        (tmp_path / "file").write_text("x", encoding="utf-8")
        with pytest.raises(ExportError, match="File exists") as error:
            run(record, tmp_path / "file")
        assert "\n" not in str(error.value)

    def test_a_disk_that_is_full_while_parquet_is_written_is_one_line(
        self, record, site, monkeypatch
    ):
        """DuckDB says so in a line of JSON."""
        said = {"exception_message": "Could not write file: No space left on device", "errno": "28"}

        def full(*_):
            raise duckdb.IOException(f"IO Error: Async write failed: {json.dumps(said)}")

        monkeypatch.setattr("availability_pipeline.copies.publish._parts", full)
        with pytest.raises(ExportError) as error:
            run(record, site)
        assert str(error.value).startswith(f"{site}: No space left on device; nothing was switched")
        assert "{" not in str(error.value)

    def test_a_manifest_that_is_gone_is_said(self, record, site):
        done = run(record, site)
        (site / done.latest.manifest.path).unlink()
        with pytest.raises(ExportError, match=r"manifests/.* is missing or damaged; remove latest"):
            run(record, site)
        (site / "latest.json").unlink()
        run(record, site)
        whole(site)


class TestDamage:
    def test_damaged_files_are_found_and_uploaded_again(self, record, site):
        done = run(record, site)
        assert publish.damaged(Folder(site)) == []
        piece = piece_path(done.manifest.database.pieces[1])
        bad = [piece, done.latest.documents.symbols, "record.duckdb", f"{FUNDING}/symbols.json",
               "index.html"]  # fmt: skip
        for path in bad:
            content = bytearray((site / path).read_bytes())
            content[len(content) // 2] ^= 1
            (site / path).write_bytes(content)
        gone = next(f.path for f in done.manifest.files if f.path.endswith(".parquet"))
        (site / gone).unlink()
        found = publish.damaged(Folder(site))
        assert found == sorted([*bad, gone])
        run(record, site, NOW + DAY, again=found)
        assert publish.damaged(Folder(site)) == []
        whole(site)

    def test_without_a_publication_there_is_nothing_to_verify(self, site):
        with pytest.raises(ExportError, match="has no publication"):
            publish.damaged(Folder(site))


@pytest.fixture(scope="module")
def endpoint():
    with local_archive() as archive:
        yield archive.endpoint


class TestBucket:
    @pytest.fixture
    def bucket(self, endpoint, monkeypatch):
        return own_bucket(monkeypatch, endpoint)

    def test_a_bucket_holds_the_same(self, record, site, bucket):
        run(record, site)
        run(record, destination(f"s3://{bucket}/here"))
        one_more(record)
        here = run(record, site, NOW + DAY)
        there = run(record, destination(f"s3://{bucket}/here"), NOW + DAY)
        assert there.manifest.files == here.manifest.files
        assert there.manifest.database == here.manifest.database
        assert publish.damaged(destination(f"s3://{bucket}/here")) == []
        client = boto3.client("s3")
        for name, (kind, kept) in {
            "latest.json": ("application/json", "no-cache"),
            "index.html": ("text/html; charset=utf-8", "no-cache"),
            "feed.atom": ("application/atom+xml; charset=utf-8", "no-cache"),
            piece_path(here.manifest.database.pieces[0]): (
                "application/octet-stream", "public, max-age=31536000, immutable"),
            here.latest.documents.symbols: (
                "application/json", "public, max-age=31536000, immutable"),
        }.items():  # fmt: skip
            head = client.head_object(Bucket=bucket, Key=f"here/{name}")
            assert (head["ContentType"], head["CacheControl"]) == (kind, kept), name

    def test_of_two_publishers_the_slower_one_switches_nothing(self, record, bucket, monkeypatch):
        """The first one's lock was taken over: what it publishes last is refused."""
        run(record, destination(f"s3://{bucket}/here"))
        one_more(record)
        slow = destination(f"s3://{bucket}/here")
        original, other = slow.put, []

        def put(name, staged, replacing):
            if name == "latest.json":
                key = "here/.availability-export.lock"
                boto3.client("s3").delete_object(Bucket=bucket, Key=key)
                other.append(run(record, destination(f"s3://{bucket}/here"), NOW + 2 * DAY))
            return original(name, staged, replacing)

        monkeypatch.setattr(slow, "put", put)
        with pytest.raises(ExportError, match="was changed by another publication"):
            run(record, slow, NOW + DAY)
        found = publish.read(destination(f"s3://{bucket}/here"))
        assert found[0] == other[0].latest
        assert publish.damaged(destination(f"s3://{bucket}/here")) == []


class TestModel:
    @hypothesis.settings(max_examples=4)
    @hypothesis.given(data=st.data())
    def test_a_publication_after_others_is_as_a_first_one(self, data, tmp_path_factory):
        """Whatever is written in between, only what changed is made anew, and nothing is missed."""
        folder = tmp_path_factory.mktemp("model")
        record, site = folder / "record.duckdb", folder / "site"
        write_three(record)
        at = NOW
        for n in range(data.draw(st.integers(1, 4))):
            step = data.draw(st.sampled_from(["date", "replace", "month", "acknowledge", "none"]))
            day = END + (n + 1) * DAY
            if step == "date":
                one_more(record, day, SETTLED + n * DAY)
            elif step == "replace":
                of = data.draw(st.dates(START, END))
                one_more(record, of, SETTLED + n * DAY, size=data.draw(st.integers(1, 9)))
            elif step == "month":
                month = D(2024, 2 + n, 1)
                files = {SHARED: by_month(D(2022, 11, 1), month, 300),
                         "AUSDT": by_month(D(2023, 1, 1), month, 300)}  # fmt: skip
                write_dataset(record, FUNDING, files, month, month,
                              SETTLED + dt.timedelta(60 + n))  # fmt: skip
            elif step == "acknowledge":
                with writer(record) as con:
                    acknowledge(con, [D(2024, 1, 5)], reason=f"{n}", at=at, symbols=[SHARED])
            at += DAY
            run(record, site, at)
            whole(site)
        fresh = folder / "fresh"
        run(record, fresh, at)
        (_, one), (_, other) = whole(site), whole(fresh)
        assert one.files == other.files
        assert one.database == other.database
        plain = {f.name for f in one.files if publish.has_copy(f.name)}
        found, expected = everything(site), everything(fresh)
        assert {n: found[n] for n in plain} == {n: expected[n] for n in plain}


def test_the_record_itself_is_never_written_over(record, tmp_path):
    shutil.copy(record, tmp_path / "index.html")
    with pytest.raises(ProtectedFileError, match="is a database"):
        run(record, tmp_path)
