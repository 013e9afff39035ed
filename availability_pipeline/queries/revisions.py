"""What changed in the archive: files that came late, were replaced, vanished or were renamed.

When a symbol is listed again, the archive moves the first contract's files to `<SYMBOL>SETTLED`
(17 such, one `..SETTLEDSETTLED`, one `_SETTLED`). Only the files themselves tell: the same dates,
the same sizes, the same name but for the suffix, vanished here and appeared there in the same probe
or in neighbouring ones. A file that does not match stays the two revisions it is. A name can be
settled again later: that is another event.
"""

import datetime as dt

from availability_pipeline.archive.datasets import unsettled_sql
from availability_pipeline.dates import AsOf, DateLike, as_date
from availability_pipeline.queries.answers import (
    Connection,
    DatasetLike,
    Filter,
    Rows,
    Texts,
    ask,
    checked,
    find_symbol,
    require_any,
    tables,
)
from availability_pipeline.record.status import Scope

NEIGHBOURS = dt.timedelta(8)
"""Two probes of one date lie no further apart: old dates are probed by the Sunday run. What it
finds half moved is seen whole a week later, and it completes what the look-back sees of a rename.
What lies further apart is two events."""

_APART = f"INTERVAL {NEIGHBOURS.days} DAY"


# A file goes with the one of its date and size that came at the nearest time, of these with the
# one whose name is one suffix longer; and the other way round, so that none is taken twice: with
# XSETTLED to XSETTLEDSETTLED and X to XSETTLED at once, both go one step.
def _moved(t: Scope) -> str:
    return f"""
WITH gone AS (
    SELECT *, {unsettled_sql("symbol")} AS stem FROM {t.revisions} WHERE change = 'vanished'),
came AS (
    SELECT *, {unsettled_sql("symbol")} AS stem FROM {t.revisions}
    WHERE change = 'appeared' AND stem <> symbol),
pairs AS (
    SELECT g.symbol, c.symbol AS renamed_to, g.date,
        g.observed_at AS gone_at, c.observed_at AS came_at,
        abs(epoch_us(c.observed_at) - epoch_us(g.observed_at)) AS apart,
        len(string_split(c.symbol, 'SETTLED')) - len(string_split(g.symbol, 'SETTLED')) AS steps
    FROM gone g JOIN came c
      ON c.stem = g.stem AND c.symbol <> g.symbol AND c.date = g.date AND c.new_size = g.old_size
     AND c.observed_at BETWEEN g.observed_at - {_APART} AND g.observed_at + {_APART}
    WHERE steps >= 0),
moved AS (
    SELECT *, greatest(gone_at, came_at) AS seen_at FROM pairs
    QUALIFY row_number() OVER (PARTITION BY symbol, date, gone_at
            ORDER BY apart, abs(steps - 1), came_at, renamed_to) = 1
        AND row_number() OVER (PARTITION BY renamed_to, date, came_at
            ORDER BY apart, abs(steps - 1), gone_at, symbol) = 1),
begun AS (
    SELECT *, coalesce(seen_at > lag(seen_at) OVER one_name + {_APART}, true) AS first
    FROM moved WINDOW one_name AS (PARTITION BY symbol, renamed_to ORDER BY seen_at)),
events AS (
    SELECT symbol, renamed_to, min(date) AS first_date, max(date) AS last_date,
        count(*) AS files, min(seen_at) AS observed_at, max(seen_at) AS last_seen_at
    FROM (SELECT *, sum(first::INTEGER) OVER (PARTITION BY symbol, renamed_to
            ORDER BY seen_at) AS event FROM begun)
    GROUP BY symbol, renamed_to, event),
told AS (
    SELECT 'vanished' AS change, symbol, date, gone_at AS observed_at FROM moved
    UNION ALL SELECT 'appeared', renamed_to, date, came_at FROM moved)"""


# At 02:00 yesterday's files are not there and at 09:00 they are: a thousand revisions a day that
# are not news. A file is late when the archive itself published it after its date had settled; one
# that was gone and is back is news whatever its time.
def _early(t: Scope) -> str:
    return f"(r.change = 'appeared' AND r.new_last_modified < {t.settled_at('r.date')})"


def _back(t: Scope) -> str:
    return f"""
back AS (
    SELECT r.* FROM {t.revisions} r JOIN (
        SELECT symbol, date, min(observed_at) AS gone_at FROM {t.revisions}
        WHERE change = 'vanished' GROUP BY ALL) g USING (symbol, date)
    WHERE {_early(t)} AND r.observed_at > g.gone_at)"""


def _changes(t: Scope) -> str:
    return f"""
SELECT observed_at, change, symbol, date, date AS last_date, 1::BIGINT AS files,
    NULL AS renamed_to, old_size, new_size, old_last_modified, new_last_modified,
    observed_at AS last_seen_at
FROM (FROM {t.revisions} r WHERE NOT {_early(t)} UNION ALL FROM back) r
WHERE NOT EXISTS (FROM told WHERE told.change = r.change
    AND told.symbol = r.symbol AND told.date = r.date AND told.observed_at = r.observed_at)
UNION ALL
SELECT observed_at, 'renamed', symbol, first_date, last_date, files, renamed_to,
    NULL, NULL, NULL, NULL, last_seen_at
FROM events"""


@checked()
def revisions(
    con: Connection,
    since: DateLike | None = None,
    *,
    symbol: str | None = None,
    quote_asset: Texts = None,
    contract_type: Texts = None,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> Rows:
    """Every revision of every file, oldest first; all columns of the `revisions` table.

    With those that came on the morning after, as nearly all do; `changes` has what is news.

    Examples:
        >>> record.revisions("2026-11-01", symbol="SOLUSDT")[["change", "date", "new_size"]]
             change       date  new_size
        0  replaced 2026-11-21     36457

    Raises:
        UnknownSymbolError: `symbol` is not recorded.
        NotProbedError: no date at all was probed.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    t = tables(con, dataset, as_of)
    chosen = Filter(quote_asset, contract_type, symbol).chosen(con, t)
    found = ask(
        con,
        f"""SELECT * FROM {t.revisions}
        WHERE observed_at >= $since{chosen.where()} ORDER BY observed_at, symbol, date""",
        {"since": as_date(since) if since is not None else dt.date(1970, 1, 1)} | chosen.args,
    )
    if not found.rows:
        require_any(con, t)
    return Rows(found.columns, found.rows, chosen.notes)


@checked()
def renames(
    con: Connection,
    *,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> Rows:
    """Each settled rename as one event, oldest first.

    Returns:
        symbol, renamed_to, first_date and last_date of the files that moved, files (how many),
        observed_at (aware, UTC; when it was first seen). Probes less than `NEIGHBOURS` apart make
        one event: the look-back sees the last 20 dates move, the next reconcile all others.

    Examples:
        >>> record.renames().columns.tolist()  # none was seen in the demo's record
        ['symbol', 'renamed_to', 'first_date', 'last_date', 'files', 'observed_at']
    """
    t = tables(con, dataset, as_of)
    return ask(
        con,
        f"""{_moved(t)} SELECT * EXCLUDE (last_seen_at) FROM events
        ORDER BY observed_at, symbol""",
    )


@checked()
def original_symbol(
    con: Connection,
    symbol: str | None = None,
    *,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> Rows:
    """Under which name each settled contract traded, and from when to when it has files.

    With `symbol`, every contract that traded under that name, or under the name that it had: the
    present one too.

    Returns:
        symbol, original_symbol, first and last (of its files; None without any), observed_at
        (aware, UTC; when its files were seen to move, None where that was before the first probe).

    Examples:
        >>> record.original_symbol()[["symbol", "original_symbol", "first", "last"]]
                     symbol original_symbol      first       last
        0  AERGOUSDTSETTLED       AERGOUSDT 2026-07-30 2026-09-06

    Raises:
        UnknownSymbolError: `symbol` is not recorded.
    """
    t = tables(con, dataset, as_of)
    notes: tuple[str, ...] = ()
    condition, args = "original_symbol <> symbol", dict[str, object]()
    if symbol is not None:
        found, notes = find_symbol(con, t, symbol)
        condition, args = f"original_symbol = {unsettled_sql('$symbol')}", {"symbol": found}
    rows = ask(
        con,
        f"""{_moved(t)} SELECT symbol, {unsettled_sql("symbol")} AS original_symbol,
            first_available AS first, last_available AS last,
            (SELECT max(observed_at) FROM events e WHERE e.renamed_to = s.symbol) AS observed_at
        FROM {t.listings} s WHERE {condition} ORDER BY original_symbol, first, symbol""",
        args,
    )
    return Rows(rows.columns, rows.rows, notes)


@checked()
def changes(
    con: Connection,
    since: DateLike | None = None,
    *,
    symbol: str | None = None,
    quote_asset: Texts = None,
    contract_type: Texts = None,
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> Rows:
    """What changed after a first probe and is news, oldest first; each rename is one row.

    Left out are files that appeared within the settling time of their date, as nearly all do on
    the morning after; a note counts them, and `queries.revisions` has every one. A file that had
    vanished and is back is never left out. A rename is found by its old and its new name, and
    from `since` on when any of its files was first seen to move then.

    Returns:
        observed_at (aware, UTC), change (`appeared`, `replaced`, `vanished`, `renamed`), symbol,
        date, last_date and files (of a rename; else the date itself and 1), renamed_to, old_size
        and new_size (bytes), old_last_modified and new_last_modified (aware, UTC).

    Examples:
        >>> record.changes("2026-11-01")[["change", "symbol", "date"]]
             change    symbol       date
        0  appeared  LINKUSDT 2026-11-17
        1  replaced   SOLUSDT 2026-11-21

    Raises:
        UnknownSymbolError: `symbol` is not recorded.
        NotProbedError: no date at all was probed.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    t = tables(con, dataset, as_of)
    chosen = Filter(quote_asset, contract_type, symbol).chosen(con, t)
    args = {"since": as_date(since) if since is not None else dt.date(1970, 1, 1)} | chosen.args
    notes = chosen.notes
    # A rename concerns both its names, and is news while files of it are still seen to move.
    found = ask(
        con,
        f"""{_moved(t)}, {_back(t)} SELECT * EXCLUDE (last_seen_at) FROM ({_changes(t)})
        WHERE last_seen_at >= $since
            AND (true{chosen.where()} OR true{chosen.where("renamed_to")})
        ORDER BY observed_at, symbol, date""",
        args,
    )
    chosen_ones = f"observed_at >= $since{chosen.where()}"
    [(routine,)] = ask(
        con,
        f"""WITH {_back(t)} SELECT count(*) - (SELECT count(*) FROM back WHERE {chosen_ones})
        FROM {t.revisions} r WHERE {chosen_ones} AND {_early(t)}""",
        args,
    ).rows
    if routine:
        notes = (*notes, f"{routine:,} files that came in the usual time are left out")
    elif not found.rows:
        require_any(con, t)
    return Rows(found.columns, found.rows, notes)
