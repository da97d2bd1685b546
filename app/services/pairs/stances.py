"""Whether a source of token rewards agrees with the preference, and two sources with each other.

A source agrees with the preference on a pair where less than a quarter of its reward mass lies in segments
that contradict it, and contradicts where more than half does; between them it is mixed. (No segment at all
contradicts in hardly any pair: real rewards are noisy.) Two sources agree where both agree with the
preference or both contradict it, contradict where one does this and the other that, and else are mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64, Int8, Int64
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.services.pairs.columns import ScoreColumns, score_columns
from app.services.scorings.sources import scoring_run, source_names

Relation = Literal["agree", "mixed", "contradict"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)
PREFERENCE = "preference"
"""What a source is held against where it is not another source."""
AGREES_BELOW = 0.25
CONTRADICTS_ABOVE = 0.5
UNKNOWN = -1
AGREE, MIXED, CONTRADICT = range(3)


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
            counts = np.bincount(relations(columns[name], other) + 1, minlength=4).tolist()
            found.append(StanceCount(name, against, *counts[1:]))
    return found


def relations_of(
    session: Session, run: Run, scores: ScoreColumns, against: str
) -> Int8[np.ndarray, " pairs"]:
    """For each pair of `scores` how they relate to the preference or to another source of the run."""
    return relations(scores, None if against == PREFERENCE else score_columns(session, run, against))


def relations(scores: ScoreColumns, other: ScoreColumns | None) -> Int8[np.ndarray, " pairs"]:
    """AGREE, MIXED, CONTRADICT or UNKNOWN for each pair of `scores`; None: against the preference."""
    mine = _stances(scores)
    if other is None:
        return mine
    theirs = _stances(other)
    if not np.array_equal(scores.pair_ids, other.pair_ids):
        theirs = aligned(theirs, other.pair_ids, scores.pair_ids, UNKNOWN)
    result = np.where(mine == theirs, AGREE, CONTRADICT).astype(np.int8)
    result[(mine == MIXED) | (theirs == MIXED)] = MIXED
    result[(mine == UNKNOWN) | (theirs == UNKNOWN)] = UNKNOWN
    return result


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
        scores.derived["stances"] = _read(scores.numbers["conflict"])
    found: np.ndarray = scores.derived["stances"]
    return found


def _read(conflict: Float64[np.ndarray, " pairs"]) -> Int8[np.ndarray, " pairs"]:
    stances = np.full(len(conflict), MIXED, dtype=np.int8)
    stances[conflict < AGREES_BELOW] = AGREE
    stances[conflict > CONTRADICTS_ABOVE] = CONTRADICT
    stances[np.isnan(conflict)] = UNKNOWN
    return stances
