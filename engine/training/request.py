"""What a training may be asked: method, mask, models, optimisation. No torch, for the web process too.

Every field has a default that is meant to be right for whoever does not know better; None stands for a value
that is resolved from the data or the model before training begins (see `resolve`) and is stored resolved.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from engine.fields import StrictModel, shown
from engine.rules import SegmentationRule
from engine.sources import SourceName
from engine.training.densities import Density
from engine.training.method import MethodFields, any_of
from engine.training.methods import METHODS
from engine.types import ModelReference

if TYPE_CHECKING:
    AnyMethod = MethodFields
else:
    AnyMethod = any_of(METHODS.values())


# ------------------------------------------------------------------------------- mask, data, optimisation


class Supervision(StrictModel):
    """What of each response counts: where token rewards come from, and how they are cut."""

    density: Density = Field(
        "segment",
        title="Supervision granularity",
        json_schema_extra=shown(
            words={
                "segment": "segment: cut where reward turns",
                "step": "step: cut at punctuation and line breaks",
                "token": "token: each by itself",
                "sample": "sample: the whole response",
            }
        ),
    )
    """How finely a response is supervised: what contradicts the preference is left out of the loss."""
    source: SourceName | None = Field(
        None,
        title="Source of token rewards",
        json_schema_extra=shown(blank="by models or scoring run"),
    )
    """What token rewards are read from."""
    rule: SegmentationRule | None = Field(
        None,
        title="Segmentation rule",
        json_schema_extra=shown(blank="that of granularity, source and method"),
    )
    """How responses are cut into segments; the page of a pair tries rules out."""


class DataPart(StrictModel):
    """Rows whose place in a seeded order of all rows, from 0 to 1, lies in [start, end)."""

    start: float = Field(0.0, ge=0, le=1, title="Part of the rows, from")
    """Where the part begins in a seeded order of all rows, from 0 to 1."""
    end: float = Field(1.0, ge=0, le=1, title="Part of the rows, to")
    """Where the part ends."""

    @model_validator(mode="after")
    def _holds_something(self) -> DataPart:
        if self.end <= self.start:
            raise ValueError("A part of the data ends after it starts.")
        return self


class Data(StrictModel):
    """Which rows, and how much of each."""

    part: DataPart = Field(DataPart(), title="Part of the rows")
    """The share of the rows that is used at all."""
    held_out: float = Field(0.05, ge=0, le=0.5, title="Held-out share")
    """Share of the rows that is never trained on: for held-out loss and accuracy."""
    max_prompt_tokens: int | None = Field(
        None,
        ge=1,
        title="Max prompt length",
        json_schema_extra=shown(unit="tokens", blank="what the context leaves"),
    )
    """A longer prompt loses its left end."""
    max_response_tokens: int = Field(
        4096, ge=1, title="Max response length", json_schema_extra=shown(unit="tokens")
    )
    """A pair with a longer response is left out, and the log says how many were."""
    template_date: date | None = Field(
        None, title="Date in the chat template", json_schema_extra=shown(blank="the day it is submitted")
    )
    """What a chat template that writes today's date takes for it."""


class Optimisation(StrictModel):
    """How weights move."""

    steps: int | None = Field(
        None, ge=1, title="Steps", json_schema_extra=shown(blank="as many as the epochs make")
    )
    """Updates of the weights."""
    epochs: float | None = Field(
        None, gt=0, title="Epochs", json_schema_extra=shown(blank="1, where steps are blank too")
    )
    """How often every row is trained on, instead of steps."""
    batch_size: int = Field(16, ge=1, title="Batch size")
    """Pairs, responses or prompts an update, over all processes."""
    learning_rate: float | None = Field(
        None, gt=0, title="Learning rate", json_schema_extra=shown(blank="by method and model size")
    )
    """Peak of the schedule."""
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine",
        title="LR schedule",
        json_schema_extra=shown(
            words={"cosine": "cosine, down to zero", "linear": "linear, down to zero", "constant": "constant"}
        ),
    )
    """How the learning rate falls after the warm-up."""
    warmup: float = Field(0.05, ge=0, le=1, title="Warmup ratio")
    """Share of the steps in which the learning rate rises from zero."""
    weight_decay: float = Field(0.0, ge=0, title="Weight decay")
    """Of AdamW."""
    adam_betas: tuple[float, float] = Field((0.9, 0.98), title="Adam betas")
    """Decay of AdamW's two moments, as in [0.9, 0.98]."""
    max_gradient_norm: float = Field(1.0, gt=0, title="Max grad norm")
    """A longer gradient is scaled down to it."""
    seed: int = Field(0, ge=0, title="Seed")
    """Of the order of the rows, of dropout and of sampling."""
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", title="Precision", json_schema_extra=shown(words={"auto": "bfloat16 on a GPU, else float32"})
    )
    """Of matrix products; weights, head and sums stay float32."""
    token_budget: int = Field(8192, ge=256, title="Token budget")
    """Tokens in one forward and backward pass: splits a batch to save memory, and changes no result."""
    activation_checkpointing: bool = Field(False, title="Activation checkpointing")
    """Less memory, a third more time."""

    @model_validator(mode="after")
    def _one_length(self) -> Optimisation:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("Give steps or epochs, not both.")
        return self


class Lora(StrictModel):
    """Low-rank adapters (arXiv 2106.09685) instead of all weights; without them it is the reference."""

    rank: int = Field(16, ge=1, title="LoRA rank")
    """Width of the adapters."""
    alpha: float = Field(32.0, gt=0, title="LoRA alpha")
    """The adapters' output is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1, title="LoRA dropout")
    """Share of the adapters' inputs that is dropped."""
    targets: Literal["all-linear"] | list[str] = Field("all-linear", title="Target modules")
    """`all-linear`, or the names of the layers that get adapters."""


class Keeping(StrictModel):
    """Checkpoints, and evaluations while it trains."""

    checkpoint_every: int | None = Field(
        None, ge=1, title="Save interval", json_schema_extra=shown(unit="steps", blank="about ten in a run")
    )
    """Between two checkpoints."""
    keep: int = Field(2, ge=1, title="Checkpoints kept")
    """The latest ones; the best one stays too."""
    best_by: str | None = Field(
        None, title="Best checkpoint by", json_schema_extra=shown(blank="the method's own metric")
    )
    """A held-out metric, such as `held_out/accuracy`."""
    evaluate_every: int | None = Field(
        None, ge=1, title="Eval interval", json_schema_extra=shown(unit="steps", blank="about ten in a run")
    )
    """Between two evaluations on held-out rows and task suites."""


class Machine(StrictModel):
    """Where it runs."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", title="Device")
    """`auto`, `cpu`, `mps`, `cuda` or `cuda:1`."""
    processes: int = Field(1, ge=1, le=64, title="Processes")
    """One a GPU of one machine; for several machines start the command line under torchrun."""
    threads: int | None = Field(
        None, ge=1, title="CPU threads", json_schema_extra=shown(blank="1 below 20M parameters, else all")
    )
    """Of each process on a CPU. Part of the result: another number rounds otherwise."""


class TrainingNumbers(StrictModel):
    """All of a training but the data and the models."""

    method: AnyMethod = Field(title="Method")
    """How it learns, with the method's own hyperparameters."""
    supervision: Supervision = Field(Supervision(density="sample"), title="Supervision")
    """What of each response counts."""
    data: Data = Field(Data(), title="Rows")
    """Which rows are trained on, and how much of each."""
    optimisation: Optimisation = Field(Optimisation(), title="Optimisation")
    """How weights move, and for how long."""
    lora: Lora | None = Field(None, title="Train LoRA adapters", json_schema_extra=shown(blank="all weights"))
    """Adapters instead of all weights: far less memory, and the model without them is the reference."""
    keeping: Keeping = Field(Keeping(), title="Checkpoints and evaluation")
    """When checkpoints are written and the model is evaluated."""
    machine: Machine = Field(Machine(), title="Machine")
    """Where it runs."""


class TrainingRequest(TrainingNumbers):
    """A training as the engine does it. Rows, stored rewards and the run's folder travel beside it."""

    model: ModelReference = Field(title="Model")
    """What is trained; a reward model begins as a causal LM, whose body it takes, or as a classifier."""
    reference: ModelReference | None = Field(
        None, title="Reference model", json_schema_extra=shown(blank="the model as it was before training")
    )
    """Frozen, for log-ratios and KL."""
    scorer: ModelReference | None = Field(None, title="Scorer", json_schema_extra=shown(blank="none"))
    """Frozen policy whose implicit reward decides which tokens count; never the trained model itself."""
    scorer_reference: ModelReference | None = Field(
        None, title="Reference of the scorer", json_schema_extra=shown(blank="the reference model")
    )
    """What the scorer was trained from."""
    reward_model: ModelReference | None = Field(
        None, title="Reward model", json_schema_extra=shown(blank="none")
    )
    """Frozen sequence classifier: rewards responses that are sampled, and their tokens."""
