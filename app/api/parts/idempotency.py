"""`Idempotency-Key`: a POST that is sent again, because its answer got lost, does its work once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Header
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import JSONResponse

from app.services import idempotency


@dataclass(frozen=True, slots=True)
class Done:
    """What the work left to say."""

    status: int
    body: BaseModel
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Once:
    """Does the work of a POST once for each key. Without a key it simply does it."""

    key: str | None
    route: str

    def answer(self, session: Session, payload: bytes, work: Callable[[], Done]) -> JSONResponse:
        """The answer of `work`, or that of the first request with this key and payload.

        Key, work and answer are one transaction. Raises Invalid (another payload), Conflict (still running).
        """
        if self.key is not None:
            known = idempotency.begin(session, self.key, self.route, payload)
            if known is not None:
                return JSONResponse(known.body, known.status, known.headers)
        done = work()
        body: dict[str, Any] = json.loads(done.body.model_dump_json())
        if self.key is not None:
            idempotency.finish(
                session, self.key, self.route, status=done.status, headers=done.headers, body=body
            )
        return JSONResponse(body, done.status, done.headers)


def read_key(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(description="Any text of your own; the same key and payload gets the first answer for 24 h."),
    ] = None,
) -> Once:
    """What the caller wrote into `Idempotency-Key`."""
    return Once(idempotency_key, f"{request.method} {request.url.path}")


OnceDep = Annotated[Once, Depends(read_key)]
