"""Segments of constant mean: exact PELT (Killick et al. 2012, arXiv 1101.1438) with squared cost.

It finds the cuts that minimise sum of squared deviations from the segments' means + penalty * number of cuts.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from rewardscope.engine.segmentation.compiled import compiled
from rewardscope.engine.segmentation.rows import Rows
from rewardscope.engine.types import Changepoint


def cuts(rows: Rows, rule: Changepoint) -> Bool[np.ndarray, " tokens"]:
    """Cuts at the best change points of every row, with the penalty `rule.penalty` log(n) variance.

    n counts the present rewards of the row. The variance is that of their noise, half the mean squared
    difference of neighbours [ours]: the plain variance grows with the very jumps that are sought, and missed
    half of those in the sibling's figure. The cuts do not depend on baseline or scale. Missing rewards are
    left out of the curve and belong to the segment before them.
    """
    found = rows.row_cuts()
    cut_rows(rows.rewards, rows.starts, rule.penalty, rule.min_len, found)
    return found


@compiled
def cut_rows(rewards: np.ndarray, starts: np.ndarray, penalty: float, min_len: int, cuts: np.ndarray) -> None:
    """Marks the change points of every row in `cuts`."""
    for row in range(len(starts) - 1):
        start, end = starts[row], starts[row + 1]
        present = start + np.flatnonzero(~np.isnan(rewards[start:end]))
        if len(present) < 2:
            continue
        curve = rewards[present].astype(np.float64)
        noise = np.mean(np.diff(curve) ** 2) / 2
        if noise == 0:
            continue
        for at in change_points(curve, penalty * np.log(len(curve)) * noise, min_len):
            cuts[present[at]] = True


@compiled
def change_points(curve: np.ndarray, penalty: float, min_len: int) -> np.ndarray:
    """The best change points of a curve without missing values, ascending; each begins a segment.

    `penalty` is in squared units of the curve. No segment is shorter than `min_len`, unless the curve is.

    best[s], the least cost of the first s points, is min over t of best[t] + cost(t, s) + penalty. The sums
    of squares in it telescope, so they are left out of `best` and of the comparisons: what remains of
    cost(t, s) is -(S_s - S_t)^2 / (s - t), with S the running sums of the centred curve.
    """
    n = len(curve)
    sums = np.zeros(n + 1)
    centre = np.mean(curve)
    for t in range(n):
        sums[t + 1] = sums[t] + (curve[t] - centre)
    inverse = np.zeros(n + 1)
    for length in range(1, n + 1):
        inverse[length] = 1.0 / length
    best = np.empty(n + 1)
    best[0] = -penalty
    came_from = np.zeros(n + 1, dtype=np.int64)
    # The starts t that may still be best, with best[t] and S_t beside them, so that the sweep reads in order.
    at, best_at, sum_at = np.empty(n + 1, dtype=np.int64), np.empty(n + 1), np.empty(n + 1)
    value = np.empty(n + 1)
    # Found useless at s, a start is out from s + min_len on: only then can s stand in for it.
    leaves = np.full(n + 1, n + 1, dtype=np.int64)
    candidates = 0
    for s in range(min_len, n + 1):
        newest = s - min_len
        if newest == 0 or newest >= min_len:
            at[candidates], best_at[candidates], sum_at[candidates] = newest, best[newest], sums[newest]
            candidates += 1
        for i in range(candidates):
            rise = sums[s] - sum_at[i]
            value[i] = best_at[i] - rise * rise * inverse[s - at[i]]
        least = 0
        for i in range(1, candidates):
            if value[i] < value[least]:
                least = i
        best[s] = value[least] + penalty
        came_from[s] = at[least]
        kept = 0
        for i in range(candidates):
            if value[i] > best[s] and leaves[at[i]] > n:
                leaves[at[i]] = s + min_len
            if leaves[at[i]] > s + 1:
                at[kept], best_at[kept], sum_at[kept] = at[i], best_at[i], sum_at[i]
                kept += 1
        candidates = kept
    count, s = 0, n
    while s >= min_len and came_from[s] > 0:
        s = came_from[s]
        count += 1
    found = np.empty(count, dtype=np.int64)
    s = n
    for i in range(count - 1, -1, -1):
        s = came_from[s]
        found[i] = s
    return found
