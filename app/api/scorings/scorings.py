"""Scorings: a data set, models and sources become a run."""

from __future__ import annotations

from starlette.responses import JSONResponse

from app.api.parts.common import door
from app.api.parts.idempotency import OnceDep
from app.api.runs.runs import RunView, accepted
from app.dependencies import SessionDep, SettingsDep
from app.problems import responses
from app.services.scorings import scorings
from app.services.scorings.scorings import ScoringRequest

router = door("scorings")


@router.post("", status_code=202, response_model=RunView, responses=responses(409, 507))
def submit_scoring(
    body: ScoringRequest, session: SessionDep, settings: SettingsDep, once: OnceDep
) -> JSONResponse:
    """Queues the scoring of a data set. What is wrong with the request is said now, not by the job."""
    return once.answer(
        session,
        body.model_dump_json().encode(),
        lambda: accepted(scorings.submit(session, settings, body)),
    )
