"""The demo: a small world with planted errors, built on first use, imported and scored."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from app.db.tables import Dataset, Job, JobStatus, Model, Run, TaskSuite
from app.services.datasets import datasets
from app.services.evaluations import task_suites
from app.services.models import models
from app.services.runs import jobs
from app.services.runs.kinds import RUN_KINDS, RunKind
from app.services.scorings import scorings
from app.services.scorings.scorings import ScoringRequest
from app.services.scorings.sources import SCORING
from app.settings import Settings
from engine.formats.canonical import read_pairs
from engine.formats.reading import read_tasks
from engine.types import ModelReference

DEMO = "demo"
"""The kind of runs that build the demo's world."""
DATASET_NAME = "demo: planted errors"
POOL_NAME = "demo: scorer's pool"
HELD_OUT_NAME = "demo: held out"
SUITE_NAME = "demo: questions"
_MODELS = {"policy": "scorer", "reference": "base", "reward_model": "reward_model"}
"""Role in the scoring, and what the built world calls the model."""
_GIVEN_UP = (JobStatus.failed, JobStatus.crashed, JobStatus.cancelled)


def load(session: Session, settings: Settings) -> Run:
    """The run that fills the dashboard with the demo; the one that did or does so already.

    Raises StorageFull.
    """
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("rewardscope demo", 0))))
    query = (
        select(Run)
        .join(Job)
        .where(Run.kind == DEMO, Job.status.not_in(_GIVEN_UP))
        .order_by(Run.id.desc())
        .limit(1)
        .options(joinedload(Run.job), joinedload(Run.dataset))
    )
    known = session.scalar(query)
    if known is not None and _is_there(session, known):
        return known
    datasets.check_disk(settings)
    folder = (settings.data_dir / "lab").resolve()
    return jobs.submit(session, kind=DEMO, name="Demo world", request={"folder": str(folder)})


def run_that_made(session: Session, dataset_id: int) -> Run | None:
    """The run of the demo that imported a data set; None for any other data set."""
    query = select(Run).where(Run.kind == DEMO, Run.result["dataset_id"].as_integer() == dataset_id)
    return session.scalar(query.order_by(Run.id.desc()).limit(1))


def prepare(session: Session, run: Run, scratch: Path) -> dict[str, Any]:
    """The request of the job's process, which builds the world where every later demo finds it again."""
    return {"folder": run.request["folder"]}


def finish(session: Session, run: Run, result: dict[str, Any]) -> dict[str, Any]:
    """Imports the world's pairs and tasks, registers its models and submits its scoring.

    Returns {"dataset_id", "pool_id", "held_out_id", "suite_id", "run_id", "models": {role: id}}. Repeatable:
    what is there is found.
    """
    pool = _dataset(session, result, "pool", POOL_NAME)
    held_out = _dataset(session, result, "held_out", HELD_OUT_NAME)
    # Last, so that lists, which show the newest first, begin with it.
    dataset = _dataset(session, result, "pairs", DATASET_NAME)
    suite = _suite(session, result)
    by_role = {role: _model(session, result[part], part) for role, part in _MODELS.items()}
    scoring = _scoring(session, dataset, by_role)
    return {
        "dataset_id": dataset.id,
        "pool_id": pool.id,
        "held_out_id": held_out.id,
        "suite_id": suite.id,
        "run_id": scoring.id,
        "models": {role: model.id for role, model in by_role.items() if model is not None},
    }


def _is_there(session: Session, run: Run) -> bool:
    """Whether what the demo made, or will have made, is still there."""
    if run.result is None:
        return True
    made = session.get(Dataset, run.result["dataset_id"]), session.get(Run, run.result["run_id"])
    return None not in made


def _dataset(session: Session, result: dict[str, Any], part: str, name: str) -> Dataset:
    """The data set of a part of the world: `pairs`, `pool` or `held_out`."""
    origin = _origin(result, part)
    known = session.scalar(select(Dataset).where(Dataset.origin == origin).limit(1))
    if known is not None:
        return known
    free = _free_name(name, session.scalars(select(Dataset.name).where(Dataset.name.startswith(name))))
    return datasets.import_rows(session, read_pairs(Path(result[part])), name=free, origin=origin)


def _suite(session: Session, result: dict[str, Any]) -> TaskSuite:
    origin = _origin(result, "suite")
    known = session.scalar(select(TaskSuite).where(TaskSuite.origin == origin).limit(1))
    if known is not None:
        return known
    taken = session.scalars(select(TaskSuite.name).where(TaskSuite.name.startswith(SUITE_NAME)))
    tasks = read_tasks(Path(result["suite"]))
    return task_suites.import_tasks(session, tasks, name=_free_name(SUITE_NAME, taken), origin=origin)


def _origin(result: dict[str, Any], part: str) -> dict[str, Any]:
    return {"kind": "demo", "folder": result["folder"], "part": part}


def _free_name(stem: str, taken: Iterable[str]) -> str:
    names = set(taken)
    return next(name for name in models.numbered(stem) if name not in names)


def _model(session: Session, path: str | None, part: str) -> Model | None:
    if path is None:
        return None
    known = models.find_model(session, path)
    name = models.free_name(session, f"demo {part.replace('_', ' ')}") if known is None else known.name
    reference = ModelReference(path=path, revision=None, subfolder=None)
    return known or models.add(session, reference, name=name, origin={"kind": "demo"})


def _scoring(session: Session, dataset: Dataset, by_role: dict[str, Model | None]) -> Run:
    query = (
        select(Run)
        .join(Job)
        .where(Run.kind == SCORING, Run.dataset_id == dataset.id, Job.status.not_in(_GIVEN_UP))
        .order_by(Run.id)
        .limit(1)
    )
    known = session.scalar(query)
    if known is not None:
        return known
    request = ScoringRequest.model_validate({"dataset_id": dataset.id, "sources": _sources(by_role)})
    return scorings.submit_with(session, request, by_role)


def _sources(by_role: dict[str, Model | None]) -> list[str]:
    """The demo's reward model learned to value each prefix, so its level is shown rather than its changes."""
    return ["implicit", *(["rm_prefix"] if by_role["reward_model"] is not None else []), "spans"]


RUN_KINDS.register(RunKind(name=DEMO, word="demo", job="lab", prepare=prepare, finish=finish))
