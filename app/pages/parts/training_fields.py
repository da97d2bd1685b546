"""The fields of a training, in groups: which stand together, in which order, and which methods have them.

What each is called and good for, and what holds where it is blank, is said where the request declares it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from app.pages.parts.form_fields import FieldGroup, FormField, field_of, form_field, words
from app.services.trainings.requests import MODELS, TrainingBody
from engine.fields import declared_fields
from engine.sources import SOURCES
from engine.training.method import Method
from engine.training.methods import METHODS

LISTS = {"causal_lm": "causal-models", "sequence_classifier": "reward-models"}
"""The ids of the lists of suggestions, by the kind of model."""
ALL_LAYERS = "all-linear"
Choices = Sequence[tuple[str, str]]


def names(has: Callable[[Method], object]) -> str:
    """The methods of which something holds, as a field names them."""
    return " ".join(name for name, method in METHODS.items() if has(method))


MASKED = names(lambda method: len(method.densities) > 1)
"""Methods for which the granularity is chosen."""
OFFLINE = names(lambda method: method.masks)
"""Methods that mask the responses of the data."""
REWARDED = names(lambda method: method.takes_rewards)
"""Methods to which token rewards are of use."""


def method_choices(has: Callable[[Method], object] = bool) -> Choices:
    """Names and words of the methods of which something holds."""
    return [(name, f"{method.title}: {method.sentence}") for name, method in METHODS.items() if has(method)]


def source_choices() -> Choices:
    """Names and words of the sources."""
    return [(name, source.title) for name, source in SOURCES.items()]


def fields_of(body: type[BaseModel], *paths: str, **changes: Any) -> tuple[FormField, ...]:
    """The fields of a body at these paths."""
    return tuple(field_of(body, path, **changes) for path in paths)


def model_field(body: type[BaseModel], role: str, **changes: Any) -> FormField:
    """The field that names a model, which suggests those that are registered of its kind."""
    return field_of(body, role, listed=LISTS[MODELS[role]], **changes)


def what_group(datasets: Choices, scoring_runs: Choices) -> FieldGroup:
    """What is trained, on what, and what of it counts."""
    return FieldGroup(
        "What is learned",
        (
            field_of(TrainingBody, "dataset_id", kind="select", choices=datasets),
            FormField("method.name", "Method", "select", choices=tuple(method_choices()), is_required=True),
            model_field(TrainingBody, "model"),
            field_of(TrainingBody, "supervision.density", methods=MASKED),
            field_of(TrainingBody, "scoring_run_id", kind="select", choices=scoring_runs, methods=OFFLINE),
            model_field(TrainingBody, "scorer", methods=REWARDED),
            model_field(TrainingBody, "reward_model", methods=REWARDED),
            model_field(TrainingBody, "reference"),
            field_of(
                TrainingBody, "supervision.source", kind="select", choices=source_choices(), methods=REWARDED
            ),
        ),
        is_open=True,
    )


def length_group() -> FieldGroup:
    """How long and how fast."""
    parts = ("steps", "epochs", "batch_size", "learning_rate", "seed")
    return FieldGroup(
        "How long", fields_of(TrainingBody, *(f"optimisation.{part}" for part in parts)), is_open=True
    )


def name_group(suites: Choices) -> FieldGroup:
    """What it is evaluated on, and its name."""
    return FieldGroup(
        "Evaluation",
        (field_of(TrainingBody, "suite_ids", choices=suites), field_of(TrainingBody, "name")),
        is_open=True,
    )


def method_group() -> FieldGroup:
    """What each method declares."""
    return FieldGroup("Hyperparameters", tuple(_hyperparameters()))


def _hyperparameters() -> Iterator[FormField]:
    for name, method in METHODS.items():
        for field in declared_fields(method.fields, under=f"{name}."):
            if field.path != f"{name}.name":
                yield form_field(field, methods=name)


def optimisation_group(body: type[BaseModel] = TrainingBody) -> FieldGroup:
    """How weights move, beyond length and rate."""
    parts = (
        "schedule",
        "warmup",
        "weight_decay",
        "adam_betas",
        "max_gradient_norm",
        "precision",
        "token_budget",
        "activation_checkpointing",
    )
    return FieldGroup("Optimisation and memory", fields_of(body, *(f"optimisation.{part}" for part in parts)))


def lora_group() -> FieldGroup:
    """Adapters instead of all weights."""
    return FieldGroup(
        "LoRA", fields_of(TrainingBody, "lora", "lora.rank", "lora.alpha", "lora.dropout", "lora.targets")
    )


def data_group(datasets: Choices = ()) -> FieldGroup:
    """Which rows, and how much of each."""
    parts = (
        "held_out",
        "part.start",
        "part.end",
        "max_prompt_tokens",
        "max_response_tokens",
        "template_date",
    )
    extra = (field_of(TrainingBody, "extra_dataset_ids", choices=datasets),) if datasets else ()
    return FieldGroup("Rows", (*fields_of(TrainingBody, *(f"data.{part}" for part in parts)), *extra))


def keeping_group() -> FieldGroup:
    """Checkpoints, and where it runs."""
    return FieldGroup(
        "Checkpoints and machine",
        fields_of(
            TrainingBody,
            "keeping.checkpoint_every",
            "keeping.keep",
            "keeping.evaluate_every",
            "keeping.best_by",
            "machine.device",
            "machine.processes",
            "machine.threads",
        ),
    )


def rule_group() -> FieldGroup:
    """The cut, for who wants another than the granularity's."""
    return FieldGroup(
        "Mask",
        (
            model_field(TrainingBody, "scorer_reference", methods=REWARDED),
            field_of(TrainingBody, "supervision.rule", kind="area", unit="JSON", methods=MASKED),
        ),
    )


def name_layers(body: dict[str, Any]) -> None:
    """Makes a list of the layers that were typed with commas between, in a body that has adapters."""
    adapters = body.get("lora") or {}
    if adapters.get("targets", ALL_LAYERS) != ALL_LAYERS:
        adapters["targets"] = words(adapters["targets"])


OPEN = tuple(group.title for group in (what_group((), ()), length_group(), name_group(())) if group.is_open)
"""Titles of the groups that are never folded."""
