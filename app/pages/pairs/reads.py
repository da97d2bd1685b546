"""What the model reads of a pair: the conversation as its chat template writes it, the response marked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from sqlalchemy.orm import Session

from app.db.tables import Model, Run
from app.dependencies import SessionDep
from app.pages.parts.looking import Looking, looking
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.services.datasets import datasets
from app.services.models import inspections, models
from app.services.runs import runs

ROLES = ("policy", "reward_model")
"""Models of a run that may read a pair in ways of their own; the reference reads as the policy does."""

router = APIRouter()


@dataclass(frozen=True, slots=True)
class ModelReading:
    """One model, and what it reads as far as that is known."""

    role: str
    name: str
    looking: Looking | None
    readings: list[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadsPage(PageContext):
    """The whole page."""

    key: str
    pair_url: str
    action: str
    run_id: int
    models: list[ModelReading]
    here: str
    waits: bool
    is_asked: bool
    """Whether every model was asked already, so that there is nothing to press."""


@router.get("/pairs/{pair_id:int}/reads", name="pages:pair_reads")
def show_reads(
    request: Request, session: SessionDep, pair_id: int, run: Annotated[int, Query(ge=1)]
) -> Response:
    """What the models of a run read of the pair, as far as a worker has said so."""
    pair = datasets.get_pair(session, pair_id)
    scored_by = runs.get_run(session, run)
    found = [
        _reading(request, session, role, model, pair_id, scored_by) for role, model in _of(session, scored_by)
    ]
    page = ReadsPage(
        title=f"What the model reads: {pair.key}",
        section="home",
        key=pair.key,
        pair_url=url_of(request, "pair", {"run": run}, pair_id=pair_id),
        action=url_of(request, "pair_read", pair_id=pair_id),
        run_id=run,
        models=found,
        here=url_of(request, "pair_reads", {"run": run}, pair_id=pair_id),
        is_asked=all(one.looking is not None for one in found),
        waits=any(one.looking is not None and one.looking.waits for one in found),
    )
    return render(request, "pairs/reads.html", page)


@router.post("/pairs/{pair_id:int}/reads", name="pages:pair_read")
def read_pair(
    request: Request, session: SessionDep, pair_id: int, run: Annotated[int, Form(ge=1)]
) -> Response:
    """Has a worker read the pair with the models of the run."""
    row = datasets.canonical_row(datasets.get_pair(session, pair_id))
    scored_by = runs.get_run(session, run)
    for _, model in _of(session, scored_by):
        inspections.read_pair(session, model, pair_id, row, scored_by.request.get("template_date"))
    return see_other(url_of(request, "pair_reads", {"run": run}, pair_id=pair_id))


def _of(session: Session, run: Run) -> list[tuple[str, Model]]:
    """The models of the run that are still known, by role, each once."""
    found: dict[int, tuple[str, Model]] = {}
    for role in ROLES:
        record = run.request.get(role)
        model = None if record is None else models.find_model(session, int(record["id"]))
        if model is not None:
            found.setdefault(model.id, (role, model))
    return list(found.values())


def _reading(
    request: Request, session: Session, role: str, model: Model, pair_id: int, scored_by: Run
) -> ModelReading:
    day = scored_by.request.get("template_date")
    run = inspections.reading_of(session, model, pair_id, day)
    return ModelReading(
        role=role.replace("_", " "),
        name=model.name,
        looking=None if run is None else looking(request, run),
        readings=[] if run is None else (run.result or {}).get("readings", []),
    )
