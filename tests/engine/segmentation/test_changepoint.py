"""Change points against ruptures and against a search through every partition."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import ruptures
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.segmentation.rows import Rows
from engine.segmentation.segmenters.changepoint import Changepoint, change_points, cuts


def noisy_steps(seed: int, tokens: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    jumps = rng.random(tokens) < 0.05
    return np.cumsum(jumps * rng.normal(0, 3, tokens)) + rng.normal(0, 1, tokens)


def cost(curve: np.ndarray, points: list[int], penalty: float) -> float:
    bounds = [0, *points, len(curve)]
    parts = [curve[a:b] for a, b in pairwise(bounds)]
    return float(sum(part.var() * len(part) for part in parts) + penalty * len(points))


def least_cost(curve: np.ndarray, penalty: float, min_len: int) -> float:
    """By dynamic programming over every partition, without pruning."""
    best = [-penalty] + [math.inf] * len(curve)
    for s in range(min_len, len(curve) + 1):
        for t in range(s - min_len + 1):
            part = curve[t:s]
            best[s] = min(best[s], best[t] + part.var() * len(part) + penalty)
    return best[-1] if len(curve) >= min_len else cost(curve, [], penalty)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("penalty", [0.5, 3.0, 20.0])
def test_the_same_change_points_as_ruptures(seed: int, penalty: float) -> None:
    curve = noisy_steps(seed, 150)
    theirs = ruptures.Pelt(model="l2", min_size=1, jump=1).fit_predict(curve, pen=penalty)[:-1]
    assert change_points(curve, penalty, 1).tolist() == theirs


@settings(deadline=None)
@given(
    st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=25),
    st.sampled_from([0.7, 2.3, 11.0]),
    st.integers(1, 6),
)
def test_no_partition_is_better(values: list[float], penalty: float, min_len: int) -> None:
    curve = np.array(values)
    points = change_points(curve, penalty, min_len).tolist()
    assert cost(curve, points, penalty) == pytest.approx(least_cost(curve, penalty, min_len), abs=1e-9)
    lengths = np.diff([0, *points, len(curve)])
    assert lengths.min() >= min(min_len, len(curve))


def starts_of(curve: list[float] | np.ndarray, **options: object) -> list[int]:
    rows = Rows(np.asarray(curve), np.array([0, len(curve)]), np.zeros(1), 1.0)
    found: list[int] = np.flatnonzero(cuts(rows, Changepoint.model_validate(options))).tolist()
    return found


def test_a_clear_jump_is_found() -> None:
    curve = np.r_[np.full(20, 1.0), np.full(10, -1.0)] + np.random.default_rng(0).normal(0, 0.1, 30)
    assert starts_of(curve, penalty=4) == [0, 20]


def test_missing_rewards_belong_to_the_segment_before_them() -> None:
    nan = math.nan
    assert starts_of([nan, 1.0, 1.1, 1.0, nan, nan, -1.0, -1.1, -1.0, nan], penalty=0.5) == [0, 6]


def test_a_constant_curve_and_one_without_rewards_stay_whole() -> None:
    assert starts_of([0.1] * 30) == [0]
    assert starts_of([math.nan] * 3) == [0]
    assert starts_of([1.0]) == [0]


def test_baseline_and_scale_change_nothing() -> None:
    curve = noisy_steps(1, 80)
    assert starts_of(curve) == starts_of(8 * curve + 16)


def test_segments_are_as_long_as_asked() -> None:
    starts = starts_of(noisy_steps(3, 120), penalty=0.2, min_len=7)
    assert len(starts) > 3
    assert np.diff([*starts, 120]).min() >= 7


def test_rows_are_cut_one_by_one() -> None:
    one, other = noisy_steps(4, 60), noisy_steps(5, 90)
    rows = Rows(np.r_[one, other], np.array([0, 60, 60, 150]), np.zeros(3), 1.0)
    together = np.flatnonzero(cuts(rows, Changepoint())).tolist()
    assert together == starts_of(one) + [60 + at for at in starts_of(other)]


def test_a_long_curve_without_change_takes_no_quadratic_time() -> None:
    # A search that cannot prune here would take minutes, past the time limit of every test.
    curve = np.random.default_rng(6).normal(size=400_000)
    assert len(change_points(curve, 4 * math.log(len(curve)), 1)) == 0
