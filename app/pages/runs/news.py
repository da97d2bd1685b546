"""Runs that ended, for the notices on every page: one open tab asks for all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.db.tables import JobStatus, Run
from app.dependencies import SessionDep
from app.errors import Invalid
from app.pages.parts.kind_pages import pages_of
from app.services.runs import runs

MOST = 20
OVERLAP = timedelta(seconds=30)
"""A run that ended before another may be committed after it; browsers know those that come twice by `key`."""
REPORTED = (JobStatus.succeeded, JobStatus.failed, JobStatus.crashed)
"""Who cancels a run knows it already."""

router = APIRouter()


@router.get("/news", name="pages:news")
def show_news(request: Request, session: SessionDep, after: str = "") -> Response:
    """Runs that ended after the moment `after`, newest first, and the moment to ask with the next time.

    Without a moment there are none: news begin with the first page that somebody opens.
    """
    now = runs.now(session)
    since = _moment(after)
    found = [] if since is None else runs.ended_since(session, since, REPORTED, MOST)
    items = [_item(request, run) for run in found]
    return JSONResponse({"now": now.isoformat(), "items": items}, headers={"Cache-Control": "no-store"})


def _item(request: Request, run: Run) -> dict[str, Any]:
    ended = run.job.finished_at
    assert ended is not None, "a run that is over has ended"
    return {
        "key": f"{run.id}@{ended.isoformat()}",
        "name": run.name,
        "kind": run.kind,
        "status": run.job.status,
        "url": pages_of(run).address(request, run),
        "at": ended.isoformat(),
    }


def _moment(text: str) -> datetime | None:
    """From when on runs are reported; None where nobody has asked before."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC) - OVERLAP
    except (ValueError, OverflowError):
        raise Invalid("`after` is no moment; send the one that the last answer gave as `now`.") from None
