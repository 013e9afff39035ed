"""The standing checks of the whole record: which there are, the numbers of each, its verdict.

Settled means the same as in the view: a date was probed at least `settle_days` days after it had
ended. Nothing that is pending breaches anything.
"""

import datetime as dt
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from availability_pipeline.archive.datasets import FIRST_DATE
from availability_pipeline.dates import aware
from availability_pipeline.quality import rules
from availability_pipeline.quality.rules import Verdict
from availability_pipeline.record.status import Scope, scope
from availability_pipeline.settings import Settings

Judge = Callable[[duckdb.DuckDBPyConnection, dt.datetime, Settings], Verdict]


def _settled(t: Scope) -> str:
    return f"(SELECT date FROM {t.probes} WHERE settled)"


def _holes(t: Scope) -> str:
    return t.holes(f"{t.listings} WHERE hole_days > 0")


def continuity(con: duckdb.DuckDBPyConnection, now: dt.datetime, settings: Settings) -> Verdict:
    """No date without rows from 2019-09-25 to the last one due at `now` (aware).

    Yesterday is due once the daily update had its time (`slo_freshness_minutes`).
    """
    stored = stored_dates(con)
    due = (rules.due_date(aware(now), settings.slo_freshness_minutes) - FIRST_DATE).days + 1
    dates = (FIRST_DATE + dt.timedelta(n) for n in range(due))
    return rules.continuity([date for date in dates if date not in stored])


def rows_are_unique(
    con: duckdb.DuckDBPyConnection,
    now: dt.datetime,
    settings: Settings,  # noqa: ARG001 - all checks are called alike
) -> Verdict:
    """Each date and symbol has one file at most, each date one probe, each symbol one row."""
    aware(now)
    t = scope(con)
    [(duplicates,)] = con.execute(
        f"""SELECT (SELECT coalesce(sum(files - symbols), 0)::BIGINT FROM (
                SELECT count(*) AS files, count(DISTINCT symbol) AS symbols
                FROM {t.files} GROUP BY date))
            + (SELECT count(*) - count(DISTINCT date) FROM {t.probes})
            + (SELECT count(*) - count(DISTINCT symbol) FROM {t.symbols})"""
    ).fetchall()
    return rules.uniqueness(duplicates)


def completeness_slo(
    con: duckdb.DuckDBPyConnection, now: dt.datetime, settings: Settings
) -> Verdict:
    """Every settled date has `slo_completeness` of the symbols expected on it."""
    return rules.completeness(settled_counts(con, aware(now)), settings.slo_completeness)


def symbol_holes(con: duckdb.DuckDBPyConnection, now: dt.datetime, settings: Settings) -> Verdict:
    """Holes stay below `slo_hole_share`; those of the last `slo_new_hole_days` days warn.

    New is a hole whose date settled, or whose file was seen to vanish, within those days.
    """
    since = aware(now) - dt.timedelta(settings.slo_new_hole_days)
    t = scope(con)
    [(holes, expected)] = con.execute(
        f"""SELECT coalesce(sum(hole_days), 0)::BIGINT,
            coalesce(sum(days_available + hole_days), 0)::BIGINT FROM {t.listings}"""
    ).fetchall()
    worst = con.execute(
        f"""SELECT symbol, hole_days FROM {t.listings} WHERE hole_days > 0
        ORDER BY hole_days DESC, symbol"""
    ).fetchall()
    recent = con.execute(
        f"""SELECT a.date, a.symbol
        FROM {_holes(t)} a
        LEFT JOIN (SELECT DISTINCT date, symbol FROM {t.revisions}
            WHERE change = 'vanished' AND observed_at > $1) v
          ON v.date = a.date AND v.symbol = a.symbol
        WHERE v.date IS NOT NULL OR {t.settled_at("a.date")} > $1
        ORDER BY a.date, a.symbol""",
        [since],
    ).fetchall()
    accepted = acknowledged_holes(con)
    of_symbol = Counter(symbol for _, symbol in accepted)
    left = [(symbol, days - of_symbol[symbol]) for symbol, days in worst]
    return rules.symbol_holes(
        holes - len(accepted),
        expected,
        settings.slo_hole_share,
        worst=sorted((one for one in left if one[1]), key=lambda one: (-one[1], one[0])),
        recent=[one for one in recent if one not in accepted],
        recent_days=settings.slo_new_hole_days,
        acknowledged=len(accepted),
    )


def acknowledged_holes(con: duckdb.DuckDBPyConnection) -> set[tuple[dt.date, str]]:
    """Acknowledged holes, alone or with all of their date: date and symbol."""
    t = scope(con)
    if not con.execute(f"FROM {t.acknowledgements} LIMIT 1").fetchall():
        return set()
    return set(
        con.execute(
            f"""SELECT DISTINCT h.date, h.symbol FROM {_holes(t)} h
            JOIN {t.acknowledgements} a ON a.date = h.date
                AND (a.symbol IS NULL OR a.symbol = h.symbol)"""
        ).fetchall()
    )


def publication_lag(
    con: duckdb.DuckDBPyConnection, now: dt.datetime, settings: Settings
) -> Verdict:
    """The median lag of each of the last 30 days' settled dates is near that of those before."""
    today, t = aware(now).date(), scope(con)
    # Twice the dates judged, and as many again for dates on which nothing was published.
    since = today - dt.timedelta(4 * rules.LAG_DATES)
    lags = con.execute(
        f"""SELECT date, lag_p50_hours FROM {t.summary}
        WHERE date >= $1 AND lag_p50_hours IS NOT NULL AND date IN {_settled(t)}
        ORDER BY date""",
        [since],
    ).fetchall()
    return rules.publication_lag(lags, today, settings.slo_lag_hours)


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
    if date is None:
        return rules.exchange_unknown("No date has settled yet.", needed, off=True)
    try:
        trading = exchange.trading_perpetuals(settings.exchange_info_url)
    except exchange.ExchangeError as error:
        return rules.exchange_unknown(str(error), needed)
    pairs = [(contract.symbol, contract.onboarded) for contract in trading]
    return rules.exchange_coverage(pairs, recorded, date, needed)


def last_settled(con: duckdb.DuckDBPyConnection) -> tuple[dt.date | None, set[str]]:
    """The last settled date, and the symbols with a file of it."""
    t = scope(con)
    [(date,)] = con.execute(f"SELECT max(date) FROM {_settled(t)}").fetchall()
    rows = con.execute(f"SELECT symbol FROM {t.files} WHERE date = ?", [date]).fetchall()
    return date, {row[0] for row in rows}


def stored_dates(con: duckdb.DuckDBPyConnection) -> set[dt.date]:
    """Dates that were probed."""
    rows = con.execute(f"SELECT date FROM {scope(con).probes}").fetchall()
    return {row[0] for row in rows}


def settled_counts(con: duckdb.DuckDBPyConnection, now: dt.datetime) -> list[rules.DateCount]:
    """Each settled date's numbers, by date."""
    t = scope(con)
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
        f"""SELECT s.date, s.expected, s.available, coalesce(h.holes, 0), 0, coalesce(o.n, 0),
            CASE WHEN a.whole THEN s.expected - s.available ELSE coalesce(a.n, 0) END,
            p.probed_at > $lately, a.date IS NOT NULL
        FROM {t.summary} s JOIN {t.probes} p USING (date)
        LEFT JOIN (SELECT date, count(*) AS holes FROM {_holes(t)} GROUP BY date) h USING (date)
        LEFT JOIN ({outages}) o USING (date)
        LEFT JOIN ({accepted}) a USING (date)
        WHERE p.settled ORDER BY s.date""",
        {
            "before": t.ended_before,
            "lately": now - dt.timedelta(rules.PROBED_LATELY_DAYS),
        },
    ).fetchall()
    return [rules.DateCount(*row) for row in rows]


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


TABLE: dict[str, Check] = {
    check.name: check
    for check in (
        Check("rows_are_unique", "Each date and symbol has one file at most.", rows_are_unique),
        Check(
            "continuity",
            "No date without rows from 2019-09-25 to yesterday. Dates before 2019-12-31 hold no "
            "files, and that is right.",
            continuity,
            about_the_file=True,
        ),
        Check(
            "completeness_slo",
            "Every settled date has at least AVAILABILITY_SLO_COMPLETENESS of the symbols expected "
            "on it: those between their first and last file, or live. Pending dates are not "
            "judged.",
            completeness_slo,
        ),
        Check(
            "symbol_holes",
            "Holes stay below AVAILABILITY_SLO_HOLE_SHARE of all symbol-days; a new one warns for "
            "AVAILABILITY_SLO_NEW_HOLE_DAYS days.",
            symbol_holes,
        ),
        Check(
            "publication_lag",
            "The median lag from the end of a date to its files is near that of the 30 published "
            "dates before it; judged for the last 30 days.",
            publication_lag,
        ),
        Check(
            "update_success_rate",
            "AVAILABILITY_SLO_SUCCESS_RATE of the last 30 days' scheduled updates succeeded, by "
            "Dagster's own run records.",
        ),
        Check(
            "freshness",
            "Yesterday's partition was materialised within AVAILABILITY_SLO_FRESHNESS_MINUTES "
            "after midnight UTC; before that time, the day before is judged.",
        ),
        Check(
            "store_matches_dagster",
            "The partitions Dagster calls materialised are the dates with rows, and the other way "
            "round.",
            about_the_file=True,
        ),
        Check(
            "exchange_coverage",
            "The last settled date has AVAILABILITY_SLO_EXCHANGE_COVERAGE of the perpetual "
            "contracts that the exchange (AVAILABILITY_EXCHANGE_INFO_URL) says it trades; an "
            "exchange that gives no answer is a warning.",
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
