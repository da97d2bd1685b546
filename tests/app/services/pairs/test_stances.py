"""Who agrees with whom, by numbers worked out by hand, and the pairs that stand behind each number."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db.tables import PairScore, Run
from app.errors import Invalid, NotFound
from app.services.pairs import pairs, stances
from app.services.pairs.pairs import PairQuery
from app.services.pairs.stances import PREFERENCE, RELATIONS, StanceCount
from app.settings import Settings
from tests.app import factories

CONFLICTS = {
    "implicit": [0.0, 0.24, 0.25, 0.5, 0.51, 1.0, None],
    "rm_prefix": [0.9, 0.1, 0.1, 0.3, 0.8, 0.2, 0.1],
}


@pytest.fixture
def run(session: Session, settings: Settings) -> Run:
    """Seven pairs under two sources, with the conflict mass that `CONFLICTS` says."""
    run = factories.make_scored_run(session, settings, 7, sources=("implicit", "rm_prefix"))
    ids = sorted(set(session.scalars(select(PairScore.pair_id))))
    for source, values in CONFLICTS.items():
        for pair_id, value in zip(ids, values, strict=True):
            of_pair = (PairScore.pair_id == pair_id) & (PairScore.source == source)
            session.execute(update(PairScore).where(of_pair).values(conflict=value))
    session.expire_all()
    return run


def test_every_source_is_held_against_the_preference_and_the_sources_before_it(
    session: Session, run: Run
) -> None:
    assert stances.stance_matrix(session, run.id) == [
        StanceCount("implicit", PREFERENCE, agree=2, mixed=2, contradict=2),
        StanceCount("rm_prefix", PREFERENCE, agree=4, mixed=1, contradict=2),
        StanceCount("rm_prefix", "implicit", agree=2, mixed=2, contradict=2),
    ]


def test_every_number_is_a_list_of_pairs(session: Session, run: Run) -> None:
    for one in stances.stance_matrix(session, run.id):
        for relation in RELATIONS:
            query = PairQuery(run_id=run.id, source=one.source, against=one.against, relation=relation)
            page = pairs.list_pairs(session, run.dataset_id or 0, query)
            assert page.total == len(page.items) == getattr(one, relation)
    query = PairQuery(run_id=run.id, source="rm_prefix", against="implicit", relation="contradict")
    found = pairs.list_pairs(session, run.dataset_id or 0, query).items
    assert [row.pair.key for row in found] == ["pair-0", "pair-5"]


def test_a_source_that_the_run_lacks_cannot_be_held_against(session: Session, run: Run) -> None:
    with pytest.raises(Invalid, match="was not scored by `spans`"):
        pairs.list_pairs(
            session, run.dataset_id or 0, PairQuery(run_id=run.id, against="spans", relation="agree")
        )
    with pytest.raises(NotFound):
        stances.stance_matrix(session, 0)
