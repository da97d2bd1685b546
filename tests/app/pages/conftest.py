"""What the pages are tested on: a data set that a run has scored, one that nobody has."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from app.services.pairs import pairs
from engine.types import Span
from tests.app import factories

HTML = {"Accept": "text/html"}


@dataclass(frozen=True)
class World:
    """Ids of what there is."""

    dataset_id: int
    run_id: int
    pair_ids: list[int]
    unscored_id: int
    unscored_pair_id: int


@pytest.fixture
def world(database, settings) -> World:
    """Three pairs that are scored, the first with a labelled span and an ugly text; three that are not."""
    with database.session() as session:
        rows = factories.preference_pairs(3)
        rows[0] = factories.preference_pair(
            0,
            "It is <Paris> of course",
            "مرحبا Rome 👍",
            spans={"rejected": [Span(6, 10, "wrong city", -1.0)]},
        )
        run = factories.make_scored_run(session, settings, rows)
        bare = factories.make_dataset(session, 3, "bare")
        dataset_id = run.dataset_id
        assert dataset_id is not None
        return World(
            dataset_id=dataset_id,
            run_id=run.id,
            pair_ids=[row.pair.id for row in pairs.list_pairs(session, dataset_id).items],
            unscored_id=bare.id,
            unscored_pair_id=pairs.list_pairs(session, bare.id).items[0].pair.id,
        )


@pytest.fixture
def browser_client(client):
    """The signed-in client, asking for HTML as browsers do."""
    client.headers.update(HTML)
    return client
