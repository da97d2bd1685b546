"""Bodies that are a file with a form, or JSON instead: what the doors that bring data in have in common."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any, BinaryIO, TypeVar, cast

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from app.api.parts import strict_json

Body = TypeVar("Body", bound=BaseModel)


def media_type(request: Request) -> str:
    """What the body says it is, in lower case and without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request) -> Any:
    """The body as strict JSON. Raises RequestValidationError."""
    try:
        return strict_json.parse(await request.body())
    except json.JSONDecodeError as error:
        fault = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error", "input": {}}
        raise RequestValidationError([{**fault, "ctx": {"error": error.msg}}]) from error


def validated(model: type[Body], values: Any) -> Body:
    """The body that `values` are. Raises RequestValidationError."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]
        raise RequestValidationError(faults) from error


def file_of(value: Any) -> UploadFile:
    """The file that a form's field holds. Raises RequestValidationError where it holds text."""
    if isinstance(value, UploadFile):
        return value
    fault = {"type": "missing", "loc": ("body", "file"), "msg": "Send a file, with its name.", "input": None}
    raise RequestValidationError([fault])


def digest(file: BinaryIO) -> str:
    """SHA-256 of a file from where it stands, which is its beginning; it stands there again afterwards."""
    found = hashlib.file_digest(cast("io.BufferedIOBase", file), "sha256").hexdigest()
    file.seek(0)
    return found
