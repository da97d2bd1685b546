"""A mergeable summary of all token rewards of a run: moments, median, two-class threshold.

Workers summarise chunks and merge them in any order, and a restart cuts them elsewhere. All sums are
therefore kept as integers, exactly: the same rewards give the same summary, to the last bit, however they
were chunked. The order statistics come from a histogram with bins 2^-8 of their value wide [ours], so that
they are within 0.4 % of the exact ones; a bin that holds one value gives it back exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from engine.segmentation.compiled import compiled

BIN_BITS = 8
"""Leading mantissa bits that, with sign and exponent, name a bin: 256 bins an octave."""
RESIDUAL_BITS = 52 - BIN_BITS
HALF_BITS = RESIDUAL_BITS // 2
MANTISSA_BITS = 52
MAGNITUDE = (1 << 63) - 1
LIMB_BITS = 27
LIMB = (1 << LIMB_BITS) - 1
EXPONENTS = 2046
NORMAL_MAD = 1.4826
"""Times the median distance from the median is the standard deviation of what is normal."""
UNIT = -1074
"""Every double is a multiple of 2^UNIT: sums count these, and sums of squares count 2^(2 UNIT)."""


class RewardStatistics:
    """Summary of the token rewards of one run and source; NaN (and what is not finite) is left out.

    Means, deviations and medians of nothing are NaN.
    """

    def __init__(self) -> None:
        self.count = 0
        """How many rewards there are, missing ones not counted."""
        self.min = math.nan
        self.max = math.nan
        self._sum = 0
        self._squares = 0
        self._bins = _Bins.empty()

    def add(self, rewards: np.ndarray) -> None:
        """Takes in rewards of any shape."""
        # Adding zero makes the negative zero positive, so that both share a bin.
        values = np.asarray(rewards, dtype=np.float64).ravel() + 0.0
        values = values[np.isfinite(values)]
        if not len(values):
            return
        bits = values.view(np.int64)
        self._take(len(values), float(values.min()), float(values.max()), _exact_sums(bits), _Bins.of(bits))

    def merge(self, other: RewardStatistics) -> None:
        """Takes in what another summary has seen; the other one is left as it is."""
        if other.count:
            self._take(other.count, other.min, other.max, _ExactSums(other._sum, other._squares), other._bins)

    def _take(self, count: int, least: float, most: float, sums: _ExactSums, bins: _Bins) -> None:
        self.min = least if not self.count else min(self.min, least)
        self.max = most if not self.count else max(self.max, most)
        self.count += count
        self._sum += sums.total
        self._squares += sums.squares
        self._bins = self._bins.merged(bins)

    @property
    def mean(self) -> float:
        """Correctly rounded."""
        if not self.count:
            return math.nan
        return self._sum / (self.count << -UNIT)

    @property
    def std(self) -> float:
        """Of the population: the mean squared deviation's root. 0 for equal rewards, without cancellation."""
        if not self.count:
            return math.nan
        spread = self.count * self._squares - self._sum**2
        return _root(spread, self.count**2 << -2 * UNIT)

    def median(self) -> float:
        """The middle reward; the mean of the two middle ones where their number is even."""
        return _median(self._bins.means(), self._bins.counts)

    def mad(self) -> float:
        """The median distance from the median: a spread that a few outliers do not move."""
        distances = np.abs(self._bins.means() - self.median())
        order = np.argsort(distances, kind="stable")
        return _median(distances[order], self._bins.counts[order])

    def share_between(self, low: float, high: float) -> float:
        """Share in [0, 1] of the rewards in [low, high), as far as bins tell; NaN of nothing."""
        if not self.count:
            return math.nan
        means = self._bins.means()
        return float(self._bins.counts[(means >= low) & (means < high)].sum()) / self.count

    def classes(self) -> TwoClasses:
        """The two classes that Otsu's threshold makes; NaN where there are none."""
        threshold, means, counts = self.otsu(), self._bins.means(), self._bins.counts
        below = means <= threshold
        lower, upper = int(counts[below].sum()), int(counts[~below].sum())
        if not lower or not upper:
            return TwoClasses(threshold, math.nan, math.nan, math.nan, math.nan)
        low = float(np.average(means[below], weights=counts[below]))
        high = float(np.average(means[~below], weights=counts[~below]))
        share = lower / self.count
        between = share * (1 - share) * ((high - low) / self.std) ** 2
        return TwoClasses(threshold, low, high, share, between)

    def otsu(self) -> float:
        """The two-class threshold of Otsu (1979): where the variance between the classes is largest.

        It lies midway between the highest value of the lower class and the lowest of the upper. Where all
        rewards are equal it is that reward.
        """
        means, counts = self._bins.means(), self._bins.counts.astype(np.float64)
        if len(means) < 2:
            return float(means[0]) if len(means) else math.nan
        # Classes of deviations from the mean, relative to the largest magnitude: no overflow, less rounding.
        size = float(np.abs(means).max())
        deviations = counts * (means / size - self.mean / size)
        lower, lower_sum = np.cumsum(counts)[:-1], np.cumsum(deviations)[:-1]
        upper, upper_sum = counts.sum() - lower, deviations.sum() - lower_sum
        between = lower * upper * (upper_sum / upper - lower_sum / lower) ** 2
        cut = int(np.argmax(between))
        return float(means[cut] / 2 + means[cut + 1] / 2)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; the exact sums are strings, since many readers of JSON round large integers."""
        return {
            "count": self.count,
            "min": None if math.isnan(self.min) else self.min,
            "max": None if math.isnan(self.max) else self.max,
            "sum": str(self._sum),
            "squares": str(self._squares),
            "bins": np.stack(self._bins, axis=1).tolist(),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> RewardStatistics:
        """What `to_dict` wrote."""
        statistics = cls()
        statistics.count = int(fields["count"])
        statistics.min = math.nan if fields["min"] is None else float(fields["min"])
        statistics.max = math.nan if fields["max"] is None else float(fields["max"])
        statistics._sum = int(fields["sum"])
        statistics._squares = int(fields["squares"])
        columns = np.array(fields["bins"], dtype=np.int64).reshape(-1, 4)
        statistics._bins = _Bins(*(np.ascontiguousarray(column) for column in columns.T))
        return statistics

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RewardStatistics) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RewardStatistics(count={self.count}, mean={self.mean:.6g}, std={self.std:.6g})"


class TwoClasses(NamedTuple):
    """Rewards parted in two by a threshold."""

    threshold: float
    low: float
    """Mean of the lower class."""
    high: float
    """Mean of the upper one."""
    share_low: float
    """Share in (0, 1) of the rewards that lie in the lower class."""
    between: float
    """Share in [0, 1] of the variance that lies between the classes; the rest lies within them."""


class _Bins(NamedTuple):
    """A sparse histogram, ordered by value.

    A value's bin is its sign, exponent and first mantissa bits; the residual is what its other mantissa bits
    say. Residuals are summed in two halves, each of which stays far below 2^63.
    """

    keys: Int64[np.ndarray, " bins"]
    """k >= 0 for the magnitude bin k, -1 - k for its mirror image: ascending keys are ascending values."""
    counts: Int64[np.ndarray, " bins"]
    high: Int64[np.ndarray, " bins"]
    low: Int64[np.ndarray, " bins"]

    @classmethod
    def empty(cls) -> _Bins:
        return cls(*(np.zeros(0, dtype=np.int64) for _ in range(4)))

    @classmethod
    def of(cls, bits: Int64[np.ndarray, " tokens"]) -> _Bins:
        """Of doubles, given as their bits."""
        # A dense table from the smallest magnitude to the largest; zero, far below, has the first place.
        magnitudes = (bits & MAGNITUDE) >> RESIDUAL_BITS
        lowest = int(np.min(magnitudes, where=magnitudes > 0, initial=int(magnitudes.max()) + 1))
        places = np.concatenate([[0], np.arange(lowest, int(magnitudes.max()) + 1)])
        table = np.zeros((2 * len(places), 3), dtype=np.int64)
        _count_into_bins(bits, lowest, table)
        occupied = np.flatnonzero(table[:, 0])
        place = places[occupied % len(places)]
        keys = np.where(occupied < len(places), place, -1 - place)
        order = np.argsort(keys)
        return cls(keys[order], *(np.ascontiguousarray(column) for column in table[occupied[order]].T))

    def merged(self, other: _Bins) -> _Bins:
        pairs = zip(self, other, strict=True)
        return _Bins(*(np.concatenate(pair) for pair in pairs))._gathered()

    def _gathered(self) -> _Bins:
        """One row a key, in ascending order."""
        keys, place = np.unique(self.keys, return_inverse=True)
        columns = [np.zeros(len(keys), dtype=np.int64) for _ in range(3)]
        for column, values in zip(columns, self[1:], strict=True):
            np.add.at(column, place, values)
        return _Bins(keys, *columns)

    def means(self) -> Float64[np.ndarray, " bins"]:
        """The mean of every bin."""
        negative = self.keys < 0
        magnitudes = np.where(negative, -1 - self.keys, self.keys)
        base = (magnitudes << RESIDUAL_BITS).view(np.float64)
        ulp = np.spacing(base)
        residuals = self.high / self.counts * 2.0**HALF_BITS + self.low / self.counts
        return np.asarray(np.where(negative, -1.0, 1.0) * (base + residuals * ulp))


def _median(values: np.ndarray, counts: np.ndarray) -> float:
    """The median of ascending values of which each stands `counts` times."""
    if not len(values):
        return math.nan
    ends = np.cumsum(counts)
    middle = float(ends[-1] - 1) / 2
    below, above = (
        float(values[np.searchsorted(ends, position, side="right")])
        for position in (math.floor(middle), math.ceil(middle))
    )
    return below / 2 + above / 2


class _ExactSums(NamedTuple):
    total: int
    squares: int


def _exact_sums(bits: Int64[np.ndarray, " tokens"]) -> _ExactSums:
    limbs = np.zeros((EXPONENTS, 6), dtype=np.int64)
    _add_limbs(bits, limbs)
    total = squares = 0
    for row in np.flatnonzero(limbs.any(axis=1)):
        linear, square = limbs[row, :2].tolist(), limbs[row, 2:].tolist()
        total += _joined(linear) << int(row)
        squares += _joined(square) << 2 * int(row)
    return _ExactSums(total, squares)


def _joined(limbs: list[int]) -> int:
    """The integer of which these are the limbs, lowest first."""
    return reduce(lambda higher, limb: (higher << LIMB_BITS) + limb, reversed(limbs), 0)


@compiled
def _add_limbs(bits: np.ndarray, limbs: np.ndarray) -> None:
    """Adds every double's 53-bit mantissa, and its square, in limbs of 27 bits to the row of its exponent.

    Row e counts multiples of 2^(UNIT + e). A limb overflows after 2^35 doubles.
    """
    for word in bits:
        exponent = (word & MAGNITUDE) >> MANTISSA_BITS
        mantissa = word & ((1 << MANTISSA_BITS) - 1)
        if exponent > 0:
            mantissa |= 1 << MANTISSA_BITS
            exponent -= 1
        high, low = mantissa >> LIMB_BITS, mantissa & LIMB
        sign = -1 if word < 0 else 1
        limbs[exponent, 0] += sign * low
        limbs[exponent, 1] += sign * high
        # (high 2^27 + low)^2, limb by limb.
        least, cross, most = low * low, 2 * high * low, high * high
        limbs[exponent, 2] += least & LIMB
        limbs[exponent, 3] += (least >> LIMB_BITS) + (cross & LIMB)
        limbs[exponent, 4] += (cross >> LIMB_BITS) + (most & LIMB)
        limbs[exponent, 5] += most >> LIMB_BITS


@compiled
def _count_into_bins(bits: np.ndarray, lowest: int, table: np.ndarray) -> None:
    """Adds every double to its bin's count and halves of residuals; negative ones in the second half."""
    places = len(table) // 2
    for word in bits:
        magnitude = (word & MAGNITUDE) >> RESIDUAL_BITS
        place = magnitude - lowest + 1 if magnitude > 0 else 0
        if word < 0:
            place += places
        table[place, 0] += 1
        table[place, 1] += (word >> HALF_BITS) & ((1 << HALF_BITS) - 1)
        table[place, 2] += word & ((1 << HALF_BITS) - 1)


def _root(numerator: int, denominator: int) -> float:
    """sqrt(numerator / denominator) of integers of any size, to double precision."""
    shift = max(0, 140 - numerator.bit_length() + denominator.bit_length())
    shift += shift % 2
    return math.isqrt((numerator << shift) // denominator) / (1 << shift // 2)
