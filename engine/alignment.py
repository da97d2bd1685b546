"""Which tokens of two responses differ: the longest common subsequence of their tokens, tidied for reading.

The lengths of all common subsequences are kept as bits, a row of them for each token of the second response,
and a row follows from the one before by one addition [Hyyrö 2004]. So the alignment is exact, and its time
and memory are known before it starts: tokens of one times tokens of the other, 64 at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32

MAX_CELLS = 2**30
"""Tokens of one response times those of the other that are still aligned: 128 MiB, and under a second."""


class Differences(NamedTuple):
    """True at the tokens that the other response does not have at this place."""

    left: Bool[np.ndarray, " left"]
    right: Bool[np.ndarray, " right"]


def differences(left: Int32[np.ndarray, " left"], right: Int32[np.ndarray, " right"]) -> Differences | None:
    """The tokens that differ; None where the responses are too long to be aligned.

    A few common tokens between longer differences, such as a comma, are told as different too: alone they say
    nothing of what the responses share, and they would tear a rewritten sentence apart.
    """
    same = min(len(left), len(right))
    unlike = np.flatnonzero(left[:same] != right[:same])
    head = int(unlike[0]) if len(unlike) else same
    unlike = np.flatnonzero(left[::-1][: same - head] != right[::-1][: same - head])
    tail = int(unlike[0]) if len(unlike) else same - head
    inner_left, inner_right = left[head : len(left) - tail], right[head : len(right) - tail]
    if len(inner_left) * len(inner_right) > MAX_CELLS:
        return None
    matches = _tidied(
        [
            *((t, t) for t in range(head)),
            *((head + i, head + j) for i, j in _common(inner_left.tolist(), inner_right.tolist())),
            *((len(left) - back, len(right) - back) for back in range(tail, 0, -1)),
        ],
        len(left),
        len(right),
    )
    found = Differences(np.ones(len(left), dtype=np.bool_), np.ones(len(right), dtype=np.bool_))
    for track, shared in zip(found, zip(*matches, strict=True), strict=False):
        track[list(shared)] = False
    return found


def _common(left: Sequence[int], right: Sequence[int]) -> list[tuple[int, int]]:
    """Positions of a longest common subsequence, ascending.

    Bit i of a row is 0 where token i of `left` makes the common subsequence longer by one.
    """
    if not left or not right:
        return []
    places: dict[int, int] = {}
    for position, token in enumerate(left):
        places[token] = places.get(token, 0) | 1 << position
    everywhere = (1 << len(left)) - 1
    row, rows = everywhere, [everywhere]
    for token in right:
        met = row & places.get(token, 0)
        row = (row + met | row - met) & everywhere
        rows.append(row)
    matches: list[tuple[int, int]] = []
    i, j = len(left), len(right)
    while i and j:
        if rows[j] >> i - 1 & 1:
            i -= 1
        elif j > 1 and not rows[j - 1] >> i - 1 & 1:
            j -= 1
        else:
            i, j = i - 1, j - 1
            matches.append((i, j))
    return matches[::-1]


def _tidied(matches: list[tuple[int, int]], left: int, right: int) -> list[tuple[int, int]]:
    """The matches without the short runs between differences that are longer than they, on either side."""
    runs: list[list[tuple[int, int]]] = []
    for match in matches:
        last = runs[-1][-1] if runs else None
        if last is not None and match == (last[0] + 1, last[1] + 1):
            runs[-1].append(match)
        else:
            runs.append([match])
    edges = [(-1, -1), *(edge for run in runs for edge in (run[0], run[-1])), (left, right)]
    gaps = [max(b[0] - a[0], b[1] - a[1]) - 1 for a, b in list(pairwise(edges))[::2]]
    kept: list[tuple[int, int]] = []
    for run, before, after in zip(runs, gaps[:-1], gaps[1:], strict=True):
        if len(run) >= min(before, after):
            kept += run
    return kept
