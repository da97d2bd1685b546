"""Whether the server lives, is ready, which one it is, and its figures; for machines that hold no token."""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

from app.api.metrics import Metrics
from app.api.parts.common import View
from app.dependencies import SessionDep, SettingsDep
from app.errors import NotFound
from app.problems import responses
from app.services import health
from app.services.runs import runs, workers

VERSION = version("rewardscope")

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
def healthz() -> Alive:
    """Whether the process answers. Says nothing of the data base, whose restart must not cause ours."""
    return Alive()


@router.get("/readyz", responses=responses(503))
def readyz(session: SessionDep) -> Ready:
    """Whether work can be done: the data base answers and has this release's tables."""
    return Ready.model_validate(health.check(session))


@router.get("/metrics", response_class=PlainTextResponse, responses=responses(404))
def read_metrics(request: Request, session: SessionDep, settings: SettingsDep) -> Response:
    """Figures for Prometheus, where the settings have them served."""
    if not settings.metrics:
        raise NotFound("Figures are switched off here; set REWARDSCOPE_METRICS=true to have them.")
    metrics: Metrics = request.app.state.metrics
    jobs, alive = runs.count_by_status(session), workers.count_alive(session)
    return Response(metrics.render(jobs, alive), media_type=CONTENT_TYPE_LATEST)


@router.get("/version")
def read_version() -> Version:
    """Which server this is."""
    return Version()
