"""Exported files. Breaking them hands a wrong record to programs that cannot tell."""

import datetime as dt
import hashlib
import json
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import boto3
import duckdb
import pandas as pd
import pytest

from availability_pipeline.copies import _snapshot, destinations, export
from availability_pipeline.copies.destinations import destination
from availability_pipeline.copies.export import Form
from availability_pipeline.errors import ExportError, MissingDatabaseError
from availability_pipeline.record import write as store
from availability_pipeline.record.connection import reader, writer
from availability_pipeline_tests.support.helpers import PATIENCE, D, flat, make_listing
from availability_pipeline_tests.support.s3 import local_archive

START, END = D(2024, 1, 20), D(2024, 3, 10)
NOW = dt.datetime(2024, 3, 11, 2, 3, 4, 567_891, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def write(path, size=100, *, start=START, at=NOW):
    # Available, pending and absent ones, a delivery contract, and a name that is not ASCII.
    files = {
        "AUSDT": flat(START, D(2024, 3, 8)),
        "龙虾USDT": flat(START, END, size),
        "BTCUSDT_240329": {},
    }
    with writer(path) as con:
        store.write_probe(con, make_listing(start, END, files), probed_at=at, run_id="run")


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "record.duckdb"
    write(path)
    return path


def run(record, dest, form=Form(), at=NOW):  # noqa: B008 - frozen
    return export.export(record, destination(str(dest)), form, now=at, wait_seconds=30)


def names(folder):
    return {
        p.relative_to(folder).as_posix()
        for p in Path(folder).rglob("*")
        if p.is_file() and not p.name.startswith(".")
    }


def asked(record, sql):
    with reader(record) as con:
        return con.execute(sql).fetchall()


VIEW = "SELECT * FROM daily_availability ORDER BY date, symbol"


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_count_that_is_unknown_is_null_and_not_zero(record, tmp_path, kind):
    """Nobody probed the date before the first one: what is new on it is not known."""
    run(record, tmp_path / "out", Form(format=kind))
    file = f"{tmp_path}/out/daily_summary.{kind}"
    got = duckdb.sql(f"SELECT date, new_listings, ended FROM '{file}' ORDER BY date").fetchall()
    assert got[0] == (START, None, None)
    assert got[1:3] == [(START + dt.timedelta(n), 0, 0) for n in (1, 2)]


@pytest.mark.parametrize("by_month", [False, True])
def test_parquet_read_back_is_the_view_row_for_row_and_sorted(record, tmp_path, by_month):
    done = run(record, tmp_path / "out", Form(by_month=by_month))
    mine = [f.path for f in done.manifest.files if f.table == "availability"]
    paths = [str(tmp_path / "out" / path) for path in mine]
    assert len(paths) == (3 if by_month else 1)
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        got = con.read_parquet(paths).order("date, symbol")
        assert got.fetchall() == asked(record, VIEW)
        types = dict(zip(got.columns, map(str, got.types), strict=True))
        assert types["last_modified"] == types["probe_timestamp"] == "TIMESTAMP WITH TIME ZONE"
        assert (types["date"], types["available"]) == ("DATE", "BOOLEAN")
        for path in paths:
            unsorted = con.read_parquet(path).fetchall()
            assert unsorted == sorted(unsorted, key=lambda row: (row[0], row[1]))
        [(codec,)] = con.execute(
            "SELECT DISTINCT compression FROM parquet_metadata(?)", [paths[0]]
        ).fetchall()
        assert codec == "ZSTD"
    statuses = {row[6] for row in asked(record, VIEW)}
    assert statuses == {"available", "pending", "absent"}, "or the test shows little"


def test_csv_read_back_is_the_view_with_times_in_utc_to_the_microsecond(record, tmp_path):
    run(record, tmp_path, Form("csv"))
    frame = pd.read_csv(
        tmp_path / "availability.csv", keep_default_na=False, na_values={"file_size_bytes": [""]}
    )
    want = asked(record, VIEW)
    assert len(frame) == len(want)
    for got, row in zip(frame.itertuples(index=False), want, strict=True):
        times = [None if v == "" else dt.datetime.fromisoformat(v) for v in (got[4], got[5])]
        size = None if pd.isna(got[3]) else int(got[3])
        back = (D.fromisoformat(got[0]), got[1], got[2], size, *times, *got[6:])
        assert back == row
    line = (tmp_path / "availability.csv").read_text("utf-8").splitlines()[-1]
    assert line.startswith("2024-03-10,龙虾USDT,true,100,2024-03-11T08:00:00.000000Z,")
    assert "2024-03-11T02:03:04.567891Z" in line


def test_the_manifest_says_what_the_files_are(record, tmp_path):
    done = run(record, tmp_path / "out", Form(everything=True))
    said = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert said["created_at"] == "2024-03-11T02:03:04Z"
    assert said["rows"] == {
        "availability": 153, "symbol_spans": 3, "daily_summary": 51, "revisions": 0,
        "symbols": 3, "probes": 51, "acknowledgements": 0,
    }  # fmt: skip
    assert (said["first_date"], said["last_date"]) == ("2024-01-20", "2024-03-10")
    assert names(tmp_path / "out") == {f["path"] for f in said["files"]} | {"manifest.json"}
    for file in said["files"]:
        path = tmp_path / "out" / file["path"]
        assert (file["bytes"], file["sha256"]) == (path.stat().st_size, _snapshot.sha256(path))
        assert duckdb.read_parquet(str(path)).shape[0] == file["rows"]
    assert set(done.written) == {f["path"] for f in said["files"]}


def test_a_stale_summary_is_computed_and_not_exported_stale(record, tmp_path):
    run(record, tmp_path)
    found = duckdb.read_parquet(str(tmp_path / "daily_summary.parquet"))
    assert found.shape[0] == 51  # its table was never filled


def test_hive_partitions_are_read_as_such(record, tmp_path):
    run(record, tmp_path, Form(by_month=True))
    pattern = str(tmp_path / "availability" / "*" / "*.parquet")
    found = duckdb.sql(
        f"SELECT month, count(*) FROM read_parquet('{pattern}', hive_partitioning = true) "
        "GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert found == [("2024-01", 36), ("2024-02", 87), ("2024-03", 30)]


@pytest.mark.parametrize("versioned", [False, True])
def test_only_months_whose_rows_changed_are_written_again(record, tmp_path, versioned):
    form = Form(by_month=True, versioned=versioned)
    first = run(record, tmp_path / "out", form)
    assert run(record, tmp_path / "out", form, NOW + HOUR).written == ()
    write(record, 555, start=D(2024, 3, 1), at=NOW + 2 * HOUR)
    again = run(record, tmp_path / "out", form, NOW + 2 * HOUR)
    months = {f.path: f for f in again.manifest.files if f.table == "availability"}
    assert [months[p].first_date for p in again.written if p in months] == [D(2024, 3, 1)]
    assert set(again.unchanged) >= {f.path for f in first.manifest.files if "2024-02" in f.path}
    paths = [str(tmp_path / "out" / path) for path in months]
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        got = con.read_parquet(paths).order("date, symbol").fetchall()
    assert got == asked(record, VIEW)


def test_a_file_somebody_took_away_or_cut_is_written_again(record, tmp_path):
    form = Form(by_month=True, versioned=True)
    done = run(record, tmp_path / "out", form)
    gone, cut = (tmp_path / "out" / path for path in done.written[:2])
    gone.unlink()
    os.truncate(cut, 10)
    assert set(run(record, tmp_path / "out", form).written) == set(done.written[:2])
    assert cut.stat().st_size > 10


def test_the_files_of_the_manifest_before_stay_for_one_export_and_then_go(record, tmp_path):
    form, out = Form(by_month=True, versioned=True), tmp_path / "out"
    sets = []
    for n in range(3):
        write(record, 500 + n, start=D(2024, 3, 1), at=NOW + n * HOUR)
        sets.append({f.path for f in run(record, out, form, NOW + n * HOUR).manifest.files})
        assert names(out) == set().union({"manifest.json"}, *sets[-2:])
    run(record, out, form, NOW + 5 * HOUR)
    assert names(out) == sets[-1] | {"manifest.json"}


READER = """
import hashlib, json, select, sys
from pathlib import Path
out, sets = Path(sys.argv[1]), 0
print("reading", flush=True)
while not sets or not select.select([sys.stdin], [], [], 0)[0]:
    said = (out / "manifest.json").read_bytes()
    try:
        for file in json.loads(said)["files"]:
            content = (out / file["path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file["sha256"], file["path"]
        sets += 1
    except FileNotFoundError:  # two publications since, on a busy machine
        assert (out / "manifest.json").read_bytes() != said
print(sets)
"""


def test_who_follows_the_manifest_sees_whole_sets_while_new_ones_are_published(record, tmp_path):
    form, out = Form(by_month=True, versioned=True), tmp_path / "out"
    run(record, out, form)
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(out)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "reading\n"
        for n in range(1, 5):
            write(record, 1000 + n, at=NOW + n * HOUR)
            run(record, out, form, NOW + n * HOUR)
        process.stdin.close()
        assert int(process.stdout.read()) > 0
        assert process.wait() == 0


KILLED = """
import datetime as dt, os, signal, sys
from pathlib import Path
from availability_pipeline.copies import destinations
from availability_pipeline.copies import export
calls, real = int(sys.argv[3]), destinations.Folder.put
def put(self, name, staged, replacing):
    global calls
    calls -= 1
    if not calls:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, name, staged, replacing)
destinations.Folder.put = put
to = destinations.destination(sys.argv[2])
form = export.Form(by_month=True, versioned=True)
export.export(Path(sys.argv[1]), to, form, now=dt.datetime(2024, 4, 1, tzinfo=dt.UTC))
"""


@pytest.mark.parametrize("calls", [1, 3, 5])
def test_a_killed_export_leaves_the_old_set_and_the_next_one_clears_up(record, tmp_path, calls):
    form, out = Form(by_month=True, versioned=True), tmp_path / "out"
    old = run(record, out, form).manifest
    write(record, 555, at=NOW + HOUR)
    command = [sys.executable, "-c", KILLED, str(record), str(out), str(calls)]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE)
    assert done.returncode == -9, done.stderr
    assert export.read_manifest(destination(str(out)))[0] == old
    for file in old.files:
        assert _snapshot.sha256(out / file.path) == file.sha256
    write(record, 556, at=NOW + 2 * HOUR)
    new = run(record, out, form).manifest
    assert names(out) == {f.path for f in (*old.files, *new.files)} | {"manifest.json"}
    assert not [p for p in out.iterdir() if p.is_dir() and p.name.startswith(".")]


def test_files_of_somebody_else_are_never_touched(record, tmp_path):
    mine = {"notes.txt", "availability-old.parquet", "availability/month=2024-01/x.parquet",
            "symbols.parquet", "availability.csv"}  # fmt: skip
    for name in mine:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("mine")
    for form in (Form(), Form(by_month=True), Form(versioned=True), Form(versioned=True)):
        run(record, tmp_path / "out", form)
    assert all((tmp_path / "out" / name).read_text() == "mine" for name in mine)
    # From one layout to the next, what the manifest before named has gone.
    assert "availability.parquet" not in names(tmp_path / "out")


def test_a_manifest_of_somebody_else_is_refused(record, tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(ExportError, match="not ours"):
        run(record, tmp_path)
    assert (tmp_path / "manifest.json").read_text() == '{"name": "a web page"}'
    assert not (tmp_path / "availability.parquet").exists()


def test_an_empty_record_is_exported_as_empty_files(tmp_path):
    path = tmp_path / "record.duckdb"
    with writer(path):
        pass
    done = run(path, tmp_path / "a")
    assert done.manifest.rows == {"availability": 0, "symbol_spans": 0, "daily_summary": 0}
    assert duckdb.read_parquet(str(tmp_path / "a" / "availability.parquet")).columns[0] == "date"
    assert len(run(path, tmp_path / "b", Form(by_month=True)).written) == 2


def test_a_writer_waits_for_the_copy_and_not_for_the_export(record, tmp_path, monkeypatch):
    written = threading.Event()

    def meanwhile(*args):
        write(record, 777, at=NOW + HOUR)
        written.set()
        return real(*args)

    real = export._write
    monkeypatch.setattr(export, "_write", meanwhile)
    run(record, tmp_path / "out")
    assert written.is_set()
    found = duckdb.read_parquet(str(tmp_path / "out" / "availability.parquet"))
    assert found.filter("file_size_bytes = 777").shape[0] == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [("ftp://host/x", "not a destination"), ("s3://", "not a destination"),
     ("s3:///x", "not a destination"),
     ("file://host/x", "not a destination"), ("file://", "not a destination"),
     ("s3://KEY:geheim@bucket/x", "leave credentials out")],
)  # fmt: skip
def test_what_is_no_destination_is_one_line_without_secrets(text, words):
    with pytest.raises(ExportError, match=words) as caught:
        destination(text)
    assert "geheim" not in str(caught.value)


def test_a_folder_that_refuses_is_one_line(record, tmp_path):
    for place in (record, record / "below"):
        with pytest.raises(ExportError, match="choose another destination") as caught:
            run(record, place)
        assert "\n" not in str(caught.value)
    with pytest.raises(MissingDatabaseError):
        run(tmp_path / "none.duckdb", tmp_path / "out")


def test_two_exports_into_one_folder_do_not_mix(record, tmp_path):
    with (
        destination(str(tmp_path / "out")).staging(),
        pytest.raises(ExportError, match="another export"),
    ):
        run(record, tmp_path / "out")


def test_an_address_of_a_file_is_decoded(record, tmp_path):
    run(record, f"{(tmp_path / 'a folder').as_uri()}")
    assert (tmp_path / "a folder" / "manifest.json").exists()


@pytest.fixture(scope="module")
def endpoint():
    with local_archive() as archive:
        yield archive.endpoint


@pytest.fixture
def bucket(endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    name = f"b-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    yield client, name
    client.close()


def objects(client, name):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
    return {o["Key"] for page in pages for o in page.get("Contents", ())}


@pytest.mark.parametrize("prefix", ["", "/deep/er", "/龙虾 #?%20/"])
def test_a_bucket_gets_the_same_files_as_a_folder(record, tmp_path, bucket, prefix):
    client, name = bucket
    form = Form(by_month=True, everything=True)
    here = run(record, tmp_path / "out", form).manifest
    there = run(record, f"s3://{name}{prefix}", form)
    files = [file.model_copy(update={"etag": None}) for file in there.manifest.files]
    assert there.manifest.model_copy(update={"files": files}) == here
    under = f"{prefix.strip('/')}/" if prefix else ""
    assert objects(client, name) == {under + n for n in names(tmp_path / "out")}
    for file in (f.path for f in here.files):
        body = client.get_object(Bucket=name, Key=under + file)["Body"].read()
        assert body == (tmp_path / "out" / file).read_bytes()
    assert run(record, f"s3://{name}{prefix}", form).written == ()


def test_a_bucket_keeps_whole_sets_too_and_gets_the_manifest_last(record, bucket, monkeypatch):
    client, name = bucket
    form, put = Form(by_month=True, versioned=True), []
    real = destinations.Bucket.put

    def note(self, file, staged, replacing):
        put.append(file)
        if len(put) > 8:  # the second export: the old set is whole until the manifest changes
            said = json.loads(client.get_object(Bucket=name, Key="manifest.json")["Body"].read())
            assert {f["path"] for f in said["files"]} <= objects(client, name)
        return real(self, file, staged, replacing)

    monkeypatch.setattr(destinations.Bucket, "put", note)
    run(record, f"s3://{name}", form)
    first = objects(client, name)
    write(record, 555, at=NOW + HOUR)
    second = run(record, f"s3://{name}", form)
    assert [n for n, file in enumerate(put) if file == "manifest.json"] == [5, len(put) - 1]
    new = {f.path for f in second.manifest.files} | {"manifest.json"}
    assert objects(client, name) == first | new
    run(record, f"s3://{name}", form)
    assert objects(client, name) == new


def test_a_bucket_that_refuses_is_one_line_and_leaves_the_record_alone(
    record, bucket, monkeypatch, tmp_path
):
    _, name = bucket
    before = record.read_bytes()
    lines = []
    for text, env in (
        ("s3://no-such-bucket-here/x", {}),
        (f"s3://{name}", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}),
        (f"s3://{name}", {"AWS_PROFILE": "nobody"}),
        ("s3://UPPER_case!/x", {}),
    ):
        with monkeypatch.context() as patch:
            patch.setenv("AWS_MAX_ATTEMPTS", "1")
            for key, value in env.items():
                patch.setenv(key, value)
            with pytest.raises(ExportError, match=r"refuses|not a destination") as caught:
                run(record, text)
        lines.append(str(caught.value))
    assert not [line for line in lines if "\n" in line or "geheim" in line]
    assert record.read_bytes() == before


def whole(client, name, prefix):
    """Each file of the manifest is there with the content that the manifest says."""
    said = json.loads(client.get_object(Bucket=name, Key=f"{prefix}manifest.json")["Body"].read())
    for file in said["files"]:
        body = client.get_object(Bucket=name, Key=prefix + file["path"])["Body"].read()
        assert hashlib.sha256(body).hexdigest() == file["sha256"]


def _concurrent(record, text, form, results, barrier, now):
    barrier.wait(PATIENCE)
    try:
        to = destination(text)
        results.append(export.export(record, to, form, now=now, wait_seconds=PATIENCE))
    except ExportError as error:
        results.append(error)


@pytest.mark.parametrize("versioned", [True, False])
def test_of_two_exports_at_once_to_a_bucket_the_manifest_names_only_what_is_there(
    record, tmp_path, bucket, versioned
):
    """The second one's cleaning up once removed files that the first one's manifest named."""
    client, name = bucket
    form = Form(by_month=True, versioned=versioned)
    other = tmp_path / "other.duckdb"
    write(other, 777, at=NOW + HOUR)
    outcomes = []
    for turn in range(6):
        results, barrier = [], threading.Barrier(2)
        write(record, 100 + turn, at=NOW + (turn + 1) * HOUR)
        write(other, 700 + turn, at=NOW + (turn + 2) * HOUR)
        threads = [
            threading.Thread(
                target=_concurrent,
                args=(source, f"s3://{name}/{versioned}", form, results, barrier, NOW),
            )
            for source in (record, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outcomes += results
        good = [one for one in results if not isinstance(one, Exception)]
        assert good, results
        assert all("another export" in str(one) for one in results if isinstance(one, Exception))
        whole(client, name, f"{versioned}/")
    assert any(isinstance(one, Exception) for one in outcomes), "they never met"


@pytest.mark.parametrize("versioned", [True, False])
def test_an_export_that_outlives_its_lock_fails_instead_of_naming_what_another_one_changed(
    record, bucket, monkeypatch, versioned
):
    """The second one's cleaning up once removed files that the first one's manifest named."""
    client, name = bucket
    form = Form(by_month=True, versioned=versioned)
    run(record, f"s3://{name}", form)
    write(record, 555, at=NOW + HOUR)
    monkeypatch.setattr(destinations, "LOCK_HOURS", 0)
    real, second = destinations.Bucket.put, []

    def put(self, file, staged, replacing):
        done = real(self, file, staged, replacing)
        if not second:
            second.append(None)
            write(record, 777, at=NOW + 2 * HOUR)
            second.append(run(record, f"s3://{name}", form))
        return done

    monkeypatch.setattr(destinations.Bucket, "put", put)
    with pytest.raises(ExportError, match="changed by another export at the same time"):
        run(record, f"s3://{name}", form)
    whole(client, name, "")


def test_a_killed_exports_lock_is_named_and_taken_over_in_time(record, bucket, monkeypatch):
    client, name = bucket
    client.put_object(Bucket=name, Key="x/.availability-export.lock", Body=b"killed")
    with pytest.raises(ExportError, match=r"or remove x/\.availability-export\.lock"):
        run(record, f"s3://{name}/x")
    assert objects(client, name) == {"x/.availability-export.lock"}
    monkeypatch.setattr(destinations, "LOCK_HOURS", 0)
    run(record, f"s3://{name}/x")
    assert "x/.availability-export.lock" not in objects(client, name)


def test_a_file_damaged_at_the_same_size_is_written_again(record, tmp_path, bucket):
    client, name = bucket
    form = Form(by_month=True)
    for place in (str(tmp_path / "out"), f"s3://{name}/damaged"):
        file = run(record, place, form).manifest.files[0]
        body = bytes(file.bytes)
        if place.startswith("s3"):
            client.put_object(Bucket=name, Key=f"damaged/{file.path}", Body=body)
        else:
            (tmp_path / "out" / file.path).write_bytes(body)
        assert run(record, place, form).written == (file.path,)
        assert run(record, place, form).written == ()
