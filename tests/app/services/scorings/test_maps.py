"""Reward maps as they are shown: what was stored, cut by any rule."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy.orm import Session

from app.errors import Invalid, NotFound
from app.services.pairs import pairs
from app.services.scorings import maps
from app.settings import Settings
from engine.errors import RequestError
from engine.rules import SegmentationRule
from engine.segmentation.segmenters.entropy import Entropy
from engine.segmentation.segmenters.hysteresis import Hysteresis
from engine.segmentation.segmenters.whole import Whole
from engine.types import PreferencePair, Side, Span
from tests.app import factories

RULE = SegmentationRule(segmenter=Hysteresis(delta=0.3))


def contradicting(pair: PreferencePair, side: Side) -> list[float]:
    """Two good words, then two bad ones, on both sides."""
    return [1.0, 1.0, -1.0, -1.0, 0.0]


def first_pair(session: Session, dataset_id: int | None) -> int:
    return pairs.list_pairs(session, dataset_id or 0, limit=1).items[0].pair.id


def test_a_pair_is_shown_with_its_pivots_and_its_mask(session: Session, settings: Settings) -> None:
    spans: dict[Side, list[Span]] = {"chosen": [Span(0, 5, "error")]}
    rows = [factories.preference_pair(1, spans=spans)]
    run = factories.make_scored_run(session, settings, rows, contradicting)
    view = maps.pair_view(session, first_pair(session, run.dataset_id), run_id=run.id, rule=RULE)
    chosen, rejected = view.sides
    assert (chosen.side, chosen.text, chosen.total) == ("chosen", "Paris is the capital.", 0.0)
    assert chosen.segmentation.pivots.tolist() == [2]
    assert chosen.segmentation.mask.tolist() == [True, True, False, False, True]
    assert rejected.segmentation.mask.tolist() == [False, False, True, True, True]
    assert chosen.spans == (Span(0, 5, "error"),)
    assert rejected.spans is None
    assert view.agreement == maps.Agreement(0.6, 0.6, pytest.approx(0.5, rel=1e-3), 0.0, False)
    assert [source.name for source in view.sources] == ["implicit"]
    assert view.rule == RULE != view.source.rule


def test_a_mask_that_keeps_more_of_the_rejected_response_is_flagged(
    session: Session, settings: Settings
) -> None:
    def all_bad(pair: PreferencePair, side: Side) -> list[float]:
        return [-1.0] * 5

    run = factories.make_scored_run(session, settings, 1, all_bad)
    view = maps.pair_view(session, first_pair(session, run.dataset_id), run_id=run.id, rule=RULE)
    assert (view.agreement.kept_chosen, view.agreement.kept_rejected) == (0.0, 1.0)
    assert view.agreement.drifts
    assert not view.sides[0].segmentation.counted


def test_a_pair_that_the_run_has_not_reached_has_no_sides(session: Session, settings: Settings) -> None:
    run = factories.make_run(session, settings, factories.make_dataset(session))
    view = maps.pair_view(session, first_pair(session, run.dataset_id), run_id=run.id)
    assert view.sides == []
    assert view.agreement == maps.Agreement(None, None, None, None, False)
    assert view.source.numbers == maps.RunNumbers(0, None, None, None, None, None, None, False)


def test_one_side_alone_has_no_margin(session: Session, settings: Settings) -> None:
    rows = [factories.preference_pair(1, rejected=None)]
    run = factories.make_scored_run(session, settings, rows, contradicting)
    view = maps.pair_view(session, first_pair(session, run.dataset_id), run_id=run.id, rule=RULE)
    assert [side.side for side in view.sides] == ["chosen"]
    assert (view.agreement.margin, view.agreement.kept_rejected) == (None, None)


def test_statistics_of_a_running_run_are_never_remembered(session: Session, settings: Settings) -> None:
    from app.services.scorings import scorings

    run = factories.make_run(session, settings, factories.make_dataset(session, 2))
    attempt = factories.claim(session, run)
    for end in (1, 2):
        scorings.store(session, run, attempt, factories.make_chunk(session, run, end - 1, end))
        assert maps.sources_of(session, run.id)[0].numbers.count == end * 10


def test_maps_come_in_pages_in_the_order_of_the_rows(session: Session, settings: Settings) -> None:
    run = factories.make_scored_run(session, settings, 3)
    found, cursor = [], None
    while True:
        page = maps.list_maps(session, run.id, limit=4, cursor=cursor)
        found += [(view.map.key, view.map.side) for view in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == [(f"pair-{number}", side) for number in range(3) for side in ("chosen", "rejected")]


def test_a_map_is_what_was_scored(session: Session, settings: Settings) -> None:
    run = factories.make_scored_run(session, settings, 2, sources=["implicit", "rm_prefix"])
    pair_id = first_pair(session, run.dataset_id)
    view = maps.get_map(session, run.id, pair_id, "rejected")
    scored = factories.make_chunk(session, run, 0, 1).maps[1]
    assert (view.pair_id, view.text, view.map.key) == (pair_id, "Rome is the capital.", "pair-0")
    assert np.array_equal(view.map.offsets, scored.offsets)
    assert set(view.map.rewards) == {"implicit", "rm_prefix"}
    np.testing.assert_allclose(view.map.rewards["implicit"], scored.rewards["implicit"], rtol=1e-3)


def test_what_is_not_there_is_said(session: Session, settings: Settings) -> None:
    run = factories.make_scored_run(session, settings, [factories.preference_pair(1, rejected=None)])
    pair_id = first_pair(session, run.dataset_id)
    with pytest.raises(NotFound, match="no reward map of the rejected response"):
        maps.get_map(session, run.id, pair_id, "rejected")
    with pytest.raises(NotFound, match="no scoring run 0"):
        maps.sources_of(session, 0)
    with pytest.raises(NotFound, match="no pair 0"):
        maps.pair_view(session, 0, run_id=run.id)
    with pytest.raises(Invalid, match="was not scored by `spans`"):
        maps.pair_view(session, pair_id, run_id=run.id, source="spans")
    other = factories.make_dataset(session, name="other")
    with pytest.raises(NotFound, match="did not score pair"):
        maps.pair_view(session, first_pair(session, other.id), run_id=run.id)
    with pytest.raises(RequestError, match="entropies"):
        maps.pair_view(session, pair_id, run_id=run.id, rule=SegmentationRule(segmenter=Entropy()))


def test_the_whole_response_as_one_segment_always_agrees(session: Session, settings: Settings) -> None:
    run = factories.make_scored_run(session, settings, 1, contradicting)
    rule = SegmentationRule(segmenter=Whole())
    view = maps.pair_view(session, first_pair(session, run.dataset_id), run_id=run.id, rule=rule)
    assert all(side.kept == 1.0 for side in view.sides)
    assert view.agreement.conflict == 0.0
