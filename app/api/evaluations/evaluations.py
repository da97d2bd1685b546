"""Evaluations: a model becomes figures, and figures of several stand side by side."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse

from app.api.parts import lists
from app.api.parts.common import View, door
from app.api.parts.idempotency import OnceDep
from app.api.parts.lists import Listing, PagingDep
from app.api.runs.runs import RunView, accepted
from app.dependencies import DatabaseDep, SessionDep, SettingsDep
from app.problems import responses
from app.services.evaluations import evaluations
from app.services.evaluations.evaluations import EvaluationBody, FigureRow
from app.services.paging import Page

Ids = Annotated[list[Annotated[int, Query(ge=1, le=2**63 - 1)]], Query(max_length=100)]


class FigureView(View):
    """One number of an evaluation, with what it may be off by."""

    run_id: int
    run: str
    model_id: int
    model: str
    dataset_id: int | None
    suite: str | None
    """Name of the task suite; null for figures on pairs."""
    metric: str
    part: str
    """Category of the tasks or rows, empty for all of them."""
    value: float | None
    low: float | None
    high: float | None
    count: int
    """Tasks, pairs or tokens that it is a mean of."""
    reference: float | None
    """The same figure of the reference model."""
    created_at: datetime

    @classmethod
    def of(cls, row: FigureRow) -> FigureView:
        """The view of a figure and its evaluation."""
        return cls(
            run_id=row.run_id,
            run=row.run_name,
            model_id=row.model_id,
            model=row.model,
            dataset_id=row.dataset_id,
            **row.figure.model_dump(),
            created_at=row.created_at,
        )


router = door("evaluations")


@router.post("", status_code=202, response_model=RunView, responses=responses(409, 507))
def submit_evaluation(
    body: EvaluationBody, session: SessionDep, settings: SettingsDep, once: OnceDep
) -> JSONResponse:
    """Queues the evaluation of a model. What is wrong with the request is said now, not by the job."""
    return once.answer(
        session,
        body.model_dump_json().encode(),
        lambda: accepted(evaluations.submit(session, settings, body)),
    )


@router.get("", response_model=Listing[FigureView], responses=lists.FILES)
def list_figures(paging: PagingDep, database: DatabaseDep, model_id: Ids = [], run_id: Ids = []) -> Any:  # noqa: B006 - FastAPI copies it
    """Figures of evaluations that succeeded, a row each, the newest evaluation first.

    `model_id` and `run_id` may be repeated, to put several models or evaluations side by side.
    """

    def fetch(session: Session, limit: int, cursor: str | None) -> Page[FigureView]:
        page = evaluations.list_figures(
            session, model_ids=model_id, run_ids=run_id, limit=limit, cursor=cursor
        )
        return Page([FigureView.of(row) for row in page.items], page.next_cursor, page.total)

    return lists.answer(database, paging, fetch, FigureView, "figures")
