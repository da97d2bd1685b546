"""What pages look up beside a run: several runs by their ids, and data sets that may be gone."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from app.db.tables import Dataset, Model, Recipe, Run, TaskSuite
from app.errors import NotFound

MOST_COMPARED = 12


def find_dataset(session: Session, dataset_id: int) -> Dataset | None:
    """The data set; None where it was deleted."""
    return session.get(Dataset, dataset_id)


def find_recipe(session: Session, recipe_id: int) -> Recipe | None:
    """The recipe; None where it was deleted."""
    return session.get(Recipe, recipe_id)


def find_suite(session: Session, suite_id: int) -> TaskSuite | None:
    """The task suite; None where it was deleted."""
    return session.get(TaskSuite, suite_id)


def find_model(session: Session, model_id: int) -> Model | None:
    """The model; None where it was forgotten."""
    return session.get(Model, model_id)


def find_run(session: Session, run_id: int) -> Run | None:
    """The run; None where it was deleted."""
    return session.get(Run, run_id)


def runs_of(session: Session, run_ids: Sequence[int]) -> list[Run]:
    """These runs in this order, each with its job and data set loaded. Raises NotFound for the first that
    is not there."""
    query = select(Run).where(Run.id.in_(run_ids)).options(joinedload(Run.job), joinedload(Run.dataset))
    found = {run.id: run for run in session.scalars(query.execution_options(populate_existing=True))}
    missing = next((run_id for run_id in run_ids if run_id not in found), None)
    if missing is not None:
        raise NotFound(f"There is no run {missing}; choose runs from the list of runs.")
    return [found[run_id] for run_id in run_ids]
