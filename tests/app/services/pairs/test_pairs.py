"""The table of pairs: every order, forwards and backwards, page by page."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import pytest
from sqlalchemy import text as sql_text
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.db.tables import PAIR_WORDS, PairScore, Run, SegmentLabel
from app.errors import Invalid, NotFound
from app.services.datasets.datasets import get_pair
from app.services.pairs import pairs
from app.services.pairs import search as pair_search
from app.services.pairs.pairs import PairQuery, PairRow
from app.settings import Settings
from engine.types import Message, PreferencePair, Response
from tests.app import factories

SCORES = ("conflict", "margin", "min_reward", "max_reward", "pivots", "tokens")


@pytest.fixture
def run(session: Session, settings: Settings) -> Run:
    """A scored run of 12 pairs whose numbers have ties and, where they may, are missing."""
    run = factories.make_scored_run(session, settings, 12)
    dice = random.Random(0)
    for row in pairs.list_pairs(session, run.dataset_id or 0).items:
        numbers = {name: dice.choice([None, -1.0, 0.5, 2.0]) for name in SCORES[:4]}
        numbers |= {name: dice.choice([1, 2, 3]) for name in SCORES[4:]}
        session.execute(update(PairScore).where(PairScore.pair_id == row.pair.id).values(**numbers))
    session.expire_all()
    return run


def all_pages(session: Session, run: Run, query: PairQuery, limit: int = 5) -> list[PairRow]:
    rows: list[PairRow] = []
    cursor = None
    while True:
        page = pairs.list_pairs(session, run.dataset_id or 0, query, limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        rows, cursor = rows + page.items, page.next_cursor
        if cursor is None:
            return rows


def ids(rows: Sequence[PairRow]) -> list[int]:
    return [row.pair.id for row in rows]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", SCORES)
def test_pages_follow_one_another_in_order(session: Session, run: Run, sort: str, descending: bool) -> None:
    query = PairQuery.model_validate({"run_id": run.id, "sort": sort, "descending": descending})
    rows = all_pages(session, run, query)
    assert len(rows) == len(set(ids(rows))) == 12
    values = [getattr(row.score, sort) for row in rows]
    known = [value for value in values if value is not None]
    assert values == sorted(known, reverse=descending) + [None] * (12 - len(known))
    assert ids(rows) == ids(all_pages(session, run, query, limit=12))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", ["position", *SCORES])
def test_neighbours_walk_the_table_in_both_directions(
    session: Session, run: Run, sort: str, descending: bool
) -> None:
    query = PairQuery.model_validate({"run_id": run.id, "sort": sort, "descending": descending})
    order = ids(all_pages(session, run, query))
    for place, (previous, here, following) in enumerate(
        zip([None, *order], order, [*order[1:], None], strict=False)
    ):
        found = pairs.neighbours(session, here, query)
        assert (found.previous, found.next) == (previous, following)
        assert (found.index, found.total) == (place, 12)


def test_without_a_run_pairs_come_in_their_own_order(session: Session) -> None:
    dataset = factories.make_dataset(session, 7)
    page = pairs.list_pairs(session, dataset.id, limit=5)
    rest = pairs.list_pairs(session, dataset.id, limit=5, cursor=page.next_cursor)
    assert [row.pair.position for row in page.items + rest.items] == list(range(7))
    assert all(row.score is None for row in page.items)
    assert page.total == 7
    last = pairs.list_pairs(session, dataset.id, PairQuery(descending=True), limit=1).items[0]
    assert last.pair.position == 6


def test_bounds_leave_out_what_lies_beyond(session: Session, run: Run) -> None:
    rows = all_pages(session, run, PairQuery(run_id=run.id))
    for name, low, high in itertools.product(SCORES, (None, 0.5), (None, 1)):
        bounds = {f"min_{name}": int(low) if low and name in SCORES[4:] else low, f"max_{name}": high}
        query = PairQuery.model_validate({"run_id": run.id, **bounds})
        least = bounds[f"min_{name}"]

        def inside(
            row: PairRow, name: str = name, least: float | None = least, high: int | None = high
        ) -> bool:
            value = getattr(row.score, name)
            if least is None and high is None:
                return True
            return value is not None and (least is None or value >= least) and (high is None or value <= high)

        expected = [row.pair.id for row in rows if inside(row)]
        page = pairs.list_pairs(session, run.dataset_id or 0, query)
        assert (ids(page.items), page.total) == (expected, len(expected))


def test_contradicting_pairs_have_conflict_mass(session: Session, run: Run) -> None:
    query = PairQuery(run_id=run.id, sort="conflict", only_contradicting=True)
    rows = all_pages(session, run, query, limit=2)
    assert rows
    assert all(row.score is not None and (row.score.conflict or 0) > 0 for row in rows)


def test_text_is_found_wherever_it_stands_and_taken_literally(session: Session) -> None:
    rows = [
        factories.preference_pair(1, prompt="100% sure?"),
        factories.preference_pair(2, chosen="It is 1000 sure."),
        PreferencePair("chat", (Message("user", "Grüße an SURE_ty"),), None, Response("No.")),
        factories.preference_pair(4, rejected="back\\slash"),
    ]
    dataset = factories.make_dataset(session, rows)

    def found(text: str) -> list[str]:
        page = pairs.list_pairs(session, dataset.id, PairQuery(query=text))
        assert page.total in (None, len(page.items))
        return [row.pair.key for row in page.items]

    assert found("SURE") == ["pair-1", "pair-2", "chat"]
    assert found("0% s") == ["pair-1"]
    assert found("sure_t") == ["chat"]
    assert found("grüße") == ["chat"]
    assert found("K\\S") == ["pair-4"]
    assert found("pair-2") == ["pair-2"]
    assert found("nothing like it") == []


def test_a_pair_that_the_filters_leave_out_has_no_place(session: Session, run: Run) -> None:
    rows = all_pages(session, run, PairQuery(run_id=run.id, sort="tokens"))
    least = min(rows, key=lambda row: row.score.tokens if row.score else math.inf)
    found = pairs.neighbours(session, least.pair.id, PairQuery(run_id=run.id, sort="tokens", min_tokens=3))
    assert found.index is None
    assert (found.previous, found.next) == (None, None)


def test_a_pair_without_scores_is_in_the_table_until_it_is_sorted_by_one(
    session: Session, settings: Settings
) -> None:
    run = factories.make_run(session, settings, factories.make_dataset(session, 2))
    page = pairs.list_pairs(session, run.dataset_id or 0, PairQuery(run_id=run.id))
    assert [row.score for row in page.items] == [None, None]
    sorted_page = pairs.list_pairs(session, run.dataset_id or 0, PairQuery(run_id=run.id, sort="margin"))
    assert (sorted_page.items, sorted_page.total) == ([], 0)
    alone = pairs.neighbours(session, page.items[0].pair.id, PairQuery(run_id=run.id, sort="margin"))
    assert (alone.previous, alone.next, alone.index) == (None, None, None)


@pytest.mark.parametrize(
    "cursor", ["", "nonsense", "WzEsIDJd", "bnVsbA", "é", "WyJtYXJnaW4gYXNjZW5kaW5nIiwgMS4wLCAyXQ"]
)
def test_a_cursor_that_no_page_gave_out_is_refused(session: Session, run: Run, cursor: str) -> None:
    with pytest.raises(Invalid, match="cursor"):
        pairs.list_pairs(session, run.dataset_id or 0, PairQuery(run_id=run.id, sort="tokens"), cursor=cursor)


def test_what_cannot_be_asked_is_said(session: Session, run: Run, settings: Settings) -> None:
    dataset_id = run.dataset_id or 0
    with pytest.raises(Invalid, match="needs a scoring run"):
        pairs.list_pairs(session, dataset_id, PairQuery(sort="margin"))
    with pytest.raises(Invalid, match="was not scored by `spans`"):
        pairs.list_pairs(session, dataset_id, PairQuery(run_id=run.id, source="spans"))
    other = factories.make_dataset(session, name="other")
    with pytest.raises(Invalid, match="scored another data set"):
        pairs.list_pairs(session, other.id, PairQuery(run_id=run.id))
    with pytest.raises(NotFound):
        pairs.list_pairs(session, 0)
    with pytest.raises(NotFound):
        get_pair(session, 0)
    with pytest.raises(Invalid, match="1 to 500"):
        pairs.list_pairs(session, dataset_id, limit=501)


def test_text_is_found_from_the_beginning_of_words_before_it_is_found_within_them(session: Session) -> None:
    texts = ["A light house.", "The lighthouse, lit", "Highlights only", "灯台の光"]
    rows = [factories.preference_pair(number, chosen=text) for number, text in enumerate(texts)]
    dataset = factories.make_dataset(session, rows)
    factories.make_dataset(session, rows, name="the same under another name")

    def found(text: str) -> list[str]:
        page = pairs.list_pairs(session, dataset.id, PairQuery(query=text))
        return [row.pair.key for row in page.items]

    assert found("LIGHT") == ["pair-0", "pair-1"]
    assert found("light ho") == ["pair-0"]
    assert found("house, l") == ["pair-1"]
    assert found("ghts on") == ["pair-2"]
    assert found("台") == ["pair-3"]
    assert found("pair-3") == ["pair-3"]
    assert found("' & !:*") == []


def test_the_index_of_words_serves_the_search(session: Session) -> None:
    session.execute(sql_text("SET LOCAL enable_seqscan = off"))
    plan = session.scalars(
        sql_text(f"EXPLAIN SELECT id FROM pairs WHERE ({PAIR_WORDS}) @@ to_tsquery('simple', 'word')")
    )
    assert "ix_pairs_words" in "".join(plan)


def test_text_that_many_pairs_have_is_found_in_all_of_them(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_search, "MAX_FOUND_BY_WORDS", 2)
    dataset = factories.make_dataset(session, 4)
    page = pairs.list_pairs(session, dataset.id, PairQuery(query="Question"), limit=3)
    rest = pairs.list_pairs(
        session, dataset.id, PairQuery(query="Question"), limit=3, cursor=page.next_cursor
    )
    assert [row.pair.key for row in [*page.items, *rest.items]] == [f"pair-{number}" for number in range(4)]


def test_a_text_longer_than_the_index_of_words_takes_is_stored_and_found(session: Session) -> None:
    text = " ".join(f"wörd{number}" for number in range(200_000))
    dataset = factories.make_dataset(session, [factories.preference_pair(1, chosen=text, rejected=text)])
    page = pairs.list_pairs(session, dataset.id, PairQuery(query="wörd199999"))
    assert [row.pair.key for row in page.items] == ["pair-1"]


def test_meta_labels_and_one_side_leave_out_the_rest(session: Session, settings: Settings) -> None:
    rows = [
        PreferencePair(
            f"pair-{number}",
            "Which river?",
            Response("The Seine."),
            Response("The Thames, or the Seine" if number == 2 else "The Rhine."),
            meta={"part": "adversarial" if number % 2 else "plain", "hops": number, "note": "a; b"},
        )
        for number in range(4)
    ]
    run = factories.make_scored_run(session, settings, rows)
    dataset_id = run.dataset_id or 0

    def found(**fields: object) -> list[str]:
        keys = []
        for extra in ({}, {"run_id": run.id}, {"run_id": run.id, "sort": "tokens", "descending": False}):
            page = pairs.list_pairs(session, dataset_id, PairQuery.model_validate({**fields, **extra}))
            assert page.total in (None, len(page.items))
            keys.append(sorted(row.pair.key for row in page.items))
        assert keys[0] == keys[1] == keys[2]
        return keys[0]

    assert found(meta=("part=adversarial",)) == ["pair-1", "pair-3"]
    assert found(meta=("part=adversarial", "hops=3", "note=a; b")) == ["pair-3"]
    assert found(meta=("part=elsewhere",)) == []
    assert found(query="Seine", within="rejected") == ["pair-2"]
    assert found(query="river", within="chosen") == []
    assert found(query="river", within="prompt") == [f"pair-{number}" for number in range(4)]
    labelled = pairs.list_pairs(session, dataset_id).items[1].pair
    session.add(SegmentLabel(pair_id=labelled.id, side="chosen", start=0, end=3, verdict="wrong"))
    session.flush()
    assert found(labelled=True) == ["pair-1"]
    assert found(labelled=False) == ["pair-0", "pair-2", "pair-3"]
    place = pairs.neighbours(session, labelled.id, PairQuery(meta=("part=adversarial",)))
    assert (place.index, place.total, place.previous) == (0, 2, None)
    with pytest.raises(Invalid, match="no meta field `city`"):
        found(meta=("city=Paris",))
