"""What waits and what runs, in the order in which workers take it, and changing that order.

Workers take the highest priority first and, of equals, what was queued first. To move a job, those before it
that are in its way are not touched: it and those that shall stay before it are raised as far as needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from app.db import queue as job_queue
from app.db.notifications import notify
from app.db.queue import WaitingRow
from app.db.tables import Job, JobStatus, Run
from app.errors import Conflict, NotFound

Move = Literal["top", "up", "down"]

MAX_PRIORITY = 1_000_000
"""Largest priority, either way, that somebody may ask for: moves go on from there."""
MOST_RUNNING = 500


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue. Runs have their job and data set loaded."""

    name: str
    running: list[Run]
    """Longest first."""
    waiting: list[Run]
    """In the order in which workers take them, the first ones only."""
    waiting_count: int
    """All that wait."""


def list_queues(session: Session, limit: int = 100) -> list[Queue]:
    """Every queue in which something waits or runs, by name; of each the first `limit` that wait."""
    rows = job_queue.waiting(session, limit=limit)
    runs = _runs_by_job(session, [row.job_id for row in rows])
    running = _running(session)
    totals = {row.queue: row.total for row in rows}
    return [
        Queue(
            name=name,
            running=[run for run in running if run.job.queue == name],
            waiting=[runs[row.job_id] for row in rows if row.queue == name and row.job_id in runs],
            waiting_count=totals.get(name, 0),
        )
        for name in sorted({*totals, *(run.job.queue for run in running)})
    ]


def prioritise(session: Session, run_id: int, priority: int) -> Job:
    """Let a run that waits have this priority. Raises NotFound, and Conflict where it does not wait."""
    job = _waiting_job(session, run_id)
    _set(session, job, priority)
    notify(session, run_id)
    return job


def move(session: Session, run_id: int, where: Move) -> Job:
    """Move a run that waits within its queue; at the end that it moves to nothing changes.

    Raises NotFound, and Conflict where it does not wait.
    """
    job_queue.hold_order(session)
    wanted = _waiting_job(session, run_id)
    rows = job_queue.waiting(session, wanted.queue)
    place = next((index for index, row in enumerate(rows) if row.job_id == wanted.id), None)
    if place is None:
        raise Conflict(f"A worker takes run {run_id} up just now; it waits no more.")
    target = {"top": 0, "up": max(0, place - 1), "down": min(len(rows) - 1, place + 1)}[where]
    order = [*rows[:place], *rows[place + 1 :]]
    order.insert(target, rows[place])
    raised = _raised(order)
    for row in rows:
        if raised[row.id] != row.priority:
            job = session.get(Job, row.job_id, with_for_update=True, populate_existing=True)
            if job is not None and job.queue_job_id == row.id and job.status == JobStatus.queued:
                job.priority = raised[row.id]
                job_queue.prioritise(session, row.id, raised[row.id])
    session.flush()
    notify(session, run_id)
    return wanted


def _raised(order: Sequence[WaitingRow]) -> dict[int, int]:
    """Row ids with the lowest priorities, none below what it is, by which workers take them in this order."""
    found: dict[int, int] = {}
    after: WaitingRow | None = None
    for row in reversed(order):
        least = row.priority
        if after is not None:
            # Of equals the older row goes first.
            least = max(least, found[after.id] + (0 if row.id < after.id else 1))
        found[row.id] = least
        after = row
    return found


def _set(session: Session, job: Job, priority: int) -> None:
    assert job.queue_job_id is not None, "a job that waits has a row"
    if not job_queue.prioritise(session, job.queue_job_id, priority):
        raise Conflict(f"A worker takes run {job.run_id} up just now; it waits no more.")
    job.priority = priority
    session.flush()


def _waiting_job(session: Session, run_id: int) -> Job:
    query = select(Job).where(Job.run_id == run_id).with_for_update(of=Job)
    job = session.scalar(query.execution_options(populate_existing=True))
    if job is None:
        raise NotFound(f"There is no run {run_id}.")
    if job.status != JobStatus.queued:
        raise Conflict(f"Run {run_id} is {job.status}; only runs that wait have a place in the queue.")
    return job


def _running(session: Session) -> list[Run]:
    query = (
        select(Run)
        .join(Job, Job.run_id == Run.id)
        .where(Job.status == JobStatus.running)
        .options(joinedload(Run.job), joinedload(Run.dataset))
        .order_by(Job.started_at, Run.id)
        .limit(MOST_RUNNING)
    )
    return list(session.scalars(query))


def _runs_by_job(session: Session, job_ids: Sequence[int]) -> dict[int, Run]:
    query = (
        select(Run)
        .join(Job, Job.run_id == Run.id)
        .where(Job.id.in_(job_ids))
        .options(joinedload(Run.job), joinedload(Run.dataset))
    )
    return {run.job.id: run for run in session.scalars(query)}
