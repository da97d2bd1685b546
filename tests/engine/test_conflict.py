"""The columns of pairs, worked out by hand and by a plain loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.conflict import PairScores, conflict_mass, pair_scores
from engine.masks import RunSegmentation, segment_run
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.types import Segmentation, Side

NAN = math.nan
SIDES: tuple[Side, ...] = ("chosen", "rejected")
Rewards = list[float] | None


def cut_run(responses: Sequence[list[float]], are_chosen: Sequence[bool], **options: Any) -> RunSegmentation:
    rewards = np.array([reward for response in responses for reward in response])
    statistics = RewardStatistics()
    statistics.add(rewards)
    starts = np.cumsum([0, *map(len, responses)])
    rule = SegmentationRule.model_validate({"eos": "inherit", **options})
    return segment_run(rewards, starts, np.where(are_chosen, 1, -1), rule, statistics)


def cut(rewards: list[float], sign: int) -> Segmentation:
    return cut_run([rewards], [sign > 0]).response(0)


def scores(pairs: Sequence[tuple[Rewards, Rewards]], **options: Any) -> tuple[PairScores, RunSegmentation]:
    """The columns of pairs, of which either side may be missing; totals are sums."""
    rows = [
        (n, side, r)
        for n, both in enumerate(pairs)
        for side, r in zip(SIDES, both, strict=True)
        if r is not None
    ]
    are_chosen = np.array([side == "chosen" for _, side, _ in rows], dtype=np.bool_)
    run = cut_run([r for *_, r in rows], are_chosen.tolist(), **options)
    totals = np.array([sum(r) for *_, r in rows], dtype=np.float64)
    return pair_scores(run, are_chosen, totals, np.array([n for n, *_ in rows], dtype=np.int64)), run


def test_a_pair_worked_out_by_hand() -> None:
    # Chosen: +2 on two tokens, -1 on one. Rejected: -1 on three tokens, +0.5 on two.
    found, _ = scores([([2, 2, -1], [-1, -1, -1, 0.5, 0.5])])
    assert found.conflict[0] == pytest.approx((1 + 1) / (4 + 1 + 3 + 1))
    assert (found.min_reward[0], found.max_reward[0]) == (-1.0, 2.0)
    assert (found.pivots[0], found.margin[0], found.tokens[0]) == (2, 5.0, 8)
    assert (found.kept_chosen[0], found.kept_rejected[0]) == (pytest.approx(2 / 3), pytest.approx(3 / 5))


def test_extreme_rewards_are_in_the_units_of_the_source() -> None:
    found, _ = scores([([1.0, 5.0, NAN], None)], baseline=2.0, scale=4.0)
    assert (found.min_reward[0], found.max_reward[0]) == (1.0, 5.0)


def test_without_rewards_there_is_no_conflict_to_measure() -> None:
    found, _ = scores([([NAN, NAN], None)])
    assert math.isnan(found.conflict[0])
    assert math.isnan(found.min_reward[0])
    assert math.isnan(found.max_reward[0])
    assert found.kept_chosen[0] == 1.0
    assert math.isnan(found.kept_rejected[0])


def test_rewards_of_zero_conflict_with_nothing() -> None:
    assert conflict_mass({"chosen": cut([0.0, 0.0], 1)}) == 0.0


def test_a_pair_that_is_wrong_throughout_is_all_conflict() -> None:
    assert conflict_mass({"chosen": cut([-1.0, -2.0], 1), "rejected": cut([0.7], -1)}) == 1.0


def test_a_response_without_tokens_keeps_no_share() -> None:
    found, _ = scores([([], [1.0])])
    assert math.isnan(found.kept_chosen[0])
    assert found.kept_rejected[0] == 0.0


def test_no_pair_has_no_columns() -> None:
    found, _ = scores([])
    assert [len(column) for column in found] == [0] * len(PairScores._fields)


rewards_of_a_response = st.lists(st.floats(-2, 2) | st.just(NAN), max_size=7)


@given(st.lists(st.tuples(st.none() | rewards_of_a_response, st.none() | rewards_of_a_response), max_size=4))
def test_all_pairs_at_once_are_each_pair_alone(pairs: list[tuple[Rewards, Rewards]]) -> None:
    pairs = [both for both in pairs if both != (None, None)]
    found, run = scores(pairs)
    row = 0
    for number, both in enumerate(pairs):
        against = total = 0.0
        present, seen, pivots = [], False, 0
        kept = {}
        for side, rewards in zip(SIDES, both, strict=True):
            if rewards is None:
                continue
            alone = run.response(row)
            row += 1
            present += [reward for reward in rewards if not math.isnan(reward)]
            pivots += len(alone.pivots)
            kept[side] = sum(alone.mask.tolist()) / len(rewards) if rewards else NAN
            for segment in alone.segments:
                if math.isnan(segment.reward):
                    continue
                seen = True
                mass = abs(segment.reward) * (segment.end - segment.start)
                total += mass
                if (1 if side == "chosen" else -1) * segment.polarity < 0:
                    against += mass
        expected = (min(against / total, 1.0) if total > 0 else 0.0) if seen else NAN
        assert found.conflict[number] == pytest.approx(expected, nan_ok=True)
        assert found.min_reward[number] == pytest.approx(min(present, default=NAN), nan_ok=True)
        assert found.max_reward[number] == pytest.approx(max(present, default=NAN), nan_ok=True)
        assert found.pivots[number] == pivots
        assert found.tokens[number] == sum(len(rewards or ()) for rewards in both)
        assert found.kept_chosen[number] == pytest.approx(kept.get("chosen", NAN), nan_ok=True)
        assert found.kept_rejected[number] == pytest.approx(kept.get("rejected", NAN), nan_ok=True)
