"""A recipe as it would be done: its steps, checked all of them before the first is submitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.db.tables import Dataset, Model
from app.errors import Invalid, Problem
from app.services.datasets.datasets import check_disk, get_dataset
from app.services.evaluations.task_suites import resolve_suites
from app.services.models.models import check_same_tokens, choose, reference_of
from app.services.names import MAX_NAME_CHARACTERS, clean_name
from app.services.recipes.requests import SAME_PAIRS, PlannedStep, RecipeBody, filled, make_plan
from app.services.trainings.checks import usable_rows
from app.services.trainings.plans import make_plan as make_training_plan
from app.services.trainings.requests import TrainingBody
from app.settings import Settings
from engine.training.checks import check_training
from engine.training.request import TrainingNumbers, TrainingRequest
from engine.types import ModelReference

_NO_ID = 2**63 - 1
"""Stands for what an earlier step is yet to make."""


@dataclass(frozen=True, slots=True)
class RecipePlan:
    """What a recipe would do."""

    name: str
    steps: list[PlannedStep]
    warnings: list[str]
    """Sentences to read before it is submitted."""


def plan_recipe(session: Session, settings: Settings, body: RecipeBody) -> RecipePlan:
    """The plan and what to know of it; models that are named by a path are registered.

    Raises NotFound (a data set), Invalid, RequestError, ModelError, Forbidden, StorageFull.
    """
    check_disk(settings)
    dataset = get_dataset(session, body.dataset_id)
    scorer_data, _ = (
        None if one is None else get_dataset(session, one)
        for one in (body.scorer_dataset_id, body.held_out_dataset_id)
    )
    resolve_suites(session, settings, body.suite_ids)
    base, scorer, reward_model = _models(session, settings, body)
    body = body.model_copy(
        update={
            "model": base.id,
            "scorer": None if scorer is None else scorer.id,
            "reward_model": None if reward_model is None else reward_model.id,
        }
    )
    same_pairs = scorer_data is not None and dataset.content_hash == scorer_data.content_hash
    union = body.union and not same_pairs and (body.splits or scorer_data is not None)
    methods = ", ".join(method.name for method in body.methods)
    name = clean_name(
        body.name or f"{dataset.name}: {methods}"[:MAX_NAME_CHARACTERS],
        "A recipe",
        ", which its runs and models take too",
    )
    steps = make_plan(body, name, union=union)
    warnings = []
    if body.reads_scorer and (same_pairs or _learned_from(scorer, dataset, body)):
        warnings.append(SAME_PAIRS)
    warnings += _check_trainings(session, settings, steps, base)
    if body.union and not union:
        warnings.append(
            "There is no row of sample + scorer data: sample-wise training on these as well needs data that "
            "only the scorer has seen. Name them as the scorer's data."
        )
    if not body.suite_ids:
        warnings.append(
            "Without a task suite nobody sees whether answers get better: the table compares losses and "
            "accuracies only. Name one."
        )
    return RecipePlan(name, steps, list(dict.fromkeys(warnings)))


def _models(
    session: Session, settings: Settings, body: RecipeBody
) -> tuple[Model, Model | None, Model | None]:
    base = choose(session, settings, body.model, "model", "causal_lm")
    scorer = None if body.scorer is None else choose(session, settings, body.scorer, "scorer", "causal_lm")
    reward_model = (
        None
        if body.reward_model is None
        else choose(session, settings, body.reward_model, "reward_model", "sequence_classifier")
    )
    check_same_tokens({"model": base, "scorer": scorer})
    if scorer is not None and scorer.fingerprint == base.fingerprint:
        raise Invalid(
            f"The scorer `{scorer.name}` is the base policy itself, whose implicit reward against itself is "
            "zero everywhere; name a scorer that was trained, or none, and one is trained first.",
            code="own_reward",
            errors=[Problem(("body", "scorer"), "must be another model than the base")],
        )
    return base, scorer, reward_model


def _learned_from(scorer: Model | None, dataset: Dataset, body: RecipeBody) -> bool:
    """Whether a scorer that was trained here learned from pairs that it will mask."""
    if scorer is None or dataset.content_hash not in scorer.origin.get("data", []):
        return False
    learned, part = scorer.origin["part"], body.data.part
    return bool(learned["start"] < part.end and part.start < learned["end"])


def _check_trainings(
    session: Session, settings: Settings, steps: Sequence[PlannedStep], base: Model
) -> list[str]:
    """Warnings of all trainings. Raises for the first that could not be submitted, now or later on."""
    warnings: list[str] = []
    for step in steps:
        if step.kind == "training" and not step.needs:
            body = TrainingBody.model_validate(step.request)
            plan = make_training_plan(session, settings, body)
            warnings += [*plan.warnings, *(trouble.detail for trouble in plan.troubles())]
        elif step.kind == "training":
            warnings += _check_later(session, step, base)
    return warnings


def _check_later(session: Session, step: PlannedStep, base: Model) -> list[str]:
    """Warnings of a training that waits for others: what they will make is stood in for by a name."""
    body = TrainingBody.model_validate(filled(step.request, _StandIns()))
    roles = ("scorer", "scorer_reference", "reward_model")
    request = TrainingRequest.model_validate(
        {
            **{name: getattr(body, name) for name in TrainingNumbers.model_fields},
            "model": reference_of(base),
            **{role: _stood_in(session, getattr(body, role)) for role in roles},
        }
    )
    usable_rows(session, body.method, [get_dataset(session, body.dataset_id)])
    return check_training(request, has_rewards=body.scoring_run_id is not None)


class _StandIns(dict[str, int]):
    """An id for whatever is yet to be made: none that exists."""

    def __missing__(self, step: str) -> int:
        return _NO_ID


def _stood_in(session: Session, wanted: Any) -> ModelReference | None:
    if wanted is None:
        return None
    model = None if wanted == _NO_ID else session.get(Model, wanted)
    return ModelReference(path="(made by this recipe)") if model is None else reference_of(model)
