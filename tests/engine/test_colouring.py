"""The class of colour of a number: sign and strength on a scale that outliers do not set."""

from __future__ import annotations

import numpy as np
import pytest

from engine.colouring import Colouring, colouring_of


def test_rewards_beyond_the_clip_take_the_strongest_class():
    assert Colouring(1.0).levels(np.array([9.0, -9.0, 0.0])) == [10, -10, 0]


def test_the_scale_is_the_99th_percentile_of_both_sides():
    tracks = [np.arange(100.0), -np.arange(100.0, 201.0), np.array([np.nan])]
    assert colouring_of(tracks).clip == pytest.approx(198.0)


def test_without_any_reward_there_is_no_scale_and_no_colour():
    colouring = colouring_of([np.array([np.nan, np.nan])])
    assert colouring.clip == 0
    assert colouring.levels(np.array([np.nan, 0.0])) == [None, 0]


def test_numbers_that_are_infinite_do_not_set_the_scale():
    assert colouring_of([np.array([-np.inf, -1.0])], "sequential").clip == 1.0
    assert Colouring(1.0, "sequential").levels(np.array([-np.inf])) == [10]


def test_ranks_go_by_the_order_of_their_size():
    assert Colouring(999.0, "logarithmic").levels(np.array([0, 9, 99, 999, 50_000])) == [0, 3, 7, 10, 10]


def test_numbers_without_a_sign_take_classes_from_0_up():
    assert Colouring(4.0, "sequential").levels(np.array([0.0, -2.0, -9.0, np.nan])) == [0, 5, 10, None]
