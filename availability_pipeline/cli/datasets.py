"""The commands about the archive's datasets: which are known, and which the archive has."""

import click

from availability_pipeline import settings
from availability_pipeline.archive import datasets as known
from availability_pipeline.archive.datasets import CATALOGUE
from availability_pipeline.cli._options import form_options
from availability_pipeline.cli._output import count, one_line_errors, print_rows
from availability_pipeline.queries import Rows


@click.group("datasets", invoke_without_command=True)
@form_options
@click.pass_context
def datasets(ctx: click.Context, form: str | None) -> None:
    """What kinds of files the archive is known to have.

    `live`; `stopped`, nothing comes after its last period; `removed`, the archive has it no more.
    An absence is confirmed so many days after its period ended.

    Example: binance-availability datasets --json
    """
    if ctx.invoked_subcommand is not None:
        return
    with one_line_errors():
        daily = settings.load().settle_days
    rows = [
        (
            str(entry),
            entry.lifecycle,
            entry.datasets[0].text(entry.first),
            entry.last and entry.datasets[0].text(entry.last),
            entry.datasets[0].settle_days(daily),
            # JSON has a list, what people read has not.
            list(entry.intervals) if form == "json" else " ".join(entry.intervals) or None,
            entry.note or None,
        )
        for entry in CATALOGUE.values()
    ]
    columns = ("dataset", "lifecycle", "first", "last", "settle_days", "intervals", "note")
    print_rows(Rows(columns, rows), form, f"{len(rows)} kinds of files are known")


@datasets.command()
@form_options
def discover(form: str | None) -> None:
    """Where the archive and what is known of it differ.

    `unknown`: the archive has it; `missing`: it does not (of the known and the configured ones);
    `returned`: it was removed and is there again. Lists folders only. The check
    catalogue_matches_archive says the same on Mondays.

    Example: binance-availability datasets discover --json
    """
    # They take pandas and boto3 with them.
    from availability_pipeline.archive.discovery import discover as compare
    from availability_pipeline.archive.listing import ArchiveError, S3Archive

    with one_line_errors():
        s = settings.load()
        configured = known.configured(s)
        archive = S3Archive.from_settings(s)
    try:
        found = compare(archive, configured)
    except ArchiveError as error:
        raise click.ClickException(str(error)) from None
    rows = [(one.dataset, one.finding) for one in found.findings]
    title = f"The archive has {count(len(found.found), 'dataset')}; differences: {len(rows)}"
    print_rows(Rows(("dataset", "finding"), rows), form, title)
