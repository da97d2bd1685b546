"""The most negative segments of a whole run."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from app.errors import Invalid, NotFound
from app.services.scorings import scorings, segments
from app.settings import Settings
from engine.rules import SegmentationRule
from engine.types import PreferencePair, Side
from tests.app import factories


def one_bad_word(pair: PreferencePair, side: Side) -> list[float]:
    """The worse, the later the pair; the rejected response has no bad word."""
    number = int(pair.key.removeprefix("pair-"))
    return [1.0, -1.0 - number if side == "chosen" else 1.0, 1.0, 1.0, 1.0]


def test_segments_come_worst_first_with_their_words(session: Session, settings: Settings) -> None:
    run = factories.make_scored_run(session, settings, 5, one_bad_word)
    scorings.recut(session, run.id, "implicit", SegmentationRule())
    found, cursor = [], None
    while True:
        page = segments.worst(session, run.id, limit=2, polarity=-1, cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [(row.pair_key, row.reward) for row in found] == [(f"pair-{n}", -1.0 - n) for n in (4, 3, 2, 1, 0)]
    assert {(row.side, row.start, row.end, row.text, row.kept) for row in found} == {
        ("chosen", 1, 2, " is", False)
    }
    assert {(row.char_start, row.char_end) for row in found} == {(5, 8)}


def test_the_best_segments_are_the_other_end(session: Session, settings: Settings) -> None:
    run = factories.make_scored_run(session, settings, 3, one_bad_word)
    scorings.recut(session, run.id, "implicit", SegmentationRule())
    best = segments.worst(session, run.id, highest=True, side="rejected", kept=False)
    assert [(row.reward, row.start, row.end) for row in best.items] == [(1.0, 0, 5)] * 3
    pages = segments.worst(session, run.id, highest=True, limit=4)
    rest = segments.worst(session, run.id, highest=True, cursor=pages.next_cursor)
    rewards = [row.reward or 0.0 for row in pages.items + rest.items]
    assert rewards == sorted(rewards, reverse=True)
    assert len(rewards) == 3 * 3 + 3


def test_segments_of_no_run_or_source_are_refused(session: Session, settings: Settings) -> None:
    run = factories.make_scored_run(session, settings, 1)
    with pytest.raises(NotFound):
        segments.worst(session, 0)
    with pytest.raises(Invalid, match="was not scored by"):
        segments.worst(session, run.id, "external")
    with pytest.raises(Invalid, match="cursor"):
        segments.worst(session, run.id, cursor="nonsense")
