"""A whole response at a glance, as narrow as a scroll bar: colour, pivots, and what is masked or differs.

Tokens are put into bins of which the strongest value is shown, so that a response of 10,000 tokens costs as
much as one of 200. SVG with the classes of the running text only: a stroke a run of equal bins. The same
picture lies on its side as a strip, where several are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup

from app.pages.parts.curve import masked_tokens
from app.pages.parts.highlight import LEVELS
from engine.types import Segment

BINS = 160
SHOWN_PIVOTS = 40
"""More would hide the colours; those where the segment reward turns furthest are shown."""
WIDTH = 16


@dataclass(frozen=True, slots=True)
class Minimap:
    """What is drawn. Arrays have one entry a token."""

    shares: np.ndarray
    """How far each value goes towards the strongest colour, -1 to 1; NaN where missing."""
    segments: Sequence[Segment]
    differing: np.ndarray | None = None
    """True at the tokens that the other side lacks; None where the sides are not compared."""
    disagreeing: np.ndarray | None = None
    """True where sources disagree: drawn instead of what differs, where sources are compared."""
    end_kept: bool = False
    """Whether the last token counts although its segment does not."""


def draw(minimap: Minimap, direction: Literal["down", "across"] = "down") -> Markup:
    """The picture; empty where the response has no token."""
    tokens = len(minimap.shares)
    if not tokens:
        return Markup("")
    bins = min(tokens, BINS)
    starts = np.linspace(0, tokens, bins + 1).astype(int)[:-1]
    pen = _Pen(direction)
    box = f"0 0 {WIDTH} {bins}" if direction == "down" else f"0 0 {bins} {WIDTH}"
    masked = masked_tokens(minimap.segments, tokens, end_kept=minimap.end_kept)
    parts = [
        f'<svg class=map viewBox="{box}" preserveAspectRatio=none aria-hidden=true data-count={tokens}>',
        *(
            f'<path class=b{level} d="{pen.runs(begins, ends, 7)}"/>'
            for level, (begins, ends) in _coloured(_strongest(minimap.shares, starts)).items()
        ),
        _marked("masked", masked, starts, 1 / 2, pen, 14),
        _marked("differs", minimap.differing, starts, 1 / 4, pen, 1),
        _marked("disagrees", minimap.disagreeing, starts, 1 / 2, pen, 8),
        f'<path class=turn d="{_pivots(minimap.segments, tokens, bins, pen)}"/></svg>',
    ]
    return Markup("".join(parts))  # noqa: S704 -- numbers and words of this file only


@dataclass(frozen=True, slots=True)
class _Pen:
    """Writes strokes along the response, which runs down the picture or across it."""

    direction: Literal["down", "across"]

    def runs(self, begins: Sequence[int], ends: Sequence[int], beside: int) -> str:
        """A stroke from each begin to its end, at a distance from the edge."""
        spans = zip(begins, ends, strict=True)
        if self.direction == "down":
            return "".join([f"M{beside} {begin}V{end}" for begin, end in spans])
        return "".join([f"M{begin} {beside}H{end}" for begin, end in spans])

    def across(self, place: float) -> str:
        """A line over the whole width."""
        return f"M0 {place:.4g}H{WIDTH}" if self.direction == "down" else f"M{place:.4g} 0V{WIDTH}"


def _strongest(shares: np.ndarray, starts: np.ndarray) -> list[int]:
    """The level of the strongest value of each bin."""
    known = np.nan_to_num(shares, nan=0.0)
    high, low = np.maximum.reduceat(known, starts), np.minimum.reduceat(known, starts)
    levels: list[int] = np.rint(np.where(high >= -low, high, low) * LEVELS).astype(int).tolist()
    return levels


def _coloured(levels: list[int]) -> dict[int, tuple[list[int], list[int]]]:
    """Each level but 0 with the begins and ends of its runs."""
    runs: dict[int, tuple[list[int], list[int]]] = {}
    begun = 0
    for place in range(1, len(levels) + 1):
        if place == len(levels) or levels[place] != levels[begun]:
            if levels[begun]:
                begins, ends = runs.setdefault(levels[begun], ([], []))
                begins.append(begun)
                ends.append(place)
            begun = place
    return runs


def _marked(
    name: str, marked: np.ndarray | None, starts: np.ndarray, share: float, pen: _Pen, beside: int
) -> str:
    """A line beside the bins of which at least a share is marked; nothing where there is none."""
    if marked is None or not marked.any():
        return ""
    held = np.add.reduceat(marked.astype(np.int32), starts) >= share * np.diff(starts, append=len(marked))
    filled = np.concatenate([[False], held, [False]])
    edges = np.flatnonzero(filled[1:] != filled[:-1]).tolist()
    return f'<path class={name} d="{pen.runs(edges[::2], edges[1::2], beside)}"/>'


def _pivots(segments: Sequence[Segment], tokens: int, bins: int, pen: _Pen) -> str:
    rewards = np.array([segment.reward for segment in segments])
    turns = np.nan_to_num(np.abs(np.diff(rewards)), nan=0.0)
    furthest = np.argsort(-turns, kind="stable")[:SHOWN_PIVOTS].tolist()
    places = [segments[before + 1].start * bins / tokens for before in furthest]
    return "".join([pen.across(place) for place in places])
