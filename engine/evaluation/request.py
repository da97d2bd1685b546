"""What an evaluation may be told, and the figures that come back. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.fields import StrictModel
from engine.types import ModelReference


class EvaluationNumbers(StrictModel):
    """All of an evaluation but data and models."""

    samples: int = Field(4, ge=1, le=256)
    """Answers to each task; success is the share that is right."""
    temperature: float = Field(1.0, ge=0)
    """0: the likeliest token each time, once a task."""
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0)
    beta: float = Field(0.1, gt=0)
    """Of the implicit reward, whose sign and order the figures use."""
    confidence: float = Field(0.95, gt=0, lt=1)
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    token_budget: int = Field(8192, ge=256)
    max_response_tokens: int = Field(16_384, ge=1)


class EvaluationRequest(EvaluationNumbers):
    """An evaluation as the engine does it. Rows and tasks travel beside it."""

    model: ModelReference
    reference: ModelReference | None = None
    """What it is compared with: KL, implicit reward, and each figure's change. None: no such figures."""


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
