"""Rows of text as aligned lines that fit a width: the one renderer of all tables.

Widths are columns of a terminal, of which some letters take two. Without a width nothing is left
out and no line is folded: that is for pipes.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

GAP = 2
NARROWEST = 8
"""A folded column keeps this width; a table of narrower ones would be all height."""


@dataclass(frozen=True)
class Table:
    """A table as lines.

    Attributes:
        head: the names of the columns, a line or more, and the rule below them.
        body: the rows, a line each, or more where one is folded.
        left_out: the columns that do not fit.
    """

    head: tuple[str, ...]
    body: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def cells(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # 20 ms that only such names cost

    return cell_len(text)


def numeric(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The columns that hold numbers: `lay_out` aligns them to the right."""
    return [
        name
        for n, name in enumerate(columns)
        if any(isinstance(r[n], int | float) and not isinstance(r[n], bool) for r in rows)
    ]


def lay_out(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[str] = (),
    width: int | None = None,
    spare: Sequence[str] = (),
) -> Table:
    """Lay out a table; what is too wide gives way in this order.

    Names of columns are broken at underscores; columns without any text are left out, then the
    spare ones; at last the widest texts are folded. Numbers are never folded.

    Args:
        columns: their names.
        rows: the texts.
        numbers: the columns that are aligned to the right.
        width: how wide it may be; None is as wide as it takes.
        spare: columns that may be left out, in this order.
    """
    texts = {name: [row[n] for row in rows] for n, name in enumerate(columns)}
    widths = {name: max(map(cells, texts[name]), default=0) for name in columns}
    kept = list(columns)

    def fits(names: dict[str, int]) -> bool:
        total = sum(max(widths[name], names[name]) for name in kept) + GAP * (len(kept) - 1)
        return width is None or total <= width

    whole = {name: cells(name) for name in columns}
    broken = {name: max(map(cells, _parts(name))) for name in columns}
    going = [name for name in columns if rows and not widths[name]]
    going += [name for name in spare if name in kept and name not in going]
    for name in going:
        if fits(broken) or len(kept) == 1:
            break
        kept.remove(name)
    needed = whole if fits(whole) else broken
    for name in kept:
        widths[name] = max(widths[name], needed[name])
    if width is not None and not fits(needed):
        foldable = [name for name in kept if name not in numbers]
        _narrow(widths, foldable, sum(widths[n] for n in kept) + GAP * (len(kept) - 1) - width)
    chosen = [(name, widths[name], name in numbers) for name in kept]
    heads = [_stacked(name, widths[name]) for name in kept]
    tallest = max(map(len, heads))
    heads = [[""] * (tallest - len(head)) + head for head in heads]
    return Table(
        head=(
            *(_line(line, chosen) for line in zip(*heads, strict=True)),
            _line(["-" * widths[name] for name in kept], chosen),
        ),
        body=tuple(
            line
            for row in zip(*(texts[name] for name in kept), strict=True)
            for line in _row(row, chosen)
        ),
        left_out=tuple(name for name in columns if name not in kept),
    )


def fold(text: str, width: int, indent: int = 0) -> list[str]:
    """A sentence as lines, broken between words; what stands in backticks stays whole.

    Args:
        text: the sentence.
        width: how wide a line may be; a longer word is longer.
        indent: how far all lines but the first are moved to the right.
    """
    lines = [""]
    for word in re.findall(r"\s*(?:[^\s`]*`[^`]*`\S*|\S+)", text):
        if lines[-1].strip() and cells(lines[-1] + word) > width:
            lines.append(" " * indent + word.lstrip())
        else:
            lines[-1] += word
    return lines


def _parts(name: str) -> list[str]:
    return re.findall(r"[^_]*_|[^_]+", name)


def _stacked(name: str, width: int) -> list[str]:
    lines = [""]
    for part in _parts(name):
        if lines[-1] and cells(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return lines


def _narrow(widths: dict[str, int], foldable: list[str], over: int) -> None:
    """Take `over` columns from the widest, each time from the one that is widest then."""
    while over > 0 and foldable:
        widest = max(foldable, key=widths.__getitem__)
        if widths[widest] <= NARROWEST:
            return
        widths[widest] -= 1
        over -= 1


def _row(row: Sequence[str], chosen: Sequence[tuple[str, int, bool]]) -> Iterator[str]:
    if all(len(text) * 2 <= width or cells(text) <= width for text, (_, width, _) in zip(
        row, chosen, strict=True
    )):  # fmt: skip
        yield _line(row, chosen)
        return
    from rich.cells import chop_cells

    pieces = [chop_cells(text, width) for text, (_, width, _) in zip(row, chosen, strict=True)]
    for n in range(max(map(len, pieces))):
        yield _line([piece[n] if n < len(piece) else "" for piece in pieces], chosen)


def _line(row: Sequence[str], chosen: Sequence[tuple[str, int, bool]]) -> str:
    parts = []
    for text, (_, width, right) in zip(row, chosen, strict=True):
        space = " " * (width - cells(text))
        parts.append(space + text if right else text + space)
    return (" " * GAP).join(parts).rstrip()
