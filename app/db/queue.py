"""The queue of jobs: procrastinate's tables, joined to our own transactions.

A job of ours has one row here at a time. The row says whether a worker may take the job up and which one has;
what became of the job stands in `jobs` alone. A row is deleted when its worker is through with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import procrastinate
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db.session import libpq_url
from app.db.tables import Job

TASK = "rewardscope.run_job"

DEFER = text("""
    SELECT unnest(procrastinate_defer_jobs_v1(ARRAY[
        ROW(
            :queue, :task, :priority, :lock, NULL,
            jsonb_build_object('job_id', CAST(:job_id AS bigint)), NULL
        )
    ]::procrastinate_job_to_defer_v1[]))
""")
ABORT = text("SELECT procrastinate_cancel_job_v1(:id, true, true)")
FETCH = text("""
    SELECT id, CAST(args ->> 'job_id' AS bigint) AS job_id, queue_name
    FROM procrastinate_fetch_job_v2(CAST(:queues AS varchar[]), :worker_id)
""")
STALLED = text("""
    SELECT row.id, CAST(row.args ->> 'job_id' AS bigint) AS job_id, row.queue_name
    FROM procrastinate_jobs AS row
    LEFT JOIN procrastinate_workers AS worker ON worker.id = row.worker_id
    WHERE row.status = 'doing' AND row.task_name = :task
        AND (worker.id IS NULL OR worker.last_heartbeat < now() - make_interval(secs => :seconds))
    ORDER BY row.id
""")
DISCARD = text("DELETE FROM procrastinate_jobs WHERE id = :id")
WAITING = text("""
    SELECT job_id, id, priority, queue_name, total
    FROM (
        SELECT job.id AS job_id, row.id, row.priority, row.queue_name,
            row_number() OVER (PARTITION BY row.queue_name ORDER BY row.priority DESC, row.id) AS place,
            count(*) OVER (PARTITION BY row.queue_name) AS total
        FROM procrastinate_jobs AS row
        JOIN jobs AS job ON job.queue_job_id = row.id
        WHERE row.status = 'todo' AND job.status = 'queued'
            AND (CAST(:queue AS varchar) IS NULL OR row.queue_name = :queue)
    ) AS waiting
    WHERE CAST(:limit AS bigint) IS NULL OR place <= :limit
    ORDER BY queue_name, place
""")
PRIORITISE = text("UPDATE procrastinate_jobs SET priority = :priority WHERE id = :id AND status = 'todo'")
WITHOUT_ROW = text("""
    SELECT job.id
    FROM jobs AS job
    WHERE job.status IN ('queued', 'running') AND NOT EXISTS (
        SELECT 1 FROM procrastinate_jobs AS row
        WHERE row.id = job.queue_job_id AND row.status IN ('todo', 'doing')
    )
    ORDER BY job.id
    FOR UPDATE OF job SKIP LOCKED
""")


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A row that a worker holds, or held until it died."""

    id: int
    job_id: int
    queue: str


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """A row that no worker has taken yet."""

    job_id: int
    id: int
    priority: int
    queue: str
    total: int
    """How many rows wait in its queue."""


def defer(session: Session, job: Job) -> None:
    """Give `job` a row of its own, so that a worker takes it up once this transaction is committed.

    The lock is the run's id: while a worker still holds an older row of the run, this one waits.
    """
    job.queue_job_id = session.scalar(
        DEFER,
        {
            "queue": job.queue,
            "task": TASK,
            "priority": job.priority,
            "lock": f"run-{job.run_id}",
            "job_id": job.id,
        },
    )


def abort(session: Session, queue_job_id: int) -> None:
    """Take the row out of the queue, or tell the worker that holds it to stop (by NOTIFY, at commit)."""
    session.execute(ABORT, {"id": queue_job_id})


def waiting(session: Session, queue: str | None = None, limit: int | None = None) -> list[WaitingRow]:
    """Rows that wait, queue by queue, each queue in the order in which workers take them, of each the first
    `limit`. Rows that their job has left behind are none."""
    rows = session.execute(WAITING, {"queue": queue, "limit": limit})
    return [WaitingRow(row.job_id, row.id, row.priority, row.queue_name, row.total) for row in rows]


def prioritise(session: Session, queue_job_id: int, priority: int) -> bool:
    """Let the row wait by another priority; False where a worker holds it already."""
    changed = session.execute(PRIORITISE, {"id": queue_job_id, "priority": priority})
    return bool(getattr(changed, "rowcount", 0))


def register_worker(session: Session) -> int:
    """A worker's id in the queue; the worker lives as long as it sends heartbeats."""
    return int(session.execute(text("SELECT worker_id FROM procrastinate_register_worker_v1()")).scalar_one())


def unregister_worker(session: Session, worker_id: int) -> None:
    """Say that the worker is gone; rows it still holds are stalled from now on."""
    session.execute(text("SELECT procrastinate_unregister_worker_v1(:id)"), {"id": worker_id})


def fetch(session: Session, queues: Sequence[str], worker_id: int) -> QueueRow | None:
    """The next row of `queues`, now held by the worker; None when nothing waits."""
    row = session.execute(FETCH, {"queues": list(queues), "worker_id": worker_id}).one()
    return None if row.id is None else QueueRow(row.id, row.job_id, row.queue_name)


def discard(session: Session, queue_job_id: int) -> None:
    """Delete a row that nobody works on any more; one that is gone already is no error."""
    session.execute(DISCARD, {"id": queue_job_id})


def stalled(session: Session, seconds: float) -> list[QueueRow]:
    """Rows whose worker sent no heartbeat for `seconds`."""
    rows = session.execute(STALLED, {"seconds": seconds, "task": TASK})
    return [QueueRow(row.id, row.job_id, row.queue_name) for row in rows]


def only_one(session: Session, what: str) -> bool:
    """Whether nobody else does `what` right now; if so, nobody does until this transaction ends."""
    return bool(
        session.scalar(
            text("SELECT pg_try_advisory_xact_lock(hashtext(:what))"), {"what": f"rewardscope {what}"}
        )
    )


def hold_order(session: Session) -> None:
    """Nobody else moves waiting jobs before this transaction ends: two at once would undo each other."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext('rewardscope order of the queues'))"))


def jobs_without_row(session: Session) -> list[int]:
    """Ids of jobs that wait or run, but that no row stands for: nobody would ever take them up."""
    return list(session.scalars(WITHOUT_ROW))


def app(url: str) -> procrastinate.App:
    """procrastinate's own door to the queue, for the worker."""
    connector = procrastinate.PsycopgConnector(
        conninfo=libpq_url(url), min_size=1, max_size=4, kwargs={"application_name": "rewardscope worker"}
    )
    return procrastinate.App(connector=connector)
