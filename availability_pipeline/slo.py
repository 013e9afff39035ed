"""Service levels as pure rules: numbers in, `Verdict` out.

Belongs here: what counts as kept or broken, and what to do about it. Does not belong here:
fetching the numbers (`standing` from the record, `health` from Dagster) or telling anybody
(`alerts`).

A breach (`error`) is a fact. What may still turn out well, or is known and cannot be mended, is a
`warn`: a permanent red mark is one that people learn to ignore.
"""

import datetime as dt
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

SAMPLE = 10
"""Offenders a verdict names; `count` always has the whole number."""

SUCCESS_DAYS = 30
"""Days over which `update_success_rate` looks back when not told otherwise."""

MIN_RUNS = 20
"""Scheduled runs needed to judge: among fewer, a single failure is more than 5 %."""

LAG_DATES = 30
"""`publication_lag` judges the last so many days, each beside so many published dates before it."""

LAG_MIN_HISTORY = 7
"""Published dates before a date without which its lag is not judged."""

LAG_SPREADS = 6
"""Median absolute deviations from the median that are still usual: four sigma, were it normal."""

PROGRAM = "binance-futures-availability"
REPAIRED_BY_SCHEDULE = (
    "Files that come late are found by the late-arrivals and reconcile schedules."
)


@dataclass(frozen=True)
class Verdict:
    """The outcome of one rule.

    Attributes:
        passed: the rule is kept.
        observed: the number that was judged, in the unit of `threshold`.
        threshold: what it was compared with.
        sample: the first `SAMPLE` offenders; each begins with its date or symbol.
        recovery: what to do if it did not pass.
        severity: what a verdict that did not pass means: `error` is a breach, `warn` is something
            not known yet, or known and not to be mended.
        count: all offenders.
        sample_truncated: `sample` does not name all of them.
        note: what a reader must know beside the numbers; empty when there is nothing.
    """

    passed: bool
    observed: float
    threshold: float
    sample: tuple[str, ...]
    recovery: str
    severity: Literal["error", "warn"] = "error"
    count: int = 0
    sample_truncated: bool = False
    note: str = ""

    @property
    def breached(self) -> bool:
        """It did not pass, and that is a fact and not only a warning."""
        return not self.passed and self.severity == "error"

    @property
    def text(self) -> str:
        """What was found and what to do, in a sentence or two."""
        if self.passed:
            return self.note or "As it should be."
        named = "; ".join(self.sample) + ("; and more" if self.sample_truncated else "")
        found = f"{named} ({self.note})" if named and self.note else named or self.note
        return ". ".join(part for part in (found, self.recovery) if part)


@dataclass(frozen=True, slots=True)
class DateCount:
    """One settled date.

    Attributes:
        date: the date.
        expected: symbols between their first and last file on it, or live.
        available: those whose file is there.
        holes: those that are surely missing it: they have files before and after it.
        pending: those not there, where the date has not settled; then `holes` are pending too.
    """

    date: dt.date
    expected: int
    available: int
    holes: int
    pending: int = 0


@dataclass(frozen=True, slots=True)
class UpdateRun:
    """A run that a schedule launched; `succeeded` is None while it has not ended."""

    run_id: str
    job: str
    launched_at: dt.datetime
    succeeded: bool | None


def uniqueness(duplicates: int) -> Verdict:
    """Each (date, symbol) has one row."""
    return Verdict(
        passed=duplicates == 0,
        observed=duplicates,
        threshold=0,
        sample=(),
        recovery="Backfill the partition: a write replaces all its rows in one transaction.",
        count=duplicates,
        sample_truncated=duplicates > 0,
    )


def completeness(dates: Sequence[DateCount], threshold: float) -> Verdict:
    """Each date has `threshold` of its expected symbols.

    Dates on which nothing is expected (before 2019-12-31) are complete. A date that is short only
    because files are pending, or whose missing symbols have published nothing since, is a warning:
    the first are not late yet, the others are late or delisted, which is known only after three
    published dates (41 BUSD contracts ended on one day). A date without most of its files was not
    published, and is a breach.

    Returns:
        A verdict whose `observed` is the lowest share.
    """
    short = [d for d in dates if _share(d.available, d.expected) < threshold]
    sure = [d for d in short if not d.pending and _surely_short(d, threshold)]
    named = sorted(sure or short, key=lambda d: d.date)
    note, recovery = "", REPAIRED_BY_SCHEDULE
    if sure:
        recovery += f" At once: {_backfill([d.date for d in sure])}."
        if all(d.expected - d.available == 1 for d in sure):
            note = (
                "one file is missing, which is much only because few symbols were expected; if it "
                "was never published, nothing can be done"
            )
    elif short:
        unsure = any(not d.pending for d in short)
        note = "late or delisted: known after three published dates" if unsure else "not due yet"
    return _verdict(
        [f"{d.date}: {d.available} of {d.expected}" for d in named],
        observed=min((_share(d.available, d.expected) for d in dates), default=1.0),
        threshold=threshold,
        recovery=recovery,
        severity="error" if sure else "warn",
        note=note,
    )


def _surely_short(date: DateCount, threshold: float) -> bool:
    with_files_since = date.available + date.holes
    return _share(date.available, with_files_since) < threshold or (
        date.available < date.expected / 2
    )


def continuity(missing: Sequence[dt.date]) -> Verdict:
    """No date without rows.

    Args:
        missing: dates that were due and have none.

    Returns:
        A verdict whose `observed` and `count` are dates; the sample names them as spans.
    """
    spans = date_spans(missing)
    return Verdict(
        passed=not missing,
        observed=len(missing),
        threshold=0,
        sample=tuple(spans[:SAMPLE]),
        recovery=f"Look at them in one run: {_backfill(missing)}.",
        count=len(missing),
        sample_truncated=len(spans) > SAMPLE,
    )


def symbol_holes(
    hole_days: int,
    expected_days: int,
    threshold: float,
    *,
    worst: Sequence[str] = (),
    recent: Sequence[str] = (),
    recent_days: int = 7,
) -> Verdict:
    """Hole days stay below a share of the expected symbol-days; new holes are a warning.

    The archive has holes that nobody will ever fill, so that there are some is no fault.

    Args:
        hole_days: confirmed absences strictly between a symbol's first and last file.
        expected_days: symbol-days between first and last file.
        threshold: share of holes that is too many.
        worst: symbols with holes, the worst first; named when there are too many.
        recent: holes confirmed in the last `recent_days` days.
        recent_days: said in the note.
    """
    share = hole_days / expected_days if expected_days else 0.0
    too_many = share > threshold
    named = worst if too_many else recent
    return Verdict(
        passed=not too_many and not recent,
        observed=share,
        threshold=threshold,
        sample=tuple(named[:SAMPLE]),
        recovery=f"See them with `{PROGRAM} query holes`. {REPAIRED_BY_SCHEDULE} What is still "
        "missing after a full reconcile was never published: ask the archive's maintainers.",
        severity="error" if too_many else "warn",
        count=hole_days if too_many else len(recent),
        sample_truncated=len(named) > SAMPLE,
        note=f"{hole_days} of {expected_days} symbol-days are holes, {len(recent)} of them "
        f"confirmed in the last {recent_days} days",
    )


def publication_lag(
    lags: Sequence[tuple[dt.date, float]], today: dt.date, floor_hours: float
) -> Verdict:
    """A date's median publication lag is near that of the 30 published dates before it.

    Args:
        lags: (settled date, median hours from its end to LastModified), by date.
        today: only dates of the `LAG_DATES` days before it are judged, so that no old event
            stays for ever.
        floor_hours: what is always near enough; more where the lags themselves spread more.

    Returns:
        A warning at most. `observed` is the farthest distance from the usual lag, in hours, and
        `threshold` what that date was allowed.
    """
    since = today - dt.timedelta(LAG_DATES)
    far: list[str] = []
    worst, allowed_there = 0.0, floor_hours
    for n, (date, lag) in enumerate(lags):
        before = [hours for _, hours in lags[max(0, n - LAG_DATES) : n]]
        if date < since or len(before) < LAG_MIN_HISTORY:
            continue
        usual = statistics.median(before)
        spread = statistics.median(abs(hours - usual) for hours in before)
        off, allowed = abs(lag - usual), max(floor_hours, LAG_SPREADS * spread)
        if off > allowed:
            far.append(f"{date}: {lag:.1f} h, usually {usual:.1f} h")
        if off - allowed > worst - allowed_there:
            worst, allowed_there = off, allowed
    return _verdict(
        far,
        observed=round(worst, 2),
        threshold=round(allowed_there, 2),
        recovery="Nothing to mend here: the archive published (or replaced) these dates at an "
        "unusual time. If it stays so, move the schedules.",
        severity="warn",
    )


def update_success_rate(
    runs: Iterable[UpdateRun], now: dt.datetime, threshold: float, days: int = SUCCESS_DAYS
) -> Verdict:
    """Share of the scheduled updates of the last `days` days that succeeded.

    Runs that have not ended are left out; canceled ones did not succeed. With fewer than
    `MIN_RUNS` it passes and says so.
    """
    since = now - dt.timedelta(days)
    ended = [r for r in runs if r.succeeded is not None and since <= r.launched_at <= now]
    failed = sorted((r for r in ended if not r.succeeded), key=lambda r: r.launched_at)
    rate = _share(len(ended) - len(failed), len(ended))
    enough = len(ended) >= MIN_RUNS
    note = f"{len(ended) - len(failed)} of {len(ended)} scheduled updates succeeded in {days} days"
    return Verdict(
        passed=rate >= threshold or not enough,
        observed=rate,
        threshold=threshold,
        # The latest first: what went wrong last is what matters.
        sample=tuple(
            f"{r.launched_at:%Y-%m-%d %H:%M} {r.job} {r.run_id[:8]}" for r in failed[::-1][:SAMPLE]
        ),
        recovery="Read the failed runs' errors in the UI under Runs. Their dates are looked at "
        "again by the next scheduled run.",
        count=len(failed),
        sample_truncated=len(failed) > SAMPLE,
        note=note if enough else f"{note}: too few to judge, {MIN_RUNS} are needed",
    )


def due_date(now: dt.datetime, deadline_minutes: int) -> dt.date:
    """The last date whose update must be in: yesterday, once so much of today is over."""
    now = now.astimezone(dt.UTC)
    over = now - dt.datetime.combine(now.date(), dt.time(), dt.UTC)
    return now.date() - dt.timedelta(1 if over >= dt.timedelta(minutes=deadline_minutes) else 2)


def freshness(
    materialised_at: dt.datetime | None, now: dt.datetime, deadline_minutes: int
) -> Verdict:
    """The partition of `due_date` was first materialised within so many minutes of its end.

    Args:
        materialised_at: when that partition was first materialised, or None.
        now: aware.
        deadline_minutes: after the end of the date.

    Returns:
        A breach while it is missing; a warning when it came, but late. `observed` is minutes from
        the end of the date: until it came, or until now.
    """
    date = due_date(now, deadline_minutes)
    ended = dt.datetime.combine(date + dt.timedelta(1), dt.time(), dt.UTC)
    minutes = ((materialised_at or now) - ended).total_seconds() / 60
    missing = materialised_at is None
    late = not missing and minutes > deadline_minutes
    note = "" if missing else f"first looked at {materialised_at:%Y-%m-%d %H:%M} UTC"
    if late:
        note += f", due by {ended + dt.timedelta(minutes=deadline_minutes):%H:%M}"
    return _verdict(
        [str(date)] if missing or late else [],
        observed=round(minutes, 1),
        threshold=deadline_minutes,
        recovery=f"See that the daemon runs: `{PROGRAM} status`. Look at the date by hand: "
        f"`{PROGRAM} update manual --date {date}`."
        if missing
        else "Nothing now: it is there. If it happens again, see why the 02:00 run was late.",
        severity="error" if missing else "warn",
        note=note,
    )


def store_matches_dagster(
    materialised: Iterable[dt.date], stored: Iterable[dt.date], *, writing: bool = False
) -> Verdict:
    """The dates Dagster calls materialised are the dates with rows.

    Args:
        materialised: partitions of `daily_availability` in Dagster's own records.
        stored: dates with rows.
        writing: a run is in progress: a difference may be of this very moment, so it only warns.
    """
    known, rows = set(materialised), set(stored)
    no_rows, no_record = sorted(known - rows), sorted(rows - known)
    sample = [f"{span}: materialised, but no rows" for span in date_spans(no_rows)]
    sample += [f"{span}: rows, but not materialised" for span in date_spans(no_record)]
    drift = [*no_rows, *no_record]
    return Verdict(
        passed=not drift,
        observed=len(drift),
        threshold=0,
        sample=tuple(sample[:SAMPLE]),
        recovery=f"Bring both together in one run: {_backfill(drift)}.",
        severity="warn" if writing else "error",
        count=len(drift),
        sample_truncated=len(sample) > SAMPLE,
        note="a run is in progress: look again when it has ended" if writing and drift else "",
    )


def exchange_coverage(
    trading: Iterable[tuple[str, dt.date]],
    recorded: Iterable[str],
    date: dt.date,
    threshold: float,
) -> Verdict:
    """The record has `threshold` of the contracts that the exchange says it trades.

    Args:
        trading: (symbol, onboarded on) of each trading perpetual contract.
        recorded: symbols with a file of `date`.
        date: the last settled one; what was onboarded later does not count.
        threshold: share needed.
    """
    expected = {symbol for symbol, since in trading if since <= date}
    missing = sorted(expected - set(recorded))
    share = _share(len(expected) - len(missing), len(expected))
    return Verdict(
        passed=share >= threshold,
        observed=share,
        threshold=threshold,
        sample=tuple(missing[:SAMPLE]),
        recovery=f"Look at the date again: {_backfill([date])}. If they stay missing, the archive "
        "does not publish these contracts.",
        count=len(missing),
        sample_truncated=len(missing) > SAMPLE,
        note=f"{len(expected) - len(missing)} of {len(expected)} trading perpetual contracts have "
        f"a file of {date}",
    )


def exchange_unknown(why: str, threshold: float, *, off: bool = False) -> Verdict:
    """There is nothing to compare with: a warning that says why, or a pass where it is off."""
    return Verdict(
        passed=off,
        observed=0.0,
        threshold=threshold,
        sample=(),
        recovery="" if off else "Nothing is wrong with the record. If it stays so, unset or change "
        "AVAILABILITY_EXCHANGE_INFO_URL.",
        severity="warn",
        note=why,
    )


def date_spans(dates: Iterable[dt.date]) -> list[str]:
    """Dates as spans: `2024-01-02` or `2024-01-02 to 2024-01-05`, in order."""
    spans: list[list[dt.date]] = []
    for date in sorted(set(dates)):
        if spans and date - spans[-1][1] == dt.timedelta(1):
            spans[-1][1] = date
        else:
            spans.append([date, date])
    return [f"{a}" if a == b else f"{a} to {b}" for a, b in spans]


def _backfill(dates: Sequence[dt.date]) -> str:
    start, end = (min(dates), max(dates)) if dates else ("FIRST", "LAST")
    return f"`{PROGRAM} backfill --start {start} --end {end}`"


def _share(part: int, whole: int) -> float:
    return min(1.0, part / whole) if whole else 1.0


def _verdict(
    offenders: Sequence[str],
    *,
    observed: float,
    threshold: float,
    recovery: str,
    severity: Literal["error", "warn"] = "error",
    note: str = "",
) -> Verdict:
    """A verdict that passes when there are no offenders."""
    return Verdict(
        passed=not offenders,
        observed=observed,
        threshold=threshold,
        sample=tuple(offenders[:SAMPLE]),
        recovery=recovery,
        severity=severity,
        count=len(offenders),
        sample_truncated=len(offenders) > SAMPLE,
        note=note,
    )
