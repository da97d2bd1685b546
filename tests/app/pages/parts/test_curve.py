"""The small picture of rewards."""

from __future__ import annotations

import numpy as np

from app.pages.parts.curve import BINS, Curve, draw
from engine.types import Segment


def test_a_short_response_has_a_bar_a_token():
    shown = str(draw(Curve(np.array([1.0, -1.0, 0.0, np.nan]), 1.0, [Segment(0, 4, 1, 0.0, True)])))
    assert "M0.5 42V0" in shown
    assert "M1.5 42V84" in shown
    assert "M2." not in shown
    assert "of the 4 tokens" in shown


def test_a_long_response_is_binned_and_says_so():
    shown = str(draw(Curve(np.ones(10_000), 1.0, [Segment(0, 10_000, 1, 1.0, False)])))
    assert f"in {BINS} bins" in shown
    assert len(shown) < 1_000, "neighbours of one height are one step"


def test_bins_are_drawn_as_steps_above_and_below_zero():
    values = np.repeat([1.0, 1.0, -1.0, 0.0], BINS)
    shown = str(draw(Curve(values, 1.0, [Segment(0, len(values), 1, 1.0, True)])))
    half, quarter = BINS // 2, BINS // 4
    assert f'class="pos area" d="M0 42V0h{half}V42h{half}V42z"' in shown
    assert f'class="neg area" d="M0 42V42h{half}V84h{quarter}V42h{quarter}V42z"' in shown


def test_the_strip_marks_masked_tokens():
    segments = [Segment(0, 2, 1, 1.0, True), Segment(2, 4, -1, -1.0, False)]
    assert "M2 87H4v5H2z" in str(draw(Curve(np.ones(4), 1.0, segments)))


def test_an_end_that_counts_by_itself_is_not_in_the_strip():
    segments = [Segment(0, 2, 1, 1.0, True), Segment(2, 4, -1, -1.0, False)]
    assert "M2 87H3v5H2z" in str(draw(Curve(np.ones(4), 1.0, segments, end_kept=True)))


def test_nothing_to_draw_is_drawn_as_nothing():
    assert draw(Curve(np.zeros(0), 1.0, [])) == ""
    assert draw(Curve(np.zeros(3), 0.0, [])) == ""
