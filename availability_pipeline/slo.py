"""Service levels of the record as pure rules: numbers in, `Verdict` out.

Belongs here: what counts as kept or broken, and what to do about it. Does not belong here: those
of the runs (`slo_runs`), fetching the numbers (`standing`) or telling anybody (`alerts`).

A breach (`error`) is a fact. What may still turn out well, or is known and cannot be mended, is a
`warn`: a permanent red mark is one that people learn to ignore.
"""

import datetime as dt
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from availability_pipeline import PROGRAM
from availability_pipeline.verdicts import (
    REPAIRED_BY_SCHEDULE,
    SAMPLE,
    Fields,
    Verdict,
    acknowledge,
    backfill,
    date_spans,
    share,
    spans,
    verdict_on,
)

PROBED_LATELY_DAYS = 7
"""The weekly reconcile probes every date again: where it runs, no date was last probed earlier."""

LAG_DATES = 30
"""`publication_lag` judges the last so many days, each beside so many published dates before it."""

LAG_MIN_HISTORY = 7
"""Published dates before a date without which its lag is not judged."""

LAG_SPREADS = 6
"""Median absolute deviations from the median that are still usual: four sigma, were it normal."""


@dataclass(frozen=True, slots=True)
class DateCount:
    """One settled date.

    Attributes:
        date: the date.
        expected: symbols between their first and last file on it, or live.
        available: those whose file is there.
        holes: those that are surely missing it: they have files before and after it.
        pending: those not there, where the date has not settled; then `holes` are pending too.
        outage: those missing since they stopped together with many others.
        acknowledged: those of the missing that somebody acknowledged.
        probed_lately: the schedules have probed it again not long ago: another probe at once will
            hardly find more.
        accepted: there is an acknowledgement of this date.
    """

    date: dt.date
    expected: int
    available: int
    holes: int
    pending: int = 0
    outage: int = 0
    acknowledged: int = 0
    probed_lately: bool = False
    accepted: bool = False

    @property
    def due(self) -> int:
        """Symbols that must be there: the expected ones less the acknowledged."""
        return max(self.available, self.expected - self.acknowledged)

    @property
    def missing(self) -> int:
        """Symbols that are not there and not acknowledged."""
        return self.due - self.available

    @property
    def surely_missing(self) -> int:
        """Of the missing those that are neither young nor maybe delisted."""
        return min(self.missing, self.holes + self.outage)


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

    Dates on which nothing is expected (before 2019-12-31) are complete. Acknowledged files are not
    missed. A date that is short is only a warning

    - while files are pending: they are not late yet;
    - where a single file is missing, which is much only among few symbols: `symbol_holes` names it;
    - where the missing symbols have published nothing since: they are late or delisted, which is
      known only after three published dates (41 BUSD contracts ended on one day).

    A date without most of its files was not published, and is a breach.

    Returns:
        A verdict whose `observed` is the lowest share, and whose `acknowledged` counts dates.
    """
    short = [d for d in dates if share(d.available, d.due) < threshold]
    sure = [d for d in short if not d.pending and _surely_short(d, threshold)]
    named = sorted(sure or short, key=lambda d: d.date)
    return verdict_on(
        [f"{d.date}: {d.available} of {d.due}" for d in named],
        offenders=[_fields(d) for d in named],
        observed=min((share(d.available, d.due) for d in dates), default=1.0),
        threshold=threshold,
        recovery=_recovery(sorted(sure, key=lambda d: d.date)),
        severity="error" if sure else "warn",
        note=_outage_note(sure) if sure else _unsure_note(short),
        acknowledged=sum(d.accepted for d in dates),
    )


def _surely_short(date: DateCount, threshold: float) -> bool:
    if date.missing < 2:
        return False
    there_since = date.available + date.surely_missing
    short = date.surely_missing >= 2 and share(date.available, there_since) < threshold
    return short or date.available < date.due / 2


def _fields(date: DateCount) -> Fields:
    return {
        "date": date.date,
        "expected": date.due,
        "available": date.available,
        "holes": date.holes,
        "outage": date.outage,
        "pending": date.pending,
        "acknowledged": date.acknowledged,
    }


def _unsure_note(short: Sequence[DateCount]) -> str:
    settled = [d for d in short if not d.pending]
    notes = []
    if any(d.missing > 1 or not d.surely_missing for d in settled):
        notes.append("late or delisted: known after three published dates")
    if any(d.missing == 1 and d.surely_missing for d in settled):
        notes.append("one file among few symbols: `symbol_holes` names it")
    if short and not settled:
        notes.append("not due yet")
    return "; ".join(notes)


def _outage_note(sure: Sequence[DateCount]) -> str:
    most = max((d.outage for d in sure), default=0)
    return f"{most} symbols stopped together: an outage, they stay expected" if most else ""


def _recovery(sure: Sequence[DateCount]) -> str:
    if not sure:
        return REPAIRED_BY_SCHEDULE
    # The newest: of an outage, that acknowledges the dates before it too.
    never = f"If the files were never published, acknowledge them: {acknowledge(sure[-1].date)}."
    old = [d.date for d in sure if not d.probed_lately]
    if old:
        return f"{REPAIRED_BY_SCHEDULE} At once: {backfill(old)}. {never}"
    return (
        "These dates were probed after they had settled, the last time not long ago, and the files "
        f"are not there: another probe at once will not help, the schedules go on probing. {never}"
    )


def continuity(missing: Sequence[dt.date]) -> Verdict:
    """No date without rows.

    Args:
        missing: dates that were due and have none.

    Returns:
        A verdict whose `observed` and `count` are dates; the sample names them as spans.
    """
    named = date_spans(missing)
    return Verdict(
        passed=not missing,
        observed=len(missing),
        threshold=0,
        sample=tuple(named[:SAMPLE]),
        recovery=f"Probe them in one run: {backfill(missing)}.",
        count=len(missing),
        sample_truncated=len(named) > SAMPLE,
        offenders=tuple({"start": a, "end": b} for a, b in spans(missing)[:SAMPLE]),
    )


def symbol_holes(
    hole_days: int,
    expected_days: int,
    threshold: float,
    *,
    worst: Sequence[tuple[str, int]] = (),
    recent: Sequence[tuple[dt.date, str]] = (),
    recent_days: int = 7,
    acknowledged: int = 0,
) -> Verdict:
    """Hole days stay below a share of the expected symbol-days; new holes are a warning.

    The archive has holes that nobody will ever fill, so that there are some is no fault.

    Args:
        hole_days: confirmed absences strictly between a symbol's first and last file, without
            the acknowledged ones.
        expected_days: symbol-days between first and last file.
        threshold: share of holes that is too many.
        worst: symbols with holes and how many, the worst first; named when there are too many.
        recent: holes confirmed in the last `recent_days` days, as date and symbol.
        recent_days: said in the note.
        acknowledged: holes that somebody acknowledged.
    """
    share = hole_days / expected_days if expected_days else 0.0
    too_many = share > threshold
    named = [f"{symbol}: {days} days" for symbol, days in worst]
    fields: list[Fields] = [{"symbol": symbol, "hole_days": days} for symbol, days in worst]
    if not too_many:
        named = [f"{date} {symbol}" for date, symbol in recent]
        fields = [{"date": date, "symbol": symbol} for date, symbol in recent]
    accept = acknowledge(recent[0][0], recent[0][1]) if recent and not too_many else (
        f"`{PROGRAM} slo acknowledge`"
    )
    return Verdict(
        passed=not too_many and not recent,
        observed=share,
        threshold=threshold,
        sample=tuple(named[:SAMPLE]),
        recovery=f"See them with `{PROGRAM} query holes`. {REPAIRED_BY_SCHEDULE} What is still "
        "missing after a full reconcile was never published: ask the archive's maintainers, and "
        f"acknowledge it with {accept}.",
        severity="error" if too_many else "warn",
        count=hole_days if too_many else len(recent),
        sample_truncated=len(named) > SAMPLE,
        note=f"{hole_days} of {expected_days} symbol-days are holes, {len(recent)} of them "
        f"confirmed in the last {recent_days} days",
        offenders=tuple(fields[:SAMPLE]),
        acknowledged=acknowledged,
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
    fields: list[Fields] = []
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
            fields.append({"date": date, "lag_hours": lag, "usual_hours": usual})
        if off - allowed > worst - allowed_there:
            worst, allowed_there = off, allowed
    return verdict_on(
        far,
        offenders=fields,
        observed=round(worst, 2),
        threshold=round(allowed_there, 2),
        recovery="Nothing to mend here: the archive published (or replaced) these dates at an "
        "unusual time. If it stays so, move the schedules.",
        severity="warn",
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
    there = share(len(expected) - len(missing), len(expected))
    return Verdict(
        passed=there >= threshold,
        observed=there,
        threshold=threshold,
        sample=tuple(missing[:SAMPLE]),
        recovery=f"Look at the date again: {backfill([date])}. If they stay missing, the archive "
        "does not publish these contracts.",
        count=len(missing),
        sample_truncated=len(missing) > SAMPLE,
        offenders=tuple({"symbol": symbol} for symbol in missing[:SAMPLE]),
        note=f"{len(expected) - len(missing)} of {len(expected)} trading perpetual contracts have "
        f"a file of {date}",
    )


def exchange_unknown(why: str, threshold: float, *, off: bool = False) -> Verdict:
    """There is nothing to compare with: a warning that says why, or a pass where it is off."""
    return Verdict(
        passed=off,
        observed=None,
        threshold=threshold,
        sample=(),
        recovery=""
        if off
        else "Nothing is wrong with the record. If it stays so, unset or change "
        "AVAILABILITY_EXCHANGE_INFO_URL.",
        severity="warn",
        note=why,
    )
