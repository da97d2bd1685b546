"""Models: the list, and the form that registers one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from sqlalchemy.orm import Session

from app.db.tables import Model
from app.dependencies import SessionDep, SettingsDep
from app.errors import AppError, Invalid, sentence_of, status_of
from app.pages.parts.forms import filled
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.services.models import inspections, models
from engine.errors import EngineError
from engine.types import ModelReference

KINDS = {"causal_lm": "language model", "sequence_classifier": "reward model"}

router = APIRouter()


@dataclass(frozen=True, slots=True)
class ModelLine:
    """A model with what its files say."""

    name: str
    address: str
    path: str
    revision: str | None
    kind: str
    architecture: str
    parameters: int | None
    vocab_size: int | None
    context: int | None
    has_chat_template: bool
    created_at: datetime
    delete_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsPage(PageContext):
    """The list and the form."""

    models: list[ModelLine]
    action: str
    path: str
    name: str
    revision: str
    problem: str | None
    first_url: str | None
    next_url: str | None


@router.get("/models", name="pages:models")
def show_models(request: Request, session: SessionDep) -> Response:
    """The list and the form."""
    return render(request, "models/index.html", _page(request, session))


@router.post("/models", name="pages:model_register")
def register_model(
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    path: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
    revision: Annotated[str, Form()] = "",
) -> Response:
    """Looks at the model's files and registers it, or says what is missing."""
    try:
        if not path.strip():
            raise Invalid("Name the folder of a model, or a model on the hub.")
        with session.begin_nested():
            reference = ModelReference(path=path.strip(), revision=revision.strip() or None)
            inspections.register(session, settings, reference, name=name.strip() or None)
    except (AppError, EngineError) as error:
        page = _page(request, session, path, name, revision, sentence_of(error))
        return render(request, "models/index.html", page, status=status_of(error))
    return see_other(url_of(request, "models"))


@router.post("/models/{model_id:int}/delete", name="pages:model_delete")
def delete_model(request: Request, session: SessionDep, model_id: int) -> Response:
    """Forgets the model; its files stay."""
    models.delete_model(session, model_id)
    return see_other(url_of(request, "models"))


def _page(
    request: Request,
    session: Session,
    path: str = "",
    name: str = "",
    revision: str = "",
    problem: str | None = None,
) -> ModelsPage:
    cursor = filled(request.query_params).get("cursor")
    found = models.list_models(session, cursor=cursor)
    following = {"cursor": found.next_cursor}
    return ModelsPage(
        title="Models",
        section="models",
        models=[_line(request, model) for model in found.items],
        action=url_of(request, "model_register"),
        path=path,
        name=name,
        revision=revision,
        problem=problem,
        first_url=url_of(request, "models") if cursor else None,
        next_url=url_of(request, "models", following) if found.next_cursor else None,
    )


def _line(request: Request, model: Model) -> ModelLine:
    return ModelLine(
        name=model.name,
        address=url_of(request, "model", model_id=model.id),
        path=model.path,
        revision=model.revision,
        kind=KINDS.get(model.kind, model.kind),
        architecture=model.architecture,
        parameters=model.parameters,
        vocab_size=model.vocab_size,
        context=model.context,
        has_chat_template=model.has_chat_template,
        created_at=model.created_at,
        delete_url=url_of(request, "model_delete", model_id=model.id),
    )
