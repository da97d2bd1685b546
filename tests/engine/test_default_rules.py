"""The rule of a source is made from the run's own rewards, by tests that say why."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.default_rules import TOKENS_A_CLASS_PIVOT, TOKENS_A_PIVOT, made_rule
from engine.masks import segment_run
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.sources import SOURCES

OWN = SOURCES["implicit"].default_rule


def statistics_of(rows):
    found = RewardStatistics()
    for row in rows:
        found.add(row)
    return found


def made(rows, own=OWN):
    return made_rule(own, statistics_of(rows), rows)


def pivots_a_token(rows, rule):
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    signs = np.ones(len(rows), np.int8)
    cut = segment_run(np.concatenate(rows), starts, signs, rule, statistics_of(rows))
    return (int(cut.cuts.sum()) - len(rows)) / starts[-1]


def kept_of(rows, rule, sign):
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    cut = segment_run(
        np.concatenate(rows), starts, np.full(len(rows), sign, np.int8), rule, statistics_of(rows)
    )
    return float(cut.mask.mean())


def one_sided(seed=0, wrong=0.25):
    """As a DPO scorer's in a small world: wrong spans far below, everything else a little below zero."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(300):
        row = draw.normal(-0.03, 0.05, 24)
        start = draw.integers(0, 18)
        row[start : start + int(24 * wrong)] = draw.normal(-0.5, 0.08, int(24 * wrong))
        rows.append(row.astype(np.float32))
    return rows


def heavy_tailed(seed=0):
    """As a real model's: a peak at zero with long tails (kurtosis above 20)."""
    draw = np.random.default_rng(seed)
    return [(0.05 * draw.standard_t(2.2, 64)).astype(np.float32) for _ in range(300)]


def test_two_clear_classes_are_parted_by_otsu():
    rule, reason = made(one_sided())

    assert rule.baseline == "otsu"
    assert "two classes" in reason
    assert pivots_a_token(one_sided(), rule) <= 1 / TOKENS_A_CLASS_PIVOT


def test_a_peak_with_long_tails_is_cut_at_its_median_and_both_sides_keep_enough():
    rows = heavy_tailed()

    rule, reason = made(rows)

    assert rule.baseline == "median"
    assert "median, because" in reason
    for sign in (1, -1):
        assert 0.05 < kept_of(rows, rule, sign) < 0.95
    assert pivots_a_token(rows, rule) <= 1 / TOKENS_A_PIVOT


def test_a_small_class_of_outliers_is_no_class():
    rows = one_sided(wrong=0.05)[:200] + [row + 0 for row in heavy_tailed()[:200]]

    rule, reason = made(rows)

    assert rule.baseline == "median", reason


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 50))
def test_the_rule_does_not_depend_on_the_unit_of_the_rewards(seed, scale):
    rows = heavy_tailed(seed % 7)
    rule, _ = made(rows)
    scaled, _ = made([(row * np.float32(scale)).astype(np.float32) for row in rows])

    assert (scaled.baseline, scaled.scale) == (rule.baseline, rule.scale)


@pytest.mark.parametrize("rows", [[], [np.zeros(5, np.float32)], [np.full(5, np.nan, np.float32)]])
def test_rewards_that_say_nothing_still_make_a_rule_with_a_reason(rows):
    rule, reason = made(rows)

    assert isinstance(rule, SegmentationRule)
    assert reason


def test_a_source_with_a_unit_of_its_own_keeps_its_rule():
    own = SOURCES["spans"].default_rule

    rule, _ = made(heavy_tailed(), own)

    assert rule == own
