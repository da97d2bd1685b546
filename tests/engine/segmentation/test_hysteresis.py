"""The signal, its cuts and the zero crossings, against the sibling's figure and against plain loops."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.segmentation.rows import Rows
from engine.segmentation.segmenters.hysteresis import Hysteresis, reaches, turns, zero_crossings

ORACLES = json.loads((Path(__file__).parents[2] / "oracles.json").read_text())
FIGURES = ["figure_positive", "figure_negative"]

eighths = st.integers(-24, 24).map(lambda n: n / 8)
missing = st.just(math.nan)
curves = st.lists(eighths | missing, min_size=1, max_size=60)


def rows_of(*curves: list[float], dtype: type = np.float64) -> Rows:
    starts = np.cumsum([0, *(len(curve) for curve in curves)])
    rewards = np.array([reward for curve in curves for reward in curve], dtype=dtype)
    return Rows(rewards, starts, np.zeros(len(curves)), 1.0)


def signal_of(curve: list[float], **options: object) -> list[int]:
    signal: list[int] = turns(rows_of(curve), Hysteresis.model_validate(options)).signal.tolist()
    return signal


def pivots_of(curve: list[float], **options: object) -> list[int]:
    cuts = turns(rows_of(curve), Hysteresis.model_validate(options)).cuts
    return [int(at) for at in np.flatnonzero(cuts)[1:]]


def plain_signal(curve: list[float], delta: float) -> list[int]:
    """The rule, word for word."""
    outside = [1 if s > 0 else -1 for s in curve if abs(s) > delta]
    state = outside[0] if outside else 0
    signal = []
    for s in curve:
        state = 1 if s > delta else -1 if s < -delta else state
        signal.append(state)
    return signal


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("delta", [0.2, 0.25, 0.3, 0.4, 0.45])
def test_the_figure_has_its_pivots_for_any_delta_in_the_band(name: str, delta: float) -> None:
    figure = ORACLES[name]
    assert signal_of(figure["scores"], delta=delta) == figure["signal"]
    assert pivots_of(figure["scores"], delta=delta) == figure["pivots"]


@pytest.mark.parametrize("name", FIGURES)
def test_a_plain_sign_rule_does_not_give_the_figure(name: str) -> None:
    assert pivots_of(ORACLES[name]["scores"], delta=0) != ORACLES[name]["pivots"]


@pytest.mark.parametrize("name", FIGURES)
def test_the_figure_has_its_candidates(name: str) -> None:
    figure = ORACLES[name]
    scores = np.array(figure["scores"], dtype=np.float32)
    assert zero_crossings(scores).tolist() == figure["zero_crossing_candidates"]


def test_zero_is_a_sign_of_its_own_and_missing_rewards_are_looked_past() -> None:
    nan = math.nan
    assert zero_crossings(np.array([nan, 0, 0, 1, nan, 1, nan, -1, 0, nan, -1], np.float32)).tolist() == [
        3,
        7,
        8,
        10,
    ]
    assert zero_crossings(np.array([nan, nan], np.float32)).tolist() == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_reward_of_exactly_delta_does_not_clear_the_band(dtype: type) -> None:
    rule = Hysteresis(delta=0.3)
    assert turns(rows_of([0.3, -0.3, 0.3], dtype=dtype), rule).signal.tolist() == [0, 0, 0]
    assert turns(rows_of([0.3, -0.31, 0.3], dtype=dtype), rule).signal.tolist() == [-1, -1, -1]


def test_tokens_before_the_first_one_outside_take_its_sign() -> None:
    assert signal_of([0.1, math.nan, -0.2, -1.0, 1.0]) == [-1, -1, -1, -1, 1]


def test_nothing_outside_is_one_neutral_segment() -> None:
    assert signal_of([0.1, -0.1, 0.3]) == [0, 0, 0]
    assert pivots_of([0.1, -0.1, 0.3]) == []
    assert signal_of([math.nan]) == [0]


def test_a_missing_reward_keeps_the_signal() -> None:
    assert signal_of([1.0, math.nan, math.nan, -1.0, math.nan]) == [1, 1, 1, -1, -1]


@settings(deadline=None)
@given(curves, st.integers(0, 16).map(lambda n: n / 8))
def test_the_compiled_loop_follows_the_rule_word_for_word(curve: list[float], delta: float) -> None:
    expected = plain_signal(curve, delta)
    assert signal_of(curve, delta=delta) == expected
    changes = [t for t in range(1, len(curve)) if expected[t] != expected[t - 1]]
    assert pivots_of(curve, delta=delta) == changes


@settings(deadline=None)
@given(st.lists(st.lists(eighths | missing, max_size=12), min_size=1, max_size=6))
def test_rows_end_to_end_are_cut_as_each_alone(curves: list[list[float]]) -> None:
    together = turns(rows_of(*curves), Hysteresis(min_len=2))
    alone = [turns(rows_of(curve), Hysteresis(min_len=2)) for curve in curves]
    assert together.signal.tolist() == [g for part in alone for g in part.signal.tolist()]
    assert together.cuts.tolist() == [cut for part in alone for cut in part.cuts.tolist()]


@settings(deadline=None)
@given(curves, st.integers(0, 16), st.integers(0, 16))
def test_pivots_never_grow_with_delta(curve: list[float], one: int, other: int) -> None:
    few, many = sorted([one, other], reverse=True)
    assert len(pivots_of(curve, delta=few / 8)) <= len(pivots_of(curve, delta=many / 8))


@settings(deadline=None)
@given(curves, st.integers(0, 8).map(lambda n: n / 8), st.sampled_from([0.5, 2.0, 3.0, 8.0]))
def test_rewards_and_delta_may_be_scaled_together(curve: list[float], delta: float, a: float) -> None:
    assert signal_of([a * r for r in curve], delta=a * delta) == signal_of(curve, delta=delta)


@settings(deadline=None)
@given(curves, st.integers(0, 8).map(lambda n: n / 8))
def test_negated_rewards_have_the_negated_signal(curve: list[float], delta: float) -> None:
    assert signal_of([-r for r in curve], delta=delta) == [-g for g in signal_of(curve, delta=delta)]


def test_a_median_of_five_takes_out_a_single_outlier() -> None:
    curve = [1.0, 1.0, 1.0, -5.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0]
    assert pivots_of(curve) == [3, 4, 8]
    assert pivots_of(curve, smoothing="median") == [8]


def test_the_median_looks_past_missing_rewards_and_keeps_them_missing() -> None:
    assert signal_of([1.0, math.nan, math.nan, -1.0], smoothing="median") == [1, 1, 1, -1]


def test_the_exponential_average_halves_what_came_before() -> None:
    # 1, 0, missing, -0.5, -0.75: the missing reward leaves the average as it is.
    assert pivots_of([1.0, -1.0, math.nan, -1.0, -1.0], smoothing="ema", delta=0.3) == [3]
    assert pivots_of([1.0, -1.0, math.nan, -1.0, -1.0], smoothing="ema", delta=0.6) == [4]


def test_a_crossing_reaches_as_far_as_the_rewards_go_before_the_next():
    scores = np.array([1, -0.2, np.nan, -0.3, 0.1, 0.9, -2, -1], np.float32)
    crossings = zero_crossings(scores)
    assert crossings.tolist() == [1, 4, 6]
    np.testing.assert_allclose(reaches(scores, crossings), [-0.3, 0.9, -2.0])
    assert reaches(scores, crossings[:0]).tolist() == []
