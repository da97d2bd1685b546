"""A run's request as a body that may be changed and sent again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.errors import Conflict
from app.services.evaluations.evaluations import EvaluationBody
from app.services.models.models import ROLES, name_again
from app.services.scorings.scorings import ScoringRequest
from app.services.trainings import requests as training_requests
from engine.evaluation.request import EvaluationNumbers


@dataclass(frozen=True, slots=True)
class Clone:
    """What asks for the same once more."""

    noun: str
    """The noun of the API that it is sent to: `trainings`, `scorings` or `evaluations`."""
    body: BaseModel


def clone(session: Session, run: Run) -> Clone:
    """What asks for the same run once more, to be changed first. Raises Conflict for a kind of run that
    nobody asks for in such a way."""
    if run.kind not in _BODIES:
        raise Conflict(
            f"Run {run.id} is of the kind `{run.kind}`, which has no request to change; only "
            f"{', '.join(_BODIES)} runs have one.",
            code="not_cloned",
        )
    return Clone(f"{run.kind}s", _BODIES[run.kind](session, run))


def _scoring(session: Session, run: Run) -> ScoringRequest:
    fields = {name: run.request[name] for name in ScoringRequest.model_fields if name in run.request}
    models = {role: name_again(session, run.request[role]) for role in ROLES}
    return ScoringRequest.model_validate({**fields, **models})


def _evaluation(session: Session, run: Run) -> EvaluationBody:
    return EvaluationBody.model_validate(
        {
            **{name: run.request[name] for name in EvaluationNumbers.model_fields},
            **{role: name_again(session, run.request[role]) for role in ("model", "reference")},
            "dataset_id": run.request["dataset_id"],
            "suite_ids": [suite["id"] for suite in run.request["suites"]],
        }
    )


_BODIES: Mapping[str, Callable[[Session, Run], BaseModel]] = {
    "training": training_requests.body_of,
    "scoring": _scoring,
    "evaluation": _evaluation,
}
