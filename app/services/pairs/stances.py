"""On how many pairs of a run its sources agree with the preference and with each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int8, Int64
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.services.pairs.columns import ScoreColumns, score_columns
from app.services.scorings.sources import scoring_run, source_names
from engine import stances
from engine.stances import AGREES_BELOW as AGREES_BELOW
from engine.stances import CONTRADICTS_ABOVE as CONTRADICTS_ABOVE
from engine.stances import RELATIONS as RELATIONS
from engine.stances import UNKNOWN
from engine.stances import Relation as Relation

PREFERENCE = "preference"
"""What a source is held against where it is not another source."""


@dataclass(frozen=True, slots=True)
class StanceCount:
    """On how many pairs of a run a source agrees with the preference, or with another source."""

    source: str
    against: str
    """`preference`, or the name of a source."""
    agree: int
    mixed: int
    contradict: int

    @property
    def total(self) -> int:
        """Pairs of which it can be said."""
        return self.agree + self.mixed + self.contradict


def stance_matrix(session: Session, run_id: int) -> list[StanceCount]:
    """Every source against the preference and against those asked for before it. Raises NotFound."""
    run = scoring_run(session, run_id)
    names = source_names(run)
    columns = {name: score_columns(session, run, name) for name in names}
    found = []
    for index, name in enumerate(names):
        for against in (PREFERENCE, *names[:index]):
            other = None if against == PREFERENCE else columns[against]
            counts = stances.relation_counts(relations(columns[name], other))
            found.append(StanceCount(name, against, *counts))
    return found


def relations_of(
    session: Session, run: Run, scores: ScoreColumns, against: str
) -> Int8[np.ndarray, " pairs"]:
    """For each pair of `scores` how they relate to the preference or to another source of the run."""
    return relations(scores, None if against == PREFERENCE else score_columns(session, run, against))


def relations(scores: ScoreColumns, other: ScoreColumns | None) -> Int8[np.ndarray, " pairs"]:
    """The code of a relation for each pair of `scores`; `other` None: to the preference."""
    mine = _stances(scores)
    if other is None:
        return mine
    theirs = _stances(other)
    if not np.array_equal(scores.pair_ids, other.pair_ids):
        theirs = aligned(theirs, other.pair_ids, scores.pair_ids, UNKNOWN)
    return stances.relations(mine, theirs)


def aligned(
    values: np.ndarray, ids: Int64[np.ndarray, " known"], wanted: Int64[np.ndarray, " pairs"], missing: float
) -> np.ndarray:
    """The values, which stand at ascending `ids`, at the wanted ids; `missing` where there is none."""
    if not len(ids):
        return np.full(len(wanted), missing, dtype=values.dtype)
    places = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[places] == wanted, values[places], missing).astype(values.dtype)


def _stances(scores: ScoreColumns) -> Int8[np.ndarray, " pairs"]:
    if "stances" not in scores.derived:
        scores.derived["stances"] = stances.stances(scores.numbers["conflict"])
    found: np.ndarray = scores.derived["stances"]
    return found
