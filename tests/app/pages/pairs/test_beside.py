"""Sources side by side: where they disagree, and what is left out of responses that are too long."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.db.tables import Pair, Run
from app.pages.pairs import beside as beside_module
from app.pages.pairs.beside import SourceAddresses, beside
from app.pages.parts.looks import Look
from app.pages.patterns.samples import SAMPLES, sample_side
from app.services.pairs.drawing import disagreement
from app.services.pairs.made_up import SOURCE
from app.services.scorings.maps import Agreement, CutPair, RunNumbers, RunSource
from engine.rules import SegmentationRule

RULE = SegmentationRule()
NUMBERS = RunNumbers(0, None, None, None, None, None, None, final=True)
AGREEMENT = Agreement(0.5, 0.5, 0.1, 1.0, drifts=False)


def view(label, sides):
    source = RunSource(SOURCE, label, "policy", RULE, NUMBERS, None)
    return CutPair(Pair(), Run(), source, RULE, sides, [source], AGREEMENT)


def addresses(source):
    return SourceAddresses(f"/pairs/1?source={source}", "/tokens")


def with_signal(signal):
    side = sample_side(SAMPLES[0])
    return replace(side, segmentation=replace(side.segmentation, signal=np.array(signal, dtype=np.int8)))


def test_sources_disagree_where_one_says_good_and_another_bad():
    signals = [[1, 1, -1, 0, 0], [1, -1, -1, 0, 1], [1, 1, 1, 0, 0]]
    bins, share = disagreement([with_signal(signal) for signal in signals])
    assert bins.disagreeing == [(1, 3)]
    assert share == 2 / 5


@pytest.fixture
def views():
    return [view(label, [sample_side(SAMPLES[0], seed=seed)]) for seed, label in enumerate("ab", start=1)]


def test_every_source_has_a_strip_and_a_panel_of_its_own_scale(views):
    shown = beside(views, SOURCE, Look(), addresses)
    assert [strip.label for strip in shown.strips[0].strips] == ["a", "b"]
    assert len({source.scale for source in shown.sources}) == 2
    assert all(source.sides for source in shown.sources)
    assert shown.strips[0].disagreement is not None


def test_one_source_alone_disagrees_with_nobody(views):
    assert beside(views[:1], SOURCE, Look(), addresses).strips[0].disagreement is None


def test_long_responses_are_shown_as_strips_only(views, monkeypatch):
    monkeypatch.setattr(beside_module, "MAX_TOKENS", 10)
    shown = beside(views, SOURCE, Look(), addresses)
    assert shown.is_too_long
    assert [source.sides for source in shown.sources] == [[], []]
    assert len(shown.strips[0].strips) == 2


def test_a_side_that_nobody_scored_has_no_strips(views):
    assert [strips.side for strips in beside(views, SOURCE, Look(), addresses).strips] == ["chosen"]
    assert beside([view("a", [])], SOURCE, Look(), addresses).sources == []
