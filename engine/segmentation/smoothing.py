"""Smoothing of scaled rewards before the hysteresis rule: a median of 5, or an exponential average.

Which weight and width is [ours]; that one may smooth at all is METHOD's.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from engine.segmentation.compiled import compiled

MEDIAN_REACH = 2
"""Tokens on either side: a median of 5."""
AVERAGE_WEIGHT = 0.5


def smooth(
    scaled: Float64[np.ndarray, " tokens"],
    starts: Int64[np.ndarray, " row_starts"],
    smoothing: Literal["none", "median", "ema"],
) -> Float64[np.ndarray, " tokens"]:
    """The scaled rewards that the rule shall see, row by row; missing ones stay missing."""
    if smoothing == "median":
        return smooth_by_median(scaled, starts, MEDIAN_REACH)
    if smoothing == "ema":
        return smooth_by_average(scaled, starts, AVERAGE_WEIGHT)
    return scaled


@compiled
def smooth_by_median(scaled: np.ndarray, starts: np.ndarray, reach: int) -> np.ndarray:
    """The median of the present rewards at most `reach` tokens away, within the row; missing stay missing."""
    smoothed = np.full(len(scaled), np.nan)
    for row in range(len(starts) - 1):
        for t in range(starts[row], starts[row + 1]):
            if np.isnan(scaled[t]):
                continue
            around = scaled[max(starts[row], t - reach) : min(starts[row + 1], t + reach + 1)]
            smoothed[t] = np.median(around[~np.isnan(around)])
    return smoothed


@compiled
def smooth_by_average(scaled: np.ndarray, starts: np.ndarray, weight: float) -> np.ndarray:
    """The exponential average e_t = weight s_t + (1 - weight) e_(t-1), begun at a row's first reward.

    Missing rewards stay missing and leave the average as it is.
    """
    smoothed = np.full(len(scaled), np.nan)
    for row in range(len(starts) - 1):
        average = np.nan
        for t in range(starts[row], starts[row + 1]):
            if np.isnan(scaled[t]):
                continue
            average = scaled[t] if np.isnan(average) else weight * scaled[t] + (1 - weight) * average
            smoothed[t] = average
    return smoothed
