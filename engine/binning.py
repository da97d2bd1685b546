"""A response of any length in a bounded number of bins, and what is marked in it as runs of bins.

Bin i of n holds the tokens [floor(i T / n), floor((i + 1) T / n)); n is never more than there are tokens.
Missing values (NaN) count as 0 here: a bin shows what stands out in it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

from engine.colouring import LEVELS

CURVE_BINS = 320
STRIP_BINS = 160
Stretch = tuple[int, int]
"""Bins [begin, end)."""


class CurveBins(NamedTuple):
    """A response as bars above and below zero. Lists have one entry a bin."""

    tokens: int
    low: list[float]
    """The lowest value of each bin, 0 at most."""
    high: list[float]
    """The highest value of each bin, 0 at least."""
    dropped: list[Stretch]
    """Bins that hold any token that is left out."""
    wrong: list[Stretch]
    """Bins that hold any token that is labelled as an error."""


class StripBins(NamedTuple):
    """A response as a narrow strip of colours."""

    tokens: int
    levels: list[int]
    """The class of colour of each bin's strongest value."""
    dropped: list[Stretch]
    """Bins of which at least half is left out."""
    differing: list[Stretch]
    """Bins of which at least a quarter is not in the other response."""
    disagreeing: list[Stretch]
    """Bins on at least half of which sources disagree."""


def curve_bins(
    values: Float[np.ndarray, " tokens"],
    dropped: Bool[np.ndarray, " tokens"],
    wrong: Bool[np.ndarray, " tokens"] | None = None,
) -> CurveBins:
    """The bins of a curve; none where there is no token."""
    tokens = len(values)
    if not tokens:
        return CurveBins(0, [], [], [], [])
    starts = bin_starts(tokens, CURVE_BINS)
    known = np.nan_to_num(values, nan=0.0)
    return CurveBins(
        tokens=tokens,
        low=np.minimum(np.minimum.reduceat(known, starts), 0).tolist(),
        high=np.maximum(np.maximum.reduceat(known, starts), 0).tolist(),
        dropped=runs(np.logical_or.reduceat(dropped, starts)),
        wrong=[] if wrong is None else runs(np.logical_or.reduceat(wrong, starts)),
    )


def strip_bins(
    shares: Float[np.ndarray, " tokens"],
    dropped: Bool[np.ndarray, " tokens"] | None = None,
    differing: Bool[np.ndarray, " tokens"] | None = None,
    disagreeing: Bool[np.ndarray, " tokens"] | None = None,
) -> StripBins:
    """The bins of a strip; none where there is no token. `shares` are those of a `Colouring`."""
    tokens = len(shares)
    if not tokens:
        return StripBins(0, [], [], [], [])
    starts = bin_starts(tokens, STRIP_BINS)
    known = np.nan_to_num(shares, nan=0.0)
    high, low = np.maximum.reduceat(known, starts), np.minimum.reduceat(known, starts)
    return StripBins(
        tokens=tokens,
        levels=np.rint(np.where(high >= -low, high, low) * LEVELS).astype(int).tolist(),
        dropped=_marked(dropped, starts, 1 / 2),
        differing=_marked(differing, starts, 1 / 4),
        disagreeing=_marked(disagreeing, starts, 1 / 2),
    )


def bin_starts(tokens: int, most: int) -> Int64[np.ndarray, " bins"]:
    """The first token of each of at most `most` bins."""
    return np.linspace(0, tokens, min(tokens, most) + 1).astype(np.int64)[:-1]


def runs(marked: Bool[np.ndarray, " bins"]) -> list[Stretch]:
    """Where marked bins begin and end, neighbours joined."""
    filled = np.concatenate([[False], marked, [False]])
    edges = np.flatnonzero(filled[1:] != filled[:-1]).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _marked(marked: np.ndarray | None, starts: np.ndarray, share: float) -> list[Stretch]:
    """The runs of bins of which at least a share is marked."""
    if marked is None or not marked.any():
        return []
    held = np.add.reduceat(marked.astype(np.int32), starts)
    return runs(held >= share * np.diff(starts, append=len(marked)))
