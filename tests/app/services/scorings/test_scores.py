"""Scoring a text: a run of its own, whose result holds the maps."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.db.session import Database
from app.db.tables import Run
from app.errors import Invalid, NotFound
from app.services.runs import jobs
from app.services.scorings import scores
from app.services.scorings.scores import ScoreTextRequest
from app.settings import Settings
from engine.formats.maps import RECORD_FIELDS
from engine.formats.rows import row_to_pair
from engine.types import ScoredChunk
from tests.app import factories

TEXTS = {"prompt": "Where?", "chosen": "In Paris.", "rejected": "In Rome."}


def submit(session: Session, settings: Settings, **asked: object) -> Run:
    factories.make_model(session, settings, "policy")
    request = {**TEXTS, "policy": "policy", "reference": "policy", "sources": ["implicit"], **asked}
    return scores.submit(session, settings, ScoreTextRequest.model_validate(request))


def do(session: Session, run: Run) -> None:
    """What a worker does with the run."""
    attempt = factories.claim(session, run)
    pair = row_to_pair(run.request["pairs"][0])
    maps = [factories.reward_map(pair, side, {"implicit": [1.0, -1.0, 0.5]}) for side, _ in pair.sides()]
    scores.store(session, run, attempt, ScoredChunk(0, 1, maps))
    jobs.finish(session, run.job.id, attempt, scores.finish(session, run, {"notes": []}))


def test_a_text_becomes_a_run_for_the_warm_scorer(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    run = submit(session, settings, prompt=[{"role": "user", "content": "Where is it?"}])
    assert (run.kind, run.job.queue, run.dataset_id) == ("playground", "interactive", None)
    assert run.name == "Playground: Where is it?"
    request = scores.prepare(session, run, tmp_path)
    assert row_to_pair(request["pairs"][0]).chosen is not None
    assert request["request"]["sources"][0]["name"] == "implicit"


def test_the_result_holds_the_maps_as_the_command_line_writes_them(
    session: Session, settings: Settings
) -> None:
    run = submit(session, settings)
    do(session, run)
    assert run.result is not None
    chosen, rejected = run.result["maps"]
    assert tuple(chosen) == RECORD_FIELDS
    assert (chosen["side"], rejected["side"]) == ("chosen", "rejected")
    assert chosen["tokens"] == ["In", " Paris.", "</s>"]
    assert chosen["token_rewards"]["implicit"] == [1.0, -1.0, 0.5]
    assert chosen["mask"]["implicit"] != rejected["mask"]["implicit"]


def test_waiting_ends_with_the_run_or_with_the_time(database: Database, settings: Settings) -> None:
    with database.session() as session:
        run = submit(session, settings)
    assert scores.wait(database, run.id, 0.01).job.status == "queued"
    with database.session() as session:
        do(session, session.merge(run))
    assert scores.wait(database, run.id, 30).job.status == "succeeded"
    with pytest.raises(NotFound):
        scores.wait(database, 0, 1)


def test_a_worker_that_lost_the_job_keeps_nothing(session: Session, settings: Settings) -> None:
    run = submit(session, settings)
    attempt = factories.claim(session, run)
    with pytest.raises(jobs.LostJob):
        scores.store(session, run, attempt + 1, ScoredChunk(0, 1, []))
    assert run.result is None


def test_a_text_that_cannot_be_scored_is_refused(session: Session, settings: Settings) -> None:
    with pytest.raises(Invalid, match=r"U\+0000"):
        submit(session, settings, chosen="nul \0 here")
    with pytest.raises(Invalid, match="`spans` needs labelled spans"):
        submit(session, settings, sources=["spans"])
    with pytest.raises(ValidationError, match="there is none to score"):
        ScoreTextRequest(prompt="Where?")
    with pytest.raises(ValidationError):
        ScoreTextRequest(prompt="Where?", chosen="")
