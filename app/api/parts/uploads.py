"""Bodies that are a file with a form, or JSON instead: what the doors that bring data in have in common."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, TypeVar, cast

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from app.api.parts import strict_json
from engine.fields import StrictModel
from engine.formats.listing import file_sentence

Body = TypeVar("Body", bound=BaseModel)


class FileForm(StrictModel):
    """A file, in a form."""

    file: Any = Field(
        description=f"The file itself, with its name: {file_sentence()}.",
        json_schema_extra={"type": "string", "contentMediaType": "application/octet-stream"},
    )


Form = TypeVar("Form", bound=FileForm)


@dataclass(frozen=True, slots=True)
class Upload(Generic[Form]):
    """A file that has arrived whole, and the form that came with it."""

    file: BinaryIO
    filename: str
    form: Form

    def payload(self) -> bytes:
        """What makes two uploads the same."""
        digest = hashlib.file_digest(cast("io.BufferedIOBase", self.file), "sha256").hexdigest()
        self.file.seek(0)
        return json.dumps([digest, self.filename, *self.form.model_dump(exclude={"file"}).values()]).encode()


@asynccontextmanager
async def read_body(
    request: Request, form_type: type[Form], json_type: type[Body], otherwise: str
) -> AsyncIterator[Upload[Form] | Body]:
    """The upload, or what the JSON says. Raises RequestValidationError, and HTTPException (415) with the
    sentence `otherwise` for a body that is neither."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=10) as fields:
            form = _validated(form_type, dict(fields))
            file = _file_of(form.file)
            yield Upload(file.file, file.filename or "", form)
    elif kind == "application/json":
        yield _validated(json_type, await _read_json(request))
    else:
        raise HTTPException(415, otherwise)


def openapi_body(form_type: type[BaseModel], json_type: type[BaseModel]) -> dict[str, Any]:
    """What the OpenAPI says of a body that `read_body` reads."""
    content = {"multipart/form-data": form_type, "application/json": json_type}
    schemas = {kind: {"schema": _schema(model)} for kind, model in content.items()}
    return {"requestBody": {"required": True, "content": schemas}}


async def _read_json(request: Request) -> Any:
    try:
        return strict_json.parse(await request.body())
    except json.JSONDecodeError as error:
        fault = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error", "input": {}}
        raise RequestValidationError([{**fault, "ctx": {"error": error.msg}}]) from error


def _validated(model: type[Body], values: Any) -> Body:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]
        raise RequestValidationError(faults) from error


def _file_of(value: Any) -> UploadFile:
    if isinstance(value, UploadFile):
        return value
    fault = {"type": "missing", "loc": ("body", "file"), "msg": "Send a file, with its name.", "input": None}
    raise RequestValidationError([fault])


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """The body's schema without references, as it stands outside of the components."""
    schema = model.model_json_schema()
    found: dict[str, Any] = _inlined(schema, schema.pop("$defs", {}))
    return found


def _inlined(value: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if "$ref" in value:
            return _inlined(definitions[value["$ref"].rsplit("/", 1)[1]], definitions)
        return {name: _inlined(one, definitions) for name, one in value.items() if name != "discriminator"}
    return [_inlined(one, definitions) for one in value] if isinstance(value, list) else value
