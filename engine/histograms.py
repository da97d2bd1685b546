"""How numbers are spread, in bars of round edges, so that a range of them can be said.

The outermost thousandth on each side is held by the first and last bar, or one number far out would squeeze
all others into one bar.
"""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

BARS = 36
"""About as many bars; a round width may give from half to twice as many."""
TAIL = 0.001


class Bars(NamedTuple):
    """Where the bars stand, and in which one each number lies."""

    edges: Float64[np.ndarray, " edges"]
    """One more than there are bars, each bar [low, high); the last takes its high end too."""
    places: Int64[np.ndarray, " numbers"]
    """The bar of each number, from 1; 0 where it is missing or infinite."""
    counts: list[int]
    """Numbers in each bar."""
    opens_low: bool
    """Whether the first bar also holds what lies below its edge."""
    opens_high: bool


def bars_of(values: Float64[np.ndarray, " numbers"], whole_numbers: bool) -> Bars:
    """The bars of some numbers; one empty bar where none is finite. `whole_numbers` keeps edges whole."""
    present = values[np.isfinite(values)]
    if not len(present):
        return Bars(np.array([0.0, 1.0]), np.zeros(len(values), dtype=np.int64), [0], False, False)
    low, high = (float(edge) for edge in np.quantile(present, [TAIL, 1 - TAIL]))
    edges = round_edges(low, high, whole_numbers)
    places = np.clip(np.searchsorted(edges, values, side="right"), 1, len(edges) - 1)
    places[~np.isfinite(values)] = 0
    return Bars(
        edges=edges,
        places=places,
        counts=counts(places, len(edges) - 1),
        opens_low=bool(present.min() < edges[0]),
        opens_high=bool(present.max() > edges[-1]),
    )


def counts(places: Int64[np.ndarray, " numbers"], bars: int) -> list[int]:
    """How many places are that of each bar, from 1."""
    counted: list[int] = np.bincount(places, minlength=bars + 1)[1:].tolist()
    return counted


def round_edges(low: float, high: float, whole_numbers: bool = False) -> Float64[np.ndarray, " edges"]:
    """Edges around [low, high] of about `BARS` bars of a round width: 1, 2, 2.5 or 5 times a power of ten."""
    # Edges have twelve digits: a range that is narrower beside its place would have edges that coincide.
    span = max(high - low, 1e-9 * max(abs(low), abs(high)) if high > low else 0.0)
    if span / BARS < sys.float_info.min:
        span = 1.0 if whole_numbers else max(abs(low), 1e-9)
    width = span / BARS
    magnitude = 10.0 ** math.floor(math.log10(width))
    width = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= width * 0.999)
    if whole_numbers:
        width = max(1.0, math.ceil(width))
    first, last = math.floor(low / width), math.floor(high / width) + 1
    if low < 0:  # The quotient of the smallest numbers is -0.
        first = min(first, -1)
    # Not a sum of steps, and without the dust of a product: 0.3 and not 0.30000000000000004.
    return np.array([float(f"{step * width:.12g}") for step in range(first, last + 1)])
