"""What a form proposes for a recipe on a data set, where that is known better than by the defaults."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from app.db.tables import Dataset, Model, TaskSuite
from app.services import demo
from app.services.runs.runs import newest_runs
from app.services.scorings.sources import SCORING


def defaults(session: Session, dataset: Dataset) -> dict[str, Any]:
    """What a form proposes for a data set: fields of `RecipeBody` that its scorings and the demo know better.

    For the demo's data set the pool of its scorer, its held-out pairs, base model and task suite; for others
    the reference of their latest scoring as the base.
    """
    proposed: dict[str, Any] = {"dataset_id": dataset.id}
    if dataset.origin.get("kind") == "demo":
        brought = _demo_of(session, dataset)
        if brought is not None:
            return proposed | brought
    latest = newest_runs(session, kind=SCORING, dataset_id=dataset.id, limit=1)
    reference = latest[0].request.get("reference") if latest else None
    if reference is not None and session.get(Model, reference["id"]) is not None:
        proposed["model"] = reference["id"]
    return proposed


def _demo_of(session: Session, dataset: Dataset) -> dict[str, Any] | None:
    """What the demo brought beside its pairs; None where some of it is gone."""
    run = demo.run_that_made(session, dataset.id)
    result = {} if run is None or run.result is None else run.result
    parts = {
        "scorer_dataset_id": (Dataset, result.get("pool_id")),
        "held_out_dataset_id": (Dataset, result.get("held_out_id")),
        "model": (Model, result.get("models", {}).get("reference")),
    }
    if any(key is None or session.get(table, key) is None for table, key in parts.values()):
        return None
    suite = result.get("suite_id")
    suites = [] if suite is None or session.get(TaskSuite, suite) is None else [suite]
    return {name: key for name, (_, key) in parts.items()} | {"suite_ids": suites}
