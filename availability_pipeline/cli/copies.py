"""Copies of the record: `backup`, `restore`, `export`, `publish`, `follow`."""

import datetime as dt
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click

from availability_pipeline import PROGRAM, settings
from availability_pipeline.archive.datasets import Dataset, configured
from availability_pipeline.cli._options import LocalPath, patterns_option, text_argument
from availability_pipeline.cli._output import count, file_bar, one_line_errors, print_json, say
from availability_pipeline.cli.probe import require_launch, run_probe
from availability_pipeline.copies import backup as backups
from availability_pipeline.copies import restore as restoring
from availability_pipeline.dates import today_utc
from availability_pipeline.errors import BackupError, StoreError
from availability_pipeline.masking import mask, printable
from availability_pipeline.record.schema import SCHEMA_VERSION


def _keep_option(unit: str) -> Callable[..., Any]:
    return click.option(
        f"--keep-{unit}",
        type=click.IntRange(0, backups.MAX_KEPT),
        help=f"Keep the last backup of so many {unit} periods; "
        f"AVAILABILITY_BACKUP_KEEP_{unit.upper()} when left out.",
    )


@click.command()
@click.argument("dest", required=False, type=LocalPath(path_type=Path))
@_keep_option("daily")
@_keep_option("weekly")
@_keep_option("monthly")
@click.option(
    "--verify", is_flag=True, help="Verify the backups in DEST, or the file DEST; make none."
)
def backup(
    dest: Path | None,
    keep_daily: int | None,
    keep_weekly: int | None,
    keep_monthly: int | None,
    verify: bool,
) -> None:
    """Copy the record into the folder DEST, while the pipeline runs.

    The copy is verified before it gets its name; then older backups go, except the last of each
    day, week and month. DEST is AVAILABILITY_BACKUP_DIR when left out.

    Example: binance-availability backup /var/backups/availability
    """
    with one_line_errors():
        s = settings.load()
    dest = dest or (Path(s.backup_dir) if s.backup_dir else None)
    if dest is None:
        raise click.UsageError("say where: give DEST, or set AVAILABILITY_BACKUP_DIR")
    dest = dest.expanduser()
    if verify:
        if (keep_daily, keep_weekly, keep_monthly) != (None, None, None):
            raise click.UsageError("--verify removes nothing; leave the --keep options out")
        _verify(dest)
        return
    keep = backups.Keep(
        s.backup_keep_daily if keep_daily is None else keep_daily,
        s.backup_keep_weekly if keep_weekly is None else keep_weekly,
        s.backup_keep_monthly if keep_monthly is None else keep_monthly,
    )
    with one_line_errors():
        made = backups.make(
            s.db_path, dest, now=dt.datetime.now(dt.UTC), keep=keep, wait_seconds=s.db_wait_seconds
        )
    click.echo(f"{made.path}: {_summary(made.manifest)}")
    for path in made.removed:
        click.echo(f"removed {path}")
    _warn_of_the_future(made.future)


def _warn_of_the_future(paths: Sequence[Path]) -> None:
    for path in paths:
        click.echo(
            f"warning: {path} is dated in the future: this clock is wrong, or was when it was "
            "made. It is kept, and takes the place of no other",
            err=True,
        )


def _verify(dest: Path) -> None:
    bad = 0
    with one_line_errors():
        paths = backups.backups(dest) if dest.is_dir() else [dest]
        for path in paths:
            try:
                click.echo(f"{path}: good, {_summary(backups.verify(path))}")
            except BackupError as error:
                if len(paths) == 1:
                    raise
                bad += 1
                click.echo(f"Error: {error}", err=True)
    if bad:
        raise click.ClickException(f"{bad} of {len(paths)} backups in {dest} are not good")


@click.command()
@click.argument("src", type=LocalPath(path_type=Path))
@click.option("--repair", is_flag=True, help="Then probe the dates it lacks, in one run.")
def restore(src: Path, repair: bool) -> None:
    """Put the backup SRC in the record's place.

    SRC is a file, or a folder: then its newest good backup is taken. It is verified first. The
    replaced database stays beside the restored one.

    Example: binance-availability restore /var/backups/availability --repair
    """
    if repair:
        require_launch()  # before anything is replaced
    with one_line_errors():
        s = settings.load()
        path, manifest, passed_over = backups.newest_good(src.expanduser())
        now = dt.datetime.now(dt.UTC)
        beside = backups.backups(src.expanduser()) if src.expanduser().is_dir() else [path]
        _warn_of_the_future(backups.dated_in_the_future(beside, now))
        for line in passed_over:
            click.echo(f"passed over: {line}", err=True)
        replaced = restoring.put_back(
            path, manifest, s.db_path, now=now, wait_seconds=s.db_wait_seconds
        )
        click.echo(f"restored {path} to {s.db_path}: {_summary(manifest)}")
        click.echo(
            "its hash says that it is whole, not who made it: see docs/security.md if the folder "
            "is not yours alone"
        )
        if replaced:
            click.echo(f"the replaced database is kept as {replaced}")
        if manifest.schema_version < SCHEMA_VERSION:
            click.echo(
                f"it has schema version {manifest.schema_version}: the next update or backfill "
                f"migrates it to {SCHEMA_VERSION}, until then questions are refused"
            )
        lacks = restoring.lacking(s.db_path, today_utc(), s.db_wait_seconds, configured(s))
    click.echo(
        "Dagster's history may name partitions that this file does not hold: the check "
        "store_matches_dagster compares them"
    )
    spans = _say_lacking(lacks)
    failures: list[str] = []
    for (start, end), which in spans.items():
        if not repair:
            only = "".join(f" --dataset {one}" for one in which) if _named(lacks) else ""
            say(f"do it with: `{PROGRAM} backfill --start {start} --end {end}{only}`")
            continue
        try:
            run_probe(start, end, patterns=[str(one) for one in which])
        except click.ClickException as error:  # it keeps no other from being probed
            failures.append(error.message)
    if failures:
        raise click.ClickException("\n".join(failures))


def _named(lacks: restoring.Lacking) -> bool:
    return len(lacks.outstanding) + len(lacks.unheld) > 1


def _say_lacking(
    lacks: restoring.Lacking,
) -> dict[tuple[dt.date, dt.date], list[Dataset]]:
    """Say what is to be probed again; the dates of it, each span with its datasets."""
    found: dict[tuple[dt.date, dt.date], list[Dataset]] = {}
    for one in lacks.outstanding:
        if one.start is None:
            continue
        found.setdefault((one.start, one.dataset.last_day(one.end)), []).append(one.dataset)
        of = f" of {one.dataset}" if _named(lacks) else ""
        span = f"{one.dataset.text(one.start)} to {one.dataset.text(one.end)}"
        unknown = count(one.unknown, "month" if one.dataset.monthly else "date")
        click.echo(
            f"to be probed again{of}: {span} ({unknown} never probed, {one.unsettled} not settled "
            "when probed last)"
        )
    if not found:
        yesterday = today_utc() - dt.timedelta(1)
        click.echo(f"nothing is to be probed again: every date up to {yesterday} is settled")
    for dataset in lacks.unheld:
        say(f"not in this backup: {dataset}; fill it with `{PROGRAM} backfill --dataset {dataset}`")
    for dataset in lacks.unconfigured:
        click.echo(f"not configured any more, so not probed again: {dataset}")
    return found


@click.command()
@click.argument("dest")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    show_default=True,
    help="Parquet with zstd, or CSV in UTF-8 with times in UTC.",
)
@click.option(
    "--partition-by",
    type=click.Choice(["month"]),
    help="One file a month in Hive's layout (month=2024-01), instead of one file; of monthly "
    "files one a year.",
)
@patterns_option(
    "PATTERN",
    "These recorded datasets, as um/daily/klines/*, or all; may be given more than once.",
)
@click.option("--all", "everything", is_flag=True, help="Also revisions, symbols and probes.")
@click.option(
    "--versioned",
    is_flag=True,
    help="Names with the content's hash: who follows manifest.json never sees a mixed set.",
)
def export(
    dest: str, kind: Literal["parquet", "csv"], partition_by: str | None,
    patterns: tuple[str, ...], everything: bool, versioned: bool,
) -> None:  # fmt: skip
    """Write the record as Parquet or CSV files to DEST.

    Availability, symbol listings and daily summary; with --all revisions, symbols and probes, too.
    One dataset, the first configured one without --dataset; several get a folder each.

    DEST is a folder, a file:// or an s3://bucket/prefix URL; boto3 finds the credentials. Files
    whose rows have not changed are left alone; manifest.json, written last, names them all.

    Example: binance-availability export s3://my-bucket/availability --partition-by month
    """
    from availability_pipeline.copies import destinations
    from availability_pipeline.copies import export as exporting

    form = exporting.Form(
        kind, partition_by == "month", everything, versioned, ",".join(patterns) or None
    )
    with one_line_errors():
        s = settings.load()
        to = destinations.destination(text_argument(dest))
        done = exporting.export(
            s.db_path, to, form, now=dt.datetime.now(dt.UTC), wait_seconds=s.db_wait_seconds
        )
    files, datasets, last = done.manifest.files, done.manifest.datasets, done.manifest.last_date
    of = f" of {len(datasets)} datasets" if len(datasets) > 1 else ""
    until = Dataset.parse(datasets[0].dataset).text(last) if last and not of else last or "-"
    click.echo(
        f"{to}: {done.manifest.rows['availability']:,} rows{of} up to {until}"
        f" in {len(files)} files, {sum(f.bytes for f in files):,} bytes; "
        f"{len(done.written)} written, {len(done.unchanged)} unchanged, {len(done.removed)} removed"
    )


@click.command()
@click.argument("dest", required=False)
@click.option(
    "--verify", is_flag=True, help="Read all that is published; upload again what is bad."
)
@click.option(
    "--snapshot",
    is_flag=True,
    help="Replace record.duckdb too, which is otherwise done every 30 days.",
)
def publish(dest: str | None, verify: bool, snapshot: bool) -> None:
    """Publish the record to DEST, a static site for any web server.

    Pages, JSON, Parquet, news as Atom, and the record itself in pieces, for `follow`. Only what
    changed is uploaded; latest.json is replaced last, and names it. Files of earlier publications
    stay for 7 days. docs/register.md has the format.

    DEST is a folder, a file:// or an s3://bucket/prefix URL; AVAILABILITY_SITE_URL when left out.

    Example: binance-availability publish /var/www/availability
    """
    from availability_pipeline.copies import destinations
    from availability_pipeline.copies import publish as publishing

    with one_line_errors():
        s = settings.load()
        dest = text_argument(dest) if dest is not None else s.site_url
        if dest is None:
            raise click.UsageError("say where: give DEST, or set AVAILABILITY_SITE_URL")
        to = destinations.destination(dest)
        bad = publishing.damaged(to) if verify else []
        for path in bad:
            click.echo(f"missing or damaged: {path}", err=True)
        done = publishing.publish(
            s.db_path,
            to,
            publishing.Form(
                address=s.site_address, threshold=s.slo_completeness, snapshot=snapshot
            ),
            now=dt.datetime.now(dt.UTC),
            wait_seconds=s.db_wait_seconds,
            again=bad,
        )
    probed = done.latest.last_probe
    last = f"{probed:%Y-%m-%d %H:%M} UTC" if probed else "-"
    click.echo(
        f"{to}: {'publication' if done.changed else 'still publication'} "
        f"{done.latest.publication}, last probe {last}, "
        f"{done.files:,} files, {done.bytes:,} bytes; uploaded {done.uploaded:,} files, "
        f"{done.uploaded_bytes:,} bytes, removed {done.removed:,}"
    )


class NotFollowedError(click.ClickException):
    """The copy is as it was."""

    exit_code = 2


@click.command()
@click.argument("url")
@click.option(
    "--to",
    type=LocalPath(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The copy; a file in AVAILABILITY_CACHE_DIR when left out.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON, UTF-8.")
def follow(url: str, to: Path | None, as_json: bool) -> None:
    """Copy a published record, or bring such a copy up to date.

    URL is the root of the published record, or a folder that holds one. Only the pieces that the
    copy lacks are fetched; all of it is verified before it takes the copy's place. A copy is read
    only: what would write into it is refused.

    Exit code 2 if it could not be done; the copy is as it was then.

    Example: binance-availability follow https://example.org/register --to record.duckdb
    """
    from availability_pipeline.copies import follow as following

    with one_line_errors():
        s = settings.load()
    now = dt.datetime.now(dt.UTC)
    try:
        url = text_argument(url)
        path = to or following.cached(url, s.cache_path)
        with file_bar("following") as bar:

            def move(done: int, of: int, read: int, of_bytes: int) -> None:
                if not done:
                    bar.expect(of, of_bytes)
                bar.move(done, read)

            found = following.follow(
                url, path, now=now, timeout_seconds=s.s3_timeout_seconds, progress=move
            )
    except StoreError as error:
        raise NotFollowedError(printable(str(error))) from None
    if as_json:
        print_json({**asdict(found), "path": str(found.path)})
        return
    probed = f"{found.last_probe:%Y-%m-%d %H:%M} UTC" if found.last_probe else "never"
    how = "brought up to date" if found.changed else "unchanged"
    click.echo(
        f"{found.path}: {how}, a copy of {printable(mask(found.url))}, published "
        f"{found.published_at:%Y-%m-%d %H:%M} UTC, last probe {probed}"
    )
    click.echo(
        f"{found.fetched_bytes:,} bytes fetched, {found.fetched_pieces:,} of "
        f"{count(found.pieces, 'piece')}; {found.reused_bytes:,} bytes were there"
    )
    click.echo(
        f"ask it: AVAILABILITY_DB={shlex.quote(str(found.path))} {PROGRAM} status, or any question "
        "with --db"
    )


def _summary(manifest: backups.Manifest) -> str:
    of = f" of {len(manifest.datasets)} datasets" if len(manifest.datasets) > 1 else ""
    return (
        f"{manifest.rows:,} {manifest.counted}{of}, {manifest.span}, "
        f"made {manifest.created_at:%Y-%m-%d %H:%M:%S} UTC"
    )
