"""Segments of constant mean: the cuts with the least squared deviation + penalty * number of cuts.

The optimum is the one that PELT finds (Killick et al. 2012, arXiv 1101.1438). It is searched with functional
pruning (FPOP: Maidstone et al. 2017, arXiv 1409.1842): PELT takes quadratic time where nothing changes, a
minute for the longest response that the API takes, and this a tenth of a second [ours].
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from engine.fields import shown
from engine.segmentation.compiled import compiled
from engine.segmentation.rows import Rows
from engine.segmentation.segmenter import SEGMENTERS, Cuts, Segmenter, SegmenterFields


class Changepoint(SegmenterFields):
    """Segments of constant mean: the optimum that PELT finds for a squared cost, found exactly."""

    name: Literal["changepoint"] = "changepoint"
    penalty: float = Field(2.0, gt=0, title="Penalty", json_schema_extra=shown(step=0.1))
    """What every further change point must save, in units of log(tokens) times the variance of the noise;
    more means fewer segments."""
    min_len: int = Field(1, ge=1, title="Shortest segment")
    """No segment has fewer tokens than this."""


def cuts(rows: Rows, fields: Changepoint) -> Cuts:
    """Cuts at the best change points of every row, with the penalty `fields.penalty` log(n) variance.

    n counts the present rewards of the row. The variance is that of their noise, half the mean squared
    difference of neighbours [ours]: the plain variance grows with the very jumps that are sought, and missed
    half of those in the sibling's figure. The cuts do not depend on baseline or scale. Missing rewards are
    left out of the curve and belong to the segment before them.
    """
    found = rows.row_cuts()
    cut_rows(rows.rewards, rows.starts, fields.penalty, fields.min_len, found)
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

    best[s], the least cost of the first s points, is min over t and the level m of the last segment of

        best[t] + penalty + sum over t <= i < s of (curve[i] - m)^2

    Every t is a parabola in m, and the difference of two does not change with s. So what is kept is, for
    every level, the t that is best there: pieces of the range of levels, each with its start t. A new start
    takes what it is better at and is compared once; a start without a piece is never best again. Sums of
    squares that all starts share are left out of `best`, and the curve is centred, for the sake of rounding.
    """
    n = len(curve)
    centre = np.mean(curve)
    sums = np.zeros(n + 1)
    for t in range(n):
        sums[t + 1] = sums[t] + (curve[t] - centre)
    best, came_from = np.zeros(n + 1), np.zeros(n + 1, dtype=np.int64)
    best[0] = -penalty
    starts, low, high = np.zeros(64, dtype=np.int64), np.empty(64), np.empty(64)
    next_starts, next_low, next_high = np.empty(64, dtype=np.int64), np.empty(64), np.empty(64)
    low[0], high[0] = np.min(curve) - centre, np.max(curve) - centre
    pieces = 1
    for s in range(min_len, n + 1):
        new = s - min_len
        if new >= min_len:
            if 3 * pieces > len(next_starts):
                # A piece leaves at most three.
                next_starts, next_low, next_high = (
                    np.empty(6 * pieces, dtype=np.int64),
                    np.empty(6 * pieces),
                    np.empty(6 * pieces),
                )
            count = 0
            for i in range(pieces):
                old = starts[i]
                # The new parabola minus the old one is -a m^2 + 2 b m + c. The new one wins where that is
                # negative: outside the roots.
                a, b, c = float(new - old), sums[new] - sums[old], best[new] - best[old]
                left, right = low[i], high[i]
                stays = True
                if (2 * b - a * left) * left + c < 0 or (2 * b - a * right) * right + c < 0:
                    spread = b * b + a * c
                    if spread > 0:
                        root = np.sqrt(spread)
                        left, right = max(left, (b - root) / a), min(right, (b + root) / a)
                    stays = spread > 0 and left <= right
                    if not stays:
                        left = high[i]
                if left > low[i] or not stays:
                    if count > 0 and next_starts[count - 1] == new:
                        next_high[count - 1] = left
                    else:
                        next_starts[count], next_low[count], next_high[count] = new, low[i], left
                        count += 1
                if stays:
                    next_starts[count], next_low[count], next_high[count] = old, left, right
                    count += 1
                    if right < high[i]:
                        next_starts[count], next_low[count], next_high[count] = new, right, high[i]
                        count += 1
            pieces = count
            starts, next_starts = next_starts, starts
            low, next_low = next_low, low
            high, next_high = next_high, high
        least = np.inf
        for i in range(pieces):
            rise = sums[s] - sums[starts[i]]
            value = best[starts[i]] - rise * rise / (s - starts[i])
            if value < least or (value == least and starts[i] < came_from[s]):
                least = value
                came_from[s] = starts[i]
        best[s] = least + penalty
    return _traced(came_from, min_len)


@compiled
def _traced(came_from: np.ndarray, min_len: int) -> np.ndarray:
    """The cuts on the way that led to the end."""
    at = len(came_from) - 1
    found = np.empty(at, dtype=np.int64)
    count = 0
    while at >= min_len and came_from[at] > 0:
        at = came_from[at]
        found[count] = at
        count += 1
    return found[:count][::-1].copy()


SEGMENTERS.register(Segmenter(Changepoint, "Change point", cuts, compiles=(Changepoint(),)))
