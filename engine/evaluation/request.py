"""What an evaluation may be told, and the figures that come back. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.fields import StrictModel, shown
from engine.types import ModelReference


class EvaluationNumbers(StrictModel):
    """All of an evaluation but data and models."""

    samples: int = Field(4, ge=1, le=256, title="Samples per task")
    """Answers to each task; success is the share that is right."""
    temperature: float = Field(1.0, ge=0, title="Temperature")
    """Divides logits before sampling; 0 takes the likeliest token each time, once a task."""
    top_p: float = Field(1.0, gt=0, le=1, title="Top-p")
    """Nucleus sampling: from the likeliest tokens that have this probability together."""
    seed: int = Field(0, ge=0, title="Seed")
    """The same seed draws the same answers."""
    beta: float = Field(0.1, gt=0, title="Beta")
    """Scale of the implicit reward, whose sign and order the figures use."""
    confidence: float = Field(0.95, gt=0, lt=1, title="Confidence level")
    """Of the intervals around figures."""
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", title="Device")
    """`auto`, `cpu`, `mps`, `cuda` or `cuda:1`."""
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", title="Precision", json_schema_extra=shown(words={"auto": "bfloat16 on a GPU, else float32"})
    )
    """Of the weights; the head and all sums stay float32."""
    token_budget: int = Field(8192, ge=256, title="Token budget")
    """Tokens in one forward pass: less memory, and no other result."""
    max_response_tokens: int = Field(
        16_384, ge=1, title="Max response length", json_schema_extra=shown(unit="tokens")
    )
    """A pair with a longer response is left out."""


class EvaluationRequest(EvaluationNumbers):
    """An evaluation as the engine does it. Rows and tasks travel beside it."""

    model: ModelReference = Field(title="Model")
    """What is evaluated."""
    reference: ModelReference | None = Field(
        None, title="Reference model", json_schema_extra=shown(blank="no such figures")
    )
    """What it is compared with: for KL, implicit reward, and each figure's change."""


class Figure(StrictModel):
    """One number of an evaluation, with what it may be off by."""

    metric: Literal[
        "success",
        "pair_accuracy",
        "implicit_accuracy",
        "held_out_loss",
        "kl",
        "auroc",
        "boundary_f1",
        "forgetting",
    ]
    """success: share of right answers. pair_accuracy: share of pairs whose chosen response is likelier.
    implicit_accuracy: the same by implicit reward. held_out_loss: nats a chosen token. kl: nats a token, from
    reference, on the policy's own samples. auroc, boundary_f1: of finding labelled errors. forgetting: fall
    of success on kept skills against the reference, in points of share; below 0 it got better."""
    part: str = ""
    """Category of the tasks or rows, '' for all."""
    suite: str | None = None
    value: float | None
    low: float | None = None
    high: float | None = None
    """Interval at the request's confidence; over tasks or pairs, not over samples of one."""
    count: int
    """Tasks, pairs or tokens that it is a mean of."""
    reference: float | None = None
    """The same figure of the reference model."""
