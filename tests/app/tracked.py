"""A run that has scored pairs with every track, by several sources that are not of one mind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.services.pairs import pairs
from app.services.runs import jobs
from app.services.scorings import scorings
from app.settings import Settings
from engine.types import PreferencePair, ScoredChunk, Side
from tests.app import factories


def tracks_of(tokens: int) -> dict[str, np.ndarray]:
    """Every track of a response, told by the place of the token, so that tests know each number."""
    place = np.arange(tokens)
    return {
        "logprobs": (-place - 1).astype(np.float32),
        "reference_logprobs": (-place - 1.5).astype(np.float32),
        "entropies": (place / 4).astype(np.float32),
        "ranks": place.astype(np.int32),
    }


def rewards_of(pair: PreferencePair, side: Side, sources: Sequence[str]) -> dict[str, list[float]]:
    """The first source likes long words; every other one is of the opposite mind about the first three."""
    first = factories.by_word_length(pair, side)
    other = [-reward if place < 3 else reward for place, reward in enumerate(first)]
    return {source: other if number else first for number, source in enumerate(sources)}


def make_tracked_run(
    session: Session, settings: Settings, rows: Sequence[PreferencePair], sources: Sequence[str]
) -> Run:
    """A data set and a run that has scored it."""
    run = factories.make_run(session, settings, factories.make_dataset(session, rows), sources)
    attempt = factories.claim(session, run)
    stored = pairs.list_pairs(session, run.dataset_id or 0, limit=500).items
    maps = []
    for row in map(pairs.to_preference_pair, (row.pair for row in stored)):
        for side, _ in row.sides():
            rewards = rewards_of(row, side, sources)
            maps.append(factories.reward_map(row, side, rewards, **tracks_of(len(rewards[sources[0]]))))
    scorings.store(session, run, attempt, ScoredChunk(0, len(stored), maps))
    jobs.finish(session, run.job.id, attempt, scorings.finish(session, run, {"notes": []}))
    return run
