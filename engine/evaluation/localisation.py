"""Whether token rewards point at the wrong tokens, and pivots at the places where right turns wrong.

Knows annotations as spans and rewards as arrays; knows no model. AUROC here is always that of finding wrong
tokens by low rewards: 1 when every wrong token has a lower reward than every right one, .5 for a coin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from engine.types import Span

EXACT_TOKENS = 2**23
"""A tally keeps every reward up to here (about 40 MB), and counts in bins beyond."""

_BIN_BITS = 20
_DROPPED_BITS = 32 - _BIN_BITS


class Auroc(NamedTuple):
    """AUROC with its interval; value and interval are None where they are not defined."""

    value: float | None
    """None where one of the classes is missing."""
    low: float | None
    high: float | None
    wrong: int
    """Tokens labelled wrong that have a score."""
    right: int
    error: float = 0.0
    """Bound of the error that counting in bins makes; 0 where the value is exact."""


class BoundaryScores(NamedTuple):
    """Precision, recall and F1; None where nothing was predicted, nothing was to be found, or both."""

    precision: float | None
    recall: float | None
    f1: float | None


def auroc(scores: Sequence[float] | np.ndarray, labels: Sequence[float] | np.ndarray) -> float | None:
    """P(score of a 1 > score of a 0) + P(equal)/2, exact; None where a class is missing.

    labels: 1, 0, or NaN for unknown. Where either is NaN, the entry is left out. To find wrong tokens (1) by
    low rewards, hand over the negated rewards.
    """
    return auroc_with_interval(scores, labels).value


def auroc_with_interval(
    scores: Sequence[float] | np.ndarray, labels: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> Auroc:
    """AUROC as `auroc`, with the interval of DeLong, DeLong and Clarke-Pearson (1988).

    The interval takes entries as independent. Tokens of one response are not: it is then too narrow.
    """
    values = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(labels, dtype=np.float64)
    if values.shape != truth.shape:
        raise ValueError(f"There are {values.size} scores for {truth.size} labels; give one label a score.")
    known = ~(np.isnan(values) | np.isnan(truth))
    return _auroc_of_counts(*_counts(values[known & (truth == 1)], values[known & (truth == 0)]), confidence)


def token_labels(
    spans: Sequence[Span] | None, offsets: np.ndarray | Sequence[Sequence[int]]
) -> Float32[np.ndarray, " response"]:
    """1 where a token overlaps a span that blames, 0 where none does, NaN where nobody can say.

    Unknown are: every token where `spans` is None (nobody annotated); tokens that overlap a span without a
    value (the neighbour of a missing word); tokens without characters, such as the EOS. Blame wins over both
    the unknown and praise.
    """
    bounds = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)  # (T, 2)
    if spans is None:
        return np.full(len(bounds), np.nan, dtype=np.float32)
    labels = np.zeros(len(bounds), dtype=np.float32)
    wrong = np.zeros(len(bounds), dtype=bool)
    for span in spans:
        inside = (bounds[:, 0] < span.end) & (bounds[:, 1] > span.start)
        if span.value is None:
            labels[inside] = np.nan
        elif span.value < 0:
            wrong |= inside
    labels[wrong] = 1
    labels[bounds[:, 0] == bounds[:, 1]] = np.nan
    return labels


def judged_labels(
    spans: Sequence[Span], offsets: np.ndarray | Sequence[Sequence[int]]
) -> Float32[np.ndarray, " response"]:
    """1 where a token overlaps a span that blames, 0 where it overlaps only praise, NaN elsewhere.

    As `token_labels`, but for whoever judged stretches and not whole responses: what lies outside of all
    spans was not looked at, and is no right token.
    """
    bounds = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)  # (T, 2)
    labels = token_labels(spans, bounds)
    judged = np.zeros(len(bounds), dtype=bool)
    for span in spans:
        judged |= (bounds[:, 0] < span.end) & (bounds[:, 1] > span.start)
    labels[~judged] = np.nan
    return labels


def stretch_of(span: Span, offsets: np.ndarray) -> tuple[int, int] | None:
    """Tokens [first, end) that share a character with the span; None where there is none. offsets: (T, 2)."""
    inside = np.flatnonzero((offsets[:, 0] < span.end) & (offsets[:, 1] > span.start))
    return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else None


def label_boundaries(labels: np.ndarray) -> list[int]:
    """The tokens whose label differs from the last known one before them: the true pivots."""
    known = np.flatnonzero(~np.isnan(labels))
    changes = np.flatnonzero(np.diff(labels[known])) + 1
    return [int(position) for position in known[changes]]


def boundary_f1(pivots: Sequence[int], boundaries: Sequence[int], tolerance: int = 0) -> BoundaryScores:
    """How well pivots hit true boundaries, each of which may be hit once, at most `tolerance` tokens away."""
    hits, found, true = boundary_hits(pivots, boundaries, tolerance), len(pivots), len(boundaries)
    return BoundaryScores(
        hits / found if found else None,
        hits / true if true else None,
        2 * hits / (found + true) if found or true else None,
    )


def boundary_hits(pivots: Sequence[int], boundaries: Sequence[int], tolerance: int = 0) -> int:
    """How many true boundaries are hit, each at most once, by a pivot at most `tolerance` tokens away."""
    true = sorted(boundaries)
    hits = first = 0
    for pivot in sorted(pivots):
        while first < len(true) and true[first] < pivot - tolerance:
            first += 1
        if first < len(true) and true[first] <= pivot + tolerance:
            hits += 1
            first += 1
    return hits


class LocalisationTally:
    """Pools the tokens of a run, response by response, for the AUROC of finding wrong ones by low rewards.

    Memory is bounded: up to EXACT_TOKENS rewards are kept as float32 and the AUROC is exact; beyond, they are
    counted in 2^20 bins of equal leading bits (a relative width of 2^-11), and the result says how far off it
    may be. The result does not depend on the order of responses, nor on how they are spread over tallies.
    """

    def __init__(self, exact_tokens: int = EXACT_TOKENS) -> None:
        self._exact_tokens = exact_tokens
        self._kept: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])  # wrong, right
        self._bins: Int64[np.ndarray, "2 bins"] | None = None
        self.wrong = 0
        self.right = 0

    def add(self, rewards: np.ndarray, labels: np.ndarray) -> None:
        """Counts the tokens of one response that have both a reward and a label. Both (T,)."""
        if rewards.shape != labels.shape:
            raise ValueError(f"There are {rewards.size} rewards for {labels.size} labels; give one a token.")
        known = ~(np.isnan(rewards) | np.isnan(labels))
        values = rewards.astype(np.float32) + np.float32(0)  # -0 becomes 0, which has other bits
        self._keep(values[known & (labels == 1)], values[known & (labels == 0)])

    def merge(self, other: LocalisationTally) -> None:
        """Counts all that another tally counted."""
        for wrong in other._kept[0]:
            self._keep(wrong, wrong[:0])
        for right in other._kept[1]:
            self._keep(right[:0], right)
        if other._bins is not None:
            self.wrong += int(other._bins[0].sum())
            self.right += int(other._bins[1].sum())
            self._fold()
            assert self._bins is not None
            self._bins += other._bins

    def result(self, confidence: float = 0.95) -> Auroc:
        """The pooled AUROC; its interval takes tokens as independent, which is too narrow."""
        if self._bins is None:
            return _auroc_of_counts(*_counts(-_joined(self._kept[0]), -_joined(self._kept[1])), confidence)
        wrong, right = self._bins[:, ::-1]  # low rewards are high scores
        ties = float((wrong * right / max(1, self.wrong * self.right)).sum()) / 2
        return _auroc_of_counts(wrong, right, confidence)._replace(error=ties)

    def _keep(self, wrong: np.ndarray, right: np.ndarray) -> None:
        self.wrong += len(wrong)
        self.right += len(right)
        for kept, values in zip(self._kept, (wrong, right), strict=True):
            if len(values):
                kept.append(values)
        if self._bins is not None or self.wrong + self.right > self._exact_tokens:
            self._fold()

    def _fold(self) -> None:
        """Moves what is kept into the bins."""
        if self._bins is None:
            self._bins = np.zeros((2, 2**_BIN_BITS), dtype=np.int64)
        for counts, kept in zip(self._bins, self._kept, strict=True):
            np.add.at(counts, _bin(_joined(kept)), 1)
            kept.clear()


def _joined(parts: list[np.ndarray]) -> Float32[np.ndarray, " tokens"]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)


def _bin(values: Float32[np.ndarray, " tokens"]) -> Int64[np.ndarray, " tokens"]:
    """The leading bits of float32 numbers, turned so that they order as the numbers do."""
    bits = values.view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (ordered >> _DROPPED_BITS).astype(np.int64)


def _counts(
    ones: np.ndarray, zeros: np.ndarray
) -> tuple[Int64[np.ndarray, " scores"], Int64[np.ndarray, " scores"]]:
    """How many ones and how many zeros have each distinct score, in ascending order."""
    distinct, place = np.unique(np.concatenate([ones, zeros]), return_inverse=True)
    return (
        np.bincount(place[: len(ones)], minlength=len(distinct)),
        np.bincount(place[len(ones) :], minlength=len(distinct)),
    )


def _auroc_of_counts(
    ones: Int64[np.ndarray, " scores"], zeros: Int64[np.ndarray, " scores"], confidence: float
) -> Auroc:
    """AUROC of ones against zeros, counted at ascending scores, with DeLong's interval."""
    m, n = int(ones.sum()), int(zeros.sum())
    if not m or not n:
        return Auroc(None, None, None, m, n)
    zeros_below = (np.cumsum(zeros) - zeros / 2) / n  # share of zeros that a one here beats
    ones_above = (m - np.cumsum(ones) + ones / 2) / m  # share of ones that beat a zero here
    twice = int((ones * (2 * np.cumsum(zeros) - zeros)).sum())
    value = twice / (2 * m * n)
    if m < 2 or n < 2:
        return Auroc(value, None, None, m, n)
    variance = _variance(zeros_below, ones, value) / m + _variance(ones_above, zeros, value) / n
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance)
    return Auroc(value, max(0.0, value - reach), min(1.0, value + reach), m, n)


def _variance(
    shares: Float64[np.ndarray, " scores"], weights: Int64[np.ndarray, " scores"], mean: float
) -> float:
    """Sample variance of shares that occur `weights` times."""
    return float((weights * (shares - mean) ** 2).sum()) / (int(weights.sum()) - 1)
