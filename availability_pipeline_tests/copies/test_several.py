"""Copies of a record of several datasets. A row that is in another dataset's file is a wrong
record, which no program can tell from a right one."""

import datetime as dt
import hashlib
import json

import boto3
import duckdb
import pytest
from click.testing import CliRunner

from availability_pipeline.archive.datasets import Dataset, UnknownDatasetError
from availability_pipeline.cli import copies
from availability_pipeline.cli.main import cli
from availability_pipeline.copies import _snapshot, backup, export, restore
from availability_pipeline.copies.destinations import destination
from availability_pipeline.copies.export import Form
from availability_pipeline.quality import acknowledgements
from availability_pipeline.record.connection import reader, writer
from availability_pipeline_tests.support.helpers import D, flat
from availability_pipeline_tests.support.s3 import local_archive
from availability_pipeline_tests.support.several import (
    END,
    FUNDING,
    SETTLED,
    SHARED,
    START,
    STOPPED,
    TRADES,
    by_month,
    write_dataset,
    write_three,
)

NOW = dt.datetime(2024, 3, 10, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DATASETS = (Dataset(), FUNDING, TRADES)
PUBLISHED = Form(by_month=True, everything=True, versioned=True, datasets="all")


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "record.duckdb"
    write_three(path)
    return path


def run(record, dest, form=Form(), at=NOW):  # noqa: B008 - frozen
    return export.export(record, destination(str(dest)), form, now=at, wait_seconds=30)


def names(folder):
    return {
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and not p.name.startswith(".")
    }


def read(files):
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        return con.read_parquet([str(file) for file in files]).order("date, symbol").fetchall()


def cells(record, dataset):
    """Date, symbol, status, size and address, as the view of all datasets has them."""
    with reader(record) as con:
        return con.execute(
            """SELECT period, symbol, status, file_size_bytes, url FROM availability
            WHERE dataset = ? ORDER BY period, symbol""",
            [str(dataset)],
        ).fetchall()


# Exports.


@pytest.mark.parametrize("dataset", DATASETS, ids=str)
def test_one_dataset_has_the_layout_and_the_columns_of_before(record, tmp_path, dataset):
    done = run(record, tmp_path / "out", Form(datasets=str(dataset)))
    tables = ("availability", "symbol_spans", "daily_summary")
    assert names(tmp_path / "out") == {"manifest.json", *(f"{t}.parquet" for t in tables)}
    rows = read([tmp_path / "out" / "availability.parquet"])
    assert [(r[0], r[1], r[6], r[3], r[10]) for r in rows] == cells(record, dataset)
    assert {(f.table, f.dataset) for f in done.manifest.files} == {
        (table, str(dataset)) for table in tables
    }
    with reader(record) as con:
        view = con.execute("FROM daily_availability").description
    assert duckdb.read_parquet(str(tmp_path / "out" / "availability.parquet")).columns == [
        column[0] for column in view
    ]


def test_without_a_dataset_it_is_the_first_one(record, tmp_path):
    run(record, tmp_path / "a")
    run(record, tmp_path / "b", Form(datasets="um/daily/klines/1m"))
    assert names(tmp_path / "a") == names(tmp_path / "b")
    with reader(record) as con:
        want = con.execute("FROM daily_availability ORDER BY date, symbol").fetchall()
    assert read([tmp_path / "a" / "availability.parquet"]) == want


def test_several_are_a_folder_each_and_one_manifest_that_names_them(record, tmp_path):
    done = run(record, tmp_path / "out", Form(datasets="all", everything=True))
    said = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert names(tmp_path / "out") == {
        "manifest.json",
        *(f"{dataset}/{table}.parquet" for dataset in DATASETS for table in export.ORDER),
    }
    for dataset in DATASETS:
        mine = [f for f in said["files"] if f["dataset"] == str(dataset)]
        assert all(f["path"].startswith(f"{dataset}/") for f in mine)
        rows = read([tmp_path / "out" / f"{dataset}/availability.parquet"])
        assert [(r[0], r[1], r[6], r[3], r[10]) for r in rows] == cells(record, dataset)
        spans = duckdb.read_parquet(str(tmp_path / "out" / f"{dataset}/symbol_spans.parquet"))
        [(files, holes)] = spans.filter(f"symbol = '{SHARED}'").project(
            "days_available, hole_days"
        ).fetchall()  # fmt: skip
        assert (files, holes) == {Dataset(): (19, 1), FUNDING: (14, 1), TRADES: (16, 2)}[dataset]
        for file in mine:
            path = tmp_path / "out" / file["path"]
            assert (file["bytes"], file["sha256"]) == (path.stat().st_size, _snapshot.sha256(path))
    assert [(d["dataset"], d["folder"], d["first_date"], d["last_date"], d["rows"]["availability"])
            for d in said["datasets"]] == [
        ("um/daily/klines/1m", "um/daily/klines/1m/", "2024-01-01", "2024-01-20", 60),
        ("um/monthly/fundingRate", "um/monthly/fundingRate/", "2022-11-01", "2024-01-01", 30),
        ("spot/daily/trades", "spot/daily/trades/", "2024-01-01", "2024-01-20", 40),
    ]  # fmt: skip
    assert said["rows"]["availability"] == 130
    assert (said["first_date"], said["last_date"]) == ("2022-11-01", "2024-01-20")
    assert len(done.written) == 21


def test_months_are_in_a_file_a_year_and_dates_in_one_a_month(record, tmp_path):
    done = run(record, tmp_path / "out", Form(by_month=True, datasets="all"))
    paths = [f.path for f in done.manifest.files if f.table == "availability"]
    assert paths == [
        "um/daily/klines/1m/availability/month=2024-01/availability.parquet",
        "um/monthly/fundingRate/availability/year=2022/availability.parquet",
        "um/monthly/fundingRate/availability/year=2023/availability.parquet",
        "um/monthly/fundingRate/availability/year=2024/availability.parquet",
        "spot/daily/trades/availability/month=2024-01/availability.parquet",
    ]
    rows = read(tmp_path / "out" / path for path in paths[1:4])
    assert [(r[0], r[1], r[6], r[3], r[10]) for r in rows] == cells(record, FUNDING)
    pattern = tmp_path / "out/um/monthly/fundingRate/availability/*/*.parquet"
    found = duckdb.sql(
        f"SELECT year, count(*) FROM read_parquet('{pattern}', hive_partitioning = true) "
        "GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert found == [(2022, 4), (2023, 24), (2024, 2)]


@pytest.mark.parametrize("versioned", [False, True])
def test_only_files_of_the_dataset_that_changed_are_written_again(record, tmp_path, versioned):
    form = Form(by_month=True, everything=True, versioned=versioned, datasets="all")
    run(record, tmp_path / "out", form)
    assert run(record, tmp_path / "out", form, NOW + HOUR).written == ()
    write_dataset(record, FUNDING, {SHARED: by_month(D(2024, 1, 1), D(2024, 1, 1), 555)},
                  D(2024, 1, 1), D(2024, 1, 1), SETTLED + HOUR)  # fmt: skip
    again = run(record, tmp_path / "out", form, NOW + 2 * HOUR)
    assert {name.rpartition("/")[0] for name in again.written} == {
        "um/monthly/fundingRate", "um/monthly/fundingRate/availability/year=2024"
    }  # fmt: skip


@pytest.fixture
def hashed(monkeypatch):
    """The datasets whose rows an export reads."""
    found, real = [], export._pieces

    def noted(con, t, *rest):
        found.append(t.dataset)
        return real(con, t, *rest)

    monkeypatch.setattr(export, "_pieces", noted)
    return found


def test_a_dataset_that_was_not_written_to_is_not_read(record, tmp_path, hashed):
    """Of a hundred datasets each update writes to a few."""
    out = tmp_path / "out"
    first = run(record, out, PUBLISHED).manifest
    assert hashed == list(DATASETS)
    hashed.clear()
    again = run(record, out, PUBLISHED, NOW + HOUR)
    assert (hashed, again.written, again.removed) == ([], (), ())
    assert again.manifest.files == first.files

    def changed(*datasets):
        hashed.clear()
        done = run(record, out, PUBLISHED, NOW + 2 * HOUR)
        assert hashed == list(datasets)
        folders = {path.rpartition("/")[0] for path in done.written}
        assert all(path.startswith(tuple(map(str, datasets))) for path in folders)
        assert [d.dataset for d in done.manifest.datasets] == list(map(str, DATASETS))
        assert [f.dataset for f in done.manifest.files] == [
            f.dataset for d in DATASETS for f in done.manifest.files if f.dataset == str(d)
        ]
        return done

    # Probed again without any news: its probes are of another time.
    trades = {SHARED: flat(D(2024, 1, 3), END, 500), "CUSDT": flat(START, END, 500)}
    del trades[SHARED][D(2024, 1, 7)], trades[SHARED][D(2024, 1, 8)]
    write_dataset(record, TRADES, trades, at=SETTLED + HOUR)
    assert changed(TRADES).written
    with writer(record) as con:
        acknowledgements.acknowledge(
            con, [D(2024, 1, 5)], reason="never published", symbols=[SHARED], at=NOW
        )
    assert "um/daily/klines/1m/acknowledgements" in {
        path.rpartition("-")[0] for path in changed(Dataset()).written
    }
    assert changed().written == ()
    damaged = next(f.path for f in first.files if f.dataset == str(FUNDING))
    (out / damaged).write_bytes(b"x")
    [mended] = changed(FUNDING).written
    assert mended.rpartition("-")[0] == damaged.rpartition("-")[0]


def test_tables_alike_in_two_datasets_are_two_files(record, tmp_path):
    """Both have no revisions; the one's file must not stand for the other's."""
    form = Form(everything=True, versioned=True, datasets="all")
    for _ in range(2):
        done = run(record, tmp_path / "out", form)
        files = [f for f in done.manifest.files if f.table == "revisions"]
        assert len({f.path for f in files}) == len(files) == 3
        assert len({f.sha256 for f in files}) == 1
        assert names(tmp_path / "out") == {f.path for f in done.manifest.files} | {"manifest.json"}


def test_a_second_dataset_moves_the_first_one_and_followers_see_a_whole_set(tmp_path):
    record, out = tmp_path / "record.duckdb", tmp_path / "out"
    write_dataset(record, Dataset(), {"AUSDT": flat(START, END)})
    first = {f.path for f in run(record, out, PUBLISHED).manifest.files}
    assert not [path for path in first if path.startswith("um/")]
    write_dataset(record, TRADES, {"AUSDT": flat(START, END, 7)})
    second = {f.path for f in run(record, out, PUBLISHED, NOW + HOUR).manifest.files}
    assert {path.partition("/")[0] for path in second} == {"um", "spot"}
    assert names(out) == first | second | {"manifest.json"}
    run(record, out, PUBLISHED, NOW + 2 * HOUR)
    assert names(out) == second | {"manifest.json"}
    # And back, with the folders.
    run(record, out, Form(datasets="um/*"), NOW + 3 * HOUR)
    assert not (out / "um").exists()
    assert not (out / "spot").exists()


def test_what_an_export_of_several_that_was_killed_left_is_removed_by_the_next(record, tmp_path):
    out = tmp_path / "out"
    run(record, out, PUBLISHED)
    content = b"left by a killed export"
    left = f"spot/daily/trades/revisions-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    mine = "spot/daily/trades/revisions-0123456789abcdef.parquet"
    (out / left).write_bytes(content)
    (out / mine).write_bytes(b"somebody's, with another hash")
    (out / "spot/daily/trades/notes.txt").write_text("mine")
    done = run(record, out, PUBLISHED)
    assert done.removed == (left,)
    assert {mine, "spot/daily/trades/notes.txt"} <= names(out)


@pytest.mark.parametrize("pattern", ["cm/*", "um/daily/klines/1h", "../um", "nothing"])
def test_a_dataset_that_is_not_recorded_is_refused_and_nothing_is_written(
    record, tmp_path, pattern
):
    with pytest.raises(UnknownDatasetError, match="recorded"):
        run(record, tmp_path / "out", Form(datasets=pattern))
    assert names(tmp_path / "out") == set()


def test_an_empty_record_is_published_as_empty_files(tmp_path):
    with writer(tmp_path / "record.duckdb"):
        pass
    done = run(tmp_path / "record.duckdb", tmp_path / "out", PUBLISHED)
    assert sum(done.manifest.rows.values()) == 0
    assert "daily_summary" in {f.table for f in done.manifest.files}


def test_a_manifest_of_before_is_read_and_its_files_go(record, tmp_path):
    """Of version 0.1: neither datasets nor a file's dataset."""
    out = tmp_path / "out"
    run(record, out)
    said = json.loads((out / "manifest.json").read_text())
    del said["datasets"]
    for file in said["files"]:
        del file["dataset"]
    (out / "manifest.json").write_text(json.dumps(said))
    done = run(record, out, Form(datasets="all"))
    assert len(done.removed) == 3
    assert names(out) == {f.path for f in done.manifest.files} | {"manifest.json"}


def test_a_bucket_gets_the_same_folders(record, tmp_path, monkeypatch):
    with local_archive() as archive:
        for name, value in (("ENDPOINT_URL", archive.endpoint), ("ACCESS_KEY_ID", "x"),
                            ("SECRET_ACCESS_KEY", "y"),
                            ("DEFAULT_REGION", "us-east-1")):  # fmt: skip
            monkeypatch.setenv(f"AWS_{name}", value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="several")
        run(record, tmp_path / "out", PUBLISHED)
        run(record, "s3://several/x", PUBLISHED)
        found = client.list_objects_v2(Bucket="several", Prefix="x/")["Contents"]
        client.close()
    assert {o["Key"].removeprefix("x/") for o in found} == names(tmp_path / "out")


def test_the_command_exports_what_is_asked_for(record, tmp_path, monkeypatch):
    monkeypatch.setenv("AVAILABILITY_DB", str(record))

    def say(*words):
        done = CliRunner().invoke(cli, ["export", str(tmp_path / "out"), *words])
        return done.exit_code, done.output

    code, said = say("--dataset", "um/*", "--dataset", "spot/daily/trades")
    assert code == 0
    assert ": 130 rows of 3 datasets up to 2024-01-20 in 9 files, " in said
    code, said = say("--dataset", "um/monthly/*")
    assert ": 30 rows up to 2024-01 in 3 files, " in said
    assert "; 3 written, 0 unchanged, 9 removed" in said
    code, said = say("--dataset", "cm/*\x1b[2J")
    assert code == 2
    assert "matches no dataset of those that are recorded" in said
    assert "\x1b" not in said


# Backups, and restoring them.


def backed_up(record, folder):
    return backup.make(record, folder, now=NOW, keep=backup.Keep())


def test_a_backup_says_what_it_holds_of_each_dataset(record, tmp_path):
    made = backed_up(record, tmp_path / "backups")
    said = json.loads(made.path.with_suffix(".json").read_text())
    assert said["datasets"] == [
        {"dataset": "um/daily/klines/1m", "files": 59, "first": "2024-01-01", "last": "2024-01-20"},
        {"dataset": "um/monthly/fundingRate", "files": 27, "first": "2022-11-01",
         "last": "2024-01-01"},
        {"dataset": "spot/daily/trades", "files": 36, "first": "2024-01-01", "last": "2024-01-20"},
    ]  # fmt: skip
    assert (said["first_date"], said["last_date"]) == ("2022-11-01", "2024-01-20")
    assert made.manifest.rows == 122
    assert backup.verify(made.path) == made.manifest


def test_a_backup_that_holds_other_files_of_a_dataset_than_it_says_is_not_good(record, tmp_path):
    """The tables have as many rows as the manifest says."""
    made = backed_up(record, tmp_path / "backups")
    said = json.loads(made.path.with_suffix(".json").read_text())
    said["datasets"][0]["files"], said["datasets"][2]["files"] = 36, 59
    made.path.with_suffix(".json").write_text(json.dumps(said))
    with pytest.raises(backup.BackupError, match="holds other rows than its manifest says"):
        backup.verify(made.path)
    del said["datasets"]  # of a version that did not say it
    made.path.with_suffix(".json").write_text(json.dumps(said))
    assert backup.verify(made.path).datasets == ()


@pytest.mark.parametrize(
    ("datasets", "words"),
    [((Dataset(),), "19 files, 2024-01-01 to 2024-01-20, made"),
     ((FUNDING,), "13 files, 2023-01 to 2024-01, made"),
     ((Dataset(), FUNDING), "32 files of 2 datasets, 2023-01-01 to 2024-01-20, made")],
)  # fmt: skip
def test_the_command_counts_datasets_and_calls_months_months(
    tmp_path, monkeypatch, datasets, words
):
    record = tmp_path / "record.duckdb"
    monkeypatch.setenv("AVAILABILITY_DB", str(record))
    for dataset in datasets:
        if dataset.monthly:
            first = D(2023, 1, 1)
            write_dataset(record, dataset, {"A": by_month(first, START)}, first, START)
        else:
            write_dataset(record, dataset, {"A": flat(D(2024, 1, 2), END)})
    done = CliRunner().invoke(cli, ["backup", str(tmp_path / "backups")])
    assert done.exit_code == 0, done.output
    assert words in done.output
    assert (
        words in CliRunner().invoke(cli, ["backup", str(tmp_path / "backups"), "--verify"]).output
    )


def test_what_a_restored_record_lacks_is_said_of_each_dataset_in_its_own_periods(record):
    """On 5 April: the months of February and March are over, and 15 days have not passed."""
    found = restore.lacking(record, D(2024, 4, 5))
    assert found.outstanding == (
        restore.Outstanding(Dataset(), D(2024, 1, 21), D(2024, 4, 4), unknown=75, unsettled=0),
        restore.Outstanding(FUNDING, D(2024, 2, 1), D(2024, 3, 1), unknown=2, unsettled=0),
        restore.Outstanding(TRADES, D(2024, 1, 21), D(2024, 4, 4), unknown=75, unsettled=0),
    )
    write_dataset(record, FUNDING, {SHARED: {}}, D(2024, 2, 1), D(2024, 3, 1), SETTLED)
    [lacks] = restore.lacking(record, D(2024, 4, 5), configured=[FUNDING]).outstanding
    assert (lacks.start, lacks.unknown, lacks.unsettled) == (D(2024, 2, 1), 0, 2)


def test_only_what_is_configured_is_to_be_probed_again(record):
    found = restore.lacking(record, D(2024, 4, 5), configured=[TRADES, STOPPED])
    assert [one.dataset for one in found.outstanding] == [TRADES]
    assert found.unheld == (STOPPED,)
    assert found.unconfigured == (Dataset(), FUNDING)


def test_a_stopped_dataset_lacks_nothing_after_its_end(tmp_path):
    record = tmp_path / "record.duckdb"
    files = {"AUSDT": flat(D(2024, 3, 20), D(2024, 3, 28))}
    write_dataset(record, STOPPED, files, D(2024, 3, 20), D(2024, 3, 28), SETTLED.replace(month=6))
    [lacks] = restore.lacking(record, D(2025, 1, 1)).outstanding
    assert (lacks.start, lacks.end, lacks.unknown) == (D(2024, 3, 29), D(2024, 3, 30), 2)


def test_restore_names_each_dataset_and_the_command_for_it(record, tmp_path, monkeypatch):
    made = backed_up(record, tmp_path / "backups")
    monkeypatch.setenv("AVAILABILITY_DB", str(record))
    names = ",".join(map(str, (Dataset(), FUNDING, STOPPED)))
    monkeypatch.setenv("AVAILABILITY_DATASETS", names)
    monkeypatch.setattr(copies, "today_utc", lambda: D(2024, 4, 5))
    done = CliRunner().invoke(cli, ["restore", str(made.path)])
    assert done.exit_code == 0, done.output
    assert ": 122 files of 3 datasets, 2022-11-01 to 2024-01-20, made" in done.output
    assert done.output.splitlines()[-6:] == [
        "to be probed again of um/daily/klines/1m: 2024-01-21 to 2024-04-04 (75 dates never "
        "probed, 0 not settled when probed last)",
        "to be probed again of um/monthly/fundingRate: 2024-02 to 2024-03 (2 months never probed, "
        "0 not settled when probed last)",
        "not in this backup: um/daily/bookTicker; fill it with `binance-availability backfill "
        "--dataset um/daily/bookTicker`",
        "not configured any more, so not probed again: spot/daily/trades",
        "do it with: `binance-availability backfill --start 2024-01-21 --end 2024-04-04 "
        "--dataset um/daily/klines/1m`",
        "do it with: `binance-availability backfill --start 2024-02-01 --end 2024-03-31 "
        "--dataset um/monthly/fundingRate`",
    ]
