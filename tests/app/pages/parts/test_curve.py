"""The small picture of rewards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from app.pages.parts import curve
from app.pages.parts.looks import Look
from app.pages.parts.pair_view import drawing_of, side_panel
from app.pages.patterns.samples import SAMPLES, sample_side
from app.services.pairs.made_up import SOURCE
from engine.binning import CURVE_BINS as BINS
from engine.binning import curve_bins
from engine.masks import dropped_tokens
from engine.rules import SegmentationRule
from engine.types import Segment


def draw(values, segments, **more):
    return curve.draw(curve.RewardCurve(curve_bins(values, dropped_tokens(segments, **more)), segments))


def test_a_short_response_has_a_bar_a_token():
    shown = str(draw(np.array([1.0, -1.0, 0.0, np.nan]), [Segment(0, 4, 1, 0.0, True)]))
    assert "M0.5 42V0" in shown
    assert "M1.5 42V84" in shown
    assert "M2." not in shown
    assert "of the 4 tokens" in shown


def test_a_long_response_is_binned_and_says_so():
    shown = str(draw(np.ones(10_000), [Segment(0, 10_000, 1, 1.0, False)]))
    assert f"in {BINS} bins" in shown
    assert len(shown) < 1_000, "neighbours of one height are one step"


def test_bins_are_drawn_as_steps_above_and_below_zero():
    values = np.repeat([1.0, 1.0, -1.0, 0.0], BINS)
    shown = str(draw(values, [Segment(0, len(values), 1, 1.0, True)]))
    half, quarter = BINS // 2, BINS // 4
    assert f'class="pos area" d="M0 42V0h{half}V42h{half}V42z"' in shown
    assert f'class="neg area" d="M0 42V42h{half}V84h{quarter}V42h{quarter}V42z"' in shown


def test_the_strip_marks_masked_tokens():
    segments = [Segment(0, 2, 1, 1.0, True), Segment(2, 4, -1, -1.0, False)]
    assert "M2 87H4v5H2z" in str(draw(np.ones(4), segments))


def test_an_end_that_counts_by_itself_is_not_in_the_strip():
    segments = [Segment(0, 2, 1, 1.0, True), Segment(2, 4, -1, -1.0, False)]
    assert "M2 87H3v5H2z" in str(draw(np.ones(4), segments, end_kept=True))


def test_nothing_to_draw_is_drawn_as_nothing():
    assert draw(np.zeros(0), []) == ""


def test_without_any_reward_there_is_no_scale_to_draw_on():
    side = sample_side(SAMPLES[0])
    unknown = np.full(side.map.tokens, np.nan, dtype=np.float32)
    bare = replace(side, segmentation=replace(side.segmentation, scaled=unknown))
    drawn = [side_panel(one, drawing_of([one], SOURCE, SegmentationRule(), Look())) for one in (side, bare)]
    assert [panel.curve == "" for panel in drawn] == [False, True]
