"""What a status is, what a hole is, and the tables of one dataset as all SQL reads them.

The record is sparse: only files have rows. Which other cells were probed follows from the probes
and the symbols, and is said here once, in `Scope.cells`:

- A known symbol was probed on every probed date, for a newly seen one is listed over all of them
  at once. Where that is still missing (a database of an earlier version, two writers at once) it
  is not whole (`whole_at`): it was probed on the dates probed since it was first seen, and is
  *unknown* on the others.
- Its last probe of a date is the later one of the date's probe and its own over all dates
  (`listed_at`).
- A symbol that ended long ago is left out of most probes. From the first that left it out on
  (`left_out_at`) none says anything of it, until it is listed again, over all dates: its cells are
  as the probes before saw them. Of a date that was probed again since, such an earlier probe is
  kept beside the last one (`replaced_at`); a date that was probed only since is *unknown* for it.
"""

import datetime as dt
from dataclasses import dataclass

import duckdb

from availability_pipeline.archive.datasets import CATALOGUE, FIRST_DATE, UM_KLINES_1M, Dataset

PROBED = """((s.whole_at IS NOT NULL OR p.probed_at >= s.first_seen)
    AND CASE WHEN s.left_out_at IS NULL THEN p.replaced_at IS NULL
        ELSE p.probed_at < s.left_out_at
            AND coalesce(p.replaced_at >= s.left_out_at, true) END)"""
"""SQL condition: the symbol `s` was probed on the date of the probe `p`, and there not since.

Of all probes of a date (`Scope.all_probes`) one at most is that. A CASE, for DuckDB would make a
join of its own kind of bare comparisons, which is slower for so few rows.
"""

PROBED_AT = "greatest(p.probed_at, s.listed_at)"
"""SQL of when that was last; `greatest` passes over NULL."""


def status_sql(file: str, settled: str) -> str:
    """SQL of a cell's status: `available`, `pending` or `absent`; what was not probed is `unknown`.

    Args:
        file: SQL of whether there is a file.
        settled: SQL of when the date of the probe `p` settles.
    """
    return f"""CASE WHEN {file} THEN 'available'
        WHEN {PROBED_AT} < {settled} THEN 'pending' ELSE 'absent' END"""


def settled_at(date: str, settle_days: int | str, frequency: str = "'daily'") -> str:
    """SQL: the end of a date or month plus the settling time, as an instant.

    `date`, `settle_days` and `frequency` are SQL; the session's time zone does not matter.
    """
    return f"""timezone('UTC', CASE {frequency} WHEN 'monthly' THEN {date}::TIMESTAMP
        + INTERVAL 1 MONTH ELSE {date}::TIMESTAMP + INTERVAL 1 DAY END + to_days({settle_days}))"""


@dataclass(frozen=True, slots=True)
class Scope:
    """One dataset of an open record: what to put after FROM, each in parentheses.

    Attributes:
        dataset: which.
        id: its number in the tables.
        settle_days: days after the end of a date from which an absence counts as confirmed.
        files: date, symbol, file_size_bytes, last_modified, etag, recorded_at.
        probes: each date's last probe: date, probed_at, symbols, available, run_id, and settled_at
            (the end of the date's settling time) and settled (it was probed after that).
        all_probes: the same and replaced_at, with earlier ones for symbols that were left out
            since: what `PROBED` chooses from.
        symbols: symbol, contract_type, base_asset, quote_asset, first_seen, last_seen, whole_at,
            listed_at, left_out_at.
        revisions: date, symbol, observed_at, change, and size, time and ETag before and after.
        acknowledgements: date, symbol, reason, acknowledged_at.
        listings: the columns of `symbol_spans`, without the dataset.
        summary: the columns of `daily_summary`, likewise.
        as_of: the moment whose answers these tables give; None for now.
        ended_before: a symbol whose last file is before this date publishes no more, unless it is
            in an outage: the first of the last three settled dates that were published; None
            while there are fewer.
    """

    dataset: Dataset
    id: int
    settle_days: int
    files: str
    probes: str
    all_probes: str
    symbols: str
    revisions: str
    acknowledgements: str
    listings: str
    summary: str
    ended_before: dt.date | None
    as_of: dt.datetime | None = None

    @property
    def cells(self) -> str:
        """Every probed cell: date, symbol, status, file_size_bytes, last_modified."""
        return f"""(SELECT p.date, s.symbol,
                {status_sql("f.symbol IS NOT NULL", "p.settled_at")} AS status,
                f.file_size_bytes, f.last_modified
            FROM {self.all_probes} p JOIN {self.symbols} s ON {PROBED}
            LEFT JOIN {self.files} f ON f.date = p.date AND f.symbol = s.symbol)"""

    def settled_at(self, date: str) -> str:
        """SQL: the end of the settling time of a date."""
        return settled_at(date, self.settle_days, f"'{self.dataset.frequency}'")

    @property
    def first_period(self) -> dt.date:
        """The first period that can have a file, as the catalogue says."""
        entry = CATALOGUE.get(self.dataset.kind)
        return self.dataset.period_of(entry.first if entry else FIRST_DATE)

    def after(self, period: str, by: int = 1) -> str:
        """SQL: the period so many after a period; before it where `by` is negative."""
        if self.dataset.monthly:
            return f"({period} + to_months({by}))::DATE"
        return f"({period} + ({by}))"

    def distance(self, start: str, end: str) -> str:
        """SQL: how many periods lie between two of them."""
        if self.dataset.monthly:
            return f"date_diff('month', {start}, {end})"
        return f"({end} - {start})"

    def holes(self, windows: str) -> str:
        """SQL of all holes, as symbol and date: confirmed absences between first and last file.

        Args:
            windows: what to put after FROM: symbol, first_available, last_available and
                days_available of the symbols in question.
        """
        # Nearly no symbol has any: those whose files are fewer than the probed dates between the
        # first and the last are found from counts, and only their cells are made.
        return f"""(WITH probed AS MATERIALIZED (
                SELECT date, row_number() OVER (ORDER BY date) AS n FROM {self.probes}),
            suspect AS MATERIALIZED (
                SELECT w.symbol, w.first_available, w.last_available, s.first_seen, s.whole_at,
                    s.listed_at, s.left_out_at
                FROM (SELECT symbol, first_available, last_available, days_available
                    FROM {windows}) w
                JOIN {self.symbols} s USING (symbol)
                JOIN probed a ON a.date = w.first_available
                JOIN probed b ON b.date = w.last_available
                WHERE b.n - a.n + 1 > w.days_available)
            SELECT s.symbol, p.date FROM suspect s JOIN {self.all_probes} p
              ON p.date > s.first_available AND p.date < s.last_available
            ANTI JOIN {self.files} f ON f.symbol = s.symbol AND f.date = p.date
            WHERE {PROBED} AND {PROBED_AT} >= p.settled_at)"""


_DEFAULT_FIRST = "id <> (SELECT value::SMALLINT FROM meta WHERE key = 'first_dataset'), id"


def hexed(etag: str) -> str:
    """SQL: an ETag as S3 writes it, of a column."""
    return f"replace({etag}::VARCHAR, '-', '')"


def scope(con: duckdb.DuckDBPyConnection, dataset: Dataset | None = None) -> Scope:
    """The tables of a dataset, as they are now. Of one that is not recorded, empty ones.

    Args:
        con: an open record.
        dataset: which; the default one when left out.
    """
    named = "true"
    if dataset:
        named = """market = $market AND frequency = $frequency AND data_type = $data_type
            AND interval IS NOT DISTINCT FROM $interval"""
    found = con.execute(
        f"""SELECT market, frequency, data_type, interval, id, settle_days, ended_before
        FROM datasets WHERE {named} ORDER BY {_DEFAULT_FIRST} LIMIT 1""",
        parts(dataset) if dataset else {},
    ).fetchall()
    number, settle_days, ended_before = -1, 0, None
    if found:
        *name, number, settle_days, ended_before = found[0]
        dataset = Dataset(*name)
    dataset = dataset or UM_KLINES_1M

    def of(table: str, columns: str) -> str:
        return f"(SELECT {columns} FROM main.{table} WHERE dataset = {number})"

    settled = settled_at("period", settle_days, f"'{dataset.frequency}'")
    renamed = "period AS date, * EXCLUDE (dataset, period)"
    probe = (
        "period AS date, probed_at, symbols, files AS available, run_id, "
        f"{settled} AS settled_at, probed_at >= {settled} AS settled"
    )
    return Scope(
        dataset=dataset,
        id=number,
        settle_days=settle_days,
        files=of("files", renamed),
        probes=f"{of('probes', probe)[:-1]} AND replaced_at IS NULL)",
        all_probes=of("probes", f"{probe}, replaced_at"),
        symbols=of("symbols", "* EXCLUDE (dataset)"),
        revisions=of(
            "revisions",
            f"{renamed} REPLACE ({hexed('old_etag')} AS old_etag, {hexed('new_etag')} AS new_etag)",
        ),
        acknowledgements=of("acknowledgements", renamed),
        listings=of("symbol_spans", "* EXCLUDE (dataset)"),
        summary=of("daily_summary", renamed),
        ended_before=ended_before,
    )


def parts(dataset: Dataset) -> dict[str, str | None]:
    """The columns of `datasets` that name one."""
    return {
        "market": dataset.market,
        "frequency": dataset.frequency,
        "data_type": dataset.data_type,
        "interval": dataset.interval,
    }


def recorded_datasets(con: duckdb.DuckDBPyConnection) -> list[Dataset]:
    """Every recorded dataset: the default of questions, then in the order of their first probes.

    The default is the first that was configured when the record was last written, if it is
    recorded.
    """
    rows = con.execute(
        f"SELECT market, frequency, data_type, interval FROM datasets ORDER BY {_DEFAULT_FIRST}"
    ).fetchall()
    return [Dataset(*row) for row in rows]
