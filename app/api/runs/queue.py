"""The queue and who works it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app.api.parts import lists
from app.api.parts.common import View, door
from app.api.parts.lists import Listing, PagingDep
from app.api.runs.runs import JobView
from app.db.tables import JobStatus, Run
from app.dependencies import DatabaseDep, SessionDep
from app.services.paging import Page
from app.services.runs import queue as queues
from app.services.runs import runs, workers


class QueuedJob(JobView):
    """A job, and the run that it works for."""

    run_id: int
    run_name: str
    kind: str

    @classmethod
    def of_run(cls, run: Run) -> QueuedJob:
        """The job of a stored run."""
        return cls(**dict(JobView.of(run.job)), run_id=run.id, run_name=run.name, kind=run.kind)


class WorkerView(View):
    """A worker that joined."""

    name: str
    host: str
    pid: int
    version: str
    device: str
    queues: list[str]
    memory_bytes: int | None
    """Of its GPU, or of its machine; null where nobody knows."""
    started_at: datetime
    heartbeat_at: datetime
    alive: bool
    """Whether its last sign of life is fresh."""


jobs_router = door("jobs")
queue_router = door("queue")
workers_router = door("workers")


@jobs_router.get("", response_model=Listing[QueuedJob], responses=lists.FILES)
def list_jobs(paging: PagingDep, database: DatabaseDep, status: JobStatus | None = None) -> Any:
    """Jobs, newest first; `status=queued` is what waits."""

    def fetch(session: Session, limit: int, cursor: str | None) -> Page[QueuedJob]:
        page = runs.list_runs(session, status=status, limit=limit, cursor=cursor)
        return Page([QueuedJob.of_run(run) for run in page.items], page.next_cursor, page.total)

    return lists.answer(database, paging, fetch, QueuedJob, "jobs")


@queue_router.get("")
def read_queue(session: SessionDep) -> Listing[QueuedJob]:
    """What runs and what waits, queue by queue: first what runs, then what waits, in the order in which
    workers take it, up to 100 of each queue. `total` counts all."""
    shown = queues.list_queues(session)
    found = [QueuedJob.of_run(run) for one in shown for run in (*one.running, *one.waiting)]
    total = sum(len(one.running) + one.waiting_count for one in shown)
    return Listing[QueuedJob](data=found, next_cursor=None, total=total)


@workers_router.get("")
def list_workers(session: SessionDep) -> Listing[WorkerView]:
    """Workers that joined, those that are alive first."""
    found = [WorkerView.model_validate(worker) for worker in workers.list_workers(session)]
    return Listing[WorkerView](data=found, next_cursor=None, total=len(found))
