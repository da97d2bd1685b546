"""How the numbers of a run's pairs are spread: all of them, and those that pass the filters of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from app.services.datasets.datasets import get_dataset
from app.services.pairs.columns import ScoreColumns
from app.services.pairs.pairs import PairQuery, selection
from engine.histograms import Bars, bars_of, counts

COLUMNS = ("conflict", "margin", "min_reward", "max_reward", "pivots", "tokens")
_WHOLE_NUMBERS = ("pivots", "tokens")


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
        whole=bars.counts,
        selected=None if selected is None else counts(bars.places[selected], len(bars.counts)),
        opens_low=bars.opens_low,
        opens_high=bars.opens_high,
        missing=len(bars.places) - sum(bars.counts),
    )


def _bars(scores: ScoreColumns, column: str) -> Bars:
    """Made once: filters change which pairs are counted, not where the bars stand."""
    name = ("bars", column)
    if name not in scores.derived:
        scores.derived[name] = bars_of(scores.numbers[column], column in _WHOLE_NUMBERS)
    found: Bars = scores.derived[name]
    return found
