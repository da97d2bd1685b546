"""A run as it happens, by server-sent events: its state, each line of its log, its curves, an end.

The id of an event is that of the last log line sent, so that `Last-Event-ID` loses and repeats none; the
state is sent whole on every connection. `end` closes the stream; a browser that comes back with its id is
asked to stay away.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.api.parts.common import Id, View, door
from app.api.runs.live import Live, LiveDep
from app.api.runs.runs import LogLine, RunSummary
from app.db.session import Database
from app.db.tables import JobStatus
from app.dependencies import DatabaseDep, SessionDep
from app.services.runs import jobs, runs
from app.services.runs.kinds import has_curves

LINES_A_READ = 500
SECONDS_BETWEEN_READS = 5.0
"""Even where no word of a change comes: an ETA moves by itself, and a notification may be lost."""
END = ".end"


class StreamIsOver(Exception):
    """The caller has seen the end; the answer is 204, which tells an EventSource not to come back."""


class Curves(View):
    """How far the curves of a training are: whoever draws them asks for the points that are missing."""

    last_step: int
    """Points up to this update are stored; later ones, which an earlier attempt has left, are void."""
    attempt: int


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What a run is at one moment."""

    run: RunSummary
    lines: list[LogLine]
    curves: Curves | None
    """None for a run that draws none."""


def last_event(
    run_id: Id,
    session: SessionDep,
    last_event_id: Annotated[
        str | None, Header(description="Id of the last event that you have.", max_length=100)
    ] = None,
) -> int:
    """Id of the last log line that the caller has; 0 for none. Raises NotFound, and StreamIsOver where the
    caller has seen the end."""
    run = runs.get_run(session, run_id)
    number, end, _ = (last_event_id or "").partition(END)
    if end and JobStatus(run.job.status).is_over:
        raise StreamIsOver
    return min(int(number), 2**63 - 1) if number.isascii() and number.isdecimal() else 0


router = door("runs")


@router.get("/{run_id}/events", response_class=EventSourceResponse)
async def stream_events(
    run_id: Id,
    since: Annotated[int, Depends(last_event, scope="function")],
    database: DatabaseDep,
    live: LiveDep,
) -> AsyncIterator[ServerSentEvent]:
    """The run as it happens: events `run` (its state), `log` (a line), `metrics` (how far its curves are) and
    `end`, which is the last."""
    async with aclosing(_events(run_id, since, database, live)) as events:
        async for event in events:
            yield event


async def _events(run_id: int, since: int, database: Database, live: Live) -> AsyncGenerator[ServerSentEvent]:
    shown: RunSummary | None = None
    drawn: Curves | None = None
    with live.changes_of(run_id) as changes:
        while True:
            now = await run_in_threadpool(_snapshot, database, run_id, since)
            if now.run != shown:
                shown = now.run
                yield ServerSentEvent(event="run", data=shown, id=str(since))
            if now.curves != drawn:
                drawn = now.curves
                yield ServerSentEvent(event="metrics", data=drawn, id=str(since))
            for line in now.lines:
                since = line.id
                yield ServerSentEvent(event="log", data=line, id=str(since))
            if shown.job.is_over and not now.lines:
                yield ServerSentEvent(event="end", data={"status": shown.job.status}, id=f"{since}{END}")
                return
            if len(now.lines) < LINES_A_READ and not shown.job.is_over:
                await changes.wait(SECONDS_BETWEEN_READS)


def _snapshot(database: Database, run_id: int, since: int) -> _Snapshot:
    with database.session() as session:
        run = runs.get_run(session, run_id)
        lines = jobs.logs(session, run_id, since, LINES_A_READ)
        # The job knows the step by itself: nothing of the curves is read.
        curves = Curves(last_step=run.job.resume_from, attempt=run.job.attempt)
        return _Snapshot(
            RunSummary.summary_of(run),
            [LogLine.model_validate(line) for line in lines],
            curves if has_curves(run) else None,
        )
