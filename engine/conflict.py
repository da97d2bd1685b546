"""How much a pair's token rewards speak against its preference: the columns of a data set's table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.types import SIGN, Segmentation, Side


@dataclass(frozen=True, slots=True)
class PairStatistics:
    """One pair under one source and rule. A number is NaN where no reward is there to take it from."""

    margin: float
    """Total reward of the chosen response minus that of the rejected one."""
    min_token_reward: float
    """Over both sides, in the source's own units."""
    max_token_reward: float
    pivots: int
    """Of both sides together."""
    conflict_mass: float
    """Share in [0, 1] of the reward mass that lies in segments contradicting the preference; 0 where there
    are rewards, but all are zero."""
    kept: Mapping[Side, float]
    """Share of each side's tokens that count. A mask that keeps more on one side rewards drift."""


def pair_statistics(sides: Mapping[Side, Segmentation], margin: float) -> PairStatistics:
    """The columns of a pair, from the segmentations of the sides that it has [ours]."""
    rewards = np.concatenate([np.zeros(0), *(_token_rewards(cut) for cut in sides.values())])
    present = rewards[~np.isnan(rewards)]
    return PairStatistics(
        margin=margin,
        min_token_reward=float(present.min()) if len(present) else math.nan,
        max_token_reward=float(present.max()) if len(present) else math.nan,
        pivots=sum(len(cut.pivots) for cut in sides.values()),
        conflict_mass=conflict_mass(sides),
        kept={side: kept_fraction(cut) for side, cut in sides.items()},
    )


def conflict_mass(sides: Mapping[Side, Segmentation]) -> float:
    """Share of the mass sum(|segment reward| * length) in segments with sign * polarity < 0.

    Rewards are the scaled ones: what counts as much is measured from the baseline. NaN without any reward.
    """
    against, total, seen = 0.0, 0.0, False
    for side, cut in sides.items():
        for segment in cut.segments:
            if math.isnan(segment.reward):
                continue
            seen = True
            mass = abs(segment.reward) * (segment.end - segment.start)
            total += mass
            if SIGN[side] * segment.polarity < 0:
                against += mass
    if not seen:
        return math.nan
    return min(against / total, 1.0) if total > 0 else 0.0


def kept_fraction(cut: Segmentation) -> float:
    """Share of a response's tokens that count; NaN for a response without tokens."""
    return float(cut.mask.mean()) if len(cut.mask) else math.nan


def _token_rewards(cut: Segmentation) -> np.ndarray:
    """r_t again, from s_t = (r_t - baseline) / scale."""
    return cut.scaled.astype(np.float64) * cut.scale + cut.baseline
