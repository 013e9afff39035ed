"""A database from elsewhere whose catalog does more than hold rows: nothing of it is evaluated."""

import datetime as dt
import shutil

import duckdb
import pytest

from availability_pipeline.copies import _snapshot, backup, restore
from availability_pipeline.copies.backup import Keep
from availability_pipeline.copies.destinations import Folder
from availability_pipeline.copies.export import Form, export
from availability_pipeline.errors import BackupError, ForeignDatabaseError, NewerSchemaError
from availability_pipeline.record import connection, schema, write
from availability_pipeline.record.connection import writer
from availability_pipeline_tests.support import old_schemas
from availability_pipeline_tests.support.helpers import D, flat, make_listing

NOW = dt.datetime(2024, 2, 1, tzinfo=dt.UTC)
KEEP = Keep(7, 4, 12)
SECRET = "s3cr3t of another program"

# {file} is a file that only its owner should read.
HOSTILE = {
    "a view that reads a file": "CREATE OR REPLACE VIEW availability AS SELECT date, symbol, "
    "available, file_size_bytes, last_modified, probe_timestamp, (SELECT content FROM "
    "read_text('{file}')) AS status, 'x' contract_type, 'x' base_asset, 'x' quote_asset, 'x' url, "
    "200 status_code FROM daily_availability",
    "a macro in the place of a function of DuckDB": "CREATE MACRO url_encode(x) AS "
    "(SELECT content FROM read_text('{file}'))",
    "a macro in the place of an aggregate": "CREATE MACRO timezone(a, b) AS "
    "(SELECT NULL::TIMESTAMPTZ FROM read_text('{file}'))",
    "meta as a view": "ALTER TABLE meta RENAME TO was; CREATE VIEW meta AS SELECT key, value "
    "FROM was, read_text('{file}')",
    "probes as a view": "ALTER TABLE probes RENAME TO was; CREATE VIEW probes AS SELECT was.* "
    "FROM was, read_text('{file}')",
    "a generated column": "CREATE TABLE more (a INTEGER, b VARCHAR GENERATED ALWAYS AS "
    "(upper(a::VARCHAR)))",
    "a column of ours with a default": "ALTER TABLE meta ALTER value SET DEFAULT 'x'",
    "a table of ours with a column more": "ALTER TABLE symbols ADD COLUMN note VARCHAR",
}
by_kind = pytest.mark.parametrize("kind", HOSTILE)


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "record.duckdb"
    with writer(path) as con:
        files = {"AUSDT": flat(D(2024, 1, 1), D(2024, 1, 9))}
        listing = make_listing(D(2024, 1, 1), D(2024, 1, 9), files)
        write.write_probe(con, listing, probed_at=NOW, run_id="r")
    return path


@pytest.fixture
def spoil(tmp_path):
    """Change a database as somebody else can before handing it on."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)

    def change(path, kind):
        with duckdb.connect(str(path)) as con:
            for statement in HOSTILE[kind].format(file=secret).split("; "):
                con.execute(statement)

    return change


@by_kind
def test_no_question_is_asked_of_it(record, spoil, kind):
    spoil(record, kind)
    said = "nothing of it was evaluated"
    with pytest.raises(ForeignDatabaseError, match=said) as caught, connection.reader(record):
        pass
    assert SECRET not in str(caught.value)
    with pytest.raises(ForeignDatabaseError), connection.writer(record):
        pass


@by_kind
def test_nor_is_it_evaluated_to_give_it_our_file_format(tmp_path, spoil, kind):
    """A writer first copies what has DuckDB 2's format, all tables and views of it."""
    path = tmp_path / "newer.duckdb"
    with duckdb.connect(str(path)) as con:
        for statement in schema.DDL:
            con.execute(statement)
        con.execute("INSERT INTO meta VALUES ('schema_version', $1)", [str(schema.SCHEMA_VERSION)])
    spoil(path, kind)
    before = path.read_bytes()
    with pytest.raises(ForeignDatabaseError, match="nothing of it"), connection.writer(path):
        pass
    assert path.read_bytes() == before


@by_kind
def test_it_is_no_backup(record, spoil, kind, tmp_path):
    """Its hash is right: whoever changed it also wrote the manifest."""
    made = backup.make(record, tmp_path / "backups", now=NOW, keep=KEEP)
    spoil(made.path, kind)
    manifest = made.manifest.model_copy(
        update={"sha256": _snapshot.sha256(made.path), "bytes": made.path.stat().st_size}
    )
    made.path.with_suffix(".json").write_text(manifest.model_dump_json())
    with pytest.raises(BackupError, match="nothing of it was evaluated"):
        backup.verify(made.path)
    with pytest.raises(BackupError, match="is good"):
        backup.newest_good(tmp_path / "backups")


@by_kind
def test_it_is_not_exported(record, spoil, kind, tmp_path):
    spoil(record, kind)
    with pytest.raises(ForeignDatabaseError):
        export(record, Folder(tmp_path / "out"), Form("csv"), now=NOW)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file() and "lock" not in p.name]


def test_what_was_found_to_be_ours_is_asked_again_when_it_has_changed(record, spoil):
    with connection.reader(record):
        pass
    spoil(record, "a view that reads a file")
    with pytest.raises(ForeignDatabaseError), connection.reader(record):
        pass


def test_a_copy_can_touch_nothing_but_itself(record, tmp_path):
    """Should the comparison ever miss something: DuckDB itself keeps it from other files."""
    other = tmp_path / "other"
    other.write_text(SECRET)
    copy = tmp_path / "copy.duckdb"
    shutil.copyfile(record, copy)
    with connection.reader(copy, 0, only_in=[tmp_path / "out"]) as con:
        for statement in (
            f"SELECT * FROM read_text('{other}')",
            f"COPY meta TO '{tmp_path / 'taken'}'",
            f"ATTACH '{tmp_path / 'more.duckdb'}'",
            "LOAD httpfs", "INSTALL httpfs", "FROM 'http://127.0.0.1:9/x.parquet'",
            "SET enable_external_access = true", "SET autoinstall_known_extensions = true",
        ):  # fmt: skip
            with pytest.raises(duckdb.Error):
                con.execute(statement)
    assert not (tmp_path / "taken").exists()


def test_no_extension_is_installed_for_a_question(record):
    with connection.reader(record) as con:
        names = ("autoinstall_known_extensions",)
        rows = con.execute("SELECT value FROM duckdb_settings() WHERE name IN $1", [names])
        assert rows.fetchall() == [("false",)]


def test_tables_and_views_of_others_beside_ours_harm_nobody(record, tmp_path):
    """As somebody makes who works with the record."""
    with duckdb.connect(str(record)) as con:
        con.execute("CREATE TABLE notes AS SELECT 1 AS a; CREATE SCHEMA mine")
        con.execute("CREATE VIEW mine.probes AS SELECT 1 AS a; CREATE VIEW late AS FROM revisions")
    made = backup.make(record, tmp_path / "backups", now=NOW, keep=KEEP)
    backup.verify(made.path)
    target = tmp_path / "restored.duckdb"
    restore.put_back(made.path, made.manifest, target, now=NOW)
    with connection.reader(target) as con:
        assert con.execute("SELECT count(*) FROM daily_availability").fetchall() == [(9,)]


@pytest.mark.parametrize("text", [old_schemas.V1])
def test_every_version_so_far_is_ours(tmp_path, text):
    path = tmp_path / "old.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute(text)
    with connection.reader(path, older_too=True) as con:
        schema.require_ours(con)
    with connection.writer(path) as con:  # which migrates it
        schema.require_ours(con)


def test_a_later_version_says_so_though_its_tables_are_unknown(record):
    with duckdb.connect(str(record)) as con:
        con.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
        con.execute("ALTER TABLE symbols ADD COLUMN note VARCHAR")
    with pytest.raises(NewerSchemaError, match="upgrade"), connection.reader(record):
        pass
