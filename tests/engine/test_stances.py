"""Stances and relations by conflict masses worked out by hand."""

from __future__ import annotations

import numpy as np

from engine.stances import RELATIONS, relation_counts, relations, stances


def named(codes: np.ndarray) -> list[str]:
    return ["unknown" if code < 0 else RELATIONS[code] for code in codes.tolist()]


def test_below_a_quarter_agrees_and_above_a_half_contradicts() -> None:
    found = named(stances(np.array([0.0, 0.24, 0.25, 0.5, 0.51, 1.0, np.nan])))
    assert found == ["agree", "agree", "mixed", "mixed", "contradict", "contradict", "unknown"]


def test_two_sources_agree_where_both_say_the_same_of_the_preference() -> None:
    mine = stances(np.array([0.0, 0.0, 1.0, 0.3, 0.0, np.nan]))
    theirs = stances(np.array([0.1, 0.9, 0.8, 0.3, 0.4, 0.0]))
    found = relations(mine, theirs)
    assert named(found) == ["agree", "contradict", "agree", "mixed", "mixed", "unknown"]
    assert relation_counts(found) == [2, 2, 1]
