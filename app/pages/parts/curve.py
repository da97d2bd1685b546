"""The rewards of one response as a small picture: bars by token, the band, what is masked, what is labelled.

SVG with classes only, so that it follows the theme and the content security policy. Long responses are put
into bins of which the lowest and the highest value are drawn; the picture says so in its description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from engine.types import Segment

BINS = 320
HEIGHT = 100
FLOOR = 84
"""Where the strip of masked tokens begins; bars stand above it."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What is drawn. Values share the scale `reach` with the other side of the pair."""

    values: np.ndarray
    """One a token; NaN where missing."""
    reach: float
    """The value at the upper and lower edge; what lies beyond is cut."""
    segments: Sequence[Segment]
    band: tuple[float, float] | None = None
    """Lower and upper edge of the dead band, in the unit of `values`."""
    wrong: np.ndarray | None = None
    """True at tokens that are labelled as errors."""
    name: str = "response"
    lane: str = "rewards"
    """What the values are, for who cannot see them."""
    end_kept: bool = False
    """Whether the last token counts although its segment does not, as an end of sequence may."""
    is_sequential: bool = False
    """Whether bars stand on the floor, because there is nothing below zero."""


def draw(curve: Curve) -> Markup:
    """The picture, as wide as its place."""
    tokens = len(curve.values)
    if not tokens or curve.reach <= 0:
        return Markup("")
    bins = min(tokens, BINS)
    edges = np.linspace(0, tokens, bins + 1).astype(int)
    # The edge of the first bin may be repeated where bins are as many as tokens; reduceat wants starts only.
    starts = edges[:-1]
    known = np.nan_to_num(curve.values, nan=0.0)
    high = np.maximum(np.maximum.reduceat(known, starts), 0)
    low = np.minimum(np.minimum.reduceat(known, starts), 0)
    masked = masked_tokens(curve.segments, tokens, end_kept=curve.end_kept)
    zero = FLOOR if curve.is_sequential else FLOOR // 2
    parts = [
        f'<svg class=curve viewBox="0 0 {bins} {HEIGHT}" preserveAspectRatio=none ',
        f'data-count={tokens} role=img aria-label="{_says(curve, bins)}">',
        _band(curve, bins),
        _values("pos", high / curve.reach, zero, is_binned=bins < tokens),
        _values("neg", low / curve.reach, zero, is_binned=bins < tokens),
        f'<path class=zero vector-effect=non-scaling-stroke d="M0 {zero}H{bins}"/>',
        _turns(curve.segments, tokens, bins),
        f"<path class=masked d='{_strip(masked, starts, FLOOR + 3, 5)}'/>",
    ]
    if curve.wrong is not None and curve.wrong.any():
        parts.append(f"<path class=wrong d='{_strip(curve.wrong, starts, FLOOR + 11, 4)}'/>")
    return Markup("".join(parts) + "</svg>")  # noqa: S704 -- numbers and words of this file only


def _says(curve: Curve, bins: int) -> str:
    tokens = len(curve.values)
    binned = "" if bins == tokens else f", in {bins} bins of which the lowest and highest value are drawn"
    what = f"{curve.lane.capitalize()} of the {tokens} tokens of the {curve.name} response{binned}"
    return f"{what}; the strip beneath marks masked tokens"


def _height(value: float, reach: float) -> float:
    """Where a value lies, from the top."""
    return round(FLOOR / 2 * (1 - max(-1.0, min(1.0, value / reach))), 1)


def _values(side: str, shares: np.ndarray, zero: int, *, is_binned: bool) -> str:
    """What lies on one side of zero, in whole units, as one is less than a pixel: a stroke for each token, or
    for bins, which are too many to stand apart, their outline, which is half as long to write."""
    tops = np.rint(zero - zero * np.clip(shares, -1, 1)).astype(int)
    if not is_binned:
        bars = "".join([f"M{x}.5 {zero}V{top}" for x, top in enumerate(tops.tolist()) if top != zero])
        return f"<path class={side} d='{bars}'/>"
    begins = np.flatnonzero(np.diff(tops, prepend=tops[0] - 1))
    lengths = np.diff(begins, append=len(tops)).tolist()
    steps = "".join([f"V{top}h{n}" for top, n in zip(tops[begins].tolist(), lengths, strict=True)])
    return f'<path class="{side} area" d="M0 {zero}{steps}V{zero}z"/>'


def _band(curve: Curve, bins: int) -> str:
    if curve.band is None:
        return ""
    low, high = (_height(edge, curve.reach) for edge in curve.band)
    return f'<rect class=band width="{bins}" y="{high:g}" height="{max(0.0, low - high):g}"/>'


def _turns(segments: Sequence[Segment], tokens: int, bins: int) -> str:
    """Dotted lines at the pivots, unless they are so many that they would hide the bars."""
    if not 1 < len(segments) <= 80:
        return ""
    lines = "".join(f"M{segment.start * bins / tokens:.4g} 0V{FLOOR}" for segment in segments[1:])
    return f'<path class=turn vector-effect=non-scaling-stroke d="{lines}"/>'


def masked_tokens(segments: Sequence[Segment], tokens: int, *, end_kept: bool = False) -> np.ndarray:
    """True at the tokens of segments that are not kept; `end_kept` takes the last token out."""
    masked = np.array([not segment.kept for segment in segments], dtype=bool)
    lengths = np.array([segment.end - segment.start for segment in segments], dtype=np.int64)
    found = np.repeat(masked, lengths) if len(segments) else np.zeros(tokens, dtype=bool)
    if end_kept and len(found):
        found[-1] = False
    return found


def _strip(marked: np.ndarray, starts: np.ndarray, top: int, height: int) -> str:
    """Rectangles over the bins that hold a marked token, neighbours joined."""
    filled = np.concatenate([[False], np.logical_or.reduceat(marked, starts), [False]])
    edges = np.flatnonzero(filled[1:] != filled[:-1]).tolist()
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return "".join(f"M{start} {top}H{end}v{height}H{start}z" for start, end in pairs)
