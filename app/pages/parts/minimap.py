"""A whole response at a glance, as narrow as a scroll bar: colour, pivots, and what is masked or differs.

Tokens lie in bins of which the strongest value is shown, so that a response of 10,000 tokens costs as
much as one of 200. SVG with the classes of the running text only: a stroke a run of equal bins. The same
picture lies on its side as a strip, where several are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice, pairwise
from operator import ne
from typing import Literal

from markupsafe import Markup

from app.services.pairs.drawing import StripBins

SHOWN_PIVOTS = 40
"""More would hide the colours; those where the segment reward turns furthest are shown."""
WIDTH = 16


@dataclass(frozen=True, slots=True)
class Minimap:
    """What is drawn."""

    bins: StripBins
    ranks: Mapping[int, int] = field(default_factory=dict)
    """Position of every pivot, and its rank, in the order of ranks."""


def draw(minimap: Minimap, direction: Literal["down", "across"] = "down") -> Markup:
    """The picture; empty where the response has no token."""
    found = minimap.bins
    tokens, bins = found.tokens, len(found.levels)
    if not tokens:
        return Markup("")
    pen = _Pen(direction)
    box = f"0 0 {WIDTH} {bins}" if direction == "down" else f"0 0 {bins} {WIDTH}"
    turns = [position * bins / tokens for position in islice(minimap.ranks, SHOWN_PIVOTS)]
    parts = [
        f'<svg class=map viewBox="{box}" preserveAspectRatio=none aria-hidden=true data-count={tokens}>',
        *(
            f'<path class=b{level} d="{pen.strokes(stretches, 7)}"/>'
            for level, stretches in _coloured(found.levels).items()
        ),
        _marked("masked", found.dropped, pen, 14),
        _marked("differs", found.differing, pen, 1),
        _marked("disagrees", found.disagreeing, pen, 8),
        f'<path class=turn d="{"".join([pen.across(place) for place in turns])}"/></svg>',
    ]
    return Markup("".join(parts))  # noqa: S704 -- numbers and words of this file only


@dataclass(frozen=True, slots=True)
class _Pen:
    """Writes strokes along the response, which runs down the picture or across it."""

    direction: Literal["down", "across"]

    def strokes(self, stretches: Iterable[tuple[int, int]], beside: int) -> str:
        """A stroke along each stretch of bins, at a distance from the edge."""
        if self.direction == "down":
            return "".join([f"M{beside} {begin}V{end}" for begin, end in stretches])
        return "".join([f"M{begin} {beside}H{end}" for begin, end in stretches])

    def across(self, place: float) -> str:
        """A line over the whole width."""
        return f"M0 {place:.4g}H{WIDTH}" if self.direction == "down" else f"M{place:.4g} 0V{WIDTH}"


def _coloured(levels: Sequence[int]) -> dict[int, list[tuple[int, int]]]:
    """Each level but 0 with the stretches of bins that have it."""
    stretches: dict[int, list[tuple[int, int]]] = {}
    edges = [0, *compress(range(1, len(levels)), map(ne, levels, levels[1:])), len(levels)]
    for begin, end in pairwise(edges):
        if levels[begin]:
            stretches.setdefault(levels[begin], []).append((begin, end))
    return stretches


def _marked(name: str, stretches: Sequence[tuple[int, int]], pen: _Pen, beside: int) -> str:
    """A line beside stretches of bins; nothing where there is none."""
    return f'<path class={name} d="{pen.strokes(stretches, beside)}"/>' if stretches else ""
