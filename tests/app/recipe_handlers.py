"""Recipes for tests without models: runs of every kind are small jobs of `job_kinds`, and leave what a later
step of a recipe looks for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import Dataset, Model, Run, SourceStatistics, TaskSuite
from app.services.evaluations import task_suites
from app.services.models import models
from app.services.recipes import recipes
from app.services.recipes.requests import RecipeBody
from app.services.run_kinds import RUN_KINDS
from app.services.runs import jobs, runs
from app.services.runs.kinds import RunKind
from app.settings import Settings
from engine.tasks import Number, Task
from engine.types import ModelReference
from tests.app import factories, trained_runs
from tests.app.job_kinds import NAME

SUCCESS = {"base": 0.5, "sample": 0.6, "segment": 0.8, "union": 0.7}
"""Of the models that a recipe makes, by density."""


@dataclass
class World:
    """What a recipe is asked of."""

    pairs: Dataset
    base: Model
    suite: TaskSuite

    def body(self, **fields: Any) -> RecipeBody:
        """A recipe of two densities of one method."""
        given: dict[str, Any] = {
            "dataset_id": self.pairs.id,
            "model": self.base.id,
            "methods": ["rjs"],
            "densities": ["sample", "segment"],
            "suite_ids": [self.suite.id],
        }
        return RecipeBody.model_validate(given | fields)


def make_world(session: Session, settings: Settings) -> World:
    """Forty pairs, a base policy and a suite of two tasks."""
    tasks = [Task(key=str(n), prompt=f"{n} + 1 =", checker=Number(value=n + 1)) for n in (1, 2)]
    return World(
        pairs=factories.make_dataset(session, 40),
        base=factories.make_model(session, settings, "base"),
        suite=task_suites.import_tasks(session, tasks, name="sums", origin={"kind": "rows"}),
    )


def make_scorer(session: Session, settings: Settings) -> Model:
    """A registered model, other than the base."""
    place = factories.make_model_folder(settings.data_dir / "models" / "scorer")
    (place / "generation_config.json").write_text('{"run": 0}')
    return models.register(session, settings, ModelReference(path=str(place)), name="scorer")


@dataclass
class Doing:
    """Does the runs of one kind; those whose step is in `failing` are refused by their job."""

    folder: Path
    failing: set[str] = field(default_factory=set)

    def prepare(self, session: Session, run: Run, scratch: Path) -> dict[str, Any]:
        return {"do": "refuse" if run.recipe_step in self.failing else "count", "total": 1}

    def store(self, session: Session, run: Run, attempt: int, chunk: Any) -> None:
        """What the job counts is of no interest."""

    def finish(self, session: Session, run: Run, result: dict[str, Any]) -> dict[str, Any]:
        return leave(session, run, self.folder)


def kinds(folder: Path, failing: set[str]) -> dict[str, RunKind]:
    """All kinds of runs that recipes have, as a worker does them."""
    doing = Doing(folder, failing)
    done: dict[str, Any] = {
        "job": NAME,
        "prepare": doing.prepare,
        "store": doing.store,
        "finish": doing.finish,
    }
    return {kind: replace(RUN_KINDS[kind], **done) for kind in ("scoring", "training", "evaluation")}


def succeed(session: Session, settings: Settings, step: str, folder: Path, updates: int = 0) -> None:
    """Does the queued run of a recipe's step, as a worker would; a training may make some updates first."""
    found = session.scalars(select(Run).where(Run.recipe_step == step).order_by(Run.id.desc())).first()
    assert found is not None, f"{step} was not submitted"
    run = runs.get_run(session, found.id)
    if updates:
        attempt = trained_runs.begin(session, run)
        trained_runs.go_on(session, run, attempt, updates)
    else:
        attempt = factories.claim(session, run)
    jobs.finish(session, run.job.id, attempt, leave(session, run, folder))
    recipes.after_run(session, settings, run.id)


def leave(session: Session, run: Run, folder: Path) -> dict[str, Any]:
    """What a run of its kind leaves, and the result that it has then."""
    if run.kind == "scoring":
        for row in session.scalars(select(SourceStatistics).where(SourceStatistics.run_id == run.id)):
            row.final = True
        return {"pairs": 40}
    if run.kind == "evaluation":
        return {"figures": [_success(run)], "seconds": 0.1, "notes": []}
    model = _trained(session, run, folder)
    metrics = {"held_out/loss": 1.5, "train/kept_chosen": 0.75, "train/kept_rejected": 0.5}
    return {"model_id": model.id, "steps": 200, "seconds": 2.0, "tokens": 1000, "metrics": metrics}


def _trained(session: Session, run: Run, folder: Path) -> Model:
    """A model like no other, as if it had been trained."""
    place = factories.make_model_folder(folder / f"run-{run.id}")
    (place / "generation_config.json").write_text(f'{{"run": {run.id}}}')
    return models.add(session, ModelReference(path=str(place)), name=models.free_name(session, run.name))


def _success(run: Run) -> dict[str, Any]:
    density = next(density for density in SUCCESS if density in (run.recipe_step or ""))
    value = SUCCESS[density] + 0.02 * ("seed 1" in (run.recipe_step or ""))
    return {"metric": "success", "suite": "sums", "value": value, "low": 0.4, "high": 0.9, "count": 2}
