"""Bins and the runs of what is marked, by hand."""

from __future__ import annotations

import numpy as np

from engine.binning import CURVE_BINS, STRIP_BINS, bin_starts, curve_bins, runs, strip_bins

NONE = np.zeros(4, dtype=bool)


def test_bins_are_no_more_than_tokens_and_cover_them() -> None:
    assert bin_starts(3, 5).tolist() == [0, 1, 2]
    assert bin_starts(10, 4).tolist() == [0, 2, 5, 7]


def test_runs_join_neighbours() -> None:
    assert runs(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert runs(np.array([False])) == []


def test_a_curve_keeps_both_extremes_of_a_bin_and_counts_a_missing_value_as_nothing() -> None:
    found = curve_bins(np.array([0.5, -0.5, np.nan, 1.0]), NONE, np.array([False, True, True, False]))
    assert (found.low, found.high) == ([0, -0.5, 0, 0], [0.5, 0, 0, 1.0])
    assert (found.dropped, found.wrong) == ([], [(1, 3)])
    pairs = np.tile([1.0, -0.5], CURVE_BINS)
    binned = curve_bins(pairs, np.zeros(len(pairs), dtype=bool))
    assert (set(binned.low), set(binned.high), binned.tokens) == ({-0.5}, {1.0}, 2 * CURVE_BINS)


def test_a_strip_keeps_the_stronger_extreme_of_a_bin_and_marks_a_share_of_it() -> None:
    tokens = 4 * STRIP_BINS
    shares = np.tile([0.3, -0.9, 0.0, 0.0], STRIP_BINS)
    marked = np.zeros(tokens, dtype=bool)
    marked[[0, 4, 5]] = True
    found = strip_bins(shares, dropped=marked, differing=marked, disagreeing=marked)
    assert set(found.levels) == {-9}
    assert (found.dropped, found.differing, found.disagreeing) == ([(1, 2)], [(0, 2)], [(1, 2)])


def test_without_tokens_there_is_no_bin() -> None:
    assert curve_bins(np.zeros(0), NONE[:0]).tokens == strip_bins(np.zeros(0)).tokens == 0
