"""The universe for a backtest: a matrix of which symbols had a file on which date.

A symbol that was delisted later is in it like every other (no survivorship bias). Cells have
three answers: true (a file), false (confirmed absence) and null (pending, or never probed).
"""

import datetime as dt
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import duckdb

from availability_pipeline import settings
from availability_pipeline.dates import AsOf, DateLike, as_range
from availability_pipeline.queries.answers import (
    Connection,
    DatasetLike,
    Filter,
    Kind,
    NotProbedError,
    QueryError,
    Rows,
    Texts,
    ask,
    checked,
    require_range_probed,
    say_unknown,
    tables,
    unknown_dates,
    with_remedy,
)
from availability_pipeline.queries.volume import Market, pair, unread_text, write_top
from availability_pipeline.record import outputs, volumes
from availability_pipeline.record.schema import where
from availability_pipeline.record.status import PROBED, Scope

if TYPE_CHECKING:
    import pandas as pd

Unknown = Literal["refuse", "mark"]

By = Literal["volume"]
"""What `top` ranks by."""


@dataclass(frozen=True)
class Universe(Rows):
    """The matrix as rows: column `date`, then one per symbol with True, False or None."""

    def kind(self, name: str) -> Kind:
        """What a column's values are."""
        return "date" if name == self.columns[0] else "truth"

    def frame(self) -> "pd.DataFrame":
        """Index `date` (datetime64[us], UTC dates), a `boolean` column a symbol (`symbol`)."""
        import numpy as np
        import pandas as pd

        shape = (len(self.rows), len(self.columns) - 1)
        # None becomes NaN.
        cells = np.array([row[1:] for row in self.rows], dtype=np.float64).reshape(shape)
        true, null = cells == 1, np.isnan(cells)
        index = pd.DatetimeIndex(self.column("date"), name="date").astype("datetime64[us]")
        columns = pd.Index(self.columns[1:], name="symbol", dtype="str")
        arrays = {
            n: pd.arrays.BooleanArray(true[:, n].copy(), null[:, n].copy()) for n in range(shape[1])
        }
        frame = pd.DataFrame(arrays, index=index)
        frame.columns = columns
        frame.attrs["notes"] = list(self.notes)
        return frame


@checked()
def universe(
    con: Connection,
    start: DateLike,
    end: DateLike,
    *,
    quote_asset: Texts = None,
    contract_type: Texts = None,
    unknown: Unknown = "refuse",
    top: int | None = None,
    by: By = "volume",  # noqa: ARG001 - there is one; `checked` refuses others
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> Universe:
    """Date x symbol membership from `start` to `end` (both included).

    One row for each date, one column for each symbol with at least one file in the range, sorted.
    A cell is True (file), False (confirmed absence) or None (pending: probed too early to say; or
    never probed for this symbol; or, with `unknown="mark"`, a date never probed at all).
    `.frame()` is a `boolean` frame with <NA>; `fillna(False)` on it decides for what is pending.

    On a relisting the archive moves the old files to `<SYMBOL>SETTLED`: before that day the
    contract is in that column, so `contract_type="perpetual"` alone leaves them out; say
    `["perpetual", "settled"]`.

    With `top`, a cell is True only where the contract's rank by volume, in its quote asset, was at
    most that on the day before: no date is judged by its own. It is None where that is not known:
    nothing was read of that day, or files it lacks may still take the place.

    Examples:
        >>> record.universe("2026-09-25", "2026-09-26", contract_type="delivery").sum().to_dict()
        {'BTCUSDT_260925': 1, 'ETHUSDT_261225': 2}

    Raises:
        NotProbedError: a date of the range was never probed, and `unknown` is "refuse".
        QueryError: no recorded symbol has that quote asset or contract type; or `top` is asked for
            what has no volume, or with `as_of`: volumes are known as they are now.
        StoreError: with `top`, the file of volumes cannot be read.
        ValueError: `end` is before `start`.
    """
    of = Filter(quote_asset, contract_type)
    with _matrix(con, tables(con, dataset, as_of), start, end, of, unknown, top) as (sql, notes):
        found = ask(con, sql)
    return Universe(found.columns, found.rows, notes)


@checked()
def write_universe(
    con: Connection,
    path: str | Path,
    start: DateLike,
    end: DateLike,
    *,
    quote_asset: Texts = None,
    contract_type: Texts = None,
    unknown: Unknown = "refuse",
    top: int | None = None,
    by: By = "volume",  # noqa: ARG001 - there is one; `checked` refuses others
    dataset: DatasetLike | None = None,
    as_of: AsOf | None = None,
) -> tuple[str, ...]:
    """Write the matrix of `universe` to a file; Parquet, or CSV by its ending `.csv`.

    Parquet columns: `date` DATE, then one nullable BOOLEAN a symbol. An earlier file is replaced
    once the new one is whole. Returns the notes.

    Raises:
        QueryError: the file cannot be written; and as `universe`.
        ProtectedFileError: it is the record, another database, or Dagster's; see `outputs`.
    """
    path = Path(path).expanduser()
    outputs.refuse_protected([path], Path(where(con)))
    form = "csv, header" if path.suffix.lower() == ".csv" else "parquet, compression zstd"
    of = Filter(quote_asset, contract_type)
    with _matrix(con, tables(con, dataset, as_of), start, end, of, unknown, top) as (sql, notes):
        try:
            with outputs.replacing(path) as part:
                con.execute(f"COPY ({sql}) TO $path (format {form})", {"path": str(part)})
        except duckdb.IOException as error:
            reason = str(error).splitlines()[0].removeprefix("IO Error: ")
            raise QueryError(f"cannot write {path}: {reason}") from None
        except OSError as error:
            raise QueryError(f"cannot write {path}: {error.strerror}") from None
    return notes


@contextmanager
def _matrix(
    con: Connection,
    t: Scope,
    start: DateLike,
    end: DateLike,
    of: Filter,
    unknown: Unknown,
    top: int | None,
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """SQL of the matrix, good inside the block, and its notes."""
    first, last = as_range(start, end)
    notes: tuple[str, ...] = ()
    if unknown == "refuse":
        require_range_probed(con, t, first, last)
    elif gaps := unknown_dates(con, t, first, last):
        notes = (with_remedy(con, t, f"{say_unknown(t, gaps, first, last)} and are null", gaps),)
    chosen = of.chosen(con, t)
    if top is not None:
        notes += _read_top(con, t, first, last, top, unknown)
    # The files' pairs are turned into columns, and the cells without one filled by their date's
    # answer: 0.7 million pairs instead of 2.6 million cells. Temporary tables live in memory, also
    # on a read-only connection.
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE universe_cells AS
        SELECT date, symbol, true AS cell FROM {t.files}
        WHERE date BETWEEN $first AND $last{chosen.where()}""",
        {"first": first, "last": last} | chosen.args,
    )
    # A date answers for its cells if its own probe was late enough and was one of every symbol.
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE universe_dates AS
        SELECT d.date, CASE WHEN settled AND NOT EXISTS (
            FROM {t.symbols} s WHERE NOT {PROBED}) THEN false END AS otherwise
        FROM (SELECT unnest($periods)::DATE AS date) d LEFT JOIN {t.all_probes} p
          ON p.date = d.date AND p.replaced_at IS NULL""",
        {"periods": t.dataset.periods(first, last)},
    )
    try:
        if not ask(con, "SELECT 1 FROM universe_cells LIMIT 1").rows:
            yield "SELECT date FROM universe_dates ORDER BY date", notes
            return
        # On the other dates each cell without a file must be confirmed by itself.
        con.execute(
            f"""INSERT INTO universe_cells SELECT d.date, d.symbol, false
            FROM {t.cells} d JOIN universe_dates u USING (date)
            WHERE u.otherwise IS NULL AND d.status = 'absent'
                AND d.symbol IN (SELECT symbol FROM universe_cells)"""
        )
        if top is not None:
            _keep_top(con, t)
            if not ask(con, "SELECT 1 FROM universe_cells LIMIT 1").rows:
                yield "SELECT date FROM universe_dates ORDER BY date", notes
                return
        con.execute(
            """CREATE OR REPLACE TEMP TABLE universe_wide AS
            PIVOT universe_cells ON symbol USING any_value(cell) GROUP BY date"""
        )
        yield (
            "SELECT * FROM universe_wide ORDER BY date"
            if top is not None
            else "SELECT d.date, coalesce(COLUMNS(w.* EXCLUDE (date)), d.otherwise) "
            "FROM universe_dates d LEFT JOIN universe_wide w USING (date) ORDER BY d.date",
            notes,
        )
    finally:
        for table in ("cells", "dates", "wide", *_OF_TOP):
            con.execute(f"DROP TABLE IF EXISTS temp.universe_{table}")


_OF_TOP = ("read", "lacking", "ranked")


def _read_top(
    con: Connection, t: Scope, first: dt.date, last: dt.date, top: int, unknown: Unknown
) -> tuple[str, ...]:
    """Have the ranks of the days before in temporary tables; returns notes on what is not known."""
    market = t.dataset.market
    if t.as_of:
        raise QueryError("volumes are known as they are now only; leave out as_of, or top")
    if t.dataset.monthly or market not in get_args(Market):
        raise QueryError(
            f"{t.dataset} cannot be ranked by daily volume; top is for daily files of "
            f"{', '.join(get_args(Market))}"
        )
    limits = settings.load()
    path = volumes.beside(Path(where(con)))
    notes: tuple[str, ...] = ()
    # Through files: an attached database would be open as long as the record, and in its way.
    with tempfile.TemporaryDirectory() as folder:
        with volumes.reader(path, limits.db_wait_seconds) as other:
            found = write_top(other, Path(folder), market, first, last, top)
            if found.unread:
                said = unread_text(other, market, found, (last - first).days + 1)
                if unknown == "refuse":
                    raise NotProbedError(said)
                notes += (f"{said}; they are null",)
        for table in _OF_TOP:
            con.execute(
                f"CREATE OR REPLACE TEMP TABLE universe_{table} AS FROM read_parquet($path)",
                {"path": str(Path(folder) / table)},
            )
    if found.lacking:
        dates = f"{found.lacking} date{'' if found.lacking == 1 else 's'}"
        notes += (
            f"before {dates} files are pending or were not read: what depends on them is null",
        )
    return notes


def _keep_top(con: Connection, t: Scope) -> None:
    """Replace the cells by those of all dates and symbols, with the ranks; without idle symbols."""
    # What a day's quote volume is in: in cm it is the base asset, and so are the ranks.
    asset = "base_asset" if t.dataset.market == "cm" else "quote_asset"
    # A row goes on to the contract's other name where its own has no file any more.
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE universe_cells AS
        WITH named AS (SELECT symbol, {pair("symbol")} AS contract, {asset} AS asset
            FROM {t.symbols} WHERE symbol IN (SELECT symbol FROM universe_cells)),
        renamed AS (SELECT r.date, r.contract, r.member FROM universe_ranked r
            ANTI JOIN {t.files} f ON f.date = r.date AND f.symbol = r.symbol),
        joined AS (
            SELECT d.date, s.symbol, coalesce(c.cell, d.otherwise) AND CASE
                WHEN u.date IS NULL THEN NULL
                WHEN r.date IS NOT NULL THEN r.member
                WHEN n.date IS NOT NULL THEN n.member
                WHEN l.date IS NULL THEN false END AS cell
            FROM universe_dates d CROSS JOIN named s
            LEFT JOIN universe_cells c ON c.date = d.date AND c.symbol = s.symbol
            LEFT JOIN universe_read u ON u.date = d.date
            LEFT JOIN universe_ranked r ON r.date = d.date AND r.symbol = s.symbol
            LEFT JOIN renamed n ON n.date = d.date AND n.contract = s.contract
            LEFT JOIN (SELECT DISTINCT date, quote_asset FROM universe_lacking) l
                ON l.date = d.date AND l.quote_asset = s.asset)
        SELECT * FROM joined SEMI JOIN (
            SELECT DISTINCT symbol FROM joined WHERE cell IS DISTINCT FROM false) USING (symbol)"""
    )
