"""How the numbers of a run's pairs are spread: all of them, and those that pass the filters of a table.

Bars have round edges, so that a range of them can be said. The outermost thousandth on each side is held by
the first and last bar, or one pair far out would squeeze all others into one bar.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from sqlalchemy.orm import Session

from app.services.datasets.datasets import get_dataset
from app.services.pairs.columns import ScoreColumns
from app.services.pairs.pairs import PairQuery, selection

COLUMNS = ("conflict", "margin", "min_reward", "max_reward", "pivots", "tokens")
_WHOLE_NUMBERS = ("pivots", "tokens")
BARS = 36
"""About as many bars; a round width may give from half to twice as many."""
_TAIL = 0.001


@dataclass(frozen=True, slots=True)
class Histogram:
    """One column of a run's pairs in bars."""

    column: str
    edges: list[float]
    """One more than there are bars, each bar [low, high); the last takes its high end too."""
    whole: list[int]
    """Pairs of the run in each bar."""
    selected: list[int] | None
    """Those among them that pass the filters; None where saying it would mean reading every text."""
    opens_low: bool
    """Whether the first bar also holds what lies below its edge."""
    opens_high: bool
    missing: int
    """Pairs of the run of which the number cannot be said."""


def histograms(
    session: Session, dataset_id: int, query: PairQuery, known: Sequence[int] | None = None
) -> list[Histogram]:
    """The histograms of all columns under the run, source and filters of `query`; none without a run. `known`
    are the ids of all pairs that pass, where whoever asks has them.

    Raises as `list_pairs`.
    """
    chosen = selection(session, get_dataset(session, dataset_id), query)
    scores = chosen.scores
    if scores is None or not len(scores.pair_ids):
        return []
    passing = known if known is not None else None if chosen.reads_texts else chosen.pair_ids
    selected = None if passing is None else np.isin(scores.pair_ids, np.asarray(passing, dtype=np.int64))
    return [_histogram(scores, column, selected) for column in COLUMNS]


def _histogram(scores: ScoreColumns, column: str, selected: np.ndarray | None) -> Histogram:
    bars = _bars(scores, column)
    return Histogram(
        column=column,
        edges=bars.edges.tolist(),
        whole=bars.whole,
        selected=None if selected is None else _counts(bars.places[selected], len(bars.whole)),
        opens_low=bars.opens_low,
        opens_high=bars.opens_high,
        missing=len(bars.places) - sum(bars.whole),
    )


class _Bars(NamedTuple):
    edges: Float64[np.ndarray, " edges"]
    places: Int64[np.ndarray, " pairs"]
    """The bar of each pair, from 1; 0 where it has no number."""
    whole: list[int]
    opens_low: bool
    opens_high: bool


def _bars(scores: ScoreColumns, column: str) -> _Bars:
    """Made once: filters change which pairs are counted, not where the bars stand."""
    name = ("bars", column)
    if name not in scores.derived:
        scores.derived[name] = _made_bars(scores.numbers[column], column in _WHOLE_NUMBERS)
    found: _Bars = scores.derived[name]
    return found


def _made_bars(values: Float64[np.ndarray, " pairs"], whole_numbers: bool) -> _Bars:
    present = values[np.isfinite(values)]
    if not len(present):
        return _Bars(np.array([0.0, 1.0]), np.zeros(len(values), dtype=np.int64), [0], False, False)
    low, high = (float(edge) for edge in np.quantile(present, [_TAIL, 1 - _TAIL]))
    edges = round_edges(low, high, whole_numbers)
    places = np.clip(np.searchsorted(edges, values, side="right"), 1, len(edges) - 1)
    places[~np.isfinite(values)] = 0
    return _Bars(
        edges=edges,
        places=places,
        whole=_counts(places, len(edges) - 1),
        opens_low=bool(present.min() < edges[0]),
        opens_high=bool(present.max() > edges[-1]),
    )


def round_edges(low: float, high: float, whole_numbers: bool = False) -> Float64[np.ndarray, " edges"]:
    """Edges around [low, high] of about `BARS` bars of a round width: 1, 2, 2.5 or 5 times a power of ten."""
    # Edges have twelve digits: a range that is narrower beside its place would have edges that coincide.
    span = max(high - low, 1e-9 * max(abs(low), abs(high)) if high > low else 0.0)
    if span <= 0:
        span = 1.0 if whole_numbers else max(abs(low), 1e-9)
    width = span / BARS
    magnitude = 10.0 ** math.floor(math.log10(width))
    width = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= width * 0.999)
    if whole_numbers:
        width = max(1.0, math.ceil(width))
    first, last = math.floor(low / width), math.floor(high / width) + 1
    # Not a sum of steps, and without the dust of a product: 0.3 and not 0.30000000000000004.
    return np.array([float(f"{step * width:.12g}") for step in range(first, last + 1)])


def _counts(places: Int64[np.ndarray, " pairs"], bars: int) -> list[int]:
    counted: list[int] = np.bincount(places, minlength=bars + 1)[1:].tolist()
    return counted
