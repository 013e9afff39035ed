"""Spans of dates. A wrong one probes too little, or names dates that need nothing."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from availability_pipeline.dates import joined
from availability_pipeline_tests.support.helpers import D, days

one = st.dates(D(2024, 1, 1), D(2024, 2, 1))
some = st.lists(st.tuples(one, one).map(lambda span: (min(span), max(span))), max_size=6)


@given(some)
def test_joined_spans_are_the_same_dates_with_a_gap_between_each_two(given_spans):
    """Spans that touch, overlap or hold one another, in any order."""
    found = joined(given_spans)
    wanted = {date for span in given_spans for date in days(*span)}
    assert [date for span in found for date in days(*span)] == sorted(wanted)
    assert all((b - a).days > 1 for (_, a), (b, _) in itertools.pairwise(found))
