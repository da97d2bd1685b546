"""Why a pair contradicts itself: the segment that speaks loudest against the preference."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.services.pairs import pairs, reasons
from app.settings import Settings
from tests.app import factories


def test_the_reason_is_the_segment_with_the_most_reward_against_the_preference(
    session: Session, settings: Settings
) -> None:
    rows = [
        factories.preference_pair(1, "Splendid gardens are so in it", "Yes"),
        factories.preference_pair(2, "Wonderful", "of a Magnificent architecture is"),
        factories.preference_pair(3, "Wonderful", "so"),
    ]
    run = factories.make_scored_run(session, settings, rows)
    found = [row.pair for row in pairs.list_pairs(session, run.dataset_id or 0).items]
    told = reasons.reasons(session, run.id, None, found)

    by_key = {pair.key: told.get(pair.id) for pair in found}
    first, second = by_key["pair-1"], by_key["pair-2"]
    assert first is not None
    assert second is not None
    assert first.side == "chosen"
    assert first.reward < 0
    assert first.text in "Splendid gardens are so in it"
    assert (second.side, second.reward > 0) == ("rejected", True)
    assert second.text.strip() == "Magnificent architecture"
    assert second.also is None or second.also.side == "chosen"
    third = by_key["pair-3"]
    assert third is not None
    assert (third.side, third.text) == ("chosen", ""), "the end of the response says nothing"
    assert reasons.reasons(session, run.id, None, []) == {}


def test_a_pair_whose_sides_both_contradict_has_a_reason_of_each(
    session: Session, settings: Settings
) -> None:
    rows = [factories.preference_pair(1, "Splendid gardens are so in it", "Yes it is Magnificent")]
    run = factories.make_scored_run(session, settings, rows)
    found = [row.pair for row in pairs.list_pairs(session, run.dataset_id or 0).items]
    [reason] = reasons.reasons(session, run.id, None, found).values()
    assert reason.also is not None
    assert {reason.side, reason.also.side} == {"chosen", "rejected"}
    assert reason.loudness >= reason.also.loudness
    assert reason.also.also is None
