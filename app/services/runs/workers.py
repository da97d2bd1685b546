"""Workers that joined: their signs of life, and who is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Job, JobStatus, WorkerRow

ALIVE_SECONDS = 15
"""A worker whose last sign of life is older counts as gone."""
FORGOTTEN_SECONDS = 24 * 3600
"""A worker that is gone for so long leaves the list."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker as the pages show it."""

    name: str
    host: str
    pid: int
    version: str
    device: str
    queues: list[str]
    memory_bytes: int | None
    """Of its GPU, or of its machine; None where nobody knows."""
    started_at: datetime
    heartbeat_at: datetime
    alive: bool
    is_busy: bool = False
    """Whether it does a job."""

    @property
    def state(self) -> Literal["busy", "idle", "gone"]:
        """What a person reads of it."""
        return "gone" if not self.alive else "busy" if self.is_busy else "idle"


def beat(
    session: Session,
    *,
    name: str,
    host: str,
    pid: int,
    version: str,
    device: str,
    queues: Sequence[str],
    memory_bytes: int | None = None,
) -> None:
    """Say that the worker is there. A worker that starts again under the name of another takes its place."""
    row = {
        "host": host,
        "pid": pid,
        "version": version,
        "device": device,
        "queues": list(queues),
        "memory_bytes": memory_bytes,
    }
    statement = insert(WorkerRow).values(name=name, **row)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[WorkerRow.name], set_={**row, "heartbeat_at": func.now()}
        )
    )


def leave(session: Session, name: str) -> None:
    """Take a worker that stopped off the list."""
    session.execute(text("DELETE FROM workers WHERE name = :name"), {"name": name})


def forget(session: Session) -> None:
    """Take workers off the list that were gone for a day."""
    session.execute(
        text("DELETE FROM workers WHERE heartbeat_at < now() - make_interval(secs => :seconds)"),
        {"seconds": FORGOTTEN_SECONDS},
    )


def list_workers(session: Session) -> list[WorkerState]:
    """Every worker that joined, those that are alive first, then by name."""
    age = func.extract("epoch", func.now() - WorkerRow.heartbeat_at)
    alive = (age < ALIVE_SECONDS).label("alive")
    busy = select(Job.id).where(Job.worker_name == WorkerRow.name, Job.status == JobStatus.running).exists()
    rows = session.execute(select(WorkerRow, alive, busy).order_by(alive.desc(), WorkerRow.name))
    return [
        WorkerState(
            name=row.name,
            host=row.host,
            pid=row.pid,
            version=row.version,
            device=row.device,
            queues=[str(queue) for queue in row.queues],
            memory_bytes=row.memory_bytes,
            started_at=row.started_at,
            heartbeat_at=row.heartbeat_at,
            alive=is_alive,
            is_busy=is_busy,
        )
        for row, is_alive, is_busy in rows
    ]


def largest_memory(session: Session, device: str) -> int | None:
    """Bytes of the largest live worker that may do a job for this device; None where none reports it.

    A worker with a GPU reports the memory of that; a job that asks for the CPU is measured by workers of the
    CPU.
    """
    alive = [worker for worker in list_workers(session) if worker.alive and "default" in worker.queues]
    if device == "cpu":
        alive = [worker for worker in alive if worker.device == "cpu"]
    return max((worker.memory_bytes for worker in alive if worker.memory_bytes is not None), default=None)


def count_alive(session: Session) -> int:
    """How many workers are alive."""
    return sum(worker.alive for worker in list_workers(session))
