"""How numbers are spread: every pair in one bar, round edges, and what the filters leave of each bar."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db.tables import PairScore, Run
from app.services.pairs import histograms
from app.services.pairs.histograms import Histogram
from app.services.pairs.pairs import PairQuery
from app.settings import Settings
from tests.app import factories


@pytest.fixture
def run(session: Session, settings: Settings) -> Run:
    """Forty pairs with margins of -1.95, -1.85 ... 1.95, but for the last, which has none."""
    run = factories.make_scored_run(session, settings, 40)
    for index, pair_id in enumerate(sorted(session.scalars(select(PairScore.pair_id)))):
        margin = None if index == 39 else -1.95 + index / 10
        changed = {"margin": margin, "tokens": 10 + index % 4}
        session.execute(update(PairScore).where(PairScore.pair_id == pair_id).values(**changed))
    session.expire_all()
    return run


def of(session: Session, run: Run, **filters: object) -> dict[str, Histogram]:
    query = PairQuery.model_validate({"run_id": run.id, **filters})
    return {one.column: one for one in histograms.histograms(session, run.dataset_id or 0, query)}


def test_every_pair_stands_in_one_bar_or_is_missing(session: Session, run: Run) -> None:
    for one in of(session, run).values():
        assert len(one.edges) == len(one.whole) + 1
        assert sum(one.whole) + one.missing == 40
        assert one.selected == one.whole
    margin = of(session, run)["margin"]
    assert (margin.missing, margin.edges[0], margin.edges[-1]) == (1, -2.0, 2.0)
    assert margin.whole == [2] * 19 + [1]
    tokens = of(session, run)["tokens"]
    assert (tokens.edges, tokens.whole) == ([10, 11, 12, 13, 14], [10, 10, 10, 10])


def test_filters_combine_and_leave_the_whole_as_it_is(session: Session, run: Run) -> None:
    found = of(session, run, min_margin=0, min_tokens=12, max_tokens=13)
    assert sum(found["margin"].whole) == 39
    assert found["tokens"].selected == [0, 0, 5, 4]
    assert sum(found["margin"].selected or []) == 9


def test_a_text_in_too_many_pairs_leaves_the_selection_unsaid(
    session: Session, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert of(session, run, query="Question 7?")["tokens"].selected == [0, 0, 0, 1]
    monkeypatch.setattr("app.services.pairs.search.MAX_FOUND_BY_WORDS", 2)
    assert of(session, run, query="Question")["tokens"].selected is None


def test_without_a_run_or_before_anything_is_scored_there_is_nothing_to_spread(
    session: Session, settings: Settings
) -> None:
    run = factories.make_run(session, settings, factories.make_dataset(session))
    assert histograms.histograms(session, run.dataset_id or 0, PairQuery()) == []
    assert histograms.histograms(session, run.dataset_id or 0, PairQuery(run_id=run.id)) == []
