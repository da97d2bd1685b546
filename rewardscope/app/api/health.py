"""Whether the server lives, is ready, which one it is, and its figures; for machines that hold no token."""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

VERSION = version("rewardscope")

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Version(BaseModel):
    """Which server this is."""

    name: Literal["rewardscope"] = "rewardscope"
    version: str = VERSION


@router.get("/healthz")
def healthz() -> Alive:
    """Whether the process answers. Says nothing of the data base, whose restart must not cause ours."""
    return Alive()


@router.get("/version")
def read_version() -> Version:
    """Which server this is."""
    return Version()
