"""The page of a run, with progress, log and buttons, which refreshes while it is active."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from app.db.tables import JobStatus
from app.dependencies import DatabaseDep, SessionDep
from app.pages.parts.kind_pages import pages_of
from app.pages.parts.rendering import render, see_other, url_of
from app.pages.parts.run_page import RunPage, RunStatus, page_fields, run_status
from app.services.runs import jobs, runs

router = APIRouter()


@dataclass(frozen=True, slots=True)
class RunFragment:
    """What a refresh draws anew."""

    status: RunStatus


@router.get("/runs/{run_id:int}", name="pages:run")
def show_run(request: Request, session: SessionDep, run_id: int) -> Response:
    """One run."""
    run = runs.get_run(session, run_id)
    show = pages_of(run).show
    if show is not None:
        return show(request, session, run)
    page = RunPage(**page_fields(request, session, run))
    return render(request, "runs/show.html", page)


@router.get("/runs/{run_id:int}/status", name="pages:run_status")
def show_status(request: Request, session: SessionDep, run_id: int) -> Response:
    """The part of the page that refreshes itself; once the run is over it asks for the whole page again.

    A page that refreshes in parts stays, as that of a training does, with its curves as somebody has zoomed
    them.
    """
    run = runs.get_run(session, run_id)
    over = JobStatus(run.job.status).is_over
    fragment = RunFragment(run_status(request, session, run))
    if pages_of(run).refreshes_in_parts:
        return render(request, "runs/_bare_status.html", fragment)
    return render(request, "runs/_status.html", fragment, headers={"HX-Refresh": "true"} if over else {})


@router.get("/runs/{run_id:int}/log.txt", name="pages:run_log")
def download_log(database: DatabaseDep, run_id: int) -> Response:
    """The whole log, as text: a line each with its time, its level and the attempt."""
    with database.session() as session:
        runs.get_run(session, run_id)

    def lines() -> Iterator[str]:
        after = 0
        while True:
            with database.session() as session:
                found = jobs.logs(session, run_id, after)
            if not found:
                return
            after = found[-1].id
            yield "".join(
                f"{line.at.isoformat()} {line.attempt} {line.level:<7} {line.message}\n" for line in found
            )

    name = f"rewardscope-run-{run_id}.log"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(lines(), media_type="text/plain; charset=utf-8", headers=headers)


@router.post("/runs/{run_id:int}/cancel", name="pages:run_cancel")
def cancel_run(request: Request, session: SessionDep, run_id: int) -> Response:
    """Asks the run to stop."""
    jobs.cancel(session, run_id)
    return see_other(url_of(request, "run", run_id=run_id))


@router.post("/runs/{run_id:int}/retry", name="pages:run_retry")
def retry_run(request: Request, session: SessionDep, run_id: int) -> Response:
    """Queues the run again; it goes on after what it stored."""
    jobs.retry(session, run_id)
    return see_other(url_of(request, "run", run_id=run_id))


@router.post("/runs/{run_id:int}/delete", name="pages:run_delete")
def delete_run(request: Request, session: SessionDep, run_id: int) -> Response:
    """Deletes the run with all it found."""
    runs.delete_run(session, run_id)
    return see_other(url_of(request, "runs"))
