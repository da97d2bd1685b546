"""What every door of the API shares: its prefix, strict JSON, proof of who calls, failures in the OpenAPI."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict

from app.api.parts.strict_json import StrictRoute
from app.dependencies import require_auth
from app.problems import responses

PREFIX = "/api/v1"

Id = Annotated[int, Path(ge=1, le=2**63 - 1)]


class View(BaseModel):
    """An answer of the API, made of anything with its attributes; the docstrings under them describe it."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)


def door(noun: str) -> APIRouter:
    """A router for one noun of the API."""
    return APIRouter(
        prefix=f"{PREFIX}/{noun}",
        tags=[noun],
        route_class=StrictRoute,
        dependencies=[Depends(require_auth)],
        responses=responses(),
    )
