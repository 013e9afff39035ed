"""The standing checks of the record: which there are, the numbers of each, its verdict.

Each judges every configured dataset by itself; `rules.combined` makes one verdict of them. Settled
means the same as in the view: a date was probed at least `settle_days` days after it had ended (of
monthly files 15 days after the month). Nothing that is pending breaches anything, and nothing is
due after the last period of a dataset that stopped.
"""

import datetime as dt
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import duckdb

from availability_pipeline.archive import datasets
from availability_pipeline.archive.datasets import CATALOGUE, Dataset
from availability_pipeline.dates import aware
from availability_pipeline.quality import rules
from availability_pipeline.quality.rules import Subject, Verdict
from availability_pipeline.record.status import Scope, recorded_datasets, scope
from availability_pipeline.settings import Settings


class Judge(Protocol):
    """Judges an open record."""

    def __call__(
        self,
        con: duckdb.DuckDBPyConnection,
        now: dt.datetime,
        settings: Settings,
        chosen: Sequence[Dataset] | None = None,
    ) -> Verdict:
        """The verdict at `now` (aware) on the configured datasets, or on some of them."""


@dataclass(frozen=True, slots=True)
class _One:
    """One configured dataset of an open record.

    Attributes:
        con: the record.
        t: the dataset's tables; empty ones where it is not recorded.
        of: what the rules call it.
        recorded: something of it is recorded.
        now: when it is judged.
    """

    con: duckdb.DuckDBPyConnection
    t: Scope
    of: Subject
    recorded: bool
    now: dt.datetime

    def rows(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        return self.con.execute(sql, args).fetchall()


def _of_each(
    *, low_is_bad: bool = False, of_all: bool = False
) -> Callable[[Callable[[_One, Settings], Verdict]], Judge]:
    """Make a judge of all configured datasets of what judges one.

    Args:
        low_is_bad: of two numbers the lower one is the worse.
        of_all: where all are judged, its note says which are recorded and no longer configured.
    """

    def decorate(judge_one: Callable[[_One, Settings], Verdict]) -> Judge:
        @functools.wraps(judge_one)
        def judge(
            con: duckdb.DuckDBPyConnection,
            now: dt.datetime,
            settings: Settings,
            chosen: Sequence[Dataset] | None = None,
        ) -> Verdict:
            now, configured = aware(now), datasets.configured(settings)
            recorded = recorded_datasets(con)
            found = {}
            for dataset in configured if chosen is None else chosen:
                of = Subject(dataset, named=len(configured) > 1)
                one = _One(con, scope(con, dataset), of, dataset in recorded, now)
                verdict = judge_one(one, settings)
                if verdict.passed and not one.recorded:
                    verdict = replace(verdict, observed=None, note="nothing is recorded")
                found[str(dataset)] = verdict
            note = ""
            if of_all and chosen is None:
                kept = [str(each) for each in recorded if each not in configured]
                note = f"not judged, for no longer configured: {rules.few(kept)}" if kept else ""
            return rules.combined(found, low_is_bad=low_is_bad, note=note)

        return judge

    return decorate


def _settled(t: Scope) -> str:
    return f"(SELECT date FROM {t.probes} WHERE settled)"


def _holes(t: Scope) -> str:
    # Where few symbols have any, it is three times faster not to look at the files of all.
    where = f"{t.listings} WHERE hole_days > 0"
    files = f"(FROM {t.files} WHERE symbol IN (SELECT symbol FROM {where}))"
    return replace(t, files=files).holes(where)


@_of_each(of_all=True)
def continuity(one: _One, settings: Settings) -> Verdict:
    """No period without rows from the first that can have a file to the last that is due.

    Yesterday is due once the daily update had its time (`slo_freshness_minutes`), a month when its
    last date is.
    """
    dataset, t = one.of.dataset, one.t
    due = rules.due_period(dataset, one.now, settings.slo_freshness_minutes)
    step = "INTERVAL 1 MONTH" if dataset.monthly else "INTERVAL 1 DAY"
    missing = one.rows(
        f"""SELECT unnest(generate_series($1::DATE::TIMESTAMP, $2::DATE::TIMESTAMP, {step}))::DATE
        EXCEPT SELECT date FROM {t.probes} ORDER BY 1""",
        *(t.first_period, min(due, dataset.last or due)),
    )
    return rules.continuity(
        [date for (date,) in missing],
        one.of,
        recorded=one.recorded,
        in_catalogue=in_archive(dataset, recorded=one.recorded),
    )


def in_archive(dataset: Dataset, *, recorded: bool) -> bool:
    """Whether the archive is known to have it; an interval that is recorded was there, too."""
    entry = CATALOGUE.get(dataset.kind)
    if entry is None or entry.lifecycle == "removed":
        return False
    return recorded or dataset in entry.datasets


@_of_each()
def rows_are_unique(one: _One, settings: Settings) -> Verdict:  # noqa: ARG001 - all are called alike
    """Each period and symbol has one file at most, each period one probe, each symbol one row."""
    t = one.t
    [(first, last, duplicates)] = one.rows(
        f"""SELECT min(date), max(date),
            (SELECT count(*) - count(DISTINCT date) FROM {t.probes})
            + (SELECT count(*) - count(DISTINCT symbol) FROM {t.symbols}) FROM {t.files}"""
    )
    if first:
        # A bit for each date: a third of the time of count(DISTINCT), for 100 datasets seconds.
        [(doubled,)] = one.rows(
            f"""SELECT sum(files - dates)::BIGINT FROM (SELECT count(*) AS files,
                    bit_count(bitstring_agg(date - $1::DATE, 0, $2::INTEGER)) AS dates
                FROM {t.files} GROUP BY symbol)""",
            *(first, (last - first).days),
        )
        duplicates += doubled
    return rules.uniqueness(duplicates)


@_of_each(low_is_bad=True)
def completeness_slo(one: _One, settings: Settings) -> Verdict:
    """Every settled period has `slo_completeness` of the symbols expected on it."""
    needed = settings.slo_completeness
    return rules.completeness(settled_counts(one.con, one.t, one.now, needed), needed, one.of)


@_of_each()
def symbol_holes(one: _One, settings: Settings) -> Verdict:
    """Holes stay below `slo_hole_share`; those of the last `slo_new_hole_days` days warn.

    New is a hole whose period settled, or whose file was seen to vanish, within those days.
    """
    t, since = one.t, one.now - dt.timedelta(settings.slo_new_hole_days)
    [(holes, expected)] = one.rows(
        f"""SELECT coalesce(sum(hole_days), 0)::BIGINT,
            coalesce(sum(days_available + hole_days), 0)::BIGINT FROM {t.listings}"""
    )
    if not holes:
        return rules.symbol_holes(
            0, expected, settings.slo_hole_share, one.of, recent_days=settings.slo_new_hole_days
        )
    worst = one.rows(
        f"""SELECT symbol, hole_days FROM {t.listings} WHERE hole_days > 0
        ORDER BY hole_days DESC, symbol"""
    )
    recent = _recent_holes(one, since)
    accepted = acknowledged_holes(one.con, t)
    of_symbol = Counter(symbol for _, symbol in accepted)
    left = [(symbol, days - of_symbol[symbol]) for symbol, days in worst]
    return rules.symbol_holes(
        holes - len(accepted),
        expected,
        settings.slo_hole_share,
        one.of,
        worst=sorted((each for each in left if each[1]), key=lambda each: (-each[1], each[0])),
        recent=[each for each in recent if each not in accepted],
        recent_days=settings.slo_new_hole_days,
        acknowledged=len(accepted),
    )


def _recent_holes(one: _One, since: dt.datetime) -> list[tuple[Any, ...]]:
    """Holes whose period settled, or whose file was seen to vanish, since then; in order."""
    t, dataset = one.t, one.t.dataset
    # Of the cells of a few dates, not of all: a tenth of the time.
    settling = dataset.period_of((since - dt.timedelta(t.settle_days)).date())
    lately = replace(
        t,
        files=f"(FROM {t.files} WHERE date >= $1)",
        all_probes=f"(FROM {t.all_probes} WHERE date >= $1)",
    )
    found = one.rows(
        f"""SELECT h.date, h.symbol FROM {_holes(lately)} h
        WHERE {t.settled_at("h.date")} > $2""",
        *(dataset.shift(settling, -1), since),
    )
    vanished = f"{t.revisions} WHERE change = 'vanished' AND observed_at > $1"
    if one.rows(f"SELECT 1 FROM {vanished} LIMIT 1", since):
        found += one.rows(
            f"""SELECT h.date, h.symbol FROM {_holes(t)} h
            SEMI JOIN (SELECT date, symbol FROM {vanished}) v
              ON v.date = h.date AND v.symbol = h.symbol""",
            since,
        )
    return sorted(set(found))


def acknowledged_holes(con: duckdb.DuckDBPyConnection, t: Scope) -> set[tuple[Any, ...]]:
    """Acknowledged holes, alone or with all of their period: period and symbol."""
    if not con.execute(f"FROM {t.acknowledgements} LIMIT 1").fetchall():
        return set()
    return set(
        con.execute(
            f"""SELECT DISTINCT h.date, h.symbol FROM {_holes(t)} h
            JOIN {t.acknowledgements} a ON a.date = h.date
                AND (a.symbol IS NULL OR a.symbol = h.symbol)"""
        ).fetchall()
    )


@_of_each()
def publication_lag(one: _One, settings: Settings) -> Verdict:
    """The median lag of each of the last settled periods is near that of those before."""
    t, today = one.t, one.now.date()
    judged = rules.lags_judged_from(t.dataset, today)
    # As many again as are compared with, for dates on which nothing was published.
    since = t.dataset.shift(t.dataset.period_of(judged), -3 * rules.LAG_DATES)
    lags = one.rows(
        f"""SELECT date, lag_p50_hours FROM {t.summary}
        WHERE date >= $1 AND lag_p50_hours IS NOT NULL AND date IN {_settled(t)}
        ORDER BY date""",
        since,
    )
    return rules.publication_lag(
        [(d, lag) for d, lag in lags], today, settings.slo_lag_hours, one.of
    )


def exchange_dataset(settings: Settings) -> Dataset | None:
    """The dataset that is compared with the exchange: the first configured of USD-M daily files."""
    of_um = (d for d in datasets.configured(settings) if d.market == "um" and not d.monthly)
    return next(of_um, None)


def exchange_coverage(date: dt.date | None, recorded: set[str], settings: Settings) -> Verdict:
    """What `last_settled` gave has the contracts the exchange says it trades.

    Asks the exchange, so it takes no connection: for those seconds no writer need wait.
    """
    from availability_pipeline.quality import exchange  # urllib3, which a reader need not have

    needed = settings.slo_exchange_coverage
    if settings.exchange_info_url is None:
        return rules.exchange_unknown(
            "Off: AVAILABILITY_EXCHANGE_INFO_URL is not set.", needed, off=True
        )
    dataset = exchange_dataset(settings)
    if dataset is None:
        return rules.exchange_unknown(
            "No dataset of USD-M daily files is configured.", needed, off=True
        )

    def named(verdict: Verdict) -> Verdict:
        return rules.combined({str(dataset): verdict}, low_is_bad=True)

    if date is None:
        return named(rules.exchange_unknown("No date has settled yet.", needed, off=True))
    try:
        trading = exchange.trading_perpetuals(settings.exchange_info_url)
    except exchange.ExchangeError as error:
        return named(rules.exchange_unknown(str(error), needed))
    pairs = [(contract.symbol, contract.onboarded) for contract in trading]
    of = Subject(dataset, named=len(datasets.configured(settings)) > 1)
    return named(rules.exchange_coverage(pairs, recorded, date, needed, of))


def last_settled(
    con: duckdb.DuckDBPyConnection, settings: Settings
) -> tuple[dt.date | None, set[str]]:
    """The last settled date of what the exchange is compared with, and its symbols with a file."""
    dataset = exchange_dataset(settings)
    if dataset is None:
        return None, set()
    t = scope(con, dataset)
    [(date,)] = con.execute(f"SELECT max(date) FROM {_settled(t)}").fetchall()
    rows = con.execute(f"SELECT symbol FROM {t.files} WHERE date = ?", [date]).fetchall()
    return date, {row[0] for row in rows}


def stored_dates(con: duckdb.DuckDBPyConnection) -> dict[Dataset, set[dt.date]]:
    """The probed periods of each recorded dataset, in one query."""
    rows = con.execute(
        """SELECT t.market, t.frequency, t.data_type, t.interval, list(p.period)
        FROM probes p JOIN datasets t ON t.id = p.dataset GROUP BY ALL"""
    ).fetchall()
    return {Dataset(*name): set(periods) for *name, periods in rows}


def settled_counts(
    con: duckdb.DuckDBPyConnection, t: Scope, now: dt.datetime, needed: float = 1
) -> list[rules.DateCount]:
    """The numbers of each settled period until the dataset stopped, in order.

    Holes are counted only on periods with less than the share `needed`: elsewhere they change
    nothing, and most records have no such period.
    """
    # Whoever has not ended by then is live because it stopped together with many others.
    outages = f"""SELECT p.date, count(*) AS n FROM {t.probes} p JOIN (
            SELECT last_available AS last FROM {t.listings}
            WHERE state = 'live' AND last_available < $before) ON p.date > last
        GROUP BY p.date"""
    accepted = f"""SELECT a.date, bool_or(a.symbol IS NULL) AS whole,
            count(DISTINCT a.symbol) FILTER (a.date >= l.first_available
                AND (a.date <= l.last_available OR l.state = 'live')) AS n
        FROM {t.acknowledgements} a LEFT JOIN {t.listings} l ON l.symbol = a.symbol
        ANTI JOIN (SELECT date, symbol FROM {t.files}
            WHERE date IN (SELECT date FROM {t.acknowledgements})) f
          ON f.date = a.date AND f.symbol = a.symbol
        GROUP BY a.date"""
    rows = con.execute(
        f"""SELECT s.date, s.expected, s.available, 0, 0, coalesce(o.n, 0),
            CASE WHEN a.whole THEN s.expected - s.available ELSE coalesce(a.n, 0) END,
            p.probed_at > $lately, a.date IS NOT NULL
        FROM {t.summary} s JOIN {t.probes} p USING (date)
        LEFT JOIN ({outages}) o USING (date)
        LEFT JOIN ({accepted}) a USING (date)
        WHERE p.settled AND s.date <= $last ORDER BY s.date""",
        {
            "before": t.ended_before,
            "last": t.dataset.last or dt.date.max,
            "lately": now - dt.timedelta(rules.PROBED_LATELY_DAYS),
        },
    ).fetchall()
    counts = [rules.DateCount(*row) for row in rows]
    short = [d.date for d in counts if rules.share(d.available, d.due) < needed]
    if not short:
        return counts
    holes = dict(
        con.execute(
            f"""SELECT date, count(*) FROM {_holes(t)} WHERE list_contains($1, date)
            GROUP BY date""",
            [short],
        ).fetchall()
    )
    return [replace(d, holes=holes[d.date]) if d.date in holes else d for d in counts]


@dataclass(frozen=True, slots=True)
class Check:
    """One standing check.

    Attributes:
        name: of the check.
        description: what should hold.
        judge: judges an open record; None where the verdict needs more: Dagster's run history
            (`orchestration.runs`) or the exchange.
        asset: the asset it is on.
        about_the_file: what a moved file or a mistyped AVAILABILITY_DB looks like, too.
    """

    name: str
    description: str
    judge: Judge | None = None
    asset: str = "record"
    about_the_file: bool = False


CATALOGUE_CHECK = "catalogue_matches_archive"
"""The check that asks the archive: once a week, in a run of its own."""

COMPLETE_CHECK = "mirror_is_complete"

VERIFIED_CHECK = "mirror_is_verified"
"""The check that reads files of the mirror: once a week, in a run of its own."""

VOLUME_COMPLETE_CHECK = "volume_is_complete"
VOLUME_MATCHES_CHECK = "volume_matches_monthly"
VOLUME_PLAUSIBLE_CHECK = "volume_is_plausible"

PUBLICATION_CURRENT_CHECK = "publication_is_current"
PUBLICATION_WHOLE_CHECK = "publication_is_whole"

TABLE: dict[str, Check] = {
    check.name: check
    for check in (
        Check("rows_are_unique", "Each period and symbol has one file at most.", rows_are_unique),
        Check(
            "continuity",
            "No date or month without rows from the first one of each configured dataset to the "
            "last that is due: yesterday, the last month, or where the dataset stopped. The first "
            "dates hold no files, and that is right.",
            continuity,
            about_the_file=True,
        ),
        Check(
            "completeness_slo",
            "Every settled date or month has at least AVAILABILITY_SLO_COMPLETENESS of the symbols "
            "expected on it: those between their first and last file, or live. What is pending is "
            "not judged.",
            completeness_slo,
        ),
        Check(
            "symbol_holes",
            "Holes stay below AVAILABILITY_SLO_HOLE_SHARE of a dataset's symbol-days; a new one "
            "warns for AVAILABILITY_SLO_NEW_HOLE_DAYS days.",
            symbol_holes,
        ),
        Check(
            "publication_lag",
            "The median lag from the end of a date or month to its files is near that of the 30 "
            "published ones before it; judged for the last 30 days, or two months.",
            publication_lag,
        ),
        Check(
            "update_success_rate",
            "AVAILABILITY_SLO_SUCCESS_RATE of the last 30 days' scheduled updates succeeded, by "
            "Dagster's own run records.",
        ),
        Check(
            "freshness",
            "Yesterday's partition of each asset was materialised within "
            "AVAILABILITY_SLO_FRESHNESS_MINUTES after midnight UTC; before that time, the day "
            "before is judged. The last month's has a day more.",
        ),
        Check(
            "store_matches_dagster",
            "The partitions of each asset that Dagster calls materialised are the dates or months "
            "with rows, and the other way round.",
            about_the_file=True,
        ),
        Check(
            "exchange_coverage",
            "The last settled date has AVAILABILITY_SLO_EXCHANGE_COVERAGE of the perpetual "
            "contracts that the exchange (AVAILABILITY_EXCHANGE_INFO_URL) says it trades; an "
            "exchange that gives no answer is a warning.",
        ),
        Check(
            CATALOGUE_CHECK,
            "The archive has the datasets that are known and those of AVAILABILITY_DATASETS, and "
            "no others; a difference is a warning. Folders are listed, no files, on Mondays.",
        ),
        Check(
            COMPLETE_CHECK,
            "The mirror (AVAILABILITY_MIRROR_URL) has each file that AVAILABILITY_MIRROR selects, "
            "in the record's version, by its manifest; a warning while a mirror run is under way. "
            "No file is read.",
        ),
        Check(
            VERIFIED_CHECK,
            "A thousand files of the mirror, others each week, have the content that was verified. "
            "They are read, on Sundays.",
            # Of its own, as no selection may take out a check that is not defined.
            asset="mirrored_files",
        ),
        Check(
            VOLUME_COMPLETE_CHECK,
            "Each daily 1d file that is recorded has its row in the daily volume, in the record's "
            "version; a warning while a run of volume is under way, and of files that are not "
            "taken. What is pending is not judged.",
        ),
        Check(
            VOLUME_MATCHES_CHECK,
            "Where a day's daily and monthly file were read, all their numbers are equal.",
        ),
        Check(
            VOLUME_PLAUSIBLE_CHECK,
            "No volume of the last 30 days is more than a thousand times the median of the "
            "symbol's 30 days before, or less than a thousandth; otherwise a warning.",
        ),
        Check(
            PUBLICATION_CURRENT_CHECK,
            "The site (AVAILABILITY_SITE_URL) has the newest date or month of each recorded "
            "dataset, two hours after it was probed.",
        ),
        Check(
            PUBLICATION_WHOLE_CHECK,
            "Each file of the site is there with its size, and 200 of them, others each day, have "
            "the content that the manifest says.",
        ),
    )
}
"""Every standing check, by name: Dagster's checks, `status` and `slo` take theirs from here."""

ALL: dict[str, Judge] = {name: check.judge for name, check in TABLE.items() if check.judge}
"""Of those that need the record alone, what judges them."""


def naming_the_file(name: str, verdict: Verdict, database: Path) -> Verdict:
    """The verdict of the check `name`, with the file in the remedy where it may be a wrong one.

    Then a backfill would only fill the wrong file.
    """
    if verdict.passed or not TABLE[name].about_the_file:
        return verdict
    recovery = (
        f"Judged was {database}: if the record is another file, correct AVAILABILITY_DB first. "
        f"{verdict.recovery}"
    )
    return replace(verdict, recovery=recovery)
