"""Every failure as one document, RFC 9457: the only place where an exception becomes an answer.

Doors and middleware raise; this file says what status, words and headers that means. A browser gets the same
document as a page, drawn by whoever composes the application.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError as SqlDataError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.errors import AppError, NotReady, StorageFull, Unauthorized, problems_of
from engine.errors import EngineError, RowError

MEDIA_TYPE = "application/problem+json"
_COMPONENT = "#/components/schemas/{model}"


class Place(BaseModel):
    """One thing that is wrong, and where."""

    loc: list[str | int] = Field(
        description="Path of the fault, such as `body`, `sources`, `0`; or `line`, 12."
    )
    msg: str


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457), with a sentence that says what to do."""

    type: str = Field(description="A URN that ends with `code`.")
    title: str = Field(description="The kind of failure; the same for every failure of its code.")
    status: int
    detail: str = Field(description="A whole sentence for the person who asked.")
    instance: str = Field(description="The path that was asked for.")
    code: str = Field(description="A constant word for programs.")
    errors: list[Place] = Field(default_factory=list, description="Each fault of the request, where known.")
    request_id: str = Field(description="Name of this request in the server's log.")


@dataclass(frozen=True, slots=True)
class ProblemResponse:
    """A document on its way out, with the headers that belong to its status."""

    document: ProblemDocument
    headers: Mapping[str, str] = field(default_factory=dict)


def describe(request: Request, error: Exception) -> ProblemResponse:
    """The problem that `error` is to the one who sent `request`. An unknown error is a bug: 500."""
    match error:
        case AppError():
            return _of_app_error(request, error)
        case EngineError():
            title = "Invalid row" if isinstance(error, RowError) else "The request cannot be done"
            return _problem(request, 422, error.code, title, str(error), _places(error))
        case RequestValidationError():
            return _of_validation(request, error)
        case HTTPException() if _is_full_disk(error.__cause__):
            # Uploads wait in a temporary folder while they are read, and FastAPI hides why that failed.
            return _of_app_error(request, StorageFull("The disk is full; free some space and send it again."))
        case HTTPException():
            return _of_http(request, error)
        case SqlDataError():
            detail = (
                "A value cannot be stored: text must not hold NUL characters, and numbers must fit 64 bits."
            )
            return _problem(request, 422, "invalid_request", "Invalid request", detail)
        case OSError() if error.errno == errno.ENAMETOOLONG:
            detail = "A path in the request is longer than the server's disk can have; correct it."
            return _problem(request, 422, "invalid_request", "Invalid request", detail)
        case _:
            return _problem(
                request,
                500,
                "internal_error",
                "Something went wrong",
                "This is a fault of the server, and it is in its log; please report it with the request id.",
            )


def _is_full_disk(cause: BaseException | None) -> bool:
    return isinstance(cause, OSError) and cause.errno == errno.ENOSPC


def json_answer(problem: ProblemResponse) -> Response:
    """The document itself."""
    return Response(
        problem.document.model_dump_json(),
        status_code=problem.document.status,
        headers=dict(problem.headers),
        media_type=MEDIA_TYPE,
    )


def wants_page(request: Request) -> bool:
    """Whether a person is reading: the path is no program's, and the browser asked for HTML."""
    if request.url.path.startswith(("/api/", "/openapi.json")):
        return False
    return "text/html" in request.headers.get("accept", "")


def _places(error: AppError | EngineError) -> list[Place]:
    return [Place(loc=list(fault.loc), msg=fault.msg) for fault in problems_of(error)]


def _of_app_error(request: Request, error: AppError) -> ProblemResponse:
    headers: dict[str, str] = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="rewardscope"'
    if isinstance(error, NotReady):
        headers["Retry-After"] = "2"
    return _problem(request, error.status, error.code, error.title, error.detail, _places(error), headers)


def _of_validation(request: Request, error: RequestValidationError) -> ProblemResponse:
    places = [Place(loc=list(fault["loc"]), msg=_sentence(fault)) for fault in error.errors()]
    first = f" First: {_path(places[0].loc)}: {places[0].msg}" if places else ""
    faults = "1 value" if len(places) == 1 else f"{len(places)} values"
    detail = f"The request has {faults} to correct.{first}"
    return _problem(request, 422, "invalid_request", "Invalid request", detail, places)


def _of_http(request: Request, error: HTTPException) -> ProblemResponse:
    phrase = HTTPStatus(error.status_code).phrase
    headers = dict(error.headers or {})
    path = request.url.path
    match error.status_code:
        case 404:
            code, detail = "not_found", f"There is nothing at {path}; the API's routes are listed at /docs."
        case 405:
            allowed = headers.get("Allow", headers.get("allow", ""))
            code = "method_not_allowed"
            detail = f"{request.method} is not possible at {path}; use {allowed or 'another method'}."
        case 413:
            code, detail = "payload_too_large", str(error.detail)
        case 400:
            code, detail = "malformed", f"The request cannot be read: {str(error.detail).rstrip('.')}."
        case _:
            code, detail = phrase.lower().replace(" ", "_"), str(error.detail)
    return _problem(request, error.status_code, code, phrase, detail, headers=headers)


def _problem(
    request: Request,
    status: int,
    code: str,
    title: str,
    detail: str,
    errors: Sequence[Place] = (),
    headers: Mapping[str, str] | None = None,
) -> ProblemResponse:
    document = ProblemDocument(
        type=f"urn:rewardscope:problem:{code}",
        title=title,
        status=status,
        detail=detail,
        instance=request.url.path,
        code=code,
        errors=list(errors),
        request_id=getattr(request.state, "request_id", ""),
    )
    return ProblemResponse(document, headers or {})


def _sentence(fault: Mapping[str, Any]) -> str:
    """Pydantic's message without the class name that it puts before a validator's own words."""
    message = str(fault["msg"]).removeprefix("Value error, ")
    reason = (fault.get("ctx") or {}).get("error") if fault["type"] == "json_invalid" else None
    return f"{message}: {reason}" if reason else message


def _path(loc: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in loc)


def schemas() -> dict[str, Any]:
    """The components of the OpenAPI that `responses` refers to."""
    schema = ProblemDocument.model_json_schema(ref_template=_COMPONENT)
    return {**schema.pop("$defs"), ProblemDocument.__name__: schema}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI says of failures: these statuses, and those that any route may answer."""
    always = (400, 401, 403, 404, 405, 413, 422, 500, 503)
    content = {MEDIA_TYPE: {"schema": {"$ref": _COMPONENT.format(model=ProblemDocument.__name__)}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({*always, *statuses})
    }
