"""Scoring a data set: what may be asked, what is stored while it runs, and the cut over the whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from rewardscope.app.db.models import Run
from rewardscope.app.settings import Settings
from rewardscope.engine.types import SegmentationRule, SourceName, SourceRequest

ModelName = int | str
"""A registered model's id or name, or a path or hub name, which is registered on the way."""


class ScoringNumbers(BaseModel):
    """What a scoring may be told beside models and sources; the defaults are the engine's."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    policy: ModelName | None = None
    reference: ModelName | None = None
    reward_model: ModelName | None = None
    sources: list[SourceName | SourceRequest] | None = Field(None, min_length=1)
    """None: every source that the given models and the data allow."""
    beta: float = Field(0.1, gt=0)
    """beta of the implicit reward beta * (log policy - log reference)."""
    device: str = "auto"
    """`auto`: as the worker's settings say."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    token_budget: int = Field(8192, ge=256)
    """Tokens in one forward pass."""
    max_response_tokens: int = Field(16_384, ge=1)
    append_eos: bool = True


class ScoringRequest(ScoringNumbers):
    """The body of `POST /api/v1/scorings`."""

    dataset_id: int
    name: str | None = Field(None, min_length=1, max_length=200)
    """None: made of the data set's name and the sources."""
    chunk_pairs: int = Field(128, ge=1, le=10_000)


def submit(session: Session, settings: Settings, request: ScoringRequest) -> Run:
    """A queued run. Everything that can be wrong with the request is said now: NotFound (data set), Invalid
    (a source without its model or data), ModelError, Forbidden, StorageFull."""
    raise NotImplementedError


def prepare(session: Session, run: Run, scratch: Path) -> dict[str, Any]:
    """The request of the job's process; writes the rows to score into `scratch`."""
    raise NotImplementedError


def store(session: Session, run: Run, attempt: int, chunk: Any) -> None:
    """Stores a chunk of reward maps, with provisional segments and pair scores, and moves `resume_from`."""
    raise NotImplementedError


def finish(session: Session, run: Run, result: dict[str, Any]) -> dict[str, Any]:
    """Cuts the whole run with its final statistics and returns what the run keeps as its result. May be repeated
    by another worker."""
    raise NotImplementedError


def recut(session: Session, run_id: int, source: str, rule: SegmentationRule) -> None:
    """Writes segments and pair scores of the run again by another rule. Raises NotFound (run, source), Conflict
    while the run is still scored."""
    raise NotImplementedError
