"""What a training may be asked, what a run keeps of it, and what that means to the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy.orm import Session

from app.db.tables import Dataset, Model, Run
from app.errors import Invalid, Problem
from app.services.datasets.datasets import hold_dataset
from app.services.evaluations.task_suites import resolve_suites
from app.services.models.models import ModelName, choose, name_again, record_of, recorded_reference
from app.settings import Settings
from engine.fields import shown
from engine.model_files import ModelKind
from engine.sources import SourceName
from engine.training.request import Supervision, TrainingNumbers, TrainingRequest

Id = Annotated[int, Field(ge=1, le=2**63 - 1)]

TRAINING = "training"
"""The kind of runs that train a model."""
MODELS: Mapping[str, ModelKind] = {
    "model": "causal_lm",
    "reference": "causal_lm",
    "scorer": "causal_lm",
    "scorer_reference": "causal_lm",
    "reward_model": "sequence_classifier",
}
"""Where a training names a model, and what it must be there; of `model` the method says what it may begin
with."""


class TrainingBody(TrainingNumbers):
    """The body of `POST /api/v1/trainings`."""

    dataset_id: Id = Field(title="Data set")
    """The rows that are trained on."""
    extra_dataset_ids: list[Id] = Field([], max_length=20, title="Further data sets")
    """Their rows are trained on as well."""
    name: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        title="Name",
        json_schema_extra=shown(blank="by data set and method"),
    )
    """What the run and the trained model are called."""
    model: ModelName = Field(title="Model")
    """What is trained: a registered model, a folder, or a name on the hub."""
    reference: ModelName | None = Field(
        None, title="Reference model", json_schema_extra=shown(blank="the model as it was before training")
    )
    """Frozen, for log-ratios and KL."""
    scorer: ModelName | None = Field(None, title="Scorer", json_schema_extra=shown(blank="none"))
    """A frozen policy whose implicit reward decides which tokens count, as training goes; never the trained
    model itself."""
    scorer_reference: ModelName | None = Field(
        None, title="Reference of the scorer", json_schema_extra=shown(blank="the reference model")
    )
    """What the scorer was trained from."""
    reward_model: ModelName | None = Field(None, title="Reward model", json_schema_extra=shown(blank="none"))
    """A frozen sequence classifier: rewards responses that are sampled, and their tokens."""
    scoring_run_id: Id | None = Field(
        None, title="Masks from a scoring run", json_schema_extra=shown(blank="none: from the models below")
    )
    """Its stored rewards make the masks, which are those that the pages of its pairs show."""
    suite_ids: list[Id] = Field([], max_length=20, title="Task suites")
    """Answered every few steps while the model learns."""
    cloned_from: Id | None = Field(None, json_schema_extra=shown(blank="none"))
    """The run whose request this one began with."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A training that was asked for, with all that it names."""

    body: TrainingBody
    dataset: Dataset
    extra_datasets: Sequence[Dataset]
    models: Mapping[str, Model | None]
    """By the fields of the body."""
    suites: Sequence[Mapping[str, Any]]
    scoring_run: Run | None
    source: SourceName | None
    """The source whose stored rewards are used; None without a scoring run."""

    @property
    def model(self) -> Model:
        """What is trained."""
        found = self.models["model"]
        assert found is not None, "a training names its model"
        return found

    @property
    def datasets(self) -> list[Dataset]:
        """All data sets, in the order of their rows."""
        return [self.dataset, *self.extra_datasets]

    def request(self) -> TrainingRequest:
        """The engine's request."""
        return training_request(self.record())

    def record(self) -> dict[str, Any]:
        """What the run keeps: numbers, and what is named with its name, place and content."""
        numbers = {name: getattr(self.body, name) for name in TrainingNumbers.model_fields}
        if self.source is not None:
            named = {**self.body.supervision.model_dump(), "source": self.source}
            numbers["supervision"] = Supervision.model_validate(named)
        return {
            **TrainingNumbers.model_validate(numbers).model_dump(mode="json"),
            "dataset_id": self.dataset.id,
            "dataset_name": self.dataset.name,
            "data_hash": self.dataset.content_hash,
            "extra_datasets": [
                {"id": one.id, "name": one.name, "data_hash": one.content_hash} for one in self.extra_datasets
            ],
            **{role: None if model is None else record_of(model) for role, model in self.models.items()},
            "scoring_run": None
            if self.scoring_run is None
            else {"id": self.scoring_run.id, "name": self.scoring_run.name, "source": self.source},
            "suites": list(self.suites),
        }


def training_request(resolved: Mapping[str, Any]) -> TrainingRequest:
    """The engine's request of one that was resolved."""
    numbers = {name: resolved[name] for name in TrainingNumbers.model_fields}
    return TrainingRequest.model_validate(
        {**numbers, **{role: recorded_reference(resolved[role]) for role in MODELS}}
    )


def body_of(session: Session, run: Run) -> TrainingBody:
    """The body that asks for the same training once more: what a clone begins with."""
    resolved = run.request
    scoring_run = resolved["scoring_run"]
    return TrainingBody.model_validate(
        {
            **{name: resolved[name] for name in TrainingNumbers.model_fields},
            "dataset_id": resolved["dataset_id"],
            "extra_dataset_ids": [one["id"] for one in resolved["extra_datasets"]],
            **{role: name_again(session, resolved[role]) for role in MODELS},
            "scoring_run_id": None if scoring_run is None else scoring_run["id"],
            "suite_ids": [suite["id"] for suite in resolved["suites"]],
            "cloned_from": run.id,
        }
    )


def find_datasets(session: Session, body: TrainingBody) -> list[Dataset]:
    """The data set and the extra ones, which nobody deletes before this transaction ends.

    Raises NotFound (the data set), Invalid (an extra one that is not there, or is named twice).
    """
    found = [hold_dataset(session, body.dataset_id)]
    for place, dataset_id in enumerate(body.extra_dataset_ids):
        where = ("body", "extra_dataset_ids", place)
        if dataset_id in (body.dataset_id, *body.extra_dataset_ids[:place]):
            raise Invalid(
                f"The data set {dataset_id} is named twice; name each data set once.",
                errors=[Problem(where, "is named twice")],
            )
        if session.get(Dataset, dataset_id) is None:
            raise Invalid(
                f"There is no data set {dataset_id}; choose one from the list of data sets.",
                errors=[Problem(where, "is no data set")],
            )
        found.append(hold_dataset(session, dataset_id))
    return found


def find_models(session: Session, settings: Settings, body: TrainingBody) -> dict[str, Model | None]:
    """The models by the fields that name them; those that are named by a path are registered.

    Raises Invalid (no such model, or one that does not fit its role), ModelError, Forbidden.
    """
    found: dict[str, Model | None] = {}
    for role, kind in MODELS.items():
        wanted: ModelName | None = getattr(body, role)
        kinds = body.method.declared.starts_from if role == "model" else (kind,)
        found[role] = None if wanted is None else choose(session, settings, wanted, role, *kinds)
    return found


def find_suites(session: Session, settings: Settings, body: TrainingBody) -> list[dict[str, Any]]:
    """What the run keeps of its task suites. Raises as `resolve_suites`."""
    return resolve_suites(session, settings, body.suite_ids)
