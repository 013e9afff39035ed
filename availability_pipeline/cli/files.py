"""The archive's files: which to fetch, fetch them, verify them."""

import csv
import datetime as dt
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, get_args

import click
from rich.filesize import decimal

from availability_pipeline import PROGRAM, settings
from availability_pipeline.archive.datasets import ContractType
from availability_pipeline.cli._options import (
    DATE,
    LocalPath,
    as_of_option,
    form_options,
    in_order,
    text_argument,
)
from availability_pipeline.cli._output import (
    count,
    file_bar,
    one_line_errors,
    plain,
    print_json,
    print_notes,
    print_rows,
    record,
    say,
)
from availability_pipeline.cli.probe import end_at_once, interruptible
from availability_pipeline.masking import printable
from availability_pipeline.mirror.selection import as_dict, from_dict
from availability_pipeline.queries.plan import COLUMNS, Planned, Selection, planned
from availability_pipeline.record import outputs
from availability_pipeline.record.schema import where

if TYPE_CHECKING:
    from availability_pipeline.mirror.download import Options, Report
    from availability_pipeline.mirror.store import BucketStore, FolderStore
    from availability_pipeline.mirror.verify import Verified

    Place = BucketStore | FolderStore

SHOWN = 20
"""Lines of a list that a terminal gets; --json has all."""


@click.group("files")
def files() -> None:
    """Which files to fetch; fetch them; verify what is there.

    Example: binance-availability files plan --symbols BTCUSDT --format urls
    """


class Selected(TypedDict):
    """What `selection_options` gives a command."""

    datasets: tuple[str, ...]
    symbols: str | None
    symbols_file: Path | None
    quote_asset: tuple[str, ...]
    contract_type: tuple[str, ...]
    live_on: dt.date | None
    start: dt.date | None
    end: dt.date | None
    daily_only: bool


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which files: datasets, symbols, filters, dates."""
    options = (
        click.option(
            "--dataset",
            "datasets",
            metavar="NAME",
            multiple=True,
            help="A recorded dataset or a pattern, with its monthly files; may be given more than "
            "once. The first configured when left out.",
        ),
        click.option("--symbols", metavar="A,B", help="Only these symbols."),
        click.option(
            "--symbols-file",
            type=LocalPath(path_type=Path, dir_okay=False, exists=True, allow_dash=True),
            help="Only the symbols in this file, one a line; - is the standard input.",
        ),
        click.option(
            "--quote",
            "quote_asset",
            metavar="ASSET",
            multiple=True,
            help="Only symbols quoted in this asset, as USDT; may be given more than once.",
        ),
        click.option(
            "--contract-type",
            multiple=True,
            type=click.Choice(get_args(ContractType), case_sensitive=False),
            help="Only these contracts; may be given more than once.",
        ),
        click.option("--live-on", type=DATE, help="Only symbols with a file of this UTC date."),
        click.option("--start", type=DATE, help="First UTC date; the first probed by default."),
        click.option("--end", type=DATE, help="Last UTC date; the last probed by default."),
        click.option("--daily-only", is_flag=True, help="No monthly file for daily ones."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _selection(given: Selected) -> Selection:
    in_order(given["start"], given["end"], "--start --end")
    return Selection(
        given["datasets"] or None,
        given["start"],
        given["end"],
        _symbols(given["symbols"], given["symbols_file"]),
        given["quote_asset"] or None,
        given["contract_type"] or None,
        given["live_on"],
        not given["daily_only"],
    )


def _symbols(text: str | None, path: Path | None) -> tuple[str, ...] | None:
    found: list[str] = []
    if text is not None:
        found += [name.strip() for name in text_argument(text).split(",") if name.strip()]
    if path is not None:
        try:
            lines = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{path} cannot be read: {error}") from None
        found += [name.strip() for name in lines.splitlines() if name.strip()]
    if found:
        return tuple(dict.fromkeys(found))
    if text is not None or path is not None:
        raise click.UsageError("--symbols names none; leave it out for all")
    return None


def plan_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """A plan of before instead of a selection."""
    return click.option(
        "--plan",
        "plan_file",
        type=LocalPath(path_type=Path, dir_okay=False, exists=True),
        help="The files of this plan, of `files plan --format parquet`; no option chooses then.",
    )(command)


@files.command("plan")
@selection_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["urls", "aria2", "json", "csv", "parquet"]),
    help="Write the files themselves; else only how many there are.",
)
@click.option(
    "--out",
    type=LocalPath(path_type=Path, dir_okay=False),
    help="Write to this file; Parquet needs it.",
)
@as_of_option
def plan_command(
    form: str | None, out: Path | None, as_of: dt.datetime | None, **given: Unpack[Selected]
) -> None:
    """Which files to fetch, and how much that is.

    Monthly ones where the month is out and whole, else daily ones. Says what of the dates is
    pending, absent or unknown, too. `aria2` is an input file for aria2c, with the MD5 of each file
    and the archive's layout.

    Example: binance-availability files plan --quote USDT --start 2024-01-01 --format aria2
    """
    if out and not form:
        raise click.UsageError("say which --format to write to --out")
    if form == "parquet" and not out:
        raise click.UsageError("--format parquet needs --out FILE")
    of = _selection(given)
    with record() as con, planned(con, of, as_of=as_of) as found:
        print_notes(found.notes)
        if not form:
            print_rows(found.totals, "table", _how_much(found))
            say(f"The files themselves: --format urls, aria2, json, csv or parquet; to have them: "
                f"`{PROGRAM} files download DEST`")  # fmt: skip
            return
        click.echo(_how_much(found), err=True)
        for row in found.totals.dicts():
            if gaps := _gaps(row):
                click.echo(f"{row['dataset']}: {gaps}", err=True)
        if out:
            outputs.refuse_protected([out], Path(where(con)))
            try:
                with outputs.replacing(out) as part:
                    _write(found, form, part)
            except OSError as error:
                raise click.ClickException(f"cannot write {out}: {error.strerror}") from None
        else:
            for text in _FORMS[form](found):
                sys.stdout.write(text)


def _how_much(found: Planned) -> str:
    return f"{count(found.files, 'file')}, {decimal(found.bytes)}"


def _gaps(row: dict[str, Any]) -> str:
    kinds = ("pending", "absent", "unknown")
    return ", ".join(f"{row[kind]:,} {kind}" for kind in kinds if row[kind])


def _write(found: Planned, form: str, path: Path) -> None:
    if form == "parquet":
        found.write(path)
        return
    with path.open("w", encoding="utf-8") as file:
        file.writelines(_FORMS[form](found))


def _rows(found: Planned) -> Iterator[tuple[Any, ...]]:
    for batch in found.batches():
        yield from batch


def _urls(found: Planned) -> Iterator[str]:
    for row in _rows(found):
        yield f"{row[4]}\n"


def _aria2(found: Planned) -> Iterator[str]:
    for _, _, _, key, url, _, etag in _rows(found):
        checksum = f"  checksum=md5={etag}\n" if etag else ""
        yield f"{url}\n  out={key}\n{checksum}"


def _json(found: Planned) -> Iterator[str]:
    between = "[\n  "
    for row in _rows(found):
        entry = dict(zip(COLUMNS, row, strict=True))
        yield between + json.dumps(entry, ensure_ascii=False, default=plain)
        between = ",\n  "
    yield "[]\n" if between.startswith("[") else "\n]\n"


class _Lines(list[str]):
    """What `csv` writes to."""

    write = list.append


def _csv(found: Planned) -> Iterator[str]:
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in _rows(found):
        writer.writerow([plain(value) for value in row])
        yield "".join(lines)
        lines.clear()
    yield "".join(lines)


_FORMS: dict[str, Callable[[Planned], Iterable[str]]] = {
    "urls": _urls, "aria2": _aria2, "json": _json, "csv": _csv,
}  # fmt: skip


@files.command("download")
@click.argument("dest")
@selection_options
@plan_option
@click.option("--keep-replaced", is_flag=True, help="Keep old versions in .manifest/replaced.")
@click.option(
    "--no-checksums",
    is_flag=True,
    help="Do not ask for each CHECKSUM: the MD5 alone, half as many requests.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON, UTF-8.")
def download_command(
    dest: str,
    plan_file: Path | None,
    keep_replaced: bool,
    no_checksums: bool,
    as_json: bool,
    **given: Unpack[Selected],
) -> None:
    """Have the files in a folder or bucket, verified.

    DEST is a folder or s3://bucket/prefix; each file is fetched once. A file gets its name only
    when its size, its MD5 (the archive's ETag) and its CHECKSUM's SHA-256 are right. What is whole
    already stays; what was replaced is fetched again. Exit 1 if a file is missing in the end.

    Example: binance-availability files download ~/binance --symbols BTCUSDT --start 2024-01-01
    """
    of = _selection(given)
    with one_line_errors(), interruptible():
        from availability_pipeline.mirror.download import Options

        s = settings.load()
        place = _place(text_argument(dest))
        options = Options.from_settings(s, keep_replaced=keep_replaced, checksums=not no_checksums)
        with _planned([of], plan_file, place, s) as (path, total, size):
            if not as_json:
                say(f"{count(total, 'file')}, {decimal(size)}, to {place}")
            selection = None if plan_file else as_dict(of)
            report = _download(path, place, options, total, size, selection=selection)
    _print_report(report, place, as_json)


def _download(
    path: Path, place: "Place", options: "Options", total: int, size: int, **more: Any
) -> "Report":
    from availability_pipeline.mirror import download

    with file_bar("fetching") as bar:
        bar.expect(total, size)
        return download.download(
            path, place, options, now=lambda: dt.datetime.now(dt.UTC), progress=bar.move, **more
        )


def _place(dest: str) -> "Place":
    from availability_pipeline.mirror.store import place

    return place(dest)


@contextmanager
def _planned(
    chosen: Sequence[Selection], plan_file: Path | None, place: "Place", s: settings.Settings
) -> Iterator[tuple[Path, int, int]]:
    """All that is chosen as one plan in a file, how many files and bytes.

    The record is closed then, and free for an update.
    """
    import duckdb

    from availability_pipeline.mirror import manifest
    from availability_pipeline.mirror.store import scratch
    from availability_pipeline.record import connection

    if plan_file is not None:
        yield plan_file, *_totals(plan_file)
        return
    with scratch() as folder:
        path = folder / "plan.parquet"
        paths = [folder / f"plan-{n}.parquet" for n in range(len(chosen))]
        with manifest.opened(place) as held:
            months = held.months()
        with connection.reader(s.db, s.db_wait_seconds) as con:
            # A million files took 460 MB in all, with this 250, and half a second more.
            con.execute("SET memory_limit = '128MB'")
            con.execute("SET temp_directory = $folder", {"folder": str(folder)})
            notes: dict[str, None] = {}
            for one, part in zip(chosen, paths, strict=True):
                with planned(con, one, held=months) as found:
                    notes |= dict.fromkeys(found.notes)
                    found.write(part)
        print_notes(notes)
        if len(paths) == 1:
            yield paths[0], found.files, found.bytes
            return
        with duckdb.connect() as con:
            con.execute(
                """COPY (FROM read_parquet($paths)
                    QUALIFY row_number() OVER (PARTITION BY key ORDER BY gone) = 1)
                TO $path (format parquet)""",
                {"paths": [str(one) for one in paths], "path": str(path)},
            )
        yield path, *_totals(path)


def _totals(plan_file: Path) -> tuple[int, int]:
    import duckdb

    with duckdb.connect() as con:
        try:
            [(total, size)] = con.execute(
                "SELECT count(*), coalesce(sum(file_size_bytes), 0) FROM read_parquet($path) "
                "WHERE NOT gone",
                {"path": str(plan_file)},
            ).fetchall()
        except duckdb.Error as error:
            reason = str(error).splitlines()[0][:200]
            raise click.ClickException(
                f"{plan_file} is not a plan ({reason}); `{PROGRAM} files plan --format parquet` "
                "writes one"
            ) from None
    return total, int(size)


def _print_report(report: "Report", place: object, as_json: bool) -> None:
    failed = sorted(report.failed, key=lambda one: one.key)
    if as_json:
        print_json(
            {
                "fetched": report.fetched, "fetched_bytes": report.fetched_bytes,
                "already": report.already, "adopted": report.adopted,
                "replaced": report.replaced, "vanished": report.vanished,
                "without_checksum": report.without_checksum, "damaged": sorted(report.damaged),
                "failed": [{"key": one.key, "reason": one.reason} for one in failed],
                "interrupted": report.interrupted,
            }
        )  # fmt: skip
    else:
        said = [f"{count(report.fetched, 'file')} fetched and verified"
                f" ({decimal(report.fetched_bytes)})"]  # fmt: skip
        more = {
            "already": "whole already", "adopted": "found whole", "replaced": "of them replaced",
            "vanished": "vanished from the archive and kept",
            "without_checksum": "without a CHECKSUM, verified by their MD5",
        }  # fmt: skip
        said += [f"{getattr(report, name):,} {text}" for name, text in more.items()
                 if getattr(report, name)]  # fmt: skip
        say(", ".join(said))
        for name in sorted(report.damaged)[:SHOWN]:
            click.echo(f"kept apart: {printable(f'{place}/{name}')}", err=True)
        for one in failed[:SHOWN]:
            click.echo(f"not there: {printable(one.key)}: {printable(one.reason)}", err=True)
        if len(failed) > SHOWN:
            click.echo(f"... and {len(failed) - SHOWN:,} more; --json has all", err=True)
    if report.interrupted:
        click.echo("interrupted; what was verified stays, the same command goes on", err=True)
        end_at_once()
    if failed:
        raise click.ClickException(f"{count(len(failed), 'file')} could not be had")


@files.command("verify")
@click.argument("dest")
@selection_options
@plan_option
@click.option("--checksums", is_flag=True, help="Ask the archive for each CHECKSUM, too.")
@click.option("--repair", is_flag=True, help="Fetch what is missing, stale or damaged.")
@form_options
def verify_command(
    dest: str,
    plan_file: Path | None,
    checksums: bool,
    repair: bool,
    form: str | None,
    **given: Unpack[Selected],
) -> None:
    """Compare a mirror with the record, file by file.

    Exit 1 if a file is missing or not right. Without a selection, against all that was downloaded
    into it. `missing`: there is none; `stale`: an earlier version; `damaged`: neither; `foreign`:
    not of the archive. Works offline, unless --checksums or --repair is given.

    Example: binance-availability files verify ~/binance --repair
    """
    if form == "csv":
        raise click.UsageError("lists of keys have no CSV; give --json")
    of = _selection(given)
    with one_line_errors(), interruptible():
        from availability_pipeline.mirror import manifest

        s = settings.load()
        place = _place(text_argument(dest))
        chosen = [of] if of != Selection() else [
            from_dict(one) for one in manifest.selections(place)
        ] or [of]  # fmt: skip
        with _planned(chosen, plan_file, place, s) as (path, total, size):
            found = _verify(path, place, s, total, size, checksums=checksums)
            wrong = [*found.missing, *found.stale, *found.damaged]
            if repair and wrong:
                report = _repair(path, place, s, wrong)
                _print_report_of_repair(report)
                found = _verify(path, place, s, total, size, checksums=checksums)
    _print_verified(found, place, form)


def _verify(
    path: Path, place: "Place", s: settings.Settings, total: int, size: int, *, checksums: bool
) -> "Verified":
    from availability_pipeline.mirror.verify import verify

    fetcher = None
    if checksums:
        from availability_pipeline.mirror.fetch import Fetcher

        fetcher = Fetcher(s.download_base, s.s3_timeout_seconds)
    try:
        with file_bar("reading") as bar:
            bar.expect(total, size)
            return verify(path, place, fetcher=fetcher, progress=bar.move)
    finally:
        if fetcher:
            fetcher.close()


def _repair(path: Path, place: "Place", s: settings.Settings, wrong: Sequence[str]) -> "Report":
    import duckdb

    from availability_pipeline.mirror import manifest
    from availability_pipeline.mirror.download import Options
    from availability_pipeline.mirror.store import scratch

    with scratch() as folder, duckdb.connect() as con:
        part = folder / "repair.parquet"
        con.execute(
            "COPY (FROM read_parquet($path) WHERE list_contains($wrong, key)) TO $part "
            "(format parquet)",
            {"path": str(path), "wrong": list(wrong), "part": str(part)},
        )
        for key in wrong:
            if place.find(key) is not None:
                place.move(key, f"{manifest.DAMAGED}/{key}")
        total, size = _totals(part)
        options = Options.from_settings(s)
        return _download(part, place, options, total, size, force=set(wrong))


def _print_report_of_repair(report: "Report") -> None:
    failed = len(report.failed)
    click.echo(
        f"repaired: {count(report.fetched, 'file')} fetched"
        f"{f', {failed:,} could not be had' if failed else ''}",
        err=True,
    )


_LISTS = ("missing", "stale", "damaged", "unproven", "foreign", "vanished")


def _print_verified(found: "Verified", place: object, form: str | None) -> None:
    if form == "json":
        print_json({"verified": found.verified, **{n: getattr(found, n) for n in _LISTS}})
    else:
        kinds = [f"{len(getattr(found, name)):,} {name}" for name in _LISTS if getattr(found, name)]
        say(", ".join([f"{place}: {count(found.verified, 'file')} verified", *kinds]))
        for name in _LISTS:
            keys = getattr(found, name)
            for key in keys[:SHOWN]:
                click.echo(f"{name}: {printable(key)}")
            if len(keys) > SHOWN:
                click.echo(f"... and {len(keys) - SHOWN:,} more {name}; --json has all")
        if found.unproven:
            say("Unproven: the archive has no MD5 of it; --checksums asks for its SHA-256")
    if not found.whole:
        sys.exit(1)
