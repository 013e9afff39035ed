"""Acknowledge what cannot be mended here, list what was acknowledged, take it back.

That is files that will never come, and 1d klines of which a day's daily and monthly file differ.
An acknowledgement is of a date of one dataset (of monthly files, of the month that the date is in),
or of one symbol on it. It hides nothing: the rows stay absent, the holes stay holes, and every
verdict says how many were acknowledged. What is missing on the date is taken as final, so a symbol
whose last file is earlier has ended and is in no outage. It changes back by itself when files
appear, or are read again.
"""

import datetime as dt
from collections.abc import Collection, Sequence

from availability_pipeline import PROGRAM
from availability_pipeline.dates import aware
from availability_pipeline.queries.answers import (
    Connection,
    DatasetLike,
    QueryError,
    Rows,
    ask,
    find_symbol,
    require_probed,
    tables,
)
from availability_pipeline.record import derived
from availability_pipeline.record.schema import transaction
from availability_pipeline.record.status import Scope

REASON_LENGTH = 500
"""Characters of a reason at most."""

_IS = "dataset = $dataset AND period = $date AND symbol IS NOT DISTINCT FROM $symbol"


class AcknowledgementError(QueryError):
    """There is nothing to acknowledge, or to forget; nothing was written."""


def acknowledge(
    con: Connection,
    dates: Sequence[dt.date],
    *,
    reason: str,
    at: dt.datetime,
    symbols: Sequence[str] = (),
    dataset: DatasetLike | None = None,
    differing: Collection[tuple[dt.date, str]] = (),
) -> int:
    """Acknowledge what is missing on these dates, of all symbols or of some.

    One short transaction, all or nothing. Acknowledging again replaces the reason.

    Args:
        con: from `connection.writer`.
        dates: probed, and settled.
        reason: why nothing can be done, one line.
        at: when, aware.
        symbols: those it is about; all that are missing when left out.
        dataset: whose files are missing; the default one when left out.
        differing: dates and symbols that may be acknowledged though the file is there, because it
            differs from the monthly one, as `mirror.volume_checks.differing` says.

    Returns:
        How many acknowledgements were written.

    Raises:
        AcknowledgementError: nothing is missing there, or the date has not settled.
        NotProbedError: a date was never probed: probing it comes first.
        QueryError: the dataset is not recorded.
        UnknownSymbolError: a symbol is not recorded.
        ValueError: the reason is empty or too long, or `at` is naive.
    """
    said = " ".join(reason.split())
    if not said or len(said) > REASON_LENGTH:
        raise ValueError(f"give a reason of 1 to {REASON_LENGTH} characters")
    at = aware(at)
    t = tables(con, dataset)
    names = [find_symbol(con, t, symbol)[0] for symbol in symbols]
    pairs = _pairs(t, dates, names)
    with transaction(con):
        for date, symbol in pairs:
            if (date, symbol) not in differing:
                _require_missing(con, t, date, symbol)
            this = {"dataset": t.id, "date": date, "symbol": symbol}
            con.execute(f"DELETE FROM acknowledgements WHERE {_IS}", this)
            con.execute(
                "INSERT INTO acknowledgements VALUES ($dataset, $date, $symbol, $reason, $at)",
                this | {"reason": said, "at": at},
            )
        derived.refresh(con, t.dataset)
    return len(pairs)


def acknowledged(con: Connection, dataset: DatasetLike | None = None) -> Rows:
    """Those of one dataset or of all: dataset, date, symbol (None for all), reason, and when.

    Raises:
        QueryError: the dataset is not recorded.
    """
    return ask(
        con,
        """SELECT concat_ws('/', t.market, t.frequency, t.data_type, t.interval) AS dataset,
            a.period AS date, a.symbol, a.reason, a.acknowledged_at
        FROM acknowledgements a JOIN datasets t ON t.id = a.dataset
        WHERE $only IS NULL OR t.id = $only ORDER BY t.id, a.period, a.symbol NULLS FIRST""",
        {"only": None if dataset is None else tables(con, dataset).id},
    )


def forget(
    con: Connection,
    dates: Sequence[dt.date],
    *,
    symbols: Sequence[str] = (),
    dataset: DatasetLike | None = None,
) -> int:
    """Take acknowledgements back, in one short transaction; how many.

    Raises:
        AcknowledgementError: one of them does not exist; nothing was changed.
        QueryError: the dataset is not recorded.
    """
    t = tables(con, dataset)
    pairs = _pairs(t, dates, symbols)
    with transaction(con):
        for date, symbol in pairs:
            gone = con.execute(
                f"DELETE FROM acknowledgements WHERE {_IS} RETURNING period",
                {"dataset": t.id, "date": date, "symbol": symbol},
            ).fetchall()
            if not gone:
                raise AcknowledgementError(
                    f"{symbol or 'no whole date'} was not acknowledged on {t.dataset.text(date)}; "
                    f"`{PROGRAM} slo acknowledged` lists what was"
                )
        derived.refresh(con, t.dataset)
    return len(pairs)


def _pairs(
    t: Scope, dates: Sequence[dt.date], symbols: Sequence[str]
) -> list[tuple[dt.date, str | None]]:
    # Two dates of one month are one period.
    periods = dict.fromkeys(t.dataset.period_of(date) for date in dates)
    return [(period, symbol) for period in periods for symbol in symbols or (None,)]


def _require_missing(con: Connection, t: Scope, date: dt.date, symbol: str | None) -> None:
    require_probed(con, t, date)
    said = t.dataset.text(date)
    [(settled,)] = ask(con, f"SELECT settled FROM {t.probes} WHERE date = ?", [date]).rows
    if not settled:
        raise AcknowledgementError(
            f"{said} has not settled: what is missing may still be published; wait, or run "
            f"`{PROGRAM} update manual --date {date}` once it has"
        )
    if symbol is None:
        [(missing,)] = ask(
            con, f"SELECT expected - available FROM {t.summary} WHERE date = ?", [date]
        ).rows or [(0,)]
        # What has ended is expected no more, and may be what an acknowledgement has just ended.
        again = ask(
            con,
            f"FROM acknowledgements WHERE {_IS}",
            {"dataset": t.id, "date": date, "symbol": None},
        ).rows
        if missing <= 0 and not again:
            raise AcknowledgementError(
                f"no expected file of {said} is missing: there is nothing to acknowledge"
            )
        return
    found = ask(
        con,
        f"""SELECT first_available, (SELECT count(*) FROM {t.files}
             WHERE date = $date AND symbol = $symbol) AS there
        FROM {t.listings} WHERE symbol = $symbol""",
        {"date": date, "symbol": symbol},
    ).rows
    first, there = found[0] if found else (None, 0)
    if there:
        raise AcknowledgementError(
            f"{symbol} has a file of {said}: there is nothing to acknowledge"
        )
    if first is None or date < first:
        raise AcknowledgementError(
            f"{symbol} had no file before {said}, so none is expected: there is nothing to "
            "acknowledge"
        )
