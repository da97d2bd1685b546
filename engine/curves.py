"""Curves: values by step, in order, and thinned to what a picture can show.

Pure functions of arrays; the ends of a curve and the extremes between them survive any thinning.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64

MIN_POINTS = 6
"""A curve is never thinned to less: its two ends, and the extremes of two stretches."""


class Points(NamedTuple):
    """Points of one curve, ascending by step."""

    steps: Int32[np.ndarray, " points"]
    values: Float64[np.ndarray, " points"]


def in_order(steps: Int32[np.ndarray, " points"], values: Float64[np.ndarray, " points"]) -> Points:
    """Points by step, of several at one step the last."""
    if (np.diff(steps) > 0).all():
        return Points(steps, values)
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    last = np.append(np.diff(steps) > 0, True)
    return Points(steps[last], values[last])


def thinned(points: Points, most: int) -> Points:
    """The points, or where they are more than `most`: both ends, and between them the first least and the
    first greatest value of each of (most - 2) / 2 equally long stretches of steps."""
    most = max(most, MIN_POINTS)
    if len(points.steps) <= most:
        return points
    left = np.union1d(_extremes(points, (most - 2) // 2), [0, len(points.steps) - 1])
    return Points(points.steps[left], points.values[left])


def _extremes(points: Points, stretches: int) -> Int64[np.ndarray, " found"]:
    edges = np.linspace(points.steps[0], int(points.steps[-1]) + 1, stretches + 1)[:-1]
    starts = np.unique(np.searchsorted(points.steps, edges))
    counts = np.diff(starts, append=len(points.steps))
    stretch = np.repeat(np.arange(len(starts)), counts)
    found = []
    for extreme in (np.minimum, np.maximum):
        at_extreme = np.flatnonzero(points.values == extreme.reduceat(points.values, starts)[stretch])
        found.append(at_extreme[np.unique(stretch[at_extreme], return_index=True)[1]])
    return np.concatenate(found)
