"""What a table that is too wide gives up, and in which order; and what it never does."""

from hypothesis import given
from hypothesis import strategies as st

from availability_pipeline.tables import Table, cells, fold, lay_out

COLUMNS = ("symbol", "days_available", "note", "url")
ROWS = [["BTCUSDT", "120", "", "https://example.com/BTCUSDT"], ["龙虾USDT", "7", "", "x"]]


def table(width: int | None) -> Table:
    return lay_out(COLUMNS, ROWS, numbers=("days_available",), width=width, spare=("url",))


def test_without_a_width_everything_is_whole_and_aligned() -> None:
    assert table(None) == Table(
        head=(
            "symbol    days_available  note  url",
            "--------  --------------  ----  ---------------------------",
        ),
        body=(
            "BTCUSDT              120        https://example.com/BTCUSDT",
            "龙虾USDT               7        x",
        ),
    )


def test_what_gives_way_first_are_the_names_then_empty_columns_then_spare_ones() -> None:
    full = cells(table(None).head[-1])
    assert table(full) == table(None)
    broken = table(full - 1)
    assert broken.head[0] == "              days_"
    assert broken.head[1] == "symbol    available  note  url"
    assert broken.left_out == ()
    empty = table(cells(broken.head[-1]) - 1)
    assert empty.left_out == ("note",)
    spare = table(cells(empty.head[-1]) - 6)
    assert spare.left_out == ("note", "url")
    assert spare.head[0] == "symbol    days_available"


def test_at_last_texts_are_folded_and_numbers_never() -> None:
    rows = [["1000000LONGNAMEUSDT", "123456789"]]
    laid = lay_out(("symbol", "bytes"), rows, numbers=("bytes",), width=20)
    assert laid.body == ("1000000LO  123456789", "NGNAMEUSD", "T")
    assert laid.left_out == ()


def test_a_sentence_is_broken_between_words_and_a_command_never() -> None:
    text = "Probe them: `program backfill --start 2024-01-01`. Then ask again"
    assert fold(text, 30, 4) == [
        "Probe them:",
        "    `program backfill --start 2024-01-01`.",
        "    Then ask again",
    ]
    assert fold("  ok       name", 80, 11) == ["  ok       name"]
    assert fold("", 80) == [""]


names = st.lists(
    st.from_regex("[a-z]{1,8}(_[a-z]{1,8}){0,2}", fullmatch=True),
    min_size=1,
    max_size=6,
    unique=True,
)


@given(names, st.data())
def test_no_text_is_lost_and_no_line_is_too_wide_where_it_can_be_helped(columns, data) -> None:  # type: ignore[no-untyped-def]
    letters = st.text(alphabet="aB9-虾", max_size=30)
    rows = data.draw(st.lists(st.lists(letters, min_size=len(columns), max_size=len(columns))))
    width = data.draw(st.integers(60, 200))  # six folded columns of eight with their gaps are 58
    laid = lay_out(columns, rows, width=width)
    assert max(map(cells, (*laid.head, *laid.body))) <= max(
        width, sum(max(8, max(map(len, c.split("_"))) + 1) + 2 for c in columns)
    )
    kept = [n for n, name in enumerate(columns) if name not in laid.left_out]
    assert all(not row[n] for row in rows for n in set(range(len(columns))) - set(kept))
    told = "".join("".join(line.split()) for line in laid.body)
    assert sorted(told) == sorted("".join(row[n] for row in rows for n in kept))
