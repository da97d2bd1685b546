"""Points in order, and what is left of a curve that is thinned."""

from __future__ import annotations

import numpy as np
import pytest

from engine.curves import MIN_POINTS, Points, in_order, thinned


def test_the_last_value_of_a_step_counts() -> None:
    found = in_order(np.array([3, 1, 3, 2], dtype=np.int32), np.array([0.0, 1.0, 2.0, 3.0]))
    assert (found.steps.tolist(), found.values.tolist()) == ([1, 2, 3], [1.0, 3.0, 2.0])


def test_a_thinned_curve_keeps_its_ends_and_the_extremes_of_each_stretch() -> None:
    # Two stretches of ten steps.
    values = np.array([5.0, 0, 9, 5, 5, 5, 5, 5, 5, 5, 5, 5, 1, 5, 5, 5, 8, 8, 5, 5])
    found = thinned(Points(np.arange(20, dtype=np.int32), values), 6)
    assert found.steps.tolist() == [0, 1, 2, 12, 16, 19]


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 100, 1000])
def test_a_curve_is_thinned_to_no_more_than_was_asked_for(count: int) -> None:
    points = Points(np.arange(count, dtype=np.int32), np.random.default_rng(1).normal(size=count))
    for most in (1, 8, 50):
        found = thinned(points, most)
        assert len(found.steps) <= max(most, MIN_POINTS)
        if count:
            assert {0, count - 1} <= set(found.steps.tolist())
            assert (found.values.min(), found.values.max()) == (points.values.min(), points.values.max())
