"""A run that somebody waits for, as far as it is: what a page shows until its result is there."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from app.db.tables import JobStatus, Run
from app.pages.parts.rendering import url_of


@dataclass(frozen=True, slots=True)
class Looking:
    """How far the run is. The page asks again while it `waits`."""

    waits: bool
    phase: str
    failure: str | None
    run_url: str


def looking(request: Request, run: Run) -> Looking:
    """How far a run is."""
    job = run.job
    status = JobStatus(job.status)
    failed = status.is_over and status != JobStatus.succeeded
    detail = (job.error or {}).get("detail", f"The run is {status}.") if failed else None
    return Looking(
        waits=not status.is_over,
        phase=job.phase or ("waits for a worker" if status == JobStatus.queued else "is running"),
        failure=detail,
        run_url=url_of(request, "run", run_id=run.id),
    )
