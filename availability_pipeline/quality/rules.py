"""The service levels as pure functions, from numbers to a verdict."""

import datetime as dt
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from availability_pipeline import PROGRAM
from availability_pipeline.archive.datasets import UM_KLINES_1M, Dataset
from availability_pipeline.dates import Span, joined

SAMPLE = 10
"""Offenders a verdict names; `count` always has the whole number."""

Fields = Mapping[str, str | int | float | dt.date | dt.datetime]
"""One offender as fields, for programs: numbers, dates, and names from a fixed set."""

Outcome = Literal["ok", "warn", "breach", "unknown"]

REPAIRED_BY_SCHEDULE = (
    "Files that come late are found by the late-arrivals and reconcile schedules."
)


@dataclass(frozen=True)
class Verdict:
    """The outcome of one rule.

    Attributes:
        passed: the rule is kept.
        observed: the number that was judged, in the unit of `threshold`; None where there was
            nothing to judge: it passes, and its outcome is `unknown`.
        threshold: what it was compared with.
        sample: the first `SAMPLE` offenders; each begins with its date or symbol.
        recovery: what to do if it did not pass.
        severity: what a verdict that did not pass means: `error` is a breach, `warn` is something
            not known yet, or known and not to be mended.
        count: all offenders.
        sample_truncated: `sample` does not name all of them.
        note: what a reader must know beside the numbers; empty when there is nothing.
        offenders: the same as `sample`, in its order, as fields.
        acknowledged: what would be an offender, had it not been acknowledged.
        datasets: those that were judged, by name, and the outcome of each; none where the rule is
            not about a dataset.
    """

    passed: bool
    observed: float | None
    threshold: float
    sample: tuple[str, ...] = ()
    recovery: str = ""
    severity: Literal["error", "warn"] = "error"
    count: int = 0
    sample_truncated: bool = False
    note: str = ""
    offenders: tuple[Fields, ...] = ()
    acknowledged: int = 0
    datasets: Mapping[str, Outcome] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """The verdict in one word."""
        if self.passed:
            return "unknown" if self.observed is None else "ok"
        return "breach" if self.severity == "error" else "warn"

    @property
    def remarks(self) -> str:
        """The note, and how many offenders were acknowledged."""
        accepted = f"{self.acknowledged} acknowledged" if self.acknowledged else ""
        return ", ".join(part for part in (self.note, accepted) if part)

    @property
    def breached(self) -> bool:
        """It did not pass, and that is a fact and not only a warning."""
        return not self.passed and self.severity == "error"

    @property
    def text(self) -> str:
        """What was found and what to do, in a sentence or two."""
        about = about_text(self.datasets, self.outcome)
        if self.passed:
            return f"{about}{self.remarks or 'OK.'}"
        named = "; ".join(self.sample) + ("; and more" if self.sample_truncated else "")
        said = self.remarks
        found = f"{named} ({said})" if named and said else named or said
        return about + ". ".join(part for part in (found, self.recovery) if part)


def about_text(datasets: Mapping[str, Outcome], outcome: Outcome) -> str:
    """What a sentence on a verdict begins with: `um/daily/klines/1m: `, `2 of 9 datasets: `."""
    if len(datasets) < 2:
        return "".join(f"{name}: " for name in datasets)
    if outcome in ("ok", "unknown"):
        return f"{len(datasets)} datasets: "
    of = sum(one == outcome for one in datasets.values())
    return f"{of} of {len(datasets)} datasets: "


@dataclass(frozen=True, slots=True)
class Subject:
    """The dataset that a rule judges, and how its periods and the commands about it are said.

    Attributes:
        dataset: which, or one of those whose intervals are in one asset.
        named: commands must name it, for it is not the only one that is configured.
        pattern: of all of them, where they are several.
    """

    dataset: Dataset = UM_KLINES_1M
    named: bool = False
    pattern: str = ""

    def __str__(self) -> str:
        return self.pattern or str(self.dataset)

    @property
    def option(self) -> str:
        """What names it in a command."""
        quote = "'" if self.pattern else ""
        return f" --dataset {quote}{self}{quote}" if self.named else ""

    def spans(self, periods: Iterable[dt.date]) -> list[Span]:
        """Periods as spans of dates, in order."""
        return joined((period, self.dataset.last_day(period)) for period in periods)

    def text(self, start: dt.date, end: dt.date | None = None) -> str:
        """A period or a span of them: `2024-01-02`, `2024-01 to 2024-03`."""
        first, last = (
            self.dataset.text(self.dataset.period_of(date)) for date in (start, end or start)
        )
        return first if first == last else f"{first} to {last}"


ONE = Subject()
"""The default dataset, alone."""


def backfill(periods: Sequence[dt.date], of: Subject = ONE) -> str:
    """The command that probes these periods again, in one run."""
    start, end = ("FIRST", "LAST")
    if periods:
        start, end = str(min(periods)), str(of.dataset.last_day(max(periods)))
    return f"`{PROGRAM} backfill{of.option} --start {start} --end {end}`"


def acknowledge(date: dt.date, symbol: str | None = None, of: Subject = ONE) -> str:
    """The command that acknowledges what is missing on a date."""
    only = f" --symbol {symbol}" if symbol else ""
    return f"`{PROGRAM} slo acknowledge{of.option} --date {date}{only} --reason TEXT`"


_RANKS: Mapping[Outcome, int] = {"unknown": 0, "ok": 1, "warn": 2, "breach": 3}


def combined(found: Mapping[str, Verdict], *, low_is_bad: bool = False, note: str = "") -> Verdict:
    """One verdict of those on several datasets; of one dataset, that one with its name.

    The worst outcome decides, and only datasets of that outcome are counted and named: a warning
    of another one belongs to no breach. Each of them has its share of the sample, so that the
    faults of one hide no other.

    Args:
        found: by the dataset's name, at least one.
        low_is_bad: of two equal outcomes the lower `observed` is the worse one.
        note: what a reader must know beside the notes of the verdicts.
    """

    def badness(name: str) -> tuple[int, float]:
        one = found[name]
        distance = (one.observed or 0) - one.threshold
        return _RANKS[one.outcome], -distance if low_is_bad else distance

    name = max(found, key=badness)
    worst, alone = found[name], len(found) == 1
    bad = {n: v for n, v in found.items() if v.outcome == worst.outcome and not v.passed}
    notes = [worst.note if alone else _notes(name, found), note]
    recovery = worst.recovery
    if len(bad) > 1:
        recovery += f" `{PROGRAM} slo --dataset NAME` says it of each of the others."
    sample, offenders = _shares(bad, alone=alone)
    return replace(
        worst,
        sample=sample,
        offenders=offenders,
        recovery=recovery,
        count=sum(v.count for v in bad.values()) if bad else worst.count,
        sample_truncated=worst.sample_truncated
        if alone
        else len(sample) < sum(len(v.sample) or 1 for v in bad.values())
        or any(v.sample_truncated and v.sample for v in bad.values()),
        note="; ".join(part for part in notes if part),
        acknowledged=sum(v.acknowledged for v in found.values()),
        datasets={n: v.outcome for n, v in found.items()},
    )


def _shares(
    bad: Mapping[str, Verdict], *, alone: bool
) -> tuple[tuple[str, ...], tuple[Fields, ...]]:
    """As much of each verdict's sample as there is room for, in their order, by dataset."""
    named: dict[str, list[tuple[str, Fields]]] = {}
    for name, verdict in bad.items():
        said = verdict.sample if alone else [f"{name} {text}" for text in verdict.sample]
        fields: list[Fields] = [{"dataset": name, **one} for one in verdict.offenders]
        if not said and not alone:
            said, fields = [f"{name}: {verdict.count} in all"], [{"dataset": name}]
        named[name] = list(zip(said, fields, strict=True))
    # Round by round: the first of each, the second of each.
    chosen = sorted(
        (n, order) for order, one in enumerate(named.values()) for n in range(len(one))
    )[:SAMPLE]
    taken = [sum(order == this for _, order in chosen) for this in range(len(named))]
    pairs = [pair for one, n in zip(named.values(), taken, strict=True) for pair in one[:n]]
    return tuple(text for text, _ in pairs), tuple(one for _, one in pairs)


def _notes(name: str, found: Mapping[str, Verdict]) -> str:
    """The worst one's note, and how the others differ from it."""
    worst = found[name]
    notes = []
    if worst.note and worst.outcome != "unknown":
        notes.append(f"{name}: {worst.note}")
    warned = sum(v.outcome == "warn" for v in found.values())
    if worst.breached and warned:
        notes.append(f"{warned} more warn")
    unknown: dict[str, list[str]] = {}
    for each, verdict in found.items():
        if verdict.outcome == "unknown":
            unknown.setdefault(verdict.note, []).append(each)
    notes += [f"{few(names)}: {note}" for note, names in unknown.items()]
    return "; ".join(notes)


def share(part: int, whole: int) -> float:
    """`part` of `whole`, at most 1; all of nothing is 1."""
    return min(1.0, part / whole) if whole else 1.0


def verdict_on(
    sample: Sequence[str],
    *,
    offenders: Sequence[Fields],
    passed: bool | None = None,
    count: int | None = None,
    **others: Any,
) -> Verdict:
    """A verdict on these offenders, of which it names the first `SAMPLE`.

    It passes when there are none, and counts all, unless `passed` and `count` say otherwise.
    """
    return Verdict(
        passed=not sample if passed is None else passed,
        sample=tuple(sample[:SAMPLE]),
        offenders=tuple(offenders[:SAMPLE]),
        count=len(sample) if count is None else count,
        sample_truncated=len(sample) > SAMPLE,
        **others,
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
        acknowledged: those of the missing that were acknowledged.
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
        recovery="Backfill the partition: a write replaces all its rows in one transaction.",
        count=duplicates,
        sample_truncated=duplicates > 0,
    )


def completeness(dates: Sequence[DateCount], threshold: float, of: Subject = ONE) -> Verdict:
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
        [f"{of.text(d.date)}: {d.available} of {d.due}" for d in named],
        offenders=[_fields(d) for d in named],
        observed=min((share(d.available, d.due) for d in dates), default=1.0),
        threshold=threshold,
        recovery=_recovery(sorted(sure, key=lambda d: d.date), of),
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


def _recovery(sure: Sequence[DateCount], of: Subject) -> str:
    if not sure:
        return REPAIRED_BY_SCHEDULE
    # The newest: of an outage, that acknowledges the dates before it too.
    accept = acknowledge(sure[-1].date, of=of)
    never = f"If the files were never published, acknowledge them: {accept}."
    old = [d.date for d in sure if not d.probed_lately]
    if old:
        return f"{REPAIRED_BY_SCHEDULE} At once: {backfill(old, of)}. {never}"
    return (
        "These dates were probed after they had settled, the last time not long ago, and the files "
        f"are not there: another probe at once will not help, the schedules go on probing. {never}"
    )


def continuity(
    missing: Sequence[dt.date],
    of: Subject = ONE,
    *,
    recorded: bool = True,
    in_catalogue: bool = True,
) -> Verdict:
    """No period without rows.

    Args:
        missing: dates, or months, that were due and have none.
        of: whose.
        recorded: something of it was recorded.
        in_catalogue: the archive is known to have it; of one that it may not have, nothing is
            more than a warning.

    Returns:
        A verdict whose `observed` and `count` are periods; the sample names them as spans.
    """
    found = of.spans(missing)
    if not in_catalogue:
        recovery = (
            "The archive is not known to have it: see what it has with "
            f"`{PROGRAM} datasets discover`. Correct AVAILABILITY_DATASETS, or fill it: "
            f"`{PROGRAM} backfill{of.option}`."
        )
    elif recorded:
        recovery = f"Probe them in one run: {backfill(missing, of)}."
    else:
        recovery = f"Fill it in one run: `{PROGRAM} backfill{of.option}`."
    return verdict_on(
        [of.text(*span) for span in found],
        offenders=[{"start": start, "end": end} for start, end in found],
        count=len(missing),
        observed=len(missing),
        threshold=0,
        recovery=recovery,
        severity="error" if in_catalogue else "warn",
        note="" if recorded else "nothing was recorded yet",
    )


def symbol_holes(
    hole_days: int,
    expected_days: int,
    threshold: float,
    of: Subject = ONE,
    *,
    worst: Sequence[tuple[str, int]] = (),
    recent: Sequence[tuple[dt.date, str]] = (),
    recent_days: int = 7,
    acknowledged: int = 0,
) -> Verdict:
    """Hole days stay below a share of the expected symbol-days; new holes are a warning.

    The archive has holes that will never be filled, so a few of them are not a fault.

    Args:
        hole_days: confirmed absences strictly between a symbol's first and last file, without
            the acknowledged ones.
        expected_days: symbol-days between first and last file.
        threshold: share of holes that is too many.
        of: whose; of monthly files, months take the place of days.
        worst: symbols with holes and how many, the worst first; named when there are too many.
        recent: holes confirmed in the last `recent_days` days, as date and symbol.
        recent_days: said in the note.
        acknowledged: holes that were acknowledged.
    """
    share = hole_days / expected_days if expected_days else 0.0
    too_many = share > threshold
    unit = "month" if of.dataset.monthly else "day"
    named = [f"{symbol}: {days} {unit}s" for symbol, days in worst]
    fields: list[Fields] = [{"symbol": symbol, "hole_days": days} for symbol, days in worst]
    if not too_many:
        named = [f"{of.text(date)} {symbol}" for date, symbol in recent]
        fields = [{"date": date, "symbol": symbol} for date, symbol in recent]
    accept = (
        acknowledge(*recent[0], of)
        if recent and not too_many
        else f"`{PROGRAM} slo acknowledge{of.option}`"
    )
    return verdict_on(
        named,
        offenders=fields,
        passed=not too_many and not recent,
        count=hole_days if too_many else len(recent),
        observed=share,
        threshold=threshold,
        recovery=f"See them with `{PROGRAM} query holes{of.option}`. {REPAIRED_BY_SCHEDULE} "
        "What is still missing after a full reconcile was never published: ask the archive's "
        f"maintainers, and acknowledge it with {accept}.",
        severity="error" if too_many else "warn",
        note=f"{hole_days} of {expected_days} symbol-{unit}s are holes, {len(recent)} of them "
        f"confirmed in the last {recent_days} days",
        acknowledged=acknowledged,
    )


def lags_judged_from(dataset: Dataset, today: dt.date) -> dt.date:
    """The first period whose lag is judged: no old event is said for ever.

    Of months the last two that may have settled, of dates those of the last `LAG_DATES` days.
    """
    if dataset.monthly:
        return dataset.shift(dataset.period_of(today), -2)
    return today - dt.timedelta(LAG_DATES)


def publication_lag(
    lags: Sequence[tuple[dt.date, float]],
    today: dt.date,
    floor_hours: float,
    of: Subject = ONE,
) -> Verdict:
    """A period's median publication lag is near that of the 30 published ones before it.

    Args:
        lags: (settled date or month, median hours from its end to LastModified), in order.
        today: which periods are judged follows from it, by `lags_judged_from`.
        floor_hours: what is always near enough; more where the lags themselves spread more.
        of: whose.

    Returns:
        A warning at most. `observed` is the farthest distance from the usual lag, in hours, and
        `threshold` what that date was allowed.
    """
    since = lags_judged_from(of.dataset, today)
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
            far.append(f"{of.text(date)}: {lag:.1f} h, usually {usual:.1f} h")
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
    of: Subject = ONE,
) -> Verdict:
    """The record has `threshold` of the contracts that the exchange says it trades.

    Args:
        trading: (symbol, onboarded on) of each trading perpetual contract.
        recorded: symbols with a file of `date`.
        date: the last settled one; what was onboarded later does not count.
        threshold: share needed.
        of: whose symbols they are.
    """
    expected = {symbol for symbol, since in trading if since <= date}
    missing = sorted(expected - set(recorded))
    there = share(len(expected) - len(missing), len(expected))
    return verdict_on(
        missing,
        offenders=[{"symbol": symbol} for symbol in missing],
        passed=there >= threshold,
        observed=there,
        threshold=threshold,
        recovery=f"Probe the date again: {backfill([date], of)}. If they stay missing, the archive "
        "does not publish these contracts.",
        note=f"{len(expected) - len(missing)} of {len(expected)} trading perpetual contracts have "
        f"a file of {date}",
    )


def exchange_unknown(why: str, threshold: float, *, off: bool = False) -> Verdict:
    """There is nothing to compare with: a warning that says why, or a pass where it is off."""
    return Verdict(
        passed=off,
        observed=None,
        threshold=threshold,
        recovery=""
        if off
        else "Nothing is wrong with the record. If it stays so, unset or change "
        "AVAILABILITY_EXCHANGE_INFO_URL.",
        severity="warn",
        note=why,
    )


def catalogue(findings: Sequence[tuple[str, str]], there: int) -> Verdict:
    """The archive has the datasets that are known, and no others.

    Args:
        findings: each difference: the name of the dataset, and `unknown`, `missing` or `returned`.
        there: how many datasets the archive has.

    Returns:
        A warning at most: it is news about the archive, and no fault of the record.
    """
    return verdict_on(
        [f"{name}: {finding}" for name, finding in findings],
        offenders=[{"dataset": name, "finding": finding} for name, finding in findings],
        observed=len(findings),
        threshold=0,
        recovery="Nothing is wrong with the record. What is unknown may be worth recording: a new "
        "interval can be named in AVAILABILITY_DATASETS, another type needs a newer version. What "
        "is missing can be taken out of it; what was recorded is kept. "
        f"`{PROGRAM} datasets discover` lists all of them.",
        severity="warn",
        note=f"the archive has {there} datasets",
    )


def mirror_complete(
    missing: Sequence[str], stale: Sequence[str], files: int, *, under_way: bool
) -> Verdict:
    """The mirror has each selected file in the record's version, by its manifest.

    Args:
        missing: keys that it does not have.
        stale: keys of which it has an earlier version.
        files: how many are selected.
        under_way: a mirror run has not ended, so that it is a warning at most.
    """
    found = [("missing", key) for key in missing] + [("stale", key) for key in stale]
    return verdict_on(
        [f"{key}: {state}" for state, key in found[: SAMPLE + 1]],
        offenders=[{"key": key, "state": state} for state, key in found[:SAMPLE]],
        count=len(found),
        observed=len(found),
        threshold=0,
        recovery="A mirror run is under way or queued."
        if under_way
        else "Launch the job mirror: it fetches these and nothing else. If it fails, it says why.",
        severity="warn" if under_way else "error",
        note=f"{files - len(found)} of {files} files",
    )


def not_judged(why: str) -> Verdict:
    """The mirror, the daily volume or what is selected cannot be read now."""
    return Verdict(
        passed=False,
        observed=None,
        threshold=0,
        severity="warn",
        note=f"Not judged: {why}",
        recovery="The line says what to do.",
    )


def mirror_verified(
    missing: Sequence[str], damaged: Sequence[str], verified: int, where: str
) -> Verdict:
    """A sample of what the manifest calls whole is there, with the content that was verified.

    Args:
        missing: keys that are not there.
        damaged: keys with another content.
        verified: files that are what they should be.
        where: the mirror.
    """
    found = [("damaged", key) for key in damaged] + [("missing", key) for key in missing]
    judged = verified + len(found)
    return verdict_on(
        [f"{key}: {state}" for state, key in found],
        offenders=[{"key": key, "state": state} for state, key in found],
        observed=len(found) if judged else None,
        threshold=0,
        recovery=f"`{PROGRAM} files verify {where} --repair` reads all of it, fetches what is "
        "wrong, and keeps it apart. Then look for the cause: a disk, or another program.",
        note=f"{judged} files were read" if judged else "nothing is mirrored yet",
    )


def publication_current(
    behind: Sequence[tuple[str, str | None, str]], published_at: dt.datetime | None
) -> Verdict:
    """What is published has the newest period of each recorded dataset.

    Args:
        behind: datasets of which it has not, with its newest period (None: not at all) and the
            record's.
        published_at: when the newest publication was made; None without one.
    """
    return verdict_on(
        [f"{name}: published up to {there or 'nothing'}, recorded up to {last}"
         for name, there, last in behind],
        offenders=[{"dataset": name, "published": there or "", "recorded": last}
                   for name, there, last in behind],
        observed=len(behind),
        threshold=0,
        recovery="Launch the job publish; if it fails, it says why.",
        note=f"published {published_at:%Y-%m-%d %H:%M} UTC" if published_at else "never published",
    )  # fmt: skip


def publication_whole(damaged: Sequence[str], files: int, read: int, where: str) -> Verdict:
    """Each published file is there, and those that were read are what the manifest says.

    Args:
        damaged: paths that are missing or damaged.
        files: how many are published; 0 where nothing is.
        read: how many were read.
        where: the site.
    """
    return verdict_on(
        damaged,
        offenders=[{"path": path} for path in damaged],
        observed=len(damaged) if files else None,
        threshold=0,
        recovery=f"`{PROGRAM} publish {where} --verify` reads all of it and uploads what is wrong. "
        "Then look for the cause: a disk, or another program.",
        note=f"{files} files, {read} of them read" if files else "nothing is published yet",
    )


@dataclass(frozen=True, slots=True)
class UnreadFile:
    """A recorded file that daily volume lacks.

    Attributes:
        period: its date, or its month's first day.
        state: `missing`, `replaced` (an earlier version was read) or `refused`.
        problem: why it was refused.
    """

    period: dt.date
    symbol: str
    state: Literal["missing", "replaced", "refused"]
    problem: str = ""


_UNREAD = {"missing": "was not read", "replaced": "was replaced since it was read"}


def volume_complete(
    unread: Sequence[UnreadFile],
    counts: Mapping[str, int],
    files: int,
    *,
    whole: int,
    asset: str,
    other_months: int = 0,
    under_way: bool,
) -> Verdict:
    """Each recorded daily file has its row in the daily volume.

    Args:
        unread: the first ones of each state.
        counts: all of them, by state.
        files: how many daily ones are recorded.
        whole: of how many of them the record's version was read.
        asset: which reads it.
        other_months: monthly files that were not taken, whose days are there all the same.
        under_way: a run of `volume` has not ended, so that it is a warning at most.
    """
    order = ["missing", "replaced", "refused"]
    found = sorted(unread, key=lambda one: (order.index(one.state), one.period, one.symbol))
    undone = counts.get("missing", 0) + counts.get("replaced", 0)
    count = undone + counts.get("refused", 0)
    if undone and under_way:
        recovery = "A run of the job volume is under way or queued."
    elif undone:
        recovery = (
            "Launch the job volume, which reads this month and the last; for the past materialise "
            f"all partitions of {asset}. If the run fails, it says why."
        )
    else:
        recovery = (
            "These files are wrong in the archive: report them to Binance. Each is read again once "
            "it is replaced."
        )
    note = f"{whole} of {files} files"
    if other_months:
        note += f", {other_months} months that were not taken are there as days"
    return verdict_on(
        [f"{one.period} {one.symbol} {_UNREAD.get(one.state) or f'was not taken, {one.problem}'}"
         for one in found[: SAMPLE + 1]],
        offenders=[
            {"date": one.period, "symbol": one.symbol, "state": one.state} for one in found[:SAMPLE]
        ],
        count=count,
        observed=count if files else None,
        threshold=0,
        recovery=recovery,
        severity="error" if undone and not under_way else "warn",
        note=note if files else "nothing is recorded",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """A number that a day's two files do not agree on."""

    date: dt.date
    symbol: str
    column: str
    daily: float
    monthly: float


def volume_matches_monthly(
    differences: Sequence[Difference], count: int, compared: int, acknowledged: int, of: Subject
) -> Verdict:
    """Where both files of a day were read, they say the same.

    Args:
        differences: the first ones that were not acknowledged.
        count: all of those.
        compared: days of which both were read.
        acknowledged: days on which they differ, which was acknowledged.
        of: the daily files.
    """
    first = (differences[0].date, differences[0].symbol) if differences else ()
    return verdict_on(
        [f"{one.date} {one.symbol} {one.column}: {one.daily:.17g} in the daily file, "
         f"{one.monthly:.17g} in the monthly one" for one in differences],
        offenders=[
            {"date": one.date, "symbol": one.symbol, "column": one.column, "daily": one.daily,
             "monthly": one.monthly} for one in differences
        ],
        count=count,
        observed=count if compared else None,
        threshold=0,
        recovery="One of the two files is wrong; answers have the daily one's numbers. Compare "
        "both with the exchange's candles, and report it to Binance: a file that is replaced is "
        "read again." + (f" If it stays so, acknowledge it: {acknowledge(*first, of=of)}."
                         if first else ""),
        acknowledged=acknowledged,
        note=f"{compared} days were compared" if compared else "no day was read of both files yet",
    )  # fmt: skip


VOLUME_JUMP = 1000
"""So many times the usual, or so small a part of it, is a warning.

Far beyond what trading does from one day to another, so that what is named is a mistake: a number
in another asset or unit.
"""

VOLUME_DAYS = 30
"""`volume_is_plausible` judges the last so many days, each beside so many before it."""

VOLUME_MIN_DAYS = 7
"""Days with volume before a day without which it is not judged: what is usual is not known."""


@dataclass(frozen=True, slots=True)
class Jump:
    """A day's quote volume far from the symbol's median; `key` is the file that says so."""

    date: dt.date
    symbol: str
    volume: float
    usual: float
    key: str


def volume_plausible(jumps: Sequence[Jump], judged: int) -> Verdict:
    """No volume jumps beyond `VOLUME_JUMP`.

    Args:
        jumps: all of them.
        judged: days of symbols that were judged.
    """
    return verdict_on(
        [f"{one.date} {one.symbol}: {one.volume:.6g}, where {one.usual:.6g} is usual ({one.key})"
         for one in jumps],
        offenders=[
            {"date": one.date, "symbol": one.symbol, "volume": one.volume, "usual": one.usual,
             "key": one.key} for one in jumps
        ],
        observed=len(jumps) if judged else None,
        threshold=0,
        recovery="Compare the file with the exchange's candles. If they agree, nothing is to be "
        f"done: it is judged for {VOLUME_DAYS} days.",
        severity="warn",
        note=f"{judged} volumes were judged" if judged else "nothing is to be judged yet",
    )  # fmt: skip


SUCCESS_DAYS = 30
"""Days over which `update_success_rate` looks back when not told otherwise."""

MIN_RUNS = 20
"""Scheduled runs needed to judge: among fewer, a single failure is more than 5 %."""


@dataclass(frozen=True, slots=True)
class UpdateRun:
    """A run that a schedule launched; `succeeded` is None while it has not ended.

    One that was executed again, and succeeded then, has succeeded.
    """

    run_id: str
    job: str
    launched_at: dt.datetime
    succeeded: bool | None


def update_success_rate(
    runs: Iterable[UpdateRun], now: dt.datetime, threshold: float, days: int = SUCCESS_DAYS
) -> Verdict:
    """Share of the scheduled updates of the last `days` days that succeeded.

    Runs that have not ended are left out; canceled ones did not succeed. With fewer than
    `MIN_RUNS` it passes and says so; without any, nothing is `observed`.
    """
    since = now - dt.timedelta(days)
    ended = [r for r in runs if r.succeeded is not None and since <= r.launched_at <= now]
    failed = [r for r in ended if not r.succeeded]
    failed.sort(key=lambda r: r.launched_at, reverse=True)  # what went wrong last matters
    if not ended:
        return Verdict(
            passed=True,
            observed=None,
            threshold=threshold,
            note=f"not known yet (no scheduled runs in {days} days)",
        )
    rate = share(len(ended) - len(failed), len(ended))
    enough = len(ended) >= MIN_RUNS
    note = f"{len(ended) - len(failed)} of {len(ended)} scheduled updates succeeded in {days} days"
    return verdict_on(
        [f"{r.launched_at:%Y-%m-%d %H:%M} {r.job} {r.run_id[:8]}" for r in failed],
        offenders=[
            {"launched_at": r.launched_at, "job": r.job, "run_id": r.run_id} for r in failed
        ],
        passed=rate >= threshold or not enough,
        observed=rate,
        threshold=threshold,
        recovery="Read the failed runs' errors in the UI under Runs. Their dates are probed "
        "again by the next scheduled run.",
        note=note if enough else f"{note}: too few to judge, {MIN_RUNS} are needed",
    )


def due_date(now: dt.datetime, deadline_minutes: int) -> dt.date:
    """The last date whose update must be in: yesterday, once so much of today is over."""
    now = now.astimezone(dt.UTC)
    over = now - dt.datetime.combine(now.date(), dt.time(), dt.UTC)
    return now.date() - dt.timedelta(1 if over >= dt.timedelta(minutes=deadline_minutes) else 2)


def due_period(dataset: Dataset, now: dt.datetime, deadline_minutes: int) -> dt.date:
    """The last period whose update must be in.

    Of dates that of `due_date`. A month's first update is at 10:00 UTC on the 1st, hours after
    that of the last date, so that it is due a day later.
    """
    due = due_date(now, deadline_minutes)
    return dataset.shift(dataset.period_of(due), -1) if dataset.monthly else due


def few(names: Sequence[str], limit: int = 3) -> str:
    """Names as text, and no more than `limit` of them."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def freshness(
    materialised_at: dt.datetime | None,
    now: dt.datetime,
    deadline_minutes: int,
    of: Subject = ONE,
) -> Verdict:
    """The partition of `due_period` was first materialised in time.

    Args:
        materialised_at: when that partition was first materialised, or None.
        now: aware.
        deadline_minutes: after the end of a date; a month has a day more, as in `due_period`.
        of: whose.

    Returns:
        A breach while it is missing; a warning when it came, but late; nothing to judge where the
        dataset had stopped. `observed` is minutes from the end of the period: until it came, or
        until now.
    """
    dataset, date = of.dataset, due_period(of.dataset, now, deadline_minutes)
    if dataset.last and date > dataset.last:
        note = f"it stopped with {dataset.text(dataset.last)}"
        return Verdict(passed=True, observed=None, threshold=deadline_minutes, note=note)
    allowed = deadline_minutes + (24 * 60 if dataset.monthly else 0)
    ended = dt.datetime.combine(dataset.shift(date, 1), dt.time(), dt.UTC)
    minutes = ((materialised_at or now) - ended).total_seconds() / 60
    missing = materialised_at is None
    late = not missing and minutes > allowed
    note = "" if missing else f"first probed at {materialised_at:%Y-%m-%d %H:%M} UTC"
    if late:
        note += f", due by {ended + dt.timedelta(minutes=allowed):%H:%M}"
    by_hand = f"`{PROGRAM} update manual{of.option} --date {date}`"
    if dataset.monthly:
        by_hand = backfill([date], of)
    return verdict_on(
        [of.text(date)] if missing or late else [],
        offenders=[{"date": date, "problem": "missing" if missing else "late"}],
        observed=round(minutes, 1),
        threshold=allowed,
        recovery=f"See that the daemon runs: `{PROGRAM} status`. Probe the "
        f"{'month' if dataset.monthly else 'date'} by hand: {by_hand}."
        if missing
        else f"Nothing now: it is there. If it happens again, see why the "
        f"{'10:00' if dataset.monthly else '02:00'} run was late.",
        severity="error" if missing else "warn",
        note=note,
    )


def store_matches_dagster(
    materialised: Iterable[dt.date],
    stored: Iterable[dt.date],
    of: Subject = ONE,
    *,
    writing: bool = False,
) -> Verdict:
    """The periods Dagster calls materialised are the periods with rows.

    Args:
        materialised: partitions of the asset in Dagster's own records.
        stored: periods with rows, of any of its datasets.
        of: whose.
        writing: a run is in progress: a difference may be of this very moment, so it only warns.
    """
    known, rows = set(materialised), set(stored)
    no_rows, no_record = sorted(known - rows), sorted(rows - known)
    sample, fields = [], list[Fields]()
    for dates, problem, said in (
        (no_rows, "no_rows", "materialised, but no rows"),
        (no_record, "not_materialised", "rows, but not materialised"),
    ):
        for start, end in of.spans(dates):
            sample.append(f"{of.text(start, end)}: {said}")
            fields.append({"start": start, "end": end, "problem": problem})
    drift = [*no_rows, *no_record]
    return verdict_on(
        sample,
        offenders=fields,
        count=len(drift),
        observed=len(drift),
        threshold=0,
        recovery=f"Bring both together in one run: {backfill(drift, of)}.",
        severity="warn" if writing else "error",
        note="a run is in progress: judge again when it has ended" if writing and drift else "",
    )
