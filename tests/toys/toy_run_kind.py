"""A run kind as somebody may bring it in one file: its job, how it is done, and how its runs are shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.pages.parts.kind_pages import KIND_PAGES, KindPages, ResultLink
from app.pages.parts.rendering import url_of
from app.services.runs.kinds import RUN_KINDS, Clone, RunKind
from engine.jobs.protocol import ReportCallable


class DoublingBody(BaseModel):
    """What asks for a doubling."""

    number: int


def run(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    """The job: doubles a number."""
    report(message=f"doubling {request['number']}")
    return {"doubled": 2 * request["number"]}


def prepare(session: Session, run: Run, scratch: Path) -> dict[str, Any]:
    return {"number": run.request["number"]}


def clone(session: Session, run: Run) -> Clone:
    return Clone("doublings", DoublingBody(number=run.request["number"]))


def result(request: Request, run: Run) -> ResultLink | None:
    return ResultLink(url_of(request, "playground"), "Double it again") if run.result else None


DOUBLING = RUN_KINDS.register(
    RunKind(name="doubling", word="doubling of a number", job=__name__, prepare=prepare, clone=clone)
)
RUN_KINDS.register(replace(DOUBLING, name="quiet_doubling", is_reported=False))
KIND_PAGES.register(KindPages(name="doubling", result=result, hidden_request=("secret",)))
