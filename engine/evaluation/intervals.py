"""How far off a figure may be, from the spread over tasks, pairs or prompts. Knows no figure.

Units are taken as independent; tokens of one pair and samples of one task are not, so they are summed first.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64


class Interval(NamedTuple):
    """A value with its interval; all None where there is nothing to measure."""

    value: float | None
    low: float | None
    high: float | None


NOTHING = Interval(None, None, None)


def share_interval(shares: Float64[np.ndarray, " units"], confidence: float) -> Interval:
    """The mean of shares in [0, 1], one a unit, with Wilson's interval (1927) of so many yes-or-no units.

    Shares between 0 and 1 spread less than yes or no does: the interval is then rather too wide.
    """
    count = len(shares)
    if not count:
        return NOTHING
    mean, z = float(shares.mean()), _z(confidence)
    centre = (mean + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(mean * (1 - mean) / count + z * z / (4 * count * count))
    return Interval(mean, max(0.0, min(mean, centre - reach)), min(1.0, max(mean, centre + reach)))


def ratio_interval(
    numerators: Float64[np.ndarray, " units"],
    denominators: Float64[np.ndarray, " units"],
    confidence: float,
) -> Interval:
    """r = sum a / sum b over units, with the normal interval of the linearised ratio (delta method).

    var r = n/(n-1) sum (a - r b)^2 / (sum b)^2. A mean is the ratio with b = 1. The interval needs two units.
    """
    total = float(denominators.sum())
    if not len(numerators) or total == 0:
        return NOTHING
    ratio = float(numerators.sum()) / total
    count = len(numerators)
    if count < 2:
        return Interval(ratio, None, None)
    variance = count / (count - 1) * float(((numerators - ratio * denominators) ** 2).sum()) / total**2
    reach = _z(confidence) * math.sqrt(variance)
    return Interval(ratio, ratio - reach, ratio + reach)


def difference_interval(
    first: Float64[np.ndarray, " units"], second: Float64[np.ndarray, " units"], confidence: float
) -> Interval:
    """The mean of first - second over units that were measured twice."""
    return ratio_interval(first - second, np.ones(len(first)), confidence)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
