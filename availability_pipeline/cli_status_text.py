"""How `status` and `slo` look on a terminal.

Belongs here: answers to lines of text. Does not belong here: what the answers are (`cli_operate`).
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from availability_pipeline.cli_output import count
from availability_pipeline.masking import mask, printable
from availability_pipeline.verdicts import Verdict

Row = TypeVar("Row")


def shown(name: str, verdict: Verdict) -> dict[str, Any]:
    """A verdict as fields: `outcome` is ok, warn, breach or unknown."""
    return {
        "name": name,
        "outcome": verdict.outcome,
        "passed": verdict.passed,
        "severity": verdict.severity,
        "observed": verdict.observed,
        "threshold": verdict.threshold,
        "count": verdict.count,
        "sample": list(verdict.sample),
        "sample_truncated": verdict.sample_truncated,
        "offenders": [dict(one) for one in verdict.offenders],
        "acknowledged": verdict.acknowledged,
        "note": verdict.note,
        "recovery": "" if verdict.passed else verdict.recovery,
    }


def print_status(answer: Mapping[str, Any], now: dt.datetime) -> None:
    """The answer of `status` as people read it."""
    lines = [("Runs", _runs_text(answer, now))]
    if "dates" in answer:
        lines += [
            ("Covers", _covers_text(answer)),
            ("", f"{answer['symbols']:,} symbols, {answer['available']:,} files; "
                 f"{answer['pending']:,} pending, {count(answer['holes'], 'hole')}, "
                 f"{count(answer['unknown_dates'], 'date')} unknown"),
        ]  # fmt: skip
    lines += [("Database", answer["database"]), ("Log", answer["log"])]
    for label, text in lines:
        click.echo(printable(f"{label:<10}{text}"))
    if answer["history"]:
        _section("Schedules", answer["schedules"], _schedule_line)
        _section("Last runs", answer["runs"], _run_line)
    if answer["errors"]:
        _section("Last errors in the log, of seven days", answer["errors"], mask)
    if answer["slo"]:
        click.echo("\nService levels")
        click.echo("\n".join(map(printable, verdict_lines(answer["slo"]))))
    click.echo(f"\nNext      {printable(answer['next'])}")


def _covers_text(answer: Mapping[str, Any]) -> str:
    if not answer["dates"]:
        return "nothing yet: no date was probed"
    settled = answer["settled_to"]
    said = f"settled up to {settled}" if settled else "none of them settled yet"
    return f"{answer['first_date']} to {answer['last_date']}, {said}"


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
        click.echo(f"  {printable(line(row))}")
    if not rows:
        click.echo("  none")


def _schedule_line(row: dict[str, Any]) -> str:
    last = "never"
    if row["last_tick"]:
        last = f"{row['last_tick']:%Y-%m-%d %H:%M} {row['last_outcome']}"
    following = f"{row['next_tick']:%Y-%m-%d %H:%M}" if row["next_tick"] else "-"
    error = f"  {mask(row['error'])}" if row["error"] else ""
    switch = "on " if row["on"] else "off"
    return f"{row['name']:<27} {switch}  last {last:<24}  next {following}{error}"


def _run_line(row: dict[str, Any]) -> str:
    took = f"{row['seconds']:,.0f} s" if row["seconds"] is not None else ""
    error = f"  {mask(row['error'])}" if row["error"] else ""
    return (
        f"{row['launched_at']:%Y-%m-%d %H:%M}  {row['job']:<18} by {row['launched_by']:<9} "
        f"{row['status']:<9} {took:>7}{error}"
    ).rstrip()


def verdict_lines(rows: Sequence[dict[str, Any]], *, hints: bool = False) -> list[str]:
    """A line a verdict: outcome, name, what was found; with `hints` what to do below it."""
    lines = []
    for row in rows:
        named = "; ".join(row["sample"][:3])
        if row["count"] > len(row["sample"][:3]):
            named += f"; {row['count']} in all" if named else f"{row['count']} in all"
        if row["passed"]:
            named = ""
        accepted = f"{row['acknowledged']} acknowledged" if row["acknowledged"] else ""
        note = ", ".join(part for part in (row["note"], accepted) if part)
        said = f"{named} ({note})" if named and note else named or note
        mark = {"warn": "warning", "breach": "BREACH"}.get(row["outcome"], row["outcome"])
        lines.append(f"  {mark:<8} {row['name']:<22} {said}".rstrip())
        if hints and row["recovery"]:
            lines.append(f"{'':34}{row['recovery']}")
    return lines
