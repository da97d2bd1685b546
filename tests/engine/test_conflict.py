"""The columns of a pair's table, worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from engine.conflict import conflict_mass, kept_fraction, pair_statistics
from engine.masks import segment_response
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.types import Segmentation

NAN = math.nan


def cut(rewards: list[float], sign: int, **options: Any) -> Segmentation:
    statistics = RewardStatistics()
    statistics.add(np.array(rewards))
    rule = SegmentationRule.model_validate({"eos": "inherit", **options})
    return segment_response(np.array(rewards), sign, rule, statistics)


def test_a_pair_worked_out_by_hand() -> None:
    # Chosen: +2 on two tokens, -1 on one. Rejected: -1 on three tokens, +0.5 on two.
    sides: Any = {"chosen": cut([2, 2, -1], 1), "rejected": cut([-1, -1, -1, 0.5, 0.5], -1)}
    found = pair_statistics(sides, margin=5.0)
    assert found.conflict_mass == pytest.approx((1 + 1) / (4 + 1 + 3 + 1))
    assert (found.min_token_reward, found.max_token_reward) == (-1.0, 2.0)
    assert (found.pivots, found.margin) == (2, 5.0)
    assert found.kept == {"chosen": pytest.approx(2 / 3), "rejected": pytest.approx(3 / 5)}


def test_extreme_rewards_are_in_the_units_of_the_source() -> None:
    found = pair_statistics({"chosen": cut([1.0, 5.0, NAN], 1, baseline=2.0, scale=4.0)}, margin=0.0)
    assert (found.min_token_reward, found.max_token_reward) == (1.0, 5.0)


def test_without_rewards_there_is_no_conflict_to_measure() -> None:
    found = pair_statistics({"chosen": cut([NAN, NAN], 1)}, margin=NAN)
    assert math.isnan(found.conflict_mass)
    assert math.isnan(found.min_token_reward)
    assert math.isnan(found.max_token_reward)
    assert found.kept == {"chosen": 1.0}


def test_rewards_of_zero_conflict_with_nothing() -> None:
    assert conflict_mass({"chosen": cut([0.0, 0.0], 1)}) == 0.0


def test_a_pair_that_is_wrong_throughout_is_all_conflict() -> None:
    assert conflict_mass({"chosen": cut([-1.0, -2.0], 1), "rejected": cut([0.7], -1)}) == 1.0


def test_a_response_without_tokens_keeps_no_share() -> None:
    assert math.isnan(kept_fraction(cut([], 1)))
