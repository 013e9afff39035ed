"""Mutation test: ten rules and more are broken one at a time, and the tests of each must notice.

    python -m benchmarks.mutants                 # all of them, some minutes
    python -m benchmarks.mutants outbox hole     # the rules named so

Of coverage this shows the other half: not that a line was run, but that somebody minds what it
does. The checkout is copied; in the copy one text is replaced, and the tests named for its rule
run until one fails. First they run on the copy as it is, or a failure would prove nothing.

Not mutmut or cosmic-ray: both change Python's operators and constants, everywhere in a file, for
hours. Of what is changed here, half stands inside the text of SQL statements and regular
expressions, which they leave alone, and each change says which rule it breaks.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
PACKAGE = "availability_pipeline"
TESTS = f"{PACKAGE}_tests"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, the file it stands in, the changes that break it, and the tests that must notice.

    Attributes:
        changes: the text that stands there once -> what is put in its place.
        tests: files, or single tests of one, below the folder of the tests.
    """

    name: str
    file: str
    changes: dict[str, str]
    tests: tuple[str, ...]


RULES = (
    Rule(
        "what a status is", "record/status.py",
        {
            "WHEN {PROBED_AT} < {settled}": "WHEN {PROBED_AT} <= {settled}",
            "ELSE 'absent' END": "ELSE 'pending' END",
            " OR p.probed_at >= s.first_seen": "",
        },
        ("record/test_write.py", "queries/test_queries.py"),
    ),
    Rule(
        "what a hole is", "record/status.py",
        {
            "b.n - a.n + 1 > w.days_available": "b.n - a.n > w.days_available",
            " AND {PROBED_AT} >= p.settled_at": "",
            "WHERE {PROBED} AND": "WHERE",
        },
        ("record/test_derived.py", "quality/test_checks.py"),
    ),
    Rule(
        "settling time", "record/status.py",
        {
            "{date}::TIMESTAMP + INTERVAL 1 DAY": "{date}::TIMESTAMP",
            "probed_at >= {settled} AS settled": "probed_at > {settled} AS settled",
        },
        ("record/test_write.py", "record/test_derived.py", "quality/test_checks.py"),
    ),
    Rule(
        "expected", "record/derived.py",
        {
            " AND state <> 'live')": ")",
            """{t.after("last_available")}, -1 FROM {t.l""": "last_available, -1 FROM {t.l",
        },
        ("record/test_derived.py",),
    ),
    Rule(
        "what an outage is", "record/derived.py",
        {
            "OUTAGE_SHARE = 0.25": "OUTAGE_SHARE = 0.26",
            "OUTAGE_SYMBOLS = 3": "OUTAGE_SYMBOLS = 2",
        },
        ("record/test_derived.py", "quality/test_checks.py"),
    ),
    Rule(
        "the SETTLED grammar", "archive/datasets.py",
        {
            '_SETTLED = "_?SETTLED"': '_SETTLED = "SETTLED"',
            're.sub(f"({_SETTLED})+$"': 're.sub(f"({_SETTLED})$"',
            "'({_SETTLED})+$', ''": "'({_SETTLED})$', ''",
            're.sub(f"{_SETTLED}$"': 're.sub(f"({_SETTLED})+$"',
        },
        ("archive/test_datasets.py", "queries/test_revisions.py", "queries/test_queries.py"),
    ),
    Rule(
        "refuse_shrunken's share", "record/write.py",
        {
            "listed < share * recorded": "listed <= share * recorded",
            "recorded >= least and": "recorded > least and",
        },
        ("record/test_write.py",),
    ),
    Rule(
        "refuse_past", "record/write.py",
        {
            "last is not None and last > now": "last is not None and last >= now",
            "(SELECT max(probed_at) FROM {t.probes}\n": "(SELECT min(probed_at) FROM {t.probes}\n",
            "(SELECT max(listed_at)": "(SELECT min(listed_at)",
        },
        ("record/test_write.py",),
    ),
    Rule(
        "what a probe without ended symbols says", "record/status.py",
        {
            "p.probed_at < s.left_out_at": "p.probed_at <= s.left_out_at",
            "coalesce(p.replaced_at >= s.left_out_at, true)": "p.replaced_at IS NULL",
            "WHEN s.left_out_at IS NULL THEN p.replaced_at IS NULL": "WHEN s.left_out_at IS NULL "
            "THEN true",
        },
        ("record/test_left_out.py",),
    ),
    Rule(
        "who is left out", "record/derived.py",
        {
            "WHERE {delisted(t)} AND whole_at IS NOT NULL AND": "WHERE {delisted(t)} AND",
            "WHERE {delisted(t)} AND whole_at": "WHERE whole_at",
            "LEFT_OUT_AFTER_DAYS = 30": "LEFT_OUT_AFTER_DAYS = 29",
        },
        ("record/test_left_out.py",),
    ),
    Rule(
        "since when it was left out, as of a moment", "record/derived.py",
        {
            "ON l.probed_at >= o.since": "ON true",
            "AND symbol IS NULL AND NOT left_out)": "AND symbol IS NULL AND left_out)",
            "(o.until IS NULL OR o.until > $at)": "true",
            "ON probed_at < left_out_at": "ON probed_at <= left_out_at",
        },
        ("record/test_left_out.py",),
    ),
    Rule(
        "a listing without ended symbols", "record/write.py",
        {
            "({range_before}){_listed_only(con)}": "({range_before})",
            '{_listed_only(con, "d.symbol")}': "",
            "s.left_out_at > probes.probed_at": "s.left_out_at > $at",
            "                AND symbol NOT IN (SELECT symbol FROM unlisted))": ")",
            "whole_at IS NOT NULL AND left_out_at IS NULL\n": "whole_at IS NOT NULL\n",
            "if listed or name in leave_out": "if name",
            "first and newest is not None and newest >= now": "False",
        },
        ("record/test_left_out.py",),
    ),
    Rule(
        "which of several datasets decides", "quality/rules.py",
        {
            "return _RANKS[one.outcome], -distance": "return 0, -distance",
            "-distance if low_is_bad else distance": "distance",
            "if v.outcome == worst.outcome and not v.passed": "if not v.passed",
            "chosen = sorted(\n        (n, order)": "chosen = list(\n        (n, order)",
        },
        ("quality/test_rules.py",),
    ),
    Rule(
        "when a month is due", "quality/rules.py",
        {
            "dataset.shift(dataset.period_of(due), -1) if": "dataset.shift("
            "dataset.period_of(due + dt.timedelta(1)), -1) if",
            "+ (24 * 60 if dataset.monthly else 0)": "",
            "if dataset.last and date > dataset.last:": "if dataset.last and date >= dataset.last:",
        },
        ("quality/test_rules.py",),
    ),
    Rule(
        "where a dataset stopped, and which are judged", "quality/checks.py",
        {
            "min(due, dataset.last or due)": "due",
            "AND s.date <= $last": "AND $last IS NOT NULL",
            "return recorded or dataset in entry.datasets": "return dataset in entry.datasets",
            "if each not in configured": "if each in configured",
            "dataset.shift(settling, -1)": "dataset.shift(settling, 2)",
            "(last - first).days": "(last - first).days // 2",
        },
        ("quality/test_datasets.py", "quality/test_checks.py"),
    ),
    Rule(
        "what is news of a check of datasets", "alerts/rules.py",
        {
            'of_it = self.dataset in ("", other.dataset)': "of_it = True",
            'if t.span.dataset in ("", *datasets)': "if True",
            "if one.dataset in (\"\", failed.dataset) or not failed.dataset": "if True",
        },
        ("alerts/test_rules.py",),
    ),
    Rule(
        "completeness with few symbols", "quality/rules.py",
        {
            "if date.missing < 2:": "if date.missing < 1:",
            "date.surely_missing >= 2 and": "date.surely_missing >= 1 and",
            "date.available < date.due / 2": "date.available < date.due / 3",
        },
        ("quality/test_rules.py", "quality/test_checks.py"),
    ),
    Rule(
        "a run's failure reason", "orchestration/instance/run_log.py",
        {
            "(error.cause or error).message": "error.message",
            "next(failures, None)": "list(failures)[-1]",
        },
        ("orchestration/test_logs.py", "orchestration/test_history.py",
         "orchestration/test_sensors.py"),
    ),
    Rule(
        "the outbox's order per target", "alerts/outbox.py",
        {
            "if key not in resting)": ")",
            "[*waiting, *new] if q.to": "[*new, *waiting] if q.to",
        },
        ("alerts/test_rules.py",),
    ),
    Rule(
        "the outbox's order in a delivery", "alerts/delivery.py",
        {"usable -= set(calls.values()) - took": "usable -= set()"},
        ("alerts/test_delivery.py",),
    ),
    Rule(
        "a span of dates", "dates.py",
        {
            "merged[-1][1].toordinal() + 1": "merged[-1][1].toordinal()",
            "max(merged[-1][1], end)": "end",
        },
        ("test_dates.py", "quality/test_rules.py"),
    ),
    Rule(
        "file locks", "files.py",
        {
            "fcntl.LOCK_SH if shared else fcntl.LOCK_EX": "fcntl.LOCK_SH",
            "flags |= os.O_NOFOLLOW | ": "flags |= ",
        },
        ("test_files.py", "copies/test_backup.py"),
    ),
    Rule(
        "the Origin allow-list", "orchestration/instance/webserver.py",
        {
            "not _is_loopback(url.hostname) and _named(url, hosts)": "_is_loopback(url.hostname)",
            "place.lower().removesuffix(default) ==": 'place.lower().partition(":")[0] ==',
            'url.scheme not in ("http", "https") or ': "",
        },
        ("orchestration/test_webserver.py",),
    ),
    Rule(
        "retention of backups", "copies/backup.py",
        {
            " or time == newest_first[-1]": "",
            "set(newest_first[:1])": "set()",
        },
        ("copies/test_retention.py",),
    ),
    Rule(
        "retention of runs", "orchestration/instance/retention.py",
        {
            " and run.run_id not in keep": "",
            "run.is_finished and ": "",
        },
        ("orchestration/test_history.py",),
    ),
)  # fmt: skip


def broken(text: str, old: str, new: str) -> str:
    """The text with the change.

    Raises:
        ValueError: what is to be changed does not stand there exactly once.
    """
    if text.count(old) != 1:
        raise ValueError(f"{old!r} stands there {text.count(old)} times; correct RULES")
    return text.replace(old, new)


def copied(to: Path) -> Path:
    """The checkout's files, as they are now, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    return to


def first_failure(copy: Path, tests: tuple[str, ...]) -> str | None:
    """The first of the tests that fails in the copy; None if none does.

    Raises:
        RuntimeError: they could not be run.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "--timeout", "600",
         "-p", "no:cacheprovider", *(f"{TESTS}/{test}" for test in tests)],
        cwd=copy, capture_output=True, text=True, check=False,
        # The copy before the installed checkout, in child processes too. No bytecode: a change of
        # the same length within a second would not be seen.
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    failed = re.search(rf"^FAILED {TESTS}/(\S+?)(\[| - |$)", done.stdout, re.MULTILINE)
    if done.returncode == 0:
        return None
    if done.returncode != 1 or failed is None:
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return failed[1]


def main() -> int:
    """Print the table; 1 if a change was not noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only rules whose name holds one of these")
    words = parser.parse_args().words
    rules = [r for r in RULES if not words or any(word in r.name for word in words)]
    table = Table("rule", "change", "tests", "noticed by")
    survived = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = copied(Path(folder))
        every = tuple(dict.fromkeys(test for rule in rules for test in rule.tests))
        if failed := first_failure(copy, every):
            sys.exit(f"{failed} fails without any change: nothing can be told from it")
        for rule in rules:
            path = copy / PACKAGE / rule.file
            whole = path.read_text(encoding="utf-8")
            for old, new in rule.changes.items():
                path.write_text(broken(whole, old, new), encoding="utf-8")
                test = first_failure(copy, rule.tests)
                survived += test is None
                said = test.replace("::", "::\n") if test else "SURVIVED"
                row = (rule.name, f"- {old}\n+ {new}", "\n".join(rule.tests), said)
                print(f"{rule.name}: {old!r} -> {new!r}: {test or 'SURVIVED'}", flush=True)
                table.add_row(*row, end_section=True)
            path.write_text(whole, encoding="utf-8")
    Console(width=None if Console().is_terminal else 160, markup=False).print(table)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
