"""One model: what it is, which run made it, what it was evaluated on, and its files to take away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.db.tables import Model
from app.dependencies import SessionDep
from app.pages.models.models import KINDS
from app.pages.parts.figures import FigureCell, figure_cell, hint_of, label_of, measured_on
from app.pages.parts.looking import Looking, looking
from app.pages.parts.numbers import count, size
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.pages.parts.run_facts import facts
from app.pages.parts.run_links import LinkedRun
from app.services.evaluations import evaluations
from app.services.models import inspections, models
from app.services.runs.views import find_run
from app.services.trainings import trainings

SHOWN_FIGURES = 200

router = APIRouter()


@dataclass(frozen=True, slots=True)
class EvaluatedFigure:
    """A figure of one of the model's evaluations."""

    label: str
    hint: str
    of: str
    cell: FigureCell
    count: int
    run_name: str
    run_url: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPage(PageContext):
    """The whole page."""

    name: str
    kind: str
    created_at: datetime
    facts: list[tuple[str, str]]
    made_by: LinkedRun | None
    method: str
    figures: list[EvaluatedFigure]
    can_evaluate: bool
    train_url: str
    evaluate_url: str
    download_url: str | None
    delete_url: str
    inspect_url: str
    looking: Looking | None
    seen: Mapping[str, Any] | None
    """What a worker saw in the model, as `ModelSeen.as_row` says it."""


@router.get("/models/{model_id:int}", name="pages:model")
def show_model(request: Request, session: SessionDep, model_id: int) -> Response:
    """One model."""
    model = models.get_model(session, model_id)
    made_by = _made_by(request, session, model)
    looked = inspections.inspection_of(session, model)
    is_ours = model.origin.get("kind") == "training"
    is_causal = model.kind == "causal_lm"
    page = ModelPage(
        title=model.name,
        section="models",
        name=model.name,
        kind=KINDS.get(model.kind, model.kind),
        created_at=model.created_at,
        facts=_facts(model),
        made_by=made_by,
        method=str(model.origin.get("method", "")),
        figures=_figures(request, session, model),
        can_evaluate=is_causal,
        train_url=url_of(request, "training_new", {"model": model.name}),
        evaluate_url=url_of(request, "evaluation_new", {"model": model.name}),
        download_url=str(request.app.url_path_for("download_model", model_id=model.id)) if is_ours else None,
        delete_url=url_of(request, "model_delete", model_id=model.id),
        inspect_url=url_of(request, "model_inspect", model_id=model.id),
        looking=None if looked is None else looking(request, looked),
        seen=None if looked is None else (looked.result or {}).get("model"),
    )
    return render(request, "models/show.html", page)


@router.post("/models/{model_id:int}/inspect", name="pages:model_inspect")
def inspect_model(request: Request, session: SessionDep, model_id: int) -> Response:
    """Has a worker look into the model."""
    inspections.look_into(session, models.get_model(session, model_id), again=True)
    return see_other(url_of(request, "model", model_id=model_id))


def _made_by(request: Request, session: Session, model: Model) -> LinkedRun | None:
    run_id = trainings.trained_by(model)
    run = None if run_id is None else find_run(session, run_id)
    return None if run is None else LinkedRun("made by", run.name, url_of(request, "run", run_id=run.id))


def _facts(model: Model) -> list[tuple[str, str]]:
    told = [
        ("architecture", model.architecture),
        ("parameters", size(model.parameters)),
        ("vocabulary", count(model.vocab_size)),
        ("context", f"{count(model.context)} tokens" if model.context else ""),
        ("chat template", "yes" if model.has_chat_template else "no"),
        ("where", f"{model.path}{f' @{model.revision}' if model.revision else ''}"),
        ("fingerprint", model.fingerprint),
    ]
    rest = facts({name: value for name, value in model.origin.items() if name not in ("kind", "run")})
    return [(name, value) for name, value in told if value] + rest


def _figures(request: Request, session: Session, model: Model) -> list[EvaluatedFigure]:
    rows = evaluations.list_figures(session, model_ids=[model.id], limit=SHOWN_FIGURES).items
    return [
        EvaluatedFigure(
            label=label_of(row.figure.metric),
            hint=hint_of(row.figure.metric),
            of=measured_on(row.figure.metric, row.figure.suite, row.figure.part),
            cell=figure_cell(row.figure),
            count=row.figure.count,
            run_name=row.run_name,
            run_url=url_of(request, "run", run_id=row.run_id),
            created_at=row.created_at,
        )
        for row in rows
    ]
