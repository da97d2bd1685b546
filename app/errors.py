"""What can go wrong while remembering and showing, each with an HTTP status.

AppError
├── NotFound             404
├── Conflict             409
├── PayloadTooLarge      413
├── Invalid              422, with a list of places and messages
├── Unauthorized         401
├── Forbidden            403
├── NotReady             503
└── StorageFull          507

An engine's error (`EngineError`) that reaches a door becomes 422 with its own code, and the field that it
names a place of the body; anything else is a bug and becomes 500. One handler translates; nothing below the
doors raises an HTTP exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import EngineError, RowError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where: `loc` is a path such as ("body", "sources", 0) or ("line", 12)."""

    loc: tuple[str | int, ...]
    msg: str


class AppError(Exception):
    """A failure with a sentence for the user; `code` is a constant word for programs."""

    status = 500
    code = "internal_error"
    title = "Something went wrong"

    def __init__(self, detail: str, *, code: str | None = None, errors: Sequence[Problem] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.errors = tuple(errors)


class NotFound(AppError):
    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(AppError):
    status = 409
    code = "conflict"
    title = "Conflict"


class PayloadTooLarge(AppError):
    status = 413
    code = "payload_too_large"
    title = "Too large"


class Invalid(AppError):
    status = 422
    code = "invalid"
    title = "Invalid request"


class Unauthorized(AppError):
    status = 401
    code = "unauthorized"
    title = "Sign in first"


class Forbidden(AppError):
    status = 403
    code = "forbidden"
    title = "Not allowed"


class NotReady(AppError):
    status = 503
    code = "not_ready"
    title = "Not ready"


class StorageFull(AppError):
    status = 507
    code = "storage_full"
    title = "No space left"


def status_of(error: AppError | EngineError) -> int:
    """The HTTP status of a failure."""
    return error.status if isinstance(error, AppError) else 422


def sentence_of(error: AppError | EngineError) -> str:
    """What a failure says to the user."""
    return error.detail if isinstance(error, AppError) else str(error)


def problems_of(error: AppError | EngineError | None) -> Sequence[Problem]:
    """What is wrong, and where; none where nobody knows the place."""
    match error:
        case AppError():
            return error.errors
        case RowError():
            return [Problem(("line", error.line, *([error.field] if error.field else [])), error.reason)]
        case EngineError(field=str(field)):
            parts = (int(part) if part.isdecimal() else part for part in field.split("."))
            return [Problem(("body", *parts), str(error))]
    return ()
