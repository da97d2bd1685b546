"""What surrounds every request: an id, a log line, figures, security headers, a limit on the body, and an
answer even where something broke."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Protocol

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import PayloadTooLarge
from app.security import protect
from app.settings import MIB, Settings

MAX_BODY_BYTES = 64 * MIB
"""Of any request but an upload. 200,000 token rewards with offsets and text take about 10 MiB."""
UPLOAD_PATHS = ("/api/v1/datasets", "/datasets")

log = structlog.get_logger(__name__)

Answer = Callable[[Request, Exception], Response]


class Observer(Protocol):
    """Is told of each answer: its method, route template, status and seconds until it began."""

    def __call__(self, method: str, route: str, status: int, seconds: float) -> None: ...


class Surroundings:
    """The outermost layer: nothing that fails inside leaves without an answer."""

    def __init__(self, app: ASGIApp, *, answer: Answer, observe: Observer) -> None:
        self.app = app
        self.answer = answer
        self.observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        request.state.request_id = request_id = secrets.token_hex(8)
        started = time.perf_counter()
        status = 0

        async def send_protected(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                protect(headers, is_https=scope["scheme"] == "https")
                self._note(request, status, time.perf_counter() - started)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_protected)
            except Exception as error:
                answer = self.answer(request, error)
                if status or answer.status_code == 500:
                    log.exception("request_crashed", path=request.url.path)
                if status:
                    raise  # The answer has begun: only breaking the connection tells that it is not whole.
                await answer(scope, receive, send_protected)

    def _note(self, request: Request, status: int, seconds: float) -> None:
        route = getattr(request.scope.get("route"), "path", "(none)")
        self.observe(request.method, route, status, seconds)
        # What is only looked at, some of it every second, would bury what was done and what went wrong.
        routine = status < 400 and request.method in ("GET", "HEAD")
        log.log(
            logging.DEBUG if routine else logging.INFO,
            "request",
            method=request.method,
            path=request.url.path,
            status=status,
            milliseconds=round(1000 * seconds, 1),
        )


class BodyLimit:
    """Refuses a body as soon as it is known to be too large, by its declared length, else as it arrives; and
    one that still arrives when the server is asked to stop."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self.max_upload_bytes = settings.max_upload_mib * MIB

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_upload = scope["path"] in UPLOAD_PATHS
        limit = self.max_upload_bytes if is_upload else MAX_BODY_BYTES
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            raise PayloadTooLarge(_too_large(limit, is_upload))
        stopping: asyncio.Event | None = getattr(scope["app"].state, "stopping", None)
        arrived, is_whole = 0, False

        async def receive_limited() -> Message:
            nonlocal arrived, is_whole
            message = await (receive() if is_whole or stopping is None else _received(receive, stopping))
            is_whole = not message.get("more_body", False)
            arrived += len(message.get("body", b""))
            if arrived > limit:
                # FastAPI passes on only this exception from where it reads a body.
                raise HTTPException(413, _too_large(limit, is_upload))
            return message

        await self.app(scope, receive_limited, send)


async def _received(receive: Receive, stopping: asyncio.Event) -> Message:
    """The next part of a body. Raises HTTPException where the server stops before it comes."""
    message, stop = asyncio.ensure_future(receive()), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([message, stop], return_when=asyncio.FIRST_COMPLETED)
        if message.done():
            return message.result()
        sentence = "The server is being stopped, and nothing of this request was kept; send it again later."
        raise HTTPException(503, sentence, headers={"Retry-After": "10", "Connection": "close"})
    finally:
        message.cancel()
        stop.cancel()


def _too_large(limit: int, is_upload: bool) -> str:
    advice = (
        "split the file, name a folder instead, or raise REWARDSCOPE_MAX_UPLOAD_MIB"
        if is_upload
        else "send less in one request"
    )
    return f"The request is larger than {limit // MIB} MiB; {advice}."
