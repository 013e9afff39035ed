"""What changed in the archive, as people ask for it: late, replaced, vanished, renamed.

Belongs here: reading the revisions so that they answer "what changed since I downloaded": files
that came when everybody's come are left out, and files that moved to another name are one event.
Does not belong here: writing revisions (`store`), all other questions (`queries`, which hands
`changes` and `renames` on: import them from there).

When a symbol is listed again, the archive moves the first contract's files to `<SYMBOL>SETTLED`
(17 such, one `..SETTLEDSETTLED`, one `_SETTLED`). Nothing says so but the files themselves: the
same dates, the same sizes, the same name but for the suffix. A file that does not match stays the
two revisions it is.
"""

import datetime as dt

from availability_pipeline.answers import (
    Connection,
    Rows,
    Texts,
    ask,
    chosen,
    require_any,
)
from availability_pipeline.arguments import DateLike, as_date, checked
from availability_pipeline.schema import settled_at

# One `vanished` goes with the one `appeared` nearest in time, should files move twice.
_MOVED = r"""
WITH gone AS (
    SELECT *, regexp_replace(symbol, '(_?SETTLED)+$', '') AS stem FROM revisions
    WHERE change = 'vanished'),
came AS (
    SELECT *, regexp_replace(symbol, '(_?SETTLED)+$', '') AS stem FROM revisions
    WHERE change = 'appeared' AND symbol LIKE '%SETTLED'),
moved AS (
    SELECT g.symbol, c.symbol AS renamed_to, g.date, g.observed_at AS gone_at,
        c.observed_at AS came_at
    FROM gone g JOIN came c
      ON c.stem = g.stem AND c.symbol <> g.symbol AND c.date = g.date AND c.new_size = g.old_size
    QUALIFY row_number() OVER (PARTITION BY g.symbol, g.date, g.observed_at
        ORDER BY abs(epoch(c.observed_at) - epoch(g.observed_at))) = 1)
"""

_RENAMES = """
SELECT symbol, renamed_to, min(date) AS first_date, max(date) AS last_date, count(*) AS files,
    min(least(gone_at, came_at)) AS observed_at
FROM moved GROUP BY symbol, renamed_to"""

# At 02:00 yesterday's files are not there and at 09:00 they are: a thousand revisions a day that
# are no news. A file is late when the archive itself published it after its date had settled.
_ROUTINE = f"""(r.change = 'appeared' AND r.new_last_modified < {settled_at("r.date")})"""

_CHANGES = f"""
SELECT observed_at, change, symbol, date, date AS last_date, 1::BIGINT AS files,
    NULL AS renamed_to, old_size, new_size, old_last_modified, new_last_modified
FROM revisions r
WHERE NOT {_ROUTINE} AND NOT EXISTS (FROM moved m WHERE m.date = r.date AND (
    r.change = 'vanished' AND m.symbol = r.symbol AND m.gone_at = r.observed_at
    OR r.change = 'appeared' AND m.renamed_to = r.symbol AND m.came_at = r.observed_at))
UNION ALL
SELECT observed_at, 'renamed', symbol, first_date, last_date, files, renamed_to,
    NULL, NULL, NULL, NULL
FROM ({_RENAMES})"""  # noqa: S608 - our own text


@checked()
def renames(con: Connection) -> Rows:
    """Each settled rename as one event, oldest first.

    Returns:
        symbol, renamed_to, first_date and last_date of the files that moved, files (how many),
        observed_at (aware, UTC; when it was first seen). Several looks make one event: the
        look-back sees the last 20 dates move, the next reconcile all others.
    """
    return ask(con, f"{_MOVED} {_RENAMES} ORDER BY observed_at, symbol")


@checked()
def changes(
    con: Connection,
    since: DateLike | None = None,
    *,
    symbol: str | None = None,
    quote_asset: Texts = None,
    contract_type: Texts = None,
) -> Rows:
    """What changed after a first look and is news, oldest first; each rename is one row.

    Left out are files that appeared within the settling time of their date, as nearly all do on
    the morning after; a note counts them, and `queries.revisions` has every one.

    Returns:
        observed_at (aware, UTC), change (`appeared`, `replaced`, `vanished`, `renamed`), symbol,
        date, last_date and files (of a rename; else the date itself and 1), renamed_to, old_size
        and new_size (bytes), old_last_modified and new_last_modified (aware, UTC).

    Raises:
        UnknownSymbolError: `symbol` is not recorded.
        NotProbedError: no date at all was looked at.
        QueryError: no recorded symbol has that quote asset or contract type.
    """
    condition, args, notes = chosen(con, symbol, quote_asset, contract_type)
    args["since"] = as_date(since) if since is not None else dt.date(1970, 1, 1)
    where = f"WHERE observed_at >= $since{condition}"
    found = ask(
        con,
        f"{_MOVED} FROM ({_CHANGES}) {where} ORDER BY observed_at, symbol, date",
        args,
    )
    [(routine,)] = ask(
        con,
        f"SELECT count(*) FROM revisions r {where} AND {_ROUTINE}",  # noqa: S608
        args,
    ).rows
    if routine:
        notes = (*notes, f"{routine:,} files that came in the usual time are left out")
    elif not found.rows:
        require_any(con)
    return Rows(found.columns, found.rows, notes)
