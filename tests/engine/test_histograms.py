"""Bars of round edges: what they hold, and that they hold it whatever the numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from engine.histograms import BARS, bars_of, round_edges


def test_every_number_lies_in_the_bar_whose_edges_hold_it() -> None:
    # 36 bars of [0, 7.2] are 0.2 wide; a round width may be no narrower.
    bars = bars_of(np.array([0.0, 0.1, 0.2, 7.2, np.nan, np.inf]), whole_numbers=False)
    assert bars.edges[:3].tolist() == [0.0, 0.2, 0.4]
    assert bars.places.tolist() == [1, 1, 2, len(bars.counts), 0, 0]
    assert bars.counts[:3] == [2, 1, 0]


def test_without_a_number_there_is_one_empty_bar() -> None:
    assert bars_of(np.array([np.nan]), whole_numbers=False).counts == [0]


def test_one_number_far_out_does_not_squeeze_the_others() -> None:
    values = np.append(np.linspace(0, 1, 5000), [1e9, -np.inf])
    bars = bars_of(values, whole_numbers=False)
    assert bars.opens_high
    assert bars.edges[-1] < 2
    assert sum(bars.counts) == 5001


@example(low=1000.0, span=1.2e-7, whole_numbers=False)
@example(low=0.0, span=5e-324, whole_numbers=False)
@example(low=-3.0, span=5e-324, whole_numbers=False)
@example(low=-5e-324, span=37.0, whole_numbers=False)
@given(
    low=st.floats(-1e6, 1e6),
    span=st.floats(0, 1e6),
    whole_numbers=st.booleans(),
)
def test_edges_are_round_ascend_and_hold_the_range(low: float, span: float, whole_numbers: bool) -> None:
    low, high = (round(low), round(low + span)) if whole_numbers else (low, low + span)
    edges = round_edges(low, high, whole_numbers)
    assert np.all(np.diff(edges) > 0)
    assert edges[0] <= low + 1e-9 * abs(low)
    assert edges[-1] >= high - 1e-9 * abs(high)
    assert 1 <= len(edges) - 1 <= 2 * BARS + 2
    if whole_numbers:
        assert np.all(edges == np.round(edges))
