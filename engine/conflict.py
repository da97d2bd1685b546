"""How much token rewards speak against preferences: the columns of a data set's table of pairs.

Pure functions of arrays, for the responses of many pairs at once. `pair_of` says to which pair, counted from
0, each response (or segment) belongs. A number is NaN where no reward is there to take it from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64

from engine.kept import kept_fractions
from engine.masks import RunSegmentation
from engine.types import SIGN, Segmentation, Side


class PairScores(NamedTuple):
    """The pairs of a run under one source and rule."""

    margin: Float64[np.ndarray, " pairs"]
    """Total reward of the chosen response less that of the rejected one."""
    min_reward: Float64[np.ndarray, " pairs"]
    """Lowest token reward of both sides, in the source's own units."""
    max_reward: Float64[np.ndarray, " pairs"]
    pivots: Int64[np.ndarray, " pairs"]
    """Of both sides together."""
    conflict: Float64[np.ndarray, " pairs"]
    """Conflict mass: see `conflict_masses`."""
    kept_chosen: Float64[np.ndarray, " pairs"]
    """Share of the side's tokens that count. A mask that keeps more on one side rewards drift."""
    kept_rejected: Float64[np.ndarray, " pairs"]
    tokens: Int64[np.ndarray, " pairs"]
    """Of both sides together."""


def pair_scores(
    cut: RunSegmentation,
    are_chosen: Bool[np.ndarray, " rows"],
    totals: Float64[np.ndarray, " rows"],
    pair_of: Int[np.ndarray, " rows"],
) -> PairScores:
    """The columns of all pairs whose responses were cut together [ours].

    `are_chosen` is True where a row is the chosen response of its pair, `totals` are the rewards of whole
    responses, NaN where missing. Every pair has one row a side at most.
    """
    pairs = int(pair_of.max()) + 1 if len(pair_of) else 0
    rows, found = cut.rows, cut.segments
    segments_of_row = np.diff(found.rows)
    row_of = np.repeat(np.arange(len(rows)), segments_of_row)
    against = np.where(are_chosen, SIGN["chosen"], SIGN["rejected"])[row_of] * cut.polarity < 0
    lowest, highest = reward_extremes(rows.rewards, rows.starts, pair_of, pairs)
    total, kept = (
        _by_side(values, are_chosen, pair_of, pairs)
        for values in (totals, kept_fractions(cut.mask, rows.starts))
    )
    return PairScores(
        margin=total[0] - total[1],
        min_reward=lowest,
        max_reward=highest,
        pivots=_summed(np.maximum(segments_of_row - 1, 0), pair_of, pairs),
        conflict=conflict_masses(found.reward, found.end - found.start, against, pair_of[row_of], pairs),
        kept_chosen=kept[0],
        kept_rejected=kept[1],
        tokens=_summed(np.diff(rows.starts), pair_of, pairs),
    )


def conflict_masses(
    rewards: Float64[np.ndarray, " segments"],
    tokens: Int[np.ndarray, " segments"],
    against: Bool[np.ndarray, " segments"],
    pair_of: Int[np.ndarray, " segments"],
    pairs: int,
) -> Float64[np.ndarray, " pairs"]:
    """Share in [0, 1] of each pair's reward mass that lies in segments contradicting its preference:

        sum_(k against) |rewards_k| * tokens_k / sum_k |rewards_k| * tokens_k

    Rewards are the scaled ones of segments: what counts as much is measured from the baseline. NaN without
    any reward; 0 where there are rewards, but all are zero.
    """
    present = ~np.isnan(rewards)
    mass = np.where(present, np.abs(rewards) * tokens, 0.0)
    total = np.bincount(pair_of, mass, pairs)
    share = np.divide(
        np.bincount(pair_of, np.where(against, mass, 0.0), pairs),
        total,
        out=np.zeros(pairs),
        where=total > 0,
    )
    return np.where(np.bincount(pair_of, present, pairs) > 0, np.minimum(share, 1.0), np.nan)


def conflict_mass(sides: Mapping[Side, Segmentation]) -> float:
    """The conflict mass of one pair, from its sides as they are cut."""
    segments = [(side, segment) for side, cut in sides.items() for segment in cut.segments]
    return float(
        conflict_masses(
            np.array([segment.reward for _, segment in segments], dtype=np.float64),
            np.array([segment.end - segment.start for _, segment in segments], dtype=np.int64),
            np.array([SIGN[side] * segment.polarity < 0 for side, segment in segments], dtype=np.bool_),
            np.zeros(len(segments), dtype=np.int64),
            1,
        )[0]
    )


def reward_extremes(
    rewards: Float[np.ndarray, " tokens"],
    starts: Int64[np.ndarray, " row_starts"],
    pair_of: Int[np.ndarray, " rows"],
    pairs: int,
) -> tuple[Float64[np.ndarray, " pairs"], Float64[np.ndarray, " pairs"]]:
    """Lowest and highest present token reward of every pair. Row i is tokens [starts[i], starts[i + 1])."""
    filled = np.diff(starts) > 0
    lowest, highest = np.full(pairs, np.nan), np.full(pairs, np.nan)
    if filled.any():
        exact = rewards.astype(np.float64)
        np.fmin.at(lowest, pair_of[filled], np.fmin.reduceat(exact, starts[:-1][filled]))
        np.fmax.at(highest, pair_of[filled], np.fmax.reduceat(exact, starts[:-1][filled]))
    return lowest, highest


def _summed(numbers: np.ndarray, pair_of: np.ndarray, pairs: int) -> Int64[np.ndarray, " pairs"]:
    return np.bincount(pair_of, numbers, pairs).astype(np.int64)


def _by_side(
    values: np.ndarray, are_chosen: np.ndarray, pair_of: np.ndarray, pairs: int
) -> Float64[np.ndarray, "2 pairs"]:
    """The value of the chosen and of the rejected response; NaN where the pair lacks the side."""
    sides = np.full((2, pairs), np.nan)
    sides[0, pair_of[are_chosen]] = values[are_chosen]
    sides[1, pair_of[~are_chosen]] = values[~are_chosen]
    return sides
