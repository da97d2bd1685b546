"""How much masks keep, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from engine.kept import KeptSums, kept_fraction, kept_fractions, kept_tokens

MASK = np.array([True, False, True, False, False, True])
STARTS = np.array([0, 3, 3, 5, 6])


def test_every_row_is_counted_alone() -> None:
    assert kept_tokens(MASK, STARTS).tolist() == [2, 0, 0, 1]
    assert kept_fractions(MASK, STARTS).tolist() == pytest.approx([2 / 3, np.nan, 0, 1], nan_ok=True)


def test_a_response_without_tokens_keeps_no_share() -> None:
    assert np.isnan(kept_fraction(np.zeros(0, dtype=bool)))


def test_sides_are_summed_over_batches() -> None:
    sums = KeptSums.none().plus(MASK, STARTS, np.array([True, True, False, False]))
    assert sums.nothing == 1, "a response without tokens loses none"
    assert (sums.share("chosen"), sums.share("rejected")) == (2 / 3, 1 / 3)
    sums = sums.plus(np.array([True]), np.array([0, 1]), np.array([False]))
    assert sums.share("rejected") == 2 / 4
    assert KeptSums.none().share("chosen") is None
