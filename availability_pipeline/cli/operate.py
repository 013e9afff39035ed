"""`status` and `slo`: what is asked of the record and of Dagster's history, and how it is shown."""

import datetime as dt
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from availability_pipeline import PROGRAM, logs, queries, settings
from availability_pipeline.archive import datasets
from availability_pipeline.archive.datasets import CATALOGUE, Dataset
from availability_pipeline.cli._options import datasets_option
from availability_pipeline.cli._output import count, one_line_errors, print_json, same_record, say
from availability_pipeline.cli.acknowledge import acknowledge, acknowledged, forget
from availability_pipeline.dates import today_utc
from availability_pipeline.errors import MissingDatabaseError, StoreError
from availability_pipeline.masking import mask
from availability_pipeline.quality import checks, rules
from availability_pipeline.quality.rules import Verdict
from availability_pipeline.queries.answers import require_any
from availability_pipeline.record import connection, followed
from availability_pipeline.record.status import recorded_datasets, scope

if TYPE_CHECKING:
    from availability_pipeline.orchestration.launch import History

Row = TypeVar("Row")


def shown(name: str, verdict: Verdict) -> dict[str, Any]:
    """A verdict as fields: `outcome` is ok, warn, breach or unknown."""
    recovery = "" if verdict.passed else same_record(verdict.recovery)
    return {"name": name, "outcome": verdict.outcome, **asdict(verdict), "recovery": recovery}


def print_status(
    answer: Mapping[str, Any], verdicts: Mapping[str, Verdict], now: dt.datetime
) -> None:
    """The answer of `status` as people read it."""
    lines = [("Runs", _runs_text(answer, now))]
    several = answer.get("datasets", ())
    if len(several) > 1:
        lines.append(("Covers", count(len(several), "dataset")))
    elif several:
        lines += [("Covers", _covers_text(several[0])), ("", _holds_text(several[0]))]
    lines += [("Database", answer["database"])]
    if copy := answer.get("copy_of"):
        lines += [("Copy of", _copy_text(copy))]
    lines += [("Log", answer["log"])]
    for label, text in lines:
        say(f"{label:<10}{text}", 10)
    if len(several) > 1:
        _section("Datasets", several, _dataset_line)
    if answer["history"]:
        _section("Schedules", answer["schedules"], _schedule_line)
        _section("Last runs", answer["runs"], _run_line)
    if answer["errors"]:
        _section("Last errors in the log, of seven days", answer["errors"], mask)
    if verdicts:
        click.echo("\nService levels")
        say_verdicts(verdicts)
    click.echo()
    say(f"Next      {answer['next']}", 10)


def _covers_text(one: Mapping[str, Any]) -> str:
    dataset = Dataset.parse(one["dataset"])
    if not one["dates"]:
        return f"nothing yet: no {_unit(dataset)} was probed"
    first, last, settled = (
        one[key] and dataset.text(one[key]) for key in ("first_date", "last_date", "settled_to")
    )
    said = f"settled up to {settled}" if settled else "none of them settled yet"
    return f"{first} to {last}, {said}"


def _holds_text(one: Mapping[str, Any]) -> str:
    unknown = count(one["unknown_dates"], _unit(Dataset.parse(one["dataset"])))
    return (
        f"{one['symbols']:,} symbols, {one['available']:,} files; "
        f"{one['pending']:,} pending, {count(one['holes'], 'hole')}, {unknown} unknown"
    )


def _copy_text(copy: Mapping[str, Any]) -> str:
    probed = f"{copy['last_probe']:%Y-%m-%d %H:%M} UTC" if copy["last_probe"] else "none"
    return (
        f"{mask(copy['url'])}, published {copy['published_at']:%Y-%m-%d %H:%M} UTC, last probe "
        f"{probed}; followed {copy['followed_at']:%Y-%m-%d %H:%M} UTC"
    )


def _dataset_line(one: Mapping[str, Any]) -> str:
    kept = "" if one["configured"] else "; no longer configured: kept, not judged"
    holds = f"; {_holds_text(one)}" if one["dates"] else ""
    return f"{one['dataset']:<26} {_covers_text(one)}{holds}{kept}"


def _unit(dataset: Dataset) -> str:
    return "month" if dataset.monthly else "date"


def _runs_text(answer: Mapping[str, Any], now: dt.datetime) -> str:
    if not answer["history"]:
        return "no, it never ran here"
    daemon = answer["daemon"]
    last = daemon["last_heartbeat"]
    if last is None:
        return "no: the daemon has never been started; runs were started by hand"
    ago = int((now - last).total_seconds())
    text = f"{ago} s ago" if ago < 120 else f"at {last:%Y-%m-%d %H:%M} UTC"
    overdue = answer.get("overdue", ()) if daemon["running"] else ()
    well = daemon["running"] and not overdue
    says = f"{'yes' if well else 'no'}: the daemon's last sign of life was {text}"
    but = (f"but {line}" for line in overdue)
    return "; ".join([says, *but, *(mask(error) for error in daemon["errors"])])


def _section(title: str, rows: Sequence[Row], line: Callable[[Row], str]) -> None:
    click.echo(f"\n{title}")
    for row in rows:
        say(f"  {line(row)}", 4)
    if not rows:
        click.echo("  none")


def _schedule_line(row: dict[str, Any]) -> str:
    last = "never"
    if row["last_tick"]:
        last = f"{row['last_tick']:%Y-%m-%d %H:%M} {row['last_outcome']}"
    following = f"{row['next_tick']:%Y-%m-%d %H:%M}" if row["next_tick"] else "-"
    error = f"  {mask(row['error'])}" if row["error"] else ""
    switch = "on " if row["on"] else "off"
    return f"{row['name']:<26} {switch} {last:<24} next {following}{error}"


def _run_line(row: dict[str, Any]) -> str:
    took = f"{row['seconds']:,.0f} s" if row["seconds"] is not None else ""
    error = f"  {mask(row['error'])}" if row["error"] else ""
    return (
        f"{row['launched_at']:%Y-%m-%d %H:%M}  {row['job']:<18} by {row['launched_by']:<9} "
        f"{row['status']:<9} {took:>7}{error}"
    ).rstrip()


def say_verdicts(verdicts: Mapping[str, Verdict], *, hints: bool = False) -> None:
    """A line a verdict: outcome, name, what was found; with `hints` what to do below it."""
    for name, verdict in verdicts.items():
        some = [] if verdict.passed else list(verdict.sample[:3])
        if not verdict.passed and verdict.count > len(some):
            some.append(f"{verdict.count} in all")
        named, note = "; ".join(some), verdict.remarks
        said = f"{named} ({note})" if named and note else named or note
        about = rules.about_text(verdict.datasets, verdict.outcome)
        said = about + said if said else about.removesuffix(": ")
        mark = {"warn": "warning", "breach": "BREACH"}.get(verdict.outcome, verdict.outcome)
        say(f"  {mark:<8} {name:<22} {said}".rstrip(), 34)
        if hints and verdict.recovery and not verdict.passed:
            say(f"{'':11}{verdict.recovery}", 11)


START = "`make up` in the checkout, or your service"
NEVER = f"Never ran here: DAGSTER_HOME has no run history. Start it with {START}."


@click.command()
@datasets_option
@click.option("--json", "as_json", is_flag=True, help="JSON, UTF-8.")
def status(patterns: Sequence[str], as_json: bool) -> None:
    """Does it run, what is covered, and what to do next.

    Also: do the service levels hold, and which errors were logged.
    Reads only, and works while an update is writing.

    Example: binance-availability status
    """
    with one_line_errors():
        s = settings.load()
        chosen = datasets.chosen(s, patterns)
    now = dt.datetime.now(dt.UTC)
    error: StoreError | None = None
    verdicts: dict[str, Verdict] = {}
    stored: dict[Dataset, set[dt.date]] = {}
    with opened_history() as instance:
        answer: dict[str, Any] = {"database": str(s.db_path), "log": str(settings.log_path(s))}
        answer["history"] = instance is not None
        if copy := followed.read(s.db_path):
            answer["copy_of"] = copy.model_dump(include=_OF_A_COPY)
        try:
            with connection.reader(s.db, s.db_wait_seconds) as con:
                covered = _covered(con, s, chosen, all_of_them=not patterns)
                answer |= {key: covered[0][key] for key in covered[0] if key not in _ADDED}
                answer["datasets"] = covered
                verdicts = _judge_record(con, now, s, chosen)
                stored = checks.stored_dates(con)
        except MissingDatabaseError as missing:
            error = missing if instance else None
        except StoreError as broken:
            error = broken
        if instance:
            answer |= _running(instance, now, s)
            if "dates" in answer:
                verdicts |= _judge_runs(instance, stored, now, s, chosen)
    # Neither the exchange nor the mirror is asked: what says whether it runs must not wait for a
    # network. `slo` and the daily checks do.
    # Older ones are history; three are enough to see a pattern.
    errors = logs.tail_errors(settings.log_path(s), 3)
    week_ago = f"{now - dt.timedelta(7):%Y-%m-%d}"
    answer["errors"] = [line for line in errors if line >= week_ago]
    answer["slo"] = [shown(name, verdict) for name, verdict in verdicts.items()]
    step = next_step(answer, verdicts, error)
    answer["next"] = step.text
    answer["next_step"] = {"kind": step.kind, "check": step.check, "command": step.command}
    if as_json:
        print_json(answer)
    else:
        print_status(answer, verdicts, now)
    if error:
        raise click.ClickException(str(error))


_OF_A_COPY = {"url", "publication", "published_at", "last_probe", "followed_at"}

_ADDED = ("dataset", "configured")
"""What an entry of `datasets` has beside the coverage of one."""


def _covered(
    con: Any, s: settings.Settings, chosen: Sequence[Dataset], *, all_of_them: bool
) -> list[dict[str, Any]]:
    """What is covered of each chosen dataset; of all, those too that are configured no longer."""
    configured, listed = datasets.configured(s), list(chosen)
    if all_of_them:
        listed += [dataset for dataset in recorded_datasets(con) if dataset not in configured]
    return [
        {
            "dataset": str(dataset),
            "configured": dataset in configured,
            **queries.coverage(con, today_utc(), dataset),
        }
        for dataset in listed
    ]


@click.group("slo", invoke_without_command=True)
@datasets_option
@click.option(
    "--days",
    default=rules.SUCCESS_DAYS,
    show_default=True,
    type=click.IntRange(1, 366),
    help="Days over which the success rate of scheduled updates is taken.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON, UTF-8.")
@click.pass_context
def slo_command(ctx: click.Context, patterns: Sequence[str], days: int, as_json: bool) -> None:
    """Whether each service level holds; exit 1 if one does not.

    The success rate of the scheduled updates is one of them.

    Exit code 1 if one is breached, or if nothing can be measured: a missing record, or no date
    was probed. Without a run history the levels of the record alone are judged. A warning, or a
    success rate that is not known yet, is not a breach.

    Example: binance-availability slo --days 30
    """
    if ctx.invoked_subcommand is not None:
        return
    with one_line_errors():
        s = settings.load()
        chosen = datasets.chosen(s, patterns)
        now = dt.datetime.now(dt.UTC)
        with opened_history() as instance:
            with connection.reader(s.db, s.db_wait_seconds) as con:
                if not set(chosen) & set(recorded_datasets(con)):
                    require_any(con, scope(con, chosen[0]))
                verdicts = _judge_record(con, now, s, chosen)
                settled = checks.last_settled(con, s)
                stored = checks.stored_dates(con)
            if instance:
                runs = _judge_runs(instance, stored, now, s, chosen, days)
            else:
                rate = rules.update_success_rate([], now, s.slo_success_rate, days)
                runs = {"update_success_rate": rate}
            verdicts = runs | verdicts | _judge_mirror(instance, s)
            verdicts |= _judge_volume(instance, now, s, chosen)
            verdicts |= _judge_site(now, s)
            history = instance is not None
        if s.exchange_info_url and checks.exchange_dataset(s) in (None, *chosen):
            verdicts["exchange_coverage"] = checks.exchange_coverage(*settled, s)
    broken = [name for name, verdict in verdicts.items() if verdict.breached]
    rate = verdicts["update_success_rate"]
    answer: dict[str, Any] = {
        "history": history,
        "days": days,
        "success_rate": rate.observed,
        "slo": [shown(name, verdict) for name, verdict in verdicts.items()],
        "breached": broken,
    }
    if not history:
        answer["next"] = NEVER
    if as_json:
        print_json(answer)
    else:
        known = f"{rate.observed:.1%} ({rate.note})" if rate.observed is not None else rate.note
        say(f"Success rate: {known}")
        if not history:
            say(NEVER)
        click.echo()
        say_verdicts(verdicts, hints=True)
        click.echo()
        say(f"Breached: {', '.join(broken)}" if broken else "No service level is breached.")
    if broken:
        sys.exit(1)


for _command in (acknowledge, acknowledged, forget):
    slo_command.add_command(_command)


@contextmanager
def opened_history() -> "Iterator[History | None]":
    """Dagster's records in the home, for reading; None where nothing ever ran."""
    folder = settings.dagster_home()
    if folder is None or not has_history(folder):
        yield None  # without the 1.5 s of importing Dagster
        return
    with warnings.catch_warnings():
        # What Dagster calls beta is used deliberately; the user need not see it.
        warnings.simplefilter("ignore")
        from availability_pipeline.orchestration import launch

        try:
            with launch.history(folder) as instance:
                yield instance
        except launch.HistoryError as error:
            raise click.ClickException(str(error)) from None


def has_history(folder: Path) -> bool:
    """Whether anything ever ran on this home; without importing Dagster."""
    if (folder / "history" / "runs.db").exists():
        return True
    return keeps_history_elsewhere(folder)


def keeps_history_elsewhere(folder: Path) -> bool:
    """Whether `dagster.yaml` names another storage, as PostgreSQL, which only Dagster can ask."""
    config = folder / "dagster.yaml"
    return config.exists() and any(
        line.startswith("storage:") for line in config.read_text(encoding="utf-8").splitlines()
    )


def _judge_record(
    con: Any, now: dt.datetime, s: settings.Settings, chosen: Sequence[Dataset]
) -> dict[str, Verdict]:
    # All of them: `continuity` says then which are recorded and not judged.
    some = None if chosen == datasets.configured(s) else chosen
    return {
        name: checks.naming_the_file(name, check(con, now, s, some), s.db_path)
        for name, check in checks.ALL.items()
    }


def _judge_runs(
    instance: "History",
    stored: Mapping[Dataset, set[dt.date]],
    now: dt.datetime,
    s: settings.Settings,
    chosen: Sequence[Dataset],
    days: int = rules.SUCCESS_DAYS,
) -> dict[str, Verdict]:
    from availability_pipeline.orchestration import runs as health

    found = health.judge(instance, stored, now, s, days, chosen)
    return {name: checks.naming_the_file(name, each, s.db_path) for name, each in found.items()}


def _judge_mirror(instance: "History | None", s: settings.Settings) -> dict[str, Verdict]:
    """Whether the mirror is complete, where there is to be one."""
    if s.mirror_url is None:
        return {}
    from availability_pipeline.mirror import standing

    busy = False
    if instance:
        from availability_pipeline.orchestration import mirrored

        busy = mirrored.under_way(instance)
    try:
        with connection.reader(s.db, s.db_wait_seconds) as con:
            found = standing.complete(con, s, busy=busy)
    except (StoreError, queries.QueryError, settings.SettingsError) as error:
        found = rules.not_judged(str(error))
    return {checks.COMPLETE_CHECK: found}


def _judge_volume(
    instance: "History | None", now: dt.datetime, s: settings.Settings, chosen: Sequence[Dataset]
) -> dict[str, Verdict]:
    """Whether the daily volume is complete, agrees with itself and is plausible."""
    from availability_pipeline.mirror import volume_checks

    if not volume_checks.markets(s, chosen):
        return {}
    busy = False
    if instance:
        from availability_pipeline.orchestration import volumes

        busy = volumes.under_way(instance)

    def complete() -> Verdict:
        with connection.reader(s.db, s.db_wait_seconds) as con:
            return volume_checks.complete(con, s, now, busy=busy, chosen=chosen)

    def matches() -> Verdict:
        with connection.reader(s.db, s.db_wait_seconds) as con:
            return volume_checks.matches_monthly(con, s, chosen)

    return _judged(
        {
            checks.VOLUME_COMPLETE_CHECK: complete,
            checks.VOLUME_MATCHES_CHECK: matches,
            checks.VOLUME_PLAUSIBLE_CHECK: lambda: volume_checks.plausible(s, now, chosen),
        }
    )


def _judge_site(now: dt.datetime, s: settings.Settings) -> dict[str, Verdict]:
    """Whether what is published is current and whole, where something is to be."""
    if s.site_url is None:
        return {}
    from availability_pipeline.copies import standing

    def current() -> Verdict:
        with connection.reader(s.db, s.db_wait_seconds) as con:
            return standing.current(con, s, now)

    return _judged(
        {
            checks.PUBLICATION_CURRENT_CHECK: current,
            checks.PUBLICATION_WHOLE_CHECK: lambda: standing.whole(s, now),
        }
    )


def _judged(judges: Mapping[str, Callable[[], Verdict]]) -> dict[str, Verdict]:
    found = {}
    for name, judge in judges.items():
        try:
            found[name] = judge()
        except StoreError as error:
            found[name] = rules.not_judged(str(error))
    return found


def _running(instance: "History", now: dt.datetime, s: settings.Settings) -> dict[str, Any]:
    """Daemon, schedules and last runs, as they go into the answer."""
    from availability_pipeline.orchestration import processes, schedules
    from availability_pipeline.orchestration import runs as health
    from availability_pipeline.orchestration.instance import ticks

    defined = schedules.schedules(s)
    daemon = asdict(health.daemon(instance, now))
    try:
        home = settings.require_home()  # there is one, for the history has been opened
        found = processes.find(home)
        daemon["running"] &= not processes.outlived(home, daemon["last_heartbeat"])
    except processes.BackgroundError as error:
        raise click.ClickException(str(error)) from None
    alone = [processes.UNWATCHED] if found and processes.unwatched(found) else []
    return {
        "daemon": daemon,
        "overdue": alone + ticks.overdue(instance, defined, schedules.sensors(s), now),
        "schedules": [asdict(x) for x in ticks.schedules(instance, defined, now)],
        "runs": [asdict(x) for x in health.last_runs(instance)],
    }


@dataclass(frozen=True)
class Step:
    """The one thing to do next.

    Attributes:
        kind: why, in a word.
        text: why and what to do, one line.
        command: what to run, where one command does it.
        check: the breached one, where it is one.
    """

    kind: Literal[
        "record_error", "never_ran", "daemon_down", "overdue", "schedules_off", "unknown_dates",
        "breach", "last_run_failed", "follow", "nothing",
    ]  # fmt: skip
    text: str
    command: str | None = None
    check: str | None = None


def next_step(
    answer: Mapping[str, Any], verdicts: Mapping[str, Verdict], error: StoreError | None = None
) -> Step:
    """The one thing to do next: what keeps the rest from mending itself comes first."""
    if error:
        return Step("record_error", str(error))
    if copy := answer.get("copy_of"):
        # What is late or was never probed, only who publishes it can mend.
        url, path = shlex.quote(copy["url"]), shlex.quote(str(Path(answer["database"]).absolute()))
        command = f"{PROGRAM} follow {url} --to {path}"
        return Step("follow", f"This is a copy; `{command}` brings it up to date.", command)
    if not answer["history"]:
        return Step("never_ran", NEVER)
    if not answer["daemon"]["running"]:
        text = f"Nothing runs by itself: the daemon is down. Start it: {START}."
        return Step("daemon_down", text)
    if answer.get("overdue"):
        found = answer["overdue"][0]
        text = f"It does not run as it should: {found}. Stop it and start it: {START}."
        return Step("overdue", text)
    off = [s["name"] for s in answer["schedules"] if not s["on"] and not s["optional"]]
    if off:
        text = f"Switched off: {', '.join(off)}. In the UI under Automation, switch on."
        return Step("schedules_off", text)
    for one in answer.get("datasets", ()):
        if not (one["configured"] and one["unknown_dates"]):
            continue
        dataset = Dataset.parse(one["dataset"])
        if checks.in_archive(dataset, recorded=bool(one["dates"])):
            several = len([each for each in answer["datasets"] if each["configured"]]) > 1
            only = f" --dataset {dataset}" if several else ""
            command = same_record(f"`{PROGRAM} backfill{only}{_from_the_first(dataset)}`")
            unknown = count(one["unknown_dates"], _unit(dataset))
            verb = "was" if one["unknown_dates"] == 1 else "were"
            text = f"{unknown}{f' of {dataset}' if only else ''} {verb} never probed: {command}."
            return Step("unknown_dates", text, command.strip("`"))
    for name, verdict in verdicts.items():
        if verdict.breached:
            return Step("breach", same_record(f"{name}: {verdict.text}"), check=name)
    if answer["runs"] and answer["runs"][0]["status"] == "failure":
        command = same_record(f"`{PROGRAM} update manual`")
        text = "The last run failed. The next scheduled one probes its dates again; at once: "
        return Step("last_run_failed", f"{text}{command}.", command.strip("`"))
    return Step(
        "nothing",
        "Nothing: it runs, every date up to yesterday was probed, no service level is broken.",
    )


def _from_the_first(dataset: Dataset) -> str:
    """The options of a backfill of all that can have files; without them it begins later."""
    yesterday = today_utc() - dt.timedelta(1)
    end = min(yesterday, dataset.last_day(dataset.last or dataset.period_of(yesterday)))
    return f" --start {CATALOGUE[dataset.kind].first} --end {end}"
