"""Whether the server lives, is ready, which one it is, and its figures; for machines that hold no token."""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

from app.api.metrics import Metrics
from app.api.parts.common import View
from app.dependencies import SessionDep, SettingsDep, get_database
from app.errors import NotFound, NotReady
from app.problems import responses
from app.services import health
from app.services.runs import runs, workers

VERSION = version("rewardscope")
READY_SECONDS = 5.0
READY_THREADS = anyio.CapacityLimiter(4)
"""Threads that only `/readyz` has, so that it answers whatever hangs in the others."""

router = APIRouter(tags=["health"])


class Alive(View):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(View):
    """The server can do its work."""

    status: Literal["ready"] = "ready"
    revision: str
    """The revision of the tables."""
    workers: int
    """How many workers are alive; with none, jobs wait."""
    queued: int
    """How many jobs wait."""


class Version(View):
    """Which server this is."""

    name: Literal["rewardscope"] = "rewardscope"
    version: str = VERSION


@router.get("/healthz")
async def healthz() -> Alive:
    """Whether the process answers. Says nothing of the data base, whose restart must not cause ours."""
    return Alive()  # `async`, so that it waits for no thread, however many requests hang in those.


@router.get("/readyz", responses=responses(503))
async def readyz(request: Request) -> Ready:
    """Whether work can be done: the data base answers within five seconds and has this release's tables."""

    def check() -> health.Health:
        with get_database(request).session() as session:
            return health.check(session)

    try:
        with anyio.fail_after(READY_SECONDS):
            found = await anyio.to_thread.run_sync(check, abandon_on_cancel=True, limiter=READY_THREADS)
    except TimeoutError:
        raise NotReady(
            f"The data base did not answer within {READY_SECONDS:g} seconds; requests or the data base hang."
        ) from None
    return Ready.model_validate(found)


@router.get("/metrics", response_class=PlainTextResponse, responses=responses(404))
def read_metrics(request: Request, session: SessionDep, settings: SettingsDep) -> Response:
    """Figures for Prometheus, where the settings have them served."""
    if not settings.metrics:
        raise NotFound("Figures are switched off here; set REWARDSCOPE_METRICS=true to have them.")
    metrics: Metrics = request.app.state.metrics
    jobs, alive = runs.count_by_status(session), workers.count_alive(session)
    return Response(metrics.render(jobs, alive), media_type=CONTENT_TYPE_LATEST)


@router.get("/version")
async def read_version() -> Version:
    """Which server this is."""
    return Version()
