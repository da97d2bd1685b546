"""The queue: what runs where, what waits and in which order, what did not end well, and who works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, get_args

from fastapi import APIRouter, Form, Request, Response
from sqlalchemy.orm import Session

from app.db.tables import JobStatus, Run
from app.dependencies import SessionDep
from app.errors import Invalid
from app.pages.parts.numbers import count
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.pages.parts.run_rows import RunRow, run_row
from app.services.runs import jobs, runs, workers
from app.services.runs import queue as queues
from app.services.runs.queue import Move, Queue
from app.services.runs.workers import WorkerState

SHOWN_WAITING = 100
"""Of each queue; of a longer one there is how many more wait."""
SHOWN_ENDED = 8
"""Of runs that did not end well, the newest."""
WORDS = {"default": "Default queue", "interactive": "Interactive queue"}
HINTS = {
    "default": "Scorings, trainings, evaluations: each in a process of its own.",
    "interactive": "Texts of the playground: one process that keeps its models.",
}

router = APIRouter()


@dataclass(frozen=True, slots=True)
class RunningLine:
    """A run, and the worker that does it."""

    run: RunRow
    worker: str
    host: str
    """'' where the worker is not on the list any more."""
    device: str
    memory_bytes: int | None
    started_at: datetime | None
    unit: str
    eta_seconds: float | None
    is_stopping: bool
    is_lost: bool
    """Whether its worker gives no sign of life."""
    cancel_url: str | None


@dataclass(frozen=True, slots=True)
class WaitingLine:
    """A run and its place."""

    run: RunRow
    place: int
    priority: int
    move_url: str
    moves: list[tuple[Move, str, str]]
    """What can be done: the move, its sign, and its name with the run's."""
    cancel_url: str


@dataclass(frozen=True, slots=True)
class QueuePart:
    """One queue."""

    name: str
    title: str
    hint: str
    running: list[RunningLine]
    waiting: list[WaitingLine]
    hidden: int
    """How many more wait than are shown."""
    is_served: bool
    """Whether a worker is there that takes its jobs."""


@dataclass(frozen=True, slots=True)
class EndedLine:
    """A run that did not end well."""

    run: RunRow
    error: str
    retry_url: str


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """A worker, and what it does."""

    name: str
    host: str
    pid: int
    device: str
    memory_bytes: int | None
    queues: str
    version: str
    state: str
    """`busy`, `idle` or `gone`."""
    heartbeat_at: datetime
    started_at: datetime
    does: list[RunRow]


@dataclass(frozen=True, slots=True)
class QueueState:
    """All of it, at one moment."""

    refresh_url: str
    running: int
    waiting: int
    alive: int
    parts: list[QueuePart]
    ended: list[EndedLine]
    workers: list[WorkerLine]
    message: str
    """What a move came to, for those who do not see it."""


@dataclass(frozen=True, slots=True)
class QueueFragment:
    """What a refresh draws anew."""

    queue: QueueState


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePage(PageContext):
    """The whole page."""

    queue: QueueState


@router.get("/queue", name="pages:queue")
def show_queue(request: Request, session: SessionDep) -> Response:
    """The whole page."""
    page = QueuePage(title="Queue", section="queue", queue=queue_state(request, session))
    return render(request, "runs/queue.html", page)


@router.get("/queue/state", name="pages:queue_state")
def show_state(request: Request, session: SessionDep) -> Response:
    """The part that refreshes itself."""
    return render(request, "runs/_queue.html", QueueFragment(queue_state(request, session)))


@router.post("/queue/{run_id:int}/move", name="pages:queue_move")
def move_run(
    request: Request, session: SessionDep, run_id: int, where: Annotated[str, Form()] = ""
) -> Response:
    """Moves a run that waits; a browser with JavaScript gets the part that changed."""
    wanted = next((move for move in get_args(Move) if move == where), None)
    if wanted is None:
        raise Invalid("A run moves to the `top`, `up` or `down`; use the buttons of the queue.")
    queues.move(session, run_id, wanted)
    return _changed(request, session, run_id)


@router.post("/queue/{run_id:int}/cancel", name="pages:queue_cancel")
def cancel_run(request: Request, session: SessionDep, run_id: int) -> Response:
    """Asks a run to stop, and stays on the queue."""
    jobs.cancel(session, run_id)
    return _changed(request, session, run_id)


@router.post("/queue/{run_id:int}/retry", name="pages:queue_retry")
def retry_run(request: Request, session: SessionDep, run_id: int) -> Response:
    """Queues a run again, and stays on the queue."""
    jobs.retry(session, run_id)
    return _changed(request, session, run_id)


def _changed(request: Request, session: Session, run_id: int) -> Response:
    if "hx-request" not in request.headers:
        return see_other(url_of(request, "queue"))
    session.flush()
    return render(request, "runs/_queue.html", QueueFragment(queue_state(request, session, run_id)))


def queue_state(request: Request, session: Session, changed: int | None = None) -> QueueState:
    """What the page shows now; `changed` is the run that somebody has just moved, stopped or retried."""
    found = queues.list_queues(session, SHOWN_WAITING)
    present = workers.list_workers(session)
    by_name = {worker.name: worker for worker in present}
    parts = [_part(request, queue, by_name) for queue in _with_usual(found)]
    return QueueState(
        refresh_url=url_of(request, "queue_state"),
        running=sum(len(part.running) for part in parts),
        waiting=sum(queue.waiting_count for queue in found),
        alive=sum(worker.alive for worker in present),
        parts=parts,
        ended=_ended(request, session),
        workers=[_worker_line(request, worker, found) for worker in present],
        message="" if changed is None else _message(session, changed, parts),
    )


def _with_usual(found: Sequence[Queue]) -> list[Queue]:
    """The default queue stands there even when it is empty."""
    if any(queue.name == "default" for queue in found):
        return list(found)
    return [Queue("default", [], [], 0), *found]


def _part(request: Request, queue: Queue, by_name: Mapping[str, WorkerState]) -> QueuePart:
    lines = [_waiting_line(request, run, index, queue) for index, run in enumerate(queue.waiting)]
    return QueuePart(
        name=queue.name,
        title=WORDS.get(queue.name, f"Queue {queue.name}"),
        hint=HINTS.get(queue.name, ""),
        running=[_running_line(request, run, by_name) for run in queue.running],
        waiting=lines,
        hidden=max(0, queue.waiting_count - len(lines)),
        is_served=any(worker.alive and queue.name in worker.queues for worker in by_name.values()),
    )


def _running_line(request: Request, run: Run, by_name: Mapping[str, WorkerState]) -> RunningLine:
    job = run.job
    worker = by_name.get(job.worker_name or "")
    return RunningLine(
        run=run_row(request, run),
        worker=job.worker_name or "",
        host=worker.host if worker else "",
        device=worker.device if worker else "",
        memory_bytes=worker.memory_bytes if worker else None,
        started_at=job.started_at,
        unit=job.unit,
        eta_seconds=jobs.eta_seconds(job),
        is_stopping=job.cancel_requested,
        is_lost=worker is None or not worker.alive,
        cancel_url=None if job.cancel_requested else url_of(request, "queue_cancel", run_id=run.id),
    )


def _waiting_line(request: Request, run: Run, index: int, queue: Queue) -> WaitingLine:
    name = run.name
    moves: list[tuple[Move, str, str]] = []
    if index > 0:
        moves += [("top", "⤒", f"Move {name} to the top"), ("up", "↑", f"Move {name} up")]
    if index + 1 < queue.waiting_count:
        moves.append(("down", "↓", f"Move {name} down"))
    return WaitingLine(
        run=run_row(request, run),
        place=index + 1,
        priority=run.job.priority,
        move_url=url_of(request, "queue_move", run_id=run.id),
        moves=moves,
        cancel_url=url_of(request, "queue_cancel", run_id=run.id),
    )


def _ended(request: Request, session: Session) -> list[EndedLine]:
    """The newest runs that failed or crashed."""
    found = [
        run
        for status in (JobStatus.failed, JobStatus.crashed)
        for run in runs.newest_runs(session, status=status, limit=SHOWN_ENDED)
    ]
    newest = sorted(found, key=lambda run: -run.id)[:SHOWN_ENDED]
    return [
        EndedLine(
            run=run_row(request, run),
            error=str((run.job.error or {}).get("detail", "")),
            retry_url=url_of(request, "queue_retry", run_id=run.id),
        )
        for run in newest
    ]


def _worker_line(request: Request, worker: WorkerState, found: Sequence[Queue]) -> WorkerLine:
    return WorkerLine(
        name=worker.name,
        host=worker.host,
        pid=worker.pid,
        device=worker.device,
        memory_bytes=worker.memory_bytes,
        queues=", ".join(worker.queues),
        version=worker.version,
        state=worker.state,
        heartbeat_at=worker.heartbeat_at,
        started_at=worker.started_at,
        does=[
            run_row(request, run)
            for queue in found
            for run in queue.running
            if run.job.worker_name == worker.name
        ],
    )


def _message(session: Session, run_id: int, parts: Sequence[QueuePart]) -> str:
    for part in parts:
        for line in part.waiting:
            if line.run.id == run_id:
                return f"{line.run.name} waits at place {count(line.place)} of the {part.title.lower()}."
    run = runs.get_run(session, run_id)
    return f"{run.name} is {run.job.status}."
