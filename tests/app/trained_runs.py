"""Trainings for tests of pages: submitted by the real service, and done as far as a test wants, without a
model being loaded."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.db.tables import JobStatus, Model, Run
from app.services.evaluations import evaluations, task_suites
from app.services.evaluations.evaluations import EvaluationBody
from app.services.models import models
from app.services.runs import jobs
from app.services.trainings import trainings
from app.services.trainings.trainings import TrainingBody
from app.settings import Settings
from engine.tasks import Exact, Number, Task
from engine.training.reports import CheckpointSaved, MetricPoints, TrainingBegins
from engine.types import ModelReference, Progress
from tests.app import factories

VERSIONS = {"torch": "2.9.0", "rewardscope": "0.1.0"}


def make_base(session: Session, settings: Settings, name: str = "base") -> Model:
    """A registered model that no other is equal to."""
    folder = factories.make_model_folder(settings.data_dir / "models" / name)
    (folder / "generation_config.json").write_text(json.dumps({"name": name}))
    return models.register(session, settings, ModelReference(path=str(folder)), name=name)


def make_training(session: Session, settings: Settings, steps: int = 100, **fields: Any) -> Run:
    """A queued training of `base`, on three pairs that are scored for it unless `dataset_id` is given."""
    if models.find_model(session, "base") is None:
        make_base(session, settings)
    if "dataset_id" not in fields:
        scored = factories.make_scored_run(session, settings)
        fields |= {
            "dataset_id": scored.dataset_id,
            "scoring_run_id": scored.id,
            "supervision": {"density": "segment"},
        }
    body = {"method": {"name": "dpo"}, "model": "base", "optimisation": {"steps": steps}} | fields
    return trainings.submit(session, settings, TrainingBody.model_validate(body))


def begin(session: Session, run: Run) -> int:
    """Takes the training up; the attempt."""
    attempt = factories.claim(session, run)
    asked = {name: run.request[name] for name in ("method", "optimisation", "supervision")}
    settled = {"request": asked, "versions": VERSIONS, "device": "cpu"}
    trainings.store(session, run, attempt, TrainingBegins(0, run.job.total or 0, settled))
    return attempt


def loss(step: int) -> float:
    """What the loss is after so many steps."""
    return 0.2 + 0.5 * math.exp(-step / 50) + 0.02 * math.sin(step)


def go_on(session: Session, run: Run, attempt: int, until: int, **extra: float) -> None:
    """Makes updates up to `until`, with a checkpoint at its end; `extra` are further metrics of `train/`."""
    session.refresh(run.job)
    start = run.job.resume_from
    steps = range(start + 1, until + 1)
    points: Mapping[str, list[tuple[int, float]]] = {
        "train/loss": [(step, loss(step)) for step in steps],
        "train/kept_chosen": [(step, 0.8) for step in steps],
        "train/kept_rejected": [(step, 0.35) for step in steps],
        "held_out/loss": [(until, loss(until) + 0.1)],
        **{f"train/{name}": [(step, value) for step in steps] for name, value in extra.items()},
    }
    trainings.store(session, run, attempt, MetricPoints(start, until, points))
    progress = Progress("training", until, run.job.total, "steps")
    jobs.report(session, run.job.id, attempt, progress, message=f"Step {until}.")
    saved = CheckpointSaved(until, f"step-{until}", 3_000_000, {"held_out/loss": 0.4}, True, [until])
    trainings.store(session, run, attempt, saved)


def fail(session: Session, run: Run, attempt: int, detail: str) -> None:
    """Ends the training as one that diverged."""
    jobs.fail(session, run.job.id, attempt, JobStatus.failed, {"code": "diverged", "detail": detail})


def finish(session: Session, run: Run, attempt: int) -> int:
    """Ends the training; the id of its model."""
    final = Path(run.request["folder"]) / "final"
    shutil.copytree(run.request["model"]["path"], final)
    (final / "generation_config.json").write_text(json.dumps({"run": run.id}))
    result = {
        "steps": run.job.total,
        "seconds": 12.0,
        "tokens": 34_567,
        "model": str(final),
        "best_step": None,
        "metrics": {"train/loss": 0.2, "held_out/loss": 0.3},
        "notes": ["2 pairs were too long."],
    }
    result = trainings.finish(session, run, result)
    jobs.finish(session, run.job.id, attempt, result)
    return int(result["model_id"])


def make_suite(session: Session, name: str = "questions") -> int:
    """A suite of two tasks, one with a text that is hard to show; its id."""
    tasks = [
        Task(key="one", prompt="1 + 1 = <b>", checker=Number(value=2), category="sums", kept=True),
        Task(key="two", prompt="The capital of France is", checker=Exact(answers=["Paris"], prefix=True)),
    ]
    return task_suites.import_tasks(session, tasks, name=name, origin={"kind": "rows"}).id


def evaluate(session: Session, settings: Settings, model: str, success: float) -> Run:
    """An evaluation of a model on `questions` that has succeeded."""
    suite_id = make_suite(session)
    body = EvaluationBody(model=model, reference="base", suite_ids=[suite_id])
    run = evaluations.submit(session, settings, body)
    attempt = factories.claim(session, run)
    figures = [
        {
            "metric": "success",
            "suite": "questions",
            "value": success,
            "low": success - 0.1,
            "high": success + 0.1,
            "count": 2,
            "reference": 0.5,
        },
        {"metric": "kl", "suite": "questions", "value": 0.0823, "count": 40},
        {"metric": "success", "suite": "questions", "part": "sums", "value": None, "count": 0},
    ]
    result = evaluations.finish(session, run, {"figures": figures, "seconds": 1.0, "notes": []})
    jobs.finish(session, run.job.id, attempt, result)
    return run
