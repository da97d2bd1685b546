"""Histograms as small pictures that filter: bars of the selection before those of all pairs, and the range.

SVG with classes only. Bars are as wide as one unit, so that a place of the pointer is a bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.pages.datasets.table import BOUNDED, said_range
from app.pages.parts.numbers import count, plain_number
from app.services.pairs.histograms import Histogram
from app.services.pairs.pairs import PairQuery

HEIGHT = 100
LEAST = 3
"""Height of a bar of one pair beside one of 10,000: what is there is seen."""
HINTS = {
    "conflict": "Share of |reward| in segments that contradict the preference",
    "margin": "Reward of the chosen response less that of the rejected one",
    "min_reward": "Lowest token reward of the pair",
    "max_reward": "Highest token reward of the pair",
    "pivots": "Where the reward turns, in both responses",
    "tokens": "Response tokens, both sides",
}


@dataclass(frozen=True, slots=True)
class HistogramPanel:
    """A histogram, its number fields and its sliders."""

    column: str
    label: str
    hint: str
    picture: Markup
    bars: int
    low_name: str
    high_name: str
    low: str
    """What the number fields hold; blank for no bound."""
    high: str
    step: str
    first: str
    """The axis: from this edge ..."""
    last: str
    """... to this one."""
    bar: str
    """The width of a bar."""
    slider_low: str
    slider_high: str
    said: str
    """The range in words."""
    is_bounded: bool
    is_whole: bool
    starts: str
    """What stands under the left end."""
    ends: str


def panels(found: Sequence[Histogram], query: PairQuery) -> list[HistogramPanel]:
    """A panel for each column that has any number."""
    return [_panel(one, query) for one in found if sum(one.whole)]


def _panel(one: Histogram, query: PairQuery) -> HistogramPanel:
    least, most = getattr(query, f"min_{one.column}"), getattr(query, f"max_{one.column}")
    first, last = one.edges[0], one.edges[-1]
    is_whole = one.column in ("pivots", "tokens")
    width = (last - first) / (len(one.edges) - 1)
    return HistogramPanel(
        column=one.column,
        label=BOUNDED[one.column],
        hint=HINTS[one.column],
        picture=_picture(one, least, most),
        bars=len(one.whole),
        low_name=f"min_{one.column}",
        high_name=f"max_{one.column}",
        low=_field(least),
        high=_field(most),
        step="1" if is_whole else "any",
        first=_field(first),
        last=_field(last),
        bar=_field(width),
        slider_low=_field(first if least is None else min(max(least, first), last)),
        slider_high=_field(last if most is None else min(max(most, first), last)),
        said=said_range(least, most),
        is_bounded=least is not None or most is not None,
        is_whole=is_whole,
        starts=("≤ " if one.opens_low else "") + (count(int(first)) if is_whole else plain_number(first)),
        ends=("≥ " if one.opens_high else "") + (count(int(last) - 1) if is_whole else plain_number(last)),
    )


def _picture(one: Histogram, least: float | None, most: float | None) -> Markup:
    highest = max(one.whole)
    bars = len(one.whole)
    selected = one.whole if one.selected is None else one.selected
    first, width = one.edges[0], (one.edges[-1] - one.edges[0]) / bars
    from_ = 0.0 if least is None else min(max((least - first) / width, 0), bars)
    ends_after = 1 if one.column in ("pivots", "tokens") else 0
    to = float(bars) if most is None else min(max((most + ends_after - first) / width, 0), bars)
    parts = [
        f'<svg class="bars" viewBox="0 0 {bars} {HEIGHT}" preserveAspectRatio="none" role="img" ',
        f'aria-label="{_says(one)}">',
        f'<rect class="brush" x="{from_:.3f}" y="0" width="{max(to - from_, 0):.3f}" height="{HEIGHT}"/>',
        f'<path class="whole" d="{_bars(one.whole, highest)}"/>',
        f'<path class="chosen" d="{_bars(selected, highest)}"/>',
    ]
    if first < 0 < one.edges[-1]:
        zero = -first / width
        parts.append(f'<path class="zero" d="M{zero:.3f} 0V{HEIGHT}"/>')
    return Markup("".join(parts) + "</svg>")  # noqa: S704 - numbers and our own words


def _bars(counts: Sequence[int], highest: int) -> str:
    drawn = []
    for place, pairs in enumerate(counts):
        if pairs:
            height = max(LEAST, round((HEIGHT - 4) * pairs / highest, 1))
            drawn.append(f"M{place + 0.06} {HEIGHT}v-{height}h.88v{height}z")
    return "".join(drawn)


def _says(one: Histogram) -> str:
    told = f"{BOUNDED[one.column]} of {count(sum(one.whole))} pairs"
    peak = one.whole.index(max(one.whole))
    told += f", most between {plain_number(one.edges[peak])} and {plain_number(one.edges[peak + 1])}"
    return told if one.selected is None else f"{told}; {count(sum(one.selected))} pass the filters"


def _field(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"
