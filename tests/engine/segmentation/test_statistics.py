"""The summary of a run's rewards: exact where it promises so, and the same however the run was chunked."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.segmentation.statistics import RewardStatistics

any_finite = st.floats(allow_nan=False, allow_infinity=False)
any_reward = any_finite | st.just(math.nan)


def summary(rewards: object) -> RewardStatistics:
    statistics = RewardStatistics()
    statistics.add(np.asarray(rewards, dtype=np.float64))
    return statistics


def test_numbers_worked_out_by_hand() -> None:
    statistics = summary([0.1, 0.2, 0.3, math.nan])
    assert statistics.count == 3
    assert statistics.mean == 0.2
    assert statistics.std == pytest.approx(math.sqrt(0.02 / 3), rel=1e-15)
    assert (statistics.min, statistics.max) == (0.1, 0.3)
    assert statistics.median() == 0.2
    assert summary([-3.0, 1.0, -2.0, 4.0]).median() == -0.5


def test_what_is_not_finite_is_left_out() -> None:
    assert summary([1.0, math.inf, -math.inf, math.nan, 3.0]) == summary([1.0, 3.0])


def test_nothing_has_no_mean_and_no_threshold() -> None:
    for statistics in (summary([]), summary([math.nan, math.nan])):
        assert statistics.count == 0
        numbers = [statistics.mean, statistics.std, statistics.min, statistics.max]
        numbers += [statistics.median(), statistics.otsu()]
        assert all(math.isnan(number) for number in numbers)
        assert RewardStatistics.from_dict(json.loads(json.dumps(statistics.to_dict()))) == statistics


def test_equal_rewards_have_no_deviation_and_are_their_own_threshold() -> None:
    statistics = summary([0.1] * 1000)
    assert statistics.std == 0.0
    assert statistics.mean == statistics.median() == statistics.otsu() == 0.1


def test_the_threshold_of_a_one_sided_scorer_separates_its_two_classes() -> None:
    rng = np.random.default_rng(0)
    wrong, right = rng.normal(-0.5, 0.05, 100), rng.normal(-0.02, 0.05, 900)
    threshold = summary(np.concatenate([wrong, right])).otsu()
    assert wrong.max() < threshold < right.min()


def test_the_threshold_maximises_the_variance_between_the_classes() -> None:
    values = np.array([-2.0, -1.0, -1.0, 0.5, 1.0, 1.5, 4.0])
    cuts = (values[1:] + values[:-1])[values[1:] > values[:-1]] / 2

    def between(cut: float) -> float:
        lower, upper = values[values < cut], values[values > cut]
        return float(len(lower) * len(upper) * (upper.mean() - lower.mean()) ** 2)

    assert summary(values).otsu() == max(cuts, key=between)


def test_the_mean_is_rounded_once() -> None:
    assert summary([1e100, 1.0, -1e100]).mean == 1 / 3
    assert summary([1e16, 1.0, 1.0, 1.0, 1.0]).mean == (10**16 + 4) / 5


def test_the_deviation_does_not_cancel() -> None:
    assert summary([1e9 + 1, 1e9 - 1]).std == 1.0
    assert summary([1e308, -1e308]).std == 1e308
    assert summary([5e-324, 0.0]).max == 5e-324


@settings(deadline=None)
@given(st.lists(any_finite, min_size=1, max_size=50))
def test_moments_are_those_of_exact_arithmetic(values: list[float]) -> None:
    statistics = summary(values)
    exact = [Fraction(value) for value in values]
    mean = sum(exact, Fraction(0)) / len(exact)
    variance = sum(((value - mean) ** 2 for value in exact), Fraction(0)) / len(exact)
    assert statistics.mean == float(mean)
    # Compared as squares in exact arithmetic, which do not overflow.
    assert abs(Fraction(statistics.std) ** 2 - variance) <= variance / 2**50 + (
        2 * Fraction(statistics.std) + Fraction(5e-324)
    ) * Fraction(5e-324)


@settings(deadline=None)
@given(st.lists(st.lists(any_reward, max_size=20), max_size=8), st.randoms())
def test_the_same_however_the_rewards_are_chunked(chunks: list[list[float]], random: object) -> None:
    whole = summary([reward for chunk in chunks for reward in chunk])
    parts = [summary(chunk) for chunk in chunks]
    random.shuffle(parts)  # type: ignore[attr-defined]
    merged = RewardStatistics()
    for part in parts:
        merged.merge(part)
    added = RewardStatistics()
    for chunk in chunks:
        added.add(np.array(chunk))
    assert merged == whole == added
    assert json.dumps(merged.to_dict()) == json.dumps(whole.to_dict())
    if whole.count:
        assert (merged.mean, merged.std, merged.otsu()) == (whole.mean, whole.std, whole.otsu())


@settings(deadline=None)
@given(st.lists(any_finite, min_size=1, max_size=30))
def test_json_gives_everything_back(values: list[float]) -> None:
    statistics = summary(values)
    again = RewardStatistics.from_dict(json.loads(json.dumps(statistics.to_dict(), allow_nan=False)))
    assert again == statistics
    again.merge(statistics)
    assert again.count == 2 * len(values)


def test_the_median_is_within_half_a_percent() -> None:
    rewards = np.random.default_rng(1).normal(0.3, 1.0, 200_001).astype(np.float32)
    assert summary(rewards).median() == pytest.approx(float(np.median(rewards)), rel=5e-3)
