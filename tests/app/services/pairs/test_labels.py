"""Labels of people: painted over each other, undone and done again, listed, and held against the sources."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from app.errors import Conflict, Invalid, NotFound
from app.services.pairs import labels, pairs
from engine.types import PreferencePair, Side
from tests.app import factories


@pytest.fixture
def pair_id(session: Session) -> int:
    dataset = factories.make_dataset(session, 1)
    return pairs.list_pairs(session, dataset.id).items[0].pair.id


def said(found: list[labels.Label]) -> list[tuple[str, int, int, str]]:
    return [(one.side, one.start, one.end, one.verdict) for one in found]


def test_a_label_tells_the_words_that_it_covers(session: Session, pair_id: int) -> None:
    found = labels.paint(session, pair_id, "rejected", 0, 4, "wrong")
    assert said(found) == [("rejected", 0, 4, "wrong")]
    assert (found[0].text, found[0].pair_key) == ("Rome", "pair-0")
    assert labels.labels_of(session, pair_id) == found


def test_a_new_label_covers_and_the_rest_of_the_old_one_stays(session: Session, pair_id: int) -> None:
    labels.paint(session, pair_id, "chosen", 0, 20, "right")
    found = labels.paint(session, pair_id, "chosen", 6, 12, "unsure")
    assert said(found) == [
        ("chosen", 0, 6, "right"),
        ("chosen", 6, 12, "unsure"),
        ("chosen", 12, 20, "right"),
    ]
    cleared = labels.paint(session, pair_id, "chosen", 3, 15, None)
    assert said(cleared) == [("chosen", 0, 3, "right"), ("chosen", 15, 20, "right")]


def test_actions_are_undone_and_done_again_one_by_one(session: Session, pair_id: int) -> None:
    states = [
        said(labels.labels_of(session, pair_id)),
        said(labels.paint(session, pair_id, "chosen", 0, 20, "right")),
        said(labels.paint(session, pair_id, "chosen", 6, 12, "wrong")),
        said(labels.remove(session, pair_id, labels.labels_of(session, pair_id)[0].id)),
        said(labels.paint(session, pair_id, "rejected", 0, 4, "wrong")),
    ]
    for before in states[-2::-1]:
        assert said(labels.undo(session, pair_id)) == before
    assert labels.history_of(session, pair_id) == labels.History(can_undo=False, can_redo=True)
    with pytest.raises(Conflict, match="nothing to undo"):
        labels.undo(session, pair_id)
    for after in states[1:]:
        assert said(labels.redo(session, pair_id)) == after
    assert labels.history_of(session, pair_id) == labels.History(can_undo=True, can_redo=False)
    with pytest.raises(Conflict, match="nothing to do again"):
        labels.redo(session, pair_id)


def test_a_new_action_forgets_what_was_undone(session: Session, pair_id: int) -> None:
    labels.paint(session, pair_id, "chosen", 0, 5, "right")
    labels.undo(session, pair_id)
    labels.paint(session, pair_id, "chosen", 0, 5, "wrong")
    assert not labels.history_of(session, pair_id).can_redo
    assert said(labels.undo(session, pair_id)) == []


def test_saying_the_same_again_is_no_action(session: Session, pair_id: int) -> None:
    labels.paint(session, pair_id, "chosen", 0, 5, "right")
    labels.paint(session, pair_id, "chosen", 0, 5, "right")
    labels.paint(session, pair_id, "rejected", 0, 4, None)
    assert said(labels.undo(session, pair_id)) == []
    assert not labels.history_of(session, pair_id).can_undo


strokes = st.tuples(
    st.sampled_from(["chosen", "rejected"]),
    st.integers(0, 18),
    st.integers(1, 19),
    st.sampled_from(["right", "wrong", "unsure", None]),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(strokes, max_size=6))
def test_of_every_character_the_last_word_counts(
    session: Session, drawn: list[tuple[Side, int, int, labels.Verdict | None]]
) -> None:
    dataset = factories.make_dataset(session, 1, f"painted {next(_numbers)}")
    pair_id = pairs.list_pairs(session, dataset.id).items[0].pair.id
    canvas = {side: [None] * 19 for side in ("chosen", "rejected")}
    history = [said(labels.labels_of(session, pair_id))]
    for side, start, end, verdict in drawn:
        start, end = min(start, end), max(start, end, start + 1)
        found = labels.paint(session, pair_id, side, start, end, verdict)
        canvas[side][start:end] = [verdict] * (end - start)  # type: ignore[list-item]
        shown = {each: [None] * 19 for each in canvas}
        for one in found:
            assert set(shown[one.side][one.start : one.end]) == {None}, "labels do not overlap"
            shown[one.side][one.start : one.end] = [one.verdict] * (one.end - one.start)  # type: ignore[list-item]
        assert shown == canvas
        if said(found) != history[-1]:
            history.append(said(found))
    while labels.history_of(session, pair_id).can_undo:
        labels.undo(session, pair_id)
    assert labels.labels_of(session, pair_id) == []


_numbers = itertools.count()


@pytest.mark.parametrize(("start", "end"), [(0, 0), (5, 3), (-1, 4), (0, 200)])
def test_characters_that_the_response_lacks_are_refused(
    session: Session, pair_id: int, start: int, end: int
) -> None:
    with pytest.raises(Invalid, match="characters 0 to 21"):
        labels.paint(session, pair_id, "chosen", start, end, "right")


def test_a_side_or_label_that_is_not_there_is_refused(session: Session) -> None:
    rows = [factories.preference_pair(0, rejected=None)]
    alone = pairs.list_pairs(session, factories.make_dataset(session, rows).id).items[0].pair.id
    with pytest.raises(Invalid, match="no rejected response"):
        labels.paint(session, alone, "rejected", 0, 1, "right")
    with pytest.raises(NotFound):
        labels.remove(session, alone, 7)
    with pytest.raises(NotFound):
        labels.labels_of(session, 10**9)


def test_a_data_set_lists_and_counts_its_labels(session: Session) -> None:
    dataset = factories.make_dataset(session, 3)
    ids = [row.pair.id for row in pairs.list_pairs(session, dataset.id).items]
    other = factories.make_dataset(session, 1, "other")
    labels.paint(session, pairs.list_pairs(session, other.id).items[0].pair.id, "chosen", 0, 5, "right")
    for pair_id, verdict in zip(ids, labels.VERDICTS, strict=True):
        labels.paint(session, pair_id, "chosen", 0, 5, verdict)
    labels.paint(session, ids[0], "chosen", 6, 8, "wrong")
    labels.undo(session, ids[0])
    assert labels.counts_of(session, dataset.id) == labels.Counts(3, 1, 1, 1)
    first = labels.list_labels(session, dataset.id, limit=2)
    rest = labels.list_labels(session, dataset.id, limit=2, cursor=first.next_cursor)
    assert [one.verdict for one in [*first.items, *rest.items]] == ["unsure", "wrong", "right"]
    assert rest.next_cursor is None
    assert [one.pair_key for one in labels.list_labels(session, dataset.id, verdict="wrong").items] == [
        "pair-1"
    ]


def graded(pair: PreferencePair, side: Side) -> list[float]:
    """The first word is bad, the second good, of the others nobody speaks."""
    return [-1.0, 2.0, 0.5, -3.0, 9.0]


def test_sources_are_held_against_labelled_tokens_only(session: Session, settings) -> None:
    run = factories.make_scored_run(session, settings, 2, graded, ("implicit", "rm_increment"))
    assert run.dataset_id is not None
    nothing = labels.agreement(session, run.id)
    assert [(one.source, one.found.value) for one in nothing] == [("implicit", None), ("rm_increment", None)]
    first = pairs.list_pairs(session, run.dataset_id).items[0].pair.id
    labels.paint(session, first, "chosen", 0, 5, "wrong")  # Paris: -1
    labels.paint(session, first, "chosen", 6, 8, "right")  # is: +2
    labels.paint(session, first, "chosen", 9, 12, "unsure")  # the: says nothing
    found = labels.agreement(session, run.id)[0].found
    assert (found.value, found.wrong, found.right) == (1.0, 1, 1)
    labels.paint(session, first, "chosen", 13, 21, "right")  # capital.: -3, below the wrong one
    assert labels.agreement(session, run.id)[0].found.value == 0.5
    labels.undo(session, first)
    assert labels.agreement(session, run.id)[0].found.value == 1.0
    labels.undo(session, first)
    labels.undo(session, first)
    assert labels.agreement(session, run.id)[1].found == (None, None, None, 1, 0, 0.0)
