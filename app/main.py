"""Puts the web application together: doors, what surrounds them, and how failures look."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError as SqlDataError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response

from app import problems
from app.api import docs, health
from app.api.health import VERSION
from app.api.metrics import Metrics
from app.api.router import router as api_router
from app.api.runs.events import StreamIsOver
from app.api.runs.live import Live
from app.db.session import Database
from app.errors import AppError, NotReady
from app.middleware import BodyLimit, Surroundings
from app.pages.errors import render_problem
from app.pages.router import router as pages_router
from app.security import Authentication, Gate, check_bind, load_token
from app.settings import Settings
from app.static_files import STATIC_FOLDER, VersionedFiles
from engine.errors import EngineError

FAILURES = (AppError, EngineError, HTTPException, RequestValidationError, SqlDataError)


class WebApplication(FastAPI):
    """FastAPI, whose description of itself knows what failures look like."""

    def openapi(self) -> dict[str, Any]:
        schema = super().openapi()
        schema.setdefault("components", {}).setdefault("schemas", {}).update(problems.schemas())
        return schema


def create_app(settings: Settings, database: Database | None = None) -> FastAPI:
    """The web application on a data base that is migrated already.

    Without `database` the one at `settings.database_url` is used. Raises UnsafeStart, NotReady.
    """
    check_bind(settings)
    app = WebApplication(
        title="RewardScope",
        summary="Where in a response does the reward come from?",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.database = database or _configured(settings)
    app.state.owns_database = database is None
    app.state.authentication = Authentication(load_token(settings))
    app.state.metrics = Metrics()
    app.state.stopping = None  # An event of the loop that serves, once one does.
    app.state.live = Live(app.state.database.url)
    _surround(app)
    _open_doors(app)
    return app


def settle() -> None:
    """Takes what is there by now out of the reach of garbage collection, for a process that only serves.

    A full collection walks through all that was ever imported: 0.2 s every few long pages, 0.02 s after this.
    """
    gc.collect()
    gc.freeze()


def _configured(settings: Settings) -> Database:
    if settings.database_url is None:
        raise NotReady("There is no data base yet: set REWARDSCOPE_DATABASE_URL, or use `rewardscope up`.")
    return Database.connect(settings.database_url)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.stopping = asyncio.Event()
    yield
    if app.state.owns_database:
        app.state.database.dispose()


def _surround(app: FastAPI) -> None:
    """From the outside in: surroundings, gate, compression, body limit."""
    app.add_middleware(BodyLimit, settings=app.state.settings)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)
    app.add_middleware(Gate, settings=app.state.settings, authentication=app.state.authentication)
    app.add_middleware(Surroundings, answer=answer_failure, observe=app.state.metrics.observe)
    for failure in FAILURES:
        app.add_exception_handler(failure, _handle_failure)
    app.add_exception_handler(StreamIsOver, _end_stream)


def _open_doors(app: FastAPI) -> None:
    app.include_router(health.router)
    app.include_router(docs.router)
    app.include_router(api_router)
    app.include_router(pages_router)
    app.mount("/static", VersionedFiles(directory=STATIC_FOLDER), name="static")


def answer_failure(request: Request, error: Exception) -> Response:
    """What the caller sees of a failure: a document, or a page for people."""
    problem = problems.describe(request, error)
    if problems.wants_page(request):
        return render_problem(request, problem)
    return problems.json_answer(problem)


async def _end_stream(_request: Request, _error: Exception) -> Response:
    return Response(status_code=204)


async def _handle_failure(request: Request, error: Exception) -> Response:
    return answer_failure(request, error)
