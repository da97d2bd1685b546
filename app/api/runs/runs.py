"""Runs: what was asked, how far it is, its log, and stopping or repeating it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field, model_validator
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse

from app.api.parts import lists
from app.api.parts.common import PREFIX, Id, View, door
from app.api.parts.idempotency import Done, OnceDep
from app.api.parts.lists import Listing, PagingDep
from app.db.tables import Job, JobStatus, Run
from app.dependencies import DatabaseDep, SessionDep
from app.problems import responses
from app.services.paging import Page
from app.services.run_kinds import RunKindName
from app.services.runs import jobs, kinds, runs
from app.services.runs import queue as queues
from app.services.runs.queue import MAX_PRIORITY, Move
from engine.fields import StrictModel


class JobFailure(View):
    """Why a job ended early."""

    code: str
    detail: str


class JobView(View):
    """The work of a run."""

    id: int
    status: JobStatus
    is_over: bool
    attempt: int
    """How often a worker took it up."""
    queue: str
    priority: int
    phase: str
    done: int
    total: int | None
    unit: str
    eta_seconds: float | None
    """Seconds until the phase is done, at its pace so far; null while that is unknown."""
    error: JobFailure | None
    worker_name: str | None
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    heartbeat_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> JobView:
        """The view of a stored job; its traceback stays in the log."""
        status = JobStatus(job.status)
        error = job.error or {}
        return cls(
            id=job.id,
            status=status,
            is_over=status.is_over,
            attempt=job.attempt,
            queue=job.queue,
            priority=job.priority,
            phase=job.phase,
            done=job.done,
            total=job.total,
            unit=job.unit,
            eta_seconds=jobs.eta_seconds(job),
            error=JobFailure(code=error["code"], detail=error["detail"]) if error else None,
            worker_name=job.worker_name,
            cancel_requested=job.cancel_requested,
            created_at=job.created_at,
            started_at=job.started_at,
            heartbeat_at=job.heartbeat_at,
            finished_at=job.finished_at,
        )


class RunSummary(View):
    """A run as lists show it."""

    id: int
    kind: str
    name: str
    dataset_id: int | None
    created_at: datetime
    job: JobView

    @classmethod
    def summary_of(cls, run: Run) -> RunSummary:
        """The summary of a stored run whose job is loaded."""
        return RunSummary(
            id=run.id,
            kind=run.kind,
            name=run.name,
            dataset_id=run.dataset_id,
            created_at=run.created_at,
            job=JobView.of(run.job),
        )


class RunView(RunSummary):
    """A run with all that was asked and what came of it."""

    request: dict[str, Any]
    """The whole request, defaults filled in."""
    result: dict[str, Any] | None
    """What the job returned; null until it succeeded."""
    recipe_id: int | None
    """The recipe that it is a step of."""
    recipe_step: str | None
    cloned_from: int | None
    """The run whose request it began with, which may be gone."""

    @classmethod
    def of(cls, run: Run) -> RunView:
        """The view of a stored run whose job is loaded."""
        return cls(
            **dict(RunSummary.summary_of(run)),
            request=run.request,
            result=run.result,
            recipe_id=run.recipe_id,
            recipe_step=run.recipe_step,
            cloned_from=run.cloned_from,
        )


class CloneView(View):
    """A request that asks for the same once more: change it, and POST it."""

    address: str
    """Where to POST the body."""
    body: dict[str, Any]


class PriorityRequest(StrictModel):
    """Where a run that waits shall stand: one of the two."""

    priority: int | None = Field(None, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    """Higher runs earlier; of equals, what was queued first."""
    move: Move | None = None
    """By one place, or to the top; runs that shall stay before it are raised as far as needed."""

    @model_validator(mode="after")
    def _is_one_of_the_two(self) -> PriorityRequest:
        if (self.priority is None) == (self.move is None):
            raise ValueError("Give either `priority` or `move`.")
        return self


class LogLine(View):
    """One line of a job's log."""

    id: int
    attempt: int
    level: str
    message: str
    at: datetime


class LogPage(View):
    """The lines after `since`. Ask again with the `since` that this page gives."""

    data: list[LogLine]
    since: int
    """Id of the last line so far."""
    is_over: bool
    """Whether the job is over: once this comes with no lines, there will be no more."""


router = door("runs")


@router.get("", response_model=Listing[RunSummary], responses=lists.FILES)
def list_runs(
    paging: PagingDep,
    database: DatabaseDep,
    kind: RunKindName | None = None,
    status: JobStatus | None = None,
    dataset_id: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    name: Annotated[str | None, Query(max_length=200, description="A part of their names.")] = None,
) -> Any:
    """Runs, newest first."""

    def fetch(session: Session, limit: int, cursor: str | None) -> Page[RunSummary]:
        page = runs.list_runs(
            session, kind=kind, status=status, dataset_id=dataset_id, name=name, limit=limit, cursor=cursor
        )
        return Page([RunSummary.summary_of(run) for run in page.items], page.next_cursor, page.total)

    return lists.answer(database, paging, fetch, RunSummary, "runs")


@router.get("/{run_id}")
def read_run(run_id: Id, session: SessionDep) -> RunView:
    """One run."""
    return RunView.of(runs.get_run(session, run_id))


@router.get("/{run_id}/clone", responses=responses(409))
def clone_run(run_id: Id, session: SessionDep) -> CloneView:
    """The request of a scoring, training or evaluation as a body that may be changed and sent again."""
    found = kinds.clone(session, runs.get_run(session, run_id))
    return CloneView(address=f"{PREFIX}/{found.noun}", body=found.body.model_dump(mode="json"))


@router.delete("/{run_id}", status_code=204, responses=responses(409))
def delete_run(run_id: Id, session: SessionDep) -> None:
    """Removes a run that is over, with all it left: checkpoints too, but not the model that it trained while
    that is registered."""
    runs.delete_run(session, run_id)


@router.post("/{run_id}/cancel", status_code=202, responses=responses(409))
def cancel_run(run_id: Id, session: SessionDep) -> RunView:
    """Stops a run: at once where it waits, within seconds where it works."""
    jobs.cancel(session, run_id)
    return RunView.of(runs.get_run(session, run_id))


@router.post("/{run_id}/priority", responses=responses(409))
def prioritise_run(run_id: Id, body: PriorityRequest, session: SessionDep) -> RunView:
    """Moves a run that waits within its queue."""
    if body.priority is not None:
        queues.prioritise(session, run_id, body.priority)
    elif body.move is not None:
        queues.move(session, run_id, body.move)
    return RunView.of(runs.get_run(session, run_id))


@router.post("/{run_id}/retry", status_code=202, response_model=RunView, responses=responses(409))
def retry_run(run_id: Id, session: SessionDep, once: OnceDep) -> JSONResponse:
    """Queues a run again that failed, crashed or was cancelled; it goes on after the last rows it stored, or
    from the last checkpoint."""

    def work() -> Done:
        jobs.retry(session, run_id)
        return accepted(runs.get_run(session, run_id))

    return once.answer(session, b"", work)


@router.get("/{run_id}/logs")
def read_logs(
    run_id: Id,
    session: SessionDep,
    since: Annotated[int, Query(ge=0, le=2**63 - 1, description="Id of the last line that you have.")] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 500,
) -> LogPage:
    """The log of the run's job after line `since`, oldest first."""
    run = runs.get_run(session, run_id)
    lines = [LogLine.model_validate(line) for line in jobs.logs(session, run_id, since, limit)]
    return LogPage(
        data=lines,
        since=lines[-1].id if lines else since,
        is_over=JobStatus(run.job.status).is_over,
    )


def accepted(run: Run) -> Done:
    """The answer to whoever asked for work: where to look for it."""
    return Done(202, RunView.of(run), {"Location": f"{PREFIX}/runs/{run.id}"})
