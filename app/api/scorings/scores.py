"""Text in, reward map out: scoring without a data set, through the warm scorer."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from app.api.parts.common import PREFIX, View, door
from app.api.parts.idempotency import OnceDep
from app.api.runs.runs import RunView, accepted
from app.db.tables import JobStatus, Run
from app.dependencies import DatabaseDep, SettingsDep
from app.errors import AppError, Invalid
from app.problems import responses
from app.services.scorings import scores
from app.services.scorings.scores import ScoreTextRequest


class ScoreAnswer(View):
    """The reward maps of the responses, as `rewardscope score` writes them."""

    run_id: int
    maps: list[dict[str, Any]]


router = door("scores")


@router.post(
    "",
    response_model=ScoreAnswer,
    responses={202: {"model": RunView, "description": "Not yet done; look at `Location`."}, **responses(409)},
)
def score(
    body: ScoreTextRequest, database: DatabaseDep, settings: SettingsDep, once: OnceDep
) -> JSONResponse:
    """Scores one or two responses to a prompt. Where that takes longer than the server waits: 202, and the
    run's address."""
    # Committed before the wait: the worker must see the run, and no transaction stays open meanwhile.
    with database.session() as session:
        submitted = once.answer(
            session,
            body.model_dump_json().encode(),
            lambda: accepted(scores.submit(session, settings, body)),
        )
    run_id = int(submitted.headers["location"].rpartition("/")[2])
    return _answer(scores.wait(database, run_id, settings.score_wait_seconds))


def _answer(run: Run) -> JSONResponse:
    """What a scoring of texts is answered, by how far it is. Raises Invalid (failed), AppError (crashed)."""
    location = {"Location": f"{PREFIX}/runs/{run.id}"}
    status = JobStatus(run.job.status)
    error = run.job.error or {}
    match status:
        case JobStatus.succeeded:
            maps = (run.result or {})["maps"]
            return JSONResponse({"run_id": run.id, "maps": maps}, headers=location)
        case JobStatus.failed:
            raise Invalid(error["detail"], code=error["code"])
        case JobStatus.crashed:
            raise AppError(error["detail"], code=error["code"])
        case JobStatus.cancelled:
            raise Invalid(f"Run {run.id} was cancelled; send the request again.", code="cancelled")
        case _:
            done = accepted(run)
            return JSONResponse(done.body.model_dump(mode="json"), done.status, done.headers)
