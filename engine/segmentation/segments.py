"""Segments from cuts: what lies between two cuts, its reward, and the merging of the ones too short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64

from engine.segmentation.compiled import compiled
from engine.segmentation.rows import Rows
from engine.types import Segment

Aggregate = Literal["mean", "sum", "last", "min", "max_abs"]
MEAN, SUM, LAST, MIN, MAX_ABS = range(5)
AGGREGATES: dict[Aggregate, int] = {"mean": MEAN, "sum": SUM, "last": LAST, "min": MIN, "max_abs": MAX_ABS}


class RaggedSegments(NamedTuple):
    """The segments of many rows: row i has segments [rows[i], rows[i + 1])."""

    rows: Int64[np.ndarray, " row_starts"]
    start: Int32[np.ndarray, " segments"]
    """Position in the response, from 0."""
    end: Int32[np.ndarray, " segments"]
    reward: Float64[np.ndarray, " segments"]
    """Aggregated scaled reward; NaN where every reward of the segment is missing."""


def segments(rows: Rows, cuts: np.ndarray, aggregate: Aggregate) -> RaggedSegments:
    """What lies between the cuts. Every row's first token must be a cut: segments partition the row."""
    count = int(np.count_nonzero(cuts))
    found = RaggedSegments(
        np.empty(len(rows) + 1, dtype=np.int64),
        np.empty(count, dtype=np.int32),
        np.empty(count, dtype=np.int32),
        np.empty(count, dtype=np.float64),
    )
    _collect(rows.rewards, rows.starts, rows.baselines, rows.scale, cuts, AGGREGATES[aggregate], *found)
    return found


def pivot_ranks(segments: Sequence[Segment]) -> dict[int, int]:
    """Position of every pivot -> its rank, in the order of ranks: 1 is where the reward turns furthest, which
    is |reward of the segment that begins there - reward of the one before|.

    A turn to or from a segment without reward counts as 0; of equal turns the first one goes first.
    """
    rewards = np.array([segment.reward for segment in segments], dtype=np.float64)
    starts = np.array([segment.start for segment in segments], dtype=np.int64)
    turns = np.nan_to_num(np.abs(np.diff(rewards)), nan=0.0)
    order = np.argsort(-turns, kind="stable")
    return {position: rank for rank, position in enumerate(starts[1:][order].tolist(), start=1)}


@compiled
def aggregated(
    rewards: np.ndarray, start: int, end: int, baseline: float, scale: float, aggregate: int
) -> float:
    """One number of the scaled rewards of [start, end), missing ones ignored; NaN where all are missing."""
    total, chosen, count = 0.0, np.nan, 0
    for t in range(start, end):
        scaled = (rewards[t] - baseline) / scale
        if np.isnan(scaled):
            continue
        count += 1
        total += scaled
        if (
            aggregate == LAST
            or (aggregate == MIN and not chosen <= scaled)
            or (aggregate == MAX_ABS and not abs(chosen) >= abs(scaled))
        ):
            chosen = scaled
    if count == 0:
        return np.nan
    if aggregate == MEAN:
        return total / count
    return total if aggregate == SUM else chosen


@compiled
def _collect(
    rewards: np.ndarray,
    starts: np.ndarray,
    baselines: np.ndarray,
    scale: float,
    cuts: np.ndarray,
    aggregate: int,
    segment_rows: np.ndarray,
    segment_start: np.ndarray,
    segment_end: np.ndarray,
    segment_reward: np.ndarray,
) -> None:
    k = 0
    for row in range(len(starts) - 1):
        segment_rows[row] = k
        first, last = starts[row], starts[row + 1]
        start = first
        for t in range(first + 1, last + 1):
            if t == last or cuts[t]:
                segment_start[k] = start - first
                segment_end[k] = t - first
                segment_reward[k] = aggregated(rewards, start, t, baselines[row], scale, aggregate)
                start = t
                k += 1
    segment_rows[len(starts) - 1] = k


@compiled
def merge_short(
    rewards: np.ndarray,
    starts: np.ndarray,
    baselines: np.ndarray,
    scale: float,
    min_len: int,
    signal: np.ndarray,
    cuts: np.ndarray,
) -> None:
    """Merges segments shorter than `min_len`, shortest and then leftmost first, into the nearer neighbour.

    Nearer is who differs less in mean scaled reward, the left one where both do equally or where a mean is
    missing. The merged segment takes the neighbour's signal, and neighbours of one signal become one segment,
    so that segments stay maximal runs. A row shorter than `min_len` ends as one segment.

    A merge never makes a segment of the length being merged or a shorter one. So one sweep from left to right
    for each length is the order asked for, and rows take O(T log min_len).
    """
    for row in range(len(starts) - 1):
        first, tokens = starts[row], starts[row + 1] - starts[row]
        # Doubly linked by position: the segment at i is [i, after[i]), the one before it starts at before[i].
        after = np.zeros(tokens, dtype=np.int64)
        before = np.full(tokens, -1, dtype=np.int64)
        total = np.zeros(tokens)
        present = np.zeros(tokens, dtype=np.int64)
        start = 0
        for t in range(tokens):
            if cuts[first + t] and t > 0:
                after[start], before[t], start = t, start, t
            scaled = (rewards[first + t] - baselines[row]) / scale
            if not np.isnan(scaled):
                total[start] += scaled
                present[start] += 1
        if tokens > 0:
            after[start] = tokens
        length = 1
        while length < min(min_len, tokens):
            longer = tokens
            at = 0
            while at < tokens:
                if after[at] - at != length or (at == 0 and after[at] == tokens):
                    longer = min(longer, after[at] - at) if after[at] - at > length else longer
                    at = after[at]
                    continue
                left, right = before[at], after[at]
                into_left = right == tokens
                if left >= 0 and right < tokens:
                    here = total[at] / present[at] if present[at] else np.nan
                    to_left = abs(total[left] / present[left] - here) if present[left] else np.nan
                    to_right = abs(total[right] / present[right] - here) if present[right] else np.nan
                    into_left = not to_right < to_left
                taken = signal[first + left] if into_left else signal[first + right]
                # From the leftmost to the rightmost segment that now share one signal.
                begin, end = (left, right) if into_left else (at, after[right])
                if into_left and right < tokens and signal[first + right] == taken:
                    end = after[right]
                if not into_left and left >= 0 and signal[first + left] == taken:
                    begin = left
                part = after[begin]
                while part < end:
                    total[begin] += total[part]
                    present[begin] += present[part]
                    cuts[first + part] = False
                    part = after[part]
                signal[first + begin : first + end] = taken
                after[begin] = end
                if end < tokens:
                    before[end] = begin
                longer = min(longer, end - begin)
                at = end
            length = max(length + 1, longer)
