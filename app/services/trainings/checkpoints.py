"""Checkpoints of a training that are on disk: which its job reports, until their files are gone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Checkpoint
from engine.training.reports import CheckpointSaved


def store(session: Session, run_id: int, saved: CheckpointSaved) -> None:
    """Keeps a checkpoint that was saved, and forgets those that the job has removed since."""
    of_run = Checkpoint.run_id == run_id
    session.execute(delete(Checkpoint).where(of_run, Checkpoint.step.not_in([*saved.kept, saved.step])))
    if saved.is_best:
        session.execute(update(Checkpoint).where(of_run).values(is_best=False))
    row = {
        "path": saved.path,
        "bytes": saved.bytes,
        "metrics": {name: value for name, value in saved.metrics.items() if math.isfinite(value)},
        "is_best": saved.is_best,
    }
    statement = insert(Checkpoint).values(run_id=run_id, step=saved.step, **row)
    keys = [Checkpoint.run_id, Checkpoint.step]
    session.execute(statement.on_conflict_do_update(index_elements=keys, set_=row))


def truncate(session: Session, run_id: int, after_step: int) -> None:
    """Forgets the checkpoints of later steps than `after_step`."""
    session.execute(delete(Checkpoint).where(Checkpoint.run_id == run_id, Checkpoint.step > after_step))


def list_checkpoints(session: Session, run_id: int) -> Sequence[Checkpoint]:
    """The run's checkpoints that are on disk, oldest first."""
    query = select(Checkpoint).where(Checkpoint.run_id == run_id).order_by(Checkpoint.step)
    return session.scalars(query.execution_options(populate_existing=True)).all()
