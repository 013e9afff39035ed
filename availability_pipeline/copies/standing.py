"""The checks of the site that AVAILABILITY_SITE_URL names: is it current, is it whole."""

import datetime as dt
from typing import TYPE_CHECKING

from availability_pipeline.copies import publish
from availability_pipeline.copies.destinations import destination
from availability_pipeline.copies.documents import loads
from availability_pipeline.errors import ExportError
from availability_pipeline.quality import rules
from availability_pipeline.quality.rules import Verdict
from availability_pipeline.record.status import recorded_datasets, scope
from availability_pipeline.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

WITHIN = dt.timedelta(hours=2)
"""An update is published so soon: within minutes, or an hour where other updates follow it."""

FILES_A_DAY = 200
"""So many files are read each day, others the next: at most 50 MB of pieces."""


def current(con: "DuckDBPyConnection", limits: Settings, now: dt.datetime) -> Verdict:
    """Whether the site has the newest date of each dataset that the record has.

    Args:
        con: an open record.
        limits: the settings, in which AVAILABILITY_SITE_URL is set.
        now: aware; what was probed in the last two hours need not be published yet.

    Raises:
        ExportError: the site cannot be read.
    """
    to = destination(str(limits.site_url))
    found = publish.read(to)
    published: dict[str, str | None] = {}
    if found:
        content = to.read(found[0].documents.datasets)
        if content is None:
            raise ExportError(f"{to} lacks {found[0].documents.datasets}; publish again")
        published = {one["dataset"]: one["last"] for one in loads(content[0])["datasets"]}
    behind = []
    for dataset in recorded_datasets(con):
        t = scope(con, dataset)
        # `probes` has the last probe of a date only: the look-back of 09:00 probes the last twenty
        # dates again, half an hour before the check.
        [(last,)] = con.execute(
            """SELECT max(last_period) FROM probe_ranges
            WHERE dataset = $1 AND symbol IS NULL AND probed_at < $2""",
            [t.id, now - WITHIN],
        ).fetchall()
        if last is None:
            continue
        there = published.get(str(dataset))
        if there is None or there < dataset.text(last):
            behind.append((str(dataset), there, dataset.text(last)))
    return rules.publication_current(behind, found[0].published_at if found else None)


def whole(limits: Settings, now: dt.datetime) -> Verdict:
    """Whether all published files are there, and some of them are what the manifest says.

    Args:
        limits: as in `current`.
        now: aware; other files each day.

    Raises:
        ExportError: the site cannot be read.
    """
    to = destination(str(limits.site_url))
    if publish.read(to) is None:
        return rules.publication_whole([], 0, 0, str(to))
    found = publish.verify(to, some=FILES_A_DAY, seed=f"{now:%Y-%m-%d}")
    return rules.publication_whole(found.damaged, found.files, found.read, str(to))
