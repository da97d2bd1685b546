"""Token maps for tests of services and pages: asked for by the real service, and read without a model."""

from __future__ import annotations

import numpy as np
from sqlalchemy.orm import Session

from app.db.tables import Pair, Run
from app.services.pairs import pairs
from app.services.runs import jobs
from app.services.trainings import token_maps
from engine.training.reports import Traced, track_of
from tests.app import factories


def read(session: Session, run: Run, steps: list[int]) -> None:
    """Does the reading as a worker would: every step adds what the words are long."""
    attempt = factories.claim(session, run)
    maps = []
    for named in run.request["pairs"]:
        pair = pairs.to_preference_pair(session.get_one(Pair, named["id"]))
        for side, _ in pair.sides():
            track = np.array(factories.by_word_length(pair, side), dtype=np.float32)
            rewards = {track_of(step): (track * step / 100).tolist() for step in steps}
            maps.append(factories.reward_map(pair, side, rewards))
    token_maps.store(session, run, attempt, Traced(steps, maps))
    jobs.finish(session, run.job.id, attempt, {"steps": steps})
