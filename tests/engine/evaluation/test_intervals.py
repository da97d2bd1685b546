import numpy as np
import pytest

from engine.evaluation.intervals import difference_interval, ratio_interval, share_interval


def test_the_interval_of_a_share_is_wilsons():
    found = share_interval(np.array([1.0] * 8 + [0.0] * 2), 0.95)

    assert found == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)


def test_a_share_of_one_is_not_certain():
    value, low, high = share_interval(np.ones(10), 0.95)

    assert value == high == 1
    assert low == pytest.approx(0.7225, abs=1e-4)


def test_a_mean_is_the_ratio_with_denominators_of_one():
    values = np.array([1.0, 2.0, 4.0, 5.0])

    value, low, high = ratio_interval(values, np.ones(4), 0.95)

    reach = 1.959964 * values.std(ddof=1) / 2
    assert (value, low, high) == pytest.approx((3, 3 - reach, 3 + reach), abs=1e-5)


def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        lengths = generator.integers(5, 50, 200)
        sums = lengths * 0.7 + generator.normal(0, 1, 200) * np.sqrt(lengths)
        _, low, high = ratio_interval(sums, lengths.astype(float), 0.9)
        held += low <= 0.7 <= high

    assert 0.85 <= held / 400 <= 0.95


def test_a_paired_difference_is_surer_than_its_two_sides():
    ours = np.array([0.0, 0.5, 1.0, 0.5])

    value, low, high = difference_interval(ours + 0.25, ours, 0.95)

    assert (value, low, high) == pytest.approx((0.25, 0.25, 0.25))


def test_nothing_has_no_interval():
    assert share_interval(np.zeros(0), 0.95) == (None, None, None)
    assert ratio_interval(np.zeros(0), np.zeros(0), 0.95) == (None, None, None)
    assert ratio_interval(np.ones(1), np.ones(1), 0.95) == (1.0, None, None)
