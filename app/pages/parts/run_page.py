"""The page that all runs have: what was asked, how far it is, its log and buttons; kinds may add to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import Request
from sqlalchemy.orm import Session

from app.db.tables import JobStatus, Run
from app.pages.parts.kind_pages import pages_of
from app.pages.parts.rendering import PageContext, url_of
from app.pages.parts.run_facts import facts
from app.pages.parts.run_rows import percent_done, run_row, seconds_of
from app.services.runs import jobs
from app.services.runs.kinds import has_checkpoints, word_of
from app.services.trainings import checkpoints

LOG_LINES = 200


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the job's log."""

    at: datetime
    level: str
    text: str
    id: int = 0
    """By which the page finds its place again after a refresh."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """What changes while the run is active."""

    refresh_url: str
    status: str
    is_active: bool
    is_stopping: bool
    """Whether somebody asked it to stop and it has not yet."""
    phase: str
    done: int
    total: int | None
    unit: str
    share: int | None
    eta_seconds: float | None
    attempt: int
    worker: str | None
    started_at: datetime | None
    seconds: float | None
    error: str | None
    traceback: str | None
    notes: list[str]
    """What is left of a run that failed, in sentences."""
    log: list[LogEntry]
    """The last lines."""
    result_url: str | None
    """Where to see what it left, as soon as there is something."""
    result_label: str
    cancel_url: str | None
    retry_url: str | None
    retry_label: str
    clone_url: str | None
    delete_url: str | None
    log_is_cut: bool = False
    """Whether there were more lines before those of `log`."""
    log_url: str | None = None
    """Where all of the log is as text; None while it is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage(PageContext):
    """The whole page of a run."""

    id: int
    kind: str
    """What people call its kind."""
    name: str
    created_at: datetime
    dataset_name: str | None
    dataset_url: str | None
    request_facts: list[tuple[str, str]]
    result_facts: list[tuple[str, str]]
    status: RunStatus


def page_fields(request: Request, session: Session, run: Run) -> dict[str, Any]:
    """The fields of a `RunPage`, for pages that add their own."""
    line = run_row(request, run)
    pages = pages_of(run)
    return {
        "title": f"Run {run.id}: {run.name}",
        "section": "runs",
        "id": run.id,
        "kind": word_of(run.kind),
        "name": run.name,
        "created_at": run.created_at,
        "dataset_name": line.dataset_name,
        "dataset_url": line.dataset_url,
        "request_facts": facts(_without(run.request, pages.hidden_request)),
        "result_facts": facts(_without(run.result or {}, pages.hidden_result)),
        "status": run_status(request, session, run),
    }


def _without(values: Mapping[str, Any], hidden: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in hidden}


def run_status(request: Request, session: Session, run: Run) -> RunStatus:
    """How far the run is, the end of its log, and what may be done with it."""
    job = run.job
    status = JobStatus(job.status)
    error = job.error or {}

    def address(name: str) -> str:
        return url_of(request, name, run_id=run.id)

    lines = jobs.log_tail(session, run.id, LOG_LINES + 1)
    pages = pages_of(run)
    result = pages.result(request, run)
    resumes = has_checkpoints(run) and bool(checkpoints.list_checkpoints(session, run.id))
    can_retry = status.is_over and status != JobStatus.succeeded
    return RunStatus(
        refresh_url=address("run_status"),
        status=status,
        is_active=not status.is_over,
        is_stopping=job.cancel_requested and not status.is_over,
        phase=job.phase,
        done=job.done,
        total=job.total,
        unit=job.unit,
        share=percent_done(job),
        eta_seconds=jobs.eta_seconds(job),
        attempt=job.attempt,
        worker=job.worker_name,
        started_at=job.started_at,
        seconds=seconds_of(job),
        error=error.get("detail"),
        traceback=error.get("traceback"),
        notes=pages.notes(session, run),
        log=[LogEntry(line.at, line.level, line.message, line.id) for line in lines[-LOG_LINES:]],
        log_is_cut=len(lines) > LOG_LINES,
        log_url=address("run_log") if lines else None,
        result_url=result.address if result else None,
        result_label=result.label if result else "",
        cancel_url=None if status.is_over or job.cancel_requested else address("run_cancel"),
        retry_url=address("run_retry") if can_retry else None,
        retry_label="Resume" if resumes else "Retry",
        clone_url=url_of(request, pages.form, {"clone": run.id}) if pages.form else None,
        delete_url=address("run_delete") if status.is_over else None,
    )
