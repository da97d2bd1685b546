"""A run as a line of a list: what it is, how far it is, where it leads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fastapi import Request

from app.db.tables import Job, JobStatus, Run
from app.pages.parts.kind_pages import pages_of
from app.pages.parts.rendering import url_of
from app.services.runs.kinds import word_of


@dataclass(frozen=True, slots=True)
class RunRow:
    """One line."""

    id: int
    name: str
    kind: str
    """What people call its kind."""
    is_compared: bool
    """Whether it can stand beside others."""
    address: str
    status: str
    is_active: bool
    dataset_name: str | None
    dataset_url: str | None
    phase: str
    done: int
    total: int | None
    share: int | None
    """Percent of the phase that is done; None while its length is unknown."""
    created_at: datetime
    seconds: float | None
    """How long it took; None before it ended."""


def run_row(request: Request, run: Run) -> RunRow:
    """The line of a run whose job and data set are loaded."""
    job = run.job
    return RunRow(
        id=run.id,
        name=run.name,
        kind=word_of(run.kind),
        is_compared=pages_of(run).is_compared,
        address=url_of(request, "run", run_id=run.id),
        status=job.status,
        is_active=not JobStatus(job.status).is_over,
        dataset_name=run.dataset.name if run.dataset else None,
        dataset_url=url_of(request, "dataset", {"run": run.id}, dataset_id=run.dataset.id)
        if run.dataset
        else None,
        phase=job.phase,
        done=job.done,
        total=job.total,
        share=percent_done(job),
        created_at=run.created_at,
        seconds=seconds_of(job),
    )


def percent_done(job: Job) -> int | None:
    """How much of the phase is done, in whole percent; None while its length is unknown."""
    return None if not job.total else min(100, 100 * job.done // job.total)


def seconds_of(job: Job) -> float | None:
    """How long the last attempt took; None before it ended."""
    if job.started_at is None or job.finished_at is None:
        return None
    return (job.finished_at - job.started_at).total_seconds()
