"""What the forms of runs choose from: models, data sets, task suites."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.pages.parts.form_fields import Typed
from app.pages.parts.numbers import counted, shortened
from app.services.datasets import datasets
from app.services.evaluations import task_suites
from app.services.models import models

MOST = 500
NAME_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class FormChoices:
    """Names, and (id, words) of what is chosen by its id."""

    causal_models: list[str]
    reward_models: list[str]
    datasets: tuple[tuple[str, str], ...]
    suites: tuple[tuple[str, str], ...]


def form_choices(session: Session) -> FormChoices:
    """All that there is, newest first, up to 500 of each kind."""
    known = models.list_models(session, limit=MOST).items
    return FormChoices(
        causal_models=[model.name for model in known if model.kind == "causal_lm"],
        reward_models=[model.name for model in known if model.kind == "sequence_classifier"],
        datasets=tuple(
            (str(one.id), f"{shortened(one.name, NAME_CHARACTERS)} ({counted(one.pair_count, 'pair')})")
            for one in datasets.list_datasets(session, limit=MOST).items
        ),
        suites=tuple(
            (str(one.id), f"{shortened(one.name, NAME_CHARACTERS)} ({counted(one.task_count, 'task')})")
            for one in task_suites.list_suites(session, limit=MOST).items
        ),
    )


def with_model_names(session: Session, typed: Typed, roles: Iterable[str]) -> dict[str, list[str]]:
    """What was typed, with the models in these fields by their names; what is no id of one stays as it is."""
    named = {role: [_model_name(session, value) for value in typed[role]] for role in roles if role in typed}
    return {name: list(values) for name, values in typed.items()} | named


def _model_name(session: Session, wanted: str) -> str:
    """The name of a model that a request names by its id; what is no id stays as it is."""
    model = models.find_model(session, int(wanted)) if wanted.isdecimal() and len(wanted) < 19 else None
    return wanted if model is None else model.name
