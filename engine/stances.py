"""Whether a source of token rewards agrees with the preference, and two sources with each other.

A source agrees with the preference on a pair where less than a quarter of its reward mass lies in segments
that contradict it, and contradicts where more than half does; between them it is mixed. (No segment at all
contradicts in hardly any pair: real rewards are noisy.) Two sources agree where both agree with the
preference or both contradict it, contradict where one does this and the other that, and else are mixed.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float64, Int8

Relation = Literal["agree", "mixed", "contradict"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)
"""In the order of their codes: AGREE, MIXED, CONTRADICT."""
AGREE, MIXED, CONTRADICT = range(3)
UNKNOWN = -1
AGREES_BELOW = 0.25
CONTRADICTS_ABOVE = 0.5


def stances(conflict: Float64[np.ndarray, " pairs"]) -> Int8[np.ndarray, " pairs"]:
    """How a source relates to the preference of each pair, by conflict mass; UNKNOWN where that is NaN."""
    found = np.full(len(conflict), MIXED, dtype=np.int8)
    found[conflict < AGREES_BELOW] = AGREE
    found[conflict > CONTRADICTS_ABOVE] = CONTRADICT
    found[np.isnan(conflict)] = UNKNOWN
    return found


def relations(
    mine: Int8[np.ndarray, " pairs"], theirs: Int8[np.ndarray, " pairs"]
) -> Int8[np.ndarray, " pairs"]:
    """How two sources relate to each other on each pair, by the stances of both."""
    found = np.where(mine == theirs, AGREE, CONTRADICT).astype(np.int8)
    found[(mine == MIXED) | (theirs == MIXED)] = MIXED
    found[(mine == UNKNOWN) | (theirs == UNKNOWN)] = UNKNOWN
    return found


def disagreeing(signals: Int8[np.ndarray, "sources response"]) -> Bool[np.ndarray, " response"]:
    """True at the tokens that the signal of one source calls good (> 0) and that of another bad (< 0)."""
    return np.asarray((signals > 0).any(axis=0) & (signals < 0).any(axis=0))


def relation_counts(relations: Int8[np.ndarray, " pairs"]) -> list[int]:
    """On how many pairs each of `RELATIONS` holds; pairs of which it is unknown are left out."""
    counts: list[int] = np.bincount(relations + 1, minlength=len(RELATIONS) + 1)[1:].tolist()
    return counts
