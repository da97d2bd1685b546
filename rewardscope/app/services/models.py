"""Models that were looked at and may be named in requests."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from rewardscope.app.db.models import Model
from rewardscope.app.services.pages import DEFAULT_LIMIT, Page
from rewardscope.app.settings import Settings
from rewardscope.engine.types import ModelReference


def register(
    session: Session,
    settings: Settings,
    reference: ModelReference,
    *,
    name: str | None = None,
    origin: dict[str, Any] | None = None,
) -> Model:
    """The row of a model that can be loaded; the same path and content twice is the same row. Raises ModelError
    (what is missing), Forbidden (it brings code that no setting trusts), Conflict (name taken)."""
    raise NotImplementedError


def list_models(session: Session, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[Model]:
    """Models, newest first."""
    raise NotImplementedError


def get_model(session: Session, model_id: int) -> Model:
    """The model. Raises NotFound."""
    raise NotImplementedError


def find_model(session: Session, wanted: int | str) -> Model | None:
    """The model with this id, name or path, the newest where a path has several; None if there is none."""
    raise NotImplementedError


def delete_model(session: Session, model_id: int) -> None:
    """Forgets the model; its files stay. Raises NotFound, and Conflict while a job uses it."""
    raise NotImplementedError


def reference_of(model: Model) -> ModelReference:
    """How the engine names the model."""
    raise NotImplementedError
