"""The map beside a response: as large for 10,000 tokens as for 200, and true to what it stands for."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np

from app.pages.parts import minimap
from app.pages.parts.minimap import SHOWN_PIVOTS
from engine.binning import STRIP_BINS as BINS
from engine.binning import strip_bins
from engine.masks import dropped_tokens
from engine.segmentation.segments import pivot_ranks
from engine.types import Segment


def draw(shares, segments, differing=None, direction="down"):
    bins = strip_bins(shares, dropped_tokens(segments), differing)
    return minimap.draw(minimap.Minimap(bins, pivot_ranks(segments)), direction)


def whole(tokens, kept=True):
    return [Segment(0, tokens, 1, 1.0, kept)]


def test_equal_tokens_are_one_stroke_in_the_class_of_their_colour():
    shown = str(draw(np.array([1.0, 1.0, -0.5, np.nan]), whole(4)))
    assert '<path class=b10 d="M7 0V2"/>' in shown
    assert '<path class=b-5 d="M7 2V3"/>' in shown
    assert "data-count=4" in shown


def test_a_bin_shows_its_strongest_value():
    shares = np.zeros(BINS * 10)
    shares[5], shares[6] = 0.3, -0.9
    assert '<path class=b-9 d="M7 0V1"/>' in str(draw(shares, whole(len(shares))))


def test_a_long_response_costs_no_more_than_a_short_one():
    generator = np.random.default_rng(1)
    edges = [*range(0, 10_000, 5), 10_000]
    segments = [Segment(a, b, 1, float(generator.normal()), True) for a, b in pairwise(edges)]
    shown = str(draw(generator.uniform(-1, 1, 10_000), segments))
    assert len(shown) < 4000
    turns = re.search(r'class=turn d="([^"]*)"', shown)[1]
    assert turns.count("M") == SHOWN_PIVOTS


def test_masked_and_differing_tokens_have_lines_of_their_own():
    segments = [Segment(0, 2, 1, 1.0, True), Segment(2, 4, -1, -1.0, False)]
    differing = np.array([False, True, False, False])
    shown = str(draw(np.zeros(4), segments, differing))
    assert '<path class=masked d="M14 2V4"/>' in shown
    assert '<path class=differs d="M1 1V2"/>' in shown
    assert '<path class=turn d="M0 2H16"/>' in shown


def test_a_bin_of_many_tokens_is_masked_where_half_of_it_is():
    tokens = BINS * 4
    segments = [Segment(0, 1, -1, -1.0, False), Segment(1, tokens - 4, 1, 1.0, True)]
    segments.append(Segment(tokens - 4, tokens, -1, -1.0, False))
    assert f'<path class=masked d="M14 {BINS - 1}V{BINS}"/>' in str(draw(np.zeros(tokens), segments))


def test_the_same_lies_on_its_side_as_a_strip():
    shown = str(draw(np.array([1.0, 0.0]), whole(2, kept=False), direction="across"))
    assert 'viewBox="0 0 2 16"' in shown
    assert '<path class=b10 d="M0 7H1"/>' in shown
    assert '<path class=masked d="M0 14H2"/>' in shown


def test_nothing_is_drawn_of_nothing():
    assert draw(np.zeros(0), []) == ""
