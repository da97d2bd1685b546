"""The location-aware normaliser of segment rewards: what a score says depends on where its segment stands.

It is that of arXiv 2501.02790. With p = (k + 1) / K of segment k of K:

    mean(p)    = mean_slope * log p + mean_intercept
    std(p)     = std_slope * log p + std_intercept
    normalised = (score - mean(p)) / std(p)

The four numbers are fitted by Huber regression to means and standard deviations of scores at each location.

Departures:

1. std(p) is at least `MIN_STD`, as the line crosses 0 for small p where its slope is positive. [ours]
2. The regression is our own. It has the objective and the constants of scikit-learn's HuberRegressor, which
   the paper's code uses, but not its ridge penalty of 1e-4. [ours]
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from engine.training.credit import spread_over_segments

MIN_STD = 1e-3
"""In the units of the scores; keeps the sign and the size of a normalised reward sane."""
HUBER_EPSILON = 1.35
"""Residuals beyond this many scales count linearly; 1.35 is 95% efficient where the noise is normal."""
MAX_STEPS = 1000


class Line(NamedTuple):
    """y = slope * x + intercept."""

    slope: float
    intercept: float


class SegmentNormaliser(NamedTuple):
    """The four numbers, in the order in which the paper's code keeps them."""

    mean_slope: float
    std_slope: float
    mean_intercept: float
    std_intercept: float

    def normalise(self, scores: Float[Tensor, " segments"]) -> Float[Tensor, " segments"]:
        """The normalised rewards of all segments of one response, in order."""
        places = torch.arange(1, len(scores) + 1, device=scores.device, dtype=scores.dtype)
        logs = torch.log(places / max(len(scores), 1))
        std = (self.std_slope * logs + self.std_intercept).clamp(min=MIN_STD)
        return (scores - (self.mean_slope * logs + self.mean_intercept)) / std

    def token_rewards(
        self, scores: Float[Tensor, " segments"], lengths: Int[Tensor, " segments"]
    ) -> Float[Tensor, " response"]:
        """The normalised rewards, each spread evenly over the tokens of its segment."""
        return spread_over_segments(self.normalise(scores), lengths)


def fit_segment_normaliser(
    locations: Float64[np.ndarray, " segments"], scores: Float64[np.ndarray, " segments"]
) -> SegmentNormaliser:
    """The normaliser of many responses' segments: locations p in (0, 1], and the scores there.

    Scores at the same location give one mean and one standard deviation; a location with a single score has
    none and is left out. Raises ValueError where fewer than two locations are left.
    """
    places, group = np.unique(locations, return_inverse=True)
    counts = np.bincount(group)
    means = np.bincount(group, scores) / counts
    stds = np.sqrt(np.bincount(group, (scores - means[group]) ** 2) / counts)
    enough = counts > 1
    if enough.sum() < 2:
        raise ValueError("A normaliser needs two locations with two scores each; give it more responses.")
    if places[0] <= 0 or places[-1] > 1:
        raise ValueError("Locations are (k + 1) / K of segment k of K: give numbers above 0 and up to 1.")
    logs = np.log(places[enough])
    mean, std = huber_line(logs, means[enough]), huber_line(logs, stds[enough])
    return SegmentNormaliser(mean.slope, std.slope, mean.intercept, std.intercept)


def huber_line(x: Float64[np.ndarray, " points"], y: Float64[np.ndarray, " points"]) -> Line:
    """The line that minimises, over itself and the scale of its residuals (Huber 1981, section 7.7):

        sum(scale + scale * H(residual / scale))
        H(z) = z**2 where |z| <= epsilon, else 2 * epsilon * |z| - epsilon**2

    by iteratively reweighted least squares; the objective is convex, so this is the optimum. Where nearly
    half of the points lie exactly on the line, the scale is 0 and the line is theirs.
    """
    design = np.stack([x, np.ones_like(x)], axis=1)
    weights = np.ones_like(y)
    found = np.zeros(2)
    scale = math.inf
    for _ in range(MAX_STEPS):
        root = np.sqrt(weights)
        line = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
        residuals = np.abs(y - design @ line)
        scale = _scale(residuals)
        settled = np.abs(line - found).max() <= 1e-12 * (1 + np.abs(line).max())
        found = line
        if settled or scale == 0:
            break
        weights = np.minimum(1.0, HUBER_EPSILON * scale / np.maximum(residuals, np.finfo(float).tiny))
    return Line(float(found[0]), float(found[1]))


def _scale(residuals: Float64[np.ndarray, " points"]) -> float:
    """The best scale for absolute residuals: n * scale**2 = sum of min(residual, epsilon * scale)**2.

    With the largest `out` residuals beyond epsilon * scale this is solved in closed form; the right `out` is
    the one that its own answer confirms.
    """
    ordered = np.sort(residuals)
    squares = np.cumsum(ordered**2)
    n = len(ordered)
    for out in range(n):
        room = n - out * HUBER_EPSILON**2
        if room <= 0:
            break
        scale = math.sqrt(squares[n - out - 1] / room)
        if ordered[n - out - 1] <= HUBER_EPSILON * scale:
            return scale
    return 0.0
