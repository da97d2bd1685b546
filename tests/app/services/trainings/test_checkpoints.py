"""Checkpoints are told of by the job, and forgotten with their files."""

from __future__ import annotations

import math

import pytest
from sqlalchemy.orm import Session

from app.services.runs import jobs
from app.services.trainings import checkpoints
from engine.training.reports import CheckpointSaved


@pytest.fixture
def run_id(session: Session) -> int:
    return jobs.submit(session, kind="training", name="a training", request={}).id


def saved(step: int, *, kept: list[int], is_best: bool = False, loss: float = 0.5) -> CheckpointSaved:
    return CheckpointSaved(
        step, f"/runs/1/checkpoints/step-{step}", 100, {"held_out/loss": loss}, is_best, kept
    )


def steps(session: Session, run_id: int) -> list[int]:
    return [checkpoint.step for checkpoint in checkpoints.list_checkpoints(session, run_id)]


def test_those_that_are_not_kept_are_forgotten(session: Session, run_id: int) -> None:
    checkpoints.store(session, run_id, saved(10, kept=[10], is_best=True))
    checkpoints.store(session, run_id, saved(20, kept=[10, 20]))
    checkpoints.store(session, run_id, saved(30, kept=[10, 30]))
    assert steps(session, run_id) == [10, 30]
    first = checkpoints.list_checkpoints(session, run_id)[0]
    assert (first.is_best, first.bytes, first.metrics) == (True, 100, {"held_out/loss": 0.5})


def test_one_is_the_best(session: Session, run_id: int) -> None:
    checkpoints.store(session, run_id, saved(10, kept=[10], is_best=True))
    checkpoints.store(session, run_id, saved(20, kept=[10, 20], is_best=True))
    assert [one.is_best for one in checkpoints.list_checkpoints(session, run_id)] == [False, True]


def test_one_that_is_told_of_twice_is_there_once(session: Session, run_id: int) -> None:
    checkpoints.store(session, run_id, saved(10, kept=[10], loss=math.nan))
    checkpoints.store(session, run_id, saved(10, kept=[10], loss=0.25))
    (one,) = checkpoints.list_checkpoints(session, run_id)
    assert one.metrics == {"held_out/loss": 0.25}


def test_later_ones_are_forgotten_where_an_attempt_begins(session: Session, run_id: int) -> None:
    for step in (10, 20, 30):
        checkpoints.store(session, run_id, saved(step, kept=[10, 20, 30]))
    checkpoints.truncate(session, run_id, 20)
    assert steps(session, run_id) == [10, 20]


def test_a_number_that_is_missing_is_left_out(session: Session, run_id: int) -> None:
    checkpoints.store(session, run_id, saved(10, kept=[10], loss=math.inf))
    assert checkpoints.list_checkpoints(session, run_id)[0].metrics == {}
