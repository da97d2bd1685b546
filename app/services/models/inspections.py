"""Models looked into by a worker, for the web process loads none: what they read, and what is odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, joinedload

from app.db.tables import Job, JobStatus, Model, Run
from app.services.models import models
from app.services.models.models import record_of, recorded_reference
from app.services.runs import jobs
from app.services.runs.kinds import RUN_KINDS, RunKind
from app.settings import Settings
from engine.types import ModelReference

INSPECTION = "inspection"
"""The kind of runs that look into a model."""
_ENDED_EARLY = (JobStatus.cancelled, JobStatus.crashed)


def look_into(session: Session, model: Model, *, again: bool = False) -> Run:
    """The newest run that looked into the model, or does so; a new one where there is none, or it was
    cancelled or crashed, or where somebody asks `again` after it was over."""
    known = inspection_of(session, model)
    if known is None or (again and JobStatus(known.job.status).is_over):
        return _submit(session, model, f"Inspect {model.name}"[:200], {})
    return known


def register(
    session: Session, settings: Settings, reference: ModelReference, *, name: str | None = None
) -> Model:
    """As `models.register`, and has a worker look into a reward model: it is read here as its own forward
    pass reads it, or refused."""
    model = models.register(session, settings, reference, name=name)
    if model.kind == "sequence_classifier":
        look_into(session, model)
    return model


def read_pair(
    session: Session, model: Model, pair_id: int, row: Mapping[str, Any], template_date: str | None
) -> Run:
    """The run that reads a pair with the model's template, as `look_into`."""
    asked = {"pair_id": pair_id, "template_date": template_date}
    known = reading_of(session, model, pair_id, template_date)
    return known or _submit(session, model, f"What {model.name} reads of {row['id']}"[:200], asked, [row])


def inspection_of(session: Session, model: Model) -> Run | None:
    """The newest run that looked into the model, but for those that were cancelled or crashed."""
    return _newest(session, model)


def reading_of(session: Session, model: Model, pair_id: int, template_date: str | None) -> Run | None:
    """The newest run that read the pair with the model, but for those that were cancelled or crashed."""
    return _newest(
        session,
        model,
        Run.request["pair_id"].as_integer() == pair_id,
        Run.request["template_date"].as_string().is_not_distinct_from(template_date),
    )


def _newest(session: Session, model: Model, *conditions: ColumnElement[bool]) -> Run | None:
    query = (
        select(Run)
        .join(Job)
        .where(
            Run.kind == INSPECTION,
            Run.request["model"]["id"].as_integer() == model.id,
            Job.status.not_in(_ENDED_EARLY),
            *conditions,
        )
        .order_by(Run.id.desc())
        .limit(1)
        .options(joinedload(Run.job))
    )
    return session.scalar(query)


def _submit(
    session: Session,
    model: Model,
    name: str,
    asked: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]] = (),
) -> Run:
    request = {
        "pair_id": None,
        "template_date": None,
        **asked,
        "model": record_of(model),
        "pairs": list(rows),
    }
    return jobs.submit(session, kind=INSPECTION, name=name, request=request, queue="interactive")


def prepare(session: Session, run: Run, scratch: Path) -> dict[str, Any]:
    """The request of the job's process."""
    asked = run.request
    model = recorded_reference(asked["model"])
    return {"model": model, "pairs": asked["pairs"], "template_date": asked["template_date"]}


RUN_KINDS.register(
    RunKind(name=INSPECTION, word="model inspection", job="inspect_model", prepare=prepare, is_reported=False)
)
