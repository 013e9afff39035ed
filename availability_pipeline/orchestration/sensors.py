"""The sensor that tells people: failed runs, failed checks, and that they are well again.

It reads what happened from Dagster's history; `alerts` decides what is worth a message and sends
it.

Why no `run_failure_sensor`: it is called once per run and moves on whatever became of the
message, so a mail server that is down loses the alert for good; it reads five runs a tick, so
a backfill with 300 failed runs is 300 messages over half an hour; and it neither sees runs of the
CLI nor failed checks that block nothing, whose runs are successes. So: one plain sensor over
Dagster's run events, whose cursor remembers what was announced and what is still to be sent. The
cursor is kept by Dagster in its own storage and survives restarts; what is sent before it is stored
is in a journal beside it (`alerts.journal`). A message can come twice if the process that sends it
is killed between the target's answer and its note in the journal; none is lost.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import dagster as dg

from availability_pipeline import PROGRAM
from availability_pipeline.alerts import delivery, journal, outbox, rules
from availability_pipeline.alerts.outbox import Lost, State
from availability_pipeline.alerts.rules import ALWAYS, Event, Message, Span
from availability_pipeline.archive.datasets import (
    UM_KLINES_1M,
    Dataset,
    configured,
    has_intervals,
)
from availability_pipeline.masking import mask_target
from availability_pipeline.orchestration import volumes
from availability_pipeline.orchestration.instance.run_log import failure_reason, job_label
from availability_pipeline.orchestration.partitions import KINDS_TAG, span_of
from availability_pipeline.orchestration.probes import (
    DERIVED,
    late_arrivals,
    probe_again,
    work_of,
)
from availability_pipeline.orchestration.resources import Clock
from availability_pipeline.settings import Settings

RUNS_AT_ONCE = 100
"""Finished runs taken in by one look; the rest wait for the next one."""

Ended = Literal[dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS]
EVENTS: tuple[Ended, ...] = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS)


# 30 s: an alert is half a minute late at most, and the looks that find nothing are about 20,000
# ticks in the 7 days for which dagster.yaml keeps them.
@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Failed runs and failed checks to AVAILABILITY_ALERT_URLS, once each; and their "
    "recovery.",
)
def alert_sensor(
    context: dg.SensorEvaluationContext,
    limits: dg.ResourceParam[Settings],
    clock: dg.ResourceParam[Clock],
) -> dg.SensorResult:
    """Failed runs and failed checks to AVAILABILITY_ALERT_URLS, once each; recovery too."""
    # Defined only where there are addresses, and Dagster keeps the cursor meanwhile: when they come
    # back, last month's failures are not news.
    urls = {
        outbox.target_key(url.get_secret_value()): url.get_secret_value()
        for url in limits.alert_urls
    }
    with journal.opened(Path(context.instance.root_directory) / journal.NAME) as sending:
        if sending is None:
            return dg.SensorResult(
                skip_reason="an evaluation that was ended still sends", cursor=context.cursor
            )
        return _evaluate(context, urls, clock, sending, limits)


def _evaluate(
    context: dg.SensorEvaluationContext,
    urls: Mapping[str, str],
    clock: Clock,
    sending: journal.Journal,
    limits: Settings,
) -> dg.SensorResult:
    now, uptime = clock.now(), clock.uptime()
    state = outbox.load(context.cursor, list(urls))
    if state is None or outbox.is_stale(state, now, uptime):
        state = State(after=_latest(context.instance), looked_at=now, uptime=uptime)
        return _result(state, "begins to watch: what happened before is not announced")
    if unfinished := sending.unfinished(context.cursor):
        state, sent_before = unfinished
        state, _ = outbox.settle(state, sent_before, [frozenset(to) for _, to in sent_before], now)
    events, after = _news(context.instance, state.after, limits)
    problems, messages = rules.decide(state.problems, events, now)
    state = state.model_copy(
        update={"after": after, "looked_at": now, "uptime": uptime, "problems": problems}
    )
    state, dropped = outbox.enqueue(state, messages, list(urls), now)
    due = outbox.due(state, now)
    if due:
        sending.begin(context.cursor, state, due, list(urls))
    taken = _deliver(urls, [(state.queue[n].message, to) for n, to in due], sending.number)
    state, notes = outbox.settle(state, due, taken, now)
    _log(context, urls, [*dropped, *notes])
    sent = sum(map(len, taken))
    said = f"{len(events)} events, {sent} messages sent, {len(state.queue)} waiting"
    said += f"; not well: {', '.join(problems)}" if problems else "; all is well"
    return _result(state, said)


def _result(state: State, said: str) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=said, cursor=state.model_dump_json())


def _deliver(
    urls: Mapping[str, str],
    messages: Sequence[tuple[Message, tuple[str, ...]]],
    noted_in: int | None,
) -> list[frozenset[str]]:
    """Send messages to targets by their keys; for each message the keys that took it."""
    if not messages:
        return []
    keys = list(urls)
    taken = delivery.deliver(
        list(urls.values()),
        [
            (m.title, m.body, "failure" if m.failure else "success", [keys.index(k) for k in to])
            for m, to in messages
        ],
        journal=noted_in,
    )
    return [frozenset(keys[position] for position in positions) for positions in taken]


_WHY = {
    "failed": "did not take {titles}; it is tried again for 24 hours",
    "given_up": "did not take {titles} for 24 hours; given up",
    "removed": "is no longer in AVAILABILITY_ALERT_URLS; not sent to it: {titles}",
    "overflow": "has too many messages waiting; the oldest are dropped: {titles}",
}


def _log(
    context: dg.SensorEvaluationContext, urls: Mapping[str, str], lost: Sequence[Lost]
) -> None:
    keys = list(urls)
    for one in lost:
        known = one.key in urls
        target = f"{keys.index(one.key) + 1} ({mask_target(urls[one.key])})" if known else one.key
        more = f" and {len(one.titles) - 3} more" if len(one.titles) > 3 else ""
        titles = ", ".join(repr(title) for title in one.titles[:3]) + more
        text = f"alert target {target} {_WHY[one.why].format(titles=titles)}"
        if known:
            text += f". Try it: {PROGRAM} alerts test"
        if one.why == "failed":
            context.log.warning(text)
        else:
            context.log.error(text)


def _latest(instance: dg.DagsterInstance) -> int:
    newest = [instance.fetch_run_status_changes(kind, limit=1).records for kind in EVENTS]
    return max((record.storage_id for records in newest for record in records), default=0)


def _news(instance: dg.DagsterInstance, after: int, limits: Settings) -> tuple[list[Event], int]:
    """What happened after an event, oldest first, and the event to go on from."""
    found: list[dg.EventLogRecord] = []
    # Ids are given across kinds of events. Where there is more of one kind than is taken at once,
    # nothing after its last is taken of the other either.
    horizon = None
    for kind in EVENTS:
        records = instance.fetch_run_status_changes(
            dg.RunStatusChangeRecordsFilter(event_type=kind, after_storage_id=after),
            limit=RUNS_AT_ONCE,
            ascending=True,
        ).records
        found += records
        if len(records) == RUNS_AT_ONCE:
            last = records[-1].storage_id
            horizon = last if horizon is None else min(horizon, last)
    found = sorted(
        (r for r in found if horizon is None or r.storage_id <= horizon),
        key=lambda record: record.storage_id,
    )
    if not found:
        # After a deletion of history, ids may be given again.
        return [], min(after, _latest(instance))
    ids = list({record.event_log_entry.run_id for record in found})
    runs = {
        record.dagster_run.run_id: record.dagster_run
        for record in instance.get_run_records(dg.RunsFilter(run_ids=ids))
    }
    events: list[Event] = []
    for record in found:
        # A deleted run has nothing more to tell.
        if run := runs.get(record.event_log_entry.run_id):
            events += _events_of(instance, run, record.event_log_entry, limits)
    return events, found[-1].storage_id


def _events_of(
    instance: dg.DagsterInstance, run: dg.DagsterRun, entry: dg.EventLogEntry, limits: Settings
) -> Iterator[Event]:
    kinds = {
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
        dg.DagsterEventType.STEP_FAILURE,
        dg.DagsterEventType.STEP_SUCCESS,
    }
    events = [
        record.event_log_entry.dagster_event
        for record in instance.get_records_for_run(run.run_id, of_type=kinds).records
    ]
    datasets = _datasets_of(run)
    dates = span_of(run.tags)
    span = Span(start=dates[0], end=dates[1]) if dates else ALWAYS
    if dates and datasets and all("/monthly/" in dataset for dataset in datasets):
        # A run says the months' first days.
        span = Span(start=span.start, end=MONTHS.last_day(span.end))
    steps: set[str] = set()
    failure = None
    for event in events:
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            yield from _check_event(run.run_id, event.asset_check_evaluation_data)
        elif event.is_step_failure:
            failure = failure or event
        elif event.step_key:
            steps |= work_of(event.step_key, run.tags)
    key = failure.step_key if failure else None
    # What a run of the UI is about is said beside its dates.
    name = job_label(run.job_name, () if datasets else run.asset_selection or (), run.tags)
    ended = entry.get_dagster_event()
    if ended.event_type == dg.DagsterEventType.RUN_SUCCESS:
        yield rules.RunSucceeded(
            run_id=run.run_id, name=name, span=span, datasets=datasets, steps=frozenset(steps)
        )
    else:
        yield rules.RunFailed(
            run_id=run.run_id,
            name=name,
            span=span,
            datasets=datasets,
            option=_option(datasets, limits),
            step=_probing(run.tags) if key == probe_again.name else key,
            error=failure_reason(failure or ended),
            moving=run.job_name in (late_arrivals.name, volumes.JOB),
        )


MONTHS = Dataset(frequency="monthly")


def _datasets_of(run: dg.DagsterRun) -> tuple[str, ...]:
    """Market, frequency and type of what a run probes; from its assets where its tags lack them."""
    if about := run.tags.get(KINDS_TAG):
        return tuple(about.split(", "))
    found = []
    for key in run.asset_selection or ():
        frequency = key.path[-1].removesuffix("_availability")
        if len(key.path) == 3 and frequency != key.path[-1]:
            found.append(f"{key.path[0]}/{frequency}/{key.path[1]}")
    return tuple(sorted(found))


def _option(datasets: Sequence[str], limits: Settings) -> str:
    """What a command needs to be about these alone."""
    if len(configured(limits)) == 1:
        return ""
    names = (f"'{d}/*'" if has_intervals(d.split("/")[-1]) else d for d in datasets)
    return "".join(f" --dataset {name}" for name in names)


def _probing(tags: Mapping[str, str]) -> str:
    """The step of an update that does what a failed `probe_again` was to do."""
    return min(work_of(probe_again.name, tags) - DERIVED.keys(), default=probe_again.name)


def _check_event(run_id: str, evaluation: dg.AssetCheckEvaluation) -> Iterator[Event]:
    name = f"{evaluation.check_name} of {evaluation.asset_key.to_user_string()}"
    # A check judges its partition or, without one, the whole record, whatever run it is in.
    span = _days(evaluation.partition) or ALWAYS
    if evaluation.passed:
        yield rules.CheckPassed(run_id=run_id, name=name, span=span)
    elif evaluation.severity == dg.AssetCheckSeverity.ERROR:
        found = {key: value.value for key, value in evaluation.metadata.items()}
        outcomes = found.get("datasets")
        breached = [
            name
            for name, outcome in (outcomes if isinstance(outcomes, dict) else {}).items()
            if outcome == "breach"
        ]
        yield rules.CheckFailed(
            run_id=run_id,
            name=name,
            spans=tuple(_spans_at_fault(found.get("sample"), breached) or [span]),
            datasets=tuple(breached),
            observed=_observed(found),
            recovery=str(found.get("recovery") or ""),
        )


def _spans_at_fault(sample: object, breached: Sequence[str]) -> list[Span]:
    """The dates that are at fault, where the check names dates, each of its dataset.

    A breached dataset of which no dates are named is at fault as a whole.
    """
    said = [_leading_dates(text) for text in sample] if isinstance(sample, list) else []
    if len(breached) == 1:
        said = [one and one.model_copy(update={"dataset": breached[0]}) for one in said]
    dates = [one for one in said if one] if all(said) else []
    named = {one.dataset for one in dates}
    whole = [ALWAYS.model_copy(update={"dataset": name}) for name in breached if name not in named]
    return dates + whole


def _observed(found: Mapping[str, object]) -> str:
    numbers = [(key, found[key]) for key in ("observed", "threshold", "count") if key in found]
    parts = [f"{key} {n:g}" if isinstance(n, float) else f"{key} {n}" for key, n in numbers]
    sample = found.get("sample")
    if isinstance(sample, list) and sample:
        parts.append(f"for example {', '.join(str(item) for item in sample[:3])}")
    return rules.one_line(", ".join(parts)) or "a fault"


_LEADING = re.compile(
    r"(?:(\S+/\S+) )?(\d{4}-\d\d(?:-\d\d)?)(?: to (\d{4}-\d\d(?:-\d\d)?))?(?:: |$)"
)
"""How an offender that is about dates begins, after the name of its dataset where there are
several: `2024-01-02: 1 of 2`, `um/daily/metrics 2024-01-02 to 2024-01-05`, `2024-01: 1 of 2`."""


def _leading_dates(text: object) -> Span | None:
    """The dates an offender is about; None where it does not begin with any."""
    found = _LEADING.match(str(text))
    first, last = (_days(found[2]), _days(found[3] or found[2])) if found else (None, None)
    if not (found and first and last):
        return None
    return Span(start=first.start, end=last.end, dataset=found[1] or "")


def _days(text: object) -> Span | None:
    """One date or month as a span; None where it is neither."""
    for of in (UM_KLINES_1M, MONTHS):
        if first := of.parse_period(str(text)):
            return Span(start=first, end=of.last_day(first))
    return None
