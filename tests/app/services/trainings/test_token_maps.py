"""Token maps of trainings: what may be asked, what the job is given, what is found again."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.errors import Conflict, Invalid, NotFound
from app.services.pairs import pairs
from app.services.runs import jobs, runs
from app.services.trainings import token_maps
from app.services.trainings.token_maps import StepTotals, TokenMapsBody
from app.settings import Settings
from tests.app import factories, traced_runs, trained_runs


@pytest.fixture
def training(session: Session, settings: Settings):
    """A training of 100 steps with one checkpoint, after step 60."""
    run = trained_runs.make_training(session, settings)
    attempt = trained_runs.begin(session, run)
    trained_runs.go_on(session, run, attempt, 60)
    return run


@pytest.fixture
def pair_ids(session: Session, training) -> list[int]:
    return [row.pair.id for row in pairs.list_pairs(session, training.dataset_id).items]


def body(*pair_ids: int) -> TokenMapsBody:
    return TokenMapsBody(pair_ids=list(pair_ids))


def test_a_reading_is_a_run_of_the_interactive_queue(session: Session, training, pair_ids) -> None:
    run = token_maps.submit(session, training.id, body(pair_ids[1], pair_ids[0], pair_ids[1]))
    assert (run.kind, run.job.queue, run.dataset_id) == ("token_maps", "interactive", training.dataset_id)
    assert [pair["key"] for pair in run.request["pairs"]] == ["pair-1", "pair-0"]
    assert run.request["training"] == {"id": training.id, "name": training.name}
    assert token_maps.latest(session, training.id, pair_ids[0]).id == run.id
    assert token_maps.latest(session, training.id, pair_ids[2]) is None


def test_the_job_is_given_rows_checkpoints_and_the_trainings_request(
    session: Session, training, pair_ids, tmp_path: Path
) -> None:
    run = token_maps.submit(session, training.id, body(pair_ids[2]))
    request = token_maps.prepare(session, run, tmp_path)
    assert request["checkpoints"] == {"60": "step-60"}
    assert (request["final"], request["steps"], request["beta"]) == (None, 60, 0.1)
    assert request["request"]["method"]["name"] == "dpo"
    assert request["request"]["machine"]["device"] == "auto"
    assert [row["id"] for row in request["pairs"]] == ["pair-2"]


def test_what_was_read_is_found_step_by_step(session: Session, training, pair_ids) -> None:
    run = token_maps.submit(session, training.id, body(*pair_ids[:2]))
    with pytest.raises(Conflict, match="queued"):
        token_maps.token_maps(session, training.id, pair_ids[0])
    traced_runs.read(session, run, [0, 60])
    found = token_maps.token_maps(session, training.id, pair_ids[0])
    assert found.steps == [0, 60]
    assert [side.side for side in found.sides] == ["chosen", "rejected"]
    assert found.sides[0].rewards[60].tolist() == pytest.approx([0.9, -0.9, -0.3, 2.7, 0.0], abs=2e-3)
    assert found.totals[0] == StepTotals(0, 0.0, 0.0, 0.0)
    assert found.totals[1].margin == pytest.approx(found.totals[1].chosen - found.totals[1].rejected)
    assert {key for _, key in token_maps.read_pairs(session, training.id)} == {"pair-0", "pair-1"}


def test_what_cannot_be_read_is_refused(session: Session, settings: Settings, training, pair_ids) -> None:
    with pytest.raises(NotFound, match="no pair"):
        token_maps.submit(session, training.id, body(10**9))
    with pytest.raises(NotFound, match="no training"):
        token_maps.submit(session, 10**9, body(pair_ids[0]))
    bare = trained_runs.make_training(session, settings, dataset_id=training.dataset_id)
    with pytest.raises(Conflict, match="no checkpoint"):
        token_maps.submit(session, bare.id, body(pair_ids[0]))
    other = factories.make_dataset(session, 1, "other")
    foreign = pairs.list_pairs(session, other.id).items[0].pair.id
    with pytest.raises(Invalid, match="several data sets"):
        token_maps.submit(session, training.id, body(pair_ids[0], foreign))
    judge = trained_runs.make_training(
        session, settings, dataset_id=training.dataset_id, method={"name": "reward_model"}
    )
    with pytest.raises(Invalid, match="reward model"):
        token_maps.submit(session, judge.id, body(pair_ids[0]))


def test_a_training_that_was_deleted_meanwhile_is_told(
    session: Session, training, pair_ids, tmp_path: Path
) -> None:
    run = token_maps.submit(session, training.id, body(pair_ids[0]))
    jobs.cancel(session, training.id)
    trained_runs.fail(session, training, training.job.attempt, "stopped")
    runs.delete_run(session, training.id)
    with pytest.raises(Conflict, match="deleted"):
        token_maps.prepare(session, run, tmp_path)
