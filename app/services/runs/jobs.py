"""The life of a job: submitted, claimed, reported on, finished; cancelled, lost, retried.

queued ──claim──> running ──finish──> succeeded
  │ ^                │ ├────fail────> failed | crashed
  │ └── hand back, ──┘ └───cancelled─> cancelled
  │     worker lost
  └───cancel──> cancelled                          any that is over, but for succeeded, ──retry──> queued

Each claim is an attempt. Whoever reports or ends a job names the attempt, and is refused once another attempt
has begun or the job is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import queue as job_queue
from app.db.base import storable
from app.db.notifications import notify
from app.db.tables import Job, JobLog, JobStatus, Run
from app.errors import Conflict, NotFound
from app.services.runs import webhooks
from engine.types import Progress

MAX_LOSSES = 3
"""A job under which this many workers died in a row, with nothing stored, is not tried again by itself."""
MAX_LOG_CHARACTERS = 4000
"""A longer log line is cut."""


class LostJob(Conflict):
    """The attempt that reports is not the one that holds the job: none of it is stored."""

    code = "lost_job"
    title = "Job lost"


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that a worker holds now."""

    job_id: int
    run_id: int
    kind: str
    attempt: int


def submit(
    session: Session,
    *,
    kind: str,
    name: str,
    request: dict[str, Any],
    dataset_id: int | None = None,
    queue: str = "default",
    priority: int = 0,
) -> Run:
    """Write a run, its job and the job's place in the queue, all in the caller's transaction."""
    run = Run(kind=kind, name=name, request=request, dataset_id=dataset_id)
    run.job = Job(queue=queue, priority=priority, status=JobStatus.queued)
    session.add(run)
    session.flush()
    job_queue.defer(session, run.job)
    session.flush()
    session.refresh(run, ["created_at", "result"])
    session.refresh(run.job)
    notify(session, run.id)
    return run


def claim(session: Session, job_id: int, worker: str, queue_job_id: int | None = None) -> Claim | None:
    """Take the job up for `worker` as a new attempt; None when there is nothing to do any more.

    `queue_job_id` is the queue's row by which the worker came here; one that the job has left behind counts
    for nothing.
    """
    job = _locked(session, job_id)
    if job is None or job.status != JobStatus.queued:
        return None
    if queue_job_id is not None and job.queue_job_id != queue_job_id:
        return None
    if job.cancel_requested:
        _end(session, job, JobStatus.cancelled)
        return None
    job.status = JobStatus.running
    job.attempt += 1
    job.worker_name = worker
    job.error = None
    job.started_at = job.heartbeat_at = _now(session)
    job.phase_started_at = None
    notify(session, job.run_id)
    run = session.get_one(Run, job.run_id)
    return Claim(job_id=job.id, run_id=run.id, kind=run.kind, attempt=job.attempt)


def report(
    session: Session,
    job_id: int,
    attempt: int,
    progress: Progress | None = None,
    message: str | None = None,
    level: str = "info",
) -> bool:
    """Store how far the job is, with a message; returns whether it shall stop.

    Raises LostJob when `attempt` does not hold the job.
    """
    job = _held(session, job_id, attempt)
    job.heartbeat_at = _now(session)
    if progress is not None:
        if job.phase_started_at is None or job.phase != progress.phase:
            job.phase_started_at = job.heartbeat_at
            job.phase_start_done = progress.done
        job.phase, job.done, job.total, job.unit = (
            progress.phase,
            progress.done,
            progress.total,
            progress.unit,
        )
    if message is not None:
        _log(session, job, level, [message])
    session.flush()
    notify(session, job.run_id)
    return job.cancel_requested


def stored_up_to(session: Session, job_id: int, attempt: int, position: int) -> None:
    """Note that rows before `position` are stored: the next attempt begins there."""
    job = _held(session, job_id, attempt)
    job.resume_from = max(job.resume_from, position)
    job.losses = 0
    session.flush()


def begins_at(session: Session, job_id: int, attempt: int, position: int) -> None:
    """Note that the attempt goes on at `position`, though an earlier one had stored what came after it."""
    _held(session, job_id, attempt).resume_from = position
    session.flush()


def got_further(session: Session, job_id: int, attempt: int) -> None:
    """Note that the attempt left what the next one goes on from: workers that died before count no more."""
    _held(session, job_id, attempt).losses = 0
    session.flush()


def log(session: Session, job_id: int, attempt: int, level: str, lines: Iterable[str]) -> None:
    """Append lines to the job's log. Raises LostJob when `attempt` does not hold the job."""
    job = _held(session, job_id, attempt)
    _log(session, job, level, lines)
    notify(session, job.run_id)


def remark(session: Session, job: Job, level: str, lines: Iterable[str]) -> None:
    """Append lines to the log of a job that was just submitted."""
    _log(session, job, level, lines)


def finish(session: Session, job_id: int, attempt: int, result: dict[str, Any]) -> None:
    """The job is done, and all of its result is stored. Raises LostJob when `attempt` does not hold it."""
    job = _held(session, job_id, attempt)
    session.get_one(Run, job.run_id).result = result
    if job.total is not None:
        job.done = job.total
    _end(session, job, JobStatus.succeeded)


def fail(
    session: Session, job_id: int, attempt: int, status: JobStatus, error: dict[str, Any] | None = None
) -> None:
    """End the job as failed, crashed or cancelled. Raises LostJob when `attempt` does not hold it."""
    job = _held(session, job_id, attempt)
    if error is not None:
        _log(session, job, "error", [str(error["detail"])])
    _end(session, job, status, error)


def hand_back(session: Session, job_id: int, attempt: int) -> None:
    """Put a running job into the queue again, as a worker does that was asked to stop; a job that was to be
    cancelled is cancelled instead."""
    job = _held(session, job_id, attempt)
    if job.cancel_requested:
        _end(session, job, JobStatus.cancelled)
    else:
        _log(session, job, "info", ["The worker was stopped; the job waits for another one."])
        _queue_again(session, job)


def cancel(session: Session, run_id: int) -> Job:
    """Stop the run's job: at once when it waits, and by way of its worker when it runs.

    A run that is cancelled already stays so. Raises Conflict when it ended in another way.
    """
    job = _locked_of_run(session, run_id)
    if job.status == JobStatus.cancelled:
        return job
    if JobStatus(job.status).is_over:
        raise Conflict(f"Run {run_id} has {job.status} already; there is nothing left to cancel.")
    job.cancel_requested = True
    if job.queue_job_id is not None:
        job_queue.abort(session, job.queue_job_id)
    if job.status == JobStatus.queued:
        _end(session, job, JobStatus.cancelled)
    session.flush()
    notify(session, run_id)
    return job


def retry(session: Session, run_id: int) -> Job:
    """Queue a job again that failed, crashed or was cancelled; it goes on after the last rows it stored."""
    job = _locked_of_run(session, run_id)
    if not JobStatus(job.status).is_over:
        raise Conflict(f"Run {run_id} is {job.status}; cancel it before you retry it.")
    if job.status == JobStatus.succeeded:
        raise Conflict(f"Run {run_id} succeeded; submit a new run instead of a retry.")
    job.cancel_requested = False
    job.finished_at = None
    job.error = None
    job.losses = 0
    _queue_again(session, job)
    return job


def recover(session: Session, seconds: float) -> list[int]:
    """Queue jobs again whose worker sent no heartbeat for `seconds`; returns the ids of those jobs.

    A job that was to be cancelled is cancelled; one under which several workers died in a row is crashed.
    """
    if not job_queue.only_one(session, "recover jobs"):
        return []
    recovered = []
    for row in job_queue.stalled(session, seconds):
        job = _locked(session, row.job_id)  # Before its row, as everybody else does, or two would deadlock.
        job_queue.discard(session, row.id)
        if job is not None and job.queue_job_id == row.id and not JobStatus(job.status).is_over:
            _recover(session, job)
            recovered.append(job.id)
    for job_id in job_queue.jobs_without_row(session):
        job = _locked(session, job_id)
        assert job is not None, "the query has locked it"
        _recover(session, job)
        recovered.append(job.id)
    return recovered


def eta_seconds(job: Job) -> float | None:
    """Seconds until this phase is done, at the pace it had so far; None while that is unknown."""
    if job.status != JobStatus.running or job.total is None or job.phase_started_at is None:
        return None
    assert job.heartbeat_at is not None, "a running job has reported"
    done, seconds = job.done - job.phase_start_done, (job.heartbeat_at - job.phase_started_at).total_seconds()
    if done <= 0 or seconds <= 0:
        return None
    since = (datetime.now(UTC) - job.heartbeat_at).total_seconds()
    return max(0.0, (job.total - job.done) * seconds / done - since)


def logs(session: Session, run_id: int, after_id: int = 0, limit: int = 500) -> Sequence[JobLog]:
    """Lines of the run's log with a higher id than `after_id`, oldest first."""
    query = (
        select(JobLog)
        .join(Job, Job.id == JobLog.job_id)
        .where(Job.run_id == run_id, JobLog.id > after_id)
        .order_by(JobLog.id)
        .limit(limit)
    )
    return session.scalars(query).all()


def log_tail(session: Session, run_id: int, limit: int = 100) -> Sequence[JobLog]:
    """The last lines of the run's log, oldest first."""
    query = (
        select(JobLog)
        .join(Job, Job.id == JobLog.job_id)
        .where(Job.run_id == run_id)
        .order_by(JobLog.id.desc())
        .limit(limit)
    )
    return session.scalars(query).all()[::-1]


def _recover(session: Session, job: Job) -> None:
    if job.cancel_requested:
        _end(session, job, JobStatus.cancelled)
        return
    job.losses += 1  # Also where its worker was gone before it began: nothing is begun without end.
    if job.status == JobStatus.running:
        _log(session, job, "warning", [f"Worker {job.worker_name} is gone."])
    if job.losses < MAX_LOSSES:
        _queue_again(session, job)
        return
    detail = (
        f"{job.losses} workers in a row died while they ran this job"
        f"{f', the last one {job.worker_name}' if job.worker_name else ''}. "
        "See the logs of that machine (memory, disk), then retry the run."
    )
    _end(session, job, JobStatus.crashed, {"code": "workers_died", "detail": detail})


def _log(session: Session, job: Job, level: str, lines: Iterable[str]) -> None:
    session.add_all(
        JobLog(job_id=job.id, attempt=job.attempt, level=level, message=_printable(line)) for line in lines
    )
    session.flush()


def _queue_again(session: Session, job: Job) -> None:
    job.status = JobStatus.queued
    job.worker_name = None
    job.phase_started_at = None
    job_queue.defer(session, job)
    session.flush()
    notify(session, job.run_id)


def _end(session: Session, job: Job, status: JobStatus, error: dict[str, Any] | None = None) -> None:
    job.status = status
    job.error = _storable(error)
    job.finished_at = _now(session)
    session.flush()
    webhooks.run_ended(session, job.run_id, status)
    notify(session, job.run_id)


def _held(session: Session, job_id: int, attempt: int) -> Job:
    """The job, locked, if `attempt` is the one that runs."""
    job = _locked(session, job_id)
    if job is None or job.attempt != attempt or job.status != JobStatus.running:
        raise LostJob(f"Attempt {attempt} does not hold job {job_id} any more; its report is refused.")
    return job


def _locked(session: Session, job_id: int) -> Job | None:
    return session.get(Job, job_id, with_for_update=True, populate_existing=True)


def _locked_of_run(session: Session, run_id: int) -> Job:
    query = (
        select(Job)
        .where(Job.run_id == run_id)
        .with_for_update(of=Job)
        .execution_options(populate_existing=True)
    )
    job = session.scalar(query)
    if job is None:
        raise NotFound(f"There is no run {run_id}.")
    return job


def _now(session: Session) -> datetime:
    """The data base's clock, which all workers share; it moves within a transaction."""
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return now


def _printable(line: str) -> str:
    """`line` as it can be stored, and not without end."""
    return storable(line[:MAX_LOG_CHARACTERS])


def _storable(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """`error` with texts that can be stored, whatever a job's exception said."""
    if error is None:
        return None
    return {key: storable(value) if isinstance(value, str) else value for key, value in error.items()}
