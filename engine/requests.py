"""What scoring may be asked for: sources with their rules, models, numbers of the forward pass.

Imports no torch, so that the web process may use it.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from engine.fields import StrictModel, shown
from engine.rules import SegmentationRule
from engine.sources import SourceName
from engine.types import ModelReference


class SourceRequest(StrictModel):
    """One source of token rewards and the rule by which its rewards are cut (METHOD section 3)."""

    name: SourceName
    """What token rewards are read from."""
    rule: SegmentationRule | None = Field(None, json_schema_extra=shown(blank="the source's own defaults"))
    """How its rewards are cut into segments."""


class ScoreRequest(StrictModel):
    """What to score with: models, sources, numbers of the forward pass. The rows travel beside it."""

    policy: ModelReference | None = None
    reference: ModelReference | None = None
    reward_model: ModelReference | None = None
    sources: list[SourceRequest] = Field(min_length=1)
    beta: float = Field(0.1, gt=0)
    """beta of the implicit reward beta * (log policy - log reference)."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the weights; the head and all sums are float32. `auto`: float32 on CPU, bfloat16 on a GPU."""
    token_budget: int = Field(8192, ge=256)
    """Tokens in one forward pass."""
    max_response_tokens: int = Field(16_384, ge=1)
    """A longer response is refused with its row named."""
    append_eos: bool = True
    """Whether the response is scored with its EOS, as training sees it."""
    template_date: date | None = None
    """What a chat template that writes today's date takes for it, so that the same request reads the same
    text on any day. None: the day it is read."""
    chunk_pairs: int = Field(128, ge=1)
    """Pairs a report: rows are sorted by length within a chunk, and a restart goes on after the last one."""
