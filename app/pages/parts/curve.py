"""The rewards of one response as a small picture: bars by token, the band, what is masked, what is labelled.

SVG with classes only, so that it follows the theme and the content security policy. Long responses are in
bins of which the lowest and the highest value are drawn; the picture says so in its description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from operator import ne

from markupsafe import Markup

from app.services.pairs.drawing import CurveBins
from engine.types import Segment

HEIGHT = 100
FLOOR = 84
"""Where the strip of dropped tokens begins; bars stand above it."""


@dataclass(frozen=True, slots=True)
class RewardCurve:
    """What is drawn."""

    bins: CurveBins
    """Values share a scale with the other side of the pair: 1 is the upper edge, -1 the lower one."""
    segments: Sequence[Segment]
    band: tuple[float, float] | None = None
    """Lower and upper edge of the dead band, in the unit of the values."""
    name: str = "response"
    track: str = "rewards"
    """What the values are, for who cannot see them."""
    is_sequential: bool = False
    """Whether bars stand on the floor, because there is nothing below zero."""


def draw(curve: RewardCurve) -> Markup:
    """The picture, as wide as its place; empty where the response has no token."""
    tokens, bins = curve.bins.tokens, len(curve.bins.high)
    if not tokens:
        return Markup("")
    zero = FLOOR if curve.is_sequential else FLOOR // 2
    parts = [
        f'<svg class=curve viewBox="0 0 {bins} {HEIGHT}" preserveAspectRatio=none ',
        f'data-count={tokens} role=img aria-label="{_says(curve, bins)}">',
        _band(curve, bins),
        _values("pos", curve.bins.high, zero, is_binned=bins < tokens),
        _values("neg", curve.bins.low, zero, is_binned=bins < tokens),
        f'<path class=zero vector-effect=non-scaling-stroke d="M0 {zero}H{bins}"/>',
        _turns(curve.segments, tokens, bins),
        f"<path class=masked d='{_strip(curve.bins.dropped, FLOOR + 3, 5)}'/>",
    ]
    if curve.bins.wrong:
        parts.append(f"<path class=wrong d='{_strip(curve.bins.wrong, FLOOR + 11, 4)}'/>")
    return Markup("".join(parts) + "</svg>")  # noqa: S704 -- numbers and words of this file only


def _says(curve: RewardCurve, bins: int) -> str:
    tokens = curve.bins.tokens
    binned = "" if bins == tokens else f", in {bins} bins of which the lowest and highest value are drawn"
    what = f"{curve.track.capitalize()} of the {tokens} tokens of the {curve.name} response{binned}"
    return f"{what}; the strip beneath marks dropped tokens"


def _height(share: float) -> float:
    """Where a value lies, from the top."""
    return round(FLOOR / 2 * (1 - max(-1.0, min(1.0, share))), 1)


def _values(side: str, shares: Sequence[float], zero: int, *, is_binned: bool) -> str:
    """What lies on one side of zero, in whole units, as one is less than a pixel: a stroke for each token, or
    for bins, which are too many to stand apart, their outline, which is half as long to write."""
    tops = [round(zero - zero * share) for share in shares]
    if not is_binned:
        bars = "".join([f"M{x}.5 {zero}V{top}" for x, top in enumerate(tops) if top != zero])
        return f"<path class={side} d='{bars}'/>"
    begins = [0, *compress(range(1, len(tops)), map(ne, tops, tops[1:])), len(tops)]
    steps = "".join([f"V{tops[begin]}h{end - begin}" for begin, end in pairwise(begins)])
    return f'<path class="{side} area" d="M0 {zero}{steps}V{zero}z"/>'


def _band(curve: RewardCurve, bins: int) -> str:
    if curve.band is None:
        return ""
    low, high = (_height(edge) for edge in curve.band)
    return f'<rect class=band width="{bins}" y="{high:g}" height="{max(0.0, low - high):g}"/>'


def _turns(segments: Sequence[Segment], tokens: int, bins: int) -> str:
    """Dotted lines at the pivots, unless they are so many that they would hide the bars."""
    if not 1 < len(segments) <= 80:
        return ""
    lines = "".join(f"M{segment.start * bins / tokens:.4g} 0V{FLOOR}" for segment in segments[1:])
    return f'<path class=turn vector-effect=non-scaling-stroke d="{lines}"/>'


def _strip(stretches: Sequence[tuple[int, int]], top: int, height: int) -> str:
    """Rectangles over stretches of bins."""
    return "".join([f"M{start} {top}H{end}v{height}H{start}z" for start, end in stretches])
