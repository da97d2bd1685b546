"""Models: looked at, kept by name, forgotten."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse, StreamingResponse

from app.api.parts import lists
from app.api.parts.common import PREFIX, Id, View, door
from app.api.parts.idempotency import Done, OnceDep
from app.api.parts.lists import Listing, PagingDep
from app.api.runs.runs import RunView
from app.dependencies import DatabaseDep, SessionDep, SettingsDep
from app.problems import responses
from app.services.models import downloads, inspections, models
from app.services.paging import Page
from app.services.runs import runs
from engine.fields import StrictModel, shown
from engine.types import ModelReference


class ModelRequest(StrictModel):
    """A model to look at: a folder that the server can read, or a name on a hub."""

    path: str = Field(min_length=1, max_length=4096)
    """A folder that the server can read, or a name on a hub."""
    revision: str | None = Field(None, min_length=1, max_length=200)
    """A branch, tag or commit of the hub."""
    name: str | None = Field(
        None, min_length=1, max_length=200, title="Name", json_schema_extra=shown(blank="made of the path")
    )
    """What the model is called."""
    trust_remote_code: bool = False
    """Only where the server's settings allow this very model to bring its own code."""


class ModelView(View):
    """A model that may be named in requests."""

    id: int
    name: str
    path: str
    revision: str | None
    kind: str
    architecture: str
    parameters: int | None
    vocab_size: int | None
    context: int | None
    has_chat_template: bool
    fingerprint: str
    trust_remote_code: bool
    origin: dict[str, Any]
    created_at: datetime


TAR: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A tar file with the model's folder.",
        "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
    }
}

router = door("models")


@router.post("", status_code=201, response_model=ModelView, responses=responses(409))
def register_model(
    body: ModelRequest, session: SessionDep, settings: SettingsDep, once: OnceDep
) -> JSONResponse:
    """Looks at a model and keeps what it is; the same path and content twice is the same model."""

    def work() -> Done:
        reference = ModelReference(
            path=body.path, revision=body.revision, trust_remote_code=body.trust_remote_code
        )
        model = inspections.register(session, settings, reference, name=body.name)
        return Done(201, ModelView.model_validate(model), {"Location": f"{PREFIX}/models/{model.id}"})

    return once.answer(session, body.model_dump_json().encode(), work)


@router.get("", response_model=Listing[ModelView], responses=lists.FILES)
def list_models(paging: PagingDep, database: DatabaseDep) -> Any:
    """Models, newest first."""

    def fetch(session: Session, limit: int, cursor: str | None) -> Page[ModelView]:
        page = models.list_models(session, limit=limit, cursor=cursor)
        rows = [ModelView.model_validate(model) for model in page.items]
        return Page(rows, page.next_cursor, page.total)

    return lists.answer(database, paging, fetch, ModelView, "models")


@router.get("/{model_id}")
def read_model(model_id: Id, session: SessionDep) -> ModelView:
    """One model."""
    return ModelView.model_validate(models.get_model(session, model_id))


@router.post("/{model_id}/inspection", status_code=202)
def inspect_model(model_id: Id, session: SessionDep) -> RunView:
    """Has a worker look into a model: what it reads, what ends its turns, what is odd; of a reward model also
    whether it is read as its own forward pass reads it. The run's result says so."""
    run = inspections.look_into(session, models.get_model(session, model_id), again=True)
    return RunView.of(runs.get_run(session, run.id))


@router.get("/{model_id}/download", response_class=StreamingResponse, responses=TAR | responses(403, 409))
def download_model(model_id: Id, database: DatabaseDep, settings: SettingsDep) -> StreamingResponse:
    """The files of a model that a training made, as a tar file."""
    with database.session() as session:
        found = downloads.download(settings, models.get_model(session, model_id))
    headers = {
        "Content-Disposition": f'attachment; filename="{found.name}"',
        "Content-Length": str(found.size),
        "Content-Encoding": "identity",  # Weights do not compress, and a length lets a client show progress.
    }
    return StreamingResponse(found.chunks, media_type="application/x-tar", headers=headers)


@router.delete("/{model_id}", status_code=204, responses=responses(403, 409))
def delete_model(
    model_id: Id,
    session: SessionDep,
    settings: SettingsDep,
    files: Annotated[
        bool, Query(description="Remove its files too: only of a model that a training of this server made.")
    ] = False,
) -> None:
    """Forgets a model; its files stay where they are, unless `files` is set."""
    models.delete_model(session, model_id, settings=settings, files=files)
